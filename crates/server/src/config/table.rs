//! The one table of settings. Parsing, checks, `config show`, `docs/settings.md` and `.env.example` all come from it.

use std::time::Duration;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in the environment; in `acemux.toml` the same in lower case.
    pub name: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// The value when nothing is written; empty for none.
    pub default: &'static str,
    /// One sentence.
    pub meaning: &'static str,
    /// Whether it does anything in this version.
    pub effect: Effect,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `30`, `30s`, `5m`; at least this long, because less would harm.
    Duration(Duration),
    /// The same, or 0 for never.
    DurationOrNever(Duration),
    /// `65536`, `64 KiB`, `4MiB`.
    Size,
    /// A whole number from this to [`LARGEST_COUNT`].
    Count(u64),
    /// 0–65535.
    Port,
    /// `19000-19999`.
    Ports,
    /// `true` or `false`.
    Bool,
    /// Anything.
    Text,
    /// Like text, but never shown.
    Secret,
    /// A number like `1.5`, more than 0.
    Decimal,
    /// One of these.
    Choice(&'static [&'static str]),
    /// An address or `all`.
    Host,
    /// `host:port,host:port`.
    Endpoints,
    /// `tv.example,iptv.example.com`.
    HostNames,
    /// Addresses and networks.
    Networks,
    /// `key=value`.
    Label,
    /// The reference of an image.
    Image,
    /// The tag of an image.
    Tag,
    /// The name of a container or network.
    Docker,
    /// Names of containers.
    Dockers,
    /// Ranges of ports.
    PortLists,
    /// Public addresses.
    Addresses,
    /// A SOCKS5 proxy; it may hold a password.
    Proxy,
}

/// Whether a setting does anything in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Yes.
    Now,
    /// Another name of this setting.
    Alias(&'static str),
    /// Understood so that old files still work; it means nothing here, for this reason.
    Ignored(&'static str),
}

/// Largest number of anything. Beyond it nothing here works, and limits may be added without overflow.
pub const LARGEST_COUNT: u64 = 1_000_000;

impl Kind {
    /// What is accepted, for people.
    pub fn accepts(self) -> String {
        match self {
            Self::Duration(Duration::ZERO) => "a duration of at most a year: 30, 30s, 250ms, 5m, 1h".into(),
            Self::Duration(least) => format!("a duration from {least:?} to a year: 30, 30s, 250ms, 5m, 1h"),
            Self::DurationOrNever(least) => format!("0, or a duration from {least:?} to a year"),
            Self::Size => "a size: 65536, 64 KiB, 4MiB, 512m".into(),
            Self::Count(least) => format!("a whole number from {least} to {LARGEST_COUNT}"),
            Self::Port => "a port: 0-65535".into(),
            Self::Ports => "a range of ports: 19000-19999".into(),
            Self::Bool => "true or false".into(),
            Self::Text => "text on one line".into(),
            Self::Secret => "printable ASCII without blanks at its ends".into(),
            Self::Decimal => "a number like 1.5, more than 0".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Host => "an address, or all".into(),
            Self::Endpoints => "host:port,host:port, each once".into(),
            Self::HostNames => "names of hosts without ports: tv.example,iptv.example.com".into(),
            Self::Networks => "addresses and networks: 10.0.0.0/8,192.168.1.2".into(),
            Self::Label => "key=value, one line, and none of the fleet's own labels".into(),
            Self::Image => "an image's name in lower case, like ghcr.io/owner/name:tag".into(),
            Self::Tag => "an image's tag: letters, digits, dots, dashes and underscores".into(),
            Self::Docker => "a name of Docker's: letters, digits, dots, dashes and underscores".into(),
            Self::Dockers => "names of containers: gluetun,gluetun2".into(),
            Self::PortLists => "ranges of ports: 19000-19499,19500-19999".into(),
            Self::Addresses => "public addresses, IPv4 or IPv6: 198.51.100.7,2001:db8::7".into(),
            Self::Proxy => "socks5://host:port or socks5://user:password@host:port".into(),
        }
    }

    /// What the reference page says beside the meaning: the least that is accepted, where less would harm.
    pub fn limit(self) -> Option<String> {
        match self {
            Self::Duration(least) | Self::DurationOrNever(least) if !least.is_zero() => {
                Some(format!("at least {least:?}"))
            }
            _ => None,
        }
    }
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().map(|(_, setting)| setting).find(|setting| setting.name == name)
}

/// Any length, 0 included.
const DURATION: Kind = Kind::Duration(Duration::ZERO);

const fn from_ms(least: u64) -> Kind {
    Kind::Duration(Duration::from_millis(least))
}

const fn from_s(least: u64) -> Kind {
    Kind::Duration(Duration::from_secs(least))
}

const fn now(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind, default, meaning, effect: Effect::Now }
}

const fn alias(name: &'static str, kind: Kind, of: &'static str, meaning: &'static str) -> Setting {
    Setting { name, kind, default: "", meaning, effect: Effect::Alias(of) }
}

const fn ignored(name: &'static str, why: &'static str) -> Setting {
    Setting { name, kind: Kind::Text, default: "", meaning: why, effect: Effect::Ignored(why) }
}

const SERVICE: &str = "Service";
const STREAMS: &str = "Streams";
const VIEWERS: &str = "Viewers";
const ENGINES: &str = "Engines that already run";
const FLEET: &str = "Provisioned engines";
const VPN: &str = "VPN";
const OLD: &str = "Understood, without meaning here";

const VARIANTS: &[&str] = &[
    "krinkuto11-amd64",
    "jopsis-amd64",
    "jopsis-arm32",
    "jopsis-arm64",
    "AceServe-amd64",
    "AceServe-arm32",
    "AceServe-arm64",
    "acestream-http-proxy",
    "outpace",
    "custom",
];

/// Every setting with its group, in the order in which people read them.
#[rustfmt::skip]
pub static SETTINGS: &[(&str, Setting)] = &[
    (SERVICE, now("APP_HOST", Kind::Host, "all", "Address to listen on; all means IPv6 and IPv4.")),
    (SERVICE, now("APP_PORT", Kind::Port, "8000", "Port to listen on; 0 picks a free one.")),
    (SERVICE, now("API_KEY", Kind::Secret, "", "Key for pages that change something, at least 16 characters; when not set, one is made beside the database (acemux key prints it). API_KEY_FILE names a file to read it from.")),
    (SERVICE, now("OPERATOR_WITHOUT_KEY", Kind::Choice(&["off", "loopback"]), "off", "Whether, while API_KEY is not set, requests from this machine that came through no proxy need no key: off or loopback. Never loopback behind a reverse proxy or tunnel on this machine.")),
    (SERVICE, now("ALLOWED_HOSTS", Kind::HostNames, "", "Names by which our pages may be asked for, beside addresses, names without a dot or that nobody can own (.local, .lan, .home, .internal, .localdomain, .home.arpa) and the machine's own. Media is answered under every name.")),
    (SERVICE, now("LOG_LEVEL", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "info", "How much is logged, to standard error.")),
    (SERVICE, now("LOG_FORMAT", Kind::Choice(&["text", "json"]), "text", "How log lines look.")),
    (SERVICE, now("HEADER_TIMEOUT", from_ms(100), "10s", "Longest wait for a request's head, also on an idle connection.")),
    (SERVICE, now("DRAIN_TIMEOUT", DURATION, "10s", "How long a stop waits for connections to end.")),
    (SERVICE, now("MAX_CONNECTIONS", Kind::Count(1), "", "Most connections at a time, viewers and pages together; MAX_VIEWERS and 256 when not set. Idle ones give way to new ones, and 64 more are for this machine alone.")),
    (SERVICE, now("DB_PATH", Kind::Text, "./data/acemux.db", "Embedded database; its folder is the data directory. :memory: keeps nothing.")),
    (STREAMS, now("EMPTY_STREAM_TIMEOUT", from_ms(500), "30s", "Longest wait for the first decodable data of a stream, all attempts together.")),
    (STREAMS, now("STREAM_IDLE_TIMEOUT", DURATION, "300s", "How long a stream stays warm without viewers; it gives its slot up at once when another stream needs it.")),
    (STREAMS, now("STREAM_BUFFER_SECONDS", from_s(2), "30s", "History per stream in media time; with STREAM_BUFFER_SIZE the smaller one counts.")),
    (STREAMS, now("STREAM_BUFFER_SIZE", Kind::Size, "32 MiB", "History per stream in bytes.")),
    (STREAMS, now("STREAM_MEMORY", Kind::Size, "", "All streams' history together; 25 % of the cgroup's or machine's memory, at least 64 MiB. When short, every history shrinks evenly, down to 4 MiB.")),
    (STREAMS, now("COPY_CHUNK_SIZE", Kind::Size, "64 KiB", "Largest chunk; more than 64 KiB means 64 KiB. A chunk is never held back longer than 60 ms.")),
    (STREAMS, now("JOIN_BURST", DURATION, "5s", "How far behind live a joining player starts.")),
    (STREAMS, now("HOLD_TIMEOUT", from_s(1), "30s", "How long viewers are held while a live stream is silent or its engine is replaced.")),
    (STREAMS, now("HEDGE_AFTER", from_s(1), "12s", "Silence of a start, or of the attempt to heal a gap, before a second engine with room is tried beside the first; 6 s at most when the start call itself is not answered.")),
    (STREAMS, now("STALL_TIMEOUT", from_ms(500), "5s", "Silence of a watched stream before another engine is tried.")),
    (STREAMS, now("STREAM_LOOP_DETECTION_ENABLED", Kind::Bool, "false", "Whether channels are ended and blocked whose newest piece is older than the threshold: their swarm plays the end again and again.")),
    (STREAMS, now("STREAM_LOOP_DETECTION_THRESHOLD_S", from_s(60), "1h", "How old the newest piece of a broadcast may be.")),
    (STREAMS, now("STREAM_LOOP_CHECK_INTERVAL_S", from_s(5), "10s", "Between two looks at the age of what is broadcast.")),
    (STREAMS, now("STREAM_LOOP_RETENTION_MINUTES", Kind::Count(0), "0", "How many minutes a looping channel stays blocked; 0 is until it is cleared or the service stops.")),
    (VIEWERS, now("MAX_VIEWERS", Kind::Count(1), "5000", "Most viewers; lowered at start when the descriptor limit is too small.")),
    (VIEWERS, now("MAX_VIEWERS_PER_IP", Kind::Count(1), "256", "Most viewers from one address. All addresses of one IPv6 /64 are one.")),
    (VIEWERS, now("VIEWER_STALL_TIMEOUT", Kind::DurationOrNever(Duration::from_millis(500)), "60s", "A viewer whose socket makes no progress for so long is cut; 0 means never.")),
    (VIEWERS, now("HLS_VIEWER_TIMEOUT", from_s(1), "30s", "How long an HLS viewer stays without asking for a playlist or a segment.")),
    (VIEWERS, now("VIEWER_SNDBUF", Kind::Size, "256 KiB", "Kernel send buffer per viewer.")),
    (VIEWERS, now("TRUSTED_PROXIES", Kind::Networks, "", "Proxies whose X-Forwarded-For counts as the client's address. Never a network that strangers are in.")),
    (ENGINES, now("ENGINES", Kind::Endpoints, "", "Engines that somebody else runs.")),
    (ENGINES, alias("ACEXY_HOST", Kind::Text, "ENGINES", "The engine's host, as acexy has it; with ACEXY_PORT it means ENGINES=host:port.")),
    (ENGINES, alias("ACEXY_PORT", Kind::Port, "ENGINES", "The engine's port, as acexy has it; 6878 when only ACEXY_HOST is set.")),
    (ENGINES, now("MAX_STREAMS_PER_ENGINE", Kind::Count(1), "3", "Most streams on one engine at a time. A hard cap.")),
    (ENGINES, alias("ACEXY_MAX_STREAMS_PER_ENGINE", Kind::Count(1), "MAX_STREAMS_PER_ENGINE", "Another name of MAX_STREAMS_PER_ENGINE.")),
    (ENGINES, now("ENGINE_SELECTION_TIMEOUT", DURATION, "5s", "Longest wait for a free slot on the running engines.")),
    (FLEET, now("ENGINE_PROVISIONER", Kind::Choice(&["docker", "none"]), "", "Who creates engines: docker, or none when only ENGINES is set.")),
    (FLEET, now("STARTUP_TIMEOUT_S", from_s(1), "25s", "Longest wait for a new engine to become ready.")),
    (FLEET, now("MIN_REPLICAS", Kind::Count(0), "2", "Engines kept; when not set, at most MAX_REPLICAS.")),
    (FLEET, now("MAX_REPLICAS", Kind::Count(1), "20", "Engines allowed. A hard cap.")),
    (FLEET, now("MIN_FREE_REPLICAS", Kind::Count(0), "1", "Engines kept idle; when not set, at most MAX_REPLICAS.")),
    (FLEET, now("ENGINE_VARIANT", Kind::Choice(VARIANTS), "", "Engine image family; per architecture when not set.")),
    (FLEET, now("ENGINE_IMAGE", Kind::Image, "", "Another image for the variant.")),
    (FLEET, now("ENGINE_MEMORY_LIMIT", Kind::Size, "", "Memory limit per engine.")),
    (FLEET, now("ENGINE_ARM32_VERSION", Kind::Tag, "arm32-v3.2.13", "Image tag on 32-bit ARM.")),
    (FLEET, now("ENGINE_ARM64_VERSION", Kind::Tag, "arm64-v3.2.13", "Image tag on 64-bit ARM.")),
    (FLEET, now("ENGINE_GRACE_PERIOD_S", DURATION, "30s", "Idle time before an engine may be removed.")),
    (FLEET, now("PORT_RANGE_HOST", Kind::Ports, "19000-19999", "Host ports for engines; a request for an engine may choose one of them and no other.")),
    (FLEET, now("ACE_HTTPS_RANGE", Kind::Ports, "45000-49999", "Engine HTTPS ports inside containers.")),
    (FLEET, now("ACE_MAP_HTTPS", Kind::Bool, "false", "Also publish the engine's HTTPS port.")),
    (FLEET, now("DOCKER_HOST", Kind::Text, "", "Where the Docker daemon answers; the local socket when not set.")),
    (FLEET, now("DOCKER_NETWORK", Kind::Docker, "", "Docker network for engines; our own when not set.")),
    (FLEET, now("CONTAINER_LABEL", Kind::Label, "orchestrator.managed=acestream", "Label put on every engine; one line, of a name that is none of the fleet's own.")),
    (FLEET, now("INSTANCE_ID", Kind::Text, "", "Which containers are ours; random and kept beside the database when not set.")),
    (FLEET, now("ENGINE_MAX_AGE", from_s(60), "", "Age, from when this run of the service first saw it, at which an idle engine is replaced, one a minute at most; never when not set.")),
    (FLEET, now("ENGINE_MAX_MEMORY", Kind::Size, "", "Memory in use at which an idle engine is replaced, one a minute at most; never when not set.")),
    (FLEET, now("ENGINE_CPUS", Kind::Decimal, "", "CPUs that one engine may use, e.g. 1.5; all of them when not set.")),
    (FLEET, now("ENGINE_PIDS_LIMIT", Kind::Count(16), "512", "Processes and threads that one engine may have.")),
    (FLEET, now("ENGINE_CAPABILITIES", Kind::Text, "", "Relaxation: Linux capabilities that engines keep, e.g. NET_RAW,CHOWN; none when not set. Unknown names are left out.")),
    (FLEET, now("ENGINE_NEW_PRIVILEGES", Kind::Bool, "false", "Relaxation: whether programs in an engine's container may gain rights.")),
    (FLEET, now("ENGINE_WRITABLE_ROOTFS", Kind::Bool, "false", "Relaxation: a writable root file system also where the image does without.")),
    (FLEET, now("AUTO_DELETE", Kind::Bool, "true", "Whether idle engines are removed.")),
    (FLEET, now("STOP_ENGINES_ON_EXIT", Kind::Bool, "false", "Whether a stop of the service stops its engines.")),
    (FLEET, now("MONITOR_INTERVAL_S", from_s(1), "10s", "Period of the pass that repairs what an event missed.")),
    (FLEET, now("HEALTH_FAILURE_THRESHOLD", Kind::Count(1), "3", "Failed checks in a row that make an engine unhealthy.")),
    (FLEET, now("HEALTH_UNHEALTHY_GRACE_PERIOD_S", DURATION, "60s", "How long an unhealthy engine may recover.")),
    (FLEET, now("CIRCUIT_BREAKER_FAILURE_THRESHOLD", Kind::Count(1), "5", "Failed creations that stop further ones.")),
    (FLEET, now("CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S", from_s(1), "300s", "How long they stay stopped.")),
    (FLEET, now("CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD", Kind::Count(1), "3", "Failed replacements that stop further ones.")),
    (FLEET, now("CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S", from_s(1), "180s", "How long they stay stopped.")),
    (FLEET, now("MAX_CONCURRENT_PROVISIONS", Kind::Count(1), "2", "Engines created at the same time.")),
    (FLEET, now("MIN_PROVISION_INTERVAL_S", DURATION, "0.5s", "Least time between two creations.")),
    (VPN, now("VPN_MODE", Kind::Choice(&["off", "single", "redundant"]), "", "Whether engines run behind gluetun, and behind how many; when not set, by how many containers are named.")),
    (VPN, now("GLUETUN_CONTAINER_NAME", Kind::Docker, "", "The VPN container.")),
    (VPN, now("GLUETUN_CONTAINER_NAME_2", Kind::Docker, "", "The second VPN container.")),
    (VPN, now("GLUETUN_CONTAINER_NAMES", Kind::Dockers, "", "VPN containers beside these, any number of them.")),
    (VPN, now("GLUETUN_API_PORT", Kind::Port, "", "Port of gluetun's control server inside its container; when not set, the one of its HTTP_CONTROL_SERVER_ADDRESS.")),
    (VPN, now("GLUETUN_API_KEY", Kind::Secret, "", "Key for the control server (X-API-Key); when not set, the one of the container's HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE. GLUETUN_API_KEY_FILE names a file to read it from.")),
    (VPN, now("GLUETUN_API_USER", Kind::Text, "", "User for the control server, where it has basic authentication.")),
    (VPN, now("GLUETUN_API_PASSWORD", Kind::Secret, "", "That user's password. GLUETUN_API_PASSWORD_FILE names a file to read it from.")),
    (VPN, now("GLUETUN_HEALTH_CHECK_INTERVAL_S", from_s(1), "5s", "Between two looks at a VPN; while something is wrong it is looked at every second.")),
    (VPN, now("GLUETUN_PORT_CACHE_TTL_S", DURATION, "60s", "How long a forwarded port and an exit's address stay unasked while nothing happens, at most 30 s.")),
    (VPN, now("GLUETUN_PORT_RANGE_1", Kind::Ports, "", "Engine ports behind the first VPN; when not set, its part of PORT_RANGE_HOST.")),
    (VPN, now("GLUETUN_PORT_RANGE_2", Kind::Ports, "", "Engine ports behind the second VPN.")),
    (VPN, now("GLUETUN_PORT_RANGES", Kind::PortLists, "", "Engine ports behind those of GLUETUN_CONTAINER_NAMES, in their order.")),
    (VPN, now("VPN_UNHEALTHY_RESTART_TIMEOUT_S", Kind::DurationOrNever(Duration::from_secs(10)), "60s", "How long a VPN may be down before its container is restarted, once until it was up again; 0 means never.")),
    (VPN, now("MAX_ACTIVE_REPLICAS", Kind::Count(1), "20", "Engines allowed behind VPNs.")),
    (VPN, now("HOST_PUBLIC_IP", Kind::Addresses, "", "This machine's public addresses, for the leak check of /vpn/status: no third party is asked for them.")),
    (VPN, now("ENGINE_PROXY", Kind::Proxy, "", "SOCKS5 proxy that outpace engines reach the swarm through, instead of a VPN's network; ENGINE_VARIANT=outpace from 1.2.0 on.")),
    (OLD, ignored("ENGINE_CACHE_TTL", "The list of engines is never stale.")),
    (OLD, ignored("VPN_RESTART_ENGINES_ON_RECONNECT", "Engines are created anew when their network is gone, and only then: a VPN that reconnects keeps them.")),
    (OLD, ignored("IDLE_TTL_S", "It had no effect in the system that this one replaces.")),
    (OLD, ignored("PROXY_MODE", "There is one mode, without ffmpeg.")),
    (OLD, ignored("REDIS_HOST", "There is no Redis.")),
    (OLD, ignored("REDIS_PORT", "There is no Redis.")),
    (OLD, ignored("REDIS_DB", "There is no Redis.")),
    (OLD, ignored("DB_URL", "The database is embedded: DB_PATH.")),
    (OLD, ignored("DEBUG_MODE", "LOG_LEVEL=debug does what it promised.")),
    (OLD, ignored("ACE_HTTP_RANGE", "Inside its container an engine has the port at which it is reached.")),
    (OLD, ignored("AUTOSCALE_INTERVAL_S", "Scaling is decided when something changes, and every second.")),
    (OLD, ignored("HEALTH_CHECK_INTERVAL_S", "Engines are asked every 5 s, and new ones four times a second.")),
    (OLD, ignored("HEALTH_REPLACEMENT_COOLDOWN_S", "Replacements have a back-off per place and a circuit breaker.")),
    (OLD, ignored("COLLECT_INTERVAL_S", "Statistics of streams are read every 2 s.")),
    (OLD, ignored("DOCKER_TLS_VERIFY", "TLS to the daemon is not supported: use a socket, or a tunnel.")),
    (OLD, ignored("DOCKER_CERT_PATH", "TLS to the daemon is not supported: use a socket, or a tunnel.")),
    (OLD, ignored("STATS_HISTORY_MAX", "Statistics are current values; Prometheus keeps the history.")),
    (OLD, ignored("DEBUG_LOG_DIR", "Logs go to standard error.")),
];
