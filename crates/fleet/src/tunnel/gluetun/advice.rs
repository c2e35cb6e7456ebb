//! Why an engine that runs is not reached: which variable of gluetun's firewall lacks what.
//!
//! gluetun drops what comes in from other networks than its own, and answers to other networks go into the tunnel and never
//! arrive. A connection that is *refused* was let through: then it is the engine that does not listen.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Docker's own pools give networks of 65536 or 4096 addresses; the smaller one is told apart safely.
const SAME_NETWORK_BITS: u32 = 20;

/// How a connection to an engine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing came back.
    Silence,
    /// Somebody said no.
    Refused,
}

/// What gluetun lacks for us to reach a port of its namespace from `us` at `address`.
pub(super) fn firewall(
    failure: Failure,
    env: &BTreeMap<String, String>,
    us: Option<IpAddr>,
    address: IpAddr,
    port: u16,
) -> Option<String> {
    if failure == Failure::Refused {
        return None;
    }
    let answers_return = us.is_none_or(|us| is_same_network(us, address) || is_listed(env, us));
    if let (false, Some(us)) = (answers_return, us) {
        return Some(format!(
            "an engine runs and does not answer: gluetun sends its answers into the tunnel; add our network to \
             FIREWALL_OUTBOUND_SUBNETS of the gluetun container (we are {us})"
        ));
    }
    let is_open = list(env, "FIREWALL_INPUT_PORTS").any(|listed| listed == port.to_string());
    (!is_open).then(|| {
        format!(
            "an engine runs and does not answer: gluetun's firewall drops port {port}; add it to FIREWALL_INPUT_PORTS of \
             the gluetun container"
        )
    })
}

fn is_same_network(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            one.is_loopback() || (one.to_bits() ^ other.to_bits()) >> (32 - SAME_NETWORK_BITS) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            one.is_loopback() || (one.to_bits() ^ other.to_bits()) >> 64 == 0
        }
        _ => false,
    }
}

fn is_listed(env: &BTreeMap<String, String>, us: IpAddr) -> bool {
    list(env, "FIREWALL_OUTBOUND_SUBNETS").any(|subnet| contains(subnet, us))
}

fn list<'a>(env: &'a BTreeMap<String, String>, name: &str) -> impl Iterator<Item = &'a str> {
    env.get(name).into_iter().flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether `address/bits` contains an address of its kind.
fn contains(subnet: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = subnet.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (base.parse(), address) {
        (Ok(IpAddr::V4(base)), IpAddr::V4(address)) if bits <= 32 => {
            (base.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (Ok(IpAddr::V6(base)), IpAddr::V6(address)) if bits <= 128 => {
            (base.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advise(env: &[(&str, &str)], us: &str) -> Option<String> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        firewall(Failure::Silence, &env, Some(us.parse().unwrap()), "172.20.0.3".parse().unwrap(), 19_000)
    }

    #[test]
    fn from_another_network_answers_need_a_subnet_and_from_its_own_the_port_is_closed() {
        assert!(advise(&[], "192.168.1.5").unwrap().contains("FIREWALL_OUTBOUND_SUBNETS"));
        assert!(advise(&[], "172.20.0.1").unwrap().contains("FIREWALL_INPUT_PORTS"));
        let told = advise(&[("FIREWALL_OUTBOUND_SUBNETS", "10.0.0.0/8, 192.168.0.0/16")], "192.168.1.5");
        assert!(told.unwrap().contains("FIREWALL_INPUT_PORTS"));
        let other = advise(&[("FIREWALL_OUTBOUND_SUBNETS", "192.168.2.0/24")], "192.168.1.5");
        assert!(other.unwrap().contains("we are 192.168.1.5"));
    }

    #[test]
    fn what_lacks_nothing_is_not_told_to_add_anything() {
        assert_eq!(advise(&[("FIREWALL_INPUT_PORTS", "8000,19000")], "172.20.0.1"), None);
        let address = "172.20.0.3".parse().unwrap();
        assert_eq!(firewall(Failure::Refused, &BTreeMap::new(), None, address, 1), None);
    }

    #[test]
    fn subnets_are_read_with_distrust() {
        let us = "192.168.1.5".parse().unwrap();
        for (subnet, expected) in [
            ("0.0.0.0/0", true),
            ("192.168.1.5/32", true),
            ("192.168.1.4/32", false),
            ("192.168.1.0/33", false),
            ("192.168.1.0", false),
            ("fd00::/8", false),
            ("", false),
        ] {
            assert_eq!(contains(subnet, us), expected, "{subnet}");
        }
        assert!(contains("fd00::/8", "fd12::1".parse().unwrap()));
    }
}
