//! Engines that do not work and will not again are removed at once, with whatever hangs on them; a removal that came to no
//! end is asked for again.

use super::cast::Role;
use super::types::Reason;
use super::{Part, Situation, remove};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let lost = situation.cast.all.iter().filter_map(|(engine, role)| match role {
        Role::Lost(reason) => Some(remove(engine, reason.clone())),
        Role::Stuck => Some(remove(engine, Reason::NotRemoved)),
        _ => None,
    });
    Part::actions(lost)
}
