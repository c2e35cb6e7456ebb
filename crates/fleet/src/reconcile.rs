//! The fleet's own state, and the steps of one pass: take in what tasks found out ([`observe`]), plan ([`decide`]), apply
//! ([`act`]). What operators ask for comes in between ([`command`]). The loop around them is [`task`].

mod act;
mod command;
mod daemon;
mod decide;
mod exits;
mod flight;
mod history;
mod observe;
mod rivalry;
mod task;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use crate::backoff::Moment;
use crate::command::CommandError;
use crate::dispatch::{Engines, Outlook};
use crate::event::{EngineName, Event, Observer};
use crate::ident::ContainerId;
use crate::options::FleetOptions;
use crate::plan::{Creation, Demand, Plan, Purpose, Reason};
use crate::provisioner::{Container, Neighbours, PostMortem, ProvisionError, Provisioner};
use crate::snapshot::{DockerState, Rollout, Snapshot, breaker_note};
use crate::spec::EngineSpec;
use crate::tunnel::TunnelName;

use self::command::Request;
use self::daemon::{Answers, Daemon};
use self::exits::Exits;
use self::flight::{Errand, Flight, Landed};
use self::history::History;
use self::rivalry::Rivalry;
pub use self::task::FleetTask;

/// Passes come every second; one so late means that this process stood still, and what looks late is not.
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long a stop waits for creations under way.
const LAST_CREATIONS: Duration = Duration::from_secs(5);
/// How long a stop waits for removals (`STOP_ENGINES_ON_EXIT`).
const LAST_REMOVALS: Duration = Duration::from_secs(20);

type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// What a task found out.
enum Outcome {
    Listed { began: Moment, result: Result<Vec<Container>, ProvisionError> },
    Inspected { id: ContainerId, result: Result<Option<Container>, ProvisionError> },
    Created { job: Box<Job>, result: Result<ContainerId, ProvisionError> },
    Removed { removal: Box<Removal>, result: Result<(), ProvisionError> },
    Neighbours(Result<Neighbours, ProvisionError>),
    Restarted { tunnel: TunnelName, result: Result<(), ProvisionError> },
}

/// A creation under way.
struct Job {
    creation: Creation,
    purpose: Purpose,
    spec: EngineSpec,
    began: Moment,
    request: Option<Request>,
}

/// A removal under way.
struct Removal {
    engine: EngineName,
    reason: Reason,
    post_mortem: Option<PostMortem>,
    answer: Option<Answer<()>>,
}

/// The fleet's state. Owned by its one task.
struct Reconciler {
    options: FleetOptions,
    engines: Arc<Engines>,
    provisioner: Arc<dyn Provisioner>,
    observer: Arc<dyn Observer>,
    clock: Clock,
    daemon: Daemon,
    flight: Flight,
    history: History,
    exits: Exits,
    rivalry: Rivalry,
    snapshot: watch::Sender<Arc<Snapshot>>,
}

/// Moments count from here.
struct Clock {
    epoch: Instant,
    began: Timestamp,
    last_pass: Moment,
}

impl Reconciler {
    fn new(
        options: FleetOptions,
        engines: Arc<Engines>,
        provisioner: Arc<dyn Provisioner>,
        observer: Arc<dyn Observer>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let history = History::new(&options);
        let clock = Clock { epoch: Instant::now(), began: Timestamp::now(), last_pass: Moment::ZERO };
        let (snapshot, snapshots) = watch::channel(Arc::new(before_all(&options, &history, clock.began)));
        engines.set_outlook(Outlook::Growing);
        let exits = Exits::new(&options);
        let reconciler = Self {
            options,
            engines,
            provisioner,
            observer,
            clock,
            daemon: Daemon::default(),
            flight: Flight::default(),
            history,
            exits,
            rivalry: Rivalry::default(),
            snapshot,
        };
        (reconciler, snapshots)
    }

    fn provisioner(&self) -> Arc<dyn Provisioner> {
        Arc::clone(&self.provisioner)
    }

    /// Something may have changed: the containers are listed again soon.
    fn look_again(&mut self) {
        self.daemon.changed = Some(self.now());
    }

    /// One pass: look if it is time, plan, apply, tell.
    fn pass(&mut self) {
        let now = self.now();
        self.allow_for_standstill(now);
        self.look(now);
        self.follow_tunnels(now);
        self.follow_health(now);
        self.tell_of_rivals(now);
        if matches!(self.daemon.answers, Answers::Unknown) {
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
        self.clock.epoch.elapsed()
    }

    fn wall(&self, at: Moment) -> Timestamp {
        let began = self.clock.began;
        jiff::SignedDuration::try_from(at).ok().and_then(|at| began.checked_add(at).ok()).unwrap_or(began)
    }

    fn emit(&self, event: &Event) {
        self.observer.observe(event);
    }

    /// A process that was suspended must not call engines slow that had no chance to be asked.
    fn allow_for_standstill(&mut self, now: Moment) {
        if now.saturating_sub(self.clock.last_pass) > STANDSTILL {
            let starting = self.daemon.seen.values_mut().filter(|seen| !seen.was_ready);
            starting.for_each(|seen| seen.running_since = now);
            self.daemon.changed = Some(now);
        }
        self.clock.last_pass = now;
    }

    /// What a task found out.
    fn take(&mut self, landed: Landed) {
        let now = self.now();
        match landed {
            Landed::Back(Outcome::Listed { began, result }) => self.listed(began, result, now),
            Landed::Back(Outcome::Inspected { id, result }) => self.inspected(&id, result, now),
            Landed::Back(Outcome::Created { job, result }) => self.created(*job, result, now),
            Landed::Back(Outcome::Removed { removal, result }) => self.removed(*removal, result, now),
            Landed::Back(Outcome::Neighbours(result)) => self.met(result, now),
            Landed::Back(Outcome::Restarted { tunnel, result }) => self.restarted(tunnel, result),
            Landed::Lost(errand, error) => self.lost(errand, &error, now),
        }
    }

    /// A task has panicked: what it was for is given up, and the next look at the daemon says what has come of it.
    fn lost(&mut self, errand: Errand, error: &JoinError, now: Moment) {
        tracing::error!(?errand, %error, "a task of the fleet ended without a result");
        self.daemon.changed = Some(now);
        match errand {
            Errand::List | Errand::Inspect(_) => {}
            Errand::RestartVpn(tunnel) => {
                let why = "our own task for it broke off".to_owned();
                self.emit(&Event::TunnelNotRestarted { tunnel, why });
            }
            // Without them a creation tells what name is taken.
            Errand::Neighbours => self.names_are_known(now),
            Errand::Create(creation, purpose) => self.creation_lost(&creation, purpose, now),
            Errand::Remove(id) => self.not_removed(&id, "our own task for it broke off", now),
        }
    }

    /// The service stops. Creations under way are waited for, so that nothing is left half-made; engines stay, unless
    /// they are to go.
    async fn finish(mut self, remove_engines: bool) {
        let creations = async {
            while self.flight.is_creating() {
                let Some(landed) = self.flight.land().await else { break };
                self.take(landed);
            }
        };
        if timeout(LAST_CREATIONS, creations).await.is_err() {
            tracing::warn!("an engine is still being created; the next start adopts it");
        }
        if remove_engines {
            let ids: Vec<_> = self.daemon.seen.keys().cloned().collect();
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

/// What pages see until the daemon has answered for the first time.
fn before_all(options: &FleetOptions, history: &History, at: Timestamp) -> Snapshot {
    let memory = &history.memory;
    Snapshot {
        at,
        plan: Plan::default(),
        demand: Demand::default(),
        docker: DockerState::Unknown,
        containers: Vec::new(),
        creating: Vec::new(),
        tunnels: Vec::new(),
        outside: Vec::new(),
        found_outside: 0,
        min: options.policy.min,
        min_replicas: options.policy.min,
        max: options.policy.max,
        breakers: [&memory.growth, &memory.replacement].map(|one| breaker_note(one, Moment::ZERO, |_| at)),
        strangers: Vec::new(),
        rival: None,
        failures: Vec::new(),
        rollout: Rollout::default(),
    }
}

fn name_of(container: &Container) -> EngineName {
    EngineName { id: container.id.clone(), name: container.name.clone() }
}
