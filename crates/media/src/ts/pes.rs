//! The header of a PES packet: where the elementary stream goes on behind it, and when it is to be decoded.
#![warn(clippy::indexing_slicing)]

use crate::clock::Pcr;

/// Fixed part of the header: start code, stream, length, two bytes of flags and the length of the rest.
const FIXED: usize = 9;
/// Ticks of the program clock in one of a time stamp's.
const TICKS: u64 = 300;

/// What follows the PES header that `payload` begins with.
///
/// The header begins with a start code itself, and the number of the stream behind it would read as a kind of unit.
/// Nothing is left when the header does not end in `payload`: what it holds, time stamps, has no start codes.
pub fn behind_pes_header(payload: &[u8]) -> &[u8] {
    let Some((header, rest)) = payload.split_first_chunk::<FIXED>() else { return &[] };
    let [0, 0, 1, .., length] = *header else { return payload };
    rest.get(usize::from(length)..).unwrap_or_default()
}

/// When what begins with `payload` is to be decoded, or shown where that is the same.
pub fn decoding_time(payload: &[u8]) -> Option<Pcr> {
    let (header, rest) = payload.split_first_chunk::<FIXED>()?;
    let [0, 0, 1, _, _, _, marker, flags, _] = *header else { return None };
    let stamp = match (marker >> 6, flags >> 6) {
        (2, 2) => rest.first_chunk::<5>(),
        (2, 3) => rest.get(5..)?.first_chunk::<5>(),
        _ => None,
    }?;
    let bits = stamp.map(u64::from);
    let [upper, _, middle, _, lower] = bits;
    // Three parts of 3, 15 and 15 bits, each with a marker behind it.
    let is_marked = upper & middle & lower & 1 == 1;
    let ticks =
        (((upper >> 1) & 7) << 30) | (bits[1] << 22) | ((middle >> 1) << 15) | (bits[3] << 7) | (lower >> 1);
    is_marked.then(|| Pcr::from_ticks(ticks * TICKS))
}

/// A header for `stream` of the same time as that of `payload`, and of any length.
pub(crate) fn header_like(payload: &[u8]) -> Vec<u8> {
    const WITHOUT_TIME: [u8; FIXED] = [0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0];
    let Some((fixed, rest)) = payload.split_first_chunk::<FIXED>() else { return WITHOUT_TIME.to_vec() };
    let [0, 0, 1, stream, _, _, marker, flags, _] = *fixed else { return WITHOUT_TIME.to_vec() };
    let stamps = match flags >> 6 {
        2 => rest.get(..5),
        3 => rest.get(..10),
        _ => None,
    };
    let stamps = stamps.unwrap_or_default();
    let flags = if stamps.is_empty() { 0 } else { flags & 0xc0 };
    let length = u8::try_from(stamps.len()).unwrap_or_default();
    [&[0, 0, 1, stream, 0, 0, marker & 0xc0, flags, length], stamps].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_time_of_decoding_is_read_where_there_is_one() {
        let shown = [0x31, 0x00, 0x09, 0x00, 0x01];
        let decoded = [0x11, 0x00, 0x01, 0x2c, 0x01];
        let with = |flags: u8, stamps: &[u8]| {
            let head = [0, 0, 1, 0xe0, 0, 0, 0x80, flags, 10];
            decoding_time(&[&head[..], stamps, &[9; 4]].concat()).map(|time| time.ticks() / TICKS)
        };
        let both = [shown, decoded].concat();
        assert_eq!(with(0xc0, &both), Some(0x2c << 7));
        assert_eq!(with(0x80, &both), Some(4 << 15));
        assert_eq!(with(0x00, &both), None);
        assert_eq!(with(0xc0, &[0; 10]), None, "without its markers");
        assert_eq!(with(0xc0, &both[..1]), None, "cut off");
    }

    #[test]
    fn a_header_of_our_own_has_the_time_and_nothing_else() {
        let pes = [0, 0, 1, 0xe3, 1, 2, 0x84, 0x81, 8, 0x21, 0, 1, 0, 1, 7, 7, 7, 0, 0, 1];
        assert_eq!(header_like(&pes), [0, 0, 1, 0xe3, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1]);
        assert_eq!(header_like(&pes[..12]), [0, 0, 1, 0xe3, 0, 0, 0x80, 0, 0]);
        assert_eq!(header_like(&[9; 30]), [0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0]);
    }
}
