//! The settings as the program has them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Endpoint;
use acemux_fleet::allowed::OperatorLabel;
use acemux_fleet::capability::Capability;
use acemux_fleet::ident::{DockerName, InstanceId};
use acemux_fleet::image::ImageRef;
use acemux_fleet::profile::{ArmTags, Variant};
use acemux_fleet::proxy::Proxy;
use acemux_fleet::tunnel::gluetun::Credentials;

use super::raw::Written;
use super::secret::Secret;
use super::value::{ListenHost, PortRange};
use crate::http::client::TrustedProxies;
use crate::planes::loops::Rules;

/// Every setting, checked and typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The service's own socket.
    pub listen: Listen,
    /// How streams are kept.
    pub streams: Streams,
    /// When a channel counts as looping.
    pub loops: Rules,
    /// Who may watch.
    pub viewers: Viewers,
    /// Engines that already run.
    pub engines: EngineSettings,
    /// Engines to be created.
    pub fleet: Fleet,
    /// What engines hide behind.
    pub vpn: Vpn,
    /// `DB_PATH`; `:memory:` keeps nothing.
    pub db_path: PathBuf,
    /// `EVENT_RETENTION`.
    pub event_retention: Duration,
    /// `API_KEY`, unless it is one that everybody knows.
    pub api_key: Option<Secret<String>>,
    /// `OPERATOR_WITHOUT_KEY`.
    pub without_key: WithoutKey,
    /// `ALLOWED_HOSTS`.
    pub allowed_hosts: Vec<String>,
    /// What is logged.
    pub log: Log,
    /// What it was read from. Settings that are changed while the service runs are read from it anew.
    pub written: Arc<Written>,
}

/// Who needs no key while none is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutKey {
    /// Nobody.
    Nobody,
    /// Who sits at this machine and came through no proxy.
    Loopback,
}

/// The service's own socket.
#[derive(Clone, Debug)]
pub struct Listen {
    /// `APP_HOST`.
    pub host: ListenHost,
    /// `APP_PORT`; 0 picks a free one.
    pub port: u16,
    /// `HEADER_TIMEOUT`.
    pub header_timeout: Duration,
    /// `DRAIN_TIMEOUT`.
    pub drain_timeout: Duration,
    /// `MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// Connections from this machine beside these. No setting: as many as descriptors are enough for.
    pub loopback_places: usize,
    /// Sockets of strangers without a place. No setting: as many as descriptors are enough for.
    pub doorway: usize,
    /// Files that may be open, if that was asked for: limits are kept within it ([`crate::http::limits::fitted`]).
    pub descriptors: Option<u64>,
}

/// How streams are kept.
#[derive(Clone, Debug)]
pub struct Streams {
    /// `EMPTY_STREAM_TIMEOUT`.
    pub empty_stream_timeout: Duration,
    /// `STREAM_IDLE_TIMEOUT`.
    pub idle_timeout: Duration,
    /// `STREAM_BUFFER_SECONDS`, in media time.
    pub buffer_seconds: Duration,
    /// `STREAM_BUFFER_SIZE`, in bytes.
    pub buffer_bytes: usize,
    /// Whether that was chosen: then fast streams get no more.
    pub buffer_is_chosen: bool,
    /// `COPY_CHUNK_SIZE`, in bytes, at most 64 KiB.
    pub chunk_bytes: usize,
    /// `JOIN_BURST`, in media time.
    pub join_burst: Duration,
    /// `HEDGE_AFTER`.
    pub hedge_after: Duration,
    /// `STALL_TIMEOUT`.
    pub stall_timeout: Duration,
    /// `HOLD_TIMEOUT`.
    pub hold_timeout: Duration,
    /// `STREAM_MEMORY`, in bytes.
    pub memory: usize,
}

/// Who may watch.
#[derive(Clone, Debug)]
pub struct Viewers {
    /// `MAX_VIEWERS`.
    pub max: usize,
    /// `MAX_VIEWERS_PER_IP`.
    pub per_ip: usize,
    /// `HLS_VIEWER_TIMEOUT`.
    pub hls_timeout: Duration,
    /// `VIEWER_STALL_TIMEOUT`; `None` is never.
    pub stall_timeout: Option<Duration>,
    /// `TRUSTED_PROXIES`.
    pub trusted_proxies: TrustedProxies,
    /// `VIEWER_SNDBUF`, in bytes.
    pub sndbuf: usize,
}

/// Engines that already run.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// `ENGINES`, or acexy's `ACEXY_HOST` and `ACEXY_PORT`.
    pub external: Vec<Endpoint>,
    /// `MAX_STREAMS_PER_ENGINE`.
    pub max_streams_per_engine: usize,
    /// `ENGINE_SELECTION_TIMEOUT`.
    pub selection_timeout: Duration,
    /// `STARTUP_TIMEOUT_S`.
    pub startup_timeout: Duration,
}

/// Engines to be created.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, true or false")]
pub struct Fleet {
    /// `ENGINE_PROVISIONER`: whether Docker creates engines.
    pub is_docker: bool,
    /// `MIN_REPLICAS`.
    pub min_replicas: usize,
    /// `MAX_REPLICAS`.
    pub max_replicas: usize,
    /// `MIN_FREE_REPLICAS`.
    pub min_free_replicas: usize,
    /// `AUTO_DELETE`.
    pub auto_delete: bool,
    /// `ENGINE_GRACE_PERIOD_S`.
    pub idle_grace: Duration,
    /// `PORT_RANGE_HOST`.
    pub ports: PortRange,
    /// `ACE_HTTPS_RANGE`.
    pub https_ports: PortRange,
    /// `ACE_MAP_HTTPS`.
    pub map_https: bool,
    /// `MAX_CONCURRENT_PROVISIONS`.
    pub concurrent: usize,
    /// `MIN_PROVISION_INTERVAL_S`.
    pub interval: Duration,
    /// `MONITOR_INTERVAL_S`.
    pub monitor: Duration,
    /// `HEALTH_FAILURE_THRESHOLD`.
    pub failure_threshold: usize,
    /// `HEALTH_UNHEALTHY_GRACE_PERIOD_S`.
    pub unhealthy_grace: Duration,
    /// `CIRCUIT_BREAKER_FAILURE_THRESHOLD` and `CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S`.
    pub growth: (u32, Duration),
    /// `CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD` and `CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S`.
    pub replacement: (u32, Duration),
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_NETWORK`.
    pub network: Option<DockerName>,
    /// `CONTAINER_LABEL`.
    pub label: OperatorLabel,
    /// `INSTANCE_ID`.
    pub instance: Option<InstanceId>,
    /// `STOP_ENGINES_ON_EXIT`.
    pub stop_on_exit: bool,
    /// What engines are made from.
    pub engine: EngineRecipe,
}

/// What engines are made from.
#[derive(Clone, Debug)]
pub struct EngineRecipe {
    /// `ENGINE_VARIANT`; the machine's default when `None`.
    pub variant: Option<Variant>,
    /// `ENGINE_IMAGE`.
    pub image: Option<ImageRef>,
    /// `ENGINE_ARM32_VERSION` and `ENGINE_ARM64_VERSION`.
    pub arm_tags: ArmTags,
    /// `ENGINE_MEMORY_LIMIT`, in bytes.
    pub memory: Option<usize>,
    /// `ENGINE_MAX_AGE`.
    pub max_age: Option<Duration>,
    /// `ENGINE_MAX_MEMORY`, in bytes.
    pub max_memory: Option<usize>,
    /// `ENGINE_CPUS`, in billionths.
    pub nano_cpus: Option<i64>,
    /// `ENGINE_PIDS_LIMIT`.
    pub pids: usize,
    /// `ENGINE_CAPABILITIES`.
    pub capabilities: Vec<Capability>,
    /// `ENGINE_NEW_PRIVILEGES`.
    pub new_privileges: bool,
    /// `ENGINE_WRITABLE_ROOTFS`.
    pub writable_root: bool,
    /// `ENGINE_PROXY`.
    pub proxy: Option<Proxy>,
}

/// What engines hide behind.
#[derive(Clone, Debug)]
pub struct Vpn {
    /// `VPN_MODE`.
    pub mode: VpnMode,
    /// The VPN containers, `GLUETUN_CONTAINER_NAME` first; none when the mode is off.
    pub tunnels: Vec<TunnelSettings>,
    /// `GLUETUN_API_PORT`; `None`: the container says.
    pub control_port: Option<u16>,
    /// `GLUETUN_API_KEY`, or `GLUETUN_API_USER` and `GLUETUN_API_PASSWORD`.
    pub credentials: Credentials,
    /// `GLUETUN_HEALTH_CHECK_INTERVAL_S`.
    pub check_interval: Duration,
    /// `GLUETUN_PORT_CACHE_TTL_S`.
    pub port_ttl: Duration,
    /// `VPN_UNHEALTHY_RESTART_TIMEOUT_S`; `None` is never.
    pub restart_after: Option<Duration>,
    /// `MAX_ACTIVE_REPLICAS`.
    pub most: usize,
    /// `HOST_PUBLIC_IP`.
    pub host_addresses: Vec<IpAddr>,
}

/// One VPN container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSettings {
    /// Its name.
    pub container: DockerName,
    /// Ports of the engines in its network.
    pub ports: PortRange,
}

/// How many VPNs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VpnMode {
    /// None.
    Off,
    /// One.
    Single,
    /// Two or more, each taking over from the others.
    Redundant,
}

/// What is logged.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// `LOG_LEVEL`.
    pub level: tracing::Level,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}
