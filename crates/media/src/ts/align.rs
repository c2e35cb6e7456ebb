//! Bytes as they come into whole packets.
//!
//! In step, only the first byte of each packet is looked at. Out of step, three sync bytes at the right distance are
//! wanted, because one 0x47 is in every second packet's payload. Nothing but a partial packet, or what one window of
//! the search reaches over, is ever kept, however much is pushed at once.
//!
//! Some recorders and demodulators write something between the packets. It is passed over: nobody who is given packets of
//! ours expects it.
#![warn(clippy::indexing_slicing)]

use super::packet::{PACKET_LEN, Packet, SYNC_BYTE};

/// How packets may follow one another.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes between two of them.
    between: usize,
    /// So many sync bytes at that distance are the step. What is rare must be certain.
    proof: usize,
}

/// One after the other, with the time of arrival before each (M2TS), and with a check sum behind each (DVB's outer code).
const LAYOUTS: [Layout; 3] =
    [Layout { between: 0, proof: 3 }, Layout { between: 4, proof: 5 }, Layout { between: 16, proof: 5 }];
/// Most bytes kept out of step: one more would have been enough to decide.
const UNDECIDED: usize = 4 * (PACKET_LEN + 16);

/// Finds and keeps the step.
#[derive(Clone, Debug, Default)]
pub struct Aligner {
    in_step: bool,
    /// Bytes between two packets, as long as it is in step.
    between: usize,
    /// How many of them are still to come before the next packet.
    passed_over: usize,
    carry: Vec<u8>,
    stats: Alignment,
}

/// What alignment has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// Times the step was lost.
    pub losses: u64,
    /// Bytes that belong to no whole packet, and to nothing that regularly stands between them.
    pub dropped_bytes: u64,
    /// Packets found.
    pub packets: u64,
}

impl Aligner {
    /// Hands every packet that `data` completes to `sink`.
    pub fn feed(&mut self, data: &[u8], sink: &mut impl FnMut(Packet<'_>)) {
        let mut data = self.pass_over(data);
        while !data.is_empty() {
            data = match (self.in_step, self.carry.is_empty()) {
                (true, true) => self.direct(data, sink),
                (true, false) => self.complete(data, sink),
                (false, true) => self.search(data),
                (false, false) => self.search_seam(data, sink),
            };
        }
    }

    /// What it has cost in all, once nothing more comes: a partial packet is lost.
    pub fn finish(self) -> Alignment {
        let Self { mut stats, carry, .. } = self;
        stats.dropped_bytes += carry.len() as u64;
        stats
    }

    /// The bytes of a packet that is not whole yet, for whoever goes on reading.
    pub fn into_partial(self) -> Vec<u8> {
        self.carry
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
            return if self.between == 0 { rest } else { self.behind_packet(rest) };
        }
        self.lose_step();
        data
    }

    /// Only the bytes of one packet are copied, then reading goes on in place.
    fn complete<'a>(&mut self, data: &'a [u8], sink: &mut impl FnMut(Packet<'_>)) -> &'a [u8] {
        let missing = PACKET_LEN.saturating_sub(self.carry.len()).min(data.len());
        let (part, rest) = data.split_at(missing);
        self.carry.extend_from_slice(part);
        if self.carry.len() < PACKET_LEN {
            return rest;
        }
        if !self.emit_carry(sink) {
            self.lose_step();
            return rest;
        }
        self.behind_packet(rest)
    }

    /// A packet has ended with what came before `rest`.
    fn behind_packet<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        self.passed_over = self.between;
        self.pass_over(rest)
    }

    fn pass_over<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (passed, rest) = data.split_at(self.passed_over.min(data.len()));
        self.passed_over -= passed.len();
        rest
    }

    fn search<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if let Some((at, layout)) = step(data)
            && let Some((before, rest)) = data.split_at_checked(at)
        {
            self.falls_into(layout, before.len());
            return rest;
        }
        let (useless, kept) = data.split_at(data.len().saturating_sub(UNDECIDED));
        self.stats.dropped_bytes += useless.len() as u64;
        self.carry.extend_from_slice(kept);
        &[]
    }

    /// Looks for a step that begins in the bytes carried along. They are joined with no more of `data` than a window
    /// that begins there can reach, so that a long push is not copied.
    fn search_seam<'a>(&mut self, data: &'a [u8], sink: &mut impl FnMut(Packet<'_>)) -> &'a [u8] {
        let carried = self.carry.len();
        let (near, far) = data.split_at(data.len().min(UNDECIDED));
        self.carry.extend_from_slice(near);
        if let Some((at, layout)) = step(&self.carry) {
            return self.resume(at, layout, carried, data, sink);
        }
        if far.is_empty() {
            let useless = self.carry.len().saturating_sub(UNDECIDED);
            self.stats.dropped_bytes += useless as u64;
            self.carry.drain(..useless);
            return &[];
        }
        self.stats.dropped_bytes += carried as u64;
        self.carry.clear();
        data
    }

    /// The step begins at `at` of the first `carried` bytes; `data` follows them.
    fn resume<'a>(
        &mut self,
        at: usize,
        layout: Layout,
        carried: usize,
        data: &'a [u8],
        sink: &mut impl FnMut(Packet<'_>),
    ) -> &'a [u8] {
        // It may begin behind them.
        let (before, rest) = data.split_at(at.saturating_sub(carried).min(data.len()));
        self.falls_into(layout, at);
        self.carry.truncate(carried);
        self.carry.drain(..at.min(carried));
        debug_assert!(before.is_empty() || self.carry.is_empty());
        while self.carry.len() >= PACKET_LEN && self.emit_carry(sink) {
            let between = self.carry.len().min(self.between);
            self.carry.drain(..between);
            self.passed_over = self.between - between;
        }
        self.pass_over(rest)
    }

    fn falls_into(&mut self, layout: Layout, dropped: usize) {
        (self.in_step, self.between) = (true, layout.between);
        self.stats.dropped_bytes += dropped as u64;
    }

    /// Hands on the packet at the beginning of the carried bytes.
    fn emit_carry(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> bool {
        let mut carry = std::mem::take(&mut self.carry);
        let emitted = self.emit(&carry, sink);
        if emitted {
            carry.drain(..PACKET_LEN);
        }
        self.carry = carry;
        emitted
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

/// Where packets seem to begin one after the other, and how they follow each other.
fn step(bytes: &[u8]) -> Option<(usize, Layout)> {
    let begins = |from: &[u8], layout: &Layout| {
        let distance = PACKET_LEN + layout.between;
        (1..layout.proof).all(|n| from.get(n * distance) == Some(&SYNC_BYTE))
    };
    let syncs = bytes.iter().enumerate().filter(|(_, byte)| **byte == SYNC_BYTE);
    syncs.map(|(at, _)| at).find_map(|at| {
        let from = bytes.get(at..)?;
        Some((at, *LAYOUTS.iter().find(|layout| begins(from, layout))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * PACKET_LEN];
        bytes.chunks_mut(PACKET_LEN).for_each(|packet| packet[0] = SYNC_BYTE);
        bytes
    }

    fn fed(bytes: &[u8], piece: usize) -> Aligner {
        let mut aligner = Aligner::default();
        bytes.chunks(piece).for_each(|piece| aligner.feed(piece, &mut |_| {}));
        aligner
    }

    #[test]
    fn every_byte_is_in_a_packet_or_counted_as_dropped_however_it_is_cut() {
        let mut bytes =
            [vec![0; 700], packets(5), vec![1; 10], packets(4), vec![2; 400], packets(3)].concat();
        bytes.extend([SYNC_BYTE; 40]);
        let whole = fed(&bytes, bytes.len()).finish();
        assert_eq!(whole.losses, 2);
        assert_eq!(whole.packets * PACKET_LEN as u64 + whole.dropped_bytes, bytes.len() as u64);
        for piece in 1..800 {
            assert_eq!(fed(&bytes, piece).finish(), whole, "pieces of {piece}");
        }
    }

    #[test]
    fn what_stands_between_packets_is_passed_over_however_it_is_cut() {
        for (before, behind) in [(4, 0), (0, 16), (0, 4), (16, 0)] {
            let numbered = (0..40_u8).flat_map(|n| {
                let mut packet = packets(1);
                packet[1] = n;
                [vec![0x11; before], packet, vec![0x22; behind]].concat()
            });
            let bytes: Vec<u8> = numbered.collect();
            for piece in (1..900).chain([bytes.len()]) {
                let (mut aligner, mut found) = (Aligner::default(), Vec::new());
                let mut sink = |packet: Packet<'_>| found.push(packet.bytes()[1]);
                bytes.chunks(piece).for_each(|piece| aligner.feed(piece, &mut sink));
                assert!(found.iter().copied().eq(0..40), "{before} {behind} in pieces of {piece}: {found:?}");
                assert_eq!(aligner.stats().losses, 0);
                assert_eq!(aligner.finish().dropped_bytes, before as u64);
            }
        }
    }

    #[test]
    fn a_recorder_may_begin_and_cease_to_write_between_packets() {
        let timed = |count: usize| [vec![0x11; 4], packets(1)].concat().repeat(count);
        let bytes = [packets(9), timed(9), packets(9), timed(9)].concat();
        for piece in 1..800 {
            let seen = fed(&bytes, piece).finish();
            // One is lost where nothing stands behind it any more.
            assert_eq!((seen.packets, seen.losses), (35, 3), "pieces of {piece}");
        }
    }

    #[test]
    fn little_is_kept_of_a_long_push_that_loses_step_all_the_time() {
        let bytes: Vec<u8> = (0..2000).flat_map(|_| [packets(3), vec![0; 7]].concat()).collect();
        let aligner = fed(&bytes, bytes.len());
        assert_eq!(aligner.stats().packets, 6000);
        assert!(aligner.carry.capacity() <= 4 * UNDECIDED, "{}", aligner.carry.capacity());
    }
}
