//! What an operator can ask and change through pages, without a fleet; `containers` has the rest.

use std::io::ErrorKind;
use std::time::Duration;

use acemux_sim::{Fault, Target, VOD_ID, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until};
use acemux_testkit::http::{BodyEnd, try_send};
use acemux_testkit::{Reply, StrictViewer, get, send};
use serde_json::{Value, json};

use crate::{ID, id};

async fn ask(app: &TestApp, method: &str, path: &str, body: &Value) -> Reply {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    send(app.address(), &request).await
}

async fn page(app: &TestApp, path: &str) -> Value {
    get(app.address(), path).await.json().await
}

#[tokio::test]
async fn a_template_is_kept_taken_over_carried_elsewhere_and_not_deleted_while_it_is_active() {
    let app = Setup::new().start().await;
    let mut config = page(&app, "/custom-variant/config").await;
    assert_eq!(config["parameters"].as_array().unwrap().len(), 35);
    config["parameters"][15]["value"] = json!(12);
    let body = json!({ "name": "twelve", "config": config });
    assert_eq!(ask(&app, "POST", "/custom-variant/templates/1", &body).await.status, 200);
    let activated =
        ask(&app, "POST", "/custom-variant/templates/1/activate", &Value::Null).await.json().await;
    assert_eq!(
        (activated["template_id"].as_u64(), activated["template_name"].as_str()),
        (Some(1), Some("twelve"))
    );
    assert_eq!(page(&app, "/custom-variant/config").await["parameters"][15]["value"], 12);
    assert_eq!(ask(&app, "DELETE", "/custom-variant/templates/1", &Value::Null).await.status, 400);

    let export = ask(&app, "GET", "/custom-variant/templates/1/export", &Value::Null).await.json().await;
    let import = json!({ "json_data": export.to_string() });
    assert_eq!(ask(&app, "POST", "/custom-variant/templates/2/import", &import).await.status, 200);
    let renamed = ask(&app, "PATCH", "/custom-variant/templates/2/rename", &json!({ "name": "other" })).await;
    assert_eq!(renamed.status, 200);
    let list = page(&app, "/custom-variant/templates").await;
    assert_eq!(list["templates"][1], json!({ "slot_id": 2, "name": "other", "exists": true }));
    assert_eq!(list["active_template_id"], 1);
    assert_eq!(ask(&app, "DELETE", "/custom-variant/templates/2", &Value::Null).await.status, 200);
    assert_eq!(get(app.address(), "/custom-variant/templates/2").await.status, 404);
    assert_eq!(get(app.address(), "/custom-variant/templates/11").await.status, 400);
}

#[tokio::test]
async fn what_changes_something_takes_the_key() {
    let app = Setup::new().set("API_KEY", "a-key-of-twenty-signs").start().await;
    for (method, path) in [
        ("POST", "/scale/1"),
        ("POST", "/provision/acestream"),
        ("DELETE", "/containers/0"),
        ("GET", "/containers/0"),
        ("POST", "/health/circuit-breaker/reset"),
        ("DELETE", "/proxy/viewers/1"),
        ("POST", "/events/cleanup"),
        ("POST", "/events/stream_started"),
        ("POST", "/events/stream_ended"),
        ("POST", "/custom-variant/config"),
        ("POST", "/custom-variant/reprovision"),
        ("POST", "/custom-variant/templates/1"),
        ("DELETE", "/custom-variant/templates/1"),
        ("PATCH", "/custom-variant/templates/1/rename"),
        ("POST", "/custom-variant/templates/1/activate"),
        ("GET", "/custom-variant/templates/1/export"),
        ("POST", "/custom-variant/templates/1/import"),
        ("GET", "/settings/export"),
        ("POST", "/settings/import"),
        ("POST", "/settings/engine"),
        ("GET", "/settings/orchestrator"),
        ("POST", "/settings/orchestrator"),
        ("GET", "/settings/vpn"),
        ("POST", "/settings/vpn"),
    ] {
        for prefix in ["", "/api/v1"] {
            let reply = ask(&app, method, &format!("{prefix}{path}"), &Value::Null).await;
            assert_eq!(reply.status, 401, "{method} {prefix}{path}");
        }
    }
    for path in [
        "/settings/engine",
        "/orchestrator/status",
        "/health/status",
        "/events",
        "/events/stats",
        "/engines/stats/all",
    ] {
        assert_eq!(get(app.address(), path).await.status, 200, "{path} is public, as in the guide");
    }
}

#[tokio::test]
async fn without_a_fleet_its_pages_say_so() {
    let app = Setup::new().start().await;
    for (method, path) in [("GET", "/api/v1/plan"), ("POST", "/scale/3"), ("POST", "/provision/acestream")] {
        let mut reply = ask(&app, method, path, &json!({})).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.json().await["detail"].as_str().unwrap().contains("ENGINE_PROVISIONER"));
    }
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let status = page(&app, "/orchestrator/status").await;
    assert_eq!((status["status"].as_str(), status["engines"]["total"].as_u64()), (Some("healthy"), Some(1)));
    assert_eq!(status["provisioning"]["can_provision"], false);
}

#[tokio::test]
async fn a_stream_that_another_program_reports_holds_a_slot_until_it_ends() {
    let app = Setup::new().start().await;
    let address = app.engine().addr();
    let report = |host: &str, id: &str| {
        json!({
            "engine": { "host": host, "port": address.port() },
            "stream": { "key_type": "infohash", "key": ID },
            "session": {
                "playback_session_id": "1", "is_live": 1,
                "stat_url": "http://127.0.0.1:1/stat", "command_url": "http://127.0.0.1:1/stop",
            },
            "labels": { "stream_id": id },
        })
    };
    let started =
        ask(&app, "POST", "/events/stream_started", &report("127.0.0.1", "ch-1")).await.json().await;
    assert_eq!((started["id"].as_str(), started["status"].as_str()), (Some("ch-1"), Some("started")));
    assert!(started["command_url"].is_null(), "it cannot set what is called");
    assert_eq!(app.app.engines.all()[0].used(), 1);
    assert_eq!(ask(&app, "POST", "/events/stream_started", &report("192.0.2.1", "ch-2")).await.status, 404);
    assert_eq!(page(&app, "/streams").await.as_array().unwrap().len(), 1);
    let end = async |body: Value| {
        ask(&app, "POST", "/events/stream_ended", &body).await.json().await["updated"].clone()
    };
    assert_eq!(end(json!({ "stream_id": "unknown" })).await, false, "an unknown id ends nothing");
    assert_eq!(end(json!({})).await, false);
    assert_eq!(end(json!({ "stream_id": "ch-1" })).await, true);
    assert_eq!(end(json!({ "stream_id": "ch-1" })).await, false, "and only once");
    assert_eq!(app.app.engines.all()[0].used(), 0);
}

#[tokio::test]
async fn a_viewer_that_is_thrown_out_goes_at_once_and_the_others_go_on() {
    let app = Setup::new().start().await;
    let mut stays = StrictViewer::open(app.address(), ID).await;
    let mut goes = StrictViewer::open(app.address(), ID).await;
    stays.watch(Duration::from_millis(200)).await;
    let viewers = page(&app, &format!("/proxy/sessions/{ID}/viewers")).await;
    let id = viewers["viewers"][1]["id"].as_u64().unwrap();
    assert_eq!(ask(&app, "DELETE", &format!("/proxy/viewers/{id}"), &Value::Null).await.status, 200);
    let end = goes.watch(Duration::from_secs(5)).await;
    assert!(end.is_some_and(|end| end != BodyEnd::Clean), "{end:?}: a player must notice");
    until("its place is free", || app.app.relay.viewers() == 1).await;
    let mut back = get(app.address(), &crate::stream(ID)).await;
    assert_eq!(
        (back.status, back.json().await["code"].as_str()),
        (403, Some("thrown_out")),
        "not straight back"
    );
    let other = StrictViewer::open(app.address(), &crate::id(3)).await;
    drop(other);
    stays.watch(Duration::from_millis(500)).await;
    stays.assert_perfect();
    for unknown in [id.to_string(), "0".into(), "-1".into(), "x".into()] {
        let reply = ask(&app, "DELETE", &format!("/proxy/viewers/{unknown}"), &Value::Null).await;
        assert_eq!(reply.status, 404, "{unknown}");
    }
    let mut metrics = get(app.address(), "/metrics").await;
    let (metrics, _) = metrics.body().await;
    assert!(
        String::from_utf8_lossy(&metrics).contains("acemux_proxy_viewers_left_total{reason=\"kicked\"} 1")
    );
}

#[tokio::test]
async fn a_stream_that_is_ended_ends_in_order_for_all_its_viewers_and_on_its_engine() {
    let app = Setup::new().start().await;
    for by in ["its id on the page", "its content id", "its infohash"] {
        let mut one = StrictViewer::open(app.address(), ID).await;
        let mut other = StrictViewer::open(app.address(), ID).await;
        let mut stays = StrictViewer::open(app.address(), &id(3)).await;
        one.watch(Duration::from_millis(200)).await;
        let listed = page(&app, "/streams").await;
        let infohash = infohash_of(ID);
        let listed =
            listed.as_array().unwrap().iter().find(|stream| stream["key"] == infohash.as_str()).unwrap();
        let name = match by {
            "its id on the page" => listed["id"].as_str().unwrap().replace('|', "%7C"),
            "its content id" => ID.to_owned(),
            _ => infohash.clone(),
        };
        assert_eq!(page(&app, &format!("/streams/{name}/livepos")).await["is_live"], true);
        let mut ended = ask(&app, "DELETE", &format!("/streams/{name}"), &Value::Null).await;
        assert_eq!((ended.status, &ended.json().await["viewers"]), (200, &json!(2)), "{by}");
        for viewer in [&mut one, &mut other] {
            assert_eq!(viewer.watch(Duration::from_secs(5)).await, Some(BodyEnd::Clean), "{by}");
        }
        stays.watch(Duration::from_millis(300)).await;
        stays.assert_perfect();
        until("it is over", || app.app.relay.sessions().len() == 1).await;
        until("it is stopped on the engine", || app.engine().sessions() == 1).await;
        assert_eq!(ask(&app, "DELETE", &format!("/streams/{name}"), &Value::Null).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_still_waits_for_its_stream_can_be_thrown_out_whatever_it_asked_for() {
    let app = Setup::new().set("EMPTY_STREAM_TIMEOUT", "60s").start().await;
    let slow = Fault::SlowStart { json_ms: 0, headers_ms: 60_000, first_byte_ms: 0 };
    app.engine().set_fault(Target::All, slow);
    for path in [crate::stream(ID), format!("/ace/manifest.m3u8?id={ID}"), crate::stream(VOD_ID)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let kick = async {
            until("it waits", || app.app.relay.waiting() == 1).await;
            assert!(app.app.relay.kick(app.watching()[0].id.get()));
            until("its place is free", || app.app.relay.viewers() == 0).await;
        };
        let (reply, ()) = tokio::join!(try_send(app.address(), &request), kick);
        assert_eq!(reply.err().map(|error| error.kind()), Some(ErrorKind::ConnectionReset), "{path}");
        until("nobody waits", || app.app.relay.waiting() == 0).await;
    }
}

#[tokio::test]
async fn streams_are_in_the_history_newest_first_and_can_be_picked() {
    let app = Setup::new().set("STREAM_IDLE_TIMEOUT", "100ms").start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(300)).await;
    drop(viewer);
    app.at_baseline().await;
    let events = page(&app, "/events?event_type=stream").await;
    let categories: Vec<_> =
        events.as_array().unwrap().iter().map(|event| event["category"].clone()).collect();
    assert_eq!(categories, ["ended", "started"]);
    assert_eq!(page(&app, "/events?category=started&limit=1").await.as_array().unwrap().len(), 1);
    assert_eq!(page(&app, "/events/stats").await["by_type"]["stream"], 2);
    for wrong in ["limit=0", "limit=1001", "limit=-1", "since=yesterday"] {
        assert_eq!(get(app.address(), &format!("/events?{wrong}")).await.status, 400, "{wrong}");
    }
}
