//! The viewer's contract: headers, methods, versions, ends.

use std::time::Duration;

use acemux_sim::{ChannelKind, Fault, SimOptions, Target};
use acemux_testkit::app::{Setup, until, within};
use acemux_testkit::http::{BodyEnd, get_narrowly, try_send};
use acemux_testkit::{Reply, StrictViewer, get, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{ID, stream};

fn assert_golden(reply: &Reply) {
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("video/mp2t"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    for unwanted in ["content-length", "content-encoding", "accept-ranges"] {
        assert_eq!(reply.header(unwanted), None, "{unwanted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_the_golden_headers_whatever_the_player_asks_for() {
    let app = Setup::new().start().await;
    for extra in
        ["", "Range: bytes=0-\r\n", "Range: bytes=5-2\r\n", "Accept-Encoding: gzip\r\nIcy-MetaData: 1\r\n"]
    {
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n{extra}\r\n", stream(ID));
        let mut reply = send(app.address(), &request).await;
        assert_golden(&reply);
        assert!(reply.next().await.is_ok(), "and then comes media");
    }
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_the_same_headers_at_once_and_touches_no_engine() {
    let app = Setup::new().start().await;
    let request = format!("HEAD {} HTTP/1.1\r\nHost: a\r\n\r\n", stream(ID));
    let reply = within(Duration::from_millis(500), "HEAD", send(app.address(), &request)).await;
    assert_golden(&reply);
    let counts = app.ledger.counts();
    assert_eq!((counts.starts, counts.lookups, counts.heads), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_answers_a_preflight_and_touches_no_engine() {
    let app = Setup::new().start().await;
    let request = format!(
        "OPTIONS {} HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nAccess-Control-Request-Method: GET\r\n\r\n",
        stream(ID)
    );
    let reply = send(app.address(), &request).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("GET")));
    assert!(reply.header("access-control-allow-headers").is_some_and(|headers| headers.contains("range")));
    assert_eq!(app.ledger.counts().starts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_gets_a_body_that_the_connection_ends() {
    let app = Setup::new().start().await;
    let request = format!("GET {} HTTP/1.0\r\n\r\n", stream(ID));
    let mut reply = send(app.address(), &request).await;
    assert_golden(&reply);
    assert_eq!(reply.header("transfer-encoding"), None);
    let bytes = reply.next().await.expect("media");
    assert_eq!(bytes[0], 0x47, "no chunk framing in front of the packets");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_opens_twice_has_one_engine_session() {
    let app = Setup::new().start().await;
    drop(get(app.address(), &stream(ID)).await);
    let mut second = StrictViewer::open(app.address(), ID).await;
    second.watch(Duration::from_millis(300)).await;
    second.assert_perfect();
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_that_dies_and_cannot_be_healed_is_aborted_and_not_ended() {
    for (version, expected) in [("1.1", BodyEnd::Cut), ("1.0", BodyEnd::Reset)] {
        let app = Setup::new().set("HOLD_TIMEOUT", "2s").start().await;
        let request = format!("GET {} HTTP/{version}\r\nHost: a\r\n\r\n", stream(ID));
        let mut reply = send(app.address(), &request).await;
        assert!(reply.next().await.is_ok());
        app.engine().set_fault(Target::All, Fault::Eof { after_bytes: 0 });
        let (_, end) = within(Duration::from_secs(5), "the end", reply.body()).await;
        assert_eq!(end, expected, "HTTP/{version}");
        app.at_baseline().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_bodies_with_a_fin_and_leaves_nothing_on_the_engines() {
    let app = Setup::new().start().await;
    let mut reply = send(app.address(), &format!("GET {} HTTP/1.0\r\n\r\n", stream(ID))).await;
    assert!(reply.next().await.is_ok());
    let ledger = app.ledger.clone();
    // A viewer that reads: one that does not is waited for until DRAIN_TIMEOUT.
    let ((_, end), ()) = tokio::join!(reply.body(), within(Duration::from_secs(5), "the stop", app.stop()));
    assert_eq!(end, BodyEnd::Clean, "a close-delimited body ends with FIN, not with a reset");
    assert_eq!((ledger.counts().opened, ledger.counts().stops), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_sends_its_headers_is_closed() {
    let app = Setup::new().set("HEADER_TIMEOUT", "300ms").start().await;
    for beginning in ["", "GET /ace/getstream?id=", "GET /livez HTTP/1.1\r\nHost: a\r\nX-"] {
        let mut silent = TcpStream::connect(app.address()).await.expect("it listens");
        silent.write_all(beginning.as_bytes()).await.expect("it is open");
        let mut rest = Vec::new();
        let read = within(Duration::from_secs(3), "the close", silent.read_to_end(&mut rest)).await;
        assert!(read.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{beginning:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_never_reads_is_cut_and_hurts_nobody() {
    let app = Setup::new().set("VIEWER_STALL_TIMEOUT", "700ms").set("VIEWER_SNDBUF", "8192").start().await;
    let mut good = StrictViewer::open(app.address(), ID).await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        stalled.push(get_narrowly(app.address(), &stream(ID)).await);
    }
    good.watch(Duration::from_secs(2)).await;
    until("only the good viewer is left", || app.app.relay.viewers() == 1).await;
    good.assert_perfect();
    assert!(good.longest_silence() < Duration::from_millis(500), "{:?}", good.longest_silence());
    let page = get(app.address(), "/metrics").await.body().await.0;
    let page = String::from_utf8(page).expect("text");
    assert!(page.contains(r#"acemux_proxy_viewers_left_total{reason="stalled"} 10"#), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_falls_behind_skips_to_a_key_frame_and_is_told() {
    let engine =
        SimOptions { default_channel: ChannelKind::Verify { bitrate: 8_000_000 }, ..SimOptions::fast() };
    let app = Setup::with_engines([engine])
        .set("STREAM_BUFFER_SECONDS", "4s")
        .set("VIEWER_SNDBUF", "8192")
        .start()
        .await;
    let mut good = StrictViewer::open(app.address(), ID).await;
    let mut slow = StrictViewer::open_narrowly(app.address(), ID).await;
    slow.watch(Duration::from_millis(100)).await;
    // More than the ring and its sockets hold.
    good.watch_bytes(16_000_000).await;
    slow.watch(Duration::from_secs(2)).await;
    good.assert_perfect();
    let report = slow.report();
    assert!(report.lost > 0 && report.gaps_flagged > 0, "it was overtaken: {report:#?}");
    assert_eq!((report.gaps_unflagged, report.continuity_errors, report.unaligned), (0, 0, 0), "{report:#?}");
    assert_eq!((report.foreign, report.corrupt, report.repeated), (0, 0, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_stops_sending_keeps_its_stream() {
    let app = Setup::new().start().await;
    let mut warm = StrictViewer::open(app.address(), ID).await;
    warm.watch(Duration::from_millis(200)).await;
    let mut half = TcpStream::connect(app.address()).await.expect("it listens");
    half.write_all(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", stream(ID)).as_bytes()).await.expect("open");
    half.shutdown().await.expect("half of it closes");
    let mut got = 0;
    let mut buffer = vec![0; 65_536];
    while got < 1_000_000 {
        let bytes = within(Duration::from_secs(5), "media", half.read(&mut buffer)).await.expect("open");
        assert!(bytes > 0, "the stream goes on");
        got += bytes;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_a_stream_is_never_answered() {
    let app = Setup::new().start().await;
    let request = format!(
        "GET {} HTTP/1.0\r\n\r\nGET /ace/getstream?id={} HTTP/1.1\r\nHost: a\r\n\r\n",
        stream(ID),
        crate::id(7)
    );
    let mut reply = try_send(app.address(), &request).await.expect("a reply");
    assert!(reply.next().await.is_ok());
    assert_eq!(app.ledger.counts().starts, 1);
}
