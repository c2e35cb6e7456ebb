//! The control port: faults, the ledger and the power switch, for scripts. It never answers on the engine port.
//!
//! ```text
//! GET  /__sim/status                addresses and counts
//! GET  /__sim/ledger                every session, every start, starts in flight by engine
//! GET  /__sim/fault                 the rules in force
//! POST /__sim/fault                 {"fault": {"mode": "eof", "after_bytes": 1000000}, "target": "all" | <hash>, "starts": 1}
//!                                   or a list of such rules, or {"clear": true}
//! POST /__sim/channel               {"content": <hash>, "channel": "verify@8000000"}
//! POST /__sim/crash                 the engine dies and stays down
//! POST /__sim/restart               {"down_ms": 3000} or {}: it dies and comes back
//! POST /__sim/reset                 faults, sessions and the ledger are forgotten
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::ChannelKind;
use crate::core::Core;
use crate::fault::Rule;
use crate::identity::ContentHash;
use crate::ledger::CloseReason;
use crate::wire::{Connection, Ending, Reply, Request};

#[derive(Deserialize)]
#[serde(untagged)]
enum FaultOrder {
    Rules(Vec<Rule>),
    Clear { clear: bool },
    Rule(Rule),
}

#[derive(Deserialize)]
struct ChannelOrder {
    content: String,
    channel: ChannelKind,
}

#[derive(Deserialize)]
struct RestartOrder {
    #[serde(default)]
    down_ms: u64,
}

/// Answers on `listener` until the engine ends.
pub(crate) async fn serve(
    core: Arc<Core>,
    tasks: TaskTracker,
    stop: CancellationToken,
    listener: TcpListener,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (core, stop) = (Arc::clone(&core), stop.clone());
                tasks.spawn(async move { stop.run_until_cancelled(converse(&core, stream, peer)).await });
            }
            // Out of descriptors: those in use come back.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn converse(core: &Core, stream: TcpStream, peer: SocketAddr) {
    let mut connection = Connection::new(stream, peer.ip(), "acemux-sim");
    while let Some(request) = connection.request().await {
        let Some(body) = connection.body(&request).await else { return };
        let reply = match answer(core, &request, &body).await {
            Ok(value) => Reply::json(&value),
            Err(problem) => problem,
        };
        if connection.send(&request, reply).await != Ending::KeepAlive {
            return;
        }
    }
}

async fn answer(core: &Core, request: &Request, body: &[u8]) -> Result<Value, Reply> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["__sim", "status"]) => Ok(status(core)),
        ("GET", ["__sim", "ledger"]) => Ok(core.ledger.snapshot().to_json()),
        ("GET", ["__sim", "fault"]) => Ok(json!({ "rules": core.rules() })),
        ("POST", ["__sim", "fault"]) => set_faults(core, read(body)?),
        ("POST", ["__sim", "channel"]) => set_channel(core, &read(body)?),
        ("POST", ["__sim", "crash"]) => {
            core.crash();
            Ok(status(core))
        }
        ("POST", ["__sim", "restart"]) => Ok(restart(core, &read(body)?).await),
        ("POST", ["__sim", "reset"]) => Ok(reset(core)),
        _ => Err(Reply::text(404, "no such control page\n")),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Reply> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Reply::text(400, &format!("{error}\n")))
}

fn status(core: &Core) -> Value {
    json!({
        "name": core.name(),
        "version": core.options.version.to_string(),
        "listening": *core.wanted().borrow(),
        "sessions": core.sessions(),
        "rules": core.rules(),
        "counts": core.ledger.counts(),
    })
}

fn set_faults(core: &Core, order: FaultOrder) -> Result<Value, Reply> {
    match order {
        FaultOrder::Rules(rules) => rules.into_iter().for_each(|rule| core.add_rule(rule)),
        FaultOrder::Rule(rule) => core.add_rule(rule),
        FaultOrder::Clear { clear: true } => core.clear_rules(),
        FaultOrder::Clear { clear: false } => return Err(Reply::text(400, "nothing to do\n")),
    }
    Ok(json!({ "rules": core.rules() }))
}

fn set_channel(core: &Core, order: &ChannelOrder) -> Result<Value, Reply> {
    let content = ContentHash::parse(&order.content);
    let content = content.ok_or_else(|| Reply::text(400, "content is 40 hexadecimal digits\n"))?;
    core.set_channel(content, order.channel);
    Ok(json!({ "infohash": content.infohash().to_string(), "channel": order.channel }))
}

async fn restart(core: &Core, order: &RestartOrder) -> Value {
    core.crash();
    sleep(Duration::from_millis(order.down_ms)).await;
    core.boot();
    status(core)
}

fn reset(core: &Core) -> Value {
    core.clear_rules();
    core.end_all(CloseReason::Shutdown);
    core.ledger.reset();
    core.boot();
    status(core)
}
