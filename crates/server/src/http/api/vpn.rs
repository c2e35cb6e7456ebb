//! `/vpn/status` and `/vpn/publicip`, in the reference's shapes with more beside them. Answered from what tunnels have
//! published: no page waits for a VPN.

use acemux_fleet::tunnel::blame::Verdict;
use axum::Json;
use axum::extract::State;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::VpnMode;
use crate::http::problem::{Code, Problem};
use crate::http::surface::shapes::Fields;
use crate::http::surface::{fails, words};
use crate::planes::vpn::leak::Proof;
use crate::planes::vpn::{Emergency, ProxyView, View, VpnView};

/// One VPN. The keys up to `last_check_at` are the reference's.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Vpn)]
pub struct VpnNote {
    enabled: bool,
    #[schema(value_type = words::VpnContainerState)]
    status: &'static str,
    container_name: String,
    container: String,
    #[schema(value_type = words::VpnHealth)]
    health: &'static str,
    connected: bool,
    forwarded_port: Option<u16>,
    public_ip: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = PlaceFields)]
    place: Option<Place>,
    last_check: Option<Timestamp>,
    last_check_at: Option<Timestamp>,
    /// What the fleet makes of it.
    #[schema(value_type = words::TunnelState)]
    state: &'static str,
    /// Why it is not up, one line.
    reason: Option<String>,
    /// For how long it is so.
    state_seconds: u64,
    /// Since when the forwarded port is the one it is.
    forwarded_port_since: Option<Timestamp>,
    /// Engines in its network, by their containers' ids.
    engines: Vec<String>,
    /// Why new streams prefer other VPNs, one line; null when they do not.
    blamed: Option<String>,
    /// Whether its exit is what it should be.
    leak: Proof,
    /// What an operator should change, a line each.
    advice: Vec<String>,
}

/// Absent while there is no container.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = VpnPlace)]
struct Place {
    provider: Option<String>,
    country: Option<String>,
    city: Option<String>,
    region: Option<String>,
}

type PlaceFields = Fields<Place>;

/// `GET /vpn/status`: of several, and of none.
#[derive(Debug, Serialize, ToSchema)]
pub struct VpnStatus {
    #[schema(value_type = words::VpnMode)]
    mode: &'static str,
    #[serde(flatten)]
    top: Top,
    vpn1: Option<VpnNote>,
    vpn2: Option<VpnNote>,
    /// All of them.
    vpns: Vec<VpnNote>,
    emergency_mode: EmergencyNote,
    /// The proxy that engines are behind instead of a VPN; null without `ENGINE_PROXY`.
    proxy: Option<ProxyNote>,
    /// Engines of ours that are in no VPN's network though they should be. None stays there: they are removed.
    engines_outside: Vec<String>,
    /// Whether something that should be hidden is not.
    leak_alert: bool,
}

/// `ENGINE_PROXY`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EngineProxy)]
struct ProxyNote {
    /// `socks5://host:port`.
    address: String,
    #[schema(value_type = words::TunnelState)]
    state: &'static str,
    /// Why it is not up, one line.
    reason: Option<String>,
    /// For how long it is so.
    state_seconds: u64,
    last_check: Option<Timestamp>,
}

/// What stands at the top: the only VPN, or a summary.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VpnTop)]
#[serde(untagged)]
enum Top {
    One(Box<VpnNote>),
    Summary(Summary),
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VpnsSummary)]
struct Summary {
    enabled: bool,
    #[schema(value_type = words::VpnSummaryState)]
    status: &'static str,
    container_name: Option<String>,
    container: Option<String>,
    #[schema(value_type = words::VpnHealth)]
    health: &'static str,
    connected: bool,
    forwarded_port: Option<u16>,
    last_check: Option<Timestamp>,
    last_check_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VpnEmergency)]
struct EmergencyNote {
    active: bool,
    failed_vpn: Option<String>,
    healthy_vpn: Option<String>,
    duration_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    entered_at: Option<Timestamp>,
}

/// `GET /vpn/publicip`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublicIp {
    public_ip: String,
}

/// The VPNs and what can be said about leaks.
#[utoipa::path(get, path = "/vpn/status", tag = "vpn", responses((status = 200, body = VpnStatus)))]
pub async fn status(State(app): State<App>) -> Json<VpnStatus> {
    Json(vpn_status(&app.vpns.view(&app.engines), Instant::now()))
}

/// Where the first VPN comes out that knows it.
#[utoipa::path(get, path = "/vpn/publicip", tag = "vpn", responses((status = 200, body = PublicIp), fails::VpnDown))]
pub async fn public_ip(State(app): State<App>) -> Result<Json<PublicIp>, Problem> {
    let view = app.vpns.view(&app.engines);
    let address = view.vpns.iter().find_map(|vpn| vpn.report.exit.address);
    let why = if view.is_on() { "no VPN has told its address" } else { "no VPN is configured" };
    let address = address.ok_or_else(|| Problem::new(Code::VpnDown).with_detail(why))?;
    Ok(Json(PublicIp { public_ip: address.to_string() }))
}

/// Each VPN, in the settings' order.
pub(super) fn notes(view: &View) -> Vec<VpnNote> {
    let now = Instant::now();
    view.vpns.iter().map(|vpn| note(vpn, view, now)).collect()
}

fn vpn_status(view: &View, now: Instant) -> VpnStatus {
    let vpns = notes(view);
    let top = match (view.mode, vpns.first()) {
        (VpnMode::Single, Some(only)) => Top::One(Box::new(only.clone())),
        _ => Top::Summary(summary(view, vpns.first())),
    };
    let is_exposed = vpns.iter().any(|vpn| vpn.leak.is_exposed());
    VpnStatus {
        mode: match view.mode {
            VpnMode::Off => "disabled",
            VpnMode::Single => "single",
            VpnMode::Redundant => "redundant",
        },
        top,
        vpn1: vpns.first().cloned(),
        vpn2: vpns.get(1).cloned(),
        emergency_mode: emergency(view.emergency(now)),
        proxy: view.proxy.as_ref().map(|proxy| proxy_note(proxy, now)),
        engines_outside: view.outside.clone(),
        leak_alert: is_exposed || !view.outside.is_empty(),
        vpns,
    }
}

fn proxy_note(ProxyView { address, report }: &ProxyView, now: Instant) -> ProxyNote {
    ProxyNote {
        address: address.to_string(),
        state: report.health.as_str(),
        reason: report.health.why().map(str::to_owned),
        state_seconds: now.saturating_duration_since(report.since).as_secs(),
        last_check: report.exit.looked_at,
    }
}

fn note(vpn: &VpnView, view: &View, now: Instant) -> VpnNote {
    let (report, name) = (&vpn.report, vpn.name.to_string());
    let exit = &report.exit;
    VpnNote {
        enabled: true,
        status: report.container.as_ref().map_or("not_found", |container| container.state.as_str()),
        container_name: name.clone(),
        container: name,
        health: vpn.health(),
        connected: vpn.is_up(),
        forwarded_port: report.forwarded,
        public_ip: exit.address.map(|address| address.to_string()),
        place: report.container.as_ref().map(|_| Place {
            provider: exit.provider.clone(),
            country: exit.country.clone(),
            city: exit.city.clone(),
            region: exit.region.clone(),
        }),
        last_check: exit.looked_at,
        last_check_at: exit.looked_at,
        state: report.health.as_str(),
        reason: report.health.why().map(str::to_owned),
        state_seconds: now.saturating_duration_since(report.since).as_secs(),
        forwarded_port_since: exit.forwarded_since,
        engines: vpn.engines.clone(),
        blamed: vpn.verdict.as_ref().map(|verdict| blamed(verdict, now)),
        leak: Proof::of(exit.address, &view.addresses, &view.other_exits(&vpn.name)),
        advice: exit.advice.clone(),
    }
}

fn blamed(verdict: &Verdict, now: Instant) -> String {
    let (channels, seconds) = (verdict.channels, verdict.until.saturating_duration_since(now).as_secs());
    format!(
        "{channels} channels failed here and played behind another VPN: new streams prefer others for {seconds} s"
    )
}

fn summary(view: &View, first: Option<&VpnNote>) -> Summary {
    let status = match (view.is_on(), view.is_connected()) {
        (false, _) => "disabled",
        (true, true) => "running",
        (true, false) => "unhealthy",
    };
    let last_check = first.and_then(|first| first.last_check);
    Summary {
        enabled: view.is_on(),
        status,
        container_name: first.map(|first| first.container_name.clone()),
        container: first.map(|first| first.container.clone()),
        health: view.health(),
        connected: view.is_connected(),
        forwarded_port: first.and_then(|first| first.forwarded_port),
        last_check,
        last_check_at: last_check,
    }
}

fn emergency(emergency: Option<Emergency>) -> EmergencyNote {
    let Some(Emergency { failed, healthy, lasts }) = emergency else {
        return EmergencyNote {
            active: false,
            failed_vpn: None,
            healthy_vpn: None,
            duration_seconds: 0.0,
            entered_at: None,
        };
    };
    let seconds = i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX);
    EmergencyNote {
        active: true,
        failed_vpn: Some(failed),
        healthy_vpn: Some(healthy),
        duration_seconds: lasts.as_secs_f64(),
        entered_at: Timestamp::now().checked_sub(seconds.seconds()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::planes::vpn::tests::{down, view, vpn};
    use acemux_fleet::tunnel::Health;

    fn page(view: &View) -> Value {
        serde_json::to_value(vpn_status(view, Instant::now())).unwrap()
    }

    fn has_keys(value: &Value, keys: &str) {
        for key in keys.split_whitespace() {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    }

    const OF_ONE: &str = "enabled status container_name container health connected forwarded_port public_ip last_check \
        last_check_at";

    #[test]
    fn without_vpns_it_is_the_references_disabled_shape() {
        let page = page(&view(vec![]));
        for (key, expected) in [
            ("mode", json!("disabled")),
            ("enabled", json!(false)),
            ("status", json!("disabled")),
            ("container_name", Value::Null),
            ("container", Value::Null),
            ("health", json!("unknown")),
            ("connected", json!(false)),
            ("forwarded_port", Value::Null),
            ("last_check", Value::Null),
            ("last_check_at", Value::Null),
            ("vpn1", Value::Null),
            ("vpn2", Value::Null),
            (
                "emergency_mode",
                json!({ "active": false, "failed_vpn": null, "healthy_vpn": null, "duration_seconds": 0.0 }),
            ),
        ] {
            assert_eq!(page.get(key), Some(&expected), "{key}");
        }
    }

    #[test]
    fn the_only_vpn_stands_at_the_top_and_as_the_first() {
        let page = page(&view(vec![vpn("gluetun", Health::Up, Some("203.0.113.7"))]));
        has_keys(&page, OF_ONE);
        has_keys(&page["vpn1"], OF_ONE);
        assert_eq!((&page["mode"], &page["vpn2"]), (&json!("single"), &Value::Null));
        assert_eq!(page["public_ip"], page["vpn1"]["public_ip"]);
        assert_eq!((&page["health"], &page["connected"]), (&json!("healthy"), &json!(true)));
        assert_eq!(page["engines"], json!(["engine-of-gluetun"]));
        // Its container was not looked at yet.
        assert_eq!((&page["status"], page.get("provider")), (&json!("not_found"), None));
    }

    #[test]
    fn of_two_the_summary_stands_at_the_top_and_an_emergency_names_both() {
        let two = vec![vpn("gluetun", down(), None), vpn("gluetun2", Health::Up, Some("203.0.113.8"))];
        let page = page(&view(two));
        assert_eq!((&page["mode"], &page["status"]), (&json!("redundant"), &json!("running")));
        assert_eq!((&page["container"], page.get("public_ip")), (&json!("gluetun"), None));
        assert_eq!(
            (&page["vpn1"]["health"], &page["vpn2"]["health"]),
            (&json!("unhealthy"), &json!("healthy"))
        );
        assert_eq!(page["vpn1"]["reason"], "its container does not exist");
        let emergency = &page["emergency_mode"];
        assert_eq!((&emergency["active"], &emergency["failed_vpn"]), (&json!(true), &json!("gluetun")));
        assert_eq!(emergency["healthy_vpn"], "gluetun2");
        assert!(emergency["entered_at"].is_string());
    }

    #[test]
    fn an_exit_that_is_avoided_says_why_and_for_how_long() {
        let mut two = view(vec![vpn("one", Health::Up, None), vpn("two", Health::Up, None)]);
        let until = Instant::now() + std::time::Duration::from_mins(1);
        two.vpns[0].verdict = Some(Verdict { until, channels: 2 });
        let page = page(&two);
        assert!(page["vpn1"]["blamed"].as_str().unwrap().starts_with("2 channels failed here"), "{page}");
        assert_eq!(page["vpn2"]["blamed"], Value::Null);
    }

    #[test]
    fn an_exposed_exit_or_an_engine_outside_is_an_alert() {
        let mut exposed = view(vec![vpn("gluetun", Health::Up, Some("198.51.100.7"))]);
        assert_eq!(page(&exposed)["leak_alert"], false);
        assert_eq!(page(&exposed)["leak"]["ipv4"]["from_host_public_ip"], "not_compared");
        exposed.addresses.declared = vec!["198.51.100.7".parse().unwrap()];
        assert_eq!(page(&exposed)["leak"]["ipv4"]["from_host_public_ip"], "same");
        assert_eq!(page(&exposed)["leak_alert"], true);
        let mut outside = view(vec![vpn("gluetun", Health::Up, None)]);
        outside.outside = vec!["one".to_owned()];
        assert_eq!(page(&outside)["leak_alert"], true);
    }
}
