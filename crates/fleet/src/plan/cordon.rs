//! What is to be replaced, or is behind a tunnel that does not work, takes no new streams, and its streams look for another
//! engine; what works again takes them.

use super::cast::Role;
use super::types::{Action, Reason};
use super::{Part, Situation};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let doors = situation.cast.all.iter().filter_map(|(engine, role)| {
        let id = engine.id.clone();
        match role {
            Role::Replaceable(reason) | Role::Stranded(reason) if !engine.cordoned => {
                Some(Action::Cordon { id, reason: reason.clone() })
            }
            Role::Serving if engine.cordoned => Some(Action::Uncordon { id, reason: Reason::Recovered }),
            _ => None,
        }
    });
    Part::actions(doors)
}
