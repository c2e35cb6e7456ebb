//! `/events`: what happened, newest first.

use std::time::Duration;

use acemux_store::Store;
use acemux_store::StoreError;
use acemux_store::events::{Event, EventQuery, EventStats};
use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;

/// Most events of one answer.
const MOST: usize = 1_000;
/// Events of an answer that asks for no number.
const USUAL: usize = 100;
/// Days that are kept when no number is given.
const USUAL_DAYS: u32 = 30;
/// Longest that can be meant: ten years.
const MOST_DAYS: u32 = 3_650;

/// Query of `GET /events`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Most events of the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// So many of the newest are passed over.
    #[param(minimum = 0, default = 0)]
    offset: Option<usize>,
    /// `engine`, `stream`, `vpn`, `health` or `system`; with another word the answer is empty.
    event_type: Option<String>,
    /// One word, such as `started`.
    category: Option<String>,
    /// About this engine.
    container_id: Option<String>,
    /// About this stream.
    stream_id: Option<String>,
    /// Not before.
    since: Option<Timestamp>,
}

/// Query of `POST /events/cleanup`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CleanupQuery {
    /// Older ones go, in days.
    #[param(minimum = 1, maximum = 3650, default = 30)]
    max_age_days: Option<u32>,
}

/// What a cleanup did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventsCleaned)]
pub struct Cleaned {
    deleted: u64,
    message: &'static str,
}

/// Events that match all that is asked for. The audit, which tells who people are, is for the operator only.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(ListQuery),
    responses((status = 200, body = Vec<Event>), fails::Stored)
)]
pub async fn list(
    State(store): State<Store>,
    operator: Option<Operator>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Event>>, Problem> {
    let limit = query.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::new(Code::InvalidParam).with_detail("limit is a number from 1 to 1000"));
    }
    let query = EventQuery {
        limit,
        offset: query.offset.unwrap_or_default(),
        kind: query.event_type,
        category: query.category,
        container_id: query.container_id,
        stream_id: query.stream_id,
        since: query.since,
        without_audit: operator.is_none(),
    };
    store.events(query).await.map(Json).map_err(|error| problem(&error))
}

/// How many there are of each kind.
#[utoipa::path(get, path = "/events/stats", tag = "events", responses((status = 200, body = EventStats), fails::Stored))]
pub async fn stats(State(store): State<Store>) -> Result<Json<EventStats>, Problem> {
    store.event_stats().await.map(Json).map_err(|error| problem(&error))
}

/// Forgets old events, but for the audit.
#[utoipa::path(
    post, path = "/events/cleanup", tag = "events",
    params(CleanupQuery),
    responses((status = 200, body = Cleaned), fails::Stored)
)]
pub async fn cleanup(
    State(store): State<Store>,
    operator: Operator,
    Query(query): Query<CleanupQuery>,
) -> Result<Json<Cleaned>, Problem> {
    let days = query.max_age_days.unwrap_or(USUAL_DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(Problem::new(Code::InvalidParam).with_detail("max_age_days is a number from 1 to 3650"));
    }
    let age = Duration::from_hours(24 * u64::from(days));
    let deleted = store.cleanup_events(age).await.map_err(|error| problem(&error))?;
    operator.made(json!({ "max_age_days": days, "deleted": deleted }));
    Ok(Json(Cleaned { deleted, message: "older events are forgotten" }))
}

/// A failure of the store, as a client is told.
pub(super) fn problem(error: &StoreError) -> Problem {
    let code = match error {
        StoreError::Full { .. } => Code::StorageFull,
        StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Timeout => Code::ServerFull,
        StoreError::Failed { .. } => Code::Internal,
    };
    Problem::new(code).with_detail(&error.to_string())
}
