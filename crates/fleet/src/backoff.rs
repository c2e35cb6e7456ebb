//! What the fleet remembers of failures: per place how long to wait, and two breakers that stop creating at all.
//!
//! Pure values: time comes in as an argument, as the time since the fleet began ([`Moment`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

/// Time since the fleet began. Monotonic: a change of the wall clock changes nothing here.
pub type Moment = Duration;

/// Wait after the first failure in a place; doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait: a broken image is tried once a minute.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// An engine that has lived so long has shown that its place is sound.
const SOUND_AFTER: Duration = Duration::from_mins(10);

/// The failures of every place.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<usize, Failures>);

#[derive(Clone, Debug)]
struct Failures {
    count: u32,
    not_before: Moment,
    why: String,
}

impl Places {
    /// The engine of this place failed at `now`.
    pub fn failed(&mut self, place: usize, now: Moment, why: impl Into<String>) {
        let count = self.0.get(&place).map_or(0, |failures| failures.count).saturating_add(1);
        let wait =
            FIRST_WAIT.saturating_mul(1_u32.checked_shl(count - 1).unwrap_or(u32::MAX)).min(LONGEST_WAIT);
        self.0.insert(place, Failures { count, not_before: now + wait, why: why.into() });
    }

    /// Its last failure was none of the engine's: it may be filled again at once.
    pub fn forgive(&mut self, place: usize, now: Moment) {
        if let Some(failures) = self.0.get_mut(&place) {
            (failures.count, failures.not_before) = (failures.count.saturating_sub(1), now);
        }
        self.0.retain(|_, failures| failures.count > 0);
    }

    /// The engine of this place has been usable for `age`.
    pub fn lives(&mut self, place: usize, age: Duration) {
        if age >= SOUND_AFTER {
            self.0.remove(&place);
        }
    }

    /// When the place may be filled again, if that is later than `now`, and why.
    pub fn held(&self, place: usize, now: Moment) -> Option<(Moment, &str)> {
        let failures = self.0.get(&place).filter(|failures| failures.not_before > now)?;
        Some((failures.not_before, &failures.why))
    }

    /// Failures in a row of this place.
    pub fn failures(&self, place: usize) -> u32 {
        self.0.get(&place).map_or(0, |failures| failures.count)
    }

    /// Forgets all: the operator has mended something.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Stops an operation that keeps failing, then lets a single attempt through to see whether it works again.
#[derive(Clone, Debug)]
pub struct Breaker {
    threshold: u32,
    recovery: Duration,
    failures: u32,
    state: State,
    /// When it last failed.
    pub last_failure: Option<Moment>,
    /// When it last succeeded.
    pub last_success: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        since: Moment,
    },
    /// One attempt is under way. If nobody ever says how it ended, another one may begin after the recovery time.
    Trying {
        since: Moment,
    },
}

/// What a breaker allows, in the words of the status pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BreakerState)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One attempt.
    HalfOpen,
}

impl Position {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    /// Opens after `threshold` failures in a row, for `recovery`.
    pub fn new(threshold: u32, recovery: Duration) -> Self {
        Self {
            threshold,
            recovery,
            failures: 0,
            state: State::Closed,
            last_failure: None,
            last_success: None,
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Failures in a row that open it.
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// How long it stays open.
    pub fn recovery(&self) -> Duration {
        self.recovery
    }

    /// What it allows at `now`.
    pub fn position(&self, now: Moment) -> Position {
        match self.state {
            State::Closed => Position::Closed,
            State::Open { since } if now < since + self.recovery => Position::Open,
            State::Open { .. } | State::Trying { .. } => Position::HalfOpen,
        }
    }

    /// Attempts that may begin now.
    pub fn allowance(&self, now: Moment) -> usize {
        match (self.position(now), self.state) {
            (Position::Closed, _) => usize::MAX,
            (Position::HalfOpen, State::Open { .. }) => 1,
            (_, State::Trying { since }) if now >= since + self.recovery => 1,
            _ => 0,
        }
    }

    /// When it lets an attempt through, if it is open at `now`.
    pub fn opens_at(&self, now: Moment) -> Option<Moment> {
        match self.state {
            State::Open { since } if now < since + self.recovery => Some(since + self.recovery),
            _ => None,
        }
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Moment) {
        if self.position(now) == Position::HalfOpen {
            self.state = State::Trying { since: now };
        }
    }

    /// An attempt succeeded. True when that closed it.
    pub fn succeeded(&mut self, now: Moment) -> bool {
        let was_open = self.state != State::Closed;
        *self = Self { failures: 0, state: State::Closed, last_success: Some(now), ..self.clone() };
        was_open
    }

    /// An attempt failed. True when that opened it. A failure while it is open does not prolong it.
    pub fn failed(&mut self, now: Moment) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(now);
        let opens = match self.state {
            State::Closed => self.failures >= self.threshold,
            State::Trying { .. } => true,
            State::Open { .. } => false,
        };
        if opens {
            self.state = State::Open { since: now };
        }
        opens
    }

    /// An attempt ended without saying anything about the operation (a name or a port was taken).
    pub fn inconclusive(&mut self, now: Moment) {
        if matches!(self.state, State::Trying { .. }) {
            self.state = State::Open { since: now.saturating_sub(self.recovery) };
        }
    }

    /// The last failure was none of the operation's. What it has opened stays open: one attempt will tell.
    pub fn forgive(&mut self) {
        if self.state == State::Closed {
            self.failures = self.failures.saturating_sub(1);
        }
    }

    /// Closes it by hand.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_place_waits_one_two_four_up_to_sixty_seconds() {
        let mut places = Places::default();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                places.failed(1, s(0), "exit code 1");
                places.held(1, s(0)).unwrap().0.as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(places.held(2, s(0)).is_none());
        places.lives(1, s(599));
        assert_eq!(places.failures(1), 8);
        places.lives(1, s(600));
        assert_eq!(places.failures(1), 0);
    }

    #[test]
    fn a_breaker_opens_lets_one_through_and_closes_on_its_success() {
        let mut breaker = Breaker::new(2, s(300));
        assert!(!breaker.failed(s(1)));
        assert!(breaker.failed(s(2)));
        assert_eq!((breaker.position(s(3)), breaker.allowance(s(3))), (Position::Open, 0));
        assert_eq!((breaker.position(s(302)), breaker.allowance(s(302))), (Position::HalfOpen, 1));
        breaker.begin(s(302));
        assert_eq!(breaker.allowance(s(303)), 0, "only one attempt at a time");
        assert!(breaker.succeeded(s(304)));
        assert_eq!((breaker.position(s(304)), breaker.failures()), (Position::Closed, 0));
    }

    #[test]
    fn a_failed_attempt_opens_it_again_and_a_late_failure_does_not_prolong_it() {
        let mut breaker = Breaker::new(1, s(10));
        breaker.failed(s(0));
        breaker.begin(s(10));
        assert!(breaker.failed(s(11)));
        assert!(!breaker.failed(s(15)));
        assert_eq!(breaker.opens_at(s(15)), Some(s(21)));
        breaker.begin(s(21));
        breaker.inconclusive(s(22));
        assert_eq!(breaker.allowance(s(22)), 1);
    }
}
