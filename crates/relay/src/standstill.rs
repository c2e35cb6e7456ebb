//! This program's own standstill: a suspended machine, a stopped process, a paused container. Nobody else is to blame for
//! the silence of that time, and nobody is cut for it.

use std::time::Duration;

use tokio::time::Instant;

/// Whoever is waked so much later than he asked for was not late by himself.
const STANDSTILL: Duration = Duration::from_secs(2);

/// For how long the program stood still, when something that was to be waked at that moment is waked now.
pub(crate) fn stood_still(wake_at: Instant) -> Option<Duration> {
    Some(wake_at.elapsed()).filter(|late| *late > STANDSTILL)
}
