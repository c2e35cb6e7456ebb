use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::Hash;
use crate::scripted::{Scripted, Step, json, ok, started};

const HEX: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

fn hash() -> Hash {
    HEX.parse().unwrap()
}

fn by_id() -> StartBy {
    StartBy::ContentId(hash())
}

fn client(server: &Scripted) -> Client {
    client_within(server, Duration::from_secs(5))
}

fn client_within(server: &Scripted, time: Duration) -> Client {
    let timings = Timings { start: time, query: time, stop: time, resolve: time, ..Timings::default() };
    Client::new(server.endpoint.clone(), timings)
}

fn path(text: &str) -> EnginePath {
    EnginePath::parse(text).unwrap()
}

async fn start_error(server: &Scripted) -> EngineError {
    client(server).start(by_id(), PlayerId::random()).await.unwrap_err().error
}

async fn body_error(server: &Scripted) -> EngineError {
    client(server).open_body(&path("/ace/r/a/b")).await.unwrap_err()
}

/// All of a body, and the error it ended with.
async fn read(body: &mut Body) -> (Vec<u8>, Option<EngineError>) {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(error) => return (bytes, Some(error)),
        }
    }
    (bytes, None)
}

/// What the media of a server that says `answer` is.
async fn media_of(answer: impl Into<Vec<u8>>) -> (Vec<u8>, Option<EngineError>) {
    let server = Scripted::saying(answer).await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    read(&mut body).await
}

fn is_bad_reply(error: &EngineError) -> bool {
    matches!(error, EngineError::BadReply { .. })
}

#[tokio::test]
async fn the_engine_sees_exactly_the_typed_request() {
    let server = Scripted::saying(started(HEX)).await;
    let player = PlayerId(0x1f);
    client(&server).start(by_id(), player).await.unwrap();
    let wanted = format!(
        "GET /ace/getstream?id={HEX}&format=json&pid=0000000000000000000000000000001f HTTP/1.1\r\nHost: {}\r\n\
         User-Agent: acemux/{}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n",
        server.endpoint,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.requests(), [wanted]);
}

#[tokio::test]
async fn an_infohash_is_sent_as_one() {
    let server = Scripted::saying(started(HEX)).await;
    let by = StartBy::Infohash(HEX.parse().unwrap());
    client(&server).start(by, PlayerId::random()).await.unwrap();
    assert!(server.requests()[0].starts_with(&format!("GET /ace/getstream?infohash={HEX}&format=json&pid=")));
}

#[tokio::test]
async fn json_is_read_whatever_frames_it() {
    let body = r#"{"result":{"version":"3.2.11","platform":"linux","code":3021100},"error":null}"#;
    let (front, back) = body.split_at(20);
    for answer in [
        String::from_utf8(json(body)).unwrap(),
        format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{front}\r\n{:x};x=y\r\n{back}\r\n0\r\nT: x\r\n\r\n",
            front.len(),
            back.len()
        ),
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{body}"),
    ] {
        let server = Scripted::saying(answer.clone()).await;
        let version = client(&server).version().await.unwrap_or_else(|error| panic!("{error} for {answer}"));
        assert_eq!(
            version,
            Version {
                version: "3.2.11".to_owned(),
                platform: Some("linux".to_owned()),
                family: Family::Acestream
            }
        );
    }
}

#[tokio::test]
async fn the_version_is_found_where_the_open_engine_has_it() {
    for (has_health, family) in [(true, Family::Outpace), (false, Family::Unknown)] {
        let server = Scripted::new(move |head| {
            vec![Step::Send(if head.starts_with("GET /server/api?api_version=3&method=get_version ") {
                json(r#"{"result":{"code":102,"version":"0.1.2"},"error":null}"#)
            } else if has_health && head.starts_with("GET /healthz ") {
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()
            } else {
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()
            })]
        })
        .await;
        let version = client(&server).version().await.unwrap();
        assert_eq!(version, Version { version: "0.1.2".to_owned(), platform: None, family });
    }
}

#[tokio::test]
async fn an_engine_that_says_no_is_quoted() {
    let server = Scripted::saying(json(r#"{"response": null, "error": "failed to load\r\n content"}"#)).await;
    let error = start_error(&server).await;
    assert!(
        matches!(&error, EngineError::Refused { message } if message == "failed to load content"),
        "{error}"
    );
}

#[tokio::test]
async fn an_http_error_keeps_its_code_and_words() {
    let server = Scripted::saying("HTTP/1.0 500 Internal\r\n\r\n<h1>start\ttimeout</h1>\x07").await;
    let error = start_error(&server).await;
    let wanted = |message: &str| message == "start timeout";
    assert!(matches!(&error, EngineError::Status { code: 500, message } if wanted(message)), "{error}");
    let error = body_error(&server).await;
    assert!(matches!(&error, EngineError::Status { code: 500, message } if wanted(message)), "{error}");
}

#[tokio::test]
async fn replies_that_are_none_are_bad_replies() {
    let too_long = format!("{{\"response\":\"{}\"}}", "x".repeat(300 * 1024));
    for answer in [
        json("{\"response\":{\"playback_url\":\"/ace/r/a"),
        json("[[[[[[[["),
        json(&too_long),
        ok("text/html", "<html>"),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/ace/r/a/b\r\n\r\n".to_vec(),
        b"{\"response\":null}".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n".to_vec(),
    ] {
        let server = Scripted::saying(answer.clone()).await;
        let error = start_error(&server).await;
        assert!(is_bad_reply(&error), "{error:?} for {:.80}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_reply_cut_short_has_ended() {
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"] {
        let server = Scripted::saying(answer).await;
        let error = start_error(&server).await;
        assert!(matches!(error, EngineError::Ended), "{error:?} for {answer}");
    }
    let server = Scripted::new(|_| vec![Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Reset]).await;
    assert!(matches!(start_error(&server).await, EngineError::Ended));
}

#[tokio::test]
async fn a_head_over_the_limits_is_a_bad_reply() {
    let headers = |count| "X-Header: x\r\n".repeat(count);
    let (many, sixty_five) = (headers(5_000), headers(65));
    let long = format!("X: {}\r\n", "x".repeat(100 * 1024));
    let location = format!("Location: http://127.0.0.1/ace/{}\r\n", "x".repeat(1024 * 1024));
    for headers in [many, sixty_five, long, location] {
        let server = Scripted::saying(format!("HTTP/1.1 302 Found\r\n{headers}\r\n")).await;
        assert!(is_bad_reply(&start_error(&server).await), "{headers:.20}");
        assert!(is_bad_reply(&body_error(&server).await), "{headers:.20}");
    }
}

#[tokio::test]
async fn endless_interim_answers_are_given_up() {
    let flood = || vec![Step::Flood(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(100))];
    let server = Scripted::new(move |_| flood()).await;
    assert!(is_bad_reply(&body_error(&server).await));
    server.journal().reaches("client gone", 1).await;
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let server = Scripted::new(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Flood(b"X-Header: 1\r\n".repeat(1000))]
    })
    .await;
    assert!(is_bad_reply(&body_error(&server).await));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_of_the_call() {
    for steps in [0, 1] {
        let server = Scripted::new(move |_| {
            let begun = Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec());
            std::iter::once(begun).take(steps).chain([Step::Hang]).collect()
        })
        .await;
        let client = client_within(&server, Duration::from_millis(100));
        let error = client.start(by_id(), PlayerId::random()).await.unwrap_err().error;
        assert!(matches!(error, EngineError::Timeout { stage: Stage::Start }), "{error:?}");
        let error = client.stat(&path("/ace/stat/a/b")).await.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { stage: Stage::Query }), "{error:?}");
    }
}

#[tokio::test]
async fn a_slow_head_of_media_is_waited_for() {
    let server = Scripted::new(|_| {
        vec![Step::Pause(Duration::from_millis(300)), Step::Send(ok("video/mp2t", "media"))]
    })
    .await;
    let client = client_within(&server, Duration::from_millis(50));
    let mut body = client.open_body(&path("/ace/r/a/b")).await.unwrap();
    assert_eq!(read(&mut body).await.0, b"media");
}

#[tokio::test]
async fn nobody_at_the_port_is_unreachable() {
    let endpoint = Scripted::saying("").await.endpoint.clone();
    let gone = Instant::now() + Duration::from_secs(5);
    loop {
        let error = Client::new(endpoint.clone(), Timings::default()).check().await.unwrap_err();
        if matches!(error, EngineError::Unreachable { .. }) {
            return;
        }
        assert!(Instant::now() < gone, "{error:?}");
    }
}

#[tokio::test]
async fn an_ipv6_engine_is_spoken_to() {
    // Machines without IPv6 have nothing to test.
    let answer = json(r#"{"result":{"playlist_loaded":true},"error":null}"#);
    let Ok(server) = Scripted::at("[::1]:0", move |_| vec![Step::Send(answer.clone())]).await else { return };
    client(&server).check().await.unwrap();
    assert!(server.requests()[0].contains("\r\nHost: [::1]:"));
}

#[tokio::test]
async fn media_is_byte_exact_in_every_framing() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nContent-Length: 10\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789",
        "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n",
    ] {
        let (bytes, error) = media_of(answer).await;
        assert_eq!((bytes.as_slice(), error.is_none()), (b"0123456789".as_slice(), true), "{answer}");
    }
}

#[tokio::test]
async fn media_that_breaks_off_says_so_after_its_last_byte() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n0123",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n63\r\n0123",
    ] {
        let (bytes, error) = media_of(answer).await;
        assert_eq!(bytes, b"0123");
        assert!(matches!(error, Some(EngineError::Ended)), "{error:?} for {answer}");
    }
    let (bytes, error) =
        media_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n-1\r\n").await;
    assert_eq!(bytes, b"0123");
    assert!(error.as_ref().is_some_and(is_bad_reply), "{error:?}");
}

#[tokio::test]
async fn an_ended_body_stays_ended() {
    let server = Scripted::saying("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    assert!(matches!(body.next().await, Some(Err(EngineError::Ended))));
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn an_empty_stream_is_the_callers_to_judge() {
    let (bytes, error) = media_of("HTTP/1.1 200 OK\r\n\r\n").await;
    assert!(bytes.is_empty() && error.is_none());
}

#[tokio::test]
async fn a_transport_stream_is_media_whatever_it_is_called() {
    let stream = format!("G{}", "x".repeat(187)).repeat(40);
    for kind in
        ["Content-Type: text/html\r\n", "Content-Type: application/json\r\n", "Content-Type: x\r\n", ""]
    {
        for before in ["", "yyy"] {
            let sent = format!("{before}{stream}");
            let (bytes, error) = media_of(&format!("HTTP/1.1 200 OK\r\n{kind}\r\n{sent}")).await;
            assert!(error.is_none() && bytes == sent.as_bytes(), "{kind:?}: {error:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_media_is_a_bad_reply() {
    for (answer, words) in [
        (ok("text/html; charset=utf-8", "<html><p>Router login"), "Router login"),
        (ok("Application/JSON", r#"{"error": "no"}"#), r#""error": "no""#),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n".to_vec(), "206"),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "204"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".to_vec(), "compressed"),
        (b"HTTP/1.1 302 Found\r\n\r\n".to_vec(), "nowhere"),
    ] {
        let server = Scripted::saying(answer).await;
        let error = body_error(&server).await;
        assert!(is_bad_reply(&error) && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_reading_its_body() {
    let server = Scripted::new(|head| {
        if head.starts_with("GET /content/a/0.1 ") {
            vec![Step::Send(ok("video/mp2t", "media"))]
        } else {
            let location = "Location: http://localhost:6878/content/a/0.1\r\n";
            vec![
                Step::Send(format!("HTTP/1.1 302 Found\r\n{location}\r\nRedirect to").into_bytes()),
                Step::Hang,
            ]
        }
    })
    .await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    assert_eq!(read(&mut body).await.0, b"media");
}

#[tokio::test]
async fn a_redirect_loop_ends_after_three() {
    let server = Scripted::saying("HTTP/1.1 302 Found\r\nLocation: /ace/r/a/b\r\n\r\n").await;
    assert!(is_bad_reply(&body_error(&server).await));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn no_url_of_an_engine_leads_elsewhere() {
    let canary = Scripted::saying(ok("video/mp2t", "stolen")).await;
    let port = canary.endpoint.port();
    for location in [
        format!("http://127.0.0.2.example:{port}"),
        format!("//127.0.0.1:{port}"),
        format!("http://x@127.0.0.1:{port}"),
    ] {
        let server =
            Scripted::saying(format!("HTTP/1.1 302 Found\r\nLocation: {location}/ace/r/a/b\r\n\r\n")).await;
        assert!(is_bad_reply(&body_error(&server).await), "{location}");
    }
    // A loopback address is the engine's name for itself: the path is asked of the engine, not of that port.
    let to_canary = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/content/a/b\r\n\r\n");
    let server = Scripted::new(move |head| {
        let is_content = head.starts_with("GET /content/");
        vec![Step::Send(if is_content { ok("video/mp2t", "own") } else { to_canary.clone().into_bytes() })]
    })
    .await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    assert_eq!(read(&mut body).await.0, b"own");
    assert_eq!(canary.journal().lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_that_nobody_reads_holds_the_engine_back() {
    let server = Scripted::new(|_| {
        vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Step::Flood(vec![0x47; 64 * 1024])]
    })
    .await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    server.journal().reaches("blocked", 1).await;
    let piece = body.next().await.unwrap().unwrap();
    assert!(!piece.is_empty() && piece.len() <= 128 * 1024, "{}", piece.len());
    drop(body);
    server.journal().reaches("client gone", 1).await;
}

#[tokio::test]
async fn a_read_given_up_loses_nothing() {
    let text: Vec<u8> = (0..200_u8).collect();
    let dribble = text.clone();
    let server = Scripted::new(move |_| {
        let head = Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
        let pieces = dribble
            .chunks(7)
            .flat_map(|piece| [Step::Send(piece.to_vec()), Step::Pause(Duration::from_millis(2))]);
        std::iter::once(head).chain(pieces).collect()
    })
    .await;
    let mut body = client(&server).open_body(&path("/ace/r/a/b")).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match timeout(Duration::from_millis(1), body.next()).await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece.unwrap()),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    assert_eq!(bytes, text);
}

#[tokio::test]
async fn media_files_tells_infohash_nothing_or_no() {
    for (reply, wanted) in [
        (
            format!(r#"{{"result":{{"files":[{{"index":0}}],"infohash":"{HEX}"}},"error":null}}"#),
            Some(hash()),
        ),
        (r#"{"result":{"0":"name"},"error":null}"#.to_owned(), None),
        (r#"{"result":null,"error":{"message":"unknown method","code":0}}"#.to_owned(), None),
        (r#"{"result":null,"error":"unknown method"}"#.to_owned(), None),
    ] {
        let server = Scripted::saying(json(&reply)).await;
        let answer = client(&server).media_files(by_id()).await.unwrap();
        assert_eq!(answer.map(Infohash::hash), wanted, "{reply}");
    }
    let server =
        Scripted::saying(json(r#"{"error":{"message":"cannot get transport file","code":0}}"#)).await;
    assert!(matches!(client(&server).media_files(by_id()).await, Err(EngineError::Refused { .. })));
}

#[tokio::test]
async fn a_session_the_engine_has_forgotten_counts_as_stopped() {
    for reply in [
        r#"{"response": "ok", "error": null}"#,
        r#"{"response": null, "error": "unknown playback session id"}"#,
        r#"{"response":null,"error":"invalid or expired playback session"}"#,
    ] {
        let server = Scripted::saying(json(reply)).await;
        client(&server).stop(&path("/ace/cmd/a/b?x=1")).await.unwrap();
        assert!(server.requests()[0].starts_with("GET /ace/cmd/a/b?x=1&method=stop HTTP/1.1\r\n"));
    }
}

/// The parameters of a target, and how many there are.
fn parameters(target: &str) -> (usize, BTreeMap<&str, &str>) {
    let query = target.split_once('?').unwrap().1;
    (query.split('&').count(), query.split('&').map(|pair| pair.split_once('=').unwrap()).collect())
}

proptest! {
    #[test]
    fn a_start_has_one_line_and_its_three_parameters(bytes: [u8; 20], player: u128, is_infohash: bool) {
        let hash = Hash::new(bytes);
        let by = if is_infohash { StartBy::Infohash(Infohash::new(hash)) } else { StartBy::ContentId(hash) };
        let target = start_target(by, PlayerId(player));
        let (count, parameters) = parameters(&target);
        prop_assert_eq!(count, 3);
        prop_assert_eq!(parameters[if is_infohash { "infohash" } else { "id" }], hash.to_string());
        prop_assert_eq!(parameters["format"], "json");
        prop_assert_eq!(parameters["pid"], format!("{player:032x}"));
        prop_assert!(target.starts_with("/ace/getstream?") && target.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn no_value_can_add_a_parameter_or_a_line(value in "\\PC*|[\r\n&=#% ?]*") {
        let target = target("/server/api", &[("q", value.clone()), ("z", "1".to_owned())]);
        let (count, parameters) = parameters(&target);
        prop_assert_eq!(count, 2);
        prop_assert_eq!(parameters["z"], "1");
        prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        let decoded = percent_encoding::percent_decode_str(parameters["q"]).decode_utf8().unwrap();
        prop_assert_eq!(decoded, value);
    }
}
