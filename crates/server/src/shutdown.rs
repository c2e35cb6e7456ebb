//! The order of a stop, and how long each part of it may take.

use std::future::Future;
use std::time::Duration;

use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::Snapshot;
use acemux_relay::Relay;
use futures_util::future::join_all;
use tokio::time::timeout;

/// How long an engine may take to answer that its playbacks have ended. A stop itself is given up after 3 s.
pub(crate) const ENGINE_DRAIN: Duration = Duration::from_secs(4);

/// Ends streams and then, on all engines at once, their playbacks: one engine that hangs takes no time from the others.
pub(crate) async fn end_streams(relay: &Relay, engines: &Engines, deadline: Duration) {
    if timeout(deadline, relay.shutdown()).await.is_err() {
        tracing::warn!(seconds = deadline.as_secs(), "not every stream ended in time");
    }
    let members = engines.all();
    let drains = members.iter().map(|member| async {
        let is_drained = member.engine.drain(ENGINE_DRAIN).await;
        if !is_drained {
            tracing::warn!(engine = %member.key, "the engine did not answer whether its playbacks have ended");
        }
    });
    join_all(drains).await;
}

/// Everything but the store within `deadline`, and then the store, which has its own: what happened until the end is
/// written however the rest ended.
pub(crate) async fn in_order<E: std::fmt::Display>(
    deadline: Duration,
    rest: impl Future<Output = ()>,
    store: impl Future<Output = Result<(), E>>,
) {
    if timeout(deadline, rest).await.is_err() {
        tracing::warn!(seconds = deadline.as_secs(), "not everything ended in time");
    }
    if let Err(error) = store.await {
        tracing::warn!(%error, "not everything could be saved");
    }
}

/// Says that engines are left running and how they are removed, because whoever stops a service expects nothing of it to
/// go on.
pub(crate) fn tell_of_engines(fleet: &Snapshot) {
    if let Some(line) = left_running(fleet) {
        tracing::info!("{line}");
    }
}

fn left_running(fleet: &Snapshot) -> Option<String> {
    let runs = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let running = fleet.containers.iter().filter(|one| runs(one.state)).count();
    // Each runs by now, or has come to nothing.
    let left = running + fleet.creating.len();
    (left > 0).then(|| {
        format!(
            "{left} engine(s) are left running for the next start, as STOP_ENGINES_ON_EXIT=false says: `acemux engines \
             remove --all` removes them (with Compose: `docker-compose run --rm acemux engines remove --all`)"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_store_is_closed_however_long_the_rest_hangs() {
        let began = Instant::now();
        let mut closed_at = None;
        in_order(Duration::from_secs(14), pending(), async {
            sleep(Duration::from_secs(2)).await;
            closed_at = Some(began.elapsed());
            Ok::<_, String>(())
        })
        .await;
        assert_eq!(closed_at, Some(Duration::from_secs(16)));
    }
}
