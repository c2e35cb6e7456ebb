//! Prometheus metrics. Counters are written where a fact is observed; live gauges are read from a snapshot at scrape
//! time. No label carries a viewer, a content id or the address of a client.

use std::iter;
use std::time::Duration;

use acemux_relay::Relay;
use acemux_relay::event::Healed;
use acemux_relay::origin::Stage;
use acemux_relay::session::{EndReason, Phase, SessionSnapshot};
use acemux_relay::viewer::LeaveReason;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::Fleet;
use acemux_fleet::member::Health;
use acemux_fleet::tunnel;

use crate::http::guesses;
use crate::http::problem::Code;
use crate::planes::origins::EngineOrigin;
use crate::planes::vpn::leak::Proof;
use crate::planes::vpn::{ProxyView, View, VpnView, Vpns};
use crate::record::event::FLEET_CATEGORIES;
use crate::record::orchestrator::Orchestrator;

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    /// By the names of the system that this one replaces.
    reference: Registry,
    orchestrator: Orchestrator,
    pub(crate) starts: Starts,
    pub(crate) sessions: Sessions,
    pub(crate) viewers: Watching,
    pub(crate) fleet: FleetCounts,
    pub(crate) keys: guesses::Counts,
    live: Live,
}

/// What happened to engines.
#[derive(Default)]
pub(crate) struct FleetCounts {
    events: Family<ByEvent, Counter>,
    pub(crate) runaways: Counter,
    ready_seconds: Seconds,
}

/// Starts of streams.
pub(crate) struct Starts {
    results: Family<ByResult, Counter>,
    seconds: Seconds,
    stages: Family<ByStage, Histogram, fn() -> Histogram>,
    pub(crate) retries: Counter,
}

/// Streams.
pub(crate) struct Sessions {
    pub(crate) opened: Counter,
    pub(crate) replaced: Counter,
    pub(crate) repeats: Counter,
    gaps: Family<ByHealing, Histogram, fn() -> Histogram>,
    ended: Family<ByReason, Counter>,
}

/// Viewers.
#[derive(Default)]
pub(crate) struct Watching {
    pub(crate) joined: Counter,
    join_seconds: Seconds,
    left: Family<ByReason, Counter>,
    pub(crate) lags: Counter,
    pub(crate) lagged_bytes: Counter,
}

/// Gauges and totals that are read when somebody asks.
#[derive(Default)]
struct Live {
    sessions: Family<ByState, Gauge>,
    viewers: Gauge,
    waiting: Gauge,
    ring_bytes: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    engines: Family<ByState, Gauge>,
    slots: Family<ByState, Gauge>,
    slots_waiting: Gauge,
    unasked: Gauge,
    engine_opened: Counter,
    engine_closed: Counter,
    engine_stop_failed: Counter,
    vpns: LiveVpns,
}

/// What is read of VPNs.
#[derive(Default)]
struct LiveVpns {
    health: Family<ByVpnHealth, Gauge>,
    up: Family<ByVpn, Gauge>,
    engines: Family<ByVpn, Gauge>,
    forwarded: Family<ByVpn, Gauge>,
    exposed: Family<ByVpn, Gauge>,
    proxy: Family<ByProxy, Gauge>,
    outside: Gauge,
    found_outside: Counter,
    leak: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByProxy {
    proxy: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByHealing {
    healed: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByStage {
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByEvent {
    event: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVpn {
    vpn: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByVpnHealth {
    vpn: String,
    health: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// A histogram from 1 ms to half a minute, which is the longest a start may take by default.
struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(seconds())
    }
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("acemux"),
            reference: Registry::with_prefix("orch"),
            orchestrator: Orchestrator::default(),
            starts: Starts::default(),
            sessions: Sessions::default(),
            viewers: Watching::default(),
            fleet: FleetCounts::default(),
            keys: guesses::Counts::default(),
            live: Live::default(),
        };
        metrics.register();
        metrics.orchestrator.register(&mut metrics.reference);
        metrics.begin_at_zero();
        metrics
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            replaced: Counter::default(),
            repeats: Counter::default(),
            gaps: Family::new_with_constructor(seconds),
            ended: Family::default(),
        }
    }
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            results: Family::default(),
            seconds: Seconds::default(),
            stages: Family::new_with_constructor(seconds),
            retries: Counter::default(),
        }
    }
}

impl Starts {
    /// A start was decided: `ok`, or the code of the error that its viewers got.
    pub(crate) fn finished(&self, result: &'static str, took: Duration) {
        self.results.get_or_create(&ByResult { result }).inc();
        self.seconds.0.observe(took.as_secs_f64());
    }

    pub(crate) fn stage(&self, stage: &'static str, took: Duration) {
        self.stages.get_or_create(&ByStage { stage }).observe(took.as_secs_f64());
    }
}

impl Sessions {
    pub(crate) fn recovered(&self, healed: &'static str, gap: Duration) {
        self.gaps.get_or_create(&ByHealing { healed }).observe(gap.as_secs_f64());
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&ByReason { reason }).inc();
    }
}

impl Watching {
    pub(crate) fn joined(&self, waited: Duration) {
        self.joined.inc();
        self.join_seconds.0.observe(waited.as_secs_f64());
    }

    pub(crate) fn left(&self, reason: &'static str) {
        self.left.get_or_create(&ByReason { reason }).inc();
    }
}

impl FleetCounts {
    /// One event, by its name in the history.
    pub(crate) fn count(&self, event: &'static str) {
        self.events.get_or_create(&ByEvent { event }).inc();
    }

    /// An engine has answered so long after its start.
    pub(crate) fn ready(&self, took: Duration) {
        self.ready_seconds.0.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// Everything as `OpenMetrics`, with the live values of this moment.
    pub fn scrape(&self, relay: &Relay, origin: &EngineOrigin, vpns: &Vpns, fleet: Option<&Fleet>) -> String {
        let engines = origin.engines();
        let view = vpns.view(engines);
        let sessions = relay.sessions();
        self.live.read(relay, &sessions, engines);
        self.live.vpns.read(&view);
        self.orchestrator.read(&sessions, engines, fleet, origin.transfers(), &view);
        let mut page = String::new();
        for registry in [&self.registry, &self.reference] {
            text::encode_registry(&mut page, registry).expect("writing to a String cannot fail");
        }
        text::encode_eof(&mut page).expect("writing to a String cannot fail");
        page
    }

    /// Where the values of a label are few and known, what has not happened yet is 0 and not absent: Prometheus sees no
    /// increase from nothing to one.
    fn begin_at_zero(&self) {
        for result in iter::once("ok").chain(Code::OF_STARTS.map(Code::as_str)) {
            self.starts.results.get_or_create(&ByResult { result }).inc_by(0);
        }
        for stage in Stage::ALL {
            drop(self.starts.stages.get_or_create(&ByStage { stage: stage.as_str() }));
        }
        for reason in EndReason::NAMES {
            self.sessions.ended.get_or_create(&ByReason { reason }).inc_by(0);
        }
        for event in FLEET_CATEGORIES {
            self.fleet.events.get_or_create(&ByEvent { event }).inc_by(0);
        }
        for healed in Healed::ALL {
            drop(self.sessions.gaps.get_or_create(&ByHealing { healed: healed.as_str() }));
        }
        for reason in LeaveReason::ALL {
            self.viewers.left.get_or_create(&ByReason { reason: reason.as_str() }).inc_by(0);
        }
    }

    fn register(&mut self) {
        self.register_starts();
        self.register_sessions();
        self.register_viewers();
        self.register_engines();
        self.register_vpns();
        self.register_keys();
    }

    fn register_keys(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("keys");
        registry.register("wrong", "Wrong API keys", self.keys.wrong.clone());
        let help = "API keys that were not looked at, because their address had given too many wrong ones";
        registry.register("unseen", help, self.keys.unseen.clone());
    }

    fn register_starts(&mut self) {
        let (registry, starts) = (self.registry.sub_registry_with_prefix("proxy"), &self.starts);
        registry.register("starts", "Starts of streams by result", starts.results.clone());
        let help = "From the first request for a stream to its first decodable data, or to the error";
        registry.register_with_unit("start", help, Unit::Seconds, starts.seconds.0.clone());
        let help = "Time a start spent in each stage";
        registry.register_with_unit("start_stage", help, Unit::Seconds, starts.stages.clone());
        registry.register("start_retries", "Starts tried again on another engine", starts.retries.clone());
    }

    fn register_sessions(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("proxy");
        registry.register("sessions", "Streams at this moment by state", self.live.sessions.clone());
        registry.register("sessions_opened", "Streams opened", self.sessions.opened.clone());
        registry.register("sessions_ended", "Streams ended by reason", self.sessions.ended.clone());
        let help = "Engine playbacks that a newer one of the same stream replaced";
        registry.register("upstreams_replaced", help, self.sessions.replaced.clone());
        let help = "Times an engine began to send again what it had sent before";
        registry.register("repeats", help, self.sessions.repeats.clone());
        let help = "Time without media until a watched stream played again, by how it goes on";
        registry.register_with_unit("gap", help, Unit::Seconds, self.sessions.gaps.clone());
        let help = "History held for all streams";
        registry.register_with_unit("ring", help, Unit::Bytes, self.live.ring_bytes.clone());
        registry.register_with_unit("received", "From engines", Unit::Bytes, self.live.bytes_in.clone());
    }

    fn register_viewers(&mut self) {
        let (registry, viewers) = (self.registry.sub_registry_with_prefix("proxy"), &self.viewers);
        registry.register(
            "viewers",
            "Viewers at this moment, waiting ones included",
            self.live.viewers.clone(),
        );
        registry.register("viewers_waiting", "Requests that wait for a start", self.live.waiting.clone());
        registry.register("viewers_joined", "Viewers that got a stream", viewers.joined.clone());
        registry.register(
            "viewers_left",
            "Viewers gone by reason; stalled ones were evicted",
            viewers.left.clone(),
        );
        let help = "From a viewer's request to its place in the stream";
        registry.register_with_unit("join", help, Unit::Seconds, viewers.join_seconds.0.clone());
        registry.register("viewer_lags", "Times a viewer fell behind and skipped", viewers.lags.clone());
        let help = "Parts of streams that lagging viewers did not get";
        registry.register_with_unit("viewer_lagged", help, Unit::Bytes, viewers.lagged_bytes.clone());
        registry.register_with_unit("delivered", "To viewers", Unit::Bytes, self.live.bytes_out.clone());
    }

    fn register_engines(&mut self) {
        let (registry, live) = (&mut self.registry, &self.live);
        registry.register("engines", "Engines by health", live.engines.clone());
        registry.register("engine_events", "What happened to engines", self.fleet.events.clone());
        let help = "Times an engine got no new streams because it downloaded on without a session";
        registry.register("engine_runaways", help, self.fleet.runaways.clone());
        let help = "Received by engines that download on without a session";
        registry.register("engine_runaway_bytes_per_second", help, live.unasked.clone());
        let help = "From a container's start to its engine's first answer";
        registry.register_with_unit("engine_ready", help, Unit::Seconds, self.fleet.ready_seconds.0.clone());
        let help = "Streams that wait for a place on an engine";
        registry.register("engine_slots_waiting", help, live.slots_waiting.clone());
        registry.register("engine_slots", "Streams that engines run and may run", live.slots.clone());
        registry.register(
            "engine_sessions_opened",
            "Playbacks started on engines",
            live.engine_opened.clone(),
        );
        registry.register("engine_sessions_closed", "Playbacks ended on engines", live.engine_closed.clone());
        let help = "Stop calls that no engine answered in time";
        registry.register("engine_stops_failed", help, live.engine_stop_failed.clone());
    }
}

impl Metrics {
    fn register_vpns(&mut self) {
        let (registry, vpns) = (self.registry.sub_registry_with_prefix("vpn"), &self.live.vpns);
        registry.register("health", "Health of each VPN: 1 for what it is", vpns.health.clone());
        registry.register("up", "Whether engines reach the world through a VPN", vpns.up.clone());
        registry.register("engines", "Engines in a VPN's network", vpns.engines.clone());
        registry.register(
            "forwarded_port",
            "A VPN's forwarded port; 0 while it is not known",
            vpns.forwarded.clone(),
        );
        let help = "Whether engines reach the world through ENGINE_PROXY, as far as it shows";
        registry.register("proxy_up", help, vpns.proxy.clone());
        let help = "Whether a VPN comes out at an address of this machine. Alert on it";
        registry.register("exit_exposed", help, vpns.exposed.clone());
        let help = "Engines that are in no VPN's network though they should be. Alert on it";
        registry.register("engines_outside", help, vpns.outside.clone());
        let help = "Engines that were found outside of their VPN and removed";
        registry.register("engines_found_outside", help, vpns.found_outside.clone());
        registry.register("leak", "Whether either of the two is so. Alert on it", vpns.leak.clone());
    }
}

/// As `/vpn/status` says them.
const VPN_HEALTHS: [&str; 4] = ["healthy", "unhealthy", "starting", "unknown"];

impl LiveVpns {
    fn read(&self, view: &View) {
        let mut is_exposed = false;
        for vpn in &view.vpns {
            let proof = Proof::of(vpn.report.exit.address, &view.addresses, &view.other_exits(&vpn.name));
            is_exposed |= proof.is_exposed();
            self.read_one(vpn, proof.is_exposed());
        }
        if let Some(ProxyView { address, report }) = &view.proxy {
            let by = ByProxy { proxy: address.to_string() };
            self.proxy.get_or_create(&by).set((report.health == tunnel::Health::Up).into());
        }
        self.outside.set(as_gauge(view.outside.len()));
        raise(&self.found_outside, view.found_outside);
        self.leak.set((is_exposed || !view.outside.is_empty()).into());
    }

    fn read_one(&self, view: &VpnView, is_exposed: bool) {
        let by = || ByVpn { vpn: view.name.to_string() };
        for health in VPN_HEALTHS {
            let labels = ByVpnHealth { vpn: view.name.to_string(), health };
            self.health.get_or_create(&labels).set((view.health() == health).into());
        }
        self.up.get_or_create(&by()).set(view.is_up().into());
        self.engines.get_or_create(&by()).set(as_gauge(view.engines.len()));
        self.forwarded.get_or_create(&by()).set(view.report.forwarded.map_or(0, i64::from));
        self.exposed.get_or_create(&by()).set(is_exposed.into());
    }
}

impl Live {
    fn read(&self, relay: &Relay, sessions: &[SessionSnapshot], engines: &Engines) {
        self.read_relay(relay, sessions);
        self.read_engines(engines);
    }

    fn read_relay(&self, relay: &Relay, sessions: &[SessionSnapshot]) {
        let count = |wanted| sessions.iter().filter(|session| state_of(session) == wanted).count();
        for state in STATES {
            self.sessions.get_or_create(&ByState { state }).set(as_gauge(count(state)));
        }
        self.viewers.set(as_gauge(relay.viewers()));
        self.waiting.set(as_gauge(relay.waiting()));
        self.ring_bytes.set(as_gauge(sessions.iter().map(|session| session.ring.bytes).sum::<usize>()));
        let (bytes_in, bytes_out) = relay.totals().read();
        raise(&self.bytes_in, bytes_in);
        raise(&self.bytes_out, bytes_out);
    }

    fn read_engines(&self, engines: &Engines) {
        let all = engines.all();
        for health in [Health::Unknown, Health::Healthy, Health::Unhealthy] {
            let count = all.iter().filter(|member| member.knowledge().health == health).count();
            self.engines.get_or_create(&ByState { state: health.as_str() }).set(as_gauge(count));
        }
        let unasked: u64 =
            all.iter().filter_map(|member| member.runs_away()).map(|runaway| runaway.rate).sum();
        self.unasked.set(as_gauge(unasked / 8));
        let used: usize = all.iter().map(|member| member.used()).sum();
        let total: usize = all.iter().map(|member| member.slots).sum();
        self.slots.get_or_create(&ByState { state: "used" }).set(as_gauge(used));
        self.slots.get_or_create(&ByState { state: "total" }).set(as_gauge(total));
        self.slots_waiting.set(as_gauge(engines.waiting()));
        let sessions = engines.sessions();
        raise(&self.engine_opened, sessions.opened);
        raise(&self.engine_closed, sessions.closed);
        raise(&self.engine_stop_failed, sessions.stop_failed);
    }
}

/// States of a stream as the label says them.
const STATES: [&str; 3] = ["opening", "live", "lingering"];

fn state_of(session: &SessionSnapshot) -> &'static str {
    match session.phase {
        Phase::Opening => "opening",
        Phase::Live if session.lingering.is_some() => "lingering",
        Phase::Live => "live",
        Phase::Ended(_) => "ended",
    }
}

pub(super) fn as_gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Sets a counter that is kept elsewhere; it never goes back.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
