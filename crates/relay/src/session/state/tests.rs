//! The machine alone, on a clock that only the test moves.

use super::*;
use crate::origin::Stage;
use crate::session::StartError;

const TIMINGS: Timings = Timings {
    start_budget: Duration::from_secs(30),
    hedge: Duration::from_secs(12),
    idle: Duration::from_mins(5),
    stall: Duration::from_secs(5),
    hold: Duration::from_secs(20),
    abandon: Duration::from_secs(1),
};

/// A machine and a clock that only the test moves.
struct Bench {
    machine: Machine,
    now: Instant,
    media: Duration,
    standing: Standing,
}

impl Bench {
    fn opening() -> Self {
        let now = Instant::now();
        let standing = Standing {
            stage: Stage::FirstByte,
            called: Some(now),
            is_doubtful: false,
            is_loading: false,
            awaited: None,
        };
        let machine = Machine::new(TIMINGS, now, now);
        let mut bench = Self { machine, now, media: Duration::ZERO, standing };
        bench.takes(Step::Viewers(1));
        bench
    }

    fn live() -> Self {
        let mut bench = Self::opening();
        drop(bench.starts());
        bench
    }

    fn step(&mut self, step: Step) -> Order {
        self.machine.apply(step, self.standing, self.now)
    }

    /// A step after which nothing is to be looked at.
    fn takes(&mut self, step: Step) {
        drop(self.step(step));
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline(self.standing, self.now)
    }

    /// From now on another source is asked, at this stage.
    fn asks(&mut self, stage: Stage) {
        let called = (stage != Stage::Slot).then_some(self.now);
        self.standing = Standing { stage, called, is_doubtful: false, is_loading: false, awaited: None };
    }

    /// The source `a` has begun to play.
    fn starts(&mut self) -> Order {
        self.step(Step::Started { source: engine("a"), media: self.media })
    }

    /// As much media as time has come.
    fn plays(&mut self) -> Order {
        self.media += Duration::from_secs(1);
        self.step(Step::Data(self.media))
    }

    /// So many seconds of media, one a second.
    fn plays_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            assert_eq!(self.plays(), Order::Wait);
        }
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
    assert_eq!(order, Order::Open { exclude: vec![engine("a")], error: refused("a"), beside: false });
    let order = bench.step(Step::Opened(Err(refused("b"))));
    assert_eq!(order, ends_with(EndReason::NotStarted(refused("a").into())));
}

#[test]
fn when_no_other_engine_is_left_the_first_failure_is_what_the_viewer_reads() {
    let mut bench = Bench::opening();
    bench.takes(Step::Opened(Err(refused("a"))));
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
fn after_twelve_silent_seconds_a_second_engine_is_asked_beside_the_first_and_only_once() {
    let mut bench = Bench::opening();
    assert_eq!(bench.after(Duration::from_secs(11)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::Hedge { .. }));
    assert_eq!(bench.after(Duration::from_secs(17)), Order::Wait);
    let Order::End { reason: EndReason::NotStarted(error), .. } = bench.after(Duration::from_secs(1)) else {
        panic!("the budget is over");
    };
    assert_eq!(
        error,
        StartError::Timeout { stage: Stage::FirstByte, awaited: None, waited: TIMINGS.start_budget }
    );
}

#[test]
fn a_start_call_that_is_not_answered_has_a_second_one_beside_it_after_six_seconds() {
    let mut bench = Bench::opening();
    bench.asks(Stage::Call);
    assert_eq!(bench.after(Duration::from_millis(5900)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_millis(100)), Order::Hedge { .. }));
}

#[test]
fn a_source_that_may_be_a_bad_one_has_another_beside_it_after_a_second() {
    let mut bench = Bench::opening();
    bench.standing.is_doubtful = true;
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::Hedge { .. }));
}

#[test]
fn without_room_for_a_second_source_it_is_looked_for_again() {
    let mut bench = Bench::opening();
    assert!(matches!(bench.after(Duration::from_secs(12)), Order::Hedge { .. }));
    bench.takes(Step::NoRoom);
    assert_eq!(bench.after(Duration::from_secs(1)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::Hedge { .. }));
}

#[test]
fn an_attempt_to_heal_a_gap_that_hangs_has_another_one_beside_it() {
    for (stage, patience) in [(Stage::Call, 6), (Stage::FirstByte, 12)] {
        let mut bench = Bench::live();
        assert!(matches!(bench.step(broken("a")), Order::Open { .. }));
        bench.asks(stage);
        assert_eq!(bench.after(Duration::from_secs(patience - 1)), Order::Wait);
        let order = bench.after(Duration::from_secs(1));
        assert!(matches!(order, Order::Hedge { exclude, .. } if exclude == [engine("a")]));
        assert_eq!(bench.after(Duration::from_secs(7)), Order::Wait, "both get their time");
    }
}

#[test]
fn an_attempt_that_hangs_gets_no_more_time_because_there_was_no_room_for_a_second_one() {
    let mut bench = Bench::live();
    assert!(matches!(bench.step(broken("a")), Order::Open { .. }));
    bench.asks(Stage::Call);
    let began = bench.now;
    let mut hedges = 0;
    while let order = bench.after(Duration::from_millis(500))
        && !matches!(order, Order::Open { .. })
    {
        assert!(!matches!(order, Order::End { .. }), "viewers are cut without another attempt");
        if let Order::Hedge { error, .. } = order {
            assert_eq!(error.is_some(), hedges == 0, "it is said once");
            hedges += 1;
            bench.takes(Step::NoRoom);
        }
    }
    assert!(hedges > 1 && bench.now - began <= Duration::from_secs(15), "{hedges} {:?}", bench.now - began);
}

/// An engine that collects 15 s of a stream before it sends any of it is not left a moment before it does.
#[test]
fn a_source_that_shows_that_media_is_on_its_way_is_waited_for_as_long_as_viewers_are_held() {
    for is_loading in [false, true] {
        let mut bench = Bench::live();
        assert!(matches!(bench.step(broken("a")), Order::Open { .. }));
        bench.asks(Stage::FirstByte);
        bench.standing.is_loading = is_loading;
        let mut waited = 0;
        let over = loop {
            match bench.after(Duration::from_millis(500)) {
                Order::Wait => {}
                // There is no other one beside it.
                Order::Hedge { .. } => bench.takes(Step::NoRoom),
                over => break over,
            }
            waited += 1;
        };
        assert_eq!(matches!(over, Order::End { .. }), is_loading, "{over:?}");
        assert!(is_loading == (waited >= 39), "{waited} half seconds");
    }
}

#[test]
fn a_start_whose_second_source_fails_may_have_a_third_one() {
    let mut bench = Bench::opening();
    bench.asks(Stage::Call);
    assert!(matches!(bench.after(Duration::from_secs(6)), Order::Hedge { .. }));
    bench.takes(Step::OneFailed(refused("b")));
    let order = bench.after(Duration::from_millis(500));
    assert!(matches!(order, Order::Hedge { exclude, .. } if exclude == [engine("b")]));
}

#[test]
fn who_waits_for_a_place_is_not_silent() {
    let mut bench = Bench::opening();
    bench.asks(Stage::Slot);
    assert_eq!(bench.after(Duration::from_secs(12)), Order::Wait);
    assert!(bench.deadline() > Some(bench.now));
}

#[test]
fn who_makes_room_for_another_address_asks_for_a_place_again_and_keeps_his_budget() {
    let mut bench = Bench::opening();
    assert_eq!(bench.after(Duration::from_secs(5)), Order::Wait);
    assert!(matches!(bench.step(Step::MakeRoom), Order::Open { beside: false, .. }));
    bench.asks(Stage::Slot);
    assert_eq!(bench.after(Duration::from_secs(24)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::End { .. }));
}

#[test]
fn when_this_program_stood_still_nobody_is_cut_for_that() {
    let long = Duration::from_secs(40);
    // Live: silent for longer than viewers are held.
    let mut bench = Bench::live();
    bench.now += long;
    bench.machine.excuse(long, bench.now);
    assert_eq!(bench.after(Duration::from_secs(4)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::Open { beside: true, .. }));
    // A gap.
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    bench.now += long;
    bench.machine.excuse(long, bench.now);
    assert!(!matches!(bench.after(Duration::from_secs(1)), Order::End { .. }));
    // A start.
    let mut bench = Bench::opening();
    bench.now += long;
    bench.machine.excuse(long, bench.now);
    assert!(!matches!(bench.after(Duration::from_secs(1)), Order::End { .. }));
}

#[test]
fn a_retry_gets_what_is_left_of_the_budget_and_no_more() {
    let mut bench = Bench::opening();
    drop(bench.after(Duration::from_secs(20)));
    bench.takes(Step::Opened(Err(refused("a"))));
    bench.asks(Stage::FirstByte);
    assert_eq!(bench.after(Duration::from_secs(9)), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(1)), Order::End { .. }));
}

#[test]
fn a_start_without_waiters_ends_after_a_second_unless_somebody_comes() {
    let mut bench = Bench::opening();
    bench.takes(Step::Viewers(0));
    assert_eq!(bench.after(Duration::from_millis(900)), Order::Wait);
    bench.takes(Step::Viewers(1));
    assert_eq!(bench.after(Duration::from_secs(5)), Order::Wait);
    bench.takes(Step::Viewers(0));
    let order = bench.after(Duration::from_secs(1));
    assert_eq!(order, Order::End { reason: EndReason::Abandoned, if_unwatched: true });
}

#[test]
fn an_unwatched_stream_stays_warm_and_then_ends() {
    let mut bench = Bench::live();
    bench.takes(Step::Viewers(0));
    for _ in 0..29 {
        assert_eq!(bench.after(Duration::from_secs(10)), Order::Wait);
        drop(bench.plays());
    }
    let order = bench.after(Duration::from_secs(10));
    assert_eq!(order, Order::End { reason: EndReason::Idle, if_unwatched: true });
}

#[test]
fn a_viewer_who_comes_back_finds_it_warm() {
    let mut bench = Bench::live();
    bench.takes(Step::Viewers(0));
    assert!(matches!(bench.machine.state(), State::Lingering { .. }));
    bench.takes(Step::Viewers(1));
    assert!(matches!(bench.machine.state(), State::Live));
}

#[test]
fn a_stream_gives_way_only_if_nobody_watches() {
    let gives_way = Order::End { reason: EndReason::GaveWay, if_unwatched: true };
    let mut bench = Bench::live();
    assert_eq!(
        bench.step(Step::MakeRoom),
        gives_way,
        "the machine may not know yet that the last viewer left"
    );
    bench.takes(Step::Viewers(0));
    assert_eq!(bench.step(Step::MakeRoom), gives_way);
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    bench.takes(Step::Viewers(0));
    assert_eq!(bench.step(Step::MakeRoom), gives_way);
    let mut bench = Bench::opening();
    bench.takes(Step::Viewers(0));
    let abandoned = Order::End { reason: EndReason::Abandoned, if_unwatched: true };
    assert_eq!(bench.step(Step::MakeRoom), abandoned);
}

#[test]
fn after_five_silent_seconds_another_engine_is_asked_while_the_first_is_hoped_for() {
    let mut bench = Bench::live();
    assert_eq!(bench.after(Duration::from_millis(4900)), Order::Wait);
    let order = bench.after(Duration::from_millis(100));
    assert!(matches!(order, Order::Open { exclude, beside: true, .. } if exclude == [engine("a")]));
    assert_eq!(bench.plays(), Order::Settle, "it is back: nobody else is needed");
    assert!(matches!(bench.machine.state(), State::Live));
}

#[test]
fn a_swarm_that_starves_for_four_seconds_again_and_again_changes_nothing() {
    let mut bench = Bench::live();
    for _ in 0..20 {
        assert_eq!(bench.after(Duration::from_secs(4)), Order::Wait);
        assert_eq!(bench.plays(), Order::Wait);
    }
}

#[test]
fn a_silent_engine_without_an_alternative_is_started_again_after_ten_seconds_and_given_up_after_the_hold() {
    let mut bench = Bench::live();
    let (mut asked_elsewhere, mut restarted) = (0, None);
    let end = loop {
        let order = bench.after(Duration::from_millis(100));
        match order {
            Order::Open { beside: true, .. } => asked_elsewhere += 1,
            Order::Open { beside: false, exclude, .. } => {
                assert!(exclude.is_empty(), "the same engine may be taken");
                restarted.get_or_insert(bench.now);
            }
            Order::End { reason, .. } => break reason,
            Order::Wait | Order::Settle | Order::Hedge { .. } => continue,
        }
        bench.takes(nowhere());
    };
    assert!((3..=6).contains(&asked_elsewhere), "{asked_elsewhere}");
    let since = bench.now - restarted.unwrap();
    assert!((Duration::from_secs(6)..Duration::from_secs(10)).contains(&since), "{since:?}");
    assert_eq!(end, EndReason::Stalled);
}

#[test]
fn an_engine_that_is_left_plays_on_until_the_other_one_does_and_stays_when_there_is_none() {
    let mut bench = Bench::live();
    let order = bench.step(Step::Leave(refused("a")));
    assert!(matches!(order, Order::Open { exclude, beside: true, .. } if exclude == [engine("a")]));
    assert_eq!(bench.plays(), Order::Wait, "its media does not stop the move");
    assert_eq!(bench.step(nowhere()), Order::Settle);
    assert!(matches!(bench.machine.state(), State::Live));
}

#[test]
fn however_often_an_operator_moves_a_stream_its_next_gap_is_healed_at_once() {
    let mut bench = Bench::live();
    for _ in 0..5 {
        bench.takes(Step::Leave(refused("b")));
        bench.takes(nowhere());
        bench.plays_for(3);
    }
    let order = bench.step(broken("a"));
    assert!(matches!(&order, Order::Open { exclude, .. } if *exclude == [engine("a")]), "{order:?}");
}

#[test]
fn a_move_goes_to_no_engine_that_was_just_left() {
    let mut bench = Bench::live();
    for (at, left) in ["a", "b"].into_iter().enumerate() {
        let order = bench.step(Step::Leave(refused(left)));
        let avoided = [engine("a"), engine("b")];
        assert!(matches!(&order, Order::Open { exclude, .. } if *exclude == avoided[..=at]), "{order:?}");
        bench.takes(nowhere());
    }
}

#[test]
fn a_move_goes_back_where_there_is_no_other_engine_and_then_gives_up() {
    let mut bench = Bench::live();
    bench.takes(Step::Leave(refused("a")));
    bench.takes(nowhere());
    bench.takes(Step::Leave(refused("b")));
    bench.takes(nowhere());
    let order = bench.after(Duration::from_secs(1));
    assert!(matches!(&order, Order::Open { exclude, .. } if *exclude == [engine("b")]), "{order:?}");
    assert_eq!(bench.step(nowhere()), Order::Settle);
    assert!(matches!(bench.machine.state(), State::Live));
}

#[test]
fn a_move_does_not_go_back_to_an_engine_that_has_failed_since_it_was_left() {
    let mut bench = Bench::live();
    bench.takes(Step::Leave(refused("a")));
    bench.takes(nowhere());
    bench.takes(broken("a"));
    bench.takes(Step::TakenUp(engine("b")));
    drop(bench.starts());
    bench.plays_for(3);
    bench.takes(Step::Leave(refused("b")));
    assert_eq!(bench.step(nowhere()), Order::Settle);
}

#[test]
fn a_gap_that_everybody_has_left_is_looked_at_when_something_is_due_and_not_before() {
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    bench.asks(Stage::FirstByte);
    bench.takes(Step::Viewers(0));
    // Long past the moment at which a second source would be asked for somebody.
    bench.now += Duration::from_secs(13);
    let deadline = bench.deadline().expect("it will be decided");
    assert!(deadline > bench.now, "it spins: {:?} ago", bench.now - deadline);
}

#[test]
fn an_engine_that_breaks_while_it_is_left_is_a_gap() {
    let mut bench = Bench::live();
    bench.takes(Step::Leave(refused("a")));
    assert_eq!(bench.step(broken("a")), Order::Wait, "the other one is being opened already");
    let failed = Step::Opened(Err(refused("b")));
    assert_eq!(bench.step(failed), Order::Wait);
    assert!(matches!(bench.after(Duration::from_millis(500)), Order::Open { beside: false, .. }));
}

#[test]
fn a_picture_that_stands_still_after_each_start_holds_nobody_for_ever() {
    let mut bench = Bench::live();
    bench.plays_for(60);
    let frozen = bench.now;
    let end = loop {
        match bench.after(Duration::from_millis(100)) {
            Order::Open { .. } => {
                // Each start brings one second of the same.
                bench.takes(Step::TakenUp(engine("b")));
                drop(bench.starts());
                drop(bench.plays());
            }
            Order::End { reason, .. } => break reason,
            Order::Wait | Order::Settle | Order::Hedge { .. } => {}
        }
        assert!(bench.now - frozen < Duration::from_mins(1), "this never ends");
    };
    assert_eq!(end, EndReason::Stalled);
}

#[test]
fn nothing_is_started_for_a_gap_that_nobody_watches_any_more() {
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    bench.takes(nowhere());
    bench.takes(Step::Viewers(0));
    let order = bench.after(Duration::from_millis(500));
    assert!(matches!(order, Order::End { reason: EndReason::UpstreamFailed(_), if_unwatched: true }));
    bench.takes(Step::Viewers(1));
    assert!(matches!(bench.after(Duration::ZERO), Order::Open { .. }), "somebody came in between");
}

#[test]
fn a_stream_that_its_viewers_left_in_a_gap_does_not_play_on_for_nobody() {
    let ways: [fn(&mut Bench) -> Order; 3] = [
        // The silent source came back.
        |bench| {
            drop(bench.after(Duration::from_secs(5)));
            bench.takes(Step::Viewers(0));
            bench.plays()
        },
        // There was nowhere to move to.
        |bench| {
            bench.takes(Step::Leave(refused("a")));
            bench.takes(Step::Viewers(0));
            bench.step(nowhere())
        },
        // The new source plays.
        |bench| {
            bench.takes(broken("a"));
            bench.takes(Step::Viewers(0));
            bench.starts()
        },
    ];
    for way in ways {
        let mut bench = Bench::live();
        drop(way(&mut bench));
        assert!(matches!(bench.machine.state(), State::Lingering { .. }), "{:?}", bench.machine.state());
        let idle = TIMINGS.idle.as_secs();
        for _ in 0..idle - 1 {
            bench.now += Duration::from_secs(1);
            drop(bench.plays());
        }
        let end = Order::End { reason: EndReason::Idle, if_unwatched: true };
        assert_eq!(bench.after(Duration::from_secs(1)), end);
    }
}

#[test]
fn a_source_that_was_taken_up_and_brought_nothing_is_avoided_by_the_next_attempt() {
    let mut bench = Bench::live();
    assert!(matches!(bench.step(broken("a")), Order::Open { .. }));
    bench.takes(Step::TakenUp(engine("b")));
    let order = bench.after(Duration::from_secs(15));
    let avoided = [engine("a"), engine("b")];
    assert!(matches!(order, Order::Open { exclude, beside: false, .. } if exclude == avoided));
}

#[test]
fn every_state_but_the_last_has_a_deadline() {
    let mut bench = Bench::opening();
    assert!(bench.deadline().is_some());
    drop(bench.starts());
    assert!(bench.deadline().is_some());
    bench.takes(Step::Viewers(0));
    assert!(bench.deadline().is_some());
    bench.takes(Step::Shutdown);
    assert!(bench.deadline().is_none());
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
        drop(bench.starts());
        assert!(matches!(bench.machine.state(), State::Live));
    }
}

#[test]
fn when_there_is_nowhere_else_the_same_engine_is_tried_again_after_a_pause() {
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    assert_eq!(bench.step(nowhere()), Order::Wait);
    assert_eq!(bench.after(Duration::from_millis(400)), Order::Wait);
    let order = bench.after(Duration::from_millis(100));
    assert!(matches!(order, Order::Open { exclude, .. } if exclude.is_empty()));
}

#[test]
fn streams_that_lost_their_engines_together_do_not_come_back_together() {
    for (spread, pause) in [(0.75, 375), (1.25, 625)] {
        let mut bench = Bench::live();
        bench.machine = bench.machine.spread_by(spread);
        bench.takes(broken("a"));
        bench.takes(nowhere());
        assert_eq!(bench.after(Duration::from_millis(pause - 1)), Order::Wait);
        assert!(matches!(bench.after(Duration::from_millis(1)), Order::Open { .. }), "{pause} ms");
    }
}

#[test]
fn a_gap_that_is_not_healed_in_time_ends_the_stream_with_what_broke_it() {
    let mut bench = Bench::live();
    bench.takes(broken("a"));
    bench.takes(nowhere());
    let mut attempts = 0;
    for _ in 0..190 {
        if matches!(bench.after(Duration::from_millis(100)), Order::Open { .. }) {
            attempts += 1;
            bench.takes(nowhere());
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
        drop(bench.starts());
        bench.plays_for(5);
    }
    assert_eq!(bench.step(broken("a")), Order::Wait);
    assert!(matches!(bench.after(Duration::from_secs(4)), Order::Open { .. }));
}

#[test]
fn nobody_is_held_who_is_not_there_and_a_recording_ends_when_it_is_over() {
    let mut bench = Bench::live();
    bench.takes(Step::Viewers(0));
    assert!(matches!(bench.step(broken("a")), Order::End { reason: EndReason::UpstreamFailed(_), .. }));
    assert_eq!(Bench::live().step(Step::Finished), ends_with(EndReason::UpstreamEnded));
}

#[test]
fn a_stream_that_plays_follows_other_deadlines_at_once() {
    let mut bench = Bench::live();
    bench.plays_for(1);
    let stall = Duration::from_secs(2);
    bench.machine.follow(Timings { stall, ..TIMINGS }, bench.now);
    assert_eq!(bench.deadline(), Some(bench.now + stall));
    assert!(matches!(bench.after(stall), Order::Open { .. }), "another source is tried");

    let mut bench = Bench::live();
    bench.plays_for(1);
    bench.takes(Step::Viewers(0));
    let since = bench.now;
    bench.plays_for(3);
    bench.machine.follow(Timings { idle: Duration::from_secs(10), ..TIMINGS }, bench.now);
    bench.plays_for(6);
    let over = since + Duration::from_secs(10);
    assert_eq!(bench.deadline(), Some(over), "counted from when the last viewer left");
    bench.machine.follow(Timings { idle: Duration::from_secs(1), ..TIMINGS }, bench.now);
    assert!(matches!(bench.step(Step::Tick), Order::End { .. }), "and over when that has passed");
}
