//! `/livez`, `/readyz`, `/health`, `/metrics`: instant and shallow, because a probe that waits makes things worse.

use std::sync::Arc;

use acemux_fleet::dispatch::{Engines, NoSlot};
use acemux_fleet::fleet::Fleet;
use acemux_relay::Relay;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::origins::EngineOrigin;
use crate::planes::vpn::Vpns;
use crate::record::exposition::Format;
use crate::record::metrics::Metrics;
use crate::supervise::Outages;

/// `GET /health`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthPage {
    #[schema(value_type = words::HealthWord)]
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    engines: usize,
    healthy_engines: usize,
    streams: usize,
    viewers: usize,
}

/// What tells whether streams may be started.
#[derive(Clone)]
pub struct Condition {
    pub(crate) relay: Relay,
    pub(crate) engines: Arc<Engines>,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) outages: Arc<Outages>,
    /// Cancelled when the service stops.
    pub(crate) stop: CancellationToken,
    /// When the service was built.
    pub(crate) began: Instant,
}

/// What is counted, and what is read when somebody asks.
#[derive(Clone)]
pub struct Counted {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) relay: Relay,
    pub(crate) origin: EngineOrigin,
    pub(crate) vpns: Vpns,
    pub(crate) fleet: Option<Fleet>,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn livez() -> Response {
    (StatusCode::OK, [(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// A stream may be started: an engine answers, every part of the service runs, and it is not stopping.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        fails::Draining, fails::NotReady, fails::NoEngine
    )
)]
pub async fn readyz(State(now): State<Condition>) -> Result<Response, Problem> {
    if now.stop.is_cancelled() {
        return Err(Problem::new(Code::Draining));
    }
    if let Some(outage) = now.outages.first() {
        return Err(Problem::new(Code::NotReady).with_detail(&outage));
    }
    if now.engines.any_healthy() {
        return Ok(livez().await);
    }
    let detail = match &now.fleet {
        Some(fleet) => fleet.snapshot().plan.held.first().map_or_else(
            || "no engine is ready yet".to_owned(),
            |hold| format!("no engine is ready: {hold}"),
        ),
        None if now.engines.all().is_empty() => NoSlot::NoEngines.to_string(),
        None => "no engine of ENGINES answers".to_owned(),
    };
    Err(Problem::new(Code::NoEngine).with_detail(&detail))
}

/// Counts for people and for dashboards; the status is always 200.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, body = HealthPage)))]
pub async fn health(State(now): State<Condition>) -> Json<HealthPage> {
    let engines = now.engines.all();
    let healthy = engines.iter().filter(|member| member.knowledge().health.as_str() == "healthy").count();
    let all_parts_run = now.outages.first().is_none();
    Json(HealthPage {
        status: if healthy > 0 && all_parts_run { "healthy" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: now.began.elapsed().as_secs(),
        engines: engines.len(),
        healthy_engines: healthy,
        streams: now.relay.streams(),
        viewers: now.relay.viewers(),
    })
}

/// Prometheus, in the format that is asked for.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((
        status = 200, description = "As `Accept` asks: the text format 0.0.4, or OpenMetrics",
        content((String = "text/plain"), (String = "application/openmetrics-text"))
    ))
)]
pub async fn metrics(State(counted): State<Counted>, headers: HeaderMap) -> Response {
    let format = Format::asked_for(&headers);
    let page = format.of(counted.metrics.scrape(
        &counted.relay,
        &counted.origin,
        &counted.vpns,
        counted.fleet.as_ref(),
    ));
    let headers = [
        (CONTENT_TYPE, format.media_type()),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("accept")),
    ];
    (StatusCode::OK, headers, page).into_response()
}
