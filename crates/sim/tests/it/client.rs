//! A bare HTTP client: it reports what came over the socket and repairs nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::{SimEngine, SimOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// After this long without a byte a peer is taken to be silent.
const SILENCE: Duration = Duration::from_millis(300);
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The declared length was reached.
    Complete,
    /// The peer closed.
    Closed,
    /// The peer reset.
    Reset,
    /// Nothing more came for a while.
    Silent,
    /// The caller had enough.
    Enough,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// An open connection.
pub(crate) struct Client {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(addr).await?, ahead: Vec::new() })
    }

    pub(crate) async fn send(&mut self, method: &str, target: &str, body: &str) {
        self.send_lines(method, target, &format!("Content-Length: {}\r\n", body.len()), body).await;
    }

    /// Asks with one more header.
    pub(crate) async fn send_header(&mut self, method: &str, target: &str, header: &str) {
        self.send_lines(method, target, &format!("{header}\r\n"), "").await;
    }

    /// Asks for a range of a file.
    pub(crate) async fn send_range(&mut self, target: &str, range: &str) {
        self.send_lines("GET", target, &format!("Range: {range}\r\n"), "").await;
    }

    async fn send_lines(&mut self, method: &str, target: &str, headers: &str, body: &str) {
        let host = self.stream.peer_addr().unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n{body}");
        // A refusal to read shows in the answer.
        let _ = self.stream.write_all(request.as_bytes()).await;
    }

    /// Reads until there is `wanted` more, or the end.
    async fn fill(&mut self, wanted: usize, silence: Duration) -> End {
        while self.ahead.len() < wanted {
            match timeout(silence, self.stream.read_buf(&mut self.ahead)).await {
                Err(_) => return End::Silent,
                Ok(Err(_)) => return End::Reset,
                Ok(Ok(0)) => return End::Closed,
                Ok(Ok(_)) => {}
            }
        }
        End::Enough
    }

    /// Reads a head and at most `limit` bytes of its body.
    pub(crate) async fn answer(&mut self, limit: usize, silence: Duration) -> Answer {
        let mut end = End::Enough;
        let head_length = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break Some(at + 4);
            }
            if end != End::Enough {
                break None;
            }
            end = self.fill(self.ahead.len() + 1, silence).await;
        };
        let Some(head_length) = head_length else {
            return Answer { head: String::new(), body: std::mem::take(&mut self.ahead), end };
        };
        let head: Vec<u8> = self.ahead.drain(..head_length).collect();
        let answer = Answer { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new(), end };
        let declared = answer.header("Content-Length").and_then(|text| text.parse::<usize>().ok());
        let end = self.fill(declared.unwrap_or(usize::MAX).min(limit), silence).await;
        let end = if end == End::Enough && declared.is_some_and(|length| length <= limit) {
            End::Complete
        } else {
            end
        };
        let length = self.ahead.len().min(declared.unwrap_or(usize::MAX)).min(limit);
        Answer { body: self.ahead.drain(..length).collect(), end, ..answer }
    }

    /// Reads up to `limit` more bytes of an endless body.
    pub(crate) async fn more(&mut self, limit: usize) -> (Vec<u8>, End) {
        let end = self.fill(limit, SILENCE).await;
        let length = self.ahead.len().min(limit);
        (self.ahead.drain(..length).collect(), end)
    }

    /// Reads until the body ends and says how.
    pub(crate) async fn end(&mut self) -> End {
        timeout(PATIENCE, async {
            loop {
                self.ahead.clear();
                match self.fill(1, PATIENCE).await {
                    End::Enough => {}
                    end => return end,
                }
            }
        })
        .await
        .expect("a body that should have ended goes on")
    }
}

pub(crate) async fn engine() -> SimEngine {
    SimEngine::start(SimOptions::fast()).await.unwrap()
}

/// One GET; reads the whole reply or what there is of it.
pub(crate) async fn get(addr: SocketAddr, target: &str) -> Answer {
    request(addr, "GET", target, "").await
}

pub(crate) async fn request(addr: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    let mut client = Client::connect(addr).await.unwrap();
    client.send(method, target, body).await;
    client.answer(usize::MAX, SILENCE).await
}

pub(crate) async fn get_json(addr: SocketAddr, target: &str) -> Value {
    get(addr, target).await.json()
}

/// Starts `selector` (`id=…&pid=…`) and returns the `response`.
pub(crate) async fn start(engine: &SimEngine, selector: &str) -> Value {
    let reply = get_json(engine.addr(), &format!("/ace/getstream?{selector}&format=json")).await;
    assert_eq!(reply["error"], Value::Null, "{reply}");
    reply["response"].clone()
}

/// The path of a URL that the engine returned.
pub(crate) fn path(url: &Value) -> String {
    let url = url.as_str().unwrap();
    format!("/{}", url.splitn(4, '/').nth(3).unwrap())
}

/// Where a playback URL leads. The redirect's body is not read: it has no length, and its connection lingers.
pub(crate) async fn media_path(engine: &SimEngine, playback_url: &Value) -> String {
    let mut hop = Client::connect(engine.addr()).await.unwrap();
    hop.send("GET", &path(playback_url), "").await;
    let hop = hop.answer(0, SILENCE).await;
    path(&hop.header("Location").expect("a redirect").into())
}

/// Follows a playback URL to its media and leaves the connection behind the head.
pub(crate) async fn open_media(engine: &SimEngine, playback_url: &Value) -> (Client, Answer) {
    let media = media_path(engine, playback_url).await;
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &media, "").await;
    let answer = client.answer(0, SILENCE).await;
    (client, answer)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, polled).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}
