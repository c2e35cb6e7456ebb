//! A server on a free port and a client that speaks bytes, for tests of the accept loop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use acemux_server::http::serve::{ServeOptions, Served, Server};
use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything in a test. Reached only when the promise under test is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running accept loop.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinSet<Served>,
}

impl Running {
    pub(crate) async fn start(app: Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let until = stop.clone();
        task.spawn(async move {
            let server = Server::new(app, options);
            server.accept(listener, &until).await.unwrap();
            server.drain().await
        });
        Self { address: ([127, 0, 0, 1], port).into(), stop, task }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client with another loopback address as its own.
    pub(crate) async fn connect_from(&self, local: IpAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((local, 0).into()).unwrap();
        Client(socket.connect(self.address).await.unwrap())
    }

    /// A client that can hardly buffer what it does not read.
    pub(crate) async fn connect_with_small_buffer(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Client(socket.connect(self.address).await.unwrap())
    }

    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    pub(crate) async fn stopped(mut self) -> Served {
        patiently(self.task.join_next()).await.unwrap().unwrap()
    }
}

/// One connection.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Everything until the connection ends, and how it ended.
    pub(crate) async fn read_to_end(&mut self) -> (String, io::Result<()>) {
        let mut bytes = Vec::new();
        let end = patiently(self.0.read_to_end(&mut bytes)).await.map(|_| ());
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }

    /// Everything up to and including `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            let mut buffer = [0; 1024];
            let length = patiently(self.0.read(&mut buffer)).await.unwrap();
            assert!(length > 0, "ended before {end:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        text
    }

    /// Exactly this many bytes.
    pub(crate) async fn read_bytes(&mut self, count: usize) {
        patiently(self.0.read_exact(&mut vec![0; count])).await.unwrap();
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

/// Waits for what must happen, but not for ever.
pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("happens in time")
}

/// Waits until a figure that nothing announces is as expected.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    patiently(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
