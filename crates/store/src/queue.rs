//! What waits for the thread. Whoever puts something in never waits: every lane is bounded, a full one loses its
//! oldest and counts it.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::events::{Event, NewEvent};
use crate::playbacks::{Entry, NewPlayback, PlaybackRow};
use crate::store::{StoreError, StoreHealth, StoreState};
use crate::worker::Worker;

/// Events that wait: at about 1 KiB each a megabyte, and more than an outage of a full disk needs to be understood.
const MOST_EVENTS: usize = 1_000;

/// Entries of engine and stream history and remembered ids that wait.
const MOST_HISTORY: usize = 1_000;

/// Journal entries that wait: more than the playbacks a large fleet opens and closes in minutes of a stuck disk.
const MOST_PLAYBACKS: usize = 4_096;

/// Questions that wait. Each gives up after seconds, so more than this many would get no answer in time anyway.
const MOST_QUESTIONS: usize = 256;

/// A change of the history. It may be tried more than once.
pub(crate) type Note = Box<dyn Fn(&Connection) -> rusqlite::Result<()> + Send>;

/// Something that somebody awaits; it carries the way back.
pub(crate) type Question = Box<dyn FnOnce(&mut Worker) + Send>;

/// A queue that forgets its oldest item rather than grow.
pub(crate) struct Lane<T> {
    items: VecDeque<T>,
    most: usize,
}

/// Writes that nobody awaits. Lanes share no tables, so only the order inside each matters.
pub(crate) struct Backlog {
    pub(crate) events: Lane<Event>,
    pub(crate) history: Lane<Note>,
    pub(crate) playbacks: Lane<Entry>,
}

/// All that came in since the last look.
pub(crate) struct Batch {
    pub(crate) backlog: Backlog,
    pub(crate) questions: VecDeque<Question>,
    pub(crate) is_last: bool,
}

/// The last numbers that were given out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) event: i64,
    pub(crate) playback: i64,
}

/// Between the callers and the thread.
pub(crate) struct Queue {
    state: Mutex<State>,
    something: Condvar,
}

struct State {
    phase: Phase,
    backlog: Backlog,
    questions: VecDeque<Question>,
    numbers: Numbers,
    /// What the thread holds and could not write.
    unsaved: usize,
    dropped: u64,
    trouble: Option<(Timestamp, StoreError)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Ended,
}

impl<T> Lane<T> {
    fn new(most: usize) -> Self {
        Self { items: VecDeque::new(), most }
    }

    /// How many older items were lost for it.
    pub(crate) fn push(&mut self, item: T) -> u64 {
        let is_full = self.items.len() >= self.most;
        if is_full {
            self.items.pop_front();
        }
        self.items.push_back(item);
        u64::from(is_full)
    }

    fn absorb(&mut self, later: Self) -> u64 {
        later.items.into_iter().map(|item| self.push(item)).sum()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }
}

impl Lane<Event> {
    /// A full lane loses what strangers have caused first, be it the event that comes. How many were lost for it.
    fn enter(&mut self, event: Event) -> u64 {
        if self.items.len() < self.most {
            return self.push(event);
        }
        match self.items.iter().position(Event::is_of_strangers) {
            Some(victim) => drop(self.items.remove(victim)),
            None if event.is_of_strangers() => return 1,
            None => return self.push(event),
        }
        self.push(event) + 1
    }
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self {
            events: Lane::new(MOST_EVENTS),
            history: Lane::new(MOST_HISTORY),
            playbacks: Lane::new(MOST_PLAYBACKS),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.items.len() + self.history.items.len() + self.playbacks.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what came later; how many items were lost.
    pub(crate) fn absorb(&mut self, later: Self) -> u64 {
        later.events.items.into_iter().map(|event| self.events.enter(event)).sum::<u64>()
            + self.history.absorb(later.history)
            + later.playbacks.items.into_iter().map(|entry| self.enter(entry)).sum::<u64>()
    }

    /// A playback that closes before its opening was written needs no entry at all: so the journal that waits is
    /// bounded by what is open, however long the disk is stuck.
    fn enter(&mut self, entry: Entry) -> u64 {
        if let Entry::Closed(row) = entry {
            let waiting = self.playbacks.items.len();
            self.playbacks.retain(|other| !other.opens(row));
            if self.playbacks.items.len() < waiting {
                return 0;
            }
        }
        self.playbacks.push(entry)
    }
}

impl Queue {
    pub(crate) fn new(numbers: Numbers) -> Self {
        let state = State {
            phase: Phase::Open,
            backlog: Backlog::new(),
            questions: VecDeque::new(),
            numbers,
            unsaved: 0,
            dropped: 0,
            trouble: None,
        };
        Self { state: Mutex::new(state), something: Condvar::new() }
    }

    /// Numbered under the lock, so that a later number is always written later.
    pub(crate) fn record(&self, event: NewEvent) {
        self.put(|state| {
            state.numbers.event = state.numbers.event.saturating_add(1);
            let event = event.numbered(state.numbers.event);
            state.backlog.events.enter(event)
        });
    }

    pub(crate) fn note(&self, note: Note) {
        self.put(|state| state.backlog.history.push(note));
    }

    pub(crate) fn opened(&self, playback: NewPlayback) -> PlaybackRow {
        let mut row = PlaybackRow::NONE;
        self.put(|state| {
            state.numbers.playback = state.numbers.playback.saturating_add(1);
            row = PlaybackRow(state.numbers.playback);
            state.backlog.enter(Entry::Opened(row, playback))
        });
        row
    }

    pub(crate) fn closed(&self, row: PlaybackRow) {
        self.put(|state| state.backlog.enter(Entry::Closed(row)));
    }

    pub(crate) fn ask(&self, question: Question) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Err(StoreError::Unavailable { reason: "it is closed".to_owned() });
        }
        if state.questions.len() >= MOST_QUESTIONS {
            return Err(StoreError::Busy);
        }
        state.questions.push_back(question);
        drop(state);
        self.something.notify_one();
        Ok(())
    }

    /// No more is taken; what waits is still done.
    pub(crate) fn shut(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.something.notify_one();
    }

    /// The thread's wait: until something comes, or for `patience`.
    pub(crate) fn take(&self, patience: Duration) -> Batch {
        let mut state = self.state.lock();
        if state.is_idle() {
            self.something.wait_for(&mut state, patience);
        }
        Batch {
            backlog: mem::replace(&mut state.backlog, Backlog::new()),
            questions: mem::take(&mut state.questions),
            is_last: state.phase != Phase::Open,
        }
    }

    /// The thread tells how it is.
    pub(crate) fn report(&self, trouble: Option<(Timestamp, StoreError)>, unsaved: usize, lost: u64) {
        let mut state = self.state.lock();
        state.trouble = trouble;
        state.unsaved = unsaved;
        state.dropped += lost;
    }

    /// The thread is gone, however that happened: whoever still waits is told by the end of their channel.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Ended;
        let backlog = mem::replace(&mut state.backlog, Backlog::new());
        state.dropped += u64::try_from(backlog.len()).unwrap_or(u64::MAX);
        let questions = mem::take(&mut state.questions);
        drop(state);
        drop(questions);
    }

    pub(crate) fn health(&self) -> StoreHealth {
        let state = self.state.lock();
        let condition = match (&state.phase, &state.trouble) {
            (Phase::Ended, _) => StoreState::Closed,
            (_, Some((since, error))) => StoreState::Failing { since: *since, reason: error.clone() },
            _ => StoreState::Ok,
        };
        StoreHealth { state: condition, unsaved: state.unsaved + state.backlog.len(), dropped: state.dropped }
    }

    fn put(&self, into: impl FnOnce(&mut State) -> u64) {
        let mut state = self.state.lock();
        if state.phase == Phase::Open {
            let lost = into(&mut state);
            state.dropped += lost;
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.something.notify_one();
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.backlog.is_empty() && self.questions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{AUDIT, EventKind};

    fn playback() -> NewPlayback {
        NewPlayback {
            engine: "engine".to_owned(),
            endpoint: "127.0.0.1:6878".to_owned(),
            infohash: "0".repeat(40),
            command: None,
            opened_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_full_lane_loses_its_oldest() {
        let mut lane = Lane::new(2);
        assert_eq!([lane.push(1), lane.push(2), lane.push(3)], [0, 0, 1]);
        assert_eq!(lane.iter().copied().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn while_the_disk_is_stuck_strangers_push_out_nothing_but_their_own() {
        let queue = Queue::new(Numbers::default());
        let event = |share: Option<&str>| {
            let mut event = NewEvent::new(Timestamp::UNIX_EPOCH, EventKind::Stream, "failed", "a dead id");
            event.share = share.map(str::to_owned);
            event
        };
        let audit = NewEvent { category: AUDIT.to_owned(), ..event(Some("POST /scale")) };
        queue.record(audit.clone());
        (1..500).for_each(|_| queue.record(event(None)));
        (0..2_000).for_each(|_| queue.record(event(Some("a flood"))));
        let ours = |lane: &Lane<Event>| lane.iter().filter(|event| !event.is_of_strangers()).count();
        let held = queue.take(Duration::ZERO).backlog;
        assert_eq!((ours(&held.events), held.len()), (500, MOST_EVENTS));
        assert_eq!(queue.health().dropped, 1_500);
        (0..MOST_EVENTS).for_each(|_| queue.record(audit.clone()));
        queue.record(event(Some("a flood")));
        assert_eq!(ours(&queue.take(Duration::ZERO).backlog.events), MOST_EVENTS, "and it is lost itself");
    }

    #[test]
    fn a_playback_closed_before_it_was_written_leaves_nothing() {
        let queue = Queue::new(Numbers::default());
        let (first, second) = (queue.opened(playback()), queue.opened(playback()));
        queue.closed(first);
        let mut held = queue.take(Duration::ZERO).backlog;
        assert_eq!(held.len(), 1);
        queue.closed(second);
        assert_eq!(held.absorb(queue.take(Duration::ZERO).backlog), 0);
        assert!(held.is_empty());
    }

    #[test]
    fn more_questions_than_can_be_answered_are_refused() {
        let queue = Queue::new(Numbers::default());
        for _ in 0..MOST_QUESTIONS {
            queue.ask(Box::new(|_| {})).unwrap();
        }
        assert_eq!(queue.ask(Box::new(|_| {})), Err(StoreError::Busy));
    }

    #[test]
    fn what_comes_after_the_end_is_counted_as_lost() {
        let queue = Queue::new(Numbers::default());
        queue.opened(playback());
        queue.end();
        assert_eq!(queue.opened(playback()), PlaybackRow::NONE);
        assert_eq!(queue.health(), StoreHealth { state: StoreState::Closed, unsaved: 0, dropped: 2 });
    }
}
