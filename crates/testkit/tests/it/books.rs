//! What is written down, in the log and in the event history: what strangers cause takes a bounded part of both, every
//! change of an operator is there, and no name from outside steers who reads it.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_server::app::surface;
use acemux_server::http::surface::{Class, Entry};
use acemux_sim::{Fault, SimOptions, Target, infohash_of};
use acemux_testkit::app::{Setup, within};
use acemux_testkit::http::get_from;
use acemux_testkit::rawengine::Act;
use acemux_testkit::{Process, RawEngine, Reply, StrictViewer, get, send};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{ID, home, id, stream};

const KEY: &str = "a-key-of-twenty-signs";
/// How long strangers ask for dead ids, and over how many connections at a time.
const FLOOD: Duration = Duration::from_secs(5);
const FLOODERS: usize = 12;

/// A request with a JSON body and these header lines.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    send(address, &request).await
}

async fn events(address: SocketAddr, query: &str, headers: &str) -> Vec<Value> {
    let page =
        ask(address, "GET", &format!("/events?limit=1000&{query}"), headers, &Value::Null).await.json().await;
    page.as_array().unwrap_or_else(|| panic!("{query}: {page}")).clone()
}

/// An engine that knows one channel and refuses every other at once.
async fn engine_of_one_channel() -> RawEngine {
    let known = infohash_of(ID);
    let script = move |target: &str| {
        let is_dead =
            target.starts_with("/ace/getstream") && !target.contains(&known) && !target.contains(ID);
        is_dead.then(|| Act::json(&json!({ "response": null, "error": "failed to load content" })))
    };
    RawEngine::start(script).await
}

/// How many starts failed, as the program counts them.
async fn failed_starts(program: &Process) -> u64 {
    let metrics = program.text("/metrics").await;
    let failed = metrics
        .lines()
        .filter(|line| line.starts_with("acemux_proxy_starts_total{") && !line.contains("\"ok\""));
    failed.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// What the history says of failed starts: events in full, and how many more there were.
async fn told(program: &Process) -> (u64, u64) {
    let failed = events(program.address, "category=failed", "").await;
    let more = |event: &Value| event["details"]["more"].as_u64();
    let in_full = failed.iter().filter(|event| more(event).is_none()).count();
    (in_full as u64, failed.iter().filter_map(more).sum())
}

/// Lines of the log in the second that has most, by their timestamps.
fn densest_second(log: &str) -> usize {
    let mut times: Vec<f64> = log.lines().filter_map(seconds_of).collect();
    times.sort_by(f64::total_cmp);
    let within = |from: f64| times.iter().filter(|at| (from..from + 1.0).contains(*at)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or_default()
}

/// The time of day that a line begins with: `2026-01-02T03:04:05.678901Z`.
fn seconds_of(line: &str) -> Option<f64> {
    let mut parts = line.split_once('T')?.1.split_once('Z')?.0.split(':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Some(part()? * 3600.0 + part()? * 60.0 + part()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dead_ids_is_a_few_lines_and_a_number_and_pushes_out_nothing() {
    let engine = engine_of_one_channel().await;
    let engines = [engine.address().parse().expect("an address")];
    let program = Process::start(&engines, &[("STREAM_IDLE_TIMEOUT", "1s")]).await;
    let cleared = ask(program.address, "POST", "/looping-streams/clear", "", &Value::Null).await;
    assert_eq!(cleared.status, 200);
    let viewer = StrictViewer::open_from(home(1), program.address, ID).await;
    let until = Instant::now() + FLOOD;
    let address = program.address;
    let floods = (0..FLOODERS).map(async |flooder| {
        let mut asked = 0;
        while Instant::now() < until {
            get_from(home(2), address, &stream(&id(1_000_000 * (flooder + 1) + asked))).await.body().await;
            asked += 1;
        }
        asked
    });
    let asked: usize = join_all(floods).await.into_iter().sum();
    let failed = failed_starts(&program).await;
    println!("{asked} dead ids in {FLOOD:?}, {failed} starts");
    assert!(failed > 500, "{failed} of {asked}: it is a flood");

    within(Duration::from_secs(15), "every repeat is counted", async {
        loop {
            let (in_full, more) = told(&program).await;
            if in_full + more == failed {
                break assert!((1..=200).contains(&in_full), "{in_full} in full of {failed}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let audit = events(program.address, "category=audit", "").await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    let key = infohash_of(ID);
    let started = events(program.address, "category=started", "").await;
    assert!(
        started.iter().any(|event| event["stream_id"].as_str().is_some_and(|id| id.contains(&key))),
        "{started:?}"
    );

    let log = program.log();
    let densest = densest_second(&log);
    println!("{} lines, {densest} in the densest second", log.lines().count());
    assert!(densest <= 200, "{densest} lines in a second");
    assert!(log.contains("/looping-streams/clear by this_machine at 127.0.0.1: 200"), "{log}");
    assert!(
        log.contains(" more asked for by one client, the last one: stream could not be started"),
        "{log}"
    );
    drop(viewer);
}

/// Each route that changes something, with a number for every parameter.
pub(crate) fn changes() -> Vec<(String, String, String)> {
    // To log in is for who is no operator yet; `logins` tries it.
    let entries = surface().entries().into_iter().filter(|entry| entry.class != Class::Login);
    let changing = entries.filter(|entry| !["GET", "HEAD", "OPTIONS"].contains(&entry.method.as_str()));
    let with_path = changing.map(|Entry { method, path: route, .. }| {
        let segments = route.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
        let path = segments.collect::<Vec<_>>().join("/");
        (method.to_string(), route, path)
    });
    with_path.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_changes_something_is_in_the_audit() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let headers = format!("X-API-KEY: {KEY}\r\n");
    let changes = changes();
    assert!(changes.len() >= 37, "{changes:?}");
    for (method, route, path) in changes {
        let seen = events(app.address(), "category=audit", &headers).await.len();
        let status = ask(app.address(), &method, &path, &headers, &json!({})).await.status;
        let audit = events(app.address(), "category=audit", &headers).await;
        assert_eq!(audit.len(), seen + 1, "{method} {route}: {status}");
        let (kind, entry) = (&audit[0]["event_type"], &audit[0]["details"]);
        // A body that cannot be read is told from other bad requests at the edge only.
        let noted = entry["status"].as_u64().map(|noted| if noted == 422 { 400 } else { noted });
        assert_eq!((kind, noted), (&json!("system"), Some(status.into())), "{method} {route}: {entry}");
        assert_eq!((&entry["who"], &entry["address"]), (&json!("key"), &json!("127.0.0.1")), "{entry}");
        // The mirror of a page is the same action.
        let [route, path] = [&route, &path].map(|path| path.strip_prefix("/api/v1").unwrap_or(path));
        assert_eq!(entry["action"], format!("{method} {route}"), "{entry}");
        let message = audit[0]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("{method} {path} by key at 127.0.0.1: ")), "{message}");
    }
    let reads = ask(app.address(), "GET", "/custom-variant/templates/1/export", &headers, &Value::Null).await;
    assert_eq!(reads.status, 404);
    let seen = events(app.address(), "category=audit", &headers).await.len();
    let refused = ask(app.address(), "POST", "/events/cleanup", "X-API-KEY: no\r\n", &Value::Null).await;
    assert_eq!(refused.status, 401);
    let now = events(app.address(), "category=audit", &headers).await.len();
    assert_eq!(now, seen, "neither who reads nor who is refused has changed anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_says_what_was_and_what_is_and_whose_address_a_trusted_proxy_named() {
    let app = Setup::new().set("API_KEY", KEY).set("TRUSTED_PROXIES", "127.0.0.1").start().await;
    let headers = format!("Authorization: Bearer {KEY}\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9\r\n");
    let path = "/stream-loop-detection/config?enabled=true&threshold_seconds=7200";
    assert_eq!(ask(app.address(), "POST", path, &headers, &Value::Null).await.status, 200);
    let newest =
        async || events(app.address(), "category=audit", &headers).await.swap_remove(0)["details"].clone();
    let entry = newest().await;
    assert_eq!(entry["address"], "203.0.113.9");
    assert_eq!(
        (&entry["before"]["enabled"], &entry["after"]["enabled"]),
        (&json!(false), &json!(true)),
        "{entry}"
    );
    assert_eq!(entry["after"]["threshold_seconds"], 7200);
    assert_eq!(entry["after"].get("check_interval_seconds"), None, "only what differs: {entry}");

    let mut config = get(app.address(), "/custom-variant/config").await.json().await;
    config["parameters"][5]["value"] = json!("a-secret-of-the-engine");
    config["parameters"][5]["enabled"] = json!(true);
    config["parameters"][15]["value"] = json!(12);
    let saved = ask(app.address(), "POST", "/custom-variant/config", &headers, &config).await;
    assert_eq!(saved.status, 200);
    let entry = newest().await;
    assert_eq!(
        (&entry["before"]["--live-buffer"], &entry["after"]["--live-buffer"]),
        (&json!(10), &json!(12)),
        "{entry}"
    );
    assert!(!entry.to_string().contains("a-secret"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_the_operators_and_nobody_cleans_it_up() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let headers = format!("X-API-KEY: {KEY}\r\n");
    let viewer = StrictViewer::open(app.address(), ID).await;
    assert_eq!(
        ask(app.address(), "POST", "/events/cleanup?max_age_days=1", &headers, &Value::Null).await.status,
        200
    );
    assert_eq!(events(app.address(), "category=audit", &headers).await.len(), 1);
    assert_eq!(events(app.address(), "category=audit", "").await, [] as [Value; 0]);
    let public = events(app.address(), "", "").await;
    assert!(public.iter().any(|event| event["category"] == "started"), "{public:?}");
    assert!(public.iter().all(|event| event["category"] != "audit"), "{public:?}");
    let wrong = ask(app.address(), "GET", "/events", "X-API-KEY: no\r\n", &Value::Null).await;
    assert_eq!(wrong.status, 401, "or the key could be guessed here");
    drop(viewer);
}

/// Turns the reading order, has no width, ends a line, steers a terminal.
pub(crate) const STEERING: &str =
    "a\u{202e}b\u{2066}c\u{200b}d\u{2028}e\u{9b}31mf\u{61c}g\u{feff}h\ni\u{1b}[2Jj";

pub(crate) fn assert_plain(what: &str, text: &str) {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}')
    };
    assert!(!text.chars().any(steers), "{what}: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_from_outside_steers_who_reads_log_history_or_pages() {
    let script = |target: &str| {
        target
            .starts_with("/ace/getstream")
            .then(|| Act::json(&json!({ "response": null, "error": STEERING })))
    };
    let engine = RawEngine::start(script).await;
    let engines = [engine.address().parse().expect("an address")];
    let program = Process::start(&engines, &[("LOG_LEVEL", "debug")]).await;
    let mut refused = get(program.address, &stream(ID)).await;
    assert_eq!(refused.status, 502);
    let problem = refused.json().await;
    assert_plain("detail", problem["detail"].as_str().unwrap_or_default());
    let failed = events(program.address, "category=failed", "").await;
    assert_plain("event", failed[0]["message"].as_str().unwrap_or_default());
    for file in ["{\"name\": \"x\", \"config\": \"SIGN\"}", "{\"name\": \"x\", \"config\": {\"SIGN\": 1}}"] {
        let import = json!({ "json_data": file.replace("SIGN", "\u{202e}<script>") });
        let mut reply = ask(program.address, "POST", "/custom-variant/templates/1/import", "", &import).await;
        let detail = reply.json().await["detail"].clone();
        assert_eq!(reply.status, 400);
        assert!(
            !detail.as_str().unwrap_or_default().contains("script"),
            "input does not come back: {detail}"
        );
    }
    let config = program.page("/custom-variant/config").await;
    let named = json!({ "name": "a\u{202e}b", "config": config });
    assert_eq!(ask(program.address, "POST", "/custom-variant/templates/1", "", &named).await.status, 400);
    for line in program.log().split('\n') {
        assert_plain("log", line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewers_own_name_is_one_short_plain_line() {
    let app = Setup::with_engines([SimOptions::fast()]).start().await;
    let long = "x".repeat(2_000);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: a\u{202e}b\u{200b}c\u{2066}d\u{9b}\t{long}\r\n\r\n",
        stream(ID),
        app.address()
    );
    let reply = send(app.address(), &request).await;
    assert_eq!(reply.status, 200);
    let page = get(app.address(), &format!("/proxy/sessions/{ID}/viewers")).await.json().await;
    let agent = page["viewers"][0]["user_agent"].as_str().unwrap_or_default();
    assert_plain("viewer", agent);
    assert!(agent.starts_with("abcd xxx") && agent.chars().count() <= 256, "{agent}");
    app.engine().set_fault(Target::All, Fault::StartError { error: STEERING.into() });
    let mut refused = get(app.address(), &stream(&id(7))).await;
    assert_plain("detail", refused.json().await["detail"].as_str().unwrap_or_default());
}
