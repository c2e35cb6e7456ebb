//! What RFC 8216 asks of a live media playlist, one version after the other. Needs nothing but `std`, so that the
//! tests of other crates take this file in as a module.
//!
//! Stricter than the RFC where it leaves freedom that we do not use: tags that transport streams without encryption do
//! not need are unknown, and so are comments and blank lines. One rule of §6.2.2 is not checked because its successor
//! (rfc8216bis) has dropped it: that no version may come sooner than half a target duration after the last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A rule that is broken, with what breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The first line is not `#EXTM3U` (§4.3.1.1).
    FirstLine,
    /// The last line does not end (§4.1).
    LastLine,
    /// A character that no playlist may contain (§4.1).
    Control,
    /// A line that a live playlist of a transport stream does not need.
    UnknownLine(String),
    /// A tag that may be there once only, or that comes behind a segment although it describes all of them.
    Misplaced(String),
    /// A value that is not what the tag takes.
    Value(String),
    /// There is no target duration (§4.3.3.1), or none of the others that our playlists always have.
    NoTag(&'static str),
    /// Fractions of a second need version 3 (§7).
    Version,
    /// An address without duration, or the other way round (§4.3.2.1).
    Unpaired,
    /// Two segments have the same address.
    SameUri(String),
    /// This segment is longer than the target duration after rounding (§4.3.3.1).
    TooLong(u64),
    /// Target duration or version have changed (§6.2.1).
    HeadChanged,
    /// The first segment's number has become smaller (§4.3.3.2).
    WentBack,
    /// Segments are missing at the end (§6.2.2).
    EndLost,
    /// This segment has another address, duration or discontinuity than before (§6.2.1).
    Changed(u64),
    /// The discontinuities that were removed are counted wrong (§6.2.2).
    DiscontinuitySequence,
    /// Less than three target durations were left when a segment was removed (§6.2.2).
    TooShort,
    /// Nothing new for more than one and a half target durations (§6.2.2).
    Stale,
    /// It has ended and still changes (§6.2.1).
    ChangedAfterEnd,
}

/// Checks versions of one playlist in the order in which they were fetched.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    last: Option<Text>,
    /// When the newest segment was seen first.
    grown: Duration,
}

/// One fetched text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Text {
    version: Option<u64>,
    target: Option<u64>,
    first: Option<u64>,
    discontinuities: Option<u64>,
    segments: Vec<Entry>,
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    micros: u64,
    discontinuity: bool,
}

impl Rules {
    /// The rules that the playlist, fetched as `text` at `at` (since any fixed origin), breaks: none if the list is
    /// empty.
    pub fn check(&mut self, text: &str, at: Duration) -> Vec<Broken> {
        let (text, mut broken) = parse(text);
        text.check(&mut broken);
        match &self.last {
            Some(last) => text.check_against(last, &mut broken),
            None => self.grown = at,
        }
        if self.last.as_ref().is_some_and(|last| text.end() > last.end()) {
            self.grown = at;
        }
        let patience = Duration::from_secs(text.target.unwrap_or(0)) * 3 / 2;
        if !text.over && at.saturating_sub(self.grown) > patience {
            broken.push(Broken::Stale);
        }
        self.last = Some(text);
        broken
    }
}

impl Text {
    fn first(&self) -> u64 {
        self.first.unwrap_or(0)
    }

    /// The number of the segment to come.
    fn end(&self) -> u64 {
        self.first() + self.segments.len() as u64
    }

    fn numbered(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (self.first()..).zip(&self.segments)
    }

    fn check(&self, broken: &mut Vec<Broken>) {
        let tags = [
            (self.version, "VERSION"),
            (self.target, "TARGETDURATION"),
            (self.first, "MEDIA-SEQUENCE"),
            (self.discontinuities, "DISCONTINUITY-SEQUENCE"),
        ];
        broken.extend(tags.iter().filter(|(value, _)| value.is_none()).map(|(_, tag)| Broken::NoTag(tag)));
        let fractions = self.segments.iter().any(|entry| entry.micros % 1_000_000 > 0);
        if fractions && self.version.is_some_and(|version| version < 3) {
            broken.push(Broken::Version);
        }
        let mut uris = BTreeSet::new();
        for (number, entry) in self.numbered() {
            if self.target.is_some_and(|target| (entry.micros + 500_000) / 1_000_000 > target) {
                broken.push(Broken::TooLong(number));
            }
            if !uris.insert(&entry.uri) {
                broken.push(Broken::SameUri(entry.uri.clone()));
            }
        }
    }

    fn check_against(&self, last: &Self, broken: &mut Vec<Broken>) {
        if last.over && self != last {
            broken.push(Broken::ChangedAfterEnd);
        }
        if (self.target, self.version) != (last.target, last.version) {
            broken.push(Broken::HeadChanged);
        }
        if self.first() < last.first() {
            broken.push(Broken::WentBack);
        }
        if self.end() < last.end() {
            broken.push(Broken::EndLost);
        }
        let before: BTreeMap<u64, &Entry> = last.numbered().collect();
        let changed = self.numbered().filter(|(n, entry)| before.get(n).is_some_and(|old| old != entry));
        broken.extend(changed.map(|(number, _)| Broken::Changed(number)));
        self.check_removals(last, broken);
    }

    fn check_removals(&self, last: &Self, broken: &mut Vec<Broken>) {
        let removed = last.numbered().filter(|(number, _)| *number < self.first());
        let seen = removed.filter(|(_, entry)| entry.discontinuity).count() as u64;
        // Segments that came and went between two versions may have brought more.
        let unseen = self.first().saturating_sub(last.end());
        let known = last.discontinuities.unwrap_or(0) + seen;
        if !(known..=known + unseen).contains(&self.discontinuities.unwrap_or(0)) {
            broken.push(Broken::DiscontinuitySequence);
        }
        let micros: u64 = self.segments.iter().map(|entry| entry.micros).sum();
        let enough = self.target.unwrap_or(0) * 3 * 1_000_000;
        if self.first() > last.first() && !self.over && micros < enough {
            broken.push(Broken::TooShort);
        }
    }
}

/// Reads line by line.
#[derive(Default)]
struct Parser {
    text: Text,
    broken: Vec<Broken>,
    micros: Option<u64>,
    discontinuity: bool,
}

fn parse(text: &str) -> (Text, Vec<Broken>) {
    let mut parser = Parser::default();
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\r') {
        parser.broken.push(Broken::Control);
    }
    if !text.ends_with('\n') {
        parser.broken.push(Broken::LastLine);
    }
    let mut lines = text.lines();
    if lines.next() != Some("#EXTM3U") {
        parser.broken.push(Broken::FirstLine);
    }
    lines.for_each(|line| parser.line(line));
    if parser.micros.is_some() || parser.discontinuity {
        parser.broken.push(Broken::Unpaired);
    }
    (parser.text, parser.broken)
}

impl Parser {
    fn line(&mut self, line: &str) {
        match line.split_once(':').unwrap_or((line, "")) {
            ("#EXT-X-VERSION", value) => self.head(line, value, |text| &mut text.version),
            ("#EXT-X-TARGETDURATION", value) => self.head(line, value, |text| &mut text.target),
            ("#EXT-X-MEDIA-SEQUENCE", value) => self.head(line, value, |text| &mut text.first),
            ("#EXT-X-DISCONTINUITY-SEQUENCE", value) => {
                self.head(line, value, |text| &mut text.discontinuities);
            }
            ("#EXTINF", value) => self.duration(line, value),
            _ if line == "#EXT-X-DISCONTINUITY" => self.once(line, |parser| &mut parser.discontinuity),
            _ if line == "#EXT-X-ENDLIST" => self.once(line, |parser| &mut parser.text.over),
            _ if line.trim().is_empty() || line.starts_with('#') => {
                self.broken.push(Broken::UnknownLine(line.to_owned()));
            }
            _ => self.uri(line),
        }
    }

    /// A tag that describes the whole playlist: once, and before the first segment.
    fn head(&mut self, line: &str, value: &str, place: impl Fn(&mut Text) -> &mut Option<u64>) {
        let segments = !self.text.segments.is_empty() || self.micros.is_some() || self.discontinuity;
        let place = place(&mut self.text);
        if segments || place.is_some() {
            self.broken.push(Broken::Misplaced(line.to_owned()));
        }
        *place = Some(decimal(value).unwrap_or_default());
        if decimal(value).is_none() {
            self.broken.push(Broken::Value(line.to_owned()));
        }
    }

    fn once(&mut self, line: &str, place: impl Fn(&mut Self) -> &mut bool) {
        if std::mem::replace(place(self), true) {
            self.broken.push(Broken::Misplaced(line.to_owned()));
        }
    }

    /// `<seconds>,[<title>]`.
    fn duration(&mut self, line: &str, value: &str) {
        let micros = value.split_once(',').and_then(|(seconds, _)| micros(seconds));
        if micros.is_none() {
            self.broken.push(Broken::Value(line.to_owned()));
        }
        if self.micros.replace(micros.unwrap_or(0)).is_some() {
            self.broken.push(Broken::Unpaired);
        }
    }

    fn uri(&mut self, line: &str) {
        let Some(micros) = self.micros.take() else { return self.broken.push(Broken::Unpaired) };
        let discontinuity = std::mem::take(&mut self.discontinuity);
        self.text.segments.push(Entry { uri: line.to_owned(), micros, discontinuity });
    }
}

/// A decimal-integer (§4.2): digits and nothing else.
fn decimal(value: &str) -> Option<u64> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

/// A decimal-floating-point (§4.2) in microseconds; further digits are cut off.
fn micros(value: &str) -> Option<u64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    decimal(fraction)?;
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    decimal(whole)?.checked_mul(1_000_000)?.checked_add(decimal(&fraction)?)
}
