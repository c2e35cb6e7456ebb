//! Where the planes meet: a stream of the relay becomes a playback on an engine.

use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Stage as EngineStage;
use acemux_engine::{
    Body, ByteRange as FileRange, ContentId, EngineError, Extent as FileExtent, Hash, Identities, Infohash,
    Liveness, Playback, PlaybackStat, PlaybackStatus, Resolution, SourceSide, StartBy, Why,
};
use acemux_relay::StreamKey;
use acemux_relay::origin::{
    Lack, LivePosition, Media, OpenError, OpenRequest, Origin, Report, Source, SourceId, SourceStats, Stage,
    Upstream, Urgency,
};
use acemux_relay::output::recording::{ByteRange, Extent, Part, Recording};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::timeout;

use acemux_fleet::dispatch::{Engines, Lack as Missing, NoSlot, Priority, Slot};
use acemux_fleet::member::{EngineKey, Member};

use crate::refusals::Refusals;

/// Marks the key of a channel whose infohash no engine could tell yet.
const UNRESOLVED: &str = "id:";

/// Engines that are asked for a channel's infohash, one after the other.
const ASKED: usize = 2;

/// How long an engine may take to answer for a part of a recording: it fetches that part from the swarm first.
const FILE_HEAD: Duration = Duration::from_mins(1);

/// Opens streams on AceStream engines. Cheap to clone.
#[derive(Clone)]
pub struct EngineOrigin {
    engines: Arc<Engines>,
    identities: Arc<Identities>,
    refusals: Arc<Refusals>,
}

/// A playback with the slot it holds; the slot is returned when the engine has answered the stop. Shared, because a
/// start that is tried in a second form keeps its slot in between.
type Playing = Playback<Arc<Slot>>;

impl EngineOrigin {
    /// Opens streams on `engines`, and remembers channels in `identities`.
    pub fn new(engines: Arc<Engines>, identities: Arc<Identities>) -> Self {
        Self { engines, identities, refusals: Arc::default() }
    }

    /// The one key of a channel, whatever form the request has.
    ///
    /// A value that may be a content id or an infohash is resolved on an engine first, unless the answer is known.
    /// Without an answer the key says so, and the start reveals the infohash.
    pub async fn key(&self, content: ContentId) -> StreamKey {
        let hash = match content {
            ContentId::Infohash(infohash) => return key_of(infohash),
            ContentId::Id(hash) => hash,
        };
        if let Some(infohash) = self.identities.known(hash) {
            return key_of(infohash);
        }
        match self.resolve(hash).await {
            Resolution::Known(infohash) => key_of(infohash),
            // Both lookups said no. The one for content ids is definite, the one for infohashes is not: a swarm may
            // take longer to find than the lookup takes. So it can only be an infohash.
            Resolution::Unresolved(Why::Negative) => key_of(Infohash::new(hash)),
            Resolution::Unresolved(Why::NoAnswer) => StreamKey::new(format!("{UNRESOLVED}{hash}")),
        }
    }

    /// Asks one engine, and another one when the first has no infohash: it may be cut off from the network.
    async fn resolve(&self, hash: Hash) -> Resolution {
        let mut asked = self.engines.to_ask().into_iter().take(ASKED);
        // None may run yet: the start then waits for one, and reveals the infohash.
        let Some(first) = asked.next() else { return Resolution::Unresolved(Why::NoAnswer) };
        let mut resolution = self.identities.resolve(&first.engine, hash).await;
        for member in asked {
            if matches!(resolution, Resolution::Unresolved(_)) {
                resolution = better(resolution, self.identities.resolve(&member.engine, hash).await);
            }
        }
        resolution
    }

    /// The key a channel has if it is known, for pages that only look.
    pub fn known_key(&self, content: ContentId) -> Vec<StreamKey> {
        match content {
            ContentId::Infohash(infohash) => vec![key_of(infohash)],
            ContentId::Id(hash) => {
                let resolved = self.identities.known(hash).map(key_of);
                let unresolved = StreamKey::new(format!("{UNRESOLVED}{hash}"));
                resolved.into_iter().chain([key_of(Infohash::new(hash)), unresolved]).collect()
            }
        }
    }

    async fn open_somewhere(self, request: OpenRequest) -> Result<Upstream, OpenError> {
        let content = content_of(&request.key);
        let stream = if let ContentId::Infohash(infohash) = content { Some(infohash) } else { None };
        let mut exclude: Vec<EngineKey> = request.exclude.iter().map(key_in).collect();
        self.avoid_refusals(&request, content, &mut exclude)?;
        let slot = self.slot(&request, stream, &exclude).await.map_err(|error| no_slot(&error))?;
        let member = Arc::clone(slot.member());
        request.progress.at(source_of(&member));
        request.progress.enter(Stage::Call);
        match self.start(&member, content, slot).await {
            Ok(playback) => {
                self.engines.started(&member, request.key.as_str());
                self.refusals.forget(hash_of(content));
                Ok(self.upstream(&member, &request.key, playback))
            }
            Err(error) => {
                let is_blamed = matches!(error.source_side(), SourceSide::Upstream)
                    && matches!(error, EngineError::Unreachable { .. } | EngineError::Timeout { .. });
                member.failed(request.key.as_str(), is_blamed);
                let refused = matches!(error, EngineError::Refused { .. });
                let error = open_error(&error, &source_of(&member));
                if refused {
                    self.refusals.note(hash_of(content), &member.key, &error);
                }
                Err(error)
            }
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
            others.map(|member| (member, self.refusals.find(hash_of(content), &member.key))).collect();
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
        stream: Option<Infohash>,
        exclude: &[EngineKey],
    ) -> Result<Slot, NoSlot> {
        let priority = match request.urgency {
            Urgency::Hedge => return self.engines.spare_slot(stream, exclude).ok_or(NoSlot::AllBusy),
            Urgency::Start => Priority::Start,
            Urgency::Recovery { viewers } => Priority::Recovery(viewers),
        };
        self.engines.slot(stream, exclude, priority, || request.pressure.relieve()).await
    }

    /// A value that no engine could resolve is started as a content id, then once as an infohash.
    async fn start(&self, member: &Member, content: ContentId, slot: Slot) -> Result<Playing, EngineError> {
        let (engine, slot) = (&member.engine, Arc::new(slot));
        let hash = match content {
            ContentId::Infohash(infohash) => return engine.open(StartBy::Infohash(infohash), slot).await,
            ContentId::Id(hash) => hash,
        };
        match engine.open(StartBy::ContentId(hash), Arc::clone(&slot)).await {
            Err(EngineError::Refused { .. }) => {
                engine.open(StartBy::Infohash(Infohash::new(hash)), slot).await
            }
            decided => decided,
        }
    }

    fn upstream(&self, member: &Member, asked: &StreamKey, playback: Playing) -> Upstream {
        let started = playback.started();
        let key = started.infohash.map_or_else(|| asked.clone(), key_of);
        if let (ContentId::Id(hash), Some(infohash)) = (content_of(asked), started.infohash) {
            self.identities.remember(hash, infohash);
        }
        let endpoint = member.engine.endpoint();
        let source = Source {
            id: source_of(member),
            host: endpoint.host().to_owned(),
            port: endpoint.port(),
            container_id: member.key.to_string(),
            playback_session_id: started.playback_session_id.clone(),
            is_live: started.is_live != Liveness::Vod,
        };
        let session = started.playback_session_id.clone();
        let report = Arc::new(EngineReport { stats: playback.stats(), session });
        if source.is_live {
            return Upstream {
                key,
                source,
                media: media(source_of(member), playback),
                report,
                recording: None,
            };
        }
        let recording = EngineRecording { id: source_of(member), playback: Arc::new(playback) };
        let media = stream::pending().boxed();
        Upstream { key, source, media, report, recording: Some(Arc::new(recording)) }
    }
}

impl Origin for EngineOrigin {
    fn open(&self, request: OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> {
        self.clone().open_somewhere(request).boxed()
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

fn hash_of(content: ContentId) -> Hash {
    match content {
        ContentId::Infohash(infohash) => infohash.hash(),
        ContentId::Id(hash) => hash,
    }
}

fn content_of(key: &StreamKey) -> ContentId {
    let (text, resolved) = match key.as_str().strip_prefix(UNRESOLVED) {
        Some(text) => (text, false),
        None => (key.as_str(), true),
    };
    let hash: Hash = text.parse().expect("keys are made by this module from parsed hashes");
    if resolved { ContentId::Infohash(Infohash::new(hash)) } else { ContentId::Id(hash) }
}

/// The body is asked for when the session first reads, so that its wait counts as the wait for the first byte.
fn media(id: SourceId, playback: Playing) -> Media {
    let opened = stream::once(async move {
        let body = playback.body().await;
        (playback, body)
    });
    let bytes = opened.flat_map(move |(playback, body)| read(id.clone(), playback, body));
    Box::pin(bytes)
}

/// The playback travels with the stream: dropping the stream ends the playback on its engine.
fn read(
    id: SourceId,
    playback: Playing,
    body: Result<Body, EngineError>,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, OpenError>> + Send {
    stream::unfold((playback, Some(body)), move |(playback, body)| {
        let id = id.clone();
        async move {
            let mut body = match body? {
                Ok(body) => body,
                Err(error) => return Some((Err(open_error(&error, &id)), (playback, None))),
            };
            match body.next().await? {
                Ok(bytes) => Some((Ok(bytes), (playback, Some(Ok(body))))),
                Err(error) => Some((Err(open_error(&error, &id)), (playback, None))),
            }
        }
    })
}

/// A recording on an engine. The playback lives as long as the session or a part that is being read.
struct EngineRecording {
    id: SourceId,
    playback: Arc<Playing>,
}

impl Recording for EngineRecording {
    fn open(&self, range: Option<ByteRange>) -> BoxFuture<'static, Result<Part, OpenError>> {
        let (id, playback) = (self.id.clone(), Arc::clone(&self.playback));
        let opened = async move {
            let opened = timeout(FILE_HEAD, playback.file(range.map(range_in))).await;
            let file = match opened {
                Ok(file) => file.map_err(|error| open_error(&error, &id))?,
                Err(_late) => return Err(late(id)),
            };
            let (length, media_type) = (file.length, file.media_type);
            let extent = extent_of(file.extent);
            let bytes = stream::unfold((file.body, playback), move |(mut body, playback)| {
                let id = id.clone();
                async move {
                    let bytes = body.next().await?.map_err(|error| open_error(&error, &id));
                    Some((bytes, (body, playback)))
                }
            });
            Ok(Part { extent, length, media_type, media: bytes.boxed() })
        };
        opened.boxed()
    }
}

fn late(id: SourceId) -> OpenError {
    let detail = format!("the engine sent nothing of the recording in {} s", FILE_HEAD.as_secs());
    OpenError::Failed { detail, source_id: Some(id) }
}

fn range_in(range: ByteRange) -> FileRange {
    match range {
        ByteRange::From(first) => FileRange::From(first),
        ByteRange::Between(first, last) => FileRange::Between(first, last),
        ByteRange::Last(count) => FileRange::Last(count),
    }
}

fn extent_of(extent: FileExtent) -> Extent {
    match extent {
        FileExtent::Whole => Extent::Whole,
        FileExtent::Part { first, last, total } => Extent::Part { first, last, total },
        FileExtent::Beyond { total } => Extent::Beyond { total },
    }
}

/// The engine's statistics in the relay's words.
struct EngineReport {
    stats: watch::Receiver<Option<PlaybackStat>>,
    /// The engine's name of our playback.
    session: Option<String>,
}

impl EngineReport {
    /// Engines tell the newest playback of the channel: another one than ours has superseded it.
    fn is_lost(&self, stat: &PlaybackStat) -> bool {
        let is_other = self.session.as_ref().zip(stat.playback_session_id.as_ref());
        stat.status == PlaybackStatus::Gone || is_other.is_some_and(|(ours, newest)| ours != newest)
    }
}

impl Report for EngineReport {
    fn stats(&self) -> Option<SourceStats> {
        let stat = self.stats.borrow();
        stat.as_ref().map(|stat| SourceStats {
            status: Some(stat.status.as_str().to_owned()),
            peers: stat.peers,
            speed_down: stat.speed_down,
            speed_up: stat.speed_up,
            downloaded: stat.downloaded,
            uploaded: stat.uploaded,
            live: stat.position.map(|at| LivePosition {
                pos: at.pos,
                first: at.live_first,
                last: at.live_last,
            }),
            is_lost: self.is_lost(stat),
        })
    }
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
        EngineError::BadReply { .. } => OpenError::BadReply { detail, source_id },
        _ => OpenError::Failed { detail, source_id },
    }
}

/// The infohash of a stream, when it is known.
pub fn infohash_of(key: &StreamKey) -> Option<String> {
    (!key.as_str().starts_with(UNRESOLVED)).then(|| key.to_string())
}
