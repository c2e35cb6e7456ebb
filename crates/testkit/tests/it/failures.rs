//! Every way a start can fail: the right error within its deadline, nothing left behind, and the next start is normal.

use std::time::Duration;

use acemux_sim::fault::{Page, Redirect, Shape, WrongContent};
use acemux_sim::ledger::CloseReason;
use acemux_sim::{Fault, Framing, SimOptions, Target};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::get_from;
use acemux_testkit::{StrictViewer, get};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::{ID, home, id, stream};

const BAD: &str = "bad0000000000000000000000000000000000bad";

fn start(shape: Shape) -> Fault {
    Fault::Reply { page: Page::Start, shape }
}

/// Fault of one content on the only engine, status, code.
fn explicit() -> Vec<(Fault, u16, &'static str)> {
    let elsewhere = |url: &str| Fault::Redirect { to: Redirect::Elsewhere(url.to_owned()) };
    vec![
        (Fault::FailedToLoad, 502, "engine_error"),
        (Fault::StartError { error: "<b>no\r\nway</b>".into() }, 502, "engine_error"),
        (Fault::MissingOption, 502, "engine_error"),
        (Fault::FailedToStart, 502, "engine_error"),
        (Fault::StartTimeout, 502, "engine_error"),
        (start(Shape::Status { status: 500 }), 502, "engine_error"),
        (start(Shape::Status { status: 404 }), 502, "engine_error"),
        (start(Shape::Close), 502, "engine_error"),
        (start(Shape::Reset), 502, "engine_error"),
        (start(Shape::Cut { bytes: 40 }), 502, ""),
        (start(Shape::BadJson), 502, "engine_bad_reply"),
        (start(Shape::Html), 502, "engine_bad_reply"),
        (start(Shape::Empty), 502, "engine_bad_reply"),
        (start(Shape::EmptyResponse), 502, "engine_bad_reply"),
        (start(Shape::Huge { bytes: 10_000_000 }), 502, "engine_bad_reply"),
        (start(Shape::Deep { levels: 10_000 }), 502, "engine_bad_reply"),
        (Fault::PlaybackStatus { status: 500 }, 502, "engine_error"),
        (Fault::PlaybackStatus { status: 404 }, 502, "engine_error"),
        (Fault::Empty200, 502, "engine_error"),
        (Fault::Eof { after_bytes: 188 }, 502, "engine_error"),
        (Fault::WrongContent { kind: WrongContent::Html }, 502, "engine_bad_reply"),
        (Fault::WrongContent { kind: WrongContent::Random }, 502, "engine_bad_reply"),
        (Fault::Gzip, 502, "engine_bad_reply"),
        (Fault::Redirect { to: Redirect::Loop }, 502, "engine_bad_reply"),
        (Fault::Redirect { to: Redirect::Nowhere }, 502, "engine_bad_reply"),
        (Fault::Redirect { to: Redirect::Huge(1_000_000) }, 502, "engine_bad_reply"),
        (elsewhere("http://192.0.2.1/content/x"), 502, "engine_bad_reply"),
        (elsewhere("http://127.0.0.1:9/etc/passwd"), 502, "engine_bad_reply"),
        (elsewhere("file:///etc/passwd"), 502, "engine_bad_reply"),
    ]
}

/// Faults of one content that are silence.
fn silent() -> Vec<Fault> {
    vec![
        start(Shape::Hang),
        Fault::HangRedirect,
        Fault::PrebufSilent,
        Fault::HangFirstByte,
        Fault::NoPeers,
        Fault::PeersNoData,
        Fault::BurstThenStall { after_bytes: 376 },
    ]
}

async fn assert_fails(app: &TestApp, bad: &str, what: &str, (status, code): (u16, &str), limit: Duration) {
    let mut reply = within(limit, what, get(app.address(), &stream(bad))).await;
    assert_eq!(reply.status, status, "{what}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = reply.json().await;
    assert!(code.is_empty() || problem["code"] == code, "{what}: {problem}");
    let detail = problem["detail"].as_str().expect("text");
    let port = app.engine().addr().port().to_string();
    assert!(
        !detail.contains(&port) && !detail.contains('\n') && detail.chars().count() <= 200,
        "{what}: {detail}"
    );
    assert_eq!(reply.header("retry-after").is_some(), matches!(status, 429 | 503), "{what}");
}

async fn assert_good_start(app: &TestApp) {
    let mut viewer = within(Duration::from_secs(3), "a good id", StrictViewer::open(app.address(), ID)).await;
    viewer.watch(Duration::from_millis(200)).await;
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_failures_are_errors_with_a_reason_and_leave_nothing() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "50ms").start().await;
    for (n, (fault, status, code)) in explicit().into_iter().enumerate() {
        let (what, bad) = (format!("{fault:?}"), id(1000 + n));
        app.engine().set_fault(Target::content(&bad), fault);
        assert_fails(&app, &bad, &what, (status, code), Duration::from_secs(3)).await;
        app.engine().clear_faults();
        assert_good_start(&app).await;
        app.nothing_left().await;
    }
    let ledger = app.ledger.snapshot();
    assert_eq!(ledger.closed_by(CloseReason::ReaderLeft), 0, "whatever played was stopped by us");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_an_error_when_the_budget_is_over_and_leaves_nothing() {
    let setup = || Setup::new().set("EMPTY_STREAM_TIMEOUT", "700ms").set("STREAM_IDLE_TIMEOUT", "50ms");
    for fault in silent() {
        let app = setup().start().await;
        let what = format!("{fault:?}");
        app.engine().set_fault(Target::content(BAD), fault);
        let asked = Instant::now();
        assert_fails(&app, BAD, &what, (504, "start_timeout"), Duration::from_secs(2)).await;
        assert!(asked.elapsed() >= Duration::from_millis(650), "{what}: silence keeps its engine");
        app.engine().clear_faults();
        assert_good_start(&app).await;
        app.at_baseline().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_only_look_odd_play() {
    let odd = [
        start(Shape::StringNumbers),
        start(Shape::MissingFields),
        Fault::UrlAuthority { authority: "localhost:9".into() },
        Fault::Redirect { to: Redirect::Relative },
        Fault::Framing { framing: Framing::Chunked },
        Fault::Framing { framing: Framing::Http10 },
        Fault::Dribble,
    ];
    for fault in odd {
        let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "50ms").start().await;
        let what = format!("{fault:?}");
        app.engine().set_fault(Target::content(ID), fault.clone());
        let mut viewer = within(Duration::from_secs(3), &what, StrictViewer::open(app.address(), ID)).await;
        viewer.watch(Duration::from_millis(150)).await;
        viewer.assert_perfect();
        drop(viewer);
        app.nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_503_no_engine() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let app = Setup::with_engines([]).engine_at(address).start().await;
    let mut reply = within(Duration::from_secs(3), "refused", get(app.address(), &stream(ID))).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (503, Some("no_engine")));
    let app = Setup::with_engines([]).start().await;
    let mut reply = get(app.address(), &stream(ID)).await;
    assert_eq!(reply.status, 503);
    let problem = reply.json().await;
    assert_eq!(problem["code"], "no_engine");
    assert!(problem["detail"].as_str().expect("text").contains("ENGINES"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_in_everything_costs_one_start() {
    let app = Setup::new().set("EMPTY_STREAM_TIMEOUT", "1s").start().await;
    app.engine().set_fault(Target::All, Fault::HangAll);
    let mut reply = within(Duration::from_secs(3), "an answer", get(app.address(), &stream(ID))).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (504, Some("start_timeout")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explicit_failure_is_tried_once_more_on_another_engine() {
    for (fault, _, _) in explicit() {
        let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
        let what = format!("{fault:?}");
        app.engine().set_fault(Target::content(ID), fault.clone());
        let mut viewer = within(Duration::from_secs(3), &what, StrictViewer::open(app.address(), ID)).await;
        viewer.watch(Duration::from_millis(150)).await;
        viewer.assert_perfect();
        // A playback that the engine has forgotten at once is started there once more first.
        let starts = if matches!(fault, Fault::PlaybackStatus { status: 404 }) { 3 } else { 2 };
        assert_eq!(app.ledger.counts().starts, starts, "{what}");
        until("one playback is left", || app.ledger.open_sessions() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_engines_that_fail_two_are_asked() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast(), SimOptions::fast()]).start().await;
    for engine in &app.engines {
        engine.set_fault(Target::All, Fault::FailedToLoad);
    }
    let reply = within(Duration::from_secs(3), "an answer", get(app.address(), &stream(ID))).await;
    assert_eq!((reply.status, app.ledger.counts().starts), (502, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_waiters_of_a_failed_start_get_the_same_error() {
    let app = Setup::new().start().await;
    app.engine().set_fault(Target::content(BAD), Fault::FailedToLoad);
    let mut waiters = JoinSet::new();
    for _ in 0..50 {
        let address = app.address();
        waiters.spawn(async move { get(address, &stream(BAD)).await.status });
    }
    let statuses = within(Duration::from_secs(5), "50 answers", waiters.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 502), "{statuses:?}");
    app.at_baseline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_viewer_has_left_is_stopped() {
    let app = Setup::new().set("EMPTY_STREAM_TIMEOUT", "30s").start().await;
    app.engine().set_fault(Target::content(BAD), Fault::PrebufSilent);
    for wait in [0, 20, 100, 300] {
        let address = app.address();
        let path = stream(BAD);
        let leaving = tokio::time::timeout(Duration::from_millis(wait), get(address, &path));
        assert!(leaving.await.is_err());
        within(Duration::from_secs(5), "baseline", app.at_baseline()).await;
    }
    assert_eq!(app.forgotten(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_start_waits_for_the_stop_of_the_last_one() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "20ms").start().await;
    app.engine().set_fault(Target::All, Fault::SlowStop { ms: 800 });
    drop(StrictViewer::open(app.address(), ID).await);
    until("the stream is over", || app.app.relay.sessions().is_empty()).await;
    assert_eq!(app.app.engines.all()[0].used(), 1, "the slot is not returned before the stop is answered");
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    assert!(viewer.first_byte() > Duration::from_millis(500), "{:?}", viewer.first_byte());
    viewer.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_random_dead_and_alive_ids_from_twenty_clients_leave_nothing() {
    let setup = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]);
    let settings = [
        ("EMPTY_STREAM_TIMEOUT", "1s"),
        ("STREAM_IDLE_TIMEOUT", "100ms"),
        ("MAX_STREAMS_PER_ENGINE", "6"),
        ("ENGINE_SELECTION_TIMEOUT", "1s"),
    ];
    let app = settings.into_iter().fold(setup, |setup, (name, value)| setup.set(name, value)).start().await;
    let faults: Vec<Fault> = explicit().into_iter().map(|(fault, ..)| fault).chain(silent()).collect();
    for n in 0..200 {
        // Every second id is dead, in all ways one after the other.
        if n % 2 == 0 {
            for engine in &app.engines {
                engine.set_fault(Target::content(&id(n)), faults[n / 2 % faults.len()].clone());
            }
        }
    }
    let mut clients = JoinSet::new();
    for client in 0..20 {
        let address = app.address();
        clients.spawn(async move {
            let mut pictures = 0;
            for n in (0..200).skip(client).step_by(20) {
                let visit = async {
                    let mut reply = get_from(home(client), address, &stream(&id(n))).await;
                    let has_picture = reply.status == 200 && reply.next().await.is_ok();
                    sleep(Duration::from_millis(50)).await;
                    has_picture
                };
                let seen = tokio::time::timeout(Duration::from_millis(1500), visit).await;
                pictures += usize::from(n % 2 == 1 && seen == Ok(true));
            }
            pictures
        });
    }
    let pictures = within(Duration::from_mins(1), "the zapping", clients.join_all()).await;
    let alive: usize = pictures.iter().sum();
    println!("{alive} of 100 that are alive had a picture");
    // Twelve slots, and dead channels hold some of them for a second each.
    assert!(alive >= 90, "{alive} of 100 that are alive had a picture");
    app.nothing_left().await;
    assert_good_start(&app).await;
}
