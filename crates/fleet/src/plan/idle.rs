//! Of engines that are too many, one idle one goes at a time: of the tunnel that has most, the one in the highest place, and
//! the one with the forwarded port last.

use std::time::Duration;

use super::types::{EngineView, Reason};
use super::{Part, Situation, remove, tunnel};

/// An engine is not removed for idleness before it is so old, or a demand that comes and goes would create and remove
/// one engine over and over.
const YOUNGEST_TO_REMOVE: Duration = Duration::from_mins(1);

pub(super) fn step(situation: &Situation<'_>) -> Part {
    let Situation { policy, world, cast, need } = situation;
    let is_quiet = world.demand.waiting == 0 && need.missing == 0 && situation.coming() == 0;
    if !policy.auto_delete || need.surplus == 0 || !is_quiet {
        return Part::default();
    }
    let idle_for = |engine: &EngineView| engine.idle_since.map(|since| world.now.saturating_sub(since));
    let may_go = |engine: &&EngineView| {
        let age = world.now.saturating_sub(engine.known_since);
        let is_idle = idle_for(engine).is_some_and(|idle| idle >= policy.idle_grace);
        engine.used == 0 && age >= YOUNGEST_TO_REMOVE && is_idle
    };
    let is_bearer = |engine: &EngineView| engine.forwarded.is_some();
    let last = cast
        .serving()
        .filter(may_go)
        .max_by_key(|engine| (!is_bearer(engine), tunnel::load(world, cast, &engine.tunnel), engine.place));
    let removal = last.map(|engine| {
        let seconds = idle_for(engine).unwrap_or_default().as_secs();
        remove(engine, Reason::Idle { seconds })
    });
    Part::actions(removal)
}
