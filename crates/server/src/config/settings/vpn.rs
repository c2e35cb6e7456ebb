//! What engines hide behind.

use std::net::IpAddr;
use std::time::Duration;

use acemux_fleet::ident::DockerName;
use acemux_fleet::proxy::Proxy;

use super::super::format::{
    Choice, Containers, Counts, Durations, Key, Parsed, Port, PortLists, Ports, PublicAddresses, Text,
};
use super::super::setting::{Optional, Setting, settings};
use super::super::{PortRange, Secret, VpnMode};
use super::fleet::DOCKER;

const MODES: Choice<VpnMode> =
    Choice::of(&[("off", VpnMode::Off), ("single", VpnMode::Single), ("redundant", VpnMode::Redundant)]);

const PROXY: Parsed<Proxy> = Parsed::new("socks5://host:port or socks5://user:password@host:port").hidden();

settings! { "VPN":
    /// Whether engines run behind gluetun, and behind how many; when not set, by how many containers are named.
    VPN_MODE: Optional<VpnMode> = new(&MODES);

    /// The VPN container.
    GLUETUN_CONTAINER_NAME: Optional<DockerName> = new(&DOCKER);

    /// The second VPN container.
    GLUETUN_CONTAINER_NAME_2: Optional<DockerName> = new(&DOCKER);

    /// VPN containers beside these, any number of them.
    GLUETUN_CONTAINER_NAMES: Optional<Vec<DockerName>> = new(&Containers);

    /// Port of gluetun's control server inside its container; when not set, the one of its HTTP_CONTROL_SERVER_ADDRESS.
    GLUETUN_API_PORT: Optional<u16> = new(&Port);

    /// Key for the control server (X-API-Key); when not set, the one of the container's
    /// HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE. GLUETUN_API_KEY_FILE names a file to read it from.
    GLUETUN_API_KEY: Optional<Secret<String>> = new(&Key);

    /// User for the control server, where it has basic authentication.
    GLUETUN_API_USER: Optional<String> = new(&Text);

    /// That user's password. GLUETUN_API_PASSWORD_FILE names a file to read it from.
    GLUETUN_API_PASSWORD: Optional<Secret<String>> = new(&Key);

    /// Between two looks at a VPN; while something is wrong it is looked at every second.
    GLUETUN_HEALTH_CHECK_INTERVAL_S: Setting<Duration> =
        new(&Durations::from_ms(1_000), || Duration::from_secs(5));

    /// How long a forwarded port and an exit's address stay unasked while nothing happens, at most 30 s.
    GLUETUN_PORT_CACHE_TTL_S: Setting<Duration> = new(&Durations::ANY, || Duration::from_mins(1));

    /// Engine ports behind the first VPN; when not set, its part of PORT_RANGE_HOST.
    GLUETUN_PORT_RANGE_1: Optional<PortRange> = new(&Ports);

    /// Engine ports behind the second VPN.
    GLUETUN_PORT_RANGE_2: Optional<PortRange> = new(&Ports);

    /// Engine ports behind those of GLUETUN_CONTAINER_NAMES, in their order.
    GLUETUN_PORT_RANGES: Optional<Vec<PortRange>> = new(&PortLists);

    /// How long a VPN may be down before its container is restarted, once until it was up again; 0 means never.
    VPN_UNHEALTHY_RESTART_TIMEOUT_S: Setting<Duration> =
        new(&Durations::from_ms(10_000).or_never(), || Duration::from_mins(1)).at_once();

    /// Engines allowed behind VPNs.
    MAX_ACTIVE_REPLICAS: Setting<usize> = new(&Counts::from(1), || 20).at_once();

    /// This machine's public addresses, for the leak check of /vpn/status: no third party is asked for them.
    HOST_PUBLIC_IP: Optional<Vec<IpAddr>> = new(&PublicAddresses);

    /// SOCKS5 proxy that outpace engines reach the swarm through, instead of a VPN's network; ENGINE_VARIANT=outpace
    /// from 1.2.0 on.
    ENGINE_PROXY: Optional<Proxy> = new(&PROXY);
}
