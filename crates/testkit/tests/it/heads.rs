//! Rows 6, 11, 16, 17, 21, 24 to 26 and 28 of the fault catalogue, byte for byte, as they are answered. Where the catalogue wants
//! another answer, decision 14 says why this is the one.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_testkit::app::{Setup, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HOST: &str = "Host: localhost\r\n";
const CHUNKED: &str = "11\r\n{\"stream_id\":\"a\"}\r\n0\r\n\r\n";
const BODY: &str = "{\"stream_id\":\"a\"}";
/// Answered only by a connection that is still open.
const NEXT: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A change with these header lines and this body.
fn change(headers: &str, body: &str) -> String {
    format!(
        "POST /events/stream_ended HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n{headers}\r\n{body}"
    )
}

fn ask(line: &str) -> String {
    format!("{line} HTTP/1.1\r\n{HOST}\r\n")
}

/// Every status that comes back on one connection, to `request`, to `rest` after its first answer, and to one more request.
async fn statuses(address: SocketAddr, request: &str, rest: &str) -> Vec<u16> {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let mut said = Vec::new();
    // The answer may come, and the connection end, before all is sent.
    let _refused = socket.write_all(request.as_bytes()).await;
    while !said.windows(4).any(|end| end == b"\r\n\r\n") {
        if within(Duration::from_secs(5), request, socket.read_buf(&mut said)).await.unwrap_or(0) == 0 {
            break;
        }
    }
    let _closed = socket.write_all(format!("{rest}{NEXT}").as_bytes()).await;
    // A reset is an end too.
    let _ended = within(Duration::from_secs(5), request, socket.read_to_end(&mut said)).await;
    let said = String::from_utf8(said).expect("our answers are text");
    let lines = said.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line[..3].parse().expect("a status")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_parsers_disagree_about_are_answered_as_decided() {
    let app = Setup::new().start().await;
    let both = [
        "Content-Length: 17\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ];
    let codings = |lines: &str| change(lines, CHUNKED);
    let long = |length: usize| ask(&format!("GET /events?a={}", "a".repeat(length)));
    let after = |ends: usize| format!("{}{}", "\r\n".repeat(ends), ask("GET /events"));
    let table: Vec<(&str, String, &[u16])> = vec![
        ("6, by the chunks and then closed", change(both[0], CHUNKED), &[200]),
        ("6, in the other order", change(both[1], CHUNKED), &[200]),
        ("chunked alone", codings("Transfer-Encoding: Chunked\r\n"), &[200, 200]),
        ("11", codings("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), &[400]),
        ("11", codings("Transfer-Encoding: ,chunked\r\n"), &[400]),
        ("11", codings("Transfer-Encoding: chunked, chunked\r\n"), &[400]),
        ("11", codings("Transfer-Encoding: gzip, chunked\r\n"), &[400]),
        ("11", codings("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), &[400]),
        ("10, of hyper", codings("Transfer-Encoding: chunked, identity\r\n"), &[400]),
        ("16, what fits", long(8_000), &[200, 200]),
        ("16", long(10_000), &[414, 200]),
        ("16, beyond what is read", long(70_000), &[431]),
        ("17, of hyper", ask("GET /events?a b"), &[400]),
        ("17", ask("GET /events?a=\u{fc}"), &[400, 200]),
        ("17", ask("GET /\u{1f4fa}"), &[400, 200]),
        ("21", ask("CONNECT localhost:80"), &[405, 200]),
        ("21, by name", ask("CONNECT evil.example:443"), &[421, 200]),
        ("21", ask("OPTIONS *"), &[405, 200]),
        ("21", ask("TRACE /events"), &[405, 200]),
        ("21", ask("TRACE /no/such/page"), &[405, 200]),
        ("21", ask("get /events"), &[405, 200]),
        ("21", ask("FOO /no/such/page"), &[405, 200]),
        ("24", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), &[]),
        (
            "25",
            format!("GET /events HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
            &[200, 200],
        ),
        (
            "25",
            format!("GET /events HTTP/1.1\r\n{HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
            &[200, 200],
        ),
        ("26, another", change("Expect: 200-maybe\r\nContent-Length: 17\r\n", BODY), &[417, 200]),
        ("26, of a page", format!("GET /events HTTP/1.1\r\n{HOST}Expect: a\r\n\r\n"), &[417, 200]),
        ("28, some", after(4), &[200, 200]),
        ("28, as many as a head may have", after(10_000), &[200, 200]),
        ("28, more", after(20_000), &[431]),
    ];
    for (row, request, expected) in table {
        let shown: String = request.trim_start().chars().take(120).collect();
        assert_eq!(statuses(app.address(), &request, "").await, expected, "row {row}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_when_it_will_be_read_and_not_before() {
    let app = Setup::new().set("API_KEY", "a-key-of-twenty-signs").start().await;
    let expecting = |more: &str| change(&format!("Expect: 100-continue\r\n{more}"), "");
    let key = "X-API-KEY: a-key-of-twenty-signs\r\n";
    let table: [(String, &str, &[u16]); 5] = [
        (expecting(&format!("{key}Content-Length: 17\r\n")), BODY, &[100, 200, 200]),
        (expecting(&format!("{key}Transfer-Encoding: chunked\r\n")), CHUNKED, &[100, 200, 200]),
        (expecting("Content-Length: 17\r\n"), "", &[401]),
        (expecting("X-API-KEY: no\r\nContent-Length: 17\r\n"), "", &[401]),
        (expecting(&format!("{key}Content-Length: 100000\r\n")), "", &[413]),
    ];
    for (request, body, expected) in table {
        assert_eq!(statuses(app.address(), &request, body).await, expected, "{request}");
    }
}
