//! Where a decoder can start, when the multiplexer does not say it.
//!
//! Channels without the random access flag are common. So the beginning of every access unit is read until its kind
//! is clear: the first picture slice decides. Start codes may straddle packets, so the last bytes are carried along.
#![warn(clippy::indexing_slicing)]

use super::psi::Codec;

/// Fixed part of a PES header: start code, stream, length, two bytes of flags and the length of the rest.
const PES_HEADER: usize = 9;

/// What follows the PES header that `payload` begins with.
///
/// The header begins with a start code itself, and the number of the stream behind it would read as a kind of unit.
/// Nothing is left when the header does not end in `payload`: what it holds, time stamps, has no start codes.
pub fn behind_pes_header(payload: &[u8]) -> &[u8] {
    let Some((header, rest)) = payload.split_first_chunk::<PES_HEADER>() else { return &[] };
    let [0, 0, 1, .., length] = *header else { return payload };
    rest.get(usize::from(length)..).unwrap_or_default()
}

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
            _ if self.is_escape(byte) => {}
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

    /// A 3 behind two zeros only keeps them from looking like a start code and is not part of the content.
    fn is_escape(&self, byte: u8) -> bool {
        matches!(self.tail, [_, 0, 0]) && byte == 3
    }

    fn unit(&mut self, first: u8) -> Kind {
        self.pending = Pending::Nothing;
        match self.codec {
            Codec::H264 => self.h264(first & 0x1f),
            Codec::Hevc => hevc((first >> 1) & 0x3f),
            Codec::Mpeg2Video => mpeg2(first),
            Codec::OtherVideo | Codec::Audio | Codec::Other => Kind::Inner,
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

    /// 0xff is only the beginning of a larger type; 0x80 ends the row.
    fn message(&mut self, kind: u8) {
        self.recovery_point |= kind == 6;
        self.pending = match kind {
            0xff => Pending::SeiType,
            0x80 => Pending::Nothing,
            _ => Pending::SeiSize(0),
        };
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
    fn a_message_is_as_long_as_it_says_without_the_bytes_that_only_escape_zeros() {
        let before: [u8; 9] = [0, 0, 1, 0x06, 0, 3, 0, 0, 3];
        for content in [6, 7] {
            // Content 6, were it a type, would be a recovery point.
            let no_recovery = [before.as_slice(), &[content, 0x80]].concat();
            assert_eq!(h264(&[&SPS, &no_recovery, &SLICE]), Kind::Inner, "content {content}");
            let recovery = [before.as_slice(), &[content, 6, 1, 0xc4, 0x80]].concat();
            assert_eq!(h264(&[&SPS, &recovery, &SLICE]), Kind::Start, "content {content}");
        }
    }

    #[test]
    fn the_number_of_a_stream_is_no_unit() {
        for stream in 0xe0..=0xef {
            let pes = [0, 0, 1, stream, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1, 0, 0, 1, 0x09];
            assert_eq!(behind_pes_header(&pes), [0, 0, 1, 0x09]);
            assert!(behind_pes_header(&pes[..12]).is_empty() && behind_pes_header(&pes[..4]).is_empty());
        }
        let no_header = [9; 12];
        assert_eq!(behind_pes_header(&no_header), no_header);
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
