//! Bits of a parameter set. Whatever is missing is `None`.
#![warn(clippy::indexing_slicing)]

use bitstream_io::{BigEndian, BitRead, BitReader};

/// Longest code of Exp-Golomb that stands for a value of 32 bits, in leading zeros.
const MOST_ZEROS: u32 = 31;

/// Reads bit by bit, the highest first.
pub(crate) struct Bits<'a>(BitReader<&'a [u8], BigEndian>);

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(BitReader::new(bytes))
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.0.read_bit().ok()
    }

    /// A number of `count` bits, at most 32.
    pub(crate) fn number(&mut self, count: u32) -> Option<u32> {
        self.0.read_var(count).ok()
    }

    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        self.0.skip(count).ok()
    }

    /// Exp-Golomb without sign.
    pub(crate) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > MOST_ZEROS {
                return None;
            }
        }
        let rest: u32 = self.number(zeros)?;
        Some((1 << zeros) - 1 + rest)
    }

    /// Exp-Golomb without sign, a count that may not be larger than `most`.
    pub(crate) fn count(&mut self, most: u32) -> Option<u32> {
        self.golomb().filter(|count| *count <= most)
    }

    /// So many Exp-Golomb numbers that mean nothing here. With and without sign they are equally long.
    pub(crate) fn skip_golombs(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.golomb().map(|_| ()))
    }

    /// Exp-Golomb with sign.
    pub(crate) fn signed(&mut self) -> Option<i64> {
        let code = i64::from(self.golomb()?);
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

/// The content of a unit: without the 3 behind two zeros, which only keeps them from looking like a start code.
pub(crate) fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        content.push(*byte);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_standard_writes_them() {
        // 1 | 010 | 011 | 00100 | 00111, then nothing.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000]);
        let read: Vec<_> = std::iter::from_fn(|| bits.golomb()).collect();
        assert_eq!(read, [0, 1, 2, 3, 6]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0011, 0b1000_0000]);
        let read: Vec<_> = std::iter::from_fn(|| bits.signed()).collect();
        assert_eq!(read, [0, 1, -1, 2, -3]);
    }

    #[test]
    fn a_number_too_large_or_cut_off_is_none() {
        assert_eq!(Bits::new(&[0; 9]).golomb(), None);
        assert_eq!(Bits::new(&[0, 1]).golomb(), None);
        // 31 zeros: the largest value there is.
        assert_eq!(Bits::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe]).golomb(), Some(u32::MAX - 1));
        assert_eq!(Bits::new(&[0b0010_0000]).count(2), None);
    }

    #[test]
    fn only_a_three_behind_two_zeros_is_no_content() {
        assert_eq!(unescaped(&[1, 0, 0, 3, 1, 0, 3, 0, 0, 3, 0, 0, 3]), [1, 0, 0, 1, 0, 3, 0, 0, 0, 0]);
    }
}
