//! Server-sent events: what a page that stays open is told.

use std::time::Duration;

use acemux_relay::session::EndReason;
use acemux_sim::SimOptions;
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::get_narrowly;
use acemux_testkit::{Reply, StrictViewer, get, send};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{ID, id};

const KEY: &str = "a-key-of-twenty-signs";
const LIVE: &str = "/api/v1/events/live";
/// Longest wait for what must come within the next tick.
const SOON: Duration = Duration::from_secs(3);

/// One event as it came.
#[derive(Debug)]
struct News {
    kind: String,
    id: String,
    data: Value,
}

/// A page that listens.
struct Page {
    reply: Reply,
    text: String,
}

impl Page {
    async fn open(app: &TestApp, query: &str, headers: &str) -> Self {
        let request = format!("GET {LIVE}{query} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", app.address());
        let reply = send(app.address(), &request).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
        Self { reply, text: String::new() }
    }

    /// The next event; comments are none.
    async fn next(&mut self) -> News {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let Some(data) = field("data:") else { continue };
                return News {
                    kind: field("event:").expect("a kind").to_owned(),
                    id: field("id:").unwrap_or_default().to_owned(),
                    data: serde_json::from_str(data).expect("JSON"),
                };
            }
            let more = within(SOON, "more news", self.reply.next()).await.expect("it goes on");
            self.text.push_str(std::str::from_utf8(&more).expect("text"));
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&News) -> bool) -> News {
        let began = Instant::now();
        loop {
            let news = self.next().await;
            if holds(&news) {
                return news;
            }
            assert!(began.elapsed() < SOON, "{what} is not told, but {news:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_gets_everything_once_and_then_what_changes() {
    let app = Setup::new().start().await;
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let mut page = Page::open(&app, "", "").await;
    let first = page.next().await;
    assert_eq!((first.kind.as_str(), &first.data["totals"]["engines_healthy"]), ("snapshot", &json!(1)));
    assert_eq!(first.data["streams"], json!({}));
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(300)).await;
    let began = page.until("the stream", |news| news.data["streams"][ID]["client_count"] == 1).await;
    // The same fields as on the page of all streams.
    let status = get(app.address(), "/proxy/status").await.json().await;
    let keys = |entity: &Value| entity.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    let mut told = keys(&began.data["streams"][ID]).expect("fields");
    let mut shown = keys(&status["sessions"][0]).expect("fields");
    told.sort();
    shown.sort();
    assert_eq!(told, shown);
    let next = page.next().await;
    assert!(next.data["streams"][ID].get("infohash").is_none(), "only what changes: {next:?}");
    // What happened was told when it did, and as the history has it.
    let mut log = Page::open(&app, "", &format!("Last-Event-ID: {}\r\n", first.id)).await;
    let opened = log
        .until("that the stream began", |news| news.kind == "log" && news.data["category"] == "started")
        .await;
    let mut kept = get(app.address(), "/events?category=started").await.json().await[0].clone();
    kept.as_object_mut().expect("an event").remove("id");
    assert_eq!(opened.data, kept);
    drop(viewer);
    page.until("that nobody watches", |news| news.data["streams"][ID]["client_count"] == 0).await;
    assert!(app.app.relay.end(&app.app.relay.sessions()[0].key, EndReason::Looping));
    page.until("that it is gone", |news| news.data["streams"].get(ID) == Some(&Value::Null)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_it_missed() {
    let app = Setup::new().start().await;
    let mut stays = Page::open(&app, "", "").await;
    let first = stays.next().await;
    let missed = stays.next().await;
    let back = format!("Last-Event-ID: {}\r\n", first.id);
    let next = Page::open(&app, "", &back).await.next().await;
    assert_eq!((next.kind.as_str(), next.id), ("patch", missed.id));
    let other = Page::open(&app, "", "Last-Event-ID: 00000000-1\r\n").await.next().await;
    assert_eq!(other.kind, "snapshot", "of another run");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_stream_is_told_to_the_operator_only() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(200)).await;
    let watch = format!("?watch=stream:{ID}");
    for (query, headers, status) in [
        (watch.as_str(), "", 401),
        (watch.as_str(), "X-API-KEY: wrong\r\n", 401),
        ("?watch=engine:1", "X-API-KEY: a-key-of-twenty-signs\r\n", 400),
        (&format!("?watch=stream:{}", id(9)), "X-API-KEY: a-key-of-twenty-signs\r\n", 404),
    ] {
        let request = format!("GET {LIVE}{query} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", app.address());
        assert_eq!(send(app.address(), &request).await.status, status, "{query} {headers}");
    }
    let mut page = Page::open(&app, &watch, &format!("X-API-KEY: {KEY}\r\n")).await;
    let told = page.until("the viewer", |news| news.kind == "viewers").await;
    assert_eq!(told.data["viewers"][0]["address"], "127.0.0.1", "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_several_streams_is_told_on_one_connection() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
    let mut viewers = Vec::new();
    for n in 1..=3 {
        viewers.push(StrictViewer::open(app.address(), &id(n)).await);
    }
    for viewer in &mut viewers {
        viewer.watch(Duration::from_millis(100)).await;
    }
    let watch = format!("?watch=stream:{},stream:{}", id(1), id(3));
    let mut page = Page::open(&app, &watch, "").await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let news = page.until("both streams' viewers", |news| news.kind == "viewers").await;
        let stream = news.data["stream"].as_str().expect("a key").to_owned();
        assert_eq!(news.data["viewers"].as_array().map(Vec::len), Some(1), "{news:?}");
        if !told.contains(&stream) {
            told.push(stream);
        }
    }
    let too_many = vec![format!("stream:{}", id(1)); 17].join(",");
    assert_eq!(get(app.address(), &format!("{LIVE}?watch={too_many}")).await.status, 400);
    assert_eq!(get(app.address(), &format!("{LIVE}{watch},stream:{}", id(9))).await.status, 404);
}

/// Browsers that sleep, and others that never read.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_do_not_read_hold_up_nobody_and_end_with_the_service() {
    let app = Setup::new().start().await;
    let mut asleep = Vec::new();
    for _ in 0..200 {
        asleep.push(get_narrowly(app.address(), LIVE).await);
        assert_eq!(asleep[asleep.len() - 1].status, 200);
    }
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    let mut page = Page::open(&app, "", "").await;
    assert_eq!(page.next().await.kind, "snapshot");
    for _ in 0..3 {
        viewer.watch(Duration::from_millis(500)).await;
        let began = Instant::now();
        assert_eq!(page.next().await.kind, "patch");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
        let began = Instant::now();
        assert_eq!(get(app.address(), "/proxy/status").await.status, 200);
        assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    }
    viewer.assert_perfect();
    let began = Instant::now();
    app.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "they do not hold up the stop: {:?}", began.elapsed());
}
