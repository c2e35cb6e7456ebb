//! Real codecs: the clips that the simulator plays. A start point is where the encoder put a key frame.

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{PACKET_LEN, Packet};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 65_536, max_hold: Duration::from_mins(1) };

fn clip(name: &str) -> Vec<u8> {
    let path = format!("{}/../sim/clips/{name}.ts", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the clips are in the repository")
}

fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunker = Chunker::new(LIMITS);
    let mut out = Vec::new();
    chunker.push(bytes, Duration::ZERO, &mut out);
    chunker.seal(Duration::ZERO, &mut out);
    assert_eq!(chunker.stats().continuity_errors, 0);
    out
}

/// Byte offsets of the packets that carry the flag.
fn flagged(bytes: &[u8]) -> Vec<usize> {
    let packets = bytes.chunks(PACKET_LEN).enumerate();
    let flagged = packets.filter(|(_, packet)| {
        let packet = Packet::parse(packet).expect("a clip is whole packets");
        packet.is_random_access() && packet.starts_unit() && packet.pid().get() == 0x100
    });
    flagged.map(|(n, _)| n * PACKET_LEN).collect()
}

fn without_flags(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for packet in bytes.chunks_mut(PACKET_LEN) {
        if packet[3] & 0x20 != 0 && packet[4] > 0 {
            packet[5] &= !0x40;
        }
    }
    bytes
}

/// Byte offsets of the start points.
fn found(bytes: &[u8]) -> (Vec<usize>, Vec<StartKind>) {
    let chunks = chunks(bytes);
    let total: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let mut offset = bytes.len() - total;
    let mut starts = (Vec::new(), Vec::new());
    for chunk in chunks {
        if let Some(start) = &chunk.start {
            starts.0.push(offset);
            starts.1.push(start.kind());
        }
        offset += chunk.bytes.len();
    }
    starts
}

#[test]
fn key_frames_are_found_in_the_video_itself_exactly_where_the_encoder_flags_them() {
    for name in ["h264", "hevc", "mpeg2"] {
        let bytes = clip(name);
        let expected = flagged(&bytes);
        assert!(expected.len() >= 2, "{name} has key frames");
        let (with_flags, kinds) = found(&bytes);
        assert_eq!(with_flags, expected, "{name}, by flags");
        assert!(kinds.iter().all(|kind| *kind == StartKind::RandomAccess), "{name}");
        let (by_reading, kinds) = found(&without_flags(&bytes));
        assert_eq!(by_reading, expected, "{name}, by reading");
        assert!(kinds.iter().all(|kind| *kind == StartKind::Intra), "{name}");
    }
}

#[test]
fn an_open_group_of_pictures_starts_at_its_recovery_points() {
    let (starts, kinds) = found(&without_flags(&clip("open-gop")));
    assert!(starts.len() >= 2, "{starts:?}");
    assert!(kinds.iter().all(|kind| *kind == StartKind::Intra));
}

#[test]
fn radio_starts_at_audio_frames_about_half_a_second_apart() {
    let chunks = chunks(&clip("audio"));
    let starts: Vec<Duration> =
        chunks.iter().filter(|chunk| chunk.start.is_some()).map(|chunk| chunk.media).collect();
    assert!(starts.len() > 3, "{starts:?}");
    assert!(
        starts.windows(2).all(|pair| pair[1].saturating_sub(pair[0]) >= Duration::from_millis(500)),
        "{starts:?}"
    );
}
