//! The program as a process of its own, with a real Docker daemon behind it and its simulated engines in containers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::app::within;
use crate::http::{get, try_send};

/// The image of a fast engine that plays verifiable packets behind every id (`scripts/sim-image`).
pub const FAST: &str = "acemux-sim:fast";
/// The image of an engine that ends at once.
pub const BROKEN: &str = "acemux-sim:broken";

/// The label that says whose an engine is.
const INSTANCE: &str = "io.acemux.instance";
/// Longest wait for one docker command.
const DOCKER: Duration = Duration::from_secs(30);
/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// `docker` with these arguments; its output. Panics when it fails.
pub async fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output();
    let output = within(DOCKER, "docker", output).await.expect("the docker command is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the daemon has noted of containers since then: a line for each event that passes these filters.
pub async fn diary(since: SystemTime, filters: &[&str]) -> Vec<String> {
    let stamp = |at: SystemTime| {
        let at = at.duration_since(UNIX_EPOCH).expect("the clock is set");
        format!("{}.{:09}", at.as_secs(), at.subsec_nanos())
    };
    let (since, until) = (stamp(since), stamp(SystemTime::now()));
    let mut arguments = vec!["events", "--since", &since, "--until", &until, "--filter", "type=container"];
    arguments.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    docker(&arguments).await.lines().map(str::to_owned).collect()
}

/// The running program. Dropping it ends the process and removes its containers, and those only.
pub struct Program {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose engines are its own.
    pub instance: String,
    folder: PathBuf,
    settings: Vec<(String, String)>,
    child: Child,
}

impl Program {
    /// Starts it with these settings beside the usual ones of tests. `name` is the test's, `ports` its range.
    pub async fn start(name: &str, ports: &str, settings: &[(&str, &str)]) -> Self {
        let instance = format!("{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("acemux-{instance}"));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let port = free_port();
        let usual = [
            ("APP_HOST", "127.0.0.1"),
            ("OPERATOR_WITHOUT_KEY", "loopback"),
            ("ENGINE_PROVISIONER", "docker"),
            ("ENGINE_IMAGE", FAST),
            ("ENGINE_VARIANT", "krinkuto11-amd64"),
            ("MIN_REPLICAS", "2"),
            ("MIN_FREE_REPLICAS", "1"),
            ("MAX_REPLICAS", "6"),
            ("PORT_RANGE_HOST", ports),
            ("INSTANCE_ID", &instance),
            ("APP_PORT", &port.to_string()),
        ];
        let all = usual.into_iter().chain(settings.iter().copied());
        let settings: Vec<_> = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let child = spawn(&folder, &settings);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let program = Self { address, instance, folder, settings, child };
        program.until_it("answers", async |program: &Self| program.asks("/livez").await.is_some()).await;
        program
    }

    /// CPU time that it has used, user and system together.
    pub fn cpu(&self) -> Duration {
        let pid = self.child.id().expect("it runs");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        // Behind the command's name: fields 14 and 15 of the whole, in hundredths of a second.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Sends a request without a body; its reply's status.
    pub async fn post(&self, path: &str) -> u16 {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        try_send(self.address, &request).await.expect("a reply").status
    }

    /// Has this setting when it is started again.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Ends the process as a crash would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Tells it to stop, as Docker and systemd do, and waits until it has.
    pub async fn stop(&mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        within(DOCKER, "kill", told).await.expect("kill is installed");
        within(PATIENCE, "the end of the process", self.child.wait()).await.expect("it is our child");
    }

    /// Runs another command of the program with the same settings and data.
    pub async fn command(&self, arguments: &[&str]) -> Said {
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Said::by(&self.folder, arguments, settings).await
    }

    /// Starts the process again with the same settings and data.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.folder, &self.settings);
        self.until_it("answers", async |program: &Self| program.asks("/livez").await.is_some()).await;
    }

    /// Waits until it says that streams may start.
    pub async fn ready(&self) {
        self.until_it("is ready", async |program: &Self| program.asks("/readyz").await == Some(200)).await;
    }

    /// A page's JSON.
    pub async fn page(&self, path: &str) -> Value {
        get(self.address, path).await.json().await
    }

    /// The ids of healthy engines.
    pub async fn healthy(&self) -> Vec<String> {
        let engines = self.page("/engines").await;
        let healthy =
            engines.as_array().into_iter().flatten().filter(|one| one["health_status"] == "healthy");
        let mut ids: Vec<_> =
            healthy.map(|one| one["container_id"].as_str().unwrap_or_default().to_owned()).collect();
        ids.sort();
        ids
    }

    /// Waits until exactly so many engines are healthy, and returns their ids.
    pub async fn until_healthy(&self, count: usize) -> Vec<String> {
        let what = format!("has {count} healthy engines");
        self.until_it(&what, async |program: &Self| program.healthy().await.len() == count).await;
        self.healthy().await
    }

    /// Waits until `holds`; panics with the newest log when it never does. Returns how long it took.
    pub async fn until_it(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(self).await {
            assert!(began.elapsed() < PATIENCE, "it never {what}; its log:\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }

    /// Its containers, in any state: full ids.
    pub async fn containers(&self) -> Vec<String> {
        let filter = format!("label={INSTANCE}={}", self.instance);
        let ids = docker(&["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter]).await;
        ids.lines().map(str::to_owned).collect()
    }

    /// Playbacks that are open on an engine, by its own ledger.
    pub async fn open_sessions(&self, container: &str) -> u64 {
        let network = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let ip = docker(&["inspect", "--format", network, container]).await;
        let label = "{{index .Config.Labels \"acestream.http_port\"}}";
        let port: u16 = docker(&["inspect", "--format", label, container]).await.parse().expect("a port");
        let control = SocketAddr::new(ip.parse().expect("an address"), port + 5_000);
        let status = get(control, "/__sim/status").await.json().await;
        let count = |name: &str| status["counts"][name].as_u64().expect("the control port counts sessions");
        count("opened") - count("closed")
    }

    /// Creations of engines since then, by the daemon's own diary.
    pub async fn created_since(&self, since: SystemTime) -> usize {
        diary(since, &["event=create", &format!("label={INSTANCE}={}", self.instance)]).await.len()
    }

    /// A metric without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let page = get(self.address, "/metrics").await.body().await.0;
        let page = String::from_utf8_lossy(&page);
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is no metric of {page}"))
    }

    /// The messages of its events of one category.
    pub async fn events(&self, category: &str) -> Vec<String> {
        let events = self.page(&format!("/events?limit=1000&category={category}")).await;
        let messages = events.as_array().into_iter().flatten().filter_map(|event| event["message"].as_str());
        messages.map(str::to_owned).collect()
    }

    /// The categories of the events about one engine.
    pub async fn told_of(&self, engine: &str) -> Vec<String> {
        let events = self.page(&format!("/events?limit=1000&container_id={engine}")).await;
        let categories =
            events.as_array().into_iter().flatten().filter_map(|event| event["category"].as_str());
        categories.map(str::to_owned).collect()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    async fn asks(&self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let reply = timeout(Duration::from_secs(2), try_send(self.address, &request)).await;
        reply.ok()?.ok().map(|reply| reply.status)
    }
}

/// What a command that ends by itself has said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// Of the program in this folder, with these arguments and settings and nothing else of the environment.
    pub async fn by<'a>(
        folder: &Path,
        arguments: &[&str],
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder).env_clear().envs(settings).stdin(Stdio::null());
        let output = within(PATIENCE, "a command", command.output()).await.expect("the program is built");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Its standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have been ended already.
        let _killed = self.child.start_kill();
        let filter = format!("label={INSTANCE}={}", self.instance);
        let list = std::process::Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output();
        let ids = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            // What is left over only costs memory; the next run has another instance.
            let _removed = std::process::Command::new("docker").args(["rm", "-f"]).args(ids).output();
        }
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &PathBuf, settings: &[(String, String)]) -> Child {
    let log =
        std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log file");
    let mut command = Command::new(binary());
    command.arg("serve").current_dir(folder).envs(settings.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().expect("the program is built: run ./scripts/sim-image")
}

/// The static binary that is in the image too.
fn binary() -> PathBuf {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    target.join(triple).join("release/acemux")
}

/// Below the ephemeral range, so that no outgoing connection takes it before the program does.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 1_000).unwrap_or_default();
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (first..first + 500).find(free).expect("one of 500 ports is free")
}
