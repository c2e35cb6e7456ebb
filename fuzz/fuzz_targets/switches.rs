//! Sources that break, come to nothing, continue each other or do not, and what HLS makes of it: everything published is
//! whole packets in order, segments are numbered without a gap and never too long, and no input panics.
#![no_main]

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::continuation::{Continuation, Outcome, Past};
use acemux_media::hls::{Segment, SegmentLimits, Segmenter};
use libfuzzer_sys::fuzz_target;

mod packets;
use packets::{PMT, assert_packets, packet, tables};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 2 * 188, max_hold: Duration::from_millis(20) };

/// One viewer's side and one source's side, joined as a session joins them.
struct Session {
    chunker: Chunker,
    segmenter: Segmenter,
    ring: Vec<Chunk>,
    segments: Vec<Segment>,
    search: Option<Continuation>,
    now: Duration,
}

fuzz_target!(|steps: Vec<(u8, u8, Vec<u8>)>| {
    let mut session = Session {
        chunker: Chunker::new(LIMITS),
        segmenter: Segmenter::new(SegmentLimits::default()),
        ring: Vec::new(),
        segments: Vec::new(),
        search: None,
        now: Duration::ZERO,
    };
    for (kind, detail, bytes) in steps {
        match kind % 8 {
            0 => session.gets(&tables(detail).concat()),
            1 => session.breaks(),
            2 => session.repeats(usize::from(detail)),
            3 => session.now += Duration::from_millis(10 * u64::from(detail)),
            4 => session.segments.extend(session.segmenter.pause()),
            kind => session.gets(&packet([PMT, 0x100, 0x101][usize::from(kind % 3)], detail, &bytes)),
        }
    }
    session.ends();
});

impl Session {
    fn gets(&mut self, bytes: &[u8]) {
        let Some(search) = &mut self.search else { return self.takes(bytes) };
        let rest = match search.push(bytes) {
            Outcome::Undecided => return,
            Outcome::Continues(rest) if self.chunker.resume() => rest,
            Outcome::Continues(rest) | Outcome::Unrelated(rest) => {
                self.chunker.restart();
                rest
            }
        };
        self.search = None;
        self.takes(&rest);
    }

    fn takes(&mut self, bytes: &[u8]) {
        let mut chunks = Vec::new();
        self.chunker.push(bytes, self.now, &mut chunks);
        self.publishes(chunks);
    }

    /// The source ends; what comes next is another one's.
    fn breaks(&mut self) {
        let mut chunks = Vec::new();
        self.chunker.interrupt(self.now, &mut chunks);
        self.publishes(chunks);
        self.search = Some(Continuation::of(Past::new(self.ring.iter().cloned())));
    }

    /// Another engine of the swarm sends what was sent already.
    fn repeats(&mut self, from: usize) {
        let sent: Vec<u8> = self.ring.iter().skip(from).flat_map(|chunk| chunk.bytes.to_vec()).collect();
        self.gets(&sent);
    }

    fn publishes(&mut self, chunks: Vec<Chunk>) {
        for chunk in chunks {
            assert_packets(&chunk.bytes);
            assert_eq!(chunk.seq, self.ring.len() as u64);
            assert!(self.ring.last().is_none_or(|last| last.media <= chunk.media));
            self.segmenter.push(&chunk, &mut self.segments);
            self.ring.push(chunk);
        }
    }

    fn ends(mut self) {
        self.segments.extend(self.segmenter.finish());
        for (segment, number) in self.segments.iter().zip(0..) {
            assert_eq!(segment.number, number);
            assert!(segment.duration < Duration::from_millis(6_500), "{:?}", segment.duration);
            segment.parts.iter().for_each(|part| assert_packets(part));
        }
        assert!(self.segments.first().is_none_or(|first| !first.discontinuity));
    }
}
