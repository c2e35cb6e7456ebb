//! Channels whose broadcaster has gone long ago and whose swarm plays the end again and again: found by the age of what
//! is broadcast, ended, and blocked for a while.
//!
//! Engines tell the wall clock of the newest piece that exists (`live_last`). Off by default, as in the system that this
//! replaces: broadcasters' clocks can be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acemux_relay::session::EndReason;
use acemux_relay::{Relay, StreamKey};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Times of broadcasts outside of these years are nonsense, not old.
const PLAUSIBLE: std::ops::Range<u64> = 1_577_836_800..2_524_608_000;
/// Channels blocked at a time; the one blocked longest goes first.
const MOST: usize = 1000;

/// When a channel counts as looping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `STREAM_LOOP_DETECTION_ENABLED`.
    pub is_enabled: bool,
    /// `STREAM_LOOP_DETECTION_THRESHOLD_S`: how old the newest piece may be.
    pub threshold: Duration,
    /// `STREAM_LOOP_CHECK_INTERVAL_S`.
    pub every: Duration,
    /// `STREAM_LOOP_RETENTION_MINUTES`: how long a channel stays blocked; zero is until it is cleared.
    pub retention: Duration,
}

/// The rules in force and the channels that are blocked.
#[derive(Debug)]
pub struct Loops {
    rules: Mutex<Rules>,
    blocked: Mutex<BTreeMap<String, Timestamp>>,
}

impl Loops {
    /// Nothing is blocked.
    pub fn new(rules: Rules) -> Self {
        Self { rules: Mutex::new(rules), blocked: Mutex::default() }
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        *self.rules.lock()
    }

    /// Other rules from now on, until the service stops.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.lock() = rules;
    }

    /// Whether the channel is blocked.
    pub fn is_blocked(&self, key: &StreamKey) -> bool {
        self.forget_old(Timestamp::now());
        self.blocked.lock().contains_key(key.as_str())
    }

    /// Every blocked channel, and since when it is.
    pub fn blocked(&self) -> BTreeMap<String, Timestamp> {
        self.forget_old(Timestamp::now());
        self.blocked.lock().clone()
    }

    /// Lets a channel play again. False when it was not blocked.
    pub fn clear(&self, key: &str) -> bool {
        self.blocked.lock().remove(key).is_some()
    }

    /// Lets all of them play again. Tells how many there were.
    pub fn clear_all(&self) -> usize {
        std::mem::take(&mut *self.blocked.lock()).len()
    }

    fn block(&self, key: &StreamKey, now: Timestamp) {
        let mut blocked = self.blocked.lock();
        blocked.insert(key.to_string(), now);
        if blocked.len() > MOST
            && let Some(oldest) = blocked.iter().min_by_key(|(_, since)| **since).map(|(key, _)| key.clone())
        {
            blocked.remove(&oldest);
        }
    }

    fn forget_old(&self, now: Timestamp) {
        let retention = self.rules().retention;
        if !retention.is_zero() {
            self.blocked.lock().retain(|_, since| age(now.as_second(), since.as_second()) < retention);
        }
    }
}

/// Looks at what plays until it is told to stop.
pub async fn run(relay: Relay, loops: Arc<Loops>, stop: CancellationToken) {
    while stop.run_until_cancelled(sleep(loops.rules().every)).await.is_some() {
        let rules = loops.rules();
        if rules.is_enabled {
            look(&relay, &loops, rules, Timestamp::now());
        }
    }
}

fn look(relay: &Relay, loops: &Loops, rules: Rules, now: Timestamp) {
    for session in relay.sessions() {
        let newest = session.stats.and_then(|stats| stats.live?.last);
        let Some(behind) = newest.and_then(|newest| behind(newest, now)) else { continue };
        if behind > rules.threshold {
            tracing::warn!(stream = %session.key, behind_s = behind.as_secs(), "the channel is hours old: it loops");
            loops.block(&session.key, now);
            relay.end(&session.key, EndReason::Looping);
        }
    }
}

/// How old the newest piece is; `None` if the engine talks nonsense.
fn behind(newest: u64, now: Timestamp) -> Option<Duration> {
    let newest = Some(newest).filter(|newest| PLAUSIBLE.contains(newest))?;
    Some(age(now.as_second(), i64::try_from(newest).ok()?))
}

fn age(now: i64, then: i64) -> Duration {
    Duration::from_secs(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(retention: Duration) -> Rules {
        Rules {
            is_enabled: true,
            threshold: Duration::from_hours(1),
            every: Duration::from_secs(10),
            retention,
        }
    }

    #[test]
    fn a_blocked_channel_is_free_again_after_its_time_or_when_it_is_cleared() {
        let (key, long_ago) = (StreamKey::new("a"), Timestamp::now() - Duration::from_mins(10));
        let loops = Loops::new(rules(Duration::from_mins(5)));
        loops.block(&key, long_ago);
        assert!(!loops.is_blocked(&key));
        let loops = Loops::new(rules(Duration::ZERO));
        loops.block(&key, long_ago);
        assert!(loops.is_blocked(&key));
        assert!(loops.clear("a") && !loops.clear("a") && !loops.is_blocked(&key));
    }

    #[test]
    fn nonsense_is_not_old() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(behind(1_799_990_000, now), Some(Duration::from_secs(10_000)));
        assert_eq!(behind(1_800_000_100, now), Some(Duration::ZERO));
        assert_eq!((behind(0, now), behind(u64::MAX, now)), (None, None));
    }
}
