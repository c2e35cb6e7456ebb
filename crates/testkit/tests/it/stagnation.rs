//! Bytes flow and nothing new comes: it is noticed, healed where another engine can, and ended with a reason where none
//! can.

use std::time::Duration;

use acemux_sim::{Fault, SimEngine, SimOptions, Target};
use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::{StrictViewer, get};

use crate::{ID, stream};

fn engine() -> SimOptions {
    SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }
}

fn stagnant() -> [Fault; 3] {
    [Fault::Loop { window_ms: 1000 }, Fault::Stagnate { after_bytes: 0 }, Fault::NullFlood { after_bytes: 0 }]
}

fn playing(app: &TestApp) -> &SimEngine {
    app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays")
}

fn port(app: &TestApp) -> Option<u16> {
    app.app.relay.sessions().first()?.source.as_ref().map(|source| source.port)
}

async fn metric(app: &TestApp, line: &str) -> bool {
    let page = get(app.address(), "/metrics").await.body().await.0;
    String::from_utf8(page).expect("text").lines().any(|known| known == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_shows_nothing_new_goes_on_elsewhere() {
    for fault in stagnant() {
        let app = Setup::with_engines([engine(), engine()]).set("STALL_TIMEOUT", "2s").start().await;
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_millis(500)).await;
        let stuck = playing(&app);
        stuck.set_fault(Target::All, fault.clone());
        assert!(viewer.watch(Duration::from_secs(6)).await.is_none(), "{fault}: its socket stays open");
        assert_ne!(port(&app), Some(stuck.addr().port()), "{fault}");
        let before = viewer.report().clone();
        assert!(viewer.watch(Duration::from_secs(2)).await.is_none());
        let after = viewer.report();
        assert_eq!((after.repeated, after.lost), (before.repeated, before.lost), "{fault}: it plays again");
        assert!(after.media > before.media + 2000, "{fault}: {after:#?}");
        assert_eq!((after.foreign, after.corrupt, after.unaligned), (0, 0, 0), "{fault}");
        if matches!(fault, Fault::Loop { .. }) {
            assert!(metric(&app, "acemux_proxy_repeats_total 1").await, "it is counted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_shows_nothing_new_anywhere_ends_with_a_reason() {
    for fault in stagnant() {
        let app = Setup::with_engines([engine()])
            .set("STALL_TIMEOUT", "1s")
            .set("HOLD_TIMEOUT", "5s")
            .start()
            .await;
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_millis(500)).await;
        app.engine().set_fault(Target::All, fault.clone());
        let end = viewer.watch(Duration::from_secs(20)).await;
        assert!(end.is_some(), "{fault}: nobody is held for ever");
        let ended = "acemux_proxy_sessions_ended_total{reason=\"stalled\"} 1";
        assert!(metric(&app, ended).await, "{fault}");
        app.at_baseline().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_broadcast_is_hours_old_is_ended_and_blocked_until_it_is_cleared() {
    let app = Setup::with_engines([engine()])
        .set("STREAM_LOOP_DETECTION_ENABLED", "true")
        .set("STREAM_LOOP_CHECK_INTERVAL_S", "5")
        .start()
        .await;
    app.engine().set_fault(Target::All, Fault::StaleLive { seconds: 7200 });
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    assert!(viewer.watch(Duration::from_secs(15)).await.is_some(), "it is ended");
    let mut refused = get(app.address(), &stream(ID)).await;
    assert_eq!((refused.status, refused.json().await["code"].as_str()), (403, Some("looping_stream")));
    let list = get(app.address(), "/looping-streams").await.json().await;
    let id = list["stream_ids"][0].as_str().expect("it is listed").to_owned();
    assert!(list["streams"][&id].is_string(), "{list}");
    let delete =
        |id: &str| format!("DELETE /looping-streams/{id} HTTP/1.1\r\nHost: {}\r\n\r\n", app.address());
    assert_eq!(acemux_testkit::send(app.address(), &delete(&id)).await.status, 200);
    assert_eq!(acemux_testkit::send(app.address(), &delete(&id)).await.status, 404);
    app.engine().clear_faults();
    assert_eq!(get(app.address(), &stream(ID)).await.status, 200);
    until("nobody watches", || app.app.relay.viewers() == 0).await;
}
