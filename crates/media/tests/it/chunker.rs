//! Chunks: aligned, bounded, complete, and joined or spliced without an unannounced jump.

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker, Verdict};
use acemux_media::starts::StartKind;
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use proptest::prelude::*;

use crate::builder::{AUDIO, GOP, Mux, PMT, VIDEO, strict};

const LIMITS: ChunkLimits = ChunkLimits { max_bytes: 4096, max_hold: Duration::from_millis(50) };

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
    chunker.seal(now, &mut out);
    out
}

fn joined(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

#[test]
fn a_stream_begins_at_its_first_key_frame_and_nothing_is_missing_afterwards() {
    for flags in [true, false] {
        let bytes = Mux::new(flags).packets(5 * GOP);
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
    let bytes = Mux::new(true).packets(20 * GOP);
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
fn a_join_anywhere_has_no_jump_at_all() {
    let bytes = Mux::new(true).packets(6 * GOP);
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[777]);
    for (n, start) in chunks.iter().enumerate().filter_map(|(n, chunk)| Some((n, chunk.start.clone()?))) {
        let seen = [start.join_prelude().to_vec(), joined(&chunks[n..])].concat();
        assert_eq!(strict(&seen), crate::builder::Strict::default());
        let pids: Vec<u16> = seen
            .chunks(PACKET_LEN)
            .take(3)
            .map(|packet| Packet::parse(packet).unwrap().pid().get())
            .collect();
        assert_eq!(pids, [0, PMT, VIDEO], "PAT, PMT, key frame");
    }
}

#[test]
fn a_skip_announces_every_streams_jump_once() {
    let bytes = Mux::new(true).packets(9 * GOP + 37);
    let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &[777]);
    let starts: Vec<usize> = (0..chunks.len()).filter(|n| chunks[*n].start.is_some()).collect();
    for (from, to) in [(1, 4), (0, 7), (5, 6)] {
        let (from, to) = (starts[from] + 1, starts[to]);
        let prelude = chunks[to].start.as_ref().unwrap().skip_prelude();
        let seen = [joined(&chunks[..from]), prelude.to_vec(), joined(&chunks[to..])].concat();
        let found = strict(&seen);
        assert_eq!(found.unannounced_jumps, [0_u16; 0]);
        assert_eq!(found.announced, [0, PMT, VIDEO, AUDIO]);
    }
}

#[test]
fn another_source_continues_with_every_jump_announced_once() {
    for lead in [0, 17, 60] {
        let mut chunker = Chunker::new(LIMITS);
        let mut out = chunks_of(&mut chunker, &Mux::new(true).packets(3 * GOP + 50)[..], &[500]);
        // The old source died in the middle of a packet.
        chunker.push(&[0x47; 100], Duration::from_secs(1), &mut out);
        chunker.restart();
        let other = Mux::new(true).starting_at(7).packets(3 * GOP);
        out.extend(chunks_of(&mut chunker, &other[lead * PACKET_LEN..], &[500]));
        let found = strict(&joined(&out));
        assert_eq!(found.unannounced_jumps, [0_u16; 0], "lead {lead}");
        let mut announced = found.announced;
        announced.sort_unstable();
        assert_eq!(announced, [0, PMT, VIDEO, AUDIO], "lead {lead}");
        assert!(out.iter().enumerate().all(|(n, chunk)| chunk.seq == n as u64));
    }
}

#[test]
fn a_page_is_no_transport_stream_and_another_source_gets_another_chance() {
    let mut chunker = Chunker::new(LIMITS);
    let mut out = Vec::new();
    chunker.push(&b"<html>".repeat(20_000), Duration::ZERO, &mut out);
    assert_eq!(chunker.verdict(), Verdict::NotTransportStream);
    chunker.restart();
    assert_eq!(chunker.verdict(), Verdict::Undecided);
    chunker.push(&Mux::new(true).packets(GOP), Duration::ZERO, &mut out);
    assert_eq!(chunker.verdict(), Verdict::TransportStream);
    assert!(chunker.found_start());
}

#[test]
fn a_channel_without_any_start_point_begins_after_five_seconds() {
    let mut bytes = Mux::new(false).packets(80 * GOP);
    // Every picture is an inner one.
    for packet in bytes.chunks_mut(PACKET_LEN) {
        if let Some(at) = packet.windows(4).position(|window| window == [0, 0, 1, 0x65]) {
            packet[at + 3] = 0x41;
        }
    }
    let mut chunker = Chunker::new(LIMITS);
    let chunks = chunks_of(&mut chunker, &bytes, &[188 * 10]);
    let first = chunks[0].start.as_ref().unwrap();
    assert_eq!(first.kind(), StartKind::Unindexed);
    assert!(chunks[0].media >= Duration::from_secs(5) && chunks[0].media < Duration::from_secs(6));
    assert!(chunker.stats().makeshift_starts > 0);
    assert_eq!(chunker.stats().continuity_errors, 0);
}

#[test]
fn a_lost_packet_is_counted_and_a_torn_one_dropped() {
    let mut bytes = Mux::new(true).packets(3 * GOP);
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
    fn how_the_bytes_are_cut_does_not_matter(sizes in prop::collection::vec(1..3000_usize, 1..20), flags: bool) {
        let bytes = Mux::new(flags).packets(3 * GOP);
        let whole = joined(&chunks_of(&mut Chunker::new(LIMITS), &bytes, &[bytes.len()]));
        let chunks = chunks_of(&mut Chunker::new(LIMITS), &bytes, &sizes);
        prop_assert!(joined(&chunks) == whole);
    }

    #[test]
    fn no_chunk_is_larger_or_older_than_allowed(
        max_bytes in 188..70_000_usize,
        sizes in prop::collection::vec(1..3000_usize, 1..20),
    ) {
        let limits = ChunkLimits { max_bytes, max_hold: Duration::from_millis(5) };
        let mut chunker = Chunker::new(limits);
        let bytes = Mux::new(true).packets(3 * GOP);
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
        let mut bytes = Mux::new(true).packets(2 * GOP);
        let at = at.min(bytes.len());
        bytes.splice(at..at, noise);
        let limits = ChunkLimits { max_bytes: limit, max_hold: Duration::ZERO };
        let chunks = chunks_of(&mut Chunker::new(limits), &bytes, &[123]);
        prop_assert!(joined(&chunks).chunks(PACKET_LEN).all(|packet| packet.len() == PACKET_LEN && packet[0] == 0x47));
    }
}
