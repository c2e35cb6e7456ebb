//! What operators look at.

use std::time::Duration;

use acemux_sim::{ChannelKind, Fault, SimOptions, Target, infohash_of};
use acemux_testkit::app::{Setup, until};
use acemux_testkit::{StrictViewer, TestApp, get, send};
use serde_json::{Value, json};

use crate::ID;

async fn page(app: &TestApp, path: &str) -> Value {
    let mut reply = get(app.address(), path).await;
    assert_eq!(reply.status, 200, "{path}");
    reply.json().await
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idle_status_page_is_the_guides() {
    let app = Setup::new().start().await;
    let mut reply = get(app.address(), "/proxy/status").await;
    let (body, _) = reply.body().await;
    let expected =
        r#"{"running":true,"total_sessions":0,"active_sessions":0,"total_clients":0,"sessions":[]}"#;
    assert_eq!(String::from_utf8(body).expect("text"), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_by_any_form_of_its_id_and_has_the_reference_keys() {
    let app = Setup::new().start().await;
    let mut viewer = StrictViewer::open(app.address(), &ID.to_uppercase()).await;
    viewer.watch(Duration::from_millis(200)).await;
    let infohash = infohash_of(ID);
    for form in [ID, &ID.to_uppercase(), &infohash, &infohash.to_uppercase()] {
        for prefix in ["", "/api/v1"] {
            let session = page(&app, &format!("{prefix}/proxy/sessions/{form}")).await;
            assert_eq!(
                (&session["ace_id"], &session["infohash"]),
                (&Value::from(ID), &Value::from(infohash.as_str()))
            );
            let reference = [
                "stream_id",
                "ace_id",
                "engine_host",
                "engine_port",
                "container_id",
                "playback_session_id",
                "is_live",
                "is_active",
                "client_count",
                "created_at",
                "started_at",
                "ended_at",
                "error",
                "idle_seconds",
            ];
            let found = keys(&session);
            assert!(reference.iter().all(|key| found.contains(key)), "{found:?}");
            assert_eq!(
                (&session["client_count"], &session["is_active"]),
                (&Value::from(1), &Value::from(true))
            );
            assert_eq!(session["container_id"], app.engine().addr().to_string());
        }
    }
    let viewers = page(&app, &format!("/proxy/sessions/{ID}/viewers")).await;
    assert!(viewers["viewers"][0]["bytes_sent"].as_u64().is_some_and(|bytes| bytes > 0), "{viewers}");
    let status = page(&app, "/proxy/status").await;
    assert_eq!((&status["total_clients"], &status["active_sessions"]), (&Value::from(1), &Value::from(1)));
    assert_eq!(page(&app, "/proxy/sessions").await["sessions"][0]["ace_id"], ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_with_a_code() {
    let app = Setup::new().start().await;
    for path in [
        "/proxy/sessions/none",
        "/proxy/sessions/none/viewers",
        "/engines/none",
        "/nothing",
        "/api/v1/nothing",
    ] {
        let mut reply = get(app.address(), path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = reply.json().await;
        assert_eq!(problem["code"], "not_found", "{path}");
        assert!(problem["detail"].is_string() && problem["request_id"].is_string(), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_listed_with_the_reference_keys() {
    let app = Setup::new().start().await;
    until("the engine was probed", || app.app.engines.any_healthy()).await;
    let viewer = StrictViewer::open(app.address(), ID).await;
    let engines = page(&app, "/engines").await;
    let engine = &engines[0];
    let reference = [
        "container_id",
        "container_name",
        "host",
        "port",
        "labels",
        "forwarded",
        "first_seen",
        "last_seen",
        "streams",
        "health_status",
        "last_health_check",
        "last_stream_usage",
        "vpn_container",
        "engine_variant",
        "platform",
        "version",
        "forwarded_port",
    ];
    let found = keys(engine);
    assert!(reference.iter().all(|key| found.contains(key)), "{found:?}");
    assert_eq!(
        (&engine["health_status"], &engine["streams"][0]),
        (&Value::from("healthy"), &Value::from(ID))
    );
    let one = page(&app, &format!("/engines/{}", app.engine().addr())).await;
    assert_eq!(one["streams"][0]["ace_id"], ID);
    drop(viewer);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_engines_and_liveness_does_not() {
    let without = Setup::with_engines([]).start().await;
    assert_eq!(get(without.address(), "/livez").await.status, 200);
    let mut unready = get(without.address(), "/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.json().await["detail"].as_str().is_some_and(|detail| detail.contains("ENGINES")));
    let with = Setup::new().start().await;
    until("the engine was probed", || with.app.engines.any_healthy()).await;
    assert_eq!(get(with.address(), "/readyz").await.status, 200);
    assert_eq!(page(&with, "/health").await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_it_is_and_how_it_is_in_one_word() {
    let real = SimOptions { default_channel: ChannelKind::H264, ..SimOptions::fast() };
    let app = Setup::with_engines([real]).set("API_KEY", "a-long-and-secret-key").start().await;
    let mut reply = get(app.address(), &crate::stream(ID)).await;
    reply.next().await.expect("it plays");
    // Its headers are read at once, and how much is in reserve is reckoned once a second.
    until("both are known", || {
        let session = &app.app.relay.sessions()[0];
        session.format.picture().is_some() && session.runway.is_some()
    })
    .await;
    let session = page(&app, &format!("/proxy/sessions/{ID}")).await;
    for (field, value) in [
        ("verdict", json!("smooth")),
        ("resolution", json!("640x360")),
        ("fps", json!(25.0)),
        ("scan", json!("progressive")),
        ("video_codec", json!("h264")),
        ("audio_codec", json!("aac")),
    ] {
        assert_eq!(session[field], value, "{field}: {session}");
    }
    let codecs: Vec<_> = session["tracks"].as_array().unwrap().iter().map(|track| &track["codec"]).collect();
    assert_eq!(codecs, ["h264", "aac"], "{session}");
    assert!(session["verdict_reason"].as_str().unwrap().contains("in reserve"), "{session}");
    let ask = format!(
        "GET /proxy/sessions/{ID}/viewers HTTP/1.1\r\nHost: {}\r\nX-API-KEY: a-long-and-secret-key\r\n\r\n",
        app.address()
    );
    let viewers = send(app.address(), &ask).await.json().await;
    assert_eq!(viewers["viewers"][0]["verdict"], "smooth", "{viewers}");
    app.engine().crash().await;
    let began = tokio::time::Instant::now();
    while page(&app, &format!("/proxy/sessions/{ID}")).await["verdict"] != "healing" {
        assert!(began.elapsed() < Duration::from_secs(5), "nobody says that its engine is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_minutes_are_told_second_by_second_of_the_service_and_of_a_stream() {
    let app = Setup::new().start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(3500)).await;
    for query in ["", &format!("?stream={ID}"), &format!("?span=minutes&stream={}", infohash_of(ID))] {
        let history = page(&app, &format!("/api/v1/history{query}")).await;
        let points = history["points"].as_array().expect("points");
        assert!(history["step_seconds"] == 1 && (3..=6).contains(&points.len()), "{query}: {history}");
        let newest = &points[points.len() - 2]["viewers"];
        assert_eq!(newest, &json!({ "min": 1.0, "mean": 1.0, "max": 1.0 }), "{query}: {history}");
        for figure in ["peers", "downloaded_bytes_per_second", "uploaded_bytes_per_second"] {
            let told = points.iter().filter(|point| point[figure]["mean"].is_number()).count();
            assert!(
                told > 0 && points.iter().all(|point| !point[figure]["max"].is_string()),
                "{figure}: {history}"
            );
        }
    }
    let days = page(&app, "/api/v1/history?span=days").await;
    assert_eq!((&days["step_seconds"], days["points"].as_array().map(Vec::len)), (&json!(300), Some(1)));
    assert_eq!(get(app.address(), "/api/v1/history?span=years").await.status, 400);
    assert_eq!(get(app.address(), "/api/v1/history?stream=nonsense").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_says_of_a_stream_is_kept_for_minutes_in_the_references_shape() {
    let app = Setup::new().start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(3500)).await;
    let stream = page(&app, "/streams").await[0]["id"].as_str().expect("an id").replace('|', "%7C");
    let told = page(&app, &format!("/streams/{stream}/stats")).await;
    let samples = told.as_array().expect("an array");
    assert!((2..=6).contains(&samples.len()), "{told}");
    let names = ["downloaded", "livepos", "peers", "speed_down", "speed_up", "status", "ts", "uploaded"];
    assert!(samples.iter().all(|sample| keys(sample) == names), "{told}");
    let [first, .., last] = samples.as_slice() else { panic!("{told}") };
    let figure =
        |sample: &Value, name: &str| sample[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert!(
        figure(last, "downloaded") > 0 && figure(last, "uploaded") > 0 && figure(last, "peers") > 0,
        "{told}"
    );
    assert!(last["status"].is_string(), "{told}");
    let at =
        |sample: &Value| sample["ts"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert!(samples.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])), "the oldest first: {told}");
    // By any form of its id, and with a time of any form.
    let naive = last["ts"].as_str().expect("text").trim_end_matches('Z').to_owned();
    for (id, since, is_all) in [
        (ID, String::new(), true),
        (&infohash_of(ID), "?since=2020-01-31T12:00:00Z".to_owned(), true),
        (ID, format!("?since={naive}"), false),
        (ID, format!("?since={naive}%2B00:00"), false),
    ] {
        let some = page(&app, &format!("/api/v1/streams/{id}/stats{since}")).await;
        let earliest = some.get(0).map(at);
        assert!(
            if is_all { earliest == Some(at(first)) } else { earliest.is_none_or(|at_| at_ > at(last)) },
            "{since}: {some}"
        );
    }
    assert_eq!(page(&app, "/streams/nonsense/stats").await, json!([]), "as in the reference");
    assert_eq!(get(app.address(), &format!("/streams/{ID}/stats?since=soon")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_count_what_has_gone_wrong_with_a_stream() {
    let engine = || SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    // Three: the one that was silent is avoided for a while.
    let setup = Setup::with_engines([engine(), engine(), engine()]).set("STALL_TIMEOUT", "500ms");
    let app = setup.start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(300)).await;
    let troubles = async |of: &str| {
        let shown = if of == "/streams" { page(&app, of).await[0].clone() } else { page(&app, of).await };
        ["gaps", "stalls", "switches", "skips"].map(|name| shown[name].as_u64().expect(name))
    };
    let session = format!("/proxy/sessions/{ID}");
    assert_eq!(troubles(&session).await, [0; 4]);
    let playing = app.engines.iter().find(|engine| engine.sessions() > 0).expect("one plays");
    // It is silent, and its connection stays open.
    playing.set_fault(Target::All, Fault::BurstThenStall { after_bytes: 0 });
    let began = tokio::time::Instant::now();
    while troubles(&session).await[2] == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not leave its engine");
        assert_eq!(viewer.watch(Duration::from_millis(50)).await, None, "the viewer stays");
    }
    assert_eq!(troubles(&session).await, [1, 1, 1, 0]);
    assert_eq!(troubles("/streams").await, [1, 1, 1, 0]);
    let relay = &app.app.relay;
    relay.leave_with(&relay.sessions()[0].key, "a test wants it");
    let began = tokio::time::Instant::now();
    while troubles(&session).await[2] == 1 {
        assert!(began.elapsed() < Duration::from_secs(10), "it does not leave its engine");
        assert_eq!(viewer.watch(Duration::from_millis(50)).await, None, "the viewer stays");
    }
    assert_eq!(troubles(&session).await, [2, 1, 2, 0], "a gap that is no stall");
}

/// Prometheus sees no increase from nothing to one: what is counted by a label begins at zero.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_happened_yet_is_counted_as_zero() {
    let app = Setup::new().start().await;
    let text = String::from_utf8(get(app.address(), "/metrics").await.body().await.0).expect("text");
    for line in [
        r#"acemux_proxy_starts_total{result="ok"} 0"#,
        r#"acemux_proxy_starts_total{result="engine_error"} 0"#,
        r#"acemux_proxy_starts_total{result="start_timeout"} 0"#,
        r#"acemux_proxy_starts_total{result="vpn_down"} 0"#,
        r#"acemux_proxy_start_stage_seconds_count{stage="keyframe"} 0"#,
        r#"acemux_proxy_sessions_ended_total{reason="upstream_failed"} 0"#,
        r#"acemux_proxy_viewers_left_total{reason="stalled"} 0"#,
        r#"acemux_engine_events_total{event="creation_failed"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_starts_sessions_viewers_and_bytes() {
    let app = Setup::new().start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(200)).await;
    let (body, _) = get(app.address(), "/metrics").await.body().await;
    let text = String::from_utf8(body).expect("text");
    for line in [
        r#"acemux_proxy_starts_total{result="ok"} 1"#,
        r#"acemux_proxy_sessions{state="live"} 1"#,
        "acemux_proxy_viewers 1",
        "acemux_engine_sessions_opened_total 1",
        r#"acemux_proxy_start_stage_seconds_count{stage="first_byte"} 1"#,
        "acemux_proxy_delivered_bytes_total",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    assert!(!text.contains(ID), "no content id in labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_to_the_operator_only() {
    let app = Setup::new().set("API_KEY", "a-long-and-secret-key").start().await;
    let viewer = StrictViewer::open(app.address(), ID).await;
    let path = format!("/proxy/sessions/{ID}/viewers");
    let ask = |header: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{header}\r\n", app.address());
    for (header, status, code) in [
        ("", 401, "missing_key"),
        ("X-API-KEY: wrong\r\n", 401, "wrong_key"),
        ("X-API-KEY: a-long-and-secret-key\r\n", 200, ""),
        ("Authorization: Bearer a-long-and-secret-key\r\n", 200, ""),
    ] {
        let mut reply = send(app.address(), &ask(header)).await;
        assert_eq!(reply.status, status, "{header}");
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401, "{header}");
        let page = reply.json().await;
        assert!(code.is_empty() || page["code"] == code, "{header}: {page}");
    }
    // The guide's pages stay public.
    for path in ["/proxy/status", "/proxy/sessions", "/engines", "/metrics", "/health"] {
        assert_eq!(get(app.address(), path).await.status, 200, "{path}");
    }
    drop(viewer);
}
