//! Recordings: a file behind the playback URL, whole and by ranges.

use std::time::Duration;

use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{
    Channel, ChannelKind, ContentHash, DEMO_CHANNELS, Fault, SimEngine, SimOptions, Target, VERIFY_ID,
    VOD_ID, infohash_of,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Answer, Client, End, engine, eventually, get_json, media_path, open_media, path, start};

/// A minute at 3 Mbit/s, in whole packets.
const LENGTH: usize = 60 * 3_000_000 / 8 / 188 * 188;
const PATIENCE: Duration = Duration::from_secs(10);

/// A started recording: the engine, the reply and the path of the media.
async fn playing() -> (SimEngine, Value, String) {
    let engine = engine().await;
    let response = start(&engine, &format!("id={VOD_ID}")).await;
    let media = media_path(&engine, &response["playback_url"]).await;
    (engine, response, media)
}

async fn range(engine: &SimEngine, media: &str, range: &str) -> Answer {
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send_range(media, range).await;
    client.answer(usize::MAX, PATIENCE).await
}

fn infohash() -> ContentHash {
    ContentHash::parse(VOD_ID).unwrap().infohash()
}

/// What the file should be, made without the engine.
fn file(seconds: u64) -> Vec<u8> {
    let channel = Channel::new(infohash(), ChannelKind::Vod { seconds });
    let mut bytes = Vec::new();
    channel.write(0..channel.length().unwrap() / 188, &mut bytes);
    bytes
}

fn verified(bytes: &[u8]) -> Report {
    let mut verifier = Verifier::new(infohash());
    verifier.feed(bytes);
    assert_eq!(verifier.trailing(), 0);
    verifier.report().clone()
}

#[tokio::test]
async fn a_recording_says_what_it_is_everywhere() {
    let (engine, response, _) = playing().await;
    assert_eq!((&response["is_live"], &response["infohash"]), (&json!(0), &json!(infohash_of(VOD_ID))));
    let stat = path(&response["stat_url"]);
    let mut shown = Value::Null;
    while shown["status"] != "dl" {
        shown = get_json(engine.addr(), &stat).await["response"].clone();
        assert!(shown.get("status").is_none() || shown["is_live"] == 0, "{shown}");
    }
    assert_eq!((&shown["livepos"], &shown["total_progress"]), (&Value::Null, &json!(0)));
    let api = |query: String| format!("/server/api?api_version=3&method={query}");
    let files = get_json(engine.addr(), &api(format!("get_media_files&content_id={VOD_ID}"))).await;
    assert_eq!(files["result"]["type"], "vod");
    let query = format!("analyze_content&query=acestream:?content_id={VOD_ID}");
    assert_eq!(get_json(engine.addr(), &api(query)).await["result"]["is_live"], 0);
    assert_eq!(start(&engine, &format!("id={VERIFY_ID}")).await["is_live"], 1);
    assert!(DEMO_CHANNELS.iter().any(|demo| (demo.name, demo.content_id) == ("vod", VOD_ID)));
}

#[tokio::test]
async fn the_whole_file_comes_faster_than_real_time_and_is_right_from_packet_0() {
    let (engine, response, media) = playing().await;
    let began = Instant::now();
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &media, "").await;
    let whole = client.answer(usize::MAX, PATIENCE).await;
    assert!(began.elapsed() < Duration::from_secs(15), "a minute took {:?}", began.elapsed());
    let headers = ["Content-Length", "Accept-Ranges", "Content-Range", "Transfer-Encoding"];
    assert_eq!(
        headers.map(|name| whole.header(name)),
        [Some(LENGTH.to_string().as_str()), Some("bytes"), None, None]
    );
    assert_eq!(
        (whole.status(), whole.end, whole.header("X-Content-Duration")),
        (200, End::Complete, Some("59.999"))
    );
    let report = verified(&whole.body);
    assert!(report.is_clean() && report.starts_clean, "{report:?}");
    let first = report.first.map(|(sequence, _)| sequence);
    assert_eq!((first, report.packets), (Some(0), (LENGTH / 188) as u64));
    assert!(report.last.unwrap().1.abs_diff(Duration::from_mins(1)) < Duration::from_millis(5));
    eventually("the bytes are booked", || engine.ledger().counts().bytes_read == LENGTH as u64).await;
    let stat = get_json(engine.addr(), &path(&response["stat_url"])).await["response"].clone();
    assert_eq!(
        (&stat["total_progress"], &stat["downloaded"]),
        (&json!(100), &json!(LENGTH / 16_384 * 16_384))
    );
}

#[tokio::test]
async fn ranges_one_after_the_other_are_pieces_of_one_file() {
    let (engine, _, media) = playing().await;
    let file = file(60);
    for (asked, from, to) in [
        ("bytes=0-187", 0, 188),
        ("bytes=1000-70999", 1_000, 71_000),
        ("bytes=-1000", LENGTH - 1_000, LENGTH),
        (&format!("bytes={}-", LENGTH - 500_001), LENGTH - 500_001, LENGTH),
        (&format!("bytes={}-{}", LENGTH - 1, LENGTH + 5), LENGTH - 1, LENGTH),
    ] {
        let part = range(&engine, &media, asked).await;
        assert_eq!((part.status(), part.end), (206, End::Complete), "{asked}");
        let said = format!("bytes {from}-{}/{LENGTH}", to - 1);
        assert_eq!(part.header("Content-Range"), Some(said.as_str()));
        assert_eq!(part.header("Accept-Ranges"), Some("bytes"));
        assert!(part.body == file[from..to], "{asked}: {} bytes", part.body.len());
    }
    let ledger = engine.ledger().snapshot();
    assert_eq!((ledger.counts.opened, ledger.counts.open, ledger.counts.second_readers), (1, 1, 0));
    assert_eq!(ledger.sessions[0].readers, 5);
}

#[tokio::test]
async fn a_connection_carries_several_ranges() {
    let (engine, _, media) = playing().await;
    let file = file(60);
    let mut client = Client::connect(engine.addr()).await.unwrap();
    for from in [500, 0, 20_000_000] {
        client.send_range(&media, &format!("bytes={from}-{}", from + 99_999)).await;
        let part = client.answer(usize::MAX, PATIENCE).await;
        assert_eq!((part.status(), part.header("Connection")), (206, Some("keep-alive")));
        assert!(part.body == file[from..from + 100_000], "from {from}");
    }
}

#[tokio::test]
async fn a_range_beyond_the_end_is_416_and_an_odd_one_is_no_range() {
    let (engine, _, media) = playing().await;
    for asked in [format!("bytes={LENGTH}-"), "bytes=-0".to_owned()] {
        let refused = range(&engine, &media, &asked).await;
        let said = format!("bytes */{LENGTH}");
        assert_eq!(
            (refused.status(), refused.header("Content-Range")),
            (416, Some(said.as_str())),
            "{asked}"
        );
    }
    for asked in ["bytes=0-1,5-6", "lines=1-2"] {
        let mut client = Client::connect(engine.addr()).await.unwrap();
        client.send_range(&media, asked).await;
        assert_eq!(client.answer(188, PATIENCE).await.status(), 200, "{asked}");
    }
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing() {
    let (engine, _, media) = playing().await;
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("HEAD", &media, "").await;
    let head = client.answer(0, PATIENCE).await;
    assert_eq!((head.status(), head.header("Content-Length")), (200, Some(LENGTH.to_string().as_str())));
    let (rest, end) = client.more(1).await;
    assert_eq!((rest.len(), end, engine.ledger().counts().bytes_read), (0, End::Silent, 0));
}

#[tokio::test]
async fn a_player_that_seeks_hangs_up_and_asks_again() {
    let (engine, _, media) = playing().await;
    let file = file(60);
    for from in [0, 10_000_000, 5_000_000, 20_000_000] {
        let mut client = Client::connect(engine.addr()).await.unwrap();
        client.send_range(&media, &format!("bytes={from}-")).await;
        let part = client.answer(100_000, PATIENCE).await;
        assert!(part.status() == 206 && part.body == file[from..from + 100_000], "from {from}");
    }
    assert_eq!(engine.ledger().counts().second_readers, 0);
}

#[tokio::test]
async fn a_second_reader_at_the_same_time_is_refused_as_on_live() {
    let (engine, response, media) = playing().await;
    let (mut first, _) = open_media(&engine, &response["playback_url"]).await;
    assert_eq!(first.more(188).await.1, End::Enough);
    let mut second = Client::connect(engine.addr()).await.unwrap();
    second.send_range(&media, "bytes=0-").await;
    let corrupt = second.answer(0, PATIENCE).await;
    assert!(corrupt.head.starts_with("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\n"), "{}", corrupt.head);
    assert_eq!((first.more(1_000_000).await.1, engine.ledger().counts().second_readers), (End::Enough, 1));
}

#[tokio::test]
async fn the_length_is_a_matter_of_the_channel() {
    let options = SimOptions { default_channel: ChannelKind::Vod { seconds: 3 }, ..SimOptions::fast() };
    let engine = SimEngine::start(options).await.unwrap();
    let other = "94c2fd8fb9bc8f2fc71a2cbe9d4b866f227a0209";
    let response = start(&engine, &format!("id={other}")).await;
    let (_, head) = open_media(&engine, &response["playback_url"]).await;
    let length = (3 * 3_000_000 / 8 / 188 * 188).to_string();
    assert_eq!(head.header("Content-Length"), Some(length.as_str()));
}

#[tokio::test]
async fn faults_of_pace_and_end_hold_for_a_recording_too() {
    for (fault, length, end) in [
        (Fault::Eof { after_bytes: 100_000 }, 100_000, End::Closed),
        (Fault::BurstThenStall { after_bytes: 100_000 }, 100_000, End::Silent),
        (Fault::HangFirstByte, 0, End::Silent),
        (Fault::Empty200, 0, End::Closed),
    ] {
        let (engine, _, media) = playing().await;
        engine.set_fault(Target::All, fault.clone());
        let mut client = Client::connect(engine.addr()).await.unwrap();
        client.send("GET", &media, "").await;
        assert_eq!(client.answer(0, PATIENCE).await.status(), 200);
        let (body, ended) = client.more(LENGTH).await;
        assert_eq!((body.len(), ended), (length, end), "{fault}");
    }
}
