//! The network that engines are in: it exists once before an engine is created.

use std::collections::HashMap;

use bollard::Docker as Client;
use bollard::models::{Network as Listed, NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};

use super::{CREATE, Docker, Failure, INSPECT, LIST, REMOVE, this_container};
use crate::provisioner::ProvisionError;
use crate::spec::{Network, label};

/// Value of the product's label on a network that we have made.
const ROLE: &str = "network";

impl Docker {
    /// Puts the container that this process runs in into that network as well, which is made first when it is our own and not
    /// there yet. `docker run` puts a container into Docker's default network, and engines are reached by name, which
    /// that one does not know.
    pub async fn join(&self, network: &Network) -> Result<(), ProvisionError> {
        let (Network::Named { name, .. }, Some(container)) = (network, this_container()) else {
            return Ok(());
        };
        self.ensure_network(network).await?;
        let request = NetworkConnectRequest { container, ..NetworkConnectRequest::default() };
        let connect = async |client: Client| client.connect_network(name.as_str(), request).await;
        match self.call(CREATE, connect).await {
            Ok(()) => Ok(()),
            // So it says when it is in there.
            Err(failure) if failure.status() == Some(403) && failure.message().contains("already exists") => {
                Ok(())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) async fn ensure_network(&self, network: &Network) -> Result<(), ProvisionError> {
        let Network::Named { name, own } = network else { return Ok(()) };
        let name = name.as_str();
        let inspect =
            async |client: Client| client.inspect_network(name, None::<InspectNetworkOptions>).await;
        match self.call(INSPECT, inspect).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.status() == Some(404) && *own => self.create_network(name).await,
            Err(failure) if failure.status() == Some(404) => {
                let detail = "it does not exist: create it, or leave DOCKER_NETWORK out";
                Err(no_network(name, detail.to_owned()))
            }
            // Two have this name, says Docker; which answer it gives to that depends on its version.
            Err(failure) if failure.status().is_some() && *own => {
                self.leave_one(name).await.map_err(|error| no_network(name, error.to_string()))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn create_network(&self, name: &str) -> Result<(), ProvisionError> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([(label::PRODUCT.to_owned(), ROLE.to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let create = async |client: Client| client.create_network(request).await;
        let created = self.queued(&self.0.making, CREATE, create).await;
        match created {
            Ok(_) => self.leave_one(name).await,
            // Somebody else was faster.
            Err(failure) if failure.status() == Some(409) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
        .map_err(|error: ProvisionError| no_network(name, error.to_string()))
    }

    /// Docker before API 1.44 gives two networks the same name when two ask for it at the same moment, and creates no
    /// container in either of them afterwards. When all are ours, those that nobody uses go but the oldest. Two that do
    /// this at once go through them in the same order and stop at the same one, and what running containers are in Docker
    /// does not remove.
    async fn leave_one(&self, name: &str) -> Result<(), ProvisionError> {
        let mut same = self.networks_named(name).await?;
        let mut left = same.len();
        if !same.iter().all(is_ours) {
            same.clear();
        }
        for network in same.iter().filter_map(|network| network.id.as_deref()) {
            if left <= 1 {
                break;
            }
            let remove = async |client: Client| client.remove_network(network).await;
            match self.queued(&self.0.ending, REMOVE, remove).await {
                Ok(()) => left -= 1,
                Err(failure) if failure.status() == Some(404) => left -= 1,
                // It is in use.
                Err(Failure::Docker(_)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let detail = match left {
            1 => return Ok(()),
            0 => "Docker does not show it".to_owned(),
            _ => {
                format!("{left} networks have this name: remove all but one by their ids (docker network ls)")
            }
        };
        Err(ProvisionError::Refused { detail })
    }

    /// Newest first.
    pub(super) async fn networks_named(&self, name: &str) -> Result<Vec<Listed>, ProvisionError> {
        let options = ListNetworksOptions {
            filters: Some(HashMap::from([("name".to_owned(), vec![name.to_owned()])])),
        };
        let list = async |client: Client| client.list_networks(Some(options)).await;
        let mut same = self.call(LIST, list).await?;
        // The filter finds parts of names as well.
        same.retain(|network| network.name.as_deref() == Some(name));
        same.sort_by(|one, other| (&other.created, &other.id).cmp(&(&one.created, &one.id)));
        Ok(same)
    }
}

fn is_ours(network: &Listed) -> bool {
    let role = network.labels.as_ref().and_then(|labels| labels.get(label::PRODUCT));
    role.is_some_and(|role| role == ROLE)
}

fn no_network(name: &str, detail: String) -> ProvisionError {
    ProvisionError::Network { network: name.to_owned(), detail }
}
