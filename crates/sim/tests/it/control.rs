//! The control port.

use acemux_sim::{H264_ID, VERIFY_ID, infohash_of};
use serde_json::{Value, json};

use crate::client::{Client, engine, get, get_json, request, start};

#[tokio::test]
async fn faults_are_set_listed_and_cleared() {
    let engine = engine().await;
    let control = engine.control_addr();
    let rule = json!({ "fault": { "mode": "start_error", "error": "no" }, "target": VERIFY_ID });
    assert_eq!(request(control, "POST", "/__sim/fault", &rule.to_string()).await.status(), 200);
    let listed = get_json(control, "/__sim/fault").await;
    assert_eq!(listed["rules"][0]["fault"]["mode"], "start_error");
    let refused = get_json(engine.addr(), &format!("/ace/getstream?id={VERIFY_ID}&format=json")).await;
    assert_eq!(refused, json!({ "response": null, "error": "no" }));
    start(&engine, &format!("id={H264_ID}")).await;
    request(control, "POST", "/__sim/fault", r#"{"clear": true}"#).await;
    start(&engine, &format!("id={VERIFY_ID}")).await;
}

#[tokio::test]
async fn a_rule_with_a_count_hits_that_many_starts() {
    let engine = engine().await;
    let rules = json!([{ "fault": { "mode": "failed_to_load" }, "starts": 2 }]);
    request(engine.control_addr(), "POST", "/__sim/fault", &rules.to_string()).await;
    let target = format!("/ace/getstream?id={VERIFY_ID}&format=json");
    let mut errors = Vec::new();
    for _ in 0..3 {
        errors.push(get_json(engine.addr(), &target).await["error"].clone());
    }
    assert_eq!(errors, [json!("failed to load content"), json!("failed to load content"), Value::Null]);
}

#[tokio::test]
async fn the_ledger_and_the_status_can_be_read() {
    let engine = engine().await;
    let control = engine.control_addr();
    start(&engine, &format!("id={VERIFY_ID}&pid=me")).await;
    let ledger = get_json(control, "/__sim/ledger").await;
    let session = &ledger["sessions"][0];
    assert_eq!((&session["form"], &session["requested"]), (&json!("content_id"), &json!(VERIFY_ID)));
    assert_eq!((&session["infohash"], &session["pid"]), (&json!(infohash_of(VERIFY_ID)), &json!("me")));
    assert_eq!((&session["closed"], &ledger["counts"]["open"]), (&Value::Null, &json!(1)));
    let status = get_json(control, "/__sim/status").await;
    assert_eq!((&status["sessions"], &status["listening"]), (&json!(1), &json!(true)));
}

#[tokio::test]
async fn the_engine_is_crashed_restarted_and_reset() {
    let engine = engine().await;
    let control = engine.control_addr();
    start(&engine, &format!("id={VERIFY_ID}")).await;
    let down = request(control, "POST", "/__sim/crash", "").await.json();
    assert_eq!((&down["listening"], &down["sessions"]), (&json!(false), &json!(0)));
    let up = request(control, "POST", "/__sim/restart", r#"{"down_ms": 20}"#).await.json();
    assert_eq!(up["listening"], true);
    start(&engine, &format!("id={VERIFY_ID}")).await;
    request(control, "POST", "/__sim/reset", "").await;
    let ledger = engine.ledger().snapshot();
    assert_eq!((ledger.sessions.len(), ledger.counts.opened), (0, 0));
}

#[tokio::test]
async fn a_channel_is_chosen() {
    let engine = engine().await;
    let order = json!({ "content": H264_ID, "channel": "verify@64000" }).to_string();
    let chosen = request(engine.control_addr(), "POST", "/__sim/channel", &order).await.json();
    assert_eq!(
        chosen,
        json!({ "infohash": infohash_of(H264_ID), "channel": "verify@64000", "pieces": "1m" })
    );
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason_and_nothing_happens() {
    let engine = engine().await;
    let control = engine.control_addr();
    for body in
        ["", "{", "{}", r#"{"fault": {"mode": "explode"}}"#, r#"{"fault": {"mode": "eof"}, "target": "x"}"#]
    {
        let answer = request(control, "POST", "/__sim/fault", body).await;
        assert_eq!(answer.status(), 400, "{body}: {}", answer.text());
    }
    assert_eq!(get(control, "/__sim/nothing").await.status(), 404);
    assert_eq!(get_json(control, "/__sim/fault").await, json!({ "rules": [] }));
}

#[tokio::test]
async fn the_control_pages_are_not_on_the_engine_port() {
    let engine = engine().await;
    assert_eq!(get(engine.addr(), "/__sim/status").await.status(), 404);
    assert!(Client::connect(engine.control_addr()).await.is_ok());
}
