//! Media of the source in use, on its way into the ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use acemux_media::chunk::{Chunk, Verdict};
use acemux_media::continuation::Past;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::attempt::Attempt;
use super::super::gap::Cause;
use super::super::intake::Intake;
use super::super::repeats::Seen;
use super::super::state::{Order, State, Step};
use super::Task;
use super::challenge::{ended_early, unreadable};
use crate::event::Event;
use crate::origin::{OpenError, Stage};

impl Task {
    pub(super) fn media(&mut self, media: Option<Result<Bytes, OpenError>>) -> Order {
        match media {
            Some(Ok(bytes)) => self.bytes(&bytes),
            Some(Err(error)) => self.upstream_over(Some(error)),
            None => self.upstream_over(None),
        }
    }

    fn upstream_over(&mut self, error: Option<OpenError>) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::upstream).map(|open| open.source.clone())
        else {
            return Order::Wait;
        };
        self.interrupt();
        if matches!(self.machine.state(), State::Opening(_)) && self.promote() {
            return self.apply(Step::OneFailed(error.unwrap_or_else(|| ended_early(Some(source.id)))));
        }
        match error {
            None if !source.is_live => self.apply(Step::Finished),
            error => self.apply(Step::UpstreamOver(error, source.id)),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Order {
        self.count(bytes.len());
        self.intake.took(&self.relay.rounds, Instant::now());
        if let Some(current) = &self.current {
            current.progress.enter_after(Stage::FirstByte, Stage::Keyframe);
        }
        let before = self.ingest.shown_until();
        let published = self.ingest(bytes);
        let order = if self.ingest.shown_until() > before && !self.repeats.is_repeating() {
            self.apply(Step::Data(self.ingest.shown_until()))
        } else {
            Order::Wait
        };
        if order == Order::Wait { self.after_publishing(published) } else { order }
    }

    /// Bytes of the source in use, into the ring. True when a chunk got there.
    pub(super) fn ingest(&mut self, bytes: &[u8]) -> bool {
        let chunks = self.ingest.take(bytes, Instant::now()).collect();
        self.publish_new(chunks)
    }

    fn publish_new(&mut self, chunks: Vec<Chunk>) -> bool {
        for chunk in &chunks {
            self.look_for_repeats(chunk);
        }
        let is_another = chunks.iter().any(|chunk| chunk.new_format);
        let published = self.publish(chunks);
        if published {
            self.delivered();
            self.show();
        }
        if is_another {
            self.relay.observe(&Event::FormatChanged { key: &self.shared.key(), format: &self.format });
        }
        if published && !self.repeats.is_repeating() {
            self.stuffing.reached(self.ingest.media_time(), Instant::now());
        }
        published
    }

    /// A fast stream's history is to be long enough for those who fetch pieces, and for who joins.
    fn ask_for_room(&mut self) {
        let (floor, asked) = &mut self.floor;
        let wanted = self.ingest.bitrate().map_or(0, |rate| rate.bytes_in(*floor));
        if wanted > *asked {
            *asked = wanted;
            self.lease.asks_for(wanted);
        }
    }

    /// For pages.
    fn show(&mut self) {
        self.ask_for_room();
        self.shared.reached(self.ingest.media_time(), self.ingest.bitrate());
        if !Arc::ptr_eq(&self.format, self.ingest.format()) {
            self.format = Arc::clone(self.ingest.format());
            self.shared.is(Arc::clone(&self.format));
        }
        if self.condition != self.ingest.condition() {
            self.condition = self.ingest.condition();
            self.shared.is_like(self.condition);
        }
    }

    fn look_for_repeats(&mut self, chunk: &Chunk) {
        let Some(time) = chunk.time else { return };
        let ring = &self.shared.ring;
        if self.repeats.look(time, || Past::new(ring.held()).holds(chunk)) == Seen::Begins {
            let source = self.current.as_ref().and_then(Attempt::source);
            self.relay.observe(&Event::Repeats { key: &self.shared.key(), source: source.as_ref() });
        }
    }

    pub(super) fn count(&self, bytes: usize) {
        self.shared.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.relay.totals.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared.progressed();
    }

    /// The round's bytes are in.
    pub(super) fn ran_dry(&mut self) -> Order {
        let now = Instant::now();
        let published = self.seal(now);
        self.intake.ran_dry(published, &self.relay.rounds, now);
        self.after_publishing(published)
    }

    /// What is pending for too long, or before a source that is too far ahead is left to wait.
    pub(super) fn seal_due(&mut self) -> Order {
        let now = Instant::now();
        let mut is_due = self.ingest.seal_at().is_some_and(|at| at <= now);
        let ring = self.shared.ring.most_bytes();
        if self.intake == Intake::Taking
            && let Some(until) = self.ingest.resume_at(now, ring)
        {
            self.intake.hold_back(until, &self.relay.rounds);
            is_due = true;
        }
        let published = is_due && self.seal(now);
        self.after_publishing(published)
    }

    fn seal(&mut self, now: Instant) -> bool {
        let chunks = self.ingest.seal(now).collect();
        self.publish_new(chunks)
    }

    pub(super) fn after_publishing(&mut self, published: bool) -> Order {
        match self.machine.state() {
            State::Opening(_) if published => return self.started(),
            State::Recovering(gap) if published && gap.cause == Cause::Lost && self.current.is_some() => {
                return self.recovered();
            }
            _ => {}
        }
        if self.ingest.verdict() != Verdict::NotTransportStream {
            return Order::Wait;
        }
        match self.current.take().as_ref().and_then(Attempt::source) {
            Some(source) if matches!(self.machine.state(), State::Opening(_)) && self.promote() => {
                self.apply(Step::OneFailed(unreadable(Some(source))))
            }
            Some(source) => {
                self.ingest.restart();
                self.apply(Step::Unreadable(source))
            }
            None => Order::Wait,
        }
    }

    fn started(&mut self) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::source) else { return Order::Wait };
        self.challengers.clear();
        self.delivered();
        let order = self.apply(Step::Started { source: source.clone(), media: self.ingest.media_time() });
        self.report_start(&source);
        order
    }

    /// Media is there again, continued exactly or after the announcement of a jump.
    fn recovered(&mut self) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::source) else { return Order::Wait };
        let order = self.apply(Step::Started { source: source.clone(), media: self.ingest.media_time() });
        self.stuffing.media(Instant::now());
        if let Some(since) = self.interrupted_at.take() {
            let (key, gap, healed) = (&self.shared.key(), since.elapsed(), self.healing);
            self.relay.observe(&Event::Recovered { key, source: &source, gap, healed });
        }
        order
    }

    /// True when there was anything.
    pub(super) fn publish(&mut self, chunks: impl IntoIterator<Item = Chunk>) -> bool {
        let mut published = false;
        for chunk in chunks {
            if let Some(producer) = &mut self.producer {
                let delivery = producer.push(chunk);
                self.relay.rounds.delivered(delivery, Instant::now());
                published = true;
            }
        }
        published
    }
}
