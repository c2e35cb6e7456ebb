//! The simulated gluetun, as each generation of the real one answers.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::gluetun::{Exit, Generation, GluetunFault, GluetunRule, LoopStatus, Role, Weather};
use acemux_sim::{GluetunOptions, SimEngine, SimGluetun, SimOptions, VERIFY_ID};
use serde_json::json;
use tokio::time::timeout;

use crate::client::{Answer, Client, End, get, get_json, request};

const GENERATIONS: [Generation; 4] =
    [Generation::V3_39, Generation::V3_40, Generation::V3_41, Generation::Latest];

async fn gluetun(generation: Generation, roles: &[&str]) -> SimGluetun {
    let roles = roles.iter().map(|role| role.parse().unwrap()).collect();
    let exit = Exit { ports: vec![51_413], ..Exit::default() };
    SimGluetun::start(GluetunOptions { generation, roles, exit, ..GluetunOptions::default() }).await.unwrap()
}

/// Asks with one more header line.
async fn get_as(addr: SocketAddr, path: &str, header: &str) -> Answer {
    let mut client = Client::connect(addr).await.unwrap();
    client.send_header("GET", path, header).await;
    client.answer(1_000_000, Duration::from_secs(5)).await
}

async fn script(gluetun: &SimGluetun, page: &str, order: &serde_json::Value) -> Answer {
    request(gluetun.script_addr(), "POST", page, &order.to_string()).await
}

#[tokio::test]
async fn every_generation_has_its_own_routes_for_the_port() {
    let mut seen = Vec::new();
    for generation in GENERATIONS {
        let gluetun = gluetun(generation, &[]).await;
        let new = get(gluetun.addr(), "/v1/portforward").await;
        let old = get(gluetun.addr(), "/v1/openvpn/portforwarded").await;
        seen.push((new.status(), new.text(), old.status(), old.header("location").map(str::to_owned)));
    }
    let port = "{\"port\":51413}\n".to_owned();
    let unauthorized = || "Unauthorized\n".to_owned();
    assert_eq!(
        seen,
        [
            (400, "Bad Request\n".to_owned(), 200, None),
            (401, unauthorized(), 200, None),
            (200, port, 301, Some("/v1/portforward".to_owned())),
            (401, unauthorized(), 401, None),
        ]
    );
}

#[tokio::test]
async fn the_status_and_the_address_are_public_until_the_newest() {
    for generation in GENERATIONS {
        let gluetun = gluetun(generation, &[]).await;
        let status = get(gluetun.addr(), "/v1/vpn/status").await;
        let address = get(gluetun.addr(), "/v1/publicip/ip").await;
        if generation == Generation::Latest {
            assert_eq!((status.status(), address.status()), (401, 401));
        } else {
            assert_eq!(status.json(), json!({ "status": "running" }));
            assert_eq!(address.json()["public_ip"], "203.0.113.7");
            // Go guesses it.
            assert_eq!(status.header("content-type"), Some("text/plain; charset=utf-8"));
        }
    }
}

#[tokio::test]
async fn roles_open_their_routes_and_no_other() {
    let role = r#"{"auth":"apikey","apikey":"k1","routes":["GET /v1/portforward"]}"#;
    let gluetun = gluetun(Generation::Latest, &[role]).await;
    let with_key = get_as(gluetun.addr(), "/v1/portforward", "X-API-Key: k1").await;
    assert_eq!(with_key.json(), json!({ "port": 51_413, "ports": [51_413] }));
    assert_eq!(get(gluetun.addr(), "/v1/portforward?api_key=k1").await.status(), 200);
    assert_eq!(get_as(gluetun.addr(), "/v1/portforward", "X-API-Key: k2").await.status(), 401);
    assert_eq!(get_as(gluetun.addr(), "/v1/vpn/status", "X-API-Key: k1").await.status(), 401);
}

#[tokio::test]
async fn a_default_role_closes_what_was_public_where_it_is_known() {
    let basic = r#"{"auth":"basic","username":"u","password":"p"}"#;
    for (generation, anonymous) in
        [(Generation::V3_40, 200), (Generation::V3_41, 401), (Generation::Latest, 401)]
    {
        let gluetun = gluetun(generation, &[basic]).await;
        let refused = get(gluetun.addr(), "/v1/vpn/status").await;
        assert_eq!(refused.status(), anonymous, "{generation}");
        if anonymous == 401 {
            assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
        }
        let known = get_as(gluetun.addr(), "/v1/vpn/status", "Authorization: Basic dTpw").await;
        assert_eq!(known.status(), 200, "{generation}");
    }
    assert!(Role::parse("{}").unwrap().is_none());
}

#[tokio::test]
async fn a_dead_tunnel_has_no_port_no_address_and_no_health() {
    let gluetun = gluetun(Generation::V3_41, &[]).await;
    assert_eq!(get(gluetun.health_addr(), "/").await.status(), 200);
    gluetun.set_weather(Weather::Down);
    assert_eq!(get(gluetun.health_addr(), "/").await.status(), 500);
    assert_eq!(get_json(gluetun.addr(), "/v1/portforward").await, json!({ "port": 0 }));
    assert_eq!(get_json(gluetun.addr(), "/v1/publicip/ip").await["public_ip"], "");
    gluetun.set_weather(Weather::Up);
    assert_eq!(get_json(gluetun.addr(), "/v1/portforward").await, json!({ "port": 51_413 }));
    gluetun.set_ports(&[]);
    assert_eq!(get_json(gluetun.addr(), "/v1/portforward").await, json!({ "port": 0 }));
}

#[tokio::test]
async fn it_is_stopped_and_started_by_its_own_api() {
    let gluetun = gluetun(Generation::V3_40, &[]).await;
    let stopped = request(gluetun.addr(), "PUT", "/v1/vpn/status", r#"{"status":"stopped"}"#).await;
    assert_eq!(stopped.json(), json!({ "outcome": "stopped" }));
    assert_eq!(get_json(gluetun.addr(), "/v1/vpn/status").await, json!({ "status": "stopped" }));
    request(gluetun.addr(), "PUT", "/v1/vpn/status", r#"{"status":"running"}"#).await;
    assert_eq!(get(gluetun.health_addr(), "/").await.status(), 200);
    let refused = request(gluetun.addr(), "PUT", "/v1/vpn/status", r#"{"status":"crashed"}"#).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn it_says_starting_until_it_is_connected() {
    let options = GluetunOptions {
        generation: Generation::V3_39,
        connects_after: Duration::from_millis(50),
        ..GluetunOptions::default()
    };
    let gluetun = SimGluetun::start(options).await.unwrap();
    assert_eq!(get_json(gluetun.addr(), "/v1/vpn/status").await, json!({ "status": "starting" }));
    until(gluetun.health_addr(), "/", 200).await;
    assert_eq!(get_json(gluetun.addr(), "/v1/vpn/status").await, json!({ "status": "running" }));
}

#[tokio::test]
async fn the_control_server_fails_in_every_way_that_it_is_told_to() {
    let gluetun = gluetun(Generation::V3_41, &[]).await;
    let at = "/v1/publicip/ip";
    let ask = || get(gluetun.addr(), at);
    for (fault, status) in [
        (GluetunFault::Status { status: 401 }, 401),
        (GluetunFault::Status { status: 500 }, 500),
        (GluetunFault::Redirect { to: "/v1/elsewhere".to_owned() }, 301),
        (GluetunFault::Slow { ms: 30 }, 200),
        (GluetunFault::Drip { ms: 0 }, 200),
    ] {
        gluetun.set_fault(GluetunRule::at(at, fault.clone()));
        assert_eq!(ask().await.status(), status, "{fault:?}");
    }
    gluetun.set_fault(GluetunRule::everywhere(GluetunFault::Garbage));
    assert!(serde_json::from_slice::<serde_json::Value>(&ask().await.body).is_err());
    gluetun.set_fault(GluetunRule::at(at, GluetunFault::Huge { bytes: 100_000 }));
    assert!(ask().await.body.len() > 100_000);
    gluetun.set_fault(GluetunRule::at(at, GluetunFault::Cut { bytes: 5 }));
    let cut = ask().await;
    assert_eq!((cut.body.len(), cut.end), (5, End::Closed));
    gluetun.set_fault(GluetunRule::at(at, GluetunFault::Hang));
    assert_eq!(ask().await.end, End::Silent);
    gluetun.set_fault(GluetunRule::at(at, GluetunFault::Reset));
    assert_eq!(ask().await.end, End::Reset);
    gluetun.clear_faults();
    assert_eq!(ask().await.status(), 200);
    assert!(gluetun.requests().contains(&"GET /v1/publicip/ip 401".to_owned()), "{:?}", gluetun.requests());
}

#[tokio::test]
async fn it_is_told_everything_over_its_script_port() {
    let gluetun = gluetun(Generation::V3_41, &[]).await;
    script(&gluetun, "/__sim/exit", &json!({ "ports": [1024, 1025], "country": "Spain" })).await;
    assert_eq!(get_json(gluetun.addr(), "/v1/portforward").await, json!({ "ports": [1024, 1025] }));
    let exit = get_json(gluetun.addr(), "/v1/publicip/ip").await;
    assert_eq!((&exit["country"], &exit["public_ip"]), (&json!("Spain"), &json!("203.0.113.7")));
    let rule = json!({ "fault": { "mode": "status", "status": 418 }, "path": "/v1/vpn/status" });
    let told = script(&gluetun, "/__sim/fault", &rule).await;
    assert_eq!(told.json()["rules"], json!([rule]));
    assert_eq!(get(gluetun.addr(), "/v1/vpn/status").await.status(), 418);
    script(&gluetun, "/__sim/fault", &json!({ "clear": true })).await;
    script(&gluetun, "/__sim/tunnel", &json!({ "status": "crashed" })).await;
    assert_eq!(get_json(gluetun.addr(), "/v1/vpn/status").await, json!({ "status": LoopStatus::Crashed }));
    for (page, nonsense) in [
        ("/__sim/tunnel", json!({})),
        ("/__sim/exit", json!({ "x": 1 })),
        ("/__sim/fault", json!({ "clear": false })),
    ] {
        assert_eq!(script(&gluetun, page, &nonsense).await.status(), 400, "{page}");
    }
    assert_eq!(get(gluetun.addr(), "/__sim/status").await.status(), 401);
}

#[tokio::test]
async fn it_flaps_until_it_is_told_otherwise() {
    let gluetun = gluetun(Generation::V3_41, &[]).await;
    script(&gluetun, "/__sim/tunnel", &json!({ "flap": { "down_ms": 30, "up_ms": 30 } })).await;
    for status in [500, 200, 500, 200] {
        until(gluetun.health_addr(), "/", status).await;
    }
    script(&gluetun, "/__sim/tunnel", &json!({ "up": true })).await;
    assert_eq!(get(gluetun.health_addr(), "/").await.status(), 200);
}

#[tokio::test]
async fn an_engine_behind_it_loses_the_network_with_the_tunnel_and_finds_it_again() {
    let gluetun = gluetun(Generation::V3_41, &[]).await;
    let options = SimOptions { tunnel: Some(gluetun.script_addr()), ..SimOptions::fast() };
    let engine = SimEngine::start(options).await.unwrap();
    let connected = || async {
        let page = "/server/api?api_version=3&method=get_network_connection_status";
        get_json(engine.addr(), page).await["result"]["connected"] == true
    };
    assert!(eventually(&connected, true).await);
    gluetun.set_weather(Weather::Down);
    assert!(eventually(&connected, false).await);
    let start = get_json(engine.addr(), &format!("/ace/getstream?id={VERIFY_ID}&format=json")).await;
    assert!(start["response"]["stat_url"].is_string(), "its API answers: {start}");
    gluetun.set_weather(Weather::Up);
    assert!(eventually(&connected, true).await);
    gluetun.shutdown().await;
    assert!(eventually(&connected, false).await, "the tunnel's container is gone");
}

/// Waits until `condition` is as wanted.
async fn eventually<F: Future<Output = bool>>(condition: &impl Fn() -> F, wanted: bool) -> bool {
    let polled = async {
        while condition().await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), polled).await.is_ok()
}

async fn until(addr: SocketAddr, path: &str, status: u16) {
    let asked = || async { get(addr, path).await.status() == status };
    assert!(eventually(&asked, true).await, "{path} never answered {status}");
}
