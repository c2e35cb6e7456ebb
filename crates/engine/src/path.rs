//! The part of an engine's URL that we use: path and query, never its authority.
//!
//! Engines embed `127.0.0.1`, `localhost` or whatever `Host` they were asked by into the URLs they return, and behind
//! a published port none of these leads back to them. So the authority is always the endpoint we already know, and a
//! reply that points elsewhere cannot lead us there.

use std::fmt;

use crate::content::hex_digit;
use crate::endpoint::Endpoint;
use crate::error::EngineError;

/// Path and query of something an engine serves. Begins with `/ace/` or `/content/`, and is safe to put into a
/// request line as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct EnginePath(String);

/// Longest path and query accepted. The longest real ones are around 130 bytes.
const MAX_LEN: usize = 2048;

impl EnginePath {
    /// Takes path and query out of a URL in an engine's reply, whatever its authority says.
    pub fn parse(url: &str) -> Result<Self, EngineError> {
        Self::validate(split(url)?.1)
    }

    /// Takes path and query out of a redirect of `endpoint`, if it leads to that endpoint.
    pub(crate) fn parse_redirect(location: &str, endpoint: &Endpoint) -> Result<Self, EngineError> {
        match split(location)? {
            (Some(authority), _) if !endpoint.is_meant_by(authority) => {
                Err(EngineError::bad_reply("redirect elsewhere"))
            }
            (_, path) => Self::validate(path),
        }
    }

    fn validate(path_and_query: &str) -> Result<Self, EngineError> {
        let path = path_and_query.split('?').next().unwrap_or_default();
        let known = path.starts_with("/ace/") || path.starts_with("/content/");
        let plain = path_and_query.len() <= MAX_LEN && path_and_query.bytes().all(is_url_byte);
        if known && plain && !path.split('/').any(is_dot_segment) {
            Ok(Self(path_and_query.to_owned()))
        } else {
            Err(EngineError::bad_reply("a URL that does not lead to a stream of the engine"))
        }
    }

    /// The request target.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with `query` (already encoded) added.
    pub(crate) fn with_query(&self, query: &str) -> String {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        format!("{}{separator}{query}", self.0)
    }
}

/// Shows what kind of path it is and nothing of the session, whose token stands in it.
impl fmt::Debug for EnginePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind =
            self.0.split('/').skip(1).take(2).filter(|part| part.chars().all(|c| c.is_ascii_lowercase()));
        kind.clone().try_for_each(|part| write!(f, "/{part}"))?;
        f.write_str("/…")
    }
}

/// Authority, and path and query without the fragment. A URL that begins with its path has no authority.
fn split(url: &str) -> Result<(Option<&str>, &str), EngineError> {
    let url = url.split('#').next().unwrap_or_default();
    if url.starts_with('/') && !url.starts_with("//") {
        return Ok((None, url));
    }
    let rest = strip_http(url).ok_or_else(|| EngineError::bad_reply("a URL that is not http"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains(['@', '\\']) {
        return Err(EngineError::bad_reply("a URL with credentials"));
    }
    Ok((Some(authority), path))
}

/// What follows `http://` or `https://`, written in any case.
fn strip_http(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// Bytes RFC 3986 allows in path and query. The colon matters: one engine has `cid:<hex>` in its paths.
fn is_url_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

/// `.` or `..`, plain or encoded: such a segment would lead out of the prefix that was checked.
fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
        || has_encoded_slash(segment)
}

/// `%2f` or `%5c`: a server that decodes before it splits would see more segments than we do.
fn has_encoded_slash(segment: &str) -> bool {
    segment.as_bytes().windows(3).any(|escape| match *escape {
        [b'%', high, low] => {
            matches!((hex_digit(high), hex_digit(low)), (Some(2), Some(0xf)) | (Some(5), Some(0xc)))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/ace/r/0a4848271c91ce2d8965ce416267c25047dc8141/f528764d624db129b32c21fbca0cb8d6";

    #[test]
    fn the_authority_is_dropped_and_path_and_query_kept() {
        for authority in ["http://127.0.0.1:6878", "https://evil.example", "HTTP://[::ffff:a9fe:a9fe]:80", ""]
        {
            let path = EnginePath::parse(&format!("{authority}{PATH}?a=1&b=%20#end")).unwrap();
            assert_eq!(path.as_str(), format!("{PATH}?a=1&b=%20"));
        }
    }

    #[test]
    fn a_path_is_shown_without_its_token() {
        for (path, shown) in [
            (PATH, "/ace/r/…"),
            ("/ace/cmd/0a48/f528?method=stop", "/ace/cmd/…"),
            ("/content/0a48/0.1", "/content/…"),
        ] {
            assert_eq!(format!("{:?}", EnginePath::parse(path).unwrap()), shown);
        }
    }

    #[test]
    fn paths_of_all_known_engines_are_accepted() {
        for path in [
            "/ace/r/cid:0a4848271c91ce2d8965ce416267c25047dc8141/token",
            "/ace/m/0a48/token.m3u8",
            "/content/0a48/0.123456789",
        ] {
            assert_eq!(EnginePath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn other_schemes_paths_and_tricks_are_bad_replies() {
        for url in [
            "",
            "file:///ace/r/x",
            "ftp://127.0.0.1/ace/r/x",
            "javascript:/ace/",
            "ace/r/x",
            "//evil/ace/r/x",
            "http://user:pass@127.0.0.1/ace/r/x",
            "http://127.0.0.1\\@evil/ace/r/x",
            "http://127.0.0.1:6878",
            "http://127.0.0.1?/ace/r/x",
            "/server/api?method=set_allow_remote_access",
            "/acex/r",
            "/ace/../server/api",
            "/ace/%2E%2e/server/api",
            "/ace/.%2e/server/api",
            "/ace/x%2f..%2f..%2fserver/api",
            "/ace/x\\..\\server",
            "/ace/r/x y",
            "/ace/r/x\r\nHost: evil",
            "/ace/r/\u{e9}",
        ] {
            assert!(EnginePath::parse(url).is_err(), "{url}");
        }
        assert!(EnginePath::parse(&format!("/ace/{}", "x".repeat(MAX_LEN))).is_err());
    }

    #[test]
    fn a_redirect_stays_at_the_engine() {
        let endpoint: Endpoint = "gluetun:19000".parse().unwrap();
        for location in
            ["http://gluetun:19000/content/a/b", "http://localhost:6878/content/a/b", "/content/a/b"]
        {
            let path = EnginePath::parse_redirect(location, &endpoint).unwrap();
            assert_eq!(path.as_str(), "/content/a/b");
        }
        for location in ["http://10.0.0.1/content/a/b", "//evil/content/a/b", "http://evil/content/a/b"] {
            assert!(EnginePath::parse_redirect(location, &endpoint).is_err(), "{location}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_is_one_word_of_a_request_line(url in "(http://[a-z@:.]{0,9})?(/ace/|/content/)\\PC{0,30}") {
            if let Ok(path) = EnginePath::parse(&url) {
                prop_assert!(path.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(http::uri::PathAndQuery::try_from(path.as_str()).is_ok());
            }
        }
    }
}
