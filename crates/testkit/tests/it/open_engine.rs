//! The open engine, as it was measured: it says back whatever infohash it is asked for, plays most swarms by content id
//! only, loads for ever what it was started by infohash, and collects 15 s of a stream by default before it sends any.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::{ChannelKind, Dialect, PieceSize, SimOptions, infohash_of};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::http::send;
use acemux_testkit::{StrictViewer, get};
use tokio::time::Instant;

use crate::visits::{MACHINE, engine};
use crate::{id, stream};

/// As shipped, but that it gives out media at once, with swarms that play by content id only.
fn open() -> SimOptions {
    SimOptions { dialect: Dialect::Outpace, piece_size: PieceSize::Kib64, ..engine() }
}

/// Asks for a channel in these words and watches it.
async fn watch(address: SocketAddr, query: &str, id: &str) -> (StrictViewer, Duration) {
    let asked = Instant::now();
    let path = format!("/ace/getstream?{query}");
    let reply = within(Duration::from_secs(45), "an answer", get(address, &path)).await;
    assert_eq!(reply.status, 200, "{path}");
    let took = asked.elapsed();
    (StrictViewer::of_reply(reply, asked, id).await, took)
}

/// How often the engines were asked to start anything.
fn starts(app: &TestApp) -> Vec<String> {
    app.ledger.snapshot().starts.into_iter().filter_map(|start| start.requested).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_plays_by_its_content_id_at_once_and_is_known_by_its_infohash() {
    let app = Setup::as_shipped([open()]).start().await;
    let (mut viewer, took) = watch(app.address(), &format!("id={}", id(1)), &id(1)).await;
    assert!(took < Duration::from_secs(1) + MACHINE, "{took:?}");
    assert!(viewer.watch(Duration::from_secs(1)).await.is_none(), "it plays on");
    viewer.assert_perfect();
    assert_eq!(app.app.relay.sessions()[0].key.as_str(), infohash_of(&id(1)), "one channel, one key");
    assert_eq!(starts(&app), [id(1)], "by the name that plays, once");
}

/// The value that people paste where an infohash belongs is a content id more often than not.
#[tokio::test(flavor = "multi_thread")]
async fn a_content_id_given_as_an_infohash_plays_and_is_known_from_then_on() {
    let app = Setup::as_shipped([open()]).start().await;
    let query = format!("infohash={}", id(2));
    let (viewer, took) = watch(app.address(), &query, &id(2)).await;
    assert!(took < Duration::from_secs(10), "the wrong name gets 8 s: {took:?}");
    drop(viewer);
    let record = get(app.address(), &format!("/api/v1/channels/identities/{}", id(2))).await.json().await;
    assert_eq!(record["infohash"], infohash_of(&id(2)), "{record}");
    let (_viewer, again) = watch(app.address(), &query, &id(2)).await;
    assert!(again < Duration::from_secs(1) + MACHINE, "{again:?}");
    // Whoever knows better has it forgotten.
    let page = format!("/api/v1/channels/identities/{}", id(2));
    let request =
        |method: &str| format!("{method} {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let deleted = send(app.address(), &request("DELETE")).await;
    let asked_again = send(app.address(), &request("GET")).await;
    assert_eq!((deleted.status, asked_again.status), (200, 404));
    assert_eq!(
        starts(&app).len(),
        2,
        "the second viewer came to the channel that still played: {:?}",
        starts(&app)
    );
}

/// It must not be loaded for as long as a viewer has patience, on every engine there is, and for ever after.
#[tokio::test(flavor = "multi_thread")]
async fn an_infohash_that_the_engine_cannot_play_by_is_given_up_soon_and_stopped() {
    let app = Setup::as_shipped([open()]).start().await;
    let asked = Instant::now();
    let path = format!("/ace/getstream?infohash={}", infohash_of(&id(3)));
    let reply = within(Duration::from_secs(45), "an answer", get(app.address(), &path)).await;
    println!("{} after {:?}", reply.status, asked.elapsed());
    assert_ne!(reply.status, 200);
    app.nothing_left().await;
    assert_eq!(app.engine().sessions(), 0);
    // Where the content id is known it plays all the same.
    let (viewer, _) = watch(app.address(), &format!("id={}", id(3)), &id(3)).await;
    drop(viewer);
    let (_viewer, took) = watch(app.address(), &format!("infohash={}", infohash_of(&id(3))), &id(3)).await;
    assert!(took < Duration::from_secs(1) + MACHINE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_started_by_content_id_heals_by_it() {
    let app = Setup::as_shipped([open(), open()]).start().await;
    let (mut viewer, _) = watch(app.address(), &format!("id={}", id(4)), &id(4)).await;
    viewer.watch(Duration::from_secs(2)).await;
    let port = app.app.relay.sessions()[0].source.as_ref().expect("it plays").port;
    let used = app.engines.iter().find(|engine| engine.addr().port() == port).expect("it is one of ours");
    used.crash().await;
    assert!(viewer.watch(Duration::from_secs(6)).await.is_none(), "its socket is kept");
    let report = viewer.report();
    assert_eq!((report.gaps_unflagged, report.foreign, report.corrupt), (0, 0, 0), "{report:#?}");
    assert!(viewer.longest_gap() < Duration::from_secs(4), "{:?}", viewer.longest_gap());
    assert_eq!(starts(&app), [id(4), id(4)]);
}

/// Four spellings of one channel, on engines of both kinds; the second time with what was learned the first time.
#[tokio::test(flavor = "multi_thread")]
async fn all_spellings_are_one_session_on_mixed_engines_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("acemux.db");
    for run in 0..2 {
        let setup = Setup::as_shipped([engine(), open()]).set("DB_PATH", database.display().to_string());
        let app = setup.start().await;
        let (hash, infohash) = (id(5), infohash_of(&id(5)));
        let link = |query: &str| format!("id=acestream:%3F{query}");
        let spellings = [
            format!("id={hash}"),
            format!("id={}", hash.to_uppercase()),
            format!("infohash={infohash}"),
            link(&format!("infohash={infohash}")),
        ];
        let mut viewers = Vec::new();
        for spelling in &spellings {
            viewers.push(watch(app.address(), spelling, &hash).await.0);
        }
        let sessions = app.app.relay.sessions();
        assert_eq!(sessions.len(), 1, "run {run}: {sessions:?}");
        assert_eq!(app.ledger.counts().opened, 1, "run {run}: {:?}", starts(&app));
        drop(viewers);
        app.stop().await;
    }
}

/// As it comes: it holds the first media back for 15 s.
#[tokio::test(flavor = "multi_thread")]
async fn engines_that_collect_a_quarter_of_a_minute_first_heal_a_kill_and_nobody_is_cut() {
    let slow = || {
        let default_channel = ChannelKind::Verify { bitrate: 4_000_000 };
        SimOptions { prebuffer: Duration::from_secs(30), default_channel, ..open() }
    };
    let app = Setup::as_shipped([slow(), slow(), slow()]).start().await;
    let (mut viewer, took) = watch(app.address(), &stream_query(7), &id(7)).await;
    assert!((14..20).contains(&took.as_secs()), "{took:?}");
    viewer.watch(Duration::from_secs(1)).await;
    let port = app.app.relay.sessions()[0].source.as_ref().expect("it plays").port;
    let used = app.engines.iter().find(|engine| engine.addr().port() == port).expect("it is one of ours");
    used.crash().await;
    // What is in the sockets is played first.
    let is_elsewhere = || {
        let sessions = app.app.relay.sessions();
        sessions.first().and_then(|session| session.source.as_ref()).is_some_and(|source| source.port != port)
    };
    let since = Instant::now();
    while !is_elsewhere() && since.elapsed() < Duration::from_secs(45) {
        assert!(viewer.watch(Duration::from_millis(500)).await.is_none(), "nobody is cut");
    }
    assert!(viewer.watch(Duration::from_secs(1)).await.is_none(), "nobody is cut");
    let report = viewer.report();
    assert_eq!((report.gaps_unflagged, report.foreign, report.corrupt), (0, 0, 0), "{report:#?}");
    let gap = viewer.longest_gap();
    println!("healed after {:?} with a gap of {gap:?}", since.elapsed());
    assert!(is_elsewhere() && gap < Duration::from_secs(20), "{gap:?}");
}

fn stream_query(n: usize) -> String {
    stream(&id(n)).split_once('?').expect("it has a query").1.to_owned()
}
