//! What the checks ask of the world. [`Real`](super::real::Real) asks it; tests answer in its place.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;

use acemux_engine::{Endpoint, EngineError};
use acemux_fleet::docker::Source;
use acemux_fleet::ident::DockerName;
use acemux_fleet::image::ImageRef;
use acemux_fleet::profile::Platform;
use acemux_fleet::provisioner::{Daemon, ProvisionError};
use acemux_fleet::tunnel::gluetun::visit::Visit;
use acemux_store::OpenError;
use jiff::Timestamp;

use crate::config::ListenHost;

/// Every question has a deadline of its own and changes nothing.
pub(super) trait Probes {
    /// Connects to where Docker listens.
    async fn knock(&self) -> io::Result<()>;
    /// Who answers there.
    async fn daemon(&self) -> Result<Daemon, ProvisionError>;
    /// The processor of Docker's machine, in its words; empty when it does not say.
    async fn processor(&self) -> Result<String, ProvisionError>;
    /// The networks of the container that we run in, if we do.
    async fn own_networks(&self) -> Option<Vec<DockerName>>;
    /// How many networks have a name.
    async fn networks_called(&self, name: &DockerName) -> Result<usize, ProvisionError>;
    /// Where an image would come from.
    async fn find_image(&self, image: &ImageRef) -> Result<Source, ProvisionError>;
    /// Host ports of this instance's engines.
    async fn own_ports(&self) -> Result<Vec<u16>, ProvisionError>;
    /// A VPN's container and its control server.
    async fn visit(&self, vpn: &DockerName) -> Result<Visit, ProvisionError>;
    /// Opens the service's socket and closes it again.
    async fn listen(&self, host: ListenHost, port: u16) -> io::Result<()>;
    /// Who listens there.
    async fn who_listens(&self, address: SocketAddr) -> Listener;
    /// What an engine calls itself.
    async fn engine(&self, endpoint: &Endpoint) -> Result<String, EngineError>;
    /// Looks a name up.
    async fn resolve(&self, host: &str) -> io::Result<()>;
    /// Whether files can be written in a folder, or it could be made.
    async fn try_folder(&self, folder: &Path) -> Result<(), OpenError>;
    /// Ports of a range that are free on this machine, without those that the kernel takes for outgoing connections; at
    /// most so many.
    fn free_ports(&self, range: RangeInclusive<u16>, most: usize) -> usize;
    /// Files that may be open at once.
    fn descriptors(&self) -> u64;
    /// Bytes of a page of memory.
    fn page_size(&self) -> usize;
    /// This machine's processor.
    fn platform(&self) -> Platform;
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// A moment that has passed for certain.
    fn has_been(&self) -> Timestamp;
}

/// Who listens on our port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// This program, ready for streams.
    Acemux,
    /// This program, and why it takes no streams.
    NotReady(String),
    /// Somebody else, or nobody whom we reach.
    Stranger,
}
