//! `/ace/r/…` and the stream behind `/ace/getstream`: what a source gives its readers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::media::{PACE, fail_to_start, first_byte, framing, pump, wrong_body, wrong_content};
use super::super::recording;
use super::Search;
use crate::body::Body;
use crate::core::Core;
use crate::fault::{Fault, Faults, Framing, WrongContent};
use crate::feed::{Feed, Step};
use crate::ledger::CloseReason;
use crate::session::Session;
use crate::source::{Subscription, Supply};
use crate::wire::{Connection, Ending, Reply, Request};

/// What became of the search for a source.
enum Found {
    Source(Entry),
    /// Nobody has the content, or the playback was stopped.
    Nobody,
    /// The reader left.
    Left,
}

/// A reader's way into a source.
struct Entry {
    source: Subscription,
    begins: Begins,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// With what the source fetched first.
    WithTheBurst,
    /// With the piece that comes next.
    WithTheNextPiece,
}

/// `/ace/r/<id>/<token>`; nothing but a playback's own token opens its content.
pub(super) async fn playback(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    id: &str,
    token: &str,
) -> Ending {
    match core.of_playback(id, token) {
        Some(playback) => stream(core, connection, request, &playback).await,
        None => connection.send(request, Reply::empty(404)).await,
    }
}

/// A stream without a playback URL: the playback ends with its only reader.
pub(super) async fn direct(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    playback: &Arc<Session>,
) -> Ending {
    let only = Direct { core, playback };
    let ending = stream(core, connection, request, only.playback).await;
    drop(only);
    ending
}

/// Ends a playback when its reader is gone, however that came about.
struct Direct<'a> {
    core: &'a Core,
    playback: &'a Arc<Session>,
}

impl Drop for Direct<'_> {
    fn drop(&mut self) {
        self.core.stop(self.playback.infohash, &self.playback.token, CloseReason::ReaderLeft);
    }
}

/// `/ace/m/<id>/<token>.m3u8`: playlists are announced and not served, as that of a channel without a key frame.
pub(super) async fn playlist(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    id: &str,
    file: &str,
) -> Ending {
    let playback = file.strip_suffix(".m3u8").and_then(|token| core.of_playback(id, token));
    if playback.is_none() {
        return connection.send(request, Reply::empty(404)).await;
    }
    if !connection.wait(core.options.timing.playlist).await {
        return Ending::Close;
    }
    connection.send(request, Reply::empty(503).with("Retry-After", "1".to_owned())).await
}

/// Opens the source of a playlist; `false` when there is none.
pub(super) async fn begin(core: &Core, connection: &mut Connection, playback: &Arc<Session>) -> bool {
    matches!(find(core, connection, playback).await, Found::Source(_))
}

async fn stream(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    playback: &Arc<Session>,
) -> Ending {
    let faults = core.session_faults(playback);
    if let Some(ending) = fail_to_start(core, connection, request, playback, &faults).await {
        return ending;
    }
    let entry = match find(core, connection, playback).await {
        Found::Source(entry) => entry,
        Found::Nobody => return connection.send(request, Reply::empty(404)).await,
        Found::Left => return Ending::Close,
    };
    // Readers are never refused: only the right to read a recording is asked for alone.
    let Some(reader) = playback.admit(false) else { return Ending::Close };
    core.ledger.reader_admitted(playback.ledger_id);
    let _body = core.body();
    if let Some(length) = playback.channel.length() {
        return recording::serve(core, connection, request, &reader, length).await;
    }
    // The client's leaving shows as an error of the write.
    serve(core, connection, request, playback, &entry).await.unwrap_or(Ending::Close)
}

/// The source that runs, or the one that is opened when the swarm was found.
async fn find(core: &Core, connection: &mut Connection, playback: &Session) -> Found {
    let asked = Instant::now();
    loop {
        if let Some(source) = core.join_source(&playback.reference) {
            return Found::Source(Entry::late(core, source));
        }
        if playback.cut.is_cancelled() {
            return Found::Nobody;
        }
        let search = Search::of(core, &playback.reference, &core.session_faults(playback));
        let left = search.lasts.map(|lasts| lasts.saturating_sub(asked.elapsed()));
        match (left, search.finds) {
            (Some(Duration::ZERO), None) => return Found::Nobody,
            (Some(Duration::ZERO), Some(supply)) => {
                return Found::Source(Entry::first(core.open_source(&playback.reference, supply)));
            }
            _ if connection.wait(left.unwrap_or(PACE).min(PACE)).await => {}
            _ => return Found::Left,
        }
    }
}

impl Entry {
    /// Into a source that runs. Who comes while the first media is held back is there for all of it.
    fn late(core: &Core, source: Subscription) -> Self {
        let is_held = source.source().age() < core.options.held();
        Self { source, begins: if is_held { Begins::WithTheBurst } else { Begins::WithTheNextPiece } }
    }

    /// Into a source that this reader has opened.
    fn first(source: Subscription) -> Self {
        Self { source, begins: Begins::WithTheBurst }
    }

    fn feed(&self, core: &Core, playback: &Session) -> Feed {
        match self.begins {
            Begins::WithTheBurst => Feed::at_key_frame(
                &playback.channel,
                self.source.source().edge_at_opening,
                core.options.burst,
            ),
            Begins::WithTheNextPiece => {
                let piece = core.piece_size(playback.infohash).bytes();
                Feed::at_next_piece(&playback.channel, core.live_edge(), piece)
            }
        }
    }
}

async fn serve(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    playback: &Session,
    entry: &Entry,
) -> io::Result<Ending> {
    let faults = core.session_faults(playback);
    let framing = framing(Framing::Chunked, &faults);
    let mut body = Body::new(framing, faults.has(&Fault::Gzip), faults.has(&Fault::Dribble));
    let html = faults.find(wrong_content) == Some(WrongContent::Html);
    connection.write(&body.head(connection.manners(), html)).await?;
    if request.is_head() {
        return Ok(Ending::Close);
    }
    if faults.has(&Fault::Empty200) {
        body.finish(connection).await?;
        return Ok(Ending::Close);
    }
    if !first_byte(connection, &faults).await {
        return Ok(Ending::Close);
    }
    if let Some(kind) = faults.find(wrong_content) {
        return Ok(wrong_body(connection, &mut body, kind).await);
    }
    feed(core, connection, playback, entry, &mut body).await
}

/// Writes what the source gives until it ends, the playback is stopped, or the reader leaves.
async fn feed(
    core: &Core,
    connection: &mut Connection,
    playback: &Session,
    entry: &Entry,
    body: &mut Body,
) -> io::Result<Ending> {
    let source = entry.source.source();
    let mut feed = entry.feed(core, playback);
    pump(core, connection, playback, body, |age, faults, out| {
        if playback.cut.is_cancelled() {
            Step::End
        } else if !gives(core, source.supply, source.age()) {
            silent_step(faults)
        } else {
            feed.step(&playback.channel, core.live_edge(), age, faults, out)
        }
    })
    .await
}

/// Whether a source of this age gives its readers anything.
fn gives(core: &Core, supply: Supply, age: Duration) -> bool {
    matches!(supply, Supply::Media { .. }) && age >= core.options.held()
}

/// A source that gives nothing can still be lost.
fn silent_step(faults: &Faults) -> Step {
    let ends = faults.find(|fault| match fault {
        Fault::Eof { after_bytes: 0 } => Some(Step::End),
        Fault::Reset { after_bytes: 0 } => Some(Step::Reset),
        _ => None,
    });
    ends.unwrap_or(Step::Wait)
}
