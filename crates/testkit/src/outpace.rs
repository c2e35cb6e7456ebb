//! The open engine itself, where there is one on this machine: engines and a source of broadcasts that speak the real peer
//! protocol with each other, and a stand-in for the directory that tells what a content id means.
//!
//! It is a separate program that is only ever run, as users run it. `OUTPACE=path/to/outpace` says where it is.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acemux_sim::verify::VerifyStream;
use acemux_sim::{ContentHash, infohash_of};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::within;
use crate::http::{Reply, get, send, try_send};
use crate::netns::{Machine, Network};

/// Where its API listens, and where its peers find it.
const API: u16 = 6878;
const PEERS: u16 = 8621;
const RTMP: u16 = 1935;
/// The public directory of content ids: its machines in the order in which they are asked, and their port.
const DIRECTORY: [Ipv4Addr; 4] = [
    Ipv4Addr::new(5, 252, 161, 191),
    Ipv4Addr::new(77, 120, 105, 88),
    Ipv4Addr::new(64, 227, 119, 64),
    Ipv4Addr::new(163, 172, 187, 185),
];
const DIRECTORY_PORT: u16 = 8081;
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a broadcast gets its next packets.
const TICK: Duration = Duration::from_millis(40);
/// Most packets in one chunk of its body.
const MOST_PACKETS: u64 = 5_000;
const PACKET_BITS: u64 = 188 * 8;

/// Where the program is; that there is none is said.
pub fn program() -> Option<PathBuf> {
    let Some(program) = std::env::var_os("OUTPACE") else {
        println!("skipped: OUTPACE=path/to/outpace is not set");
        return None;
    };
    Some(
        std::fs::canonicalize(&program)
            .unwrap_or_else(|error| panic!("OUTPACE={}: {error}", program.display())),
    )
}

/// One running process of it. Dropping it ends the process.
pub struct Outpace {
    /// Where its API listens.
    pub address: SocketAddr,
    peers: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Outpace {
    /// Runs it on this machine, as a provisioned engine is run, and waits until it answers. It finds all media at `peers`.
    pub async fn start(program: &Path, machine: &Machine, peers: &[&Self]) -> Self {
        Self::start_with(program, machine, peers, &[]).await
    }

    /// The same with other settings of its own.
    pub async fn start_with(
        program: &Path,
        machine: &Machine,
        peers: &[&Self],
        settings: &[(&str, &str)],
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("acemux-outpace-{}", machine.address()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
        let peers: Vec<_> = peers.iter().map(|peer| peer.peers.to_string()).collect();
        let mut command = machine.command(program);
        command.arg("serve").env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
            .env("OUTPACE_BIND", machine.port(API).to_string())
            .env("OUTPACE_PEER_LISTEN", machine.port(PEERS).to_string())
            .env("OUTPACE_RTMP_BIND", machine.port(RTMP).to_string())
            .env("OUTPACE_DATA_DIR", &folder)
            .env("OUTPACE_ACE_PEERS", peers.join(","))
            .env("OUTPACE_ACE_COMPAT", "1")
            .env("OUTPACE_EXPERIMENTAL_ACE_COMPAT", "1")
            .env("OUTPACE_PREBUFFER_MS", "0")
            .env("OUTPACE_PREFETCH_PIECES", "64")
            .envs(settings.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log file"));
        let child = command.kill_on_drop(true).spawn().expect("it can be run");
        let engine = Self { address: machine.port(API), peers: machine.port(PEERS), folder, child };
        within(PATIENCE, "the open engine answers", engine.answers()).await;
        engine
    }

    async fn answers(&self) {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        while !try_send(self.address, &request).await.is_ok_and(|reply| reply.status == 200) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its version, in its own words.
    pub async fn version(&self) -> String {
        self.api("get_version").await["version"].as_str().expect("it has one").to_owned()
    }

    /// Streams that it says to be active.
    pub async fn active(&self) -> u64 {
        self.api("get_status").await["active_sessions"].as_u64().expect("it counts them")
    }

    async fn api(&self, method: &str) -> Value {
        get(self.address, &format!("/server/api?method={method}")).await.json().await["result"].clone()
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Broadcasts from it what the simulated channel of `channel` carries, at `bitrate`, as if it had begun `history` ago.
    pub async fn broadcast(&self, channel: &str, bitrate: u64, history: Duration) -> Broadcast {
        let infohash = ContentHash::parse(&infohash_of(channel)).expect("an infohash is 40 digits");
        let stream = VerifyStream::new(infohash, bitrate);
        let page = format!("/broadcast/{channel}");
        let (address, framing) = (self.address, "Transfer-Encoding: chunked");
        let put = format!("PUT {page} HTTP/1.1\r\nHost: {address}\r\n{framing}\r\n\r\n");
        // The reply comes before the end of what it replies to.
        let mut source = within(PATIENCE, "a broadcast", send(address, &put)).await;
        let minted = source.json().await;
        let name = |key: &str| minted[key].as_str().expect("it is named").to_owned();
        let descriptor = get(address, &page).await.body().await.0;
        Broadcast {
            channel: channel.to_owned(),
            content_id: name("content_id"),
            infohash: name("infohash"),
            descriptor,
            _feed: JoinSet::from_iter([feed(source, stream, history)]),
        }
    }
}

impl Drop for Outpace {
    fn drop(&mut self) {
        // It may have been ended already.
        let _killed = self.child.start_kill();
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

/// A live broadcast with names of the real network. Dropping it ends what feeds it.
pub struct Broadcast {
    /// The simulated channel whose packets it has.
    pub channel: String,
    /// What people have.
    pub content_id: String,
    /// Its swarm.
    pub infohash: String,
    descriptor: Vec<u8>,
    _feed: JoinSet<()>,
}

/// Sends what was due since `history` ago, and then on time.
async fn feed(mut source: Reply, stream: VerifyStream, history: Duration) {
    let mut next = due(&stream, SystemTime::now() - history);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let last = due(&stream, SystemTime::now());
        while next < last {
            let end = last.min(next + MOST_PACKETS);
            let mut media = Vec::new();
            stream.write(next..end, &mut media);
            let chunk = [format!("{:x}\r\n", media.len()).as_bytes(), &media, b"\r\n"].concat();
            if source.say(&chunk).await.is_err() {
                return;
            }
            next = end;
        }
    }
}

/// The number of the packet that leaves then.
fn due(stream: &VerifyStream, then: SystemTime) -> u64 {
    let since = then.duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    let packets = since.as_micros() * u128::from(stream.bitrate()) / u128::from(PACKET_BITS * 1_000_000);
    u64::try_from(packets).expect("it is earlier than 10000")
}

/// The directory of content ids, at the addresses that it has in the world.
pub struct Directory {
    known: Arc<Mutex<HashMap<String, String>>>,
    _serving: JoinSet<()>,
}

impl Directory {
    /// Knows nothing yet.
    pub async fn open(network: &Network) -> Self {
        for address in DIRECTORY {
            network.stand_in_for(address).await;
        }
        let everywhere = (Ipv4Addr::UNSPECIFIED, DIRECTORY_PORT);
        let listener = TcpListener::bind(everywhere).await.expect("nobody else is in here");
        let known: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let serving = JoinSet::from_iter([serve(listener, Arc::clone(&known))]);
        Self { known, _serving: serving }
    }

    /// Tells from now on what this broadcast's content id means.
    pub fn list(&self, broadcast: &Broadcast) {
        let (content_id, descriptor) = (&broadcast.content_id, base64(&broadcast.descriptor));
        // A content id is the SHA-1 of its descriptor.
        let reply = format!("<r><torrent>{descriptor}</torrent><checksum>{content_id}</checksum></r>");
        self.known.lock().insert(content_id.clone(), reply);
    }
}

async fn serve(listener: TcpListener, known: Arc<Mutex<HashMap<String, String>>>) {
    let mut answers = JoinSet::new();
    while let Ok((asking, _)) = listener.accept().await {
        let known = Arc::clone(&known);
        // One question each; what fails is the asking engine's to notice.
        answers.spawn(async move { answer(asking, &known).await });
        while answers.try_join_next().is_some() {}
    }
}

async fn answer(mut asking: TcpStream, known: &Mutex<HashMap<String, String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if asking.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let content_id = head.split_once("pid=").and_then(|(_, after)| after.get(..40));
    let found = content_id.and_then(|content_id| known.lock().get(content_id).cloned());
    let (status, body) = found.map_or(("404 Not Found", String::new()), |reply| ("200 OK", reply));
    let length = body.len();
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    asking.write_all(reply.as_bytes()).await?;
    asking.shutdown().await
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let all = group.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        let digits = (0..4).map(|place| char::from(DIGITS[all >> (18 - 6 * place) & 63]));
        text.extend(digits.take(group.len() + 1));
        text.extend(std::iter::repeat_n('=', 3 - group.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_standard_shows_it() {
        let shown = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, encoded) in shown {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
