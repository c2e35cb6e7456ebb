//! Another source of the same broadcast continues the first one's packets exactly, wherever it begins.

use std::time::Duration;

use acemux_media::chunk::{Chunk, ChunkLimits, Chunker};
use acemux_media::continuation::{Continuation, Outcome, Past};
use acemux_media::ts::packet::PACKET_LEN;
use acemux_media::ts::splice::null_packet;
use proptest::prelude::*;

use crate::builder::{FLAGGED, Mux};

const PACKETS: usize = 3000;
/// The first start point of the broadcast: what comes before it goes to nobody.
const FIRST: usize = 2;

fn broadcast() -> Vec<u8> {
    Mux::new(FLAGGED).packets(PACKETS)
}

fn part(stream: &[u8], from: usize, to: usize) -> &[u8] {
    &stream[from * PACKET_LEN..to * PACKET_LEN]
}

/// What a ring holds after these bytes: everything from the first start point on.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunker = Chunker::new(ChunkLimits { max_bytes: 20 * PACKET_LEN, max_hold: Duration::ZERO });
    let mut out = Vec::new();
    chunker.push(bytes, Duration::ZERO, &mut out);
    chunker.interrupt(Duration::ZERO, &mut out);
    out
}

fn text(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// Pushes the bytes in pieces of `piece` until something is decided, and appends the rest.
fn push(continuation: &mut Continuation, bytes: &[u8], piece: usize) -> Outcome {
    let mut left = bytes;
    while !left.is_empty() {
        let (next, rest) = left.split_at(piece.min(left.len()));
        left = rest;
        match continuation.push(next) {
            Outcome::Undecided => {}
            Outcome::Continues(bytes) => return Outcome::Continues([&bytes, left].concat()),
            Outcome::Unrelated(bytes) => return Outcome::Unrelated([&bytes, left].concat()),
        }
    }
    Outcome::Undecided
}

fn assert_exact(past: &[Chunk], source: &[u8], piece: usize, expected: &[u8]) {
    let outcome = push(&mut Continuation::of(Past::new(past.to_vec())), source, piece);
    let Outcome::Continues(rest) = outcome else { panic!("it is the same broadcast") };
    assert!([text(past), rest].concat() == expected, "nothing is lost and nothing is repeated");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wherever_the_other_source_begins_before_the_end_it_continues_exactly(
        end in 300_usize..2500, back in 10_usize..2000, cut in 0_usize..PACKET_LEN, piece in 1_usize..70_000,
    ) {
        let stream = broadcast();
        let past = chunks(part(&stream, 0, end));
        let from = end.saturating_sub(back) * PACKET_LEN;
        assert_exact(&past, &stream[from + cut..], piece, part(&stream, FIRST, PACKETS));
    }

    #[test]
    fn who_begins_behind_the_end_is_told_apart_and_loses_nothing(
        end in 300_usize..1000, ahead in 11_usize..1000, piece in 1_usize..70_000,
    ) {
        let stream = broadcast();
        let past = Past::new(chunks(part(&stream, 0, end)));
        let source = &stream[(end + ahead) * PACKET_LEN..];
        let outcome = push(&mut Continuation::of(past), source, piece);
        prop_assert_eq!(outcome, Outcome::Unrelated(source.to_vec()));
    }
}

#[test]
fn a_source_older_than_all_that_is_left_is_passed_over_until_it_gets_there() {
    let stream = broadcast();
    let mut past = chunks(part(&stream, 0, 2000));
    past.drain(..past.len() - 20);
    let left = text(&past).len() / PACKET_LEN;
    assert_exact(&past, &stream, 4096, part(&stream, 2000 - left, PACKETS));
}

#[test]
fn what_we_have_sent_ourselves_is_passed_over() {
    let stream = broadcast();
    let mut past = chunks(part(&stream, 0, 1000));
    let expected = text(&past);
    let stuffing =
        || Chunk { start: None, pcr: None, bytes: null_packet().to_vec().into(), ..past[0].clone() };
    let (middle, last) = (stuffing(), stuffing());
    past.insert(past.len() - 2, middle);
    past.push(last);
    let mut continuation = Continuation::of(Past::new(past));
    let Outcome::Continues(rest) = push(&mut continuation, part(&stream, 700, PACKETS), 1000) else {
        panic!("it is the same broadcast")
    };
    assert!([&expected, &rest[..]].concat() == part(&stream, FIRST, PACKETS));
}

#[test]
fn a_piece_that_only_one_of_the_two_has_lost_does_not_hide_the_place() {
    let stream = broadcast();
    let past = chunks(part(&stream, 0, 1000));
    let holed = [part(&stream, 500, 600), part(&stream, 650, PACKETS)].concat();
    assert_exact(&past, &holed, 5000, part(&stream, FIRST, PACKETS));
    let own_hole = chunks(&[part(&stream, 0, 600), part(&stream, 650, 1000)].concat());
    let expected = [part(&stream, FIRST, 600), part(&stream, 650, PACKETS)].concat();
    assert_exact(&own_hole, part(&stream, 500, PACKETS), 5000, &expected);
}

#[test]
fn another_broadcast_is_told_apart_after_its_first_clock_packets() {
    let past = chunks(part(&broadcast(), 0, 1000));
    let mut other = Mux::new(FLAGGED).starting_at(7);
    let bytes = other.packets(1000);
    let outcome = push(&mut Continuation::of(Past::new(past)), &bytes, 188);
    assert_eq!(outcome, Outcome::Unrelated(bytes));
}

#[test]
fn without_a_past_or_without_a_clock_there_is_nothing_to_find() {
    let stream = broadcast();
    let outcome = Continuation::of(Past::new([])).push(&stream);
    assert_eq!(outcome, Outcome::Unrelated(stream.clone()));
    let mut silent = Continuation::of(Past::new(chunks(&stream)));
    assert_eq!(silent.push(&null_packet()), Outcome::Undecided);
    assert_eq!(silent.give_up(), null_packet());
}
