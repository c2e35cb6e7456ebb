//! Where the planes meet: a stream of the relay becomes a playback on an engine.

mod reading;
mod recording;
mod report;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Stage as EngineStage;
use acemux_engine::{
    ContentId, EngineError, Hash, Identities, Infohash, Liveness, Playback, Record, Resolution, Why,
};
use acemux_relay::StreamKey;
use acemux_relay::origin::{
    Lack, OpenError, OpenRequest, Origin, Source, SourceId, Stage, Tenant, Upstream, Urgency,
};
use futures_util::future::{BoxFuture, Either, select};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, timeout};

use acemux_fleet::dispatch::{
    Engines, Group, Lack as Missing, NoSlot, Occupant, Priority, Request, Slot, Trial,
};
use acemux_fleet::member::{EngineKey, Member};

use self::reading::{Begun, Names, PlaybackProof, Reading, contested_by_another, unplayable};
use self::recording::EngineRecording;
use self::report::EngineReport;
pub use self::report::Transfers;
use crate::planes::recent_refusals::RecentRefusals;
use crate::planes::supersessions::Supersessions;

/// Marks the key of a channel whose infohash no engine could tell yet.
const UNRESOLVED: &str = "id:";

/// How long one engine is asked for a channel's infohash before another one is asked beside it. A look-up takes
/// milliseconds where it is known, and seconds where it is not or the engine hangs.
const HEAD_START: Duration = Duration::from_secs(1);

/// Opens streams on AceStream engines. Cheap to clone.
#[derive(Clone)]
pub struct EngineOrigin {
    engines: Arc<Engines>,
    identities: Arc<Identities>,
    refusals: Arc<RecentRefusals>,
    supersessions: Arc<Supersessions>,
    transfers: Arc<Transfers>,
}

/// A playback with the slot it holds; the slot is returned when the engine has answered the stop. The slot is shared,
/// because a start that is made again keeps it in between.
struct Playing {
    /// Taken when the slot outlives it.
    playback: Option<Playback>,
    slot: Arc<Slot>,
}

impl Playing {
    fn new(playback: Playback, slot: Arc<Slot>) -> Self {
        Self { playback: Some(playback), slot }
    }

    fn get(&self) -> &Playback {
        self.playback.as_ref().expect("whoever takes it takes self")
    }

    /// It is stopped, and its slot used for another one.
    fn give_up(mut self) -> Arc<Slot> {
        drop(self.playback.take());
        Arc::clone(&self.slot)
    }

    /// Another client's session has taken its place on the engine: it is not stopped, because that would end the other.
    fn forsake(mut self) -> Arc<Slot> {
        if let Some(playback) = self.playback.take() {
            playback.forsake();
        }
        Arc::clone(&self.slot)
    }
}

impl Drop for Playing {
    /// Before the playback's own drop: who waits for the slot is to know that it comes.
    fn drop(&mut self) {
        let Some(playback) = self.playback.take() else { return };
        if playback.is_superseded() {
            return playback.forsake();
        }
        self.slot.leaving();
    }
}

/// A session of the relay as the dispatch knows it.
#[derive(Debug)]
struct Session(Tenant);

impl Occupant for Session {
    fn groups(&self) -> Vec<Group> {
        self.0.groups().into_iter().map(|group| Group::from(group.first())).collect()
    }

    fn idle(&self) -> Option<(Instant, Group)> {
        self.0.idle().map(|(since, last)| (since, Group::from(last.first())))
    }

    fn paused(&self) -> Option<Instant> {
        self.0.paused()
    }

    fn make_room(&self) -> bool {
        self.0.make_room()
    }
}

impl EngineOrigin {
    /// Opens streams on `engines`, and remembers channels in `identities`.
    pub fn new(engines: Arc<Engines>, identities: Arc<Identities>) -> Self {
        Self {
            engines,
            identities,
            refusals: Arc::default(),
            supersessions: Arc::default(),
            transfers: Arc::default(),
        }
    }

    /// Where streams are opened.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// What playbacks that are over have moved.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// The one key of a channel, whatever form the request has.
    ///
    /// A value that may be a content id or an infohash is resolved on an engine first, unless the answer is known.
    /// Without an answer the key says so, and the start reveals the infohash.
    pub async fn key(&self, content: ContentId) -> StreamKey {
        if let Some(infohash) = self.identities.known(content.hash()) {
            return key_of(infohash);
        }
        let hash = match content {
            ContentId::Infohash(infohash) => return key_of(infohash),
            ContentId::Id(hash) => hash,
        };
        match self.resolve(hash).await {
            Resolution::Known(infohash) => key_of(infohash),
            // Both lookups said no, on an engine that does not say back what it is asked. The one for content ids is
            // definite, the one for infohashes is not: a swarm may take longer to find than the lookup takes. So it can
            // only be an infohash.
            Resolution::Unresolved(Why::Negative) => key_of(Infohash::new(hash)),
            Resolution::Unresolved(Why::NoAnswer) => unresolved_key(hash),
        }
    }

    /// Asks one engine, and another one when the first has no infohash, because it may be cut off from the network, or
    /// does not answer soon: then beside it.
    async fn resolve(&self, hash: Hash) -> Resolution {
        let mut asked = self.engines.to_ask().into_iter();
        // None may run yet: the start then waits for one, and reveals the infohash.
        let Some(one) = asked.next() else { return Resolution::Unresolved(Why::NoAnswer) };
        let mut first = pin!(self.identities.resolve(&one.engine, hash));
        let Some(another) = asked.next() else { return first.await };
        let second = self.identities.resolve(&another.engine, hash);
        match timeout(HEAD_START, &mut first).await {
            Ok(known @ Resolution::Known(_)) => known,
            Ok(unresolved) => better(unresolved, second.await),
            Err(_) => match select(first, pin!(second)).await {
                Either::Left((known @ Resolution::Known(_), _))
                | Either::Right((known @ Resolution::Known(_), _)) => known,
                Either::Left((first, second)) => better(first, second.await),
                Either::Right((second, first)) => better(first.await, second),
            },
        }
    }

    /// The key a channel has if it is known, for pages that only look.
    pub fn known_key(&self, content: ContentId) -> Vec<StreamKey> {
        let hash = content.hash();
        let resolved = self.identities.known(hash).map(key_of);
        let unresolved = matches!(content, ContentId::Id(_)).then(|| unresolved_key(hash));
        resolved.into_iter().chain([key_of(Infohash::new(hash))]).chain(unresolved).collect()
    }

    /// All that is known of a channel's name.
    pub fn identity(&self, hash: Hash) -> Option<Record> {
        self.identities.record(hash)
    }

    /// Forgets the channel of this name.
    pub fn forget(&self, hash: Hash) {
        self.identities.forget(hash);
    }

    async fn open_somewhere(self, request: OpenRequest) -> Result<Upstream, OpenError> {
        let content = content_of(&request.key);
        let mut exclude: Vec<EngineKey> = request.exclude.iter().map(key_in).collect();
        self.avoid_refusals(&request, content, &mut exclude)?;
        self.avoid_contested(content, &mut exclude)?;
        let slot = self.slot(&request, content, exclude).await.map_err(|error| no_slot(&error))?;
        let slot = Arc::new(slot);
        let member = Arc::clone(slot.member());
        request.progress.at(source_of(&member));
        let names =
            Names::new(&self, &member, content).await.ok_or_else(|| unplayable(&source_of(&member)))?;
        let trial = Arc::new(slot.trial(request.key.as_str()));
        if trial.wants_company() {
            request.progress.doubt();
        }
        request.progress.enter(Stage::Call);
        // The slot is held until what came of the start is known: its next owner is chosen by that.
        match names.start(&self, &member, Arc::clone(&slot)).await {
            Ok(begun) => {
                trial.answered();
                self.refusals.forget(content.hash());
                Ok(self.upstream(member, &request.key, names, begun, trial))
            }
            Err(error) => Err(self.refused(&names, content, &trial, &error)),
        }
    }

    fn refused(&self, names: &Names, content: ContentId, trial: &Trial, error: &EngineError) -> OpenError {
        let member = trial.member();
        match error {
            EngineError::Shortage { source } => {
                trial.was_not_begun();
                self.engines.short(source);
            }
            EngineError::Timeout { stage: EngineStage::Start } => trial.unanswered(),
            EngineError::Unreachable { .. } | EngineError::Timeout { .. } => trial.failed(true),
            _ => trial.failed(false),
        }
        let open_error = open_error(error, &source_of(member));
        if names.is_refusal(error) {
            self.refusals.note(content.hash(), &member.key, &open_error);
        }
        open_error
    }

    /// Engines on which another program keeps starting this channel are left to it.
    fn avoid_contested(&self, content: ContentId, exclude: &mut Vec<EngineKey>) -> Result<(), OpenError> {
        let members = self.engines.all();
        let is_contested =
            |member: &&Arc<Member>| self.supersessions.is_contested(content.hash(), &member.key);
        let contested: Vec<_> = members.iter().filter(is_contested).collect();
        exclude.extend(contested.iter().map(|member| member.key.clone()));
        match contested.first() {
            Some(member) if contested.len() == members.len() => Err(contested_by_another(&source_of(member))),
            _ => Ok(()),
        }
    }

    /// A start avoids the engines that have just refused the channel. When all have, that is the answer. A stream that
    /// viewers are held for is tried everywhere.
    fn avoid_refusals(
        &self,
        request: &OpenRequest,
        content: ContentId,
        exclude: &mut Vec<EngineKey>,
    ) -> Result<(), OpenError> {
        if matches!(request.urgency, Urgency::Recovery { .. }) {
            return Ok(());
        }
        let members = self.engines.all();
        let others = members.iter().filter(|member| !exclude.contains(&member.key));
        let known: Vec<_> =
            others.map(|member| (member, self.refusals.find(content.hash(), &member.key))).collect();
        let refused: Vec<_> =
            known.iter().filter_map(|(member, known)| Some((member, known.clone()?))).collect();
        if let Some((_, error)) = refused.first().filter(|_| refused.len() == known.len()) {
            return Err(error.clone());
        }
        exclude.extend(refused.iter().map(|(member, _)| member.key.clone()));
        Ok(())
    }

    async fn slot(
        &self,
        request: &OpenRequest,
        content: ContentId,
        exclude: Vec<EngineKey>,
    ) -> Result<Slot, NoSlot> {
        let priority = match request.urgency {
            Urgency::Hedge => Priority::Hedge,
            Urgency::Start => Priority::Start,
            Urgency::Recovery { viewers } => Priority::Recovery(viewers),
        };
        let stream = if let ContentId::Infohash(infohash) = content { Some(infohash) } else { None };
        let occupant = Arc::new(Session(request.tenant.clone()));
        self.engines.slot(Request { stream, exclude, priority, asked: request.asked, occupant }).await
    }

    fn upstream(
        &self,
        member: Arc<Member>,
        asked: &StreamKey,
        names: Names,
        begun: Begun,
        trial: Arc<Trial>,
    ) -> Upstream {
        let revealed = names.revealed(&begun);
        let key = revealed.map_or_else(|| asked.clone(), key_of);
        let started = begun.playing.get().started();
        let endpoint = member.engine.endpoint();
        let source = Source {
            id: source_of(&member),
            host: endpoint.host().to_owned(),
            port: endpoint.port(),
            container_id: member.key.to_string(),
            playback_session_id: started.playback_session_id.clone(),
            is_live: started.is_live != Liveness::Vod,
            supersedes: names.supersedes(),
        };
        let report = EngineReport::of(begun.playing.get(), names.runs_away(begun.by), &self.transfers);
        let proof = Arc::new(PlaybackProof::new(self, content_of(asked), trial, begun.by, revealed));
        let evidence = Arc::clone(&proof);
        if source.is_live {
            let reading = Reading { member, origin: self.clone(), names, proof, report: Arc::clone(&report) };
            let media = reading.media(begun);
            return Upstream { key, source, media, report, evidence, recording: None };
        }
        let recording = EngineRecording { id: source.id.clone(), playing: Arc::new(begun.playing) };
        let media = stream::pending().boxed();
        Upstream { key, source, media, report, evidence, recording: Some(Arc::new(recording)) }
    }
}

impl Origin for EngineOrigin {
    fn open(&self, request: OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> {
        self.clone().open_somewhere(request).boxed()
    }

    fn unwatched(&self) {
        self.engines.serve();
    }
}

/// Of two failures to resolve the one that says less: a definite no must come from every engine that was asked.
fn better(first: Resolution, second: Resolution) -> Resolution {
    match (first, second) {
        (_, Resolution::Known(infohash)) => Resolution::Known(infohash),
        (Resolution::Unresolved(Why::NoAnswer), Resolution::Unresolved(_)) => first,
        (_, second) => second,
    }
}

/// The key of a resolved channel is its infohash in lower case hex.
fn key_of(infohash: Infohash) -> StreamKey {
    StreamKey::new(infohash.to_string())
}

/// The key of a channel whose infohash is not known: the value as it was given.
fn unresolved_key(hash: Hash) -> StreamKey {
    StreamKey::new(format!("{UNRESOLVED}{hash}"))
}

fn content_of(key: &StreamKey) -> ContentId {
    let (text, resolved) = match key.as_str().strip_prefix(UNRESOLVED) {
        Some(text) => (text, false),
        None => (key.as_str(), true),
    };
    let hash: Hash = text.parse().expect("keys are made by this module from parsed hashes");
    if resolved { ContentId::Infohash(Infohash::new(hash)) } else { ContentId::Id(hash) }
}

/// An engine as the relay names it.
pub(crate) fn source_of(member: &Member) -> SourceId {
    SourceId::new(member.key.as_str())
}

fn key_in(source: &SourceId) -> EngineKey {
    EngineKey::named(source.as_str())
}

fn no_slot(error: &NoSlot) -> OpenError {
    let lack = match error {
        NoSlot::Stuck { lack: Missing::Ports, .. } => Lack::Addresses,
        NoSlot::Stuck { lack: Missing::Image, .. } => Lack::Program,
        NoSlot::Stuck { lack: Missing::Vpn, .. } => Lack::WayOut,
        NoSlot::QueueFull => Lack::Queue,
        _ => Lack::Room,
    };
    OpenError::NoCapacity { lack, detail: error.to_string() }
}

/// What the engine did, in the relay's words: which of its faults another engine may not have.
fn open_error(error: &EngineError, id: &SourceId) -> OpenError {
    let (detail, source_id) = (error.to_string(), Some(id.clone()));
    match error {
        EngineError::Unreachable { .. } | EngineError::Timeout { stage: EngineStage::Connect } => {
            OpenError::Unreachable { detail, source_id }
        }
        // Another engine would be of no use, and this one is not to be avoided.
        EngineError::Shortage { .. } => OpenError::NoCapacity { lack: Lack::Room, detail },
        EngineError::BadReply { .. } => OpenError::BadReply { detail, source_id },
        _ => OpenError::Failed { detail, source_id },
    }
}

/// The infohash of a stream, when it is known.
pub fn infohash_of(key: &StreamKey) -> Option<String> {
    (!key.as_str().starts_with(UNRESOLVED)).then(|| key.to_string())
}
