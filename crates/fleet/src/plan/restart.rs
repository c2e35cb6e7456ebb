//! A VPN that does not come back by itself is restarted: its container, once for each time that it goes down.

use super::types::{Action, Reason, TunnelView};
use super::{Part, Situation};

pub(super) fn step(situation: &Situation<'_>) -> Part {
    Part::actions(situation.world.tunnels.iter().filter_map(|tunnel| restart(situation, tunnel)))
}

fn restart(situation: &Situation<'_>, tunnel: &TunnelView) -> Option<Action> {
    let Situation { policy, world, .. } = situation;
    let (limit, since) = (policy.restart_vpn_after?, tunnel.down_since.filter(|_| tunnel.is_down())?);
    let id = tunnel.container.clone()?;
    let down_for = world.now.saturating_sub(since);
    let was_restarted = world.memory.restarts.get(&tunnel.name).is_some_and(|at| *at >= since);
    (down_for >= limit && !was_restarted && world.forbidden.is_none()).then(|| Action::RestartVpn {
        tunnel: tunnel.name.clone(),
        id,
        reason: Reason::VpnStuck { seconds: down_for.as_secs() },
    })
}
