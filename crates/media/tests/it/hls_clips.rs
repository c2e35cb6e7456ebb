//! Real codecs as HLS: every segment can be played by itself, and all of them are the clip.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use acemux_media::chunk::Chunker;
use acemux_media::clock::Moment;
use acemux_media::hls::{Playlist, PlaylistLimits, Segment, SegmentLimits};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{Packet, Pid};
use acemux_media::ts::programs::Tables;

use crate::builder::strict;
use crate::clips::{LIMITS, chunks, clip, path, without_flags};
use crate::hls_rules::Rules;
use crate::hls_stream::cut;

const CLIPS: [&str; 5] = ["h264", "hevc", "mpeg2", "open-gop", "audio"];

fn joined(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|segment| segment.parts.concat()).collect()
}

/// The first packets that are no tables, behind tables that describe a programme.
fn first_behind_tables(segment: &Segment) -> Vec<u8> {
    let bytes = segment.parts.concat();
    let packets = || bytes.chunks(188).map(|packet| Packet::parse(packet).expect("a packet"));
    assert_eq!(packets().next().map(Packet::pid), Some(Pid::PAT));
    let mut tables = Tables::default();
    let used =
        packets().position(|packet| tables.take(packet, Moment::default()) && tables.program().is_some());
    let used = used.expect("PAT and PMT come first") + 1;
    assert_eq!(used * 188, segment.parts[0].len(), "and nothing else before them");
    bytes[used * 188..][..188].to_vec()
}

#[test]
fn every_segment_begins_with_tables_and_a_key_frame() {
    for name in CLIPS {
        let chunks = chunks(&clip(name));
        let segments = cut(&chunks, SegmentLimits::default());
        assert!(segments.len() > 1, "{name}");
        for segment in &segments {
            let first = first_behind_tables(segment);
            let first = Packet::parse(&first).expect("a packet");
            let expected = if name == "audio" { StartKind::Audio } else { StartKind::RandomAccess };
            assert_eq!(segment.start, Some(expected), "{name}");
            assert!(first.starts_unit() && (name == "audio" || first.is_random_access()), "{name}");
            assert_eq!(strict(&segment.parts.concat()).unannounced_jumps, [0_u16; 0], "{name}");
        }
        let sent: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        let got: Vec<u8> = segments.iter().flat_map(|segment| segment.parts[1..].concat()).collect();
        assert!(got == sent, "{name}");
    }
}

#[test]
fn without_flags_the_cuts_are_the_same() {
    for name in ["h264", "hevc", "mpeg2", "open-gop"] {
        let cuts = |bytes: &[u8]| -> Vec<(usize, Duration)> {
            let segments = cut(&chunks(bytes), SegmentLimits::default());
            segments.iter().map(|segment| (segment.size(), segment.duration)).collect()
        };
        let bytes = clip(name);
        assert_eq!(cuts(&bytes), cuts(&without_flags(&bytes)), "{name}");
    }
}

#[test]
fn a_player_that_goes_from_segment_to_segment_sees_no_jump_even_where_they_begin_without_key_frame() {
    let [least, most] = [300, 700].map(Duration::from_millis);
    for (name, limits) in CLIPS.into_iter().flat_map(|name| {
        let short = SegmentLimits { least, target: least, most, ..SegmentLimits::default() };
        [(name, SegmentLimits::default()), (name, short)]
    }) {
        let segments = cut(&chunks(&clip(name)), limits);
        assert_eq!(strict(&joined(&segments)).unannounced_jumps, [0_u16; 0], "{name}");
        let inside = segments.iter().filter(|segment| segment.start.is_none()).count();
        // The others have key frames every half a second.
        let sparse = ["h264", "hevc", "open-gop"].contains(&name);
        assert_eq!(inside > 0, limits.most == most && sparse, "{name}: {inside}");
        assert!(
            segments.iter().all(|segment| segment.parts[0].len() == segments[0].parts[0].len()),
            "{name}"
        );
    }
}

#[test]
fn sources_that_follow_each_other_are_discontinuities_in_a_playlist_that_keeps_the_rules() {
    let (mut chunker, mut out) = (Chunker::new(LIMITS), Vec::new());
    for name in CLIPS.into_iter().cycle().take(20) {
        chunker.restart();
        chunker.push(&clip(name), Duration::ZERO, &mut out);
        chunker.seal(Duration::ZERO, &mut out);
    }
    let segments = cut(&out, SegmentLimits::default());
    let breaks: Vec<&Segment> = segments.iter().filter(|segment| segment.discontinuity).collect();
    assert_eq!(breaks.len(), 19);
    assert!(breaks.iter().all(|segment| segment.start.is_some()));
    let (mut playlist, mut rules) = (Playlist::new(PlaylistLimits::default()), Rules::default());
    let mut now = Duration::ZERO;
    for segment in segments {
        now += segment.duration;
        playlist.push(segment, now);
        playlist.expire(now);
        assert_eq!(rules.check(&playlist.text(|number| format!("{number}.ts")), now), []);
    }
    assert_eq!(playlist.target_duration(), Duration::from_secs(6));
}

/// Packets of the first stream as ffprobe counts them, and what it complains about; `None` without ffprobe.
fn probed(path: &Path) -> Option<(String, String)> {
    let arguments =
        "-v warning -select_streams 0 -count_packets -show_entries stream=nb_read_packets -of csv=p=0";
    let output = Command::new("ffprobe").args(arguments.split(' ')).arg(path).output().ok()?;
    let text = |bytes| String::from_utf8(bytes).expect("ffprobe writes text");
    let count = text(output.stdout).lines().next().unwrap_or_default().trim_end_matches(',').to_owned();
    Some((count, text(output.stderr)))
}

/// Writes a recording of `segments` for players that read files.
fn write(name: &str, segments: Vec<Segment>) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hls-{name}"));
    std::fs::create_dir_all(&directory).expect("a directory for tests");
    let limits = PlaylistLimits { least_listed: usize::MAX, ..PlaylistLimits::default() };
    let mut playlist = Playlist::new(limits);
    for segment in segments {
        std::fs::write(directory.join(format!("{}.ts", segment.number)), segment.parts.concat())
            .expect("a file");
        playlist.push(segment, Duration::ZERO);
    }
    playlist.end();
    let path = directory.join("index.m3u8");
    std::fs::write(&path, playlist.text(|number| format!("{number}.ts"))).expect("a file");
    path
}

#[test]
fn ffprobe_finds_every_frame_of_the_clip_in_the_playlist() {
    for name in CLIPS {
        let segments = cut(&chunks(&clip(name)), SegmentLimits::default());
        let Some((expected, _)) = probed(Path::new(&path(name))) else {
            println!("skipped: there is no ffprobe");
            return;
        };
        let (found, complaints) = probed(&write(name, segments)).expect("it was there before");
        assert_eq!(found, expected, "{name}");
        assert_eq!(complaints, "", "{name}");
    }
}
