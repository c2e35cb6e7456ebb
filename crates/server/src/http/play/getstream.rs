//! `GET /ace/getstream`: one URL per channel, for any number of players.
//!
//! Nothing is sent before decodable data is there, so a failed start is an HTTP error and never an empty 200. The
//! order of checks: selector, limits, identity, stream; what fails early touches no engine.

use std::convert::Infallible;
use std::sync::Arc;

use acemux_engine::{ContentId, Selector};
use acemux_relay::Relay;
use acemux_relay::StreamKey;
use acemux_relay::line::Line;
use acemux_relay::origin::OpenError;
use acemux_relay::output::ts::{Body as TsBody, StreamOver};
use acemux_relay::relay::Admitted;
use acemux_relay::session::{EndReason, StartError};
use acemux_relay::viewer::{Viewer, ViewerInfo};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::recording::{self, RangeRequest, RequestedRange};
use super::token::Signer;
use crate::http::client::ClientInfo;
use crate::http::problem::{Code, Problem};
use crate::http::serve::{AbortOnError, AbortSwitch, Ending, Ends};
use crate::http::surface::fails;
use crate::http::surface::shapes::Binary;
use crate::planes::loops::Loops;
use crate::planes::origins::EngineOrigin;

/// Which channel is meant: exactly one of these. Parameters that are not known are ignored.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the description of what `Selector` reads from the query itself")]
pub(super) struct ChannelQuery {
    /// A content id or an infohash: 40 hex digits, or `acestream://…`.
    #[param(example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")]
    id: Option<String>,
    /// An infohash: 40 hex digits.
    infohash: Option<String>,
}

/// Plays a channel.
///
/// A broadcast is a transport stream without an end: it begins with a picture that a decoder can begin with, and headers are
/// sent when it is there. A recording is a file that one viewer reads, with `Range`.
#[utoipa::path(
    get, path = "/ace/getstream", tag = "playback",
    params(ChannelQuery),
    responses(
        (status = 200, description = "The stream; of a recording the whole, under its own media type",
            content_type = "video/mp2t", body = inline(Binary)),
        (status = 206, description = "The part of a recording that `Range` names", body = inline(Binary)),
        (status = 416, description = "The recording is shorter; `Content-Range` has its length"),
        fails::Selector, fails::Start, fails::StreamFull
    )
)]
pub async fn play(
    State(channels): State<Channels>,
    RawQuery(query): RawQuery,
    client: ClientInfo,
    RequestedRange(range): RequestedRange,
    switch: AbortSwitch,
) -> Result<Response, Problem> {
    let content = Selector::from_query(query.as_deref())?;
    let viewer = join(&channels, content, client, switch.line()).await?;
    if viewer.is_recording() {
        // Boxed, because this future is as large as its largest way, and thousands may wait for a broadcast at once.
        let asked = RangeRequest { range, switch };
        return Box::pin(recording::play(viewer, asked)).await;
    }
    let body = AbortOnError::new(TsBody::new(viewer), switch);
    Ok((StatusCode::OK, golden_headers(), Body::new(body)).into_response())
}

/// The same headers at once, without touching an engine.
#[utoipa::path(
    head, path = "/ace/getstream", tag = "playback",
    params(ChannelQuery),
    responses((status = 200, description = "Of a broadcast"), fails::Selector)
)]
pub async fn head(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Selector::from_query(query.as_deref())?;
    Ok((StatusCode::OK, golden_headers(), of_unknown_length()).into_response())
}

/// An empty body of known length would be announced as such, and `Content-Length: 0` makes VLC give up.
pub(super) fn of_unknown_length() -> Body {
    Body::from_stream(futures_util::stream::empty::<Result<Bytes, Infallible>>())
}

/// A browser asks whether a page from elsewhere may play this. It may.
#[utoipa::path(
    options, path = "/ace/getstream", tag = "playback",
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn preflight() -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers
        .insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("range, authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn join(
    channels: &Channels,
    content: ContentId,
    client: ClientInfo,
    line: Line,
) -> Result<Viewer, Problem> {
    let Asked { key, info, admitted } = ask(channels, content, client, line).await?;
    Ok(channels.relay.join(key, info, admitted).await?)
}

/// How a viewer comes to a channel.
#[derive(Clone)]
pub struct Channels {
    pub(crate) relay: Relay,
    pub(crate) origin: EngineOrigin,
    pub(crate) loops: Arc<Loops>,
    pub(crate) signer: Signer,
}

/// A viewer with its place in the limits, who knows which channel is meant.
pub(super) struct Asked {
    pub(super) key: StreamKey,
    pub(super) info: ViewerInfo,
    pub(super) admitted: Admitted,
}

pub(super) async fn ask(
    channels: &Channels,
    content: ContentId,
    client: ClientInfo,
    line: Line,
) -> Result<Asked, Problem> {
    let ClientInfo { address, user_agent, .. } = client;
    let info = ViewerInfo { address, user_agent, label: content.hash().to_string(), line };
    let admitted = channels.relay.admit(&info)?;
    let deadline = channels.relay.deadline(&admitted);
    let key =
        timeout_at(deadline, channels.origin.key(content)).await.map_err(|_elapsed| unresolved(deadline))?;
    if channels.loops.is_blocked(&key) {
        return Err(Problem::new(Code::LoopingStream));
    }
    Ok(Asked { key, info, admitted })
}

/// An engine that says nothing to a look-up would say nothing to a start either.
fn unresolved(deadline: Instant) -> Problem {
    let detail = "no engine answered which channel this is before the time for a start was over";
    tracing::warn!(late_ms = deadline.elapsed().as_millis(), "stream could not be started: {detail}");
    Problem::new(Code::StartTimeout).with_detail(detail)
}

/// The headers that every known player is happy with: no length, no ranges, no buffering in between.
fn golden_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/mp2t"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-Id"));
    headers
}

impl Ends for StreamOver {
    /// Players come back after a torn end: to this service, or by themselves to the next one after one that stops. What an
    /// operator has ended stays ended.
    fn ending(&self) -> Ending {
        match self.0 {
            EndReason::Stopped => Ending::Finished,
            EndReason::Shutdown => Ending::Closed,
            _ => Ending::Torn,
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        Self::new(Code::from(&error)).with_detail(&error.to_string())
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        StartError::from(error).into()
    }
}
