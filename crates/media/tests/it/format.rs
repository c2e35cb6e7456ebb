//! What a stream is, against what the encoders of the clips were told, and on bytes that are none.

use std::sync::Arc;
use std::time::Duration;

use acemux_media::chunk::Chunker;
use acemux_media::format::{Details, Format, Scan};
use acemux_media::ts::packet::PACKET_LEN;
use proptest::prelude::*;

use crate::clips::{LIMITS, clip, without_flags};

/// By scripts/make-clips, and as ffprobe says.
const CLIPS: [(&str, &str); 5] = [
    ("h264", "100 h264 640x360 progressive 25, 101 aac 48000 2"),
    ("hevc", "100 hevc 320x180 progressive 25, 101 aac 48000 2"),
    ("mpeg2", "100 mpeg2video 320x180 progressive 25, 101 mpeg_audio 48000 2"),
    ("open-gop", "100 h264 320x180 progressive 25, 101 aac 48000 2"),
    ("audio", "100 aac 48000 2"),
];

fn described(format: &Format) -> String {
    let streams = format.streams.iter().map(|stream| {
        let details = match stream.details {
            Details::Unknown => "?".to_owned(),
            Details::Picture(picture) => {
                let rate = picture.rate.map_or_else(|| "?".to_owned(), |rate| rate.to_string());
                format!("{}x{} {} {rate}", picture.width, picture.height, picture.scan.as_str())
            }
            Details::Sound(sound) => {
                format!("{} {}", sound.sample_rate, sound.channels.map_or(0, |channels| channels))
            }
        };
        format!("{:x} {} {details}", stream.pid.get(), stream.coding.as_str())
    });
    streams.collect::<Vec<_>>().join(", ")
}

fn format_of(bytes: &[u8], read: usize) -> Arc<Format> {
    let (mut chunker, mut out) = (Chunker::new(LIMITS), Vec::new());
    for part in bytes.chunks(read) {
        chunker.push(part, Duration::ZERO, &mut out);
    }
    Arc::clone(chunker.format())
}

#[test]
fn every_clip_is_what_its_encoder_was_told() {
    for (name, expected) in CLIPS {
        let bytes = clip(name);
        assert_eq!(described(&format_of(&bytes, 65_536)), expected, "{name}");
        assert_eq!(described(&format_of(&without_flags(&bytes), 1_000)), expected, "{name}, without flags");
    }
}

#[test]
fn less_than_a_second_with_a_key_frame_is_enough() {
    let bytes = clip("h264");
    let first_frames = &bytes[..bytes.len() / 12];
    assert_eq!(described(&format_of(first_frames, 65_536)), CLIPS[0].1);
}

#[test]
fn another_source_with_another_format_replaces_it() {
    let (mut chunker, mut out) = (Chunker::new(LIMITS), Vec::new());
    for (name, expected) in CLIPS {
        chunker.restart();
        chunker.push(&clip(name), Duration::ZERO, &mut out);
        assert_eq!(described(chunker.format()), expected, "{name}");
    }
}

#[test]
fn the_same_stream_is_told_once() {
    let (mut chunker, mut out) = (Chunker::new(LIMITS), Vec::new());
    let bytes = clip("h264");
    chunker.push(&bytes, Duration::ZERO, &mut out);
    let first = Arc::clone(chunker.format());
    chunker.push(&bytes, Duration::ZERO, &mut out);
    assert!(Arc::ptr_eq(&first, chunker.format()));
}

fn is_plausible(format: &Format) -> bool {
    format.streams.iter().all(|stream| match stream.details {
        Details::Unknown => true,
        Details::Picture(picture) => {
            let scan = matches!(picture.scan, Scan::Progressive | Scan::Interlaced);
            scan && (1..=16_384).contains(&picture.width) && (1..=16_384).contains(&picture.height)
        }
        Details::Sound(sound) => sound.sample_rate <= 96_000 && sound.channels.is_none_or(|count| count <= 8),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Damage in payloads, so that the tables stay readable and the headers are what is hit.
    #[test]
    fn damaged_headers_give_plausible_figures_or_none(
        which in 0..CLIPS.len(),
        hits in prop::collection::vec((0..400_usize, 4..PACKET_LEN, any::<u8>()), 1..200),
    ) {
        let mut bytes = clip(CLIPS[which].0);
        bytes.truncate(400 * PACKET_LEN);
        for (packet, at, value) in hits {
            if let Some(byte) = bytes.get_mut(packet * PACKET_LEN + at) {
                *byte = value;
            }
        }
        prop_assert!(is_plausible(&format_of(&bytes, 10_000)));
    }
}
