//! What each engine is to the plan.

use std::time::Duration;

use super::types::{EngineView, Policy, Reason, Standing, World};

/// Least time between two engines that are replaced though they work, for their age, their memory or what they download: a
/// limit that every engine is beyond must not make the fleet replace one after the other.
pub const WEEDING_PAUSE: Duration = Duration::from_mins(1);

/// A container that is being removed for so long is given up. The daemon says that it is at it; with a slow disk that
/// takes seconds.
pub const LONGEST_REMOVAL: Duration = Duration::from_secs(30);

/// What an engine is to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
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
    /// Should be gone and is not: nothing runs in it any more, so it fills no place under `MAX_REPLICAS`.
    Stuck,
}

/// The engines with their roles.
pub(super) struct Cast<'a> {
    pub(super) all: Vec<(&'a EngineView, Role)>,
}

impl<'a> Cast<'a> {
    pub(super) fn new(policy: &Policy, world: &World<'a>) -> Self {
        let mut all: Vec<_> =
            world.engines.iter().map(|engine| (engine, role(policy, world, engine))).collect();
        tolerate_all_but_one(&mut all);
        Self { all }
    }

    pub(super) fn with(&self, wanted: impl Fn(&Role) -> bool) -> impl Iterator<Item = &'a EngineView> {
        self.all.iter().filter(move |(_, role)| wanted(role)).map(|(engine, _)| *engine)
    }

    pub(super) fn serving(&self) -> impl Iterator<Item = &'a EngineView> {
        self.with(|role| *role == Role::Serving)
    }

    pub(super) fn coming(&self, world: &World<'_>) -> usize {
        self.with(|role| *role == Role::Coming).count() + world.creating.len()
    }
}

fn role(policy: &Policy, world: &World<'_>, engine: &EngineView) -> Role {
    let now = world.now;
    match &engine.standing {
        Standing::Leaving { since } if now.saturating_sub(*since) >= LONGEST_REMOVAL => Role::Stuck,
        Standing::Leaving { .. } => Role::Leaving,
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
