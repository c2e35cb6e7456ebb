//! `/engines`: the engines, in the shape that the reference's users know. Answered from a snapshot, never by asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::CommandError;
use acemux_fleet::ident::ContainerId;
use acemux_fleet::member::{Health, Member};
use acemux_fleet::provisioner::{Provisioner, Usage};
use acemux_fleet::spec::label;
use acemux_relay::Relay;
use acemux_relay::session::SessionSnapshot;
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::proxy::ProxySession;
use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::channels::ChannelNames;
use crate::planes::origins::source_of;
use crate::planes::vpn::Vpns;

/// One engine. The first 16 keys are the reference's, in its order; the rest is ours.
#[derive(Debug, Serialize, ToSchema)]
pub struct EngineState {
    container_id: String,
    container_name: String,
    host: String,
    port: u16,
    labels: BTreeMap<String, String>,
    forwarded: bool,
    first_seen: Timestamp,
    last_seen: Option<Timestamp>,
    streams: Vec<String>,
    #[schema(value_type = words::EngineHealth)]
    health_status: &'static str,
    /// What streams have shown of it.
    #[schema(value_type = words::EngineTrust)]
    trust: &'static str,
    /// Why, in one line; null when nothing is held against it.
    trust_reason: Option<&'static str>,
    /// `receives 35 Mbit/s without a session`: an engine of ours that downloads on and is replaced while it is idle.
    runaway: Option<String>,
    last_health_check: Option<Timestamp>,
    last_stream_usage: Option<Timestamp>,
    vpn_container: Option<String>,
    engine_variant: Option<String>,
    platform: Option<String>,
    version: Option<String>,
    forwarded_port: Option<u16>,
    cordoned: bool,
    slots_used: usize,
    slots_total: usize,
}

/// `GET /engines/{id}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EngineDetail {
    engine: EngineState,
    streams: Vec<ProxySession>,
}

/// Every engine, by port.
#[utoipa::path(get, path = "/engines", tag = "engines", responses((status = 200, body = Vec<EngineState>)))]
pub async fn list(State(relay): State<Relay>, State(engines): State<Arc<Engines>>) -> Json<Vec<EngineState>> {
    Json(states(&engines, &relay.sessions()))
}

/// All of them, by port.
pub(super) fn states(all: &Engines, sessions: &[SessionSnapshot]) -> Vec<EngineState> {
    let mut engines: Vec<_> = all.all().iter().map(|member| engine_state(member, sessions)).collect();
    engines.sort_by(|one, other| (one.port, &one.host).cmp(&(other.port, &other.host)));
    engines
}

impl EngineState {
    pub(super) fn is_healthy(&self) -> bool {
        self.health_status == Health::Healthy.as_str()
    }
}

/// One engine and its streams.
#[utoipa::path(
    get, path = "/engines/{id}", tag = "engines",
    params(("id" = String, Path, description = "Its container's id, or `host:port` of an engine that somebody else runs")),
    responses((status = 200, body = EngineDetail), fails::NotFound)
)]
pub async fn one(
    State(engines): State<Arc<Engines>>,
    State(relay): State<Relay>,
    State(vpns): State<Vpns>,
    State(names): State<Arc<ChannelNames>>,
    Path(id): Path<String>,
) -> Result<Json<EngineDetail>, Problem> {
    let member = engines.find(&id).ok_or_else(unknown)?;
    let sessions = relay.sessions();
    let engine = engine_state(&member, &sessions);
    let cut_off = vpns.cut_off(&engines);
    let streams = sessions.into_iter().filter(|session| plays_on(session, &member));
    let streams = streams.map(|session| ProxySession::of(&session, &cut_off, &names)).collect();
    Ok(Json(EngineDetail { engine, streams }))
}

/// What one engine's container uses.
#[derive(Debug, Serialize, ToSchema)]
pub struct EngineStats {
    container_id: String,
    /// 100 is one core; two decimals.
    cpu_percent: f64,
    /// Bytes without the page cache.
    memory_usage: u64,
    memory_limit: u64,
    /// Of its limit; two decimals.
    memory_percent: f64,
    network_rx_bytes: u64,
    network_tx_bytes: u64,
    block_read_bytes: u64,
    block_write_bytes: u64,
}

/// What all engines' containers use together.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct TotalStats {
    total_cpu_percent: f64,
    total_memory_usage: u64,
    total_network_rx_bytes: u64,
    total_network_tx_bytes: u64,
    total_block_read_bytes: u64,
    total_block_write_bytes: u64,
    container_count: usize,
}

/// By engine. Engines that somebody else runs, and new ones whose first figures have not come, are not in it.
#[utoipa::path(
    get, path = "/engines/stats/all", tag = "engines",
    responses((status = 200, description = "By the engine's id", body = BTreeMap<String, EngineStats>))
)]
pub async fn all_stats(State(engines): State<Arc<Engines>>) -> Json<BTreeMap<String, EngineStats>> {
    Json(each_stats(&engines).map(|stats| (stats.container_id.clone(), stats)).collect())
}

/// Together.
#[utoipa::path(get, path = "/engines/stats/total", tag = "engines", responses((status = 200, body = TotalStats)))]
pub async fn total_stats(State(engines): State<Arc<Engines>>) -> Json<TotalStats> {
    let total = each_stats(&engines).fold(TotalStats::default(), |total, one| TotalStats {
        total_cpu_percent: two_decimals(total.total_cpu_percent + one.cpu_percent),
        total_memory_usage: total.total_memory_usage + one.memory_usage,
        total_network_rx_bytes: total.total_network_rx_bytes + one.network_rx_bytes,
        total_network_tx_bytes: total.total_network_tx_bytes + one.network_tx_bytes,
        total_block_read_bytes: total.total_block_read_bytes + one.block_read_bytes,
        total_block_write_bytes: total.total_block_write_bytes + one.block_write_bytes,
        container_count: total.container_count + 1,
    });
    Json(total)
}

/// One engine's.
#[utoipa::path(
    get, path = "/engines/{id}/stats", tag = "engines",
    params(("id" = String, Path, description = "Its container's id, or `host:port` of an engine that somebody else runs")),
    responses((status = 200, body = EngineStats), fails::NotFound)
)]
pub async fn stats(
    State(engines): State<Arc<Engines>>,
    Path(id): Path<String>,
) -> Result<Json<EngineStats>, Problem> {
    let member = engines.find(&id).ok_or_else(unknown)?;
    let usage = member.knowledge().usage;
    let none = || Problem::new(Code::NotFound).with_detail("nothing is known yet of what this engine uses");
    usage.map(|usage| Json(engine_stats(&member, &usage))).ok_or_else(none)
}

/// `POST` and `DELETE` of `/api/v1/engines/{id}/drain`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Draining {
    container_id: String,
    /// Whether it is drained from now on.
    drained: bool,
    /// Streams that play on it at this moment; they go elsewhere.
    streams: usize,
}

/// Has an engine's streams go elsewhere and lets no new ones in.
///
/// One of ours is replaced, and removed when it is idle.
#[utoipa::path(
    post, path = "/engines/{id}/drain", tag = "engines",
    params(("id" = String, Path, description = "Its container's id, or its address")),
    responses((status = 202, body = Draining), fails::NotFound)
)]
pub async fn drain(
    operator: Operator,
    State(engines): State<Arc<Engines>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Draining>), Problem> {
    Ok((StatusCode::ACCEPTED, set_drained(&operator, &engines, &id, true)?))
}

/// Uses an engine again that is drained.
#[utoipa::path(
    delete, path = "/engines/{id}/drain", tag = "engines",
    params(("id" = String, Path, description = "Its container's id, or its address")),
    responses((status = 200, body = Draining), fails::NotFound)
)]
pub async fn undrain(
    operator: Operator,
    State(engines): State<Arc<Engines>>,
    Path(id): Path<String>,
) -> Result<Json<Draining>, Problem> {
    set_drained(&operator, &engines, &id, false)
}

fn set_drained(
    operator: &Operator,
    engines: &Engines,
    id: &str,
    drained: bool,
) -> Result<Json<Draining>, Problem> {
    let member = engines.find(id).ok_or_else(unknown)?;
    operator.was(json!({ "engine": id, "drained": member.is_unwanted() }));
    operator.made(json!({ "engine": id, "drained": drained }));
    member.drain(drained);
    Ok(Json(Draining { container_id: id.to_owned(), drained, streams: member.used() }))
}

/// `GET /api/v1/engines/{id}/logs`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EngineLog {
    container_id: String,
    /// Its last lines, oldest first. Words that could be secrets are not in them.
    log: Vec<String>,
}

/// The last lines that an own engine has written.
#[utoipa::path(
    get, path = "/engines/{id}/logs", tag = "engines",
    params(("id" = String, Path, description = "Its container's id")),
    responses((status = 200, body = EngineLog), fails::Commanded)
)]
pub async fn logs(
    _: Operator,
    State(Containers(provisioner)): State<Containers>,
    Path(id): Path<String>,
) -> Result<Json<EngineLog>, Problem> {
    let provisioner = provisioner.ok_or_else(unknown)?;
    let container: ContainerId = id.parse().map_err(|_| unknown())?;
    let seen = provisioner.post_mortem(&container).await;
    let seen = seen.map_err(|error| super::fleet::problem(&CommandError::Docker(error)))?;
    Ok(Json(EngineLog { container_id: id, log: seen.log }))
}

/// Who knows our containers; none where nobody creates engines.
#[derive(Clone)]
pub struct Containers(pub(crate) Option<Arc<dyn Provisioner>>);

fn each_stats(engines: &Engines) -> impl Iterator<Item = EngineStats> {
    let all: Vec<_> = engines.all().iter().cloned().collect();
    all.into_iter().filter_map(|member| Some(engine_stats(&member, &member.knowledge().usage?)))
}

fn engine_stats(member: &Member, usage: &Usage) -> EngineStats {
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit a double exactly up to 8 PiB")]
    let share = if usage.memory_limit == 0 { 0.0 } else { usage.memory as f64 / usage.memory_limit as f64 };
    EngineStats {
        container_id: member.key.to_string(),
        cpu_percent: two_decimals(usage.cpu_percent),
        memory_usage: usage.memory,
        memory_limit: usage.memory_limit,
        memory_percent: two_decimals(share * 100.0),
        network_rx_bytes: usage.network_rx,
        network_tx_bytes: usage.network_tx,
        block_read_bytes: usage.block_read,
        block_write_bytes: usage.block_write,
    }
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn unknown() -> Problem {
    Problem::new(Code::NotFound).with_detail("no engine has this id")
}

fn engine_state(member: &Member, sessions: &[SessionSnapshot]) -> EngineState {
    let known = member.knowledge();
    let labels =
        member.container.as_ref().map(|container| super::fleet::shown(&container.labels)).unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned();
    let forwarded = label(label::FORWARDED).is_some_and(|value| value == "true");
    let (vpn_container, engine_variant) = (label(label::VPN_CONTAINER), label(label::VARIANT));
    let endpoint = member.engine.endpoint();
    let streams = sessions.iter().filter(|session| plays_on(session, member));
    EngineState {
        container_id: member.key.to_string(),
        container_name: known.name.clone(),
        host: endpoint.host().to_owned(),
        port: endpoint.port(),
        labels,
        forwarded,
        first_seen: known.first_seen,
        last_seen: known.last_seen,
        streams: streams.map(|session| session.label.clone()).collect(),
        health_status: known.health.as_str(),
        trust: member.trust().as_str(),
        trust_reason: member.trust().why(),
        runaway: member.runs_away().map(|runaway| runaway.to_string()),
        last_health_check: known.last_check,
        last_stream_usage: known.last_stream,
        vpn_container,
        engine_variant,
        platform: known.platform,
        version: known.version,
        forwarded_port: member.container.as_ref().and_then(|container| container.forwarded),
        cordoned: member.is_cordoned(),
        slots_used: member.used(),
        slots_total: member.slots,
    }
}

fn plays_on(session: &SessionSnapshot, member: &Member) -> bool {
    session.source.as_ref().is_some_and(|source| source.id == source_of(member))
}
