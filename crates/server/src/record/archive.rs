//! What outlives a restart, as the other parts see it: playbacks that an earlier run left open, and known infohashes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use acemux_engine::{
    Endpoint, EnginePath, Family, Hash, Identities, Infohash, Journal, LeftOpen, Lesson, StartBy, Witness,
};
use acemux_store::identities::{Delivery, Form, Identity};
use acemux_store::playbacks::{NewPlayback, OpenPlayback, PlaybackRow};
use acemux_store::{OpenError, Store, StoreError};
use jiff::Timestamp;
use parking_lot::Mutex;
use slab::Slab;

/// The value of `DB_PATH` that keeps nothing.
pub(crate) const NOWHERE: &str = ":memory:";

/// The store as it was opened, and whose engines are ours.
pub struct Archive {
    /// The store.
    pub store: Store,
    /// The data directory's instance id; none when nothing is kept.
    pub instance: Option<String>,
}

/// The playbacks that are open now, kept where a crash does not reach.
pub struct PlaybackJournal {
    store: Store,
    rows: Mutex<Slab<PlaybackRow>>,
    /// From an earlier run, until their engine is met.
    left: Mutex<Vec<OpenPlayback>>,
}

impl Archive {
    /// Opens `DB_PATH`. Reads the whole file and may wait two seconds for a lock: to be called before there is anything
    /// to delay.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if path == Path::new(NOWHERE) {
            return Ok(Self { store: Store::in_memory(), instance: None });
        }
        let opened = Store::open(path)?;
        for note in &opened.notes {
            tracing::warn!("{note}");
        }
        Ok(Self { store: opened.store, instance: Some(opened.instance_id) })
    }

    /// The journal with what an earlier run left in it.
    pub async fn journal(&self) -> Result<Arc<PlaybackJournal>, StoreError> {
        let left = self.store.open_playbacks().await?;
        let store = self.store.clone();
        Ok(Arc::new(PlaybackJournal { store, rows: Mutex::default(), left: Mutex::new(left) }))
    }

    /// What is known of channels from earlier runs; what is learned is remembered.
    pub async fn identities(&self) -> Result<Identities, StoreError> {
        let identities = self.store.identities().await?.into_iter().filter_map(|row| identity(&row));
        let deliveries = self.store.deliveries().await?.into_iter().filter_map(|row| delivery(&row));
        let store = self.store.clone();
        let known: Vec<_> = identities.chain(deliveries).collect();
        Ok(Identities::new(known, move |lesson| keep(&store, lesson)))
    }
}

fn identity(row: &Identity) -> Option<Lesson> {
    let (hash, infohash) = (row.id.parse().ok()?, row.infohash.parse().ok()?);
    Some(Lesson::Is { hash, infohash, witness: Witness::named(&row.witness)? })
}

fn delivery(row: &Delivery) -> Option<Lesson> {
    let hash = row.hash.parse().ok()?;
    let by = match row.form {
        Form::ContentId => StartBy::ContentId(hash),
        Form::Infohash => StartBy::Infohash(Infohash::new(hash)),
    };
    Some(Lesson::Delivers { channel: row.channel.parse().ok()?, family: Family::named(&row.family)?, by })
}

fn keep(store: &Store, lesson: &Lesson) {
    match lesson {
        Lesson::Is { hash, infohash, witness } => store.remember(Identity {
            id: hash.to_string(),
            infohash: infohash.to_string(),
            witness: witness.as_str().to_owned(),
        }),
        Lesson::Delivers { channel, family, by } => store.remember_delivery(Delivery {
            channel: channel.to_string(),
            family: family.as_str().to_owned(),
            form: form_of(*by),
            hash: by.hash().to_string(),
        }),
        Lesson::Forgotten(hashes) => store.forget(hashes.iter().map(Hash::to_string).collect()),
    }
}

/// What kind of name it is.
pub(crate) fn form_of(by: StartBy) -> Form {
    match by {
        StartBy::ContentId(_) => Form::ContentId,
        StartBy::Infohash(_) => Form::Infohash,
    }
}

impl PlaybackJournal {
    /// Gives up playbacks of engines that were not met: they are gone, and their playbacks with them.
    pub fn give_up_the_rest(&self) {
        for open in self.left.lock().drain(..) {
            self.store.playback_closed(open.row);
        }
    }
}

impl fmt::Debug for PlaybackJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaybackJournal").finish_non_exhaustive()
    }
}

impl Journal for PlaybackJournal {
    fn opened(&self, engine: &Endpoint, channel: Hash, command: &EnginePath) -> u64 {
        let row = self.store.playback_opened(NewPlayback {
            engine: engine.to_string(),
            endpoint: engine.to_string(),
            infohash: channel.to_string(),
            command: Some(command.as_str().to_owned()),
            opened_at: Timestamp::now(),
        });
        self.rows.lock().insert(row) as u64
    }

    fn closed(&self, entry: u64) {
        let entry = usize::try_from(entry).unwrap_or(usize::MAX);
        if let Some(row) = self.rows.lock().try_remove(entry) {
            self.store.playback_closed(row);
        }
    }

    fn left_open(&self, engine: &Endpoint) -> Vec<LeftOpen> {
        let endpoint = engine.to_string();
        let mut left = self.left.lock();
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            left.drain(..).partition(|open| open.playback.endpoint == endpoint);
        *left = elsewhere;
        here.into_iter().filter_map(|open| self.orphan(&open)).collect()
    }
}

impl PlaybackJournal {
    /// A line that cannot be acted on is struck out.
    fn orphan(&self, open: &OpenPlayback) -> Option<LeftOpen> {
        let channel = open.playback.infohash.parse().ok();
        let command = open.playback.command.as_deref().and_then(|command| EnginePath::parse(command).ok());
        let Some((channel, command)) = channel.zip(command) else {
            self.store.playback_closed(open.row);
            return None;
        };
        let entry = self.rows.lock().insert(open.row) as u64;
        Some(LeftOpen { entry, channel, command })
    }
}

#[cfg(test)]
mod tests {
    use acemux_engine::ContentId;

    use super::*;

    const CHANNEL: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn what_a_crash_left_open_is_handed_to_its_engine_once_and_struck_out_when_closed() {
        let archive = Archive::open(Path::new(NOWHERE)).unwrap();
        let before = archive.journal().await.unwrap();
        let command = EnginePath::parse("/ace/cmd/1/2").unwrap();
        before.opened(&endpoint("127.0.0.1:19000"), CHANNEL.parse().unwrap(), &command);
        let ended = before.opened(&endpoint("127.0.0.1:19000"), CHANNEL.parse().unwrap(), &command);
        before.closed(ended);

        let after = archive.journal().await.unwrap();
        assert!(after.left_open(&endpoint("127.0.0.1:19001")).is_empty());
        let left = after.left_open(&endpoint("127.0.0.1:19000"));
        assert_eq!((left.len(), left[0].command.as_str()), (1, "/ace/cmd/1/2"));
        assert!(after.left_open(&endpoint("127.0.0.1:19000")).is_empty());
        after.closed(left[0].entry);
        assert!(archive.store.open_playbacks().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn playbacks_of_engines_that_are_gone_are_given_up() {
        let archive = Archive::open(Path::new(NOWHERE)).unwrap();
        let command = EnginePath::parse("/ace/cmd/1/2").unwrap();
        let before = archive.journal().await.unwrap();
        before.opened(&endpoint("127.0.0.1:19000"), CHANNEL.parse().unwrap(), &command);
        archive.journal().await.unwrap().give_up_the_rest();
        assert!(archive.store.open_playbacks().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_channel_is_and_by_what_it_plays_is_known_after_a_restart_until_it_is_forgotten() {
        let archive = Archive::open(Path::new(NOWHERE)).unwrap();
        let id: Hash = CHANNEL.parse().unwrap();
        let infohash = Infohash::new("0a48dd7ba04aef2f5ee46071b4a0e0c4bd8eb8a0".parse().unwrap());
        let (channel, by) = (ContentId::Infohash(infohash), StartBy::ContentId(id));
        let before = archive.identities().await.unwrap();
        before.delivered(ContentId::Id(id), by, Some(infohash), Family::Outpace);
        let after = archive.identities().await.unwrap();
        assert_eq!(after.known(id), Some(infohash));
        assert!(after.has_delivered(channel, by, Family::Outpace));
        assert!(after.forget(infohash.hash()) && !after.forget(id));
        let later = archive.identities().await.unwrap();
        assert_eq!((later.known(id), later.record(infohash.hash())), (None, None));
    }
}
