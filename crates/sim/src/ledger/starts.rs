//! Start requests: when they came, and how many an engine had to answer at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::{Ledger, now_ms};

/// Answered starts that are remembered.
const REMEMBERED: usize = 10_000;

/// One request to start something, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartRecord {
    /// Number in this ledger.
    pub id: u64,
    /// The engine that was asked.
    pub engine: String,
    /// The value that was asked for, as written; `None` when nothing was named.
    pub requested: Option<String>,
    /// Swarm time when the request came, milliseconds.
    pub at_ms: u64,
    /// Swarm time when its reply was ready, or it was given up, milliseconds; `None` while it is in flight.
    pub done_ms: Option<u64>,
}

/// Starts that one engine had to answer at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StartsInFlight {
    /// In flight now.
    pub now: u64,
    /// Most at once since the start or the last reset.
    pub peak: u64,
}

/// The book of starts.
#[derive(Debug, Default)]
pub(super) struct Starts {
    records: VecDeque<StartRecord>,
    next_id: u64,
    engines: BTreeMap<String, StartsInFlight>,
}

/// A start in flight; dropping it writes its end.
#[derive(Debug)]
pub(crate) struct StartGuard {
    ledger: Ledger,
    id: u64,
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        self.ledger.0.lock().starts.done(self.id);
    }
}

impl Ledger {
    /// A start request has come; it is in flight until its reply is ready, where the guard is dropped.
    pub(crate) fn start_began(&self, engine: &str, requested: Option<&str>, is_head: bool) -> StartGuard {
        let book = &mut *self.0.lock();
        book.counts.starts += 1;
        book.counts.heads += u64::from(is_head);
        StartGuard { ledger: self.clone(), id: book.starts.began(engine, requested) }
    }
}

impl Starts {
    pub(super) fn records(&self) -> Vec<StartRecord> {
        self.records.iter().cloned().collect()
    }

    pub(super) fn in_flight(&self) -> BTreeMap<String, StartsInFlight> {
        self.engines.clone()
    }

    /// Forgets what is done; what is in flight stays and is the new peak.
    pub(super) fn reset(&mut self) {
        self.records.retain(|start| start.done_ms.is_none());
        self.engines.retain(|_, flight| flight.now > 0);
        self.engines.values_mut().for_each(|flight| flight.peak = flight.now);
    }

    fn began(&mut self, engine: &str, requested: Option<&str>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.records.push_back(StartRecord {
            id,
            engine: engine.to_owned(),
            requested: requested.map(str::to_owned),
            at_ms: now_ms(),
            done_ms: None,
        });
        let flight = self.engines.entry(engine.to_owned()).or_default();
        flight.now += 1;
        flight.peak = flight.peak.max(flight.now);
        id
    }

    fn done(&mut self, id: u64) {
        // Records stand in the order of their ids.
        let Ok(index) = self.records.binary_search_by_key(&id, |start| start.id) else { return };
        let Some(start) = self.records.get_mut(index) else { return };
        start.done_ms = Some(now_ms());
        if let Some(flight) = self.engines.get_mut(&start.engine) {
            flight.now -= 1;
        }
        if self.records.len() > REMEMBERED {
            let oldest = self.records.iter().position(|start| start.done_ms.is_some());
            oldest.and_then(|index| self.records.remove(index));
        }
    }
}

/// The most of `times` (milliseconds, ascending) in any window of this length, both ends counted in.
pub(super) fn most_within(times: &[u64], window: Duration) -> usize {
    let window = crate::swarm::millis(window);
    let from = |last: usize| times.partition_point(|time| *time < times[last].saturating_sub(window));
    (0..times.len()).map(|last| last + 1 - from(last)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_answers_at_once_is_counted_per_engine() {
        let ledger = Ledger::new();
        let one = [ledger.start_began("one", Some("a"), false), ledger.start_began("one", None, true)];
        let other = ledger.start_began("other", Some("b"), false);
        drop(one);
        drop(ledger.start_began("one", Some("c"), false));
        let snapshot = ledger.snapshot();
        assert_eq!((snapshot.peak_starts("one"), snapshot.peak_starts("other")), (2, 1));
        assert_eq!(snapshot.starts_in_flight["one"].now, 0);
        assert_eq!(snapshot.starts_in_flight["other"].now, 1);
        assert_eq!((snapshot.counts.starts, snapshot.counts.heads, snapshot.peak_starts("none")), (4, 1, 0));
        let open: Vec<u64> =
            snapshot.starts.iter().filter(|start| start.done_ms.is_none()).map(|start| start.id).collect();
        assert_eq!(open, [2]);
        drop(other);
    }

    #[test]
    fn a_reset_forgets_what_is_done_and_keeps_what_is_in_flight() {
        let ledger = Ledger::new();
        let flying = ledger.start_began("one", Some("a"), false);
        drop(ledger.start_began("one", Some("b"), false));
        drop(ledger.start_began("other", Some("c"), false));
        ledger.reset();
        let snapshot = ledger.snapshot();
        assert_eq!((snapshot.starts.len(), snapshot.starts_in_flight.len()), (1, 1));
        assert_eq!((snapshot.peak_starts("one"), snapshot.counts.starts), (1, 0));
        drop(flying);
        assert_eq!(ledger.snapshot().starts_in_flight["one"], StartsInFlight { now: 0, peak: 1 });
    }

    #[test]
    fn memory_is_bounded() {
        let ledger = Ledger::new();
        let first = ledger.start_began("one", None, false);
        (0..REMEMBERED + 50).for_each(|_| drop(ledger.start_began("one", None, false)));
        let starts = ledger.snapshot().starts;
        assert_eq!((starts.len(), starts[0].id), (REMEMBERED, 0));
        drop(first);
    }

    #[test]
    fn the_densest_window_is_found() {
        let times = [0, 900, 1_000, 1_000, 1_800, 5_000];
        for (window, most) in [(0, 2), (99, 2), (100, 3), (900, 4), (1_000, 4), (1_800, 5), (5_000, 6)] {
            assert_eq!(most_within(&times, Duration::from_millis(window)), most, "{window} ms");
        }
        assert_eq!(most_within(&[], Duration::from_secs(1)), 0);
    }
}
