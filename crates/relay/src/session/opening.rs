//! A start under way: whom it has tried, when a second source is asked beside the first, when it is given up.

use std::time::Duration;

use tokio::time::Instant;

use super::hedge::Hedge;
use super::state::{Order, Timings, silent};
use super::{EndReason, StartError};
use crate::origin::{Lack, OpenError, SourceId, Standing};

/// How many sources one start may try: the first, and one more when it fails explicitly before any data.
const ATTEMPTS: u32 = 2;

/// A start under way.
#[derive(Clone, Debug)]
pub struct Opening {
    since: Instant,
    attempt: u32,
    exclude: Vec<SourceId>,
    failure: Option<OpenError>,
    unwatched_since: Option<Instant>,
    /// Whether a second source is tried beside the first.
    hedge: Hedge,
}

impl Opening {
    /// The first attempt begins now, for somebody who asked at `asked` and is about to arrive.
    pub(super) fn new(asked: Instant, now: Instant) -> Self {
        Self {
            since: asked,
            attempt: 1,
            exclude: Vec::new(),
            failure: None,
            unwatched_since: Some(now),
            hedge: Hedge::Unasked,
        }
    }

    pub(super) fn watched_by(&mut self, viewers: usize, now: Instant) {
        self.unwatched_since = (viewers == 0).then(|| self.unwatched_since.unwrap_or(now));
    }

    pub(super) fn tick(&mut self, timings: &Timings, standing: Standing, now: Instant) -> Order {
        if self.since + timings.start_budget <= now {
            let Standing { stage, awaited, .. } = standing;
            let timeout = StartError::Timeout { stage, awaited, waited: timings.start_budget };
            let error = self.failure.clone().map_or(timeout, StartError::from);
            return Order::End { reason: EndReason::NotStarted(error), if_unwatched: false };
        }
        let is_said = self.hedge.had_no_room();
        match self.unwatched_since {
            Some(since) if since + timings.abandon <= now => {
                Order::End { reason: EndReason::Abandoned, if_unwatched: true }
            }
            _ if self.hedge.is_due(standing, timings, now) => {
                let error = (!is_said).then(|| silent(timings.hedge, None));
                Order::Hedge { exclude: self.exclude.clone(), error }
            }
            _ => Order::Wait,
        }
    }

    pub(super) fn deadline(&self, timings: &Timings, standing: Standing, now: Instant) -> Instant {
        let budget = self.since + timings.start_budget;
        let abandoned = self.unwatched_since.map(|since| since + timings.abandon);
        let hedge_at = self.hedge.due_at(standing, timings, now);
        [abandoned, hedge_at].into_iter().flatten().fold(budget, Instant::min)
    }

    pub(super) fn failed(&mut self, error: OpenError) -> Order {
        let lasting = matches!(error, OpenError::NoCapacity { .. });
        let first = self.failure.get_or_insert_with(|| error.clone()).clone();
        self.exclude.extend(error.source_id().cloned());
        if lasting || self.attempt >= ATTEMPTS {
            return Order::End { reason: EndReason::NotStarted(first.into()), if_unwatched: false };
        }
        self.attempt += 1;
        self.again(error)
    }

    /// Somebody with less than his share needs the place: the start waits for one again, for as long as it has left.
    pub(super) fn make_room(&mut self) -> Order {
        self.again(OpenError::NoCapacity {
            lack: Lack::Room,
            detail: "another address waited for the place".into(),
        })
    }

    fn again(&mut self, error: OpenError) -> Order {
        self.hedge = Hedge::Unasked;
        Order::Open { exclude: self.exclude.clone(), error, beside: false }
    }

    /// One of two sources has failed; the other goes on, and may have another one beside it.
    pub(super) fn one_failed(&mut self, error: &OpenError) {
        self.exclude.extend(error.source_id().cloned());
        self.failure.get_or_insert_with(|| error.clone());
        self.hedge = Hedge::Unasked;
    }

    /// There was no room for a second source.
    pub(super) fn no_room(&mut self, now: Instant) {
        self.hedge.no_room(now);
    }

    /// This program stood still for so long.
    pub(super) fn excuse(&mut self, late: Duration) {
        self.since += late;
        self.unwatched_since = self.unwatched_since.map(|since| since + late);
    }
}
