//! What is under way: calls to the daemon, each in a task of its own. What a task is for is kept beside the task and not
//! inside it, so that one that panics takes nothing along: its errand comes back and is given up like any other.

use std::collections::HashMap;

use tokio::task::{Id, JoinError, JoinSet};

use super::Outcome;
use crate::ident::ContainerId;
use crate::plan::{Creation, Purpose};
use crate::tunnel::TunnelName;

/// What a task is for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    List,
    Neighbours,
    Inspect(ContainerId),
    Create(Creation, Purpose),
    Remove(ContainerId),
    RestartVpn(TunnelName),
}

/// How a task ended.
pub(super) enum Landed {
    Back(Outcome),
    /// It panicked.
    Lost(Errand, JoinError),
}

/// The tasks.
#[derive(Default)]
pub(super) struct Flight {
    tasks: JoinSet<Outcome>,
    errands: HashMap<Id, Errand>,
}

impl Flight {
    pub(super) fn begin(&mut self, errand: Errand, task: impl Future<Output = Outcome> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.errands.insert(id, errand);
    }

    /// The next that ends; `None` when there is none. Cancel safe.
    pub(super) async fn land(&mut self) -> Option<Landed> {
        match self.tasks.join_next_with_id().await? {
            Ok((id, outcome)) => {
                self.errands.remove(&id);
                Some(Landed::Back(outcome))
            }
            Err(error) => {
                let errand = self.errands.remove(&error.id())?;
                Some(Landed::Lost(errand, error))
            }
        }
    }

    /// Creations under way, by their places.
    pub(super) fn creating(&self) -> Vec<Creation> {
        let creations = self.errands.values().filter_map(|errand| match errand {
            Errand::Create(creation, _) => Some(creation.clone()),
            _ => None,
        });
        let mut creations: Vec<_> = creations.collect();
        creations.sort_by_key(|creation| creation.place);
        creations
    }

    pub(super) fn is_creating(&self) -> bool {
        self.errands.values().any(|errand| matches!(errand, Errand::Create(..)))
    }

    pub(super) fn is_removing(&self, id: &ContainerId) -> bool {
        self.errands.values().any(|errand| matches!(errand, Errand::Remove(removed) if removed == id))
    }

    pub(super) fn is_inspecting(&self, id: &ContainerId) -> bool {
        self.errands.values().any(|errand| matches!(errand, Errand::Inspect(inspected) if inspected == id))
    }

    pub(super) fn is_listing(&self) -> bool {
        self.errands.values().any(|errand| matches!(errand, Errand::List))
    }

    pub(super) fn asks_for_neighbours(&self) -> bool {
        self.errands.values().any(|errand| matches!(errand, Errand::Neighbours))
    }
}
