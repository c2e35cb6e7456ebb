//! HLS from the same session: playlists keep the rules, segments lose nothing, and a viewer without a connection is one
//! viewer all the same.

use std::time::Duration;

use acemux_sim::{Fault, SimOptions, Target};
use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::{HlsViewer, StrictViewer, get, send};
use futures_util::future::join_all;

use crate::{ID, id};

fn engine() -> SimOptions {
    SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }
}

async fn app() -> TestApp {
    Setup::with_engines([engine()]).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_and_packets_of_one_channel_are_one_engine_session_and_nothing_is_lost_in_either() {
    let app = app().await;
    let mut packets = StrictViewer::open(app.address(), ID).await;
    let (mut first, mut second) =
        tokio::join!(HlsViewer::open(app.address(), ID), HlsViewer::open(app.address(), ID));
    let time = Duration::from_secs(15);
    tokio::join!(packets.watch(time), first.watch(time), second.watch(time));
    packets.assert_perfect();
    for viewer in [&first, &second] {
        assert!(viewer.broken_rules().is_empty(), "{:?}", viewer.broken_rules());
        assert!(viewer.report().is_clean() && viewer.segments() >= 5, "{:#?}", viewer.report());
    }
    assert_ne!(first.path(""), second.path(""), "two players behind one address are two viewers");
    assert_eq!((app.ledger.counts().opened, app.app.relay.viewers()), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn across_a_failover_the_playlist_goes_on_and_nothing_is_lost() {
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(4)).await;
    let playing = app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays");
    playing.crash().await;
    viewer.watch(Duration::from_secs(10)).await;
    assert!(viewer.broken_rules().is_empty(), "{:?}", viewer.broken_rules());
    assert!(viewer.report().is_clean(), "{:#?}", viewer.report());
    assert!(viewer.longest_gap() < Duration::from_secs(8), "{:?}", viewer.longest_gap());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_long_gap_the_playlist_gets_what_there_is_and_the_rest_follows_without_a_seam() {
    let engine = || SimOptions { burst: Duration::from_secs(12), ..engine() };
    let app = Setup::with_engines([engine(), engine()]).start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(4)).await;
    let (playing, other) = match app.engines.as_slice() {
        [one, two] if one.sessions() > 0 => (one, two),
        [one, two] => (two, one),
        _ => unreachable!("two engines"),
    };
    other.set_fault(Target::All, Fault::SlowStart { json_ms: 0, headers_ms: 9000, first_byte_ms: 0 });
    playing.crash().await;
    viewer.watch(Duration::from_secs(17)).await;
    assert!(viewer.broken_rules().is_empty(), "{:?}", viewer.broken_rules());
    assert!(viewer.report().is_clean(), "{:#?}", viewer.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_the_playlist_announces_a_discontinuity_and_its_numbers_run_on() {
    let app = Setup::with_engines([engine()]).start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(3)).await;
    app.engine().crash().await;
    viewer.watch(Duration::from_secs(10)).await;
    app.engine().restart().await;
    viewer.watch(Duration::from_secs(8)).await;
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    let text = String::from_utf8(reply.body().await.0).expect("text");
    assert!(text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    // A playlist cannot grow while nothing comes.
    let broken: Vec<_> = viewer.broken_rules().iter().filter(|rule| !rule.contains("Stale")).collect();
    assert!(broken.is_empty(), "{broken:?}");
    let report = viewer.report();
    assert_eq!((report.foreign, report.corrupt), (0, 0), "{report:#?}");
    let unannounced = (report.gaps_unflagged, report.continuity_errors);
    assert_eq!(unannounced, (0, 0), "every hole has its EXT-X-DISCONTINUITY: {report:#?}");
    assert_eq!(report.gaps_flagged, 1, "{report:#?}");
}

/// V17.
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_asking_has_left() {
    let app = Setup::with_engines([engine()])
        .set("HLS_VIEWER_TIMEOUT", "2s")
        .set("STREAM_IDLE_TIMEOUT", "500ms")
        .start()
        .await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(4)).await;
    assert_eq!(app.app.relay.viewers(), 1);
    app.at_baseline().await;
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (403, Some("bad_token")));
    assert_eq!(app.forgotten(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_asks_for_its_playlist_all_the_time_is_told_to_wait() {
    let app = app().await;
    let viewer = HlsViewer::open(app.address(), ID).await;
    let path = viewer.path("index.m3u8");
    let replies = join_all((0..40).map(|_| get(app.address(), &path))).await;
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!((10..=20).contains(&refused.len()), "{} refused", refused.len());
    assert!(refused.iter().all(|reply| reply.header("retry-after").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_had_is_an_error_and_asking_for_its_head_touches_nothing() {
    let app = app().await;
    let head = format!("HEAD /ace/manifest.m3u8?id={ID} HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = send(app.address(), &head).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/vnd.apple.mpegurl")));
    assert_eq!(app.ledger.counts().starts, 0);
    for (path, status, code) in [
        ("/ace/manifest.m3u8".to_owned(), 400, "missing_id"),
        ("/ace/manifest.m3u8?id=xyz".to_owned(), 400, "invalid_id"),
        (format!("/ace/manifest.m3u8?id={}", id(0)), 502, "engine_error"),
    ] {
        let mut reply = get(app.address(), &path).await;
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (status, Some(code)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_is_thrown_out_has_no_token_any_more() {
    let app = app().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    let number = app.watching()[0].id.get();
    assert!(app.watching()[0].bytes > 0);
    assert!(app.app.relay.kick(number));
    until("it is gone", || app.app.relay.viewers() == 0).await;
    assert_eq!(get(app.address(), &viewer.path("index.m3u8")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn radio_and_channels_without_flags_can_be_fetched_piece_by_piece() {
    for channel in
        [acemux_sim::AUDIO_ID, acemux_sim::NO_FLAGS_ID, acemux_sim::OPEN_GOP_ID, acemux_sim::HEVC_ID]
    {
        let app = app().await;
        let mut reply = get(app.address(), &format!("/ace/manifest.m3u8?id={channel}")).await;
        let text = String::from_utf8(reply.body().await.0).expect("text");
        let playlist = text.lines().last().expect("a playlist").to_owned();
        let mut reply = get(app.address(), &format!("/ace/{playlist}")).await;
        let text = String::from_utf8(reply.body().await.0).expect("text");
        assert_eq!(reply.status, 200, "{channel}: {text}");
        let segment = text.lines().find(|line| !line.starts_with('#')).expect("a segment").to_owned();
        let folder = playlist.strip_suffix("index.m3u8").expect("its name");
        let mut reply = get(app.address(), &format!("/ace/{folder}{segment}")).await;
        let bytes = reply.body().await.0;
        assert!(reply.status == 200 && bytes.len() > 10_000 && bytes.len() % 188 == 0, "{channel}");
        assert!(bytes[0] == 0x47 && bytes[1] % 0x20 == 0 && bytes[2] == 0, "it begins with the PAT");
    }
}
