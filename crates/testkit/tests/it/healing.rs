//! What breaks under a stream is healed behind the open connections. The rows E1, E2, E5–E7 and E28 of the fault
//! catalogue are here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acemux_sim::{ChannelKind, Fault, SimEngine, SimOptions, Target, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::{BodyEnd, get_from};
use acemux_testkit::rawengine::{Act, MEDIA_HEAD, RawEngine, verify_media};
use acemux_testkit::{StrictViewer, Witness, get, send};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use crate::{ID, home, id, stream};

/// Streams of the verifiable channel on which a jump is announced.
const PIDS: u64 = 4;

fn engine() -> SimOptions {
    SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }
}

async fn viewers(app: &TestApp, count: usize) -> Vec<StrictViewer> {
    let mut viewers = Vec::new();
    for _ in 0..count {
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_millis(200)).await;
        viewers.push(viewer);
    }
    viewers
}

/// All of them watch at the same time, and none is cut.
async fn watch(viewers: &mut [StrictViewer], time: Duration) {
    let ends = join_all(viewers.iter_mut().map(|viewer| viewer.watch(time))).await;
    assert!(ends.iter().all(Option::is_none), "their sockets stay open: {ends:?}");
}

/// Still open, and nothing but announced jumps in it.
fn assert_healed(viewer: &StrictViewer, jumps: u64) {
    let report = viewer.report();
    assert_eq!((report.gaps_unflagged, report.continuity_errors, report.unaligned), (0, 0, 0), "{report:#?}");
    assert_eq!((report.foreign, report.corrupt), (0, 0), "{report:#?}");
    assert!((1..=jumps * PIDS).contains(&report.discontinuities), "{report:#?}");
}

/// Perfect, and never without the channel for as long as this, up to now.
#[track_caller]
fn assert_whole(viewer: &StrictViewer, gap: Duration) {
    viewer.assert_perfect();
    assert!(viewer.longest_gap() < gap, "{:?}", viewer.longest_gap());
}

fn playing(app: &TestApp) -> &SimEngine {
    app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays")
}

fn port(app: &TestApp) -> Option<u16> {
    let session = app.app.relay.sessions().into_iter().next().expect("it plays");
    session.source.map(|source| source.port)
}

/// E1.
#[tokio::test(flavor = "multi_thread")]
async fn when_an_engine_dies_another_one_of_the_swarm_goes_on_without_a_lost_or_repeated_packet() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewers = viewers(&app, 3).await;
    let dead = playing(&app);
    dead.crash().await;
    watch(&mut viewers, Duration::from_secs(3)).await;
    for viewer in &viewers {
        assert!(viewer.longest_gap() < Duration::from_secs(2), "{:?}", viewer.longest_gap());
        viewer.assert_perfect();
        assert_eq!(viewer.report().discontinuities, 0, "nobody can tell");
    }
    assert_ne!(port(&app), Some(dead.addr().port()));
    drop(viewers);
    until("no viewers", || app.app.relay.viewers() == 0).await;
}

/// E1, with an engine whose packets are none of those that were sent: the price is one announced jump.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_with_another_mux_goes_on_after_one_announced_jump() {
    let faster = verify_media(&infohash_of(ID), 4_000_000);
    let other = RawEngine::start(move |target| {
        target.starts_with("/ace/r/").then(|| Act::Media(MEDIA_HEAD.into(), faster.clone()))
    })
    .await;
    let app = Setup::with_engines([engine()]).engine_at(other.address()).start().await;
    let mut viewers = viewers(&app, 3).await;
    playing(&app).crash().await;
    watch(&mut viewers, Duration::from_secs(4)).await;
    for viewer in &viewers {
        assert_healed(viewer, 1);
        assert_eq!(
            (viewer.report().gaps_flagged, viewer.report().repeated),
            (1, 0),
            "{:#?}",
            viewer.report()
        );
        assert!(viewer.longest_gap() < Duration::from_secs(2), "{:?}", viewer.longest_gap());
    }
    assert_eq!(other.readers(), 1);
}

/// E1, with engines at different positions of the broadcast.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_ahead_or_behind_continues_exactly() {
    for (first, second) in [(0, 2500), (2500, 0)] {
        let lagging = |lag| SimOptions { swarm_lag: Duration::from_millis(lag), ..engine() };
        let app = Setup::with_engines([lagging(first), lagging(second)]).start().await;
        // The first one is asked first.
        let mut viewers = viewers(&app, 2).await;
        assert_eq!(port(&app), Some(app.engines[0].addr().port()));
        app.engines[0].crash().await;
        watch(&mut viewers, Duration::from_secs(6)).await;
        for viewer in &viewers {
            viewer.assert_perfect();
            assert_eq!(viewer.report().discontinuities, 0, "lags {first} and {second}");
            assert!(viewer.longest_gap() < Duration::from_millis(3500), "{:?}", viewer.longest_gap());
        }
    }
}

/// E2: a broadcast that ends has broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_ends_early_is_opened_again_on_the_only_engine() {
    let app = Setup::with_engines([engine()]).set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    for fault in [Fault::Eof { after_bytes: 0 }, Fault::Reset { after_bytes: 0 }] {
        let mut viewers = viewers(&app, 2).await;
        let closed = app.ledger.counts().closed;
        app.engine().set_fault(Target::All, fault);
        until("the playback has ended", || app.ledger.counts().closed > closed).await;
        app.engine().clear_faults();
        watch(&mut viewers, Duration::from_secs(3)).await;
        for viewer in &viewers {
            assert_whole(viewer, Duration::from_secs(2));
        }
        drop(viewers);
        app.at_baseline().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_engine_may_be_gone_for_ten_seconds() {
    let (app, witness) = (Setup::new().start().await, Witness::start().await);
    let mut viewers = viewers(&app, 1).await;
    app.engine().crash().await;
    watch(&mut viewers, Duration::from_secs(10)).await;
    assert!(viewers[0].report().nulls >= 7 * 5, "its socket is kept busy: {:#?}", viewers[0].report());
    // The null packets begin after three seconds.
    witness.assert_silent_for_at_most(Duration::from_secs(3), &viewers).await;
    app.engine().restart().await;
    // Its longest pause between two attempts is 5 s; as long again for a start on a machine that has other work.
    within(Duration::from_secs(10), "media", media_again(&mut viewers[0])).await;
    // The first attempt after its return is the one that plays.
    assert_eq!((app.ledger.counts().starts, app.ledger.counts().opened), (2, 2));
    watch(&mut viewers, Duration::from_secs(1)).await;
    // What was broadcast meanwhile is longer than the engine's burst: that is a jump.
    assert_healed(&viewers[0], 1);
}

/// Watches until there is a packet of the channel again.
async fn media_again(viewer: &mut StrictViewer) {
    let before = viewer.report().media;
    while viewer.report().media == before {
        let end = viewer.watch(Duration::from_millis(100)).await;
        assert_eq!(end, None, "its socket stays open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_helped_within_the_hold_is_cut_so_that_the_player_tries_again() {
    let app = Setup::new().set("HOLD_TIMEOUT", "3s").start().await;
    let mut viewers = viewers(&app, 1).await;
    app.engine().crash().await;
    let end = viewers[0].watch(Duration::from_secs(8)).await;
    assert!(matches!(end, Some(BodyEnd::Reset | BodyEnd::Cut)), "a clean end would make it stop: {end:?}");
    assert!(viewers[0].longest_gap() > Duration::from_millis(2500), "{:?}", viewers[0].longest_gap());
    app.at_baseline().await;
}

/// E5.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_engine_is_replaced_after_the_stall_and_nothing_is_lost() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewers = viewers(&app, 2).await;
    let silent = playing(&app);
    silent.set_fault(Target::All, Fault::BurstThenStall { after_bytes: 0 });
    watch(&mut viewers, Duration::from_secs(9)).await;
    for viewer in &viewers {
        assert!(viewer.longest_gap() < Duration::from_secs(7), "{:?}", viewer.longest_gap());
        viewer.assert_perfect();
    }
    assert_ne!(port(&app), Some(silent.addr().port()));
    assert!(app.ledger.counts().opened <= 2, "{:?}", app.ledger.counts());
    until("the silent playback is stopped", || app.ledger.open_sessions() == 1).await;
}

/// E5, without another engine.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_engine_is_started_again_when_it_stays_silent() {
    let app = Setup::with_engines([engine()]).set("STALL_TIMEOUT", "1s").start().await;
    let mut viewers = viewers(&app, 1).await;
    app.engine().set_fault(Target::All, Fault::BurstThenStall { after_bytes: 0 });
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(app.ledger.counts().opened, 1, "it is hoped for first");
    until("it is started again", || app.ledger.counts().opened > 1).await;
    app.engine().clear_faults();
    watch(&mut viewers, Duration::from_secs(4)).await;
    assert_whole(&viewers[0], Duration::from_secs(7));
    assert_eq!(app.ledger.open_sessions(), 1, "never two of one channel on one engine");
}

/// E6: starvation of the swarm is no reason to change the engine.
#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_that_starves_for_less_than_the_stall_again_and_again_changes_nothing() {
    let app = Setup::with_engines([engine(), engine()]).set("STALL_TIMEOUT", "2s").start().await;
    let mut viewers = viewers(&app, 1).await;
    playing(&app).set_fault(Target::All, Fault::Oscillate { on_ms: 300, off_ms: 1500 });
    watch(&mut viewers, Duration::from_secs(12)).await;
    assert_whole(&viewers[0], Duration::from_millis(2500));
    assert_eq!(app.ledger.counts().opened, 1, "no other playback was started");
}

/// E7.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_again_and_again_is_not_chosen_again_and_again() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewers = viewers(&app, 1).await;
    let flapping = playing(&app);
    flapping.set_fault(Target::All, Fault::Eof { after_bytes: 4_000_000 });
    watch(&mut viewers, Duration::from_secs(15)).await;
    assert_whole(&viewers[0], Duration::from_secs(2));
    let starts = app.ledger.counts().opened;
    assert!(starts <= 3, "{starts} playbacks in 15 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_moves_a_stream_and_nobody_notices() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewers = viewers(&app, 2).await;
    let before = port(&app);
    let post = |path: String| {
        format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", app.address())
    };
    let reply = send(app.address(), &post(format!("/proxy/sessions/{ID}/move"))).await;
    assert_eq!(reply.status, 202);
    watch(&mut viewers, Duration::from_secs(3)).await;
    assert_ne!(port(&app), before);
    for viewer in &viewers {
        viewer.assert_perfect();
        assert!(viewer.longest_gap() < Duration::from_secs(1), "{:?}", viewer.longest_gap());
    }
    let unknown = send(app.address(), &post(format!("/proxy/sessions/{}/move", id(7)))).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_play_yet_is_not_said_to_move() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    for engine in &app.engines {
        engine.set_fault(Target::All, Fault::SlowStart { json_ms: 0, headers_ms: 0, first_byte_ms: 1_500 });
    }
    let moved = async {
        let has_engine = || app.app.relay.sessions().iter().any(|session| session.source.is_some());
        until("an engine was asked", has_engine).await;
        let request = format!(
            "POST /proxy/sessions/{ID}/move HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            app.address()
        );
        send(app.address(), &request).await.status
    };
    let (_viewer, status) = tokio::join!(StrictViewer::open(app.address(), ID), moved);
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_to_move_stays_where_it_is_when_there_is_no_other_engine() {
    let app = Setup::with_engines([engine()]).start().await;
    let mut viewers = viewers(&app, 1).await;
    let session = app.app.relay.sessions().remove(0);
    assert!(app.app.relay.leave_with(&session.key, "a test"));
    watch(&mut viewers, Duration::from_secs(2)).await;
    viewers[0].assert_perfect();
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_leave_an_engine_on_which_others_keep_failing() {
    let setup = Setup::with_engines([engine(), engine()]).set("MAX_STREAMS_PER_ENGINE", "20");
    let app = setup.start().await;
    let mut viewers = viewers(&app, 2).await;
    let bad = playing(&app);
    bad.set_fault(Target::All, Fault::FailedToLoad);
    // Half of them are tried there first, and then start on the other engine, which proves whose fault it is.
    let others = join_all((1..=16).map(|n| {
        let (address, home) = (app.address(), home(n));
        async move { get_from(home, address, &stream(&id(n))).await.status }
    }));
    let (statuses, ()) = tokio::join!(others, watch(&mut viewers, Duration::from_secs(4)));
    assert_eq!(statuses, [200; 16]);
    assert_ne!(port(&app), Some(bad.addr().port()), "it has left");
    for viewer in &viewers {
        assert_whole(viewer, Duration::from_secs(1));
    }
}

/// A playback that another program took over, or that the engine lost, while its connection stays open.
#[tokio::test(flavor = "multi_thread")]
async fn a_playback_that_its_engine_has_forgotten_is_left() {
    let is_forgotten = Arc::new(AtomicBool::new(false));
    let knows = Arc::clone(&is_forgotten);
    let forgetful = RawEngine::start(move |target| {
        let unknown = json!({ "response": null, "error": "unknown playback session id" });
        (target.starts_with("/ace/stat/") && knows.load(Ordering::Relaxed)).then(|| Act::json(&unknown))
    })
    .await;
    let app = Setup::with_engines([engine()]).engine_at(forgetful.address()).start().await;
    app.engine().set_fault_for_starts(Target::All, 1, Fault::FailedToLoad);
    let mut viewers = viewers(&app, 2).await;
    assert_eq!(forgetful.readers(), 1, "it plays there");
    is_forgotten.store(true, Ordering::Relaxed);
    watch(&mut viewers, Duration::from_secs(9)).await;
    assert_eq!((forgetful.readers(), app.engine().sessions()), (0, 1), "it has left");
    for viewer in &viewers {
        assert_whole(viewer, Duration::from_secs(2));
    }
}

/// E28: a hundred channels, five viewers each, on engines that come back after five seconds.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_engines_die_at_once_five_hundred_viewers_are_held_and_everything_comes_back() {
    let thin = || SimOptions { default_channel: ChannelKind::Verify { bitrate: 128_000 }, ..engine() };
    let setup = Setup::with_engines([thin(), thin(), thin()]).set("MAX_STREAMS_PER_ENGINE", "40");
    let app = setup.set("MAX_VIEWERS_PER_IP", "1000").start().await;
    let mut viewers = Vec::new();
    for n in 1..=100 {
        let channel = id(n);
        let open = (0..5).map(|_| StrictViewer::open_from(home(n), app.address(), &channel));
        viewers.extend(join_all(open).await);
    }
    watch(&mut viewers, Duration::from_secs(1)).await;
    for engine in &app.engines {
        engine.crash().await;
    }
    watch(&mut viewers, Duration::from_secs(5)).await;
    for engine in &app.engines {
        engine.restart().await;
    }
    watch(&mut viewers, Duration::from_secs(12)).await;
    let longest = viewers.iter().map(StrictViewer::longest_gap).max();
    println!("the longest gap of 500 viewers: {longest:?}");
    assert!(longest < Some(Duration::from_secs(14)), "{longest:?}");
    for viewer in &viewers {
        let report = viewer.report();
        let wrong = (report.gaps_unflagged, report.continuity_errors, report.foreign);
        assert_eq!(wrong, (0, 0, 0), "{report:#?}");
    }
    assert_eq!(app.ledger.open_sessions(), 100);
    assert!(app.engines.iter().all(|engine| engine.sessions() <= 40));
    for (engine, calls) in app.ledger.snapshot().starts_in_flight {
        assert!(calls.peak <= 4, "{} start calls at once on {engine}", calls.peak);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_silent_for_twelve_seconds_is_tried_beside_on_another_engine() {
    let app = Setup::with_engines([engine(), engine()]).set("EMPTY_STREAM_TIMEOUT", "30s").start().await;
    // Whichever engine is asked first is silent.
    for engine in &app.engines {
        engine.set_fault_for_starts(Target::All, 1, Fault::HangFirstByte);
    }
    app.engines[1].clear_faults();
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    assert!((11..16).contains(&viewer.first_byte().as_secs()), "{:?}", viewer.first_byte());
    viewer.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
    until("the silent one is stopped", || app.ledger.open_sessions() == 1).await;
    drop(viewer);
    let page = get(app.address(), &stream(ID)).await;
    assert_eq!(page.status, 200);
}
