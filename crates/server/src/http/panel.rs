//! `/panel`: the dashboard, out of the binary. Its files are built in `web/` and committed compressed; nothing is compressed
//! here, and cargo needs no npm.
//!
//! All addresses in it are relative, so it works under whatever path a reverse proxy puts it, without being told. Files with
//! a hash in their names never change; the page itself is asked for each time and answers 304 when it is the same.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use miniz_oxide::inflate::decompress_to_vec;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
struct Dist;

/// The page that loads all others.
const INDEX: &str = "index.html";
/// Where the files are whose names have a hash.
const ASSETS: &str = "assets/";

/// Scripts and styles are our files alone; nothing is inline and nothing comes from elsewhere. Media of the player comes as
/// `blob:`, the tab's picture as `data:`.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; manifest-src 'self'; \
     img-src 'self' data:; media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// A name with a hash of what is in it.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Kept, and asked for again each time.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// Bytes before the deflate stream of a gzip file that has no name and no comment in it (RFC 1952), and after it.
const GZIP_HEAD: usize = 10;
const GZIP_TAIL: usize = 8;

/// How the bytes of a reply are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Brotli,
    Gzip,
    Plain,
}

/// To the dashboard.
#[utoipa::path(
    get, path = "/", tag = "dashboard",
    responses((status = 307, description = "`Location` is relative, for proxies that put us under a path"))
)]
pub(crate) async fn enter_from_root() -> Response {
    moved(StatusCode::TEMPORARY_REDIRECT)
}

/// To the dashboard, whose relative addresses need the slash at the end.
#[utoipa::path(
    get, path = "/panel", tag = "dashboard",
    responses((status = 308, description = "`Location` is relative, for proxies that put us under a path"))
)]
pub(crate) async fn enter() -> Response {
    moved(StatusCode::PERMANENT_REDIRECT)
}

/// Relative: a proxy may have put us under a path that we do not know.
fn moved(status: StatusCode) -> Response {
    (status, [(LOCATION, HeaderValue::from_static("panel/"))]).into_response()
}

/// The dashboard.
#[utoipa::path(
    get, path = "/panel/", tag = "dashboard",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "`If-None-Match` names it"), fails::NotFound, fails::Internal,
    )
)]
pub(crate) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    reply(INDEX, &headers)
}

/// What the dashboard has beside it: its picture and its manifest.
#[utoipa::path(
    get, path = "/panel/{file}", tag = "dashboard",
    params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The file"), (status = 304, description = "`If-None-Match` names it"),
        fails::NotFound, fails::Internal,
    )
)]
pub(crate) async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    reply(&file, &headers)
}

/// What the dashboard loads, by names that have a hash of what is in them.
#[utoipa::path(
    get, path = "/panel/assets/{file}", tag = "dashboard",
    params(("file" = String, Path, description = "Its name, as the page has it")),
    responses(
        (status = 200, description = "The file; it never changes"),
        (status = 304, description = "`If-None-Match` names it"), fails::NotFound, fails::Internal,
    )
)]
pub(crate) async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    reply(&format!("{ASSETS}{file}"), &headers)
}

fn reply(name: &str, asked: &HeaderMap) -> Result<Response, Problem> {
    let (coding, stored) = stored(name, asked).ok_or(Code::NotFound)?;
    let tag = etag(&stored, coding);
    let kept = if name.starts_with(ASSETS) { FOREVER } else { ASK };
    let common = [
        (ETAG, tag.clone()),
        (CACHE_CONTROL, kept),
        (VARY, HeaderValue::from_static("accept-encoding")),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if is_known(asked, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    let body = if coding == Coding::Plain { inflated(&stored.data)? } else { body(stored.data) };
    let mut response = (common, [(CONTENT_TYPE, kind(name))], body).into_response();
    if let Some(word) = coding.word() {
        response.headers_mut().insert(CONTENT_ENCODING, word);
    }
    Ok(response)
}

/// The smallest form that the client takes.
fn stored(name: &str, asked: &HeaderMap) -> Option<(Coding, EmbeddedFile)> {
    if takes(asked, "br")
        && let Some(file) = Dist::get(&format!("{name}.br"))
    {
        return Some((Coding::Brotli, file));
    }
    let coding = if takes(asked, "gzip") { Coding::Gzip } else { Coding::Plain };
    Some((coding, Dist::get(&format!("{name}.gz"))?))
}

/// Whether `Accept-Encoding` names this coding and does not refuse it.
fn takes(asked: &HeaderMap, coding: &str) -> bool {
    let lines = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_named && quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|quality| quality > 0.0))
    })
}

impl Coding {
    fn word(self) -> Option<HeaderValue> {
        match self {
            Self::Brotli => Some(HeaderValue::from_static("br")),
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Plain => None,
        }
    }
}

/// Each coding has a tag of its own (RFC 9110 §8.8.3.3).
fn etag(file: &EmbeddedFile, coding: Coding) -> HeaderValue {
    let hash = file.metadata.sha256_hash();
    let hash = u128::from_be_bytes(*hash.first_chunk().expect("a hash of 32 bytes"));
    let end = if coding == Coding::Plain { "-plain" } else { "" };
    HeaderValue::try_from(format!("\"{hash:032x}{end}\"")).expect("hexadecimal digits are a header value")
}

/// Proxies that compress make weak tags of ours.
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let lines = asked.get_all(IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
    })
}

fn body(data: Cow<'static, [u8]>) -> Body {
    match data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    }
}

fn inflated(gzip: &[u8]) -> Result<Body, Problem> {
    let deflated = gzip.get(GZIP_HEAD..gzip.len().saturating_sub(GZIP_TAIL)).unwrap_or_default();
    decompress_to_vec(deflated).map(Body::from).map_err(|_| Code::Internal.into())
}

fn kind(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn coding(accepted: &str) -> Coding {
        stored(INDEX, &headers(&[(ACCEPT_ENCODING, accepted)])).unwrap().0
    }

    async fn bytes(response: Response) -> Vec<u8> {
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    }

    /// Names of the files of a kind, without the ending of their coding.
    fn names(kind: &str) -> Vec<String> {
        let end = format!(".{kind}.gz");
        Dist::iter()
            .filter(|name| name.ends_with(&end))
            .map(|name| name.trim_end_matches(".gz").to_owned())
            .collect()
    }

    fn size(name: &str) -> usize {
        Dist::get(&format!("{name}.gz")).unwrap().data.len()
    }

    #[test]
    fn the_smallest_form_that_a_client_takes_is_sent() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Coding::Brotli),
            ("br;q=0, gzip;q=0.5", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("gzip;q=0", Coding::Plain),
            ("gzip;q=nonsense", Coding::Plain),
            ("identity", Coding::Plain),
            ("", Coding::Plain),
        ] {
            assert_eq!(coding(accepted), expected, "{accepted:?}");
        }
    }

    #[tokio::test]
    async fn every_file_is_the_same_page_without_compression() {
        for name in Dist::iter().filter_map(|name| name.strip_suffix(".gz").map(str::to_owned)) {
            let response = reply(&name, &HeaderMap::new()).unwrap();
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{name}");
            let plain = bytes(response).await;
            assert!(!plain.is_empty() && plain.len() >= size(&name) / 2, "{name}: {}", plain.len());
            if name == INDEX {
                assert!(plain.starts_with(b"<!doctype html>"), "{}", String::from_utf8_lossy(&plain));
            }
        }
    }

    #[tokio::test]
    async fn who_has_it_already_is_told_so_and_each_coding_has_its_own_tag() {
        let tag = |accepted: &str| {
            let response = reply(INDEX, &headers(&[(ACCEPT_ENCODING, accepted)])).unwrap();
            response.headers()[ETAG].to_str().unwrap().to_owned()
        };
        let tags = [tag("br"), tag("gzip"), tag("")];
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
        for known in [tags[0].clone(), format!("W/{}", tags[0]), format!("\"a\", {}", tags[0])] {
            let asked = headers(&[(ACCEPT_ENCODING, "br"), (IF_NONE_MATCH, &known)]);
            let response = reply(INDEX, &asked).unwrap();
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert!(bytes(response).await.is_empty());
        }
        let other = headers(&[(ACCEPT_ENCODING, "gzip"), (IF_NONE_MATCH, &tags[0])]);
        assert_eq!(reply(INDEX, &other).unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn only_names_with_a_hash_are_kept_for_good_and_only_files_are_found() {
        let script = names("js").pop().unwrap();
        assert_eq!(reply(&script, &HeaderMap::new()).unwrap().headers()[CACHE_CONTROL], FOREVER);
        assert_eq!(reply(INDEX, &HeaderMap::new()).unwrap().headers()[CACHE_CONTROL], ASK);
        for missing in [
            "",
            "/",
            "..",
            "../Cargo.toml",
            "assets",
            "assets/",
            "index.html.gz",
            "index.html.br",
            "assets/x.js",
        ] {
            assert_eq!(reply(missing, &HeaderMap::new()).unwrap_err().code(), Code::NotFound, "{missing}");
        }
    }

    /// What people on slow links wait for.
    #[test]
    fn it_is_as_small_as_it_should_be() {
        let of = |names: Vec<String>| names.iter().map(|name| size(name)).sum::<usize>();
        let (player, script): (Vec<_>, Vec<_>) =
            names("js").into_iter().partition(|name| name.contains("mpegts"));
        assert_eq!(player.len(), 1, "{player:?}");
        let (script, player, style) = (of(script), of(player), of(names("css")));
        let all: usize = Dist::iter().map(|name| Dist::get(&name).unwrap().data.len()).sum();
        assert!(script <= 70_000, "script {script}");
        assert!(style <= 10_000, "style {style}");
        assert!(player <= 70_000, "player {player}");
        assert!(all <= 200_000, "all {all}");
    }
}
