//! Starts that wait, by client address: who zaps faster than engines start gets the newest channel, not a queue of all
//! the channels zapped past.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::session::Shared;

/// Starts of one address that wait at a time. A household seldom has more players; whoever waits for more has left most
/// of them.
const MOST: usize = 8;

/// The starts that wait.
#[derive(Default)]
pub(crate) struct Starts(Mutex<State>);

#[derive(Default)]
struct State {
    by_address: HashMap<IpAddr, VecDeque<Entry>>,
    last: u64,
}

struct Entry {
    number: u64,
    shared: Arc<Shared>,
    outdated: CancellationToken,
}

/// One waiting request's place; given up when dropped.
pub(crate) struct Ticket<'a> {
    starts: &'a Starts,
    address: IpAddr,
    number: u64,
    outdated: CancellationToken,
}

impl Starts {
    /// One more of this address. When there are too many, the oldest that nobody else waits for is over.
    pub(crate) fn enter(&self, address: IpAddr, shared: Arc<Shared>) -> Ticket<'_> {
        let outdated = CancellationToken::new();
        let mut state = self.0.lock();
        state.last += 1;
        let number = state.last;
        let waiting = state.by_address.entry(address).or_default();
        if is_one_too_many(waiting, &shared)
            && let Some(oldest) = waiting.iter().find(|entry| entry.is_replaceable())
        {
            oldest.outdated.cancel();
        }
        waiting.push_back(Entry { number, shared, outdated: outdated.clone() });
        Ticket { starts: self, address, number, outdated }
    }
}

impl Entry {
    /// Nobody else waits for this start.
    fn is_replaceable(&self) -> bool {
        self.shared.viewers.count() <= 1 && !self.outdated.is_cancelled()
    }
}

/// Several requests for one channel are one start.
fn is_one_too_many(waiting: &VecDeque<Entry>, shared: &Arc<Shared>) -> bool {
    let mut starts: Vec<_> = waiting
        .iter()
        .filter(|entry| !entry.outdated.is_cancelled())
        .map(|entry| Arc::as_ptr(&entry.shared))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    starts.len() >= MOST && !starts.contains(&Arc::as_ptr(shared))
}

impl Ticket<'_> {
    /// Returns when newer starts of the same address have taken this one's place.
    pub(crate) async fn outdated(&self) {
        self.outdated.cancelled().await;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.starts.0.lock();
        let Some(waiting) = state.by_address.get_mut(&self.address) else { return };
        waiting.retain(|entry| entry.number != self.number);
        if waiting.is_empty() {
            state.by_address.remove(&self.address);
        }
    }
}
