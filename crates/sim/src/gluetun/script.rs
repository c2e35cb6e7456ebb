//! The script port: the tunnel, the exit and the faults, for scripts.
//!
//! ```text
//! GET  /__sim/status    whether the tunnel is up, what it says, exit, rules and requests
//! POST /__sim/tunnel    {"up": false} | {"up": true} | {"flap": {"down_ms": 2000, "up_ms": 20000}} | {"status": "crashed"}
//! POST /__sim/exit      {"public_ip": "203.0.113.8", "country": "Spain", "ports": [51413]}, what is left out stays
//! POST /__sim/fault     {"fault": {"mode": "status", "status": 401}, "path": "/v1/portforward"} or {"clear": true}
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fault::GluetunRule;
use super::state::{LoopStatus, State, Weather};
use crate::json::Spacing;
use crate::wire::{Reply, Request};

#[derive(Deserialize)]
#[serde(untagged)]
enum TunnelOrder {
    Up { up: bool },
    Flap { flap: Flap },
    Status { status: LoopStatus },
}

#[derive(Deserialize)]
struct Flap {
    down_ms: u64,
    up_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExitOrder {
    public_ip: Option<String>,
    country: Option<String>,
    region: Option<String>,
    city: Option<String>,
    ports: Option<Vec<u16>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FaultOrder {
    Rule(GluetunRule),
    Clear { clear: bool },
}

/// Answers one request to the script port.
pub(super) fn answer(state: &State, request: &Request, body: &[u8]) -> Reply {
    match order(state, request, body) {
        Ok(()) => Reply::json(&status(state), Spacing::Python),
        Err(problem) => problem,
    }
}

fn order(state: &State, request: &Request, body: &[u8]) -> Result<(), Reply> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["__sim", "status"]) => {}
        ("POST", ["__sim", "tunnel"]) => tunnel(state, &read(body)?),
        ("POST", ["__sim", "exit"]) => exit(state, read(body)?),
        ("POST", ["__sim", "fault"]) => match read(body)? {
            FaultOrder::Rule(rule) => state.add_rule(rule),
            FaultOrder::Clear { clear: true } => state.clear_rules(),
            FaultOrder::Clear { clear: false } => return Err(Reply::text(400, "nothing to do\n")),
        },
        _ => return Err(Reply::text(404, "no such script page\n")),
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    serde_json::from_slice(body).map_err(|error| Reply::text(400, &format!("{error}\n")))
}

fn tunnel(state: &State, order: &TunnelOrder) {
    match order {
        TunnelOrder::Up { up: true } => state.set_weather(Weather::Up),
        TunnelOrder::Up { up: false } => state.set_weather(Weather::Down),
        TunnelOrder::Flap { flap: Flap { down_ms, up_ms } } => state.set_weather(Weather::Flap {
            down: Duration::from_millis(*down_ms),
            up: Duration::from_millis(*up_ms),
        }),
        TunnelOrder::Status { status } => state.set_status(*status),
    }
}

fn exit(state: &State, order: ExitOrder) {
    let mut exit = state.exit();
    let ExitOrder { public_ip, country, region, city, ports } = order;
    for (field, told) in [
        (&mut exit.public_ip, public_ip),
        (&mut exit.country, country),
        (&mut exit.region, region),
        (&mut exit.city, city),
    ] {
        *field = told.unwrap_or_else(|| std::mem::take(field));
    }
    exit.ports = ports.unwrap_or(exit.ports);
    state.set_exit(exit);
}

fn status(state: &State) -> Value {
    let (tunnel, exit) = (state.tunnel(), state.exit());
    json!({
        "up": tunnel.is_up,
        "status": tunnel.status,
        "generation": state.generation.to_string(),
        "exit": { "public_ip": exit.public_ip, "country": exit.country, "ports": exit.ports },
        "rules": state.rules(),
        "requests": state.requests(),
    })
}
