//! The task that owns a session: waits for the next thing to happen, lets the machine decide, does it.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use acemux_media::chunk::{Chunk, Verdict};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ingest::Ingest;
use super::state::{Machine, Order, State, Step};
use super::{Command, EndReason, Phase, Shared};
use crate::budget::Lease;
use crate::event::Event;
use crate::origin::{OpenError, OpenRequest, Pressure, Progress, SourceId, Stage, Upstream};
use crate::relay::{Claim, Inner};
use crate::ring::Producer;

/// A start that is under way at the origin.
type Start = BoxFuture<'static, Result<Upstream, OpenError>>;

/// One session's owner.
pub(crate) struct Task {
    relay: Arc<Inner>,
    shared: Arc<Shared>,
    producer: Option<Producer>,
    machine: Machine,
    ingest: Ingest,
    progress: Progress,
    start: Option<Start>,
    upstream: Option<Upstream>,
    commands: mpsc::Receiver<Command>,
    viewers: watch::Receiver<usize>,
    stop: CancellationToken,
    /// When the upstream was lost, while no other one delivers.
    interrupted_at: Option<Instant>,
    /// The ring's place in the memory budget.
    lease: Lease,
}

/// What the task waited for.
enum Happening {
    Stopped,
    Told(Command),
    Viewers,
    Opened(Result<Upstream, OpenError>),
    Media(Option<Result<Bytes, OpenError>>),
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
            machine: Machine::new(config.timings, shared.opened, now),
            ingest: Ingest::new(config.chunk_bytes, config.join_burst, config.ring_media, now),
            progress: Progress::default(),
            start: None,
            upstream: None,
            viewers: shared.viewers.count_changes(),
            stop: relay.stop.clone(),
            interrupted_at: None,
            producer: Some(producer),
            relay,
            shared,
            commands,
            lease,
        }
    }

    /// Lives as long as the session.
    pub(crate) async fn run(mut self) {
        self.open(Vec::new());
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
        let wake_at = earliest([self.machine.deadline(), self.ingest.seal_at(), resume_at]);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Happening::Stopped,
            Some(command) = self.commands.recv() => Happening::Told(command),
            Ok(()) = self.viewers.changed() => Happening::Viewers,
            result = opened(&mut self.start) => Happening::Opened(result),
            media = next_media(&mut self.upstream), if resume_at.is_none() => Happening::Media(media),
            () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => Happening::Timer,
        }
    }

    fn handle(&mut self, happening: Happening) -> Order {
        match happening {
            Happening::Stopped => self.apply(Step::Shutdown),
            Happening::Told(Command::GiveWay) => self.apply(Step::GiveWay),
            Happening::Told(Command::Offer(upstream)) => self.use_or_close(*upstream),
            Happening::Viewers => self.viewers_changed(),
            Happening::Opened(result) => self.opened(result),
            Happening::Media(media) => self.media(media),
            Happening::Timer => self.timer(),
        }
    }

    /// Media that we leave in the socket ourselves is no silence of the source.
    fn timer(&mut self) -> Order {
        if self.ingest.resume_at(Instant::now(), self.lease.share()).is_some() {
            self.apply(Step::Data);
        }
        self.apply(Step::Tick)
    }

    fn apply(&mut self, step: Step) -> Order {
        let order = self.machine.apply(step, self.progress.stage(), Instant::now());
        let lingering = matches!(self.machine.state(), State::Lingering { .. });
        if lingering != self.shared.lingering_since().is_some() {
            self.shared.lingers(lingering.then(Instant::now));
        }
        order
    }

    fn execute(&mut self, order: Order) -> ControlFlow<EndReason> {
        match order {
            Order::Wait => ControlFlow::Continue(()),
            Order::Open { exclude, error } => {
                match self.machine.state() {
                    State::Recovering(_) => self.report_gap(&error),
                    _ => self.report_retry(&error),
                }
                self.open(exclude);
                ControlFlow::Continue(())
            }
            Order::End { reason, if_unwatched } => {
                if self.relay.retire(&self.shared, if_unwatched) {
                    return ControlFlow::Break(reason);
                }
                self.viewers_changed();
                ControlFlow::Continue(())
            }
        }
    }

    fn open(&mut self, exclude: Vec<SourceId>) {
        self.upstream = None;
        self.ingest.restart();
        let relay = Arc::downgrade(&self.relay);
        let request = OpenRequest {
            key: self.shared.key(),
            exclude,
            progress: self.progress.clone(),
            pressure: Pressure::new(move || relay.upgrade().is_some_and(|relay| relay.give_way())),
        };
        self.progress.enter(Stage::Slot);
        self.start = Some(self.relay.origin.open(request));
    }

    fn opened(&mut self, result: Result<Upstream, OpenError>) -> Order {
        self.start = None;
        match result {
            Ok(upstream) if upstream.key == self.shared.key() => self.use_or_close(upstream),
            Ok(upstream) => match self.relay.claim(&self.shared, &upstream.key) {
                Claim::Mine => self.use_or_close(upstream),
                Claim::Taken(other) => merge(&other, upstream),
            },
            // Another session's playback of this channel already feeds us: our own failure matters to nobody.
            Err(_) if self.upstream.is_some() => Order::Wait,
            Err(error) => self.apply(Step::Opened(Err(error))),
        }
    }

    /// On one engine a new playback has superseded the old one, so it must take its place. A playback on another
    /// engine is one too many and is closed by its drop.
    fn use_or_close(&mut self, upstream: Upstream) -> Order {
        let current = self.upstream.as_ref().map(|current| current.source.id.clone());
        match current {
            Some(source) if source != upstream.source.id => return Order::Wait,
            Some(source) => {
                self.ingest.restart();
                self.relay.observe(&Event::UpstreamReplaced { key: &self.shared.key(), source: &source });
            }
            None => self.progress.enter(Stage::FirstByte),
        }
        self.shared.playing_on(upstream.source.clone(), Arc::clone(&upstream.report));
        self.upstream = Some(upstream);
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
        match self.upstream.take() {
            Some(upstream) if error.is_none() && !upstream.source.is_live => self.apply(Step::Finished),
            Some(upstream) => self.apply(Step::UpstreamOver(error, upstream.source.id.clone())),
            None => Order::Wait,
        }
    }

    fn bytes(&mut self, bytes: &Bytes) -> Order {
        self.shared.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.relay.totals.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.shared.progressed();
        self.progress.enter_after(Stage::FirstByte, Stage::Keyframe);
        self.apply(Step::Data);
        let published = publish(&mut self.producer, self.ingest.take(bytes, Instant::now()));
        self.after_publishing(published)
    }

    fn seal_due(&mut self) {
        let published = publish(&mut self.producer, self.ingest.seal_due(Instant::now()));
        self.after_publishing(published);
    }

    fn after_publishing(&mut self, published: bool) -> Order {
        match self.machine.state() {
            State::Opening(_) if published => return self.started(),
            State::Recovering(_) if published => return self.recovered(),
            _ => {}
        }
        let unreadable = self.ingest.verdict() == Verdict::NotTransportStream;
        match self.upstream.as_ref().filter(|_| unreadable).map(|upstream| upstream.source.id.clone()) {
            Some(source) => self.apply(Step::Unreadable(source)),
            None => Order::Wait,
        }
    }

    fn started(&mut self) -> Order {
        let order = self.apply(Step::Started);
        self.shared.live();
        self.report_stages();
        if let Some(source) = self.shared.source() {
            let took = self.shared.opened.elapsed();
            let (key, result) = (&self.shared.key(), Ok(&source.id));
            self.relay.observe(&Event::StartFinished { key, result, took });
        }
        order
    }

    /// Media is there again, after the announcement of a jump.
    fn recovered(&mut self) -> Order {
        let order = self.apply(Step::Started);
        // The stages of a start are those that a viewer waits for.
        self.progress.finish(Instant::now());
        if let (Some(source), Some(since)) = (self.shared.source(), self.interrupted_at.take()) {
            let (key, gap) = (&self.shared.key(), since.elapsed());
            self.relay.observe(&Event::Recovered { key, source: &source.id, gap });
        }
        order
    }

    fn viewers_changed(&mut self) -> Order {
        let count = *self.viewers.borrow_and_update();
        self.ingest.set_viewers(count);
        self.shared.measured(self.ingest.bitrate());
        self.apply(Step::Viewers(count))
    }

    fn report_retry(&self, error: &OpenError) {
        let (key, source) = (&self.shared.key(), error.source_id());
        self.relay.observe(&Event::StartRetried { key, source, error: &error.to_string() });
    }

    fn report_gap(&mut self, error: &OpenError) {
        if self.interrupted_at.is_none() {
            self.interrupted_at = Some(Instant::now());
            let (key, source) = (&self.shared.key(), error.source_id());
            self.relay.observe(&Event::Interrupted { key, source, error: &error.to_string() });
        }
    }

    fn report_stages(&self) {
        for (stage, took) in self.progress.finish(Instant::now()) {
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

/// Waits for ever when there is no start, as a branch of `select!` must.
async fn opened(start: &mut Option<Start>) -> Result<Upstream, OpenError> {
    match start {
        Some(start) => start.await,
        None => std::future::pending().await,
    }
}

async fn next_media(upstream: &mut Option<Upstream>) -> Option<Result<Bytes, OpenError>> {
    poll_fn(|context| match upstream {
        Some(upstream) => upstream.media.as_mut().poll_next(context),
        None => Poll::Pending,
    })
    .await
}
