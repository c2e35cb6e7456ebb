//! What streams show about an engine, beside what its API says of itself: outlier ejection.
//!
//! A failed start is held against an engine only when the engine is to blame: it did not answer, or the same stream
//! then started on another engine. A dead channel fails everywhere and is nobody's fault. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back failures and successes count.
const WINDOW: Duration = Duration::from_mins(1);
/// Failures to blame in the window that eject an engine.
const ENOUGH: usize = 3;
/// Of the starts that say something, at least one in so many must succeed.
const ONE_IN: usize = 5;
/// Ejection after the first time; doubled by each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Longest ejection.
const LONGEST: Duration = Duration::from_mins(1);
/// Without an ejection for so long, the next one is short again.
const FORGIVEN: Duration = Duration::from_mins(10);
/// Entries kept: starts are a few per minute, so more only come from an attack.
const KEPT: usize = 256;

/// What streams have shown about one engine.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failed: VecDeque<Failure>,
    succeeded: VecDeque<Instant>,
    ejected: Option<Ejected>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    stream: String,
    is_blamed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    since: Instant,
    until: Instant,
    times: u32,
}

impl Trouble {
    /// A stream did not start, or broke. `is_blamed`: certainly by the engine's fault.
    pub(crate) fn failed(&mut self, stream: &str, is_blamed: bool, now: Instant) {
        self.forget(now);
        if self.failed.len() == KEPT {
            self.failed.pop_front();
        }
        self.failed.push_back(Failure { at: now, stream: stream.to_owned(), is_blamed });
        self.judge(now);
    }

    /// A stream started here.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.forget(now);
        if self.succeeded.len() == KEPT {
            self.succeeded.pop_front();
        }
        self.succeeded.push_back(now);
    }

    /// A stream started on another engine: if it failed here before, that was this engine's fault.
    pub(crate) fn succeeded_elsewhere(&mut self, stream: &str, now: Instant) {
        self.forget(now);
        let mut is_news = false;
        for failure in self.failed.iter_mut().filter(|failure| failure.stream == stream) {
            is_news |= !failure.is_blamed;
            failure.is_blamed = true;
        }
        if is_news {
            self.judge(now);
        }
    }

    /// Until when the engine gets no streams, if that is later than `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.ejected.map(|ejected| ejected.until).filter(|until| *until > now)
    }

    fn judge(&mut self, now: Instant) {
        let blamed = self.failed.iter().filter(|failure| failure.is_blamed).count();
        let is_outlier = self.succeeded.len() * ONE_IN < blamed + self.succeeded.len();
        if blamed < ENOUGH || !is_outlier || self.ejected_until(now).is_some() {
            return;
        }
        let before = self.ejected.filter(|ejected| now.duration_since(ejected.since) < FORGIVEN);
        let times = before.map_or(0, |ejected| ejected.times);
        let time = FIRST.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST);
        self.ejected = Some(Ejected { since: now, until: now + time, times: times + 1 });
        // What led here has been answered; the next ejection takes new failures.
        self.failed.clear();
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |at: Instant| now.duration_since(at) > WINDOW;
        while self.failed.front().is_some_and(|failure| is_old(failure.at)) {
            self.failed.pop_front();
        }
        while self.succeeded.front().is_some_and(|at| is_old(*at)) {
            self.succeeded.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn channels_that_are_dead_everywhere_eject_nobody() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for id in 0..100 {
            trouble.failed(&id.to_string(), false, now);
        }
        assert_eq!(trouble.ejected_until(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_on_which_streams_fail_that_start_elsewhere_is_ejected_longer_each_time() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..8 {
            for stream in ["a", "b", "c"] {
                trouble.failed(stream, false, now);
                trouble.succeeded_elsewhere(stream, now);
            }
            let until = trouble.ejected_until(now).expect("three to blame");
            lengths.push(until.duration_since(now).as_secs());
            now = until;
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_mostly_works_is_kept() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        (0..9).for_each(|_| trouble.succeeded(now));
        (0..4).for_each(|_| trouble.failed("a", true, now));
        assert_eq!(trouble.ejected_until(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_long_ago_do_not_count() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        trouble.failed("a", true, now);
        trouble.failed("b", true, now);
        trouble.failed("c", true, now + WINDOW + FIRST);
        assert_eq!(trouble.ejected_until(now + WINDOW + FIRST), None);
    }
}
