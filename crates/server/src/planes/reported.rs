//! Streams that other programs run on our engines and report (`POST /events/stream_started`): each holds a slot, so that
//! its engine is neither overloaded nor removed under it.
//!
//! What is reported is believed only as far as that: its URLs are never called, and an engine must be one we know.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_fleet::dispatch::Slot;
use acemux_fleet::member::Member;
use jiff::Timestamp;
use parking_lot::Mutex;

/// Streams that may be reported at a time.
const MOST: usize = 1_000;

/// The reported streams.
#[derive(Default)]
pub struct Reported(Mutex<BTreeMap<String, Stream>>);

/// One of them.
struct Stream {
    known: ForeignStream,
    /// None when the engine was full already: it is used beyond its slots, which we cannot forbid.
    _slot: Option<Slot>,
}

/// What is known of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignStream {
    /// Its id.
    pub id: String,
    /// `content_id`, `infohash`, `url` or `magnet`.
    pub key_type: String,
    /// What it plays.
    pub key: String,
    /// The engine it runs on.
    pub container_id: String,
    /// The engine's name for it.
    pub playback_session_id: String,
    /// False for video on demand.
    pub is_live: bool,
    /// When it was reported.
    pub started_at: Timestamp,
}

impl Reported {
    /// A stream runs on this engine. A second report of the same id replaces the first. False when there are too many.
    pub fn start(
        &self,
        engine: &Arc<Member>,
        slot: impl FnOnce(&Arc<Member>) -> Option<Slot>,
        known: ForeignStream,
    ) -> bool {
        let mut streams = self.0.lock();
        if streams.len() >= MOST && !streams.contains_key(&known.id) {
            return false;
        }
        let before = streams.remove(&known.id);
        drop(before);
        streams.insert(known.id.clone(), Stream { known, _slot: slot(engine) });
        true
    }

    /// The stream of this id has ended. Without an id it is the only one on that engine; when that is not certain none
    /// is ended.
    pub fn end(&self, id: Option<&str>, engine: Option<&str>) -> Option<ForeignStream> {
        let mut streams = self.0.lock();
        let id = match (id, engine) {
            (Some(id), _) => id.to_owned(),
            (None, Some(engine)) => {
                let mut on_it = streams.values().filter(|stream| stream.known.container_id == engine);
                let only = on_it.next().filter(|_| on_it.next().is_none())?;
                only.known.id.clone()
            }
            (None, None) => return None,
        };
        streams.remove(&id).map(|stream| stream.known)
    }

    /// Those that have ended with their engines, which are there no more.
    pub fn lost(&self, is_there: impl Fn(&str) -> bool) -> Vec<ForeignStream> {
        let mut streams = self.0.lock();
        let lost = streams.extract_if(.., |_, stream| !is_there(&stream.known.container_id));
        lost.map(|(_, stream)| stream.known).collect()
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<ForeignStream> {
        self.0.lock().values().map(|stream| stream.known.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use acemux_engine::{Endpoint, Limit, Timings};
    use acemux_fleet::dispatch::{DispatchOptions, Engines, Outlook};

    use super::*;

    #[tokio::test]
    async fn what_was_reported_on_an_engine_that_is_gone_has_ended() {
        let [stays, goes]: [Endpoint; 2] = ["127.0.0.1:6878", "127.0.0.1:6879"].map(|at| at.parse().unwrap());
        let options = DispatchOptions {
            slots: 1,
            misses_allowed: 3,
            selection: Limit::new(Duration::ZERO),
            startup: Limit::new(Duration::ZERO),
            timings: Timings::default(),
            journal: None,
        };
        let engines = Engines::new(&[stays.clone(), goes.clone()], options, Outlook::Static);
        let reported = Reported::default();
        for engine in engines.all().iter() {
            let known = ForeignStream {
                id: format!("on {}", engine.key),
                key_type: "content_id".into(),
                key: "x".into(),
                container_id: engine.key.to_string(),
                playback_session_id: "1".into(),
                is_live: true,
                started_at: Timestamp::now(),
            };
            assert!(reported.start(engine, |engine| engines.slot_on(engine), known));
            assert_eq!(engine.used(), 1);
        }
        assert!(reported.lost(|_| true).is_empty());
        let lost = reported.lost(|engine| engine != goes.to_string());
        assert_eq!(lost.iter().map(|stream| &*stream.container_id).collect::<Vec<_>>(), [goes.to_string()]);
        let used = |at: &Endpoint| engines.find(&at.to_string()).map(|engine| engine.used());
        assert_eq!((used(&stays), used(&goes), reported.all().len()), (Some(1), Some(0), 1));
    }
}
