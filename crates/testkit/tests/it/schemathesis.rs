//! schemathesis asks every page of `openapi.json` for what the document allows and for what it does not, of the whole
//! program: no answer without a place in the document, none that is not as it says there, and no server error but those
//! that it names. The seed is fixed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::get;
use acemux_testkit::http::try_send;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::ID;

const KEY: &str = "a-key-of-twenty-signs";
/// Longest run.
const PATIENCE: Duration = Duration::from_mins(1);
/// What has no end, so that no client that reads bodies whole can ask for it.
const ENDLESS: &str = "^get(AceGetstream|AceGetstreamSlash|AceGetstreamTs|EventsLive)$";
/// Wrong keys are refused unseen after some: `classes` tries each page with one.
const NOT_HERE: &str = "ignored_auth";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program with something of everything: a stream that is watched, an engine in a container and one that is none.
struct Scene {
    app: TestApp,
    _daemon: FakeDockerd,
    _viewers: JoinSet<()>,
}

impl Scene {
    async fn set() -> Self {
        let daemon = FakeDockerd::start(&[FAST], true);
        let settings = [
            ("API_KEY", KEY),
            ("ENGINE_PROVISIONER", "docker"),
            ("DOCKER_HOST", &daemon.host),
            ("ENGINE_IMAGE", FAST),
            ("ENGINE_VARIANT", "krinkuto11-amd64"),
            ("MIN_REPLICAS", "1"),
            ("MIN_FREE_REPLICAS", "0"),
            ("MAX_REPLICAS", "3"),
            ("PORT_RANGE_HOST", "24460-24479"),
        ];
        let setup = settings.into_iter().fold(Setup::new(), |setup, (name, value)| setup.set(name, value));
        let app = setup.start().await;
        until("both engines are well", || {
            let engines = app.app.engines.all();
            engines.len() == 2 && engines.iter().all(|engine| engine.knowledge().last_check.is_some())
        })
        .await;
        let (address, mut viewers) = (app.address(), JoinSet::new());
        viewers.spawn(async move {
            // It is thrown out, and its stream ended, again and again.
            loop {
                let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", crate::stream(ID));
                let Ok(mut reply) = try_send(address, &request).await else { continue };
                while reply.next().await.is_ok() {}
            }
        });
        until("the stream plays", || app.app.relay.viewers() > 0).await;
        Self { app, _daemon: daemon, _viewers: viewers }
    }
}

/// Runs it, and returns what it has said when it found something; nothing where it is not installed.
async fn examine(scene: &Scene, more: &[&str]) -> Option<String> {
    let (root, at) = (folder(), format!("http://{}", scene.app.address()));
    let installed = root.join("target/schemathesis");
    if !installed.is_dir() {
        let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
        assert!(!must, "schemathesis is not installed: scripts/test does it");
        println!("skipped: schemathesis is not installed");
        return None;
    }
    let here = tempfile::tempdir().expect("a folder for what it writes");
    let mut command = Command::new("python3");
    command
        .args(["-m", "schemathesis.cli", "--no-color", "--config-file"])
        .arg(root.join("crates/testkit/schemathesis.toml"));
    command.arg("run").arg(root.join("openapi.json")).args(["--url", &at]);
    command.args([
        "--seed",
        "1",
        "--max-examples",
        "10",
        "--phases",
        "examples,coverage,fuzzing",
        "--no-shrink",
    ]);
    command.args(["--request-timeout", "10", "--continue-on-failure", "--warnings", "off"]);
    command.args(["--exclude-checks", NOT_HERE, "--exclude-operation-id-regex", ENDLESS]).args(more);
    command.env("PYTHONPATH", &installed).current_dir(&here);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = within(PATIENCE, "schemathesis comes to its end", command.output()).await;
    let output = output.expect("there is a python3");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Tested: "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!(
        "{}",
        said.lines().rev().take(25).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    (!output.status.success()).then(|| said.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_key_every_answer_is_as_the_document_says() {
    let scene = Scene::set().await;
    let found = examine(&scene, &["-H", &format!("X-API-KEY: {KEY}")]).await;
    assert!(found.is_none(), "{}", found.unwrap_or_default());
    assert_eq!(get(scene.app.address(), "/livez").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_every_answer_is_as_the_document_says() {
    let scene = Scene::set().await;
    let found = examine(&scene, &[]).await;
    assert!(found.is_none(), "{}", found.unwrap_or_default());
    assert_eq!(get(scene.app.address(), "/livez").await.status, 200);
}
