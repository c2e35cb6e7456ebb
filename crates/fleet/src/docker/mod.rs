//! Engines as Docker containers.
//!
//! All use of Docker is in this module, with a closed list of calls: ping, version, events (filtered), containers
//! list/create/start/stop/remove/inspect/logs/stats, restart (of a VPN, `vpn.rs`), images inspect/pull, what a
//! registry says of an image (`ask.rs`, for `acemux doctor` alone), networks inspect/list/create/remove
//! (`network.rs`: of our own, while two have the same name) and connect (of ourselves, to the engines'). No exec, no
//! attach, no build, no volumes. Every call has a deadline, and at most four of a kind are under way: that ask, that make
//! something, that end something. Ten engines which take their time to end neither look like a daemon that does not answer
//! nor keep those waiting that are to replace them. Only containers that carry this instance's label are acted on, by their
//! full id, after the label was read again.

mod ask;
mod body;
mod network;
mod pull;
mod read;
mod vpn;

use std::collections::{BTreeSet, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerSummary, EventMessage};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, InspectContainerOptions, ListContainersOptions, LogsOptions,
    RemoveContainerOptions, StartContainerOptions, StatsOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

pub use self::ask::Source;
use self::pull::Pulls;
use self::vpn::Joined;
use crate::ident::{ContainerId, DockerName, InstanceId};
use crate::plan::NAME_PREFIX;
use crate::provisioner::{
    Container, Daemon, Neighbours, PostMortem, ProvisionError, Provisioner, Usage, VpnChange, VpnContainer,
};
use crate::spec::{EngineSpec, label};

/// Where Docker listens when `DOCKER_HOST` says nothing.
const LOCAL_SOCKET: &str = "unix:///var/run/docker.sock";

const CONNECT: Duration = Duration::from_secs(5);
const LIST: Duration = Duration::from_secs(5);
const INSPECT: Duration = Duration::from_secs(5);
/// Creating and starting, without a pull.
const CREATE: Duration = Duration::from_secs(30);
/// A removal as a whole from its turn on: the stop, the removal, and the wait for one that somebody else has begun.
const REMOVE: Duration = Duration::from_secs(10);
const LOGS: Duration = Duration::from_secs(5);

/// Time a container has to end by itself before it is killed. Engines keep no state worth waiting for.
const STOP_SECONDS: i32 = 3;
/// First and longest pause between two looks at a container that somebody else is removing.
const REMOVAL_POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// Calls of a kind under way at a time: a slow daemon is not stormed.
const CALLS: usize = 4;
/// Longest wait for a turn to make or end something: a whole fleet may go at once, four engines at a time.
const TURN: Duration = Duration::from_mins(1);
/// Log lines kept of a container that ended.
const LOG_LINES: usize = 50;

/// Where Docker is and who we are.
#[derive(Clone, Debug)]
pub struct DockerOptions {
    /// `DOCKER_HOST`: `unix:///…` or `tcp://…`; the local socket when `None`.
    pub host: Option<String>,
    /// Whose containers we act on.
    pub instance: InstanceId,
}

/// The provisioner of a Docker daemon. Cheap to clone.
#[derive(Clone)]
pub struct Docker(Arc<Shared>);

struct Shared {
    host: String,
    instance: InstanceId,
    /// Connected and with an agreed API version; forgotten when the daemon stops answering.
    client: Mutex<Option<Client>>,
    /// Turns of calls that ask: they are answered soon.
    asking: Semaphore,
    /// Turns of what makes something, or starts it.
    making: Semaphore,
    /// Turns of what ends something: an engine may take seconds.
    ending: Semaphore,
    /// The networks that we were in when they were last told.
    joined: Mutex<Joined>,
    pulls: Pulls,
    /// Creations: they end in order even when nobody waits for them any more.
    tasks: TaskTracker,
}

impl Docker {
    /// Checks the address; connects when it is first needed, because the daemon may come later than we.
    pub fn new(options: DockerOptions) -> Result<Self, ProvisionError> {
        let host = options.host.unwrap_or_else(|| LOCAL_SOCKET.to_owned());
        let is_known = ["unix://", "tcp://", "http://"].iter().any(|scheme| host.starts_with(scheme));
        if !is_known {
            // What stands there instead may hold credentials.
            let detail = "DOCKER_HOST: supported are unix:///path and tcp://host:port without TLS".to_owned();
            return Err(ProvisionError::Refused { detail });
        }
        Ok(Self(Arc::new(Shared {
            host,
            instance: options.instance,
            client: Mutex::new(None),
            asking: Semaphore::new(CALLS),
            making: Semaphore::new(CALLS),
            ending: Semaphore::new(CALLS),
            joined: Mutex::default(),
            pulls: Pulls::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// The networks of the container that this process runs in, if it runs in one of this daemon's: engines can then
    /// be reached by name over them. Docker's default bridge has no names. In the machine's own network it is as if there
    /// were no container.
    pub async fn own_networks(&self) -> Option<Vec<DockerName>> {
        with_names(&self.joined_networks().await?)
    }

    /// All of them, Docker's usual ones included: over its default bridge others are reached by address.
    async fn joined_networks(&self) -> Option<Vec<String>> {
        let id = this_container()?;
        let inspect =
            async |client: Client| client.inspect_container(&id, None::<InspectContainerOptions>).await;
        let found = self.call(INSPECT, inspect).await.ok()?;
        Some(found.network_settings?.networks?.into_keys().collect())
    }

    /// A connected client.
    async fn client(&self) -> Result<Client, ProvisionError> {
        let mut connected = self.0.client.lock().await;
        if let Some(client) = connected.as_ref() {
            return Ok(client.clone());
        }
        let client = self.connect().map_err(|error| read::error(&error))?;
        let client = match timeout(CONNECT, client.negotiate_version()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(read::error(&error)),
            Err(_) => return Err(too_late("it did not tell its version")),
        };
        *connected = Some(client.clone());
        Ok(client)
    }

    fn connect(&self) -> Result<Client, Error> {
        let seconds = CREATE.as_secs();
        match self.0.host.strip_prefix("unix://") {
            Some(path) => Client::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            None => Client::connect_with_http(&self.0.host, seconds, API_DEFAULT_VERSION),
        }
    }

    /// One call that asks, within its deadline, the wait for its turn included.
    async fn call<T>(
        &self,
        deadline: Duration,
        call: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let asking = async |client: Client| {
            let _turn = self.0.asking.acquire().await;
            call(client).await
        };
        self.in_turn(deadline, asking).await
    }

    /// One call that makes or ends something, when it has a turn of its kind. Its deadline counts from then on: those before it
    /// may need all of theirs.
    async fn queued<T>(
        &self,
        turns: &Semaphore,
        deadline: Duration,
        call: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let _turn = turn(turns).await.map_err(Failure::Before)?;
        self.in_turn(deadline, call).await
    }

    /// One call of somebody who has a turn.
    async fn in_turn<T>(
        &self,
        deadline: Duration,
        call: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let whole = async {
            let client = self.client().await.map_err(Failure::Before)?;
            call(client).await.map_err(Failure::Docker)
        };
        let result =
            timeout(deadline, whole).await.unwrap_or(Err(Failure::Before(too_late("it did not answer"))));
        if result.as_ref().is_err_and(Failure::is_silence) {
            // The next call agrees on a version anew: another daemon may listen there by then.
            *self.0.client.lock().await = None;
        }
        result
    }

    /// Containers in any state, with this label.
    async fn labelled(&self, label: String) -> Result<Vec<Container>, ProvisionError> {
        self.listed("label", label).await?.into_iter().map(read::summary).collect()
    }

    async fn listed(&self, filter: &str, value: String) -> Result<Vec<ContainerSummary>, ProvisionError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(filter.to_owned(), vec![value])])),
            ..ListContainersOptions::default()
        };
        let list = async |client: Client| client.list_containers(Some(options)).await;
        Ok(self.call(LIST, list).await?)
    }

    /// Names like those of engines that containers have which are not ours.
    async fn taken_names(&self) -> Result<BTreeSet<String>, ProvisionError> {
        let all = self.listed("name", NAME_PREFIX.to_owned()).await?;
        let others = all.into_iter().filter(|summary| !self.is_labelled_as_ours(summary.labels.as_ref()));
        Ok(others.flat_map(read::names).collect())
    }

    fn is_ours(&self, container: &Container) -> bool {
        container.labels.get(label::INSTANCE).is_some_and(|instance| instance == self.0.instance.as_str())
    }

    fn is_labelled_as_ours(&self, labels: Option<&HashMap<String, String>>) -> bool {
        let instance = labels.and_then(|labels| labels.get(label::INSTANCE));
        instance.is_some_and(|instance| instance == self.0.instance.as_str())
    }

    async fn look_at(&self, id: &ContainerId) -> Result<Option<Container>, ProvisionError> {
        let inspect = async |client: Client| {
            client.inspect_container(id.as_str(), None::<InspectContainerOptions>).await
        };
        match self.call(INSPECT, inspect).await {
            Ok(found) => read::inspected(found).map(Some),
            Err(failure) if failure.status() == Some(404) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Only a container that is ours now; `None` when it is gone.
    async fn own(&self, id: &ContainerId) -> Result<Option<Container>, ProvisionError> {
        match self.look_at(id).await? {
            Some(container) if !self.is_ours(&container) => {
                Err(ProvisionError::NotOurs { id: id.short().to_owned() })
            }
            found => Ok(found),
        }
    }

    async fn create_and_start(&self, spec: &EngineSpec) -> Result<ContainerId, ProvisionError> {
        self.ensure_network(&spec.network).await?;
        let id = match self.create_container(spec).await {
            Err(failure) if failure.is_missing_image() => {
                self.pull(spec.image.as_str()).await?;
                self.create_container(spec).await.map_err(|failure| body::refused(failure, spec))?
            }
            created => created.map_err(|failure| body::refused(failure, spec))?,
        };
        let id: ContainerId = id.parse().map_err(|_| bad("a container id that is none"))?;
        let start =
            async |client: Client| client.start_container(id.as_str(), None::<StartContainerOptions>).await;
        let Err(failure) = self.queued(&self.0.making, CREATE, start).await else { return Ok(id) };
        if let Err(error) = self.remove_own(&id).await {
            tracing::warn!(engine = %id, %error, "a container that could not be started is left; it is reaped later");
        }
        Err(body::refused(failure, spec))
    }

    async fn create_container(&self, spec: &EngineSpec) -> Result<String, Failure> {
        let options =
            CreateContainerOptions { name: Some(spec.name.clone()), ..CreateContainerOptions::default() };
        let create = async |client: Client| client.create_container(Some(options), body::of(spec)).await;
        self.queued(&self.0.making, CREATE, create).await.map(|created| created.id)
    }

    async fn pull(&self, image: &str) -> Result<(), ProvisionError> {
        let client = self.client().await?;
        self.0.pulls.pull(&client, image).await
    }

    /// Stops and removes; ends when Docker says that it is gone, whoever removed it, or when it takes too long.
    async fn remove_own(&self, id: &ContainerId) -> Result<(), ProvisionError> {
        let turn = turn(&self.0.ending).await?;
        let deadline = Instant::now() + REMOVE;
        let begun = timeout_at(deadline, self.begin_removal(id)).await;
        drop(turn);
        match begun.unwrap_or_else(|_| Err(too_late("it did not remove a container")))? {
            Removal::Done => Ok(()),
            Removal::UnderWay => {
                let gone = timeout_at(deadline, self.until_gone(id)).await;
                gone.unwrap_or_else(|_| Err(ProvisionError::StillRemoving { id: id.short().to_owned() }))
            }
        }
    }

    /// In a turn of its caller's.
    async fn begin_removal(&self, id: &ContainerId) -> Result<Removal, ProvisionError> {
        let Some(_own) = self.own(id).await? else { return Ok(Removal::Done) };
        let stop = async |client: Client| {
            let options = StopContainerOptions { t: Some(STOP_SECONDS), ..StopContainerOptions::default() };
            client.stop_container(id.as_str(), Some(options)).await
        };
        // Not running, paused or already gone: the removal below deals with all of them.
        let _stopped = self.in_turn(REMOVE, stop).await;
        let remove = async |client: Client| {
            let options =
                RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
            client.remove_container(id.as_str(), Some(options)).await
        };
        match self.in_turn(REMOVE, remove).await {
            Ok(()) => Ok(Removal::Done),
            Err(failure) if failure.status() == Some(404) => Ok(Removal::Done),
            Err(failure) if failure.status() == Some(409) => Ok(Removal::UnderWay),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Returns when it is gone. To ask for its removal again would be answered as before.
    async fn until_gone(&self, id: &ContainerId) -> Result<(), ProvisionError> {
        let (mut pause, longest) = REMOVAL_POLL;
        while self.own(id).await?.is_some() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }

    async fn autopsy(&self, id: &ContainerId) -> Result<PostMortem, ProvisionError> {
        let inspect = async |client: Client| {
            client.inspect_container(id.as_str(), None::<InspectContainerOptions>).await
        };
        let found = self.call(INSPECT, inspect).await?;
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        if !self.is_labelled_as_ours(labels) {
            return Err(ProvisionError::NotOurs { id: id.short().to_owned() });
        }
        let log = self.last_words(id).await;
        Ok(read::post_mortem(found.state.unwrap_or_default(), &log))
    }

    /// Its last log lines; none when they cannot be read, because the exit code is worth more than nothing.
    async fn last_words(&self, id: &ContainerId) -> String {
        let options =
            LogsOptions { stdout: true, stderr: true, tail: LOG_LINES.to_string(), ..LogsOptions::default() };
        let read = async |client: Client| {
            let mut text = String::new();
            let mut lines = client.logs(id.as_str(), Some(options));
            while let Some(line) = lines.next().await {
                text.push_str(&line?.to_string());
            }
            Ok(text)
        };
        self.call(LOGS, read).await.unwrap_or_default()
    }

    /// What happens to containers that this filter lets through; what has piled up since the last look is one item.
    fn changes_by(&self, filter: (String, Vec<String>)) -> BoxStream<'static, Vec<EventMessage>> {
        let docker = self.clone();
        let events =
            async move { docker.event_stream(filter).await.unwrap_or_else(|| stream::empty().boxed()) };
        stream::once(events).flatten().boxed()
    }

    async fn event_stream(
        self,
        filter: (String, Vec<String>),
    ) -> Option<BoxStream<'static, Vec<EventMessage>>> {
        let filters = HashMap::from([("type".to_owned(), vec!["container".to_owned()]), filter]);
        let client = self.client().await.ok()?;
        let options = EventsOptions { filters: Some(filters), ..EventsOptions::default() };
        let events = client.events(Some(options));
        let events = events.take_while(|event| ready(event.is_ok())).filter_map(|event| ready(event.ok()));
        Some(events.ready_chunks(EVENTS_AT_ONCE).boxed())
    }
}

/// Events that count as one change when they are there together.
const EVENTS_AT_ONCE: usize = 256;

impl Provisioner for Docker {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Container>, ProvisionError>> {
        async {
            let all = self.labelled(format!("{}={}", label::INSTANCE, self.0.instance)).await?;
            Ok(all.into_iter().filter(|container| self.is_ours(container)).collect())
        }
        .boxed()
    }

    fn neighbours(&self) -> BoxFuture<'_, Result<Neighbours, ProvisionError>> {
        async {
            let all = self.labelled(format!("{}={}", label::PRODUCT, label::PRODUCT_ENGINE)).await?;
            let engines = all.into_iter().filter(|container| !self.is_ours(container)).collect();
            Ok(Neighbours { engines, names: self.taken_names().await? })
        }
        .boxed()
    }

    fn inspect<'a>(
        &'a self,
        id: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<Container>, ProvisionError>> {
        async move { Ok(self.look_at(id).await?.filter(|container| self.is_ours(container))) }.boxed()
    }

    fn create<'a>(&'a self, spec: &'a EngineSpec) -> BoxFuture<'a, Result<ContainerId, ProvisionError>> {
        let (docker, spec) = (self.clone(), spec.clone());
        let (sender, created) = oneshot::channel();
        // In a task of its own: what Docker has begun is finished or cleaned up even if nobody waits any more.
        self.0.tasks.spawn(async move {
            let result = docker.create_and_start(&spec).await;
            if let Err(Ok(id)) = sender.send(result) {
                tracing::info!(engine = %id, "an engine nobody waits for any more is removed");
                if let Err(error) = docker.remove_own(&id).await {
                    tracing::warn!(engine = %id, %error, "it could not be removed; it is adopted later");
                }
            }
        });
        async move { created.await.unwrap_or_else(|_| Err(too_late("the service stops"))) }.boxed()
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        self.remove_own(id).boxed()
    }

    fn post_mortem<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<PostMortem, ProvisionError>> {
        self.autopsy(id).boxed()
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        let filter = ("label".to_owned(), vec![format!("{}={}", label::INSTANCE, self.0.instance)]);
        self.changes_by(filter).map(|_| ()).boxed()
    }

    fn usage(&self, id: &ContainerId) -> BoxStream<'static, Usage> {
        let (docker, id) = (self.clone(), id.clone());
        let usage = async move {
            let Ok(client) = docker.client().await else { return stream::empty().boxed() };
            let options = StatsOptions { stream: true, one_shot: false };
            let stats = client.stats(id.as_str(), Some(options));
            stats
                .take_while(|stat| ready(stat.is_ok()))
                .filter_map(|stat| async { Some(read::usage(&stat.ok()?)) })
                .boxed()
        };
        stream::once(usage).flatten().boxed()
    }

    fn vpn<'a>(
        &'a self,
        name: &'a DockerName,
    ) -> BoxFuture<'a, Result<Option<VpnContainer>, ProvisionError>> {
        self.look_at_vpn(name).boxed()
    }

    fn vpn_changes(&self, name: &DockerName) -> BoxStream<'static, VpnChange> {
        let filter = ("container".to_owned(), vec![name.as_str().to_owned()]);
        let name = name.clone();
        self.changes_by(filter).filter_map(move |events| ready(vpn::change(&name, &events))).boxed()
    }

    fn restart_vpn<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        self.restart(id).boxed()
    }

    fn daemon(&self) -> BoxFuture<'_, Result<Daemon, ProvisionError>> {
        async {
            let ask = async |client: Client| {
                let agreed = client.client_version().to_string();
                client.version().await.map(|version| (version, agreed))
            };
            let (version, api_version) = self.call(INSPECT, ask).await?;
            Ok(Daemon { version: version.version.unwrap_or_default(), api_version })
        }
        .boxed()
    }
}

/// Those of a container's networks that know the names of who is in them; `None` when it is in the machine's own.
fn with_names(networks: &[String]) -> Option<Vec<DockerName>> {
    if networks.iter().any(|network| network == "host") {
        return None;
    }
    let known = networks.iter().filter(|network| !matches!(network.as_str(), "bridge" | "none"));
    Some(known.filter_map(|network| network.parse().ok()).collect())
}

/// The id of the container that this process runs in, if it runs in one.
fn this_container() -> Option<String> {
    own_container(&std::fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The id of the container whose mounts these are: Docker mounts `/etc/hostname` and others from a folder named by it.
fn own_container(mounts: &str) -> Option<String> {
    let after = mounts.split("/containers/").skip(1);
    let ids = after.filter_map(|rest| rest.get(..64)?.parse::<ContainerId>().ok());
    ids.map(|id| id.as_str().to_owned()).next()
}

async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, ProvisionError> {
    let turn = timeout(TURN, turns.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| too_late("it did not do what was asked before"))
}

/// What Docker says of a removal.
enum Removal {
    Done,
    /// It has begun already, whoever asked for it.
    UnderWay,
}

/// How a call failed, with Docker's status still at hand.
#[derive(Debug)]
enum Failure {
    /// Without an answer of the daemon's to this call.
    Before(ProvisionError),
    Docker(Error),
}

impl Failure {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Docker(Error::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            _ => None,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Docker(Error::DockerResponseServerError { message, .. }) => message,
            _ => "",
        }
    }

    fn is_missing_image(&self) -> bool {
        self.status() == Some(404) && self.message().to_lowercase().contains("image")
    }

    fn is_silence(&self) -> bool {
        let is_silent = |error: &ProvisionError| {
            matches!(error, ProvisionError::Unreachable { .. } | ProvisionError::Shortage { .. })
        };
        match self {
            Self::Before(error) => is_silent(error),
            Self::Docker(error) => is_silent(&read::error(error)),
        }
    }
}

impl From<Failure> for ProvisionError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Before(error) => error,
            Failure::Docker(error) => read::error(&error),
        }
    }
}

fn too_late(what: &str) -> ProvisionError {
    ProvisionError::Unreachable { detail: format!("{what} in time") }
}

fn bad(what: &str) -> ProvisionError {
    ProvisionError::BadReply { detail: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_its_own_container_in_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let mounts = format!(
            "612 590 0:60 / / rw - overlay overlay rw\n\
             640 612 254:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
        );
        assert_eq!(own_container(&mounts), Some(id));
        assert_eq!(own_container("612 590 0:60 / / rw - overlay overlay rw\n"), None);
    }

    #[test]
    fn in_the_machines_own_network_it_is_as_if_there_were_no_container() {
        let own = |names: &[&str]| {
            let networks = with_names(&names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            Some(networks.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(own(&["host"]), None);
        assert_eq!(own(&["bridge"]), Some(vec![]));
        assert_eq!(own(&["none"]), Some(vec![]));
        assert_eq!(own(&["apps", "bridge", "tv"]), Some(vec!["apps".to_owned(), "tv".to_owned()]));
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_at_once() {
        let at = |host: &str| {
            let instance = "test".parse().unwrap();
            Docker::new(DockerOptions { host: Some(host.to_owned()), instance }).is_ok()
        };
        assert!(at("unix:///var/run/docker.sock") && at("tcp://127.0.0.1:2375"));
        assert!(!at("https://127.0.0.1:2376") && !at("/var/run/docker.sock"));
    }
}
