//! One look at a gluetun container for somebody who asks once and goes, such as a person who looks for a fault. Nothing is
//! remembered and nothing judged over time: that is what [`Gluetun`](super::Gluetun) is for.

use std::net::IpAddr;

use super::Settings;
use super::auth::{self, Credentials};
use super::client::{Answer, Client};
use super::look::Look;
use crate::ident::DockerName;
use crate::provisioner::{Check, ContainerState, ProvisionError, Provisioner, VpnContainer};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visit {
    /// No container has this name.
    Absent,
    /// It does not run.
    Stopped(ContainerState),
    /// It runs.
    Running {
        /// What the check in its image says.
        check: Option<Check>,
        /// What its control server says.
        control: Control,
    },
}

/// What a control server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// It answers.
    Says {
        /// What the VPN does, in gluetun's word.
        status: &'static str,
        /// Whether nothing passes and nothing is about to.
        is_off: bool,
        /// Where traffic comes out, if it knows.
        address: Option<IpAddr>,
    },
    /// It answers 401 to what is asked.
    Closed {
        /// The line that its operator must add, without any secret.
        remedy: String,
    },
    /// No answer, or none that can be understood: one line.
    Silent(String),
}

/// Looks once. As long as Docker and the control server may take: at most 8 s.
pub async fn visit(
    name: &DockerName,
    settings: &Settings,
    provisioner: &dyn Provisioner,
) -> Result<Visit, ProvisionError> {
    let Some(container) = provisioner.vpn(name).await? else { return Ok(Visit::Absent) };
    if !container.is_running() {
        return Ok(Visit::Stopped(container.state));
    }
    let look = Look { name, settings, provisioner, inside: Vec::new() };
    let control = ask(&look, &container).await;
    Ok(Visit::Running { check: container.check, control })
}

async fn ask(look: &Look<'_>, container: &VpnContainer) -> Control {
    let Some(address) = look.control(container) else {
        return Control::Silent("Docker shows no address of its container".to_owned());
    };
    let credentials = Credentials::of(&look.settings.credentials, &container.env);
    let client = Client::new(address, credentials.clone());
    let (status, place, port) = tokio::join!(client.status(), client.place(), client.port());
    let closed: Vec<_> = [status.closed(), place.closed(), port.closed()].into_iter().flatten().collect();
    if !closed.is_empty() {
        return Control::Closed { remedy: auth::role_to_add(&closed, &credentials) };
    }
    match status {
        Answer::Says(status) => Control::Says {
            status: status.as_str(),
            is_off: status.is_off(),
            address: place.said().and_then(|place| place.address),
        },
        // Closed has been dealt with.
        Answer::Closed { route } => Control::Silent(format!("its control server is closed on {route}")),
        Answer::Unknown(why) => Control::Silent(why),
    }
}
