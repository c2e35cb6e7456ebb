//! VPN containers: read by name, and restarted when the plan says so. They belong to somebody else; the operator has named
//! them in the settings.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::Docker as Client;
use bollard::models::{
    ContainerInspectResponse, EndpointSettings, EventMessage, Health, HealthStatusEnum, NetworkSettings,
};
use bollard::query_parameters::{InspectContainerOptions, RestartContainerOptions};
use jiff::Timestamp;

use super::read::{clean, id, state_of};
use super::{Docker, INSPECT};
use crate::ident::{ContainerId, DockerName};
use crate::provisioner::{Check, ProvisionError, VpnChange, VpnContainer};

/// Longest restart: a VPN takes back its firewall and routes before it ends.
const RESTART: Duration = Duration::from_secs(30);
/// Time a VPN has to end by itself before it is killed.
const STOP_SECONDS: i32 = 10;
/// SIGINT, SIGQUIT, SIGKILL and SIGTERM, as the daemon writes them: what programs end at. Others have a meaning of the
/// program's own.
const ENDING: [&str; 4] = ["2", "3", "9", "15"];

impl Docker {
    pub(super) async fn look_at_vpn(
        &self,
        name: &DockerName,
    ) -> Result<Option<VpnContainer>, ProvisionError> {
        let inspect = async |client: Client| {
            client.inspect_container(name.as_str(), None::<InspectContainerOptions>).await
        };
        let (found, joined) = tokio::join!(self.call(INSPECT, inspect), self.joined_networks());
        let found = match found {
            Ok(found) => found,
            Err(failure) if failure.status() == Some(404) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        read(found, self.0.joined.lock().await.latest(joined)).map(Some)
    }

    pub(super) async fn restart(&self, id: &ContainerId) -> Result<(), ProvisionError> {
        let restart = async |client: Client| {
            let options =
                RestartContainerOptions { t: Some(STOP_SECONDS), ..RestartContainerOptions::default() };
            client.restart_container(id.as_str(), Some(options)).await
        };
        Ok(self.queued(&self.0.making, RESTART, restart).await?)
    }
}

/// What these events come to for the container of this name; `None` when they are all of others: the daemon's own filter
/// takes `gluetun2` for `gluetun`, too.
///
/// It tells of `docker stop`, `restart` and `rm --force` when it sends the signal, and shows the container as running until
/// it has ended and been tidied up, ten seconds later and more.
pub(super) fn change(name: &DockerName, events: &[EventMessage]) -> Option<VpnChange> {
    let of_it = events.iter().filter(|event| attribute(event, "name") == Some(name.as_str()));
    of_it.fold(None, |change, event| match event.action.as_deref() {
        Some("die") => Some(ending(event)),
        Some("kill") if attribute(event, "signal").is_some_and(|signal| ENDING.contains(&signal)) => {
            Some(ending(event))
        }
        // What has followed is seen by looking.
        Some("start" | "destroy") => Some(VpnChange::Other),
        // Health checks and the like go on meanwhile.
        _ => change.or(Some(VpnChange::Other)),
    })
}

fn ending(event: &EventMessage) -> VpnChange {
    let at = event.time_nano.and_then(|time| Timestamp::from_nanosecond(time.into()).ok());
    at.map_or(VpnChange::Other, |at| VpnChange::Ending { at })
}

fn attribute<'a>(event: &'a EventMessage, key: &str) -> Option<&'a str> {
    event.actor.as_ref()?.attributes.as_ref()?.get(key).map(String::as_str)
}

/// The networks that this process is in. One failed look at ourselves moves no engine to another address.
#[derive(Default)]
pub(super) struct Joined(Vec<String>);

impl Joined {
    /// What was told, or what was told last.
    fn latest(&mut self, told: Option<Vec<String>>) -> &[String] {
        if let Some(told) = told {
            self.0 = told;
        }
        &self.0
    }
}

/// `ours` are the networks that this process is in, if it runs in a container.
fn read(found: ContainerInspectResponse, ours: &[String]) -> Result<VpnContainer, ProvisionError> {
    let state = found.state.unwrap_or_default();
    let word = state.status.map(|status| status.to_string()).unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let network = found.network_settings.unwrap_or_default();
    let is_on_host = found.host_config.and_then(|host| host.network_mode).as_deref() == Some("host");
    Ok(VpnContainer {
        id: id(found.id)?,
        name: clean(found.name.unwrap_or_default().trim_start_matches('/')),
        image: clean(&config.image.unwrap_or_default()),
        state: state_of(&word)?,
        check: check(state.health.as_ref()),
        started: clean(&state.started_at.unwrap_or_default()),
        addresses: if is_on_host { vec![Ipv4Addr::LOCALHOST.into()] } else { addresses(network, ours) },
        env: config
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    })
}

fn check(health: Option<&Health>) -> Option<Check> {
    match health?.status? {
        HealthStatusEnum::STARTING => Some(Check::Starting),
        HealthStatusEnum::HEALTHY => Some(Check::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Check::Unhealthy),
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => None,
    }
}

/// Those on networks that we share first, then by the networks' names, so that the answer is always the same; IPv4 before
/// IPv6.
fn addresses(network: NetworkSettings, ours: &[String]) -> Vec<IpAddr> {
    let mut networks: Vec<_> = network.networks.unwrap_or_default().into_iter().collect();
    networks.sort_by_key(|(name, _)| (!ours.contains(name), name.clone()));
    let of = |endpoint: EndpointSettings| [endpoint.ip_address, endpoint.global_ipv6_address];
    let texts = networks.into_iter().flat_map(|(_, endpoint)| of(endpoint)).flatten();
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provisioner::ContainerState;

    fn inspected() -> ContainerInspectResponse {
        serde_json::from_value(json!({
            "Id": "a".repeat(64),
            "Name": "/gluetun",
            "State": {
                "Status": "running",
                "StartedAt": "2026-11-28T22:45:43.123456789Z",
                "Health": { "Status": "healthy" },
            },
            "Config": { "Image": "qmcgaw/gluetun", "Env": ["WIREGUARD_PRIVATE_KEY=hush=", "PATH=/bin", "ODD"] },
            "HostConfig": { "NetworkMode": "apps" },
            "NetworkSettings": {
                "Networks": {
                    "apps": { "IPAddress": "172.20.0.3", "GlobalIPv6Address": "" },
                    "zoo": { "IPAddress": "172.21.0.3", "GlobalIPv6Address": "fd00::3" },
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_vpn_is_reached_over_a_network_that_we_share_and_nothing_of_its_credentials_is_shown() {
        let vpn = read(inspected(), &["zoo".to_owned()]).unwrap();
        let addresses: Vec<String> = vpn.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["172.21.0.3", "fd00::3", "172.20.0.3"]);
        assert_eq!(read(inspected(), &[]).unwrap().addresses[0].to_string(), "172.20.0.3");
        assert_eq!(
            (vpn.name.as_str(), vpn.state, vpn.check),
            ("gluetun", ContainerState::Running, Some(Check::Healthy))
        );
        assert_eq!(vpn.env.get("WIREGUARD_PRIVATE_KEY").map(String::as_str), Some("hush="));
        assert!(!format!("{vpn:?}").contains("hush"), "{vpn:?}");
    }

    #[test]
    fn a_failed_look_at_ourselves_moves_no_engine() {
        let mut joined = Joined::default();
        let mut first = |told| read(inspected(), joined.latest(told)).unwrap().addresses[0].to_string();
        assert_eq!(first(None), "172.20.0.3", "nothing is known yet");
        for told in [Some(vec!["zoo".to_owned()]), None, None] {
            assert_eq!(first(told), "172.21.0.3");
        }
        assert_eq!(first(Some(Vec::new())), "172.20.0.3", "we have left it");
    }

    #[test]
    fn another_start_is_another_namespace_and_a_paused_vpn_has_none() {
        let vpn = read(inspected(), &[]).unwrap();
        let mut restarted = vpn.clone();
        restarted.started = "2026-11-28T22:46:00Z".to_owned();
        assert_ne!(vpn.namespace(), restarted.namespace());
        let mut paused = inspected();
        paused.state.as_mut().unwrap().status = Some(bollard::models::ContainerStateStatusEnum::PAUSED);
        assert!(!read(paused, &[]).unwrap().is_running());
    }

    #[test]
    fn a_signal_that_ends_it_is_told_apart_from_others_and_from_those_of_other_containers() {
        let event = |name: &str, action: &str, signal: &str| -> EventMessage {
            let actor = json!({ "Attributes": { "name": name, "signal": signal } });
            serde_json::from_value(
                json!({ "Action": action, "Actor": actor, "timeNano": 1_795_935_236_000_000_000_i64 }),
            )
            .unwrap()
        };
        let ours = |action: &str, signal: &str| event("gluetun", action, signal);
        let of = |events: &[EventMessage]| change(&"gluetun".parse().unwrap(), events);
        let ends = Some(VpnChange::Ending { at: Timestamp::from_second(1_795_935_236).unwrap() });
        let other = Some(VpnChange::Other);
        for signal in ["15", "9", "2", "3"] {
            assert_eq!(of(&[ours("kill", signal)]), ends, "{signal}");
        }
        assert_eq!(of(&[ours("kill", "1")]), other, "it reads its settings anew");
        assert_eq!(of(&[ours("pause", "")]), other);
        assert_eq!(of(&[ours("kill", "15"), ours("die", "")]), ends);
        assert_eq!(of(&[ours("die", "")]), ends, "by itself");
        assert_eq!(of(&[ours("kill", "15"), ours("exec_die", "")]), ends);
        assert_eq!(of(&[ours("kill", "15"), ours("die", ""), ours("start", "")]), other);
        assert_eq!(of(&[event("gluetun2", "kill", "15")]), None);
        assert_eq!(of(&[event("gluetun2", "kill", "15"), ours("top", "")]), other);
    }

    #[test]
    fn on_the_hosts_network_it_is_this_machine() {
        let mut found = inspected();
        found.host_config.as_mut().unwrap().network_mode = Some("host".to_owned());
        assert_eq!(read(found, &[]).unwrap().addresses, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }
}
