//! The addresses that people type and lists carry lead to the channel that they mean; anything else keeps its clear error.

use std::time::Duration;

use acemux_sim::{SimOptions, infohash_of};
use acemux_testkit::app::Setup;
use acemux_testkit::{get, send};

use crate::ID;

async fn head(address: std::net::SocketAddr, path: &str) -> acemux_testkit::http::Reply {
    send(address, &format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_as_people_type_them_play() {
    let engine = SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    let app = Setup::with_engines([engine]).start().await;
    let infohash = infohash_of(ID);
    for path in [
        format!("//ace/getstream?id={ID}"),
        format!("/ace//getstream?id={ID}"),
        format!("/ace/getstream/?id={ID}"),
        format!("//ace//getstream.ts//?id={ID}"),
        format!("/ace/getstream?content_id={ID}"),
        format!("/ace/getstream?id=acestream://{ID}/"),
        format!("/ace/getstream?id={ID}|User-Agent=VLC"),
        format!("/ace/getstream?id={ID}%7CUser-Agent=VLC%2F3&pid=1"),
        format!("/ace/getstream?id=acestream%253A%252F%252F{ID}"),
        format!("/ace/getstream?id%3D{ID}"),
        format!("/ace/getstream%3Fid={ID}"),
        format!("/streams/ace/{ID}"),
        format!("/streams/ace/cid:{ID}"),
        format!("/streams/ace/ih:{infohash}"),
        format!("/streams/ace/{ID}|User-Agent=VLC"),
    ] {
        let mut reply = get(app.address(), &path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("video/mp2t")), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{path}");
        assert_eq!(reply.next().await.expect("media")[0], 0x47, "{path}");
        assert_eq!(head(app.address(), &path).await.status, 200, "{path}");
        // Under every name, as media are: a proxy's, or one that nobody has listed.
        let named = format!("HEAD {path} HTTP/1.1\r\nHost: tv.example.org\r\n\r\n");
        assert_eq!(send(app.address(), &named).await.status, 200, "{path}");
    }
    assert_eq!(app.ledger.counts().opened, 1, "all of them are one channel");
    for path in ["//engines", "/engines/", "/%65ngines", "//proxy/status"] {
        let named = format!("GET {path} HTTP/1.1\r\nHost: tv.example.org\r\n\r\n");
        assert_eq!(send(app.address(), &named).await.status, 421, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_leads_to_its_playlist_from_wherever_it_was_asked_for() {
    let engine = SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() };
    let app = Setup::with_engines([engine]).start().await;
    for path in [
        "/ace/manifest.m3u8",
        "//ace/manifest.m3u8",
        "/ace//manifest.m3u8",
        "/ace/manifest.m3u8/",
        "/ace/getstream.m3u8",
        "//ace/getstream.m3u8/",
        "/%61ce/manifest.m3u8",
    ]
    .map(|path| format!("{path}?id={ID}"))
    .into_iter()
    .chain([format!("/streams/ace/{ID}.m3u8"), format!("//streams//ace/cid:{ID}.m3u8")])
    {
        let mut reply = get(app.address(), &path).await;
        let text = String::from_utf8(reply.body().await.0).expect("text");
        assert_eq!(reply.status, 200, "{path}: {text}");
        let playlist = resolved(&path, text.lines().last().expect("it names a playlist"));
        let mut reply = get(app.address(), &playlist).await;
        let text = String::from_utf8(reply.body().await.0).expect("text");
        assert_eq!(reply.status, 200, "{path} leads to {playlist}: {text}");
        let segment = resolved(&playlist, text.lines().last().expect("it lists a segment"));
        assert_eq!(get(app.address(), &segment).await.status, 200, "{playlist} leads to {segment}");
    }
}

/// RFC 3986 §5.2.3 and §5.2.4, as browsers do it: dots take one segment away each, an empty one too.
fn resolved(base: &str, reference: &str) -> String {
    let path = base.split('?').next().unwrap_or_default();
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    segments.pop();
    for segment in reference.split('/') {
        if segment == ".." {
            segments.pop();
        } else {
            segments.push(segment);
        }
    }
    format!("/{}", segments.join("/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_else_keeps_its_clear_error_and_reaches_no_engine() {
    let app = Setup::new().start().await;
    for (path, status, code) in [
        (format!("/ACE/getstream?id={ID}"), 404, "not_found"),
        (format!("/getstream?id={ID}"), 404, "not_found"),
        (format!("/streams/ace/{ID}/stats"), 404, "not_found"),
        ("/streams/ace/".to_owned(), 404, "not_found"),
        (format!("/%2561ce/getstream?id={ID}"), 404, "not_found"),
        (format!("/ace/getstream%0D%0AX:%20y?id={ID}"), 404, "not_found"),
        ("/streams/ace/xyz".to_owned(), 400, "invalid_id"),
        (format!("/streams/ace/{ID}%26url=x"), 400, "invalid_id"),
        (format!("/streams/ace/{ID}%26url=http://x/"), 404, "not_found"),
        (format!("/streams/ace/{ID}?infohash={ID}"), 400, "ambiguous_id"),
        (format!("//ace/getstream?ID={ID}"), 400, "missing_id"),
        (format!("/ace/getstream?id={ID}%0D"), 400, "invalid_id"),
        (format!("/ace/getstream?id={ID}%20"), 400, "invalid_id"),
        (format!("/ace/getstream?id={ID}?pid=1"), 400, "invalid_id"),
        (format!("/ace/getstream?id={ID}.ts"), 400, "invalid_id"),
        (format!("/ace/getstream?id={ID}|"), 400, "invalid_id"),
        (format!("/ace/getstream?id={ID}/"), 400, "invalid_id"),
        (format!("/ace/getstream?id=acestream%25253A%25252F%25252F{ID}"), 400, "invalid_id"),
        (format!("/ace/getstream?id%3D{ID}%26url%3Dx"), 400, "missing_id"),
    ] {
        let mut reply = get(app.address(), &path).await;
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (status, Some(code)), "{path}");
    }
    let reply =
        send(app.address(), &format!("POST //ace/getstream?id={ID} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(reply.status, 405);
    assert_eq!(app.ledger.counts().starts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_ask_acexy_how_it_is_get_their_answer() {
    let app = Setup::new().start().await;
    let status = async |query: &str| {
        let mut reply = get(app.address(), &format!("/ace/status{query}")).await;
        (reply.status, reply.json().await)
    };
    assert_eq!(status("").await, (200, serde_json::json!({ "streams": 0 })));
    let one = format!("?id={ID}");
    assert_eq!(status(&one).await.0, 404);
    let _first = get(app.address(), &format!("/ace/getstream?id={ID}")).await;
    let _second = get(app.address(), &format!("/ace/getstream?id={ID}")).await;
    assert_eq!(status("").await, (200, serde_json::json!({ "streams": 1 })));
    let (code, answer) = status(&one).await;
    assert_eq!((code, &answer["clients"], &answer["stream_id"]), (200, &2.into(), &ID.into()), "{answer}");
    let page = answer["stat_url"].as_str().expect("an address");
    assert_eq!(get(app.address(), page).await.status, 200);
    assert_eq!(status("?id=xyz").await.0, 400);
    assert_eq!(app.ledger.counts().starts, 1);
}
