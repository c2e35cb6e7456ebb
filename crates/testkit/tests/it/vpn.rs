//! Engines behind VPNs on a real Docker daemon: two simulated gluetuns whose networks engines join. Needs a daemon and
//! `scripts/sim-image`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use acemux_testkit::compose::Compose;
use acemux_testkit::docker::{Program, diary, docker};
use acemux_testkit::http::{BodyEnd, get_from};
use acemux_testkit::socks::SocksServer;
use acemux_testkit::vpn::{GLUETUN, INSIDE, VpnContainer};
use acemux_testkit::{StrictViewer, get};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{ID, home, id, stream};

/// Longest time without media while another VPN has an engine with room.
const LONGEST_GAP: Duration = Duration::from_secs(5);
/// Longest time until engines are behind both VPNs again.
const BALANCED_AGAIN: Duration = Duration::from_secs(90);

/// How often a stream has another source than before.
const MOVES: &str = "acemux_proxy_upstreams_replaced_total";

/// Two VPNs and the program behind them.
struct Behind {
    program: Program,
    vpns: [VpnContainer; 2],
}

impl Behind {
    /// `settings` beside those of the redundant mode.
    async fn two(test: &str, ports: &str, settings: &[(&str, &str)]) -> Self {
        let vpns = [VpnContainer::start(test, 1).await, VpnContainer::start(test, 2).await];
        let usual = [
            ("ENGINE_IMAGE", INSIDE),
            ("VPN_MODE", "redundant"),
            ("GLUETUN_CONTAINER_NAME", vpns[0].name.as_str()),
            ("GLUETUN_CONTAINER_NAME_2", vpns[1].name.as_str()),
            ("HOST_PUBLIC_IP", "198.51.100.7"),
        ];
        let all: Vec<_> = usual.into_iter().chain(settings.iter().copied()).collect();
        let program = Program::start(test, ports, &all).await;
        Self { program, vpns }
    }

    /// Waits until each VPN has so many healthy engines in its network, and returns how long that took.
    async fn balanced(&self, each: usize) -> Duration {
        let began = Instant::now();
        loop {
            let counts = [self.healthy_inside(0).await, self.healthy_inside(1).await];
            if counts == [each, each] {
                return began.elapsed();
            }
            let log = || format!("{counts:?}; {}", self.program.log());
            assert!(began.elapsed() < BALANCED_AGAIN, "never {each} healthy engines behind each: {}", log());
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn healthy_inside(&self, vpn: usize) -> usize {
        let engines = self.program.page("/engines").await;
        let is_inside = |one: &&Value| {
            one["health_status"] == "healthy" && one["vpn_container"] == self.vpns[vpn].name.as_str()
        };
        engines.as_array().into_iter().flatten().filter(is_inside).count()
    }

    /// Every container of ours is in the network of one of the VPNs, as Docker shows it.
    async fn nobody_is_outside(&self) {
        for container in self.program.containers().await {
            let mode = docker(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", &container]).await;
            assert!(mode.starts_with("container:"), "{container} is in {mode}");
        }
    }

    async fn status(&self) -> Value {
        self.program.page("/vpn/status").await
    }
}

/// Ten viewers on five channels who stay whatever happens, until they are dismissed.
struct Audience {
    watching: JoinSet<(Option<BodyEnd>, Duration)>,
    leave: CancellationToken,
}

impl Audience {
    async fn gather(program: &Program) -> Self {
        let mut viewers = Vec::new();
        for n in 0..10 {
            viewers.push(StrictViewer::open_from(home(n), program.address, &id(n % 5 + 1)).await);
        }
        let (leave, mut watching) = (CancellationToken::new(), JoinSet::new());
        for mut viewer in viewers {
            let leave = leave.clone();
            watching.spawn(async move {
                let mut end = None;
                while end.is_none() && !leave.is_cancelled() {
                    end = viewer.watch(Duration::from_millis(200)).await;
                }
                viewer.assert_only_announced_jumps();
                (end, viewer.longest_gap())
            });
        }
        Self { watching, leave }
    }

    /// Nobody was cut off. Returns the longest time that anybody had no media.
    async fn dismiss(mut self, what: &str) -> Duration {
        self.leave.cancel();
        let mut longest = Duration::ZERO;
        while let Some(watched) = self.watching.join_next().await {
            let (end, gap) = watched.expect("a viewer saw only announced jumps");
            assert_eq!(end, None, "{what}: a viewer's connection ended");
            longest = longest.max(gap);
        }
        longest
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_in_their_vpns_networks_and_nowhere_else() {
    let behind = Behind::two("vpn-inside", "22400-22439", &[]).await;
    behind.balanced(1).await;
    behind.nobody_is_outside().await;
    let mut viewer = StrictViewer::open(behind.program.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let page = behind.status().await;
    for (vpn, number) in [("vpn1", 1), ("vpn2", 2)] {
        let note = &page[vpn];
        assert_eq!((&note["health"], &note["connected"]), (&json!("healthy"), &json!(true)), "{page}");
        assert_eq!(note["public_ip"], format!("203.0.113.{number}"), "{page}");
        assert_eq!(note["forwarded_port"], 40_000 + number, "{page}");
        assert_eq!(note["provider"], "ProtonVPN");
        assert_eq!(note["leak"]["ipv4"]["from_host_public_ip"], "differs", "{page}");
        assert_eq!(note["leak"]["ipv4"]["from_other_exits"], "differs", "{page}");
        assert_eq!(note["leak"]["ipv6"]["from_host_public_ip"], "not_compared", "{page}");
        assert_eq!(note["engines"].as_array().map(Vec::len), Some(1), "{page}");
    }
    assert_eq!((&page["leak_alert"], &page["emergency_mode"]["active"]), (&json!(false), &json!(false)));
    let engines = behind.program.page("/engines").await;
    let forwarded: Vec<_> =
        engines.as_array().unwrap().iter().filter_map(|one| one["forwarded_port"].as_u64()).collect();
    assert_eq!(forwarded.len(), 2, "one engine of each VPN has its port: {engines}");
    let metrics =
        String::from_utf8_lossy(&get(behind.program.address, "/metrics").await.body().await.0).into_owned();
    assert!(metrics.contains("acemux_vpn_leak 0"), "{metrics}");
}

/// Two engines behind each VPN, three streams on each: one VPN alone has room for all five channels. Only idle engines
/// change places, and streams that nobody watches any more are over soon.
const FOUR_ENGINES: [(&str, &str); 4] =
    [("MIN_REPLICAS", "4"), ("MAX_REPLICAS", "8"), ("MIN_FREE_REPLICAS", "0"), ("STREAM_IDLE_TIMEOUT", "2s")];

/// So long viewers watch at least: the VPN goes, its streams move, and it comes back.
const WATCHED: Duration = Duration::from_secs(25);
/// And so long after the event is over.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What happens to one VPN while ten people watch.
async fn survives(test: &str, ports: &str, event: impl AsyncFnOnce(&Behind)) {
    let behind = Behind::two(test, ports, &FOUR_ENGINES).await;
    behind.balanced(2).await;
    let audience = Audience::gather(&behind.program).await;
    let began = Instant::now();
    sleep(Duration::from_secs(3)).await;
    event(&behind).await;
    sleep_until((began + WATCHED).max(Instant::now() + AFTERWARDS)).await;
    let gap = audience.dismiss(test).await;
    assert!(gap <= LONGEST_GAP, "{test}: {gap:?} without media; {}", behind.program.log());
    let took = behind.balanced(2).await;
    println!("{test}: {gap:?} without media at most; balanced {took:?} after the viewers had left");
    behind.nobody_is_outside().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_one_vpn_costs_no_viewer() {
    // As people type it: it has ten seconds to end, and takes its tunnel down at once.
    survives("vpn-restart", "22440-22479", async |behind: &Behind| behind.vpns[0].docker(&["restart"]).await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vpn_that_is_made_anew_costs_no_viewer() {
    survives("vpn-recreate", "22480-22519", async |behind: &Behind| behind.vpns[0].recreate().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_vpn_costs_no_viewer() {
    survives("vpn-pause", "22520-22559", async |behind: &Behind| {
        behind.vpns[0].docker(&["pause"]).await;
        sleep(Duration::from_secs(15)).await;
        behind.vpns[0].docker(&["unpause"]).await;
    })
    .await;
}

/// A VPN that is gone for two seconds again and again is waited for: nothing is made anew for it and no stream moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_vpn_costs_no_viewer_and_is_no_reason_to_do_anything() {
    survives("vpn-flap", "22560-22599", async |behind: &Behind| {
        let (program, vpn) = (&behind.program, &behind.vpns[0]);
        let (since, moved) = (SystemTime::now(), program.metric(MOVES).await);
        vpn.tell("tunnel", &json!({ "flap": { "down_ms": 2000, "up_ms": 8000 } })).await;
        sleep(Duration::from_secs(25)).await;
        vpn.set_up(true).await;
        let restarts = diary(since, &["event=restart", &format!("container={}", vpn.name)]).await;
        assert_eq!(restarts, Vec::<String>::new());
        assert_eq!(program.created_since(since).await, 0, "{}", program.log());
        assert_eq!(program.metric(MOVES).await, moved, "{}", program.log());
    })
    .await;
}

/// The engines that have the forwarded port of each VPN, by the labels of containers that run.
struct Bearers([BTreeMap<String, u16>; 2]);

impl Bearers {
    async fn of(behind: &Behind) -> Self {
        let format = "{{.ID}} {{.Label \"acestream.vpn_container\"}} {{.Label \"io.acemux.p2p_port\"}}";
        let instance = format!("label=io.acemux.instance={}", behind.program.instance);
        let forwarded = "label=acestream.forwarded=true";
        let list = ["ps", "--no-trunc", "--format", format, "--filter", &instance, "--filter", forwarded];
        let list = docker(&list).await;
        let of = |vpn: &VpnContainer| {
            let fields = list.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let inside = fields.filter(|fields| fields[1] == vpn.name);
            inside.map(|fields| (fields[0].to_owned(), fields[2].parse().expect("a port"))).collect()
        };
        Self(behind.vpns.each_ref().map(of))
    }

    /// The only one of a VPN, with its port.
    fn only(&self, vpn: usize) -> Option<(&str, u16)> {
        let mut all = self.0[vpn].iter();
        all.next().filter(|_| all.next().is_none()).map(|(id, port)| (id.as_str(), *port))
    }

    /// No port is had by two, and only who takes over is there beside who gives away.
    fn assert_one_each(&self) {
        for bearers in &self.0 {
            let ports: BTreeSet<u16> = bearers.values().copied().collect();
            assert!(ports.len() == bearers.len() && bearers.len() <= 2, "{bearers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_engine_of_each_vpn_has_its_forwarded_port_when_its_engine_dies_and_when_the_port_changes() {
    let settings = [FOUR_ENGINES.as_slice(), &[("GLUETUN_PORT_CACHE_TTL_S", "1")]].concat();
    let behind = Behind::two("vpn-port", "22800-22839", &settings).await;
    behind.balanced(2).await;
    let before = Bearers::of(&behind).await;
    let audience = Audience::gather(&behind.program).await;
    // Of one VPN the engine dies.
    let (dead, port) = before.only(1).expect("one engine has it");
    docker(&["kill", dead]).await;
    // Of the other one the port changes. That counts a minute after the last change.
    let (giver, old) = before.only(0).expect("one engine has it");
    let (new, since) = (old + 1_000, SystemTime::now());
    behind.vpns[0].tell("exit", &json!({ "ports": [new] })).await;
    let (began, mut were_both) = (Instant::now(), false);
    let after = loop {
        let now = Bearers::of(&behind).await;
        now.assert_one_each();
        were_both |= now.0[0].len() == 2;
        let is_handed_over = now.only(0).is_some_and(|(_, port)| port == new);
        let is_elected = now.only(1).is_some_and(|(id, its)| id != dead && its == port);
        if is_handed_over && is_elected {
            break now;
        }
        let waited = began.elapsed();
        assert!(waited < BALANCED_AGAIN, "{waited:?}: {:?} {}", now.0, behind.program.log());
        sleep(Duration::from_millis(100)).await;
    };
    assert!(were_both, "the replacement was there before the other one went");
    let gap = audience.dismiss("vpn-port").await;
    assert!(gap <= LONGEST_GAP, "{gap:?} without media; {}", behind.program.log());
    println!("vpn-port: handed over after {:?}; {gap:?} without media at most", began.elapsed());
    let made = behind.program.created_since(since).await;
    assert!(
        made <= 2,
        "one instead of the dead one and one for the port, not {made}: {}",
        behind.program.log()
    );
    assert_ne!(after.only(0).map(|(id, _)| id), Some(giver));
    behind.nobody_is_outside().await;
}

/// The proxy is told as an engine shows it and as it greets us: its end, why, and that it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_dead_is_told_with_the_reason() {
    let gateway: IpAddr =
        docker(&["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"])
            .await
            .parse()
            .expect("the bridge has an address on this machine");
    let proxy = SocksServer::start((gateway, 0).into(), Some(("user", "hush"))).await.unwrap();
    let address = proxy.address;
    let settings = [
        ("ENGINE_VARIANT", "outpace"),
        ("ENGINE_PROXY", &format!("socks5://user:hush@{address}")),
        ("GLUETUN_HEALTH_CHECK_INTERVAL_S", "1"),
    ];
    let program = Program::start("vpn-proxy", "22840-22859", &settings).await;
    program.until_healthy(2).await;
    let is = async |state: &str| {
        let what = format!("calls the proxy {state}");
        program
            .until_it(&what, async |program: &Program| {
                program.page("/vpn/status").await["proxy"]["state"] == state
            })
            .await;
        program.page("/vpn/status").await["proxy"].clone()
    };
    let up = is("up").await;
    assert_eq!((&up["address"], &up["reason"]), (&json!(format!("socks5://{address}")), &Value::Null));
    drop(proxy);
    let reason = is("down").await["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("cannot be reached") && reason.ends_with("no engine behind it has a network"),
        "{reason}"
    );
    let metric = format!("acemux_vpn_proxy_up{{proxy=\"socks5://{address}\"}}");
    assert_eq!(program.metric(&metric).await, 0);
    let _back = SocksServer::start(address, Some(("user", "hush"))).await.unwrap();
    is("up").await;
    assert_eq!(program.metric(&metric).await, 1);
    assert!(!program.log().contains("hush"));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_vpn_works_new_viewers_are_told_and_running_ones_held_until_one_is_back() {
    let settings = [("MIN_REPLICAS", "2"), ("HOLD_TIMEOUT", "90s")];
    let behind = Behind::two("vpn-none", "22600-22639", &settings).await;
    behind.balanced(1).await;
    let mut viewer = StrictViewer::open(behind.program.address, ID).await;
    viewer.watch(Duration::from_secs(1)).await;
    for vpn in &behind.vpns {
        vpn.docker(&["stop", "--time", "1"]).await;
    }
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        let end = viewer.watch(Duration::from_mins(1)).await;
        viewer.assert_only_announced_jumps();
        (end, viewer.since_media())
    });
    behind
        .program
        .until_it("tells that no VPN works", async |program: &Program| {
            let mut refused = get_from(home(3), program.address, &stream(&id(7))).await;
            refused.status == 503 && refused.json().await["code"] == "vpn_down"
        })
        .await;
    behind.nobody_is_outside().await;
    assert_eq!(behind.status().await["connected"], false);
    sleep(Duration::from_secs(5)).await;
    for vpn in &behind.vpns {
        vpn.docker(&["start"]).await;
    }
    let (end, since) = watching.join_next().await.unwrap().unwrap();
    assert_eq!(end, None, "the viewer was held: {}", behind.program.log());
    assert!(since < Duration::from_secs(5), "and plays again: {since:?} {}", behind.program.log());
    behind.balanced(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_vpns_restart_leaves_nothing_outside_and_all_comes_back() {
    let mut behind = Behind::two("vpn-crash", "22640-22679", &[("STREAM_IDLE_TIMEOUT", "2s")]).await;
    behind.balanced(1).await;
    for event in ["restart", "recreate", "pause"] {
        match event {
            "restart" => behind.vpns[0].docker(&["restart", "--time", "1"]).await,
            "recreate" => behind.vpns[0].recreate().await,
            _ => behind.vpns[0].docker(&["pause"]).await,
        }
        behind.program.kill().await;
        behind.program.start_again().await;
        if event == "pause" {
            behind.vpns[0].docker(&["unpause"]).await;
        }
        let took = behind.balanced(1).await;
        println!("{event} and a crash: balanced after {took:?}");
        behind.nobody_is_outside().await;
        let mut viewer = StrictViewer::open(behind.program.address, ID).await;
        viewer.watch(Duration::from_secs(1)).await;
        viewer.assert_perfect();
    }
}

/// gluetun's development version answers 401 everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_vpn_whose_control_server_is_closed_is_used_and_the_role_to_add_is_told() {
    let vpn = VpnContainer::with("vpn-closed", 1, &["SIM_GLUETUN=latest", "VPN_PORT_FORWARDING=on"]).await;
    let settings = [("ENGINE_IMAGE", INSIDE), ("GLUETUN_CONTAINER_NAME", vpn.name.as_str())];
    let program = Program::start("vpn-closed", "22680-22699", &settings).await;
    program.until_healthy(2).await;
    let page = program.page("/vpn/status").await;
    assert_eq!((&page["mode"], &page["health"]), (&json!("single"), &json!("healthy")), "{page}");
    assert_eq!((&page["forwarded_port"], &page["public_ip"]), (&Value::Null, &Value::Null), "{page}");
    assert!(page["advice"][0].as_str().unwrap().contains("roles = [{ name = \"acemux\""), "{page}");
    let mut viewer = StrictViewer::open(program.address, ID).await;
    viewer.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
}

/// An engine shares the control server's loopback: it must not be able to turn the VPN off.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_cannot_turn_the_vpn_of_the_compose_files_off() {
    let role = "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE={\"auth\":\"apikey\",\"apikey\":\"k1k1k1k1\"}";
    let vpn = VpnContainer::with("vpn-key", 1, &["SIM_GLUETUN=latest", role]).await;
    let settings = [("ENGINE_IMAGE", INSIDE), ("GLUETUN_CONTAINER_NAME", vpn.name.as_str())];
    let program = Program::start("vpn-key", "22700-22719", &settings).await;
    program.until_healthy(2).await;
    let page = program.page("/vpn/status").await;
    assert_eq!(page["public_ip"], "203.0.113.1", "the key is found in the container's environment: {page}");
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = docker(&["inspect", "--format", format, &vpn.name]).await;
    let body = r#"{"status":"stopped"}"#;
    let request = format!(
        "PUT /v1/vpn/status HTTP/1.1\r\nHost: gluetun\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let refused = acemux_testkit::send(format!("{address}:8001").parse().unwrap(), &request).await;
    assert_eq!(refused.status, 401);
    assert_eq!(program.page("/vpn/status").await["health"], "healthy");
}

/// The guide's commands with nothing but names of images, containers and ports in `.env`.
async fn guides_mode(file: &str, vpns: usize, ports: [&str; 2]) {
    let names = [1, 2].map(|number| format!("guide-{vpns}-{number}-{}", std::process::id()));
    let compose = Compose::up(
        file,
        &[
            ("ENGINE_IMAGE", INSIDE),
            ("ENGINE_VARIANT", "krinkuto11-amd64"),
            ("GLUETUN_IMAGE", GLUETUN),
            ("GLUETUN_API_KEY", "a-long-random-text"),
            ("GLUETUN_CONTAINER_NAME", &names[0]),
            (if vpns > 1 { "GLUETUN_CONTAINER_NAME_2" } else { "TZ" }, &names[1]),
            ("GLUETUN_PORT_RANGE_1", ports[0]),
            ("GLUETUN_PORT_RANGE_2", ports[1]),
        ],
    )
    .await;
    // With two VPNs acemux does not wait to start until they are healthy.
    let began = Instant::now();
    let all_work = |page: &Value| {
        page["vpns"].as_array().is_some_and(|vpns| vpns.iter().all(|vpn| vpn["health"] == "healthy"))
    };
    while !all_work(&get(compose.address, "/vpn/status").await.json().await) {
        assert!(began.elapsed() < Duration::from_mins(1), "not all VPNs become healthy");
        sleep(Duration::from_millis(200)).await;
    }
    let mut viewer = StrictViewer::open(compose.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let page = get(compose.address, "/vpn/status").await.json().await;
    assert_eq!(page["vpns"].as_array().map(Vec::len), Some(vpns), "{page}");
    for vpn in page["vpns"].as_array().into_iter().flatten() {
        assert_eq!((&vpn["health"], &vpn["public_ip"]), (&json!("healthy"), &json!("203.0.113.7")), "{page}");
    }
    assert!(!compose.engines().is_empty());
    for engine in compose.engines() {
        let mode = docker(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", &engine]).await;
        assert!(mode.starts_with("container:"), "{mode}");
    }
    // As docs/vpn.md says: what compose has made is gone, engines are left.
    compose.down(&[]);
    assert!(!compose.engines().is_empty());
    let left = docker(&["ps", "--all", "--quiet", "--filter", &format!("name={}", names[0])]).await;
    assert_eq!(left, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_single_vpn_mode_works_as_printed() {
    guides_mode("docker-compose.gluetun.yml", 1, ["22720-22739", "22740-22759"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_redundant_vpn_mode_works_as_printed() {
    guides_mode("docker-compose.gluetun-redundant.yml", 2, ["22760-22779", "22780-22799"]).await;
}
