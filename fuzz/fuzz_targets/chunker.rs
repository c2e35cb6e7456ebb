//! Arbitrary bytes, packets, tables and changes of the source: chunks are whole packets in order and within their
//! limit, a start point is the beginning of an access unit, and no input panics.
#![no_main]

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::ts::packet::{PACKET_LEN, Packet, SYNC_BYTE};
use acemux_media::ts::psi::crc32;
use libfuzzer_sys::fuzz_target;

const PMT: u16 = 0x30;

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

fn assert_packets(bytes: &[u8]) {
    assert!(bytes.chunks(PACKET_LEN).all(|packet| Packet::parse(packet).is_some()));
}

/// The low half of `detail` is the counter, then come: beginning of a unit, adaptation field, no payload, scrambled.
fn packet(pid: u16, detail: u8, content: &[u8]) -> [u8; PACKET_LEN] {
    let bit = |bit: u8| (detail >> bit) & 1;
    let [high, low] = pid.to_be_bytes();
    let control = (bit(7) << 7) | (bit(5) << 5) | ((1 - bit(6)) << 4);
    let mut packet = [0xff; PACKET_LEN];
    packet[..4].copy_from_slice(&[SYNC_BYTE, high | (bit(4) << 6), low, control | (detail & 0x0f)]);
    let room = content.len().min(PACKET_LEN - 4);
    packet[4..4 + room].copy_from_slice(&content[..room]);
    packet
}

/// A PAT, and a PMT of one video and one audio; `detail` chooses the video's codec and the counter.
fn tables(detail: u8) -> [[u8; PACKET_LEN]; 2] {
    let video = [0x1b, 0x24, 0x02, 0x10, 0x06][usize::from(detail >> 4) % 5];
    let pat = section(0, &[0, 1, 0xe0, 0x30]);
    let pmt = section(2, &[0xe1, 0, 0xf0, 0, video, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 1, 0xf0, 0]);
    let counter = detail & 0x0f;
    [packet(0, 0x10 | counter, &pat), packet(PMT, 0x10 | counter, &pmt)]
}

/// Behind its pointer.
fn section(id: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![id, 0xb0, body.len() as u8 + 9, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32(&section).to_be_bytes());
    section.insert(0, 0);
    section
}
