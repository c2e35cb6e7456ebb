//! How much memory all rings together may hold, and each ring's even share of it.
//!
//! The share is computed, not accounted: of `n` leases each may hold `total / n` bytes, at most as much as it asks
//! for: a ring's configured size, or more where a stream is so fast that this would be too short. So a new stream
//! shrinks all others evenly at once, one that goes gives its share back at once, and no ledger can drift. A ring
//! below [`LEAST_RING`] could not hold a join burst of an HD channel, so the stream that would cause it is refused
//! instead.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use crate::ring::Ring;

/// Smallest history a stream is given, in bytes (`STREAM_MEMORY` in the settings: "shrink evenly down to 4 MiB").
pub const LEAST_RING: usize = 4 * 1024 * 1024;

/// The process-wide allowance for stream history.
pub struct Budget {
    total: usize,
    usual: usize,
    leases: Mutex<Slab<Held>>,
}

/// What a lease is for.
struct Held {
    ring: Option<Ring>,
    /// Bytes that it asks for.
    most: usize,
}

impl Budget {
    /// `total` bytes for all rings together, at most `usual` bytes for one that asks for no more.
    pub fn new(total: usize, usual: usize) -> Arc<Self> {
        Arc::new(Self { total, usual, leases: Mutex::default() })
    }

    /// Bytes for all rings together.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The right to hold as much as a ring, or `None` when every ring would fall below [`LEAST_RING`]. All rings shrink to
    /// their new share.
    ///
    /// One lease is always granted: a machine too small for any stream could not serve at all.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut leases = self.leases.lock();
        if leases.len() >= (self.total / LEAST_RING).max(1) {
            return None;
        }
        let place = leases.insert(Held { ring: None, most: self.usual });
        self.share_out(&leases);
        Some(Lease { budget: Arc::clone(self), place })
    }

    fn share(&self, held: &Held, leases: usize) -> usize {
        (self.total / leases.max(1)).min(held.most)
    }

    fn share_out(&self, leases: &Slab<Held>) {
        for (_, held) in leases {
            if let Some(ring) = &held.ring {
                ring.set_most_bytes(self.share(held, leases.len()));
            }
        }
    }
}

/// One ring's place in the budget. Dropping it gives the place back, and the other rings grow.
pub struct Lease {
    budget: Arc<Budget>,
    place: usize,
}

impl Lease {
    /// Bytes that may be held on it at this moment.
    pub fn share(&self) -> usize {
        let leases = self.budget.leases.lock();
        leases.get(self.place).map_or(0, |held| self.budget.share(held, leases.len()))
    }

    /// So many bytes are needed. It gets them if every other lease could have as much, and never asks for less than is usual
    /// or than it has asked for before.
    pub fn asks_for(&self, bytes: usize) {
        let mut leases = self.budget.leases.lock();
        let count = leases.len();
        let Some(held) = leases.get_mut(self.place).filter(|held| held.most < bytes) else { return };
        held.most = bytes;
        if let Some(ring) = &held.ring {
            ring.set_most_bytes(self.budget.share(held, count));
        }
    }

    /// The ring that it is for, which is kept to its share from now on.
    pub fn is_for(&self, ring: &Ring) {
        let mut leases = self.budget.leases.lock();
        let count = leases.len();
        if let Some(held) = leases.get_mut(self.place) {
            ring.set_most_bytes(self.budget.share(held, count));
            held.ring = Some(ring.clone());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.budget.leases.lock();
        let _held = leases.try_remove(self.place);
        self.budget.share_out(&leases);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ring::RingLimits;

    #[test]
    fn rings_shrink_evenly_and_the_one_too_many_is_refused() {
        let budget = Budget::new(3 * LEAST_RING, 2 * LEAST_RING);
        let first = budget.lease().unwrap();
        assert_eq!(first.share(), 2 * LEAST_RING);
        let second = budget.lease().unwrap();
        assert_eq!(first.share(), 3 * LEAST_RING / 2);
        let third = budget.lease().unwrap();
        assert_eq!(third.share(), LEAST_RING);
        assert!(budget.lease().is_none());
        drop(second);
        assert!(budget.lease().is_some());
    }

    #[test]
    fn the_others_shrink_when_a_lease_is_given_and_grow_when_it_is_given_back() {
        let budget = Budget::new(4 * LEAST_RING, 4 * LEAST_RING);
        let (_producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 1 });
        let lease = budget.lease().unwrap();
        lease.is_for(&ring);
        assert_eq!(ring.most_bytes(), 4 * LEAST_RING);
        // A stream's, and a packager's, which has no ring.
        let others = [budget.lease().unwrap(), budget.lease().unwrap(), budget.lease().unwrap()];
        assert_eq!(ring.most_bytes(), LEAST_RING);
        drop(others);
        assert_eq!((ring.most_bytes(), lease.share()), (4 * LEAST_RING, 4 * LEAST_RING));
    }

    #[test]
    fn a_fast_stream_asks_for_more_and_gets_it_within_its_even_share() {
        let budget = Budget::new(12 * LEAST_RING, 2 * LEAST_RING);
        let (_producer, ring) = Ring::new(RingLimits { media: Duration::from_secs(30), bytes: 1 });
        let fast = budget.lease().unwrap();
        fast.is_for(&ring);
        fast.asks_for(5 * LEAST_RING);
        let other = budget.lease().unwrap();
        assert_eq!(
            (ring.most_bytes(), fast.share(), other.share()),
            (5 * LEAST_RING, 5 * LEAST_RING, 2 * LEAST_RING)
        );
        fast.asks_for(LEAST_RING);
        assert_eq!(ring.most_bytes(), 5 * LEAST_RING, "it does not shrink and grow with every measurement");
        fast.asks_for(50 * LEAST_RING);
        assert_eq!((ring.most_bytes(), other.share()), (6 * LEAST_RING, 2 * LEAST_RING));
        let third = budget.lease().unwrap();
        assert_eq!(ring.most_bytes(), 4 * LEAST_RING);
        drop((other, third));
        assert_eq!(ring.most_bytes(), 12 * LEAST_RING);
    }

    #[test]
    fn a_tiny_machine_still_plays_one_stream() {
        let budget = Budget::new(1024, LEAST_RING);
        let only = budget.lease().unwrap();
        assert_eq!(only.share(), 1024);
        assert!(budget.lease().is_none());
    }
}
