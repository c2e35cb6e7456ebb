//! A recording at `GET /ace/getstream`: a file that one viewer reads, as far and from where it likes (RFC 9110 §14).

use acemux_relay::output::recording::{Broken, ByteRange, Extent, Part};
use acemux_relay::viewer::Viewer;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::api::problem::{Code, Problem};
use crate::serve::{AbortOnError, AbortSwitch, EndsHard};

/// What is asked for, and by which connection.
pub(super) struct Seat {
    pub(super) range: Option<ByteRange>,
    pub(super) switch: AbortSwitch,
}

/// The part that was asked for, or why there is none.
pub(super) async fn play(viewer: Viewer, seat: Seat) -> Result<Response, Problem> {
    let reader = viewer.read().await;
    let reader = reader.map_err(|busy| Problem::new(Code::StreamFull).with_detail(&busy.to_string()))?;
    let (part, body) = reader.open(seat.range).await?;
    let status = match part.extent {
        Extent::Whole => StatusCode::OK,
        Extent::Part { .. } => StatusCode::PARTIAL_CONTENT,
        Extent::Beyond { .. } => {
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers(&part)).into_response());
        }
    };
    let body = AbortOnError::new(body, seat.switch);
    Ok((status, headers(&part), Body::new(body)).into_response())
}

/// The range that a request names. One that cannot be read, or several, mean the whole (RFC 9110 §14.2).
pub(super) fn range(headers: &HeaderMap) -> Option<ByteRange> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim().strip_prefix("bytes=")?;
    let (first, last) = text.split_once('-')?;
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
    let media_type = part.media_type.as_deref().unwrap_or("video/mp2t");
    let media_type = HeaderValue::from_str(media_type);
    headers.insert(CONTENT_TYPE, media_type.unwrap_or_else(|_| HeaderValue::from_static("video/mp2t")));
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

fn or_unknown(total: Option<u64>) -> String {
    total.map_or_else(|| "*".to_owned(), |total| total.to_string())
}

impl EndsHard for Broken {
    /// The player must see that the file did not end here.
    fn ends_hard(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_and_everything_else_means_the_whole() {
        let read =
            |text: &'static str| range(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]));
        assert_eq!(read("bytes=0-"), Some(ByteRange::From(0)));
        assert_eq!(read("bytes=5-9"), Some(ByteRange::Between(5, 9)));
        assert_eq!(read("bytes=-500"), Some(ByteRange::Last(500)));
        for odd in
            ["", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            assert_eq!(read(odd), None, "{odd}");
        }
        assert_eq!(read("bytes=99999999999999999999-"), None);
    }
}
