//! `GET /api/v1/doctor`: what `acemux doctor` says, by the running service.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::Mutex;

use crate::doctor;
use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;
use crate::planes::settings::Settings;

/// What is examined, by one at a time.
#[derive(Clone)]
pub struct Surgery {
    settings: Arc<Settings>,
    busy: Arc<Mutex<()>>,
}

impl Surgery {
    /// Of the service with these settings, as they are when somebody asks.
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, busy: Arc::default() }
    }
}

/// What is wrong with this set-up, and how to mend it.
///
/// Looks at Docker, VPNs, engines, the host and how we are reached. It takes seconds; each look has a deadline of its own.
#[utoipa::path(
    get, path = "/doctor", tag = "health",
    responses((status = 200, description = "As `acemux doctor --json` prints it", body = Object), fails::TooManyRequests)
)]
pub async fn examine(_: Operator, State(surgery): State<Surgery>) -> Result<Response, Problem> {
    let busy = || Problem::new(Code::TooManyRequests).with_detail("this set-up is being examined already");
    let _turn = surgery.busy.try_lock().map_err(|_| busy())?;
    let report = doctor::look_around(&surgery.settings.config()).await;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(CONTENT_TYPE, kind)], report.to_json()).into_response())
}
