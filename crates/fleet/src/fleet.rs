//! The loop that keeps the fleet as it should be: observe, plan, apply.
//!
//! ```text
//!   Docker's events ─┐                       ┌─► create / remove (own tasks) ─► outcomes ─┐
//!   streams waiting ─┼─► look ─► plan() ─► apply                                          │
//!   every second    ─┘      ▲                └─► cordon, uncordon                         │
//!                           └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! One task owns everything that changes; others see [`Snapshot`]s and send commands. Calls to Docker run in tasks of
//! their own, so that a daemon that hangs delays neither planning nor an operator's question. What Docker says of one
//! container missing in a list is believed only after it was asked for that container by its id.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allowed::{Asked, HostPorts, Refused};
use crate::backoff::{Breaker, Position};
use crate::dispatch::Engines;
use crate::event::Observer;
use crate::ident::ContainerId;
use crate::plan::{Demand, Plan, Policy, Purpose};
use crate::provisioner::Provisioner;
use crate::recipe::Recipe;
use crate::reconcile::Reconciler;

/// Commands that may wait for the loop; it takes each within milliseconds.
const COMMANDS: usize = 32;

/// Longest wait for the loop to take a command.
const ANSWER: Duration = Duration::from_secs(5);

/// How a fleet is run.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// What the operator wants.
    pub policy: Policy,
    /// What engines are made from.
    pub recipe: Recipe,
    /// Where their host ports come from (`PORT_RANGE_HOST`).
    pub ports: HostPorts,
    /// Where their HTTPS ports come from (`ACE_HTTPS_RANGE`).
    pub https_ports: HostPorts,
    /// Period of the pass that repairs what an event missed (`MONITOR_INTERVAL_S`).
    pub monitor: Duration,
    /// Failures in a row that open the breaker for growth, and how long it stays open.
    pub growth: (u32, Duration),
    /// The same for replacements.
    pub replacement: (u32, Duration),
    /// Whether a stop of the service removes its engines (`STOP_ENGINES_ON_EXIT`).
    pub stop_on_exit: bool,
    /// Tells this run of the service from others, of the same instance too.
    pub run: String,
    /// What `POST /scale` asked an earlier run for.
    pub floor: Option<usize>,
}

/// The fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    engines: Arc<Engines>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
}

/// The fleet's task, to be run by its owner.
pub struct FleetTask {
    engines: Arc<Engines>,
    reconciler: Reconciler,
    commands: mpsc::Receiver<Command>,
    healthy: mpsc::Receiver<crate::member::EngineKey>,
    probing: mpsc::Sender<crate::member::EngineKey>,
    stop_on_exit: bool,
}

/// What the fleet knew and meant to do when it last looked.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// What it does next, and why.
    pub plan: Plan,
    /// What streams ask for.
    pub demand: Demand,
    /// The daemon.
    pub docker: DockerState,
    /// Own containers that exist, in any state.
    pub containers: Vec<ContainerNote>,
    /// Creations under way, by name.
    pub creating: Vec<String>,
    /// Engines kept at least.
    pub min: usize,
    /// `MIN_REPLICAS`; less than `min` after `POST /scale`.
    pub min_replicas: usize,
    /// Engines allowed at most.
    pub max: usize,
    /// Both breakers: growth, replacement.
    pub breakers: [BreakerNote; 2],
    /// Engines of other instances on this daemon, with the line that adopts them.
    pub strangers: Vec<StrangerNote>,
    /// Another service with our instance id.
    pub rival: Option<RivalNote>,
    /// The last failures, newest first, with the last lines of their logs.
    pub failures: Vec<FailureNote>,
    /// A rolling replacement that an operator asked for.
    pub rollout: Rollout,
}

/// Whether the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DockerState {
    /// It has not been asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down {
        /// Since when.
        since: Timestamp,
        /// How it fails.
        why: String,
    },
}

/// One own container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerNote {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// What Docker says it does.
    pub state: &'static str,
    /// The place it fills.
    pub place: usize,
    /// What we make of it: `starting`, `ready`, `unhealthy`, `frozen`, `ended`, `leaving`.
    pub standing: &'static str,
    /// Whether it was made with the present settings.
    pub is_current: bool,
}

/// One breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerNote {
    /// What it allows.
    pub state: Position,
    /// Failures in a row.
    pub failure_count: u32,
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// When it last failed.
    pub last_failure_time: Option<Timestamp>,
    /// When it last succeeded.
    pub last_success_time: Option<Timestamp>,
    /// How long it stays open, in seconds.
    pub recovery_timeout: u64,
    /// Until it lets one through, in seconds.
    pub recovers_in: Option<u64>,
}

/// Engines of another instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrangerNote {
    /// Their instance.
    pub instance: String,
    /// Their names.
    pub names: Vec<String>,
    /// What to write to own them.
    pub adopt_with: String,
}

/// Another service that uses our instance id: both take each other's engines for their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RivalNote {
    /// The id.
    pub instance: String,
    /// When it was noticed, or an engine of its making was last seen to appear.
    pub at: Timestamp,
    /// Engines of its making that have appeared since we began, by name.
    pub engines: Vec<String>,
}

impl fmt::Display for RivalNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&of_rival(&self.instance, &self.engines))
    }
}

/// An engine that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureNote {
    /// When.
    pub at: Timestamp,
    /// Its name.
    pub name: String,
    /// Why, in one line.
    pub why: String,
    /// Its last log lines.
    pub log: Vec<String>,
}

/// A rolling replacement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// When it was asked for.
    pub began: Option<Timestamp>,
    /// Engines to be replaced at its beginning.
    pub total: usize,
    /// Of those, still there.
    pub left: usize,
}

/// What an operator asks for.
pub(crate) enum Command {
    Scale(usize, oneshot::Sender<usize>),
    Provision(Box<Asked>, oneshot::Sender<Result<Provisioned, CommandError>>),
    Remove(ContainerId, oneshot::Sender<Result<(), CommandError>>),
    Recipe(Box<Recipe>, oneshot::Sender<usize>),
    Policy(Box<Policy>, oneshot::Sender<()>),
    ResetBreakers(Option<Purpose>, oneshot::Sender<()>),
    HasRival(bool, oneshot::Sender<()>),
}

/// An engine that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provisioned {
    /// Full id.
    pub container_id: String,
    /// Name.
    pub container_name: String,
    /// Port at which it is reached.
    pub host_http_port: u16,
    /// The same number inside.
    pub container_http_port: u16,
    /// HTTPS port inside.
    pub container_https_port: u16,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No own container has this id.
    #[error("no engine of this service has this id")]
    Unknown,
    /// `MAX_REPLICAS` engines exist.
    #[error("MAX_REPLICAS={max} engines exist")]
    AtMaximum {
        /// The cap.
        max: usize,
    },
    /// It asks for something that engines are not given.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No port is free.
    #[error("no port of PORT_RANGE_HOST is free")]
    NoPorts,
    /// Too many creations failed in a row.
    #[error("creating engines failed too often; next try in {seconds} s")]
    BreakerOpen {
        /// Until one is tried again.
        seconds: u64,
    },
    /// Docker could not do it.
    #[error(transparent)]
    Docker(#[from] crate::provisioner::ProvisionError),
    /// The service stops, or the loop did not answer in time.
    #[error("the fleet does not answer")]
    NoAnswer,
}

impl Fleet {
    /// A fleet and the task that runs it.
    pub fn new(
        options: FleetOptions,
        engines: Arc<Engines>,
        provisioner: Arc<dyn Provisioner>,
        observer: Arc<dyn Observer>,
    ) -> (Self, FleetTask) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (probing, healthy) = mpsc::channel(COMMANDS);
        let stop_on_exit = options.stop_on_exit;
        let (reconciler, snapshot) = Reconciler::new(options, Arc::clone(&engines), provisioner, observer);
        let task = FleetTask {
            engines: Arc::clone(&engines),
            reconciler,
            commands: received,
            healthy,
            probing,
            stop_on_exit,
        };
        (Self { engines, snapshot, commands }, task)
    }

    /// The engines that streams may use.
    pub fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// What it knew when it last looked.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Keeps at least `engines` from now on, within the operator's bounds. Returns how many it will be.
    pub async fn scale(&self, engines: usize) -> Result<usize, CommandError> {
        self.ask(|answer| Command::Scale(engines, answer)).await
    }

    /// Creates one engine beside those that are wanted anyway. Waits until it runs, which may take a pull.
    pub async fn provision(&self, asked: Asked) -> Result<Provisioned, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Provision(Box::new(asked), answer)).await?;
        answered.await.unwrap_or(Err(CommandError::NoAnswer))
    }

    /// Removes an own engine, whatever plays on it.
    pub async fn remove(&self, id: ContainerId) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Remove(id, answer)).await?;
        answered.await.unwrap_or(Err(CommandError::NoAnswer))
    }

    /// Makes engines from another recipe from now on; those made from others are replaced one by one. Returns how many
    /// that are.
    pub async fn set_recipe(&self, recipe: Recipe) -> Result<usize, CommandError> {
        self.ask(|answer| Command::Recipe(Box::new(recipe), answer)).await
    }

    /// Follows another policy from now on.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), CommandError> {
        self.ask(|answer| Command::Policy(Box::new(policy), answer)).await
    }

    /// Lets creations begin again: one breaker, or both.
    pub async fn reset_breakers(&self, which: Option<Purpose>) -> Result<(), CommandError> {
        self.ask(|answer| Command::ResetBreakers(which, answer)).await
    }

    /// Another service with our instance id uses the same daemon, or does so no more.
    pub async fn has_rival(&self, is_here: bool) -> Result<(), CommandError> {
        self.ask(|answer| Command::HasRival(is_here, answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        let answered = tokio::time::timeout(ANSWER, answered).await;
        answered.ok().and_then(Result::ok).ok_or(CommandError::NoAnswer)
    }

    async fn send(&self, command: Command) -> Result<(), CommandError> {
        let sent = self.commands.send_timeout(command, ANSWER).await;
        sent.map_err(|_| CommandError::NoAnswer)
    }
}

impl FleetTask {
    /// Where the probe says which engine has just become healthy.
    pub fn healthy(&self) -> mpsc::Sender<crate::member::EngineKey> {
        self.probing.clone()
    }

    /// Runs until `stop`; then, if so configured, removes the engines.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = Changes::new(self.reconciler.provisioner());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = changes.next() => self.reconciler.look_again(),
                _ = ticks.tick() => {}
                () = self.engines.demand_changed() => {}
                Some(_) = self.healthy.recv() => {}
                Some(ended) = self.reconciler.tasks.join_next() => self.reconciler.take(ended),
                Some(command) = self.commands.recv() => self.reconciler.obey(command),
            }
            self.reconciler.pass();
        }
        self.reconciler.finish(self.stop_on_exit).await;
    }
}

/// The plan is made anew at least so often: it costs microseconds.
const TICK: Duration = Duration::from_secs(1);

/// Docker's events, connected again whenever they end.
struct Changes {
    provisioner: Arc<dyn Provisioner>,
    stream: Option<futures_util::stream::BoxStream<'static, ()>>,
    retry_at: Instant,
}

/// Pause before Docker's events are asked for again. The periodic pass sees everything meanwhile.
const RECONNECT: Duration = Duration::from_secs(1);

impl Changes {
    fn new(provisioner: Arc<dyn Provisioner>) -> Self {
        Self { provisioner, stream: None, retry_at: Instant::now() }
    }

    /// Returns when something may have changed. Cancel safe.
    async fn next(&mut self) {
        use futures_util::StreamExt as _;
        loop {
            if self.stream.is_none() {
                tokio::time::sleep_until(self.retry_at).await;
                self.retry_at = Instant::now() + RECONNECT;
                self.stream = Some(self.provisioner.changes());
            }
            if let Some(stream) = &mut self.stream {
                if stream.next().await.is_some() {
                    return;
                }
                // What happened while it was away is unknown.
                self.stream = None;
                return;
            }
        }
    }
}

/// Another service with this instance id, in one line.
pub fn of_rival(instance: &str, engines: &[String]) -> String {
    let does = if engines.is_empty() {
        "uses the same Docker".to_owned()
    } else {
        format!("has created {}", engines.join(", "))
    };
    format!(
        "another service with INSTANCE_ID={instance} {does}: both take each other's engines for their own, so give each \
         an INSTANCE_ID of its own"
    )
}

pub(crate) fn breaker_note(
    breaker: &Breaker,
    now: Duration,
    wall: impl Fn(Duration) -> Timestamp,
) -> BreakerNote {
    BreakerNote {
        state: breaker.position(now),
        failure_count: breaker.failures(),
        failure_threshold: breaker.threshold(),
        last_failure_time: breaker.last_failure.map(&wall),
        last_success_time: breaker.last_success.map(&wall),
        recovery_timeout: breaker.recovery().as_secs(),
        recovers_in: breaker.opens_at(now).map(|at| at.saturating_sub(now).as_secs() + 1),
    }
}

/// How many engines of each instance there are, for the page.
pub(crate) fn strangers_by_instance(
    containers: &[crate::provisioner::Container],
) -> BTreeMap<String, Vec<String>> {
    let mut by_instance: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in containers {
        let instance = container.labels.get(crate::spec::label::INSTANCE).cloned().unwrap_or_default();
        by_instance.entry(instance).or_default().push(container.name.clone());
    }
    by_instance
}
