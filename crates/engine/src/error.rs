//! Why an engine did not do what it was asked, named by what the caller can do about it.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::shortage;
use crate::text;

/// A call to an engine failed. Messages are one line without addresses; what an engine said is cleaned and cut.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers at the engine's address: it is down or not there yet.
    #[error("engine cannot be reached")]
    Unreachable {
        /// What the connection attempt ran into.
        #[source]
        source: io::Error,
    },
    /// This machine lacks what a call needs, such as descriptors. It says nothing about the engine.
    #[error("this machine is short of descriptors or memory")]
    Shortage {
        /// What the connection attempt ran into.
        #[source]
        source: io::Error,
    },
    /// The engine understood and said no, in its own words.
    #[error("engine refused: {message}")]
    Refused {
        /// The engine's text, cleaned and at most [`MAX_MESSAGE`] characters.
        message: String,
    },
    /// The engine answered with an HTTP error.
    #[error("engine answered {code}{}", reason(.message))]
    Status {
        /// The HTTP status, 400 or above.
        code: u16,
        /// What its body said, cleaned and at most [`MAX_MESSAGE`] characters; may be empty.
        message: String,
    },
    /// The answer is not one an engine gives; perhaps something else listens there.
    #[error("engine sent a bad reply: {what}")]
    BadReply {
        /// What is wrong with it.
        what: Cow<'static, str>,
    },
    /// The engine closed the connection in the middle of a reply or of a stream.
    #[error("engine closed the connection early")]
    Ended,
    /// The engine was silent for too long.
    #[error("engine did not answer in time ({stage})")]
    Timeout {
        /// What was waited for.
        stage: Stage,
    },
    /// We are shutting down and start nothing any more.
    #[error("no more streams are started: shutting down")]
    Closed,
}

/// What an engine was asked for when it did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To accept a connection.
    Connect,
    /// To start a playback.
    Start,
    /// To stop a playback.
    Stop,
    /// To say something about itself, a playback or a channel.
    Query,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Start => "starting",
            Self::Stop => "stopping",
            Self::Query => "asking",
        })
    }
}

/// Which side of us an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSide {
    /// The engine or the way to it.
    Upstream,
    /// This program.
    Internal,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The engine failed explicitly: another one may do it.
    Elsewhere,
    /// The engine is silent, which often means that it is still looking for peers, and another engine would have to
    /// begin anew; or the fault is ours; or there is nothing to retry for.
    No,
}

impl EngineError {
    /// Which side of us it comes from.
    pub fn source_side(&self) -> SourceSide {
        match self {
            Self::Closed | Self::Shortage { .. } => SourceSide::Internal,
            _ => SourceSide::Upstream,
        }
    }

    /// Whether another engine may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Timeout { stage: Stage::Connect } => Retry::Elsewhere,
            Self::Timeout { .. } | Self::Closed | Self::Shortage { .. } => Retry::No,
            _ => Retry::Elsewhere,
        }
    }

    /// A connection that could not be made: by whose fault?
    pub(crate) fn of_connect(source: io::Error) -> Self {
        if shortage::is_ours(&source) { Self::Shortage { source } } else { Self::Unreachable { source } }
    }

    pub(crate) fn bad_reply(what: impl Into<Cow<'static, str>>) -> Self {
        Self::BadReply { what: what.into() }
    }
}

/// The HTTP layer's view of a broken exchange in ours.
impl From<hyper::Error> for EngineError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::bad_reply("a response head over the limits")
        } else if error.is_parse() || is_invalid_data(&error) {
            Self::bad_reply("malformed HTTP")
        } else {
            Self::Ended
        }
    }
}

/// Whether the bytes themselves were wrong (chunk framing, our own head limit), rather than their end.
fn is_invalid_data(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause
        .is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

/// Longest text of an engine that is shown to people, in characters.
pub const MAX_MESSAGE: usize = 200;

/// `": text"`, or nothing for an empty text.
fn reason(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// An engine's text made fit for one line of a log or an answer: without markup, and as [`text::line`] has it.
pub(crate) fn clean(text: &[u8]) -> String {
    // A character has at most four bytes; markup is allowed to take its share before the cut.
    let text = text.get(..MAX_MESSAGE * 16).unwrap_or(text);
    text::line(&without_markup(&String::from_utf8_lossy(text)), MAX_MESSAGE)
}

/// Drops `<…>` where it looks like a tag; a lone `<` stays.
fn without_markup(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        kept.push_str(before);
        let is_tag = tag.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
        kept.push(if is_tag { ' ' } else { '<' });
        rest = if is_tag { tag.split_once('>').map_or("", |(_, after)| after) } else { tag };
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_of_an_engine_becomes_one_plain_line() {
        assert_eq!(clean(b"failed to load content"), "failed to load content");
        assert_eq!(clean(b"  a\r\n\x1b[31mb\0c\t "), "a [31mb c");
        assert_eq!(clean(b"<html><h1>502 Bad</h1><script src=x>Gateway"), "502 Bad Gateway");
        assert_eq!(clean(b"1 < 2 and 3 > 2"), "1 < 2 and 3 > 2");
        assert_eq!(clean("a\u{202e}b".as_bytes()), "ab");
        assert_eq!(clean(&[0xff, b'a']), "\u{fffd}a");
        assert_eq!(clean("\u{e9}".repeat(100_000).as_bytes()).chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn silence_is_not_retried_elsewhere_but_refusal_is() {
        assert_eq!(EngineError::Timeout { stage: Stage::Start }.retry(), Retry::No);
        assert_eq!(EngineError::Refused { message: String::new() }.retry(), Retry::Elsewhere);
        assert_eq!(EngineError::Timeout { stage: Stage::Connect }.retry(), Retry::Elsewhere);
    }

    #[test]
    fn an_empty_body_leaves_no_colon_behind() {
        let error = EngineError::Status { code: 500, message: String::new() };
        assert_eq!(error.to_string(), "engine answered 500");
    }

    proptest! {
        #[test]
        fn cleaned_text_is_short_and_printable(text: Vec<u8>) {
            let line = clean(&text);
            prop_assert!(line.chars().count() <= MAX_MESSAGE);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
