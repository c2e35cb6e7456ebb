//! Docker: its socket, and what engines need of it.

use std::io;

use acemux_fleet::docker::Source;
use acemux_fleet::ident::DockerName;
use acemux_fleet::profile::Platform;
use acemux_fleet::provisioner::ProvisionError;
use acemux_fleet::recipe::{Reach, Recipe};
use acemux_fleet::spec::Network;
use tokio::join;

use super::probes::Probes;
use super::report::{Finding, Outcome};
use super::vpn;
use crate::config::{Config, PortRange};
use crate::planes::setup;

const DOCKER: &str = "docker";
const NETWORK: &str = "network";
const IMAGE: &str = "image";
const PORTS: &str = "engine_ports";

const NO_DOCKER: &str = "where there is no Docker, set ENGINE_PROVISIONER=none and ENGINES";

/// Nothing when nobody asks Docker for anything.
pub(super) async fn look(config: &Config, probes: &impl Probes) -> Vec<Finding> {
    if !config.fleet.is_docker {
        return Vec::new();
    }
    let docker = Finding::of(DOCKER, daemon(config, probes)).await;
    if !docker.is_fine() {
        return vec![docker];
    }
    let own_networks = probes.own_networks().await;
    let nobody = "doctor".parse().expect("it is one word");
    let recipe = setup::recipe(config, nobody, own_networks.as_deref());
    let (network, image, ports, vpns) = join!(
        Finding::of(NETWORK, network(&recipe, own_networks.as_deref(), probes)),
        Finding::of(IMAGE, image(config, &recipe, probes)),
        Finding::of(PORTS, ports(config, probes)),
        vpn::look(config, probes),
    );
    // Engines behind a VPN are in its network and have its ports.
    let is_open = !recipe.behind_vpn;
    let is_published = is_open && recipe.reach == Reach::Published;
    let network = Some(network).filter(|_| is_open);
    let ports = Some(ports).filter(|_| is_published);
    [Some(docker), network, Some(image), ports].into_iter().flatten().chain(vpns).collect()
}

async fn daemon(config: &Config, probes: &impl Probes) -> Outcome {
    if let Err(error) = probes.knock().await {
        return not_connected(config, &error);
    }
    match probes.daemon().await {
        Ok(daemon) => {
            Outcome::fine(format!("Docker {} answers (API {})", daemon.version, daemon.api_version))
        }
        Err(error) => Outcome::fault(
            error.to_string(),
            format!("see whether `docker version` answers, and restart Docker if it does not; {NO_DOCKER}"),
        ),
    }
}

/// What stands in `DOCKER_HOST` may hold a password: only a socket's path is shown.
fn place(config: &Config) -> &str {
    match config.fleet.docker_host.as_deref() {
        None => "/var/run/docker.sock",
        Some(host) => host.strip_prefix("unix://").unwrap_or("the address in DOCKER_HOST"),
    }
}

fn not_connected(config: &Config, error: &io::Error) -> Outcome {
    let place = place(config);
    let (wrong, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("there is no Docker socket: {place} does not exist"),
            format!(
                "start Docker; in a container add the volume {place}:{place}; where Docker listens elsewhere, set \
                 DOCKER_HOST; {NO_DOCKER}"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("this user has no permission to use {place}"),
            format!(
                "run acemux as a member of the socket's group (`usermod -aG docker USER`, then log in anew); in Compose \
                 set DOCKER_GID to what `stat -c %g {place}` prints, and where SELinux is on (Fedora, RHEL) add label=disable \
                 to security_opt"
            ),
        ),
        io::ErrorKind::ConnectionRefused => (
            format!("nobody listens at {place}: Docker does not run"),
            format!("start Docker (`systemctl start docker`), or correct DOCKER_HOST; {NO_DOCKER}"),
        ),
        _ => (
            format!("{place} cannot be connected to: {error}"),
            format!("correct DOCKER_HOST, or leave it out for /var/run/docker.sock; {NO_DOCKER}"),
        ),
    };
    Outcome::fault(wrong, remedy)
}

/// `ours` are the networks of the container that we run in, if we do.
async fn network(recipe: &Recipe, ours: Option<&[DockerName]>, probes: &impl Probes) -> Outcome {
    let Network::Named { name, own } = &recipe.network else {
        return Outcome::fine("engines use this machine's network");
    };
    let is_apart = ours.is_some_and(|ours| !ours.contains(name));
    match probes.networks_called(name).await {
        Ok(0) if !*own => Outcome::fault(
            format!("DOCKER_NETWORK={} does not exist", name.as_str()),
            format!("`docker network create {}`, or correct DOCKER_NETWORK, or leave it out", name.as_str()),
        ),
        Ok(0 | 1) if is_apart => not_joined(name),
        Ok(0) => Outcome::fine(format!("{} is made with the first engine", name.as_str())),
        Ok(1) => Outcome::fine(format!("{} exists", name.as_str())),
        Ok(many) => Outcome::fault(
            format!("{many} networks have the name {}: Docker creates nothing in any of them", name.as_str()),
            "`docker network ls` shows their ids: `docker network rm ID` all but one",
        ),
        Err(error) => not_told(&error),
    }
}

/// In a container engines are reached by name, over a network that it is in too. The service sees to that when it starts.
fn not_joined(network: &DockerName) -> Outcome {
    let network = network.as_str();
    Outcome::warning(
        format!("this container is not in the engines' network {network}: they cannot be reached by name"),
        format!(
            "the service puts its container there when it starts, and its log says why when it cannot; then `docker network \
             connect {network}` with the container's name does it"
        ),
    )
}

async fn image(config: &Config, recipe: &Recipe, probes: &impl Probes) -> Outcome {
    if setup::is_custom(config) && config.fleet.engine.image.is_none() {
        return Outcome::fine("the custom variant says which it is; that was not looked at");
    }
    let image = recipe.image().as_str();
    let (found, processor) = join!(probes.find_image(recipe.image()), probes.processor());
    // Without the daemon's word its machine is taken for ours.
    let machine = processor.ok().and_then(|word| word.parse().ok()).unwrap_or_else(|| probes.platform());
    match found {
        Ok(Source::Here { processor }) if runs(machine, &processor) => {
            Outcome::fine(format!("{image} is here"))
        }
        Ok(Source::Here { processor }) => for_another(image, &processor, machine),
        Ok(Source::Registry { processors }) if processors.is_empty() => {
            Outcome::fine(format!("{image} is pulled with the first engine"))
        }
        Ok(Source::Registry { processors }) if processors.iter().any(|one| runs(machine, one)) => {
            Outcome::fine(format!("{image} is pulled with the first engine"))
        }
        Ok(Source::Registry { processors }) => for_another(image, &processors.join(", "), machine),
        Ok(Source::Nowhere { why }) => Outcome::fault(
            format!("there is no image {image}, neither here nor in its registry: {why}"),
            format!(
                "correct ENGINE_IMAGE or ENGINE_VARIANT; `docker login` for a private one, and `docker pull {image}`"
            ),
        ),
        Ok(Source::Unknown { why }) => Outcome::warning(
            format!("{image} is not here, and its registry could not be asked: {why}"),
            format!("see whether `docker pull {image}` works on Docker's machine"),
        ),
        Err(error) => not_told(&error),
    }
}

/// What the daemon does not name cannot be held against the image.
fn runs(machine: Platform, processor: &str) -> bool {
    processor.is_empty() || processor.parse().is_ok_and(|made_for| machine.runs(made_for))
}

fn for_another(image: &str, made_for: &str, machine: Platform) -> Outcome {
    let machine = machine.as_str();
    Outcome::fault(
        format!(
            "there is no image {image} for {machine}: it is for {made_for}, which runs under emulation at best"
        ),
        format!("choose an ENGINE_VARIANT for {machine}, such as outpace, or an ENGINE_IMAGE for it"),
    )
}

async fn ports(config: &Config, probes: &impl Probes) -> Outcome {
    let PortRange { first, last } = config.fleet.ports;
    let wanted = config.fleet.max_replicas;
    // Those of engines that run are not free, and are ours.
    let own = probes.own_ports().await.unwrap_or_default();
    let own = own.into_iter().filter(|port| (first..=last).contains(port)).count();
    let there = own + probes.free_ports(first..=last, wanted.saturating_sub(own));
    let remedy = "set PORT_RANGE_HOST to free ports below 32768, such as 19000-19999";
    match there {
        0 => Outcome::fault(
            format!("no port of PORT_RANGE_HOST={first}-{last} can be used for an engine"),
            remedy,
        ),
        _ if there < wanted => Outcome::warning(
            format!("PORT_RANGE_HOST={first}-{last} has ports for {there} of MAX_REPLICAS={wanted} engines"),
            remedy,
        ),
        _ => Outcome::fine(format!("PORT_RANGE_HOST={first}-{last} has ports for all engines")),
    }
}

/// The daemon answered before, and not to this.
pub(super) fn not_told(error: &ProvisionError) -> Outcome {
    Outcome::warning(
        format!("it could not be found out: {error}"),
        "where a proxy stands before Docker's socket, let it pass GET requests for containers, images, networks and \
         distribution",
    )
}
