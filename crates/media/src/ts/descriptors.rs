//! What the PMT says of an elementary stream: its type, and the descriptors behind it.
#![warn(clippy::indexing_slicing)]

use std::fmt;

use super::psi::Codec;

/// Descriptor tags, as MPEG and DVB number them.
const REGISTRATION: u8 = 0x05;
const LANGUAGE: u8 = 0x0a;
const TELETEXT: u8 = 0x56;
const SUBTITLING: u8 = 0x59;
const AC3: u8 = 0x6a;
const EAC3: u8 = 0x7a;
const DTS: u8 = 0x7b;
const AAC: u8 = 0x7c;
const EXTENSION: u8 = 0x7f;
/// The same behind [`EXTENSION`].
const DTS_HD: u8 = 0x0e;
const AC4: u8 = 0x15;
const DTS_UHD: u8 = 0x21;

/// How an elementary stream is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// MPEG-1 or MPEG-2 video.
    Mpeg2Video,
    /// MPEG-4 part 2.
    Mpeg4Video,
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
    /// VVC.
    Vvc,
    /// AV1.
    Av1,
    /// VC-1.
    Vc1,
    /// Dirac.
    Dirac,
    /// JPEG 2000, AVS and its successors.
    OtherVideo,
    /// MPEG audio, any layer.
    MpegAudio,
    /// AAC in ADTS.
    Aac,
    /// AAC in LATM.
    AacLatm,
    /// AC-3.
    Ac3,
    /// Enhanced AC-3.
    Eac3,
    /// AC-4.
    Ac4,
    /// DTS.
    Dts,
    /// Opus.
    Opus,
    /// AES3 as SMPTE 302M has it.
    S302m,
    /// MPEG-H, `TrueHD`, samples as they are.
    OtherAudio,
    /// Teletext.
    Teletext,
    /// DVB subtitles.
    Subtitles,
    /// Anything else.
    Other,
}

impl Coding {
    /// By the stream's type, and where that says nothing by its descriptors, or by those of the whole programme.
    pub fn of(stream_type: u8, program: &[u8], descriptors: &[u8]) -> Self {
        let told = || iter(descriptors).find_map(private);
        match stream_type {
            0x01 | 0x02 => Self::Mpeg2Video,
            0x03 | 0x04 => Self::MpegAudio,
            0x0f => Self::Aac,
            0x10 => Self::Mpeg4Video,
            0x11 => Self::AacLatm,
            0x1b => Self::H264,
            0x24 => Self::Hevc,
            0x33 => Self::Vvc,
            // JPEG 2000 and AVS, AVS2, AVS3.
            0x21 | 0x42 | 0xd2 | 0xd4 => Self::OtherVideo,
            // MPEG-H.
            0x2d | 0x2e => Self::OtherAudio,
            // As ATSC numbers them.
            0x81 => Self::Ac3,
            0x87 => Self::Eac3,
            // As ffmpeg writes it.
            0x8a => Self::Dts,
            0xd1 => Self::Dirac,
            0xea => Self::Vc1,
            0x80..=0xff => told().or_else(|| on_disc(stream_type, program)).unwrap_or(Self::Other),
            0x06 => told().unwrap_or(Self::Other),
            _ => Self::Other,
        }
    }

    /// What it means for where a player can start.
    pub fn codec(self) -> Codec {
        match self {
            Self::Mpeg2Video => Codec::Mpeg2Video,
            Self::H264 => Codec::H264,
            Self::Hevc => Codec::Hevc,
            Self::Mpeg4Video | Self::Vvc | Self::Av1 | Self::Vc1 | Self::Dirac | Self::OtherVideo => {
                Codec::OtherVideo
            }
            Self::MpegAudio
            | Self::Aac
            | Self::AacLatm
            | Self::Ac3
            | Self::Eac3
            | Self::Ac4
            | Self::Dts
            | Self::Opus
            | Self::S302m
            | Self::OtherAudio => Codec::Audio,
            Self::Teletext | Self::Subtitles | Self::Other => Codec::Other,
        }
    }

    /// Name on pages and in metrics, as players write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mpeg2Video => "mpeg2video",
            Self::Mpeg4Video => "mpeg4",
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Vvc => "vvc",
            Self::Av1 => "av1",
            Self::Vc1 => "vc1",
            Self::Dirac => "dirac",
            Self::OtherVideo => "other_video",
            Self::MpegAudio => "mpeg_audio",
            Self::Aac => "aac",
            Self::AacLatm => "aac_latm",
            Self::Ac3 => "ac3",
            Self::Eac3 => "eac3",
            Self::Dts => "dts",
            Self::Opus => "opus",
            Self::Ac4 => "ac4",
            Self::S302m => "s302m",
            Self::OtherAudio => "other_audio",
            Self::Teletext => "teletext",
            Self::Subtitles => "dvb_subtitles",
            Self::Other => "other",
        }
    }
}

/// Three letters, as ISO 639-2 has them: what else the broadcaster writes there is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Language([u8; 3]);

impl Language {
    /// Of the first language, audio or text, that the descriptors name.
    pub fn of(descriptors: &[u8]) -> Option<Self> {
        let mut named = iter(descriptors).filter(|(tag, _)| matches!(*tag, LANGUAGE | TELETEXT | SUBTITLING));
        named.find_map(|(_, content)| Self::new(*content.first_chunk()?))
    }

    /// Lower case.
    pub fn new(letters: [u8; 3]) -> Option<Self> {
        letters
            .iter()
            .all(u8::is_ascii_alphabetic)
            .then(|| Self(letters.map(|letter| letter.to_ascii_lowercase())))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Letters of ASCII, by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Tag and content of each; what is cut off is none.
fn iter(descriptors: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = descriptors;
    std::iter::from_fn(move || {
        let (&[tag, length], after) = rest.split_first_chunk::<2>()?;
        let (content, next) = after.split_at_checked(usize::from(length))?;
        rest = next;
        Some((tag, content))
    })
}

/// What private data is, when this descriptor says it.
fn private((tag, content): (u8, &[u8])) -> Option<Coding> {
    match tag {
        AC3 => Some(Coding::Ac3),
        EAC3 => Some(Coding::Eac3),
        DTS => Some(Coding::Dts),
        AAC => Some(Coding::Aac),
        EXTENSION => match content.first()? {
            &AC4 => Some(Coding::Ac4),
            &DTS_HD | &DTS_UHD => Some(Coding::Dts),
            _ => None,
        },
        TELETEXT => Some(Coding::Teletext),
        SUBTITLING => Some(Coding::Subtitles),
        REGISTRATION => registered(*content.first_chunk::<4>()?),
        _ => None,
    }
}

/// Types that only mean something in what was made for a disc.
fn on_disc(stream_type: u8, program: &[u8]) -> Option<Coding> {
    let is_for_disc = iter(program).any(|(tag, content)| tag == REGISTRATION && content.starts_with(b"HDMV"));
    let coding = match stream_type {
        0x82 | 0x85 | 0x86 | 0xa2 => Coding::Dts,
        0x84 | 0xa1 => Coding::Eac3,
        0x80 | 0x83 => Coding::OtherAudio,
        _ => return None,
    };
    is_for_disc.then_some(coding)
}

/// By the names that the SMPTE's registry has.
fn registered(name: [u8; 4]) -> Option<Coding> {
    match &name {
        b"AC-3" => Some(Coding::Ac3),
        b"EAC3" => Some(Coding::Eac3),
        b"DTS1" | b"DTS2" | b"DTS3" => Some(Coding::Dts),
        b"Opus" => Some(Coding::Opus),
        b"AC-4" => Some(Coding::Ac4),
        b"BSSD" => Some(Coding::S302m),
        b"H264" | b"AVC1" => Some(Coding::H264),
        b"HEVC" => Some(Coding::Hevc),
        b"VVC1" => Some(Coding::Vvc),
        b"AV01" => Some(Coding::Av1),
        b"VC-1" => Some(Coding::Vc1),
        b"drac" => Some(Coding::Dirac),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_data_is_what_its_descriptors_say() {
        for (descriptors, expected) in [
            (&[][..], Coding::Other),
            (&[0x6a, 1, 0][..], Coding::Ac3),
            (&[0x7a, 0][..], Coding::Eac3),
            (&[0x52, 1, 7, 0x56, 5, b'd', b'e', b'u', 9, 0][..], Coding::Teletext),
            (&[0x0a, 4, b'd', b'e', b'u', 0, 0x7b, 0][..], Coding::Dts),
            (&[0x05, 4, b'O', b'p', b'u', b's', 0x7f, 2, 0x80, 2][..], Coding::Opus),
            (&[0x05, 4, b'H', b'E', b'V', b'C'][..], Coding::Hevc),
            (&[0x05, 3, b'H', b'E', b'V'][..], Coding::Other),
            (&[0x0a, 200, 0x6a, 0][..], Coding::Other),
        ] {
            assert_eq!(Coding::of(0x06, &[], descriptors), expected, "{descriptors:?}");
            assert_eq!(Coding::of(0x1b, &[], descriptors), Coding::H264, "the type says it");
        }
    }

    #[test]
    fn video_and_sound_that_are_listed_as_private_are_video_and_sound() {
        for (name, codec) in [
            (b"HEVC", Codec::Hevc),
            (b"H264", Codec::H264),
            (b"AV01", Codec::OtherVideo),
            (b"VVC1", Codec::OtherVideo),
            (b"VC-1", Codec::OtherVideo),
            (b"Opus", Codec::Audio),
            (b"AC-3", Codec::Audio),
            (b"EAC3", Codec::Audio),
            (b"AC-4", Codec::Audio),
            (b"DTS2", Codec::Audio),
            (b"BSSD", Codec::Audio),
        ] {
            let descriptors = [&[0x05, 4][..], name].concat();
            for stream_type in [0x06, 0x88, 0xc0] {
                assert_eq!(Coding::of(stream_type, &[], &descriptors).codec(), codec, "{name:?}");
            }
        }
        for kind in [0x0e, 0x15, 0x21] {
            assert_eq!(Coding::of(0x06, &[], &[0x7f, 1, kind]).codec(), Codec::Audio);
        }
        for (stream_type, codec) in [(0x11, Codec::Audio), (0x8a, Codec::Audio), (0x82, Codec::Other)] {
            assert_eq!(Coding::of(stream_type, &[], &[]).codec(), codec);
        }
        assert_eq!(Coding::of(0x82, &[0x05, 4, b'H', b'D', b'M', b'V'], &[]), Coding::Dts);
    }

    #[test]
    fn a_language_is_three_letters_and_nothing_else() {
        let named =
            |descriptors: &[u8]| Language::of(descriptors).map(|language| language.as_str().to_owned());
        assert_eq!(named(&[0x0a, 4, b'E', b'N', b'G', 0]).as_deref(), Some("eng"));
        assert_eq!(named(&[0x6a, 1, 0, 0x59, 8, b'p', b'o', b'l', 16, 0, 1, 0, 1]).as_deref(), Some("pol"));
        assert_eq!(named(&[0x0a, 4, b'<', b'b', b'>', 0]), None);
        assert_eq!(named(&[0x0a, 4, 0, 0, 0, 0, 0x0a, 4, b'f', b'r', b'a', 0]).as_deref(), Some("fra"));
        assert_eq!(named(&[0x0a, 2, b'f', b'r']), None);
    }
}
