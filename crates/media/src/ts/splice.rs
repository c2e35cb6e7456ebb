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
    /// Raw packets of the parameter sets that the place does not bring itself; none where it does.
    pub sets: &'a [u8],
    /// The next continuity counter of each stream, the tables' included.
    pub next: &'a [(Pid, u8)],
}

impl Before<'_> {
    /// PAT, PMT and parameter sets as they were sent last, so that their counters run on into the stream.
    pub fn join(&self) -> Bytes {
        Bytes::from(self.numbered_packets().concat())
    }

    /// The same, with every stream's jump announced.
    pub fn skip(&self) -> Bytes {
        let sent = self.numbered_packets();
        let mut bytes = Vec::new();
        for packets_of_one in &sent {
            if let Some(first) = packets(packets_of_one).next() {
                bytes.extend_from_slice(&discontinuity(first.pid(), first.continuity()));
            }
            bytes.extend_from_slice(packets_of_one);
        }
        let is_sent = |pid| sent.iter().any(|sent| pid_of(sent) == Some(pid));
        for (pid, next) in self.next.iter().filter(|(pid, _)| !is_sent(*pid)) {
            bytes.extend_from_slice(&discontinuity(*pid, *next));
        }
        Bytes::from(bytes)
    }

    fn numbered_packets(&self) -> [Vec<u8>; 3] {
        let (pat, pmt) = self.tables;
        [pat, pmt, self.sets].map(|packets| self.numbered(packets))
    }

    /// The packets of one stream with counters that run on into it.
    fn numbered(&self, packets: &[u8]) -> Vec<u8> {
        let mut numbered = packets.to_vec();
        let known = self.next.iter().find(|(pid, _)| pid_of(packets) == Some(*pid));
        if let Some((_, next)) = known {
            let counters = (1..=16_u8).cycle().map(|back| next.wrapping_sub(back) & 0x0f);
            for (packet, counter) in numbered.chunks_exact_mut(PACKET_LEN).rev().zip(counters) {
                packet[3] = (packet[3] & 0xf0) | counter;
            }
        }
        numbered
    }
}

/// A PES packet of `content` behind `header`, in packets of the stream `pid` that are counted from 0.
pub fn pes_packets(pid: Pid, header: &[u8], content: &[u8]) -> Vec<u8> {
    const PAYLOAD: usize = PACKET_LEN - 4;
    let [high, low] = pid.get().to_be_bytes();
    let mut packets = Vec::new();
    for (part, counter) in [header, content].concat().chunks(PAYLOAD).zip((0..16).cycle()) {
        let begins = if packets.is_empty() { 0x40 } else { 0 };
        // Stuffing of an elementary stream is an adaptation field without anything in it.
        let stuffing = PAYLOAD - part.len();
        let control = if stuffing > 0 { 0x30 } else { 0x10 };
        packets.extend_from_slice(&[SYNC_BYTE, begins | high, low, control | counter]);
        if let Some(length) = stuffing.checked_sub(1).and_then(|length| u8::try_from(length).ok()) {
            packets.push(length);
            packets.extend((0..length).map(|at| if at == 0 { 0 } else { 0xff }));
        }
        packets.extend_from_slice(part);
    }
    packets
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
    fn a_pes_packet_of_any_length_fills_its_packets() {
        for length in 0..600 {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 256).unwrap()).collect();
            let written = pes_packets(Pid::new(0x100), &[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0], &content);
            let read: Vec<u8> =
                packets(&written).flat_map(|packet| packet.payload().iter().copied()).collect();
            assert_eq!(read[9..], content);
            assert_eq!(written.len() % PACKET_LEN, 0);
            assert!(packets(&written).skip(1).all(|packet| !packet.starts_unit()));
            assert!(packets(&written).all(|packet| !packet.is_random_access() && packet.pcr().is_none()));
        }
    }

    #[test]
    fn stuffing_is_stuffing() {
        let bytes = null_packet();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.pid(), Pid::NULL);
        assert!(!packet.starts_unit());
    }
}
