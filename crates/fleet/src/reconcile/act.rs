//! What the plan says: engines are cordoned, created and removed, and failures are remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::command::Request;
use super::daemon::Answers;
use super::flight::Errand;
use super::{Answer, Job, Outcome, Reconciler, Removal, name_of};
use crate::allowed::Extra;
use crate::backoff::{Breaker, Moment};
use crate::command::{CommandError, Provisioned};
use crate::event::Event;
use crate::ident::ContainerId;
use crate::member::EngineKey;
use crate::plan::{Action, Creation, NAME_AVOIDED, Purpose, Reason};
use crate::ports::is_free_here;
use crate::provisioner::{Container, ContainerState, PostMortem, ProvisionError};
use crate::snapshot::FailureNote;
use crate::spec::{EngineSpec, Network, label};
use crate::tunnel::TunnelName;

/// Names that were looked at so long before a creation may have been taken since.
const FRESH_NAMES: Duration = Duration::from_secs(1);

impl Reconciler {
    pub(super) fn apply(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Create { creation, purpose, reason } => {
                self.create(creation.clone(), *purpose, reason, &Extra::default(), None, now);
            }
            Action::Cordon { id, reason } => self.cordon(id, true, reason, now),
            Action::Uncordon { id, reason } => self.cordon(id, false, reason, now),
            Action::Remove { id, reason, .. } => self.remove_if_unused(id, reason, now),
            Action::RestartVpn { tunnel, id, reason } => self.restart_vpn(tunnel, id, reason, now),
        }
    }

    fn cordon(&mut self, id: &ContainerId, is_cordoned: bool, reason: &Reason, now: Moment) {
        let (Some(member), Some(seen)) = (self.engines.find(id.as_str()), self.daemon.seen.get(id)) else {
            return;
        };
        if is_cordoned && reason.is_weeding() {
            self.history.memory.last_weeding = Some(now);
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
        request: Option<Request>,
        now: Moment,
    ) {
        let (Some(mut spec), Some(exit)) =
            (self.spec(&creation, extra), self.exits.find_mut(&creation.tunnel))
        else {
            if let Some(request) = request {
                let why = format!("{} is no way out for engines", creation.tunnel);
                request.answer(Err(CommandError::Held { why }));
            }
            return;
        };
        exit.takes(creation.port);
        if creation.tunnel == TunnelName::Direct && !is_free_here(creation.port) {
            exit.quarantine(creation.port, now);
            if let Some(request) = request {
                request.answer(Err(ProvisionError::PortTaken { port: creation.port }.into()));
            }
            return;
        }
        self.emit(&Event::Creating { name: creation.name.clone(), reason: reason.clone() });
        self.history.memory.last_creation = Some(now);
        self.breaker(purpose).begin(now);
        spec.labels.put(label::RUN, self.options.run.clone());
        let errand = Errand::Create(creation.clone(), purpose);
        let job = Box::new(Job { creation, purpose, spec, began: now, request });
        let provisioner = self.provisioner();
        self.flight.begin(errand, async move {
            let result = provisioner.create(&job.spec).await;
            Outcome::Created { job, result }
        });
    }

    /// `None`, and nothing is created: the port is not one of the tunnel's, or an engine that is to hide behind a VPN has
    /// none to hide behind. Neither is planned; the second would show everybody the host's address.
    fn spec(&self, creation: &Creation, extra: &Extra) -> Option<EngineSpec> {
        let Creation { place, name, port, tunnel, namespace, forwarded } = creation;
        let ports = self.exits.engine_ports(tunnel, *port, *forwarded)?;
        let recipe = &self.options.recipe;
        match (tunnel, namespace) {
            (TunnelName::Direct, None) if !recipe.behind_vpn => Some(recipe.spec(*place, name, ports, extra)),
            (TunnelName::Vpn(vpn), Some(namespace)) => {
                Some(recipe.spec_inside((vpn, namespace), (*place, name), ports, extra))
            }
            _ => {
                tracing::error!(name, %tunnel, "an engine without a network to hide in is not created");
                None
            }
        }
    }

    fn restart_vpn(&mut self, tunnel: &TunnelName, id: &ContainerId, reason: &Reason, now: Moment) {
        self.history.memory.restarts.insert(tunnel.clone(), now);
        self.emit(&Event::TunnelRestarted { tunnel: tunnel.clone(), reason: reason.clone() });
        let (provisioner, tunnel, id) = (self.provisioner(), tunnel.clone(), id.clone());
        self.flight.begin(Errand::RestartVpn(tunnel.clone()), async move {
            let result = provisioner.restart_vpn(&id).await;
            Outcome::Restarted { tunnel, result }
        });
    }

    pub(super) fn restarted(&mut self, tunnel: TunnelName, result: Result<(), ProvisionError>) {
        if let Err(error) = result {
            self.emit(&Event::TunnelNotRestarted { tunnel, why: error.to_string() });
        }
    }

    pub(super) fn created(&mut self, job: Job, result: Result<ContainerId, ProvisionError>, now: Moment) {
        let Job { creation, purpose, spec, began, request } = job;
        let reply = match result {
            Ok(id) => {
                self.history.image_works();
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
                Err(error)
            }
        };
        if let Some(request) = request {
            self.answer_or_rename(request, reply);
        }
    }

    fn not_created(&mut self, creation: &Creation, purpose: Purpose, error: &ProvisionError, now: Moment) {
        let why = error.to_string();
        self.emit(&Event::CreationFailed { name: creation.name.clone(), why: why.clone() });
        match error {
            ProvisionError::NameTaken { .. } => self.breaker(purpose).inconclusive(now),
            // The VPN went while the engine came: it is no failure of engines, and the plan will know in a moment.
            ProvisionError::Network { .. } if creation.tunnel != TunnelName::Direct => {
                self.history.memory.places.failed(creation.place, now, why);
                self.breaker(purpose).inconclusive(now);
            }
            // Nothing was tried, so nothing has failed; the place only has its pause before the next try.
            ProvisionError::Shortage { .. } => {
                self.history.memory.places.failed(creation.place, now, why);
                self.breaker(purpose).inconclusive(now);
            }
            ProvisionError::PortTaken { port } => {
                if let Some(exit) = self.exits.find_mut(&creation.tunnel) {
                    exit.quarantine(*port, now);
                }
                self.breaker(purpose).inconclusive(now);
            }
            ProvisionError::ImageUnavailable { .. } => {
                self.history.image_failed(why, now);
                // It has a pause of its own, and a viewer is told about the image rather than about the breaker.
                self.breaker(purpose).inconclusive(now);
            }
            _ => {
                self.note_failure(creation.name.clone(), why.clone(), Vec::new(), now);
                self.history.memory.places.failed(creation.place, now, why);
                self.creation_failed(purpose, now);
            }
        }
    }

    /// What has come of it is not known: a list shows it if it exists.
    pub(super) fn creation_lost(&mut self, creation: &Creation, purpose: Purpose, now: Moment) {
        let why = "our own task for it broke off".to_owned();
        self.emit(&Event::CreationFailed { name: creation.name.clone(), why: why.clone() });
        self.history.memory.places.failed(creation.place, now, why);
        self.creation_failed(purpose, now);
    }

    /// Somebody has taken the name since the names were looked at. They are looked at again before another one is
    /// chosen, and that creation may begin at once: this one has cost the daemon nothing. Only one that was refused
    /// though its name had just been free counts as begun, or a daemon that refuses every name would be stormed.
    fn name_was_taken(&mut self, name: &str, began: Moment, now: Moment) {
        let is_news = self.daemon.neighbours.at.is_none_or(|at| began.saturating_sub(at) >= FRESH_NAMES);
        if is_news && self.history.memory.last_creation == Some(began) {
            self.history.memory.last_creation = None;
        }
        self.history.memory.names_taken.insert(name.to_owned(), now + NAME_AVOIDED);
        self.daemon.neighbours.is_known = false;
        self.ask_for_neighbours(now);
    }

    /// An engine that still has streams stays; the next plan decides again.
    fn remove_if_unused(&mut self, id: &ContainerId, reason: &Reason, now: Moment) {
        let is_waiting = self.history.is_removal_held(id, now);
        if is_waiting || self.flight.is_removing(id) || matches!(self.daemon.answers, Answers::Down { .. }) {
            return;
        }
        let is_free = self.engines.find(id.as_str()).is_none_or(|member| member.retire());
        if reason.is_urgent() || is_free {
            self.note_outside(id, reason);
            self.remove(id, reason.clone(), None, now);
        }
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        if matches!(reason, Reason::NotReady { .. }) && !std::mem::replace(&mut seen.is_counted, true) {
            let (place, purpose) = (seen.place, seen.purpose);
            let tunnel = TunnelName::of(&seen.container.labels);
            self.history.memory.places.failed(place, now, reason.to_string());
            self.came_to_nothing(&tunnel, purpose, now);
        }
    }

    /// However often its removal is tried, it was found once.
    fn note_outside(&mut self, id: &ContainerId, reason: &Reason) {
        let Reason::OutsideTunnel { tunnel } = reason else { return };
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        if !std::mem::replace(&mut seen.was_outside, true) {
            self.history.outside += 1;
            let engine = name_of(&seen.container);
            self.emit(&Event::Outside { engine, tunnel: tunnel.clone() });
        }
    }

    pub(super) fn remove(
        &mut self,
        id: &ContainerId,
        reason: Reason,
        answer: Option<Answer<()>>,
        now: Moment,
    ) {
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        seen.leaving.get_or_insert(now);
        let is_dead = reason.is_end();
        if reason.is_urgent() {
            self.engines.remove(&EngineKey::from(id));
        }
        let removal = Removal { engine: name_of(&seen.container), reason, post_mortem: None, answer };
        let (provisioner, id) = (self.provisioner(), id.clone());
        self.flight.begin(Errand::Remove(id.clone()), async move {
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
                self.history.gone.insert(id, now);
                self.emit(&Event::Removed { engine, reason });
            }
            Err(error) => {
                if let (Some(seen), false) = (self.daemon.seen.get_mut(&id), error.is_still_removing()) {
                    seen.leaving = None;
                }
                self.not_removed(&id, &error.to_string(), now);
            }
        }
        if let Some(answer) = answer {
            // Who asked may have gone.
            let _answered = answer.send(result.map_err(CommandError::from));
        }
    }

    /// It is tried again after a pause, if it is still to go by then.
    pub(super) fn not_removed(&mut self, id: &ContainerId, why: &str, now: Moment) {
        self.history.removal_failed(id.clone(), now);
        if let Some(member) = self.engines.find(id.as_str()) {
            member.reopen();
        }
        if let Some(seen) = self.daemon.seen.get(id) {
            self.emit(&Event::RemovalFailed { engine: name_of(&seen.container), why: why.to_owned() });
        }
        self.daemon.changed = Some(now);
    }

    pub(super) fn breaker(&mut self, purpose: Purpose) -> &mut Breaker {
        match purpose {
            Purpose::Growth => &mut self.history.memory.growth,
            Purpose::Replacement => &mut self.history.memory.replacement,
        }
    }

    pub(super) fn creation_failed(&mut self, purpose: Purpose, now: Moment) {
        let breaker = self.breaker(purpose);
        let (opened, failures) = (breaker.failed(now), breaker.failures());
        if opened {
            self.emit(&Event::Breaker { purpose, is_open: true, failures });
        }
    }

    /// An engine was created, and has ended or was given up before it ever answered.
    pub(super) fn came_to_nothing(&mut self, tunnel: &TunnelName, purpose: Purpose, now: Moment) {
        let tunnels = self.exits.views(self.clock.epoch);
        if self.history.memory.came_to_nothing((tunnel, purpose), &tunnels, now) {
            let failures = self.breaker(purpose).failures();
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
        let at = self.wall(now);
        self.history.note(FailureNote { at, name, why, log });
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
        inside: match &spec.network {
            Network::Container(id) => Some(id.as_str().to_owned()),
            Network::Named { .. } | Network::Host => None,
        },
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
