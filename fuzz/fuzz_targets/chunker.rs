//! Arbitrary bytes, packets, tables and changes of the source: chunks are whole packets in order and within their
//! limit, a start point is the beginning of an access unit, and no input panics.
#![no_main]

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use libfuzzer_sys::fuzz_target;

mod packets;
use packets::{PMT, assert_packets, packet, tables};

fuzz_target!(|input: (u16, Vec<(u8, u8, Vec<u8>)>)| {
    let (limit, steps) = input;
    let limits = ChunkLimits { max_bytes: usize::from(limit), max_hold: Duration::from_millis(20) };
    let (mut chunker, mut chunks, mut now) = (Chunker::new(limits), Vec::new(), Duration::ZERO);
    for (kind, detail, bytes) in steps {
        let data = match kind % 8 {
            0 => tables(detail).concat(),
            1 => bytes,
            2 => {
                chunker.restart();
                continue;
            }
            3 => {
                now += Duration::from_millis(10 * u64::from(detail));
                bytes
            }
            // The table's stream, the video, the sound and another.
            kind => packet([PMT, 0x100, 0x101, 0x11][usize::from(kind % 4)], detail, &bytes).to_vec(),
        };
        chunker.push(&data, now, &mut chunks);
        assert!(chunker.seal_at().is_none_or(|at| at > now));
    }
    while let Some(at) = chunker.seal_at() {
        chunker.seal(at, &mut chunks);
    }
    let most = usize::from(limit).max(PACKET_LEN);
    for (chunk, seq) in chunks.iter().zip(0..) {
        assert_eq!(chunk.seq, seq);
        assert!(!chunk.bytes.is_empty() && chunk.bytes.len() <= most);
        check(chunk);
    }
    assert!(chunks.is_sorted_by_key(|chunk| chunk.media));
});

fn check(chunk: &Chunk) {
    assert_packets(&chunk.bytes);
    let Some(start) = &chunk.start else { return };
    assert_packets(&start.join_prelude());
    assert_packets(&start.skip_prelude());
    assert!(Packet::parse(&chunk.bytes).is_some_and(Packet::starts_unit));
}
