//! People pause live television. A player that is paused reads nothing while its machine still answers; one that is gone
//! answers nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use acemux_server::http::serve::{Counters, ServeOptions, Server};
use acemux_sim::{ChannelKind, SimOptions, VOD_ID};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::get_narrowly;
use acemux_testkit::netns::{Machine, Network};
use acemux_testkit::{StrictViewer, get};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get as on_get;
use futures_util::stream;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{ID, id, stream as path_of};

/// So much that a paused player's sockets are full within a second.
fn engine() -> SimOptions {
    SimOptions { default_channel: ChannelKind::Verify { bitrate: 8_000_000 }, ..SimOptions::fast() }
}

async fn app(settings: &[(&'static str, &'static str)]) -> TestApp {
    let setup =
        Setup::with_engines([engine()]).set("VIEWER_SNDBUF", "8192").set("STREAM_BUFFER_SECONDS", "4s");
    settings.iter().fold(setup, |setup, (name, value)| setup.set(name, *value)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_viewer_is_kept_and_goes_on_at_a_key_frame_that_is_flagged() {
    let app = app(&[]).await;
    let mut reading = StrictViewer::open(app.address(), ID).await;
    let mut paused = StrictViewer::open_narrowly(app.address(), ID).await;
    paused.watch(Duration::from_millis(200)).await;
    // Longer than what counts as a pause, and than history lasts.
    reading.watch(Duration::from_secs(15)).await;
    assert_eq!(app.app.relay.viewers(), 2);
    tokio::join!(paused.watch(Duration::from_secs(4)), reading.watch(Duration::from_secs(4)));
    reading.assert_perfect();
    let report = paused.report();
    assert!(report.lost > 0 && report.gaps_flagged > 0, "{report:#?}");
    assert_eq!((report.gaps_unflagged, report.continuity_errors, report.unaligned), (0, 0, 0), "{report:#?}");
    assert!(paused.since_media() < Duration::from_secs(1), "it goes on");
    assert_eq!(app.app.relay.viewers(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_has_its_limit() {
    let app = app(&[("VIEWER_STALL_TIMEOUT", "3s")]).await;
    let mut paused = get_narrowly(app.address(), &path_of(ID)).await;
    paused.next().await.expect("media");
    let began = Instant::now();
    until("it is cut", || app.app.relay.viewers() == 0).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_seats_run_short_whoever_is_paused_longest_gives_way_and_nobody_who_watches() {
    let app = app(&[("MAX_VIEWERS", "3")]).await;
    let mut reading = StrictViewer::open(app.address(), ID).await;
    let mut long = get_narrowly(app.address(), &path_of(ID)).await;
    reading.watch(Duration::from_secs(3)).await;
    let mut short = get_narrowly(app.address(), &path_of(ID)).await;
    assert_eq!(get(app.address(), &path_of(ID)).await.status, 503, "three seconds are no pause");
    reading.watch(Duration::from_secs(12)).await;
    let mut newcomer = StrictViewer::open(app.address(), ID).await;
    let cut = within(Duration::from_secs(5), "the cut", long.body()).await;
    assert_ne!(cut.1, acemux_testkit::http::BodyEnd::Clean);
    until("three are there", || app.app.relay.viewers() == 3).await;
    // The next one takes the other's.
    let _another = get(app.address(), &path_of(ID)).await;
    let _cut = within(Duration::from_secs(5), "the cut", short.body()).await;
    assert_eq!(get(app.address(), &path_of(ID)).await.status, 503, "those who are left watch");
    tokio::join!(reading.watch(Duration::from_secs(1)), newcomer.watch(Duration::from_secs(1)));
    reading.assert_perfect();
    newcomer.assert_perfect();
    let page = String::from_utf8(get(app.address(), "/metrics").await.body().await.0).expect("text");
    assert!(page.contains(r#"acemux_proxy_viewers_left_total{reason="gave_way"} 2"#), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_memory_runs_short_a_stream_whose_viewers_are_all_paused_ends() {
    let app = app(&[("STREAM_MEMORY", "8MiB")]).await;
    let mut reading = StrictViewer::open(app.address(), ID).await;
    let mut paused = get_narrowly(app.address(), &path_of(&id(1))).await;
    assert_eq!(get(app.address(), &path_of(&id(2))).await.status, 503, "there is memory for two");
    reading.watch(Duration::from_secs(14)).await;
    assert_eq!(get(app.address(), &path_of(&id(2))).await.status, 200);
    let _cut = within(Duration::from_secs(5), "the cut", paused.body()).await;
    reading.watch(Duration::from_secs(1)).await;
    reading.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_engines_run_short_the_stream_that_has_been_paused_longest_ends_and_none_that_is_watched() {
    let app = app(&[("MAX_STREAMS_PER_ENGINE", "2"), ("ENGINE_SELECTION_TIMEOUT", "1s")]).await;
    let mut reading = StrictViewer::open(app.address(), ID).await;
    let mut paused = get_narrowly(app.address(), &path_of(&id(1))).await;
    assert_eq!(get(app.address(), &path_of(&id(2))).await.status, 503, "there are slots for two");
    reading.watch(Duration::from_secs(14)).await;
    let others = async {
        let mut newcomer = StrictViewer::open(app.address(), &id(2)).await;
        let next = async {
            let cut = within(Duration::from_secs(5), "the cut", paused.body()).await;
            assert_ne!(cut.1, acemux_testkit::http::BodyEnd::Clean);
            get(app.address(), &path_of(&id(3))).await.status
        };
        let (status, _) = tokio::join!(next, newcomer.watch(Duration::from_secs(4)));
        assert_eq!(status, 503, "those who are left watch");
        newcomer.assert_perfect();
    };
    tokio::join!(others, reading.watch(Duration::from_secs(8)));
    reading.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_recording_and_has_read_ahead_is_not_put_out() {
    let app = app(&[("MAX_VIEWERS", "1")]).await;
    let mut reading = get_narrowly(app.address(), &path_of(VOD_ID)).await;
    assert_eq!(reading.status, 200);
    sleep(Duration::from_secs(13)).await;
    assert_eq!(get(app.address(), &path_of(ID)).await.status, 503, "it may play what it has");
    // More than sockets hold.
    let mut left = 4 << 20;
    while left > 0 {
        let bytes = within(Duration::from_secs(5), "the rest", reading.next()).await.expect("it goes on");
        left -= bytes.len().min(left);
    }
}

/// Endless bytes for machines on the network, from a server that waits two seconds for an answer.
struct Endless {
    port: u16,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Endless {
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's process, and the token stops it")]
    async fn serve() -> Self {
        let body = || async {
            let bytes = Bytes::from(vec![0x47; 64 * 1024]);
            Body::from_stream(stream::repeat_with(move || Ok::<_, std::convert::Infallible>(bytes.clone())))
        };
        let counters = Arc::<Counters>::default();
        let options = ServeOptions {
            peer_timeout: Duration::from_secs(3),
            stall_timeout: None,
            counters: Arc::clone(&counters),
            ..ServeOptions::default()
        };
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let stop = CancellationToken::new();
        let server = Server::new(Router::new().route("/", on_get(body)), options);
        tokio::spawn({
            let stop = stop.clone();
            async move { server.accept(listener, &stop).await }
        });
        Self { port, counters, stop }
    }

    fn open(&self) -> u64 {
        self.counters.open.load(Ordering::Relaxed)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A player on the machine, which reads when its output is read.
async fn player(machine: &Machine, hub: SocketAddr) -> (Child, ChildStdout) {
    let mut command = machine.command("curl");
    command.args(["-s", "-N", &format!("http://{hub}/")]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut player = command.spawn().expect("curl is installed");
    let mut output = player.stdout.take().expect("it is piped");
    let first = within(Duration::from_secs(10), "the first bytes", output.read_exact(&mut [0; 1000])).await;
    first.expect("it plays");
    (player, output)
}

/// Nothing that the machine sends arrives any more.
async fn dies(machine: &Machine) {
    let hub = format!("10.77.{}.1", machine.address().octets()[2]);
    let cut = machine.command("ip").args(["route", "add", "blackhole", &format!("{hub}/32")]).status();
    assert!(cut.await.expect("ip runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_answers_is_kept_for_any_number_of_timeouts_and_a_dead_one_is_cut_in_one() {
    let name = "pauses::a_peer_that_answers_is_kept_for_any_number_of_timeouts_and_a_dead_one_is_cut_in_one";
    let Some(mut network) = Network::enter(name, Duration::from_secs(100)).await else { return };
    let server = Endless::serve().await;
    let (paused, reading, dying) =
        (network.machine().await, network.machine().await, network.machine().await);
    let hub = |machine: &Machine| SocketAddr::from(([10, 77, machine.address().octets()[2], 1], server.port));
    let (_paused, mut output) = player(&paused, hub(&paused)).await;
    let (_dying, _unread) = player(&dying, hub(&dying)).await;
    let (_reading, mut read) = player(&reading, hub(&reading)).await;
    // Four times as long as a peer may owe an answer. Asked in time, both paused ones have answered.
    let until_then = Instant::now() + Duration::from_secs(12);
    let mut waste = vec![0; 1 << 20];
    while Instant::now() < until_then {
        let got = within(Duration::from_secs(5), "bytes", read.read(&mut waste)).await.expect("it plays");
        assert!(got > 0);
    }
    assert_eq!((server.open(), server.counters.stalled.load(Ordering::Relaxed)), (3, 0));

    // One that is paused and one that reads are gone without a word.
    let died = Instant::now();
    tokio::join!(dies(&dying), dies(&reading));
    until("both are cut", || server.open() == 1).await;
    let took = died.elapsed();
    println!("a dead peer is gone after {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(server.counters.stalled.load(Ordering::Relaxed), 2);

    // The other has its bytes when it goes on.
    let mut left = 8 << 20;
    while left > 0 {
        let got = within(Duration::from_secs(5), "bytes", output.read(&mut waste)).await.expect("it plays");
        assert!(got > 0, "it was kept");
        left -= got.min(left);
    }
}

/// As users have it: three minutes of pause, and 60 s for a peer that is dead.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/test --long"]
async fn a_pause_of_three_minutes_and_a_dead_peer_at_full_length() {
    let name = "pauses::a_pause_of_three_minutes_and_a_dead_peer_at_full_length";
    let Some(mut network) = Network::enter(name, Duration::from_mins(8)).await else { return };
    let engine =
        SimOptions { default_channel: ChannelKind::Verify { bitrate: 8_000_000 }, ..SimOptions::fast() };
    let app = Setup::as_shipped([engine]).set("APP_HOST", "0.0.0.0").start().await;
    let (paused, dying) = (network.machine().await, network.machine().await);
    let url = |machine: &Machine| {
        let hub = [10, 77, machine.address().octets()[2], 1];
        format!("http://{}{}", SocketAddr::from((hub, app.address().port())), path_of(ID))
    };
    let play = |machine: &Machine| {
        let mut command = machine.command("curl");
        command.args(["-s", "-N", &url(machine)]).stdout(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("curl is installed")
    };
    let (mut one, mut other) = (play(&paused), play(&dying));
    let mut output = one.stdout.take().expect("it is piped");
    let _unread = other.stdout.take().expect("it is piped");
    within(Duration::from_secs(20), "media", output.read_exact(&mut [0; 1000])).await.expect("it plays");
    until("both watch", || app.app.relay.viewers() == 2).await;
    sleep(Duration::from_mins(3)).await;
    assert_eq!(app.app.relay.viewers(), 2, "both are paused, and answer");
    let died = Instant::now();
    dies(&dying).await;
    while app.app.relay.viewers() == 2 && died.elapsed() < Duration::from_mins(2) {
        sleep(Duration::from_millis(200)).await;
    }
    println!("a dead peer is gone after {:?}", died.elapsed());
    assert!(died.elapsed() < Duration::from_secs(70), "{:?}", died.elapsed());
    let mut waste = vec![0; 1 << 20];
    let mut left = 16 << 20;
    while left > 0 {
        let got = within(Duration::from_secs(10), "bytes", output.read(&mut waste)).await.expect("it plays");
        assert!(got > 0, "it was kept");
        left -= got.min(left);
    }
}
