//! What an engine says about a playback while it runs.
//!
//! Everything is optional: the first reply of a real session is `{}`, the open engine has no speeds, and numbers come
//! as strings in places. A value that makes no sense (negative, beyond 2^53) is absent, never an error.

use serde::Deserialize;

use crate::content::Infohash;
use crate::error::EngineError;
use crate::json::{self, Payload, Scalar};
use crate::start::Liveness;

/// The state of a playback, as its engine reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaybackStat {
    /// What the engine is doing.
    pub status: PlaybackStatus,
    /// Filling of the first buffer or share of a file, in percent.
    pub progress: Option<u64>,
    /// Peers of the swarm. More than none does not mean data.
    pub peers: Option<u64>,
    /// Download rate in KB/s, whichever kilo the engine means.
    pub speed_down: Option<u64>,
    /// Upload rate in KB/s.
    pub speed_up: Option<u64>,
    /// Bytes downloaded since the start.
    pub downloaded: Option<u64>,
    /// Bytes uploaded since the start.
    pub uploaded: Option<u64>,
    /// Whether it is a broadcast.
    pub is_live: Liveness,
    /// The channel's infohash.
    pub infohash: Option<Infohash>,
    /// The newest playback of this channel on the engine; another one than ours means that ours is superseded.
    pub playback_session_id: Option<String>,
    /// Where in the broadcast the engine reads.
    pub position: Option<LivePosition>,
    /// What went wrong, in the engine's words.
    pub error_message: Option<String>,
}

/// The engine's word for what it is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PlaybackStatus {
    /// Nothing said yet.
    #[default]
    Unknown,
    /// `idle`: accepted, nothing happens yet.
    Idle,
    /// `prebuf`: looking for peers and filling the first buffer. Dead channels stay here.
    Prebuffering,
    /// `dl`: media flows, or did once: a stream that starves stays here too.
    Downloading,
    /// `buf`: filling up again.
    Buffering,
    /// `err` or `error`.
    Error,
    /// Another word, cleaned.
    Other(String),
    /// Ours, not the engine's: it no longer knows the playback. It has expired, was stopped, or the engine restarted.
    Gone,
}

impl PlaybackStatus {
    fn named(word: &str) -> Self {
        match word {
            "" => Self::Unknown,
            "idle" => Self::Idle,
            "prebuf" => Self::Prebuffering,
            "dl" => Self::Downloading,
            "buf" => Self::Buffering,
            "err" | "error" => Self::Error,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The engine's own word where there is one.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Unknown => "unknown",
            Self::Idle => "idle",
            Self::Prebuffering => "prebuf",
            Self::Downloading => "dl",
            Self::Buffering => "buf",
            Self::Error => "error",
            Self::Other(word) => word,
            Self::Gone => "gone",
        }
    }
}

/// Positions in a broadcast, in seconds of Unix time as the broadcaster's clock has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivePosition {
    /// What is being read.
    pub pos: Option<u64>,
    /// The oldest that can be read.
    pub live_first: Option<u64>,
    /// The newest that exists.
    pub live_last: Option<u64>,
    /// Pieces buffered ahead.
    pub buffer_pieces: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    status: Scalar,
    progress: Scalar,
    total_progress: Scalar,
    peers: Scalar,
    speed_down: Scalar,
    speed_up: Scalar,
    downloaded: Scalar,
    uploaded: Scalar,
    is_live: Scalar,
    infohash: Scalar,
    playback_session_id: Scalar,
    livepos: Payload<Position>,
    error_message: Scalar,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Position {
    pos: Scalar,
    live_first: Scalar,
    live_last: Scalar,
    buffer_pieces: Scalar,
}

impl PlaybackStat {
    /// Whether it tells of another session than the one that was started as `ours`. Engines tell the newest playback of
    /// the channel, so another one has superseded ours. False when either is not named.
    pub fn is_of_another(&self, ours: Option<&str>) -> bool {
        ours.zip(self.playback_session_id.as_deref()).is_some_and(|(ours, newest)| ours != newest)
    }

    /// Reads the JSON reply of a stat call. A session the engine does not know is [`PlaybackStatus::Gone`].
    pub fn parse(body: &[u8]) -> Result<Self, EngineError> {
        match json::open::<Fields>(body) {
            Ok(payload) => Ok(payload.object().map_or_else(Self::default, Self::from)),
            Err(error) if is_unknown_session(&error) => {
                Ok(Self { status: PlaybackStatus::Gone, ..Self::default() })
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the engine said that it does not know the playback: `unknown playback session id`, or in the open engine
/// `invalid or expired playback session`.
pub(crate) fn is_unknown_session(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused { message } if message.contains("playback session"))
}

impl From<Fields> for PlaybackStat {
    fn from(fields: Fields) -> Self {
        Self {
            status: PlaybackStatus::named(&fields.status.label().unwrap_or_default()),
            progress: fields.progress.count().or(fields.total_progress.count()),
            peers: fields.peers.count(),
            speed_down: fields.speed_down.count(),
            speed_up: fields.speed_up.count(),
            downloaded: fields.downloaded.count(),
            uploaded: fields.uploaded.count(),
            is_live: Liveness::from_scalar(&fields.is_live),
            infohash: fields.infohash.parse(),
            playback_session_id: fields.playback_session_id.label(),
            position: fields.livepos.object().map(LivePosition::from),
            error_message: fields.error_message.label(),
        }
    }
}

impl From<Position> for LivePosition {
    fn from(fields: Position) -> Self {
        Self {
            pos: fields.pos.count(),
            live_first: fields.live_first.count(),
            live_last: fields.live_last.count(),
            buffer_pieces: fields.buffer_pieces.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> PlaybackStat {
        PlaybackStat::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_documented_reply_is_read() {
        let stat = parse(
            r#"{"response":{"uploaded":491520,"network_monitor_status":0,"disk_cache_stats":{"avail":3199156224},
            "speed_down":257,"speed_up":29,"total_progress":0,"stream_status":-1,"status":"dl","downloaded":3276800,
            "peers":4,"playback_session_id":"15ad634c","is_encrypted":0,"is_live":1,
            "infohash":"0a4848271c91ce2d8965ce416267c25047dc8141","selected_file_index":-1,
            "livepos":{"last":"1639986706","live_first":"1639984904","pos":"1639986704","first_ts":"1639984904",
            "last_ts":"1639986706","is_live":"1","live_last":"1639986706","buffer_pieces":"30"}},"error":null}"#,
        );
        assert_eq!(stat.status, PlaybackStatus::Downloading);
        assert_eq!((stat.speed_down, stat.speed_up, stat.peers), (Some(257), Some(29), Some(4)));
        assert_eq!((stat.downloaded, stat.uploaded), (Some(3_276_800), Some(491_520)));
        let position = stat.position.unwrap();
        assert_eq!((position.pos, position.live_last), (Some(1_639_986_704), Some(1_639_986_706)));
        assert_eq!(position.buffer_pieces, Some(30));
    }

    #[test]
    fn the_first_reply_is_empty_and_no_error() {
        assert_eq!(parse(r#"{"response":{},"error":null}"#), PlaybackStat::default());
    }

    #[test]
    fn a_forgotten_playback_is_gone_in_the_words_of_either_engine() {
        for words in ["unknown playback session id", "invalid or expired playback session"] {
            let stat = parse(&format!(r#"{{"response":null,"error":"{words}"}}"#));
            assert_eq!(stat.status, PlaybackStatus::Gone);
        }
        assert!(PlaybackStat::parse(br#"{"response":null,"error":"no"}"#).is_err());
    }

    #[test]
    fn nonsense_values_are_absent() {
        let stat = parse(
            r#"{"response":{"status":7,"peers":-3,"downloaded":"9223372036854775808","speed_down":"fast",
            "livepos":{"pos":-1,"live_last":1e300},"uploaded":"12.7"},"error":null}"#,
        );
        assert_eq!(stat.status, PlaybackStatus::Other("7".to_owned()));
        assert_eq!(
            (stat.peers, stat.downloaded, stat.speed_down, stat.uploaded),
            (None, None, None, Some(12))
        );
        assert_eq!(stat.position, Some(LivePosition::default()));
        assert_eq!(parse(r#"{"response":{"livepos":"none"}}"#).position, None);
    }
}
