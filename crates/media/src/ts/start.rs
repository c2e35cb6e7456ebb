//! Where a decoder can start, when the multiplexer does not say it.
//!
//! Channels without the random access flag are common. So the beginning of every access unit is read until its kind
//! is clear: the first picture slice decides. Start codes may straddle packets, so the last bytes are carried along.
#![warn(clippy::indexing_slicing)]

use super::psi::Codec;

/// What an access unit has turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not clear yet.
    Unclear,
    /// A decoder can start here.
    Start,
    /// It needs pictures before it.
    Inner,
}

/// Reads one access unit from its beginning.
#[derive(Clone, Debug)]
pub struct UnitScan {
    codec: Codec,
    /// The last bytes seen, so that a start code across two packets is found.
    tail: [u8; 3],
    parameter_sets: bool,
    recovery_point: bool,
    /// What the next byte is.
    pending: Pending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    UnitType,
    /// A unit of supplemental information is a row of messages: type, size, content.
    SeiType,
    SeiSize(usize),
    SeiContent(usize),
}

impl UnitScan {
    /// A scan of an access unit of `codec` that begins with the next bytes.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            tail: [0xff; 3],
            parameter_sets: false,
            recovery_point: false,
            pending: Pending::Nothing,
        }
    }

    /// Reads on; the verdict is final once it is clear.
    pub fn read(&mut self, bytes: &[u8]) -> Kind {
        for byte in bytes {
            let verdict = self.byte(*byte);
            if verdict != Kind::Unclear {
                return verdict;
            }
        }
        Kind::Unclear
    }

    fn byte(&mut self, byte: u8) -> Kind {
        let mut verdict = Kind::Unclear;
        match self.pending {
            Pending::Nothing => {}
            Pending::UnitType => verdict = self.unit(byte),
            Pending::SeiType => self.message(byte),
            Pending::SeiSize(size) => self.message_size(size, byte),
            Pending::SeiContent(left) => self.pending = content(left - 1),
        }
        let [_, second, third] = self.tail;
        self.tail = [second, third, byte];
        if self.tail == [0, 0, 1] {
            self.pending = Pending::UnitType;
        }
        verdict
    }

    fn unit(&mut self, first: u8) -> Kind {
        self.pending = Pending::Nothing;
        match self.codec {
            Codec::H264 => self.h264(first & 0x1f),
            Codec::Hevc => hevc((first >> 1) & 0x3f),
            Codec::Mpeg2Video => mpeg2(first),
            Codec::Audio | Codec::Other => Kind::Inner,
        }
    }

    fn h264(&mut self, unit: u8) -> Kind {
        match unit {
            5 => return Kind::Start,
            1..=4 if self.recovery_point && self.parameter_sets => return Kind::Start,
            1..=4 => return Kind::Inner,
            6 => self.pending = Pending::SeiType,
            7 => self.parameter_sets = true,
            _ => {}
        }
        Kind::Unclear
    }

    /// Types above 254 have several bytes and are of no interest; 0x80 ends the row.
    fn message(&mut self, kind: u8) {
        self.recovery_point |= kind == 6;
        self.pending = if kind == 0x80 { Pending::Nothing } else { Pending::SeiSize(0) };
    }

    fn message_size(&mut self, size: usize, byte: u8) {
        let size = size + usize::from(byte);
        self.pending = if byte == 0xff { Pending::SeiSize(size) } else { content(size) };
    }
}

fn content(left: usize) -> Pending {
    if left == 0 { Pending::SeiType } else { Pending::SeiContent(left) }
}

fn hevc(unit: u8) -> Kind {
    match unit {
        16..=21 => Kind::Start,
        0..=31 => Kind::Inner,
        _ => Kind::Unclear,
    }
}

fn mpeg2(code: u8) -> Kind {
    match code {
        0xb3 => Kind::Start,
        0x00 => Kind::Inner,
        _ => Kind::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: [u8; 4] = [0, 0, 1, 0x41];
    const IDR: [u8; 4] = [0, 0, 1, 0x65];
    const SPS: [u8; 4] = [0, 0, 1, 0x67];
    /// Buffering period, then recovery point, in one unit.
    const RECOVERY: [u8; 11] = [0, 0, 1, 0x06, 0, 2, 9, 9, 6, 1, 0x80];

    fn h264(units: &[&[u8]]) -> Kind {
        UnitScan::new(Codec::H264).read(&units.concat())
    }

    #[test]
    fn h264_starts_at_an_idr_or_at_a_recovery_point_with_parameter_sets() {
        assert_eq!(h264(&[&SPS, &IDR]), Kind::Start);
        assert_eq!(h264(&[&SPS, &RECOVERY, &SLICE]), Kind::Start);
        assert_eq!(h264(&[&RECOVERY, &SLICE]), Kind::Inner);
        assert_eq!(h264(&[&SPS, &SLICE]), Kind::Inner);
        assert_eq!(h264(&[&SPS]), Kind::Unclear);
    }

    #[test]
    fn hevc_starts_at_random_access_pictures() {
        for unit in 0..32u8 {
            let kind = UnitScan::new(Codec::Hevc).read(&[0, 0, 1, unit << 1, 1]);
            assert_eq!(kind == Kind::Start, (16..=21).contains(&unit), "unit {unit}");
        }
    }

    #[test]
    fn mpeg2_starts_at_a_sequence_header() {
        assert_eq!(UnitScan::new(Codec::Mpeg2Video).read(&[0, 0, 1, 0xb3]), Kind::Start);
        assert_eq!(UnitScan::new(Codec::Mpeg2Video).read(&[0, 0, 1, 0x00]), Kind::Inner);
    }

    #[test]
    fn a_start_code_may_straddle_packets_anywhere() {
        let unit = [SPS.as_slice(), &RECOVERY, &SLICE].concat();
        for cut in 0..unit.len() {
            let mut scan = UnitScan::new(Codec::H264);
            assert_eq!(scan.read(&unit[..cut]), Kind::Unclear);
            assert_eq!(scan.read(&unit[cut..]), Kind::Start, "cut at {cut}");
        }
    }
}
