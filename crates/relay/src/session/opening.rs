//! A start under way: whom it has tried, when a second source is asked beside the first, when it is given up.

use std::time::Duration;

use tokio::time::Instant;

use super::state::{Order, Timings, silent};
use super::{EndReason, StartError};
use crate::origin::{OpenError, SourceId, Stage};

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
    /// When a second source is tried beside the first; only once.
    hedge_at: Option<Instant>,
}

impl Opening {
    /// The first attempt begins now, for somebody who asked at `asked` and is about to arrive.
    pub(super) fn new(timings: &Timings, asked: Instant, now: Instant) -> Self {
        Self {
            since: asked,
            attempt: 1,
            exclude: Vec::new(),
            failure: None,
            unwatched_since: Some(now),
            hedge_at: Some(now + timings.start_hedge),
        }
    }

    pub(super) fn watched_by(&mut self, viewers: usize, now: Instant) {
        self.unwatched_since = (viewers == 0).then(|| self.unwatched_since.unwrap_or(now));
    }

    pub(super) fn tick(&mut self, timings: &Timings, stage: Stage, now: Instant) -> Order {
        if self.since + timings.start_budget <= now {
            let waited = timings.start_budget;
            let error = self.failure.clone().map_or(StartError::Timeout { stage, waited }, StartError::from);
            return Order::End { reason: EndReason::NotStarted(error), if_unwatched: false };
        }
        match self.unwatched_since {
            Some(since) if since + timings.abandon <= now => {
                Order::End { reason: EndReason::Abandoned, if_unwatched: true }
            }
            _ => self.hedge(stage, now, timings.start_hedge),
        }
    }

    pub(super) fn deadline(&self, timings: &Timings) -> Instant {
        let budget = self.since + timings.start_budget;
        let abandoned = self.unwatched_since.map(|since| since + timings.abandon);
        [abandoned, self.hedge_at].into_iter().flatten().fold(budget, Instant::min)
    }

    pub(super) fn failed(&mut self, error: OpenError, hedge_at: Instant) -> Order {
        let lasting = matches!(error, OpenError::NoCapacity { .. });
        let first = self.failure.get_or_insert_with(|| error.clone()).clone();
        self.exclude.extend(error.source_id().cloned());
        if lasting || self.attempt >= ATTEMPTS {
            return Order::End { reason: EndReason::NotStarted(first.into()), if_unwatched: false };
        }
        self.attempt += 1;
        self.hedge_at = Some(hedge_at);
        Order::Open { exclude: self.exclude.clone(), error, beside: false }
    }

    /// A second source beside the first, when that has been asked and is silent. Who waits for a place is not silent.
    fn hedge(&mut self, stage: Stage, now: Instant, again: Duration) -> Order {
        if self.hedge_at.is_none_or(|at| at > now) {
            return Order::Wait;
        }
        self.hedge_at = (stage == Stage::Slot).then_some(now + again);
        if stage == Stage::Slot {
            return Order::Wait;
        }
        Order::Open { exclude: self.exclude.clone(), error: silent(again, None), beside: true }
    }
}
