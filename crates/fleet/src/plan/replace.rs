//! What is to be replaced goes when the replacement is there, or first when the cap leaves no room for both; never with
//! streams on it.

use super::cast::Role;
use super::types::EngineView;
use super::{Part, Situation, remove};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let Situation { policy, cast, need, .. } = situation;
    let is_complete = need.missing == 0 && situation.coming() == 0;
    let is_full = need.missing > 0 && situation.containers() >= policy.max;
    let is_leaving = cast.with(|role| matches!(role, Role::Leaving | Role::Lost(_))).next().is_some();
    let most = match (is_complete, is_full && !is_leaving) {
        (true, _) => usize::MAX,
        (false, true) => 1,
        (false, false) => 0,
    };
    let replaceable = cast.all.iter().filter_map(|(engine, role)| {
        let (Role::Replaceable(reason) | Role::Stranded(reason)) = role else { return None };
        let is_due = *role == Role::Replaceable(reason.clone()) || is_given_up(situation, engine, is_full);
        (is_due && engine.used == 0 && engine.cordoned).then(|| remove(engine, reason.clone()))
    });
    Part::actions(replaceable.take(most))
}

/// What a tunnel that is down has stranded stays for a while, because most come back, and for as long as there is no other:
/// with nothing to replace it, it is the first to serve again. Streams that wait for its room are not held for so long.
fn is_given_up(situation: &Situation<'_>, engine: &EngineView, is_full: bool) -> bool {
    let Situation { policy, world, .. } = situation;
    let down_since = world.tunnel_of(engine).and_then(|tunnel| tunnel.down_since);
    let down_for = down_since.map(|since| world.now.saturating_sub(since));
    let is_in_the_way = is_full && world.demand.waiting > 0;
    let is_over = down_for.is_some_and(|down_for| down_for >= policy.unhealthy_grace);
    world.any_usable() && (is_over || is_in_the_way)
}
