//! §3.1: what HTTP parsers disagree about. Where the catalogue wants another answer, decision 14 says why this is the one.

use acemux_testkit::app::{Setup, until};

use super::{HOST, Row, ask, assert_table, get, row, with_body};
use crate::{ID, stream};

const CHUNKED: &str = "11\r\n{\"stream_id\":\"a\"}\r\n0\r\n\r\n";
const BODY: &str = "{\"stream_id\":\"a\"}";
const END: &str = "POST /events/stream_ended";

/// A change with these header lines and this body, framed by nobody else.
fn change(headers: &str, body: &str) -> String {
    format!("{END} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n{headers}\r\n{body}")
}

/// So many header lines, the host among them.
fn lines(count: usize) -> String {
    (1..count).fold(String::new(), |lines, n| lines + &format!("X-{n}: a\r\n"))
}

/// What a browser says first when it is told `https`.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03\x8a\x0d\x0a\x20\x48\x54\x54\x50\x0d\x0a\x0d\x0a";

fn hosts_and_versions() -> Vec<Row> {
    let media = stream(ID);
    let two = "Host: localhost\r\nHost: localhost\r\n";
    vec![
        row(1, "GET /events HTTP/1.1\r\n\r\n", "400 ambiguous_host; open"),
        row(1, "POST /scale/1 HTTP/1.1\r\n\r\n", "400 ambiguous_host; open"),
        row(1, "GET /livez HTTP/1.1\r\n\r\n", "200; open"),
        row(1, format!("HEAD {media} HTTP/1.1\r\n\r\n"), "200; content-type: video/mp2t"),
        row(2, format!("GET /events HTTP/1.1\r\n{two}\r\n"), "400 ambiguous_host; open"),
        row(2, format!("GET /livez HTTP/1.1\r\n{two}\r\n"), "400 ambiguous_host; open"),
        row(2, format!("GET {media} HTTP/1.1\r\n{two}\r\n"), "400 ambiguous_host; open"),
        row(3, "GET /events HTTP/1.0\r\n\r\n", "200; closed"),
        row(3, "GET /livez HTTP/1.0\r\n\r\n", "200; closed"),
        row(4, "GET /events\r\n\r\n", "400 -; closed"),
        row(4, get("/events").replace("1.1", "1.32"), "400 -; closed"),
        row(4, get("/events").replace("1.1", "2.0"), "400 -; closed"),
        row(4, CLIENT_HELLO, "400 -; closed"),
        row(5, get("/events").replace("\r\n", "\n"), "200; open"),
        row(20, get("http://evil.example/events"), "421 bad_host; open"),
        row(20, get("http://localhost/events").replace(HOST, "Host: evil.example\r\n"), "200; open"),
        row(20, ask("HEAD http://evil.example/ace/getstream", ""), "400; open"),
        row(24, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "nothing"),
    ]
}

fn framing() -> Vec<Row> {
    let both = [
        "Content-Length: 17\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ];
    let length = |value: &str| change(&format!("Content-Length: {value}\r\n"), BODY);
    let coded = |lines: &str| change(lines, CHUNKED);
    let chunk = |body: &str| change("Transfer-Encoding: chunked\r\n", body);
    vec![
        // By the chunks and then closed.
        row(6, coded(both[0]), "200; closed"),
        row(6, coded(both[1]), "200; closed"),
        row(7, change("Content-Length: 17\r\nContent-Length: 18\r\n", BODY), "400 -; closed"),
        row(7, length("17, 18"), "400 -; closed"),
        row(8, length("+17"), "400 -; closed"),
        row(8, length("-1"), "400 -; closed"),
        row(8, length("0x11"), "400 -; closed"),
        row(8, length(""), "400 -; closed"),
        row(8, length("18446744073709551616"), "400 -; closed"),
        row(8, change("Content-Length : 17\r\n", BODY), "400 -; closed"),
        row(9, length("99999999999"), "413 body_too_large; closed"),
        row(10, coded("Transfer-Encoding: xchunked\r\n"), "400 -; closed"),
        row(10, coded("Transfer-Encoding: chunked, identity\r\n"), "400 -; closed"),
        row(10, coded("Transfer-Encoding: chunked\r\n").replace("1.1", "1.0"), "400 -; closed"),
        row(11, coded("Transfer-Encoding: Chunked\r\n"), "200; open"),
        row(
            11,
            coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            "400 bad_framing; closed",
        ),
        row(11, coded("Transfer-Encoding: ,chunked\r\n"), "400 bad_framing; closed"),
        row(11, coded("Transfer-Encoding: chunked, chunked\r\n"), "400 bad_framing; closed"),
        row(11, coded("Transfer-Encoding: gzip, chunked\r\n"), "400 bad_framing; closed"),
        row(
            11,
            coded("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
            "400 bad_framing; closed",
        ),
        row(12, chunk("1_1\r\n{\"stream_id\":\"a\"}\r\n0\r\n\r\n"), "400 invalid_body; closed"),
        row(12, chunk("ffffffffffffffffff\r\n{}"), "400 invalid_body; closed"),
        row(12, chunk("11\n{\"stream_id\":\"a\"}\n0\n\n"), "400 invalid_body; closed"),
        row(27, with_body(END, "", &"x".repeat(3 << 20)), "413 body_too_large; closed"),
    ]
}

fn sizes() -> Vec<Row> {
    let long = |length: usize| get(&format!("/events?a={}", "a".repeat(length)));
    let wide = |length: usize| ask("GET /events", &format!("X: {}\r\n", "a".repeat(length)));
    let after = |ends: usize| format!("{}{}", "\r\n".repeat(ends), get("/events"));
    vec![
        row(14, ask("GET /events", &lines(64)), "200; open"),
        row(14, ask("GET /events", &lines(65)), "431 -; closed"),
        row(14, ask("GET /events", &lines(150)), "431 -; closed"),
        row(15, wide(16_000), "200; open"),
        row(15, wide(20_000), "431 headers_too_large; open"),
        row(15, wide(500_000), "431 -; closed"),
        row(16, long(8_000), "200; open"),
        row(16, long(10_000), "414 uri_too_long; open"),
        // Beyond what is read of a head.
        row(16, long(70_000), "431 -; closed"),
        row(28, after(4), "200; open"),
        // As many as a head may have bytes.
        row(28, after(10_000), "200; open"),
        row(28, after(20_000), "431 -; closed"),
    ]
}

fn lines_and_names() -> Vec<Row> {
    let odd = |line: &[u8]| [b"GET /events HTTP/1.1\r\nHost: localhost\r\n", line, b"\r\n\r\n"].concat();
    vec![
        row(13, odd(b"X: a\r\n b"), "400 -; closed"),
        row(13, odd(b"X: a\0b"), "400 -; closed"),
        row(13, odd(b"X: a\rb"), "400 -; closed"),
        row(13, odd(b"Na me: a"), "400 -; closed"),
        row(13, odd(b"no colon"), "400 -; closed"),
        row(13, odd(b"\xff: a"), "400 -; closed"),
        row(17, get("/events?a b"), "400 -; closed"),
        row(17, get("/events?a=\u{fc}"), "400 bad_encoding; open"),
        row(17, get("/\u{1f4fa}"), "400 bad_encoding; open"),
        // The page that is meant, and what it lacks.
        row(18, get("//ace/getstream"), "400 missing_id; open"),
        row(18, get("/ace/%67etstream"), "400 missing_id; open"),
        row(18, get("//ACE/getstream"), "404 not_found; open"),
        row(18, get("/ace/%2567etstream"), "404 not_found; open"),
        row(18, get("//ace/../engines"), "404 not_found; open"),
        row(18, get("/ace/../ace/getstream"), "404 not_found; open"),
        row(18, get("/ACE/getstream"), "404 not_found; open"),
        row(18, get("//events"), "404 not_found; open"),
        row(18, get("/events/"), "404 not_found; open"),
        row(19, ask(&format!("HEAD /ace/getstream/?id={ID}"), ""), "200; content-type: video/mp2t; open"),
        row(19, ask(&format!("HEAD /ace/getstream.ts?id={ID}"), ""), "200; content-type: video/mp2t; open"),
    ]
}

fn methods() -> Vec<Row> {
    let reads = "allow: GET,HEAD";
    vec![
        row(21, get("x").replace("GET x", "CONNECT localhost:80"), "405 method_not_allowed; open"),
        row(21, get("x").replace("GET x", "CONNECT evil.example:443"), "421 bad_host; open"),
        row(21, ask("OPTIONS *", ""), "405 method_not_allowed; open"),
        row(21, ask("TRACE /events", ""), format!("405 method_not_allowed; {reads}; open")),
        row(21, ask("TRACE /no/such/page", ""), "405 method_not_allowed; open"),
        row(21, ask("get /events", ""), format!("405 method_not_allowed; {reads}; open")),
        row(21, ask("FOO /no/such/page", ""), "405 method_not_allowed; open"),
        row(
            22,
            ask(&format!("HEAD {}", stream(ID)), ""),
            "200; content-type: video/mp2t; -content-length; open",
        ),
        row(23, ask("POST /events", ""), format!("405 method_not_allowed; {reads}; open")),
        row(23, ask("PUT /proxy/status", ""), format!("405 method_not_allowed; {reads}; open")),
        row(23, ask("DELETE /api/v1/engines", ""), format!("405 method_not_allowed; {reads}; open")),
        row(
            23,
            ask(&format!("POST {}", stream(ID)), ""),
            "405 method_not_allowed; allow: GET,HEAD,OPTIONS; open",
        ),
        row(25, ask("GET /events", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), "200; -upgrade; open"),
        row(25, ask("GET /events", "Connection: Upgrade\r\nUpgrade: websocket\r\n"), "200; -upgrade; open"),
        row(26, change("Expect: 200-maybe\r\nContent-Length: 17\r\n", BODY), "417 expectation_failed; open"),
        row(26, ask("GET /events", "Expect: a\r\n"), "417 expectation_failed; open"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_parsers_disagree_about_are_answered_as_decided() {
    let app = Setup::new().start().await;
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let tables = [hosts_and_versions(), framing(), sizes(), lines_and_names(), methods()];
    assert_table(app.address(), tables.into_iter().flatten()).await;
    let counts = app.ledger.counts();
    assert_eq!((counts.starts, counts.lookups), (0, 0), "no engine has heard of any of it");
}

/// Row 26: what is expected is said when the body will be read, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_when_it_will_be_read_and_not_before() {
    let app = Setup::new().set("API_KEY", "a-key-of-twenty-signs").start().await;
    let expecting = |more: &str| change(&format!("Expect: 100-continue\r\n{more}"), "");
    let key = "X-API-KEY: a-key-of-twenty-signs\r\n";
    let sized = expecting(&format!("{key}Content-Length: 17\r\n"));
    let chunked = expecting(&format!("{key}Transfer-Encoding: chunked\r\n"));
    let rows = [
        row(26, sized.clone(), "100"),
        row(26, sized, "200; open").then(BODY),
        row(26, chunked, "200; open").then(CHUNKED),
        row(26, expecting("Content-Length: 17\r\n"), "401 missing_key; closed"),
        row(26, expecting("X-API-KEY: no\r\nContent-Length: 17\r\n"), "401 wrong_key; closed"),
        row(26, expecting(&format!("{key}Content-Length: 100000\r\n")), "413 body_too_large; closed"),
    ];
    assert_table(app.address(), rows).await;
}
