//! The deployment guide of the system before us is our contract: what it prints works as it is printed. `guide/printed.md`
//! has its commands and configurations to the letter.
//!
//! All of it happens in a network of its own, where `localhost:8000` is the program, port 80 is free, and
//! `orchestrator1` to `orchestrator3` are three of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use acemux_server::config::Config;
use acemux_sim::{SimOptions, Timing};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::netns::Network;
use acemux_testkit::{HlsViewer, StrictViewer, get};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::docs::{self, Block, KEY, Shell, commands};
use crate::{ID, id};

/// How long each viewer watches.
const WATCHED: Duration = Duration::from_secs(4);
/// Longest wait until what stands in front listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a heading of the guide has under it, in order.
fn under(heading: &str) -> Vec<Block> {
    let printed = docs::read("crates/testkit/tests/it/guide/printed.md");
    let blocks = docs::blocks_of("the guide", &printed);
    let own: Vec<Block> = blocks.into_iter().filter(|block| block.heading == heading).collect();
    assert!(!own.is_empty(), "the guide has no {heading:?}");
    own
}

fn all() -> Vec<Block> {
    docs::blocks_of("the guide", &docs::read("crates/testkit/tests/it/guide/printed.md"))
}

/// What a line of a shell block is.
enum Line {
    /// To be run.
    Command(String),
    /// A page that answers.
    Page(String),
    /// A setting and its value.
    Setting(String, String),
    /// A line of an answer.
    Answer(String),
}

/// The guide's placeholders stand for what its readers know.
fn read(line: &str) -> Line {
    let line =
        ["<your_infohash>", "<infohash>"].iter().fold(line.to_owned(), |line, hole| line.replace(hole, ID));
    let line = line.replace("trusted_network", "192.168.1.0/24");
    if let Some(page) = line.strip_prefix("GET ") {
        // Its list of pages names this one without the channel.
        return Line::Page(page.replace("/ace/getstream", &crate::stream(ID)));
    }
    if let Some(page) = line.strip_prefix("http://localhost:8000") {
        return Line::Page(page.to_owned());
    }
    let is_constant =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    match line.split_once('=') {
        Some((name, value)) if is_constant(name.trim()) => {
            Line::Setting(name.trim().to_owned(), value.trim().to_owned())
        }
        _ if line.starts_with(['{', '}', '"']) => Line::Answer(line),
        _ => Line::Command(line),
    }
}

/// Every assignment that the guide prints, in the environment or in the file that it has people edit.
#[test]
fn every_assignment_of_the_guide_is_understood_as_it_is_printed() {
    let mut read_so_far = 0;
    for block in all().iter().filter(|block| matches!(block.language.as_str(), "bash" | "python")) {
        for line in commands(&block.text) {
            let Line::Setting(name, value) = read(&line) else { continue };
            let config = Config::from_pairs([(name.as_str(), value.as_str())]);
            assert!(config.is_ok(), "{}: {line}: {}", block.place, config.expect_err("it is not"));
            read_so_far += 1;
        }
    }
    assert!(read_so_far >= 16, "{read_so_far}");
    let config = Config::from_pairs([
        ("STREAM_BUFFER_SIZE", "8 * 1024 * 1024  # 8 MB"),
        ("COPY_CHUNK_SIZE", "128 * 1024"),
    ]);
    let streams = config.expect("both are sizes").streams;
    assert_eq!((streams.buffer_bytes, streams.chunk_bytes), (8 << 20, 64 << 10), "a chunk is 64 KiB at most");
}

/// One of three programs, at an address of its own.
async fn node(number: u8) -> TestApp {
    let address = Ipv4Addr::new(127, 0, 0, 10 + number);
    Setup::with_engines([SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }])
        .set("APP_HOST", address.to_string())
        .set("APP_PORT", "8000")
        .set("API_KEY", KEY)
        .set("TRUSTED_PROXIES", "127.0.0.1")
        .set("MAX_STREAMS_PER_ENGINE", "50")
        .start()
        .await
}

async fn three_nodes(network: &Network) -> Vec<TestApp> {
    let names = ["orchestrator1", "orchestrator2", "orchestrator3"];
    let names: Vec<_> =
        names.into_iter().zip(11..).map(|(name, last)| (name, Ipv4Addr::new(127, 0, 0, last))).collect();
    network.name(&names).await;
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(node(number).await);
    }
    nodes
}

/// A program in front, with this configuration. Dropping it ends the process.
struct Front {
    name: &'static str,
    _folder: tempfile::TempDir,
    _child: Child,
}

impl Front {
    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 80);

    /// NGINX's main file includes what the guide prints, as distributions do.
    async fn nginx(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let folders = kinds.map(|kind| format!("{kind}_temp_path {};", at(kind))).concat();
        let text = format!(
            "daemon off; master_process off; pid {};\nevents {{}}\nhttp {{ access_log off; {folders}\n{configuration}\n}}\n",
            at("pid")
        );
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(at("conf"));
        Self::start("nginx", folder, &text, nginx).await
    }

    async fn haproxy(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut haproxy = Command::new("/usr/sbin/haproxy");
        haproxy.args(["-q", "-db", "-f"]).arg(folder.path().join("conf"));
        Self::start("haproxy", folder, configuration, haproxy).await
    }

    async fn caddy(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut caddy = Command::new("caddy");
        caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.path().join("conf"));
        caddy.env("HOME", folder.path()).stderr(Stdio::null());
        Self::start("caddy", folder, configuration, caddy).await
    }

    async fn start(name: &'static str, folder: tempfile::TempDir, text: &str, mut command: Command) -> Self {
        // The one before it leaves the port when its process has ended.
        let began = Instant::now();
        while tokio::net::TcpStream::connect(Self::ADDRESS).await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "somebody else has port 80");
            sleep(Duration::from_millis(20)).await;
        }
        std::fs::write(folder.path().join("conf"), text).expect("it is ours");
        let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{name}: {error}: ./scripts/test installs it"));
        while tokio::net::TcpStream::connect(Self::ADDRESS).await.is_err() {
            let ended = child.try_wait().expect("it is our child");
            assert!(began.elapsed() < PATIENCE && ended.is_none(), "{name} does not listen: {ended:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Self { name, _folder: folder, _child: child }
    }

    /// MPEG-TS and HLS through it lose nothing.
    async fn plays(&self, prefix: &str, content: &str) {
        tokio::join!(self.plays_packets(prefix, content), self.plays_pieces(prefix, content));
    }

    async fn plays_packets(&self, prefix: &str, content: &str) {
        let path = format!("{prefix}/ace/getstream?id={content}");
        let mut viewer = StrictViewer::open_path(Self::ADDRESS, &path, content).await;
        assert_eq!(viewer.watch(WATCHED).await, None, "{}: the stream ended", self.name);
        viewer.assert_perfect();
    }

    async fn plays_pieces(&self, prefix: &str, content: &str) {
        let viewer = HlsViewer::try_open_below(Self::ADDRESS, prefix, content).await;
        let mut viewer = viewer.unwrap_or_else(|status| panic!("{}: the manifest is {status}", self.name));
        viewer.watch(WATCHED).await;
        assert!(
            viewer.report().is_clean() && viewer.segments() >= 2,
            "{}: {:#?}",
            self.name,
            viewer.report()
        );
    }
}

fn sessions(nodes: &[TestApp]) -> usize {
    nodes.iter().map(|node| node.app.relay.sessions().len()).sum()
}

/// Every command, address, setting and configuration, in the guide's order.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_guide_works_as_it_is_printed() {
    let test = "guide::every_line_of_the_guide_works_as_it_is_printed";
    let Some(_network) = Network::enter(test, Duration::from_mins(3)).await else { return };
    let engine = SimOptions { timing: Timing::fast(), ..SimOptions::default() };
    let setup =
        Setup::with_engines([engine]).set("APP_HOST", "all").set("APP_PORT", "8000").set("API_KEY", KEY);
    let app = setup.start().await;
    let shell = Shell::new(KEY).with_players();
    let (mut ran, mut answers) = (0, String::new());
    for block in all().iter().filter(|block| block.language == "bash") {
        let mut lines = Vec::new();
        for line in commands(&block.text) {
            match read(&line) {
                Line::Command(command) => lines.push(command),
                Line::Page(page) => assert_eq!(get(app.address(), &page).await.status, 200, "{page}"),
                Line::Setting(..) => {}
                Line::Answer(line) => answers.push_str(&line),
            }
        }
        let result = shell.run(&lines).await;
        for (line, code) in &result.failed {
            assert!(
                docs::may_fail(line, *code),
                "{}: {line} ended with {code}: {}",
                block.place,
                result.said
            );
        }
        let rules: Vec<_> =
            result.noted.iter().filter(|words| words[0] == "iptables").map(|words| words.join(" ")).collect();
        if !rules.is_empty() {
            docs::accepted_by_iptables(&rules).await;
        }
        for words in result.noted {
            docs::judge(&words, &block.place);
        }
        ran += lines.len();
    }
    assert!(ran >= 25, "only {ran} commands were seen");
    for file in ["stream.ts", "output.ts"] {
        let size = std::fs::metadata(shell.file(file)).map(|file| file.len()).unwrap_or_default();
        assert!(size > 200_000, "{file} has {size} bytes");
    }
    let expected: Value = serde_json::from_str(&answers).expect("the guide's answer is JSON");
    let status = get(app.address(), "/proxy/status").await.json().await;
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(value.is_number(), status[name].is_number(), "{name}: {status}");
    }
    assert_eq!(app.ledger.counts().opened, 1, "one channel, whoever asks how often");
    assert_eq!(get(app.address(), "/panel/").await.status, 200, "the guide's dashboard");
}

/// The guide's NGINX and HAProxy, and ours, before three programs.
#[tokio::test(flavor = "multi_thread")]
async fn behind_the_guides_balancers_and_ours_three_nodes_play() {
    let test = "guide::behind_the_guides_balancers_and_ours_three_nodes_play";
    let Some(network) = Network::enter(test, Duration::from_mins(3)).await else { return };
    let nodes = three_nodes(&network).await;
    let printed = |heading: &str| under(heading)[0].text.clone();
    Front::nginx(&printed("NGINX Example")).await.plays("", ID).await;
    // It gives each connection to the node with the fewest: nothing for playlists, which belong to a node.
    Front::haproxy(&printed("HAProxy Example")).await.plays_packets("", &id(7)).await;
    let front = Front::nginx(&docs::read("deploy/nginx/several-nodes.conf")).await;
    front.plays("", &id(8)).await;
    one_channel_is_on_one_node(&nodes, &front, 20).await;
    drop(front);
    let front = Front::haproxy(&docs::read("deploy/haproxy/several-nodes.cfg")).await;
    front.plays("", &id(9)).await;
    one_channel_is_on_one_node(&nodes, &front, 40).await;
    drop(front);
    rate_limiting_spares_who_watches(&printed("Rate Limiting"), &printed("NGINX Example")).await;
}

/// Three viewers each of three channels, who write its id in three ways: as many sessions as channels.
async fn one_channel_is_on_one_node(nodes: &[TestApp], front: &Front, first: usize) {
    let before = sessions(nodes);
    let mut watching = Vec::new();
    for viewer in 0..9 {
        let selector = ["id=", "id=acestream%3A%2F%2F", "content_id="][viewer / 3];
        let path = format!("/ace/getstream?{selector}{}", id(first + viewer % 3));
        let reply = get(Front::ADDRESS, &path).await;
        assert_eq!(reply.status, 200, "{}: {path}", front.name);
        watching.push(reply);
    }
    assert_eq!(sessions(nodes) - before, 3, "{}: three channels are three sessions", front.name);
}

/// The guide's lines stand where NGINX wants them: the zone beside the server, the place in it.
async fn rate_limiting_spares_who_watches(limit: &str, balancer: &str) {
    let (zone, place) = limit.split_once("location ").expect("a zone and a place");
    let server =
        balancer.replace("    location /ace/ {", &format!("    location {place}\n    location /ace/ {{"));
    let _front = Front::nginx(&format!("{zone}\n{server}")).await;
    let mut viewer = StrictViewer::open(Front::ADDRESS, &id(60)).await;
    let path = crate::stream(&id(60));
    let asked = join_all((0..40).map(|_| get(Front::ADDRESS, &path))).await;
    let refused = asked.iter().filter(|reply| reply.status == 503).count();
    drop(asked);
    assert!(refused > 0, "forty at once are more than five in hand and ten a second");
    assert_eq!(viewer.watch(Duration::from_secs(2)).await, None);
    viewer.assert_perfect();
}

/// Every file of `deploy/` that stands before one program, as it is shipped.
#[tokio::test(flavor = "multi_thread")]
async fn behind_each_shipped_proxy_everything_plays_and_clients_are_told_apart() {
    let test = "guide::behind_each_shipped_proxy_everything_plays_and_clients_are_told_apart";
    let Some(network) = Network::enter(test, Duration::from_mins(3)).await else { return };
    network
        .name(&[("streams.example.com", Ipv4Addr::LOCALHOST), ("home.example.com", Ipv4Addr::LOCALHOST)])
        .await;
    let app = Setup::with_engines([SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }])
        .set("APP_HOST", "all")
        .set("APP_PORT", "8000")
        .set("API_KEY", KEY)
        .set("TRUSTED_PROXIES", "127.0.0.1")
        .set("ALLOWED_HOSTS", "streams.example.com,home.example.com")
        .start()
        .await;
    let shipped = |name: &str| docs::read(&format!("deploy/{name}"));
    let at_the_root =
        [("nginx", "nginx/acemux.conf"), ("haproxy", "haproxy/haproxy.cfg"), ("caddy", "caddy/Caddyfile")];
    for (program, file) in at_the_root {
        let front = start(program, &shipped(file)).await;
        passes_all_on(&app, &front, "streams.example.com", "").await;
    }
    for (program, file) in [("nginx", "nginx/subpath.conf"), ("caddy", "caddy/subpath.Caddyfile")] {
        let front = start(program, &shipped(file)).await;
        passes_all_on(&app, &front, "home.example.com", "/tv").await;
    }
}

async fn start(program: &str, configuration: &str) -> Front {
    match program {
        "nginx" => Front::nginx(configuration).await,
        "haproxy" => Front::haproxy(configuration).await,
        _ => Front::caddy(configuration).await,
    }
}

async fn passes_all_on(app: &TestApp, front: &Front, host: &str, prefix: &str) {
    front.plays(prefix, ID).await;
    // The dashboard's page, what it loads, and that it is answered by this name.
    let ask = async |path: &str, more: &str| {
        let request =
            format!("GET {prefix}{path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        acemux_testkit::send(Front::ADDRESS, &request).await
    };
    let mut panel = ask("/panel/", "").await;
    assert_eq!(panel.status, 200, "{}", front.name);
    let page = String::from_utf8(panel.body().await.0).expect("text");
    let script = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a script");
    assert!(!script.starts_with('/'), "{script}");
    let script = format!("/panel/{}", script.trim_start_matches("./"));
    assert_eq!(ask(&script, "").await.status, 200, "{}: {script}", front.name);
    let moved = ask("/panel", "").await;
    let target = moved.header("location").expect("to the page with the slash").to_owned();
    assert!(target == "panel/" || target.ends_with(&format!("{prefix}/panel/")), "{}: {target}", front.name);
    // A change by a page of this site is one, by a page of another it is not.
    let change = async |origin: &str| {
        let request = format!(
            "POST {prefix}/events/cleanup HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nX-API-KEY: {KEY}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        acemux_testkit::send(Front::ADDRESS, &request).await.status
    };
    assert_eq!(change(&format!("http://{host}")).await, 200, "{}", front.name);
    assert_eq!(change("https://evil.example").await, 403, "{}", front.name);
    // Who watches is who the proxy says it is.
    let path = format!("{prefix}/ace/getstream?id={ID}");
    let elsewhere = acemux_testkit::http::get_from(Ipv4Addr::new(127, 0, 7, 7), Front::ADDRESS, &path).await;
    assert_eq!(elsewhere.status, 200);
    let addresses =
        || app.watching().into_iter().map(|viewer| viewer.address.to_string()).collect::<Vec<_>>();
    acemux_testkit::app::until("the viewer is known by its own address", || {
        addresses().contains(&"127.0.7.7".to_owned())
    })
    .await;
    // News come when they happen, through whatever buffers there are.
    let mut live = ask("/api/v1/events/live", "").await;
    let first = within(Duration::from_secs(5), "the first news", live.next()).await;
    assert!(first.is_ok_and(|news| !news.is_empty()), "{}", front.name);
}

/// The pages that our documentation prints, and the guide's own for hls.js, as they are printed. The guide's for Video.js
/// names MPEG-TS, which Video.js cannot play; ours has the manifest in its place.
#[tokio::test(flavor = "multi_thread")]
async fn every_printed_page_plays_in_the_browser_hls_js_and_video_js() {
    let test = "guide::every_printed_page_plays_in_the_browser_hls_js_and_video_js";
    let Some(_network) = Network::enter(test, Duration::from_mins(2)).await else { return };
    let browser = docs::root().join("crates/testkit/browser");
    assert!(browser.join("node_modules/video.js").exists(), "npm ci in crates/testkit/browser brings it");
    let engine = SimOptions { timing: Timing::fast(), ..SimOptions::default() };
    let _app = Setup::with_engines([engine]).set("APP_HOST", "all").set("APP_PORT", "8000").start().await;
    let guides = under("HLS.js Example (when HLS support added)");
    let ours = docs::all_blocks().into_iter().filter(|block| block.language == "html");
    let pages: Vec<Block> = ours.chain(guides).collect();
    assert!(pages.len() >= 3, "{}", pages.len());
    let folder = tempfile::tempdir().expect("a folder");
    for page in pages {
        let file = folder.path().join("page.html");
        std::fs::write(&file, format!("<!doctype html>\n{}", page.text)).expect("it is ours");
        let mut node = Command::new("node");
        node.arg(browser.join("page.mjs")).arg(&file).arg("4").stdin(Stdio::null()).kill_on_drop(true);
        let output = within(Duration::from_mins(1), &page.place, node.output()).await.expect("node is there");
        let said = docs::said(&output);
        let line = said.lines().last().unwrap_or_default();
        let seen: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}: {said}", page.place));
        println!("{}: {seen}", page.place);
        assert_eq!(
            (&seen["errors"], &seen["foreign"]),
            (&Value::Array(Vec::new()), &Value::Array(Vec::new())),
            "{}",
            page.place
        );
        let is_playing = seen["advanced"].as_f64() > Some(2.0) && seen["frames"].as_u64() > Some(40);
        assert!(is_playing, "{}: {seen}", page.place);
    }
}
