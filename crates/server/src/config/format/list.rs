//! Lists: engines, hosts, containers, ranges, addresses, capabilities.

use std::collections::HashSet;
use std::net::IpAddr;

use acemux_engine::Endpoint;
use acemux_fleet::capability::Capability;
use acemux_fleet::ident::DockerName;

use super::super::value::{self, PortRange};
use super::{Format, Kind};
use crate::planes::vpn::leak::is_public;

/// `host:port,host:port`.
pub(in crate::config) struct Endpoints;

/// `tv.example,iptv.example.com`.
pub(in crate::config) struct HostNames;

/// Names of containers.
pub(in crate::config) struct Containers;

/// Ranges of ports.
pub(in crate::config) struct PortLists;

/// Addresses, each of which the whole internet knows.
pub(in crate::config) struct PublicAddresses;

/// Names of Linux capabilities.
pub(in crate::config) struct CapabilityNames;

/// The capabilities that somebody named.
#[derive(Default)]
pub(in crate::config) struct Capabilities {
    /// Those that there are.
    pub(in crate::config) known: Vec<Capability>,
    /// How many names are of none. They are left out and warned of.
    pub(in crate::config) unknown: usize,
}

impl Kind for Endpoints {
    fn accepts(&self) -> String {
        "host:port,host:port, each once".into()
    }
}

impl Format<Vec<Endpoint>> for Endpoints {
    fn parse(&self, text: &str) -> Option<Vec<Endpoint>> {
        let all: Vec<Endpoint> = value::list(text).map(str::parse).collect::<Result<_, _>>().ok()?;
        let distinct: HashSet<String> = all.iter().map(ToString::to_string).collect();
        (distinct.len() == all.len()).then_some(all)
    }
}

impl Kind for HostNames {
    fn accepts(&self) -> String {
        "names of hosts without ports: tv.example,iptv.example.com".into()
    }
}

impl Format<Vec<String>> for HostNames {
    fn parse(&self, text: &str) -> Option<Vec<String>> {
        value::host_names(text)
    }
}

impl Kind for Containers {
    fn accepts(&self) -> String {
        "names of containers: gluetun,gluetun2".into()
    }
}

impl Format<Vec<DockerName>> for Containers {
    fn parse(&self, text: &str) -> Option<Vec<DockerName>> {
        value::list(text).map(|name| name.parse().ok()).collect()
    }
}

impl Kind for PortLists {
    fn accepts(&self) -> String {
        "ranges of ports: 19000-19499,19500-19999".into()
    }
}

impl Format<Vec<PortRange>> for PortLists {
    fn parse(&self, text: &str) -> Option<Vec<PortRange>> {
        value::list(text).map(value::ports).collect()
    }
}

impl Kind for PublicAddresses {
    fn accepts(&self) -> String {
        "public addresses, IPv4 or IPv6: 198.51.100.7,2001:db8::7".into()
    }
}

impl Format<Vec<IpAddr>> for PublicAddresses {
    fn parse(&self, text: &str) -> Option<Vec<IpAddr>> {
        value::addresses(text).filter(|all| all.iter().all(is_public))
    }
}

impl Kind for CapabilityNames {
    fn accepts(&self) -> String {
        "text on one line".into()
    }
}

impl Format<Capabilities> for CapabilityNames {
    fn parse(&self, text: &str) -> Option<Capabilities> {
        if text.contains(char::is_control) {
            return None;
        }
        let mut named = Capabilities::default();
        for name in value::list(text) {
            match name.parse() {
                Ok(capability) => named.known.push(capability),
                Err(_) => named.unknown += 1,
            }
        }
        Some(named)
    }
}
