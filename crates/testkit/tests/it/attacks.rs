//! Pages of strangers in a real browser at this machine, where nobody needs a key: the weakest configuration that there is.
//! They try every way that a browser has to send a request, on every page that changes something, and read nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use acemux_server::app::surface;
use acemux_server::http::surface::{Class, Entry};
use acemux_sim::{ContentHash, Fault, Target};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::{Call, FakeDockerd};
use acemux_testkit::{StrictViewer, Witness, get};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::books::{ask, changes};
use crate::{ID, id, stream};

/// Longest that a viewer may be without a byte for what strangers do.
const PROMISE: Duration = Duration::from_millis(150);
/// Longest run of the browser.
const PATIENCE: Duration = Duration::from_mins(1);
/// A channel that loops and is blocked.
const LOOPS: usize = 9;
/// Figures that change by themselves while a stream plays.
const RESTLESS: [&str; 28] = [
    "arriving_bps",
    "at",
    "buffer_bytes",
    "buffer_seconds",
    "bytes_received",
    "bytes_sent",
    "cpu_percent",
    "downloaded",
    "idle_seconds",
    "last_health_check",
    "last_seen",
    "last_stream_usage",
    "live_first",
    "live_last",
    "memory_usage",
    "network_rx_bytes",
    "network_tx_bytes",
    "peers",
    "points",
    "pos",
    "request_id",
    "runway_seconds",
    "speed_down",
    "speed_up",
    "timestamp",
    "uploaded",
    "uptime_seconds",
    "verdict_reason",
];

/// The program with everything that somebody could want to change: an engine in a container and one that is none, a
/// template, a channel that is blocked.
struct Scene {
    app: TestApp,
    daemon: FakeDockerd,
}

impl Scene {
    async fn set() -> Self {
        let daemon = FakeDockerd::start(&[FAST], true);
        let settings = [
            ("MIN_REPLICAS", "0"),
            ("MIN_FREE_REPLICAS", "0"),
            ("MAX_REPLICAS", "4"),
            ("PORT_RANGE_HOST", "24440-24459"),
        ];
        let setup = Setup::new().set_all(settings).set_all(daemon.settings());
        let scene = Self { app: setup.start().await, daemon };
        let looks =
            "/stream-loop-detection/config?enabled=true&threshold_seconds=3600&check_interval_seconds=5";
        assert_eq!(ask(scene.app.address(), "POST", looks, "", &Value::Null).await.status, 200);
        scene.block_a_channel().await;
        let config = scene.page("/custom-variant/config").await;
        for (path, body) in [
            ("/stream-loop-detection/config?enabled=false&threshold_seconds=3600", Value::Null),
            ("/custom-variant/templates/1", json!({ "name": "one", "config": config })),
            ("/scale/1", Value::Null),
        ] {
            assert_eq!(ask(scene.app.address(), "POST", path, "", &body).await.status, 200, "{path}");
        }
        until("the container's engine is well", || {
            let engines = scene.app.app.engines.all();
            engines.len() == 2 && engines.iter().all(|engine| engine.knowledge().last_check.is_some())
        })
        .await;
        scene
    }

    async fn block_a_channel(&self) {
        let content = id(LOOPS);
        let target = Target::Content(ContentHash::parse(&content).expect("40 digits"));
        self.app.engine().set_fault(target, Fault::StaleLive { seconds: 7200 });
        let mut viewer = StrictViewer::open(self.app.address(), &content).await;
        assert!(viewer.watch(Duration::from_secs(15)).await.is_some(), "it loops and is ended");
    }

    async fn page(&self, path: &str) -> Value {
        get(self.app.address(), path).await.json().await
    }

    /// What each parameter of a route may name here.
    async fn names(&self) -> Names {
        let viewers = self.page(&format!("/proxy/sessions/{ID}/viewers")).await;
        let looping = self.page("/looping-streams").await;
        Names {
            viewer: viewers["viewers"][0]["id"].to_string(),
            container: self.daemon.containers()[0].0.clone(),
            looping: looping["stream_ids"][0].as_str().expect("one is blocked").to_owned(),
        }
    }

    /// Everything that pages tell and that Docker was told, but for what does not stand still.
    async fn state(&self, names: &Names) -> State {
        let mut state = State::new();
        // Events go on for as long as somebody listens; they tell what the other pages tell.
        // The doctor tells of this machine, which does not stand still; what people see is no JSON.
        let for_people =
            |path: &str| ["/", "/status", "/docs"].contains(&at_root(path)) || path.starts_with("/panel");
        let restless = ["/metrics", "/events/live", "/doctor"];
        let is_page = |entry: &Entry| {
            let is_status = !matches!(entry.class, Class::Media | Class::Probe);
            let is_told = !restless.contains(&at_root(&entry.path)) && !for_people(&entry.path);
            is_status && entry.method == "GET" && is_told
        };
        for Entry { path: route, .. } in surface().entries().into_iter().filter(is_page) {
            let path = names.fill(&route);
            let mut reply = get(self.app.address(), &format!("{path}?limit=1000")).await;
            flatten(&route, &reply.json().await, &mut state);
        }
        let calls = [Call::Create, Call::Start, Call::Stop, Call::Remove, Call::Pull];
        let calls = calls.map(|call| self.daemon.calls(call));
        let docker =
            json!({ "calls": calls, "containers": self.daemon.containers(), "bodies": self.daemon.bodies() });
        flatten("docker", &docker, &mut state);
        flatten("playbacks", &json!(self.app.ledger.counts().opened), &mut state);
        state
    }

    /// Fails unless each kind of thing is another one now.
    async fn assert_changed(&self, before: &State, names: &Names) {
        let differing = differences(before, &self.state(names).await);
        for part in [
            "/looping-streams",
            "/stream-loop-detection/config",
            "/custom-variant/config",
            "/custom-variant/templates",
            "/proxy/sessions",
            "/events",
            "/api/v1/settings",
            "docker calls",
        ] {
            assert!(differing.iter().any(|place| place.starts_with(part)), "{part}: {differing:#?}");
        }
    }

    /// Each change with what it needs to have an effect, in the query and as a body.
    async fn changes(&self, names: &Names) -> Vec<Value> {
        let mut config = self.page("/custom-variant/config").await;
        config["parameters"][15]["value"] = json!(12);
        let engine = self.app.engine().addr();
        let report = json!({
            "engine": { "host": engine.ip().to_string(), "port": engine.port() },
            "stream": { "key_type": "infohash", "key": ID },
            "session": { "playback_session_id": "1", "is_live": 1, "stat_url": "http://127.0.0.1:1/a", "command_url": "http://127.0.0.1:1/b" },
            "labels": { "stream_id": "evil" },
        });
        let with = |method: &str, route: &str| match (method, at_root(route)) {
            (_, "/events/cleanup") => ("max_age_days=1", json!({})),
            (_, "/events/stream_started") => ("", report.clone()),
            (_, "/events/stream_ended") => ("", json!({ "stream_id": "evil" })),
            (_, "/stream-loop-detection/config") => ("enabled=true&threshold_seconds=60", json!({})),
            (_, "/settings") => ("", json!({ "HOLD_TIMEOUT": "31s" })),
            (_, "/settings/{name}") => ("", json!({ "value": "7s" })),
            (_, "/settings/import") => ("", json!({ "settings": { "HEDGE_AFTER": "13s" } })),
            (_, "/settings/engine") => ("", json!({ "auto_delete": false })),
            (_, "/settings/orchestrator") => ("", json!({ "monitor_interval_s": 61 })),
            (_, "/settings/vpn") => ("", json!({ "port_cache_ttl_s": 61 })),
            ("PUT", "/names") => ("", json!({ "address": "127.0.0.1", "name": "evil" })),
            (_, "/names") => ("address=127.0.0.1", json!({})),
            (_, "/custom-variant/config") => ("", config.clone()),
            ("POST", "/custom-variant/templates/{slot}") => ("", json!({ "name": "evil", "config": config })),
            (_, "/custom-variant/templates/{slot}/rename") => ("", json!({ "name": "renamed" })),
            (_, "/custom-variant/templates/{slot}/import") => {
                ("", json!({ "json_data": json!({ "name": "a", "config": config }).to_string() }))
            }
            _ => ("", json!({})),
        };
        let all = changes().into_iter().map(|(method, route, _)| {
            let (query, body) = with(&method, &route);
            json!({ "method": method, "path": names.fill(&route), "query": query, "body": body })
        });
        all.collect()
    }
}

/// Real things, for the parameters of routes.
struct Names {
    viewer: String,
    container: String,
    looping: String,
}

impl Names {
    fn fill(&self, route: &str) -> String {
        let begins = |with: &str| at_root(route).starts_with(with);
        let id = if begins("/proxy/viewers") {
            &self.viewer
        } else if begins("/looping") {
            &self.looping
        } else if begins("/proxy/sessions") || begins("/channels") {
            ID
        } else {
            &self.container
        };
        route
            .replace("{name}", "STALL_TIMEOUT")
            .replace("{id}", id)
            .replace("{slot}", "1")
            .replace("{engines}", "2")
    }
}

/// The route at the place where every client finds it.
fn at_root(route: &str) -> &str {
    route.strip_prefix("/api/v1").unwrap_or(route)
}

/// Every value with the place where it stands.
type State = BTreeMap<String, String>;

fn flatten(place: &str, value: &Value, into: &mut State) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !RESTLESS.contains(&name.as_str())) {
                flatten(&format!("{place} {name}"), value, into);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                flatten(&format!("{place} {n}"), value, into);
            }
        }
        value => drop(into.insert(place.to_owned(), value.to_string())),
    }
}

/// The places at which they differ.
fn differences(before: &State, after: &State) -> Vec<String> {
    let places: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differing = places.into_iter().filter(|place| before.get(*place) != after.get(*place));
    differing.map(|place| format!("{place}: {:?}, now {:?}", before.get(place), after.get(place))).collect()
}

/// What the browser's pages saw; `None` when it cannot be run here.
async fn browse(plan: &Value) -> Option<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let is_there = folder.join("node_modules/playwright-core").exists();
    let mut command = Command::new("node");
    command.arg(folder.join("attack.mjs")).arg(plan.to_string()).stdin(Stdio::null()).kill_on_drop(true);
    let output = if is_there { within(PATIENCE, "the browser", command.output()).await.ok() } else { None };
    let Some(output) = output else {
        let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
        assert!(!must, "node, or what `npm ci` in crates/testkit/browser brings, is not installed");
        println!("skipped: there is no browser");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().last().unwrap_or_default();
    let errors = || String::from_utf8_lossy(&output.stderr).into_owned();
    Some(serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}{}", errors())))
}

/// Fails when a health check does while `what` is done.
async fn while_healthy<T>(app: &TestApp, what: impl Future<Output = T>) -> T {
    let checks = async {
        loop {
            for path in ["/livez", "/readyz"] {
                let reply = within(Duration::from_secs(2), path, get(app.address(), path)).await;
                assert_eq!(reply.status, 200, "{path}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! { done = what => done, () = checks => unreachable!("they go on for ever") }
}

/// Each way in which a browser sends something, and what arrives at a server that allows everything.
fn ways() -> Value {
    let (text, urlencoded) = (["POST text/plain"], ["POST application/x-www-form-urlencoded"]);
    json!({
        "fetch-simple": text, "fetch-no-cors": text, "fetch-redirect": text, "xhr": text, "beacon": text,
        "form-text": text, "form-urlencoded": urlencoded, "form-empty": urlencoded, "sandbox": urlencoded,
        "form-multipart": ["POST multipart/form-data"], "fetch-empty": ["POST "], "beacon-json": ["POST application/json"],
        "form-get": ["GET "], "fetch-get": ["GET "], "image": ["GET "], "script": ["GET "], "style": ["GET "],
        "prefetch": ["GET "], "video": ["GET "], "iframe": ["GET "], "event-source": ["GET "], "websocket": ["upgrade"],
    })
}

/// What pages of other origins have seen is nothing, and what a page of a stranger's name at our port has seen is that the
/// name is none of ours.
fn assert_nothing_was_read(seen: &Value, asked: usize) {
    assert_eq!(seen["seen"], json!([]), "no page has read anything");
    assert_eq!(seen["media"], json!([200, 200]), "but media, which is for every page");
    let rebound = seen["rebound"].as_array().expect("answers");
    assert_eq!(rebound.len(), asked);
    for answer in rebound {
        let problem: Value = serde_json::from_str(answer["text"].as_str().unwrap_or_default()).expect("JSON");
        assert_eq!((&answer["status"], &problem["code"]), (&json!(421), &json!("bad_host")), "{answer}");
    }
    for read in seen["reboundSeen"].as_array().expect("answers") {
        assert!(read["seen"].as_str().is_some_and(|text| text.contains("\"bad_host\"")), "{read}");
    }
}

/// At a server that allows everything all of it arrives, and can be read.
fn assert_the_browser_does_it_all(seen: &Value) {
    for (way, arrives) in ways().as_object().expect("an object") {
        assert_eq!(&seen["sent"][way], arrives, "{way}");
    }
    assert!(seen["open"].as_array().is_some_and(|read| !read.is_empty()), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_in_a_browser_change_nothing_and_read_nothing() {
    let scene = Scene::set().await;
    let mut viewer = StrictViewer::open(scene.app.address(), ID).await;
    // The engine has said what it does, once.
    let said = async {
        while scene.page(&format!("/proxy/sessions/{ID}")).await["peers"].is_null() {
            assert_eq!(viewer.watch(Duration::from_millis(100)).await, None, "the viewer was cut");
        }
    };
    within(PATIENCE, "the engine's own word", said).await;
    let names = scene.names().await;
    let changes = scene.changes(&names).await;
    assert!(changes.len() >= 37, "{changes:?}");
    let reads = ["/proxy/status", "/events", "/engines", "/custom-variant/config", "/no/such/page"];
    let asked = changes.len() + reads.len();
    let target = scene.app.address().to_string();
    let mut plan = json!({ "as": "stranger", "target": target, "media": stream(ID), "changes": changes, "reads": reads });

    let before = scene.state(&names).await;
    // In a task of its own, as the witness is: what the test itself does is neither's.
    let (witness, enough) = (Witness::start().await, CancellationToken::new());
    let (mut watching, token) = (JoinSet::new(), enough.clone());
    watching.spawn(async move {
        let end = token.run_until_cancelled(viewer.watch(PATIENCE * 2)).await.flatten();
        (end, viewer)
    });
    let seen = while_healthy(&scene.app, browse(&plan)).await;
    enough.cancel();
    let (end, viewer) = watching.join_next().await.expect("it watches").expect("it watches to the end");
    let Some(seen) = seen else { return };
    let differing = differences(&before, &scene.state(&names).await);
    assert!(differing.is_empty(), "{differing:#?}");
    assert_nothing_was_read(&seen, asked);
    assert_the_browser_does_it_all(&seen);
    assert_eq!(end, None, "the viewer was cut");
    viewer.assert_perfect();
    witness.assert_within(PROMISE, [&viewer]).await;

    // The same from our own origin: it would have had an effect. The viewer is one of those that it throws out.
    plan["as"] = json!("own");
    let own = browse(&plan).await.expect("there is a browser");
    for answer in own["own"].as_array().expect("answers") {
        let status = answer["status"].as_u64().unwrap_or_default();
        assert!(matches!(status, 200..=299 | 400 | 404 | 409), "{answer}");
    }
    scene.assert_changed(&before, &names).await;
}
