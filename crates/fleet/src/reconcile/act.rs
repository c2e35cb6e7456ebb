//! What the plan says: engines are cordoned, created and removed, and failures are remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Answer, Daemon, ImageTrouble, Job, Outcome, Reconciler, Removal, name_of};
use crate::allowed::{Extra, HostPort};
use crate::backoff::{Breaker, Moment};
use crate::event::Event;
use crate::fleet::{CommandError, FailureNote, Provisioned};
use crate::ident::ContainerId;
use crate::member::EngineKey;
use crate::plan::{Action, Creation, NAME_AVOIDED, Purpose, Reason};
use crate::ports::is_free_here;
use crate::provisioner::{Container, ContainerState, PostMortem, ProvisionError};
use crate::recipe::EnginePorts;
use crate::spec::{EngineSpec, label};

/// Pause before a failed removal is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_secs(5);

/// Pause after the image could not be pulled, doubled by each further failure.
const IMAGE_PAUSE: Duration = Duration::from_secs(5);

const LONGEST_IMAGE_PAUSE: Duration = Duration::from_mins(1);

/// Names that were looked at so long before a creation may have been taken since.
const FRESH_NAMES: Duration = Duration::from_secs(1);

/// Failures kept for the operator's page.
const FAILURES_KEPT: usize = 20;

impl Reconciler {
    pub(super) fn apply(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Create { place, name, port, purpose, reason } => {
                let creation = Creation { place: *place, name: name.clone(), port: *port };
                self.create(creation, *purpose, reason, &Extra::default(), None, now);
            }
            Action::Cordon { id, reason } => self.cordon(id, true, reason, now),
            Action::Uncordon { id, reason } => self.cordon(id, false, reason, now),
            Action::Remove { id, reason, .. } => self.remove_if_unused(id, reason, now),
        }
    }

    fn cordon(&mut self, id: &ContainerId, is_cordoned: bool, reason: &Reason, now: Moment) {
        let (Some(member), Some(seen)) = (self.engines.find(id.as_str()), self.seen.get(id)) else { return };
        if is_cordoned && reason.is_weeding() {
            self.memory.last_weeding = Some(now);
        }
        member.cordon(is_cordoned);
        self.engines.serve();
        let engine = name_of(&seen.container);
        self.emit(&Event::Cordoned { engine, is_cordoned, reason: reason.clone() });
    }

    pub(super) fn create(
        &mut self,
        creation: Creation,
        purpose: Purpose,
        reason: &Reason,
        extra: &Extra,
        answer: Option<Answer<Provisioned>>,
        now: Moment,
    ) {
        self.candidates.retain(|port| *port != creation.port);
        // The pool and the door keep to the range.
        let Ok(http) = self.options.ports.port(creation.port) else { return };
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
        let ports = EnginePorts { http, https: self.https_port(creation.port), p2p: None };
        let mut spec = self.options.recipe.spec(creation.place, &creation.name, ports, extra);
        spec.labels.put(label::RUN, self.options.run.clone());
        self.creating.push(creation.clone());
        let job = Box::new(Job { creation, purpose, spec, began: now, answer });
        let provisioner = self.provisioner();
        self.tasks.spawn(async move {
            let result = provisioner.create(&job.spec).await;
            Outcome::Created { job, result }
        });
    }

    /// In the container's own network, so any number serves that no other engine behind the same VPN has.
    fn https_port(&self, http: u16) -> HostPort {
        self.options.https_ports.at(http.saturating_sub(*self.options.ports.range().start()))
    }

    pub(super) fn created(&mut self, job: Job, result: Result<ContainerId, ProvisionError>, now: Moment) {
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
                    host_http_port: spec.http_port.get(),
                    container_http_port: spec.http_port.get(),
                    container_https_port: spec.https_port.get(),
                })
            }
            Err(error) => {
                if let ProvisionError::NameTaken { name } = &error {
                    self.name_was_taken(name, began, now);
                }
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
            ProvisionError::NameTaken { .. } => self.breaker(purpose).inconclusive(now),
            // Nothing was tried, so nothing has failed; the place only has its pause before the next try.
            ProvisionError::Shortage { .. } => {
                self.memory.places.failed(creation.place, now, why);
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

    /// Somebody has taken the name since the names were looked at. They are looked at again before another one is
    /// chosen, and that creation may begin at once: this one has cost the daemon nothing. Only one that was refused
    /// though its name had just been free counts as begun, or a daemon that refuses every name would be stormed.
    fn name_was_taken(&mut self, name: &str, began: Moment, now: Moment) {
        let is_news = self.neighbours.at.is_none_or(|at| began.saturating_sub(at) >= FRESH_NAMES);
        if is_news && self.memory.last_creation == Some(began) {
            self.memory.last_creation = None;
        }
        self.memory.names_taken.insert(name.to_owned(), now + NAME_AVOIDED);
        self.neighbours.is_known = false;
        self.ask_for_neighbours(now);
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

    pub(super) fn remove(&mut self, id: &ContainerId, reason: Reason, answer: Option<Answer<()>>) {
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

    pub(super) fn removed(&mut self, removal: Removal, result: Result<(), ProvisionError>, now: Moment) {
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

    pub(super) fn breaker(&mut self, purpose: Purpose) -> &mut Breaker {
        match purpose {
            Purpose::Growth => &mut self.memory.growth,
            Purpose::Replacement => &mut self.memory.replacement,
        }
    }

    pub(super) fn creation_failed(&mut self, purpose: Purpose, now: Moment) {
        let breaker = self.breaker(purpose);
        let (opened, failures) = (breaker.failed(now), breaker.failures());
        if opened {
            self.emit(&Event::Breaker { purpose, is_open: true, failures });
        }
    }

    pub(super) fn creation_succeeded(&mut self, purpose: Purpose, now: Moment) {
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
}

/// A container as it must be right after its creation, until the next list shows it.
fn fresh(id: &ContainerId, spec: &EngineSpec) -> Container {
    Container {
        id: id.clone(),
        name: spec.name.clone(),
        image: spec.image.to_string(),
        state: ContainerState::Running,
        created: Timestamp::now(),
        labels: BTreeMap::clone(&spec.labels),
        ports: spec.publish.iter().map(|port| (port.get(), "127.0.0.1".to_owned(), port.get())).collect(),
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
