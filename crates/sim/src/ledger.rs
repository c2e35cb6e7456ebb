//! The engine's own book: every start, every session that was opened, how it ended and what was read. It is the
//! oracle against which a proxy's claims are checked, so it is written by the engine alone and says nothing about
//! intentions.
//!
//! Several engines may write into one ledger; each record names its engine.

mod starts;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

pub use self::starts::{StartRecord, StartsInFlight};
use crate::swarm;

/// Ended sessions remembered in full; older ones remain in the counts.
const REMEMBERED: usize = 10_000;

/// The book of one or several engines. Clones are the same book.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    sessions: VecDeque<SessionRecord>,
    next_id: u64,
    counts: Counts,
    starts: starts::Starts,
}

/// Everything in the ledger at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LedgerSnapshot {
    /// Sessions by opening time: all that are open and the last ten thousand that ended.
    pub sessions: Vec<SessionRecord>,
    /// The sums.
    pub counts: Counts,
    /// Start requests by arrival: all in flight and the last ten thousand that were answered.
    pub starts: Vec<StartRecord>,
    /// Starts in flight by engine.
    pub starts_in_flight: BTreeMap<String, StartsInFlight>,
}

/// What happened, counted since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sessions open now.
    pub open: u64,
    /// Most sessions open at once.
    pub peak: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions ended.
    pub closed: u64,
    /// Requests to start something, whatever became of them.
    pub starts: u64,
    /// Of these, HEAD requests.
    pub heads: u64,
    /// Stop commands, for known sessions or not.
    pub stops: u64,
    /// Stat requests, for known sessions or not.
    pub stat_polls: u64,
    /// Look-ups (`get_media_files`).
    pub lookups: u64,
    /// Version, status and network requests.
    pub health_checks: u64,
    /// Readers turned away with a corrupt reply because the URL was being read already.
    pub second_readers: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Bytes of media written.
    pub bytes_read: u64,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionRecord {
    /// Number in this ledger.
    pub id: u64,
    /// Which engine opened it.
    pub engine: String,
    /// How it was asked for.
    pub form: IdForm,
    /// The value that was asked for, as written.
    pub requested: String,
    /// What it plays.
    pub infohash: String,
    /// The player id that was given.
    pub pid: Option<String>,
    /// The token of its URLs.
    pub token: String,
    /// As reported to the client.
    pub playback_session_id: String,
    /// Swarm time when it opened, milliseconds.
    pub opened_ms: u64,
    /// How and when it ended; `None` while it is open.
    pub closed: Option<Closed>,
    /// Readers admitted to its media.
    pub readers: u64,
    /// Media bytes written to them.
    pub bytes_read: u64,
    /// Stat requests.
    pub stat_polls: u64,
}

/// The parameter that named the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IdForm {
    /// `id=` or `content_id=`.
    ContentId,
    /// `infohash=`.
    Infohash,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// Swarm time, milliseconds.
    pub at_ms: u64,
    /// Why.
    pub why: CloseReason,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// Told to stop.
    StopCommand,
    /// A newer session of the same infohash took its place.
    Superseded,
    /// The same player started other content.
    PlayerSwitched,
    /// Nobody read it any more.
    ReaderLeft,
    /// Nobody ever read it.
    NeverRead,
    /// It could not start.
    Failed,
    /// Its time was over.
    Expired,
    /// The engine crashed.
    Crash,
    /// The engine was shut down or reset.
    Shutdown,
}

/// What is written down when a session opens.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) engine: String,
    pub(crate) form: IdForm,
    pub(crate) requested: String,
    pub(crate) infohash: String,
    pub(crate) pid: Option<String>,
    pub(crate) token: String,
    pub(crate) playback_session_id: String,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in it.
    pub fn snapshot(&self) -> LedgerSnapshot {
        let book = self.0.lock();
        LedgerSnapshot {
            sessions: book.sessions.iter().cloned().collect(),
            counts: book.counts,
            starts: book.starts.records(),
            starts_in_flight: book.starts.in_flight(),
        }
    }

    /// The sums alone.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// Sessions open now.
    pub fn open_sessions(&self) -> u64 {
        self.counts().open
    }

    /// Forgets ended sessions, answered starts and all counts; open sessions stay and are counted as opened.
    pub fn reset(&self) {
        let book = &mut *self.0.lock();
        book.sessions.retain(|session| session.closed.is_none());
        let open = book.sessions.len() as u64;
        book.counts = Counts { open, peak: open, opened: open, ..Counts::default() };
        book.starts.reset();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().counts);
    }

    pub(crate) fn opened(&self, opening: Opening) -> u64 {
        let book = &mut *self.0.lock();
        let id = book.next_id;
        book.next_id += 1;
        book.sessions.push_back(opening.record(id));
        book.counts.opened += 1;
        book.counts.open += 1;
        book.counts.peak = book.counts.peak.max(book.counts.open);
        id
    }

    pub(crate) fn closed(&self, id: u64, why: CloseReason) {
        let book = &mut *self.0.lock();
        let Some(session) = book.session(id).filter(|session| session.closed.is_none()) else { return };
        session.closed = Some(Closed { at_ms: now_ms(), why });
        book.counts.closed += 1;
        book.counts.open -= 1;
        book.forget_oldest();
    }

    pub(crate) fn reader_admitted(&self, id: u64) {
        self.with(id, |session| session.readers += 1);
    }

    pub(crate) fn stat_polled(&self, id: u64) {
        self.with(id, |session| session.stat_polls += 1);
    }

    pub(crate) fn read(&self, id: u64, bytes: u64) {
        self.with(id, |session| session.bytes_read += bytes);
        self.count(|counts| counts.bytes_read += bytes);
    }

    fn with(&self, id: u64, change: impl FnOnce(&mut SessionRecord)) {
        if let Some(session) = self.0.lock().session(id) {
            change(session);
        }
    }
}

impl LedgerSnapshot {
    /// The snapshot as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Sessions of one infohash.
    pub fn of<'a>(&'a self, infohash: &'a str) -> impl Iterator<Item = &'a SessionRecord> {
        self.sessions.iter().filter(move |session| session.infohash == infohash)
    }

    /// The most start requests that this engine had to answer at once.
    pub fn peak_starts(&self, engine: &str) -> u64 {
        self.starts_in_flight.get(engine).map_or(0, |flight| flight.peak)
    }

    /// The most start requests that reached this engine within any `window`; with a second, its starts a second.
    pub fn most_starts_within(&self, engine: &str, window: Duration) -> usize {
        let starts = self.starts.iter().filter(|start| start.engine == engine);
        let times: Vec<u64> = starts.map(|start| start.at_ms).collect();
        starts::most_within(&times, window)
    }

    /// How many sessions ended for this reason.
    pub fn closed_by(&self, why: CloseReason) -> usize {
        self.sessions.iter().filter(|session| session.closed.is_some_and(|closed| closed.why == why)).count()
    }
}

impl Book {
    /// Records stand in the order of their ids.
    fn session(&mut self, id: u64) -> Option<&mut SessionRecord> {
        let index = self.sessions.binary_search_by_key(&id, |session| session.id).ok()?;
        self.sessions.get_mut(index)
    }

    fn forget_oldest(&mut self) {
        if self.sessions.len() as u64 - self.counts.open > REMEMBERED as u64 {
            let oldest = self.sessions.iter().position(|session| session.closed.is_some());
            oldest.and_then(|index| self.sessions.remove(index));
        }
    }
}

impl Opening {
    fn record(self, id: u64) -> SessionRecord {
        SessionRecord {
            id,
            engine: self.engine,
            form: self.form,
            requested: self.requested,
            infohash: self.infohash,
            pid: self.pid,
            token: self.token,
            playback_session_id: self.playback_session_id,
            opened_ms: now_ms(),
            closed: None,
            readers: 0,
            bytes_read: 0,
            stat_polls: 0,
        }
    }
}

fn now_ms() -> u64 {
    swarm::millis(swarm::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(infohash: &str) -> Opening {
        Opening {
            engine: "one".into(),
            form: IdForm::Infohash,
            requested: infohash.into(),
            infohash: infohash.into(),
            pid: None,
            token: String::new(),
            playback_session_id: String::new(),
        }
    }

    #[test]
    fn opened_is_open_plus_closed_and_a_session_closes_once() {
        let ledger = Ledger::new();
        let (a, b) = (ledger.opened(opening("a")), ledger.opened(opening("b")));
        ledger.closed(a, CloseReason::StopCommand);
        ledger.closed(a, CloseReason::Crash);
        ledger.read(b, 188);
        let counts = ledger.counts();
        assert_eq!(
            (counts.opened, counts.open, counts.closed, counts.peak, counts.bytes_read),
            (2, 1, 1, 2, 188)
        );
        assert_eq!(ledger.snapshot().closed_by(CloseReason::StopCommand), 1);
    }

    #[test]
    fn memory_is_bounded_and_open_sessions_are_never_forgotten() {
        let ledger = Ledger::new();
        let first = ledger.opened(opening("open"));
        for _ in 0..REMEMBERED + 50 {
            let id = ledger.opened(opening("gone"));
            ledger.closed(id, CloseReason::ReaderLeft);
        }
        let snapshot = ledger.snapshot();
        assert_eq!(snapshot.sessions.len(), REMEMBERED + 1);
        assert_eq!(snapshot.sessions[0].id, first);
    }
}
