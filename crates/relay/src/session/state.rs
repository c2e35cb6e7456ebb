//! What a session does next: a pure state machine. No clock, no I/O; time and facts come in, an order comes out.
//!
//! ```text
//!            open ok, first start point        no viewers
//!  Opening ───────────────────────────► Live ─────────────► Lingering(until)
//!   │  └── retry once, elsewhere ─┘     │ ▲  ◄──────────────┘ viewer arrives
//!   │             the upstream ends or breaks │ │ start point of another one
//!   │                                   ▼ │
//!   │                                Recovering(until)
//!   └─────────► Ended(reason) ◄─────────┴── silence, idle, shutdown, nothing to recover with
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{EndReason, StartError};
use crate::origin::{OpenError, SourceId, Stage};

/// The deadlines of a session.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Longest wait for the first decodable data, all attempts together (`EMPTY_STREAM_TIMEOUT`).
    pub start_budget: Duration,
    /// How long a stream stays warm without viewers (`STREAM_IDLE_TIMEOUT`).
    pub idle: Duration,
    /// Longest silence of a live source (`HOLD_TIMEOUT`).
    pub hold: Duration,
    /// How long a start goes on after its last waiter left: long enough for a player that opens twice.
    pub abandon: Duration,
}

/// How many sources one start may try: the first, and one more when it fails explicitly before any data.
const ATTEMPTS: u32 = 2;

/// Pauses before another attempt to heal a gap; the first one is made at once, the last pause repeats.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// So many gaps in a minute are healed at once; after that each waits for the longest pause, so that a source that dies
/// again and again is not started again and again.
const QUICK_GAPS: usize = 3;
const GAP_WINDOW: Duration = Duration::from_mins(1);

/// What happened.
#[derive(Clone, Debug)]
pub enum Step {
    /// The source has accepted the stream, or not.
    Opened(Result<(), OpenError>),
    /// Bytes came.
    Data,
    /// The first start point is in the ring.
    Started,
    /// The bytes are no transport stream.
    Unreadable(SourceId),
    /// The source ended the stream or broke.
    UpstreamOver(Option<OpenError>, SourceId),
    /// The source has sent all of a recording.
    Finished,
    /// So many watch or wait now.
    Viewers(usize),
    /// Somebody else needs the slot.
    GiveWay,
    /// The service stops.
    Shutdown,
    /// Time passed.
    Tick,
}

/// What the task has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Nothing.
    Wait,
    /// Open the stream, avoiding these sources; whatever is open now is closed.
    Open {
        /// Sources that failed.
        exclude: Vec<SourceId>,
        /// Their words, for the log.
        error: OpenError,
    },
    /// End. When viewers may have come in the meantime (`if_unwatched`) it is cancelled by their presence.
    End {
        /// Why.
        reason: EndReason,
        /// Only if really nobody watches.
        if_unwatched: bool,
    },
}

/// Where a session is.
#[derive(Clone, Debug)]
pub enum State {
    /// Waiting for the first decodable data.
    Opening(Opening),
    /// Playing, watched.
    Live,
    /// Playing, unwatched.
    Lingering {
        /// When it ends.
        until: Instant,
    },
    /// The upstream is gone; viewers are held while another one is opened.
    Recovering(Gap),
    /// Over.
    Ended,
}

/// A gap that is being healed.
#[derive(Clone, Debug)]
pub struct Gap {
    /// When viewers are given up.
    until: Instant,
    attempt: usize,
    exclude: Vec<SourceId>,
    /// What broke the stream.
    failure: OpenError,
    /// When the next attempt begins, if none is under way.
    retry_at: Option<Instant>,
}

/// A start under way.
#[derive(Clone, Debug)]
pub struct Opening {
    since: Instant,
    attempt: u32,
    exclude: Vec<SourceId>,
    failure: Option<OpenError>,
    unwatched_since: Option<Instant>,
}

/// The machine: state, deadlines and what they are measured against.
#[derive(Debug)]
pub struct Machine {
    timings: Timings,
    state: State,
    viewers: usize,
    last_data: Instant,
    /// When the last gaps began, the oldest first.
    gaps: VecDeque<Instant>,
}

impl Machine {
    /// A session whose first start begins now for a viewer who asked at `asked` and is about to arrive.
    pub fn new(timings: Timings, asked: Instant, now: Instant) -> Self {
        let opening = Opening {
            since: asked,
            attempt: 1,
            exclude: Vec::new(),
            failure: None,
            unwatched_since: Some(now),
        };
        Self { timings, state: State::Opening(opening), viewers: 0, last_data: now, gaps: VecDeque::new() }
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When [`Step::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Opening(opening) => Some(opening.deadline(&self.timings)),
            State::Live => Some(self.last_data + self.timings.hold),
            State::Lingering { until } => Some((*until).min(self.last_data + self.timings.hold)),
            State::Recovering(gap) => Some(gap.retry_at.map_or(gap.until, |at| at.min(gap.until))),
            State::Ended => None,
        }
    }

    /// Takes one step. `stage` is the stage a start has reached, for the error that names it.
    pub fn apply(&mut self, step: Step, stage: Stage, now: Instant) -> Order {
        match step {
            Step::Opened(Ok(())) => Order::Wait,
            Step::Opened(Err(error)) => self.attempt_failed(error, now),
            Step::Data => self.data(now),
            Step::Started => self.started(now),
            Step::Unreadable(source) => self.attempt_failed(unreadable(source), now),
            Step::UpstreamOver(error, source) => self.upstream_over(error, source, now),
            Step::Finished => self.end(EndReason::UpstreamEnded),
            Step::Viewers(count) => self.viewers(count, now),
            Step::GiveWay => self.give_way(),
            Step::Shutdown => self.end(EndReason::Shutdown),
            Step::Tick => self.tick(stage, now),
        }
    }

    fn data(&mut self, now: Instant) -> Order {
        self.last_data = now;
        Order::Wait
    }

    fn started(&mut self, now: Instant) -> Order {
        self.last_data = now;
        self.state = State::Live;
        self.viewers(self.viewers, now)
    }

    fn viewers(&mut self, count: usize, now: Instant) -> Order {
        self.viewers = count;
        let idle = self.timings.idle;
        match (&mut self.state, count) {
            (State::Opening(opening), 0) => opening.unwatched_since = opening.unwatched_since.or(Some(now)),
            (State::Opening(opening), _) => opening.unwatched_since = None,
            (state @ State::Live, 0) => *state = State::Lingering { until: now + idle },
            (state @ State::Lingering { .. }, 1..) => *state = State::Live,
            _ => {}
        }
        Order::Wait
    }

    fn attempt_failed(&mut self, error: OpenError, now: Instant) -> Order {
        let opening = match &mut self.state {
            State::Opening(opening) => opening,
            State::Live => return self.interrupted(error, now),
            State::Recovering(gap) => {
                gap.failed(&error, now);
                return Order::Wait;
            }
            // Nobody watches: there is nothing to hold.
            State::Lingering { .. } | State::Ended => return self.end(EndReason::UpstreamFailed(error)),
        };
        let lasting = matches!(error, OpenError::NoCapacity { .. });
        let first = opening.failure.get_or_insert_with(|| error.clone()).clone();
        opening.exclude.extend(error.source_id().cloned());
        if lasting || opening.attempt >= ATTEMPTS {
            return self.end(EndReason::NotStarted(first.into()));
        }
        opening.attempt += 1;
        Order::Open { exclude: opening.exclude.clone(), error }
    }

    fn upstream_over(&mut self, error: Option<OpenError>, source: SourceId, now: Instant) -> Order {
        match (&self.state, error) {
            (State::Lingering { .. } | State::Ended, None) => self.end(EndReason::UpstreamEnded),
            (State::Opening(_), error) => {
                self.attempt_failed(error.unwrap_or_else(|| ended_early(source)), now)
            }
            // A broadcast does not end: that its source says so is the source's failure.
            (_, error) => self.attempt_failed(error.unwrap_or_else(|| ended(source)), now),
        }
    }

    /// The upstream is gone and viewers are there: another one is opened while they wait.
    fn interrupted(&mut self, error: OpenError, now: Instant) -> Order {
        while self.gaps.front().is_some_and(|at| *at + GAP_WINDOW <= now) {
            self.gaps.pop_front();
        }
        let is_flapping = self.gaps.len() >= QUICK_GAPS;
        self.gaps.push_back(now);
        let exclude: Vec<SourceId> = error.source_id().cloned().into_iter().collect();
        let mut gap = Gap {
            until: now + self.timings.hold,
            attempt: 1,
            exclude: exclude.clone(),
            failure: error.clone(),
            retry_at: None,
        };
        if is_flapping {
            gap.attempt = PAUSES.len();
            gap.retry_at = Some(now + PAUSES[PAUSES.len() - 1]);
        }
        self.state = State::Recovering(gap);
        if is_flapping { Order::Wait } else { Order::Open { exclude, error } }
    }

    fn recovering_tick(&mut self, mut gap: Gap, now: Instant) -> Order {
        if gap.until <= now {
            return self.end(EndReason::UpstreamFailed(gap.failure));
        }
        if gap.retry_at.is_none_or(|at| at > now) {
            return Order::Wait;
        }
        gap.retry_at = None;
        let order = Order::Open { exclude: gap.exclude.clone(), error: gap.failure.clone() };
        self.state = State::Recovering(gap);
        order
    }

    fn give_way(&mut self) -> Order {
        match self.state {
            State::Lingering { .. } => Order::End { reason: EndReason::GaveWay, if_unwatched: true },
            _ => Order::Wait,
        }
    }

    fn tick(&mut self, stage: Stage, now: Instant) -> Order {
        match &self.state {
            State::Opening(opening) => self.opening_tick(opening.clone(), stage, now),
            State::Recovering(gap) => self.recovering_tick(gap.clone(), now),
            State::Lingering { until } if *until <= now => {
                Order::End { reason: EndReason::Idle, if_unwatched: true }
            }
            State::Live | State::Lingering { .. } if self.last_data + self.timings.hold <= now => {
                self.end(EndReason::Stalled)
            }
            _ => Order::Wait,
        }
    }

    fn opening_tick(&mut self, opening: Opening, stage: Stage, now: Instant) -> Order {
        if opening.since + self.timings.start_budget <= now {
            let waited = self.timings.start_budget;
            let error = opening.failure.map_or(StartError::Timeout { stage, waited }, StartError::from);
            return self.end(EndReason::NotStarted(error));
        }
        match opening.unwatched_since {
            Some(since) if since + self.timings.abandon <= now => {
                Order::End { reason: EndReason::Abandoned, if_unwatched: true }
            }
            _ => Order::Wait,
        }
    }

    fn end(&mut self, reason: EndReason) -> Order {
        self.state = State::Ended;
        Order::End { reason, if_unwatched: false }
    }
}

impl Gap {
    /// An attempt failed: the next one goes elsewhere, and where it likes when there is nowhere else.
    fn failed(&mut self, error: &OpenError, now: Instant) {
        match error.source_id() {
            Some(source) => self.exclude.push(source.clone()),
            None => self.exclude.clear(),
        }
        let pause = PAUSES[self.attempt.min(PAUSES.len() - 1)];
        self.attempt += 1;
        self.retry_at = Some(now + pause);
    }
}

impl Opening {
    fn deadline(&self, timings: &Timings) -> Instant {
        let budget = self.since + timings.start_budget;
        self.unwatched_since.map_or(budget, |since| budget.min(since + timings.abandon))
    }
}

fn unreadable(source: SourceId) -> OpenError {
    OpenError::BadReply {
        detail: "the engine sent something that is no MPEG transport stream".into(),
        source_id: Some(source),
    }
}

fn ended(source: SourceId) -> OpenError {
    OpenError::Failed { detail: "the engine ended the stream".into(), source_id: Some(source) }
}

fn ended_early(source: SourceId) -> OpenError {
    OpenError::Failed {
        detail: "the engine ended the stream before any playable data".into(),
        source_id: Some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMINGS: Timings = Timings {
        start_budget: Duration::from_secs(30),
        idle: Duration::from_mins(5),
        hold: Duration::from_secs(20),
        abandon: Duration::from_secs(1),
    };

    /// A machine and a clock that only the test moves.
    struct Bench {
        machine: Machine,
        now: Instant,
    }

    impl Bench {
        fn opening() -> Self {
            let now = Instant::now();
            let mut bench = Self { machine: Machine::new(TIMINGS, now, now), now };
            bench.step(Step::Viewers(1));
            bench
        }

        fn live() -> Self {
            let mut bench = Self::opening();
            bench.step(Step::Started);
            bench
        }

        fn step(&mut self, step: Step) -> Order {
            self.machine.apply(step, Stage::FirstByte, self.now)
        }

        fn after(&mut self, wait: Duration) -> Order {
            self.now += wait;
            self.step(Step::Tick)
        }
    }

    fn engine(name: &str) -> SourceId {
        SourceId::new(name)
    }

    fn refused(name: &str) -> OpenError {
        OpenError::Failed { detail: format!("{name} refused"), source_id: Some(engine(name)) }
    }

    fn ends_with(reason: EndReason) -> Order {
        Order::End { reason, if_unwatched: false }
    }

    #[test]
    fn an_explicit_failure_is_retried_once_and_elsewhere() {
        let mut bench = Bench::opening();
        let order = bench.step(Step::Opened(Err(refused("a"))));
        assert_eq!(order, Order::Open { exclude: vec![engine("a")], error: refused("a") });
        let order = bench.step(Step::Opened(Err(refused("b"))));
        assert_eq!(order, ends_with(EndReason::NotStarted(refused("a").into())));
    }

    #[test]
    fn when_no_other_engine_is_left_the_first_failure_is_what_the_viewer_reads() {
        let mut bench = Bench::opening();
        bench.step(Step::Opened(Err(refused("a"))));
        let nowhere = OpenError::NoCapacity { lack: crate::origin::Lack::Room, detail: "none left".into() };
        let order = bench.step(Step::Opened(Err(nowhere)));
        assert_eq!(order, ends_with(EndReason::NotStarted(refused("a").into())));
    }

    #[test]
    fn an_end_before_any_playable_data_counts_as_a_failed_attempt() {
        let mut bench = Bench::opening();
        let order = bench.step(Step::UpstreamOver(None, engine("a")));
        assert!(matches!(order, Order::Open { exclude, .. } if exclude == [engine("a")]));
    }

    #[test]
    fn silence_keeps_its_engine_until_the_whole_budget_ends() {
        let mut bench = Bench::opening();
        assert_eq!(bench.after(Duration::from_secs(29)), Order::Wait);
        let Order::End { reason: EndReason::NotStarted(error), .. } = bench.after(Duration::from_secs(1))
        else {
            panic!("the budget is over");
        };
        assert_eq!(error, StartError::Timeout { stage: Stage::FirstByte, waited: TIMINGS.start_budget });
    }

    #[test]
    fn a_retry_gets_what_is_left_of_the_budget_and_no_more() {
        let mut bench = Bench::opening();
        bench.after(Duration::from_secs(20));
        bench.step(Step::Opened(Err(refused("a"))));
        assert_eq!(bench.machine.deadline(), Some(bench.now + Duration::from_secs(10)));
    }

    #[test]
    fn a_start_without_waiters_ends_after_a_second_unless_somebody_comes() {
        let mut bench = Bench::opening();
        bench.step(Step::Viewers(0));
        assert_eq!(bench.after(Duration::from_millis(900)), Order::Wait);
        bench.step(Step::Viewers(1));
        assert_eq!(bench.after(Duration::from_secs(5)), Order::Wait);
        bench.step(Step::Viewers(0));
        let order = bench.after(Duration::from_secs(1));
        assert_eq!(order, Order::End { reason: EndReason::Abandoned, if_unwatched: true });
    }

    #[test]
    fn an_unwatched_stream_stays_warm_and_then_ends() {
        let mut bench = Bench::live();
        bench.step(Step::Viewers(0));
        for _ in 0..29 {
            assert_eq!(bench.after(Duration::from_secs(10)), Order::Wait);
            bench.step(Step::Data);
        }
        let order = bench.after(Duration::from_secs(10));
        assert_eq!(order, Order::End { reason: EndReason::Idle, if_unwatched: true });
    }

    #[test]
    fn a_viewer_who_comes_back_finds_it_warm() {
        let mut bench = Bench::live();
        bench.step(Step::Viewers(0));
        assert!(matches!(bench.machine.state(), State::Lingering { .. }));
        bench.step(Step::Viewers(1));
        assert!(matches!(bench.machine.state(), State::Live));
    }

    #[test]
    fn only_a_lingering_stream_gives_way() {
        let mut bench = Bench::live();
        assert_eq!(bench.step(Step::GiveWay), Order::Wait);
        bench.step(Step::Viewers(0));
        let order = bench.step(Step::GiveWay);
        assert_eq!(order, Order::End { reason: EndReason::GaveWay, if_unwatched: true });
    }

    #[test]
    fn a_silent_source_is_held_for_a_while_and_then_given_up() {
        let mut bench = Bench::live();
        assert_eq!(bench.after(Duration::from_secs(19)), Order::Wait);
        assert_eq!(bench.after(Duration::from_secs(1)), ends_with(EndReason::Stalled));
    }

    #[test]
    fn every_state_but_the_last_has_a_deadline() {
        let mut bench = Bench::opening();
        assert!(bench.machine.deadline().is_some());
        bench.step(Step::Started);
        assert!(bench.machine.deadline().is_some());
        bench.step(Step::Viewers(0));
        assert!(bench.machine.deadline().is_some());
        bench.step(Step::Shutdown);
        assert!(bench.machine.deadline().is_none());
    }

    fn broken(name: &str) -> Step {
        let error = OpenError::Failed { detail: "reset".into(), source_id: Some(engine(name)) };
        Step::UpstreamOver(Some(error), engine(name))
    }

    fn nowhere() -> Step {
        let lack = crate::origin::Lack::Room;
        Step::Opened(Err(OpenError::NoCapacity { lack, detail: "none left".into() }))
    }

    #[test]
    fn a_watched_stream_whose_source_breaks_is_opened_elsewhere_at_once() {
        for over in [broken("a"), Step::UpstreamOver(None, engine("a"))] {
            let mut bench = Bench::live();
            let order = bench.step(over);
            assert!(matches!(order, Order::Open { exclude, .. } if exclude == [engine("a")]));
            bench.step(Step::Started);
            assert!(matches!(bench.machine.state(), State::Live));
        }
    }

    #[test]
    fn when_there_is_nowhere_else_the_same_engine_is_tried_again_after_a_pause() {
        let mut bench = Bench::live();
        bench.step(broken("a"));
        assert_eq!(bench.step(nowhere()), Order::Wait);
        assert_eq!(bench.after(Duration::from_millis(400)), Order::Wait);
        let order = bench.after(Duration::from_millis(100));
        assert!(matches!(order, Order::Open { exclude, .. } if exclude.is_empty()));
    }

    #[test]
    fn a_gap_that_is_not_healed_in_time_ends_the_stream_with_what_broke_it() {
        let mut bench = Bench::live();
        bench.step(broken("a"));
        bench.step(nowhere());
        let mut attempts = 0;
        for _ in 0..190 {
            if matches!(bench.after(Duration::from_millis(100)), Order::Open { .. }) {
                attempts += 1;
                bench.step(nowhere());
            }
        }
        assert!((4..=10).contains(&attempts), "{attempts}");
        let Order::End { reason: EndReason::UpstreamFailed(error), .. } = bench.after(Duration::from_secs(1))
        else {
            panic!("twenty seconds are over");
        };
        assert_eq!(error.to_string(), "reset");
    }

    #[test]
    fn a_source_that_dies_again_and_again_is_started_more_slowly() {
        let mut bench = Bench::live();
        for _ in 0..3 {
            assert!(matches!(bench.step(broken("a")), Order::Open { .. }));
            bench.step(Step::Started);
            bench.now += Duration::from_secs(5);
        }
        assert_eq!(bench.step(broken("a")), Order::Wait);
        assert!(matches!(bench.after(Duration::from_secs(4)), Order::Open { .. }));
    }

    #[test]
    fn nobody_is_held_who_is_not_there_and_a_recording_ends_when_it_is_over() {
        let mut bench = Bench::live();
        bench.step(Step::Viewers(0));
        assert!(matches!(bench.step(broken("a")), Order::End { reason: EndReason::UpstreamFailed(_), .. }));
        assert_eq!(Bench::live().step(Step::Finished), ends_with(EndReason::UpstreamEnded));
    }
}
