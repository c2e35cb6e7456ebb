//! One engine we may use: how to speak with it, its slots, and what probes and streams have shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::{Endpoint, Engine, Version};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ident::ContainerId;
use crate::provisioner::Usage;
use crate::runaway::{Runaway, RunawayRule, Sample, Traffic};
use crate::trouble::{Fault, Trouble, Trust};
use crate::tunnel::TunnelName;

/// Probes in a row that must succeed before an unhealthy engine is called healthy again.
const HITS: u32 = 2;

/// The unique name of an engine: its container's full id, or `host:port` of one that somebody else runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EngineKey(Arc<str>);

impl EngineKey {
    /// The key that was written so ([`Self::as_str`]).
    pub fn named(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&ContainerId> for EngineKey {
    fn from(id: &ContainerId) -> Self {
        Self(id.as_str().into())
    }
}

impl From<&Endpoint> for EngineKey {
    fn from(endpoint: &Endpoint) -> Self {
        Self(endpoint.to_string().into())
    }
}

impl fmt::Display for EngineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The container an engine runs in.
#[derive(Clone, Debug)]
pub struct Contained {
    /// Its full id.
    pub id: ContainerId,
    /// The place it fills.
    pub place: usize,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it reaches the world through.
    pub tunnel: TunnelName,
    /// The port that its tunnel's provider forwards to it, when it was made as the one engine that has it.
    pub forwarded: Option<u16>,
    /// Its image.
    pub image: String,
    /// This run has made it: what it loads before its first stream belongs to its image.
    pub is_new: bool,
    /// By what it is called a runaway; never when what is counted as its traffic is not its own alone.
    pub runaway: Option<RunawayRule>,
}

/// One engine. Shared; the engine client's order of starts and stops lives in it, so there is one per engine.
#[derive(Debug)]
pub struct Member {
    /// How others name it.
    pub key: EngineKey,
    /// How to speak with it.
    pub engine: Engine,
    /// Slots it has (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    /// Its container, if we created it.
    pub container: Option<Contained>,
    /// Failed probes in a row that make it unhealthy (`HEALTH_FAILURE_THRESHOLD`).
    misses_allowed: u32,
    load: Mutex<Load>,
    knowledge: Mutex<Knowledge>,
    trouble: Mutex<Trouble>,
    /// None when nothing is known of it.
    traffic: Option<Mutex<Traffic>>,
}

/// Who may come, and who is here. One lock, so that an engine cannot be given a stream and removed at the same time.
#[derive(Debug)]
struct Load {
    used: usize,
    idle_since: Instant,
    /// Whether it has had a stream that may have left something behind.
    was_used: bool,
    door: Door,
    /// An operator drains it.
    is_unwanted: bool,
}

/// Whether new streams are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// Until it is needed again.
    Cordoned,
    /// It is being removed: for ever.
    Closed,
}

/// Whether an engine's API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not probed yet, or it has not answered since it was started.
    Unknown,
    /// It answers.
    Healthy,
    /// It has missed several probes in a row.
    Unhealthy,
}

impl Health {
    /// As the pages say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What is known of an engine.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// Its container's present name, or one made of its address.
    pub name: String,
    /// By the probe of its API.
    pub health: Health,
    /// Since when it is so.
    pub health_since: Instant,
    /// Whether its container is paused.
    pub is_frozen: bool,
    /// When the probe last had an answer or gave up.
    pub last_check: Option<Timestamp>,
    /// Since when it is known.
    pub first_seen: Timestamp,
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// When a stream last started on it.
    pub last_stream: Option<Timestamp>,
    /// Its version, e.g. `3.2.11`.
    pub version: Option<String>,
    /// Its platform, e.g. `linux`.
    pub platform: Option<String>,
    /// What its container uses.
    pub usage: Option<Usage>,
    misses: u32,
    hits: u32,
}

impl Member {
    /// An engine that somebody else runs.
    pub(crate) fn external(engine: Engine, slots: usize, misses_allowed: u32) -> Self {
        let endpoint = engine.endpoint();
        let name = format!("engine-{}-{}", endpoint.host(), endpoint.port());
        Self::new(EngineKey::from(endpoint), engine, slots, misses_allowed, None, name)
    }

    /// An engine in one of our containers.
    pub(crate) fn contained(
        engine: Engine,
        slots: usize,
        misses_allowed: u32,
        container: Contained,
        name: String,
    ) -> Self {
        let key = EngineKey::from(&container.id);
        Self::new(key, engine, slots, misses_allowed, Some(container), name)
    }

    fn new(
        key: EngineKey,
        engine: Engine,
        slots: usize,
        misses_allowed: u32,
        container: Option<Contained>,
        name: String,
    ) -> Self {
        let was_used = container.as_ref().is_some_and(|container| !container.is_new);
        let load =
            Load { used: 0, idle_since: Instant::now(), was_used, door: Door::Open, is_unwanted: false };
        let rule = container.as_ref().and_then(|container| container.runaway);
        Self {
            key,
            engine,
            slots,
            container,
            misses_allowed,
            load: Mutex::new(load),
            knowledge: Mutex::new(Knowledge::new(name)),
            trouble: Mutex::default(),
            traffic: rule.map(|rule| Mutex::new(Traffic::new(rule))),
        }
    }

    /// What it reaches the world through; `None` when somebody else runs it.
    pub fn tunnel(&self) -> Option<&TunnelName> {
        self.container.as_ref().map(|container| &container.tunnel)
    }

    /// What is known of it now.
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge.lock().clone()
    }

    /// Slots taken.
    pub fn used(&self) -> usize {
        self.load.lock().used
    }

    /// Slots that a stream could take now.
    pub(crate) fn free(&self) -> usize {
        let load = self.load.lock();
        let free = if load.door == Door::Open { self.slots.saturating_sub(load.used) } else { 0 };
        drop(load);
        if self.may_serve() { free } else { 0 }
    }

    /// Whether streams on it should go elsewhere, and why: it is gone or going, or streams have shown it to be bad.
    pub(crate) fn should_be_left(&self) -> Option<&'static str> {
        match self.load.lock().door {
            Door::Closed => Some("the engine is being removed"),
            Door::Cordoned => Some("the engine is being drained"),
            Door::Open => self.is_ejected().then_some("streams keep failing on the engine"),
        }
    }

    /// Since when it has no stream.
    pub fn idle_since(&self) -> Option<Instant> {
        let load = self.load.lock();
        (load.used == 0).then_some(load.idle_since)
    }

    /// Whether it takes no new streams.
    pub fn is_cordoned(&self) -> bool {
        self.load.lock().door != Door::Open
    }

    /// Whether streams have shown it to be bad just now.
    pub fn is_ejected(&self) -> bool {
        self.trouble.lock().ejected_until(Instant::now()).is_some()
    }

    /// How much streams have shown it to be worth.
    pub fn trust(&self) -> Trust {
        self.trouble.lock().trust(Instant::now())
    }

    /// Until when streams get no slots of it, if they do not now.
    pub(crate) fn ejected_until(&self) -> Option<Instant> {
        self.trouble.lock().ejected_until(Instant::now())
    }

    /// Since when streams have shown it to be bad, if no stream has delivered on it since.
    pub(crate) fn ejected_since(&self) -> Option<Instant> {
        self.trouble.lock().ejected_since(Instant::now())
    }

    /// Whether streams may start on it. One that somebody else runs may be tried before its first probe.
    pub(crate) fn may_serve(&self) -> bool {
        let known = self.knowledge.lock();
        let is_up = known.health != Health::Unknown || self.container.is_none();
        is_up && !known.is_frozen
    }

    /// Whether it has not answered when it was last asked: it serves only if no other can. One that is not ours and has
    /// never answered may be another program altogether, or an engine without that page.
    pub(crate) fn is_doubtful(&self) -> bool {
        let known = self.knowledge.lock();
        known.health == Health::Unhealthy || (known.health == Health::Unknown && known.misses > 0)
    }

    pub(crate) fn take_slot(&self) -> bool {
        let mut load = self.load.lock();
        let may = load.door == Door::Open && load.used < self.slots;
        load.used += usize::from(may);
        load.was_used |= may;
        may
    }

    pub(crate) fn return_slot(&self) {
        let mut load = self.load.lock();
        load.used -= 1;
        load.idle_since = Instant::now();
    }

    /// Lets no new streams in, or lets them in again.
    pub(crate) fn cordon(&self, is_cordoned: bool) {
        let mut load = self.load.lock();
        if load.door != Door::Closed {
            load.door = if is_cordoned { Door::Cordoned } else { Door::Open };
        }
    }

    /// An operator drains it, or has changed his mind: its streams go elsewhere and it gets no new ones. One of ours is
    /// replaced and removed by the plan; one that somebody else runs stays, and is only left alone.
    pub fn drain(&self, is_unwanted: bool) {
        self.load.lock().is_unwanted = is_unwanted;
        // Of ours the plan sees to it, which knows what else speaks for or against.
        if self.container.is_none() {
            self.cordon(is_unwanted);
        }
    }

    /// Whether an operator drains it.
    pub fn is_unwanted(&self) -> bool {
        self.load.lock().is_unwanted
    }

    /// Closes it for ever, provided that it has no stream. False when it has one.
    pub(crate) fn retire(&self) -> bool {
        let mut load = self.load.lock();
        if load.used == 0 {
            load.door = Door::Closed;
        }
        load.used == 0
    }

    /// Closes it for ever, whatever plays on it.
    pub(crate) fn close(&self) {
        self.load.lock().door = Door::Closed;
    }

    /// It could not be removed after all.
    pub(crate) fn reopen(&self) {
        self.load.lock().door = Door::Cordoned;
    }

    /// Its container's present name and whether it is paused.
    pub(crate) fn observed(&self, name: &str, is_frozen: bool) {
        let mut known = self.knowledge.lock();
        name.clone_into(&mut known.name);
        known.is_frozen = is_frozen;
    }

    /// What its container uses now.
    pub(crate) fn uses(&self, usage: Usage) {
        self.knowledge.lock().usage = Some(usage);
        let Some(traffic) = &self.traffic else { return };
        let (received, sent) = (usage.network_rx, usage.network_tx);
        let idle_since = self.at_rest_since();
        traffic.lock().take(Sample { at: Instant::now(), received, sent, idle_since });
    }

    /// Whether it receives what no stream has asked for.
    pub fn runs_away(&self) -> Option<Runaway> {
        let traffic = self.traffic.as_ref()?;
        let idle_since = self.at_rest_since();
        traffic.lock().runs_away(idle_since, Instant::now())
    }

    /// Since when nothing that a stream has left behind may still be wanted.
    fn at_rest_since(&self) -> Option<Instant> {
        let load = self.load.lock();
        let idle_since = (load.used == 0 && load.was_used).then_some(load.idle_since);
        drop(load);
        idle_since.filter(|_| self.engine.is_at_rest())
    }

    /// A stream has delivered on it.
    pub(crate) fn delivered(&self) {
        self.knowledge.lock().last_stream = Some(Timestamp::now());
        self.trouble.lock().succeeded(Instant::now());
    }

    pub(crate) fn delivered_elsewhere(&self, stream: &str, took: Duration) {
        self.trouble.lock().succeeded_elsewhere(stream, took, Instant::now());
    }

    /// A stream did not start on it, hung, or broke. `is_blamed`: certainly by the engine's fault.
    pub(crate) fn failed(&self, stream: &str, fault: Fault, is_blamed: bool) {
        self.trouble.lock().failed(stream, fault, is_blamed, Instant::now());
    }

    /// One probe's result. True when it has just become healthy.
    pub(crate) fn probed(&self, answered: bool) -> bool {
        self.knowledge.lock().probed(answered, self.misses_allowed)
    }

    /// Probes that were late because we were: they say nothing about the engine.
    pub(crate) fn excuse(&self) {
        self.knowledge.lock().misses = 0;
    }

    pub(crate) fn says(&self, version: Version) {
        let mut known = self.knowledge.lock();
        known.version = Some(version.version);
        known.platform = version.platform;
    }
}

impl Knowledge {
    fn new(name: String) -> Self {
        Self {
            name,
            health: Health::Unknown,
            health_since: Instant::now(),
            is_frozen: false,
            last_check: None,
            first_seen: Timestamp::now(),
            last_seen: None,
            last_stream: None,
            version: None,
            platform: None,
            usage: None,
            misses: 0,
            hits: 0,
        }
    }

    /// How long its health has been as it is.
    pub fn for_how_long(&self) -> Duration {
        self.health_since.elapsed()
    }

    fn probed(&mut self, answered: bool, misses_allowed: u32) -> bool {
        let now = Timestamp::now();
        self.last_check = Some(now);
        if answered {
            self.last_seen = Some(now);
            self.hits += 1;
            self.misses = 0;
        } else {
            self.misses += 1;
            self.hits = 0;
        }
        let before = self.health;
        self.health = match before {
            Health::Unknown if answered => Health::Healthy,
            Health::Unhealthy if self.hits >= HITS => Health::Healthy,
            // An engine that never answered is still starting; its own deadline ends that.
            Health::Healthy if self.misses >= misses_allowed => Health::Unhealthy,
            unchanged => unchanged,
        };
        if self.health != before {
            self.health_since = Instant::now();
        }
        before != Health::Healthy && self.health == Health::Healthy
    }
}

#[cfg(test)]
mod tests {
    use acemux_engine::Timings;

    use super::*;

    #[test]
    fn one_missed_probe_does_not_make_an_engine_unhealthy_nor_one_answer_healthy() {
        let mut known = Knowledge::new("one".into());
        assert!(known.probed(true, 3));
        assert!(!known.probed(false, 3));
        assert!(!known.probed(false, 3));
        assert_eq!(known.health, Health::Healthy);
        known.probed(false, 3);
        assert_eq!(known.health, Health::Unhealthy);
        known.probed(true, 3);
        assert_eq!(known.health, Health::Unhealthy);
        assert!(known.probed(true, 3));
    }

    #[test]
    fn an_engine_that_never_answered_is_not_called_unhealthy() {
        let mut known = Knowledge::new("one".into());
        (0..9).for_each(|_| assert!(!known.probed(false, 3)));
        assert_eq!(known.health, Health::Unknown);
    }

    /// An engine in a container of ours that receives 35 Mbit/s.
    fn downloading(is_new: bool, runaway: Option<RunawayRule>) -> Member {
        let endpoint: Endpoint = "127.0.0.1:6878".parse().expect("an endpoint");
        let container = Contained {
            id: "1".repeat(64).parse().expect("64 hex digits"),
            place: 1,
            labels: BTreeMap::new(),
            tunnel: TunnelName::Direct,
            forwarded: None,
            image: "image".into(),
            is_new,
            runaway,
        };
        Member::contained(Engine::new(endpoint, Timings::default()), 2, 3, container, "one".into())
    }

    /// So many seconds of it; whether it is called a runaway after them.
    async fn runs_away_after(member: &Member, seconds: u64) -> bool {
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let received = member.knowledge().usage.map_or(0, |usage| usage.network_rx);
            member.uses(Usage { network_rx: received + 4_375_000, ..Usage::default() });
        }
        member.runs_away().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_runaway_is_one_when_its_last_slot_is_back_for_a_minute() {
        let member = downloading(true, Some(RunawayRule::default()));
        assert!(member.take_slot() && member.take_slot());
        assert!(!runs_away_after(&member, 90).await);
        member.return_slot();
        assert!(!runs_away_after(&member, 90).await, "one slot is in use");
        member.return_slot();
        assert!(!runs_away_after(&member, 59).await);
        assert!(runs_away_after(&member, 3).await);
        assert!(member.take_slot());
        assert_eq!(member.runs_away(), None, "at once, not with the next sample");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_new_engine_loads_before_its_first_stream_is_its_own_affair() {
        let rule = Some(RunawayRule::default());
        assert!(!runs_away_after(&downloading(true, rule), 600).await);
        assert!(runs_away_after(&downloading(false, rule), 62).await, "an adopted one had streams before us");
    }

    #[tokio::test(start_paused = true)]
    async fn where_its_traffic_is_not_its_own_alone_nothing_is_known() {
        assert!(!runs_away_after(&downloading(false, None), 600).await);
    }
}
