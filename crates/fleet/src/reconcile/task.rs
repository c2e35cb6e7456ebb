//! The loop that keeps the fleet as it should be: observe, plan, apply.
//!
//! ```text
//!   Docker's events ─┐                       ┌─► create / remove (own tasks) ─► outcomes ─┐
//!   streams waiting ─┼─► look ─► plan() ─► apply                                          │
//!   every second    ─┘      ▲                └─► cordon, uncordon                         │
//!                           └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! One task owns everything that changes; others see snapshots and send commands. Calls to Docker run in tasks of their
//! own ([`super::flight`]), so that a daemon that hangs delays neither planning nor an operator's question. What Docker
//! says of one container missing in a list is believed only after it was asked for that container by its id.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Reconciler;
use crate::command::Command;
use crate::dispatch::Engines;
use crate::event::Observer;
use crate::member::EngineKey;
use crate::options::FleetOptions;
use crate::provisioner::Provisioner;
use crate::snapshot::Snapshot;

/// The plan is made anew at least so often: it costs microseconds.
const TICK: Duration = Duration::from_secs(1);

/// Pause before Docker's events are asked for again. The periodic pass sees everything meanwhile.
const RECONNECT: Duration = Duration::from_secs(1);

/// Engines that have just become healthy and are not looked at yet. Told in vain when there are more: all are looked at.
const NEWS: usize = 32;

/// The fleet's task, to be run by its owner.
pub struct FleetTask {
    engines: Arc<Engines>,
    reconciler: Reconciler,
    commands: mpsc::Receiver<Command>,
    healthy: mpsc::Receiver<EngineKey>,
    probing: mpsc::Sender<EngineKey>,
    stop_on_exit: bool,
}

impl FleetTask {
    pub(crate) fn new(
        options: FleetOptions,
        engines: Arc<Engines>,
        provisioner: Arc<dyn Provisioner>,
        observer: Arc<dyn Observer>,
        commands: mpsc::Receiver<Command>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (probing, healthy) = mpsc::channel(NEWS);
        let stop_on_exit = options.stop_on_exit;
        let (reconciler, snapshot) = Reconciler::new(options, Arc::clone(&engines), provisioner, observer);
        (Self { engines, reconciler, commands, healthy, probing, stop_on_exit }, snapshot)
    }

    /// Where the probe says which engine has just become healthy.
    pub fn healthy(&self) -> mpsc::Sender<EngineKey> {
        self.probing.clone()
    }

    /// Runs until `stop`; then, if so configured, removes the engines.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = Changes::new(self.reconciler.provisioner());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = changes.next() => self.reconciler.look_again(),
                _ = ticks.tick() => {}
                () = self.engines.demand_changed() => {}
                Some(_) = self.healthy.recv() => {}
                () = self.reconciler.exits.changed() => {}
                Some(landed) = self.reconciler.flight.land() => self.reconciler.take(landed),
                Some(command) = self.commands.recv() => self.reconciler.obey(command),
            }
            self.reconciler.pass();
        }
        self.reconciler.finish(self.stop_on_exit).await;
    }
}

/// Docker's events, connected again whenever they end.
struct Changes {
    provisioner: Arc<dyn Provisioner>,
    stream: Option<BoxStream<'static, ()>>,
    retry_at: Instant,
}

impl Changes {
    fn new(provisioner: Arc<dyn Provisioner>) -> Self {
        Self { provisioner, stream: None, retry_at: Instant::now() }
    }

    /// Returns when something may have changed. Cancel safe.
    async fn next(&mut self) {
        loop {
            if self.stream.is_none() {
                sleep_until(self.retry_at).await;
                self.retry_at = Instant::now() + RECONNECT;
                self.stream = Some(self.provisioner.changes());
            }
            if let Some(stream) = &mut self.stream {
                if stream.next().await.is_some() {
                    return;
                }
                // What happened while it was away is unknown.
                self.stream = None;
                return;
            }
        }
    }
}
