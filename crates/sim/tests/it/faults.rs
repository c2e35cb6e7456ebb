//! Every fault does what it says.

use std::time::Duration;

use acemux_sim::fault::{Page, Redirect, Shape, WrongContent};
use acemux_sim::swarm;
use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{
    CloseReason, ContentHash, Fault, Framing, HEVC_ID, SimEngine, Target, VERIFY_ID, infohash_of,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Answer, Client, End, engine, eventually, get, get_json, open_media, path, start};

const START: &str = "/ace/getstream?id=acec000000000000000000000000000000000c4c&format=json&pid=p";

async fn engine_with(fault: Fault) -> SimEngine {
    let engine = engine().await;
    engine.set_fault(Target::All, fault);
    engine
}

async fn engine_replying(page: Page, shape: Shape) -> SimEngine {
    engine_with(Fault::Reply { page, shape }).await
}

/// The head and the first megabyte of the media of an engine with `fault`.
async fn media_with(fault: Fault) -> (SimEngine, Client, Answer, Vec<u8>, End) {
    let engine = engine_with(fault).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, head) = open_media(&engine, &response["playback_url"]).await;
    let (body, end) = reader.more(1_000_000).await;
    (engine, reader, head, body, end)
}

fn verified(bytes: &[u8]) -> Report {
    let mut verifier = Verifier::new(ContentHash::parse(&infohash_of(VERIFY_ID)).unwrap());
    verifier.feed(bytes);
    verifier.report().clone()
}

/// What the playback URL of a started engine with `fault` answers.
async fn playback_with(fault: Fault) -> (SimEngine, Answer) {
    let engine = engine_with(fault).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let answer = get(engine.addr(), &path(&response["playback_url"])).await;
    (engine, answer)
}

// The engine as a whole.

#[tokio::test]
async fn refuse_closes_the_port_until_it_is_cleared() {
    let engine = engine_with(Fault::Refuse).await;
    eventually("refused", || std::net::TcpStream::connect(engine.addr()).is_err()).await;
    engine.clear_faults();
    eventually("open again", || std::net::TcpStream::connect(engine.addr()).is_ok()).await;
    assert_eq!(get_json(engine.addr(), START).await["error"], Value::Null);
}

#[tokio::test]
async fn connections_are_reset_or_left_hanging() {
    let engine = engine_with(Fault::ResetAtAccept).await;
    assert_eq!(get(engine.addr(), START).await.end, End::Reset);
    engine.clear_faults();
    engine.set_fault(Target::All, Fault::HangAll);
    let answer = get(engine.addr(), START).await;
    assert_eq!((answer.head.as_str(), answer.end, engine.ledger().counts().starts), ("", End::Silent, 0));
}

// Replies.

#[tokio::test]
async fn a_page_answers_in_the_wrong_shape() {
    let cases: [(Shape, u16, End, &str); 10] = [
        (Shape::Hang, 0, End::Silent, ""),
        (Shape::Close, 0, End::Closed, ""),
        (Shape::Reset, 0, End::Reset, ""),
        (Shape::Status { status: 503 }, 503, End::Complete, "Internal Server Error, couldn't find resource"),
        (Shape::Html, 200, End::Complete, "<!DOCTYPE html>"),
        (Shape::BadJson, 200, End::Complete, "{'response'"),
        (Shape::Empty, 200, End::Complete, ""),
        (Shape::EmptyResponse, 200, End::Complete, r#"{"error": null, "response": {}}"#),
        (Shape::Huge { bytes: 100_000 }, 200, End::Complete, r#"{"error": null, "response": "xxx"#),
        (Shape::Deep { levels: 1_000 }, 200, End::Complete, r#"{"response": [[[["#),
    ];
    for (shape, status, end, body) in cases {
        let engine = engine_replying(Page::Start, shape.clone()).await;
        let answer = get(engine.addr(), START).await;
        assert_eq!((answer.status(), answer.end), (status, end), "{shape:?}");
        assert!(answer.text().starts_with(body), "{shape:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_refusing_start_opens_nothing_and_a_garbled_one_does() {
    for (shape, opened) in [
        (Shape::Hang, 0),
        (Shape::Status { status: 500 }, 0),
        (Shape::Html, 0),
        (Shape::BadJson, 1),
        (Shape::Cut { bytes: 30 }, 1),
        (Shape::MissingFields, 1),
    ] {
        let engine = engine_replying(Page::Start, shape.clone()).await;
        get(engine.addr(), START).await;
        assert_eq!(engine.ledger().counts().opened, opened, "{shape:?}");
    }
}

#[tokio::test]
async fn a_reply_is_cut_dripped_delayed_or_changed_in_its_fields() {
    let engine = engine_replying(Page::Start, Shape::Cut { bytes: 30 }).await;
    let cut = get(engine.addr(), START).await;
    assert_eq!((cut.body.len(), cut.end), (30, End::Closed));
    assert!(cut.header("Content-Length").unwrap().parse::<usize>().unwrap() > 300);

    let engine = engine_replying(Page::Start, Shape::Drip { ms: 1 }).await;
    assert_eq!(get_json(engine.addr(), START).await["error"], Value::Null);

    let engine = engine_replying(Page::Start, Shape::StringNumbers).await;
    assert_eq!(get_json(engine.addr(), START).await["response"]["is_live"], "1");

    let engine = engine_replying(Page::Start, Shape::MissingFields).await;
    assert_eq!(get_json(engine.addr(), START).await["response"].as_object().unwrap().len(), 4);

    let engine = engine_replying(Page::Version, Shape::Slow { ms: 120 }).await;
    let began = Instant::now();
    get_json(engine.addr(), "/webui/api/service?method=get_version").await;
    assert!(began.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn status_and_stop_hang_alone() {
    let engine = engine_with(Fault::HangStatus).await;
    for target in ["/webui/api/service?method=get_version", "/server/api?api_version=3&method=get_status"] {
        assert_eq!(get(engine.addr(), target).await.end, End::Silent);
    }
    start(&engine, &format!("id={VERIFY_ID}")).await;

    let engine = engine_with(Fault::HangStop).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let stopped = get(engine.addr(), &(path(&response["command_url"]) + "?method=stop")).await;
    assert_eq!((stopped.end, engine.sessions()), (End::Silent, 0));

    let engine = engine_with(Fault::SlowStop { ms: 100 }).await;
    let (response, began) = (start(&engine, &format!("id={VERIFY_ID}")).await, Instant::now());
    let stopped = get_json(engine.addr(), &(path(&response["command_url"]) + "?method=stop")).await;
    assert!(stopped["response"] == "ok" && began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn look_ups_are_missing_or_say_nothing() {
    let target = format!("/server/api?api_version=3&method=get_media_files&content_id={VERIFY_ID}");
    let engine = engine_with(Fault::NoMediaFiles).await;
    assert_eq!(get_json(engine.addr(), &target).await["error"]["message"], "unknown method");
    let engine = engine_with(Fault::MediaFilesWithoutInfohash).await;
    let reply = get_json(engine.addr(), &target).await;
    assert!(reply["result"]["infohash"].is_null() && reply["result"]["type"] == "live");
    let engine = engine_with(Fault::FailedToLoad).await;
    assert_eq!(get_json(engine.addr(), &target).await["error"]["message"], "cannot get transport file");
}

// Starts.

#[tokio::test]
async fn starts_are_refused_in_the_engines_words() {
    let engine = engine_with(Fault::MissingOption).await;
    let reply = get_json(engine.addr(), START).await;
    assert_eq!(reply["extra_data"], json!({ "reason": "missing_option", "option": "proxyServer" }));
    let engine = engine_with(Fault::FailedToLoad).await;
    assert_eq!(get_json(engine.addr(), START).await["error"], "failed to load content");
    let engine = engine_with(Fault::RefuseMoreThan { n: 1 }).await;
    start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let refused = get_json(engine.addr(), &format!("/ace/getstream?id={HEVC_ID}&format=json&pid=b")).await;
    assert_eq!((refused["error"].as_str(), engine.sessions()), (Some("too many playback sessions"), 1));
}

#[tokio::test]
async fn a_late_refusal_takes_its_time_while_the_look_up_and_other_content_do_not() {
    let engine = engine().await;
    engine.set_fault(Target::content(VERIFY_ID), Fault::LateRefusal { ms: 200 });
    let target = format!("/server/api?api_version=3&method=get_media_files&content_id={VERIFY_ID}");
    assert_eq!(get_json(engine.addr(), &target).await["result"]["infohash"], infohash_of(VERIFY_ID));
    let began = Instant::now();
    let refused = async { (get_json(engine.addr(), START).await, began.elapsed()) };
    let other = async { (start(&engine, &format!("id={HEVC_ID}&pid=other")).await, began.elapsed()) };
    let ((refused, late), (_, early)) = tokio::join!(refused, other);
    assert_eq!(refused["error"], "failed to load content");
    assert!(late >= Duration::from_millis(200) && early < Duration::from_millis(200), "{late:?}, {early:?}");
    assert_eq!(engine.sessions(), 1);
}

#[tokio::test]
async fn urls_name_a_foreign_authority_and_streams_call_themselves_encrypted() {
    let engine = engine_with(Fault::UrlAuthority { authority: "10.1.2.3:6878".to_owned() }).await;
    engine.set_fault(Target::All, Fault::Encrypted);
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    for url in ["playback_url", "stat_url", "command_url"] {
        assert!(response[url].as_str().unwrap().starts_with("http://10.1.2.3:6878/ace/"));
    }
    assert_eq!(response["is_encrypted"], 1);
}

#[tokio::test]
async fn a_slow_start_is_slow_at_every_stage() {
    let engine = engine_with(Fault::SlowStart { json_ms: 100, headers_ms: 200, first_byte_ms: 100 }).await;
    let began = Instant::now();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    let opened = Instant::now();
    let (mut reader, head) = open_media(&engine, &response["playback_url"]).await;
    assert!(head.status() == 200 && opened.elapsed() >= Duration::from_millis(190), "{:?}", opened.elapsed());
    assert_eq!(reader.more(188).await.1, End::Enough);
    assert!(opened.elapsed() >= Duration::from_millis(290));
}

// The way to the media.

#[tokio::test]
async fn the_playback_url_fails() {
    let (_engine, hung) = playback_with(Fault::HangRedirect).await;
    assert_eq!((hung.head.as_str(), hung.end), ("", End::Silent));
    for status in [500, 503, 404] {
        assert_eq!(playback_with(Fault::PlaybackStatus { status }).await.1.status(), status);
    }
    let (_engine, late) = playback_with(Fault::StartTimeout).await;
    let expected = (500, "start timeout".to_owned(), Some("13"));
    assert_eq!((late.status(), late.text(), late.header("Content-Length")), expected);
    let (engine, failed) = playback_with(Fault::FailedToStart).await;
    assert_eq!((failed.text().as_str(), engine.sessions()), ("failed to start", 0));
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::Failed), 1);
}

#[tokio::test]
async fn the_media_of_a_start_is_not_there_and_of_the_next_one_it_is() {
    let engine = engine().await;
    engine.set_fault_for_starts(Target::content(VERIFY_ID), 1, Fault::MediaNotFound);
    let gone = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let (_reader, answer) = open_media(&engine, &gone["playback_url"]).await;
    assert_eq!(answer.status(), 404);
    let there = start(&engine, &format!("id={VERIFY_ID}&pid=b")).await;
    assert_eq!(open_media(&engine, &there["playback_url"]).await.1.status(), 200);
}

#[tokio::test]
async fn the_playback_url_redirects_wrongly() {
    let location = async |to: Redirect| {
        let (_engine, answer) = playback_with(Fault::Redirect { to }).await;
        assert_eq!(answer.status(), 302);
        answer.header("Location").map(str::to_owned)
    };
    assert!(location(Redirect::Loop).await.unwrap().contains("/ace/r/"));
    assert!(location(Redirect::Relative).await.unwrap().starts_with("/content/"));
    let elsewhere = "http://example.com/".to_owned();
    assert_eq!(location(Redirect::Elsewhere(elsewhere.clone())).await, Some(elsewhere));
    assert!(location(Redirect::Huge(1 << 20)).await.unwrap().len() > 1 << 20);
    assert_eq!(location(Redirect::Nowhere).await, None);
}

#[tokio::test]
async fn a_dead_channel_is_silent_and_says_so_in_stat() {
    for (fault, peers) in [(Fault::PrebufSilent, true), (Fault::NoPeers, false), (Fault::PeersNoData, true)] {
        let engine = engine_with(fault.clone()).await;
        let response = start(&engine, &format!("id={VERIFY_ID}")).await;
        let (_reader, head) = open_media(&engine, &response["playback_url"]).await;
        assert_eq!((head.head.as_str(), head.end), ("", End::Silent), "{fault}");
        let stat = get_json(engine.addr(), &path(&response["stat_url"])).await["response"].clone();
        assert_eq!((&stat["status"], &stat["downloaded"]), (&json!("prebuf"), &json!(0)), "{fault}");
        assert_eq!(stat["peers"].as_u64().unwrap() > 0, peers, "{fault}");
    }
}

#[tokio::test]
async fn a_dead_channel_notices_that_its_reader_left() {
    let engine = engine_with(Fault::NoPeers).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    drop(open_media(&engine, &response["playback_url"]).await);
    eventually("the session ends", || engine.sessions() == 0).await;
}

// The media.

#[tokio::test]
async fn headers_come_and_nothing_else() {
    let (_engine, _reader, head, body, end) = media_with(Fault::HangFirstByte).await;
    assert_eq!((head.status(), body.len(), end), (200, 0, End::Silent));
    let (_engine, _reader, head, body, end) = media_with(Fault::Empty200).await;
    assert_eq!((head.status(), body.len(), end), (200, 0, End::Closed));
}

#[tokio::test]
async fn a_200_carries_something_else() {
    let (_engine, _reader, head, body, _) =
        media_with(Fault::WrongContent { kind: WrongContent::Html }).await;
    assert_eq!((head.header("Content-Type"), &body[..6]), (Some("text/html"), b"<html>".as_slice()));
    let (_engine, _reader, head, body, _) =
        media_with(Fault::WrongContent { kind: WrongContent::Random }).await;
    assert_eq!(head.header("Content-Type"), Some("video/mp2t"));
    assert!(body.len() > 65_536 && !body.contains(&0x47));
}

#[tokio::test]
async fn a_stalled_stream_stays_open_and_stat_freezes() {
    let fault = Fault::BurstThenStall { after_bytes: 400_000 };
    let engine = engine_with(fault).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let (body, end) = reader.more(1_000_000).await;
    assert_eq!((body.len(), end), (400_000 / 188 * 188, End::Silent));
    let stat = get_json(engine.addr(), &path(&response["stat_url"])).await["response"].clone();
    assert_eq!(
        (&stat["status"], &stat["downloaded"], &stat["peers"]),
        (&json!("dl"), &json!(393_216), &json!(1))
    );
    assert!(stat["speed_down"].as_u64().unwrap() < 20);
}

#[tokio::test]
async fn a_stream_ends_is_reset_or_is_cut_inside_a_packet() {
    let whole = 400_000 / 188 * 188;
    let (_engine, _reader, _, body, end) = media_with(Fault::Eof { after_bytes: 400_000 }).await;
    assert_eq!((body.len(), end), (whole, End::Closed));
    let (_engine, _reader, _, body, end) = media_with(Fault::MidPacketCut { after_bytes: 400_000 }).await;
    assert_eq!((body.len(), end), (whole + 100, End::Closed));
    // A reset may overtake bytes that were sent before it.
    let (_engine, _reader, _, body, end) = media_with(Fault::Reset { after_bytes: 400_000 }).await;
    assert!(body.len() <= whole && end == End::Reset);
}

#[tokio::test]
async fn a_running_stream_ends_at_once_when_told_to() {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    reader.more(188).await;
    engine.set_fault(Target::content(VERIFY_ID), Fault::Eof { after_bytes: 0 });
    assert_eq!(reader.end().await, End::Closed);
}

#[tokio::test]
async fn a_trickle_is_slow_and_an_oscillation_pauses() {
    let engine = engine_with(Fault::Trickle { kbps: 800 }).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let began = Instant::now();
    assert_eq!(reader.more(100_000).await.1, End::Enough);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());

    let (_engine, _reader, _, body, end) = media_with(Fault::Oscillate { on_ms: 0, off_ms: 1_000 }).await;
    assert_eq!((body.len(), end), (0, End::Silent));
}

#[tokio::test]
async fn a_dribble_loses_nothing() {
    let (_engine, _reader, _, body, _) = media_with(Fault::Dribble).await;
    assert!(body.len() > 188 * 20 && verified(&body).is_clean());
}

#[tokio::test]
async fn a_loop_repeats_its_window_and_stat_stands_still() {
    let engine = engine_with(Fault::Loop { window_ms: 500 }).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let report = verified(&reader.more(1_000_000).await.0);
    assert!(report.backward_jumps >= 3 && report.repeated > 1_000, "{report:?}");
    let stat = path(&response["stat_url"]);
    let last = async || get_json(engine.addr(), &stat).await["response"]["livepos"]["live_last"].clone();
    let before = last().await;
    let seconds: u64 = before.as_str().unwrap().parse().unwrap();
    eventually("the clock goes on", || swarm::now().as_secs() > seconds + 1).await;
    assert_eq!(before, last().await);
}

/// `live_last` and the other positions of a session, seconds.
async fn positions(engine: &SimEngine, response: &Value) -> [u64; 4] {
    let stat = get_json(engine.addr(), &path(&response["stat_url"])).await["response"].clone();
    ["live_last", "last", "pos", "live_first"]
        .map(|name| stat["livepos"][name].as_str().unwrap_or_else(|| panic!("{stat}")).parse().unwrap())
}

async fn wait_until_swarm_second(second: u64) {
    eventually("the clock goes on", || swarm::now().as_secs() >= second).await;
}

#[tokio::test]
async fn a_clock_stands_still_while_bytes_flow_and_stat_stands_with_it() {
    let engine = engine_with(Fault::Stagnate { after_bytes: 400_000 }).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    // The burst of ten seconds, and some real time.
    let (body, end) = reader.more(10 * 375_000 + 200_000).await;
    assert_eq!(end, End::Enough);
    let report = verified(&body);
    let errors = [report.lost, report.corrupt, report.continuity_errors, report.discontinuities];
    assert!(errors == [0; 4] && report.repeated > report.media / 2, "{report:?}");
    let shown = report.last.unwrap().1.saturating_sub(report.first.unwrap().1);
    assert!(shown < Duration::from_millis(1_200), "the clock went on for {shown:?}");

    let before = positions(&engine, &response).await;
    wait_until_swarm_second(before[0] + 3).await;
    assert_eq!(positions(&engine, &response).await, before);
    engine.clear_faults();
    assert!(positions(&engine, &response).await[0] >= before[0] + 3);
}

#[tokio::test]
async fn stat_goes_on_until_the_clock_stands_still() {
    let engine = engine_with(Fault::Stagnate { after_bytes: 100_000_000 }).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    assert!(verified(&reader.more(500_000).await.0).is_clean());
    let before = positions(&engine, &response).await[0];
    wait_until_swarm_second(before + 2).await;
    assert!(positions(&engine, &response).await[0] >= before + 2);
}

#[tokio::test]
async fn a_flood_of_null_packets_takes_the_place_of_the_media() {
    let (_engine, _reader, _, body, end) = media_with(Fault::NullFlood { after_bytes: 400_000 }).await;
    let report = verified(&body);
    assert_eq!((end, report.packets - report.nulls), (End::Enough, 400_000 / 188));
    assert!(report.nulls > 3_000 && report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn stat_lies_about_the_live_edge_and_the_media_is_healthy() {
    let engine = engine_with(Fault::StaleLive { seconds: 5_000 }).await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let report = verified(&reader.more(1_000_000).await.0);
    assert!(report.is_clean());
    let [live_last, last, pos, live_first] = positions(&engine, &response).await;
    let behind = swarm::now().as_secs() - live_last;
    assert!((5_000..5_003).contains(&behind), "{behind} s behind");
    assert!(pos <= last && last <= live_last && live_last - live_first == 1_800);
    wait_until_swarm_second(live_last + 5_002).await;
    assert!(positions(&engine, &response).await[0] > live_last);
}

#[tokio::test]
async fn a_compressed_body_is_valid_gzip_of_the_media() {
    let engine = engine_with(Fault::Gzip).await;
    engine.set_fault(Target::All, Fault::Eof { after_bytes: 400_000 });
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, head) = open_media(&engine, &response["playback_url"]).await;
    assert_eq!(head.header("Content-Encoding"), Some("gzip"));
    let (packed, end) = reader.more(1_000_000).await;
    assert_eq!((end, &packed[..3]), (End::Closed, [0x1f, 0x8b, 8].as_slice()));
    let plain = unstore(&packed[10..]);
    assert_eq!(plain.len(), 400_000 / 188 * 188);
    assert!(verified(&plain).is_clean());
}

/// Unpacks stored deflate blocks.
fn unstore(mut packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while packed[0] == 0 {
        let length = usize::from(u16::from_le_bytes([packed[1], packed[2]]));
        plain.extend_from_slice(&packed[5..5 + length]);
        packed = &packed[5 + length..];
    }
    assert_eq!(packed.len(), 5 + 8, "an empty last block, checksum and length");
    plain
}

#[tokio::test]
async fn the_framing_is_a_fault_too() {
    let (_engine, _reader, head, _, _) = media_with(Fault::Framing { framing: Framing::Chunked }).await;
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
}

// Quirks switched off.

#[tokio::test]
async fn without_supersession_two_sessions_live_side_by_side() {
    let engine = engine_with(Fault::NoSupersede).await;
    let responses = [
        start(&engine, &format!("id={VERIFY_ID}&pid=a")).await,
        start(&engine, &format!("id={VERIFY_ID}&pid=b")).await,
    ];
    for response in &responses {
        let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
        assert_eq!(reader.more(188).await.1, End::Enough);
    }
    assert_eq!(engine.sessions(), 2);
}

#[tokio::test]
async fn many_readers_share_a_url_and_one_player_has_many_contents() {
    let engine = engine_with(Fault::ManyReaders).await;
    engine.set_fault(Target::All, Fault::IndependentPids);
    let response = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    start(&engine, &format!("id={HEVC_ID}&pid=a")).await;
    assert_eq!(engine.sessions(), 2);
    let (mut one, _) = open_media(&engine, &response["playback_url"]).await;
    let (mut two, _) = open_media(&engine, &response["playback_url"]).await;
    for reader in [&mut one, &mut two] {
        assert!(verified(&reader.more(100_000).await.0).is_clean());
    }
}
