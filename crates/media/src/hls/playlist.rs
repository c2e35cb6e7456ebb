//! What is listed, what is kept, and the text that says so (RFC 8216 §4.3 and §6.2.2).
//!
//! A live playlist may only grow at its end and shrink at its front. Segments stay listed while three target durations
//! need them, and fetchable for a while afterwards. Only a shortage of memory takes them away sooner.
//!
//! `EXT-X-INDEPENDENT-SEGMENTS` is never written: it would be a promise about segments that do not exist yet, and a
//! stream whose start points are too far apart breaks it. Without it version 3 is all that is needed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use super::Segment;

/// Fractions in `EXTINF` need it (RFC 8216 §7).
const VERSION: u32 = 3;
/// A live playlist must not shrink below this many target durations (RFC 8216 §6.2.2).
const TARGETS_LISTED: u32 = 3;
/// Most segments that are listed to fill three target durations: more are so short that something is wrong with the
/// stream, and a list without bound would be worse.
const MOST_LISTED: usize = 64;
const MICROS: u128 = 1_000_000;
/// Less says nothing about a stream's rate.
const LEAST_MEASURED: Duration = Duration::from_millis(500);

/// How much a playlist lists.
#[derive(Clone, Copy, Debug)]
pub struct PlaylistLimits {
    /// Longest that a segment is meant to be; rounded up to whole seconds it is the target duration.
    pub longest: Duration,
    /// Fewest segments that stay listed, however long they are.
    pub least_listed: usize,
    /// Discontinuities before the first segment: another number for each stream that the same viewers may be given one
    /// after the other, so that none takes one's clock for the other's.
    pub discontinuities: u64,
}

impl Default for PlaylistLimits {
    /// What [`super::SegmentLimits::default`] makes. Three segments are what players keep ahead.
    fn default() -> Self {
        Self { longest: Duration::from_secs(6), least_listed: 3, discontinuities: 0 }
    }
}

/// Why there is no such segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not kept any longer, or the stream ended before it.
    Gone,
    /// It is still to come.
    NotYet,
}

/// A window over the newest segments of one stream.
#[derive(Debug)]
pub struct Playlist {
    target_seconds: u64,
    least_listed: usize,
    /// Fetchable but not listed any longer, oldest first.
    leaving: VecDeque<Leaving>,
    listed: VecDeque<Listed>,
    /// Number of the segment to come.
    next_number: u64,
    /// Discontinuities that are not listed any longer.
    discontinuities: u64,
    bytes: usize,
    over: bool,
}

#[derive(Debug)]
struct Listed {
    segment: Segment,
    /// Of the longest playlist that listed it.
    longest: Duration,
}

#[derive(Debug)]
struct Leaving {
    segment: Segment,
    /// Since the same origin as every `now`.
    until: Duration,
}

impl Playlist {
    /// Empty.
    pub fn new(limits: PlaylistLimits) -> Self {
        Self {
            target_seconds: rounded_up(limits.longest).max(1),
            least_listed: limits.least_listed.max(1),
            leaving: VecDeque::new(),
            listed: VecDeque::new(),
            next_number: 0,
            discontinuities: limits.discontinuities,
            bytes: 0,
            over: false,
        }
    }

    /// Lists the stream's next segment at `now` (since any fixed origin) and takes from the front what the list does
    /// not need. The first may have any number; after it one that is not next, or comes after the end, is not taken.
    ///
    /// A segment that is longer than was promised raises the target duration, which players are not prepared for.
    pub fn push(&mut self, segment: Segment, now: Duration) {
        let first = self.next_number == 0;
        if self.over || !(first || segment.number == self.next_number) {
            return;
        }
        self.next_number = segment.number.saturating_add(1);
        self.target_seconds = self.target_seconds.max(rounded(segment.duration));
        self.bytes += segment.size();
        self.listed.push_back(Listed { segment, longest: Duration::ZERO });
        while self.can_spare_one() {
            self.delist(now);
        }
        let duration = self.duration();
        for listed in &mut self.listed {
            listed.longest = listed.longest.max(duration);
        }
    }

    /// No segment will follow.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Drops what no player that keeps to the rules asks for any longer at `now`.
    pub fn expire(&mut self, now: Duration) {
        // In order, so that numbers have no gaps: one that is needed longer keeps those behind it a little longer too.
        while let Some(old) = self.leaving.pop_front_if(|old| old.until <= now) {
            self.bytes -= old.segment.size();
        }
    }

    /// Drops the oldest segments, listed ones too if there are no others, until no more than `most` bytes are held. The
    /// newest stays: without it nobody could play at all.
    pub fn shed(&mut self, most: usize) {
        while self.bytes > most {
            let old = self.leaving.pop_front().map(|old| old.segment);
            let Some(segment) = old.or_else(|| self.unlist().map(|listed| listed.segment)) else { return };
            self.bytes -= segment.size();
        }
    }

    /// Bytes of all segments that are kept. The blocks of memory that they share with the ring may be larger.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Media time of what is listed.
    pub fn duration(&self) -> Duration {
        self.listed().map(|segment| segment.duration).sum()
    }

    /// The fastest that is kept, in bits per second: of the runs of segments that are between a half and one and a half
    /// target durations long, as RFC 8216 §4.3.4.2 has it, and without any of that length of all there is. `None` before
    /// there is half a second.
    pub fn peak(&self) -> Option<u64> {
        let kept: Vec<(u64, Duration)> =
            self.kept().map(|segment| (segment.size() as u64, segment.duration)).collect();
        let target = self.target_duration();
        let runs = (0..kept.len()).flat_map(|at| runs_from(kept.get(at..).unwrap_or_default()));
        let of_length = runs.filter(|(_, time)| (target / 2..=target * 3 / 2).contains(time));
        let all = kept.iter().fold((0, Duration::ZERO), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let worth = Some(all).filter(|(_, time)| *time >= LEAST_MEASURED);
        of_length.map(rate).max().or_else(|| worth.map(rate))
    }

    /// Media time of all segments that are kept: what [`Self::peak`] goes by.
    pub fn known(&self) -> Duration {
        self.kept().map(|segment| segment.duration).sum()
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.leaving.iter().map(|leaving| &leaving.segment).chain(self.listed())
    }

    /// What is listed, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.listed.iter().map(|listed| &listed.segment)
    }

    /// In seconds. No listed segment is longer after rounding.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.target_seconds)
    }

    /// The segment with this number, listed or not.
    pub fn segment(&self, number: u64) -> Result<&Segment, Missing> {
        if number >= self.next_number {
            return Err(if self.over { Missing::Gone } else { Missing::NotYet });
        }
        let back = usize::try_from(self.next_number - 1 - number).map_err(|_| Missing::Gone)?;
        self.kept().rev().nth(back).ok_or(Missing::Gone)
    }

    /// The media playlist, `uri` giving each segment's address by its number.
    pub fn text(&self, uri: impl Fn(u64) -> String) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            self.target_seconds,
            self.listed().next().map_or(self.next_number, |first| first.number),
            self.discontinuities,
        );
        for segment in self.listed() {
            if segment.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let (micros, uri) = (micros(segment.duration), uri(segment.number));
            // A string takes whatever is written to it.
            let _ = writeln!(text, "#EXTINF:{}.{:06},\n{uri}", micros / MICROS, micros % MICROS);
        }
        if self.over {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    /// Whether the list is long enough without its first segment.
    fn can_spare_one(&self) -> bool {
        let Some(first) = self.listed().next() else { return false };
        let rest = self.duration().saturating_sub(first.duration);
        let long_enough = rest >= self.target_duration() * TARGETS_LISTED;
        self.listed.len() > MOST_LISTED || (long_enough && self.listed.len() > self.least_listed)
    }

    /// A player that has the longest list with it gets so far before asking for it (RFC 8216 §6.2.2).
    fn delist(&mut self, now: Duration) {
        if let Some(Listed { segment, longest }) = self.unlist() {
            let until = now.saturating_add(segment.duration).saturating_add(longest);
            self.leaving.push_back(Leaving { segment, until });
        }
    }

    /// Takes the first off the list, but never the newest.
    fn unlist(&mut self) -> Option<Listed> {
        let first = if self.listed.len() > 1 { self.listed.pop_front() } else { None }?;
        self.discontinuities += u64::from(first.segment.discontinuity);
        Some(first)
    }
}

/// Bytes and time of the first so many, for each number of them.
fn runs_from(segments: &[(u64, Duration)]) -> impl Iterator<Item = (u64, Duration)> {
    segments.iter().scan((0, Duration::ZERO), |sum, (bytes, time)| {
        *sum = (sum.0 + bytes, sum.1 + *time);
        Some(*sum)
    })
}

/// Bits per second, rounded up.
fn rate((bytes, time): (u64, Duration)) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits.div_ceil(time.as_nanos().max(1))).unwrap_or(u64::MAX)
}

/// Microseconds, as `EXTINF` says it: exact enough for years, and what is rounded must be what is written.
fn micros(duration: Duration) -> u128 {
    (duration.as_nanos() + 500) / 1000
}

fn rounded(duration: Duration) -> u64 {
    u64::try_from((micros(duration) + MICROS / 2) / MICROS).unwrap_or(u64::MAX)
}

fn rounded_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
