//! What the plan is made from, and what pages are shown of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Reconciler;
use super::daemon::{Answers, Daemon, Seen};
use super::exits::Exit;
use super::flight::Flight;
use crate::backoff::Moment;
use crate::dispatch::{Lack, Outlook};
use crate::event::Event;
use crate::ident::ContainerId;
use crate::member::{Health, Member};
use crate::plan::{Action, Demand, EngineView, Hold, Home, Plan, Policy, Standing, World, plan};
use crate::provisioner::{Container, ContainerState};
use crate::snapshot::{ContainerNote, DockerState, Snapshot, TunnelNote, breaker_note};
use crate::spec::label;
use crate::tunnel::TunnelName;

impl Reconciler {
    pub(super) fn policy(&self) -> Policy {
        let mut policy = self.options.policy.clone();
        policy.min = self.history.floor.unwrap_or(policy.min).clamp(policy.min, policy.max);
        policy
    }

    pub(super) fn plan(&mut self, now: Moment) -> Plan {
        self.find_ports(now);
        self.history.memory.names_taken.retain(|_, until| *until > now);
        self.with_world(now, plan)
    }

    /// What the plan is shown.
    pub(super) fn with_world<T>(&self, now: Moment, decide: impl FnOnce(&Policy, &World<'_>) -> T) -> T {
        let tunnels = self.exits.views(self.clock.epoch);
        let views: Vec<EngineView> = self.daemon.seen.values().map(|seen| self.view(seen, now)).collect();
        let creating = self.flight.creating();
        let world = World {
            now,
            engines: &views,
            creating: &creating,
            demand: Demand { waiting: self.engines.waiting() },
            memory: &self.history.memory,
            tunnels: &tunnels,
            forbidden: self.forbidden(now),
        };
        decide(&self.policy(), &world)
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
        let Self { exits, daemon, flight, options, .. } = self;
        exits.find_ports(options.policy.concurrent, |tunnel| used_ports(daemon, flight, tunnel), now);
    }

    /// Whether an engine behind this tunnel has the port or gets it, or it is kept for the one that is forwarded.
    pub(super) fn is_port_taken(&self, tunnel: &TunnelName, port: u16) -> bool {
        let is_kept =
            self.exits.find(tunnel).is_some_and(|exit| exit.is_in_the_way(port, self.exits.https()));
        is_kept || used_ports(&self.daemon, &self.flight, tunnel).contains(&port)
    }

    /// Tells what has become of tunnels, and moves engines along with the addresses at which they are reached.
    pub(super) fn follow_tunnels(&mut self, now: Moment) {
        for (tunnel, health) in self.exits.look(self.clock.epoch) {
            self.emit(&Event::TunnelChanged { tunnel, health });
        }
        self.forgive_ends(now);
        self.engines.set_unsure(self.exits.unsure());
        let inside = self.daemon.seen.iter().filter(|(_, seen)| seen.container.inside.is_some());
        let ids: Vec<ContainerId> = inside.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.follow_address(&id, now);
            self.update_member(&id);
        }
    }

    fn view(&self, seen: &Seen, now: Moment) -> EngineView {
        let container = &seen.container;
        let member = self.engines.find(container.id.as_str());
        EngineView {
            id: container.id.clone(),
            name: container.name.clone(),
            alias: alias(container).to_owned(),
            place: seen.place,
            tunnel: TunnelName::of(&container.labels),
            home: home(container),
            forwarded: forwarded(&container.labels),
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
            cordoned: member.as_ref().is_some_and(|member| member.is_cordoned()),
            unwanted: member.is_some_and(|member| member.is_unwanted()),
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
            // Nobody knows yet where its VPN is reached, or it is in none and not used: neither is its end.
            (ContainerState::Running, None)
                if container.inside.is_some() || self.options.recipe.behind_vpn =>
            {
                Standing::Starting { since: seen.running_since }
            }
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

    fn is_coming(&self, seen: &Seen) -> bool {
        let tunnel = TunnelName::of(&seen.container.labels);
        let may_come = self.exits.find(&tunnel).is_some_and(|exit| !exit.is_down());
        !seen.was_ready && seen.container.state == ContainerState::Running && may_come
    }

    /// What those who wait for a slot may hope for.
    pub(super) fn outlook(&self, plan: &Plan) -> Outlook {
        let is_coming = self.flight.is_creating()
            || self.daemon.seen.values().any(|seen| self.is_coming(seen))
            || plan.actions.iter().any(|action| matches!(action, Action::Create { .. }));
        if is_coming {
            return Outlook::Growing;
        }
        match plan.held.first() {
            None | Some(Hold::OneAfterTheOther) => Outlook::Growing,
            Some(hold) => {
                let lack = match hold {
                    Hold::NoPorts { .. } => Lack::Ports,
                    Hold::NoTunnel { .. } => Lack::Vpn,
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
                    vpn_container: seen.container.labels.get(label::VPN_CONTAINER).cloned(),
                    forwarded: forwarded(&seen.container.labels).is_some(),
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
            tunnels: self.exits.iter().filter_map(|exit| self.tunnel_note(exit)).collect(),
            outside: self.outside(),
            found_outside: self.history.outside,
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

impl Reconciler {
    fn outside(&self) -> Vec<String> {
        let outside = self.daemon.seen.iter().filter(|(_, seen)| seen.was_outside);
        outside.map(|(id, _)| id.as_str().to_owned()).collect()
    }

    fn tunnel_note(&self, exit: &Exit) -> Option<TunnelNote> {
        let vpn = exit.name.vpn()?;
        let report = exit.report();
        let is_inside = |container: &&Container| {
            container.labels.get(label::VPN_CONTAINER).is_some_and(|name| name == vpn.as_str())
        };
        let all = self.daemon.seen.values().map(|seen| &seen.container);
        let inside: Vec<&Container> = all.filter(is_inside).collect();
        let bears = |container: &&&Container| {
            report.forwarded.is_some() && forwarded(&container.labels) == report.forwarded
        };
        let id = |container: &&Container| container.id.as_str().to_owned();
        Some(TunnelNote {
            name: exit.name.clone(),
            container: report.container.as_ref().map(|container| container.id.as_str().to_owned()),
            since: self.wall(report.since.saturating_duration_since(self.clock.epoch)),
            address: exit.address(),
            forwarded_port: report.forwarded,
            forwarded_engine: inside.iter().find(bears).map(id),
            engines: inside.iter().map(id).collect(),
            restarted: self.history.memory.restarts.get(&exit.name).map(|at| self.wall(*at)),
            health: report.health,
        })
    }
}

pub(super) fn home(container: &Container) -> Home {
    let joined = container.labels.get(label::NAMESPACE).and_then(|text| text.parse().ok());
    container.inside.clone().map_or(Home::Open, |container| Home::Inside { container, joined })
}

/// The forwarded port that it was made to have.
pub(super) fn forwarded(labels: &BTreeMap<String, String>) -> Option<u16> {
    labels.get(label::FORWARDED).filter(|value| *value == "true")?;
    labels.get(label::P2P_PORT)?.parse().ok()
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

/// Ports that engines behind a tunnel have or get.
fn used_ports(daemon: &Daemon, flight: &Flight, tunnel: &TunnelName) -> BTreeSet<u16> {
    let seen = daemon.seen.values().filter(|seen| TunnelName::of(&seen.container.labels) == *tunnel);
    let creating = flight.creating().into_iter().filter(|creation| creation.tunnel == *tunnel);
    seen.flat_map(|seen| ports_of(&seen.container)).chain(creating.map(|one| one.port)).collect()
}

fn ports_of(container: &Container) -> impl Iterator<Item = u16> {
    let labels = [label::HTTP_PORT, label::HOST_HTTP_PORT, label::HOST_HTTPS_PORT];
    let labelled = labels.into_iter().filter_map(|name| container.labels.get(name)?.parse().ok());
    labelled.chain(container.ports.iter().map(|(_, _, host)| *host)).collect::<Vec<_>>().into_iter()
}
