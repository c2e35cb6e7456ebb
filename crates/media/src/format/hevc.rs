//! The sequence parameter set of HEVC (ITU-T H.265, 7.3.2.2 and E.2.1).
#![warn(clippy::indexing_slicing)]

use super::bits::{Bits, unescaped};
use super::h264::{crop, skip_signal};
use super::{FrameRate, Picture, Scan};

/// Most sets of reference pictures, and most pictures of one.
const MOST_SETS: u32 = 64;
const MOST_PICTURES: u32 = 16;
/// Most reference pictures that stay for long.
const MOST_LONG: u32 = 32;
/// Bits of a layer's profile, without its level.
const PROFILE: u32 = 88;
const LEVEL: u32 = 8;

/// What a set says, from its unit's first byte on.
pub(super) fn picture(unit: &[u8]) -> Option<Picture> {
    let content = unescaped(unit.get(2..)?);
    let bits = &mut Bits::new(&content);
    bits.skip(4)?;
    let layers = bits.number(3)?;
    bits.skip(1)?;
    let source = profile(bits, layers)?;
    bits.golomb()?;
    let (across, down) = chroma(bits)?;
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let crop = crop(bits)?;
    let width = width.checked_sub(crop.across.checked_mul(across)?)?;
    let height = height.checked_sub(crop.down.checked_mul(down)?)?;
    let usability = usability(bits, layers).unwrap_or_default();
    // A field is coded as a picture of its own.
    let fields = if usability.fields { 2 } else { 1 };
    let scan = if usability.fields { Scan::Interlaced } else { source };
    let rate = usability
        .timing
        .and_then(|(tick, scale)| FrameRate::new(scale.into(), u64::from(tick) * u64::from(fields)));
    Picture::new(width, height.checked_mul(fields)?, rate, scan)
}

/// What the source was, of the general profile; the layers' own are skipped.
fn profile(bits: &mut Bits<'_>, layers: u32) -> Option<Scan> {
    bits.skip(8 + 32)?;
    let (progressive, interlaced) = (bits.flag()?, bits.flag()?);
    bits.skip(PROFILE - 42 + LEVEL)?;
    let mut described = 0;
    for _ in 0..layers {
        described += if bits.flag()? { PROFILE } else { 0 };
        described += if bits.flag()? { LEVEL } else { 0 };
    }
    if layers > 0 {
        bits.skip(2 * 8_u32.checked_sub(layers)?)?;
    }
    bits.skip(described)?;
    Some(if interlaced && !progressive { Scan::Interlaced } else { Scan::Progressive })
}

/// Samples across and down that one unit of cropping stands for.
fn chroma(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    Some(match bits.count(3)? {
        1 => (2, 2),
        2 => (2, 1),
        3 => {
            bits.skip(1)?;
            (1, 1)
        }
        _ => (1, 1),
    })
}

/// What stands at the end.
#[derive(Default)]
struct Usability {
    /// Every picture is a field.
    fields: bool,
    /// Units in a tick, and units per second.
    timing: Option<(u32, u32)>,
}

/// Reads over all that stands between the picture's size and the usability information.
fn usability(bits: &mut Bits<'_>, layers: u32) -> Option<Usability> {
    bits.skip_golombs(2)?;
    let order_bits = bits.count(12)? + 4;
    let told = if bits.flag()? { layers + 1 } else { 1 };
    bits.skip_golombs(3 * told)?;
    // Sizes of blocks.
    bits.skip_golombs(6)?;
    if bits.flag()? && bits.flag()? {
        scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.skip_golombs(2)?;
        bits.skip(1)?;
    }
    short_references(bits)?;
    if bits.flag()? {
        let count = bits.count(MOST_LONG)?;
        bits.skip(count * (order_bits + 1))?;
    }
    bits.skip(2)?;
    if bits.flag()? { timing(bits) } else { None }
}

fn scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4_u32 {
        let lists = if size == 3 { 2 } else { 6 };
        for _ in 0..lists {
            let written_out = bits.flag()?;
            let scales = if written_out { (1 << (4 + 2 * size)).min(64) } else { 1 };
            bits.skip_golombs(scales + u32::from(written_out && size > 1))?;
        }
    }
    Some(())
}

fn short_references(bits: &mut Bits<'_>) -> Option<()> {
    let sets = bits.count(MOST_SETS)?;
    let mut pictures = 0;
    for set in 0..sets {
        let derived = set > 0 && bits.flag()?;
        pictures = if derived { derived_set(bits, pictures)? } else { whole_set(bits)? };
    }
    Some(())
}

/// How many of the set before, and itself, are in this one too.
fn derived_set(bits: &mut Bits<'_>, before: u32) -> Option<u32> {
    bits.skip(1)?;
    bits.golomb()?;
    let mut pictures = 0;
    for _ in 0..=before {
        let stays = bits.flag()? || bits.flag()?;
        pictures += u32::from(stays);
    }
    Some(pictures)
}

fn whole_set(bits: &mut Bits<'_>) -> Option<u32> {
    let pictures = bits.count(MOST_PICTURES)? + bits.count(MOST_PICTURES)?;
    for _ in 0..pictures {
        bits.golomb()?;
        bits.skip(1)?;
    }
    Some(pictures)
}

fn timing(bits: &mut Bits<'_>) -> Option<Usability> {
    skip_signal(bits)?;
    bits.skip(1)?;
    let fields = bits.flag()?;
    bits.skip(1)?;
    if bits.flag()? {
        bits.skip_golombs(4)?;
    }
    let timing = if bits.flag()? { Some((bits.number(32)?, bits.number(32)?)) } else { None };
    Some(Usability { fields, timing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests_support::{bytes, shown};

    const CROPPED: &str = "42010101600000030090000003000003007ba003c08010e596565924e5780b4040000003004000000c980526\
                           1b80004c4b40002625a2";
    const FIELDS: &str =
        "42010101600000030040000003000003005da005a20090596566924caf0168680000030008000003019040";

    #[test]
    fn sets_that_x265_writes() {
        // It takes a field for what it is given: twice as many lines, half as many frames.
        for (set, expected) in [(CROPPED, "1920x1080p 50"), (FIELDS, "720x1152i 25")] {
            let set = bytes(set);
            assert_eq!(picture(&set).map(shown).as_deref(), Some(expected));
            for cut in 0..set.len() {
                let _whatever_is_there = picture(&set[..cut]);
            }
        }
    }
}
