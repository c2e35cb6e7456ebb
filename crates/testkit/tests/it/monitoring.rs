//! What Prometheus and Grafana make of us: judged by Prometheus' own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use acemux_relay::session::EndReason;
use acemux_testkit::app::{Setup, until};
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::fronts::{Front, Kind};
use acemux_testkit::http::try_send;
use acemux_testkit::{StrictViewer, TestApp, send};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::ID;

/// How long Prometheus reads us, once a second.
const SCRAPED: Duration = Duration::from_secs(10);

/// Longest wait until it has begun.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a Prometheus that knows no `OpenMetrics` says.
const ONLY_PLAIN: Kind = Kind::Nginx("proxy_set_header Accept text/plain;");

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

async fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).current_dir(deploy().join("prometheus"));
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = promtool.spawn().expect("promtool is installed: ./scripts/test does it");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).await.expect("it reads");
    let output = child.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// An app with one viewer, so that everything has been counted at least once.
async fn watched() -> (TestApp, StrictViewer) {
    let app = Setup::new().start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(300)).await;
    (app, viewer)
}

async fn metrics(at: SocketAddr, accept: &str) -> (String, String) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\n{accept}Connection: close\r\n\r\n");
    let mut reply = send(at, &request).await;
    assert_eq!(reply.status, 200);
    let kind = reply.header("content-type").expect("a type").to_owned();
    (kind, String::from_utf8(reply.body().await.0).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let (app, _viewer) = watched().await;
    let (kind, page) = metrics(app.address(), "").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let (is_fine, said) = promtool(&["check", "metrics"], &page).await;
    assert!(is_fine && said.is_empty(), "{said}");
    // What dashboards of the system before us ask for.
    for gauge in [
        "orch_total_streams 1",
        "orch_healthy_engines 1",
        "orch_used_engines 1",
        "orch_extra_engines 0",
        "orch_vpn_health{orch_vpn_health=\"disabled\"} 1",
    ] {
        assert!(page.lines().any(|line| line == gauge), "{gauge}: {page}");
    }
    // The guide's own question.
    assert!(page.lines().any(|line| line.starts_with("acemux_proxy_")), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_open_metrics_gets_the_same_samples_in_it() {
    let (app, viewer) = watched().await;
    drop(viewer);
    let (kind, open) =
        metrics(app.address(), "Accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.ends_with("# EOF\n"), "{open}");
    let names =
        |page: &str| page.lines().filter(|line| !line.starts_with('#')).map(name).collect::<BTreeSet<_>>();
    assert_eq!(names(&open), names(&metrics(app.address(), "").await.1));
}

fn name(sample: &str) -> String {
    sample.split(['{', ' ']).next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_ask_for_what_is_there_and_the_rules_do_what_they_say() {
    let (is_fine, said) = promtool(&["test", "rules", "alerts.test.yml"], "").await;
    assert!(is_fine, "{said}");
    let (is_fine, said) = promtool(&["check", "config", "prometheus.yml"], "").await;
    assert!(is_fine, "{said}");
    let (app, _viewer) = watched().await;
    // What there is of VPNs and engines without one having been seen yet.
    let daemon = FakeDockerd::start(&[], false);
    let behind = Setup::with_engines([])
        .set("ENGINE_PROVISIONER", "docker")
        .set("DOCKER_HOST", daemon.host.as_str())
        .set("GLUETUN_CONTAINER_NAME", "gluetun")
        .start()
        .await;
    let began = Instant::now();
    while !metrics(behind.address(), "").await.1.contains("acemux_vpn_health{") {
        assert!(began.elapsed() < PATIENCE, "nothing happens to engines");
        sleep(Duration::from_millis(20)).await;
    }
    let pages = [metrics(app.address(), "").await.1, metrics(behind.address(), "").await.1].concat();
    for file in ["prometheus/alerts.yml", "grafana/acemux.json"] {
        let text = std::fs::read_to_string(deploy().join(file)).expect(file);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let asked: BTreeSet<&str> =
            text.split(|c| !is_part(c)).filter(|word| word.starts_with("acemux_")).collect();
        assert!(asked.len() > 8, "{file}: {asked:?}");
        // A family that has counted nothing yet has no samples, but is described.
        for asked in asked {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.into_iter().find_map(|part| asked.strip_suffix(part)).unwrap_or(asked);
            let described = format!("# TYPE {family} ");
            assert!(pages.contains(&described), "{file} asks for {asked}, which is not there");
        }
    }
}

/// Prometheus itself. Dropping it ends the process.
struct Prometheus {
    address: SocketAddr,
    _folder: tempfile::TempDir,
    _child: Child,
}

impl Prometheus {
    fn start(targets: &[(&str, SocketAddr)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let jobs = targets.iter().map(|(job, at)| {
            format!("  - job_name: {job}\n    static_configs:\n      - targets: [\"{at}\"]\n")
        });
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n{}",
            jobs.collect::<String>()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("the folder can be written");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.expect("a free port");
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", file.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        prometheus.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        let child = prometheus.stdin(Stdio::null()).kill_on_drop(true).spawn();
        Self {
            address,
            _folder: folder,
            _child: child.expect("prometheus is installed: ./scripts/test does it"),
        }
    }

    /// The answer to an instant query; `None` while it does not answer.
    async fn ask(&self, query: &str) -> Option<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let request = format!(
            "GET /api/v1/query?query={query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        let mut reply = try_send(self.address, &request).await.ok()?;
        // It listens before it can answer, and says so without JSON.
        if reply.status == 503 {
            return None;
        }
        Some(reply.json().await)
    }

    /// The values of an instant query by job.
    async fn values(&self, query: &str) -> BTreeMap<String, f64> {
        let page = self.ask(query).await.unwrap_or_default();
        let one = |one: &Value| {
            let value = one["value"][1].as_str()?.parse().ok()?;
            Some((one["metric"]["job"].as_str()?.to_owned(), value))
        };
        page["data"]["result"].as_array().into_iter().flatten().filter_map(one).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_both_formats_every_second_and_reads_the_same() {
    let (app, mut viewer) = watched().await;
    let plain =
        Front::start(ONLY_PLAIN, app.address()).await.expect("nginx is installed: ./scripts/test does it");
    let prometheus = Prometheus::start(&[("open", app.address()), ("plain", plain.address)]);
    let began = Instant::now();
    while prometheus.values("up==1").await.len() < 2 {
        assert!(began.elapsed() < PATIENCE, "it does not read both");
        sleep(Duration::from_millis(100)).await;
    }
    viewer.watch(SCRAPED).await;
    let both = |value: f64| BTreeMap::from([("open".to_owned(), value), ("plain".to_owned(), value)]);
    assert_eq!(prometheus.values("min_over_time(up[30s])").await, both(1.0), "every scrape was read");
    let samples = prometheus.values("scrape_samples_scraped").await;
    assert!(samples["open"] > 100.0, "{samples:?}");
    assert_eq!(samples, both(samples["open"]), "both have as many samples");
    let read = prometheus.values("rate(acemux_proxy_delivered_bytes_total[5s])").await;
    assert!(read.len() == 2 && read.values().all(|rate| *rate > 10_000.0), "{read:?}");
    assert_eq!(prometheus.values("acemux_proxy_viewers").await, both(1.0));
    viewer.assert_perfect();
    for expression in expressions_of_the_dashboard() {
        let answer = prometheus.ask(&expression).await.expect("it answers");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
}

fn expressions_of_the_dashboard() -> Vec<String> {
    let dashboard = std::fs::read_to_string(deploy().join("grafana/acemux.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    expressions.map(|expression| expression.replace("$instance", ".*")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_engines_have_moved_does_not_fall_when_a_stream_ends() {
    let (app, mut viewer) = watched().await;
    let moved = async || {
        let page = metrics(app.address(), "").await.1;
        let line = page.lines().find_map(|line| line.strip_prefix("orch_total_downloaded_bytes "));
        line.expect("it is there").parse::<u64>().expect("a number")
    };
    let began = Instant::now();
    while moved().await == 0 {
        assert!(began.elapsed() < PATIENCE, "no engine says what it has downloaded");
        viewer.watch(Duration::from_millis(200)).await;
    }
    let before = moved().await;
    let key = app.app.relay.sessions()[0].key.clone();
    app.app.relay.end(&key, EndReason::Looping);
    drop(viewer);
    until("the stream is over", || app.app.relay.sessions().is_empty()).await;
    let after = moved().await;
    assert!(after >= before, "{after} after {before}");
    let mut again = StrictViewer::open(app.address(), ID).await;
    while moved().await <= after {
        assert!(began.elapsed() < PATIENCE * 2, "what the next stream moves is not added");
        again.watch(Duration::from_millis(200)).await;
    }
}
