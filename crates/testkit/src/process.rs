//! The program as a process of its own, on engines that somebody else runs: for what can be done to a process alone, and
//! for what a process alone shows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::app::within;
use crate::http::get;

/// Longest wait for its first page, and for a command that sends a signal.
const PATIENCE: Duration = Duration::from_secs(20);

/// The running program. Dropping it ends the process.
pub struct Process {
    /// Where it listens.
    pub address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Process {
    /// Starts it on these engines with these settings; everything else is as shipped, but that tests need no key.
    pub async fn start(engines: &[SocketAddr], settings: &[(&str, &str)]) -> Self {
        Self::run("true", engines, settings).await
    }

    /// The same with no more than so many descriptors.
    pub async fn start_with_descriptors(
        descriptors: u32,
        engines: &[SocketAddr],
        settings: &[(&str, &str)],
    ) -> Self {
        Self::run(&format!("ulimit -n {descriptors}"), engines, settings).await
    }

    /// The same as user 65532 of no other group, without a single capability and without a way to get one.
    pub async fn start_unprivileged(engines: &[SocketAddr], settings: &[(&str, &str)]) -> Self {
        let drop =
            "--reuid 65532 --regid 65532 --clear-groups --inh-caps -all --bounding-set -all --no-new-privs";
        Self::run(&format!("exec setpriv {drop} \"$0\" serve"), engines, settings).await
    }

    async fn run(limits: &str, engines: &[SocketAddr], settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("acemux-process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let engines: Vec<String> = engines.iter().map(ToString::to_string).collect();
        let engines = engines.join(",");
        let usual = [
            ("APP_HOST", "127.0.0.1"),
            ("APP_PORT", "0"),
            ("OPERATOR_WITHOUT_KEY", "loopback"),
            ("ENGINES", engines.as_str()),
        ];
        let child = spawn(limits, &folder, usual.iter().chain(settings).copied());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Self { address, folder, child };
        process.address = process.listens().await;
        assert_eq!(get(process.address, "/livez").await.status, 200);
        process
    }

    /// The address that its log names.
    async fn listens(&self) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let named = log.split("address").skip(1).find_map(|after| {
                let after = after.trim_start_matches(['=', '"', ':']);
                after.split([' ', '"', ',', '\n']).next()?.parse().ok()
            });
            if let Some(address) = named {
                return address;
            }
            assert!(Instant::now() < deadline, "it never said where it listens; its log:\n{log}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The whole process stands still, as when its machine is suspended, until it is resumed.
    pub async fn suspend(&self) {
        self.signal("STOP").await;
    }

    /// It goes on where it was.
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status();
        let status = within(PATIENCE, "kill", sent).await.expect("kill is installed");
        assert!(status.success(), "kill -{name} {process}: {status}");
    }

    /// What the kernel says of it.
    pub fn status(&self) -> String {
        let process = self.child.id().expect("it runs");
        std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs")
    }

    /// Memory that it holds, bytes.
    pub fn resident(&self) -> u64 {
        let status = self.status();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A page's JSON.
    pub async fn page(&self, path: &str) -> Value {
        get(self.address, path).await.json().await
    }

    /// A page's text.
    pub async fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&get(self.address, path).await.body().await.0).into_owned()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself. A process that stands still can be ended, too.
        let _killed = self.child.start_kill();
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

/// Nothing of the environment of the test reaches it. It is started as a careless supervisor would, without a umask: what it
/// keeps from others it keeps itself. `limits` are commands of the shell that starts it.
fn spawn<'a>(limits: &str, folder: &Path, settings: impl Iterator<Item = (&'a str, &'a str)>) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log file");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("umask 000 && {limits} && exec \"$0\" serve")])
        .arg(binary())
        .current_dir(folder)
        .env_clear()
        .envs(settings);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().expect("the program can be run")
}

/// The program beside this test's own binary, made from the sources as they are.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test runs from a file");
    let folder = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let (program, sources) = (folder.join("acemux"), folder.join("acemux.d"));
    let built = changed(&program);
    let listed = std::fs::read_to_string(sources).unwrap_or_default();
    let newer = listed.split_whitespace().find(|source| changed(Path::new(source)) > built);
    let is_current = built.is_some() && newer.is_none();
    assert!(is_current, "{} is missing or old ({newer:?}): run cargo build", program.display());
    program
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|data| data.modified()).ok()
}
