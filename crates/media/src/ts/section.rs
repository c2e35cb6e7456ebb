//! Sections out of the packets that carry them, as the standard lets them be packed (ISO 13818-1, 2.4.4).
//!
//! Several may share a packet, one may take many; the tail of one stands before the pointer of the next; other tables may
//! use the same packets; what follows the last one is stuffing.
#![warn(clippy::indexing_slicing)]

use super::packet::{PACKET_LEN, Packet, Pid, SYNC_BYTE};

/// Longest section of any table, with its three bytes of header. Ours have 1024 at most, but a longer one may stand before
/// them.
const LONGEST: usize = 4096;
/// Table number of stuffing.
const STUFFING: u8 = 0xff;
/// What a packet of a table has room for.
const PAYLOAD: usize = PACKET_LEN - 4;

/// Puts the sections of one stream together.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    bytes: Vec<u8>,
    /// `bytes` begins with a section, or with what will be one.
    is_open: bool,
    /// The last packet that was not the first of something, because it may be sent twice.
    last: Option<Box<[u8; PACKET_LEN]>>,
}

impl Sections {
    /// Hands every section that `packet` completes to `sink`, whole and unchecked.
    pub fn take(&mut self, packet: Packet<'_>, mut sink: impl FnMut(&[u8])) {
        let payload = packet.payload();
        if payload.is_empty() || self.is_repeated(packet) {
            return;
        }
        if !packet.starts_unit() {
            return self.append(payload, &mut sink);
        }
        let Some((pointer, rest)) = payload.split_first() else { return };
        let Some((tail, head)) = rest.split_at_checked(usize::from(*pointer)) else { return self.close() };
        self.append(tail, &mut sink);
        self.bytes.clear();
        self.is_open = true;
        self.append(head, &mut sink);
    }

    /// A packet may be sent twice. One that begins with a section does no harm the second time, and some multiplexers never
    /// count on, so that all of theirs are alike.
    fn is_repeated(&mut self, packet: Packet<'_>) -> bool {
        let begins_with_one = packet.starts_unit() && packet.payload().first() == Some(&0);
        if begins_with_one {
            self.last = None;
            return false;
        }
        let is_repeated = self.last.as_deref() == Some(packet.bytes());
        if !is_repeated {
            match &mut self.last {
                Some(last) => **last = *packet.bytes(),
                None => self.last = Some(Box::new(*packet.bytes())),
            }
        }
        is_repeated
    }

    fn append(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        if !self.is_open {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(section) = self.bytes.get(taken..).and_then(whole) {
            sink(section);
            taken += section.len();
        }
        self.bytes.drain(..taken);
        if self.bytes.first() == Some(&STUFFING) {
            self.close();
        }
    }

    fn close(&mut self) {
        self.bytes.clear();
        self.is_open = false;
    }
}

/// The section that `bytes` begin with, if it is there to its end.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let [id, high, low] = *bytes.first_chunk::<3>()?;
    let length = 3 + usize::from(u16::from_be_bytes([high, low]) & 0x0fff);
    if id == STUFFING { None } else { bytes.get(..length.min(LONGEST)) }
}

/// The packets of one section alone, counted from 0.
pub fn packets_of(pid: Pid, section: &[u8]) -> Vec<u8> {
    let [high, low] = pid.get().to_be_bytes();
    let payload = [&[0], section].concat();
    let mut packets = Vec::with_capacity(payload.len().div_ceil(PAYLOAD) * PACKET_LEN);
    for (part, counter) in payload.chunks(PAYLOAD).zip((0..16).cycle()) {
        let begins = if packets.is_empty() { 0x40 } else { 0 };
        packets.extend_from_slice(&[SYNC_BYTE, begins | high, low, 0x10 | counter]);
        packets.extend_from_slice(part);
        packets.resize(packets.len().next_multiple_of(PACKET_LEN), STUFFING);
    }
    packets
}

const POLYNOMIAL: u32 = 0x04c1_1db7;

/// What each byte does to the checksum.
const CRC_OF: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        // A byte is less than 256.
        #[expect(clippy::cast_possible_truncation, reason = "const code has no other conversion")]
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "const code, checked by the loop")]
        {
            table[byte] = crc;
        }
        byte += 1;
    }
    table
};

/// CRC-32 of MPEG-2; over a section with its checksum it is 0.
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let [first, ..] = crc.to_be_bytes();
        let of_byte = CRC_OF.get(usize::from(first ^ byte)).copied().unwrap_or_default();
        (crc << 8) ^ of_byte
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn section(id: u8, length: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(length - 3).unwrap().to_be_bytes();
        let mut section = vec![id, 0xb0 | high, low];
        section.extend((3..length).map(|at| u8::try_from(at % 251).unwrap()));
        section
    }

    /// All of them back to back in as few packets as it takes, with pointers as the standard has them.
    fn packed(sections: &[Vec<u8>]) -> Vec<[u8; PACKET_LEN]> {
        let bytes = sections.concat();
        let begins: Vec<usize> =
            sections.iter().scan(0, |at, section| Some(std::mem::replace(at, *at + section.len()))).collect();
        let (mut packets, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let begin = begins.iter().find(|begin| (at..at + PAYLOAD - 1).contains(*begin));
            let mut packet = vec![SYNC_BYTE, if begin.is_some() { 0x40 } else { 0 }, 0x30, 0x10];
            packet[3] |= u8::try_from(packets.len() % 16).unwrap();
            packet.extend(begin.map(|begin| u8::try_from(begin - at).unwrap()));
            let end = bytes.len().min(at + PACKET_LEN - packet.len());
            packet.extend_from_slice(&bytes[at..end]);
            packet.resize(PACKET_LEN, STUFFING);
            packets.push(packet.try_into().unwrap());
            at = end;
        }
        packets
    }

    fn read(packets: &[[u8; PACKET_LEN]]) -> Vec<Vec<u8>> {
        let (mut sections, mut found) = (Sections::default(), Vec::new());
        for packet in packets {
            sections.take(Packet::parse(packet).unwrap(), |section| found.push(section.to_vec()));
        }
        found
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
        let section = [0x00, 0xb0, 0x0d, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0];
        assert_eq!(crc32(&[&section[..], &crc32(&section).to_be_bytes()].concat()), 0);
    }

    #[test]
    fn what_stands_before_the_pointer_belongs_to_the_section_before() {
        let sections = [section(2, 212), section(2, 212), section(2, 20)];
        assert_eq!(read(&packed(&sections)), sections);
    }

    #[test]
    fn nothing_begins_behind_stuffing() {
        let mut packet = packed(&[section(2, 20)])[0];
        packet[30..33].copy_from_slice(&[2, 0xb0, 5]);
        assert_eq!(read(&[packet]), [section(2, 20)]);
    }

    #[test]
    fn a_pointer_beyond_the_packet_ends_what_was_begun() {
        let long = packed(&[section(2, 300)]);
        let mut wild = long[1];
        (wild[1], wild[4]) = (wild[1] | 0x40, 200);
        assert!(read(&[long[0], wild, long[1]]).is_empty());
    }

    #[test]
    fn a_section_alone_is_packed_as_multiplexers_do() {
        let long = section(2, 400);
        let packets = packets_of(Pid::new(0x30), &long);
        assert_eq!(packets, packed(std::slice::from_ref(&long)).concat());
    }

    proptest! {
        #[test]
        fn sections_are_read_however_they_are_packed_and_whether_packets_come_twice(
            lengths in prop::collection::vec((0..=0xfe_u8, 3..=LONGEST), 1..12),
            times in 1..3_usize,
        ) {
            let sections: Vec<_> = lengths.iter().map(|(id, length)| section(*id, *length)).collect();
            let packets = packed(&sections);
            // One that begins with a section may be read twice; then there is a section more.
            let twice = |packet: &[u8; PACKET_LEN]| if packet[1] & 0x40 != 0 && packet[4] == 0 { 1 } else { times };
            let sent: Vec<_> = packets.iter().flat_map(|packet| vec![*packet; twice(packet)]).collect();
            prop_assert_eq!(read(&sent), sections);
        }

        #[test]
        fn arbitrary_packets_do_no_harm(payloads in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 184)), 0..40)) {
            let (mut sections, mut most) = (Sections::default(), 0);
            for (begins, payload) in payloads {
                let mut packet = vec![SYNC_BYTE, u8::from(begins) << 6, 0x30, 0x10];
                packet.extend(payload);
                sections.take(Packet::parse(&packet).unwrap(), |section| most = most.max(section.len()));
                prop_assert!(sections.bytes.len() <= LONGEST + PACKET_LEN);
            }
            prop_assert!(most <= LONGEST);
        }
    }
}
