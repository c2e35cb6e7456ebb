//! Which working engines give way so that every tunnel has its share and somebody has its forwarded port.
//!
//! Those who give way are replaced as any other: the new engine is ready first, then streams change over, then the old one
//! goes.

use super::cast::{Cast, Role, may_be_weeded};
use super::tunnel::{has_bearer, has_room, load};
use super::types::{EngineView, Reason, World};
use crate::tunnel::TunnelName;

/// More engines than another tunnel by so many is out of balance.
const IMBALANCE: usize = 2;

pub(super) fn forwarded_ports(world: &World<'_>, cast: &mut Cast<'_>) {
    for tunnel in world.tunnels.iter().filter(|tunnel| tunnel.is_usable()) {
        let Some(port) = tunnel.forwarded else { continue };
        let reason = Reason::ForwardedPort { port };
        // What has a port that is forwarded no more is as good as any engine, but for the wrong port in its label.
        let stale = cast.find(|engine| {
            let is_stale = engine.forwarded.is_some_and(|other| other != port);
            engine.tunnel == tunnel.name && is_stale && may_be_weeded(world, engine)
        });
        let candidate = stale.or_else(|| {
            let is_missing = !has_bearer(world, cast, &tunnel.name, port);
            let idle = is_missing.then(|| idle_one(cast, &tunnel.name)).flatten();
            idle.filter(|at| cast.all.get(*at).is_some_and(|(engine, _)| may_be_weeded(world, engine)))
        });
        if let Some(at) = candidate {
            cast.give_up(at, reason);
        }
    }
}

/// Not while streams wait: what is created for them may bring the balance by itself. Without a pause between two, because
/// each step comes nearer to an end.
pub(super) fn balance(world: &World<'_>, cast: &mut Cast<'_>) {
    let stable = world.tunnels.iter().filter(|tunnel| tunnel.is_stable(world));
    let loads: Vec<_> = stable.map(|tunnel| (present(world, cast, &tunnel.name), tunnel)).collect();
    let takes = loads.iter().filter(|(_, tunnel)| !world.is_troubled(&tunnel.name));
    let fewest = takes.clone().min_by_key(|(load, _)| *load);
    // Where no engine can come nothing need give way; but what has begun may have taken the last port.
    let with_room = takes.filter(|(_, tunnel)| has_room(world, cast, tunnel)).min_by_key(|(load, _)| *load);
    let candidate = loads.iter().filter_map(|(load, tunnel)| {
        let at = idle_one(cast, &tunnel.name)?;
        // Who has begun to go goes on until it is one more than enough.
        let is_going = cast.all.get(at).is_some_and(|(engine, _)| engine.cordoned);
        let (tolerated, fewer) = if is_going { (1, fewest) } else { (IMBALANCE, with_room) };
        let (least, fewer) = fewer?;
        (load.saturating_sub(*least) >= tolerated).then_some((*load, at, &fewer.name))
    });
    let candidate = candidate.max_by_key(|(load, ..)| *load);
    if let (Some((_, at, fewer)), 0) = (candidate, world.demand.waiting) {
        cast.give_up(at, Reason::Unbalanced { fewer: fewer.clone() });
    }
}

/// Engines that each tunnel has or gets, those to be replaced among them: each gets another one where it is. Without them a
/// tunnel with an engine of an old recipe would be short of one, somebody else would give way for it, and be the one that is
/// replaced; and so for ever.
fn present(world: &World<'_>, cast: &Cast<'_>, tunnel: &TunnelName) -> usize {
    let to_be_replaced = cast.with(|role| matches!(role, Role::Replaceable(_)));
    load(world, cast, tunnel) + to_be_replaced.filter(|engine| engine.tunnel == *tunnel).count()
}

/// One without streams and without a forwarded port; rather one that is shut already.
fn idle_one(cast: &Cast<'_>, tunnel: &TunnelName) -> Option<usize> {
    let fits =
        |engine: &EngineView| engine.tunnel == *tunnel && engine.forwarded.is_none() && engine.used == 0;
    cast.find(|engine| engine.cordoned && fits(engine)).or_else(|| cast.find(fits))
}

impl Cast<'_> {
    /// The first that serves and is so.
    fn find(&self, is_so: impl Fn(&EngineView) -> bool) -> Option<usize> {
        self.all.iter().position(|(engine, role)| *role == Role::Serving && is_so(engine))
    }

    fn give_up(&mut self, at: usize, reason: Reason) {
        if let Some((_, role)) = self.all.get_mut(at) {
            *role = Role::Replaceable(reason);
        }
    }
}
