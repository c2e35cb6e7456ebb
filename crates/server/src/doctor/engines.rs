//! Engines that already run (`ENGINES`), and the names that must be known to reach anything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use acemux_engine::{Endpoint, EngineError};
use futures_util::future::join_all;
use tokio::join;

use super::probes::Probes;
use super::report::{Finding, Outcome};
use crate::config::Config;
use crate::planes::setup;

const ENGINE: &str = "engine";
const DNS: &str = "dns";

/// Where images come from whose name says no registry.
const DOCKER_HUB: &str = "registry-1.docker.io";

pub(super) async fn look(config: &Config, probes: &impl Probes) -> Vec<Finding> {
    let external = &config.engines.external;
    if external.is_empty() && !config.fleet.is_docker {
        let wrong = "there is none, and nobody creates any";
        let remedy = "set ENGINES=host:port,host:port, or ENGINE_PROVISIONER=docker";
        return vec![Finding::new(ENGINE, Outcome::fault(wrong, remedy))];
    }
    let engines = external.iter().map(|endpoint| async {
        Finding::of(ENGINE, engine(endpoint, probes)).await.about(endpoint.to_string())
    });
    let names = names(config);
    let names = names.iter().map(|(name, need)| async {
        Finding::of(DNS, resolve(name, *need, probes)).await.about(name.as_str())
    });
    let (engines, names) = join!(join_all(engines), join_all(names));
    names.into_iter().chain(engines).collect()
}

async fn engine(endpoint: &Endpoint, probes: &impl Probes) -> Outcome {
    let is_up = "start it, or correct ENGINES; in a container 127.0.0.1 is that container and not its host";
    match probes.engine(endpoint).await {
        Ok(name) => Outcome::fine(format!("it answers: {name}")),
        Err(EngineError::Unreachable { source }) => {
            Outcome::fault(format!("it cannot be reached: {source}"), is_up)
        }
        Err(error @ (EngineError::Timeout { .. } | EngineError::Ended)) => {
            Outcome::fault(error.to_string(), "restart it; a firewall may also drop what is sent to it")
        }
        Err(error @ EngineError::Shortage { .. }) => {
            Outcome::fault(error.to_string(), "see the check of descriptors, and `ulimit -n`")
        }
        Err(error) => Outcome::fault(
            format!("what answers there is no engine: {error}"),
            "correct ENGINES: an engine's HTTP API is meant, usually port 6878",
        ),
    }
}

/// What a name is needed for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Engine,
    Registry,
}

/// Names that are looked up. Addresses need no look-up.
fn names(config: &Config) -> BTreeSet<(String, Need)> {
    let hosts = config.engines.external.iter().map(Endpoint::host);
    let hosts = hosts.filter(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_err());
    let engines = hosts.map(|host| (host.to_owned(), Need::Engine));
    engines.chain(registry(config).map(|host| (host, Need::Registry))).collect()
}

/// None for an image that nobody can pull, and for one whose registry is an address.
fn registry(config: &Config) -> Option<String> {
    let recipe = setup::recipe(config, "doctor".parse().expect("it is one word"), None);
    let image = recipe.image();
    if !config.fleet.is_docker || image.is_bare() {
        return None;
    }
    let (first, _) = image.as_str().split_once('/')?;
    let host = first.split(':').next().unwrap_or(first);
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let host = if is_registry { host } else { DOCKER_HUB };
    (host.parse::<IpAddr>().is_err() && host != "localhost").then(|| host.to_owned())
}

async fn resolve(name: &str, need: Need, probes: &impl Probes) -> Outcome {
    let remedy = "correct the name, or the name server in /etc/resolv.conf (`dns` in Compose)";
    match (probes.resolve(name).await, need) {
        (Ok(()), _) => Outcome::fine("its address is known"),
        (Err(error), Need::Engine) => Outcome::fault(format!("the name is not known: {error}"), remedy),
        (Err(error), Need::Registry) => {
            Outcome::warning(format!("the name is not known, so no image can be pulled: {error}"), remedy)
        }
    }
}
