//! Starts, look-ups and what the engine says about itself.

use std::collections::HashMap;

use acemux_sim::{EngineVersion, H264_ID, SimEngine, SimOptions, VERIFY_ID, infohash_of, token_of};
use serde_json::{Value, json};

use crate::client::{Answer, Client, End, engine, get, get_json, path, request, start};

const UNKNOWN_INFOHASH: &str = "0123456789abcdef0123456789abcdef01234567";

#[tokio::test]
async fn a_json_start_is_what_real_engines_send() {
    let engine = engine().await;
    let addr = engine.addr();
    let answer = get(addr, &format!("/ace/getstream?id={VERIFY_ID}&format=json&pid=me")).await;
    let (infohash, token) = (infohash_of(VERIFY_ID), token_of("me"));
    assert_eq!((answer.status(), answer.end), (200, End::Complete));
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
    assert!(answer.header("Server").unwrap().starts_with("BaseHTTP/0.6 Python/3."));
    assert!(answer.text().contains(r#""error": null"#) && answer.text().contains(r#", "is_live": 1"#));
    let response = &answer.json()["response"];
    assert_eq!(response["playback_url"], format!("http://{addr}/ace/r/{infohash}/{token}"));
    assert_eq!(response["stat_url"], format!("http://{addr}/ace/stat/{infohash}/{token}"));
    assert_eq!(response["command_url"], format!("http://{addr}/ace/cmd/{infohash}/{token}"));
    assert_eq!(response["infohash"], infohash);
    assert_eq!(response["playback_session_id"].as_str().unwrap().len(), 40);
    assert_eq!((&response["is_encrypted"], &response["client_session_id"]), (&json!(0), &json!(-1)));
}

#[tokio::test]
async fn without_a_pid_the_player_is_the_clients_address() {
    let engine = engine().await;
    let response = start(&engine, &format!("content_id={VERIFY_ID}")).await;
    assert!(response["stat_url"].as_str().unwrap().ends_with("f528764d624db129b32c21fbca0cb8d6"));
}

#[tokio::test]
async fn every_playback_has_its_own_session_id() {
    let engine = engine().await;
    let ids =
        [start(&engine, &format!("id={VERIFY_ID}")).await, start(&engine, &format!("id={VERIFY_ID}")).await];
    assert_ne!(ids[0]["playback_session_id"], ids[1]["playback_session_id"]);
}

#[tokio::test]
async fn the_redirect_form_leads_over_two_hops_without_lengths_to_the_media() {
    let engine = engine().await;
    let infohash = infohash_of(VERIFY_ID);
    let mut target = format!("/ace/getstream?id={VERIFY_ID}&pid=me");
    for expected in [format!("/ace/r/{infohash}/{}", token_of("me")), format!("/content/{infohash}/0.")] {
        let hop = get(engine.addr(), &target).await;
        assert_eq!((hop.status(), hop.header("Content-Length")), (302, None));
        let location = hop.header("Location").unwrap();
        assert!(location.starts_with(&format!("http://{}{expected}", engine.addr())), "{location}");
        assert_eq!(hop.text(), format!("Redirect to {location}"));
        target = path(&Value::from(location));
    }
    let mut client = Client::connect(engine.addr()).await.unwrap();
    client.send("GET", &target, "").await;
    let media = client.answer(1880, std::time::Duration::from_secs(1)).await;
    assert_eq!((media.status(), media.header("Content-Type")), (200, Some("video/mp2t")));
    assert!(media.body.chunks(188).all(|packet| packet[0] == 0x47) && media.body.len() == 1880);
}

#[tokio::test]
async fn ids_and_infohashes_are_not_interchangeable() {
    let engine = engine().await;
    let infohash = infohash_of(VERIFY_ID);
    let failed = json!({ "response": null, "error": "failed to load content" });
    for selector in [
        format!("id={infohash}"),
        format!("infohash={VERIFY_ID}"),
        format!("infohash={UNKNOWN_INFOHASH}"),
        "id=not-a-hash".to_owned(),
        format!("id={}", "0".repeat(40)),
        "url=http://example.com/x.acelive".to_owned(),
    ] {
        let answer = get(engine.addr(), &format!("/ace/getstream?{selector}&format=json")).await;
        assert_eq!((answer.status(), answer.json()), (200, failed.clone()), "{selector}");
    }
    assert_eq!(start(&engine, &format!("infohash={infohash}")).await["infohash"], infohash);
    assert_eq!(start(&engine, &format!("id={}", VERIFY_ID.to_uppercase())).await["infohash"], infohash);
    assert_eq!((engine.ledger().counts().starts, engine.ledger().counts().opened), (8, 2));
}

#[tokio::test]
async fn a_start_that_names_nothing_is_an_error_500() {
    let engine = engine().await;
    let answer = get(engine.addr(), "/ace/getstream?format=json").await;
    assert_eq!((answer.status(), answer.header("Content-Type")), (500, Some("text/plain")));
}

#[tokio::test]
async fn content_id_goes_before_infohash() {
    let engine = engine().await;
    let infohash = infohash_of(H264_ID);
    let response = start(&engine, &format!("infohash={infohash}&content_id={VERIFY_ID}")).await;
    assert_eq!(response["infohash"], infohash_of(VERIFY_ID));
}

#[tokio::test]
async fn a_look_up_resolves_without_opening_a_session() {
    let engine = engine().await;
    let look_up = |selector: String| format!("/server/api?api_version=3&method=get_media_files&{selector}");
    let infohash = infohash_of(VERIFY_ID);
    for selector in [format!("content_id={VERIFY_ID}"), format!("infohash={infohash}")] {
        let reply = get_json(engine.addr(), &look_up(selector)).await;
        assert_eq!(
            (&reply["result"]["infohash"], &reply["result"]["type"]),
            (&json!(infohash), &json!("live"))
        );
    }
    let missing = json!({ "error": { "message": "cannot get transport file", "code": 0 } });
    for selector in
        [format!("content_id={infohash}"), format!("infohash={VERIFY_ID}"), "content_id=x".to_owned()]
    {
        assert_eq!(get_json(engine.addr(), &look_up(selector)).await, missing);
    }
    let counts = engine.ledger().counts();
    assert_eq!((counts.lookups, counts.opened, counts.starts), (5, 0, 0));
}

#[tokio::test]
async fn the_engine_tells_its_version_in_every_dialect_of_its_api() {
    let options =
        SimOptions { version: Some(EngineVersion { major: 3, minor: 1, patch: 74 }), ..SimOptions::fast() };
    let engine = SimEngine::start(options).await.unwrap();
    let addr = engine.addr();
    let version = get(addr, "/webui/api/service?method=get_version").await;
    let expected =
        r#"{"error": null, "result": {"code": 3017400, "platform": "linux", "version": "3.1.74"}}"#;
    assert_eq!(version.text(), expected);
    assert_eq!(version.header("Server"), Some("BaseHTTP/0.3 Python/2.7.13"));
    let jsonp = get(addr, "/webui/api/service?method=get_version&format=jsonp&callback=f").await;
    assert_eq!(jsonp.text(), format!("f({expected});"));
    let replies = HashMap::from([
        (
            "api_version=3&method=get_status",
            json!({"result": {"playlist_loaded": true,
            "version": {"code": 3_017_400, "platform": "linux", "version": "3.1.74"}}}),
        ),
        ("api_version=3&method=get_network_connection_status", json!({"result": {"connected": true}})),
        ("method=get_version", json!({"result": null, "error": "access denied"})),
        ("api_version=2&method=get_content_info", json!({"error": {"message": "unknown method", "code": 0}})),
        (
            "api_version=3&method=analyze_content&query=x",
            json!({"error": {"message": "unknown protocol", "code": 0}}),
        ),
    ]);
    for (query, reply) in replies {
        assert_eq!(get_json(addr, &format!("/server/api?{query}")).await, reply, "{query}");
    }
}

#[tokio::test]
async fn a_content_id_is_found_from_its_infohash_once_it_was_used() {
    let engine = engine().await;
    let target =
        format!("/server/api?api_version=3&method=get_content_id&infohash={}", infohash_of(VERIFY_ID));
    assert_eq!(get_json(engine.addr(), &target).await["result"], Value::Null);
    start(&engine, &format!("id={VERIFY_ID}")).await;
    assert_eq!(get_json(engine.addr(), &target).await["result"]["content_id"], VERIFY_ID);
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let engine = engine().await;
    let mut client = Client::connect(engine.addr()).await.unwrap();
    for _ in 0..3 {
        client.send("GET", "/webui/api/service?method=get_version", "").await;
        let answer: Answer = client.answer(usize::MAX, std::time::Duration::from_secs(1)).await;
        assert_eq!((answer.status(), answer.end), (200, End::Complete));
    }
    assert_eq!(engine.ledger().counts().connections, 1);
}

#[tokio::test]
async fn a_forwarded_head_opens_a_session_as_it_does_on_real_engines() {
    let engine = engine().await;
    let answer = request(engine.addr(), "HEAD", &format!("/ace/getstream?id={VERIFY_ID}"), "").await;
    assert_eq!((answer.status(), answer.body.len()), (302, 0));
    let counts = engine.ledger().counts();
    assert_eq!((counts.heads, counts.opened), (1, 1));
}

#[tokio::test]
async fn playlists_are_announced_and_refused_as_engines_refuse() {
    let engine = engine().await;
    let manifest = |pid: &str| format!("/ace/manifest.m3u8?id={VERIFY_ID}&format=json&pid={pid}");
    let first = get_json(engine.addr(), &manifest("a")).await["response"]["playback_url"].clone();
    assert!(first.as_str().unwrap().ends_with(&format!("/{}.m3u8", token_of("a"))));
    assert_eq!(get(engine.addr(), &path(&first)).await.text(), "start timeout");
    get_json(engine.addr(), &manifest("b")).await;
    assert_eq!(get(engine.addr(), &path(&first)).await.status(), 403);
}
