//! What holds for every request before a route sees it, and for every reply after.
//!
//! Owns the request id, the limits of a request's size and time, what pages of others may not ask (`browser.rs`,
//! [`crate::http::hosts`]), the shape of errors that no route answers (404, 405, what an extractor refuses) and the
//! fence around a panic. Refuses to know any route, except that pages under `/ace/` are media and readable from any
//! origin.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;
use tower::ServiceExt as _;
use tracing::error;

use crate::http::auth::{Asker, Gate};
use crate::http::browser;
use crate::http::client::TrustedProxies;
use crate::http::heads;
use crate::http::hosts::Hosts;
use crate::http::play::address;
use crate::http::problem::{Code, Problem, RequestId};
use crate::http::serve::ConnectionControl;
use crate::http::unnamed::Unnamed;
use crate::supervise::reason_of;

/// Longest path and query, in bytes. A request of ours needs about 100; players add a few hundred.
pub const MAX_URI: usize = 8 * 1024;

/// Longest header block, in bytes, counted as it stands on the wire.
pub const MAX_HEADER_BLOCK: usize = 16 * 1024;

/// Longest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Longest wait for a request body, all of it. 64 KiB in 30 s is slower than any link a person would use.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the request's id stands in a reply.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a page of ours may load, run and be framed by unless it says otherwise: data is no page.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// What the edge must know to tell strangers apart.
#[derive(Debug)]
pub struct Doors {
    /// Whose word about the client's request counts.
    pub trusted: TrustedProxies,
    /// Which names are ours.
    pub hosts: Hosts,
    /// Who may ask by any name.
    pub gate: Arc<Gate>,
    /// Proxies that are told because their word does not count.
    pub unnamed: Unnamed,
}

impl Doors {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        heads::check(request.uri(), request.headers())?;
        check(request.uri(), request.headers())?;
        let peer = request.extensions().get::<ConnectionControl>().map(ConnectionControl::peer);
        let is_proxied = peer.is_some_and(|peer| self.trusted.contains(peer.ip()));
        if let Some(peer) = peer.filter(|_| !is_proxied) {
            self.unnamed.look(peer.ip(), request.headers());
        }
        self.hosts.check(request, is_proxied, || {
            let asker = Asker::of(request.extensions(), request.headers(), &self.trusted);
            Ok(self.gate.opens_for(request.headers(), &asker)?)
        })?;
        Ok(browser::check(request, is_proxied)?)
    }
}

/// Puts the edge around all routes. To be called once, last, when every route has been added.
pub fn edge(router: Router, doors: Doors) -> Router {
    let router = router
        .fallback(heads::unrouted)
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed));
    let pages = router.clone();
    router
        .fallback(move |request| elsewhere(pages.clone(), request))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::new(doors), at_the_edge))
}

/// No page is here. The address may be another way to write that of one.
async fn elsewhere(pages: Router, mut request: Request) -> Response {
    if let Some((meant, leads)) = address::meant(request.uri()) {
        *request.uri_mut() = meant;
        request.extensions_mut().insert(leads);
    }
    let Ok(response) = pages.oneshot(request).await;
    response
}

async fn at_the_edge(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let id = RequestId::random();
    let readable_anywhere = is_media(request.uri());
    let mut response = match doors.check(&request) {
        Ok(()) => run(request, next, id).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        name_request(&mut response, &problem, id, readable_anywhere);
    }
    complete(response.headers_mut(), id);
    if !readable_anywhere {
        response.headers_mut().entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    }
    response
}

/// What every reply carries. Nothing here is for caches unless its page says otherwise, and nobody may take bytes for
/// another type than ours: what an engine sends would run as a script of our origin.
fn complete(headers: &mut HeaderMap, id: RequestId) {
    headers.insert(X_REQUEST_ID, header_of(id));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

async fn run(mut request: Request, next: Next, id: RequestId) -> Response {
    request.extensions_mut().insert(id);
    let has_body = !request.body().is_end_stream();
    if !has_body {
        // The requests of viewers: no deadline to keep, nothing to allocate.
        return explain(run_fenced(next, request, id).await, Code::InvalidParam);
    }
    let too_slow = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| Body::new(TimedBody::new(body, Arc::clone(&too_slow))));
    let response = run_fenced(next, request, id).await;
    let bad_request = if too_slow.load(Ordering::Relaxed) { Code::RequestTimeout } else { Code::InvalidBody };
    explain(response, bad_request)
}

/// Size limits that can be told from the head alone.
fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Code> {
    if uri.path_and_query().map_or(0, |path| path.as_str().len()) > MAX_URI {
        return Err(Code::UriTooLong);
    }
    if header_block(headers) > MAX_HEADER_BLOCK {
        return Err(Code::HeadersTooLarge);
    }
    if content_length(headers).is_some_and(|length| length > MAX_BODY as u64) {
        return Err(Code::BodyTooLarge);
    }
    Ok(())
}

/// Each line is its name, `: `, its value and the line's end.
fn header_block(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// hyper has refused what is no number.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_media(uri: &Uri) -> bool {
    address::is_media(uri.path())
}

/// A panic while a request is handled ends that request and nothing else.
async fn run_fenced(next: Next, request: Request, id: RequestId) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            error!(request_id = %id, reason = reason_of(panic.as_ref()), "a request handler panicked");
            Problem::new(Code::Internal).into_response()
        }
    }
}

/// What an extractor refuses is plain text that may repeat the input; it becomes a problem of the same kind.
/// Replies that routes shaped themselves, in JSON or otherwise, stay. `bad_request` is what a 400 or 422
/// means for this request.
fn explain(response: Response, bad_request: Code) -> Response {
    let plain =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain || !response.status().is_client_error() {
        return response;
    }
    let code = match response.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => bad_request,
        _ => return response,
    };
    Problem::new(code).into_response()
}

fn name_request(response: &mut Response, problem: &Problem, id: RequestId, readable_anywhere: bool) {
    let body = problem.body(Some(id));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if readable_anywhere {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    *response.body_mut() = Body::from(body);
}

fn header_of(id: RequestId) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).expect("hexadecimal digits are a header value")
}

/// A request body that fails when it does not arrive in time, and tells the edge so.
struct TimedBody {
    body: Body,
    deadline: Pin<Box<Sleep>>,
    too_slow: Arc<AtomicBool>,
}

/// A client was too slow with its request body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
struct BodyTooSlow;

impl TimedBody {
    fn new(body: Body, too_slow: Arc<AtomicBool>) -> Self {
        Self { body, deadline: Box::pin(tokio::time::sleep(BODY_TIMEOUT)), too_slow }
    }
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() && self.deadline.as_mut().poll(cx).is_ready() {
            self.too_slow.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(axum::Error::new(BodyTooSlow))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
