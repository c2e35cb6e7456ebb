//! The whole program in this process, with simulated engines behind it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use acemux_relay::viewer::ViewerSnapshot;
use acemux_server::app::{App, Service};
use acemux_server::config::Config;
use acemux_server::supervise::Failure;
use acemux_sim::{CloseReason, Ledger, SimEngine, SimOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::faultproxy::FaultProxy;

/// Longest wait for a condition that must come true.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a test wants; the rest is as users have it, but quicker.
pub struct Setup {
    engines: Vec<SimOptions>,
    addresses: Vec<String>,
    settings: Vec<(&'static str, String)>,
    /// The seed of the network before the engines, if there is to be one that can fail.
    network: Option<u64>,
}

impl Setup {
    /// One engine of verifiable packets that answers within milliseconds.
    pub fn new() -> Self {
        Self::with_engines([SimOptions::fast()])
    }

    /// These engines.
    pub fn with_engines(engines: impl IntoIterator<Item = SimOptions>) -> Self {
        Self::as_shipped(engines).set("EMPTY_STREAM_TIMEOUT", "3s")
    }

    /// These engines and nothing set but where everything is, and that tests need no key: as long in everything as users
    /// have it.
    pub fn as_shipped(engines: impl IntoIterator<Item = SimOptions>) -> Self {
        let settings = [
            ("APP_HOST", "127.0.0.1"),
            ("APP_PORT", "0"),
            ("ENGINE_PROVISIONER", "none"),
            ("DB_PATH", ":memory:"),
            ("OPERATOR_WITHOUT_KEY", "loopback"),
        ];
        Self {
            engines: engines.into_iter().collect(),
            addresses: Vec::new(),
            settings: settings.map(|(name, value)| (name, value.to_owned())).to_vec(),
            network: None,
        }
    }

    /// One more engine that is none of ours.
    pub fn engine_at(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Each engine is reached through a network that can fail.
    pub fn behind_proxies(mut self, seed: u64) -> Self {
        self.network = Some(seed);
        self
    }

    /// A setting by its name in the environment.
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    /// Several settings by their names in the environment.
    pub fn set_all<'a>(self, settings: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        settings.into_iter().fold(self, |setup, (name, value)| setup.set(name, value))
    }

    /// Starts everything.
    pub async fn start(self) -> TestApp {
        self.start_and(|_| ()).await.0
    }

    /// The same, and takes something of the service before it runs.
    pub async fn start_and<T>(self, take: impl FnOnce(&Service) -> T) -> (TestApp, T) {
        let ledger = Ledger::new();
        let mut engines = Vec::new();
        for options in self.engines {
            let options = SimOptions { ledger: Some(ledger.clone()), ..options };
            engines.push(SimEngine::start(options).await.expect("a port is free"));
        }
        let addresses = engines.iter().map(SimEngine::addr);
        let proxies: Vec<FaultProxy> = self.network.map_or_else(Vec::new, |seed| {
            addresses.clone().zip(seed..).map(|(address, seed)| FaultProxy::seeded(address, seed)).collect()
        });
        let reached: Vec<SocketAddr> = if proxies.is_empty() {
            addresses.collect()
        } else {
            proxies.iter().map(FaultProxy::address).collect()
        };
        let own = reached.iter().map(ToString::to_string);
        let list = own.chain(self.addresses).collect::<Vec<_>>().join(",");
        let settings = self.settings.into_iter().chain([("ENGINES", list)]);
        let config = Config::from_pairs(settings).expect("the test's settings can be used");
        let stop = CancellationToken::new();
        let service = Service::build(&config, stop.clone()).await.expect("a port is free");
        let taken = take(&service);
        (TestApp::run(service, stop, engines, proxies, ledger), taken)
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

/// The running program.
pub struct TestApp {
    /// The simulated engines.
    pub engines: Vec<SimEngine>,
    /// The network before each of them, if the setup asked for one.
    pub proxies: Vec<FaultProxy>,
    /// What all of them remember.
    pub ledger: Ledger,
    /// The program's parts.
    pub app: App,
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Failure>>,
}

impl TestApp {
    #[expect(
        clippy::disallowed_methods,
        reason = "the handle is the owner: stop() awaits it, drop aborts it"
    )]
    fn run(
        service: Service,
        stop: CancellationToken,
        engines: Vec<SimEngine>,
        proxies: Vec<FaultProxy>,
        ledger: Ledger,
    ) -> Self {
        let (address, app) = (service.address(), service.app().clone());
        Self { engines, proxies, ledger, app, address, stop, running: tokio::spawn(service.run()) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everybody who watches or waits, stream by stream.
    pub fn watching(&self) -> Vec<ViewerSnapshot> {
        let relay = &self.app.relay;
        relay.sessions().iter().flat_map(|session| relay.watching(&session.key)).collect()
    }

    /// The only engine, or the first.
    pub fn engine(&self) -> &SimEngine {
        &self.engines[0]
    }

    /// Waits until nobody watches and nothing is left, and no playback was left to its engine to end.
    pub async fn at_baseline(&self) {
        self.nothing_left().await;
        assert_eq!(self.forgotten(), 0, "every playback that was opened was stopped by us");
    }

    /// Waits until nobody watches and then that nothing is left: no session, no slot, no open playback on an engine,
    /// and every playback closed exactly as often as opened. For engines whose replies are spoiled, so that no way to
    /// stop what they have started is known.
    pub async fn nothing_left(&self) {
        until("no viewers", || self.app.relay.viewers() == 0).await;
        until("no sessions in the relay", || self.app.relay.sessions().is_empty()).await;
        until("every slot returned", || self.app.engines.all().iter().all(|member| member.used() == 0)).await;
        until("no playback open on an engine", || self.ledger.open_sessions() == 0).await;
        let counts = self.ledger.counts();
        assert_eq!(counts.opened, counts.closed, "{counts:?}");
    }

    /// How many playbacks were left to the engine to end by itself: each is a stop that we owed.
    pub fn forgotten(&self) -> usize {
        let owed = [
            CloseReason::ReaderLeft,
            CloseReason::NeverRead,
            CloseReason::Superseded,
            CloseReason::PlayerSwitched,
        ];
        let ledger = self.ledger.snapshot();
        owed.into_iter().map(|why| ledger.closed_by(why)).sum()
    }

    /// Tells it to stop and waits until it has.
    pub async fn stop(self) {
        self.stop.cancel();
        self.ended().await.expect("nothing failed");
    }

    /// Waits until it has stopped, and returns why it did if nobody told it to.
    pub async fn ended(mut self) -> Result<(), Failure> {
        (&mut self.running).await.expect("the service does not panic")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Waits for a condition, and says which one never came.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "this never came: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for an answer at most as long as for a condition.
pub async fn within<T>(limit: Duration, what: &str, answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}
