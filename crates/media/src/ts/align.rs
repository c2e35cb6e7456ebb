//! Bytes as they come into whole packets.
//!
//! In step, only the first byte of each packet is looked at. Out of step, three sync bytes at the right distance are
//! wanted, because one 0x47 is in every second packet's payload.
#![warn(clippy::indexing_slicing)]

use super::packet::{PACKET_LEN, Packet, SYNC_BYTE};

/// Bytes that must be there to find the step again.
const SEARCHED: usize = 2 * PACKET_LEN + 1;

/// Finds and keeps the step.
#[derive(Clone, Debug, Default)]
pub struct Aligner {
    in_step: bool,
    carry: Vec<u8>,
    stats: Alignment,
}

/// What alignment has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// Times the step was lost.
    pub losses: u64,
    /// Bytes that belong to no whole packet.
    pub dropped_bytes: u64,
    /// Packets found.
    pub packets: u64,
}

impl Aligner {
    /// Hands every packet that `data` completes to `sink`.
    pub fn feed(&mut self, mut data: &[u8], sink: &mut impl FnMut(Packet<'_>)) {
        while !data.is_empty() {
            data = match (self.in_step, self.carry.is_empty()) {
                (true, true) => self.direct(data, sink),
                (true, false) => self.complete(data, sink),
                (false, _) => self.search(data, sink),
            };
        }
    }

    /// Forgets the partial packet: what follows is another source's.
    pub fn restart(&mut self) {
        self.stats.dropped_bytes += self.carry.len() as u64;
        self.carry.clear();
        self.in_step = false;
    }

    /// What it has cost so far.
    pub fn stats(&self) -> Alignment {
        self.stats
    }

    fn direct<'a>(&mut self, data: &'a [u8], sink: &mut impl FnMut(Packet<'_>)) -> &'a [u8] {
        let Some((packet, rest)) = data.split_at_checked(PACKET_LEN) else {
            self.carry.extend_from_slice(data);
            return &[];
        };
        if self.emit(packet, sink) {
            return rest;
        }
        self.lose_step();
        data
    }

    /// Only the bytes of one packet are copied, then reading goes on in place.
    fn complete<'a>(&mut self, data: &'a [u8], sink: &mut impl FnMut(Packet<'_>)) -> &'a [u8] {
        let missing = (PACKET_LEN - self.carry.len()).min(data.len());
        let (part, rest) = data.split_at(missing);
        self.carry.extend_from_slice(part);
        if self.carry.len() < PACKET_LEN {
            return rest;
        }
        let packet = std::mem::take(&mut self.carry);
        if self.emit(&packet, sink) {
            self.carry = packet;
            self.carry.clear();
        } else {
            self.lose_step();
            self.carry = packet;
        }
        rest
    }

    fn search<'a>(&mut self, data: &'a [u8], sink: &mut impl FnMut(Packet<'_>)) -> &'a [u8] {
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(data);
        if let Some(at) = carry.windows(SEARCHED).position(in_step) {
            self.in_step = true;
            self.stats.dropped_bytes += at as u64;
            self.feed(carry.get(at..).unwrap_or_default(), sink);
            return &[];
        }
        let useless = carry.len().saturating_sub(SEARCHED - 1);
        self.stats.dropped_bytes += useless as u64;
        carry.drain(..useless);
        self.carry = carry;
        &[]
    }

    fn emit(&mut self, packet: &[u8], sink: &mut impl FnMut(Packet<'_>)) -> bool {
        let Some(packet) = Packet::parse(packet) else { return false };
        self.stats.packets += 1;
        sink(packet);
        true
    }

    fn lose_step(&mut self) {
        self.in_step = false;
        self.stats.losses += 1;
    }
}

fn in_step(window: &[u8]) -> bool {
    [0, PACKET_LEN, 2 * PACKET_LEN].iter().all(|at| window.get(*at) == Some(&SYNC_BYTE))
}
