//! Asks every engine regularly whether its API answers, off every request's way.
//!
//! A new engine is asked often, so that it is used within a fraction of a second of its first answer. When our own
//! clock ticks late (a suspended or starved machine), late answers are nobody's fault and misses are forgotten. Nor is it
//! the engine's when this machine has no descriptor left to ask with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::EngineError;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::dispatch::{Engines, STANDSTILL};
use crate::member::{EngineKey, Health, Member};

/// Time between two looks at who is due.
const TICK: Duration = Duration::from_millis(250);

/// Time between two probes of an engine that answers, or has stopped to.
const PERIOD: Duration = Duration::from_secs(5);

/// Longest wait for an answer. An engine under full load answers in well under a second; one that hangs never does.
const DEADLINE: Duration = Duration::from_secs(2);

/// Probes until `stop`. All engines at once: one that hangs delays no other. The key of an engine that has just become
/// healthy is sent to `healthy`, for as long as somebody takes it.
pub async fn run(engines: Arc<Engines>, healthy: mpsc::Sender<EngineKey>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut last_tick) = (Asked::default(), Instant::now());
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let members = engines.all();
        let late = last_tick.elapsed();
        if late > STANDSTILL {
            engines.excuse(late);
        }
        last_tick = Instant::now();
        asked.collect();
        asked.forget_all_but(&members);
        for member in members.iter() {
            if asked.is_due(member) {
                asked.ask(Arc::clone(member), Arc::clone(&engines), healthy.clone());
            }
        }
    }
}

/// Who has been asked when, and the questions under way.
#[derive(Default)]
struct Asked {
    last: HashMap<EngineKey, Instant>,
    under_way: HashMap<Id, EngineKey>,
    tasks: JoinSet<()>,
}

impl Asked {
    fn is_due(&self, member: &Member) -> bool {
        let is_new = member.knowledge().health == Health::Unknown && member.container.is_some();
        let pause = if is_new { TICK } else { PERIOD };
        let is_time = self.last.get(&member.key).is_none_or(|at| at.elapsed() >= pause);
        is_time && !self.under_way.values().any(|key| *key == member.key)
    }

    fn ask(&mut self, member: Arc<Member>, engines: Arc<Engines>, healthy: mpsc::Sender<EngineKey>) {
        let key = member.key.clone();
        self.last.insert(key.clone(), Instant::now());
        let task = self.tasks.spawn(async move {
            if probe(&member, &engines).await {
                engines.serve();
                // The receiver only wants to know soon; it looks at all engines anyway.
                let _told = healthy.try_send(member.key.clone());
            }
        });
        self.under_way.insert(task.id(), key);
    }

    fn collect(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            self.under_way.remove(&id);
        }
    }

    fn forget_all_but(&mut self, members: &[Arc<Member>]) {
        if self.last.len() > members.len() {
            self.last.retain(|key, _| members.iter().any(|member| member.key == *key));
        }
    }
}

/// True when the engine has just become healthy. A probe that could not be sent is none.
async fn probe(member: &Member, engines: &Engines) -> bool {
    let alive = timeout(DEADLINE, member.engine.check()).await;
    if let Ok(Err(EngineError::Shortage { source })) = &alive {
        engines.short(source);
        return false;
    }
    let answered = alive.is_ok_and(|alive| alive.is_ok());
    // First, because starts depend on which program it is.
    if answered && member.knowledge().version.is_none() {
        ask_version(member).await;
    }
    member.probed(answered)
}

/// An engine that does not tell its version is as good as any, but is treated with care.
async fn ask_version(member: &Member) {
    if let Ok(Ok(version)) = timeout(DEADLINE, member.engine.version()).await {
        member.says(version);
    }
}
