//! One engine: its calls, its open playbacks, and the tasks that end them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::calls::{Calls, Place};
use crate::content::{Hash, Infohash};
use crate::endpoint::Endpoint;
use crate::error::{EngineError, Stage};
use crate::family::Family;
use crate::http::{Client, PlayerId, Version};
use crate::path::EnginePath;
use crate::playback::Playback;
use crate::sessions::{Alive, Closing, Ending, Sessions, Starting};
use crate::start::{StartBy, StartFailure, Started};

/// How long an engine may take.
#[derive(Clone, Debug)]
pub struct Timings {
    /// To accept a connection.
    pub connect: Duration,
    /// To answer a start call. Real engines take half a second for a channel they know and 28 s to give an unknown
    /// infohash up.
    pub start: Limit,
    /// To stop a playback, all tries together. Real engines have been seen to hang here; meanwhile the slot is taken.
    pub stop: Duration,
    /// Between the first and the second try of a stop; doubled for the third, the last.
    pub stop_pause: Duration,
    /// To answer a question about a playback or about itself.
    pub query: Duration,
    /// To find the infohash of a channel. Real engines take up to 4.7 s to say that they cannot.
    pub resolve: Duration,
    /// Between two looks at the state of a playback.
    pub stat_every: Duration,
}

/// A length of time that may be changed while it is in use. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Limit(Arc<AtomicU64>);

impl Limit {
    /// Of this length, to the millisecond.
    pub fn new(length: Duration) -> Self {
        Self(Arc::new(AtomicU64::new(millis(length))))
    }

    /// Its length now.
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Another length from now on; what waits already keeps its own.
    pub fn set(&self, length: Duration) {
        self.0.store(millis(length), Ordering::Relaxed);
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            start: Limit::new(Duration::from_secs(30)),
            stop: Duration::from_secs(3),
            stop_pause: Duration::from_millis(250),
            query: Duration::from_secs(5),
            resolve: Duration::from_secs(5),
            stat_every: Duration::from_secs(2),
        }
    }
}

/// How many sessions have been opened on an engine, and how they ended. What was opened and is in neither of the other
/// two is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Starts that the engine has answered with a session.
    pub opened: u64,
    /// Sessions that ended: stopped, or superseded by a newer one.
    pub closed: u64,
    /// Sessions whose stop was given up unanswered: the engine may still have them.
    pub stop_failed: u64,
}

/// Counts sessions, of one engine or of all that share it: a fleet's engines come and go, what happened on them stays.
#[derive(Debug, Default)]
pub struct SessionTotals {
    opened: AtomicU64,
    closed: AtomicU64,
    stop_failed: AtomicU64,
}

impl SessionTotals {
    /// Counted so far.
    pub fn read(&self) -> SessionCounts {
        let Self { opened, closed, stop_failed } = self;
        SessionCounts {
            opened: opened.load(Ordering::Relaxed),
            closed: closed.load(Ordering::Relaxed),
            stop_failed: stop_failed.load(Ordering::Relaxed),
        }
    }
}

/// How long a start waits to learn which program the engine is.
const RECOGNISED: Duration = Duration::from_millis(300);

/// Tries of a stop, all within its deadline.
const STOP_TRIES: u32 = 3;

/// One AceStream engine that runs somewhere. A handle: cheap to clone, all clones are the same engine. There must be
/// one per endpoint, because the order of its starts and stops is kept here.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

/// Remembers which sessions are open, where a crash does not reach, so that the next start can end them.
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// A session of the channel is open; `command` is where it is stopped. Returns the name of the entry. Must not
    /// block.
    fn opened(&self, engine: &Endpoint, channel: Hash, command: &EnginePath) -> u64;

    /// The session of this entry has ended, or its stop was given up.
    fn closed(&self, entry: u64);

    /// What an earlier run left open on this engine; each is handed out once.
    fn left_open(&self, engine: &Endpoint) -> Vec<LeftOpen>;
}

/// A session that an earlier run left open.
#[derive(Clone, Debug)]
pub struct LeftOpen {
    /// Its entry in the journal.
    pub entry: u64,
    /// The channel.
    pub channel: Hash,
    /// Where it is stopped.
    pub command: EnginePath,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    journal: Option<Arc<dyn Journal>>,
    sessions: Arc<Sessions>,
    /// Start calls under way.
    calls: Arc<Calls<Answer>>,
    counters: SessionTotals,
    /// What all engines of the fleet have counted, those included that are gone.
    totals: Arc<SessionTotals>,
    family: RwLock<Family>,
    /// A start has waited for that once.
    recognised: OnceCell<()>,
    echoes: OnceCell<bool>,
    /// Start calls, looks at playbacks, and stops. Bounded by the places of the calls and by the permits: each task is
    /// such a call, belongs to a playback that holds a permit, or is the stop of one of these.
    tasks: TaskTracker,
    /// Stops are sent from `Drop`, which may run outside of the runtime.
    runtime: Handle,
}

impl Engine {
    /// The engine at `endpoint`. Must be called in a tokio runtime, which will run its tasks.
    pub fn new(endpoint: Endpoint, timings: Timings) -> Self {
        Self::of_fleet(endpoint, timings, None, Arc::default())
    }

    /// The same, remembering its open sessions and counting them together with others'.
    pub fn of_fleet(
        endpoint: Endpoint,
        timings: Timings,
        journal: Option<Arc<dyn Journal>>,
        totals: Arc<SessionTotals>,
    ) -> Self {
        let engine = Self(Arc::new(Shared {
            client: Client::new(endpoint, timings),
            journal,
            sessions: Arc::default(),
            calls: Arc::default(),
            counters: SessionTotals::default(),
            totals,
            family: RwLock::default(),
            recognised: OnceCell::new(),
            echoes: OnceCell::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        }));
        engine.end_what_was_left();
        engine
    }

    /// What an earlier run left open is stopped before anybody can start anything: starts of those channels wait.
    fn end_what_was_left(&self) {
        let left =
            self.0.journal.as_ref().map(|journal| journal.left_open(self.endpoint())).unwrap_or_default();
        for LeftOpen { entry, channel, command } in left {
            tracing::info!(engine = %self.endpoint(), "ending a playback that an earlier run left open");
            let (engine, closing) = (self.clone(), self.0.sessions.orphan(channel));
            self.count(|counts| &counts.opened);
            self.spawn(async move {
                engine.close(&closing, Some(&command)).await;
                engine.forget(Some(entry));
            });
        }
    }

    /// Where its API listens.
    pub fn endpoint(&self) -> &Endpoint {
        self.0.client.endpoint()
    }

    /// Opens a session. `permit` is the right to have one more on this engine; it is dropped when the engine has
    /// answered that the session has ended, or has been given up.
    ///
    /// Waits first while the channel's last session is being stopped here (see [`Self::is_closing`]). Cancel safe: if
    /// the future is dropped, the permit is free at once, and the call is left to itself. What the engine opens when it
    /// answers at last is stopped, unless a new start of the same channel has taken the call over.
    pub async fn open<P: Send + Sync + 'static>(
        &self,
        by: StartBy,
        permit: P,
    ) -> Result<Playback, EngineError> {
        let mut caller = if let Some(caller) = self.0.calls.take_over(by) {
            caller
        } else {
            let starting = self.0.sessions.start(by.hash()).await;
            let (place, caller) = self.0.calls.place(by).await;
            if self.0.tasks.is_closed() {
                return Err(EngineError::Closed);
            }
            self.spawn(self.clone().call(by, starting, place));
            caller
        };
        // Without an answer the runtime shuts down.
        let answer = caller.answered().await.unwrap_or(Err(EngineError::Closed.into()));
        self.settle(answer, Box::new(permit))
    }

    /// Joins what the engine has opened with the right to have it there. A permit that nothing needs is back before
    /// the caller learns of the failure.
    fn settle(&self, answer: Answer, permit: Permit) -> Result<Playback, EngineError> {
        match answer {
            Ok(Opened { started, player, mut session }) => {
                session.hold(permit);
                Ok(Playback::new(self.clone(), started, player, session))
            }
            Err(Unopened { error, session }) => {
                if let Some(mut session) = session {
                    session.hold(permit);
                }
                Err(error)
            }
        }
    }

    /// Start calls under way, and those of them that nobody waits for.
    pub fn calls(&self) -> (usize, usize) {
        self.0.calls.count()
    }

    /// Whether a start of this channel would wait for a stop: another engine may be the better choice.
    pub fn is_closing(&self, infohash: Infohash) -> bool {
        self.0.sessions.is_closing(infohash.hash())
    }

    /// Whether nothing of ours goes on there: no start call, also none that nobody waits for any more, no session, no stop.
    pub fn is_at_rest(&self) -> bool {
        self.0.sessions.is_empty()
    }

    /// Start calls under way that somebody waits for.
    pub fn wanted_calls(&self) -> usize {
        let (all, abandoned) = self.calls();
        all - abandoned
    }

    /// The infohash behind a hash that is a content id or an infohash, as `by` says. `None` when the engine cannot
    /// tell; [`EngineError::Refused`] when it says that there is no such channel. Opens no session.
    pub async fn media_files(&self, by: StartBy) -> Result<Option<Infohash>, EngineError> {
        self.0.client.media_files(by).await
    }

    /// Which program it is, by what it says.
    pub async fn version(&self) -> Result<Version, EngineError> {
        let version = self.0.client.version().await?;
        *self.0.family.write() = version.family;
        Ok(version)
    }

    /// Which program it is, asked now if nobody has asked yet: a start depends on it.
    pub async fn recognise(&self) -> Family {
        if self.family() == Family::Unknown {
            // Once: one that does not answer must not delay every start.
            self.0.recognised.get_or_init(async || drop(timeout(RECOGNISED, self.version()).await)).await;
        }
        self.family()
    }

    /// Which program it was when it was last asked for its version.
    pub fn family(&self) -> Family {
        *self.0.family.read()
    }

    /// Whether it answers an infohash that nobody can have with itself: then such an answer is worth nothing. Asked once;
    /// while it has not answered, its family's habit counts.
    pub async fn echoes(&self) -> bool {
        let asked = self.0.echoes.get_or_try_init(|| self.ask_for_nothing()).await;
        asked.map_or_else(|_no_answer| self.family().facts().echoes_infohashes, |echoes| *echoes)
    }

    /// The same, as far as it is known without asking.
    pub(crate) fn is_known_to_echo(&self) -> bool {
        let found_out = self.0.echoes.get().copied();
        found_out
            .unwrap_or_else(|| self.family() != Family::Unknown && self.family().facts().echoes_infohashes)
    }

    async fn ask_for_nothing(&self) -> Result<bool, EngineError> {
        let nobodys = Infohash::new(Hash::new(rand::random()));
        match self.media_files(StartBy::Infohash(nobodys)).await {
            Ok(answer) => Ok(answer == Some(nobodys)),
            Err(EngineError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it answers its API, not only its port.
    pub async fn check(&self) -> Result<(), EngineError> {
        self.0.client.check().await
    }

    /// Whether it says that it has a network; `None` when it says nothing of the kind.
    pub async fn is_connected(&self) -> Result<Option<bool>, EngineError> {
        self.0.client.is_connected().await
    }

    /// Sessions opened and ended so far.
    pub fn session_counts(&self) -> SessionCounts {
        self.0.counters.read()
    }

    /// Starts nothing more, and waits until every session has been stopped or given up, at most for `deadline`. The
    /// playbacks must have been dropped: a live one has a session and is waited for. False when the deadline came
    /// first.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.0.tasks.close();
        timeout(deadline, self.0.tasks.wait()).await.is_ok()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Runs a task that [`Self::drain`] waits for.
    fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tasks.spawn_on(task, &self.0.runtime)
    }

    /// Runs a task that lives as long as its handle.
    pub(crate) fn spawn_owned<F>(&self, task: F) -> AbortOnDropHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        AbortOnDropHandle::new(self.spawn(task))
    }

    /// The task behind [`Self::open`]: one start call, from the request to its answer, whoever waits for that by then.
    async fn call(self, by: StartBy, starting: Starting, place: Place<Answer>) {
        let player = PlayerId::random();
        let reply = tokio::select! {
            biased;
            reply = self.0.client.start(by, player) => reply,
            () = place.closed() => return,
        };
        let answer = match reply {
            Ok(started) => {
                let session = self.opened(starting, by, &started, place.is_wanted());
                Ok(Opened { started, player, session })
            }
            Err(StartFailure { error, command }) => {
                tracing::debug!(engine = %self.endpoint(), %error, "start failed");
                Err(Unopened { error, session: self.half_opened(starting, by, command) })
            }
        };
        // Without a taker what was opened is stopped by its drop.
        place.answer(answer);
    }

    /// An unusable reply can have opened a session. What a start without any reply has opened has no name we know; the
    /// engine ends it itself, because nobody reads it.
    fn half_opened(&self, starting: Starting, by: StartBy, command: Option<EnginePath>) -> Option<Session> {
        let command = command?;
        self.count(|counts| &counts.opened);
        Some(Session::new(self.clone(), by.hash(), starting.opened(by.hash(), false), Some(command)))
    }

    /// Enters a session that the engine has opened.
    fn opened(&self, starting: Starting, by: StartBy, started: &Started, wanted: bool) -> Session {
        self.count(|counts| &counts.opened);
        let hash = started.infohash.map_or(by.hash(), Infohash::hash);
        Session::new(self.clone(), hash, starting.opened(hash, wanted), started.command.clone())
    }

    /// Sends the stop, several times if need be, within its deadline.
    async fn stop(&self, command: &EnginePath, closing: &Closing) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.0.client.timings().stop;
        let tries = self.try_to_stop(command, closing);
        timeout_at(deadline, tries).await.unwrap_or(Err(EngineError::Timeout { stage: Stage::Stop }))
    }

    async fn try_to_stop(&self, command: &EnginePath, closing: &Closing) -> Result<(), EngineError> {
        let mut pause = self.0.client.timings().stop_pause;
        for _ in 1..STOP_TRIES {
            let Err(error) = self.0.client.stop(command).await else { return Ok(()) };
            if timeout(pause, closing.outranked()).await.is_ok() {
                return Err(error);
            }
            pause *= 2;
        }
        self.0.client.stop(command).await
    }

    /// Ends a session that nobody uses any more, and counts how.
    async fn close(&self, closing: &Closing, command: Option<&EnginePath>) {
        let outcome = match command {
            Some(command) => self.stop(command, closing).await,
            // The engine gave no way to stop it: it ends with its playback connection.
            None => Ok(()),
        };
        match outcome {
            Ok(()) => self.count(|counts| &counts.closed),
            Err(error) => {
                tracing::warn!(engine = %self.endpoint(), %error, "the engine did not confirm a stop");
                self.count(|counts| &counts.stop_failed);
            }
        }
    }

    fn count(&self, which: impl Fn(&SessionTotals) -> &AtomicU64) {
        for counts in [&self.0.counters, &*self.0.totals] {
            which(counts).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&self, entry: Option<u64>) {
        if let (Some(journal), Some(entry)) = (&self.0.journal, entry) {
            journal.closed(entry);
        }
    }

    fn superseded(&self) {
        self.0.counters.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The right to have a session on the engine, whatever it is to who gave it: only its drop matters here.
type Permit = Box<dyn Any + Send + Sync>;

/// What a start call brings.
type Answer = Result<Opened, Unopened>;

/// A session that the engine has just opened.
#[derive(Debug)]
struct Opened {
    started: Started,
    player: PlayerId,
    session: Session,
}

/// A start that failed, and the session that it opened all the same.
#[derive(Debug)]
struct Unopened {
    error: EngineError,
    session: Option<Session>,
}

impl From<EngineError> for Unopened {
    fn from(error: EngineError) -> Self {
        Self { error, session: None }
    }
}

/// A session on an engine. Dropping it has the session stopped and then gives the permit back.
pub(crate) struct Session {
    engine: Engine,
    /// Taken by `Drop`.
    open: Option<OpenSession>,
    /// Makes [`Engine::drain`] wait until the stop's own task has taken over.
    _undrained: TaskTrackerToken,
}

struct OpenSession {
    alive: Alive,
    command: Option<EnginePath>,
    /// In the journal.
    entry: Option<u64>,
    /// None while nobody has taken it.
    permit: Option<Permit>,
}

impl Session {
    fn new(engine: Engine, channel: Hash, alive: Alive, command: Option<EnginePath>) -> Self {
        let undrained = engine.0.tasks.token();
        let entry = engine.0.journal.as_ref().zip(command.as_ref());
        let entry = entry.map(|(journal, command)| journal.opened(engine.endpoint(), channel, command));
        Self {
            engine,
            open: Some(OpenSession { alive, command, entry, permit: None }),
            _undrained: undrained,
        }
    }

    /// Keeps the permit until the session has ended.
    fn hold(&mut self, permit: Permit) {
        if let Some(open) = &mut self.open {
            open.permit = Some(permit);
        }
    }

    /// The engine has ended it by itself: there is nothing to stop, and a stop would end what has taken its place.
    pub(crate) fn forsake(&mut self) {
        let Some(OpenSession { alive, entry, .. }) = self.open.take() else { return };
        drop(alive.end());
        self.engine.superseded();
        self.engine.forget(entry);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("engine", self.engine.endpoint()).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(OpenSession { alive, command, entry, permit }) = self.open.take() else { return };
        let engine = self.engine.clone();
        // Decided here, not in the task: a start that comes next must find the stop already under way.
        match alive.end() {
            Ending::Superseded => {
                engine.superseded();
                engine.forget(entry);
            }
            Ending::Stop(closing) => {
                let stop = async move {
                    engine.close(&closing, command.as_ref()).await;
                    engine.forget(entry);
                    // The channel before the permit: whoever takes the slot may start the channel at once.
                    drop(closing);
                    drop(permit);
                };
                self.engine.spawn(stop);
            }
            Ending::Undecided(undecided) => {
                let stop = async move {
                    match undecided.decided().await {
                        Some(closing) => engine.close(&closing, command.as_ref()).await,
                        None => engine.superseded(),
                    }
                    engine.forget(entry);
                    drop(permit);
                };
                self.engine.spawn(stop);
            }
        }
    }
}

#[cfg(test)]
mod tests;
