//! From what was written to what it means. Every problem is found before anything is refused.

mod vpn;

use std::collections::HashSet;
use std::time::Duration;

use acemux_engine::Endpoint;
use acemux_fleet::allowed::OperatorLabel;
use acemux_fleet::capability::Capability;
use acemux_fleet::ident::DockerName;
use acemux_fleet::image::{ImageRef, Tag};
use acemux_fleet::profile::ArmTags;
use acemux_fleet::proxy::Proxy;
use acemux_relay::budget::LEAST_RING;

use super::mask;
use super::raw::{Entry, Origin, Written};
use super::table::{self, Effect, Kind, LARGEST_COUNT, SETTINGS, Setting};
use super::value::{self, ListenHost, PortRange};
use super::{
    Config, EngineRecipe, EngineSettings, Fleet, Listen, Log, LogFormat, Problem, Problems, SHORTEST_KEY,
    Secret, Streams, Viewers, WithoutKey,
};
use crate::http::client::TrustedProxies;
use crate::http::serve::{DOORWAY, LOOPBACK_PLACES};
use crate::planes::loops::Rules;
use crate::planes::vpn::leak::is_public;

/// The port engines listen on unless told otherwise.
const ENGINE_PORT: u16 = 6878;
/// Most bytes of one chunk: beyond it sends cost no less per byte.
const LARGEST_CHUNK: usize = 64 * 1024;
/// Fewest bytes of one chunk: seven packets, one UDP-sized unit; smaller ones cost more than they carry.
const SMALLEST_CHUNK: usize = 1316;
/// Connections beside those of viewers, for pages, unless `MAX_CONNECTIONS` is written.
const PAGES: usize = 256;
/// What `VIEWER_SNDBUF` may be: below it throughput suffers, above it a hundred stalled viewers pin gigabytes.
const SEND_BUFFERS: std::ops::RangeInclusive<usize> = 4 << 10..=16 << 20;
/// Below it, ports are given to programs with a right to them.
const FIRST_UNPRIVILEGED: u16 = 1024;
/// Keys that stand in printed examples.
const KNOWN_KEYS: [&str; 2] = ["defaultpassword", "your-secure-key"];

pub(super) fn resolve(written: &Written) -> Result<Config, Problems> {
    let mut resolver = Resolver { written, problems: written.problems.clone() };
    resolver.check_kinds();
    let config = resolver.config();
    resolver.check_together(&config);
    if resolver.problems.is_empty() { Ok(config) } else { Err(Problems(resolver.problems)) }
}

struct Resolver<'a> {
    written: &'a Written,
    problems: Vec<Problem>,
}

/// Whether `text` is a value of this kind.
pub(super) fn is_valid(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Duration(least) => value::duration(text).is_some_and(|duration| duration >= least),
        Kind::DurationOrNever(least) => {
            value::duration(text).is_some_and(|duration| duration.is_zero() || duration >= least)
        }
        Kind::Size => value::size(text).is_some(),
        Kind::Count(least) => {
            text.parse::<u64>().is_ok_and(|number| (least..=LARGEST_COUNT).contains(&number))
        }
        Kind::Port => text.parse::<u16>().is_ok(),
        Kind::Ports => value::ports(text).is_some(),
        Kind::Bool => value::boolean(text).is_some(),
        Kind::Text => !text.contains(char::is_control),
        Kind::Secret => value::is_key(text),
        Kind::Decimal => value::decimal(text).is_some(),
        Kind::Choice(words) => words.contains(&text),
        Kind::Host => value::host(text).is_some(),
        Kind::Endpoints => endpoints(text).is_some(),
        Kind::HostNames => value::host_names(text).is_some(),
        Kind::Networks => text.parse::<TrustedProxies>().is_ok(),
        Kind::Label => text.parse::<OperatorLabel>().is_ok(),
        Kind::Image => text.parse::<ImageRef>().is_ok(),
        Kind::Tag => text.parse::<Tag>().is_ok(),
        Kind::Docker => text.parse::<DockerName>().is_ok(),
        Kind::Dockers => value::list(text).all(|name| name.parse::<DockerName>().is_ok()),
        Kind::PortLists => value::list(text).all(|range| value::ports(range).is_some()),
        Kind::Addresses => value::addresses(text).is_some_and(|all| all.iter().all(is_public)),
        Kind::Proxy => text.parse::<Proxy>().is_ok(),
    }
}

fn endpoints(text: &str) -> Option<Vec<Endpoint>> {
    let all: Vec<Endpoint> = value::list(text).map(str::parse).collect::<Result<_, _>>().ok()?;
    let distinct: HashSet<String> = all.iter().map(ToString::to_string).collect();
    (distinct.len() == all.len()).then_some(all)
}

impl Resolver<'_> {
    /// All settings, those without effect in this version too: a typo should not wait for the next version.
    fn check_kinds(&mut self) {
        for (_, setting) in
            SETTINGS.iter().filter(|(_, setting)| !matches!(setting.effect, Effect::Ignored(_)))
        {
            if let Some(entry) = self.written.entry(setting.name)
                && !is_valid(setting.kind, &entry.value)
            {
                self.problems.push(problem(setting, entry, setting.kind.accepts()));
            }
        }
    }

    fn config(&self) -> Config {
        Config {
            listen: self.listen(),
            streams: self.streams(),
            loops: self.loops(),
            viewers: self.viewers(),
            engines: self.engines(),
            fleet: self.fleet(),
            vpn: self.vpn(),
            db_path: self.text("DB_PATH").into(),
            api_key: self.api_key(),
            without_key: self.without_key(),
            allowed_hosts: self.get("ALLOWED_HOSTS", value::host_names).unwrap_or_default(),
            log: self.log(),
        }
    }

    /// The key of a printed example is known to everybody, so it is none, as if nothing were written.
    fn api_key(&self) -> Option<Secret<String>> {
        let key = self.optional("API_KEY").filter(|key| !KNOWN_KEYS.contains(key))?;
        Some(Secret::new(key.to_owned()))
    }

    fn without_key(&self) -> WithoutKey {
        if self.text("OPERATOR_WITHOUT_KEY") == "loopback" {
            WithoutKey::Loopback
        } else {
            WithoutKey::Nobody
        }
    }

    fn listen(&self) -> Listen {
        Listen {
            host: self.get("APP_HOST", value::host).unwrap_or(ListenHost::All),
            port: self.get("APP_PORT", |text| text.parse().ok()).unwrap_or_default(),
            header_timeout: self.duration("HEADER_TIMEOUT"),
            drain_timeout: self.duration("DRAIN_TIMEOUT"),
            max_connections: self
                .get("MAX_CONNECTIONS", |text| text.parse().ok())
                .unwrap_or_else(|| self.count("MAX_VIEWERS").saturating_add(PAGES)),
            loopback_places: LOOPBACK_PLACES,
            doorway: DOORWAY,
        }
    }

    fn streams(&self) -> Streams {
        Streams {
            empty_stream_timeout: self.duration("EMPTY_STREAM_TIMEOUT"),
            idle_timeout: self.duration("STREAM_IDLE_TIMEOUT"),
            buffer_seconds: self.duration("STREAM_BUFFER_SECONDS"),
            buffer_bytes: self.size("STREAM_BUFFER_SIZE"),
            chunk_bytes: self.size("COPY_CHUNK_SIZE").min(LARGEST_CHUNK),
            join_burst: self.duration("JOIN_BURST"),
            hedge_after: self.duration("HEDGE_AFTER"),
            stall_timeout: self.duration("STALL_TIMEOUT"),
            hold_timeout: self.duration("HOLD_TIMEOUT"),
            memory: self.get("STREAM_MEMORY", value::size).unwrap_or_else(super::memory::for_streams),
        }
    }

    fn loops(&self) -> Rules {
        let minutes = u32::try_from(self.count("STREAM_LOOP_RETENTION_MINUTES")).unwrap_or(u32::MAX);
        Rules {
            is_enabled: self.flag("STREAM_LOOP_DETECTION_ENABLED"),
            threshold: self.duration("STREAM_LOOP_DETECTION_THRESHOLD_S"),
            every: self.duration("STREAM_LOOP_CHECK_INTERVAL_S"),
            retention: Duration::from_mins(1).saturating_mul(minutes),
        }
    }

    fn viewers(&self) -> Viewers {
        Viewers {
            max: self.count("MAX_VIEWERS"),
            per_ip: self.count("MAX_VIEWERS_PER_IP"),
            hls_timeout: self.duration("HLS_VIEWER_TIMEOUT"),
            stall_timeout: Some(self.duration("VIEWER_STALL_TIMEOUT")).filter(|limit| !limit.is_zero()),
            trusted_proxies: self.get("TRUSTED_PROXIES", |text| text.parse().ok()).unwrap_or_default(),
            sndbuf: self.size("VIEWER_SNDBUF"),
        }
    }

    fn engines(&self) -> EngineSettings {
        let streams = ["MAX_STREAMS_PER_ENGINE", "ACEXY_MAX_STREAMS_PER_ENGINE"];
        let written = streams.into_iter().find(|name| self.written.entry(name).is_some());
        EngineSettings {
            external: self.get("ENGINES", endpoints).or_else(|| self.acexy_engine()).unwrap_or_default(),
            max_streams_per_engine: self.count(written.unwrap_or("MAX_STREAMS_PER_ENGINE")),
            selection_timeout: self.duration("ENGINE_SELECTION_TIMEOUT"),
            startup_timeout: self.duration("STARTUP_TIMEOUT_S"),
        }
    }

    fn acexy_engine(&self) -> Option<Vec<Endpoint>> {
        let host = self.optional("ACEXY_HOST");
        let port = self.get("ACEXY_PORT", |text| text.parse::<u16>().ok());
        if host.is_none() && port.is_none() {
            return None;
        }
        let (host, port) = (host.unwrap_or("localhost"), port.unwrap_or(ENGINE_PORT));
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        endpoints(&if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    fn fleet(&self) -> Fleet {
        let max_replicas = self.count("MAX_REPLICAS");
        Fleet {
            is_docker: self.is_docker(),
            min_replicas: self.count_within("MIN_REPLICAS", max_replicas),
            max_replicas,
            min_free_replicas: self.count_within("MIN_FREE_REPLICAS", max_replicas),
            auto_delete: self.flag("AUTO_DELETE"),
            idle_grace: self.duration("ENGINE_GRACE_PERIOD_S"),
            ports: self.range("PORT_RANGE_HOST"),
            https_ports: self.range("ACE_HTTPS_RANGE"),
            map_https: self.flag("ACE_MAP_HTTPS"),
            concurrent: self.count("MAX_CONCURRENT_PROVISIONS"),
            interval: self.duration("MIN_PROVISION_INTERVAL_S"),
            monitor: self.duration("MONITOR_INTERVAL_S"),
            failure_threshold: self.count("HEALTH_FAILURE_THRESHOLD"),
            unhealthy_grace: self.duration("HEALTH_UNHEALTHY_GRACE_PERIOD_S"),
            growth: self.breaker("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S"),
            replacement: self
                .breaker("CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD", "CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S"),
            docker_host: self.optional("DOCKER_HOST").map(mask::without_credentials),
            network: self.get("DOCKER_NETWORK", |text| text.parse().ok()),
            label: self
                .get("CONTAINER_LABEL", |text| text.parse().ok())
                .expect("the table's default is a label"),
            instance: self.optional("INSTANCE_ID").and_then(|id| id.parse().ok()),
            stop_on_exit: self.flag("STOP_ENGINES_ON_EXIT"),
            engine: self.engine_recipe(),
        }
    }

    /// Whoever names engines, and nothing else, does not want others to be created.
    fn is_docker(&self) -> bool {
        let has_engines =
            ["ENGINES", "ACEXY_HOST", "ACEXY_PORT"].iter().any(|name| self.optional(name).is_some());
        match self.optional("ENGINE_PROVISIONER") {
            Some(word) => word == "docker",
            None => !has_engines,
        }
    }

    fn engine_recipe(&self) -> EngineRecipe {
        let capabilities = self.text("ENGINE_CAPABILITIES");
        EngineRecipe {
            variant: self.get("ENGINE_VARIANT", |text| text.parse().ok()),
            image: self.get("ENGINE_IMAGE", |text| text.parse().ok()),
            arm_tags: ArmTags {
                arm32: self.tag("ENGINE_ARM32_VERSION"),
                arm64: self.tag("ENGINE_ARM64_VERSION"),
            },
            memory: self.get("ENGINE_MEMORY_LIMIT", value::size).filter(|bytes| *bytes > 0),
            max_age: self.get("ENGINE_MAX_AGE", value::duration),
            max_memory: self.get("ENGINE_MAX_MEMORY", value::size),
            nano_cpus: self.get("ENGINE_CPUS", value::decimal),
            pids: self.count("ENGINE_PIDS_LIMIT"),
            // Unknown ones are warned of.
            capabilities: value::list(capabilities).filter_map(|name| name.parse().ok()).collect(),
            new_privileges: self.flag("ENGINE_NEW_PRIVILEGES"),
            writable_root: self.flag("ENGINE_WRITABLE_ROOTFS"),
            proxy: self.get("ENGINE_PROXY", |text| text.parse().ok()),
        }
    }

    fn breaker(&self, threshold: &str, recovery: &str) -> (u32, Duration) {
        (u32::try_from(self.count(threshold)).unwrap_or(u32::MAX), self.duration(recovery))
    }

    fn tag(&self, name: &str) -> Tag {
        self.get(name, |text| text.parse().ok()).expect("the table's default is a tag")
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name, value::boolean).unwrap_or_default()
    }

    fn range(&self, name: &str) -> PortRange {
        self.get(name, value::ports).expect("the table's default is a range")
    }

    fn log(&self) -> Log {
        let format = if self.text("LOG_FORMAT") == "json" { LogFormat::Json } else { LogFormat::Text };
        Log { level: self.text("LOG_LEVEL").parse().unwrap_or(tracing::Level::INFO), format }
    }

    /// What one value alone cannot tell.
    fn check_together(&mut self, config: &Config) {
        self.check_streams(&config.streams);
        let viewers = &config.viewers;
        self.require("VIEWER_SNDBUF", SEND_BUFFERS.contains(&viewers.sndbuf), "4 KiB to 16 MiB");
        self.check_acexy();
        self.check_fleet(config);
        self.check_vpn(config);
    }

    fn check_streams(&mut self, streams: &Streams) {
        let chunk = self.size("COPY_CHUNK_SIZE");
        self.require("COPY_CHUNK_SIZE", (SMALLEST_CHUNK..=1 << 20).contains(&chunk), "1316 bytes to 1 MiB");
        self.require("STREAM_BUFFER_SIZE", streams.buffer_bytes >= 1 << 20, "at least 1 MiB");
        self.require("STREAM_MEMORY", streams.memory >= LEAST_RING, "at least 4 MiB, what one stream needs");
    }

    /// Both halves may be fine as texts and still be no engine's address.
    fn check_acexy(&mut self) {
        let names = ["ACEXY_HOST", "ACEXY_PORT"];
        if let Some(name) = names.into_iter().find(|name| self.written.entry(name).is_some()) {
            self.require(name, self.acexy_engine().is_some(), "a host without port, and a port from 1");
        }
    }

    fn check_fleet(&mut self, config: &Config) {
        let fleet = &config.fleet;
        // Against a value that is refused itself there is nothing to compare.
        let most = if self.is_refused("MAX_REPLICAS") { usize::MAX } else { fleet.max_replicas };
        let accepted = format!("at most MAX_REPLICAS, which is {most}");
        self.require("MIN_REPLICAS", fleet.min_replicas <= most, &accepted);
        self.require("MIN_FREE_REPLICAS", fleet.min_free_replicas <= most, &accepted);
        let port = config.listen.port;
        let apart = !fleet.ports.contains(port) || self.is_refused("APP_PORT");
        self.require("PORT_RANGE_HOST", apart, &format!("a range without APP_PORT, which is {port}"));
        let is_name = self.optional("INSTANCE_ID").is_none() || fleet.instance.is_some();
        self.require("INSTANCE_ID", is_name, "1 to 64 letters, digits, dots, underscores and dashes");
        let memory = fleet.engine.memory.is_none_or(|bytes| bytes >= 32 << 20);
        self.require("ENGINE_MEMORY_LIMIT", memory, "0 for none, or at least 32 MiB");
        // Every engine uses more than a few bytes, and would be replaced for it as soon as it is idle.
        let most = fleet.engine.max_memory.is_none_or(|bytes| bytes >= 32 << 20);
        self.require("ENGINE_MAX_MEMORY", most, "at least 32 MiB");
    }

    fn is_refused(&self, name: &str) -> bool {
        self.problems.iter().any(|problem| problem.name == name)
    }

    fn require(&mut self, name: &'static str, holds: bool, accepted: &str) {
        if let Some(setting) = table::find(name).filter(|_| !holds && !self.is_refused(name)) {
            let default = Entry { value: setting.default.to_owned(), origin: Origin::Default };
            let entry = self.written.entry(name).unwrap_or(&default);
            self.problems.push(problem(setting, entry, accepted.to_owned()));
        }
    }

    /// What is written, or the default; a bad value is a problem already and counts as the default here.
    fn get<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let default = || {
            table::find(name)
                .filter(|setting| !setting.default.is_empty())
                .and_then(|setting| parse(setting.default))
        };
        self.written.entry(name).and_then(|entry| parse(&entry.value)).or_else(default)
    }

    fn duration(&self, name: &str) -> Duration {
        self.get(name, value::duration).expect("the table's default is a duration")
    }

    fn size(&self, name: &str) -> usize {
        self.get(name, value::size).expect("the table's default is a size")
    }

    fn count(&self, name: &str) -> usize {
        self.get(name, |text| text.parse().ok()).unwrap_or(1)
    }

    /// What is written; the default gives way to `most`, so that lowering one setting does not take two.
    fn count_within(&self, name: &str, most: usize) -> usize {
        let count = self.count(name);
        if self.written.entry(name).is_some() { count } else { count.min(most) }
    }

    fn optional(&self, name: &str) -> Option<&str> {
        self.written.entry(name).map(|entry| entry.value.as_str())
    }

    fn text(&self, name: &str) -> &str {
        self.optional(name).or_else(|| table::find(name).map(|setting| setting.default)).unwrap_or_default()
    }
}

fn problem(setting: &Setting, entry: &Entry, accepted: String) -> Problem {
    let value = if matches!(setting.kind, Kind::Secret | Kind::Proxy) {
        "***".to_owned()
    } else {
        entry.value.clone()
    };
    Problem { name: setting.name.to_owned(), value: Some(value), origin: entry.origin.clone(), accepted }
}

/// What deserves a warning, though it is accepted.
pub(super) fn warnings(written: &Written, config: &Config) -> Vec<String> {
    let mut warnings = written.notices.clone();
    warnings.extend(without_meaning(written));
    warnings.extend(vpn::warnings(written, config));
    warnings.extend(known_key(written));
    warnings.extend(weak_key(config));
    warnings.extend(limits_at_odds(written, config));
    warnings.extend(ports_at_risk(config));
    warnings.extend(low_ports(config));
    warnings.extend(wide_proxies(config));
    warnings.extend(capabilities_at_risk(written, config));
    warnings.extend(bare_image(config));
    warnings
}

fn without_meaning(written: &Written) -> impl Iterator<Item = String> {
    SETTINGS.iter().filter_map(|(_, setting)| match setting.effect {
        Effect::Ignored(why) if written.entry(setting.name).is_some() => {
            Some(format!("{} has no meaning here: {why}", setting.name))
        }
        _ => None,
    })
}

fn known_key(written: &Written) -> Option<String> {
    let key = written.entry("API_KEY").filter(|entry| KNOWN_KEYS.contains(&entry.value.as_str()));
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
    if written.entry("COPY_CHUNK_SIZE").and_then(|entry| value::size(&entry.value)) > Some(LARGEST_CHUNK) {
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
    let named = written.entry("ENGINE_CAPABILITIES").map(|entry| entry.value.as_str()).unwrap_or_default();
    let unknown = value::list(named).filter(|name| name.parse::<Capability>().is_err()).count();
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

fn overlaps_ephemeral(ports: PortRange) -> bool {
    let Ok(range) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return false };
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    matches!((bounds.next(), bounds.next()), (Some(low), Some(high)) if ports.last >= low && ports.first <= high)
}
