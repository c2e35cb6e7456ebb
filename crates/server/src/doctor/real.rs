//! The world as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use acemux_engine::{Endpoint, Engine, EngineError, Family, Timings};
use acemux_fleet::docker::{Docker, DockerOptions, Source};
use acemux_fleet::ident::DockerName;
use acemux_fleet::image::ImageRef;
use acemux_fleet::ports::{PortPool, ephemeral_range, is_free_here};
use acemux_fleet::profile::Platform;
use acemux_fleet::provisioner::{Daemon, ProvisionError, Provisioner as _};
use acemux_fleet::spec::label;
use acemux_fleet::tunnel::gluetun::Settings;
use acemux_fleet::tunnel::gluetun::visit::{self, Visit};
use acemux_store::{OpenError, directory};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::listen;
use super::probes::{Listener, Probes};
use crate::config::{Config, ListenHost};
use crate::http::{limits, serve};
use crate::own_engines;
use crate::planes::setup;

/// Longest look-up of a name.
const LOOKUP: Duration = Duration::from_secs(4);
/// Longest wait for a page of the service.
const PAGE: Duration = Duration::from_secs(3);
/// Most bytes of a page.
const MAX_PAGE: u64 = 4096;
/// Longest wait for an engine to take a connection, and to answer.
const ENGINE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));
/// When this program did not exist yet.
const BEFORE: Timestamp = Timestamp::constant(1_788_220_800, 0);

/// Everything that is asked.
pub(super) struct Real {
    docker: Result<Docker, ProvisionError>,
    gluetun: Settings,
    database: PathBuf,
}

impl Real {
    pub(super) fn new(config: &Config) -> Self {
        let nobody = || "doctor".parse().expect("it is one word");
        let instance = own_engines::instance(config).ok().flatten().unwrap_or_else(nobody);
        let options = DockerOptions { host: config.fleet.docker_host.clone(), instance };
        Self {
            docker: Docker::new(options),
            gluetun: setup::gluetun_settings(config),
            database: config.db_path.clone(),
        }
    }

    fn docker(&self) -> Result<&Docker, ProvisionError> {
        self.docker.as_ref().map_err(Clone::clone)
    }
}

impl Probes for Real {
    async fn knock(&self) -> io::Result<()> {
        self.docker().map_err(io::Error::other)?.knock().await
    }

    async fn daemon(&self) -> Result<Daemon, ProvisionError> {
        self.docker()?.daemon().await
    }

    async fn processor(&self) -> Result<String, ProvisionError> {
        self.docker()?.processor().await
    }

    async fn own_networks(&self) -> Option<Vec<DockerName>> {
        self.docker().ok()?.own_networks().await
    }

    async fn networks_called(&self, name: &DockerName) -> Result<usize, ProvisionError> {
        self.docker()?.networks_called(name).await
    }

    async fn find_image(&self, image: &ImageRef) -> Result<Source, ProvisionError> {
        self.docker()?.find_image(image).await
    }

    async fn own_ports(&self) -> Result<Vec<u16>, ProvisionError> {
        let own = self.docker()?.list().await?;
        let port = |labels: &BTreeMap<String, String>| {
            labels.get(label::HOST_HTTP_PORT).and_then(|port| port.parse().ok())
        };
        Ok(own.iter().filter_map(|container| port(&container.labels)).collect())
    }

    async fn visit(&self, vpn: &DockerName) -> Result<Visit, ProvisionError> {
        visit::visit(vpn, &self.gluetun, self.docker()?).await
    }

    async fn listen(&self, host: ListenHost, port: u16) -> io::Result<()> {
        serve::listen(host, port).map(drop)
    }

    async fn who_listens(&self, address: SocketAddr) -> Listener {
        if !is_alive(address).await {
            return Listener::Stranger;
        }
        let ready = page(address, "/readyz").await.unwrap_or_default();
        if ready.starts_with("HTTP/1.1 200") { Listener::Acemux } else { Listener::NotReady(detail(&ready)) }
    }

    async fn engine(&self, endpoint: &Endpoint) -> Result<String, EngineError> {
        let (connect, query) = ENGINE;
        let engine = Engine::new(endpoint.clone(), Timings { connect, query, ..Timings::default() });
        let version = engine.version().await?;
        let program = match version.family {
            Family::Unknown => "an engine",
            known => known.as_str(),
        };
        Ok(format!("{program} {}", version.version))
    }

    async fn resolve(&self, host: &str) -> io::Result<()> {
        // The port means nothing here.
        let found = timeout(LOOKUP, lookup_host((host, 0))).await;
        let mut found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        found.next().map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn try_folder(&self, folder: &Path) -> Result<(), OpenError> {
        let tried = folder.to_owned();
        // A disk may hang; then the check's own deadline ends the wait.
        let tried = spawn_blocking(move || directory::can_be_used(&tried)).await;
        tried.unwrap_or_else(|error| {
            Err(OpenError::Unwritable { path: folder.to_owned(), source: Box::new(error) })
        })
    }

    fn free_ports(&self, range: RangeInclusive<u16>, most: usize) -> usize {
        let mut pool = PortPool::new(range, ephemeral_range());
        pool.free(most, &BTreeSet::new(), Duration::ZERO, is_free_here).len()
    }

    fn descriptors(&self) -> u64 {
        limits::raise_descriptors()
    }

    fn page_size(&self) -> usize {
        rustix::param::page_size()
    }

    fn platform(&self) -> Platform {
        Platform::here()
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// When this program, or something into our database, was written last. Files of images may have any date, also none.
    fn has_been(&self) -> Timestamp {
        let program = std::env::current_exe().ok();
        let mut log = self.database.clone().into_os_string();
        log.push("-wal");
        let files = [program, Some(self.database.clone()), Some(log.into())];
        let written = files.into_iter().flatten().filter_map(|file| {
            let written = std::fs::metadata(file).and_then(|data| data.modified()).ok()?;
            Timestamp::try_from(written).ok()
        });
        written.chain([BEFORE]).max().unwrap_or(BEFORE)
    }
}

/// Whether the service answers at its own address, as far as it is reached from here.
pub(crate) async fn is_running(config: &Config) -> bool {
    is_alive(listen::address(config)).await
}

async fn is_alive(address: SocketAddr) -> bool {
    let page = page(address, "/livez").await.unwrap_or_default();
    page.starts_with("HTTP/1.1 200") && page.ends_with("\r\n\r\nok\n")
}

/// A page of whoever listens there, its head included.
async fn page(address: SocketAddr, path: &str) -> Option<String> {
    let asked = async {
        let mut connection = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut reply = Vec::new();
        connection.take(MAX_PAGE).read_to_end(&mut reply).await.ok()?;
        Some(String::from_utf8_lossy(&reply).into_owned())
    };
    timeout(PAGE, asked).await.ok().flatten()
}

/// What a problem says.
fn detail(reply: &str) -> String {
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    problem["detail"].as_str().unwrap_or("it does not say why").to_owned()
}
