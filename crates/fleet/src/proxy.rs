//! A SOCKS5 proxy that engines reach the swarm through, for those that know proxies.

use std::fmt;
use std::str::FromStr;

use acemux_engine::Endpoint;

/// `socks5://[user:password@]host:port`, as outpace reads it. Its credentials are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// As it was written, with its scheme.
    url: String,
    /// Where it is.
    endpoint: Endpoint,
}

/// The text is no SOCKS5 proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("socks5://host:port or socks5://user:password@host:port is expected")]
pub struct InvalidProxy;

impl Proxy {
    /// As an engine is told it, credentials included.
    pub(crate) fn reveal(&self) -> &str {
        &self.url
    }

    /// Whether it is told who connects.
    pub(crate) fn has_login(&self) -> bool {
        self.url.contains('@')
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    /// `@`, `:` and `%` in a name or password are percent-encoded, so that the last `@` ends them.
    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let rest = text.strip_prefix("socks5://").or_else(|| text.strip_prefix("socks5h://"));
        let rest = rest.filter(|rest| rest.chars().all(|c| c.is_ascii_graphic())).ok_or(InvalidProxy)?;
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let is_login = |login: &str| login.split_once(':').is_some_and(|(user, _)| !user.is_empty());
        if login.is_some_and(|login| !is_login(login) || login.contains(['@', '/'])) {
            return Err(InvalidProxy);
        }
        let endpoint = address.parse().map_err(|_| InvalidProxy)?;
        Ok(Self { url: text.to_owned(), endpoint })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socks5://{}", self.endpoint)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_taken_as_outpace_takes_it_and_shows_no_password() {
        for url in [
            "socks5://127.0.0.1:1080",
            "socks5h://proxy.example.com:1080",
            "socks5://[::1]:1080",
            "socks5://user:p%40ss@proxy.example.com:1080",
        ] {
            let proxy: Proxy = url.parse().unwrap();
            assert_eq!(proxy.reveal(), url);
            assert!(!format!("{proxy:?} {proxy}").contains("p%40ss"));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "127.0.0.1:1080",
            "http://127.0.0.1:1080",
            "socks5://127.0.0.1",
            "socks5://user@127.0.0.1:1080",
            "socks5://:p@127.0.0.1:1080",
            "socks5://us er:p@127.0.0.1:1080",
            "socks5://127.0.0.1:1080/path",
            "socks5://127.0.0.1:0",
        ] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }
}
