//! Where streams are cut, and that nothing is lost, repeated or copied by it.

use std::time::Duration;

use acemux_media::clock::Pcr;
use acemux_media::hls::{Segment, SegmentLimits, Segmenter};
use acemux_media::starts::StartKind::{self, Audio, Intra, RandomAccess, Unindexed};
use proptest::prelude::*;

use crate::hls_stream::{LONGEST, Stream, TICKS_PER_MILLISECOND, cut, durations, origin, push_all, tables};

const HOUR: u64 = 3_600_000;
/// Of the clock, in milliseconds.
const WRAP: u64 = (1 << 33) / 90;

/// Groups of the same kind and length.
fn groups(kind: StartKind, length: u64, count: usize) -> Stream {
    let mut stream = Stream::default();
    (0..count).for_each(|_| stream.group(kind, length));
    stream
}

fn numbers(segment: &Segment) -> Vec<usize> {
    segment.parts[1..].iter().map(origin).collect()
}

#[test]
fn segments_end_at_the_first_start_point_that_makes_them_long_enough() {
    let cases = [
        (RandomAccess, 500, 12, vec![2000, 2000, 2000]),
        (RandomAccess, 1000, 6, vec![2000, 2000, 2000]),
        (Intra, 1500, 4, vec![3000, 3000]),
        (Intra, 1900, 4, vec![3800, 3800]),
        (RandomAccess, 5000, 2, vec![5000, 5000]),
        // Every place is as good as another: fewer requests.
        (Audio, 500, 16, vec![4000, 4000]),
        (Unindexed, 2000, 4, vec![4000, 4000]),
    ];
    for (kind, length, count, expected) in cases {
        let segments = groups(kind, length, count).cut();
        assert_eq!(durations(&segments), expected, "{kind:?} every {length} ms");
        assert!(segments.iter().all(|segment| segment.start == Some(kind) && !segment.discontinuity));
        assert!(segments.iter().enumerate().all(|(n, segment)| segment.number == n as u64));
    }
}

#[test]
fn start_points_too_far_apart_are_not_waited_for_and_not_missed() {
    let cases = [
        (10_000, 2, vec![6000, 4000, 6000, 4000]),
        (7000, 2, vec![6000, 1000, 6000, 1000]),
        // A segment of 200 ms is not worth a request.
        (6200, 2, vec![6000, 6000, 400]),
        (13_000, 2, vec![6000, 6000, 1000, 6000, 6000, 1000]),
    ];
    for (length, count, expected) in cases {
        let segments = groups(Intra, length, count).cut();
        assert_eq!(durations(&segments), expected, "every {length} ms");
        let mut tables_of = 0;
        for segment in &segments {
            let first = numbers(segment)[0];
            let begins_group = (first as u64 * 100).is_multiple_of(length);
            tables_of = if begins_group { first } else { tables_of };
            assert_eq!(segment.start.is_some(), begins_group, "every {length} ms, chunk {first}");
            assert!(length == 6200 || segment.parts[0] == tables(tables_of), "every {length} ms");
        }
    }
}

#[test]
fn a_clock_that_jumps_inside_of_a_chunk_is_cut_before_that_chunk_and_not_one_late() {
    for by in [HOUR, WRAP - 5000] {
        let mut stream = Stream::default();
        stream.group(RandomAccess, 1000);
        let jumping = stream.chunks.len();
        stream.chunk_with_jump_inside(100, by);
        (0..5).for_each(|_| stream.chunk(None, 100));
        stream.group(RandomAccess, 2000);
        let segments = stream.cut();
        let broken: Vec<_> = segments.iter().filter(|segment| segment.discontinuity).collect();
        assert_eq!(broken.len(), 1, "{by}");
        assert_eq!(numbers(broken[0])[0], jumping, "{by}");
        assert!(numbers(&segments[0]).iter().all(|chunk| *chunk < jumping), "{by}");
    }
}

#[test]
fn who_may_know_segments_of_others_is_told_that_the_first_continues_none() {
    let mut stream = Stream::default();
    stream.jump();
    stream.group(RandomAccess, 3000);
    let mut segmenter = Segmenter::after_others(SegmentLimits::default(), 1_700_000_000);
    let mut segments = Vec::new();
    push_all(&mut segmenter, &stream.chunks, &mut segments);
    segments.extend(segmenter.finish());
    assert_eq!((segments[0].number, segments[0].discontinuity), (1_700_000_000, true));
    assert!(segments[1..].iter().all(|segment| !segment.discontinuity));
}

#[test]
fn nothing_is_cut_before_the_first_start_point() {
    let mut stream = Stream::default();
    (0..100).for_each(|_| stream.chunk(None, 100));
    assert!(stream.cut().is_empty());
    stream.jump();
    stream.group(RandomAccess, 3000);
    let segments = stream.cut();
    assert_eq!(durations(&segments), [3000]);
    assert!(!segments[0].discontinuity, "there is nothing that it could continue");
}

#[test]
fn parts_are_the_chunks_themselves() {
    let stream = groups(RandomAccess, 2000, 2);
    let segments = stream.cut();
    let parts = segments.iter().flat_map(|segment| &segment.parts[1..]);
    assert!(parts.zip(&stream.chunks).all(|(part, chunk)| part.as_ptr() == chunk.bytes.as_ptr()));
    assert_eq!(segments[0].size(), 20 * 3 * 188 + 2 * 188);
}

#[test]
fn a_jump_ends_a_segment_however_short_it_is_and_its_packets_are_in_none() {
    let mut stream = groups(RandomAccess, 300, 1);
    stream.jump();
    stream.jump();
    stream.group(Intra, 2000);
    stream.group(Intra, 2000);
    let segments = stream.cut();
    assert_eq!(durations(&segments), [300, 2000, 2000]);
    assert_eq!(segments.iter().map(|one| one.discontinuity).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(numbers(&segments[0]), [0, 1, 2]);
    assert_eq!(numbers(&segments[1])[0], 5);
    assert_eq!(segments[1].parts[0], tables(5));
}

#[test]
fn the_time_between_two_sources_is_no_media_time() {
    let mut stream = groups(RandomAccess, 3000, 1);
    (0..50).for_each(|_| stream.stuffing());
    stream.media += 30_000;
    stream.jump();
    stream.group(RandomAccess, 3000);
    let segments = stream.cut();
    assert_eq!(durations(&segments), [3900, 3000], "the last chunk may last a second");
    assert!(segments[1].discontinuity);
    assert_eq!(segments[0].parts.len(), 31, "no stuffing");
}

#[test]
fn a_pause_releases_what_there_is_and_the_next_segment_continues_it() {
    let mut stream = groups(RandomAccess, 4000, 2);
    let rest = stream.chunks.split_off(40 + 15);
    let (mut segmenter, mut out) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    push_all(&mut segmenter, &stream.chunks, &mut out);
    out.extend(segmenter.pause());
    assert!(segmenter.pause().is_none(), "once");
    push_all(&mut segmenter, &rest, &mut out);
    out.extend(segmenter.finish());
    assert_eq!(durations(&out), [4000, 1500, 2500]);
    assert!(out.iter().all(|segment| !segment.discontinuity));
    assert_eq!((out[1].start, out[2].start), (Some(RandomAccess), None));
    let parts = out.iter().flat_map(|segment| segment.parts.iter().map(origin)).filter(|at| *at > 0);
    assert_eq!(parts.max(), Some(79), "nothing is left out");
}

#[test]
fn a_few_pictures_are_no_segment() {
    let mut stream = groups(RandomAccess, 4000, 1);
    stream.chunk(Some(RandomAccess), 100);
    let (mut segmenter, mut out) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    push_all(&mut segmenter, &stream.chunks, &mut out);
    assert!(segmenter.pause().is_none());
    assert_eq!(out.len(), 1);
}

#[test]
fn a_clock_that_jumps_ends_a_segment_and_one_that_wraps_does_not() {
    let cases = [
        (HOUR, 2 * HOUR, true),
        (HOUR, HOUR + 11_000, true),
        (HOUR, HOUR + 9000, false),
        (2 * HOUR, HOUR, true),
        (HOUR, HOUR - 2000, true),
        // One value of a careless multiplexer.
        (HOUR, HOUR - 500, false),
        (WRAP - 20_000, 0, true),
        (WRAP - 1000, WRAP - 1000, false),
        (WRAP - 1000, WRAP + 10_500, true),
    ];
    for (before, after, jumps) in cases {
        let mut stream = Stream { ahead: before, ..Stream::default() };
        stream.group(RandomAccess, 1200);
        stream.ahead = after;
        stream.group(RandomAccess, 1200);
        let segments = stream.cut();
        let flags: Vec<bool> = segments.iter().map(|segment| segment.discontinuity).collect();
        let expected: &[bool] = if jumps { &[false, true] } else { &[false] };
        assert_eq!(flags, expected, "{before} → {after}");
    }
}

#[test]
fn chunks_without_clock_say_nothing_about_jumps() {
    let mut stream = groups(RandomAccess, 4000, 2);
    stream.chunks.iter_mut().for_each(|chunk| chunk.pcr = None);
    stream.chunks[50].pcr = Some(Pcr::from_ticks(HOUR * TICKS_PER_MILLISECOND));
    assert!(stream.cut().iter().all(|segment| !segment.discontinuity));
    // Nor does one value after a long time, if it is as late as the media.
    let mut stream = groups(RandomAccess, 4000, 5);
    stream.chunks[1..150].iter_mut().for_each(|chunk| chunk.pcr = None);
    assert!(stream.cut().iter().all(|segment| !segment.discontinuity));
    // Nor does the first value of another source.
    let mut stream = groups(RandomAccess, 3000, 1);
    stream.jump();
    stream.ahead = HOUR;
    stream.group(RandomAccess, 3000);
    stream.chunks[31].pcr = None;
    assert_eq!(durations(&stream.cut()), [3000, 3000]);
}

#[test]
fn the_last_chunk_is_as_long_as_the_one_before() {
    let mut stream = groups(RandomAccess, 1000, 1);
    stream.media += 20_000;
    stream.jump();
    stream.chunk(Some(RandomAccess), 0);
    assert_eq!(durations(&stream.cut()), [1900, 100]);
    // But a hole before it says nothing about its length.
    let mut stream = groups(RandomAccess, 1000, 1);
    stream.media += 3000;
    stream.chunk(None, 100);
    assert_eq!(durations(&stream.cut()), [5000]);
}

#[test]
fn limits_that_contradict_each_other_give_the_longest_segments() {
    let ten = Duration::from_secs(10);
    let limits = SegmentLimits { least: ten, target: ten, ..SegmentLimits::default() };
    assert_eq!(durations(&cut(&groups(Audio, 500, 25).chunks, limits)), [6000, 6000, 500]);
}

#[test]
fn media_that_skips_seconds_makes_no_segment_too_long() {
    let mut stream = groups(RandomAccess, 3000, 1);
    stream.media += 5000;
    stream.ahead = 0;
    stream.group(RandomAccess, 3000);
    let segments = stream.cut();
    assert_eq!(durations(&segments), [2900, 5100, 3000]);
    assert!(segments.iter().all(|segment| !segment.discontinuity));
    // A hole that no segment can span.
    let mut stream = groups(RandomAccess, 3000, 1);
    stream.media += 9000;
    stream.group(RandomAccess, 3000);
    let segments = stream.cut();
    assert_eq!(durations(&segments), [3900, 3000]);
    assert!(segments[1].discontinuity);
}

#[test]
fn a_reader_that_lagged_goes_on_at_a_start_point_with_a_discontinuity() {
    let stream = groups(RandomAccess, 1000, 8);
    let (mut segmenter, mut out) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    push_all(&mut segmenter, &stream.chunks[..25], &mut out);
    segmenter.lagged(&mut out);
    assert_eq!(durations(&out), [2000, 500]);
    push_all(&mut segmenter, &stream.chunks[45..], &mut out);
    out.extend(segmenter.finish());
    assert_eq!(durations(&out), [2000, 500, 2000, 1000]);
    assert_eq!(numbers(&out[2])[0], 50);
    assert_eq!(out.iter().map(|one| one.discontinuity).collect::<Vec<_>>(), [false, false, true, false]);
}

#[test]
fn a_segment_is_no_larger_than_allowed() {
    let limits = SegmentLimits { most_bytes: 10 * 3 * 188 + 2 * 188, ..SegmentLimits::default() };
    let segments = cut(&groups(RandomAccess, 2500, 1).chunks, limits);
    assert_eq!(durations(&segments), [1000, 1000, 500]);
    assert!(segments.iter().all(|segment| segment.size() <= limits.most_bytes));
    let less = SegmentLimits { most_bytes: limits.most_bytes - 1, ..limits };
    assert_eq!(durations(&cut(&groups(RandomAccess, 2500, 1).chunks, less)), [900, 900, 700]);
    // No limit can be met with less than a chunk.
    let none = SegmentLimits { most_bytes: 0, ..SegmentLimits::default() };
    assert_eq!(cut(&groups(RandomAccess, 500, 1).chunks, none).len(), 5);
}

/// What a random stream does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Chunk { start: Option<StartKind>, length: u64 },
    Jump,
    Stuffing,
    ClockTo(u64),
    Hole(u64),
    Lag,
}

fn any_step() -> impl Strategy<Value = Step> {
    let kinds = prop::sample::select(vec![RandomAccess, Intra, Audio, Unindexed]);
    let start = prop::option::weighted(0.15, kinds);
    prop_oneof![
        40 => (start, 0..900_u64).prop_map(|(start, length)| Step::Chunk { start, length }),
        1 => Just(Step::Jump),
        1 => Just(Step::Stuffing),
        1 => prop::sample::select(vec![0, HOUR, 2 * HOUR, WRAP - HOUR]).prop_map(Step::ClockTo),
        1 => (500..12_000_u64).prop_map(Step::Hole),
        1 => Just(Step::Lag),
    ]
}

/// The segments of a random stream, the chunks that must be in them, and which of these continue nothing.
struct Played {
    stream: Stream,
    kept: Vec<usize>,
    breaks: Vec<usize>,
    segments: Vec<Segment>,
}

fn play(steps: &[Step]) -> Played {
    let (mut segmenter, mut segments) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    let (mut stream, mut kept, mut breaks) = (Stream::default(), Vec::<usize>::new(), Vec::new());
    let (mut seeking, mut broken, mut heard) = (true, false, None::<(u64, u64)>);
    for step in steps {
        let before = stream.chunks.len();
        match *step {
            Step::Chunk { start, length } => {
                let breaks_off = |(media, ahead)| stream.media - media > 6499 || ahead != stream.ahead;
                broken |= heard.is_some_and(breaks_off);
                seeking &= start.is_none();
                if !seeking {
                    kept.push(before);
                    breaks.extend(Some(before).filter(|_| std::mem::take(&mut broken)));
                }
                heard = Some((stream.media, stream.ahead));
                stream.chunk(start, length);
            }
            Step::Jump => {
                stream.jump();
                (broken, heard) = (true, None);
            }
            Step::Stuffing => stream.stuffing(),
            Step::ClockTo(ahead) => stream.ahead = ahead,
            Step::Hole(length) => stream.media += length,
            Step::Lag => {
                segmenter.lagged(&mut segments);
                (seeking, broken, heard) = (true, true, None);
            }
        }
        push_all(&mut segmenter, &stream.chunks[before..], &mut segments);
    }
    segments.extend(segmenter.finish());
    Played { stream, kept, breaks, segments }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_chunk_is_in_one_segment_and_durations_add_up(steps in prop::collection::vec(any_step(), 0..400)) {
        let Played { stream, kept, breaks, segments } = play(&steps);
        let media = |chunk: usize| stream.chunks[chunk].media;
        let cut: Vec<usize> = segments.iter().flat_map(numbers).collect();
        prop_assert_eq!(&cut, &kept);
        let joined: Vec<u8> = segments.iter().flat_map(|one| one.parts[1..].concat()).collect();
        let sent: Vec<u8> = kept.iter().flat_map(|chunk| stream.chunks[*chunk].bytes.to_vec()).collect();
        prop_assert!(joined == sent);
        for (n, segment) in segments.iter().enumerate() {
            let first = numbers(segment)[0];
            prop_assert_eq!(segment.number, n as u64);
            prop_assert_eq!(segment.discontinuity, n > 0 && breaks.contains(&first));
            prop_assert_eq!(segment.start, stream.chunks[first].start.as_ref().map(|start| start.kind()));
            let told = (0..=first).rev().find(|chunk| stream.chunks[*chunk].start.is_some());
            prop_assert_eq!(&segment.parts[0], &tables(told.unwrap()));
            prop_assert!(segment.duration <= LONGEST);
            prop_assert!(!numbers(segment)[1..].iter().any(|chunk| breaks.contains(chunk)));
        }
        for pair in segments.windows(2).filter(|pair| !pair[1].discontinuity) {
            let [own, next] = [&pair[0], &pair[1]].map(|segment| media(numbers(segment)[0]));
            prop_assert_eq!(pair[0].duration, next.saturating_sub(own));
        }
    }
}

#[test]
fn an_empty_stream_has_no_segment() {
    assert!(Segmenter::new(SegmentLimits::default()).finish().is_none());
    let (mut segmenter, mut out) = (Segmenter::new(SegmentLimits::default()), Vec::new());
    segmenter.lagged(&mut out);
    assert!(out.is_empty() && segmenter.finish().is_none());
    let zero =
        SegmentLimits { least: Duration::ZERO, target: Duration::ZERO, most: Duration::ZERO, most_bytes: 1 };
    assert_eq!(cut(&groups(RandomAccess, 1000, 1).chunks, zero).len(), 10);
}
