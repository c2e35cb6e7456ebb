//! Everything at once, by seed: engines die, hang and lie, networks crawl and break, forty viewers come and go. All the
//! while nobody gets a wrong packet and pages answer; afterwards everything plays and nothing is left.
//!
//! ```text
//! CHAOS_SEED=7 CHAOS_SECONDS=120 cargo nextest run -p acemux-testkit chaos      one seed, as long as in CI
//! CHAOS_SEEDS=20 cargo nextest run -p acemux-testkit chaos                      many, one after the other
//! ```

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acemux_sim::SimOptions;
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::{BodyEnd, connect_from, send_over};
use acemux_testkit::nemesis::Nemesis;
use acemux_testkit::{HlsViewer, Oracle, StrictViewer};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{id, stream};

const VIEWERS: u64 = 40;
const CHANNELS: usize = 10;
const ENGINES: u64 = 3;

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Four minutes where there is time, a taste of it in the inner loop.
fn length() -> Duration {
    let is_ci = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
    Duration::from_secs(number("CHAOS_SECONDS", if is_ci { 120 } else { 25 }))
}

fn channel(n: usize) -> String {
    id(5000 + n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_viewers_get_nothing_wrong_and_nothing_is_left() {
    let first = number("CHAOS_SEED", 1);
    for seed in first..first + number("CHAOS_SEEDS", 1) {
        println!("to repeat: CHAOS_SEED={seed} CHAOS_SECONDS={}", length().as_secs());
        run(seed, length()).await;
    }
}

async fn run(seed: u64, length: Duration) {
    let app = setup(seed).start().await;
    let oracle = Oracle::of(&app).await;
    let end = Instant::now() + length;
    let haunting = app
        .engines
        .iter()
        .zip(&app.proxies)
        .zip(1..)
        .map(|((engine, network), n)| Nemesis::seeded(seed * 1000 + n).haunt(engine, network, end));
    let tally = Tally::default();
    let scene = Scene { app: &app, tally: &tally };
    let watching = (1..=VIEWERS).map(|n| visits(scene, n, Nemesis::seeded(seed * 1000 + 500 + n), end));
    let (diaries, _) = oracle.during(async { tokio::join!(join_all(haunting), join_all(watching)) }).await;
    for (diary, engine) in diaries.iter().zip(1..) {
        println!("engine {engine}: {} blows, the last {:?}", diary.len(), diary.last());
        assert!(!diary.is_empty(), "nothing ever happened to engine {engine}");
    }
    let (asked, played) = (tally.asked.into_inner(), tally.played.into_inner());
    println!("{played} of {asked} visits had a picture");
    assert!(played * 5 > asked * 4, "{played} of {asked} visits had a picture");
    calm(&app).await;
    oracle.at_rest().await;
}

fn setup(seed: u64) -> Setup {
    let engine = || SimOptions { burst: Duration::from_secs(6), ..SimOptions::fast() };
    let settings = [
        ("MAX_STREAMS_PER_ENGINE", "8"),
        ("EMPTY_STREAM_TIMEOUT", "8s"),
        ("ENGINE_SELECTION_TIMEOUT", "2s"),
        ("STALL_TIMEOUT", "1s"),
        ("HOLD_TIMEOUT", "8s"),
        ("STREAM_IDLE_TIMEOUT", "1s"),
        ("HLS_VIEWER_TIMEOUT", "3s"),
        ("VIEWER_STALL_TIMEOUT", "5s"),
    ];
    let setup = Setup::with_engines((0..ENGINES).map(|_| engine())).behind_proxies(seed);
    settings.into_iter().fold(setup, |setup, (name, value)| setup.set(name, value))
}

/// Visits, and how many of them had a picture.
#[derive(Default)]
struct Tally {
    asked: AtomicU64,
    played: AtomicU64,
}

#[derive(Clone, Copy)]
struct Scene<'a> {
    app: &'a TestApp,
    tally: &'a Tally,
}

/// One household after the other from one address.
async fn visits(scene: Scene<'_>, n: u64, mut dice: Nemesis, end: Instant) {
    let app = scene.app;
    let home = Ipv4Addr::new(127, 0, 1, u8::try_from(n).expect("few viewers"));
    while Instant::now() < end {
        let (channel, stay) = (channel(dice.one_of(CHANNELS)), dice.time(200..15_000));
        let stay = stay.min(end.saturating_duration_since(Instant::now()));
        match dice.one_of(10) {
            0 => stalls(app, home, &channel, stay).await,
            1 => fetches(app, &channel, stay).await,
            _ => watches(scene, home, &channel, stay, &mut dice).await,
        }
        sleep(dice.time(0..1_500)).await;
    }
}

/// What a player may get instead of a stream.
const REFUSALS: [u16; 4] = [429, 502, 503, 504];

async fn watches(scene: Scene<'_>, home: Ipv4Addr, channel: &str, stay: Duration, dice: &mut Nemesis) {
    let Scene { app, tally } = scene;
    tally.asked.fetch_add(1, Ordering::Relaxed);
    let (asked, address) = (Instant::now(), app.address());
    let connection = connect_from(home, address).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n\r\n", stream(channel));
    let reply = within(Duration::from_secs(20), "an answer", send_over(connection, &request)).await;
    if reply.status != 200 {
        assert!(REFUSALS.contains(&reply.status), "{}", reply.status);
        return;
    }
    let mut viewer = StrictViewer::of_reply(reply, asked, channel).await;
    tally.played.fetch_add(1, Ordering::Relaxed);
    let end = viewer.watch(stay).await;
    assert_ne!(end, Some(BodyEnd::Clean), "a live stream never ends in order: players would stop");
    viewer.assert_only_announced_jumps();
    if dice.one_of(3) == 0 {
        viewer.reset();
    }
}

/// Opens a channel and reads nothing of it.
async fn stalls(app: &TestApp, home: Ipv4Addr, channel: &str, stay: Duration) {
    let connection = connect_from(home, app.address()).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", stream(channel));
    let _reply = tokio::time::timeout(stay, send_over(connection, &request)).await;
    sleep(stay / 2).await;
}

/// Fetches pieces. Under fire the rules about pace cannot be kept; those about content must be.
async fn fetches(app: &TestApp, channel: &str, stay: Duration) {
    let mut viewer = match HlsViewer::try_open(app.address(), channel).await {
        Ok(viewer) => viewer,
        Err(status) => return assert!(REFUSALS.contains(&status), "{status}"),
    };
    viewer.try_watch(stay).await;
    let wrong: Vec<_> = viewer.broken_rules().iter().filter(|rule| !rule.contains("Stale")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let report = viewer.report();
    assert_eq!((report.foreign, report.corrupt, report.unaligned), (0, 0, 0), "{report:#?}");
    assert_eq!((report.gaps_unflagged, report.continuity_errors), (0, 0), "{report:#?}");
}

/// Nothing goes wrong any more: every channel plays perfectly.
async fn calm(app: &TestApp) {
    until("nobody watches", || app.app.relay.viewers() == 0).await;
    // Ejections and refusals are over after this.
    sleep(Duration::from_secs(6)).await;
    for n in 0..CHANNELS {
        let channel = channel(n);
        let mut viewer =
            within(Duration::from_secs(10), "a stream", StrictViewer::open(app.address(), &channel)).await;
        viewer.watch(Duration::from_millis(500)).await;
        viewer.assert_perfect();
    }
}
