//! The program itself for as long as wanted: households that zap, share, walk away and come back, by plain streams and by
//! HLS, on engines that die, hang and lie. Afterwards nothing is left, and it has not grown.
//!
//! ```text
//! cargo nextest run -p acemux-testkit --run-ignored only soak                        ten minutes
//! SOAK_SECONDS=1200 SOAK_SEED=7 cargo nextest run -p acemux-testkit --run-ignored only soak
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acemux_sim::{Ledger, SimEngine, SimOptions};
use acemux_testkit::app::within;
use acemux_testkit::http::{BodyEnd, get_from};
use acemux_testkit::nemesis::Nemesis;
use acemux_testkit::{FaultProxy, HlsViewer, Process, StrictViewer, get};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::visits::engine;
use crate::{home, id, stream};

const ENGINES: u64 = 3;
/// More than there are slots for, fewer than there are households: some wait, most share.
const CHANNELS: usize = 12;
const HOUSEHOLDS: usize = 30;
/// From the last viewer's leaving until nothing is left.
const REST: Duration = Duration::from_secs(10);
/// What it may have grown by between two rests.
const GROWTH: u64 = 5 * 1024 * 1024;
/// Longest time for a page. The promise is 200 ms; the rest is what a busy test machine may add.
const PAGE: Duration = Duration::from_secs(1);
/// What a player may get instead of a stream.
const REFUSALS: [u16; 4] = [429, 502, 503, 504];

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes, or SOAK_SECONDS"]
async fn after_a_long_evening_nothing_is_left_and_it_has_not_grown() {
    let (length, seed) = (Duration::from_secs(number("SOAK_SECONDS", 600)), number("SOAK_SEED", 1));
    println!("to repeat: SOAK_SEED={seed} SOAK_SECONDS={}", length.as_secs());
    let scene = Scene::start(seed).await;
    // Warm is who has had all of it once: every buffer has been as large as it gets.
    let warming = (length / 4).min(Duration::from_mins(2));
    scene.evening(seed, warming).await;
    scene.at_rest().await;
    let warm = scene.program.resident();
    println!("warm: {} KiB", warm / 1024);
    scene.evening(seed + 1, length.saturating_sub(warming)).await;
    scene.at_rest().await;
    scene.has_not_grown(warm).await;
    let (asked, played) = (scene.asked.into_inner(), scene.played.into_inner());
    println!("{played} of {asked} visits had a picture; {:?}", scene.ledger.counts());
    assert!(played * 2 > asked, "{played} of {asked} visits had a picture");
}

struct Scene {
    program: Process,
    engines: Vec<SimEngine>,
    networks: Vec<FaultProxy>,
    ledger: Ledger,
    asked: AtomicUsize,
    played: AtomicUsize,
}

impl Scene {
    async fn start(seed: u64) -> Self {
        let ledger = Ledger::new();
        let (mut engines, mut networks) = (Vec::new(), Vec::new());
        for n in 0..ENGINES {
            let options = SimOptions { ledger: Some(ledger.clone()), ..engine() };
            let engine = SimEngine::start(options).await.expect("a port is free");
            networks.push(FaultProxy::seeded(engine.addr(), seed + n));
            engines.push(engine);
        }
        let addresses: Vec<SocketAddr> = networks.iter().map(FaultProxy::address).collect();
        // So that rest is near; everything else is as shipped.
        let settings = [("STREAM_IDLE_TIMEOUT", "2s"), ("HLS_VIEWER_TIMEOUT", "5s")];
        let program = Process::start(&addresses, &settings).await;
        let (asked, played) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { program, engines, networks, ledger, asked, played }
    }

    /// Households come and go and engines misbehave for so long; the engines are well again for the last quarter minute.
    async fn evening(&self, seed: u64, length: Duration) {
        let end = Instant::now() + length;
        let calm = end.checked_sub(Duration::from_secs(15)).expect("the clock runs for longer");
        let haunting = self.engines.iter().zip(&self.networks).zip(1..);
        let haunting = haunting
            .map(|((engine, network), n)| Nemesis::seeded(seed * 1000 + n).haunt(engine, network, calm));
        let visiting = (0..HOUSEHOLDS)
            .zip(500..)
            .map(|(household, dice)| self.visits(household, Nemesis::seeded(seed * 1000 + dice), end));
        tokio::join!(join_all(haunting), join_all(visiting), self.pages_answer(end));
    }

    async fn visits(&self, household: usize, mut dice: Nemesis, end: Instant) {
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            let (channel, stay) = (id(4_000 + dice.one_of(CHANNELS)), dice.time(100..20_000).min(left));
            match dice.one_of(10) {
                0 => self.zaps_past(household, &channel, stay / 8).await,
                1 | 2 => self.fetches(&channel, stay).await,
                _ => self.watches(household, &channel, stay, dice.one_of(3) == 0).await,
            }
            sleep(dice.time(0..1_500)).await;
        }
    }

    async fn watches(&self, household: usize, channel: &str, stay: Duration, resets: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (asked, path) = (Instant::now(), stream(channel));
        let answer = get_from(home(household), self.program.address, &path);
        let reply = within(Duration::from_secs(40), "an answer", answer).await;
        if reply.status != 200 {
            assert!(REFUSALS.contains(&reply.status), "{}", reply.status);
            return;
        }
        self.played.fetch_add(1, Ordering::Relaxed);
        let mut viewer = StrictViewer::of_reply(reply, asked, channel).await;
        let end = viewer.watch(stay).await;
        assert_ne!(end, Some(BodyEnd::Clean), "a live stream never ends in order: players would stop");
        viewer.assert_only_announced_jumps();
        if resets {
            viewer.reset();
        }
    }

    /// Leaves before there is an answer, or soon after.
    async fn zaps_past(&self, household: usize, channel: &str, patience: Duration) {
        let path = stream(channel);
        let _left = timeout(patience, get_from(home(household), self.program.address, &path)).await;
    }

    /// Under fire the rules about pace cannot be kept; those about content must be.
    async fn fetches(&self, channel: &str, stay: Duration) {
        let opening = HlsViewer::try_open(self.program.address, channel);
        let mut viewer = match within(Duration::from_secs(40), "a manifest", opening).await {
            Ok(viewer) => viewer,
            Err(status) => return assert!(REFUSALS.contains(&status), "{status}"),
        };
        viewer.try_watch(stay).await;
        let report = viewer.report();
        assert_eq!((report.foreign, report.corrupt, report.unaligned), (0, 0, 0), "{report:#?}");
        assert_eq!((report.gaps_unflagged, report.continuity_errors), (0, 0), "{report:#?}");
    }

    async fn pages_answer(&self, end: Instant) {
        while Instant::now() < end {
            for page in ["/proxy/status", "/engines"] {
                let reply = within(PAGE, page, get(self.program.address, page)).await;
                assert_eq!(reply.status, 200, "{page}");
            }
            let (used, total) = (self.count(USED).await, self.count(TOTAL).await);
            assert!(used <= total, "{used} of {total} slots in use");
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// A figure of the metrics page.
    async fn count(&self, name: &str) -> u64 {
        let page = self.program.text("/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in the metrics"))
    }

    /// Everybody has just left: waits until nothing is left of anything, and says what is when that takes too long.
    async fn at_rest(&self) {
        let left_at = Instant::now();
        loop {
            let left = self.leftovers().await;
            if left.is_empty() {
                println!("at rest after {:?}", left_at.elapsed());
                return;
            }
            assert!(left_at.elapsed() < REST, "after {REST:?} this is left: {left:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for name in AT_REST_NONE {
            let count = self.count(name).await;
            if count > 0 {
                left.push(format!("{count} {name}"));
            }
        }
        let counts = self.ledger.counts();
        if counts.open > 0 || counts.opened != counts.closed {
            left.push(format!("{counts:?}"));
        }
        let settled = self.count("acemux_engine_sessions_closed_total").await
            + self.count("acemux_engine_stops_failed_total").await;
        let opened = self.count("acemux_engine_sessions_opened_total").await;
        if opened > settled {
            left.push(format!("{} sessions that it has not settled", opened - settled));
        }
        left
    }

    /// What its allocator gives back late is no growth.
    async fn has_not_grown(&self, warm: u64) {
        let asked = Instant::now();
        loop {
            let now = self.program.resident();
            if now <= warm + GROWTH {
                println!("{} KiB, and warm it was {} KiB", now / 1024, warm / 1024);
                return;
            }
            let grown = (now - warm) / 1024;
            assert!(asked.elapsed() < Duration::from_secs(30), "it has grown by {grown} KiB");
            sleep(Duration::from_millis(500)).await;
        }
    }
}

const USED: &str = "acemux_engine_slots{state=\"used\"}";
const TOTAL: &str = "acemux_engine_slots{state=\"total\"}";

/// Figures of the metrics page that are 0 at rest.
const AT_REST_NONE: [&str; 8] = [
    "acemux_proxy_viewers ",
    "acemux_proxy_viewers_waiting",
    "acemux_proxy_sessions{state=\"opening\"}",
    "acemux_proxy_sessions{state=\"live\"}",
    "acemux_proxy_sessions{state=\"lingering\"}",
    "acemux_proxy_ring_bytes",
    "acemux_engine_slots_waiting",
    USED,
];
