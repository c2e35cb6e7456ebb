//! A gluetun container as a tunnel: looked at by Docker, by its own control server and by the engines inside.
//!
//! ```text
//!            ┌─ Docker: state, check, addresses, environment
//!   look() ──┼─ client: status, address, forwarded port       ─► Evidence ─► health ─► Report
//!            └─ engines inside: network, bytes, reachability         port, advice ──────┘
//! ```
//!
//! One task looks at one container, so nine that hang delay no tenth, and nobody waits for any of them.

mod advice;
mod auth;
mod client;
pub(super) mod health;
pub(super) mod look;
mod port;
mod provider;
mod reply;
pub mod visit;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Fuse};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use self::auth::Credentials;
use self::look::{Found, Look, Memory};
use super::{Report, Tunnel, TunnelName};
use crate::dispatch::Engines;
use crate::ident::DockerName;
use crate::provisioner::{Provisioner, VpnChange};

/// Time between two looks while something is wrong.
const HURRIED: Duration = Duration::from_secs(1);
/// Longest look. Its parts have shorter deadlines of their own; Docker's is the longest.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How long changes are gathered before the container is looked at: a restart is several events.
const GATHERED: Duration = Duration::from_millis(100);
/// How long after the connection to the daemon was lost its changes are asked for again.
const RECONNECT: Duration = Duration::from_secs(2);

/// How gluetun containers are looked at (`GLUETUN_*`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Port of their control server, inside (`GLUETUN_API_PORT`); `None`: as their environment says.
    pub control_port: Option<u16>,
    /// How we show who we are.
    pub credentials: Credentials,
    /// Time between two looks (`GLUETUN_HEALTH_CHECK_INTERVAL_S`).
    pub interval: Duration,
    /// How long a forwarded port and an address stay unasked while nothing happens (`GLUETUN_PORT_CACHE_TTL_S`).
    pub port_ttl: Duration,
}

/// One gluetun container.
pub struct Gluetun {
    name: TunnelName,
    container: DockerName,
    settings: Settings,
    provisioner: Arc<dyn Provisioner>,
    engines: Arc<Engines>,
    reports: watch::Sender<Report>,
}

impl Gluetun {
    /// The container of this name, which need not exist yet.
    pub fn new(
        container: DockerName,
        settings: Settings,
        provisioner: Arc<dyn Provisioner>,
        engines: Arc<Engines>,
    ) -> Self {
        Self {
            name: TunnelName::Vpn(container.clone()),
            container,
            settings,
            provisioner,
            engines,
            reports: watch::Sender::new(Report::unknown()),
        }
    }

    async fn run(&self) {
        let mut memory = Memory::new(Instant::now());
        let mut changes = self.changes();
        loop {
            let began = Instant::now();
            // The daemon is slow while a container ends: looking must not keep the news waiting.
            tokio::select! {
                found = self.look(&memory) => self.conclude(&mut memory, found),
                at = changes.ending() => {
                    self.end(&mut memory, at);
                    continue;
                }
            }
            let pause = if memory.is_in_doubt() { HURRIED } else { self.settings.interval };
            tokio::select! {
                () = sleep_until(began + pause.min(self.settings.interval)) => {}
                change = changes.next() => match change {
                    Some(VpnChange::Ending { at }) => self.end(&mut memory, at),
                    Some(VpnChange::Other) => sleep(GATHERED).await,
                    None => {
                        sleep(RECONNECT).await;
                        changes = self.changes();
                    }
                },
            }
        }
    }

    fn changes(&self) -> Changes {
        Changes { stream: self.provisioner.vpn_changes(&self.container).fuse(), is_owed: false }
    }

    /// A look that takes too long has found nothing.
    async fn look(&self, memory: &Memory) -> Found {
        let look = Look {
            name: &self.container,
            settings: &self.settings,
            provisioner: self.provisioner.as_ref(),
            inside: self.engines.inside(&self.name),
        };
        let found = timeout(LONGEST_LOOK, look.take(memory, Instant::now())).await;
        found.unwrap_or_else(|_| Found::nothing(memory, &self.settings))
    }

    /// Publishes what a look has found: no verdict outlives what it was made from.
    fn conclude(&self, memory: &mut Memory, found: Found) {
        let report = memory.judge(found, Instant::now());
        self.reports.send_if_modified(|published| {
            // That it was looked at once more wakes nobody.
            published.exit.looked_at = report.exit.looked_at;
            let is_news = *published != report;
            *published = report;
            is_news
        });
    }

    /// What was told counts before what is shown: engines inside may have no network already.
    fn end(&self, memory: &mut Memory, at: Timestamp) {
        let judge = memory.told_to_end(at, Instant::now());
        self.reports
            .send_modify(|report| (report.health, report.since) = (judge.health().clone(), judge.since()));
    }
}

/// What the daemon tells of the container.
struct Changes {
    stream: Fuse<BoxStream<'static, VpnChange>>,
    /// Something was told during a look and may not be in what that has found.
    is_owed: bool,
}

impl Changes {
    /// The next change. `None`: the daemon is to be asked for them again.
    async fn next(&mut self) -> Option<VpnChange> {
        if std::mem::take(&mut self.is_owed) {
            return Some(VpnChange::Other);
        }
        self.stream.next().await
    }

    /// When the container ends; what else changes meanwhile is owed.
    async fn ending(&mut self) -> Timestamp {
        loop {
            match self.stream.next().await {
                Some(VpnChange::Ending { at }) => return at,
                Some(VpnChange::Other) => self.is_owed = true,
                None => std::future::pending().await,
            }
        }
    }
}

impl Tunnel for Gluetun {
    fn name(&self) -> &TunnelName {
        &self.name
    }

    fn reports(&self) -> watch::Receiver<Report> {
        self.reports.subscribe()
    }

    fn watch(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            stop.run_until_cancelled(Box::pin(self.run())).await;
        }
        .boxed()
    }
}
