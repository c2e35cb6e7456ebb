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

    /// All of them, by id.
    pub fn all(&self) -> Vec<ForeignStream> {
        self.0.lock().values().map(|stream| stream.known.clone()).collect()
    }
}
