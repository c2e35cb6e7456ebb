//! What viewers do wrong: the rows V1–V19 of the reliability catalogue.
//!
//! | row | test |
//! |---|---|
//! | V1 | `v1_a_viewer_that_stops_reading_is_cut_as_stalled_and_the_others_see_nothing`, `contract::a_viewer_that_never_reads_is_cut_and_hurts_nobody` |
//! | V2 | `v2_a_hundred_and_fifty_of_five_hundred_stall_at_once_and_the_rest_and_the_pages_go_on` |
//! | V3 | `v3_a_viewer_at_half_the_bit_rate_gets_only_announced_jumps_on_whole_packets` |
//! | V4 | `limits::a_viewer_that_takes_a_few_bytes_now_and_then_is_cut_all_the_same` |
//! | V5 | `v5_a_viewer_whose_host_is_gone_is_noticed` |
//! | V6 | `v6_a_viewer_that_half_closes_keeps_its_stream`; before the reply: server tests `serve` |
//! | V7 | `v7_a_reset_in_mid_body_gives_everything_back_within_a_second` |
//! | V8 | `v8_a_flood_of_silent_sockets_is_bounded_and_others_join_meanwhile` |
//! | V9 | `v9_slow_headers_end_at_their_deadline_and_the_service_stays_available`, `v9_slow_bodies_…` |
//! | V10 | `v10_an_accept_storm_on_one_channel_is_one_session_and_every_refusal_says_when_to_come_back` |
//! | V11 | `sharing::five_hundred_first_requests_open_one_session_and_all_get_video`; creations: fleet tests |
//! | V12 | `starts::a_herd_on_many_channels_fills_what_there_is_and_the_rest_is_told_so_in_time`; creations: fleet tests |
//! | V13 | `v13_zapping_leaves_no_session_descriptor_or_thread`, `failures::two_hundred_random_dead_and_alive_ids_…` |
//! | V14 | `v14_viewers_that_leave_during_a_slow_start_leave_nothing`, `failures::a_start_whose_viewer_has_left_is_stopped` |
//! | V15 | `v15_of_two_viewers_behind_one_address_one_leaves_and_the_other_sees_nothing` |
//! | V16 | `v16_conditions_and_ranges_are_ignored_and_the_body_plays`, `contract::head_…`, `contract::options_…` |
//! | V17 | `hls::who_stops_asking_has_left` |
//! | V18 | nothing to test before server-sent events exist |
//! | V19 | `v19_what_comes_behind_a_get_never_reaches_the_engine` |

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::{ChannelKind, Fault, SimOptions, Target, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::faultproxy::{FaultProxy, Toxics, Way};
use acemux_testkit::http::{BodyEnd, Reply, connect_from, get_from, get_narrowly, send_over, try_send};
use acemux_testkit::oracle::has_own_process;
use acemux_testkit::{Oracle, StrictViewer, Witness, get, send};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{ID, home, id, stream};

/// Another viewer's address.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A channel so thin that checking every packet of many viewers costs nothing.
fn thin(bitrate: u64) -> SimOptions {
    SimOptions { default_channel: ChannelKind::Verify { bitrate }, ..SimOptions::fast() }
}

/// Numbers that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27) % limit
    }
}

/// Connections that ask and then never read.
async fn stalled(app: &TestApp, count: usize) -> Vec<Reply> {
    let mut stalled = Vec::new();
    for _ in 0..count {
        stalled.push(get_narrowly(app.address(), &stream(ID)).await);
    }
    stalled
}

/// Small buffers, so that a viewer that does not read is noticed within its stall timeout.
fn quick_to_stall() -> Setup {
    Setup::new().set("VIEWER_STALL_TIMEOUT", "2s").set("VIEWER_SNDBUF", "8192")
}

#[tokio::test(flavor = "multi_thread")]
async fn v1_a_viewer_that_stops_reading_is_cut_as_stalled_and_the_others_see_nothing() {
    let (app, witness) = (quick_to_stall().start().await, Witness::start().await);
    let oracle = Oracle::of(&app).await;
    let mut good = StrictViewer::open(app.address(), ID).await;
    let began = Instant::now();
    let held = stalled(&app, 1).await;
    good.watch(Duration::from_millis(1_500)).await;
    assert_eq!(app.app.relay.viewers(), 2, "a pause below the timeout is allowed");
    let gone = async {
        until("it is cut", || app.app.relay.viewers() == 1).await;
        began.elapsed()
    };
    let (after, end) = tokio::join!(gone, good.watch(Duration::from_secs(5)));
    assert!(end.is_none());
    // A socket takes some of the stream before it is full.
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&after), "cut after {after:?}");
    assert_eq!((oracle.left("stalled").await, oracle.left("left").await), (1, 0));
    good.assert_perfect();
    witness.assert_undisturbed([&good]).await;
    drop(held);
    oracle.check_now();
}

#[tokio::test(flavor = "multi_thread")]
async fn v2_a_hundred_and_fifty_of_five_hundred_stall_at_once_and_the_rest_and_the_pages_go_on() {
    let name = "viewer_faults::v2_a_hundred_and_fifty_of_five_hundred_stall_at_once_and_the_rest_and_the_pages_go_on";
    if !has_own_process(name, Duration::from_secs(50)).await {
        return;
    }
    let setup = Setup::with_engines([thin(250_000)]).set("VIEWER_STALL_TIMEOUT", "3s");
    let app = setup.set("VIEWER_SNDBUF", "8192").set("MAX_VIEWERS_PER_IP", "1000").start().await;
    let witness = Witness::start().await;
    let oracle = Oracle::of(&app).await;
    let good = join_all((0..350).map(|_| StrictViewer::open(app.address(), ID))).await;
    let good = watch_all(&oracle, good, Duration::from_secs(3)).await;
    let before = resident();
    let watching = watch_all(&oracle, good, Duration::from_secs(2));
    let (held, good) = tokio::join!(stalled(&app, 150), watching);
    assert_eq!(app.app.relay.viewers(), 500, "they are waited for");
    let per_stalled = resident().saturating_sub(before) / 150;
    println!("{per_stalled} bytes for each that stalls");
    assert!(per_stalled <= 64 * 1024, "{per_stalled} bytes for each that stalls");
    let good = watch_all(&oracle, good, Duration::from_secs(6)).await;
    good.iter().for_each(StrictViewer::assert_perfect);
    witness.assert_undisturbed(&good).await;
    until("the stalled ones are gone", || app.app.relay.viewers() == 350).await;
    assert_eq!(oracle.left("stalled").await, 150);
    assert_eq!(app.ledger.counts().opened, 1, "the engine saw nothing of it");
    drop(held);
}

/// All of them watch, each in a task of its own so that none waits for another one's packets to be checked, and what
/// must hold at any moment does, pages included.
async fn watch_all(oracle: &Oracle<'_>, viewers: Vec<StrictViewer>, time: Duration) -> Vec<StrictViewer> {
    let mut watching = JoinSet::new();
    for mut viewer in viewers {
        watching.spawn(async move { (viewer.watch(time).await, viewer) });
    }
    let watched = oracle.during(watching.join_all()).await;
    let (ends, viewers): (Vec<_>, Vec<_>) = watched.into_iter().unzip();
    assert!(ends.iter().all(Option::is_none), "{} were cut", ends.iter().flatten().count());
    viewers
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it names its memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Skips that Prometheus sees.
async fn lags(app: &TestApp) -> u64 {
    let metrics = get(app.address(), "/metrics").await.body().await.0;
    let metrics = String::from_utf8(metrics).expect("text");
    let value = metrics.lines().find_map(|line| line.strip_prefix("acemux_proxy_viewer_lags_total "));
    value.unwrap_or_else(|| panic!("{metrics}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn v3_a_viewer_at_half_the_bit_rate_gets_only_announced_jumps_on_whole_packets() {
    let bitrate = 3_000_000;
    let setup = Setup::with_engines([thin(bitrate)]);
    let settings = [("STREAM_BUFFER_SECONDS", "3s"), ("JOIN_BURST", "1s"), ("VIEWER_SNDBUF", "8192")];
    let app = settings.into_iter().fold(setup, |setup, (name, value)| setup.set(name, value)).start().await;
    let mut fast = StrictViewer::open(app.address(), ID).await;
    let mut slow = StrictViewer::open_narrowly(app.address(), ID).await;
    let time = Duration::from_secs(9);
    let (_, end) = tokio::join!(fast.watch(time), slow.watch_slowly(bitrate / 8 / 2, time));
    assert!(end.is_none(), "falling behind is no reason to be cut: {end:?}");
    slow.assert_only_announced_jumps();
    let report = slow.report();
    assert!(report.gaps_flagged >= 1 && report.lost > 0, "it must have fallen out: {report:#?}");
    // Tables, video and sound are announced, once each, in every jump.
    assert!(report.discontinuities <= report.gaps_flagged * 4, "{report:#?}");
    let skips: u64 = app.watching().iter().map(|viewer| viewer.skips).sum();
    assert!(skips >= report.gaps_flagged && skips <= report.gaps_flagged + 1, "{skips} and {report:#?}");
    let counted = lags(&app).await;
    let since: u64 = app.watching().iter().map(|viewer| viewer.skips).sum();
    assert!((skips..=since).contains(&counted), "{counted} counted, {skips} to {since} seen");
    fast.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn v5_a_viewer_whose_host_is_gone_is_noticed() {
    let app = quick_to_stall().set("STREAM_IDLE_TIMEOUT", "500ms").start().await;
    let proxy = FaultProxy::start(app.address());
    let oracle = Oracle::of(&app).await;
    let mut direct = StrictViewer::open(app.address(), ID).await;
    let client = direct.connection().local_address();
    match Blackout::between(client, app.address()).await {
        Ok(blackout) => {
            until("its host is missed", || app.app.relay.viewers() == 0).await;
            assert_eq!(oracle.left("stalled").await, 1);
            drop(direct);
            drop(blackout);
        }
        Err(why) => {
            println!("skipped: no packet filter here ({why}), a relay that falls silent takes its place");
            drop(direct);
            let hidden = StrictViewer::open(proxy.address(), ID).await;
            proxy.set_both(Toxics::silence());
            until("its host is missed", || app.app.relay.viewers() == 0).await;
            // While it is silent the relay does not see that both ends have left.
            drop(hidden);
            proxy.clear();
        }
    }
    oracle.at_rest().await;
}

/// All packets of one loopback connection are thrown away until this is dropped.
struct Blackout {
    rules: Vec<Vec<String>>,
}

impl Blackout {
    async fn between(client: SocketAddr, server: SocketAddr) -> Result<Self, String> {
        let mut blackout = Self { rules: Vec::new() };
        for (from, to) in [(client, server), (server, client)] {
            let rule = format!(
                "INPUT -i lo -p tcp -s {} --sport {} -d {} --dport {} -j DROP",
                from.ip(),
                from.port(),
                to.ip(),
                to.port()
            );
            let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
            let mut command = Command::new("iptables");
            command.args(["-w", "5", "-I"]).args(&rule).kill_on_drop(true);
            let output = within(Duration::from_secs(10), "iptables", command.output()).await;
            let output = output.map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            blackout.rules.push(rule);
        }
        Ok(blackout)
    }
}

impl Drop for Blackout {
    fn drop(&mut self) {
        for rule in &self.rules {
            // A rule for one connection that is over does no harm if it stays.
            let mut command = std::process::Command::new("iptables");
            let _removed = command.args(["-w", "5", "-D"]).args(rule).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn v6_a_viewer_that_half_closes_keeps_its_stream() {
    // Watched for longer than any of these.
    let setup = Setup::new().set("HEADER_TIMEOUT", "1s").set("VIEWER_STALL_TIMEOUT", "2s");
    let app = setup.set("STREAM_IDLE_TIMEOUT", "1s").start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(200)).await;
    viewer.connection().half_close().await.expect("it is open");
    let before = viewer.report().bytes;
    assert!(viewer.watch(Duration::from_secs(4)).await.is_none(), "it goes on");
    viewer.assert_perfect();
    // 3 Mbit/s: more than two seconds of media came after what was under way.
    assert!(viewer.report().bytes - before > 750_000, "{}", viewer.report().bytes - before);
    drop(viewer);
    until("it has left", || app.app.relay.viewers() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v7_a_reset_in_mid_body_gives_everything_back_within_a_second() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    let oracle = Oracle::of(&app).await;
    for _ in 0..3 {
        let mut viewers = join_all((0..10).map(|_| StrictViewer::open(app.address(), ID))).await;
        join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_millis(200)))).await;
        let left = Instant::now();
        viewers.into_iter().for_each(StrictViewer::reset);
        until("the seats are free", || app.app.relay.viewers() == 0).await;
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        app.at_baseline().await;
        // A second, and the 100 ms for which a stream stays warm.
        assert!(left.elapsed() < Duration::from_millis(1_100), "{:?}", left.elapsed());
    }
    oracle.at_rest().await;
    assert_eq!((oracle.left("left").await, oracle.left("stalled").await), (30, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn v8_a_flood_of_silent_sockets_is_bounded_and_others_join_meanwhile() {
    let app = Setup::new().set("HEADER_TIMEOUT", "3s").set("MAX_VIEWERS_PER_IP", "100").start().await;
    let witness = Witness::start().await;
    let connections = (0..2_000).map(|_| TcpStream::connect(app.address()));
    let mut flood: Vec<TcpStream> =
        join_all(connections).await.into_iter().map(|socket| socket.expect("the backlog takes it")).collect();
    let asked = Instant::now();
    let connection = connect_from(ELSEWHERE, app.address()).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", stream(ID));
    let reply = within(Duration::from_millis(500), "a join", send_over(connection, &request)).await;
    let mut viewer = StrictViewer::of_reply(reply, asked, ID).await;
    // What is beyond the address's share is told so at once, and closed.
    let told =
        join_all(flood.iter_mut().map(|socket| timeout(Duration::from_millis(500), first_line(socket))));
    let (told, _) = tokio::join!(told, viewer.watch(Duration::from_millis(500)));
    let open = told.iter().filter(|answer| answer.is_err()).count();
    assert_eq!(open, 100 + 64, "its viewers and pages");
    assert!(
        told.iter().flatten().all(|line| line.is_empty() || line.starts_with("HTTP/1.1 429")),
        "{told:?}"
    );
    // The rest meets the deadline for heads.
    let ended = join_all(flood.iter_mut().map(read_to_the_end));
    let (_, end) = tokio::join!(
        within(Duration::from_secs(6), "the closes", ended),
        viewer.watch(Duration::from_secs(4))
    );
    assert!(end.is_none());
    viewer.assert_perfect();
    witness.assert_undisturbed([&viewer]).await;
    assert_eq!(get(app.address(), "/livez").await.status, 200, "and the flooding address is welcome again");
}

/// The first line of what comes; empty when nothing comes and the connection ends.
async fn first_line(socket: &mut TcpStream) -> String {
    let mut bytes = [0; 4096];
    let read = socket.read(&mut bytes).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap_or_default().to_owned()
}

async fn read_to_the_end(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ended = socket.read_to_end(&mut rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v9_slow_headers_end_at_their_deadline_and_the_service_stays_available() {
    let app = Setup::new().set("HEADER_TIMEOUT", "2s").start().await;
    let oracle = Oracle::of(&app).await;
    let began = Instant::now();
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let address = app.address();
        slow.spawn(drip(address, began));
    }
    let lasted = oracle.during(within(Duration::from_secs(9), "the deadline", slow.join_all())).await;
    for time in lasted {
        assert!((Duration::from_millis(1_500)..Duration::from_secs(6)).contains(&time), "{time:?}");
    }
    assert_eq!(app.ledger.counts().starts, 0);
    oracle.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v9_slow_bodies_end_after_half_a_minute_and_the_service_stays_available() {
    let app = Setup::new().start().await;
    let oracle = Oracle::of(&app).await;
    let slow: Vec<_> = (0..50).map(|_| drip_body(app.address())).collect();
    for (time, line) in oracle.during(within(Duration::from_secs(40), "the deadline", join_all(slow))).await {
        assert!((Duration::from_secs(29)..Duration::from_secs(34)).contains(&time), "{time:?}");
        assert!(line.starts_with("HTTP/1.1 408 "), "{line}");
    }
    oracle.at_rest().await;
}

/// Sends a body that never ends, a byte every second; returns when the server had enough, and what it said.
async fn drip_body(address: SocketAddr) -> (Duration, String) {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let head = "POST /events/stream_started HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 60000\r\n\r\n{";
    let began = Instant::now();
    socket.write_all(head.as_bytes()).await.expect("it reads");
    for _ in 0..40 {
        if let Ok(line) = timeout(Duration::from_secs(1), first_line(&mut socket)).await {
            return (began.elapsed(), line);
        }
        if socket.write_all(b" ").await.is_err() {
            break;
        }
    }
    (began.elapsed(), String::new())
}

/// Sends a head that never ends, a line every 100 ms; returns when the server had enough.
async fn drip(address: SocketAddr, began: Instant) -> Duration {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let mut line = format!("GET {} HTTP/1.1\r\nHost: a\r\n", stream(ID));
    for number in 0..80 {
        let mut byte = [0];
        let sent = socket.write_all(line.as_bytes()).await;
        // An answer (408), an end or a reset: the server does not wait any longer.
        if sent.is_err() || timeout(Duration::from_millis(100), socket.read(&mut byte)).await.is_ok() {
            break;
        }
        line = format!("X-{number}: a\r\n").chars().take(2).collect();
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn v10_an_accept_storm_on_one_channel_is_one_session_and_every_refusal_says_when_to_come_back() {
    let setup = Setup::with_engines([thin(64_000)]);
    let settings = [("MAX_VIEWERS", "300"), ("MAX_VIEWERS_PER_IP", "4000"), ("MAX_CONNECTIONS", "4000")];
    let app = settings.into_iter().fold(setup, |setup, (name, value)| setup.set(name, value)).start().await;
    let began = Instant::now();
    let path = stream(ID);
    let timed = || async {
        let reply = get(app.address(), &path).await;
        (reply, began.elapsed())
    };
    let replies = join_all((0..3_000).map(|_| timed()));
    let mut replies = within(Duration::from_secs(15), "three thousand answers", replies).await;
    println!("three thousand answers after {:?}", began.elapsed());
    let mut waits: Vec<_> =
        replies.iter().filter(|(reply, _)| reply.status == 200).map(|(_, time)| *time).collect();
    waits.sort_unstable();
    let slow = waits[waits.len() * 99 / 100];
    println!("of those who got in 99 of 100 had media after {slow:?}");
    assert!(slow < Duration::from_millis(1_500), "{slow:?}");
    let answers = replies.iter_mut().map(|(reply, _)| reply);
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.partition(|reply| reply.status == 200);
    assert_eq!((accepted.len(), refused.len()), (300, 2_700));
    assert!(refused.iter().all(|reply| reply.status == 503 && reply.header("retry-after").is_some()));
    for reply in accepted {
        let bytes = within(Duration::from_secs(5), "media", reply.next()).await.expect("media");
        assert_eq!(bytes[0], 0x47);
    }
    let counts = app.ledger.counts();
    assert_eq!((counts.opened, counts.starts), (1, 1));
    drop(replies);
    until("everybody has left", || app.app.relay.viewers() == 0).await;
    assert_eq!(get(app.address(), &stream(ID)).await.status, 200, "and there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn v13_zapping_leaves_no_session_descriptor_or_thread() {
    let name = "viewer_faults::v13_zapping_leaves_no_session_descriptor_or_thread";
    if !has_own_process(name, Duration::from_mins(2)).await {
        return;
    }
    let setup = Setup::with_engines([thin(256_000), thin(256_000)]);
    let settings = [
        ("STREAM_IDLE_TIMEOUT", "200ms"),
        ("MAX_STREAMS_PER_ENGINE", "15"),
        ("ENGINE_SELECTION_TIMEOUT", "2s"),
    ];
    let app = settings.into_iter().fold(setup, |setup, (name, value)| setup.set(name, value)).start().await;
    // Once through everything that is made at first use and kept.
    drop(StrictViewer::open(app.address(), ID).await);
    app.at_baseline().await;
    let oracle = Oracle::alone_with(&app).await;
    let mut clients = JoinSet::new();
    for client in 0..20 {
        clients.spawn(zap(app.address(), client));
    }
    let played = oracle.during(within(Duration::from_secs(30), "the zapping", clients.join_all())).await;
    let played: usize = played.into_iter().sum();
    assert!(played >= 475, "only {played} of 500 visits played");
    let began = Instant::now();
    oracle.at_rest().await;
    println!("{played} visits, {} sessions, at rest after {:?}", app.ledger.counts().opened, began.elapsed());
    assert_eq!(app.forgotten(), 0, "every session was stopped by us");
}

/// Changes the channel 25 times and stays 100–500 ms each; how often there was a picture.
async fn zap(address: SocketAddr, client: u64) -> usize {
    let (mut dice, mut played) = (Dice(client), 0);
    let home = home(usize::try_from(client).expect("a small number"));
    for _ in 0..25 {
        let channel = id(usize::try_from(1 + dice.below(100)).expect("a small number"));
        let stay = Duration::from_millis(100 + dice.below(400));
        let visit = async {
            let mut viewer = StrictViewer::open_from(home, address, &channel).await;
            viewer.watch(stay).await;
            viewer
        };
        // Who gets no picture within a stay and a moment zaps on.
        if let Ok(viewer) = timeout(stay + Duration::from_secs(2), visit).await {
            viewer.assert_perfect();
            played += 1;
        }
    }
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn v14_viewers_that_leave_during_a_slow_start_leave_nothing() {
    let setup = Setup::with_engines([thin(256_000), thin(256_000)]);
    let app = setup.set("MAX_STREAMS_PER_ENGINE", "40").set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    let oracle = Oracle::of(&app).await;
    for engine in &app.engines {
        let slow = Fault::SlowStart { json_ms: 100, headers_ms: 100, first_byte_ms: 100 };
        engine.set_fault(Target::All, slow);
    }
    let mut dice = Dice(14);
    let leave = (1..=60).map(|n| (n, Duration::from_millis(dice.below(300))));
    let visits = leave.map(|(n, stay)| {
        let address = app.address();
        async move { timeout(stay, get_from(home(n), address, &stream(&id(n)))).await.is_err() }
    });
    let left = oracle.during(join_all(visits)).await;
    assert!(left.iter().filter(|early| **early).count() > 50, "most left before their first byte");
    oracle.at_rest().await;
    assert_eq!(app.forgotten(), 0, "every session that was opened was stopped by us");
    for engine in &app.engines {
        engine.clear_faults();
    }
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(200)).await;
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn v15_of_two_viewers_behind_one_address_one_leaves_and_the_other_sees_nothing() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "200ms").start().await;
    let witness = Witness::start().await;
    // The same address and the same User-Agent, as of two players behind one router.
    let mut stays = StrictViewer::open(app.address(), ID).await;
    for leaves_hard in [false, true] {
        let mut goes = StrictViewer::open(app.address(), ID).await;
        tokio::join!(stays.watch(Duration::from_millis(300)), goes.watch(Duration::from_millis(300)));
        if leaves_hard {
            goes.reset();
        } else {
            drop(goes);
        }
        until("one has left", || app.app.relay.viewers() == 1).await;
        // Five times as long as a stream without viewers would live.
        assert!(stays.watch(Duration::from_secs(1)).await.is_none());
    }
    stays.assert_perfect();
    witness.assert_undisturbed([&stays]).await;
    let counts = app.ledger.counts();
    assert_eq!((counts.opened, counts.stops), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn v16_conditions_and_ranges_are_ignored_and_the_body_plays() {
    let app = Setup::new().start().await;
    for header in [
        "Range: bytes=0-",
        "Range: bytes=1000-2000",
        "If-None-Match: *",
        "If-Modified-Since: Sun, 06 Nov 2044 08:49:37 GMT",
        "If-Match: \"nothing\"",
        "If-Range: \"a\"\r\nRange: bytes=188-",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    ] {
        let asked = Instant::now();
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n", stream(ID));
        let reply = send(app.address(), &request).await;
        assert_eq!((reply.status, reply.header("accept-ranges")), (200, None), "{header}");
        assert_eq!((reply.header("content-range"), reply.header("etag")), (None, None), "{header}");
        let mut viewer = StrictViewer::of_reply(reply, asked, ID).await;
        viewer.watch(Duration::from_millis(150)).await;
        viewer.assert_perfect();
    }
    let before = app.ledger.counts();
    for method in ["HEAD", "OPTIONS"] {
        let request = format!("{method} {} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-\r\n\r\n", stream(&id(7)));
        let reply = send(app.address(), &request).await;
        assert!(matches!(reply.status, 200 | 204), "{method}: {}", reply.status);
    }
    let after = app.ledger.counts();
    assert_eq!((before.starts, before.lookups, before.opened), (after.starts, after.lookups, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn v19_what_comes_behind_a_get_never_reaches_the_engine() {
    let garbage = [
        "GET /ace/getstream?id=0000000000000000000000000000000000smuggle HTTP/1.1\r\nHost: a\r\n\r\n",
        "\0\0\u{1}smuggle\r\n\r\n\r\n",
        "smuggle smuggle smuggle",
    ];
    let mut bodies: Vec<(String, String)> =
        garbage.iter().map(|text| (String::new(), (*text).to_owned())).collect();
    bodies.push(("Content-Length: 7\r\n".into(), "smuggle".into()));
    bodies.push(("Transfer-Encoding: chunked\r\n".into(), "7\r\nsmuggle\r\n0\r\n\r\n".into()));
    for (headers, body) in bodies {
        let engine = thin(1_000_000);
        let engine = acemux_sim::SimEngine::start(engine).await.expect("a port is free");
        let wire = FaultProxy::start(engine.addr());
        let app = Setup::with_engines([]).engine_at(wire.address().to_string()).start().await;
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}", stream(ID));
        let asked = Instant::now();
        let reply = try_send(app.address(), &request).await.expect("a reply");
        let played = reply.status == 200;
        // A body that is announced may be refused; what only follows the head is not looked at.
        assert!(played || !headers.is_empty(), "{body:?}: {}", reply.status);
        if played {
            let mut viewer = StrictViewer::of_reply(reply, asked, ID).await;
            // And once more in the middle of the body. It may be refused, then the stream is over.
            let _refused = viewer.connection().say(b"smuggle\r\n\r\n").await;
            let end = viewer.watch(Duration::from_millis(500)).await;
            assert!(end.is_none_or(|end| end != BodyEnd::Clean), "{headers:?} {body:?}: {end:?}");
            viewer.assert_perfect();
            let started: Vec<_> = engine.ledger().snapshot().sessions;
            assert_eq!(started.len(), 1, "{headers:?} {body:?}");
            assert_eq!(started[0].infohash, infohash_of(ID));
        } else {
            assert_eq!(reply.status, 400, "{headers:?} {body:?}");
        }
        let heard = wire.heard(Way::ToServer);
        assert!(!heard.contains("smuggle"), "{heard}");
        assert_eq!(heard.matches("GET /ace/getstream").count(), usize::from(played), "{heard}");
        sleep(Duration::from_millis(50)).await;
        assert!(engine.ledger().counts().starts <= 1);
    }
}
