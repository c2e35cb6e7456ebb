//! A view of one 188-byte packet. Nothing is copied; fields are read when asked for.

use crate::clock::Pcr;

/// Bytes of a packet.
pub const PACKET_LEN: usize = 188;
/// First byte of every packet.
pub const SYNC_BYTE: u8 = 0x47;

/// Which stream inside the multiplex a packet belongs to, 0–0x1fff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(u16);

impl Pid {
    /// Program association table.
    pub const PAT: Self = Self(0);
    /// Stuffing.
    pub const NULL: Self = Self(0x1fff);
    /// How many there are.
    pub const COUNT: usize = 0x2000;

    /// The low 13 bits of `value`.
    pub const fn new(value: u16) -> Self {
        Self(value & 0x1fff)
    }

    /// As a number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// As an index into a table of [`Pid::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One packet that begins with the sync byte.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a>(&'a [u8; PACKET_LEN]);

impl<'a> Packet<'a> {
    /// The packet at the beginning of `bytes`, if there is one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let packet = bytes.first_chunk::<PACKET_LEN>()?;
        (packet[0] == SYNC_BYTE).then_some(Self(packet))
    }

    /// All 188 bytes.
    pub fn bytes(self) -> &'a [u8; PACKET_LEN] {
        self.0
    }

    /// Its stream.
    pub fn pid(self) -> Pid {
        Pid::new(u16::from_be_bytes([self.0[1], self.0[2]]))
    }

    /// Whether the demodulator marked it as damaged.
    pub fn is_damaged(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Whether a PES packet or a section begins in it.
    pub fn starts_unit(self) -> bool {
        self.0[1] & 0x40 != 0
    }

    /// Whether it says that its payload is scrambled.
    pub fn is_scrambled(self) -> bool {
        self.0[3] & 0xc0 != 0
    }

    /// Whether its payload is scrambled, as far as that can be seen. Descramblers leave the bits behind, and other readers
    /// do not look at them: where a PES packet begins its start code is there to be read, or it is not.
    pub fn hides_its_unit(self) -> bool {
        self.is_scrambled() && !(self.starts_unit() && self.payload().starts_with(&[0, 0, 1]))
    }

    /// Continuity counter, 0–15.
    pub fn continuity(self) -> u8 {
        self.0[3] & 0x0f
    }

    /// Whether it carries payload. Only such packets count in the continuity.
    pub fn has_payload(self) -> bool {
        self.0[3] & 0x10 != 0
    }

    /// What follows header and adaptation field.
    pub fn payload(self) -> &'a [u8] {
        let start = if self.has_adaptation() { 5 + usize::from(self.0[4]) } else { 4 };
        if self.has_payload() { self.0.get(start..).unwrap_or_default() } else { &[] }
    }

    /// Whether a decoder can start here, as the multiplexer says.
    pub fn is_random_access(self) -> bool {
        self.adaptation_flags() & 0x40 != 0
    }

    /// Whether continuity and clock may jump here.
    pub fn is_discontinuity(self) -> bool {
        self.adaptation_flags() & 0x80 != 0
    }

    /// The clock value it carries.
    pub fn pcr(self) -> Option<Pcr> {
        let field = self.adaptation()?;
        if self.adaptation_flags() & 0x10 == 0 {
            return None;
        }
        let bytes = field.get(1..)?.first_chunk::<6>()?;
        Some(Pcr::from_bytes(*bytes))
    }

    fn has_adaptation(self) -> bool {
        self.0[3] & 0x20 != 0
    }

    /// The adaptation field without its length byte.
    fn adaptation(self) -> Option<&'a [u8]> {
        let field = self.0.get(5..5 + usize::from(self.0[4]))?;
        (self.has_adaptation() && !field.is_empty()).then_some(field)
    }

    fn adaptation_flags(self) -> u8 {
        self.adaptation().and_then(|field| field.first().copied()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(header: [u8; 4], rest: &[u8]) -> [u8; PACKET_LEN] {
        let mut bytes = [0xff; PACKET_LEN];
        bytes[..4].copy_from_slice(&header);
        bytes[4..4 + rest.len()].copy_from_slice(rest);
        bytes
    }

    #[test]
    fn header_fields_are_read_where_the_standard_puts_them() {
        let bytes = packet([0x47, 0x41, 0x00, 0x9b], &[]);
        let view = Packet::parse(&bytes).unwrap();
        assert_eq!(view.pid(), Pid::new(0x100));
        assert!(view.starts_unit() && view.has_payload() && view.is_scrambled());
        assert_eq!(view.continuity(), 11);
        assert_eq!(view.payload().len(), 184);
    }

    #[test]
    fn the_clock_is_read_with_base_and_extension() {
        let bytes = packet([0x47, 0x01, 0x00, 0x30], &[7, 0x50, 0, 0, 0, 0, 0x80 | 0x7e, 5]);
        let view = Packet::parse(&bytes).unwrap();
        assert_eq!(view.pcr(), Some(Pcr::from_ticks(300 + 5)));
        assert!(view.is_random_access() && !view.is_discontinuity());
        assert_eq!(view.payload().len(), 176);
    }

    #[test]
    fn lengths_that_lie_give_nothing_instead_of_a_panic() {
        let bytes = packet([0x47, 0x01, 0x00, 0x30], &[255, 0xff]);
        let view = Packet::parse(&bytes).unwrap();
        assert!(view.payload().is_empty());
        assert_eq!(view.pcr(), None);
        assert!(Packet::parse(&bytes[..187]).is_none());
        assert!(Packet::parse(&[0; PACKET_LEN]).is_none());
    }
}
