//! Connections that strangers open for nothing: they take no place from anybody, and no descriptor that we need.

use std::collections::VecDeque;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_fleet::member::Health;
use acemux_fleet::trouble::Trust;
use acemux_sim::{ChannelKind, SimEngine, SimOptions};
use acemux_testkit::app::{Setup, until, within};
use acemux_testkit::http::{connect_from, get_from, send_over};
use acemux_testkit::oracle::has_own_process;
use acemux_testkit::process::Process;
use acemux_testkit::{StrictViewer, Witness, get};
use futures_util::future::join_all;
use rlimit::Resource;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::{ID, home, id, stream};

/// Thin enough that checking every packet costs nothing.
fn thin() -> SimOptions {
    SimOptions { default_channel: ChannelKind::Verify { bitrate: 256_000 }, ..SimOptions::fast() }
}

/// The address of the `n`th stranger.
fn stranger(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, u8::try_from(n).expect("few strangers") + 1)
}

/// So many connections from each of so many addresses, which say nothing.
async fn silent(address: SocketAddr, strangers: usize, each: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for n in 0..each {
        // A round over all addresses at a time: the kernel's queue is not what is tested.
        open.extend(join_all((0..strangers).map(|n| connect_from(stranger(n), address))).await);
        if n % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    open
}

async fn is_alive(address: SocketAddr) {
    let health = within(Duration::from_secs(2), "the health check of this machine", get(address, "/livez"));
    assert_eq!(health.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_silent_connections_take_nobodys_place() {
    let engine = SimEngine::start(thin()).await.expect("a port is free");
    let program = Process::start(&[engine.addr()], &[]).await;
    let mut viewer = StrictViewer::open_from(home(1), program.address, ID).await;
    let witness = Witness::start().await;
    let mut flood = JoinSet::new();
    flood.spawn(flood_with_silence(program.address));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !flood.is_empty() {
        assert!(Instant::now() < deadline, "the flood ends");
        assert!(viewer.watch(Duration::from_millis(100)).await.is_none(), "the viewer was cut");
        if let Some(ended) = flood.try_join_next() {
            ended.expect("everybody was served");
        }
    }
    viewer.watch(Duration::from_millis(500)).await;
    viewer.assert_perfect();
    witness.assert_undisturbed([&viewer]).await;
}

async fn flood_with_silence(address: SocketAddr) {
    let flood = silent(address, 20, 265).await;
    for _ in 0..20 {
        is_alive(address).await;
    }
    // Who has never been here, and somebody at one of the flooding addresses.
    for newcomer in [home(2), stranger(3)] {
        let joining = StrictViewer::open_from(newcomer, address, ID);
        let mut newcomer = within(Duration::from_secs(2), "a newcomer's media", joining).await;
        newcomer.watch(Duration::from_millis(500)).await;
        newcomer.assert_perfect();
    }
    let more = silent(address, 20, 60).await;
    is_alive(address).await;
    drop((flood, more));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_connections_leaves_the_descriptors_that_engines_need() {
    let engines = [thin(), thin()].map(SimEngine::start);
    let engines: Vec<_> = join_all(engines).await.into_iter().map(|engine| engine.expect("a port")).collect();
    let addresses: Vec<_> = engines.iter().map(SimEngine::addr).collect();
    // One miss is enough, so that seconds show what takes half a minute.
    let settings = [("HEALTH_FAILURE_THRESHOLD", "1")];
    let program = Process::start_with_descriptors(200, &addresses, &settings).await;
    let mut viewer = StrictViewer::open_from(home(1), program.address, ID).await;
    let until = Instant::now() + Duration::from_secs(12);
    let flood = async {
        let mut open = VecDeque::new();
        let mut round = 0;
        while Instant::now() < until {
            open.extend(silent(program.address, 20, 2).await);
            open.drain(..open.len().saturating_sub(600));
            round += 1;
            if round % 20 == 0 {
                let page = get_from(home(3), program.address, "/engines").await.json().await;
                let health: Vec<_> =
                    page.as_array().into_iter().flatten().map(|engine| &engine["health_status"]).collect();
                assert_eq!(health, ["healthy", "healthy"], "{page}");
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let watching = async {
        while Instant::now() < until {
            assert!(viewer.watch(Duration::from_millis(500)).await.is_none(), "the viewer was cut");
        }
    };
    tokio::join!(flood, watching);
    is_alive(program.address).await;
    let mut newcomer = StrictViewer::open_from(home(2), program.address, &id(7)).await;
    newcomer.watch(Duration::from_millis(500)).await;
    newcomer.assert_perfect();
    viewer.assert_perfect();
    let log = program.log();
    for word in ["unhealthy", "short of", "cannot be accepted"] {
        assert!(!log.contains(word), "{word}:\n{log}");
    }
}

/// Takes every descriptor that is left and every one that becomes free, until its task ends.
async fn hoard() {
    let (_, highest) = Resource::NOFILE.get().expect("a limit");
    let open = std::fs::read_dir("/proc/self/fd").expect("a process").count() as u64;
    Resource::NOFILE.set(open, highest).expect("lower than before");
    let mut held = Vec::new();
    loop {
        held.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_lack_ourselves_is_no_engines_fault() {
    let name = "places::what_we_lack_ourselves_is_no_engines_fault";
    if !has_own_process(name, Duration::from_mins(1)).await {
        return;
    }
    let setup = Setup::with_engines([thin(), thin()]).set("HEALTH_FAILURE_THRESHOLD", "1");
    let app = setup.set("EMPTY_STREAM_TIMEOUT", "1s").start().await;
    let members = app.app.engines.all();
    let are_well = || members.iter().all(|member| member.knowledge().health == Health::Healthy);
    until("both engines have answered", are_well).await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    // Connections that are there already: who has one can ask.
    let mut askers = Vec::new();
    for _ in 0..4 {
        askers.push(TcpStream::connect(app.address()).await.expect("it listens"));
    }
    get(app.address(), "/livez").await;
    let checked = || members.iter().map(|member| member.knowledge().last_check).collect::<Vec<_>>();
    let mut hoarding = JoinSet::new();
    hoarding.spawn(hoard());
    until("there is none left", || File::open("/dev/null").is_err()).await;
    let before = checked();
    let mut answers = Vec::new();
    for (n, asker) in askers.into_iter().enumerate() {
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", stream(&id(n + 1)));
        let mut reply = within(Duration::from_secs(5), "an answer", send_over(asker, &request)).await;
        assert_eq!((reply.status, reply.header("retry-after").is_some()), (503, true));
        let problem = reply.json().await;
        assert_eq!(problem["code"], "no_engine", "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("short of")), "{problem}");
        // Its descriptors are not free before the end.
        answers.push(reply);
    }
    // Two rounds of probes.
    assert!(viewer.watch(Duration::from_secs(11)).await.is_none(), "the viewer was cut");
    assert!(are_well(), "{members:?}");
    assert_eq!(checked(), before, "a probe that was not sent is none");
    assert!(members.iter().all(|member| member.trust() == Trust::Full));
    hoarding.shutdown().await;
    let mut newcomer = StrictViewer::open(app.address(), &id(9)).await;
    newcomer.watch(Duration::from_millis(500)).await;
    newcomer.assert_perfect();
    viewer.assert_perfect();
}
