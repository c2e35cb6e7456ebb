//! Caps hold, and who is refused learns why.

use std::time::Duration;

use acemux_testkit::app::{Setup, until, within};
use acemux_testkit::{Reply, StrictViewer, get, send};

use tokio::time::Instant;

use crate::{ID, id, stream};

async fn code(reply: &mut Reply) -> String {
    reply.json().await["code"].as_str().expect("a code").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_viewer_too_many_is_refused_and_the_others_stay() {
    let app = Setup::new().set("MAX_VIEWERS", "2").start().await;
    let mut first = StrictViewer::open(app.address(), ID).await;
    let second = get(app.address(), &stream(ID)).await;
    assert_eq!(second.status, 200);
    let mut third = get(app.address(), &stream(ID)).await;
    assert_eq!((third.status, code(&mut third).await.as_str()), (503, "server_full"));
    assert!(third.header("retry-after").is_some());
    first.watch(Duration::from_millis(200)).await;
    first.assert_perfect();
    drop(second);
    until("a place is free", || app.app.relay.viewers() == 1).await;
    assert_eq!(get(app.address(), &stream(ID)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_behind_a_trusted_proxy_count_by_their_own_address() {
    let app = Setup::new().set("MAX_VIEWERS_PER_IP", "1").set("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let from = |address: &str| {
        format!("GET {} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n", stream(ID))
    };
    let first = send(app.address(), &from("192.0.2.1")).await;
    assert_eq!(first.status, 200);
    let mut again = send(app.address(), &from("192.0.2.1")).await;
    assert_eq!((again.status, code(&mut again).await.as_str()), (429, "too_many_viewers"));
    assert!(again.header("retry-after").is_some());
    assert_eq!(send(app.address(), &from("192.0.2.2")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_of_one_ipv6_network_are_one_client_whatever_is_asked_for() {
    let settings = [("MAX_VIEWERS_PER_IP", "3"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let app = settings.into_iter().fold(Setup::new(), |setup, (name, value)| setup.set(name, value));
    let app = app.start().await;
    let ask = async |path: &str, address: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n");
        send(app.address(), &request).await
    };
    let manifest = format!("/ace/manifest.m3u8?id={ID}");
    for host in 1..=3 {
        assert_eq!(ask(&manifest, &format!("2001:db8:1:2::{host}")).await.status, 200, "{host}");
    }
    let mut others = Vec::new();
    for path in [&manifest, &stream(ID)] {
        let mut refused = ask(path, "2001:db8:1:2:ffff:ffff:ffff:ffff").await;
        assert_eq!((refused.status, code(&mut refused).await.as_str()), (429, "too_many_viewers"));
        assert!(refused.header("retry-after").is_some());
        // Nobody else is in the same network, however its address is written.
        for other in ["2001:db8:1:3::1", "192.0.2.1"] {
            others.push(ask(path, other).await);
            assert_eq!(others.last().map(|reply| reply.status), Some(200), "{other}");
        }
    }
    assert_eq!(ask(&manifest, "::ffff:192.0.2.1").await.status, 200, "its third");
    assert_eq!(ask(&manifest, "192.0.2.1").await.status, 429, "the same as its mapped form");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_slot_the_answer_comes_in_time_and_names_the_setting() {
    let app = Setup::new()
        .set("MAX_STREAMS_PER_ENGINE", "1")
        .set("ENGINE_SELECTION_TIMEOUT", "300ms")
        .start()
        .await;
    let watched = StrictViewer::open(app.address(), ID).await;
    let mut refused = within(Duration::from_secs(2), "a refusal", get(app.address(), &stream(&id(2)))).await;
    assert_eq!(refused.status, 503);
    let problem = refused.json().await;
    assert_eq!(problem["code"], "no_engine");
    assert!(problem["detail"].as_str().expect("text").contains("MAX_STREAMS_PER_ENGINE"), "{problem}");
    drop(watched);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lingering_stream_gives_its_slot_up_at_once() {
    let app = Setup::new().set("MAX_STREAMS_PER_ENGINE", "1").start().await;
    drop(StrictViewer::open(app.address(), ID).await);
    until("nobody watches", || app.app.relay.viewers() == 0).await;
    let other = within(Duration::from_secs(2), "the slot", StrictViewer::open(app.address(), &id(2))).await;
    assert!(other.first_byte() < Duration::from_secs(1), "{:?}", other.first_byte());
    assert_eq!(app.ledger.counts().peak, 1, "never two on an engine with one slot");
}

/// The twin of `bench/run status` for any machine: beside a page that says nothing, in the same run.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_of_a_thousand_viewers_takes_five_milliseconds_at_most() {
    let setup = Setup::new().set("MAX_VIEWERS_PER_IP", "2000").set("VIEWER_SNDBUF", "8192");
    let app = setup.set("MAX_STREAMS_PER_ENGINE", "20").start().await;
    let mut viewers = Vec::new();
    for n in 0..1_000 {
        viewers.push(acemux_testkit::http::get_narrowly(app.address(), &stream(&id(n % 20 + 1))).await);
    }
    let took = async |path: &str| {
        let began = Instant::now();
        let page = get(app.address(), path).await.body().await.0;
        (began.elapsed(), page)
    };
    let (mut nothing, mut status) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        nothing.push(took("/livez").await.0);
        let (time, page) = took("/proxy/status").await;
        let page: serde_json::Value = serde_json::from_slice(&page).expect("JSON");
        assert_eq!((&page["total_clients"], &page["total_sessions"]), (&1_000.into(), &20.into()));
        status.push(time);
    }
    nothing.sort_unstable();
    status.sort_unstable();
    let more = status[25].saturating_sub(nothing[25]);
    assert!(more < Duration::from_millis(5), "{more:?}: {status:?} beside {nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_spread_over_the_engines() {
    let engines = [acemux_sim::SimOptions::fast(), acemux_sim::SimOptions::fast()];
    let app = Setup::with_engines(engines).start().await;
    let mut viewers = Vec::new();
    for n in 1..=4 {
        viewers.push(StrictViewer::open(app.address(), &id(n)).await);
    }
    let used: Vec<usize> = app.app.engines.all().iter().map(|member| member.used()).collect();
    assert_eq!(used, [2, 2]);
}

/// V4 of the fault catalogue.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_takes_a_few_bytes_now_and_then_is_cut_all_the_same() {
    let app = Setup::new().set("VIEWER_STALL_TIMEOUT", "2s").start().await;
    let mut healthy = StrictViewer::open(app.address(), ID).await;
    let mut slow = acemux_testkit::http::get_narrowly(app.address(), &stream(ID)).await;
    until("two viewers", || app.app.relay.viewers() == 2).await;
    let began = Instant::now();
    // A few hundred bytes at a time: each is progress, together they are nothing.
    while app.app.relay.viewers() == 2 && began.elapsed() < Duration::from_secs(15) {
        let _cut = tokio::time::timeout(Duration::from_millis(20), slow.next()).await;
        healthy.watch(Duration::from_millis(600)).await;
    }
    let took = began.elapsed();
    assert!((2..10).contains(&took.as_secs()), "{took:?}");
    healthy.assert_perfect();
}
