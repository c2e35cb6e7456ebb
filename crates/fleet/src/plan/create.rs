//! Engines that are missing are created: as many as there is room for and as failures before allow.

use super::cast::Role;
use super::types::{Action, Creation, Hold, Policy, Purpose, TunnelView, World};
use super::{Part, Situation, name, tunnel};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let Situation { policy, world, need, .. } = situation;
    if need.missing == 0 {
        return Part::default();
    }
    if let Some(hold) = &world.forbidden {
        return Part::held(hold.clone());
    }
    if !world.any_usable() {
        return Part::held(Hold::NoTunnel { why: tunnel::what_is_wrong(world) });
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
    let (places, mut held) = name::vacant_places(situation, count);
    let mut decided: Vec<Creation> = Vec::new();
    for (place, name) in places.into_iter().zip(name::free(situation)) {
        let Some(creation) = creation(situation, place, name, &decided) else {
            held.push(no_ports(situation.world));
            break;
        };
        decided.push(creation);
    }
    let reason = &situation.need.reason;
    let actions = decided.into_iter();
    let actions = actions.map(|creation| Action::Create { creation, purpose, reason: reason.clone() });
    Part { actions: actions.collect(), held }
}

/// In the best tunnel that has a port left.
fn creation(situation: &Situation<'_>, place: usize, name: String, decided: &[Creation]) -> Option<Creation> {
    let free = |tunnel: &TunnelView| {
        let is_taken = |port: u16| decided.iter().any(|one| one.tunnel == tunnel.name && one.port == port);
        tunnel.ports.iter().copied().find(|port| !is_taken(*port))
    };
    let mut tunnels = tunnel::by_preference(situation, decided).into_iter();
    let (tunnel, port) = tunnels.find_map(|tunnel| Some((tunnel, free(tunnel)?)))?;
    Some(at(situation, tunnel, (place, name, port), decided))
}

fn at(
    situation: &Situation<'_>,
    tunnel: &TunnelView,
    (place, name, port): (usize, String, u16),
    decided: &[Creation],
) -> Creation {
    let forwarded = tunnel::forwarded(situation, tunnel, decided);
    let (tunnel, namespace) = (tunnel.name.clone(), tunnel.namespace.clone());
    Creation { place, name, port, tunnel, namespace, forwarded }
}

/// An engine that somebody asks for by hand, beside those that are wanted anyway, and on this port if it is named. By the
/// same rules as any: never without a tunnel that works.
pub(crate) fn one_more(policy: &Policy, world: &World<'_>, port: Option<u16>) -> Result<Creation, Hold> {
    if !world.any_usable() {
        return Err(Hold::NoTunnel { why: tunnel::what_is_wrong(world) });
    }
    let situation = Situation::new(policy, world);
    let place = name::lowest_vacant(&situation);
    let name = name::free(&situation).into_iter().next().ok_or(Hold::OneAfterTheOther)?;
    match port {
        None => creation(&situation, place, name, &[]).ok_or_else(|| no_ports(world)),
        Some(port) => {
            let has = |tunnel: &&&TunnelView| tunnel.range.contains(&port);
            let tunnels = tunnel::by_preference(&situation, &[]);
            let tunnel = tunnels.iter().find(has).ok_or_else(|| no_ports(world))?;
            Ok(at(&situation, tunnel, (place, name, port), &[]))
        }
    }
}

fn no_ports(world: &World<'_>) -> Hold {
    Hold::NoPorts { settings: tunnel::port_settings(world) }
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
