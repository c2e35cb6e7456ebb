//! The segment that is being filled: when it is long enough, and what it becomes.

use std::time::Duration;

use bytes::Bytes;

use super::{Segment, SegmentLimits};
use crate::chunk::Chunk;
use crate::starts::StartKind;
use crate::ts::counters::first_counter;
use crate::ts::packet::{PACKET_LEN, Packet, Pid};
use crate::ts::psi::packets;
use crate::ts::splice::Before;

/// A segment that had to begin without a start point ends at the next one, unless it were shorter than this.
const WORTH_A_REQUEST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Open {
    discontinuity: bool,
    began: Duration,
    start: Option<StartKind>,
    tables: Bytes,
    size: usize,
    chunks: Vec<Chunk>,
}

impl Open {
    /// Will begin with `first`, which is still to be appended, behind what its start point needs, or `tables`.
    pub(super) fn new(first: &Chunk, tables: Bytes, discontinuity: bool) -> Self {
        let start = first.start.as_ref().map(|start| start.kind());
        let tables = first.start.as_ref().map_or(tables, |start| start.join_prelude());
        Self { discontinuity, began: first.media, start, size: tables.len(), tables, chunks: Vec::new() }
    }

    pub(super) fn append(&mut self, chunk: Chunk) {
        self.size += chunk.bytes.len();
        self.chunks.push(chunk);
    }

    /// How long it is if it ends before `chunk`.
    pub(super) fn until(&self, chunk: &Chunk) -> Duration {
        chunk.media.saturating_sub(self.began)
    }

    /// Whether it should end before `chunk`.
    pub(super) fn ends_before(&self, chunk: &Chunk, limits: &SegmentLimits) -> bool {
        let long_enough = match chunk.start.as_ref().map(|start| start.kind()) {
            Some(StartKind::Audio | StartKind::Unindexed) => limits.target,
            Some(_) if self.start.is_none() => WORTH_A_REQUEST,
            Some(StartKind::RandomAccess | StartKind::Intra) => limits.least,
            None => limits.most,
        };
        let full = self.size + chunk.bytes.len() > limits.most_bytes;
        full || self.until(chunk) >= long_enough.min(limits.most)
    }

    /// Whether it is long enough if it ends at `end`.
    pub(super) fn is_worth_a_request(&self, end: Duration) -> bool {
        end.saturating_sub(self.began) >= WORTH_A_REQUEST
    }

    /// Takes its last chunk back before it is closed, if some media time remains.
    pub(super) fn split_off_last(&mut self) -> Option<Chunk> {
        self.chunks.pop_if(|last| last.media > self.began)
    }

    /// What it is when it ends at `end`, or as soon as it is `longest`.
    pub(super) fn close(self, number: u64, end: Duration, longest: Duration) -> Segment {
        let Self { discontinuity, began, start, tables, chunks, .. } = self;
        let duration = end.saturating_sub(began).min(longest);
        let tables = if start.is_some() { tables } else { running_into(&tables, &chunks) };
        let tables = Some(tables).filter(|tables| !tables.is_empty());
        let parts = tables.into_iter().chain(chunks.into_iter().map(|chunk| chunk.bytes)).collect();
        Segment { number, discontinuity, duration, start, parts }
    }
}

/// A start point's tables with counters for a later place: there they have been sent again in the meantime.
fn running_into(tables: &[u8], chunks: &[Chunk]) -> Bytes {
    let first_of = |pid: Pid| {
        let found =
            chunks.iter().flat_map(|chunk| packets(&chunk.bytes)).find(|packet| packet.pid() == pid)?;
        Some((pid, first_counter(found)))
    };
    let mut pids: Vec<Pid> = packets(tables).map(Packet::pid).collect();
    pids.dedup();
    let next: Vec<(Pid, u8)> = pids.into_iter().filter_map(first_of).collect();
    let association = packets(tables).take_while(|packet| packet.pid() == Pid::PAT).count() * PACKET_LEN;
    Before { tables: tables.split_at(association), sets: &[], next: &next }.join()
}
