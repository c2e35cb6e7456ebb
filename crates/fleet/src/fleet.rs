//! The handle of the fleet: whoever holds it sees [`Snapshot`]s and sends commands. The loop behind it, which owns
//! everything that changes, is [`FleetTask`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::allowed::Asked;
use crate::command::Command;
pub use crate::command::{CommandError, Provisioned};
use crate::dispatch::Engines;
use crate::event::Observer;
use crate::ident::ContainerId;
pub use crate::options::{FleetOptions, Vpn};
use crate::plan::{Policy, Purpose};
use crate::provisioner::Provisioner;
use crate::recipe::Recipe;
pub use crate::reconcile::FleetTask;
pub use crate::snapshot::{
    BreakerNote, ContainerNote, DockerState, FailureNote, RivalNote, Rollout, Snapshot, StrangerNote,
    TunnelNote, of_rival,
};

/// Commands that may wait for the loop; it takes each within milliseconds.
const COMMANDS: usize = 32;

/// Longest wait for the loop to take a command.
const ANSWER: Duration = Duration::from_secs(5);

/// The fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    engines: Arc<Engines>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
}

impl Fleet {
    /// A fleet and the task that runs it.
    pub fn new(
        options: FleetOptions,
        engines: Arc<Engines>,
        provisioner: Arc<dyn Provisioner>,
        observer: Arc<dyn Observer>,
    ) -> (Self, FleetTask) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (task, snapshot) = FleetTask::new(options, Arc::clone(&engines), provisioner, observer, received);
        (Self { engines, snapshot, commands }, task)
    }

    /// The engines that streams may use.
    pub fn engines(&self) -> &Arc<Engines> {
        &self.engines
    }

    /// What it knew when it last looked.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Keeps at least `engines` from now on, within the operator's bounds. Returns how many it will be.
    pub async fn scale(&self, engines: usize) -> Result<usize, CommandError> {
        self.ask(|answer| Command::Scale(engines, answer)).await
    }

    /// Creates one engine beside those that are wanted anyway. Waits until it runs, which may take a pull.
    pub async fn provision(&self, asked: Asked) -> Result<Provisioned, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Provision(Box::new(asked), answer)).await?;
        answered.await.unwrap_or(Err(CommandError::NoAnswer))
    }

    /// Removes an own engine, whatever plays on it.
    pub async fn remove(&self, id: ContainerId) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Remove(id, answer)).await?;
        answered.await.unwrap_or(Err(CommandError::NoAnswer))
    }

    /// Makes engines from another recipe from now on; those made from others are replaced one by one. Returns how many
    /// that are.
    pub async fn set_recipe(&self, recipe: Recipe) -> Result<usize, CommandError> {
        self.ask(|answer| Command::Recipe(Box::new(recipe), answer)).await
    }

    /// Follows another policy from now on.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), CommandError> {
        self.ask(|answer| Command::Policy(Box::new(policy), answer)).await
    }

    /// Lets creations begin again: one breaker, or both.
    pub async fn reset_breakers(&self, which: Option<Purpose>) -> Result<(), CommandError> {
        self.ask(|answer| Command::ResetBreakers(which, answer)).await
    }

    /// Another service with our instance id uses the same daemon, or does so no more.
    pub async fn has_rival(&self, is_here: bool) -> Result<(), CommandError> {
        self.ask(|answer| Command::HasRival(is_here, answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        let answered = tokio::time::timeout(ANSWER, answered).await;
        answered.ok().and_then(Result::ok).ok_or(CommandError::NoAnswer)
    }

    async fn send(&self, command: Command) -> Result<(), CommandError> {
        let sent = self.commands.send_timeout(command, ANSWER).await;
        sent.map_err(|_| CommandError::NoAnswer)
    }
}
