//! What a stranger may not: pages of others in somebody's browser, names that lead here, and whoever has no key.

use std::net::Ipv4Addr;

use acemux_sim::infohash_of;
use acemux_testkit::app::{Setup, until};
use acemux_testkit::http::{connect_from, send_over};
use acemux_testkit::rawengine::{Act, RawEngine, start_fields};
use acemux_testkit::{TestApp, get, send};
use serde_json::{Value, json};

use crate::{ID, stream};

/// What changes something, with what each accepts.
const CHANGES: [(&str, &str); 26] = [
    ("POST", "/scale/1"),
    ("POST", "/provision/acestream"),
    ("DELETE", "/containers/0"),
    ("POST", "/health/circuit-breaker/reset"),
    ("POST", "/proxy/sessions/0/move"),
    ("DELETE", "/proxy/viewers/1"),
    ("POST", "/events/cleanup"),
    ("POST", "/events/stream_started"),
    ("POST", "/events/stream_ended"),
    ("POST", "/looping-streams/clear"),
    ("DELETE", "/looping-streams/0"),
    ("POST", "/stream-loop-detection/config?enabled=true"),
    ("POST", "/custom-variant/config"),
    ("POST", "/custom-variant/reprovision"),
    ("POST", "/custom-variant/templates/1"),
    ("PATCH", "/custom-variant/templates/1/rename"),
    ("POST", "/custom-variant/templates/1/activate"),
    ("POST", "/settings/import"),
    ("PATCH", "/api/v1/settings"),
    ("PUT", "/api/v1/settings/STALL_TIMEOUT"),
    ("DELETE", "/api/v1/settings/STALL_TIMEOUT"),
    ("PUT", "/api/v1/names"),
    ("DELETE", "/api/v1/names?address=127.0.0.1"),
    ("PUT", "/api/v1/channels/names/0000000000000000000000000000000000000001"),
    ("DELETE", "/api/v1/channels/names/0000000000000000000000000000000000000001"),
    ("PUT", "/no/such/page"),
];

/// Status and code of the answer to a request with these header lines.
async fn ask(app: &TestApp, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut reply = send(app.address(), &request).await;
    let page = reply.body().await.0;
    (reply.status, serde_json::from_slice::<Value>(&page).unwrap_or_default()["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_changes_nothing_whatever_it_asks_for() {
    let app = Setup::new().start().await;
    let host = app.address();
    let foreign = [
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://{}:1\r\n", host.ip()),
        format!("Origin: http://{host}\r\nSec-Fetch-Site: cross-site\r\n"),
        "Sec-Fetch-Site: same-site\r\n".to_owned(),
        "Origin: https://evil.example\r\nX-Forwarded-Host: evil.example\r\n".to_owned(),
        "Origin: https://evil.example\r\nX-API-KEY: some-key-of-no-use\r\n".to_owned(),
        "Origin: https://evil.example\r\nX-HTTP-Method-Override: GET\r\n".to_owned(),
    ];
    for (method, path) in CHANGES {
        for prefix in ["", "/api/v1"] {
            for headers in &foreign {
                let headers = format!("Host: {host}\r\n{headers}");
                for (body, kind) in [("", ""), ("{}", "Content-Type: application/json\r\n")] {
                    let path = format!("{prefix}{path}");
                    let answer = ask(&app, method, &path, &format!("{headers}{kind}"), body).await;
                    assert_eq!(answer, (403, "bad_origin".into()), "{method} {path} with {headers}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_no_json_and_json_from_our_own_pages_or_a_script_passes() {
    let app = Setup::new().start().await;
    let host = app.address();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", ""] {
        for (method, path) in CHANGES {
            let headers = format!("Host: {host}\r\nContent-Type: {kind}\r\n");
            let answer = ask(&app, method, path, &headers, "{\"stream_id\":\"a\"}").await;
            assert_eq!(answer, (415, "unsupported_media_type".into()), "{method} {path} with {kind}");
        }
    }
    let json = "Content-Type: Application/JSON; charset=utf-8\r\n";
    for own in [String::new(), format!("Origin: http://{host}\r\nSec-Fetch-Site: same-origin\r\n")] {
        let headers = format!("Host: {host}\r\n{own}{json}");
        let answer = ask(&app, "POST", "/events/stream_ended", &headers, "{\"stream_id\":\"a\"}").await;
        assert_eq!(answer.0, 200, "{own}");
    }
    // As curl does it when everything stands in the query.
    let bare = format!("Host: {host}\r\n");
    for path in [
        "/events/cleanup",
        "/looping-streams/clear",
        "/stream-loop-detection/config?enabled=true&threshold_seconds=60",
    ] {
        assert_eq!(ask(&app, "POST", path, &bare, "").await.0, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_preflight_is_allowed_nothing_but_media_and_no_read_changes_anything() {
    let app = Setup::new().start().await;
    let preflight = |path: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: {}\r\nOrigin: https://evil.example\r\n\
             Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n",
            app.address()
        )
    };
    for (_, path) in CHANGES {
        let reply = send(app.address(), &preflight(path)).await;
        assert!(matches!(reply.status, 403..=405), "{path}: {}", reply.status);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
    let media = send(app.address(), &preflight("/ace/getstream")).await;
    assert_eq!(media.header("access-control-allow-origin"), Some("*"));
    assert_eq!(media.header("access-control-allow-credentials"), None);
    for (method, path) in CHANGES.into_iter().filter(|(method, _)| *method == "POST") {
        let override_it = format!("Host: {}\r\nX-HTTP-Method-Override: {method}\r\n", app.address());
        for get in ["GET", "HEAD"] {
            let (status, _) = ask(&app, get, path, &override_it, "").await;
            let reads = path.contains("config") || path.contains("templates/1");
            assert!(matches!(status, 404 | 405) || reads, "{get} {path}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_it_is_and_whether_it_may_be_kept() {
    let app = Setup::new().start().await;
    let pages = [
        "/proxy/status",
        "/api/v1/engines",
        "/events",
        "/orchestrator/status",
        "/custom-variant/config",
        "/livez",
        "/readyz",
        "/metrics",
        "/health",
        "/no/such/page",
        "/ace/getstream",
        &stream(ID),
        &format!("/ace/manifest.m3u8?id={ID}"),
    ];
    for path in pages {
        for method in ["GET", "HEAD", "OPTIONS", "POST", "TRACE"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n\r\n", app.address());
            let reply = send(app.address(), &request).await;
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{method} {path}");
            // Media is no page; whatever else is ours loads nothing, runs nothing and stands in no frame.
            let policy = reply.header("content-security-policy");
            let nothing = Some("default-src 'none'; frame-ancestors 'none'");
            assert_eq!(policy, nothing.filter(|_| !path.starts_with("/ace/")), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_no_page_whatever_the_engine_calls_it() {
    for (word, expected) in [
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("Video/MP4; codecs=avc1", "video/mp4"),
    ] {
        let mut fields = start_fields(&infohash_of(ID));
        fields["is_live"] = json!(0);
        let engine = RawEngine::start(move |target| {
            if target.starts_with("/ace/getstream") {
                return Some(Act::json(&json!({ "response": fields, "error": null })));
            }
            let script = "<script>fetch('/events/cleanup', {method: 'POST'})</script>";
            target.starts_with("/ace/r/").then(|| Act::page(word, script))
        });
        let engine = engine.await;
        let app = Setup::with_engines([]).engine_at(engine.address()).start().await;
        let reply = get(app.address(), &stream(ID)).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(expected)), "{word}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_this_machine_has_no_right_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    let shipped = Setup::new().set("OPERATOR_WITHOUT_KEY", "off").set("DB_PATH", database);
    let app = shipped.start().await;
    let key = std::fs::read_to_string(folder.path().join("api-key")).expect("it was made");
    let host = "Host: localhost\r\n";
    let with_key = format!("{host}X-API-KEY: {}\r\n", key.trim_end());
    let foreign = format!("{with_key}Origin: https://evil.example\r\n");
    let changes = CHANGES.into_iter().filter(|(_, path)| *path != "/no/such/page");
    for (n, (method, path)) in changes.enumerate() {
        // What is there only is at no second place.
        let places = if path.starts_with("/api/v1") { &[""][..] } else { &["", "/api/v1"] };
        for prefix in places {
            let path = format!("{prefix}{path}");
            let without = ask(&app, method, &path, host, "").await;
            assert_eq!(without, (401, "missing_key".into()), "{method} {path}");
            // Not more often than anybody may be wrong.
            if prefix.is_empty() && n < 15 {
                let wrong = ask(&app, method, &path, &format!("{host}X-API-KEY: no\r\n"), "").await;
                assert_eq!(wrong, (401, "wrong_key".into()), "{method} {path}");
            }
            let (status, _) = ask(&app, method, &path, &with_key, "").await;
            assert!(!matches!(status, 401 | 403), "{method} {path}: {status}");
            assert_eq!(
                ask(&app, method, &path, &foreign, "").await.0,
                403,
                "{method} {path}: no page has a key"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_this_machine_nothing_that_a_proxy_passed_on_is_the_operators() {
    let app = Setup::new().set("OPERATOR_WITHOUT_KEY", "loopback").start().await;
    let ask_with = async |more: &str| {
        ask(&app, "POST", "/events/cleanup", &format!("Host: {}\r\n{more}", app.address()), "").await.0
    };
    assert_eq!(ask_with("").await, 200);
    for header in [
        "Forwarded: for=192.0.2.1",
        "Via: 1.1 proxy",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Server: a",
        "X-Real-IP: 127.0.0.1",
        "CF-Connecting-IP: 192.0.2.1",
        "True-Client-IP: 192.0.2.1",
        "X-Client-IP: 192.0.2.1",
    ] {
        assert_eq!(ask_with(&format!("{header}\r\n")).await, 401, "{header}");
    }
}

/// Pages that only our own names lead to, and what is answered under every name.
const PAGES: [&str; 6] =
    ["/proxy/status", "/api/v1/proxy/status", "/events", "/metrics", "/health", "/no/such/page"];
const FOR_EVERYBODY: [&str; 2] = ["/livez", "/readyz"];

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_stranger_can_own_leads_to_no_page() {
    let app = Setup::new().set("API_KEY", "a-key-of-twenty-signs").start().await;
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let bad_host = (421, Value::from("bad_host"));
    for name in [
        "evil.example",
        "127.0.0.1.nip.io:8000",
        "a:99999",
        "[::1",
        "[::1]evil.example",
        "a@b",
        "a, b",
        "\u{fc}",
    ] {
        let headers = format!("Host: {name}\r\n");
        for path in PAGES {
            assert_eq!(ask(&app, "GET", path, &headers, "").await, bad_host, "{path} at {name}");
        }
        assert_eq!(ask(&app, "POST", "/scale/1", &headers, "").await, bad_host, "{name}");
        let wrong = format!("{headers}X-API-KEY: no\r\n");
        assert_eq!(ask(&app, "GET", "/events", &wrong, "").await, bad_host, "{name}");
        let right = format!("{headers}X-API-KEY: a-key-of-twenty-signs\r\n");
        assert_eq!(
            ask(&app, "GET", "/events", &right, "").await.0,
            200,
            "whoever has the key is no page: {name}"
        );
        for path in FOR_EVERYBODY {
            assert_eq!(ask(&app, "GET", path, &headers, "").await.0, 200, "{path} at {name}");
        }
        let media = send(app.address(), &format!("GET {} HTTP/1.1\r\n{headers}\r\n", stream(ID))).await;
        assert_eq!(media.status, 200, "{name}");
    }
    let absolute = "http://evil.example/events";
    assert_eq!(ask(&app, "GET", absolute, "Host: localhost\r\n", "").await, bad_host);
    let named = "GET /events HTTP/1.1\r\nHost: tv.example\r\nConnection: close\r\n\r\n";
    let problem = send(app.address(), named).await.json().await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("ALLOWED_HOSTS")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_here_by_themselves_or_are_listed_are_served() {
    let listed = Setup::new().set("ALLOWED_HOSTS", "tv.example, IPTV.example.com");
    let app = listed.set("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("it has a name");
    for name in [
        "localhost:8000",
        "127.0.0.1:8000",
        "192.0.2.1",
        "[::1]:8000",
        "[2001:db8::1]",
        "orchestrator:8000",
        "acemux:8000",
        "acemux",
        "box.local",
        "Box.LAN:8000",
        "box.home",
        "box.internal",
        "box.localdomain",
        "box.home.arpa",
        "tv.example",
        "iptv.EXAMPLE.com:443",
        own.trim(),
    ] {
        let media = stream(ID);
        for path in ["/proxy/status", "/api/v1/engines", "/metrics", "/livez"] {
            let status = ask(&app, "GET", path, &format!("Host: {name}\r\n"), "").await.0;
            assert_eq!(status, 200, "{path} at {name}");
        }
        let request = format!("GET {media} HTTP/1.1\r\nHost: {name}\r\n\r\n");
        assert_eq!(send(app.address(), &request).await.status, 200, "media at {name}");
    }
    let forwarded = |name: &str| format!("Host: localhost\r\nX-Forwarded-Host: {name}\r\n");
    assert_eq!(ask(&app, "GET", "/events", &forwarded("tv.example"), "").await.0, 200);
    assert_eq!(ask(&app, "GET", "/events", &forwarded("evil.example"), "").await.0, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host_unless_it_is_older_than_the_rule() {
    let app = Setup::new().start().await;
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let ambiguous = (400, Value::from("ambiguous_host"));
    let media = stream(ID);
    for path in PAGES.into_iter().chain(FOR_EVERYBODY).chain([media.as_str()]) {
        let two = "Host: localhost\r\nHost: localhost\r\n";
        assert_eq!(ask(&app, "GET", path, two, "").await, ambiguous, "{path}");
    }
    for path in &PAGES[..5] {
        assert_eq!(ask(&app, "GET", path, "", "").await, ambiguous, "{path}");
        let old = send(app.address(), &format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(old.status, 200, "{path}");
    }
    for path in FOR_EVERYBODY.into_iter().chain([media.as_str()]) {
        let old = send(app.address(), &format!("GET {path} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(old.status, 200, "{path}");
    }
}

const KEY: &str = "a-key-of-twenty-signs";

/// Row 80 of the fault catalogue.
#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_wrong_keys_none_is_looked_at_from_there_and_elsewhere_nothing_changes() {
    let app = Setup::new().set("API_KEY", KEY).set("TRUSTED_PROXIES", "127.0.0.9").start().await;
    let give = |key: &str, more: &str| {
        format!("GET /proxy/status HTTP/1.1\r\nHost: localhost\r\n{more}X-API-KEY: {key}\r\n\r\n")
    };
    let page = "POST /events/cleanup HTTP/1.1\r\nHost: localhost\r\n";
    let change = |key: &str, more: &str| format!("{page}{more}X-API-KEY: {key}\r\n\r\n");
    let from = async |local: Ipv4Addr, request: &str| {
        send_over(connect_from(local, app.address()).await, request).await
    };
    let [guesser, home, proxy] = [1, 2, 9].map(|n| Ipv4Addr::new(127, 0, 0, n));
    for _ in 0..20 {
        assert_eq!(from(guesser, &change("no", "")).await.status, 401);
    }
    // Neither another page nor another name is another way to guess.
    let by_name = change(KEY, "").replace("localhost", "evil.example");
    for request in [change("no", ""), change(KEY, ""), by_name] {
        let mut locked = from(guesser, &request).await;
        let wait: u64 = locked.header("retry-after").expect("when to come back").parse().expect("seconds");
        assert_eq!((locked.status, (1..=3).contains(&wait)), (429, true));
        assert_eq!(locked.json().await["code"], "too_many_requests");
    }
    assert_eq!(from(guesser, &give(KEY, "")).await.status, 200, "pages for everybody look at no key");
    assert_eq!(from(home, &change(KEY, "")).await.status, 200);
    // Behind a trusted proxy each client is its own.
    let client = |n: u8| format!("X-Forwarded-For: 192.0.2.{n}\r\n");
    for _ in 0..20 {
        assert_eq!(from(proxy, &change("no", &client(1))).await.status, 401);
    }
    assert_eq!(from(proxy, &change(KEY, &client(1))).await.status, 429);
    assert_eq!(from(proxy, &change(KEY, &client(2))).await.status, 200);
    let metrics = String::from_utf8(get(app.address(), "/metrics").await.body().await.0).expect("text");
    for line in ["acemux_keys_wrong_total 40", "acemux_keys_unseen_total 4"] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
}
