//! A running simulated engine: its ports and its tasks. Dropping it stops all of them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::ChannelKind;
use crate::core::Core;
use crate::fault::{Fault, Rule, Target};
use crate::identity::ContentHash;
use crate::ledger::{CloseReason, Ledger};
use crate::options::{Dialect, PieceSize, SimOptions};
use crate::wire::{Connection, Ending, Manners};
use crate::{control, proxy, routes, tunnel};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A simulated engine on its own ports.
#[derive(Debug)]
pub struct SimEngine {
    core: Arc<Core>,
    tasks: TaskTracker,
    stop: CancellationToken,
    listening: watch::Receiver<bool>,
    addr: SocketAddr,
    control_addr: SocketAddr,
}

impl SimEngine {
    /// Opens both ports and answers.
    ///
    /// # Errors
    ///
    /// When a port cannot be opened.
    pub async fn start(options: SimOptions) -> io::Result<Self> {
        let port = Port::open(options.listen)?;
        let control = TcpListener::bind(options.control).await?;
        let (addr, control_addr) = (port.addr, control.local_addr()?);
        let core = Arc::new(Core::new(options, addr));
        let (told, listening) = watch::channel(true);
        let engine = Self {
            core,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            listening,
            addr,
            control_addr,
        };
        engine.spawn(accept_loop(
            Arc::clone(&engine.core),
            engine.tasks.clone(),
            engine.stop.clone(),
            port,
            told,
        ));
        engine.spawn(control::serve(
            Arc::clone(&engine.core),
            engine.tasks.clone(),
            engine.stop.clone(),
            control,
        ));
        engine.spawn(expire_loop(Arc::clone(&engine.core)));
        if let Some(tunnel) = engine.core.options.tunnel {
            engine.spawn(tunnel::follow(Arc::clone(&engine.core), tunnel));
        }
        if let Some(proxy) = engine.core.options.proxy.clone() {
            engine.core.set_offline(true);
            engine.spawn(proxy::follow(Arc::clone(&engine.core), proxy));
        }
        engine.settled().await;
        Ok(engine)
    }

    /// The engine port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The control port.
    pub fn control_addr(&self) -> SocketAddr {
        self.control_addr
    }

    /// The book of what was opened, closed and read.
    pub fn ledger(&self) -> Ledger {
        self.core.ledger.clone()
    }

    /// Sessions open on this engine now.
    pub fn sessions(&self) -> usize {
        self.core.sessions()
    }

    /// Lets `fault` apply to `target` until it is cleared, to running sessions too.
    pub fn set_fault(&self, target: Target, fault: Fault) {
        self.core.add_rule(Rule { target, starts: None, fault });
    }

    /// Lets `fault` apply to the next `starts` starts of `target` and to the sessions they open.
    pub fn set_fault_for_starts(&self, target: Target, starts: u32, fault: Fault) {
        self.core.add_rule(Rule { target, starts: Some(starts), fault });
    }

    /// Takes all faults back. Sessions keep those that came with their start.
    pub fn clear_faults(&self) {
        self.core.clear_rules();
    }

    /// Decides what a content (content id or infohash) plays from its next start on.
    pub fn set_channel(&self, hash: ContentHash, kind: ChannelKind) {
        self.core.set_channel(hash, kind);
    }

    /// Decides how large the pieces of a content's swarm (content id or infohash) are from its next download on.
    pub fn set_piece_size(&self, hash: ContentHash, size: PieceSize) {
        self.core.set_piece_size(hash, size);
    }

    /// Bytes that the open engine has received from all swarms, whoever read them: what the network statistics of its
    /// container would show. It grows while anything is downloaded, also what no session leads to any more. The closed
    /// engine's is 0.
    pub fn bytes_received(&self) -> u64 {
        self.core.received()
    }

    /// Downloads that the open engine says that it has; runaways that were let go of are not among them.
    pub fn sources(&self) -> usize {
        self.core.sources()
    }

    /// The engine process dies: all its connections are reset, its sessions forgotten, and the port refuses until
    /// [`restart`](Self::restart).
    pub async fn crash(&self) {
        self.core.crash();
        self.settled().await;
    }

    /// A crashed engine runs again, on the same port.
    pub async fn restart(&self) {
        self.core.boot();
        self.settled().await;
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(self) {
        self.core.end_all(CloseReason::Shutdown);
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// As the open engine does when it is told to end: takes nobody new, and streams on to those who are there, at most for
    /// [`Timing::drain`](crate::Timing::drain).
    pub async fn drain(&self) {
        self.core.drain();
        self.settled().await;
        // Whoever is still there then is cut off.
        let _ = timeout(self.core.options.timing.drain, self.core.bodies_done()).await;
    }

    /// Waits until the port is as open or closed as it should be, so that a test's next connection sees it.
    async fn settled(&self) {
        let (wanted, mut listening) = (*self.core.wanted().borrow(), self.listening.clone());
        // The accept loop tells; when it is gone the engine is shutting down.
        let _ = listening.wait_for(|open| *open == wanted).await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(task).await });
    }
}

impl Drop for SimEngine {
    fn drop(&mut self) {
        self.core.end_all(CloseReason::Shutdown);
        self.stop.cancel();
    }
}

/// Runs one simulated engine until `stop` resolves, then ends it in order.
///
/// # Errors
///
/// When a port cannot be opened.
pub async fn run_engine(options: SimOptions, stop: impl Future<Output = ()>) -> io::Result<()> {
    let engine = SimEngine::start(options).await?;
    tracing::info!(addr = %engine.addr(), control = %engine.control_addr(), "simulated engine answers");
    stop.await;
    if engine.core.options.dialect == Dialect::Outpace {
        engine.drain().await;
    }
    engine.shutdown().await;
    Ok(())
}

/// A port that is ours whether it is open or not: while it is closed it stays bound, so that connections are refused and
/// nobody else gets the number.
#[derive(Debug)]
struct Port {
    addr: SocketAddr,
    state: PortState,
}

#[derive(Debug)]
enum PortState {
    Open(TcpListener),
    Closed(TcpSocket),
}

impl Port {
    fn open(addr: SocketAddr) -> io::Result<Self> {
        let socket = bind(addr)?;
        Ok(Self { addr: socket.local_addr()?, state: PortState::Open(socket.listen(BACKLOG)?) })
    }

    /// Opens or closes the port.
    async fn set(self, open: bool) -> Self {
        let addr = self.addr;
        let state = match (self.state, open) {
            (PortState::Open(listener), false) => {
                drop(listener);
                PortState::Closed(persist(|| bind(addr)).await)
            }
            (PortState::Closed(held), true) => {
                let mut held = Some(held);
                let listen = || held.take().map_or_else(|| bind(addr), Ok)?.listen(BACKLOG);
                PortState::Open(persist(listen).await)
            }
            (unchanged, _) => unchanged,
        };
        Self { addr, state }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match &self.state {
            PortState::Open(listener) => listener.accept().await,
            PortState::Closed(_) => std::future::pending().await,
        }
    }
}

/// Tries until it works: between a close and the new binding lies a moment in which another program may hold the number.
async fn persist<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

async fn accept_loop(
    core: Arc<Core>,
    tasks: TaskTracker,
    stop: CancellationToken,
    mut port: Port,
    told: watch::Sender<bool>,
) {
    let mut wanted = core.wanted();
    wanted.mark_changed();
    loop {
        tokio::select! {
            biased;
            changed = wanted.changed() => {
                let Ok(()) = changed else { return };
                let open = *wanted.borrow_and_update();
                port = port.set(open).await;
                told.send_replace(open);
            }
            accepted = port.accept() => match accepted {
                Ok((stream, peer)) => {
                    tasks.spawn(connection(Arc::clone(&core), stop.clone(), stream, peer));
                }
                // Out of descriptors: what is connected goes on, new clients wait.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

async fn connection(core: Arc<Core>, stop: CancellationToken, stream: TcpStream, peer: SocketAddr) {
    let life = core.life();
    core.ledger.count(|counts| counts.connections += 1);
    let manners = match core.options.dialect {
        Dialect::AceStream => Manners::python(core.options.version().server_header()),
        Dialect::Outpace => Manners::PLAIN,
    };
    let mut connection = Connection::new(stream, peer.ip(), manners);
    let ending = tokio::select! {
        biased;
        () = life.cancelled() => Ending::Reset,
        () = stop.cancelled() => Ending::Close,
        ending = converse(&core, &mut connection) => ending,
    };
    connection.end(ending);
}

async fn converse(core: &Core, connection: &mut Connection) -> Ending {
    if core.faults(None).has(&Fault::ResetAtAccept) {
        return Ending::Reset;
    }
    while let Some(request) = connection.request().await {
        if core.faults(None).has(&Fault::HangAll) {
            return connection.hang().await;
        }
        let ending = routes::answer(core, connection, &request).await;
        if ending != Ending::KeepAlive || core.is_draining() {
            return ending;
        }
    }
    Ending::Close
}

/// Ends sessions and downloads that nobody reads, soon after their time.
async fn expire_loop(core: Arc<Core>) {
    let timing = core.options.timing;
    let shortest = timing.reader_gone.min(timing.unread).min(timing.linger);
    let period = (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1));
    loop {
        sleep(period).await;
        core.expire();
    }
}
