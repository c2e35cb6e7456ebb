//! Durations, sizes and counts, each with the range in which the program works.

use std::time::Duration;

use super::super::value::{self, show_size};
use super::{Format, Kind, Shown};

/// Largest number of anything. Beyond it nothing here works, and limits may be added without overflow.
const LARGEST_COUNT: usize = 1_000_000;

/// `30`, `30s`, `5m`, `7d`, `5 * 60`; at most a year.
pub(in crate::config) struct Durations {
    /// Less would harm.
    least: Duration,
    /// Whether 0 is accepted, too, and means never.
    or_never: bool,
}

/// `65536`, `64 KiB`, `4MiB`, `8 * 1024 * 1024`, in bytes.
pub(in crate::config) struct Sizes {
    least: usize,
    most: Option<usize>,
    /// Whether 0 is accepted, too, and means none.
    or_none: bool,
}

/// A whole number, at most [`LARGEST_COUNT`].
pub(in crate::config) struct Counts {
    least: usize,
}

/// 0–65535.
pub(in crate::config) struct Port;

/// A number like `1.5`, more than 0 and at most a thousand, as billionths.
pub(in crate::config) struct Billionths;

impl Durations {
    /// Any length, 0 included.
    pub(in crate::config) const ANY: Self = Self::from_ms(0);

    pub(in crate::config) const fn from_ms(least: u64) -> Self {
        Self { least: Duration::from_millis(least), or_never: false }
    }

    pub(in crate::config) const fn or_never(self) -> Self {
        Self { or_never: true, ..self }
    }
}

impl Sizes {
    pub(in crate::config) const fn from(least: usize) -> Self {
        Self { least, most: None, or_none: false }
    }

    pub(in crate::config) const fn within(least: usize, most: usize) -> Self {
        Self { least, most: Some(most), or_none: false }
    }

    pub(in crate::config) const fn or_none(self) -> Self {
        Self { or_none: true, ..self }
    }
}

impl Counts {
    pub(in crate::config) const fn from(least: usize) -> Self {
        Self { least }
    }
}

impl Kind for Durations {
    fn unit(&self) -> Option<&'static str> {
        Some("seconds")
    }

    fn accepts(&self) -> String {
        let least = self.least;
        match self.or_never {
            true => format!("0, or a duration from {least:?} to a year"),
            false if least.is_zero() => "a duration of at most a year: 30, 30s, 250ms, 5m, 1h, 7d".into(),
            false => format!("a duration from {least:?} to a year: 30, 30s, 250ms, 5m, 1h, 7d"),
        }
    }

    fn limit(&self) -> Option<String> {
        (!self.least.is_zero()).then(|| format!("at least {:?}", self.least))
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        let ms = self.least.as_millis();
        let less = ms.checked_sub(1).filter(|less| *less > 0).map(|less| (format!("{less}ms"), false));
        let zero = ("0".to_owned(), self.or_never || ms == 0);
        let year = [("8760h".to_owned(), true), ("8761h".to_owned(), false)];
        less.into_iter().chain([(format!("{ms}ms"), true), zero]).chain(year).collect()
    }
}

impl Format<Duration> for Durations {
    fn parse(&self, text: &str) -> Option<Duration> {
        let is_fit = |length: &Duration| *length >= self.least || (self.or_never && length.is_zero());
        value::duration(text).filter(is_fit)
    }
}

impl Shown<Duration> for Durations {
    fn show(&self, value: &Duration) -> String {
        let hour = Duration::from_hours(1).as_secs();
        match (value.as_secs(), value.subsec_nanos()) {
            (seconds, 0) if seconds > 0 && seconds.is_multiple_of(hour) => format!("{}h", seconds / hour),
            _ => format!("{}s", value.as_secs_f64()),
        }
    }
}

impl Sizes {
    fn range(&self) -> String {
        let least = in_words(self.least);
        self.most.map_or_else(|| format!("at least {least}"), |most| format!("{least} to {}", in_words(most)))
    }
}

fn in_words(bytes: usize) -> String {
    let size = show_size(bytes);
    if size.contains(' ') { size } else { format!("{size} bytes") }
}

impl Kind for Sizes {
    fn unit(&self) -> Option<&'static str> {
        Some("bytes")
    }

    fn accepts(&self) -> String {
        let none = if self.or_none { "0 for none, or " } else { "" };
        format!("{none}{}, written like 65536, 64 KiB, 512m or 8 * 1024 * 1024", self.range())
    }

    fn limit(&self) -> Option<String> {
        let none = if self.or_none { "0 for none, or " } else { "" };
        Some(format!("{none}{}", self.range()))
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        let Self { least, most, or_none } = *self;
        let most = most.map(|most| [(most.to_string(), true), ((most + 1).to_string(), false)]);
        let least = [(least.to_string(), true), ((least - 1).to_string(), false), ("0".into(), or_none)];
        least.into_iter().chain(most.into_iter().flatten()).collect()
    }
}

impl Format<usize> for Sizes {
    fn parse(&self, text: &str) -> Option<usize> {
        let is_fit = |bytes: &usize| {
            (*bytes >= self.least && self.most.is_none_or(|most| *bytes <= most))
                || (self.or_none && *bytes == 0)
        };
        value::size(text).filter(is_fit)
    }
}

impl Shown<usize> for Sizes {
    fn show(&self, value: &usize) -> String {
        show_size(*value)
    }
}

impl Kind for Counts {
    fn accepts(&self) -> String {
        format!("a whole number from {} to {LARGEST_COUNT}", self.least)
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        let less = self.least.checked_sub(1).map(|less| (less.to_string(), false));
        let most = [(LARGEST_COUNT.to_string(), true), ((LARGEST_COUNT + 1).to_string(), false)];
        less.into_iter().chain([(self.least.to_string(), true)]).chain(most).collect()
    }
}

impl Format<usize> for Counts {
    fn parse(&self, text: &str) -> Option<usize> {
        value::whole(text).filter(|number| (self.least..=LARGEST_COUNT).contains(number))
    }
}

impl Shown<usize> for Counts {
    fn show(&self, value: &usize) -> String {
        value.to_string()
    }
}

impl Kind for Port {
    fn accepts(&self) -> String {
        "a port: 0-65535".into()
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        vec![("0".into(), true), ("65535".into(), true), ("65536".into(), false), ("-1".into(), false)]
    }
}

impl Format<u16> for Port {
    fn parse(&self, text: &str) -> Option<u16> {
        value::whole(text)?.try_into().ok()
    }
}

impl Shown<u16> for Port {
    fn show(&self, value: &u16) -> String {
        value.to_string()
    }
}

impl Kind for Billionths {
    fn accepts(&self) -> String {
        "a number like 1.5, more than 0".into()
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        vec![("0".into(), false), ("0.1".into(), true), ("1000".into(), true), ("1000.1".into(), false)]
    }
}

impl Format<i64> for Billionths {
    fn parse(&self, text: &str) -> Option<i64> {
        value::decimal(text)
    }
}
