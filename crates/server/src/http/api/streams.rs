//! `/streams` and the reports of other programs: which streams run on the engines.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_engine::text;
use acemux_fleet::dispatch::Engines;
use acemux_relay::Relay;
use acemux_relay::origin::{LivePosition, SourceStats};
use acemux_relay::session::{EndReason, Phase, SessionSnapshot};
use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::proxy::find;
use crate::http::auth::Operator;
use crate::http::body::Object;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::origins::EngineOrigin;
use crate::planes::reported::ForeignStream;
use crate::planes::reported::Reported;
use crate::record::recorder::Recorder;

/// Longest text of a report.
const LONGEST: usize = 512;

/// One stream, in the reference's shape. URLs of engines are not told: whoever has them can control the engine.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamState {
    id: String,
    #[schema(value_type = words::KeyKind)]
    key_type: String,
    key: String,
    container_id: Option<String>,
    playback_session_id: Option<String>,
    /// Always null.
    stat_url: Option<String>,
    /// Always null.
    command_url: Option<String>,
    is_live: bool,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    #[schema(value_type = words::StreamStatus)]
    status: &'static str,
    peers: Option<u64>,
    /// KiB/s.
    speed_down: Option<u64>,
    /// KiB/s.
    speed_up: Option<u64>,
    downloaded: Option<u64>,
    uploaded: Option<u64>,
    livepos: Option<Position>,
    /// As in `/proxy/sessions`; null for a stream that was reported.
    gaps: Option<u64>,
    stalls: Option<u64>,
    switches: Option<u64>,
    skips: Option<u64>,
}

/// Where in its broadcast a stream is read, in seconds of Unix time by the broadcaster's clock.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LivePosition)]
struct Position {
    pos: Option<u64>,
    live_first: Option<u64>,
    live_last: Option<u64>,
}

/// What its engine said of a stream at a moment, in the reference's shape.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamSample {
    ts: Timestamp,
    peers: Option<u64>,
    /// KiB/s.
    speed_down: Option<u64>,
    speed_up: Option<u64>,
    /// Bytes since the engine's playback began.
    downloaded: Option<u64>,
    uploaded: Option<u64>,
    status: Option<String>,
    livepos: Option<Position>,
}

/// Query of `GET /streams/{id}/stats`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Only what was said after that. A time without a zone is UTC.
    #[param(example = "2026-01-31T12:00:00Z")]
    since: Option<String>,
}

/// Query of `GET /streams`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `ended` is always empty: what has ended is in `/events`.
    #[param(value_type = words::StreamStatus, required = false, inline)]
    status: Option<String>,
    /// Those on this engine.
    container_id: Option<String>,
}

/// Body of `POST /events/stream_started`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StartedReport {
    container_id: Option<String>,
    engine: ReportedEngine,
    stream: ReportedStream,
    session: ReportedSession,
    /// `stream_id` names the stream; else its key and its playback do.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ReportedEngine {
    host: String,
    #[schema(maximum = 65535)]
    port: u16,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ReportedStream {
    key_type: KeyType,
    #[schema(max_length = 512)]
    key: String,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = ReportedKeyType)]
#[serde(rename_all = "snake_case")]
enum KeyType {
    ContentId,
    Infohash,
    Url,
    Magnet,
}

/// Its URLs are understood and not used.
#[derive(Debug, Deserialize, ToSchema)]
struct ReportedSession {
    #[schema(max_length = 512)]
    playback_session_id: String,
    /// `1` or `true`; everything else is a recording.
    is_live: Value,
}

/// Body of `POST /events/stream_ended`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EndedReport {
    container_id: Option<String>,
    stream_id: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamEnded)]
pub struct EndedReply {
    /// Whether a stream was ended.
    updated: bool,
    stream: Option<StreamState>,
}

/// Every stream that runs: ours and those that were reported. Streams that have ended are in `/events`.
#[utoipa::path(
    get, path = "/streams", tag = "streams",
    params(ListQuery),
    responses((status = 200, body = Vec<StreamState>), fails::InvalidParam)
)]
pub async fn list(
    State(relay): State<Relay>,
    State(reported): State<Arc<Reported>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<StreamState>>, Problem> {
    match query.status.as_deref() {
        None | Some("started") => {}
        Some("ended") => return Ok(Json(Vec::new())),
        Some(_) => return Err(Problem::new(Code::InvalidParam).with_detail("status is started or ended")),
    }
    let ours = relay.sessions().into_iter().filter(|session| session.phase == Phase::Live);
    let reported = reported.all();
    let all = ours.map(StreamState::from).chain(reported.into_iter().map(StreamState::from));
    let is_wanted =
        |stream: &StreamState| query.container_id.is_none() || query.container_id == stream.container_id;
    Ok(Json(all.filter(is_wanted).collect()))
}

/// Another program runs a stream on one of our engines.
#[utoipa::path(
    post, path = "/events/stream_started", tag = "streams",
    request_body = StartedReport,
    responses((status = 200, body = StreamState), fails::NotFound, fails::InvalidBody, fails::TooManyRequests)
)]
pub async fn started(
    State(engines): State<Arc<Engines>>,
    State(reported): State<Arc<Reported>>,
    State(recorder): State<Arc<Recorder>>,
    operator: Operator,
    Object(report): Object<StartedReport>,
) -> Result<Json<StreamState>, Problem> {
    let address = format!("{}:{}", report.engine.host, report.engine.port);
    let engine =
        report.container_id.as_deref().and_then(|id| engines.find(id)).or_else(|| {
            engines.all().iter().find(|one| one.engine.endpoint().to_string() == address).cloned()
        });
    let unknown =
        || Problem::new(Code::NotFound).with_detail("no engine of this service has this id or address");
    let engine = engine.ok_or_else(unknown)?;
    let known = known(report, engine.key.to_string())?;
    if !reported.start(&engine, |engine| engines.slot_on(engine), known.clone()) {
        return Err(Problem::new(Code::TooManyRequests).with_detail("too many streams are reported"));
    }
    recorder.reported(&known, true);
    operator.made(json!({ "stream": known.id, "engine": known.container_id }));
    Ok(Json(known.into()))
}

/// It has ended. Only what was reported can be ended so; a stream that is not certain is left alone.
#[utoipa::path(
    post, path = "/events/stream_ended", tag = "streams",
    request_body = EndedReport,
    responses((status = 200, body = EndedReply))
)]
pub async fn ended(
    State(reported): State<Arc<Reported>>,
    State(recorder): State<Arc<Recorder>>,
    operator: Operator,
    Object(report): Object<EndedReport>,
) -> Json<EndedReply> {
    let ended = reported.end(report.stream_id.as_deref(), report.container_id.as_deref());
    if let Some(known) = &ended {
        recorder.reported(known, false);
        operator.was(json!({ "stream": known.id, "engine": known.container_id }));
    }
    let stream = ended.map(|known| StreamState {
        status: "ended",
        ended_at: Some(Timestamp::now()),
        ..StreamState::from(known)
    });
    Json(EndedReply { updated: stream.is_some(), stream })
}

/// `DELETE /streams/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamStopped)]
pub struct Ended {
    message: &'static str,
    stream_id: String,
    /// Viewers whose connections end with it; a player that asks again begins it anew.
    viewers: usize,
}

/// Ends a stream: by its id in `/streams`, or by any form of its content's.
#[utoipa::path(
    delete, path = "/streams/{id}", tag = "streams",
    params(("id" = String, Path, description = "As `/streams` has it, or any form of its content's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = Ended), fails::NotFound)
)]
pub async fn stop(
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    State(reported): State<Arc<Reported>>,
    State(recorder): State<Arc<Recorder>>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<Ended>, Problem> {
    let message = "Stream stopped successfully";
    if let Some(known) = reported.end(Some(&id), None) {
        recorder.reported(&known, false);
        operator.was(json!({ "stream": known.id, "engine": known.container_id }));
        return Ok(Json(Ended { message, stream_id: known.id, viewers: 0 }));
    }
    // Before the bar stands the key, after it the engine's name for the playback.
    let session = find(&relay, &origin, id.split('|').next().unwrap_or_default())?;
    let (key, viewers) = (session.key.clone(), session.viewers);
    operator.was(json!({ "stream": key.as_str(), "viewers": viewers }));
    relay.end(&key, EndReason::Stopped);
    Ok(Json(Ended { message, stream_id: id, viewers }))
}

/// `GET /streams/{id}/livepos`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamPosition)]
pub struct LivePos {
    has_livepos: bool,
    is_live: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    livepos: Option<Position>,
}

/// Where in its broadcast a stream is read, as its engine said last.
#[utoipa::path(
    get, path = "/streams/{id}/livepos", tag = "streams",
    params(("id" = String, Path, description = "As `/streams` has it, or any form of its content's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = LivePos), fails::NotFound)
)]
pub async fn position(
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<LivePos>, Problem> {
    let session = find(&relay, &origin, id.split('|').next().unwrap_or_default())?;
    let livepos = session.stats.as_ref().and_then(|stats| stats.live).map(livepos);
    let is_live = session.source.as_ref().is_none_or(|source| source.is_live);
    Ok(Json(LivePos { has_livepos: livepos.is_some(), is_live, livepos }))
}

/// What the engine said of a stream in the last five minutes, second by second, the oldest first; nothing of a stream
/// that does not play, as in the reference.
#[utoipa::path(
    get, path = "/streams/{id}/stats", tag = "streams",
    params(StatsQuery, ("id" = String, Path, description = "As `/streams` has it, or any form of its content's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = [StreamSample]))
)]
pub async fn stats(
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<Vec<StreamSample>>, Problem> {
    let bad = || Problem::new(Code::InvalidParam).with_detail("since is a time as in 2026-01-31T12:00:00Z");
    let since = query.since.map(|since| moment(&since).ok_or_else(bad)).transpose()?;
    let session = find(&relay, &origin, id.split('|').next().unwrap_or_default());
    let told = session.ok().and_then(|session| relay.told_of(&session.key)).unwrap_or_default();
    let is_wanted = |(at, _): &(Timestamp, SourceStats)| since.is_none_or(|since| *at > since);
    Ok(Json(told.into_iter().filter(is_wanted).map(StreamSample::from).collect()))
}

fn known(report: StartedReport, container_id: String) -> Result<ForeignStream, Problem> {
    let StartedReport { stream, session, labels, .. } = report;
    let key_type = match stream.key_type {
        KeyType::ContentId => "content_id",
        KeyType::Infohash => "infohash",
        KeyType::Url => "url",
        KeyType::Magnet => "magnet",
    };
    let id = labels.get("stream_id").cloned();
    let id = id.unwrap_or_else(|| format!("{}|{}", stream.key, session.playback_session_id));
    let is_plain = |text: &str| text.len() <= LONGEST && text::is_plain(text);
    if ![&id, &stream.key, &session.playback_session_id].into_iter().all(|text| is_plain(text)) {
        return Err(
            Problem::new(Code::InvalidBody).with_detail("a text of the report is too long, or no plain line")
        );
    }
    let is_live = session.is_live == json!(1) || session.is_live == json!(true);
    Ok(ForeignStream {
        id,
        key_type: key_type.to_owned(),
        key: stream.key,
        container_id,
        playback_session_id: session.playback_session_id,
        is_live,
        started_at: Timestamp::now(),
    })
}

impl From<ForeignStream> for StreamState {
    fn from(known: ForeignStream) -> Self {
        Self {
            id: known.id,
            key_type: known.key_type,
            key: known.key,
            container_id: Some(known.container_id),
            playback_session_id: Some(known.playback_session_id),
            stat_url: None,
            command_url: None,
            is_live: known.is_live,
            started_at: Some(known.started_at),
            ended_at: None,
            status: "started",
            peers: None,
            speed_down: None,
            speed_up: None,
            downloaded: None,
            uploaded: None,
            livepos: None,
            gaps: None,
            stalls: None,
            switches: None,
            skips: None,
        }
    }
}

impl From<SessionSnapshot> for StreamState {
    fn from(session: SessionSnapshot) -> Self {
        let stats = session.stats.clone().unwrap_or_default();
        let playback = session.source.as_ref().and_then(|source| source.playback_session_id.clone());
        let infohash = crate::planes::origins::infohash_of(&session.key);
        let key_type = if infohash.is_some() { "infohash" } else { "content_id" };
        let key = infohash.unwrap_or_else(|| session.label.clone());
        Self {
            id: format!("{key}|{}", playback.as_deref().unwrap_or_default()),
            key_type: key_type.to_owned(),
            key,
            container_id: session.source.as_ref().map(|source| source.container_id.clone()),
            playback_session_id: playback,
            stat_url: None,
            command_url: None,
            is_live: session.source.as_ref().is_none_or(|source| source.is_live),
            started_at: session.started,
            ended_at: None,
            status: "started",
            peers: stats.peers,
            speed_down: stats.speed_down,
            speed_up: stats.speed_up,
            downloaded: stats.downloaded,
            uploaded: stats.uploaded,
            livepos: stats.live.map(livepos),
            gaps: Some(session.troubles.gaps),
            stalls: Some(session.troubles.stalls),
            switches: Some(session.troubles.switches),
            skips: Some(session.troubles.skips),
        }
    }
}

impl From<(Timestamp, SourceStats)> for StreamSample {
    fn from((ts, stats): (Timestamp, SourceStats)) -> Self {
        Self {
            ts,
            peers: stats.peers,
            speed_down: stats.speed_down,
            speed_up: stats.speed_up,
            downloaded: stats.downloaded,
            uploaded: stats.uploaded,
            status: stats.status,
            livepos: stats.live.map(livepos),
        }
    }
}

/// RFC 3339, or the same without a zone as the reference's own pages write it.
fn moment(text: &str) -> Option<Timestamp> {
    let utc = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(utc)
}

/// As engines write it, with numbers.
fn livepos(live: LivePosition) -> Position {
    Position { pos: live.pos, live_first: live.first, live_last: live.last }
}
