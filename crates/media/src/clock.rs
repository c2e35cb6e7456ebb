//! Media time: what the stream's own clock says, made monotonic.

use std::fmt;
use std::time::Duration;

/// Ticks per second of the program clock.
const HZ: u64 = 27_000_000;
/// The clock wraps at 2^33 periods of 90 kHz, about 26.5 hours.
const WRAP: u64 = (1 << 33) * 300;
/// A larger step is a jump, not progress. The standard asks for a value every 100 ms; starved swarms skip seconds.
const LARGEST_STEP: Duration = Duration::from_secs(10);
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

/// Turns clock values into a media time that only grows.
///
/// A wrap is progress. A jump, forward or back, adds no more than the time that really passed. Until the first value,
/// and for streams without any, media time is arrival time.
#[derive(Clone, Debug, Default)]
pub struct MediaClock {
    media: Duration,
    last: Option<(Pcr, Duration)>,
    arrival: Duration,
    rate: RateMeter,
}

#[derive(Clone, Debug, Default)]
struct RateMeter {
    bytes: u64,
    media: Duration,
    rate: Option<Bitrate>,
}

impl MediaClock {
    /// `bytes` more of the stream have come at `arrival`.
    pub fn bytes(&mut self, bytes: usize, arrival: Duration) {
        if self.last.is_none() {
            self.media += arrival.saturating_sub(self.arrival);
        }
        self.arrival = self.arrival.max(arrival);
        self.rate.bytes += bytes as u64;
    }

    /// The stream's clock says `pcr`. With `jump` the stream announces that it does not continue.
    pub fn tick(&mut self, pcr: Pcr, jump: bool) {
        if let Some((last, at)) = self.last {
            let step = pcr.since(last);
            let waited = self.arrival.saturating_sub(at);
            if jump || step > LARGEST_STEP {
                self.media += waited.min(LARGEST_STEP);
                self.rate.forget();
            } else {
                self.media += step;
                self.rate.advance(step);
            }
        } else {
            // What came before the first value belongs to no measured time.
            self.rate.forget();
        }
        self.last = Some((pcr, self.arrival));
    }

    /// Another source follows: its clock has nothing to do with the last one's.
    pub fn restart(&mut self) {
        self.last = None;
        self.rate.forget();
    }

    /// Time has passed in which this stream brought nothing.
    pub fn advance_to(&mut self, media: Duration) {
        self.media = self.media.max(media);
        self.rate.forget();
    }

    /// Media time since the stream began.
    pub fn media_time(&self) -> Duration {
        self.media
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
    fn without_a_clock_media_time_is_arrival_time() {
        let mut clock = MediaClock::default();
        clock.bytes(188, SECOND);
        clock.bytes(188, 3 * SECOND);
        assert_eq!(clock.media_time(), 3 * SECOND);
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
