//! The service's own port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::probes::{Listener, Probes};
use super::report::{Finding, Outcome};
use crate::config::{Config, ListenHost};

const PORT: &str = "port";
/// Only root may listen below.
const FIRST_UNPRIVILEGED: u16 = 1024;

pub(super) async fn look(config: &Config, probes: &impl Probes) -> Vec<Finding> {
    vec![Finding::of(PORT, port(config, probes)).await]
}

/// Where this machine reaches the service.
pub(crate) fn address(config: &Config) -> SocketAddr {
    match config.listen.host {
        ListenHost::Address(address) => SocketAddr::new(address, config.listen.port),
        ListenHost::All => SocketAddr::from((Ipv4Addr::LOCALHOST, config.listen.port)),
    }
}

async fn port(config: &Config, probes: &impl Probes) -> Outcome {
    let (host, port) = (config.listen.host, config.listen.port);
    let Err(error) = probes.listen(host, port).await else {
        return Outcome::fine(format!("APP_PORT={port} is free"));
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(port, address(config), probes).await,
        io::ErrorKind::PermissionDenied if port < FIRST_UNPRIVILEGED => Outcome::fault(
            format!("this user may not listen on APP_PORT={port}: it is below {FIRST_UNPRIVILEGED}"),
            "choose an APP_PORT above it and let a reverse proxy or Docker's `ports` have the low one",
        ),
        io::ErrorKind::AddrNotAvailable => Outcome::fault(
            "APP_HOST is no address of this machine",
            "set APP_HOST to one that `ip address` shows, or leave it out for all",
        ),
        _ => Outcome::fault(
            format!("APP_PORT={port} cannot be listened on: {error}"),
            "choose another APP_PORT or APP_HOST",
        ),
    }
}

async fn taken(port: u16, address: SocketAddr, probes: &impl Probes) -> Outcome {
    match probes.who_listens(address).await {
        Listener::Acemux => Outcome::fine(format!("acemux runs: it answers at {address}")),
        Listener::NotReady(why) => Outcome::warning(
            format!("acemux runs at {address} and takes no streams: {why}"),
            "mend what else is found here; /orchestrator/status and its log say more",
        ),
        Listener::Stranger => Outcome::fault(
            format!("APP_PORT={port} is taken by another program"),
            format!("stop that program (`ss -ltnp 'sport = :{port}'` names it), or choose another APP_PORT"),
        ),
    }
}
