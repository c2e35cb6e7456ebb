//! A TCP relay that does to connections what bad networks and broken programs do, switchable while they run.
//!
//! ```text
//!            ToServer: read ─► at most 32 blocks ─► toxics ─► write
//!  client ◄─────────────────────────────────────────────────────────► server
//!            ToClient: write ◄─ toxics ◄─ at most 32 blocks ◄─ read
//! ```
//!
//! One task per connection, at most [`MOST_CONNECTIONS`] of them, and 128 KiB per direction. Everything ends when the
//! proxy is dropped. Offsets count the bytes of one connection in one direction, from its beginning.

mod pump;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::app::within;
use pump::{Over, Pump};

/// Connections at a time; further ones are closed at once. More than any test opens.
pub const MOST_CONNECTIONS: usize = 2048;

/// Bytes of each direction that are kept for [`FaultProxy::heard`], all connections together.
const TRANSCRIPT: usize = 64 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Longest wait for the port to be opened or closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a port that was given up is bound again before the test fails: another program may hold it for a moment.
const BIND_TRIES: usize = 200;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// They are relayed.
    #[default]
    Open,
    /// They are accepted, and nothing is ever sent to them; the server sees nothing of them.
    BlackHole,
    /// Nobody listens.
    Refuse,
}

/// What happens to the bytes of one direction. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toxics {
    /// Every byte is late by this much.
    pub latency: Duration,
    /// And by up to this much more, at random; the order stays.
    pub jitter: Duration,
    /// Bytes a second at most.
    pub bandwidth: Option<u64>,
    /// One to seven bytes at a time.
    pub slice: bool,
    /// One bit of every so many bytes is turned over.
    pub corrupt_every: Option<u64>,
    /// At every so many bytes, the last so many (at most a block of 4 KiB) are sent again.
    pub duplicate_every: Option<u64>,
    /// Where the direction ends, and how.
    pub cut: Option<Cut>,
    /// How late the sender's own end is passed on.
    pub end_delay: Duration,
}

/// The end of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// After so many bytes; connections that have passed them end at once.
    pub after: u64,
    /// In which way.
    pub how: How,
}

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The whole connection is closed in order, on both sides.
    Close,
    /// This direction is shut down; the other one goes on.
    HalfClose,
    /// The whole connection is reset, on both sides.
    Reset,
    /// Nothing more comes and everything stays open. What is not sent is not lost: it comes when this is taken back.
    Silence,
}

impl Toxics {
    /// Ends the direction after so many bytes.
    pub fn cut(after: u64, how: How) -> Self {
        Self { cut: Some(Cut { after, how }), ..Self::default() }
    }

    /// Nothing more comes from now on.
    pub fn silence() -> Self {
        Self::cut(0, How::Silence)
    }
}

/// A relay on a free loopback port.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: watch::Receiver<Door>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    seed: u64,
    door: watch::Sender<Door>,
    lanes: [Lane; 2],
    accepted: AtomicU64,
    places: Semaphore,
}

/// One direction of all connections.
#[derive(Debug, Default)]
struct Lane {
    toxics: watch::Sender<Toxics>,
    passed: AtomicU64,
    heard: Mutex<Vec<u8>>,
}

impl Lane {
    /// Takes note of bytes that came, before anything is done to them.
    fn hear(&self, bytes: &[u8]) {
        let mut heard = self.heard.lock();
        let room = TRANSCRIPT.saturating_sub(heard.len()).min(bytes.len());
        heard.extend_from_slice(&bytes[..room]);
    }
}

impl FaultProxy {
    /// Listens on a free port of this machine and relays to `server`, faithfully until told otherwise. Must be called
    /// in a runtime, which will run its tasks.
    pub fn start(server: SocketAddr) -> Self {
        Self::seeded(server, 1)
    }

    /// The same with another seed for what is random.
    pub fn seeded(server: SocketAddr, seed: u64) -> Self {
        let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).and_then(|held| held.listen(BACKLOG));
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server,
            seed,
            door: watch::Sender::default(),
            lanes: Default::default(),
            accepted: AtomicU64::new(0),
            places: Semaphore::new(MOST_CONNECTIONS),
        });
        let (told, listening) = watch::channel(Door::Open);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let door = Doorkeeper { shared: Arc::clone(&shared), stop: stop.clone(), tasks: tasks.clone(), told };
        let token = stop.clone();
        tasks.spawn(async move { token.run_until_cancelled(door.keep(address, Some(listener))).await });
        Self { address, shared, listening, _stop: stop.drop_guard() }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to one direction of all connections from now on, running ones included.
    pub fn set(&self, way: Way, toxics: Toxics) {
        self.shared.lane(way).toxics.send_replace(toxics);
    }

    /// The same for both directions.
    pub fn set_both(&self, toxics: Toxics) {
        for way in Way::BOTH {
            self.set(way, toxics);
        }
    }

    /// Takes everything back that was set for bytes.
    pub fn clear(&self) {
        self.set_both(Toxics::default());
    }

    /// What happens to new connections. Returns when the port behaves so.
    pub async fn set_door(&self, door: Door) {
        self.shared.door.send_replace(door);
        let mut listening = self.listening.clone();
        let turned = within(PATIENCE, "the port", listening.wait_for(|now| *now == door)).await;
        turned.expect("the doorkeeper lives as long as the proxy");
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        MOST_CONNECTIONS - self.shared.places.available_permits()
    }

    /// Bytes passed on in one direction, all connections together.
    pub fn passed(&self, way: Way) -> u64 {
        self.shared.lane(way).passed.load(Ordering::Relaxed)
    }

    /// The first 64 KiB that came in one direction, all connections together, as text.
    pub fn heard(&self, way: Way) -> String {
        String::from_utf8_lossy(&self.shared.lane(way).heard.lock()).into_owned()
    }
}

impl Shared {
    fn lane(&self, way: Way) -> &Lane {
        match way {
            Way::ToServer => &self.lanes[0],
            Way::ToClient => &self.lanes[1],
        }
    }
}

/// Owns the port.
struct Doorkeeper {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
    told: watch::Sender<Door>,
}

impl Doorkeeper {
    async fn keep(self, address: SocketAddr, mut listener: Option<TcpListener>) {
        let mut door = self.shared.door.subscribe();
        // It may have been turned before this task first ran.
        door.mark_changed();
        let mut held = None;
        loop {
            tokio::select! {
                biased;
                changed = door.changed() => {
                    let Ok(()) = changed else { return };
                    let now = *door.borrow_and_update();
                    (listener, held) = turn(now, address, listener, held).await;
                    self.told.send_replace(now);
                }
                accepted = accept(listener.as_ref()) => match accepted {
                    Ok(client) => self.welcome(client),
                    // Out of descriptors: what is connected goes on.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    fn welcome(&self, client: TcpStream) {
        let number = self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let black_hole = *self.shared.door.borrow() == Door::BlackHole;
        self.tasks.spawn(async move {
            let Ok(_place) = shared.places.try_acquire() else { return };
            let connection = async {
                if black_hole { swallow(client).await } else { relay(&shared, number, client).await }
            };
            stop.run_until_cancelled(connection).await;
        });
    }
}

/// Opens or closes the port. While it is closed it stays bound, so that nobody else gets the number.
async fn turn(
    door: Door,
    address: SocketAddr,
    listener: Option<TcpListener>,
    held: Option<TcpSocket>,
) -> (Option<TcpListener>, Option<TcpSocket>) {
    match (door, listener) {
        (Door::Refuse, Some(listener)) => {
            drop(listener);
            (None, Some(bind_again(address).await))
        }
        (Door::Refuse, None) => (None, held),
        (_, Some(listener)) => (Some(listener), None),
        (_, None) => {
            let held = match held {
                Some(held) => held,
                None => bind_again(address).await,
            };
            (Some(held.listen(BACKLOG).expect("the port is ours")), None)
        }
    }
}

async fn bind_again(address: SocketAddr) -> TcpSocket {
    for _ in 0..BIND_TRIES {
        if let Ok(socket) = bind(address) {
            return socket;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("another program has taken {address}");
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Takes what comes and says nothing, until the client leaves.
async fn swallow(mut client: TcpStream) {
    let mut waste = vec![0; 4096];
    while client.read(&mut waste).await.is_ok_and(|bytes| bytes > 0) {}
}

/// Carries one connection to its end.
async fn relay(shared: &Shared, number: u64, mut client: TcpStream) {
    let Ok(mut server) = TcpStream::connect(shared.server).await else {
        return reset(&client);
    };
    // Only hints: what is written is to leave at once, as it would without us.
    let _hints = (client.set_nodelay(true), server.set_nodelay(true));
    let over = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |way| Pump::new(shared.lane(way), shared.seed.wrapping_add(number));
        let up = pump(Way::ToServer).run(from_client, to_server);
        let down = pump(Way::ToClient).run(from_server, to_client);
        both(up, down).await
    };
    if over == Over::Reset {
        reset(&client);
        reset(&server);
    }
}

/// Until both directions are over, or one ends the connection.
async fn both(up: impl Future<Output = Over>, down: impl Future<Output = Over>) -> Over {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let (first, is_up) = tokio::select! {
        over = &mut up => (over, true),
        over = &mut down => (over, false),
    };
    match first {
        Over::Direction if is_up => down.await,
        Over::Direction => up.await,
        Over::Close | Over::Reset => first,
    }
}

/// Its close will be a reset.
fn reset(socket: &TcpStream) {
    // Fails only on a socket that is dead already.
    let _dead_already = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests;
