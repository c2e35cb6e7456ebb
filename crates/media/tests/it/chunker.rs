//! Chunks: aligned, bounded, complete, and joined or spliced without an unannounced jump.

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker, Verdict};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use proptest::prelude::*;

use crate::builder::{ALL, FLAGGED, GOP, Mux, PMT, Strict, Style, UNFLAGGED, VIDEO, strict};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 4096, max_hold: Duration::from_millis(50) };
const LATE: Style = Style { late: true, ..UNFLAGGED };

/// Pushes in pieces of these sizes, a millisecond apart, and seals at the end.
fn chunks_of(chunker: &mut Chunker, bytes: &[u8], sizes: &[usize]) -> Vec<Chunk> {
    let (mut out, mut rest, mut now) = (Vec::new(), bytes, Duration::ZERO);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        now += Duration::from_millis(1);
        chunker.push(piece, now, &mut out);
        rest = after;
    }
    seal_all(chunker, &mut out);
    out
}

fn seal_all(chunker: &mut Chunker, out: &mut Vec<Chunk>) {
    while let Some(at) = chunker.seal_at() {
        chunker.seal(at, out);
    }
}

fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

fn start_positions(chunks: &[Chunk]) -> Vec<usize> {
    (0..chunks.len()).filter(|n| chunks[*n].start.is_some()).collect()
}

fn sorted(mut pids: Vec<u16>) -> Vec<u16> {
    pids.sort_unstable();
    pids
}

fn any_style() -> impl Strategy<Value = Style> {
    let style = |(flags, late, long_table, stream)| Style { flags, late, long_table, stream, ..UNFLAGGED };
    (any::<bool>(), any::<bool>(), any::<bool>(), 0..16_u8).prop_map(style)
}

#[test]
fn a_stream_begins_at_its_first_key_frame_and_nothing_is_missing_afterwards() {
    for flags in [true, false] {
        let bytes = Mux::new(Style { flags, ..UNFLAGGED }).packets(5 * GOP);
        // Joined in the middle of a picture.
        let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes[50 * PACKET_LEN..], &[1000]);
        let expected = &bytes[(GOP + 2) * PACKET_LEN..];
        assert!(joined(&chunks) == expected, "with flags: {flags}");
        assert_eq!(chunks.iter().filter(|chunk| chunk.start.is_some()).count(), 4);
        let kind = if flags { StartKind::RandomAccess } else { StartKind::Intra };
        assert!(chunks.iter().filter_map(|chunk| chunk.start.as_ref()).all(|start| start.kind() == kind));
    }
}

#[test]
fn positions_have_no_gaps_and_media_time_follows_the_clock() {
    let bytes = Mux::new(FLAGGED).packets(20 * GOP);
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[1316]);
    assert!(chunks.iter().enumerate().all(|(n, chunk)| chunk.seq == n as u64));
    assert!(chunks.is_sorted_by_key(|chunk| chunk.media));
    let played = chunks.last().unwrap().media.saturating_sub(chunks[0].media);
    assert!(
        played.abs_diff(Duration::from_millis(20 * GOP as u64)) < Duration::from_millis(150),
        "{played:?}"
    );
}

#[test]
fn a_joiner_is_given_the_tables_and_then_the_key_frame() {
    let bytes = Mux::new(FLAGGED).packets(6 * GOP);
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[777]);
    let starts = start_positions(&chunks);
    assert_eq!(starts.len(), 6);
    for n in starts {
        let prelude = chunks[n].start.as_ref().unwrap().join_prelude();
        let seen = [prelude.to_vec(), joined(&chunks[n..])].concat();
        let first = seen.chunks(PACKET_LEN).take(3).map(|packet| Packet::parse(packet).unwrap().pid().get());
        assert_eq!(first.collect::<Vec<_>>(), [0, PMT, VIDEO]);
    }
}

#[test]
fn key_frames_are_found_however_slowly_they_come() {
    let bytes = Mux::new(LATE).packets(3 * GOP);
    let limits = ChunkLimits { max_hold: Duration::from_millis(4), ..LIMITS };
    let (mut chunker, mut out) = (Chunker::new(limits), Vec::new());
    for (n, packet) in (0..).zip(bytes.chunks(PACKET_LEN)) {
        let now = Duration::from_millis(10 * n);
        while let Some(at) = chunker.seal_at().filter(|at| *at <= now) {
            chunker.seal(at, &mut out);
        }
        chunker.push(packet, now, &mut out);
    }
    seal_all(&mut chunker, &mut out);
    assert_eq!(start_positions(&out).len(), 3);
    assert!(joined(&out) == bytes[2 * PACKET_LEN..]);
}

#[test]
fn the_video_may_have_any_stream_number() {
    for stream in 0..16 {
        let style = Style { stream, ..UNFLAGGED };
        let chunks = chunks_of(&mut Chunker::new(LIMITS), &Mux::new(style).packets(4 * GOP), &[1000]);
        assert_eq!(start_positions(&chunks).len(), 4, "stream {stream}");
    }
}

#[test]
fn when_the_tables_move_nothing_is_lost_and_the_next_start_has_the_new_ones() {
    let mut mux = Mux::new(FLAGGED);
    let mut bytes = mux.packets(2 * GOP);
    mux.become_like(Style { moved_table: true, ..FLAGGED });
    bytes.extend(mux.packets(2 * GOP));
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[1000]);
    assert!(joined(&chunks) == bytes[2 * PACKET_LEN..]);
    let last = *start_positions(&chunks).last().unwrap();
    let prelude = chunks[last].start.as_ref().unwrap().join_prelude();
    assert_eq!(Packet::parse(&prelude[PACKET_LEN..]).unwrap().pid().get(), PMT + 1);
}

#[test]
fn a_stream_that_shows_itself_only_after_the_splice_is_announced_there() {
    for style in [FLAGGED, LATE] {
        // From the tables on, so that sound, clock and service information come after the key frame has begun.
        let mut chunker = Chunker::new(LIMITS);
        let mut out = chunks_of(&mut chunker, &Mux::new(style).packets(3 * GOP + 50), &[500]);
        // The old source died in the middle of a packet.
        chunker.push(&[0x47; 100], Duration::from_secs(1), &mut out);
        chunker.restart();
        out.extend(chunks_of(&mut chunker, &Mux::new(style).starting_at(7).packets(3 * GOP), &[500]));
        let found = strict(&joined(&out));
        assert_eq!(found.unannounced_jumps, [0_u16; 0]);
        assert_eq!(sorted(found.announced), ALL);
    }
}

#[test]
fn video_that_comes_after_the_sound_of_another_source_is_announced_before_its_first_key_frame() {
    let mut chunker = Chunker::new(LIMITS);
    let mut out = chunks_of(&mut chunker, &Mux::new(FLAGGED).packets(2 * GOP), &[500]);
    chunker.restart();
    let mut mux = Mux::new(Style { no_video: true, ..FLAGGED }).starting_at(7);
    let mut bytes = mux.packets(60 * GOP);
    mux.become_like(FLAGGED);
    bytes.extend(mux.packets(2 * GOP));
    out.extend(chunks_of(&mut chunker, &bytes, &[500]));
    let found = strict(&joined(&out));
    assert_eq!(found.unannounced_jumps, [0_u16; 0]);
    assert_eq!(sorted(found.announced), ALL);
}

/// Start points of the last ten seconds of a stream that changes after two.
fn starts_after_the_change(after: Style) -> Vec<StartKind> {
    let mut mux = Mux::new(FLAGGED);
    let mut chunker = Chunker::new(LIMITS);
    let mut chunks = chunks_of(&mut chunker, &mux.packets(20 * GOP), &[1000]);
    mux.become_like(after);
    chunks.extend(chunks_of(&mut chunker, &mux.packets(200 * GOP), &[1000]));
    let late = chunks.iter().filter(|chunk| chunk.media >= Duration::from_secs(12));
    late.filter_map(|chunk| chunk.start.as_ref()).map(|start| start.kind()).collect()
}

#[test]
fn the_picture_stops_and_the_sound_is_a_place_to_start() {
    let starts = starts_after_the_change(Style { no_video: true, ..FLAGGED });
    assert!(starts.len() >= 15 && starts.iter().all(|kind| *kind == StartKind::Audio), "{starts:?}");
}

#[test]
fn another_programme_in_front_of_ours_takes_no_start_point_away() {
    let starts = starts_after_the_change(Style { another_first: true, ..FLAGGED });
    assert!(starts.len() >= 90 && starts.iter().all(|kind| *kind == StartKind::RandomAccess), "{starts:?}");
}

#[test]
fn a_picture_every_ten_seconds_stays_the_place_to_start() {
    let (mut mux, mut bytes) = (Mux::new(FLAGGED), Vec::new());
    for _ in 0..6 {
        mux.become_like(FLAGGED);
        bytes.extend(mux.packets(GOP));
        mux.become_like(Style { no_video: true, ..FLAGGED });
        bytes.extend(mux.packets(99 * GOP));
    }
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[1000]);
    // How long pictures are apart is known after the first pause.
    let late = chunks.iter().filter(|chunk| chunk.media >= Duration::from_secs(11));
    let kinds: Vec<_> = late.filter_map(|chunk| chunk.start.as_ref()).map(|start| start.kind()).collect();
    assert_eq!(kinds, [StartKind::RandomAccess; 4], "one for each picture");
}

#[test]
fn a_pause_of_the_source_does_not_make_sound_a_place_to_start() {
    let mut mux = Mux::new(FLAGGED);
    let (mut chunker, mut out) = (Chunker::new(LIMITS), Vec::new());
    chunker.push(&mux.packets(2 * GOP), Duration::from_millis(1), &mut out);
    for second in 1..10 {
        // Each time the sound comes first.
        let bytes = mux.packets(GOP / 2 + 5);
        chunker.push(&bytes, Duration::from_secs(10 * second), &mut out);
    }
    let kinds = out.iter().filter_map(|chunk| chunk.start.as_ref()).map(|start| start.kind());
    assert!(kinds.into_iter().all(|kind| kind == StartKind::RandomAccess));
}

#[test]
fn a_damaged_packet_is_passed_on_but_means_nothing() {
    let mut bytes = Mux::new(FLAGGED).packets(2 * GOP);
    bytes[2 * PACKET_LEN + 1] |= 0x80;
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[1000]);
    assert!(joined(&chunks) == bytes[(GOP + 2) * PACKET_LEN..]);
}

#[test]
fn a_page_is_no_transport_stream_and_another_source_gets_another_chance() {
    let mut chunker = Chunker::new(LIMITS);
    let mut out = Vec::new();
    chunker.push(&b"<html>".repeat(20_000), Duration::ZERO, &mut out);
    assert_eq!(chunker.verdict(), Verdict::NotTransportStream);
    chunker.restart();
    assert_eq!(chunker.verdict(), Verdict::Undecided);
    chunker.push(&Mux::new(FLAGGED).packets(GOP), Duration::ZERO, &mut out);
    assert_eq!(chunker.verdict(), Verdict::TransportStream);
    assert!(!out.is_empty() || chunker.seal_at().is_some(), "it has found a place to start");
}

#[test]
fn a_source_that_brings_nothing_is_as_if_it_had_never_been_there() {
    let bytes = Mux::new(FLAGGED).packets(4 * GOP);
    let (first, rest) = bytes.split_at(2 * GOP * PACKET_LEN + 10 * PACKET_LEN);
    let mut chunker = Chunker::new(LIMITS);
    let mut out = chunks_of(&mut chunker, first, &[500]);
    chunker.interrupt(Duration::ZERO, &mut out);
    chunker.restart();
    let in_the_middle = Mux::new(FLAGGED).starting_at(7).packets(2 * GOP)[(GOP + 3) * PACKET_LEN..].to_vec();
    out.extend(chunks_of(&mut chunker, &in_the_middle[..GOP / 2 * PACKET_LEN], &[500]));
    chunker.restart();
    assert!(chunker.resume());
    out.extend(chunks_of(&mut chunker, rest, &[500]));
    chunker.interrupt(Duration::ZERO, &mut out);
    assert!(joined(&out) == joined(&chunks_of(&mut Chunker::new(LIMITS), &bytes, &[500])));
    assert_eq!(strict(&joined(&out)).unannounced_jumps, [0_u16; 0]);
}

#[test]
fn nothing_is_continued_that_never_began_or_was_not_sent_whole() {
    let mut chunker = Chunker::new(LIMITS);
    assert!(!chunker.resume());
    chunker.push(&Mux::new(FLAGGED).packets(2 * GOP), Duration::ZERO, &mut Vec::new());
    assert!(chunker.seal_at().is_some(), "something is pending");
    chunker.restart();
    assert!(!chunker.resume());
}

#[test]
fn a_channel_without_any_start_point_begins_after_five_seconds() {
    let inner = Style { inner_only: true, ..UNFLAGGED };
    for style in [inner, Style { late: true, ..inner }, Style { no_video: true, ..inner }] {
        let mut chunker = Chunker::new(LIMITS);
        let chunks = chunks_of(&mut chunker, &Mux::new(style).packets(80 * GOP), &[188 * 10]);
        let first = chunks[0].start.as_ref().unwrap();
        assert_eq!(first.kind(), StartKind::Unindexed);
        let media = chunks[0].media;
        assert!(media >= Duration::from_secs(5) && media < Duration::from_secs(6), "{media:?}, {style:?}");
        assert!(chunker.stats().makeshift_starts > 0);
        assert_eq!(chunker.stats().continuity_errors, 0);
    }
}

#[test]
fn a_key_frame_ends_the_search_for_something_less() {
    let mut mux = Mux::new(Style { inner_only: true, ..LATE });
    let mut bytes = mux.packets(60 * GOP);
    mux.become_like(LATE);
    bytes.extend(mux.packets(GOP));
    mux.become_like(Style { inner_only: true, ..LATE });
    bytes.extend(mux.packets(100 * GOP));
    let mut chunker = Chunker::new(LIMITS);
    chunks_of(&mut chunker, &bytes, &[188 * 10]);
    assert_eq!(chunker.stats().start_points, 1);
    assert_eq!(chunker.stats().makeshift_starts, 1);
}

#[test]
fn a_lost_packet_is_counted_and_a_torn_one_dropped() {
    let mut bytes = Mux::new(FLAGGED).packets(3 * GOP);
    bytes.drain(150 * PACKET_LEN..151 * PACKET_LEN);
    bytes.drain(200 * PACKET_LEN + 10..200 * PACKET_LEN + 60);
    let mut chunker = Chunker::new(LIMITS);
    let chunks = chunks_of(&mut chunker, &bytes, &[500]);
    assert!(joined(&chunks).chunks(PACKET_LEN).all(|packet| packet[0] == 0x47));
    let stats = chunker.stats();
    assert!(stats.sync_losses >= 1 && stats.continuity_errors >= 2, "{stats:?}");
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_does_not_matter(
        sizes in prop::collection::vec(1..3000_usize, 1..20),
        style in any_style(),
    ) {
        let bytes = Mux::new(style).packets(3 * GOP);
        let whole = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[bytes.len()]);
        let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &sizes);
        // Without the whole PMT the first key frame is of no use.
        let missed = usize::from(style.long_table);
        prop_assert!(joined(&whole) == bytes[(missed * GOP + 2) * PACKET_LEN..]);
        prop_assert!(joined(&chunks) == joined(&whole));
        prop_assert_eq!(start_positions(&chunks).len(), 3 - missed);
    }

    #[test]
    fn a_join_anywhere_has_no_jump_and_a_skip_announces_every_jump_once(
        style in any_style(),
        from in 0..6_usize,
        ahead in 1..6_usize,
        read in 1..9_usize,
    ) {
        let bytes = Mux::new(style).packets(9 * GOP + 37);
        let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[777]);
        let starts = start_positions(&chunks);
        let (from, to) = (starts[from], starts[(from + ahead).min(starts.len() - 1)]);
        let start = |n: usize| chunks[n].start.as_ref().unwrap();
        let seen = [start(from).join_prelude().to_vec(), joined(&chunks[from..])].concat();
        prop_assert_eq!(strict(&seen), Strict::default());

        let read = &chunks[from..(from + read).min(to)];
        let seen = [joined(read), start(to).skip_prelude().to_vec(), joined(&chunks[to..])].concat();
        let found = strict(&seen);
        prop_assert_eq!(found.unannounced_jumps, [0_u16; 0]);
        prop_assert_eq!(sorted(found.announced), ALL);
    }

    #[test]
    fn every_other_source_continues_with_every_jump_announced_once(
        sources in prop::collection::vec((any_style(), 0..16_u8, 0..2 * GOP, 4 * GOP..6 * GOP), 1..4),
        max_bytes in 188..8000_usize,
    ) {
        // So that key frames need not be found in a single packet.
        let max_bytes = if sources.iter().any(|source| source.0.late) { 4096 } else { max_bytes };
        let mut chunker = Chunker::new(ChunkLimits { max_bytes, ..LIMITS });
        let mut out = Vec::new();
        for (style, counter, lead, end) in &sources {
            chunker.restart();
            let bytes = Mux::new(*style).starting_at(*counter).packets(*end);
            out.extend(chunks_of(&mut chunker, &bytes[lead * PACKET_LEN + 50..], &[500]));
        }
        let found = strict(&joined(&out));
        prop_assert_eq!(found.unannounced_jumps, [0_u16; 0]);
        let expected: Vec<u16> = ALL.iter().flat_map(|pid| vec![*pid; sources.len() - 1]).collect();
        prop_assert_eq!(sorted(found.announced), expected);
        prop_assert!(out.iter().zip(0..).all(|(chunk, seq)| chunk.seq == seq));
        prop_assert!(out.is_sorted_by_key(|chunk| chunk.media));
        prop_assert!(out.iter().all(|chunk| chunk.bytes.len() <= max_bytes));
    }

    #[test]
    fn no_chunk_is_larger_or_older_than_allowed(
        max_bytes in 188..70_000_usize,
        sizes in prop::collection::vec(1..3000_usize, 1..20),
    ) {
        let limits = ChunkLimits { max_bytes, max_hold: Duration::from_millis(5) };
        let mut chunker = Chunker::new(limits);
        let bytes = Mux::new(FLAGGED).packets(3 * GOP);
        let (mut out, mut rest, mut now) = (Vec::new(), &bytes[..], Duration::ZERO);
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            now += Duration::from_millis(1);
            chunker.push(piece, now, &mut out);
            prop_assert!(chunker.seal_at().is_none_or(|at| at > now && at <= now + limits.max_hold));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(out.iter().all(|chunk| chunk.bytes.len() <= max_bytes.max(PACKET_LEN)));
        prop_assert!(out.iter().all(|chunk| chunk.bytes.len() % PACKET_LEN == 0));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        noise in prop::collection::vec(any::<u8>(), 0..4000),
        at in 0..30_000_usize,
        limit in 0..500_usize,
    ) {
        let mut bytes = Mux::new(FLAGGED).packets(2 * GOP);
        let at = at.min(bytes.len());
        bytes.splice(at..at, noise);
        let limits = ChunkLimits { max_bytes: limit, max_hold: Duration::ZERO };
        let chunks = chunks_of(&mut Chunker::new(limits), &bytes, &[123]);
        prop_assert!(joined(&chunks).chunks(PACKET_LEN).all(|packet| packet.len() == PACKET_LEN && packet[0] == 0x47));
    }
}
