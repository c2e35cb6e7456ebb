//! Arbitrary bytes in arbitrary pieces: chunks are whole packets in order, and no input panics.
#![no_main]

use std::time::Duration;

use acemux_media::chunk::{ChunkLimits, Chunker};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, Vec<Vec<u8>>)| {
    let (limit, pieces) = input;
    let limits = ChunkLimits { max_bytes: usize::from(limit), max_hold: Duration::from_millis(20) };
    let (mut chunker, mut chunks) = (Chunker::new(limits), Vec::new());
    for (n, piece) in pieces.iter().enumerate() {
        // An empty piece is a change of the source.
        if piece.is_empty() {
            chunker.restart();
        }
        chunker.push(piece, Duration::from_millis(n as u64), &mut chunks);
    }
    for (n, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.seq, n as u64);
        assert!(chunk.bytes.chunks(188).all(|packet| packet.len() == 188 && packet[0] == 0x47));
    }
});
