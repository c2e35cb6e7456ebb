//! Which place a new engine fills, and how it is called.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Situation;
use super::types::{EngineView, Hold, Reason};

/// How long a name is avoided that another container had.
pub const NAME_AVOIDED: Duration = Duration::from_mins(10);

/// What the names of engines begin with; a number follows.
pub(crate) const NAME_PREFIX: &str = "acestream-";

/// Free names offered to one plan; it never begins so many creations.
const NAMES: usize = 64;

/// The lowest vacant places, and what is waited for. One whose engine keeps failing is waited for, not passed over, or
/// every place would be tried in turn; unless streams wait: then another place may be luckier.
pub(super) fn vacant_places(situation: &Situation<'_>, count: usize) -> (Vec<usize>, Vec<Hold>) {
    let Situation { world, need, .. } = situation;
    let taken = taken_places(situation);
    let may_pass = matches!(need.reason, Reason::StreamsWait { .. });
    let (mut places, mut held) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for place in (1..).filter(|place| !taken.contains(place)) {
        if seen == count || places.len() == count {
            break;
        }
        if let Some((until, why)) = world.memory.places.held(place, world.now) {
            let seconds = until.saturating_sub(world.now).as_secs() + 1;
            held.push(Hold::CrashLoop { place, seconds, why: why.to_owned() });
            seen += usize::from(!may_pass);
        } else {
            places.push(place);
            seen += 1;
        }
    }
    (places, held)
}

/// Free names, in order: as many as can be needed at once.
pub(super) fn free(situation: &Situation<'_>) -> Vec<String> {
    let Situation { world, cast, .. } = situation;
    let names = |engine: &EngineView| [engine.name.clone(), engine.alias.clone()];
    let mut taken: BTreeSet<String> = cast.all.iter().flat_map(|(engine, _)| names(engine)).collect();
    taken.extend(world.creating.iter().map(|creation| creation.name.clone()));
    let avoided = world.memory.names_taken.iter().filter(|(_, until)| **until > world.now);
    taken.extend(avoided.map(|(name, _)| name.clone()));
    let names = (1..=taken.len() + NAMES).map(|number| format!("{NAME_PREFIX}{number}"));
    names.filter(|name| !taken.contains(name)).collect()
}

/// The lowest vacant place, whatever has failed there: for who asks for an engine by hand.
pub(super) fn lowest_vacant(situation: &Situation<'_>) -> usize {
    let taken = taken_places(situation);
    (1..=taken.len() + 1).find(|place| !taken.contains(place)).unwrap_or(1)
}

fn taken_places(situation: &Situation<'_>) -> BTreeSet<usize> {
    let engines = situation.cast.all.iter().map(|(engine, _)| engine.place);
    engines.chain(situation.world.creating.iter().map(|creation| creation.place)).collect()
}
