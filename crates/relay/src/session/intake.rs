//! When a session reads its source: at the end of each round, all that the socket holds.
//!
//! ```text
//!        bytes                  end of the round            nothing is left
//!  Idle ───────► Waiting(until) ────────────────► Taking ─┬─ something goes out ─► Waiting(next end)
//!   ▲                                                     └─ nothing came ──┐
//!   └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! While it waits the kernel collects: one turn per round instead of one per packet. On a busy process each turn is waited
//! for behind all viewers', so a second one would double the rounds. A source that has more than its lead allows is held
//! back in the same state, for as long as the media takes to play.

use tokio::time::Instant;

use crate::rounds::Rounds;

/// What a session does with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// Nothing has come lately: the next bytes begin a round.
    Idle,
    /// It reads until nothing is left.
    Taking,
    /// It reads nothing before that moment.
    Waiting {
        /// The end of a round.
        until: Instant,
        /// Because the media is too far ahead: the source's silence is of our making.
        held_back: bool,
    },
}

impl Intake {
    /// Whether it may read now.
    pub(crate) fn may_read(&mut self, now: Instant) -> bool {
        if self.wake_at().is_some_and(|until| until <= now) {
            *self = Self::Taking;
        }
        !matches!(self, Self::Waiting { .. })
    }

    /// When it reads again, if it does not now.
    pub(crate) fn wake_at(self) -> Option<Instant> {
        match self {
            Self::Waiting { until, .. } => Some(until),
            Self::Idle | Self::Taking => None,
        }
    }

    /// Bytes came.
    pub(crate) fn took(&mut self, rounds: &Rounds, now: Instant) {
        if *self == Self::Idle {
            *self = Self::Waiting { until: rounds.next(now), held_back: false };
        }
    }

    /// Nothing is left to read, and what there is to give out goes out now, if there is anything.
    pub(crate) fn ran_dry(&mut self, gives_out: bool, rounds: &Rounds, now: Instant) {
        *self =
            if gives_out { Self::Waiting { until: rounds.next(now), held_back: false } } else { Self::Idle };
    }

    /// The media is too far ahead until that moment.
    pub(crate) fn hold_back(&mut self, until: Instant, rounds: &Rounds) {
        *self = Self::Waiting { until: rounds.next(until), held_back: true };
    }

    /// Whether the source's silence is of our making.
    pub(crate) fn is_held_back(self) -> bool {
        matches!(self, Self::Waiting { held_back: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::SHORTEST;

    #[test]
    fn what_comes_waits_for_the_end_of_the_round_and_is_taken_with_all_that_came_meanwhile() {
        let began = Instant::now();
        let (rounds, mut intake) = (Rounds::new(began), Intake::Idle);
        assert!(intake.may_read(began));
        intake.took(&rounds, began);
        assert!(!intake.may_read(began));
        let end = intake.wake_at().expect("it waits");
        assert_eq!(end, began + SHORTEST);
        assert!(intake.may_read(end));
        intake.took(&rounds, end);
        assert!(intake.may_read(end), "there may be more");
        intake.ran_dry(true, &rounds, end);
        assert_eq!(intake.wake_at(), Some(end + SHORTEST));
    }

    #[test]
    fn a_source_that_is_silent_wakes_nobody() {
        let began = Instant::now();
        let (rounds, mut intake) = (Rounds::new(began), Intake::Taking);
        intake.ran_dry(false, &rounds, began);
        assert_eq!((intake.may_read(began), intake.wake_at()), (true, None));
    }

    #[test]
    fn one_that_is_held_back_is_so_until_it_is_read_again() {
        let began = Instant::now();
        let (rounds, mut intake) = (Rounds::new(began), Intake::Taking);
        intake.hold_back(began + 10 * SHORTEST, &rounds);
        assert!(intake.is_held_back() && !intake.may_read(began + 10 * SHORTEST));
        assert!(intake.may_read(began + 11 * SHORTEST) && !intake.is_held_back());
    }
}
