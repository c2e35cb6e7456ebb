//! Ways to the stream: asked for, opened, failed, handed over.

use std::sync::Arc;

use acemux_media::chunk::Chunk;
use tokio::time::Instant;

use super::super::attempt::{Attempt, Challenger, Joining};
use super::super::ingest::Ingest;
use super::super::state::{Order, State, Step};
use super::super::{Command, EndReason, Shared};
use super::{Side, Task};
use crate::event::{Event, Healed};
use crate::origin::{OpenError, OpenRequest, Progress, SourceId, Stage, Upstream, Urgency};
use crate::output::recording::Recording;
use crate::relay::Claim;

impl Task {
    /// Asks for another source. An attempt that is under way and not to go on beside it is closed first.
    pub(super) fn open(&mut self, mut exclude: Vec<SourceId>, beside: bool) {
        exclude.extend(self.challengers.drain(..).filter_map(|challenger| challenger.attempt.source()));
        if beside {
            exclude.extend(self.current.as_ref().and_then(Attempt::source));
        } else {
            self.interrupt();
        }
        let urgency = self.urgency();
        let attempt = self.ask(exclude, urgency);
        if urgency == Urgency::Start {
            self.current = Some(attempt);
        } else {
            self.challengers.push(Challenger { attempt, joining: Joining::Unproven(Vec::new()) });
        }
    }

    /// Asks another source beside those that are asked or used.
    pub(super) fn hedge(&mut self, mut exclude: Vec<SourceId>) {
        let asked = self.challengers.iter().map(|challenger| &challenger.attempt).chain(&self.current);
        exclude.extend(asked.filter_map(Attempt::source));
        let attempt = self.ask(exclude, Urgency::Hedge);
        let joining = self.joining();
        self.challengers.push(Challenger { attempt, joining });
    }

    fn ask(&self, exclude: Vec<SourceId>, urgency: Urgency) -> Attempt {
        let progress = Progress::default();
        progress.enter(Stage::Slot);
        if urgency == Urgency::Start {
            self.shared.asks(progress.clone());
        }
        let request = OpenRequest {
            key: self.shared.key(),
            exclude,
            urgency,
            progress: progress.clone(),
            asked: self.shared.opened,
            tenant: self.tenant.clone(),
        };
        Attempt::new(progress, self.relay.origin.open(request))
    }

    fn urgency(&self) -> Urgency {
        match self.machine.state() {
            State::Opening(_) => Urgency::Start,
            _ => Urgency::Recovery { viewers: self.machine.viewers_now() },
        }
    }

    /// How a second source of a start, or of a gap's healing, gets into the ring.
    fn joining(&self) -> Joining {
        let config = self.relay.config();
        match self.machine.state() {
            State::Opening(_) => {
                let now = Instant::now();
                let ingest = Ingest::new(config.chunk_bytes, config.join_burst, config.ring_media, now);
                Joining::Start(Box::new(ingest))
            }
            _ => Joining::Unproven(Vec::new()),
        }
    }

    /// The source in use is closed; what is whole of it is published. Of a start nothing is: with its first chunk it would
    /// have been one that succeeded, and what another source sends does not continue it.
    pub(super) fn interrupt(&mut self) {
        self.current = None;
        if matches!(self.machine.state(), State::Opening(_)) {
            return self.ingest.restart();
        }
        let chunks: Vec<Chunk> = self.ingest.interrupt(Instant::now()).collect();
        self.publish(chunks);
    }

    pub(super) fn settle(&mut self) {
        self.challengers.clear();
        if let (Some(source), Some(since)) = (self.shared.source(), self.interrupted_at.take()) {
            let (key, gap) = (&self.shared.key(), since.elapsed());
            let healed = Healed::ByItself;
            self.relay.observe(&Event::Recovered { key, source: &source.id, gap, healed });
        }
    }

    pub(super) fn opened(&mut self, side: Side, result: Result<Upstream, OpenError>) -> Order {
        match result {
            Ok(upstream) if upstream.key == self.shared.key() => self.use_upstream(side, upstream),
            Ok(upstream) => match self.relay.claim(&self.shared, &upstream.key) {
                Claim::Mine => self.use_upstream(side, upstream),
                Claim::Taken(other) => self.meets(&other, side, upstream),
            },
            Err(error) => self.attempt_failed(side, error),
        }
    }

    fn use_upstream(&mut self, side: Side, upstream: Upstream) -> Order {
        if side == Side::Current && self.current.is_some() {
            self.reads_from(&upstream);
        }
        let attempt = match side {
            Side::Current => self.current.as_mut(),
            Side::Challenger(at) => self.challengers.get_mut(at).map(|challenger| &mut challenger.attempt),
        };
        let Some(attempt) = attempt else { return Order::Wait };
        attempt.progress.enter(Stage::FirstByte);
        let recording = upstream.recording.clone();
        attempt.opened(upstream);
        match (recording, side) {
            (Some(recording), Side::Current) => self.records(recording),
            (Some(recording), Side::Challenger(at)) if matches!(self.machine.state(), State::Opening(_)) => {
                // A recording brings no media by itself: that it was opened is all there is to be faster at.
                self.challengers.swap(0, at);
                self.promote();
                self.records(recording)
            }
            _ => self.apply(Step::Opened(Ok(()))),
        }
    }

    /// There is nothing to wait for: viewers open the recording where they like.
    fn records(&mut self, recording: Arc<dyn Recording>) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::source) else { return Order::Wait };
        self.challengers.clear();
        self.delivered();
        self.shared.records(recording);
        let order = self.apply(Step::Recording(source.clone()));
        self.report_start(&source);
        order
    }

    /// The source in use can be played. What the channel really is may be certain only now; when a session has that name
    /// already both go on, because their viewers watch.
    pub(super) fn delivered(&mut self) {
        let Some(key) = self.current.as_mut().and_then(Attempt::delivered) else { return };
        if key != self.shared.key() {
            let _mine_or_taken = self.relay.claim(&self.shared, &key);
        }
    }

    /// Of several attempts one may fail: the others go on. Only the last one's failure is the stream's.
    pub(super) fn attempt_failed(&mut self, side: Side, error: OpenError) -> Order {
        self.report_unhealed(&error);
        let is_starting = matches!(self.machine.state(), State::Opening(_));
        match side {
            Side::Current => {
                self.current = None;
                if self.promote() {
                    return self.apply(Step::OneFailed(error));
                }
            }
            Side::Challenger(at) => {
                self.challengers.remove(at);
                let goes_on = !self.challengers.is_empty() || (is_starting && self.current.is_some());
                if goes_on && matches!(error, OpenError::NoCapacity { .. }) {
                    return self.apply(Step::NoRoom);
                }
                if goes_on {
                    return self.apply(Step::OneFailed(error));
                }
            }
        }
        self.apply(Step::Opened(Err(error)))
    }

    /// The second source of a start goes on alone, from where it is: what it has sent is no place to begin yet.
    pub(super) fn promote(&mut self) -> bool {
        let is_for_start = |challenger: &Challenger| matches!(challenger.joining, Joining::Start(_));
        let Some(at) = self.challengers.iter().position(is_for_start) else { return false };
        let Challenger { attempt, joining } = self.challengers.remove(at);
        if let Joining::Start(ingest) = joining {
            self.ingest = *ingest;
        }
        self.take_up(attempt);
        true
    }

    /// Another session has the channel that this one turns out to be. Who still waits joins that one. Who watches is not
    /// cut for a name: then both go on, but not on one engine where the newer playback ends the other.
    fn meets(&mut self, other: &Arc<Shared>, side: Side, upstream: Upstream) -> Order {
        let is_starting = matches!(self.machine.state(), State::Opening(_));
        let is_there = other.source().is_some_and(|source| source.id == upstream.source.id);
        match (is_starting, is_there && upstream.source.supersedes) {
            (false, false) => self.use_upstream(side, upstream),
            (false, true) if self.current.is_some() => {
                let error = plays_there(upstream.source.id.clone());
                drop(upstream);
                self.attempt_failed(side, error)
            }
            // There is nothing to go on with, and players that come again find the other one.
            (false, true) | (true, _) => self.merge(other, upstream),
        }
    }

    /// Hands the playback to the session that has the channel; our waiters join that one.
    fn merge(&self, other: &Arc<Shared>, upstream: Upstream) -> Order {
        let reason = EndReason::Merged(upstream.key.clone());
        self.tenant.moves_to(other);
        // Its queue is full or it is ending: then the playback is closed here by its drop.
        let _closed_if_refused = other.commands.try_send(Command::Offer(Box::new(upstream)));
        Order::End { reason, if_unwatched: false }
    }

    /// Another session opened this channel. Where a new playback has superseded the old one it must take its place. One
    /// on another engine, or on one that plays both, is one too many and is closed by its drop.
    pub(super) fn offered(&mut self, upstream: Upstream) -> Order {
        let source =
            self.current.as_ref().and_then(Attempt::upstream).map(|current| current.source.id.clone());
        match source {
            Some(source) if source != upstream.source.id || !upstream.source.supersedes => {
                return Order::Wait;
            }
            Some(source) => {
                self.ingest.restart();
                self.relay.observe(&Event::UpstreamReplaced { key: &self.shared.key(), source: &source });
            }
            None => {}
        }
        if self.current.is_some() {
            self.reads_from(&upstream);
        }
        let Some(current) = &mut self.current else { return Order::Wait };
        current.progress.enter(Stage::FirstByte);
        current.opened(upstream);
        self.apply(Step::Opened(Ok(())))
    }
}

fn plays_there(source: SourceId) -> OpenError {
    let detail = "the engine plays this channel already, for those who asked for it by another name";
    OpenError::Failed { detail: detail.into(), source_id: Some(source) }
}
