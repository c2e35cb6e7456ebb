//! Slots as streams ask for them, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use acemux_engine::{EnginePath, Hash, LeftOpen};

use super::*;
use crate::ident::ContainerId;

fn options(slots: usize) -> DispatchOptions {
    DispatchOptions {
        slots,
        misses_allowed: 3,
        selection: Limit::new(Duration::from_secs(5)),
        startup: Limit::new(Duration::from_secs(25)),
        timings: Timings::default(),
        journal: None,
    }
}

fn engines(count: u16, slots: usize, outlook: Outlook) -> Arc<Engines> {
    let endpoints: Vec<Endpoint> =
        (0..count).map(|n| format!("127.0.0.1:{}", 20_000 + n).parse().unwrap()).collect();
    Engines::new(&endpoints, options(slots), outlook)
}

/// A stream and those who wait for it or watch it, as a test says.
#[derive(Debug, Default)]
struct Crowd {
    groups: Mutex<Vec<Group>>,
    last: Mutex<Option<(Instant, Group)>>,
    paused: Mutex<Option<Instant>>,
    asked: AtomicUsize,
}

impl Occupant for Crowd {
    fn groups(&self) -> Vec<Group> {
        self.groups.lock().clone()
    }

    fn idle(&self) -> Option<(Instant, Group)> {
        *self.last.lock()
    }

    fn paused(&self) -> Option<Instant> {
        *self.paused.lock()
    }

    fn make_room(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        true
    }
}

impl Crowd {
    fn of(home: u8) -> Arc<Self> {
        Arc::new(Self { groups: Mutex::new(vec![group(home)]), ..Self::default() })
    }

    /// Everybody is gone.
    fn leaves(&self, engines: &Arc<Engines>) {
        let group = self.groups.lock().pop().unwrap();
        *self.last.lock() = Some((Instant::now(), group));
        engines.serve();
    }

    /// Somebody watches again.
    fn comes_back(&self, engines: &Arc<Engines>, home: u8) {
        self.groups.lock().push(group(home));
        *self.last.lock() = None;
        engines.serve();
    }

    /// Everybody is paused.
    fn pauses(&self) {
        *self.paused.lock() = Some(Instant::now());
    }

    fn goes_on(&self) {
        *self.paused.lock() = None;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn group(home: u8) -> Group {
    Group::from(IpAddr::from([192, 0, 2, home]))
}

fn request(occupant: &Arc<Crowd>, exclude: &[EngineKey], priority: Priority) -> Request {
    let occupant = Arc::clone(occupant) as Arc<dyn Occupant>;
    Request { stream: None, exclude: exclude.to_vec(), priority, asked: Instant::now(), occupant }
}

async fn slot(engines: &Arc<Engines>, exclude: &[EngineKey]) -> Result<Slot, NoSlot> {
    engines.slot(request(&Crowd::of(1), exclude, Priority::Start)).await
}

#[tokio::test(start_paused = true)]
async fn the_least_loaded_engine_is_taken_and_the_cap_is_hard() {
    let engines = engines(2, 1, Outlook::Static);
    let first = slot(&engines, &[]).await.unwrap();
    let second = slot(&engines, &[]).await.unwrap();
    assert_ne!(first.member().key, second.member().key);
    assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
    drop(first);
    assert!(slot(&engines, &[]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failed_engine_is_not_tried_again_for_the_same_start() {
    let engines = engines(2, 3, Outlook::Static);
    let failed = slot(&engines, &[]).await.unwrap().member().key.clone();
    let other = slot(&engines, std::slice::from_ref(&failed)).await.unwrap().member().key.clone();
    assert_ne!(failed, other);
    assert_eq!(slot(&engines, &[failed, other]).await.unwrap_err(), NoSlot::NoneLeft);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_gets_the_slot_that_is_returned() {
    let engines = engines(1, 1, Outlook::Growing);
    let held = slot(&engines, &[]).await.unwrap();
    let (first, second) = (slot(&engines, &[]), slot(&engines, &[]));
    tokio::pin!(first, second);
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert_eq!(engines.waiting(), 2);
    drop(held);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert!(first.await.is_ok(), "and its slot is returned at once");
    assert!(second.await.is_ok());
    assert_eq!(engines.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_watches_gives_way_before_another_engine_is_asked_for() {
    let engines = engines(1, 1, Outlook::Growing);
    let zapper = Crowd::of(1);
    let lingering = engines.slot(request(&zapper, &[], Priority::Start)).await.unwrap();
    zapper.leaves(&engines);
    let waiting = slot(&engines, &[]);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!((engines.waiting(), zapper.asked()), (0, 1), "no demand yet");
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(lingering);
    assert!(waiting.await.is_ok());
}

/// A fleet that cannot grow, full of streams: which are watched, and which paused in this order.
async fn full_house(outlook: Outlook) -> (Arc<Engines>, [Arc<Crowd>; 3], Vec<Option<Slot>>) {
    let engines = engines(1, 3, outlook);
    let crowds = [Crowd::of(1), Crowd::of(2), Crowd::of(3)];
    let mut held = Vec::new();
    for crowd in &crowds {
        let slot = engines.slot(request(crowd, &[], Priority::Start)).await.unwrap();
        slot.trial("plays").delivered();
        held.push(Some(slot));
    }
    crowds[1].pauses();
    tokio::time::sleep(Duration::from_secs(1)).await;
    crowds[2].pauses();
    (engines, crowds, held)
}

#[tokio::test(start_paused = true)]
async fn whoever_were_turned_away_has_the_slot_that_has_been_paused_longest() {
    let stuck = Outlook::Stuck { lack: Lack::Engines, why: "MAX_REPLICAS".to_owned() };
    for outlook in [Outlook::Static, stuck] {
        for priority in [Priority::Start, Priority::Recovery(1)] {
            let (engines, crowds, mut held) = full_house(outlook.clone()).await;
            let asked = || crowds.each_ref().map(|crowd| crowd.asked());
            for expected in [[0, 1, 0], [0, 1, 1]] {
                let began = Instant::now();
                let newcomer = Crowd::of(4);
                let stops = async {
                    while asked() != expected {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    assert!(began.elapsed() >= Duration::from_secs(5), "not before all else has failed");
                    let last = expected.iter().rposition(|asked| *asked == 1).unwrap();
                    // Engines take their time to answer a stop, and others ask meanwhile.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    engines.serve();
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    crowds[last].goes_on();
                    held[last] = None;
                };
                let (got, ()) = tokio::join!(engines.slot(request(&newcomer, &[], priority)), stops);
                held.push(Some(got.unwrap()));
                assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
            }
            let refused = engines.slot(request(&Crowd::of(5), &[], priority)).await;
            assert!(refused.is_err(), "who watches is left alone");
            assert_eq!(asked(), [0, 1, 1]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_just_then_is_left_alone_and_whoever_waits_is_turned_away_or_has_another() {
    let (engines, crowds, held) = full_house(Outlook::Static).await;
    let newcomer = Crowd::of(4);
    let goes_on = async {
        while crowds[1].asked() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        crowds[1].goes_on();
        engines.serve();
        while crowds[2].asked() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        crowds[2].goes_on();
        engines.serve();
    };
    let (got, ()) = tokio::join!(engines.slot(request(&newcomer, &[], Priority::Start)), goes_on);
    assert_eq!(got.unwrap_err(), NoSlot::AllBusy);
    assert!(held.iter().all(Option::is_some));
}

#[tokio::test(start_paused = true)]
async fn a_pause_gives_way_to_no_hedge_to_no_other_pause_and_not_while_an_engine_may_come() {
    let (engines, crowds, _held) = full_house(Outlook::Static).await;
    let hedge = engines.slot(request(&Crowd::of(4), &[], Priority::Hedge)).await;
    assert_eq!(hedge.unwrap_err(), NoSlot::AllBusy);
    let paused = Crowd::of(4);
    paused.pauses();
    let recovery = engines.slot(request(&paused, &[], Priority::Recovery(1))).await;
    assert_eq!(recovery.unwrap_err(), NoSlot::AllBusy);
    assert_eq!(crowds[1].asked() + crowds[2].asked(), 0);
    let (engines, crowds, _held) = full_house(Outlook::Growing).await;
    assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::NotInTime);
    assert_eq!(crowds[1].asked() + crowds[2].asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_too_long_to_give_way_is_demand_after_all() {
    let engines = engines(1, 1, Outlook::Growing);
    let zapper = Crowd::of(1);
    let _stuck = engines.slot(request(&zapper, &[], Priority::Start)).await.unwrap();
    zapper.leaves(&engines);
    let waiting = slot(&engines, &[]);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    tokio::time::sleep(GIVING_WAY).await;
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!(engines.waiting(), 1, "it did not give way in time");
}

#[tokio::test(start_paused = true)]
async fn who_waits_first_is_served_as_soon_as_a_stream_loses_its_viewers() {
    for is_own in [true, false] {
        let engines = engines(1, 1, Outlook::Static);
        let leaver = Crowd::of(if is_own { 1 } else { 2 });
        let held = engines.slot(request(&leaver, &[], Priority::Start)).await.unwrap();
        held.trial("a").delivered();
        let waiting = slot(&engines, &[]);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let left = Instant::now();
        leaver.leaves(&engines);
        let stop = async {
            while leaver.asked() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(held);
        };
        let (got, ()) = tokio::join!(waiting, stop);
        assert!(got.is_ok());
        let kept = if is_own { Duration::ZERO } else { Duration::from_secs(1) };
        let waited = left.elapsed();
        assert!(waited >= kept && waited < kept + Duration::from_millis(100), "{is_own} {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_a_zap_is_the_zappers_though_others_have_waited_longer() {
    let engines = engines(1, 1, Outlook::Static);
    let zapper = Crowd::of(1);
    let held = engines.slot(request(&zapper, &[], Priority::Start)).await.unwrap();
    held.trial("a").delivered();
    let other = Crowd::of(2);
    let waiting = engines.slot(request(&other, &[], Priority::Start));
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    zapper.leaves(&engines);
    tokio::time::sleep(Duration::from_millis(900)).await;
    let next = slot(&engines, &[]);
    tokio::pin!(next);
    assert!(futures_util::poll!(next.as_mut()).is_pending());
    assert_eq!(zapper.asked(), 1);
    // The engine takes its time to answer the stop: the promise outlives the second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(held);
    let slot = next.await.unwrap();
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    drop(slot);
    assert!(waiting.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_address_that_starts_more_than_its_share_makes_room_for_another() {
    let engines = engines(1, 3, Outlook::Static);
    let greedy: Vec<_> = (0..3).map(|_| Crowd::of(1)).collect();
    let mut held = Vec::new();
    for crowd in &greedy {
        held.push(engines.slot(request(crowd, &[], Priority::Start)).await.unwrap());
    }
    let newcomer = engines.slot(request(&Crowd::of(2), &[], Priority::Start));
    tokio::pin!(newcomer);
    assert!(futures_util::poll!(newcomer.as_mut()).is_pending());
    assert_eq!(greedy.iter().map(|crowd| crowd.asked()).sum::<usize>(), 0, "each has its fair try");
    let made_room = async {
        while greedy[0].asked() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(held.remove(0));
    };
    let (got, ()) = tokio::join!(newcomer, made_room);
    assert!(got.is_ok());
    assert_eq!(greedy.iter().map(|crowd| crowd.asked()).sum::<usize>(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_make_room_keeps_nobody_from_what_else_becomes_free() {
    let engines = engines(1, 3, Outlook::Static);
    let crowds = [Crowd::of(1), Crowd::of(1), Crowd::of(3)];
    let mut held = Vec::new();
    for crowd in &crowds {
        held.push(engines.slot(request(crowd, &[], Priority::Start)).await.unwrap());
    }
    held[2].trial("c").delivered();
    let newcomer = engines.slot(request(&Crowd::of(2), &[], Priority::Start));
    tokio::pin!(newcomer);
    assert!(futures_util::poll!(newcomer.as_mut()).is_pending());
    let leaves = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(crowds[0].asked(), 1, "it is asked, and does not");
        crowds[2].leaves(&engines);
        while crowds[2].asked() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(held.pop());
    };
    let began = Instant::now();
    let (got, ()) = tokio::join!(newcomer, leaves);
    assert!(got.is_ok() && began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_recovery_is_no_start_that_must_make_room() {
    let engines = engines(1, 2, Outlook::Static);
    let crowds = [Crowd::of(1), Crowd::of(1)];
    let mut held = Vec::new();
    for crowd in &crowds {
        held.push(engines.slot(request(crowd, &[], Priority::Recovery(1))).await.unwrap());
    }
    let newcomer = engines.slot(request(&Crowd::of(2), &[], Priority::Start)).await;
    assert_eq!(newcomer.unwrap_err(), NoSlot::AllBusy);
    assert_eq!(crowds[0].asked() + crowds[1].asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn channels_that_no_engine_answers_eject_nobody_however_long_they_are_waited_for() {
    let engines = engines(1, 9, Outlook::Static);
    let only = engines.all()[0].clone();
    for stream in ["a", "b", "c", "d"] {
        engines.slot_on(&only).unwrap().trial(stream).unanswered();
    }
    assert!(!only.is_ejected());
}

#[tokio::test(start_paused = true)]
async fn an_ejected_engine_is_used_again_when_its_time_is_over_though_nothing_else_happens() {
    let engines = engines(2, 1, Outlook::Static);
    let all = engines.all();
    let held = engines.slot_on(&all[0]).unwrap();
    (0..3).for_each(|_| all[1].failed("a", crate::trouble::Fault::Failed, true));
    let began = Instant::now();
    let slot = slot(&engines, &[]).await.unwrap();
    assert_eq!((slot.member().key.clone(), began.elapsed()), (all[1].key.clone(), Duration::from_secs(1)));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn two_addresses_are_served_in_turns_and_each_in_its_order() {
    let engines = engines(1, 1, Outlook::Growing);
    let held = slot(&engines, &[]).await.unwrap();
    let order = Mutex::new(Vec::new());
    let wait = async |name, home| {
        let slot = engines.slot(request(&Crowd::of(home), &[], Priority::Start)).await.unwrap();
        order.lock().push(name);
        drop(slot);
    };
    let greedy = async { tokio::join!(wait("a1", 1), wait("a2", 1), wait("a3", 1)) };
    let modest = async { tokio::join!(wait("b1", 2), wait("b2", 2)) };
    tokio::join!(greedy, modest, async { drop(held) });
    assert_eq!(order.into_inner(), ["b1", "a1", "b2", "a2", "a3"], "the first turn was the first address's");
}

/// Six slots come, but one stream is watched again just when its slot was promised to somebody.
#[tokio::test(start_paused = true)]
async fn who_loses_what_was_promised_to_him_keeps_his_turn() {
    for lost in 0..6 {
        let engines = engines(1, 7, Outlook::Growing);
        let watched: Vec<_> = (10..17).map(Crowd::of).collect();
        let mut held = Vec::new();
        for crowd in &watched {
            let slot = engines.slot(request(crowd, &[], Priority::Start)).await.unwrap();
            slot.trial("plays").delivered();
            held.push(slot);
        }
        let served = Arc::new(Mutex::new([0, 0]));
        let mut waiting = tokio::task::JoinSet::new();
        for home in [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1] {
            let (engines, served) = (Arc::clone(&engines), Arc::clone(&served));
            waiting.spawn(async move {
                let slot = engines.slot(request(&Crowd::of(home), &[], Priority::Start)).await;
                served.lock()[usize::from(home)] += 1;
                std::future::pending::<()>().await;
                drop(slot);
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        for crowd in &watched[..6] {
            crowd.leaves(&engines);
        }
        tokio::time::sleep(desk::RESERVED + Duration::from_millis(1)).await;
        // Now all six are promised; one viewer comes back, and the seventh leaves instead.
        watched[lost].comes_back(&engines, 50);
        watched[6].leaves(&engines);
        tokio::time::sleep(desk::RESERVED + Duration::from_millis(1)).await;
        let _kept = held.remove(lost);
        for slot in held {
            drop(slot);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*served.lock(), [3, 3], "the {lost}th is watched again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_costs_the_address_that_waits_for_most_its_newest() {
    let engines = engines(1, 1, Outlook::Growing);
    let _held = slot(&engines, &[]).await.unwrap();
    let mut flood: Vec<_> = (0..desk::MOST_WAITING).map(|_| Box::pin(slot(&engines, &[]))).collect();
    for waiting in &mut flood {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    let modest = engines.slot(request(&Crowd::of(2), &[], Priority::Start));
    tokio::pin!(modest);
    assert!(futures_util::poll!(modest.as_mut()).is_pending());
    let newest = flood.pop().unwrap().await;
    assert_eq!(newest.unwrap_err(), NoSlot::QueueFull);
    let one_more = slot(&engines, &[]).await;
    assert_eq!(one_more.unwrap_err(), NoSlot::QueueFull, "the newest is its own");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_refused_while_a_stream_is_unwatched() {
    let engines = engines(1, 1, Outlook::Static);
    let zapper = Crowd::of(2);
    let held = engines.slot(request(&zapper, &[], Priority::Start)).await.unwrap();
    held.trial("a").delivered();
    let waiting = slot(&engines, &[]);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    // At the very moment at which it would be refused the slot is kept for somebody else.
    tokio::time::sleep(Duration::from_millis(4900)).await;
    zapper.leaves(&engines);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(zapper.asked(), 1);
        drop(held);
    };
    let (got, ()) = tokio::join!(waiting, stop);
    assert!(got.is_ok());
}

#[tokio::test(start_paused = true)]
async fn engines_on_which_starts_hang_are_not_preferred_for_being_idle() {
    let engines = engines(2, 3, Outlook::Static);
    let bad = engines.all()[0].clone();
    let first = engines.slot_on(&bad).unwrap();
    let trial = first.trial("a");
    tokio::time::sleep(Duration::from_secs(6)).await;
    drop((trial, first));
    assert_eq!(bad.trust(), crate::trouble::Trust::Noted);
    let others = [slot(&engines, &[]).await.unwrap(), slot(&engines, &[]).await.unwrap()];
    assert!(others.iter().all(|slot| slot.member().key != bad.key));
    // What it delivers clears the note.
    let again = engines.slot_on(&bad).unwrap();
    again.trial("b").delivered();
    assert_eq!(bad.trust(), crate::trouble::Trust::Full);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_the_engines_fault_when_the_channel_plays_elsewhere() {
    let engines = engines(2, 3, Outlook::Static);
    let [bad, good] = [0, 1].map(|n| engines.all()[n].clone());
    let elsewhere = engines.slot_on(&good).unwrap();
    let playing = elsewhere.trial("a");
    playing.delivered();
    for _ in 0..3 {
        let slot = engines.slot_on(&bad).unwrap();
        let trial = slot.trial("a");
        tokio::time::sleep(Duration::from_secs(6)).await;
        drop((trial, slot));
    }
    assert!(bad.is_ejected());
    // Different channels that hang and play nowhere blame nobody.
    for stream in ["x", "y", "z", "u", "v"] {
        let slot = engines.slot_on(&good).unwrap();
        let trial = slot.trial(stream);
        tokio::time::sleep(Duration::from_secs(6)).await;
        drop((trial, slot));
    }
    assert!(!good.is_ejected());
    drop(playing);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_silent_because_this_program_stood_still_is_nobodys_fault() {
    let engines = engines(2, 5, Outlook::Static);
    let [well, good] = [0, 1].map(|n| engines.all()[n].clone());
    let elsewhere = engines.slot_on(&good).unwrap();
    let playing = elsewhere.trial("a");
    playing.delivered();
    for _ in 0..3 {
        let slot = engines.slot_on(&well).unwrap();
        let trial = slot.trial("a");
        tokio::time::sleep(Duration::from_secs(33)).await;
        engines.excuse(Duration::from_secs(30));
        drop((trial, slot));
    }
    assert_eq!(well.trust(), crate::trouble::Trust::Full);
    drop(playing);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_leaves_the_queue_and_loses_no_slot() {
    let engines = engines(1, 1, Outlook::Growing);
    let held = slot(&engines, &[]).await.unwrap();
    {
        let gone = slot(&engines, &[]);
        tokio::pin!(gone);
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        drop(held);
        // It has been granted the slot and never looks.
    }
    assert_eq!((engines.waiting(), engines.all()[0].used()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_wait_is_as_long_as_the_outlook_says_and_the_answer_says_why() {
    let began = Instant::now();
    let engines = engines(0, 1, Outlook::Growing);
    assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::NotInTime);
    assert_eq!(began.elapsed().as_secs(), 25);
    engines.set_outlook(Outlook::Stuck { lack: Lack::Ports, why: "no port is free".into() });
    let error = slot(&engines, &[]).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(error.to_string().contains("no port is free"));
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_or_frozen_engine_takes_nothing_new() {
    let engines = engines(2, 1, Outlook::Static);
    engines.all()[0].cordon(true);
    engines.all()[1].observed("one", true);
    assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
    engines.all()[0].cordon(false);
    assert!(slot(&engines, &[]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn streams_leave_a_bad_engine_while_there_is_a_better_one() {
    let engines = engines(2, 3, Outlook::Static);
    let all = engines.all();
    let fails =
        |member: &Arc<Member>| (0..3).for_each(|_| member.failed("a", crate::trouble::Fault::Failed, true));
    assert_eq!(engines.why_leave(&all[0]), None);
    fails(&all[0]);
    assert!(engines.why_leave(&all[0]).is_some());
    all[1].cordon(true);
    assert_eq!(engines.why_leave(&all[0]), None, "the other one takes nobody");
    assert!(engines.why_leave(&all[1]).is_some(), "whatever the others are like");
    all[1].cordon(false);
    fails(&all[1]);
    assert_eq!([0, 1].map(|at| engines.why_leave(&all[at])), [None; 2]);
}

#[tokio::test(start_paused = true)]
async fn an_ejected_engine_is_used_only_when_there_is_no_other() {
    let engines = engines(2, 3, Outlook::Static);
    let all = engines.all();
    (0..3).for_each(|_| all[0].failed("a", crate::trouble::Fault::Failed, true));
    let held: Vec<_> = [slot(&engines, &[]).await, slot(&engines, &[]).await, slot(&engines, &[]).await]
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(held.iter().all(|slot| slot.member().key == all[1].key));
    assert!(slot(&engines, std::slice::from_ref(&all[1].key)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_engine_with_a_stream_is_not_retired() {
    let engines = engines(1, 2, Outlook::Static);
    let held = slot(&engines, &[]).await.unwrap();
    assert!(!engines.all()[0].retire());
    drop(held);
    assert!(engines.all()[0].retire());
    assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
}

#[tokio::test]
async fn without_engines_the_answer_names_the_setting() {
    let error = slot(&engines(0, 1, Outlook::Static), &[]).await.unwrap_err();
    assert!(error.to_string().contains("ENGINES"));
}

#[tokio::test(start_paused = true)]
async fn streams_that_have_stopped_go_before_those_that_begin_and_many_viewers_before_few() {
    let engines = engines(1, 1, Outlook::Growing);
    let held = slot(&engines, &[]).await.unwrap();
    let order = Mutex::new(Vec::new());
    let wait = async |priority| {
        let slot = engines.slot(request(&Crowd::of(1), &[], priority)).await.unwrap();
        order.lock().push(priority);
        drop(slot);
    };
    let [few, many] = [3, 50].map(Priority::Recovery);
    let waiting = async { tokio::join!(wait(Priority::Start), wait(few), wait(many)) };
    tokio::join!(waiting, async { drop(held) });
    assert_eq!(order.into_inner(), [many, few, Priority::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_second_source_takes_a_free_or_unwatched_slot_but_nothing_that_somebody_waits_for() {
    let engines = engines(2, 1, Outlook::Static);
    let spare =
        async |exclude: &[EngineKey]| engines.slot(request(&Crowd::of(1), exclude, Priority::Hedge)).await;
    let first = slot(&engines, &[]).await.unwrap();
    let key = first.member().key.clone();
    let second = spare(std::slice::from_ref(&key)).await.unwrap();
    assert_ne!(key, second.member().key);
    assert_eq!(spare(&[]).await.unwrap_err(), NoSlot::AllBusy);
    drop(second);
    let lingering = Crowd::of(2);
    let third = engines.slot(request(&lingering, &[], Priority::Start)).await.unwrap();
    lingering.leaves(&engines);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let hedge = spare(std::slice::from_ref(&key));
    let (hedge, ()) = tokio::join!(hedge, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(lingering.asked(), 1);
        drop(third);
    });
    assert!(hedge.is_ok());
    let waiting = slot(&engines, &[]);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    assert_eq!(spare(&[]).await.unwrap_err(), NoSlot::AllBusy, "somebody waits");
}

#[tokio::test(start_paused = true)]
async fn a_shortage_of_ours_is_said_once_until_it_is_over() {
    let engines = engines(1, 1, Outlook::Static);
    let mut said = Vec::new();
    for pause in [0, 5, 5, 59, 61, 5] {
        tokio::time::advance(Duration::from_secs(pause)).await;
        said.push(engines.is_another_shortage());
    }
    assert_eq!(said, [true, false, false, false, true, false]);
}

/// An earlier run has left one session open on every engine.
#[derive(Debug)]
struct LeftOne;

impl Journal for LeftOne {
    fn opened(&self, _: &Endpoint, _: Hash, _: &EnginePath) -> u64 {
        0
    }

    fn closed(&self, _: u64) {}

    fn left_open(&self, _: &Endpoint) -> Vec<LeftOpen> {
        let channel: Infohash = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let command = EnginePath::parse("/ace/cmd/a/b").unwrap();
        vec![LeftOpen { entry: 1, channel: channel.hash(), command }]
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_on_an_engine_outlives_it() {
    let options = DispatchOptions { journal: Some(Arc::new(LeftOne)), ..options(1) };
    let engines = Engines::new(&[], options, Outlook::Growing);
    let mut keys = Vec::new();
    for port in 1..=2 {
        let id: ContainerId = format!("{port:064x}").parse().unwrap();
        let container = contained(id.clone(), TunnelName::Direct, None);
        // Nothing listens there, so that every stop fails.
        engines.add(format!("127.0.0.1:{port}").parse().unwrap(), container, "one".into());
        keys.push(EngineKey::from(&id));
        engines.remove(&keys[0]);
    }
    assert_eq!(engines.sessions().opened, 2, "one of them on an engine that is gone");
    while engines.sessions().stop_failed < 2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    engines.remove(&keys[1]);
    let SessionCounts { opened, closed, stop_failed } = engines.sessions();
    assert_eq!((opened, closed, stop_failed), (2, 0, 2));
}

fn contained(id: ContainerId, tunnel: TunnelName, forwarded: Option<u16>) -> Contained {
    Contained {
        id,
        place: 1,
        labels: BTreeMap::new(),
        tunnel,
        forwarded,
        image: "image".into(),
        is_new: true,
        runaway: None,
    }
}

#[tokio::test(start_paused = true)]
async fn room_comes_before_a_forwarded_port_and_a_blamed_exit_comes_last() {
    let engines = Engines::new(&[], options(2), Outlook::Growing);
    let vpn = |name: &str| TunnelName::Vpn(name.parse().unwrap());
    for (port, tunnel, forwarded) in [(1_u16, "one", None), (2, "one", Some(50_000)), (3, "two", None)] {
        let id: ContainerId = format!("{port:064x}").parse().unwrap();
        let inside = contained(id, vpn(tunnel), forwarded);
        engines.add(format!("127.0.0.1:{port}").parse().unwrap(), inside, "one".into()).probed(true);
    }
    let mut slots = Vec::new();
    for expected in [2, 1, 3, 2] {
        let slot = slot(&engines, &[]).await.unwrap();
        assert_eq!(slot.member().engine.endpoint().port(), expected);
        slots.push(slot);
    }
    // One channel blames nobody's exit; the second does.
    let (one, two) = (&slots[1], &slots[2]);
    for channel in ["first", "second"] {
        assert!(engines.verdict(&vpn("one")).is_none(), "one channel alone shows nothing");
        one.trial(channel).failed(false);
        two.trial(channel).delivered();
    }
    assert!(engines.verdict(&vpn("one")).is_some() && engines.verdict(&vpn("two")).is_none());
    drop(slots);
    let mut slots = Vec::new();
    for expected in [3, 3, 2] {
        let slot = slot(&engines, &[]).await.unwrap();
        assert_eq!(slot.member().engine.endpoint().port(), expected, "an avoided one is better than none");
        slots.push(slot);
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_vpn_of_which_nothing_is_known_slots_are_given_out_last() {
    let engines = Engines::new(&[], options(1), Outlook::Growing);
    let vpn = |name: &str| TunnelName::Vpn(name.parse().unwrap());
    // The one with the forwarded port would be the first.
    for (port, tunnel, forwarded) in [(1_u16, "one", Some(50_000)), (2, "two", None), (3, "two", None)] {
        let inside = contained(format!("{port:064x}").parse().unwrap(), vpn(tunnel), forwarded);
        engines.add(format!("127.0.0.1:{port}").parse().unwrap(), inside, "one".into()).probed(true);
    }
    engines.set_unsure([vpn("one")].into());
    let mut slots = Vec::new();
    for expected in [2, 3, 1] {
        let slot = slot(&engines, &[]).await.unwrap();
        assert_eq!(
            slot.member().engine.endpoint().port(),
            expected,
            "behind one that is unsure last, but not never"
        );
        slots.push(slot);
    }
    assert!(engines.verdict(&vpn("one")).is_none(), "nobody is blamed");
    drop(slots);
    engines.set_unsure(BTreeSet::new());
    assert_eq!(slot(&engines, &[]).await.unwrap().member().engine.endpoint().port(), 1);
}
