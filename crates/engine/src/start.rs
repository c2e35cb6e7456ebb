//! What an engine says when a playback starts.

use serde::Deserialize;

use crate::content::{ContentId, Hash, Infohash};
use crate::error::EngineError;
use crate::json::{self, Scalar};
use crate::path::EnginePath;

/// What to start a playback by. Unlike [`ContentId`] it says what the hash *is* to the engine: real engines refuse an
/// infohash that is given as a content id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StartBy {
    /// `id=`, which every engine version understands; its later name is `content_id=`.
    ContentId(Hash),
    /// `infohash=`
    Infohash(Infohash),
}

impl StartBy {
    /// The bare hash.
    pub const fn hash(self) -> Hash {
        match self {
            Self::ContentId(hash) => hash,
            Self::Infohash(infohash) => infohash.hash(),
        }
    }

    /// The infohash, if it is one.
    pub const fn infohash(self) -> Option<Infohash> {
        match self {
            Self::ContentId(_) => None,
            Self::Infohash(infohash) => Some(infohash),
        }
    }
}

impl From<ContentId> for StartBy {
    /// Takes the user's word for it.
    fn from(content: ContentId) -> Self {
        match content {
            ContentId::Id(hash) => Self::ContentId(hash),
            ContentId::Infohash(infohash) => Self::Infohash(infohash),
        }
    }
}

/// Whether a playback is a broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Liveness {
    /// A broadcast.
    Live,
    /// A file.
    Vod,
    /// The engine does not know yet, or does not say.
    #[default]
    Unknown,
}

impl Liveness {
    pub(crate) fn from_scalar(is_live: &Scalar) -> Self {
        match is_live.parse::<f64>() {
            Some(1.0) => Self::Live,
            Some(0.0) => Self::Vod,
            _ => Self::Unknown,
        }
    }
}

/// A playback as its engine announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Where the media is read.
    pub playback: EnginePath,
    /// Where its state is read.
    pub stat: Option<EnginePath>,
    /// Where commands go, `stop` above all.
    pub command: Option<EnginePath>,
    /// The channel's infohash, whatever it was started by.
    pub infohash: Option<Infohash>,
    /// The engine's name of this playback.
    pub playback_session_id: Option<String>,
    /// Whether it is a broadcast.
    pub is_live: Liveness,
    /// Whether the media is encrypted.
    pub is_encrypted: bool,
}

/// A start that failed, and how to end what the engine may have opened all the same.
#[derive(Debug)]
pub struct StartFailure {
    /// What went wrong.
    pub error: EngineError,
    /// Where the playback can be stopped, when the unusable reply held that much.
    pub command: Option<EnginePath>,
}

impl From<EngineError> for StartFailure {
    fn from(error: EngineError) -> Self {
        Self { error, command: None }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    playback_url: Scalar,
    stat_url: Scalar,
    command_url: Scalar,
    infohash: Scalar,
    playback_session_id: Scalar,
    is_live: Scalar,
    is_encrypted: Scalar,
}

impl Started {
    /// Reads the JSON reply of a start call.
    pub fn parse(body: &[u8]) -> Result<Self, StartFailure> {
        let fields: Fields = json::open(body)?
            .object()
            .ok_or_else(|| EngineError::bad_reply("a start reply without content"))?;
        let command = path(&fields.command_url)?;
        fields.started(command.clone()).map_err(|error| StartFailure { error, command })
    }
}

impl Fields {
    fn started(self, command: Option<EnginePath>) -> Result<Started, EngineError> {
        let playback = path(&self.playback_url)?
            .ok_or_else(|| EngineError::bad_reply("a start reply without a playback URL"))?;
        Ok(Started {
            playback,
            stat: path(&self.stat_url)?,
            command,
            infohash: self.infohash.parse(),
            playback_session_id: self.playback_session_id.label(),
            is_live: Liveness::from_scalar(&self.is_live),
            is_encrypted: self.is_encrypted.count() == Some(1),
        })
    }
}

/// The path in a URL field; `None` when the field is absent.
fn path(url: &Scalar) -> Result<Option<EnginePath>, EngineError> {
    url.text().map(EnginePath::parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

    fn reply(fields: &str) -> String {
        format!("{{\"response\": {{{fields}}}, \"error\": null}}")
    }

    #[test]
    fn the_documented_reply_is_read_whole() {
        let body = reply(&format!(
            r#""playback_url": "http://127.0.0.1:6878/ace/r/{HEX}/t", "stat_url": "http://127.0.0.1:6878/ace/stat/{HEX}/t",
               "command_url": "http://127.0.0.1:6878/ace/cmd/{HEX}/t", "infohash": "{HEX}",
               "playback_session_id": "e0d1", "is_live": 1, "is_encrypted": 0, "client_session_id": -1"#
        ));
        let started = Started::parse(body.as_bytes()).unwrap();
        assert_eq!(started.playback.as_str(), format!("/ace/r/{HEX}/t"));
        assert_eq!(started.stat.unwrap().as_str(), format!("/ace/stat/{HEX}/t"));
        assert_eq!(started.command.unwrap().as_str(), format!("/ace/cmd/{HEX}/t"));
        assert_eq!(started.infohash, Some(HEX.parse().unwrap()));
        assert_eq!(started.playback_session_id.as_deref(), Some("e0d1"));
        assert_eq!((started.is_live, started.is_encrypted), (Liveness::Live, false));
    }

    #[test]
    fn strings_for_numbers_and_missing_extras_are_fine() {
        let body =
            reply(r#""playback_url": "/ace/r/cid:ab/t", "is_live": "0", "is_encrypted": "1", "infohash": 5"#);
        let started = Started::parse(body.as_bytes()).unwrap();
        assert_eq!((started.is_live, started.is_encrypted), (Liveness::Vod, true));
        assert_eq!((started.infohash, started.command, started.stat), (None, None, None));
    }

    #[test]
    fn an_unknown_liveness_is_said() {
        for value in ["-1", "\"\"", "null", "{}"] {
            let body = reply(&format!(r#""playback_url": "/ace/r/a/b", "is_live": {value}"#));
            assert_eq!(Started::parse(body.as_bytes()).unwrap().is_live, Liveness::Unknown);
        }
    }

    #[test]
    fn a_reply_that_cannot_be_played_still_tells_how_to_stop_it() {
        for playback in [
            "",
            r#""playback_url": "http://127.0.0.1/server/api?x","#,
            r#""playback_url": "file:///etc/passwd","#,
        ] {
            let body = reply(&format!(r#"{playback} "command_url": "http://evil/ace/cmd/a/b""#));
            let failure = Started::parse(body.as_bytes()).unwrap_err();
            assert!(matches!(failure.error, EngineError::BadReply { .. }));
            assert_eq!(failure.command.unwrap().as_str(), "/ace/cmd/a/b");
        }
    }

    #[test]
    fn an_empty_response_is_a_bad_reply() {
        for body in ["{}", r#"{"response":{}}"#, r#"{"response":null,"error":null}"#, r#"{"response":"ok"}"#]
        {
            let failure = Started::parse(body.as_bytes()).unwrap_err();
            assert!(matches!(failure.error, EngineError::BadReply { .. }), "{body}");
        }
    }
}
