//! Two services with one instance id take each other's engines for their own: one removes as idle what plays the
//! other's streams. On one machine they meet ([`Fleet::has_rival`](crate::fleet::Fleet::has_rival)). Elsewhere every
//! engine says which run of the service has created it ([`label::RUN`]): one that appears while we run, and is of our
//! instance but not of our making, is another service's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Reconciler;
use crate::backoff::Moment;
use crate::event::Event;
use crate::ident::ContainerId;
use crate::provisioner::Container;
use crate::snapshot::RivalNote;
use crate::spec::label;

/// What an earlier run had begun is there by then: the longest creation, and the longest stop.
const SETTLED: Duration = Duration::from_secs(45);

/// Least time between two warnings.
const PAUSE: Duration = Duration::from_mins(1);

/// How long an engine of its making is remembered when it is gone again.
const SHOWN: Duration = Duration::from_mins(10);

/// What is known of another service with our instance id.
#[derive(Default)]
pub(super) struct Rivalry {
    /// When our own engines were listed for the first time: what is there by then was there before.
    pub(super) began: Option<Moment>,
    /// Since when it is known to be here.
    here: Option<Moment>,
    is_untold: bool,
    /// Engines of its making: their names, and when they appeared.
    engines: BTreeMap<ContainerId, (String, Moment)>,
    /// Of those, the ones that were not told yet.
    untold: Vec<String>,
    told: Option<Moment>,
}

impl Reconciler {
    /// A container that was not there at the last list.
    pub(super) fn note_rival(&mut self, container: &Container, now: Moment) {
        let is_settled = self.rivalry.began.is_some_and(|began| now.saturating_sub(began) >= SETTLED);
        let is_another_runs = container.labels.get(label::RUN).is_some_and(|run| *run != self.options.run);
        if is_settled && is_another_runs {
            let (id, name) = (container.id.clone(), container.name.clone());
            self.rivalry.untold.push(name.clone());
            self.rivalry.is_untold = true;
            self.rivalry.engines.insert(id, (name, now));
        }
    }

    /// Somebody has met it, or has seen it go.
    pub(super) fn rival_is(&mut self, is_here: bool, now: Moment) {
        self.rivalry.is_untold |= is_here;
        self.rivalry.here = is_here.then_some(now);
    }

    pub(super) fn tell_of_rivals(&mut self, now: Moment) {
        let seen = &self.daemon.seen;
        self.rivalry.engines.retain(|id, (_, at)| seen.contains_key(id) || now.saturating_sub(*at) < SHOWN);
        let is_due = self.rivalry.told.is_none_or(|told| now.saturating_sub(told) >= PAUSE);
        if is_due && std::mem::take(&mut self.rivalry.is_untold) {
            self.rivalry.told = Some(now);
            let engines = std::mem::take(&mut self.rivalry.untold);
            self.emit(&Event::Rival { instance: self.instance(), engines });
        }
    }

    /// Whether there is another service: for as long as it or an engine of its making is here, and a while longer.
    pub(super) fn rival(&self) -> Option<RivalNote> {
        let engines = self.rivalry.engines.values();
        let at = engines.clone().map(|(_, at)| *at).chain(self.rivalry.here).max()?;
        let engines = engines.map(|(name, _)| name.clone()).collect();
        Some(RivalNote { instance: self.instance(), at: self.wall(at), engines })
    }

    fn instance(&self) -> String {
        self.options.recipe.instance.as_str().to_owned()
    }
}
