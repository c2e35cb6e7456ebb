//! How much memory all rings together may hold, and each ring's even share of it.
//!
//! The share is computed, not accounted: with `n` rings each may hold `total / n` bytes, at most its configured
//! size. So a new stream shrinks all others evenly at their next push, and no ledger can drift. A ring below
//! [`LEAST_RING`] could not hold a join burst of an HD channel, so the stream that would cause it is refused instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Smallest history a stream is given, in bytes (`STREAM_MEMORY` in the settings: "shrink evenly down to 4 MiB").
pub const LEAST_RING: usize = 4 * 1024 * 1024;

/// The process-wide allowance for stream history.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    largest: usize,
    rings: AtomicUsize,
}

impl Budget {
    /// `total` bytes for all rings together, at most `largest` bytes for one.
    pub fn new(total: usize, largest: usize) -> Arc<Self> {
        Arc::new(Self { total, largest, rings: AtomicUsize::new(0) })
    }

    /// The right to one more ring, or `None` when every ring would fall below [`LEAST_RING`].
    ///
    /// One ring is always granted: a machine too small for any stream could not serve at all.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        let most = (self.total / LEAST_RING).max(1);
        self.rings
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |rings| (rings < most).then_some(rings + 1))
            .ok()?;
        Some(Lease { budget: Arc::clone(self) })
    }

    /// Bytes one ring may hold at this moment.
    pub fn share(&self) -> usize {
        let rings = self.rings.load(Ordering::Acquire).max(1);
        (self.total / rings).min(self.largest)
    }
}

/// One ring's place in the budget; dropping it gives the place back.
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
}

impl Lease {
    /// Bytes this ring may hold at this moment.
    pub fn share(&self) -> usize {
        self.budget.share()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.rings.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_tiny_machine_still_plays_one_stream() {
        let budget = Budget::new(1024, LEAST_RING);
        let only = budget.lease().unwrap();
        assert_eq!(only.share(), 1024);
        assert!(budget.lease().is_none());
    }
}
