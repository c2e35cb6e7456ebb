//! What engines hide behind: the settings of VPNs and of proxies, and which of them contradict each other.

use acemux_fleet::ident::DockerName;
use acemux_fleet::profile::{Platform, Variant};
use acemux_fleet::tunnel::gluetun::Credentials;

use super::super::setting::{Item, Optional};
use super::super::settings::fleet::{ACE_HTTPS_RANGE, ENGINE_PROVISIONER, MIN_REPLICAS, PORT_RANGE_HOST};
use super::super::settings::vpn::{
    ENGINE_PROXY, GLUETUN_API_KEY, GLUETUN_API_PASSWORD, GLUETUN_API_PORT, GLUETUN_API_USER,
    GLUETUN_CONTAINER_NAME, GLUETUN_CONTAINER_NAME_2, GLUETUN_CONTAINER_NAMES,
    GLUETUN_HEALTH_CHECK_INTERVAL_S, GLUETUN_PORT_CACHE_TTL_S, GLUETUN_PORT_RANGE_1, GLUETUN_PORT_RANGE_2,
    GLUETUN_PORT_RANGES, HOST_PUBLIC_IP, MAX_ACTIVE_REPLICAS, VPN_MODE, VPN_UNHEALTHY_RESTART_TIMEOUT_S,
};
use super::super::{Config, PortRange, TunnelSettings, Vpn, VpnMode, Written};
use super::Resolver;

/// The settings that name one container each, with those of the ports behind them.
static CONTAINERS: [(&Optional<DockerName>, &Optional<PortRange>); 2] =
    [(&GLUETUN_CONTAINER_NAME, &GLUETUN_PORT_RANGE_1), (&GLUETUN_CONTAINER_NAME_2, &GLUETUN_PORT_RANGE_2)];
/// Where gluetun's control server listens when nobody says so: its own default, and that of the compose files.
const CONTROL_PORTS: [u16; 2] = [8000, 8001];

impl Resolver<'_> {
    pub(super) fn vpn(&self) -> Vpn {
        let names = self.vpn_containers();
        let mode = self.get(&VPN_MODE).unwrap_or(match names.len() {
            0 => VpnMode::Off,
            1 => VpnMode::Single,
            _ => VpnMode::Redundant,
        });
        let ranges = self.vpn_ranges(names.len());
        let tunnels =
            names.into_iter().zip(ranges).map(|(container, ports)| TunnelSettings { container, ports });
        Vpn {
            mode,
            tunnels: tunnels.filter(|_| mode != VpnMode::Off).collect(),
            control_port: self.get(&GLUETUN_API_PORT),
            credentials: self.gluetun_credentials(),
            check_interval: self.get(&GLUETUN_HEALTH_CHECK_INTERVAL_S),
            port_ttl: self.get(&GLUETUN_PORT_CACHE_TTL_S),
            restart_after: Some(self.get(&VPN_UNHEALTHY_RESTART_TIMEOUT_S)).filter(|after| !after.is_zero()),
            most: self.get(&MAX_ACTIVE_REPLICAS),
            host_addresses: self.get(&HOST_PUBLIC_IP).unwrap_or_default(),
        }
    }

    /// In the order in which they are written.
    fn vpn_containers(&self) -> Vec<DockerName> {
        let single = CONTAINERS.iter().filter_map(|(name, _)| self.get(*name));
        single.chain(self.get(&GLUETUN_CONTAINER_NAMES).unwrap_or_default()).collect()
    }

    /// As many ranges as tunnels: those that are written, and of `PORT_RANGE_HOST` an equal part for each without one.
    fn vpn_ranges(&self, tunnels: usize) -> Vec<PortRange> {
        let parts = self.get(&PORT_RANGE_HOST).parts(tunnels);
        let named = CONTAINERS.iter().filter(|(name, _)| self.is_written(*name));
        let named = named.map(|(_, range)| self.get(*range));
        let listed = self.get(&GLUETUN_PORT_RANGES).unwrap_or_default().into_iter().map(Some);
        let written = named.chain(listed).chain(std::iter::repeat(None));
        parts.into_iter().zip(written).map(|(part, written)| written.unwrap_or(part)).collect()
    }

    fn gluetun_credentials(&self) -> Credentials {
        let key = self.get(&GLUETUN_API_KEY).map(|key| key.reveal().clone());
        let password = self.get(&GLUETUN_API_PASSWORD).map(|password| password.reveal().clone());
        match (key, self.get(&GLUETUN_API_USER), password) {
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
        let name: &dyn Item =
            if self.is_written(&ENGINE_PROVISIONER) { &ENGINE_PROVISIONER } else { &VPN_MODE };
        self.require(name, !is_on || config.fleet.is_docker, accepted);
        let most = config.vpn.most;
        let accepted = format!("at most MAX_ACTIVE_REPLICAS with a VPN, which is {most}");
        let fits = config.fleet.min_replicas <= most || !self.is_written(&MIN_REPLICAS);
        self.require(&MIN_REPLICAS, !is_on || fits, &accepted);
    }

    fn check_vpn_containers(&mut self, vpn: &Vpn) {
        let names = self.vpn_containers();
        let distinct = names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        self.require(
            &GLUETUN_CONTAINER_NAMES,
            distinct || !self.is_written(&GLUETUN_CONTAINER_NAMES),
            "containers that are named once in all",
        );
        let (holds, accepted) = match vpn.mode {
            VpnMode::Off => (true, ""),
            VpnMode::Single => (names.len() == 1, "one GLUETUN_CONTAINER_NAME with single"),
            VpnMode::Redundant => {
                (names.len() > 1 && distinct, "two different GLUETUN_CONTAINER_NAME and _2 with redundant")
            }
        };
        self.require(&VPN_MODE, holds, accepted);
    }

    /// Ports of two VPNs may be published on the host beside each other, and gluetun has some of its own.
    fn check_vpn_ports(&mut self, config: &Config) {
        let ranges: Vec<_> = config.vpn.tunnels.iter().map(|tunnel| tunnel.ports).collect();
        let overlaps = |range: &PortRange| ranges.iter().filter(|other| other.overlaps(*range)).count() > 1;
        let name: &dyn Item =
            if self.is_written(&GLUETUN_PORT_RANGES) { &GLUETUN_PORT_RANGES } else { &GLUETUN_PORT_RANGE_2 };
        self.require(name, !ranges.iter().any(overlaps), "ranges of ports that do not overlap");
        self.check_ports_inside(config, &ranges);
        let app = config.listen.port;
        let apart = !ranges.iter().any(|range| range.contains(app));
        self.require(&GLUETUN_PORT_RANGE_1, apart, &format!("a range without APP_PORT, which is {app}"));
    }

    /// Engines' HTTP and HTTPS ports and the control server's share one network.
    fn check_ports_inside(&mut self, config: &Config, ranges: &[PortRange]) {
        if ranges.is_empty() {
            return;
        }
        let https = config.fleet.https_ports;
        let of_engines: [&dyn Item; 4] =
            [&ACE_HTTPS_RANGE, &GLUETUN_PORT_RANGE_1, &GLUETUN_PORT_RANGE_2, &GLUETUN_PORT_RANGES];
        let name = of_engines.into_iter().find(|name| self.is_written(*name)).unwrap_or(&PORT_RANGE_HOST);
        let apart = !ranges.iter().any(|range| range.overlaps(https));
        self.require(name, apart, "ranges of engines' HTTP and HTTPS ports that do not overlap");
        let is_engines =
            |port: &u16| https.contains(*port) || ranges.iter().any(|range| range.contains(*port));
        if let Some(port) = config.vpn.control_port {
            let accepted = "a port outside of the ranges that engines have";
            self.require(&GLUETUN_API_PORT, !is_engines(&port), accepted);
            return;
        }
        let accepted = "a range without gluetun's own 8000 and 8001, or set with GLUETUN_API_PORT";
        self.require(name, !CONTROL_PORTS.iter().any(is_engines), accepted);
    }

    fn check_gluetun_login(&mut self) {
        let key = self.is_written(&GLUETUN_API_KEY);
        let user = self.is_written(&GLUETUN_API_USER);
        let password = self.is_written(&GLUETUN_API_PASSWORD);
        self.require(&GLUETUN_API_USER, !(key && user), "a user or a GLUETUN_API_KEY, not both");
        self.require(&GLUETUN_API_USER, !user || password || key, "a user with a GLUETUN_API_PASSWORD");
        self.require(&GLUETUN_API_PASSWORD, !password || user, "a password with a GLUETUN_API_USER");
    }

    fn check_proxy(&mut self, config: &Config) {
        if config.fleet.engine.proxy.is_none() {
            return;
        }
        let variant = config.fleet.engine.variant.unwrap_or_else(|| Variant::default_for(Platform::here()));
        let accepted = "set with ENGINE_VARIANT=outpace alone: no other engine knows proxies";
        self.require(&ENGINE_PROXY, variant == Variant::Outpace, accepted);
        let accepted = "set without a VPN: engines behind one share its network and need no proxy";
        self.require(&ENGINE_PROXY, config.vpn.mode == VpnMode::Off, accepted);
        let accepted = "set with engines that are created here: others are told by whoever runs them";
        self.require(&ENGINE_PROXY, config.fleet.is_docker, accepted);
    }
}

/// Settings of VPNs that do less than somebody may think.
pub(in crate::config) fn warnings(written: &Written, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let containers: [&dyn Item; 3] =
        [&GLUETUN_CONTAINER_NAME, &GLUETUN_CONTAINER_NAME_2, &GLUETUN_CONTAINER_NAMES];
    let named = containers.into_iter().find(|name| written.entry(*name).is_some());
    if let (VpnMode::Off, Some(name)) = (config.vpn.mode, named) {
        let name = name.name();
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
