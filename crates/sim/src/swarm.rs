//! Swarm time: one clock for everything that is broadcast.
//!
//! It is the wall clock read once per process and carried on by the monotone clock, so that it never steps back, and all
//! engines of a process agree to the microsecond; engines in two processes agree as well as their wall clock does.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

static ANCHOR: OnceLock<(Duration, Instant)> = OnceLock::new();

/// Time on the swarm's clock: since the UNIX epoch, never stepping back within a process.
pub fn now() -> Duration {
    let (wall, started) = ANCHOR.get_or_init(|| (wall_clock(), Instant::now()));
    *wall + started.elapsed()
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whole milliseconds of a duration, as JSON carries them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
