//! The task that owns a session: waits for the next thing to happen, lets the machine decide, does it.
//!
//! The attempt in use ([`Task::current`]) feeds the ring ([`feed`]). Another one may run beside it
//! ([`Task::challenger`]): a second source for a start that is silent, or the one that is to heal a gap. It takes the
//! first one's place once it has shown that it delivers ([`challenge`]).

mod attempts;
mod challenge;
mod feed;
mod report;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};

use acemux_media::chunk::Chunk;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Challenger, Happened};
use super::gap::SPREAD;
use super::ingest::Ingest;
use super::repeats::Repeats;
use super::state::{Machine, Order, State, Step};
use super::stuffing::Stuffing;
use super::{Command, EndReason, Phase, Shared};
use crate::budget::Lease;
use crate::event::{Event, Healed};
use crate::origin::Stage;
use crate::relay::Inner;
use crate::ring::Producer;

/// One session's owner.
pub(crate) struct Task {
    relay: Arc<Inner>,
    shared: Arc<Shared>,
    producer: Option<Producer>,
    machine: Machine,
    ingest: Ingest,
    stuffing: Stuffing,
    repeats: Repeats,
    current: Option<Attempt>,
    challenger: Option<Challenger>,
    commands: mpsc::Receiver<Command>,
    viewers: watch::Receiver<usize>,
    stop: CancellationToken,
    /// Since when viewers have had no media, while that is known to be a gap.
    interrupted_at: Option<Instant>,
    /// How the source that is to heal the gap goes on.
    healing: Healed,
    /// The ring's place in the memory budget.
    lease: Lease,
}

/// Which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Current,
    Challenger,
}

/// What the task waited for.
enum Happening {
    Stopped,
    Told(Command),
    Viewers,
    Attempt(Side, Happened),
    Timer,
}

impl Task {
    pub(crate) fn new(
        relay: Arc<Inner>,
        shared: Arc<Shared>,
        producer: Producer,
        commands: mpsc::Receiver<Command>,
        lease: Lease,
    ) -> Self {
        let now = Instant::now();
        let config = &relay.config;
        Self {
            machine: Machine::new(config.timings, shared.opened, now).spread_by(rand::random_range(SPREAD)),
            ingest: Ingest::new(config.chunk_bytes, config.join_burst, config.ring_media, now),
            stuffing: Stuffing::new(now),
            repeats: Repeats::default(),
            current: None,
            challenger: None,
            viewers: shared.viewers.count_changes(),
            stop: relay.stop.clone(),
            interrupted_at: None,
            healing: Healed::ByItself,
            producer: Some(producer),
            relay,
            shared,
            commands,
            lease,
        }
    }

    /// Lives as long as the session.
    pub(crate) async fn run(mut self) {
        self.open(Vec::new(), false);
        loop {
            let happening = self.select().await;
            let order = self.handle(happening);
            if let ControlFlow::Break(reason) = self.execute(order) {
                return self.close(reason);
            }
            self.seal_due();
        }
    }

    async fn select(&mut self) -> Happening {
        let now = Instant::now();
        let resume_at = self.ingest.resume_at(now, self.lease.share());
        let stuffing_at = self.is_stuffed().then(|| self.stuffing.due_at()).filter(|_| resume_at.is_none());
        let wake_at = earliest([self.machine.deadline(), self.ingest.seal_at(), resume_at, stuffing_at]);
        let Self { current, challenger, .. } = self;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Happening::Stopped,
            Some(command) = self.commands.recv() => Happening::Told(command),
            Ok(()) = self.viewers.changed() => Happening::Viewers,
            (side, happened) = poll_fn(|context| poll(current, challenger, resume_at.is_none(), context)) => {
                Happening::Attempt(side, happened)
            }
            () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => Happening::Timer,
        }
    }

    fn handle(&mut self, happening: Happening) -> Order {
        match happening {
            Happening::Stopped => self.apply(Step::Shutdown),
            Happening::Told(command) => self.told(command),
            Happening::Viewers => self.viewers_changed(),
            Happening::Attempt(Side::Current, Happened::Opened(result)) => self.opened(Side::Current, result),
            Happening::Attempt(Side::Current, Happened::Media(media)) => self.media(media),
            Happening::Attempt(Side::Challenger, Happened::Opened(result)) => {
                self.opened(Side::Challenger, result)
            }
            Happening::Attempt(Side::Challenger, Happened::Media(media)) => self.challenger_media(media),
            Happening::Timer => self.timer(),
        }
    }

    fn told(&mut self, command: Command) -> Order {
        match command {
            Command::GiveWay => self.apply(Step::GiveWay),
            Command::End(reason) => self.apply(Step::End(reason)),
            Command::Offer(upstream) => self.offered(*upstream),
            Command::Leave(why) => {
                let is_there = self.current.as_ref().and_then(Attempt::source).as_ref() == why.source_id();
                if is_there { self.apply(Step::Leave(why)) } else { Order::Wait }
            }
        }
    }

    /// Media that we leave in the socket ourselves is no silence of the source.
    fn timer(&mut self) -> Order {
        let now = Instant::now();
        if self.ingest.resume_at(now, self.lease.share()).is_some() {
            self.stuffing.media(now);
            let media = self.ingest.media_time();
            let order = self.apply(Step::Data(media));
            if order != Order::Wait {
                return order;
            }
        } else if self.is_stuffed() {
            self.stuff(now);
        }
        self.apply(Step::Tick)
    }

    /// Whether silence is filled: viewers have had media, and wait for more.
    fn is_stuffed(&self) -> bool {
        matches!(self.machine.state(), State::Live | State::Recovering(_)) && self.machine.viewers_now() > 0
    }

    fn stuff(&mut self, now: Instant) {
        let media = self.ingest.media_time();
        if let (Some(bytes), Some(producer)) = (self.stuffing.take(now), &mut self.producer) {
            producer.push(Chunk { seq: 0, bytes, start: None, media, pcr: None, jump: false });
        }
    }

    fn apply(&mut self, step: Step) -> Order {
        let order = self.machine.apply(step, self.stage(), Instant::now());
        let lingering = matches!(self.machine.state(), State::Lingering { .. });
        if lingering != self.shared.lingering_since().is_some() {
            self.shared.lingers(lingering.then(Instant::now));
        }
        order
    }

    /// What a start is waiting for; of two that run, the one that was asked first.
    fn stage(&self) -> Stage {
        let attempt =
            self.current.as_ref().or(self.challenger.as_ref().map(|challenger| &challenger.attempt));
        attempt.map_or(Stage::Slot, |attempt| attempt.progress.stage())
    }

    fn execute(&mut self, order: Order) -> ControlFlow<EndReason> {
        match order {
            Order::Wait => ControlFlow::Continue(()),
            Order::Open { exclude, error, beside } => {
                self.report_opening(&error);
                self.open(exclude, beside);
                ControlFlow::Continue(())
            }
            Order::Settle => {
                self.settle();
                ControlFlow::Continue(())
            }
            Order::End { reason, if_unwatched } => {
                if self.relay.retire(&self.shared, if_unwatched) {
                    return ControlFlow::Break(reason);
                }
                let order = self.viewers_changed();
                self.execute(order)
            }
        }
    }

    fn viewers_changed(&mut self) -> Order {
        let count = *self.viewers.borrow_and_update();
        self.ingest.set_viewers(count);
        self.shared.measured(self.ingest.bitrate());
        self.apply(Step::Viewers(count))
    }

    /// The session is out of the relay already: whoever is released here finds no corpse to join.
    fn close(mut self, reason: EndReason) {
        let key = self.shared.key();
        if let EndReason::NotStarted(error) = &reason {
            self.report_stages();
            let took = self.shared.opened.elapsed();
            self.relay.observe(&Event::StartFinished { key: &key, result: Err(error), took });
        }
        let lasted = self.shared.opened.elapsed();
        self.relay.observe(&Event::SessionEnded { key: &key, reason: &reason, lasted });
        self.shared.forget_recording();
        self.shared.phase.send_replace(Phase::Ended(reason.clone()));
        if let Some(producer) = self.producer.take() {
            producer.finish(reason);
        }
    }
}

impl Drop for Task {
    /// After a panic the session must not stay in the relay as a corpse that viewers join.
    fn drop(&mut self) {
        self.relay.retire(&self.shared, false);
        self.shared.phase.send_if_modified(|phase| {
            let lost = !matches!(phase, Phase::Ended(_));
            if lost {
                *phase = Phase::Ended(EndReason::Lost);
            }
            lost
        });
    }
}

fn earliest<const N: usize>(instants: [Option<Instant>; N]) -> Option<Instant> {
    instants.into_iter().flatten().min()
}

/// The challenger first: it has little to say, and the other must not drown it out.
fn poll(
    current: &mut Option<Attempt>,
    challenger: &mut Option<Challenger>,
    read: bool,
    context: &mut Context<'_>,
) -> Poll<(Side, Happened)> {
    if let Some(Challenger { attempt, .. }) = challenger
        && let Poll::Ready(happened) = attempt.poll(context, true)
    {
        return Poll::Ready((Side::Challenger, happened));
    }
    match current {
        Some(attempt) => attempt.poll(context, read).map(|happened| (Side::Current, happened)),
        None => Poll::Pending,
    }
}
