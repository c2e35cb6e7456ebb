//! `/engines`: the engines, in the shape that the reference's users know. Answered from a snapshot, never by asking.

use std::collections::BTreeMap;

use acemux_relay::session::SessionSnapshot;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;

use super::problem::{Code, Problem};
use crate::app::App;
use crate::engines::Member;

/// One engine. The first 16 keys are the reference's, in its order; the rest is ours.
#[derive(Debug, Serialize)]
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
    health_status: &'static str,
    last_health_check: Option<Timestamp>,
    last_stream_usage: Option<Timestamp>,
    vpn_container: Option<String>,
    engine_variant: Option<String>,
    platform: Option<String>,
    version: Option<String>,
    forwarded_port: Option<u16>,
    slots_used: usize,
    slots_total: usize,
}

/// `GET /engines/{id}`.
#[derive(Debug, Serialize)]
pub struct EngineDetail {
    engine: EngineState,
    streams: Vec<super::proxy::ProxySession>,
}

/// Every engine, by port.
pub async fn list(State(app): State<App>) -> Json<Vec<EngineState>> {
    let sessions = app.relay.sessions();
    let mut engines: Vec<_> =
        app.engines.all().iter().map(|member| engine_state(member, &sessions)).collect();
    engines.sort_by(|one, other| (one.port, &one.host).cmp(&(other.port, &other.host)));
    Json(engines)
}

/// One engine and its streams.
pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<EngineDetail>, Problem> {
    let unknown = || Problem::new(Code::NotFound).with_detail("no engine has this id");
    let member = app.engines.find(&id).ok_or_else(unknown)?;
    let sessions = app.relay.sessions();
    let engine = engine_state(member, &sessions);
    let streams = sessions.into_iter().filter(|session| plays_on(session, member)).map(Into::into).collect();
    Ok(Json(EngineDetail { engine, streams }))
}

fn engine_state(member: &Member, sessions: &[SessionSnapshot]) -> EngineState {
    let known = member.knowledge();
    let endpoint = member.engine.endpoint();
    let streams = sessions.iter().filter(|session| plays_on(session, member));
    EngineState {
        container_id: member.name(),
        container_name: format!("engine-{}-{}", endpoint.host(), endpoint.port()),
        host: endpoint.host().to_owned(),
        port: endpoint.port(),
        labels: BTreeMap::new(),
        forwarded: false,
        first_seen: known.first_seen,
        last_seen: known.last_seen,
        streams: streams.map(|session| session.label.clone()).collect(),
        health_status: known.health.as_str(),
        last_health_check: known.last_check,
        last_stream_usage: known.last_stream,
        vpn_container: None,
        engine_variant: None,
        platform: known.platform,
        version: known.version,
        forwarded_port: None,
        slots_used: member.used(),
        slots_total: member.slots,
    }
}

fn plays_on(session: &SessionSnapshot, member: &Member) -> bool {
    session.source.as_ref().is_some_and(|source| source.id == member.id)
}
