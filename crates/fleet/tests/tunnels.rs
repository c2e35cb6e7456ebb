//! What every tunnel promises, and what a gluetun of each generation tells: over real sockets, beside a daemon in memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, report by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::dispatch::{DispatchOptions, Engines, Outlook};
use acemux_fleet::ident::{ContainerId, DockerName};
use acemux_fleet::provisioner::{
    Check, Container, ContainerState, Daemon, Neighbours, PostMortem, ProvisionError, Provisioner, Usage,
    VpnChange, VpnContainer,
};
use acemux_fleet::proxy::Proxy;
use acemux_fleet::spec::EngineSpec;
use acemux_fleet::tunnel::direct::Direct;
use acemux_fleet::tunnel::gluetun::{Credentials, Gluetun, Settings};
use acemux_fleet::tunnel::proxied::Proxied;
use acemux_fleet::tunnel::{Health, Report, Tunnel};
use acemux_sim::gluetun::{Exit, Generation, GluetunFault, GluetunRule, LoopStatus, Role, Weather};
use acemux_sim::{GluetunOptions, SimGluetun};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that has one VPN container, and is changed by tests.
#[derive(Clone)]
struct FakeDaemon {
    vpn: Arc<Mutex<Option<VpnContainer>>>,
    changed: watch::Sender<VpnChange>,
    /// Never answers.
    hangs: watch::Sender<bool>,
}

impl FakeDaemon {
    fn new(check: Option<Check>, env: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let vpn = VpnContainer {
            id: id('a'),
            name: "gluetun".to_owned(),
            image: "gluetun".to_owned(),
            state: ContainerState::Running,
            check,
            started: "2026-11-28T22:45:43Z".to_owned(),
            addresses: vec!["127.0.0.1".parse().expect("an address")],
            env: env.iter().map(own).collect(),
        };
        Self {
            vpn: Arc::new(Mutex::new(Some(vpn))),
            changed: watch::Sender::new(VpnChange::Other),
            hangs: watch::Sender::new(false),
        }
    }

    /// Something happens to the container, and the daemon says that something has.
    fn change(&self, change: impl FnOnce(&mut VpnContainer)) {
        change(self.vpn.lock().as_mut().expect("a container"));
        self.changed.send_replace(VpnChange::Other);
    }

    fn remove(&self) {
        *self.vpn.lock() = None;
        self.changed.send_replace(VpnChange::Other);
    }
}

fn id(digit: char) -> ContainerId {
    digit.to_string().repeat(64).parse().expect("64 hex digits")
}

/// What a tunnel has no business with.
fn unused<T: Send + 'static>() -> BoxFuture<'static, T> {
    async { panic!("a tunnel only looks at its own container") }.boxed()
}

impl Provisioner for FakeDaemon {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Container>, ProvisionError>> {
        unused()
    }

    fn neighbours(&self) -> BoxFuture<'_, Result<Neighbours, ProvisionError>> {
        unused()
    }

    fn inspect<'a>(
        &'a self,
        _id: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<Container>, ProvisionError>> {
        unused()
    }

    fn create<'a>(&'a self, _spec: &'a EngineSpec) -> BoxFuture<'a, Result<ContainerId, ProvisionError>> {
        unused()
    }

    fn remove<'a>(&'a self, _id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        unused()
    }

    fn post_mortem<'a>(&'a self, _id: &'a ContainerId) -> BoxFuture<'a, Result<PostMortem, ProvisionError>> {
        unused()
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        stream::pending().boxed()
    }

    fn usage(&self, _id: &ContainerId) -> BoxStream<'static, Usage> {
        stream::pending().boxed()
    }

    fn vpn<'a>(
        &'a self,
        _name: &'a DockerName,
    ) -> BoxFuture<'a, Result<Option<VpnContainer>, ProvisionError>> {
        let mut hangs = self.hangs.subscribe();
        async move {
            // The sender is ours.
            let _ = hangs.wait_for(|hangs| !hangs).await;
            Ok(self.vpn.lock().clone())
        }
        .boxed()
    }

    fn vpn_changes(&self, _name: &DockerName) -> BoxStream<'static, VpnChange> {
        let told = self.changed.subscribe();
        stream::unfold(told, |mut told| async move {
            told.changed().await.ok()?;
            let change = *told.borrow_and_update();
            Some((change, told))
        })
        .boxed()
    }

    fn restart_vpn<'a>(&'a self, _id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        unused()
    }

    fn daemon(&self) -> BoxFuture<'_, Result<Daemon, ProvisionError>> {
        unused()
    }
}

/// A tunnel that is being watched.
struct Watched {
    reports: watch::Receiver<Report>,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Watched {
    fn new(tunnel: &Arc<dyn Tunnel>) -> Self {
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(Arc::clone(tunnel).watch(stop.clone()));
        Self { reports: tunnel.reports(), stop, running }
    }

    async fn until(&mut self, what: &str, holds: impl FnMut(&Report) -> bool) -> Report {
        let found = timeout(PATIENCE, self.reports.wait_for(holds)).await.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("never came: {what}; now {:?}", self.reports.borrow()))
    }

    async fn is(&mut self, health: &str) -> Report {
        self.until(health, |report| report.health.as_str() == health).await
    }

    /// Whether this is so at a moment of the next seconds.
    async fn becomes(&mut self, seconds: u64, holds: impl FnMut(&Report) -> bool) -> bool {
        timeout(Duration::from_secs(seconds), self.reports.wait_for(holds)).await.is_ok()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        timeout(Duration::from_secs(1), self.running.join_next())
            .await
            .expect("a watch ends when it is told to");
    }
}

/// A gluetun and who looks at it.
struct Rig {
    gluetun: SimGluetun,
    daemon: FakeDaemon,
    tunnel: Arc<dyn Tunnel>,
}

impl Rig {
    async fn new(generation: Generation, check: Option<Check>) -> Self {
        Self::with(generation, check, &[], Credentials::None, &[]).await
    }

    async fn with(
        generation: Generation,
        check: Option<Check>,
        roles: &[&str],
        credentials: Credentials,
        env: &[(&str, &str)],
    ) -> Self {
        let options = GluetunOptions {
            generation,
            roles: roles.iter().map(|role| role.parse::<Role>().unwrap()).collect(),
            exit: Exit { ports: vec![51_413], ..Exit::default() },
            ..GluetunOptions::default()
        };
        let gluetun = SimGluetun::start(options).await.unwrap();
        let daemon = FakeDaemon::new(check, env);
        let settings = Settings {
            control_port: Some(gluetun.addr().port()),
            credentials,
            interval: Duration::from_millis(50),
            port_ttl: Duration::from_millis(50),
        };
        let provisioner = Arc::new(daemon.clone());
        let tunnel = Gluetun::new("gluetun".parse().unwrap(), settings, provisioner, engines());
        Self { gluetun, daemon, tunnel: Arc::new(tunnel) }
    }

    fn watched(&self) -> Watched {
        Watched::new(&self.tunnel)
    }
}

fn engines() -> Arc<Engines> {
    let options = DispatchOptions {
        slots: 1,
        misses_allowed: 3,
        selection: Duration::from_secs(5),
        startup: Duration::from_secs(25),
        timings: acemux_engine::Timings::default(),
        journal: None,
    };
    Engines::new(&[], options, Outlook::Growing)
}

/// A SOCKS5 proxy that greets for as long as the test lasts.
async fn greeting() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("socks5://{}", listener.local_addr().unwrap()).parse().unwrap();
    let mut greeting = JoinSet::new();
    greeting.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who asks may have gone.
            let _ = stream.write_all(&[5, 0]).await;
        }
    });
    greeting.detach_all();
    proxy
}

const GENERATIONS: [Generation; 4] =
    [Generation::V3_39, Generation::V3_40, Generation::V3_41, Generation::Latest];

const KEY: &str = r#"{"auth":"apikey","apikey":"k"}"#;

mod contract {
    //! One suite for every kind of tunnel.

    use super::*;

    /// One of each, with what keeps it alive.
    async fn all() -> Vec<(Arc<dyn Tunnel>, Option<Rig>)> {
        let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
        let direct: Arc<dyn Tunnel> = Arc::new(Direct::new());
        let proxied = Proxied::new(greeting().await, Duration::from_millis(50), engines());
        vec![(direct, None), (Arc::new(proxied), None), (Arc::clone(&rig.tunnel), Some(rig))]
    }

    #[tokio::test]
    async fn it_reports_that_it_is_up_and_says_nothing_more_while_nothing_happens() {
        for (tunnel, _rig) in all().await {
            let mut watched = Watched::new(&tunnel);
            watched.is("up").await;
            let news = timeout(Duration::from_millis(500), watched.reports.changed()).await;
            assert!(news.is_err(), "{}: {:?}", tunnel.name(), watched.reports.borrow());
            watched.stop().await;
        }
    }

    #[tokio::test]
    async fn it_is_watched_again_after_its_watch_has_ended() {
        for (tunnel, _rig) in all().await {
            for _ in 0..2 {
                let mut watched = Watched::new(&tunnel);
                watched.is("up").await;
                watched.stop().await;
            }
        }
    }

    #[tokio::test]
    async fn its_latest_report_is_there_and_its_watch_ends_though_every_party_hangs() {
        for (tunnel, rig) in all().await {
            if let Some(rig) = &rig {
                rig.gluetun.set_fault(GluetunRule::everywhere(GluetunFault::Hang));
                rig.daemon.hangs.send_replace(true);
            }
            let watched = Watched::new(&tunnel);
            tokio::task::yield_now().await;
            let began = Instant::now();
            let health = watched.reports.borrow().health.clone();
            assert!(!matches!(health, Health::Down { .. }), "{}: silence is no evidence", tunnel.name());
            watched.stop().await;
            assert!(began.elapsed() < Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn of_every_generation_port_address_and_status_are_read_or_the_role_to_add_is_told() {
    for generation in GENERATIONS {
        let rig = Rig::new(generation, Some(Check::Healthy)).await;
        let mut watched = rig.watched();
        let report = watched.is("up").await;
        if generation == Generation::Latest {
            assert_eq!((report.forwarded, report.exit.address), (None, None));
            let advice = &report.exit.advice;
            let routes = r#"routes = ["GET /v1/vpn/status", "GET /v1/publicip/ip", "GET /v1/portforward"]"#;
            assert!(advice.len() == 1 && advice[0].contains(routes), "{advice:?}");
        } else {
            assert_eq!(report.forwarded, Some(51_413), "{generation}");
            assert_eq!(report.exit.address, Some("203.0.113.7".parse().unwrap()), "{generation}");
            assert_eq!(report.exit.country.as_deref(), Some("Portugal"));
            assert!(report.exit.forwarded_since.is_some() && report.exit.advice.is_empty());
        }
        watched.stop().await;
    }
}

#[tokio::test]
async fn the_newest_is_read_with_a_key_from_the_settings_or_from_its_own_environment() {
    let basic = r#"{"auth":"basic","username":"u","password":"p"}"#;
    let by_name = || Credentials::Basic { username: "u".to_owned(), password: "p".to_owned() };
    let by_key = || Credentials::ApiKey("k".to_owned());
    let env = "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE";
    for (role, credentials, env) in [
        (KEY, by_key(), vec![]),
        (KEY, Credentials::None, vec![(env, KEY)]),
        (basic, by_name(), vec![]),
        (basic, Credentials::None, vec![(env, basic)]),
    ] {
        let rig = Rig::with(Generation::Latest, None, &[role], credentials, &env).await;
        let mut watched = rig.watched();
        assert_eq!(watched.is("up").await.forwarded, Some(51_413), "{role} {env:?}");
        watched.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_apart_from_none() {
    let wrong = Credentials::ApiKey("another".to_owned());
    let rig = Rig::with(Generation::Latest, Some(Check::Healthy), &[KEY], wrong, &[]).await;
    let mut watched = rig.watched();
    let report = watched.is("up").await;
    assert!(
        report.exit.advice[0].contains("does not take the key of GLUETUN_API_KEY"),
        "{:?}",
        report.exit.advice
    );
    assert!(!format!("{report:?}").contains("another"));
    watched.stop().await;
}

#[tokio::test]
async fn a_closed_or_broken_control_server_leaves_the_health_to_docker() {
    for fault in [
        GluetunFault::Status { status: 401 },
        GluetunFault::Status { status: 404 },
        GluetunFault::Status { status: 500 },
        GluetunFault::Hang,
        GluetunFault::Garbage,
        GluetunFault::Huge { bytes: 1_000_000 },
        GluetunFault::Drip { ms: 400 },
        GluetunFault::Cut { bytes: 3 },
        GluetunFault::Reset,
        GluetunFault::Redirect { to: "/v1/vpn/status".to_owned() },
        GluetunFault::Redirect { to: "http://127.0.0.1:1/v1/vpn/status".to_owned() },
    ] {
        for (check, expected) in
            [(Some(Check::Healthy), "up"), (None, "unsure"), (Some(Check::Starting), "unsure")]
        {
            let rig = Rig::new(Generation::V3_41, check).await;
            rig.gluetun.set_fault(GluetunRule::everywhere(fault.clone()));
            let mut watched = rig.watched();
            let looked = watched.until("a look", |report| report.exit.looked_at.is_some());
            let report = looked.await;
            assert_eq!(report.health.as_str(), expected, "{fault:?} {check:?}: {report:?}");
            assert_eq!((report.forwarded, report.exit.address), (None, None), "{fault:?}");
            watched.stop().await;
        }
    }
}

#[tokio::test]
async fn a_port_of_zero_is_not_yet_and_one_that_comes_later_is_seen() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    rig.gluetun.set_ports(&[]);
    let mut watched = rig.watched();
    assert_eq!(watched.is("up").await.forwarded, None);
    rig.gluetun.set_ports(&[40_000, 40_001]);
    watched.until("the port", |report| report.forwarded == Some(40_000)).await;
    // A reconnecting VPN has none for a moment.
    rig.gluetun.set_ports(&[]);
    let gone = timeout(Duration::from_secs(1), watched.reports.wait_for(|report| report.forwarded.is_none()));
    assert!(gone.await.is_err(), "a moment without it is no loss");
    watched.stop().await;
}

#[tokio::test]
async fn a_vpn_that_is_off_makes_it_unsure_at_once_and_a_flap_never_down() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    watched.is("up").await;
    rig.gluetun.set_status(LoopStatus::Crashed);
    let report = watched.is("unsure").await;
    assert_eq!(report.health.why(), Some("gluetun says that its VPN is crashed"));
    rig.gluetun.set_weather(Weather::Up);
    watched.is("up").await;
    watched.stop().await;
}

#[tokio::test]
async fn a_paused_removed_or_restarted_container_is_down_at_once_and_comes_back() {
    type Change = fn(&FakeDaemon);
    let pause: Change = |daemon| daemon.change(|vpn| vpn.state = ContainerState::Paused);
    let unpause: Change = |daemon| daemon.change(|vpn| vpn.state = ContainerState::Running);
    let restart: Change = |daemon| daemon.change(|vpn| vpn.started = "2026-11-28T22:46:43Z".to_owned());
    let recreate: Change = |daemon| daemon.change(|vpn| vpn.id = id('b'));
    for (fall, back) in [(pause, unpause), (restart, (|_| {}) as Change), (recreate, |_| {})] {
        let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
        let mut watched = rig.watched();
        let before = watched.is("up").await.namespace();
        let began = Instant::now();
        fall(&rig.daemon);
        watched.is("down").await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        back(&rig.daemon);
        let report = watched.is("up").await;
        assert!(before.is_some() && report.namespace().is_some());
        assert_eq!(report.forwarded, Some(51_413));
        watched.stop().await;
    }
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    watched.is("up").await;
    rig.daemon.remove();
    let report = watched.is("down").await;
    assert_eq!((report.container, report.health.why()), (None, Some("its container does not exist")));
    watched.stop().await;
}

/// `docker stop` and `restart` give it ten seconds, in which it still runs and its last check was green.
#[tokio::test]
async fn a_container_that_is_told_to_end_is_down_before_it_has_ended() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    watched.is("up").await;
    // The daemon answers nothing more while it ends the container.
    rig.daemon.hangs.send_replace(true);
    sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    rig.daemon.changed.send_replace(VpnChange::Ending { at: Timestamp::now() });
    let report = watched.is("down").await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(report.health.why(), Some("its container is ending"));
    rig.daemon.hangs.send_replace(false);
    let is_up_again = watched.becomes(7, |report| report.health == Health::Up).await;
    assert!(!is_up_again, "it is ending, and good looks do not change that");
    // Another life is not the one that was told, also when the news comes late.
    let ended = Timestamp::now();
    rig.daemon.change(|vpn| vpn.started = Timestamp::now().to_string());
    watched.is("up").await;
    rig.daemon.changed.send_replace(VpnChange::Ending { at: ended });
    assert!(!watched.becomes(1, |report| report.health != Health::Up).await, "that was its last life");
    watched.stop().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_leaves_everything_as_it_was() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    watched.is("up").await;
    rig.daemon.hangs.send_replace(true);
    let news = timeout(Duration::from_secs(1), watched.reports.changed()).await;
    assert!(news.is_err(), "{:?}", watched.reports.borrow());
    watched.stop().await;
}

#[tokio::test]
async fn a_daemon_that_never_answers_freezes_no_verdict() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    let before = watched.is("up").await;
    rig.daemon.hangs.send_replace(true);
    tokio::time::pause();
    let report = watched.is("unsure").await;
    assert_eq!(report.namespace(), before.namespace(), "its container is where it was");
    rig.daemon.hangs.send_replace(false);
    tokio::time::resume();
    watched.is("up").await;
    watched.stop().await;
}

#[tokio::test]
async fn what_is_known_of_an_exit_goes_with_its_container() {
    type Change = fn(&FakeDaemon);
    let pause: Change = |daemon| daemon.change(|vpn| vpn.state = ContainerState::Paused);
    let end: Change = |daemon| daemon.change(|vpn| vpn.state = ContainerState::Exited);
    for fall in [pause, end, FakeDaemon::remove as Change] {
        let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
        let mut watched = rig.watched();
        assert!(watched.is("up").await.exit.address.is_some());
        fall(&rig.daemon);
        let report = watched.is("down").await;
        assert_eq!((report.exit.address, report.exit.country, report.forwarded), (None, None, None));
        watched.stop().await;
    }
}

#[tokio::test]
async fn an_address_that_is_not_told_again_for_a_minute_is_not_known() {
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    assert!(watched.is("up").await.exit.address.is_some());
    rig.gluetun.set_fault(GluetunRule::everywhere(GluetunFault::Hang));
    tokio::time::pause();
    let is_gone = |report: &Report| report.exit.address.is_none() && report.exit.country.is_none();
    let gone = timeout(Duration::from_secs(70), watched.reports.wait_for(is_gone)).await;
    assert_eq!(gone.expect("it is not known any more").unwrap().health, Health::Up);
    watched.stop().await;
}

/// Ten that hang delay no eleventh: each has a task of its own.
#[tokio::test]
async fn ten_hanging_control_servers_delay_no_other_tunnel() {
    let mut hanging = Vec::new();
    for _ in 0..10 {
        let rig = Rig::new(Generation::V3_41, None).await;
        rig.gluetun.set_fault(GluetunRule::everywhere(GluetunFault::Hang));
        hanging.push((rig.watched(), rig));
    }
    let rig = Rig::new(Generation::V3_41, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    let began = Instant::now();
    watched.is("up").await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for (watched, _) in hanging {
        watched.stop().await;
    }
    watched.stop().await;
}

#[tokio::test]
async fn the_provider_is_named_and_nothing_else_of_the_environment_is_shown() {
    let env = [("VPN_SERVICE_PROVIDER", "protonvpn"), ("WIREGUARD_PRIVATE_KEY", "hush")];
    let rig = Rig::with(Generation::V3_41, Some(Check::Healthy), &[], Credentials::None, &env).await;
    let mut watched = rig.watched();
    let report = watched.is("up").await;
    assert_eq!(report.exit.provider.as_deref(), Some("ProtonVPN"));
    assert!(!format!("{report:?}").contains("hush"));
    watched.stop().await;
}

/// What is read is all that is asked: the settings page reveals keys, and nothing is ever changed.
#[tokio::test]
async fn only_the_pages_that_are_read_are_asked() {
    let rig = Rig::new(Generation::V3_40, Some(Check::Healthy)).await;
    let mut watched = rig.watched();
    watched.is("up").await;
    watched.stop().await;
    let without_status = |request: String| request.rsplit_once(' ').unwrap().0.to_owned();
    let asked: BTreeSet<String> = rig.gluetun.requests().into_iter().map(without_status).collect();
    let asked: Vec<String> = asked.into_iter().collect();
    assert_eq!(
        asked,
        ["GET /v1/openvpn/portforwarded", "GET /v1/portforward", "GET /v1/publicip/ip", "GET /v1/vpn/status"]
    );
}
