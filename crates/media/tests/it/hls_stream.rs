//! Streams of chunks without media, for the segmenter: every chunk can be told from every other.

use std::sync::Arc;
use std::time::Duration;

use acemux_media::chunk::{Chunk, StartPoint};
use acemux_media::clock::Pcr;
use acemux_media::hls::{Segment, SegmentLimits, Segmenter};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::PACKET_LEN;
use acemux_media::ts::splice::null_packet;
use bytes::Bytes;

pub(crate) const TICKS_PER_MILLISECOND: u64 = 27_000;

/// Longest duration that the default limits allow.
pub(crate) const LONGEST: Duration = Duration::from_millis(6499);

/// Where the stream is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) chunks: Vec<Chunk>,
    /// Media time, in milliseconds.
    pub(crate) media: u64,
    /// How far the clock is ahead of it.
    pub(crate) ahead: u64,
}

impl Stream {
    /// A chunk of three packets, `length` milliseconds long.
    pub(crate) fn chunk(&mut self, start: Option<StartKind>, length: u64) {
        let bytes = packets(0x100, self.chunks.len(), 3);
        let start = start.map(|kind| {
            let tables = tables(self.chunks.len());
            Arc::new(StartPoint::new(kind, tables, Bytes::from_static(b"for readers who skip")))
        });
        self.add(bytes, start, Some(self.clock()), false);
        self.media += length;
    }

    /// A start point of this kind and chunks of 100 ms until the next one.
    pub(crate) fn group(&mut self, kind: StartKind, length: u64) {
        self.chunk(Some(kind), 100);
        (1..length / 100).for_each(|_| self.chunk(None, 100));
    }

    /// The same, in the middle of which the clock goes on by so many milliseconds.
    pub(crate) fn chunk_with_jump_inside(&mut self, length: u64, by: u64) {
        let bytes = packets(0x100, self.chunks.len(), 3);
        self.add(bytes, None, Some(self.clock()), false);
        self.ahead += by;
        let after = self.clock();
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.last_pcr = Some(after);
        }
        self.media += length;
    }

    /// Our own packets between two sources.
    pub(crate) fn jump(&mut self) {
        self.add(packets(0x100, self.chunks.len(), 2), None, None, true);
    }

    /// What is sent while there is nothing to send.
    pub(crate) fn stuffing(&mut self) {
        self.add(Bytes::from(null_packet().repeat(7)), None, None, false);
    }

    fn clock(&self) -> Pcr {
        Pcr::from_ticks((self.media + self.ahead) * TICKS_PER_MILLISECOND)
    }

    fn add(&mut self, bytes: Bytes, start: Option<Arc<StartPoint>>, pcr: Option<Pcr>, jump: bool) {
        let (seq, media) = (self.chunks.len() as u64, Duration::from_millis(self.media));
        self.chunks.push(Chunk { seq, start, pcr, time: pcr, jump, ..Chunk::plain(bytes, media) });
    }

    /// All of it, cut with the default limits.
    pub(crate) fn cut(&self) -> Vec<Segment> {
        cut(&self.chunks, SegmentLimits::default())
    }
}

/// A whole recording.
pub(crate) fn cut(chunks: &[Chunk], limits: SegmentLimits) -> Vec<Segment> {
    let (mut segmenter, mut out) = (Segmenter::new(limits), Vec::new());
    push_all(&mut segmenter, chunks, &mut out);
    out.extend(segmenter.finish());
    out
}

pub(crate) fn push_all(segmenter: &mut Segmenter, chunks: &[Chunk], out: &mut Vec<Segment>) {
    for chunk in chunks {
        segmenter.push(chunk, out);
    }
}

/// `count` packets that only chunk `number` has.
fn packets(pid: u16, number: usize, count: usize) -> Bytes {
    let [high, low] = pid.to_be_bytes();
    let mut packet = [0xff; PACKET_LEN];
    packet[..4].copy_from_slice(&[0x47, high, low, 0x10]);
    packet[4..12].copy_from_slice(&(number as u64).to_be_bytes());
    Bytes::from(packet.repeat(count))
}

/// Tables that only the start point of chunk `number` has.
pub(crate) fn tables(number: usize) -> Bytes {
    Bytes::from([packets(0, number, 1), packets(0x30, number, 1)].concat())
}

/// Which chunk a part is from.
pub(crate) fn origin(part: &Bytes) -> usize {
    let (number, _) = part[4..].split_first_chunk().expect("a packet has 188 bytes");
    usize::try_from(u64::from_be_bytes(*number)).expect("few chunks")
}

/// Durations in milliseconds.
pub(crate) fn durations(segments: &[Segment]) -> Vec<u128> {
    segments.iter().map(|segment| segment.duration.as_millis()).collect()
}
