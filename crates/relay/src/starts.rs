//! Starts that wait, by client address: who zaps faster than engines start gets the newest channel, not a queue of all
//! the channels zapped past.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::admission::AddressGroup;
use crate::session::Shared;

/// Starts of one address that wait at a time. A household seldom has more players; whoever waits for more has left most
/// of them.
const MOST: usize = 8;

/// The starts that wait.
#[derive(Default)]
pub(crate) struct Starts(Mutex<HashMap<AddressGroup, VecDeque<Start>>>);

/// One stream that an address waits for, the oldest first.
struct Start {
    shared: Arc<Shared>,
    /// Requests of this address that wait for it.
    waiting: usize,
    outdated: CancellationToken,
}

/// One waiting request's place; given up when dropped.
pub(crate) struct Ticket<'a> {
    starts: &'a Starts,
    address: AddressGroup,
    shared: &'a Arc<Shared>,
    outdated: CancellationToken,
}

impl Starts {
    /// One more request of this address. When it waits for too many streams, the oldest that nobody else waits for is
    /// over.
    pub(crate) fn enter<'a>(&'a self, address: AddressGroup, shared: &'a Arc<Shared>) -> Ticket<'a> {
        let mut starts = self.0.lock();
        let starts = starts.entry(address).or_default();
        let outdated = match starts.iter_mut().find(|start| start.is_of(shared)) {
            Some(start) => {
                start.waiting += 1;
                start.outdated.clone()
            }
            None => begin(starts, shared),
        };
        Ticket { starts: self, address, shared, outdated }
    }
}

fn begin(starts: &mut VecDeque<Start>, shared: &Arc<Shared>) -> CancellationToken {
    let going_on = starts.iter().filter(|start| !start.outdated.is_cancelled()).count();
    if going_on >= MOST
        && let Some(oldest) = starts.iter().find(|start| start.is_replaceable())
    {
        oldest.outdated.cancel();
    }
    let outdated = CancellationToken::new();
    starts.push_back(Start { shared: Arc::clone(shared), waiting: 1, outdated: outdated.clone() });
    outdated
}

impl Start {
    fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared) && !self.outdated.is_cancelled()
    }

    /// Nobody else waits for it.
    fn is_replaceable(&self) -> bool {
        self.shared.viewers.count() <= 1 && !self.outdated.is_cancelled()
    }
}

impl Ticket<'_> {
    /// Returns when newer starts of the same address have taken this one's place.
    pub(crate) async fn outdated(&self) {
        self.outdated.cancelled().await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut addresses = self.starts.0.lock();
        let Some(starts) = addresses.get_mut(&self.address) else { return };
        let is_outdated = self.outdated.is_cancelled();
        let is_own = |start: &Start| {
            Arc::ptr_eq(&start.shared, self.shared) && start.outdated.is_cancelled() == is_outdated
        };
        if let Some(at) = starts.iter().position(is_own) {
            starts[at].waiting -= 1;
            if starts[at].waiting == 0 {
                starts.remove(at);
            }
        }
        if starts.is_empty() {
            addresses.remove(&self.address);
        }
    }
}
