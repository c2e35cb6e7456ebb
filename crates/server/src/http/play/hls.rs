//! `GET /ace/manifest.m3u8`: the same stream for players that fetch it piece by piece.
//!
//! The manifest's address is stable. What it names is the viewer's own: a playlist and segments under a token that
//! stands for the viewer, because nothing else tells two players behind one address apart. A token is good for as
//! long as this data directory lasts (`token.rs` beside this); the seat that goes with it is given up when it is not
//! named for a while, and taken again when it is.

use std::ops::RangeInclusive;
use std::time::Duration;

use acemux_engine::Selector;
use acemux_relay::line::Line;
use acemux_relay::output::hls::{HlsError, Place, Rope, Seated};
use acemux_relay::output::recording::ByteRange;
use acemux_relay::session::EndReason;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_RANGE,
    CONTENT_TYPE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::address::Leads;
use super::getstream::{self, Asked, ChannelQuery, Channels};
use super::recording::RequestedRange;
use super::token::Ticket;
use crate::http::client::ClientInfo;
use crate::http::problem::{Code, Problem};
use crate::http::serve::AbortSwitch;
use crate::http::surface::fails;
use crate::http::surface::shapes::Binary;

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// Longest wait for the playlist of a player that comes back to a stream which has to be started first. Players wait ten
/// seconds and longer; who is told to ask again finds the start further on.
const RETURN: Duration = Duration::from_secs(8);

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
    leads: Leads,
    switch: AbortSwitch,
) -> Result<Response, Problem> {
    let content = Selector::from_query(query.as_deref())?;
    let Asked { key, info, admitted } = getstream::ask(&channels, content, client, switch.line()).await?;
    let joined = channels.relay.join_hls(key, info, admitted).await?;
    let address = channels.signer.address(Ticket { content, token: joined.token });
    let text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-STREAM-INF:{}\n{}hls/{address}/index.m3u8\n",
        joined.attributes(),
        leads.to_media()
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
    Ok((StatusCode::OK, headers(PLAYLIST), getstream::of_unknown_length()).into_response())
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
    options, path = "/ace/hls/{channel}/{token}/index.m3u8", tag = "playback",
    params(
        ("channel" = String, Path, description = "As the manifest has it"),
        ("token" = String, Path, description = "As the manifest has it")
    ),
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn playlist_preflight() -> Response {
    getstream::preflight().await
}

/// The same for a segment.
#[utoipa::path(
    options, path = "/ace/hls/{channel}/{token}/{segment}", tag = "playback",
    params(
        ("channel" = String, Path, description = "As the manifest has it"),
        ("token" = String, Path, description = "As the manifest has it"),
        ("segment" = String, Path, description = "As the playlist has it")
    ),
    responses((status = 204, description = "What is allowed, in `Access-Control-…` headers"))
)]
pub async fn segment_preflight() -> Response {
    getstream::preflight().await
}

/// The playlist of one viewer, which is asked for again and again.
///
/// After a pause of any length, and after a restart of the service, it is still good: the viewer takes a seat again, and the
/// stream is started again where it has ended meanwhile. What an operator has ended ends with `EXT-X-ENDLIST`.
#[utoipa::path(
    get, path = "/ace/hls/{channel}/{token}/index.m3u8", tag = "playback",
    params(
        ("channel" = String, Path, description = "As the manifest has it"),
        ("token" = String, Path, description = "As the manifest has it")
    ),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        fails::BadToken, fails::Start, fails::Starting, fails::TooManyRequests
    )
)]
pub async fn playlist(
    State(channels): State<Channels>,
    Path((channel, token)): Path<(String, String)>,
    client: ClientInfo,
) -> Result<Response, Problem> {
    let ticket = read(&channels, &channel, &token)?;
    let until = Instant::now() + RETURN;
    loop {
        let seated = seat(&channels, ticket, &client, until).await?;
        match seated.playlist(until, |number| format!("{number}.ts")).await {
            // It is started again.
            Err(HlsError::Over(reason)) if reason != EndReason::Shutdown && Instant::now() < until => {}
            text => return Ok((StatusCode::OK, headers(PLAYLIST), text?).into_response()),
        }
    }
}

/// A segment of it.
#[utoipa::path(
    get, path = "/ace/hls/{channel}/{token}/{segment}", tag = "playback",
    params(
        ("channel" = String, Path, description = "As the manifest has it"),
        ("token" = String, Path, description = "As the manifest has it"),
        ("segment" = String, Path, description = "`<number>.ts`, as the playlist has it")
    ),
    responses(
        (status = 200, content_type = "video/mp2t", body = inline(Binary)),
        (status = 206, description = "The part of it that `Range` names", content_type = "video/mp2t",
            body = inline(Binary)),
        (status = 416, description = "It is shorter; `Content-Range` has its length"),
        fails::NotFound, fails::InvalidParam, fails::BadToken, fails::SegmentGone, fails::Start, fails::Starting
    )
)]
pub async fn segment(
    State(channels): State<Channels>,
    Path((channel, token, name)): Path<(String, String, String)>,
    client: ClientInfo,
    RequestedRange(range): RequestedRange,
    method: Method,
) -> Result<Response, Problem> {
    let ticket = read(&channels, &channel, &token)?;
    let number = number(&name)?;
    let seated = seat_where_it_plays(&channels, ticket, &client).await?;
    let segment = seated.segment(number).await?;
    let whole = Rope::from(segment);
    let length = whole.len();
    // Of a HEAD request a range means nothing (RFC 9110 §14.2).
    let range = range.filter(|_| method == Method::GET);
    let part = match range.map(|range| within(range, length)) {
        None => (StatusCode::OK, None, whole),
        Some(Some(range)) => {
            let said = format!("bytes {}-{}/{length}", range.start(), range.end());
            (StatusCode::PARTIAL_CONTENT, Some(said), whole.part(range))
        }
        Some(None) => (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{length}")), Rope::default()),
    };
    let (status, said, body) = part;
    if method == Method::GET {
        seated.gets(body.len());
    }
    Ok((status, segment_headers(said), Body::new(body)).into_response())
}

fn read(channels: &Channels, channel: &str, token: &str) -> Result<Ticket, Problem> {
    let unknown = || Problem::new(Code::BadToken).with_detail("this token is not of this server's making");
    channels.signer.read(channel, token).ok_or_else(unknown)
}

/// The viewer's seat, which it takes again if it has given it up, starting the stream if nobody watches it.
async fn seat(
    channels: &Channels,
    ticket: Ticket,
    client: &ClientInfo,
    until: Instant,
) -> Result<Seated, Problem> {
    loop {
        let coming = match channels.relay.hls_place(ticket.token)? {
            Place::Seated(seated) => return Ok(seated),
            Place::Coming(coming) => coming,
            Place::Away(away) => {
                // A connection that others may use when the viewer still waits is no way to reach it.
                let asking = getstream::ask(channels, ticket.content, client.clone(), Line::default());
                let asked = timeout_at(until, Box::pin(asking)).await.map_err(|_| HlsError::NotReady)?;
                let Asked { key, info, admitted } = asked?;
                away.join(key, info, admitted)
            }
        };
        coming.wait(until).await?;
    }
}

/// The same where nothing needs to be started for it: what was listed before a stream ended is gone with it.
async fn seat_where_it_plays(
    channels: &Channels,
    ticket: Ticket,
    client: &ClientInfo,
) -> Result<Seated, Problem> {
    let is_away = matches!(channels.relay.hls_place(ticket.token)?, Place::Away(_));
    let is_cut = || {
        let mut keys = channels.origin.known_key(ticket.content).into_iter();
        keys.any(|key| channels.relay.is_cut(&key))
    };
    if is_away && !is_cut() {
        return Err(HlsError::Gone.into());
    }
    seat(channels, ticket, client, Instant::now() + RETURN).await
}

/// Which bytes of so many; none when it begins behind the last.
fn within(range: ByteRange, length: u64) -> Option<RangeInclusive<u64>> {
    let last = length.checked_sub(1)?;
    let (first, last) = match range {
        ByteRange::From(first) => (first, last),
        ByteRange::Between(first, end) => (first, end.min(last)),
        ByteRange::Last(0) => return None,
        ByteRange::Last(bytes) => (length.saturating_sub(bytes), last),
    };
    (first <= last).then_some(first..=last)
}

/// As playlists write it: decimal, no sign, no leading zeros.
fn number(name: &str) -> Result<u64, Problem> {
    let wrong = || Problem::new(Code::InvalidParam).with_detail("a segment is named as in 17.ts");
    let digits = name.strip_suffix(".ts").ok_or_else(|| Problem::new(Code::NotFound))?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    if number.to_string() == digits { Ok(number) } else { Err(wrong()) }
}

fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("X-Request-Id"));
    headers
}

fn segment_headers(range: Option<String>) -> HeaderMap {
    let mut headers = headers("video/mp2t");
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("X-Request-Id, Content-Range, Accept-Ranges"),
    );
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    headers
}

impl From<HlsError> for Problem {
    fn from(error: HlsError) -> Self {
        let code = match error {
            HlsError::NotStarted(error) => return error.into(),
            HlsError::ThrownOut => Code::ThrownOut,
            HlsError::Over(EndReason::Shutdown) => Code::Draining,
            HlsError::Gone | HlsError::Over(_) => Code::SegmentGone,
            HlsError::NotReady => Code::Starting,
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

    #[test]
    fn a_range_is_cut_at_the_end_and_none_begins_behind_it() {
        use ByteRange::{Between, From, Last};
        for (range, length, expected) in [
            (From(0), 10, Some(0..=9)),
            (From(9), 10, Some(9..=9)),
            (From(10), 10, None),
            (From(u64::MAX), 10, None),
            (Between(2, 4), 10, Some(2..=4)),
            (Between(2, u64::MAX), 10, Some(2..=9)),
            (Between(10, 12), 10, None),
            (Last(3), 10, Some(7..=9)),
            (Last(u64::MAX), 10, Some(0..=9)),
            (Last(0), 10, None),
            (From(0), 0, None),
            (Last(1), 0, None),
        ] {
            assert_eq!(within(range, length), expected, "{range:?} of {length}");
        }
    }
}
