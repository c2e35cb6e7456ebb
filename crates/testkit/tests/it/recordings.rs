//! Video on demand: a file that one viewer reads, from the start to its end or where it seeks.

use std::time::Duration;

use acemux_sim::{SimOptions, VOD_ID};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::{BodyEnd, connect_from, send_over};
use acemux_testkit::{Reply, StrictViewer, get, send};

use crate::{home, stream};

/// Bytes of a minute at 3 Mbit/s, in whole packets.
const LENGTH: usize = 60 * 3_000_000 / 8 / 188 * 188;

async fn app() -> TestApp {
    Setup::with_engines([SimOptions::fast()]).set("STREAM_IDLE_TIMEOUT", "300ms").start().await
}

async fn part(app: &TestApp, range: &str) -> Reply {
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n", stream(VOD_ID));
    within(Duration::from_secs(10), range, send(app.address(), &request)).await
}

async fn whole(app: &TestApp) -> Vec<u8> {
    let mut reply = get(app.address(), &stream(VOD_ID)).await;
    assert_eq!((reply.status, reply.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(reply.header("content-length"), Some(LENGTH.to_string().as_str()));
    let (body, end) = within(Duration::from_mins(1), "the whole file", reply.body()).await;
    assert_eq!((body.len(), end), (LENGTH, BodyEnd::Clean), "it ends as a file does");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_plays_from_its_start_to_its_end() {
    let app = app().await;
    let mut viewer = StrictViewer::open(app.address(), VOD_ID).await;
    let end = viewer.watch(Duration::from_mins(1)).await;
    assert_eq!(end, Some(BodyEnd::Clean));
    viewer.assert_perfect();
    assert_eq!(viewer.report().bytes, LENGTH as u64);
    assert_eq!(app.ledger.counts().opened, 1);
    drop(viewer);
    app.at_baseline().await;
    assert_eq!(app.forgotten(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_exactly_that_part_and_all_parts_are_one_engine_session() {
    let app = app().await;
    let file = whole(&app).await;
    let cases = [
        ("bytes=0-187", 0..188),
        ("bytes=1000000-1999999", 1_000_000..2_000_000),
        ("bytes=-1000", LENGTH - 1000..LENGTH),
        ("bytes=22000000-", 22_000_000..LENGTH),
    ];
    for (range, expected) in cases {
        let mut reply = part(&app, range).await;
        assert_eq!(reply.status, 206, "{range}");
        let announced = format!("bytes {}-{}/{LENGTH}", expected.start, expected.end - 1);
        assert_eq!(reply.header("content-range"), Some(announced.as_str()));
        let (body, end) = reply.body().await;
        assert!(end == BodyEnd::Clean && body == file[expected], "{range}");
    }
    let beyond = part(&app, "bytes=99999999-").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{LENGTH}").as_str()));
    assert_eq!(app.ledger.counts().opened, 1);
    drop(beyond);
    app.at_baseline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_seeks_takes_its_own_place_over_and_somebody_else_has_to_wait() {
    let app = app().await;
    let mut first = get(app.address(), &stream(VOD_ID)).await;
    first.next().await.expect("it plays");
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", stream(VOD_ID));
    let mut other = send_over(connect_from(home(1), app.address()).await, &request).await;
    assert_eq!((other.status, other.json().await["code"].as_str()), (503, Some("stream_full")));
    let mut second = part(&app, "bytes=2000000-2999999").await;
    assert_eq!(second.status, 206);
    let (body, end) = second.body().await;
    assert_eq!((body.len(), end), (1_000_000, BodyEnd::Clean));
    let (_, end) = within(Duration::from_secs(5), "the end of the old part", first.body()).await;
    assert!(matches!(end, BodyEnd::Cut | BodyEnd::Reset), "{end:?}");
    assert_eq!(app.ledger.counts().second_readers, 0, "never two readers at the engine");
    drop((first, second));
    until("nobody reads", || app.app.relay.viewers() == 0).await;
    assert_eq!(send_over(connect_from(home(1), app.address()).await, &request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_whose_engine_dies_is_started_anew_by_the_next_request() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
    let mut first = get(app.address(), &stream(VOD_ID)).await;
    first.next().await.expect("it plays");
    let playing = app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays");
    playing.crash().await;
    let (_, end) = within(Duration::from_secs(5), "its end", first.body()).await;
    assert!(
        matches!(end, BodyEnd::Cut | BodyEnd::Reset),
        "the player must see that it is not the end: {end:?}"
    );
    drop(first);
    // The session learns of it from the first request that fails.
    let mut again = part(&app, "bytes=0-").await;
    if again.status != 206 {
        assert_eq!(again.status, 503);
        again = part(&app, "bytes=0-").await;
    }
    assert_eq!(again.status, 206);
    again.next().await.expect("it plays on the other engine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_not_cut_into_pieces_and_says_so() {
    let app = app().await;
    let mut reply = get(app.address(), &format!("/ace/manifest.m3u8?id={VOD_ID}")).await;
    let problem = reply.json().await;
    assert_eq!((reply.status, problem["code"].as_str()), (400, Some("invalid_param")));
    assert!(problem["detail"].as_str().expect("text").contains("/ace/getstream"), "{problem}");
    app.at_baseline().await;
}
