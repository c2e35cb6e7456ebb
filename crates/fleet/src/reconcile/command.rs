//! What operators ask for.

use std::collections::BTreeSet;

use super::{Answer, Reconciler};
use crate::allowed::{Asked, Extra, HostPort};
use crate::backoff::Moment;
use crate::command::{Command, CommandError, Provisioned};
use crate::event::Event;
use crate::plan::{Creation, Hold, Policy, Purpose, Reason, one_more};
use crate::provisioner::ProvisionError;
use crate::recipe::Recipe;
use crate::snapshot::Rollout;
use crate::spec::label;

/// Names that are tried for one engine: others on the same daemon take names at the same moment.
const NAMES: usize = 5;

/// An engine that somebody has asked for, and waits for.
pub(super) struct Request {
    asked: Asked,
    answer: Answer<Provisioned>,
    /// Names that may still be tried.
    names: usize,
}

impl Request {
    pub(super) fn answer(self, reply: Result<Provisioned, CommandError>) {
        // Who asked may have gone; what was made stays and is used.
        let _answered = self.answer.send(reply);
    }
}

impl Reconciler {
    pub(super) fn obey(&mut self, command: Command) {
        let now = self.now();
        // Everywhere: who asked may have gone, and what was asked for is done all the same.
        match command {
            Command::Scale(engines, answer) => {
                let Policy { min, max, .. } = self.options.policy;
                let to = engines.clamp(min, max);
                self.history.floor = Some(to);
                self.emit(&Event::Scaled { to });
                let _answered = answer.send(to);
            }
            Command::Provision(asked, answer) => {
                self.provision(Request { asked: *asked, answer, names: NAMES }, now);
            }
            Command::Remove(id, answer) => {
                if self.daemon.seen.contains_key(&id) && !self.flight.is_removing(&id) {
                    if let Some(member) = self.engines.find(id.as_str()) {
                        member.close();
                    }
                    self.remove(&id, Reason::Asked, Some(answer), now);
                } else {
                    let _answered = answer.send(Err(CommandError::Unknown));
                }
            }
            Command::Recipe(recipe, answer) => {
                let _answered = answer.send(self.adopt_recipe(*recipe, now));
            }
            Command::Policy(policy, answer) => {
                if policy.min != self.options.policy.min {
                    // The newest word counts, and that is no longer the one of POST /scale.
                    self.history.floor = None;
                }
                let recipe = std::mem::take(&mut self.options.policy.recipe);
                self.options.policy = Policy { recipe, ..*policy };
                let _answered = answer.send(());
            }
            Command::HasRival(is_here, answer) => {
                self.rival_is(is_here, now);
                let _answered = answer.send(());
            }
            Command::ResetBreakers(which, answer) => {
                for purpose in [Purpose::Growth, Purpose::Replacement] {
                    if which.is_none_or(|which| which == purpose) {
                        self.breaker(purpose).reset();
                    }
                }
                self.history.memory.places.forget();
                self.history.image_works();
                let _answered = answer.send(());
            }
        }
    }

    fn adopt_recipe(&mut self, recipe: Recipe, now: Moment) -> usize {
        self.options.policy.recipe = recipe.fingerprint();
        self.options.recipe = recipe;
        let outdated = self.outdated();
        self.history.rollout = Rollout { began: Some(self.wall(now)), total: outdated, left: outdated };
        outdated
    }

    pub(super) fn outdated(&self) -> usize {
        let current = &self.options.policy.recipe;
        self.daemon
            .seen
            .values()
            .filter(|seen| seen.container.labels.get(label::RECIPE) != Some(current))
            .count()
    }

    pub(super) fn provision(&mut self, request: Request, now: Moment) {
        match self.may_provision(request.asked.clone(), now) {
            Ok((creation, extra)) => {
                self.create(creation, Purpose::Growth, &Reason::Asked, &extra, Some(request), now);
            }
            Err(error) => request.answer(Err(error)),
        }
    }

    /// Tells who has asked what has come of it, unless only the name was in the way: then another one is tried as soon as
    /// it is known which are taken.
    pub(super) fn answer_or_rename(&mut self, request: Request, reply: Result<Provisioned, ProvisionError>) {
        match reply {
            Err(ProvisionError::NameTaken { .. }) if request.names > 1 => {
                let again = Request { names: request.names - 1, ..request };
                self.daemon.neighbours.renaming.push(again);
            }
            reply => request.answer(reply.map_err(Into::into)),
        }
    }

    fn may_provision(&mut self, asked: Asked, now: Moment) -> Result<(Creation, Extra), CommandError> {
        let nowhere = || CommandError::Held { why: "engines have no way out".to_owned() };
        let ports = self.exits.ports_with(asked.port).ok_or_else(nowhere)?;
        let extra = asked.check(ports, self.options.recipe.image().as_str())?;
        let max = self.options.policy.max;
        if self.daemon.seen.len() + self.flight.creating().len() >= max {
            return Err(CommandError::AtMaximum { max });
        }
        if let Some(until) = self.history.memory.growth.opens_at(now) {
            return Err(CommandError::BreakerOpen { seconds: until.saturating_sub(now).as_secs() + 1 });
        }
        self.find_ports(now);
        let asked = extra.port.map(HostPort::get);
        let creation = self.with_world(now, |policy, world| one_more(policy, world, asked));
        let creation = creation.map_err(|hold| match hold {
            Hold::NoTunnel { why } => CommandError::NoTunnel { why },
            Hold::NoPorts { settings } => CommandError::NoPorts { settings },
            other => CommandError::Held { why: other.to_string() },
        })?;
        // Two engines behind one VPN share its address: what one is told the other would do.
        if let Some(port) = asked.filter(|port| self.is_port_taken(&creation.tunnel, *port)) {
            return Err(ProvisionError::PortTaken { port }.into());
        }
        Ok((creation, extra))
    }

    pub(super) fn vacant_place(&self) -> usize {
        let taken: BTreeSet<usize> = self
            .daemon
            .seen
            .values()
            .map(|seen| seen.place)
            .chain(self.flight.creating().into_iter().map(|creation| creation.place))
            .collect();
        (1..=taken.len() + 1).find(|place| !taken.contains(place)).unwrap_or(1)
    }
}
