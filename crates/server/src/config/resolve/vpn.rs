//! What engines hide behind: the settings of VPNs and of proxies, and which of them contradict each other.

use acemux_fleet::ident::DockerName;
use acemux_fleet::profile::{Platform, Variant};
use acemux_fleet::tunnel::gluetun::Credentials;

use super::super::value::{self, PortRange};
use super::super::{Config, TunnelSettings, Vpn, VpnMode, Written};
use super::Resolver;

/// The names of the settings that name containers, with those of the ports behind them.
const CONTAINERS: [(&str, &str); 2] = [
    ("GLUETUN_CONTAINER_NAME", "GLUETUN_PORT_RANGE_1"),
    ("GLUETUN_CONTAINER_NAME_2", "GLUETUN_PORT_RANGE_2"),
];
/// The same for any number of them.
const LIST: &str = "GLUETUN_CONTAINER_NAMES";
const RANGES: &str = "GLUETUN_PORT_RANGES";
/// Where gluetun's control server listens when nobody says so: its own default, and that of the compose files.
const CONTROL_PORTS: [u16; 2] = [8000, 8001];

impl Resolver<'_> {
    pub(super) fn vpn(&self) -> Vpn {
        let names = self.vpn_containers();
        let mode = match (self.text("VPN_MODE"), names.len()) {
            ("single", _) | ("", 1) => VpnMode::Single,
            ("redundant", _) | ("", 2..) => VpnMode::Redundant,
            _ => VpnMode::Off,
        };
        let ranges = self.vpn_ranges(names.len());
        let tunnels =
            names.into_iter().zip(ranges).map(|(container, ports)| TunnelSettings { container, ports });
        let most = self.count("MAX_ACTIVE_REPLICAS");
        Vpn {
            mode,
            tunnels: tunnels.filter(|_| mode != VpnMode::Off).collect(),
            control_port: self.get("GLUETUN_API_PORT", |text| text.parse().ok()),
            credentials: self.gluetun_credentials(),
            check_interval: self.duration("GLUETUN_HEALTH_CHECK_INTERVAL_S"),
            port_ttl: self.duration("GLUETUN_PORT_CACHE_TTL_S"),
            restart_after: Some(self.duration("VPN_UNHEALTHY_RESTART_TIMEOUT_S"))
                .filter(|after| !after.is_zero()),
            most,
            host_addresses: self.get("HOST_PUBLIC_IP", value::addresses).unwrap_or_default(),
        }
    }

    /// In the order in which they are written.
    fn vpn_containers(&self) -> Vec<DockerName> {
        let single = CONTAINERS.iter().filter_map(|(name, _)| self.optional(name));
        let all = single.chain(value::list(self.text(LIST)));
        all.filter_map(|name| name.parse().ok()).collect()
    }

    /// As many ranges as tunnels: those that are written, and of `PORT_RANGE_HOST` an equal part for each without one.
    fn vpn_ranges(&self, tunnels: usize) -> Vec<PortRange> {
        let parts = self.range("PORT_RANGE_HOST").parts(tunnels);
        let listed: Vec<_> = value::list(self.text(RANGES)).map(value::ports).collect();
        let named = CONTAINERS.iter().filter(|(name, _)| self.optional(name).is_some());
        let named: Vec<_> = named.map(|(_, range)| self.get(range, value::ports)).collect();
        let written = named.into_iter().chain(listed).chain(std::iter::repeat(None));
        parts.into_iter().zip(written).map(|(part, written)| written.unwrap_or(part)).collect()
    }

    fn gluetun_credentials(&self) -> Credentials {
        let text = |name| self.optional(name).map(str::to_owned);
        match (text("GLUETUN_API_KEY"), text("GLUETUN_API_USER"), text("GLUETUN_API_PASSWORD")) {
            (Some(key), ..) => Credentials::ApiKey(key),
            (None, Some(username), Some(password)) => Credentials::Basic { username, password },
            _ => Credentials::None,
        }
    }

    pub(super) fn check_vpn(&mut self, config: &Config) {
        self.check_vpn_containers(&config.vpn);
        self.check_vpn_ports(config);
        self.check_gluetun_login();
        self.check_proxy(config);
        let is_on = config.vpn.mode != VpnMode::Off;
        let accepted = "docker with a VPN: engines that somebody else runs cannot be put behind one";
        let name =
            if self.optional("ENGINE_PROVISIONER").is_some() { "ENGINE_PROVISIONER" } else { "VPN_MODE" };
        self.require(name, !is_on || config.fleet.is_docker, accepted);
        let most = config.vpn.most;
        let accepted = format!("at most MAX_ACTIVE_REPLICAS with a VPN, which is {most}");
        let fits = config.fleet.min_replicas <= most || self.optional("MIN_REPLICAS").is_none();
        self.require("MIN_REPLICAS", !is_on || fits, &accepted);
    }

    fn check_vpn_containers(&mut self, vpn: &Vpn) {
        let names = self.vpn_containers();
        let distinct = names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        self.require(
            LIST,
            distinct || self.optional(LIST).is_none(),
            "containers that are named once in all",
        );
        let (holds, accepted) = match vpn.mode {
            VpnMode::Off => (true, ""),
            VpnMode::Single => (names.len() == 1, "one GLUETUN_CONTAINER_NAME with single"),
            VpnMode::Redundant => {
                (names.len() > 1 && distinct, "two different GLUETUN_CONTAINER_NAME and _2 with redundant")
            }
        };
        self.require("VPN_MODE", holds, accepted);
    }

    /// Ports of two VPNs may be published on the host beside each other, and gluetun has some of its own.
    fn check_vpn_ports(&mut self, config: &Config) {
        let ranges: Vec<_> = config.vpn.tunnels.iter().map(|tunnel| tunnel.ports).collect();
        let overlaps = |range: &PortRange| ranges.iter().filter(|other| other.overlaps(*range)).count() > 1;
        let name = if self.optional(RANGES).is_some() { RANGES } else { "GLUETUN_PORT_RANGE_2" };
        self.require(name, !ranges.iter().any(overlaps), "ranges of ports that do not overlap");
        self.check_ports_inside(config, &ranges);
        let app = config.listen.port;
        let apart = !ranges.iter().any(|range| range.contains(app));
        self.require("GLUETUN_PORT_RANGE_1", apart, &format!("a range without APP_PORT, which is {app}"));
    }

    /// Engines' HTTP and HTTPS ports and the control server's share one network.
    fn check_ports_inside(&mut self, config: &Config, ranges: &[PortRange]) {
        if ranges.is_empty() {
            return;
        }
        let https = config.fleet.https_ports;
        let is_written = |name: &&str| self.optional(name).is_some();
        let http_name = ["GLUETUN_PORT_RANGE_1", "GLUETUN_PORT_RANGE_2", RANGES].into_iter().find(is_written);
        let name =
            ["ACE_HTTPS_RANGE"].into_iter().find(is_written).or(http_name).unwrap_or("PORT_RANGE_HOST");
        let apart = !ranges.iter().any(|range| range.overlaps(https));
        self.require(name, apart, "ranges of engines' HTTP and HTTPS ports that do not overlap");
        let is_engines =
            |port: &u16| https.contains(*port) || ranges.iter().any(|range| range.contains(*port));
        if let Some(port) = config.vpn.control_port {
            let accepted = "a port outside of the ranges that engines have";
            self.require("GLUETUN_API_PORT", !is_engines(&port), accepted);
            return;
        }
        let accepted = "a range without gluetun's own 8000 and 8001, or set with GLUETUN_API_PORT";
        self.require(name, !CONTROL_PORTS.iter().any(is_engines), accepted);
    }

    fn check_gluetun_login(&mut self) {
        let has = |name| self.optional(name).is_some();
        let (key, user, password) =
            (has("GLUETUN_API_KEY"), has("GLUETUN_API_USER"), has("GLUETUN_API_PASSWORD"));
        self.require("GLUETUN_API_USER", !(key && user), "a user or a GLUETUN_API_KEY, not both");
        self.require("GLUETUN_API_USER", !user || password || key, "a user with a GLUETUN_API_PASSWORD");
        self.require("GLUETUN_API_PASSWORD", !password || user, "a password with a GLUETUN_API_USER");
    }

    fn check_proxy(&mut self, config: &Config) {
        if config.fleet.engine.proxy.is_none() {
            return;
        }
        let variant = config.fleet.engine.variant.unwrap_or_else(|| Variant::default_for(Platform::here()));
        let accepted = "set with ENGINE_VARIANT=outpace alone: no other engine knows proxies";
        self.require("ENGINE_PROXY", variant == Variant::Outpace, accepted);
        let accepted = "set without a VPN: engines behind one share its network and need no proxy";
        self.require("ENGINE_PROXY", config.vpn.mode == VpnMode::Off, accepted);
        let accepted = "set with engines that are created here: others are told by whoever runs them";
        self.require("ENGINE_PROXY", config.fleet.is_docker, accepted);
    }
}

/// Settings of VPNs that do less than somebody may think.
pub(super) fn warnings(written: &Written, config: &Config) -> Vec<String> {
    let has = |name: &str| written.entry(name).is_some();
    let mut warnings = Vec::new();
    let named = CONTAINERS.iter().map(|(name, _)| *name).chain([LIST]).find(|name| has(name));
    if let (VpnMode::Off, Some(name)) = (config.vpn.mode, named) {
        warnings.push(format!("{name} is set and VPN_MODE=off: engines use this machine's own address"));
    }
    if config.vpn.mode == VpnMode::Off {
        return warnings;
    }
    if config.fleet.map_https {
        warnings.push("ACE_MAP_HTTPS has no effect behind a VPN: its container publishes ports".into());
    }
    if config.fleet.max_replicas > config.vpn.most {
        let most = config.vpn.most;
        warnings.push(format!(
            "MAX_ACTIVE_REPLICAS={most} engines are allowed behind VPNs, fewer than MAX_REPLICAS"
        ));
    }
    let ports: usize = config.vpn.tunnels.iter().map(|tunnel| tunnel.ports.len()).sum();
    // One each: HTTPS and peers have ranges of their own.
    let engines = config.fleet.min_replicas;
    if ports < engines {
        warnings
            .push(format!("the ranges of the VPNs have {ports} ports for MIN_REPLICAS={engines} engines"));
    }
    warnings
}
