//! The addresses that people type and lists carry, and where they lead.
//!
//! A request that no page answers is looked at here: doubled slashes, a slash at the end, one level of percent-encoding too
//! much, Kodi's headers behind a bar, and the paths that the open engine has. What remains is an address of ours, which the
//! router is asked for in its place. What stands in the query is [`acemux_engine::Selector`]'s.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::Uri;
use http::request::Parts;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Where our media pages are.
const FOLDER: &str = "/ace";
/// Where the open engine has its own.
const NATIVE: &str = "/streams/ace/";

/// From the address that was asked for to the folder of our media pages, as a relative reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leads(String);

impl Leads {
    /// To be written before an address that is relative to that folder. Relative, because a proxy in front may have taken a
    /// prefix away.
    pub(super) fn to_media(&self) -> &str {
        &self.0
    }

    /// Dots take one level away each, an empty one too.
    fn from(asked: &str) -> Self {
        let (folder, _) = asked.rsplit_once('/').unwrap_or_default();
        if single_slashes(folder).trim_end_matches('/') == FOLDER {
            return Self::default();
        }
        Self(format!("{}ace/", "../".repeat(folder.matches('/').count())))
    }
}

impl<S: Sync> FromRequestParts<S> for Leads {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::from(parts.uri.path())))
    }
}

/// Whether whatever is answered at this address is for players: no other page is where it leads.
pub(crate) fn is_media(path: &str) -> bool {
    let leads_there = || decode_once(path).is_some_and(|path| is_media_page(&plain_path(&path)));
    path.starts_with("/ace/") || leads_there()
}

fn is_media_page(path: &str) -> bool {
    path.starts_with("/ace/") || path.starts_with(NATIVE)
}

/// The address of ours that is meant by one that no page answers, and how to get from there to our media pages.
pub(crate) fn meant(asked: &Uri) -> Option<(Uri, Leads)> {
    let decoded = decode_once(asked.path())?;
    // Encoded as a whole, it brings its query along in its path.
    let (path, hidden) = decoded.split_once('?').unwrap_or((&decoded, ""));
    let path = plain_path(path);
    let query = [hidden, asked.query().unwrap_or_default()];
    let query: Vec<&str> = query.into_iter().filter(|part| !part.is_empty()).collect();
    let (page, query) = page(&path, query.join("&"))?;
    let text = if query.is_empty() { page } else { format!("{page}?{query}") };
    let meant: Uri = text.parse().ok()?;
    (meant != *asked).then(|| (meant, Leads::from(asked.path())))
}

/// A page of ours and its query.
fn page(path: &str, query: String) -> Option<(String, String)> {
    if let Some(name) = path.strip_prefix(NATIVE) {
        return native(name, &query);
    }
    let path = if path == "/ace/getstream.ts" { "/ace/getstream" } else { path };
    is_media_page(path).then(|| (path.to_owned(), query))
}

/// `<id>`, `cid:<id>` or `ih:<infohash>`, with `.m3u8` for pieces.
fn native(name: &str, query: &str) -> Option<(String, String)> {
    let (name, page) = match name.strip_suffix(".m3u8") {
        Some(name) => (name, "/ace/manifest.m3u8"),
        None => (name.strip_suffix(".ts").unwrap_or(name), "/ace/getstream"),
    };
    let (selector, value) = match name.split_once(':') {
        Some(("cid", id)) => ("id", id),
        Some(("ih", infohash)) => ("infohash", infohash),
        _ => ("id", name),
    };
    if value.is_empty() || value.contains('/') {
        return None;
    }
    let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
    let rest = if query.is_empty() { String::new() } else { format!("&{query}") };
    Some((page.to_owned(), format!("{selector}={value}{rest}")))
}

/// Without headers for a player behind it, doubled slashes, and a slash at the end.
fn plain_path(path: &str) -> String {
    let path = acemux_engine::before_headers(path);
    let path = single_slashes(path);
    path.strip_suffix('/').map(str::to_owned).unwrap_or(path)
}

fn single_slashes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !plain.ends_with('/') {
            plain.push(letter);
        }
    }
    plain
}

/// `None` for what no address may hold.
fn decode_once(path: &str) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    decoded.bytes().all(|byte| byte.is_ascii_graphic()).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

    fn meant_by(asked: &str) -> Option<String> {
        let asked = asked.replace("HEX", HEX);
        meant(&asked.parse().expect("an address")).map(|(meant, _)| meant.to_string().replace(HEX, "HEX"))
    }

    #[test]
    fn what_people_type_leads_to_the_page_they_mean() {
        for (asked, page) in [
            ("//ace/getstream?id=HEX", "/ace/getstream?id=HEX"),
            ("/ace//getstream?id=HEX", "/ace/getstream?id=HEX"),
            ("///ace////getstream///?id=HEX", "/ace/getstream?id=HEX"),
            ("//ace/getstream.ts?id=HEX", "/ace/getstream?id=HEX"),
            ("/ace/getstream.ts/?id=HEX", "/ace/getstream?id=HEX"),
            ("//ace/manifest.m3u8?id=HEX", "/ace/manifest.m3u8?id=HEX"),
            ("/ace/manifest.m3u8/?id=HEX", "/ace/manifest.m3u8?id=HEX"),
            ("//ace/getstream.m3u8/?id=HEX", "/ace/getstream.m3u8?id=HEX"),
            ("//ace/hls/HEX/token//17.ts", "/ace/hls/HEX/token/17.ts"),
            ("/ace/hls/HEX/token/index.m3u8/", "/ace/hls/HEX/token/index.m3u8"),
            ("//ace/status/", "/ace/status"),
            ("/ace/getstream%3Fid=HEX", "/ace/getstream?id=HEX"),
            ("/ace%2Fgetstream%3Fid%3DHEX%26pid%3D1", "/ace/getstream?id=HEX&pid=1"),
            ("/ace/getstream%3Fid%3DHEX&pid=1", "/ace/getstream?id=HEX&pid=1"),
            ("/%61ce/getstream?id=HEX", "/ace/getstream?id=HEX"),
            ("/ace/getstream.ts|User-Agent=VLC?id=HEX", "/ace/getstream?id=HEX"),
            ("/streams/ace/HEX", "/ace/getstream?id=HEX"),
            ("/streams/ace/HEX/", "/ace/getstream?id=HEX"),
            ("/streams/ace/HEX.ts", "/ace/getstream?id=HEX"),
            ("/streams/ace/cid:HEX", "/ace/getstream?id=HEX"),
            ("/streams/ace/cid%3AHEX", "/ace/getstream?id=HEX"),
            ("/streams/ace/ih:HEX", "/ace/getstream?infohash=HEX"),
            ("//streams//ace/ih:HEX.m3u8", "/ace/manifest.m3u8?infohash=HEX"),
            ("/streams/ace/HEX.m3u8?pid=1", "/ace/manifest.m3u8?id=HEX&pid=1"),
            ("/streams/ace/HEX|User-Agent=VLC", "/ace/getstream?id=HEX"),
            // It stays one value, which is no id.
            ("/streams/ace/HEX%26url=x", "/ace/getstream?id=HEX%26url%3Dx"),
            ("/streams/ace/x", "/ace/getstream?id=x"),
        ] {
            assert_eq!(meant_by(asked).as_deref(), Some(page), "{asked}");
        }
    }

    #[test]
    fn anything_else_leads_nowhere() {
        for asked in [
            "/",
            "/ace",
            "/ACE/getstream?id=HEX",
            "/getstream?id=HEX",
            "//engines",
            "/engines/",
            "/%2561ce/getstream?id=HEX",
            "/ace%0d%0a/getstream?id=HEX",
            "/ace/getstream%0D?id=HEX",
            "/ace/getstream%00",
            "/ace/getstream%20",
            "/ace/getstream%ff",
            "/streams/ace/",
            "/streams/ace/cid:",
            "/streams/ace/HEX/stats",
            "/streams/HEX/stats",
            "/api/v1/ace/getstream",
        ] {
            assert_eq!(meant_by(asked), None, "{asked}");
        }
        // No page may be what leads to itself.
        for own in ["/ace/nothing", "/ace/getstream?id=x", "/ace/hls/a/b/c"] {
            assert_eq!(meant_by(own), None, "{own}");
        }
    }

    #[test]
    fn a_playlist_is_found_from_wherever_its_manifest_was_asked_for() {
        for (asked, leads) in [
            ("/ace/manifest.m3u8", ""),
            ("/ace/getstream.m3u8", ""),
            ("//ace/manifest.m3u8", ""),
            ("/ace//manifest.m3u8", ""),
            ("/ace/manifest.m3u8/", "../../ace/"),
            ("/streams/ace/HEX.m3u8", "../../ace/"),
            ("//streams/ace/HEX.m3u8", "../../../ace/"),
            ("/%61ce/manifest.m3u8", "../ace/"),
            ("/ace%2Fmanifest.m3u8", "ace/"),
        ] {
            assert_eq!(Leads::from(asked).to_media(), leads, "{asked}");
        }
    }

    #[test]
    fn media_are_known_by_any_of_their_addresses() {
        for path in [
            "/ace/getstream",
            "//ace/x",
            "/ace//x/",
            "/streams/ace/x",
            "//streams/ace/x",
            "/%61ce/x",
            "/ace%2Fx%3Fid",
        ] {
            assert!(is_media(path), "{path}");
        }
        for path in
            ["/", "/streams/x", "/streams/x/stats", "/acexy", "/engines", "//engines", "/x/ace/getstream"]
        {
            assert!(!is_media(path), "{path}");
        }
    }
}
