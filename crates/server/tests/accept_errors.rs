//! Running out of descriptors. Alone in its binary, because the limit it lowers is the process's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use acemux_server::http::serve::{ServeOptions, Server};
use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

async fn ask(stream: &mut TcpStream) {
    stream.write_all(GET).await.unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"hello") {
        let length = tokio::time::timeout(PATIENCE, stream.read_buf(&mut reply)).await.unwrap().unwrap();
        assert!(length > 0);
    }
}

#[tokio::test]
async fn running_out_of_descriptors_delays_clients_and_does_not_end_the_loop() {
    let options = ServeOptions::default();
    let counters = Arc::clone(&options.counters);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", get(async || "hello"));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        Server::new(app, options).accept(listener, &CancellationToken::new()).await.unwrap();
    });
    let mut viewer = TcpStream::connect(address).await.unwrap();
    ask(&mut viewer).await;

    let (_, highest) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap();
    rlimit::setrlimit(rlimit::Resource::NOFILE, 64, highest).unwrap();
    let mut hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    hoard.pop();
    // The one free descriptor is the client's; the server's end of the connection finds none.
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let short = async {
        while counters.accept_errors.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, short).await.unwrap();

    ask(&mut viewer).await;
    drop(hoard);
    ask(&mut waiting).await;
}
