//! Frame headers of AAC in ADTS, of MPEG audio, and of AC-3 and E-AC-3.
//!
//! Two headers are necessary, the second where the first says that its frame ends: twelve bits of sync are found anywhere.
#![warn(clippy::indexing_slicing)]

use super::Sound;
use super::bits::Bits;
use crate::ts::descriptors::Coding;

/// Longest header that is read, in bytes.
const HEADER: usize = 8;

const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const MPEG_RATES: [u32; 3] = [44_100, 48_000, 32_000];
const AC3_RATES: [u32; 3] = [48_000, 44_100, 32_000];
/// Kilobits per second, by code.
const AC3_BIT_RATES: [u32; 19] =
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
/// Channels of AC-3's modes, without the one for low frequencies.
const AC3_CHANNELS: [u8; 8] = [2, 1, 2, 3, 3, 4, 4, 5];
/// The last revisions of AC-3's syntax and of E-AC-3's, which follows.
const LAST_AC3: u32 = 10;
const LAST_EAC3: u32 = 16;

/// MPEG-1 layers I to III, then layer I and the others of MPEG-2: kilobits per second, by code less one.
const MPEG_BIT_RATES: [[u32; 14]; 5] = [
    [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// A frame, as its header says.
struct Frame {
    bytes: usize,
    sound: Sound,
    /// It begins a group of frames; it does not only add channels to the one before.
    is_whole: bool,
}

/// Reads the header that `bytes` begin with.
type Header = fn(&[u8]) -> Option<Frame>;

/// The first frame in `bytes` that another one follows.
pub(super) fn find(coding: Coding, bytes: &[u8]) -> Option<Sound> {
    let (sync, header): (u8, Header) = match coding {
        Coding::Aac => (0xff, adts),
        Coding::MpegAudio => (0xff, mpeg),
        Coding::Ac3 | Coding::Eac3 => (0x0b, ac3),
        _ => return None,
    };
    // Most bytes begin no header, and a look at one is cheaper than a reader of bits.
    let mut begin = bytes.windows(HEADER).enumerate().filter(|(_, window)| window.first() == Some(&sync));
    begin.find_map(|(at, window)| {
        let frame = header(window).filter(|frame| frame.is_whole)?;
        let next = header(bytes.get(at.checked_add(frame.bytes)?..)?)?;
        (next.sound.sample_rate == frame.sound.sample_rate).then_some(frame.sound)
    })
}

fn by_code<T: Copy>(table: &[T], code: u32) -> Option<T> {
    table.get(usize::try_from(code).ok()?).copied()
}

fn frame(bytes: u32, sample_rate: u32, channels: Option<u8>) -> Option<Frame> {
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes >= HEADER)?;
    Some(Frame { bytes, sound: Sound { sample_rate, channels, object_type: None }, is_whole: true })
}

fn adts(bytes: &[u8]) -> Option<Frame> {
    let bits = &mut Bits::new(bytes);
    // Sync and, behind the version, a layer of 0.
    if bits.number(12)? != 0xfff || bits.number(3)? & 3 != 0 {
        return None;
    }
    bits.skip(1)?;
    let object_type = u8::try_from(bits.number(2)? + 1).ok();
    let sample_rate = by_code(&AAC_RATES, bits.number(4)?)?;
    bits.skip(1)?;
    let channels = match bits.number(3)? {
        0 => None,
        7 => Some(8),
        count => u8::try_from(count).ok(),
    };
    bits.skip(4)?;
    let frame = frame(bits.number(13)?, sample_rate, channels)?;
    Some(Frame { sound: Sound { object_type, ..frame.sound }, ..frame })
}

fn mpeg(bytes: &[u8]) -> Option<Frame> {
    let bits = &mut Bits::new(bytes);
    if bits.number(11)? != 0x7ff {
        return None;
    }
    // How much lower than MPEG-1's the sample rate is.
    let lower = match bits.number(2)? {
        0 => 4,
        2 => 2,
        3 => 1,
        _ => return None,
    };
    let layer = 4_u32.checked_sub(bits.number(2)?).filter(|layer| *layer < 4)?;
    bits.skip(1)?;
    let code = bits.number(4)?.checked_sub(1)?;
    let rates = by_code(&MPEG_BIT_RATES, if lower == 1 { layer - 1 } else { 3 + u32::from(layer > 1) })?;
    let bit_rate = by_code(&rates, code)? * 1000;
    let sample_rate = by_code(&MPEG_RATES, bits.number(2)?)? / lower;
    let padding = bits.number(1)?;
    bits.skip(1)?;
    let channels = if bits.number(2)? == 3 { 1 } else { 2 };
    let length = match layer {
        1 => (12 * bit_rate / sample_rate + padding) * 4,
        3 if lower > 1 => 72 * bit_rate / sample_rate + padding,
        _ => 144 * bit_rate / sample_rate + padding,
    };
    frame(length, sample_rate, Some(channels))
}

fn ac3(bytes: &[u8]) -> Option<Frame> {
    let bits = &mut Bits::new(bytes);
    if bits.number(16)? != 0x0b77 {
        return None;
    }
    match u32::from(*bytes.get(5)? >> 3) {
        ..=LAST_AC3 => first_ac3(bits),
        11..=LAST_EAC3 => enhanced_ac3(bits),
        _ => None,
    }
}

fn first_ac3(bits: &mut Bits<'_>) -> Option<Frame> {
    bits.skip(16)?;
    let sample_rate = by_code(&AC3_RATES, bits.number(2)?)?;
    let size = bits.number(6)?;
    let bit_rate = by_code(&AC3_BIT_RATES, size / 2)?;
    bits.skip(5 + 3)?;
    let mode = bits.number(3)?;
    let centre = u32::from(mode & 1 == 1 && mode != 1);
    let surround = u32::from(mode & 4 != 0);
    bits.skip(2 * (centre + surround + u32::from(mode == 2)))?;
    let channels = by_code(&AC3_CHANNELS, mode)? + u8::from(bits.flag()?);
    // 1536 samples in 16-bit words; at 44.1 kHz every other frame is a word longer.
    let words = match sample_rate {
        48_000 => bit_rate * 2,
        44_100 => bit_rate * 320 / 147 + size % 2,
        _ => bit_rate * 3,
    };
    frame(words * 2, sample_rate, Some(channels))
}

fn enhanced_ac3(bits: &mut Bits<'_>) -> Option<Frame> {
    let (kind, substream) = (bits.number(2)?, bits.number(3)?);
    let words = bits.number(11)? + 1;
    let sample_rate = match bits.number(2)? {
        // Half of what its code says.
        3 => by_code(&AC3_RATES, bits.number(2)?)? / 2,
        code => {
            bits.skip(2)?;
            by_code(&AC3_RATES, code)?
        }
    };
    let channels = by_code(&AC3_CHANNELS, bits.number(3)?)? + u8::from(bits.flag()?);
    let frame = frame(words * 2, sample_rate, Some(channels))?;
    Some(Frame { is_whole: kind != 1 && substream == 0, ..frame })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests_support::bytes;

    /// Two frames of so many bytes with this header, behind a few bytes that look like one.
    fn frames(header: &str, length: usize) -> Vec<u8> {
        let mut frame = bytes(header);
        frame.resize(length, 0);
        [&[0xff, 0xf1, 0x4d, 0x0b, 0x77], &frame[..], &frame[..HEADER]].concat()
    }

    #[test]
    fn headers_that_encoders_write() {
        for (coding, header, length, expected) in [
            (Coding::Aac, "fff14d802fdffcde0200", 0x17e, (48_000, 6)),
            (Coding::Aac, "fff15440353ffcde0200", 0x1a9, (32_000, 1)),
            (Coding::Ac3, "0b77b50b1e40ebf8403e", 1_792, (48_000, 6)),
            (Coding::Eac3, "0b77037f3f87c00020f8", 1_792, (48_000, 6)),
            (Coding::MpegAudio, "fffde0c4ecccbdcbcccf", 1_253, (44_100, 1)),
            (Coding::MpegAudio, "fffb90640000026b0bce", 417, (44_100, 2)),
            (Coding::MpegAudio, "fff38064000d78413a0f", 208, (22_050, 2)),
        ] {
            let stream = frames(header, length);
            let (sample_rate, channels) = expected;
            let object_type = (coding == Coding::Aac).then_some(2);
            let sound = Sound { sample_rate, channels: Some(channels), object_type };
            assert_eq!(find(coding, &stream), Some(sound), "{header}");
            assert_eq!(
                find(coding, &frames(header, length + 1)),
                None,
                "{header}, and no frame where it ends"
            );
            for cut in 0..stream.len() {
                assert!(find(coding, &stream[..cut]).is_none_or(|sound| sound.sample_rate == sample_rate));
            }
        }
    }

    #[test]
    fn frames_that_only_add_channels_to_others_do_not_count() {
        let (whole, dependent) = ("0b7700033f87c000", "0b7740033f87c000");
        let stream = bytes(&[dependent, whole, dependent].concat());
        assert_eq!(find(Coding::Eac3, &stream).and_then(|sound| sound.channels), Some(6));
        assert_eq!(find(Coding::Eac3, &bytes(&[dependent, dependent].concat())), None);
    }
}
