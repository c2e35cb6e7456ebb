//! Settings that are changed while the service runs, and the names that operators give to viewers: what is changed counts
//! at once or after a restart as it says, all of it or nothing, and is there again after a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use acemux_store::events::{EventKind, NewEvent};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::http::get_from;
use acemux_testkit::{Process, StrictViewer, get};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::books::ask;
use crate::{ID, id, stream};

const KEY: &str = "a-key-of-twenty-signs";
const SETTINGS: &str = "/api/v1/settings";
const NAMES: &str = "/api/v1/names";
const TITLES: &str = "/api/v1/channels/names";

/// On this data directory.
fn setup(folder: &TempDir) -> Setup {
    Setup::new().set("DB_PATH", folder.path().join("acemux.db").to_str().expect("text"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Status and page of a request of the operator's at this machine.
async fn request(at: SocketAddr, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut reply = ask(at, method, path, "", body).await;
    (reply.status, serde_json::from_slice(&reply.body().await.0).unwrap_or_default())
}

async fn page(app: &TestApp, path: &str) -> Value {
    let (status, page) = request(app.address(), "GET", path, &Value::Null).await;
    assert_eq!(status, 200, "{path}: {page}");
    page
}

async fn list(app: &TestApp) -> Vec<Value> {
    page(app, SETTINGS).await["settings"].as_array().expect("a list").clone()
}

async fn setting(app: &TestApp, name: &str) -> Value {
    page(app, &format!("{SETTINGS}/{name}")).await
}

async fn change(app: &TestApp, body: &Value) -> (u16, Value) {
    request(app.address(), "PATCH", SETTINGS, body).await
}

/// The names that a refusal tells, with their codes.
fn faults(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let faults = problem["problems"].as_array().unwrap_or_else(|| panic!("{problem}"));
    faults.iter().map(|fault| (text(&fault["name"]), text(&fault["code"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_takes_its_own_default_and_says_it_again_after_a_restart_until_it_is_reset() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let before = list(&app).await;
    assert!(before.len() > 80, "{}", before.len());
    let mut written = Vec::new();
    for setting in &before {
        let name = setting["name"].as_str().expect("a name");
        let (is_fixed, value) = (setting["changeable"] == false, &setting["default"]);
        let value = if value.is_null() { &setting["value"] } else { value };
        if value.is_null() {
            continue;
        }
        let at = format!("{SETTINGS}/{name}");
        let (status, answer) = request(app.address(), "PUT", &at, &json!({ "value": value })).await;
        if is_fixed {
            assert_eq!((status, &answer["code"]), (409, &json!("setting_fixed")), "{name}: {answer}");
            assert_eq!(faults(&answer)[0].0, name);
            assert!(setting["why_not"].as_str().is_some_and(|why| why.len() > 10), "{setting}");
        } else {
            assert_eq!(status, 200, "{name}={value}: {answer}");
            written.push((name.to_owned(), value.clone()));
        }
    }
    assert!(written.len() > 45, "{}", written.len());
    let says_so = async |app: &TestApp, is_new: bool| {
        for (name, value) in &written {
            let setting = setting(app, name).await;
            // What waits for a restart is as it was, unless that is the same.
            let waits = !setting["coming"].is_null();
            assert!(!(waits && is_new), "{setting}");
            let told = if waits { &setting["coming"] } else { &setting };
            assert_eq!((&told["value"], &told["source"]), (value, &json!("override")), "{setting}");
            assert_eq!(setting["overridden"], true);
        }
    };
    says_so(&app, false).await;
    app.stop().await;

    let app = setup(&folder).start().await;
    says_so(&app, true).await;
    assert_eq!(page(&app, SETTINGS).await["restart_needed"], false);
    for (name, _) in &written {
        let (status, answer) =
            request(app.address(), "DELETE", &format!("{SETTINGS}/{name}"), &Value::Null).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    app.stop().await;
    let app = setup(&folder).start().await;
    let engines = |settings: Vec<Value>| -> Vec<Value> {
        settings.into_iter().filter(|setting| setting["name"] != "ENGINES").collect()
    };
    assert_eq!(engines(list(&app).await), engines(before), "as if nothing had been");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_remembered_as_long_as_is_asked_for_and_the_audit_whatever_is() {
    let app = Setup::new().start().await;
    let old = |hours, category| {
        let at = Timestamp::now() - Duration::from_hours(hours);
        NewEvent::new(at, EventKind::System, category, "an old event")
    };
    for (hours, category) in [(30, "scaling"), (3, "scaling"), (30, "audit")] {
        app.app.store.record(old(hours, category));
    }
    let ages = async || {
        let events = page(&app, "/events").await;
        let is_old = |event: &&Value| event["message"] == "an old event";
        let categories = events.as_array().expect("a list").iter().filter(is_old);
        categories.map(|event| event["category"].as_str().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ages().await, ["audit", "scaling", "scaling"]);
    assert_eq!(change(&app, &json!({ "EVENT_RETENTION": "1d" })).await.0, 200);
    let forgotten = async {
        while ages().await != ["audit", "scaling"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(Duration::from_secs(5), "the event of the day before yesterday is forgotten", forgotten).await;
    assert_eq!(
        change(&app, &json!({ "EVENT_RETENTION": "1m" })).await.0,
        400,
        "nobody empties the log with it"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_deadlines_count_at_once_and_touch_nobody_who_watches() {
    let app = Setup::new().start().await;
    let home = |n| Ipv4Addr::new(127, 0, 3, n);
    let mut first = get_from(home(1), app.address(), &stream(ID)).await;
    assert_eq!(first.status, 200);
    let (status, answer) = change(&app, &json!({ "MAX_VIEWERS": 1, "STREAM_IDLE_TIMEOUT": 3600 })).await;
    assert_eq!((status, &answer["restart_needed"]), (200, &json!(false)), "{answer}");
    let refused = async || get_from(home(2), app.address(), &stream(ID)).await.status == 503;
    let limited = async {
        while !refused().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(Duration::from_secs(5), "the new limit", limited).await;
    assert!(first.next().await.is_ok(), "who watches is not touched");
    assert_eq!(change(&app, &json!({ "MAX_VIEWERS": null })).await.0, 200);
    let free = async {
        while refused().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(Duration::from_secs(5), "the old limit", free).await;
    drop(first);
    until("nobody watches, and the stream lingers", || {
        app.app.relay.viewers() == 0 && app.app.relay.sessions().len() == 1
    })
    .await;
    // It was to linger for an hour.
    assert_eq!(change(&app, &json!({ "STREAM_IDLE_TIMEOUT": "0s" })).await.0, 200);
    app.at_baseline().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_is_told_with_both_values() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let (_, answer) = change(&app, &json!({ "STREAM_BUFFER_SECONDS": "40s", "STALL_TIMEOUT": "6s" })).await;
    let changed = answer["changed"].as_array().expect("changes");
    assert_eq!(
        changed[0],
        json!({ "name": "STREAM_BUFFER_SECONDS", "before": "30s", "after": "40s", "source": "override", "applies": "after_restart" })
    );
    assert_eq!((&changed[1]["name"], &changed[1]["applies"]), (&json!("STALL_TIMEOUT"), &json!("at_once")));
    assert_eq!(answer["restart_needed"], true);
    let buffer = setting(&app, "stream_buffer_seconds").await;
    assert_eq!((&buffer["value"], &buffer["source"]), (&json!("30s"), &json!("default")));
    assert_eq!(buffer["coming"], json!({ "value": "40s", "source": "override" }));
    app.stop().await;
    let app = setup(&folder).start().await;
    let buffer = setting(&app, "STREAM_BUFFER_SECONDS").await;
    assert_eq!((&buffer["value"], &buffer["coming"]), (&json!("40s"), &Value::Null));
    app.stop().await;
    // What the environment says counts more, and the change waits until it says nothing any more.
    let app = setup(&folder).set("STREAM_BUFFER_SECONDS", "20s").start().await;
    let buffer = setting(&app, "STREAM_BUFFER_SECONDS").await;
    assert_eq!((&buffer["value"], &buffer["source"]), (&json!("20s"), &json!("environment")));
    assert_eq!((&buffer["changeable"], &buffer["overridden"]), (&json!(false), &json!(true)));
    assert_eq!(buffer["why_not"], "STREAM_BUFFER_SECONDS is set by the environment, which counts more");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_are_changed_together_or_not_at_all_and_every_fault_is_named() {
    let app = Setup::new().set("MAX_VIEWERS", "9").start().await;
    let before = list(&app).await;
    let (status, problem) = change(
        &app,
        &json!({
            "STALL_TIMEOUT": "7s",
            "MAX_VEIWERS": 1,
            "MAX_VIEWERS": 10,
            "HOLD_TIMEOUT": "soon",
            "API_KEY": "a-hushed-key-of-many-signs",
            "JOIN_BURST": { "value": 1 },
        }),
    )
    .await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_setting")), "{problem}");
    let pairs = [
        ("MAX_VEIWERS", "unknown"),
        ("MAX_VIEWERS", "fixed"),
        ("HOLD_TIMEOUT", "invalid"),
        ("API_KEY", "not_changeable"),
        ("JOIN_BURST", "invalid"),
    ];
    let mut told = faults(&problem);
    told.sort();
    let mut expected = pairs.map(|(name, code)| (name.to_owned(), code.to_owned()));
    expected.sort();
    assert_eq!(told, expected, "{problem}");
    let unknown = problem["problems"].as_array().expect("a list").iter().find(|one| one["code"] == "unknown");
    assert_eq!(unknown.expect("it is told")["suggestion"], "MAX_VIEWERS");
    assert!(!problem.to_string().contains("hushed") && !problem.to_string().contains("soon"), "{problem}");
    assert_eq!(list(&app).await, before, "nothing was changed");
    let (status, problem) = change(&app, &json!({ "MIN_REPLICAS": 21 })).await;
    assert_eq!((status, faults(&problem)[0].0.as_str()), (400, "MIN_REPLICAS"));
    assert_eq!(change(&app, &json!({ "MIN_REPLICAS": 21, "MAX_REPLICAS": 30 })).await.0, 200);
    for (path, status) in [("NO_SUCH", 404), ("MAX_VIEWERS", 409), ("STALL_TIMEOUT", 200)] {
        let at = format!("{SETTINGS}/{path}");
        assert_eq!(request(app.address(), "PUT", &at, &json!({ "value": 8 })).await.0, status, "{path}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_write_at_once_mix_nothing() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let writer = async |mine: &str, min: u32| {
        for n in 0..20 {
            let body = json!({ "MIN_REPLICAS": min, "MAX_REPLICAS": min + 1, mine: format!("{}s", n + 10) });
            assert_eq!(change(&app, &body).await.0, 200, "{body}");
            let shown = list(&app).await;
            let value = |name: &str| {
                let setting = shown.iter().find(|setting| setting["name"] == name).expect("it is listed");
                setting["value"].as_str().and_then(|value| value.parse::<u32>().ok()).expect("a number")
            };
            assert_eq!(value("MIN_REPLICAS") + 1, value("MAX_REPLICAS"));
        }
    };
    tokio::join!(writer("STALL_TIMEOUT", 2), writer("HEDGE_AFTER", 50));
    app.stop().await;
    let app = setup(&folder).start().await;
    for name in ["STALL_TIMEOUT", "HEDGE_AFTER"] {
        assert_eq!(setting(&app, name).await["value"], "29s", "{name}: neither was lost");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_change_nothing_and_come_back_nowhere() {
    let app = Setup::new().start().await;
    let before = list(&app).await;
    let markup = "<script>alert(1)</script>";
    let nested = |depth: usize| format!("{{\"STALL_TIMEOUT\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let many: Vec<String> = (0..1_000).map(|n| format!("\"A{n}\":1")).collect();
    let bodies = [
        (format!("{{\"{markup}\":\"{markup}\",\"LOG_LEVEL\":\"{markup}\"}}"), 400),
        (format!("{{\"STALL_TIMEOUT\":\"{}\"}}", "1".repeat(1_000_000)), 413),
        (format!("{{\"STALL_TIMEOUT\":\"{}\"}}", "1".repeat(60_000)), 400),
        (format!("{{\"{}\":1}}", "A".repeat(60_000)), 400),
        (nested(2), 400),
        (nested(100), 400),
        (nested(10_000), 400),
        (format!("{{{}}}", many.join(",")), 400),
        ("{\"STALL_TIMEOUT\":1,\"STALL_TIMEOUT\":2}".to_owned(), 400),
        ("{\"STALL_TIMEOUT\":1,\"stall_timeout\":2}".to_owned(), 400),
        ("{\"STALL_TIMEOUT\":-1}".to_owned(), 400),
        ("{\"STALL_TIMEOUT\":1e999}".to_owned(), 400),
        ("{\"STALL_TIMEOUT\":\"\"}".to_owned(), 400),
        ("{\"STALL_TIMEOUT\":\"5s\\n\\u001b[31m\"}".to_owned(), 400),
        ("{\"MAX_VIEWERS\":0}".to_owned(), 400),
        ("{\"MAX_VIEWERS\":true}".to_owned(), 400),
        ("{\"MAX_VIEWERS\":18446744073709551616}".to_owned(), 400),
        ("{\"TRUSTED_PROXIES\":[\"10.0.0.0/8\",{}]}".to_owned(), 400),
        ("{\"__proto__\":{\"a\":1}}".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("null".to_owned(), 400),
        ("{}trailing".to_owned(), 400),
        ("{\"\\ud800\":1}".to_owned(), 400),
        ("\u{feff}{}".to_owned(), 400),
    ];
    for (path, wrap) in [(SETTINGS, false), ("/settings/import", true)] {
        for (body, expected) in &bodies {
            let body = if wrap { format!("{{\"settings\":{body}}}") } else { body.clone() };
            let method = if wrap { "POST" } else { "PATCH" };
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                app.address(),
                body.len()
            );
            let mut reply = acemux_testkit::send(app.address(), &request).await;
            let shown: String = body.chars().take(60).collect();
            assert_eq!(reply.status, *expected, "{path} {shown}");
            let answer = String::from_utf8_lossy(&reply.body().await.0).into_owned();
            assert!(!answer.contains("script") && answer.len() < 40_000, "{shown}: {answer}");
        }
    }
    let import = async |body: Value| request(app.address(), "POST", "/settings/import", &body).await;
    assert_eq!(import(json!({ "settings": [1] })).await.0, 400);
    assert_eq!(import(json!({})).await.0, 400);
    assert_eq!(list(&app).await, before, "nothing was changed");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_broken_costs_itself_alone_and_never_the_start() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let saved = json!({
        "STALL_TIMEOUT": "9s",
        "HOLD_TIMEOUT": "soon",
        "MAX_VIEWERS": 7,
        "MIN_REPLICAS": "40",
        "NO_SUCH_SETTING": "1",
        "API_KEY": "a-hushed-key-of-many-signs",
    });
    app.app.store.save_setting("settings", saved).await.expect("it is saved");
    app.stop().await;
    let app = setup(&folder).start().await;
    let value = async |app: &TestApp, name| setting(app, name).await["value"].clone();
    assert_eq!(value(&app, "STALL_TIMEOUT").await, "9s");
    for (name, usual) in [("HOLD_TIMEOUT", "30s"), ("MAX_VIEWERS", "5000"), ("MIN_REPLICAS", "2")] {
        assert_eq!(value(&app, name).await, usual, "{name}");
    }
    assert_eq!(change(&app, &json!({ "MAX_VIEWERS": 8 })).await.0, 200, "and is changed as ever");
    app.stop().await;

    // Not even JSON, as a bad sector or somebody's hand may leave it.
    let path = folder.path().join("acemux.db");
    let mut bytes = std::fs::read(&path).expect("the database");
    let text = b"{\"MAX_VIEWERS\":\"8\"";
    let at = bytes.windows(text.len()).position(|window| window == text).expect("it is there");
    bytes[at] = b'!';
    std::fs::write(&path, bytes).expect("it is written");
    let app = setup(&folder).start().await;
    assert_eq!(value(&app, "MAX_VIEWERS").await, "5000");
    assert_eq!(change(&app, &json!({ "MAX_VIEWERS": 9 })).await.0, 200);
    app.stop().await;
    let app = setup(&folder).start().await;
    assert_eq!(value(&app, "MAX_VIEWERS").await, "9");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_who_changed_what_from_what_to_what_and_no_secret() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let key = format!("X-API-KEY: {KEY}\r\n");
    let send = async |method: &str, path: &str, body: Value| {
        ask(app.address(), method, path, &key, &body).await.status
    };
    let newest = async || {
        let page = ask(app.address(), "GET", "/events?category=audit&limit=1", &key, &Value::Null)
            .await
            .json()
            .await;
        page[0]["details"].clone()
    };
    assert_eq!(
        send("PATCH", SETTINGS, json!({ "STALL_TIMEOUT": "7s", "COPY_CHUNK_SIZE": "32 KiB" })).await,
        200
    );
    let entry = newest().await;
    assert_eq!(entry["who"], "key");
    assert_eq!(entry["action"], "PATCH /settings");
    assert_eq!(entry["before"], json!({ "COPY_CHUNK_SIZE": "64 KiB", "STALL_TIMEOUT": "5s" }));
    assert_eq!(entry["after"], json!({ "COPY_CHUNK_SIZE": "32 KiB", "STALL_TIMEOUT": "7s" }));
    assert_eq!(send("DELETE", "/api/v1/settings/STALL_TIMEOUT", Value::Null).await, 200);
    assert_eq!(newest().await["after"], json!({ "STALL_TIMEOUT": "5s" }));
    for secret in ["API_KEY", "GLUETUN_API_KEY", "GLUETUN_API_PASSWORD", "ENGINE_PROXY"] {
        let body = json!({ secret: "socks5://a:hushed@b:1080" });
        assert_eq!(send("PATCH", SETTINGS, body).await, 409, "{secret}");
        assert_eq!(send("PUT", &format!("{SETTINGS}/{secret}"), json!({ "value": "hushed" })).await, 409);
    }
    assert_eq!(send("PUT", NAMES, json!({ "address": "10.0.0.7", "name": "kitchen" })).await, 200);
    assert_eq!(newest().await["after"]["name"], "kitchen");
    let all = ask(app.address(), "GET", "/events?limit=1000", &key, &Value::Null).await.json().await;
    assert!(!all.to_string().contains("hushed") && !all.to_string().contains(KEY), "{all}");
    let shown = ask(app.address(), "GET", SETTINGS, &key, &Value::Null).await.json().await;
    assert!(!shown.to_string().contains(KEY), "nor does the list");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_is_the_operators() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    for (method, path, body) in [
        ("GET", SETTINGS, Value::Null),
        ("PATCH", SETTINGS, json!({ "STALL_TIMEOUT": 7 })),
        ("GET", "/api/v1/settings/STALL_TIMEOUT", Value::Null),
        ("PUT", "/api/v1/settings/STALL_TIMEOUT", json!({ "value": 7 })),
        ("DELETE", "/api/v1/settings/STALL_TIMEOUT", Value::Null),
        ("GET", "/api/v1/settings/export", Value::Null),
        ("POST", "/api/v1/settings/import", json!({ "settings": {} })),
        ("GET", NAMES, Value::Null),
        ("PUT", NAMES, json!({ "address": "10.0.0.7", "name": "x" })),
        ("DELETE", "/api/v1/names?address=10.0.0.7", Value::Null),
        ("PUT", &format!("{TITLES}/{ID}"), json!({ "name": "x" })),
        ("DELETE", &format!("{TITLES}/{ID}"), Value::Null),
    ] {
        let mut reply = ask(app.address(), method, path, "", &body).await;
        assert_eq!(
            (reply.status, &reply.json().await["code"]),
            (401, &json!("missing_key")),
            "{method} {path}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_has_its_name_by_every_id_after_a_restart_and_where_an_export_of_it_is_imported() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let infohash = acemux_sim::infohash_of(ID);
    let name_of = async |app: &TestApp, by: &str| {
        let mut viewer = get(app.address(), &format!("/ace/getstream?{by}")).await;
        assert_eq!(viewer.status, 200, "{by}");
        let _first = viewer.next().await;
        let session = get(app.address(), "/proxy/sessions").await.json().await["sessions"][0].clone();
        let page = get(app.address(), "/status").await.body().await.0;
        (session["name"].clone(), String::from_utf8(page).expect("text").contains("News &lt;24&gt;"))
    };
    let of_id = format!("id={ID}");
    assert_eq!(name_of(&app, &of_id).await, (Value::Null, false));
    let path = format!("{TITLES}/acestream://{ID}").replace("//", "%2F%2F");
    let (status, given) = request(app.address(), "PUT", &path, &json!({ "name": " News <24> " })).await;
    assert_eq!((status, &given), (200, &json!({ "id": ID, "name": "News <24>" })));
    assert_eq!(name_of(&app, &of_id).await, (json!("News <24>"), true));
    for (path, body, status) in [
        (format!("{TITLES}/{ID}"), json!({ "name": "a\nb" }), 400),
        (format!("{TITLES}/{ID}"), json!({ "name": "" }), 400),
        (format!("{TITLES}/nowhere"), json!({ "name": "x" }), 404),
    ] {
        assert_eq!(request(app.address(), "PUT", &path, &body).await.0, status, "{path} {body}");
    }
    app.stop().await;

    let app = setup(&folder).start().await;
    let by_infohash = format!("infohash={infohash}");
    assert_eq!(name_of(&app, &by_infohash).await, (json!("News <24>"), true), "it is the same channel");
    let names = page(&app, TITLES).await;
    assert_eq!(names, json!({ "names": { ID: "News <24>" }, "by_infohash": { infohash: "News <24>" } }));
    let (_, export) = request(app.address(), "GET", "/settings/export", &Value::Null).await;
    assert_eq!(export["channel_names"], json!({ ID: "News <24>" }));

    let other = Setup::new().start().await;
    let import = async |query: &str| {
        request(other.address(), "POST", &format!("/settings/import{query}"), &export).await.0
    };
    let names = async || get(other.address(), TITLES).await.json().await["names"].clone();
    assert_eq!((import("?dry_run=true").await, names().await), (200, json!({})));
    assert_eq!((import("").await, names().await), (200, json!({ ID: "News <24>" })));
    let wrong = json!({ "settings": {}, "channel_names": { ID: "a\u{202e}b" } });
    assert_eq!(request(other.address(), "POST", "/settings/import?replace=true", &wrong).await.0, 400);
    assert_eq!(names().await, json!({ ID: "News <24>" }));
    assert_eq!(request(other.address(), "DELETE", &format!("{TITLES}/{ID}"), &Value::Null).await.0, 200);
    assert_eq!(request(other.address(), "DELETE", &format!("{TITLES}/{ID}"), &Value::Null).await.0, 404);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_carries_what_was_changed_elsewhere_and_an_import_can_be_tried_first() {
    let app = Setup::new().set("API_KEY", KEY).set("MAX_VIEWERS", "77").start().await;
    let key = format!("X-API-KEY: {KEY}\r\n");
    let send = async |method: &str, path: &str, body: &Value| {
        let mut reply = ask(app.address(), method, path, &key, body).await;
        (reply.status, String::from_utf8_lossy(&reply.body().await.0).into_owned())
    };
    let changes = json!({ "STALL_TIMEOUT": "7s", "STREAM_MEMORY": "128 MiB", "GLUETUN_API_USER": "a # b" });
    // A user alone is none.
    assert_eq!(send("PATCH", SETTINGS, &changes).await.0, 400);
    let changes =
        json!({ "STALL_TIMEOUT": "7s", "STREAM_MEMORY": "128 MiB", "ALLOWED_HOSTS": ["tv.example"] });
    assert_eq!(send("PATCH", SETTINGS, &changes).await.0, 200);
    let export: Value =
        serde_json::from_str(&send("GET", "/settings/export", &Value::Null).await.1).expect("JSON");
    assert_eq!(
        export["settings"],
        json!({ "ALLOWED_HOSTS": "tv.example", "STALL_TIMEOUT": "7s", "STREAM_MEMORY": "128 MiB" })
    );
    assert_eq!(export["left_out"], json!([{ "name": "API_KEY", "why": "it is a secret" }]));
    let (_, lines) = send("GET", "/settings/export?format=env&all=true", &Value::Null).await;
    for line in ["# left out: API_KEY, it is a secret", "STREAM_MEMORY='128 MiB'", "MAX_VIEWERS=77"] {
        assert!(lines.lines().any(|other| other == line), "{line}: {lines}");
    }
    assert!(!lines.contains(KEY));
    let (_, all) = send("GET", "/settings/export?all=true", &Value::Null).await;
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let (status, told) = send("POST", "/settings/import", &all).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((status, &told["changed"]), (200, &json!([])), "where it was made it changes nothing: {told}");

    let other = Setup::new().start().await;
    let import = async |query: &str, body: &Value| {
        request(other.address(), "POST", &format!("/settings/import{query}"), body).await
    };
    let (status, tried) = import("?dry_run=true", &export).await;
    assert_eq!(
        (status, &tried["dry_run"], tried["changed"].as_array().map(Vec::len)),
        (200, &json!(true), Some(3))
    );
    assert_eq!(setting(&other, "STALL_TIMEOUT").await["value"], "5s");
    assert_eq!(change(&other, &json!({ "HEDGE_AFTER": "13s" })).await.0, 200);
    assert_eq!(import("", &export).await.0, 200);
    assert_eq!(setting(&other, "STALL_TIMEOUT").await["value"], "7s");
    assert_eq!(setting(&other, "HEDGE_AFTER").await["value"], "13s");
    assert_eq!(import("?replace=true", &export).await.0, 200);
    assert_eq!(setting(&other, "HEDGE_AFTER").await["value"], "12s", "what is not in it is reset");
    let (status, problem) =
        import("", &json!({ "settings": { "STALL_TIMOUT": "1s", "HOLD_TIMEOUT": "9s" } })).await;
    assert_eq!((status, &problem["problems"][0]["suggestion"]), (400, &json!("STALL_TIMEOUT")));
    assert_eq!(setting(&other, "HOLD_TIMEOUT").await["value"], "30s");
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_references_shapes_say_and_change_the_same_settings() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let engine = page(&app, "/settings/engine").await;
    let (min, max) = (engine["min_replicas"].as_u64(), engine["max_replicas"].as_u64());
    assert_eq!((min, max, &engine["auto_delete"]), (Some(2), Some(20), &json!(true)), "{engine}");
    assert_eq!((&engine["use_custom_variant"], &engine["manual_mode"]), (&json!(false), &json!(true)));
    let post = async |path: &str, body: &Value| request(app.address(), "POST", path, body).await;
    // A form sends all that it was given, with what was changed in it.
    let mut form = engine.clone();
    form["max_replicas"] = json!(6);
    form["auto_delete"] = json!(false);
    let (status, saved) = post("/settings/engine", &form).await;
    assert_eq!(
        (status, &saved["max_replicas"], &saved["message"]),
        (200, &json!(6), &json!("saved")),
        "{saved}"
    );
    let overrides = page(&app, "/settings/export").await["settings"].clone();
    assert_eq!((&overrides["MAX_REPLICAS"], &overrides["AUTO_DELETE"]), (&json!("6"), &json!("false")));
    for wrong in
        [json!({ "min_replicas": 7 }), json!({ "replicas": 1 }), json!({ "use_custom_variant": true })]
    {
        assert_eq!(post("/settings/engine", &wrong).await.0, 400, "{wrong}");
    }
    let status = page(&app, "/orchestrator/status").await;
    assert_eq!(status["config"]["auto_delete"], false, "other pages know it too");

    let mut form = page(&app, "/settings/orchestrator").await;
    assert_eq!((&form["monitor_interval_s"], &form["debug_mode"]), (&json!(10.0), &json!(false)), "{form}");
    (form["monitor_interval_s"], form["debug_mode"]) = (json!(20), json!(true));
    let (status, saved) = post("/settings/orchestrator", &form).await;
    assert_eq!((status, &saved["debug_mode"]), (200, &json!(true)), "{saved}");
    let overrides = page(&app, "/settings/export").await["settings"].clone();
    let changed = ["AUTO_DELETE", "LOG_LEVEL", "MAX_REPLICAS", "MONITOR_INTERVAL_S"];
    let names: Vec<&String> = overrides.as_object().expect("settings").keys().collect();
    assert_eq!(names, changed, "nothing else of the form was another: {overrides}");
    // What means nothing here is refused with what does what it promised; what is none is told.
    let (status, refused) = post("/settings/orchestrator", &json!({ "autoscale_interval_s": 5 })).await;
    assert_eq!((status, faults(&refused)[0].1.as_str()), (409, "not_changeable"), "{refused}");
    for (wrong, expected) in [("monitor_interval", 400), ("docker_host", 409), ("api_key", 409)] {
        let body = json!({ wrong: "1" });
        assert_eq!(post("/settings/orchestrator", &body).await.0, expected, "{wrong}");
    }
    let back = json!({ "debug_mode": false, "monitor_interval_s": "" });
    assert_eq!(post("/settings/orchestrator", &back).await.0, 200);
    assert_eq!(setting(&app, "LOG_LEVEL").await["value"], "info");

    let vpn = page(&app, "/settings/vpn").await;
    assert_eq!((&vpn["enabled"], &vpn["vpn_mode"]), (&json!(false), &json!("off")));
    let (status, saved) =
        post("/settings/vpn", &json!({ "unhealthy_restart_timeout_s": 90, "port_cache_ttl_s": 30 })).await;
    assert_eq!((status, &saved["unhealthy_restart_timeout_s"]), (200, &json!(90.0)), "{saved}");
    assert!(saved["message"].as_str().is_some_and(|message| message.contains("after a restart")), "{saved}");
    // Engines that somebody else runs cannot be put behind a VPN.
    assert_eq!(post("/settings/vpn", &json!({ "enabled": true, "container_name": "gluetun" })).await.0, 400);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_loops_are_kept_and_not_changed_where_the_environment_says_what_they_are() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let at = "/stream-loop-detection/config";
    let query = format!("{at}?enabled=true&threshold_seconds=7200&retention_minutes=5");
    assert_eq!(request(app.address(), "POST", &query, &Value::Null).await.0, 200);
    assert_eq!(setting(&app, "STREAM_LOOP_DETECTION_ENABLED").await["value"], "true");
    assert_eq!(change(&app, &json!({ "STREAM_LOOP_DETECTION_THRESHOLD_S": "3h" })).await.0, 200);
    until("the other rule", || app.app.loops.rules().threshold == Duration::from_hours(3)).await;
    app.stop().await;
    let app = setup(&folder).set("STREAM_LOOP_CHECK_INTERVAL_S", "20").start().await;
    let rules = page(&app, at).await;
    assert_eq!((&rules["enabled"], &rules["threshold_seconds"]), (&json!(true), &json!(10_800)));
    let query = format!("{at}?enabled=false&threshold_seconds=60&check_interval_seconds=30");
    let (status, problem) = request(app.address(), "POST", &query, &Value::Null).await;
    assert_eq!((status, faults(&problem)[0].0.as_str()), (409, "STREAM_LOOP_CHECK_INTERVAL_S"), "{problem}");
    assert_eq!(page(&app, at).await, rules);
    let query = format!("{at}?enabled=false&threshold_seconds=60&check_interval_seconds=20");
    assert_eq!(request(app.address(), "POST", &query, &Value::Null).await.0, 200, "as it is is no change");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_engines_as_were_asked_for_last_whichever_way() {
    let folder = folder();
    let daemon = FakeDockerd::start(&[FAST], true);
    let scene = || {
        setup(&folder)
            .set("ENGINE_PROVISIONER", "docker")
            .set("DOCKER_HOST", &*daemon.host)
            .set("ENGINE_IMAGE", FAST)
            .set("ENGINE_VARIANT", "krinkuto11-amd64")
            .set("MIN_FREE_REPLICAS", "0")
            .set("PORT_RANGE_HOST", "24460-24479")
            .set("INSTANCE_ID", "settings-test")
    };
    let wanted = |app: &TestApp| app.app.fleet.as_ref().expect("a fleet").snapshot().min;
    let app = scene().start().await;
    assert_eq!(change(&app, &json!({ "MIN_REPLICAS": 1 })).await.0, 200);
    until("one is wanted", || wanted(&app) == 1).await;
    assert_eq!(request(app.address(), "POST", "/scale/3", &Value::Null).await.0, 200);
    until("three run", || daemon.containers().len() == 3 && wanted(&app) == 3).await;
    assert_eq!(change(&app, &json!({ "STALL_TIMEOUT": "6s" })).await.0, 200);
    assert_eq!(change(&app, &json!({ "MAX_REPLICAS": 10 })).await.0, 200);
    until("the other cap", || app.app.fleet.as_ref().expect("a fleet").snapshot().max == 10).await;
    assert_eq!(wanted(&app), 3, "which says nothing of how many are kept");
    assert_eq!(change(&app, &json!({ "MIN_REPLICAS": 4 })).await.0, 200);
    until("four run", || daemon.containers().len() == 4).await;
    assert_eq!(change(&app, &json!({ "MIN_REPLICAS": 1 })).await.0, 200);
    until("one is wanted", || wanted(&app) == 1).await;
    app.stop().await;
    let app = scene().start().await;
    assert_eq!(wanted(&app), 1, "an earlier word does not come back with a restart");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_are_called_by_their_names_wherever_they_are_listed() {
    let folder = folder();
    let app = setup(&folder).start().await;
    let at = app.address();
    let viewer = StrictViewer::open(at, ID).await;
    let put = async |body: Value| request(at, "PUT", NAMES, &body).await;
    let (status, named) = put(json!({ "address": "127.0.0.0/8", "name": "<b>Küche</b>" })).await;
    assert_eq!(
        (status, named),
        (200, json!({ "address": "127.0.0.0/8", "player": null, "name": "<b>Küche</b>" }))
    );
    let viewers =
        async |at| get(at, &format!("/proxy/sessions/{ID}/viewers")).await.json().await["viewers"][0].clone();
    assert_eq!(viewers(at).await["name"], "<b>Küche</b>");
    assert_eq!(put(json!({ "address": "127.0.0.1", "player": "vlc", "name": "laptop" })).await.0, 200);
    assert_eq!(viewers(at).await["name"], "<b>Küche</b>", "it is no VLC");
    assert_eq!(put(json!({ "address": "127.0.0.1", "player": "other", "name": "test" })).await.0, 200);
    assert_eq!(viewers(at).await["name"], "test");
    let kicked = viewers(at).await["id"].as_u64().expect("a number");
    assert_eq!(request(at, "DELETE", &format!("/proxy/viewers/{kicked}"), &Value::Null).await.0, 200);
    let audit = get(at, "/events?category=audit&limit=1").await.json().await;
    assert_eq!(audit[0]["details"]["before"]["name"], "test", "{audit}");
    drop(viewer);
    for wrong in [
        json!({ "address": "127.0.0.1", "name": "" }),
        json!({ "address": "127.0.0.1", "name": "a\nb" }),
        json!({ "address": "127.0.0.1", "name": "\u{202e}gpj" }),
        json!({ "address": "127.0.0.1", "name": "x".repeat(65) }),
        json!({ "address": "tv.home", "name": "x" }),
        json!({ "address": "127.0.0.1", "player": "winamp", "name": "x" }),
        json!({ "address": "127.0.0.1", "name": "x", "more": 1 }),
        json!({ "address": "127.0.0.1", "name": 7 }),
        json!({ "address": { "a": [] }, "name": "x" }),
        json!([]),
    ] {
        assert_eq!(put(wrong.clone()).await.0, 400, "{wrong}");
    }
    app.stop().await;

    let app = setup(&folder).start().await;
    let at = app.address();
    assert_eq!(page(&app, NAMES).await["names"].as_array().map(Vec::len), Some(3));
    let _viewer = StrictViewer::open(at, ID).await;
    assert_eq!(viewers(at).await["name"], "test", "after a restart as before");
    let live = format!("/api/v1/events/live?watch=stream:{ID}");
    let mut events = get(at, &live).await;
    let told = async {
        let mut text = String::new();
        while !text.contains("\"name\":\"test\"") {
            text += &String::from_utf8_lossy(&events.next().await.expect("it goes on"));
        }
    };
    within(Duration::from_secs(10), "the name among live events", told).await;
    let removed =
        request(at, "DELETE", &format!("{NAMES}?address=127.0.0.1&player=other"), &Value::Null).await;
    assert_eq!((removed.0, &removed.1["removed"]["name"]), (200, &json!("test")));
    assert_eq!(viewers(at).await["name"], "<b>Küche</b>");
    let again = request(at, "DELETE", &format!("{NAMES}?address=127.0.0.1&player=other"), &Value::Null).await;
    assert_eq!(again.0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_becomes_more_and_less_talkative_while_the_program_runs() {
    let engine = acemux_sim::SimEngine::start(acemux_sim::SimOptions::fast()).await.expect("a free port");
    let program = Process::start(&[engine.addr()], &[]).await;
    let patch = async |level: Value| {
        request(program.address, "PATCH", SETTINGS, &json!({ "LOG_LEVEL": level })).await.0
    };
    let told = || program.log().lines().filter(|line| line.contains("stream")).count();
    assert_eq!(patch(json!("error")).await, 200);
    let quiet = async {
        // It is followed within moments; until then a start is told.
        let mut n = 0;
        loop {
            let before = told();
            n += 1;
            drop(StrictViewer::open(program.address, &id(n)).await);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if told() == before {
                break;
            }
        }
    };
    within(Duration::from_secs(15), "a start that is not told", quiet).await;
    assert_eq!(patch(Value::Null).await, 200);
    let loud = async {
        let before = told();
        let mut n = 100;
        while told() == before {
            n += 1;
            drop(StrictViewer::open(program.address, &id(n)).await);
        }
    };
    within(Duration::from_secs(15), "a start that is told again", loud).await;
    assert!(
        program.log().contains("PATCH /api/v1/settings by this_machine")
            || program.log().contains("PATCH /settings by this_machine")
    );
}

/// A file system in memory, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).status();
        assert!(status.is_ok_and(|status| status.success()), "mounting needs root");
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a file system, which needs root"]
async fn on_a_full_disk_nothing_is_changed_and_the_answer_says_why() {
    let folder = folder();
    let _tmpfs = Tmpfs::mount(folder.path());
    let app = setup(&folder).start().await;
    let _viewer = StrictViewer::open(app.address(), ID).await;
    let ballast = folder.path().join("ballast");
    let full = async {
        // The database has pages in reserve.
        loop {
            let filled = std::fs::write(&ballast, vec![0; 4 << 20]);
            assert!(filled.is_err(), "it fits no more");
            let body = json!({ "STALL_TIMEOUT": "7s", "ALLOWED_HOSTS": "a.".repeat(120) });
            let (status, problem) = change(&app, &body).await;
            if status == 507 {
                break problem;
            }
            assert_eq!(status, 200, "{problem}");
            assert_eq!(change(&app, &json!({ "STALL_TIMEOUT": null, "ALLOWED_HOSTS": null })).await.0, 200);
        }
    };
    let problem = within(Duration::from_secs(15), "a full disk", full).await;
    assert_eq!(problem["code"], "storage_full");
    assert_eq!(setting(&app, "STALL_TIMEOUT").await["value"], "5s");
    assert_eq!(
        request(app.address(), "PUT", NAMES, &json!({ "address": "10.0.0.1", "name": "x".repeat(64) }))
            .await
            .0,
        507
    );
    assert_eq!(page(&app, NAMES).await["names"], json!([]));
    std::fs::remove_file(&ballast).expect("it is there");
    assert_eq!(change(&app, &json!({ "STALL_TIMEOUT": "7s" })).await.0, 200);
    app.stop().await;
}
