//! What deserves a warning, though it is accepted.

use std::net::IpAddr;

use super::raw::Written;
use super::resolve::{self, KNOWN_KEYS};
use super::settings::fleet::{DOCKER_HOST, ENGINE_CAPABILITIES};
use super::settings::ignored::{IGNORED, Ignored};
use super::settings::service::API_KEY;
use super::settings::streams::{COPY_CHUNK_SIZE, LARGEST_CHUNK};
use super::{Config, PortRange, SHORTEST_KEY};

/// Below it, ports are given to programs with a right to them.
const FIRST_UNPRIVILEGED: u16 = 1024;

pub(super) fn all(written: &Written, config: &Config) -> Vec<String> {
    let mut warnings = written.notices.clone();
    warnings.extend(without_meaning(written));
    warnings.extend(resolve::vpn::warnings(written, config));
    warnings.extend(known_key(written));
    warnings.extend(weak_key(config));
    warnings.extend(limits_at_odds(written, config));
    warnings.extend(ports_at_risk(config));
    warnings.extend(low_ports(config));
    warnings.extend(wide_proxies(config));
    warnings.extend(capabilities_at_risk(written, config));
    warnings.extend(bare_image(config));
    warnings.extend(open_daemon(written));
    warnings
}

fn without_meaning(written: &Written) -> impl Iterator<Item = String> {
    let is_written = |name: &Ignored| written.has_ignored(name);
    IGNORED
        .iter()
        .filter(move |name| is_written(name))
        .map(|Ignored { name, why }| format!("{name} has no meaning here: {why}"))
}

fn known_key(written: &Written) -> Option<String> {
    let key = written.get(&API_KEY).filter(|key| KNOWN_KEYS.contains(&key.reveal().as_str()));
    key.map(|_| "API_KEY is the one of a printed example and counts as none, because everybody knows it: one is made instead".into())
}

fn weak_key(config: &Config) -> Option<String> {
    let key = config.api_key.as_ref()?.reveal();
    (key.len() < SHORTEST_KEY).then(|| {
        format!("API_KEY is shorter than {SHORTEST_KEY} characters and opens nothing: pages that need it stay closed")
    })
}

/// Settings of which one makes another smaller than it says.
fn limits_at_odds(written: &Written, config: &Config) -> Vec<String> {
    let (streams, viewers) = (&config.streams, &config.viewers);
    let mut warnings = Vec::new();
    if written.get(&COPY_CHUNK_SIZE) > LARGEST_CHUNK {
        warnings.push("COPY_CHUNK_SIZE above 64 KiB means 64 KiB: larger chunks gain nothing".into());
    }
    if streams.join_burst > streams.buffer_seconds / 2 {
        warnings.push("JOIN_BURST is cut to half of STREAM_BUFFER_SECONDS".into());
    }
    if streams.buffer_bytes > streams.memory {
        warnings.push("STREAM_BUFFER_SIZE is cut to STREAM_MEMORY".into());
    }
    let connections = config.listen.max_connections;
    if connections < viewers.max {
        warnings.push(format!("MAX_CONNECTIONS={connections} lets no more viewers than that connect"));
    }
    warnings
}

fn ports_at_risk(config: &Config) -> Option<String> {
    let ports = Some(config.fleet.ports).filter(|_| config.fleet.is_docker);
    let PortRange { first, last } = ports.filter(|ports| overlaps_ephemeral(*ports))?;
    let risk = "is inside the kernel's ephemeral range, whose ports are not used for engines";
    Some(format!("PORT_RANGE_HOST={first}-{last} {risk}"))
}

fn low_ports(config: &Config) -> Option<String> {
    let first = Some(config.fleet.ports.first)
        .filter(|first| config.fleet.is_docker && *first < FIRST_UNPRIVILEGED)?;
    Some(format!(
        "PORT_RANGE_HOST begins at {first}: ports below {FIRST_UNPRIVILEGED} belong to the machine's own services"
    ))
}

/// Whoever is in such a network says which address he has, and so passes by every limit by address.
fn wide_proxies(config: &Config) -> Option<String> {
    let wide: Vec<String> =
        config.viewers.trusted_proxies.wide().map(|network| network.to_string()).collect();
    (!wide.is_empty()).then(|| {
        format!(
            "TRUSTED_PROXIES trusts {}, where strangers are: each of them can claim any address; name the proxies alone",
            wide.join(", ")
        )
    })
}

fn capabilities_at_risk(written: &Written, config: &Config) -> Vec<String> {
    let engine = &config.fleet.engine;
    let unknown = written.get(&ENGINE_CAPABILITIES).unwrap_or_default().unknown;
    let unusual: Vec<&str> = engine
        .capabilities
        .iter()
        .filter(|capability| capability.is_unusual())
        .map(|capability| capability.as_str())
        .collect();
    let mut warnings = Vec::new();
    if unknown > 0 {
        warnings.push(format!(
            "ENGINE_CAPABILITIES has {unknown} name(s) of no Linux capability, which engines do not get"
        ));
    }
    if !unusual.is_empty() {
        warnings.push(format!(
            "ENGINE_CAPABILITIES leaves {} to engines, more than Docker gives to any container: an engine that is taken \
             over can take over this machine",
            unusual.join(", ")
        ));
    }
    warnings
}

fn bare_image(config: &Config) -> Option<String> {
    let image =
        config.fleet.engine.image.as_ref().filter(|image| config.fleet.is_docker && image.is_bare())?;
    Some(format!(
        "ENGINE_IMAGE={image} names neither registry nor owner: where this machine has no such image, one of that name is \
         pulled from Docker's own"
    ))
}

/// Neither encrypted nor asked for a key. A name without a dot is a neighbour's in a network of Docker's own, as a socket
/// proxy has it.
fn open_daemon(written: &Written) -> Option<String> {
    let host = written.get(&DOCKER_HOST)?;
    let rest = ["tcp://", "http://"].into_iter().find_map(|scheme| host.strip_prefix(scheme))?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let is_near = host.parse::<IpAddr>().map_or(!host.contains('.'), |address| address.is_loopback());
    (!is_near).then(|| {
        "DOCKER_HOST is asked over a network without TLS: whoever is in it or can reach that port is root on that machine"
            .into()
    })
}

fn overlaps_ephemeral(ports: PortRange) -> bool {
    let Ok(range) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return false };
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    matches!((bounds.next(), bounds.next()), (Some(low), Some(high)) if ports.last >= low && ports.first <= high)
}
