//! The tunnels as the loop sees them: the latest report of each, and the ports that are free behind it.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::allowed::{HostPort, HostPorts};
use crate::backoff::Moment;
use crate::options::{FleetOptions, Vpn};
use crate::plan::TunnelView;
use crate::ports::{PortPool, ephemeral_range, is_free_here};
use crate::provisioner::Container;
use crate::recipe::{EnginePorts, SharedPorts};
use crate::spec::label;
use crate::tunnel::direct::Direct;
use crate::tunnel::{Health, Report, Tunnel, TunnelName};

/// Ports that every engine opens beside its two own are found at one of these, and run along with its own: outside of what
/// the kernel takes for outgoing connections, and of the defaults of everything else here.
const SHARED: [u16; 6] = [30_000, 31_000, 29_000, 28_000, 27_000, 26_000];
/// So many behind each of them.
const SHARED_PORTS: u16 = 1_000;

/// All ways out that engines may have: VPNs, or the host's own and nothing else.
pub(super) struct Exits {
    all: Vec<Exit>,
    https: HostPorts,
}

/// One way out.
pub(super) struct Exit {
    pub(super) name: TunnelName,
    reports: watch::Receiver<Report>,
    ports: HostPorts,
    pool: PortPool,
    /// Free ports that are not used yet.
    candidates: Vec<u16>,
    down_since: Option<Moment>,
    /// What was last told of its health.
    told: Option<Health>,
    /// Held, so that its reports do not end.
    _tunnel: Arc<dyn Tunnel>,
}

impl Exits {
    pub(super) fn new(options: &FleetOptions) -> Self {
        let direct = || Vpn { tunnel: Arc::new(Direct::new()), ports: options.ports.clone() };
        let vpns = options.vpns.clone();
        let all = if vpns.is_empty() { vec![direct()] } else { vpns };
        Self { all: all.into_iter().map(Exit::new).collect(), https: options.https_ports.clone() }
    }

    /// Returns when a report has changed. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let changes = self.all.iter_mut().map(|exit| {
            async {
                // One whose tunnel is gone changes no more.
                if exit.reports.changed().await.is_err() {
                    pending::<()>().await;
                }
            }
            .boxed()
        });
        select_all(changes).await;
    }

    /// The HTTPS ports of all engines.
    pub(super) fn https(&self) -> &HostPorts {
        &self.https
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Exit> {
        self.all.iter()
    }

    pub(super) fn find(&self, tunnel: &TunnelName) -> Option<&Exit> {
        self.all.iter().find(|exit| exit.name == *tunnel)
    }

    pub(super) fn find_mut(&mut self, tunnel: &TunnelName) -> Option<&mut Exit> {
        self.all.iter_mut().find(|exit| exit.name == *tunnel)
    }

    /// The ports that a new engine may be asked to have: those of the exit that has this one, else of the first.
    pub(super) fn ports_with(&self, port: Option<u16>) -> Option<&HostPorts> {
        let has = |exit: &&Exit| port.is_some_and(|port| exit.ports.range().contains(&port));
        self.all.iter().find(has).or(self.all.first()).map(|exit| &exit.ports)
    }

    /// Takes in the latest reports, and returns whose health is another than was told.
    pub(super) fn look(&mut self, epoch: Instant) -> Vec<(TunnelName, Health)> {
        self.all.iter_mut().filter_map(|exit| exit.look(epoch)).collect()
    }

    /// Those of which it is not known whether they work.
    pub(super) fn unsure(&self) -> BTreeSet<TunnelName> {
        let is_unsure = |exit: &&Exit| matches!(exit.reports.borrow().health, Health::Unsure { .. });
        self.all.iter().filter(is_unsure).map(|exit| exit.name.clone()).collect()
    }

    /// Keeps so many free ports at hand. `used` says which are taken behind which.
    pub(super) fn find_ports(
        &mut self,
        count: usize,
        used: impl Fn(&TunnelName) -> BTreeSet<u16>,
        now: Moment,
    ) {
        for exit in self.all.iter_mut().filter(|exit| exit.candidates.len() < count) {
            let mut taken = used(&exit.name);
            taken.extend(&exit.candidates);
            // In a VPN's network nothing can be tried from here, and what is published of it looks taken.
            let is_direct = exit.name == TunnelName::Direct;
            let missing = count - exit.candidates.len();
            let found = exit.pool.free(missing, &taken, now, |port| !is_direct || is_free_here(port));
            exit.candidates.extend(found);
        }
    }

    pub(super) fn views(&self, epoch: Instant) -> Vec<TunnelView> {
        self.all.iter().map(|exit| exit.view(epoch, &self.https)).collect()
    }

    /// All ports of an engine with this one. `None` when it is not one of this exit's.
    pub(super) fn engine_ports(
        &self,
        tunnel: &TunnelName,
        http: u16,
        forwarded: Option<u16>,
    ) -> Option<EnginePorts> {
        let exit = self.find(tunnel)?;
        let http = exit.ports.port(http).ok()?;
        let shared = exit.shared(http.get(), &self.https);
        Some(EnginePorts { http, https: exit.https(http.get(), &self.https), p2p: forwarded, shared })
    }
}

impl Exit {
    fn new(Vpn { tunnel, ports }: Vpn) -> Self {
        Self {
            name: tunnel.name().clone(),
            reports: tunnel.reports(),
            // A VPN's network is not the host's: what this kernel takes for its own connections is free there.
            pool: match tunnel.name() {
                TunnelName::Direct => PortPool::new(ports.range(), ephemeral_range()),
                TunnelName::Vpn(_) => PortPool::elsewhere(ports.range()),
            },
            ports,
            candidates: Vec::new(),
            down_since: None,
            told: None,
            _tunnel: tunnel,
        }
    }

    pub(super) fn report(&self) -> Report {
        self.reports.borrow().clone()
    }

    /// Where engines inside are reached.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.reports.borrow().container.as_ref()?.addresses.first().copied()
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.reports.borrow().health, Health::Down { .. })
    }

    /// Whether an engine that ends now may have ended with its VPN: that one is not up, or has another network.
    pub(super) fn has_left(&self, container: &Container) -> bool {
        let report = self.reports.borrow();
        let joined = container.labels.get(label::NAMESPACE).and_then(|text| text.parse().ok());
        self.name != TunnelName::Direct && (report.health != Health::Up || report.namespace() != joined)
    }

    pub(super) fn takes(&mut self, port: u16) {
        self.candidates.retain(|other| *other != port);
    }

    pub(super) fn quarantine(&mut self, port: u16, now: Moment) {
        self.pool.quarantine(port, now);
    }

    fn look(&mut self, epoch: Instant) -> Option<(TunnelName, Health)> {
        let report = self.reports.borrow_and_update().clone();
        match report.health {
            Health::Up => self.down_since = None,
            Health::Down { .. } => {
                self.down_since.get_or_insert(report.since.saturating_duration_since(epoch));
            }
            Health::Unsure { .. } => {}
        }
        let is_news = self.told.as_ref().is_none_or(|told| told.as_str() != report.health.as_str());
        if !is_news || self.name == TunnelName::Direct {
            return None;
        }
        // That nothing is known at first is no news; nor is it one that all is well from the beginning.
        let is_first = self.told.replace(report.health.clone()).is_none();
        let is_telling = !is_first || matches!(report.health, Health::Down { .. });
        is_telling.then_some((self.name.clone(), report.health))
    }

    /// Whether an engine with this port would have the forwarded one, or have it beside its own.
    pub(super) fn is_in_the_way(&self, port: u16, https: &HostPorts) -> bool {
        let forwarded = self.reports.borrow().forwarded;
        let others = self.shared(port, https).map(|shared| [shared.p2p, shared.api]);
        let mut all = others.into_iter().flatten().chain([port, self.https(port, https).get()]);
        forwarded.is_some_and(|forwarded| all.any(|port| port == forwarded))
    }

    fn view(&self, epoch: Instant, https: &HostPorts) -> TunnelView {
        let report = self.report();
        TunnelView {
            name: self.name.clone(),
            namespace: report.namespace(),
            since: report.since.saturating_duration_since(epoch),
            down_since: self.down_since,
            ports: self.candidates.iter().copied().filter(|port| !self.is_in_the_way(*port, https)).collect(),
            range: self.ports.range(),
            forwarded: report.forwarded,
            container: report.container.map(|container| container.id),
            health: report.health,
        }
    }

    /// Which of the exit's ports this is.
    fn index(&self, http: u16) -> u16 {
        http.saturating_sub(*self.ports.range().start())
    }

    fn https(&self, http: u16, all: &HostPorts) -> HostPort {
        all.at(self.index(http))
    }

    /// Nothing is shared with others in a network of its own.
    fn shared(&self, http: u16, https: &HostPorts) -> Option<SharedPorts> {
        self.name.vpn()?;
        let ranges = [self.ports.range(), https.range()];
        let is_clear = |base: &u16| {
            let last = base + SHARED_PORTS - 1;
            ranges.iter().all(|range| *range.end() < *base || last < *range.start())
        };
        let mut bases = SHARED.into_iter().filter(is_clear);
        let index = self.index(http) % SHARED_PORTS;
        Some(SharedPorts { p2p: bases.next()? + index, api: bases.next()? + index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(ports: std::ops::RangeInclusive<u16>) -> Exit {
        struct Named(TunnelName, watch::Sender<Report>);

        impl Tunnel for Named {
            fn name(&self) -> &TunnelName {
                &self.0
            }

            fn reports(&self) -> watch::Receiver<Report> {
                self.1.subscribe()
            }

            fn watch(
                self: Arc<Self>,
                _: tokio_util::sync::CancellationToken,
            ) -> futures_util::future::BoxFuture<'static, ()> {
                pending().boxed()
            }
        }

        let name = TunnelName::Vpn("gluetun".parse().unwrap());
        let tunnel = Arc::new(Named(name, watch::Sender::new(Report::unknown())));
        Exit::new(Vpn { tunnel, ports: HostPorts::new(ports) })
    }

    #[tokio::test]
    async fn no_two_engines_behind_one_vpn_have_any_port_in_common() {
        for (http, https) in [
            (19_000..=19_499, 45_000..=45_999),
            (30_000..=30_099, 31_000..=31_099),
            (25_500..=26_400, 29_500..=30_400),
        ] {
            let (exit, https) = (exit(http.clone()), HostPorts::new(https));
            let of = |http| {
                let shared = exit.shared(http, &https).unwrap();
                [http, exit.https(http, &https).get(), shared.p2p, shared.api]
            };
            let all: Vec<u16> = http.flat_map(of).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{https:?}");
        }
    }

    #[tokio::test]
    async fn ports_that_this_kernel_uses_itself_are_free_in_a_vpns_network() {
        let ephemeral = *ephemeral_range().start();
        let mut exit = exit(ephemeral..=ephemeral + 3);
        let free = exit.pool.free(9, &BTreeSet::new(), Moment::ZERO, |_| true);
        assert_eq!(free.len(), 4, "{free:?}");
    }

    #[tokio::test]
    async fn the_forwarded_port_is_nobody_elses() {
        let mut exit = exit(19_000..=19_003);
        exit.candidates = vec![19_000, 19_001, 19_002, 19_003];
        let https = HostPorts::new(45_000..=45_999);
        let free = |exit: &Exit| exit.view(Instant::now(), &https).ports;
        assert_eq!(free(&exit).len(), 4);
        for forwarded in [19_001, 45_001, exit.shared(19_001, &https).unwrap().api] {
            let tunnel = watch::Sender::new(Report { forwarded: Some(forwarded), ..Report::unknown() });
            exit.reports = tunnel.subscribe();
            assert_eq!(free(&exit), [19_000, 19_002, 19_003], "{forwarded}");
        }
    }
}
