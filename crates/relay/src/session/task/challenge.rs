//! The source that is to take the other one's place: until it is clear that it delivers, and where it goes on.

use std::sync::Arc;

use acemux_media::chunk::Chunk;
use acemux_media::continuation::Past;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::attempt::{Attempt, Challenger, Joined, Joining};
use super::super::state::{Order, Step};
use super::{Side, Task};
use crate::event::Healed;
use crate::origin::{OpenError, SourceId, Stage};

impl Task {
    pub(super) fn challenger_media(&mut self, media: Option<Result<Bytes, OpenError>>) -> Order {
        let Some(challenger) = &self.challenger else { return Order::Wait };
        let source = challenger.attempt.source();
        match media {
            Some(Ok(bytes)) => self.challenger_bytes(&bytes),
            Some(Err(error)) => self.attempt_failed(Side::Challenger, error),
            None => self.attempt_failed(Side::Challenger, ended_early(source)),
        }
    }

    fn challenger_bytes(&mut self, bytes: &[u8]) -> Order {
        self.count(bytes.len());
        let Some(challenger) = &mut self.challenger else { return Order::Wait };
        challenger.attempt.progress.enter_after(Stage::FirstByte, Stage::Keyframe);
        if let Joining::Start(ingest) = &mut challenger.joining {
            let chunks: Vec<Chunk> = ingest.take(bytes, Instant::now()).collect();
            return if chunks.is_empty() { Order::Wait } else { self.outrun(chunks) };
        }
        let joined = challenger.joining.take(bytes, Instant::now());
        self.joined(joined)
    }

    /// The second source of a start was faster.
    fn outrun(&mut self, chunks: Vec<Chunk>) -> Order {
        self.promote();
        self.ingest.set_viewers(self.machine.viewers_now());
        let published = self.publish(chunks);
        self.after_publishing(published)
    }

    fn joined(&mut self, joined: Joined) -> Order {
        match joined {
            Joined::NotYet => Order::Wait,
            Joined::Proven => self.cut_over(),
            Joined::Unreadable => {
                let source = self.challenger.as_ref().and_then(|challenger| challenger.attempt.source());
                self.attempt_failed(Side::Challenger, unreadable(source))
            }
            Joined::Exactly(bytes) if self.ingest.resume() => self.take_over(Healed::Exactly, &bytes),
            Joined::Exactly(bytes) | Joined::Anew(bytes) => {
                self.ingest.restart();
                self.take_over(Healed::WithAJump, &bytes)
            }
        }
    }

    /// The challenger delivers: the old source is closed, so that what was sent stands still while the place to go on
    /// is looked for.
    fn cut_over(&mut self) -> Order {
        self.interrupted_at.get_or_insert(self.stuffing.last_media());
        self.interrupt();
        if let Some(source) = self.challenger.as_ref().and_then(|challenger| challenger.attempt.source()) {
            self.apply(Step::TakenUp(source));
        }
        let past = Past::new(self.shared.ring.held());
        let Some(challenger) = &mut self.challenger else { return Order::Wait };
        let joined = challenger.joining.splice(past, Instant::now());
        self.joined(joined)
    }

    fn take_over(&mut self, healing: Healed, bytes: &[u8]) -> Order {
        let Some(Challenger { attempt, .. }) = self.challenger.take() else { return Order::Wait };
        self.healing = healing;
        self.take_up(attempt);
        self.repeats.restart();
        let published = self.ingest(bytes);
        self.after_publishing(published)
    }

    pub(super) fn take_up(&mut self, attempt: Attempt) {
        if let Some(upstream) = attempt.upstream() {
            self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        }
        self.current = Some(attempt);
    }
}

fn ended_early(source_id: Option<SourceId>) -> OpenError {
    OpenError::Failed { detail: "the engine ended the stream before any playable data".into(), source_id }
}

fn unreadable(source_id: Option<SourceId>) -> OpenError {
    OpenError::BadReply {
        detail: "the engine sent something that is no MPEG transport stream".into(),
        source_id,
    }
}
