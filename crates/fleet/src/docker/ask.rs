//! What a person who looks for a fault asks of a daemon. Nothing here changes anything there.

use std::io;
use std::time::Duration;

use bollard::Docker as Client;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{CONNECT, Docker, Failure, INSPECT};
use crate::ident::DockerName;
use crate::image::ImageRef;
use crate::provisioner::ProvisionError;

/// Longest wait for a registry, which the daemon asks for us.
const REGISTRY: Duration = Duration::from_secs(8);
/// Where a daemon listens whose address names no port.
const TCP_PORT: u16 = 2375;

/// Whether an image can be had, and for which processors, in Docker's words: `amd64`, `arm64`, `arm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is on this machine.
    Here {
        /// What it is for; empty when the daemon does not say.
        processor: String,
    },
    /// Its registry has it.
    Registry {
        /// What it is for; none when the registry does not say.
        processors: Vec<String>,
    },
    /// Its registry has none of this name, or gives it to nobody who does not log in.
    Nowhere {
        /// The daemon's words.
        why: String,
    },
    /// It is not here, and its registry could not be asked.
    Unknown {
        /// The daemon's words.
        why: String,
    },
}

impl Docker {
    /// The socket's path; `None` when the daemon is reached over TCP.
    pub fn socket(&self) -> Option<&str> {
        self.0.host.strip_prefix("unix://")
    }

    /// Connects to where the daemon listens and says nothing. Its failure tells a socket that is missing from one that
    /// may not be used.
    pub async fn knock(&self) -> io::Result<()> {
        let knocked = async {
            match self.socket() {
                Some(path) => UnixStream::connect(path).await.map(drop),
                None => TcpStream::connect(with_port(&self.0.host)).await.map(drop),
            }
        };
        timeout(CONNECT, knocked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// How many networks have this name. Docker before API 1.44 lets several have it.
    pub async fn networks_called(&self, name: &DockerName) -> Result<usize, ProvisionError> {
        Ok(self.networks_named(name.as_str()).await?.len())
    }

    /// The processor of the daemon's machine, in Docker's words; empty when it does not say.
    pub async fn processor(&self) -> Result<String, ProvisionError> {
        let version = async |client: Client| client.version().await;
        Ok(self.call(INSPECT, version).await?.arch.unwrap_or_default())
    }

    /// Where an image would come from. Nothing is pulled.
    pub async fn find_image(&self, image: &ImageRef) -> Result<Source, ProvisionError> {
        let inspect = async |client: Client| client.inspect_image(image.as_str()).await;
        match self.call(INSPECT, inspect).await {
            Ok(found) => Ok(Source::Here { processor: found.architecture.unwrap_or_default() }),
            Err(failure) if failure.status() == Some(404) => Ok(self.ask_registry(image).await),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn ask_registry(&self, image: &ImageRef) -> Source {
        let ask = async |client: Client| client.inspect_registry_image(image.as_str(), None).await;
        match self.call(REGISTRY, ask).await {
            Ok(found) => {
                let processors = found.platforms.into_iter().filter_map(|platform| platform.architecture);
                // What stands beside an image, such as where it was built, has "unknown" there.
                Source::Registry { processors: processors.filter(|one| one != "unknown").collect() }
            }
            Err(failure) if is_a_no(&failure) => Source::Nowhere { why: said(failure) },
            Err(failure) => Source::Unknown { why: said(failure) },
        }
    }
}

/// The registry was reached and says no. A daemon without a network fails with 500, and so do some registries' refusals.
fn is_a_no(failure: &Failure) -> bool {
    let words = failure.message().to_lowercase();
    let is_refusal = ["denied", "unauthorized", "manifest unknown", "not found", "authentication required"];
    matches!(failure.status(), Some(401 | 404)) || is_refusal.iter().any(|word| words.contains(word))
}

fn said(failure: Failure) -> String {
    ProvisionError::from(failure).to_string()
}

fn with_port(host: &str) -> String {
    let address = host.split_once("://").map_or(host, |(_, address)| address).trim_end_matches('/');
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { address.to_owned() } else { format!("{address}:{TCP_PORT}") }
}

#[cfg(test)]
mod tests {
    use bollard::errors::Error;

    use super::*;

    fn failure(status_code: u16, message: &str) -> Failure {
        Failure::Docker(Error::DockerResponseServerError { status_code, message: message.to_owned() })
    }

    #[test]
    fn a_registry_that_says_no_is_told_from_one_that_is_not_reached() {
        for (status, words) in [
            (401, "unauthorized: authentication required"),
            (403, "requested access to the resource is denied"),
            (404, "manifest for a/b:c not found: manifest unknown"),
            (500, "pull access denied for a/b, repository does not exist or may require 'docker login'"),
        ] {
            assert!(is_a_no(&failure(status, words)), "{words}");
        }
        for (status, words) in [
            (500, "Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host"),
            (500, "net/http: request canceled while waiting for connection"),
            (403, "Forbidden by administrative rules"),
        ] {
            assert!(!is_a_no(&failure(status, words)), "{words}");
        }
    }

    #[test]
    fn a_daemon_is_knocked_at_where_its_address_says() {
        assert_eq!(with_port("tcp://10.0.0.1"), "10.0.0.1:2375");
        assert_eq!(with_port("http://proxy:2376/"), "proxy:2376");
        assert_eq!(with_port("tcp://[::1]:2375"), "[::1]:2375");
    }
}
