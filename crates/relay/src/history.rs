//! Figures over time in bounded memory: the last five minutes second by second, two hours in steps of ten seconds, a week in
//! steps of five minutes.
//!
//! Pure: time comes in as an argument, counted from a moment that all histories of a process share, so that their points
//! lie above each other. Steps in which nothing was recorded have no point.

use std::collections::VecDeque;
use std::time::Duration;

/// Step and number of points of each span.
const SPANS: [(Duration, u32); 3] =
    [(Duration::from_secs(1), 300), (Duration::from_secs(10), 720), (Duration::from_mins(5), 2016)];

/// How far back, and how fine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// Five minutes, second by second.
    Minutes,
    /// Two hours in steps of ten seconds.
    Hours,
    /// Seven days in steps of five minutes.
    Days,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Minutes, Self::Hours, Self::Days];

    /// Time between two points.
    pub fn step(self) -> Duration {
        SPANS[self as usize].0
    }

    /// Most points.
    pub fn points(self) -> u32 {
        SPANS[self as usize].1
    }
}

/// What a figure was during one step. It is not a number where nothing was known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The smallest.
    pub min: f32,
    /// Of all that were recorded.
    pub mean: f32,
    /// The largest.
    pub max: f32,
}

/// One step: `N` figures, in the order in which they are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<const N: usize> {
    /// Which step, counted from the common beginning.
    step: u32,
    /// The figures.
    pub figures: [Figure; N],
}

/// The history of `N` figures.
///
/// Memory grows with age: with seven figures a point has 88 bytes, so that five minutes take 45 KB, two hours 135 KB and a
/// week 316 KB, which is the most ([`History::most_bytes`]).
#[derive(Clone, Debug)]
pub struct History<const N: usize> {
    tiers: [Tier<N>; 3],
}

/// One span.
#[derive(Clone, Debug)]
struct Tier<const N: usize> {
    span: Span,
    /// The oldest first.
    points: VecDeque<Point<N>>,
    /// Records of each figure in the newest point.
    records: [u32; N],
}

impl<const N: usize> Default for History<N> {
    fn default() -> Self {
        let tier = |span| Tier { span, points: VecDeque::new(), records: [0; N] };
        Self { tiers: Span::ALL.map(tier) }
    }
}

impl<const N: usize> History<N> {
    /// Takes the figures of this moment, as time since the common beginning. Once a second is enough. What is not known is
    /// not a number, and does not count.
    pub fn record(&mut self, at: Duration, figures: [f32; N]) {
        for tier in &mut self.tiers {
            tier.record(at, figures);
        }
    }

    /// When each point's step began, and its figures; the oldest first, the last one not over yet. `now` decides what is too
    /// old.
    pub fn points(&self, span: Span, now: Duration) -> impl Iterator<Item = (Duration, [Figure; N])> {
        let oldest = step_of(now, span).saturating_sub(span.points() - 1);
        let points = self.tiers[span as usize].points.iter().filter(move |point| point.step >= oldest);
        points.map(move |point| (span.step() * point.step, point.figures))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.tiers.iter().map(|tier| tier.points.capacity() * size_of::<Point<N>>()).sum()
    }

    /// Bytes that it ever holds: capacities are powers of two.
    pub fn most_bytes() -> usize {
        let points: u32 = SPANS.iter().map(|(_, points)| points.next_power_of_two()).sum();
        points as usize * size_of::<Point<N>>()
    }
}

impl<const N: usize> Tier<N> {
    fn record(&mut self, at: Duration, figures: [f32; N]) {
        let step = step_of(at, self.span);
        match self.points.back_mut() {
            // A clock that goes back is none; what it brings counts for the newest step.
            Some(newest) if newest.step >= step => newest.add(figures, &mut self.records),
            _ => self.begin(step, figures),
        }
    }

    fn begin(&mut self, step: u32, figures: [f32; N]) {
        let kept_from = step.saturating_sub(self.span.points() - 1);
        while self.points.front().is_some_and(|oldest| oldest.step < kept_from) {
            self.points.pop_front();
        }
        let figures = figures.map(|value| Figure { min: value, mean: value, max: value });
        self.points.push_back(Point { step, figures });
        self.records = figures.map(|figure| u32::from(!figure.mean.is_nan()));
    }
}

impl<const N: usize> Point<N> {
    /// `records` are those of each figure before this one.
    fn add(&mut self, values: [f32; N], records: &mut [u32; N]) {
        let known =
            self.figures.iter_mut().zip(values).zip(records).filter(|((_, value), _)| !value.is_nan());
        for ((figure, value), records) in known {
            *records = records.saturating_add(1);
            figure.add(value, *records);
        }
    }
}

impl Figure {
    /// The last one of so many. Of a minimum and something that is not a number, the number stays.
    #[expect(clippy::cast_precision_loss, reason = "at most some hundreds")]
    fn add(&mut self, value: f32, records: u32) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.mean = if records == 1 { value } else { self.mean + (value - self.mean) / records as f32 };
    }
}

fn step_of(at: Duration, span: Span) -> u32 {
    u32::try_from(at.as_secs() / span.step().as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// So many seconds of a figure that counts them.
    fn counted(seconds: u16) -> History<1> {
        let mut history = History::default();
        for n in 0..seconds {
            history.record(SECOND * n.into(), [n.into()]);
        }
        history
    }

    fn all(history: &History<1>, span: Span, now: u32) -> Vec<(u64, Figure)> {
        history.points(span, SECOND * now).map(|(at, [figure])| (at.as_secs(), figure)).collect()
    }

    #[test]
    fn seconds_become_ten_seconds_and_five_minutes_with_what_was_least_and_most_in_them() {
        let history = counted(601);
        let minutes = all(&history, Span::Minutes, 600);
        assert_eq!((minutes.len(), minutes[0].0, minutes[299].0), (300, 301, 600));
        assert_eq!(minutes[299].1, Figure { min: 600.0, mean: 600.0, max: 600.0 });
        let hours = all(&history, Span::Hours, 600);
        assert_eq!(hours.len(), 61);
        assert_eq!(hours[1], (10, Figure { min: 10.0, mean: 14.5, max: 19.0 }));
        let days = all(&history, Span::Days, 600);
        assert_eq!(days.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 300, 600]);
        assert_eq!((days[1].1.min, days[1].1.max), (300.0, 599.0));
        assert!((days[1].1.mean - 449.5).abs() < 0.01);
    }

    #[test]
    fn what_was_not_recorded_has_no_point_and_what_is_too_old_goes_also_when_nothing_comes() {
        let mut history = counted(10);
        history.record(SECOND * 100, [7.0]);
        let minutes = all(&history, Span::Minutes, 100);
        assert_eq!(minutes.len(), 11);
        assert_eq!(minutes[10].0, 100);
        assert_eq!(all(&history, Span::Minutes, 350).len(), 1);
        assert_eq!(all(&history, Span::Minutes, 1_000).len(), 0);
        history.record(SECOND * 5, [9.0]);
        let newest = all(&history, Span::Minutes, 100)[10].1;
        assert_eq!(newest, Figure { min: 7.0, mean: 8.0, max: 9.0 }, "a clock that goes back");
    }

    #[test]
    fn a_week_and_more_stays_within_the_memory_that_is_stated() {
        let mut history = History::<7>::default();
        let mut largest = 0;
        for n in 0..3_000_u32 {
            // A second in each step of five minutes, and a row of seconds at the end.
            history.record(Duration::from_mins(5) * n, [1.0; 7]);
        }
        for n in 0..20_000_u32 {
            history.record(Duration::from_mins(5) * 3_000 + SECOND * n, [1.0; 7]);
            largest = largest.max(history.bytes());
        }
        assert_eq!(largest, History::<7>::most_bytes());
        assert!(largest <= 316_000, "{largest}");
        assert_eq!(history.points(Span::Days, Duration::from_mins(5) * 3_066).count(), 2016);
    }

    #[test]
    fn what_is_not_known_counts_for_nothing() {
        let unknown = f32::NAN;
        let mut history = History::<2>::default();
        for (n, values) in
            [[unknown, 1.0], [4.0, unknown], [unknown, unknown], [8.0, 3.0]].into_iter().enumerate()
        {
            history.record(SECOND * u32::try_from(n).unwrap(), values);
        }
        let means = |span| -> Vec<String> {
            history
                .points(span, SECOND * 3)
                .map(|(_, figures)| format!("{:?}", figures.map(|f| f.mean)))
                .collect()
        };
        assert_eq!(means(Span::Minutes), ["[NaN, 1.0]", "[4.0, NaN]", "[NaN, NaN]", "[8.0, 3.0]"]);
        assert_eq!(means(Span::Hours), ["[6.0, 2.0]"]);
        let [first, _] = history.points(Span::Hours, SECOND * 3).next().unwrap().1;
        assert_eq!((first.min, first.max), (4.0, 8.0));
    }

    proptest! {
        #[test]
        fn every_point_lies_in_its_span_and_its_mean_between_least_and_most(
            steps in prop::collection::vec((0..900_u32, -1e6..1e6_f32), 1..300),
        ) {
            let (mut history, mut now) = (History::<1>::default(), Duration::ZERO);
            for (step, value) in steps {
                now += SECOND * step;
                history.record(now, [value]);
            }
            for span in Span::ALL {
                let points: Vec<_> = history.points(span, now).collect();
                prop_assert!(!points.is_empty() && points.len() <= span.points() as usize);
                prop_assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
                for (at, [figure]) in points {
                    prop_assert!(at <= now && now.saturating_sub(at) < span.step() * span.points());
                    let slack = 1.0 + figure.max.abs() * 1e-4;
                    prop_assert!(figure.min <= figure.mean + slack && figure.mean <= figure.max + slack);
                }
            }
        }
    }
}
