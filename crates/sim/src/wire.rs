//! HTTP by hand: request heads in, replies out, over a bare socket.
//!
//! No HTTP library would send what a broken engine sends, so nothing here insists on correctness: lengths may be missing or
//! wrong, a connection may be reset, bytes may drip. It refuses only what would hurt the simulator: heads over 64 KiB.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::json::Spacing;
use crate::swarm;

/// Longest request head.
const HEAD_LIMIT: usize = 64 * 1024;
/// Longest body that a control request may have; the engine port reads no bodies.
const BODY_LIMIT: usize = 1024 * 1024;
/// How long an idle or unfinished request may keep its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server shows of itself in every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manners {
    /// Its `Server` header, when it has one.
    pub(crate) server: Option<&'static str>,
    /// Whether every page may be read by pages of other origins.
    pub(crate) cors: bool,
    /// How it writes JSON.
    pub(crate) json: Spacing,
}

impl Manners {
    /// A server in Python.
    pub(crate) const fn python(server: &'static str) -> Self {
        Self { server: Some(server), cors: true, json: Spacing::Python }
    }

    /// A server in Rust, which names nothing and spaces nothing.
    pub(crate) const PLAIN: Self = Self { server: None, cors: false, json: Spacing::None };

    fn cors_line(self) -> Option<String> {
        self.cors.then(|| "Access-Control-Allow-Origin: *".to_owned())
    }
}

/// What becomes of the connection after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The next request may follow.
    KeepAlive,
    /// Closed in order.
    Close,
    /// Reset, with whatever was still unsent.
    Reset,
}

/// A parsed request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path segments, decoded.
    pub(crate) path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(crate) keep_alive: bool,
    pub(crate) peer: IpAddr,
}

impl Request {
    /// The first query parameter of this name.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first header of this name (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn parse(head: &str, peer: IpAddr) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let headers: Vec<_> = lines.filter_map(parse_header).collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let closes =
            headers.iter().any(|(name, value)| name == "connection" && value.eq_ignore_ascii_case("close"));
        Some(Self {
            method: method.to_owned(),
            path: path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect(),
            query: query.split('&').filter(|pair| !pair.is_empty()).map(parse_pair).collect(),
            keep_alive: version == "HTTP/1.1" && !closes,
            headers,
            peer,
        })
    }
}

fn parse_header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn parse_pair(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decode(name), decode(&value.replace('+', " ")))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    /// Bytes that were read beyond the last request.
    ahead: Vec<u8>,
    manners: Manners,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: IpAddr, manners: Manners) -> Self {
        // Only a hint to the kernel: pieces are to leave as they are written.
        let _ = stream.set_nodelay(true);
        Self { stream, peer, ahead: Vec::new(), manners }
    }

    /// The next request; `None` when the client is done, too slow or not speaking HTTP.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Request::parse(&String::from_utf8_lossy(&head[..end]), self.peer);
            }
            if self.ahead.len() > HEAD_LIMIT {
                return None;
            }
            tokio::time::timeout_at(deadline, self.stream.read_buf(&mut self.ahead))
                .await
                .ok()?
                .ok()
                .filter(|n| *n > 0)?;
        }
    }

    /// The body that the request declares; `None` when it is too long or does not come.
    pub(crate) async fn body(&mut self, request: &Request) -> Option<Vec<u8>> {
        let length = request.header("content-length").map_or(Some(0), |text| text.parse().ok())?;
        let deadline = Instant::now() + HEAD_TIMEOUT;
        while length <= BODY_LIMIT && self.ahead.len() < length {
            tokio::time::timeout_at(deadline, self.stream.read_buf(&mut self.ahead))
                .await
                .ok()?
                .ok()
                .filter(|n| *n > 0)?;
        }
        (length <= BODY_LIMIT).then(|| self.ahead.drain(..length).collect())
    }

    /// Resolves when the client has closed or reset the connection.
    pub(crate) async fn closed(&mut self) {
        while self.ahead.len() <= HEAD_LIMIT {
            match self.stream.read_buf(&mut self.ahead).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Keeps the client waiting until it leaves.
    pub(crate) async fn hang(&mut self) -> Ending {
        self.closed().await;
        Ending::Close
    }

    /// Waits, or stops waiting when the client leaves: `false`.
    pub(crate) async fn wait(&mut self, duration: Duration) -> bool {
        tokio::select! {
            () = sleep(duration) => true,
            () = self.closed() => false,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends the connection.
    pub(crate) fn end(self, ending: Ending) {
        if ending == Ending::Reset {
            // The client may already be gone, which is what was wanted.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Sends `reply`; the connection stays open when the reply's length tells its end and the client wants it to.
    pub(crate) async fn send(&mut self, request: &Request, reply: Reply) -> Ending {
        let stays =
            reply.has_length && request.keep_alive && reply.declared.is_none() && request.method != "POST";
        let mut bytes = reply.head(self.manners, stays);
        if !request.is_head() {
            bytes.extend_from_slice(&reply.body);
        }
        if !self.send_bytes(&bytes, reply.drip).await {
            return Ending::Close;
        }
        if reply.has_length {
            return if stays { Ending::KeepAlive } else { Ending::Close };
        }
        self.wait(reply.linger).await;
        Ending::Close
    }

    async fn send_bytes(&mut self, bytes: &[u8], drip: Duration) -> bool {
        if drip.is_zero() {
            return self.write(bytes).await.is_ok();
        }
        for byte in bytes {
            if self.write(&[*byte]).await.is_err() || !self.wait(drip).await {
                return false;
            }
        }
        true
    }

    pub(crate) fn manners(&self) -> Manners {
        self.manners
    }
}

/// A reply that fits into memory.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    has_length: bool,
    /// A `Content-Length` other than the body's.
    declared: Option<usize>,
    /// Without a length: how long the connection stays open after the body.
    linger: Duration,
    /// Time between two bytes.
    drip: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.into(),
            has_length: true,
            declared: None,
            linger: Duration::ZERO,
            drip: Duration::ZERO,
        }
    }

    pub(crate) fn json(value: &Value, spacing: Spacing) -> Self {
        Self::new(200, "application/json", spacing.dumps(value))
    }

    /// A status and nothing else.
    pub(crate) fn empty(status: u16) -> Self {
        Self { headers: Vec::new(), ..Self::new(status, "", "") }
    }

    pub(crate) fn text(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain", text)
    }

    pub(crate) fn html(status: u16) -> Self {
        Self::new(
            status,
            "text/html",
            "<!DOCTYPE html><html><head><title>Ace Stream</title></head><body></body></html>\n",
        )
    }

    /// A redirect as old Python servers send it: no length, and the connection stays open for a while. Clients that read
    /// the body to its end wait that long.
    pub(crate) fn redirect(location: Option<&str>, linger: Duration) -> Self {
        let mut reply = Self::new(302, "text/plain", format!("Redirect to {}", location.unwrap_or_default()));
        reply.headers = location.map(|url| ("Location", url.to_owned())).into_iter().collect();
        Self { has_length: false, linger, ..reply }
    }

    /// The same reply with one more header.
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same reply with this long between two bytes.
    pub(crate) fn dripping(self, drip: Duration) -> Self {
        Self { drip, ..self }
    }

    /// The same reply ended after `bytes` of its declared length.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.declared = Some(self.body.len());
        self.body.truncate(bytes);
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    fn head(&self, manners: Manners, stays: bool) -> Vec<u8> {
        let length = self.declared.unwrap_or(self.body.len());
        let mut lines = head_lines("HTTP/1.1", self.status, manners);
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.extend(manners.cors_line());
        if self.has_length {
            lines.push(format!("Content-Length: {length}"));
            lines.push(format!("Connection: {}", if stays { "keep-alive" } else { "close" }));
        }
        finish_head(&lines)
    }
}

/// Status line, `Server` and `Date`: how every reply begins.
pub(crate) fn head_lines(version: &str, status: u16, manners: Manners) -> Vec<String> {
    let status = format!("{version} {status} {}", reason(status));
    let server = manners.server.map(|server| format!("Server: {server}"));
    [Some(status), server, Some(format!("Date: {}", http_date()))].into_iter().flatten().collect()
}

/// The head of an endless media body begins with these lines.
pub(crate) fn media_head(version: &str, content_type: &str, manners: Manners) -> Vec<String> {
    let mut lines = head_lines(version, 200, manners);
    lines.push(format!("Content-Type: {content_type}"));
    lines.extend(manners.cors_line());
    lines
}

/// The lines as bytes, with the empty line behind them.
pub(crate) fn finish_head(lines: &[String]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// The words of a status line.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        416 => "Requested Range Not Satisfiable",
        500 => "Internal Server Error",
        501 => "Unsupported method",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

/// Now, as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date() -> String {
    let seconds = swarm::now().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).unwrap_or(0)];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Year, month and day of a day since 1970-01-01 (Gregorian; years begin in March so that the leap day comes last).
fn civil(days: u64) -> (u64, &'static str, u64) {
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + u64::from(month >= 10);
    (year, MONTHS[usize::try_from(month).unwrap_or(0)], day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_apart() {
        let head = "GET /ace/r/cid%3Aab/x?id=a%20b&format=json&flag HTTP/1.1\r\nHost: engine:6878\r\nConnection: close";
        let request = Request::parse(head, IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!(request.path, ["ace", "r", "cid:ab", "x"]);
        assert_eq!(
            (request.param("id"), request.param("flag"), request.param("pid")),
            (Some("a b"), Some(""), None)
        );
        assert_eq!((request.header("host"), request.keep_alive), (Some("engine:6878"), false));
        assert!(Request::parse("nonsense", IpAddr::from([127, 0, 0, 1])).is_none());
    }

    #[test]
    fn days_become_dates() {
        for (days, date) in [(0, (1970, "Jan", 1)), (11_016, (2000, "Feb", 29)), (20_819, (2027, "Jan", 1))] {
            assert_eq!(civil(days), date);
        }
    }
}
