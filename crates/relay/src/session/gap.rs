//! A gap of a watched stream: its source is lost, silent or to be left, and its viewers are held meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use super::hedge::Hedge;
use super::state::Timings;
use crate::origin::{OpenError, SourceId, Standing};

/// Pauses before another attempt to heal a gap; the first one is made at once, the last pause repeats.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Where a stream's pauses lie between these parts of the usual ones is its own: when all engines die at once, not all
/// streams come back at the same moments.
pub const SPREAD: std::ops::RangeInclusive<f64> = 0.75..=1.25;

/// How long one attempt may take to bring media before another source is tried. Engines collect 5–15 s of a stream
/// before they send any of it.
const ATTEMPT: Duration = Duration::from_secs(15);

/// How soon it is looked again at a source that has had its time and shows that media is on its way.
const LOOK: Duration = Duration::from_secs(1);

/// Attempts to leave a source that plays. It is left for its own or an operator's reasons, so staying is no disaster.
const MOST_MOVES: usize = 3;

/// Why another source is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The source ended the stream or broke.
    Lost,
    /// The source is open and sends nothing new; it may come back.
    Silent,
    /// The source plays on; it is to be left.
    Wanted,
}

/// A gap that is being healed.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Why.
    pub cause: Cause,
    /// When viewers are given up.
    pub until: Instant,
    /// What is wrong with the source.
    pub failure: OpenError,
    /// It began with silence, whatever was done about that.
    pub was_silent: bool,
    exclude: Vec<SourceId>,
    /// Those of them that were left and have not failed: where there is no other, they will do.
    left: Vec<SourceId>,
    attempts: usize,
    next: Next,
    /// The source that was taken up last. If it brings nothing it is avoided as well.
    taken_up: Option<SourceId>,
    /// Whether another source is tried beside the one that is to heal it.
    hedge: Hedge,
    /// What was waited for before the other source was asked.
    before_hedge: Option<Next>,
    spread: f64,
}

/// What a gap waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The attempt under way, until then.
    Attempt(Instant),
    /// Another attempt at this moment.
    Retry(Instant),
}

impl Gap {
    /// A gap that began just now.
    pub fn new(cause: Cause, failure: OpenError, until: Instant, now: Instant) -> Self {
        let was_silent = cause == Cause::Silent;
        let (exclude, left, next) = (Vec::new(), Vec::new(), Next::Retry(now));
        Self {
            cause,
            until,
            failure,
            was_silent,
            exclude,
            left,
            attempts: 0,
            next,
            taken_up: None,
            hedge: Hedge::Unasked,
            before_hedge: None,
            spread: 1.0,
        }
    }

    /// Sources that have failed with this stream lately.
    pub fn avoiding(self, exclude: Vec<SourceId>) -> Self {
        Self { exclude, ..self }
    }

    /// Sources among them that were only left.
    pub fn returning_to(self, left: Vec<SourceId>) -> Self {
        Self { left, ..self }
    }

    /// With pauses that are so many times the usual ones, within [`SPREAD`].
    pub fn spread_by(self, spread: f64) -> Self {
        Self { spread, ..self }
    }

    /// Its source has failed too often lately: the first attempt waits as long as the last ones of a gap do.
    pub fn hesitate(&mut self, now: Instant) {
        self.attempts = PAUSES.len();
        self.next = Next::Retry(now + self.pause());
    }

    /// When there is something to decide.
    pub(super) fn deadline(&self, timings: &Timings, standing: Standing, now: Instant) -> Instant {
        let hedge_at = match self.next {
            Next::Attempt(_) if self.taken_up.is_none() => self.hedge.due_at(standing, timings, now),
            Next::Attempt(_) | Next::Retry(_) => None,
        };
        hedge_at.map_or(self.due_at(), |at| at.min(self.due_at()))
    }

    /// When the attempt or the pause is over.
    pub(super) fn due_at(&self) -> Instant {
        let (Next::Attempt(at) | Next::Retry(at)) = self.next;
        at.min(self.until)
    }

    /// Whether the attempt or the pause is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at() <= now
    }

    /// The sources to avoid when another one is to be asked beside the one that is to heal the gap.
    pub(super) fn hedge(
        &mut self,
        timings: &Timings,
        standing: Standing,
        now: Instant,
    ) -> Option<Vec<SourceId>> {
        let is_asked = matches!(self.next, Next::Attempt(at) if at > now) && self.taken_up.is_none();
        let is_due = is_asked && self.hedge.is_due(standing, timings, now);
        if is_due {
            self.before_hedge = Some(std::mem::replace(&mut self.next, Next::Attempt(now + ATTEMPT)));
        }
        is_due.then(|| self.exclude.clone())
    }

    /// A second source was asked for in vain already.
    pub(super) fn had_no_room(&self) -> bool {
        self.hedge.had_no_room()
    }

    /// There was no room for a second source: the first one has no more time for that.
    pub(super) fn no_room(&mut self, now: Instant) {
        self.hedge.no_room(now);
        if let Some(before) = self.before_hedge.take() {
            self.next = before;
        }
    }

    /// This program stood still for so long: viewers are held for as long as they would have been.
    pub(super) fn excuse(&mut self, late: Duration) {
        let (Next::Attempt(at) | Next::Retry(at)) = &mut self.next;
        *at += late;
        self.until += late;
    }

    /// What is waited for shows that media is on its way: it is not given up now for a source that would begin anew.
    pub(super) fn wait_for_media(&mut self, now: Instant) {
        if let Next::Attempt(at) = &mut self.next {
            *at = (*at).max(now + LOOK);
        }
    }

    /// Begins the next attempt if it is due: the sources to avoid.
    pub fn attempt(&mut self, now: Instant) -> Option<Vec<SourceId>> {
        let (Next::Attempt(at) | Next::Retry(at)) = self.next;
        if at > now {
            return None;
        }
        self.attempts += 1;
        (self.hedge, self.before_hedge) = (Hedge::Unasked, None);
        self.exclude.extend(self.taken_up.take());
        self.next = Next::Attempt(now + ATTEMPT);
        Some(self.exclude.clone())
    }

    /// There is nowhere to move to but to sources that were left before: the next attempt may go there, once. False when
    /// there are none, or when something else is wrong.
    pub fn goes_back(&mut self, error: &OpenError, now: Instant) -> bool {
        let is_nowhere = self.cause == Cause::Wanted && matches!(error, OpenError::NoCapacity { .. });
        if !is_nowhere || self.left.is_empty() {
            return false;
        }
        let left = std::mem::take(&mut self.left);
        self.exclude.retain(|source| !left.contains(source));
        self.next = Next::Retry(now + self.pause());
        true
    }

    /// The attempt failed: the next one goes elsewhere, and where it likes when there is nowhere else.
    pub fn failed(&mut self, error: &OpenError, now: Instant) {
        match error.source_id() {
            Some(source) => self.exclude.push(source.clone()),
            None => self.exclude.clear(),
        }
        self.taken_up = None;
        self.next = Next::Retry(now + self.pause());
    }

    fn pause(&self) -> Duration {
        PAUSES[self.attempts.min(PAUSES.len() - 1)].mul_f64(self.spread)
    }

    /// The source is gone as well, after all.
    pub fn lost(&mut self, failure: OpenError, until: Instant, now: Instant) {
        self.exclude.extend(failure.source_id().cloned());
        self.failure = failure;
        self.was_silent = false;
        self.cause = Cause::Lost;
        self.until = until;
        if let Next::Retry(_) = self.next {
            self.next = Next::Retry(now);
        }
    }

    /// The new source has sent media; the old one is closed. It has as long again to bring something to play.
    pub fn taken_up(&mut self, source: SourceId, now: Instant) {
        self.cause = Cause::Lost;
        self.taken_up = Some(source);
        self.next = Next::Attempt(now + ATTEMPT);
    }

    /// Whether a source that plays is rather kept than tried to be left once more.
    pub fn is_hopeless(&self, error: &OpenError) -> bool {
        let nowhere = matches!(error, OpenError::NoCapacity { .. });
        self.cause == Cause::Wanted && (nowhere || self.attempts >= MOST_MOVES)
    }
}
