//! Engines that are missing are created: as many as there is room for and as failures before allow.

use super::cast::Role;
use super::types::{Action, Hold, Purpose};
use super::{Part, Situation, name};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let Situation { policy, world, need, .. } = situation;
    if need.missing == 0 {
        return Part::default();
    }
    if let Some(hold) = &world.forbidden {
        return Part::held(hold.clone());
    }
    let room = policy.max.saturating_sub(situation.containers());
    if room == 0 {
        return Part::held(Hold::AtMaximum { max: policy.max });
    }
    let purpose = purpose(situation);
    match allowance(situation, purpose) {
        Ok(allowed) => creations(situation, purpose, need.missing.min(room).min(allowed)),
        Err(hold) => Part::held(hold),
    }
}

fn creations(situation: &Situation<'_>, purpose: Purpose, count: usize) -> Part {
    let Situation { world, need, .. } = situation;
    let (places, mut held) = name::vacant_places(situation, count);
    if world.ports.is_empty() && !places.is_empty() {
        held.push(Hold::NoPorts);
    }
    let named = places.into_iter().zip(name::free(situation)).zip(world.ports.iter().copied());
    let actions = named.map(|((place, name), port)| {
        let reason = need.reason.clone();
        Action::Create { place, name, port, purpose, reason }
    });
    Part { actions: actions.collect(), held }
}

/// While something waits to be replaced, what is created replaces it.
fn purpose(situation: &Situation<'_>) -> Purpose {
    let mut replaceable = situation.cast.with(|role| matches!(role, Role::Replaceable(_)));
    if replaceable.next().is_some() { Purpose::Replacement } else { Purpose::Growth }
}

/// How many creations may begin, or why none may.
fn allowance(situation: &Situation<'_>, purpose: Purpose) -> Result<usize, Hold> {
    let Situation { policy, world, .. } = situation;
    let breaker = match purpose {
        Purpose::Growth => &world.memory.growth,
        Purpose::Replacement => &world.memory.replacement,
    };
    if let Some(until) = breaker.opens_at(world.now) {
        let seconds = until.saturating_sub(world.now).as_secs() + 1;
        return Err(Hold::BreakerOpen { purpose, seconds });
    }
    let is_too_soon = world.memory.last_creation.is_some_and(|last| world.now < last + policy.interval);
    let at_once = policy.concurrent.saturating_sub(world.creating.len()).min(breaker.allowance(world.now));
    if is_too_soon || at_once == 0 {
        return Err(Hold::OneAfterTheOther);
    }
    // One per interval, so that a daemon that has just come back is not stormed.
    Ok(if policy.interval.is_zero() { at_once } else { 1 })
}
