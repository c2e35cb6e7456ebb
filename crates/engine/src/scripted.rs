//! A TCP server that answers each request as a test has written it, byte by byte. It knows nothing about HTTP beyond
//! the end of a request's head, so that it can break every rule.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Endpoint;

/// One thing the server does for a request, in order. After the last step it closes the connection.
pub(crate) enum Step {
    Send(Vec<u8>),
    /// The same again and again, until the client has gone.
    Flood(Vec<u8>),
    Pause(Duration),
    /// Nothing more, and the connection stays open.
    Hang,
    /// Waits for the test.
    Gate(Arc<Notify>),
    /// Closes with RST.
    Reset,
}

/// A server on a free port, and what it has seen.
pub(crate) struct Scripted {
    pub(crate) endpoint: Endpoint,
    journal: Arc<Journal>,
    _accepting: JoinSet<()>,
}

/// What has happened, in order. Tests may add lines of their own.
#[derive(Default)]
pub(crate) struct Journal {
    lines: Mutex<Vec<String>>,
    changed: Notify,
}

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.lines.lock().push(line.into());
        self.changed.notify_waiters();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.lines.lock().iter().filter(|line| line.contains(word)).count()
    }

    /// Waits until `word` stands in at least `count` lines.
    pub(crate) async fn reaches(&self, word: &str, count: usize) {
        let reached = async {
            loop {
                let changed = self.changed.notified();
                if self.count(word) >= count {
                    return;
                }
                changed.await;
            }
        };
        timeout(Duration::from_secs(10), reached)
            .await
            .unwrap_or_else(|_| panic!("no {word}: {:#?}", self.lines()));
    }
}

impl Scripted {
    /// Answers every request head by what `script` returns for it.
    pub(crate) async fn new(script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", script).await.unwrap()
    }

    pub(crate) async fn at(
        address: &str,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let endpoint = listener.local_addr()?.to_string().parse().unwrap();
        let journal = Arc::new(Journal::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(script), Arc::clone(&journal)));
        Ok(Self { endpoint, journal, _accepting: accepting })
    }

    /// Answers everything with the same bytes, then closes.
    pub(crate) async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |_| vec![Step::Send(answer.clone())]).await
    }

    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The request heads seen so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.journal.lines().into_iter().filter(|line| line.starts_with("GET ")).collect()
    }
}

type Script = dyn Fn(&str) -> Vec<Step> + Send + Sync;

async fn accept(listener: TcpListener, script: Arc<Script>, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        journal.note("connected");
        connections.spawn(serve(socket, Arc::clone(&script), Arc::clone(&journal)));
    }
}

async fn serve(mut socket: TcpStream, script: Arc<Script>, journal: Arc<Journal>) {
    let Some(head) = read_head(&mut socket).await else { return };
    journal.note(head.clone());
    for step in script(&head) {
        if !play(&mut socket, step, &journal).await {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default();
    journal.note(format!("answered {target}"));
}

/// False when the connection is over.
async fn play(socket: &mut TcpStream, step: Step, journal: &Journal) -> bool {
    match step {
        Step::Send(bytes) => return socket.write_all(&bytes).await.is_ok(),
        Step::Flood(bytes) => {
            flood(socket, &bytes, journal).await;
            return false;
        }
        Step::Pause(time) => sleep(time).await,
        Step::Hang => pending().await,
        Step::Gate(gate) => gate.notified().await,
        Step::Reset => socket.set_zero_linger().unwrap(),
    }
    true
}

/// Writes until the client has gone, and notes when it stops reading.
async fn flood(socket: &mut TcpStream, bytes: &[u8], journal: &Journal) {
    let mut is_blocked = false;
    loop {
        let writing = socket.write_all(bytes);
        tokio::pin!(writing);
        let first = timeout(Duration::from_millis(100), &mut writing).await;
        if first.is_err() && !std::mem::replace(&mut is_blocked, true) {
            journal.note("blocked");
        }
        let written = if let Ok(written) = first { written } else { writing.await };
        if written.is_err() {
            journal.note("client gone");
            return;
        }
    }
}

async fn read_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A well-formed answer with a length.
pub(crate) fn ok(content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A well-formed JSON answer.
pub(crate) fn json(body: &str) -> Vec<u8> {
    ok("application/json", body)
}

/// The reply of a start call for a channel.
pub(crate) fn started(infohash: &str) -> Vec<u8> {
    let url = |kind: &str| format!("\"http://127.0.0.1:6878/ace/{kind}/{infohash}/token\"");
    json(&format!(
        r#"{{"response": {{"playback_url": {}, "stat_url": {}, "command_url": {}, "infohash": "{infohash}",
        "playback_session_id": "e0d1", "is_live": 1, "is_encrypted": 0}}, "error": null}}"#,
        url("r"),
        url("stat"),
        url("cmd")
    ))
}
