//! A stream open on one engine.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Engine, Session};
use crate::error::EngineError;
use crate::file::{ByteRange, FilePart};
use crate::http::{Body, PlayerId};
use crate::path::EnginePath;
use crate::start::Started;
use crate::stat::{PlaybackStat, PlaybackStatus};

/// How long an engine is waited for that is asked whose playback it has: viewers wait meanwhile.
const A_MOMENT: Duration = Duration::from_secs(1);
/// Between two such questions.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A stream open on one engine. Dropping it has the engine stop the session, from a task that [`Engine::drain`] waits
/// for; the permit is given back when the stop has been answered or given up. When a newer playback of the same
/// channel lives on the same engine no stop is sent, because it would end that one.
pub struct Playback {
    engine: Engine,
    started: Started,
    player: PlayerId,
    stats: watch::Receiver<Option<PlaybackStat>>,
    growth: Growth,
    /// Before the session: nothing is asked about a session that is being stopped.
    _poll: Option<AbortOnDropHandle<()>>,
    session: Session,
}

impl Playback {
    pub(crate) fn new(engine: Engine, started: Started, player: PlayerId, session: Session) -> Self {
        let (sender, stats) = watch::channel(None);
        let growth = Growth::default();
        let polled = |path| engine.spawn_owned(poll_stats(engine.clone(), path, sender, growth.clone()));
        let poll = started.stat.clone().map(polled);
        Self { engine, started, player, stats, growth, _poll: poll, session }
    }

    /// The engine it plays on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the engine said when it started.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// The player id the engine knows it by.
    pub fn player(&self) -> PlayerId {
        self.player
    }

    /// Opens the media. Returns when the engine sends its head, which may take a minute and has no deadline here. To
    /// be called once: a second reader of one session corrupts the reply on real engines.
    pub async fn body(&self) -> Result<Body, EngineError> {
        self.engine.client().open_body(&self.started.playback).await
    }

    /// Opens the file of a recording, or a part of it. One reader at a time: a second one corrupts the reply on real
    /// engines. Has no deadline here.
    pub async fn file(&self, range: Option<ByteRange>) -> Result<FilePart, EngineError> {
        self.engine.client().open_file(&self.started.playback, range).await
    }

    /// Whether another client's session of the channel has taken this one's place, by what the engine said last.
    pub fn is_superseded(&self) -> bool {
        self.stats.borrow().as_ref().is_some_and(|stat| self.is_of_another(stat))
    }

    /// The same, asked now; false when the engine cannot tell within a moment.
    pub async fn ask_whether_superseded(&self) -> bool {
        let Some(path) = &self.started.stat else { return false };
        timeout(A_MOMENT, self.ask_until_told(path)).await.unwrap_or(false)
    }

    /// Engines say nothing of a session in the first moments of it, the new one's as well.
    async fn ask_until_told(&self, path: &EnginePath) -> bool {
        loop {
            let Ok(stat) = self.engine.client().stat(path).await else { return false };
            if stat.playback_session_id.is_some() || stat.status == PlaybackStatus::Gone {
                return self.is_of_another(&stat);
            }
            sleep(ASK_AGAIN).await;
        }
    }

    fn is_of_another(&self, stat: &PlaybackStat) -> bool {
        stat.is_of_another(self.started.playback_session_id.as_deref())
    }

    /// The engine has ended the session by itself, or another client's session of the channel has taken its place: no stop
    /// is sent, because it would end that one.
    pub fn forsake(mut self) {
        self.session.forsake();
    }

    /// The playback's state, renewed every [`Timings::stat_every`](crate::Timings::stat_every) while it is open; the
    /// last one remains when the engine does not answer.
    pub fn stats(&self) -> watch::Receiver<Option<PlaybackStat>> {
        self.stats.clone()
    }

    /// Whether what the engine has downloaded of it grows.
    pub fn growth(&self) -> Growth {
        self.growth.clone()
    }
}

impl fmt::Debug for Playback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playback")
            .field("engine", self.engine.endpoint())
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// When the download of a playback last grew, as far as the engine tells. It tells its total, and nothing at first.
#[derive(Clone, Debug, Default)]
pub struct Growth(Arc<Mutex<Downloaded>>);

#[derive(Debug, Default)]
struct Downloaded {
    total: Option<u64>,
    grew_at: Option<Instant>,
}

impl Growth {
    /// Whether it has grown within this time.
    pub fn is_within(&self, time: Duration) -> bool {
        self.0.lock().grew_at.is_some_and(|at| at.elapsed() <= time)
    }

    fn look(&self, total: Option<u64>) {
        let mut downloaded = self.0.lock();
        let before = std::mem::replace(&mut downloaded.total, total);
        if total > Some(before.unwrap_or(0)) {
            downloaded.grew_at = Some(Instant::now());
        }
    }
}

/// Asks for the state until the engine has forgotten the playback. Never on the way of the media: an engine may hang
/// here for ever and cost nothing but an old state.
async fn poll_stats(
    engine: Engine,
    path: EnginePath,
    state: watch::Sender<Option<PlaybackStat>>,
    growth: Growth,
) {
    let mut ticks = interval(engine.client().timings().stat_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match engine.client().stat(&path).await {
            Ok(stat) => {
                let is_gone = stat.status == PlaybackStatus::Gone;
                growth.look(stat.downloaded);
                state.send_replace(Some(stat));
                if is_gone {
                    return;
                }
            }
            Err(error) => tracing::debug!(engine = %engine.endpoint(), %error, "no answer about a playback"),
        }
    }
}
