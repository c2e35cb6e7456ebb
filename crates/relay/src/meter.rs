//! Counters, looked at once a second, become rates, a reserve, and a history. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use acemux_media::clock::Bitrate;

use crate::history::History;
use crate::origin::SourceStats;
use crate::sampling::Moment;

/// Over how long the rate of arrival is measured.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// A second of the broadcaster's clock is taken as so much of ours, so that a clock that is a little slow does not use up a
/// reserve in a day.
const DRIFT: f64 = 0.99;

/// How many figures a history has.
pub const FIGURES: usize = 7;
/// Figures of a stream's history.
pub const STREAM_FIGURES: [&str; FIGURES] = figures("runway_seconds");
/// Figures of the process's history.
pub const PROCESS_FIGURES: [&str; FIGURES] = figures("streams");

/// All but the fourth are the same for both. What is downloaded and uploaded is the engines' word, from and to the swarm.
const fn figures(fourth: &'static str) -> [&'static str; FIGURES] {
    [
        "bytes_in_per_second",
        "bytes_out_per_second",
        "viewers",
        fourth,
        "peers",
        "downloaded_bytes_per_second",
        "uploaded_bytes_per_second",
    ]
}

/// What has been counted up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) viewers: usize,
}

/// What engines say of swarms, in peers and bytes per second. Not a number where they say nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swarm([f32; 3]);

impl Swarm {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self([f32::NAN; 3]);

    #[expect(clippy::cast_precision_loss, reason = "for charts")]
    pub(crate) fn of(stats: &SourceStats) -> Self {
        let bytes = |kib: Option<u64>| kib.map_or(f32::NAN, |kib| kib as f32 * 1024.0);
        let peers = stats.peers.map_or(f32::NAN, |peers| peers as f32);
        Self([peers, bytes(stats.speed_down), bytes(stats.speed_up)])
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let sum = |a: f32, b: f32| {
            if a.is_nan() {
                b
            } else if b.is_nan() {
                a
            } else {
                a + b
            }
        };
        Self(std::array::from_fn(|at| sum(self.0[at], other.0[at])))
    }
}

/// Rates of counters, and their history.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: Option<(Duration, Counted)>,
    /// When, and how many bytes had come: the last ten seconds.
    arrived: VecDeque<(Duration, u64)>,
    history: History<FIGURES>,
}

impl Meter {
    /// `fourth` is what the fourth column of the history is. Rates are of the time that the machine was awake.
    pub(crate) fn sample(&mut self, moment: Moment, counted: Counted, fourth: f32, swarm: Swarm) {
        let at = moment.awake;
        if let Some((then, before)) = self.last.replace((at, counted))
            && at > then
        {
            let seconds = at.saturating_sub(then).as_secs_f64();
            let bytes_in = per_second(counted.bytes_in, before.bytes_in, seconds);
            let bytes_out = per_second(counted.bytes_out, before.bytes_out, seconds);
            let [peers, downloaded, uploaded] = swarm.0;
            let viewers = figure(counted.viewers);
            let figures = [bytes_in, bytes_out, viewers, fourth, peers, downloaded, uploaded];
            self.history.record(moment.since, figures);
        }
        self.arrived.push_back((at, counted.bytes_in));
        while self.arrived.front().is_some_and(|(then, _)| *then + RATE_WINDOW < at) {
            self.arrived.pop_front();
        }
    }

    /// Over the last ten seconds; `None` in the first second.
    pub(crate) fn arriving(&self) -> Option<Bitrate> {
        let ((from, before), (to, now)) = (self.arrived.front()?, self.arrived.back()?);
        let span = to.saturating_sub(*from).as_millis();
        let bits = u128::from(now.saturating_sub(*before)) * 8 * 1000;
        u64::try_from(bits.checked_div(span)?).ok().map(Bitrate::new)
    }

    pub(crate) fn history(&self) -> &History<FIGURES> {
        &self.history
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "for charts")]
fn per_second(now: u64, before: u64, seconds: f64) -> f32 {
    (now.saturating_sub(before) as f64 / seconds) as f32
}

#[expect(clippy::cast_precision_loss, reason = "for charts")]
pub(crate) fn figure(count: usize) -> f32 {
    count as f32
}

/// How much a viewer who joined `JOIN_BURST` behind live still has to play, if its player plays at the pace of the media and
/// its connection holds nothing up.
///
/// Full when media comes first; less by every second in which less media came than was played; full again when the source
/// catches up. At zero the picture stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runway {
    full: Duration,
    left: Duration,
    last: Option<(Duration, Duration)>,
}

impl Runway {
    pub(crate) fn new(full: Duration) -> Self {
        Self { full, left: full, last: None }
    }

    /// At this moment so much media has come in all.
    pub(crate) fn sample(&mut self, at: Duration, media: Duration) {
        if media.is_zero() {
            return;
        }
        if let Some((then, before)) = self.last {
            let played = at.saturating_sub(then).mul_f64(DRIFT);
            let left = (self.left + media.saturating_sub(before)).saturating_sub(played);
            self.left = left.min(self.full);
        }
        self.last = Some((at, media));
    }

    /// `None` before media has come.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.last.map(|_| self.left)
    }

    /// As much as there can be.
    pub(crate) fn full(&self) -> Duration {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Span;

    const SECOND: Duration = Duration::from_secs(1);

    fn counted(bytes_in: u64, bytes_out: u64) -> Counted {
        Counted { bytes_in, bytes_out, viewers: 2 }
    }

    fn sample(meter: &mut Meter, at: Duration, counted: Counted) {
        meter.sample(Moment { awake: at, since: at }, counted, 3.0, Swarm::UNKNOWN);
    }

    #[test]
    fn the_rate_of_arrival_is_that_of_the_last_ten_seconds() {
        let mut meter = Meter::default();
        sample(&mut meter, SECOND, counted(0, 0));
        assert_eq!(meter.arriving(), None);
        // A burst of 10 MB, then a million bits a second.
        for n in 1..=30_u32 {
            sample(&mut meter, SECOND * (n + 1), counted(10_000_000 + 125_000 * u64::from(n), 0));
        }
        assert_eq!(meter.arriving(), Some(Bitrate::new(1_000_000)));
    }

    #[test]
    fn a_sample_that_is_late_is_divided_by_the_time_it_took() {
        let mut meter = Meter::default();
        for (at, bytes) in [(0, 0), (1, 100), (5, 500), (5, 900), (6, 1_000)] {
            sample(&mut meter, SECOND * at, counted(bytes, 2 * bytes));
        }
        let points: Vec<_> = meter.history().points(Span::Minutes, SECOND * 6).collect();
        let shown =
            points.iter().map(|(at, [a, b, c, d, ..])| (at.as_secs(), a.mean, b.mean, c.mean, d.mean));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [(1, 100.0, 200.0, 2.0, 3.0), (5, 100.0, 200.0, 2.0, 3.0), (6, 100.0, 200.0, 2.0, 3.0)]
        );
    }

    /// A laptop that was shut for an hour: its histories go on where the hour ends, and nothing of it counts as silence.
    #[test]
    fn a_sleep_is_a_hole_in_the_history_and_no_part_of_a_rate() {
        let mut meter = Meter::default();
        let hour = Duration::from_hours(1);
        for (at, slept, bytes) in
            [(1, Duration::ZERO, 0), (2, Duration::ZERO, 100), (3, hour, 200), (4, hour, 300)]
        {
            let awake = SECOND * at;
            meter.sample(Moment { awake, since: awake + slept }, counted(bytes, 0), 0.0, Swarm::UNKNOWN);
        }
        assert_eq!(meter.arriving(), Some(Bitrate::new(800)));
        let points: Vec<_> = meter.history().points(Span::Hours, hour + SECOND * 4).collect();
        let shown: Vec<_> = points.iter().map(|(at, [bytes_in, ..])| (at.as_secs(), bytes_in.mean)).collect();
        assert_eq!(shown, [(0, 100.0), (3600, 100.0)]);
    }

    #[test]
    fn what_engines_say_of_swarms_adds_up_as_far_as_they_say_it() {
        let stats = |peers, down| SourceStats { peers, speed_down: down, ..SourceStats::default() };
        let all = [stats(Some(3), None), stats(Some(4), Some(2)), stats(None, Some(1))];
        let sum = all.iter().map(Swarm::of).fold(Swarm::UNKNOWN, Swarm::and);
        assert_eq!((sum.0[0], sum.0[1], sum.0[2].is_nan()), (7.0, 3072.0, true));
    }

    #[test]
    fn a_reserve_is_full_at_first_shrinks_in_silence_and_is_filled_again() {
        let mut runway = Runway::new(5 * SECOND);
        let left = |runway: &Runway| runway.left().map(|left| left.as_secs());
        runway.sample(SECOND, Duration::ZERO);
        assert_eq!(left(&runway), None);
        for (at, media, expected) in
            [(2, 10, 5), (3, 11, 5), (6, 11, 2), (7, 12, 2), (20, 12, 0), (21, 30, 5)]
        {
            runway.sample(SECOND * at, SECOND * media);
            assert_eq!(left(&runway), Some(expected), "at {at} s");
        }
    }

    #[test]
    fn a_clock_that_is_half_a_percent_slow_uses_up_nothing_in_a_day() {
        let mut runway = Runway::new(5 * SECOND);
        for n in 1..86_400_u32 {
            runway.sample(SECOND * n, (SECOND * n).mul_f64(0.995));
        }
        assert_eq!(runway.left(), Some(5 * SECOND));
    }
}
