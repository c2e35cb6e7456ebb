//! The sequence parameter set of HEVC (ITU-T H.265, 7.3.2.2 and E.2.1).
#![warn(clippy::indexing_slicing)]

use std::fmt;

use super::bits::{Bits, unescaped};
use super::h264::{crop, skip_signal};
use super::{FrameRate, Picture, Profile, Scan};

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
    let tier = profile(bits, layers)?;
    bits.golomb()?;
    let (across, down) = chroma(bits)?;
    let (width, height) = (bits.golomb()?, bits.golomb()?);
    let crop = crop(bits)?;
    let width = width.checked_sub(crop.across.checked_mul(across)?)?;
    let height = height.checked_sub(crop.down.checked_mul(down)?)?;
    let usability = usability(bits, layers).unwrap_or_default();
    // A field is coded as a picture of its own.
    let fields = if usability.fields { 2 } else { 1 };
    let scan = if usability.fields { Scan::Interlaced } else { tier.source() };
    let rate = usability
        .timing
        .and_then(|(tick, scale)| FrameRate::new(scale.into(), u64::from(tick) * u64::from(fields)));
    Picture::new(width, height.checked_mul(fields)?, rate, scan, Some(Profile::Hevc(tier)))
}

/// The general profile: space, tier and number, profiles that it is compatible with, constraints, level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    head: u8,
    compatible: u32,
    constraints: [u8; 6],
    level: u8,
}

impl Tier {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let byte = |bits: &mut Bits<'_>| u8::try_from(bits.number(8)?).ok();
        let (head, compatible) = (byte(bits)?, bits.number(32)?);
        let mut constraints = [0; 6];
        for constraint in &mut constraints {
            *constraint = byte(bits)?;
        }
        Some(Self { head, compatible, constraints, level: byte(bits)? })
    }

    /// What the source was.
    fn source(self) -> Scan {
        let [first, ..] = self.constraints;
        let (progressive, interlaced) = (first & 0x80 != 0, first & 0x40 != 0);
        if interlaced && !progressive { Scan::Interlaced } else { Scan::Progressive }
    }
}

impl fmt::Display for Tier {
    /// ISO/IEC 14496-15, E.3.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = ["", "A", "B", "C"].get(usize::from(self.head >> 6)).copied().unwrap_or_default();
        let tier = if self.head & 0x20 == 0 { 'L' } else { 'H' };
        let (profile, compatible) = (self.head & 0x1f, self.compatible.reverse_bits());
        write!(f, "hvc1.{space}{profile}.{compatible:x}.{tier}{}", self.level)?;
        let told = self.constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.constraints.iter().take(told).try_for_each(|byte| write!(f, ".{byte:X}"))
    }
}

/// The general profile; the layers' own are skipped.
fn profile(bits: &mut Bits<'_>, layers: u32) -> Option<Tier> {
    let tier = Tier::read(bits)?;
    let mut described = 0;
    for _ in 0..layers {
        described += if bits.flag()? { PROFILE } else { 0 };
        described += if bits.flag()? { LEVEL } else { 0 };
    }
    if layers > 0 {
        bits.skip(2 * 8_u32.checked_sub(layers)?)?;
    }
    bits.skip(described)?;
    Some(tier)
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
    fn the_codecs_name_says_what_the_general_profile_says() {
        let named =
            |set: &str| picture(&bytes(set)).and_then(|picture| picture.profile).map(|it| it.to_string());
        assert_eq!(named(CROPPED).as_deref(), Some("hvc1.1.6.L123.90"));
        let tier = Tier {
            head: 0b0110_0010,
            compatible: 0x2000_0000,
            constraints: [0xb0, 0, 0x10, 0, 0, 0],
            level: 153,
        };
        assert_eq!(tier.to_string(), "hvc1.A2.4.H153.B0.0.10");
    }

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
