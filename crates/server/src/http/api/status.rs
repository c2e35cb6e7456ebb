//! `/orchestrator/status` and `/health/status`, in the reference's shapes, from a snapshot.

use std::sync::Arc;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::{BreakerNote, DockerState, Fleet, Snapshot};
use acemux_fleet::member::Health;
use acemux_fleet::plan::{Action, Creation, Hold, Purpose};
use acemux_fleet::profile::{Platform, Variant};
use acemux_fleet::tunnel::TunnelName;
use acemux_relay::Relay;
use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::fleet::problem;
use crate::config::Config;
use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::channels::ChannelNames;
use crate::planes::settings::Settings;
use crate::planes::vpn::{View, Vpns};

/// Time between two probes of an engine, in seconds, as the reference's page names it.
const PROBE_SECONDS: u64 = 5;

/// `GET /orchestrator/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrchestratorStatus {
    #[schema(value_type = words::ServiceState)]
    status: &'static str,
    engines: EngineCounts,
    streams: StreamCounts,
    capacity: Capacity,
    vpn: VpnSummary,
    provisioning: Provisioning,
    docker: DockerState,
    /// What an operator should mend, one line each.
    warnings: Vec<String>,
    config: ConfigNote,
    timestamp: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct EngineCounts {
    total: usize,
    running: usize,
    healthy: usize,
    unhealthy: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct StreamCounts {
    active: usize,
    total: usize,
}

/// In engines, as the reference counts; in slots beside it.
#[derive(Debug, Serialize, ToSchema)]
struct Capacity {
    total: usize,
    used: usize,
    available: usize,
    max_replicas: usize,
    min_replicas: usize,
    slots_total: usize,
    slots_used: usize,
    waiting: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct VpnSummary {
    enabled: bool,
    connected: bool,
    #[schema(value_type = words::VpnHealth)]
    health: &'static str,
    container: Option<String>,
    forwarded_port: Option<u16>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Provisioning {
    can_provision: bool,
    #[schema(value_type = words::BreakerWord)]
    circuit_breaker_state: &'static str,
    last_failure: Option<String>,
    blocked_reason: Option<String>,
    blocked_reason_details: Option<Blocked>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Blocked {
    #[schema(value_type = words::BlockedCode)]
    code: &'static str,
    message: String,
    recovery_eta_seconds: Option<u64>,
    can_retry: bool,
    should_wait: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct ConfigNote {
    auto_delete: bool,
    grace_period_s: u64,
    engine_variant: String,
    debug_mode: bool,
}

/// `GET /health/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthStatus {
    total_engines: usize,
    healthy_engines: usize,
    unhealthy_engines: usize,
    marked_for_replacement: usize,
    minimum_required: usize,
    /// Seconds.
    health_check_interval: u64,
    circuit_breakers: Breakers,
}

#[derive(Debug, Serialize, ToSchema)]
struct Breakers {
    general: Option<BreakerNote>,
    replacement: Option<BreakerNote>,
}

/// Query of `POST /health/circuit-breaker/reset`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ResetQuery {
    /// Both when left out.
    #[param(value_type = words::BreakerName, required = false, inline)]
    operation_type: Option<String>,
}

/// A reply that only says what was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Done {
    pub(super) message: &'static str,
}

/// What the page of everything looks at.
#[derive(Clone)]
pub struct Overview {
    pub(crate) relay: Relay,
    pub(crate) engines: Arc<Engines>,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) vpns: Vpns,
    pub(crate) settings: Arc<Settings>,
    pub(crate) channel_names: Arc<ChannelNames>,
}

impl ConfigNote {
    fn new(config: &Config) -> Self {
        let fleet = &config.fleet;
        let variant = fleet.engine.variant.unwrap_or_else(|| Variant::default_for(Platform::here()));
        Self {
            auto_delete: fleet.auto_delete,
            grace_period_s: fleet.idle_grace.as_secs(),
            engine_variant: variant.as_str().to_owned(),
            debug_mode: false,
        }
    }
}

/// Everything at a glance.
#[utoipa::path(get, path = "/orchestrator/status", tag = "fleet", responses((status = 200, body = OrchestratorStatus)))]
pub async fn orchestrator(State(seen): State<Overview>) -> Json<OrchestratorStatus> {
    let snapshot = seen.fleet.as_ref().map(Fleet::snapshot);
    let engines = count(&seen.engines);
    let vpn = vpn(&seen.vpns.view(&seen.engines));
    let sessions = seen.relay.sessions();
    let members = seen.engines.all();
    let used = members.iter().filter(|member| member.used() > 0).count();
    let provisioning = provisioning(snapshot.as_deref());
    let rival = snapshot.as_ref().and_then(|snapshot| snapshot.rival.clone());
    Json(OrchestratorStatus {
        status: match (&engines, &provisioning.blocked_reason_details) {
            (EngineCounts { healthy: 0, .. }, _) => "unavailable",
            (_, Some(Blocked { code: "max_capacity", .. }) | None)
                if rival.is_none() && !vpn.is_missing() =>
            {
                "healthy"
            }
            _ => "degraded",
        },
        streams: StreamCounts { active: sessions.len(), total: sessions.len() },
        capacity: Capacity {
            total: engines.total,
            used,
            available: engines.total - used,
            max_replicas: snapshot.as_ref().map_or(0, |snapshot| snapshot.max),
            min_replicas: snapshot.as_ref().map_or(0, |snapshot| snapshot.min),
            slots_total: members.iter().map(|member| member.slots).sum(),
            slots_used: members.iter().map(|member| member.used()).sum(),
            waiting: seen.engines.waiting(),
        },
        engines,
        vpn,
        provisioning,
        docker: snapshot.as_ref().map_or(DockerState::Unknown, |snapshot| snapshot.docker.clone()),
        warnings: rival.iter().map(ToString::to_string).collect(),
        config: ConfigNote::new(&seen.settings.config()),
        timestamp: Timestamp::now(),
    })
}

/// The first VPN's container and port, as the reference has it; connected when any is.
fn vpn(view: &View) -> VpnSummary {
    let first = view.vpns.first();
    VpnSummary {
        enabled: view.is_on(),
        connected: view.is_connected(),
        health: view.health(),
        container: first.map(|vpn| vpn.name.to_string()),
        forwarded_port: first.and_then(|vpn| vpn.report.forwarded),
    }
}

impl VpnSummary {
    /// Whether engines need one and none works.
    fn is_missing(&self) -> bool {
        self.enabled && !self.connected
    }
}

/// How the engines are.
#[utoipa::path(get, path = "/health/status", tag = "health", responses((status = 200, body = HealthStatus)))]
pub async fn health(
    State(fleet): State<Option<Fleet>>,
    State(engines): State<Arc<Engines>>,
) -> Json<HealthStatus> {
    let snapshot = fleet.as_ref().map(Fleet::snapshot);
    let counts = count(&engines);
    let breaker = |index: usize| snapshot.as_ref().and_then(|snapshot| snapshot.breakers.get(index).cloned());
    Json(HealthStatus {
        total_engines: counts.total,
        healthy_engines: counts.healthy,
        unhealthy_engines: counts.unhealthy,
        marked_for_replacement: engines.all().iter().filter(|member| member.is_cordoned()).count(),
        minimum_required: snapshot.as_ref().map_or(0, |snapshot| snapshot.min),
        health_check_interval: PROBE_SECONDS,
        circuit_breakers: Breakers { general: breaker(0), replacement: breaker(1) },
    })
}

/// Lets creations begin again.
#[utoipa::path(
    post, path = "/health/circuit-breaker/reset", tag = "fleet",
    params(ResetQuery),
    responses((status = 200, body = Done), fails::Commanded)
)]
pub async fn reset_breakers(
    State(fleet): State<Option<Fleet>>,
    operator: Operator,
    Query(query): Query<ResetQuery>,
) -> Result<Json<Done>, Problem> {
    let which = match query.operation_type.as_deref() {
        None => None,
        Some("general") => Some(Purpose::Growth),
        Some("replacement") => Some(Purpose::Replacement),
        Some(_) => {
            let detail = "operation_type is general, replacement, or left out for both";
            return Err(Problem::new(Code::InvalidParam).with_detail(detail));
        }
    };
    let fleet = super::fleet::present(fleet.as_ref())?;
    let breakers = || {
        let snapshot = fleet.snapshot();
        let [general, replacement] = &snapshot.breakers;
        json!({ "general": general.state.as_str(), "replacement": replacement.state.as_str() })
    };
    let before = breakers();
    fleet.reset_breakers(which).await.map_err(|error| problem(&error))?;
    operator.changed(before, breakers());
    Ok(Json(Done { message: "creations may begin again" }))
}

fn count(engines: &Engines) -> EngineCounts {
    let members = engines.all();
    let with = |health| members.iter().filter(|member| member.knowledge().health == health).count();
    let running = members.iter().filter(|member| member.container.is_some()).count();
    let (healthy, unhealthy) = (with(Health::Healthy), with(Health::Unhealthy));
    EngineCounts { total: members.len(), running, healthy, unhealthy }
}

fn provisioning(snapshot: Option<&Snapshot>) -> Provisioning {
    let blocked = snapshot.and_then(|snapshot| snapshot.plan.held.first()).and_then(blocked);
    let state = snapshot.map_or("closed", |snapshot| snapshot.breakers[0].state.as_str());
    let last = snapshot.and_then(|snapshot| snapshot.failures.first());
    Provisioning {
        can_provision: snapshot.is_some() && blocked.is_none(),
        circuit_breaker_state: state,
        last_failure: last.map(|failure| format!("{} {}: {}", failure.at, failure.name, failure.why)),
        blocked_reason: blocked.as_ref().map(|blocked| blocked.message.clone()),
        blocked_reason_details: blocked,
    }
}

fn blocked(hold: &Hold) -> Option<Blocked> {
    let (code, recovery_eta_seconds, can_retry) = match hold {
        Hold::OneAfterTheOther => return None,
        Hold::AtMaximum { .. } => ("max_capacity", None, false),
        Hold::CrashLoop { seconds, .. } => ("crash_loop", Some(*seconds), true),
        Hold::BreakerOpen { seconds, .. } => ("circuit_breaker", Some(*seconds), false),
        Hold::NoPorts { .. } => ("no_ports", None, true),
        Hold::NoTunnel { .. } => ("vpn_disconnected", Some(60), true),
        Hold::ImageUnavailable { .. } => ("image_unavailable", None, true),
        Hold::DockerDown { .. } => ("docker_down", None, true),
    };
    Some(Blocked { code, message: hold.to_string(), recovery_eta_seconds, can_retry, should_wait: true })
}

/// One action for people.
pub(super) fn in_words(action: &Action, snapshot: &Snapshot) -> String {
    let name = |id: &acemux_fleet::ident::ContainerId| {
        let known = snapshot.containers.iter().find(|container| container.id == id.as_str());
        known.map_or_else(|| id.to_string(), |container| container.name.clone())
    };
    match action {
        Action::Create { creation: Creation { name, port, tunnel, .. }, reason, .. } => match tunnel {
            TunnelName::Direct => format!("create {name} on port {port}: {reason}"),
            TunnelName::Vpn(vpn) => {
                format!("create {name} on port {port} behind {}: {reason}", vpn.as_str())
            }
        },
        Action::RestartVpn { tunnel, reason, .. } => format!("restart {tunnel}: {reason}"),
        Action::Cordon { id, reason } => format!("give {} no new streams: {reason}", name(id)),
        Action::Uncordon { id, reason } => format!("give {} streams again: {reason}", name(id)),
        Action::Remove { id, reason, .. } => format!("remove {}: {reason}", name(id)),
    }
}
