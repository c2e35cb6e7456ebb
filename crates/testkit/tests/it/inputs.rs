//! Bad input: the stated answer, and no engine is touched.

use acemux_sim::infohash_of;
use acemux_testkit::app::Setup;
use acemux_testkit::{get, send};

use crate::{ID, id};

/// Query, status, code.
fn table() -> Vec<(String, u16, &'static str)> {
    let other = id(9);
    let hash = infohash_of(ID);
    let mut rows = vec![
        (String::new(), 400, "missing_id"),
        ("?".into(), 400, "missing_id"),
        ("?id=".into(), 400, "missing_id"),
        ("?id=%20%20".into(), 400, "missing_id"),
        (format!("?id={ID}&infohash={hash}"), 400, "ambiguous_id"),
        (format!("?id={ID}&id={ID}"), 400, "duplicate_param"),
        (format!("?id={ID}&id={other}"), 400, "duplicate_param"),
        (format!("?id={}", &ID[1..]), 400, "invalid_id"),
        (format!("?id={ID}0"), 400, "invalid_id"),
        (format!("?id=g{}", &ID[1..]), 400, "invalid_id"),
        (format!("?id=%22{ID}%22"), 400, "invalid_id"),
        (format!("?id={ID}%3F"), 400, "invalid_id"),
        (format!("?id=%20{ID}"), 400, "invalid_id"),
        (format!("?id=+{ID}"), 400, "invalid_id"),
        ("?id=%zz".into(), 400, "bad_encoding"),
        ("?id=%".into(), 400, "bad_encoding"),
        ("?id=%4".into(), 400, "bad_encoding"),
        ("?id=%ff".into(), 400, "bad_encoding"),
        ("?id=%00".into(), 400, "invalid_id"),
        ("?id=a%0d%0aSTOP".into(), 400, "invalid_id"),
        ("?id=%EF%BC%91".into(), 400, "invalid_id"),
        (format!("?id=%2561{}", &ID[1..]), 400, "invalid_id"),
        (format!("?id={}", "a".repeat(6_000)), 400, "invalid_id"),
        (format!("?id={}", "a".repeat(10_000)), 414, "uri_too_long"),
        ("?id=../../etc/passwd".into(), 400, "invalid_id"),
        ("?id=..%2f..".into(), 400, "invalid_id"),
        ("?id='%22%3E%3Cscript%3E".into(), 400, "invalid_id"),
        (format!("?id={ID}&direct_url=http://a/"), 400, "ambiguous_id"),
    ];
    for selector in ["url", "magnet", "torrent_url", "direct_url", "raw_data"] {
        rows.push((format!("?{selector}=http%3A%2F%2F127.0.0.1%2F"), 403, "selector_disabled"));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_selector_gets_its_answer_and_no_engine_is_touched() {
    let app = Setup::new().start().await;
    for (query, status, code) in table() {
        let path = format!("/ace/getstream{query}");
        let shown = &path[..path.len().min(90)];
        let mut reply = get(app.address(), &path).await;
        assert_eq!(reply.status, status, "{shown}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{shown}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{shown}");
        let problem = reply.json().await;
        assert_eq!(problem["code"], code, "{shown}");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.len() <= 200 && !detail.contains("script") && !detail.contains("passwd"), "{detail}");
        let head = send(app.address(), &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(head.status, status, "HEAD {shown}");
    }
    let counts = app.ledger.counts();
    assert_eq!((counts.starts, counts.lookups), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_players_add_are_ignored_and_never_passed_on() {
    let app = Setup::new().start().await;
    let path = format!(
        "/ace/getstream?pid=7&id={ID}&sid=a&mode=x&product_key=k&transcode_audio=1&format=redirect&_idx=3"
    );
    assert_eq!(get(app.address(), &path).await.status, 200);
    let ledger = app.ledger.snapshot();
    let pid = ledger.sessions[0].pid.clone().expect("a player id of our own");
    assert_ne!(pid, "7");
    assert_eq!(pid.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_refused_with_what_is_allowed() {
    let app = Setup::new().start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "FOO"] {
        let request =
            format!("{method} /ace/getstream?id={ID} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let mut reply = send(app.address(), &request).await;
        assert_eq!(reply.status, 405, "{method}");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{method}");
        assert_eq!(reply.json().await["code"], "method_not_allowed", "{method}");
    }
    assert_eq!(app.ledger.counts().starts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_headers_do_no_harm() {
    let app = Setup::new().start().await;
    for header in
        ["User-Agent: ", "X-Forwarded-For: garbage, 1.2.3.4", "Forwarded: for=\"[::1\"", "Referer: \u{e4}"]
    {
        let request = format!("GET /ace/getstream?id={ID} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
        assert_eq!(send(app.address(), &request).await.status, 200, "{header}");
    }
    let long = format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(17 * 1024));
    assert_eq!(send(app.address(), &long).await.status, 431);
}
