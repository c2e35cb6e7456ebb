//! Whether an exit is where it should be: compared with what this machine knows by itself. Nobody outside is asked, so what
//! cannot be compared is said to be not compared, and never to be safe.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use utoipa::ToSchema;

/// What exits are compared with.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// `HOST_PUBLIC_IP`.
    pub declared: Vec<IpAddr>,
    /// Those of this machine's interfaces, or of this container's.
    pub interfaces: Vec<IpAddr>,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LeakFinding)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// They are different.
    Differs,
    /// They are the same: what should be hidden is not.
    Same,
    /// One of the two is not known.
    NotCompared,
}

/// The comparisons of one kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LeakComparison)]
pub struct Compared {
    /// The exit's address.
    #[schema(value_type = Option<String>)]
    exit: Option<IpAddr>,
    /// With the public addresses of this machine's interfaces. Behind NAT there are none.
    from_interfaces: Finding,
    /// With `HOST_PUBLIC_IP`.
    from_host_public_ip: Finding,
    /// With the other VPNs' exits: the same exit twice is no second way out.
    from_other_exits: Finding,
}

/// Both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LeakProof)]
pub struct Proof {
    /// IPv4.
    pub ipv4: Compared,
    /// IPv6. gluetun names one address alone.
    pub ipv6: Compared,
}

impl Proof {
    /// Compares an exit. `others` are the other exits' addresses.
    pub fn of(exit: Option<IpAddr>, addresses: &Addresses, others: &[IpAddr]) -> Self {
        let exit = exit.map(|exit| exit.to_canonical());
        let kind = |is_kind: fn(&IpAddr) -> bool| {
            let exit = exit.filter(is_kind);
            let compare = |with: &[IpAddr], counts: fn(&IpAddr) -> bool| {
                let with = with.iter().map(IpAddr::to_canonical);
                compare(exit, with.filter(|address| is_kind(address) && counts(address)))
            };
            Compared {
                exit,
                from_interfaces: compare(&addresses.interfaces, is_public),
                from_host_public_ip: compare(&addresses.declared, |_| true),
                from_other_exits: compare(others, |_| true),
            }
        };
        Self { ipv4: kind(IpAddr::is_ipv4), ipv6: kind(IpAddr::is_ipv6) }
    }

    /// Whether an exit is this machine's own address.
    pub fn is_exposed(&self) -> bool {
        [self.ipv4, self.ipv6]
            .iter()
            .any(|kind| kind.from_interfaces == Finding::Same || kind.from_host_public_ip == Finding::Same)
    }
}

fn compare(exit: Option<IpAddr>, mut with: impl Iterator<Item = IpAddr>) -> Finding {
    let (Some(exit), Some(first)) = (exit, with.next()) else { return Finding::NotCompared };
    let is_same = is_one_place(exit, first) || with.any(|address| is_one_place(exit, address));
    if is_same { Finding::Same } else { Finding::Differs }
}

/// The same address, or two of one IPv6 /64: who has one of them has them all, and changes them.
fn is_one_place(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.segments()[..4] == other.segments()[..4],
        _ => one == other,
    }
}

/// Whether others can see an address. A private one says nothing about the exit.
pub fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // 100.64.0.0/10 is what providers put between a home and their own NAT.
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || is_shared)
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local())
        }
    }
}

/// The addresses of this network namespace's interfaces, as the kernel lists them. None where it does not.
pub fn interfaces() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let v4 = local_v4(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = local_v6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// `|-- 192.0.2.7` followed by `/32 host LOCAL`, each once.
fn local_v4(trie: &str) -> Vec<Ipv4Addr> {
    let (mut last, mut all) = (None, Vec::new());
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse().ok();
        } else if line.trim() == "/32 host LOCAL" {
            all.extend(last.filter(|address| !all.contains(address)));
        }
    }
    all
}

/// The address is the first word of a line, 32 digits.
fn local_v6(list: &str) -> Vec<Ipv6Addr> {
    let words = list.lines().filter_map(|line| line.split_whitespace().next());
    words.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn proof(exit: &str, declared: &[&str], interfaces: &[&str], others: &[&str]) -> Proof {
        let addresses = Addresses { declared: all(declared), interfaces: all(interfaces) };
        Proof::of(exit.parse().ok(), &addresses, &all(others))
    }

    #[test]
    fn what_is_known_is_compared_and_what_is_not_is_said_so() {
        let known = proof("203.0.113.7", &["198.51.100.7"], &["198.51.100.7"], &["203.0.113.8"]).ipv4;
        assert_eq!(
            (known.from_host_public_ip, known.from_interfaces, known.from_other_exits),
            (Finding::Differs, Finding::Differs, Finding::Differs)
        );
        // Behind NAT, without the setting, one VPN: nothing there is public.
        let unknown = proof("203.0.113.7", &[], &["127.0.0.1", "192.168.1.5", "100.64.0.9", "::1"], &[]).ipv4;
        assert_eq!(
            (unknown.from_host_public_ip, unknown.from_interfaces, unknown.from_other_exits),
            (Finding::NotCompared, Finding::NotCompared, Finding::NotCompared)
        );
        assert_eq!(proof("", &["198.51.100.7"], &[], &[]).ipv4.from_host_public_ip, Finding::NotCompared);
    }

    #[test]
    fn an_exit_that_is_this_machine_is_exposed() {
        assert!(proof("198.51.100.7", &["198.51.100.7"], &[], &[]).is_exposed());
        assert!(proof("198.51.100.7", &[], &["10.0.0.2", "198.51.100.7"], &[]).is_exposed());
        assert!(proof("2001:db8::7", &["198.51.100.7", "2001:db8::7"], &[], &[]).is_exposed());
        assert!(!proof("203.0.113.7", &["198.51.100.7"], &[], &["203.0.113.7"]).is_exposed());
        assert_eq!(proof("203.0.113.7", &[], &[], &["203.0.113.7"]).ipv4.from_other_exits, Finding::Same);
    }

    /// A host has many addresses of one IPv6 prefix, and changes them.
    #[test]
    fn another_address_of_the_same_prefix_is_the_same_place() {
        for (exit, declared, is_exposed) in [
            ("2001:db8:0:1::7", "2001:db8:0:1:abcd:ef01:2345:6789", true),
            ("2001:db8:0:1::7", "2001:db8:0:2::7", false),
            ("203.0.113.7", "203.0.113.8", false),
            ("::ffff:203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "::ffff:203.0.113.7", true),
            ("::ffff:203.0.113.7", "::ffff:203.0.113.8", false),
        ] {
            assert_eq!(proof(exit, &[declared], &[], &[]).is_exposed(), is_exposed, "{exit} {declared}");
            assert_eq!(proof(exit, &[], &[declared], &[]).is_exposed(), is_exposed, "{exit} {declared}");
        }
        let mapped = proof("::ffff:203.0.113.7", &[], &["::ffff:192.168.1.5"], &["203.0.113.7"]);
        assert_eq!((mapped.ipv4.from_interfaces, mapped.ipv6.exit), (Finding::NotCompared, None));
        assert_eq!(mapped.ipv4.from_other_exits, Finding::Same);
    }

    #[test]
    fn kinds_of_addresses_are_never_compared_with_each_other() {
        let proof = proof("203.0.113.7", &["2001:db8::7"], &["2001:db8::7"], &["2001:db8::8"]);
        assert_eq!(proof.ipv4.from_host_public_ip, Finding::NotCompared);
        assert_eq!((proof.ipv6.exit, proof.ipv6.from_other_exits), (None, Finding::NotCompared));
    }

    #[test]
    fn the_kernels_lists_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 192.0.2.0/24 2 0 2\n\
            |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n\
            |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.7\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), [Ipv4Addr::new(192, 0, 2, 7)]);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000007 02 40 00 80 eth0\n";
        assert_eq!(local_v6(list), [Ipv6Addr::LOCALHOST, "2001:db8::7".parse().unwrap()]);
        assert!(local_v4("").is_empty() && local_v6("nonsense\n").is_empty());
    }

    #[test]
    fn this_machine_has_a_loopback() {
        assert!(interfaces().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
