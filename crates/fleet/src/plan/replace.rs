//! What is to be replaced goes when the replacement is there, or first when the cap leaves no room for both; never with
//! streams on it.

use super::cast::Role;
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
    let replaceable = cast.all.iter().filter_map(|(engine, role)| match role {
        Role::Replaceable(reason) if engine.used == 0 && engine.cordoned => {
            Some(remove(engine, reason.clone()))
        }
        _ => None,
    });
    Part::actions(replaceable.take(most))
}
