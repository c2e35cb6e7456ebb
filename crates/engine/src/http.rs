//! The calls of an engine's HTTP API, as typed functions.
//!
//! Requests are built from typed values only, so nothing a client wrote can reach an engine. Every call has a deadline
//! of its own except reading media: real engines accept a connection and then send no header for up to a minute, and
//! only the caller knows how long that may last.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;

use crate::content::Infohash;
use crate::endpoint::Endpoint;
use crate::engine::Timings;
use crate::error::{EngineError, Stage, clean};
use crate::family::Family;
use crate::file::{ByteRange, FilePart};
use crate::json::{self, Scalar};
use crate::path::EnginePath;
use crate::start::{StartBy, StartFailure, Started};
use crate::stat::{PlaybackStat, is_unknown_session};
use crate::wire::{self, Answer, WireBody};

/// Largest JSON reply. Real ones have one or two KiB; a playlist of many files more.
const MAX_JSON: usize = 256 * 1024;
/// How much of an error page is read to find words in it.
const MAX_ERROR_TEXT: usize = 4 * 1024;
/// Redirects followed from a playback URL to its media. Real engines have one or two (`/ace/r` to `/content`).
const MAX_REDIRECTS: usize = 3;
/// Length and first byte of a transport stream's packets, and in how many bytes three of them are found.
const TS_PACKET: usize = 188;
const TS_SYNC: u8 = 0x47;
const ENOUGH_TO_TELL: usize = 4 * TS_PACKET;

/// The player an engine believes to serve. Each playback has a fresh one: a player that starts a second channel loses
/// its first, and a re-used one gets only what was left in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlayerId(u128);

impl PlayerId {
    /// One that nobody has.
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which program an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// As in `3.2.11`.
    pub version: String,
    /// As in `linux`.
    pub platform: Option<String>,
    /// Which program speaks so.
    pub family: Family,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VersionFields {
    version: Scalar,
    platform: Scalar,
}

impl Version {
    /// Reads the JSON reply of `get_version`.
    pub fn parse(body: &[u8]) -> Result<Self, EngineError> {
        let fields: VersionFields = json::open(body)?.object().unwrap_or_default();
        let version = fields.version.label().ok_or_else(|| EngineError::bad_reply("no version"))?;
        let platform = fields.platform.label();
        // The open engine names none.
        let family = if platform.is_some() { Family::Acestream } else { Family::Unknown };
        Ok(Self { version, platform, family })
    }
}

/// What `get_network_connection_status` tells.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NetworkStatus {
    connected: Option<bool>,
}

/// What `get_media_files` tells about a channel; the list of files is of no use for broadcasts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MediaFiles {
    infohash: Scalar,
}

/// Reads the JSON reply of `get_media_files`: the infohash, or `None` when the reply has none or the engine does not
/// know the method.
pub fn parse_media_files(body: &[u8]) -> Result<Option<Infohash>, EngineError> {
    match json::open::<MediaFiles>(body) {
        Ok(payload) => Ok(payload.object().and_then(|files| files.infohash.parse())),
        Err(EngineError::Refused { message }) if message.contains("unknown method") => Ok(None),
        Err(error) => Err(error),
    }
}

/// The HTTP API of one engine.
#[derive(Debug)]
pub(crate) struct Client {
    endpoint: Endpoint,
    timings: Timings,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, timings: Timings) -> Self {
        Self { endpoint, timings }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Starts a playback. The caller owes a stop for every success, and for every failure that has a command path.
    pub(crate) async fn start(&self, by: StartBy, player: PlayerId) -> Result<Started, StartFailure> {
        let body = self.json(&start_target(by, player), Stage::Start, self.timings.start).await?;
        Started::parse(&body)
    }

    /// Ends the session of a command path. That the engine does not know it any more is as good.
    pub(crate) async fn stop(&self, command: &EnginePath) -> Result<(), EngineError> {
        let body = self.json(&command.with_query("method=stop"), Stage::Stop, self.timings.stop).await?;
        match json::open::<serde::de::IgnoredAny>(&body) {
            Ok(_) => Ok(()),
            Err(error) if is_unknown_session(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the engine says about a playback. Asking counts as activity of the player and so keeps the session alive,
    /// which is what we want while somebody watches: `skip_player_activity` is not set on purpose.
    pub(crate) async fn stat(&self, stat: &EnginePath) -> Result<PlaybackStat, EngineError> {
        PlaybackStat::parse(&self.query(stat.as_str()).await?)
    }

    /// The infohash behind a hash, without opening a session.
    pub(crate) async fn media_files(&self, by: StartBy) -> Result<Option<Infohash>, EngineError> {
        let body = self.json(&media_files_target(by), Stage::Query, self.timings.resolve).await?;
        parse_media_files(&body)
    }

    /// Asks where closed engines answer, then where the open one does. Only the open one has a page for its health.
    pub(crate) async fn version(&self) -> Result<Version, EngineError> {
        match self.query("/webui/api/service?method=get_version").await {
            Err(EngineError::Status { .. }) => {}
            answer => return Version::parse(&answer?),
        }
        let mut version = Version::parse(&self.query(&api_target("get_version", &[])).await?)?;
        if self.has_page("/healthz").await? {
            version.family = Family::Outpace;
        }
        Ok(version)
    }

    /// Whether there is such a page. What it says is not read.
    async fn has_page(&self, path: &str) -> Result<bool, EngineError> {
        let page = wire::get(&self.endpoint, path, None, self.timings.connect);
        let answer = timeout(self.timings.query, page).await;
        Ok(answer.map_err(|_| EngineError::Timeout { stage: Stage::Query })??.status.is_success())
    }

    /// Whether the engine answers at all: a hanging one accepts connections for ever.
    pub(crate) async fn check(&self) -> Result<(), EngineError> {
        let body = self.query(&api_target("get_status", &[])).await?;
        json::open::<serde::de::IgnoredAny>(&body).map(drop)
    }

    /// Whether the engine says that it has a network. Engines that do not know the question say nothing.
    pub(crate) async fn is_connected(&self) -> Result<Option<bool>, EngineError> {
        let body = self.query(&api_target("get_network_connection_status", &[])).await?;
        Ok(json::open::<NetworkStatus>(&body)?.object().and_then(|status| status.connected))
    }

    /// Opens the media of a playback, and returns when its head has come, which may take a minute.
    pub(crate) async fn open_body(&self, playback: &EnginePath) -> Result<Body, EngineError> {
        let answer = self.follow(playback, None).await?;
        self.media(answer).await
    }

    /// Opens the file of a recording, or a part of it.
    pub(crate) async fn open_file(
        &self,
        playback: &EnginePath,
        range: Option<ByteRange>,
    ) -> Result<FilePart, EngineError> {
        let answer = self.follow(playback, range).await?;
        if answer.status == http::StatusCode::RANGE_NOT_SATISFIABLE {
            return FilePart::of(answer);
        }
        FilePart::of(self.refuse_error_status(answer).await?)
    }

    /// The answer at the end of a playback URL's redirects.
    async fn follow(&self, playback: &EnginePath, range: Option<ByteRange>) -> Result<Answer, EngineError> {
        let mut path = playback.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = wire::get(&self.endpoint, path.as_str(), range, self.timings.connect).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            // The redirect's own body has no length and may never end: it is dropped with its connection.
            let location = answer.location().ok_or_else(|| EngineError::bad_reply("redirect to nowhere"))?;
            path = EnginePath::parse_redirect(location, &self.endpoint)?;
        }
        Err(EngineError::bad_reply("too many redirects"))
    }

    /// The body of an answer that must be media.
    async fn media(&self, answer: Answer) -> Result<Body, EngineError> {
        let answer = self.refuse_error_status(answer).await?;
        if answer.status != http::StatusCode::OK {
            return Err(EngineError::bad_reply(format!("status {} for media", answer.status.as_u16())));
        }
        answer.require_identity()?;
        if matches!(answer.media_type().as_str(), "text/html" | "application/json") {
            return self.media_called_page(answer).await;
        }
        Ok(Body::of(answer))
    }

    /// Some engines call whatever they send a page. What it is, its first bytes tell.
    async fn media_called_page(&self, answer: Answer) -> Result<Body, EngineError> {
        let mut body = answer.into_body();
        let mut start = BytesMut::new();
        let reading = async {
            while start.len() < ENOUGH_TO_TELL
                && let Some(Ok(piece)) = body.next().await
            {
                start.extend_from_slice(&piece);
            }
        };
        // A page that does not come to its end is told by what came of it.
        let _ = timeout(self.timings.query, reading).await;
        // One that sends nothing yet is the caller's to judge, as one that never does.
        if start.is_empty() || is_transport_stream(&start) {
            return Ok(Body { start: start.freeze(), rest: body });
        }
        let words = clean(start.get(..MAX_ERROR_TEXT).unwrap_or(&start));
        Err(EngineError::bad_reply(format!("a page instead of media: {words}")))
    }

    /// A JSON call with the usual deadline.
    async fn query(&self, target: &str) -> Result<Bytes, EngineError> {
        self.json(target, Stage::Query, self.timings.query).await
    }

    /// The body of a JSON reply, all of it within `deadline`.
    async fn json(&self, target: &str, stage: Stage, deadline: Duration) -> Result<Bytes, EngineError> {
        let reply = async {
            let answer = wire::get(&self.endpoint, target, None, self.timings.connect).await?;
            let answer = self.refuse_error_status(answer).await?;
            if !answer.status.is_success() {
                return Err(EngineError::bad_reply(format!("status {}", answer.status.as_u16())));
            }
            answer.require_identity()?;
            answer.read_to_end(MAX_JSON).await?.ok_or_else(|| EngineError::bad_reply("a reply over 256 KiB"))
        };
        timeout(deadline, reply).await.unwrap_or(Err(EngineError::Timeout { stage }))
    }

    async fn refuse_error_status(&self, answer: Answer) -> Result<Answer, EngineError> {
        let code = answer.status.as_u16();
        if code < 400 {
            return Ok(answer);
        }
        Err(EngineError::Status { code, message: self.words(answer).await })
    }

    /// What an error page says. A page that does not come is an empty one.
    async fn words(&self, answer: Answer) -> String {
        if answer.require_identity().is_err() {
            return String::new();
        }
        let start = timeout(self.timings.query, answer.read_start(MAX_ERROR_TEXT)).await;
        start.map_or_else(|_| String::new(), |text| clean(&text))
    }
}

/// Media as it comes from the engine. Dropping it closes the connection; the session needs its stop all the same.
pub struct Body {
    /// What has been looked at already.
    start: Bytes,
    rest: WireBody,
}

impl Body {
    pub(crate) fn of(answer: Answer) -> Self {
        Self { start: Bytes::new(), rest: answer.into_body() }
    }

    /// The next bytes, `None` at the end. Never empty. Cancel safe. While nobody asks, nothing is read: the engine is
    /// held back by the socket.
    pub async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], for streams written by hand.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EngineError>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.start))));
        }
        self.rest.poll_next(cx)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// Whether there are three packets, one behind the other, somewhere in it.
fn is_transport_stream(start: &[u8]) -> bool {
    start
        .windows(2 * TS_PACKET + 1)
        .any(|window| [0, TS_PACKET, 2 * TS_PACKET].iter().all(|at| window.get(*at) == Some(&TS_SYNC)))
}

fn start_target(by: StartBy, player: PlayerId) -> String {
    let (selector, hash) = match by {
        StartBy::ContentId(hash) => ("id", hash),
        StartBy::Infohash(infohash) => ("infohash", infohash.hash()),
    };
    let parameters =
        [(selector, hash.to_string()), ("format", "json".to_owned()), ("pid", player.to_string())];
    target("/ace/getstream", &parameters)
}

fn media_files_target(by: StartBy) -> String {
    let (selector, hash) = match by {
        StartBy::ContentId(hash) => ("content_id", hash),
        StartBy::Infohash(infohash) => ("infohash", infohash.hash()),
    };
    api_target("get_media_files", &[(selector, hash.to_string())])
}

fn api_target(method: &str, parameters: &[(&str, String)]) -> String {
    let method = [("api_version", "3".to_owned()), ("method", method.to_owned())];
    target("/server/api", &[&method, parameters].concat())
}

/// What stays as it is in a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');

/// A request target: the only place where a query is written.
fn target(path: &str, parameters: &[(&str, String)]) -> String {
    let pairs =
        parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)));
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests;
