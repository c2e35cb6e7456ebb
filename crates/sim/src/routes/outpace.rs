//! The pages of the open engine: few, answered at once, errors with status 200 and `error` first.
//!
//! A start takes any 40 digits and opens a playback; only the playback asks the swarm. What comes depends on the form of
//! the start: behind a content id is a descriptor that says how large the swarm's pieces are, an infohash is taken with
//! pieces of 1 MiB. See [`crate::source`] for what is shared between playbacks.
//!
//! ```text
//! getstream ─► catalogue? ─► playback (token) ─► /ace/r ─► catalogue? ─► peers? ─► source ─┬► media, from a key frame
//!              an id that it      stat, cmd                  404 after 10 s                ├► runaway: bytes, no media
//!              lacks stays `cid:`                                                          └► silence
//! ```

mod api;
mod media;
mod session;
mod start;

use std::time::Duration;

use crate::core::Core;
use crate::fault::{Fault, Faults};
use crate::identity::ContentHash;
use crate::source::{Reference, Supply};
use crate::wire::{Connection, Ending, Reply, Request};

use super::Format;

/// Answers one request of the engine port.
pub(super) async fn answer(core: &Core, connection: &mut Connection, request: &Request) -> Ending {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return connection.send(request, Reply::empty(405)).await;
    }
    match path.as_slice() {
        ["ace", "getstream"] => start::start(core, connection, request, Format::Progressive).await,
        ["ace", "manifest.m3u8"] => start::start(core, connection, request, Format::Hls).await,
        ["ace", "r", id, token] => media::playback(core, connection, request, id, token).await,
        ["ace", "m", id, file] => media::playlist(core, connection, request, id, file).await,
        ["ace", "stat", id, token] => session::stat(core, connection, request, id, token).await,
        ["ace", "cmd", id, token] => session::command(core, connection, request, id, token).await,
        ["server", "api"] => api::answer(core, connection, request).await,
        ["healthz"] => connection.send(request, Reply::text(200, "ok")).await,
        _ => connection.send(request, Reply::empty(404)).await,
    }
}

/// What the catalogue of content ids says, and how long that takes: the infohash, or why there is none.
fn catalogue(core: &Core, id: ContentHash, faults: &Faults) -> (Duration, Result<ContentHash, &'static str>) {
    let timing = &core.options.timing;
    if faults.has(&Fault::CatalogueHangs) {
        (timing.catalogue_hangs, Err("no host answered"))
    } else if faults.has(&Fault::CatalogueFails) {
        (Duration::ZERO, Err("no host could be reached"))
    } else if id.is_infohash() || id.is_zero() || faults.has(&Fault::FailedToLoad) {
        (timing.catalogue, Err("unknown content id"))
    } else {
        (timing.catalogue, Ok(id.infohash()))
    }
}

/// What the swarm makes of a playback, and how long it takes to find that out.
struct Search {
    /// `None`: for ever.
    lasts: Option<Duration>,
    /// `None`: nobody has it.
    finds: Option<Supply>,
}

impl Search {
    fn of(core: &Core, reference: &Reference, faults: &Faults) -> Self {
        let asked = match reference {
            Reference::ContentId(id) => catalogue(core, *id, faults).0,
            Reference::Infohash(_) | Reference::Url(_) => Duration::ZERO,
        };
        let slow = faults.find(|fault| match fault {
            Fault::SlowStart { headers_ms, .. } => Some(Duration::from_millis(*headers_ms)),
            _ => None,
        });
        let finds = Self::finds(core, reference, faults);
        let in_vain = if finds.is_none() { in_vain(core, faults) } else { Duration::ZERO };
        let lasts = asked + slow.unwrap_or_default() + in_vain;
        Self { lasts: (!faults.has(&Fault::PrebufSilent)).then_some(lasts), finds }
    }

    fn finds(core: &Core, reference: &Reference, faults: &Faults) -> Option<Supply> {
        let nobody =
            |fault: &Fault| matches!(fault, Fault::NoPeers | Fault::FailedToLoad | Fault::LateRefusal { .. });
        if faults.has(&Fault::PeersNoData) {
            Some(Supply::Silence)
        } else if faults.iter().any(nobody) || !is_known(reference) {
            None
        } else if is_misread(core, reference) {
            Some(Supply::Runaway)
        } else {
            let channel = crate::channel::Channel::new(reference.swarm(), core.kind(reference.swarm()));
            Some(Supply::Media { rate: channel.bitrate(), burst: core.options.burst })
        }
    }
}

/// Whether there is anything behind a content id; an infohash is asked for whatever it is.
fn is_known(reference: &Reference) -> bool {
    !matches!(reference, Reference::ContentId(id) if id.is_infohash() || id.is_zero())
}

/// Whether the engine is wrong about the pieces.
fn is_misread(core: &Core, reference: &Reference) -> bool {
    match reference {
        Reference::ContentId(_) | Reference::Url(_) => false,
        Reference::Infohash(hash) => {
            !hash.is_infohash() || core.piece_size(*hash) != crate::options::PieceSize::default()
        }
    }
}

/// How long peers are looked for in vain.
fn in_vain(core: &Core, faults: &Faults) -> Duration {
    let late = faults.find(|fault| match fault {
        Fault::LateRefusal { ms } => Some(Duration::from_millis(*ms)),
        _ => None,
    });
    late.unwrap_or(core.options.timing.no_peers)
}
