//! Starts that come in crowds: engines are not flooded, and a dead channel is asked for once.

use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{Fault, SimOptions, Target};
use acemux_testkit::app::{Setup, within};
use acemux_testkit::http::get_from;
use acemux_testkit::{Oracle, StrictViewer, get};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::{ID, home, id, stream};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_answers_eight_start_calls_at_a_time() {
    let app =
        Setup::new().set("MAX_STREAMS_PER_ENGINE", "20").set("EMPTY_STREAM_TIMEOUT", "10s").start().await;
    app.engine().set_fault(Target::All, Fault::SlowStart { json_ms: 400, headers_ms: 0, first_byte_ms: 0 });
    let asked = Instant::now();
    let mut requests = JoinSet::new();
    for n in 0..16 {
        let address = app.address();
        requests.spawn(async move { get(address, &stream(&id(100 + n))).await.status });
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(app.ledger.counts().starts, 8, "the others wait");
    let statuses = within(Duration::from_secs(5), "sixteen answers", requests.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(asked.elapsed() >= Duration::from_millis(800), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wait_for_too_is_not_taken_from_them() {
    let app = Setup::new().set("MAX_STREAMS_PER_ENGINE", "30").start().await;
    app.engine().set_fault(Target::All, Fault::SlowStart { json_ms: 0, headers_ms: 0, first_byte_ms: 1500 });
    let mut requests = JoinSet::new();
    // Nine starts of one address, each wanted twice.
    for n in (0..9).flat_map(|n| [n, n]) {
        let address = app.address();
        requests.spawn(async move { get(address, &stream(&id(300 + n))).await.status });
        sleep(Duration::from_millis(20)).await;
    }
    let statuses = within(Duration::from_secs(5), "18 answers", requests.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_channel_that_is_asked_for_again_and_again_costs_its_engine_one_start_in_five_seconds() {
    let app = Setup::new().start().await;
    let dead = id(400);
    app.engine().set_fault(Target::content(&dead), Fault::FailedToLoad);
    for _ in 0..10 {
        let mut reply = get(app.address(), &stream(&dead)).await;
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (502, Some("engine_error")));
    }
    let starts = app.ledger.counts().starts;
    assert!(starts <= 2, "{starts}: once by each form of the id");
    app.engine().clear_faults();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(get(app.address(), &stream(&dead)).await.status, 200);
}

/// E3: the start call is never answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_never_answers_the_start_call_is_outrun_by_another_one() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()])
        .set("EMPTY_STREAM_TIMEOUT", "30s")
        .start()
        .await;
    // Whichever engine is asked first hangs.
    let hang = Fault::Reply { page: Page::Start, shape: Shape::Hang };
    for engine in &app.engines {
        engine.set_fault_for_starts(Target::content(ID), 1, hang.clone());
    }
    app.engines[1].clear_faults();
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    assert!((5..11).contains(&viewer.first_byte().as_secs()), "{:?}", viewer.first_byte());
    assert_eq!(app.ledger.counts().starts, 2);
    viewer.watch(Duration::from_millis(300)).await;
    viewer.assert_perfect();
}

/// V12: more channels than there is room for. Who waits is served in turn, or told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_herd_on_many_channels_fills_what_there_is_and_the_rest_is_told_so_in_time() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()])
        .set("MAX_STREAMS_PER_ENGINE", "5")
        .set("ENGINE_SELECTION_TIMEOUT", "2s")
        .set("STREAM_IDLE_TIMEOUT", "200ms")
        .start()
        .await;
    let mut requests = JoinSet::new();
    for n in 0..60 {
        let address = app.address();
        requests.spawn(async move {
            let mut reply = get_from(home(n), address, &stream(&id(600 + n))).await;
            let media = reply.status == 200 && reply.next().await.is_ok();
            // Who got a place watches until everybody has an answer.
            sleep(Duration::from_secs(3)).await;
            (reply.status, media)
        });
    }
    let answers = within(Duration::from_secs(10), "60 answers", requests.join_all()).await;
    let played = answers.iter().filter(|(status, media)| *status == 200 && *media).count();
    let refused = answers.iter().filter(|(status, _)| *status == 503).count();
    assert_eq!((played, refused), (10, 50), "{answers:?}");
    assert!(app.ledger.counts().peak <= 10, "{:?}", app.ledger.counts());
    app.at_baseline().await;
    let later = within(Duration::from_secs(3), "room again", get(app.address(), &stream(&id(700)))).await;
    assert_eq!(later.status, 200);
}

/// P2 of what users suffer from, at its full length: one viewer who zaps 500 times, then twenty who do 100 times each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "five minutes; viewer_faults::v13 is the short form"]
async fn zapping_at_full_length_leaves_nothing() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()])
        .set("MAX_STREAMS_PER_ENGINE", "30")
        .set("STREAM_IDLE_TIMEOUT", "1s")
        .start()
        .await;
    app.at_baseline().await;
    let oracle = Oracle::alone_with(&app).await;
    let address = app.address();
    let zap = async |client: usize, times: usize| {
        for n in 0..times {
            let visit = async {
                let mut reply =
                    get_from(home(client), address, &stream(&id(800 + (n * 7 + client) % 50))).await;
                while reply.status == 200 && reply.next().await.is_ok() {}
            };
            let _zapped_on = tokio::time::timeout(Duration::from_millis(500), visit).await;
        }
    };
    oracle.during(zap(0, 500)).await;
    oracle.at_rest().await;
    oracle.during(join_all((1..=20).map(|client| zap(client, 100)))).await;
    oracle.at_rest().await;
    assert_eq!(app.forgotten(), 0, "every session was stopped by us");
    println!("{:?}", app.ledger.counts());
}
