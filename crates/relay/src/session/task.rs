//! The task that owns a session: waits for the next thing to happen, lets the machine decide, does it.
//!
//! The attempt in use ([`Task::current`]) feeds the ring ([`feed`]). Others may run beside it ([`Task::challengers`]): a
//! second source for a start that is silent, the one that is to heal a gap, a second one for that. The first to show that
//! it delivers takes the place ([`challenge`]).

mod attempts;
mod challenge;
mod feed;
mod report;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use acemux_media::chunk::{Chunk, Condition};
use acemux_media::format::Format;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Challenger, Happened};
use super::gap::{Cause, SPREAD};
use super::ingest::Ingest;
use super::intake::Intake;
use super::repeats::Repeats;
use super::state::{Machine, Order, State, Step};
use super::stuffing::Stuffing;
use super::{Command, EndReason, Phase, Shared};
use crate::budget::Lease;
use crate::event::{Event, Healed};
use crate::origin::{Stage, Standing, Tenant};
use crate::relay::{Inner, RelayConfig};
use crate::ring::Producer;
use crate::standstill::stood_still;

/// One session's owner.
pub(crate) struct Task {
    relay: Arc<Inner>,
    shared: Arc<Shared>,
    /// The session, for those who hold something for it.
    tenant: Tenant,
    producer: Option<Producer>,
    machine: Machine,
    ingest: Ingest,
    intake: Intake,
    stuffing: Stuffing,
    repeats: Repeats,
    current: Option<Attempt>,
    /// The first one first: at most two.
    challengers: Vec<Challenger>,
    commands: mpsc::Receiver<Command>,
    viewers: watch::Receiver<usize>,
    stop: CancellationToken,
    /// Since when viewers have had no media, while that is known to be a gap.
    interrupted_at: Option<Instant>,
    /// How the source that is to heal the gap goes on.
    healing: Healed,
    /// What the stream was last said to be, and to be like.
    format: Arc<Format>,
    condition: Condition,
    /// Why another source is wanted, as was last said.
    cause: Option<Cause>,
    /// What was last said to be wrong.
    told: Option<String>,
    /// The ring's place in the memory budget.
    lease: Lease,
    /// Media time that the ring is to hold, and the bytes that have been asked for to that end.
    floor: (Duration, usize),
    /// Deadlines may be changed while the stream plays.
    changes: watch::Receiver<RelayConfig>,
}

/// Which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Current,
    /// The one at this place.
    Challenger(usize),
}

/// What the task waited for.
enum Happening {
    Stopped,
    Told(Command),
    Viewers,
    /// Other deadlines count.
    Changed,
    Attempt(Side, Happened),
    /// The source in use has nothing more at the moment.
    RanDry,
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
        // Before it is read: no change may fall in between.
        let changes = relay.config_changes();
        let config = relay.config();
        Self {
            machine: Machine::new(config.timings, shared.opened, now).spread_by(rand::random_range(SPREAD)),
            ingest: Ingest::new(config.chunk_bytes, config.join_burst, config.ring_media, now),
            intake: Intake::Taking,
            stuffing: Stuffing::new(now),
            repeats: Repeats::default(),
            current: None,
            challengers: Vec::new(),
            viewers: shared.viewers.count_changes(),
            stop: relay.stop.clone(),
            tenant: Tenant::new(&shared),
            interrupted_at: None,
            healing: Healed::ByItself,
            format: Arc::default(),
            condition: Condition::default(),
            cause: None,
            told: None,
            producer: Some(producer),
            relay,
            shared,
            commands,
            lease,
            floor: (config.ring_floor, config.ring_bytes),
            changes,
        }
    }

    /// Lives as long as the session.
    pub(crate) async fn run(mut self) {
        self.open(Vec::new(), false);
        loop {
            let happening = self.select().await;
            if let ControlFlow::Break(reason) = self.step(happening) {
                return self.close(reason);
            }
        }
    }

    fn step(&mut self, happening: Happening) -> ControlFlow<EndReason> {
        let order = self.handle(happening);
        self.execute(order)?;
        let order = self.seal_due();
        self.execute(order)?;
        let order = self.look_at_the_clock();
        self.execute(order)?;
        if self.machine.has_a_future() {
            return ControlFlow::Continue(());
        }
        // A bug: the machine has ended and its order to end was not obeyed. Nobody may wait for a corpse.
        self.retire(false);
        ControlFlow::Break(EndReason::Stuck)
    }

    async fn select(&mut self) -> Happening {
        let now = Instant::now();
        let read = self.intake.may_read(now);
        let wake_at =
            earliest([self.decides_at(now), self.ingest.seal_at(), self.intake.wake_at(), self.stuffs_at()]);
        // What was due before it was known to be, as a hedge is when one of two sources fails, is not late.
        let wake_at = wake_at.map(|at| at.max(now));
        let happening = self.happening(now, read, wake_at).await;
        self.excuse(wake_at);
        happening
    }

    fn decides_at(&self, now: Instant) -> Option<Instant> {
        self.machine.deadline(self.standing(), now)
    }

    fn stuffs_at(&self) -> Option<Instant> {
        (self.is_stuffed() && !self.intake.is_held_back()).then(|| self.stuffing.due_at())
    }

    /// When this was waked much later than it was to be, this program stood still, and nobody is to blame for his silence.
    fn excuse(&mut self, wake_at: Option<Instant>) {
        if let Some(late) = wake_at.and_then(stood_still) {
            let now = Instant::now();
            self.machine.excuse(late, now);
            self.stuffing.media(now);
            let attempts = self.challengers.iter().map(|challenger| &challenger.attempt).chain(&self.current);
            attempts.for_each(|attempt| attempt.progress.excuse(late));
        }
    }

    async fn happening(&mut self, now: Instant, read: bool, wake_at: Option<Instant>) -> Happening {
        let Self { current, challengers, intake, .. } = self;
        let is_taking = read && *intake == Intake::Taking;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Happening::Stopped,
            Some(command) = self.commands.recv() => Happening::Told(command),
            Ok(()) = self.viewers.changed() => Happening::Viewers,
            Ok(()) = self.changes.changed() => Happening::Changed,
            happening = poll_fn(|context| match poll(current, challengers, read, context) {
                Poll::Pending if is_taking => Poll::Ready(Happening::RanDry),
                polled => polled.map(|(side, happened)| Happening::Attempt(side, happened)),
            }) => happening,
            () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => Happening::Timer,
        }
    }

    fn handle(&mut self, happening: Happening) -> Order {
        match happening {
            Happening::Stopped => self.apply(Step::Shutdown),
            Happening::Told(command) => self.told(command),
            Happening::Viewers => self.viewers_changed(),
            Happening::Changed => {
                let RelayConfig { timings, .. } = *self.changes.borrow_and_update();
                self.machine.follow(timings, Instant::now());
                Order::Wait
            }
            Happening::Attempt(side, Happened::Opened(result)) => self.opened(side, result),
            Happening::Attempt(Side::Current, Happened::Media(media)) => self.media(media),
            Happening::Attempt(Side::Challenger(at), Happened::Media(media)) => {
                self.challenger_media(at, media)
            }
            Happening::RanDry => self.ran_dry(),
            // It is looked at the clock after whatever happens.
            Happening::Timer => Order::Wait,
        }
    }

    fn told(&mut self, command: Command) -> Order {
        match command {
            Command::MakeRoom => self.make_room(),
            Command::End(reason) => self.apply(Step::End(reason)),
            Command::EndIfNobodyPlays
                if self.shared.ring.has_start() || self.shared.viewers.somebody_plays() =>
            {
                Order::Wait
            }
            Command::EndIfNobodyPlays => self.apply(Step::End(EndReason::Unjoinable)),
            Command::Offer(upstream) => self.offered(*upstream),
            Command::Leave(why) => {
                let is_there = self.current.as_ref().and_then(Attempt::source).as_ref() == why.source_id();
                if is_there { self.apply(Step::Leave(why)) } else { Order::Wait }
            }
        }
    }

    /// By who watches at this moment, not when the machine was last told. Who is paused does not.
    fn make_room(&mut self) -> Order {
        let order = self.viewers_changed();
        if order != Order::Wait {
            return order;
        }
        let is_paused = self.shared.viewers.all_paused_since().is_some();
        self.apply(if is_paused { Step::End(EndReason::GaveWay) } else { Step::MakeRoom })
    }

    /// Whatever happens, and however much comes in: a source that floods brings no deadline to a halt.
    fn look_at_the_clock(&mut self) -> Order {
        let now = Instant::now();
        // Media that we leave in the socket ourselves is no silence of the source, also at the moment when we go on.
        if self.intake.is_held_back() {
            self.stuffing.media(now);
            let media = self.ingest.media_time();
            let order = self.apply(Step::Data(media));
            if order != Order::Wait {
                return order;
            }
        }
        if self.stuffs_at().is_some_and(|at| at <= now) {
            self.stuff(now);
        }
        if self.decides_at(now).is_some_and(|at| at <= now) { self.apply(Step::Tick) } else { Order::Wait }
    }

    /// Whether silence is filled: viewers have had media, and wait for more.
    fn is_stuffed(&self) -> bool {
        matches!(self.machine.state(), State::Live | State::Recovering(_)) && self.machine.viewers_now() > 0
    }

    fn stuff(&mut self, now: Instant) {
        let media = self.ingest.media_time();
        let packets = self.stuffing.take(now);
        self.publish(packets.map(|bytes| Chunk::plain(bytes, media)));
    }

    fn apply(&mut self, step: Step) -> Order {
        let order = self.machine.apply(step, self.standing(), Instant::now());
        let cause = if let State::Recovering(gap) = self.machine.state() { Some(gap.cause) } else { None };
        if cause != self.cause {
            self.cause = cause;
            self.shared.wants_another(cause);
        }
        let lingering = matches!(self.machine.state(), State::Lingering { .. });
        if lingering != self.shared.lingering_since().is_some() {
            self.shared.lingers(lingering.then(Instant::now));
        }
        order
    }

    /// How far the attempt is that is waited for; of two the one that was asked first.
    fn standing(&self) -> Standing {
        let challenger = self.challengers.first().map(|challenger| &challenger.attempt);
        let waited_for = match self.machine.state() {
            State::Opening(_) => self.current.as_ref().or(challenger),
            _ => challenger,
        };
        let unasked = Standing {
            stage: Stage::Slot,
            called: None,
            is_doubtful: false,
            is_loading: false,
            awaited: None,
        };
        let standing = waited_for.map_or(unasked, |attempt| attempt.progress.standing());
        let mut attempts = self.challengers.iter().map(|challenger| &challenger.attempt).chain(waited_for);
        let is_reading = standing.stage == Stage::Keyframe && self.current.is_some();
        let awaited = is_reading.then(|| self.ingest.awaited());
        Standing { is_loading: attempts.any(Attempt::is_loading), awaited, ..standing }
    }

    fn execute(&mut self, order: Order) -> ControlFlow<EndReason> {
        match order {
            Order::Wait => ControlFlow::Continue(()),
            Order::Open { exclude, error, beside } => {
                self.report_opening(&error);
                self.open(exclude, beside);
                ControlFlow::Continue(())
            }
            Order::Hedge { exclude, error } => {
                if let Some(error) = error {
                    self.report_opening(&error);
                }
                self.hedge(exclude);
                ControlFlow::Continue(())
            }
            Order::Settle => {
                self.settle();
                ControlFlow::Continue(())
            }
            Order::End { reason, if_unwatched } => {
                if matches!(reason, EndReason::NotStarted(_)) {
                    self.report_stages();
                }
                if self.retire(if_unwatched) {
                    return ControlFlow::Break(reason);
                }
                let order = self.viewers_changed();
                self.execute(order)
            }
        }
    }

    fn viewers_changed(&mut self) -> Order {
        let count = *self.viewers.borrow_and_update();
        self.apply(Step::Viewers(count))
    }

    /// Out of the relay, with all playbacks: false when somebody watches and it was to end unwatched.
    fn retire(&mut self, if_unwatched: bool) -> bool {
        let Self { relay, shared, current, challengers, .. } = self;
        relay.retire(shared, if_unwatched, || {
            *current = None;
            challengers.clear();
        })
    }

    /// The session is out of the relay already: whoever is released here finds no corpse to join.
    fn close(mut self, reason: EndReason) {
        let (key, client) = (self.shared.key(), self.shared.client);
        if let EndReason::NotStarted(error) = &reason {
            let took = self.shared.opened.elapsed();
            self.relay.observe(&Event::StartFinished { key: &key, result: Err(error), took, client });
        }
        let lasted = self.shared.opened.elapsed();
        self.relay.observe(&Event::SessionEnded { key: &key, reason: &reason, lasted, client });
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
        self.retire(false);
        self.shared.forget_recording();
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

/// The challengers first: they have little to say, and the other must not drown them out.
fn poll(
    current: &mut Option<Attempt>,
    challengers: &mut [Challenger],
    read: bool,
    context: &mut Context<'_>,
) -> Poll<(Side, Happened)> {
    for (at, challenger) in challengers.iter_mut().enumerate() {
        if let Poll::Ready(happened) = challenger.attempt.poll(context, true) {
            return Poll::Ready((Side::Challenger(at), happened));
        }
    }
    match current {
        Some(attempt) => attempt.poll(context, read).map(|happened| (Side::Current, happened)),
        None => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::{self, BoxFuture};

    use super::*;
    use crate::line::Line;
    use crate::origin::{OpenError, OpenRequest, Origin, Upstream};
    use crate::output::hls::HlsOptions;
    use crate::relay::{Relay, RelayConfig, StreamKey};
    use crate::ring::{Ring, RingLimits};
    use crate::session::state::Timings;
    use crate::viewer::ViewerInfo;

    struct Silent;

    impl Origin for Silent {
        fn open(&self, _: OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> {
            future::pending().boxed()
        }
    }

    fn config() -> RelayConfig {
        let second = Duration::from_secs(1);
        RelayConfig {
            timings: Timings {
                start_budget: second,
                hedge: second,
                idle: second,
                stall: second,
                hold: second,
                abandon: second,
            },
            hls: HlsOptions { idle: second },
            chunk_bytes: 65_536,
            join_burst: second,
            ring_media: second,
            ring_bytes: 1 << 20,
            ring_floor: Duration::ZERO,
            memory: 1 << 24,
            most_viewers: 1,
            most_viewers_per_address: 1,
        }
    }

    /// A request that comes while the runtime ends: its session's task is dropped the moment it is made.
    #[test]
    fn a_join_on_a_runtime_that_has_ended_does_not_hang() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let handle = runtime.handle().clone();
        let relay = Relay::new(config(), Arc::new(Silent), Arc::new(()));
        runtime.shutdown_background();
        let (done, joined) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let _context = handle.enter();
            let info = ViewerInfo {
                address: [127, 0, 0, 1].into(),
                user_agent: String::new(),
                label: "x".into(),
                line: Line::default(),
            };
            let admitted = relay.admit(&info).expect("there is room");
            let joining = relay.join(StreamKey::new("x"), info, admitted).now_or_never();
            done.send(joining.is_some()).expect("it is waited for");
        });
        joined.recv_timeout(Duration::from_secs(10)).expect("it does not hang");
    }

    /// An order to end that was given and not obeyed, as a fault in the task would have it.
    #[tokio::test(start_paused = true)]
    async fn a_session_with_nothing_left_to_wait_for_ends_as_stuck_and_nobody_waits_for_it() {
        let relay = Relay::new(config(), Arc::new(Silent), Arc::new(()));
        let lease = relay.inner.lease().expect("there is memory");
        let (producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(1), bytes: 1 << 20 });
        let (commands, inbox) = mpsc::channel(1);
        let info = ViewerInfo {
            address: [127, 0, 0, 1].into(),
            user_agent: String::new(),
            label: "x".into(),
            line: Line::default(),
        };
        let shared =
            Shared::new(StreamKey::new("x"), &info, Instant::now(), ring, commands, Duration::from_secs(5));
        let mut task = Task::new(Arc::clone(&relay.inner), Arc::clone(&shared), producer, inbox, lease);
        let lost = task.apply(Step::Shutdown);
        assert!(matches!(lost, Order::End { .. }));
        task.run().await;
        assert_eq!(*shared.phase.borrow(), Phase::Ended(EndReason::Stuck));
    }
}
