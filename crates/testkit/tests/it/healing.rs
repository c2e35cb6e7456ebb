//! A stream's source breaks: its viewers keep their sockets and get media again.

use std::time::Duration;

use acemux_sim::{Fault, SimOptions, Target};
use acemux_testkit::StrictViewer;
use acemux_testkit::app::{Setup, TestApp, until};
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::ID;

/// Tables, video and sound: streams on which a jump is announced.
const PIDS: u64 = 4;

async fn viewers(app: &TestApp, count: usize) -> Vec<StrictViewer> {
    let mut viewers = Vec::new();
    for _ in 0..count {
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_millis(200)).await;
        viewers.push(viewer);
    }
    viewers
}

/// Still open, and nothing but announced jumps in it.
fn assert_healed(viewer: &StrictViewer, jumps: u64) {
    let report = viewer.report();
    assert_eq!((report.gaps_unflagged, report.continuity_errors, report.unaligned), (0, 0, 0), "{report:#?}");
    assert_eq!((report.foreign, report.corrupt), (0, 0), "{report:#?}");
    assert!((1..=jumps * PIDS).contains(&report.discontinuities), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_engine_dies_another_one_goes_on_behind_the_open_sockets() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
    let mut viewers = viewers(&app, 3).await;
    let playing = app.engines.iter().find(|engine| engine.sessions() == 1).expect("one plays");
    playing.crash().await;
    let ends = join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_secs(2)))).await;
    assert!(ends.iter().all(Option::is_none), "their sockets stay open: {ends:?}");
    for viewer in &viewers {
        assert!(viewer.longest_silence() < Duration::from_secs(2), "{:?}", viewer.longest_silence());
        assert_healed(viewer, 1);
    }
    let session = &app.app.relay.sessions()[0];
    let survivor = session.source.as_ref().map(|source| source.port);
    assert_ne!(survivor, Some(playing.addr().port()));
    drop(viewers);
    until("no viewers", || app.app.relay.viewers() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_ends_early_is_opened_again_on_the_only_engine() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    let mut viewers = viewers(&app, 2).await;
    app.engine().set_fault(Target::All, Fault::Eof { after_bytes: 0 });
    until("the playback has ended", || app.ledger.counts().closed > 0).await;
    app.engine().clear_faults();
    for viewer in &mut viewers {
        assert!(viewer.watch(Duration::from_secs(3)).await.is_none(), "its socket stays open");
        // It may have been opened once more while the fault was there.
        assert_healed(viewer, 2);
    }
    drop(viewers);
    app.at_baseline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_engine_may_be_gone_for_ten_seconds() {
    let app = Setup::new().start().await;
    let mut viewers = viewers(&app, 1).await;
    app.engine().crash().await;
    sleep(Duration::from_secs(10)).await;
    app.engine().restart().await;
    assert!(viewers[0].watch(Duration::from_secs(7)).await.is_none(), "its socket stays open");
    assert!(viewers[0].longest_silence() < Duration::from_secs(16), "{:?}", viewers[0].longest_silence());
    assert_healed(&viewers[0], 1);
}
