//! What pages, metrics and the history are told of VPNs: the tunnels' own reports, beside the settings and the engines.
//! Nothing here waits for a VPN or asks anybody.

pub mod leak;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::Fleet;
use acemux_fleet::provisioner::Check;
use acemux_fleet::tunnel::blame::Verdict;
use acemux_fleet::tunnel::{Health, Report, Tunnel, TunnelName};
use acemux_relay::origin::Source;
use acemux_relay::session::SessionSnapshot;
use acemux_relay::verdict::Outside;
use tokio::sync::watch;
use tokio::time::Instant;

use self::leak::Addresses;
use crate::config::{Config, VpnMode};

/// The VPNs of this service.
#[derive(Clone)]
pub struct Vpns {
    mode: VpnMode,
    tunnels: Arc<[Watched]>,
    /// `ENGINE_PROXY`, without its credentials, and what is known of it.
    proxy: Option<(Arc<str>, watch::Receiver<Report>)>,
    /// `HOST_PUBLIC_IP`.
    declared: Arc<[IpAddr]>,
    /// Who creates engines, and sees where they are.
    fleet: Option<Fleet>,
}

struct Watched {
    name: TunnelName,
    reports: watch::Receiver<Report>,
}

/// One VPN at a moment.
#[derive(Clone, Debug)]
pub struct VpnView {
    /// Which.
    pub name: TunnelName,
    /// What it has published last.
    pub report: Report,
    /// The engines in its network, by their containers' ids.
    pub engines: Vec<String>,
    /// Why new streams avoid its exit, if they do.
    pub verdict: Option<Verdict>,
}

/// The proxy that engines are behind instead, at a moment.
#[derive(Clone, Debug)]
pub struct ProxyView {
    /// `socks5://host:port`.
    pub address: Arc<str>,
    /// What was last found of it.
    pub report: Report,
}

/// All of them at a moment.
#[derive(Clone, Debug)]
pub struct View {
    /// How many there should be.
    pub mode: VpnMode,
    /// Each, in the settings' order.
    pub vpns: Vec<VpnView>,
    /// `ENGINE_PROXY`.
    pub proxy: Option<ProxyView>,
    /// Our engines that are in no VPN's network though they should be, as Docker showed them last.
    pub outside: Vec<String>,
    /// How many were found so since the service began; each is removed at once.
    pub found_outside: u64,
    /// What exits are compared with.
    pub addresses: Addresses,
}

/// One VPN has failed and another one carries on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// The one that has failed.
    pub failed: String,
    /// One that works.
    pub healthy: String,
    /// For how long.
    pub lasts: Duration,
}

impl Vpns {
    /// Those of the settings, which `tunnels` watch.
    pub fn new(config: &Config, tunnels: &[Arc<dyn Tunnel>], fleet: Option<Fleet>) -> Self {
        let watched = tunnels.iter().filter(|tunnel| tunnel.name().vpn().is_some());
        let watched =
            watched.map(|tunnel| Watched { name: tunnel.name().clone(), reports: tunnel.reports() });
        let proxy = config.fleet.engine.proxy.as_ref().and_then(|proxy| {
            let watched = tunnels.iter().find(|tunnel| *tunnel.name() == TunnelName::Direct)?;
            Some((proxy.to_string().into(), watched.reports()))
        });
        Self {
            mode: config.vpn.mode,
            tunnels: watched.collect(),
            proxy,
            declared: config.vpn.host_addresses.clone().into(),
            fleet,
        }
    }

    /// The engines inside of those that are down.
    pub fn cut_off(&self, engines: &Engines) -> CutOff {
        let is_down = |watched: &&Watched| matches!(watched.reports.borrow().health, Health::Down { .. });
        let down = self.tunnels.iter().filter(is_down);
        let inside = down.flat_map(|watched| engines.inside(&watched.name));
        CutOff(inside.map(|member| member.key.to_string()).collect())
    }

    /// As they are now.
    pub fn view(&self, engines: &Engines) -> View {
        let of = |watched: &Watched| VpnView {
            name: watched.name.clone(),
            report: watched.reports.borrow().clone(),
            engines: engines.inside(&watched.name).iter().map(|member| member.key.to_string()).collect(),
            verdict: engines.verdict(&watched.name),
        };
        let snapshot = self.fleet.as_ref().map(Fleet::snapshot);
        View {
            mode: self.mode,
            vpns: self.tunnels.iter().map(of).collect(),
            proxy: self.proxy.as_ref().map(|(address, reports)| ProxyView {
                address: Arc::clone(address),
                report: reports.borrow().clone(),
            }),
            outside: snapshot.as_ref().map(|fleet| fleet.outside.clone()).unwrap_or_default(),
            found_outside: snapshot.map_or(0, |fleet| fleet.found_outside),
            addresses: Addresses { declared: self.declared.to_vec(), interfaces: leak::interfaces() },
        }
    }
}

/// Engines whose way out to the world does not work at this moment, by their containers' ids.
#[derive(Clone, Debug, Default)]
pub struct CutOff(BTreeSet<String>);

impl CutOff {
    /// What is known of a stream's source outside of the relay.
    pub fn of(&self, session: &SessionSnapshot) -> Outside {
        let is_cut_off = |source: &Source| self.0.contains(&source.container_id);
        Outside { vpn_is_down: session.source.as_ref().is_some_and(is_cut_off) }
    }
}

impl VpnView {
    /// `healthy`, `unhealthy`, `starting` or `unknown`, as the reference's users know it.
    pub fn health(&self) -> &'static str {
        let check = self.report.container.as_ref().and_then(|container| container.check);
        match (&self.report.health, check) {
            (Health::Up, _) => "healthy",
            (Health::Down { .. }, _) => "unhealthy",
            (Health::Unsure { .. }, Some(Check::Starting)) => "starting",
            (Health::Unsure { .. }, _) => "unknown",
        }
    }

    /// Whether engines reach the world through it.
    pub fn is_up(&self) -> bool {
        self.report.health == Health::Up
    }

    fn is_down(&self) -> bool {
        matches!(self.report.health, Health::Down { .. })
    }
}

impl View {
    /// Whether engines are behind VPNs.
    pub fn is_on(&self) -> bool {
        self.mode != VpnMode::Off
    }

    /// Whether some VPN works.
    pub fn is_connected(&self) -> bool {
        self.vpns.iter().any(VpnView::is_up)
    }

    /// All together: as good as the best of them.
    pub fn health(&self) -> &'static str {
        let is = |health: &str| self.vpns.iter().any(|vpn| vpn.health() == health);
        ["healthy", "starting", "unknown", "unhealthy"]
            .into_iter()
            .find(|health| is(health))
            .unwrap_or("unknown")
    }

    /// One of several is down and another one is up.
    pub fn emergency(&self, now: Instant) -> Option<Emergency> {
        let (failed, healthy) =
            (self.vpns.iter().find(|vpn| vpn.is_down())?, self.vpns.iter().find(|vpn| vpn.is_up())?);
        Some(Emergency {
            failed: failed.name.to_string(),
            healthy: healthy.name.to_string(),
            lasts: now.saturating_duration_since(failed.report.since),
        })
    }

    /// Addresses at which the other VPNs come out.
    pub fn other_exits(&self, of: &TunnelName) -> Vec<IpAddr> {
        let others = self.vpns.iter().filter(|vpn| vpn.name != *of);
        others.filter_map(|vpn| vpn.report.exit.address).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A VPN as its tunnel might report it.
    pub(crate) fn vpn(name: &str, health: Health, address: Option<&str>) -> VpnView {
        let mut report = Report { health, ..Report::unknown() };
        report.exit.address = address.map(|address| address.parse().expect("an address"));
        VpnView {
            name: TunnelName::Vpn(name.parse().expect("a name")),
            report,
            engines: vec![format!("engine-of-{name}")],
            verdict: None,
        }
    }

    pub(crate) fn down() -> Health {
        Health::Down { why: "its container does not exist".to_owned() }
    }

    pub(crate) fn view(vpns: Vec<VpnView>) -> View {
        let mode = match vpns.len() {
            0 => VpnMode::Off,
            1 => VpnMode::Single,
            _ => VpnMode::Redundant,
        };
        View {
            mode,
            vpns,
            proxy: None,
            outside: Vec::new(),
            found_outside: 0,
            addresses: Addresses::default(),
        }
    }

    #[test]
    fn together_they_are_as_good_as_the_best() {
        let unsure = || Health::Unsure { why: String::new() };
        for (healths, expected) in [
            (vec![down(), Health::Up], "healthy"),
            (vec![down(), unsure()], "unknown"),
            (vec![down(), down()], "unhealthy"),
            (vec![], "unknown"),
        ] {
            let vpns = healths.into_iter().map(|health| vpn("gluetun", health, None)).collect();
            assert_eq!(view(vpns).health(), expected);
        }
    }

    #[test]
    fn an_emergency_is_one_down_and_another_up() {
        let of = |vpns| view(vpns).emergency(Instant::now()).map(|one| (one.failed, one.healthy));
        let both = of(vec![vpn("a", Health::Up, None), vpn("b", down(), None)]);
        assert_eq!(both, Some(("b".to_owned(), "a".to_owned())));
        assert_eq!(of(vec![vpn("a", down(), None), vpn("b", down(), None)]), None);
        assert_eq!(of(vec![vpn("a", down(), None)]), None);
    }
}
