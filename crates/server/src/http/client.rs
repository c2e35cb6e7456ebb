//! Who the client is: the peer of the connection, or the address a trusted proxy vouches for.
//!
//! Owns the parsing of `X-Forwarded-For` and `Forwarded`. Refuses to believe either of them from anyone who
//! is not listed as a trusted proxy, and refuses to guess: a list it cannot read to the answer means the peer
//! itself.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use acemux_engine::text;
use axum::extract::{FromRef, FromRequestParts};
use http::header::{FORWARDED, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::http::serve::ConnectionControl;

/// How many entries of a forwarded list are looked at, from the right. More hops than this are not a path but
/// an attack.
const MAX_HOPS: usize = 32;

/// How many characters of a `User-Agent` are kept. Players need fewer than 100; the field is only ever shown.
const MAX_USER_AGENT: usize = 128;

/// X-Forwarded-For, the de facto standard that nginx, HAProxy, Caddy and Traefik write.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// By which scheme its client asked, as the same proxies write it.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How the dashboard's player says that it is one: a page cannot choose its `User-Agent`.
const X_ACEMUX_PLAYER: HeaderName = HeaderName::from_static("x-acemux-player");

/// Bits of a prefix below which a network is no site but a part of the Internet: the widest private ones are `10.0.0.0/8`
/// and `fd00::/8`.
const WIDEST_SITE: u8 = 8;

/// The proxies whose word about the client is taken. Cheap to clone. A mapped IPv4 network is kept as IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// An entry of the trusted proxies that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a network like 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl TrustedProxies {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Networks so wide that they take in strangers: who is in one says which address he has.
    pub fn wide(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().copied().filter(|network| network.prefix_len() < WIDEST_SITE)
    }

    /// The client's address: the peer's, unless the peer is trusted; then the right-most hop that is not.
    ///
    /// Each proxy appends the address it saw, so the right end is what trusted proxies wrote and the left end
    /// what anyone may have sent. When every hop is trusted, the left-most one is the client.
    /// `X-Forwarded-For` goes before `Forwarded`.
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        let forwarded = if headers.contains_key(X_FORWARDED_FOR) {
            self.client_of(hops(headers, &X_FORWARDED_FOR).map(parse_node))
        } else {
            self.client_of(hops(headers, &FORWARDED).map(parse_forwarded))
        };
        forwarded.unwrap_or(peer)
    }

    /// Walks hops from the nearest to the farthest; `None` when one of them cannot be read or there are too
    /// many.
    fn client_of(&self, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut farthest = None;
        for (count, hop) in hops.enumerate() {
            if count == MAX_HOPS {
                return None;
            }
            let hop = hop?;
            if !self.contains(hop) {
                return Some(hop);
            }
            farthest = Some(hop);
        }
        farthest
    }
}

impl FromStr for TrustedProxies {
    type Err = InvalidNetwork;

    /// Addresses and networks, separated by commas or blanks: `127.0.0.1, 10.0.0.0/8, fd00::/8`.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let items = text.split([',', ' ']).filter(|item| !item.is_empty());
        let network = |item: &str| parse_network(item).ok_or_else(|| InvalidNetwork(item.to_owned()));
        items.map(network).collect::<Result<Arc<[_]>, _>>().map(Self)
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&networks.join(", "))
    }
}

/// What is remembered of a client, for pages and logs only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Where it connects from, see [`TrustedProxies::client_address`]. For limits it is an
    /// [`AddressGroup`](acemux_relay::admission::AddressGroup).
    pub address: IpAddr,
    /// What it calls itself: one line of at most 128 characters, empty when it says nothing. The dashboard's player has
    /// that before it.
    pub user_agent: String,
    /// Whether a trusted proxy says that its client speaks TLS with it.
    pub is_https: bool,
}

impl ClientInfo {
    /// Reads both from the head of a request that came from `peer`.
    pub fn new(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> Self {
        Self {
            address: trusted.client_address(peer, headers),
            user_agent: user_agent(headers),
            is_https: trusted.contains(peer) && says_https(headers),
        }
    }
}

impl<S> FromRequestParts<S> for ClientInfo
where
    TrustedProxies: FromRef<S>,
    S: Sync,
{
    type Rejection = Infallible;

    /// A request that did not come through our accept loop (a test calling the router) has the unspecified
    /// address.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectionControl>().map(ConnectionControl::peer);
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        Ok(Self::new(&TrustedProxies::from_ref(state), address, &parts.headers))
    }
}

/// Of several proxies the last one's word counts, which is the one that was trusted.
fn says_https(headers: &HeaderMap) -> bool {
    hops(headers, &X_FORWARDED_PROTO).next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"))
}

/// An address, or a network; of a mapped one the IPv4 network that it maps.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let IpAddr::V4(base) = network.addr().to_canonical() else { return Some(network) };
    // ::ffff:10.0.0.0/104 is 10.0.0.0/8 written for an IPv6 socket.
    let mapped = network.max_prefix_len() - Ipv4Net::default().max_prefix_len();
    Ipv4Net::new(base, network.prefix_len().checked_sub(mapped)?).ok().map(IpNet::V4)
}

/// The entries of a list header from the last to the first, over all its lines, without the empty ones.
fn hops<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter().rev();
    lines
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|hop| !hop.is_empty())
}

/// One element of `Forwarded`: the node after `for=`.
///
/// Elements are cut at commas without regard to quotes, because a quote that a client opened must not swallow
/// what the proxy appended. An element that such a cut may have torn (odd quotes, or escapes) is refused
/// instead.
fn parse_forwarded(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    if text.matches('"').count() % 2 == 1 || text.contains('\\') {
        return None;
    }
    let pairs = text.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case("for"))?;
    parse_node(node.trim_matches('"').as_bytes())
}

/// An address as proxies write it: bare, with a port, in brackets, with a zone. Nothing is guessed from the beginning of
/// a text such as `[::1]evil.example`.
fn parse_node(node: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(node).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None if text.matches(':').count() == 1 => {
            let (host, port) = text.split_once(':')?;
            (host, Some(port))
        }
        None => (text, None),
    };
    port.is_none_or(is_node_port).then_some(())?;
    let is_v6 = text.starts_with('[');
    let zoneless = host.split_once('%').map_or(host, |(address, _zone)| address);
    let address: IpAddr = zoneless.parse().ok()?;
    (!is_v6 || address.is_ipv6()).then(|| address.to_canonical())
}

/// A port, or the name that a proxy gives to one (RFC 7239 §6.2).
fn is_node_port(port: &str) -> bool {
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    port.strip_prefix('_').map_or_else(|| port.parse::<u16>().is_ok(), is_name)
}

fn user_agent(headers: &HeaderMap) -> String {
    let value = headers.get(USER_AGENT).map_or(&[][..], |value| value.as_bytes());
    let agent = text::line(&String::from_utf8_lossy(value), MAX_USER_AGENT);
    match headers.get(X_ACEMUX_PLAYER) {
        Some(name) if name == "dashboard" => format!("acemux dashboard, {agent}"),
        _ => agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn trusted(text: &str) -> TrustedProxies {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    /// Through the proxies 10.0.0.0/8 and `::1`, with the peer 10.0.0.1.
    fn client(lines: &[(&'static str, &str)]) -> IpAddr {
        trusted("10.0.0.0/8, ::1").client_address(address("10.0.0.1"), &headers(lines))
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_claims() {
        let lines = headers(&[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")]);
        let peer = address("192.0.2.7");
        assert_eq!(trusted("10.0.0.0/8").client_address(peer, &lines), peer);
        assert_eq!(TrustedProxies::default().client_address(peer, &lines), peer);
    }

    #[test]
    fn behind_a_trusted_peer_the_right_most_untrusted_hop_is_the_client() {
        let table = [
            ("1.2.3.4", "1.2.3.4"),
            ("garbage, 1.2.3.4", "1.2.3.4"),
            ("9.9.9.9, 1.2.3.4, 10.0.0.9", "1.2.3.4"),
            ("1.2.3.4,, 10.0.0.9 ,", "1.2.3.4"),
            ("1.2.3.4:5678", "1.2.3.4"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("fe80::1%eth0", "fe80::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("10.0.0.5, 10.0.0.9", "10.0.0.5"),
        ];
        for (list, expected) in table {
            assert_eq!(client(&[("x-forwarded-for", list)]), address(expected), "{list}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_to_the_answer_means_the_peer() {
        let crowd = ["10.0.0.3"; 500].join(", ");
        let lists = [
            "",
            ",",
            "unknown",
            "1.2.3.4, garbage",
            "1.2.3.4, 10.0.0.9, x",
            "1.2.3.4.5",
            "[::1",
            "[2001:db8::7]evil.example",
            "[2001:db8::7]:evil",
            "[2001:db8::7]443",
            "[1.2.3.4]",
            "1.2.3.4:99999",
            "1.2.3.4:evil",
            &crowd,
        ];
        for list in lists {
            assert_eq!(client(&[("x-forwarded-for", list)]), address("10.0.0.1"), "{list}");
        }
        assert_eq!(client(&[]), address("10.0.0.1"));
    }

    #[test]
    fn hundreds_of_forged_entries_do_not_hide_the_client() {
        let list = format!("{}, 1.2.3.4", ["6.6.6.6"; 500].join(", "));
        assert_eq!(client(&[("x-forwarded-for", &list)]), address("1.2.3.4"));
    }

    #[test]
    fn lines_of_one_header_are_one_list() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4, 10.0.0.9")];
        assert_eq!(client(&lines), address("1.2.3.4"));
    }

    #[test]
    fn forwarded_is_read_when_x_forwarded_for_is_absent() {
        let table = [
            ("for=1.2.3.4", "1.2.3.4"),
            ("for=\"1.2.3.4:_gazonk\"", "1.2.3.4"),
            ("For=\"[2001:db8::7]:4711\";proto=https", "2001:db8::7"),
            ("for=6.6.6.6, proto=http;for=1.2.3.4;by=10.0.0.1, for=10.0.0.9", "1.2.3.4"),
            ("for=unknown", "10.0.0.1"),
            ("for=_hidden, for=10.0.0.9", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("for=1.2.3.4;host=\"x, for=6.6.6.6\"", "10.0.0.1"),
            ("for=1.2.3.4;host=\"x, for=6.6.6.6;y=\\\"z\"", "10.0.0.1"),
            ("for=\", for=1.2.3.4", "1.2.3.4"),
        ];
        for (list, expected) in table {
            assert_eq!(client(&[("forwarded", list)]), address(expected), "{list}");
        }
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(client(&both), address("1.2.3.4"));
    }

    #[test]
    fn a_mapped_peer_is_the_ipv4_address_it_maps() {
        let lines = headers(&[("x-forwarded-for", "1.2.3.4")]);
        assert_eq!(
            trusted("10.0.0.1").client_address(address("::ffff:10.0.0.1"), &lines),
            address("1.2.3.4")
        );
        let plain = TrustedProxies::default().client_address(address("::ffff:192.0.2.7"), &lines);
        assert_eq!(plain, address("192.0.2.7"));
    }

    #[test]
    fn networks_contain_what_shares_their_prefix() {
        let table = [
            ("0.0.0.0/0", "9.9.9.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("192.168.1.77/24", "192.168.1.1", true),
            ("192.168.1.0/24", "192.168.2.1", false),
            ("172.16.0.0/12", "172.31.255.255", true),
            ("fd00::/8", "fdff::1", true),
            ("::ffff:10.0.0.0/104", "10.200.0.1", true),
            ("::1", "::1", true),
            ("::1", "::2", false),
        ];
        for (network, ip, expected) in table {
            assert_eq!(trusted(network).contains(address(ip)), expected, "{network} {ip}");
        }
    }

    #[test]
    fn a_network_that_takes_in_strangers_is_called_wide() {
        let wide = |text: &str| trusted(text).wide().map(|network| network.to_string()).collect::<Vec<_>>();
        assert_eq!(wide("0.0.0.0/0, 10.0.0.0/8, ::/0"), ["0.0.0.0/0", "::/0"]);
        assert_eq!(wide("0.0.0.0/1 fc00::/7"), ["0.0.0.0/1", "fc00::/7"]);
        assert_eq!(wide("::ffff:0.0.0.0/97"), ["0.0.0.0/1"]);
        assert!(wide("127.0.0.1, fd00::/8, 172.16.0.0/12, ::1").is_empty());
    }

    #[test]
    fn a_list_of_proxies_reads_back_as_written() {
        assert_eq!(trusted("127.0.0.1 10.0.0.0/8,::1").to_string(), "127.0.0.1/32, 10.0.0.0/8, ::1/128");
        assert_eq!(trusted(" "), TrustedProxies::default());
    }

    #[test]
    fn what_is_no_network_is_named_in_the_error() {
        for item in ["10.0.0.0/33", "::/129", "nginx", "10.0.0.0/", "10.0.0.0/-1", "::ffff:10.0.0.0/8"] {
            let error = format!("127.0.0.1, {item}").parse::<TrustedProxies>().unwrap_err();
            assert!(error.to_string().contains(item), "{error}");
        }
    }

    #[test]
    fn a_user_agent_is_kept_short_and_clean() {
        let agent = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            user_agent(&HeaderMap::from_iter([(USER_AGENT, value)]))
        };
        assert_eq!(agent(b" VLC/3.0.24\tLibVLC "), "VLC/3.0.24 LibVLC");
        assert_eq!(agent("Größe".as_bytes()), "Größe");
        assert_eq!(agent(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(agent(&"ü".repeat(10_000).into_bytes()), "ü".repeat(127) + "…");
        assert_eq!(agent("VLC\u{202e}gnp.\u{200b}exe\u{2066}".as_bytes()), "VLCgnp.exe");
        assert_eq!(user_agent(&HeaderMap::new()), "");
        let of_the_page = [("user-agent", "Mozilla/5.0 Chrome/142.0"), ("x-acemux-player", "dashboard")];
        assert_eq!(user_agent(&headers(&of_the_page)), "acemux dashboard, Mozilla/5.0 Chrome/142.0");
        assert_eq!(user_agent(&headers(&[("user-agent", "VLC"), ("x-acemux-player", "root")])), "VLC");
    }
}
