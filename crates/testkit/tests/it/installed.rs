//! The ways in which it is installed beside the guide's three: each file of `deploy/` is read by what it is for, and the
//! compose files without the socket and with the open engine are brought up.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use acemux_testkit::compose::Compose;
use acemux_testkit::docker::{FAST, docker};
use acemux_testkit::process::binary;
use acemux_testkit::{StrictViewer, get, send};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::ID;
use crate::docs::{compose_files, must_accept, read, root, said};

/// This machine's HAProxy as an image (`scripts/sim-image`), in place of haproxy's own.
const HAPROXY: &str = "acemux-sim:haproxy";
/// How large the image may be, bytes.
const LARGEST_IMAGE: u64 = 25_000_000;
/// How long from the container's start until it serves.
const PROMISED_START: Duration = Duration::from_secs(1);

/// A file's YAML as JSON, one value for each document.
fn yaml(file: &Path) -> Vec<Value> {
    let program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let output =
        must_accept(&file.display().to_string(), Command::new("python3").args(["-c", program]).arg(file));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_unit_for_systemd_is_one_and_its_user_has_no_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("acemux.service");
    // Where this program is, and without the group of a Docker that may not be installed.
    let program = binary().display().to_string();
    let unit = read("deploy/systemd/acemux.service").replace("/usr/local/bin/acemux", &program);
    std::fs::write(&file, unit).expect("it is ours");
    let verify = must_accept("acemux.service", Command::new("systemd-analyze").arg("verify").arg(&file));
    assert!(verify.stderr.is_empty(), "{}", String::from_utf8_lossy(&verify.stderr));
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&file);
    must_accept("acemux.service is exposed", &mut security);
}

#[test]
fn the_template_for_unraid_is_xml_and_names_settings_only() {
    let program = "import sys, xml.etree.ElementTree as tree\n\
                   for config in tree.parse(sys.argv[1]).getroot().iter('Config'): print(config.get('Type'), config.get('Target'))";
    let file = root().join("deploy/unraid/acemux.xml");
    let output = must_accept("acemux.xml", Command::new("python3").args(["-c", program]).arg(file));
    let text = String::from_utf8(output.stdout).expect("text");
    let variables: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Variable ")).collect();
    assert!(variables.len() >= 6, "{text}");
    let settings = read("docs/settings.md");
    for name in variables {
        assert!(settings.contains(&format!("| `{name}` |")), "{name} is no setting");
    }
    assert!(text.contains("Port 8000\n") && text.contains("Path /data\n"), "{text}");
}

#[test]
fn the_manifest_for_kubernetes_asks_pages_that_are_there_and_runs_without_rights() {
    let documents = yaml(&root().join("deploy/kubernetes/acemux.yaml"));
    let kinds: Vec<&str> = documents.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["PersistentVolumeClaim", "Deployment", "Service", "Deployment", "Service"]);
    for one in &documents {
        assert!(one["apiVersion"].is_string() && one["metadata"]["name"].is_string(), "{one}");
    }
    let pod = &documents[1]["spec"]["template"]["spec"];
    let (container, rights) = (&pod["containers"][0], &pod["containers"][0]["securityContext"]);
    assert_eq!(documents[1]["spec"]["selector"]["matchLabels"], documents[2]["spec"]["selector"]);
    assert_eq!(documents[1]["spec"]["strategy"]["type"], "Recreate", "one process has the data directory");
    assert_eq!(
        (&container["livenessProbe"]["httpGet"]["path"], &container["readinessProbe"]["httpGet"]["path"]),
        (&json!("/livez"), &json!("/readyz"))
    );
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &rights["readOnlyRootFilesystem"]),
        (&json!(65532), &json!(true))
    );
    assert_eq!(rights["capabilities"]["drop"], json!(["ALL"]));
    let engines = container["env"].as_array().expect("variables").iter().find(|one| one["name"] == "ENGINES");
    let engine = documents[4]["metadata"]["name"].as_str().expect("a name");
    assert_eq!(engines.expect("it is set")["value"], format!("{engine}:6878"));
}

#[test]
fn the_workflows_run_what_developers_run() {
    let text = |name: &str| yaml(&root().join(".github/workflows").join(name))[0]["jobs"].to_string();
    assert!(text("test.yml").contains("./.ci/run"));
    for script in ["./scripts/release", "./scripts/image"] {
        assert!(text("release.yml").contains(script), "{script}");
    }
}

#[test]
fn traefiks_files_are_yaml_and_name_each_other() {
    let main = &yaml(&root().join("deploy/traefik/traefik.yml"))[0];
    assert_eq!(main["entryPoints"]["web"]["address"], ":80");
    let http = &yaml(&root().join("deploy/traefik/acemux.yml"))[0]["http"];
    for (name, router) in http["routers"].as_object().expect("routers") {
        assert_eq!(router["entryPoints"], json!(["web"]), "{name}");
        assert!(!http["services"][router["service"].as_str().expect("a service")].is_null(), "{name}");
        for middleware in router["middlewares"].as_array().into_iter().flatten() {
            assert!(!http["middlewares"][middleware.as_str().expect("a name")].is_null(), "{name}");
        }
    }
}

#[test]
fn every_compose_file_is_one_and_gives_the_service_no_rights() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = compose_files();
    assert_eq!(files.len(), 5, "{files:?}");
    std::fs::write(folder.path().join(".env"), "API_KEY=a-key-of-the-tests\nGLUETUN_API_KEY=another-one\n")
        .expect("it is ours");
    for file in files {
        std::fs::copy(root().join(&file), folder.path().join(&file)).expect("it is there");
        let mut config = Command::new("docker-compose");
        config.args(["-f", &file, "config"]).current_dir(folder.path());
        let output = must_accept(&file, &mut config);
        let resolved = folder.path().join("resolved.yml");
        std::fs::write(&resolved, output.stdout).expect("it is ours");
        let services = yaml(&resolved)[0]["services"].clone();
        let service = &services["acemux"];
        assert_eq!((&service["read_only"], &service["cap_drop"]), (&json!(true), &json!(["ALL"])), "{file}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{file}");
        let mounts = service["volumes"].as_array().expect("volumes").iter().map(ToString::to_string);
        let (sockets, data): (Vec<_>, Vec<_>) = mounts.partition(|mount| mount.contains("docker.sock"));
        assert!(data.len() == 1 && data[0].contains("/data"), "{file}: {data:?}");
        assert_eq!(sockets.is_empty(), file.contains("socket-proxy"), "{file}");
        for (name, other) in services.as_object().expect("services") {
            assert!(other["privileged"].is_null(), "{file}: {name}");
        }
    }
}

/// As user 65532 with a read-only file system, without Docker's socket, behind the filter of calls.
#[tokio::test(flavor = "multi_thread")]
async fn the_guides_standalone_mode_without_the_socket_works_as_printed() {
    let settings = [
        ("ENGINE_IMAGE", FAST),
        ("ENGINE_VARIANT", "krinkuto11-amd64"),
        ("PORT_RANGE_HOST", "22320-22339"),
        ("SOCKET_PROXY_IMAGE", HAPROXY),
    ];
    let compose = Compose::up("docker-compose.socket-proxy.yml", &settings).await;
    let mut viewer = StrictViewer::open(compose.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let service = compose.container("acemux");
    let inspect = async |format: &str| docker(&["inspect", "--format", format, &service]).await;
    assert_eq!(
        inspect("{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}").await,
        "65532:65532 true [ALL]"
    );
    assert!(!inspect("{{.Mounts}}").await.contains("docker.sock"));
    let (is_well, found) = compose.says(&["doctor"]);
    assert!(is_well && found.contains("0 fault(s)"), "{found}");
    refuses_what_is_not_listed(&compose).await;
    becomes_healthy(&service).await;
    serves_soon(&service).await;
    compose.leave_nothing_behind();
}

/// By its address in the network that engines are not in.
async fn refuses_what_is_not_listed(compose: &Compose) {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = docker(&["inspect", "--format", format, &compose.container("docker-api")]).await;
    let address: SocketAddr = format!("{address}:2375").parse().expect("one network");
    let engine = &compose.engines()[0];
    let ask = async |line: &str| {
        let request =
            format!("{line} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        send(address, &request).await.status
    };
    for line in
        ["GET /version", "GET /v1.41/containers/json", &format!("GET /v1.41/containers/{engine}/json")]
    {
        assert_eq!(ask(line).await, 200, "{line}");
    }
    for line in [
        "GET /v1.41/info",
        "GET /v1.41/secrets",
        "GET /v1.41/volumes",
        "POST /v1.41/build",
        "POST /v1.41/containers/prune",
        "DELETE /v1.41/images/x",
        "DELETE /v1.41/networks/acemux",
        "PUT /v1.41/containers/x/archive?path=/",
        "GET /v1.41/containers/..%2f..%2finfo/json",
        "GET /v1.41/images/../info/json",
        &format!("POST /v1.41/containers/{engine}/exec"),
        &format!("POST /v1.41/containers/{engine}/kill"),
        &format!("POST /v1.41/containers/{engine}/attach"),
        &format!("GET /v1.41/containers/{engine}/archive?path=/etc/passwd"),
        &format!("GET /v1.41/containers/{engine}/export"),
    ] {
        assert_eq!(ask(line).await, 403, "{line}");
    }
}

async fn becomes_healthy(container: &str) {
    let began = Instant::now();
    while docker(&["inspect", "--format", "{{.State.Health.Status}}", container]).await != "healthy" {
        assert!(began.elapsed() < Duration::from_secs(40), "its health check does not pass");
        sleep(Duration::from_millis(200)).await;
    }
}

/// By Docker's clock and the log's, which are one; the best of a few, because what else the machine does is not ours.
async fn serves_soon(container: &str) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        docker(&["restart", container]).await;
        let began = Instant::now();
        let started = docker(&["inspect", "--format", "{{.State.StartedAt}}", container]).await;
        let serving = loop {
            // What it writes to standard error comes there.
            let mut logs = Command::new("docker");
            logs.args(["logs", "--timestamps", "--since", &started, container]);
            let log = said(&must_accept("docker logs", &mut logs));
            let line = log.lines().find(|line| line.contains(" serving ")).map(str::to_owned);
            if let Some(line) = line {
                break line.split(' ').next().unwrap_or_default().to_owned();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "it does not serve: {log}");
            sleep(Duration::from_millis(50)).await;
        };
        let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
        let took = at(&serving).duration_since(at(&started)).unsigned_abs();
        best = best.min(took);
        if best <= PROMISED_START {
            break;
        }
    }
    println!("serving {best:?} after the container's start");
    assert!(best <= PROMISED_START, "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guides_standalone_mode_with_the_open_engine_works_as_printed() {
    let settings = [("ENGINE_IMAGE", FAST), ("PORT_RANGE_HOST", "22340-22359")];
    let compose = Compose::up("docker-compose.outpace.yml", &settings).await;
    let mut viewer = StrictViewer::open(compose.address, ID).await;
    viewer.watch(Duration::from_secs(2)).await;
    viewer.assert_perfect();
    let engines = get(compose.address, "/engines").await.json().await;
    assert_eq!(engines[0]["engine_variant"], "outpace", "{engines}");
    compose.leave_nothing_behind();
}

#[tokio::test]
async fn the_image_is_small_and_says_what_it_is() {
    let image = "ghcr.io/acemux/acemux:latest";
    let size: u64 =
        docker(&["image", "inspect", "--format", "{{.Size}}", image]).await.parse().expect("a number");
    println!("the image has {size} bytes");
    assert!(size <= LARGEST_IMAGE, "{size} bytes");
    let labels = docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", image]).await;
    let labels: Value = serde_json::from_str(&labels).expect("JSON");
    for (name, value) in
        [("title", "acemux"), ("version", env!("CARGO_PKG_VERSION")), ("licenses", "MIT OR Apache-2.0")]
    {
        assert_eq!(labels[format!("org.opencontainers.image.{name}")], value, "{labels}");
    }
    let health = docker(&["image", "inspect", "--format", "{{json .Config.Healthcheck.Test}}", image]).await;
    assert_eq!(health, r#"["CMD","/acemux","healthcheck"]"#);
    let version =
        docker(&["run", "--rm", "--read-only", "--user", "65532", "--cap-drop=ALL", image, "--version"])
            .await;
    assert_eq!(version, format!("acemux {}", env!("CARGO_PKG_VERSION")));
}

/// What `./scripts/release` lists, without the network: every crate of the binary has a licence that `deny.toml` allows, and
/// its text is there.
#[test]
fn every_dependency_has_a_licence_that_is_allowed_and_its_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut metadata = Command::new(env!("CARGO"));
    // What other platforms need has not been downloaded for a build here.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    metadata.args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform]);
    metadata.current_dir(root());
    let file = folder.path().join("metadata.json");
    std::fs::write(&file, must_accept("cargo metadata", &mut metadata).stdout).expect("it is ours");
    let inventory = |what: &str| {
        let mut inventory = Command::new("python3");
        inventory.arg(root().join("scripts/inventory.py")).arg(what).arg(&file);
        String::from_utf8(must_accept(what, &mut inventory).stdout).expect("text")
    };
    let document: Value = serde_json::from_str(&inventory("sbom")).expect("JSON");
    assert_eq!(
        (&document["bomFormat"], &document["metadata"]["component"]["name"]),
        (&json!("CycloneDX"), &json!("acemux"))
    );
    let components = document["components"].as_array().expect("components");
    assert!(components.len() > 100, "{}", components.len());
    let rules: toml::Table = read("deny.toml").parse().expect("TOML");
    let allowed = rules["licenses"]["allow"].as_array().expect("a list");
    let is_allowed = |one: &str| allowed.iter().any(|known| known.as_str() == Some(one));
    for component in components {
        let expression = component["licenses"][0]["expression"].as_str().expect("an expression");
        let parts = expression.split(" AND ").map(|part| part.trim_matches(['(', ')']));
        let is_right = parts.into_iter().all(|part| part.split(" OR ").any(|one| is_allowed(one.trim())));
        assert!(is_right, "{}: {expression}", component["name"]);
    }
    let texts = inventory("licences");
    assert!(texts.contains("Permission is hereby granted") && texts.contains("Apache License"), "no texts");
}
