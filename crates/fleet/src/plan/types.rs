//! The plan's words: what it is told (policy, world), what it says (actions, reasons, holds).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::backoff::{Breaker, Moment, Places};
use crate::ident::ContainerId;
use crate::tunnel::{Health, Namespace, TunnelName};

/// For so long a tunnel is the last choice behind which an engine came to nothing. Then one is tried there again.
const TROUBLED: Duration = Duration::from_mins(5);

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Engines kept (`MIN_REPLICAS`, or what `POST /scale` asked for).
    pub min: usize,
    /// Engines allowed (`MAX_REPLICAS`).
    pub max: usize,
    /// Engines kept idle (`MIN_FREE_REPLICAS`).
    pub min_free: usize,
    /// Streams per engine (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    /// Idle time before an engine may be removed (`ENGINE_GRACE_PERIOD_S`).
    pub idle_grace: Duration,
    /// Whether idle engines are removed (`AUTO_DELETE`).
    pub auto_delete: bool,
    /// How long an unhealthy engine may recover (`HEALTH_UNHEALTHY_GRACE_PERIOD_S`).
    pub unhealthy_grace: Duration,
    /// How long a new engine may take to become ready (`STARTUP_TIMEOUT_S`).
    pub startup: Duration,
    /// Creations at a time (`MAX_CONCURRENT_PROVISIONS`).
    pub concurrent: usize,
    /// Least time between two creations (`MIN_PROVISION_INTERVAL_S`).
    pub interval: Duration,
    /// Age at which an idle engine is replaced (`ENGINE_MAX_AGE`).
    pub max_age: Option<Duration>,
    /// Memory at which an idle engine is replaced (`ENGINE_MAX_MEMORY`), in bytes.
    pub max_memory: Option<u64>,
    /// Fingerprint of the recipe that engines should be made from.
    pub recipe: String,
    /// How long a VPN may be down before its container is restarted (`VPN_UNHEALTHY_RESTART_TIMEOUT_S`).
    pub restart_vpn_after: Option<Duration>,
}

/// What is there.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// Time since the fleet began.
    pub now: Moment,
    /// Own containers, in any state.
    pub engines: &'a [EngineView],
    /// Creations under way.
    pub creating: &'a [Creation],
    /// What streams ask for.
    pub demand: Demand,
    /// What failed before.
    pub memory: &'a Memory,
    /// What engines may reach the world through, in the operator's order: VPNs, or the host's own way out and nothing else.
    pub tunnels: &'a [TunnelView],
    /// Why nothing may be created now, whatever is wanted.
    pub forbidden: Option<Hold>,
}

/// One tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelView {
    /// Which.
    pub name: TunnelName,
    /// Its container, running or not. None for the host's own way out, and when there is no container of this name.
    pub container: Option<ContainerId>,
    /// The network that engines would join now. None for the host's own way out, and while the container does not run.
    pub namespace: Option<Namespace>,
    /// Whether it works.
    pub health: Health,
    /// Since when its health is of this kind.
    pub since: Moment,
    /// Since when it is down; what was unsure in between belongs to it, and only `Up` ends it.
    pub down_since: Option<Moment>,
    /// The port that its provider forwards to it.
    pub forwarded: Option<u16>,
    /// Ports for new engines there, free as far as can be told.
    pub ports: Vec<u16>,
    /// All that engines there may have.
    pub range: RangeInclusive<u16>,
}

/// In whose network an engine's container is, as the daemon shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In one that leads to the world past every VPN.
    Open,
    /// In another container's.
    Inside {
        /// Whose.
        container: String,
        /// The network that it was made for, as its label says.
        joined: Option<Namespace>,
    },
}

/// One own container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineView {
    /// Its full id.
    pub id: ContainerId,
    /// Its present name.
    pub name: String,
    /// The name that it was made with: in its network it answers to that one too, for as long as it exists.
    pub alias: String,
    /// The place that it fills.
    pub place: usize,
    /// The tunnel that it was made for.
    pub tunnel: TunnelName,
    /// Where it is.
    pub home: Home,
    /// The forwarded port that it was made with.
    pub forwarded: Option<u16>,
    /// Whether it can be used.
    pub standing: Standing,
    /// Slots taken, those of stops under way included.
    pub used: usize,
    /// Since when it has no stream.
    pub idle_since: Option<Moment>,
    /// Since when it is known to us. Its age counts from here: the daemon's clock may be another one than ours.
    pub known_since: Moment,
    /// Memory in use, in bytes.
    pub memory: Option<u64>,
    /// It downloads on without a session: so much, in Mbit/s.
    pub runaway: Option<u64>,
    /// Fingerprint of the recipe it was made from.
    pub recipe: String,
    /// It takes no new streams.
    pub cordoned: bool,
    /// An operator wants another one in its place.
    pub unwanted: bool,
}

/// Whether an engine can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its container runs, its API has not answered yet.
    Starting {
        /// Since when the container runs, as far as we know.
        since: Moment,
    },
    /// Its API answers.
    Ready,
    /// Its API has stopped answering, or streams fail on it.
    Unhealthy {
        /// Since when.
        since: Moment,
        /// What shows it.
        why: String,
    },
    /// Its container is paused.
    Frozen,
    /// Its container does not run.
    Ended {
        /// `exited with code 137`, `was created and never started`.
        why: String,
    },
    /// Its container is being removed.
    Leaving {
        /// Since when.
        since: Moment,
    },
}

/// A creation, completely decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Creation {
    /// The place it fills.
    pub place: usize,
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// What it reaches the world through.
    #[schema(value_type = String)]
    pub tunnel: TunnelName,
    /// The network that it joins; none for the host's own way out.
    #[serde(skip)]
    pub namespace: Option<Namespace>,
    /// The forwarded port that it gets, when it is to be the one engine of its tunnel that has it.
    pub forwarded: Option<u16>,
}

/// What streams ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Demand {
    /// Streams that wait for a slot.
    pub waiting: usize,
}

/// What failed before.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Per place.
    pub places: Places,
    /// Stops growth after failures in a row (`CIRCUIT_BREAKER_FAILURE_THRESHOLD`).
    pub growth: Breaker,
    /// Stops replacements after failures in a row (`CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD`).
    pub replacement: Breaker,
    /// When the last creation began.
    pub last_creation: Option<Moment>,
    /// Names that other containers have, and until when we avoid them.
    pub names_taken: BTreeMap<String, Moment>,
    /// When the last engine was given up that works, for its age, its memory or what it downloads.
    pub last_weeding: Option<Moment>,
    /// When which VPN's container was last restarted by us.
    pub restarts: BTreeMap<TunnelName, Moment>,
    /// When an engine behind which tunnel last came to nothing; no longer known once one answers there.
    pub troubled: BTreeMap<TunnelName, Moment>,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Plan {
    /// Engines wanted in all.
    pub wanted: usize,
    /// How that number comes about, one line.
    pub because: String,
    /// What to do now.
    pub actions: Vec<Action>,
    /// What is wanted and must wait.
    pub held: Vec<Hold>,
}

/// One change, completely decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Create an engine.
    Create {
        /// What exactly.
        #[serde(flatten)]
        creation: Creation,
        /// Which breaker answers for it.
        purpose: Purpose,
        /// Why.
        reason: Reason,
    },
    /// Give an engine no new streams.
    Cordon {
        /// Which.
        #[serde(serialize_with = "full_id")]
        #[schema(value_type = String)]
        id: ContainerId,
        /// Why.
        reason: Reason,
    },
    /// Give it streams again.
    Uncordon {
        /// Which.
        #[serde(serialize_with = "full_id")]
        #[schema(value_type = String)]
        id: ContainerId,
        /// Why.
        reason: Reason,
    },
    /// Remove it, provided that it is still without streams or does not run.
    Remove {
        /// Which.
        #[serde(serialize_with = "full_id")]
        #[schema(value_type = String)]
        id: ContainerId,
        /// The place that it fills.
        place: usize,
        /// Why.
        reason: Reason,
    },
    /// Restart a VPN's container, which does not come back by itself.
    RestartVpn {
        /// Which.
        #[schema(value_type = String)]
        tunnel: TunnelName,
        /// Its container.
        #[serde(serialize_with = "full_id")]
        #[schema(value_type = String)]
        id: ContainerId,
        /// Why.
        reason: Reason,
    },
}

/// Whether an engine adds to the fleet or takes another one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// More engines.
    Growth,
    /// An engine instead of one that is to go.
    Replacement,
}

/// Why something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// Fewer than `MIN_REPLICAS`.
    BelowMinimum {
        /// Engines there or coming.
        have: usize,
        /// Engines wanted.
        want: usize,
    },
    /// Fewer idle ones than `MIN_FREE_REPLICAS`.
    KeepFree {
        /// Idle ones there or coming.
        free: usize,
        /// Idle ones wanted.
        want: usize,
    },
    /// Streams wait for a slot.
    StreamsWait {
        /// How many.
        streams: usize,
    },
    /// Its process does not run.
    Ended {
        /// What is known of its end.
        why: String,
    },
    /// Its API did not answer in time after its start.
    NotReady {
        /// The limit, in seconds.
        seconds: u64,
    },
    /// Its container is paused.
    Frozen,
    /// Its API or its streams fail for too long.
    Unhealthy {
        /// What shows it.
        why: String,
    },
    /// It was made from another recipe: settings have changed.
    Outdated,
    /// It is idle and downloads on.
    RunsAway {
        /// How much, in Mbit/s.
        mbits: u64,
    },
    /// It is idle and has been known for longer than `ENGINE_MAX_AGE`.
    Old,
    /// It is idle and uses more than `ENGINE_MAX_MEMORY`.
    Fat,
    /// It has been idle for long, and there are enough without it.
    Idle {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// It runs past its VPN, where everybody sees the host's address.
    OutsideTunnel {
        /// Where it should be.
        #[schema(value_type = String)]
        tunnel: TunnelName,
    },
    /// It is behind a VPN that is in the settings no more.
    FormerTunnel {
        /// Which.
        #[schema(value_type = String)]
        tunnel: TunnelName,
    },
    /// Its VPN's container was restarted or made anew: the network that it is in leads nowhere any more.
    NamespaceGone {
        /// Of which VPN.
        #[schema(value_type = String)]
        tunnel: TunnelName,
    },
    /// Its VPN does not work.
    TunnelDown {
        /// Which.
        #[schema(value_type = String)]
        tunnel: TunnelName,
        /// What shows it.
        why: String,
    },
    /// Its VPN's provider forwards a port that no engine has, or another one than this engine has.
    ForwardedPort {
        /// The port.
        port: u16,
    },
    /// Its VPN has more engines than another one that works.
    Unbalanced {
        /// The other one.
        #[schema(value_type = String)]
        fewer: TunnelName,
    },
    /// The VPN has been down for `VPN_UNHEALTHY_RESTART_TIMEOUT_S`.
    VpnStuck {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// The daemon has begun to remove it and does not come to an end.
    NotRemoved,
    /// It works again.
    Recovered,
    /// An operator asked for it.
    Asked,
}

impl Memory {
    /// Of a fleet to which nothing has happened yet.
    pub fn new(growth: Breaker, replacement: Breaker) -> Self {
        Self {
            places: Places::default(),
            growth,
            replacement,
            last_creation: None,
            names_taken: BTreeMap::new(),
            last_weeding: None,
            restarts: BTreeMap::new(),
            troubled: BTreeMap::new(),
        }
    }

    /// An engine has ended, or was given up, before it ever answered. True when that opened the breaker. While another
    /// tunnel is as good as any it is this one's affair: it is tried last for a while, and growth elsewhere goes on.
    pub fn came_to_nothing(
        &mut self,
        (tunnel, purpose): (&TunnelName, Purpose),
        tunnels: &[TunnelView],
        now: Moment,
    ) -> bool {
        let breaker = match purpose {
            Purpose::Growth => &mut self.growth,
            Purpose::Replacement => &mut self.replacement,
        };
        self.troubled.insert(tunnel.clone(), now);
        let troubled = &self.troubled;
        let is_as_good_as_any =
            |other: &TunnelView| other.is_usable() && !is_troubled(troubled, &other.name, now);
        if tunnels.iter().any(is_as_good_as_any) {
            breaker.inconclusive(now);
            return false;
        }
        breaker.failed(now)
    }

    /// What came to nothing behind this tunnel at that moment had ended with the tunnel.
    pub fn forgive(&mut self, tunnel: &TunnelName, purpose: Purpose, at: Moment) {
        if self.troubled.get(tunnel) == Some(&at) {
            self.troubled.remove(tunnel);
        }
        match purpose {
            Purpose::Growth => self.growth.forgive(),
            Purpose::Replacement => self.replacement.forgive(),
        }
    }

    /// An engine behind this tunnel has answered for the first time.
    pub fn came_up(&mut self, tunnel: &TunnelName) {
        self.troubled.remove(tunnel);
    }
}

/// Whether an engine has come to nothing there lately.
fn is_troubled(troubled: &BTreeMap<TunnelName, Moment>, tunnel: &TunnelName, now: Moment) -> bool {
    troubled.get(tunnel).is_some_and(|at| now.saturating_sub(*at) < TROUBLED)
}

impl World<'_> {
    /// Whether an engine has come to nothing there lately: others are rather used.
    pub(super) fn is_troubled(&self, tunnel: &TunnelName) -> bool {
        is_troubled(&self.memory.troubled, tunnel, self.now)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinimum { have, want } => write!(f, "{have} of at least {want} engines exist"),
            Self::KeepFree { free, want } => write!(f, "{free} of {want} engines to be kept idle exist"),
            Self::StreamsWait { streams } => write!(f, "{streams} stream(s) wait for a slot"),
            Self::Ended { why } => write!(f, "it does not run: {why}"),
            Self::NotReady { seconds } => write!(f, "its API did not answer within {seconds} s of its start"),
            Self::Frozen => write!(f, "its container is paused"),
            Self::Unhealthy { why } => write!(f, "it is unhealthy: {why}"),
            Self::Outdated => write!(f, "it was made with other settings"),
            Self::RunsAway { mbits } => write!(f, "it receives {mbits} Mbit/s without a session"),
            Self::Old => write!(f, "it is idle and older than ENGINE_MAX_AGE"),
            Self::Fat => write!(f, "it is idle and uses more memory than ENGINE_MAX_MEMORY"),
            Self::Idle { seconds } => write!(f, "idle for {seconds} s, and enough others exist"),
            Self::OutsideTunnel { tunnel } => write!(f, "it runs outside of the VPN {tunnel}"),
            Self::FormerTunnel { tunnel } => {
                write!(f, "it is behind the VPN {tunnel}, which is in the settings no more")
            }
            Self::NamespaceGone { tunnel } => {
                write!(f, "the VPN {tunnel} was restarted, and its network with it")
            }
            Self::TunnelDown { tunnel, why } => write!(f, "the VPN {tunnel} is down: {why}"),
            Self::ForwardedPort { port } => write!(f, "an engine is to have the forwarded port {port}"),
            Self::Unbalanced { fewer } => write!(f, "the VPN {fewer} has fewer engines"),
            Self::VpnStuck { seconds } => {
                write!(f, "it has been down for {seconds} s (VPN_UNHEALTHY_RESTART_TIMEOUT_S)")
            }
            Self::NotRemoved => write!(f, "Docker has begun to remove it and does not come to an end"),
            Self::Recovered => write!(f, "it works again"),
            Self::Asked => write!(f, "an operator asked for it"),
        }
    }
}

/// Why something that is wanted must wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Hold {
    /// `MAX_REPLICAS` exist.
    AtMaximum {
        /// The cap.
        max: usize,
    },
    /// The engine of this place keeps failing.
    CrashLoop {
        /// Which place.
        place: usize,
        /// Until it is tried again, in seconds.
        seconds: u64,
        /// What the last failure was.
        why: String,
    },
    /// Too many creations failed in a row.
    BreakerOpen {
        /// Which breaker.
        purpose: Purpose,
        /// Until one is tried again, in seconds.
        seconds: u64,
    },
    /// No port of the ranges is free.
    NoPorts {
        /// The settings of the ranges that are in use.
        settings: String,
    },
    /// Engines run behind a VPN or not at all, and none works.
    NoTunnel {
        /// What is wrong with each.
        why: String,
    },
    /// The image is not here and cannot be pulled.
    ImageUnavailable {
        /// The registry's words.
        why: String,
    },
    /// The daemon does not answer.
    DockerDown {
        /// How it failed.
        why: String,
    },
    /// As many creations as `MAX_CONCURRENT_PROVISIONS` are under way, or the last one has just begun.
    OneAfterTheOther,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMaximum { max } => write!(f, "MAX_REPLICAS={max} engines exist and all are in use"),
            Self::CrashLoop { place, seconds, why } => {
                write!(f, "engine {place} keeps failing ({why}); next try in {seconds} s")
            }
            Self::BreakerOpen { seconds, .. } => {
                write!(f, "creating engines failed too often; next try in {seconds} s")
            }
            Self::NoPorts { settings } => write!(f, "no port of {settings} is free"),
            Self::NoTunnel { why } => write!(f, "no VPN works: {why}"),
            Self::ImageUnavailable { why } => write!(f, "the engine image is not available: {why}"),
            Self::DockerDown { why } => write!(f, "{why}"),
            Self::OneAfterTheOther => write!(f, "another engine is being created"),
        }
    }
}

impl Reason {
    /// Whether it is why an engine goes that does not work and will not again.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::NotReady { .. })
    }

    /// Whether an engine goes for it with whatever plays on it: nothing does any more, or nothing must.
    pub fn is_urgent(&self) -> bool {
        self.is_end()
            || matches!(
                self,
                Self::OutsideTunnel { .. } | Self::FormerTunnel { .. } | Self::NamespaceGone { .. }
            )
    }

    /// Whether it is why an engine goes that works and whose settings are the present ones.
    pub fn is_weeding(&self) -> bool {
        matches!(self, Self::RunsAway { .. } | Self::Old | Self::Fat | Self::ForwardedPort { .. })
    }
}

impl Action {
    /// Why.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Create { reason, .. }
            | Self::Cordon { reason, .. }
            | Self::Uncordon { reason, .. }
            | Self::RestartVpn { reason, .. }
            | Self::Remove { reason, .. } => reason,
        }
    }
}

fn full_id<S: serde::Serializer>(id: &ContainerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}
