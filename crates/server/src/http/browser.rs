//! What pages of others can make somebody's browser do here: nothing that changes something.
//!
//! A browser sends requests for any page, also to this machine and with its address, and tells where they come from. So
//! every method that may change something needs our own origin where one is named, and JSON as body, which no form can
//! send. Requests without these headers (scripts, curl, players) are none of a browser's.

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body::Body as _;

use crate::http::problem::Code;
use crate::http::site::{self, Site};

/// How a page relates to us, by the browser's word, which no page can change.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another origin asks to be changed, and bodies that are not JSON.
pub(crate) fn check(request: &Request<Body>, behind_trusted_proxy: bool) -> Result<(), Code> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let headers = request.headers();
    if is_foreign(request.uri(), headers, behind_trusted_proxy) {
        return Err(Code::BadOrigin);
    }
    if !request.body().is_end_stream() && !is_json(headers) {
        return Err(Code::UnsupportedMediaType);
    }
    Ok(())
}

/// Whether a browser says that another origin's page asks. Behind a trusted proxy the host counts that it forwards, too.
pub(crate) fn is_foreign(uri: &Uri, headers: &HeaderMap, behind_trusted_proxy: bool) -> bool {
    let forwarded = if behind_trusted_proxy { site::forwarded(headers) } else { None };
    let own = [site::asked(uri, headers), forwarded];
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(Site::of_origin);
        origin.is_some_and(|origin| {
            own.into_iter().flatten().filter_map(Site::parse).any(|site| site.is_of(origin))
        })
    };
    let is_ours = |site: &HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    !headers.get_all(ORIGIN).iter().all(is_own) || !headers.get_all(SEC_FETCH_SITE).iter().all(is_ours)
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(host: &str, others: &[(&'static str, &str)], behind_trusted_proxy: bool) -> bool {
        let headers = [("host", host)].into_iter().chain(others.iter().copied());
        let headers = headers
            .map(|(name, value)| (HeaderName::from_static(name), value.parse::<HeaderValue>().unwrap()));
        is_foreign(&Uri::from_static("/"), &headers.collect(), behind_trusted_proxy)
    }

    #[test]
    fn our_own_pages_are_those_of_the_host_that_is_asked() {
        for (host, origin) in [
            ("localhost:8000", "http://localhost:8000"),
            ("tv.home", "http://tv.home"),
            ("tv.home", "https://tv.home"),
            ("tv.home", "https://TV.home:443"),
            ("tv.home:443", "https://tv.home"),
            ("[::1]:8000", "http://[::1]:8000"),
        ] {
            assert!(!foreign(host, &[("origin", origin)], false), "{origin} at {host}");
        }
        assert!(!foreign("a", &[], false), "no browser says anything");
    }

    #[test]
    fn every_other_origin_is_foreign() {
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://localhost",
            "http://localhost:8001",
            "http://localhost:8000.evil.example",
            "http://localhost:8000@evil.example",
            "http://evil.example:8000",
            "ftp://localhost:8000",
            "localhost:8000",
            "chrome-extension://localhost:8000",
            "http://localhost:8000/",
        ] {
            assert!(foreign("localhost:8000", &[("origin", origin)], false), "{origin}");
        }
        assert!(foreign("", &[("origin", "http://")], false));
    }

    #[test]
    fn the_browsers_word_about_the_site_counts_beside_the_origin() {
        let own = ("origin", "http://a:1");
        for (word, expected) in
            [("same-origin", false), ("none", false), ("same-site", true), ("cross-site", true), ("", true)]
        {
            assert_eq!(foreign("a:1", &[("sec-fetch-site", word)], false), expected, "{word}");
            assert_eq!(foreign("a:1", &[own, ("sec-fetch-site", word)], false), expected, "{word}");
        }
        let two = [own, ("origin", "http://evil.example")];
        assert!(foreign("a:1", &two, false), "every origin that is named must be ours");
    }

    #[test]
    fn a_forwarded_host_counts_behind_a_trusted_proxy_only() {
        for forwarded in [("x-forwarded-host", "tv.example"), ("forwarded", "for=192.0.2.1;host=tv.example")]
        {
            let headers = [("origin", "https://tv.example"), forwarded];
            assert!(!foreign("127.0.0.1:8000", &headers, true), "{forwarded:?}");
            assert!(foreign("127.0.0.1:8000", &headers, false), "{forwarded:?}");
        }
    }
}
