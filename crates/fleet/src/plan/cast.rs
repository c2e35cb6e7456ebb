//! What each engine is to the plan.

use std::time::Duration;

use super::elect;
use super::tunnel::misplaced;
use super::types::{EngineView, Policy, Reason, Standing, TunnelView, World};
use crate::backoff::Moment;
use crate::tunnel::Health;

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
    /// Works as far as we know, behind a tunnel that does not: its streams leave, it offers nothing, and it serves again
    /// when the tunnel does.
    Stranded(Reason),
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
        let all: Vec<_> = world.engines.iter().map(|engine| (engine, role(policy, world, engine))).collect();
        let mut cast = Self { all };
        elect::forwarded_ports(world, &mut cast);
        elect::balance(world, &mut cast);
        tolerate_all_but_one(&mut cast.all);
        cast
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
    let is_leaving = matches!(engine.standing, Standing::Leaving { .. } | Standing::Ended { .. });
    let misplaced = if is_leaving { None } else { misplaced(world, engine) };
    match (misplaced, world.tunnel_of(engine)) {
        (Some(reason), _) => Role::Lost(reason),
        (None, Some(tunnel)) if !is_leaving => role_behind(policy, world, engine, tunnel),
        (None, _) => role_by_itself(policy, world, engine, Moment::ZERO),
    }
}

/// What an engine shows says nothing about it while its tunnel does not work, nor from before the tunnel worked again.
fn role_behind(policy: &Policy, world: &World<'_>, engine: &EngineView, tunnel: &TunnelView) -> Role {
    match &tunnel.health {
        Health::Up => role_by_itself(policy, world, engine, tunnel.since),
        Health::Down { why } => {
            let (tunnel, why) = (tunnel.name.clone(), why.clone());
            Role::Stranded(Reason::TunnelDown { tunnel, why })
        }
        Health::Unsure { .. } => match engine.standing {
            Standing::Ready => role_by_itself(policy, world, engine, Moment::ZERO),
            _ => Role::Suspect,
        },
    }
}

/// `since` is when its tunnel began to work.
fn role_by_itself(policy: &Policy, world: &World<'_>, engine: &EngineView, since: Moment) -> Role {
    let now = world.now;
    let lasts = |began: Moment| now.saturating_sub(began.max(since));
    match &engine.standing {
        Standing::Leaving { since } if now.saturating_sub(*since) >= LONGEST_REMOVAL => Role::Stuck,
        Standing::Leaving { .. } => Role::Leaving,
        Standing::Ended { why } => Role::Lost(Reason::Ended { why: why.clone() }),
        Standing::Starting { since } if lasts(*since) > policy.startup => {
            Role::Lost(Reason::NotReady { seconds: policy.startup.as_secs() })
        }
        Standing::Starting { .. } => Role::Coming,
        Standing::Frozen => Role::Replaceable(Reason::Frozen),
        Standing::Unhealthy { since, why } if lasts(*since) >= policy.unhealthy_grace => {
            Role::Replaceable(Reason::Unhealthy { why: why.clone() })
        }
        Standing::Unhealthy { .. } => Role::Suspect,
        Standing::Ready => ready_role(policy, world, engine),
    }
}

/// Whether one that works may be given up now, if there is a reason to.
pub(super) fn may_be_weeded(world: &World<'_>, engine: &EngineView) -> bool {
    let is_too_soon = world.memory.last_weeding.is_some_and(|last| world.now < last + WEEDING_PAUSE);
    engine.cordoned || !is_too_soon
}

fn ready_role(policy: &Policy, world: &World<'_>, engine: &EngineView) -> Role {
    let age = world.now.saturating_sub(engine.known_since);
    let may_go = engine.used == 0 && may_be_weeded(world, engine);
    let is_old = policy.max_age.is_some_and(|limit| age > limit);
    let is_fat = policy.max_memory.is_some_and(|limit| engine.memory.is_some_and(|used| used > limit));
    if engine.unwanted {
        Role::Replaceable(Reason::Asked)
    } else if engine.recipe != policy.recipe {
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
        Role::Replaceable(Reason::Outdated | Reason::Unbalanced { .. }) => true,
        Role::Replaceable(reason) => reason.is_weeding(),
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
