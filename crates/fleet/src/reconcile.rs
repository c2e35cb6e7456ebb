//! The fleet's own state, and the steps of one pass: take in what tasks found out ([`observe`]), plan ([`decide`]), apply
//! ([`act`]). What operators ask for comes in between ([`command`]).

mod act;
mod command;
mod decide;
mod observe;
mod rivalry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::{Breaker, Moment, Places};
use crate::dispatch::{Engines, Outlook};
use crate::event::{EngineName, Event, Observer};
use crate::fleet::{
    CommandError, DockerState, FailureNote, FleetOptions, Provisioned, Rollout, Snapshot, StrangerNote,
    breaker_note,
};
use crate::ident::ContainerId;
use crate::member::Health;
use crate::plan::{Creation, Demand, Memory, Plan, Purpose, Reason};
use crate::ports::{PortPool, ephemeral_range};
use crate::provisioner::{Container, Neighbours, PostMortem, ProvisionError, Provisioner};
use crate::spec::EngineSpec;

use self::rivalry::Rivalry;

/// Passes come every second; one so late means that this process stood still, and what looks late is not.
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long a stop waits for creations under way.
const LAST_CREATIONS: Duration = Duration::from_secs(5);
/// How long a stop waits for removals (`STOP_ENGINES_ON_EXIT`).
const LAST_REMOVALS: Duration = Duration::from_secs(20);

type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// What a task found out.
pub(crate) enum Outcome {
    Listed { began: Moment, result: Result<Vec<Container>, ProvisionError> },
    Inspected { id: ContainerId, result: Result<Option<Container>, ProvisionError> },
    Created { job: Box<Job>, result: Result<ContainerId, ProvisionError> },
    Removed { removal: Box<Removal>, result: Result<(), ProvisionError> },
    Neighbours(Result<Neighbours, ProvisionError>),
}

/// A creation under way.
pub(crate) struct Job {
    creation: Creation,
    purpose: Purpose,
    spec: EngineSpec,
    began: Moment,
    answer: Option<Answer<Provisioned>>,
}

/// A removal under way.
pub(crate) struct Removal {
    engine: EngineName,
    reason: Reason,
    post_mortem: Option<PostMortem>,
    answer: Option<Answer<()>>,
}

/// An own container.
struct Seen {
    container: Container,
    place: usize,
    known_since: Moment,
    running_since: Moment,
    purpose: Purpose,
    was_ready: bool,
    health: Health,
    /// Its statistics are read for as long as it is known.
    usage: Option<AbortOnDropHandle<()>>,
}

/// What the daemon's silence looks like from here.
enum Daemon {
    Unknown,
    Up,
    Down { since: Moment, why: String },
}

/// Why images could not be pulled.
struct ImageTrouble {
    until: Moment,
    pause: Duration,
    why: String,
}

/// The fleet's state. Owned by its one task.
pub(crate) struct Reconciler {
    pub(crate) tasks: JoinSet<Outcome>,
    options: FleetOptions,
    engines: Arc<Engines>,
    provisioner: Arc<dyn Provisioner>,
    observer: Arc<dyn Observer>,
    epoch: Instant,
    began: Timestamp,
    last_pass: Moment,
    memory: Memory,
    ports: PortPool,
    /// Free ports found by probing and not used yet.
    candidates: Vec<u16>,
    seen: BTreeMap<ContainerId, Seen>,
    creating: Vec<Creation>,
    removing: BTreeSet<ContainerId>,
    removal_retry: BTreeMap<ContainerId, Moment>,
    /// When we removed what: a list that was asked for before still shows it.
    gone: BTreeMap<ContainerId, Moment>,
    inspecting: BTreeSet<ContainerId>,
    daemon: Daemon,
    is_listing: bool,
    is_stale: bool,
    last_list: Option<Moment>,
    neighbours: Asked,
    strangers: Vec<StrangerNote>,
    rivalry: Rivalry,
    image: Option<ImageTrouble>,
    /// What `POST /scale` asked for.
    floor: Option<usize>,
    failures: VecDeque<FailureNote>,
    rollout: Rollout,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

/// What is known of other containers.
#[derive(Default)]
struct Asked {
    at: Option<Moment>,
    is_under_way: bool,
    /// Whether the names that they have are known well enough to choose another one.
    is_known: bool,
}

impl Reconciler {
    pub(crate) fn new(
        options: FleetOptions,
        engines: Arc<Engines>,
        provisioner: Arc<dyn Provisioner>,
        observer: Arc<dyn Observer>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let memory = Memory {
            places: Places::default(),
            growth: Breaker::new(options.growth.0, options.growth.1),
            replacement: Breaker::new(options.replacement.0, options.replacement.1),
            last_creation: None,
            names_taken: BTreeMap::new(),
            last_weeding: None,
        };
        let wall = Timestamp::now();
        let first = Snapshot {
            at: wall,
            plan: Plan::default(),
            demand: Demand::default(),
            docker: DockerState::Unknown,
            containers: Vec::new(),
            creating: Vec::new(),
            min: options.policy.min,
            min_replicas: options.policy.min,
            max: options.policy.max,
            breakers: [&memory.growth, &memory.replacement]
                .map(|one| breaker_note(one, Moment::ZERO, |_| wall)),
            strangers: Vec::new(),
            rival: None,
            failures: Vec::new(),
            rollout: Rollout::default(),
        };
        let (snapshot, snapshots) = watch::channel(Arc::new(first));
        engines.set_outlook(Outlook::Growing);
        let ports = PortPool::new(options.ports.range(), ephemeral_range());
        let floor = options.floor;
        let reconciler = Self {
            tasks: JoinSet::new(),
            options,
            engines,
            provisioner,
            observer,
            epoch: Instant::now(),
            began: wall,
            last_pass: Moment::ZERO,
            memory,
            ports,
            candidates: Vec::new(),
            seen: BTreeMap::new(),
            creating: Vec::new(),
            removing: BTreeSet::new(),
            removal_retry: BTreeMap::new(),
            gone: BTreeMap::new(),
            inspecting: BTreeSet::new(),
            daemon: Daemon::Unknown,
            is_listing: false,
            is_stale: true,
            last_list: None,
            neighbours: Asked::default(),
            strangers: Vec::new(),
            rivalry: Rivalry::default(),
            image: None,
            floor,
            failures: VecDeque::new(),
            rollout: Rollout::default(),
            snapshot,
        };
        (reconciler, snapshots)
    }

    pub(crate) fn provisioner(&self) -> Arc<dyn Provisioner> {
        Arc::clone(&self.provisioner)
    }

    /// Something may have changed: the containers are listed again soon.
    pub(crate) fn look_again(&mut self) {
        self.is_stale = true;
    }

    /// One pass: look if it is time, plan, apply, tell.
    pub(crate) fn pass(&mut self) {
        let now = self.now();
        self.allow_for_standstill(now);
        self.look(now);
        self.follow_health(now);
        self.tell_of_rivals(now);
        if matches!(self.daemon, Daemon::Unknown) {
            return;
        }
        let plan = self.plan(now);
        self.engines.set_outlook(self.outlook(&plan));
        for action in &plan.actions {
            self.apply(action, now);
        }
        self.publish(plan, now);
    }

    fn now(&self) -> Moment {
        self.epoch.elapsed()
    }

    fn wall(&self, at: Moment) -> Timestamp {
        jiff::SignedDuration::try_from(at)
            .ok()
            .and_then(|at| self.began.checked_add(at).ok())
            .unwrap_or(self.began)
    }

    fn emit(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// A process that was suspended must not call engines slow that had no chance to be asked.
    fn allow_for_standstill(&mut self, now: Moment) {
        if now.saturating_sub(self.last_pass) > STANDSTILL {
            self.seen.values_mut().filter(|seen| !seen.was_ready).for_each(|seen| seen.running_since = now);
            self.is_stale = true;
        }
        self.last_pass = now;
    }

    /// What a task found out.
    pub(crate) fn take(&mut self, ended: Result<Outcome, JoinError>) {
        let now = self.now();
        match ended {
            Ok(Outcome::Listed { began, result }) => self.listed(began, result, now),
            Ok(Outcome::Inspected { id, result }) => self.inspected(&id, result, now),
            Ok(Outcome::Created { job, result }) => self.created(*job, result, now),
            Ok(Outcome::Removed { removal, result }) => self.removed(*removal, result, now),
            Ok(Outcome::Neighbours(result)) => self.met(result, now),
            Err(error) => {
                tracing::error!(%error, "a task of the fleet ended without a result");
                self.is_listing = false;
                self.neighbours.is_under_way = false;
            }
        }
    }

    /// The service stops. Creations under way are waited for, so that nothing is left half-made; engines stay, unless
    /// they are to go.
    pub(crate) async fn finish(mut self, remove_engines: bool) {
        let creations = async {
            while !self.creating.is_empty() {
                let Some(ended) = self.tasks.join_next().await else { break };
                self.take(ended);
            }
        };
        if timeout(LAST_CREATIONS, creations).await.is_err() {
            tracing::warn!("an engine is still being created; the next start adopts it");
        }
        if remove_engines {
            let ids: Vec<_> = self.seen.keys().cloned().collect();
            let mut removals: JoinSet<()> = JoinSet::new();
            for id in ids {
                let provisioner = self.provisioner();
                removals.spawn(async move {
                    if let Err(error) = provisioner.remove(&id).await {
                        tracing::warn!(engine = %id, %error, "the engine could not be removed");
                    }
                });
            }
            let all = async { while removals.join_next().await.is_some() {} };
            // What is left is adopted or reaped by the next start.
            let _in_time = timeout(LAST_REMOVALS, all).await;
        }
    }
}

fn name_of(container: &Container) -> EngineName {
    EngineName { id: container.id.clone(), name: container.name.clone() }
}
