//! A browser shows the key once and is known by a cookie from then on: what the cookie opens, to whom, and how it ends.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::{Reply, send};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::books::ask;

const KEY: &str = "a-key-of-twenty-signs";
/// A change that nobody but an operator may ask for: it is answered 404 when it may.
const CHANGE: &str = "/proxy/viewers/1";
/// As a browser says of a page of ours.
const OURS: &str = "Sec-Fetch-Site: same-origin\r\n";

async fn app(folder: &TempDir) -> TestApp {
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    Setup::new().set("API_KEY", KEY).set("DB_PATH", database).start().await
}

async fn log_in(at: SocketAddr, headers: &str, key: &str) -> Reply {
    ask(at, "POST", "/api/v1/login", headers, &json!({ "key": key })).await
}

/// What the browser keeps of the answer, as the header that it sends.
fn cookie(reply: &Reply) -> String {
    let given = reply.header("set-cookie").expect("a cookie");
    format!("Cookie: {}\r\n", given.split(';').next().expect("a pair"))
}

async fn changes(at: SocketAddr, headers: &str) -> (u16, Value) {
    let mut reply = ask(at, "DELETE", CHANGE, headers, &Value::Null).await;
    (reply.status, reply.json().await["code"].clone())
}

async fn page(at: SocketAddr, path: &str, headers: &str) -> Value {
    ask(at, "GET", path, headers, &Value::Null).await.json().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_opens_what_the_key_opens_across_a_restart_until_it_is_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = app(&folder).await;
    let reply = log_in(first.address(), OURS, KEY).await;
    assert_eq!(reply.status, 204);
    let set = reply.header("set-cookie").expect("a cookie");
    assert!(set.contains("HttpOnly; SameSite=Strict; Path=/; Max-Age=") && !set.contains("Secure"), "{set}");
    let mine = cookie(&reply) + OURS;
    assert_eq!(changes(first.address(), &mine).await.0, 404, "it may");
    assert_eq!(page(first.address(), "/api/v1/login", &mine).await["by"], "login");
    let told = page(first.address(), "/events?category=audit", &mine).await;
    let by: Vec<_> =
        told.as_array().expect("events").iter().map(|event| event["details"]["who"].clone()).collect();
    assert_eq!(by, [json!("login"), json!("key")], "{told}");
    assert!(!told.to_string().contains(KEY));
    first.stop().await;

    let again = app(&folder).await;
    let at = again.address();
    assert_eq!(changes(at, &mine).await.0, 404, "it may still");
    let other = cookie(&log_in(at, OURS, KEY).await) + OURS;
    let logins = page(at, "/api/v1/logins", &other).await["logins"].clone();
    assert_eq!(logins.as_array().map(Vec::len), Some(2), "{logins}");
    assert_eq!((&logins[0]["this"], &logins[1]["this"]), (&json!(true), &json!(false)), "{logins}");
    let lost = format!("/api/v1/logins/{}", logins[1]["id"].as_str().expect("an id"));
    assert_eq!(ask(at, "DELETE", &lost, &other, &Value::Null).await.status, 204);
    assert_eq!(ask(at, "DELETE", &lost, &other, &Value::Null).await.status, 404);
    assert_eq!(changes(at, &mine).await, (401, json!("missing_key")), "a browser that was lost");
    let out = ask(at, "POST", "/api/v1/logout", &other, &Value::Null).await;
    assert!(out.header("set-cookie").expect("an empty one").contains("Max-Age=0"));
    assert_eq!(changes(at, &other).await, (401, json!("missing_key")));
    assert_eq!(
        page(at, "/api/v1/login", &other).await,
        json!({ "operator": false, "by": null, "possible": true })
    );
}

/// What a browser that was lost still has open tells it no more, however it is ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_has_opened_ends_with_it_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let at = app.address();
    let listen = async |headers: &str| {
        let head = format!("GET /api/v1/events/live HTTP/1.1\r\nHost: {at}\r\n{headers}\r\n");
        let reply = send(at, &head).await;
        assert_eq!(reply.status, 200);
        reply
    };
    let kept = cookie(&log_in(at, OURS, KEY).await) + OURS;
    let mut others = [listen("").await, listen(&format!("X-API-KEY: {KEY}\r\n")).await, listen(&kept).await];
    for is_revoked in [true, false] {
        let mine = cookie(&log_in(at, OURS, KEY).await) + OURS;
        let open = [listen(&mine).await, listen(&mine).await];
        let (path, by) = if is_revoked {
            let logins = page(at, "/api/v1/logins", &mine).await["logins"].clone();
            let this = logins.as_array().expect("logins").iter().find(|login| login["this"] == true);
            let id = this.expect("it is there")["id"].as_str().expect("an id").to_owned();
            (format!("/api/v1/logins/{id}"), &kept)
        } else {
            ("/api/v1/logout".to_owned(), &mine)
        };
        let method = if is_revoked { "DELETE" } else { "POST" };
        assert_eq!(ask(at, method, &path, by, &Value::Null).await.status, 204);
        for mut reply in open {
            within(Duration::from_secs(1), "the end", reply.body()).await;
        }
        let again = format!(
            "GET /api/v1/events/live?watch=stream:{} HTTP/1.1\r\nHost: {at}\r\n{mine}\r\n",
            crate::ID
        );
        assert!(matches!(send(at, &again).await.status, 401 | 404));
    }
    for reply in &mut others {
        // The picture, and the next look.
        for _ in 0..3 {
            within(Duration::from_secs(3), "more", reply.next()).await.expect("it goes on");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_of_others_does_anything_with_the_cookie() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let at = app.address();
    let cookie = cookie(&log_in(at, OURS, KEY).await);
    let own = format!("Origin: http://{at}\r\n");
    for (headers, status, code) in [
        (own.as_str(), 404, "not_found"),
        ("", 403, "bad_origin"),
        ("Sec-Fetch-Site: cross-site\r\n", 403, "bad_origin"),
        ("Sec-Fetch-Site: same-site\r\n", 403, "bad_origin"),
        ("Origin: https://evil.example\r\n", 403, "bad_origin"),
        ("Origin: null\r\n", 403, "bad_origin"),
    ] {
        assert_eq!(changes(at, &(cookie.clone() + headers)).await, (status, json!(code)), "{headers}");
    }
    let foreign = log_in(at, "Origin: https://evil.example\r\n", KEY).await;
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, None));
    // A key that is given counts, and not the cookie beside it.
    assert_eq!(changes(at, &(cookie + OURS + "X-API-KEY: wrong\r\n")).await, (401, json!("wrong_key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_cannot_be_guessed_by_logging_in_and_made_up_cookies_open_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = app(&folder).await;
    let at = app.address();
    let name = cookie(&log_in(at, OURS, KEY).await);
    let name =
        name.strip_prefix("Cookie: ").and_then(|pair| pair.split('=').next()).expect("a name").to_owned();
    for made_up in ["", "a", "acemux_login", &"A".repeat(43), &"x".repeat(4000)] {
        let headers = format!("Cookie: {name}={made_up}\r\n{OURS}");
        assert_eq!(changes(at, &headers).await, (401, json!("missing_key")), "{made_up:.20}");
    }
    for body in [json!({}), json!({ "key": 5 }), json!([]), json!("a")] {
        assert_eq!(ask(at, "POST", "/api/v1/login", OURS, &body).await.status, 400, "{body}");
    }
    let mut statuses = Vec::new();
    for n in 0..25 {
        statuses.push(log_in(at, OURS, &format!("guess-{n}")).await.status);
    }
    assert!(statuses.starts_with(&[401; 20]) && statuses.ends_with(&[429]), "{statuses:?}");
    assert_eq!(log_in(at, OURS, KEY).await.status, 429, "whoever knows the key waits as well");
}

/// What ends TLS before us says so; what anybody says does not count.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_cookie_is_for_tls_only() {
    let told = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7\r\n";
    for (trusted, is_secure) in [("127.0.0.1", true), ("192.0.2.1", false)] {
        let app = Setup::new().set("API_KEY", KEY).set("TRUSTED_PROXIES", trusted).start().await;
        let reply = log_in(app.address(), told, KEY).await;
        let set = reply.header("set-cookie").expect("a cookie");
        assert_eq!(set.contains("; Secure"), is_secure, "{trusted}: {set}");
    }
}
