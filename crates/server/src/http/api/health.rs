//! `/livez`, `/readyz`, `/health`, `/metrics`: instant and shallow, because a probe that waits makes things worse.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use crate::app::App;
use crate::http::problem::{Code, Problem};
use crate::record::exposition::Format;
use acemux_fleet::dispatch::NoSlot;

/// `GET /health`.
#[derive(Debug, Serialize)]
pub struct HealthPage {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    engines: usize,
    healthy_engines: usize,
    streams: usize,
    viewers: usize,
}

/// The process answers.
pub async fn livez() -> Response {
    (StatusCode::OK, [(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// A stream may be started: an engine answers, every part of the service runs, and it is not stopping.
pub async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    if app.stop.is_cancelled() {
        return Err(Problem::new(Code::Draining));
    }
    if let Some(outage) = app.outages.first() {
        return Err(Problem::new(Code::NotReady).with_detail(&outage));
    }
    if app.engines.any_healthy() {
        return Ok(livez().await);
    }
    let detail = match &app.fleet {
        Some(fleet) => fleet.snapshot().plan.held.first().map_or_else(
            || "no engine is ready yet".to_owned(),
            |hold| format!("no engine is ready: {hold}"),
        ),
        None if app.engines.all().is_empty() => NoSlot::NoEngines.to_string(),
        None => "no engine of ENGINES answers".to_owned(),
    };
    Err(Problem::new(Code::NoEngine).with_detail(&detail))
}

/// Counts for people and for dashboards; the status is always 200.
pub async fn health(State(app): State<App>) -> Json<HealthPage> {
    let engines = app.engines.all();
    let healthy = engines.iter().filter(|member| member.knowledge().health.as_str() == "healthy").count();
    let all_parts_run = app.outages.first().is_none();
    Json(HealthPage {
        status: if healthy > 0 && all_parts_run { "healthy" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.began.elapsed().as_secs(),
        engines: engines.len(),
        healthy_engines: healthy,
        streams: app.relay.streams(),
        viewers: app.relay.viewers(),
    })
}

/// Prometheus, in the format that is asked for.
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let format = Format::asked_for(&headers);
    let page = format.of(app.metrics.scrape(&app.relay, &app.engines, &app.vpns));
    let headers = [
        (CONTENT_TYPE, format.media_type()),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (VARY, HeaderValue::from_static("accept")),
    ];
    (StatusCode::OK, headers, page).into_response()
}
