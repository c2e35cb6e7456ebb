//! The sequence parameter set of H.264 (ITU-T H.264, 7.3.2.1 and E.1.1).
#![warn(clippy::indexing_slicing)]

use super::bits::{Bits, unescaped};
use super::{FrameRate, Picture, Profile, Scan};

/// Profiles that say their chroma format.
const WITH_CHROMA: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// Says of the sample's shape that it is written out.
const EXTENDED_ASPECT: u32 = 255;

/// What a set says, from its unit's first byte on.
pub(super) fn picture(unit: &[u8]) -> Option<Picture> {
    let content = unescaped(unit.get(1..)?);
    let profile = content.first_chunk().copied().map(Profile::H264);
    let bits = &mut Bits::new(&content);
    let chroma = head(bits)?;
    order(bits)?;
    // Reference frames, and whether numbers of frames may be missing.
    bits.golomb()?;
    bits.skip(1)?;
    let (columns, rows) = (bits.golomb()?.checked_add(1)?, bits.golomb()?.checked_add(1)?);
    let scan = if bits.flag()? { Scan::Progressive } else { Scan::Interlaced };
    // Fields or frames macroblock by macroblock; how motion is inferred.
    bits.skip(u32::from(scan == Scan::Interlaced) + 1)?;
    let fields = if scan == Scan::Interlaced { 2 } else { 1 };
    let crop = crop(bits)?;
    let (across, down) = chroma.units();
    let width = columns.checked_mul(16)?.checked_sub(crop.across.checked_mul(across)?)?;
    let height = rows.checked_mul(16 * fields)?.checked_sub(crop.down.checked_mul(down * fields)?)?;
    let rate = if bits.flag()? { rate(bits) } else { None };
    Picture::new(width, height, rate, scan, profile)
}

/// How colour is sampled.
#[derive(Clone, Copy)]
enum Chroma {
    /// None, or each colour as a picture of its own.
    Monochrome,
    Halved,
    HalvedAcross,
    Full,
}

impl Chroma {
    /// Samples across and down that one unit of cropping stands for.
    fn units(self) -> (u32, u32) {
        match self {
            Self::Halved => (2, 2),
            Self::HalvedAcross => (2, 1),
            Self::Monochrome | Self::Full => (1, 1),
        }
    }
}

/// Up to the numbering of frames.
fn head(bits: &mut Bits<'_>) -> Option<Chroma> {
    let profile = bits.number(8)?;
    // Constraints and level, the set's number.
    bits.skip(16)?;
    bits.golomb()?;
    if !WITH_CHROMA.contains(&profile) {
        bits.golomb()?;
        return Some(Chroma::Halved);
    }
    let format = bits.count(3)?;
    let chroma = match format {
        0 => Chroma::Monochrome,
        1 => Chroma::Halved,
        2 => Chroma::HalvedAcross,
        _ if bits.flag()? => Chroma::Monochrome,
        _ => Chroma::Full,
    };
    // Bits per sample of both kinds, whether lossless blocks bypass the transform.
    bits.skip_golombs(2)?;
    bits.skip(1)?;
    if bits.flag()? {
        scaling_lists(bits, if format == 3 { 12 } else { 8 })?;
    }
    bits.golomb()?;
    Some(chroma)
}

fn scaling_lists(bits: &mut Bits<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if bits.flag()? {
            scaling_list(bits, if list < 6 { 16 } else { 64 })?;
        }
    }
    Some(())
}

/// Ends early when the last scale is to be repeated.
fn scaling_list(bits: &mut Bits<'_>, length: usize) -> Option<()> {
    let mut last = 8;
    for _ in 0..length {
        last = (last + bits.signed()?).rem_euclid(256);
        if last == 0 {
            break;
        }
    }
    Some(())
}

/// The order of pictures.
fn order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.count(2)? {
        0 => bits.skip_golombs(1),
        1 => {
            bits.skip(1)?;
            bits.skip_golombs(2)?;
            let cycle = bits.count(255)?;
            bits.skip_golombs(cycle)
        }
        _ => Some(()),
    }
}

/// Units that are cut off, of both sides together.
#[derive(Default)]
pub(super) struct Crop {
    pub(super) across: u32,
    pub(super) down: u32,
}

/// HEVC writes it alike.
pub(super) fn crop(bits: &mut Bits<'_>) -> Option<Crop> {
    if !bits.flag()? {
        return Some(Crop::default());
    }
    let across = bits.golomb()?.checked_add(bits.golomb()?)?;
    let down = bits.golomb()?.checked_add(bits.golomb()?)?;
    Some(Crop { across, down })
}

/// The beginning of the usability information, which HEVC writes alike: shape, overscan, signal, place of colour samples.
pub(super) fn skip_signal(bits: &mut Bits<'_>) -> Option<()> {
    if bits.flag()? && bits.number(8)? == EXTENDED_ASPECT {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? { bits.skip_golombs(2) } else { Some(()) }
}

/// A tick is a field, also where no field is coded.
fn rate(bits: &mut Bits<'_>) -> Option<FrameRate> {
    skip_signal(bits)?;
    if !bits.flag()? {
        return None;
    }
    let (tick, scale) = (bits.number(32)?, bits.number(32)?);
    FrameRate::new(scale.into(), u64::from(tick) * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests_support::{bytes, shown};

    #[test]
    fn sets_that_x264_writes() {
        for (what, set, expected) in [
            ("4:2:2, cropped", "677a0028bce8078044fcb8088000000300800000190f8b1750", "1920x1080i 25"),
            ("10 bit", "676e000ba6cd9428df93016a020404800001f480007530078a14cb", "160x90p 29.97"),
            ("baseline", "6742c00ad9028df93011000003000100000300300f122648", "160x90p 24"),
        ] {
            let set = bytes(set);
            let codec = picture(&set).and_then(|picture| picture.profile).map(|profile| profile.to_string());
            let expected_codec = format!("avc1.{:02x}{:02x}{:02x}", set[1], set[2], set[3]);
            assert_eq!(codec, Some(expected_codec), "{what}");
            assert_eq!(picture(&set).map(shown).as_deref(), Some(expected), "{what}");
            for cut in 0..set.len() {
                let _whatever_is_there = picture(&set[..cut]);
            }
        }
    }
}
