//! What engines cannot play and load for ever: one of them does it, and it costs nobody else anything.

use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::member::Member;
use acemux_sim::{Dialect, PieceSize, SimEngine, SimOptions, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::{StrictViewer, get};
use tokio::time::Instant;

use crate::{id, stream};

const BUDGET: Duration = Duration::from_secs(30);

/// What is sent to one who asks for it, while it is no picture.
async fn refused(app: &TestApp, path: &str) -> (u16, Duration) {
    let asked = Instant::now();
    let reply = within(BUDGET + Duration::from_secs(5), path, get(app.address(), path)).await;
    (reply.status, asked.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_that_one_open_engine_loads_for_ever_is_not_begun_on_the_others() {
    let small = SimOptions { dialect: Dialect::Outpace, piece_size: PieceSize::Kib64, ..SimOptions::fast() };
    let app = Setup::as_shipped([small.clone(), small.clone(), small]).start().await;
    let is_known = |member: &Arc<Member>| member.engine.family().as_str() == "outpace";
    until("it is known which program the engines are", || app.app.engines.all().iter().all(is_known)).await;
    let infohash = infohash_of(&id(8_300));
    for path in ["infohash=", "infohash=", "id="].map(|name| format!("/ace/getstream?{name}{infohash}")) {
        let (status, took) = refused(&app, &path).await;
        println!("{path}: {status} after {took:?}, {:?}", received(&app));
        assert!(status >= 500 && took < BUDGET + Duration::from_secs(1), "{status} after {took:?}");
        let loading = received(&app).iter().filter(|bytes| **bytes > 0).count();
        assert_eq!(loading, 1, "{path}: {:?}", received(&app));
    }
    // It is the name that does not play, not the channel.
    let mut viewer = StrictViewer::open_path(app.address(), &stream(&id(8_300)), &id(8_300)).await;
    viewer.watch(Duration::from_secs(1)).await;
    let path = format!("/ace/getstream?infohash={infohash}");
    let mut other = StrictViewer::open_path(app.address(), &path, &id(8_300)).await;
    other.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
    other.assert_perfect();
    drop((viewer, other));
    until("nobody watches", || app.app.relay.viewers() == 0).await;
}

fn received(app: &TestApp) -> Vec<u64> {
    app.engines.iter().map(SimEngine::bytes_received).collect()
}
