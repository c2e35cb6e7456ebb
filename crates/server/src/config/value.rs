//! How values are written: durations, sizes, ranges, addresses. Each parser says in one phrase what it accepts.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// All of them.
    pub fn range(self) -> std::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many there are.
    pub fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Never: both ends belong to it.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether some port is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// This range in equal parts, in order; all of it for each when there are more parts than ports.
    pub fn parts(self, count: usize) -> Vec<Self> {
        let size = u16::try_from(self.len() / count.max(1)).unwrap_or(u16::MAX);
        let part = |at: usize| match u16::try_from(at) {
            Ok(at) if size > 0 => {
                let first = self.first + at * size;
                Self { first, last: first + (size - 1) }
            }
            _ => self,
        };
        (0..count).map(part).collect()
    }

    /// Whether `port` is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Where the service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenHost {
    /// Every address, IPv6 and IPv4.
    All,
    /// One address.
    Address(IpAddr),
}

impl ListenHost {
    /// Whether only this machine can connect.
    pub fn is_loopback(self) -> bool {
        matches!(self, Self::Address(address) if address.is_loopback())
    }
}

/// Longest duration that is accepted. Deadlines are sums of durations and must not overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// `30`, `30s`, `250ms`, `5m`, `1h`, `5 * 60`: a bare number is seconds. At most a year.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = product(text)?;
    let seconds = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 24.0 * 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok().filter(|duration| *duration <= LONGEST)
}

/// `65536`, `64 KiB`, `4MiB`, `512m`, `2g`, `8 * 1024 * 1024`: a bare number is bytes, a single letter is binary as Docker
/// has it.
pub fn size(text: &str) -> Option<usize> {
    let (number, unit) = product(text)?;
    let bytes: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return None,
    };
    let total = number * bytes;
    // 2^53 is where an f64 stops holding every whole number, and far beyond any memory.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked in the same expression"
    )]
    (total <= 9_007_199_254_740_992.0).then_some(total.round() as usize)
}

/// A whole number: `12`, `3 * 4`.
pub fn whole(text: &str) -> Option<usize> {
    let factors = text.split('*').map(|factor| factor.trim().parse::<usize>().ok());
    factors.reduce(|product, factor| product?.checked_mul(factor?)).flatten()
}

/// `1.5` as billionths: more than 0, at most a thousand.
pub fn decimal(text: &str) -> Option<i64> {
    let (number, "") = product(text)? else { return None };
    #[expect(clippy::cast_possible_truncation, reason = "at most 10^12")]
    (number > 0.0 && number <= 1000.0).then_some((number * 1e9).round() as i64)
}

/// `true`, `false`, and the other words people use for them.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `198.51.100.7,2001:db8::7`, at least one.
pub fn addresses(text: &str) -> Option<Vec<IpAddr>> {
    let all: Vec<IpAddr> = list(text).map(address).collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

/// `19000-19999`.
pub fn ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(PortRange { first, last })
}

/// An address, or `all`, `*`, `0.0.0.0` and `::` for every one.
pub fn host(text: &str) -> Option<ListenHost> {
    match text {
        "all" | "*" | "::" | "[::]" | "0.0.0.0" => Some(ListenHost::All),
        "localhost" => Some(ListenHost::Address(IpAddr::from([127, 0, 0, 1]))),
        _ => address(text).map(ListenHost::Address),
    }
}

/// An address, an IPv6 one perhaps in brackets. Both of them, or none.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// A key as a client can send it: a header has no other bytes, and blanks at its ends are not part of it.
pub fn is_key(text: &str) -> bool {
    text.trim() == text && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Names of hosts, separated as in every list, without ports.
pub fn host_names(text: &str) -> Option<Vec<String>> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = |name: &&str| name.len() <= 253 && name.bytes().all(is_known);
    list(text).map(|name| Some(name).filter(is_name).map(str::to_owned)).collect()
}

/// A size as people write it, in the largest unit that needs no fraction.
pub fn show_size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// The parts of a list, without empty ones.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// What stands before a comment: a `#` at the beginning or after a blank, as shells and `.env` files have it.
pub fn without_comment(text: &str) -> &str {
    let begins = |at: &usize| text[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = text.match_indices('#').map(|(at, _)| at).find(begins);
    comment.map_or(text, |at| &text[..at]).trim()
}

/// The product of numbers that are not negative, and their unit: `8 * 1024 * 1024`, `4 * 64 KiB`. One factor at most has
/// a unit, because a product of two is no size and no duration.
fn product(text: &str) -> Option<(f64, &str)> {
    text.split('*').try_fold((1.0, ""), |(product, unit), factor| {
        let (number, own) = split_unit(factor.trim())?;
        let unit = if unit.is_empty() { own } else { Some(unit).filter(|_| own.is_empty())? };
        Some((product * number, unit))
    })
}

/// A number that is not negative, and what follows it.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_unless_a_unit_says_otherwise() {
        assert_eq!(duration("30"), Some(Duration::from_secs(30)));
        assert_eq!(duration("30s"), duration("30"));
        assert_eq!(duration("5m"), Some(Duration::from_mins(5)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(duration("5 * 60"), duration("5m"));
        assert_eq!(duration("2*30s"), duration("60"));
        for wrong in
            ["", "s", "-1", "5m * 5m", "5 *", "5 minutes", "1e9", "∞", "8761h", "99999999999999999999"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_bytes_unless_a_unit_says_otherwise() {
        assert_eq!(size("65536"), Some(65536));
        assert_eq!(size("64 KiB"), Some(65536));
        assert_eq!(size("4MiB"), Some(4 << 20));
        assert_eq!(size("512m"), Some(512 << 20));
        assert_eq!(size("1.5k"), Some(1536));
        assert_eq!(size("8 * 1024 * 1024"), Some(8 << 20));
        assert_eq!(size("8*1024*1024"), Some(8 << 20));
        assert_eq!(size("2 * 64 KiB"), Some(128 << 10));
        for wrong in [
            "8 ** 2",
            "* 8",
            "8 * * 8",
            "1 KiB * 1 KiB",
            "8 * -1",
            "8 x 8",
            "",
            "-1",
            "10T",
            "1.5x",
            "9999999999999999999999",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_may_be_products() {
        assert_eq!((whole("12"), whole("3 * 4"), whole("3*4")), (Some(12), Some(12), Some(12)));
        assert_eq!(decimal("0.5 * 3"), Some(1_500_000_000));
        for wrong in ["", "*", "3 *", "-1", "1.5", "3 KiB", "9999999999 * 9999999999"] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
        assert_eq!((decimal("1.5 s"), decimal("0"), decimal("1e3")), (None, None, None));
    }

    #[test]
    fn a_comment_begins_with_a_sign_of_its_own() {
        for (text, value) in [
            ("30", "30"),
            ("30 # half a minute", "30"),
            ("30\t# half a minute # more", "30"),
            ("# nothing", ""),
            ("30#30", "30#30"),
            ("\u{fc} # x", "\u{fc}"),
        ] {
            assert_eq!(without_comment(text), value);
        }
    }

    #[test]
    fn a_key_is_what_a_header_can_carry() {
        assert!(is_key("a long and secret key") && is_key("K3y-with~signs"));
        for wrong in [" led", "trailed ", "two\nlines", "tab\tbed", "schlüssel"] {
            assert!(!is_key(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_is_read() {
        for (bytes, text) in [(0, "0"), (1316, "1316"), (65_536, "64 KiB"), (3 << 30, "3 GiB")] {
            assert_eq!((show_size(bytes).as_str(), size(text)), (text, Some(bytes)));
        }
    }

    #[test]
    fn a_reversed_or_empty_range_is_none() {
        assert_eq!(ports("19000-19999"), Some(PortRange { first: 19_000, last: 19_999 }));
        for wrong in ["19999-19000", "0-5", "19000", "1-70000", "a-b"] {
            assert_eq!(ports(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_way_to_say_all_addresses_means_all() {
        for text in ["all", "*", "::", "0.0.0.0"] {
            assert_eq!(host(text), Some(ListenHost::All));
        }
        assert!(host("127.0.0.1").is_some_and(ListenHost::is_loopback));
        assert!(host("[::1]").is_some_and(ListenHost::is_loopback));
        for wrong in
            ["example.org", "[::1", "::1]", "]::1[", "[[::1]]", "[::1]evil.example", "[127.0.0.1]", ""]
        {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }
}
