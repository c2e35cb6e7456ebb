//! One piece of a stream that a player fetches by itself.

use std::time::Duration;

use bytes::Bytes;

use crate::starts::StartKind;

/// What a player fetches with one request: tables, then packets.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Media sequence number: one more than that of the segment before.
    pub number: u64,
    /// Clock and counters do not continue those of the segment before, or something is missing in between.
    pub discontinuity: bool,
    /// Media time from its first packet to that of the next segment.
    pub duration: Duration,
    /// Why a decoder can start with it; `None` if it had to begin where none can.
    pub start: Option<StartKind>,
    /// PAT and PMT, then slices of the ring's chunks: nothing is copied. To be sent one after the other.
    pub parts: Vec<Bytes>,
}

impl Segment {
    /// Bytes of all parts.
    pub fn size(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }
}
