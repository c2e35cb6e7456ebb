//! Rounds: the moments at which sessions take what their sources have sent and give it to their viewers.
//!
//! A wake-up costs some microseconds however little it brings, so the more there is to deliver, the longer everybody
//! waits for a round: 4 ms on a quiet process, 60 ms on a busy one, more on one that is overloaded. What counts is the work
//! of the whole process, not of one stream: fifty streams of twenty viewers cost what one of a thousand does. All sessions
//! share one grid, so that the viewers of all streams are woken together and the process sleeps in between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Length of a round when little is delivered.
pub const SHORTEST: Duration = Duration::from_millis(4);
/// Length of a round at most: what is added to a viewer's latency.
pub const LONGEST: Duration = Duration::from_millis(60);
/// The same for a process that would otherwise not get through: one whose rounds take more than two thirds of [`LONGEST`].
/// The fewer there are the less they cost, and viewers are a little late instead of without end.
pub const OVERLOADED: Duration = Duration::from_millis(120);

/// Length of a round per chunk that a reader takes in it. A wake-up costs about 5 µs, so wake-ups stay under a tenth
/// of a core: 14 ms at 200 viewers, 60 ms from 860 on, as measured best in the fan-out harness.
const PER_READ: Duration = Duration::from_micros(70);
/// A round is at least so many times as long as it takes until all its readers have been served, so that a machine that is
/// slower than the one this was measured on, or has other things to do, gets larger rounds too.
const SPARE: u32 = 4;

/// Over how long the work is measured.
const WINDOW: Duration = Duration::from_millis(250);

/// The process's rounds.
#[derive(Debug)]
pub struct Rounds {
    began: Instant,
    /// Length in nanoseconds.
    length: AtomicU64,
    window: Mutex<Window>,
}

/// The work since a moment.
#[derive(Debug)]
struct Window {
    since: Instant,
    /// Chunks that readers have taken, each for itself.
    reads: u64,
    /// Until the last reader of each round was served, added up, and how many rounds that were.
    served_after: Duration,
    rounds: u32,
}

/// What the readers of one stream have done since it was last told, as its ring tells. Not how many were woken: who cannot
/// keep up waits for nothing, and an overloaded process would take itself for an idle one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Chunks that they have taken, each for itself.
    pub reads: usize,
    /// How long the last one woken by the delivery before had to wait for its turn.
    pub served_after: Option<Duration>,
}

impl Rounds {
    /// Rounds of a quiet process from now on.
    pub fn new(now: Instant) -> Self {
        Self { began: now, length: AtomicU64::new(nanos(SHORTEST)), window: Mutex::new(Window::new(now)) }
    }

    /// How long they are at present.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length.load(Ordering::Relaxed))
    }

    /// The first end of a round after `now`: the same moment for everybody who asks within the round.
    pub fn next(&self, now: Instant) -> Instant {
        let length = nanos(self.length());
        let since = nanos(now.saturating_duration_since(self.began));
        now + Duration::from_nanos(length - since % length)
    }

    /// A stream's readers were given something.
    pub fn delivered(&self, delivery: Delivery, now: Instant) {
        let mut window = self.window.lock();
        window.add(delivery);
        let span = now.saturating_duration_since(window.since);
        if span >= WINDOW {
            let length = window.wanted(self.length(), span);
            self.length.store(nanos(length), Ordering::Relaxed);
            *window = Window::new(now);
        }
    }
}

impl Window {
    fn new(since: Instant) -> Self {
        Self { since, reads: 0, served_after: Duration::ZERO, rounds: 0 }
    }

    fn add(&mut self, delivery: Delivery) {
        self.reads += delivery.reads as u64;
        if let Some(served_after) = delivery.served_after {
            self.served_after += served_after;
            self.rounds += 1;
        }
    }

    /// The length that suits this work, done in rounds of `length` during `span`.
    fn wanted(&self, length: Duration, span: Duration) -> Duration {
        let reads = self.reads * nanos(length) / nanos(span).max(1);
        let by_reads = PER_READ.saturating_mul(u32::try_from(reads).unwrap_or(u32::MAX));
        let served_after = self.served_after / self.rounds.max(1);
        let wanted = by_reads.max(served_after * SPARE).clamp(SHORTEST, LONGEST);
        wanted.max((served_after * 3 / 2).min(OVERLOADED))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For a second `streams` of so many viewers each deliver in every round; each round takes so long.
    fn work(rounds: &Rounds, from: Instant, streams: usize, viewers: usize, round: Duration) -> Instant {
        let mut now = from;
        while now < from + Duration::from_secs(1) {
            now = rounds.next(now);
            for _ in 0..streams {
                rounds.delivered(Delivery { reads: viewers, served_after: Some(round) }, now);
            }
        }
        now
    }

    fn length_at(streams: usize, viewers: usize, round: Duration) -> Duration {
        let began = Instant::now();
        let rounds = Rounds::new(began);
        work(&rounds, began, streams, viewers, round);
        rounds.length()
    }

    #[test]
    fn what_the_process_delivers_decides_and_not_what_one_stream_does() {
        let quick = Duration::from_micros(100);
        assert_eq!(length_at(1, 1, quick), SHORTEST);
        assert_eq!(length_at(1, 1000, quick), LONGEST);
        assert_eq!(length_at(50, 20, quick), LONGEST);
        let middle = Duration::from_millis(12)..Duration::from_millis(16);
        assert!(middle.contains(&length_at(1, 200, quick)) && middle.contains(&length_at(200, 1, quick)));
    }

    #[test]
    fn a_slow_machine_gets_longer_rounds() {
        assert_eq!(length_at(1, 20, Duration::from_millis(10)), Duration::from_millis(40));
        assert_eq!(length_at(1, 20, Duration::from_millis(40)), LONGEST);
    }

    #[test]
    fn a_process_that_would_not_get_through_has_fewer_rounds() {
        assert_eq!(length_at(1, 3500, Duration::from_millis(60)), Duration::from_millis(90));
        assert_eq!(length_at(1, 3500, Duration::from_secs(1)), OVERLOADED);
    }

    #[test]
    fn rounds_are_short_again_when_the_work_is_less() {
        let began = Instant::now();
        let (rounds, quick) = (Rounds::new(began), Duration::from_micros(100));
        let now = work(&rounds, began, 10, 500, quick);
        assert_eq!(rounds.length(), LONGEST);
        work(&rounds, now, 1, 1, quick);
        assert_eq!(rounds.length(), SHORTEST);
    }

    #[test]
    fn everybody_who_asks_within_a_round_is_told_the_same_end() {
        let began = Instant::now();
        let rounds = Rounds::new(began);
        let ends = [0, 1, 2, 3].map(|ms| rounds.next(began + Duration::from_millis(ms)));
        assert_eq!(ends, [began + SHORTEST; 4]);
        assert_eq!(
            rounds.next(began + SHORTEST),
            began + 2 * SHORTEST,
            "an end is after the moment of asking"
        );
    }
}
