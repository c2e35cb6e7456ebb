//! Packets of our own: what a reader must be told before it goes on somewhere else in the stream.

use bytes::{BufMut, Bytes, BytesMut};

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
    /// The next continuity counter of each stream.
    pub next: &'a [(Pid, u8)],
}

impl Before<'_> {
    /// PAT and PMT as they were sent last, so that their counters run on into the stream.
    pub fn join(&self) -> Bytes {
        Bytes::from([self.tables.0, self.tables.1].concat())
    }

    /// The same, with every stream's jump announced.
    pub fn skip(&self) -> Bytes {
        let (pat, pmt) = self.tables;
        let packets_needed = self.next.len() + 2;
        let mut bytes = BytesMut::with_capacity(pat.len() + pmt.len() + packets_needed * PACKET_LEN);
        for table in [pat, pmt] {
            if let Some(first) = packets(table).next() {
                bytes.put_slice(&announce(first));
            }
            bytes.put_slice(table);
        }
        for (pid, next) in self.next {
            bytes.put_slice(&discontinuity(*pid, *next));
        }
        bytes.freeze()
    }
}

fn announce(first: Packet<'_>) -> [u8; PACKET_LEN] {
    discontinuity(first.pid(), first.continuity())
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
