//! Once a second everything is looked at: every stream, and the process.
//!
//! It begins with the first stream and goes on until the relay stops, so that a process without streams has a history too.
//!
//! Two clocks are needed. Rates are of the time that the machine was awake; a history also counts what it slept, or all that
//! came before a laptop's sleep would be shown too late by it. What the wall clock says is looked up anew whenever somebody
//! looks: when it is corrected, in whatever direction, all points move with it and keep their distances.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::history::{Figure, History, Span};
use crate::meter::{Counted, FIGURES, Meter, PROCESS_FIGURES, Swarm, figure};
use crate::relay::Inner;

/// A wall clock that differs by less is not corrected but slow: points must not move with every look.
const CORRECTED: SignedDuration = SignedDuration::from_secs(1);

/// Figures over time, for pages.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the figures of each point are.
    pub figures: [&'static str; FIGURES],
    /// Time between two points; steps without a point have none.
    pub step: Duration,
    /// When each point's step began, and its figures. The oldest first; the last one is not over yet.
    pub points: Vec<(Timestamp, [Figure; FIGURES])>,
}

/// This moment, counted from the beginning of all histories of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Without what the machine has slept meanwhile.
    pub(crate) awake: Duration,
    /// With it.
    pub(crate) since: Duration,
}

/// The time that all histories of a process share.
#[derive(Debug)]
pub(crate) struct Timeline {
    began: Instant,
    /// How long the machine had slept by then.
    slept: Duration,
    /// When that was, by what the wall clock says now.
    anchor: Mutex<Timestamp>,
}

impl Timeline {
    fn new(began: Instant) -> Self {
        Self { began, slept: slept(), anchor: Mutex::new(Timestamp::now()) }
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(self.began.elapsed(), slept(), Timestamp::now())
    }

    fn moment(&self, awake: Duration, slept: Duration, wall: Timestamp) -> Moment {
        let since = awake + slept.saturating_sub(self.slept);
        let said = wall.checked_sub(since).unwrap_or(Timestamp::MIN);
        let mut anchor = self.anchor.lock();
        if said.duration_since(*anchor).abs() > CORRECTED {
            *anchor = said;
        }
        Moment { awake, since }
    }

    /// When that was.
    pub(crate) fn timestamp(&self, since: Duration) -> Timestamp {
        self.anchor.lock().checked_add(since).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn series(
        &self,
        figures: [&'static str; FIGURES],
        span: Span,
        history: &History<FIGURES>,
    ) -> Series {
        let points = history.points(span, self.now().since);
        let points = points.map(|(since, figures)| (self.timestamp(since), figures)).collect();
        Series { figures, step: span.step(), points }
    }
}

/// How long this machine has slept since it was booted, in whole seconds: the clocks are not read at the same moment.
fn slept() -> Duration {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let slept = read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic));
    Duration::from_secs((slept + Duration::from_millis(500)).as_secs())
}

/// The process's own figures, and whether they are taken.
pub(crate) struct Sampling {
    timeline: Timeline,
    process: Mutex<Meter>,
    /// Only while there are streams.
    is_on: Mutex<bool>,
}

impl Sampling {
    pub(crate) fn new(now: Instant) -> Self {
        Self { timeline: Timeline::new(now), process: Mutex::default(), is_on: Mutex::new(false) }
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(crate) fn process(&self, span: Span) -> Series {
        self.timeline.series(PROCESS_FIGURES, span, self.process.lock().history())
    }
}

impl Inner {
    /// As long as there are streams, of which there is one now.
    pub(crate) fn keep_sampling(self: &Arc<Self>) {
        let mut is_on = self.sampling.is_on.lock();
        if !*is_on {
            *is_on = true;
            self.tasks.spawn(sample(Arc::downgrade(self), self.stop.clone()));
        }
    }

    /// Whether there is something to look at. A stream that begins at this moment waits for the answer, and begins anew.
    fn is_sampled_on(&self) -> bool {
        let mut is_on = self.sampling.is_on.lock();
        *is_on = !self.distinct().is_empty();
        *is_on
    }

    fn sample(&self) {
        let moment = self.sampling.timeline.now();
        let streams = self.distinct();
        let swarm = streams.iter().map(|shared| shared.sample(moment)).fold(Swarm::UNKNOWN, Swarm::and);
        let (bytes_in, bytes_out) = self.totals.read();
        let counted = Counted { bytes_in, bytes_out, viewers: self.viewers() };
        self.sampling.process.lock().sample(moment, counted, figure(streams.len()), swarm);
    }
}

/// Ends with the last stream, and with the relay, whether it was stopped or dropped.
async fn sample(relay: Weak<Inner>, stop: CancellationToken) {
    let mut seconds = interval(Span::Minutes.step());
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while stop.run_until_cancelled(seconds.tick()).await.is_some() {
        let Some(relay) = relay.upgrade() else { return };
        relay.sample();
        if !relay.is_sampled_on() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// Of a machine that had slept an hour before.
    fn timeline() -> Timeline {
        Timeline { began: Instant::now(), slept: HOUR, anchor: Mutex::new(at(0)) }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_was_before_a_sleep_keeps_its_time_and_what_comes_after_it_has_the_right_one() {
        let timeline = timeline();
        let before = timeline.moment(seconds(60), HOUR, at(60));
        assert_eq!(before, Moment { awake: seconds(60), since: seconds(60) });
        let after = timeline.moment(seconds(61), 9 * HOUR, at(61 + 8 * 3600));
        assert_eq!(after, Moment { awake: seconds(61), since: seconds(61) + 8 * HOUR });
        assert_eq!(timeline.timestamp(before.since), at(60));
        assert_eq!(timeline.timestamp(after.since), at(61 + 8 * 3600));
    }

    #[test]
    fn when_the_wall_clock_is_corrected_all_points_move_and_none_goes_back_behind_another() {
        let timeline = timeline();
        let first = timeline.moment(seconds(10), HOUR, at(10));
        for jump in [-3600, 86_400 * 365, -5, 0] {
            let second = timeline.moment(seconds(20), HOUR, at(20 + jump));
            assert_eq!(second.since, seconds(20));
            assert_eq!(timeline.timestamp(second.since), at(20 + jump), "{jump}");
            assert_eq!(timeline.timestamp(first.since), at(10 + jump), "{jump}");
        }
        // Not with every look: the same point has the same time.
        let slow = at(30).checked_sub(Duration::from_millis(900)).unwrap();
        let third = timeline.moment(seconds(30), HOUR, slow);
        assert_eq!(timeline.timestamp(third.since), at(30));
    }

    #[test]
    fn a_machine_that_does_not_sleep_has_not_slept() {
        let timeline = Timeline::new(Instant::now());
        let Moment { awake, since } = timeline.now();
        assert_eq!(awake, since);
        assert!(timeline.timestamp(since).duration_since(Timestamp::now()).abs() < CORRECTED);
    }
}
