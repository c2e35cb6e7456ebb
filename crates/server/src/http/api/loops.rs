//! `/looping-streams` and `/stream-loop-detection/config`, in the shapes of the system that this replaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::ContentId;
use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::events::problem as store_problem;
use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;
use crate::planes::loops::Loops;
use crate::planes::loops::Rules;
use crate::planes::origins::EngineOrigin;

/// `GET /looping-streams`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoopingStreams)]
pub struct Looping {
    stream_ids: Vec<String>,
    /// Since when each is blocked.
    streams: BTreeMap<String, Timestamp>,
    /// 0 is until they are cleared.
    retention_minutes: u64,
}

/// `GET /stream-loop-detection/config`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoopDetection)]
pub struct Detection {
    enabled: bool,
    threshold_seconds: u64,
    threshold_minutes: f64,
    threshold_hours: f64,
    check_interval_seconds: u64,
    retention_minutes: u64,
}

/// Query of `POST /stream-loop-detection/config`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RuleChange {
    enabled: bool,
    /// How long a channel's end must stand still.
    #[param(minimum = 60, maximum = 31_536_000)]
    threshold_seconds: u64,
    /// Time between two looks; as it is when left out.
    #[param(minimum = 5, maximum = 31_536_000)]
    check_interval_seconds: Option<u64>,
    /// How long a channel stays blocked; 0 is until it is cleared, and it is as it is when left out.
    #[param(minimum = 0, maximum = 525_600)]
    retention_minutes: Option<u64>,
}

/// `DELETE /looping-streams/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoopCleared)]
pub struct Cleared {
    /// As it was asked for.
    cleared: String,
}

/// `POST /looping-streams/clear`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoopsCleared)]
pub struct AllCleared {
    /// How many.
    cleared: usize,
}

/// Longest of any of these, seconds: a year.
const LONGEST: u64 = 365 * 24 * 3600;

/// Which channels are blocked.
#[utoipa::path(get, path = "/looping-streams", tag = "channels", responses((status = 200, body = Looping)))]
pub async fn list(State(loops): State<Arc<Loops>>) -> Json<Looping> {
    let streams = loops.blocked();
    let retention_minutes = loops.rules().retention.as_secs() / 60;
    Json(Looping { stream_ids: streams.keys().cloned().collect(), streams, retention_minutes })
}

/// Lets one play again.
#[utoipa::path(
    delete, path = "/looping-streams/{id}", tag = "channels",
    params(("id" = String, Path, description = "Any form of the stream's id")),
    responses((status = 200, body = Cleared), fails::NotFound, fails::Stored)
)]
pub async fn clear(
    operator: Operator,
    State(origin): State<EngineOrigin>,
    State(loops): State<Arc<Loops>>,
    Path(id): Path<String>,
) -> Result<Json<Cleared>, Problem> {
    let unknown = || Problem::new(Code::NotFound).with_detail("this stream is not blocked");
    let content = ContentId::from_any_form(&id).map_err(|_| unknown())?;
    for key in origin.known_key(content) {
        let since = loops.blocked().remove(key.as_str());
        if loops.clear(key.as_str()).await.map_err(|error| store_problem(&error))? {
            operator.was(json!({ "stream": key.as_str(), "blocked_since": since }));
            return Ok(Json(Cleared { cleared: id }));
        }
    }
    Err(unknown())
}

/// Lets all of them play again.
#[utoipa::path(post, path = "/looping-streams/clear", tag = "channels", responses((status = 200, body = AllCleared), fails::Stored))]
pub async fn clear_all(
    operator: Operator,
    State(loops): State<Arc<Loops>>,
) -> Result<Json<AllCleared>, Problem> {
    operator.was(json!({ "blocked": loops.blocked().len() }));
    let count = loops.clear_all().await.map_err(|error| store_problem(&error))?;
    operator.made(json!({ "blocked": 0 }));
    Ok(Json(AllCleared { cleared: count }))
}

/// The rules in force.
#[utoipa::path(get, path = "/stream-loop-detection/config", tag = "channels", responses((status = 200, body = Detection)))]
pub async fn config(State(loops): State<Arc<Loops>>) -> Json<Detection> {
    Json(loops.rules().into())
}

/// Other rules, until the service stops.
#[utoipa::path(
    post, path = "/stream-loop-detection/config", tag = "channels",
    params(RuleChange),
    responses((status = 200, body = Detection))
)]
pub async fn configure(
    operator: Operator,
    State(loops): State<Arc<Loops>>,
    Query(change): Query<RuleChange>,
) -> Result<Json<Detection>, Problem> {
    let before = loops.rules();
    let every = change.check_interval_seconds.unwrap_or(before.every.as_secs());
    let retention =
        change.retention_minutes.map_or(before.retention.as_secs(), |minutes| minutes.saturating_mul(60));
    let accepted = (60..=LONGEST).contains(&change.threshold_seconds)
        && (5..=LONGEST).contains(&every)
        && retention <= LONGEST;
    if !accepted {
        let detail =
            "threshold_seconds is at least 60, check_interval_seconds at least 5, and none is over a year";
        return Err(Problem::new(Code::InvalidParam).with_detail(detail));
    }
    let rules = Rules {
        is_enabled: change.enabled,
        threshold: Duration::from_secs(change.threshold_seconds),
        every: Duration::from_secs(every),
        retention: Duration::from_secs(retention),
    };
    loops.set_rules(rules);
    operator.changed(json!(Detection::from(before)), json!(Detection::from(rules)));
    Ok(Json(rules.into()))
}

impl From<Rules> for Detection {
    fn from(rules: Rules) -> Self {
        let threshold = rules.threshold.as_secs_f64();
        Self {
            enabled: rules.is_enabled,
            threshold_seconds: rules.threshold.as_secs(),
            threshold_minutes: threshold / 60.0,
            threshold_hours: threshold / 3600.0,
            check_interval_seconds: rules.every.as_secs(),
            retention_minutes: rules.retention.as_secs() / 60,
        }
    }
}
