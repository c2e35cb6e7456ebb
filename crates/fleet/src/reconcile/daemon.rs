//! What the daemon has shown so far.

use std::collections::BTreeMap;

use tokio_util::task::AbortOnDropHandle;

use super::command::Request;
use crate::backoff::Moment;
use crate::ident::ContainerId;
use crate::member::Health;
use crate::plan::Purpose;
use crate::provisioner::Container;
use crate::snapshot::StrangerNote;

pub(super) struct Daemon {
    pub(super) answers: Answers,
    /// When something may have changed that no list shows for certain.
    pub(super) changed: Option<Moment>,
    pub(super) last_list: Option<Moment>,
    /// Own containers.
    pub(super) seen: BTreeMap<ContainerId, Seen>,
    pub(super) neighbours: Neighbourhood,
    pub(super) strangers: Vec<StrangerNote>,
}

/// What the daemon's silence looks like from here.
pub(super) enum Answers {
    Unknown,
    Up,
    Down { since: Moment, why: String },
}

/// What is known of other containers.
#[derive(Default)]
pub(super) struct Neighbourhood {
    pub(super) at: Option<Moment>,
    /// Whether the names that they have are known well enough to choose another one.
    pub(super) is_known: bool,
    /// Who has asked for an engine and gets it under a name that is free.
    pub(super) renaming: Vec<Request>,
}

/// An own container.
pub(super) struct Seen {
    pub(super) container: Container,
    pub(super) place: usize,
    pub(super) known_since: Moment,
    pub(super) running_since: Moment,
    pub(super) purpose: Purpose,
    pub(super) was_ready: bool,
    /// Its end was counted among the failures of its place: once, however often its removal is tried.
    pub(super) is_counted: bool,
    /// It was found outside of its VPN, and told of.
    pub(super) was_outside: bool,
    /// Since when it is being removed, by us or by somebody else.
    pub(super) leaving: Option<Moment>,
    pub(super) health: Health,
    /// Its statistics are read for as long as it is known.
    pub(super) usage: Option<AbortOnDropHandle<()>>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            answers: Answers::Unknown,
            changed: Some(Moment::ZERO),
            last_list: None,
            seen: BTreeMap::new(),
            neighbours: Neighbourhood::default(),
            strangers: Vec::new(),
        }
    }
}
