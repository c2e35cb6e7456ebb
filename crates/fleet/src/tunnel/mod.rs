//! What engines reach the world through: the host's network, or a VPN container whose network namespace they share.
//!
//! ```text
//!   Docker ─────────┐
//!   control server ─┼─► Tunnel::watch (a task per tunnel) ─► Report ─► plan's World.tunnels, pages
//!   engines inside ─┘             judges evidence            watch
//! ```
//!
//! A tunnel looks by itself and publishes what it makes of it; the fleet's loop reads the latest [`Report`] and never
//! waits for one. What a report means for engines is the plan's business and not this module's.

pub mod blame;
pub mod direct;
pub mod exit;
pub mod gluetun;
pub mod proxied;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use self::exit::Exit;
use crate::ident::{ContainerId, DockerName, InvalidName};
use crate::provisioner::VpnContainer;
use crate::spec::label;

/// Which tunnel is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelName {
    /// None: the host's own way out, for engines that hide behind nothing.
    Direct,
    /// The VPN container, by its name as it is configured.
    Vpn(DockerName),
}

impl TunnelName {
    /// `direct`, or the container's name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Direct => "direct",
            Self::Vpn(name) => name.as_str(),
        }
    }

    /// As an engine's labels have it.
    pub(crate) fn of(labels: &BTreeMap<String, String>) -> Self {
        let vpn = labels.get(label::VPN_CONTAINER).and_then(|name| name.parse().ok());
        vpn.map_or(Self::Direct, Self::Vpn)
    }

    /// The VPN container's name.
    pub fn vpn(&self) -> Option<&DockerName> {
        match self {
            Self::Direct => None,
            Self::Vpn(name) => Some(name),
        }
    }
}

impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for TunnelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One life of a VPN container's network: engines that joined an earlier one have only a loopback left. The daemon pins
/// the id when an engine is created, and makes the network anew at each start of the container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    id: ContainerId,
    started: String,
}

impl Namespace {
    /// The network that the container has had since that start, in the daemon's words.
    pub fn new(id: ContainerId, started: impl Into<String>) -> Self {
        Self { id, started: started.into() }
    }

    /// The container.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }
}

/// As it stands in an engine's label.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id.as_str(), self.started)
    }
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (id, started) = text.split_once('@').ok_or(InvalidName::Container)?;
        Ok(Self::new(id.parse()?, started))
    }
}

/// What evidence shows of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TunnelHealth)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// Traffic passes, as far as anybody can tell.
    Up,
    /// Nothing speaks for it and too little against it. Engines inside are left as they are, and none is created.
    Unsure {
        /// What is missing, one line.
        why: String,
    },
    /// It does not work, for longer than a moment.
    Down {
        /// What shows it, one line.
        why: String,
    },
}

impl Health {
    /// `up`, `unsure`, `down`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unsure { .. } => "unsure",
            Self::Down { .. } => "down",
        }
    }

    /// What is wrong, one line.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Unsure { why } | Self::Down { why } => Some(why),
        }
    }
}

/// What is known of a tunnel at a moment, judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether it works.
    pub health: Health,
    /// Since when its health is of this kind. The words may have changed since.
    pub since: Instant,
    /// Its container, as Docker last showed it. `None`: there is none of this name, it was not looked at yet, or the tunnel
    /// needs none ([`TunnelName::Direct`]).
    pub container: Option<VpnContainer>,
    /// The port that its provider forwards to it. `None`: not yet, not any more, or not known.
    pub forwarded: Option<u16>,
    /// What it tells of itself.
    pub exit: Exit,
}

impl Report {
    /// Before anything is known.
    pub fn unknown() -> Self {
        let health = Health::Unsure { why: "it has not been looked at yet".to_owned() };
        Self { health, since: Instant::now(), container: None, forwarded: None, exit: Exit::default() }
    }

    /// The network that engines would join now.
    pub fn namespace(&self) -> Option<Namespace> {
        self.container.as_ref().filter(|container| container.is_running()).map(VpnContainer::namespace)
    }
}

/// A way out for engines. Looks by itself; nobody waits for it.
pub trait Tunnel: Send + Sync + 'static {
    /// Which it is.
    fn name(&self) -> &TunnelName;

    /// The latest report, now and whenever it changes. Before the first look it is [`Report::unknown`].
    fn reports(&self) -> watch::Receiver<Report>;

    /// Looks until `stop`. Each look has a deadline over all, also when every party hangs. Begun again when it ends.
    fn watch(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_read_as_it_is_written() {
        let id: ContainerId = "0123456789abcdef".repeat(4).parse().unwrap();
        let namespace = Namespace::new(id.clone(), "2026-11-28T22:45:43.123456789Z");
        assert_eq!(namespace.to_string().parse::<Namespace>().unwrap(), namespace);
        assert_ne!(namespace, Namespace::new(id, "2026-11-28T22:45:44.123456789Z"));
        assert!("gluetun@now".parse::<Namespace>().is_err() && "".parse::<Namespace>().is_err());
    }
}
