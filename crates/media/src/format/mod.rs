//! What a stream is, as the stream itself says: its programme's elementary streams, and of each the codec, the language, and
//! what the headers of its pictures or its sound tell.
//!
//! ```text
//!  PMT ──► descriptors: codec, language ──┐
//!                                         ├──► Format
//!  SPS, sequence header, frame header ────┘    probe::Probe finds them, at start points only
//! ```
//!
//! Everything here is told and nothing is trusted: whatever the bytes are, the figures are plausible or absent.

pub(crate) mod bits;
mod h264;
mod hevc;
mod mpeg2;
pub mod probe;
mod sound;
#[cfg(test)]
mod tests_support;

use std::fmt;

pub use self::hevc::Tier;
use crate::ts::descriptors::{Coding, Language};
use crate::ts::packet::Pid;
use crate::ts::psi::Codec;

/// The largest picture's side that is believed, in samples: twice the largest level of any codec here.
const LARGEST_SIDE: u32 = 16_384;
/// The fastest frame rate that is believed, per second.
const FASTEST: u32 = 1_000;

/// A programme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Its number in the PAT.
    pub program: u16,
    /// Its streams, in the order of the PMT.
    pub streams: Vec<StreamFormat>,
}

impl Format {
    /// How the first video of it is coded, as [`Coding::as_str`] says it.
    pub fn video(&self) -> Option<&'static str> {
        self.first(|codec| !matches!(codec, Codec::Audio | Codec::Other))
    }

    /// How the first sound of it is coded.
    pub fn audio(&self) -> Option<&'static str> {
        self.first(|codec| codec == Codec::Audio)
    }

    /// Every codec of its pictures and its sound once, in the words of RFC 6381; `None` unless all of them are known.
    pub fn codecs(&self) -> Option<Vec<String>> {
        let played = self.streams.iter().filter(|stream| stream.coding.codec() != Codec::Other);
        let mut names = Vec::new();
        for stream in played {
            let name = stream.codec()?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names).filter(|names| !names.is_empty())
    }

    fn first(&self, is_wanted: impl Fn(Codec) -> bool) -> Option<&'static str> {
        let codings = self.streams.iter().map(|stream| stream.coding);
        codings.into_iter().find(|coding| is_wanted(coding.codec())).map(Coding::as_str)
    }

    /// The first picture whose header has been read.
    pub fn picture(&self) -> Option<Picture> {
        self.streams.iter().find_map(|stream| stream.details.picture())
    }

    /// The first sound whose header has been read.
    pub fn sound(&self) -> Option<Sound> {
        self.streams.iter().find_map(|stream| stream.details.sound())
    }
}

/// One elementary stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFormat {
    /// Its packets.
    pub pid: Pid,
    /// How it is coded.
    pub coding: Coding,
    /// Of what is said or written in it.
    pub language: Option<Language>,
    /// What its own headers say.
    pub details: Details,
}

impl StreamFormat {
    /// The codec in the words of RFC 6381, of those that HTTP Live Streaming knows and if its own headers have come.
    fn codec(&self) -> Option<String> {
        match (self.coding, self.details) {
            (Coding::H264 | Coding::Hevc, Details::Picture(picture)) => Some(picture.profile?.to_string()),
            (Coding::Aac, Details::Sound(sound)) => Some(format!("mp4a.40.{}", sound.object_type?)),
            (Coding::Ac3, _) => Some("ac-3".to_owned()),
            (Coding::Eac3, _) => Some("ec-3".to_owned()),
            _ => None,
        }
    }
}

/// What the headers of an elementary stream say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// Nothing yet, or nothing that is read here.
    #[default]
    Unknown,
    /// It is video.
    Picture(Picture),
    /// It is audio.
    Sound(Sound),
}

impl Details {
    /// Of video.
    pub fn picture(self) -> Option<Picture> {
        if let Self::Picture(picture) = self { Some(picture) } else { None }
    }

    /// Of audio.
    pub fn sound(self) -> Option<Sound> {
        if let Self::Sound(sound) = self { Some(sound) } else { None }
    }
}

/// Pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In samples, without what is cropped.
    pub width: u32,
    /// In lines of a whole frame, without what is cropped.
    pub height: u32,
    /// Whole frames per second, if the stream says it.
    pub rate: Option<FrameRate>,
    /// How a frame is put together.
    pub scan: Scan,
    /// What a decoder must be able to do, if it was read.
    pub profile: Option<Profile>,
}

/// What a decoder of pictures must be able to do, as its parameter set says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Profile, constraints and level, as they stand in the set.
    H264([u8; 3]),
    /// The general profile.
    Hevc(Tier),
}

impl fmt::Display for Profile {
    /// As RFC 6381 has it: `avc1.640028`, `hvc1.2.4.L153.B0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::H264([profile, constraints, level]) => {
                write!(f, "avc1.{profile:02x}{constraints:02x}{level:02x}")
            }
            Self::Hevc(tier) => tier.fmt(f),
        }
    }
}

impl Picture {
    /// Whole frames per second, if the stream says it.
    pub fn fps(&self) -> Option<f64> {
        self.rate.map(FrameRate::get)
    }

    /// A plausible one.
    fn new(
        width: u32,
        height: u32,
        rate: Option<FrameRate>,
        scan: Scan,
        profile: Option<Profile>,
    ) -> Option<Self> {
        let plausible = 1..=LARGEST_SIDE;
        (plausible.contains(&width) && plausible.contains(&height)).then_some(Self {
            width,
            height,
            rate,
            scan,
            profile,
        })
    }
}

/// What a unit says of its pictures, if it is the set that does.
pub(crate) fn picture_of(codec: Codec, unit: &[u8]) -> Option<Picture> {
    let first = *unit.first()?;
    match codec {
        Codec::H264 if first & 0x1f == 7 => h264::picture(unit),
        Codec::Hevc if (first >> 1) & 0x3f == 33 => hevc::picture(unit),
        Codec::Mpeg2Video if first == 0xb3 => mpeg2::picture(unit),
        _ => None,
    }
}

/// How a frame is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scan {
    /// From one picture.
    Progressive,
    /// From two fields, or the stream reserves the right to that.
    Interlaced,
}

impl Scan {
    /// Name on pages and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progressive => "progressive",
            Self::Interlaced => "interlaced",
        }
    }
}

/// Frames per second, in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` per second, if that is a plausible rate.
    pub fn new(numerator: u64, denominator: u64) -> Option<Self> {
        let common = common_divisor(numerator, denominator);
        let reduced = |value: u64| u32::try_from(value.checked_div(common)?).ok().filter(|value| *value > 0);
        let (numerator, denominator) = (reduced(numerator)?, reduced(denominator)?);
        (numerator / denominator < FASTEST).then_some(Self { numerator, denominator })
    }

    /// As a fraction.
    pub fn fraction(self) -> (u32, u32) {
        (self.numerator, self.denominator)
    }

    /// Per second.
    pub fn get(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl fmt::Display for FrameRate {
    /// `25`, `59.94`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.get());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sound {
    /// Samples per second. Of AAC that of its core: what doubles it is not told in the header.
    pub sample_rate: u32,
    /// Channels, the one for low frequencies too; `None` when the header refers to a table for them.
    pub channels: Option<u8>,
    /// Of AAC what kind (ISO/IEC 14496-3, audio object types): 2 is its plain form.
    pub object_type: Option<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_are_named_when_all_of_them_are_known() {
        let picture = Picture::new(
            1920,
            1080,
            FrameRate::new(50, 1),
            Scan::Progressive,
            Some(Profile::H264([0x64, 0, 0x28])),
        );
        let video = Details::Picture(picture.unwrap());
        let aac = Details::Sound(Sound { sample_rate: 48_000, channels: Some(2), object_type: Some(2) });
        let stream = |coding, details| StreamFormat { pid: Pid::new(0x100), coding, language: None, details };
        let codecs = |streams: &[StreamFormat]| Format { program: 1, streams: streams.to_vec() }.codecs();
        let known = [
            stream(Coding::H264, video),
            stream(Coding::Aac, aac),
            stream(Coding::Aac, aac),
            stream(Coding::Ac3, Details::Unknown),
            stream(Coding::Teletext, Details::Unknown),
        ];
        assert_eq!(codecs(&known).unwrap(), ["avc1.640028", "mp4a.40.2", "ac-3"]);
        for unknown in [
            stream(Coding::H264, Details::Unknown),
            stream(Coding::Aac, Details::Unknown),
            stream(Coding::MpegAudio, aac),
            stream(Coding::AacLatm, aac),
        ] {
            assert_eq!(codecs(&[known[0], unknown]), None, "{unknown:?}");
        }
        assert_eq!(codecs(&[]), None);
    }

    #[test]
    fn a_frame_rate_is_in_lowest_terms_plausible_and_short() {
        let shown = |rate: Option<FrameRate>| rate.map(|rate| rate.to_string());
        assert_eq!(FrameRate::new(50, 2), FrameRate::new(25, 1));
        assert_eq!(shown(FrameRate::new(50, 2)).as_deref(), Some("25"));
        assert_eq!(shown(FrameRate::new(60_000, 1_001)).as_deref(), Some("59.94"));
        assert_eq!(shown(FrameRate::new(25, 2)).as_deref(), Some("12.5"));
        assert_eq!(shown(FrameRate::new(30, 1)).as_deref(), Some("30"));
        for (numerator, denominator) in
            [(0, 1), (1, 0), (0, 0), (1_000, 1), (u64::MAX, 1), (u64::MAX, u64::MAX - 1)]
        {
            assert_eq!(FrameRate::new(numerator, denominator), None, "{numerator}/{denominator}");
        }
    }
}
