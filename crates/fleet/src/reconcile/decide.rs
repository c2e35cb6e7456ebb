//! What the plan is made from, and what pages are shown of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Reconciler;
use super::daemon::{Answers, Seen};
use crate::backoff::Moment;
use crate::dispatch::{Lack, Outlook};
use crate::member::{Health, Member};
use crate::plan::{Action, Demand, EngineView, Hold, Plan, Policy, Standing, World, plan};
use crate::ports::is_free_here;
use crate::provisioner::{Container, ContainerState};
use crate::snapshot::{ContainerNote, DockerState, Snapshot, breaker_note};
use crate::spec::label;

impl Reconciler {
    pub(super) fn policy(&self) -> Policy {
        let mut policy = self.options.policy.clone();
        policy.min = self.history.floor.unwrap_or(policy.min).clamp(policy.min, policy.max);
        policy
    }

    pub(super) fn plan(&mut self, now: Moment) -> Plan {
        self.find_ports(now);
        self.history.memory.names_taken.retain(|_, until| *until > now);
        let views: Vec<EngineView> = self.daemon.seen.values().map(|seen| self.view(seen, now)).collect();
        let creating = self.flight.creating();
        let world = World {
            now,
            engines: &views,
            creating: &creating,
            demand: Demand { waiting: self.engines.waiting() },
            memory: &self.history.memory,
            ports: &self.candidates,
            forbidden: self.forbidden(now),
        };
        plan(&self.policy(), &world)
    }

    fn forbidden(&self, now: Moment) -> Option<Hold> {
        if let Answers::Down { why, .. } = &self.daemon.answers {
            return Some(Hold::DockerDown { why: why.clone() });
        }
        if let Some(why) = self.history.image_trouble(now) {
            return Some(Hold::ImageUnavailable { why: why.to_owned() });
        }
        // It takes milliseconds, and spares a creation for every name that is taken.
        (!self.daemon.neighbours.is_known).then_some(Hold::OneAfterTheOther)
    }

    /// Keeps a few free ports at hand; each is probed again when it is used.
    pub(super) fn find_ports(&mut self, now: Moment) {
        let wanted = self.options.policy.concurrent;
        if self.candidates.len() >= wanted {
            return;
        }
        let mut used: BTreeSet<u16> =
            self.daemon.seen.values().flat_map(|seen| ports_of(&seen.container)).collect();
        used.extend(self.flight.creating().iter().map(|creation| creation.port));
        used.extend(&self.candidates);
        let missing = wanted - self.candidates.len();
        self.candidates.extend(self.ports.free(missing, &used, now, is_free_here));
    }

    fn view(&self, seen: &Seen, now: Moment) -> EngineView {
        let container = &seen.container;
        let member = self.engines.find(container.id.as_str());
        EngineView {
            id: container.id.clone(),
            name: container.name.clone(),
            alias: alias(container).to_owned(),
            place: seen.place,
            standing: self.standing(seen, member.as_deref(), now),
            used: member.as_ref().map_or(0, |member| member.used()),
            idle_since: member
                .as_ref()
                .and_then(|member| member.idle_since())
                .map(|since| since.saturating_duration_since(self.clock.epoch)),
            known_since: seen.known_since,
            memory: member.as_ref().and_then(|member| member.knowledge().usage).map(|usage| usage.memory),
            runaway: member.as_ref().and_then(|member| member.runs_away()).map(|runaway| runaway.mbits()),
            recipe: container.labels.get(label::RECIPE).cloned().unwrap_or_default(),
            cordoned: member.is_some_and(|member| member.is_cordoned()),
        }
    }

    fn standing(&self, seen: &Seen, member: Option<&Member>, now: Moment) -> Standing {
        let container = &seen.container;
        if let Some(since) = self.leaving_since(seen, now) {
            return Standing::Leaving { since };
        }
        match (container.state, member) {
            (ContainerState::Removing, _) => Standing::Leaving { since: now },
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
                match (known.health, member.ejected_since()) {
                    (Health::Healthy, Some(ejected)) => Standing::Unhealthy {
                        since: now.saturating_sub(ejected.elapsed()),
                        why: "streams that fail on it play on other engines".into(),
                    },
                    (Health::Unknown, _) => Standing::Starting { since: seen.running_since },
                    (Health::Healthy, None) => Standing::Ready,
                    (Health::Unhealthy, _) => {
                        Standing::Unhealthy { since, why: "its API does not answer".into() }
                    }
                }
            }
        }
    }

    /// One whose process may still run has not been leaving for long, whatever the daemon says.
    fn leaving_since(&self, seen: &Seen, now: Moment) -> Option<Moment> {
        let may_run = matches!(seen.container.state, ContainerState::Running | ContainerState::Paused);
        if may_run { self.flight.is_removing(&seen.container.id).then_some(now) } else { seen.leaving }
    }

    /// What those who wait for a slot may hope for.
    pub(super) fn outlook(&self, plan: &Plan) -> Outlook {
        let is_coming = self.flight.is_creating()
            || self
                .daemon
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

    pub(super) fn publish(&mut self, plan: Plan, now: Moment) {
        self.history.rollout.left = if self.history.rollout.began.is_some() { self.outdated() } else { 0 };
        let current = &self.options.policy.recipe;
        let containers = self
            .daemon
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
            docker: match &self.daemon.answers {
                Answers::Unknown => DockerState::Unknown,
                Answers::Up => DockerState::Up,
                Answers::Down { since, why } => {
                    DockerState::Down { since: self.wall(*since), why: why.clone() }
                }
            },
            containers,
            creating: self.flight.creating().into_iter().map(|creation| creation.name).collect(),
            min: policy.min,
            min_replicas: self.options.policy.min,
            max: policy.max,
            breakers: [&self.history.memory.growth, &self.history.memory.replacement]
                .map(|breaker| breaker_note(breaker, now, |at| self.wall(at))),
            strangers: self.daemon.strangers.clone(),
            rival: self.rival(),
            failures: self.history.failures.iter().cloned().collect(),
            rollout: self.history.rollout.clone(),
        };
        self.snapshot.send_replace(Arc::new(snapshot));
    }
}

/// The name that it was made with.
pub(super) fn alias(container: &Container) -> &str {
    container.labels.get(label::NAME).unwrap_or(&container.name)
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Starting { .. } => "starting",
        Standing::Ready => "ready",
        Standing::Unhealthy { .. } => "unhealthy",
        Standing::Frozen => "frozen",
        Standing::Ended { .. } => "ended",
        Standing::Leaving { .. } => "leaving",
    }
}

fn ports_of(container: &Container) -> impl Iterator<Item = u16> {
    let labels = [label::HTTP_PORT, label::HOST_HTTP_PORT, label::HOST_HTTPS_PORT];
    let labelled = labels.into_iter().filter_map(|name| container.labels.get(name)?.parse().ok());
    labelled.chain(container.ports.iter().map(|(_, _, host)| *host)).collect::<Vec<_>>().into_iter()
}
