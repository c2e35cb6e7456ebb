//! `/proxy/*`: what is playing and who watches, in the shapes that the reference's users know.

use std::net::IpAddr;

use acemux_engine::ContentId;
use acemux_relay::Relay;
use acemux_relay::session::{EndReason, Phase, SessionSnapshot};
use acemux_relay::viewer::ViewerSnapshot;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::planes::origins::EngineOrigin;

/// `GET /proxy/status`.
#[derive(Debug, Serialize)]
pub struct ProxyStatus {
    running: bool,
    total_sessions: usize,
    active_sessions: usize,
    total_clients: usize,
    sessions: Vec<ProxySession>,
}

/// `GET /proxy/sessions`.
#[derive(Debug, Serialize)]
pub struct ProxySessions {
    sessions: Vec<ProxySession>,
}

/// One stream. The first 14 keys are the reference's, in its order; the rest is ours.
#[derive(Debug, Serialize)]
pub struct ProxySession {
    stream_id: String,
    ace_id: String,
    engine_host: Option<String>,
    engine_port: Option<u16>,
    container_id: Option<String>,
    playback_session_id: Option<String>,
    is_live: bool,
    is_active: bool,
    client_count: usize,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    error: Option<String>,
    idle_seconds: f64,
    infohash: Option<String>,
    state: &'static str,
    status: Option<String>,
    peers: Option<u64>,
    /// KiB/s.
    speed_down: Option<u64>,
    /// KiB/s.
    speed_up: Option<u64>,
    downloaded: Option<u64>,
    uploaded: Option<u64>,
    /// Measured by the stream's own clock.
    bitrate_bps: Option<u64>,
    bytes_received: u64,
    buffer_bytes: usize,
    buffer_seconds: f64,
}

/// One viewer of a stream.
#[derive(Debug, Serialize)]
pub struct ProxyViewer {
    id: u64,
    address: IpAddr,
    user_agent: String,
    connected_at: Timestamp,
    playing: bool,
    bytes_sent: u64,
    skips: u64,
    skipped_bytes: u64,
    lag_chunks: u64,
    first_byte_ms: Option<u64>,
}

/// `GET /proxy/sessions/{id}/viewers`.
#[derive(Debug, Serialize)]
pub struct ProxyViewers {
    viewers: Vec<ProxyViewer>,
}

/// Counts and every stream.
pub async fn status(State(relay): State<Relay>) -> Json<ProxyStatus> {
    let sessions = relay.sessions();
    Json(ProxyStatus {
        running: true,
        total_sessions: sessions.len(),
        active_sessions: sessions.iter().filter(|session| session.phase == Phase::Live).count(),
        total_clients: sessions.iter().map(|session| session.viewers).sum(),
        sessions: sessions.into_iter().map(ProxySession::from).collect(),
    })
}

/// Every stream.
pub async fn sessions(State(relay): State<Relay>) -> Json<ProxySessions> {
    Json(ProxySessions { sessions: relay.sessions().into_iter().map(ProxySession::from).collect() })
}

/// One stream, by any form of its id.
pub async fn session(
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<ProxySession>, Problem> {
    Ok(Json(find(&relay, &origin, &id)?.into()))
}

/// Who watches one stream. For the operator only: it tells who people are.
pub async fn viewers(
    _: Operator,
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<ProxyViewers>, Problem> {
    let viewers = relay.watching(&find(&relay, &origin, &id)?.key);
    Ok(Json(ProxyViewers { viewers: viewers.into_iter().map(ProxyViewer::from).collect() }))
}

/// `DELETE /proxy/viewers/{id}`.
#[derive(Debug, Serialize)]
pub struct Kicked {
    kicked: u64,
}

/// Throws a viewer out; the stream and its other viewers go on.
pub async fn kick(
    operator: Operator,
    State(relay): State<Relay>,
    Path(id): Path<String>,
) -> Result<Json<Kicked>, Problem> {
    let unknown = || Problem::new(Code::NotFound).with_detail("no viewer has this id");
    let id: u64 = id.parse().map_err(|_| unknown())?;
    let watching = watching(&relay, id);
    let kicked = Some(id).filter(|id| relay.kick(*id)).ok_or_else(unknown)?;
    operator.was(watching);
    Ok(Json(Kicked { kicked }))
}

/// Who a viewer is, for the audit; null when nobody has this number.
fn watching(relay: &Relay, id: u64) -> Value {
    let found = relay.viewer(id).map(|(stream, viewer)| {
        json!({ "stream": stream.as_str(), "address": viewer.address, "user_agent": viewer.user_agent })
    });
    found.unwrap_or_default()
}

/// `POST /proxy/sessions/{id}/move`.
#[derive(Debug, Serialize)]
pub struct Moving {
    /// The stream's key.
    moving: String,
    /// The engine it plays on now.
    from: String,
}

/// Has a stream play on another engine; its viewers stay. It is under way when the answer comes; where there is no other
/// engine with room the stream stays where it is, and the events say so.
pub async fn relocate(
    operator: Operator,
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Moving>), Problem> {
    let session = find(&relay, &origin, &id)?;
    let not_now = || Problem::new(Code::NotFound).with_detail("the stream plays on no engine yet");
    let from = session.source.ok_or_else(not_now)?.id.to_string();
    if !relay.leave_with(&session.key, "an operator moves the stream") {
        return Err(not_now());
    }
    // Where to is not decided yet: the events about the stream say it.
    operator.was(json!({ "stream": session.key.as_str(), "engine": from }));
    Ok((StatusCode::ACCEPTED, Json(Moving { moving: session.key.to_string(), from })))
}

pub(super) fn find(relay: &Relay, origin: &EngineOrigin, id: &str) -> Result<SessionSnapshot, Problem> {
    let unknown = || Problem::new(Code::NotFound).with_detail("no stream of this id is playing");
    let content = ContentId::from_any_form(id).map_err(|_| unknown())?;
    let keys = origin.known_key(content);
    keys.iter().find_map(|key| relay.session(key)).ok_or_else(unknown)
}

impl From<SessionSnapshot> for ProxySession {
    fn from(session: SessionSnapshot) -> Self {
        let source = session.source.as_ref();
        let stats = session.stats.clone().unwrap_or_default();
        Self {
            stream_id: session.label.clone(),
            ace_id: session.label.clone(),
            engine_host: source.map(|source| source.host.clone()),
            engine_port: source.map(|source| source.port),
            container_id: source.map(|source| source.container_id.clone()),
            playback_session_id: source.and_then(|source| source.playback_session_id.clone()),
            is_live: source.is_none_or(|source| source.is_live),
            is_active: session.phase == Phase::Live,
            client_count: session.viewers,
            created_at: session.created,
            started_at: session.started,
            // A stream that is over is out of this list at once; the keys stay for clients that read them.
            ended_at: None,
            error: error(&session.phase),
            idle_seconds: session.idle.as_secs_f64(),
            infohash: crate::planes::origins::infohash_of(&session.key),
            state: state(&session),
            status: stats.status,
            peers: stats.peers,
            speed_down: stats.speed_down,
            speed_up: stats.speed_up,
            downloaded: stats.downloaded,
            uploaded: stats.uploaded,
            bitrate_bps: session.bitrate.map(u64::from),
            bytes_received: session.bytes_in,
            buffer_bytes: session.ring.bytes,
            buffer_seconds: session.ring.media.as_secs_f64(),
        }
    }
}

impl From<ViewerSnapshot> for ProxyViewer {
    fn from(viewer: ViewerSnapshot) -> Self {
        Self {
            id: viewer.id.get(),
            address: viewer.address,
            user_agent: viewer.user_agent,
            connected_at: viewer.since,
            playing: viewer.playing,
            bytes_sent: viewer.bytes,
            skips: viewer.skips,
            skipped_bytes: viewer.skipped_bytes,
            lag_chunks: viewer.lag_chunks,
            first_byte_ms: viewer.first_byte_ms,
        }
    }
}

fn state(session: &SessionSnapshot) -> &'static str {
    match session.phase {
        Phase::Opening => "opening",
        Phase::Live if session.lingering.is_some() => "lingering",
        Phase::Live => "live",
        Phase::Ended(_) => "ended",
    }
}

fn error(phase: &Phase) -> Option<String> {
    match phase {
        Phase::Ended(EndReason::NotStarted(error)) => Some(error.to_string()),
        _ => None,
    }
}
