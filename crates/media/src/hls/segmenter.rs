//! Where a stream is cut.
//!
//! At start points, so that a player can join with any segment. Where start points are too far apart it is cut without
//! one, because the longest segment is a promise to every player that must not be broken later (RFC 8216 §4.3.3.1). A
//! jump or another format ends a segment at once, however short it is.

use std::time::Duration;

use bytes::Bytes;

use super::Segment;
use super::open::Open;
use crate::chunk::Chunk;
use crate::clock::Pcr;
use crate::ts::packet::{PACKET_LEN, Packet, Pid};

/// Durations are compared with the target duration after rounding, so this much more than the longest is not too long.
const ROUNDED_OFF: Duration = Duration::from_millis(499);
/// A clock that is this far ahead of media time has jumped: media time takes smaller steps for progress.
const AHEAD: Duration = Duration::from_secs(10);
/// A clock never goes back. Some multiplexers write single values that do, by far less than this.
const BACK: Duration = Duration::from_secs(1);
/// The last chunk before a gap ends somewhere in it: not later than this. A gap is no media time.
const LONGEST_CHUNK: Duration = Duration::from_secs(1);

/// How long and how large a segment may get.
#[derive(Clone, Copy, Debug)]
pub struct SegmentLimits {
    /// Shortest, in media time: the first start point from here on ends the segment. Only a jump ends it sooner, or a
    /// start point if it had to begin without one.
    pub least: Duration,
    /// The same for streams that can be cut anywhere (radio, makeshift start points), where nothing asks for more
    /// requests than necessary.
    pub target: Duration,
    /// Longest, in media time. Whole seconds, because that is how playlists say it.
    pub most: Duration,
    /// Most bytes, tables included; a single larger chunk is still a segment.
    pub most_bytes: usize,
}

impl Default for SegmentLimits {
    /// 2, 4 and 6 seconds: players begin three target durations behind the end (RFC 8216 §6.3.3), so longer segments
    /// mean later pictures, and shorter ones more requests. 40 MiB are 6 s of 55 Mbit/s.
    fn default() -> Self {
        let [least, target, most] = [2, 4, 6].map(Duration::from_secs);
        Self { least, target, most, most_bytes: 40 << 20 }
    }
}

impl SegmentLimits {
    /// What still counts as `most`.
    fn longest(&self) -> Duration {
        self.most.saturating_add(ROUNDED_OFF)
    }
}

/// Cuts one stream's chunks into segments.
#[derive(Debug)]
pub struct Segmenter {
    limits: SegmentLimits,
    open: Option<Open>,
    /// Nothing begins before a start point: at first, and after chunks that were missed.
    seeking: bool,
    /// What comes next does not continue what came before.
    broken: bool,
    /// The tables of the last start point, for a segment that begins without one.
    tables: Bytes,
    clock: Option<Tick>,
    /// Media time of the last chunk, and from the one before to it.
    last: Option<Duration>,
    step: Duration,
    next_number: u64,
    first_number: u64,
}

/// A value of the stream's clock and the media time of its chunk.
#[derive(Clone, Copy, Debug)]
struct Tick {
    pcr: Pcr,
    media: Duration,
}

impl Segmenter {
    /// For one stream, from its beginning or from wherever its reader starts. Numbers begin at 0.
    pub fn new(limits: SegmentLimits) -> Self {
        Self::numbered_from(limits, 0)
    }

    /// The same, with another number for the first segment: a stream that is cut anew gives no number twice.
    pub fn numbered_from(limits: SegmentLimits, first: u64) -> Self {
        Self {
            limits,
            open: None,
            seeking: true,
            broken: false,
            tables: Bytes::new(),
            clock: None,
            last: None,
            step: Duration::ZERO,
            next_number: first,
            first_number: first,
        }
    }

    /// The same for whoever may know segments of another stream, or of this one before a hole: the first one announces that
    /// it continues nothing.
    pub fn after_others(limits: SegmentLimits, first: u64) -> Self {
        Self { broken: true, ..Self::numbered_from(limits, first) }
    }

    /// Takes the stream's next chunk and appends the segments it completes to `out`: at most two. False for a chunk that
    /// is nothing to show.
    pub fn push(&mut self, chunk: &Chunk, out: &mut Vec<Segment>) -> bool {
        if chunk.jump {
            self.interrupt(chunk.media, out);
            return false;
        }
        if is_stuffing(&chunk.bytes) {
            return false;
        }
        if chunk.new_format {
            self.another_format(chunk.media, out);
        } else if self.clock_jumps(chunk) || self.leaves_a_hole(chunk) {
            self.interrupt(chunk.media, out);
        }
        self.cut_before(chunk, out);
        self.note(chunk);
        self.append(chunk);
        true
    }

    /// Nothing comes for now: what there is becomes a segment, so that players have it. If the stream goes on exactly, so
    /// does the next segment, without a start point.
    pub fn pause(&mut self) -> Option<Segment> {
        let end = self.probable_end();
        self.open.take_if(|open| open.is_worth_a_request(end)).map(|open| self.number(open, end))
    }

    /// The reader missed chunks: what is open ends, and the next segment begins at the next start point.
    pub fn lagged(&mut self, out: &mut Vec<Segment>) {
        self.interrupt(self.probable_end(), out);
        self.seeking = true;
    }

    /// The stream is over. What is open is its last segment.
    pub fn finish(mut self) -> Option<Segment> {
        let end = self.probable_end();
        self.close(end)
    }

    /// What follows begins at `next` and does not continue what came before.
    fn interrupt(&mut self, next: Duration, out: &mut Vec<Segment>) {
        let latest = self.last.unwrap_or_default().saturating_add(LONGEST_CHUNK);
        out.extend(self.close(next.min(latest)));
        // Before the first segment there is nothing that it could continue.
        self.broken |= self.next_number > self.first_number;
        self.clock = None;
        self.last = None;
    }

    /// No segment mixes two: what is left of the old one, and comes of the new one before a start point, belongs to neither.
    fn another_format(&mut self, next: Duration, out: &mut Vec<Segment>) {
        self.interrupt(next, out);
        self.seeking = true;
    }

    fn cut_before(&mut self, chunk: &Chunk, out: &mut Vec<Segment>) {
        if let Some(last) = self.split_off_last(chunk, out) {
            self.append(&last);
        }
        if self.open.as_ref().is_some_and(|open| open.ends_before(chunk, &self.limits)) {
            out.extend(self.close(chunk.media));
        }
    }

    /// Media that skipped seconds would make the segment too long: it ends with the last chunk but one, and the hole is
    /// behind the next one's first.
    fn split_off_last(&mut self, chunk: &Chunk, out: &mut Vec<Segment>) -> Option<Chunk> {
        let open = self.open.as_mut()?;
        let last = if open.until(chunk) > self.limits.longest() { open.split_off_last() } else { None }?;
        out.extend(self.close(last.media));
        Some(last)
    }

    fn close(&mut self, end: Duration) -> Option<Segment> {
        self.open.take().map(|open| self.number(open, end))
    }

    fn number(&mut self, open: Open, end: Duration) -> Segment {
        let segment = open.close(self.next_number, end, self.limits.longest());
        self.next_number += 1;
        segment
    }

    /// Remembers what the next chunk is compared with.
    fn note(&mut self, chunk: &Chunk) {
        if let Some(pcr) = chunk.last_pcr.or(chunk.pcr) {
            self.clock = Some(Tick { pcr, media: chunk.media });
        }
        if let Some(start) = &chunk.start {
            self.tables = start.tables();
            self.seeking = false;
        }
        if let Some(last) = self.last.replace(chunk.media) {
            self.step = chunk.media.saturating_sub(last);
        }
    }

    fn append(&mut self, chunk: &Chunk) {
        if self.seeking {
            return;
        }
        let (broken, tables) = (&mut self.broken, &self.tables);
        self.open
            .get_or_insert_with(|| Open::new(chunk, tables.clone(), std::mem::take(broken)))
            .append(chunk.clone());
    }

    /// Of the last chunk, if it is as long as the one before.
    fn probable_end(&self) -> Duration {
        self.last.unwrap_or_default().saturating_add(self.step.min(LONGEST_CHUNK))
    }

    /// Before the chunk, or inside of it: then it begins the new segment, because most of what it holds may be of the new
    /// clock, and none of what follows is of the old one.
    fn clock_jumps(&self, chunk: &Chunk) -> bool {
        let before = self
            .clock
            .zip(chunk.pcr)
            .is_some_and(|(last, pcr)| is_jump(last.pcr, pcr, chunk.media.saturating_sub(last.media)));
        let inside = chunk.pcr.zip(chunk.last_pcr);
        before || inside.is_some_and(|(first, last)| is_jump(first, last, Duration::ZERO))
    }

    /// No segment is so long that it could span it: starved swarms skip seconds.
    fn leaves_a_hole(&self, chunk: &Chunk) -> bool {
        self.last.is_some_and(|last| chunk.media.saturating_sub(last) > self.limits.longest())
    }
}

/// Whether a clock that goes from one value to the other while so much media passes has jumped.
fn is_jump(from: Pcr, to: Pcr, media: Duration) -> bool {
    let (ahead, back) = (to.since(from), from.since(to));
    if back < ahead { back > BACK } else { ahead > media.saturating_add(AHEAD) }
}

/// What the relay sends through a gap, so that players stay connected, is nothing to keep.
fn is_stuffing(bytes: &[u8]) -> bool {
    bytes.chunks(PACKET_LEN).all(|bytes| Packet::parse(bytes).is_some_and(|packet| packet.pid() == Pid::NULL))
}
