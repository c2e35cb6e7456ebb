//! What happened, for whoever writes logs, metrics and history. The relay itself does none of these.

use std::time::Duration;

use acemux_media::format::Format;

use crate::admission::AddressGroup;
use crate::origin::{SourceId, Stage};
use crate::relay::StreamKey;
use crate::session::{EndReason, StartError};
use crate::viewer::{LeaveReason, ViewerId};

/// Receives every event, on the task where it happened: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);
}

/// Discards everything.
impl Observer for () {
    fn observe(&self, _: &Event<'_>) {}
}

/// How a stream goes on after a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Healed {
    /// The source came back by itself.
    ByItself,
    /// Another source, or the same opened again, goes on with exactly the next packet.
    Exactly,
    /// Viewers were told of a jump.
    WithAJump,
}

impl Healed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ByItself, Self::Exactly, Self::WithAJump];

    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByItself => "by_itself",
            Self::Exactly => "exactly",
            Self::WithAJump => "with_a_jump",
        }
    }
}

/// One fact.
#[derive(Debug)]
pub enum Event<'a> {
    /// The first viewer of a channel asked for it.
    SessionOpened {
        /// The channel.
        key: &'a StreamKey,
    },
    /// A stage of a start is over.
    StageFinished {
        /// Which.
        stage: Stage,
        /// How long it took.
        took: Duration,
    },
    /// One attempt failed; the next one avoids its source.
    StartRetried {
        /// The channel.
        key: &'a StreamKey,
        /// The source that failed.
        source: Option<&'a SourceId>,
        /// Its words.
        error: &'a str,
    },
    /// A start is decided.
    StartFinished {
        /// The channel.
        key: &'a StreamKey,
        /// Media is there, or why not.
        result: Result<&'a SourceId, &'a StartError>,
        /// Since the first viewer asked.
        took: Duration,
        /// Who asked first.
        client: AddressGroup,
    },
    /// The source of a watched stream broke; another one is opened while its viewers wait.
    Interrupted {
        /// The channel.
        key: &'a StreamKey,
        /// Which source, if it is known.
        source: Option<&'a SourceId>,
        /// How it broke.
        error: &'a str,
    },
    /// A source that plays is to be left for another one.
    Leaving {
        /// The channel.
        key: &'a StreamKey,
        /// The source.
        source: Option<&'a SourceId>,
        /// Why.
        why: &'a str,
    },
    /// The source has begun to send what it has sent before.
    Repeats {
        /// The channel.
        key: &'a StreamKey,
        /// The source.
        source: Option<&'a SourceId>,
    },
    /// The broadcaster sends other streams, other codecs or pictures of another size than before.
    FormatChanged {
        /// The channel.
        key: &'a StreamKey,
        /// What it is now, as far as it has shown it.
        format: &'a Format,
    },
    /// Media comes again.
    Recovered {
        /// The channel.
        key: &'a StreamKey,
        /// From where.
        source: &'a SourceId,
        /// How long there was none.
        gap: Duration,
        /// How it goes on.
        healed: Healed,
    },
    /// A second playback of the same channel on the same source replaced the first.
    UpstreamReplaced {
        /// The channel.
        key: &'a StreamKey,
        /// The source.
        source: &'a SourceId,
    },
    /// A session is over.
    SessionEnded {
        /// The channel.
        key: &'a StreamKey,
        /// Why.
        reason: &'a EndReason,
        /// Since it was opened.
        lasted: Duration,
        /// Who asked for it first.
        client: AddressGroup,
    },
    /// A viewer has got its place in the ring.
    ViewerJoined {
        /// The channel.
        key: &'a StreamKey,
        /// The viewer.
        viewer: ViewerId,
        /// Since it asked.
        waited: Duration,
    },
    /// A viewer fell out of the ring and resumed at a start point.
    ViewerSkipped {
        /// The channel.
        key: &'a StreamKey,
        /// The viewer.
        viewer: ViewerId,
        /// Bytes of the stream it did not get.
        bytes: u64,
    },
    /// A viewer is gone.
    ViewerLeft {
        /// The channel.
        key: &'a StreamKey,
        /// The viewer.
        viewer: ViewerId,
        /// Why.
        reason: LeaveReason,
        /// Bytes it got.
        bytes: u64,
        /// Since it joined.
        lasted: Duration,
    },
}
