//! `docs/migration.md` is what happens: each variable, constant and endpoint of its tables does what its row says.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use acemux_testkit::app::{Setup, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::process::binary;
use acemux_testkit::send;

use crate::ID;
use crate::docs::{KEY, read, said};

/// Every variable of the reference's settings class and of its documents.
const VARIABLES: [&str; 52] = [
    "ACEXY_MAX_STREAMS_PER_ENGINE",
    "ACE_HTTPS_RANGE",
    "ACE_HTTP_RANGE",
    "ACE_MAP_HTTPS",
    "API_KEY",
    "APP_PORT",
    "AUTOSCALE_INTERVAL_S",
    "AUTO_DELETE",
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD",
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S",
    "CIRCUIT_BREAKER_REPLACEMENT_THRESHOLD",
    "CIRCUIT_BREAKER_REPLACEMENT_TIMEOUT_S",
    "COLLECT_INTERVAL_S",
    "CONTAINER_LABEL",
    "DB_URL",
    "DEBUG_LOG_DIR",
    "DEBUG_MODE",
    "DOCKER_CERT_PATH",
    "DOCKER_HOST",
    "DOCKER_NETWORK",
    "DOCKER_TLS_VERIFY",
    "ENGINE_ARM32_VERSION",
    "ENGINE_ARM64_VERSION",
    "ENGINE_GRACE_PERIOD_S",
    "ENGINE_MEMORY_LIMIT",
    "ENGINE_VARIANT",
    "GLUETUN_API_PORT",
    "GLUETUN_CONTAINER_NAME",
    "GLUETUN_CONTAINER_NAME_2",
    "GLUETUN_HEALTH_CHECK_INTERVAL_S",
    "GLUETUN_PORT_CACHE_TTL_S",
    "GLUETUN_PORT_RANGE_1",
    "GLUETUN_PORT_RANGE_2",
    "HEALTH_CHECK_INTERVAL_S",
    "HEALTH_FAILURE_THRESHOLD",
    "HEALTH_REPLACEMENT_COOLDOWN_S",
    "HEALTH_UNHEALTHY_GRACE_PERIOD_S",
    "IDLE_TTL_S",
    "LOG_LEVEL",
    "MAX_ACTIVE_REPLICAS",
    "MAX_CONCURRENT_PROVISIONS",
    "MAX_REPLICAS",
    "MIN_FREE_REPLICAS",
    "MIN_PROVISION_INTERVAL_S",
    "MIN_REPLICAS",
    "MONITOR_INTERVAL_S",
    "PORT_RANGE_HOST",
    "PROXY_MODE",
    "STARTUP_TIMEOUT_S",
    "STATS_HISTORY_MAX",
    "VPN_MODE",
    "VPN_UNHEALTHY_RESTART_TIMEOUT_S",
];

/// The rows of the table under a heading below `## {part}`, cell by cell.
fn rows(part: &str, heading: &str) -> Vec<Vec<String>> {
    let page = read("docs/migration.md");
    let part = page.split(&format!("## {part}\n")).nth(1).expect("the page has this part");
    let section = part.split(&format!("### {heading}\n")).nth(1).expect("the part has this heading");
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = table.skip(2).map(cells).collect();
    assert!(!rows.is_empty(), "{heading} is empty");
    rows
}

/// Names in a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What the reference of settings says of a name: that it is one, that it has no meaning, or nothing.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Setting,
    WithoutMeaning,
    Unknown,
}

fn known(name: &str) -> Known {
    let page = read("docs/settings.md");
    let (settings, without_meaning) =
        page.split_once("## Understood, without meaning here").expect("both parts");
    let row = format!("| `{name}` |");
    match (settings.contains(&row), without_meaning.contains(&row)) {
        (true, _) => Known::Setting,
        (_, true) => Known::WithoutMeaning,
        _ => Known::Unknown,
    }
}

#[test]
fn every_variable_of_the_orchestrator_is_what_its_row_says() {
    let rows = rows("From acestream-orchestrator", "Variables");
    for name in VARIABLES {
        assert!(rows.iter().any(|row| names(&row[0]) == [name]), "{name} has no row");
    }
    for row in &rows {
        let means = if row[1].starts_with("same") { Known::Setting } else { Known::WithoutMeaning };
        assert!(means == Known::Setting || row[1].starts_with("no meaning"), "{row:?}");
        for name in names(&row[0]) {
            assert_eq!(known(name), means, "{row:?}");
        }
        for name in names(&row[1]) {
            let name = name.split('=').next().unwrap_or(name);
            assert_eq!(known(name), Known::Setting, "{row:?} points to {name}");
        }
    }
}

#[test]
fn every_variable_of_acexy_is_what_its_row_says_and_config_check_names_it() {
    let rows = rows("From acexy", "Variables");
    let all: Vec<String> = rows.iter().flat_map(|row| names(&row[0])).map(str::to_owned).collect();
    assert!(all.len() >= 20, "{all:?}");
    let without_meaning: Vec<&String> =
        all.iter().filter(|name| known(name) == Known::WithoutMeaning).collect();
    let said = config_check(without_meaning.iter().map(|name| (name.as_str(), "1")), "");
    for row in &rows {
        for name in names(&row[0]) {
            let means = if row[1].starts_with("same") { Known::Setting } else { Known::WithoutMeaning };
            assert_eq!(known(name), means, "{row:?}");
            assert!(means == Known::Setting || said.contains(name), "{name} is not named: {said}");
        }
        for name in
            names(&row[1]).into_iter().filter(|name| name.bytes().all(|byte| !byte.is_ascii_lowercase()))
        {
            assert_eq!(known(name), Known::Setting, "{row:?} points to {name}");
        }
    }
}

#[test]
fn config_check_says_where_each_constant_of_the_edited_file_went() {
    let rows = rows("From acestream-orchestrator", "Constants of `app/services/proxy/config.py`");
    let constants: Vec<&str> = rows.iter().flat_map(|row| names(&row[0])).collect();
    let lines = constants.iter().map(|name| format!("{name} = 64 * 1024  # as edited"));
    let file = lines.collect::<Vec<_>>().join("\n");
    // Smaller ones fit everywhere else.
    let file = file.replace("MAX_STREAMS_PER_ENGINE = 64 * 1024", "MAX_STREAMS_PER_ENGINE = 10");
    let said = config_check(std::iter::empty(), &file);
    for row in &rows {
        let name = names(&row[0])[0];
        let line = said
            .lines()
            .find(|line| line.contains(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}: {said}"));
        if row[1].starts_with("setting of the same name") {
            assert_eq!(known(name), Known::Setting, "{row:?}");
            assert!(line.contains(&format!("{name} is a setting")), "{line}");
        } else {
            assert!(line.contains("has no meaning here"), "{line}");
        }
    }
}

/// What `acemux config check` says with these variables and this file of the reference's proxy.
fn config_check<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>, constants: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("app/services/proxy/config.py");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("it is ours");
    if !constants.is_empty() {
        std::fs::write(&file, constants).expect("it is ours");
    }
    let mut check = Command::new(binary());
    check.args(["config", "check"]).current_dir(folder.path()).env_clear().envs(variables);
    let output = check.output().expect("the program can be run");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

async fn status(at: SocketAddr, endpoint: &str, key: bool) -> u16 {
    let (method, path) = endpoint.split_once(' ').unwrap_or(("GET", endpoint));
    let path = path.replace('…', ID);
    let key = if key { format!("X-API-KEY: {KEY}\r\n") } else { String::new() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\n{key}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    within(Duration::from_secs(10), endpoint, send(at, &request)).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_as_its_row_says() {
    let daemon = FakeDockerd::start(&[FAST], true);
    let settings = [("API_KEY", KEY), ("PORT_RANGE_HOST", "24460-24479")];
    let setup = Setup::with_engines([]).set_all(settings).set_all(daemon.settings());
    let app = setup.start().await;
    for (part, heading) in [("From acexy", "Addresses"), ("From acestream-orchestrator", "Endpoints")] {
        for row in rows(part, heading) {
            let endpoint = names(&row[0])[0].to_owned();
            let (without, with) =
                (status(app.address(), &endpoint, false).await, status(app.address(), &endpoint, true).await);
            let is_right = match row[1].as_str() {
                "same" => without == with && is_there(with, &row),
                "same, with key" => without == 401 && is_there(with, &row),
                "not there" => matches!((without, with), (404 | 405, 404 | 405)),
                "400" => (without, with) == (400, 400),
                _ => false,
            };
            assert!(is_right, "{row:?}: {without} without the key, {with} with it");
        }
    }
}

/// Answered as asked, or refused because there is no VPN here.
fn is_there(status: u16, row: &[String]) -> bool {
    matches!(status, 200..=399) || (status == 503 && row[0].contains("/vpn/publicip"))
}
