//! The whole program on a fake Docker daemon that lies, hangs and dies, with simulated engines in its containers.

mod at_hand;

use std::time::Duration;

use acemux_testkit::docker::{FAST, Program};
use acemux_testkit::dockerd::{Call, FakeDockerd, Fault};
use acemux_testkit::{StrictViewer, get, send};
use tokio::time::{Instant, sleep};

use crate::ID;

async fn start(name: &str, ports: &str, settings: &[(&str, &str)]) -> (FakeDockerd, Program) {
    let daemon = FakeDockerd::start(&[FAST], true);
    let host = daemon.host.clone();
    let settings: Vec<_> =
        [("DOCKER_HOST", host.as_str())].into_iter().chain(settings.iter().copied()).collect();
    let program = Program::start(name, ports, &settings).await;
    (daemon, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_empty_for_once_costs_no_engine_and_no_stream() {
    let (daemon, program) = start("lie", "24000-24019", &[("MONITOR_INTERVAL_S", "1s")]).await;
    let engines = program.until_healthy(2).await;
    let mut viewer = StrictViewer::open(program.address, ID).await;
    daemon.fault(Call::List, Fault::Empty, 2);
    viewer.watch(Duration::from_secs(5)).await;
    viewer.assert_perfect();
    assert_eq!(program.healthy().await, engines);
    assert_eq!(daemon.calls(Call::Remove), 0);
    assert_eq!(daemon.calls(Call::Create), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_docker_is_down_streams_play_pages_answer_and_nothing_is_created_at_its_return() {
    let (daemon, program) = start("down", "24020-24039", &[("MONITOR_INTERVAL_S", "1s")]).await;
    let engines = program.until_healthy(2).await;
    let mut viewer = StrictViewer::open(program.address, ID).await;
    for fault in [Fault::Status(500, "broken"), Fault::NoJson, Fault::Cut] {
        daemon.fault(Call::List, fault, usize::MAX);
        viewer.watch(Duration::from_secs(3)).await;
        let asked = Instant::now();
        let status = program.page("/orchestrator/status").await;
        assert!(asked.elapsed() < Duration::from_millis(200), "{:?}", asked.elapsed());
        assert_eq!(status["docker"]["state"], "down", "{status}");
        daemon.heal();
        program
            .until_it("sees Docker again", async |program: &Program| {
                program.page("/orchestrator/status").await["docker"]["state"] == "up"
            })
            .await;
    }
    viewer.assert_perfect();
    assert_eq!(program.healthy().await, engines);
    assert_eq!((daemon.calls(Call::Create), daemon.calls(Call::Remove)), (2, 0));
    assert!(!program.events("docker_down").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_costs_one_list_a_second() {
    let (daemon, program) = start("flood", "24040-24059", &[]).await;
    program.until_healthy(2).await;
    let (lists, cpu) = (daemon.calls(Call::List), program.cpu());
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        daemon.cry_wolf(1_000);
        sleep(Duration::from_millis(100)).await;
    }
    let (lists, cpu) = (daemon.calls(Call::List) - lists, program.cpu().saturating_sub(cpu));
    assert!(lists <= 7, "{lists} lists in 5 s");
    assert!(cpu < Duration::from_secs(1), "{cpu:?} of 5 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_end_no_event_told_is_found_by_the_regular_pass() {
    let (daemon, program) = start("silent", "24060-24079", &[("MONITOR_INTERVAL_S", "1s")]).await;
    let engines = program.until_healthy(2).await;
    daemon.fault(Call::Events, Fault::Status(500, "no events"), usize::MAX);
    daemon.by_hand(&engines[0], "exited");
    program
        .until_it("replaces it", async |program: &Program| {
            let healthy = program.healthy().await;
            healthy.len() == 2 && !healthy.contains(&engines[0])
        })
        .await;
    assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_older_than_a_removal_does_not_bring_the_engine_back() {
    let (daemon, program) = start("older", "24300-24319", &[("MONITOR_INTERVAL_S", "1s")]).await;
    let engines = program.until_healthy(2).await;
    daemon.fault(Call::List, Fault::Late(Duration::from_millis(800)), usize::MAX);
    let request =
        format!("DELETE /containers/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", engines[0]);
    sleep(Duration::from_millis(1_300)).await;
    assert_eq!(send(program.address, &request).await.status, 200);
    program
        .until_it("replaces it", async |program: &Program| {
            let healthy = program.healthy().await;
            healthy.len() == 2 && !healthy.contains(&engines[0])
        })
        .await;
    sleep(Duration::from_secs(3)).await;
    assert!(program.events("vanished").await.is_empty(), "{}", program.log());
    assert!(program.events("adopted").await.is_empty(), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_container_is_never_touched_even_with_our_names() {
    let (daemon, program) =
        start("foreign", "24080-24099", &[("MIN_REPLICAS", "0"), ("MIN_FREE_REPLICAS", "0")]).await;
    let labels =
        [("orchestrator.managed", "acestream"), ("io.acemux.role", "engine"), ("io.acemux.instance", "else")];
    let foreign = daemon.add_foreign("acestream-1", &labels);
    let mut viewer = StrictViewer::open(program.address, ID).await;
    viewer.watch(Duration::from_secs(1)).await;
    let containers = daemon.containers();
    assert!(containers.contains(&(foreign.clone(), "acestream-1".to_owned(), "running")), "{containers:?}");
    assert!(containers.iter().any(|(id, name, _)| *id != foreign && name == "acestream-2"), "{containers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_are_not_tried() {
    let daemon = FakeDockerd::start(&[FAST], true);
    for number in 1..=20 {
        daemon.add_foreign(&format!("acestream-{number}"), &[]);
    }
    let host = daemon.host.clone();
    let program = Program::start("names", "24320-24339", &[("DOCKER_HOST", &host)]).await;
    program.until_healthy(2).await;
    assert_eq!(daemon.calls(Call::Create), 2);
    let names = daemon.containers().into_iter().map(|(_, name, _)| name);
    assert_eq!(names.filter(|name| name == "acestream-21" || name == "acestream-22").count(), 2);
}

/// The fake daemon says of every container that it was created years ago.
#[tokio::test(flavor = "multi_thread")]
async fn an_engines_age_is_not_what_the_daemons_clock_says() {
    let (daemon, program) = start("clock", "24340-24359", &[("ENGINE_MAX_AGE", "1h")]).await;
    let engines = program.until_healthy(2).await;
    sleep(Duration::from_secs(8)).await;
    assert_eq!(program.healthy().await, engines);
    assert_eq!((daemon.calls(Call::Create), daemon.calls(Call::Remove)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_scale_has_asked_for_survives_a_restart_until_the_minimum_is_changed() {
    let (_daemon, mut program) = start("scale", "24360-24379", &[("ENGINE_GRACE_PERIOD_S", "0")]).await;
    program.until_healthy(2).await;
    assert_eq!(program.post("/scale/4").await, 200);
    program.until_healthy(4).await;
    program.kill().await;
    program.start_again().await;
    program.until_healthy(4).await;
    let plan = program.page("/api/v1/plan").await;
    assert_eq!((plan["min"].as_u64(), plan["min_replicas"].as_u64()), (Some(4), Some(2)), "{plan}");
    // Whoever writes another minimum means it.
    program.kill().await;
    program.set("MIN_REPLICAS", "3");
    program.start_again().await;
    program
        .until_it("knows its bounds", async |program: &Program| {
            program.page("/api/v1/plan").await["min"].as_u64() == Some(3)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_with_the_same_instance_id_is_noticed_and_said() {
    let (daemon, program) = start("rival", "24380-24399", &[]).await;
    program.until_healthy(2).await;
    let settings = [("DOCKER_HOST", daemon.host.as_str()), ("INSTANCE_ID", program.instance.as_str())];
    let second = Program::start("rival2", "24400-24419", &settings).await;
    second.until_healthy(2).await;
    // A restart may overlap for half a minute. Neither creates anything meanwhile.
    let says_so = async |one: &Program| {
        one.page("/orchestrator/status").await["warnings"].to_string().contains(&program.instance)
    };
    for one in [&program, &second] {
        one.until_it("notices", says_so).await;
        assert_eq!(one.page("/orchestrator/status").await["status"], "degraded");
        assert_eq!(one.events("shared_instance").await.len(), 1, "{}", one.log());
    }
    drop(second);
    let is_silent = async |one: &Program| !says_so(one).await;
    program.until_it("notices that it has gone", is_silent).await;
    assert_eq!(program.page("/orchestrator/status").await["status"], "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_engines_cost_a_fiftieth_of_a_core_and_their_page_is_there_at_once() {
    let settings = [
        ("MIN_REPLICAS", "100"),
        ("MAX_REPLICAS", "100"),
        ("MIN_PROVISION_INTERVAL_S", "0"),
        ("MAX_CONCURRENT_PROVISIONS", "4"),
    ];
    let (_daemon, program) = start("hundred", "24100-24299", &settings).await;
    program.until_healthy(100).await;
    sleep(Duration::from_secs(2)).await;
    let (cpu, began) = (program.cpu(), Instant::now());
    sleep(Duration::from_secs(15)).await;
    let share = program.cpu().saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let mut pages: Vec<Duration> = Vec::new();
    for _ in 0..20 {
        let asked = Instant::now();
        get(program.address, "/engines").await.json().await;
        pages.push(asked.elapsed());
    }
    pages.sort();
    println!("100 engines: {:.2} % of one core, /engines in {:?} (median of 20)", share * 100.0, pages[10]);
    assert!(share < 0.02, "{:.2} % of one core", share * 100.0);
    // The reader parses 100 engines in a debug build within the same time.
    assert!(pages[10] < Duration::from_millis(20), "{:?}", pages[10]);
}
