//! What people run by hand beside the service or without it: `acemux doctor` and `acemux engines`, on a fake daemon.

use std::net::TcpListener;
use std::path::Path;

use acemux_sim::{GluetunOptions, SimGluetun};
use acemux_testkit::docker::{FAST, Said};
use acemux_testkit::dockerd::{Call, FakeDockerd, Fault};
use serde_json::Value;

use super::start;

/// The report of a doctor without a service.
async fn examined(folder: &Path, settings: &[(&str, &str)]) -> Said {
    Said::by(folder, &["doctor", "--json"], settings.iter().copied()).await
}

/// The verdict and the message of a check.
fn of<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().expect("checks");
    let found =
        checks.iter().find(|one| one["check"] == check).unwrap_or_else(|| panic!("{check}: {report}"));
    (found["verdict"].as_str().expect("a verdict"), found["message"].as_str().expect("a message"))
}

/// The messages of all faults.
fn faults(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("checks").iter();
    checks.filter(|one| one["verdict"] == "fault").filter_map(|one| one["message"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_nothing_wrong_beside_the_service_and_without_it() {
    let (daemon, mut program) = start("doctor", "24420-24439", &[]).await;
    program.until_healthy(2).await;
    let beside = program.command(&["doctor", "--json"]).await;
    let report = beside.json();
    assert_eq!((beside.code, faults(&report).len()), (Some(0), 0), "{report}");
    assert!(of(&report, "port").1.starts_with("acemux runs"), "{report}");
    assert!(of(&report, "docker").1.contains("20.10.24"), "{report}");
    assert_eq!(of(&report, "image"), ("ok", &*format!("{FAST} is here")));
    program.stop().await;
    let without = program.command(&["doctor"]).await;
    assert_eq!(without.code, Some(0), "{without:?}");
    assert!(without.out.contains("is free") && without.out.contains("0 fault(s)"), "{without:?}");
    assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
    assert_eq!(daemon.calls(Call::Remove), 0);
    program.start_again().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_with_docker_and_ends_with_1() {
    let daemon = FakeDockerd::start(&[FAST], false);
    let folder = tempfile::tempdir().expect("a folder");
    let usual = [("DOCKER_HOST", daemon.host.as_str()), ("APP_PORT", "0"), ("ENGINE_IMAGE", FAST)];
    let missing = format!("unix://{}/docker.sock", folder.path().display());
    let nobody = format!("unix://{}/silent.sock", folder.path().display());
    drop(std::os::unix::net::UnixListener::bind(nobody.trim_start_matches("unix://")).expect("a socket"));
    for (name, value, check, words) in [
        ("DOCKER_HOST", missing.as_str(), "docker", "no Docker socket"),
        ("DOCKER_HOST", nobody.as_str(), "docker", "does not run"),
        ("DOCKER_NETWORK", "nowhere", "network", "DOCKER_NETWORK=nowhere does not exist"),
        ("ENGINE_IMAGE", "nobody/engine:1", "image", "there is no image nobody/engine:1"),
        ("GLUETUN_CONTAINER_NAME", "gluetun", "vpn", "no container of this name"),
    ] {
        let settings = [&usual[..], &[(name, value)]].concat();
        let said = examined(folder.path(), &settings).await;
        let report = said.json();
        assert_eq!(of(&report, check).0, "fault", "{name}={value}: {report}");
        assert!(of(&report, check).1.contains(words), "{words}: {report}");
        assert_eq!((said.code, faults(&report).len()), (Some(1), 1), "{report}");
    }
    daemon.fault(Call::Version, Fault::NoJson, usize::MAX);
    let report = examined(folder.path(), &usual).await.json();
    assert_eq!(of(&report, "docker").0, "fault", "{report}");
    assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_a_control_server_that_answers_401_and_the_line_that_opens_it() {
    let daemon = FakeDockerd::start(&[FAST], false);
    let role = r#"{"auth":"apikey","apikey":"the-right-key"}"#.parse().expect("a role");
    let options = GluetunOptions { roles: vec![role], ..GluetunOptions::default() };
    let gluetun = SimGluetun::start(options).await.expect("free ports");
    daemon.add_vpn("gluetun", gluetun.addr().port());
    let folder = tempfile::tempdir().expect("a folder");
    let with_key = |key| {
        [
            ("DOCKER_HOST", daemon.host.as_str()),
            ("APP_PORT", "0"),
            ("ENGINE_IMAGE", FAST),
            ("GLUETUN_CONTAINER_NAME", "gluetun"),
            ("GLUETUN_API_KEY", key),
        ]
    };
    let opened = examined(folder.path(), &with_key("the-right-key")).await;
    let report = opened.json();
    assert_eq!((opened.code, of(&report, "vpn").0), (Some(0), "ok"), "{report}");
    assert!(of(&report, "vpn").1.contains("comes out at 203.0.113.7"), "{report}");
    let said = examined(folder.path(), &with_key("hush-hush-hush")).await;
    let report = said.json();
    assert_eq!((said.code, of(&report, "vpn").0), (Some(1), "fault"), "{report}");
    assert!(of(&report, "vpn").1.contains("401"), "{report}");
    assert!(
        said.out.contains("/gluetun/auth/config.toml") && said.out.contains("GET /v1/vpn/status"),
        "{report}"
    );
    assert!(!said.out.contains("hush"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_a_taken_port_an_unreachable_engine_and_a_folder_that_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (taken, gone) = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        TcpListener::bind("127.0.0.1:0").expect("a port"),
    );
    let port = taken.local_addr().expect("bound").port().to_string();
    let engine = gone.local_addr().expect("bound").to_string();
    drop(gone);
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", port.as_str()),
        ("ENGINE_PROVISIONER", "none"),
        ("ENGINES", engine.as_str()),
        ("DB_PATH", "/proc/acemux/acemux.db"),
    ];
    let said = examined(folder.path(), &settings).await;
    let report = said.json();
    assert_eq!((said.code, faults(&report).len()), (Some(1), 3), "{report}");
    assert!(of(&report, "port").1.contains("taken by another program"), "{report}");
    assert!(of(&report, "engine").1.contains("cannot be reached"), "{report}");
    assert!(of(&report, "data").1.contains("/proc/acemux cannot be written"), "{report}");
    let refused = examined(folder.path(), &[("APP_PORT", "many")]).await;
    assert_eq!((refused.code, of(&refused.json(), "settings").0), (Some(1), "fault"));
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_a_stop_leaves_are_listed_and_removed_and_those_of_others_are_not() {
    let (daemon, mut program) = start("leftover", "24440-24459", &[]).await;
    let engines = program.until_healthy(2).await;
    let labels = [("io.acemux.role", "engine"), ("io.acemux.instance", "else")];
    let other = daemon.add_foreign("acestream-99", &labels);
    let instance = program.instance.clone();
    let not_engine = daemon.add_foreign("database", &[("io.acemux.instance", &instance)]);
    program.stop().await;
    assert!(program.log().contains("2 engine(s) are left running"), "{}", program.log());
    assert!(program.log().contains("acemux engines remove --all"));

    let listed = program.command(&["engines", "list", "--json"]).await.json();
    let ids: Vec<_> =
        listed["engines"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert!(ids.len() == 2 && engines.iter().all(|id| ids.contains(&Value::from(id.as_str()))), "{listed}");
    let first = &listed["engines"][0];
    assert_eq!(
        (&first["state"], &first["instance"]),
        (&"running".into(), &instance.as_str().into()),
        "{listed}"
    );
    assert_eq!(listed["others"][0]["name"], "acestream-99", "{listed}");

    let nothing = program.command(&["engines", "remove"]).await;
    assert!(nothing.code == Some(0) && nothing.out.contains("--all"), "{nothing:?}");
    let refused = program.command(&["engines", "remove", "acestream-99", "database"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("belongs to instance else") && refused.err.contains("called database"),
        "{refused:?}"
    );
    assert_eq!(daemon.calls(Call::Remove), 0);

    daemon.by_hand(&engines[0], "exited");
    let ended = program.command(&["engines", "remove"]).await;
    assert!(ended.code == Some(0) && ended.out.contains(&engines[0][..12]), "{ended:?}");
    let rest = program.command(&["engines", "remove", "--all"]).await;
    assert!(rest.code == Some(0) && rest.out.contains(&engines[1][..12]), "{rest:?}");
    let mut left: Vec<_> = daemon.containers().into_iter().map(|(id, ..)| id).collect();
    left.sort();
    let mut theirs = [other, not_engine];
    theirs.sort();
    assert_eq!(left, theirs);
    assert!(daemon.violations().is_empty(), "{:?}", daemon.violations());
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_not_guessed_at_when_docker_or_whose_they_are_is_not_known() {
    let daemon = FakeDockerd::start(&[FAST], false);
    let engine =
        daemon.add_foreign("acestream-1", &[("io.acemux.role", "engine"), ("io.acemux.instance", "else")]);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("DOCKER_HOST", daemon.host.as_str())];
    let said = async |arguments: &[&str]| Said::by(folder.path(), arguments, settings).await;
    let listed = said(&["engines", "list"]).await;
    assert!(listed.code == Some(0) && listed.err.contains("INSTANCE_ID=else"), "{listed:?}");
    for arguments in [&["engines", "remove", "--all"][..], &["engines", "remove", "acestream-1"]] {
        let refused = said(arguments).await;
        assert!(refused.code == Some(1) && refused.err.contains("INSTANCE_ID is not set"), "{refused:?}");
    }
    assert_eq!(daemon.containers().len(), 1);
    assert!(!folder.path().join("data").exists(), "nothing is made");
    daemon.fault(Call::List, Fault::Status(500, "broken"), usize::MAX);
    let down = said(&["engines", "list"]).await;
    assert!(down.code == Some(1) && down.err.contains("broken"), "{down:?}");
    daemon.heal();
    let adopted = [("DOCKER_HOST", daemon.host.as_str()), ("INSTANCE_ID", "else")];
    let removed = Said::by(folder.path(), &["engines", "remove", &engine], adopted).await;
    assert!(removed.code == Some(0) && daemon.containers().is_empty(), "{removed:?}");
}
