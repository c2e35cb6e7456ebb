//! Where a decoder can start, as the video itself says.
//!
//! The multiplexer's flag is a hint: some set none, some set it on every picture. So pictures are read until their kind is
//! clear, and the parameter sets are kept that a decoder needs with them, wherever they stand. A picture may come in many
//! slices, each perhaps in a unit of its own; only the first one begins it. Start codes may straddle packets, so the last
//! bytes are carried along.
#![warn(clippy::indexing_slicing)]

use super::psi::Codec;
use super::sets::{Kinds, ParameterSets, Set};
use crate::format::Picture;
use crate::format::bits::Bits;

/// Bytes of an H.264 slice that certainly hold its place and type: two codes of at most 31 bits, and one byte that only
/// escapes zeros.
const SLICE_HEAD: usize = 9;

/// What an access unit has turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not clear yet.
    Unclear,
    /// A decoder can start here.
    Start {
        /// With the parameter sets that the unit itself brings; otherwise it must be given the last ones before.
        has_sets: bool,
        /// No other picture stands before it in the unit.
        is_first: bool,
    },
    /// It needs pictures before it, or parameter sets that have not come yet.
    Inner,
}

/// Reads one video, unit by unit.
#[derive(Clone, Debug)]
pub struct VideoScan {
    codec: Codec,
    /// The last bytes seen, so that a start code across two packets is found.
    tail: [u8; 3],
    /// What the next byte is.
    pending: Pending,
    sets: ParameterSets,
    /// Those that came since this access unit began, for the picture to come.
    own: Kinds,
    /// So does something that says a decoder can begin with it: a recovery point, or the header of a group.
    has_recovery_point: bool,
    /// The multiplexer says that a decoder can start here.
    is_flagged: bool,
    has_picture: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    UnitType,
    /// The second byte of HEVC's headers, before supplemental information or before a slice of a picture that may be one to
    /// start with.
    SeiLayer,
    SliceLayer(bool),
    /// The first byte of such a slice.
    SliceBegin(bool),
    /// A unit of supplemental information is a row of messages: type, size, content.
    SeiType,
    SeiSize(usize),
    SeiContent(usize),
    /// The beginning of a slice, and how many bytes of it there are.
    Slice([u8; SLICE_HEAD], usize),
}

impl VideoScan {
    /// Of a video of `codec`, if it is one that is looked into.
    pub fn of(codec: Codec) -> Option<Self> {
        matches!(codec, Codec::H264 | Codec::Hevc | Codec::Mpeg2Video).then(|| Self {
            codec,
            tail: [0xff; 3],
            pending: Pending::Nothing,
            sets: ParameterSets::default(),
            own: Kinds::default(),
            has_recovery_point: false,
            is_flagged: false,
            has_picture: false,
        })
    }

    /// An access unit begins with the next bytes, flagged by the multiplexer or not.
    pub fn begin(&mut self, is_flagged: bool) {
        self.go_on(is_flagged);
        (self.own, self.has_recovery_point, self.has_picture) = (Kinds::default(), false, false);
    }

    /// What has begun goes on in the next packet of its stream.
    pub fn go_on(&mut self, is_flagged: bool) {
        self.sets.close();
        (self.tail, self.pending, self.is_flagged) = ([0xff; 3], Pending::Nothing, is_flagged);
    }

    /// [`Self::begin`] where the next bytes may be in the middle of something: a parameter set that is open goes on in them.
    pub fn begin_with(&mut self, next: &[u8], is_flagged: bool) {
        self.go_on_with(next, is_flagged);
        (self.own, self.has_recovery_point, self.has_picture) = (Kinds::default(), false, false);
    }

    /// The same of [`Self::go_on`].
    pub fn go_on_with(&mut self, next: &[u8], is_flagged: bool) {
        if self.sets.is_open() && self.pending == Pending::Nothing && !begins_with_unit(next) {
            self.is_flagged = is_flagged;
        } else {
            self.go_on(is_flagged);
        }
    }

    /// Whether there are only parameter sets since the access unit began: then its picture is in the next one.
    pub fn has_only_sets(&self) -> bool {
        !self.own.are_none() && !self.has_picture
    }

    /// The last parameter sets, if they are all that a decoder needs.
    pub fn sets(&self) -> Option<&[u8]> {
        self.sets.complete(self.codec)
    }

    /// The same as they must stand before `next`: what is left there of a unit that has begun before is no part of them.
    pub fn sets_before(&self, next: &[u8]) -> Option<Vec<u8>> {
        let filler: &[u8] = match self.codec {
            _ if begins_with_unit(next) => &[],
            Codec::H264 => &[0, 0, 1, 0x0c],
            Codec::Hevc => &[0, 0, 1, 0x4c, 1],
            // User data: MPEG-2 has no filler.
            _ => &[0, 0, 1, 0xb2],
        };
        Some([self.sets()?, filler].concat())
    }

    /// What they say of the pictures.
    pub fn picture(&self) -> Option<Picture> {
        self.sets.picture()
    }

    /// Reads on until the first picture has shown what it is.
    pub fn read(&mut self, bytes: &[u8]) -> Kind {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (kind, after) = self.step(rest);
            if kind != Kind::Unclear {
                return kind;
            }
            rest = after;
        }
        Kind::Unclear
    }

    /// Reads all of it: the first start there is, whatever pictures come before. Never an inner one.
    pub fn read_whole(&mut self, bytes: &[u8]) -> Kind {
        let (mut found, mut rest) = (Kind::Unclear, bytes);
        while !rest.is_empty() {
            let (kind, after) = self.step(rest);
            if found == Kind::Unclear && matches!(kind, Kind::Start { .. }) {
                found = kind;
            }
            rest = after;
        }
        found
    }

    /// A byte, or all bytes up to the next start code where nothing else matters.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> (Kind, &'a [u8]) {
        if self.pending == Pending::Nothing && !self.sets.is_open() {
            return (Kind::Unclear, self.skip(bytes));
        }
        match bytes.split_first() {
            Some((byte, rest)) => (self.byte(*byte), rest),
            None => (Kind::Unclear, bytes),
        }
    }

    fn skip<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let straddles = match (self.tail, bytes) {
            ([_, 0, 0], [1, ..]) => 1,
            ([_, _, 0], [0, 1, ..]) => 2,
            _ => 0,
        };
        let end = if straddles > 0 { Some(straddles) } else { start_code(bytes).map(|at| at + 3) };
        let Some(end) = end else {
            let recent = bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default();
            self.tail = recent.iter().fold(self.tail, |[_, second, third], byte| [second, third, *byte]);
            return &[];
        };
        (self.tail, self.pending) = ([0, 0, 1], Pending::UnitType);
        bytes.get(end..).unwrap_or_default()
    }

    fn byte(&mut self, byte: u8) -> Kind {
        if self.sets.is_open() {
            self.sets.push(byte);
        }
        let mut kind = Kind::Unclear;
        match self.pending {
            Pending::Nothing => {}
            Pending::UnitType => kind = self.unit(byte),
            Pending::SeiLayer => self.pending = Pending::SeiType,
            Pending::SliceLayer(is_start) => self.pending = Pending::SliceBegin(is_start),
            Pending::SliceBegin(is_start) => kind = self.slice_begins(is_start, byte),
            _ if self.is_escape(byte) => {}
            Pending::SeiType => self.message(byte),
            Pending::SeiSize(size) => self.message_size(size, byte),
            Pending::SeiContent(left) => self.pending = content(left - 1),
            Pending::Slice(head, length) => kind = self.slice(head, length, byte),
        }
        let [_, second, third] = self.tail;
        self.tail = [second, third, byte];
        if self.tail == [0, 0, 1] {
            self.sets.close_before_start_code();
            self.pending = Pending::UnitType;
        }
        kind
    }

    /// A 3 behind two zeros only keeps them from looking like a start code and is not part of the content.
    fn is_escape(&self, byte: u8) -> bool {
        matches!(self.tail, [_, 0, 0]) && byte == 3
    }

    fn unit(&mut self, first: u8) -> Kind {
        self.pending = Pending::Nothing;
        match self.codec {
            Codec::H264 => self.h264(first),
            Codec::Hevc => self.hevc(first),
            _ => self.mpeg2(first),
        }
    }

    fn h264(&mut self, first: u8) -> Kind {
        match first & 0x1f {
            5 => self.pending = Pending::SliceBegin(true),
            1 | 2 if self.has_recovery_point => self.pending = Pending::SliceBegin(true),
            1 | 2 => self.pending = Pending::Slice([0; SLICE_HEAD], 0),
            3 | 4 => return self.picture_begins(false),
            6 => self.pending = Pending::SeiType,
            7 => self.set(Set::Sequence, first),
            8 => self.set(Set::Picture, first),
            _ => {}
        }
        Kind::Unclear
    }

    fn hevc(&mut self, first: u8) -> Kind {
        match (first >> 1) & 0x3f {
            16..=21 => self.pending = Pending::SliceLayer(true),
            0..=31 => self.pending = Pending::SliceLayer(self.has_recovery_point),
            32 => self.set(Set::Other, first),
            33 => self.set(Set::Sequence, first),
            34 => self.set(Set::Picture, first),
            39 => self.pending = Pending::SeiLayer,
            _ => {}
        }
        Kind::Unclear
    }

    /// The header of the sequence is all that a decoder waits for, and no picture of another kind follows it. Whoever writes
    /// it once in a while begins each group of pictures with one that needs no other.
    fn mpeg2(&mut self, code: u8) -> Kind {
        match code {
            0xb3 => self.set(Set::Sequence, code),
            0xb5 if !self.own.are_none() => self.set(Set::Other, code),
            0x00 => {
                let begins = self.own.are_complete(self.codec) || self.has_recovery_point;
                return self.picture_begins(begins);
            }
            0xb8 => self.has_recovery_point = true,
            _ => {}
        }
        Kind::Unclear
    }

    fn set(&mut self, set: Set, first: u8) {
        self.own.add(set);
        self.sets.open(set, first);
    }

    /// A picture without an IDR is a place to start when it needs no other and brings its parameter sets, as encoders write
    /// them that never send an IDR, or when the multiplexer says so.
    fn slice(&mut self, mut head: [u8; SLICE_HEAD], length: usize, byte: u8) -> Kind {
        if length == 0 && !is_first_slice(byte) {
            return self.picture_goes_on();
        }
        if let Some(place) = head.get_mut(length) {
            *place = byte;
        }
        let length = length + 1;
        let kind = head.get(..length).and_then(slice_kind);
        if kind.is_none() && length < SLICE_HEAD {
            self.pending = Pending::Slice(head, length);
            return Kind::Unclear;
        }
        self.pending = Pending::Nothing;
        // I and SI, each also as what all slices of the picture are.
        let is_intra = kind.is_some_and(|kind| matches!(kind % 5, 2 | 4));
        let begins = is_intra && (self.is_flagged || self.own.are_complete(self.codec));
        self.picture_begins(begins)
    }

    fn slice_begins(&mut self, is_start: bool, byte: u8) -> Kind {
        self.pending = Pending::Nothing;
        if is_first_slice(byte) { self.picture_begins(is_start) } else { self.picture_goes_on() }
    }

    /// With a slice that is not its first. Another picture may begin in the same unit.
    fn picture_goes_on(&mut self) -> Kind {
        (self.pending, self.has_picture) = (Pending::Nothing, true);
        Kind::Unclear
    }

    fn picture_begins(&mut self, is_start: bool) -> Kind {
        self.sets.apply(self.codec);
        let has_sets = self.own.are_complete(self.codec) || self.brings_all_there_is();
        let is_decodable = has_sets || self.sets().is_some();
        let is_first = !std::mem::replace(&mut self.has_picture, true);
        (self.own, self.has_recovery_point) = (Kinds::default(), false);
        if is_start && is_decodable { Kind::Start { has_sets, is_first } } else { Kind::Inner }
    }

    /// What is flagged and has the set of the sequence is meant as a place to start, also where no other sets have come yet.
    fn brings_all_there_is(&self) -> bool {
        self.is_flagged && self.own.has_sequence() && self.sets().is_none()
    }

    /// 0xff is only the beginning of a larger type; 0x80 ends the row.
    fn message(&mut self, kind: u8) {
        self.has_recovery_point |= kind == 6;
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

/// Whether the slice that begins so is its picture's first: H.264 numbers its first block, HEVC says it with a flag, and
/// both begin with a 1.
fn is_first_slice(byte: u8) -> bool {
    byte & 0x80 != 0
}

/// The type of a slice, when its beginning is long enough.
fn slice_kind(head: &[u8]) -> Option<u32> {
    let bits = &mut Bits::new(head);
    let _place = bits.golomb()?;
    bits.golomb()
}

/// Whether zeros and a start code come first.
fn begins_with_unit(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros).is_none_or(|byte| zeros >= 2 && *byte == 1)
}

/// Where three bytes are a start code. Two of three bytes are not looked at: most are larger than 1.
fn start_code(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    while let Some(byte) = bytes.get(at) {
        if *byte == 1 && bytes.get(at - 2..at) == Some(&[0, 0]) {
            return Some(at - 2);
        }
        at += if *byte == 0 { 1 } else { 3 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUD: &[u8] = &[0, 0, 0, 1, 0x09, 0xf0];
    const SPS: &[u8] = &[0, 0, 1, 0x67, 66, 0, 10, 0xf8];
    const PPS: &[u8] = &[0, 0, 1, 0x68, 0xce, 0x38];
    const IDR: &[u8] = &[0, 0, 1, 0x65, 0x88, 0x84];
    /// Types P, I, and I for all slices.
    const P: &[u8] = &[0, 0, 1, 0x41, 0xe0, 0x10];
    const I: &[u8] = &[0, 0, 1, 0x41, 0xb0, 0x10];
    const ONLY_I: &[u8] = &[0, 0, 1, 0x41, 0x88, 0x10];
    /// Buffering period, then recovery point, in one unit.
    const RECOVERY: &[u8] = &[0, 0, 1, 0x06, 0, 2, 9, 9, 6, 1, 0x80];
    const ALONE: Kind = Kind::Start { has_sets: true, is_first: true };
    const WITH_OTHERS: Kind = Kind::Start { has_sets: false, is_first: true };

    fn scan(codec: Codec) -> VideoScan {
        VideoScan::of(codec).unwrap()
    }

    fn h264(units: &[&[u8]]) -> Kind {
        scan(Codec::H264).read(&units.concat())
    }

    /// What the second access unit is after the first has been read whole.
    fn after(first: &[&[u8]], second: &[&[u8]]) -> Kind {
        let mut scan = scan(Codec::H264);
        scan.begin(false);
        scan.read_whole(&first.concat());
        scan.begin(false);
        scan.read(&second.concat())
    }

    #[test]
    fn h264_starts_at_an_idr_at_a_recovery_point_and_at_intra_pictures_that_bring_their_sets() {
        for picture in [IDR, I, ONLY_I] {
            assert_eq!(h264(&[AUD, SPS, PPS, picture]), ALONE, "{picture:x?}");
        }
        assert_eq!(h264(&[SPS, PPS, RECOVERY, P]), ALONE);
        assert_eq!(h264(&[SPS, PPS, P]), Kind::Inner);
        assert_eq!(h264(&[SPS, PPS]), Kind::Unclear);
    }

    #[test]
    fn without_parameter_sets_nothing_is_a_place_to_start_and_those_from_before_will_do() {
        for unit in [&[IDR][..], &[SPS, IDR], &[PPS, IDR], &[RECOVERY, P]] {
            assert_eq!(h264(unit), Kind::Inner, "{unit:x?}");
            assert_eq!(after(&[SPS, PPS, P, P], unit), WITH_OTHERS, "{unit:x?}");
            assert_eq!(
                after(&[P, P, SPS, PPS], unit),
                WITH_OTHERS,
                "at the end of the unit before, {unit:x?}"
            );
        }
        assert_eq!(after(&[SPS, PPS, IDR], &[I]), Kind::Inner, "it may be the second field");
    }

    #[test]
    fn a_flag_on_a_picture_with_the_set_of_the_sequence_is_believed_where_no_other_sets_ever_came() {
        let flagged = |unit: &[&[u8]]| {
            let mut scan = scan(Codec::H264);
            scan.begin(true);
            scan.read(&unit.concat())
        };
        assert_eq!(flagged(&[SPS, IDR]), Kind::Start { has_sets: true, is_first: true });
        for unit in [&[IDR][..], &[PPS, IDR], &[SPS, P]] {
            assert_eq!(flagged(unit), Kind::Inner, "{unit:x?}");
        }
    }

    #[test]
    fn a_flag_on_an_intra_picture_is_believed_and_on_another_it_is_not() {
        for (picture, expected) in [(I, WITH_OTHERS), (IDR, WITH_OTHERS), (P, Kind::Inner)] {
            let mut scan = scan(Codec::H264);
            scan.begin(false);
            scan.read_whole(&[SPS, PPS, IDR].concat());
            scan.begin(true);
            assert_eq!(scan.read(picture), expected);
        }
    }

    #[test]
    fn the_sets_are_kept_as_they_came_and_say_how_large_the_picture_is() {
        let sps: &[u8] = &[
            0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x02, 0x8d, 0xf9, 0x30, 0x11, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x30,
            0x0f, 0x12, 0x26, 0x48,
        ];
        for piece in 1..40 {
            let mut scan = scan(Codec::H264);
            let unit = [AUD, &[0, 0, 0, 1], sps, &[0, 0, 0, 1, 0x68, 0xce], &[0, 0, 0], IDR].concat();
            for part in unit.chunks(piece) {
                scan.read_whole(part);
            }
            assert_eq!(scan.sets().unwrap(), [&[0, 0, 0, 1], sps, &[0, 0, 0, 1, 0x68, 0xce]].concat());
            assert_eq!(scan.picture().map(|picture| (picture.width, picture.height)), Some((160, 90)));
        }
    }

    #[test]
    fn a_set_may_be_cut_by_the_unit_that_it_goes_on_in() {
        let sps: &[u8] = &[
            0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x02, 0x8d, 0xf9, 0x30, 0x11, 0, 0, 3, 0, 1, 0, 0, 3,
            0, 0x30, 0x0f, 0x12, 0x26, 0x48,
        ];
        let (pps, key): (&[u8], &[u8]) = (&[0, 0, 0, 1, 0x68, 0xce], &[0, 0, 0, 1, 0x65, 0x88]);
        let stream = [P, sps, pps, key].concat();
        for cut in P.len() + 5..P.len() + sps.len() {
            let mut scan = scan(Codec::H264);
            scan.begin_with(&stream, false);
            scan.read_whole(&stream[..cut]);
            scan.begin_with(&stream[cut..], false);
            let lacks_all = Kind::Start { has_sets: false, is_first: true };
            assert_eq!(scan.read_whole(&stream[cut..]), lacks_all, "cut at {cut}");
            assert_eq!(scan.sets().unwrap(), [sps, pps].concat(), "cut at {cut}");
            assert_eq!(scan.sets_before(key).unwrap(), [sps, pps].concat(), "cut at {cut}");
            assert_eq!(scan.sets_before(&stream[cut..]).unwrap(), [sps, pps, &[0, 0, 1, 0x0c]].concat());
            assert_eq!(scan.picture().map(|picture| (picture.width, picture.height)), Some((160, 90)));
        }
        // A start code, and be it behind more zeros than there must be, begins another unit.
        for next in [&[0, 0, 1, 9][..], &[0, 0, 0, 0, 0, 1, 9], &[0; 4], &[]] {
            let mut scan = scan(Codec::H264);
            scan.read_whole(sps);
            scan.begin_with(next, false);
            assert!(!scan.sets.is_open(), "{next:x?}");
        }
    }

    #[test]
    fn sets_in_a_unit_of_their_own_belong_to_the_picture_after_it() {
        let mut scan = scan(Codec::H264);
        scan.begin(false);
        assert_eq!(scan.read(&[AUD, SPS, PPS].concat()), Kind::Unclear);
        assert!(scan.has_only_sets());
        scan.go_on(true);
        assert_eq!(scan.read(&[AUD, IDR].concat()), ALONE);
    }

    #[test]
    fn the_picture_to_start_with_may_be_the_last_of_many() {
        let many = [&[P; 14][..], &[SPS, PPS, IDR], &[P; 3]].concat();
        let last = Kind::Start { has_sets: true, is_first: false };
        assert_eq!(scan(Codec::H264).read_whole(&many.concat()), last);
        assert_eq!(h264(&many), Kind::Inner);
    }

    #[test]
    fn hevc_starts_at_random_access_pictures() {
        let sets = [[0, 0, 1, 32 << 1, 1], [0, 0, 1, 33 << 1, 1], [0, 0, 1, 34 << 1, 1]].concat();
        for unit in 0..32u8 {
            let picture = [0, 0, 1, unit << 1, 1, 0xac];
            let kind = scan(Codec::Hevc).read(&[&sets[..], &picture].concat());
            assert_eq!(kind == ALONE, (16..=21).contains(&unit), "unit {unit}");
            assert_eq!(scan(Codec::Hevc).read(&picture), Kind::Inner);
        }
    }

    #[test]
    fn hevc_starts_at_a_recovery_point_as_encoders_write_it_that_refresh_bit_by_bit() {
        let sets = [[0, 0, 1, 32 << 1, 1], [0, 0, 1, 33 << 1, 1], [0, 0, 1, 34 << 1, 1]].concat();
        let inner = [0, 0, 1, 1 << 1, 1, 0xd0];
        let sei = |kind: u8| [0, 0, 1, 39 << 1, 1, 1, 1, 9, kind, 1, 0x84, 0x80];
        assert_eq!(scan(Codec::Hevc).read(&[&sets[..], &sei(6), &inner].concat()), ALONE);
        assert_eq!(scan(Codec::Hevc).read(&[&sets[..], &sei(5), &inner].concat()), Kind::Inner);
        assert_eq!(scan(Codec::Hevc).read(&[&sei(6)[..], &inner].concat()), Kind::Inner, "no sets");
    }

    #[test]
    fn a_slice_that_is_not_its_picture_s_first_begins_nothing() {
        let first = [SPS, PPS, IDR].concat();
        for slice in [&[0, 0, 1, 0x65, 0x44][..], &[0, 0, 1, 0x41, 0x30, 0x10], &[0, 0, 1, 0x41, 0, 0xb0]] {
            assert_eq!(after(&[&first], &[slice]), Kind::Unclear, "{slice:x?}");
            assert_eq!(after(&[&first], &[RECOVERY, slice]), Kind::Unclear, "{slice:x?}");
            let behind = Kind::Start { has_sets: true, is_first: false };
            assert_eq!(after(&[&first], &[slice, &first]), behind, "{slice:x?}");
            let found = scan(Codec::H264).read_whole(&[&first[..], slice].concat());
            assert_eq!(found, ALONE, "{slice:x?}");
        }
        let mut hevc = scan(Codec::Hevc);
        hevc.begin(false);
        let sets = [[0, 0, 1, 32 << 1, 1], [0, 0, 1, 33 << 1, 1], [0, 0, 1, 34 << 1, 1]].concat();
        assert_eq!(hevc.read(&[&sets[..], &[0, 0, 1, 19 << 1, 1, 0xac]].concat()), ALONE);
        hevc.begin(false);
        assert_eq!(hevc.read(&[0, 0, 1, 19 << 1, 1, 0x2c]), Kind::Unclear);
    }

    #[test]
    fn mpeg2_starts_at_a_group_of_pictures_where_the_sequence_header_is_known() {
        let header = [0, 0, 1, 0xb3, 0x2d, 0x02, 0x40, 0x13, 0xff, 0xff, 0xe0, 0x18];
        let group = [0, 0, 1, 0xb8, 0, 8, 0, 0x40];
        let picture = [0, 0, 1, 0x00, 0, 0x0f];
        let mut scan = scan(Codec::Mpeg2Video);
        assert_eq!(scan.read(&[&group[..], &picture].concat()), Kind::Inner, "no header yet");
        for (unit, expected) in [
            ([&header[..], &group, &picture].concat(), ALONE),
            ([&group[..], &picture].concat(), WITH_OTHERS),
            (picture.to_vec(), Kind::Inner),
        ] {
            scan.begin(false);
            assert_eq!(scan.read(&unit), expected);
        }
    }

    #[test]
    fn mpeg2_starts_at_a_sequence_header() {
        let header = [0, 0, 1, 0xb3, 0x2d, 0x02, 0x40, 0x13, 0xff, 0xff, 0xe0, 0x18];
        let extension = [0, 0, 1, 0xb5, 0x14, 0x82, 0, 1, 0, 0];
        let picture = [0, 0, 1, 0x00, 0, 0x0f];
        let mut scan = scan(Codec::Mpeg2Video);
        assert_eq!(scan.read(&[&header[..], &extension, &[0, 0, 1, 0xb8, 0], &picture].concat()), ALONE);
        assert_eq!(scan.picture().map(|picture| (picture.width, picture.height)), Some((720, 576)));
        scan.begin(false);
        assert_eq!(scan.read(&picture), Kind::Inner);
    }

    #[test]
    fn a_message_is_as_long_as_it_says_without_the_bytes_that_only_escape_zeros() {
        let before: [u8; 9] = [0, 0, 1, 0x06, 0, 3, 0, 0, 3];
        for content in [6, 7] {
            // Content 6, were it a type, would be a recovery point.
            let no_recovery = [before.as_slice(), &[content, 0x80]].concat();
            assert_eq!(h264(&[SPS, PPS, &no_recovery, P]), Kind::Inner, "content {content}");
            let recovery = [before.as_slice(), &[content, 6, 1, 0xc4, 0x80]].concat();
            assert_eq!(h264(&[SPS, PPS, &recovery, P]), ALONE, "content {content}");
        }
    }

    #[test]
    fn a_start_code_may_straddle_packets_anywhere() {
        let unit = [AUD, SPS, PPS, RECOVERY, P].concat();
        for cut in 0..unit.len() {
            for whole in [false, true] {
                let mut scan = scan(Codec::H264);
                let mut read = |bytes| if whole { scan.read_whole(bytes) } else { scan.read(bytes) };
                let kinds = [read(&unit[..cut]), read(&unit[cut..])];
                assert!(kinds.contains(&ALONE), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_start_code_is_found_wherever_it_is() {
        for at in 0..40 {
            for filling in [0, 1, 2, 0xff] {
                let mut bytes = vec![filling; 40];
                bytes.splice(at..at, [0, 0, 1]);
                let first = bytes.windows(3).position(|window| window == [0, 0, 1]);
                assert_eq!(start_code(&bytes), first, "at {at} in {filling}");
            }
        }
        assert_eq!(start_code(&[0; 40]), None);
    }
}
