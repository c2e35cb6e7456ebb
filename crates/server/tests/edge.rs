//! The edge around all routes: limits, ids, the one shape of errors, the fence around a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use acemux_server::config::{Secret, WithoutKey};
use acemux_server::http::auth::Gate;
use acemux_server::http::client::TrustedProxies;
use acemux_server::http::edge::{BODY_TIMEOUT, Doors, MAX_BODY, MAX_HEADER_BLOCK, MAX_URI, edge};
use acemux_server::http::guesses::Counts;
use acemux_server::http::hosts::Hosts;
use acemux_server::http::key::{Key, Place};
use acemux_server::http::logins::Logins;
use acemux_server::http::problem::{Code, Problem};
use acemux_server::http::unnamed::Unnamed;
use acemux_store::Store;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

const KEY: &str = "a-key-of-twenty-signs";

fn app() -> Router {
    let panics = async || -> Response { panic!("a handler's panic, made on purpose") };
    let own_error = async || (StatusCode::CONFLICT, Json(json!({"error": "provisioning_blocked"})));
    let key = Key { place: Place::Settings, key: Ok(Secret::new(KEY.to_owned())) };
    let gate = Gate::new(key, WithoutKey::Nobody, Counts::default(), Logins::none(Store::in_memory()));
    edge(
        Router::new()
            .route("/", get(async || "hello"))
            .route("/ace/getstream", get(async || Problem::new(Code::NoEngine)))
            .route("/panics", get(panics))
            .route("/own-error", get(own_error))
            .route("/json", post(async |Json(value): Json<Value>| Json(value)))
            .route("/number/{n}", get(async |Path(n): Path<u8>| n.to_string()))
            .nest("/api/v1", Router::new().route("/nested", get(async || "nested")))
            .route("/query", get(async |Query(page): Query<Page>| page.size.to_string())),
        Doors {
            trusted: TrustedProxies::default(),
            hosts: Hosts::default(),
            gate: Arc::new(gate),
            unnamed: Unnamed::default(),
        },
    )
}

#[derive(serde::Deserialize)]
struct Page {
    size: u8,
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).unwrap()
}

async fn ask(request: Request<Body>) -> Response {
    app().oneshot(request).await.unwrap()
}

/// The reply must be a problem; returns its status, its code and all of it as text.
async fn problem(request: Request<Body>) -> (u16, String, String) {
    let response = ask(request).await;
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(parts.headers["content-type"], "application/problem+json", "{text}");
    assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    assert_eq!(parts.headers["cache-control"], "no-store");
    assert_eq!(parts.headers["content-length"], text.len().to_string());
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["request_id"].as_str().unwrap(), parts.headers["x-request-id"]);
    assert_eq!(body["request_id"].as_str().unwrap().len(), 16);
    assert_eq!(body["status"], parts.status.as_u16());
    (parts.status.as_u16(), body["code"].as_str().unwrap().to_owned(), text)
}

#[tokio::test]
async fn a_good_request_passes_and_gets_an_id_of_its_own() {
    let [one, two] = [ask(request("GET", "/", &[], "")).await, ask(request("GET", "/", &[], "")).await];
    assert_eq!(one.status(), StatusCode::OK);
    assert_eq!(one.headers()["x-request-id"].len(), 16);
    assert_ne!(one.headers()["x-request-id"], two.headers()["x-request-id"]);
    let forged = ask(request("GET", "/", &[("x-request-id", "forged")], "")).await;
    assert_ne!(forged.headers()["x-request-id"], "forged");
}

#[tokio::test]
async fn addresses_are_limited() {
    let uri = |length: usize| format!("/?{}", "x".repeat(length - 2));
    assert_eq!(ask(request("GET", &uri(MAX_URI), &[], "")).await.status(), StatusCode::OK);
    let (status, code, text) = problem(request("GET", &uri(MAX_URI + 1), &[], "")).await;
    assert_eq!((status, code.as_str()), (414, "uri_too_long"));
    assert!(!text.contains("xx"), "the address is not echoed");
}

#[tokio::test]
async fn header_blocks_are_limited() {
    let value = "x".repeat(MAX_HEADER_BLOCK - "host: localhost\r\nx-long: \r\n".len());
    assert_eq!(ask(request("GET", "/", &[("x-long", &value)], "")).await.status(), StatusCode::OK);
    let (status, code, _) = problem(request("GET", "/", &[("x-long", &value), ("a", "")], "")).await;
    assert_eq!((status, code.as_str()), (431, "headers_too_large"));
}

#[tokio::test]
async fn bodies_are_limited_by_what_they_announce_and_by_what_they_are() {
    let json = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let kind = ("content-type", "application/json");
    let fits = request("POST", "/json", &[kind], json(MAX_BODY));
    assert_eq!(ask(fits).await.status(), StatusCode::OK);
    let announced = request("POST", "/json", &[kind, ("content-length", "99999999999")], "x");
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(
        json(MAX_BODY + 1).into(),
    ))]);
    let unannounced = request("POST", "/json", &[kind], Body::new(StreamBody::new(chunks)));
    for request in [announced, unannounced] {
        let (status, code, _) = problem(request).await;
        assert_eq!((status, code.as_str()), (413, "body_too_large"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_ends_its_request() {
    let never = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>();
    let kind = ("content-type", "application/json");
    let begin = Instant::now();
    let (status, _, _) = problem(request("POST", "/json", &[kind], Body::new(StreamBody::new(never)))).await;
    assert_eq!(status, 408);
    assert!(begin.elapsed() >= BODY_TIMEOUT && begin.elapsed() < BODY_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn what_no_route_answers_is_a_problem_too() {
    let (status, code, text) =
        problem(request("GET", "/nowhere/<script>".replace(['<', '>'], "%3c").as_str(), &[], "")).await;
    assert_eq!((status, code.as_str()), (404, "not_found"));
    assert!(!text.contains("script"));
    assert_eq!(problem(request("GET", "/api/v1/nowhere", &[], "")).await.0, 404);
    for (method, uri) in [("POST", "/"), ("FOO", "/"), ("TRACE", "/"), ("DELETE", "/api/v1/nested")] {
        let (status, code, _) = problem(request(method, uri, &[], "")).await;
        assert_eq!((status, code.as_str()), (405, "method_not_allowed"), "{method} {uri}");
        let response = ask(request(method, uri, &[], "")).await;
        assert_eq!(response.headers()["allow"], "GET,HEAD", "{method} {uri}");
    }
}

#[tokio::test]
async fn what_an_extractor_refuses_is_a_problem_that_repeats_no_input() {
    let kind = ("content-type", "application/json");
    let table = [
        (request("POST", "/json", &[kind], "{secret"), 400, "invalid_body"),
        (request("POST", "/json", &[("content-type", "text/secret")], "{}"), 415, "unsupported_media_type"),
        (request("GET", "/number/secret", &[], ""), 400, "invalid_param"),
        (request("GET", "/query?size=secret", &[], ""), 400, "invalid_param"),
        (request("GET", "/query?secret=1", &[], ""), 400, "invalid_param"),
    ];
    for (request, status, code) in table {
        let (got_status, got_code, text) = problem(request).await;
        assert_eq!((got_status, got_code.as_str()), (status, code));
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn an_error_that_a_route_shaped_itself_stays_as_it_is() {
    let response = ask(request("GET", "/own-error", &[], "")).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn a_panic_ends_one_request_and_shows_nothing_of_itself() {
    let app = app();
    let response = app.clone().oneshot(request("GET", "/panics", &[], "")).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (_, code, text) = problem(request("GET", "/panics", &[], "")).await;
    assert_eq!(code, "internal");
    assert!(!text.contains("purpose"), "{text}");
    let after = app.oneshot(request("GET", "/", &[], "")).await.unwrap();
    assert_eq!(after.status(), StatusCode::OK);
}

#[tokio::test]
async fn problems_of_media_pages_are_readable_from_any_origin_and_others_are_not() {
    for (uri, readable) in [("/ace/getstream", true), ("/ace/nothing", true), ("/nothing", false)] {
        let response = ask(request("GET", uri, &[], "")).await.into_response();
        let allowed =
            response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
        assert_eq!(allowed, readable.then_some("*"), "{uri}");
    }
}
