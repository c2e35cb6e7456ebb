//! Starts that come in crowds: engines are not flooded, who zaps gets the newest channel, and a dead channel is asked
//! for once.

use std::time::Duration;

use acemux_sim::{Fault, Target};
use acemux_testkit::app::{Setup, within};
use acemux_testkit::{StrictViewer, get};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::{ID, id, stream};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_answers_four_start_calls_at_a_time() {
    let app =
        Setup::new().set("MAX_STREAMS_PER_ENGINE", "20").set("EMPTY_STREAM_TIMEOUT", "10s").start().await;
    app.engine().set_fault(Target::All, Fault::SlowStart { json_ms: 400, headers_ms: 0, first_byte_ms: 0 });
    let asked = Instant::now();
    let mut requests = JoinSet::new();
    for n in 0..8 {
        let address = app.address();
        requests.spawn(async move { get(address, &stream(&id(100 + n))).await.status });
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(app.ledger.counts().starts, 4, "the others wait");
    let statuses = within(Duration::from_secs(5), "eight answers", requests.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(asked.elapsed() >= Duration::from_millis(800), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_zaps_faster_than_channels_start_gets_the_newest_and_leaves_the_oldest() {
    let app = Setup::new()
        .set("MAX_STREAMS_PER_ENGINE", "30")
        .set("EMPTY_STREAM_TIMEOUT", "4s")
        .set("STREAM_IDLE_TIMEOUT", "50ms")
        .start()
        .await;
    for n in 0..12 {
        app.engine().set_fault(Target::content(&id(200 + n)), Fault::HangFirstByte);
    }
    let mut requests = JoinSet::new();
    for n in 0..12 {
        let address = app.address();
        requests.spawn(async move {
            let mut reply = get(address, &stream(&id(200 + n))).await;
            let retry = reply.header("retry-after").is_some();
            (n, reply.status, reply.json().await["code"].as_str().map(str::to_owned), retry)
        });
        sleep(Duration::from_millis(30)).await;
    }
    // One more, which plays.
    let viewer = within(Duration::from_secs(3), "the newest", StrictViewer::open(app.address(), ID)).await;
    let mut answers = requests.join_all().await;
    answers.sort_unstable();
    let (outdated, late) = answers.split_at(5);
    let expected = (429, Some("too_many_requests".to_owned()), true);
    for (n, status, code, retry) in outdated {
        assert_eq!((*status, code.clone(), *retry), expected, "{n} of {answers:?}");
    }
    assert!(late.iter().all(|(_, status, ..)| *status == 504), "{answers:?}");
    drop(viewer);
    app.at_baseline().await;
    assert_eq!(app.forgotten(), 0);
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
