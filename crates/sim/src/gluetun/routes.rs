//! The control server's and the health server's pages, as Go writes them: JSON without spaces and with a line's end, under
//! the content type that Go guesses.

use std::time::Duration;

use serde::Deserialize;

use super::auth::{self, Verdict};
use super::fault::GluetunFault;
use super::generation::{Gate, NEW_PORTS, OLD_PORTS};
use super::state::{Exit, LoopStatus, State};
use crate::wire::{Connection, Ending, Reply, Request};

/// How Go names the text that it guesses.
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers one request to the control server.
pub(super) async fn answer(
    state: &State,
    connection: &mut Connection,
    request: &Request,
    body: &[u8],
) -> Ending {
    let path = format!("/{}", request.path.join("/"));
    let note = |outcome: &str| state.note(format!("{} {path} {outcome}", request.method));
    let reply = match state.fault(&path) {
        Some(GluetunFault::Hang) => {
            note("hang");
            return connection.hang().await;
        }
        Some(GluetunFault::Reset) => {
            note("reset");
            return Ending::Reset;
        }
        Some(GluetunFault::Slow { ms }) if !connection.wait(Duration::from_millis(ms)).await => {
            note("left");
            return Ending::Close;
        }
        Some(fault) => spoilt(&fault, || proper(state, request, &path, body)),
        None => proper(state, request, &path, body),
    };
    note(&reply.status().to_string());
    connection.send(request, reply).await
}

/// What a fault makes of the proper reply.
fn spoilt(fault: &GluetunFault, proper: impl FnOnce() -> Reply) -> Reply {
    match fault {
        GluetunFault::Hang | GluetunFault::Reset | GluetunFault::Slow { .. } => proper(),
        GluetunFault::Drip { ms } => proper().dripping(Duration::from_millis(*ms)),
        GluetunFault::Cut { bytes } => proper().cut(*bytes),
        GluetunFault::Status { status } => error(*status),
        GluetunFault::Redirect { to } => redirect(to),
        GluetunFault::Body { text } => Reply::new(200, TEXT, text.clone()),
        GluetunFault::Garbage => Reply::new(200, "text/html", "<html>\u{0}\u{fffd}{\"port\":"),
        GluetunFault::Huge { bytes } => Reply::new(200, TEXT, format!("{{\"port\":1{}", "0".repeat(*bytes))),
    }
}

/// What a healthy control server of this generation answers.
fn proper(state: &State, request: &Request, path: &str, body: &[u8]) -> Reply {
    let open = match state.generation.gate(&request.method, path) {
        Gate::Refused(status) => return error(status),
        Gate::Route { open } => open,
    };
    match auth::judge(&state.roles, request, &format!("{} {path}", request.method), open) {
        Verdict::Allowed => page(state, &request.method, path, body),
        Verdict::Unauthorized { basic: false } => error(401),
        Verdict::Unauthorized { basic: true } => {
            let realm = r#"Basic realm="restricted", charset="UTF-8""#.to_owned();
            error(401).with("WWW-Authenticate", realm)
        }
    }
}

fn page(state: &State, method: &str, path: &str, body: &[u8]) -> Reply {
    let tunnel = state.tunnel();
    match (method, path) {
        ("PUT", "/v1/vpn/status") => turn(state, body),
        (_, "/v1/vpn/status") => status(tunnel.status),
        // As with WireGuard, which most use.
        (_, "/v1/openvpn/status") => status(LoopStatus::Stopped),
        (_, OLD_PORTS) if state.generation.redirects() => redirect(NEW_PORTS),
        (_, OLD_PORTS | NEW_PORTS) => json(state.generation.ports(tunnel.ports())),
        (_, "/v1/publicip/ip") => json(public_ip(tunnel.exit())),
        (_, "/v1/version") => json(format!(
            r#"{{"version":"{}","commit":"simulated","created":"2026-01-01T00:00:00.000Z"}}"#,
            state.generation.version()
        )),
        ("GET", "/v1/dns/status") => status(LoopStatus::Running),
        ("GET", "/v1/updater/status") => status(LoopStatus::Completed),
        ("GET", _) => json("{}".to_owned()),
        _ => error(501),
    }
}

#[derive(Deserialize)]
struct StatusOrder {
    status: String,
}

fn turn(state: &State, body: &[u8]) -> Reply {
    match serde_json::from_slice::<StatusOrder>(body).map(|order| order.status).as_deref() {
        Ok("running") => state.turn(true),
        Ok("stopped") => state.turn(false),
        _ => return error(400),
    }
    json(format!(r#"{{"outcome":"{}"}}"#, state.tunnel().status.as_str()))
}

/// The health server's page.
pub(super) fn health(state: &State, request: &Request) -> Reply {
    if request.method != "GET" {
        return Reply::new(400, TEXT, "method not supported for healthcheck\n");
    }
    let tunnel = state.tunnel();
    match (tunnel.is_up, tunnel.status) {
        (true, _) => Reply::new(200, TEXT, ""),
        (false, LoopStatus::Starting) => Reply::new(500, TEXT, "healthcheck did not run yet\n"),
        (false, _) => {
            Reply::new(500, TEXT, "dialing: dial tcp4: lookup cloudflare.com: i/o timeout (simulated)\n")
        }
    }
}

fn status(status: LoopStatus) -> Reply {
    json(format!(r#"{{"status":"{}"}}"#, status.as_str()))
}

/// All fields are there and empty while nothing is known.
fn public_ip(exit: Option<&Exit>) -> String {
    let known =
        |field: fn(&Exit) -> &str| serde_json::Value::from(exit.map(field).unwrap_or_default()).to_string();
    format!(
        r#"{{"public_ip":{},"region":{},"country":{},"city":{},"hostname":"","location":"","organization":"","postal_code":"","timezone":""}}"#,
        known(|exit| &exit.public_ip),
        known(|exit| &exit.region),
        known(|exit| &exit.country),
        known(|exit| &exit.city)
    )
}

fn json(text: String) -> Reply {
    Reply::new(200, TEXT, text + "\n")
}

fn error(status: u16) -> Reply {
    Reply::new(status, TEXT, format!("{}\n", crate::wire::reason(status)))
        .with("X-Content-Type-Options", "nosniff".to_owned())
}

fn redirect(to: &str) -> Reply {
    Reply::new(301, "text/html; charset=utf-8", format!("<a href=\"{to}\">Moved Permanently</a>.\n\n"))
        .with("Location", to.to_owned())
}
