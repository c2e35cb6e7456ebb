//! What streams show about an engine, beside what its API says of itself: outlier ejection.
//!
//! A failed start is held against an engine only when the engine is to blame: it did not answer, or the same stream
//! delivered on another engine. A dead channel fails everywhere and is nobody's fault. A start that hangs is noted first:
//! engines without notes are preferred. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How far back failures and successes count.
const WINDOW: Duration = Duration::from_mins(1);
/// Failures to blame in the window that leave an engine one start at a time.
const SUSPICIOUS: usize = 2;
/// Failures to blame in the window that eject an engine.
const ENOUGH: usize = 3;
/// Of the starts that say something, at least one in so many must succeed.
const ONE_IN: usize = 5;
/// Ejection after the first time; doubled by each further one.
const FIRST: Duration = Duration::from_secs(1);
/// Longest ejection.
const LONGEST: Duration = Duration::from_mins(1);
/// Without an ejection for so long, the next one is short again; and so long a note is remembered.
const FORGIVEN: Duration = Duration::from_mins(10);
/// Entries kept: starts are a few per minute, so more only come from an attack.
const KEPT: usize = 256;

/// What kind of failure a start was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It was refused, or broke.
    Failed,
    /// The start call was not answered.
    CallHung,
    /// The engine accepted the stream and sent nothing of it for so long.
    MediaHung(Duration),
}

impl Fault {
    /// Whether it was the engine's fault, when the same stream delivered elsewhere within `took`. Cold swarms are slow
    /// for everybody: media that did not come counts only against somebody who was more than twice as fast.
    pub(crate) fn is_shown_by(self, took: Duration) -> bool {
        match self {
            Self::Failed | Self::CallHung => true,
            Self::MediaHung(waited) => took * 2 < waited,
        }
    }

    fn is_hang(self) -> bool {
        !matches!(self, Self::Failed)
    }
}

/// How much an engine is trusted with new streams, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Nothing is held against it.
    Full,
    /// A start hung on it lately, and none has delivered since.
    Noted,
    /// It gets one start at a time: it is suspected.
    Suspected,
    /// It gets one start, with another engine beside it: it was ejected and may be well again.
    OnTrial,
    /// It gets none, if there is any other.
    Ejected,
}

impl Trust {
    /// As the pages say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Noted => "noted",
            Self::Suspected => "suspected",
            Self::OnTrial => "on_trial",
            Self::Ejected => "ejected",
        }
    }

    /// Why, in one line; nothing when nothing is held against it.
    pub fn why(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::Noted => Some("a start on it was not answered or brought no media: others are preferred"),
            Self::Suspected => {
                Some("streams that did not start on it play on others: it gets one start at a time")
            }
            Self::OnTrial => {
                Some("it is given one start, with another engine beside it, to show that it is well again")
            }
            Self::Ejected => Some("streams that did not start on it play on others: it gets no starts"),
        }
    }
}

/// What streams have shown about one engine.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    failed: VecDeque<Failure>,
    succeeded: VecDeque<Instant>,
    ejected: Option<Ejected>,
    /// When a start last hung, if none has delivered since.
    noted: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    stream: String,
    fault: Fault,
    is_blamed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    since: Instant,
    until: Instant,
    times: u32,
    /// A stream has delivered here since.
    has_returned: bool,
    /// When it was ejected first without having returned since.
    first: Instant,
}

impl Trouble {
    /// A stream did not start, hung, or broke. `is_blamed`: certainly by the engine's fault.
    pub(crate) fn failed(&mut self, stream: &str, fault: Fault, is_blamed: bool, now: Instant) {
        self.forget(now);
        if self.failed.len() == KEPT {
            self.failed.pop_front();
        }
        if fault.is_hang() {
            self.noted = Some(now);
        }
        self.failed.push_back(Failure { at: now, stream: stream.to_owned(), fault, is_blamed });
        self.judge(is_blamed, now);
    }

    /// A stream delivered here.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.forget(now);
        self.noted = None;
        if let Some(ejected) = self.ejected.as_mut().filter(|ejected| ejected.until <= now) {
            ejected.has_returned = true;
        }
        if self.succeeded.len() == KEPT {
            self.succeeded.pop_front();
        }
        self.succeeded.push_back(now);
    }

    /// A stream delivered on another engine, within `took` of its start: if it failed here before, that was this engine's
    /// fault.
    pub(crate) fn succeeded_elsewhere(&mut self, stream: &str, took: Duration, now: Instant) {
        self.forget(now);
        let mut is_news = false;
        for failure in self.failed.iter_mut().filter(|failure| failure.stream == stream) {
            let is_blamed = failure.is_blamed || failure.fault.is_shown_by(took);
            is_news |= is_blamed && !failure.is_blamed;
            failure.is_blamed = is_blamed;
        }
        if is_news {
            self.judge(true, now);
        }
    }

    /// Until when the engine gets no streams, if that is later than `now`.
    pub(crate) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.ejected.map(|ejected| ejected.until).filter(|until| *until > now)
    }

    /// How much it is trusted.
    pub(crate) fn trust(&self, now: Instant) -> Trust {
        let is_recent = |at: Instant, within: Duration| now.saturating_duration_since(at) <= within;
        let blamed = self.failed.iter().filter(|failure| failure.is_blamed && is_recent(failure.at, WINDOW));
        if self.ejected_until(now).is_some() {
            Trust::Ejected
        } else if self.is_on_trial(now) {
            Trust::OnTrial
        } else if blamed.count() >= SUSPICIOUS {
            Trust::Suspected
        } else if self.noted.is_some_and(|at| is_recent(at, FORGIVEN)) {
            Trust::Noted
        } else {
            Trust::Full
        }
    }

    /// Since when it has been ejected or on trial without having delivered anything.
    pub(crate) fn ejected_since(&self, now: Instant) -> Option<Instant> {
        let is_out = matches!(self.trust(now), Trust::Ejected | Trust::OnTrial);
        self.ejected.filter(|_| is_out).map(|ejected| ejected.first)
    }

    /// It was ejected, its time is over, and no stream has delivered on it since.
    fn is_on_trial(&self, now: Instant) -> bool {
        let is_forgiven = |ejected: Ejected| now.saturating_duration_since(ejected.until) > FORGIVEN;
        self.ejected
            .is_some_and(|ejected| ejected.until <= now && !ejected.has_returned && !is_forgiven(ejected))
    }

    fn judge(&mut self, is_blamed: bool, now: Instant) {
        if self.ejected_until(now).is_some() {
            return;
        }
        let blamed = self.failed.iter().filter(|failure| failure.is_blamed).count();
        let is_outlier = self.succeeded.len() * ONE_IN < blamed + self.succeeded.len();
        let has_failed_its_trial = is_blamed && self.is_on_trial(now);
        if has_failed_its_trial || (blamed >= ENOUGH && is_outlier) {
            self.eject(now);
        }
    }

    fn eject(&mut self, now: Instant) {
        let before = self.ejected.filter(|ejected| now.duration_since(ejected.since) < FORGIVEN);
        let times = before.map_or(0, |ejected| ejected.times);
        let time = FIRST.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(LONGEST);
        let first = before.filter(|ejected| !ejected.has_returned).map_or(now, |ejected| ejected.first);
        let until = now + time;
        self.ejected = Some(Ejected { since: now, until, times: times + 1, has_returned: false, first });
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

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn channels_that_are_dead_everywhere_eject_nobody() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for id in 0..100 {
            let fault = if id % 2 == 0 { Fault::Failed } else { Fault::CallHung };
            trouble.failed(&id.to_string(), fault, false, now);
        }
        assert_eq!(trouble.ejected_until(now), None);
        assert_eq!(trouble.trust(now), Trust::Noted, "another engine is preferred, that is all");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_on_which_streams_fail_that_start_elsewhere_is_ejected_longer_each_time() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        let mut lengths = Vec::new();
        for _ in 0..8 {
            for stream in ["a", "b", "c"] {
                trouble.failed(stream, Fault::Failed, false, now);
                trouble.succeeded_elsewhere(stream, SOON, now);
            }
            let until = trouble.ejected_until(now).expect("three to blame");
            lengths.push(until.duration_since(now).as_secs());
            now = until;
            trouble.succeeded(now);
            trouble.succeeded.clear();
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_mostly_works_is_kept() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        (0..9).for_each(|_| trouble.succeeded(now));
        (0..4).for_each(|_| trouble.failed("a", Fault::Failed, true, now));
        assert_eq!(trouble.ejected_until(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_long_ago_do_not_count() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        trouble.failed("a", Fault::Failed, true, now);
        trouble.failed("b", Fault::Failed, true, now);
        trouble.failed("c", Fault::Failed, true, now + WINDOW + FIRST);
        assert_eq!(trouble.ejected_until(now + WINDOW + FIRST), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_is_a_note_until_something_delivers_and_blame_when_the_channel_delivers_elsewhere() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        trouble.failed("a", Fault::CallHung, false, now);
        assert_eq!(trouble.trust(now), Trust::Noted);
        trouble.succeeded(now);
        assert_eq!(trouble.trust(now), Trust::Full);
        trouble.failed("b", Fault::CallHung, false, now);
        trouble.succeeded_elsewhere("a", SOON, now);
        trouble.succeeded_elsewhere("b", SOON, now);
        assert_eq!(trouble.trust(now), Trust::Suspected);
        assert_eq!(trouble.trust(now + WINDOW + SOON), Trust::Noted, "until something delivers here");
        assert_eq!(trouble.trust(now + FORGIVEN + SOON), Trust::Full);
    }

    #[test]
    fn a_slow_swarm_is_not_the_engines_fault() {
        let hung = Fault::MediaHung(Duration::from_secs(14));
        assert!(!hung.is_shown_by(Duration::from_secs(7)));
        assert!(hung.is_shown_by(Duration::from_secs(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejected_engine_is_on_trial_until_it_delivers_and_one_more_failure_ejects_it_again() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        for stream in ["a", "b", "c"] {
            trouble.failed(stream, Fault::Failed, true, now);
        }
        assert_eq!(trouble.trust(now), Trust::Ejected);
        let later = now + FIRST;
        assert_eq!(trouble.trust(later), Trust::OnTrial);
        trouble.failed("d", Fault::CallHung, true, later);
        assert_eq!(trouble.trust(later), Trust::Ejected);
        let later = later + FIRST * 2;
        trouble.succeeded(later);
        assert_eq!(trouble.trust(later), Trust::Full);
    }
}
