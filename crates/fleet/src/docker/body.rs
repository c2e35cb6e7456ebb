//! The request that creates an engine's container (the security profile), and what a refusal of it means.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::Failure;
use crate::allowed::HostPort;
use crate::provisioner::ProvisionError;
use crate::spec::{EngineSpec, Limits, Network};

/// Engines are killed for memory before the service that replaces them.
const OOM_SCORE: i64 = 500;

/// The whole request.
pub(super) fn of(spec: &EngineSpec) -> ContainerCreateBody {
    let ports = || spec.publish.iter().map(|port| format!("{port}/tcp"));
    ContainerCreateBody {
        image: Some(spec.image.to_string()),
        env: Some(spec.env.iter().map(ToString::to_string).collect()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        labels: Some(spec.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect()),
        exposed_ports: Some(ports().collect()),
        host_config: Some(HostConfig {
            network_mode: Some(network_mode(&spec.network)),
            port_bindings: Some(
                ports().zip(&spec.publish).map(|(name, port)| (name, Some(vec![local(*port)]))).collect(),
            ),
            ..limits(&spec.limits)
        }),
        networking_config: alias(spec),
        ..ContainerCreateBody::default()
    }
}

/// Published for this host only: Docker's rules pass by most host firewalls.
fn local(port: HostPort) -> PortBinding {
    PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) }
}

fn network_mode(network: &Network) -> String {
    match network {
        Network::Named { name, .. } => name.as_str().to_owned(),
        Network::Container(id) => format!("container:{}", id.as_str()),
        Network::Host => "host".to_owned(),
    }
}

/// The name as an alias stays when somebody renames the container. Docker's predefined networks have no aliases.
fn alias(spec: &EngineSpec) -> Option<NetworkingConfig> {
    let Network::Named { name, .. } = &spec.network else { return None };
    if matches!(name.as_str(), "bridge" | "host" | "none" | "default") {
        return None;
    }
    let endpoint = EndpointSettings { aliases: Some(vec![spec.name.clone()]), ..EndpointSettings::default() };
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(name.as_str().to_owned(), endpoint)])) })
}

fn limits(limits: &Limits) -> HostConfig {
    let memory = limits.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let security = (!limits.new_privileges).then(|| vec!["no-new-privileges:true".to_owned()]);
    let tmpfs = limits.tmpfs.iter().map(|(path, bytes)| (path.clone(), format!("rw,size={bytes},mode=1777")));
    HostConfig {
        memory,
        // Equal: no swap.
        memory_swap: memory,
        nano_cpus: limits.nano_cpus,
        pids_limit: Some(limits.pids),
        readonly_rootfs: Some(limits.read_only),
        tmpfs: Some(tmpfs.collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: (!limits.capabilities.is_empty())
            .then(|| limits.capabilities.iter().map(ToString::to_string).collect()),
        security_opt: security,
        privileged: Some(false),
        init: Some(true),
        oom_score_adj: Some(OOM_SCORE),
        // We reap: a daemon that restarts kills and removes containers with AutoRemove, and their logs tell us why
        // they ended.
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "10m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// What a refused creation or start means for the next attempt.
pub(super) fn refused(failure: Failure, spec: &EngineSpec) -> ProvisionError {
    let message = failure.message().to_lowercase();
    let is_port = ["port is already allocated", "address already in use", "ports are not available"];
    if failure.status() == Some(409) && message.contains("name") {
        ProvisionError::NameTaken { name: spec.name.clone() }
    } else if is_port.iter().any(|words| message.contains(words)) {
        ProvisionError::PortTaken { port: spec.http_port.get() }
    } else if failure.is_missing_image() {
        let detail = "it is not here".to_owned();
        ProvisionError::ImageUnavailable { image: spec.image.to_string(), detail }
    } else if message.contains("network") || is_vpn_gone(spec, &message) {
        let network = network_mode(&spec.network);
        let detail = ProvisionError::from(failure).to_string();
        ProvisionError::Network { network, detail }
    } else {
        failure.into()
    }
}

/// The container whose network it was to join is not there any more. An image that is missing is told apart before.
fn is_vpn_gone(spec: &EngineSpec, message: &str) -> bool {
    matches!(spec.network, Network::Container(_)) && message.contains("no such container")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::{Extra, HostPorts};
    use crate::profile::{ArmTags, Profile, Variant};
    use crate::recipe::{EnginePorts, Reach, Recipe};

    fn recipe() -> Recipe {
        Recipe {
            profile: Profile::of(Variant::Outpace, &ArmTags::default()),
            image: None,
            limits: Limits { memory: Some(512 << 20), nano_cpus: Some(2_000_000_000), ..Limits::default() },
            read_only: true,
            network: Network::Named { name: "acemux".parse().unwrap(), own: true },
            behind_vpn: false,
            reach: Reach::Published,
            map_https: false,
            label: "orchestrator.managed=acestream".parse().unwrap(),
            instance: "test".parse().unwrap(),
        }
    }

    #[test]
    fn an_engine_gets_no_right_that_it_does_not_need() {
        let port = |port| HostPorts::new(port..=port).port(port).unwrap();
        let ports = EnginePorts { http: port(19_001), https: port(45_001), p2p: None, shared: None };
        let spec = recipe().spec(1, "acestream-1", ports, &Extra::default());
        let body = serde_json::to_value(of(&spec)).unwrap();
        let body = serde_json::to_string_pretty(&body["HostConfig"]).unwrap();
        insta::assert_snapshot!(body);
    }
}
