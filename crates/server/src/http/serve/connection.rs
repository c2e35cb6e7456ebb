//! What the rest of the program may know of one connection and do to it.
//!
//! A [`ConnectionControl`] is in the extensions of every request. The figures are written by the connection's
//! own task without locks; they are for pages and logs and may be a moment old.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;

use acemux_relay::line::Line;
use tokio::time::Instant;

/// A shared handle on one client connection.
#[derive(Clone)]
pub struct ConnectionControl(Arc<Shared>);

struct Shared {
    peer: SocketAddr,
    order: AtomicU8,
    reset: AtomicBool,
    /// A request has come and its reply is not handed over yet.
    answering: AtomicBool,
    /// The last key that was given here was right.
    shows_key: AtomicBool,
    /// What the connection and its viewer tell each other.
    line: Line,
    written: AtomicU64,
}

/// What a connection is to do. Orders only get stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    /// Serve requests.
    Run,
    /// End the running reply, begin no other.
    Finish,
    /// There is no request: close in order.
    Leave,
    /// Stop at once.
    Cut,
}

impl ConnectionControl {
    pub(crate) fn new(peer: SocketAddr) -> Self {
        Self(Arc::new(Shared {
            peer,
            order: AtomicU8::new(Order::Run as u8),
            reset: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            shows_key: AtomicBool::new(false),
            line: Line::default(),
            written: AtomicU64::new(0),
        }))
    }

    /// The other end of the connection: the client, or a proxy in front of it (see [`crate::http::client`]).
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Bytes the socket has taken, heads and chunk framing included.
    pub fn bytes_written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// How long the socket has taken no byte although there were some to send; `None` while writes go
    /// through.
    pub fn blocked_for(&self) -> Option<Duration> {
        self.0.line.blocked_since().map(|since| since.elapsed())
    }

    /// When this connection is closed, for whatever reason, its peer sees a reset and not an orderly end.
    /// What the socket still holds is discarded. Ends nothing by itself.
    pub fn abort(&self) {
        self.0.reset.store(true, Ordering::Relaxed);
    }

    /// For a viewer that this connection serves: how it is thrown out, and how it learns that its client stopped
    /// reading, the one end that the running reply cannot see.
    pub fn line(&self) -> Line {
        self.0.line.clone()
    }

    /// Whether the last key that was given on this connection was right: whoever is there knows it.
    pub(crate) fn shows_key(&self) -> bool {
        self.0.shows_key.load(Ordering::Relaxed)
    }

    /// A key was given on this connection.
    pub(crate) fn note_key(&self, is_right: bool) {
        self.0.shows_key.store(is_right, Ordering::Relaxed);
    }

    /// Since when its player is paused, if it is.
    pub(super) fn paused_since(&self) -> Option<Instant> {
        self.0.line.paused_since()
    }

    /// Somebody else needs its place. What is idle is closed in order; a paused player would see nothing of that.
    pub(super) fn gives_way(&self) {
        if self.paused_since().is_some() {
            self.0.line.give_way();
        } else {
            self.give(Order::Leave);
        }
    }

    pub(super) fn give(&self, order: Order) {
        self.0.order.fetch_max(order as u8, Ordering::Release);
        self.0.line.wake();
    }

    /// The standing order. The task of `cx` is woken when it changes.
    pub(super) fn order(&self, cx: &Context<'_>) -> Order {
        self.0.line.listen(cx);
        if self.0.line.is_cut() {
            return Order::Cut;
        }
        match self.0.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Finish,
            2 => Order::Leave,
            _ => Order::Cut,
        }
    }

    /// A request has come, or its reply has been handed over to the connection.
    pub(super) fn answering(&self, is_answering: bool) {
        self.0.answering.store(is_answering, Ordering::Relaxed);
    }

    /// Whether there is neither a request to answer nor a part of a reply that the socket has not taken.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.0.answering.load(Ordering::Relaxed) && self.0.line.blocked_since().is_none()
    }

    /// The connection ends because its peer stopped reading.
    pub(super) fn stalled(&self) {
        self.0.line.stalled();
    }

    /// Whether its peer is to see a reset: who is cut would see nothing of an orderly end.
    pub(super) fn is_aborted(&self) -> bool {
        let is_cut = || self.0.line.is_cut() || self.0.order.load(Ordering::Relaxed) == Order::Cut as u8;
        self.0.reset.load(Ordering::Relaxed) || is_cut()
    }

    /// Only the connection's own task writes, so no atomic addition is needed.
    pub(super) fn wrote(&self, bytes: usize) {
        let written = self.0.written.load(Ordering::Relaxed);
        self.0.written.store(written + bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn blocked(&self, since: Instant) {
        self.0.line.blocked(since);
    }

    pub(super) fn unblocked(&self) {
        self.0.line.unblocked();
    }
}

impl fmt::Debug for ConnectionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ConnectionControl");
        out.field("peer", &self.peer()).field("bytes_written", &self.bytes_written());
        out.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> ConnectionControl {
        ConnectionControl::new(([127, 0, 0, 1], 1).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_connection_tells_for_how_long() {
        let control = control();
        assert_eq!(control.blocked_for(), None);
        tokio::time::advance(Duration::from_secs(7)).await;
        control.blocked(Instant::now());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(control.blocked_for(), Some(Duration::from_secs(3)));
        control.unblocked();
        assert_eq!(control.blocked_for(), None);
    }

    #[tokio::test]
    async fn orders_only_get_stricter() {
        let control = control();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(control.order(&cx), Order::Run);
        control.give(Order::Cut);
        control.give(Order::Finish);
        assert_eq!(control.order(&cx), Order::Cut);
        assert!(control.is_aborted());
    }

    #[tokio::test]
    async fn a_viewer_that_is_thrown_out_takes_its_connection_with_it() {
        let control = control();
        control.line().cut();
        assert_eq!(control.order(&Context::from_waker(std::task::Waker::noop())), Order::Cut);
        assert!(control.is_aborted());
    }
}
