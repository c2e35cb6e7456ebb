//! Which channels are playing, and how a viewer gets into one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admission::{AddressGroup, Admission, Refusal, Seat};
use crate::bars::Bars;
use crate::budget::{Budget, Lease};
use crate::event::{Event, Observer};
use crate::history::Span;
use crate::origin::{Origin, SourceId, SourceStats, Stage};
use crate::output::hls::{HlsOptions, Places};
use crate::ring::{Ring, RingLimits};
use crate::rounds::Rounds;
use crate::sampling::{Sampling, Series};
use crate::session::state::Timings;
use crate::session::task::Task;
use crate::session::{EndReason, Phase, SessionSnapshot, Shared, StartError};
use crate::turns::Turns;
use crate::viewer::{Delivered, Viewer, ViewerGuard, ViewerId, ViewerInfo, ViewerSnapshot};

/// Identity of one shared session. Two requests with equal keys watch the same stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(Arc<str>);

impl StreamKey {
    /// The origin decides what it means; it must be canonical.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How streams are kept and shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// The deadlines of every session.
    pub timings: Timings,
    /// Largest chunk in bytes (`COPY_CHUNK_SIZE`).
    pub chunk_bytes: usize,
    /// How far behind live a joining player starts (`JOIN_BURST`).
    pub join_burst: Duration,
    /// History per stream in media time (`STREAM_BUFFER_SECONDS`).
    pub ring_media: Duration,
    /// History per stream in bytes (`STREAM_BUFFER_SIZE`).
    pub ring_bytes: usize,
    /// Media time that the history of a fast stream is to hold, though it takes more bytes than that; none when these were
    /// chosen.
    pub ring_floor: Duration,
    /// All streams' history together in bytes (`STREAM_MEMORY`).
    pub memory: usize,
    /// `MAX_VIEWERS`.
    pub most_viewers: usize,
    /// `MAX_VIEWERS_PER_IP`.
    pub most_viewers_per_address: usize,
    /// Viewers who fetch pieces.
    pub hls: HlsOptions,
}

/// How often one request may be passed on from a session that ended under it to the next.
const MOST_MOVES: usize = 3;

/// What players have to play at the beginning when `JOIN_BURST` is short: they collect so much before they begin.
const LEAST_RUNWAY: Duration = Duration::from_secs(2);

/// Grace of a waiter beyond the session's own deadline: it only fires if that deadline failed to.
const WAITER_GRACE: Duration = Duration::from_secs(5);

/// How long a stream that has to make room takes at most to be gone.
const ROOM_WITHIN: Duration = Duration::from_secs(2);

/// Offers from other sessions and requests to give way; both are rare, and a full queue only means "later".
const COMMAND_QUEUE: usize = 8;

/// The data plane's front door.
#[derive(Clone)]
pub struct Relay {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: watch::Sender<RelayConfig>,
    pub(crate) origin: Arc<dyn Origin>,
    pub(crate) stop: CancellationToken,
    /// What runs for the relay ends with it, also where nobody has stopped it.
    _end: DropGuard,
    pub(crate) totals: Totals,
    pub(crate) rounds: Rounds,
    turns: Arc<Turns>,
    pub(crate) sampling: Sampling,
    observer: Arc<dyn Observer>,
    budget: Arc<Budget>,
    admission: Arc<Admission>,
    bars: Bars,
    sessions: Mutex<HashMap<StreamKey, Arc<Shared>>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) hls: Places,
    next_viewer: AtomicU64,
    waiting: AtomicUsize,
}

/// Bytes since the process began.
#[derive(Default)]
pub struct Totals {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) delivered: Delivered,
}

impl Totals {
    /// From sources, and to viewers' connections.
    pub fn read(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.delivered.sum())
    }
}

/// Whether a session may call a channel its own.
pub(crate) enum Claim {
    Mine,
    Taken(Arc<Shared>),
}

/// What became of one wait for a session.
enum Waited {
    Joined(Viewer),
    Again(StreamKey),
}

impl Relay {
    /// A relay that opens its streams at `origin` and tells `observer` what happens.
    pub fn new(config: RelayConfig, origin: Arc<dyn Origin>, observer: Arc<dyn Observer>) -> Self {
        let stop = CancellationToken::new();
        let inner = Inner {
            _end: stop.clone().drop_guard(),
            stop,
            budget: Budget::new(config.memory, config.ring_bytes),
            admission: Admission::new(config.most_viewers, config.most_viewers_per_address),
            config: watch::Sender::new(config),
            origin,
            observer,
            totals: Totals::default(),
            rounds: Rounds::new(Instant::now()),
            turns: Turns::of_this_runtime(),
            sampling: Sampling::new(Instant::now()),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            bars: Bars::default(),
            hls: Places::default(),
            next_viewer: AtomicU64::new(1),
            waiting: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Other deadlines and limits from now on, also for streams that play. Running viewers are never touched. How much of
    /// a stream is kept (`ring_media`, `ring_bytes`, `memory`) and in what chunks stays as it was.
    pub fn follow(&self, config: &RelayConfig) {
        let RelayConfig { timings, join_burst, most_viewers, most_viewers_per_address, hls, .. } = *config;
        self.inner.admission.limit(most_viewers, most_viewers_per_address);
        self.inner.config.send_if_modified(|current| {
            let next =
                RelayConfig { timings, join_burst, most_viewers, most_viewers_per_address, hls, ..*current };
            let is_news = *current != next;
            *current = next;
            is_news
        });
    }

    /// A place for one more viewer, before anything else is done for it. When there is none, the one that has been paused
    /// longest gives way.
    pub fn admit(&self, info: &ViewerInfo) -> Result<Admitted, StartError> {
        if self.inner.stop.is_cancelled() {
            return Err(StartError::Draining);
        }
        let seat = self.inner.seat_for(info.address.into())?;
        Ok(Admitted { seat: Arc::new(seat), at: Instant::now() })
    }

    /// When a viewer admitted at that moment must have media or an error.
    pub fn deadline(&self, admitted: &Admitted) -> Instant {
        self.inner.deadline(admitted)
    }

    /// Joins the channel, starting it if nobody watches it yet. Returns when decodable data is there.
    pub async fn join(
        &self,
        key: StreamKey,
        info: ViewerInfo,
        admitted: Admitted,
    ) -> Result<Viewer, StartError> {
        self.inner.join(key, info, admitted, Knows::Address).await
    }

    /// Every session, the oldest first.
    pub fn sessions(&self) -> Vec<SessionSnapshot> {
        let mut sessions = self.inner.distinct();
        sessions.sort_by_key(|shared| shared.opened);
        sessions.iter().map(|shared| shared.snapshot()).collect()
    }

    /// One session.
    pub fn session(&self, key: &StreamKey) -> Option<SessionSnapshot> {
        self.inner.sessions.lock().get(key).map(|shared| shared.snapshot())
    }

    /// Streams that play or start.
    pub fn streams(&self) -> usize {
        self.inner.distinct().len()
    }

    /// Who watches a stream or waits for it; nobody when there is no such stream.
    pub fn watching(&self, key: &StreamKey) -> Vec<ViewerSnapshot> {
        let shared = self.inner.sessions.lock().get(key).cloned();
        shared.map(|shared| shared.watching()).unwrap_or_default()
    }

    /// A viewer and its stream.
    pub fn viewer(&self, viewer: u64) -> Option<(StreamKey, ViewerSnapshot)> {
        let streams = self.inner.distinct();
        streams.iter().find_map(|shared| Some((shared.key(), shared.viewer(ViewerId(viewer))?)))
    }

    /// Throws a viewer out, also one that still waits for its stream's start: its connection is cut, its place is free.
    /// False when no viewer has this number.
    pub fn kick(&self, viewer: u64) -> bool {
        self.inner.distinct().iter().any(|shared| shared.kick(ViewerId(viewer)))
    }

    /// Keeps a client out of a stream for [`crate::bars::BAR`]. Who watches it stays.
    pub fn keep_out(&self, key: &StreamKey, client: AddressGroup) {
        self.inner.bars.add(key, client);
    }

    /// Every source that a stream plays on, once.
    pub fn sources(&self) -> Vec<SourceId> {
        let sessions = self.inner.distinct();
        let mut sources: Vec<_> = sessions.iter().filter_map(|shared| Some(shared.source()?.id)).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Every stream that plays on `source` goes elsewhere, if there is another source for it; its viewers stay. Streams
    /// that nobody watches end. `why` is one line. Tells how many streams play there.
    pub fn leave(&self, source: &SourceId, why: &str) -> usize {
        let there = |shared: &Arc<Shared>| shared.source().is_some_and(|at| at.id == *source);
        let sessions: Vec<_> = self.inner.distinct().into_iter().filter(there).collect();
        for shared in &sessions {
            shared.leave(source, why);
        }
        sessions.len()
    }

    /// The same for one stream. False when there is no such stream, or none that plays.
    pub fn leave_with(&self, key: &StreamKey, why: &str) -> bool {
        let shared = self.inner.sessions.lock().get(key).cloned();
        let playing = shared.and_then(|shared| Some((shared.source()?, shared)));
        playing.is_some_and(|(source, shared)| shared.leave(&source.id, why))
    }

    /// Ends a stream; its viewers' connections end with it. False when there is none.
    pub fn end(&self, key: &StreamKey, reason: EndReason) -> bool {
        let shared = self.inner.sessions.lock().get(key).cloned();
        shared.is_some_and(|shared| shared.end(reason))
    }

    /// Bytes that all streams' histories together may hold.
    pub fn memory(&self) -> usize {
        self.inner.budget.total()
    }

    /// Bytes since the process began.
    pub fn totals(&self) -> &Totals {
        &self.inner.totals
    }

    /// What the process was like.
    pub fn history(&self, span: Span) -> Series {
        self.inner.sampling.process(span)
    }

    /// What a stream was like, from its first viewer's request on. It ends with the stream.
    pub fn history_of(&self, key: &StreamKey, span: Span) -> Option<Series> {
        let shared = self.inner.sessions.lock().get(key).cloned()?;
        Some(shared.series(span, self.inner.sampling.timeline()))
    }

    /// What a stream's source has said in the last five minutes, once for each second in which it had said something; the
    /// oldest first.
    pub fn told_of(&self, key: &StreamKey) -> Option<Vec<(Timestamp, SourceStats)>> {
        let shared = self.inner.sessions.lock().get(key).cloned()?;
        Some(shared.told(self.inner.sampling.timeline()))
    }

    /// Viewers and waiters at this moment.
    pub fn viewers(&self) -> usize {
        self.inner.admission.taken()
    }

    /// Requests that wait for a start at this moment.
    pub fn waiting(&self) -> usize {
        self.inner.waiting.load(Ordering::Relaxed)
    }

    /// Ends every stream and refuses new ones. Returns when every session's task has ended.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// One viewer's place in the limits, taken before its channel is looked up. The budget of a start counts from here, so
/// that finding out which channel is meant is part of it.
pub struct Admitted {
    seat: Arc<Seat>,
    at: Instant,
}

/// By what a viewer that was thrown out is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knows {
    /// By where it comes from: there is nothing else.
    Address,
    /// By its token: others may come from the same address.
    Token,
}

impl Inner {
    fn seat_for(&self, client: AddressGroup) -> Result<Seat, StartError> {
        let refusal = match self.admission.admit(client) {
            Ok(seat) => return Ok(seat),
            Err(refusal) => refusal,
        };
        let of = (refusal == Refusal::AddressFull).then_some(client);
        if !self.paused_gives_way(of) {
            return Err(refusal.into());
        }
        Ok(self.admission.admit(client)?)
    }

    /// Has a stream end whose memory somebody needs: one that nobody watches, or else one whose viewers are all paused, the
    /// longest first. False when there is none.
    fn make_memory(&self) -> bool {
        let sessions = self.distinct();
        let unwatched = sessions.iter().filter_map(|shared| Some((shared.viewers.idle()?.0, shared)));
        if let Some((_, shared)) = unwatched.min_by_key(|(since, _)| *since) {
            return shared.make_room();
        }
        let paused = sessions.iter().filter_map(|shared| Some((shared.viewers.all_paused_since()?, shared)));
        let longest = paused.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, shared)| shared.make_room())
    }

    fn deadline(&self, admitted: &Admitted) -> Instant {
        admitted.at + self.config().timings.start_budget
    }

    pub(crate) async fn join(
        self: &Arc<Self>,
        key: StreamKey,
        info: ViewerInfo,
        admitted: Admitted,
        by: Knows,
    ) -> Result<Viewer, StartError> {
        let mut key = key;
        for _ in 0..MOST_MOVES {
            let guard = match self.enter(&key, &info, &admitted, by) {
                Err(StartError::MemoryFull) if self.make_memory() => {
                    Box::pin(self.enter_later(&key, &info, &admitted, by)).await?
                }
                entered => entered?,
            };
            match self.wait(guard, self.deadline(&admitted)).await? {
                Waited::Joined(viewer) => return Ok(viewer),
                Waited::Again(other) => key = other,
            }
        }
        Err(StartError::Gone)
    }

    fn enter(
        self: &Arc<Self>,
        key: &StreamKey,
        info: &ViewerInfo,
        admitted: &Admitted,
        by: Knows,
    ) -> Result<ViewerGuard, StartError> {
        let mut sessions = self.sessions.lock();
        if self.stop.is_cancelled() {
            return Err(StartError::Draining);
        }
        let open = sessions.get(key).cloned();
        // A stream may have been asked for by another of its names.
        let named = [Some(key.clone()), open.as_ref().map(|shared| shared.key())];
        let is_barred = || named.iter().flatten().any(|key| self.bars.keep_out(key, info.address.into()));
        if by == Knows::Address && is_barred() {
            return Err(StartError::ThrownOut);
        }
        let (shared, begun) = if let Some(shared) = open {
            (shared, None)
        } else {
            let (shared, task) = self.begin(&mut sessions, key, info, admitted.at)?;
            (shared, Some(task))
        };
        let id = ViewerId(self.next_viewer.fetch_add(1, Ordering::Relaxed));
        let guard =
            ViewerGuard::enter(Arc::clone(self), shared, Arc::clone(&admitted.seat), id, info.clone());
        drop(sessions);
        // Not under the lock: a runtime that is ending drops the task at once, and its drop takes the lock.
        if let Some(task) = begun {
            self.tasks.spawn(task.run());
            if let Some(leading) = self.turns.lead(self.stop.clone()) {
                self.tasks.spawn(leading);
            }
            self.keep_sampling();
        }
        Ok(guard)
    }

    /// Room is being made: a stream needs a moment to end.
    async fn enter_later(
        self: &Arc<Self>,
        key: &StreamKey,
        info: &ViewerInfo,
        admitted: &Admitted,
        by: Knows,
    ) -> Result<ViewerGuard, StartError> {
        let until = Instant::now() + ROOM_WITHIN;
        loop {
            sleep(ROOM_WITHIN / 20).await;
            match self.enter(key, info, admitted, by) {
                Err(StartError::MemoryFull) if Instant::now() < until => {}
                entered => return entered,
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        sessions: &mut HashMap<StreamKey, Arc<Shared>>,
        key: &StreamKey,
        info: &ViewerInfo,
        asked: Instant,
    ) -> Result<(Arc<Shared>, Task), StartError> {
        let lease = self.budget.lease().ok_or(StartError::MemoryFull)?;
        let config = self.config();
        let limits = RingLimits { media: config.ring_media, bytes: config.ring_bytes };
        let (producer, ring) = Ring::new(limits);
        let producer = producer.in_turns(self.turns.part());
        lease.is_for(&ring);
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let runway = config.join_burst.max(LEAST_RUNWAY);
        let shared = Shared::new(key.clone(), info, asked, ring, commands, runway);
        sessions.insert(key.clone(), Arc::clone(&shared));
        self.observe(&Event::SessionOpened { key });
        let task = Task::new(Arc::clone(self), Arc::clone(&shared), producer, inbox, lease);
        Ok((shared, task))
    }

    /// How streams are kept, at this moment.
    pub(crate) fn config(&self) -> RelayConfig {
        *self.config.borrow()
    }

    /// Tells when that is another.
    pub(crate) fn config_changes(&self) -> watch::Receiver<RelayConfig> {
        self.config.subscribe()
    }

    async fn wait(&self, guard: ViewerGuard, deadline: Instant) -> Result<Waited, StartError> {
        let shared = Arc::clone(guard.shared());
        let known = shared.phase.borrow().clone();
        let decided = match known {
            // Boxed, so that a request which need not wait does not carry the room for waiting.
            Phase::Opening => Box::pin(self.decided(&shared)).await,
            decided => Some(decided),
        };
        match decided {
            Some(Phase::Live) => match self.seat(guard) {
                Ok(viewer) => Ok(Waited::Joined(viewer)),
                Err(guard) => Box::pin(self.seat_later(guard, deadline)).await,
            },
            Some(Phase::Ended(reason)) => after_the_end(reason, shared.key()),
            Some(Phase::Opening) | None => Err(StartError::Timeout {
                stage: Stage::Slot,
                awaited: None,
                waited: self.config().timings.start_budget,
            }),
        }
    }

    async fn decided(&self, shared: &Arc<Shared>) -> Option<Phase> {
        let _waiting = Waiting::new(&self.waiting);
        let mut phase = shared.phase.subscribe();
        let longest = self.config().timings.start_budget + WAITER_GRACE;
        let phase = timeout(longest, phase.wait_for(|phase| *phase != Phase::Opening)).await;
        phase.ok().and_then(Result::ok).map(|phase| phase.clone())
    }

    /// The guard comes back when there is nothing to begin with. A recording is not read from the ring.
    fn seat(&self, guard: ViewerGuard) -> Result<Viewer, ViewerGuard> {
        let shared = guard.shared();
        let (prelude, cursor) = shared.ring.join(self.config().join_burst);
        if cursor.has_start() || shared.recording().is_some() {
            Ok(Viewer::new(guard, prelude, cursor))
        } else {
            Err(guard)
        }
    }

    /// The stream plays, and its ring holds no place where a decoder could begin. One may come; a viewer who got an answer
    /// before would look at nothing for as long as none does.
    async fn seat_later(&self, mut guard: ViewerGuard, deadline: Instant) -> Result<Waited, StartError> {
        let _waiting = Waiting::new(&self.waiting);
        let shared = Arc::clone(guard.shared());
        let (_, cursor) = shared.ring.join(self.config().join_burst);
        while timeout_at(deadline, cursor.start()).await.is_ok() {
            if let Phase::Ended(reason) = shared.phase.borrow().clone() {
                return after_the_end(reason, shared.key());
            }
            match self.seat(guard) {
                Ok(viewer) => return Ok(Waited::Joined(viewer)),
                Err(again) => guard = again,
            }
        }
        // Whoever asks next begins it anew, unless there is somebody for whom it plays.
        shared.end_if_nobody_plays();
        let waited = self.config().timings.start_budget;
        Err(StartError::Timeout { stage: Stage::Keyframe, awaited: None, waited })
    }

    /// Takes a session out of the table. With `if_unwatched` only when nobody watches or waits; a viewer cannot come
    /// in between, because it enters under the same lock. Under it `let_go` gives up what the session has at its sources,
    /// too: whoever comes next begins a session of his own, and must find the former one's playback on its way out.
    pub(crate) fn retire(&self, shared: &Arc<Shared>, if_unwatched: bool, let_go: impl FnOnce()) -> bool {
        let mut sessions = self.sessions.lock();
        if if_unwatched && shared.viewers.count() > 0 {
            return false;
        }
        sessions.retain(|_, known| !Arc::ptr_eq(known, shared));
        let_go();
        true
    }

    /// A start has revealed the channel's canonical key.
    pub(crate) fn claim(&self, shared: &Arc<Shared>, key: &StreamKey) -> Claim {
        let mut sessions = self.sessions.lock();
        match sessions.get(key) {
            Some(other) if !Arc::ptr_eq(other, shared) => Claim::Taken(Arc::clone(other)),
            _ => {
                // The old key stays in the table too: requests that could not resolve it yet still find the session.
                sessions.insert(key.clone(), Arc::clone(shared));
                shared.rekey(key.clone());
                Claim::Mine
            }
        }
    }

    /// The session of this name.
    pub(crate) fn find(&self, key: &StreamKey) -> Option<Arc<Shared>> {
        self.sessions.lock().get(key).cloned()
    }

    /// A place in the memory budget.
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.budget.lease()
    }

    pub(crate) fn observe(&self, event: &Event<'_>) {
        self.observer.observe(event);
    }

    /// Viewers and waiters at this moment.
    pub(crate) fn viewers(&self) -> usize {
        self.admission.taken()
    }

    /// Each session once, though it may be known by two keys.
    pub(crate) fn distinct(&self) -> Vec<Arc<Shared>> {
        let sessions = self.sessions.lock();
        let own = sessions.iter().filter(|(key, shared)| shared.key() == **key);
        own.map(|(_, shared)| Arc::clone(shared)).collect()
    }
}

/// Counts a waiting request.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request does whose session ended before it got in.
fn after_the_end(reason: EndReason, key: StreamKey) -> Result<Waited, StartError> {
    match reason {
        EndReason::NotStarted(error) => Err(error),
        EndReason::Shutdown => Err(StartError::Draining),
        EndReason::Merged(other) => Ok(Waited::Again(other)),
        EndReason::Lost | EndReason::Stuck | EndReason::Unjoinable | EndReason::Stopped => {
            Err(StartError::Gone)
        }
        EndReason::Idle
        | EndReason::Abandoned
        | EndReason::GaveWay
        | EndReason::UpstreamEnded
        | EndReason::UpstreamFailed(_)
        | EndReason::Stalled
        | EndReason::Looping => Ok(Waited::Again(key)),
    }
}

impl From<Refusal> for StartError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::ServerFull => Self::ServerFull,
            Refusal::AddressFull => Self::TooManyViewers,
        }
    }
}
