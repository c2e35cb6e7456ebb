//! `/openapi.json`: what there is, for programs.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::OpenApi;

/// The document of all pages. It is made when somebody asks for it first.
#[derive(Clone)]
pub struct Described {
    document: fn() -> OpenApi,
    json: Arc<OnceLock<Bytes>>,
}

impl Described {
    /// By whoever knows all pages.
    pub fn new(document: fn() -> OpenApi) -> Self {
        Self { document, json: Arc::default() }
    }

    fn json(&self) -> Bytes {
        self.json.get_or_init(|| text(&(self.document)()).into()).clone()
    }
}

/// As it is committed, served and printed.
///
/// # Panics
///
/// If it has a key that is no text, which it has not.
pub fn text(document: &OpenApi) -> String {
    serde_json::to_string_pretty(document).expect("every key is a text") + "\n"
}

/// All of this, for programs.
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub async fn openapi(State(described): State<Described>) -> Response {
    ([(CONTENT_TYPE, "application/json")], described.json()).into_response()
}
