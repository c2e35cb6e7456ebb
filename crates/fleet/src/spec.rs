//! Everything about one engine container before it exists. Nothing is chosen after a spec is made.

use crate::allowed::{HostPort, Labels, Variable};
use crate::capability::Capability;
use crate::ident::{ContainerId, DockerName};
use crate::image::ImageRef;

/// Labels on every engine container. The first four and `FORWARDED`, `VPN_CONTAINER` are the reference's.
pub mod label {
    /// Port of the API inside the container.
    pub const HTTP_PORT: &str = "acestream.http_port";
    /// HTTPS port inside the container.
    pub const HTTPS_PORT: &str = "acestream.https_port";
    /// Port at which the engine is reached.
    pub const HOST_HTTP_PORT: &str = "host.http_port";
    /// HTTPS port on the host (`ACE_MAP_HTTPS`).
    pub const HOST_HTTPS_PORT: &str = "host.https_port";
    /// Display name of the variant.
    pub const VARIANT: &str = "acestream.engine_variant";
    /// The VPN container whose network it shares.
    pub const VPN_CONTAINER: &str = "acestream.vpn_container";
    /// `true` on the one engine that owns its VPN's forwarded port.
    pub const FORWARDED: &str = "acestream.forwarded";
    /// Marks our engines, whatever `CONTAINER_LABEL` says: `engine`.
    pub const PRODUCT: &str = "io.acemux.role";
    /// Value of [`PRODUCT`].
    pub const PRODUCT_ENGINE: &str = "engine";
    /// Which instance owns it ([`crate::ident::InstanceId`]).
    pub const INSTANCE: &str = "io.acemux.instance";
    /// Which place of the fleet it fills: 1, 2, ….
    pub const PLACE: &str = "io.acemux.place";
    /// Fingerprint of the recipe it was made from; another one means outdated.
    pub const RECIPE: &str = "io.acemux.recipe";
    /// The name that it was made with, which stays its alias in the network when somebody renames it.
    pub const NAME: &str = "io.acemux.name";
    /// Its port for peers, where it shares a VPN's network: no two there have one.
    pub const P2P_PORT: &str = "io.acemux.p2p_port";
    /// The network that it joined ([`crate::tunnel::Namespace`]).
    pub const NAMESPACE: &str = "io.acemux.namespace";
    /// Which run of the service created it: another one than ours made it when it appears while we run.
    pub const RUN: &str = "io.acemux.run";

    /// Begins the names of our own.
    const PREFIX: &str = "io.acemux.";

    /// The reference's.
    const REFERENCES: [&str; 7] =
        [HTTP_PORT, HTTPS_PORT, HOST_HTTP_PORT, HOST_HTTPS_PORT, VARIANT, VPN_CONTAINER, FORWARDED];

    /// Whether only the fleet gives a label of this name, also to an engine that has none of it.
    pub(crate) fn is_ours(name: &str) -> bool {
        name.starts_with(PREFIX) || REFERENCES.contains(&name)
    }
}

/// One engine container, completely. Only a [`Recipe`](crate::recipe::Recipe) makes one, out of what is
/// [allowed](crate::allowed).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineSpec {
    /// Container name; also its alias in the network, so that renaming it by hand breaks nothing.
    pub name: String,
    /// Image reference.
    pub image: ImageRef,
    /// Environment, in order.
    pub env: Vec<Variable>,
    /// Arguments in place of the image's own; empty keeps those. Never a shell.
    pub command: Vec<String>,
    /// All labels, [`label`]'s included.
    pub labels: Labels,
    /// Port of the API, inside the container and where it is reached: the same number.
    pub http_port: HostPort,
    /// HTTPS port inside the container.
    pub https_port: HostPort,
    /// Ports published on the host's 127.0.0.1, same number on both sides; empty when reached over the network.
    pub publish: Vec<HostPort>,
    /// Where it is attached.
    pub network: Network,
    /// What it may do and use.
    pub limits: Limits,
}

/// Where a container is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network by name; created as a bridge when it is missing and is our own.
    Named {
        /// Its name.
        name: DockerName,
        /// Whether it is created when it is missing.
        own: bool,
    },
    /// The network namespace of another container (a VPN). By its id, because another container of that name is another
    /// network.
    Container(ContainerId),
    /// The host's. For tests and for hosts without bridges.
    Host,
}

/// What a container may do and use (S28 of the security requirements). Each relaxation is a setting of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, swap included; `None` is no limit.
    pub memory: Option<u64>,
    /// Billionths of a CPU per second; `None` is no limit.
    pub nano_cpus: Option<i64>,
    /// Processes and threads.
    pub pids: i64,
    /// Root file system read-only.
    pub read_only: bool,
    /// Writable memory file systems: path and bytes.
    pub tmpfs: Vec<(String, u64)>,
    /// Capabilities kept; all others are dropped.
    pub capabilities: Vec<Capability>,
    /// Whether a set-user-id program may gain rights (`no-new-privileges` off).
    pub new_privileges: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            nano_cpus: None,
            pids: 512,
            read_only: false,
            tmpfs: Vec::new(),
            capabilities: Vec::new(),
            new_privileges: false,
        }
    }
}
