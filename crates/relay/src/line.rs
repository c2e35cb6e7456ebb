//! The line between a viewer and the connection that carries its bytes: all that one may tell the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// A cancellation token with one listener, the connection's task, and a cell for what only the connection can know.
///
/// It holds neither the viewer nor the connection, so neither keeps the other alive. One belongs to each connection, so
/// a viewer costs nothing more. Looking at it is a load beside the registration that the task needs anyway.
#[derive(Clone, Default)]
pub struct Line(Arc<State>);

#[derive(Default)]
struct State {
    task: AtomicWaker,
    cut: AtomicBool,
    stalled: AtomicBool,
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
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Line");
        out.field("is_cut", &self.is_cut()).field("is_stalled", &self.is_stalled()).finish()
    }
}
