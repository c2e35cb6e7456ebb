//! Turns: readers are woken a few at a time, so that nothing else waits behind all of them.
//!
//! The runtime runs what is ready in the order in which it became so. A round that wakes a thousand viewers at once keeps the
//! request for a page, a new connection or the next source waiting until the last of them was served: some 15 ms a core.
//! So a round's readers are called in turns; the next turn comes when the runtime has run the last one and has looked
//! for what else is ready ([`yield_now`]). Nobody is served later for it: the work is the same, in the same order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

/// Readers of one turn for each thread that serves them: some 0.5 ms of work.
const AT_ONCE: usize = 32;

/// The process's turns.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    called: Notify,
    at_once: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Rings whose readers take turns.
    rings: usize,
    /// Whether somebody gives the turns. Nobody waits for one otherwise.
    is_led: bool,
    /// How many more this turn has room for.
    room: usize,
    waiting: VecDeque<Waker>,
}

/// A ring's part in the turns. They are given as long as there is one.
#[derive(Debug)]
pub(crate) struct Part(Arc<Turns>);

/// Whoever gives the turns. When it is dropped before the last ring has gone it calls all who wait.
struct Leader {
    turns: Arc<Turns>,
    has_ended: bool,
}

impl Turns {
    /// Of so many readers. Until they are led everybody's turn is at once.
    pub(crate) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), called: Notify::new(), at_once })
    }

    /// As many at a time as suit the runtime that this is called in.
    pub(crate) fn of_this_runtime() -> Arc<Self> {
        let threads = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self::new(AT_ONCE * threads)
    }

    /// Has the readers of one more ring take part.
    pub(crate) fn part(self: &Arc<Self>) -> Part {
        self.state.lock().rings += 1;
        Part(Arc::clone(self))
    }

    /// Wakes them all, each when its turn comes.
    fn call(&self, readers: &mut Vec<Waker>) {
        let at_once = {
            let mut state = self.state.lock();
            let at_once = if state.is_led { state.room.min(readers.len()) } else { readers.len() };
            if state.is_led {
                state.room -= at_once;
                state.waiting.extend(readers.drain(at_once..));
                self.called.notify_one();
            }
            at_once
        };
        // Outside the lock: a woken reader may be run at once, by another thread.
        debug_assert_eq!(readers.len(), at_once);
        readers.drain(..).for_each(Waker::wake);
    }

    /// Begins to give turns, until the last ring has gone or the stop comes; nothing when somebody does already.
    pub(crate) fn lead(
        self: &Arc<Self>,
        stop: CancellationToken,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let leader = Leader::of(self)?;
        Some(async move {
            stop.run_until_cancelled(leader.lead()).await;
        })
    }

    /// Whether there is anybody to give turns to. If not, whoever comes next finds nobody who gives them.
    fn is_needed(&self) -> bool {
        let mut state = self.state.lock();
        state.is_led = state.rings > 0 || !state.waiting.is_empty();
        state.is_led
    }

    /// The next turn; whether anybody had it.
    fn next(&self, readers: &mut Vec<Waker>) -> bool {
        {
            let mut state = self.state.lock();
            let many = self.at_once.min(state.waiting.len());
            readers.extend(state.waiting.drain(..many));
            state.room = self.at_once - many;
        }
        let anybody = !readers.is_empty();
        readers.drain(..).for_each(Waker::wake);
        anybody
    }
}

impl Part {
    /// Wakes these readers, each when its turn comes.
    pub(crate) fn call(&self, readers: &mut Vec<Waker>) {
        self.0.call(readers);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.state.lock().rings -= 1;
        self.0.called.notify_one();
    }
}

impl Leader {
    fn of(turns: &Arc<Turns>) -> Option<Self> {
        let mut state = turns.state.lock();
        let is_led = std::mem::replace(&mut state.is_led, true);
        if is_led {
            return None;
        }
        state.room = turns.at_once;
        Some(Self { turns: Arc::clone(turns), has_ended: false })
    }

    async fn lead(mut self) {
        let turns = Arc::clone(&self.turns);
        let mut readers = Vec::with_capacity(turns.at_once);
        while turns.is_needed() {
            turns.called.notified().await;
            // Also after the last turn: only then is there room for another.
            loop {
                yield_now().await;
                if !turns.next(&mut readers) {
                    break;
                }
            }
        }
        // Somebody else may give the turns by now.
        self.has_ended = true;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let waiting = {
            let mut state = self.turns.state.lock();
            state.is_led = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::task::JoinSet;

    use super::*;

    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Calls {
        fn readers(self: &Arc<Self>, many: usize) -> Vec<Waker> {
            (0..many).map(|_| Waker::from(Arc::clone(self))).collect()
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn led(turns: &Arc<Turns>, stop: &CancellationToken) -> JoinSet<()> {
        let mut leading = JoinSet::new();
        leading.spawn(turns.lead(stop.clone()).expect("nobody leads yet"));
        leading
    }

    #[tokio::test]
    async fn readers_of_all_streams_are_woken_a_few_at_a_time_and_others_run_in_between() {
        let (turns, calls, stop) = (Turns::new(10), Arc::<Calls>::default(), CancellationToken::new());
        let _ring = turns.part();
        let mut leading = led(&turns, &stop);
        let mut between = Vec::new();
        for _ in 0..5 {
            turns.call(&mut calls.readers(7));
        }
        assert_eq!(calls.count(), 10, "those of the first turn at once");
        while calls.count() < 35 {
            between.push(calls.count());
            yield_now().await;
        }
        between.dedup();
        assert_eq!(between, [10, 20, 30], "whoever is ready runs between two turns");
        yield_now().await;
        turns.call(&mut calls.readers(12));
        assert_eq!(calls.count(), 45, "there is room again");
        stop.cancel();
        leading.join_next().await.unwrap().unwrap();
        assert_eq!(calls.count(), 47, "nobody waits for who gives no turns any more");
        turns.call(&mut calls.readers(100));
        assert_eq!(calls.count(), 147);
        assert!(turns.lead(stop).is_some(), "somebody else may");
    }

    #[tokio::test]
    async fn there_is_one_leader_and_who_breaks_off_leaves_nobody_waiting() {
        let (turns, calls, stop) = (Turns::new(2), Arc::<Calls>::default(), CancellationToken::new());
        let _ring = turns.part();
        let mut leading = led(&turns, &stop);
        assert!(turns.lead(stop.clone()).is_none());
        turns.call(&mut calls.readers(9));
        assert_eq!(calls.count(), 2);
        leading.shutdown().await;
        assert_eq!(calls.count(), 9);
    }

    #[tokio::test]
    async fn they_are_given_until_the_last_ring_has_gone_and_begin_again_with_the_next() {
        let (turns, calls, stop) = (Turns::new(2), Arc::<Calls>::default(), CancellationToken::new());
        for round in 1..=3 {
            let (first, second) = (turns.part(), turns.part());
            let mut leading = led(&turns, &stop);
            first.call(&mut calls.readers(9));
            drop(first);
            yield_now().await;
            assert!(leading.try_join_next().is_none(), "one ring is left");
            drop(second);
            leading.join_next().await.unwrap().unwrap();
            assert_eq!(calls.count(), 9 * round, "whoever waited was called");
        }
    }
}
