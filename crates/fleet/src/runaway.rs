//! Engines that go on downloading when nothing plays on them.
//!
//! The open engine does so after a start by an infohash that it cannot play, at 30–40 Mbit/s and for ever, and no page of
//! it shows that: what it calls active sessions are other downloads, those that linger behind a stop. The closed engine
//! leaves ghosts of sessions whose stop it has lost. What shows both is the container's own traffic. Pure: samples and
//! their times are arguments.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// When an engine is called a runaway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunawayRule {
    /// What an engine may receive without a session, in bits per second. Look-ups and chatter with peers stay far below.
    pub allowed: u64,
    /// For how long it must have received more. The open engine downloads on for 25–30 s after every stop.
    pub patience: Duration,
    /// In each stretch of that time so long it must have received more: one large file makes no runaway.
    pub stretch: Duration,
}

impl Default for RunawayRule {
    fn default() -> Self {
        Self { allowed: 1_000_000, patience: Duration::from_mins(1), stretch: Duration::from_secs(10) }
    }
}

/// Samples come about once a second. Between two that are so far apart anything may have happened, and it may be this
/// program that stood still.
const GAP: Duration = Duration::from_secs(10);

/// One in so many bytes sent may have come back as its acknowledgement: 62 bytes for a peer protocol's packet of 1400.
const SENT_PER_ACKNOWLEDGED: u64 = 20;

/// An engine's traffic at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was seen.
    pub(crate) at: Instant,
    /// Bytes received since the container's start.
    pub(crate) received: u64,
    /// Bytes sent since the container's start.
    pub(crate) sent: u64,
    /// Since when it has had nothing to receive: no slot in use, no start or stop under way.
    pub(crate) idle_since: Option<Instant>,
}

/// An engine that receives what nobody has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runaway {
    /// Since when, at least.
    pub since: Instant,
    /// How much of late, in bits per second.
    pub rate: u64,
}

impl Runaway {
    /// The same in whole Mbit/s.
    pub fn mbits(&self) -> u64 {
        (self.rate + 500_000) / 1_000_000
    }
}

impl fmt::Display for Runaway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "receives {} Mbit/s without a session", self.mbits())
    }
}

/// What one engine has received of late.
#[derive(Debug)]
pub(crate) struct Traffic {
    rule: RunawayRule,
    last: Option<Sample>,
    evidence: Option<Evidence>,
}

/// It has received too much in every stretch since it began.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    began: Instant,
    /// In the last complete stretch.
    rate: u64,
    stretch: Stretch,
}

/// The stretch that is not complete yet.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    began: Instant,
    bytes: u64,
}

impl Traffic {
    pub(crate) fn new(rule: RunawayRule) -> Self {
        Self { rule, last: None, evidence: None }
    }

    /// Takes in what is seen now.
    pub(crate) fn take(&mut self, sample: Sample) {
        let before = self.last.replace(sample);
        let idle = before.and_then(|before| sample.received_idle_since(&before));
        self.evidence = idle.map(|(from, bytes)| {
            let evidence = self.evidence.unwrap_or_else(|| Evidence::from(from));
            evidence.and(bytes, sample.at, &self.rule)
        });
    }

    /// Whether it runs away, by what is known `now` and as long as it is idle without a break.
    pub(crate) fn runs_away(&self, idle_since: Option<Instant>, now: Instant) -> Option<Runaway> {
        let last = self.last.filter(|last| last.idle_since == idle_since)?;
        let Evidence { began, rate, stretch } = self.evidence?;
        let is_known_now = now.saturating_duration_since(last.at) <= GAP;
        let is_long_enough = stretch.began.duration_since(began) >= self.rule.patience;
        (is_known_now && is_long_enough).then_some(Runaway { since: began, rate })
    }
}

impl Sample {
    /// Since the sample `before`: from when, and how many bytes that answer nothing sent. `None` when the two cannot be
    /// compared, or when it was in use in between.
    fn received_idle_since(&self, before: &Self) -> Option<(Instant, u64)> {
        let was_idle = self.idle_since.is_some() && self.idle_since == before.idle_since;
        let follows = before.at < self.at && self.at.duration_since(before.at) <= GAP;
        let received = self.received.checked_sub(before.received)?;
        let sent = self.sent.checked_sub(before.sent)?;
        let unasked = received.saturating_sub(sent / SENT_PER_ACKNOWLEDGED);
        (was_idle && follows).then_some((before.at, unasked))
    }
}

impl Evidence {
    fn from(began: Instant) -> Self {
        Self { began, rate: 0, stretch: Stretch { began, bytes: 0 } }
    }

    /// With so many bytes more, received until `now`. A stretch that stays below begins it anew.
    fn and(mut self, bytes: u64, now: Instant, rule: &RunawayRule) -> Self {
        self.stretch.bytes = self.stretch.bytes.saturating_add(bytes);
        let took = now.duration_since(self.stretch.began);
        if took < rule.stretch {
            return self;
        }
        let rate = bits_per_second(self.stretch.bytes, took);
        if rate <= rule.allowed {
            return Self::from(now);
        }
        Self { began: self.began, rate, stretch: Stretch { began: now, bytes: 0 } }
    }
}

fn bits_per_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 8_000 / took.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An engine whose traffic is looked at once a second.
    struct Bench {
        traffic: Traffic,
        began: Instant,
        now: Instant,
        received: u64,
        sent: u64,
        idle_since: Option<Instant>,
    }

    impl Bench {
        /// Idle from now on.
        fn new() -> Self {
            let now = Instant::now();
            let traffic = Traffic::new(RunawayRule::default());
            let mut bench =
                Self { traffic, began: now, now, received: 5_000, sent: 700, idle_since: Some(now) };
            bench.look();
            bench
        }

        fn look(&mut self) {
            let Self { now: at, received, sent, idle_since, .. } = *self;
            self.traffic.take(Sample { at, received, sent, idle_since });
        }

        /// Time passes, and so much is received and sent: kbit/s.
        fn passes(&mut self, seconds: u64, received: u64, sent: u64) {
            for _ in 0..seconds {
                self.now += s(1);
                self.received += received * 125;
                self.sent += sent * 125;
                self.look();
            }
        }

        fn is_used(&mut self, seconds: u64, received: u64) {
            self.idle_since = None;
            self.passes(seconds, received, received);
            self.idle_since = Some(self.now);
            self.look();
        }

        fn verdict(&self) -> Option<Runaway> {
            self.traffic.runs_away(self.idle_since, self.now)
        }

        /// After how many seconds more it is called a runaway.
        fn until_noticed(&mut self, received: u64, sent: u64) -> Option<u64> {
            (1..=600).find(|_| {
                self.passes(1, received, sent);
                self.verdict().is_some()
            })
        }
    }

    #[test]
    fn a_runaway_as_it_was_measured_is_noticed_after_a_minute_and_named() {
        let mut bench = Bench::new();
        assert_eq!(bench.until_noticed(35_000, 900), Some(60));
        let verdict = bench.verdict().expect("it was noticed");
        assert_eq!((verdict.mbits(), verdict.since), (35, bench.began));
        assert_eq!(verdict.to_string(), "receives 35 Mbit/s without a session");
        bench.passes(3_600, 35_000, 900);
        assert!(bench.verdict().is_some(), "it goes on, and so does the verdict");
    }

    #[test]
    fn the_minute_counts_from_when_the_last_slot_came_back() {
        let mut bench = Bench::new();
        bench.is_used(600, 35_000);
        let returned = bench.now;
        assert_eq!(bench.until_noticed(35_000, 0), Some(60));
        assert_eq!(bench.verdict().map(|verdict| verdict.since), Some(returned));
    }

    #[test]
    fn a_source_that_lingers_behind_a_stop_is_no_runaway() {
        let mut bench = Bench::new();
        // Every minute somebody watches for a while.
        for _ in 0..20 {
            bench.is_used(30, 35_000);
            assert_eq!(bench.verdict(), None);
            bench.passes(30, 35_000, 0);
            assert_eq!(bench.verdict(), None);
        }
        assert_eq!(bench.until_noticed(300, 200), None);
    }

    #[test]
    fn chatter_and_a_stream_given_to_others_are_no_runaway() {
        for (received, sent) in [(0, 0), (300, 200), (999, 999), (4_400, 100_000), (500, 40_000)] {
            assert_eq!(Bench::new().until_noticed(received, sent), None, "{received} kbit/s in, {sent} out");
        }
        // What it gives away does not hide what it takes.
        assert!(Bench::new().until_noticed(8_000, 8_000).is_some());
        assert!(Bench::new().until_noticed(1_200, 500).is_some());
    }

    #[test]
    fn a_large_file_now_and_then_is_no_runaway() {
        let mut bench = Bench::new();
        for _ in 0..30 {
            // 100 MB in ten seconds, and a quarter of a minute without anything.
            bench.passes(10, 80_000, 0);
            bench.passes(15, 20, 20);
            assert_eq!(bench.verdict(), None);
        }
    }

    #[test]
    fn pieces_that_come_in_bursts_are_a_stream() {
        let mut bench = Bench::new();
        for _ in 0..17 {
            // One of 1 MiB every four seconds: 2 Mbit/s.
            bench.passes(1, 8_389, 0);
            bench.passes(3, 0, 0);
        }
        assert!(bench.verdict().is_some_and(|verdict| verdict.mbits() == 2 || verdict.mbits() == 3));
    }

    #[test]
    fn a_container_that_was_restarted_begins_anew() {
        for counters in [|bench: &mut Bench| bench.received = 100, |bench: &mut Bench| bench.sent = 0] {
            let mut bench = Bench::new();
            bench.passes(55, 35_000, 900);
            counters(&mut bench);
            assert_eq!(bench.until_noticed(35_000, 900), Some(61), "the first sample is only compared with");
        }
    }

    #[test]
    fn time_in_which_nobody_looked_is_no_evidence() {
        for gap in [s(11), s(60), s(86_400)] {
            let mut bench = Bench::new();
            bench.passes(59, 35_000, 0);
            bench.now += gap;
            // The counters have gone on, as fast as a link allows.
            bench.received += 125_000_000 * gap.as_secs();
            bench.look();
            assert_eq!(bench.verdict(), None);
            assert_eq!(bench.until_noticed(300, 0), None);
            assert_eq!(bench.until_noticed(35_000, 0).map(|seconds| seconds >= 60), Some(true));
        }
    }

    #[test]
    fn samples_that_come_all_at_once_after_a_standstill_are_worth_one_stretch_at_most() {
        let mut bench = Bench::new();
        bench.now += s(300);
        for _ in 0..300 {
            bench.now += Duration::from_millis(1);
            bench.received += 4_375_000;
            bench.look();
        }
        assert_eq!(bench.until_noticed(300, 0), None);
    }

    #[test]
    fn a_verdict_lapses_when_it_stops_is_used_or_is_not_looked_at_any_more() {
        let runaway = || {
            let mut bench = Bench::new();
            bench.passes(70, 35_000, 0);
            assert!(bench.verdict().is_some());
            bench
        };
        let mut stopped = runaway();
        stopped.passes(11, 300, 0);
        assert_eq!(stopped.verdict(), None);

        let mut unseen = runaway();
        unseen.now += s(11);
        assert_eq!(unseen.verdict(), None);

        let mut used = runaway();
        // Before the next sample tells of it.
        used.idle_since = None;
        assert_eq!(used.verdict(), None);
        used.idle_since = Some(used.now);
        used.now += s(1);
        assert_eq!(used.verdict(), None, "somebody came and went");
        assert!(used.until_noticed(35_000, 0).is_some_and(|seconds| seconds >= 60));
    }
}
