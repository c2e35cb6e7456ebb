//! How a memory limit is written in a custom variant.

use std::str::FromStr;

/// Less, and the kernel kills an engine before it plays anything.
const LEAST: u64 = 32 << 20;
/// More is a slip of the unit.
const MOST: u64 = 128 << 30;
/// As many digits as the reference takes; no product with a unit overflows.
const MOST_DIGITS: usize = 15;

/// Memory of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Written as `0`: as much as the machine has, whatever `ENGINE_MEMORY_LIMIT` says.
    Unlimited,
    /// Bytes, 32 MiB to 128 GiB.
    Bytes(u64),
}

/// Not a memory limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("0, or up to 15 digits with b, k, m or g, from 32m to 128g, is expected")]
pub struct InvalidMemoryLimit;

impl MemoryLimit {
    /// As [`crate::spec::Limits`] has it.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = InvalidMemoryLimit;

    fn from_str(text: &str) -> Result<Self, InvalidMemoryLimit> {
        if text == "0" {
            return Ok(Self::Unlimited);
        }
        let digits = text.strip_suffix(|c: char| c.is_ascii_alphabetic()).unwrap_or(text);
        let unit: u64 = match text.get(digits.len()..).map(str::to_ascii_lowercase).as_deref() {
            Some("" | "b") => 1,
            Some("k") => 1 << 10,
            Some("m") => 1 << 20,
            Some("g") => 1 << 30,
            _ => return Err(InvalidMemoryLimit),
        };
        let is_number =
            (1..=MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let number: Option<u64> = digits.parse().ok().filter(|_| is_number);
        let bytes = number.and_then(|number| number.checked_mul(unit));
        bytes.filter(|bytes| (LEAST..=MOST).contains(bytes)).map(Self::Bytes).ok_or(InvalidMemoryLimit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_with_a_unit_of_either_case_or_in_bytes() {
        for (text, bytes) in [
            ("0", None),
            ("32m", Some(32 << 20)),
            ("33554432", Some(32 << 20)),
            ("33554432b", Some(32 << 20)),
            ("32768K", Some(32 << 20)),
            ("2G", Some(2 << 30)),
            ("128g", Some(128 << 30)),
            ("137438953472", Some(128 << 30)),
        ] {
            assert_eq!(text.parse().map(MemoryLimit::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_or_no_sensible_one_is_refused() {
        for text in [
            "",
            "00",
            "0m",
            "1",
            "31m",
            "33554431",
            "129g",
            "137438953473",
            "10T",
            "1.5g",
            "1g ",
            " 1g",
            "+1g",
            "-1",
            "1gb",
            "1 g",
            "g",
            "١g",
            "1é",
            "999999999999999g",
            "0000000000000064m",
            "1180591620717411303424",
        ] {
            assert_eq!(text.parse::<MemoryLimit>(), Err(InvalidMemoryLimit), "{text:?}");
        }
    }
}
