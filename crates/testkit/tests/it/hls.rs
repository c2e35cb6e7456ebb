//! HLS from the same session: playlists keep the rules, segments lose nothing, and a viewer without a connection is one
//! viewer all the same.

use std::time::Duration;

use acemux_relay::session::EndReason;
use acemux_sim::{ChannelKind, Fault, SimOptions, Target};
use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::{HlsViewer, StrictViewer, get, send};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

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

/// The number of the range that the oldest and the newest listed segment are in (RFC 8216 §4.3.3.3).
async fn ranges(app: &TestApp, viewer: &HlsViewer) -> (u64, u64) {
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    let text = String::from_utf8(reply.body().await.0).expect("text");
    let before = text.lines().find_map(|line| line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:"));
    let before: u64 = before.expect("it says so").parse().expect("a number");
    let announced = |text: &str| text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count() as u64;
    let (head, _) = text.split_once("#EXTINF").expect("it lists some");
    (before + announced(head), before + announced(&text))
}

/// hls.js waits for ever when a playlist has no segment of the range that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_follows_one_of_several_ranges_begins_with_the_number_of_the_last() {
    let app = Setup::with_engines([engine()]).start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(3)).await;
    assert_eq!(ranges(&app, &viewer).await.1, 1);
    app.engine().crash().await;
    viewer.watch(Duration::from_secs(9)).await;
    app.engine().restart().await;
    viewer.watch(Duration::from_secs(8)).await;
    let (_, known) = ranges(&app, &viewer).await;
    assert_eq!(known, 2, "there was a gap");
    for _ in 0..2 {
        let key = app.app.relay.sessions()[0].key.clone();
        app.app.relay.end(&key, EndReason::Stalled);
        until("it has ended", || app.app.relay.streams() == 0).await;
        viewer.pause(Duration::ZERO).await;
        viewer.look().await;
        assert_eq!(ranges(&app, &viewer).await.0, known);
    }
    let other = HlsViewer::open(app.address(), &id(1)).await;
    assert_eq!(ranges(&app, &other).await, (1, 1), "another channel's");
}

/// V17.
#[tokio::test(flavor = "multi_thread")]
async fn who_stops_asking_has_left_and_takes_a_seat_again_by_the_same_address() {
    let app = Setup::with_engines([engine()])
        .set("HLS_VIEWER_TIMEOUT", "2s")
        .set("STREAM_IDLE_TIMEOUT", "500ms")
        .start()
        .await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(4)).await;
    assert_eq!(app.app.relay.viewers(), 1);
    app.at_baseline().await;
    assert_eq!(app.forgotten(), 0);
    let before = viewer.newest();
    // What was listed is gone with its stream, and asking for it starts nothing.
    for number in [before, before + 1] {
        let mut reply = get(app.address(), &viewer.path(&format!("{number}.ts"))).await;
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (404, Some("segment_gone")));
    }
    assert_eq!(app.ledger.counts().opened, 1);
    viewer.pause(Duration::ZERO).await;
    viewer.watch(Duration::from_secs(3)).await;
    assert!(viewer.newest() > before, "numbers only rise");
    assert!(viewer.broken_rules().is_empty(), "{:?}", viewer.broken_rules());
    let report = viewer.report();
    assert_eq!((report.foreign, report.corrupt, report.gaps_unflagged), (0, 0, 0), "{report:#?}");
    assert_eq!((app.app.relay.viewers(), app.ledger.counts().opened), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_who_comes_back_while_others_watch_goes_on_in_the_same_stream() {
    for others_fetch_pieces in [false, true] {
        let app = Setup::with_engines([engine()]).set("HLS_VIEWER_TIMEOUT", "2s").start().await;
        let mut viewer = HlsViewer::open(app.address(), ID).await;
        viewer.look().await;
        let time = Duration::from_secs(5);
        let away = async {
            if others_fetch_pieces {
                HlsViewer::open(app.address(), ID).await.watch(time).await;
            } else {
                StrictViewer::open(app.address(), ID).await.watch(time).await;
            }
        };
        tokio::join!(viewer.pause(time), away);
        // The segment that comes next is asked for before the playlist, as players do that were stopped.
        let next = get(app.address(), &viewer.path(&format!("{}.ts", viewer.newest() + 1))).await;
        assert_eq!(next.status, if others_fetch_pieces { 200 } else { 404 });
        viewer.watch(Duration::from_secs(3)).await;
        assert!(viewer.broken_rules().is_empty(), "{:?}", viewer.broken_rules());
        assert_eq!(viewer.report().gaps_unflagged, 0, "{:#?}", viewer.report());
        assert_eq!(app.ledger.counts().opened, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_a_restart_and_is_no_other_servers() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let database = folder.path().join("acemux.db").display().to_string();
        Setup::with_engines([engine()]).set("DB_PATH", database).start()
    };
    let app = start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    // An engine's burst is listed at once; the time is ahead of it again after a few segments.
    viewer.watch(Duration::from_secs(16)).await;
    let before = viewer.newest();
    app.stop().await;
    let app = start().await;
    viewer.moves_to(app.address());
    viewer.pause(Duration::ZERO).await;
    viewer.look().await;
    assert!(viewer.newest() > before, "{} {before}", viewer.newest());
    assert_eq!(app.app.relay.viewers(), 1);
    let other = Setup::with_engines([engine()]).start().await;
    for name in ["index.m3u8".to_owned(), format!("{}.ts", viewer.newest())] {
        let mut reply = get(other.address(), &viewer.path(&name)).await;
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (403, Some("bad_token")));
    }
    assert_eq!(other.ledger.counts().starts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_to_a_full_house_is_told_to_wait_and_nobody_is_put_out() {
    let app =
        Setup::with_engines([engine()]).set("HLS_VIEWER_TIMEOUT", "1s").set("MAX_VIEWERS", "1").start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    until("it has given up its seat", || app.app.relay.viewers() == 0).await;
    let mut other = StrictViewer::open(app.address(), ID).await;
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (503, Some("server_full")));
    assert!(reply.header("retry-after").is_some());
    other.watch(Duration::from_millis(500)).await;
    other.assert_perfect();
    drop(other);
    until("the other has left", || app.app.relay.viewers() == 0).await;
    viewer.look().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_long_is_answered_in_time_and_goes_on() {
    let app = Setup::with_engines([engine()])
        .set("HLS_VIEWER_TIMEOUT", "1s")
        .set("STREAM_IDLE_TIMEOUT", "100ms")
        .set("EMPTY_STREAM_TIMEOUT", "30s")
        .start()
        .await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    app.at_baseline().await;
    app.engine()
        .set_fault(Target::All, Fault::SlowStart { json_ms: 0, headers_ms: 10_000, first_byte_ms: 0 });
    let asked = Instant::now();
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (503, Some("starting")));
    assert!(reply.header("retry-after").is_some());
    let took = asked.elapsed();
    assert!((7..10).contains(&took.as_secs()), "{took:?}");
    viewer.pause(Duration::ZERO).await;
    viewer.look().await;
    assert_eq!(app.ledger.counts().starts, 2, "the start that was begun is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_cannot_start_again_says_why() {
    let app = Setup::with_engines([engine()])
        .set("HLS_VIEWER_TIMEOUT", "1s")
        .set("STREAM_IDLE_TIMEOUT", "100ms")
        .start()
        .await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    app.at_baseline().await;
    app.engine().set_fault(Target::All, Fault::StartError { error: "failed to load content".into() });
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    assert_eq!((reply.status, reply.json().await["code"].as_str()), (502, Some("engine_error")));
    until("nobody waits for it", || app.app.relay.viewers() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_an_operator_ends_is_over_and_one_that_breaks_is_not() {
    let app = Setup::with_engines([engine(), engine()]).set("HOLD_TIMEOUT", "1s").start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    let stopped =
        send(app.address(), &format!("DELETE /streams/{ID} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!(stopped.status, 200);
    until("it has ended", || app.app.relay.streams() == 0).await;
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    let text = String::from_utf8(reply.body().await.0).expect("text");
    assert!(reply.status == 200 && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert_eq!(app.app.relay.streams(), 0);

    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    let before = viewer.newest();
    let key = app.app.relay.sessions()[0].key.clone();
    app.app.relay.end(&key, EndReason::Stalled);
    until("it has ended", || app.app.relay.streams() == 0).await;
    viewer.pause(Duration::ZERO).await;
    viewer.look().await;
    assert!(viewer.newest() > before && app.app.relay.streams() == 1, "it was started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_parts_are_as_the_whole() {
    let app = app().await;
    let head = async |path: &str, headers: &str| {
        send(app.address(), &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await
    };
    let manifest = format!("/ace/manifest.m3u8?id={ID}");
    for _ in 0..50 {
        let reply = head(&manifest, "").await;
        assert_eq!((reply.status, reply.header("content-length")), (200, None), "its length is not known");
    }
    assert_eq!((app.ledger.counts().starts, app.app.relay.viewers()), (0, 0), "nobody was seated");

    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    let reply = head(&viewer.path("index.m3u8"), "").await;
    let length: usize = reply.header("content-length").expect("a length").parse().expect("a number");
    assert!(reply.status == 200 && length > 100, "{length}");
    let path = viewer.path(&format!("{}.ts", viewer.newest()));
    let bytes = || app.watching()[0].bytes;
    let before = bytes();
    let reply = head(&path, "Range: bytes=0-9\r\n").await;
    assert_eq!((reply.status, reply.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(bytes(), before, "nothing was sent");
    let whole = get(app.address(), &path).await.body().await.0;
    assert_eq!(reply.header("content-length"), Some(whole.len().to_string().as_str()));
    assert_eq!(bytes(), before + whole.len() as u64);

    let total = whole.len();
    for (range, status, part) in [
        ("bytes=0-187", 206, Some((0, 188))),
        ("bytes=188-375", 206, Some((188, 376))),
        ("bytes=1000-", 206, Some((1000, total))),
        ("bytes=-188", 206, Some((total - 188, total))),
        ("bytes=-99999999999", 206, Some((0, total))),
        ("bytes=100-99999999999", 206, Some((100, total))),
        ("Bytes=0-187", 206, Some((0, 188))),
        ("bytes=0-0,5-6", 200, Some((0, total))),
        ("bytes=0-9\r\nIf-Range: \"x\"", 200, Some((0, total))),
        ("bytes=9-5", 200, Some((0, total))),
        ("bytes=x-y", 200, Some((0, total))),
        ("lines=0-1", 200, Some((0, total))),
        ("bytes=99999999999-", 416, None),
        ("bytes=-0", 416, None),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nRange: {range}\r\n\r\n");
        let mut reply = send(app.address(), &request).await;
        let said = reply.header("content-range").map(str::to_owned);
        let body = reply.body().await.0;
        assert_eq!(reply.status, status, "{range}");
        match (status, part) {
            (206, Some((from, to))) => {
                assert_eq!(said, Some(format!("bytes {from}-{}/{total}", to - 1)), "{range}");
                assert!(body == whole[from..to], "{range}");
            }
            (_, Some(_)) => assert!(said.is_none() && body == whole, "{range}"),
            (_, None) => assert_eq!((said, body.len()), (Some(format!("bytes */{total}")), 0), "{range}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_any_rate_three_target_durations_are_listed_and_the_manifest_says_how_fast_it_is() {
    let bitrate = 45_000_000;
    let engine = SimOptions { default_channel: ChannelKind::Verify { bitrate }, ..engine() };
    let app = Setup::with_engines([engine]).set("STREAM_MEMORY", "1GiB").start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    let said = |viewer: &HlsViewer| {
        let said = viewer.attributes().split(',').find_map(|one| one.strip_prefix("BANDWIDTH="));
        said.expect("it says so").parse::<u64>().expect("a number")
    };
    let first = said(&viewer);
    assert!(
        (bitrate * 6 / 5..bitrate * 3 / 2).contains(&first),
        "little is known of it, and it may get faster: {first}"
    );
    viewer.watch(Duration::from_secs(24)).await;
    let later = said(&HlsViewer::open(app.address(), ID).await);
    assert!((bitrate * 9 / 10..bitrate * 11 / 10).contains(&later), "{later}");
    let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
    let text = String::from_utf8(reply.body().await.0).expect("text");
    let listed: f64 = text
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.strip_suffix(',')?.parse::<f64>().ok())
        .sum();
    assert!(listed >= 18.0, "{listed} s of three times six: {text}");
    let report = viewer.report();
    assert_eq!((report.foreign, report.corrupt, report.gaps_unflagged), (0, 0, 0), "{report:#?}");
    let history = app.app.relay.sessions()[0].ring.media;
    assert!(history >= Duration::from_secs(18), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_is_stands_in_its_manifest() {
    for (channel, said) in [
        (acemux_sim::H264_ID, ",CODECS=\"avc1."),
        (acemux_sim::H264_ID, ",RESOLUTION=640x360,FRAME-RATE=25.000"),
        (acemux_sim::HEVC_ID, ",CODECS=\"hvc1."),
        (acemux_sim::AUDIO_ID, "BANDWIDTH="),
    ] {
        let app = app().await;
        let mut reply = get(app.address(), &format!("/ace/manifest.m3u8?id={channel}")).await;
        let text = String::from_utf8(reply.body().await.0).expect("text");
        assert!(text.contains(said), "{channel}: {text}");
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_thousand_tokens_leave_nothing_behind() {
    let app = Setup::with_engines([engine()])
        .set("HLS_VIEWER_TIMEOUT", "1s")
        .set("MAX_VIEWERS", "20000")
        .set("MAX_VIEWERS_PER_IP", "20000")
        .start()
        .await;
    let _playing = StrictViewer::open(app.address(), ID).await;
    let path = format!("/ace/manifest.m3u8?id={ID}");
    let make = async |count: usize| {
        for _ in 0..count / 50 {
            let replies = join_all((0..50).map(|_| get(app.address(), &path))).await;
            assert!(replies.iter().all(|reply| reply.status == 200));
        }
        until("all have given up their seats", || app.app.relay.viewers() == 1).await;
    };
    make(3000).await;
    let before = resident();
    make(12_000).await;
    let grown = resident().saturating_sub(before);
    println!("12,000 tokens: {grown} bytes more");
    assert!(grown < 16 << 20, "{grown} bytes");
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
async fn a_viewer_that_is_thrown_out_is_refused_for_a_while() {
    let app = app().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    let number = app.watching()[0].id.get();
    assert!(app.watching()[0].bytes > 0);
    assert!(app.app.relay.kick(number));
    until("it is gone", || app.app.relay.viewers() == 0).await;
    let thrown_out = Instant::now();
    // Players ask again at once, and again.
    loop {
        let mut reply = get(app.address(), &viewer.path("index.m3u8")).await;
        if reply.status == 200 {
            break;
        }
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (403, Some("thrown_out")));
        sleep(Duration::from_millis(200)).await;
    }
    let took = thrown_out.elapsed();
    assert!(took >= Duration::from_millis(4800) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(app.app.relay.viewers(), 1);
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
