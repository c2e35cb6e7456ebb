//! §3.3: playlists and segments of HLS. Rows 73 to 75 have no place here: no playlist of an engine is read, and there are no
//! tools for lists of channels.

use acemux_testkit::HlsViewer;
use acemux_testkit::app::Setup;

use super::{Row, assert_table, get, row};
use crate::ID;

const OTHER: &str = "0123456789abcdef0123456789abcdef";
const CHANNEL: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

fn rows(viewer: &HlsViewer) -> Vec<Row> {
    let piece = |name: &str| get(&viewer.path(name));
    let token = viewer.path("").trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let tampered = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    let newest = viewer.newest();
    vec![
        row(67, piece(".ts"), "400 invalid_param; open"),
        row(67, piece("-1.ts"), "400 invalid_param; open"),
        row(67, piece("abc.ts"), "400 invalid_param; open"),
        row(67, piece("1e3.ts"), "400 invalid_param; open"),
        row(67, piece("00001.ts"), "400 invalid_param; open"),
        row(67, piece("18446744073709551616.ts"), "400 invalid_param; open"),
        row(68, piece("999999.ts"), "404 segment_gone; open"),
        row(68, piece("18446744073709551615.ts"), "404 segment_gone; open"),
        row(
            69,
            piece(&format!("{newest}.ts?url=http://127.0.0.1:1/x")),
            "200; content-type: video/mp2t; open",
        ),
        row(69, get("/ace/hls/segment?stream=x&url=http://127.0.0.1:1/"), "404 not_found; open"),
        row(70, get(&format!("/ace/hls/{CHANNEL}/{OTHER}/index.m3u8")), "403 bad_token; open"),
        row(70, get(&format!("/ace/hls/{CHANNEL}/{OTHER}/0.ts")), "403 bad_token; open"),
        row(70, get(&format!("/ace/hls/{ID}/{tampered}/0.ts")), "403 bad_token; open"),
        row(70, get(&format!("/ace/hls/{CHANNEL}/{token}/index.m3u8")), "403 bad_token; open"),
        row(70, get(&format!("/ace/hls/{ID}/{}/index.m3u8", "A".repeat(7000))), "403 bad_token; open"),
        row(70, get("/ace/hls/x/y/index.m3u8"), "403 bad_token; open"),
        // As they were before the channel stood in them.
        row(70, get(&format!("/ace/hls/{OTHER}/index.m3u8")), "404 not_found; open"),
        row(71, get("/ace/hls/../0.ts"), "404 not_found; open"),
        row(71, get("/ace/hls/%2e%2e/0.ts"), "404 not_found; open"),
        row(71, piece("../../../etc/passwd"), "404 not_found; open"),
        row(71, piece("%2e%2e%2fpasswd"), "404 not_found; open"),
        row(71, piece("%5c..%5cpasswd"), "404 not_found; open"),
        row(71, piece("0%00.ts"), "400 invalid_param; open"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_of_playlists_and_segments_are_refused() {
    let app = Setup::new().start().await;
    let mut viewer = HlsViewer::open(app.address(), ID).await;
    viewer.look().await;
    assert_table(app.address(), rows(&viewer)).await;
}
