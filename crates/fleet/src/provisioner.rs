//! Who creates and removes engine containers: the one seam between the fleet and Docker.
//!
//! A provisioner acts on containers of its own instance only; it re-reads the label before anything destructive. It
//! chooses nothing and retries nothing that the fleet could decide about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;

use crate::ident::{ContainerId, DockerName};
use crate::spec::EngineSpec;
use crate::tunnel::Namespace;

/// Creates, watches and removes engine containers. Every call has its own deadline.
pub trait Provisioner: Send + Sync + 'static {
    /// Every container of this instance, in any state. A failure is never an empty list.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Container>, ProvisionError>>;

    /// What others have on this daemon, read and never touched.
    fn neighbours(&self) -> BoxFuture<'_, Result<Neighbours, ProvisionError>>;

    /// One own container by its full id; `None` when it is gone or not ours.
    fn inspect<'a>(&'a self, id: &'a ContainerId)
    -> BoxFuture<'a, Result<Option<Container>, ProvisionError>>;

    /// Creates and starts a container; pulls the image first when it is missing, once for all who wait. Returns when
    /// it runs. A failure leaves nothing behind.
    fn create<'a>(&'a self, spec: &'a EngineSpec) -> BoxFuture<'a, Result<ContainerId, ProvisionError>>;

    /// Removes an own container, stopping it first. Success when it is gone, whoever removed it.
    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>>;

    /// Why a container ended: exit code and last log lines.
    fn post_mortem<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<PostMortem, ProvisionError>>;

    /// One item whenever something may have changed, coalesced; it only says "look again". Ends when the connection
    /// to the daemon is lost.
    fn changes(&self) -> BoxStream<'static, ()>;

    /// What a container uses, about once a second; ends with the container or the connection.
    fn usage(&self, id: &ContainerId) -> BoxStream<'static, Usage>;

    /// The VPN container of this name, whoever runs it; `None` when there is none. It is read, not owned.
    fn vpn<'a>(&'a self, name: &'a DockerName)
    -> BoxFuture<'a, Result<Option<VpnContainer>, ProvisionError>>;

    /// One item whenever something may have changed about the container of this name. Ends when the connection to the
    /// daemon is lost.
    fn vpn_changes(&self, name: &DockerName) -> BoxStream<'static, VpnChange>;

    /// Restarts the VPN container that has this id: the one thing that is ever done to a container which is not ours,
    /// because its operator named it for that. Success when it runs again.
    fn restart_vpn<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>>;

    /// Which daemon it is, when it answers: version and API version.
    fn daemon(&self) -> BoxFuture<'_, Result<Daemon, ProvisionError>>;
}

/// What others have on this daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Engines with our product label that belong to other instances: only to report them.
    pub engines: Vec<Container>,
    /// Names like those of engines that other containers have: a new engine cannot have them.
    pub names: BTreeSet<String>,
}

/// A container as the daemon lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its full id.
    #[serde(serialize_with = "full_id")]
    pub id: ContainerId,
    /// Its present name, without the slash.
    pub name: String,
    /// The image it was made from.
    pub image: String,
    /// What it does.
    pub state: ContainerState,
    /// When it was created.
    pub created: Timestamp,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Ports published on the host: container port, host address, host port.
    pub ports: Vec<(u16, String, u16)>,
    /// The container whose network it lives in (a VPN's), as the daemon has it; `None` when it has one of its own or the
    /// host's. In another's, what the daemon counts as its traffic is everybody's there.
    pub inside: Option<String>,
}

/// What a container does, in the daemon's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Created and never started.
    Created,
    /// Its process runs.
    Running,
    /// Frozen by `docker pause`.
    Paused,
    /// Docker starts it again; not by our policy.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// Docker could not clean it up.
    Dead,
}

impl ContainerState {
    /// The daemon's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// A VPN's container: somebody else's, named by the operator.
#[derive(Clone, PartialEq, Eq)]
pub struct VpnContainer {
    /// Its full id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its image, as it was written.
    pub image: String,
    /// What it does.
    pub state: ContainerState,
    /// What the check in its image says; `None` when it has none.
    pub check: Option<Check>,
    /// When it last started, in the daemon's words: another text is another network.
    pub started: String,
    /// Addresses at which it is reached, those on networks that we share first; `127.0.0.1` when it uses the host's
    /// network. Empty while it does not run.
    pub addresses: Vec<IpAddr>,
    /// Its environment. It holds its credentials: nothing of it is shown, and [`fmt::Debug`] leaves it out.
    pub env: BTreeMap<String, String>,
}

/// What the check in a container's image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It has not decided yet.
    Starting,
    /// All is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl VpnContainer {
    /// Whether its network works; a paused one's does not.
    pub fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// Whether it was started before a moment of the daemon's clock.
    pub fn is_older_than(&self, at: Timestamp) -> bool {
        self.started.parse::<Timestamp>().is_ok_and(|started| started < at)
    }

    /// The network that it has had since its last start.
    pub fn namespace(&self) -> Namespace {
        Namespace::new(self.id.clone(), self.started.clone())
    }
}

impl fmt::Debug for VpnContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, image, state, check, started, addresses, env: _ } = self;
        f.debug_struct("VpnContainer")
            .field("id", id)
            .field("name", name)
            .field("image", image)
            .field("state", state)
            .field("check", check)
            .field("started", started)
            .field("addresses", addresses)
            .finish_non_exhaustive()
    }
}

/// What was told of a VPN's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VpnChange {
    /// It has ended, or was sent a signal that ends it. It may be shown as running for as long as its grace lasts, and its
    /// tunnel is taken down first.
    Ending {
        /// When, by the daemon's clock.
        at: Timestamp,
    },
    /// Something else: look again.
    Other,
}

/// Why a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PostMortem {
    /// Exit code of its process.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for its memory.
    pub out_of_memory: bool,
    /// Docker's own words, when it could not start.
    pub error: Option<String>,
    /// Last lines of its output, at most 50, cut to 400 characters each.
    pub log: Vec<String>,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// 100 is one core.
    pub cpu_percent: f64,
    /// Bytes without the page cache.
    pub memory: u64,
    /// Bytes allowed.
    pub memory_limit: u64,
    /// Bytes received over all interfaces since its start.
    pub network_rx: u64,
    /// Bytes sent over all interfaces since its start.
    pub network_tx: u64,
    /// Bytes read from block devices since its start.
    pub block_read: u64,
    /// Bytes written to block devices since its start.
    pub block_write: u64,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// E.g. `28.2.2`.
    pub version: String,
    /// API version agreed on, e.g. `1.41`.
    pub api_version: String,
}

/// Why a container could not be listed, created or removed. One line each, fit for an operator's page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    /// The daemon does not answer, or not in time.
    #[error("Docker does not answer: {detail}")]
    Unreachable {
        /// How it failed.
        detail: String,
    },
    /// This machine lacks what a call needs, such as descriptors. It says nothing about the daemon or the engine.
    #[error("this machine is short of descriptors or memory: {detail}")]
    Shortage {
        /// How it failed.
        detail: String,
    },
    /// The daemon answered something that is no answer.
    #[error("Docker gave a bad answer: {detail}")]
    BadReply {
        /// What was wrong.
        detail: String,
    },
    /// Another container has the name: choose another one, leave that container alone.
    #[error("the name {name} is taken by another container")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The port is taken on the host: quarantine it.
    #[error("port {port} is taken")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The image is missing and could not be pulled.
    #[error("image {image} is not available: {detail}")]
    ImageUnavailable {
        /// Its reference.
        image: String,
        /// The registry's or the daemon's words.
        detail: String,
    },
    /// The network is missing, or cannot be joined.
    #[error("network {network} cannot be used: {detail}")]
    Network {
        /// Its name.
        network: String,
        /// The daemon's words.
        detail: String,
    },
    /// The daemon refused for another reason.
    #[error("Docker refused: {detail}")]
    Refused {
        /// The daemon's words.
        detail: String,
    },
    /// The daemon says that it is removing the container, and does not come to an end with it.
    #[error("Docker is still removing container {id}")]
    StillRemoving {
        /// Short id.
        id: String,
    },
    /// The container does not carry this instance's label; it was left alone.
    #[error("container {id} is not ours")]
    NotOurs {
        /// Short id.
        id: String,
    },
}

impl ProvisionError {
    /// Whether the daemon has taken the removal on.
    pub fn is_still_removing(&self) -> bool {
        matches!(self, Self::StillRemoving { .. })
    }
}

fn full_id<S: serde::Serializer>(id: &ContainerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}
