//! An engine that downloads on though nothing plays on it, on a real Docker daemon. Needs `scripts/sim-image`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::allowed::HostPorts;
use acemux_fleet::dispatch::Engines;
use acemux_fleet::docker::{Docker, DockerOptions};
use acemux_fleet::event::{Event, Observer};
use acemux_fleet::fleet::{Fleet, FleetOptions};
use acemux_fleet::member::{Health, Member};
use acemux_fleet::plan::{Policy, Reason};
use acemux_fleet::probe;
use acemux_fleet::profile::{ArmTags, Profile, Variant};
use acemux_fleet::provisioner::Provisioner as _;
use acemux_fleet::recipe::{Reach, Recipe};
use acemux_fleet::runaway::RunawayRule;
use acemux_fleet::spec::{Limits, Network};
use acemux_server::config::Config;
use acemux_server::planes::setup;
use acemux_testkit::app::until;
use acemux_testkit::docker::FAST;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// What is told.
#[derive(Default)]
struct Diary(Mutex<Vec<Event>>);

impl Observer for Diary {
    fn observe(&self, event: &Event) {
        self.0.lock().push(event.clone());
    }
}

impl Diary {
    fn pick<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.0.lock().iter().filter_map(wanted).collect()
    }

    /// Which engines were given up for what they receive, and how much that was.
    fn given_up(&self) -> Vec<(String, u64)> {
        self.pick(|event| match event {
            Event::Cordoned { engine, reason: Reason::RunsAway { mbits }, .. } => {
                Some((engine.id.as_str().to_owned(), *mbits))
            }
            _ => None,
        })
    }

    /// Which engines were removed, and why.
    fn removed(&self) -> Vec<(String, Reason)> {
        self.pick(|event| match event {
            Event::Removed { engine, reason } => Some((engine.id.as_str().to_owned(), reason.clone())),
            _ => None,
        })
    }
}

/// Removes what is left of the instance's containers when the test fails.
struct Clean(String);

impl Drop for Clean {
    fn drop(&mut self) {
        let filter = format!("label=io.acemux.instance={}", self.0);
        let list = std::process::Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output();
        let ids = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for id in ids.split_whitespace() {
            // What is left over only costs memory.
            let _removed = std::process::Command::new("docker").args(["rm", "-f", id]).output();
        }
    }
}

/// A fleet of two engines. A runaway is one after six seconds instead of a minute.
fn options(instance: &str) -> FleetOptions {
    let recipe = Recipe {
        profile: Profile::of(Variant::Krinkuto11Amd64, &ArmTags::default()),
        image: Some(FAST.parse().expect("a name")),
        limits: Limits::default(),
        read_only: true,
        network: Network::Named { name: "acemux".parse().expect("a name"), own: true },
        behind_vpn: false,
        reach: Reach::Published,
        map_https: false,
        label: "orchestrator.managed=acestream".parse().expect("a label"),
        instance: instance.parse().expect("a name"),
    };
    FleetOptions {
        policy: Policy {
            min: 2,
            max: 4,
            min_free: 0,
            slots: 1,
            idle_grace: Duration::from_secs(30),
            auto_delete: true,
            unhealthy_grace: Duration::from_mins(1),
            startup: Duration::from_secs(25),
            concurrent: 2,
            interval: Duration::from_millis(100),
            max_age: None,
            max_memory: None,
            recipe: recipe.fingerprint(),
            restart_vpn_after: None,
        },
        recipe,
        ports: HostPorts::new(22_340..=22_359),
        https_ports: HostPorts::new(45_000..=45_999),
        monitor: Duration::from_secs(2),
        growth: (5, Duration::from_mins(5)),
        replacement: (3, Duration::from_mins(3)),
        stop_on_exit: true,
        runaway: RunawayRule {
            patience: Duration::from_secs(6),
            stretch: Duration::from_secs(3),
            ..RunawayRule::default()
        },
        run: "this".into(),
        floor: None,
        vpns: Vec::new(),
    }
}

fn engines() -> Arc<Engines> {
    let config = Config::from_pairs([("ENGINE_PROVISIONER", "docker".to_owned())]).expect("settings");
    setup::engines(&config, None)
}

/// A stream that has come and gone.
fn was_used(engines: &Arc<Engines>, member: &Arc<Member>) {
    drop(engines.slot_on(member).expect("it is free"));
}

/// Has this engine receive some 8 Mbit/s for as long as it exists. It need not like what it gets: what arrives counts.
async fn feed(member: Arc<Member>) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, member.engine.endpoint().port()));
    let piece = vec![b'x'; 20_000];
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Ok(mut connection) = TcpStream::connect(address).await {
        loop {
            ticks.tick().await;
            if connection.write_all(&piece).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_engine_that_downloads_on_is_replaced_and_the_quiet_one_beside_it_stays() {
    let instance = format!("runaway-{}", std::process::id());
    let _clean = Clean(instance.clone());
    let docker = Docker::new(DockerOptions { host: None, instance: instance.parse().expect("a name") });
    let docker = Arc::new(docker.expect("a daemon"));
    let (engines, diary, stop) = (engines(), Arc::new(Diary::default()), CancellationToken::new());
    let observer = Arc::clone(&diary);
    let provisioner = Arc::clone(&docker);
    let (_fleet, task) = Fleet::new(options(&instance), Arc::clone(&engines), provisioner, observer);
    let mut running = JoinSet::new();
    running.spawn(probe::run(Arc::clone(&engines), task.healthy(), stop.clone()));
    running.spawn(task.run(stop.clone()));

    let healthy = || {
        let all = engines.all();
        all.iter().filter(|member| member.knowledge().health == Health::Healthy).count()
    };
    until("two engines are ready", || healthy() == 2).await;
    let pair: Vec<_> = engines.all().iter().cloned().collect();
    for member in &pair {
        was_used(&engines, member);
    }
    let began = Instant::now();
    let mut feeding = JoinSet::new();
    feeding.spawn(feed(Arc::clone(&pair[0])));
    until("it is called a runaway", || pair[0].runs_away().is_some()).await;
    println!("noticed after {:?}: {}", began.elapsed(), pair[0].runs_away().expect("it is one"));
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(pair[1].runs_away(), None);
    until("it is replaced", || !diary.removed().is_empty() && healthy() == 2).await;
    drop(feeding);

    let (cordoned, removed) = (diary.given_up(), diary.removed());
    let runaway = pair[0].key.as_str();
    assert!(matches!(cordoned.as_slice(), [(id, 2..=12)] if id == runaway), "{cordoned:?}");
    let is_named = matches!(removed.as_slice(), [(id, Reason::RunsAway { .. })] if id == runaway);
    assert!(is_named, "{removed:?}");
    let left: Vec<_> = engines.all().iter().map(|member| member.key.clone()).collect();
    assert!(left.contains(&pair[1].key) && left.len() == 2, "{left:?}");

    stop.cancel();
    while running.join_next().await.is_some() {}
    assert!(docker.list().await.expect("a list").is_empty(), "the service has taken its engines with it");
}
