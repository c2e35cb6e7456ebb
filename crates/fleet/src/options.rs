//! How a fleet is run: what its owner decides once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::allowed::HostPorts;
use crate::plan::Policy;
use crate::recipe::Recipe;
use crate::runaway::RunawayRule;
use crate::tunnel::Tunnel;

/// A VPN that engines hide behind.
#[derive(Clone)]
pub struct Vpn {
    /// It.
    pub tunnel: Arc<dyn Tunnel>,
    /// Where the ports of engines behind it come from (`GLUETUN_PORT_RANGE_1`), which its container may publish.
    pub ports: HostPorts,
}

impl fmt::Debug for Vpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vpn").field("tunnel", self.tunnel.name()).field("ports", &self.ports).finish()
    }
}

/// How a fleet is run.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// What the operator wants.
    pub policy: Policy,
    /// What engines are made from.
    pub recipe: Recipe,
    /// Where their host ports come from (`PORT_RANGE_HOST`).
    pub ports: HostPorts,
    /// The VPNs that they hide behind, in the operator's order; none at all and they use the host's own way out.
    pub vpns: Vec<Vpn>,
    /// Where their HTTPS ports come from (`ACE_HTTPS_RANGE`).
    pub https_ports: HostPorts,
    /// Period of the pass that repairs what an event missed (`MONITOR_INTERVAL_S`).
    pub monitor: Duration,
    /// Failures in a row that open the breaker for growth, and how long it stays open.
    pub growth: (u32, Duration),
    /// The same for replacements.
    pub replacement: (u32, Duration),
    /// Whether a stop of the service removes its engines (`STOP_ENGINES_ON_EXIT`).
    pub stop_on_exit: bool,
    /// When an idle engine is replaced for what it receives.
    pub runaway: RunawayRule,
    /// Tells this run of the service from others, of the same instance too.
    pub run: String,
    /// What `POST /scale` asked an earlier run for.
    pub floor: Option<usize>,
}
