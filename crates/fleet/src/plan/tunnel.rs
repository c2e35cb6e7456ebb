//! Whether an engine is where it must be, which tunnels may get engines, and how many each has.

use std::cmp::Reverse;
use std::time::Duration;

use super::Situation;
use super::cast::{Cast, Role};
use super::types::{Creation, EngineView, Home, Reason, TunnelView, World};
use crate::tunnel::{Health, Namespace, TunnelName};

/// A tunnel that has been up for so long is back for good: engines are moved there only then, and until then new ones
/// rather go elsewhere.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);

impl TunnelView {
    /// Engines can be created there.
    pub(super) fn is_usable(&self) -> bool {
        self.health == Health::Up && (self.name == TunnelName::Direct || self.namespace.is_some())
    }

    pub(super) fn is_stable(&self, world: &World<'_>) -> bool {
        self.is_usable() && world.now.saturating_sub(self.since) >= STABLE_AFTER
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.health, Health::Down { .. })
    }
}

impl World<'_> {
    /// The engine's tunnel, if it is one of those that there are.
    pub(super) fn tunnel_of(&self, engine: &EngineView) -> Option<&TunnelView> {
        self.tunnels.iter().find(|tunnel| tunnel.name == engine.tunnel)
    }

    pub(super) fn any_usable(&self) -> bool {
        self.tunnels.iter().any(TunnelView::is_usable)
    }

    /// Whether engines may run without a VPN.
    fn is_open(&self) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.name == TunnelName::Direct)
    }
}

/// Why an engine cannot stay where it is, whatever it does there.
pub(super) fn misplaced(world: &World<'_>, engine: &EngineView) -> Option<Reason> {
    let tunnel = engine.tunnel.clone();
    match (world.tunnel_of(engine), &engine.home) {
        // Without VPNs nothing leaks; what is left of one is not reached, and need not show it first.
        (None, _) if world.is_open() => Some(Reason::FormerTunnel { tunnel }),
        (Some(_), _) if world.is_open() => None,
        (None, Home::Inside { container, joined: Some(joined) }) if joined.id().as_str() == container => {
            Some(Reason::FormerTunnel { tunnel })
        }
        (None, _) => Some(Reason::OutsideTunnel { tunnel }),
        (Some(view), home) => displaced(view, home, tunnel),
    }
}

fn displaced(view: &TunnelView, home: &Home, tunnel: TunnelName) -> Option<Reason> {
    match home {
        Home::Inside { container, joined: Some(joined) } if joined.id().as_str() == container => {
            is_over(view, joined).then_some(Reason::NamespaceGone { tunnel })
        }
        // Or its label says something else than the daemon.
        Home::Open | Home::Inside { .. } => Some(Reason::OutsideTunnel { tunnel }),
    }
}

/// While the container does not run nothing is known of its next network, and the engine dies with the old one or not.
fn is_over(view: &TunnelView, joined: &Namespace) -> bool {
    view.namespace.as_ref().is_some_and(|present| present != joined)
}

/// Engines that each tunnel has or gets, as far as they can be used or will be.
pub(super) fn load(world: &World<'_>, cast: &Cast<'_>, tunnel: &TunnelName) -> usize {
    let counts = |role: &Role| matches!(role, Role::Serving | Role::Coming | Role::Suspect);
    let engines = cast.with(counts).filter(|engine| engine.tunnel == *tunnel).count();
    engines + world.creating.iter().filter(|creation| creation.tunnel == *tunnel).count()
}

/// Whether an engine has this forwarded port, or will have it.
pub(super) fn has_bearer(world: &World<'_>, cast: &Cast<'_>, tunnel: &TunnelName, port: u16) -> bool {
    let lives = |role: &Role| !matches!(role, Role::Lost(_) | Role::Leaving | Role::Stuck);
    let bears = |engine: &EngineView| engine.tunnel == *tunnel && engine.forwarded == Some(port);
    let comes = |creation: &Creation| creation.tunnel == *tunnel && creation.forwarded == Some(port);
    cast.with(lives).any(bears) || world.creating.iter().any(comes)
}

/// Where the next engines go: to tunnels behind which engines come up, to those that are back for good before others, to
/// the one with the fewest engines, to the one whose forwarded port nobody has. Creations decided in the same plan count.
pub(super) fn by_preference<'a>(situation: &Situation<'a>, decided: &[Creation]) -> Vec<&'a TunnelView> {
    let Situation { world, cast, .. } = situation;
    let mut usable: Vec<_> = world.tunnels.iter().filter(|tunnel| tunnel.is_usable()).collect();
    usable.sort_by_key(|tunnel| {
        let decided = decided.iter().filter(|creation| creation.tunnel == tunnel.name).count();
        let load = load(world, cast, &tunnel.name) + decided;
        let is_troubled = world.is_troubled(&tunnel.name);
        (is_troubled, Reverse(tunnel.is_stable(world)), load, forwarded(situation, tunnel, &[]).is_none())
    });
    usable
}

/// The forwarded port that a new engine of this tunnel gets: that of the tunnel, if nobody has it.
pub(super) fn forwarded(situation: &Situation<'_>, tunnel: &TunnelView, decided: &[Creation]) -> Option<u16> {
    let Situation { world, cast, .. } = situation;
    let port = tunnel.forwarded?;
    let is_decided = decided.iter().any(|one| one.tunnel == tunnel.name && one.forwarded == Some(port));
    (!is_decided && !has_bearer(world, cast, &tunnel.name, port)).then_some(port)
}

/// Whether an engine could be created there, or is on its way.
pub(super) fn has_room(world: &World<'_>, cast: &Cast<'_>, tunnel: &TunnelView) -> bool {
    let is_created = world.creating.iter().any(|creation| creation.tunnel == tunnel.name);
    let comes = || cast.with(|role| *role == Role::Coming).any(|engine| engine.tunnel == tunnel.name);
    !tunnel.ports.is_empty() || is_created || comes()
}

/// The settings that say which ports engines may have behind the tunnels that work.
pub(super) fn port_settings(world: &World<'_>) -> String {
    let setting = |(index, tunnel): (usize, &TunnelView)| match (&tunnel.name, index) {
        (TunnelName::Direct, _) => "PORT_RANGE_HOST",
        (TunnelName::Vpn(_), 0) => "GLUETUN_PORT_RANGE_1",
        (TunnelName::Vpn(_), 1) => "GLUETUN_PORT_RANGE_2",
        (TunnelName::Vpn(_), _) => "GLUETUN_PORT_RANGES",
    };
    let usable = world.tunnels.iter().enumerate().filter(|(_, tunnel)| tunnel.is_usable());
    let mut settings: Vec<_> = usable.map(setting).collect();
    settings.dedup();
    settings.join(", ")
}

/// What is wrong with each tunnel, for people.
pub(super) fn what_is_wrong(world: &World<'_>) -> String {
    let wrong = |tunnel: &TunnelView| {
        let why = tunnel.health.why().unwrap_or("its container does not run");
        format!("{} ({why})", tunnel.name)
    };
    world.tunnels.iter().map(wrong).collect::<Vec<_>>().join(", ")
}
