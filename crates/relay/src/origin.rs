//! Where a stream's bytes can be opened: the one seam between the data plane and everything behind it.
//!
//! An origin chooses the source (an engine, later a peer node or a test), starts the stream there and hands over an
//! [`Upstream`]. Dropping the upstream ends the stream at its source; that is the origin's duty, because only it
//! knows how. The origin does not retry on another source: the session owns that retry.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use acemux_media::chunk::Awaited;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::AddressGroup;
use crate::output::recording::Recording;
use crate::relay::StreamKey;
use crate::session::Shared;

/// Opens streams.
pub trait Origin: Send + Sync + 'static {
    /// Starts the stream somewhere and returns as soon as the source has accepted it; the media may come later.
    ///
    /// Cancel safe: when the future is dropped, what it has begun at the source is ended.
    fn open(&self, request: OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>>;

    /// A session has lost its last viewer: who waits for a place may have its one. Must not block.
    fn unwatched(&self) {}
}

/// What to open.
#[derive(Clone)]
pub struct OpenRequest {
    /// The channel.
    pub key: StreamKey,
    /// Sources that have just failed with it.
    pub exclude: Vec<SourceId>,
    /// For whom.
    pub urgency: Urgency,
    /// Where the origin tells how far it is.
    pub progress: Progress,
    /// When its first viewer asked.
    pub asked: Instant,
    /// The session that asks, and will hold the place.
    pub tenant: Tenant,
}

/// Who waits for a stream to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Viewers who have nothing yet.
    Start,
    /// Nobody yet: another source has been asked and is silent. Only where there is room to spare.
    Hedge,
    /// So many viewers whose stream has stopped. They go before those who have nothing yet, and many before few.
    Recovery {
        /// How many.
        viewers: usize,
    },
}

/// One source of streams (an engine), as the origin names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(Arc<str>);

impl SourceId {
    /// The name must be unique among the origin's sources.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Media bytes as they come from the source. The end of the stream is `None`.
pub type Media = Pin<Box<dyn Stream<Item = Result<Bytes, OpenError>> + Send>>;

/// A stream open at a source. Dropping it ends the stream there.
pub struct Upstream {
    /// The channel's canonical key: the source may know it better than the request did.
    pub key: StreamKey,
    /// Where it plays.
    pub source: Source,
    /// The bytes.
    pub media: Media,
    /// Where to ask what the source last said about the stream.
    pub report: Arc<dyn Report>,
    /// Told when the stream can be played.
    pub evidence: Arc<dyn Evidence>,
    /// Set for a recording: it is read through this, and `media` stays silent.
    pub recording: Option<Arc<dyn Recording>>,
}

/// What a source says about a stream it plays.
pub trait Report: Send + Sync {
    /// Its newest words, `None` before the first.
    fn stats(&self) -> Option<SourceStats>;

    /// Whether it shows that media is on its way: then it is not given up for another one that would begin anew.
    fn is_loading(&self) -> bool {
        false
    }
}

/// What comes of a start, for the origin that judges its sources by it. Dropped untold, the stream gave nothing to play.
pub trait Evidence: Send + Sync {
    /// Something that can be played has come from the source. The channel's canonical key, if that is certain only now.
    fn delivered(&self) -> Option<StreamKey>;
}

/// For sources that are not judged.
impl Evidence for () {
    fn delivered(&self) -> Option<StreamKey> {
        None
    }
}

/// Where a stream plays, for the operator's pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The source.
    pub id: SourceId,
    /// Host name or address of the engine's API.
    pub host: String,
    /// Port of the engine's API.
    pub port: u16,
    /// Docker's id of the engine, or `host:port` of one that we did not create.
    pub container_id: String,
    /// The engine's name for this playback.
    pub playback_session_id: Option<String>,
    /// False for video on demand.
    pub is_live: bool,
    /// Whether this playback has ended the one of the same channel that was open there before.
    pub supersedes: bool,
}

/// What the source last said about the stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceStats {
    /// The engine's own word: `prebuf`, `dl`, …
    pub status: Option<String>,
    /// Peers of the swarm.
    pub peers: Option<u64>,
    /// Download rate in KiB/s.
    pub speed_down: Option<u64>,
    /// Upload rate in KiB/s.
    pub speed_up: Option<u64>,
    /// Bytes downloaded since the start.
    pub downloaded: Option<u64>,
    /// Bytes uploaded since the start.
    pub uploaded: Option<u64>,
    /// Where in the broadcast it reads.
    pub live: Option<LivePosition>,
    /// The source has forgotten the playback, or somebody else's has taken its place.
    pub is_lost: bool,
}

/// Positions in a broadcast, seconds of Unix time by the broadcaster's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivePosition {
    /// What is being read.
    pub pos: Option<u64>,
    /// The oldest that can be read.
    pub first: Option<u64>,
    /// The newest that exists.
    pub last: Option<u64>,
}

/// What is missing for another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Room on the sources there are.
    Room,
    /// Room in the queue of those who wait.
    Queue,
    /// Addresses for another one.
    Addresses,
    /// The program that another one would run.
    Program,
    /// A way out to the world for any of them.
    WayOut,
}

/// Why a stream could not be opened, or why it broke. Each message is one line without addresses, fit for a player.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No source has room, or none exists. Another attempt later may find one.
    #[error("{detail}")]
    NoCapacity {
        /// Which kind of thing is missing.
        lack: Lack,
        /// What is missing, and which setting gives more of it.
        detail: String,
    },
    /// Nothing answers at this source's address; another one may be up.
    #[error("{detail}")]
    Unreachable {
        /// How it failed.
        detail: String,
        /// The source to avoid in the next attempt.
        source_id: Option<SourceId>,
    },
    /// This source did not give the stream; another one may.
    #[error("{detail}")]
    Failed {
        /// The source's own words, cleaned.
        detail: String,
        /// The source to avoid in the next attempt.
        source_id: Option<SourceId>,
    },
    /// This source answered something that is not an answer; another one may do better.
    #[error("{detail}")]
    BadReply {
        /// What was wrong with it.
        detail: String,
        /// The source to avoid in the next attempt.
        source_id: Option<SourceId>,
    },
}

impl OpenError {
    /// The source to avoid in the next attempt.
    pub fn source_id(&self) -> Option<&SourceId> {
        match self {
            Self::NoCapacity { .. } => None,
            Self::Unreachable { source_id, .. }
            | Self::Failed { source_id, .. }
            | Self::BadReply { source_id, .. } => source_id.as_ref(),
        }
    }
}

/// The stages of a start, in order. Each has a deadline and its own duration in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Waiting for a place on an engine.
    Slot,
    /// The start call, until the engine has accepted the stream.
    Call,
    /// Until the first byte of media.
    FirstByte,
    /// Until the first place a decoder can start at.
    Keyframe,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Slot, Self::Call, Self::FirstByte, Self::Keyframe];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Call => "call",
            Self::FirstByte => "first_byte",
            Self::Keyframe => "keyframe",
        }
    }
}

/// How far an opening is and how long each stage took. The origin writes it, the session reads it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Course>>);

#[derive(Debug, Default)]
struct Course {
    entered: Vec<(Stage, Instant)>,
    source: Option<SourceId>,
    /// When the source was asked. Kept when the stages have been told.
    called: Option<Instant>,
    is_doubtful: bool,
}

/// How far an attempt is, for who decides whether another one is made beside it.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The stage entered last.
    pub stage: Stage,
    /// When the source was asked; `None` while it waits for a place.
    pub called: Option<Instant>,
    /// The source may not be able to give the stream: another one should be asked soon.
    pub is_doubtful: bool,
    /// A source that is waited for shows that media is on its way.
    pub is_loading: bool,
    /// What its bytes lack before there is anything to play.
    pub awaited: Option<Awaited>,
}

impl Progress {
    /// `stage` begins now.
    pub fn enter(&self, stage: Stage) {
        let mut course = self.0.lock();
        if stage == Stage::Call {
            course.called = Some(Instant::now());
        }
        if course.entered.last().is_none_or(|(last, _)| *last != stage) {
            course.entered.push((stage, Instant::now()));
        }
    }

    /// This program stood still for so long: that was no silence of the source.
    pub(crate) fn excuse(&self, late: Duration) {
        let mut course = self.0.lock();
        course.called = course.called.map(|called| called + late);
    }

    /// The source that is asked may be a bad one.
    pub fn doubt(&self) {
        self.0.lock().is_doubtful = true;
    }

    /// How far it is.
    pub fn standing(&self) -> Standing {
        let course = self.0.lock();
        let stage = course.entered.last().map_or(Stage::Slot, |(stage, _)| *stage);
        Standing {
            stage,
            called: course.called,
            is_doubtful: course.is_doubtful,
            is_loading: false,
            awaited: None,
        }
    }

    /// It is this source that is asked.
    pub fn at(&self, source: SourceId) {
        self.0.lock().source = Some(source);
    }

    /// The source that is asked, once it has been chosen.
    pub(crate) fn source(&self) -> Option<SourceId> {
        self.0.lock().source.clone()
    }

    /// `stage` begins now if `before` was the last one.
    pub(crate) fn enter_after(&self, before: Stage, stage: Stage) {
        if self.stage() == before {
            self.enter(stage);
        }
    }

    /// The stage entered last.
    pub fn stage(&self) -> Stage {
        self.0.lock().entered.last().map_or(Stage::Slot, |(stage, _)| *stage)
    }

    /// How long each stage entered has taken, the last one until `now`. Forgets them.
    pub fn finish(&self, now: Instant) -> Vec<(Stage, Duration)> {
        let entered = std::mem::take(&mut self.0.lock().entered);
        let ends = entered.iter().skip(1).map(|(_, at)| *at).chain([now]);
        entered
            .iter()
            .zip(ends)
            .map(|((stage, at), end)| (*stage, end.saturating_duration_since(*at)))
            .collect()
    }
}

/// The session behind a request, as its origin may know it; after a merger the one that has taken the playback over. Holds
/// nothing that must be given back.
#[derive(Clone)]
pub struct Tenant(Arc<Mutex<Weak<Shared>>>);

/// Groups that are told of one session; who has more of them is not known better by naming all.
const GROUPS: usize = 16;

impl Tenant {
    pub(crate) fn new(session: &Arc<Shared>) -> Self {
        Self(Arc::new(Mutex::new(Arc::downgrade(session))))
    }

    /// What it has opened belongs to another session of the same channel from now on.
    pub(crate) fn moves_to(&self, session: &Arc<Shared>) {
        *self.0.lock() = Arc::downgrade(session);
    }

    fn session(&self) -> Option<Arc<Shared>> {
        self.0.lock().upgrade()
    }

    /// For an origin's own tests: nobody.
    pub fn nobody() -> Self {
        Self(Arc::default())
    }

    /// The address groups of those who wait for the stream or watch it, at most sixteen.
    pub fn groups(&self) -> Vec<AddressGroup> {
        self.session().map(|session| session.viewers.groups(GROUPS)).unwrap_or_default()
    }

    /// Since when nobody watches or waits, and who was the last. `None` when somebody does, or the session is over.
    pub fn idle(&self) -> Option<(Instant, AddressGroup)> {
        self.session().filter(|session| !session.is_over())?.viewers.idle()
    }

    /// Since when everybody who watches has been paused. `None` when somebody is not, nobody watches, or the session is over.
    pub fn paused(&self) -> Option<Instant> {
        self.session().filter(|session| !session.is_over())?.viewers.all_paused_since()
    }

    /// Has the session end if nobody watches or all who do are paused, or ask for a place again if it does not play yet. False
    /// when it has too much to do to listen.
    pub fn make_room(&self) -> bool {
        self.session().is_some_and(|session| session.make_room())
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.session().map(|session| session.key());
        f.debug_tuple("Tenant").field(&key).finish()
    }
}
