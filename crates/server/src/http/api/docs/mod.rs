//! What there is: `/openapi.json` for programs, `/docs` for people.

mod page;

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::OpenApi;

/// The document of all pages. What is shown of it is made when somebody asks for it first.
#[derive(Clone)]
pub struct Described {
    document: fn() -> OpenApi,
    json: Arc<OnceLock<Bytes>>,
    page: Arc<OnceLock<Bytes>>,
}

impl Described {
    /// By whoever knows all pages.
    pub fn new(document: fn() -> OpenApi) -> Self {
        Self { document, json: Arc::default(), page: Arc::default() }
    }

    fn json(&self) -> Bytes {
        self.json.get_or_init(|| text(&(self.document)()).into()).clone()
    }

    fn page(&self) -> Bytes {
        let page = || {
            let document = serde_json::to_value((self.document)()).expect("every key is a text");
            page::of(&document).into()
        };
        self.page.get_or_init(page).clone()
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

/// All of this, for people.
#[utoipa::path(
    get, path = "/docs", tag = "documentation",
    responses((status = 200, description = "A page without scripts", body = String, content_type = "text/html"))
)]
pub async fn docs(State(described): State<Described>) -> Response {
    ([(CONTENT_SECURITY_POLICY, policy())], Html(described.page())).into_response()
}

/// Its own style and nothing else.
fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(page::STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
