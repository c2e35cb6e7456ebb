//! From a start that an engine has accepted to the bytes of the stream: started once more when another client's start ended
//! it at once, and by the channel's other name when nothing comes by the first one.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acemux_engine::{Body, ContentId, EngineError, Family, Infohash, Resolution, StartBy};
use acemux_fleet::dispatch::{Slot, Trial};
use acemux_fleet::member::Member;
use acemux_relay::StreamKey;
use acemux_relay::origin::{Evidence, Media, OpenError, SourceId};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::report::EngineReport;
use super::{EngineOrigin, Playing, key_of, open_error, source_of};

/// How long the other client gets before the channel is started once more.
const SUPERSEDED_PAUSE: Duration = Duration::from_millis(500);

/// How long an engine that may run away gets for the first media. When it can play by that name it has some at once.
const RUNAWAY: Duration = Duration::from_secs(8);

/// How long a start by one name may be silent, with nothing loaded, before it is made by the other one.
const SILENT: Duration = Duration::from_secs(15);

/// How soon it is looked again at a start that loads.
const LOOK: Duration = Duration::from_secs(1);

/// An engine that has said no within this time is asked for the channel's other name as well: later its answer would come
/// when nobody waits any more.
const WORTH_ANOTHER: Duration = Duration::from_secs(10);

/// A start by an infohash that is not answered for so long is of a channel that nobody has now, or the value is none:
/// engines answer within half a second for what they can have, and look for half a minute for the rest.
const LOOK_UP: Duration = Duration::from_secs(2);

/// How a channel is started on an engine of a family.
pub(super) struct Names {
    asked: ContentId,
    family: Family,
    first: StartBy,
    other: Option<StartBy>,
    /// It has played so on engines of this family.
    is_proven: bool,
}

/// A start that the engine has accepted.
pub(super) struct Begun {
    pub(super) playing: Playing,
    pub(super) by: StartBy,
    /// What it may still be started by.
    other: Option<StartBy>,
}

/// What the first media proves: by which name the channel plays, and what it is.
pub(super) struct PlaybackProof {
    origin: EngineOrigin,
    asked: ContentId,
    trial: Arc<Trial>,
    in_use: Mutex<(StartBy, Option<Infohash>)>,
}

/// A start on its way to media.
pub(super) struct Reading {
    pub(super) member: Arc<Member>,
    pub(super) origin: EngineOrigin,
    pub(super) names: Names,
    pub(super) proof: Arc<PlaybackProof>,
    /// What is told of the playback in use.
    pub(super) report: Arc<EngineReport>,
}

impl Names {
    /// `None` when this family has no name for it that it does not run away by.
    pub(super) async fn new(origin: &EngineOrigin, member: &Member, asked: ContentId) -> Option<Self> {
        let family = member.engine.recognise().await;
        let mut names = origin.identities.names(asked, family).into_iter();
        let as_asked = Some(StartBy::from(asked)).filter(|by| !origin.identities.has_run_away(*by, family));
        let first = names.next().or(as_asked)?;
        let is_proven = origin.identities.has_delivered(asked, first, family);
        Some(Self { asked, family, first, other: names.next(), is_proven })
    }

    /// Whether a start ends the session that the engine has of the same channel.
    pub(super) fn supersedes(&self) -> bool {
        self.family.facts().supersedes
    }

    /// Whether a download that grows is no sign of media.
    pub(super) fn runs_away(&self, by: StartBy) -> bool {
        let is_proven = self.is_proven && by == self.first;
        matches!(by, StartBy::Infohash(_)) && self.family.facts().runs_away_by_infohash && !is_proven
    }

    /// The infohash that a start by this name has revealed; none when the engine said back what it was asked.
    pub(super) fn revealed(&self, begun: &Begun) -> Option<Infohash> {
        let said = begun.playing.get().started().infohash?;
        let is_echo = said.hash() == begun.by.hash();
        (!is_echo || (begun.by == StartBy::Infohash(said) && !self.runs_away(begun.by))).then_some(said)
    }

    /// Starts it: by its other name too when the engine refuses the first one soon, or when the first one turns out to be
    /// of the other kind.
    pub(super) async fn start(
        &self,
        origin: &EngineOrigin,
        member: &Member,
        slot: Arc<Slot>,
    ) -> Result<Begun, EngineError> {
        let began = Instant::now();
        let answered = tokio::select! {
            biased;
            answered = open(member, self.first, Arc::clone(&slot)) => answered,
            by = self.found_out(origin, member) => return begin(member, by, slot).await,
        };
        match (answered, self.other) {
            (Ok(playing), other) => Ok(Begun { playing, by: self.first, other }),
            (Err(error), Some(other)) if self.is_refusal(&error) && began.elapsed() < WORTH_ANOTHER => {
                begin(member, other, slot).await
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The channel's proper name, when what it is to be started by turns out to be a content id and no infohash; never
    /// returns otherwise. The engine is asked only while it does not answer the start, with growing pauses: a proper
    /// infohash costs no question, and an engine that was cut off from its directory may not be any more.
    async fn found_out(&self, origin: &EngineOrigin, member: &Member) -> StartBy {
        let given = self.first.infohash().map(Infohash::hash);
        let Some(hash) = given.filter(|hash| origin.identities.known(*hash).is_none()) else {
            return pending().await;
        };
        let mut pause = LOOK_UP;
        loop {
            sleep(pause).await;
            pause *= 2;
            match origin.identities.resolve(&member.engine, hash).await {
                Resolution::Known(infohash) if infohash.hash() == hash => return pending().await,
                Resolution::Known(_) => {
                    let names = origin.identities.names(self.asked, self.family);
                    if let Some(by) = names.into_iter().next() {
                        return by;
                    }
                }
                Resolution::Unresolved(_) => {}
            }
        }
    }

    /// Whether the engine says that it does not have the channel.
    pub(super) fn is_refusal(&self, error: &EngineError) -> bool {
        match error {
            EngineError::Refused { .. } => true,
            EngineError::Status { code, .. } => self.family.facts().refusals.contains(code),
            _ => false,
        }
    }
}

async fn begin(member: &Member, by: StartBy, slot: Arc<Slot>) -> Result<Begun, EngineError> {
    Ok(Begun { playing: open(member, by, slot).await?, by, other: None })
}

async fn open(member: &Member, by: StartBy, slot: Arc<Slot>) -> Result<Playing, EngineError> {
    let playback = member.engine.open(by, Arc::clone(&slot)).await?;
    Ok(Playing::new(playback, slot))
}

impl PlaybackProof {
    /// The start under way is by this name, and has revealed that infohash.
    pub(super) fn new(
        origin: &EngineOrigin,
        asked: ContentId,
        trial: Arc<Trial>,
        by: StartBy,
        revealed: Option<Infohash>,
    ) -> Self {
        Self { origin: origin.clone(), asked, trial, in_use: Mutex::new((by, revealed)) }
    }

    fn follow(&self, by: StartBy, revealed: Option<Infohash>) {
        *self.in_use.lock() = (by, revealed);
    }
}

impl Evidence for PlaybackProof {
    /// The channel's key, now that it is certain.
    fn delivered(&self) -> Option<StreamKey> {
        self.trial.delivered();
        let (by, revealed) = *self.in_use.lock();
        let family = self.trial.member().engine.family();
        self.origin.identities.delivered(self.asked, by, revealed, family);
        by.infohash().or(revealed).map(key_of)
    }
}

impl Reading {
    /// The body is asked for when the session first reads, so that its wait counts as the wait for the first byte.
    pub(super) fn media(self, begun: Begun) -> Media {
        let opened = stream::once(async move {
            let opened = self.first_media(begun).await;
            (self, opened)
        });
        Box::pin(opened.flat_map(|(reading, opened)| match opened {
            Ok(flow) => reading.follow(flow).left_stream(),
            Err(error) => stream::once(async move { Err(error) }).right_stream(),
        }))
    }

    /// The playback whose media comes, and the first of it.
    async fn first_media(&self, begun: Begun) -> Result<Flow, OpenError> {
        let Begun { mut playing, mut by, mut other } = begun;
        let mut was_superseded = false;
        loop {
            let slot = match self.look_for_media(&playing, by, other.is_some()).await {
                Outcome::Media { body, first } => return Ok(Flow { playing, body, first: Some(first) }),
                Outcome::Failed(error) => return Err(self.describe(&error)),
                Outcome::Superseded => {
                    let slot = playing.forsake();
                    if self.is_contested() || was_superseded {
                        return Err(contested_by_another(&self.source()));
                    }
                    was_superseded = true;
                    sleep(SUPERSEDED_PAUSE).await;
                    slot
                }
                Outcome::Silent { has_head } => {
                    if has_head {
                        self.note_runaway(by);
                    }
                    let Some(name) = other.take() else { return Err(self.silent()) };
                    by = name;
                    playing.give_up()
                }
            };
            playing = self.start_again(by, slot).await?;
        }
    }

    /// What comes of a playback, in the time that its name may take.
    async fn look_for_media(&self, playing: &Playing, by: StartBy, has_other: bool) -> Outcome {
        let runs_away = self.names.runs_away(by);
        // The closed engine says no by itself to a name that is none.
        let patience = match (runs_away, has_other && self.names.family != Family::Acestream) {
            (true, _) => RUNAWAY,
            (false, true) => SILENT,
            (false, false) => return self.outcome(playing, &AtomicBool::new(false)).await,
        };
        let growth = playing.get().growth();
        let has_head = AtomicBool::new(false);
        let mut outcome = std::pin::pin!(self.outcome(playing, &has_head));
        let mut due = timeout(patience, &mut outcome).await;
        while due.is_err() && !runs_away && growth.is_within(SILENT) {
            due = timeout(LOOK, &mut outcome).await;
        }
        due.unwrap_or_else(|_| Outcome::Silent { has_head: has_head.load(Ordering::Relaxed) })
    }

    /// It has found the swarm and sends nothing of it: it loads what it cannot play, and may go on with that for ever. No
    /// other engine of its family is to do so, too.
    fn note_runaway(&self, by: StartBy) {
        if let Some(infohash) = by.infohash().filter(|_| self.names.runs_away(by)) {
            self.origin.identities.ran_away(infohash, self.member.engine.family());
        }
    }

    async fn outcome(&self, playing: &Playing, has_head: &AtomicBool) -> Outcome {
        let error = match playing.get().body().await {
            Ok(mut body) => {
                has_head.store(true, Ordering::Relaxed);
                let first = body.next().await;
                return Outcome::Media { body, first };
            }
            Err(error) => error,
        };
        if !self.names.supersedes() {
            return Outcome::Failed(error);
        }
        if is_forgotten(&error) || playing.get().ask_whether_superseded().await {
            return Outcome::Superseded;
        }
        Outcome::Failed(error)
    }

    async fn start_again(&self, by: StartBy, slot: Arc<Slot>) -> Result<Playing, OpenError> {
        let playing = open(&self.member, by, slot).await.map_err(|error| self.describe(&error))?;
        let begun = Begun { playing, by, other: None };
        self.proof.follow(by, self.names.revealed(&begun));
        self.report.follow(begun.playing.get(), self.names.runs_away(by));
        Ok(begun.playing)
    }

    /// The playback travels with the stream: dropping the stream ends the playback on its engine.
    fn follow(self, flow: Flow) -> impl futures_util::Stream<Item = Result<Bytes, OpenError>> + Send {
        stream::unfold(Some((self, flow)), async |reading| {
            let (reading, Flow { playing, mut body, first }) = reading?;
            let next = match first {
                Some(first) => first,
                None => body.next().await,
            };
            let ended = match next {
                Some(Ok(bytes)) => {
                    return Some((Ok(bytes), Some((reading, Flow { playing, body, first: None }))));
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            let error = reading.ended(playing, ended).await?;
            Some((Err(error), None))
        })
    }

    /// The playback has ended while it was read: by another client's start of the channel?
    async fn ended(&self, playing: Playing, error: Option<EngineError>) -> Option<OpenError> {
        let error = error.map(|error| self.describe(&error));
        if !self.names.supersedes() || !playing.get().ask_whether_superseded().await {
            return error;
        }
        playing.forsake();
        if self.is_contested() {
            return Some(contested_by_another(&self.source()));
        }
        error
    }

    /// Another client's start has ended ours, and not for the first time.
    fn is_contested(&self) -> bool {
        self.origin.supersessions.superseded(self.names.asked.hash(), &self.member.key)
    }

    fn source(&self) -> SourceId {
        source_of(&self.member)
    }

    fn describe(&self, error: &EngineError) -> OpenError {
        open_error(error, &self.source())
    }

    fn silent(&self) -> OpenError {
        let detail = "the engine sent nothing of this channel by any of its names";
        OpenError::Failed { detail: detail.into(), source_id: Some(self.source()) }
    }
}

/// Media that comes.
struct Flow {
    playing: Playing,
    body: Body,
    /// What has come of it already.
    first: Option<Read>,
}

/// What one read of a body gives.
type Read = Option<Result<Bytes, EngineError>>;

/// What comes of looking for the first media of a playback.
enum Outcome {
    Media {
        body: Body,
        first: Read,
    },
    Failed(EngineError),
    /// Another client's session has its place.
    Superseded,
    /// Nothing, for as long as this name may take.
    Silent {
        /// The head of the media has come: the engine has found the swarm.
        has_head: bool,
    },
}

/// Engines of its family have loaded the channel by the only name that is known of it, and sent nothing.
pub(super) fn unplayable(id: &SourceId) -> OpenError {
    let detail = "this engine does not play the channel by its infohash; its content id is needed";
    OpenError::Failed { detail: detail.into(), source_id: Some(id.clone()) }
}

pub(super) fn contested_by_another(id: &SourceId) -> OpenError {
    let detail = "another program uses this engine: it has started the same channel there twice in a minute";
    OpenError::Failed { detail: detail.into(), source_id: Some(id.clone()) }
}

/// What the engine has just given us it does not know any more.
fn is_forgotten(error: &EngineError) -> bool {
    matches!(error, EngineError::Status { code: 404, .. })
}
