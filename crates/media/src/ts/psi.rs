//! What PAT and PMT say: which programmes there are, and which packets carry a programme's video and audio.
//!
//! Lengths that lie cost what is behind them and no more: so do other readers, and home-made multiplexers lie.
#![warn(clippy::indexing_slicing)]

use super::descriptors::{Coding, Language};
use super::packet::{PACKET_LEN, Packet, Pid};

/// Table numbers.
pub(super) const PROGRAM_ASSOCIATION: u8 = 0x00;
pub(super) const PROGRAM_MAP: u8 = 0x02;
/// Bytes of the checksum at the end.
pub(super) const CHECKSUM: usize = 4;
/// What every long section begins with, and how long one of these tables may be.
const HEAD: usize = 8;
const LONGEST: usize = 1024;

/// What an elementary stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// MPEG-1 or MPEG-2 video.
    Mpeg2Video,
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
    /// Video that is not looked into: only the multiplexer can say where it starts.
    OtherVideo,
    /// Any audio.
    Audio,
    /// Anything else: teletext, subtitles, data.
    Other,
}

impl Codec {
    /// Whether it is video, which decides where a player can start.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Mpeg2Video | Self::H264 | Self::Hevc | Self::OtherVideo)
    }
}

/// One stream of the programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elementary {
    /// Its packets.
    pub pid: Pid,
    /// What it carries.
    pub codec: Codec,
    /// The same in full.
    pub coding: Coding,
    /// Of what is said or written in it.
    pub language: Option<Language>,
}

/// What the PMT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number in the PAT.
    pub number: u16,
    /// The PMT's own packets.
    pub pmt: Pid,
    /// Where the clock is.
    pub pcr: Pid,
    /// Its streams, in the order of the table.
    pub streams: Vec<Elementary>,
}

impl Program {
    /// The video, if there is one.
    pub fn video(&self) -> Option<Elementary> {
        self.streams.iter().copied().find(|stream| stream.codec.is_video())
    }

    /// The first audio.
    pub fn audio(&self) -> Option<Elementary> {
        self.streams.iter().copied().find(|stream| stream.codec == Codec::Audio)
    }

    /// Where a player starts: the video, or in radio the first audio.
    pub fn leading(&self) -> Option<Elementary> {
        self.video().or_else(|| self.audio())
    }

    /// How the PAT lists it.
    pub(super) fn listed(&self) -> Listed {
        Listed { number: self.number, pmt: self.pmt }
    }

    /// Its pictures and sounds; where there is neither, all of its streams.
    pub fn played(&self) -> impl Iterator<Item = Pid> {
        let is_played = |stream: &&Elementary| stream.codec != Codec::Other;
        let any = !self.streams.iter().any(|stream| is_played(&stream));
        self.streams.iter().filter(move |stream| any || is_played(stream)).map(|stream| stream.pid)
    }

    /// Whether `pid` is one of its streams.
    pub fn carries(&self, pid: Pid) -> bool {
        self.streams.iter().any(|stream| stream.pid == pid)
    }

    /// Whether a player needs `pid`: for the tables, the clock or one of the streams.
    pub fn needs(&self, pid: Pid) -> bool {
        pid == Pid::PAT || pid == self.pmt || pid == self.pcr || self.carries(pid)
    }
}

/// A programme as the PAT lists it. Several may share one PMT PID, so the number counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listed {
    pub(super) number: u16,
    pub(super) pmt: Pid,
}

/// Whether the section applies now; otherwise it is only announced.
pub(super) fn applies(section: &[u8]) -> bool {
    // Bit 0 of byte 5 says it.
    (HEAD + CHECKSUM..=LONGEST).contains(&section.len()) && section.get(5).is_some_and(|flags| flags & 1 == 1)
}

/// Which of its table's sections it is, and the last one's number.
pub(super) fn place(section: &[u8]) -> (u8, u8) {
    match section.get(6..8) {
        Some([number, last]) => (*number, (*last).max(*number)),
        _ => (0, 0),
    }
}

fn body(section: &[u8]) -> &[u8] {
    section.len().checked_sub(CHECKSUM).and_then(|end| section.get(HEAD..end)).unwrap_or_default()
}

/// The programmes in the order of the table; number 0 is the network's own table and none.
pub(super) fn programs(section: &[u8]) -> impl Iterator<Item = Listed> {
    body(section).chunks_exact(4).filter_map(|entry| match *entry {
        [0, 0, ..] => None,
        [number_high, number_low, high, low] => Some(Listed {
            number: u16::from_be_bytes([number_high, number_low]),
            pmt: Pid::new(u16::from_be_bytes([high, low])),
        }),
        _ => None,
    })
}

/// The number of the programme that a PMT is of.
pub(super) fn number(section: &[u8]) -> Option<u16> {
    section.get(3..5)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// What a PMT says of the programme that is listed so.
pub(super) fn program(listed: Listed, section: &[u8]) -> Option<Program> {
    let (head, rest) = body(section).split_first_chunk::<4>()?;
    let [pcr_high, pcr_low, info_high, info_low] = *head;
    let (info, mut rest) = rest.split_at_checked(length([info_high, info_low]))?;
    let mut streams = Vec::new();
    while let Some((entry, after)) = rest.split_first_chunk::<5>() {
        let [stream_type, pid_high, pid_low, length_high, length_low] = *entry;
        let (descriptors, next) =
            after.split_at_checked(length([length_high, length_low])).unwrap_or((after, &[]));
        let pid = Pid::new(u16::from_be_bytes([pid_high, pid_low]));
        streams.push(elementary(pid, Coding::of(stream_type, info, descriptors), descriptors));
        rest = next;
    }
    let pcr = Pid::new(u16::from_be_bytes([pcr_high, pcr_low]));
    Some(Program { number: listed.number, pmt: listed.pmt, pcr, streams })
}

/// Twelve bits of length.
fn length(field: [u8; 2]) -> usize {
    usize::from(u16::from_be_bytes(field) & 0x0fff)
}

fn elementary(pid: Pid, coding: Coding, descriptors: &[u8]) -> Elementary {
    Elementary { pid, codec: coding.codec(), coding, language: Language::of(descriptors) }
}

/// Raw packets of `raw`, one by one.
pub(crate) fn packets(raw: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    raw.chunks_exact(PACKET_LEN).filter_map(Packet::parse)
}
