//! What a joining player gets first, and that nothing is missing afterwards.

use std::time::Duration;

use acemux_sim::ts::section_packet;
use acemux_sim::verify::{AUDIO_PID, PMT_PID, VIDEO_PID};
use acemux_sim::{AUDIO_ID, HEVC_ID, MPEG2_ID, NO_FLAGS_ID, OPEN_GOP_ID, SimOptions, swarm};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::rawengine::{Act, MEDIA_HEAD, RawEngine, verify_media};
use acemux_testkit::{StrictViewer, get};
use tokio::task::JoinSet;

use crate::{ID, stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_join_begins_with_tables_and_a_key_frame_five_seconds_behind_live() {
    let app = Setup::new().start().await;
    let mut first = StrictViewer::open(app.address(), ID).await;
    first.watch(Duration::from_secs(1)).await;
    let mut joiner = StrictViewer::open(app.address(), ID).await;
    joiner.watch(Duration::from_millis(500)).await;
    joiner.assert_perfect();
    let (_, live) = first.report().last.expect("the first viewer sees media");
    let (_, begin) = joiner.report().first.expect("the joiner sees media");
    let behind = live.saturating_sub(begin);
    // Key frames are 2 s apart, and half a second has passed.
    assert!((Duration::from_secs(5)..Duration::from_millis(7600)).contains(&behind), "{behind:?} behind");
    assert!(joiner.first_byte() < Duration::from_millis(150), "{:?}", joiner.first_byte());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_viewers_over_five_seconds_lose_nothing() {
    let app = Setup::new().start().await;
    let mut viewers = JoinSet::new();
    for n in 0..20_u64 {
        let address = app.address();
        viewers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 20)).await;
            let mut viewer = StrictViewer::open(address, ID).await;
            viewer.watch(Duration::from_secs(5)).await;
            viewer.assert_perfect();
            assert!(viewer.longest_silence() < Duration::from_millis(500), "{:?}", viewer.longest_silence());
        });
    }
    while let Some(watched) = viewers.join_next().await {
        watched.expect("every viewer sees everything");
    }
    assert_eq!(app.ledger.counts().opened, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_without_flags_of_every_codec_start() {
    let app = Setup::with_engines([SimOptions::fast()]).set("MAX_STREAMS_PER_ENGINE", "10").start().await;
    for id in [NO_FLAGS_ID, OPEN_GOP_ID, HEVC_ID, MPEG2_ID, AUDIO_ID] {
        let mut reply = within(Duration::from_secs(5), id, get(app.address(), &stream(id))).await;
        assert_eq!(reply.status, 200, "{id}");
        let mut bytes = Vec::new();
        while bytes.len() < 188 * 20 {
            bytes.extend(reply.next().await.expect("media"));
        }
        assert!(bytes.chunks_exact(188).all(|packet| packet[0] == 0x47), "{id}: whole packets");
        assert_eq!(&bytes[1..3], &[0x40, 0x00], "{id}: the PAT comes first");
    }
}

/// The program before an engine whose stream plays for two seconds and then becomes what `change` makes of each packet.
/// With four seconds of history, so that soon nothing of the time before is left, and somebody who watches.
async fn changed(change: fn(&mut [u8])) -> (RawEngine, TestApp, StrictViewer) {
    let begins = swarm::now() + Duration::from_secs(2);
    let engine = RawEngine::start(move |target| {
        target.starts_with("/ace/r/").then(|| {
            let whole = verify_media(ID, 2_000_000);
            let media = move |time: std::ops::Range<Duration>| {
                let is_changed = time.end > begins;
                let mut bytes = whole(time);
                if is_changed {
                    bytes.chunks_mut(188).for_each(change);
                }
                bytes
            };
            Act::Media(MEDIA_HEAD.into(), std::sync::Arc::new(media))
        })
    })
    .await;
    let app = Setup::with_engines([])
        .engine_at(engine.address())
        .set("STREAM_BUFFER_SECONDS", "4")
        .set("JOIN_BURST", "1")
        .start()
        .await;
    let mut first = StrictViewer::open(app.address(), ID).await;
    first.watch(Duration::from_secs(14)).await;
    (engine, app, first)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// Of the picture only the clock is left.
fn without_picture(packet: &mut [u8]) {
    if pid(packet) != VIDEO_PID {
        return;
    }
    let has_clock = packet[3] & 0x20 != 0 && packet[5] & 0x10 != 0;
    if has_clock {
        (packet[3], packet[4], packet[5]) = (0x20 | (packet[3] & 0x0f), 183, 0x10);
    } else {
        packet[1..3].copy_from_slice(&[0x1f, 0xff]);
    }
}

/// The table lists another programme, which is not there, before ours.
fn with_another_programme_first(packet: &mut [u8]) {
    if pid(packet) != 0 {
        return;
    }
    let [high, low] = PMT_PID.to_be_bytes();
    let section = [0, 0xb0, 17, 0, 1, 0xc3, 0, 0, 0, 9, 0xe0, 0x77, 0, 1, 0xe0 | high, low];
    let counter = packet[3] & 0x0f;
    packet.copy_from_slice(&section_packet(0, &section));
    packet[3] |= counter;
}

/// Neither picture nor sound: a clock and tables.
fn without_anything(packet: &mut [u8]) {
    without_picture(packet);
    if pid(packet) == AUDIO_PID {
        packet[1..3].copy_from_slice(&[0x1f, 0xff]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_after_the_picture_has_stopped_or_another_programme_was_listed_gets_media_at_once() {
    for (what, change) in [
        ("only sound goes on", without_picture as fn(&mut [u8])),
        ("another programme first", with_another_programme_first),
    ] {
        let (engine, app, mut first) = changed(change).await;
        let mut reply = within(Duration::from_secs(2), what, get(app.address(), &stream(ID))).await;
        assert_eq!(reply.status, 200, "{what}");
        let media = within(Duration::from_secs(2), what, reply.next()).await.expect("media");
        assert!(media.len() >= 188, "{what}: {} bytes", media.len());
        let manifest = within(Duration::from_secs(2), what, get(app.address(), &pieces(ID))).await;
        assert_eq!(manifest.status, 200, "{what}");
        assert!(first.watch(Duration::from_millis(500)).await.is_none(), "{what}: who watched goes on");
        assert_eq!(engine.count("/ace/getstream"), 1, "{what}: nobody notices");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_where_nothing_can_be_decoded_any_more_is_told_so_in_time() {
    let (_engine, app, mut first) = changed(without_anything).await;
    for path in [stream(ID), pieces(ID)] {
        let mut reply = within(Duration::from_secs(5), "an answer", get(app.address(), &path)).await;
        assert_eq!(reply.status, 504, "{path}");
        let problem = reply.json().await;
        assert_eq!(problem["code"], "start_timeout", "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|why| why.contains("a place to start decoding")));
    }
    assert!(first.watch(Duration::from_millis(500)).await.is_none(), "who watched stays");
}

fn pieces(id: &str) -> String {
    format!("/ace/manifest.m3u8?id={id}")
}
