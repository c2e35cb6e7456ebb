//! One start as evidence about its engine, and which channels have delivered where.
//!
//! Engines are not believed when they say that they are well: their status page answers while every start hangs. What
//! counts is what comes of starts. A start that gave nothing says little by itself, because most of them were for
//! channels that are dead; together with the same channel's delivery on another engine it says a lot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Engines;
use crate::member::{EngineKey, Member};
use crate::trouble::{Fault, Trust};

/// A start call that was given up after so long without an answer hung. Real engines refuse a dead channel within 5 s.
const CALL_HANGS: Duration = Duration::from_secs(6);

/// A start without media for so long hung. Cold swarms take 5–25 s.
const MEDIA_HANGS: Duration = Duration::from_secs(12);

/// How long a channel that has delivered somewhere counts as one that can be had.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Channels remembered; a household knows a few hundred.
const MOST: usize = 4096;

/// One start on one engine, from the start call to its first media. Dropped without media it is judged by how long it
/// was waited for.
#[derive(Debug)]
pub struct Trial {
    engines: Arc<Engines>,
    member: Arc<Member>,
    tenure: u64,
    stream: String,
    began: Instant,
    /// How long this program had stood still by then.
    stood_still: Duration,
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Called,
    Answered,
    Delivered,
    /// It failed, and that was judged if there was anything to judge.
    Failed,
}

/// Which channels deliver, or did lately, and where.
#[derive(Debug, Default)]
pub(super) struct Deliveries(Mutex<HashMap<String, Vec<Delivery>>>);

#[derive(Debug)]
struct Delivery {
    engine: EngineKey,
    /// From the start call to the first media.
    took: Duration,
    /// When it last played there; `None` while it does.
    until: Option<Instant>,
}

impl Trial {
    pub(super) fn new(engines: Arc<Engines>, member: Arc<Member>, tenure: u64, stream: &str) -> Self {
        let (stream, began) = (stream.to_owned(), Instant::now());
        let stood_still = engines.stood_still();
        Self { engines, member, tenure, stream, began, stood_still, stage: Mutex::new(Stage::Called) }
    }

    /// Where it is made.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Whether another engine should be asked beside this one: it was ejected, and may be well again.
    pub fn wants_company(&self) -> bool {
        self.member.trust() == Trust::OnTrial
    }

    /// The engine has accepted the stream.
    pub fn answered(&self) {
        let mut stage = self.stage.lock();
        if *stage == Stage::Called {
            *stage = Stage::Answered;
        }
        drop(stage);
        // The engine takes the next call.
        self.engines.serve();
    }

    /// Media is there: whatever was held against the engine is answered, and what failed elsewhere was those engines' fault.
    pub fn delivered(&self) {
        if std::mem::replace(&mut *self.stage.lock(), Stage::Delivered) != Stage::Delivered {
            self.played_on_exit();
            self.engines.delivered(&self.member, self.tenure, &self.stream, self.began.elapsed());
        }
    }

    /// The engine has said no, or could not be asked. `is_blamed`: certainly by its own fault.
    pub fn failed(&self, is_blamed: bool) {
        *self.stage.lock() = Stage::Failed;
        self.member.failed(&self.stream, Fault::Failed, is_blamed);
        if !is_blamed {
            self.failed_on_exit();
        }
    }

    /// It never came to the call, for a reason of ours: nothing is shown about the engine.
    pub fn was_not_begun(&self) {
        *self.stage.lock() = Stage::Failed;
    }

    /// The engine has not answered in all its time. A call that was taken over is older than this.
    pub fn unanswered(&self) {
        *self.stage.lock() = Stage::Failed;
        self.hang(Fault::CallHung);
    }

    /// Blamed only if the channel delivers elsewhere.
    fn hang(&self, fault: Fault) {
        let is_blamed = self.engines.deliveries.show(&self.stream, &self.member.key, fault, Instant::now());
        self.member.failed(&self.stream, fault, is_blamed);
        self.failed_on_exit();
        self.engines.serve();
    }

    /// What failed here and is not the engine's own fault for certain may be the exit's.
    fn failed_on_exit(&self) {
        if let Some(tunnel) = self.member.tunnel() {
            self.engines.blame.lock().failed(tunnel, &self.stream, Instant::now());
        }
    }

    fn played_on_exit(&self) {
        if let Some(tunnel) = self.member.tunnel() {
            self.engines.blame.lock().played(tunnel, &self.stream, Instant::now());
        }
    }

    fn hung(&self) -> Option<Fault> {
        let excused = self.engines.stood_still().saturating_sub(self.stood_still);
        let waited = self.began.elapsed().saturating_sub(excused);
        match *self.stage.lock() {
            Stage::Called if waited >= CALL_HANGS => Some(Fault::CallHung),
            Stage::Answered if waited >= MEDIA_HANGS => Some(Fault::MediaHung(waited)),
            Stage::Called | Stage::Answered | Stage::Delivered | Stage::Failed => None,
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if *self.stage.lock() == Stage::Delivered {
            self.engines.deliveries.ended(&self.stream, &self.member.key, Instant::now());
            // Until now.
            self.played_on_exit();
        }
        if let Some(fault) = self.hung() {
            self.hang(fault);
        }
    }
}

impl Engines {
    fn delivered(self: &Arc<Self>, on: &Member, tenure: u64, stream: &str, took: Duration) {
        on.delivered();
        self.deliveries.note(stream, &on.key, took, Instant::now());
        let others = self.all();
        let others = others.iter().filter(|other| other.key != on.key);
        others.for_each(|other| other.delivered_elsewhere(stream, took));
        self.hall.lock().desk.delivered(tenure);
        // An engine that gets one start at a time may get the next.
        self.serve();
    }
}

impl Deliveries {
    fn note(&self, stream: &str, engine: &EngineKey, took: Duration, now: Instant) {
        let mut channels = self.0.lock();
        if channels.len() >= MOST {
            channels.retain(|_, deliveries| {
                deliveries.retain(|delivery| delivery.is_remembered(now));
                !deliveries.is_empty()
            });
        }
        if channels.len() >= MOST && !channels.contains_key(stream) {
            return;
        }
        let deliveries = channels.entry(stream.to_owned()).or_default();
        deliveries.retain(|delivery| delivery.engine != *engine && delivery.is_remembered(now));
        deliveries.push(Delivery { engine: engine.clone(), took, until: None });
    }

    fn ended(&self, stream: &str, engine: &EngineKey, now: Instant) {
        let mut channels = self.0.lock();
        let deliveries = channels.get_mut(stream).into_iter().flatten();
        deliveries
            .filter(|delivery| delivery.engine == *engine)
            .for_each(|delivery| delivery.until = Some(now));
    }

    /// Whether what another engine has delivered shows that this one is to blame.
    fn show(&self, stream: &str, engine: &EngineKey, fault: Fault, now: Instant) -> bool {
        let channels = self.0.lock();
        let mut elsewhere =
            channels.get(stream).into_iter().flatten().filter(|delivery| delivery.engine != *engine);
        elsewhere.any(|delivery| delivery.is_remembered(now) && fault.is_shown_by(delivery.took))
    }
}

impl Delivery {
    fn is_remembered(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now.saturating_duration_since(until) <= REMEMBERED)
    }
}
