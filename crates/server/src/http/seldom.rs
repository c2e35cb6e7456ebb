//! What is said at most once in an interval, however often it happens.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;

/// When it was last said, and how often it has happened since.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened once more. When it may be said now: how often it was not since the last time.
    pub(crate) fn happens(&mut self, interval: Duration) -> Option<u64> {
        let now = Instant::now();
        if self.said.is_some_and(|said| now.duration_since(said) < interval) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(mem::take(&mut self.unsaid))
    }

    /// How often it has happened since it was said.
    #[cfg(test)]
    pub(crate) fn unsaid(&self) -> u64 {
        self.unsaid
    }
}
