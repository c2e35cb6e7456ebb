//! Start calls under way on one engine: how many at a time, and what becomes of those that nobody waits for any more.
//!
//! Each call has the engine fetch a transport file and join a swarm; a herd of them has been seen to hang it, so there
//! are [`MOST`] places. A call whose caller has left keeps its place, because the engine still works on it: it waits for
//! its late answer, so that what that opens can be stopped. But it holds nobody up: a new start of the same channel
//! takes the call over, and a start that somebody waits for closes the oldest abandoned call when it finds no place.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::start::StartBy;

/// Calls under way at a time, abandoned ones included. Engines fall over when many are started at once.
pub const MOST: usize = 8;

/// The calls under way, each of which will bring a `T` or nothing.
#[derive(Debug)]
pub(crate) struct Calls<T> {
    book: Mutex<Book<T>>,
    /// A place is free, or a call is abandoned.
    changed: Notify,
}

#[derive(Debug)]
struct Book<T> {
    /// By number, so the oldest first.
    open: BTreeMap<u64, Call<T>>,
    last: u64,
}

#[derive(Debug)]
struct Call<T> {
    by: StartBy,
    /// Closed when nobody waits for the answer.
    answer: oneshot::Sender<T>,
    closed: CancellationToken,
}

/// A call's place, for the task that makes the call. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place<T> {
    calls: Arc<Calls<T>>,
    number: u64,
    closed: CancellationToken,
}

/// The caller's end. A call whose caller has dropped it is abandoned.
#[derive(Debug)]
pub(crate) struct Caller<T> {
    calls: Arc<Calls<T>>,
    /// Taken by `Drop`.
    answer: Option<oneshot::Receiver<T>>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        let book = Book { open: BTreeMap::new(), last: 0 };
        Self { book: Mutex::new(book), changed: Notify::new() }
    }
}

impl<T> Calls<T> {
    /// The abandoned call of the same channel, if there is one: what it brings is the new caller's.
    pub(crate) fn take_over(self: &Arc<Self>, by: StartBy) -> Option<Caller<T>> {
        let mut book = self.book.lock();
        let call = book.open.values_mut().find(|call| call.by == by && call.is_abandoned())?;
        let (sender, answer) = oneshot::channel();
        call.answer = sender;
        Some(Caller { calls: Arc::clone(self), answer: Some(answer) })
    }

    /// A place for a new call, as soon as there is one.
    pub(crate) async fn place(self: &Arc<Self>, by: StartBy) -> (Place<T>, Caller<T>) {
        loop {
            let changed = self.changed.notified();
            if let Some(taken) = self.try_place(by) {
                return taken;
            }
            changed.await;
        }
    }

    fn try_place(self: &Arc<Self>, by: StartBy) -> Option<(Place<T>, Caller<T>)> {
        let mut book = self.book.lock();
        if book.open.len() >= MOST {
            book.close_oldest_abandoned()?;
        }
        book.last += 1;
        let (number, closed) = (book.last, CancellationToken::new());
        let (sender, answer) = oneshot::channel();
        book.open.insert(number, Call { by, answer: sender, closed: closed.clone() });
        let caller = Caller { calls: Arc::clone(self), answer: Some(answer) };
        Some((Place { calls: Arc::clone(self), number, closed }, caller))
    }

    /// Calls under way, and those of them that nobody waits for.
    pub(crate) fn count(&self) -> (usize, usize) {
        let book = self.book.lock();
        (book.open.len(), book.open.values().filter(|call| call.is_abandoned()).count())
    }
}

impl<T> Book<T> {
    fn close_oldest_abandoned(&mut self) -> Option<()> {
        let number = self.open.iter().find(|(_, call)| call.is_abandoned()).map(|(number, _)| *number)?;
        let call = self.open.remove(&number)?;
        call.closed.cancel();
        Some(())
    }
}

impl<T> Call<T> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

impl<T> Place<T> {
    /// Returns when the call is to end, because somebody else needs the place.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether somebody waits for the answer.
    pub(crate) fn is_wanted(&self) -> bool {
        self.calls.book.lock().open.get(&self.number).is_some_and(|call| !call.is_abandoned())
    }

    /// Hands the answer over. When nobody takes it, it is dropped.
    pub(crate) fn answer(self, answer: T) {
        let call = self.calls.book.lock().open.remove(&self.number);
        // Outside of the lock: what is dropped here may begin another call.
        drop(call.map(|call| call.answer.send(answer)));
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        let call = self.calls.book.lock().open.remove(&self.number);
        drop(call);
        self.calls.changed.notify_waiters();
    }
}

impl<T> Caller<T> {
    /// The answer; `None` when the call was ended without one. Cancel safe.
    pub(crate) async fn answered(&mut self) -> Option<T> {
        let answer = self.answer.as_mut()?.await;
        self.answer = None;
        answer.ok()
    }
}

impl<T> Drop for Caller<T> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            drop(answer);
            self.calls.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use std::pin::pin;

    use super::*;

    fn by(digit: u8) -> StartBy {
        StartBy::Infohash(format!("{digit:040x}").parse().expect("40 hex digits"))
    }

    #[tokio::test]
    async fn who_needs_a_place_closes_the_oldest_abandoned_call() {
        let calls: Arc<Calls<u8>> = Arc::default();
        let mut held = Vec::new();
        for digit in 0..8 {
            held.push(calls.place(by(digit)).await);
        }
        let mut ninth = pin!(calls.place(by(9)));
        assert!(poll!(ninth.as_mut()).is_pending(), "all are waited for");
        let (sixth, caller) = held.remove(5);
        drop(caller);
        let (third, caller) = held.remove(2);
        drop(caller);
        let _ninth = ninth.await;
        third.closed().await;
        assert!(!sixth.closed.is_cancelled(), "the newer one goes on");
        assert_eq!(calls.count(), (8, 1));
    }

    #[tokio::test]
    async fn an_abandoned_call_is_taken_over_by_a_start_of_the_same_channel_only() {
        let calls: Arc<Calls<u8>> = Arc::default();
        let (place, caller) = calls.place(by(1)).await;
        assert!(calls.take_over(by(1)).is_none(), "somebody waits for it");
        drop(caller);
        assert!(!place.is_wanted());
        assert!(calls.take_over(by(2)).is_none());
        let mut second = calls.take_over(by(1)).expect("it is abandoned");
        assert!(place.is_wanted());
        place.answer(7);
        assert_eq!(second.answered().await, Some(7));
        assert_eq!(calls.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_call_that_ends_without_an_answer_says_so_and_frees_its_place() {
        let calls: Arc<Calls<u8>> = Arc::default();
        let (place, mut caller) = calls.place(by(1)).await;
        drop(place);
        assert_eq!(caller.answered().await, None);
        assert_eq!(calls.count(), (0, 0));
    }
}
