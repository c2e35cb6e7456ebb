//! Whoever comes and goes leaves nothing behind: bytes that are still allocated, counted one by one.
//!
//! A program of its own, because its allocator counts for the whole process: simulated engine, service and clients.

use std::alloc::System;
use std::time::Duration;

use acemux_sim::{SimOptions, VOD_ID};
use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::{get, send};
use cap::Cap;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Held while bytes are counted.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A content id that plays the verifiable channel.
const ID: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

/// Those who come and go between two looks.
const JOINS: usize = 5000;

/// Clients at a time, where any number may come.
const MANY: usize = 32;

/// Bytes that one of them may leave behind.
const MOST_PER_JOIN: usize = 100;

/// A stream whose ring is full within the first joins and stays so, with room for every viewer of a test.
async fn app() -> TestApp {
    let mut engine = SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    // As long as real ones wait for the next reader of a recording: on a busy machine a second passes between two.
    engine.timing.reader_gone = Duration::from_secs(15);
    Setup::with_engines([engine])
        .set("STREAM_BUFFER_SIZE", "1 MiB")
        .set("MAX_VIEWERS", "20000")
        .set("MAX_VIEWERS_PER_IP", "20000")
        .set("HLS_VIEWER_TIMEOUT", "1s")
        .start()
        .await
}

/// `JOINS` times the same, so many at a time.
async fn batch(at_once: usize, come_and_go: impl AsyncFn()) {
    let joins = stream::iter(0..JOINS).map(|_| come_and_go());
    joins.buffer_unordered(at_once).collect::<()>().await;
}

/// Two equal batches: the first shows how much the process needs, the second must not need more.
async fn assert_nothing_is_left(app: &TestApp, at_once: usize, come_and_go: impl AsyncFn()) {
    let _alone = ALONE.lock().await;
    batch(at_once, &come_and_go).await;
    until("nobody is left", || app.app.relay.viewers() == 0).await;
    let before = settled().await;
    batch(at_once, &come_and_go).await;
    until("nobody is left", || app.app.relay.viewers() == 0).await;
    let left = settled().await.saturating_sub(before) / JOINS;
    println!("{left} bytes left by each");
    assert!(left < MOST_PER_JOIN, "each of {JOINS} left {left} bytes behind");
}

/// Bytes allocated, when they have not become fewer for a while: connections that close take a moment.
async fn settled() -> usize {
    let mut least = ALLOCATOR.allocated();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        sleep(Duration::from_millis(20)).await;
        let now = ALLOCATOR.allocated();
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    least
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_a_stream_leave_nothing_behind() {
    let app = app().await;
    let path = format!("/ace/getstream?id={ID}");
    assert_nothing_is_left(&app, MANY, async || {
        let mut reply = get(app.address(), &path).await;
        assert_eq!(reply.status, 200);
        reply.next().await.expect("it plays");
    })
    .await;
    assert_eq!(app.ledger.counts().opened, 1, "all of them watched one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_who_fetch_pieces_leave_nothing_behind() {
    let app = app().await;
    let path = format!("/ace/manifest.m3u8?id={ID}");
    assert_nothing_is_left(&app, MANY, async || {
        let mut reply = get(app.address(), &path).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body().await.0.starts_with(b"#EXTM3U"));
    })
    .await;
    assert_eq!(app.ledger.counts().opened, 1, "all of them watched one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_asks_for_the_head_leaves_nothing_behind() {
    let app = app().await;
    let request = format!("HEAD /ace/getstream?id={ID} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_nothing_is_left(&app, MANY, async || {
        assert_eq!(send(app.address(), &request).await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_recording_leave_nothing_behind() {
    let app = app().await;
    let request =
        format!("GET /ace/getstream?id={VOD_ID} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1879\r\n\r\n");
    assert_nothing_is_left(&app, 1, async || {
        let mut reply = send(app.address(), &request).await;
        let (status, body) = (reply.status, reply.body().await.0);
        assert_eq!((status, body.len()), (206, 1880), "{}", String::from_utf8_lossy(&body));
    })
    .await;
    assert_eq!(app.ledger.counts().opened, 1, "all of them read one session");
}
