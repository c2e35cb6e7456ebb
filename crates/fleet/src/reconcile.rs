//! The fleet's own state, and the steps of one pass: take in what tasks found out, look, plan, apply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::{Breaker, Moment, Places};
use crate::dispatch::{Engines, Lack, Outlook};
use crate::event::{EngineName, Event, Observer};
use crate::fleet::{
    Command, CommandError, ContainerNote, DockerState, FailureNote, FleetOptions, Provisioned, Rollout,
    Snapshot, StrangerNote, breaker_note, strangers_by_instance,
};
use crate::ident::ContainerId;
use crate::member::{Contained, EngineKey, Health, Member};
use crate::plan::{
    Action, Creation, Demand, EngineView, Hold, Memory, NAME_AVOIDED, Plan, Policy, Purpose, Reason,
    Standing, World, free_names, plan,
};
use crate::ports::{PortPool, ephemeral_range, is_free_here};
use crate::profile::{EnginePorts, Extra, Recipe};
use crate::provisioner::{Container, ContainerState, PostMortem, ProvisionError, Provisioner};
use crate::spec::{EngineSpec, label};

/// Least time between two lists: a flood of events costs one call a second.
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// How often engines of other instances are looked for.
const STRANGERS_EVERY: Duration = Duration::from_mins(1);
/// Pause before a failed removal is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_secs(5);
/// Pause after the image could not be pulled, doubled by each further failure.
const IMAGE_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_IMAGE_PAUSE: Duration = Duration::from_mins(1);
/// Pause before the statistics of a container are asked for again.
const USAGE_PAUSE: Duration = Duration::from_secs(5);
/// Failures kept for the operator's page.
const FAILURES_KEPT: usize = 20;
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
    Strangers(Result<Vec<Container>, ProvisionError>),
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
    strangers_at: Option<Moment>,
    strangers: Vec<StrangerNote>,
    image: Option<ImageTrouble>,
    /// What `POST /scale` asked for.
    floor: Option<usize>,
    failures: VecDeque<FailureNote>,
    rollout: Rollout,
    snapshot: watch::Sender<Arc<Snapshot>>,
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
            max: options.policy.max,
            breakers: [&memory.growth, &memory.replacement]
                .map(|one| breaker_note(one, Moment::ZERO, |_| wall)),
            strangers: Vec::new(),
            failures: Vec::new(),
            rollout: Rollout::default(),
        };
        let (snapshot, snapshots) = watch::channel(Arc::new(first));
        engines.set_outlook(Outlook::Growing);
        let ports = PortPool::new(options.ports.clone(), ephemeral_range());
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
            strangers_at: None,
            strangers: Vec::new(),
            image: None,
            floor: None,
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

    // ---- observe ----

    fn look(&mut self, now: Moment) {
        let since = self.last_list.map(|at| now.saturating_sub(at));
        let is_due =
            since.is_none_or(|since| since >= self.options.monitor || (self.is_stale && since >= LIST_PAUSE));
        if is_due && !self.is_listing {
            (self.is_listing, self.is_stale, self.last_list) = (true, false, Some(now));
            let provisioner = self.provisioner();
            self.tasks.spawn(async move { Outcome::Listed { began: now, result: provisioner.list().await } });
        }
        let strangers_due = self.strangers_at.is_none_or(|at| now.saturating_sub(at) >= STRANGERS_EVERY);
        if strangers_due && matches!(self.daemon, Daemon::Up) {
            self.strangers_at = Some(now);
            let provisioner = self.provisioner();
            self.tasks.spawn(async move { Outcome::Strangers(provisioner.strangers().await) });
        }
    }

    /// What a task found out.
    pub(crate) fn take(&mut self, ended: Result<Outcome, JoinError>) {
        let now = self.now();
        match ended {
            Ok(Outcome::Listed { began, result }) => self.listed(began, result, now),
            Ok(Outcome::Inspected { id, result }) => self.inspected(&id, result, now),
            Ok(Outcome::Created { job, result }) => self.created(*job, result, now),
            Ok(Outcome::Removed { removal, result }) => self.removed(*removal, result, now),
            Ok(Outcome::Strangers(result)) => self.met(result),
            Err(error) => {
                tracing::error!(%error, "a task of the fleet ended without a result");
                self.is_listing = false;
            }
        }
    }

    fn listed(&mut self, began: Moment, result: Result<Vec<Container>, ProvisionError>, now: Moment) {
        self.is_listing = false;
        let containers = match result {
            Ok(containers) => containers,
            Err(error) => return self.daemon_failed(&error, now),
        };
        self.daemon_answered(now);
        self.gone.retain(|_, at| *at >= began);
        let listed: BTreeSet<ContainerId> = containers.iter().map(|container| container.id.clone()).collect();
        for container in containers {
            let is_coming = self.creating.iter().any(|creation| creation.name == container.name);
            if !is_coming && !self.gone.contains_key(&container.id) {
                self.observe(container, now);
            }
        }
        // What is missing in a list that was asked for after it was there may be gone. One list does not decide that.
        let missing: Vec<_> = self
            .seen
            .iter()
            .filter(|(id, seen)| !listed.contains(*id) && seen.known_since < began)
            .filter(|(id, _)| !self.removing.contains(*id) && !self.inspecting.contains(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.inspecting.insert(id.clone());
            let provisioner = self.provisioner();
            self.tasks.spawn(async move {
                let result = provisioner.inspect(&id).await;
                Outcome::Inspected { id, result }
            });
        }
    }

    fn daemon_failed(&mut self, error: &ProvisionError, now: Moment) {
        self.is_stale = true;
        if !matches!(self.daemon, Daemon::Down { .. }) {
            let why = error.to_string();
            self.emit(&Event::DockerDown { why: why.clone() });
            self.daemon = Daemon::Down { since: now, why };
        }
    }

    fn daemon_answered(&mut self, now: Moment) {
        if let Daemon::Down { since, .. } = &self.daemon {
            self.emit(&Event::DockerUp { after: now.saturating_sub(*since) });
        }
        self.daemon = Daemon::Up;
    }

    fn inspected(
        &mut self,
        id: &ContainerId,
        result: Result<Option<Container>, ProvisionError>,
        now: Moment,
    ) {
        self.inspecting.remove(id);
        match result {
            Ok(Some(container)) => self.observe(container, now),
            Ok(None) => {
                if let Some(seen) = self.forget(id) {
                    self.memory.places.failed(seen.place, now, "its container was removed by somebody else");
                    self.emit(&Event::Vanished { engine: name_of(&seen.container) });
                }
            }
            Err(error) => self.daemon_failed(&error, now),
        }
    }

    fn forget(&mut self, id: &ContainerId) -> Option<Seen> {
        self.engines.remove(&EngineKey::from(id));
        self.removal_retry.remove(id);
        self.seen.remove(id)
    }

    /// Takes in one container as the daemon shows it now.
    fn observe(&mut self, container: Container, now: Moment) {
        let id = container.id.clone();
        match self.seen.get_mut(&id) {
            Some(seen) => {
                let before = std::mem::replace(&mut seen.container, container);
                self.compare(&id, &before, now);
            }
            None => self.meet(container, now),
        }
        self.update_member(&id);
    }

    /// One that is new to us: left from an earlier run, or created by hand with our labels.
    fn meet(&mut self, container: Container, now: Moment) {
        let is_running = matches!(container.state, ContainerState::Running | ContainerState::Paused);
        if is_running {
            self.emit(&Event::Adopted { engine: name_of(&container) });
        }
        self.insert(container, Purpose::Growth, now);
    }

    fn insert(&mut self, container: Container, purpose: Purpose, now: Moment) {
        let place = container.labels.get(label::PLACE).and_then(|place| place.parse().ok());
        let place = place.filter(|place| *place > 0).unwrap_or_else(|| self.vacant_place());
        let id = container.id.clone();
        let seen = Seen {
            container,
            place,
            known_since: now,
            running_since: now,
            purpose,
            was_ready: false,
            health: Health::Unknown,
            usage: None,
        };
        self.seen.insert(id.clone(), seen);
        self.update_member(&id);
    }

    fn compare(&mut self, id: &ContainerId, before: &Container, now: Moment) {
        let Some(seen) = self.seen.get_mut(id) else { return };
        let (was, is) = (before.state, seen.container.state);
        if was != is && is == ContainerState::Running {
            seen.running_since = now;
        }
        let ended = matches!(is, ContainerState::Exited | ContainerState::Dead);
        let is_new_end = ended && !matches!(was, ContainerState::Exited | ContainerState::Dead);
        let (place, purpose, was_ready) = (seen.place, seen.purpose, seen.was_ready);
        let renamed = (before.name != seen.container.name)
            .then(|| Event::Renamed { engine: name_of(&seen.container), from: before.name.clone() });
        if is_new_end && !self.removing.contains(id) {
            self.memory.places.failed(place, now, "its process ended");
            if !was_ready {
                self.creation_failed(purpose, now);
            }
        }
        if let Some(event) = renamed {
            self.emit(&event);
        }
    }

    /// The engine that streams see follows its container.
    fn update_member(&mut self, id: &ContainerId) {
        let Some(seen) = self.seen.get_mut(id) else { return };
        let key = EngineKey::from(id);
        let container = &seen.container;
        let is_up = matches!(container.state, ContainerState::Running | ContainerState::Paused);
        if !is_up || self.removing.contains(id) {
            if !is_up {
                self.engines.remove(&key);
                (seen.health, seen.usage) = (Health::Unknown, None);
            }
            return;
        }
        let member = self.engines.find(key.as_str()).or_else(|| {
            let endpoint = self.options.recipe.endpoint(&container.labels, &container.name)?;
            let inside = Contained {
                id: id.clone(),
                place: seen.place,
                labels: container.labels.clone(),
                image: container.image.clone(),
            };
            let member = self.engines.add(endpoint, inside, container.name.clone());
            seen.usage = Some(follow_usage(Arc::clone(&self.provisioner), Arc::clone(&member)));
            Some(member)
        });
        if let Some(member) = member {
            member.observed(&container.name, container.state == ContainerState::Paused);
        }
    }

    fn met(&mut self, result: Result<Vec<Container>, ProvisionError>) {
        let Ok(containers) = result else { return };
        let strangers = strangers_by_instance(&containers)
            .into_iter()
            .map(|(instance, names)| StrangerNote {
                adopt_with: format!("INSTANCE_ID={instance}"),
                instance,
                names,
            })
            .collect::<Vec<_>>();
        for stranger in strangers.iter().filter(|stranger| !self.strangers.contains(stranger)) {
            let (instance, engines) = (stranger.instance.clone(), stranger.names.len());
            self.emit(&Event::Strangers { instance, engines });
        }
        self.strangers = strangers;
    }

    /// Reports what probes have changed since the last pass.
    fn follow_health(&mut self, now: Moment) {
        let mut events = Vec::new();
        let mut ready = Vec::new();
        for (id, seen) in &mut self.seen {
            let Some(member) = self.engines.find(id.as_str()) else { continue };
            let health = member.knowledge().health;
            let engine = name_of(&seen.container);
            match (seen.health, health) {
                (before, after) if before == after => {}
                (_, Health::Healthy) if !seen.was_ready => {
                    seen.was_ready = true;
                    ready.push(seen.purpose);
                    events.push(Event::Ready { engine, took: now.saturating_sub(seen.running_since) });
                }
                (_, after) => {
                    events.push(Event::HealthChanged { engine, is_healthy: after == Health::Healthy });
                }
            }
            seen.health = health;
            if seen.was_ready && health == Health::Healthy {
                self.memory.places.lives(seen.place, now.saturating_sub(seen.running_since));
            }
        }
        for event in &events {
            self.emit(event);
        }
        for purpose in ready {
            self.creation_succeeded(purpose, now);
        }
    }

    // ---- decide ----

    fn policy(&self) -> Policy {
        let mut policy = self.options.policy.clone();
        policy.min = self.floor.unwrap_or(policy.min).clamp(policy.min, policy.max);
        policy
    }

    fn plan(&mut self, now: Moment) -> Plan {
        self.find_ports(now);
        self.memory.names_taken.retain(|_, until| *until > now);
        let views: Vec<EngineView> = self.seen.values().map(|seen| self.view(seen, now)).collect();
        let world = World {
            now,
            engines: &views,
            creating: &self.creating,
            demand: Demand { waiting: self.engines.waiting() },
            memory: &self.memory,
            ports: &self.candidates,
            forbidden: self.forbidden(now),
        };
        plan(&self.policy(), &world)
    }

    fn forbidden(&self, now: Moment) -> Option<Hold> {
        if let Daemon::Down { why, .. } = &self.daemon {
            return Some(Hold::DockerDown { why: why.clone() });
        }
        let image = self.image.as_ref().filter(|trouble| trouble.until > now)?;
        Some(Hold::ImageUnavailable { why: image.why.clone() })
    }

    /// Keeps a few free ports at hand; each is probed again when it is used.
    fn find_ports(&mut self, now: Moment) {
        let wanted = self.options.policy.concurrent;
        if self.candidates.len() >= wanted {
            return;
        }
        let mut used: BTreeSet<u16> = self.seen.values().flat_map(|seen| ports_of(&seen.container)).collect();
        used.extend(self.creating.iter().map(|creation| creation.port));
        used.extend(&self.candidates);
        let missing = wanted - self.candidates.len();
        self.candidates.extend(self.ports.free(missing, &used, now, is_free_here));
    }

    fn view(&self, seen: &Seen, now: Moment) -> EngineView {
        let container = &seen.container;
        let member = self.engines.find(container.id.as_str());
        let age = Timestamp::now().duration_since(container.created);
        EngineView {
            id: container.id.clone(),
            name: container.name.clone(),
            place: seen.place,
            standing: self.standing(seen, member.as_deref(), now),
            used: member.as_ref().map_or(0, |member| member.used()),
            idle_since: member
                .as_ref()
                .and_then(|member| member.idle_since())
                .map(|since| since.saturating_duration_since(self.epoch)),
            known_since: seen.known_since,
            age: Duration::try_from(age).unwrap_or_default(),
            memory: member.as_ref().and_then(|member| member.knowledge().usage).map(|usage| usage.memory),
            recipe: container.labels.get(label::RECIPE).cloned().unwrap_or_default(),
            cordoned: member.is_some_and(|member| member.is_cordoned()),
        }
    }

    fn standing(&self, seen: &Seen, member: Option<&Member>, now: Moment) -> Standing {
        let container = &seen.container;
        if self.removing.contains(&container.id) {
            return Standing::Leaving;
        }
        match (container.state, member) {
            (ContainerState::Removing, _) => Standing::Leaving,
            (ContainerState::Created, _) => Standing::Ended { why: "it was never started".into() },
            (ContainerState::Exited, _) => Standing::Ended { why: "its process ended".into() },
            (ContainerState::Dead, _) => Standing::Ended { why: "Docker calls it dead".into() },
            (ContainerState::Paused, _) => Standing::Frozen,
            (ContainerState::Running, None) => {
                Standing::Ended { why: "its labels do not say where it is reached".into() }
            }
            (ContainerState::Restarting, _) => Standing::Starting { since: seen.running_since },
            (ContainerState::Running, Some(member)) => {
                let known = member.knowledge();
                let since = now.saturating_sub(known.for_how_long());
                match known.health {
                    Health::Unknown => Standing::Starting { since: seen.running_since },
                    Health::Healthy => Standing::Ready,
                    Health::Unhealthy => Standing::Unhealthy { since, why: "its API does not answer".into() },
                }
            }
        }
    }

    /// What those who wait for a slot may hope for.
    fn outlook(&self, plan: &Plan) -> Outlook {
        let is_coming = !self.creating.is_empty()
            || self
                .seen
                .values()
                .any(|seen| !seen.was_ready && seen.container.state == ContainerState::Running)
            || plan.actions.iter().any(|action| matches!(action, Action::Create { .. }));
        if is_coming {
            return Outlook::Growing;
        }
        match plan.held.first() {
            None | Some(Hold::OneAfterTheOther) => Outlook::Growing,
            Some(hold) => {
                let lack = match hold {
                    Hold::NoPorts => Lack::Ports,
                    Hold::ImageUnavailable { .. } => Lack::Image,
                    _ => Lack::Engines,
                };
                Outlook::Stuck { lack, why: hold.to_string() }
            }
        }
    }

    // ---- apply ----

    fn apply(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Create { place, name, port, purpose, reason } => {
                let creation = Creation { place: *place, name: name.clone(), port: *port };
                self.create(creation, *purpose, reason, &Extra::default(), None, now);
            }
            Action::Cordon { id, reason } => self.cordon(id, true, reason),
            Action::Uncordon { id, reason } => self.cordon(id, false, reason),
            Action::Remove { id, reason, .. } => self.remove_if_unused(id, reason, now),
        }
    }

    fn cordon(&self, id: &ContainerId, is_cordoned: bool, reason: &Reason) {
        let (Some(member), Some(seen)) = (self.engines.find(id.as_str()), self.seen.get(id)) else { return };
        member.cordon(is_cordoned);
        self.engines.serve();
        let engine = name_of(&seen.container);
        self.emit(&Event::Cordoned { engine, is_cordoned, reason: reason.clone() });
    }

    fn create(
        &mut self,
        creation: Creation,
        purpose: Purpose,
        reason: &Reason,
        extra: &Extra,
        answer: Option<Answer<Provisioned>>,
        now: Moment,
    ) {
        self.candidates.retain(|port| *port != creation.port);
        if !is_free_here(creation.port) {
            self.ports.quarantine(creation.port, now);
            if let Some(answer) = answer {
                // Who asked has gone when this fails.
                let _answered = answer.send(Err(ProvisionError::PortTaken { port: creation.port }.into()));
            }
            return;
        }
        self.emit(&Event::Creating { name: creation.name.clone(), reason: reason.clone() });
        self.memory.last_creation = Some(now);
        self.breaker(purpose).begin(now);
        let ports = EnginePorts { http: creation.port, https: self.https_port(creation.port), p2p: None };
        let spec = self.options.recipe.spec(creation.place, &creation.name, ports, extra);
        self.creating.push(creation.clone());
        let job = Box::new(Job { creation, purpose, spec, began: now, answer });
        let provisioner = self.provisioner();
        self.tasks.spawn(async move {
            let result = provisioner.create(&job.spec).await;
            Outcome::Created { job, result }
        });
    }

    /// In the container's own network, so any number serves that no other engine behind the same VPN has.
    fn https_port(&self, http: u16) -> u16 {
        let (from, to) = (self.options.https_ports.start(), self.options.https_ports.end());
        let offset = http.saturating_sub(*self.options.ports.start());
        from + offset % (to - from).saturating_add(1).max(1)
    }

    fn created(&mut self, job: Job, result: Result<ContainerId, ProvisionError>, now: Moment) {
        let Job { creation, purpose, spec, began, answer } = job;
        self.creating.retain(|other| other.name != creation.name);
        let reply = match result {
            Ok(id) => {
                self.image = None;
                let container = fresh(&id, &spec);
                self.emit(&Event::Created { engine: name_of(&container), took: now.saturating_sub(began) });
                self.insert(container, purpose, now);
                Ok(Provisioned {
                    container_id: id.as_str().to_owned(),
                    container_name: spec.name,
                    host_http_port: spec.http_port,
                    container_http_port: spec.http_port,
                    container_https_port: spec.https_port,
                })
            }
            Err(error) => {
                self.not_created(&creation, purpose, &error, now);
                Err(error.into())
            }
        };
        if let Some(answer) = answer {
            // Who asked may have gone; the engine stays and is used.
            let _answered = answer.send(reply);
        }
    }

    fn not_created(&mut self, creation: &Creation, purpose: Purpose, error: &ProvisionError, now: Moment) {
        let why = error.to_string();
        self.emit(&Event::CreationFailed { name: creation.name.clone(), why: why.clone() });
        match error {
            ProvisionError::NameTaken { name } => {
                self.memory.names_taken.insert(name.clone(), now + NAME_AVOIDED);
                self.breaker(purpose).inconclusive(now);
            }
            ProvisionError::PortTaken { port } => {
                self.ports.quarantine(*port, now);
                self.breaker(purpose).inconclusive(now);
            }
            ProvisionError::ImageUnavailable { .. } => {
                let pause = self.image.as_ref().map_or(IMAGE_PAUSE, |trouble| trouble.pause * 2);
                let pause = pause.min(LONGEST_IMAGE_PAUSE);
                self.image = Some(ImageTrouble { until: now + pause, pause, why });
                // It has a pause of its own, and a viewer is told about the image rather than about the breaker.
                self.breaker(purpose).inconclusive(now);
            }
            _ => {
                self.note_failure(creation.name.clone(), why.clone(), Vec::new(), now);
                self.memory.places.failed(creation.place, now, why);
                self.creation_failed(purpose, now);
            }
        }
    }

    /// An engine that still has streams stays; the next plan decides again.
    fn remove_if_unused(&mut self, id: &ContainerId, reason: &Reason, now: Moment) {
        let is_dead = matches!(reason, Reason::Ended { .. } | Reason::NotReady { .. });
        let is_waiting = self.removal_retry.get(id).is_some_and(|at| *at > now);
        if is_waiting || self.removing.contains(id) || matches!(self.daemon, Daemon::Down { .. }) {
            return;
        }
        let is_free = self.engines.find(id.as_str()).is_none_or(|member| member.retire());
        if is_dead || is_free {
            self.remove(id, reason.clone(), None);
        }
        let Some(seen) = self.seen.get(id) else { return };
        if let Reason::NotReady { .. } = reason {
            let (place, purpose) = (seen.place, seen.purpose);
            self.memory.places.failed(place, now, reason.to_string());
            self.creation_failed(purpose, now);
        }
    }

    fn remove(&mut self, id: &ContainerId, reason: Reason, answer: Option<Answer<()>>) {
        let Some(seen) = self.seen.get(id) else { return };
        self.removing.insert(id.clone());
        let is_dead = matches!(reason, Reason::Ended { .. } | Reason::NotReady { .. });
        if is_dead {
            self.engines.remove(&EngineKey::from(id));
        }
        let removal = Removal { engine: name_of(&seen.container), reason, post_mortem: None, answer };
        let (provisioner, id) = (self.provisioner(), id.clone());
        self.tasks.spawn(async move {
            let mut removal = Box::new(removal);
            if is_dead {
                removal.post_mortem = provisioner.post_mortem(&id).await.ok();
            }
            let result = provisioner.remove(&id).await;
            Outcome::Removed { removal, result }
        });
    }

    fn removed(&mut self, removal: Removal, result: Result<(), ProvisionError>, now: Moment) {
        let Removal { engine, reason, post_mortem, answer } = removal;
        let id = engine.id.clone();
        self.removing.remove(&id);
        if let Some(post_mortem) = post_mortem {
            self.note_failure(
                engine.name.clone(),
                describe(&reason, &post_mortem),
                post_mortem.log.clone(),
                now,
            );
            self.emit(&Event::Ended { engine: engine.clone(), post_mortem });
        }
        match &result {
            Ok(()) => {
                self.forget(&id);
                self.gone.insert(id.clone(), now);
                self.emit(&Event::Removed { engine, reason });
            }
            Err(error) => {
                self.removal_retry.insert(id.clone(), now + REMOVAL_PAUSE);
                if let Some(member) = self.engines.find(id.as_str()) {
                    member.reopen();
                }
                self.emit(&Event::RemovalFailed { engine, why: error.to_string() });
                self.is_stale = true;
            }
        }
        if let Some(answer) = answer {
            // Who asked may have gone.
            let _answered = answer.send(result.map_err(CommandError::from));
        }
    }

    fn breaker(&mut self, purpose: Purpose) -> &mut Breaker {
        match purpose {
            Purpose::Growth => &mut self.memory.growth,
            Purpose::Replacement => &mut self.memory.replacement,
        }
    }

    fn creation_failed(&mut self, purpose: Purpose, now: Moment) {
        let breaker = self.breaker(purpose);
        let (opened, failures) = (breaker.failed(now), breaker.failures());
        if opened {
            self.emit(&Event::Breaker { purpose, is_open: true, failures });
        }
    }

    fn creation_succeeded(&mut self, purpose: Purpose, now: Moment) {
        let breaker = self.breaker(purpose);
        let failures = breaker.failures();
        if breaker.succeeded(now) {
            self.emit(&Event::Breaker { purpose, is_open: false, failures });
        }
    }

    fn note_failure(&mut self, name: String, why: String, log: Vec<String>, now: Moment) {
        self.failures.truncate(FAILURES_KEPT - 1);
        self.failures.push_front(FailureNote { at: self.wall(now), name, why, log });
    }

    // ---- obey ----

    pub(crate) fn obey(&mut self, command: Command) {
        let now = self.now();
        // Everywhere: who asked may have gone, and what was asked for is done all the same.
        match command {
            Command::Scale(engines, answer) => {
                let Policy { min, max, .. } = self.options.policy;
                let to = engines.clamp(min, max);
                self.floor = Some(to);
                self.emit(&Event::Scaled { to });
                let _answered = answer.send(to);
            }
            Command::Provision(extra, answer) => self.provision(&extra, answer, now),
            Command::Remove(id, answer) => {
                if self.seen.contains_key(&id) && !self.removing.contains(&id) {
                    if let Some(member) = self.engines.find(id.as_str()) {
                        member.close();
                    }
                    self.remove(&id, Reason::Asked, Some(answer));
                } else {
                    let _answered = answer.send(Err(CommandError::Unknown));
                }
            }
            Command::Recipe(recipe, answer) => {
                let _answered = answer.send(self.adopt_recipe(*recipe, now));
            }
            Command::Policy(policy, answer) => {
                let recipe = std::mem::take(&mut self.options.policy.recipe);
                self.options.policy = Policy { recipe, ..*policy };
                let _answered = answer.send(());
            }
            Command::ResetBreakers(which, answer) => {
                for purpose in [Purpose::Growth, Purpose::Replacement] {
                    if which.is_none_or(|which| which == purpose) {
                        self.breaker(purpose).reset();
                    }
                }
                self.memory.places.forget();
                self.image = None;
                let _answered = answer.send(());
            }
        }
    }

    fn adopt_recipe(&mut self, recipe: Recipe, now: Moment) -> usize {
        self.options.policy.recipe = recipe.fingerprint();
        self.options.recipe = recipe;
        let outdated = self.outdated();
        self.rollout = Rollout { began: Some(self.wall(now)), total: outdated, left: outdated };
        outdated
    }

    fn outdated(&self) -> usize {
        let current = &self.options.policy.recipe;
        self.seen.values().filter(|seen| seen.container.labels.get(label::RECIPE) != Some(current)).count()
    }

    fn provision(&mut self, extra: &Extra, answer: Answer<Provisioned>, now: Moment) {
        match self.may_provision(extra, now) {
            Ok(port) => {
                let taken: BTreeSet<String> = self
                    .seen
                    .values()
                    .map(|seen| seen.container.name.clone())
                    .chain(self.creating.iter().map(|creation| creation.name.clone()))
                    .chain(self.memory.names_taken.keys().cloned())
                    .collect();
                let name = free_names(&taken).next().unwrap_or_default();
                let creation = Creation { place: self.vacant_place(), name, port };
                self.create(creation, Purpose::Growth, &Reason::Asked, extra, Some(answer), now);
            }
            Err(error) => {
                // Who asked may have gone.
                let _answered = answer.send(Err(error));
            }
        }
    }

    fn may_provision(&mut self, extra: &Extra, now: Moment) -> Result<u16, CommandError> {
        let max = self.options.policy.max;
        if self.seen.len() + self.creating.len() >= max {
            return Err(CommandError::AtMaximum { max });
        }
        if let Some(until) = self.memory.growth.opens_at(now) {
            return Err(CommandError::BreakerOpen { seconds: until.saturating_sub(now).as_secs() + 1 });
        }
        self.find_ports(now);
        extra.port.or_else(|| self.candidates.first().copied()).ok_or(CommandError::NoPorts)
    }

    fn vacant_place(&self) -> usize {
        let taken: BTreeSet<usize> = self
            .seen
            .values()
            .map(|seen| seen.place)
            .chain(self.creating.iter().map(|creation| creation.place))
            .collect();
        (1..=taken.len() + 1).find(|place| !taken.contains(place)).unwrap_or(1)
    }

    // ---- tell ----

    fn publish(&mut self, plan: Plan, now: Moment) {
        self.rollout.left = if self.rollout.began.is_some() { self.outdated() } else { 0 };
        let current = &self.options.policy.recipe;
        let containers = self
            .seen
            .values()
            .map(|seen| {
                let member = self.engines.find(seen.container.id.as_str());
                ContainerNote {
                    id: seen.container.id.as_str().to_owned(),
                    name: seen.container.name.clone(),
                    state: seen.container.state.as_str(),
                    place: seen.place,
                    standing: word(&self.standing(seen, member.as_deref(), now)),
                    is_current: seen.container.labels.get(label::RECIPE) == Some(current),
                }
            })
            .collect();
        let policy = self.policy();
        let snapshot = Snapshot {
            at: self.wall(now),
            plan,
            demand: Demand { waiting: self.engines.waiting() },
            docker: match &self.daemon {
                Daemon::Unknown => DockerState::Unknown,
                Daemon::Up => DockerState::Up,
                Daemon::Down { since, why } => {
                    DockerState::Down { since: self.wall(*since), why: why.clone() }
                }
            },
            containers,
            creating: self.creating.iter().map(|creation| creation.name.clone()).collect(),
            min: policy.min,
            max: policy.max,
            breakers: [&self.memory.growth, &self.memory.replacement]
                .map(|breaker| breaker_note(breaker, now, |at| self.wall(at))),
            strangers: self.strangers.clone(),
            failures: self.failures.iter().cloned().collect(),
            rollout: self.rollout.clone(),
        };
        self.snapshot.send_replace(Arc::new(snapshot));
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

/// A container as it must be right after its creation, until the next list shows it.
fn fresh(id: &ContainerId, spec: &EngineSpec) -> Container {
    Container {
        id: id.clone(),
        name: spec.name.clone(),
        image: spec.image.clone(),
        state: ContainerState::Running,
        created: Timestamp::now(),
        labels: spec.labels.clone(),
        ports: spec.publish.iter().map(|port| (*port, "127.0.0.1".to_owned(), *port)).collect(),
    }
}

fn ports_of(container: &Container) -> impl Iterator<Item = u16> {
    let labels = [label::HTTP_PORT, label::HOST_HTTP_PORT, label::HOST_HTTPS_PORT];
    let labelled = labels.into_iter().filter_map(|name| container.labels.get(name)?.parse().ok());
    labelled.chain(container.ports.iter().map(|(_, _, host)| *host)).collect::<Vec<_>>().into_iter()
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Starting { .. } => "starting",
        Standing::Ready => "ready",
        Standing::Unhealthy { .. } => "unhealthy",
        Standing::Frozen => "frozen",
        Standing::Ended { .. } => "ended",
        Standing::Leaving => "leaving",
    }
}

fn describe(reason: &Reason, post_mortem: &PostMortem) -> String {
    let mut text = reason.to_string();
    if let Some(code) = post_mortem.exit_code {
        text = format!("{text}, exit code {code}");
    }
    if post_mortem.out_of_memory {
        text.push_str(", out of memory");
    }
    if let Some(error) = &post_mortem.error {
        text = format!("{text}: {error}");
    }
    text
}

/// One stream of statistics for as long as the handle lives.
#[expect(clippy::disallowed_methods, reason = "the handle is the owner: dropping it ends the task")]
fn follow_usage(provisioner: Arc<dyn Provisioner>, member: Arc<Member>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Some(id) = member.container.as_ref().map(|container| container.id.clone()) else { return };
        loop {
            let mut usage = provisioner.usage(&id);
            while let Some(used) = usage.next().await {
                member.uses(used);
            }
            sleep(USAGE_PAUSE).await;
        }
    }))
}
