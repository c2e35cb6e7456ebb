//! The line between a viewer and the connection that carries its bytes: all that one may tell the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// A socket that has taken nothing for so long belongs to a player that is paused, not to a slow one.
pub const PAUSE: Duration = Duration::from_secs(10);

/// A cancellation token with one listener, the connection's task, and a cell for what only the connection can know.
///
/// It holds neither the viewer nor the connection, so neither keeps the other alive. One belongs to each connection, so
/// a viewer costs nothing more. Looking at it is a load beside the registration that the task needs anyway.
#[derive(Clone, Default)]
pub struct Line(Arc<State>);

struct State {
    opened: Instant,
    task: AtomicWaker,
    cut: AtomicBool,
    stalled: AtomicBool,
    gave_way: AtomicBool,
    /// What it carries is a file, of which players read minutes ahead and then nothing for as long.
    carries_file: AtomicBool,
    /// Milliseconds from `opened` to the write that did not go through, plus one; 0 while writes go through.
    blocked_at: AtomicU64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            task: AtomicWaker::new(),
            cut: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            gave_way: AtomicBool::new(false),
            carries_file: AtomicBool::new(false),
            blocked_at: AtomicU64::new(0),
        }
    }
}

impl Line {
    /// The connection must end, whatever it is doing.
    pub fn cut(&self) {
        self.mark();
        self.wake();
    }

    /// The same for who must not wake anybody yet; [`Self::wake`] follows.
    pub(crate) fn mark(&self) {
        self.0.cut.store(true, Ordering::Release);
    }

    /// Whether it must.
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// The connection's task is woken when there is something new to know. Called before looking, in each of its polls.
    pub fn listen(&self, context: &Context<'_>) {
        self.0.task.register(context.waker());
    }

    /// There is something new to know.
    pub fn wake(&self) {
        self.0.task.wake();
    }

    /// The connection ends because its client stopped reading. It serves nobody after that.
    pub fn stalled(&self) {
        self.0.stalled.store(true, Ordering::Relaxed);
    }

    /// Whether it ended so.
    pub fn is_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::Relaxed)
    }

    /// The connection must end, because somebody else needs what it has.
    pub fn give_way(&self) {
        self.0.gave_way.store(true, Ordering::Relaxed);
        self.cut();
    }

    /// Whether it ended so.
    pub fn gave_way(&self) -> bool {
        self.0.gave_way.load(Ordering::Relaxed)
    }

    /// The socket takes no byte, since then.
    pub fn blocked(&self, since: Instant) {
        let millis = since.saturating_duration_since(self.0.opened).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX - 1);
        self.0.blocked_at.store(millis + 1, Ordering::Relaxed);
    }

    /// It takes bytes again.
    pub fn unblocked(&self) {
        self.0.blocked_at.store(0, Ordering::Relaxed);
    }

    /// Since when the socket has taken no byte although there were some to send.
    pub fn blocked_since(&self) -> Option<Instant> {
        let millis = self.0.blocked_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.0.opened + Duration::from_millis(millis))
    }

    /// What it carries from now on is a file, or is none any more.
    pub(crate) fn carries_file(&self, is_file: bool) {
        self.0.carries_file.store(is_file, Ordering::Relaxed);
    }

    /// Since when its player is paused, if it is and the connection is not about to end anyway. Of one that reads a file nobody
    /// knows.
    pub fn paused_since(&self) -> Option<Instant> {
        let is_known = !self.0.carries_file.load(Ordering::Relaxed);
        self.blocked_since().filter(|since| is_known && since.elapsed() >= PAUSE && !self.is_cut())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Line");
        out.field("is_cut", &self.is_cut()).field("is_stalled", &self.is_stalled()).finish()
    }
}
