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
use acemux_store::{Store, StoreError};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::record::saved;

/// Times of broadcasts outside of these years are nonsense, not old.
const PLAUSIBLE: std::ops::Range<u64> = 1_577_836_800..2_524_608_000;
/// Where the blocked channels stand in the store.
const BLOCKED: &str = "looping_streams";
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
pub struct Loops {
    rules: watch::Sender<Rules>,
    blocked: Mutex<BTreeMap<String, Timestamp>>,
    store: Store,
    /// One writes at a time, so that what is written last is what is blocked now.
    saving: tokio::sync::Mutex<()>,
}

impl Loops {
    /// With what was blocked when the service last ran: "until it is cleared" is longer than a run.
    pub async fn load(rules: Rules, store: Store) -> Result<Self, StoreError> {
        let blocked = saved::read(&store, BLOCKED).await?.unwrap_or_default();
        let (rules, blocked) = (watch::Sender::new(rules), Mutex::new(blocked));
        Ok(Self { rules, blocked, store, saving: tokio::sync::Mutex::default() })
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        *self.rules.borrow()
    }

    /// Other rules from now on.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.send_if_modified(|current| {
            let is_news = *current != rules;
            *current = rules;
            is_news
        });
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
    pub async fn clear(&self, key: &str) -> Result<bool, StoreError> {
        let was_blocked = self.blocked.lock().remove(key).is_some();
        if was_blocked {
            self.save().await?;
        }
        Ok(was_blocked)
    }

    /// Lets all of them play again. Tells how many there were.
    pub async fn clear_all(&self) -> Result<usize, StoreError> {
        let count = std::mem::take(&mut *self.blocked.lock()).len();
        self.save().await?;
        Ok(count)
    }

    async fn save(&self) -> Result<(), StoreError> {
        let _turn = self.saving.lock().await;
        let blocked = self.blocked.lock().clone();
        saved::write(&self.store, BLOCKED, &blocked).await
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
    let mut changes = loops.rules.subscribe();
    loop {
        let rules = *changes.borrow_and_update();
        let due = async {
            // Rules that change are followed at once, however long the old ones would have had it wait.
            tokio::select! { () = sleep(rules.every) => {} Ok(()) = changes.changed() => {} }
        };
        if stop.run_until_cancelled(due).await.is_none() {
            return;
        }
        let rules = loops.rules();
        if rules.is_enabled
            && look(&relay, &loops, rules, Timestamp::now())
            && let Err(error) = loops.save().await
        {
            tracing::warn!(%error, "a restart will forget which channels loop");
        }
    }
}

/// True when a channel was found to loop.
fn look(relay: &Relay, loops: &Loops, rules: Rules, now: Timestamp) -> bool {
    let mut is_news = false;
    for session in relay.sessions() {
        let newest = session.stats.and_then(|stats| stats.live?.last);
        let Some(behind) = newest.and_then(|newest| behind(newest, now)) else { continue };
        if behind > rules.threshold {
            tracing::warn!(stream = %session.key, behind_s = behind.as_secs(), "the channel is hours old: it loops");
            loops.block(&session.key, now);
            relay.end(&session.key, EndReason::Looping);
            is_news = true;
        }
    }
    is_news
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

    #[tokio::test]
    async fn a_blocked_channel_is_free_again_after_its_time_or_when_it_is_cleared() {
        let (key, long_ago) = (StreamKey::new("a"), Timestamp::now() - Duration::from_mins(10));
        let loops = Loops::load(rules(Duration::from_mins(5)), Store::in_memory()).await.unwrap();
        loops.block(&key, long_ago);
        assert!(!loops.is_blocked(&key));
        let loops = Loops::load(rules(Duration::ZERO), Store::in_memory()).await.unwrap();
        loops.block(&key, long_ago);
        assert!(loops.is_blocked(&key));
        assert!(loops.clear("a").await.unwrap() && !loops.clear("a").await.unwrap());
        assert!(!loops.is_blocked(&key));
    }

    #[tokio::test]
    async fn what_is_blocked_and_what_was_cleared_is_known_after_a_restart() {
        let (store, now) = (Store::in_memory(), Timestamp::now());
        let loops = Loops::load(rules(Duration::ZERO), store.clone()).await.unwrap();
        loops.block(&StreamKey::new("a"), now);
        loops.block(&StreamKey::new("b"), now);
        loops.save().await.unwrap();
        loops.clear("a").await.unwrap();
        let again = Loops::load(rules(Duration::ZERO), store.clone()).await.unwrap();
        assert_eq!(again.blocked().into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(again.clear_all().await.unwrap(), 1);
        let again = Loops::load(rules(Duration::ZERO), store).await.unwrap();
        assert!(again.blocked().is_empty());
    }

    #[test]
    fn nonsense_is_not_old() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(behind(1_799_990_000, now), Some(Duration::from_secs(10_000)));
        assert_eq!(behind(1_800_000_100, now), Some(Duration::ZERO));
        assert_eq!((behind(0, now), behind(u64::MAX, now)), (None, None));
    }
}
