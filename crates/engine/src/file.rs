//! A recording as an engine serves it: a file, whole or in part.

use std::fmt;

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName};

use crate::error::EngineError;
use crate::http::Body;
use crate::wire::Answer;

/// Which part of a file is wanted, in bytes. Typed, so that nothing a client wrote reaches an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From this offset to the end.
    From(u64),
    /// From the first to the second offset, both included.
    Between(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::Between(first, last) => write!(f, "bytes={first}-{last}"),
            Self::Last(count) => write!(f, "bytes=-{count}"),
        }
    }
}

/// What an engine answers when a file is asked for.
#[derive(Debug)]
pub struct FilePart {
    /// Whole, in part, or not at all.
    pub extent: Extent,
    /// Bytes that follow, if the engine says so.
    pub length: Option<u64>,
    /// The media type, if there is a sensible one.
    pub media_type: Option<String>,
    /// The bytes.
    pub body: Body,
}

/// How much of a file an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included, of so many.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
        /// Bytes of the whole file, if known.
        total: Option<u64>,
    },
    /// Nothing: the range is beyond the end of a file of so many bytes.
    Beyond {
        /// Bytes of the whole file, if known.
        total: Option<u64>,
    },
}

impl FilePart {
    /// Reads the head of an answer that must be a file.
    pub(crate) fn of(answer: Answer) -> Result<Self, EngineError> {
        answer.require_identity()?;
        let range = answer.text_of(CONTENT_RANGE).and_then(content_range);
        let extent = match (answer.status, range) {
            (StatusCode::OK, _) => Extent::Whole,
            (StatusCode::PARTIAL_CONTENT, Some((Some((first, last)), total))) => {
                Extent::Part { first, last, total }
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, range) => {
                Extent::Beyond { total: range.and_then(|(_, total)| total) }
            }
            (status, _) => {
                return Err(EngineError::bad_reply(format!("status {} for a file", status.as_u16())));
            }
        };
        let length = answer.text_of(CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let media_type = media_type(&answer, CONTENT_TYPE);
        Ok(Self { extent, length, media_type, body: Body::of(answer) })
    }
}

/// Only what a media type is made of.
fn media_type(answer: &Answer, name: HeaderName) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/.+-".contains(&byte);
    let text = answer.text_of(name)?.split(';').next()?.trim();
    let is_sensible = text.len() <= 64 && text.contains('/') && text.bytes().all(is_allowed);
    is_sensible.then(|| text.to_ascii_lowercase())
}

/// First and last byte, if any.
type Bounds = Option<(u64, u64)>;

/// `bytes 0-99/1000`, `bytes 0-99/*`, `bytes */1000`: what is there, and of how many bytes.
fn content_range(text: &str) -> Option<(Bounds, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && total.is_none_or(|total| last < total)).then_some((Some((first, last)), total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_they_must_be() {
        assert_eq!(ByteRange::From(5).to_string(), "bytes=5-");
        assert_eq!(ByteRange::Between(0, 99).to_string(), "bytes=0-99");
        assert_eq!(ByteRange::Last(7).to_string(), "bytes=-7");
    }

    #[test]
    fn ranges_of_answers_are_read_or_refused() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((Some((0, 99)), Some(1000))));
        assert_eq!(content_range("bytes 0-99/*"), Some((Some((0, 99)), None)));
        assert_eq!(content_range("bytes */1000"), Some((None, Some(1000))));
        for nonsense in
            ["", "bytes", "bytes 5-4/10", "bytes 0-10/10", "bytes a-b/c", "lines 0-1/2", "bytes -1-2/3"]
        {
            assert_eq!(content_range(nonsense), None, "{nonsense}");
        }
    }
}
