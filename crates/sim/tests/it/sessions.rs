//! How sessions come about, show themselves and destroy each other.

use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{
    CloseReason, Fault, HEVC_ID, SimEngine, SimOptions, Target, Timing, VERIFY_ID, infohash_of,
};
use serde_json::{Value, json};

use crate::client::{Client, End, engine, eventually, get_json, open_media, path, start};

const UNKNOWN: &str = "unknown playback session id";

async fn stat(engine: &SimEngine, response: &Value) -> Value {
    get_json(engine.addr(), &path(&response["stat_url"])).await
}

async fn stop(engine: &SimEngine, response: &Value) -> Value {
    get_json(engine.addr(), &(path(&response["command_url"]) + "?method=stop")).await
}

#[tokio::test]
async fn stat_goes_from_nothing_over_idle_and_prebuf_to_dl() {
    let timing = Timing {
        stat_empty: Duration::from_millis(500),
        stat_idle: Duration::from_millis(100),
        prebuffer: Duration::from_millis(200),
        ..Timing::fast()
    };
    let engine = SimEngine::start(SimOptions { timing, ..SimOptions::fast() }).await.unwrap();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    assert_eq!(stat(&engine, &response).await, json!({ "response": {}, "error": null }));
    let mut seen: Vec<Value> = Vec::new();
    while seen.last().is_none_or(|last| last["status"] != "dl") {
        let next = stat(&engine, &response).await["response"].clone();
        if seen.last().is_none_or(|last| last["status"] != next["status"]) {
            seen.push(next);
        }
    }
    let statuses: Vec<&Value> = seen.iter().map(|stat| &stat["status"]).collect();
    assert_eq!(statuses, ["idle", "prebuf", "dl"]);
    assert_eq!(seen[0], json!({ "status": "idle", "is_live": 1, "infohash": infohash_of(VERIFY_ID) }));
    assert_eq!(seen[1]["downloaded"], 0);
    assert!(seen[2]["downloaded"].as_u64().is_some_and(|bytes| bytes > 0 && bytes % 16_384 == 0));
    assert!(seen[2]["speed_down"].as_u64().unwrap().abs_diff(366) <= 1, "kilobytes a second: {}", seen[2]);
    let seconds = |name: &str| seen[2]["livepos"][name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(seconds("live_last") - seconds("live_first"), 1_800);
    assert!(seconds("pos") <= seconds("last"));
}

#[tokio::test]
async fn a_stop_is_answered_and_forgets_the_session() {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let (mut reader, head) = open_media(&engine, &response["playback_url"]).await;
    assert_eq!((head.status(), reader.more(188).await.1), (200, End::Enough));
    eventually("the bytes are booked", || engine.ledger().counts().bytes_read > 0).await;
    assert_eq!(stop(&engine, &response).await, json!({ "response": "ok", "error": null }));
    assert_eq!(reader.end().await, End::Closed);
    let unknown = json!({ "response": null, "error": UNKNOWN });
    assert_eq!((stat(&engine, &response).await, stop(&engine, &response).await), (unknown.clone(), unknown));
    let snapshot = engine.ledger().snapshot();
    assert_eq!((snapshot.closed_by(CloseReason::StopCommand), snapshot.counts.stops), (1, 2));
    assert!(snapshot.sessions[0].bytes_read > 0);
}

#[tokio::test]
async fn a_second_session_of_the_same_infohash_supersedes_the_first() {
    let engine = engine().await;
    let first = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let (mut reader, _) = open_media(&engine, &first["playback_url"]).await;
    let second = start(&engine, &format!("infohash={}&pid=b", infohash_of(VERIFY_ID))).await;
    assert_eq!(reader.end().await, End::Closed);
    for response in [&first, &second] {
        let mut shown = Value::Null;
        while shown.is_null() {
            shown = stat(&engine, response).await["response"]["playback_session_id"].clone();
        }
        assert_eq!(shown, second["playback_session_id"]);
    }
    let (mut reader, _) = open_media(&engine, &second["playback_url"]).await;
    stop(&engine, &first).await;
    assert_eq!(reader.end().await, End::Closed);
    assert_eq!(stat(&engine, &second).await["error"], UNKNOWN);
    let snapshot = engine.ledger().snapshot();
    let ends = [CloseReason::Superseded, CloseReason::StopCommand].map(|why| snapshot.closed_by(why));
    assert_eq!((ends, snapshot.counts.peak), ([1, 1], 1));
}

#[tokio::test]
async fn a_player_that_starts_other_content_loses_the_first() {
    let engine = engine().await;
    let first = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let (mut reader, _) = open_media(&engine, &first["playback_url"]).await;
    start(&engine, &format!("id={HEVC_ID}&pid=b")).await;
    assert_eq!(engine.sessions(), 2);
    start(&engine, &format!("id={HEVC_ID}&pid=a")).await;
    assert_eq!(reader.end().await, End::Closed);
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::PlayerSwitched), 1);
    assert_eq!(engine.sessions(), 1, "the other player's session was superseded");
}

#[tokio::test]
async fn the_second_reader_of_a_url_gets_two_status_lines_and_the_first_reads_on() {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let (_, corrupt) = open_media(&engine, &response["playback_url"]).await;
    assert!(corrupt.head.starts_with("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\n"), "{}", corrupt.head);
    assert_eq!(reader.more(1_000_000).await.1, End::Enough);
    let ledger = engine.ledger().snapshot();
    assert_eq!((ledger.counts.second_readers, ledger.sessions[0].readers), (1, 1));
}

#[tokio::test]
async fn a_session_ends_by_itself_after_its_reader_left() {
    let timing = Timing { reader_gone: Duration::from_millis(50), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..SimOptions::fast() }).await.unwrap();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    drop(open_media(&engine, &response["playback_url"]).await);
    eventually("the session ends", || engine.sessions() == 0).await;
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::ReaderLeft), 1);
}

#[tokio::test]
async fn a_session_that_nobody_reads_ends_too() {
    let timing = Timing { unread: Duration::from_millis(50), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..SimOptions::fast() }).await.unwrap();
    start(&engine, &format!("id={VERIFY_ID}")).await;
    eventually("the session ends", || engine.ledger().snapshot().closed_by(CloseReason::NeverRead) == 1)
        .await;
}

#[tokio::test]
async fn a_crash_resets_everybody_and_a_restart_remembers_nothing() {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    engine.crash().await;
    assert_eq!(reader.end().await, End::Reset);
    let refused = Client::connect(engine.addr()).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));
    engine.restart().await;
    assert_eq!(stat(&engine, &response).await["error"], UNKNOWN);
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::Crash), 1);
    start(&engine, &format!("id={VERIFY_ID}")).await;
}

#[tokio::test]
async fn a_shut_down_engine_leaves_no_port_no_reader_and_no_session() {
    let engine = engine().await;
    let (addr, control, ledger) = (engine.addr(), engine.control_addr(), engine.ledger());
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    engine.shutdown().await;
    assert_eq!(reader.end().await, End::Closed);
    assert!(Client::connect(addr).await.is_err() && Client::connect(control).await.is_err());
    let counts = ledger.counts();
    assert_eq!((counts.opened, counts.closed, counts.open), (1, 1, 0));
}

#[tokio::test]
async fn two_engines_write_one_ledger_and_name_themselves() {
    let ledger = acemux_sim::Ledger::new();
    let options =
        |name: &str| SimOptions { name: name.to_owned(), ledger: Some(ledger.clone()), ..SimOptions::fast() };
    let engines =
        [SimEngine::start(options("one")).await.unwrap(), SimEngine::start(options("two")).await.unwrap()];
    for engine in &engines {
        start(engine, &format!("id={VERIFY_ID}&pid=p")).await;
    }
    let names: Vec<String> = ledger.snapshot().sessions.into_iter().map(|session| session.engine).collect();
    assert_eq!((names, ledger.counts().peak), (vec!["one".to_owned(), "two".to_owned()], 2));
}

/// Starts `count` contents of one engine at once and waits for all replies.
async fn start_at_once(engine: &SimEngine, count: usize) {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = Client::connect(engine.addr()).await.unwrap();
        let target = format!("/ace/getstream?id={number:039x}1&pid={number}&format=json");
        client.send("GET", &target, "").await;
        clients.push(client);
    }
    for mut client in clients {
        assert_eq!(client.answer(usize::MAX, Duration::from_secs(5)).await.json()["error"], Value::Null);
    }
}

#[tokio::test]
async fn the_ledger_knows_how_many_starts_an_engine_had_to_answer_at_once() {
    let timing = Timing { load: Duration::from_millis(400), ..Timing::fast() };
    let ledger = acemux_sim::Ledger::new();
    let options = |name: &str| SimOptions {
        name: name.to_owned(),
        ledger: Some(ledger.clone()),
        timing,
        ..SimOptions::fast()
    };
    let (one, two) =
        (SimEngine::start(options("one")).await.unwrap(), SimEngine::start(options("two")).await.unwrap());
    let before = acemux_sim::swarm::now().as_millis();
    start_at_once(&one, 5).await;
    start_at_once(&one, 1).await;
    start_at_once(&two, 2).await;
    let snapshot = ledger.snapshot();
    assert_eq!((snapshot.peak_starts("one"), snapshot.peak_starts("two")), (5, 2));
    assert_eq!((snapshot.starts.len(), snapshot.counts.starts), (8, 8));
    let second = Duration::from_secs(1);
    assert_eq!(snapshot.most_starts_within("two", second), 2);
    assert!(snapshot.most_starts_within("one", second) >= 5);
    assert_eq!(snapshot.most_starts_within("three", second), 0);
    for start in &snapshot.starts {
        let took = start.done_ms.unwrap() - start.at_ms;
        assert!(u128::from(start.at_ms) >= before && (399..5_000).contains(&took), "{start:?}");
    }
    let served = get_json(two.control_addr(), "/__sim/ledger").await;
    assert_eq!(served["starts_in_flight"]["one"], json!({ "now": 0, "peak": 5 }));
    assert_eq!(served["starts"][7], serde_json::to_value(&snapshot.starts[7]).unwrap());
}

#[tokio::test]
async fn a_start_that_hangs_is_in_flight_until_its_client_leaves() {
    let engine = engine().await;
    let fault = Fault::Reply { page: Page::Start, shape: Shape::Hang };
    engine.set_fault(Target::All, fault);
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &format!("/ace/getstream?id={VERIFY_ID}&format=json"), "").await;
    let in_flight =
        || engine.ledger().snapshot().starts_in_flight.values().map(|flight| flight.now).sum::<u64>();
    eventually("the start is in flight", || in_flight() == 1).await;
    drop(client);
    eventually("it was given up", || in_flight() == 0).await;
}

#[tokio::test]
async fn a_start_is_over_when_its_reply_is_ready_though_a_redirect_lingers() {
    let timing = Timing { redirect_linger: Duration::from_secs(10), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..SimOptions::fast() }).await.unwrap();
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &format!("/ace/getstream?id={VERIFY_ID}"), "").await;
    assert_eq!(client.answer(0, Duration::from_secs(5)).await.status(), 302);
    let start = engine.ledger().snapshot().starts[0].clone();
    assert_eq!((start.requested.as_deref(), start.done_ms.is_some()), (Some(VERIFY_ID), true));
    assert_eq!(start.engine, engine.addr().to_string());
}
