//! What engines do wrong: the rows E1–E30 of the reliability catalogue, and where each is tested.
//!
//! | row | test |
//! |---|---|
//! | E1 | `healing::when_an_engine_dies_another_one_of_the_swarm_goes_on_without_a_lost_or_repeated_packet`, `healing::an_engine_that_is_ahead_or_behind_continues_exactly`, `healing::an_engine_with_another_mux_goes_on_after_one_announced_jump` |
//! | E2 | `healing::a_broadcast_that_ends_early_is_opened_again_on_the_only_engine` |
//! | E3 | `starts::an_engine_that_never_answers_the_start_call_is_outrun_by_another_one` |
//! | E4 | `healing::a_start_that_is_silent_for_twelve_seconds_is_tried_beside_on_another_engine` |
//! | E5 | `healing::a_silent_engine_is_replaced_after_the_stall_and_nothing_is_lost`, `healing::the_only_engine_is_started_again_when_it_stays_silent` |
//! | E6 | `healing::a_swarm_that_starves_for_less_than_the_stall_again_and_again_changes_nothing` |
//! | E7 | `healing::an_engine_that_dies_again_and_again_is_not_chosen_again_and_again` |
//! | E12 | `failures::an_explicit_failure_is_tried_once_more_on_another_engine` |
//! | E22 | the telnet API is not used |
//! | E23, E24 | fleet tests (`trouble`, `plan`, `containers`) |
//! | E25 | `e25_another_program_on_an_engines_port_gets_no_stream` |
//! | E28 | `healing::when_all_engines_die_at_once_five_hundred_viewers_are_held_and_everything_comes_back` |
//! | E8 | `e8_a_cut_in_mid_packet_costs_no_alignment`, `e8_an_end_at_byte_100_of_a_packet_costs_no_alignment` |
//! | E9 | `e9_dribbled_bytes_are_put_together_again`, `failures::replies_that_only_look_odd_play` |
//! | E10 | `e10_a_burst_of_forty_megabytes_is_taken_at_the_pace_of_the_media` |
//! | E11 | `e11_no_viewer_gets_another_channels_packets` |
//! | E13 | `e13_an_engines_words_are_cleaned_and_cut`, `failures::explicit_failures_…` |
//! | E14 | `e14_json_that_is_none_is_a_bad_reply_and_the_next_engine_plays`, `failures::explicit_failures_…` |
//! | E15 | `e15_urls_that_lead_elsewhere_are_never_followed` |
//! | E16 | `e16_redirects_end_after_a_few_requests`, `failures::explicit_failures_…` |
//! | E17 | `e17_compressed_bodies_are_refused_unread` |
//! | E18 | `e18_lying_lengths_and_endless_heads_are_errors_of_bounded_size` |
//! | E19 | `e19_odd_http_is_an_error_and_trailers_are_none` |
//! | E20 | `e20_statistics_that_hang_are_not_on_the_way_of_the_media` |
//! | E21 | `e21_a_stop_that_hangs_delays_no_other_channel`, `failures::a_new_start_waits_for_the_stop_of_the_last_one` |
//! | E26 | `e26_broken_media_passes_through_and_breaks_nothing` |
//! | E27 | `e27_radio_and_uhd_start_and_flow_alike` |
//! | E29 | `e29_nonsense_in_statistics_is_shown_as_nothing` |
//! | E30 | `e30_media_after_a_stop_reaches_nobody` |

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{ChannelKind, Fault, SimEngine, SimOptions, Target, infohash_of, swarm};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::faultproxy::{FaultProxy, How, Toxics, Way};
use acemux_testkit::rawengine::{Act, MEDIA_HEAD, Media, RawEngine, start_fields, verify_media};
use acemux_testkit::{Oracle, StrictViewer, get};
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::{ID, home, id, stream};

/// Longest time without a byte: the promise of 250 ms, and what a busy test machine may add.
const GAP: Duration = Duration::from_millis(500);
/// Longest time for an error that needs no waiting.
const SOON: Duration = Duration::from_secs(4);
/// The most that an unusable answer may cost: both attempts, each a full head and what the sockets hold.
const MOST_WASTE: u64 = 16 * 1024 * 1024;

fn rate(bitrate: u64) -> SimOptions {
    SimOptions { default_channel: ChannelKind::Verify { bitrate }, ..SimOptions::fast() }
}

/// The program in front of one scripted engine.
async fn in_front_of(engine: &RawEngine) -> TestApp {
    let setup = Setup::with_engines([]).engine_at(engine.address());
    setup.set("STREAM_IDLE_TIMEOUT", "100ms").set("EMPTY_STREAM_TIMEOUT", "3s").start().await
}

/// Answers starts so, everything else as a healthy engine.
async fn with_start(act: impl Fn() -> Act + Send + Sync + 'static) -> RawEngine {
    RawEngine::start(move |target| target.starts_with("/ace/getstream").then(&act)).await
}

/// Answers the playback URL so, everything else as a healthy engine.
async fn with_playback(act: impl Fn() -> Act + Send + Sync + 'static) -> RawEngine {
    RawEngine::start(move |target| target.starts_with("/ace/r/").then(&act)).await
}

async fn assert_bad_gateway(app: &TestApp, what: &str) -> Value {
    let mut reply = within(SOON, what, get(app.address(), &stream(ID))).await;
    assert_eq!(reply.status, 502, "{what}");
    let problem = reply.json().await;
    let code = problem["code"].as_str().unwrap_or_default().to_owned();
    assert!(matches!(code.as_str(), "engine_error" | "engine_bad_reply"), "{what}: {problem}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn e8_a_cut_in_mid_packet_costs_no_alignment() {
    let options = SimOptions { burst: Duration::from_secs(2), ..rate(1_000_000) };
    let engine = SimEngine::start(options).await.expect("a port is free");
    let proxy = FaultProxy::start(engine.addr());
    let app = Setup::with_engines([]).engine_at(proxy.address().to_string()).start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    let mut before = 0;
    // Two odd places: wherever packets begin in the connection, one of them is in the middle of one.
    for (how, odd) in [(How::Close, 77), (How::Reset, 78)] {
        viewer.watch(Duration::from_millis(500)).await;
        let passed = proxy.passed(Way::ToClient);
        let opened = engine.ledger().counts().opened;
        proxy.set(Way::ToClient, Toxics::cut(passed - before + 50_000 + odd, how));
        until("it is opened again", || engine.ledger().counts().opened > opened).await;
        before = proxy.passed(Way::ToClient);
        proxy.clear();
        assert!(viewer.watch(Duration::from_secs(1)).await.is_none(), "its socket stays open");
    }
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn e8_an_end_at_byte_100_of_a_packet_costs_no_alignment() {
    let app = Setup::with_engines([SimOptions::fast(), SimOptions::fast()]).start().await;
    let mut viewers = join_all((0..3).map(|_| StrictViewer::open(app.address(), ID))).await;
    join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_millis(300)))).await;
    let playing = app.engines.iter().find(|engine| engine.sessions() == 1).expect("one plays");
    playing.set_fault(Target::All, Fault::MidPacketCut { after_bytes: 0 });
    let ends = join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_secs(2)))).await;
    assert!(ends.iter().all(Option::is_none), "{ends:?}");
    for viewer in &viewers {
        viewer.assert_perfect();
    }
    assert!(app.ledger.counts().opened >= 2, "it was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn e9_dribbled_bytes_are_put_together_again() {
    let options = SimOptions { burst: Duration::from_secs(2), ..rate(400_000) };
    let engine = SimEngine::start(options).await.expect("a port is free");
    let proxy = FaultProxy::start(engine.addr());
    proxy.set_both(Toxics { slice: true, ..Toxics::default() });
    let app = Setup::with_engines([]).engine_at(proxy.address().to_string()).start().await;
    let mut viewer = within(SOON, "a start", StrictViewer::open(app.address(), ID)).await;
    viewer.watch(Duration::from_secs(3)).await;
    viewer.assert_perfect();
    assert!(viewer.report().bytes > 150_000, "{}", viewer.report().bytes);
    assert!(viewer.longest_silence() < GAP, "{:?}", viewer.longest_silence());
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_a_burst_of_forty_megabytes_is_taken_at_the_pace_of_the_media() {
    let ring = 8 * 1024 * 1024;
    let options = SimOptions { burst: Duration::from_secs(16), ..rate(20_000_000) };
    let app = Setup::with_engines([options]).set("STREAM_BUFFER_SIZE", ring.to_string()).start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    for second in 1..=3 {
        viewer.watch(Duration::from_secs(1)).await;
        let session = &app.app.relay.sessions()[0];
        assert!(session.ring.bytes <= ring + 64 * 1024, "{:?}", session.ring);
        // 2.5 MB a second by the media's clock, and a head start of half the ring.
        let most = 2_500_000 * second * 2 + ring as u64;
        assert!(session.bytes_in < most, "{} bytes after {second} s", session.bytes_in);
        assert_eq!(app.watching()[0].skips, 0, "a viewer that reads is never behind the ring");
    }
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_no_viewer_gets_another_channels_packets() {
    let app =
        Setup::with_engines([rate(500_000), rate(500_000)]).set("MAX_STREAMS_PER_ENGINE", "10").start().await;
    let oracle = Oracle::of(&app).await;
    let channels: Vec<String> = (1..=12).map(id).collect();
    let twice = channels.iter().enumerate().chain(channels.iter().enumerate());
    let mut viewers =
        join_all(twice.map(|(n, id)| StrictViewer::open_from(home(n), app.address(), id))).await;
    oracle.during(join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_secs(2))))).await;
    viewers.iter().for_each(StrictViewer::assert_perfect);
    assert_eq!(app.ledger.counts().opened, 12);
    // And the check can fail: an engine that plays another channel is seen.
    let other = infohash_of(&id(99));
    let engine = with_playback(move || Act::Media(MEDIA_HEAD.into(), verify_media(&other, 500_000))).await;
    let app = in_front_of(&engine).await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(300)).await;
    assert!(viewer.report().foreign > 0 && viewer.report().media == 0, "{:?}", viewer.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn e13_an_engines_words_are_cleaned_and_cut() {
    let texts = [
        "failed to load content".to_owned(),
        "x".repeat(5_000),
        "\u{1b}[31m\0\u{7}\r\nSet-Cookie: a=b\r\n\r\nred".to_owned(),
        "\u{202e}abc\u{2028}def".to_owned(),
        "é".repeat(300),
    ];
    for text in texts {
        let error = json!({ "response": null, "error": text });
        let engine = with_start(move || Act::json(&error)).await;
        let app = in_front_of(&engine).await;
        let problem = assert_bad_gateway(&app, &text).await;
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.chars().count() <= 200, "{} characters", detail.chars().count());
        assert!(!detail.chars().any(char::is_control), "{detail:?}");
        assert!(!detail.contains(&engine.address()), "{detail:?}");
    }
    let script = json!({ "response": null, "error": "<script>alert(1)</script>" });
    let engine = with_start(move || Act::json(&script)).await;
    let app = in_front_of(&engine).await;
    let reply = within(SOON, "an error", get(app.address(), &stream(ID))).await;
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "no browser runs it");
}

/// JSON that no engine may answer, by name.
fn bad_json() -> Vec<(&'static str, Vec<u8>)> {
    let start = |fields: Value| json!({ "response": fields, "error": null }).to_string().into_bytes();
    let mut changed = start_fields(&infohash_of(ID));
    changed["playback_url"] = Value::Null;
    let without_url = start(changed.clone());
    changed["playback_url"] = json!(["a", { "b": 1 }]);
    let list_for_url = start(changed.clone());
    changed["playback_url"] = json!(7);
    let number_for_url = start(changed);
    let cut = start(start_fields(&infohash_of(ID)));
    vec![
        ("no playback URL", without_url),
        ("a list for a URL", list_for_url),
        ("a number for a URL", number_for_url),
        ("cut in the middle", cut[..cut.len() / 2].to_vec()),
        (
            "not UTF-8",
            [b"{\"response\": {\"playback_url\": \"\xff\xfe".as_slice(), &[0xc3; 40], b"\"}}"].concat(),
        ),
        ("UTF-16", "{\"response\": {}}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("an array", b"[1, 2, 3]".to_vec()),
        ("a number", b"42".to_vec()),
        ("10,000 levels", [vec![b'['; 10_000], vec![b']'; 10_000]].concat()),
        ("10 MB", format!("{{\"response\": {{\"a\": \"{}\"}}}}", "a".repeat(10_000_000)).into_bytes()),
        ("nothing", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn e14_json_that_is_none_is_a_bad_reply_and_the_next_engine_plays() {
    for (what, body) in bad_json() {
        let engine = with_start(move || Act::page("application/json", body.clone())).await;
        let app = in_front_of(&engine).await;
        let problem = assert_bad_gateway(&app, what).await;
        assert_eq!(problem["code"], "engine_bad_reply", "{what}");
        app.at_baseline().await;
        let setup = Setup::new().engine_at(engine.address());
        let app = setup.start().await;
        for n in 1..=2 {
            // One of the two starts goes to the bad engine first.
            let mut viewer = within(SOON, what, StrictViewer::open(app.address(), &id(n))).await;
            viewer.watch(Duration::from_millis(50)).await;
            viewer.assert_perfect();
        }
    }
    let good = json!({ "response": start_fields(&infohash_of(ID)), "error": null }).to_string();
    let odd = [
        ("a byte order mark", format!("\u{feff}{good}")),
        ("unknown keys", good.replacen('{', "{\"a\": [[[[]]]], \"b\": {\"c\": null},", 1)),
        ("blanks", format!("\r\n\t  {good}\n\n")),
    ];
    for (what, body) in odd {
        let engine = with_start(move || Act::page("text/plain", body.clone())).await;
        let app = in_front_of(&engine).await;
        let mut viewer = within(SOON, what, StrictViewer::open(app.address(), ID)).await;
        viewer.watch(Duration::from_millis(100)).await;
        viewer.assert_perfect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e15_urls_that_lead_elsewhere_are_never_followed() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = canary.local_addr().expect("it is bound").port();
    let authorities = [
        format!("http://127.0.0.1:{port}"),
        format!("https://localhost:{port}"),
        format!("HTTP://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://a:b@127.0.0.1:{port}"),
        format!("http://engine\\@127.0.0.1:{port}"),
        format!("//127.0.0.1:{port}"),
        format!("ftp://127.0.0.1:{port}"),
        "file://".to_owned(),
    ];
    let hash = infohash_of(ID);
    for field in ["playback_url", "stat_url", "command_url"] {
        for authority in &authorities {
            let mut fields = start_fields(&hash);
            let own = fields[field].as_str().unwrap_or_default().to_owned();
            fields[field] = own.replace("http://127.0.0.1:6878", authority).into();
            let reply = json!({ "response": fields, "error": null });
            let engine = with_start(move || Act::json(&reply)).await;
            visit(&engine, &format!("{field} at {authority}")).await;
        }
    }
    for authority in authorities {
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {authority}/ace/r/{hash}/x\r\nConnection: close\r\n\r\n"
        );
        let engine = with_playback(move || Act::Bytes(head.clone().into_bytes())).await;
        let app = in_front_of(&engine).await;
        assert_bad_gateway(&app, &authority).await;
    }
    let caught = timeout(Duration::from_millis(300), canary.accept()).await;
    assert!(caught.is_err(), "somebody came: {caught:?}");
}

/// Starts, watches a moment and leaves: everything that an engine's URLs are used for. It may also fail, in time.
async fn visit(engine: &RawEngine, what: &str) {
    let app = in_front_of(engine).await;
    let mut reply = within(SOON, what, get(app.address(), &stream(ID))).await;
    assert!(matches!(reply.status, 200 | 502), "{what}: {}", reply.status);
    if reply.status == 200 {
        assert!(reply.next().await.is_ok(), "{what}");
        until("it was asked for its state", || engine.count("/ace/stat/") > 0).await;
    }
    drop(reply);
    until("the stream is over", || app.app.relay.sessions().is_empty()).await;
    until("and stopped", || app.app.engines.all()[0].used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e16_redirects_end_after_a_few_requests() {
    let hash = infohash_of(ID);
    let to = |location: String| {
        move || Act::Bytes(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n").into_bytes())
    };
    let cases = [
        ("a loop", format!("/ace/r/{hash}/token")),
        ("a loop that grows", format!("/ace/r/{hash}/token?{}", "x".repeat(1_000))),
        ("another host", format!("http://192.0.2.1/ace/r/{hash}/token")),
        ("out of its paths", "/server/api?method=shutdown".to_owned()),
        ("out of its paths by dots", "/ace/../server/api".to_owned()),
        ("1 MB of address", format!("/ace/r/{}", "x".repeat(1_000_000))),
    ];
    for (what, location) in cases {
        let engine = with_playback(to(location)).await;
        let app = in_front_of(&engine).await;
        assert_bad_gateway(&app, what).await;
        // Four requests (three redirects) in each of at most two attempts.
        assert!((1..=8).contains(&engine.count("/ace/r/")), "{what}: {:?}", engine.asked());
        assert!(engine.count("shutdown") == 0 && engine.count("..") == 0, "{what}: {:?}", engine.asked());
        app.at_baseline().await;
        assert!(engine.count("method=stop") >= 1, "{what}: what was opened is stopped");
    }
}

/// The engine behind a relay that counts, and the program in front of it.
async fn counted(engine: &RawEngine) -> (FaultProxy, TestApp) {
    let proxy = FaultProxy::start(engine.address().parse().expect("an address"));
    let setup = Setup::with_engines([]).engine_at(proxy.address().to_string());
    let app = setup.set("EMPTY_STREAM_TIMEOUT", "3s").set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    (proxy, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn e17_compressed_bodies_are_refused_unread() {
    for coding in ["gzip", "deflate", "br", "x-unknown", "gzip, gzip"] {
        let head = |content: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {content}\r\nContent-Encoding: {coding}\r\n\r\n")
                .into_bytes()
        };
        // What 256 MB of a bomb look like on the wire: much of the same.
        let (json, media) = (head("application/json"), head("video/mp2t"));
        let start = with_start(move || Act::Flood(json.clone(), vec![0; 65_536])).await;
        let playback = with_playback(move || Act::Flood(media.clone(), vec![0; 65_536])).await;
        for engine in [start, playback] {
            let (proxy, app) = counted(&engine).await;
            let problem = assert_bad_gateway(&app, coding).await;
            assert_eq!(problem["code"], "engine_bad_reply", "{coding}");
            app.at_baseline().await;
            let passed = proxy.passed(Way::ToClient);
            assert!(passed < MOST_WASTE, "{coding}: {passed} bytes were taken");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_lying_lengths_and_endless_heads_are_errors_of_bounded_size() {
    let body = json!({ "response": start_fields(&infohash_of(ID)), "error": null }).to_string();
    let page = |headers: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}").into_bytes();
    let chunked = |chunks: &str| page("Transfer-Encoding: chunked\r\n", chunks);
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<Vec<_>>().concat();
    let answers = [
        ("a short length", page("Content-Length: 20\r\n", &body)),
        ("a long length", page("Content-Length: 100000\r\n", &body)),
        ("a negative length", page("Content-Length: -1\r\n", &body)),
        ("two lengths", page("Content-Length: 5\r\nContent-Length: 6\r\n", &body)),
        ("a length beyond all numbers", page("Content-Length: 99999999999999999999999\r\n", &body)),
        ("a chunk size that is none", chunked("zz\r\nab\r\n0\r\n\r\n")),
        ("a chunk size beyond all numbers", chunked("ffffffffffffffffff\r\nab\r\n0\r\n\r\n")),
        ("a chunk without an end", chunked("5\r\nabcdefgh\r\n0\r\n\r\n")),
        ("a header line of 100 KB", page(&format!("X: {}\r\n", "a".repeat(100_000)), &body)),
        ("5,000 headers", page(&many(5_000), &body)),
        ("65 headers", page(&many(65), &body)),
        ("a header without a name", page(": a\r\n", &body)),
        ("a control character", page("X: a\0b\r\n", &body)),
    ];
    for (what, bytes) in answers {
        assert_ends_early(&with_start(move || Act::Bytes(bytes.clone())).await, what).await;
    }
    let head = || b"HTTP/1.1 200 OK\r\n".to_vec();
    let endless = with_start(move || Act::Flood(head(), b"X-Header: and so on\r\n".repeat(1_000))).await;
    assert_ends_early(&endless, "headers without an end").await;
    let line = with_start(move || Act::Flood(b"HTTP/1.1 200 O".to_vec(), vec![b'K'; 65_536])).await;
    assert_ends_early(&line, "a status line without an end").await;
    let long = || b"HTTP/1.1 200 OK\r\n\r\n{\"response\": {\"a\": \"".to_vec();
    let body = with_start(move || Act::Flood(long(), vec![b'a'; 65_536])).await;
    assert_ends_early(&body, "a body without an end").await;
}

/// A start fails soon, has cost little, and leaves nothing.
async fn assert_ends_early(engine: &RawEngine, what: &str) {
    let (proxy, app) = counted(engine).await;
    assert_bad_gateway(&app, what).await;
    let passed = proxy.passed(Way::ToClient);
    assert!(passed < MOST_WASTE, "{what}: {passed} bytes were taken");
    app.at_baseline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e19_odd_http_is_an_error_and_trailers_are_none() {
    let body = json!({ "response": start_fields(&infohash_of(ID)), "error": null }).to_string();
    let nine = body.clone();
    let answers = [
        ("no status line, as in HTTP/0.9", nine.into_bytes()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("HTTP/2 in clear", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a status beyond three digits", b"HTTP/1.1 2000 OK\r\n\r\n".to_vec()),
        ("a change of protocol", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n".to_vec()),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ("206", b"HTTP/1.1 206 Partial Content\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
        ("304", b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()),
        ("nothing at all", Vec::new()),
    ];
    for (what, bytes) in answers {
        assert_ends_early(&with_start(move || Act::Bytes(bytes.clone())).await, what).await;
    }
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    let flood = with_start(move || Act::Flood(Vec::new(), interim.repeat(1_000))).await;
    assert_ends_early(&flood, "interim answers without an end").await;
    let early = with_playback(move || Act::Flood(Vec::new(), interim.repeat(1_000))).await;
    assert_ends_early(&early, "interim answers in front of media").await;
    // Trailers, and a few interim answers, are allowed.
    let chunks = format!("{:x}\r\n{body}\r\n0\r\nX-Trailer: a\r\n\r\n", body.len());
    let page = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let engine =
        with_start(move || Act::Bytes([interim.repeat(3), page.clone().into_bytes()].concat())).await;
    let app = in_front_of(&engine).await;
    let mut viewer = within(SOON, "trailers", StrictViewer::open(app.address(), ID)).await;
    viewer.watch(Duration::from_millis(100)).await;
    viewer.assert_perfect();
}

#[tokio::test(flavor = "multi_thread")]
async fn e20_statistics_that_hang_are_not_on_the_way_of_the_media() {
    let shapes =
        [Shape::Hang, Shape::Slow { ms: 5_000 }, Shape::Drip { ms: 50 }, Shape::Huge { bytes: 1_000_000 }];
    join_all(shapes.map(watch_without_statistics)).await;
}

async fn watch_without_statistics(shape: Shape) {
    let app = Setup::with_engines([rate(1_000_000)]).start().await;
    app.engine().set_fault(Target::All, Fault::Reply { page: Page::Stat, shape: shape.clone() });
    app.engine().set_fault(Target::All, Fault::HangStatus);
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    assert!(viewer.first_byte() < Duration::from_secs(1), "{shape:?}: {:?}", viewer.first_byte());
    let oracle = Oracle::of(&app).await;
    oracle.during(viewer.watch(Duration::from_secs(5))).await;
    viewer.assert_perfect();
    assert!(viewer.longest_silence() < GAP, "{shape:?}: {:?}", viewer.longest_silence());
    // Every 2 s when each is answered; none while the last one hangs.
    let polls = app.ledger.counts().stat_polls;
    let most = if shape == Shape::Hang { 2 } else { 4 };
    assert!((1..=most).contains(&polls), "{shape:?}: {polls} questions");
}

#[tokio::test(flavor = "multi_thread")]
async fn e21_a_stop_that_hangs_delays_no_other_channel() {
    let setup = Setup::with_engines([rate(500_000)]).set("MAX_STREAMS_PER_ENGINE", "30");
    let app = setup.set("STREAM_IDLE_TIMEOUT", "50ms").start().await;
    let usual = StrictViewer::open(app.address(), &id(50)).await.first_byte();
    app.engine().set_fault(Target::content(&id(1)), Fault::HangStop);
    drop(StrictViewer::open(app.address(), &id(1)).await);
    until("its stop hangs", || app.ledger.counts().stops > 0 && app.app.relay.sessions().len() <= 1).await;
    let hangs = Instant::now();
    for n in 2..=11 {
        let viewer = StrictViewer::open(app.address(), &id(n)).await;
        let late = viewer.first_byte().saturating_sub(usual);
        assert!(late < Duration::from_millis(200), "channel {n} was {late:?} later than usual");
    }
    assert!(hangs.elapsed() < Duration::from_millis(2_500), "the stop still hung: {:?}", hangs.elapsed());
    let failed = || app.app.engines.all()[0].engine.session_counts().stop_failed;
    assert_eq!(failed(), 0, "not yet given up");
    app.engine().clear_faults();
    until("the stop is given up", || failed() == 1).await;
    until("its slot is back", || app.app.engines.all()[0].used() == 0).await;
    let mut again = StrictViewer::open(app.address(), &id(1)).await;
    again.watch(Duration::from_millis(100)).await;
    again.assert_perfect();
}

/// Does something to every packet of the channel, from so long after its first reader came.
fn mangled(from: Duration, mangle: impl Fn(&mut [u8], usize) + Send + Sync + 'static) -> Media {
    let good = verify_media(&infohash_of(ID), 3_000_000);
    let began = OnceLock::new();
    Arc::new(move |time| {
        let late = time.end >= *began.get_or_init(|| time.end) + from;
        let mut media = good(time);
        if late {
            media.chunks_exact_mut(188).enumerate().for_each(|(index, packet)| mangle(packet, index));
        }
        media
    })
}

fn has_clock(packet: &[u8]) -> bool {
    packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0
}

fn pid(packet: &[u8]) -> u16 {
    u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2])
}

/// Media that is broken from its second second on, by name.
fn broken_media() -> Vec<(&'static str, Media)> {
    let from = Duration::from_secs(1);
    vec![
        (
            "clocks jump",
            mangled(from, |packet, index| {
                if has_clock(packet) {
                    packet[6] = packet[6].wrapping_add(if index % 2 == 0 { 0x80 } else { 0x11 });
                }
            }),
        ),
        (
            "clocks stand still",
            mangled(from, |packet, _| {
                if has_clock(packet) {
                    packet[6..12].fill(0);
                }
            }),
        ),
        (
            "presentation times start over",
            mangled(from, |packet, _| {
                if let Some(at) =
                    packet.windows(3).position(|bytes| bytes == [0, 0, 1]).filter(|at| at + 14 <= 188)
                {
                    packet[at + 9..at + 14].copy_from_slice(&[0x21, 0, 1, 0, 1]);
                }
            }),
        ),
        (
            "counters are garbage",
            mangled(from, |packet, index| {
                packet[3] = packet[3] & 0xf0 | u8::try_from(index * 7 % 16).unwrap_or_default();
            }),
        ),
        (
            "the video moves to another PID",
            mangled(from, |packet, _| {
                if pid(packet) == 0x100 {
                    packet[1] = packet[1] & 0xe0 | 0x02;
                }
            }),
        ),
        (
            "the map has another version and a wrong checksum",
            mangled(from, |packet, _| {
                if pid(packet) == 0x1000 {
                    packet[10] ^= 0x3e;
                }
            }),
        ),
        (
            "the map says nonsense",
            mangled(from, |packet, _| {
                if matches!(pid(packet), 0 | 0x1000) {
                    packet[4..].fill(0xff);
                }
            }),
        ),
        (
            "scrambled",
            mangled(from, |packet, _| {
                if matches!(pid(packet), 0x100 | 0x101) {
                    packet[3] |= 0xc0;
                }
            }),
        ),
        (
            "adaptation fields longer than packets",
            mangled(from, |packet, _| {
                if packet[3] & 0x20 != 0 {
                    packet[4] = 255;
                }
            }),
        ),
        ("nothing but stuffing", mangled(from, |packet, _| packet[1..3].copy_from_slice(&[0x1f, 0xff]))),
        ("errors are indicated", mangled(from, |packet, _| packet[1] |= 0x80)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn e25_another_program_on_an_engines_port_gets_no_stream() {
    let impostor = RawEngine::start(|_| Some(Act::page("text/html", "<html>It works!</html>"))).await;
    let app = Setup::with_engines([SimOptions::fast()]).engine_at(impostor.address()).start().await;
    until("it was asked what it is", || impostor.count("get_status") > 0).await;
    until("and both have answered in their ways", || {
        app.app.engines.all().iter().all(|member| member.knowledge().last_check.is_some())
    })
    .await;
    for n in 0..2 {
        assert_eq!(get(app.address(), &stream(&id(700 + n))).await.status, 200);
    }
    assert_eq!(impostor.count("/ace/getstream"), 0);
    let page = get(app.address(), "/engines").await.json().await.to_string();
    assert_eq!(page.matches("\"healthy\"").count(), 1, "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e26_broken_media_passes_through_and_breaks_nothing() {
    join_all(broken_media().into_iter().map(|(what, media)| watch_broken(what, media))).await;
}

/// The same media, and every packet of it that was sent.
fn recorded(media: Media) -> (Media, Arc<Mutex<HashSet<Vec<u8>>>>) {
    let sent: Arc<Mutex<HashSet<Vec<u8>>>> = Arc::default();
    let record = Arc::clone(&sent);
    let media: Media = Arc::new(move |time| {
        let bytes = media(time);
        record.lock().extend(bytes.chunks_exact(188).map(<[u8]>::to_vec));
        bytes
    });
    (media, sent)
}

async fn watch_broken(what: &str, media: Media) {
    let (media, sent) = recorded(media);
    let engine = with_playback(move || Act::Media(MEDIA_HEAD.into(), Arc::clone(&media))).await;
    let app = in_front_of(&engine).await;
    let oracle = Oracle::of(&app).await;
    let mut reply = within(SOON, what, get(app.address(), &stream(ID))).await;
    assert_eq!(reply.status, 200, "{what}");
    let mut bytes = Vec::new();
    let reading = async {
        while let Ok(more) = reply.next().await {
            bytes.extend(more);
        }
    };
    let ended = oracle.during(timeout(Duration::from_secs(4), reading)).await;
    assert!(ended.is_err(), "{what}: the stream ended");
    // The burst of four seconds is 1.5 MB and good, and of what follows a good part must have come too.
    assert!(bytes.len() > 2_000_000, "{what}: only {} bytes", bytes.len());
    let packets = bytes.chunks_exact(188);
    assert!(packets.clone().all(|packet| packet[0] == 0x47), "{what}: out of step");
    // Everything as it was sent, but for the tables in front, a possible announcement of a jump, and null packets where
    // no clock says that anything new came.
    let own = {
        let sent = sent.lock();
        let is_null = |packet: &[u8]| packet[1] & 0x1f == 0x1f && packet[2] == 0xff;
        packets.filter(|packet| !sent.contains(*packet) && !is_null(packet)).count()
    };
    assert!(own <= 8, "{what}: {own} packets are none of the engine's");
    assert!(app.app.relay.sessions()[0].ring.bytes <= 32 * 1024 * 1024, "{what}");
    drop(reply);
    app.at_baseline().await;
    assert_eq!(get(app.address(), "/proxy/status").await.status, 200, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e26_a_prefix_that_is_no_transport_stream_is_skipped_and_stuffing_is_no_start() {
    // Bytes that look like the start of packets now and then.
    let waste: Vec<u8> = (0..64 * 1024_usize).map(|n| if n % 97 == 0 { 0x47 } else { b'x' }).collect();
    let head = [MEDIA_HEAD.as_bytes(), &waste].concat();
    let hash = infohash_of(ID);
    let engine = with_playback(move || Act::Media(head.clone(), verify_media(&hash, 3_000_000))).await;
    let app = in_front_of(&engine).await;
    let reply = within(SOON, "a prefix", get(app.address(), &stream(ID))).await;
    assert_eq!(reply.status, 200);
    let asked = Instant::now();
    let mut viewer = StrictViewer::of_reply(reply, asked, ID).await;
    viewer.watch(Duration::from_millis(500)).await;
    viewer.assert_perfect();
    let stuffing = mangled(Duration::ZERO, |packet, _| packet[1..3].copy_from_slice(&[0x1f, 0xff]));
    let engine = with_playback(move || Act::Media(MEDIA_HEAD.into(), stuffing.clone())).await;
    let app = in_front_of(&engine).await;
    let reply = within(Duration::from_secs(6), "no start", get(app.address(), &stream(ID))).await;
    assert!(matches!(reply.status, 502 | 504), "{}", reply.status);
    drop(reply);
    app.at_baseline().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e27_radio_and_uhd_start_and_flow_alike() {
    for bitrate in [64_000, 80_000_000] {
        let channel = verify_media(&infohash_of(ID), bitrate);
        let engine = with_playback(move || Act::Media(MEDIA_HEAD.into(), channel.clone())).await;
        let app = in_front_of(&engine).await;
        let mut first = StrictViewer::open(app.address(), ID).await;
        assert!(first.first_byte() < Duration::from_secs(1), "{bitrate}: {:?}", first.first_byte());
        first.watch(Duration::from_secs(1)).await;
        let mut second = StrictViewer::open(app.address(), ID).await;
        assert!(second.first_byte() < Duration::from_millis(500), "{bitrate}: {:?}", second.first_byte());
        let time = Duration::from_secs(5);
        tokio::join!(first.watch(time), second.watch(time));
        for viewer in [&first, &second] {
            viewer.assert_perfect();
            assert_eq!(viewer.report().nulls, 0, "{bitrate}: a thin stream has no gaps");
            assert!(viewer.longest_silence() < GAP, "{bitrate}: {:?}", viewer.longest_silence());
            let (_, newest) = viewer.report().last.expect("media");
            let behind = swarm::now().saturating_sub(newest);
            assert!(behind < Duration::from_secs(12), "{bitrate}: {behind:?} behind");
        }
        assert_eq!(app.watching().iter().map(|viewer| viewer.skips).sum::<u64>(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e29_nonsense_in_statistics_is_shown_as_nothing() {
    let nonsense = [
        json!({ "status": "dl", "peers": -1, "speed_down": -5, "speed_up": -1, "downloaded": -1, "uploaded": -1,
                "livepos": { "pos": -1, "live_first": -9, "live_last": -3, "buffer_pieces": -1 } }),
        json!({ "status": "dl", "peers": 9_223_372_036_854_775_808_u64, "speed_down": 1e300, "speed_up": "NaN",
                "downloaded": "9223372036854775808", "uploaded": u64::MAX,
                "livepos": { "pos": "9223372036854775808", "live_last": 1e308, "is_live": 1e99 } }),
        json!({ "status": [1], "peers": {}, "speed_down": [], "speed_up": "fast", "downloaded": "", "uploaded": "x",
                "livepos": [1, 2, 3] }),
    ];
    for stat in nonsense {
        let reply = json!({ "response": stat, "error": null });
        let engine =
            RawEngine::start(move |target| target.starts_with("/ace/stat/").then(|| Act::json(&reply))).await;
        let app = in_front_of(&engine).await;
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        until("it has said something", || app.app.relay.sessions()[0].stats.is_some()).await;
        let session = get(app.address(), &format!("/proxy/sessions/{ID}")).await.json().await;
        for field in ["peers", "speed_down", "speed_up", "downloaded", "uploaded"] {
            assert!(session[field].is_null(), "{field}: {session}");
        }
        for page in ["/proxy/status", "/streams", "/engines", "/engines/stats/all", "/metrics"] {
            assert_eq!(get(app.address(), page).await.status, 200, "{page}");
        }
        viewer.watch(Duration::from_millis(300)).await;
        viewer.assert_perfect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e30_media_after_a_stop_reaches_nobody() {
    // A scripted engine answers stops with "ok" and goes on to send until its reader leaves.
    let engine = RawEngine::start(|_| None).await;
    let app = in_front_of(&engine).await;
    for round in 1..=5 {
        let channel = id(round);
        let mut viewer = StrictViewer::open(app.address(), &channel).await;
        viewer.watch(Duration::from_millis(200)).await;
        viewer.assert_perfect();
        let leaves = Instant::now();
        drop(viewer);
        // The next channel begins while the last one is being stopped and its bytes still come.
        sleep(Duration::from_millis(90)).await;
        let mut next = StrictViewer::open(app.address(), &id(100 + round)).await;
        next.watch(Duration::from_millis(300)).await;
        next.assert_perfect();
        drop(next);
        until("its readers have gone", || engine.readers() == 0).await;
        assert!(leaves.elapsed() < Duration::from_secs(5), "{:?}", leaves.elapsed());
        until("the sessions are over", || app.app.relay.sessions().is_empty()).await;
    }
    let before = app.app.relay.totals().read().0;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(app.app.relay.totals().read().0, before, "not one byte is read from a stopped session");
    app.at_baseline().await;
    let mut again = StrictViewer::open(app.address(), &id(1)).await;
    again.watch(Duration::from_millis(200)).await;
    again.assert_perfect();
}
