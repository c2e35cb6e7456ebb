//! The open engine itself behind the program: two engines and a source that speak the real peer protocol, on machines of
//! their own in a network that nothing leads out of. What the viewers get is checked against what was broadcast.
//!
//! Every test runs where `OUTPACE=path/to/outpace` is set, and is skipped with that sentence otherwise.

use std::path::PathBuf;
use std::time::Duration;

use acemux_testkit::app::within;
use acemux_testkit::direct::own_time;
use acemux_testkit::netns::{Machine, Network};
use acemux_testkit::outpace::{self, Broadcast, Directory, Outpace};
use acemux_testkit::{Process, StrictViewer, get};
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{id, stream};

/// Longest time that one of these tests takes.
const LIMIT: Duration = Duration::from_secs(170);
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much later than the engine's own a first byte may be.
const OURS: Duration = Duration::from_millis(50);
/// `EMPTY_STREAM_TIMEOUT`.
const BUDGET: Duration = Duration::from_secs(30);
const BITRATE: u64 = 6_000_000;
/// Longer than the pieces of 64 KiB behind live that engines begin with.
const HISTORY: Duration = Duration::from_secs(12);

/// A source of broadcasts, the directory that lists them, and two engines.
struct Stage {
    program: PathBuf,
    directory: Directory,
    source: Outpace,
    engines: [(Machine, Option<Outpace>); 2],
}

impl Stage {
    /// `None` where there is nothing to do but what was said.
    async fn set(test: &str) -> Option<Self> {
        let program = outpace::program()?;
        let mut network = Network::enter(test, LIMIT).await?;
        let directory = Directory::open(&network).await;
        let source = Outpace::start(&program, &network.machine().await, &[]).await;
        let mut engines = Vec::new();
        for _ in 0..2 {
            let machine = network.machine().await;
            let engine = Outpace::start(&program, &machine, &[&source]).await;
            engines.push((machine, Some(engine)));
        }
        println!("{} {}", program.display(), source.version().await);
        let engines = engines.try_into().unwrap_or_else(|_| unreachable!("two were started"));
        Some(Self { program, directory, source, engines })
    }

    fn engine(&self, n: usize) -> &Outpace {
        self.engines[n].1.as_ref().expect("it runs")
    }

    async fn acemux(&self, settings: &[(&str, &str)]) -> Process {
        let acemux = Process::start(&[self.engine(0).address, self.engine(1).address], settings).await;
        healthy(&acemux, 2).await;
        acemux
    }

    /// One more channel, which the directory lists.
    async fn broadcast(&self, n: usize) -> Broadcast {
        let broadcast = self.source.broadcast(&id(n), BITRATE, HISTORY).await;
        self.directory.list(&broadcast);
        broadcast
    }

    /// The number of the engine that the only session plays from.
    async fn in_use(&self, acemux: &Process) -> usize {
        let sessions = acemux.page("/proxy/sessions").await["sessions"].clone();
        let host = sessions[0]["engine_host"].as_str().unwrap_or_else(|| panic!("{sessions}")).to_owned();
        let is_it = |(machine, _): &(Machine, _)| machine.address().to_string() == host;
        self.engines.iter().position(is_it).unwrap_or_else(|| panic!("{sessions}"))
    }

    /// Bytes that have come over the wire of each engine.
    fn received(&self) -> [u64; 2] {
        [0, 1].map(|n: usize| self.engines[n].0.received())
    }

    async fn kill(&mut self, n: usize) {
        self.engines[n].1.take().expect("it runs").kill().await;
    }

    async fn start_again(&mut self, n: usize) {
        let engine = Outpace::start(&self.program, &self.engines[n].0, &[&self.source]).await;
        self.engines[n].1 = Some(engine);
    }
}

async fn healthy(acemux: &Process, engines: usize) {
    within(PATIENCE, "the engines are healthy", async {
        loop {
            let page = acemux.page("/engines").await;
            let all = page.as_array().expect("a list");
            if all.iter().filter(|engine| engine["health_status"] == "healthy").count() == engines {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn sessions(acemux: &Process) -> Vec<Value> {
    acemux.page("/proxy/sessions").await["sessions"].as_array().expect("a list").clone()
}

async fn watch(acemux: &Process, path: &str, channel: &Broadcast) -> StrictViewer {
    let mut viewer = StrictViewer::open_path(acemux.address, path, &channel.channel).await;
    viewer.expect_titles();
    viewer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_id_plays_as_soon_as_on_the_engine_itself() {
    let Some(stage) = Stage::set("outpace::a_content_id_plays_as_soon_as_on_the_engine_itself").await else {
        return;
    };
    let acemux = stage.acemux(&[]).await;
    let (mut own, mut ours) = (Vec::new(), Vec::new());
    for n in 0..4 {
        // Each start is the first one of its channel.
        let (direct, channel) = (stage.broadcast(7_000 + n).await, stage.broadcast(7_100 + n).await);
        sleep(Duration::from_secs(1)).await;
        own.push(own_time(stage.engine(n % 2).address, &direct.content_id).await);
        let mut viewer = watch(&acemux, &stream(&channel.content_id), &channel).await;
        ours.push(viewer.first_byte());
        assert_eq!(viewer.watch(Duration::from_secs(2)).await, None);
        viewer.assert_perfect();
    }
    println!("the engine's own: {own:?}, through us: {ours:?}");
    let middle = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (own, ours) = (middle(&mut own), middle(&mut ours));
    assert!(ours <= own + OURS, "{ours:?}, the engine itself {own:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_kills_of_the_engine_in_use_are_spliced_exactly() {
    let Some(mut stage) = Stage::set("outpace::three_kills_of_the_engine_in_use_are_spliced_exactly").await
    else {
        return;
    };
    let channel = stage.broadcast(7_200).await;
    let acemux = stage.acemux(&[]).await;
    let mut viewer = watch(&acemux, &stream(&channel.content_id), &channel).await;
    for kill in 1..=3 {
        assert_eq!(viewer.watch(Duration::from_secs(6)).await, None);
        let used = stage.in_use(&acemux).await;
        stage.kill(used).await;
        assert_eq!(viewer.watch(Duration::from_secs(12)).await, None, "{}", acemux.log());
        println!("kill {kill} of engine {used}: {:?} without media", viewer.longest_gap());
        assert_ne!(stage.in_use(&acemux).await, used);
        viewer.assert_perfect();
        stage.start_again(used).await;
        let mut ready = std::pin::pin!(healthy(&acemux, 2));
        while (&mut ready).now_or_never().is_none() {
            assert_eq!(viewer.watch(Duration::from_millis(200)).await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_is_one_session_before_and_after_a_restart() {
    let Some(stage) = Stage::set("outpace::every_spelling_is_one_session_before_and_after_a_restart").await
    else {
        return;
    };
    let channel = stage.broadcast(7_300).await;
    let (content_id, infohash) = (&channel.content_id, &channel.infohash);
    let database = std::env::temp_dir().join("old.db");
    let database = database.to_str().expect("a path of letters");
    let spelled = |name: &str, value: &str| format!("/ace/getstream?{name}={value}");
    let spellings = [
        spelled("id", content_id),
        spelled("infohash", infohash),
        spelled("infohash", content_id),
        spelled("id", infohash),
    ];
    // With the first run the content id leads; the second one knows the channel and begins with each other name.
    for first in 0..spellings.len() {
        let acemux = stage.acemux(&[("DB_PATH", database)]).await;
        let mut viewers = Vec::new();
        for n in 0..spellings.len() {
            let path = &spellings[(first + n) % spellings.len()];
            let mut viewer = watch(&acemux, path, &channel).await;
            assert_eq!(viewer.watch(Duration::from_millis(500)).await, None, "{path}");
            println!("{path}: {:?}", viewer.first_byte());
            viewers.push(viewer);
        }
        let sessions = sessions(&acemux).await;
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        assert_eq!(sessions[0]["infohash"], *infohash, "{sessions:?}");
        viewers.iter().for_each(StrictViewer::assert_perfect);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_infohash_that_the_engine_cannot_play_is_begun_on_one_engine_and_given_up() {
    let Some(stage) = Stage::set(
        "outpace::a_bare_infohash_that_the_engine_cannot_play_is_begun_on_one_engine_and_given_up",
    )
    .await
    else {
        return;
    };
    // Broadcast in pieces of 64 KiB, and by its bare infohash taken for one of 1 MiB.
    let channel = stage.broadcast(7_400).await;
    let acemux = stage.acemux(&[]).await;
    let asked = Instant::now();
    let path = format!("/ace/getstream?infohash={}", channel.infohash);
    let before = stage.received();
    let mut reply = within(2 * PATIENCE, "an answer", get(acemux.address, &path)).await;
    let (took, body) = (asked.elapsed(), reply.body().await.0);
    let loaded: Vec<u64> = stage.received().iter().zip(before).map(|(now, then)| now - then).collect();
    println!("{} after {took:?}, loaded {loaded:?}: {}", reply.status, String::from_utf8_lossy(&body));
    assert!(reply.status >= 400, "{}", reply.status);
    assert!(took < BUDGET + Duration::from_secs(1), "{took:?}");
    // Whoever has begun to load it goes on with it: nothing that the engine can be told ends that.
    let loading = loaded.iter().filter(|bytes| **bytes > 1_000_000).count();
    assert_eq!(loading, 1, "{loaded:?}");
    let session = sessions(&acemux).await;
    assert!(session.is_empty(), "{session:?}");
    // The engines are none the worse for it.
    let mut viewer = watch(&acemux, &stream(&channel.content_id), &channel).await;
    assert_eq!(viewer.watch(Duration::from_secs(3)).await, None);
    viewer.assert_perfect();
}
