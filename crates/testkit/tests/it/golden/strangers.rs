//! §3.4: keys, browsers and pages of others.

use acemux_testkit::app::Setup;

use super::{HOST, Row, ask, assert_table, get, row, with_body};
use crate::{ID, stream};

const KEY: &str = "a-key-of-twenty-signs";
const CHANGE: &str = "POST /events/cleanup";
const END: &str = "POST /events/stream_ended";

/// With the right key and one more header line.
fn keyed(line: &str, more: &str) -> String {
    ask(line, &format!("X-API-KEY: {KEY}\r\n{more}\r\n"))
}

fn keys() -> Vec<Row> {
    let given = |name: &str, value: &str| ask(CHANGE, &format!("{name}: {value}\r\n"));
    let api = |value: &str| given("X-API-KEY", value);
    let auth = |value: &str| given("Authorization", value);
    let two = |first: &str, second: &str| ask(CHANGE, &format!("{first}\r\n{second}\r\n"));
    let bearer = format!("Authorization: Bearer {KEY}");
    vec![
        row(76, ask(CHANGE, ""), "401 missing_key; open"),
        row(76, ask("DELETE /api/v1/streams/1", ""), "401 missing_key; open"),
        row(77, api("a"), "401 wrong_key; open"),
        row(77, api(""), "401 wrong_key; open"),
        row(77, api(&format!("{KEY}1")), "401 wrong_key; open"),
        row(77, api(&KEY[..20]), "401 wrong_key; open"),
        row(77, api(&KEY.to_uppercase()), "401 wrong_key; open"),
        row(77, api("schl\u{fc}ssel"), "401 wrong_key; open"),
        row(77, api("\u{1f511}"), "401 wrong_key; open"),
        row(77, api(&"k".repeat(20_000)), "431 headers_too_large; open"),
        row(77, api(&"k".repeat(1 << 20)), "431 -; closed"),
        // Not read at all: whoever sends it there learns that it is missing, and where it belongs.
        row(
            78,
            ask(&format!("{CHANGE}?api_key={KEY}&key={KEY}&access_token={KEY}"), ""),
            "401 missing_key; open",
        ),
        row(79, two(&bearer, "Authorization: Bearer no"), "400 ambiguous_key; open"),
        row(79, two("Authorization: Basic no", &bearer), "400 ambiguous_key; open"),
        row(79, two(&format!("X-API-KEY: {KEY}"), &format!("X-API-KEY: {KEY}")), "400 ambiguous_key; open"),
        // Not two of a kind: the second is for a proxy in front.
        row(79, two(&format!("X-API-KEY: {KEY}"), "Authorization: Bearer no"), "200; open"),
        row(79, auth(&format!("Bearer {KEY}")), "200; open"),
        row(79, auth(&format!("Bearer  {KEY}")), "200; open"),
        row(79, auth(&format!("bearer {KEY}")), "200; open"),
        row(79, auth(&format!("BEARER {KEY} ")), "200; open"),
        row(79, auth(&format!("Basic {KEY}")), "401 missing_key; open"),
        // A cookie that nobody has been given is none.
        row(
            81,
            ask(CHANGE, &format!("Cookie: session={KEY}; key={KEY}; acemux_login={KEY}\r\n")),
            "401 missing_key; open",
        ),
    ]
}

fn pages_of_others() -> Vec<Row> {
    let evil = "Origin: https://evil.example";
    let preflight = |path: &str, more: &str| {
        ask(&format!("OPTIONS {path}"), &format!("{evil}\r\nAccess-Control-Request-Method: POST\r\n{more}"))
    };
    let private = "Access-Control-Request-Private-Network: true\r\n";
    let method = "X-HTTP-Method-Override: POST";
    let kind = |kind: &str| {
        let headers = format!("X-API-KEY: {KEY}\r\nContent-Type: {kind}\r\n");
        with_body(END, &headers, "{\"stream_id\":\"a\"}")
    };
    let named = |host: &str| get("/events").replace(HOST, &format!("Host: {host}\r\n"));
    vec![
        row(82, keyed(CHANGE, evil), "403 bad_origin; open"),
        row(82, keyed("DELETE /proxy/viewers/1", "Origin: null"), "403 bad_origin; open"),
        row(82, ask(CHANGE, &format!("Cookie: acemux_login=a\r\n{evil}\r\n")), "403 bad_origin; open"),
        row(83, keyed("POST /api/v1/scale/1", "Sec-Fetch-Site: cross-site"), "403 bad_origin; open"),
        row(83, keyed("POST /api/v1/scale/1", "Sec-Fetch-Site: same-site"), "403 bad_origin; open"),
        // Reading changes nothing, and no page of another origin sees the answer.
        row(
            83,
            ask("GET /api/v1/engines", &format!("{evil}\r\nSec-Fetch-Site: cross-site\r\n")),
            "200; open",
        ),
        row(84, kind("text/plain"), "415 unsupported_media_type; open"),
        row(84, kind("application/x-www-form-urlencoded"), "415 unsupported_media_type; open"),
        row(84, kind("multipart/form-data; boundary=a"), "415 unsupported_media_type; open"),
        row(85, preflight("/events/cleanup", ""), "405 method_not_allowed; allow: POST; open"),
        row(85, preflight("/api/v1/scale/1", private), "405 method_not_allowed; allow: POST; open"),
        row(85, preflight(&stream(ID), private), "204; -access-control-allow-private-network; open"),
        row(86, named("evil.example"), "421 bad_host; open"),
        row(86, named("127.0.0.1.nip.io"), "421 bad_host; open"),
        row(86, named("a:99999"), "421 bad_host; open"),
        row(86, named("[::1"), "421 bad_host; open"),
        row(86, named("a@b"), "421 bad_host; open"),
        row(86, named(""), "421 bad_host; open"),
        row(86, named("localhost"), "200; open"),
        row(86, named("192.0.2.1:8000"), "200; open"),
        row(86, named("[2001:db8::1]"), "200; open"),
        row(87, keyed("GET /events/cleanup", method), "405 method_not_allowed; allow: POST; open"),
        row(87, ask("HEAD /scale/1", ""), "405; allow: POST; open"),
        row(87, get("/api/stop?id=1"), "404 not_found; open"),
        row(88, keyed("GET /looping-streams/clear", method), "405 method_not_allowed; allow: POST; open"),
        row(88, keyed("GET /looping-streams/clear", "X-HTTP-Method: POST"), "405 method_not_allowed; open"),
    ]
}

fn json() -> Vec<Row> {
    let post = |line: &str, body: &str| with_body(line, &format!("X-API-KEY: {KEY}\r\n"), body);
    let end = |body: &str| post(END, body);
    let keys: Vec<String> = (0..2_000).map(|n| format!("\"{n:040}\":1")).collect();
    let many = format!("{{{}}}", keys.join(","));
    let deep = format!("{{\"stream_id\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    // Nothing here has a prototype: it is one more field that nobody knows, and refused where fields are counted.
    let proto = "{\"__proto__\":{\"image\":\"evil\"}}";
    let markup = "{\"name\":\"<img src=x onerror=alert(1)>\",\"config\":{}}";
    vec![
        row(89, end("{\"stream_id\":NaN}"), "400 invalid_body; open"),
        row(89, end("{\"stream_id\":Infinity}"), "400 invalid_body; open"),
        row(89, end("{\"stream_id\":\"\\ud800\"}"), "400 invalid_body; open"),
        row(89, end("{\"stream_id\":\"a\"}trailing"), "400 invalid_body; open"),
        row(89, end("{\"stream_id\":\"a\",\"stream_id\":\"b\"}"), "400 invalid_body; open"),
        row(89, end("{'stream_id':'a'}"), "400 invalid_body; open"),
        row(89, end("{\"stream_id\":"), "400 invalid_body; open"),
        row(89, end("[\"<script>\"]"), "400 invalid_body; open"),
        row(89, end("\"<script>\""), "400 invalid_body; open"),
        row(89, end(&deep), "400 invalid_body; open"),
        row(89, end(&many), "413 body_too_large; closed"),
        row(89, post("POST /provision/acestream", proto), "400 invalid_body; open"),
        row(89, post("POST /custom-variant/templates/1", markup), "400 invalid_body; open"),
    ]
}

/// Each table asks a service of its own: not more wrong keys than anybody may give.
#[tokio::test(flavor = "multi_thread")]
async fn keys_browsers_and_pages_of_others_are_answered_as_documented() {
    for rows in [keys(), pages_of_others(), json()] {
        let app = Setup::new().set("API_KEY", KEY).start().await;
        assert_table(app.address(), rows).await;
    }
}
