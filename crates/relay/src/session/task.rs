//! The task that owns a session: waits for the next thing to happen, lets the machine decide, does it.
//!
//! The attempt in use ([`Task::current`]) feeds the ring. Another one may run beside it ([`Task::challenger`]): a second
//! source for a start that is silent, or the one that is to heal a gap. It takes the first one's place once it has shown
//! that it delivers.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use acemux_media::chunk::{Chunk, Verdict};
use acemux_media::continuation::Past;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Challenger, Happened, Joined, Joining};
use super::gap::{Cause, SPREAD};
use super::ingest::Ingest;
use super::repeats::{Repeats, Seen};
use super::state::{Machine, Order, State, Step};
use super::stuffing::Stuffing;
use super::{Command, EndReason, Phase, Shared};
use crate::budget::Lease;
use crate::event::{Event, Healed};
use crate::origin::{OpenError, OpenRequest, Pressure, Progress, SourceId, Stage, Upstream, Urgency};
use crate::output::recording::Recording;
use crate::relay::{Claim, Inner};
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

    /// Asks for another source. An attempt that is under way and not to go on beside it is closed first.
    fn open(&mut self, mut exclude: Vec<SourceId>, beside: bool) {
        let urgency = self.urgency(beside);
        exclude.extend(self.challenger.take().and_then(|challenger| challenger.attempt.source()));
        if beside {
            exclude.extend(self.current.as_ref().and_then(Attempt::source));
        } else {
            self.interrupt();
        }
        let progress = Progress::default();
        progress.enter(Stage::Slot);
        let relay = Arc::downgrade(&self.relay);
        let request = OpenRequest {
            key: self.shared.key(),
            exclude,
            urgency,
            progress: progress.clone(),
            pressure: Pressure::new(move || relay.upgrade().is_some_and(|relay| relay.give_way())),
        };
        let attempt = Attempt::new(progress, self.relay.origin.open(request));
        if urgency == Urgency::Start {
            self.current = Some(attempt);
        } else {
            let joining = self.joining(urgency);
            self.challenger = Some(Challenger { attempt, joining });
        }
    }

    fn urgency(&self, beside: bool) -> Urgency {
        match self.machine.state() {
            State::Opening(_) if beside => Urgency::Hedge,
            State::Opening(_) => Urgency::Start,
            _ => Urgency::Recovery { viewers: self.machine.viewers_now() },
        }
    }

    fn joining(&self, urgency: Urgency) -> Joining {
        let config = &self.relay.config;
        let ingest = || Ingest::new(config.chunk_bytes, config.join_burst, config.ring_media, Instant::now());
        match urgency {
            Urgency::Hedge => Joining::Start(Box::new(ingest())),
            Urgency::Start | Urgency::Recovery { .. } => Joining::Unproven(Vec::new()),
        }
    }

    /// The source in use is closed; what is whole of it is published. Of a start nothing is: with its first chunk it would
    /// have been one that succeeded, and what another source sends does not continue it.
    fn interrupt(&mut self) {
        self.current = None;
        if matches!(self.machine.state(), State::Opening(_)) {
            return self.ingest.restart();
        }
        let chunks = self.ingest.interrupt(Instant::now());
        publish(&mut self.producer, chunks);
    }

    fn settle(&mut self) {
        self.challenger = None;
        if let (Some(source), Some(since)) = (self.shared.source(), self.interrupted_at.take()) {
            let (key, gap) = (&self.shared.key(), since.elapsed());
            let healed = Healed::ByItself;
            self.relay.observe(&Event::Recovered { key, source: &source.id, gap, healed });
        }
    }

    fn opened(&mut self, side: Side, result: Result<Upstream, OpenError>) -> Order {
        match result {
            Ok(upstream) if upstream.key == self.shared.key() => self.use_upstream(side, upstream),
            Ok(upstream) => match self.relay.claim(&self.shared, &upstream.key) {
                Claim::Mine => self.use_upstream(side, upstream),
                Claim::Taken(other) => merge(&other, upstream),
            },
            Err(error) => self.attempt_failed(side, error),
        }
    }

    fn use_upstream(&mut self, side: Side, upstream: Upstream) -> Order {
        let attempt = match side {
            Side::Current => self.current.as_mut(),
            Side::Challenger => self.challenger.as_mut().map(|challenger| &mut challenger.attempt),
        };
        let Some(attempt) = attempt else { return Order::Wait };
        attempt.progress.enter(Stage::FirstByte);
        if side == Side::Current {
            self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        }
        let recording = upstream.recording.clone().filter(|_| side == Side::Current);
        attempt.opened(upstream);
        match recording {
            Some(recording) => self.records(recording),
            None => self.apply(Step::Opened(Ok(()))),
        }
    }

    /// There is nothing to wait for: viewers open the recording where they like.
    fn records(&mut self, recording: Arc<dyn Recording>) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::source) else { return Order::Wait };
        self.challenger = None;
        self.shared.records(recording);
        let order = self.apply(Step::Recording(source.clone()));
        self.report_start(&source);
        order
    }

    /// Of two attempts one may fail: the other goes on. Only the last one's failure is the stream's.
    fn attempt_failed(&mut self, side: Side, error: OpenError) -> Order {
        match side {
            Side::Current => self.current = None,
            Side::Challenger => {
                let was_for_start =
                    self.challenger.take().is_some_and(|lost| matches!(lost.joining, Joining::Start(_)));
                if was_for_start && self.current.is_some() {
                    return Order::Wait;
                }
            }
        }
        if side == Side::Current && self.promote() {
            return Order::Wait;
        }
        self.apply(Step::Opened(Err(error)))
    }

    /// The second source of a start goes on alone.
    fn promote(&mut self) -> bool {
        match self.challenger.take() {
            Some(Challenger { attempt, joining: Joining::Start(ingest) }) => {
                self.take_up(attempt);
                self.ingest = *ingest;
                true
            }
            other => {
                self.challenger = other;
                false
            }
        }
    }

    /// Another session opened this channel. On one engine a new playback has superseded the old one, so it must take
    /// its place. A playback on another engine is one too many and is closed by its drop.
    fn offered(&mut self, upstream: Upstream) -> Order {
        let source =
            self.current.as_ref().and_then(Attempt::upstream).map(|current| current.source.id.clone());
        match source {
            Some(source) if source != upstream.source.id => return Order::Wait,
            Some(source) => {
                self.ingest.restart();
                self.relay.observe(&Event::UpstreamReplaced { key: &self.shared.key(), source: &source });
            }
            None => {}
        }
        let Some(current) = &mut self.current else { return Order::Wait };
        current.progress.enter(Stage::FirstByte);
        self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        current.opened(upstream);
        self.apply(Step::Opened(Ok(())))
    }

    fn media(&mut self, media: Option<Result<Bytes, OpenError>>) -> Order {
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
            return Order::Wait;
        }
        match error {
            None if !source.is_live => self.apply(Step::Finished),
            error => self.apply(Step::UpstreamOver(error, source.id)),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Order {
        self.count(bytes.len());
        if let Some(current) = &self.current {
            current.progress.enter_after(Stage::FirstByte, Stage::Keyframe);
        }
        let before = self.ingest.media_time();
        let published = self.ingest(bytes);
        let order = if self.ingest.media_time() > before && !self.repeats.is_repeating() {
            self.stuffing.media(Instant::now());
            self.apply(Step::Data(self.ingest.media_time()))
        } else {
            Order::Wait
        };
        if order == Order::Wait { self.after_publishing(published) } else { order }
    }

    /// Bytes of the source in use, into the ring. True when a chunk got there.
    fn ingest(&mut self, bytes: &[u8]) -> bool {
        let chunks = self.ingest.take(bytes, Instant::now()).collect();
        self.publish_new(chunks)
    }

    fn publish_new(&mut self, chunks: Vec<Chunk>) -> bool {
        for chunk in &chunks {
            self.look_for_repeats(chunk);
        }
        publish(&mut self.producer, chunks.into_iter())
    }

    fn look_for_repeats(&mut self, chunk: &Chunk) {
        let Some(pcr) = chunk.pcr else { return };
        let ring = &self.shared.ring;
        if self.repeats.look(pcr, || Past::new(ring.held()).holds(chunk)) == Seen::Begins {
            let source = self.current.as_ref().and_then(Attempt::source);
            self.relay.observe(&Event::Repeats { key: &self.shared.key(), source: source.as_ref() });
        }
    }

    fn count(&self, bytes: usize) {
        self.shared.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.relay.totals.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared.progressed();
    }

    fn seal_due(&mut self) {
        let chunks = self.ingest.seal_due(Instant::now()).collect();
        let published = self.publish_new(chunks);
        self.after_publishing(published);
    }

    fn after_publishing(&mut self, published: bool) -> Order {
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
            Some(_) if matches!(self.machine.state(), State::Opening(_)) && self.promote() => Order::Wait,
            Some(source) => {
                self.ingest.restart();
                self.apply(Step::Unreadable(source))
            }
            None => Order::Wait,
        }
    }

    fn started(&mut self) -> Order {
        let Some(source) = self.current.as_ref().and_then(Attempt::source) else { return Order::Wait };
        self.challenger = None;
        let order = self.apply(Step::Started { source: source.clone(), media: self.ingest.media_time() });
        self.report_start(&source);
        order
    }

    fn report_start(&self, source: &SourceId) {
        self.shared.live();
        self.report_stages();
        let took = self.shared.opened.elapsed();
        let (key, result) = (&self.shared.key(), Ok(source));
        self.relay.observe(&Event::StartFinished { key, result, took });
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

    fn challenger_media(&mut self, media: Option<Result<Bytes, OpenError>>) -> Order {
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
        let published = publish(&mut self.producer, chunks.into_iter());
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
        self.apply(Step::TakenUp);
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

    fn take_up(&mut self, attempt: Attempt) {
        if let Some(upstream) = attempt.upstream() {
            self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        }
        self.current = Some(attempt);
    }

    fn viewers_changed(&mut self) -> Order {
        let count = *self.viewers.borrow_and_update();
        self.ingest.set_viewers(count);
        self.shared.measured(self.ingest.bitrate());
        self.apply(Step::Viewers(count))
    }

    fn report_opening(&mut self, error: &OpenError) {
        let (key, source, text) = (&self.shared.key(), error.source_id(), error.to_string());
        let State::Recovering(gap) = self.machine.state() else {
            return self.relay.observe(&Event::StartRetried { key, source, error: &text });
        };
        if gap.cause == Cause::Wanted {
            return self.relay.observe(&Event::Leaving { key, source, why: &text });
        }
        if self.interrupted_at.is_none() {
            self.interrupted_at = Some(self.stuffing.last_media());
            self.relay.observe(&Event::Interrupted { key, source, error: &text });
        }
    }

    fn report_stages(&self) {
        let Some(attempt) = &self.current else { return };
        for (stage, took) in attempt.progress.finish(Instant::now()) {
            self.relay.observe(&Event::StageFinished { stage, took });
        }
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

/// Hands the playback to the session that has the channel; our waiters join that one.
fn merge(other: &Shared, upstream: Upstream) -> Order {
    let reason = EndReason::Merged(upstream.key.clone());
    // Its queue is full or it is ending: then the playback is closed here by its drop.
    let _closed_if_refused = other.commands.try_send(Command::Offer(Box::new(upstream)));
    Order::End { reason, if_unwatched: false }
}

fn publish(producer: &mut Option<Producer>, chunks: impl Iterator<Item = Chunk>) -> bool {
    let mut published = false;
    for chunk in chunks {
        if let Some(producer) = producer {
            producer.push(chunk);
            published = true;
        }
    }
    published
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

fn ended_early(source_id: Option<SourceId>) -> OpenError {
    OpenError::Failed { detail: "the engine ended the stream before any playable data".into(), source_id }
}

fn unreadable(source_id: Option<SourceId>) -> OpenError {
    OpenError::BadReply {
        detail: "the engine sent something that is no MPEG transport stream".into(),
        source_id,
    }
}
