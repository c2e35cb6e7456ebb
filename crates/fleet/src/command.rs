//! What operators ask the fleet for, and what they are answered.

use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::allowed::{Asked, Refused};
use crate::ident::ContainerId;
use crate::plan::{Policy, Purpose};
use crate::provisioner::ProvisionError;
use crate::recipe::Recipe;

/// What an operator asks for.
pub(crate) enum Command {
    Scale(usize, oneshot::Sender<usize>),
    Provision(Box<Asked>, oneshot::Sender<Result<Provisioned, CommandError>>),
    Remove(ContainerId, oneshot::Sender<Result<(), CommandError>>),
    Recipe(Box<Recipe>, oneshot::Sender<usize>),
    Policy(Box<Policy>, oneshot::Sender<()>),
    ResetBreakers(Option<Purpose>, oneshot::Sender<()>),
    HasRival(bool, oneshot::Sender<()>),
}

/// An engine that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Provisioned {
    /// Full id.
    pub container_id: String,
    /// Name.
    pub container_name: String,
    /// Port at which it is reached.
    pub host_http_port: u16,
    /// The same number inside.
    pub container_http_port: u16,
    /// HTTPS port inside.
    pub container_https_port: u16,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No own container has this id.
    #[error("no engine of this service has this id")]
    Unknown,
    /// `MAX_REPLICAS` engines exist.
    #[error("MAX_REPLICAS={max} engines exist")]
    AtMaximum {
        /// The cap.
        max: usize,
    },
    /// It asks for something that engines are not given.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Engines run behind a VPN or not at all, and none works.
    #[error("no VPN works: {why}")]
    NoTunnel {
        /// What is wrong with each.
        why: String,
    },
    /// No port is free.
    #[error("no port of {settings} is free")]
    NoPorts {
        /// The settings of the ranges that are in use.
        settings: String,
    },
    /// It must wait for something else.
    #[error("{why}")]
    Held {
        /// For what, one line.
        why: String,
    },
    /// Too many creations failed in a row.
    #[error("creating engines failed too often; next try in {seconds} s")]
    BreakerOpen {
        /// Until one is tried again.
        seconds: u64,
    },
    /// Docker could not do it.
    #[error(transparent)]
    Docker(#[from] ProvisionError),
    /// The service stops, or the loop did not answer in time.
    #[error("the fleet does not answer")]
    NoAnswer,
}
