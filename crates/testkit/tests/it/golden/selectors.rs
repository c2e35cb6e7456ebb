//! §3.2: what `/ace/getstream` and `/ace/manifest.m3u8` are asked for. What is no channel touches no engine.

use acemux_sim::infohash_of;
use acemux_testkit::app::Setup;

use super::{Row, ask, assert_table, get, row};
use crate::{ID, id};

/// The same query is asked of both pages, and by `HEAD`, which is answered alike.
fn both(number: u8, query: &str, expected: &str) -> Vec<Row> {
    let pages = ["/ace/getstream", "/ace/manifest.m3u8"];
    let rows = pages.map(|page| {
        let head = expected.split(' ').next().unwrap_or_default();
        [
            row(number, get(&format!("{page}{query}")), expected),
            row(number, ask(&format!("HEAD {page}{query}"), ""), head),
        ]
    });
    rows.into_iter().flatten().collect()
}

fn bad() -> Vec<Row> {
    let other = id(9);
    let hash = infohash_of(ID);
    let rest = &ID[1..];
    let rows: Vec<(u8, String, &str)> = vec![
        (31, String::new(), "400 missing_id"),
        (31, "?".into(), "400 missing_id"),
        (31, "?pid=1".into(), "400 missing_id"),
        (31, format!("?ID={ID}"), "400 missing_id"),
        (32, "?id=".into(), "400 missing_id"),
        (32, "?id=%20%20".into(), "400 missing_id"),
        (33, format!("?id={ID}&infohash={hash}"), "400 ambiguous_id"),
        (33, format!("?id={ID}&content_id={ID}"), "400 ambiguous_id"),
        (34, format!("?id={ID}&id={ID}"), "400 duplicate_param"),
        (34, format!("?id={ID}&id={other}"), "400 duplicate_param"),
        (35, format!("?id={rest}"), "400 invalid_id"),
        (35, format!("?id={ID}0"), "400 invalid_id"),
        (36, format!("?id=g{rest}"), "400 invalid_id"),
        (38, format!("?infohash=acestream://{hash}"), "400 invalid_id"),
        (39, format!("?id=%22{ID}%22"), "400 invalid_id"),
        (39, format!("?id=%7B{ID}%7D"), "400 invalid_id"),
        (39, format!("?id=%20{ID}"), "400 invalid_id"),
        (39, format!("?id={ID}%20"), "400 invalid_id"),
        (39, format!("?id={ID}%3F"), "400 invalid_id"),
        (40, "?id=%zz".into(), "400 bad_encoding"),
        (40, "?id=%".into(), "400 bad_encoding"),
        (40, "?id=%4".into(), "400 bad_encoding"),
        (41, "?id=%00".into(), "400 invalid_id"),
        (41, format!("?id={ID}%00"), "400 invalid_id"),
        (41, "?id=a%0d%0aSTOP".into(), "400 invalid_id"),
        (41, format!("?id={ID}%0a"), "400 invalid_id"),
        (42, "?id=%ff".into(), "400 bad_encoding"),
        (43, format!("?id=%EF%BC%91{rest}"), "400 invalid_id"),
        (43, format!("?id=%D0%B0{rest}"), "400 invalid_id"),
        (43, format!("?id={ID}%CC%81"), "400 invalid_id"),
        (43, format!("?id=%E2%80%8F{ID}"), "400 invalid_id"),
        (43, "?id=%F0%9F%93%BA".into(), "400 invalid_id"),
        (44, format!("?id=+{ID}"), "400 invalid_id"),
        (44, format!("?id=%252561{rest}"), "400 invalid_id"),
        (45, format!("?id={}", "a".repeat(6_000)), "400 invalid_id"),
        (45, format!("?id={}", "a".repeat(10_000)), "414 uri_too_long"),
        (46, "?id=../../etc/passwd".into(), "400 invalid_id"),
        (46, "?id=..%2f..".into(), "400 invalid_id"),
        (46, "?id=;ls".into(), "400 invalid_id"),
        (46, "?id='%22%3E%3Cscript%3E".into(), "400 invalid_id"),
        (47, format!("?id={ID}&direct_url=http://a/"), "400 ambiguous_id"),
        (47, format!("?url=http://a/&id={ID}"), "400 ambiguous_id"),
        (47, format!("?id={ID}&magnet=a"), "400 ambiguous_id"),
        (49, "?url=http%3A%2F%2F127.0.0.1%2F".into(), "403 selector_disabled"),
        (49, "?torrent_url=http%3A%2F%2F127.0.0.1%2F".into(), "403 selector_disabled"),
        (49, "?direct_url=http%3A%2F%2F127.0.0.1%2F".into(), "403 selector_disabled"),
        (49, "?magnet=magnet%3A%3Fxt%3Durn".into(), "403 selector_disabled"),
        (49, "?raw_data=AAAA".into(), "403 selector_disabled"),
        // There is no way to enable them.
        (50, "?url=file%3A%2F%2F%2Fetc%2Fpasswd".into(), "403 selector_disabled"),
        (51, "?url=http%3A%2F%2F169.254.169.254%2F".into(), "403 selector_disabled"),
        (52, format!("?url={}", "a".repeat(3_000)), "403 selector_disabled"),
        (53, "?magnet=magnet:?dn=x".into(), "403 selector_disabled"),
    ];
    rows.into_iter().flat_map(|(number, query, expected)| both(number, &query, expected)).collect()
}

/// What plays all the same: parameters and headers that players add, and every form of one channel.
fn odd() -> Vec<Row> {
    let plays = "200; content-type: video/mp2t; -accept-ranges; -content-encoding; -content-length";
    let with = |headers: &str| ask(&format!("GET /ace/getstream?id={ID}"), headers);
    let more = |query: &str| get(&format!("/ace/getstream?id={ID}&{query}"));
    let long = "a".repeat(8_000);
    let hops = vec!["192.0.2.1"; 500].join(", ");
    vec![
        row(19, get(&format!("/ace/getstream/?id={ID}")), plays),
        row(20, get(&format!("http://evil.example/ace/getstream?id={ID}")), plays),
        row(30, with("Accept-Encoding: gzip, br\r\n"), plays),
        row(37, get(&format!("/ace/getstream?id={}", ID.to_uppercase())), plays),
        row(37, get(&format!("/ace/getstream?id={}{}", &ID[..20], ID[20..].to_uppercase())), plays),
        row(38, get(&format!("/ace/getstream?id=acestream://{ID}")), plays),
        row(38, get(&format!("/ace/getstream?id=acestream%3A%2F%2F{ID}")), plays),
        row(
            47,
            more("mode=x&debug_options=1&product_key=k&cas=1&transcode_audio=1&manifest_p2p_wait_timeout=1"),
            plays,
        ),
        row(48, more("pid=7&sid=a"), plays),
        row(54, more("file_indexes=-1&_idx=3"), plays),
        row(54, more("file_indexes=0,,1"), plays),
        row(55, more("seekback=-1&live_delay=1e9"), plays),
        row(56, more("format=json"), plays),
        row(57, with("Range: bytes=0-\r\n"), plays),
        row(57, with("Range: bytes=5-2\r\n"), plays),
        row(57, with("Range: bytes=-1\r\n"), plays),
        row(57, with(&format!("Range: bytes={}\r\n", vec!["0-1"; 100].join(","))), plays),
        row(58, with("User-Agent: \r\n"), plays),
        row(58, with(&format!("User-Agent: {long}\r\n")), plays),
        row(58, with("User-Agent: \u{1f4fa} caf\u{e9}\tb\r\n"), plays),
        row(58, with(&format!("Referer: {long}\r\n")), plays),
        row(58, with("User-Agent: a\u{1}b\r\n"), "400 -; closed"),
        row(59, with("X-Forwarded-For: garbage, 1.2.3.4\r\n"), plays),
        row(59, with(&format!("X-Forwarded-For: {hops}\r\n")), plays),
        row(59, with("X-Forwarded-For: fe80::1%eth0\r\n"), plays),
        row(
            60,
            with("Forwarded: for=\"[::1\"\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: x\r\n"),
            plays,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_channel_is_refused_and_touches_no_engine() {
    let app = Setup::new().start().await;
    assert_table(app.address(), bad()).await;
    let counts = app.ledger.counts();
    assert_eq!((counts.starts, counts.lookups), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_players_add_is_ignored_goes_nowhere_and_all_forms_of_a_channel_are_one_session() {
    let app = Setup::new().start().await;
    assert_table(app.address(), odd()).await;
    assert_eq!(app.ledger.counts().starts, 1);
    let ledger = app.ledger.snapshot();
    let pid = ledger.sessions[0].pid.clone().expect("a player id of our own");
    assert_eq!((pid.len(), pid == "7"), (32, false));
}

/// Row 60: who is not trusted names no address of ours, and who is, the one that its client asked for.
#[tokio::test(flavor = "multi_thread")]
async fn playlists_name_no_host_whatever_a_proxy_or_a_stranger_says() {
    let app = Setup::new().set("TRUSTED_PROXIES", "127.0.0.1").start().await;
    for headers in ["", "X-Forwarded-Host: evil.example\r\n", "Forwarded: host=evil.example\r\n"] {
        let request = ask(&format!("GET /ace/manifest.m3u8?id={ID}"), headers);
        let mut reply = acemux_testkit::send(app.address(), &request).await;
        let playlist = String::from_utf8(reply.body().await.0).expect("text");
        assert!(playlist.starts_with("#EXTM3U") && !playlist.contains("://"), "{headers}: {playlist}");
    }
}
