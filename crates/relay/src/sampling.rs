//! Once a second everything is looked at: every stream, and the process.
//!
//! It begins with the first stream and goes on until the relay stops, so that a process without streams has a history too.

use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::history::{Figure, History, Span};
use crate::meter::{Counted, Meter, PROCESS_FIGURES, figure};
use crate::relay::Inner;

/// Figures over time, for pages.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the figures of each point are.
    pub figures: [&'static str; 4],
    /// Time between two points; steps without a point have none.
    pub step: Duration,
    /// When each point's step began, and its figures. The oldest first; the last one is not over yet.
    pub points: Vec<(Timestamp, [Figure; 4])>,
}

/// When all histories of a process began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    instant: Instant,
    timestamp: Timestamp,
}

impl Began {
    fn at(self, since: Duration) -> Timestamp {
        self.timestamp.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn series(self, figures: [&'static str; 4], span: Span, history: &History<4>) -> Series {
        let points = history.points(span, self.instant.elapsed());
        let points = points.map(|(since, figures)| (self.at(since), figures)).collect();
        Series { figures, step: span.step(), points }
    }
}

/// The process's own figures, and whether they are taken.
pub(crate) struct Sampling {
    began: Began,
    process: Mutex<Meter>,
    /// Only while there are streams.
    is_on: Mutex<bool>,
}

impl Sampling {
    pub(crate) fn new(now: Instant) -> Self {
        let began = Began { instant: now, timestamp: Timestamp::now() };
        Self { began, process: Mutex::default(), is_on: Mutex::new(false) }
    }

    pub(crate) fn began(&self) -> Began {
        self.began
    }

    pub(crate) fn process(&self, span: Span) -> Series {
        self.began.series(PROCESS_FIGURES, span, self.process.lock().history())
    }
}

impl Inner {
    /// As long as there are streams, of which there is one now.
    pub(crate) fn keep_sampling(self: &Arc<Self>) {
        let mut is_on = self.sampling.is_on.lock();
        if !*is_on {
            *is_on = true;
            self.tasks.spawn(sample(Arc::downgrade(self), self.stop.clone()));
        }
    }

    /// Whether there is something to look at. A stream that begins at this moment waits for the answer, and begins anew.
    fn is_sampled_on(&self) -> bool {
        let mut is_on = self.sampling.is_on.lock();
        *is_on = !self.distinct().is_empty();
        *is_on
    }

    fn sample(&self) {
        let at = self.sampling.began.instant.elapsed();
        let streams = self.distinct();
        for shared in &streams {
            shared.sample(at);
        }
        let (bytes_in, bytes_out) = self.totals.read();
        let counted = Counted { bytes_in, bytes_out, viewers: self.viewers() };
        self.sampling.process.lock().sample(at, counted, figure(streams.len()));
    }
}

/// Ends with the last stream, and with the relay, whether it was stopped or dropped.
async fn sample(relay: Weak<Inner>, stop: CancellationToken) {
    let mut seconds = interval(Span::Minutes.step());
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while stop.run_until_cancelled(seconds.tick()).await.is_some() {
        let Some(relay) = relay.upgrade() else { return };
        relay.sample();
        if !relay.is_sampled_on() {
            return;
        }
    }
}
