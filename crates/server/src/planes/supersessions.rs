//! Engines that another program uses for the same channel: two gateways on one engine, each of whose starts ends the
//! other's session.

use std::collections::HashMap;
use std::time::Duration;

use acemux_engine::Hash;
use acemux_fleet::member::EngineKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Sessions that another one superseded count for so long; so long the engine is avoided for the channel.
const WINDOW: Duration = Duration::from_mins(1);
/// Once may be anything; twice in the window is another program.
const ENOUGH: usize = 2;
/// Channels remembered.
const MOST: usize = 1024;

/// Sessions that were superseded lately, by channel and engine.
#[derive(Default)]
pub(crate) struct Supersessions(Mutex<HashMap<(Hash, EngineKey), Vec<Instant>>>);

impl Supersessions {
    /// Our session of this channel was superseded there. True when another program is to be assumed.
    pub(crate) fn superseded(&self, channel: Hash, engine: &EngineKey) -> bool {
        let now = Instant::now();
        let mut supersessions = self.0.lock();
        supersessions.retain(|_, times| times.last().is_some_and(|at| is_recent(*at, now)));
        let key = (channel, engine.clone());
        if supersessions.len() >= MOST && !supersessions.contains_key(&key) {
            return false;
        }
        let times = supersessions.entry(key).or_default();
        times.retain(|at| is_recent(*at, now));
        times.push(now);
        times.len() >= ENOUGH
    }

    /// Whether the engine is avoided for the channel.
    pub(crate) fn is_contested(&self, channel: Hash, engine: &EngineKey) -> bool {
        let now = Instant::now();
        let supersessions = self.0.lock();
        let times = supersessions.get(&(channel, engine.clone()));
        times.is_some_and(|times| times.iter().filter(|at| is_recent(**at, now)).count() >= ENOUGH)
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_engine_is_avoided_for_a_channel_that_was_superseded_there_twice_in_a_minute() {
        let supersessions = Supersessions::default();
        let (one, other) = (EngineKey::named("a:1"), EngineKey::named("b:1"));
        let channel: Hash = "1".repeat(40).parse().unwrap();
        assert!(!supersessions.superseded(channel, &one));
        tokio::time::advance(WINDOW).await;
        assert!(!supersessions.superseded(channel, &one), "the first one is too long ago");
        assert!(supersessions.superseded(channel, &one));
        assert!(supersessions.is_contested(channel, &one));
        assert!(!supersessions.is_contested(channel, &other));
        tokio::time::advance(WINDOW).await;
        assert!(!supersessions.is_contested(channel, &one));
    }
}
