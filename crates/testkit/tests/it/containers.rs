//! The fleet on a real Docker daemon: what an operator and a crash do to it. Needs a daemon and `scripts/sim-image`.

mod left_behind;

use std::time::Duration;

use acemux_testkit::compose::Compose;
use acemux_testkit::docker::{BROKEN, FAST, Program, docker};
use acemux_testkit::http::get_from;
use acemux_testkit::{StrictViewer, get};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::visits::{Stayers, visit};
use crate::{ID, home, id, stream};

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_engines_is_ready_soon_and_a_stream_plays_on_one_of_them() {
    let program = Program::start("minimum", "22000-22019", &[]).await;
    let engines = program.until_healthy(2).await;
    let mut viewer = StrictViewer::open(program.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let sessions = program.page("/proxy/status").await;
    let container = sessions["sessions"][0]["container_id"].as_str().unwrap().to_owned();
    assert!(engines.contains(&container), "{sessions}");
    assert_confined(&container).await;
    // The guide's questions, as it prints them.
    let stats = program.page("/engines/stats/all").await;
    assert!(stats[&container]["memory_usage"].as_u64() > Some(0), "{stats}");
    assert_eq!(program.page("/orchestrator/status").await["status"], "healthy");
    let plan = program.page("/api/v1/plan").await;
    assert!(plan["plan"]["because"].as_str().unwrap().contains("in use"), "{plan}");
}

/// What Docker says of a container that we created: no right that it does not need.
async fn assert_confined(container: &str) {
    let inspected = docker(&["inspect", "--format", "{{json .HostConfig}}", container]).await;
    let host: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(host["CapDrop"], json!(["ALL"]), "{host}");
    assert!(host["CapAdd"].is_null() && host["Binds"].is_null() && host["Privileged"] == false, "{host}");
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]), "{host}");
    assert_eq!((host["PidsLimit"].as_i64(), host["OomScoreAdj"].as_i64()), (Some(512), Some(500)), "{host}");
    assert_eq!((host["AutoRemove"].as_bool(), host["Init"].as_bool()), (Some(false), Some(true)), "{host}");
    assert_eq!(host["RestartPolicy"]["Name"], "no", "{host}");
    assert_eq!(
        host["LogConfig"]["Config"],
        serde_json::json!({ "max-size": "10m", "max-file": "2" }),
        "{host}"
    );
    let ports = host["PortBindings"].as_object().expect("ports");
    assert!(ports.values().filter_map(Value::as_array).flatten().all(|port| port["HostIp"] == "127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_somebody_ends_by_hand_is_missed_within_five_seconds_and_replaced() {
    let program = Program::start("byhand", "22020-22039", &[]).await;
    for by_hand in [&["kill"][..], &["stop", "--time", "1"], &["pause"], &["rm", "--force"]] {
        let before = program.until_healthy(2).await;
        let victim = before[0].clone();
        docker(&[by_hand, &[victim.as_str()]].concat()).await;
        let took = program
            .until_it("misses it", async |program: &Program| {
                let plan = program.page("/api/v1/plan").await;
                let containers = plan["containers"].as_array().unwrap();
                let is_well = |one: &Value| one["id"] == victim.as_str() && one["standing"] == "ready";
                !containers.iter().any(is_well)
            })
            .await;
        assert!(took < Duration::from_secs(5), "docker {by_hand:?} was noticed after {took:?}");
        program
            .until_it("replaces it", async |program: &Program| {
                let healthy = program.healthy().await;
                healthy.len() == 2
                    && !healthy.contains(&victim)
                    && !program.containers().await.contains(&victim)
            })
            .await;
        // Which of them depends on whether Docker was looked at between the end of the process and the removal.
        let told = program.told_of(&victim).await;
        let says_why = |category: &String| ["ended", "vanished", "cordoned"].contains(&category.as_str());
        assert!(told.iter().any(says_why), "docker {by_hand:?} is told as {told:?}: {}", program.log());
    }
    assert!(program.events("ended").await.iter().any(|message| message.contains("exit code")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_somebody_renames_goes_on() {
    let program = Program::start("renamed", "22040-22059", &[]).await;
    let before = program.until_healthy(2).await;
    let name = format!("somebody-{}", program.instance);
    docker(&["rename", &before[0], &name]).await;
    program
        .until_it("notices the name", async |program: &Program| !program.events("renamed").await.is_empty())
        .await;
    assert_eq!(program.healthy().await, before);
    let engines = program.page("/engines").await;
    assert!(
        engines.as_array().unwrap().iter().any(|one| one["container_name"] == name.as_str()),
        "{engines}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_same_engines_are_used_and_what_was_left_open_on_them_is_ended() {
    let settings = [("MIN_REPLICAS", "4"), ("MIN_FREE_REPLICAS", "0"), ("MAX_REPLICAS", "4")];
    let mut program = Program::start("crash", "22060-22079", &settings).await;
    let engines = program.until_healthy(4).await;
    let foreign = foreign(&program.instance).await;
    let mut viewers = Vec::new();
    for n in 0..10 {
        viewers.push(StrictViewer::open(program.address, &id(n + 1)).await);
    }
    for viewer in &mut viewers {
        viewer.watch(Duration::from_millis(200)).await;
    }
    assert_eq!(open_sessions(&program, &engines).await, 10);

    program.kill().await;
    drop(viewers);
    let began = Instant::now();
    program.start_again().await;
    program.ready().await;
    let ready = began.elapsed();
    assert!(ready < Duration::from_secs(3), "ready after {ready:?}");
    assert_eq!(program.until_healthy(4).await, engines, "the same containers");
    while open_sessions(&program, &engines).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(15), "sessions are left open");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(program.containers().await.len(), 4);
    for name in &foreign.0 {
        let state = docker(&["inspect", "--format", "{{.State.Status}}", name]).await;
        assert_eq!(state, "running", "{name} is not ours");
    }
    program
        .until_it("reports the other's engines", async |program: &Program| {
            let strangers = program.page("/api/v1/plan").await["strangers"].to_string();
            strangers.contains("INSTANCE_ID=somebody-else")
        })
        .await;
}

async fn open_sessions(program: &Program, engines: &[String]) -> u64 {
    let mut open = 0;
    for engine in engines {
        open += program.open_sessions(engine).await;
    }
    open
}

/// A container with a name like an engine's, and an engine of another instance.
async fn foreign(instance: &str) -> Foreign {
    let (similar, other) = (format!("acestream-1x-{instance}"), format!("other-{instance}"));
    docker(&["run", "--detach", "--name", &similar, FAST]).await;
    let labels = ["--label", "io.acemux.role=engine", "--label", "io.acemux.instance=somebody-else"];
    docker(&[&["run", "--detach", "--name", other.as_str()][..], &labels, &[FAST]].concat()).await;
    Foreign([similar, other])
}

/// Containers that are not the program's. Dropping it removes them.
struct Foreign([String; 2]);

impl Drop for Foreign {
    fn drop(&mut self) {
        // What is left over disturbs nobody.
        let _removed = std::process::Command::new("docker").args(["rm", "-f"]).args(&self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_every_state_are_reaped_and_what_runs_is_adopted() {
    let mut program = Program::start("leftovers", "22080-22099", &[]).await;
    let engines = program.until_healthy(2).await;
    program.kill().await;
    docker(&["kill", &engines[0]]).await;
    let label = |text: &str| format!("--label={text}");
    let instance = label(&format!("io.acemux.instance={}", program.instance));
    let created = docker(&["create", &instance, &label("io.acemux.role=engine"), FAST]).await;
    program.start_again().await;
    program
        .until_it("tidies up", async |program: &Program| {
            let containers = program.containers().await;
            !containers.contains(&created) && !containers.contains(&engines[0]) && containers.len() == 2
        })
        .await;
    assert!(program.until_healthy(2).await.contains(&engines[1]), "the one that ran is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_on_one_cold_channel_creates_one_engine_and_one_playback() {
    let settings = [("MIN_REPLICAS", "0"), ("MIN_FREE_REPLICAS", "0"), ("MAX_VIEWERS_PER_IP", "600")];
    let program = Program::start("herd", "22100-22119", &settings).await;
    let began = Instant::now();
    let herd = (0..500).map(|_| async {
        let mut reply = get(program.address, &stream(ID)).await;
        assert_eq!(reply.status, 200);
        reply.next().await.expect("media").len()
    });
    let first: Vec<usize> = futures_util::future::join_all(herd).await;
    println!("500 viewers of a cold channel have media after {:?}", began.elapsed());
    assert!(first.iter().all(|bytes| *bytes > 0));
    let containers = program.containers().await;
    assert_eq!(containers.len(), 1);
    assert_eq!(program.events("created").await.len(), 1);
    assert_eq!(program.open_sessions(&containers[0]).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_channels_ten_play_and_the_rest_are_told_why_not() {
    let settings = [
        ("MIN_REPLICAS", "0"),
        ("MIN_FREE_REPLICAS", "0"),
        ("MAX_REPLICAS", "5"),
        ("MAX_STREAMS_PER_ENGINE", "2"),
        ("MIN_PROVISION_INTERVAL_S", "100ms"),
    ];
    let program = Program::start("sixty", "22120-22139", &settings).await;
    let all = (0..60).map(|n| {
        let address = program.address;
        async move { get_from(home(n), address, &stream(&id(n + 1))).await }
    });
    let mut replies = futures_util::future::join_all(all).await;
    let playing = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(playing, 10);
    for refused in replies.iter_mut().filter(|reply| reply.status != 200) {
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        let problem = refused.json().await;
        assert_eq!(problem["code"], "no_engine");
        assert!(problem["detail"].as_str().unwrap().contains("MAX_REPLICAS"), "{problem}");
    }
    assert_eq!(program.containers().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_zaps_where_no_further_engine_may_be_created_always_has_the_slot_that_he_leaves() {
    let settings = [("MIN_REPLICAS", "1"), ("MIN_FREE_REPLICAS", "0"), ("MAX_REPLICAS", "1")];
    let program = Program::start("zapping", "22320-22339", &settings).await;
    program.until_healthy(1).await;
    let mut stayers = Stayers::on(program.address, 2).await;
    let zapping = async {
        let mut visits = Vec::new();
        for n in 0..8 {
            visits.push(visit(home(7), program.address, &id(900 + n), Duration::from_millis(300)).await);
        }
        visits
    };
    let visits = stayers.beside(zapping).await;
    println!("{visits:?}");
    assert!(visits.iter().all(|visit| visit.status == 200), "{visits:?}");
    assert!(visits.iter().all(|visit| visit.first_byte < Duration::from_secs(1)), "{visits:?}");
    assert_eq!((program.containers().await.len(), program.events("created").await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_ends_at_once_is_tried_ever_more_slowly_and_the_page_says_how_it_ended() {
    let settings = [("ENGINE_IMAGE", BROKEN), ("MIN_REPLICAS", "1"), ("MIN_FREE_REPLICAS", "0")];
    let program = Program::start("broken", "22140-22159", &settings).await;
    sleep(Duration::from_secs(20)).await;
    let tried = program.events("created").await.len();
    assert!((2..=6).contains(&tried), "{tried} tries in 20 s");
    // Any moment may be the one of a try; between two of them it waits and says so.
    program
        .until_it("waits before the next try", async |program: &Program| {
            let plan = program.page("/api/v1/plan").await;
            plan["waits"].as_array().is_some_and(|waits| !waits.is_empty())
        })
        .await;
    let plan = program.page("/api/v1/plan").await;
    assert!(plan["failures"][0]["why"].as_str().unwrap().contains("exit code 3"), "{plan}");
    let mut refused = get(program.address, &stream(ID)).await;
    assert_eq!(refused.status, 503);
    let problem = refused.json().await;
    assert_eq!(problem["code"], "no_engine");
    assert!(program.containers().await.len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_image_a_viewer_is_told_so() {
    let settings = [
        ("ENGINE_IMAGE", "127.0.0.1:1/nobody/nothing:none"),
        ("MIN_REPLICAS", "1"),
        ("MIN_FREE_REPLICAS", "0"),
    ];
    let program = Program::start("noimage", "22160-22179", &settings).await;
    program
        .until_it("knows", async |program: &Program| {
            let plan = program.page("/api/v1/plan").await;
            plan["waits"].to_string().contains("image")
        })
        .await;
    let mut refused = get(program.address, &stream(ID)).await;
    let problem = refused.json().await;
    assert_eq!((refused.status, problem["code"].as_str()), (503, Some("image_unavailable")), "{problem}");
    assert!(program.containers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_range_that_others_use_up_is_named_and_freed_ports_are_used() {
    let taken: Vec<_> =
        (22_180..22_184).map(|port| std::net::TcpListener::bind(("0.0.0.0", port)).unwrap()).collect();
    let settings = [("MIN_REPLICAS", "1"), ("MIN_FREE_REPLICAS", "0")];
    let program = Program::start("noports", "22180-22183", &settings).await;
    program
        .until_it("knows", async |program: &Program| {
            program.page("/api/v1/plan").await["waits"].to_string().contains("PORT_RANGE_HOST")
        })
        .await;
    let mut refused = get(program.address, &stream(ID)).await;
    assert_eq!(refused.json().await["code"], "no_ports");
    assert!(program.events("creating").await.is_empty(), "nothing was tried in vain");
    drop(taken);
    program.until_healthy(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_on_one_daemon_leave_each_other_alone() {
    let one = Program::start("one", "22200-22219", &[]).await;
    let two = Program::start("two", "22220-22239", &[]).await;
    let (ones, twos) = (one.until_healthy(2).await, two.until_healthy(2).await);
    assert!(ones.iter().all(|engine| !twos.contains(engine)));
    let deleted = one_deletes(&one, &twos[0]).await;
    assert_eq!(deleted, 404, "the other's engine is unknown here");
    let zeros = "0".repeat(64);
    for odd in [&ones[0][..11], &ones[0][..12], &ones[0][..63], "acestream-1", ".*", "..%2fx", "%00", &zeros]
    {
        assert_eq!(one_deletes(&one, odd).await, 404, "only a full id of our own names an engine: {odd}");
    }
    assert_eq!(one_deletes(&one, &ones[0]).await, 200);
    assert_eq!(one_deletes(&one, &ones[0]).await, 404, "it is gone");
    assert_eq!(two.healthy().await, twos);
    one.until_healthy(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_does_not_notice_that_its_engine_is_replaced() {
    let settings = [("MIN_REPLICAS", "1"), ("MIN_FREE_REPLICAS", "0")];
    let program = Program::start("replace", "22280-22299", &settings).await;
    let old = program.until_healthy(1).await.remove(0);
    let mut viewer = StrictViewer::open(program.address, &id(1)).await;
    viewer.watch(Duration::from_millis(500)).await;
    let mut document = program.page("/custom-variant/config").await;
    document["enabled"] = json!(true);
    document["memory_limit"] = json!("128m");
    assert_eq!(post(&program, "/custom-variant/config", &document.to_string()).await, 200);
    assert_eq!(post(&program, "/custom-variant/reprovision", "").await, 200);
    let began = Instant::now();
    while program.containers().await.contains(&old) {
        assert!(began.elapsed() < Duration::from_mins(1), "the old one is still there:\n{}", program.log());
        assert!(viewer.watch(Duration::from_secs(1)).await.is_none(), "its socket stays open");
    }
    assert!(viewer.watch(Duration::from_secs(2)).await.is_none(), "its socket stays open");
    viewer.assert_perfect();
    assert_eq!(viewer.report().discontinuities, 0);
    assert!(viewer.longest_gap() < Duration::from_secs(2), "{:?}", viewer.longest_gap());
}

async fn post(program: &Program, path: &str, body: &str) -> u16 {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut reply = acemux_testkit::send(program.address, &request).await;
    println!("{path}: {}", reply.json().await);
    reply.status
}

async fn one_deletes(program: &Program, engine: &str) -> u16 {
    let request =
        format!("DELETE /containers/{engine} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    acemux_testkit::send(program.address, &request).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_up_and_down_ends_where_it_was_asked_to() {
    let settings = [("MIN_REPLICAS", "1"), ("ENGINE_GRACE_PERIOD_S", "1s")];
    let program = Program::start("scale", "22240-22259", &settings).await;
    program.until_healthy(1).await;
    let scale = async |path: &str| {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        acemux_testkit::send(program.address, &request).await
    };
    assert_eq!(scale("/scale/3").await.json().await["scaled_to"], 3);
    program.until_healthy(3).await;
    assert_eq!(scale("/scale/100").await.json().await["scaled_to"], 6, "MAX_REPLICAS");
    for wrong in ["-1", "abc", "12abc", "1.5", ""] {
        assert!(matches!(scale(&format!("/scale/{wrong}")).await.status, 400 | 404), "{wrong}");
    }
    let provisioned = scale("/provision/acestream").await.json().await;
    assert!(provisioned["container_id"].is_string(), "{provisioned}");
}

/// Status and sentence of the answer to a request for one more engine.
async fn asks_for_an_engine(program: &Program, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "POST /provision/acestream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let mut reply = acemux_testkit::send(program.address, &request).await;
    let page = reply.json().await;
    (reply.status, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_an_engine_reaches_no_port_no_program_and_no_label_of_others() {
    let settings = [("MIN_REPLICAS", "0"), ("MIN_FREE_REPLICAS", "0")];
    let program = Program::start("door", "22260-22279", &settings).await;
    for (body, said) in [
        (r#"{"host_port": 22}"#, "host_port accepts a port of PORT_RANGE_HOST, which is 22260-22279"),
        (r#"{"host_port": 80}"#, "22260-22279"),
        (r#"{"host_port": 8000}"#, "22260-22279"),
        (r#"{"host_port": 22280}"#, "22260-22279"),
        (r#"{"env": {"PATH": "/tmp"}}"#, "env accepts TZ, CACHE_LIMIT"),
        (r#"{"env": {"http_proxy": "http://evil.example"}}"#, "env accepts"),
        (r#"{"env": {"BASH_ENV": "/tmp/x"}}"#, "env accepts"),
        (r#"{"env": {"GLIBC_TUNABLES": "glibc.malloc.check=3"}}"#, "env accepts"),
        (r#"{"env": {"LD_PRELOAD": "/tmp/x.so"}}"#, "env accepts"),
        (r#"{"env": {"CONF": "--http-port=80"}}"#, "env: CONF is chosen by the fleet"),
        (r#"{"env": {"CACHE_LIMIT": "1; id"}}"#, "env: CACHE_LIMIT accepts a whole number"),
        (r#"{"labels": {"traefik.enable": "true"}}"#, "labels accepts stream_id and io.acemux.user.<name>"),
        (r#"{"labels": {"com.docker.compose.project": "x"}}"#, "labels accepts stream_id"),
        (r#"{"labels": {"io.acemux.instance": "x"}}"#, "labels accepts stream_id"),
        (r#"{"labels": {"stream_id": "a\nb"}}"#, "labels accepts stream_id"),
        (r#"{"image": "evil/image"}"#, "image accepts only the one that engines are made from"),
        (r#"{"host_port": 70000}"#, "labels, env, host_port and image are accepted"),
        (r#"{"privileged": true}"#, "labels, env, host_port and image are accepted"),
    ] {
        let (status, page) = asks_for_an_engine(&program, body).await;
        assert_eq!((status, page["code"].as_str()), (400, Some("invalid_body")), "{body}: {page}");
        assert!(page["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{body}: {page}");
    }
    let engines =
        docker(&["ps", "-aq", "--filter", &format!("label=io.acemux.instance={}", program.instance)]).await;
    assert_eq!(engines, "", "nothing was created");

    let body = json!({
        "host_port": 22_270,
        "image": FAST,
        "labels": { "stream_id": "ch-42", "io.acemux.user.room": "blue" },
        "env": { "CACHE_LIMIT": "2", "TZ": "Europe/Madrid" },
    });
    let (status, page) = asks_for_an_engine(&program, &body.to_string()).await;
    assert_eq!((status, page["host_http_port"].as_u64()), (200, Some(22_270)), "{page}");
    let id = page["container_id"].as_str().unwrap();
    let template = "{{index .Config.Labels \"stream_id\"}} {{index .Config.Labels \"io.acemux.user.room\"}} {{.Config.Env}}";
    let made = docker(&["inspect", "--format", template, id]).await;
    assert!(made.starts_with("ch-42 blue ") && made.contains("TZ=Europe/Madrid"), "{made}");
    assert!(made.contains("CACHE_LIMIT=2") && !made.contains("CACHE_LIMIT=1"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_standalone_mode_works_as_printed() {
    let compose =
        Compose::up("docker-compose.yml", &[("ENGINE_IMAGE", FAST), ("PORT_RANGE_HOST", "22300-22319")])
            .await;
    let mut viewer = StrictViewer::open(compose.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let engines = get(compose.address, "/engines").await.json().await;
    let host = engines[0]["host"].as_str().unwrap().to_owned();
    assert!(host.starts_with("acestream-"), "engines are reached by name: {engines}");
    // Only its own: other tests publish their engines meanwhile.
    let instance = format!("label=io.acemux.instance={}", compose.instance);
    let own = ["--filter", "label=io.acemux.role=engine", "--filter", &instance];
    let published = docker(&[&["ps", "--format", "{{.ID}} {{.Ports}}"], &own[..]].concat()).await;
    assert!(!published.is_empty(), "its engines are seen at all");
    assert!(!published.contains("->"), "and are not published: {published}");
    // The printed key is no key.
    let request = "POST /scale/3 HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: your-secure-key\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(acemux_testkit::send(compose.address, request).await.status, 401);
    // As docs/deployment.md says.
    compose.leave_nothing_behind();
}
