//! §3.5: the operator's pages, before a fleet on a Docker daemon. What is refused has reached neither daemon nor engine.

use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::{Call, FakeDockerd};
use acemux_testkit::send;
use serde_json::{Value, json};

use super::{Row, ask, assert_table, get, row, with_body};
use crate::id;

const KEY: &str = "a-key-of-twenty-signs";

fn keyed(line: &str) -> String {
    ask(line, &format!("X-API-KEY: {KEY}\r\n"))
}

fn post(path: &str, body: &Value) -> String {
    with_body(&format!("POST {path}"), &format!("X-API-KEY: {KEY}\r\n"), &body.to_string())
}

/// A service with one engine of its own beside a container of somebody else's.
struct Scene {
    daemon: FakeDockerd,
    app: TestApp,
    foreign: String,
    own: String,
    name: String,
}

impl Scene {
    async fn set(ports: &'static str) -> Self {
        let daemon = FakeDockerd::start(&[FAST], true);
        let foreign = daemon.add_foreign("neighbour", &[("orchestrator.managed", "acestream")]);
        let settings = [
            ("API_KEY", KEY),
            ("MIN_REPLICAS", "1"),
            ("MIN_FREE_REPLICAS", "0"),
            ("MAX_REPLICAS", "3"),
            ("PORT_RANGE_HOST", ports),
        ];
        let setup = Setup::new().set_all(settings).set_all(daemon.settings());
        let app = setup.start().await;
        let ours =
            || daemon.containers().into_iter().find(|(id, _, state)| *id != foreign && *state == "running");
        until("an engine runs", || ours().is_some() && app.app.engines.all().len() == 2).await;
        let (own, name, _) = ours().expect("it runs");
        Self { daemon, app, foreign, own, name }
    }

    /// Nobody's container was touched, and nothing was asked of the daemon that may not be.
    fn assert_untouched(&self) {
        assert_eq!((self.daemon.calls(Call::Remove), self.daemon.calls(Call::Stop)), (0, 0));
        let engines = self.daemon.bodies().into_iter().filter(|body| body["Image"] == FAST).count();
        assert_eq!(engines, 1, "one engine was created");
        let is_there = |(id, _, state): &(String, String, &str)| *id == self.foreign && *state == "running";
        assert!(self.daemon.containers().iter().any(is_there));
        assert_eq!(self.daemon.violations(), [] as [String; 0]);
    }
}

fn containers(scene: &Scene) -> Vec<Row> {
    let Scene { foreign, own, name, .. } = scene;
    let unknown = [
        foreign.as_str(),
        &own[..1],
        &own[..11],
        &own[..12],
        name,
        "neighbour",
        ".*",
        "x",
        "..%2fx",
        "%2e%2e",
    ];
    let mut rows = Vec::new();
    for id in unknown.into_iter().chain([&*"f".repeat(64)]) {
        rows.push(row(90, keyed(&format!("GET /containers/{id}")), "404 not_found; open"));
        rows.push(row(90, keyed(&format!("DELETE /containers/{id}")), "404 not_found; open"));
        rows.push(row(90, get(&format!("/engines/{id}")), "404 not_found; open"));
        // There is no page for logs: what an engine said last is in the event of its end.
        rows.push(row(
            92,
            keyed(&format!("GET /containers/{id}/logs?tail=all&since=-5")),
            "404 not_found; open",
        ));
    }
    rows
}

/// Settings that cannot be, and settings that would lock somebody out.
fn settings() -> Vec<Row> {
    let patch = |row_of: u8, body: &str, expected| {
        let request = with_body("PATCH /api/v1/settings", &format!("X-API-KEY: {KEY}\r\n"), body);
        row(row_of, request, expected)
    };
    let invalid = "400 invalid_setting; open";
    let fixed = "409 setting_fixed; open";
    vec![
        patch(96, r#"{"NO_SUCH_SETTING":1}"#, invalid),
        patch(96, r#"{"HOLD_TIMEOUT":true}"#, invalid),
        patch(96, r#"{"HOLD_TIMEOUT":-1}"#, invalid),
        patch(96, r#"{"HEADER_TIMEOUT":0}"#, invalid),
        patch(96, r#"{"MAX_VIEWERS":18446744073709551616}"#, invalid),
        patch(96, r#"{"MAX_VIEWERS":1e999}"#, "400 invalid_body; open"),
        patch(96, r#"{"HOLD_TIMEOUT":""}"#, invalid),
        patch(96, r#"{"HOLD_TIMEOUT":{"value":5}}"#, invalid),
        patch(96, r#"[{"HOLD_TIMEOUT":5}]"#, "400 invalid_body; open"),
        patch(96, r#"{"HOLD_TIMEOUT":"9s","MAX_VIEWERS":"many"}"#, invalid),
        patch(96, r#"{"HOLD_TIMEOUT":"9s","hold_timeout":"8s"}"#, invalid),
        patch(96, r#"{"HOLD_TIMEOUT":null}"#, "200; open"),
        patch(97, r#"{"APP_HOST":"0.0.0.0"}"#, fixed),
        patch(97, r#"{"API_KEY":null}"#, "200; open"),
        patch(97, r#"{"API_KEY":"another-key-of-twenty"}"#, fixed),
        patch(97, r#"{"OPERATOR_WITHOUT_KEY":"loopback"}"#, fixed),
        patch(97, r#"{"MAX_STREAMS_PER_ENGINE":0}"#, invalid),
        patch(97, r#"{"MAX_CONNECTIONS":0}"#, invalid),
        patch(97, r#"{"DRAIN_TIMEOUT":1000000000}"#, invalid),
        patch(97, r#"{"EVENT_RETENTION":"1s"}"#, invalid),
    ]
}

fn numbers_and_names() -> Vec<Row> {
    let scale = |to: &str, expected| row(93, keyed(&format!("POST /scale/{to}")), expected);
    let stop = |id: &str| row(94, keyed(&format!("DELETE /streams/{id}")), "404 not_found; open");
    let report = |engine: Value| {
        json!({
            "container_id": engine,
            "engine": { "host": "192.0.2.1", "port": 6878 },
            "stream": { "key_type": "infohash", "key": id(1) },
            "session": { "playback_session_id": "1", "is_live": 1, "stat_url": "http://127.0.0.1:1/", "command_url": "" },
        })
    };
    let started = "/events/stream_started";
    let events = |query: &str, expected| row(105, get(&format!("/events?{query}")), expected);
    vec![
        scale("-1", "400 invalid_param; open"),
        scale("abc", "400 invalid_param; open"),
        scale("12abc", "400 invalid_param; open"),
        scale("1.5", "400 invalid_param; open"),
        scale("99999999999999999999", "400 invalid_param; open"),
        scale("", "404 not_found; open"),
        stop("nonsense"),
        stop(&id(9)),
        stop(&format!("{}%7C1", id(9))),
        stop("..%2f.."),
        row(95, post(started, &report(json!("f".repeat(64)))), "404 not_found; open"),
        row(95, post(started, &report(json!("neighbour"))), "404 not_found; open"),
        row(95, post(started, &json!({ "engine": {} })), "400 invalid_body; open"),
        row(
            95,
            with_body(&format!("POST {started}"), "", &report(json!(null)).to_string()),
            "401 missing_key; open",
        ),
        row(
            95,
            post(started, &json!({ "labels": { "a": "x".repeat(70_000) } })),
            "413 body_too_large; closed",
        ),
        row(98, post("/provision/acestream", &json!({ "image": "evil/image" })), "400 invalid_body; open"),
        row(98, post("/provision/acestream", &json!({ "image": "a".repeat(500) })), "400 invalid_body; open"),
        row(98, post("/provision/acestream", &json!({ "image": "--privileged" })), "400 invalid_body; open"),
        row(
            99,
            post("/provision/acestream", &json!({ "env": { "CONF": "--bind-all $(id)" } })),
            "400 invalid_body; open",
        ),
        row(
            99,
            post("/provision/acestream", &json!({ "env": { "LD_PRELOAD": "/tmp/x.so" } })),
            "400 invalid_body; open",
        ),
        row(
            100,
            post("/provision/acestream", &json!({ "volumes": { "/": "/host" } })),
            "400 invalid_body; open",
        ),
        row(100, post("/provision/acestream", &json!({ "privileged": true })), "400 invalid_body; open"),
        events("limit=-1", "400 invalid_param; open"),
        events("limit=0", "400 invalid_param; open"),
        events("limit=1000000000", "400 invalid_param; open"),
        events("offset=-1", "400 invalid_param; open"),
        events("offset=99999999999999999999", "400 invalid_param; open"),
        events("event_type=%27%3B%20DROP%20TABLE%20events%3B--", "200; open"),
        events("stream_id=%27%20OR%201%3D1%20--", "200; open"),
        events("since=yesterday", "400 invalid_param; open"),
        row(105, keyed("POST /events/cleanup?max_age_days=0"), "400 invalid_param; open"),
        row(105, keyed("POST /events/cleanup?max_age_days=99999999999"), "400 invalid_param; open"),
        row(108, get("/panel/%2e%2e/etc/passwd"), "404 not_found; open"),
        row(108, get("/panel//etc/passwd"), "404 not_found; open"),
    ]
}

/// Rows 99 to 101 and 104: what engines are made from. `config` is what there is.
fn recipes(config: &Value) -> Vec<Row> {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config);
        post("/custom-variant/config", &config)
    };
    let flag = |is_on: bool, value: &'static str| {
        let set = move |config: &mut Value| {
            let parameters = config["parameters"].as_array_mut().expect("parameters");
            let cache = parameters.iter_mut().find(|parameter| parameter["name"] == "--cache-dir");
            let cache = cache.expect("it is one of them");
            (cache["value"], cache["enabled"]) = (json!(value), json!(is_on));
        };
        row(99, changed(&set), "400 invalid_body; open")
    };
    let unknown = |config: &mut Value| config["parameters"][0]["name"] = json!("--allow-remote-access");
    let mut rows: Vec<Row> =
        ["x; id", "$(id)", "a b", "/etc; --bind-all"].map(|value| flag(true, value)).into();
    // What is not used is kept, but as text that steers nobody who reads it.
    rows.extend(["a\nb", "a\u{1b}[2J", "a\u{202e}b", "a\0"].map(|value| flag(false, value)));
    rows.push(row(99, changed(&unknown), "400 invalid_body; open"));
    for path in ["/", "/var/run/docker.sock", "../x", "x"] {
        let mount = move |config: &mut Value| {
            config["torrent_folder_mount_enabled"] = json!(true);
            config["torrent_folder_host_path"] = json!(path);
        };
        rows.push(row(100, changed(&mount), "400 invalid_body; open"));
    }
    for limit in ["-1", "1.5x", "10", "1180591620717411303424", "10T; id"] {
        let limited = move |config: &mut Value| config["memory_limit"] = json!(limit);
        rows.push(row(101, changed(&limited), "400 invalid_body; open"));
    }
    let import = |text: &str| post("/custom-variant/templates/1/import", &json!({ "json_data": text }));
    for text in
        ["", "PK\u{3}\u{4}", "{\"name\": \"../x\"}", "[]", "{\"name\": \"x\", \"config\": {\"x\": 1}}"]
    {
        rows.push(row(104, import(text), "400 invalid_param; open"));
    }
    rows.push(row(104, import(&"x".repeat(1 << 20)), "413 body_too_large; closed"));
    rows.push(row(
        104,
        post("/custom-variant/templates/99/import", &json!({ "json_data": "{}" })),
        "400 invalid_param; open",
    ));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn names_numbers_and_recipes_that_are_none_are_refused_and_nothing_is_touched() {
    let scene = Scene::set("24460-24479").await;
    let at = scene.app.address();
    let page = async |path: &str| send(at, &get(path)).await.json().await;
    let config = page("/custom-variant/config").await;
    assert_table(at, containers(&scene)).await;
    assert_table(at, numbers_and_names()).await;
    let values = async || send(at, &keyed("GET /api/v1/settings")).await.json().await;
    let before = values().await;
    assert_table(at, settings()).await;
    assert_eq!(values().await, before, "nothing half-applied");
    assert_table(at, recipes(&config)).await;
    assert_eq!(page("/custom-variant/config").await, config);
    scene.assert_untouched();
}

/// Row 91. Answered when it is done, so 200 where the catalogue has 202.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_deleted_twice_is_removed_once() {
    let scene = Scene::set("24480-24499").await;
    let Scene { daemon, app, foreign, own, .. } = &scene;
    let request = keyed(&format!("DELETE /containers/{own}"));
    let (first, second) = tokio::join!(send(app.address(), &request), send(app.address(), &request));
    let mut both = [first.status, second.status];
    both.sort_unstable();
    assert!(matches!(both, [200, 200 | 404]), "{both:?}");
    assert_table(app.address(), [row(91, request, "404 not_found; open")]).await;
    assert!(daemon.calls(Call::Remove) <= 1, "one removal");
    assert!(daemon.containers().iter().any(|(id, _, state)| id == foreign && *state == "running"));
    assert_eq!(daemon.violations(), [] as [String; 0]);
}

/// Row 106. An operator is not kept out.
#[tokio::test(flavor = "multi_thread")]
async fn of_one_address_no_more_listen_to_events_than_may() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let live = "GET /api/v1/events/live";
    let mut open = Vec::new();
    for _ in 0..16 {
        let reply = send(app.address(), &ask(live, "Last-Event-ID: garbage\r\n")).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
        open.push(reply);
    }
    let rows = [
        row(106, ask(live, ""), "503 server_full; open"),
        row(106, keyed(live), "200; content-type: text/event-stream"),
    ];
    assert_table(app.address(), rows).await;
}
