//! Streams leave engines that are gone, going, have shown to be bad, or have forgotten them, before their viewers notice.
//!
//! An engine that breaks under a stream is noticed by the stream itself; this is about what only the fleet knows. A
//! stream is told again after a while when it is still there: another engine may have become free.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::dispatch::Engines;
use acemux_relay::origin::SourceId;
use acemux_relay::session::Phase;
use acemux_relay::{Relay, StreamKey};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::planes::reported::Reported;
use crate::record::recorder::Recorder;

/// Between two looks at the engines.
const EVERY: Duration = Duration::from_millis(500);
/// Before a stream that found no other engine is told again.
const AGAIN: Duration = Duration::from_secs(30);

/// Runs until it is told to stop.
pub async fn run(
    relay: Relay,
    engines: Arc<Engines>,
    reported: Arc<Reported>,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
) {
    let (mut told, mut lost) = (HashMap::new(), HashMap::new());
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        look(&relay, &engines, &mut told);
        look_for_lost(&relay, &mut lost);
        // What others play cannot be moved; it has ended with its engine, whether they say so or not.
        for ended in reported.lost(|engine| engines.find(engine).is_some()) {
            recorder.reported(&ended, false);
        }
    }
}

fn look(relay: &Relay, engines: &Engines, told: &mut HashMap<SourceId, Instant>) {
    let now = Instant::now();
    told.retain(|_, at| now.duration_since(*at) < AGAIN);
    for source in relay.sources() {
        let Some(why) = why_leave(engines, &source) else {
            told.remove(&source);
            continue;
        };
        if let Entry::Vacant(news) = told.entry(source) {
            let streams = relay.leave(news.key(), why);
            tracing::info!(engine = %news.key(), streams, why, "streams leave an engine");
            news.insert(now);
        }
    }
}

/// The other direction: a stream here whose playback is there no longer.
fn look_for_lost(relay: &Relay, told: &mut HashMap<StreamKey, Instant>) {
    let now = Instant::now();
    told.retain(|_, at| now.duration_since(*at) < AGAIN);
    for session in relay.sessions() {
        let is_lost = session.phase == Phase::Live && session.stats.is_some_and(|stats| stats.is_lost);
        if is_lost && !told.contains_key(&session.key) {
            relay.leave_with(
                &session.key,
                "the engine has forgotten the playback, or plays another one instead",
            );
            told.insert(session.key, now);
        }
    }
}

fn why_leave(engines: &Engines, source: &SourceId) -> Option<&'static str> {
    match engines.find(source.as_str()) {
        Some(member) => engines.why_leave(&member),
        None => Some("the engine is gone"),
    }
}
