//! The dashboard in a real browser over the real service: it looks right everywhere, does what its buttons say, tells within
//! seconds what has gone wrong, and costs next to nothing.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use acemux_server::app::surface;
use acemux_sim::gluetun::{Exit, Weather};
use acemux_sim::{GluetunOptions, SimGluetun, SimOptions, Timing};
use acemux_testkit::app::{Setup, TestApp, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::get;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::players_failover as players;

/// Longest scene but for those whose length is asked for.
const PATIENCE: Duration = Duration::from_secs(110);
/// What the scenes play: pictures and sound that the browser knows.
const CHANNEL: &str = acemux_sim::H264_ID;

const KEY: &str = "a-key-of-twenty-signs";

/// A browser that plays a scene of `panel.mjs`.
struct Scene {
    child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

/// What it says: it needs something, or it is over.
enum Said {
    Order(String),
    Report(Value),
}

/// Where pictures are kept, to be looked at.
fn shots(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/panel")).join(folder)
}

impl Scene {
    /// `None` when browsers cannot be run here.
    fn begin(name: &str, plan: &Value) -> Option<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/browser");
        if !PathBuf::from(folder).join("node_modules/axe-core").exists() {
            return players::is_missing("what `npm ci` in crates/testkit/browser brings");
        }
        let mut command = Command::new("node");
        command.arg(format!("{folder}/panel.mjs")).arg(name).arg(plan.to_string());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let Ok(mut child) = piped.spawn() else { return players::is_missing("node") };
        let orders = child.stdin.take().expect("piped");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        Some(Self { child, orders, said })
    }

    async fn next(&mut self) -> Said {
        let line = self.said.next_line().await.expect("text").expect("it says how it ended");
        match line.strip_prefix("> ") {
            Some(order) => Said::Order(order.to_owned()),
            None => Said::Report(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))),
        }
    }

    async fn done(&mut self) {
        self.orders.write_all(b"done\n").await.expect("it listens");
    }

    /// Obeys until the scene is over, and fails with it.
    async fn play(mut self, mut obey: impl AsyncFnMut(&str)) -> Value {
        let over = async {
            loop {
                match self.next().await {
                    Said::Order(order) => {
                        obey(&order).await;
                        self.done().await;
                    }
                    Said::Report(report) => return report,
                }
            }
        };
        let report = within(PATIENCE, "the browser's scene", over).await;
        let _ended = self.child.kill().await;
        println!("{report}");
        if let Some(why) = report["failed"].as_str() {
            panic!("{why}");
        }
        report
    }
}

/// Engines whose channel begins at once.
fn engines(count: usize) -> Vec<SimOptions> {
    (0..count).map(|_| SimOptions { burst: Duration::from_secs(8), ..SimOptions::fast() }).collect()
}

fn base(app: &TestApp) -> String {
    format!("http://{}/", app.address())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_at_every_width_and_in_all_colours() {
    let app = Setup::with_engines(engines(2)).start().await;
    let plan =
        json!({ "base": base(&app), "channels": [CHANNEL, acemux_sim::HEVC_ID], "shots": shots("looks") });
    let Some(scene) = Scene::begin("looks", &plan) else { return };
    let report = scene.play(async |order| panic!("{order}")).await;
    assert_eq!((&report["pages"], &report["looks"]), (&json!(6), &json!(12)));
}

/// The service with a key, on a database that outlives it.
async fn keyed(folder: &TempDir, port: u16) -> TestApp {
    let database = folder.path().join("acemux.db").to_str().expect("text").to_owned();
    // Two: what was moved must go back when its engine is drained.
    let setup = Setup::with_engines(engines(2)).set("API_KEY", KEY).set("DB_PATH", database);
    setup.set("APP_PORT", port.to_string()).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_it_offers_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut app = Some(keyed(&folder, 0).await);
    let address = app.as_ref().expect("it runs").address();
    let has = |route: &str| surface().entries().iter().any(|known| known.path == route);
    let plan = json!({
        "base": format!("http://{address}/"),
        "channels": [CHANNEL],
        "key": KEY,
        "shots": shots("acts"),
        "names": has("/api/v1/names"),
        "setting": has("/api/v1/settings/{name}").then(|| json!({ "name": "STALL_TIMEOUT", "value": "7s" })),
    });
    let Some(scene) = Scene::begin("acts", &plan) else { return };
    let report = scene
        .play(async |order| {
            assert_eq!(order, "restart");
            app.take().expect("it runs").stop().await;
            app = Some(Box::pin(keyed(&folder, address.port())).await);
        })
        .await;
    assert_eq!(report["sound"], json!([]), "this browser plays it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_within_seconds_and_frozen_never_looks_well() {
    // So long between a death and the next picture that the page can show what there is to see.
    let timing = Timing { prebuffer: Duration::from_millis(1500), ..Timing::fast() };
    let engines = || engines(2).into_iter().map(|engine| SimOptions { timing, ..engine });
    let mut app = Some(Setup::with_engines(engines()).start().await);
    let address = app.as_ref().expect("it runs").address();
    let plan =
        json!({ "base": format!("http://{address}/"), "channels": [CHANNEL], "shots": shots("fails") });
    let Some(scene) = Scene::begin("fails", &plan) else { return };
    let report = scene
        .play(async |order| match order {
            "kill" => {
                let app = app.as_ref().expect("it runs");
                let playing = app.engines.iter().find(|engine| engine.sessions() > 0);
                playing.expect("an engine plays").crash().await;
            }
            "stop" => app.take().expect("it runs").stop().await,
            "start" => {
                let setup = Setup::with_engines(engines()).set("APP_PORT", address.port().to_string());
                app = Some(Box::pin(setup.start()).await);
            }
            other => panic!("{other}"),
        })
        .await;
    let at_most = |name: &str, most: u64| {
        assert!(report[name].as_u64().is_some_and(|ms| ms <= most), "{name}: {report}");
    };
    assert_eq!(report["connections"], 1, "of eight tabs");
    at_most("sentence", 2_000);
    at_most("grey", 6_500);
    assert!(report["title"].as_str().is_some_and(|title| title.starts_with('…')), "{report}");
}

/// A gluetun and the id of its container, by that container's name; `number` makes its exit and its forwarded port.
async fn gluetun(daemon: &FakeDockerd, name: &str, number: u8) -> (SimGluetun, String) {
    let public_ip = format!("203.0.113.{number}");
    let exit = Exit { public_ip, ports: vec![40_000 + u16::from(number)], ..Exit::default() };
    let role = json!({ "auth": "basic", "username": SECRETS[4], "password": SECRETS[0] });
    let roles = vec![role.to_string().parse().expect("a role")];
    let gluetun = SimGluetun::start(GluetunOptions { exit, roles, ..GluetunOptions::default() }).await;
    let gluetun = gluetun.expect("free ports");
    let id = daemon.add_vpn(name, gluetun.addr().port());
    daemon.set_health(&id, "healthy");
    (gluetun, id)
}

/// The secrets of the set-up that a bundle for strangers must not tell.
const SECRETS: [&str; 5] =
    ["hush-of-the-tunnel", "a-key-of-twenty-signs", "203.0.113.1", "198.51.100.7", "somebody-at-home"];

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_the_engines_that_are_created_behind_them_are_seen_as_they_come_and_go() {
    let daemon = FakeDockerd::start(&[FAST], true);
    let (_first, _id) = gluetun(&daemon, "vpn-1", 1).await;
    let (second, id) = gluetun(&daemon, "vpn-2", 2).await;
    let settings = [
        ("PORT_RANGE_HOST", "24700-24739"),
        ("MIN_REPLICAS", "2"),
        ("MIN_FREE_REPLICAS", "1"),
        ("MAX_REPLICAS", "4"),
        ("VPN_MODE", "redundant"),
        ("GLUETUN_CONTAINER_NAME", "vpn-1"),
        ("GLUETUN_CONTAINER_NAME_2", "vpn-2"),
        ("GLUETUN_API_USER", SECRETS[4]),
        ("GLUETUN_API_PASSWORD", SECRETS[0]),
        ("GLUETUN_HEALTH_CHECK_INTERVAL_S", "1s"),
        ("HOST_PUBLIC_IP", SECRETS[3]),
        ("API_KEY", SECRETS[1]),
    ];
    let setup = Setup::with_engines([]).set_all(settings).set_all(daemon.settings());
    let app = setup.start().await;
    let tunnel = |name, number: u8| json!({ "name": name, "exit": format!("203.0.113.{number}"), "port": 40_000 + u16::from(number) });
    let plan = json!({
        "base": base(&app), "shots": shots("tunnels"), "key": SECRETS[1], "secrets": SECRETS,
        "channels": [crate::ID], "vpns": [tunnel("vpn-1", 1), tunnel("vpn-2", 2)],
    });
    let Some(scene) = Scene::begin("tunnels", &plan) else { return };
    let report = scene
        .play(async |order| match order {
            "down" => {
                second.set_weather(Weather::Down);
                daemon.set_health(&id, "unhealthy");
            }
            "up" => {
                second.set_weather(Weather::Up);
                daemon.set_health(&id, "healthy");
            }
            other => panic!("{other}"),
        })
        .await;
    assert!(report["sentence"].as_u64().is_some_and(|ms| ms <= 10_000), "{report}");
    assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_reaches_everything_and_the_focus_is_never_lost() {
    let app = Setup::with_engines(engines(2)).start().await;
    let plan = json!({ "base": base(&app), "channels": [CHANNEL], "shots": shots("keys") });
    let Some(scene) = Scene::begin("keys", &plan) else { return };
    scene.play(async |order| panic!("{order}")).await;
}

/// Laptops sleep, tabs are frozen, networks go, and the server is replaced by a newer one behind an open page.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_stays_open_for_days_survives_what_happens_meanwhile() {
    let app = Setup::with_engines(engines(2)).start().await;
    let plan = json!({ "base": base(&app), "channels": [CHANNEL], "shots": shots("stays") });
    let Some(scene) = Scene::begin("stays", &plan) else { return };
    scene.play(async |order| panic!("{order}")).await;
}

async fn load(warm: u64, seconds: u64) -> Option<Value> {
    let app = Setup::new().start().await;
    let plan = json!({ "base": base(&app), "warm": warm, "seconds": seconds });
    let report = Scene::begin("loads", &plan)?.play(async |order| panic!("{order}")).await;
    let figure = |name: &str, at: usize| report[name][at].as_f64().expect("a figure");
    assert!(report["core"].as_f64().is_some_and(|core| core < 0.05), "of a core: {report}");
    assert!(figure("heap", 1) < figure("heap", 0) * 1.1 + 1e6, "its memory grows: {report}");
    assert!(figure("nodes", 1) < figure("nodes", 0) * 1.1 + 100.0, "its nodes grow: {report}");
    Some(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_cost_it_nearly_nothing() {
    load(15, 40).await;
}

/// Ten minutes of the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes real minutes"]
async fn a_hundred_streams_cost_it_nearly_nothing_at_full_length() {
    load(75, 600).await;
}

/// The pictures of README.md and docs/: `./scripts/screenshots` keeps them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes pictures"]
async fn pictures_for_the_documentation() {
    let app = Setup::with_engines(engines(3)).start().await;
    let channels = [CHANNEL, acemux_sim::HEVC_ID, acemux_sim::OPEN_GOP_ID];
    let names = json!({ (channels[0]): "News 24", (channels[1]): "Sports 1", (channels[2]): "Films" });
    let plan = json!({ "base": base(&app), "channels": channels, "names": names, "settle": 20, "shots": shots("docs") });
    let Some(scene) = Scene::begin("shots", &plan) else { return };
    scene
        .play(async |_| {
            let playing = app.engines.iter().find(|engine| engine.sessions() > 0);
            playing.expect("an engine plays").crash().await;
        })
        .await;
}

#[tokio::test]
async fn it_is_found_under_any_path_and_says_what_may_run_in_it() {
    let app = Setup::new().start().await;
    for (path, status, to) in [("/", 307, "panel/"), ("/panel", 308, "panel/")] {
        let reply = get(app.address(), path).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (status, Some(to)),
            "relative, for proxies: {path}"
        );
    }
    let mut page = get(app.address(), "/panel/").await;
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(page.body().await.0).expect("text");
    for address in
        page.split("href=\"").chain(page.split("src=\"")).skip(1).filter_map(|rest| rest.split('"').next())
    {
        assert!(
            address.starts_with("./") || address.starts_with("../") || address.starts_with('<'),
            "{address}"
        );
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing comes from elsewhere: {page}");
    assert_eq!(get(app.address(), "/panel/assets/no.js").await.status, 404);
    let viewer = get(app.address(), &crate::stream(&crate::id(7))).await;
    let mut status = get(app.address(), "/status").await;
    assert!(status.header("refresh").is_some());
    let text = String::from_utf8(status.body().await.0).expect("text");
    assert!(text.contains("1 watching") && text.contains(&crate::id(7)), "{text}");
    assert!(!text.contains("<script") && text.len() <= 3_072, "{}", text.len());
    drop(viewer);
}
