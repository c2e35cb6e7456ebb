//! A recording at `GET /ace/getstream`: a file that one viewer reads, as far and from where it likes (RFC 9110 §14).

use std::convert::Infallible;

use acemux_relay::output::recording::{Broken, ByteRange, Extent, Part};
use acemux_relay::viewer::Viewer;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::http::problem::{Code, Problem};
use crate::http::serve::{AbortOnError, AbortSwitch, Ending, Ends};

/// What is asked for, and by which connection.
pub(super) struct RangeRequest {
    pub(super) range: Option<ByteRange>,
    pub(super) switch: AbortSwitch,
}

/// The part that was asked for, or why there is none.
pub(super) async fn play(viewer: Viewer, asked: RangeRequest) -> Result<Response, Problem> {
    let reader = viewer.read().await;
    let reader = reader.map_err(|busy| Problem::new(Code::StreamFull).with_detail(&busy.to_string()))?;
    let (part, body) = reader.open(asked.range).await?;
    let status = match part.extent {
        Extent::Whole => StatusCode::OK,
        Extent::Part { .. } => StatusCode::PARTIAL_CONTENT,
        Extent::Beyond { .. } => {
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers(&part)).into_response());
        }
    };
    let body = AbortOnError::new(body, asked.switch);
    Ok((status, headers(&part), Body::new(body)).into_response())
}

/// The range that a request names, taken alone: whoever waits for a stream keeps no other header.
pub struct RequestedRange(pub(super) Option<ByteRange>);

impl<S: Sync> FromRequestParts<S> for RequestedRange {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(range(&parts.headers)))
    }
}

/// The range that a request names. One that cannot be read, or several, mean the whole (RFC 9110 §14.2); so does one that counts
/// only for a version that the client knows, because we name none (§13.1.5).
fn range(headers: &HeaderMap) -> Option<ByteRange> {
    let text = headers.get(RANGE).filter(|_| !headers.contains_key(IF_RANGE))?.to_str().ok()?;
    let (_, text) = text.split_once('=').filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))?;
    let (first, last) = text.trim().split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::Between(first, last))
        }
    }
}

fn headers(part: &Part) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(part.media_type.as_deref())));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("X-Request-Id, Content-Range, Accept-Ranges"),
    );
    let range = match part.extent {
        Extent::Whole => None,
        Extent::Part { first, last, total } => Some(format!("bytes {first}-{last}/{}", or_unknown(total))),
        Extent::Beyond { total } => Some(format!("bytes */{}", or_unknown(total))),
    };
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    if let (Some(length), false) = (part.length, matches!(part.extent, Extent::Beyond { .. })) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers
}

/// What a recording may be called. An engine's word comes from whoever made the file: `text/html` or an SVG image would
/// run as a script of our origin in a browser that opens the address.
const MEDIA_TYPES: [&str; 25] = [
    "video/mp2t",
    "video/mp4",
    "video/x-m4v",
    "video/mpeg",
    "video/quicktime",
    "video/webm",
    "video/ogg",
    "video/3gpp",
    "video/x-matroska",
    "video/x-msvideo",
    "video/avi",
    "video/x-flv",
    "video/x-ms-wmv",
    "video/x-ms-asf",
    "audio/mpeg",
    "audio/mp4",
    "audio/aac",
    "audio/ac3",
    "audio/ogg",
    "audio/flac",
    "audio/wav",
    "audio/x-wav",
    "audio/webm",
    "audio/x-matroska",
    "application/ogg",
];

/// One of ours for the engine's word, which players find out for themselves where it is none of them.
fn media_type(word: Option<&str>) -> &'static str {
    let Some(word) = word else { return "video/mp2t" };
    let essence = word.split(';').next().unwrap_or_default().trim();
    let known = MEDIA_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(essence));
    known.unwrap_or("application/octet-stream")
}

fn or_unknown(total: Option<u64>) -> String {
    total.map_or_else(|| "*".to_owned(), |total| total.to_string())
}

impl Ends for Broken {
    /// The player must see that the file did not end here.
    fn ending(&self) -> Ending {
        Ending::Torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_has_a_media_type_of_ours_whatever_the_engine_calls_it() {
        for (word, expected) in [
            (None, "video/mp2t"),
            (Some("video/mp4"), "video/mp4"),
            (Some("Video/X-Matroska; codecs=avc1"), "video/x-matroska"),
        ] {
            assert_eq!(media_type(word), expected, "{word:?}");
        }
        for script in [
            "text/html",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "video/mp4x",
            "text/javascript",
            "",
        ] {
            assert_eq!(media_type(Some(script)), "application/octet-stream", "{script}");
        }
    }

    #[test]
    fn one_range_is_understood_and_everything_else_means_the_whole() {
        let read =
            |text: &'static str| range(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]));
        assert_eq!(read("bytes=0-"), Some(ByteRange::From(0)));
        assert_eq!(read("bytes=5-9"), Some(ByteRange::Between(5, 9)));
        assert_eq!(read("bytes=-500"), Some(ByteRange::Last(500)));
        assert_eq!(read("Bytes= 5-9 "), Some(ByteRange::Between(5, 9)));
        for odd in
            ["", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert_eq!(read("bytes=99999999999999999999-"), None);
        for version in ["\"x\"", "Sat, 29 Oct 2022 19:43:31 GMT"] {
            let headers = [(RANGE, "bytes=0-"), (IF_RANGE, version)];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
            assert_eq!(range(&HeaderMap::from_iter(headers)), None, "{version}: we have named no version");
        }
    }
}
