//! `/ace/stat/…` and `/ace/cmd/…`: ten fields, and one command.

use serde_json::{Value, json};

use super::super::{refusal, respond, stat};
use super::start::metadata;
use crate::core::Core;
use crate::fault::{Fault, Faults, Page};
use crate::ledger::CloseReason;
use crate::session::Session;
use crate::source::{Source, Supply};
use crate::wire::{Connection, Ending, Request};

const UNKNOWN: &str = "invalid or expired playback session";

pub(super) async fn stat(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    id: &str,
    token: &str,
) -> Ending {
    core.ledger.count(|counts| counts.stat_polls += 1);
    let Some(playback) = core.of_playback(id, token) else {
        return respond(connection, request, &core.faults(None), Page::Stat, refusal(UNKNOWN)).await;
    };
    core.ledger.stat_polled(playback.ledger_id);
    let faults = core.session_faults(&playback);
    let value = json!({ "response": fields(core, &playback, &faults), "error": null });
    respond(connection, request, &faults, Page::Stat, value).await
}

/// `dl` says that there is a source, whatever it gives: of one that runs away nothing else is told.
fn fields(core: &Core, playback: &Session, faults: &Faults) -> Value {
    let source = core.source(&playback.reference);
    let downloaded = source.as_ref().map_or(0, |source| downloaded(source, faults));
    let status = if source.is_some() { "dl" } else { "idle" };
    json!({
        "status": status,
        "peers": source.filter(|source| source.supply != Supply::Runaway).map_or(0, |_| stat::peers(playback, faults)),
        "downloaded": downloaded,
        "uploaded": downloaded / 8 / stat::BLOCK * stat::BLOCK,
        "infohash": playback.play_id.trim_start_matches("cid:"),
        "is_live": playback.is_live(),
        "is_encrypted": i32::from(faults.has(&Fault::Encrypted)),
        "playback_session_id": playback.token,
        "client_session_id": playback.client_session_id,
        "metadata": metadata(playback),
    })
}

/// Bytes of whole pieces, in whole blocks: what never becomes a piece is not told.
fn downloaded(source: &Source, faults: &Faults) -> u64 {
    if source.supply == Supply::Runaway {
        return 0;
    }
    let frozen = faults.find(|fault| match fault {
        Fault::BurstThenStall { after_bytes } => Some(*after_bytes),
        _ => None,
    });
    source.received().min(frozen.unwrap_or(u64::MAX)) / stat::BLOCK * stat::BLOCK
}

pub(super) async fn command(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    id: &str,
    token: &str,
) -> Ending {
    let playback = core.of_playback(id, token);
    let faults =
        playback.as_ref().map_or_else(|| core.faults(None), |playback| core.session_faults(playback));
    let stop = request.param("method") == Some("stop");
    core.ledger.count(|counts| counts.stops += u64::from(stop));
    let value = match playback {
        None => refusal(UNKNOWN),
        Some(_) if !stop => refusal("missing method"),
        Some(playback) => {
            core.stop(playback.infohash, token, CloseReason::StopCommand);
            json!({ "response": "ok", "error": null })
        }
    };
    respond(connection, request, &faults, Page::Command, value).await
}
