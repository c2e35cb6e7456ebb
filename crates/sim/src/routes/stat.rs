//! `/ace/stat/…` and `/ace/cmd/…`: what a player asks and tells while it plays.

use serde_json::{Value, json};

use super::{path_infohash, refusal, respond};
use crate::core::Core;
use crate::fault::{Fault, Faults, Page};
use crate::ledger::CloseReason;
use crate::options::Timing;
use crate::session::Session;
use crate::wire::{Connection, Ending, Request};

/// The unit of `downloaded` and `uploaded`: one block of the swarm.
pub(super) const BLOCK: u64 = 16_384;
/// Length of the time-shift window, seconds.
const WINDOW: u64 = 1_800;
/// What a player is told about a session that is not, or no longer, there.
const UNKNOWN: &str = "unknown playback session id";
/// How far the playback is behind the live edge, seconds.
const BEHIND: u64 = 2;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unknown,
    Idle,
    Prebuffering,
    Downloading,
}

pub(super) async fn stat(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    infohash: &str,
    token: &str,
) -> Ending {
    core.ledger.count(|counts| counts.stat_polls += 1);
    let session = path_infohash(infohash).and_then(|infohash| core.of_player(infohash, token));
    let Some(session) = session else {
        return respond(
            connection,
            request,
            &core.faults(path_infohash(infohash)),
            Page::Stat,
            refusal(UNKNOWN),
        )
        .await;
    };
    let faults = core.session_faults(&session);
    core.ledger.stat_polled(session.ledger_id);
    let polls = session.polled(request.param("skip_player_activity") != Some("1"));
    let progress = progress(&session, &faults, &core.options.timing, polls);
    let response = full_stat(core, &session, &faults, progress);
    respond(connection, request, &faults, Page::Stat, json!({ "response": response, "error": null })).await
}

pub(super) async fn command(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    infohash: &str,
    token: &str,
) -> Ending {
    let target = path_infohash(infohash);
    let session = target.and_then(|infohash| core.of_player(infohash, token));
    let faults = session.as_ref().map_or_else(|| core.faults(target), |session| core.session_faults(session));
    let stop = request.param("method") == Some("stop");
    core.ledger.count(|counts| counts.stops += u64::from(stop));
    if let (Some(infohash), true) = (target, stop) {
        core.stop(infohash, token, CloseReason::StopCommand);
    }
    let value = match session {
        None => refusal(UNKNOWN),
        Some(_) if request.param("api_version") == Some("2") => json!({ "result": "ok" }),
        Some(_) => json!({ "response": "ok", "error": null }),
    };
    respond(connection, request, &faults, Page::Command, value).await
}

fn progress(session: &Session, faults: &Faults, timing: &Timing, polls_before: u64) -> Progress {
    let age = session.opened.elapsed();
    if polls_before == 0 && age < timing.stat_empty {
        Progress::Unknown
    } else if age < timing.stat_idle {
        Progress::Idle
    } else if super::media::prebuffer(faults, timing).is_none_or(|needed| age < needed) {
        Progress::Prebuffering
    } else {
        Progress::Downloading
    }
}

fn full_stat(core: &Core, session: &Session, faults: &Faults, progress: Progress) -> Value {
    let mut stat = match progress {
        Progress::Unknown => return json!({}),
        Progress::Idle => {
            return json!({ "status": "idle", "is_live": session.is_live(), "infohash": session.infohash.to_string() });
        }
        Progress::Prebuffering | Progress::Downloading => common_stat(session, faults),
    };
    if progress == Progress::Prebuffering {
        stat["status"] = "prebuf".into();
        stat["downloaded"] = 0.into();
        stat["speed_down"] = 0.into();
        return stat;
    }
    let downloaded = downloaded(core, session, faults);
    stat["status"] = "dl".into();
    stat["downloaded"] = downloaded.into();
    stat["uploaded"] = (downloaded / 8 / BLOCK * BLOCK).into();
    stat["speed_down"] = speed(session, faults).into();
    match session.channel.length() {
        None => stat["livepos"] = live_position(core, session, faults),
        Some(length) => stat["total_progress"] = (session.bytes_served().min(length) * 100 / length).into(),
    }
    stat
}

fn common_stat(session: &Session, faults: &Faults) -> Value {
    json!({
        "uploaded": 0,
        "network_monitor_status": 0,
        "debug_level": 0,
        "disk_cache_stats": {
            "avail": 3_199_156_224_u64,
            "disk_cache_limit": 2_266_017_044_u64,
            "inactive_inuse": 0,
            "active_inuse": 38_010_982,
        },
        "speed_up": 29,
        "network_monitor_started": false,
        "selected_stream_index": 0,
        "total_progress": 0,
        "stream_status": -1,
        "client_session_id": session.client_session_id,
        "manifest_access_mode": -1,
        "peers": peers(session, faults),
        "playback_session_id": session.playback_session_id,
        "is_encrypted": i32::from(faults.has(&Fault::Encrypted)),
        "is_live": session.is_live(),
        "infohash": session.infohash.to_string(),
        "selected_file_index": -1,
    })
}

/// A number of peers that differs between swarms and wanders.
pub(super) fn peers(session: &Session, faults: &Faults) -> u64 {
    let wander = session.opened.elapsed().as_secs() / 3 % 4;
    match faults.find(|fault| matches!(fault, Fault::NoPeers | Fault::BurstThenStall { .. }).then_some(fault))
    {
        Some(Fault::NoPeers) => 0,
        Some(_) => 1,
        None => 3 + session.infohash.seed() % 8 + wander,
    }
}

/// Kilobytes a second.
fn speed(session: &Session, faults: &Faults) -> u64 {
    let healthy = session.channel.bitrate() / 8 / 1024;
    let slowed = faults.find(|fault| match fault {
        // A stalled swarm trickles lists of pieces for a while.
        Fault::BurstThenStall { .. } => {
            Some(19_u64.saturating_sub(session.opened.elapsed().as_secs() / 4).max(2))
        }
        Fault::Trickle { kbps } => Some(kbps / 8),
        _ => None,
    });
    slowed.unwrap_or(healthy)
}

/// Bytes, in whole blocks. Of a recording as much as was played: it is fetched as fast as it is read.
fn downloaded(core: &Core, session: &Session, faults: &Faults) -> u64 {
    if let Some(length) = session.channel.length() {
        return session.bytes_served().min(length) / BLOCK * BLOCK;
    }
    let seconds = (session.opened.elapsed() + core.options.burst).as_secs();
    let healthy = seconds * session.channel.bitrate() / 8;
    let frozen = faults.find(|fault| match fault {
        Fault::BurstThenStall { after_bytes } => Some(healthy.min(*after_bytes)),
        _ => None,
    });
    frozen.unwrap_or(healthy) / BLOCK * BLOCK
}

/// Positions as strings of UNIX seconds. When the source is gone they stand still; a fault may lie about them.
fn live_position(core: &Core, session: &Session, faults: &Faults) -> Value {
    let gone = faults.find(|fault| match fault {
        Fault::Loop { .. } => Some(session.edge_at_opening),
        Fault::Stagnate { .. } => session.still_since(),
        _ => None,
    });
    let edge = gone.unwrap_or_else(|| core.live_edge());
    let stale =
        faults.find(|fault| if let Fault::StaleLive { seconds } = fault { Some(*seconds) } else { None });
    let last = edge.as_secs().saturating_sub(stale.unwrap_or_default());
    let position = last.saturating_sub(BEHIND);
    let text = |seconds: u64| Value::String(seconds.to_string());
    json!({
        "pos": text(position),
        "last": text(last),
        "live_last": text(last),
        "last_ts": text(last),
        "live_first": text(last.saturating_sub(WINDOW)),
        "first_ts": text(last.saturating_sub(WINDOW)),
        "is_live": "1",
        "buffer_pieces": "30",
    })
}
