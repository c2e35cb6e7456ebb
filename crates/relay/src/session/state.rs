//! What a session does next: a pure state machine. No clock, no I/O; time and facts come in, an order comes out.
//!
//! ```text
//!            open ok, first start point        no viewers
//!  Opening ───────────────────────────► Live ─────────────► Lingering(until)
//!   │  └── retry once, elsewhere ─┘     │ ▲  ◄──────────────┘ viewer arrives
//!   │      a second one beside it       │ │ media of another source, or of the same again
//!   │      after 12 s of silence        ▼ │
//!   │                              Recovering(gap): lost, silent or to be left
//!   └─────────► Ended(reason) ◄─────────┴── idle, shutdown, nothing to recover with
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::EndReason;
use super::gap::{Cause, Gap};
use super::opening::Opening;
use crate::origin::{OpenError, SourceId, Standing};

/// The deadlines of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Longest wait for the first decodable data, all attempts together (`EMPTY_STREAM_TIMEOUT`).
    pub start_budget: Duration,
    /// How long a start, also one that is to heal a gap, is silent before a second source is tried beside the first
    /// (`HEDGE_AFTER`).
    pub hedge: Duration,
    /// How long a stream stays warm without viewers (`STREAM_IDLE_TIMEOUT`).
    pub idle: Duration,
    /// Silence of a watched stream before another source is tried (`STALL_TIMEOUT`).
    pub stall: Duration,
    /// How long viewers are held without anything new (`HOLD_TIMEOUT`).
    pub hold: Duration,
    /// How long a start goes on after its last waiter left: long enough for a player that opens twice.
    pub abandon: Duration,
}

/// So many gaps in a minute are healed at once; after that each waits for the longest pause, so that a source that dies
/// again and again is not started again and again.
const QUICK_GAPS: usize = 3;
/// How long a source that has failed with this stream is avoided for it, as long as there is another one.
const GAP_WINDOW: Duration = Duration::from_mins(1);

/// So much media of a source must have played before viewers have really got something new: a source that repeats one
/// picture, or dies after each start, does not hold them for ever.
const SOUND: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Clone, Debug)]
pub enum Step {
    /// The source has accepted the stream, or not.
    Opened(Result<(), OpenError>),
    /// The media of the source in use has grown, to this media time.
    Data(Duration),
    /// The first start point of this source, or the exact continuation, is in the ring.
    Started {
        /// Where it plays.
        source: SourceId,
        /// Media time there.
        media: Duration,
    },
    /// The source has opened a recording, which viewers read as they like: its silence means nothing.
    Recording(SourceId),
    /// The source that was opened to heal a gap has sent media: it is the one in use now, though nothing of it is in
    /// the ring yet.
    TakenUp(SourceId),
    /// The bytes are no transport stream.
    Unreadable(SourceId),
    /// The source ended the stream or broke.
    UpstreamOver(Option<OpenError>, SourceId),
    /// The source is to be left, for this reason, although it plays.
    Leave(OpenError),
    /// The source has sent all of a recording.
    Finished,
    /// So many watch or wait now.
    Viewers(usize),
    /// Somebody else needs the place.
    MakeRoom,
    /// There was no room for the second source that was to be asked beside the first.
    NoRoom,
    /// Of two sources of a start one has failed, and the other goes on.
    OneFailed(OpenError),
    /// It is to end, for this reason.
    End(EndReason),
    /// The service stops.
    Shutdown,
    /// Time passed.
    Tick,
}

/// What the task has to do.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "an order that is not obeyed is lost: the machine will not give it again"]
pub enum Order {
    /// Nothing.
    Wait,
    /// Open the stream, avoiding these sources.
    Open {
        /// Sources that failed.
        exclude: Vec<SourceId>,
        /// Their words, for the log.
        error: OpenError,
        /// Whether what is open now goes on until the new one delivers. If not, it is closed.
        beside: bool,
    },
    /// Ask another source beside the one that is asked or used, avoiding these too.
    Hedge {
        /// Sources that failed.
        exclude: Vec<SourceId>,
        /// What is wrong with the one that is asked, for the log. `None` when that was said already.
        error: Option<OpenError>,
    },
    /// The source in use is good: whatever was opened beside it is closed.
    Settle,
    /// End. When viewers may have come in the meantime (`if_unwatched`) it is cancelled by their presence.
    End {
        /// Why.
        reason: EndReason,
        /// Only if really nobody watches.
        if_unwatched: bool,
    },
}

/// Where a session is.
#[derive(Clone, Debug)]
pub enum State {
    /// Waiting for the first decodable data.
    Opening(Opening),
    /// Playing, watched.
    Live,
    /// Playing, unwatched.
    Lingering {
        /// When it ends.
        until: Instant,
    },
    /// Another source is wanted; viewers are held.
    Recovering(Gap),
    /// Over.
    Ended,
}

/// The machine: state, deadlines and what they are measured against.
#[derive(Debug)]
pub struct Machine {
    timings: Timings,
    state: State,
    viewers: usize,
    is_recording: bool,
    last_data: Instant,
    /// The source in use, once it plays.
    source: Option<SourceId>,
    /// Media time at which the source in use began.
    began: Duration,
    /// When viewers last got something new from a source that had already shown that it plays.
    last_sound: Instant,
    /// The last gaps, the oldest first.
    gaps: VecDeque<Past>,
    /// Its pauses, as a multiple of the usual ones.
    spread: f64,
}

/// A gap that was.
#[derive(Debug)]
struct Past {
    began: Instant,
    source: Option<SourceId>,
    /// It was to be left, by an operator or for its engine's sake, and has not failed.
    was_wanted: bool,
}

impl Machine {
    /// A session whose first start begins now for a viewer who asked at `asked` and is about to arrive.
    pub fn new(timings: Timings, asked: Instant, now: Instant) -> Self {
        Self {
            timings,
            state: State::Opening(Opening::new(asked, now)),
            viewers: 0,
            is_recording: false,
            last_data: now,
            source: None,
            began: Duration::ZERO,
            last_sound: now,
            gaps: VecDeque::new(),
            spread: 1.0,
        }
    }

    /// With pauses that are so many times the usual ones, within [`super::gap::SPREAD`].
    pub fn spread_by(self, spread: f64) -> Self {
        Self { spread, ..self }
    }

    /// Other deadlines from now on. What already runs out is measured anew by them, but for a gap, which has its end.
    pub fn follow(&mut self, timings: Timings, now: Instant) {
        if let State::Lingering { until } = &mut self.state {
            // Since when nobody watches is known by when it was to end.
            let since = until.checked_sub(self.timings.idle).unwrap_or(now);
            *until = since + timings.idle;
        }
        self.timings = timings;
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Who watches or waits.
    pub fn viewers_now(&self) -> usize {
        self.viewers
    }

    /// When [`Step::Tick`] is due. `standing` is how far the attempt is that is waited for.
    pub fn deadline(&self, standing: Standing, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Opening(opening) => Some(opening.deadline(&self.timings, standing, now)),
            State::Live if self.is_recording => None,
            State::Live => Some(self.last_data + self.timings.stall),
            State::Lingering { until } if self.is_recording => Some(*until),
            State::Lingering { until } => Some((*until).min(self.last_data + self.timings.hold)),
            // Nothing is asked beside an attempt for nobody.
            State::Recovering(gap) if self.viewers == 0 => Some(gap.due_at()),
            State::Recovering(gap) => Some(gap.deadline(&self.timings, standing, now)),
            State::Ended => None,
        }
    }

    /// Whether it goes on by itself: it plays, or there is a moment at which it decides something.
    pub fn has_a_future(&self) -> bool {
        !matches!(self.state, State::Ended)
    }

    /// This program stood still for so long (a suspended machine, a stopped process): what was silent meanwhile gets its
    /// time again.
    pub fn excuse(&mut self, late: Duration, now: Instant) {
        (self.last_data, self.last_sound) = (now, now);
        match &mut self.state {
            State::Opening(opening) => opening.excuse(late),
            State::Recovering(gap) => gap.excuse(late),
            State::Lingering { until } => *until += late,
            State::Live | State::Ended => {}
        }
    }

    /// Takes one step. `standing` is how far the attempt is that is waited for.
    pub fn apply(&mut self, step: Step, standing: Standing, now: Instant) -> Order {
        match step {
            Step::Opened(Ok(())) => Order::Wait,
            Step::Opened(Err(error)) => self.attempt_failed(error, now),
            Step::Data(media) => self.data(media, now),
            Step::Started { source, media } => self.started(source, media, now),
            Step::Recording(source) => self.recording(source, now),
            Step::TakenUp(source) => self.taken_up(source, now),
            Step::Unreadable(source) => self.upstream_over(Some(unreadable(source.clone())), source, now),
            Step::UpstreamOver(error, source) => self.upstream_over(error, source, now),
            Step::Leave(why) => self.leave(why, now),
            Step::Finished => self.end(EndReason::UpstreamEnded),
            Step::Viewers(count) => self.viewers(count, now),
            Step::MakeRoom => self.make_room(),
            Step::NoRoom => self.no_room(now),
            Step::OneFailed(error) => self.one_failed(&error),
            Step::End(reason) => self.end(reason),
            Step::Shutdown => self.end(EndReason::Shutdown),
            Step::Tick => self.tick(standing, now),
        }
    }

    fn data(&mut self, media: Duration, now: Instant) -> Order {
        self.last_data = now;
        let cause = if let State::Recovering(gap) = &self.state { Some(gap.cause) } else { None };
        if cause != Some(Cause::Lost) && media.saturating_sub(self.began) >= SOUND {
            self.last_sound = now;
        }
        if cause != Some(Cause::Silent) {
            return Order::Wait;
        }
        self.plays(now);
        Order::Settle
    }

    fn recording(&mut self, source: SourceId, now: Instant) -> Order {
        self.is_recording = true;
        self.started(source, Duration::ZERO, now)
    }

    fn taken_up(&mut self, source: SourceId, now: Instant) -> Order {
        self.last_data = now;
        if let State::Recovering(gap) = &mut self.state {
            gap.taken_up(source, now);
        }
        Order::Wait
    }

    fn started(&mut self, source: SourceId, media: Duration, now: Instant) -> Order {
        if matches!(self.state, State::Opening(_)) {
            self.last_sound = now;
        }
        self.source = Some(source);
        self.last_data = now;
        self.began = media;
        self.plays(now);
        Order::Wait
    }

    /// For those who are there; they may have left while it did not.
    fn plays(&mut self, now: Instant) {
        self.state =
            if self.viewers > 0 { State::Live } else { State::Lingering { until: now + self.timings.idle } };
    }

    fn viewers(&mut self, count: usize, now: Instant) -> Order {
        self.viewers = count;
        let idle = self.timings.idle;
        match (&mut self.state, count) {
            (State::Opening(opening), count) => opening.watched_by(count, now),
            (state @ State::Live, 0) => *state = State::Lingering { until: now + idle },
            (state @ State::Lingering { .. }, 1..) => *state = State::Live,
            _ => {}
        }
        Order::Wait
    }

    fn attempt_failed(&mut self, error: OpenError, now: Instant) -> Order {
        match &mut self.state {
            State::Opening(opening) => opening.failed(error),
            State::Recovering(gap) => {
                if gap.goes_back(&error, now) {
                    return Order::Wait;
                }
                if gap.is_hopeless(&error) {
                    self.plays(now);
                    return Order::Settle;
                }
                gap.failed(&error, now);
                Order::Wait
            }
            State::Live | State::Lingering { .. } | State::Ended => Order::Wait,
        }
        .or_end(self)
    }

    /// A broadcast does not end: that its source says so is the source's failure.
    fn upstream_over(&mut self, error: Option<OpenError>, source: SourceId, now: Instant) -> Order {
        let until = self.last_sound + self.timings.hold;
        match (&mut self.state, error) {
            (State::Opening(_), error) => {
                self.attempt_failed(error.unwrap_or_else(|| ended_early(source)), now)
            }
            // Nobody watches: there is nothing to hold.
            (State::Lingering { .. } | State::Ended, None) => self.end(EndReason::UpstreamEnded),
            (State::Lingering { .. } | State::Ended, Some(error)) => {
                self.end(EndReason::UpstreamFailed(error))
            }
            (State::Live, error) => {
                self.interrupted(Cause::Lost, error.unwrap_or_else(|| ended(source)), now)
            }
            // A source that was taken up to heal the gap, and brought nothing.
            (State::Recovering(gap), error) if gap.cause == Cause::Lost => {
                gap.failed(&error.unwrap_or_else(|| ended(source)), now);
                Order::Wait
            }
            (State::Recovering(gap), error) => {
                gap.lost(error.unwrap_or_else(|| ended(source)), until, now);
                self.attempt_recovery(now)
            }
        }
    }

    fn leave(&mut self, why: OpenError, now: Instant) -> Order {
        match self.state {
            // A viewer somewhere in a file cannot be moved.
            _ if self.is_recording => Order::Wait,
            State::Live => self.interrupted(Cause::Wanted, why, now),
            State::Lingering { .. } => Order::End { reason: EndReason::GaveWay, if_unwatched: true },
            State::Opening(_) | State::Recovering(_) | State::Ended => Order::Wait,
        }
    }

    /// Viewers are there, and another source is wanted. They are held since they last got something new.
    fn interrupted(&mut self, cause: Cause, failure: OpenError, now: Instant) -> Order {
        while self.gaps.front().is_some_and(|gap| gap.began + GAP_WINDOW <= now) {
            self.gaps.pop_front();
        }
        let is_wanted = cause == Cause::Wanted;
        // However often a stream was moved: a source that breaks now is no reason to hesitate, and those that it has left
        // are as good as others. But a move goes to none that it has just left, unless there is no other.
        let is_flapping = self.gaps.iter().filter(|gap| !gap.was_wanted).count() >= QUICK_GAPS && !is_wanted;
        let source = failure.source_id().cloned();
        self.gaps.push_back(Past { began: now, source, was_wanted: is_wanted });
        let counts = |gap: &&Past| is_wanted || !gap.was_wanted;
        let mut exclude: Vec<SourceId> =
            self.gaps.iter().filter(counts).filter_map(|gap| gap.source.clone()).collect();
        exclude.dedup();
        let only_left = |source: &&SourceId| {
            let mut of_it = self.gaps.iter().filter(|gap| gap.source.as_ref() == Some(*source));
            failure.source_id() != Some(*source) && of_it.all(|gap| gap.was_wanted)
        };
        let left = exclude.iter().filter(only_left).cloned().collect();
        let until = if is_wanted { now } else { self.last_sound } + self.timings.hold;
        let mut gap =
            Gap::new(cause, failure, until, now).avoiding(exclude).returning_to(left).spread_by(self.spread);
        if is_flapping {
            gap.hesitate(now);
        }
        self.state = State::Recovering(gap);
        self.attempt_recovery(now)
    }

    fn recovering_tick(&mut self, standing: Standing, now: Instant) -> Order {
        let State::Recovering(gap) = &mut self.state else { return Order::Wait };
        if standing.is_loading {
            gap.wait_for_media(now);
        }
        let is_said = gap.had_no_room();
        if self.viewers > 0
            && gap.until > now
            && let Some(exclude) = gap.hedge(&self.timings, standing, now)
        {
            let error = (!is_said).then(|| silent(self.timings.hedge, None));
            return Order::Hedge { exclude, error };
        }
        self.attempt_recovery(now)
    }

    fn attempt_recovery(&mut self, now: Instant) -> Order {
        let State::Recovering(gap) = &mut self.state else { return Order::Wait };
        if gap.until <= now {
            return self.unhealed(now);
        }
        let error = gap.failure.clone();
        if self.viewers == 0 && gap.is_due(now) {
            // Nobody is held: nothing is started for nobody.
            return Order::End { reason: EndReason::UpstreamFailed(error), if_unwatched: true };
        }
        let Some(exclude) = gap.attempt(now) else { return Order::Wait };
        // A silent source is hoped for until there is nowhere else to go to for as long again.
        let is_hoped_for = match gap.cause {
            Cause::Lost => false,
            Cause::Wanted => true,
            Cause::Silent => !exclude.is_empty() || now < self.last_data + self.timings.stall * 2,
        };
        if gap.cause == Cause::Silent && !is_hoped_for {
            gap.cause = Cause::Lost;
        }
        Order::Open { exclude, error, beside: is_hoped_for }
    }

    fn unhealed(&mut self, now: Instant) -> Order {
        let State::Recovering(gap) = &self.state else { return Order::Wait };
        match gap.cause {
            Cause::Silent => self.end(EndReason::Stalled),
            Cause::Lost if gap.was_silent => self.end(EndReason::Stalled),
            Cause::Lost => self.end(EndReason::UpstreamFailed(gap.failure.clone())),
            Cause::Wanted => {
                self.plays(now);
                Order::Settle
            }
        }
    }

    fn make_room(&mut self) -> Order {
        match &mut self.state {
            State::Opening(opening) if self.viewers > 0 => opening.make_room(),
            State::Opening(_) => Order::End { reason: EndReason::Abandoned, if_unwatched: true },
            State::Ended => Order::Wait,
            State::Live | State::Lingering { .. } | State::Recovering(_) => {
                Order::End { reason: EndReason::GaveWay, if_unwatched: true }
            }
        }
    }

    fn one_failed(&mut self, error: &OpenError) -> Order {
        if let State::Opening(opening) = &mut self.state {
            opening.one_failed(error);
        }
        Order::Wait
    }

    fn no_room(&mut self, now: Instant) -> Order {
        match &mut self.state {
            State::Opening(opening) => opening.no_room(now),
            State::Recovering(gap) => gap.no_room(now),
            State::Live | State::Lingering { .. } | State::Ended => {}
        }
        Order::Wait
    }

    fn tick(&mut self, standing: Standing, now: Instant) -> Order {
        match &mut self.state {
            State::Opening(opening) => opening.tick(&self.timings, standing, now).or_end(self),
            State::Recovering(_) => self.recovering_tick(standing, now),
            State::Live if !self.is_recording && self.last_data + self.timings.stall <= now => {
                self.interrupted(Cause::Silent, silent(self.timings.stall, self.source.clone()), now)
            }
            State::Lingering { until } if *until <= now => {
                Order::End { reason: EndReason::Idle, if_unwatched: true }
            }
            State::Lingering { .. } if !self.is_recording && self.last_data + self.timings.hold <= now => {
                self.end(EndReason::Stalled)
            }
            _ => Order::Wait,
        }
    }

    fn end(&mut self, reason: EndReason) -> Order {
        self.state = State::Ended;
        Order::End { reason, if_unwatched: false }
    }
}

impl Order {
    /// A certain end leaves no other state behind.
    fn or_end(self, machine: &mut Machine) -> Self {
        if matches!(self, Self::End { if_unwatched: false, .. }) {
            machine.state = State::Ended;
        }
        self
    }
}

pub(super) fn silent(for_long: Duration, source_id: Option<SourceId>) -> OpenError {
    let detail = format!("the engine has sent nothing new for {} s", for_long.as_secs());
    OpenError::Failed { detail, source_id }
}

fn unreadable(source: SourceId) -> OpenError {
    OpenError::BadReply {
        detail: "the engine sent something that is no MPEG transport stream".into(),
        source_id: Some(source),
    }
}

fn ended(source: SourceId) -> OpenError {
    OpenError::Failed { detail: "the engine ended the stream".into(), source_id: Some(source) }
}

fn ended_early(source: SourceId) -> OpenError {
    OpenError::Failed {
        detail: "the engine ended the stream before any playable data".into(),
        source_id: Some(source),
    }
}

#[cfg(test)]
mod tests;
