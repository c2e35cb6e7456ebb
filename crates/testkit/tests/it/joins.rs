//! What a joining player gets first, and that nothing is missing afterwards.

use std::time::Duration;

use acemux_sim::{AUDIO_ID, HEVC_ID, MPEG2_ID, NO_FLAGS_ID, OPEN_GOP_ID, SimOptions};
use acemux_testkit::app::{Setup, within};
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
