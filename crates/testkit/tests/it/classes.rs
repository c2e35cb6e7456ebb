//! Every way to ask for a page, as the router has it, asked by whom it is for and by whom it is not: a page of a stranger's
//! name, another origin's page, a viewer, somebody with a wrong key, and the operator.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use acemux_server::app::surface;
use acemux_server::http::surface::{Class, Entry};
use acemux_testkit::app::Setup;
use acemux_testkit::http::{connect_from, send_over};
use acemux_testkit::{Reply, TestApp, send};
use serde_json::{Value, json};

use crate::home;

const KEY: &str = "a-key-of-twenty-signs";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// By a name that a stranger has made to lead here.
    StrangersName,
    /// A page of another origin.
    OthersPage,
    /// Whoever has no key.
    Viewer,
    /// Whoever has another key.
    WrongKey,
    /// Whoever has the key.
    Operator,
}

impl Asker {
    const ALL: [Self; 5] =
        [Self::StrangersName, Self::OthersPage, Self::Viewer, Self::WrongKey, Self::Operator];

    fn headers(self) -> String {
        match self {
            Self::StrangersName => "Host: evil.example\r\n".to_owned(),
            Self::OthersPage => "Host: localhost\r\nOrigin: https://evil.example\r\n".to_owned(),
            Self::Viewer => "Host: localhost\r\n".to_owned(),
            Self::WrongKey => format!("Host: localhost\r\nX-API-KEY: {KEY}1\r\n"),
            Self::Operator => format!("Host: localhost\r\nX-API-KEY: {KEY}\r\n"),
        }
    }

    /// The code with which such a page is refused; none where it answers.
    fn refused(self, Entry { class, method, .. }: &Entry) -> Option<&'static str> {
        let changes = !["GET", "HEAD", "OPTIONS"].contains(&method.as_str());
        match (self, class) {
            (_, Class::Media | Class::Probe) => None,
            (Self::StrangersName, _) => Some("bad_host"),
            (Self::OthersPage, _) if changes => Some("bad_origin"),
            (Self::OthersPage | Self::Viewer, Class::Operator) => Some("missing_key"),
            (Self::WrongKey, Class::Operator | Class::Extended) => Some("wrong_key"),
            // What is to open stands in the body, and there is none.
            (_, Class::Status | Class::Extended | Class::Login) | (Self::Operator, Class::Operator) => None,
        }
    }
}

/// What refuses whoever may not ask, whatever is asked for.
const REFUSALS: [&str; 8] = [
    "bad_host",
    "bad_origin",
    "missing_key",
    "wrong_key",
    "short_key",
    "no_key",
    "ambiguous_key",
    "forbidden_target",
];

/// From another home each time: wrong keys of one address are refused unseen after some.
async fn ask(app: &TestApp, Entry { method, path, .. }: &Entry, asker: Asker) -> Reply {
    static HOMES: AtomicUsize = AtomicUsize::new(0);
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
    let path = segments.collect::<Vec<_>>().join("/");
    let headers = asker.headers();
    let connection = connect_from(home(HOMES.fetch_add(1, Ordering::Relaxed)), app.address()).await;
    send_over(connection, &format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
}

/// The code of an error; nothing of what is none, whose body may have no end.
async fn code(reply: &mut Reply) -> Option<String> {
    if reply.header("content-type") != Some("application/problem+json") {
        return None;
    }
    let problem: Value = serde_json::from_slice(&reply.body().await.0).ok()?;
    problem["code"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_asker_gets_from_each_page_what_its_class_says() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let entries = surface().entries();
    assert!(entries.len() >= 130, "{}", entries.len());
    for entry in &entries {
        for asker in Asker::ALL {
            let expected = asker.refused(entry);
            let mut reply = ask(&app, entry, asker).await;
            let code = code(&mut reply).await;
            let refused = code.as_deref().filter(|code| REFUSALS.contains(code));
            // A HEAD has no body to say it in.
            if entry.method != "HEAD" || expected.is_none() {
                assert_eq!(refused, expected, "{asker:?} at {entry:?}: {} {code:?}", reply.status);
            }
            assert_eq!(
                matches!(reply.status, 401 | 421),
                matches!(expected, Some(code) if code != "bad_origin"),
                "{asker:?} at {entry:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_read_media_and_nothing_else() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    for entry in surface().entries() {
        let reply = ask(&app, &entry, Asker::OthersPage).await;
        let readable = reply.header("access-control-allow-origin").map(str::to_owned);
        let expected = (entry.class == Class::Media).then(|| "*".to_owned());
        assert_eq!(readable, expected, "{entry:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_entry_names_is_not_there() {
    let app = Setup::new().set("API_KEY", KEY).start().await;
    let entries = surface().entries();
    let known: BTreeSet<_> =
        entries.iter().map(|entry| (entry.path.clone(), entry.method.to_string())).collect();
    for path in known.iter().map(|(path, _)| path).collect::<BTreeSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if known.contains(&(path.clone(), method.to_owned())) {
                continue;
            }
            let class = Class::Operator;
            let entry = Entry { method: method.parse().expect("a method"), path: path.clone(), class };
            let mut reply = ask(&app, &entry, Asker::Operator).await;
            let code = code(&mut reply).await;
            assert_eq!((reply.status, code.as_deref()), (405, Some("method_not_allowed")), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_a_page_of_ours_without_anything_from_elsewhere() {
    let app = Setup::new().start().await;
    for path in ["/docs", "/api/v1/docs"] {
        let entry =
            Entry { method: "GET".parse().expect("a method"), path: path.to_owned(), class: Class::Status };
        let mut reply = ask(&app, &entry, Asker::Viewer).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = reply.header("content-security-policy").expect("one").to_owned();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script"),
            "{policy}"
        );
        let page = String::from_utf8(reply.body().await.0).expect("text");
        for elsewhere in ["http://", "https://", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        for entry in surface().entries() {
            let route = entry.path.strip_prefix("/api/v1").unwrap_or(&entry.path);
            assert!(page.contains(&format!("{route}</code>")), "{entry:?}");
        }
    }
    let mut document =
        send(app.address(), "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
    assert_eq!(document.json().await["openapi"], json!("3.1.0"));
}
