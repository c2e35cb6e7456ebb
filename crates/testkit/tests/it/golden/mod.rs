//! The tables of bad inputs of the fault catalogue (§3.1 to §3.5): a request, byte for byte, and what is answered. One line
//! for each row. Decision 19 says where the answer is another one than the catalogue's, and where rows stand that need more
//! than a request; the settings (§3.6) are in the server's own tests.
//!
//! Every answer must also keep what holds for all of them ([`Answer::breaks`]).

mod heads;
mod operator;
mod pieces;
mod selectors;
mod strangers;

use std::net::SocketAddr;
use std::time::Duration;

use acemux_testkit::app::within;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is asked after an answer, to see whether the connection is still one.
const NEXT: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);
const HOST: &str = "Host: localhost\r\n";

/// One row: its number, the request, and the answer: a status, the problem's code (`-` when there is no body), header lines
/// (`-name` when there must be none), and `open` or `closed` for the connection; `nothing` for a connection that ends
/// without one.
pub(super) struct Row {
    number: u8,
    request: Vec<u8>,
    /// Sent when the first answer has come.
    rest: Vec<u8>,
    expected: String,
}

/// A row of the table.
pub(super) fn row(number: u8, request: impl Into<Vec<u8>>, expected: impl Into<String>) -> Row {
    Row { number, request: request.into(), rest: Vec::new(), expected: expected.into() }
}

/// `METHOD path` at our own name, with more header lines.
pub(super) fn ask(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\n{HOST}{headers}\r\n")
}

/// `GET path` at our own name.
pub(super) fn get(path: &str) -> String {
    ask(&format!("GET {path}"), "")
}

/// The same with a body, which is JSON unless `headers` say something else.
pub(super) fn with_body(line: &str, headers: &str, body: &str) -> String {
    let kind = if headers.contains("Content-Type") { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    format!("{line} HTTP/1.1\r\n{HOST}{headers}{kind}Content-Length: {length}\r\n\r\n{body}")
}

/// One answer as it came.
struct Answer {
    head: String,
    body: Vec<u8>,
}

/// A connection that shows what is on it.
struct Wire {
    socket: TcpStream,
    said: Vec<u8>,
}

impl Wire {
    async fn to(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.expect("it listens"), said: Vec::new() }
    }

    /// The answer may come, and the connection end, before all is sent.
    async fn say(&mut self, bytes: &[u8]) {
        let _refused = self.socket.write_all(bytes).await;
    }

    /// The next answer, without its body when that has no length; `None` when the connection is over.
    async fn answer(&mut self, is_of_head: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.said.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let head: Vec<u8> = self.said.drain(..end).collect();
        let mut answer =
            Answer { head: String::from_utf8(head).expect("our heads are text"), body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let length = if is_of_head { 0 } else { length };
        while self.said.len() < length {
            self.read().await?;
        }
        answer.body = self.said.drain(..length).collect();
        Some(answer)
    }

    /// A reset is an end, too.
    async fn read(&mut self) -> Option<()> {
        let read = within(PATIENCE, "an answer", self.socket.read_buf(&mut self.said)).await;
        (read.unwrap_or_default() > 0).then_some(())
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The problem in it, if it is one.
    fn problem(&self) -> Option<Value> {
        let is_one = self.header("content-type") == Some("application/problem+json");
        is_one.then(|| serde_json::from_slice(&self.body).unwrap_or_default())
    }

    fn code(&self) -> String {
        let code = |problem: Value| problem["code"].as_str().map(str::to_owned);
        self.problem().and_then(code).unwrap_or_else(|| "-".to_owned())
    }

    /// What it has that no answer may have, or lacks. What hyper answers by itself has no header lines at all.
    fn breaks(&self, is_media: bool) -> Vec<String> {
        let status = self.status();
        if status < 200 || self.header("x-request-id").is_none() {
            return Vec::new();
        }
        let open = is_media.then_some("*");
        let policy = (!is_media).then_some("default-src 'none'; frame-ancestors 'none'");
        let bearer = (status == 401).then_some("Bearer realm=\"acemux\"");
        let fixed = [
            ("set-cookie", None),
            ("access-control-allow-origin", open),
            ("access-control-allow-credentials", None),
            ("cache-control", Some("no-store")),
            ("x-content-type-options", Some("nosniff")),
            ("content-security-policy", policy),
            ("www-authenticate", bearer),
        ];
        let differing = fixed.into_iter().filter(|(name, value)| self.header(name) != *value);
        let mut broken: Vec<_> =
            differing.map(|(name, _)| format!("{name}: {:?}", self.header(name))).collect();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                broken.push(format!("{what} of {}{}", self.head, String::from_utf8_lossy(&self.body)));
            }
        };
        must(self.header("allow").is_some() == matches!(status, 204 | 405), "allow");
        let wait = self.header("retry-after").map(|wait| wait.parse().unwrap_or(0_u64));
        must(wait.is_some() == matches!(status, 429 | 503) && wait != Some(0), "retry-after");
        if let Some(problem) = self.problem().filter(|_| !self.body.is_empty()) {
            let names: Vec<_> = problem.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
            // Of settings every fault is told, each by its name.
            let is_of_settings = matches!(self.code().as_str(), "invalid_setting" | "setting_fixed");
            let (problems, others): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|name| name.as_str() == "problems");
            must(others == ["code", "detail", "request_id", "status"], "fields");
            must(problems.is_empty() != is_of_settings, "problems");
            must(problem["status"] == status, "status");
            must(problem["request_id"].as_str() == self.header("x-request-id"), "request id");
            let detail = problem["detail"].as_str().unwrap_or_default();
            let is_line = !detail.is_empty() && !detail.contains(['<', '\n', '\r']);
            must(is_line && detail.chars().count() <= 200, "detail");
        }
        broken
    }
}

impl Row {
    /// The same, with more to send when the first answer has come.
    pub(super) fn then(self, rest: impl Into<Vec<u8>>) -> Self {
        Self { rest: rest.into(), ..self }
    }

    /// What is wrong with the answer, if anything.
    async fn differs(&self, address: SocketAddr) -> Option<String> {
        let mut parts = self.expected.split("; ").map(str::to_owned);
        let word = parts.next().unwrap_or_default();
        let (ends, lines): (Vec<_>, Vec<_>) =
            parts.partition(|part| matches!(part.as_str(), "open" | "closed"));
        let mut wire = Wire::to(address).await;
        wire.say(&self.request).await;
        let is_of_head = self.request.starts_with(b"HEAD ");
        let Some(mut answer) = wire.answer(is_of_head).await else {
            return (word != "nothing").then(|| self.told("no answer", &[]));
        };
        if !self.rest.is_empty() {
            wire.say(&self.rest).await;
            answer = wire.answer(is_of_head).await?;
        }
        let said = format!("{} {}", answer.status(), answer.code());
        let mut wrong = answer.breaks(self.is_media());
        if said != word && said != format!("{word} -") {
            wrong.push(format!("expected {word}"));
        }
        wrong.extend(lines.iter().filter(|line| !holds(&answer, line)).map(|line| format!("not {line}")));
        if let Some(end) = ends.first() {
            wire.say(NEXT).await;
            let is_open = wire.answer(false).await.is_some_and(|next| next.status() == 200);
            if is_open != (end == "open") {
                wrong.push(format!("not {end}"));
            }
        }
        (!wrong.is_empty()).then(|| self.told(&said, &wrong))
    }

    fn is_media(&self) -> bool {
        let line = String::from_utf8_lossy(&self.request);
        let target = line.split(' ').nth(1).unwrap_or_default();
        let path = target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        let path = path.unwrap_or(target);
        path.starts_with("/ace/") || path.replace("//", "/").starts_with("/ace/")
    }

    fn told(&self, said: &str, wrong: &[String]) -> String {
        let shown: String = String::from_utf8_lossy(&self.request).chars().take(160).collect();
        format!("row {}: {shown:?} -> {said}: {}", self.number, wrong.join(", "))
    }
}

/// Whether the answer has this header line, or lacks it if a minus is in front.
fn holds(answer: &Answer, line: &str) -> bool {
    match line.strip_prefix('-') {
        Some(name) => answer.header(name).is_none(),
        None => line.split_once(": ").is_some_and(|(name, value)| answer.header(name) == Some(value)),
    }
}

/// Asks for all of them, one after the other; what differs is told together.
pub(super) async fn assert_table(address: SocketAddr, rows: impl IntoIterator<Item = Row>) {
    let mut differing = Vec::new();
    for row in rows {
        differing.extend(row.differs(address).await);
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
