//! The VPN containers that engines hide behind.

use acemux_fleet::provisioner::Check;
use acemux_fleet::tunnel::gluetun::visit::{Control, Visit};
use futures_util::future::join_all;

use super::docker::not_told;
use super::probes::Probes;
use super::report::{Finding, Outcome};
use crate::config::Config;

const VPN: &str = "vpn";

/// Each by itself, at once.
pub(super) async fn look(config: &Config, probes: &impl Probes) -> Vec<Finding> {
    let each = config.vpn.tunnels.iter().map(|tunnel| async {
        let name = tunnel.container.as_str();
        let judged = async {
            match probes.visit(&tunnel.container).await {
                Ok(visit) => judge(config, name, visit),
                Err(error) => not_told(&error),
            }
        };
        Finding::of(VPN, judged).await.about(name)
    });
    join_all(each).await
}

fn judge(config: &Config, name: &str, visit: Visit) -> Outcome {
    let logs = || format!("`docker logs {name}` says why");
    match visit {
        Visit::Absent => Outcome::fault(
            "Docker has no container of this name",
            "start gluetun, or correct GLUETUN_CONTAINER_NAME",
        ),
        Visit::Stopped(state) => Outcome::fault(
            format!("its container does not run: it is {}", state.as_str()),
            format!("`docker start {name}`; {}", logs()),
        ),
        Visit::Running { control: Control::Says { status, is_off: true, .. }, .. } => {
            Outcome::fault(format!("gluetun says that its VPN is {status}"), logs())
        }
        Visit::Running { control: Control::Closed { remedy }, .. } => {
            Outcome::fault("its control server answers 401 to us: its port and address stay unknown", remedy)
        }
        Visit::Running { control: Control::Silent(why), .. } => Outcome::fault(
            why,
            "put acemux and gluetun into one Docker network, and set GLUETUN_API_PORT where gluetun's control server has \
             another port than HTTP_CONTROL_SERVER_ADDRESS says",
        ),
        Visit::Running { check: Some(Check::Unhealthy), .. } => {
            Outcome::fault("its health check fails: no traffic passes", logs())
        }
        Visit::Running { control: Control::Says { address: Some(address), .. }, .. }
            if config.vpn.host_addresses.contains(&address) =>
        {
            Outcome::fault("its traffic comes out at this machine's own address (HOST_PUBLIC_IP)", logs())
        }
        Visit::Running { check: Some(Check::Starting), .. } => {
            Outcome::warning("its health check has not passed yet", "ask again in a minute")
        }
        Visit::Running { control: Control::Says { status, address, .. }, .. } => {
            let exit = address.map(|address| format!(" and comes out at {address}")).unwrap_or_default();
            Outcome::fine(format!("its container runs, its VPN is {status}{exit}"))
        }
    }
}
