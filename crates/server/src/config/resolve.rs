//! From what was written to what it means. Every problem is found before anything is refused.

pub(super) mod vpn;

use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Endpoint;
use acemux_fleet::profile::ArmTags;

use super::format::{Endpoints, Format as _};
use super::mask;
use super::raw::Written;
use super::setting::{Item, Key, Setting};
use super::settings::engines::{
    ACEXY_HOST, ACEXY_MAX_STREAMS_PER_ENGINE, ACEXY_PORT, ENGINE_SELECTION_TIMEOUT, ENGINES,
    MAX_STREAMS_PER_ENGINE,
};
use super::settings::service::{
    ALLOWED_HOSTS, API_KEY, APP_HOST, APP_PORT, DB_PATH, DRAIN_TIMEOUT, EVENT_RETENTION, HEADER_TIMEOUT,
    LOG_FORMAT, LOG_LEVEL, MAX_CONNECTIONS, OPERATOR_WITHOUT_KEY,
};
use super::settings::viewers::{
    HLS_VIEWER_TIMEOUT, MAX_VIEWERS, MAX_VIEWERS_PER_IP, TRUSTED_PROXIES, VIEWER_SNDBUF, VIEWER_STALL_TIMEOUT,
};
use super::settings::{self, fleet as of_fleet, streams as of_streams};
use super::{
    Config, EngineRecipe, EngineSettings, Fleet, Listen, Log, Problem, Problems, Secret, Streams, Viewers,
};
use crate::http::serve::{DOORWAY, LOOPBACK_PLACES};
use crate::planes::loops::Rules;

/// The port engines listen on unless told otherwise.
const ENGINE_PORT: u16 = 6878;
/// Connections beside those of viewers, for pages, unless `MAX_CONNECTIONS` is written.
const PAGES: usize = 256;
/// Keys that stand in printed examples.
pub(super) const KNOWN_KEYS: [&str; 2] = ["defaultpassword", "your-secure-key"];

pub(super) fn resolve(written: &Written) -> Result<Config, Problems> {
    let mut resolver = Resolver { written, problems: written.problems.clone() };
    resolver.check_each();
    let config = resolver.config();
    resolver.check_together(&config);
    if resolver.problems.is_empty() { Ok(config) } else { Err(Problems(resolver.problems)) }
}

/// What it means, whether or not all of it suits the rest: for what was checked before, in another order.
pub(super) fn meaning(written: &Written) -> Config {
    Resolver { written, problems: Vec::new() }.config()
}

struct Resolver<'a> {
    written: &'a Written,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    fn check_each(&mut self) {
        for item in settings::all() {
            if let Some(entry) = self.written.entry(item).filter(|entry| !item.admits(&entry.value)) {
                self.problems.push(Problem::of(item, Some(entry), item.kind().accepts()));
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
            db_path: self.get(&DB_PATH),
            event_retention: self.get(&EVENT_RETENTION),
            api_key: self.api_key(),
            without_key: self.get(&OPERATOR_WITHOUT_KEY),
            allowed_hosts: self.get(&ALLOWED_HOSTS).unwrap_or_default(),
            log: Log { level: self.get(&LOG_LEVEL), format: self.get(&LOG_FORMAT) },
            written: Arc::new(self.written.clone()),
        }
    }

    /// The key of a printed example is known to everybody, so it is none, as if nothing were written.
    fn api_key(&self) -> Option<Secret<String>> {
        self.get(&API_KEY).filter(|key| !KNOWN_KEYS.contains(&key.reveal().as_str()))
    }

    fn listen(&self) -> Listen {
        Listen {
            host: self.get(&APP_HOST),
            port: self.get(&APP_PORT),
            header_timeout: self.get(&HEADER_TIMEOUT),
            drain_timeout: self.get(&DRAIN_TIMEOUT),
            max_connections: self
                .get(&MAX_CONNECTIONS)
                .unwrap_or_else(|| self.get(&MAX_VIEWERS).saturating_add(PAGES)),
            loopback_places: LOOPBACK_PLACES,
            doorway: DOORWAY,
            descriptors: None,
        }
    }

    fn streams(&self) -> Streams {
        use of_streams as of;
        Streams {
            empty_stream_timeout: self.get(&of::EMPTY_STREAM_TIMEOUT),
            idle_timeout: self.get(&of::STREAM_IDLE_TIMEOUT),
            buffer_seconds: self.get(&of::STREAM_BUFFER_SECONDS),
            buffer_bytes: self.get(&of::STREAM_BUFFER_SIZE),
            buffer_is_chosen: self.is_written(&of::STREAM_BUFFER_SIZE),
            chunk_bytes: self.get(&of::COPY_CHUNK_SIZE).min(of::LARGEST_CHUNK),
            join_burst: self.get(&of::JOIN_BURST),
            hedge_after: self.get(&of::HEDGE_AFTER),
            stall_timeout: self.get(&of::STALL_TIMEOUT),
            hold_timeout: self.get(&of::HOLD_TIMEOUT),
            memory: self.get(&of::STREAM_MEMORY).unwrap_or_else(super::memory::for_streams),
        }
    }

    fn loops(&self) -> Rules {
        use of_streams as of;
        let minutes = u32::try_from(self.get(&of::STREAM_LOOP_RETENTION_MINUTES)).unwrap_or(u32::MAX);
        Rules {
            is_enabled: self.get(&of::STREAM_LOOP_DETECTION_ENABLED),
            threshold: self.get(&of::STREAM_LOOP_DETECTION_THRESHOLD_S),
            every: self.get(&of::STREAM_LOOP_CHECK_INTERVAL_S),
            retention: Duration::from_mins(1).saturating_mul(minutes),
        }
    }

    fn viewers(&self) -> Viewers {
        Viewers {
            max: self.get(&MAX_VIEWERS),
            per_ip: self.get(&MAX_VIEWERS_PER_IP),
            hls_timeout: self.get(&HLS_VIEWER_TIMEOUT),
            stall_timeout: Some(self.get(&VIEWER_STALL_TIMEOUT)).filter(|limit| !limit.is_zero()),
            trusted_proxies: self.get(&TRUSTED_PROXIES).unwrap_or_default(),
            sndbuf: self.get(&VIEWER_SNDBUF),
        }
    }

    fn engines(&self) -> EngineSettings {
        let as_acexy_says = self.get(&ACEXY_MAX_STREAMS_PER_ENGINE);
        let is_ours = self.is_written(&MAX_STREAMS_PER_ENGINE);
        EngineSettings {
            external: self.get(&ENGINES).or_else(|| self.acexy_engine()).unwrap_or_default(),
            max_streams_per_engine: as_acexy_says
                .filter(|_| !is_ours)
                .unwrap_or_else(|| self.get(&MAX_STREAMS_PER_ENGINE)),
            selection_timeout: self.get(&ENGINE_SELECTION_TIMEOUT),
            startup_timeout: self.get(&of_fleet::STARTUP_TIMEOUT_S),
        }
    }

    fn acexy_engine(&self) -> Option<Vec<Endpoint>> {
        let (host, port) = (self.get(&ACEXY_HOST), self.get(&ACEXY_PORT));
        if host.is_none() && port.is_none() {
            return None;
        }
        let (host, port) = (host.unwrap_or_else(|| "localhost".into()), port.unwrap_or(ENGINE_PORT));
        let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        Endpoints.parse(&if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    fn fleet(&self) -> Fleet {
        use of_fleet as of;
        let max_replicas = self.get(&of::MAX_REPLICAS);
        Fleet {
            is_docker: self.is_docker(),
            min_replicas: self.count_within(&of::MIN_REPLICAS, max_replicas),
            max_replicas,
            min_free_replicas: self.count_within(&of::MIN_FREE_REPLICAS, max_replicas),
            auto_delete: self.get(&of::AUTO_DELETE),
            idle_grace: self.get(&of::ENGINE_GRACE_PERIOD_S),
            ports: self.get(&of::PORT_RANGE_HOST),
            https_ports: self.get(&of::ACE_HTTPS_RANGE),
            map_https: self.get(&of::ACE_MAP_HTTPS),
            concurrent: self.get(&of::MAX_CONCURRENT_PROVISIONS),
            interval: self.get(&of::MIN_PROVISION_INTERVAL_S),
            monitor: self.get(&of::MONITOR_INTERVAL_S),
            failure_threshold: self.get(&of::HEALTH_FAILURE_THRESHOLD),
            unhealthy_grace: self.get(&of::HEALTH_UNHEALTHY_GRACE_PERIOD_S),
            growth: self
                .breaker(&of::CIRCUIT_BREAKER_FAILURE_THRESHOLD, &of::CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S),
            replacement: self.breaker(
                &of::CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD,
                &of::CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S,
            ),
            docker_host: self.get(&of::DOCKER_HOST).as_deref().map(mask::without_credentials),
            network: self.get(&of::DOCKER_NETWORK),
            label: self.get(&of::CONTAINER_LABEL),
            instance: self.get(&of::INSTANCE_ID),
            stop_on_exit: self.get(&of::STOP_ENGINES_ON_EXIT),
            engine: self.engine_recipe(),
        }
    }

    /// Whoever names engines, and nothing else, does not want others to be created.
    fn is_docker(&self) -> bool {
        let names: [&dyn Item; 3] = [&ENGINES, &ACEXY_HOST, &ACEXY_PORT];
        match self.get(&of_fleet::ENGINE_PROVISIONER) {
            Some(provisioner) => provisioner == of_fleet::Provisioner::Docker,
            None => !names.iter().any(|name| self.is_written(*name)),
        }
    }

    fn engine_recipe(&self) -> EngineRecipe {
        use of_fleet as of;
        EngineRecipe {
            variant: self.get(&of::ENGINE_VARIANT),
            image: self.get(&of::ENGINE_IMAGE),
            arm_tags: ArmTags {
                arm32: self.get(&of::ENGINE_ARM32_VERSION),
                arm64: self.get(&of::ENGINE_ARM64_VERSION),
            },
            memory: self.get(&of::ENGINE_MEMORY_LIMIT).filter(|bytes| *bytes > 0),
            max_age: self.get(&of::ENGINE_MAX_AGE),
            max_memory: self.get(&of::ENGINE_MAX_MEMORY),
            nano_cpus: self.get(&of::ENGINE_CPUS),
            pids: self.get(&of::ENGINE_PIDS_LIMIT),
            capabilities: self.get(&of::ENGINE_CAPABILITIES).unwrap_or_default().known,
            new_privileges: self.get(&of::ENGINE_NEW_PRIVILEGES),
            writable_root: self.get(&of::ENGINE_WRITABLE_ROOTFS),
            proxy: self.get(&settings::vpn::ENGINE_PROXY),
        }
    }

    fn breaker(&self, threshold: &Setting<usize>, recovery: &Setting<Duration>) -> (u32, Duration) {
        (u32::try_from(self.get(threshold)).unwrap_or(u32::MAX), self.get(recovery))
    }

    /// What one value alone cannot tell.
    fn check_together(&mut self, config: &Config) {
        self.check_acexy();
        self.check_fleet(config);
        self.check_vpn(config);
    }

    /// Both halves may be fine as texts and still be no engine's address.
    fn check_acexy(&mut self) {
        let names: [&dyn Item; 2] = [&ACEXY_HOST, &ACEXY_PORT];
        if let Some(name) = names.into_iter().find(|name| self.is_written(*name)) {
            self.require(name, self.acexy_engine().is_some(), "a host without port, and a port from 1");
        }
    }

    fn check_fleet(&mut self, config: &Config) {
        use of_fleet::{MAX_REPLICAS, MIN_FREE_REPLICAS, MIN_REPLICAS, PORT_RANGE_HOST};
        let fleet = &config.fleet;
        // Against a value that is refused itself there is nothing to compare.
        let most = if self.is_refused(&MAX_REPLICAS) { usize::MAX } else { fleet.max_replicas };
        let accepted = format!("at most MAX_REPLICAS, which is {most}");
        self.require(&MIN_REPLICAS, fleet.min_replicas <= most, &accepted);
        self.require(&MIN_FREE_REPLICAS, fleet.min_free_replicas <= most, &accepted);
        let port = config.listen.port;
        let apart = !fleet.ports.contains(port) || self.is_refused(&APP_PORT);
        self.require(&PORT_RANGE_HOST, apart, &format!("a range without APP_PORT, which is {port}"));
    }

    fn is_refused(&self, item: &dyn Item) -> bool {
        self.problems.iter().any(|problem| problem.name == item.name())
    }

    /// A problem with this setting, unless `holds` or it has one already.
    fn require(&mut self, item: &dyn Item, holds: bool, accepted: &str) {
        if !holds && !self.is_refused(item) {
            let problem = Problem::of(item, self.written.entry(item), accepted.to_owned());
            self.problems.push(problem);
        }
    }

    /// What is written, or the default; a bad value is a problem already and counts as the default here.
    fn get<K: Key>(&self, key: &K) -> K::Meaning {
        self.written.get(key)
    }

    fn is_written(&self, item: &dyn Item) -> bool {
        self.written.entry(item).is_some()
    }

    /// What is written; the default gives way to `most`, so that lowering one setting does not take two.
    fn count_within(&self, key: &Setting<usize>, most: usize) -> usize {
        let count = self.get(key);
        if self.is_written(key) { count } else { count.min(most) }
    }
}
