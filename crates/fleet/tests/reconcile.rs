//! The loop against a daemon that is a value in memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use acemux_fleet::allowed::{Asked, HostPorts};
use acemux_fleet::dispatch::{DispatchOptions, Engines, Outlook};
use acemux_fleet::event::{Event, Observer};
use acemux_fleet::fleet::{CommandError, ContainerNote, Fleet, FleetOptions, Snapshot, Vpn};
use acemux_fleet::ident::{ContainerId, DockerName};
use acemux_fleet::plan::{Hold, Policy};
use acemux_fleet::profile::{ArmTags, Profile, Variant};
use acemux_fleet::provisioner::{
    Container, ContainerState, Daemon, Neighbours, PostMortem, ProvisionError, Provisioner, Usage, VpnChange,
    VpnContainer,
};
use acemux_fleet::recipe::{Reach, Recipe};
use acemux_fleet::runaway::RunawayRule;
use acemux_fleet::spec::{EngineSpec, Limits, Network, label};
use acemux_fleet::tunnel::gluetun::{Credentials, Gluetun, Settings};
use acemux_fleet::tunnel::{Health, Report, Tunnel, TunnelName};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long the daemon takes for a call.
const CALL: Duration = Duration::from_millis(5);
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_mins(2);

/// A daemon with the containers of several services. Cheap to clone.
#[derive(Clone, Default)]
struct FakeDaemon(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    containers: BTreeMap<ContainerId, Container>,
    /// Names that containers of others have.
    foreign: BTreeSet<String>,
    /// Every name is said to be taken, whatever the lists say.
    refuses_names: bool,
    /// When which name was asked for.
    asked: Vec<(Instant, String)>,
    /// VPN containers that tunnels look at, by name.
    vpns: BTreeMap<String, VpnContainer>,
    /// Which of them were restarted when.
    restarts: Vec<(Instant, ContainerId)>,
    /// When a removal was asked for.
    removals: Vec<Instant>,
    /// Calls of which the next one panics.
    panics: BTreeSet<Call>,
    /// Calls that are done so much later.
    slow: BTreeMap<Call, Duration>,
    /// Calls that are done at once and told of so much later.
    late: BTreeMap<Call, Duration>,
    /// What removals are answered; the container is there all the same.
    removals_fail: Option<ProvisionError>,
    /// What creations are answered.
    creations_fail: Option<ProvisionError>,
    /// What inspections are answered.
    inspections_fail: Option<ProvisionError>,
    /// How long a container that was created is not started yet. It is told of and listed meanwhile.
    starts_after: Duration,
    /// How often it was asked what a container uses. It says how often, once, and nothing after that.
    usages: u64,
    /// The next list shows none.
    forgets_all: bool,
    /// What lists show of some until then, whatever has become of them.
    old_news: BTreeMap<ContainerId, (Instant, Container)>,
    /// Something has changed.
    changed: Arc<Notify>,
    next: u64,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    List,
    Inspect,
    Create,
    Remove,
}

impl FakeDaemon {
    fn take_names(&self, names: impl IntoIterator<Item = usize>) {
        let names = names.into_iter().map(|number| format!("acestream-{number}"));
        self.0.lock().foreign.extend(names);
    }

    fn asked(&self) -> Vec<(Instant, String)> {
        self.0.lock().asked.clone()
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().containers.values().map(|container| container.name.clone()).collect()
    }

    /// As our daemon creates it, from whatever process.
    fn add(&self, name: &str, labels: BTreeMap<String, String>) -> ContainerId {
        self.0.lock().add(name, labels)
    }
}

impl World {
    fn add(&mut self, name: &str, labels: BTreeMap<String, String>) -> ContainerId {
        self.next += 1;
        let id: ContainerId = format!("{:064x}", self.next).parse().expect("64 hex digits");
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            image: "image".into(),
            state: ContainerState::Running,
            // The daemon's clock is years behind ours.
            created: Timestamp::UNIX_EPOCH,
            labels,
            ports: Vec::new(),
            inside: None,
        };
        self.containers.insert(id.clone(), container);
        id
    }

    fn as_listed<'a>(&'a self, container: &'a Container) -> &'a Container {
        let old = self.old_news.get(&container.id).filter(|(until, _)| Instant::now() < *until);
        old.map_or(container, |(_, was)| was)
    }

    /// Somebody suspends it: told at once, and listed `later`.
    fn freeze(&mut self, id: &ContainerId, later: Duration) {
        let container = self.containers.get_mut(id).expect("a container");
        self.old_news.insert(id.clone(), (Instant::now() + later, container.clone()));
        container.state = ContainerState::Paused;
        self.changed.notify_one();
    }

    /// What becomes of it, told at once.
    fn is(&mut self, id: &ContainerId, state: ContainerState) {
        self.containers.get_mut(id).expect("a container").state = state;
        self.changed.notify_one();
    }

    fn create(&mut self, spec: &EngineSpec) -> Result<ContainerId, ProvisionError> {
        self.asked.push((Instant::now(), spec.name.clone()));
        if let Some(error) = self.creations_fail.clone() {
            return Err(error);
        }
        let is_taken = self.refuses_names
            || self.foreign.contains(&spec.name)
            || self.containers.values().any(|container| container.name == spec.name);
        if is_taken {
            return Err(ProvisionError::NameTaken { name: spec.name.clone() });
        }
        let id = self.add(&spec.name, BTreeMap::clone(&spec.labels));
        if let (Network::Container(vpn), Some(container)) = (&spec.network, self.containers.get_mut(&id)) {
            container.inside = Some(vpn.as_str().to_owned());
        }
        Ok(id)
    }
}

impl FakeDaemon {
    fn call<T: Send + 'static>(
        &self,
        kind: Call,
        answer: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let daemon = self.clone();
        async move {
            let slow = daemon.0.lock().slow.get(&kind).copied();
            sleep(CALL + slow.unwrap_or_default()).await;
            let is_wrong = daemon.0.lock().panics.remove(&kind);
            assert!(!is_wrong, "as the test wants");
            let answer = answer(&mut daemon.0.lock());
            let late = daemon.0.lock().late.get(&kind).copied();
            sleep(late.unwrap_or_default()).await;
            answer
        }
        .boxed()
    }
}

fn after<T: Send + 'static>(answer: impl FnOnce() -> T + Send + 'static) -> BoxFuture<'static, T> {
    async move {
        sleep(CALL).await;
        answer()
    }
    .boxed()
}

impl Provisioner for FakeDaemon {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Container>, ProvisionError>> {
        self.call(Call::List, |world| {
            let all = world.containers.values().map(|container| world.as_listed(container).clone()).collect();
            Ok(if std::mem::take(&mut world.forgets_all) { Vec::new() } else { all })
        })
    }

    fn neighbours(&self) -> BoxFuture<'_, Result<Neighbours, ProvisionError>> {
        let daemon = self.clone();
        after(move || {
            let names = daemon.0.lock().foreign.clone();
            Ok(Neighbours { engines: Vec::new(), names })
        })
    }

    fn inspect<'a>(
        &'a self,
        id: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<Container>, ProvisionError>> {
        let id = id.clone();
        self.call(Call::Inspect, move |world| match world.inspections_fail.clone() {
            None => Ok(world.containers.get(&id).cloned()),
            Some(error) => Err(error),
        })
    }

    fn create<'a>(&'a self, spec: &'a EngineSpec) -> BoxFuture<'a, Result<ContainerId, ProvisionError>> {
        let (daemon, spec) = (self.clone(), spec.clone());
        async move {
            let created = daemon.call(Call::Create, move |world| world.create(&spec)).await?;
            let starts_after = daemon.0.lock().starts_after;
            if !starts_after.is_zero() {
                daemon.0.lock().is(&created, ContainerState::Created);
                sleep(starts_after).await;
                daemon.0.lock().is(&created, ContainerState::Running);
            }
            Ok(created)
        }
        .boxed()
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        let id = id.clone();
        self.call(Call::Remove, move |world| {
            world.removals.push(Instant::now());
            let Some(error) = world.removals_fail.clone() else {
                world.containers.remove(&id);
                return Ok(());
            };
            if let (Some(container), true) = (world.containers.get_mut(&id), error.is_still_removing()) {
                container.state = ContainerState::Exited;
            }
            Err(error)
        })
    }

    fn post_mortem<'a>(&'a self, _id: &'a ContainerId) -> BoxFuture<'a, Result<PostMortem, ProvisionError>> {
        after(|| Ok(PostMortem::default()))
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let changed = Arc::clone(&self.0.lock().changed);
        let next = async |changed: Arc<Notify>| {
            changed.notified().await;
            Some(((), changed))
        };
        stream::unfold(changed, next).boxed()
    }

    fn usage(&self, _id: &ContainerId) -> BoxStream<'static, Usage> {
        let mut world = self.0.lock();
        world.usages += 1;
        let memory = world.usages;
        stream::iter([Usage { memory, ..Usage::default() }]).chain(stream::pending()).boxed()
    }

    fn vpn<'a>(
        &'a self,
        name: &'a DockerName,
    ) -> BoxFuture<'a, Result<Option<VpnContainer>, ProvisionError>> {
        let vpn = self.0.lock().vpns.get(name.as_str()).cloned();
        after(|| Ok(vpn))
    }

    fn vpn_changes(&self, _name: &DockerName) -> BoxStream<'static, VpnChange> {
        stream::pending().boxed()
    }

    fn restart_vpn<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        let (daemon, id) = (self.clone(), id.clone());
        after(move || {
            daemon.0.lock().restarts.push((Instant::now(), id));
            Ok(())
        })
    }

    fn daemon(&self) -> BoxFuture<'_, Result<Daemon, ProvisionError>> {
        after(|| Ok(Daemon { version: "1".into(), api_version: "1.41".into() }))
    }
}

/// Keeps what is told.
#[derive(Default)]
struct Diary(Mutex<Vec<(Instant, Event)>>);

impl Observer for Diary {
    fn observe(&self, event: &Event) {
        self.0.lock().push((Instant::now(), event.clone()));
    }
}

impl Diary {
    fn rivals(&self) -> Vec<(Instant, Vec<String>)> {
        let told = self.0.lock();
        let rivals = told.iter().filter_map(|(at, event)| match event {
            Event::Rival { engines, .. } => Some((*at, engines.clone())),
            _ => None,
        });
        rivals.collect()
    }
}

/// One service.
struct Service {
    fleet: Fleet,
    diary: Arc<Diary>,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Service {
    fn start(daemon: &FakeDaemon, run: &str, min: usize) -> Self {
        Self::start_with(daemon, FleetOptions { run: run.to_owned(), ..options(min) })
    }

    fn start_with(daemon: &FakeDaemon, options: FleetOptions) -> Self {
        let engines = engines();
        let diary = Arc::new(Diary::default());
        let observer = Arc::clone(&diary);
        let (fleet, task) = Fleet::new(options, engines, Arc::new(daemon.clone()), observer);
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(task.run(stop.clone()));
        Self { fleet, diary, stop, running }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.fleet.snapshot()) {
            assert!(Instant::now() < deadline, "this never came: {what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn told(&self, is_meant: impl Fn(&Event) -> bool) -> usize {
        self.diary.0.lock().iter().filter(|(_, event)| is_meant(event)).count()
    }

    fn vanished(&self) -> usize {
        self.told(|event| matches!(event, Event::Vanished { .. }))
    }

    fn first(&self) -> ContainerId {
        let containers = self.fleet.snapshot().containers.clone();
        containers[0].id.parse().expect("a container's id")
    }

    async fn has(&self, engines: usize) {
        self.until("that many engines", |snapshot| snapshot.containers.len() == engines).await;
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

fn engines() -> Arc<Engines> {
    let dispatch = DispatchOptions {
        slots: 1,
        misses_allowed: 3,
        selection: acemux_engine::Limit::new(Duration::from_secs(5)),
        startup: acemux_engine::Limit::new(Duration::from_secs(25)),
        timings: acemux_engine::Timings::default(),
        journal: None,
    };
    Engines::new(&[], dispatch, Outlook::Growing)
}

/// The labels of an engine that this run has made, or somebody's hand.
fn made_by(run: Option<&str>, port: u16) -> BTreeMap<String, String> {
    let run = run.map(|run| (label::RUN.to_owned(), run.to_owned()));
    [(label::HTTP_PORT.to_owned(), port.to_string())].into_iter().chain(run).collect()
}

/// Ports of this service's own: tests run beside each other, and ports are probed for real.
fn ports() -> std::ops::RangeInclusive<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 25_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 50 * 40;
    first..=first + 39
}

fn options(min: usize) -> FleetOptions {
    let recipe = Recipe {
        profile: Profile::of(Variant::Krinkuto11Amd64, &ArmTags::default()),
        image: None,
        limits: Limits::default(),
        read_only: true,
        network: Network::Host,
        behind_vpn: false,
        reach: Reach::Published,
        map_https: false,
        label: "orchestrator.managed=acestream".parse().expect("a label"),
        instance: "test".parse().expect("a name"),
    };
    let policy = Policy {
        min,
        max: 10,
        min_free: 0,
        slots: 1,
        idle_grace: Duration::from_secs(30),
        auto_delete: true,
        unhealthy_grace: Duration::from_mins(1),
        // Nothing answers here: engines are coming for as long as a test lasts.
        startup: Duration::from_hours(24),
        concurrent: 2,
        interval: Duration::from_millis(500),
        max_age: None,
        max_memory: None,
        recipe: recipe.fingerprint(),
        restart_vpn_after: None,
    };
    FleetOptions {
        policy,
        recipe,
        ports: HostPorts::new(ports()),
        https_ports: HostPorts::new(45_000..=45_999),
        monitor: Duration::from_secs(10),
        growth: (5, Duration::from_mins(5)),
        replacement: (3, Duration::from_mins(3)),
        stop_on_exit: false,
        runaway: RunawayRule::default(),
        run: "this".into(),
        floor: None,
        vpns: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_other_containers_have_are_known_before_the_first_creation() {
    let daemon = FakeDaemon::default();
    daemon.take_names(1..=20);
    let began = Instant::now();
    let service = Service::start(&daemon, "this", 1);
    service.has(1).await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    let names: Vec<String> = daemon.asked().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["acestream-21"], "no name was tried in vain");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_policy_counts_at_once_and_is_a_newer_word_than_an_earlier_scale() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 1);
    service.has(1).await;
    assert_eq!(service.fleet.scale(3).await, Ok(3));
    service.has(3).await;
    let policy = |min| Policy { min, ..options(min).policy };
    // What says nothing new of how many there are to be leaves the earlier word alone.
    let same = Policy { max: 9, ..policy(1) };
    service.fleet.set_policy(same).await.expect("it is heard");
    service.until("the other cap", |snapshot| snapshot.max == 9 && snapshot.min == 3).await;
    service.fleet.set_policy(policy(2)).await.expect("it is heard");
    service.until("the newest word", |snapshot| snapshot.min == 2).await;
    service.fleet.set_policy(policy(5)).await.expect("it is heard");
    service.has(5).await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_taken_meanwhile_costs_no_pause() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 0);
    sleep(Duration::from_secs(5)).await;
    // Twenty containers begin after the names were looked at.
    daemon.take_names(1..=20);
    assert_eq!(service.fleet.scale(1).await, Ok(1));
    service.has(1).await;
    let asked = daemon.asked();
    let names: Vec<&str> = asked.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["acestream-1", "acestream-21"], "one is enough to look again");
    let took = asked[1].0 - asked[0].0;
    assert!(took < Duration::from_millis(100), "{took:?}");
    service.stop().await;
}

/// Several services begin on one daemon, and each is asked for an engine at once.
#[tokio::test(start_paused = true)]
async fn who_asks_for_an_engine_gets_it_under_another_name_when_others_take_the_first() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 0);
    sleep(Duration::from_secs(5)).await;
    daemon.take_names(1..=20);
    let made = service.fleet.provision(Asked::default()).await.expect("twenty names are in the way");
    assert_eq!(made.container_name, "acestream-21");
    assert_eq!(daemon.asked().len(), 2, "one is enough to look again");
    daemon.0.lock().refuses_names = true;
    let refused = service.fleet.provision(Asked::default()).await.map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|why| why.contains("is taken by another container")), "{refused:?}");
    assert!(daemon.asked().len() <= 2 + 5, "and a daemon that refuses every name is asked a few times");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_refuses_every_name_is_not_stormed() {
    let daemon = FakeDaemon::default();
    daemon.0.lock().refuses_names = true;
    let service = Service::start(&daemon, "this", 1);
    sleep(Duration::from_mins(1)).await;
    let tried = daemon.asked().len();
    assert!((10..=130).contains(&tried), "{tried} creations in a minute");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_was_asked_to_keep_is_kept() {
    let daemon = FakeDaemon::default();
    let service = Service::start_with(&daemon, FleetOptions { floor: Some(3), ..options(1) });
    service.has(3).await;
    let snapshot = service.fleet.snapshot();
    assert_eq!((snapshot.min, snapshot.min_replicas), (3, 1));
    service.stop().await;
    // Within the bounds of now, whatever they were then.
    let service = Service::start_with(&daemon, FleetOptions { floor: Some(300), ..options(1) });
    service.has(10).await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_services_with_one_instance_id_notice_each_other() {
    let daemon = FakeDaemon::default();
    let first = Service::start(&daemon, "first", 2);
    first.has(2).await;
    let second = Service::start(&daemon, "second", 2);
    second.has(2).await;
    sleep(Duration::from_mins(1)).await;
    assert!(first.fleet.snapshot().rival.is_none() && second.fleet.snapshot().rival.is_none());
    // Whoever of the two creates next, the other one notices.
    for (one, other, engines) in [(&first, &second, 3), (&second, &first, 4)] {
        assert_eq!(one.fleet.scale(engines).await, Ok(engines));
        other.until("it notices", |snapshot| snapshot.rival.is_some()).await;
        let rival = other.fleet.snapshot().rival.clone().expect("it was there");
        assert_eq!((rival.instance.as_str(), rival.engines), ("test", vec![format!("acestream-{engines}")]));
        assert_eq!(other.diary.rivals().len(), 1);
        other.has(engines).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rival_is_told_of_once_a_minute_with_all_its_engines() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 0);
    sleep(Duration::from_mins(1)).await;
    for number in 1..=8 {
        daemon.add(&format!("acestream-{number}"), made_by(Some("other"), 30_000 + number));
        sleep(Duration::from_secs(15)).await;
    }
    sleep(Duration::from_mins(2)).await;
    let told = service.diary.rivals();
    let named: Vec<&String> = told.iter().flat_map(|(_, engines)| engines).collect();
    assert_eq!(named.len(), 8, "{told:?}");
    assert!((2..=3).contains(&told.len()), "{told:?}");
    let pauses = told.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(pauses.min() >= Some(Duration::from_mins(1)), "{told:?}");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rival_that_was_met_is_told_of_at_once_and_forgotten_when_it_has_gone() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 0);
    service.fleet.has_rival(true).await.expect("the loop runs");
    service.until("it is shown", |snapshot| snapshot.rival.is_some()).await;
    sleep(Duration::from_mins(5)).await;
    assert_eq!(service.diary.rivals().len(), 1, "it is told of once");
    service.fleet.has_rival(false).await.expect("the loop runs");
    service.until("it is forgotten", |snapshot| snapshot.rival.is_none()).await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn engines_of_an_earlier_run_and_those_made_by_hand_are_no_rivals() {
    let daemon = FakeDaemon::default();
    let earlier = Service::start(&daemon, "earlier", 2);
    earlier.has(2).await;
    earlier.stop().await;
    let service = Service::start(&daemon, "this", 3);
    service.has(3).await;
    // A creation that the earlier run had begun comes to its end.
    daemon.add("acestream-8", made_by(Some("earlier"), 30_000));
    service.has(4).await;
    sleep(Duration::from_mins(1)).await;
    daemon.add("by-hand", made_by(None, 30_001));
    service.has(5).await;
    assert_eq!(daemon.names().len(), 5);
    assert!(service.fleet.snapshot().rival.is_none() && service.diary.rivals().is_empty());
    service.stop().await;
}

/// A bug of ours in a task must not cost a place, an engine or the sight of the daemon for ever.
#[tokio::test(start_paused = true)]
async fn a_task_that_panics_leaves_nothing_behind() {
    let daemon = FakeDaemon::default();
    let panics = |call| assert!(daemon.0.lock().panics.insert(call), "one at a time");
    panics(Call::List);
    panics(Call::Create);
    let mut options = options(1);
    options.policy.max = 1;
    let service = Service::start_with(&daemon, options);
    service.has(1).await;
    panics(Call::Remove);
    assert!(service.fleet.remove(service.first()).await.is_err());
    let removed = service.first();
    while service.fleet.remove(removed.clone()).await.is_err() {
        sleep(Duration::from_secs(1)).await;
    }
    service.until("it is replaced", |now| now.containers.iter().any(|one| one.id != removed.as_str())).await;
    panics(Call::Inspect);
    daemon.0.lock().containers.clear();
    let gone = service.first();
    service.until("its end is noticed", |now| now.containers.iter().any(|one| one.id != gone.as_str())).await;
    assert_eq!(service.vanished(), 1);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_inspection_that_ends_while_we_remove_the_container_accuses_nobody() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 1);
    service.has(1).await;
    sleep(Duration::from_secs(2)).await;
    let first = service.first();
    // A list does not show it, so it is asked for by its id. That takes long enough for its removal to begin, and the
    // removal is told of later than it is done.
    {
        let mut world = daemon.0.lock();
        world.slow.insert(Call::Inspect, Duration::from_secs(1));
        world.late.insert(Call::Remove, Duration::from_secs(3));
        world.forgets_all = true;
    }
    let lists_by_then = Instant::now() + Duration::from_secs(12);
    while daemon.0.lock().forgets_all {
        assert!(Instant::now() < lists_by_then, "it is listed every ten seconds");
        sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    let removal = service.fleet.remove(first.clone());
    removal.await.expect("it is removed");
    assert!(began.elapsed() >= Duration::from_secs(3), "the inspection came first");
    assert_eq!(service.vanished(), 0);
    service
        .until("it is replaced at once", |now| {
            now.containers.len() == 1 && now.containers[0].id != first.as_str()
        })
        .await;
    assert!(began.elapsed() < Duration::from_millis(4_500), "{:?}: its place has no pause", began.elapsed());
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_daemon_tells_before_it_lists_it_is_noticed_all_the_same() {
    let monitor = options(1).monitor;
    for later in [0, 20, 400, 900].map(Duration::from_millis) {
        let daemon = FakeDaemon::default();
        let service = Service::start(&daemon, "this", 1);
        service.has(1).await;
        // What was told before it was created is no longer looked for, and the regular look is not near.
        sleep(monitor / 2).await;
        let first = service.first();
        let began = Instant::now();
        daemon.0.lock().freeze(&first, later);
        let is_it = |one: &ContainerNote| one.id == first.as_str() && one.standing == "frozen";
        service.until("it is known", |now| now.containers.iter().any(is_it)).await;
        assert!(began.elapsed() < Duration::from_secs(3), "listed {later:?} later: {:?}", began.elapsed());
        service.stop().await;
    }
}

/// A list that is asked for between the two calls of a creation, and answered after them, shows a container that was never
/// started.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_older_than_a_start_does_not_end_the_engine() {
    for (late, starts_after) in [(50, 950), (400, 700), (2_000, 1_020), (4_000, 3_000)] {
        let [late, starts_after] = [late, starts_after].map(Duration::from_millis);
        let daemon = FakeDaemon::default();
        {
            let mut world = daemon.0.lock();
            world.starts_after = starts_after;
            world.late.insert(Call::List, late);
        }
        let service = Service::start(&daemon, "this", 1);
        service.has(1).await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(daemon.asked().len(), 1, "answered {late:?} later");
        assert!(daemon.0.lock().removals.is_empty(), "answered {late:?} later");
        assert_eq!(service.fleet.snapshot().containers[0].state, "running");
        service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_has_trouble_with_one_container_is_not_down() {
    for (error, is_down) in [
        (ProvisionError::Refused { detail: "layer does not exist".into() }, false),
        (ProvisionError::BadReply { detail: "no state".into() }, false),
        (ProvisionError::Unreachable { detail: "it did not answer in time".into() }, true),
    ] {
        let daemon = FakeDaemon::default();
        let service = Service::start(&daemon, "this", 1);
        service.has(1).await;
        {
            let mut world = daemon.0.lock();
            (world.inspections_fail, world.forgets_all) = (Some(error.clone()), true);
        }
        sleep(Duration::from_secs(30)).await;
        assert!(!daemon.0.lock().forgets_all, "it was listed");
        let told = service.told(|event| matches!(event, Event::DockerDown { .. }));
        assert_eq!((told > 0, service.vanished()), (is_down, 0), "{error}");
        service.stop().await;
    }
}

/// As behind a proxy that has gone, or after the daemon's machine has slept: no end and no error is told.
#[tokio::test(start_paused = true)]
async fn statistics_that_have_gone_silent_are_asked_for_anew() {
    let daemon = FakeDaemon::default();
    let service = Service::start(&daemon, "this", 1);
    service.has(1).await;
    let engine = service.first();
    let memory = || {
        let member = service.fleet.engines().find(engine.as_str()).expect("an engine");
        member.knowledge().usage.map_or(0, |usage| usage.memory)
    };
    sleep(Duration::from_secs(20)).await;
    assert_eq!(memory(), 1, "a second or two of silence is none");
    sleep(Duration::from_secs(20)).await;
    assert_eq!(memory(), 2);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_ready_and_cannot_be_removed_is_one_failure() {
    let daemon = FakeDaemon::default();
    daemon.0.lock().removals_fail = Some(ProvisionError::Refused { detail: "not today".into() });
    let mut options = options(1);
    (options.policy.startup, options.policy.max) = (Duration::from_secs(2), 1);
    let service = Service::start_with(&daemon, options);
    sleep(Duration::from_mins(2)).await;
    assert!(daemon.0.lock().removals.len() >= 3, "it is tried again");
    assert_eq!(service.fleet.snapshot().breakers[0].failure_count, 1);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_never_ends_fills_no_place_and_storms_nobody() {
    let daemon = FakeDaemon::default();
    let mut options = options(1);
    options.policy.max = 1;
    let service = Service::start_with(&daemon, options);
    service.has(1).await;
    daemon.0.lock().removals_fail = Some(ProvisionError::StillRemoving { id: "0".into() });
    let first = service.first();
    assert!(service.fleet.remove(first.clone()).await.is_err());
    let began = Instant::now();
    service.until("another one fills the place", |now| now.containers.len() == 2).await;
    assert!(began.elapsed() <= Duration::from_secs(45), "{:?}", began.elapsed());
    sleep(Duration::from_mins(5)).await;
    let tried = daemon.0.lock().removals.len();
    assert!((2..=12).contains(&tried), "{tried} in five minutes");
    assert_eq!(daemon.names().len(), 2, "one that is stuck makes room for one");
    daemon.0.lock().removals_fail = None;
    service.until("it goes at last", |now| now.containers.iter().all(|one| one.id != first.as_str())).await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_container_is_reached_by_its_new_name_and_its_old_one_is_not_given_away() {
    let daemon = FakeDaemon::default();
    let mut options = options(1);
    options.recipe.network = Network::Named { name: "acemux".parse().expect("a name"), own: true };
    options.recipe.reach = Reach::ByName;
    options.policy.recipe = options.recipe.fingerprint();
    let service = Service::start_with(&daemon, options);
    service.has(1).await;
    let host = || service.fleet.engines().all()[0].engine.endpoint().host().to_owned();
    assert_eq!(host(), "acestream-1");
    daemon.0.lock().containers.values_mut().for_each(|container| container.name = "mine".into());
    service.until("it is noticed", |now| now.containers[0].name == "mine").await;
    assert_eq!(host(), "mine");
    assert_eq!(service.fleet.scale(2).await, Ok(2));
    service.has(2).await;
    assert!(daemon.names().contains(&"acestream-2".to_owned()), "{:?}", daemon.names());
    service.stop().await;
}

/// A VPN that is as the test says.
struct FakeVpn {
    name: TunnelName,
    reports: watch::Sender<Report>,
}

impl Tunnel for FakeVpn {
    fn name(&self) -> &TunnelName {
        &self.name
    }

    fn reports(&self) -> watch::Receiver<Report> {
        self.reports.subscribe()
    }

    fn watch(self: Arc<Self>, _: CancellationToken) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

impl FakeVpn {
    fn new(name: &str) -> Arc<Self> {
        let name = TunnelName::Vpn(name.parse().expect("a name"));
        Arc::new(Self { name, reports: watch::Sender::new(Report::unknown()) })
    }

    fn is(&self, health: Health) {
        self.reports.send_modify(|report| {
            if report.health.as_str() != health.as_str() {
                report.since = Instant::now();
            }
            report.health = health;
        });
    }

    fn is_down(&self) {
        self.is(Health::Down { why: "as the test says".into() });
    }

    /// Its container runs and it works.
    fn runs(&self, id: char, started: &str) {
        let mut container = vpn_container(self.name.as_str(), id, "172.20.0.3");
        started.clone_into(&mut container.started);
        self.reports.send_modify(|report| report.container = Some(container));
        self.is(Health::Up);
    }

    fn forwards(&self, port: Option<u16>) {
        self.reports.send_modify(|report| report.forwarded = port);
    }
}

/// It runs, without a check of its own.
fn vpn_container(name: &str, id: char, address: &str) -> VpnContainer {
    VpnContainer {
        id: id.to_string().repeat(64).parse().expect("64 hex digits"),
        name: name.to_owned(),
        image: "gluetun".into(),
        state: ContainerState::Running,
        check: None,
        started: "first".into(),
        addresses: vec![address.parse().expect("an address")],
        env: BTreeMap::new(),
    }
}

/// A control server that takes connections, keeps them, and never answers. Returns its port.
async fn hanging(servers: &mut JoinSet<()>, asked: &Arc<AtomicUsize>) -> u16 {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (port, asked) = (server.local_addr().expect("an address").port(), Arc::clone(asked));
    servers.spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = server.accept().await {
            held.push(connection);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    });
    port
}

/// A fleet behind these.
fn behind(vpns: &[&Arc<FakeVpn>], min: usize) -> FleetOptions {
    let mut options = options(min);
    options.recipe.behind_vpn = true;
    options.policy.recipe = options.recipe.fingerprint();
    options.vpns = vpns
        .iter()
        .map(|vpn| Vpn { tunnel: Arc::clone(vpn) as Arc<dyn Tunnel>, ports: HostPorts::new(19_000..=19_499) })
        .collect();
    options
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_an_engine_that_has_nothing_to_hide_behind_is_told_so() {
    let daemon = FakeDaemon::default();
    let mut options = behind(&[], 0);
    options.ports = HostPorts::new(ports());
    let service = Service::start_with(&daemon, options);
    let refused = service.fleet.provision(Asked::default()).await.map_err(|error| error.to_string());
    assert_eq!(refused, Err("direct is no way out for engines".to_owned()));
    assert!(daemon.asked().is_empty(), "none is created that would show the host's address");
    service.stop().await;
}

fn is_inside(container: &Container, id: char) -> bool {
    container.inside.as_deref() == Some(id.to_string().repeat(64).as_str())
}

#[tokio::test(start_paused = true)]
async fn without_a_vpn_that_works_no_engine_is_created_whoever_asks() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    let service = Service::start_with(&daemon, behind(&[&vpn], 2));
    for _ in 0..2 {
        sleep(Duration::from_secs(30)).await;
        assert!(daemon.asked().is_empty());
        let held = service.fleet.snapshot().plan.held.clone();
        assert!(matches!(held[..], [Hold::NoTunnel { .. }]), "{held:?}");
        let refused = service.fleet.provision(Asked::default()).await;
        assert!(matches!(refused, Err(CommandError::NoTunnel { .. })), "{refused:?}");
        vpn.is_down();
    }
    vpn.runs('a', "first");
    service.has(2).await;
    let provisioned = service.fleet.provision(Asked::default()).await.expect("it works");
    assert!((19_000..=19_499).contains(&provisioned.host_http_port));
    let all: Vec<Container> = daemon.0.lock().containers.values().cloned().collect();
    assert!(all.len() == 3 && all.iter().all(|container| is_inside(container, 'a')), "{all:?}");
    let hosts = service.fleet.engines().all();
    assert!(hosts.iter().all(|member| member.engine.endpoint().host() == "172.20.0.3"));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn engines_are_made_anew_when_their_vpn_was_restarted_or_made_anew() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let service = Service::start_with(&daemon, behind(&[&vpn], 2));
    service.has(2).await;
    for (id, started) in [('a', "second"), ('b', "third")] {
        let before = daemon.0.lock().containers.clone();
        vpn.runs(id, started);
        let began = Instant::now();
        while daemon.0.lock().containers.keys().any(|id| before.contains_key(id)) {
            assert!(began.elapsed() < Duration::from_secs(2), "none is left in a network that is gone");
            sleep(Duration::from_millis(10)).await;
        }
        service.has(2).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(daemon.0.lock().containers.values().all(|container| is_inside(container, id)));
    }
    assert_eq!(service.fleet.snapshot().found_outside, 0);
    assert_eq!(service.fleet.snapshot().breakers[0].failure_count, 0, "a VPN's end is no engine's failure");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_outside_of_its_vpn_is_removed_at_once_counted_and_told() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let service = Service::start_with(&daemon, behind(&[&vpn], 1));
    service.has(1).await;
    // Somebody starts one by hand with our labels and forgets the network; the list of every ten seconds shows it.
    let labels = daemon.0.lock().containers.values().next().expect("there is one").labels.clone();
    daemon.add("acestream-9", labels);
    daemon.0.lock().removals_fail = Some(ProvisionError::Refused { detail: "not today".into() });
    sleep(Duration::from_secs(11)).await;
    let used = service.fleet.engines().all();
    assert!(used.iter().all(|member| member.knowledge().name != "acestream-9"), "no stream is sent there");
    assert_eq!(service.fleet.snapshot().outside.len(), 1);
    daemon.0.lock().removals_fail = None;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(daemon.names(), ["acestream-1"]);
    assert!(service.fleet.snapshot().outside.is_empty());
    assert_eq!(service.fleet.snapshot().found_outside, 1);
    assert_eq!(service.told(|event| matches!(event, Event::Outside { .. })), 1);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_vpn_that_is_stuck_is_restarted_once_for_each_time_it_goes_down() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let mut options = behind(&[&vpn], 1);
    options.policy.restart_vpn_after = Some(Duration::from_mins(1));
    let service = Service::start_with(&daemon, options);
    service.has(1).await;
    for round in 1..=2 {
        vpn.is_down();
        sleep(Duration::from_secs(59)).await;
        assert_eq!(daemon.0.lock().restarts.len(), round - 1);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(daemon.0.lock().restarts.len(), round);
        // While it comes up nobody can tell; then it fails again. That is the same outage.
        vpn.is(Health::Unsure { why: "as the test says".into() });
        sleep(Duration::from_secs(5)).await;
        vpn.is_down();
        sleep(Duration::from_mins(10)).await;
        assert_eq!(daemon.0.lock().restarts.len(), round, "once per outage");
        vpn.is(Health::Up);
        sleep(Duration::from_mins(1)).await;
    }
    assert_eq!(daemon.names(), ["acestream-1"], "with no other VPN its engine waits");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ten_hanging_control_servers_delay_no_pass() {
    let (daemon, works) = (FakeDaemon::default(), FakeVpn::new("gluetun"));
    works.runs('a', "first");
    let mut options = behind(&[&works], 1);
    let (mut tasks, asked, stop) = (JoinSet::new(), Arc::default(), CancellationToken::new());
    for digit in '0'..='9' {
        let name = format!("hangs-{digit}");
        let mut container = vpn_container(&name, digit, "127.0.0.1");
        let port = hanging(&mut tasks, &asked).await;
        container.env.insert("HTTP_CONTROL_SERVER_ADDRESS".into(), format!(":{port}"));
        daemon.0.lock().vpns.insert(name.clone(), container);
        let settings = Settings {
            control_port: None,
            credentials: Credentials::None,
            interval: Duration::from_secs(5),
            port_ttl: Duration::from_secs(5),
        };
        let name = name.parse().expect("a name");
        let tunnel: Arc<dyn Tunnel> =
            Arc::new(Gluetun::new(name, settings, Arc::new(daemon.clone()), engines()));
        tasks.spawn(Arc::clone(&tunnel).watch(stop.clone()));
        options.vpns.push(Vpn { tunnel, ports: HostPorts::new(19_000..=19_499) });
    }
    let service = Service::start_with(&daemon, options);
    service.has(1).await;
    let (mut passes, mut last) = (vec![Instant::now()], service.fleet.snapshot().at);
    while passes[0].elapsed() < Duration::from_mins(1) {
        sleep(Duration::from_millis(10)).await;
        let at = service.fleet.snapshot().at;
        if std::mem::replace(&mut last, at) != at {
            passes.push(Instant::now());
        }
    }
    let longest = passes.windows(2).map(|two| two[1] - two[0]).max();
    // It looks once a second by itself, and the clock is read every 10 ms.
    assert!(longest.is_some_and(|longest| longest < Duration::from_secs(1) * 11 / 10), "{longest:?}");
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked >= 10 * 20, "each was asked again and again: {asked}");
    service.stop().await;
}

/// It goes down for 20 s and comes back for 40 s, for an hour: each time is an episode of its own.
#[tokio::test(start_paused = true)]
async fn a_vpn_that_goes_down_again_and_again_causes_no_storm() {
    let daemon = FakeDaemon::default();
    let vpns = ["gluetun", "gluetun-2"].map(FakeVpn::new);
    vpns[0].runs('a', "first");
    vpns[1].runs('b', "first");
    let mut options = behind(&[&vpns[0], &vpns[1]], 4);
    options.policy.restart_vpn_after = Some(Duration::from_secs(10));
    let service = Service::start_with(&daemon, options);
    service.has(4).await;
    let before = daemon.asked().len();
    for episode in 1..=60 {
        vpns[0].is_down();
        sleep(Duration::from_secs(20)).await;
        assert_eq!(daemon.0.lock().restarts.len(), episode, "one restart each time");
        vpns[0].is(Health::Up);
        sleep(Duration::from_secs(40)).await;
        let made = daemon.asked().len() - before;
        // The two that are stranded are replaced, and one goes back for the balance.
        assert!(made <= 3 * episode, "{made} engines in {episode} episodes");
        assert!(daemon.names().len() <= 7, "{:?}", daemon.names());
    }
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_vpn_that_goes_while_engines_come_opens_no_breaker() {
    let daemon = FakeDaemon::default();
    let detail = "cannot join network of a non running container".to_owned();
    daemon.0.lock().creations_fail = Some(ProvisionError::Network { network: "a VPN's".into(), detail });
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let service = Service::start_with(&daemon, behind(&[&vpn], 1));
    sleep(Duration::from_secs(40)).await;
    let tried = daemon.asked().len();
    assert!((2..=8).contains(&tried), "{tried} creations");
    assert_eq!(service.fleet.snapshot().breakers[0].failure_count, 0);
    daemon.0.lock().creations_fail = None;
    service.has(1).await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_engine_of_each_vpn_has_its_forwarded_port() {
    let daemon = FakeDaemon::default();
    let vpns = ["gluetun", "gluetun-2"].map(FakeVpn::new);
    vpns[0].runs('a', "first");
    vpns[1].runs('b', "first");
    vpns[1].forwards(Some(50_001));
    let service = Service::start_with(&daemon, behind(&[&vpns[0], &vpns[1]], 4));
    service.has(4).await;
    service.until("they are shared out", |now| now.tunnels.iter().all(|vpn| vpn.engines.len() == 2)).await;
    let notes = service.fleet.snapshot().tunnels.clone();
    assert_eq!(notes[0].forwarded_engine, None);
    let bearer = notes[1].forwarded_engine.clone().expect("one has it");
    assert!(service.fleet.remove(bearer.parse().expect("an id")).await.is_ok());
    service
        .until("another one gets it", |now| {
            now.tunnels[1].forwarded_engine.as_ref().is_some_and(|now| *now != bearer)
        })
        .await;
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_two_engines_behind_one_vpn_get_the_same_port_though_it_is_asked_for() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let service = Service::start_with(&daemon, behind(&[&vpn], 1));
    service.has(1).await;
    let with = |port| service.fleet.provision(Asked { port: Some(port), ..Asked::default() });
    let used = service.fleet.engines().all()[0].engine.endpoint().port();
    for (port, forwarded) in [(used, None), (19_123, Some(19_123))] {
        vpn.forwards(forwarded);
        let refused = with(port).await;
        let taken = CommandError::Docker(ProvisionError::PortTaken { port }).to_string();
        assert_eq!(refused.map_err(|error| error.to_string()).err(), Some(taken));
    }
    vpn.forwards(None);
    assert_eq!(with(19_124).await.expect("it is free").host_http_port, 19_124);
    let ports: Vec<u16> =
        service.fleet.engines().all().iter().map(|member| member.engine.endpoint().port()).collect();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{ports:?}");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_in_a_network_that_is_none_of_our_vpns_serves_nobody() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let service = Service::start_with(&daemon, behind(&[&vpn], 1));
    service.has(1).await;
    let proper = daemon.0.lock().containers.values().next().expect("there is one").clone();
    daemon.0.lock().removals_fail = Some(ProvisionError::Refused { detail: "not today".into() });
    let mut stranger = proper.labels.clone();
    stranger.insert(label::VPN_CONTAINER.to_owned(), "another".to_owned());
    let mut nowhere = proper.labels.clone();
    nowhere.remove(label::VPN_CONTAINER);
    let mut elsewhere = proper.labels.clone();
    elsewhere.insert(label::NAMESPACE.to_owned(), format!("{}@first", "b".repeat(64)));
    for (name, labels) in [("acestream-7", stranger), ("acestream-8", nowhere), ("acestream-9", elsewhere)] {
        daemon.add(name, labels);
    }
    for container in daemon.0.lock().containers.values_mut() {
        container.inside.clone_from(&proper.inside);
    }
    sleep(Duration::from_secs(11)).await;
    assert_eq!(daemon.names().len(), 4);
    let used: Vec<String> =
        service.fleet.engines().all().iter().map(|member| member.knowledge().name.clone()).collect();
    assert_eq!(used, ["acestream-1"], "no stream is sent to the others");
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_ends_with_its_vpn_before_it_is_ready_is_no_failure() {
    type Fall = fn(&FakeVpn);
    let unsure: Fall = |vpn| vpn.is(Health::Unsure { why: "as the test says".into() });
    let restarted: Fall = |vpn| vpn.runs('a', "second");
    let alone: Fall = |_| {};
    for (fall, failures) in [(unsure, 0), (FakeVpn::is_down as Fall, 0), (restarted, 0), (alone, 1)] {
        let daemon = FakeDaemon::default();
        let vpn = FakeVpn::new("gluetun");
        vpn.runs('a', "first");
        let service = Service::start_with(&daemon, behind(&[&vpn], 1));
        service.has(1).await;
        daemon.0.lock().removals_fail = Some(ProvisionError::Refused { detail: "not today".into() });
        fall(&vpn);
        daemon
            .0
            .lock()
            .containers
            .values_mut()
            .for_each(|container| container.state = ContainerState::Exited);
        sleep(Duration::from_secs(12)).await;
        assert_eq!(service.fleet.snapshot().breakers[0].failure_count, failures);
        service.stop().await;
    }
}

/// The daemon tells of an engine's end before its VPN is seen to have ended: the place may be filled again when the VPN can.
#[tokio::test(start_paused = true)]
async fn an_engine_whose_end_is_seen_before_its_vpns_is_no_failure_either() {
    type Fall = fn(&FakeVpn);
    let unsure: Fall = |vpn| vpn.is(Health::Unsure { why: "as the test says".into() });
    let restarted: Fall = |vpn| vpn.runs('a', "second");
    let alone: Fall = |_| {};
    for (fall, is_failure) in
        [(unsure, false), (FakeVpn::is_down as Fall, false), (restarted, false), (alone, true)]
    {
        let daemon = FakeDaemon::default();
        let vpn = FakeVpn::new("gluetun");
        vpn.runs('a', "first");
        let mut options = behind(&[&vpn], 1);
        // No other place can be filled meanwhile.
        options.policy.max = 1;
        let service = Service::start_with(&daemon, options);
        service.has(1).await;
        daemon.0.lock().containers.values_mut().for_each(|one| one.state = ContainerState::Exited);
        service.until("its failure", |now| now.breakers[0].failure_count == 1).await;
        fall(&vpn);
        sleep(Duration::from_millis(100)).await;
        let snapshot = service.fleet.snapshot();
        assert_eq!(snapshot.breakers[0].failure_count > 0, is_failure);
        let waits = snapshot.plan.held.iter().any(|hold| matches!(hold, Hold::CrashLoop { .. }));
        assert_eq!(waits, is_failure, "{:?}", snapshot.plan);
        service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_given_a_port_is_told_the_setting_of_its_range() {
    let daemon = FakeDaemon::default();
    let vpn = FakeVpn::new("gluetun");
    vpn.runs('a', "first");
    let mut inside = behind(&[&vpn], 1);
    inside.vpns[0].ports = HostPorts::new(19_000..=19_000);
    let first = ports().start().to_owned();
    let outside = FleetOptions { ports: HostPorts::new(first..=first), ..options(1) };
    for (options, setting) in [(inside, "GLUETUN_PORT_RANGE_1"), (outside, "PORT_RANGE_HOST")] {
        let service = Service::start_with(&daemon, options);
        service.has(1).await;
        let refused = service.fleet.provision(Asked::default()).await.map_err(|error| error.to_string());
        assert_eq!(refused.err(), Some(format!("no port of {setting} is free")));
        service.stop().await;
        daemon.0.lock().containers.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_of_a_vpn_that_is_in_the_settings_no_more_goes_at_once_and_raises_no_alarm() {
    let daemon = FakeDaemon::default();
    let (one, two) = (FakeVpn::new("gluetun"), FakeVpn::new("gluetun-2"));
    one.runs('a', "first");
    two.runs('b', "first");
    let service = Service::start_with(&daemon, behind(&[&two], 2));
    service.has(2).await;
    service.stop().await;
    for (options, home) in [(behind(&[&one], 2), Some("a".repeat(64))), (options(2), None)] {
        let service = Service::start_with(&daemon, options);
        sleep(Duration::from_secs(12)).await;
        assert!(daemon.0.lock().containers.values().all(|container| container.inside == home));
        service.has(2).await;
        let snapshot = service.fleet.snapshot();
        assert_eq!((snapshot.found_outside, snapshot.outside.len()), (0, 0));
        assert_eq!(snapshot.breakers[0].failure_count, 0);
        assert_eq!(service.told(|event| matches!(event, Event::Outside { .. })), 0);
        service.stop().await;
    }
}
