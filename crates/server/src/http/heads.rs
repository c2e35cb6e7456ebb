//! What hyper lets pass in a request's head and we do not.
//!
//! Owns the rows of the fault catalogue that can be judged from what hyper hands over. What it does not hand over, and why
//! that is left as it is, stands in `docs/decisions/0014-what-hyper-reads-before-us.md`.

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::http::problem::{Code, Problem};

/// Methods that some page of ours answers.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Refuses what two parsers could read in two ways, and what we cannot do.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Code> {
    if !is_plainly_framed(headers) {
        return Err(Code::BadFraming);
    }
    // hyper takes bytes above 127 as they are; in an address they must be percent-encoded.
    if !uri.path_and_query().is_none_or(|path| path.as_str().is_ascii()) {
        return Err(Code::BadEncoding);
    }
    let is_known = |expected: &HeaderValue| expected.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !headers.get_all(EXPECT).iter().all(is_known) {
        return Err(Code::ExpectationFailed);
    }
    Ok(())
}

/// `chunked`, once, is the only coding that every parser reads alike. hyper looks at the end of the last line alone.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunked) && codings.next().is_none()
}

/// The answer where no page is: that the page is missing says nothing to a method that none has, or to a request that
/// names none (`CONNECT`, `OPTIONS *`).
pub(crate) async fn unrouted(method: Method, uri: Uri) -> Response {
    if METHODS.contains(&method) && uri.path().starts_with('/') {
        return Problem::new(Code::NotFound).into_response();
    }
    let mut response = Problem::new(Code::MethodNotAllowed).into_response();
    let all = METHODS.each_ref().map(Method::as_str).join(", ");
    response.headers_mut().insert(ALLOW, HeaderValue::try_from(all).expect("methods are plain words"));
    response
}
