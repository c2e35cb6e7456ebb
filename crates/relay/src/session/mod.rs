//! One live stream and the task that owns it.
//!
//! [`state`] decides (pure; a start in [`opening`], a gap in [`gap`]), `task` waits and does, [`ingest`] turns upstream
//! bytes into chunks, `intake` says when they are read.
//! What joiners and pages see of a session is `Shared`; nobody but the task changes the stream.

mod attempt;
pub mod gap;
mod hedge;
pub mod ingest;
mod intake;
pub mod opening;
mod repeats;
pub mod state;
mod stuffing;
pub(crate) mod task;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use acemux_media::chunk::{Awaited, Condition};
use acemux_media::clock::Bitrate;
use acemux_media::format::Format;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::gap::Cause;
use crate::admission::AddressGroup;
use crate::history::Span;
use crate::meter::{Counted, Meter, Runway, STREAM_FIGURES, Swarm};
use crate::origin::{OpenError, Progress, Report, Source, SourceId, SourceStats, Stage, Upstream};
use crate::output::hls::Packager;
use crate::output::recording::{Desk, Recording};
use crate::relay::StreamKey;
use crate::ring::{Ring, RingLevel};
use crate::sampling::{Moment, Series, Timeline};
use crate::viewer::{ViewerId, ViewerInfo, ViewerSnapshot, Viewers};

/// Why a stream is over. Its viewers' bodies end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Nobody watched for `STREAM_IDLE_TIMEOUT`.
    Idle,
    /// Everybody left before the start was done.
    Abandoned,
    /// It lingered, or all of its viewers were paused, and another stream needed its slot or its memory.
    GaveWay,
    /// The start failed.
    NotStarted(StartError),
    /// The source ended a live stream.
    UpstreamEnded,
    /// The source broke.
    UpstreamFailed(OpenError),
    /// The source sent nothing, or nothing new, for `HOLD_TIMEOUT`.
    Stalled,
    /// It played for nobody, and who came found no place to begin.
    Unjoinable,
    /// What is broadcast is hours old: the channel plays its end again and again.
    Looping,
    /// The channel turned out to be another session's.
    Merged(StreamKey),
    /// An operator ended it.
    Stopped,
    /// The service stops.
    Shutdown,
    /// The session's task vanished (a bug; its viewers must not hang).
    Lost,
    /// The session had nothing left to wait for and did not end (a bug; see [`crate::session`]).
    Stuck,
}

impl EndReason {
    /// All names.
    pub const NAMES: [&'static str; 14] = [
        "idle",
        "abandoned",
        "gave_way",
        "not_started",
        "upstream_ended",
        "upstream_failed",
        "stalled",
        "unjoinable",
        "looping",
        "merged",
        "stopped",
        "shutdown",
        "lost",
        "stuck",
    ];

    /// Name in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Abandoned => "abandoned",
            Self::GaveWay => "gave_way",
            Self::NotStarted(_) => "not_started",
            Self::UpstreamEnded => "upstream_ended",
            Self::UpstreamFailed(_) => "upstream_failed",
            Self::Stalled => "stalled",
            Self::Unjoinable => "unjoinable",
            Self::Looping => "looping",
            Self::Merged(_) => "merged",
            Self::Stopped => "stopped",
            Self::Shutdown => "shutdown",
            Self::Lost => "lost",
            Self::Stuck => "stuck",
        }
    }
}

/// Why a viewer gets an error instead of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The engine did not give the stream, or gave something else.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The time for a start (`EMPTY_STREAM_TIMEOUT`) was over.
    #[error("no playable data in {} s, waited longest for: {}", waited.as_secs(), describe(*stage, *awaited))]
    Timeout {
        /// Where it was stuck.
        stage: Stage,
        /// What the bytes lacked that came.
        awaited: Option<Awaited>,
        /// The whole budget.
        waited: Duration,
    },
    /// `MAX_VIEWERS` are watching.
    #[error("as many viewers as MAX_VIEWERS allows are watching")]
    ServerFull,
    /// `STREAM_MEMORY` holds no further stream.
    #[error("STREAM_MEMORY holds no further stream")]
    MemoryFull,
    /// `MAX_VIEWERS_PER_IP` are watching from this address.
    #[error("as many viewers as MAX_VIEWERS_PER_IP allows are watching from this address")]
    TooManyViewers,
    /// An operator has thrown a viewer of this address out of the stream just now.
    #[error("an operator has ended this stream for this address")]
    ThrownOut,
    /// It is no broadcast, so it is not cut into pieces.
    #[error("this is a recording: it is played at /ace/getstream, where it can be sought in")]
    Recording,
    /// The service stops.
    #[error("the service is stopping")]
    Draining,
    /// The stream ended while the viewer was joining; the next request starts it anew.
    #[error("the stream ended while it was being joined")]
    Gone,
}

fn describe(stage: Stage, awaited: Option<Awaited>) -> String {
    match stage {
        Stage::Slot => "a free engine".to_owned(),
        Stage::Call => "the engine's answer to the start call".to_owned(),
        Stage::FirstByte => "the first byte".to_owned(),
        Stage::Keyframe => awaited.unwrap_or(Awaited::StartPoint).to_string(),
    }
}

/// How far a session is, as joiners need to know it.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No media yet.
    Opening,
    /// Media is in the ring.
    Live,
    /// Over, and no longer to be found in the relay.
    Ended(EndReason),
}

/// A request to the session's task.
pub(crate) enum Command {
    /// Another session opened this very channel on its source: use it or close it.
    Offer(Box<Upstream>),
    /// Somebody waits for its place: end if nobody watches, ask for a place again if it does not play yet.
    MakeRoom,
    /// End, for this reason.
    End(EndReason),
    /// Somebody found no place to begin: end unless it plays for somebody else.
    EndIfNobodyPlays,
    /// Play on another source, if there is one, for this reason. It names the source to leave.
    Leave(OpenError),
}

/// What everybody but the owner sees of a session.
pub(crate) struct Shared {
    pub(crate) label: String,
    /// Who asked for it first.
    pub(crate) client: AddressGroup,
    pub(crate) created: Timestamp,
    pub(crate) opened: Instant,
    pub(crate) ring: Ring,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) viewers: Viewers,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) bytes_in: AtomicU64,
    /// Milliseconds since `opened` at which a byte last came from the source or a viewer last joined.
    pub(crate) last_progress: AtomicU64,
    /// Cuts the stream for viewers who fetch pieces, while there are any.
    pub(crate) hls: Mutex<Weak<Packager>>,
    /// Who reads it, if it is a recording.
    pub(crate) desk: Desk,
    /// Somebody has been given pieces of it, and as many of them continued nothing.
    pub(crate) was_cut: AtomicBool,
    pub(crate) discontinuities: AtomicU64,
    /// Media time since it began, in milliseconds.
    media: AtomicU64,
    /// By the stream's own clock, in bits per second; 0 before it is known.
    bitrate: AtomicU64,
    /// Locked once a second.
    measured: Mutex<Measured>,
    facts: Mutex<Facts>,
}

/// What is measured of it by looking once a second.
struct Measured {
    meter: Meter,
    runway: Runway,
    /// What its source said, and when: as many seconds as the finest history has.
    told: VecDeque<(Duration, SourceStats)>,
}

/// What has gone wrong with a stream since it began and did not end it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Times that another source was wanted: the one in use was lost, silent, or to be left.
    pub gaps: u64,
    /// Times that the source in use was silent.
    pub stalls: u64,
    /// Times that it went on from another source.
    pub switches: u64,
    /// Times that a viewer fell behind and skipped.
    pub skips: u64,
}

/// What changes rarely and is only shown.
struct Facts {
    key: StreamKey,
    source: Option<Source>,
    report: Option<Arc<dyn Report>>,
    recording: Option<Arc<dyn Recording>>,
    started: Option<Timestamp>,
    lingering_since: Option<Instant>,
    format: Arc<Format>,
    condition: Condition,
    /// How far its start is.
    progress: Option<Progress>,
    gap: Option<(Cause, Instant)>,
    /// But for skips, which the viewers count.
    troubles: Troubles,
}

/// One session at one moment, for pages and metrics.
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// The channel's canonical key.
    pub key: StreamKey,
    /// The first viewer's form of the id, lower case.
    pub label: String,
    /// Opening, live or ended.
    pub phase: Phase,
    /// Where it plays, once known.
    pub source: Option<Source>,
    /// What the source last said.
    pub stats: Option<SourceStats>,
    /// When the first viewer asked.
    pub created: Timestamp,
    /// When media was there.
    pub started: Option<Timestamp>,
    /// How many watch or wait.
    pub viewers: usize,
    /// Since when nobody does.
    pub lingering: Option<Duration>,
    /// Since a byte came or a viewer joined.
    pub idle: Duration,
    /// Bytes from the source.
    pub bytes_in: u64,
    /// Measured by the stream's own clock, over about two seconds.
    pub bitrate: Option<Bitrate>,
    /// How fast it comes by our clock, over ten seconds.
    pub arriving: Option<Bitrate>,
    /// How much a viewer who joined `JOIN_BURST` behind live still has to play, by what has come; `None` before media has,
    /// and of a recording.
    pub runway: Option<Duration>,
    /// As much as that can be.
    pub full_runway: Duration,
    /// What it is; nothing in it before its first tables.
    pub format: Arc<Format>,
    /// How it is.
    pub condition: Condition,
    /// What its start waits for, or waited for last.
    pub stage: Stage,
    /// Since the first viewer asked.
    pub age: Duration,
    /// Why another source is wanted, and for how long it has been.
    pub gap: Option<(Cause, Duration)>,
    /// What has gone wrong so far.
    pub troubles: Troubles,
    /// Media time that has come, since it began.
    pub media: Duration,
    /// Bytes handed to viewers' connections.
    pub bytes_out: u64,
    /// What the ring holds.
    pub ring: RingLevel,
}

impl Shared {
    pub(crate) fn new(
        key: StreamKey,
        first: &ViewerInfo,
        opened: Instant,
        ring: Ring,
        commands: mpsc::Sender<Command>,
        runway: Duration,
    ) -> Arc<Self> {
        let facts = Facts {
            key,
            source: None,
            report: None,
            recording: None,
            started: None,
            lingering_since: None,
            format: Arc::default(),
            condition: Condition::default(),
            progress: None,
            gap: None,
            troubles: Troubles::default(),
        };
        Arc::new(Self {
            label: first.label.clone(),
            client: first.address.into(),
            created: Timestamp::now(),
            opened,
            ring,
            phase: watch::Sender::new(Phase::Opening),
            viewers: Viewers::default(),
            commands,
            bytes_in: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            hls: Mutex::default(),
            desk: Desk::default(),
            was_cut: AtomicBool::new(false),
            discontinuities: AtomicU64::new(0),
            media: AtomicU64::new(0),
            bitrate: AtomicU64::new(0),
            measured: Mutex::new(Measured {
                meter: Meter::default(),
                runway: Runway::new(runway),
                told: VecDeque::new(),
            }),
            facts: Mutex::new(facts),
        })
    }

    pub(crate) fn key(&self) -> StreamKey {
        self.facts.lock().key.clone()
    }

    pub(crate) fn rekey(&self, key: StreamKey) {
        self.facts.lock().key = key;
    }

    pub(crate) fn playing_on(&self, source: Source, report: Arc<dyn Report>) {
        let mut facts = self.facts.lock();
        let is_another = facts.source.as_ref().is_some_and(|before| before.id != source.id);
        // Until media is there nobody knows the one before.
        if is_another && facts.started.is_some() {
            facts.troubles.switches += 1;
        }
        facts.source = Some(source);
        facts.report = Some(report);
    }

    pub(crate) fn records(&self, recording: Arc<dyn Recording>) {
        self.facts.lock().recording = Some(recording);
    }

    pub(crate) fn recording(&self) -> Option<Arc<dyn Recording>> {
        self.facts.lock().recording.clone()
    }

    /// Nobody can open it any more.
    pub(crate) fn forget_recording(&self) {
        let _dropped_after_unlocking = self.facts.lock().recording.take();
    }

    pub(crate) fn source(&self) -> Option<Source> {
        self.facts.lock().source.clone()
    }

    /// False when it has too much to do to listen.
    pub(crate) fn end(&self, reason: EndReason) -> bool {
        self.commands.try_send(Command::End(reason)).is_ok()
    }

    /// False when it has too much to do to listen. One that is over makes room anyway.
    pub(crate) fn make_room(&self) -> bool {
        !matches!(self.commands.try_send(Command::MakeRoom), Err(mpsc::error::TrySendError::Full(_)))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// False when it has too much to do to listen.
    pub(crate) fn leave(&self, source: &SourceId, why: &str) -> bool {
        let why = OpenError::Failed { detail: why.to_owned(), source_id: Some(source.clone()) };
        self.commands.try_send(Command::Leave(why)).is_ok()
    }

    pub(crate) fn live(&self) {
        self.facts.lock().started = Some(Timestamp::now());
        self.phase.send_replace(Phase::Live);
    }

    pub(crate) fn lingers(&self, since: Option<Instant>) {
        self.facts.lock().lingering_since = since;
    }

    pub(crate) fn lingering_since(&self) -> Option<Instant> {
        self.facts.lock().lingering_since
    }

    /// Media has come up to this moment of the stream, at this rate.
    pub(crate) fn reached(&self, media: Duration, bitrate: Option<Bitrate>) {
        self.media.store(u64::try_from(media.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.bitrate.store(bitrate.map_or(0, Bitrate::get), Ordering::Relaxed);
    }

    /// Its start is asked for anew.
    pub(crate) fn asks(&self, progress: Progress) {
        self.facts.lock().progress = Some(progress);
    }

    /// Another source is wanted for this reason, or is no more.
    pub(crate) fn wants_another(&self, cause: Option<Cause>) {
        let mut facts = self.facts.lock();
        let before = facts.gap.map(|(cause, _)| cause);
        facts.troubles.gaps += u64::from(before.is_none() && cause.is_some());
        facts.troubles.stalls += u64::from(before != cause && cause == Some(Cause::Silent));
        let since = facts.gap.map_or_else(Instant::now, |(_, since)| since);
        facts.gap = cause.map(|cause| (cause, since));
    }

    /// It has shown what it is.
    pub(crate) fn is(&self, format: Arc<Format>) {
        self.facts.lock().format = format;
    }

    /// What it is, as far as it has shown it.
    pub(crate) fn format(&self) -> Arc<Format> {
        Arc::clone(&self.facts.lock().format)
    }

    /// How fast it is: by its own clock, or by what the ring holds while that says nothing yet.
    pub(crate) fn rate(&self) -> Option<Bitrate> {
        let measured = self.bitrate.load(Ordering::Relaxed);
        if measured > 0 {
            return Some(Bitrate::new(measured));
        }
        let RingLevel { bytes, media, .. } = self.ring.level();
        let bits = (bytes as u128).checked_mul(8_000)?.checked_div(media.as_millis())?;
        u64::try_from(bits).ok().filter(|bits| *bits > 0).map(Bitrate::new)
    }

    /// It has changed in how it is.
    pub(crate) fn is_like(&self, condition: Condition) {
        self.facts.lock().condition = condition;
    }

    fn stats(&self) -> Option<SourceStats> {
        let report = self.facts.lock().report.clone();
        report.and_then(|report| report.stats())
    }

    /// Once a second. What its source says of the swarm, for the process's sum.
    pub(crate) fn sample(&self, moment: Moment) -> Swarm {
        let stats = self.stats();
        let swarm = stats.as_ref().map_or(Swarm::UNKNOWN, Swarm::of);
        let bytes_in = self.bytes_in.load(Ordering::Relaxed);
        let counted = Counted { bytes_in, bytes_out: self.viewers.bytes(), viewers: self.viewers.count() };
        let Measured { meter, runway, told } = &mut *self.measured.lock();
        runway.sample(moment.awake, Duration::from_millis(self.media.load(Ordering::Relaxed)));
        meter.sample(moment, counted, runway.left().unwrap_or_default().as_secs_f32(), swarm);
        if let Some(stats) = stats {
            if told.len() == Span::Minutes.points() as usize {
                told.pop_front();
            }
            told.push_back((moment.since, stats));
        }
        swarm
    }

    /// What it was like.
    pub(crate) fn series(&self, span: Span, timeline: &Timeline) -> Series {
        timeline.series(STREAM_FIGURES, span, self.measured.lock().meter.history())
    }

    /// What its source said in the last minutes, second by second; the oldest first.
    pub(crate) fn told(&self, timeline: &Timeline) -> Vec<(Timestamp, SourceStats)> {
        let Measured { told, .. } = &*self.measured.lock();
        told.iter().map(|(since, stats)| (timeline.timestamp(*since), stats.clone())).collect()
    }

    pub(crate) fn progressed(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_progress.store(since, Ordering::Relaxed);
    }

    /// It is left as it is when it has too much to do to listen.
    pub(crate) fn end_if_nobody_plays(&self) {
        let _later = self.commands.try_send(Command::EndIfNobodyPlays);
    }

    pub(crate) fn watching(&self) -> Vec<ViewerSnapshot> {
        self.viewers.snapshot(self.ring.level().next)
    }

    pub(crate) fn viewer(&self, id: ViewerId) -> Option<ViewerSnapshot> {
        self.viewers.find(id, self.ring.level().next)
    }

    pub(crate) fn snapshot(&self) -> SessionSnapshot {
        let (arriving, runway, full_runway) = {
            let Measured { meter, runway, .. } = &*self.measured.lock();
            (meter.arriving(), runway.left(), runway.full())
        };
        let facts = self.facts.lock();
        let quiet_from = Duration::from_millis(self.last_progress.load(Ordering::Relaxed));
        let ring = self.ring.level();
        SessionSnapshot {
            key: facts.key.clone(),
            label: self.label.clone(),
            phase: self.phase.borrow().clone(),
            source: facts.source.clone(),
            stats: facts.report.as_ref().and_then(|report| report.stats()),
            created: self.created,
            started: facts.started,
            viewers: self.viewers.count(),
            lingering: facts.lingering_since.map(|since| since.elapsed()),
            idle: self.opened.elapsed().saturating_sub(quiet_from),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bitrate: Some(self.bitrate.load(Ordering::Relaxed)).filter(|rate| *rate > 0).map(Bitrate::new),
            arriving,
            runway,
            full_runway,
            format: Arc::clone(&facts.format),
            condition: facts.condition,
            stage: facts.progress.as_ref().map_or(Stage::Slot, Progress::stage),
            age: self.opened.elapsed(),
            gap: facts.gap.map(|(cause, since)| (cause, since.elapsed())),
            troubles: Troubles { skips: self.viewers.skips(), ..facts.troubles },
            media: Duration::from_millis(self.media.load(Ordering::Relaxed)),
            bytes_out: self.viewers.bytes(),
            ring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_name_among_the_names() {
        let failed = OpenError::Failed { detail: String::new(), source_id: None };
        let all = [
            EndReason::Idle,
            EndReason::Abandoned,
            EndReason::GaveWay,
            EndReason::NotStarted(StartError::Draining),
            EndReason::UpstreamEnded,
            EndReason::UpstreamFailed(failed),
            EndReason::Stalled,
            EndReason::Unjoinable,
            EndReason::Looping,
            EndReason::Merged(StreamKey::new("x")),
            EndReason::Stopped,
            EndReason::Shutdown,
            EndReason::Lost,
            EndReason::Stuck,
        ];
        assert_eq!(all.map(|reason| reason.as_str()), EndReason::NAMES);
    }
}
