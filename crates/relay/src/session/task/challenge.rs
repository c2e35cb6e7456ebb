//! The source that is to take the other one's place: until it is clear that it delivers, and where it goes on.

use std::sync::Arc;

use acemux_media::chunk::{Chunk, Verdict};
use acemux_media::continuation::Past;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::attempt::{Attempt, Challenger, Joined, Joining};
use super::super::intake::Intake;
use super::super::state::{Order, Step};
use super::{Side, Task};
use crate::event::Healed;
use crate::origin::{OpenError, SourceId, Stage, Upstream};

impl Task {
    pub(super) fn challenger_media(&mut self, at: usize, media: Option<Result<Bytes, OpenError>>) -> Order {
        match media {
            Some(Ok(bytes)) => self.challenger_bytes(at, &bytes),
            Some(Err(error)) => self.attempt_failed(Side::Challenger(at), error),
            None => self.attempt_failed(Side::Challenger(at), ended_early(self.challenger_source(at))),
        }
    }

    fn challenger_source(&self, at: usize) -> Option<SourceId> {
        self.challengers.get(at).and_then(|challenger| challenger.attempt.source())
    }

    fn challenger_bytes(&mut self, at: usize, bytes: &[u8]) -> Order {
        self.count(bytes.len());
        let Some(challenger) = self.challengers.get_mut(at) else { return Order::Wait };
        challenger.attempt.progress.enter_after(Stage::FirstByte, Stage::Keyframe);
        if let Joining::Start(ingest) = &mut challenger.joining {
            let chunks: Vec<Chunk> = ingest.take(bytes, Instant::now()).collect();
            return match (chunks.is_empty(), ingest.verdict()) {
                (_, Verdict::NotTransportStream) => self.joined(at, Joined::Unreadable),
                (true, _) => Order::Wait,
                (false, _) => self.outrun(at, chunks),
            };
        }
        let joined = challenger.joining.take(bytes, Instant::now());
        self.joined(at, joined)
    }

    /// The second source of a start was faster.
    fn outrun(&mut self, at: usize, chunks: Vec<Chunk>) -> Order {
        self.challengers.swap(0, at);
        self.promote();
        let published = self.publish(chunks);
        self.after_publishing(published)
    }

    fn joined(&mut self, at: usize, joined: Joined) -> Order {
        match joined {
            Joined::NotYet => Order::Wait,
            Joined::Proven => self.cut_over(at),
            Joined::Unreadable => {
                self.attempt_failed(Side::Challenger(at), unreadable(self.challenger_source(at)))
            }
            Joined::Exactly(bytes) if self.ingest.resume() => self.take_over(at, Healed::Exactly, &bytes),
            Joined::Exactly(bytes) | Joined::Anew(bytes) => {
                self.ingest.restart();
                self.take_over(at, Healed::WithAJump, &bytes)
            }
        }
    }

    /// The challenger delivers: the old source and any other challenger are closed, so that what was sent stands still
    /// while the place to go on is looked for.
    fn cut_over(&mut self, at: usize) -> Order {
        self.challengers.swap(0, at);
        self.challengers.truncate(1);
        self.interrupted_at.get_or_insert(self.stuffing.last_media());
        self.interrupt();
        if let Some(source) = self.challenger_source(0) {
            let order = self.apply(Step::TakenUp(source));
            if order != Order::Wait {
                return order;
            }
        }
        let past = Past::new(self.shared.ring.held());
        let Some(challenger) = self.challengers.first_mut() else { return Order::Wait };
        let joined = challenger.joining.splice(past, Instant::now());
        self.joined(0, joined)
    }

    fn take_over(&mut self, at: usize, healing: Healed, bytes: &[u8]) -> Order {
        let Challenger { attempt, .. } = self.challengers.remove(at);
        self.healing = healing;
        self.take_up(attempt);
        self.repeats.restart();
        let published = self.ingest(bytes);
        self.after_publishing(published)
    }

    pub(super) fn take_up(&mut self, attempt: Attempt) {
        if let Some(upstream) = attempt.upstream() {
            self.reads_from(upstream);
        }
        self.current = Some(attempt);
    }

    /// It is the source in use from now on, and read at once, whatever the one before had to wait for.
    pub(super) fn reads_from(&mut self, upstream: &Upstream) {
        self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        self.intake = Intake::Taking;
    }
}

pub(super) fn ended_early(source_id: Option<SourceId>) -> OpenError {
    OpenError::Failed { detail: "the engine ended the stream before any playable data".into(), source_id }
}

pub(super) fn unreadable(source_id: Option<SourceId>) -> OpenError {
    OpenError::BadReply {
        detail: "the engine sent something that is no MPEG transport stream".into(),
        source_id,
    }
}
