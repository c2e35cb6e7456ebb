//! Proxies in front that nobody has named in `TRUSTED_PROXIES`, told once each: which address a proxy has for a service in a
//! container is not to be guessed, and until it is named all that come through it are one client.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;
use parking_lot::Mutex;

use crate::http::client::X_FORWARDED_FOR;

/// How many are told. Nobody has more of them, and what a neighbour can cause has a bound.
const MOST: usize = 8;

/// Those that were told.
#[derive(Debug, Default)]
pub struct Unnamed(Mutex<BTreeSet<IpAddr>>);

impl Unnamed {
    /// Tells of `peer`, whom nobody has named, when this request has come through it. Of neighbours only: strangers write
    /// into their requests what they like.
    pub(crate) fn look(&self, peer: IpAddr, headers: &HeaderMap) {
        let is_forwarded = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED);
        if is_forwarded && self.is_news(peer.to_canonical()) {
            tracing::warn!(
                proxy = %peer.to_canonical(),
                "requests come through a proxy that TRUSTED_PROXIES does not name: all its clients count as one"
            );
        }
    }

    fn is_news(&self, peer: IpAddr) -> bool {
        let is_neighbour = match peer {
            IpAddr::V4(peer) => peer.is_private() || peer.is_loopback(),
            IpAddr::V6(peer) => peer.is_unique_local() || peer.is_loopback(),
        };
        let mut told = self.0.lock();
        is_neighbour && told.len() < MOST && told.insert(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_neighbour_is_told_once_and_no_stranger() {
        let (unnamed, address) = (Unnamed::default(), |text: &str| text.parse::<IpAddr>().unwrap());
        for proxy in ["172.18.0.1", "127.0.0.1", "::1", "fd00::7"] {
            assert!(unnamed.is_news(address(proxy)) && !unnamed.is_news(address(proxy)), "{proxy}");
        }
        assert!(!unnamed.is_news(address("203.0.113.7")) && !unnamed.is_news(address("2001:db8::7")));
    }

    #[test]
    fn their_number_has_a_bound() {
        let unnamed = Unnamed::default();
        let told = (0..=255).filter(|last| unnamed.is_news(IpAddr::from([10, 0, 0, *last]))).count();
        assert_eq!(told, MOST);
    }
}
