//! schemathesis asks every page of `openapi.json` for what the document allows and for what it does not, of the whole
//! program: no answer without a place in the document, none that is not as it says there, and no server error but those
//! that it names. The seed is fixed. What a page answers when it does what it is for is only seen where it does, so the
//! operations that succeeded are counted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::docker::FAST;
use acemux_testkit::dockerd::FakeDockerd;
use acemux_testkit::get;
use acemux_testkit::http::try_send;
use serde_json::Value;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::ID;

const KEY: &str = "a-key-of-twenty-signs";
/// Longest run.
const PATIENCE: Duration = Duration::from_mins(4);
/// What has no end, so that no client that reads bodies whole can ask for it.
const ENDLESS: &str = "^get(AceGetstream|AceGetstreamSlash|AceGetstreamTs|EventsLive)$";
/// Operations that succeed at least: a few less than did, because the seed chooses anew when the document changes.
const WITH_THE_KEY: usize = 85;
const MIRRORED: usize = 50;
const WITHOUT_A_KEY: usize = 42;
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
    /// Its engines have these ports, and no other test's.
    async fn set(ports: &'static str) -> Self {
        let daemon = FakeDockerd::start(&[FAST], true);
        let settings = [
            ("API_KEY", KEY),
            ("MIN_REPLICAS", "1"),
            ("MIN_FREE_REPLICAS", "0"),
            ("MAX_REPLICAS", "3"),
            ("PORT_RANGE_HOST", ports),
        ];
        let setup = Setup::new().set_all(settings).set_all(daemon.settings());
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

/// Where the pages are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where the document has them.
    Root,
    /// Those that are mirrored, there.
    Mirror,
}

impl Place {
    fn prefix(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Mirror => "/api/v1",
        }
    }

    /// What is not there, or has no end. One option: of two, only what both name would be left out.
    fn excluded(self) -> [&'static str; 2] {
        match self {
            Self::Root => ["--exclude-operation-id-regex", ENDLESS],
            Self::Mirror => ["--exclude-path-regex", "^/(api/v1/|ace/|panel|status$|$)"],
        }
    }
}

/// What came of a run.
struct Found {
    /// What it has said, if it found something.
    complaint: Option<String>,
    /// Requests by their operation, and those operations that succeeded.
    asked: BTreeSet<String>,
    succeeded: BTreeSet<String>,
}

impl Found {
    /// Nothing was found, and so many operations have done what they are for. A surface that refuses everything would
    /// answer as the document says, too.
    #[track_caller]
    fn is_nothing_and_succeeded(&self, least: usize) {
        let (asked, succeeded) = (self.asked.len(), self.succeeded.len());
        let never: Vec<_> = self.asked.difference(&self.succeeded).collect();
        println!("{succeeded} of {asked} operations succeeded; not once did {never:?}");
        assert!(self.complaint.is_none(), "{}", self.complaint.as_deref().unwrap_or_default());
        assert!(
            succeeded >= least,
            "{succeeded} of {asked} operations succeeded, {least} did: not {never:?}"
        );
    }
}

/// The document's paths with their methods.
fn operations() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(folder().join("openapi.json")).expect("the document");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let methods = |methods: &Value| {
        let names = methods.as_object().into_iter().flat_map(|methods| methods.keys());
        names.map(|name| name.to_ascii_uppercase()).collect()
    };
    paths.map(|(path, about)| (path.clone(), methods(about))).collect()
}

/// The path of the document that a request's path is one of: the one with the fewest parameters.
fn path_of<'a>(operations: &'a [(String, Vec<String>)], asked: &str, method: &str) -> Option<&'a str> {
    let asked: Vec<&str> = asked.split('/').collect();
    let parameters = |path: &str| path.matches('{').count();
    let is_one = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |(part, asked): (&&str, &&str)| part.starts_with('{') || part == asked;
        parts.len() == asked.len() && parts.iter().zip(&asked).all(fits)
    };
    let known =
        operations.iter().filter(|(path, methods)| methods.iter().any(|it| it == method) && is_one(path));
    known.map(|(path, _)| path.as_str()).min_by_key(|path| parameters(path))
}

/// Which operations a record of all requests has, and which of them succeeded.
fn tally(record: &Value, origin: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let operations = operations();
    let (mut asked, mut succeeded) = (BTreeSet::new(), BTreeSet::new());
    for entry in record["log"]["entries"].as_array().expect("entries") {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (method, url) = (text(&entry["request"]["method"]), text(&entry["request"]["url"]));
        let path = url.strip_prefix(origin).unwrap_or_default().split('?').next().unwrap_or_default();
        let Some(path) = path_of(&operations, path, &method) else { continue };
        let operation = format!("{method} {path}");
        if entry["response"]["status"].as_u64().is_some_and(|status| (200..300).contains(&status)) {
            succeeded.insert(operation.clone());
        }
        asked.insert(operation);
    }
    (asked, succeeded)
}

/// Runs it; nothing where it is not installed.
async fn examine(scene: &Scene, place: Place, more: &[&str]) -> Option<Found> {
    let (root, at) = (folder(), format!("http://{}{}", scene.app.address(), place.prefix()));
    let installed = root.join("target/schemathesis");
    if !installed.is_dir() {
        let must = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "ci");
        assert!(!must, "schemathesis is not installed: scripts/test does it");
        println!("skipped: schemathesis is not installed");
        return None;
    }
    let here = tempfile::tempdir().expect("a folder for what it writes");
    let record = here.path().join("record.har");
    let mut command = Command::new("python3");
    command
        .args(["-m", "schemathesis.cli", "--no-color", "--config-file"])
        .arg(root.join("crates/testkit/schemathesis.toml"));
    command.arg("run").arg(root.join("openapi.json")).args(["--url", &at]);
    command.args(["--seed", "1", "--max-examples", "10", "--phases", "examples,coverage,fuzzing"]);
    command.arg("--no-shrink").args(["--report", "har", "--report-har-path"]).arg(&record);
    command.args(["--request-timeout", "10", "--continue-on-failure", "--warnings", "off"]);
    command.args(["--exclude-checks", NOT_HERE]).args(more);
    command.args(place.excluded());
    command.env("PYTHONPATH", &installed).current_dir(&here);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = within(PATIENCE, "schemathesis comes to its end", command.output()).await;
    let output = output.expect("there is a python3");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Tested: "), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last: Vec<_> = said.lines().rev().take(25).collect();
    println!("{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    let record = std::fs::read_to_string(&record).expect("a record of all requests");
    let (asked, succeeded) = tally(&serde_json::from_str(&record).expect("JSON"), &at);
    let complaint = (!output.status.success()).then(|| said.into_owned());
    Some(Found { complaint, asked, succeeded })
}

/// Nothing is wrong at this place for who asks so, at least so many operations succeed, and the service is well behind it.
async fn finds_nothing(ports: &'static str, place: Place, arguments: &[&str], floor: usize) {
    let scene = Scene::set(ports).await;
    if let Some(found) = examine(&scene, place, arguments).await {
        found.is_nothing_and_succeeded(floor);
    }
    assert_eq!(get(scene.app.address(), "/livez").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_key_every_answer_is_as_the_document_says() {
    finds_nothing("24580-24599", Place::Root, &["-H", &format!("X-API-KEY: {KEY}")], WITH_THE_KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_mirror_every_answer_is_as_the_document_says() {
    finds_nothing("24600-24619", Place::Mirror, &["-H", &format!("X-API-KEY: {KEY}")], MIRRORED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_every_answer_is_as_the_document_says() {
    finds_nothing("24620-24639", Place::Root, &[], WITHOUT_A_KEY).await;
}
