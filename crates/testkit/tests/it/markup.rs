//! What strangers, engines and a Docker daemon write is text everywhere: on every page it comes as a type that no browser
//! runs, in the log and in metrics it begins no line and steers no terminal.

use std::collections::BTreeSet;
use std::time::Duration;

use acemux_server::app::surface;
use acemux_server::http::surface::{Class, Entry};
use acemux_sim::infohash_of;
use acemux_testkit::app::{until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::{Call, FakeDockerd, Fault};
use acemux_testkit::process::Process;
use acemux_testkit::rawengine::{Act, RawEngine, start_fields};
use acemux_testkit::{Reply, get, send};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::books::{STEERING, ask, assert_plain};
use crate::{ID, id, stream};

/// Runs where it is taken for a page; and all that steers who reads it.
const PROBE: &str = "<script>alert(1)</script>\u{1b}[2J\n\r\u{202e}\u{0}\u{9b}31m\u{2028}\u{feff}x";
/// As much of it as an HTTP header can hold.
const HEADER: &str = "<script>alert(1)</script>\u{202e}\u{9b}31m\u{2028}\u{200b}\"';x";
const FROM_THE_DAEMON: &str = "no such image <script>alert(1)</script>\u{1b}[2J\n\u{202e}\u{0}x";
const KEY: &str = "a-key-of-twenty-signs";
/// One never ends, the other one looks at the machine.
const NEVER_ASKED: [&str; 2] = ["/api/v1/events/live", "/api/v1/doctor"];

/// An engine that says it wherever it says anything. The second channel is a recording, the third one does not start.
async fn engine() -> RawEngine {
    RawEngine::start(|target| {
        let is_of = |channel: &str| target.contains(channel) || target.contains(&infohash_of(channel));
        if target.starts_with("/ace/getstream") && is_of(&id(3)) {
            return Some(Act::json(&json!({ "response": null, "error": PROBE })));
        }
        if target.starts_with("/ace/getstream") && is_of(&id(2)) {
            let mut fields = start_fields(&infohash_of(&id(2)));
            (fields["is_live"], fields["playback_session_id"]) = (json!(0), json!(PROBE));
            return Some(Act::json(&json!({ "response": fields, "error": null })));
        }
        if target.starts_with("/ace/r/") && is_of(&id(2)) {
            let name = format!("attachment; filename=\"{HEADER}\"");
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; <script>\r\nContent-Disposition: {name}\r\n\
                 X-Orphan: {HEADER}\r\nContent-Length: 5\r\nConnection: close\r\n\r\n<b>x "
            );
            return Some(Act::Bytes(head.into_bytes()));
        }
        if target.starts_with("/ace/stat/") {
            let stat =
                json!({ "status": PROBE, "peers": 5, "infohash": PROBE, "playback_session_id": PROBE });
            return Some(Act::json(&json!({ "response": stat, "error": null })));
        }
        let asks_version = target.contains("get_version");
        asks_version
            .then(|| Act::json(&json!({ "result": { "version": PROBE, "platform": PROBE }, "error": null })))
    })
    .await
}

/// The program on that engine, before a daemon that speaks like it and has a container of ours with such a name.
struct Scene {
    program: Process,
    /// Held for their drop.
    _rest: (RawEngine, FakeDockerd, Reply, Reply),
    /// The first two channels play.
    news: String,
}

impl Scene {
    async fn set(format: &str) -> Self {
        let engine = engine().await;
        let daemon = FakeDockerd::start(&[FAST], true);
        let ours = [("io.acemux.role", "engine"), ("io.acemux.instance", "probe"), (PROBE, PROBE)];
        daemon.add_foreign(PROBE, &ours);
        daemon.fault(Call::Create, Fault::Status(500, FROM_THE_DAEMON), 1);
        let own = [
            ("LOG_FORMAT", format),
            ("LOG_LEVEL", "debug"),
            ("API_KEY", KEY),
            ("INSTANCE_ID", "probe"),
            ("MIN_REPLICAS", "1"),
            ("PORT_RANGE_HOST", if format == "json" { "24500-24519" } else { "24520-24539" }),
        ];
        let settings: Vec<_> = own.into_iter().chain(daemon.settings()).collect();
        let program = Process::start(&[engine.address().parse().expect("an address")], &settings).await;
        let mut live = get(program.address, "/api/v1/events/live").await;
        let first = play(&program, ID).await;
        let second = play(&program, &id(2)).await;
        let refused = get(program.address, &stream(&id(3))).await;
        assert_eq!(refused.status, 502);
        write(&program, &engine).await;
        let mut news = String::new();
        let told = async {
            while !news.contains("event: log") || news.matches("event: patch").count() < 2 {
                news += std::str::from_utf8(&live.next().await.expect("it goes on")).expect("text");
            }
        };
        within(Duration::from_secs(10), "live events", told).await;
        Self { program, _rest: (engine, daemon, first, second), news }
    }
}

/// A viewer with such a name.
async fn play(program: &Process, channel: &str) -> Reply {
    let at = program.address;
    let headers = format!(
        "User-Agent: {HEADER}\r\nReferer: {HEADER}\r\nX-Forwarded-For: {HEADER}\r\nX-Request-Id: {HEADER}"
    );
    let reply =
        send(at, &format!("GET {} HTTP/1.1\r\nHost: {at}\r\n{headers}\r\n\r\n", stream(channel))).await;
    assert_eq!(reply.status, 200, "{channel}");
    for (name, value) in &reply.headers {
        assert!(!value.contains("script") && !value.contains("html"), "{name}: {value}");
    }
    reply
}

/// What an operator's programs write, and whoever guesses at addresses.
async fn write(program: &Process, engine: &RawEngine) {
    let at = program.address;
    let key = format!("X-API-KEY: {KEY}\r\nUser-Agent: {HEADER}\r\n");
    let (host, port) = engine
        .address()
        .split_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .expect("both");
    let report = |name: &str| {
        json!({
            "engine": { "host": host, "port": port.parse::<u16>().expect("a port") },
            "stream": { "key_type": "url", "key": name },
            "session": { "playback_session_id": name, "is_live": 1, "stat_url": "", "command_url": "" },
            "labels": { "stream_id": name },
        })
    };
    assert_eq!(ask(at, "POST", "/events/stream_started", &key, &report(PROBE)).await.status, 400);
    // What is a line may look like anything.
    assert_eq!(
        ask(at, "POST", "/events/stream_started", &key, &report("<script>alert(1)</script>")).await.status,
        200
    );
    let login = json!({ "key": KEY });
    assert_eq!(ask(at, "POST", "/api/v1/login", &key, &login).await.status, 204);
    let config = program.page("/custom-variant/config").await;
    let template = |name: &str| json!({ "name": name, "config": config });
    assert_eq!(ask(at, "POST", "/custom-variant/templates/1", &key, &template(PROBE)).await.status, 400);
    let named = template("<script>alert(1)</script>");
    assert_eq!(ask(at, "POST", "/custom-variant/templates/2", &key, &named).await.status, 200);
    let escaped = "%3Cscript%3E%1b%5b2J%0a%0d%E2%80%AE%00x";
    for (method, path) in [
        ("DELETE", format!("/streams/{escaped}")),
        ("DELETE", format!("/looping-streams/{escaped}")),
        ("DELETE", format!("/containers/{escaped}")),
        ("GET", format!("/{escaped}")),
        ("GET", format!("/ace/getstream?id={escaped}")),
    ] {
        let status = ask(at, method, &path, &key, &Value::Null).await.status;
        assert!(matches!(status, 400 | 404), "{method} {path}: {status}");
    }
}

/// No text in it, nor a name, is more than a line. Whether any holds markup.
fn assert_texts_are_plain(what: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => {
            assert_plain(what, text);
            text.contains("<script>")
        }
        Value::Array(values) => values.iter().filter(|value| assert_texts_are_plain(what, value)).count() > 0,
        Value::Object(fields) => {
            let marked = |(name, value): (&String, &Value)| {
                assert_plain(what, name);
                assert_texts_are_plain(&format!("{what} {name}"), value) || name.contains("<script>")
            };
            fields.iter().filter(|field| marked(*field)).count() > 0
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// One page as an operator gets it.
pub(crate) struct Shown {
    pub(crate) path: String,
    pub(crate) text: String,
    reply: Reply,
}

/// Every page there is but live events, of things that exist, asked for with this key.
pub(crate) async fn every_page(program: &Process, key: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    let reads = surface().entries().into_iter().filter(|entry| entry.method == "GET");
    for Entry { path: route, .. } in reads.filter(|entry| entry.class != Class::Media) {
        let given = |segment: &str| match segment {
            "{slot}" => "2".to_owned(),
            part if part.starts_with('{') => ID.to_owned(),
            part => part.to_owned(),
        };
        let path = route.split('/').map(given).collect::<Vec<_>>().join("/");
        if NEVER_ASKED.contains(&path.as_str()) {
            continue;
        }
        let at = program.address;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nX-API-KEY: {key}\r\n\r\n");
        let mut reply = send(at, &request).await;
        let body = within(Duration::from_secs(5), &path, reply.body()).await.0;
        shown.push(Shown { path, text: String::from_utf8_lossy(&body).into_owned(), reply });
    }
    shown
}

/// Events are written down behind whoever has brought them about.
async fn history_has_it(program: &Process) {
    let at = program.address;
    let request = format!("GET /events HTTP/1.1\r\nHost: {at}\r\nX-API-KEY: {KEY}\r\n\r\n");
    while !String::from_utf8_lossy(&send(at, &request).await.body().await.0).contains("<script>alert") {
        sleep(Duration::from_millis(50)).await;
    }
}

/// As what it comes, and what is on it. Whether markup is, as text.
fn assert_page_is_inert(page: &Shown) -> bool {
    let Shown { path, text, reply } = page;
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
    let policy = reply.header("content-security-policy").unwrap_or_default();
    let is_closed = policy.starts_with("default-src 'none'") || policy.starts_with("default-src 'self'");
    assert!(is_closed, "{path}: {policy}");
    let kind = reply.header("content-type").unwrap_or_default();
    match kind.split(';').next().unwrap_or_default() {
        "application/json" | "application/problem+json" => {
            assert_texts_are_plain(path, &serde_json::from_str(text).expect(path))
        }
        "text/plain" => {
            text.split('\n').for_each(|line| assert_plain(path, line));
            text.contains("<script>alert")
        }
        // Ours, and what others have written stands escaped in it.
        "text/html" => {
            let steering = ["<script>alert", "\u{1b}", "\u{202e}", "\0"];
            assert!(!steering.iter().any(|part| text.contains(part)), "{path}");
            text.contains("&lt;script&gt;alert")
        }
        // What a page of ours loads.
        _ => {
            assert!(text.is_empty() || path.starts_with("/panel"), "{path} is {kind:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_is_text_on_every_page_in_every_line_and_in_every_event() {
    for format in ["text", "json"] {
        let scene = Scene::set(format).await;
        let program = &scene.program;
        until("the daemon's words are in the log", || program.log().contains("no such image")).await;
        within(Duration::from_secs(10), "the history", history_has_it(program)).await;
        let pages = every_page(program, KEY).await;
        // The description of all pages is ours, of several lines, and has nothing in it that others write.
        let written = pages.iter().filter(|page| !page.path.ends_with("/openapi.json"));
        let marked = written.filter(|page| assert_page_is_inert(page)).map(|page| page.path.as_str());
        let marked: BTreeSet<&str> = marked.collect();
        for path in ["/events", "/streams", "/api/v1/logins", "/custom-variant/templates"] {
            assert!(marked.contains(path), "what was written on {path} is not there: {marked:?}");
        }
        let viewers = format!("/proxy/sessions/{ID}/viewers");
        assert!(marked.contains(viewers.as_str()), "{marked:?}");
        assert!(!marked.contains("/metrics"));

        let (news, _unfinished) = scene.news.rsplit_once("\n\n").expect("whole events");
        for line in news.lines() {
            assert_plain("live events", line);
            if let Some(data) = line.strip_prefix("data: ") {
                assert_texts_are_plain("live events", &serde_json::from_str(data).expect("JSON"));
            }
        }
        let log = program.log();
        assert!(log.contains("<script>alert(1)</script>"), "it stands in the log as it is");
        for line in log.lines() {
            assert_plain("log", line);
            if format == "json" {
                assert_texts_are_plain("log", &serde_json::from_str(line).expect("one object a line"));
            }
            let begins = line.starts_with("20") || line.starts_with('{');
            assert!(begins, "every line is one of ours: {line:?}");
        }
        assert!(!log.contains(STEERING));
    }
}
