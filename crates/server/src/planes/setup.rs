//! The control plane, put together from the settings: what engines are made from, how many there should be, and who
//! takes note of what happens to them.

use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Limit;
use acemux_fleet::allowed::HostPorts;
use acemux_fleet::dispatch::{DispatchOptions, Engines, Outlook};
use acemux_fleet::docker::{Docker, DockerOptions};
use acemux_fleet::event::Observer;
use acemux_fleet::fleet::{Fleet, FleetOptions, FleetTask, Vpn};
use acemux_fleet::ident::{DockerName, InstanceId};
use acemux_fleet::plan::Policy;
use acemux_fleet::profile::{Platform, Profile, Variant};
use acemux_fleet::provisioner::{ProvisionError, Provisioner};
use acemux_fleet::recipe::{Reach, Recipe};
use acemux_fleet::runaway::RunawayRule;
use acemux_fleet::spec::{Limits, Network};
use acemux_fleet::tunnel::Tunnel;
use acemux_fleet::tunnel::gluetun::{Gluetun, Settings};
use acemux_fleet::tunnel::proxied::Proxied;
use acemux_relay::RelayConfig;
use acemux_relay::output::hls::HlsOptions;
use acemux_relay::session::state::Timings;

use crate::config::{Config, TunnelSettings};
use crate::http::serve::ServeOptions;

/// The network that is created when none is named.
const OWN_NETWORK: &str = "acemux";

/// Media time that a stream's history holds at any bit rate, if `STREAM_BUFFER_SIZE` is not chosen: three target durations
/// of HLS, and a little more.
const RING_FLOOR: Duration = Duration::from_secs(20);

/// An engine may be silent for the whole budget of a start; the session's own deadline must come first, because it says
/// what was waited for.
const GRACE: Duration = Duration::from_secs(4);

/// The engines that streams may use, those of `ENGINES` first. Must be called in the runtime.
pub fn engines(config: &Config, journal: Option<Arc<dyn acemux_engine::Journal>>) -> Arc<Engines> {
    let start = start_limit(config);
    let options = DispatchOptions {
        slots: config.engines.max_streams_per_engine,
        misses_allowed: u32::try_from(config.fleet.failure_threshold).unwrap_or(u32::MAX),
        selection: Limit::new(config.engines.selection_timeout),
        startup: Limit::new(config.engines.startup_timeout),
        timings: acemux_engine::Timings { start: Limit::new(start), ..acemux_engine::Timings::default() },
        journal,
    };
    Engines::new(&config.engines.external, options, Outlook::Static)
}

/// How long a start call may take.
fn start_limit(config: &Config) -> Duration {
    config.streams.empty_stream_timeout + GRACE
}

/// Has engines wait as long as the settings say now.
pub(crate) fn retime(engines: &Engines, config: &Config) {
    let DispatchOptions { selection, startup, timings, .. } = engines.options();
    selection.set(config.engines.selection_timeout);
    startup.set(config.engines.startup_timeout);
    timings.start.set(start_limit(config));
}

/// This machine's Docker.
pub fn docker(config: &Config, instance: InstanceId) -> Result<Docker, ProvisionError> {
    Docker::new(DockerOptions { host: config.fleet.docker_host.clone(), instance })
}

/// Whether the settings ask for the custom variant.
pub fn is_custom(config: &Config) -> bool {
    config.fleet.engine.variant == Some(Variant::Custom)
}

/// How gluetun containers are looked at.
pub fn gluetun_settings(config: &Config) -> Settings {
    Settings {
        control_port: config.vpn.control_port,
        credentials: config.vpn.credentials.clone(),
        interval: config.vpn.check_interval,
        port_ttl: config.vpn.port_ttl,
    }
}

/// The VPNs that engines hide behind: none when `VPN_MODE` is off.
pub fn vpns(config: &Config, provisioner: &Arc<dyn Provisioner>, engines: &Arc<Engines>) -> Vec<Vpn> {
    let settings = gluetun_settings(config);
    let vpn = |one: &TunnelSettings| Vpn {
        tunnel: Arc::new(Gluetun::new(
            one.container.clone(),
            settings.clone(),
            Arc::clone(provisioner),
            Arc::clone(engines),
        )),
        ports: HostPorts::new(one.ports.range()),
    };
    config.vpn.tunnels.iter().map(vpn).collect()
}

/// The proxy that engines are behind (`ENGINE_PROXY`), if they are.
pub fn proxy(config: &Config, engines: &Arc<Engines>) -> Option<Arc<dyn Tunnel>> {
    let proxy = config.fleet.engine.proxy.clone()?;
    Some(Arc::new(Proxied::new(proxy, config.vpn.check_interval, Arc::clone(engines))))
}

/// The fleet on a provisioner, behind these VPNs. `floor` is what `POST /scale` asked an earlier run for.
pub fn fleet(
    config: &Config,
    recipe: Recipe,
    vpns: Vec<Vpn>,
    floor: Option<usize>,
    engines: Arc<Engines>,
    provisioner: Arc<dyn Provisioner>,
    observer: Arc<dyn Observer>,
) -> (Fleet, FleetTask) {
    let settings = &config.fleet;
    let options = FleetOptions {
        policy: policy(config, recipe.fingerprint()),
        recipe,
        ports: HostPorts::new(settings.ports.range()),
        vpns,
        https_ports: HostPorts::new(settings.https_ports.range()),
        monitor: settings.monitor,
        growth: settings.growth,
        replacement: settings.replacement,
        stop_on_exit: settings.stop_on_exit,
        runaway: RunawayRule::default(),
        run: format!("{:016x}", rand::random::<u64>()),
        floor,
    };
    Fleet::new(options, engines, provisioner, observer)
}

/// How many engines there are to be, and when one is given up.
pub(crate) fn policy(config: &Config, recipe: String) -> Policy {
    let settings = &config.fleet;
    let most = if is_behind_vpn(config) { config.vpn.most } else { usize::MAX };
    let max = settings.max_replicas.min(most);
    Policy {
        min: settings.min_replicas.min(max),
        max,
        min_free: settings.min_free_replicas,
        slots: config.engines.max_streams_per_engine,
        idle_grace: settings.idle_grace,
        auto_delete: settings.auto_delete,
        unhealthy_grace: settings.unhealthy_grace,
        startup: config.engines.startup_timeout,
        concurrent: settings.concurrent,
        interval: settings.interval,
        max_age: settings.engine.max_age,
        max_memory: settings.engine.max_memory.map(|bytes| bytes as u64),
        recipe,
        restart_vpn_after: config.vpn.restart_after,
    }
}

fn is_behind_vpn(config: &Config) -> bool {
    !config.vpn.tunnels.is_empty()
}

/// How streams are kept.
pub(crate) fn relay(config: &Config) -> RelayConfig {
    let streams = &config.streams;
    RelayConfig {
        timings: Timings {
            start_budget: streams.empty_stream_timeout,
            hedge: streams.hedge_after,
            stall: streams.stall_timeout,
            idle: streams.idle_timeout,
            hold: streams.hold_timeout,
            abandon: Duration::from_secs(1),
        },
        hls: HlsOptions { idle: config.viewers.hls_timeout },
        chunk_bytes: streams.chunk_bytes,
        join_burst: streams.join_burst,
        ring_media: streams.buffer_seconds,
        ring_bytes: streams.buffer_bytes,
        ring_floor: if streams.buffer_is_chosen { Duration::ZERO } else { RING_FLOOR },
        memory: streams.memory,
        most_viewers: config.viewers.max,
        most_viewers_per_address: config.viewers.per_ip,
    }
}

/// How connections are served.
pub(crate) fn serving(config: &Config) -> ServeOptions {
    let viewers = &config.viewers;
    ServeOptions {
        header_timeout: config.listen.header_timeout,
        stall_timeout: viewers.stall_timeout,
        send_buffer: viewers.sndbuf,
        max_connections: config.listen.max_connections,
        loopback_places: config.listen.loopback_places,
        leaving: config.listen.doorway.div_ceil(2),
        draining: config.listen.doorway / 2,
        max_connections_per_ip: viewers.per_ip + PAGES_PER_ADDRESS,
        trusted_proxies: viewers.trusted_proxies.clone(),
        drain_timeout: config.listen.drain_timeout,
        ..ServeOptions::default()
    }
}

/// Connections for pages that one address may have beside its viewers.
const PAGES_PER_ADDRESS: usize = 64;

/// The networks of the container that we run in, if we do, that of the engines among them: over it they are reached by name.
/// Behind a VPN they are in its container's network.
pub async fn own_networks(config: &Config, docker: &Docker) -> Option<Vec<DockerName>> {
    let mut own = docker.own_networks().await?;
    let network = network(config, &own);
    if let Network::Named { name, .. } = &network
        && !is_behind_vpn(config)
        && !own.contains(name)
    {
        match docker.join(&network).await {
            Ok(()) => {
                tracing::info!(network = name.as_str(), "this container is in the engines' network now");
                own.push(name.clone());
            }
            Err(error) => tracing::warn!(
                network = name.as_str(),
                %error,
                "this container cannot be put into the engines' network: engines cannot be reached"
            ),
        }
    }
    Some(own)
}

/// Where engines are: in the network that is named, in one of these, or in our own.
fn network(config: &Config, shared: &[DockerName]) -> Network {
    match config.fleet.network.as_ref().or_else(|| shared.first()) {
        Some(name) if name.as_str() == "host" => Network::Host,
        Some(name) => Network::Named { own: name.as_str() == OWN_NETWORK, name: name.clone() },
        None => Network::Named { name: OWN_NETWORK.parse().expect("it is one word"), own: true },
    }
}

/// What engines are made from. When we run in a container ourselves (`own_networks` are its networks), engines are
/// reached by name over a network that we share; otherwise their ports are published on this host.
pub fn recipe(config: &Config, instance: InstanceId, own_networks: Option<&[DockerName]>) -> Recipe {
    let (settings, engine) = (&config.fleet, &config.fleet.engine);
    let platform = Platform::here();
    let variant = engine.variant.unwrap_or_else(|| Variant::default_for(platform));
    if let (Err(error), None) = (variant.fits(platform), &engine.image) {
        tracing::warn!(%error, "ENGINE_VARIANT does not suit this machine");
    }
    let reach = if own_networks.is_some() { Reach::ByName } else { Reach::Published };
    let network = network(config, own_networks.unwrap_or_default());
    Recipe {
        profile: match &engine.proxy {
            Some(proxy) => Profile::of(variant, &engine.arm_tags).through(proxy),
            None => Profile::of(variant, &engine.arm_tags),
        },
        image: engine.image.clone(),
        limits: Limits {
            memory: engine.memory.map(|bytes| bytes as u64),
            nano_cpus: engine.nano_cpus,
            pids: i64::try_from(engine.pids).unwrap_or(i64::MAX),
            capabilities: engine.capabilities.clone(),
            new_privileges: engine.new_privileges,
            ..Limits::default()
        },
        read_only: !engine.writable_root,
        network,
        behind_vpn: is_behind_vpn(config),
        reach,
        map_https: settings.map_https,
        label: settings.label.clone(),
        instance,
    }
}
