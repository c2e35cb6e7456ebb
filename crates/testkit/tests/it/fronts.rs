//! Reverse proxies in front, as they are when nobody has told them more than where we are: whoever comes through one comes
//! from this machine, as far as its socket can tell, and is nobody's operator for that.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::fronts::{Front, Kind};
use acemux_testkit::{FaultProxy, StrictViewer, Witness, get, send};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::books::changes;
use crate::{ID, home};

/// As it is when nothing is said. Since 1.29.7 it speaks HTTP/1.1 to servers by itself.
const NGINX: Kind = Kind::Nginx("");
const NGINX_11: Kind = Kind::Nginx("proxy_http_version 1.1;");
/// As its own documents recommend.
const NGINX_NAMED: Kind = Kind::Nginx("proxy_set_header X-Real-IP $remote_addr;");
/// How long each stream is watched through them.
const WATCHED: Duration = Duration::from_secs(3);
/// Longest that a viewer may be without a byte for what others do.
const PROMISE: Duration = Duration::from_millis(150);

/// Everything that stands in front, and where.
struct Fronts {
    proxies: Vec<(Kind, Front)>,
    forward: FaultProxy,
}

impl Fronts {
    /// `None` where one is not installed.
    async fn of(app: &TestApp) -> Option<Self> {
        let mut proxies = Vec::new();
        for kind in [NGINX, NGINX_11, NGINX_NAMED, Kind::HaProxy("http"), Kind::HaProxy("tcp")] {
            let Ok(front) = Front::start(kind, app.address()).await else {
                let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
                assert!(!must, "{kind:?} is not installed");
                println!("skipped: {kind:?} is not installed");
                return None;
            };
            proxies.push((kind, front));
        }
        Some(Self { proxies, forward: FaultProxy::start(app.address()) })
    }

    fn all(&self) -> Vec<(String, SocketAddr)> {
        let proxies = self.proxies.iter().map(|(kind, front)| (format!("{kind:?}"), front.address));
        proxies.chain([("a TCP forward".to_owned(), self.forward.address())]).collect()
    }

    fn of_kind(&self, kind: Kind) -> SocketAddr {
        self.proxies.iter().find(|(known, _)| *known == kind).expect("it was started").1.address
    }
}

/// The program as it is when no key is set: it has made one, which nobody here knows.
async fn app(without_key: &str) -> (TestApp, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    let setup = Setup::new().set("OPERATOR_WITHOUT_KEY", without_key).set("DB_PATH", database);
    let app = setup.start().await;
    assert!(folder.path().join("api-key").exists());
    (app, folder)
}

/// Status and code of the answer to a change that is asked for with these header lines.
async fn change(at: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, Value) {
    let request =
        format!("{method} {path} HTTP/1.1\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let mut reply = within(Duration::from_secs(5), path, send(at, &request)).await;
    let page = reply.body().await.0;
    (reply.status, serde_json::from_slice::<Value>(&page).unwrap_or_default()["code"].clone())
}

fn missing_key() -> (u16, Value) {
    (401, "missing_key".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_proxies_that_were_told_nothing_everybody_watches_and_nobody_is_the_operator() {
    let (app, _folder) = app("off").await;
    let Some(fronts) = Fronts::of(&app).await else { return };
    let changes = changes();
    assert!(changes.len() >= 37, "{changes:?}");
    let mut through = JoinSet::new();
    for (name, at) in fronts.all() {
        let mut viewer = StrictViewer::open(at, ID).await;
        through.spawn(async move { (name, viewer.watch(WATCHED).await, viewer) });
    }
    let (witness, mut direct) =
        (Witness::start().await, StrictViewer::open_from(home(1), app.address(), ID).await);
    // In a task of its own, as the witness is: what the test itself does is neither's.
    let mut watching = JoinSet::new();
    watching.spawn(async move { (direct.watch(WATCHED).await, direct) });
    for (name, at) in fronts.all() {
        // What a client writes itself, a proxy passes on or replaces.
        for host in [at.to_string(), "localhost".to_owned(), format!("127.0.0.1:{}", app.address().port())] {
            for (method, _, path) in &changes {
                let answer = change(at, method, path, &format!("Host: {host}\r\n")).await;
                assert_eq!(answer, missing_key(), "{method} {path} through {name} as {host}");
            }
        }
        for path in ["/livez", "/readyz"] {
            assert_eq!(get(at, path).await.status, 200, "{path} through {name}");
        }
    }
    while let Some(ended) = through.join_next().await {
        let (name, end, viewer) = ended.expect("it watches to the end");
        println!("through {name}: {:?} without a byte", viewer.longest_silence());
        assert_eq!(end, None, "through {name}");
        viewer.assert_perfect();
    }
    let (end, direct) = watching.join_next().await.expect("it watches").expect("it watches to the end");
    assert_eq!(end, None);
    direct.assert_perfect();
    witness.assert_within(PROMISE, [&direct]).await;
    assert_eq!(app.ledger.counts().opened, 1, "all of them watch one stream");
}

/// Decision 13 names what this shows: a request from which nothing tells that it was forwarded is one of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn where_this_machine_needs_no_key_a_proxy_is_told_by_what_it_leaves_in_the_request() {
    let (app, _folder) = app("loopback").await;
    let Some(fronts) = Fronts::of(&app).await else { return };
    let changes = changes();
    let (http, tcp) = (fronts.of_kind(Kind::HaProxy("http")), fronts.of_kind(Kind::HaProxy("tcp")));
    let passing = [http, tcp, fronts.forward.address()];
    // Whoever asks as people do, by the name or address of the machine.
    for at in passing {
        for host in ["192.0.2.7", "192.0.2.7:8000", "tv.lan", "acemux"] {
            for (method, _, path) in &changes {
                let answer = change(at, method, path, &format!("Host: {host}\r\n")).await;
                assert_eq!(answer, missing_key(), "{method} {path} as {host}");
            }
        }
    }
    // NGINX writes our own address as host, and speaks as no client of ours does, or says whom it speaks for.
    for kind in [NGINX, NGINX_NAMED] {
        for (method, _, path) in &changes {
            let answer = change(fronts.of_kind(kind), method, path, "Host: localhost\r\n").await;
            assert_eq!(answer, missing_key(), "{method} {path} through {kind:?}");
        }
    }
    // A page in somebody's browser is told from its machine whatever is between.
    for (name, at) in fronts.all() {
        let foreign = "Host: localhost\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n";
        let answer = change(at, "POST", "/events/cleanup", foreign).await;
        assert_eq!(answer, (403, "bad_origin".into()), "through {name}");
    }
    // What is left, and why nobody should set it behind a proxy: the client's own word is all that there is.
    for at in [http, tcp, fronts.forward.address(), fronts.of_kind(NGINX_11)] {
        assert_eq!(change(at, "POST", "/events/cleanup", "Host: localhost\r\n").await.0, 200, "{at}");
    }
}

/// NGINX collects 4 KB of what it is not told to pass on: many seconds of a page's news.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_through_proxies_when_it_happens() {
    let (app, _folder) = app("off").await;
    let Some(fronts) = Fronts::of(&app).await else { return };
    let _viewer = StrictViewer::open(app.address(), ID).await;
    for (name, at) in fronts.all() {
        let request = format!("GET /api/v1/events/live HTTP/1.1\r\nHost: {at}\r\n\r\n");
        let mut reply = send(at, &request).await;
        for kind in ["event: snapshot", "event: patch", "event: patch"] {
            let mut text = String::new();
            while !text.contains(kind) {
                let news =
                    within(Duration::from_secs(3), &format!("{kind} through {name}"), reply.next()).await;
                text.push_str(&String::from_utf8_lossy(&news.expect("it goes on")));
            }
        }
    }
}
