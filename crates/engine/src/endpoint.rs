//! Where one engine's HTTP API listens.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Host and port of an engine's HTTP API, written `host:port`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: Arc<str>,
    port: u16,
}

/// The text is not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Nothing follows the host, or what follows is no port.
    #[error("a port from 1 to 65535 is expected after the host, as in 127.0.0.1:6878")]
    Port,
    /// The host is empty or has characters no host name has.
    #[error("a host name, an IPv4 address or an IPv6 address in brackets is expected")]
    Host,
}

impl Endpoint {
    /// Host name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether `authority`, as an engine writes it into a URL, can only mean this endpoint: its own name, or the
    /// loopback names that engines use for themselves whatever name they were asked by.
    pub(crate) fn is_meant_by(&self, authority: &str) -> bool {
        host_of(authority).is_some_and(|host| host.eq_ignore_ascii_case(&self.host) || is_loopback(host))
    }
}

/// The host in `host`, `host:port`, `[v6]` or `[v6]:port`; `None` for every other text, such as `[::1]evil.example`.
fn host_of(authority: &str) -> Option<&str> {
    // An IPv6 address has colons of its own.
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let is_number = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    let is_port = |port: &str| port.is_empty() || (is_number(port) && port.parse::<u16>().is_ok());
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    parse_host(host).filter(|_| has_port)
}

/// Addresses are parsed, not compared as text: `127.0.0.1.evil.example` is a name like any other.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidEndpoint::Port)?;
        let host = parse_host(host).ok_or(InvalidEndpoint::Host)?;
        match port.parse() {
            Ok(0) | Err(_) => Err(InvalidEndpoint::Port),
            Ok(_) if port.starts_with('+') => Err(InvalidEndpoint::Port),
            Ok(port) => Ok(Self { host: host.into(), port }),
        }
    }
}

/// The host without the brackets of an IPv6 address.
fn parse_host(text: &str) -> Option<&str> {
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        return address.parse::<Ipv6Addr>().is_ok().then_some(address);
    }
    // Docker's names have underscores too.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (!text.is_empty() && text.len() <= 253 && text.bytes().all(is_name)).then_some(text)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_they_are_read() {
        for text in ["127.0.0.1:6878", "gluetun:19000", "engine_1.lan:1", "[::1]:6878", "[fd00::2]:65535"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        use InvalidEndpoint::{Host, Port};
        for (text, why) in [
            ("", Port),
            ("engine", Port),
            ("engine:", Port),
            ("engine:0", Port),
            ("engine:+1", Port),
            ("engine:65536", Port),
            (":6878", Host),
            ("::1:6878", Host),
            ("[::1:6878", Host),
            ("http://engine:6878", Host),
            ("user@engine:6878", Host),
            ("a b:6878", Host),
            ("engine\r\nX::6878", Host),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(why), "{text}");
        }
    }

    #[test]
    fn an_engine_may_call_itself_by_its_name_or_by_loopback_only() {
        let endpoint: Endpoint = "gluetun:19000".parse().unwrap();
        for own in ["gluetun:19000", "Gluetun", "127.0.0.1:6878", "localhost:6878", "127.1.2.3", "[::1]:6878"]
        {
            assert!(endpoint.is_meant_by(own), "{own}");
        }
        for other in [
            "evil:19000",
            "127.0.0.1.evil:6878",
            "localhost.evil",
            "[::ffff:169.254.169.254]",
            "10.0.0.1",
            "",
            "[::1",
            "[::1]evil.example",
            "[::1]:6878evil",
            "[localhost]",
            "localhost:evil",
            "127.0.0.1:6878:1",
            "gluetun:+1",
            "gluetun:99999",
            "gluetun@evil",
        ] {
            assert!(!endpoint.is_meant_by(other), "{other}");
        }
    }
}
