//! One container by `docker run`, as people type it and as Unraid makes it of its template: no Compose has put it into a
//! network with its engines.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::process::Command;
use std::time::Duration;

use acemux_testkit::StrictViewer;
use acemux_testkit::docker::{FAST, docker};
use acemux_testkit::http::try_send;
use tokio::time::{Instant, sleep};

use super::said;
use crate::ID;
use crate::docs::read;

/// Longest wait for the first engine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Whose files on Unraid's shares are.
const NOBODY: (u32, u32) = (99, 100);

/// What stands in the template between these tags.
fn template(tag: &str) -> String {
    let text = read("deploy/unraid/acemux.xml");
    let inside = text.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split("</").next());
    inside.expect("the template has it").to_owned()
}

/// A container of the service. Dropping it removes it and its engines.
struct Alone {
    name: String,
    _data: tempfile::TempDir,
}

impl Alone {
    /// As the template has it, but for the network and these arguments.
    async fn run(network: &str, ports: &str, arguments: &[&str]) -> Self {
        let name = format!("acemux-alone-{network}-{}", std::process::id());
        let data = tempfile::tempdir().expect("a folder");
        if let Err(error) = chown(data.path(), Some(NOBODY.0), Some(NOBODY.1)) {
            println!("its data directory is not somebody else's: {error}");
        }
        let mount = format!("{}:/data", data.path().display());
        let rights = template("ExtraParams");
        let settings = [
            format!("INSTANCE_ID={name}"),
            format!("ENGINE_IMAGE={FAST}"),
            "ENGINE_VARIANT=krinkuto11-amd64".to_owned(),
            format!("PORT_RANGE_HOST={ports}"),
            "MIN_REPLICAS=1".to_owned(),
            "MAX_REPLICAS=2".to_owned(),
        ];
        let mut run = vec!["run", "--detach", "--name", &name, "--network", network];
        run.extend(rights.split_whitespace());
        run.extend(["--volume", &mount, "--volume", "/var/run/docker.sock:/var/run/docker.sock"]);
        run.extend(settings.iter().flat_map(|setting| ["--env", setting]));
        run.extend(arguments);
        let image = template("Repository");
        run.push(&image);
        docker(&run).await;
        Self { name, _data: data }
    }

    async fn plays(&self, address: SocketAddr) {
        let began = Instant::now();
        let ask = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        while try_send(address, ask).await.map_or(0, |reply| reply.status) != 200 {
            assert!(began.elapsed() < PATIENCE, "it does not become ready: {}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
        let mut viewer = StrictViewer::open(address, ID).await;
        viewer.watch(Duration::from_secs(2)).await;
        viewer.assert_perfect();
        let found = docker(&["exec", &self.name, "/acemux", "doctor"]).await;
        assert!(found.contains("0 fault(s)") && !found.contains("not in the engines' network"), "{found}");
    }

    /// Ports of its engines, as Docker shows them.
    async fn published(&self) -> String {
        let instance = format!("label=io.acemux.instance={}", self.name);
        docker(&["ps", "--format", "{{.Ports}}", "--filter", &instance]).await
    }

    fn log(&self) -> String {
        let log = Command::new("docker").args(["logs", &self.name]).output();
        log.map_or_else(|error| error.to_string(), |log| said(&log))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let instance = format!("label=io.acemux.instance={}", self.name);
        let engines = Command::new("docker").args(["ps", "-aq", "--filter", &instance]).output();
        let engines = engines.map_or_else(|_| String::new(), |engines| said(&engines));
        let all = std::iter::once(self.name.as_str()).chain(engines.split_whitespace());
        for container in all {
            let _gone = Command::new("docker").args(["rm", "--force", "--volumes", container]).output();
        }
        // Unless somebody else is in it.
        let _gone = Command::new("docker").args(["network", "rm", "acemux"]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_of_unraids_template_reaches_its_engines_also_after_a_restart() {
    assert_eq!(template("Network"), "bridge", "which knows no names");
    let alone = Alone::run("bridge", "22360-22369", &["--publish", "127.0.0.1::8000"]).await;
    let address = async || -> SocketAddr {
        docker(&["port", &alone.name, "8000/tcp"]).await.parse().expect("one address")
    };
    alone.plays(address().await).await;
    assert!(!alone.published().await.contains("->"), "engines are reached by name");
    docker(&["restart", &alone.name]).await;
    alone.plays(address().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_in_the_machines_network_reaches_its_engines_at_their_published_ports() {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("one").port();
    let setting = format!("APP_PORT={port}");
    let alone = Alone::run("host", "22370-22379", &["--env", &setting]).await;
    alone.plays((Ipv4Addr::LOCALHOST, port).into()).await;
    assert!(alone.published().await.contains("127.0.0.1:2237"), "{}", alone.published().await);
}
