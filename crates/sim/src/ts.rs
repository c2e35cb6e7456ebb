//! The few facts about MPEG-TS packets that a simulator needs: where clocks and counters stand and how tables are made.
//!
//! Written apart from the `media` crate on purpose: a fake that shared its parser with the program under test would
//! share its mistakes too.

/// Bytes in a transport packet.
pub const PACKET_LEN: usize = 188;
/// First byte of every transport packet.
pub const SYNC_BYTE: u8 = 0x47;
/// Ticks of the 90 kHz clock before it starts again.
pub const CLOCK_WRAP: u64 = 1 << 33;
/// Ticks of the 27 MHz clock before it starts again.
pub const PCR_WRAP: u64 = CLOCK_WRAP * 300;
/// The PID of stuffing.
pub const NULL_PID: u16 = 0x1fff;

/// One transport packet.
pub type Packet = [u8; PACKET_LEN];

/// The packet's PID.
pub fn pid(packet: &Packet) -> u16 {
    u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2])
}

/// Whether a PES packet or a section starts in this packet.
pub fn unit_starts(packet: &Packet) -> bool {
    packet[1] & 0x40 != 0
}

/// Whether the packet carries payload (and so advances its continuity counter).
pub fn has_payload(packet: &Packet) -> bool {
    packet[3] & 0x10 != 0
}

/// The 4-bit continuity counter.
pub fn continuity(packet: &Packet) -> u8 {
    packet[3] & 0x0f
}

/// The flags of the adaptation field, 0 without one.
pub fn adaptation_flags(packet: &Packet) -> u8 {
    if packet[3] & 0x20 != 0 && packet[4] > 0 { packet[5] } else { 0 }
}

/// Whether the packet announces a discontinuity.
pub fn discontinuity(packet: &Packet) -> bool {
    adaptation_flags(packet) & 0x80 != 0
}

/// Whether decoding may begin at this packet.
pub fn random_access(packet: &Packet) -> bool {
    adaptation_flags(packet) & 0x40 != 0
}

/// The packet's PCR in 27 MHz ticks.
pub fn pcr(packet: &Packet) -> Option<u64> {
    let field = (adaptation_flags(packet) & 0x10 != 0).then(|| &packet[6..12])?;
    let base = field[..4].iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) << 1
        | u64::from(field[4] >> 7);
    Some(base * 300 + (u64::from(field[4] & 1) << 8 | u64::from(field[5])))
}

/// Offset of the payload; `PACKET_LEN` when there is none.
pub fn payload_offset(packet: &Packet) -> usize {
    match packet[3] & 0x30 {
        0x10 => 4,
        0x30 => (5 + usize::from(packet[4])).min(PACKET_LEN),
        _ => PACKET_LEN,
    }
}

/// Offsets of PTS and DTS when a PES packet with clocks starts in this packet.
pub fn clock_offsets(packet: &Packet) -> (Option<usize>, Option<usize>) {
    let start = payload_offset(packet);
    let pes = &packet[start..];
    if !unit_starts(packet) || pes.len() < 19 || pes[..3] != [0, 0, 1] || pes[6] & 0xc0 != 0x80 {
        return (None, None);
    }
    let flags = pes[7] >> 6;
    ((flags & 2 != 0).then_some(start + 9), (flags == 3).then_some(start + 14))
}

/// Reads the 33-bit clock at `at`.
pub fn read_clock(packet: &Packet, at: usize) -> u64 {
    let field = &packet[at..at + 5];
    u64::from(field[0] >> 1 & 7) << 30
        | u64::from(field[1]) << 22
        | u64::from(field[2] >> 1) << 15
        | u64::from(field[3]) << 7
        | u64::from(field[4] >> 1)
}

/// Writes the 33-bit clock at `at`, keeping its marker and prefix bits.
pub(crate) fn write_clock(packet: &mut Packet, at: usize, ticks: u64) {
    let bytes = (ticks % CLOCK_WRAP).to_be_bytes();
    let ticks = u64::from_be_bytes(bytes);
    packet[at] = packet[at] & 0xf0 | 1 | low_byte(ticks >> 29) & 0x0e;
    packet[at + 1] = low_byte(ticks >> 22);
    packet[at + 2] = low_byte(ticks >> 14) | 1;
    packet[at + 3] = low_byte(ticks >> 7);
    packet[at + 4] = low_byte(ticks << 1) | 1;
}

/// Writes a PCR of `ticks` (27 MHz) into an adaptation field that has room for one.
pub(crate) fn write_pcr(packet: &mut Packet, ticks: u64) {
    let (base, extension) = (ticks % PCR_WRAP / 300, ticks % 300);
    packet[6] = low_byte(base >> 25);
    packet[7] = low_byte(base >> 17);
    packet[8] = low_byte(base >> 9);
    packet[9] = low_byte(base >> 1);
    packet[10] = low_byte(base << 7) & 0x80 | 0x7e | low_byte(extension >> 8) & 1;
    packet[11] = low_byte(extension);
}

/// Sets the continuity counter.
pub(crate) fn write_continuity(packet: &mut Packet, counter: u8) {
    packet[3] = packet[3] & 0xf0 | counter & 0x0f;
}

/// Stuffing.
pub(crate) fn null_packet() -> Packet {
    let mut packet = [0xff; PACKET_LEN];
    packet[..4].copy_from_slice(&[SYNC_BYTE, 0x1f, 0xff, 0x10]);
    packet
}

/// A packet on `pid` that holds one whole section (`body` begins with its table id and lacks only the CRC).
pub fn section_packet(pid: u16, body: &[u8]) -> Packet {
    let mut packet = [0xff; PACKET_LEN];
    let [high, low] = pid.to_be_bytes();
    packet[..5].copy_from_slice(&[SYNC_BYTE, 0x40 | high, low, 0x10, 0]);
    packet[5..5 + body.len()].copy_from_slice(body);
    packet[5 + body.len()..9 + body.len()].copy_from_slice(&section_crc(body).to_be_bytes());
    packet
}

fn section_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 }
        })
    })
}

/// The lowest eight bits.
pub(crate) fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_read_as_written_over_their_whole_range() {
        let mut packet = [0; PACKET_LEN];
        packet[..8].copy_from_slice(&[SYNC_BYTE, 0x41, 0, 0x30, 7, 0x10, 0, 0]);
        for ticks in [0, 1, 299, 300, 27_000_000, PCR_WRAP - 1] {
            write_pcr(&mut packet, ticks);
            assert_eq!(pcr(&packet), Some(ticks));
            write_clock(&mut packet, 20, ticks / 300);
            assert_eq!(read_clock(&packet, 20), ticks / 300);
        }
    }

    #[test]
    fn a_section_with_its_crc_has_the_crc_zero() {
        let packet = section_packet(0, &[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0]);
        assert_eq!(section_crc(&packet[5..21]), 0);
    }
}
