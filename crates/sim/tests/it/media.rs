//! Media over the wire: silence, burst, real time, and what two engines of one swarm have in common.

use std::time::Duration;

use acemux_sim::verify::Verifier;
use acemux_sim::{
    ChannelKind, ContentHash, Framing, H264_ID, SimEngine, SimOptions, Timing, VERIFY_ID, infohash_of, swarm,
};
use tokio::time::Instant;

use crate::client::{End, engine, eventually, get_json, open_media, path, start};

const SECOND: usize = 3_000_000 / 8;

fn verifier() -> Verifier {
    Verifier::new(ContentHash::parse(&infohash_of(VERIFY_ID)).unwrap())
}

/// Reads `limit` bytes of `content_id` from its start.
async fn read(engine: &SimEngine, content_id: &str, limit: usize) -> Vec<u8> {
    let response = start(engine, &format!("id={content_id}")).await;
    let (mut reader, _) = open_media(engine, &response["playback_url"]).await;
    reader.more(limit).await.0
}

#[tokio::test]
async fn before_there_is_data_there_is_not_even_a_header() {
    let timing = Timing { prebuffer: Duration::from_millis(800), ..Timing::fast() };
    let engine = SimEngine::start(SimOptions { timing, ..SimOptions::fast() }).await.unwrap();
    let began = Instant::now();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, silent) = open_media(&engine, &response["playback_url"]).await;
    assert_eq!((silent.head.as_str(), silent.end), ("", End::Silent));
    let head = reader.answer(0, Duration::from_secs(5)).await;
    assert!(head.status() == 200 && began.elapsed() >= timing.prebuffer);
}

#[tokio::test]
async fn a_reader_gets_the_burst_at_once_then_real_time_without_a_fault() {
    let engine =
        SimEngine::start(SimOptions { burst: Duration::from_secs(6), ..SimOptions::fast() }).await.unwrap();
    let response = start(&engine, &format!("id={VERIFY_ID}")).await;
    let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
    let began = Instant::now();
    let burst = reader.more(6 * SECOND).await.0;
    assert!(began.elapsed() < Duration::from_secs(1), "the burst took {:?}", began.elapsed());
    let rest = reader.more(SECOND).await.0;
    assert!((Duration::from_millis(700)..Duration::from_millis(1_500)).contains(&began.elapsed()));
    let mut verifier = verifier();
    verifier.feed(&burst);
    verifier.feed(&rest);
    let report = verifier.report();
    assert!(report.is_clean() && report.tables > 100, "{report:?}");
    let behind = swarm::now().saturating_sub(report.last.unwrap().1);
    assert!(behind < Duration::from_millis(300), "{behind:?} behind live");
}

#[tokio::test]
async fn two_engines_of_one_swarm_carry_identical_bytes() {
    let options = |lag| SimOptions {
        swarm_lag: Duration::from_millis(lag),
        default_channel: ChannelKind::H264,
        burst: Duration::from_secs(2),
        ..SimOptions::fast()
    };
    let ahead = SimEngine::start(options(0)).await.unwrap();
    let behind = SimEngine::start(options(700)).await.unwrap();
    let late = read(&behind, H264_ID, 500_000).await;
    let early = read(&ahead, H264_ID, 500_000).await;
    // Long enough to hold more than stuffing.
    let fingerprint = &early[..188 * 100];
    let at =
        late.windows(fingerprint.len()).position(|window| window == fingerprint).expect("the same packets");
    let common = (late.len() - at).min(early.len());
    assert!(common > 100_000 && late[at..at + common] == early[..common], "{common} bytes in common");
}

#[tokio::test]
async fn stat_tells_the_live_edge_of_its_engine_and_it_moves_with_the_swarm() {
    let options = |lag| SimOptions { swarm_lag: Duration::from_secs(lag), ..SimOptions::fast() };
    for lag in [0, 30] {
        let engine = SimEngine::start(options(lag)).await.unwrap();
        let response = start(&engine, &format!("id={VERIFY_ID}")).await;
        let (mut reader, _) = open_media(&engine, &response["playback_url"]).await;
        let position = async |name: &str| -> u64 {
            let stat = get_json(engine.addr(), &path(&response["stat_url"])).await;
            stat["response"]["livepos"][name].as_str().unwrap().parse().unwrap()
        };
        let last = position("live_last").await;
        assert!((swarm::now().as_secs() - last).abs_diff(lag) <= 1, "lag {lag}");
        assert_eq!(last - position("live_first").await, 1_800);
        let mut verifier = verifier();
        // The burst of ten seconds ends at this engine's live edge.
        verifier.feed(&reader.more(10 * SECOND).await.0);
        let behind = swarm::now().saturating_sub(verifier.report().last.unwrap().1);
        assert!(behind.abs_diff(Duration::from_secs(lag)) < Duration::from_millis(500), "{behind:?}");
        eventually("the swarm goes on", || swarm::now().as_secs() > last + lag + 1).await;
        assert!(position("live_last").await > last);
    }
}

#[tokio::test]
async fn bodies_come_in_every_framing() {
    for (framing, version) in [(Framing::Close, "1.1"), (Framing::Chunked, "1.1"), (Framing::Http10, "1.0")] {
        let engine = SimEngine::start(SimOptions { framing, ..SimOptions::fast() }).await.unwrap();
        let response = start(&engine, &format!("id={VERIFY_ID}")).await;
        let (mut reader, head) = open_media(&engine, &response["playback_url"]).await;
        assert!(head.head.starts_with(&format!("HTTP/{version} 200 OK")), "{}", head.head);
        assert_eq!(head.header("Content-Length"), None);
        let chunked = head.header("Transfer-Encoding") == Some("chunked");
        assert_eq!(chunked, framing == Framing::Chunked);
        let first = reader.more(200).await.0;
        let digits = first.iter().position(|byte| *byte == b'\r').filter(|_| chunked);
        let at = digits.map_or(0, |digits| digits + 2);
        assert_eq!(first[at], 0x47, "{framing:?}");
    }
}

#[tokio::test]
async fn a_channel_can_be_chosen_for_one_content() {
    let engine = engine().await;
    let content = ContentHash::parse(H264_ID).unwrap();
    engine.set_channel(content, ChannelKind::Verify { bitrate: 64_000 });
    let bytes = read(&engine, H264_ID, 188 * 100).await;
    let mut verifier = Verifier::new(content.infohash());
    verifier.feed(&bytes);
    assert!(verifier.report().is_clean() && verifier.report().media > 40, "{:?}", verifier.report());
}

#[tokio::test]
async fn a_hundred_sessions_are_fed_in_time() {
    let bitrate = 500_000;
    let default_channel = ChannelKind::Verify { bitrate };
    let engine = SimEngine::start(SimOptions { default_channel, ..SimOptions::fast() }).await.unwrap();
    let mut readers = Vec::new();
    for number in 0..100 {
        let response = start(&engine, &format!("id={number:039x}1&pid={number}")).await;
        let (reader, head) = open_media(&engine, &response["playback_url"]).await;
        assert_eq!(head.status(), 200);
        readers.push(reader);
    }
    for reader in &mut readers {
        // The burst and a second of real time.
        assert_eq!(reader.more(usize::try_from(11 * bitrate / 8).unwrap()).await.1, End::Enough);
    }
    assert_eq!(engine.ledger().counts().open, 100);
}
