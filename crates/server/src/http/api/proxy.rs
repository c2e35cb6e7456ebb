//! `/proxy/*`: what is playing and who watches, in the shapes that the reference's users know.

use std::net::IpAddr;
use std::sync::Arc;

use acemux_engine::ContentId;
use acemux_fleet::dispatch::Engines;
use acemux_relay::session::{EndReason, Phase, SessionSnapshot};
use acemux_relay::verdict::{Outside, Verdict};
use acemux_relay::viewer::ViewerSnapshot;
use acemux_relay::{Relay, StreamKey};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::channels::ChannelNames;
use crate::planes::names::Names;
use crate::planes::origins::EngineOrigin;
use crate::planes::players::Player;
use crate::planes::vpn::{CutOff, Vpns};

/// `GET /proxy/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProxyStatus {
    running: bool,
    total_sessions: usize,
    active_sessions: usize,
    total_clients: usize,
    sessions: Vec<ProxySession>,
}

/// `GET /proxy/sessions`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProxySessions {
    sessions: Vec<ProxySession>,
}

/// One stream. The first 14 keys are the reference's, in its order; the rest is ours.
#[derive(Debug, Serialize, ToSchema)]
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
    /// Since the last byte was given out or a viewer came.
    idle_seconds: f64,
    /// How it is.
    #[schema(value_type = words::StreamVerdict)]
    verdict: &'static str,
    /// The figure that says so, in one line.
    verdict_reason: String,
    infohash: Option<String>,
    /// What operators call it (`PUT /api/v1/channels/names/{id}`).
    name: Option<String>,
    #[schema(value_type = words::SessionState)]
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
    /// How fast it comes by our clock, over ten seconds.
    arriving_bps: Option<u64>,
    /// What a viewer who joined now would still have to play if nothing came any more.
    runway_seconds: Option<f64>,
    bytes_received: u64,
    bytes_sent: u64,
    buffer_bytes: usize,
    buffer_seconds: f64,
    /// Times that another source was wanted: the one in use was lost, silent, or to be left.
    gaps: u64,
    /// Times that the source in use was silent.
    stalls: u64,
    /// Times that it went on from another engine.
    switches: u64,
    /// Times that a viewer fell behind and skipped.
    skips: u64,
    /// `1920x1080`, as the stream itself says.
    resolution: Option<String>,
    fps: Option<f64>,
    #[schema(value_type = Option<words::Scan>)]
    scan: Option<&'static str>,
    video_codec: Option<&'static str>,
    audio_codec: Option<&'static str>,
    /// Its number in the PAT.
    program: Option<u16>,
    /// Its picture, or in radio its sound, is scrambled.
    scrambled: bool,
    /// Where its media time comes from: `pcr`, `time_stamps` or `arrival`.
    clock: &'static str,
    /// Tables that came with a wrong checksum.
    wrong_checksums: u64,
    /// All of its elementary streams, in the order of the PMT.
    tracks: Vec<Track>,
}

/// One elementary stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Track {
    pid: u16,
    codec: &'static str,
    language: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    fps: Option<f64>,
    #[schema(value_type = Option<words::Scan>)]
    scan: Option<&'static str>,
    /// Hz.
    sample_rate: Option<u32>,
    channels: Option<u8>,
}

/// One viewer of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProxyViewer {
    id: u64,
    #[schema(value_type = String)]
    address: IpAddr,
    user_agent: String,
    /// The family of players, by the `User-Agent`.
    player: Player,
    /// What operators call it (`PUT /api/v1/names`).
    name: Option<String>,
    connected_at: Timestamp,
    playing: bool,
    bytes_sent: u64,
    skips: u64,
    skipped_bytes: u64,
    lag_chunks: u64,
    first_byte_ms: Option<u64>,
    /// How it is: as its stream, or `viewer_behind`.
    #[schema(value_type = words::ViewerVerdict)]
    verdict: &'static str,
    verdict_reason: String,
}

/// What pages of streams look at.
#[derive(Clone)]
pub struct Streams {
    pub(crate) relay: Relay,
    pub(crate) origin: EngineOrigin,
    pub(crate) engines: Arc<Engines>,
    pub(crate) vpns: Vpns,
    pub(crate) names: Arc<Names>,
    pub(crate) channel_names: Arc<ChannelNames>,
}

impl Streams {
    fn cut_off(&self) -> CutOff {
        self.vpns.cut_off(&self.engines)
    }

    /// By any form of its id.
    pub(super) fn find(&self, id: &str) -> Result<SessionSnapshot, Problem> {
        find(&self.relay, &self.origin, id)
    }

    /// Who watches it; `None` when it is over.
    pub(super) fn viewers(&self, key: &StreamKey) -> Option<Vec<ProxyViewer>> {
        let session = self.relay.session(key)?;
        let outside = self.cut_off().of(&session);
        let viewers = self.relay.watching(key).into_iter();
        Some(viewers.map(|viewer| ProxyViewer::of(viewer, &session, outside, &self.names)).collect())
    }

    fn all(&self) -> Vec<ProxySession> {
        let cut_off = self.cut_off();
        let sessions = self.relay.sessions().into_iter();
        sessions.map(|session| ProxySession::of(&session, &cut_off, &self.channel_names)).collect()
    }
}

/// `GET /proxy/sessions/{id}/viewers`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProxyViewers {
    viewers: Vec<ProxyViewer>,
}

/// Counts and every stream.
#[utoipa::path(get, path = "/proxy/status", tag = "sessions", responses((status = 200, body = ProxyStatus)))]
pub async fn status(State(streams): State<Streams>) -> Json<ProxyStatus> {
    let sessions = streams.all();
    Json(ProxyStatus {
        running: true,
        total_sessions: sessions.len(),
        active_sessions: sessions.iter().filter(|session| session.is_active).count(),
        total_clients: sessions.iter().map(|session| session.client_count).sum(),
        sessions,
    })
}

/// Every stream.
#[utoipa::path(get, path = "/proxy/sessions", tag = "sessions", responses((status = 200, body = ProxySessions)))]
pub async fn sessions(State(streams): State<Streams>) -> Json<ProxySessions> {
    Json(ProxySessions { sessions: streams.all() })
}

/// One stream, by any form of its id.
#[utoipa::path(
    get, path = "/proxy/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Any form of the stream's id: 40 hex digits, or `acestream://…`",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = ProxySession), fails::NotFound)
)]
pub async fn session(
    State(streams): State<Streams>,
    Path(id): Path<String>,
) -> Result<Json<ProxySession>, Problem> {
    let session = streams.find(&id)?;
    Ok(Json(ProxySession::of(&session, &streams.cut_off(), &streams.channel_names)))
}

/// Who watches one stream. For the operator only: it tells who people are.
#[utoipa::path(
    get, path = "/proxy/sessions/{id}/viewers", tag = "sessions",
    params(("id" = String, Path, description = "Any form of the stream's id: 40 hex digits, or `acestream://…`",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = ProxyViewers), fails::NotFound)
)]
pub async fn viewers(
    _: Operator,
    State(streams): State<Streams>,
    Path(id): Path<String>,
) -> Result<Json<ProxyViewers>, Problem> {
    let key = streams.find(&id)?.key;
    Ok(Json(ProxyViewers { viewers: streams.viewers(&key).unwrap_or_default() }))
}

/// `DELETE /proxy/viewers/{id}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Kicked {
    kicked: u64,
}

/// Throws a viewer out and keeps its address out of the stream for five seconds; the stream and its other viewers go on.
///
/// Players come straight back otherwise.
#[utoipa::path(
    delete, path = "/proxy/viewers/{id}", tag = "sessions",
    params(("id" = u64, Path, description = "As the session's page of viewers has it")),
    responses((status = 200, body = Kicked), fails::NotFound)
)]
pub async fn kick(
    operator: Operator,
    State(relay): State<Relay>,
    State(names): State<Arc<Names>>,
    Path(id): Path<String>,
) -> Result<Json<Kicked>, Problem> {
    let unknown = || Problem::new(Code::NotFound).with_detail("no viewer has this id");
    let id: u64 = id.parse().map_err(|_| unknown())?;
    let watching = watching(&relay, &names, id);
    if let Some((stream, viewer)) = relay.viewer(id) {
        relay.keep_out(&stream, viewer.address.into());
    }
    let kicked = Some(id).filter(|id| relay.kick(*id)).ok_or_else(unknown)?;
    operator.was(watching);
    Ok(Json(Kicked { kicked }))
}

/// Who a viewer is, for the audit; null when nobody has this number.
fn watching(relay: &Relay, names: &Names, id: u64) -> Value {
    let found = relay.viewer(id).map(|(stream, viewer)| {
        let name = names.of(viewer.address, Player::of(&viewer.user_agent));
        json!({
            "stream": stream.as_str(),
            "address": viewer.address,
            "user_agent": viewer.user_agent,
            "name": name,
        })
    });
    found.unwrap_or_default()
}

/// `POST /proxy/sessions/{id}/move`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Moving {
    /// The stream's key.
    moving: String,
    /// The engine it plays on now.
    from: String,
}

/// Has a stream play on another engine; its viewers stay. It is under way when the answer comes; where there is no other
/// engine with room the stream stays where it is, and the events say so.
#[utoipa::path(
    post, path = "/proxy/sessions/{id}/move", tag = "sessions",
    params(("id" = String, Path, description = "Any form of the stream's id: 40 hex digits, or `acestream://…`",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 202, body = Moving), fails::NotFound)
)]
pub async fn relocate(
    operator: Operator,
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Moving>), Problem> {
    let session = find(&relay, &origin, &id)?;
    let not_now = || Problem::new(Code::NotFound).with_detail("the stream plays on no engine yet");
    // Before its first media an engine may have been asked, and another one is asked anyway when that one fails.
    let source = session.source.filter(|_| session.phase == Phase::Live);
    let from = source.ok_or_else(not_now)?.id.to_string();
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

/// The elementary streams of what is played.
fn tracks(session: &SessionSnapshot) -> Vec<Track> {
    let streams = session.format.streams.iter();
    let track = streams.map(|stream| {
        let (picture, sound) = (stream.details.picture(), stream.details.sound());
        Track {
            pid: stream.pid.get(),
            codec: stream.coding.as_str(),
            language: stream.language.map(|language| language.as_str().to_owned()),
            width: picture.map(|picture| picture.width),
            height: picture.map(|picture| picture.height),
            fps: picture.and_then(|picture| picture.fps()),
            scan: picture.map(|picture| picture.scan.as_str()),
            sample_rate: sound.map(|sound| sound.sample_rate),
            channels: sound.and_then(|sound| sound.channels),
        }
    });
    track.collect()
}

impl ProxySession {
    /// `cut_off`: engines that have no way out.
    pub(super) fn of(session: &SessionSnapshot, cut_off: &CutOff, names: &ChannelNames) -> Self {
        let verdict = Verdict::of_stream(session, cut_off.of(session));
        let picture = session.format.picture();
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
            verdict: verdict.as_str(),
            verdict_reason: verdict.to_string(),
            resolution: picture.map(|picture| format!("{}x{}", picture.width, picture.height)),
            fps: picture.and_then(|picture| picture.fps()),
            scan: picture.map(|picture| picture.scan.as_str()),
            video_codec: session.format.video(),
            audio_codec: session.format.audio(),
            program: (!session.format.streams.is_empty()).then_some(session.format.program),
            scrambled: session.condition.is_scrambled,
            clock: session.condition.clock.as_str(),
            wrong_checksums: session.condition.wrong_checksums,
            tracks: tracks(session),
            arriving_bps: session.arriving.map(u64::from),
            runway_seconds: session.runway.map(|runway| runway.as_secs_f64()),
            bytes_sent: session.bytes_out,
            infohash: crate::planes::origins::infohash_of(&session.key),
            name: names.of(session),
            state: state(session),
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
            gaps: session.troubles.gaps,
            stalls: session.troubles.stalls,
            switches: session.troubles.switches,
            skips: session.troubles.skips,
        }
    }
}

impl ProxyViewer {
    /// Of this stream.
    pub(super) fn of(
        viewer: ViewerSnapshot,
        session: &SessionSnapshot,
        outside: Outside,
        names: &Names,
    ) -> Self {
        let verdict = Verdict::of_viewer(&viewer, session, outside);
        let player = Player::of(&viewer.user_agent);
        Self {
            verdict: verdict.as_str(),
            verdict_reason: verdict.to_string(),
            id: viewer.id.get(),
            address: viewer.address,
            player,
            name: names.of(viewer.address, player),
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
