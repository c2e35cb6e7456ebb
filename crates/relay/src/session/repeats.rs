//! A swarm whose broadcaster has gone plays its last minutes again and again. Bytes flow, the clock even runs, and
//! viewers see nothing new.

use std::time::Duration;

use acemux_media::clock::Pcr;

/// A clock that goes back by more than this belongs to another broadcast, not to a repetition.
const ONE_CLOCK: Duration = Duration::from_hours(1);

/// Follows a stream's clock.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// The latest value so far.
    latest: Option<Pcr>,
    repeating: bool,
}

/// What a clock value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Something new.
    New,
    /// The stream has just begun to repeat itself.
    Begins,
    /// It still does.
    Again,
}

impl Repeats {
    /// The next value. `is_held` tells whether the packets that come with it have been there before; it is asked only
    /// when the clock has gone back.
    pub(crate) fn look(&mut self, pcr: Pcr, is_held: impl FnOnce() -> bool) -> Seen {
        let Some(latest) = self.latest else {
            self.latest = Some(pcr);
            return Seen::New;
        };
        let back = latest.since(pcr);
        let is_back = !back.is_zero() && back < ONE_CLOCK;
        match (is_back, self.repeating) {
            (true, true) => return Seen::Again,
            (true, false) if is_held() => {
                self.repeating = true;
                return Seen::Begins;
            }
            _ => {}
        }
        // The value itself again is no progress either.
        if self.repeating && back.is_zero() {
            return Seen::Again;
        }
        *self = Self { latest: Some(pcr), repeating: false };
        Seen::New
    }

    /// Another source follows: it may begin wherever it likes.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_repeating(&self) -> bool {
        self.repeating
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Pcr {
        Pcr::from_ticks(seconds * 27_000_000)
    }

    #[test]
    fn what_was_there_before_is_nothing_new_until_the_clock_gets_further_than_ever() {
        let mut repeats = Repeats::default();
        assert_eq!([1, 2, 3].map(|second| repeats.look(at(second), || true)), [Seen::New; 3]);
        assert_eq!(repeats.look(at(1), || true), Seen::Begins);
        assert_eq!([2, 3, 1, 2, 3].map(|second| repeats.look(at(second), || true)), [Seen::Again; 5]);
        assert!(repeats.is_repeating());
        assert_eq!(repeats.look(at(4), || true), Seen::New);
        assert!(!repeats.is_repeating());
    }

    #[test]
    fn a_clock_that_is_set_back_by_the_broadcaster_is_something_new() {
        let mut repeats = Repeats::default();
        repeats.look(at(100), || true);
        assert_eq!(repeats.look(at(50), || false), Seen::New);
        assert_eq!(repeats.look(at(51), || false), Seen::New);
        assert_eq!(repeats.look(at(90_000), || true), Seen::New, "another clock");
    }
}
