//! Looks for the headers that say what a stream is, at start points: there decoders need them, so there they are.
//!
//! Between them nothing is read. At a start point, at most once a second, every stream is read on until its header has come
//! whole; one that is the same as before is not parsed again.
#![warn(clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use super::{Details, Format, StreamFormat, h264, hevc, mpeg2, sound};
use crate::ts::descriptors::Coding;
use crate::ts::packet::{Packet, Pid};
use crate::ts::pes::behind_pes_header;
use crate::ts::psi::{Codec, Elementary, Program};

/// Start points that follow sooner are not looked at: some streams flag every picture as one.
const SPACING: Duration = Duration::from_secs(1);
/// Most streams whose own headers are read. A PMT can list two hundred.
const MOST_READ: usize = 16;
/// Most bytes of a stream that are searched after a start point. Some multiplexers put a second of pictures into one unit,
/// with the key frame anywhere in it.
const SEARCHED: usize = 1 << 20;
/// Longest parameter set that is waited for. Real ones have 30 to 200 bytes; with all scaling lists 500.
const LONGEST_SET: usize = 1024;
/// The same of sound, whose every frame has a header.
const SEARCHED_SOUND: usize = 64 * 1024;
/// Most sound that is kept: three of the longest frames.
const MOST_SOUND: usize = 16 * 1024;
/// Sound is searched when so much more of it has come: what is kept is searched anew each time.
const SOUND_STEP: usize = 4 * 1024;
/// A stream in which nothing is found so often is not looked at again: whoever sends what is no header must not have it
/// searched for ever.
const MOST_IN_VAIN: u8 = 3;

/// Tells what the packets of one programme carry.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    format: Arc<Format>,
    readers: Vec<Reader>,
    /// Some reader still looks.
    is_looking: bool,
    /// When the start point came that was last looked at. By our clock: the stream's own is its sender's.
    last: Option<Duration>,
}

impl Probe {
    /// What is known so far. The same allocation as long as it is the same.
    pub fn format(&self) -> &Arc<Format> {
        &self.format
    }

    /// Whether [`Self::take`] would do anything.
    #[inline]
    pub fn is_looking(&self) -> bool {
        self.is_looking
    }

    /// The programme is this one now. What is known of streams that stay is kept.
    pub fn set_program(&mut self, program: &Program) {
        let known = |stream: &Elementary| {
            let mut known = self.format.streams.iter();
            known.find(|known| (known.pid, known.coding) == (stream.pid, stream.coding))
        };
        let streams = program.streams.iter().map(|stream| StreamFormat {
            pid: stream.pid,
            coding: stream.coding,
            language: stream.language,
            details: known(stream).map(|known| known.details).unwrap_or_default(),
        });
        self.format = Arc::new(Format { program: program.number, streams: streams.collect() });
        let read =
            self.format.streams.iter().filter(|stream| Header::of(stream.coding).is_some()).take(MOST_READ);
        self.readers = read.filter_map(|stream| Reader::new(stream.pid, stream.coding)).collect();
        self.look();
    }

    /// A start point begins with the next packet, or seems to.
    #[cold]
    pub fn starts(&mut self, arrival: Duration) {
        if self.last.is_none_or(|last| arrival.saturating_sub(last) >= SPACING) {
            self.last = Some(arrival);
            self.look();
        }
    }

    fn look(&mut self) {
        self.readers.iter_mut().for_each(Reader::look);
        self.is_looking = self.readers.iter().any(|reader| reader.left > 0);
    }

    /// Takes one packet, while it is looked for something.
    #[cold]
    pub fn take(&mut self, packet: Packet<'_>) {
        let pid = packet.pid();
        let Some(reader) = self.readers.iter_mut().find(|reader| reader.pid == pid && reader.left > 0) else {
            return;
        };
        if packet.starts_unit() {
            reader.is_hidden = packet.hides_its_unit();
        }
        if packet.is_scrambled() && reader.is_hidden {
            return;
        }
        let found = reader.take(packet);
        if reader.left == 0 {
            self.is_looking = self.readers.iter().any(|reader| reader.left > 0);
        }
        if let Some(details) = found {
            self.learn(pid, details);
        }
    }

    fn learn(&mut self, pid: Pid, details: Details) {
        let differs = |stream: &StreamFormat| stream.pid == pid && stream.details != details;
        if self.format.streams.iter().any(differs) {
            let format = Arc::make_mut(&mut self.format);
            format
                .streams
                .iter_mut()
                .filter(|stream| stream.pid == pid)
                .for_each(|stream| stream.details = details);
        }
    }
}

/// Which kind of header says what a stream is.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// A unit behind a start code.
    Unit(Codec),
    /// Every frame has one.
    Frame(Coding),
}

impl Header {
    fn of(coding: Coding) -> Option<Self> {
        match coding {
            Coding::H264 | Coding::Hevc | Coding::Mpeg2Video => Some(Self::Unit(coding.codec())),
            Coding::Aac | Coding::MpegAudio | Coding::Ac3 | Coding::Eac3 => Some(Self::Frame(coding)),
            _ => None,
        }
    }
}

/// Reads one elementary stream until its header has come.
#[derive(Clone, Debug)]
struct Reader {
    pid: Pid,
    header: Header,
    /// What says that it is scrambled is, until a unit begins that is not.
    is_hidden: bool,
    /// Bytes that may still be searched; none when it does not look.
    left: usize,
    /// What has been read and not been judged.
    window: Vec<u8>,
    /// How much of sound had been read when it was searched last.
    searched: usize,
    /// Looks without a header, one after the other.
    in_vain: u8,
    /// The parameter set that was read last.
    set: Vec<u8>,
}

impl Reader {
    fn new(pid: Pid, coding: Coding) -> Option<Self> {
        let header = Header::of(coding)?;
        Some(Self {
            pid,
            header,
            is_hidden: true,
            left: 0,
            window: Vec::new(),
            searched: 0,
            in_vain: 0,
            set: Vec::new(),
        })
    }

    fn look(&mut self) {
        // A look that is still going on has found nothing either.
        if self.left > 0 {
            self.in_vain += 1;
        }
        self.left = match self.header {
            _ if self.in_vain >= MOST_IN_VAIN => 0,
            Header::Unit(_) => SEARCHED,
            Header::Frame(_) => SEARCHED_SOUND,
        };
        (self.window, self.searched) = (Vec::new(), 0);
    }

    fn take(&mut self, packet: Packet<'_>) -> Option<Details> {
        let payload = packet.payload();
        let bytes = if packet.starts_unit() { behind_pes_header(payload) } else { payload };
        self.left = self.left.saturating_sub(payload.len());
        self.window.extend_from_slice(bytes);
        let (is_found, details) = match self.header {
            Header::Unit(codec) => self.unit(codec),
            Header::Frame(coding) => self.frame(coding),
        };
        if is_found {
            (self.left, self.in_vain) = (0, 0);
        } else if self.left == 0 {
            self.in_vain += 1;
        }
        if self.left == 0 {
            self.window = Vec::new();
        }
        details
    }

    /// The window begins with the parameter set as soon as one has begun.
    fn unit(&mut self, codec: Codec) -> (bool, Option<Details>) {
        let Some(begins) = units(&self.window).find(|at| is_set(codec, self.window.get(*at).copied())) else {
            // The beginning of a start code may be at the end.
            let useless = self.window.len().saturating_sub(3);
            self.window.drain(..useless);
            return (false, None);
        };
        // With the three bytes of its start code, so that it is found again.
        self.window.drain(..begins.saturating_sub(3));
        let set = self.window.get(3..).unwrap_or_default();
        let ends =
            units(set).find(|at| !is_extension(codec, set.get(*at).copied())).map(|at| at.saturating_sub(3));
        if ends.is_none() && set.len() < LONGEST_SET && self.left > 0 {
            return (false, None);
        }
        let set = set.get(..ends.unwrap_or(set.len())).unwrap_or_default();
        if set == self.set {
            return (true, None);
        }
        let picture = match codec {
            Codec::H264 => h264::picture(set),
            Codec::Hevc => hevc::picture(set),
            _ => mpeg2::picture(set),
        };
        self.set.clear();
        self.set.extend_from_slice(set);
        (true, picture.map(Details::Picture))
    }

    fn frame(&mut self, coding: Coding) -> (bool, Option<Details>) {
        if self.window.len() < self.searched + SOUND_STEP && self.left > 0 {
            return (false, None);
        }
        let sound = sound::find(coding, &self.window);
        self.searched = self.window.len();
        if self.window.len() > MOST_SOUND {
            self.window.clear();
            self.searched = 0;
        }
        (sound.is_some(), sound.map(Details::Sound))
    }
}

/// Where units begin: behind their start codes, where more than that has come.
fn units(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let codes = bytes.windows(4).enumerate().filter(|(_, window)| matches!(window, [0, 0, 1, _]));
    codes.map(|(at, _)| at + 3)
}

/// Whether a unit with this first byte says what the picture is.
fn is_set(codec: Codec, first: Option<u8>) -> bool {
    first.is_some_and(|first| match codec {
        Codec::H264 => first & 0x1f == 7,
        Codec::Hevc => (first >> 1) & 0x3f == 33,
        _ => first == 0xb3,
    })
}

/// Whether a unit with this first byte adds to the one before it.
fn is_extension(codec: Codec, first: Option<u8>) -> bool {
    codec == Codec::Mpeg2Video && first == Some(0xb5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests_support::{bytes, shown};
    use crate::ts::packet::PACKET_LEN;

    const VIDEO: Pid = Pid::new(0x100);
    const SMALL: &str = "6742c00ad9028df93011000003000100000300300f122648";
    const LARGE: &str = "677a0028bce8078044fcb8088000000300800000190f8b1750";

    fn probe(coding: Coding) -> Probe {
        let stream = Elementary { pid: VIDEO, codec: coding.codec(), coding, language: None };
        let mut probe = Probe::default();
        probe.set_program(&Program { number: 1, pmt: Pid::new(0x30), pcr: VIDEO, streams: vec![stream] });
        probe
    }

    /// Packets of so many bytes of the stream each.
    fn send(probe: &mut Probe, stream: &[u8], piece: usize) {
        for part in stream.chunks(piece) {
            let mut packet = [0xff; PACKET_LEN];
            packet[..4].copy_from_slice(&[0x47, 0x01, 0x00, 0x30]);
            packet[4] = u8::try_from(183 - part.len()).unwrap();
            packet[5] = 0;
            packet[PACKET_LEN - part.len()..].copy_from_slice(part);
            probe.take(Packet::parse(&packet).unwrap());
        }
    }

    fn access_unit(set: &str) -> Vec<u8> {
        [&[0, 0, 0, 1, 9, 0xf0, 0, 0, 0, 1][..], &bytes(set), &[0, 0, 0, 1, 0x68, 1], &[0, 0, 1, 0x65, 1]]
            .concat()
    }

    fn picture(probe: &Probe) -> Option<String> {
        probe.format().picture().map(shown)
    }

    #[test]
    fn a_set_is_found_however_its_packets_cut_it() {
        for piece in 1..100 {
            let mut probe = probe(Coding::H264);
            send(&mut probe, &access_unit(SMALL), piece);
            assert_eq!(picture(&probe).as_deref(), Some("160x90p 24"), "pieces of {piece}");
            assert!(!probe.is_looking());
        }
    }

    #[test]
    fn a_set_deep_in_a_large_unit_is_found_and_one_that_never_comes_is_not_waited_for_without_end() {
        let mut deep = probe(Coding::H264);
        send(&mut deep, &[vec![0xaa; SEARCHED / 2], access_unit(SMALL)].concat(), 182);
        assert_eq!(picture(&deep).as_deref(), Some("160x90p 24"));
        let mut without = probe(Coding::H264);
        send(&mut without, &vec![0xaa; SEARCHED + 400], 182);
        assert!(!without.is_looking());
        assert!(without.readers[0].window.capacity() < 1024);
    }

    #[test]
    fn a_set_without_an_end_is_judged_by_what_there_is() {
        let mut probe = probe(Coding::H264);
        let endless = [&[0, 0, 1][..], &bytes(SMALL), &[0xaa; 2 * LONGEST_SET]].concat();
        send(&mut probe, &endless, 182);
        assert_eq!(picture(&probe).as_deref(), Some("160x90p 24"));
    }

    #[test]
    fn another_set_counts_from_its_start_point_on_and_the_same_one_changes_nothing() {
        let mut probe = probe(Coding::H264);
        send(&mut probe, &access_unit(SMALL), 182);
        let before = Arc::clone(probe.format());
        probe.starts(Duration::from_secs(2));
        assert!(probe.is_looking());
        send(&mut probe, &access_unit(SMALL), 182);
        assert!(Arc::ptr_eq(&before, probe.format()) && !probe.is_looking());
        probe.starts(Duration::from_secs(4));
        send(&mut probe, &access_unit(LARGE), 182);
        assert_eq!(picture(&probe).as_deref(), Some("1920x1080i 25"));
    }

    #[test]
    fn start_points_on_every_picture_are_looked_at_once_a_second() {
        let mut probe = probe(Coding::H264);
        probe.starts(Duration::ZERO);
        send(&mut probe, &access_unit(SMALL), 182);
        let looked = |probe: &mut Probe, at: u64| {
            probe.starts(Duration::from_millis(at));
            let looks = probe.is_looking();
            send(probe, &access_unit(SMALL), 182);
            looks
        };
        let times = (1..=50).filter(|n| looked(&mut probe, n * 40)).count();
        assert_eq!(times, 2);
    }

    #[test]
    fn what_is_known_of_a_stream_stays_when_another_joins_it() {
        let mut probe = probe(Coding::H264);
        send(&mut probe, &access_unit(SMALL), 182);
        let stream = |pid, coding: Coding| Elementary { pid, codec: coding.codec(), coding, language: None };
        let sound = stream(Pid::new(0x101), Coding::Aac);
        let program = |video| Program {
            number: 1,
            pmt: Pid::new(0x30),
            pcr: VIDEO,
            streams: vec![stream(VIDEO, video), sound],
        };
        probe.set_program(&program(Coding::H264));
        assert_eq!(picture(&probe).as_deref(), Some("160x90p 24"));
        probe.set_program(&program(Coding::Hevc));
        assert_eq!(picture(&probe), None);
    }

    /// What a stream says that is not one, or one that wants to cost.
    #[test]
    fn what_never_shows_a_header_is_given_up() {
        for coding in [Coding::Aac, Coding::MpegAudio, Coding::Ac3, Coding::H264, Coding::Mpeg2Video] {
            for byte in [0, 0xff, 0x0b] {
                let mut probe = probe(coding);
                let mut searched = 0;
                for look in 0..20 {
                    probe.starts(Duration::from_secs(look * 2));
                    for _ in 0..SEARCHED / 128 {
                        if probe.is_looking() {
                            send(&mut probe, &[byte; 182], 182);
                            searched += 182;
                        }
                    }
                }
                assert!(searched <= 4 * (SEARCHED + 400), "{coding:?} {byte}: {searched}");
                assert!(!probe.is_looking() && probe.readers[0].window.capacity() == 0, "{coding:?}");
            }
        }
    }
}
