//! Real codecs: the clips that the simulator plays. A start point is where the encoder put a key frame.

use std::process::Command;
use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::PACKET_LEN;

use crate::builder::strict;

/// Where the packets of key frames begin, as ffprobe says: new clips need new ones.
const KEY_FRAMES: [(&str, &[usize]); 4] = [
    ("h264", &[564, 480_152, 960_116, 1_440_080, 1_920_044]),
    ("hevc", &[564, 120_132, 240_076]),
    ("mpeg2", &[564, 113_740, 220_148, 330_128, 440_108, 550_088]),
    ("open-gop", &[564, 168_072, 336_144, 504_028, 672_100]),
];

pub(crate) const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 65_536, max_hold: Duration::from_mins(1) };

pub(crate) fn path(name: &str) -> String {
    format!("{}/../sim/clips/{name}.ts", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn clip(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the clips are in the repository")
}

pub(crate) fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunker = Chunker::new(LIMITS);
    let mut out = Vec::new();
    chunker.push(bytes, Duration::ZERO, &mut out);
    chunker.seal(Duration::ZERO, &mut out);
    assert_eq!(chunker.stats().continuity_errors, 0);
    out
}

pub(crate) fn without_flags(bytes: &[u8]) -> Vec<u8> {
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

/// What ffprobe takes for the key frames of a file; `None` without ffprobe.
fn probed(path: &str) -> Option<Vec<usize>> {
    let arguments = "-v error -select_streams v -show_entries packet=pos,flags -of csv=p=0";
    let output = Command::new("ffprobe").args(arguments.split(' ')).arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).expect("ffprobe writes text");
    let lines = text.lines().filter_map(|line| line.split_once(','));
    let key_frames = lines.filter(|(_, flags)| flags.starts_with('K'));
    Some(key_frames.map(|(position, _)| position.parse().expect("a position is a number")).collect())
}

#[test]
fn key_frames_are_found_by_their_flags_and_without_any_flag_in_the_video_itself() {
    for (name, expected) in KEY_FRAMES {
        let bytes = clip(name);
        let (by_flag, kinds) = found(&bytes);
        assert_eq!(by_flag, expected, "{name}, by flags");
        assert!(kinds.iter().all(|kind| *kind == StartKind::RandomAccess), "{name}");
        let (by_reading, kinds) = found(&without_flags(&bytes));
        assert_eq!(by_reading, expected, "{name}, by reading");
        assert!(kinds.iter().all(|kind| *kind == StartKind::Intra), "{name}");
    }
}

#[test]
fn ffprobe_finds_the_same_key_frames() {
    for (name, expected) in KEY_FRAMES {
        match probed(&path(name)) {
            Some(key_frames) => assert_eq!(key_frames, expected, "{name}"),
            None => println!("skipped: there is no ffprobe"),
        }
    }
}

#[test]
fn one_real_stream_is_joined_anywhere_and_continues_another_with_every_jump_announced() {
    let (mut chunker, mut out, mut first) = (Chunker::new(LIMITS), Vec::new(), Vec::new());
    for name in ["h264", "hevc", "audio", "mpeg2", "open-gop"] {
        chunker.restart();
        first.push(out.len());
        chunker.push(&clip(name), Duration::ZERO, &mut out);
        chunker.seal(Duration::ZERO, &mut out);
    }
    let joined = |chunks: &[Chunk]| chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect::<Vec<u8>>();
    assert_eq!(strict(&joined(&out)).unannounced_jumps, [0_u16; 0]);
    for range in first.windows(2) {
        let stream = &out[range[0]..range[1]];
        for n in (0..stream.len()).filter(|n| stream[*n].start.is_some()).take(3) {
            let prelude = stream[n].start.as_ref().map(|start| start.join_prelude().to_vec());
            let seen = [prelude.unwrap_or_default(), joined(&stream[n..])].concat();
            assert_eq!(strict(&seen).unannounced_jumps, [0_u16; 0]);
        }
    }
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
