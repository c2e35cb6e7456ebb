//! Where the planes meet: a stream of the relay becomes a playback on an engine.

use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Stage as EngineStage;
use acemux_engine::{
    Body, ByteRange as FileRange, ContentId, EngineError, Extent as FileExtent, Hash, Identities, Infohash,
    Liveness, Playback, PlaybackStat, PlaybackStatus, Resolution, StartBy, Why,
};
use acemux_relay::StreamKey;
use acemux_relay::origin::{
    Evidence, Lack, LivePosition, Media, OpenError, OpenRequest, Origin, Report, Source, SourceId,
    SourceStats, Stage, Tenant, Upstream, Urgency,
};
use acemux_relay::output::recording::{ByteRange, Extent, Part, Recording};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use acemux_fleet::dispatch::{
    Engines, Group, Lack as Missing, NoSlot, Occupant, Priority, Request, Slot, Trial,
};
use acemux_fleet::member::{EngineKey, Member};

use crate::refusals::Refusals;
use crate::supersessions::Supersessions;

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
    supersessions: Arc<Supersessions>,
}

/// A playback with the slot it holds; the slot is returned when the engine has answered the stop. The slot is shared,
/// because a start that is made again keeps it in between.
struct Playing {
    /// Taken when it is over without a stop.
    playback: Option<Playback>,
    slot: Arc<Slot>,
}

impl Playing {
    fn new(playback: Playback, slot: Arc<Slot>) -> Self {
        Self { playback: Some(playback), slot }
    }

    fn get(&self) -> &Playback {
        self.playback.as_ref().expect("only `forsake` takes it, and that takes self")
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

    fn make_room(&self) -> bool {
        self.0.make_room()
    }
}

/// A start as evidence about its engine.
struct Shown(Arc<Trial>);

impl Evidence for Shown {
    fn delivered(&self) {
        self.0.delivered();
    }
}

impl EngineOrigin {
    /// Opens streams on `engines`, and remembers channels in `identities`.
    pub fn new(engines: Arc<Engines>, identities: Arc<Identities>) -> Self {
        Self { engines, identities, refusals: Arc::default(), supersessions: Arc::default() }
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
        let mut exclude: Vec<EngineKey> = request.exclude.iter().map(key_in).collect();
        self.avoid_refusals(&request, content, &mut exclude)?;
        self.avoid_contested(content, &mut exclude)?;
        let slot = self.slot(&request, content, exclude).await.map_err(|error| no_slot(&error))?;
        let slot = Arc::new(slot);
        let member = Arc::clone(slot.member());
        request.progress.at(source_of(&member));
        let trial = Arc::new(slot.trial(request.key.as_str()));
        if trial.wants_company() {
            request.progress.doubt();
        }
        request.progress.enter(Stage::Call);
        // The slot is held until what came of the start is known: its next owner is chosen by that.
        match start(&member, content, Arc::clone(&slot)).await {
            Ok(playing) => {
                trial.answered();
                self.refusals.forget(hash_of(content));
                Ok(self.upstream(&member, &request.key, playing, trial))
            }
            Err(error) => Err(self.refused(&member, content, &trial, &error)),
        }
    }

    fn refused(&self, member: &Member, content: ContentId, trial: &Trial, error: &EngineError) -> OpenError {
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
        if matches!(error, EngineError::Refused { .. }) {
            self.refusals.note(hash_of(content), &member.key, &open_error);
        }
        open_error
    }

    /// Engines on which another program keeps starting this channel are left to it.
    fn avoid_contested(&self, content: ContentId, exclude: &mut Vec<EngineKey>) -> Result<(), OpenError> {
        let members = self.engines.all();
        let is_contested =
            |member: &&Arc<Member>| self.supersessions.is_contested(hash_of(content), &member.key);
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
        member: &Arc<Member>,
        asked: &StreamKey,
        playing: Playing,
        trial: Arc<Trial>,
    ) -> Upstream {
        let started = playing.get().started();
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
        let report = EngineReport::of(playing.get());
        let evidence = Box::new(Shown(trial));
        if source.is_live {
            let contested = Contested {
                member: Arc::clone(member),
                content: content_of(asked),
                supersessions: Arc::clone(&self.supersessions),
                report: Arc::clone(&report),
            };
            let media = media(contested, playing);
            return Upstream { key, source, media, report, evidence, recording: None };
        }
        let recording = EngineRecording { id: source_of(member), playing: Arc::new(playing) };
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

/// A value that no engine could resolve is started as a content id, then once as an infohash.
async fn start(member: &Member, content: ContentId, slot: Arc<Slot>) -> Result<Playing, EngineError> {
    let open = async |by| {
        let playback = member.engine.open(by, Arc::clone(&slot)).await?;
        Ok(Playing::new(playback, Arc::clone(&slot)))
    };
    let hash = match content {
        ContentId::Infohash(infohash) => return open(StartBy::Infohash(infohash)).await,
        ContentId::Id(hash) => hash,
    };
    match open(StartBy::ContentId(hash)).await {
        Err(EngineError::Refused { .. }) => open(StartBy::Infohash(Infohash::new(hash))).await,
        decided => decided,
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

/// A start that may have to be made again, because another client of the engine began the same channel.
struct Contested {
    member: Arc<Member>,
    content: ContentId,
    supersessions: Arc<Supersessions>,
    /// What is told of the playback in use.
    report: Arc<EngineReport>,
}

/// How long the other client gets before the channel is started once more.
const SUPERSEDED_PAUSE: Duration = Duration::from_millis(500);

impl Contested {
    /// The media of the playback, or of the one that is started once more when another client's start ended this one at
    /// once.
    async fn body(&self, playing: Playing) -> Result<(Playing, Body), OpenError> {
        let slot = match self.first_body(playing).await? {
            Ok(opened) => return Ok(opened),
            Err(slot) => slot,
        };
        sleep(SUPERSEDED_PAUSE).await;
        let again = start(&self.member, self.content, slot).await.map_err(|error| self.describe(&error))?;
        self.report.follow(again.get());
        self.first_body(again).await?.map_err(|_slot| contested_by_another(&source_of(&self.member)))
    }

    /// The slot alone when the session was superseded, and it may be worth another try.
    async fn first_body(&self, playing: Playing) -> Result<Result<(Playing, Body), Arc<Slot>>, OpenError> {
        let error = match playing.get().body().await {
            Ok(body) => return Ok(Ok((playing, body))),
            Err(error) => error,
        };
        if !is_forgotten(&error) && !playing.get().ask_whether_superseded().await {
            return Err(self.describe(&error));
        }
        let slot = playing.forsake();
        if self.supersessions.superseded(hash_of(self.content), &self.member.key) {
            return Err(contested_by_another(&source_of(&self.member)));
        }
        Ok(Err(slot))
    }

    /// The playback has ended while it was read: by another client's start of the channel?
    async fn ended(&self, playing: Playing, error: Option<EngineError>) -> Option<OpenError> {
        let error = error.map(|error| self.describe(&error));
        if !playing.get().ask_whether_superseded().await {
            return error;
        }
        playing.forsake();
        if self.supersessions.superseded(hash_of(self.content), &self.member.key) {
            return Some(contested_by_another(&source_of(&self.member)));
        }
        error
    }

    fn describe(&self, error: &EngineError) -> OpenError {
        open_error(error, &source_of(&self.member))
    }
}

fn contested_by_another(id: &SourceId) -> OpenError {
    let detail = "another program uses this engine: it has started the same channel there twice in a minute";
    OpenError::Failed { detail: detail.into(), source_id: Some(id.clone()) }
}

/// What the engine has just given us it does not know any more.
fn is_forgotten(error: &EngineError) -> bool {
    matches!(error, EngineError::Status { code: 404, .. })
}

/// The body is asked for when the session first reads, so that its wait counts as the wait for the first byte.
fn media(contested: Contested, playing: Playing) -> Media {
    let opened = stream::once(async move {
        let opened = contested.body(playing).await;
        (contested, opened)
    });
    Box::pin(opened.flat_map(|(contested, opened)| match opened {
        Ok((playing, body)) => read(contested, playing, body).left_stream(),
        Err(error) => stream::once(async move { Err(error) }).right_stream(),
    }))
}

/// The playback travels with the stream: dropping the stream ends the playback on its engine.
fn read(
    contested: Contested,
    playing: Playing,
    body: Body,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, OpenError>> + Send {
    stream::unfold(Some((contested, playing, body)), async |reading| {
        let (contested, playing, mut body) = reading?;
        let ended = match body.next().await {
            Some(Ok(bytes)) => return Some((Ok(bytes), Some((contested, playing, body)))),
            Some(Err(error)) => Some(error),
            None => None,
        };
        let error = contested.ended(playing, ended).await?;
        Some((Err(error), None))
    })
}

/// A recording on an engine. The playback lives as long as the session or a part that is being read.
struct EngineRecording {
    id: SourceId,
    playing: Arc<Playing>,
}

impl Recording for EngineRecording {
    fn open(&self, range: Option<ByteRange>) -> BoxFuture<'static, Result<Part, OpenError>> {
        let (id, playing) = (self.id.clone(), Arc::clone(&self.playing));
        let opened = async move {
            let opened = timeout(FILE_HEAD, playing.get().file(range.map(range_in))).await;
            let file = match opened {
                Ok(file) => file.map_err(|error| open_error(&error, &id))?,
                Err(_late) => return Err(late(id)),
            };
            let (length, media_type) = (file.length, file.media_type);
            let extent = extent_of(file.extent);
            let bytes = stream::unfold((file.body, playing), move |(mut body, playing)| {
                let id = id.clone();
                async move {
                    let bytes = body.next().await?.map_err(|error| open_error(&error, &id));
                    Some((bytes, (body, playing)))
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
struct EngineReport(Mutex<Told>);

/// What is told of one playback.
struct Told {
    stats: watch::Receiver<Option<PlaybackStat>>,
    /// The engine's name of our playback.
    session: Option<String>,
}

impl EngineReport {
    fn of(playback: &Playback) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Told::of(playback))))
    }

    /// The stream was started once more: it is this playback now.
    fn follow(&self, playback: &Playback) {
        *self.0.lock() = Told::of(playback);
    }
}

impl Told {
    fn of(playback: &Playback) -> Self {
        Self { stats: playback.stats(), session: playback.started().playback_session_id.clone() }
    }

    fn is_lost(&self, stat: &PlaybackStat) -> bool {
        stat.status == PlaybackStatus::Gone || stat.is_of_another(self.session.as_deref())
    }
}

impl Report for EngineReport {
    fn stats(&self) -> Option<SourceStats> {
        let told = self.0.lock();
        let stat = told.stats.borrow();
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
            is_lost: told.is_lost(stat),
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
