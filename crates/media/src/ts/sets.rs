//! Parameter sets: without them no picture can be decoded, and they stand where their encoder likes: before the picture, in
//! a packet of their own, behind the picture before, once in a while.
#![warn(clippy::indexing_slicing)]

use super::psi::Codec;
use crate::format::{Picture, picture_of};

/// Most bytes that are kept of one group of sets. Real ones have 100; with all scaling lists 1000.
const MOST: usize = 4096;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What a unit is among the sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Of the whole video: SPS, sequence header.
    Sequence,
    /// Of pictures: PPS.
    Picture,
    /// What those refer to, or add.
    Other,
}

/// Which kinds there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    sequence: bool,
    picture: bool,
}

impl Kinds {
    pub(super) fn add(&mut self, set: Set) {
        self.sequence |= set == Set::Sequence;
        self.picture |= set == Set::Picture;
    }

    /// All that a decoder needs.
    pub(super) fn are_complete(self, codec: Codec) -> bool {
        self.sequence && (self.picture || codec == Codec::Mpeg2Video)
    }

    pub(super) fn has_sequence(self) -> bool {
        self.sequence
    }

    pub(super) fn are_none(self) -> bool {
        self == Self::default()
    }
}

/// The last ones of one video, with their start codes.
#[derive(Clone, Debug, Default)]
pub(super) struct ParameterSets {
    known: Vec<u8>,
    known_kinds: Kinds,
    picture: Option<Picture>,
    /// Those that come before the next picture.
    coming: Vec<u8>,
    coming_kinds: Kinds,
    /// The unit at the end of `coming` goes on.
    is_open: bool,
}

impl ParameterSets {
    /// A unit that begins with `first` is one.
    pub(super) fn open(&mut self, set: Set, first: u8) {
        self.close();
        self.coming_kinds.add(set);
        self.coming.extend_from_slice(&START_CODE);
        self.coming.push(first);
        self.is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The unit goes on.
    pub(super) fn push(&mut self, byte: u8) {
        if self.coming.len() < MOST {
            self.coming.push(byte);
        } else {
            self.forget_coming();
        }
    }

    /// The unit was over before the last bytes, of which all but a 1 at the end are zeros and belong to no unit.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let end = self.coming.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            self.coming.truncate(end);
        }
    }

    /// The next start code has come, as the last three bytes.
    pub(super) fn close_before_start_code(&mut self) {
        if self.is_open {
            self.coming.truncate(self.coming.len().saturating_sub(3));
            self.close();
        }
    }

    /// A picture begins: what came applies.
    pub(super) fn apply(&mut self, codec: Codec) {
        self.close();
        if contains(&self.known, &self.coming) {
            return self.forget_coming();
        }
        if self.coming_kinds.sequence {
            std::mem::swap(&mut self.known, &mut self.coming);
            self.known_kinds = self.coming_kinds;
            let picture = match codec {
                // Its extensions are units of their own.
                Codec::Mpeg2Video => {
                    self.known.get(START_CODE.len()..).and_then(|unit| picture_of(codec, unit))
                }
                _ => units(&self.known).find_map(|unit| picture_of(codec, unit)),
            };
            self.picture = picture.or(self.picture);
        } else {
            self.add_coming();
        }
        self.forget_coming();
    }

    /// More sets for the same sequence. Too many of them are not kept: then only the last count.
    fn add_coming(&mut self) {
        if self.known.len() + self.coming.len() <= MOST {
            self.known.extend_from_slice(&self.coming);
            self.known_kinds.picture |= self.coming_kinds.picture;
        }
    }

    /// What a decoder needs before it can start, if all of it is known.
    pub(super) fn complete(&self, codec: Codec) -> Option<&[u8]> {
        self.known_kinds.are_complete(codec).then_some(&self.known)
    }

    /// The picture that the last sequence's set describes.
    pub(super) fn picture(&self) -> Option<Picture> {
        self.picture
    }

    fn forget_coming(&mut self) {
        self.coming.clear();
        (self.coming_kinds, self.is_open) = (Kinds::default(), false);
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    part.is_empty() || all.windows(part.len()).any(|window| window == part)
}

/// Each unit behind its start code.
fn units(sets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let begins = |at: &usize| sets.get(*at..at + START_CODE.len()) == Some(&START_CODE);
    let mut starts = (0..sets.len()).filter(begins).peekable();
    std::iter::from_fn(move || {
        let start = starts.next()? + START_CODE.len();
        sets.get(start..starts.peek().copied().unwrap_or(sets.len()))
    })
}
