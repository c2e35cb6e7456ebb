//! When another source is asked beside one that is silent.

use std::time::Duration;

use tokio::time::Instant;

use super::state::Timings;
use crate::origin::{Stage, Standing};

/// A start call that was not answered for so long is not answered later either, as a rule: real engines refuse a dead
/// channel within 5 s. A swarm without media may still be a cold one; that is what `HEDGE_AFTER` waits for.
const CALL: Duration = Duration::from_secs(6);

/// A source that may be a bad one gets this head start: a good one has delivered a channel that it knows by then.
const DOUBTFUL: Duration = Duration::from_secs(1);

/// When there was no room for another one, it is looked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// How soon it is looked again whether a source was asked that was not yet: that comes without a notice.
const LOOK: Duration = Duration::from_millis(500);

/// Whether another source may be asked beside one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hedge {
    /// When the attempt has been silent for too long.
    Unasked,
    /// There was no room: not before this moment.
    NoRoom(Instant),
    /// One was asked, and one is enough.
    Asked,
}

impl Hedge {
    /// When it is due, or is to be looked at again.
    pub(super) fn due_at(self, standing: Standing, timings: &Timings, now: Instant) -> Option<Instant> {
        match (self, standing.called) {
            (Self::Asked, _) => None,
            (Self::Unasked | Self::NoRoom(_), None) => Some(now + LOOK),
            (Self::Unasked, Some(called)) => Some(called + patience(standing, timings)),
            (Self::NoRoom(until), Some(called)) => Some(until.max(called + patience(standing, timings))),
        }
    }

    /// Whether another source is to be asked now. Then it counts as asked.
    pub(super) fn is_due(&mut self, standing: Standing, timings: &Timings, now: Instant) -> bool {
        let is_due =
            standing.called.is_some() && self.due_at(standing, timings, now).is_some_and(|at| at <= now);
        if is_due {
            *self = Self::Asked;
        }
        is_due
    }

    /// It was asked for in vain already.
    pub(super) fn had_no_room(self) -> bool {
        matches!(self, Self::NoRoom(_))
    }

    /// There was no room for the one that was asked.
    pub(super) fn no_room(&mut self, now: Instant) {
        *self = Self::NoRoom(now + AGAIN);
    }
}

fn patience(standing: Standing, timings: &Timings) -> Duration {
    match standing.stage {
        _ if standing.is_doubtful => DOUBTFUL.min(timings.hedge),
        Stage::Slot | Stage::Call => CALL.min(timings.hedge),
        Stage::FirstByte | Stage::Keyframe => timings.hedge,
    }
}
