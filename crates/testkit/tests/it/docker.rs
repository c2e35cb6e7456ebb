//! What the fleet may expect of a provisioner: one suite over the fake daemon and over the real one, and the faults that
//! only the fake one has.
#![expect(clippy::unwrap_used, reason = "the suite's functions are the bodies of tests")]

use std::time::Duration;

use acemux_fleet::allowed::{Extra, HostPorts};
use acemux_fleet::docker::{Docker, DockerOptions};
use acemux_fleet::ident::ContainerId;
use acemux_fleet::profile::{ArmTags, Profile, Variant};
use acemux_fleet::provisioner::{ContainerState, ProvisionError, Provisioner};
use acemux_fleet::recipe::{EnginePorts, Reach, Recipe};
use acemux_fleet::spec::{EngineSpec, Limits, Network};
use acemux_testkit::app::until;
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::{Call, FakeDockerd, Fault};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};

fn client(host: Option<String>, instance: &str) -> Docker {
    Docker::new(DockerOptions { host, instance: instance.parse().unwrap() }).unwrap()
}

fn spec(instance: &str, place: usize, port: u16) -> EngineSpec {
    let recipe = Recipe {
        profile: Profile::of(Variant::Krinkuto11Amd64, &ArmTags::default()),
        image: Some(FAST.parse().unwrap()),
        limits: Limits::default(),
        read_only: true,
        network: Network::Named { name: "acemux".parse().unwrap(), own: true },
        behind_vpn: false,
        reach: Reach::Published,
        map_https: false,
        label: "orchestrator.managed=acestream".parse().unwrap(),
        instance: instance.parse().unwrap(),
    };
    let allowed = |port: u16| HostPorts::new(port..=port).port(port).unwrap();
    let ports = EnginePorts { http: allowed(port), https: allowed(port + 1000), p2p: None, shared: None };
    recipe.spec(place, &format!("{instance}-{place}"), ports, &Extra::default())
}

fn instance(name: &str) -> String {
    format!("contract-{name}-{}", std::process::id())
}

/// Removes everything of the instances when the test ends, however it ends.
struct Clean(Vec<Docker>);

impl Clean {
    async fn all(&self) {
        for docker in &self.0 {
            for container in docker.list().await.unwrap_or_default() {
                // What is left over has an instance of its own and disturbs nobody.
                let _removed = docker.remove(&container.id).await;
            }
        }
    }
}

/// From creation to removal, twice.
async fn lives_and_goes(docker: &Docker, instance: &str, port: u16) {
    let id = docker.create(&spec(instance, 1, port)).await.unwrap();
    let listed = docker.list().await.unwrap();
    assert_eq!((listed.len(), &listed[0].id, listed[0].state), (1, &id, ContainerState::Running));
    assert_eq!(listed[0].labels["io.acemux.place"], "1");
    assert_eq!(docker.inspect(&id).await.unwrap().map(|found| found.name), Some(format!("{instance}-1")));
    docker.remove(&id).await.unwrap();
    assert!(docker.list().await.unwrap().is_empty());
    docker.remove(&id).await.expect("gone is what was wanted");
    assert_eq!(docker.inspect(&id).await.unwrap(), None);
}

/// Containers of others, however alike.
async fn leaves_others_alone(ours: &Docker, theirs: &Docker, names: [&str; 2], port: u16) {
    let id = theirs.create(&spec(names[1], 1, port)).await.unwrap();
    assert!(ours.list().await.unwrap().is_empty());
    assert_eq!(ours.inspect(&id).await.unwrap(), None);
    let neighbours = ours.neighbours().await.unwrap();
    assert!(neighbours.engines.iter().any(|container| container.id == id));
    assert_eq!(neighbours.names.contains(names[1]), names[1].starts_with("acestream-"), "{neighbours:?}");
    assert!(matches!(ours.remove(&id).await, Err(ProvisionError::NotOurs { .. })));
    assert!(matches!(ours.post_mortem(&id).await, Err(ProvisionError::NotOurs { .. })));
    assert_eq!(theirs.list().await.unwrap().len(), 1, "it is still there");
}

/// A name that another container has.
async fn a_taken_name_is_told(docker: &Docker, instance: &str, port: u16) {
    let id = docker.create(&spec(instance, 1, port)).await.unwrap();
    let other = spec(instance, 1, port + 1);
    let mut twin = spec(instance, 1, port);
    (twin.http_port, twin.publish) = (other.http_port, other.publish);
    let error = docker.create(&twin).await.unwrap_err();
    assert!(matches!(error, ProvisionError::NameTaken { .. }), "{error}");
    assert_eq!(docker.list().await.unwrap().len(), 1);
    docker.remove(&id).await.unwrap();
}

/// An image that is nowhere.
async fn a_missing_image_is_told(docker: &Docker, instance: &str, port: u16) {
    let image = "127.0.0.1:1/nobody/nothing:none".to_owned();
    let mut missing = spec(instance, 1, port);
    missing.image = image.parse().unwrap();
    let error = docker.create(&missing).await.unwrap_err();
    assert!(matches!(error, ProvisionError::ImageUnavailable { .. }), "{error}");
    assert!(docker.list().await.unwrap().is_empty());
}

/// A creation that nobody waits for any more.
async fn a_dropped_creation_leaves_nothing(docker: &Docker, instance: &str, port: u16) {
    let spec = spec(instance, 1, port);
    if let Ok(created) = timeout(Duration::from_millis(1), docker.create(&spec)).await {
        // It was faster.
        docker.remove(&created.unwrap()).await.unwrap();
    }
    let began = Instant::now();
    // It may not have begun, may be under way, or done: in the end there is nothing.
    let mut calm = 0;
    while calm < 5 {
        calm = if docker.list().await.unwrap().is_empty() { calm + 1 } else { 0 };
        assert!(began.elapsed() < Duration::from_secs(20), "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Changes wake whoever listens.
async fn changes_are_heard(docker: &Docker, instance: &str, port: u16) {
    let mut changes = docker.changes();
    let heard = async { changes.next().await };
    let create = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        docker.create(&spec(instance, 1, port)).await.unwrap()
    };
    let (heard, id) = tokio::join!(timeout(Duration::from_secs(20), heard), create);
    assert_eq!(heard.expect("in time"), Some(()));
    docker.remove(&id).await.unwrap();
}

mod fake {
    use super::*;

    fn daemon() -> FakeDockerd {
        FakeDockerd::start(&[FAST], false)
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        let daemon = daemon();
        let (ours, theirs) =
            (client(Some(daemon.host.clone()), "ours"), client(Some(daemon.host.clone()), "theirs"));
        lives_and_goes(&ours, "ours", 19_000).await;
        a_taken_name_is_told(&ours, "ours", 19_000).await;
        a_missing_image_is_told(&ours, "ours", 19_000).await;
        a_dropped_creation_leaves_nothing(&ours, "ours", 19_000).await;
        changes_are_heard(&ours, "ours", 19_000).await;
        leaves_others_alone(&ours, &theirs, ["ours", "theirs"], 19_000).await;
        assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
        assert!(daemon.bodies().iter().all(|body| body["HostConfig"]["AutoRemove"] == false));
    }

    #[tokio::test]
    async fn a_failed_list_is_an_error_and_never_empty() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        docker.create(&spec("ours", 1, 19_000)).await.unwrap();
        for fault in [Fault::Status(500, "broken"), Fault::Cut, Fault::NoJson] {
            daemon.fault(Call::List, fault.clone(), 1);
            assert!(docker.list().await.is_err(), "{fault:?}");
        }
        assert_eq!(docker.list().await.unwrap().len(), 1);
    }

    /// Seen on a daemon whose storage driver hung.
    #[tokio::test]
    async fn a_removal_that_comes_to_no_end_is_given_up_and_costs_the_daemon_little() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        let id = docker.create(&spec("ours", 1, 23_019)).await.unwrap();
        daemon.fault(Call::Remove, Fault::Status(409, "removal is already in progress"), usize::MAX);
        let looks = daemon.calls(Call::Inspect);
        let began = Instant::now();
        let error = docker.remove(&id).await.unwrap_err();
        assert!(error.is_still_removing(), "{error}");
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        let asked = daemon.calls(Call::Remove) + daemon.calls(Call::Inspect) - looks;
        assert!(asked <= 12, "{asked} requests");
    }

    #[tokio::test]
    async fn a_daemon_that_hangs_is_given_up_in_time() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        daemon.fault(Call::List, Fault::Hang, 1);
        let began = Instant::now();
        assert!(matches!(docker.list().await, Err(ProvisionError::Unreachable { .. })));
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_container_that_cannot_be_started_is_removed_again() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        for (message, is_port) in
            [("driver failed: port is already allocated", true), ("no such device", false)]
        {
            daemon.fault(Call::Start, Fault::Status(500, message), 1);
            let error = docker.create(&spec("ours", 1, 19_000)).await.unwrap_err();
            assert_eq!(matches!(error, ProvisionError::PortTaken { port: 19_000 }), is_port, "{error}");
            assert!(daemon.containers().is_empty());
        }
    }

    #[tokio::test]
    async fn a_removal_that_is_under_way_already_is_waited_for() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        let id = docker.create(&spec("ours", 1, 19_000)).await.unwrap();
        daemon.fault(Call::Remove, Fault::Status(409, "removal of container is already in progress"), 1);
        let looks = daemon.calls(Call::Inspect);
        // Whose it is, and then whether it is gone.
        let looked = || daemon.calls(Call::Remove) == 1 && daemon.calls(Call::Inspect) >= looks + 2;
        let ends = async {
            until("it is looked whether it is gone", looked).await;
            daemon.remove_by_hand(id.as_str());
        };
        let (removed, ()) = tokio::join!(docker.remove(&id), ends);
        removed.unwrap();
        assert!(daemon.containers().is_empty());
        assert_eq!(daemon.calls(Call::Remove), 1, "to ask again would be answered as before");
    }

    #[tokio::test]
    async fn both_ends_of_the_range_of_api_versions_are_spoken() {
        for (oldest, newest) in [("1.24", "1.41"), ("1.44", "1.52")] {
            let daemon = daemon();
            daemon.speaks(oldest, newest);
            let docker = client(Some(daemon.host.clone()), "ours");
            lives_and_goes(&docker, "ours", 19_000).await;
            assert_eq!(docker.daemon().await.unwrap().api_version, newest);
        }
    }

    #[tokio::test]
    async fn one_missing_image_is_one_pull_for_all_who_wait() {
        let daemon = FakeDockerd::start(&[], false);
        daemon.fault(Call::Pull, Fault::Slow(Duration::from_millis(300)), usize::MAX);
        let docker = client(Some(daemon.host.clone()), "ours");
        let specs: Vec<_> = (1..=5_u16).map(|n| spec("ours", usize::from(n), 19_000 + n)).collect();
        let all = futures_util::future::join_all(specs.iter().map(|spec| docker.create(spec))).await;
        assert!(all.iter().all(|result| matches!(result, Err(ProvisionError::ImageUnavailable { .. }))));
        assert_eq!(daemon.calls(Call::Pull), 1);
    }

    #[tokio::test]
    async fn a_slow_daemon_gets_four_calls_at_a_time() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        daemon.fault(Call::List, Fault::Slow(Duration::from_millis(50)), usize::MAX);
        let lists = (0..20).map(|_| docker.list());
        assert!(futures_util::future::join_all(lists).await.iter().all(Result::is_ok));
        assert_eq!(daemon.most_at_once(), 4);
    }

    /// As when the VPN of a whole fleet is restarted: all its engines go at once, and none of them ends at a SIGTERM.
    #[tokio::test]
    async fn engines_that_take_their_time_to_end_are_no_daemon_that_does_not_answer() {
        let daemon = daemon();
        let docker = client(Some(daemon.host.clone()), "ours");
        let specs: Vec<_> = (1..=8_u16).map(|n| spec("ours", usize::from(n), 19_000 + n)).collect();
        let created = futures_util::future::join_all(specs.iter().map(|spec| docker.create(spec))).await;
        let ids: Vec<ContainerId> = created.into_iter().map(Result::unwrap).collect();
        daemon.fault(Call::Stop, Fault::Slow(Duration::from_secs(6)), usize::MAX);
        let removals = futures_util::future::join_all(ids.iter().map(|id| docker.remove(id)));
        let replacement = spec("ours", 9, 19_009);
        let meanwhile = async {
            until("four of them end", || daemon.calls(Call::Stop) == 4).await;
            let created = docker.create(&replacement).await;
            let listed = docker.list().await;
            (created.is_ok(), listed.map(|all| all.len()), daemon.calls(Call::Stop))
        };
        let (removed, meanwhile) = tokio::join!(removals, meanwhile);
        assert_eq!(meanwhile, (true, Ok(9), 4), "both are answered while the first four end");
        assert!(removed.iter().all(Result::is_ok), "{removed:?}");
        assert_eq!(daemon.containers().len(), 1);
    }

    #[tokio::test]
    async fn a_daemon_that_comes_back_is_spoken_with_again() {
        let first = daemon();
        let docker = client(Some(first.host.clone()), "ours");
        docker.list().await.unwrap();
        first.fault(Call::List, Fault::Hang, 1);
        assert!(docker.list().await.is_err());
        assert!(docker.list().await.is_ok(), "after a silence it connects anew");
    }
}

mod real {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        let names = [instance("ours"), instance("theirs")];
        let (ours, theirs) = (client(None, &names[0]), client(None, &names[1]));
        let daemon = ours.daemon().await.expect("a Docker daemon answers: ./scripts/test starts one");
        println!("Docker {} by API {}", daemon.version, daemon.api_version);
        let clean = Clean(vec![ours.clone(), theirs.clone()]);
        lives_and_goes(&ours, &names[0], 23_000).await;
        a_taken_name_is_told(&ours, &names[0], 23_001).await;
        a_missing_image_is_told(&ours, &names[0], 23_003).await;
        a_dropped_creation_leaves_nothing(&ours, &names[0], 23_004).await;
        changes_are_heard(&ours, &names[0], 23_005).await;
        leaves_others_alone(&ours, &theirs, [&names[0], &names[1]], 23_006).await;
        clean.all().await;
    }

    /// Daemons before API 1.44 make two networks of one name then, and creations fail in both ever after.
    #[tokio::test(flavor = "multi_thread")]
    async fn several_that_begin_at_the_same_moment_share_one_network() {
        let names = [1, 2, 3, 4].map(|n| instance(&format!("network{n}")));
        let dockers = names.clone().map(|name| client(None, &name));
        let clean = Clean(dockers.to_vec());
        let network = instance("shared");
        // The docker command asks that there be no other; programs need not.
        let twin = || async {
            let body = format!(r#"{{"Name":"{network}","Labels":{{"io.acemux.role":"network"}}}}"#);
            let curl = ["--silent", "--fail", "--unix-socket", "/var/run/docker.sock", "--json", &body];
            let mut curl =
                tokio::process::Command::new("curl").args(curl).arg("http://docker/networks/create").spawn();
            assert!(curl.as_mut().expect("curl is installed").wait().await.unwrap().success());
        };
        for round in 0..3 {
            let specs = names.iter().zip(0..).map(|(name, n)| {
                let mut spec = spec(name, round + 1, 23_020 + 4 * u16::try_from(round).unwrap() + n);
                spec.network = Network::Named { name: network.parse().unwrap(), own: true };
                spec
            });
            // Two that are beside each other for a moment refuse; the fleet tries again, and so does this.
            let created = dockers.iter().zip(specs).map(|(docker, spec)| async move {
                let mut created = docker.create(&spec).await;
                for _ in 0..2 {
                    let Err(ProvisionError::Network { .. }) = created else { break };
                    created = docker.create(&spec).await;
                }
                created.map(drop)
            });
            for created in futures_util::future::join_all(created).await {
                created.unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
            if round == 1 {
                twin().await;
            }
        }
        let filter = format!("name={network}");
        let left = acemux_testkit::docker::docker(&["network", "ls", "--quiet", "--filter", &filter]).await;
        assert_eq!(left.lines().count(), 1, "{left}");
        clean.all().await;
        acemux_testkit::docker::docker(&["network", "rm", &network]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_that_is_taken_is_told_and_leaves_nothing() {
        let name = instance("port");
        let docker = client(None, &name);
        let clean = Clean(vec![docker.clone()]);
        let _taken = std::net::TcpListener::bind(("127.0.0.1", 23_010)).unwrap();
        let error = docker.create(&spec(&name, 1, 23_010)).await.unwrap_err();
        assert!(matches!(error, ProvisionError::PortTaken { port: 23_010 }), "{error}");
        assert!(docker.list().await.unwrap().is_empty());
        clean.all().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_ended_is_examined_and_what_is_paused_can_be_removed() {
        let name = instance("ended");
        let docker = client(None, &name);
        let clean = Clean(vec![docker.clone()]);
        let id = docker.create(&spec(&name, 1, 23_011)).await.unwrap();
        let by_hand = |what: &'static str, id: ContainerId| async move {
            acemux_testkit::docker::docker(&[what, id.as_str()]).await;
        };
        by_hand("pause", id.clone()).await;
        assert_eq!(docker.list().await.unwrap()[0].state, ContainerState::Paused);
        docker.remove(&id).await.unwrap();
        let id = docker.create(&spec(&name, 1, 23_012)).await.unwrap();
        by_hand("kill", id.clone()).await;
        let post_mortem = docker.post_mortem(&id).await.unwrap();
        assert_eq!((post_mortem.exit_code, post_mortem.out_of_memory), (Some(137), false));
        clean.all().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_engine_uses_is_told_about_once_a_second() {
        let name = instance("usage");
        let docker = client(None, &name);
        let clean = Clean(vec![docker.clone()]);
        let id = docker.create(&spec(&name, 1, 23_013)).await.unwrap();
        let usage: Vec<_> =
            timeout(Duration::from_secs(10), docker.usage(&id).take(2).collect()).await.unwrap();
        assert!(usage.iter().all(|usage| usage.memory > 0 && usage.memory_limit > usage.memory), "{usage:?}");
        clean.all().await;
    }
}
