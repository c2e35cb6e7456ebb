//! The accept loop against clients that speak bytes: every way to stay for ever meets its deadline, and every
//! end looks as it should.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use acemux_relay::line::Line;
use acemux_server::http::serve::{
    AbortOnError, AbortSwitch, ConnectionControl, Counters, Ending, Ends, ServeOptions,
};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::routing::get;
use axum::{Router, response::Response};
use http_body::Frame;
use parking_lot::Mutex;
use support::{Running, patiently, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

const SHORT: Duration = Duration::from_millis(300);
const CHUNK: usize = 16 * 188;

/// Sends `left` chunks, then whatever `end` says.
struct TestBody {
    left: usize,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Fail(Failure),
    Hang,
    Panic,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failure {
    #[error("torn off")]
    Hard,
    #[error("shut down")]
    Soft,
}

impl Ends for Failure {
    fn ending(&self) -> Ending {
        if matches!(self, Failure::Hard) { Ending::Torn } else { Ending::Closed }
    }
}

impl http_body::Body for TestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0x47; CHUNK])))));
        }
        match self.end {
            End::Fail(failure) => Poll::Ready(Some(Err(failure))),
            End::Hang => Poll::Pending,
            End::Panic => panic!("a body's panic, made on purpose"),
        }
    }
}

/// A page that streams `chunks` chunks and then ends like that.
fn streaming(chunks: usize, end: End) -> Router {
    Router::new().route(
        "/",
        get(move |switch: AbortSwitch| async move {
            Response::new(Body::new(AbortOnError::new(TestBody { left: chunks, end }, switch)))
        }),
    )
}

fn endless() -> Router {
    streaming(usize::MAX, End::Hang)
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

fn options() -> (ServeOptions, Arc<Counters>) {
    let options = ServeOptions::default();
    let counters = Arc::clone(&options.counters);
    (options, counters)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const GET_1_0: &str = "GET / HTTP/1.0\r\n\r\n";

// Viewers that stop reading

#[tokio::test]
async fn a_viewer_that_stops_reading_is_cut_with_a_reset_after_the_stall_timeout() {
    let (options, counters) = options();
    let server = Running::start(endless(), ServeOptions { stall_timeout: Some(SHORT), ..options }).await;
    let mut client = server.connect_with_small_buffer().await;
    let begin = Instant::now();
    client.send(GET).await;
    until(|| counters.stalled.load(Ordering::Relaxed) == 1).await;
    assert!(begin.elapsed() >= SHORT);
    assert!(begin.elapsed() < SHORT * 10, "cut after {:?}", begin.elapsed());
    let (_, end) = client.read_to_end().await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    until(|| counters.open.load(Ordering::Relaxed) == 0).await;
}

/// Takes note, when it is dropped, whether its connection ended by a stall.
struct Noting {
    body: TestBody,
    line: Line,
    stalls: Arc<Mutex<Vec<bool>>>,
}

impl http_body::Body for Noting {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.stalls.lock().push(self.line.is_stalled());
    }
}

#[tokio::test]
async fn a_stream_knows_when_it_is_dropped_whether_its_viewer_left_or_stalled() {
    let stalls = Arc::new(Mutex::new(Vec::new()));
    let app = Router::new().route(
        "/",
        get({
            let stalls = Arc::clone(&stalls);
            async move |switch: AbortSwitch| {
                let body = TestBody { left: usize::MAX, end: End::Hang };
                let noting = Noting { body, line: switch.line(), stalls };
                Response::new(Body::new(AbortOnError::new(noting, switch)))
            }
        }),
    );
    let (options, _) = options();
    let server = Running::start(app, ServeOptions { stall_timeout: Some(SHORT), ..options }).await;
    let mut reader = server.connect().await;
    reader.send(GET).await;
    reader.read_bytes(CHUNK).await;
    drop(reader);
    until(|| *stalls.lock() == [false]).await;
    let mut stalled = server.connect_with_small_buffer().await;
    stalled.send(GET).await;
    until(|| *stalls.lock() == [false, true]).await;
}

#[tokio::test]
async fn a_slow_viewer_that_keeps_reading_stays() {
    let (options, counters) = options();
    let options = ServeOptions { stall_timeout: Some(SHORT * 3), send_buffer: 16 * 1024, ..options };
    let server = Running::start(endless(), options).await;
    let mut client = server.connect_with_small_buffer().await;
    client.send(GET).await;
    let begin = Instant::now();
    let mut pace = tokio::time::interval(SHORT / 10);
    while begin.elapsed() < SHORT * 5 {
        pace.tick().await;
        client.read_bytes(8 * 1024).await;
    }
    assert_eq!(counters.stalled.load(Ordering::Relaxed), 0);
    assert_eq!(counters.open.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_stall_timeout_a_viewer_may_pause_and_its_page_says_for_how_long() {
    let (sender, control) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let app = endless().layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let control = request.extensions().get::<ConnectionControl>().unwrap().clone();
            if let Some(sender) = sender.lock().take() {
                sender.send(control).unwrap();
            }
            next.run(request)
        },
    ));
    let (options, _) = options();
    let server = Running::start(app, ServeOptions { stall_timeout: None, ..options }).await;
    let mut client = server.connect_with_small_buffer().await;
    client.send(GET).await;
    let control = patiently(control).await.unwrap();
    until(|| control.blocked_for().is_some_and(|time| time > SHORT)).await;
    assert_eq!(control.peer(), client.0.local_addr().unwrap());
    let before = control.bytes_written();
    client.read_bytes(1024 * 1024).await;
    until(|| control.bytes_written() > before).await;
}

#[tokio::test]
async fn a_viewer_can_be_thrown_out() {
    let app = Router::new().route(
        "/",
        get(|Extension(control): Extension<ConnectionControl>| async move {
            control.line().cut();
            Response::new(Body::new(AbortOnError::new(
                TestBody { left: 1, end: End::Hang },
                AbortSwitch::default(),
            )))
        }),
    );
    let server = Running::start(app, options().0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    assert_eq!(client.read_to_end().await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

// How a broken body ends

#[tokio::test]
async fn a_torn_body_that_ends_with_the_connection_is_reset() {
    for request in [GET_1_0, GET_CLOSE, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"] {
        let server = Running::start(streaming(2, End::Fail(Failure::Hard)), options().0).await;
        let mut client = server.connect().await;
        client.send(request).await;
        let (_, end) = client.read_to_end().await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "{request}");
    }
}

#[tokio::test]
async fn a_torn_chunked_body_ends_without_its_terminator() {
    let server = Running::start(streaming(2, End::Fail(Failure::Hard)), options().0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    let (reply, end) = client.read_to_end().await;
    end.unwrap();
    assert!(reply.contains("transfer-encoding: chunked"), "{reply}");
    assert_eq!(reply.matches("GGGG").count(), 2 * CHUNK / 4, "what was sent before has arrived");
    assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
}

#[tokio::test]
async fn a_body_that_ends_in_a_shutdown_is_closed_and_not_reset() {
    for request in [GET, GET_CLOSE, GET_1_0] {
        let server = Running::start(streaming(2, End::Fail(Failure::Soft)), options().0).await;
        let mut client = server.connect().await;
        client.send(request).await;
        let (reply, end) = client.read_to_end().await;
        end.unwrap();
        assert_eq!(reply.matches("GGGG").count(), 2 * CHUNK / 4, "what was sent before has arrived");
        assert!(!reply.ends_with("0\r\n\r\n"), "{reply}");
    }
}

#[tokio::test]
async fn a_panic_in_one_body_ends_one_connection_with_a_reset() {
    let (options, counters) = options();
    let server = Running::start(streaming(2, End::Panic), options).await;
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(GET_1_0).await;
        assert_eq!(client.read_to_end().await.1.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    until(|| counters.open.load(Ordering::Relaxed) == 0).await;
}

// Clients that say too little or too much

#[tokio::test]
async fn a_client_without_a_whole_request_head_is_closed_at_the_header_timeout() {
    let (options, counters) = options();
    let server = Running::start(hello(), ServeOptions { header_timeout: SHORT, ..options }).await;
    for start in ["", "GE", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = server.connect().await;
        let begin = Instant::now();
        client.send(start).await;
        let (reply, _) = client.read_to_end().await;
        assert_eq!(reply, "", "after {start:?}");
        assert!(begin.elapsed() >= SHORT && begin.elapsed() < SHORT * 10, "{:?}", begin.elapsed());
    }
    until(|| counters.silent.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn a_dripped_request_head_does_not_move_its_deadline() {
    let server = Running::start(hello(), ServeOptions { header_timeout: SHORT, ..options().0 }).await;
    let mut client = server.connect().await;
    let begin = Instant::now();
    let mut pace = tokio::time::interval(SHORT / 6);
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Long: ".bytes().chain(std::iter::repeat(b'x'));
    for byte in head {
        pace.tick().await;
        if client.0.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    assert!(begin.elapsed() < SHORT * 10, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_idle_kept_alive_connection_is_closed() {
    let server = Running::start(hello(), ServeOptions { header_timeout: SHORT, ..options().0 }).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    client.read_until("hello").await;
    client.send(GET).await;
    client.read_until("hello").await;
    let begin = Instant::now();
    assert_eq!(client.read_to_end().await.0, "");
    assert!(begin.elapsed() < SHORT * 10, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn sixty_four_headers_are_accepted_and_one_more_is_not() {
    let server = Running::start(hello(), options().0).await;
    for (count, status) in [(64, "HTTP/1.1 200"), (65, "HTTP/1.1 431")] {
        let mut client = server.connect().await;
        let headers = "X-Header: value\r\n".repeat(count);
        client.send(&format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with(status), "{count} headers");
    }
}

#[tokio::test]
async fn a_request_head_without_an_end_is_refused_and_the_refusal_arrives() {
    let server = Running::start(hello(), options().0).await;
    let mut client = server.connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(100_000))).await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_request_behind_a_stream_is_not_looked_at() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let app = streaming(4, End::Hang).layer(axum::middleware::map_request(
        move |request: axum::extract::Request| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(request)
        },
    ));
    let server = Running::start(app, ServeOptions { drain_timeout: SHORT, ..options().0 }).await;
    let mut client = server.connect().await;
    client.send(&format!("{GET}{GET}")).await;
    client.read_bytes(4 * CHUNK).await;
    client.send(GET).await;
    server.begin_stop();
    let stopped = patiently(server.stopped());
    drop(client);
    stopped.await;
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

// Clients that shut down their sending side

#[tokio::test]
async fn a_half_closed_viewer_keeps_its_stream() {
    let server = Running::start(endless(), options().0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    client.0.shutdown().await.unwrap();
    client.read_bytes(32 * 1024 * 1024).await;
}

/// A page whose reply comes when told, and that tells when its client was given up.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Notify>,
    reply: Arc<Notify>,
    given_up: Arc<Notify>,
}

struct TellDropped(Arc<Notify>);

impl Drop for TellDropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Slow {
    fn app(&self) -> Router {
        let handler = async |State(slow): State<Slow>| {
            let _tell = TellDropped(Arc::clone(&slow.given_up));
            slow.begun.notify_one();
            slow.reply.notified().await;
            "at last"
        };
        Router::new().route("/", get(handler)).with_state(self.clone())
    }
}

#[tokio::test]
async fn a_half_closed_client_gets_a_reply_that_begins_within_the_grace() {
    let slow = Slow::default();
    let server = Running::start(slow.app(), options().0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    client.0.shutdown().await.unwrap();
    patiently(slow.begun.notified()).await;
    slow.reply.notify_one();
    client.read_until("at last").await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_reply_begins_is_given_up_after_the_grace() {
    let slow = Slow::default();
    let server = Running::start(slow.app(), ServeOptions { half_close_grace: SHORT, ..options().0 }).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    patiently(slow.begun.notified()).await;
    let begin = Instant::now();
    drop(client);
    patiently(slow.given_up.notified()).await;
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < SHORT * 10, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_client_that_resets_before_its_reply_begins_is_given_up_at_once() {
    let slow = Slow::default();
    let grace = Duration::from_hours(1);
    let server = Running::start(slow.app(), ServeOptions { half_close_grace: grace, ..options().0 }).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    patiently(slow.begun.notified()).await;
    client.reset();
    patiently(slow.given_up.notified()).await;
}

// Limits

#[tokio::test]
async fn above_the_connection_limit_a_client_is_told_so_and_running_viewers_go_on() {
    let (options, counters) = options();
    let options = ServeOptions { max_connections: 2, loopback_places: 0, ..options };
    let server = Running::start(endless(), options).await;
    let mut viewers = [server.connect().await, server.connect().await];
    for viewer in &mut viewers {
        viewer.send(GET).await;
        viewer.read_bytes(CHUNK).await;
    }
    for _ in 0..100 {
        let mut client = server.connect().await;
        client.send(GET).await;
        let (reply, _) = client.read_to_end().await;
        assert!(reply.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{reply}");
        assert!(reply.contains("retry-after: "), "{reply}");
        assert!(reply.contains("\"code\":\"server_full\""), "{reply}");
    }
    for viewer in &mut viewers {
        viewer.read_bytes(8 * 1024 * 1024).await;
    }
    drop(viewers);
    until(|| counters.open.load(Ordering::Relaxed) == 0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    client.read_until("HTTP/1.1 200 OK\r\n").await;
    assert_eq!(counters.refused_full.load(Ordering::Relaxed), 100);
}

#[tokio::test]
async fn above_its_own_limit_an_address_is_told_so_and_others_are_served() {
    let (options, counters) = options();
    let server = Running::start(endless(), ServeOptions { max_connections_per_ip: 1, ..options }).await;
    let mut first = server.connect().await;
    first.send(GET).await;
    first.read_bytes(CHUNK).await;
    let mut second = server.connect().await;
    let (reply, end) = second.read_to_end().await;
    end.unwrap();
    assert!(reply.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{reply}");
    assert!(reply.contains("\"code\":\"too_many_requests\""), "{reply}");
    let mut other = server.connect_from([127, 0, 0, 2].into()).await;
    other.send(GET).await;
    other.read_bytes(CHUNK).await;
    assert_eq!(counters.refused_address.load(Ordering::Relaxed), 1);
    first.read_bytes(CHUNK).await;
}

/// Full, from two addresses that each may have two.
fn narrow() -> (ServeOptions, Arc<Counters>) {
    let (options, counters) = options();
    let options =
        ServeOptions { max_connections: 3, loopback_places: 0, max_connections_per_ip: 2, ..options };
    (options, counters)
}

#[tokio::test]
async fn whoever_asks_nothing_gives_way_whether_silent_dripping_or_kept_alive() {
    let (options, counters) = narrow();
    let server = Running::start(hello(), options).await;
    let mut idle = Vec::new();
    for address in 1..4 {
        idle.push(server.connect_from([127, 0, 0, address].into()).await);
    }
    idle[1].send("GET / HTTP/1.1\r\nHost: ").await;
    idle[2].send(GET).await;
    idle[2].read_until("hello").await;
    let mut newcomers = Vec::new();
    for address in 4..7 {
        let mut newcomer = server.connect_from([127, 0, 0, address].into()).await;
        newcomer.send(GET).await;
        newcomer.read_until("hello").await;
        newcomers.push(newcomer);
    }
    for client in &mut idle {
        let (rest, end) = client.read_to_end().await;
        assert_eq!(rest, "");
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    assert_eq!(counters.gave_way.load(Ordering::Relaxed), 3);
    assert_eq!(counters.refused_full.load(Ordering::Relaxed), 0);
    until(|| counters.open.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn a_request_under_way_gives_way_to_nobody() {
    let slow = Slow::default();
    let app =
        slow.app().route("/body", axum::routing::post(async |body: String| body)).merge(Router::new().route(
            "/stream",
            get(|switch: AbortSwitch| async move {
                Response::new(Body::new(AbortOnError::new(
                    TestBody { left: usize::MAX, end: End::Hang },
                    switch,
                )))
            }),
        ));
    let (options, counters) = narrow();
    let server = Running::start(app, options).await;
    // One waits for its reply, one sends its body, one has not taken all of its reply yet.
    let mut waiting = server.connect().await;
    waiting.send(GET).await;
    patiently(slow.begun.notified()).await;
    let mut sending = server.connect().await;
    sending.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await;
    let mut watching = server.connect_from([127, 0, 0, 2].into()).await;
    watching.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n").await;
    watching.read_bytes(CHUNK).await;
    until(|| counters.open.load(Ordering::Relaxed) == 3).await;
    for (newcomer, status) in [(1, "429"), (2, "503"), (3, "503")] {
        let (reply, _) = server.connect_from([127, 0, 0, newcomer].into()).await.read_to_end().await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
    }
    assert_eq!(counters.gave_way.load(Ordering::Relaxed), 0);
    sending.send("cd").await;
    sending.read_until("abcd").await;
    slow.reply.notify_one();
    waiting.read_until("at last").await;
    watching.read_bytes(CHUNK).await;
}

#[tokio::test]
async fn a_reply_that_the_client_has_not_taken_whole_gives_way_to_nobody() {
    const LONG: usize = 16 * 1024 * 1024;
    let app = hello().route("/long", get(async || vec![b'a'; LONG]));
    let (options, counters) = narrow();
    let server = Running::start(app, ServeOptions { max_connections: 1, ..options }).await;
    let mut slow = server.connect_with_small_buffer().await;
    slow.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").await;
    slow.read_bytes(CHUNK).await;
    let (reply, _) = server.connect().await.read_to_end().await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    slow.read_bytes(LONG - CHUNK).await;
    assert_eq!(counters.gave_way.load(Ordering::Relaxed), 0);
}

// Shutdown

#[tokio::test]
async fn stopping_closes_the_port_and_idle_connections_at_once() {
    let server = Running::start(hello(), options().0).await;
    let mut idle = server.connect().await;
    idle.send(GET).await;
    idle.read_until("hello").await;
    let mut fresh = server.connect().await;
    // The loop accepts in order, so an answer here means that `fresh` has its task.
    let mut witness = server.connect().await;
    witness.send(GET_CLOSE).await;
    witness.read_until("hello").await;
    let address = server.address;
    let begin = Instant::now();
    server.begin_stop();
    for client in [&mut idle, &mut fresh] {
        let (rest, end) = client.read_to_end().await;
        end.unwrap();
        assert_eq!(rest, "");
    }
    let outcome = server.stopped().await;
    assert_eq!((outcome.accepted, outcome.cut), (3, 0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_running_reply_ends_by_itself_while_draining() {
    let slow = Slow::default();
    let server = Running::start(slow.app(), options().0).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    patiently(slow.begun.notified()).await;
    server.begin_stop();
    slow.reply.notify_one();
    let (reply, end) = client.read_to_end().await;
    end.unwrap();
    assert!(reply.ends_with("at last"), "{reply}");
    assert_eq!(server.stopped().await.cut, 0);
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_drain_deadline() {
    let server = Running::start(endless(), ServeOptions { drain_timeout: SHORT, ..options().0 }).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    client.read_bytes(CHUNK).await;
    let begin = Instant::now();
    server.begin_stop();
    let (outcome, (_, end)) = tokio::join!(server.stopped(), client.read_to_end());
    assert_eq!(outcome.cut, 1);
    assert!(begin.elapsed() >= SHORT && begin.elapsed() < SHORT * 20, "{:?}", begin.elapsed());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
