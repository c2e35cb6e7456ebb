//! What to change next, and why: a pure function from what is wanted and what is there.
//!
//! ```text
//! Policy  (what the operator wants)  ─┐    Cast: each engine's role      restart ─ lost ─ cordon ─ create ─ replace ─ idle
//! World   (engines, tunnels, demand) ─┴─►  Need: how many are missing ─► each returns its Part ─► Plan
//! ```
//!
//! No clock, no I/O, nothing random: the same world gives the same plan. Every action carries its reason, and what is
//! wanted but must wait carries the reason for waiting. Rules that hold for every world:
//!
//! * never more containers than `MAX_REPLICAS`, those that are being removed included, unless the daemon does not come to
//!   an end with one;
//! * an engine that works and is in use is never removed; one that is to go takes no new streams and drains;
//! * a replacement is ready before the engine that it replaces goes, unless the cap leaves no room for both;
//! * at most one creation and one removal per place and minute in a steady world;
//! * with VPNs, no engine is created but in the network of one that works, and what is found elsewhere goes at once.
//!
//! Every step reads the same situation and none reads what another one decided, so a step can be understood, tested
//! and changed alone. They are applied in this order: what does not work any more goes first, because it costs nobody
//! anything (a VPN before its engines, whose end it is); then doors are shut and opened, before anything takes long,
//! so that no stream starts on what is to go; then engines are created; and last go those that work, which `replace`
//! and `idle` allow only in a situation where nothing is missing or coming, or where there is no room for what is
//! missing.

mod cast;
mod cordon;
mod create;
mod elect;
mod idle;
mod lost;
mod name;
mod need;
mod replace;
mod restart;
mod tunnel;
mod types;

use self::cast::{Cast, Role};
pub use self::cast::{LONGEST_REMOVAL, WEEDING_PAUSE};
pub(crate) use self::create::one_more;
pub use self::name::NAME_AVOIDED;
pub(crate) use self::name::NAME_PREFIX;
use self::need::Need;
pub use self::tunnel::STABLE_AFTER;
pub use self::types::{
    Action, Creation, Demand, EngineView, Hold, Home, Memory, Plan, Policy, Purpose, Reason, Standing,
    TunnelView, World,
};

/// Everything that a step decides by.
struct Situation<'a> {
    policy: &'a Policy,
    world: &'a World<'a>,
    cast: Cast<'a>,
    need: Need,
}

/// What one step decides.
#[derive(Default)]
struct Part {
    actions: Vec<Action>,
    held: Vec<Hold>,
}

/// Decides what to do next.
pub fn plan(policy: &Policy, world: &World<'_>) -> Plan {
    let situation = Situation::new(policy, world);
    let steps = [restart::step, lost::step, cordon::step, create::step, replace::step, idle::step];
    let parts: Vec<Part> = steps.iter().map(|step| step(&situation)).collect();
    let Need { wanted, because, .. } = situation.need;
    let (actions, held): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.actions, part.held)).unzip();
    Plan { wanted, because, actions: actions.concat(), held: held.concat() }
}

impl<'a> Situation<'a> {
    fn new(policy: &'a Policy, world: &'a World<'a>) -> Self {
        let cast = Cast::new(policy, world);
        let need = Need::new(policy, world, &cast);
        Self { policy, world, cast, need }
    }

    /// Engines that will be able to serve, those that are being created included.
    fn coming(&self) -> usize {
        self.cast.coming(self.world)
    }

    /// Containers that exist or are being created, as `MAX_REPLICAS` counts them.
    fn containers(&self) -> usize {
        self.cast.with(|role| *role != Role::Stuck).count() + self.world.creating.len()
    }
}

impl Part {
    fn actions(actions: impl IntoIterator<Item = Action>) -> Self {
        Self { actions: actions.into_iter().collect(), held: Vec::new() }
    }

    fn held(hold: Hold) -> Self {
        Self { actions: Vec::new(), held: vec![hold] }
    }
}

fn remove(engine: &EngineView, reason: Reason) -> Action {
    Action::Remove { id: engine.id.clone(), place: engine.place, reason }
}
