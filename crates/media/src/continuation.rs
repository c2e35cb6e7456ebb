//! Where another source of the same broadcast goes on with what was sent already.
//!
//! Engines of one swarm carry identical bytes, but each begins somewhere else: usually with a burst of seconds that the
//! ring holds already. A clock packet of the new source is looked up in the past by its value and its bytes. From there
//! on both must agree, packet by packet, until the past ends; what follows is the continuation, and no viewer can tell
//! that the source has changed. Packets of our own (stuffing, announced jumps) are passed over on both sides.

use std::time::Duration;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::clock::Pcr;
use crate::ts::align::Aligner;
use crate::ts::packet::{PACKET_LEN, Packet, Pid};
use crate::ts::pes::decoding_time;

/// So many packets in a row must agree before the rest of the past is believed to be the same. Where the past ends
/// earlier, the clock packet and what is left must do.
const PROOF: usize = 32;
/// Clock packets within the past that may be missing in it (damaged, or one engine lost a piece) before the new source
/// counts as another broadcast.
const MISSES: usize = 10;
/// Clock values farther apart belong to different clocks.
const ONE_CLOCK: Duration = Duration::from_hours(1);
/// Most bytes kept while nothing is decided: what comes before the next clock packet, of which the standard asks one
/// every 100 ms. A source that sends so much without any has nothing to compare.
const UNDECIDED: usize = 4 * 1024 * 1024;

/// What was sent already, as far as it is still there.
#[derive(Debug, Default)]
pub struct Past {
    /// Runs of whole packets in order.
    runs: Vec<Run>,
    /// The stream that carries the clock.
    clock: Option<Pid>,
}

#[derive(Debug)]
struct Run {
    bytes: Bytes,
    pcr: Option<Pcr>,
}

/// A packet of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    run: usize,
    offset: usize,
}

/// What is known after some bytes of the new source.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not enough yet.
    Undecided,
    /// The past ends right before these bytes.
    Continues(Vec<u8>),
    /// The new source has nothing to do with the past, or begins behind its end. These are its bytes.
    Unrelated(Vec<u8>),
}

/// The search for the place where a source goes on.
pub struct Continuation {
    past: Past,
    aligner: Aligner,
    search: Search,
}

struct Search {
    stage: Stage,
    misses: usize,
    /// Packets that nothing was decided about.
    seen: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No packet of the past has come by.
    Searching,
    /// The next packet must be this one.
    Following { next: Place, agreed: usize },
    /// The past is over.
    Continuing,
    /// There is no place.
    Unrelated,
}

/// Where a clock value lies.
enum Found {
    Here(Place),
    /// Older than everything that is left of the past.
    Before,
    /// In between, but no such packet.
    Missing,
    /// Behind the end, or of another clock.
    Nowhere,
}

impl Past {
    /// Of the chunks a ring holds, the oldest first.
    pub fn new(chunks: impl IntoIterator<Item = Chunk>) -> Self {
        let own = |chunk: &Chunk| !chunk.jump;
        let runs: Vec<Run> =
            chunks.into_iter().filter(own).map(|Chunk { bytes, pcr, .. }| Run { bytes, pcr }).collect();
        let clock = runs.iter().rev().find_map(Run::clock);
        Self { runs, clock }
    }

    /// Whether the packet that says when this chunk is to be played was sent already.
    pub fn holds(&self, chunk: &Chunk) -> bool {
        if let Some(pcr) = chunk.pcr {
            let clock = packets(&chunk.bytes).find(|packet| packet.pcr() == Some(pcr));
            return clock.is_some_and(|packet| matches!(self.find(packet, pcr), Found::Here(_)));
        }
        let is_stamped = |packet: &Packet<'_>| {
            packet.starts_unit() && decoding_time(packet.payload()) == chunk.time && chunk.time.is_some()
        };
        let stamped = packets(&chunk.bytes).find(is_stamped);
        stamped.is_some_and(|packet| self.runs.iter().any(|run| run.position(packet).is_some()))
    }

    /// The clock packet whose value is nearest below `pcr` is in the run to begin with.
    fn find(&self, packet: Packet<'_>, pcr: Pcr) -> Found {
        let clocked = || self.runs.iter().enumerate().filter_map(|(at, run)| Some((at, run.pcr?)));
        let within = |earlier: Pcr, later: Pcr| later.since(earlier) < ONE_CLOCK;
        let below = clocked().filter(|(_, known)| within(*known, pcr));
        let Some((first, _)) = below.min_by_key(|(_, known)| pcr.since(*known)) else {
            let is_older = clocked().any(|(_, known)| within(pcr, known));
            return if is_older { Found::Before } else { Found::Nowhere };
        };
        let until = clocked().map(|(at, _)| at).find(|at| *at > first).unwrap_or(self.runs.len());
        let place =
            (first..until).find_map(|run| Some(Place { run, offset: self.runs[run].position(packet)? }));
        match place {
            Some(place) => Found::Here(place),
            None if until < self.runs.len() => Found::Missing,
            None => Found::Nowhere,
        }
    }

    /// The packet of the source at `place` or the next one after it.
    fn packet(&self, place: Place) -> Option<(Place, Packet<'_>)> {
        let mut place = place;
        loop {
            let run = self.runs.get(place.run)?;
            match run.bytes.get(place.offset..).and_then(Packet::parse) {
                Some(packet) if is_ours(packet) => place.offset += PACKET_LEN,
                Some(packet) => return Some((place, packet)),
                None => place = Place { run: place.run + 1, offset: 0 },
            }
        }
    }
}

impl Run {
    /// The stream of the packet that carries the run's clock value.
    fn clock(&self) -> Option<Pid> {
        let pcr = self.pcr?;
        packets(&self.bytes).find(|packet| packet.pcr() == Some(pcr)).map(Packet::pid)
    }

    fn position(&self, wanted: Packet<'_>) -> Option<usize> {
        packets(&self.bytes).position(|packet| packet.bytes() == wanted.bytes()).map(|n| n * PACKET_LEN)
    }
}

impl Continuation {
    /// Looks for the end of `past`.
    pub fn of(past: Past) -> Self {
        let stage = if past.clock.is_some() { Stage::Searching } else { Stage::Unrelated };
        Self { past, aligner: Aligner::default(), search: Search { stage, misses: 0, seen: Vec::new() } }
    }

    /// Takes bytes of the new source. What it gives once it has decided is everything from there on; nothing may be
    /// pushed after that.
    pub fn push(&mut self, bytes: &[u8]) -> Outcome {
        let Self { past, aligner, search } = self;
        aligner.feed(bytes, &mut |packet| search.take(past, packet));
        if search.seen.len() > UNDECIDED {
            search.stage = Stage::Unrelated;
        }
        match search.stage {
            Stage::Continuing => Outcome::Continues(self.rest()),
            Stage::Unrelated => Outcome::Unrelated(self.rest()),
            Stage::Searching | Stage::Following { .. } => Outcome::Undecided,
        }
    }

    /// Stops looking: the bytes that have come since the last thing that was certain.
    pub fn give_up(&mut self) -> Vec<u8> {
        self.rest()
    }

    /// Whether the place is known, and only what was sent already must be passed over.
    pub fn is_following(&self) -> bool {
        matches!(self.search.stage, Stage::Following { agreed, .. } if agreed >= PROOF)
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.search.seen);
        rest.extend(std::mem::take(&mut self.aligner).into_partial());
        rest
    }
}

impl Search {
    fn take(&mut self, past: &Past, packet: Packet<'_>) {
        if let Stage::Following { next, agreed } = self.stage
            && !is_ours(packet)
        {
            self.follow(past, packet, next, agreed);
        }
        if self.stage == Stage::Searching
            && let Some(pcr) = packet.pcr().filter(|_| Some(packet.pid()) == past.clock)
        {
            self.look_up(past, packet, pcr);
        }
        if !self.is_at_the_end_of(past) {
            self.seen.extend_from_slice(packet.bytes());
        }
    }

    fn follow(&mut self, past: &Past, packet: Packet<'_>, next: Place, agreed: usize) {
        match past.packet(next) {
            Some((place, known)) if known.bytes() == packet.bytes() => self.agree(place, agreed),
            // One of the two has lost a piece: the next clock packet tells where they meet again.
            _ => self.stage = Stage::Searching,
        }
    }

    fn look_up(&mut self, past: &Past, packet: Packet<'_>, pcr: Pcr) {
        match past.find(packet, pcr) {
            Found::Here(place) => self.agree(place, 0),
            Found::Before => self.seen.clear(),
            Found::Missing if self.misses < MISSES => self.misses += 1,
            Found::Missing | Found::Nowhere => self.stage = Stage::Unrelated,
        }
    }

    fn agree(&mut self, Place { run, offset }: Place, agreed: usize) {
        let next = Place { run, offset: offset + PACKET_LEN };
        self.stage = Stage::Following { next, agreed: agreed + 1 };
        if agreed + 1 >= PROOF {
            self.seen.clear();
        }
    }

    /// The packet that was agreed on last may be the past's last one: it belongs to the past, like all before it.
    fn is_at_the_end_of(&mut self, past: &Past) -> bool {
        let Stage::Following { next, .. } = self.stage else { return false };
        let is_over = past.packet(next).is_none();
        if is_over {
            self.stage = Stage::Continuing;
            self.seen.clear();
        }
        is_over
    }
}

/// Stuffing, or the announcement of a jump: nothing that a source needs to have sent.
fn is_ours(packet: Packet<'_>) -> bool {
    let bytes = packet.bytes();
    let is_announcement =
        bytes[3] & 0x30 == 0x20 && bytes[4..6] == [183, 0x80] && bytes[6..].iter().all(|byte| *byte == 0xff);
    packet.pid() == Pid::NULL || is_announcement
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    bytes.chunks_exact(PACKET_LEN).filter_map(Packet::parse)
}
