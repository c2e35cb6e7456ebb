//! `/ace/r/…` → `/content/…`: the media itself, and the playlist that is not served. What is special about a recording is
//! next door.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{path_infohash, recording, start};
use crate::body::Body;
use crate::core::Core;
use crate::fault::{Fault, Faults, Framing, Redirect, WrongContent};
use crate::feed::{Feed, Step};
use crate::ledger::CloseReason;
use crate::options::{Dialect, Timing};
use crate::session::{Reader, Session};
use crate::wire::{Connection, Ending, Reply, Request, finish_head, head_lines};

/// Media is written this often.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// `/ace/r/<infohash>/<token>`: to the media URL.
pub(super) async fn playback(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    infohash: &str,
    token: &str,
) -> Ending {
    let session = path_infohash(infohash).and_then(|infohash| core.of_player(infohash, token));
    let Some(session) = session else {
        return connection.send(request, Reply::text(500, "failed to start")).await;
    };
    if session.token != token {
        return connection.send(request, Reply::text(403, "forbidden")).await;
    }
    let faults = core.session_faults(&session);
    if let Some(ending) = fail_to_start(core, connection, request, &session, &faults).await {
        return ending;
    }
    let path = format!("/content/{infohash}/{}", session.media_key);
    let location = location(request, &faults, &path);
    connection.send(request, Reply::redirect(location.as_deref(), core.options.timing.redirect_linger)).await
}

/// What keeps the playback from starting; `None` when nothing does.
pub(super) async fn fail_to_start(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    session: &Session,
    faults: &Faults,
) -> Option<Ending> {
    for fault in faults.iter() {
        let reply = match fault {
            Fault::HangRedirect => return Some(connection.hang().await),
            Fault::PlaybackStatus { status } => super::refused_page(*status),
            Fault::StartTimeout => {
                sleep(core.options.timing.start_timeout).await;
                Reply::text(500, "start timeout")
            }
            Fault::FailedToStart => {
                core.stop(session.infohash, &session.token, CloseReason::Failed);
                Reply::text(200, "failed to start")
            }
            _ => continue,
        };
        return Some(connection.send(request, reply).await);
    }
    None
}

/// Where the playback URL leads: rightly `path` on this engine.
fn location(request: &Request, faults: &Faults, path: &str) -> Option<String> {
    let base = format!("http://{}", start::authority(request, faults));
    let wrong = faults.find(|fault| if let Fault::Redirect { to } = fault { Some(to) } else { None });
    match wrong {
        None => Some(base + path),
        Some(Redirect::Loop) => Some(format!("{base}/{}", request.path.join("/"))),
        Some(Redirect::Relative) => Some(path.to_owned()),
        Some(Redirect::Elsewhere(url)) => Some(url.clone()),
        Some(Redirect::Huge(bytes)) => Some(format!("{base}{path}?{}", "x".repeat(*bytes))),
        Some(Redirect::Nowhere) => None,
    }
}

/// `/content/<infohash>/<key>`.
pub(super) async fn content(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    infohash: &str,
    key: &str,
) -> Ending {
    let session = path_infohash(infohash).and_then(|infohash| core.of_media(infohash, key));
    match session.filter(|session| !core.session_faults(session).has(&Fault::MediaNotFound)) {
        Some(session) => stream(core, connection, request, &session).await,
        None => connection.send(request, Reply::text(404, "download not found")).await,
    }
}

/// `/ace/m/…`: playlists are announced and not served.
pub(super) async fn playlist(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    infohash: &str,
    file: &str,
) -> Ending {
    let token = file.strip_suffix(".m3u8").unwrap_or(file);
    let session = path_infohash(infohash).and_then(|infohash| core.of_player(infohash, token));
    let reply = match session {
        Some(session) if session.token == token => Reply::text(500, "start timeout"),
        Some(_) => Reply::text(403, "forbidden"),
        None => Reply::text(500, "failed to get manifest"),
    };
    connection.send(request, reply).await
}

/// How long after its start a session has media; `None` when it never will.
pub(super) fn prebuffer(faults: &Faults, timing: &Timing) -> Option<Duration> {
    if faults.iter().any(|fault| matches!(fault, Fault::PrebufSilent | Fault::NoPeers | Fault::PeersNoData)) {
        return None;
    }
    let slow = faults.find(|fault| match fault {
        Fault::SlowStart { headers_ms, .. } => Some(Duration::from_millis(*headers_ms)),
        _ => None,
    });
    Some(timing.prebuffer + slow.unwrap_or_default())
}

/// Serves a session's media to the only reader it admits.
pub(super) async fn stream(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    session: &std::sync::Arc<Session>,
) -> Ending {
    let faults = core.session_faults(session);
    let alone = core.options.dialect == Dialect::AceStream && !faults.has(&Fault::ManyReaders);
    let Some(reader) = admit(session, alone).await else {
        core.ledger.count(|counts| counts.second_readers += 1);
        return corrupt_reply(connection).await;
    };
    core.ledger.reader_admitted(session.ledger_id);
    tokio::select! {
        biased;
        // A stop or a newer session cuts the reader off.
        () = session.cut.cancelled() => Ending::Close,
        ending = serve(core, connection, request, &reader) => ending,
    }
}

/// Admits a reader. Of a recording several come one after the other, so the one before is given time to be gone.
async fn admit(session: &std::sync::Arc<Session>, alone: bool) -> Option<Reader> {
    let patience = if session.channel.length().is_some() { recording::HANDOVER } else { Duration::ZERO };
    let asked = Instant::now();
    loop {
        let reader = session.admit(alone);
        if reader.is_some() || asked.elapsed() >= patience {
            return reader;
        }
        sleep(Duration::from_millis(2)).await;
    }
}

/// What the second reader of a media URL gets: two status lines.
async fn corrupt_reply(connection: &mut Connection) -> Ending {
    let mut lines = head_lines("HTTP/1.1", 200, connection.manners());
    lines.insert(0, "HTTP/1.1 200 OK".to_owned());
    // Whether the client is still there makes no difference.
    let _ = connection.write(&finish_head(&lines)).await;
    Ending::Close
}

async fn serve(core: &Core, connection: &mut Connection, request: &Request, reader: &Reader) -> Ending {
    if !prebuffered(core, connection, &reader.session).await {
        return Ending::Close;
    }
    if let Some(length) = reader.session.channel.length() {
        return recording::serve(core, connection, request, reader, length).await;
    }
    let faults = core.session_faults(&reader.session);
    let mut body = Body::new(
        framing(core.options.framing, &faults),
        faults.has(&Fault::Gzip),
        faults.has(&Fault::Dribble),
    );
    let head = body.head(connection.manners(), faults.find(wrong_content) == Some(WrongContent::Html));
    if connection.write(&head).await.is_err() || request.is_head() || faults.has(&Fault::Empty200) {
        return Ending::Close;
    }
    if !first_byte(connection, &faults).await {
        return Ending::Close;
    }
    if let Some(kind) = faults.find(wrong_content) {
        return wrong_body(connection, &mut body, kind).await;
    }
    // The client's leaving shows as an error of the write.
    feed(core, connection, &reader.session, &mut body).await.unwrap_or(Ending::Close)
}

/// Waits silently until there is media; `false` when the reader left before.
async fn prebuffered(core: &Core, connection: &mut Connection, session: &Session) -> bool {
    loop {
        let faults = core.session_faults(session);
        let ready =
            prebuffer(&faults, &core.options.timing).is_some_and(|needed| session.opened.elapsed() >= needed);
        if ready {
            return true;
        }
        let pause = prebuffer(&faults, &core.options.timing)
            .map_or(PACE, |needed| needed.saturating_sub(session.opened.elapsed()).min(PACE));
        if !connection.wait(pause).await {
            return false;
        }
    }
}

pub(super) fn framing(usual: Framing, faults: &Faults) -> Framing {
    let set = faults.find(|fault| if let Fault::Framing { framing } = fault { Some(*framing) } else { None });
    set.unwrap_or(usual)
}

/// Waits as long as the first byte after the head takes; `false` when it never comes or the reader left.
pub(super) async fn first_byte(connection: &mut Connection, faults: &Faults) -> bool {
    if faults.has(&Fault::HangFirstByte) {
        connection.closed().await;
    }
    !faults.has(&Fault::HangFirstByte) && connection.wait(first_byte_delay(faults)).await
}

fn first_byte_delay(faults: &Faults) -> Duration {
    let delay = faults.find(|fault| match fault {
        Fault::SlowStart { first_byte_ms, .. } => Some(Duration::from_millis(*first_byte_ms)),
        _ => None,
    });
    delay.unwrap_or_default()
}

pub(super) fn wrong_content(fault: &Fault) -> Option<WrongContent> {
    if let Fault::WrongContent { kind } = fault { Some(*kind) } else { None }
}

/// Writes what is no media until the client has had enough, at most 16 MiB.
pub(super) async fn wrong_body(connection: &mut Connection, body: &mut Body, kind: WrongContent) -> Ending {
    for _ in 0..1024 {
        let junk: Vec<u8> = match kind {
            WrongContent::Html => b"<html><body><h1>It works!</h1></body></html>\n".repeat(364),
            // 0x47 would be taken for the start of a packet.
            WrongContent::Random => (0..16_384).map(|_| rand::random::<u8>() & 0xbf).collect(),
        };
        if body.write(connection, &junk).await.is_err() || !connection.wait(Duration::from_millis(1)).await {
            return Ending::Close;
        }
    }
    Ending::Close
}

/// Writes a broadcast at its pace until it ends or the reader leaves.
async fn feed(
    core: &Core,
    connection: &mut Connection,
    session: &Session,
    body: &mut Body,
) -> io::Result<Ending> {
    let mut feed = Feed::new(&session.channel, core.live_edge(), core.options.burst);
    pump(core, connection, session, body, |age, faults, out| {
        let step = feed.step(&session.channel, core.live_edge(), age, faults, out);
        session.stands_still(feed.still_since());
        step
    })
    .await
}

/// Writes what `step` makes of the reader's age and the faults of the moment, and books it. `KeepAlive` when the body is
/// complete.
pub(super) async fn pump(
    core: &Core,
    connection: &mut Connection,
    session: &Session,
    body: &mut Body,
    mut step: impl FnMut(Duration, &Faults, &mut Vec<u8>) -> Step,
) -> io::Result<Ending> {
    let began = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let faults = core.session_faults(session);
        bytes.clear();
        let step = step(began.elapsed(), &faults, &mut bytes);
        if !bytes.is_empty() {
            body.write(connection, &bytes).await?;
            session.served(bytes.len() as u64);
            core.ledger.read(session.ledger_id, bytes.len() as u64);
        }
        match step {
            Step::Write => tokio::task::yield_now().await,
            Step::Wait if connection.wait(PACE).await => {}
            Step::Wait => return Ok(Ending::Close),
            Step::Reset => return Ok(Ending::Reset),
            Step::Done => return Ok(Ending::KeepAlive),
            Step::End => {
                body.finish(connection).await?;
                return Ok(Ending::Close);
            }
        }
    }
}
