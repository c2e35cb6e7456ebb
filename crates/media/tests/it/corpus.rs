//! What ffmpeg encodes, in every codec that broadcasters use: wherever somebody joins, and in every segment, a decoder
//! complains of nothing that it does not complain of in the clip itself, and shows a picture as soon.
//!
//! A set of clips in which every two choices meet is made for each run; all of them take an hour, in `./scripts/test --long`.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::hls::{SegmentLimits, Segmenter};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::section::{crc32, packets_of};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 65_536, max_hold: Duration::from_millis(60) };
/// Most clips of a run.
const MOST: usize = 40;
/// Joins of each kind.
const JOINS: usize = 5;
/// How much of the stream after a join is decoded, in bytes.
const DECODED: usize = 640 * PACKET_LEN;
/// How much later than ffprobe's the first picture may be.
const LATE: f64 = 0.1;

const VIDEO: [(&str, &str); 4] = [
    ("h264", "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"),
    ("hevc", "-c:v libx265 -preset ultrafast"),
    ("mpeg2", "-c:v mpeg2video -b:v 300k -bf 2"),
    ("mpeg1", "-c:v mpeg1video -b:v 300k -bf 2"),
];
const AUDIO: [(&str, &str); 9] = [
    ("aac", "-c:a aac"),
    ("latm", "-c:a aac -mpegts_flags latm"),
    ("ac3", "-c:a ac3"),
    ("eac3", "-c:a eac3"),
    ("mp2", "-c:a mp2"),
    ("mp3", "-c:a libmp3lame"),
    ("opus", "-c:a libopus"),
    ("dts", "-c:a dca -strict -2"),
    ("s302m", "-c:a s302m -strict -2"),
];
/// Type in the PMT, and descriptors.
const DATA: [(&str, u8, &[u8]); 4] = [
    ("teletext", 0x06, &[0x56, 5, b'd', b'e', b'u', 0x09, 0]),
    ("subtitles", 0x06, &[0x59, 8, b'e', b'n', b'g', 0x10, 0, 1, 0, 1]),
    ("scte35", 0x86, &[0x05, 4, b'C', b'U', b'E', b'I']),
    ("klv", 0x06, &[0x05, 4, b'K', b'L', b'V', b'A']),
];
/// Frames at 25 a second.
const GROUP: [(&str, usize); 3] = [("0.5", 12), ("2", 50), ("12", 300)];
const KIND: [&str; 4] = ["open", "closed", "refresh", "interlaced"];
const SIZES: [usize; 5] = [VIDEO.len(), AUDIO.len(), DATA.len(), GROUP.len(), KIND.len()];

/// A choice of each.
type Row = [usize; 5];

fn pairs(row: Row) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..5).flat_map(move |a| (a + 1..5).map(move |b| (a, row[a], b, row[b])))
}

fn all() -> Vec<Row> {
    let mut rows = vec![[0; 5]];
    for (factor, size) in SIZES.into_iter().enumerate() {
        let with = |row: &Row, value| {
            let mut row = *row;
            row[factor] = value;
            row
        };
        rows = rows.iter().flat_map(|row| (0..size).map(move |value| with(row, value))).collect();
    }
    rows
}

/// Rows in which every two choices meet: always the one next that brings most new pairs.
fn pairwise() -> Vec<Row> {
    let all = all();
    let mut missing: BTreeSet<_> = all.iter().flat_map(|row| pairs(*row)).collect();
    let mut rows = Vec::new();
    while !missing.is_empty() {
        let gain = |row: &&Row| pairs(**row).filter(|pair| missing.contains(pair)).count();
        // Of equals the last one.
        let best = *all.iter().max_by_key(gain).expect("there are rows");
        for pair in pairs(best) {
            missing.remove(&pair);
        }
        rows.push(best);
    }
    rows
}

fn name(row: Row) -> String {
    let [video, audio, data, group, kind] = row;
    format!("{} {} {} {} s {}", VIDEO[video].0, AUDIO[audio].0, DATA[data].0, GROUP[group].0, KIND[kind])
}

/// What of the kinds a codec has.
fn kind_of(video: usize, kind: usize) -> &'static str {
    match (VIDEO[video].0, KIND[kind]) {
        ("h264", "open") => "-x264-params open-gop=1:bframes=2:scenecut=0",
        ("h264", "refresh") => "-x264-params intra-refresh=1:bframes=0:scenecut=0",
        ("h264", "interlaced") => "-flags +ildct+ilme -x264-params tff=1:scenecut=0",
        ("h264", _) => "-x264-params open-gop=0:bframes=2:scenecut=0",
        ("hevc", "open") => "-x265-params open-gop=1:bframes=2:scenecut=0:log-level=none",
        ("hevc", "refresh") => "-x265-params intra-refresh=1:bframes=0:scenecut=0:log-level=none",
        ("hevc", "interlaced") => "-x265-params interlace=tff:open-gop=0:scenecut=0:log-level=none",
        ("hevc", _) => "-x265-params open-gop=0:bframes=2:scenecut=0:log-level=none",
        (_, "open") => "-sc_threshold 1000000000",
        ("mpeg2", "interlaced") => "-flags +ildct+ilme+cgop -sc_threshold 1000000000",
        _ => "-flags +cgop -sc_threshold 1000000000",
    }
}

fn encode(row: Row) -> Vec<u8> {
    let [video, audio, data, group, kind] = row;
    let frames = GROUP[group].1;
    // So long that a second group begins.
    let seconds = if frames > 100 { 14 } else { 7 };
    let height = if KIND[kind] == "interlaced" { 96 } else { 90 };
    let inputs = format!(
        "-v error -f lavfi -i testsrc2=s=160x{height}:r=25:d={seconds} -f lavfi -i sine=f=440:r=48000:d={seconds} -ac 2"
    );
    let codecs = format!("{} -g {frames} {} {}", VIDEO[video].1, kind_of(video, kind), AUDIO[audio].1);
    let arguments = format!("{inputs} {codecs} -threads 1 -f mpegts -");
    let output = Command::new("ffmpeg").args(arguments.split_whitespace()).output().expect("there is ffmpeg");
    assert!(output.status.success(), "{}: {}", name(row), String::from_utf8_lossy(&output.stderr));
    with_data(&output.stdout, data)
}

/// The clip with a stream of data in its PMT, a packet of it every hundred.
fn with_data(clip: &[u8], data: usize) -> Vec<u8> {
    const STREAM: u16 = 0x150;
    let (_, kind, descriptors) = DATA[data];
    let mut out = Vec::new();
    for (n, raw) in clip.chunks(PACKET_LEN).enumerate() {
        let packet = Packet::parse(raw).expect("whole packets");
        if packet.pid().get() == 0x1000 {
            let payload = packet.payload();
            let length = 3 + usize::from(u16::from_be_bytes([payload[2], payload[3]]) & 0x0fff);
            let mut section = payload[1..=length - 4].to_vec();
            let [high, low] = STREAM.to_be_bytes();
            let size = u8::try_from(descriptors.len()).expect("few");
            section.extend([kind, 0xe0 | high, low, 0xf0, size]);
            section.extend(descriptors);
            let [high, low] = u16::try_from(section.len() + 1).expect("short").to_be_bytes();
            (section[1], section[2]) = (0xb0 | high, low);
            section.extend(crc32(&section).to_be_bytes());
            let mut packets = packets_of(packet.pid(), &section);
            packets[3] |= packet.continuity();
            out.extend(packets);
        } else {
            out.extend(raw);
        }
        if n % 100 == 50 {
            let [high, low] = STREAM.to_be_bytes();
            let counter = u8::try_from(n / 100 % 16).expect("four bits");
            let start = out.len();
            out.extend([0x47, 0x40 | high, low, 0x10 | counter, 0, 0, 1, 0xbd, 0, 178, 0x80, 0, 0]);
            out.resize(start + PACKET_LEN, 0xff);
        }
    }
    out
}

/// Several times as fast as it plays, in reads of 16 KiB.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let (mut chunker, mut out, mut now) = (Chunker::new(LIMITS), Vec::new(), Duration::ZERO);
    for read in bytes.chunks(16 * 1024) {
        now += Duration::from_millis(60);
        chunker.push(read, now, &mut out);
    }
    while let Some(at) = chunker.seal_at() {
        chunker.seal(at, &mut out);
    }
    out
}

/// What who joins there gets, as much as is decoded of it.
fn from(chunks: &[Chunk], at: usize) -> Option<Vec<u8>> {
    let mut seen = all_from(chunks, at)?;
    seen.truncate(DECODED);
    Some(seen)
}

fn all_from(chunks: &[Chunk], at: usize) -> Option<Vec<u8>> {
    let prelude = chunks.get(at)?.start.as_ref()?.join_prelude();
    let media = chunks[at..].iter().flat_map(|chunk| chunk.bytes.iter());
    Some(prelude.iter().chain(media).copied().collect())
}

/// As much as is decoded of a join, and a little more.
fn beginning(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(DECODED + DECODED / 4)]
}

/// Without the last unit of each stream, which is cut off in the middle.
fn whole_units(bytes: &[u8]) -> Vec<u8> {
    let packets: Vec<Packet<'_>> = bytes.chunks(PACKET_LEN).filter_map(Packet::parse).collect();
    let mut last = HashMap::new();
    for (n, packet) in packets.iter().enumerate().filter(|(_, packet)| packet.starts_unit()) {
        last.insert(packet.pid(), n);
    }
    let is_whole = |n: usize, packet: &Packet<'_>| {
        let is_table = [0, 0x1000].contains(&packet.pid().get());
        is_table || last.get(&packet.pid()).is_some_and(|last| n < *last)
    };
    let whole = packets.iter().enumerate().filter(|(n, packet)| is_whole(*n, packet));
    whole.flat_map(|(_, packet)| *packet.bytes()).collect()
}

fn run(program: &str, arguments: &str, input: &[u8]) -> (String, String) {
    let mut command = Command::new(program);
    command
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("there is ffmpeg");
    let mut pipe = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // It may stop reading before all is written.
    let writer = thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it writes");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}

/// Without addresses, numbers and what counts repetitions.
fn complaints(bytes: &[u8]) -> BTreeSet<String> {
    let (_, said) = run("ffmpeg", "-v error -threads 1 -i - -f null -", bytes);
    let is_said = |line: &&str| !line.trim().is_empty() && !line.contains("Last message repeated");
    let plain = |line: &str| {
        let words = line.split(']').next_back().unwrap_or(line);
        words
            .chars()
            .filter(|letter| !letter.is_ascii_digit() && *letter != '-')
            .collect::<String>()
            .trim()
            .to_owned()
    };
    said.lines().filter(is_said).map(plain).collect()
}

/// When the first picture is shown that needs no other: with the parameter sets of later ones ffprobe shows what it can make
/// of those before.
fn first_picture(bytes: &[u8]) -> Option<f64> {
    let entries = "frame=key_frame,best_effort_timestamp_time";
    let arguments = format!("-v quiet -select_streams v:0 -show_entries {entries} -of csv=p=0 -");
    let (times, _) = run("ffprobe", &arguments, beginning(bytes));
    let key = times.lines().find_map(|line| line.strip_prefix("1,"));
    key.and_then(|time| time.trim_end_matches(',').split(',').next()?.parse().ok())
}

/// From the first PAT on: ffprobe reads the tables first and then goes back to what came before them.
fn from_tables(bytes: &[u8]) -> &[u8] {
    let is_list = |packet: &[u8]| Packet::parse(packet).is_some_and(|packet| packet.pid() == Pid::PAT);
    let first = bytes.chunks(PACKET_LEN).position(is_list).unwrap_or_default();
    &bytes[first * PACKET_LEN..]
}

/// What is wrong with a clip; nothing, if all is well.
fn faults(row: Row) -> Vec<String> {
    let bytes = encode(row);
    let known = complaints(&bytes);
    let whole = chunks(&bytes);
    let mut faults = Vec::new();
    let mut check = |what: String, seen: &[u8], also_known: &BTreeSet<String>| {
        let is_new = |line: &String| !known.contains(line) && !also_known.contains(line);
        let new: Vec<_> = complaints(&whole_units(seen)).into_iter().filter(is_new).collect();
        if !new.is_empty() {
            faults.push(format!("{}, {what}: {new:?}", name(row)));
        }
    };
    let starts: Vec<usize> = (0..whole.len()).filter(|at| whole[*at].start.is_some()).collect();
    // A decoder misses the pictures that an open group refers to, wherever it begins: as it does in the clip, seen from there.
    let from_there = |at: usize| {
        let before: usize = whole[..at].iter().map(|chunk| chunk.bytes.len()).sum();
        let skipped = bytes.len() - whole.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
        let refers_back = matches!(KIND[row[4]], "open" | "refresh");
        let seen = &bytes[skipped + before..];
        refers_back.then(|| complaints(&[&bytes[..3 * PACKET_LEN], beginning(seen)].concat()))
    };
    for n in 0..JOINS.min(starts.len()) {
        let at = starts[n * starts.len() / JOINS.min(starts.len())];
        let seen = from(&whole, at).expect("a start point");
        check(format!("warm join {n}"), &seen, &from_there(at).unwrap_or_default());
    }
    let (mut segmenter, mut segments) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    for chunk in &whole {
        segmenter.push(chunk, &mut segments);
    }
    segments.extend(segmenter.finish());
    for segment in segments.iter().filter(|segment| segment.start.is_some()) {
        let begins = |at: &usize| whole[*at].bytes.as_ptr() == segment.parts[1].as_ptr();
        let at = starts.iter().copied().find(begins).expect("a segment shares the chunks' bytes");
        let also_known = from_there(at).unwrap_or_default();
        check(format!("segment {}", segment.number), &segment.parts.concat(), &also_known);
    }
    let mut cold = Vec::new();
    for n in 0..JOINS {
        // The last one where only a short group would still begin.
        let offset = bytes.len() * n / (JOINS + 3) / PACKET_LEN * PACKET_LEN;
        let bare = &bytes[offset..];
        let chunks = chunks(bare);
        let seen = all_from(&chunks, 0);
        // In a group of twelve seconds it begins where nothing is decoded yet, and a decoder says so until the next picture
        // that needs no other.
        let is_key =
            |chunk: &Chunk| chunk.start.as_ref().is_some_and(|start| start.kind() != StartKind::Unindexed);
        if let Some(seen) = chunks.iter().position(is_key).and_then(|at| all_from(&chunks, at)) {
            check(format!("cold join {n}"), &seen, &complaints(&whole_units(bare)));
        }
        cold.push((n, seen.and_then(|seen| first_picture(&seen)), first_picture(from_tables(bare))));
    }
    for (n, ours, bare) in cold {
        let is_late = bare.is_some_and(|bare| ours.is_none_or(|ours| ours > bare + LATE));
        if is_late {
            faults.push(format!("{}, cold join {n}: shown at {ours:?} and not at {bare:?}", name(row)));
        }
    }
    if whole.first().is_none_or(|first| first.start.is_none()) {
        faults.push(format!("{}: it does not start", name(row)));
    }
    faults
}

/// On two cores.
fn examine(rows: &[Row]) {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut found = Vec::new();
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let faults = faults(*row);
            println!("{}: {faults:?}", name(*row));
            found.extend(faults);
        }
        found
    };
    let found = thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.map(|worker| worker.join().expect("every clip is examined")).concat()
    });
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_two_choices_meet_in_a_set_that_is_small_enough() {
    let rows = pairwise();
    assert!(rows.len() <= MOST, "{}", rows.len());
}

#[test]
fn whoever_joins_anywhere_decodes_what_was_encoded() {
    examine(&pairwise());
}

#[test]
#[ignore = "an hour: ./scripts/test --long"]
fn all_of_them_at_full_length() {
    let all = all();
    // Far apart in the list, so that a run that is cut short has seen some of everything. It has no factor in common with 1728.
    let stride = 1013;
    let rows: Vec<Row> = (0..all.len()).map(|n| all[n * stride % all.len()]).collect();
    assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), all.len());
    examine(&rows);
}
