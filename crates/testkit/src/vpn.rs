//! Simulated gluetuns in containers, whose networks engines really join (`scripts/sim-image`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::docker::docker;
use crate::http::try_send;

/// The image of a gluetun.
pub const GLUETUN: &str = "acemux-sim:gluetun";
/// The image of an engine that loses its swarm with the tunnel that it is in.
pub const INSIDE: &str = "acemux-sim:tunnel";

/// Where it is told what to do.
const SCRIPT: u16 = 9_998;
/// Longest wait for its script port.
const PATIENCE: Duration = Duration::from_secs(20);

/// One gluetun. Dropping it removes its container.
pub struct VpnContainer {
    /// The container's name.
    pub name: String,
    settings: Vec<String>,
}

impl VpnContainer {
    /// Runs one: `test` and `number` make its name, `number` its exit 203.0.113.`number` and its forwarded port
    /// 40000 + `number`.
    pub async fn start(test: &str, number: u8) -> Self {
        Self::with(test, number, &["SIM_GLUETUN=3.41", "VPN_PORT_FORWARDING=on"]).await
    }

    /// The same with these variables.
    pub async fn with(test: &str, number: u8, variables: &[&str]) -> Self {
        let own = [
            format!("SIM_PUBLIC_IP=203.0.113.{number}"),
            format!("SIM_FORWARDED_PORTS={}", 40_000 + u16::from(number)),
            "HTTP_CONTROL_SERVER_ADDRESS=:8001".to_owned(),
            "VPN_SERVICE_PROVIDER=protonvpn".to_owned(),
        ];
        let settings = own.into_iter().chain(variables.iter().map(|one| (*one).to_owned())).collect();
        let vpn = Self { name: format!("{test}-vpn{number}-{}", std::process::id()), settings };
        vpn.run().await;
        vpn
    }

    async fn run(&self) {
        let mut arguments = vec!["run", "--detach", "--name", self.name.as_str()];
        // As quick as Docker can be, so that tests are.
        arguments.extend(["--health-interval", "1s", "--health-retries", "3", "--health-timeout", "1s"]);
        arguments.extend(self.settings.iter().flat_map(|variable| ["--env", variable.as_str()]));
        arguments.push(GLUETUN);
        docker(&arguments).await;
    }

    /// `docker <command> <name>`.
    pub async fn docker(&self, command: &[&str]) {
        docker(&[command, &[self.name.as_str()]].concat()).await;
    }

    /// The container goes, and another one of its name comes.
    pub async fn recreate(&self) {
        self.docker(&["rm", "--force"]).await;
        self.run().await;
    }

    /// Its full id.
    pub async fn id(&self) -> String {
        docker(&["inspect", "--format", "{{.Id}}", &self.name]).await
    }

    /// Tells it something on its script port. Returns its status.
    pub async fn tell(&self, page: &str, order: &Value) -> Value {
        let (address, body) = (self.script().await, order.to_string());
        let request = format!(
            "POST /__sim/{page} HTTP/1.1\r\nHost: gluetun\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let began = Instant::now();
        loop {
            match try_send(address, &request).await {
                Ok(mut reply) => return reply.json().await,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{}: {error}", self.name),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The tunnel goes up or down.
    pub async fn set_up(&self, up: bool) {
        self.tell("tunnel", &json!({ "up": up })).await;
    }

    async fn script(&self) -> SocketAddr {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address: IpAddr =
            docker(&["inspect", "--format", format, &self.name]).await.parse().expect("an address");
        SocketAddr::new(address, SCRIPT)
    }
}

impl Drop for VpnContainer {
    fn drop(&mut self) {
        // What is left over has a name of its own and disturbs nobody.
        let _removed = std::process::Command::new("docker").args(["rm", "--force", &self.name]).output();
    }
}
