//! Bytes in, sealed chunks out: runs of whole packets that are shared from then on and never changed.
//!
//! A chunk is sealed when it is full, when it was held long enough, or before a start point, so that a start point is
//! always the first packet of its chunk. Nothing is emitted before the first start point: nobody could play it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Bitrate, ClockSource, Pcr};
use crate::cutter::Cutter;
use crate::format::Format;
use crate::starts::StartKind;
use crate::ts::align::{Aligner, Alignment};
use crate::ts::programs::Missing;

/// Bytes without any packet after which they are no transport stream.
const HOPELESS: u64 = 64 * 1024;
/// Packets in a row that prove a transport stream: far more than chance gives in [`HOPELESS`] bytes.
const PROOF: u64 = 16;

/// A sealed run of whole packets.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Position in the stream, without gaps.
    pub seq: u64,
    /// The packets.
    pub bytes: Bytes,
    /// Set when a decoder can start with the first packet.
    pub start: Option<Arc<StartPoint>>,
    /// Media time at the first byte, since the stream began.
    pub media: Duration,
    /// The first value of the program's clock inside.
    pub pcr: Option<Pcr>,
    /// The last one: the clock may have jumped in between.
    pub last_pcr: Option<Pcr>,
    /// The first value inside of what media time comes from: that clock, or the time stamps that stand in for it.
    pub time: Option<Pcr>,
    /// Packets of our own: what follows does not continue what came before.
    pub jump: bool,
    /// From here on it is another format: other streams, other codecs, pictures of another size.
    pub new_format: bool,
}

impl Chunk {
    /// Bytes without any meaning at `media`: stuffing, or what a test has.
    pub fn plain(bytes: Bytes, media: Duration) -> Self {
        Self {
            seq: 0,
            bytes,
            start: None,
            media,
            pcr: None,
            last_pcr: None,
            time: None,
            jump: false,
            new_format: false,
        }
    }
}

/// What a reader who starts here must be given first.
#[derive(Clone, Debug)]
pub struct StartPoint {
    kind: StartKind,
    join: Bytes,
    skip: Bytes,
    /// Bytes of the tables, which the join prelude begins with.
    tables: usize,
}

impl StartPoint {
    /// Built by the chunker; public so that rings can be tested without media. All of `join` is tables.
    pub fn new(kind: StartKind, join: Bytes, skip: Bytes) -> Self {
        Self { kind, tables: join.len(), join, skip }
    }

    /// The same, behind whose tables come parameter sets.
    pub(crate) fn with_sets(self, sets: usize) -> Self {
        Self { tables: self.tables.saturating_sub(sets), ..self }
    }

    /// Why a decoder can start here.
    pub fn kind(&self) -> StartKind {
        self.kind
    }

    /// PAT and PMT, and parameter sets that a decoder lacks here, for a reader who has nothing yet.
    pub fn join_prelude(&self) -> Bytes {
        self.join.clone()
    }

    /// PAT and PMT alone.
    pub fn tables(&self) -> Bytes {
        self.join.slice(..self.tables)
    }

    /// All of it with every stream's jump announced, for a reader who skipped.
    pub fn skip_prelude(&self) -> Bytes {
        self.skip.clone()
    }
}

/// How large and how old a chunk may get.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Most bytes; rounded down to whole packets, at least one.
    pub max_bytes: usize,
    /// Longest time its first byte is held back, unless it may turn out to be a start point: then a quarter of a second, and
    /// 1.5 s in streams whose key pictures are not the first in their units.
    pub max_hold: Duration,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Too few yet.
    Undecided,
    /// A transport stream.
    TransportStream,
    /// Something else, a web page for example.
    NotTransportStream,
}

/// What a stream was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkerStats {
    /// Times the packets' step was lost.
    pub sync_losses: u64,
    /// Bytes that belonged to no whole packet.
    pub dropped_bytes: u64,
    /// Jumps of a continuity counter that nothing announced.
    pub continuity_errors: u64,
    /// Start points the stream itself has.
    pub start_points: u64,
    /// Start points made because it has none.
    pub makeshift_starts: u64,
    /// Tables that came with a wrong checksum.
    pub wrong_checksums: u64,
}

/// How a stream is at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Where its media time comes from.
    pub clock: ClockSource,
    /// Its picture, or in radio its sound, is scrambled.
    pub is_scrambled: bool,
    /// Tables that came with a wrong checksum.
    pub wrong_checksums: u64,
}

/// What has to come before there is anything to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// Whole packets.
    Packets,
    /// A PAT that lists a programme.
    ProgramList,
    /// The PMT of the programme with this number.
    ProgramMap(u16),
    /// Packets of the streams of the programme with this number.
    Streams(u16),
    /// A place where a decoder can start.
    StartPoint,
    /// The same, and what comes is scrambled.
    Clear,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packets => f.write_str("packets of a transport stream"),
            Self::ProgramList => f.write_str("a list of programmes (PAT)"),
            Self::ProgramMap(number) => write!(f, "the streams of programme {number} (its PMT)"),
            Self::Streams(number) => write!(f, "packets of programme {number}"),
            Self::StartPoint => f.write_str("a place to start decoding"),
            Self::Clear => f.write_str("a picture or sound that is not scrambled"),
        }
    }
}

/// Cuts one stream, across changes of its source.
pub struct Chunker {
    aligner: Aligner,
    cutter: Cutter,
    /// The cutter from before the last restart, until the source that followed brings something: it may bring nothing.
    left: Option<Box<Cutter>>,
}

impl Chunker {
    /// Chunks within `limits`.
    pub fn new(limits: ChunkLimits) -> Self {
        Self { aligner: Aligner::default(), cutter: Cutter::new(limits), left: None }
    }

    /// Takes bytes that came at `now` (since the stream began) and appends the chunks they complete to `out`.
    pub fn push(&mut self, data: &[u8], now: Duration, out: &mut Vec<Chunk>) {
        let Self { aligner, cutter, .. } = self;
        aligner.feed(data, &mut |packet| cutter.packet(packet, now, out));
        while cutter.seal_at().is_some_and(|at| at <= now) {
            cutter.seal(now, out);
        }
        if cutter.is_flowing() {
            self.left = None;
        }
    }

    /// When what is pending must be sealed. Before the first start point nothing is.
    pub fn seal_at(&self) -> Option<Duration> {
        self.cutter.seal_at()
    }

    /// Seals what is pending, except what may turn out to be a start point: that when [`Self::seal_at`] says so.
    pub fn seal(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        self.cutter.seal(now, out);
    }

    /// The source has stopped. What is whole goes out; a partial packet is lost. Whatever comes next either continues
    /// this exactly, or [`Self::restart`] comes first.
    pub fn interrupt(&mut self, now: Duration, out: &mut Vec<Chunk>) {
        self.realign();
        self.cutter.interrupt(now, out);
    }

    /// Another source follows. Its chunks begin at its first start point, after the announcement of the jump.
    pub fn restart(&mut self) {
        self.realign();
        if self.cutter.is_flowing() {
            self.left = self.cutter.has_emitted_all().then(|| Box::new(self.cutter.clone()));
        }
        self.cutter.restart();
    }

    /// The exact continuation of what was last emitted follows. False if nothing ever was, or it was forgotten: then
    /// only [`Self::restart`] is left.
    pub fn resume(&mut self) -> bool {
        if let Some(left) = self.left.take() {
            self.realign();
            self.cutter.give_back(*left);
        }
        self.cutter.is_flowing()
    }

    fn realign(&mut self) {
        let seen = std::mem::take(&mut self.aligner).finish();
        self.cutter.lost(seen);
    }

    /// Media time since the stream began.
    pub fn media_time(&self) -> Duration {
        self.cutter.media_time()
    }

    /// Media time when the last piece of what players decode came. A clock alone, and tables, are nothing to watch.
    pub fn shown_until(&self) -> Duration {
        self.cutter.shown_until()
    }

    /// By the stream's own clock.
    pub fn bitrate(&self) -> Option<Bitrate> {
        self.cutter.bitrate()
    }

    /// What the stream is, as far as it has shown it; of the last source that had a programme. The same allocation as long as
    /// it is the same.
    pub fn format(&self) -> &Arc<Format> {
        self.cutter.format()
    }

    /// How the stream is.
    pub fn condition(&self) -> Condition {
        self.cutter.condition()
    }

    /// What is waited for, as long as nothing of the source can be played.
    pub fn awaited(&self) -> Awaited {
        if self.aligner.stats().packets == 0 {
            return Awaited::Packets;
        }
        match self.cutter.missing() {
            Some(Missing::List) => Awaited::ProgramList,
            Some(Missing::Map(number)) => Awaited::ProgramMap(number),
            Some(Missing::Streams(number)) => Awaited::Streams(number),
            None if self.cutter.condition().is_scrambled => Awaited::Clear,
            None => Awaited::StartPoint,
        }
    }

    /// What the bytes since the last restart are.
    pub fn verdict(&self) -> Verdict {
        judge(self.aligner.stats())
    }

    /// What the stream was like so far.
    pub fn stats(&self) -> ChunkerStats {
        let seen = self.aligner.stats();
        let mut stats = self.cutter.stats();
        stats.sync_losses += seen.losses;
        stats.dropped_bytes += seen.dropped_bytes;
        stats
    }
}

/// What these bytes are, for whoever has them from another source than the chunker's.
pub fn verdict_on(bytes: &[u8]) -> Verdict {
    let mut aligner = Aligner::default();
    aligner.feed(bytes, &mut |_| {});
    judge(aligner.stats())
}

fn judge(seen: Alignment) -> Verdict {
    if seen.packets >= PROOF {
        Verdict::TransportStream
    } else if seen.dropped_bytes >= HOPELESS {
        Verdict::NotTransportStream
    } else {
        Verdict::Undecided
    }
}
