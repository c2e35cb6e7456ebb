//! A channel change costs what the engine takes, however full the fleet is and however many of the channels zapped past
//! are dead. All of it at the settings that users have.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{Fault, SimEngine, Target};
use acemux_testkit::app::Setup;
use acemux_testkit::direct::own_time;
use acemux_testkit::nemesis::Nemesis;
use acemux_testkit::{Process, StrictViewer};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::visits::{MACHINE, Stayers, Visit, engine, visit, zap_past};
use crate::{home, id};

/// What we may add to an engine's own time.
const OURS: Duration = Duration::from_millis(100);
/// For how long the slot that a viewer leaves is kept for that viewer.
const KEPT: Duration = Duration::from_secs(1);

#[track_caller]
fn assert_all_play(visits: &[Visit], own: Duration) {
    println!("the engine takes {own:?}: {visits:?}");
    assert!(visits.iter().all(|visit| visit.status == 200), "{visits:?}");
    let mut times: Vec<Duration> = visits.iter().map(|visit| visit.first_byte).collect();
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(median <= own + own / 4 + OURS, "{median:?} where the engine takes {own:?}");
    assert!(worst <= own + OURS + MACHINE, "{worst:?} where the engine takes {own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_zaps_on_a_full_engine_always_has_the_slot_that_he_leaves() {
    let app = Setup::as_shipped([engine()]).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    let mut stayers = Stayers::on(app.address(), 2).await;
    let zapping = async {
        let mut visits = Vec::new();
        for n in 0..8 {
            visits.push(visit(home(7), app.address(), &id(8_100 + n), Duration::from_millis(300)).await);
        }
        visits
    };
    assert_all_play(&stayers.beside(zapping).await, own);
    assert_eq!((app.ledger.counts().peak, app.forgotten()), (3, 0), "never more than it has slots");
}

/// Most players open the next channel before they close the last one, or in no order.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_or_after_he_leaves_has_his_own_slot() {
    let changes = join_all(OFFSETS.map(|offset| change(home(7), home(7), offset))).await;
    println!("{changes:?}");
    for (offset, (own, visit)) in OFFSETS.into_iter().zip(changes) {
        assert_eq!(visit.status, 200, "{offset} ms after");
        assert!(visit.first_byte <= own + OURS + MACHINE, "{offset} ms after: {visit:?}, the engine {own:?}");
    }
}

/// The slot is kept for who has left it, and no longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_when_somebody_else_leaves_is_never_refused() {
    let changes = join_all(OFFSETS.map(|offset| change(home(7), home(8), offset))).await;
    println!("{changes:?}");
    for (offset, (own, visit)) in OFFSETS.into_iter().zip(changes) {
        assert_eq!(visit.status, 200, "{offset} ms after");
        let limit = own + KEPT + OURS + MACHINE;
        assert!(visit.first_byte <= limit, "{offset} ms after: {visit:?}, the engine {own:?}");
    }
}

/// When the next channel is asked for, relative to leaving the last one, milliseconds.
const OFFSETS: [i64; 5] = [-500, -100, -20, 0, 20];

/// On a full engine one leaves and one asks, so long after. The engine's own time, and the answer; its time counts from
/// when there was something to be had.
async fn change(leaver: Ipv4Addr, asker: Ipv4Addr, offset: i64) -> (Duration, Visit) {
    let app = Setup::as_shipped([engine()]).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    let mut stayers = Stayers::on(app.address(), 2).await;
    let changing = async {
        let mut leaving = StrictViewer::open_from(leaver, app.address(), &id(8_200)).await;
        leaving.watch(Duration::from_millis(300)).await;
        let span = Duration::from_millis(offset.unsigned_abs());
        let (before_leaving, before_asking) =
            if offset < 0 { (span, Duration::ZERO) } else { (Duration::ZERO, span) };
        let leave = async {
            leaving.watch(before_leaving).await;
            leaving.assert_perfect();
            drop(leaving);
        };
        let asking = async {
            sleep(before_asking).await;
            visit(asker, app.address(), &id(8_201), Duration::from_millis(300)).await
        };
        let ((), answer) = tokio::join!(leave, asking);
        Visit { first_byte: answer.first_byte.saturating_sub(before_leaving), ..answer }
    };
    (own, stayers.beside(changing).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_zaps_there_and_back_has_both_channels() {
    let app = Setup::as_shipped([engine()]).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    let mut stayers = Stayers::on(app.address(), 2).await;
    let began = Instant::now();
    let zapping = async {
        let mut visits = Vec::new();
        for n in [0, 1, 0] {
            visits.push(visit(home(7), app.address(), &id(8_300 + n), Duration::from_millis(200)).await);
        }
        visits
    };
    assert_all_play(&stayers.beside(zapping).await, own);
    assert!(began.elapsed() < Duration::from_secs(2) + MACHINE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_zaps_goes_before_who_waits_and_who_waits_gets_what_is_left_at_last() {
    let app = Setup::as_shipped([engine()]).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    let mut stayers = Stayers::on(app.address(), 2).await;
    let work = async {
        let mut zapper = StrictViewer::open_from(home(7), app.address(), &id(8_400)).await;
        let waiting = async {
            let stay = Duration::from_millis(100);
            visit(home(8), app.address(), &id(8_401), stay).await
        };
        let zapping = async {
            zapper.watch(Duration::from_millis(300)).await;
            drop(zapper);
            sleep(Duration::from_millis(200)).await;
            visit(home(7), app.address(), &id(8_402), Duration::from_secs(1)).await
        };
        tokio::join!(waiting, zapping)
    };
    let (waited, zapped) = stayers.beside(work).await;
    println!("the engine takes {own:?}: {zapped:?}, {waited:?}");
    assert!(zapped.status == 200 && zapped.first_byte <= own + OURS + MACHINE, "{zapped:?}");
    assert_eq!(waited.status, 200, "{waited:?}");
}

/// Starts that are never answered, of viewers who have left, are in nobody's way. Look-ups are answered, or not either.
#[tokio::test(flavor = "multi_thread")]
async fn starts_that_everybody_has_left_keep_nobody_waiting() {
    let cases = [(4, "3", false), (6, "3", true), (8, "20", false), (8, "20", true)];
    let played = cases.map(|(count, slots, is_unknown)| after_silence(count, slots, is_unknown));
    let played = join_all(played).await;
    println!("{played:?}");
    for (case, (own, visit)) in cases.into_iter().zip(played) {
        assert_eq!(visit.status, 200, "{case:?}");
        assert!(visit.first_byte <= own + Duration::from_secs(1) + MACHINE, "{case:?}: {visit:?}");
    }
}

/// So many channels that the only engine never answers are left after two seconds. Then one that plays.
async fn after_silence(count: usize, slots: &'static str, is_unknown: bool) -> (Duration, Visit) {
    let app = Setup::as_shipped([engine()]).set("MAX_STREAMS_PER_ENGINE", slots).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    for n in 0..count {
        let page = |page| Fault::Reply { page, shape: Shape::Hang };
        app.engine().set_fault(Target::content(&id(8_500 + n)), page(Page::Start));
        if is_unknown {
            app.engine().set_fault(Target::content(&id(8_500 + n)), page(Page::MediaFiles));
        }
    }
    // A start is made when the look-up has had no answer for five seconds.
    let patience = Duration::from_secs(if is_unknown { 7 } else { 2 });
    let zapping = (0..count).map(|n| {
        let address = app.address();
        async move { zap_past(home(n), address, &id(8_500 + n), patience).await }
    });
    join_all(zapping).await;
    (own, visit(home(9), app.address(), &id(8_600), Duration::from_millis(300)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_dead_channels_that_were_zapped_past_do_not_fill_the_engine() {
    let app = Setup::as_shipped([engine()]).start().await;
    let own = own_time(app.engine().addr(), &id(8_000)).await;
    for n in 0..3 {
        app.engine().set_fault(Target::content(&id(8_700 + n)), Fault::LateRefusal { ms: 28_000 });
        zap_past(home(7), app.address(), &id(8_700 + n), Duration::from_millis(1_500)).await;
    }
    let good = visit(home(7), app.address(), &id(8_710), Duration::from_millis(300)).await;
    println!("{good:?}, the engine takes {own:?}");
    assert_eq!(good.status, 200);
    assert!(good.first_byte <= own + Duration::from_secs(1) + MACHINE, "{good:?}");
}

/// As a user would: the program itself, and an evening's worth of zapping.
#[tokio::test(flavor = "multi_thread")]
async fn of_forty_channels_half_of_which_are_dead_every_good_one_plays_at_once() {
    const ZAPS: usize = 40;
    let mut engines = Vec::new();
    for _ in 0..2 {
        engines.push(SimEngine::start(engine()).await.expect("a port is free"));
    }
    let addresses: Vec<SocketAddr> = engines.iter().map(SimEngine::addr).collect();
    let program = Process::start(&addresses, &[]).await;
    let own = own_time(addresses[0], &id(8_000)).await;
    let mut dice = Nemesis::seeded(40);
    let (mut good, mut dead, began) = (Vec::new(), 0, Instant::now());
    for n in 0..ZAPS {
        let channel = id(8_800 + n);
        if dice.one_of(2) == 0 {
            let late = Fault::LateRefusal { ms: 28_000 };
            for engine in &engines {
                engine.set_fault(Target::content(&channel), late.clone());
            }
            zap_past(home(7), program.address, &channel, dice.time(300..1_200)).await;
            dead += 1;
        } else {
            good.push(visit(home(7), program.address, &channel, dice.time(100..600)).await);
        }
        // What used to go wrong went wrong each time.
        assert!(began.elapsed() < Duration::from_secs(80), "{dead} dead ones, and {good:?}");
    }
    println!("{dead} dead ones; the engine takes {own:?}: {good:?}");
    assert!(dead > ZAPS / 3 && good.len() > ZAPS / 3, "{dead} of {ZAPS}");
    assert!(good.iter().all(|visit| visit.status == 200), "{good:?}");
    let limit = own + Duration::from_secs(1);
    assert!(good.iter().all(|visit| visit.first_byte <= limit), "{own:?}: {good:?}");
}
