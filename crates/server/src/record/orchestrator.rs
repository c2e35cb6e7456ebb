//! The gauges of the system that this one replaces, by its names, for dashboards that were made for it. Left out are
//! `orch_total_uploaded_mb` and `orch_total_downloaded_mb`: the same figures stand in bytes.

use std::sync::atomic::AtomicU64;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::Fleet;
use acemux_fleet::member::Health;
use acemux_relay::origin::SourceStats;
use acemux_relay::session::SessionSnapshot;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::planes::origins::Transfers;
use crate::planes::vpn::{View, VpnView};
use crate::record::metrics::as_gauge;

/// Every state that the reference's dashboards know.
const STATES: [&str; 5] = ["healthy", "unhealthy", "unknown", "disabled", "starting"];

/// The gauges.
#[derive(Default)]
pub(super) struct Orchestrator {
    uploaded: Gauge,
    downloaded: Gauge,
    upload_speed: Gauge<f64, AtomicU64>,
    download_speed: Gauge<f64, AtomicU64>,
    peers: Gauge,
    streams: Gauge,
    healthy: Gauge,
    unhealthy: Gauge,
    used: Gauge,
    extra: Gauge,
    vpn: Family<Overall, Gauge>,
    vpn1: Family<First, Gauge>,
    vpn2: Family<Second, Gauge>,
    vpn1_engines: Gauge,
    vpn2_engines: Gauge,
}

// The labels are named as their metrics.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Overall {
    orch_vpn_health: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct First {
    orch_vpn1_health: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Second {
    orch_vpn2_health: &'static str,
}

impl Orchestrator {
    pub(super) fn register(&self, registry: &mut Registry) {
        let bytes = "Of streams, since the service began, from or to swarms, in bytes";
        registry.register("total_uploaded_bytes", bytes, self.uploaded.clone());
        registry.register("total_downloaded_bytes", bytes, self.downloaded.clone());
        let speed = "Of all streams, in MiB per second as the name has always meant";
        registry.register("total_upload_speed_mbps", speed, self.upload_speed.clone());
        registry.register("total_download_speed_mbps", speed, self.download_speed.clone());
        registry.register("total_peers", "Peers of all streams", self.peers.clone());
        registry.register("total_streams", "Streams that play", self.streams.clone());
        registry.register("healthy_engines", "Engines that answer", self.healthy.clone());
        registry.register("unhealthy_engines", "Engines that do not", self.unhealthy.clone());
        registry.register("used_engines", "Engines with a stream", self.used.clone());
        registry.register("extra_engines", "Engines beyond MIN_REPLICAS", self.extra.clone());
        registry.register("vpn_health", "Of all VPNs together: 1 for what it is", self.vpn.clone());
        registry.register("vpn1_health", "Of the first VPN", self.vpn1.clone());
        registry.register("vpn2_health", "Of the second VPN", self.vpn2.clone());
        registry.register("vpn1_engines", "Engines behind the first VPN", self.vpn1_engines.clone());
        registry.register("vpn2_engines", "Engines behind the second VPN", self.vpn2_engines.clone());
    }

    pub(super) fn read(
        &self,
        sessions: &[SessionSnapshot],
        engines: &Engines,
        fleet: Option<&Fleet>,
        transfers: &Transfers,
        vpns: &View,
    ) {
        self.read_streams(sessions, transfers);
        self.read_engines(engines, fleet);
        self.read_vpns(vpns);
    }

    fn read_streams(&self, sessions: &[SessionSnapshot], transfers: &Transfers) {
        let sum = |figure: fn(&SourceStats) -> Option<u64>| -> u64 {
            sessions.iter().filter_map(|session| session.stats.as_ref().and_then(figure)).sum()
        };
        let (downloaded, uploaded) = transfers.of_ended();
        // Between the end of a playback and its place among the ended ones the sum would fall for a moment.
        rise(&self.downloaded, downloaded + sum(|stats| stats.downloaded));
        rise(&self.uploaded, uploaded + sum(|stats| stats.uploaded));
        self.download_speed.set(mebibytes(sum(|stats| stats.speed_down)));
        self.upload_speed.set(mebibytes(sum(|stats| stats.speed_up)));
        self.peers.set(as_gauge(sum(|stats| stats.peers)));
        self.streams.set(as_gauge(sessions.len()));
    }

    fn read_engines(&self, engines: &Engines, fleet: Option<&Fleet>) {
        let all = engines.all();
        let with = |health| all.iter().filter(|member| member.knowledge().health == health).count();
        self.healthy.set(as_gauge(with(Health::Healthy)));
        self.unhealthy.set(as_gauge(with(Health::Unhealthy)));
        self.used.set(as_gauge(all.iter().filter(|member| member.used() > 0).count()));
        let least = fleet.map_or(all.len(), |fleet| fleet.snapshot().min);
        self.extra.set(as_gauge(all.len().saturating_sub(least)));
    }

    fn read_vpns(&self, view: &View) {
        let (first, second) = (view.vpns.first(), view.vpns.get(1));
        let health = |vpn: Option<&VpnView>| vpn.map_or("disabled", VpnView::health);
        let overall = if view.is_on() { view.health() } else { "disabled" };
        for state in STATES {
            self.vpn.get_or_create(&Overall { orch_vpn_health: state }).set((overall == state).into());
            self.vpn1.get_or_create(&First { orch_vpn1_health: state }).set((health(first) == state).into());
            self.vpn2
                .get_or_create(&Second { orch_vpn2_health: state })
                .set((health(second) == state).into());
        }
        let inside = |vpn: Option<&VpnView>| as_gauge(vpn.map_or(0, |vpn| vpn.engines.len()));
        self.vpn1_engines.set(inside(first));
        self.vpn2_engines.set(inside(second));
    }
}

/// Engines tell KiB per second.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn mebibytes(kib: u64) -> f64 {
    (kib as f64 / 1024.0 * 100.0).round() / 100.0
}

fn rise(gauge: &Gauge, to: u64) {
    gauge.set(gauge.get().max(as_gauge(to)));
}
