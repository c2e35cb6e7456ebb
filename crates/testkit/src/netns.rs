//! A network that nothing leads out of: machines that are network namespaces, and the wires between them.
//!
//! ```text
//!   test, hub: the program on 127.0.0.1, and whatever addresses of the world the test stands in for
//!     ├── wire1 ─── eth0  machine 1   10.77.1.2
//!     └── wire2 ─── eth0  machine 2   10.77.2.2
//! ```
//!
//! The test runs itself once more, as the first process of its own network, mount and process namespaces. When that process
//! ends, however it ends, everything that was started in there ends with it, and nothing is left on the machine.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::app::within;

/// Set for the run inside.
const INSIDE: &str = "ACEMUX_TEST_NETWORK";
/// Where everything that is started inside has its files: in memory, and gone with it.
const FILES: &str = "/run/files";
/// Longest wait for one command that changes the network.
const PATIENCE: Duration = Duration::from_secs(20);
/// Namespaces of the network, of mounts for names of machines, and of processes, whose first one ends all.
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// The network, seen from its hub.
#[derive(Debug)]
pub struct Network {
    machines: u8,
}

/// A machine with an address and a wire to the hub.
#[derive(Clone, Debug)]
pub struct Machine {
    number: u8,
}

impl Network {
    /// Runs the test of this name inside and waits for it at most so long. There, and only there, it is the network. Outside,
    /// and where no namespaces can be had, which is said, there is nothing more to do.
    pub async fn enter(test: &str, limit: Duration) -> Option<Self> {
        if std::env::var_os(INSIDE).is_some() {
            return Some(Self::lay().await);
        }
        match namespaces().await {
            Some(options) => run_inside(test, options, limit).await,
            None => println!("skipped: no network namespaces can be made here (unshare, from util-linux)"),
        }
        None
    }

    async fn lay() -> Self {
        // Names of namespaces are files below /run/netns, which are not to be seen outside.
        run("mount", &["-t", "tmpfs", "none", "/run"]).await;
        std::fs::create_dir(FILES).expect("it is ours");
        ip(&["link", "set", "lo", "up"]).await;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the namespace is ours");
        Self { machines: 0 }
    }

    /// One more machine, which reaches the hub and all others through it.
    pub async fn machine(&mut self) -> Machine {
        self.machines += 1;
        let machine = Machine { number: self.machines };
        let (name, wire) = (machine.name(), machine.wire());
        let hub = format!("10.77.{}.1", machine.number);
        ip(&["netns", "add", &name]).await;
        ip(&["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &name]).await;
        ip(&["address", "add", &format!("{hub}/24"), "dev", &wire]).await;
        ip(&["link", "set", &wire, "up"]).await;
        ip(&["-n", &name, "link", "set", "lo", "up"]).await;
        ip(&["-n", &name, "address", "add", &format!("{}/24", machine.address()), "dev", "eth0"]).await;
        ip(&["-n", &name, "link", "set", "eth0", "up"]).await;
        ip(&["-n", &name, "route", "add", "default", "via", &hub]).await;
        machine
    }

    /// From now on these names mean these addresses, at the hub and on all machines, and `localhost` what it always does.
    pub async fn name(&self, names: &[(&str, Ipv4Addr)]) {
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        let hosts = "/run/hosts";
        let text = format!("127.0.0.1 localhost\n{}", lines.collect::<String>());
        std::fs::write(hosts, text).expect("it is ours");
        run("mount", &["--bind", hosts, "/etc/hosts"]).await;
    }

    /// From now on the hub is the machine of the world that has this address.
    pub async fn stand_in_for(&self, address: Ipv4Addr) {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]).await;
    }
}

impl Machine {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// One of its ports.
    pub fn port(&self, port: u16) -> SocketAddr {
        (self.address(), port).into()
    }

    /// A command that runs on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name()]).arg(program);
        command
    }

    /// Bytes that have reached it over its wire.
    pub fn received(&self) -> u64 {
        let interfaces = std::fs::read_to_string("/proc/net/dev").expect("it tells of all interfaces");
        let line = interfaces.lines().find_map(|line| line.trim().strip_prefix(&format!("{}:", self.wire())));
        // The end at the hub sends what the machine receives; the ninth figure is what it has sent.
        let sent = line.and_then(|figures| figures.split_whitespace().nth(8)).expect("the wire is there");
        sent.parse().expect("a number")
    }

    fn name(&self) -> String {
        format!("machine{}", self.number)
    }

    fn wire(&self) -> String {
        format!("wire{}", self.number)
    }
}

/// What `unshare` needs to be told here: root makes namespaces, others make one of users first, where they may.
async fn namespaces() -> Option<&'static [&'static str]> {
    for options in [&[][..], &["--map-root-user"]] {
        let mut trial = Command::new("unshare");
        trial.args(options).args(NAMESPACES).arg("true");
        trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = within(PATIENCE, "unshare", trial.status()).await;
        if status.is_ok_and(|status| status.success()) {
            return Some(options);
        }
    }
    None
}

async fn run_inside(test: &str, options: &[&str], limit: Duration) {
    let program = std::env::current_exe().expect("the test runs from a file");
    let mut inside = Command::new("unshare");
    inside.args(options).args(NAMESPACES).arg(program).args([
        test,
        "--exact",
        "--include-ignored",
        "--nocapture",
    ]);
    inside.env(INSIDE, "1").env("TMPDIR", FILES).stdin(Stdio::null()).kill_on_drop(true);
    let output = within(limit, test, inside.output()).await.expect("unshare was there");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "inside its network the test failed: {}", output.status);
    assert!(said.contains("1 passed"), "{test} is not the name of the test");
}

async fn ip(arguments: &[&str]) {
    run("ip", arguments).await;
}

async fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = within(PATIENCE, program, output).await.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}
