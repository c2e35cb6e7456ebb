//! What happens to the fleet, for the log, the metrics and the history.

use std::fmt;
use std::time::Duration;

use crate::ident::ContainerId;
use crate::plan::{Purpose, Reason};
use crate::provisioner::PostMortem;
use crate::tunnel::{Health, TunnelName};

/// Takes note of events. Called from the fleet's own task: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// One event.
    fn observe(&self, event: &Event);
}

/// An engine in a container, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineName {
    /// Its container.
    pub id: ContainerId,
    /// Its container's name.
    pub name: String,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.id)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A creation begins.
    Creating {
        /// Its name.
        name: String,
        /// Why.
        reason: Reason,
    },
    /// A container runs.
    Created {
        /// Which.
        engine: EngineName,
        /// How long Docker took.
        took: Duration,
    },
    /// A creation failed; nothing is left of it.
    CreationFailed {
        /// The name it would have had.
        name: String,
        /// Why.
        why: String,
    },
    /// An own container that already ran is used.
    Adopted {
        /// Which.
        engine: EngineName,
    },
    /// Its API answers for the first time.
    Ready {
        /// Which.
        engine: EngineName,
        /// Time since its container runs, as far as we know.
        took: Duration,
    },
    /// Its API has stopped answering, or answers again.
    HealthChanged {
        /// Which.
        engine: EngineName,
        /// Whether it answers.
        is_healthy: bool,
    },
    /// It takes no new streams, or takes them again.
    Cordoned {
        /// Which.
        engine: EngineName,
        /// Whether it takes none.
        is_cordoned: bool,
        /// Why.
        reason: Reason,
    },
    /// Its process ended by itself, or by somebody else's hand.
    Ended {
        /// Which.
        engine: EngineName,
        /// What is known of its end.
        post_mortem: PostMortem,
    },
    /// Its container was removed by us.
    Removed {
        /// Which.
        engine: EngineName,
        /// Why.
        reason: Reason,
    },
    /// Its container is gone, and not by us.
    Vanished {
        /// Which.
        engine: EngineName,
    },
    /// Somebody renamed its container.
    Renamed {
        /// Which, with its new name.
        engine: EngineName,
        /// The name it had.
        from: String,
    },
    /// It could not be removed; it is tried again.
    RemovalFailed {
        /// Which.
        engine: EngineName,
        /// Why.
        why: String,
    },
    /// Creations failed too often in a row, or work again.
    Breaker {
        /// Which breaker.
        purpose: Purpose,
        /// Whether it stops creations.
        is_open: bool,
        /// Failures in a row.
        failures: u32,
    },
    /// It runs past its VPN, where everybody sees this host's address. It is removed at once.
    Outside {
        /// Which.
        engine: EngineName,
        /// Where it should be.
        tunnel: TunnelName,
    },
    /// A VPN works, works no more, or nobody can tell.
    TunnelChanged {
        /// Which.
        tunnel: TunnelName,
        /// What it is now.
        health: Health,
    },
    /// We restart a VPN's container.
    TunnelRestarted {
        /// Which.
        tunnel: TunnelName,
        /// Why.
        reason: Reason,
    },
    /// A VPN's container could not be restarted. It is not tried again before the VPN has worked.
    TunnelNotRestarted {
        /// Which.
        tunnel: TunnelName,
        /// Why.
        why: String,
    },
    /// The daemon stopped answering.
    DockerDown {
        /// How.
        why: String,
    },
    /// The daemon answers again, after so long.
    DockerUp {
        /// How long it did not.
        after: Duration,
    },
    /// Engines of another instance run here. They are left alone.
    Strangers {
        /// Their instance.
        instance: String,
        /// How many.
        engines: usize,
    },
    /// Another service uses our instance id.
    Rival {
        /// The id.
        instance: String,
        /// Engines that it has created while we run, by name.
        engines: Vec<String>,
    },
    /// An operator asked for so many engines.
    Scaled {
        /// Engines to keep.
        to: usize,
    },
}
