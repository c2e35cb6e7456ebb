//! Asks every engine regularly whether its API answers, off every request's way.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::engines::{Engines, Member};

/// Time between two probes of one engine.
const PERIOD: Duration = Duration::from_secs(5);

/// Longest wait for an answer. An engine under full load answers in well under a second; one that hangs never does.
const DEADLINE: Duration = Duration::from_secs(2);

/// Probes until `stop`. All engines at once: one that hangs delays no other.
pub async fn run(engines: Arc<Engines>, stop: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let mut probes: JoinSet<()> = engines.all().iter().cloned().map(probe).collect();
        if stop.run_until_cancelled(async { while probes.join_next().await.is_some() {} }).await.is_none() {
            return;
        }
    }
}

async fn probe(member: Arc<Member>) {
    let answered = timeout(DEADLINE, member.engine.check()).await.is_ok_and(|alive| alive.is_ok());
    member.probed(answered);
    if answered && member.knowledge().version.is_none() {
        ask_version(&member).await;
    }
}

/// For display only: an engine that does not tell its version is as good as any.
async fn ask_version(member: &Member) {
    if let Ok(Ok(version)) = timeout(DEADLINE, member.engine.version()).await {
        member.says(version);
    }
}
