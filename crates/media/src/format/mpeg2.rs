//! The sequence header of MPEG-1 and MPEG-2 video and what MPEG-2 adds to it (ITU-T H.262, 6.2.2).
#![warn(clippy::indexing_slicing)]

use super::bits::Bits;
use super::{FrameRate, Picture, Scan};

/// Frame rates by their code, as fractions.
const RATES: [(u64, u64); 8] =
    [(24_000, 1_001), (24, 1), (25, 1), (30_000, 1_001), (30, 1), (50, 1), (60_000, 1_001), (60, 1)];
/// The start code of an extension, and its own number for a sequence's.
const EXTENSION: [u8; 4] = [0, 0, 1, 0xb5];
const SEQUENCE_EXTENSION: u32 = 1;

/// What a header says, from its unit's first byte on, with the extensions behind it.
pub(super) fn picture(unit: &[u8]) -> Option<Picture> {
    let bits = &mut Bits::new(unit.get(1..)?);
    let (width, height) = (bits.number(12)?, bits.number(12)?);
    bits.skip(4)?;
    let code = bits.number(4)?;
    let (times, per) = usize::try_from(code).ok()?.checked_sub(1).and_then(|at| RATES.get(at).copied())?;
    let Some(more) = extension(unit) else {
        return Picture::new(width, height, FrameRate::new(times, per), Scan::Progressive, None);
    };
    let rate = FrameRate::new(times * u64::from(more.times), per * u64::from(more.per));
    Picture::new(width | (more.width << 12), height | (more.height << 12), rate, more.scan, None)
}

/// What only MPEG-2 has.
struct Extension {
    scan: Scan,
    /// The upper two bits of both.
    width: u32,
    height: u32,
    /// Times and parts of the frame rate.
    times: u32,
    per: u32,
}

fn extension(unit: &[u8]) -> Option<Extension> {
    let at = unit.windows(EXTENSION.len()).position(|window| window == EXTENSION)?;
    let bits = &mut Bits::new(unit.get(at + EXTENSION.len()..)?);
    if bits.number(4)? != SEQUENCE_EXTENSION {
        return None;
    }
    bits.skip(8)?;
    let scan = if bits.flag()? { Scan::Progressive } else { Scan::Interlaced };
    bits.skip(2)?;
    let (width, height) = (bits.number(2)?, bits.number(2)?);
    // Bit rate, marker, buffer, delay.
    bits.skip(12 + 1 + 8 + 1)?;
    let (times, per) = (bits.number(2)? + 1, bits.number(5)? + 1);
    Some(Extension { scan, width, height, times, per })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests_support::{bytes, shown};

    #[test]
    fn headers_that_ffmpeg_writes() {
        for (header, expected) in [
            ("b32d024013ffffe018000001b514820001000000", "720x576i 25"),
            ("b30a005a34ffffe018000001b5148a0001000000", "160x90p 29.97"),
            ("b30a006012ffffe018", "160x96p 24"),
            // An extension of another kind, and more than 4095 samples.
            ("b30a006012ffffe018000001b52000", "160x96p 24"),
            ("b300000013ffffe018000001b51482a001000000", "4096x4096i 25"),
        ] {
            let header = bytes(header);
            assert_eq!(picture(&header).map(shown).as_deref(), Some(expected));
            for cut in 0..header.len() {
                let _whatever_is_there = picture(&header[..cut]);
            }
        }
        assert_eq!(picture(&bytes("b32d02401fffffe018")), None, "a frame rate that does not exist");
    }
}
