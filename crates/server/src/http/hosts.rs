//! By which names our pages may be asked for: those that no stranger can own.
//!
//! A page of a stranger's can make its own name lead to this machine (DNS rebinding) and is of our origin then, as far as
//! its browser can tell. What it cannot do is change the name that the browser sends. So names count that lead here by
//! themselves, or that somebody has listed. Media is for every page anyway, and health checks tell nothing.

use std::fs;
use std::net::IpAddr;

use axum::body::Body;
use http::header::HOST;
use http::{Request, Version};

use crate::http::play::address;
use crate::http::problem::{Code, Problem};
use crate::http::site::{self, Site};
use crate::http::surface::MIRROR;

/// Ends of names that nobody can register (RFC 6762, RFC 8375, and what routers and companies use at home).
const PRIVATE: [&str; 6] = [".local", ".lan", ".home", ".internal", ".localdomain", ".home.arpa"];

/// Where the machine's own name stands: as the kernel knows it, and as other systems write it down.
const OWN_NAME: [&str; 2] = ["/proc/sys/kernel/hostname", "/etc/hostname"];

/// Names that count beside those that no stranger can own.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    listed: Vec<String>,
}

impl Hosts {
    /// These and this machine's own name.
    pub fn new(allowed: &[String]) -> Self {
        let own = OWN_NAME.iter().find_map(|file| fs::read_to_string(file).ok());
        let own = own.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Self { listed: allowed.iter().cloned().chain(own).collect() }
    }

    /// Refuses a request for a name that may be a stranger's. Whoever has the key is no stranger's page.
    pub(crate) fn check(
        &self,
        request: &Request<Body>,
        proxied: bool,
        has_key: impl FnOnce() -> Result<bool, Problem>,
    ) -> Result<(), Problem> {
        let headers = request.headers();
        if headers.get_all(HOST).iter().nth(1).is_some() {
            return Err(Problem::new(Code::AmbiguousHost));
        }
        if is_for_everybody(request.uri().path()) {
            return Ok(());
        }
        let asked = site::asked(request.uri(), headers);
        if asked.is_none() && !headers.contains_key(HOST) {
            // Health checks of balancers. Everything newer must say whom it asks (RFC 9112 §3.2).
            let is_old = request.version() <= Version::HTTP_10;
            return if is_old { Ok(()) } else { Err(Problem::new(Code::AmbiguousHost)) };
        }
        let forwarded = if proxied { site::forwarded(headers) } else { None };
        let is_ours = |name: &str| Site::parse(name).is_some_and(|site| self.know(site));
        let are_ours = asked.is_some_and(is_ours) && forwarded.is_none_or(is_ours);
        if are_ours || has_key()? { Ok(()) } else { Err(unknown()) }
    }

    fn know(&self, site: Site<'_>) -> bool {
        let host = site.host();
        let is_listed = || self.listed.iter().any(|name| name.eq_ignore_ascii_case(host));
        !host.contains('.') || host.parse::<IpAddr>().is_ok() || is_private(host) || is_listed()
    }
}

fn is_private(host: &str) -> bool {
    PRIVATE.iter().any(|end| {
        let at = host.len().checked_sub(end.len()).filter(|at| *at > 0);
        at.and_then(|at| host.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    })
}

/// Media, and whether we are there.
fn is_for_everybody(path: &str) -> bool {
    address::is_media(path) || matches!(path.strip_prefix(MIRROR).unwrap_or(path), "/livez" | "/readyz")
}

fn unknown() -> Problem {
    let hint =
        "The request asks for a name that could be a stranger's. ALLOWED_HOSTS lists names that are ours.";
    Problem::new(Code::BadHost).with_detail(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(hosts: &Hosts, text: &str) -> bool {
        Site::parse(text).is_some_and(|site| hosts.know(site))
    }

    #[test]
    fn names_that_no_stranger_can_own_are_known() {
        for name in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "192.0.2.1",
            "[2001:db8::1]:8000",
            "orchestrator:8000",
            "acemux_1",
            "tv.local",
            "TV.LAN:80",
            "a.b.home",
            "tv.internal",
            "localhost.localdomain",
            "tv.home.arpa",
        ] {
            assert!(known(&Hosts::default(), name), "{name}");
        }
    }

    #[test]
    fn names_that_a_stranger_can_own_must_be_listed() {
        for name in [
            "evil.example",
            "127.0.0.1.nip.io",
            "localhost.evil.example",
            "local.example",
            "evillocal.com",
            "home.arpa.example",
            ".local",
            "arpa.",
            "a:99999",
            "[::1",
            "[::1]evil.example",
            "a@b",
            "",
        ] {
            assert!(!known(&Hosts::default(), name), "{name}");
        }
        let listed = Hosts::new(&["TV.example".to_owned()]);
        assert!(known(&listed, "tv.example:8000") && known(&listed, "TV.EXAMPLE"));
        assert!(!known(&listed, "a.tv.example") && !known(&listed, "evil.example"));
    }
}
