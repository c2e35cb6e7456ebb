//! What a swarm broadcasts: which channel an infohash plays and the packets of that channel at any moment.
//!
//! A channel is a pure function of the infohash and of swarm time, so any number of engines carry identical bytes; a
//! recording is one of the infohash alone. It keeps no position: readers do.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clip::{Clip, ClipName};
use crate::identity::ContentHash;
use crate::ts::{self, PACKET_LEN};
use crate::verify::VerifyStream;

/// Bit rate of the verifiable channel unless another is named, bit/s.
pub const DEFAULT_VERIFY_BITRATE: u64 = 3_000_000;
/// Slowest and fastest verifiable channel, bit/s.
pub const VERIFY_BITRATES: RangeInclusive<u64> = 64_000..=60_000_000;
/// Length of the recording unless another is named, seconds.
pub const DEFAULT_VOD_SECONDS: u64 = 60;
/// Shortest and longest recording, seconds: a day takes 32 GB to send and no memory to keep.
pub const VOD_SECONDS: RangeInclusive<u64> = 1..=86_400;
/// Swarms start their clips at different points, up to this far apart, so that two channels never carry the same bytes.
const PHASES: u64 = 3_600_000;

/// What a channel shows. Written `h264`, `hevc`, `mpeg2`, `audio`, `open-gop`, `no-flags`, `verify`,
/// `verify@<bit/s>`, `vod` or `vod@<seconds>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChannelKind {
    /// H.264 640x360 at 25 pictures a second with AAC, closed groups of 1.92 s, 2 Mbit/s. Decodes without a word of
    /// complaint over any number of loops.
    #[default]
    H264,
    /// HEVC 320x180 with AAC, IDR every 1.6 s.
    Hevc,
    /// MPEG-2 320x180 with MPEG audio, sequence header every 0.96 s.
    Mpeg2,
    /// AAC alone.
    Audio,
    /// H.264 with open groups: recovery points every 1.92 s and never an IDR picture.
    OpenGop,
    /// The H.264 channel without any random-access flag.
    NoFlags,
    /// Packets that can be checked one by one (see [`verify`](crate::verify)), at `bitrate` bit/s.
    Verify {
        /// Bit/s, clamped to [`VERIFY_BITRATES`].
        bitrate: u64,
    },
    /// No broadcast but a recording, a file that is read by ranges: the first `seconds` of the verifiable packets at
    /// [`DEFAULT_VERIFY_BITRATE`], numbered from 0.
    Vod {
        /// Seconds, clamped to [`VOD_SECONDS`].
        seconds: u64,
    },
}

impl ChannelKind {
    /// The verifiable channel at its default rate.
    pub const VERIFY: Self = Self::Verify { bitrate: DEFAULT_VERIFY_BITRATE };
    /// The recording of the usual length.
    pub const VOD: Self = Self::Vod { seconds: DEFAULT_VOD_SECONDS };

    /// Whether it is broadcast and has no end.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Vod { .. })
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::H264 => f.write_str("h264"),
            Self::Hevc => f.write_str("hevc"),
            Self::Mpeg2 => f.write_str("mpeg2"),
            Self::Audio => f.write_str("audio"),
            Self::OpenGop => f.write_str("open-gop"),
            Self::NoFlags => f.write_str("no-flags"),
            Self::Verify { bitrate } => write!(f, "verify@{bitrate}"),
            Self::Vod { seconds } => write!(f, "vod@{seconds}"),
        }
    }
}

/// The text names no channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no such channel: {0} (h264, hevc, mpeg2, audio, open-gop, no-flags, verify, verify@<64000..60000000>, \
     vod or vod@<1..86400>)"
)]
pub struct UnknownChannel(String);

impl FromStr for ChannelKind {
    type Err = UnknownChannel;

    fn from_str(text: &str) -> Result<Self, UnknownChannel> {
        let named = DEMO_CHANNELS.iter().find(|demo| demo.name == text).map(|demo| demo.kind);
        let rated = || numbered(text, "verify@", VERIFY_BITRATES).map(|bitrate| Self::Verify { bitrate });
        let timed = || numbered(text, "vod@", VOD_SECONDS).map(|seconds| Self::Vod { seconds });
        named.or_else(rated).or_else(timed).ok_or_else(|| UnknownChannel(text.to_owned()))
    }
}

/// The number behind `prefix`, when it is allowed.
fn numbered(text: &str, prefix: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
    text.strip_prefix(prefix)?.parse().ok().filter(|number| allowed.contains(number))
}

impl TryFrom<String> for ChannelKind {
    type Error = UnknownChannel;

    fn try_from(text: String) -> Result<Self, UnknownChannel> {
        text.parse()
    }
}

impl From<ChannelKind> for String {
    fn from(kind: ChannelKind) -> Self {
        kind.to_string()
    }
}

/// A content id that always plays the same kind of channel, on every simulated engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoChannel {
    /// Short name, also accepted by [`ChannelKind::from_str`].
    pub name: &'static str,
    /// The content id to ask for.
    pub content_id: &'static str,
    /// What it plays.
    pub kind: ChannelKind,
}

impl DemoChannel {
    const fn new(name: &'static str, content_id: &'static str, kind: ChannelKind) -> Self {
        Self { name, content_id, kind }
    }
}

/// Content id that plays [`ChannelKind::H264`].
pub const H264_ID: &str = "acec000000000000000000000000000000000264";
/// Content id that plays [`ChannelKind::Hevc`].
pub const HEVC_ID: &str = "acec000000000000000000000000000000000265";
/// Content id that plays [`ChannelKind::Mpeg2`].
pub const MPEG2_ID: &str = "acec000000000000000000000000000000000262";
/// Content id that plays [`ChannelKind::Audio`].
pub const AUDIO_ID: &str = "acec0000000000000000000000000000000000aa";
/// Content id that plays [`ChannelKind::OpenGop`].
pub const OPEN_GOP_ID: &str = "acec0000000000000000000000000000000000c0";
/// Content id that plays [`ChannelKind::NoFlags`].
pub const NO_FLAGS_ID: &str = "acec0000000000000000000000000000000000f0";
/// Content id that plays [`ChannelKind::VERIFY`].
pub const VERIFY_ID: &str = "acec000000000000000000000000000000000c4c";
/// Content id that plays [`ChannelKind::VOD`].
pub const VOD_ID: &str = "acec000000000000000000000000000000000d0d";

/// The well-known channels.
pub const DEMO_CHANNELS: [DemoChannel; 8] = [
    DemoChannel::new("h264", H264_ID, ChannelKind::H264),
    DemoChannel::new("hevc", HEVC_ID, ChannelKind::Hevc),
    DemoChannel::new("mpeg2", MPEG2_ID, ChannelKind::Mpeg2),
    DemoChannel::new("audio", AUDIO_ID, ChannelKind::Audio),
    DemoChannel::new("open-gop", OPEN_GOP_ID, ChannelKind::OpenGop),
    DemoChannel::new("no-flags", NO_FLAGS_ID, ChannelKind::NoFlags),
    DemoChannel::new("verify", VERIFY_ID, ChannelKind::VERIFY),
    DemoChannel::new("vod", VOD_ID, ChannelKind::VOD),
];

/// The kind that a well-known infohash plays.
pub(crate) fn demo_kind(infohash: ContentHash) -> Option<ChannelKind> {
    let plays = |demo: &&DemoChannel| {
        ContentHash::parse(demo.content_id).map(ContentHash::infohash) == Some(infohash)
    };
    DEMO_CHANNELS.iter().find(plays).map(|demo| demo.kind)
}

/// The packet stream of one swarm. A broadcast is endless, its packets are numbered since the UNIX epoch; a recording's
/// are numbered from 0.
#[derive(Debug)]
pub struct Channel {
    source: Source,
    /// Packets of a recording; a broadcast has no such number.
    recorded: Option<u64>,
    /// Added to swarm time: where in its loop this swarm's clip stands.
    phase: Duration,
}

#[derive(Debug)]
enum Source {
    Clip { clip: &'static Clip, flags: bool },
    Verify(VerifyStream),
}

impl Channel {
    /// The channel that the swarm of `infohash` broadcasts when it shows `kind`.
    pub fn new(infohash: ContentHash, kind: ChannelKind) -> Self {
        let clip = |name: ClipName, flags| Self {
            source: Source::Clip { clip: name.load(), flags },
            recorded: None,
            phase: Duration::from_millis(infohash.seed() % PHASES),
        };
        let verify = |bitrate, recorded| Self {
            source: Source::Verify(VerifyStream::new(infohash, bitrate)),
            recorded,
            phase: Duration::ZERO,
        };
        match kind {
            ChannelKind::H264 => clip(ClipName::H264, true),
            ChannelKind::Hevc => clip(ClipName::Hevc, true),
            ChannelKind::Mpeg2 => clip(ClipName::Mpeg2, true),
            ChannelKind::Audio => clip(ClipName::Audio, true),
            ChannelKind::OpenGop => clip(ClipName::OpenGop, true),
            ChannelKind::NoFlags => clip(ClipName::H264, false),
            ChannelKind::Verify { bitrate } => verify(bitrate, None),
            ChannelKind::Vod { seconds } => {
                let seconds = seconds.clamp(*VOD_SECONDS.start(), *VOD_SECONDS.end());
                let packets = seconds * DEFAULT_VERIFY_BITRATE / (8 * PACKET_LEN as u64);
                verify(DEFAULT_VERIFY_BITRATE, Some(packets))
            }
        }
    }

    /// Bytes of a recording; `None` for a broadcast, which has no end.
    pub fn length(&self) -> Option<u64> {
        self.recorded.map(|packets| packets * PACKET_LEN as u64)
    }

    /// How many packets have been broadcast at `swarm_time`: the live edge, exclusive. Of a recording: all.
    pub fn packets_at(&self, swarm_time: Duration) -> u64 {
        if let Some(packets) = self.recorded {
            return packets;
        }
        let micros = (swarm_time + self.phase).as_micros();
        let (packets, ticks) = self.rate();
        let count = micros * 9 * u128::from(packets) / (u128::from(ticks) * 100);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The constant rate in bit/s, stuffing included.
    pub fn bitrate(&self) -> u64 {
        let (packets, ticks) = self.rate();
        packets * PACKET_LEN as u64 * 8 * 90_000 / ticks
    }

    /// Appends the packets `range`.
    pub fn write(&self, range: Range<u64>, out: &mut Vec<u8>) {
        match &self.source {
            Source::Verify(stream) => stream.write(range, out),
            Source::Clip { clip, flags: true } => clip.write(range, out),
            Source::Clip { clip, flags: false } => write_without_flags(clip, range, out),
        }
    }

    /// Appends the bytes `range`, counted from packet 0.
    pub(crate) fn write_bytes(&self, range: Range<u64>, out: &mut Vec<u8>) {
        let (start, length) = (out.len(), PACKET_LEN as u64);
        self.write(range.start / length..range.end.div_ceil(length), out);
        let skipped = usize::try_from(range.start % length).expect("inside a packet");
        out.drain(start..start + skipped);
        let wanted = usize::try_from(range.end - range.start).expect("bytes that are to be kept in memory");
        out.truncate(start + wanted);
    }

    /// The rate as a fraction: packets per 90 kHz ticks.
    fn rate(&self) -> (u64, u64) {
        match &self.source {
            Source::Clip { clip, .. } => (clip.packets_per_loop(), clip.ticks_per_loop()),
            Source::Verify(stream) => (stream.bitrate(), PACKET_LEN as u64 * 8 * 90_000),
        }
    }
}

fn write_without_flags(clip: &Clip, range: Range<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    clip.write(range, out);
    for packet in out[start..].as_chunks_mut::<PACKET_LEN>().0 {
        if ts::random_access(packet) {
            packet[5] &= !0x40;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infohash(content_id: &str) -> ContentHash {
        ContentHash::parse(content_id).unwrap().infohash()
    }

    #[test]
    fn channels_are_written_and_read_by_the_same_names() {
        for demo in DEMO_CHANNELS {
            assert_eq!(demo.name.parse(), Ok(demo.kind));
            assert_eq!(demo.kind.to_string().parse(), Ok(demo.kind));
            assert_eq!(demo_kind(infohash(demo.content_id)), Some(demo.kind));
        }
        assert_eq!("vod@90".parse(), Ok(ChannelKind::Vod { seconds: 90 }));
        for unknown in ["verify@1", "av1", "vod@0", "vod@86401", "vod@", "vod@x", "vod@-1"] {
            assert!(unknown.parse::<ChannelKind>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_recording_has_its_length_from_the_first_moment() {
        let channel = Channel::new(infohash(VOD_ID), ChannelKind::VOD);
        assert_eq!(channel.length(), Some(60 * 3_000_000 / 8 / 188 * 188));
        assert_eq!(channel.packets_at(Duration::ZERO) * 188, channel.length().unwrap());
        assert_eq!(Channel::new(infohash(VERIFY_ID), ChannelKind::VERIFY).length(), None);
    }

    #[test]
    fn bytes_are_cut_out_of_the_packets_around_them() {
        let channel = Channel::new(infohash(VOD_ID), ChannelKind::VOD);
        let mut whole = Vec::new();
        channel.write(0..4, &mut whole);
        for (start, end) in [(0, 752), (0, 1), (187, 189), (188, 376), (300, 310), (5, 5), (188, 188)] {
            let mut bytes = b"before".to_vec();
            channel.write_bytes(start..end, &mut bytes);
            let (start, end) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
            assert_eq!(bytes, [b"before", &whole[start..end]].concat(), "{start}..{end}");
        }
    }

    #[test]
    fn the_live_edge_moves_at_the_channels_rate() {
        for demo in DEMO_CHANNELS.into_iter().filter(|demo| demo.kind.is_live()) {
            let channel = Channel::new(infohash(demo.content_id), demo.kind);
            let start = Duration::from_hours(500_000);
            let packets = channel.packets_at(start + Duration::from_secs(96)) - channel.packets_at(start);
            let expected = channel.bitrate() * 96 / (8 * PACKET_LEN as u64);
            assert!(packets.abs_diff(expected) <= 1, "{}: {packets} packets, not {expected}", demo.name);
        }
    }
}
