//! The accept loop: from a listening socket to requests for the application, and back to zero connections.
//!
//! ```text
//!             ┌─ Seats: how many, how many per address ── none free, none idle ─► refusal (503 or 429, close)
//! listener ───┤
//!             └─ one task per connection: hyper over ViewerIo ──► Router
//!                      ▲ ConnectionControl (in every request's extensions): finish, cut, abort, bytes
//! ```
//!
//! Owns every socket to a client, its limits and its end. Three kinds of peer would otherwise stay for ever,
//! and each meets a deadline here: one that never sends a whole request head, one that stops reading, one
//! that is gone without a word. Refuses to know routes, streams or why a body ended.
//!
//! Descriptors of strangers are bounded by [`ServeOptions`] alone: seats, and two small numbers of sockets that have none,
//! refused ones that are drained for a moment and ones that gave way and are not closed yet.
//!
//! `axum::serve` is not used: it installs no timer, so hyper's header timeout never runs, and it offers no
//! place to time writes. hyper stops polling a body whose socket is full, so that limit has to live below
//! hyper, in `viewer_io`.

mod abort;
mod connection;
mod idle;
mod listen;
mod refusal;
mod reply;
mod seats;
mod viewer_io;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

pub use self::abort::{AbortOnError, AbortSwitch, Ending, Ends};
pub use self::connection::ConnectionControl;
use self::connection::Order;
pub use self::listen::{bind, listen};
use self::refusal::Refuser;
use self::reply::Application;
use self::seats::{Seat, Seats, WayOut};
use self::viewer_io::ViewerIo;
use crate::http::client::TrustedProxies;
use crate::http::seldom::Seldom;

/// Most headers of one request; a browser behind two proxies sends about 25. One more is answered 431 by
/// hyper.
const MAX_HEADERS: usize = 64;

/// Most bytes of a request head, request line included: the 8 KiB and 16 KiB that [`crate::http::edge`] allows for
/// address and headers. A longer head is answered 431 by hyper without being read, whatever part of it is too
/// long.
const MAX_HEAD: usize = 24 * 1024;

/// Where hyper stops to queue body frames and writes. It takes another frame while less than this is queued,
/// so a viewer pins at most 64 KiB plus one chunk (64 KiB) outside the ring, and one `writev` carries up to
/// 128 KiB. A send costs 5–6 µs plus 0.26 ns a byte: beyond 64–256 KiB nothing is left to gain. hyper's own
/// default of 400 KiB would pin 400 MB at 1000 viewers.
const MAX_QUEUED: usize = 64 * 1024;

/// A peer that is gone without a word is noticed 30 + 3 × 10 s after the last byte either way.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// How much later than our own timeouts the kernel gives up on unacknowledged bytes. The backstop must
/// come second: ours knows the reason and counts it.
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// Pauses after an accept error that time may mend: no descriptors, no memory. Doubled from the first to the
/// second.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Least time between two log lines about accept errors.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Places that only peers on this machine can take. A health check needs one, a few scripts and a dashboard some more.
pub const LOOPBACK_PLACES: usize = 64;

/// Most sockets of strangers that have no place: refused ones, and ones that gave theirs away.
pub const DOORWAY: usize = 64;

/// Limits and deadlines of the accept loop.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Longest wait for a complete request head, also on an idle kept-alive connection. 10 s.
    pub header_timeout: Duration,
    /// A connection that has bytes to send and gets rid of none for this long is cut, though its peer still answers.
    /// `None`: never. 10 minutes.
    pub stall_timeout: Option<Duration>,
    /// A connection whose peer owes the kernel an answer for this long is cut: it is gone. 60 s.
    pub peer_timeout: Duration,
    /// How long a request whose client has shut down its sending side waits for its reply to begin. 1 s. A
    /// client that only half-closes cannot be told from one that has gone until something is sent to it;
    /// zapping players do the latter all day, and each would hold an engine for the rest of its start. Once
    /// the reply runs, half-closed clients keep it.
    pub half_close_grace: Duration,
    /// `SO_SNDBUF` of every connection, in bytes (the kernel doubles it for its bookkeeping). 256 KiB: 100
    /// stalled viewers pin 66 MB of kernel memory with it and 395 MB without.
    pub send_buffer: usize,
    /// Most connections at a time; more are answered 503 unless one without a request is there to give way. 5256: the
    /// default viewers plus 256 for pages.
    pub max_connections: usize,
    /// Places beside these for peers on this machine alone, above all for its health check. 64.
    pub loopback_places: usize,
    /// Most connections that have given way and are not closed yet; no other is accepted meanwhile. 32: their own tasks
    /// close them at once.
    pub leaving: usize,
    /// Most refused connections that are drained for a moment so that the refusal arrives; more are closed at once. 32.
    pub draining: usize,
    /// Most connections at a time from one address, or one /64 of IPv6; more are answered 429. 320: the
    /// default viewers of an address plus 64 for pages. Trusted proxies are not counted, because all their
    /// clients share their address.
    pub max_connections_per_ip: usize,
    /// Whose connections are not counted per address.
    pub trusted_proxies: TrustedProxies,
    /// How long running replies may take to end after `stop`. What is left then is cut. 10 s.
    pub drain_timeout: Duration,
    /// Where the loop counts. Keep a clone to read them while it runs.
    pub counters: Arc<Counters>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            stall_timeout: Some(Duration::from_mins(10)),
            peer_timeout: Duration::from_mins(1),
            half_close_grace: Duration::from_secs(1),
            send_buffer: 256 * 1024,
            max_connections: 5000 + 256,
            loopback_places: LOOPBACK_PLACES,
            leaving: DOORWAY / 2,
            draining: DOORWAY / 2,
            max_connections_per_ip: 256 + 64,
            trusted_proxies: TrustedProxies::default(),
            drain_timeout: Duration::from_secs(10),
            counters: Arc::default(),
        }
    }
}

/// What happened to connections since the loop began. All only grow, except `open`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that are being served now.
    pub open: AtomicU64,
    /// Connections that were served or are.
    pub accepted: AtomicU64,
    /// Connections answered 503 because `max_connections` were open and in use.
    pub refused_full: AtomicU64,
    /// Connections answered 429 because their address had `max_connections_per_ip` open and in use.
    pub refused_address: AtomicU64,
    /// Connections without a request, or of a paused player, that were closed because somebody else came.
    pub gave_way: AtomicU64,
    /// Failed accepts: descriptors or memory short, or a peer that left while it waited.
    pub accept_errors: AtomicU64,
    /// Connections cut because their player was paused for the stall timeout or took next to nothing, or their peer was gone.
    pub stalled: AtomicU64,
    /// Connections closed because no complete request head came in time; idle kept-alive ones are among them.
    pub silent: AtomicU64,
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were served.
    pub accepted: u64,
    /// Connections that were still busy at the drain deadline and were cut.
    pub cut: usize,
}

/// The loop, and every connection it has taken.
pub struct Server {
    app: Router,
    current: RwLock<Arc<Current>>,
    counters: Arc<Counters>,
    seats: Arc<Seats>,
    refusals: Refuser,
    tasks: TaskTracker,
}

/// What a connection that comes now is served with.
struct Current {
    http: http1::Builder,
    options: ServeOptions,
}

impl Current {
    fn new(options: ServeOptions) -> Arc<Self> {
        Arc::new(Self { http: http1_of(&options), options })
    }
}

impl Server {
    /// A server of `app` without connections.
    pub fn new(app: Router, options: ServeOptions) -> Self {
        Self {
            app,
            seats: Arc::new(Seats::new(&options)),
            refusals: Refuser::new(options.draining),
            tasks: TaskTracker::new(),
            counters: Arc::clone(&options.counters),
            current: RwLock::new(Current::new(options)),
        }
    }

    /// Other limits and deadlines for whoever comes from now on. Whom it trusts, where it counts, and how many sockets
    /// without a place there may be stay as they were.
    pub fn follow(&self, options: &ServeOptions) {
        self.seats.limit(options);
        let options = ServeOptions { counters: Arc::clone(&self.counters), ..options.clone() };
        *self.current.write() = Current::new(options);
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read())
    }

    /// Takes connections until `stop`, when the port closes at once. Connections go on. An error says that the listener
    /// is none any more; a shortage of descriptors or memory does not end it.
    pub async fn accept(&self, listener: TcpListener, stop: &CancellationToken) -> io::Result<()> {
        stop.run_until_cancelled(self.accept_forever(&listener)).await.map_or(Ok(()), Err)
    }

    /// Idle connections are closed, running replies may end until `drain_timeout`, and the rest is cut. Returns when
    /// every connection's task has ended.
    ///
    /// Endless bodies do not drain by themselves; whoever stops the loop ends them too.
    pub async fn drain(&self) -> Served {
        self.tasks.close();
        self.seats.order(Order::Finish);
        let mut cut = 0;
        let drain_timeout = self.current().options.drain_timeout;
        if tokio::time::timeout(drain_timeout, self.tasks.wait()).await.is_err() {
            cut = self.seats.order(Order::Cut);
            self.tasks.wait().await;
        }
        Served { accepted: self.counters.accepted.load(Ordering::Relaxed), cut }
    }

    async fn accept_forever(&self, listener: &TcpListener) -> io::Error {
        let mut trouble = AcceptTrouble::default();
        loop {
            let way_out = self.seats.way_out().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    trouble.pause = Duration::ZERO;
                    self.welcome(stream, peer, way_out);
                }
                Err(error) => {
                    self.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if listen::is_broken(listener, &error) {
                        return error;
                    }
                    tokio::time::sleep(trouble.pause_after(&error)).await;
                }
            }
        }
    }

    /// Gives the connection a task of its own, or refuses it. Never waits.
    fn welcome(&self, stream: TcpStream, peer: SocketAddr, way_out: WayOut) {
        let control = ConnectionControl::new(peer);
        match Seats::take(&self.seats, &control, way_out) {
            Ok(seat) => self.converse(stream, control, seat),
            Err(full) => self.refusals.refuse(stream, full, &self.tasks),
        }
    }

    fn converse(&self, stream: TcpStream, control: ConnectionControl, seat: Seat) {
        let current = self.current();
        tune(&stream, &current.options);
        let io = ViewerIo::new(stream, control.clone(), &current.options);
        let seat = Arc::new(seat);
        let application = Application::new(self.app.clone(), control.clone(), Arc::clone(&seat));
        let connection = current.http.serve_connection(TokioIo::new(io), application);
        let counters = Arc::clone(&self.counters);
        self.tasks.spawn(Conversing { connection, control, counters, finishing: false, seat });
    }
}

fn http1_of(options: &ServeOptions) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .half_close(true)
        .keep_alive(true)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_QUEUED);
    http
}

type Conversation = http1::Connection<TokioIo<ViewerIo>, Application>;

/// Runs one connection to its end, obeying the orders its control receives meanwhile.
///
/// A future by hand: an async block would hold the connection three times, as what it captures, what it passes on and
/// what it works with, and that is most of a viewer's memory.
struct Conversing {
    connection: Conversation,
    control: ConnectionControl,
    counters: Arc<Counters>,
    finishing: bool,
    /// Last, so dropped last: a seat is free when its descriptor is.
    seat: Arc<Seat>,
}

impl Future for Conversing {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let order = this.control.order(cx);
        if matches!(order, Order::Leave | Order::Cut) {
            return Poll::Ready(());
        }
        if order == Order::Finish && !this.finishing {
            this.finishing = true;
            Pin::new(&mut this.connection).graceful_shutdown();
        }
        match Pin::new(&mut this.connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                count_end(&error, &this.control, &this.counters);
                Poll::Ready(())
            }
            Poll::Pending => {
                if this.control.is_at_rest() {
                    this.seat.rest();
                }
                Poll::Pending
            }
        }
    }
}

/// A connection ended with an error. Two kinds are worth a number; the rest is players being switched off.
fn count_end(error: &hyper::Error, control: &ConnectionControl, counters: &Counters) {
    let peer = control.peer();
    if error.is_timeout() {
        counters.silent.fetch_add(1, Ordering::Relaxed);
        debug!(%peer, "no complete request head in time, connection closed");
    } else if io_kind(error) == Some(io::ErrorKind::TimedOut) {
        counters.stalled.fetch_add(1, Ordering::Relaxed);
        info!(%peer, sent = control.bytes_written(), "the client stopped reading, connection cut");
    } else {
        debug!(%peer, error = error as &dyn Error, "connection ended");
    }
}

/// The kind of the I/O error at the bottom of `error`, if there is one.
fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

/// Sets what every connection needs. An option that cannot be set (the peer may be gone already) is no reason
/// to refuse.
fn tune(stream: &TcpStream, options: &ServeOptions) {
    let socket = SockRef::from(stream);
    let results = [
        socket.set_tcp_nodelay(true),
        socket.set_send_buffer_size(options.send_buffer),
        socket.set_tcp_keepalive(&KEEPALIVE),
        set_user_timeout(&socket, usual_user_timeout(options.stall_timeout, options.peer_timeout)),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        debug!(error = &error as &dyn Error, "a socket option could not be set");
    }
}

/// The kernel counts a pause whose peer answers as time without an answer, too, so it must be more patient than we are with
/// pauses. Peers that are gone are found by [`ViewerIo`].
fn usual_user_timeout(stall_timeout: Option<Duration>, peer_timeout: Duration) -> Option<Duration> {
    stall_timeout.map(|limit| limit.max(peer_timeout) + USER_TIMEOUT_MARGIN)
}

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &SockRef<'_>, timeout: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_user_timeout(timeout)
}

/// Other systems have no such option; our own stall timeout remains.
#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_socket: &SockRef<'_>, _timeout: Option<Duration>) -> io::Result<()> {
    Ok(())
}

/// Accept errors since the last accepted connection: how long to pause, and when it was last said.
#[derive(Debug, Default)]
struct AcceptTrouble {
    pause: Duration,
    log: Seldom,
}

impl AcceptTrouble {
    /// How long to wait before the next accept. A peer that left while it queued costs nothing; everything
    /// else is taken for a shortage of descriptors or memory, which a busy loop would only make worse.
    fn pause_after(&mut self, error: &io::Error) -> Duration {
        if is_of_one_connection(error) {
            return Duration::ZERO;
        }
        self.log(error);
        let (shortest, longest) = ACCEPT_PAUSE;
        self.pause = (self.pause * 2).clamp(shortest, longest);
        self.pause
    }

    fn log(&mut self, error: &io::Error) {
        if let Some(unlogged) = self.log.happens(ACCEPT_LOG_INTERVAL) {
            warn!(error = error as &dyn Error, unlogged, "connections cannot be accepted, trying on");
        }
    }
}

/// Whether an accept error says something about the connection that was next, and nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_pauses_grow_to_their_limit_and_start_over_after_a_success() {
        let mut trouble = AcceptTrouble::default();
        let shortage = io::Error::from(io::ErrorKind::OutOfMemory);
        let pauses: Vec<_> = (0..6).map(|_| trouble.pause_after(&shortage).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
        trouble.pause = Duration::ZERO;
        assert_eq!(trouble.pause_after(&shortage), Duration::from_millis(10));
    }

    #[test]
    fn a_peer_that_left_in_the_queue_costs_no_pause() {
        let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(AcceptTrouble::default().pause_after(&gone), Duration::ZERO);
    }

    #[test]
    fn accept_errors_are_logged_once_per_interval() {
        let mut trouble = AcceptTrouble::default();
        let shortage = io::Error::from(io::ErrorKind::OutOfMemory);
        for _ in 0..100 {
            trouble.pause_after(&shortage);
        }
        assert_eq!(trouble.log.unsaid(), 99);
    }
}
