//! An engine that answers whatever bytes a test has written, for answers that no simulated engine gives.
//!
//! What the test says nothing about is answered as a healthy engine would: one session per infohash, the verifiable
//! channel at real time behind it. There is no book of sessions here, only what was asked, in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acemux_sim::verify::VerifyStream;
use acemux_sim::{ContentHash, DEFAULT_VERIFY_BITRATE, infohash_of, swarm};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Longest request head that is read.
const MOST_HEAD: usize = 16 * 1024;
/// How often media is written.
const PACE: Duration = Duration::from_millis(20);
/// How much media a reader gets at once.
const BURST: Duration = Duration::from_secs(4);
/// A flood ends by itself after so many bytes, should nobody end it.
const MOST_FLOOD: usize = 256 * 1024 * 1024;
/// What a healthy engine says in front of media.
pub const MEDIA_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n";

/// Makes the media that is broadcast in a range of swarm time.
pub type Media = Arc<dyn Fn(Range<Duration>) -> Vec<u8> + Send + Sync>;

/// What is done for one request. Afterwards the connection is closed.
pub enum Act {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing until the client leaves.
    Hang(Vec<u8>),
    /// The first bytes once, the second ones again and again until the client leaves.
    Flood(Vec<u8>, Vec<u8>),
    /// The first bytes once, then media at its pace until the client leaves.
    Media(Vec<u8>, Media),
    /// Nothing until this has happened, then that; nothing at all when the client leaves before.
    After(BoxFuture<'static, ()>, Box<Act>),
}

impl Act {
    /// `act` as soon as `event` has happened.
    pub fn after(event: impl Future<Output = ()> + Send + 'static, act: Self) -> Self {
        Self::After(Box::pin(event), Box::new(act))
    }

    /// The connection's end without a byte.
    pub const fn close() -> Self {
        Self::Bytes(Vec::new())
    }

    /// A reply with a JSON body.
    pub fn json(value: &Value) -> Self {
        Self::page("application/json", value.to_string())
    }

    /// A reply with any body of this type.
    pub fn page(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        Self::Bytes([head.into_bytes(), body].concat())
    }
}

type Script = Box<dyn Fn(&str) -> Option<Act> + Send + Sync>;

/// A running engine. Dropping it ends everything.
pub struct RawEngine {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    script: Script,
    asked: Mutex<Vec<String>>,
    readers: AtomicUsize,
}

impl RawEngine {
    /// Answers a request for `path?query` by what `script` returns, and as a healthy engine where that is nothing.
    pub async fn start(script: impl Fn(&str) -> Option<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let script: Script = Box::new(script);
        let shared = Arc::new(Shared { script, asked: Mutex::default(), readers: AtomicUsize::new(0) });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, Arc::clone(&shared), tasks.clone(), stop.clone());
        let token = stop.clone();
        tasks.spawn(async move { token.run_until_cancelled(accepting).await });
        Self { address, shared, _stop: stop.drop_guard() }
    }

    /// Where it answers, as a setting has it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What was asked so far: path and query.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().clone()
    }

    /// How often something that contains `word` was asked.
    pub fn count(&self, word: &str) -> usize {
        self.shared.asked.lock().iter().filter(|line| line.contains(word)).count()
    }

    /// Connections on which media is being written now.
    pub fn readers(&self) -> usize {
        self.shared.readers.load(Ordering::Relaxed)
    }
}

/// The fields of a healthy reply to a start, for tests that change some.
pub fn start_fields(infohash: &str) -> Value {
    json!({
        "playback_url": format!("http://127.0.0.1:6878/ace/r/{infohash}/token"),
        "stat_url": format!("http://127.0.0.1:6878/ace/stat/{infohash}/token"),
        "command_url": format!("http://127.0.0.1:6878/ace/cmd/{infohash}/token"),
        "infohash": infohash,
        "playback_session_id": "e0d1",
        "is_live": 1,
        "is_encrypted": 0,
    })
}

/// The verifiable channel of this infohash.
pub fn verify_media(infohash: &str, bitrate: u64) -> Media {
    let stream = VerifyStream::new(ContentHash::parse(infohash).expect("40 digits"), bitrate);
    Arc::new(move |time| {
        let mut media = Vec::new();
        stream.write(packet_at(time.start, bitrate)..packet_at(time.end, bitrate), &mut media);
        media
    })
}

/// The number of the packet that is due at a moment of swarm time.
fn packet_at(time: Duration, bitrate: u64) -> u64 {
    let packets = time.as_micros() * u128::from(bitrate) / (188 * 8 * 1_000_000);
    u64::try_from(packets).unwrap_or(u64::MAX)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move { stop.run_until_cancelled(answer(&shared, client)).await });
    }
}

async fn answer(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    let Some(target) = target(&mut client).await? else { return Ok(()) };
    shared.asked.lock().push(target.clone());
    let mut act = (shared.script)(&target).unwrap_or_else(|| healthy(&target));
    while let Act::After(event, then) = act {
        tokio::select! {
            () = left(&mut client) => return Ok(()),
            () = event => act = *then,
        }
    }
    match act {
        // Waited for above.
        Act::After(..) => Ok(()),
        Act::Bytes(bytes) => {
            client.write_all(&bytes).await?;
            client.shutdown().await?;
            left(&mut client).await;
            Ok(())
        }
        Act::Hang(bytes) => {
            client.write_all(&bytes).await?;
            left(&mut client).await;
            Ok(())
        }
        Act::Flood(first, again) => flood(&mut client, &first, &again).await,
        Act::Media(head, media) => {
            let _reader = Reader::new(&shared.readers);
            write_media(&mut client, &head, &media).await
        }
    }
}

/// Path and query of the request; `None` when the client says nothing.
async fn target(client: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MOST_HEAD || client.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(String::from_utf8_lossy(&head).split(' ').nth(1).map(str::to_owned))
}

/// Until the client is gone.
async fn left(client: &mut TcpStream) {
    let mut waste = [0; 1024];
    while client.read(&mut waste).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn flood(client: &mut TcpStream, first: &[u8], again: &[u8]) -> io::Result<()> {
    client.write_all(first).await?;
    for _ in 0..MOST_FLOOD / again.len().max(1) {
        client.write_all(again).await?;
    }
    Ok(())
}

async fn write_media(client: &mut TcpStream, head: &[u8], media: &Media) -> io::Result<()> {
    client.write_all(head).await?;
    let mut from = swarm::now().saturating_sub(BURST);
    let mut ticks = tokio::time::interval(PACE);
    // Its reader's leaving shows as an error.
    loop {
        ticks.tick().await;
        let now = swarm::now();
        client.write_all(&media(from..now)).await?;
        from = now;
    }
}

/// Counts a connection that media is written to.
struct Reader<'a>(&'a AtomicUsize);

impl<'a> Reader<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a healthy engine answers.
fn healthy(target: &str) -> Act {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let segment = |index: usize| path.split('/').nth(index).unwrap_or_default().to_owned();
    match path {
        "/ace/getstream" => {
            Act::json(&json!({ "response": start_fields(&infohash_in(query)), "error": null }))
        }
        "/webui/api/service" => {
            Act::json(&json!({ "result": { "version": "3.2.11", "platform": "linux" }, "error": null }))
        }
        _ if path.starts_with("/ace/stat/") => {
            Act::json(&json!({ "response": { "status": "dl", "peers": 5 }, "error": null }))
        }
        _ if path.starts_with("/ace/cmd/") => Act::json(&json!({ "response": "ok", "error": null })),
        _ if path.starts_with("/ace/r/") => {
            Act::Media(MEDIA_HEAD.into(), verify_media(&segment(3), DEFAULT_VERIFY_BITRATE))
        }
        _ if query.contains("method=get_status") => Act::json(&json!({ "result": {}, "error": null })),
        _ if query.contains("method=get_media_files") => {
            Act::json(&json!({ "result": { "infohash": infohash_in(query) }, "error": null }))
        }
        _ => Act::json(&json!({ "result": null, "error": "unknown method" })),
    }
}

/// The infohash that a query names, as simulated engines know it.
fn infohash_in(query: &str) -> String {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    let hash = value.into_iter().find(|value| ContentHash::parse(value).is_some());
    hash.map(infohash_of).unwrap_or_default()
}
