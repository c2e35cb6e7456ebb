//! What to change next, and why: a pure function from what is wanted and what is there.
//!
//! ```text
//! Policy  (what the operator wants)  ─┐
//! World   (engines, demand, memory)  ─┴─► plan() ─► Plan { wanted, actions, held }
//! ```
//!
//! No clock, no I/O, nothing random: the same world gives the same plan. Every action carries its reason, and what is
//! wanted but must wait carries the reason for waiting. Rules that hold for every world:
//!
//! * never more containers than `MAX_REPLICAS`, those that are being removed included;
//! * an engine that works and is in use is never removed; one that is to go takes no new streams and drains;
//! * a replacement is ready before the engine that it replaces goes, unless the cap leaves no room for both;
//! * at most one creation and one removal per place and minute in a steady world.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::backoff::{Breaker, Moment, Places};
use crate::ident::ContainerId;

/// An engine is not removed for idleness before it is so old, or a demand that comes and goes would create and remove
/// one engine over and over.
const YOUNGEST_TO_REMOVE: Duration = Duration::from_mins(1);

/// How long a name is avoided that another container had.
pub const NAME_AVOIDED: Duration = Duration::from_mins(10);

/// What the names of engines begin with; a number follows.
pub(crate) const NAME_PREFIX: &str = "acestream-";

/// Least time between two engines that are replaced though they work, for their age, their memory or what they download: a
/// limit that every engine is beyond must not make the fleet replace one after the other.
pub const WEEDING_PAUSE: Duration = Duration::from_mins(1);

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Engines kept (`MIN_REPLICAS`, or what `POST /scale` asked for).
    pub min: usize,
    /// Engines allowed (`MAX_REPLICAS`).
    pub max: usize,
    /// Engines kept idle (`MIN_FREE_REPLICAS`).
    pub min_free: usize,
    /// Streams per engine (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    /// Idle time before an engine may be removed (`ENGINE_GRACE_PERIOD_S`).
    pub idle_grace: Duration,
    /// Whether idle engines are removed (`AUTO_DELETE`).
    pub auto_delete: bool,
    /// How long an unhealthy engine may recover (`HEALTH_UNHEALTHY_GRACE_PERIOD_S`).
    pub unhealthy_grace: Duration,
    /// How long a new engine may take to become ready (`STARTUP_TIMEOUT_S`).
    pub startup: Duration,
    /// Creations at a time (`MAX_CONCURRENT_PROVISIONS`).
    pub concurrent: usize,
    /// Least time between two creations (`MIN_PROVISION_INTERVAL_S`).
    pub interval: Duration,
    /// Age at which an idle engine is replaced (`ENGINE_MAX_AGE`).
    pub max_age: Option<Duration>,
    /// Memory at which an idle engine is replaced (`ENGINE_MAX_MEMORY`), in bytes.
    pub max_memory: Option<u64>,
    /// Fingerprint of the recipe that engines should be made from.
    pub recipe: String,
}

/// What is there.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// Time since the fleet began.
    pub now: Moment,
    /// Own containers, in any state.
    pub engines: &'a [EngineView],
    /// Creations under way.
    pub creating: &'a [Creation],
    /// What streams ask for.
    pub demand: Demand,
    /// What failed before.
    pub memory: &'a Memory,
    /// Host ports that were just found free.
    pub ports: &'a [u16],
    /// Why nothing may be created now, whatever is wanted.
    pub forbidden: Option<Hold>,
}

/// One own container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineView {
    /// Its full id.
    pub id: ContainerId,
    /// Its present name.
    pub name: String,
    /// The place that it fills.
    pub place: usize,
    /// Whether it can be used.
    pub standing: Standing,
    /// Slots taken, those of stops under way included.
    pub used: usize,
    /// Since when it has no stream.
    pub idle_since: Option<Moment>,
    /// Since when it is known to us. Its age counts from here: the daemon's clock may be another one than ours.
    pub known_since: Moment,
    /// Memory in use, in bytes.
    pub memory: Option<u64>,
    /// It downloads on without a session: so much, in Mbit/s.
    pub runaway: Option<u64>,
    /// Fingerprint of the recipe it was made from.
    pub recipe: String,
    /// It takes no new streams.
    pub cordoned: bool,
}

/// Whether an engine can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its container runs, its API has not answered yet.
    Starting {
        /// Since when the container runs, as far as we know.
        since: Moment,
    },
    /// Its API answers.
    Ready,
    /// Its API has stopped answering, or streams fail on it.
    Unhealthy {
        /// Since when.
        since: Moment,
        /// What shows it.
        why: String,
    },
    /// Its container is paused.
    Frozen,
    /// Its container does not run.
    Ended {
        /// `exited with code 137`, `was created and never started`.
        why: String,
    },
    /// Its container is being removed.
    Leaving,
}

/// A creation under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The place it will fill.
    pub place: usize,
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
}

/// What streams ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// Streams that wait for a slot.
    pub waiting: usize,
}

/// What failed before.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Per place.
    pub places: Places,
    /// Stops growth after failures in a row (`CIRCUIT_BREAKER_FAILURE_THRESHOLD`).
    pub growth: Breaker,
    /// Stops replacements after failures in a row (`CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD`).
    pub replacement: Breaker,
    /// When the last creation began.
    pub last_creation: Option<Moment>,
    /// Names that other containers have, and until when we avoid them.
    pub names_taken: BTreeMap<String, Moment>,
    /// When the last engine was given up that works, for its age, its memory or what it downloads.
    pub last_weeding: Option<Moment>,
}

/// What to do next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Engines wanted in all.
    pub wanted: usize,
    /// How that number comes about, one line.
    pub because: String,
    /// What to do now.
    pub actions: Vec<Action>,
    /// What is wanted and must wait.
    pub held: Vec<Hold>,
}

/// One change, completely decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Create an engine.
    Create {
        /// The place it fills.
        place: usize,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
        /// Which breaker answers for it.
        purpose: Purpose,
        /// Why.
        reason: Reason,
    },
    /// Give an engine no new streams.
    Cordon {
        /// Which.
        #[serde(serialize_with = "full_id")]
        id: ContainerId,
        /// Why.
        reason: Reason,
    },
    /// Give it streams again.
    Uncordon {
        /// Which.
        #[serde(serialize_with = "full_id")]
        id: ContainerId,
        /// Why.
        reason: Reason,
    },
    /// Remove it, provided that it is still without streams or does not run.
    Remove {
        /// Which.
        #[serde(serialize_with = "full_id")]
        id: ContainerId,
        /// The place that it fills.
        place: usize,
        /// Why.
        reason: Reason,
    },
}

/// Whether an engine adds to the fleet or takes another one's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// More engines.
    Growth,
    /// An engine instead of one that is to go.
    Replacement,
}

/// Why something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// Fewer than `MIN_REPLICAS`.
    BelowMinimum {
        /// Engines there or coming.
        have: usize,
        /// Engines wanted.
        want: usize,
    },
    /// Fewer idle ones than `MIN_FREE_REPLICAS`.
    KeepFree {
        /// Idle ones there or coming.
        free: usize,
        /// Idle ones wanted.
        want: usize,
    },
    /// Streams wait for a slot.
    StreamsWait {
        /// How many.
        streams: usize,
    },
    /// Its process does not run.
    Ended {
        /// What is known of its end.
        why: String,
    },
    /// Its API did not answer in time after its start.
    NotReady {
        /// The limit, in seconds.
        seconds: u64,
    },
    /// Its container is paused.
    Frozen,
    /// Its API or its streams fail for too long.
    Unhealthy {
        /// What shows it.
        why: String,
    },
    /// It was made from another recipe: settings have changed.
    Outdated,
    /// It is idle and downloads on.
    RunsAway {
        /// How much, in Mbit/s.
        mbits: u64,
    },
    /// It is idle and has been known for longer than `ENGINE_MAX_AGE`.
    Old,
    /// It is idle and uses more than `ENGINE_MAX_MEMORY`.
    Fat,
    /// It has been idle for long, and there are enough without it.
    Idle {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// It works again.
    Recovered,
    /// An operator asked for it.
    Asked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinimum { have, want } => write!(f, "{have} of at least {want} engines exist"),
            Self::KeepFree { free, want } => write!(f, "{free} of {want} engines to be kept idle exist"),
            Self::StreamsWait { streams } => write!(f, "{streams} stream(s) wait for a slot"),
            Self::Ended { why } => write!(f, "it does not run: {why}"),
            Self::NotReady { seconds } => write!(f, "its API did not answer within {seconds} s of its start"),
            Self::Frozen => write!(f, "its container is paused"),
            Self::Unhealthy { why } => write!(f, "it is unhealthy: {why}"),
            Self::Outdated => write!(f, "it was made with other settings"),
            Self::RunsAway { mbits } => write!(f, "it receives {mbits} Mbit/s without a session"),
            Self::Old => write!(f, "it is idle and older than ENGINE_MAX_AGE"),
            Self::Fat => write!(f, "it is idle and uses more memory than ENGINE_MAX_MEMORY"),
            Self::Idle { seconds } => write!(f, "idle for {seconds} s, and enough others exist"),
            Self::Recovered => write!(f, "it works again"),
            Self::Asked => write!(f, "an operator asked for it"),
        }
    }
}

/// Why something that is wanted must wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Hold {
    /// `MAX_REPLICAS` exist.
    AtMaximum {
        /// The cap.
        max: usize,
    },
    /// The engine of this place keeps failing.
    CrashLoop {
        /// Which place.
        place: usize,
        /// Until it is tried again, in seconds.
        seconds: u64,
        /// What the last failure was.
        why: String,
    },
    /// Too many creations failed in a row.
    BreakerOpen {
        /// Which breaker.
        purpose: Purpose,
        /// Until one is tried again, in seconds.
        seconds: u64,
    },
    /// No port of the range is free.
    NoPorts,
    /// The image is not here and cannot be pulled.
    ImageUnavailable {
        /// The registry's words.
        why: String,
    },
    /// The daemon does not answer.
    DockerDown {
        /// How it failed.
        why: String,
    },
    /// As many creations as `MAX_CONCURRENT_PROVISIONS` are under way, or the last one has just begun.
    OneAfterTheOther,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMaximum { max } => write!(f, "MAX_REPLICAS={max} engines exist and all are in use"),
            Self::CrashLoop { place, seconds, why } => {
                write!(f, "engine {place} keeps failing ({why}); next try in {seconds} s")
            }
            Self::BreakerOpen { seconds, .. } => {
                write!(f, "creating engines failed too often; next try in {seconds} s")
            }
            Self::NoPorts => write!(f, "no port of PORT_RANGE_HOST is free"),
            Self::ImageUnavailable { why } => write!(f, "the engine image is not available: {why}"),
            Self::DockerDown { why } => write!(f, "{why}"),
            Self::OneAfterTheOther => write!(f, "another engine is being created"),
        }
    }
}

impl Reason {
    /// Whether it is why an engine goes that works and whose settings are the present ones.
    pub fn is_weeding(&self) -> bool {
        matches!(self, Self::RunsAway { .. } | Self::Old | Self::Fat)
    }
}

impl Action {
    /// Why.
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Create { reason, .. }
            | Self::Cordon { reason, .. }
            | Self::Uncordon { reason, .. }
            | Self::Remove { reason, .. } => reason,
        }
    }
}

/// What an engine is to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    /// Counts in every way.
    Serving,
    /// Counts, and will be able to serve.
    Coming,
    /// May recover: keeps its place, offers nothing.
    Suspect,
    /// To be replaced and then removed.
    Replaceable(Reason),
    /// To be removed at once.
    Lost(Reason),
    /// Is being removed.
    Leaving,
}

/// Decides what to do next.
pub fn plan(policy: &Policy, world: &World<'_>) -> Plan {
    let cast = Cast::new(policy, world);
    let need = cast.need(policy, world);
    let mut plan = Plan { wanted: need.wanted, because: need.because.clone(), ..Plan::default() };
    cast.remove_lost(&mut plan);
    cast.cordon(&mut plan);
    cast.create(policy, world, &need, &mut plan);
    cast.remove_replaced(policy, world, &need, &mut plan);
    cast.remove_idle(policy, world, &need, &mut plan);
    plan
}

/// The engines with their roles.
struct Cast<'a> {
    all: Vec<(&'a EngineView, Role)>,
}

/// How many engines are missing or too many, and why.
struct Need {
    wanted: usize,
    because: String,
    missing: usize,
    surplus: usize,
    reason: Reason,
}

impl<'a> Cast<'a> {
    fn new(policy: &Policy, world: &World<'a>) -> Self {
        let mut all: Vec<_> =
            world.engines.iter().map(|engine| (engine, role(policy, world, engine))).collect();
        tolerate_all_but_one(&mut all);
        Self { all }
    }

    fn with(&self, wanted: impl Fn(&Role) -> bool) -> impl Iterator<Item = &'a EngineView> {
        self.all.iter().filter(move |(_, role)| wanted(role)).map(|(engine, _)| *engine)
    }

    fn serving(&self) -> impl Iterator<Item = &'a EngineView> {
        self.with(|role| *role == Role::Serving)
    }

    fn coming(&self, world: &World<'_>) -> usize {
        self.with(|role| *role == Role::Coming).count() + world.creating.len()
    }

    fn need(&self, policy: &Policy, world: &World<'_>) -> Need {
        let coming = self.coming(world);
        let suspect = self.with(|role| *role == Role::Suspect).count();
        let busy =
            self.with(|role| matches!(role, Role::Serving | Role::Suspect)).filter(|e| e.used > 0).count();
        let free = self.serving().filter(|engine| engine.used == 0).count() + coming;
        let have = self.serving().count() + suspect + coming;
        let for_waiting = world.demand.waiting.div_ceil(policy.slots.max(1));
        let free_wanted = policy.min_free.max(for_waiting);
        let wanted = policy.min.max(busy + free_wanted).min(policy.max);
        let (below, unfree) = (policy.min.saturating_sub(have), free_wanted.saturating_sub(free));
        let missing = below.max(unfree);
        let reason = if for_waiting > 0 && for_waiting > free {
            Reason::StreamsWait { streams: world.demand.waiting }
        } else if unfree >= below && unfree > 0 {
            Reason::KeepFree { free, want: free_wanted }
        } else {
            Reason::BelowMinimum { have, want: policy.min }
        };
        let because = format!(
            "{wanted} wanted: {busy} in use, {free_wanted} to be free ({} waiting), at least {}, at most {}",
            world.demand.waiting, policy.min, policy.max
        );
        Need { wanted, because, missing, surplus: have.saturating_sub(wanted), reason }
    }

    fn remove_lost(&self, plan: &mut Plan) {
        for (engine, role) in &self.all {
            if let Role::Lost(reason) = role {
                plan.actions.push(remove(engine, reason.clone()));
            }
        }
    }

    fn cordon(&self, plan: &mut Plan) {
        for (engine, role) in &self.all {
            let id = engine.id.clone();
            match role {
                Role::Replaceable(reason) if !engine.cordoned => {
                    plan.actions.push(Action::Cordon { id, reason: reason.clone() });
                }
                Role::Serving if engine.cordoned => {
                    plan.actions.push(Action::Uncordon { id, reason: Reason::Recovered });
                }
                _ => {}
            }
        }
    }

    fn create(&self, policy: &Policy, world: &World<'_>, need: &Need, plan: &mut Plan) {
        if need.missing == 0 {
            return;
        }
        if let Some(hold) = &world.forbidden {
            plan.held.push(hold.clone());
            return;
        }
        let room = policy.max.saturating_sub(self.all.len() + world.creating.len());
        if room == 0 {
            plan.held.push(Hold::AtMaximum { max: policy.max });
            return;
        }
        let purpose = self.purpose();
        let Some(allowed) = allowed(policy, world, purpose, plan) else { return };
        let count = need.missing.min(room).min(allowed);
        let places = self.places(world, need, count, plan);
        if places.is_empty() {
            return;
        }
        if world.ports.is_empty() {
            plan.held.push(Hold::NoPorts);
        }
        let names = self.names(world);
        for ((place, name), port) in places.into_iter().zip(names).zip(world.ports.iter().copied()) {
            let reason = need.reason.clone();
            plan.actions.push(Action::Create { place, name, port, purpose, reason });
        }
    }

    /// While something waits to be replaced, what is created replaces it.
    fn purpose(&self) -> Purpose {
        let is_replacement = self.all.iter().any(|(_, role)| matches!(role, Role::Replaceable(_)));
        if is_replacement { Purpose::Replacement } else { Purpose::Growth }
    }

    /// The lowest vacant places. One whose engine keeps failing is waited for, not passed over, or every place would
    /// be tried in turn; unless streams wait: then another place may be luckier.
    fn places(&self, world: &World<'_>, need: &Need, count: usize, plan: &mut Plan) -> Vec<usize> {
        let taken: BTreeSet<usize> = self
            .all
            .iter()
            .map(|(engine, _)| engine.place)
            .chain(world.creating.iter().map(|creation| creation.place))
            .collect();
        let may_pass = matches!(need.reason, Reason::StreamsWait { .. });
        let mut places = Vec::new();
        let mut seen = 0;
        for place in (1..).filter(|place| !taken.contains(place)) {
            if seen == count || places.len() == count {
                break;
            }
            if let Some((until, why)) = world.memory.places.held(place, world.now) {
                let seconds = until.saturating_sub(world.now).as_secs() + 1;
                plan.held.push(Hold::CrashLoop { place, seconds, why: why.to_owned() });
                seen += usize::from(!may_pass);
            } else {
                places.push(place);
                seen += 1;
            }
        }
        places
    }

    /// Free names, in order.
    fn names(&self, world: &World<'_>) -> impl Iterator<Item = String> {
        let mut taken: BTreeSet<String> = self.all.iter().map(|(engine, _)| engine.name.clone()).collect();
        taken.extend(world.creating.iter().map(|creation| creation.name.clone()));
        let avoided = world.memory.names_taken.iter().filter(|(_, until)| **until > world.now);
        taken.extend(avoided.map(|(name, _)| name.clone()));
        free_names(&taken).collect::<Vec<_>>().into_iter()
    }

    /// What is to be replaced goes when the replacement is there, or first when the cap leaves no room for both; never
    /// with streams on it.
    fn remove_replaced(&self, policy: &Policy, world: &World<'_>, need: &Need, plan: &mut Plan) {
        let is_complete = need.missing == 0 && self.coming(world) == 0;
        let is_full = need.missing > 0 && self.all.len() + world.creating.len() >= policy.max;
        let is_leaving = self.all.iter().any(|(_, role)| matches!(role, Role::Leaving | Role::Lost(_)));
        let mut may_make_room = is_full && !is_leaving;
        for (engine, role) in &self.all {
            let Role::Replaceable(reason) = role else { continue };
            if engine.used == 0 && engine.cordoned && (is_complete || may_make_room) {
                may_make_room = false;
                plan.actions.push(remove(engine, reason.clone()));
            }
        }
    }

    fn remove_idle(&self, policy: &Policy, world: &World<'_>, need: &Need, plan: &mut Plan) {
        let is_quiet = world.demand.waiting == 0 && need.missing == 0 && self.coming(world) == 0;
        if !policy.auto_delete || need.surplus == 0 || !is_quiet {
            return;
        }
        let idle = |engine: &&EngineView| {
            let idle = engine.idle_since.map(|since| world.now.saturating_sub(since));
            let age = world.now.saturating_sub(engine.known_since);
            engine.used == 0
                && age >= YOUNGEST_TO_REMOVE
                && idle.is_some_and(|idle| idle >= policy.idle_grace)
        };
        if let Some(engine) = self.serving().filter(idle).max_by_key(|engine| engine.place) {
            let since = engine.idle_since.unwrap_or(world.now);
            let seconds = world.now.saturating_sub(since).as_secs();
            plan.actions.push(remove(engine, Reason::Idle { seconds }));
        }
    }
}

/// How many creations may begin, or why none may.
fn allowed(policy: &Policy, world: &World<'_>, purpose: Purpose, plan: &mut Plan) -> Option<usize> {
    let breaker = match purpose {
        Purpose::Growth => &world.memory.growth,
        Purpose::Replacement => &world.memory.replacement,
    };
    if let Some(until) = breaker.opens_at(world.now) {
        let seconds = until.saturating_sub(world.now).as_secs() + 1;
        plan.held.push(Hold::BreakerOpen { purpose, seconds });
        return None;
    }
    let too_soon = world.memory.last_creation.is_some_and(|last| world.now < last + policy.interval);
    let at_once = policy.concurrent.saturating_sub(world.creating.len()).min(breaker.allowance(world.now));
    if too_soon || at_once == 0 {
        plan.held.push(Hold::OneAfterTheOther);
        return None;
    }
    // One per interval, so that a daemon that has just come back is not stormed.
    Some(if policy.interval.is_zero() { at_once } else { 1 })
}

fn remove(engine: &EngineView, reason: Reason) -> Action {
    Action::Remove { id: engine.id.clone(), place: engine.place, reason }
}

fn role(policy: &Policy, world: &World<'_>, engine: &EngineView) -> Role {
    let now = world.now;
    match &engine.standing {
        Standing::Leaving => Role::Leaving,
        Standing::Ended { why } => Role::Lost(Reason::Ended { why: why.clone() }),
        Standing::Starting { since } if now.saturating_sub(*since) > policy.startup => {
            Role::Lost(Reason::NotReady { seconds: policy.startup.as_secs() })
        }
        Standing::Starting { .. } => Role::Coming,
        Standing::Frozen => Role::Replaceable(Reason::Frozen),
        Standing::Unhealthy { since, why } if now.saturating_sub(*since) >= policy.unhealthy_grace => {
            Role::Replaceable(Reason::Unhealthy { why: why.clone() })
        }
        Standing::Unhealthy { .. } => Role::Suspect,
        Standing::Ready => ready_role(policy, world, engine),
    }
}

fn ready_role(policy: &Policy, world: &World<'_>, engine: &EngineView) -> Role {
    let age = world.now.saturating_sub(engine.known_since);
    let is_too_soon = world.memory.last_weeding.is_some_and(|last| world.now < last + WEEDING_PAUSE);
    let may_go = engine.used == 0 && (engine.cordoned || !is_too_soon);
    let is_old = policy.max_age.is_some_and(|limit| age > limit);
    let is_fat = policy.max_memory.is_some_and(|limit| engine.memory.is_some_and(|used| used > limit));
    if engine.recipe != policy.recipe {
        Role::Replaceable(Reason::Outdated)
    } else if !may_go {
        Role::Serving
    } else if let Some(mbits) = engine.runaway {
        Role::Replaceable(Reason::RunsAway { mbits })
    } else if is_old {
        Role::Replaceable(Reason::Old)
    } else if is_fat {
        Role::Replaceable(Reason::Fat)
    } else {
        Role::Serving
    }
}

/// Engines that work and are replaced only for what they are go one after the other: those already cordoned first, then
/// idle ones. The others serve meanwhile.
fn tolerate_all_but_one(all: &mut [(&EngineView, Role)]) {
    let works = |role: &Role| match role {
        Role::Replaceable(reason) => *reason == Reason::Outdated || reason.is_weeding(),
        _ => false,
    };
    let first = all
        .iter()
        .enumerate()
        .filter(|(_, (_, role))| works(role))
        .min_by_key(|(_, (engine, _))| (!engine.cordoned, engine.used > 0, engine.place))
        .map(|(index, _)| index);
    for (index, (engine, role)) in all.iter_mut().enumerate() {
        if works(role) && Some(index) != first && !engine.cordoned {
            *role = Role::Serving;
        }
    }
}

/// The names that engines get, without the taken ones, in order: as many as can be needed at once.
pub(crate) fn free_names(taken: &BTreeSet<String>) -> impl Iterator<Item = String> {
    let names = (1..=taken.len() + NAMES).map(|number| format!("{NAME_PREFIX}{number}"));
    names.filter(|name| !taken.contains(name))
}

/// Free names offered to one plan; it never begins so many creations.
const NAMES: usize = 64;

fn full_id<S: serde::Serializer>(id: &ContainerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}
