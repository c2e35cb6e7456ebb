//! The control port: faults, the ledger and the power switch, for scripts. It never answers on the engine port.
//!
//! ```text
//! GET  /__sim/status                dialect, sessions, downloads, bytes received from swarms, rules and counts
//! GET  /__sim/ledger                every session, every start, starts in flight by engine
//! GET  /__sim/fault                 the rules in force
//! POST /__sim/fault                 {"fault": {"mode": "eof", "after_bytes": 1000000}, "target": "all" | <hash>, "starts": 1}
//!                                   or a list of such rules, or {"clear": true}
//! POST /__sim/channel               {"content": <hash>, "channel": "verify@8000000", "pieces": "64k"}, one of the two or both
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
use crate::json::Spacing;
use crate::ledger::CloseReason;
use crate::options::PieceSize;
use crate::wire::{Connection, Ending, Manners, Reply, Request};

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
    channel: Option<ChannelKind>,
    pieces: Option<PieceSize>,
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
    let mut connection = Connection::new(stream, peer.ip(), Manners::python("acemux-sim"));
    while let Some(request) = connection.request().await {
        let Some(body) = connection.body(&request).await else { return };
        let reply = match answer(core, &request, &body).await {
            Ok(value) => Reply::json(&value, Spacing::Python),
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
        "dialect": core.options.dialect.to_string(),
        "version": core.options.version().to_string(),
        "listening": *core.wanted().borrow(),
        "sessions": core.sessions(),
        "sources": core.sources(),
        "received": core.received(),
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
    if order.channel.is_none() && order.pieces.is_none() {
        return Err(Reply::text(400, "nothing to do: neither channel nor pieces\n"));
    }
    order.channel.into_iter().for_each(|kind| core.set_channel(content, kind));
    order.pieces.into_iter().for_each(|size| core.set_piece_size(content, size));
    let infohash = content.infohash();
    Ok(json!({
        "infohash": infohash.to_string(),
        "channel": core.kind(infohash),
        "pieces": core.piece_size(infohash),
    }))
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
    core.reset_received();
    core.boot();
    status(core)
}
