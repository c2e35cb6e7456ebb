//! `GET /ace/manifest.m3u8`: the same stream for players that fetch it piece by piece.
//!
//! The manifest's address is stable. What it names is the viewer's own: a playlist and segments under a token that
//! stands for the viewer, because nothing else tells two players behind one address apart.

use acemux_engine::Selector;
use acemux_relay::Relay;
use acemux_relay::output::hls::{HlsError, Rope, Token};
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::getstream::{self, Asked, ChannelQuery, Channels};
use crate::http::client::ClientInfo;
use crate::http::problem::{Code, Problem};
use crate::http::serve::AbortSwitch;
use crate::http::surface::fails;
use crate::http::surface::shapes::Binary;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// Bit rate that a manifest names for a stream whose own is not known yet, bit/s. There is nothing to choose from, so it
/// only has to be there.
const USUAL_BITRATE: u64 = 6_000_000;

/// The same stream for players that fetch it piece by piece.
///
/// The manifest comes as soon as the stream plays. It names one playlist, the viewer's.
#[utoipa::path(
    get, path = "/ace/manifest.m3u8", tag = "playback",
    params(ChannelQuery),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        fails::Selector, fails::Start
    )
)]
pub async fn manifest(
    State(channels): State<Channels>,
    RawQuery(query): RawQuery,
    client: ClientInfo,
    switch: AbortSwitch,
) -> Result<Response, Problem> {
    let content = Selector::from_query(query.as_deref())?;
    let Asked { key, info, admitted } = getstream::ask(&channels, content, client, switch.line()).await?;
    let token = channels.relay.join_hls(key.clone(), info, admitted).await?;
    let measured = channels.relay.session(&key).and_then(|session| session.bitrate);
    let rate = measured.map_or(USUAL_BITRATE, u64::from);
    let text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:BANDWIDTH={}\nhls/{token}/index.m3u8\n",
        rate.saturating_mul(5) / 4
    );
    Ok((StatusCode::OK, headers(PLAYLIST), text).into_response())
}

/// The same headers at once, without touching an engine.
#[utoipa::path(
    head, path = "/ace/manifest.m3u8", tag = "playback",
    params(ChannelQuery),
    responses((status = 200, description = "Of a manifest"), fails::Selector)
)]
pub async fn head(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Selector::from_query(query.as_deref())?;
    Ok((StatusCode::OK, headers(PLAYLIST)).into_response())
}

/// A browser asks whether a page from elsewhere may play this. It may.
#[utoipa::path(
    options, path = "/ace/manifest.m3u8", tag = "playback",
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn preflight() -> Response {
    getstream::preflight().await
}

/// The same for a playlist.
#[utoipa::path(
    options, path = "/ace/hls/{token}/index.m3u8", tag = "playback",
    params(("token" = String, Path, description = "As the manifest has it")),
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn playlist_preflight() -> Response {
    getstream::preflight().await
}

/// The same for a segment.
#[utoipa::path(
    options, path = "/ace/hls/{token}/{segment}", tag = "playback",
    params(
        ("token" = String, Path, description = "As the manifest has it"),
        ("segment" = String, Path, description = "As the playlist has it")
    ),
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn segment_preflight() -> Response {
    getstream::preflight().await
}

/// The playlist of one viewer, which is asked for again and again.
#[utoipa::path(
    get, path = "/ace/hls/{token}/index.m3u8", tag = "playback",
    params(("token" = String, Path, description = "As the manifest has it")),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        fails::NotFound, fails::BadToken, fails::SegmentGone, fails::StartTimeout, fails::TooManyRequests
    )
)]
pub async fn playlist(State(relay): State<Relay>, Path(token): Path<String>) -> Result<Response, Problem> {
    let text = relay.hls_playlist(&read(&token)?, |number| format!("{number}.ts")).await?;
    Ok((StatusCode::OK, headers(PLAYLIST), text).into_response())
}

/// A segment of it.
#[utoipa::path(
    get, path = "/ace/hls/{token}/{segment}", tag = "playback",
    params(
        ("token" = String, Path, description = "As the manifest has it"),
        ("segment" = String, Path, description = "`<number>.ts`, as the playlist has it")
    ),
    responses(
        (status = 200, content_type = "video/mp2t", body = inline(Binary)),
        fails::NotFound, fails::BadToken, fails::SegmentGone, fails::StartTimeout, fails::TooManyRequests
    )
)]
pub async fn segment(
    State(relay): State<Relay>,
    Path((token, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let token = read(&token)?;
    let number = number(&name)?;
    let segment = relay.hls_segment(&token, number).await?;
    Ok((StatusCode::OK, headers("video/mp2t"), Body::new(Rope::from(segment))).into_response())
}

fn read(token: &str) -> Result<Token, Problem> {
    token.parse().map_err(|_| Problem::new(Code::NotFound))
}

/// As playlists write it: decimal, no sign, no leading zeros.
fn number(name: &str) -> Result<u64, Problem> {
    let wrong = || Problem::new(Code::InvalidParam).with_detail("a segment is named as in 17.ts");
    let digits = name.strip_suffix(".ts").ok_or_else(|| Problem::new(Code::NotFound))?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    if number.to_string() == digits { Ok(number) } else { Err(wrong()) }
}

fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-Id"));
    headers
}

impl From<HlsError> for Problem {
    fn from(error: HlsError) -> Self {
        let code = match error {
            HlsError::UnknownToken => Code::BadToken,
            HlsError::Gone | HlsError::Over(_) => Code::SegmentGone,
            HlsError::NotReady => Code::StartTimeout,
            HlsError::TooOften => Code::TooManyRequests,
        };
        Self::new(code).with_detail(&error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name() {
        assert!(matches!(number("0.ts"), Ok(0)));
        assert!(matches!(number("18446744073709551615.ts"), Ok(u64::MAX)));
        let wrong =
            ["", ".ts", "-1.ts", "abc.ts", "1e3.ts", "18446744073709551616.ts", "00001.ts", "+1.ts", "1"];
        for name in wrong {
            assert!(number(name).is_err(), "{name}");
        }
    }
}
