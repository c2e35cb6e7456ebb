//! Media time: what the stream's own clock says, made monotonic.
//!
//! The clock is the PCR. Where it stands still, runs away, goes somewhere else or never was, the time stamps of picture and
//! sound say how far the stream is, and where there are none of these either, the time at which its packets come.

use std::fmt;
use std::time::Duration;

use crate::ts::packet::Pid;

/// Ticks per second of the program clock.
const HZ: u64 = 27_000_000;
/// The clock wraps at 2^33 periods of 90 kHz, about 26.5 hours.
const WRAP: u64 = (1 << 33) * 300;
/// A larger step is a jump, not progress. The standard asks for a value every 100 ms; starved swarms skip seconds.
const LARGEST_STEP: Duration = Duration::from_secs(10);
/// So far time stamps may get while a clock does not move, before it is no clock any more. A smaller step of it is progress,
/// whatever is announced.
const STANDSTILL: Duration = Duration::from_secs(1);
/// So far a clock may get ahead of all time stamps, before it is too fast to be one: multiplexers with too little room write
/// it by the bytes that they send. Buffers of decoders are smaller.
const RUNAWAY: Duration = Duration::from_secs(3);
/// So many pictures and sounds one after the other must say so: where a stream is spliced some are late.
const CERTAIN: u32 = 50;
/// A stream that is so many times slower than the clock stands still.
const SLOWEST: u32 = 100;
/// So far pictures may go back when only the time of showing is written down.
const REORDERED: Duration = Duration::from_secs(2);
/// Streams whose time stamps are read.
const MOST_STAMPED: usize = 8;
/// Time over which the bit rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Program clock reference, 27 MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcr(u64);

impl Pcr {
    /// From ticks of 27 MHz; wraps as the clock does.
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks % WRAP)
    }

    /// In ticks of 27 MHz.
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// From its six bytes in an adaptation field: 33 bits of base, 6 reserved, 9 of extension.
    pub(crate) fn from_bytes(bytes: [u8; 6]) -> Self {
        let field = bytes.iter().fold(0, |field: u64, byte| (field << 8) | u64::from(*byte));
        Self::from_ticks((field >> 15) * 300 + (field & 0x1ff))
    }

    /// How far this is ahead of `earlier`, across a wrap. A step back reads as a step of many hours.
    pub fn since(self, earlier: Self) -> Duration {
        let ticks = (self.0 + WRAP - earlier.0) % WRAP;
        Duration::from_nanos(ticks.saturating_mul(1000) / (HZ / 1_000_000))
    }
}

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(u64);

impl Bitrate {
    /// In bits per second.
    pub const fn new(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// In bits per second.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How many bytes that are in so much time.
    pub fn bytes_in(self, time: Duration) -> usize {
        let bytes = u128::from(self.0) * time.as_millis() / 8_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

impl From<Bitrate> for u64 {
    fn from(rate: Bitrate) -> Self {
        rate.0
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bit/s", self.0)
    }
}

/// Media time and arrival time of the same packet, both since the stream began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// By the stream.
    pub media: Duration,
    /// By us.
    pub arrival: Duration,
}

impl Moment {
    /// The longer of both: a stream that comes faster than it plays has had its time as well as one that stands still.
    pub fn since(self, earlier: Self) -> Duration {
        let media = self.media.saturating_sub(earlier.media);
        media.max(self.arrival.saturating_sub(earlier.arrival))
    }
}

/// Where media time comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockSource {
    /// When packets come.
    #[default]
    Arrival,
    /// The program's clock.
    Pcr,
    /// The time stamps of this stream.
    Stamps(Pid),
}

impl ClockSource {
    /// Name on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Pcr => "pcr",
            Self::Stamps(_) => "time_stamps",
        }
    }
}

/// Turns clock values into a media time that only grows.
///
/// A wrap is progress. A jump, forward or back, adds no more than the time that really passed.
#[derive(Clone, Debug, Default)]
pub struct MediaClock {
    media: Duration,
    arrival: Duration,
    source: ClockSource,
    /// The last value of the program's clock that moved, and when it came.
    pcr: Option<Reading>,
    /// How often in a row it was too far ahead of all time stamps. More than [`CERTAIN`]: it is not followed any more.
    runaway: u32,
    stamps: Vec<Stamps>,
    /// When picture or sound last came, and what arrival alone has added, while there is no other clock.
    payload_at: Option<Duration>,
    by_arrival: Duration,
    rate: RateMeter,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    value: Pcr,
    at: Duration,
}

/// Time stamps of one stream.
#[derive(Clone, Copy, Debug)]
struct Stamps {
    pid: Pid,
    latest: Reading,
    /// The last one that media time has come to, and what media time was then.
    counted: Pcr,
    counted_at: Duration,
    /// What media time was when the race against the program's clock began, and how far this stream has come since.
    raced_at: Duration,
    progress: Duration,
}

impl Stamps {
    fn new(pid: Pid, latest: Reading, media: Duration) -> Self {
        let progress = Duration::ZERO;
        Self { pid, latest, counted: latest.value, counted_at: media, raced_at: media, progress }
    }

    /// The race begins anew.
    fn race(&mut self, media: Duration) {
        (self.raced_at, self.progress) = (media, Duration::ZERO);
    }

    /// How far behind `media` the stream is since then, unless it stands still.
    fn behind(&self, media: Duration) -> Option<Duration> {
        let passed = media.saturating_sub(self.raced_at);
        (self.progress * SLOWEST >= passed).then(|| passed.saturating_sub(self.progress))
    }

    /// How far the stream is ahead of `media`. While it was away, media time went on without it.
    fn ahead_of(&self, media: Duration) -> Duration {
        let meanwhile = media.saturating_sub(self.counted_at);
        self.latest.value.since(self.counted).saturating_sub(meanwhile)
    }

    fn count(&mut self, media: Duration) {
        if self.counted != self.latest.value {
            (self.counted, self.counted_at) = (self.latest.value, media);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct RateMeter {
    bytes: u64,
    media: Duration,
    rate: Option<Bitrate>,
}

impl MediaClock {
    /// `bytes` more of the stream have come at `arrival`.
    #[inline]
    pub fn bytes(&mut self, bytes: usize, arrival: Duration) {
        self.arrival = self.arrival.max(arrival);
        self.rate.bytes += bytes as u64;
    }

    /// A piece of a picture or of sound has come: progress, where nothing says how much.
    pub fn payload(&mut self) {
        if let Some(last) = self.payload_at.replace(self.arrival) {
            let waited = self.arrival.saturating_sub(last);
            self.media += waited;
            self.by_arrival += waited;
        }
    }

    /// The program's clock says `value`. With `jump` the stream announces that it does not continue. True when media time
    /// comes from it; one that stands still is no clock.
    pub fn tick(&mut self, value: Pcr, jump: bool) -> bool {
        let now = Reading { value, at: self.arrival };
        if self.has_run_away() {
            return false;
        }
        let Some(last) = self.pcr else {
            // What came before the first value belongs to no measured time.
            self.pcr = Some(now);
            self.follow_pcr();
            return true;
        };
        if value == last.value {
            return false;
        }
        self.pcr = Some(now);
        let step = value.since(last.value);
        // Some multiplexers announce one with every value.
        let is_jump = step > if jump { STANDSTILL } else { LARGEST_STEP };
        if let ClockSource::Stamps(_) = self.source {
            // It is back when it goes on, and what was until then has been counted.
            if !is_jump && step <= STANDSTILL {
                self.follow_pcr();
            }
            return self.source == ClockSource::Pcr;
        }
        if is_jump {
            self.jump(last.at);
            self.race_anew();
        } else {
            self.advance(step);
        }
        self.count_stamps();
        true
    }

    /// A picture or sound of the stream `pid` is to be decoded at `value`. True when media time comes from that.
    pub fn stamp(&mut self, pid: Pid, value: Pcr) -> bool {
        let now = Reading { value, at: self.arrival };
        let Some(stamps) = self.stamps.iter_mut().find(|stamps| stamps.pid == pid) else {
            if self.stamps.len() < MOST_STAMPED {
                self.stamps.push(Stamps::new(pid, now, self.media));
            }
            return false;
        };
        let (last, ahead) = (stamps.latest, value.since(stamps.latest.value));
        if ahead > LARGEST_STEP {
            // Pictures come in the order of decoding, but not every multiplexer writes down when that is.
            if last.value.since(value) < REORDERED {
                return false;
            }
            *stamps = Stamps::new(pid, now, self.media);
            if self.source == ClockSource::Stamps(pid) {
                self.jump(last.at);
                self.count_stamps();
            }
            return self.source == ClockSource::Stamps(pid);
        }
        stamps.latest = now;
        stamps.progress += ahead;
        let uncounted = stamps.ahead_of(self.media);
        let leads = self.source == ClockSource::Stamps(pid);
        let replaces = self.source == ClockSource::Pcr && self.runs_away();
        if !leads && !replaces && uncounted <= STANDSTILL {
            return false;
        }
        let known = if leads { Duration::ZERO } else { std::mem::take(&mut self.by_arrival) };
        self.source = ClockSource::Stamps(pid);
        self.advance(uncounted.min(LARGEST_STEP).saturating_sub(known));
        self.count_stamps();
        true
    }

    /// Looks at the race. All that moves must be behind.
    fn runs_away(&mut self) -> bool {
        let mut behind = self.stamps.iter().filter_map(|stamps| stamps.behind(self.media)).peekable();
        let is_ahead = behind.peek().is_some() && behind.all(|behind| behind > RUNAWAY);
        self.runaway = if is_ahead { self.runaway + 1 } else { 0 };
        self.has_run_away()
    }

    fn has_run_away(&self) -> bool {
        self.runaway > CERTAIN
    }

    fn race_anew(&mut self) {
        self.runaway = 0;
        for stamps in &mut self.stamps {
            stamps.race(self.media);
        }
    }

    fn advance(&mut self, step: Duration) {
        self.media += step;
        self.rate.advance(step);
    }

    /// So much time has really passed since the last value.
    fn jump(&mut self, last: Duration) {
        self.media += self.arrival.saturating_sub(last).min(LARGEST_STEP);
        self.rate.forget();
    }

    fn follow_pcr(&mut self) {
        self.source = ClockSource::Pcr;
        self.rate.forget();
        self.count_stamps();
        self.race_anew();
    }

    /// Media time has come as far as all time stamps.
    fn count_stamps(&mut self) {
        self.by_arrival = Duration::ZERO;
        for stamps in &mut self.stamps {
            stamps.count(self.media);
        }
    }

    /// Another source follows: its clock has nothing to do with the last one's.
    pub fn restart(&mut self) {
        (self.source, self.pcr, self.runaway) = (ClockSource::Arrival, None, 0);
        (self.payload_at, self.by_arrival) = (None, Duration::ZERO);
        self.stamps.clear();
        self.rate.forget();
    }

    /// Time has passed in which this stream brought nothing.
    pub fn advance_to(&mut self, media: Duration) {
        self.media = self.media.max(media);
        self.rate.forget();
    }

    /// Media time since the stream began.
    #[inline]
    pub fn media_time(&self) -> Duration {
        self.media
    }

    /// Where it comes from.
    pub fn source(&self) -> ClockSource {
        self.source
    }

    /// Measured over about two seconds of the stream's own clock.
    pub fn bitrate(&self) -> Option<Bitrate> {
        self.rate.rate
    }
}

impl RateMeter {
    fn advance(&mut self, step: Duration) {
        self.media += step;
        if self.media >= RATE_WINDOW {
            let bits = u128::from(self.bytes) * 8 * 1_000_000_000;
            let measured = u64::try_from(bits / self.media.as_nanos()).unwrap_or(u64::MAX);
            let smoothed = self.rate.map_or(measured, |known| known.0 / 2 + measured / 2);
            self.rate = Some(Bitrate(smoothed));
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.bytes = 0;
        self.media = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_wrap_is_progress() {
        let mut clock = MediaClock::default();
        clock.tick(Pcr::from_ticks(WRAP - HZ), false);
        clock.tick(Pcr::from_ticks(HZ), false);
        assert_eq!(clock.media_time(), 2 * SECOND);
    }

    #[test]
    fn a_jump_adds_no_more_than_the_time_that_passed() {
        for (to, flagged) in [(HZ * 3600, false), (0, false), (HZ * 11, true)] {
            let mut clock = MediaClock::default();
            clock.tick(Pcr::from_ticks(10 * HZ), false);
            clock.bytes(188, SECOND);
            clock.tick(Pcr::from_ticks(to), flagged);
            assert_eq!(clock.media_time(), SECOND, "to {to}");
        }
    }

    #[test]
    fn a_jump_that_is_announced_with_every_value_is_none() {
        let mut clock = MediaClock::default();
        // A burst: ten seconds in a tenth of one.
        for n in 0..=100 {
            clock.bytes(188, Duration::from_millis(n));
            clock.tick(Pcr::from_ticks(n * HZ / 10), true);
        }
        assert_eq!(clock.media_time(), 10 * SECOND);
        assert!(clock.bitrate().is_some());
    }

    #[test]
    fn without_any_clock_media_time_is_that_in_which_packets_come() {
        let mut clock = MediaClock::default();
        for second in [5, 6, 8] {
            clock.bytes(188, second * SECOND);
            clock.payload();
        }
        assert_eq!((clock.media_time(), clock.source()), (3 * SECOND, ClockSource::Arrival));
    }

    const VIDEO: Pid = Pid::new(0x100);
    const SOUND: Pid = Pid::new(0x101);

    /// Ten seconds of a stream whose clock goes on as `pcr` says, and whose pictures and sounds do not stop. Media time at
    /// its end.
    fn with_pcr(clock: &mut MediaClock, from: u64, pcr: impl Fn(u64) -> Option<u64>) -> Duration {
        for frame in from * 25..(from + 10) * 25 {
            let at = frame * HZ / 25;
            clock.bytes(188, Duration::from_millis(frame * 40));
            if let Some(ticks) = pcr(at) {
                clock.tick(Pcr::from_ticks(ticks), false);
            }
            // Sound is written earlier than the picture of its time.
            clock.stamp(VIDEO, Pcr::from_ticks(at + HZ));
            clock.stamp(SOUND, Pcr::from_ticks(at + 3 * HZ));
        }
        clock.media_time()
    }

    #[test]
    fn a_clock_that_stops_freezes_or_never_was_is_replaced_by_the_time_stamps() {
        let tenth = Duration::from_millis(100);
        for what in ["it stops", "it freezes", "it goes on", "it is another one"] {
            let pcr = |at: u64| match what {
                "it stops" => None,
                "it freezes" => Some(10 * HZ),
                "it goes on" => Some(at),
                _ => Some(at + 2000 * HZ),
            };
            let mut clock = MediaClock::default();
            let began = with_pcr(&mut clock, 0, Some);
            assert!(began.abs_diff(10 * SECOND) < tenth, "{began:?}");
            let media = with_pcr(&mut clock, 10, pcr);
            assert!(media.abs_diff(20 * SECOND) < tenth, "{what}: {media:?}");
            let media = with_pcr(&mut clock, 20, Some);
            assert!(media.abs_diff(30 * SECOND) < tenth, "{what}, and then it is back: {media:?}");
            assert_eq!(clock.source(), ClockSource::Pcr, "{what}");
        }
        let mut clock = MediaClock::default();
        let media = with_pcr(&mut clock, 0, |_| None);
        assert!(media.abs_diff(10 * SECOND) < tenth, "never a clock: {media:?}");
    }

    #[test]
    fn a_clock_that_is_too_fast_is_replaced_by_the_time_stamps() {
        for (times, per, seconds) in [(2, 1, 60), (21, 20, 200), (4, 1, 60), (1, 1, 60)] {
            let mut clock = MediaClock::default();
            for from in (0..seconds).step_by(10) {
                with_pcr(&mut clock, from, |at| Some(at * times / per));
            }
            let ahead = clock.media_time().saturating_sub(u32::try_from(seconds).unwrap() * SECOND);
            assert!(ahead <= RUNAWAY + Duration::from_secs(times), "{times}/{per}: {ahead:?}");
            assert_eq!(clock.source() == ClockSource::Pcr, times == per, "{times}/{per}");
            clock.restart();
            with_pcr(&mut clock, seconds, Some);
            assert_eq!(clock.source(), ClockSource::Pcr, "another source");
        }
    }

    #[test]
    fn time_stamps_that_stand_still_blame_no_clock() {
        for sound in ["stands still", "is late"] {
            let mut clock = MediaClock::default();
            for frame in 0..2000 {
                let at = frame * HZ / 25;
                clock.bytes(188, Duration::from_millis(frame * 40));
                clock.tick(Pcr::from_ticks(at), false);
                clock.stamp(VIDEO, Pcr::from_ticks(if sound == "is late" { at + HZ } else { HZ }));
                clock.stamp(SOUND, Pcr::from_ticks(if sound == "is late" { at / 2 } else { HZ }));
            }
            assert_eq!(clock.source(), ClockSource::Pcr, "{sound}");
            assert!(clock.media_time().abs_diff(80 * SECOND) < SECOND, "{sound}");
        }
    }

    #[test]
    fn time_stamps_that_stand_still_or_go_back_are_no_progress() {
        let mut clock = MediaClock::default();
        with_pcr(&mut clock, 0, |_| None);
        let before = clock.media_time();
        for frame in 0..50 {
            clock.stamp(VIDEO, Pcr::from_ticks(10 * HZ + HZ / 25 * 24));
            clock.stamp(SOUND, Pcr::from_ticks(12 * HZ - frame * HZ / 50));
        }
        assert_eq!(clock.media_time(), before);
    }

    #[test]
    fn a_stream_that_was_away_brings_no_time_with_it() {
        for has_pcr in [true, false] {
            let mut clock = MediaClock::default();
            with_pcr(&mut clock, 0, |at| Some(at).filter(|_| has_pcr));
            // Another format for as long as no step would be too large.
            for frame in 250..450 {
                let at = frame * HZ / 25;
                clock.bytes(188, Duration::from_millis(frame * 40));
                if has_pcr {
                    clock.tick(Pcr::from_ticks(at), false);
                }
                clock.stamp(Pid::new(0x200), Pcr::from_ticks(at + HZ));
            }
            let before = clock.media_time();
            let media = with_pcr(&mut clock, 18, |at| Some(at).filter(|_| has_pcr));
            let played = media.saturating_sub(before);
            // Which stream leads is known after a second.
            assert!(played.abs_diff(10 * SECOND) < SECOND * 3 / 2, "{has_pcr}: {played:?}");
        }
    }

    #[test]
    fn sound_alone_is_progress() {
        let mut clock = MediaClock::default();
        with_pcr(&mut clock, 0, |_| None);
        let before = clock.media_time();
        for frame in 0..250 {
            clock.stamp(SOUND, Pcr::from_ticks(13 * HZ + frame * HZ / 25));
        }
        let played = clock.media_time().saturating_sub(before);
        assert!(played.abs_diff(10 * SECOND) < Duration::from_millis(100), "{played:?}");
    }

    #[test]
    fn the_rate_is_that_of_the_stream_and_not_of_the_burst_it_came_in() {
        let mut clock = MediaClock::default();
        for second in 0..=4 {
            clock.bytes(1_000_000, Duration::ZERO);
            clock.tick(Pcr::from_ticks(second * HZ), false);
        }
        let rate = clock.bitrate().unwrap().get();
        assert_eq!(rate, 8_000_000);
    }
}
