//! What there is: containers as the daemon lists them, and what became of those that are known.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Endpoint;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::daemon::{Answers, Seen};
use super::decide::{forwarded, home};
use super::exits::{Exit, Exits};
use super::flight::Errand;
use super::history::End;
use super::{Outcome, Reconciler, name_of};
use crate::backoff::Moment;
use crate::event::Event;
use crate::ident::ContainerId;
use crate::member::{Contained, EngineKey, Health, Member};
use crate::plan::{Home, NAME_AVOIDED, Purpose};
use crate::provisioner::{Container, ContainerState, Neighbours, ProvisionError, Provisioner};
use crate::recipe::Recipe;
use crate::snapshot::{StrangerNote, strangers_by_instance};
use crate::spec::label;
use crate::tunnel::TunnelName;

/// Least time between two lists: a flood of events costs one call a second.
const LIST_PAUSE: Duration = Duration::from_secs(1);

/// A list that was asked for so soon after a change may not show it: the daemon tells of some before it has written them
/// down, which takes as long as its disk does. Such a change is looked for once more.
const SETTLING: Duration = Duration::from_millis(500);

/// How often it is looked what others have on this daemon.
const NEIGHBOURS_EVERY: Duration = Duration::from_mins(1);

/// An engine and its VPN whose ends are noticed within so long have ended together: a VPN is looked at every 5 s, and at once
/// when the daemon tells of it.
const TOGETHER: Duration = Duration::from_secs(10);

/// The daemon tells what a container uses every second. What says nothing for so long will not say anything again: a
/// connection over a network may end without a word.
const USAGE_SILENCE: Duration = Duration::from_secs(30);

/// Pause before the statistics of a container are asked for again.
const USAGE_PAUSE: Duration = Duration::from_secs(5);

impl Reconciler {
    pub(super) fn look(&mut self, now: Moment) {
        let since = self.daemon.last_list.map(|at| now.saturating_sub(at));
        let is_due = since.is_none_or(|since| {
            since >= LIST_PAUSE && (self.daemon.changed.is_some() || since >= self.options.monitor)
        });
        if is_due && !self.flight.is_listing() {
            self.daemon.last_list = Some(now);
            self.daemon.changed.take_if(|changed| now.saturating_sub(*changed) >= SETTLING);
            let provisioner = self.provisioner();
            let list = async move { Outcome::Listed { began: now, result: provisioner.list().await } };
            self.flight.begin(Errand::List, list);
        }
        let at = self.daemon.neighbours.at;
        if at.is_none_or(|at| now.saturating_sub(at) >= NEIGHBOURS_EVERY) {
            self.ask_for_neighbours(now);
        }
    }

    pub(super) fn ask_for_neighbours(&mut self, now: Moment) {
        if self.flight.asks_for_neighbours() {
            return;
        }
        self.daemon.neighbours.at = Some(now);
        let provisioner = self.provisioner();
        let ask = async move { Outcome::Neighbours(provisioner.neighbours().await) };
        self.flight.begin(Errand::Neighbours, ask);
    }

    pub(super) fn listed(
        &mut self,
        began: Moment,
        result: Result<Vec<Container>, ProvisionError>,
        now: Moment,
    ) {
        let containers = match result {
            Ok(containers) => containers,
            Err(error) => return self.daemon_failed(&error, now),
        };
        self.daemon_answered(now);
        self.rivalry.began.get_or_insert(now);
        self.history.gone.retain(|_, at| *at >= began);
        let listed: BTreeSet<ContainerId> = containers.iter().map(|container| container.id.clone()).collect();
        let creating = self.flight.creating();
        for container in containers {
            let is_coming = creating.iter().any(|creation| creation.name == container.name);
            let is_gone = self.history.gone.contains_key(&container.id);
            if !is_coming && !is_gone && !self.is_older_than_its_creation(&container.id, began) {
                self.observe(container, now);
            }
        }
        // What is missing in a list that was asked for after it was there may be gone. One list does not decide that.
        let missing: Vec<_> = self
            .daemon
            .seen
            .iter()
            .filter(|(id, seen)| !listed.contains(*id) && seen.known_since < began)
            .filter(|(id, _)| !self.flight.is_removing(id) && !self.flight.is_inspecting(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            let provisioner = self.provisioner();
            self.flight.begin(Errand::Inspect(id.clone()), async move {
                let result = provisioner.inspect(&id).await;
                Outcome::Inspected { id, result }
            });
        }
    }

    /// Whether a list that was asked for then may show a container of ours as it was before it was started. What the
    /// creation has told is newer, and another list shows what has become of it since.
    fn is_older_than_its_creation(&mut self, id: &ContainerId, began: Moment) -> bool {
        let is_older = self.daemon.seen.get(id).is_some_and(|seen| seen.known_since > began);
        if is_older {
            self.daemon.changed.get_or_insert(began);
        }
        is_older
    }

    fn daemon_failed(&mut self, error: &ProvisionError, now: Moment) {
        self.daemon.changed = Some(now);
        if !matches!(self.daemon.answers, Answers::Down { .. }) {
            let why = error.to_string();
            self.emit(&Event::DockerDown { why: why.clone() });
            self.daemon.answers = Answers::Down { since: now, why };
        }
    }

    fn daemon_answered(&mut self, now: Moment) {
        if let Answers::Down { since, .. } = &self.daemon.answers {
            self.emit(&Event::DockerUp { after: now.saturating_sub(*since) });
        }
        self.daemon.answers = Answers::Up;
    }

    pub(super) fn inspected(
        &mut self,
        id: &ContainerId,
        result: Result<Option<Container>, ProvisionError>,
        now: Moment,
    ) {
        match result {
            // It may have been removed since it was asked for.
            Ok(Some(container)) if self.daemon.seen.contains_key(id) => self.observe(container, now),
            Ok(Some(_)) => {}
            // It goes by our own hand, and that hand will tell.
            Ok(None) if self.flight.is_removing(id) => {}
            Ok(None) => {
                if let Some(seen) = self.forget(id) {
                    self.history.memory.places.failed(
                        seen.place,
                        now,
                        "its container was removed by somebody else",
                    );
                    self.emit(&Event::Vanished { engine: name_of(&seen.container) });
                }
            }
            Err(error @ (ProvisionError::Unreachable { .. } | ProvisionError::Shortage { .. })) => {
                self.daemon_failed(&error, now);
            }
            // It answers, and has trouble with this one container. Another list shows whether it is still missing.
            Err(error) => {
                tracing::debug!(engine = %id, %error, "a container that no list shows cannot be looked at");
                self.look_again();
            }
        }
    }

    pub(super) fn forget(&mut self, id: &ContainerId) -> Option<Seen> {
        self.engines.remove(&EngineKey::from(id));
        self.history.forget(id);
        self.daemon.seen.remove(id)
    }

    /// Takes in one container as the daemon shows it now.
    pub(super) fn observe(&mut self, container: Container, now: Moment) {
        let id = container.id.clone();
        match self.daemon.seen.get_mut(&id) {
            Some(seen) => {
                let before = mem::replace(&mut seen.container, container);
                self.compare(&id, &before, now);
            }
            None => self.meet(container, now),
        }
        self.follow_address(&id, now);
        self.update_member(&id);
    }

    /// One that is new to us: left from an earlier run, or created by hand with our labels.
    fn meet(&mut self, container: Container, now: Moment) {
        let is_running = matches!(container.state, ContainerState::Running | ContainerState::Paused);
        if is_running {
            self.emit(&Event::Adopted { engine: name_of(&container) });
            self.note_rival(&container, now);
        }
        self.insert(container, Purpose::Growth, now);
    }

    pub(super) fn insert(&mut self, container: Container, purpose: Purpose, now: Moment) {
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
            is_counted: false,
            was_outside: false,
            leaving: None,
            health: Health::Unknown,
            usage: None,
        };
        self.daemon.seen.insert(id.clone(), seen);
        self.update_member(&id);
    }

    fn compare(&mut self, id: &ContainerId, before: &Container, now: Moment) {
        let is_removing = self.flight.is_removing(id);
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        let tunnel = TunnelName::of(&seen.container.labels);
        let with_vpn = self.exits.find(&tunnel).is_none_or(|exit| exit.has_left(&seen.container));
        let (was, is) = (before.state, seen.container.state);
        if was != is && is == ContainerState::Running {
            seen.running_since = now;
        }
        if is == ContainerState::Removing {
            seen.leaving.get_or_insert(now);
        }
        let ended = matches!(is, ContainerState::Exited | ContainerState::Dead);
        let is_new_end = ended && !matches!(was, ContainerState::Exited | ContainerState::Dead);
        let (place, purpose, was_ready) = (seen.place, seen.purpose, seen.was_ready);
        let renamed = (before.name != seen.container.name)
            .then(|| Event::Renamed { engine: name_of(&seen.container), from: before.name.clone() });
        if is_new_end && !is_removing && !mem::replace(&mut seen.is_counted, true) && !with_vpn {
            self.history.memory.places.failed(place, now, "its process ended");
            if !was_ready {
                self.came_to_nothing(&tunnel, purpose, now);
            }
            self.note_end(id, now);
        }
        if let Some(event) = renamed {
            self.emit(&event);
        }
    }

    fn note_end(&mut self, id: &ContainerId, now: Moment) {
        let Some(seen) = self.daemon.seen.get(id).filter(|seen| seen.container.inside.is_some()) else {
            return;
        };
        let (container, came_to_nothing) = (seen.container.clone(), !seen.was_ready);
        let (place, purpose) = (seen.place, seen.purpose);
        self.history.ends.push(End { at: now, container, place, purpose, came_to_nothing });
    }

    /// The daemon tells of an engine's end and of its VPN's in any order: when the VPN's comes second, the engine's place is
    /// not to blame.
    pub(super) fn forgive_ends(&mut self, now: Moment) {
        let Self { exits, history, .. } = self;
        history.ends.retain(|end| now.saturating_sub(end.at) < TOGETHER);
        let is_over = |end: &mut End| {
            exits
                .find(&TunnelName::of(&end.container.labels))
                .is_some_and(|exit| exit.has_left(&end.container))
        };
        for end in history.ends.extract_if(.., is_over) {
            history.memory.places.forgive(end.place, now);
            if end.came_to_nothing {
                history.memory.forgive(&TunnelName::of(&end.container.labels), end.purpose, end.at);
            }
        }
    }

    /// An engine whose container was renamed, or whose VPN has another address, is reached there when it has no stream: what
    /// plays goes on over the old one, which stays its alias where there are aliases.
    pub(super) fn follow_address(&mut self, id: &ContainerId, now: Moment) {
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        let Some(member) = self.engines.find(id.as_str()) else { return };
        let endpoint = endpoint(&self.options.recipe, &self.exits, &seen.container);
        let has_moved = endpoint.is_some_and(|endpoint| endpoint != *member.engine.endpoint());
        if has_moved && !member.is_cordoned() && member.retire() {
            self.engines.remove(&member.key);
            (seen.health, seen.running_since, seen.usage) = (Health::Unknown, now, None);
        }
    }

    /// The engine that streams see follows its container.
    pub(super) fn update_member(&mut self, id: &ContainerId) {
        let Some(seen) = self.daemon.seen.get_mut(id) else { return };
        let key = EngineKey::from(id);
        let container = &seen.container;
        let is_up = matches!(container.state, ContainerState::Running | ContainerState::Paused);
        // One outside of its VPN is nobody's engine, however long its removal takes.
        let is_outside = self.options.recipe.behind_vpn && !is_behind_vpn(&self.exits, container);
        if !is_up || is_outside || self.flight.is_removing(id) {
            if !is_up {
                self.engines.remove(&key);
                (seen.health, seen.usage) = (Health::Unknown, None);
            }
            return;
        }
        let member = self.engines.find(key.as_str()).or_else(|| {
            let endpoint = endpoint(&self.options.recipe, &self.exits, container)?;
            let inside = Contained {
                id: id.clone(),
                place: seen.place,
                labels: container.labels.clone(),
                tunnel: TunnelName::of(&container.labels),
                forwarded: forwarded(&container.labels),
                image: container.image.clone(),
                is_new: container.labels.get(label::RUN) == Some(&self.options.run),
                runaway: container.inside.is_none().then_some(self.options.runaway),
            };
            let member = self.engines.add(endpoint, inside, container.name.clone());
            seen.usage = Some(follow_usage(Arc::clone(&self.provisioner), Arc::clone(&member)));
            Some(member)
        });
        if let Some(member) = member {
            member.observed(&container.name, container.state == ContainerState::Paused);
        }
    }

    /// As well as they will be: who has waited for another name gets one.
    pub(super) fn names_are_known(&mut self, now: Moment) {
        self.daemon.neighbours.is_known = true;
        for request in mem::take(&mut self.daemon.neighbours.renaming) {
            self.provision(request, now);
        }
    }

    pub(super) fn met(&mut self, result: Result<Neighbours, ProvisionError>, now: Moment) {
        // A daemon that does not tell is done without: a name that is taken is told by the creation too.
        let Ok(Neighbours { engines, names }) = result else { return self.names_are_known(now) };
        self.history.memory.names_taken.extend(names.into_iter().map(|name| (name, now + NAME_AVOIDED)));
        self.names_are_known(now);
        let strangers = strangers_by_instance(&engines)
            .into_iter()
            .map(|(instance, names)| StrangerNote {
                adopt_with: format!("INSTANCE_ID={instance}"),
                instance,
                names,
            })
            .collect::<Vec<_>>();
        for stranger in strangers.iter().filter(|stranger| !self.daemon.strangers.contains(stranger)) {
            let (instance, engines) = (stranger.instance.clone(), stranger.names.len());
            self.emit(&Event::Strangers { instance, engines });
        }
        self.daemon.strangers = strangers;
    }

    /// Reports what probes have changed since the last pass.
    pub(super) fn follow_health(&mut self, now: Moment) {
        let mut events = Vec::new();
        let mut ready = Vec::new();
        for (id, seen) in &mut self.daemon.seen {
            let Some(member) = self.engines.find(id.as_str()) else { continue };
            let health = member.knowledge().health;
            let engine = name_of(&seen.container);
            match (seen.health, health) {
                (before, after) if before == after => {}
                (_, Health::Healthy) if !seen.was_ready => {
                    seen.was_ready = true;
                    ready.push((seen.purpose, TunnelName::of(&seen.container.labels)));
                    events.push(Event::Ready { engine, took: now.saturating_sub(seen.running_since) });
                }
                (_, after) => {
                    events.push(Event::HealthChanged { engine, is_healthy: after == Health::Healthy });
                }
            }
            seen.health = health;
            if seen.was_ready && health == Health::Healthy {
                self.history.memory.places.lives(seen.place, now.saturating_sub(seen.running_since));
            }
        }
        for event in &events {
            self.emit(event);
        }
        for (purpose, tunnel) in ready {
            self.history.memory.came_up(&tunnel);
            self.creation_succeeded(purpose, now);
        }
    }
}

/// Whether it is in the network of the VPN that its label names, which is one of ours, and in that network's present life as
/// far as it is known.
fn is_behind_vpn(exits: &Exits, container: &Container) -> bool {
    let Some(exit) = exits.find(&TunnelName::of(&container.labels)) else { return false };
    let Home::Inside { container, joined: Some(joined) } = home(container) else { return false };
    let is_over = exit.report().namespace().is_some_and(|present| present != joined);
    exit.name != TunnelName::Direct && joined.id().as_str() == container && !is_over
}

/// Where it is reached; `None` when its labels do not say, or its VPN's address is not known.
fn endpoint(recipe: &Recipe, exits: &Exits, container: &Container) -> Option<Endpoint> {
    let exit = exits.find(&TunnelName::of(&container.labels));
    recipe.endpoint(&container.labels, &container.name, exit.and_then(Exit::address))
}

/// One stream of statistics for as long as the handle lives.
#[expect(clippy::disallowed_methods, reason = "the handle is the owner: dropping it ends the task")]
fn follow_usage(provisioner: Arc<dyn Provisioner>, member: Arc<Member>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let Some(id) = member.container.as_ref().map(|container| container.id.clone()) else { return };
        loop {
            let mut usage = provisioner.usage(&id);
            while let Ok(Some(used)) = timeout(USAGE_SILENCE, usage.next()).await {
                member.uses(used);
            }
            sleep(USAGE_PAUSE).await;
        }
    }))
}
