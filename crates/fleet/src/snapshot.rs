//! What pages are shown of the fleet: what it knew and meant to do when it last looked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::backoff::{Breaker, Position};
use crate::plan::{Demand, Plan};
use crate::tunnel::{Health, TunnelName};

/// What the fleet knew and meant to do when it last looked.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = FleetSnapshot)]
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// What it does next, and why.
    pub plan: Plan,
    /// What streams ask for.
    pub demand: Demand,
    /// The daemon.
    pub docker: DockerState,
    /// Own containers that exist, in any state.
    pub containers: Vec<ContainerNote>,
    /// Creations under way, by name.
    pub creating: Vec<String>,
    /// The VPNs that engines hide behind, in the operator's order; none when they hide behind nothing.
    pub tunnels: Vec<TunnelNote>,
    /// Own containers outside of their VPN that are still there, by their full ids. No stream is sent to them, and they are
    /// being removed.
    pub outside: Vec<String>,
    /// Those that were found so since the service began.
    pub found_outside: u64,
    /// Engines kept at least.
    pub min: usize,
    /// `MIN_REPLICAS`; less than `min` after `POST /scale`.
    pub min_replicas: usize,
    /// Engines allowed at most.
    pub max: usize,
    /// Both breakers: growth, replacement.
    pub breakers: [BreakerNote; 2],
    /// Engines of other instances on this daemon, with the line that adopts them.
    pub strangers: Vec<StrangerNote>,
    /// Another service with our instance id.
    pub rival: Option<RivalNote>,
    /// The last failures, newest first, with the last lines of their logs.
    pub failures: Vec<FailureNote>,
    /// A rolling replacement that an operator asked for.
    pub rollout: Rollout,
}

/// One VPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TunnelNote {
    /// Its container's name as configured.
    #[schema(value_type = String)]
    pub name: TunnelName,
    /// Its container's full id; `None` when there is none of this name.
    pub container: Option<String>,
    /// Whether it works.
    pub health: Health,
    /// Since when its health is of this kind.
    pub since: Timestamp,
    /// Where engines inside are reached.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The port that its provider forwards to it.
    pub forwarded_port: Option<u16>,
    /// The engine that has this port, by its container's full id.
    pub forwarded_engine: Option<String>,
    /// Engines inside, by their containers' full ids.
    pub engines: Vec<String>,
    /// When we last restarted its container.
    pub restarted: Option<Timestamp>,
}

/// Whether the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DockerState {
    /// It has not been asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down {
        /// Since when.
        since: Timestamp,
        /// How it fails.
        why: String,
    },
}

/// One own container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ContainerNote {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// What Docker says it does.
    pub state: &'static str,
    /// The place it fills.
    pub place: usize,
    /// What we make of it: `starting`, `ready`, `unhealthy`, `frozen`, `ended`, `leaving`.
    pub standing: &'static str,
    /// Whether it was made with the present settings.
    pub is_current: bool,
    /// The VPN container that it hides behind.
    pub vpn_container: Option<String>,
    /// Whether it was made to have its VPN's forwarded port.
    pub forwarded: bool,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BreakerNote {
    /// What it allows.
    pub state: Position,
    /// Failures in a row.
    pub failure_count: u32,
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// When it last failed.
    pub last_failure_time: Option<Timestamp>,
    /// When it last succeeded.
    pub last_success_time: Option<Timestamp>,
    /// How long it stays open, in seconds.
    pub recovery_timeout: u64,
    /// Until it lets one through, in seconds.
    pub recovers_in: Option<u64>,
}

/// Engines of another instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StrangerNote {
    /// Their instance.
    pub instance: String,
    /// Their names.
    pub names: Vec<String>,
    /// What to write to own them.
    pub adopt_with: String,
}

/// Another service that uses our instance id: both take each other's engines for their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RivalNote {
    /// The id.
    pub instance: String,
    /// When it was noticed, or an engine of its making was last seen to appear.
    pub at: Timestamp,
    /// Engines of its making that have appeared since we began, by name.
    pub engines: Vec<String>,
}

impl fmt::Display for RivalNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of_rival(&self.instance, &self.engines))
    }
}

/// An engine that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FailureNote {
    /// When.
    pub at: Timestamp,
    /// Its name.
    pub name: String,
    /// Why, in one line.
    pub why: String,
    /// Its last log lines.
    pub log: Vec<String>,
}

/// A rolling replacement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rollout {
    /// When it was asked for.
    pub began: Option<Timestamp>,
    /// Engines to be replaced at its beginning.
    pub total: usize,
    /// Of those, still there.
    pub left: usize,
}

/// Another service with this instance id, in one line.
pub fn of_rival(instance: &str, engines: &[String]) -> String {
    let does = if engines.is_empty() {
        "uses the same Docker".to_owned()
    } else {
        format!("has created {}", engines.join(", "))
    };
    format!(
        "another service with INSTANCE_ID={instance} {does}: both take each other's engines for their own, so give each \
         an INSTANCE_ID of its own"
    )
}

pub(crate) fn breaker_note(
    breaker: &Breaker,
    now: Duration,
    wall: impl Fn(Duration) -> Timestamp,
) -> BreakerNote {
    BreakerNote {
        state: breaker.position(now),
        failure_count: breaker.failures(),
        failure_threshold: breaker.threshold(),
        last_failure_time: breaker.last_failure.map(&wall),
        last_success_time: breaker.last_success.map(&wall),
        recovery_timeout: breaker.recovery().as_secs(),
        recovers_in: breaker.opens_at(now).map(|at| at.saturating_sub(now).as_secs() + 1),
    }
}

/// How many engines of each instance there are, for the page.
pub(crate) fn strangers_by_instance(
    containers: &[crate::provisioner::Container],
) -> BTreeMap<String, Vec<String>> {
    let mut by_instance: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in containers {
        let instance = container.labels.get(crate::spec::label::INSTANCE).cloned().unwrap_or_default();
        by_instance.entry(instance).or_default().push(container.name.clone());
    }
    by_instance
}
