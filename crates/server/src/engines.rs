//! The engines this service may use, and which of them serves a new stream.
//!
//! Choice is by load: the engine with the fewest slots taken, with a hard cap per engine. A [`Slot`] is the right to
//! run one playback on an engine; it is taken before the start call and returned when the engine has answered the
//! stop, so the cap holds at every moment. When the control plane comes it feeds this table; the choice stays here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acemux_engine::{Endpoint, Engine, Infohash, Timings, Version};
use acemux_relay::origin::{Pressure, SourceId};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long an engine that refused a connection is asked last.
const SHUNNED: Duration = Duration::from_secs(10);

/// All engines.
#[derive(Debug)]
pub struct Engines {
    all: Vec<Arc<Member>>,
    freed: Arc<Notify>,
}

/// One engine and what is known of it.
#[derive(Debug)]
pub struct Member {
    /// How others name it.
    pub id: SourceId,
    /// How to speak with it.
    pub engine: Engine,
    /// Slots it has (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    used: AtomicUsize,
    state: Mutex<Knowledge>,
}

/// What probes and streams have shown.
#[derive(Clone, Debug)]
pub struct Knowledge {
    /// By the probe of its API.
    pub health: Health,
    /// When the probe last had an answer or gave up.
    pub last_check: Option<Timestamp>,
    /// Since when it is configured.
    pub first_seen: Timestamp,
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// When a stream last started on it.
    pub last_stream: Option<Timestamp>,
    /// Its version, e.g. `3.2.11`.
    pub version: Option<String>,
    /// Its platform, e.g. `linux`.
    pub platform: Option<String>,
    refused_at: Option<Instant>,
    misses: u32,
    hits: u32,
}

/// Whether an engine's API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not probed yet.
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

/// Probes in a row that must fail before an engine is called unhealthy, so that one lost packet changes nothing.
const MISSES: u32 = 3;
/// Probes in a row that must succeed before an unhealthy engine is called healthy again.
const HITS: u32 = 2;

/// Why there is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// Nothing is configured.
    #[error("no engine is configured: set ENGINES=host:port[,host:port]")]
    NoEngines,
    /// Every engine has just failed with this stream.
    #[error("no other engine is left to try")]
    NoneLeft,
    /// All slots are taken.
    #[error("every engine runs as many streams as MAX_STREAMS_PER_ENGINE allows")]
    AllBusy,
}

/// The right to run one playback on an engine. Dropping it returns the right.
#[derive(Debug)]
pub struct Slot {
    member: Arc<Member>,
    freed: Arc<Notify>,
}

impl Slot {
    /// Where it is.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.member.used.fetch_sub(1, Ordering::AcqRel);
        self.freed.notify_waiters();
    }
}

impl Engines {
    /// Engines that somebody else runs, each with `slots` slots. Must be called in the runtime.
    pub fn external(endpoints: &[Endpoint], slots: usize, timings: &Timings) -> Arc<Self> {
        let member = |endpoint: &Endpoint| Arc::new(Member::new(endpoint.clone(), slots, timings.clone()));
        let all = endpoints.iter().map(member).collect();
        Arc::new(Self { all, freed: Arc::new(Notify::new()) })
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Member>] {
        &self.all
    }

    /// The engine of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Member>> {
        self.all.iter().find(|member| member.name() == name)
    }

    /// Whether a start may succeed now.
    pub fn any_healthy(&self) -> bool {
        self.all.iter().any(|member| member.knowledge().health == Health::Healthy)
    }

    /// Engines to ask something that needs no slot, the best first: those that answer, then by load.
    pub fn to_ask(&self) -> Vec<&Arc<Member>> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|member| {
            (member.knowledge().health == Health::Unhealthy, member.is_shunned(), member.used())
        });
        all
    }

    /// A slot for `stream` on the least loaded engine not in `exclude`, waiting for one until `deadline`.
    ///
    /// An engine where a stop of the same stream is pending is taken only if there is no other: the start would have
    /// to wait for the stop's answer.
    pub async fn slot(
        &self,
        stream: Option<Infohash>,
        exclude: &[SourceId],
        pressure: &Pressure,
        deadline: Instant,
    ) -> Result<Slot, NoSlot> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.try_slot(stream, exclude) {
                Err(NoSlot::AllBusy) => pressure.relieve(),
                decided => return decided,
            };
            if timeout_at(deadline, freed).await.is_err() {
                return Err(NoSlot::AllBusy);
            }
        }
    }

    fn try_slot(&self, stream: Option<Infohash>, exclude: &[SourceId]) -> Result<Slot, NoSlot> {
        if self.all.is_empty() {
            return Err(NoSlot::NoEngines);
        }
        let mut eligible: Vec<_> = self.all.iter().filter(|member| !exclude.contains(&member.id)).collect();
        if eligible.is_empty() {
            return Err(NoSlot::NoneLeft);
        }
        eligible.sort_by_key(|member| {
            let closing = stream.is_some_and(|stream| member.engine.is_closing(stream));
            (member.knowledge().health == Health::Unhealthy, member.is_shunned(), closing, member.used())
        });
        let taken = eligible.into_iter().find(|member| member.take_slot());
        let slot = |member: &Arc<Member>| Slot { member: Arc::clone(member), freed: Arc::clone(&self.freed) };
        taken.map(slot).ok_or(NoSlot::AllBusy)
    }
}

impl Member {
    fn new(endpoint: Endpoint, slots: usize, timings: Timings) -> Self {
        Self {
            id: SourceId::new(endpoint.to_string()),
            engine: Engine::new(endpoint, timings),
            slots,
            used: AtomicUsize::new(0),
            state: Mutex::new(Knowledge::new()),
        }
    }

    /// Its unique name: `host:port`.
    pub fn name(&self) -> String {
        self.id.to_string()
    }

    /// Slots taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// What is known of it now.
    pub fn knowledge(&self) -> Knowledge {
        self.state.lock().clone()
    }

    /// It refused a connection: for a while others are tried first.
    pub fn refused(&self) {
        self.state.lock().refused_at = Some(Instant::now());
    }

    /// A stream has started on it.
    pub fn started(&self) {
        let mut state = self.state.lock();
        state.refused_at = None;
        state.last_stream = Some(Timestamp::now());
    }

    /// One probe's result.
    pub fn probed(&self, answered: bool) {
        self.state.lock().probed(answered);
    }

    /// What it says it is.
    pub fn says(&self, version: Version) {
        let mut state = self.state.lock();
        state.version = Some(version.version);
        state.platform = version.platform;
    }

    fn is_shunned(&self) -> bool {
        self.state.lock().refused_at.is_some_and(|at| at.elapsed() < SHUNNED)
    }

    fn take_slot(&self) -> bool {
        let more = |used| (used < self.slots).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

impl Knowledge {
    fn new() -> Self {
        Self {
            health: Health::Unknown,
            last_check: None,
            first_seen: Timestamp::now(),
            last_seen: None,
            last_stream: None,
            version: None,
            platform: None,
            refused_at: None,
            misses: 0,
            hits: 0,
        }
    }

    fn probed(&mut self, answered: bool) {
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
        self.health = match self.health {
            Health::Unknown if answered => Health::Healthy,
            Health::Unhealthy if self.hits >= HITS => Health::Healthy,
            _ if self.misses >= MISSES => Health::Unhealthy,
            unchanged => unchanged,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(count: u16, slots: usize) -> Arc<Engines> {
        let endpoints: Vec<Endpoint> =
            (0..count).map(|n| format!("127.0.0.1:{}", 20_000 + n).parse().unwrap()).collect();
        Engines::external(&endpoints, slots, &Timings::default())
    }

    async fn slot(engines: &Engines, exclude: &[SourceId]) -> Result<Slot, NoSlot> {
        engines.slot(None, exclude, &Pressure::none(), Instant::now()).await
    }

    #[tokio::test]
    async fn the_least_loaded_engine_is_taken_and_the_cap_is_hard() {
        let engines = engines(2, 1);
        let first = slot(&engines, &[]).await.unwrap();
        let second = slot(&engines, &[]).await.unwrap();
        assert_ne!(first.member().id, second.member().id);
        assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
        drop(first);
        assert!(slot(&engines, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn a_failed_engine_is_not_tried_again_for_the_same_start() {
        let engines = engines(2, 3);
        let failed = slot(&engines, &[]).await.unwrap().member().id.clone();
        let other = slot(&engines, std::slice::from_ref(&failed)).await.unwrap().member().id.clone();
        assert_ne!(failed, other);
        assert_eq!(slot(&engines, &[failed, other]).await.unwrap_err(), NoSlot::NoneLeft);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_slot_that_is_returned() {
        let engines = engines(1, 1);
        let held = slot(&engines, &[]).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let pressure = Pressure::none();
        let waiting = engines.slot(None, &[], &pressure, deadline);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn without_engines_the_answer_names_the_setting() {
        let error = slot(&engines(0, 1), &[]).await.unwrap_err();
        assert!(error.to_string().contains("ENGINES"));
    }

    #[test]
    fn one_missed_probe_does_not_make_an_engine_unhealthy() {
        let mut known = Knowledge::new();
        known.probed(true);
        known.probed(false);
        known.probed(false);
        assert_eq!(known.health, Health::Healthy);
        known.probed(false);
        assert_eq!(known.health, Health::Unhealthy);
        known.probed(true);
        assert_eq!(known.health, Health::Unhealthy);
        known.probed(true);
        assert_eq!(known.health, Health::Healthy);
    }
}
