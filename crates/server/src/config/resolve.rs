//! From what was written to what it means. Every problem is found before anything is refused.

use std::collections::HashSet;
use std::time::Duration;

use acemux_engine::Endpoint;

use super::raw::{Entry, Origin, Written};
use super::table::{self, Effect, Kind, SETTINGS, Setting};
use super::value::{self, ListenHost, PortRange};
use super::{
    Config, EngineSettings, Fleet, Listen, Log, LogFormat, Problem, Problems, Secret, Streams, Viewers, Vpn,
    VpnMode,
};
use crate::client::TrustedProxies;

/// The port engines listen on unless told otherwise.
const ENGINE_PORT: u16 = 6878;
/// Most bytes of one chunk: beyond it sends cost no less per byte.
const LARGEST_CHUNK: usize = 64 * 1024;
/// Fewest bytes of one chunk: seven packets, one UDP-sized unit; smaller ones cost more than they carry.
const SMALLEST_CHUNK: usize = 1316;

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
        Kind::Duration => value::duration(text).is_some(),
        Kind::Size => value::size(text).is_some(),
        Kind::Count(least) => text.parse::<u64>().is_ok_and(|number| number >= least),
        Kind::Port => text.parse::<u16>().is_ok(),
        Kind::Ports => value::ports(text).is_some(),
        Kind::Bool => value::boolean(text).is_some(),
        Kind::Text | Kind::Secret => true,
        Kind::Choice(words) => words.contains(&text),
        Kind::Host => value::host(text).is_some(),
        Kind::Endpoints => endpoints(text).is_some(),
        Kind::Networks => text.parse::<TrustedProxies>().is_ok(),
        Kind::Label => {
            text.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.contains('='))
        }
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
            viewers: self.viewers(),
            engines: self.engines(),
            fleet: self.fleet(),
            vpn: self.vpn(),
            api_key: self.optional("API_KEY").map(|key| Secret::new(key.to_owned())),
            log: self.log(),
        }
    }

    fn listen(&self) -> Listen {
        Listen {
            host: self.get("APP_HOST", value::host).unwrap_or(ListenHost::All),
            port: self.get("APP_PORT", |text| text.parse().ok()).unwrap_or_default(),
            header_timeout: self.duration("HEADER_TIMEOUT"),
            drain_timeout: self.duration("DRAIN_TIMEOUT"),
            max_connections: self.count("MAX_CONNECTIONS"),
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
            stall_timeout: self.duration("STALL_TIMEOUT"),
            hold_timeout: self.duration("HOLD_TIMEOUT"),
            memory: self.get("STREAM_MEMORY", value::size).unwrap_or_else(super::memory::for_streams),
        }
    }

    fn viewers(&self) -> Viewers {
        Viewers {
            max: self.count("MAX_VIEWERS"),
            per_ip: self.count("MAX_VIEWERS_PER_IP"),
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
        endpoints(&format!("{}:{}", host.unwrap_or("localhost"), port.unwrap_or(ENGINE_PORT)))
    }

    fn fleet(&self) -> Fleet {
        Fleet {
            min_replicas: self.count("MIN_REPLICAS"),
            max_replicas: self.count("MAX_REPLICAS"),
            min_free_replicas: self.count("MIN_FREE_REPLICAS"),
            ports: self.get("PORT_RANGE_HOST", value::ports),
        }
    }

    fn vpn(&self) -> Vpn {
        let mode = match self.text("VPN_MODE") {
            "single" => VpnMode::Single,
            "redundant" => VpnMode::Redundant,
            _ => VpnMode::Off,
        };
        let container = |name| self.optional(name).map(str::to_owned);
        let containers = [container("GLUETUN_CONTAINER_NAME"), container("GLUETUN_CONTAINER_NAME_2")];
        Vpn { mode, containers }
    }

    fn log(&self) -> Log {
        let format = if self.text("LOG_FORMAT") == "json" { LogFormat::Json } else { LogFormat::Text };
        Log { level: self.text("LOG_LEVEL").parse().unwrap_or(tracing::Level::INFO), format }
    }

    fn check_together(&mut self, config: &Config) {
        let fleet = &config.fleet;
        self.require("MIN_REPLICAS", fleet.min_replicas <= fleet.max_replicas, "at most MAX_REPLICAS");
        self.require(
            "MIN_FREE_REPLICAS",
            fleet.min_free_replicas <= fleet.max_replicas,
            "at most MAX_REPLICAS",
        );
        let chunk = self.size("COPY_CHUNK_SIZE");
        self.require("COPY_CHUNK_SIZE", (SMALLEST_CHUNK..=1 << 20).contains(&chunk), "1316 bytes to 1 MiB");
        let start = config.streams.empty_stream_timeout;
        self.require("EMPTY_STREAM_TIMEOUT", !start.is_zero(), "more than 0");
        self.require("HEADER_TIMEOUT", !config.listen.header_timeout.is_zero(), "more than 0");
        let buffered = config.streams.buffer_seconds;
        self.require("STREAM_BUFFER_SECONDS", buffered >= Duration::from_secs(2), "at least 2s");
        self.require("STREAM_BUFFER_SIZE", config.streams.buffer_bytes >= 1 << 20, "at least 1 MiB");
        self.require("VIEWER_SNDBUF", config.viewers.sndbuf >= 4096, "at least 4 KiB");
        let [first, second] = &config.vpn.containers;
        let both = first.is_some() && second.is_some() && first != second;
        let redundant = config.vpn.mode == VpnMode::Redundant;
        self.require(
            "VPN_MODE",
            !redundant || both,
            "two different GLUETUN_CONTAINER_NAME and _2 with redundant",
        );
    }

    fn require(&mut self, name: &'static str, holds: bool, accepted: &str) {
        let reported = self.problems.iter().any(|problem| problem.name == name);
        if let Some(setting) = table::find(name).filter(|_| !holds && !reported) {
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

    fn optional(&self, name: &str) -> Option<&str> {
        self.written.entry(name).map(|entry| entry.value.as_str())
    }

    fn text(&self, name: &str) -> &str {
        self.optional(name).or_else(|| table::find(name).map(|setting| setting.default)).unwrap_or_default()
    }
}

fn problem(setting: &Setting, entry: &Entry, accepted: String) -> Problem {
    let value = if setting.kind == Kind::Secret { "***".to_owned() } else { entry.value.clone() };
    Problem { name: setting.name.to_owned(), value, origin: entry.origin.clone(), accepted }
}

/// What deserves a warning, though it is accepted.
pub(super) fn warnings(written: &Written, config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (_, setting) in SETTINGS {
        if let (Some(_), Effect::Ignored(why)) = (written.entry(setting.name), setting.effect) {
            warnings.push(format!("{} has no meaning here: {why}", setting.name));
        }
    }
    if let Some(key) = config.api_key.as_ref().filter(|_| !config.listen.host.is_loopback()) {
        if key.reveal() == "defaultpassword" {
            warnings.push("API_KEY is the example's; everybody knows it".into());
        } else if key.reveal().len() < 16 {
            warnings.push("API_KEY is shorter than 16 characters and this listens to other machines".into());
        }
    }
    if let Some(ports) = config.fleet.ports.filter(|ports| overlaps_ephemeral(*ports)) {
        let PortRange { first, last } = ports;
        warnings.push(format!("PORT_RANGE_HOST={first}-{last} is inside the kernel's ephemeral range: clients' sockets can take these ports"));
    }
    warnings
}

fn overlaps_ephemeral(ports: PortRange) -> bool {
    let Ok(range) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return false };
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    matches!((bounds.next(), bounds.next()), (Some(low), Some(high)) if ports.last >= low && ports.first <= high)
}
