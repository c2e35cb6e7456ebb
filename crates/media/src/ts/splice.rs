//! Packets of our own: what a reader must be told before it goes on somewhere else in the stream.

use bytes::Bytes;

use super::packet::{PACKET_LEN, Packet, Pid, SYNC_BYTE};
use super::psi::packets;

/// A packet without payload that announces a jump of continuity and clock on `pid`.
///
/// A packet without payload does not count, so it carries the counter of the packet before: one less than `next`.
pub fn discontinuity(pid: Pid, next: u8) -> [u8; PACKET_LEN] {
    let [high, low] = pid.get().to_be_bytes();
    let mut packet = [0xff; PACKET_LEN];
    packet[..6].copy_from_slice(&[SYNC_BYTE, high, low, 0x20 | (next.wrapping_sub(1) & 0x0f), 183, 0x80]);
    packet
}

/// A packet of stuffing.
pub fn null_packet() -> [u8; PACKET_LEN] {
    let [high, low] = Pid::NULL.get().to_be_bytes();
    let mut packet = [0xff; PACKET_LEN];
    packet[..4].copy_from_slice(&[SYNC_BYTE, high, low, 0x10]);
    packet
}

/// What a place in a stream needs before it.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Raw packets of the last PAT and of the last PMT.
    pub tables: (&'a [u8], &'a [u8]),
    /// The next continuity counter of each stream, the tables' included.
    pub next: &'a [(Pid, u8)],
}

impl Before<'_> {
    /// PAT and PMT as they were sent last, so that their counters run on into the stream.
    pub fn join(&self) -> Bytes {
        Bytes::from(self.numbered_tables().concat())
    }

    /// The same, with every stream's jump announced.
    pub fn skip(&self) -> Bytes {
        let tables = self.numbered_tables();
        let mut bytes = Vec::new();
        for table in &tables {
            if let Some(first) = packets(table).next() {
                bytes.extend_from_slice(&discontinuity(first.pid(), first.continuity()));
            }
            bytes.extend_from_slice(table);
        }
        let is_table = |pid| tables.iter().any(|table| pid_of(table) == Some(pid));
        for (pid, next) in self.next.iter().filter(|(pid, _)| !is_table(*pid)) {
            bytes.extend_from_slice(&discontinuity(*pid, *next));
        }
        Bytes::from(bytes)
    }

    fn numbered_tables(&self) -> [Vec<u8>; 2] {
        let (pat, pmt) = self.tables;
        [self.numbered(pat), self.numbered(pmt)]
    }

    /// The packets of `table` with counters that run on into the stream. They have these already unless something
    /// came after them that is not a whole table: a damaged one, or the first half of the next.
    fn numbered(&self, table: &[u8]) -> Vec<u8> {
        let mut table = table.to_vec();
        let known = self.next.iter().find(|(pid, _)| pid_of(&table) == Some(*pid));
        if let Some((_, next)) = known {
            let counters = (1..=16_u8).cycle().map(|back| next.wrapping_sub(back) & 0x0f);
            for (packet, counter) in table.chunks_exact_mut(PACKET_LEN).rev().zip(counters) {
                packet[3] = (packet[3] & 0xf0) | counter;
            }
        }
        table
    }
}

fn pid_of(table: &[u8]) -> Option<Pid> {
    packets(table).next().map(Packet::pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_announced_without_counting() {
        let bytes = discontinuity(Pid::new(0x101), 0);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.pid(), Pid::new(0x101));
        assert_eq!(packet.continuity(), 15);
        assert!(packet.is_discontinuity() && !packet.has_payload() && !packet.is_random_access());
        assert_eq!(packet.pcr(), None);
    }

    #[test]
    fn stuffing_is_stuffing() {
        let bytes = null_packet();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.pid(), Pid::NULL);
        assert!(!packet.starts_unit());
    }
}
