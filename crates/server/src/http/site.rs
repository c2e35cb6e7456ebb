//! Which site a request asks for, as its client and the proxies before us write it.
//!
//! Owns the one parser of `host[:port]`. What it cannot read is no site: nothing is guessed from the beginning of a text
//! such as `[::1]evil.example`.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, Uri};

/// De facto standard of nginx, Caddy and Traefik for the host that their client asked for.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A host and perhaps a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    /// Without brackets.
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Site<'a> {
    /// `None` when `text` is not exactly a host and perhaps a port.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_host = !host.is_empty() && (text.starts_with('[') || host.bytes().all(is_name));
        let is_number = |port: &&str| port.bytes().all(|digit| digit.is_ascii_digit());
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(Some(port).filter(is_number)?.parse().ok()?),
        };
        is_host.then_some(Self { host, port })
    }

    /// The site that a page is of, as its `Origin` says; `None` for what has no site of its own, `null` among them.
    /// Its port is always there: what the scheme means when it names none.
    pub(crate) fn of_origin(origin: &'a str) -> Option<Self> {
        let (scheme, site) = origin.split_once("://")?;
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let site = Self::parse(site)?;
        Some(Self { port: site.port.or(Some(usual)), ..site })
    }

    /// Whether a page of `origin` is one of this site. The scheme does not count, because a proxy before us may have ended
    /// TLS: a site without a port has the one that either scheme means.
    pub(crate) fn is_of(self, origin: Self) -> bool {
        let same_port = match self.port {
            Some(_) => origin.port == self.port,
            None => matches!(origin.port, Some(80 | 443)),
        };
        same_port && self.host.eq_ignore_ascii_case(origin.host)
    }

    /// Without brackets and port.
    pub(crate) fn host(self) -> &'a str {
        self.host
    }

    /// `localhost`, or an address that only this machine reaches.
    pub(crate) fn is_loopback(self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

/// What the client wrote as the site it asks: the target's, where that names one (RFC 9112 §3.2.2), or `Host`.
pub(crate) fn asked<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let target = uri.authority().map(http::uri::Authority::as_str);
    target.or_else(|| headers.get(HOST)?.to_str().ok())
}

/// What the nearest proxy says that its client asked for: the last entry, all others may be the client's own words.
pub(crate) fn forwarded(headers: &HeaderMap) -> Option<&str> {
    if let Some(host) = last_entry(headers, &X_FORWARDED_HOST) {
        return Some(host);
    }
    let pairs = last_entry(headers, &FORWARDED)?.split(';');
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    let (_, host) = pairs.find(|(key, _)| key.eq_ignore_ascii_case("host"))?;
    Some(host.trim_matches('"'))
}

fn last_entry<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_host_and_perhaps_a_port_and_nothing_else() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("a_b.local:8000", "a_b.local", Some(8000)),
            ("[::1]:8000", "::1", Some(8000)),
            ("[fe80::1]", "fe80::1", None),
            ("192.0.2.1:", "192.0.2.1", None),
        ] {
            let site = Site::parse(text).unwrap();
            assert_eq!((site.host, site.port), (host, port), "{text}");
        }
        let odd = [
            "",
            ":80",
            "[::1",
            "[::1]evil.example",
            "[localhost]",
            "a:99999",
            "a:+1",
            "a:1:2",
            "a@b",
            "a b",
            "::1",
        ];
        for text in odd {
            assert!(Site::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for text in
            ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::ffff:127.0.0.1]"]
        {
            assert!(Site::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in ["127.0.0.1.nip.io", "localhost.example", "192.0.2.1", "[2001:db8::1]"] {
            assert!(!Site::parse(text).unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn of_several_forwarded_hosts_the_nearest_proxys_counts() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(forwarded(&headers("x-forwarded-host", "evil.example, tv.home")), Some("tv.home"));
        assert_eq!(forwarded(&headers("forwarded", "host=a, for=1;Host=\"tv.home:1\"")), Some("tv.home:1"));
        assert_eq!(forwarded(&headers("forwarded", "host=a, for=1")), None);
    }
}
