//! One engine session per channel, whatever form the URL has.

use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{ChannelKind, Fault, SimOptions, Target, Timing, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::{StrictViewer, get};
use tokio::task::JoinSet;

use crate::{ID, stream};

/// Every way to name the channel.
fn forms() -> Vec<String> {
    let infohash = infohash_of(ID);
    vec![
        stream(ID),
        stream(&ID.to_uppercase()),
        format!("/ace/getstream?content_id={ID}"),
        format!("/ace/getstream?infohash={infohash}"),
        format!("/ace/getstream?infohash={}", infohash.to_uppercase()),
        stream(&infohash),
        format!("/ace/getstream?id=acestream://{ID}"),
        format!("/ace/getstream?id=acestream%3A%2F%2F{ID}&pid=7"),
        format!("/ace/getstream/?id={ID}"),
        format!("/ace/getstream.ts?id={ID}"),
    ]
}

async fn watch_all(app: &TestApp, paths: Vec<String>) {
    let mut viewers = JoinSet::new();
    for path in paths {
        let address = app.address();
        viewers.spawn(async move {
            let mut viewer = StrictViewer::open_path(address, &path, ID).await;
            viewer.watch(Duration::from_secs(1)).await;
            viewer.assert_perfect();
        });
    }
    while let Some(watched) = viewers.join_next().await {
        watched.expect("every viewer sees the stream");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_channel_joins_one_session() {
    let app = Setup::new().start().await;
    let mut first = StrictViewer::open(app.address(), ID).await;
    first.watch(Duration::from_millis(300)).await;
    watch_all(&app, forms()).await;
    assert_eq!(app.ledger.counts().opened, 1);
    first.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_keeps_no_other_one_from_saying_what_a_channel_is() {
    // Whichever is asked first.
    for hanging in 0..2 {
        let app = Setup::as_shipped([SimOptions::fast(), SimOptions::fast()]).start().await;
        let hang = Fault::Reply { page: Page::MediaFiles, shape: Shape::Hang };
        app.engines[hanging].set_fault(Target::All, hang);
        let viewer = StrictViewer::open(app.address(), ID).await;
        // A look-up that is not answered is given up after 5 s.
        assert!(viewer.first_byte() < Duration::from_secs(4), "{hanging}: {:?}", viewer.first_byte());
    }
}

/// An engine that has just begun, or whose VPN has, does not reach the directory of content ids yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_can_be_looked_up_a_moment_later_plays_within_the_same_start() {
    let timing = Timing { unknown_infohash: Duration::from_secs(28), ..Timing::fast() };
    let app = Setup::as_shipped([SimOptions { timing, ..SimOptions::fast() }]).start().await;
    app.engine().set_fault(Target::content(ID), Fault::FailedToLoad);
    let recovers = async {
        until("it was started as what it is not", || app.ledger.counts().starts == 1).await;
        app.engine().clear_faults();
    };
    let both = async { tokio::join!(StrictViewer::open(app.address(), ID), recovers) };
    let (mut viewer, ()) = within(Duration::from_secs(20), "a picture", both).await;
    viewer.watch(Duration::from_millis(500)).await;
    viewer.assert_perfect();
}

/// As the closed engine takes it: for an infohash that nobody has, which it looks for for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_content_id_that_is_given_as_an_infohash_plays_in_the_channels_session() {
    let timing = Timing { unknown_infohash: Duration::from_secs(28), ..Timing::fast() };
    let engine = SimOptions { timing, ..SimOptions::fast() };
    for first_form in [format!("/ace/getstream?infohash={ID}"), stream(ID)] {
        let app = Setup::as_shipped([engine.clone()]).start().await;
        let mut viewers = Vec::new();
        for form in [first_form, format!("/ace/getstream?infohash={ID}"), stream(ID)] {
            let viewer = StrictViewer::open_path(app.address(), &form, ID);
            viewers.push(within(Duration::from_secs(20), &form, viewer).await);
        }
        for viewer in &mut viewers {
            viewer.watch(Duration::from_millis(500)).await;
            viewer.assert_perfect();
        }
        assert_eq!(app.app.relay.streams(), 1);
        assert_eq!(app.ledger.counts().opened, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_first_requests_in_any_mixture_of_forms_open_one_session() {
    let app = Setup::new().start().await;
    watch_all(&app, [forms(), forms(), forms()].concat()).await;
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_first_requests_open_one_session_and_all_get_video() {
    // At a low rate, because every packet of every viewer is checked.
    let engine =
        SimOptions { default_channel: ChannelKind::Verify { bitrate: 128_000 }, ..SimOptions::fast() };
    let app = Setup::with_engines([engine]).set("MAX_VIEWERS_PER_IP", "1000").start().await;
    within(Duration::from_secs(30), "500 viewers", watch_all(&app, vec![stream(ID); 500])).await;
    let counts = app.ledger.counts();
    assert_eq!((counts.opened, counts.starts), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_resolve_ids_still_ends_with_one_session() {
    for fault in [Fault::NoMediaFiles, Fault::MediaFilesWithoutInfohash] {
        let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
        for engine in &app.engines {
            engine.set_fault(Target::All, fault.clone());
        }
        let infohash = format!("/ace/getstream?infohash={}", infohash_of(ID));
        let mut viewers = JoinSet::new();
        for path in [infohash, stream(ID), stream(&ID.to_uppercase())] {
            let address = app.address();
            viewers.spawn(async move { get(address, &path).await });
        }
        let replies = viewers.join_all().await;
        assert!(replies.iter().all(|reply| reply.status == 200), "{fault:?}");
        until("one session is left", || app.app.relay.sessions().len() == 1).await;
        until("one playback is left", || app.ledger.open_sessions() == 1).await;
        assert_eq!(app.app.relay.sessions()[0].viewers, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_channel_is_joined_without_asking_an_engine() {
    let app = Setup::new().start().await;
    drop(StrictViewer::open(app.address(), ID).await);
    until("the first viewer has gone", || app.app.relay.viewers() == 0).await;
    let before = app.ledger.counts();
    let viewer = StrictViewer::open(app.address(), ID).await;
    assert!(viewer.first_byte() < Duration::from_millis(250), "{:?}", viewer.first_byte());
    assert_eq!(app.ledger.counts().starts, before.starts);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_channel_is_stopped_and_starts_anew() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "200ms").start().await;
    for round in 1..=3 {
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_millis(200)).await;
        viewer.assert_perfect();
        drop(viewer);
        app.at_baseline().await;
        assert_eq!(app.ledger.counts().opened, round);
    }
    assert_eq!(app.forgotten(), 0);
}
