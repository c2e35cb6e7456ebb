//! What broadcasters really send, each kind with several inputs: the programme is found, and whoever joins or fetches a
//! segment begins where a decoder can.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use acemux_media::chunk::{Awaited, Chunk, ChunkLimits, Chunker};
use acemux_media::clock::ClockSource;
use acemux_media::continuation::Past;
use acemux_media::format::Format;
use acemux_media::hls::{Segment, SegmentLimits, Segmenter};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::section::{crc32, packets_of};
use proptest::prelude::*;

use crate::builder::strict;
use crate::clips::clip;
use crate::remux::{AUDIO, PMT, Unit, VIDEO, demux, kind, mux, nals, pat, pmt, recount, tables, video_of};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 65_536, max_hold: Duration::from_millis(60) };
/// Descriptors that name private data.
const NAMED: fn(&[u8; 4]) -> Vec<u8> = |name| [&[5, 4][..], name].concat();

/// What came out of one stream.
struct Received {
    chunks: Vec<Chunk>,
    awaited: Awaited,
    wrong_checksums: u64,
    clock: ClockSource,
    media: Duration,
    format: Arc<Format>,
}

/// Fed in reads of 16 KiB that take as long as `bytes_per_second` says.
fn receive(bytes: &[u8], bytes_per_second: usize) -> Received {
    let (mut chunker, mut chunks, mut now) = (Chunker::new(LIMITS), Vec::new(), Duration::ZERO);
    for read in bytes.chunks(16 * 1024) {
        now += Duration::from_secs(1) * u32::try_from(read.len()).expect("a small number of something")
            / u32::try_from(bytes_per_second).expect("a small number of something");
        while let Some(at) = chunker.seal_at().filter(|at| *at <= now) {
            chunker.seal(at, &mut chunks);
        }
        chunker.push(read, now, &mut chunks);
    }
    let (awaited, condition, media) = (chunker.awaited(), chunker.condition(), chunker.media_time());
    let format = Arc::clone(chunker.format());
    while let Some(at) = chunker.seal_at() {
        chunker.seal(at, &mut chunks);
    }
    Received {
        chunks,
        awaited,
        wrong_checksums: condition.wrong_checksums,
        clock: condition.clock,
        media,
        format,
    }
}

/// At about twice the speed at which it plays.
fn at_once(bytes: &[u8]) -> Received {
    receive(bytes, 500_000)
}

fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// What somebody is given who joins at each start point.
fn joins(chunks: &[Chunk]) -> Vec<Vec<u8>> {
    let starts = (0..chunks.len()).filter_map(|at| Some((at, chunks[at].start.as_ref()?)));
    let seen = |at: usize| joined(&chunks[at..chunks.len().min(at + 8)]);
    starts.map(|(at, start)| [start.join_prelude().to_vec(), seen(at)].concat()).collect()
}

/// Whether a decoder of H.264 shows the first picture of the first unit, or behind pictures it cannot show a later one of
/// the same unit.
fn can_start(seen: &[u8], pid: u16) -> bool {
    let stream = video_of(&seen[..seen.len().min(PACKET_LEN * 2000)], pid);
    let kinds: Vec<u8> = nals(&stream).into_iter().map(kind).collect();
    let first = kinds.iter().position(|kind| *kind == 5);
    first.is_some_and(|first| [7, 8].iter().all(|set| kinds[..first].contains(set)))
}

/// Slices before the first key picture of what is seen.
fn before_the_key(seen: &[u8]) -> usize {
    let stream = video_of(&seen[..seen.len().min(PACKET_LEN * 2000)], VIDEO);
    nals(&stream).into_iter().map(kind).take_while(|kind| *kind != 5).filter(|kind| *kind == 1).count()
}

fn segments(chunks: &[Chunk]) -> Vec<Segment> {
    let (mut segmenter, mut out) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    for chunk in chunks {
        segmenter.push(chunk, &mut out);
    }
    out.extend(segmenter.finish());
    out
}

fn once() -> Vec<Unit> {
    static UNITS: LazyLock<Vec<Unit>> = LazyLock::new(|| demux(&clip("h264")));
    UNITS.clone()
}

/// The clip with key pictures every 1.92 s, five of them; twice in a row.
fn units() -> Vec<Unit> {
    let once = once();
    let again = once.iter().cloned().map(|unit| {
        let at = unit.at + 864_000;
        Unit { at, pcr: unit.pcr.map(|pcr| pcr + 864_000), ..unit }
    });
    once.iter().cloned().chain(again.collect::<Vec<_>>()).collect()
}

/// Every join and every segment is shown from its first picture on, and `slices` are before it at most.
fn assert_starts(bytes: &[u8], expected: usize, slices: usize, what: &str) -> Received {
    let received = at_once(bytes);
    let joins = joins(&received.chunks);
    assert_eq!(joins.len(), expected, "{what}: start points");
    for (n, seen) in joins.iter().enumerate() {
        assert!(can_start(seen, VIDEO), "{what}: join {n}");
        assert!(before_the_key(seen) <= slices, "{what}: join {n}, {} before", before_the_key(seen));
        assert_eq!(strict(seen).unannounced_jumps, [0_u16; 0], "{what}: join {n}");
    }
    // Where the clock jumps a segment must end.
    let segments = if what.contains("jumps") { Vec::new() } else { segments(&received.chunks) };
    for segment in segments {
        assert!(can_start(&segment.parts.concat(), VIDEO), "{what}: segment {}", segment.number);
    }
    received
}

#[test]
fn flags_are_a_hint_that_the_video_is_asked_about() {
    for (what, flag) in [
        ("on every picture", (|_, _| true) as fn(usize, bool) -> bool),
        ("on none", |_, _| false),
        ("on every fifth picture", |n, _| n % 5 == 0),
        ("on the picture after the key picture", |n, _| n % 48 == 1),
        ("where they belong", |_, is_key| is_key),
    ] {
        let mut units = units();
        for (n, unit) in units.iter_mut().filter(|unit| unit.pid == VIDEO).enumerate() {
            unit.flag = flag(n, unit.is_key);
        }
        assert_starts(&mux(&units, &tables()), 10, 0, what);
    }
}

/// The pictures of so many access units in one.
fn in_one(units: &[Unit], count: usize, from: usize) -> Vec<Unit> {
    let (video, mut all): (Vec<Unit>, Vec<Unit>) = units.iter().cloned().partition(|unit| unit.pid == VIDEO);
    for group in video[from..].chunks(count) {
        let content = group.iter().flat_map(|unit| unit.content.clone()).collect();
        all.push(Unit { content, is_key: false, flag: false, ..group[0].clone() });
    }
    all.sort_by_key(|unit| unit.at);
    all
}

#[test]
fn the_key_picture_may_be_anywhere_in_a_unit_of_many_pictures() {
    for (count, from) in [(25, 0), (25, 24), (48, 1), (48, 47), (12, 5), (2, 1), (7, 3)] {
        let bytes = mux(&in_one(&units(), count, from), &tables());
        // Those whose key picture was cut off at the beginning are one less.
        assert_starts(&bytes, if from == 0 { 10 } else { 9 }, count, &format!("{count} from {from}"));
    }
}

/// The pictures' bytes in units of so many.
fn cut(units: &[Unit], size: usize) -> Vec<Unit> {
    let (video, mut all): (Vec<Unit>, Vec<Unit>) = units.iter().cloned().partition(|unit| unit.pid == VIDEO);
    let stream: Vec<(u64, u8)> =
        video.iter().flat_map(|unit| unit.content.iter().map(|byte| (unit.at, *byte))).collect();
    for piece in stream.chunks(size) {
        let at = piece[0].0;
        let content = piece.iter().map(|(_, byte)| *byte).collect();
        let pcr = Some(at.saturating_sub(63_000));
        all.push(Unit { pid: VIDEO, content, at, pcr, ..Unit::default() });
    }
    all.sort_by_key(|unit| unit.at);
    all
}

/// How much of a stream whoever watches has not got yet, in media time, at most; once `since` of it has come.
fn longest_wait(bytes: &[u8], since: Duration) -> Duration {
    // Four microseconds a byte: 250 kB a second.
    let (mut chunker, mut chunks, mut waits) = (Chunker::new(LIMITS), Vec::new(), Vec::new());
    let time_of = |bytes: usize| Duration::from_micros(4) * u32::try_from(bytes).expect("a short stream");
    for (n, read) in bytes.chunks(10 * PACKET_LEN).enumerate() {
        let now = time_of((n + 1) * 10 * PACKET_LEN);
        while let Some(at) = chunker.seal_at().filter(|at| *at <= now) {
            chunker.seal(at, &mut chunks);
        }
        chunker.push(read, now, &mut chunks);
        let given: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        if now >= since && !chunks.is_empty() {
            waits.push((now + time_of(bytes.len() - given)).saturating_sub(time_of(bytes.len())));
        }
    }
    // What came before the first start point was given to nobody.
    let never = waits.iter().min().copied().expect("it plays");
    waits.into_iter().map(|wait| wait.saturating_sub(never)).max().unwrap_or_default()
}

#[test]
fn nobody_is_kept_waiting_for_start_points_that_there_are_not() {
    let unreadable = |unit: &mut Unit| unit.content.fill(0xff);
    let without_sets = |unit: &mut Unit| {
        let is_set = |nal: &&[u8]| matches!(kind(nal), 7 | 8);
        let kept: Vec<u8> =
            nals(&unit.content).iter().filter(|nal| !is_set(nal)).flat_map(|nal| nal.to_vec()).collect();
        unit.content = kept;
    };
    for (what, change) in [("unreadable", &unreadable as &dyn Fn(&mut Unit)), ("without sets", &without_sets)]
    {
        let mut many = in_one(&units(), 48, 0);
        for unit in many.iter_mut().filter(|unit| unit.pid == VIDEO) {
            unit.flag = false;
            change(unit);
        }
        let wait = longest_wait(&mux(&many, &tables()), Duration::from_secs(8));
        assert!(wait < Duration::from_millis(350), "{what}: {wait:?}");
    }
}

#[test]
fn units_may_be_cut_anywhere() {
    let video = units().into_iter().filter(|unit| unit.pid == VIDEO);
    let stream: Vec<u8> = video.flat_map(|unit| unit.content).collect();
    let first_set = |stream: &[u8], wanted: u8| {
        let set = nals(stream).into_iter().find(|nal| kind(nal) == wanted).expect("it is there");
        set.iter().copied().skip_while(|byte| *byte < 2).collect::<Vec<u8>>()
    };
    // The first two cut a set in its middle.
    for size in [2_027, 2_334, 3_000, 30_000, 65_000] {
        let received = at_once(&mux(&cut(&units(), size), &tables()));
        let joins = joins(&received.chunks);
        assert!(joins.len() >= 8, "units of {size}: {} joins", joins.len());
        for seen in &joins {
            assert!(can_start(seen, VIDEO), "units of {size}");
            let seen = video_of(&seen[..seen.len().min(PACKET_LEN * 500)], VIDEO);
            for set in [7, 8] {
                assert_eq!(first_set(&seen, set), first_set(&stream, set), "units of {size}");
            }
        }
        assert!(received.chunks.iter().all(|chunk| !chunk.new_format), "units of {size}");
    }
}

#[test]
fn all_video_in_a_single_unit_plays_from_its_beginning() {
    let units = in_one(&once(), usize::MAX, 0);
    let received = at_once(&mux(&units, &tables()));
    assert!(joins(&received.chunks).first().is_some_and(|seen| can_start(seen, VIDEO)));
}

/// Where an encoder puts its parameter sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sets {
    OwnUnit,
    EndOfTheUnitBefore,
    OnceInEightSeconds,
    OnlyAtFirst,
}

fn with_sets(place: Sets, flag: bool) -> Vec<Unit> {
    let mut out: Vec<Unit> = Vec::new();
    let mut keys = 0;
    for mut unit in units() {
        if unit.pid == VIDEO && unit.is_key {
            let is_set = |nal: &&[u8]| matches!(kind(nal), 7 | 8);
            let (sets, rest): (Vec<&[u8]>, Vec<&[u8]>) = nals(&unit.content).into_iter().partition(is_set);
            let (sets, rest) = (sets.concat(), rest.concat());
            let stays = match place {
                Sets::OnceInEightSeconds => keys % 4 == 0,
                Sets::OnlyAtFirst => keys == 0,
                _ => false,
            };
            keys += 1;
            if place == Sets::OwnUnit {
                let content = [&[0, 0, 0, 1, 9, 0xf0], &sets[..]].concat();
                out.push(Unit { content, is_key: true, flag: false, ..unit.clone() });
            } else if place == Sets::EndOfTheUnitBefore
                && let Some(before) = out.iter_mut().rev().find(|before| before.pid == VIDEO)
            {
                before.content.extend_from_slice(&sets);
            }
            unit.content = if stays { [sets, rest].concat() } else { rest };
        }
        unit.flag &= flag;
        out.push(unit);
    }
    out
}

#[test]
fn parameter_sets_count_wherever_they_stand() {
    for flag in [true, false] {
        for (place, expected) in [
            (Sets::OwnUnit, 10),
            // The first key picture has none.
            (Sets::EndOfTheUnitBefore, 9),
            (Sets::OnceInEightSeconds, 10),
            (Sets::OnlyAtFirst, 10),
        ] {
            assert_starts(
                &mux(&with_sets(place, flag), &tables()),
                expected,
                0,
                &format!("{place:?}, {flag}"),
            );
        }
    }
}

#[test]
fn video_and_sound_that_are_listed_as_private_data_are_what_their_registration_says() {
    let named = NAMED(b"H264");
    let map = pmt(1, VIDEO, &[(0x06, VIDEO, &named), (0x06, AUDIO, &NAMED(b"Opus"))]);
    let tables = [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat();
    assert_starts(&mux(&units(), &tables), 10, 0, "H.264");
    for name in [b"AV01", b"VVC1", b"VC-1"] {
        let map = pmt(1, VIDEO, &[(0x0f, AUDIO, &[]), (0x06, VIDEO, &NAMED(name))]);
        let tables = [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat();
        assert_starts(&mux(&units(), &tables), 10, 0, "by flag");
    }
}

#[test]
fn sound_alone_starts_at_once_whatever_it_is() {
    let (ac4, latm): (&[u8], &[u8]) = (&[0x7f, 1, 0x15], &[]);
    for (kind, descriptors) in [
        (0x06, &NAMED(b"Opus")[..]),
        (0x06, &NAMED(b"EAC3")),
        (0x06, &NAMED(b"BSSD")),
        (0x06, ac4),
        (0x11, latm),
        (0x87, &[]),
        (0x8a, &[]),
    ] {
        let map = pmt(1, AUDIO, &[(kind, AUDIO, descriptors)]);
        let tables = [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat();
        let units: Vec<_> = units().into_iter().filter(|unit| unit.pid == AUDIO).collect();
        let received = receive(&mux(&units, &tables), 20_000);
        let first = received.chunks.first().expect("it starts");
        assert_eq!(first.start.as_ref().map(|start| start.kind()), Some(StartKind::Audio), "{kind:x}");
        assert!(first.media < Duration::from_millis(100), "{kind:x}: {:?}", first.media);
    }
}

/// Sections back to back in as few packets as it takes.
fn packed(pid: u16, sections: &[&[u8]]) -> Vec<u8> {
    let (bytes, mut packets, mut at) = (sections.concat(), Vec::new(), 0);
    let begins: Vec<usize> =
        sections.iter().scan(0, |at, section| Some(std::mem::replace(at, *at + section.len()))).collect();
    let [high, low] = pid.to_be_bytes();
    while at < bytes.len() {
        let begin = begins.iter().find(|begin| (at..at + 183).contains(*begin));
        packets.extend_from_slice(&[0x47, if begin.is_some() { 0x40 } else { 0 } | high, low, 0x10]);
        packets.extend(begin.map(|begin| u8::try_from(begin - at).expect("a small number of something")));
        let end = bytes.len().min(at + PACKET_LEN - packets.len() % PACKET_LEN);
        packets.extend_from_slice(&bytes[at..end]);
        packets.resize(packets.len().next_multiple_of(PACKET_LEN), 0xff);
        at = end;
    }
    packets
}

#[test]
fn sections_may_share_their_packets_with_others() {
    let streams: &[(u8, u16, &[u8])] = &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])];
    let map = pmt(1, VIDEO, streams);
    let other = pmt(2, 0x300, &[(0x1b, 0x300, &[]), (0x0f, 0x301, &[])]);
    let subtitles = [0x59, 8, b'e', b'n', b'g', 16, 0, 1, 0, 1];
    let many: Vec<(u8, u16, &[u8])> =
        streams.iter().copied().chain((0x110..0x140).map(|pid| (0x06, pid, &subtitles[..]))).collect();
    let long = pmt(1, VIDEO, &many);
    assert!(long.len() > 700);
    let private = [&[0xc0, 0x00, 150][..], &[7; 150]].concat();
    for (what, sections) in [
        ("another table before", vec![&private[..], &map]),
        ("back to back", vec![&long[..], &long]),
        ("the tail of another table before", vec![&private[..], &private, &map, &private]),
        ("two programmes in one packet", vec![&other[..], &map]),
        ("the other way round", vec![&map[..], &other]),
    ] {
        let pat = packets_of(Pid::PAT, &pat(&[(1, PMT)]));
        let tables = [pat, packed(PMT, &sections)].concat();
        assert_starts(&mux(&units(), &tables), 10, 0, what);
    }
}

#[test]
fn the_programme_that_is_there_plays_whatever_else_is_listed() {
    let map = packets_of(Pid::new(PMT), &pmt(2, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]));
    let silent = packets_of(Pid::new(0x20), &pmt(1, 0x300, &[(0x1b, 0x300, &[]), (0x0f, 0x301, &[])]));
    let empty = packets_of(Pid::new(0x20), &pmt(1, 0x1fff, &[]));
    for (what, dead) in [("absent", &[][..]), ("empty", &empty), ("silent", &silent)] {
        for programs in [[(1, 0x20), (2, PMT)], [(2, PMT), (1, 0x20)]] {
            let tables = [&packets_of(Pid::PAT, &pat(&programs)), dead, &map].concat();
            let received = assert_starts(&mux(&units(), &tables), 10, 0, what);
            assert_eq!(received.awaited, Awaited::StartPoint);
        }
    }
}

#[test]
fn a_list_that_changes_while_the_programme_plays_is_nobody_s_business() {
    let units = units();
    let (first, second) = units.split_at(units.len() / 2);
    let map = packets_of(Pid::new(PMT), &pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]));
    for programs in [vec![(1, 0x20), (2, PMT)], vec![(3, 0x90), (1, PMT)], vec![(9, 0x90)], vec![]] {
        let after = [&packets_of(Pid::PAT, &pat(&programs))[..], &map].concat();
        let mut bytes = [mux(first, &tables()), mux(second, &after)].concat();
        recount(&mut bytes);
        let received = assert_starts(&bytes, 10, 0, &format!("{programs:?}"));
        assert!(received.chunks.iter().all(|chunk| !chunk.new_format), "{programs:?}");
    }
}

/// A source that takes over in the middle of the stream, whose list begins with a programme that is not there.
#[test]
fn another_source_goes_on_with_the_same_programme_whatever_is_listed_before_it() {
    let map = packets_of(Pid::new(PMT), &pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]));
    let empty = packets_of(Pid::new(0x20), &pmt(9, 0x1fff, &[]));
    let silent = packets_of(Pid::new(0x20), &pmt(9, 0x300, &[(0x1b, 0x300, &[])]));
    for dead in [&[][..], &empty, &silent] {
        let listed = [&packets_of(Pid::PAT, &pat(&[(9, 0x20), (1, PMT)]))[..], dead, &map].concat();
        let (mut chunker, mut chunks) = (Chunker::new(LIMITS), Vec::new());
        chunker.push(&mux(&once(), &tables()), Duration::from_secs(1), &mut chunks);
        chunker.interrupt(Duration::from_secs(1), &mut chunks);
        let first = chunks.len();
        chunker.restart();
        let second = mux(&once(), &listed);
        chunker.push(
            &second[second.len() / 3 / PACKET_LEN * PACKET_LEN..],
            Duration::from_secs(2),
            &mut chunks,
        );
        chunker.interrupt(Duration::from_secs(3), &mut chunks);
        assert!(chunks[first].jump, "its jump is announced");
        assert_eq!(strict(&joined(&chunks)).unannounced_jumps, [0_u16; 0]);
        let joins = joins(&chunks[first..]);
        assert_eq!(joins.len(), 3);
        assert!(joins.iter().all(|seen| can_start(seen, VIDEO)));
        assert_eq!(chunker.format().program, 1);
        assert!(chunks.iter().all(|chunk| !chunk.new_format), "it is the same broadcast");
    }
}

#[test]
fn wrong_checksums_that_never_change_are_believed_and_counted() {
    let damaged = |section: &[u8]| {
        let mut section = section.to_vec();
        *section.last_mut().expect("a small number of something") ^= 0xff;
        section
    };
    let map = pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
    for (bad_pat, bad_pmt) in [(true, false), (false, true), (true, true)] {
        let list = if bad_pat { damaged(&pat(&[(1, PMT)])) } else { pat(&[(1, PMT)]) };
        let map = if bad_pmt { damaged(&map) } else { map.clone() };
        let tables = [packets_of(Pid::PAT, &list), packets_of(Pid::new(PMT), &map)].concat();
        // As fast as it plays: two seconds must pass. Who has waited for them misses none of it.
        let received = receive(&mux(&units(), &tables), 250_000);
        let joins = joins(&received.chunks);
        assert_eq!(joins.len(), 10, "{bad_pat} {bad_pmt}");
        assert!(joins.iter().all(|seen| can_start(seen, VIDEO)));
        assert!(joins.iter().all(|seen| strict(seen).unannounced_jumps.is_empty()));
        assert!(received.wrong_checksums > 5);
        assert!(received.media.abs_diff(Duration::from_millis(19_200)) < Duration::from_millis(1_500));
    }
}

#[test]
fn what_is_waited_for_is_named() {
    let whole = tables();
    let silent = pmt(7, 0x300, &[(0x1b, 0x300, &[])]);
    let list = packets_of(Pid::PAT, &pat(&[(7, 0x20)]));
    let video: Vec<Unit> = units().into_iter().skip(5).take(20).collect();
    for (tables, expected) in [
        (Vec::new(), Awaited::ProgramList),
        (list.clone(), Awaited::ProgramMap(7)),
        ([list, packets_of(Pid::new(0x20), &silent)].concat(), Awaited::Streams(7)),
        (whole, Awaited::StartPoint),
    ] {
        assert_eq!(at_once(&mux(&video, &tables)).awaited, expected);
    }
    assert_eq!(at_once(&vec![9; 20_000]).awaited, Awaited::Packets);
}

/// Every packet of these streams, marked as scrambled.
fn marked(bytes: &[u8], pids: &[u16]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for packet in bytes.chunks_mut(PACKET_LEN) {
        if pids.contains(&(u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff)) {
            packet[3] |= 0x80;
        }
    }
    bytes
}

/// Their payload as well.
fn scrambled(bytes: &[u8], pids: &[u16]) -> Vec<u8> {
    let mut bytes = marked(bytes, pids);
    for packet in bytes.chunks_mut(PACKET_LEN).filter(|packet| packet[3] & 0x80 != 0) {
        let adaptation = if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
        for byte in packet.iter_mut().skip(4 + adaptation) {
            *byte ^= 0xa5;
        }
    }
    bytes
}

#[test]
fn a_descrambler_s_marks_hide_nothing() {
    let whole = mux(&units(), &tables());
    for pids in [&[VIDEO][..], &[AUDIO], &[VIDEO, AUDIO]] {
        assert_starts(&marked(&whole, pids), 10, 0, &format!("{pids:x?} jumps nowhere"));
        assert!(at_once(&marked(&whole, pids)).format.picture().is_some());
    }
}

#[test]
fn who_waits_for_what_is_scrambled_is_told_so_and_clear_sound_plays() {
    let whole = mux(&units(), &tables());
    let hidden = at_once(&scrambled(&whole, &[VIDEO, AUDIO]));
    assert_eq!((hidden.awaited, hidden.chunks.len()), (Awaited::Clear, 0));
    let sound = at_once(&scrambled(&whole, &[VIDEO]));
    assert!(sound.chunks.iter().any(|chunk| chunk.start.is_some()));
    let counted = |parts: [&[u8]; 2]| {
        let mut bytes = parts.concat();
        recount(&mut bytes);
        bytes
    };
    let clear_later = at_once(&counted([&scrambled(&whole, &[VIDEO, AUDIO]), &whole]));
    assert!(can_start(&joins(&clear_later.chunks)[0], VIDEO));
    let hidden_later = at_once(&counted([&whole, &scrambled(&whole, &[VIDEO, AUDIO])]));
    let starts = hidden_later.chunks.iter().filter_map(|chunk| chunk.start.as_ref());
    assert!(
        starts.filter(|start| start.kind() == StartKind::Unindexed).count() > 3,
        "who watches sees it come back"
    );
}

#[test]
fn without_the_program_s_clock_the_time_stamps_tell_how_far_it_is() {
    const LATER: u64 = 450_000;
    for what in ["as it should be", "stops", "freezes", "never was", "jumps by an hour", "is too fast"] {
        let clock = |pcr: u64, at: u64| match what {
            "stops" => (at < LATER).then_some(pcr),
            "freezes" => Some(if at < LATER { pcr } else { 400_000 }),
            "never was" => None,
            "is too fast" => Some(pcr * 2),
            "jumps by an hour" => Some(if at < LATER { pcr } else { pcr + 324_000_000 }),
            _ => Some(pcr),
        };
        let mut units = units();
        let began = units[0].at;
        for unit in &mut units {
            unit.pcr = unit.pcr.and_then(|pcr| clock(pcr, unit.at - began));
        }
        let received = assert_starts(&mux(&units, &tables()), 10, 0, what);
        let media = received.media;
        // That it is too fast is seen when it is three seconds ahead, for long enough.
        let tolerance = Duration::from_millis(if what == "is too fast" { 6_000 } else { 1_500 });
        assert!(media.abs_diff(Duration::from_millis(19_200)) < tolerance, "{what}: {media:?}");
        let durations = segments(&received.chunks).iter().map(|segment| segment.duration).sum::<Duration>();
        assert!(durations.abs_diff(media) < Duration::from_secs(1), "{what}: {durations:?} listed");
    }
    // The table names a stream that carries no clock; the one that does is not named.
    let map = pmt(1, 0x1ff, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
    let tables = [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat();
    let received = assert_starts(&mux(&units(), &tables), 10, 0, "elsewhere");
    assert!(matches!(received.clock, ClockSource::Stamps(_)));
    assert!(received.media.abs_diff(Duration::from_millis(19_200)) < Duration::from_millis(1_500));
}

/// With so many bytes before and behind each packet.
fn spaced(bytes: &[u8], before: usize, behind: usize) -> Vec<u8> {
    let packets = bytes.chunks(PACKET_LEN);
    packets.flat_map(|packet| [&vec![0x11; before], packet, &vec![0x22; behind]].concat()).collect()
}

#[test]
fn what_recorders_write_between_packets_is_left_out() {
    let bare = mux(&units(), &tables());
    let expected = joined(&at_once(&bare).chunks);
    for (what, before, behind) in [("M2TS", 4, 0), ("an outer code", 0, 16)] {
        let bytes = spaced(&bare, before, behind);
        let received = assert_starts(&bytes, 10, 0, what);
        assert!(joined(&received.chunks) == expected, "{what}");
        // Joined anywhere, with a page of a web server in front.
        let later = [&b"<html>".repeat(100)[..], &bytes[bytes.len() / 3 + 77..]].concat();
        assert_starts(&later, 6, 0, what);
    }
}

#[test]
fn marks_of_damage_on_every_packet_mean_nothing() {
    let bare = mux(&units(), &tables());
    let marked = |is_marked: fn(Packet<'_>) -> bool| {
        let mut bytes = bare.clone();
        for packet in bytes.chunks_mut(PACKET_LEN) {
            packet[1] |= u8::from(Packet::parse(packet).is_some_and(is_marked)) << 7;
        }
        bytes
    };
    assert_starts(&marked(|_| true), 10, 0, "on every packet");
    // Until it is clear that not one comes without.
    let media = |packet: Packet<'_>| [VIDEO, AUDIO].contains(&packet.pid().get());
    assert_starts(&marked(media), 9, 0, "on all but the tables");
    let received = at_once(&marked(|packet| packet.continuity() == 5));
    let joins = joins(&received.chunks);
    assert!(joins.len() >= 8 && joins.iter().all(|seen| can_start(seen, VIDEO)), "on some");
}

#[test]
fn of_several_videos_the_one_that_comes_says_where_to_start() {
    let list = packets_of(Pid::PAT, &pat(&[(1, PMT)]));
    for absent in [(0x1b, 0x1f0), (0x02, 0x1f0), (0x24, 0x1f0)] {
        let (kind, pid) = absent;
        let map = pmt(1, VIDEO, &[(kind, pid, &[]), (0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
        let tables = [&list[..], &packets_of(Pid::new(PMT), &map)].concat();
        // The first picture comes while the other one may still do.
        assert_starts(&mux(&units(), &tables), 9, 0, &format!("{absent:x?}"));
    }
    let map = pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x1b, 0x200, &[]), (0x0f, AUDIO, &[])]);
    let tables = [&list[..], &packets_of(Pid::new(PMT), &map)].concat();
    let mut units = units();
    let stops = units[0].at + 400_000;
    for unit in units.iter_mut().filter(|unit| unit.pid == VIDEO && unit.at > stops) {
        unit.pid = 0x200;
    }
    let received = at_once(&mux(&units, &tables));
    let joins = joins(&received.chunks);
    let of = |pid| joins.iter().filter(|seen| can_start(seen, pid)).count();
    assert_eq!((of(VIDEO), of(0x200)), (3, 5), "of {}", joins.len());
    assert_eq!(joins.len(), 8);
}

#[test]
fn a_video_whose_units_never_begin_keeps_nobody_waiting_for_the_sound() {
    let endless = |begins: usize| {
        let mut bytes = mux(&units(), &tables());
        let is_video =
            |packet: &&mut [u8]| Packet::parse(packet).is_some_and(|packet| packet.pid().get() == VIDEO);
        let begun = bytes.chunks_mut(PACKET_LEN).filter(is_video).filter(|packet| packet[1] & 0x40 != 0);
        begun.skip(begins).for_each(|packet| packet[1] &= !0x40);
        at_once(&bytes)
    };
    let starts_of = |received: &Received| {
        let starts = received.chunks.iter().filter(|chunk| chunk.start.is_some());
        starts.map(|chunk| chunk.media).collect::<Vec<_>>()
    };
    let in_the_middle = starts_of(&endless(0));
    assert!(
        in_the_middle.first().is_some_and(|first| *first < Duration::from_millis(5_500)),
        "{in_the_middle:?}"
    );
    let from_its_beginning = endless(1);
    assert!(can_start(&joins(&from_its_beginning.chunks)[0], VIDEO));
    let starts = starts_of(&from_its_beginning);
    assert!(starts.last().is_some_and(|last| *last > Duration::from_secs(15)), "who joins later: {starts:?}");
}

/// The clip of MPEG-2 twice, with a sequence header where `is_kept` says it by the key picture's number.
fn mpeg2(is_kept: impl Fn(usize) -> bool, flag: bool) -> Vec<Unit> {
    let once = demux(&clip("mpeg2"));
    let again = once.iter().cloned().map(|unit| Unit { at: unit.at + 900_000, pcr: None, ..unit });
    let mut units: Vec<Unit> = once.iter().cloned().chain(again).collect();
    for (n, unit) in units.iter_mut().filter(|unit| unit.pid == VIDEO && unit.is_key).enumerate() {
        unit.flag = flag;
        if !is_kept(n) {
            let group = unit.content.windows(4).position(|window| window == [0, 0, 1, 0xb8]);
            unit.content.drain(..group.expect("a group begins"));
        }
    }
    units
}

#[test]
fn mpeg2_starts_with_each_group_though_its_sequence_header_comes_once_in_a_while() {
    let map = pmt(1, VIDEO, &[(0x02, VIDEO, &[]), (0x03, AUDIO, &[])]);
    let tables = [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat();
    for flag in [true, false] {
        let usual = joins(&at_once(&mux(&mpeg2(|_| true, flag), &tables)).chunks).len();
        assert!(usual >= 10);
        for every in [3, 1000] {
            let received = at_once(&mux(&mpeg2(|n| n % every == 0, flag), &tables));
            let joins = joins(&received.chunks);
            assert_eq!(joins.len(), usual, "every {every}, flagged: {flag}");
            for seen in joins {
                let stream = video_of(&seen[..seen.len().min(PACKET_LEN * 300)], VIDEO);
                let codes = stream.windows(4).filter(|window| window.starts_with(&[0, 0, 1]));
                let codes: Vec<u8> =
                    codes.map(|code| code[3]).filter(|code| matches!(code, 0 | 0xb3 | 0xb8)).collect();
                assert!(codes.starts_with(&[0xb3, 0xb8, 0]), "every {every}, flagged: {flag}: {codes:x?}");
            }
        }
    }
}

#[test]
fn a_jump_that_is_announced_with_every_clock_value_is_none() {
    let mut bytes = mux(&units(), &tables());
    for packet in bytes.chunks_mut(PACKET_LEN) {
        if packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0 {
            packet[5] |= 0x80;
        }
    }
    // As an engine sends its first minutes: much faster than they play.
    let received = receive(&bytes, 20_000_000);
    assert!(
        received.media.abs_diff(Duration::from_millis(19_200)) < Duration::from_millis(1_500),
        "{:?}",
        received.media
    );
    assert_starts(&bytes, 10, 0, "announced");
}

#[test]
fn clock_and_time_stamps_may_begin_anew_in_the_middle() {
    const WRAP: u64 = 1 << 33;
    for back in [10_u64, 400_000, 800_000] {
        let mut units = units();
        let began = units[0].at;
        for unit in &mut units {
            let moved = |at: u64| (at + WRAP - began - back) % WRAP;
            (unit.at, unit.pcr) = (moved(unit.at), unit.pcr.map(moved));
        }
        let received = assert_starts(&mux(&units, &tables()), 10, 0, &format!("{back} before"));
        assert!(received.media.abs_diff(Duration::from_millis(19_200)) < Duration::from_millis(1_500));
        let told = segments(&received.chunks).iter().filter(|segment| segment.discontinuity).count();
        assert_eq!(told, 0, "it is no jump");
    }
}

#[test]
fn what_happens_to_packets_on_their_way_costs_no_more_than_those_it_happens_to() {
    let bare = mux(&units(), &tables());
    let each = |change: &dyn Fn(usize, &[u8]) -> Vec<u8>| -> Vec<u8> {
        bare.chunks(PACKET_LEN).enumerate().flat_map(|(n, packet)| change(n, packet)).collect()
    };
    let is_table = |packet: &[u8]| {
        Packet::parse(packet).is_some_and(|packet| ![VIDEO, AUDIO].contains(&packet.pid().get()))
    };
    let tables_stop =
        each(&|n, packet| if n > 300 && is_table(packet) { Vec::new() } else { packet.to_vec() });
    for (what, bytes, fewest) in [
        ("sent twice", each(&|_, packet| packet.repeat(2)), 10),
        ("some sent twice", each(&|n, packet| packet.repeat(1 + usize::from(n % 7 == 0))), 10),
        (
            "one in four hundred lost",
            each(&|n, packet| if n % 400 == 399 { Vec::new() } else { packet.to_vec() }),
            8,
        ),
        (
            "one in two hundred without its first byte",
            each(&|n, packet| packet[usize::from(n % 200 == 9)..].to_vec()),
            8,
        ),
        ("sync bytes before them", [&[0x47; 1000][..], &bare].concat(), 9),
        ("tables that stop", tables_stop, 10),
        (
            "behind the headers of RTP",
            each(&|n, packet| [&vec![0x80; if n % 7 == 0 { 12 } else { 0 }], packet].concat()),
            10,
        ),
    ] {
        let joins = joins(&at_once(&bytes).chunks);
        assert!(joins.len() >= fewest, "{what}: {} joins", joins.len());
        let good = joins.iter().filter(|seen| can_start(seen, VIDEO)).count();
        assert!(good >= fewest, "{what}: {good} of {} joins are good", joins.len());
    }
}

/// A swarm that plays its last minutes again, of a broadcast without a clock.
#[test]
fn what_was_sent_before_is_known_again_by_its_time_stamps() {
    let without_clock = |later: u64| {
        let units = once().into_iter().map(|unit| Unit { at: unit.at + later, pcr: None, ..unit });
        at_once(&mux(&units.collect::<Vec<_>>(), &tables())).chunks
    };
    let past = Past::new(without_clock(0));
    let again = without_clock(0);
    let stamped: Vec<_> = again.iter().filter(|chunk| chunk.time.is_some()).collect();
    assert!(stamped.len() > 10 && stamped.iter().all(|chunk| past.holds(chunk)));
    assert!(!without_clock(90_000 * 60).iter().any(|chunk| past.holds(chunk)), "other minutes");
}

/// The clip, then another one in other streams.
fn changing(second: Vec<Unit>, after: &[u8]) -> Vec<u8> {
    let first = once();
    let end = first.iter().map(|unit| unit.at).max().expect("a small number of something") + 3_600;
    let begin = second.iter().map(|unit| unit.at).min().expect("a small number of something");
    let moved = |at: u64| at + end - begin;
    let second: Vec<Unit> = second
        .into_iter()
        .map(|unit| Unit { at: moved(unit.at), pcr: unit.pcr.map(moved), ..unit })
        .collect();
    let mut bytes = [mux(&first, &tables()), mux(&second, after)].concat();
    recount(&mut bytes);
    bytes
}

#[test]
fn no_segment_mixes_two_formats_and_the_first_of_the_new_one_is_told() {
    let other_size = demux(&clip("open-gop"));
    let mut other_streams = once();
    for unit in &mut other_streams {
        unit.pid += 0x100;
    }
    let moved = packets_of(Pid::new(PMT), &pmt(1, 0x200, &[(0x1b, 0x200, &[]), (0x81, 0x201, &[])]));
    let hevc = packets_of(Pid::new(PMT), &pmt(1, VIDEO, &[(0x24, VIDEO, &[]), (0x0f, AUDIO, &[])]));
    let list = packets_of(Pid::PAT, &pat(&[(1, PMT)]));
    for (what, second, tables) in [
        ("pictures of another size", other_size, tables()),
        ("other streams", other_streams, [&list[..], &moved].concat()),
        ("another codec", demux(&clip("hevc")), [list, hevc].concat()),
    ] {
        let bytes = changing(second, &tables);
        let received = at_once(&bytes);
        assert!(joined(&received.chunks) == bytes[2 * PACKET_LEN..], "{what}: TS viewers get it as it is");
        let marks = received.chunks.iter().filter(|chunk| chunk.new_format).count();
        assert!((1..=2).contains(&marks), "{what}: {marks} marks");
        let segments = segments(&received.chunks);
        let told: Vec<u64> =
            segments.iter().filter(|segment| segment.discontinuity).map(|segment| segment.number).collect();
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        for segment in &segments {
            let is_new = segment.number >= told[0];
            let bytes = segment.parts.concat();
            let media: Vec<u16> = bytes
                .chunks(PACKET_LEN)
                .filter_map(Packet::parse)
                .map(|packet| packet.pid().get())
                .filter(|pid| [VIDEO, AUDIO, 0x200, 0x201].contains(pid))
                .collect();
            if what == "other streams" {
                assert!(media.iter().all(|pid| (*pid >= 0x200) == is_new), "{what}: {}", segment.number);
            }
            assert!(segment.start.is_some(), "{what}: {} begins where a decoder can", segment.number);
        }
    }
}

#[test]
fn a_format_that_comes_back_is_another_one_once_more() {
    let moved = packets_of(Pid::new(PMT), &pmt(1, 0x200, &[(0x1b, 0x200, &[]), (0x81, 0x201, &[])]));
    let tables_of_other = [&packets_of(Pid::PAT, &pat(&[(1, PMT)]))[..], &moved].concat();
    let mut bytes = Vec::new();
    for n in 0..4 {
        let part = once().into_iter().map(|unit| {
            let later = |at: u64| at + n * 864_000;
            let pid = unit.pid + if n % 2 == 0 { 0 } else { 0x100 };
            Unit { pid, at: later(unit.at), pcr: unit.pcr.map(later), ..unit }
        });
        let tables = if n % 2 == 0 { tables() } else { tables_of_other.clone() };
        bytes.extend(mux(&part.collect::<Vec<_>>(), &tables));
    }
    recount(&mut bytes);
    let received = at_once(&bytes);
    assert!(received.media.abs_diff(Duration::from_millis(38_400)) < Duration::from_millis(1_500));
    let segments = segments(&received.chunks);
    assert_eq!(segments.iter().filter(|segment| segment.discontinuity).count(), 3);
    assert!(segments.iter().all(|segment| segment.duration > Duration::from_secs(1)));
}

/// A list in two sections.
fn halves(programs: &[(u16, u16)]) -> Vec<u8> {
    let (first, second) = programs.split_at(programs.len() / 2);
    let placed = |number: u8, programs| {
        let mut section = pat(programs);
        section.truncate(section.len() - 4);
        (section[6], section[7]) = (number, 1);
        section.extend_from_slice(&crc32(&section).to_be_bytes());
        packets_of(Pid::PAT, &section)
    };
    [placed(0, first), placed(1, second)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever else is in the tables, and however their packets are hit now and then.
    #[test]
    fn a_stream_whose_tables_are_mostly_right_plays(
        others in prop::collection::vec((2..50_u16, 0x20..0x60_u16), 0..10),
        place in 0..10_usize,
        sections in prop::collection::vec((0xc0..=0xfe_u8, 0..400_usize), 0..4),
        before in any::<bool>(),
        between in prop::sample::select(vec![(0, 0), (0, 0), (4, 0), (0, 16)]),
        in_two in any::<bool>(),
        hits in prop::collection::vec((0..3_000_usize, 4..PACKET_LEN, any::<u8>()), 0..10),
    ) {
        let mut programs = others;
        programs.insert(place.min(programs.len()), (1, PMT));
        let map = pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
        let private: Vec<Vec<u8>> = sections
            .iter()
            .map(|(id, length)| {
                let [high, low] = u16::try_from(*length).expect("a small number of something").to_be_bytes();
                [&[*id, high, low][..], &vec![7; *length]].concat()
            })
            .collect();
        let mut packed_sections: Vec<&[u8]> = private.iter().map(Vec::as_slice).collect();
        packed_sections.insert(if before { packed_sections.len() } else { 0 }, &map);
        let lists = if in_two { halves(&programs) } else { packets_of(Pid::PAT, &pat(&programs)) };
        let tables = [lists, packed(PMT, &packed_sections)].concat();
        let mut bytes = mux(&once(), &tables);
        for (packet, at, value) in hits {
            let range = packet * PACKET_LEN..(packet + 1) * PACKET_LEN;
            let is_table = |packet: Packet<'_>| [0, PMT].contains(&packet.pid().get());
            if let Some(packet) = bytes.get_mut(range)
                && Packet::parse(packet).is_some_and(is_table)
            {
                packet[at] = value;
            }
        }
        let received = at_once(&spaced(&bytes, between.0, between.1));
        let joins = joins(&received.chunks);
        prop_assert!(joins.len() >= 4, "{} joins", joins.len());
        prop_assert!(joins.iter().all(|seen| can_start(seen, VIDEO)));
    }
}
