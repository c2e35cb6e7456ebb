//! Engines that do not work and will not again are removed at once, with whatever hangs on them.

use super::cast::Role;
use super::{Part, Situation, remove};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let lost = situation.cast.all.iter().filter_map(|(engine, role)| match role {
        Role::Lost(reason) => Some(remove(engine, reason.clone())),
        _ => None,
    });
    Part::actions(lost)
}
