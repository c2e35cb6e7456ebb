//! The open engine's dialect, as it was measured: what it takes, what it plays, and what it goes on downloading.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{
    ChannelKind, CloseReason, ContentHash, Dialect, Fault, PieceSize, SimEngine, SimOptions, Target, Timing,
    VERIFY_ID, infohash_of, run_engine,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::client::{Answer, Client, End, eventually, get, get_json, path, request, start};

const ZEROS: &str = "0000000000000000000000000000000000000000";
/// 40 digits that are no infohash.
const OTHER_ID: &str = "94c2fd8fb9bc8f2fc71a2cbe9d4b866f227a0209";
const UNKNOWN: &str = "invalid or expired playback session";
/// Long enough that nothing comes, where nothing is to come.
const QUIET: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> SimOptions {
    SimOptions { dialect: Dialect::Outpace, ..SimOptions::fast() }
}

async fn engine() -> SimEngine {
    SimEngine::start(options()).await.unwrap()
}

async fn engine_of_small_pieces() -> SimEngine {
    SimEngine::start(SimOptions { piece_size: PieceSize::Kib64, ..options() }).await.unwrap()
}

/// The head of a playback, and the open body behind it.
async fn read(engine: &SimEngine, response: &Value) -> (Client, Answer) {
    open(engine.addr(), &path(&response["playback_url"])).await
}

async fn open(addr: SocketAddr, target: &str) -> (Client, Answer) {
    let mut client = Client::connect(addr).await.unwrap();
    client.send("GET", target, "").await;
    let answer = client.answer(0, PATIENCE).await;
    (client, answer)
}

async fn stat(engine: &SimEngine, response: &Value) -> Value {
    get_json(engine.addr(), &path(&response["stat_url"])).await
}

async fn stop(engine: &SimEngine, response: &Value) -> Value {
    get_json(engine.addr(), &(path(&response["command_url"]) + "?method=stop")).await
}

async fn api(engine: &SimEngine, query: &str) -> Value {
    get_json(engine.addr(), &format!("/server/api?{query}")).await
}

/// The bytes that chunks carry, as far as they are whole, and whether the last chunk is among them.
fn dechunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        let Some(chunk) = bytes.get(at + 2..at + 2 + length) else { break };
        if length == 0 {
            return (body, bytes[at..] == *b"\r\n\r\n");
        }
        body.extend_from_slice(chunk);
        bytes = bytes.get(at + 4 + length..).unwrap_or_default();
    }
    (body, false)
}

/// What a checker says about these bytes of the channel.
fn report_of(body: &[u8]) -> Report {
    let mut verifier = Verifier::new(ContentHash::parse(&infohash_of(VERIFY_ID)).unwrap());
    verifier.feed(&body[..body.len() / 188 * 188]);
    verifier.report().clone()
}

/// Reads at least `wanted` bytes of chunks, and checks their packets.
async fn verified(client: &mut Client, wanted: usize) -> Report {
    let (bytes, end) = client.more(wanted).await;
    assert_eq!(end, End::Enough, "{} bytes", bytes.len());
    let body = dechunked(&bytes).0;
    report_of(&body)
}

/// Reads until the body ends: what came, and whether it was ended in order.
async fn rest(mut client: Client) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let read = async {
        loop {
            let (bytes, end) = client.more(1).await;
            all.extend(bytes);
            if matches!(end, End::Closed | End::Reset) {
                return end;
            }
        }
    };
    let end = timeout(PATIENCE, read).await.expect("the body ends");
    (all, end)
}

#[tokio::test]
async fn a_look_up_by_infohash_repeats_whatever_it_was_given() {
    let engine = engine().await;
    for hash in [&infohash_of(VERIFY_ID), VERIFY_ID, OTHER_ID, ZEROS] {
        let answer =
            get(engine.addr(), &format!("/server/api?api_version=3&method=get_media_files&infohash={hash}"))
                .await;
        let expected = format!(
            r#"{{"error":null,"result":{{"files":[{{"index":0,"infohash":"{hash}","is_live":1}}],"infohash":"{hash}"}}}}"#
        );
        assert_eq!((answer.status(), answer.text()), (200, expected));
    }
    let bad = api(&engine, "method=get_media_files&infohash=xyz").await;
    assert_eq!(bad, json!({ "error": "invalid infohash: xyz", "result": null }));
    assert_eq!(engine.ledger().counts().lookups, 5);
}

#[tokio::test]
async fn a_look_up_by_content_id_asks_the_catalogue() {
    let engine = engine().await;
    let ask = || api(&engine, "method=get_media_files&content_id=acec000000000000000000000000000000000c4c");
    assert_eq!(ask().await["result"]["infohash"], infohash_of(VERIFY_ID));
    let unknown =
        api(&engine, &format!("method=get_media_files&content_id={}", infohash_of(VERIFY_ID))).await;
    assert_eq!(unknown["result"], Value::Null);
    for fault in [Fault::CatalogueFails, Fault::CatalogueHangs] {
        engine.clear_faults();
        engine.set_fault(Target::content(VERIFY_ID), fault);
        let reply = ask().await;
        let error = reply["error"].as_str().unwrap();
        assert!(error.starts_with("content-id resolution failed: ") && reply["result"].is_null(), "{reply}");
        let other = api(&engine, &format!("method=get_media_files&content_id={OTHER_ID}")).await;
        assert_eq!(other["result"]["infohash"], infohash_of(OTHER_ID), "the fault is another content's");
    }
}

#[tokio::test]
async fn a_json_start_has_the_fields_of_the_open_engine() {
    let engine = engine().await;
    let addr = engine.addr();
    let answer =
        get(addr, &format!("/ace/getstream?id={VERIFY_ID}&format=json&pid=me&client_session_id=7")).await;
    assert!(answer.text().starts_with(r#"{"error":null,"response":{"#), "{}", answer.text());
    assert_eq!((answer.header("Server"), answer.header("Access-Control-Allow-Origin")), (None, None));
    let response = &answer.json()["response"];
    let fields: Vec<&str> = response.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "client_session_id",
        "command_url",
        "infohash",
        "is_encrypted",
        "is_live",
        "metadata",
        "playback_session_id",
        "playback_url",
        "stat_url",
    ];
    assert_eq!(fields, expected);
    let (infohash, token) = (infohash_of(VERIFY_ID), response["playback_session_id"].as_str().unwrap());
    assert!(token.len() == 64 && token.bytes().all(|digit| digit.is_ascii_hexdigit()), "{token}");
    assert_eq!(response["infohash"], infohash);
    for (field, page) in [("playback_url", "r"), ("stat_url", "stat"), ("command_url", "cmd")] {
        assert_eq!(response[field], format!("http://{addr}/ace/{page}/{infohash}/{token}"));
    }
    assert_eq!((&response["client_session_id"], &response["is_encrypted"]), (&json!(-1), &json!(0)));
    let metadata: Vec<&str> = response["metadata"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(metadata, ["bitrate", "categories", "title"]);
    let again = start(&engine, &format!("id={VERIFY_ID}&pid=me")).await;
    assert_ne!(again["playback_session_id"], token, "tokens are not derived from the player");
}

#[tokio::test]
async fn a_content_id_that_the_catalogue_does_not_tell_keeps_its_name_and_plays() {
    let engine = engine().await;
    for fault in [Fault::CatalogueFails, Fault::CatalogueHangs] {
        engine.clear_faults();
        engine.set_fault(Target::All, fault);
        let response = start(&engine, &format!("id={VERIFY_ID}")).await;
        assert_eq!(response["infohash"], VERIFY_ID);
        let playback = path(&response["playback_url"]);
        assert!(playback.starts_with(&format!("/ace/r/cid:{VERIFY_ID}/")), "{playback}");
        let (mut reader, head) = read(&engine, &response).await;
        assert_eq!((head.status(), head.header("Content-Type")), (200, Some("video/mp2t")));
        let report = verified(&mut reader, 200_000).await;
        assert!(report.is_clean() && report.media > 0, "{report:?}");
        assert_eq!(stat(&engine, &response).await["response"]["infohash"], VERIFY_ID);
        let escaped = playback.replace(':', "%3A");
        assert_eq!(open(engine.addr(), &escaped).await.1.status(), 200);
        stop(&engine, &response).await;
        eventually("the download ends", || engine.sources() == 0).await;
    }
}

#[tokio::test]
async fn a_catalogue_that_hangs_is_waited_for_at_the_start_and_at_the_playback() {
    let timing = Timing { catalogue_hangs: Duration::from_millis(300), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..options() }).await.unwrap();
    engine.set_fault(Target::All, Fault::CatalogueHangs);
    let asked = Instant::now();
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &format!("/ace/getstream?content_id={VERIFY_ID}&format=json"), "").await;
    let response = client.answer(usize::MAX, PATIENCE).await.json()["response"].clone();
    assert!(asked.elapsed() >= Duration::from_millis(300));
    let asked = Instant::now();
    let (_reader, head) = read(&engine, &response).await;
    assert!(head.status() == 200 && asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn which_form_plays_depends_on_the_size_of_the_pieces() {
    let (large, small) = (engine().await, engine_of_small_pieces().await);
    let (by_id, by_infohash) = (format!("id={VERIFY_ID}"), format!("infohash={}", infohash_of(VERIFY_ID)));
    for (engine, selector) in [(&large, &by_id), (&large, &by_infohash), (&small, &by_id)] {
        let response = start(engine, selector).await;
        assert_eq!(response["infohash"], infohash_of(VERIFY_ID));
        let report = verified(&mut read(engine, &response).await.0, 100_000).await;
        assert!(report.is_clean() && report.media > 0, "{selector}: {report:?}");
    }
    let response = start(&small, &by_infohash).await;
    let (mut reader, head) = read(&small, &response).await;
    assert_eq!((head.status(), reader.more(1).await), (200, (Vec::new(), End::Silent)));
}

#[tokio::test]
async fn the_size_of_pieces_is_each_channels_own() {
    let small = ContentHash::parse(OTHER_ID).unwrap();
    let options = SimOptions { piece_sizes: vec![(small, PieceSize::Kib64)], ..options() };
    let engine = SimEngine::start(options).await.unwrap();
    let first_byte = async |content_id: &str| {
        let response = start(&engine, &format!("infohash={}", infohash_of(content_id))).await;
        let mut reader = read(&engine, &response).await.0;
        let end = reader.more(1).await.1;
        stop(&engine, &response).await;
        eventually("the download is let go of", || engine.sources() == 0).await;
        end
    };
    assert_eq!((first_byte(VERIFY_ID).await, first_byte(OTHER_ID).await), (End::Enough, End::Silent));
    engine.set_piece_size(small, PieceSize::Mib1);
    let order = json!({ "content": VERIFY_ID, "pieces": "64k" });
    let told = request(engine.control_addr(), "POST", "/__sim/channel", &order.to_string()).await;
    assert_eq!(told.json()["pieces"], "64k");
    assert_eq!((first_byte(VERIFY_ID).await, first_byte(OTHER_ID).await), (End::Silent, End::Enough));
    let nothing = json!({ "content": VERIFY_ID });
    assert_eq!(
        request(engine.control_addr(), "POST", "/__sim/channel", &nothing.to_string()).await.status(),
        400
    );
}

/// Bit/s that an engine receives, over a while.
async fn receives(engine: &SimEngine) -> u64 {
    let (began, before) = (Instant::now(), engine.bytes_received());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let received = u128::from(engine.bytes_received() - before);
    u64::try_from(received * 8_000_000 / began.elapsed().as_micros()).unwrap()
}

#[tokio::test]
async fn what_is_no_infohash_is_downloaded_for_ever_and_never_plays() {
    for hash in [VERIFY_ID, OTHER_ID, ZEROS] {
        let engine = engine().await;
        let response = start(&engine, &format!("infohash={hash}")).await;
        assert_eq!(response["infohash"], hash);
        assert_eq!(stat(&engine, &response).await["response"]["status"], "idle", "only a reader begins it");
        let (mut reader, head) = read(&engine, &response).await;
        assert_eq!((head.status(), reader.more(1).await.1), (200, End::Silent));
        let shown = stat(&engine, &response).await["response"].clone();
        assert_eq!(
            [&shown["status"], &shown["peers"], &shown["downloaded"]],
            [&json!("dl"), &json!(0), &json!(0)]
        );
        let before = engine.bytes_received();
        eventually("it downloads on", || engine.bytes_received() > before).await;

        assert_eq!(stop(&engine, &response).await, json!({ "error": null, "response": "ok" }));
        assert_eq!(rest(reader).await, (b"0\r\n\r\n".to_vec(), End::Closed));
        eventually("nothing leads to it any more", || engine.sources() == 0).await;
        assert_eq!(
            api(&engine, "method=get_status").await["result"],
            json!({ "active_sessions": 0, "status": "idle" })
        );
        assert_eq!((engine.sessions(), engine.ledger().open_sessions()), (0, 0));
        let rate = receives(&engine).await;
        assert!((28_000_000..=44_000_000).contains(&rate), "{rate} bit/s");
        let control = get_json(engine.control_addr(), "/__sim/status").await;
        assert!(control["received"].as_u64() > Some(1_000_000), "{control}");
        engine.crash().await;
        assert_eq!(receives(&engine).await, 0, "a process that is gone downloads nothing");
    }
}

/// What an engine at real pace has received, in Mbit/s, in each of the 60 s after the stop of a start that was read for
/// `read_for`, and whether it says that it downloads something.
async fn after_the_stop(selector: &str, read_for: Duration) -> Vec<(f64, bool)> {
    let options = SimOptions { default_channel: ChannelKind::VERIFY, ..SimOptions::default() };
    let engine = SimEngine::start(SimOptions { dialect: Dialect::Outpace, ..options }).await.unwrap();
    let response = start(&engine, selector).await;
    let (reader, head) = read(&engine, &response).await;
    assert_eq!(head.status(), 200);
    tokio::time::sleep(read_for).await;
    stop(&engine, &response).await;
    drop(reader);
    let mut seconds = Vec::new();
    for _ in 0..60 {
        let before = engine.bytes_received();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let bits = u32::try_from((engine.bytes_received() - before) * 8).unwrap();
        seconds.push((f64::from(bits) / 1e6, engine.sources() > 0));
    }
    assert_eq!(engine.sessions(), 0);
    seconds
}

#[tokio::test(start_paused = true)]
async fn a_runaway_shows_in_what_its_engine_receives_without_a_session() {
    let seconds = after_the_stop(&format!("infohash={VERIFY_ID}"), Duration::from_secs(8)).await;
    assert!(seconds.iter().all(|(rate, _)| (30.0..=42.0).contains(rate)), "{seconds:?}");
    let shown = seconds.iter().filter(|(_, shown)| *shown).count();
    assert!((25..=30).contains(&shown), "it shows for {shown} s, and runs on unseen");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lingers_is_no_runaway_its_traffic_ends_within_half_a_minute() {
    for selector in [format!("id={VERIFY_ID}"), format!("infohash={}", infohash_of(VERIFY_ID))] {
        let seconds = after_the_stop(&selector, Duration::from_secs(20)).await;
        let busy = seconds.iter().take_while(|(rate, _)| *rate > 1.0).count();
        assert!((25..=30).contains(&busy), "{busy} s");
        assert!(seconds[busy + 1..].iter().all(|second| *second == (0.0, false)), "{seconds:?}");
    }
}

#[tokio::test]
async fn a_runaway_ends_with_its_readers_where_that_is_asked_for() {
    let engine = engine_of_small_pieces().await;
    engine.set_fault(Target::content(VERIFY_ID), Fault::RunawayEnds);
    let response = start(&engine, &format!("infohash={}", infohash_of(VERIFY_ID))).await;
    let (reader, _) = read(&engine, &response).await;
    drop(reader);
    eventually("it is let go of", || engine.sources() == 0).await;
    assert_eq!(receives(&engine).await, 0);
    let endless = start(&engine, &format!("infohash={}", infohash_of(OTHER_ID))).await;
    drop(read(&engine, &endless).await);
    eventually("the other one, too", || engine.sources() == 0).await;
    assert!(receives(&engine).await > 28_000_000);
    engine.set_fault(Target::All, Fault::RunawayEnds);
    let quiet = async { while receives(&engine).await > 0 {} };
    timeout(PATIENCE, quiet).await.expect("the fault ends what runs");
}

#[tokio::test]
async fn selectors_and_formats_are_taken_and_refused_as_by_the_open_engine() {
    let engine = engine().await;
    let infohash = infohash_of(OTHER_ID);
    let magnet = format!("magnet:%3Fxt=urn:btih:{infohash}");
    for (selector, called) in [
        (format!("magnet={magnet}"), infohash.clone()),
        (format!("magnet={magnet}&url=http://a/b"), "turl-aHR0cDovL2EvYg".to_owned()),
        (format!("url=http://a/b&id={VERIFY_ID}"), infohash_of(VERIFY_ID)),
        (format!("id={VERIFY_ID}&infohash={infohash}"), infohash.clone()),
        (format!("infohash={infohash}&content_id={VERIFY_ID}"), infohash_of(VERIFY_ID)),
        (format!("content_id=&infohash={}", infohash.to_uppercase()), infohash.clone()),
    ] {
        assert_eq!(start(&engine, &selector).await["infohash"], called, "{selector}");
    }
    let missing = "missing content_id/infohash/id/url/magnet";
    for (query, error) in [
        ("", missing),
        ("id=", missing),
        ("content_id=12", "invalid content_id"),
        ("infohash=not-a-hash", "invalid infohash"),
        ("id=not-a-hash", "invalid id"),
        ("magnet=magnet:", "invalid magnet"),
        (&format!("id={VERIFY_ID}&format=redirect"), "unsupported format"),
        (&format!("id={VERIFY_ID}&format=xml"), "unsupported format"),
        ("format=hls", "unsupported format"),
    ] {
        let format = if query.contains("format=") { "" } else { "&format=json" };
        let answer = get(engine.addr(), &format!("/ace/getstream?{query}{format}")).await;
        let expected = format!(r#"{{"error":"{error}","response":null}}"#);
        assert_eq!((answer.status(), answer.text()), (200, expected), "{query}");
    }
    assert_eq!(engine.sessions(), 6);
}

#[tokio::test]
async fn without_a_format_it_streams_and_the_playback_ends_with_its_reader() {
    let engine = engine().await;
    let target = format!("/ace/getstream?id={VERIFY_ID}&format=");
    let (mut reader, head) = open(engine.addr(), &target).await;
    assert_eq!((head.status(), head.header("Location")), (200, None));
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
    assert!(verified(&mut reader, 100_000).await.is_clean());
    assert_eq!(engine.sessions(), 1);
    drop(reader);
    eventually("the playback ends", || engine.sessions() == 0).await;
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::ReaderLeft), 1);
    let head = request(engine.addr(), "HEAD", &target, "").await;
    let seen = (head.status(), head.header("Content-Type"), head.body.len());
    assert_eq!(seen, (200, Some("video/mp2t"), 0));
    assert_eq!(engine.ledger().counts().heads, 1);
}

#[tokio::test]
async fn the_first_media_is_held_back_and_comes_in_one_piece() {
    let options = SimOptions { prebuffer: Duration::from_millis(700), ..options() };
    let engine = SimEngine::start(options).await.unwrap();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let asked = Instant::now();
    let (mut first, head) = read(&engine, &response).await;
    assert!(head.status() == 200 && asked.elapsed() < Duration::from_millis(500), "the head comes at once");
    let (mut second, _) = read(&engine, &response).await;
    let grows = stat(&engine, &response).await["response"].clone();
    assert!(grows["status"] == "dl" && grows["downloaded"].as_u64() > Some(0), "{grows}");
    let mut byte = Client::more(&mut first, 1).await;
    while byte.1 == End::Silent {
        byte = first.more(1).await;
    }
    assert!(asked.elapsed() >= Duration::from_millis(700), "{:?}", asked.elapsed());
    // Who came while it was held back gets as much: eight seconds of burst and more, at once.
    let report = verified(&mut second, 3_000_000).await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn by_default_the_first_byte_comes_after_fifteen_seconds_and_without_prebuffer_at_once() {
    for (prebuffer, after) in [(None, 15_000..15_100), (Some(0), 0..100), (Some(4_000), 4_000..4_100)] {
        let mut options = SimOptions { dialect: Dialect::Outpace, ..SimOptions::default() };
        options.prebuffer = prebuffer.map_or(options.prebuffer, Duration::from_millis);
        let engine = SimEngine::start(options).await.unwrap();
        let (mut client, head) =
            open(engine.addr(), &format!("/ace/getstream?infohash={}", infohash_of(VERIFY_ID))).await;
        let headed = Instant::now();
        assert_eq!(head.status(), 200);
        while client.more(1).await.1 == End::Silent {}
        let millis = headed.elapsed().as_millis();
        assert!(after.contains(&millis), "{millis} ms with {prebuffer:?}");
    }
}

#[tokio::test]
async fn a_later_reader_gets_no_burst_and_begins_at_a_key_frame() {
    let engine = engine_of_small_pieces().await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut first, _) = read(&engine, &response).await;
    let burst = verified(&mut first, 2_900_000).await;
    let behind = acemux_sim::swarm::now().saturating_sub(burst.first.unwrap().1);
    assert!(behind > Duration::from_secs(7), "the first begins {behind:?} behind live");

    let asked = acemux_sim::swarm::now();
    let (mut later, head) = read(&engine, &response).await;
    assert_eq!(head.status(), 200);
    let mut bytes = Vec::new();
    while bytes.len() < 20_000 {
        bytes.extend(later.more(1).await.0);
    }
    let body = dechunked(&bytes).0;
    let report = report_of(&body);
    let begins = report.first.unwrap().1;
    assert!(begins + Duration::from_millis(50) >= asked, "{:?} before it came", asked.checked_sub(begins));
    assert!(begins < asked + Duration::from_millis(3_300), "and no later than the next key frame");
    let is_key = |packet: &[u8]| {
        packet[1] & 0x5f == 0x41 && packet[2] == 0 && packet[3] & 0x20 != 0 && packet[5] & 0x40 != 0
    };
    assert!(body.chunks(188).take(4).any(is_key), "tables and a key frame");
    assert!(engine.ledger().snapshot().sessions[0].readers == 2 && engine.sources() == 1);
}

#[tokio::test]
async fn playbacks_have_any_number_of_readers_and_supersede_nothing() {
    let engine = engine().await;
    let one = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let two = start(&engine, &format!("id={VERIFY_ID}&pid=a")).await;
    let other = start(&engine, &format!("id={OTHER_ID}&pid=a")).await;
    let mut readers = Vec::new();
    for response in [&one, &one, &two, &other] {
        let (reader, head) = read(&engine, response).await;
        assert_eq!(head.status(), 200);
        readers.push(reader);
    }
    assert_eq!((engine.sessions(), engine.sources()), (3, 2));
    assert_eq!(
        api(&engine, "method=get_status").await["result"],
        json!({ "active_sessions": 2, "status": "dl" })
    );
    stop(&engine, &one).await;
    let [first, second, third, _] = <[Client; 4]>::try_from(readers).ok().unwrap();
    for stopped in [first, second] {
        let (bytes, end) = rest(stopped).await;
        assert!(
            end == End::Closed && bytes.ends_with(b"\r\n0\r\n\r\n") || bytes == b"0\r\n\r\n",
            "a clean end"
        );
    }
    assert_eq!(stat(&engine, &one).await, json!({ "error": UNKNOWN, "response": null }));
    assert_eq!(stop(&engine, &one).await, json!({ "error": UNKNOWN, "response": null }));
    let mut third = third;
    let goes_on = async { while third.more(100).await.1 != End::Enough {} };
    timeout(PATIENCE, goes_on).await.expect("the other playback of the channel goes on");
    assert_eq!(stat(&engine, &two).await["response"]["status"], "dl");
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::StopCommand), 1);
}

#[tokio::test]
async fn a_download_lingers_when_its_playback_was_stopped() {
    let timing = Timing { linger: Duration::from_millis(600), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..options() }).await.unwrap();
    let first = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (reader, _) = read(&engine, &first).await;
    stop(&engine, &first).await;
    rest(reader).await;
    let stopped = Instant::now();
    assert_eq!(engine.sources(), 1);
    let second = start(&engine, &format!("id={VERIFY_ID}")).await;
    assert_eq!(stat(&engine, &second).await["response"]["status"], "dl", "it runs before anybody reads it");
    eventually("it ends", || engine.sources() == 0).await;
    assert!(stopped.elapsed() >= Duration::from_millis(500), "{:?}", stopped.elapsed());
    assert_eq!(stat(&engine, &second).await["response"]["status"], "idle");
    assert_eq!(receives(&engine).await, 0);
}

#[tokio::test]
async fn stat_has_ten_fields() {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let expected = [
        "client_session_id",
        "downloaded",
        "infohash",
        "is_encrypted",
        "is_live",
        "metadata",
        "peers",
        "playback_session_id",
        "status",
        "uploaded",
    ];
    let idle = stat(&engine, &response).await["response"].clone();
    let (_reader, _) = read(&engine, &response).await;
    let running = stat(&engine, &response).await["response"].clone();
    for (fields, status) in [(&idle, "idle"), (&running, "dl")] {
        let names: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((names.as_slice(), &fields["status"]), (expected.as_slice(), &json!(status)));
        assert_eq!(fields["playback_session_id"], response["playback_session_id"]);
        assert_eq!((&fields["infohash"], &fields["is_live"]), (&json!(infohash_of(VERIFY_ID)), &json!(1)));
    }
    assert_eq!((&idle["peers"], &idle["downloaded"]), (&json!(0), &json!(0)));
    assert!(running["peers"].as_u64() > Some(0) && running["downloaded"].as_u64() > Some(0), "{running}");
    let command = path(&response["command_url"]) + "?method=pause";
    let refused = get_json(engine.addr(), &command).await;
    assert_eq!(refused, json!({ "error": "missing method", "response": null }));
}

#[tokio::test]
async fn what_nobody_has_is_answered_with_an_empty_404_after_a_while() {
    let timing = Timing { no_peers: Duration::from_millis(250), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..options() }).await.unwrap();
    engine.set_fault(Target::content(VERIFY_ID), Fault::NoPeers);
    for selector in
        [format!("id={ZEROS}"), format!("id={}", infohash_of(OTHER_ID)), format!("id={VERIFY_ID}")]
    {
        let response = start(&engine, &selector).await;
        let asked = Instant::now();
        let answer = get(engine.addr(), &path(&response["playback_url"])).await;
        assert_eq!(
            (answer.status(), answer.header("Content-Length"), answer.text()),
            (404, Some("0"), String::new())
        );
        assert!(asked.elapsed() >= Duration::from_millis(250), "{:?}", asked.elapsed());
        assert_eq!(
            (stat(&engine, &response).await["response"]["status"].clone(), engine.sources()),
            (json!("idle"), 0)
        );
    }
    assert_eq!(Timing::real().no_peers, Duration::from_secs(10));
}

#[tokio::test]
async fn what_nobody_has_is_silent_behind_its_head_where_that_is_asked_for() {
    let engine = engine().await;
    engine.set_fault(Target::All, Fault::PeersNoData);
    for selector in [format!("id={ZEROS}"), format!("id={VERIFY_ID}")] {
        let response = start(&engine, &selector).await;
        let (mut reader, head) = read(&engine, &response).await;
        assert_eq!((head.status(), reader.more(1).await.1), (200, End::Silent));
        let shown = stat(&engine, &response).await["response"].clone();
        assert_eq!((&shown["status"], &shown["downloaded"]), (&json!("dl"), &json!(0)));
    }
}

#[tokio::test]
async fn a_wrong_token_or_a_token_of_other_content_opens_nothing() {
    let engine = engine().await;
    let (infohash, other) = (infohash_of(VERIFY_ID), infohash_of(OTHER_ID));
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let token = response["playback_session_id"].as_str().unwrap();
    for (id, token) in
        [(infohash.as_str(), "0".repeat(64).as_str()), (&other, token), (VERIFY_ID, token), ("cid:x", token)]
    {
        let answer = get(engine.addr(), &format!("/ace/r/{id}/{token}")).await;
        assert_eq!((answer.status(), answer.text()), (404, String::new()), "{id}");
        let stat = get_json(engine.addr(), &format!("/ace/stat/{id}/{token}")).await;
        assert_eq!(stat["error"], UNKNOWN);
    }
}

#[tokio::test]
async fn the_api_answers_in_bare_texts_whatever_version_is_asked_for() {
    let engine = engine().await;
    let infohash = infohash_of(VERIFY_ID);
    let analysis = json!({
        "content_id": VERIFY_ID, "infohash": infohash, "is_encrypted": 0, "is_live": 1, "status": "complete",
    });
    let link = format!("analyze_content&query=acestream:%3Fcontent_id={VERIFY_ID}");
    for (method, result, error) in [
        ("get_version", json!({ "code": 200, "version": "0.2.0" }), Value::Null),
        ("get_status", json!({ "active_sessions": 0, "status": "idle" }), Value::Null),
        (&format!("get_content_id&content_id={OTHER_ID}"), json!({ "content_id": OTHER_ID }), Value::Null),
        (
            &format!("get_content_id&infohash={infohash}"),
            Value::Null,
            json!("content_id unavailable for this selector"),
        ),
        (&format!("analyze_content&query={VERIFY_ID}"), analysis, Value::Null),
        (&link, Value::Null, json!("content-id resolution failed: BadInfohash")),
        ("get_media_files", Value::Null, json!("missing content_id/infohash/url/magnet")),
        ("get_api_access_token", Value::Null, json!("unknown method: get_api_access_token")),
    ] {
        for version in ["", "api_version=3&"] {
            let answer = get(engine.addr(), &format!("/server/api?{version}method={method}")).await;
            let expected = json!({ "error": error, "result": result });
            assert_eq!((answer.status(), answer.text()), (200, expected.to_string()), "{method}");
        }
    }
    let network = api(&engine, "method=get_network_connection_status").await;
    assert_eq!(network["result"]["connected"], true);
    for (page, status) in
        [("/webui/api/service?method=get_version", 404), ("/healthz", 200), ("/content/a/b", 404)]
    {
        assert_eq!(get(engine.addr(), page).await.status(), status, "{page}");
    }
}

#[tokio::test]
async fn a_newer_version_can_be_reported() {
    let options = SimOptions { version: Some("1.2.1".parse().unwrap()), ..options() };
    let engine = SimEngine::start(options).await.unwrap();
    assert_eq!(
        api(&engine, "method=get_version").await["result"],
        json!({ "code": 10_201, "version": "1.2.1" })
    );
}

#[tokio::test]
async fn a_playlist_is_redirected_to_and_given_up_after_a_while() {
    let engine = engine().await;
    let redirect = get(engine.addr(), &format!("/ace/manifest.m3u8?id={VERIFY_ID}&format=redirect")).await;
    assert_eq!((redirect.status(), redirect.text()), (302, String::new()));
    let playlist = path(&redirect.header("Location").unwrap().into());
    let answer = get(engine.addr(), &playlist).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("1")));
    let wrong = playlist.replace(".m3u8", "0.m3u8");
    assert_eq!(get(engine.addr(), &wrong).await.status(), 404);
    let unknown = get(engine.addr(), &format!("/ace/manifest.m3u8?id={ZEROS}&format=json")).await;
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn a_playback_ends_when_its_time_is_over() {
    let timing = Timing { lease: Duration::from_millis(300), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..options() }).await.unwrap();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (reader, _) = read(&engine, &response).await;
    let (bytes, end) = rest(reader).await;
    assert!(end == End::Closed && dechunked(&bytes).1, "a clean end");
    assert_eq!(engine.ledger().snapshot().closed_by(CloseReason::Expired), 1);
    assert_eq!(stat(&engine, &response).await["error"], UNKNOWN);
}

/// An engine on a known port that is told to end by the sender, and streams on for `drain`.
async fn running(drain: Duration) -> (SocketAddr, oneshot::Sender<()>, JoinSet<()>) {
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (tell, told) = oneshot::channel::<()>();
    let options = SimOptions { listen, timing: Timing { drain, ..Timing::fast() }, ..options() };
    let mut engine = JoinSet::new();
    engine.spawn(async move {
        run_engine(options, async { told.await.unwrap() }).await.unwrap();
    });
    let answers = async { while Client::connect(listen).await.is_err() {} };
    timeout(PATIENCE, answers).await.unwrap();
    (listen, tell, engine)
}

#[tokio::test]
async fn told_to_end_it_streams_on_to_its_readers_and_takes_nobody_new() {
    let (addr, tell, mut engine) = running(PATIENCE).await;
    let (mut reader, _) = open(addr, &format!("/ace/getstream?id={VERIFY_ID}")).await;
    tell.send(()).unwrap();
    let refused = async { while Client::connect(addr).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("the port closes");
    // More than the burst of ten seconds: what follows is live.
    for _ in 0..43 {
        assert_eq!(reader.more(100_000).await.1, End::Enough, "the body goes on");
    }
    assert!(engine.try_join_next().is_none());
    drop(reader);
    timeout(PATIENCE, engine.join_next())
        .await
        .expect("it ends when its last reader has left")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn told_to_end_it_waits_for_readers_no_longer_than_it_says() {
    let (addr, tell, mut engine) = running(Duration::from_millis(500)).await;
    let (reader, _) = open(addr, &format!("/ace/getstream?id={VERIFY_ID}")).await;
    let told = Instant::now();
    tell.send(()).unwrap();
    let end = rest(reader).await.1;
    assert!(matches!(end, End::Closed | End::Reset), "{end:?}");
    timeout(PATIENCE, engine.join_next()).await.expect("it ends").unwrap().unwrap();
    assert!(told.elapsed() >= Duration::from_millis(500), "{:?}", told.elapsed());
    assert!(Timing::real().drain >= Duration::from_secs(10));
}

#[tokio::test]
async fn faults_of_media_and_of_pages_are_the_same_in_both_dialects() {
    let engine = engine().await;
    let (mut reader, _) = open(engine.addr(), &format!("/ace/getstream?id={VERIFY_ID}")).await;
    assert_eq!(reader.more(1_000).await.1, End::Enough);
    engine.set_fault(Target::content(VERIFY_ID), Fault::Eof { after_bytes: 0 });
    let (bytes, end) = rest(reader).await;
    assert!(end == End::Closed && bytes.ends_with(b"0\r\n\r\n"));
    engine.clear_faults();
    let (mut reader, _) =
        open(engine.addr(), &format!("/ace/getstream?infohash={}", infohash_of(VERIFY_ID))).await;
    reader.more(1_000).await;
    engine.set_fault(Target::content(VERIFY_ID), Fault::Reset { after_bytes: 0 });
    assert_eq!(rest(reader).await.1, End::Reset);
    engine.set_fault(Target::All, Fault::RefuseMoreThan { n: 0 });
    let refused = get_json(engine.addr(), &format!("/ace/getstream?id={OTHER_ID}&format=json")).await;
    assert_eq!(refused, json!({ "error": "too many playback sessions", "response": null }));
    engine.set_fault(Target::All, Fault::HangStatus);
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", "/server/api?method=get_status", "").await;
    assert_eq!(client.answer(usize::MAX, QUIET).await.end, End::Silent);
}
