//! Words, texts and what stands for one thing: an address, an image, a key.

use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use super::super::secret::Secret;
use super::super::value::{self, ListenHost, PortRange};
use super::{Format, Kind, Secrecy, Shown};

/// `true` or `false`.
pub(in crate::config) struct Flag;

/// One of these words, in whatever case.
pub(in crate::config) struct Choice<T: 'static> {
    words: &'static [(&'static str, T)],
    /// What others call some of them.
    synonyms: &'static [(&'static str, &'static str)],
}

/// Anything on one line.
pub(in crate::config) struct Text;

/// Anything on one line but a blank and a `#`.
pub(in crate::config) struct Word;

/// A path.
pub(in crate::config) struct FilePath;

/// What a client sends to be let in.
pub(in crate::config) struct Key;

/// An address or `all`.
pub(in crate::config) struct Host;

/// `19000-19999`.
pub(in crate::config) struct Ports;

/// What the type itself reads.
pub(in crate::config) struct Parsed<T> {
    accepts: &'static str,
    secrecy: Secrecy,
    is_free: bool,
    of: PhantomData<fn() -> T>,
}

impl<T> Choice<T> {
    pub(in crate::config) const fn of(words: &'static [(&'static str, T)]) -> Self {
        Self { words, synonyms: &[] }
    }

    /// The first of each two is understood as the second and not offered.
    pub(in crate::config) const fn or(mut self, synonyms: &'static [(&'static str, &'static str)]) -> Self {
        self.synonyms = synonyms;
        self
    }
}

impl<T> Parsed<T> {
    pub(in crate::config) const fn new(accepts: &'static str) -> Self {
        Self { accepts, secrecy: Secrecy::Open, is_free: false, of: PhantomData }
    }

    /// It may hold a password.
    pub(in crate::config) const fn hidden(self) -> Self {
        Self { secrecy: Secrecy::Hidden, ..self }
    }

    /// A blank and a `#` may be part of it.
    pub(in crate::config) const fn free(self) -> Self {
        Self { is_free: true, ..self }
    }
}

impl Kind for Flag {
    fn choices(&self) -> Vec<&'static str> {
        vec!["true", "false"]
    }

    fn accepts(&self) -> String {
        "true or false".into()
    }
}

impl Format<bool> for Flag {
    fn parse(&self, text: &str) -> Option<bool> {
        value::boolean(text)
    }
}

impl Shown<bool> for Flag {
    fn show(&self, value: &bool) -> String {
        value.to_string()
    }
}

impl<T: Sync> Kind for Choice<T> {
    fn choices(&self) -> Vec<&'static str> {
        self.words.iter().map(|(word, _)| *word).collect()
    }

    fn accepts(&self) -> String {
        format!("one of {}", self.choices().join(", "))
    }

    fn spelled<'a>(&self, text: &'a str) -> &'a str {
        let is_it = |word: &str| word.eq_ignore_ascii_case(text);
        let synonym = self.synonyms.iter().find(|(synonym, _)| is_it(synonym)).map(|(_, word)| *word);
        synonym.or_else(|| self.choices().into_iter().find(|word| is_it(word))).unwrap_or(text)
    }
}

impl<T: Copy + Sync> Format<T> for Choice<T> {
    fn parse(&self, text: &str) -> Option<T> {
        let text = self.spelled(text);
        self.words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }
}

impl<T: Copy + PartialEq + Sync> Shown<T> for Choice<T> {
    fn show(&self, value: &T) -> String {
        self.words.iter().filter(|(_, other)| other == value).map(|(word, _)| *word).collect()
    }
}

impl Kind for Text {
    fn accepts(&self) -> String {
        "text on one line".into()
    }

    fn is_free(&self) -> bool {
        true
    }
}

impl Format<String> for Text {
    fn parse(&self, text: &str) -> Option<String> {
        one_line(text).map(str::to_owned)
    }
}

impl Kind for Word {
    fn accepts(&self) -> String {
        Text.accepts()
    }
}

impl Format<String> for Word {
    fn parse(&self, text: &str) -> Option<String> {
        one_line(text).map(str::to_owned)
    }
}

impl Kind for FilePath {
    fn accepts(&self) -> String {
        Text.accepts()
    }

    fn is_free(&self) -> bool {
        true
    }
}

impl Format<PathBuf> for FilePath {
    fn parse(&self, text: &str) -> Option<PathBuf> {
        one_line(text).map(PathBuf::from)
    }
}

impl Shown<PathBuf> for FilePath {
    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }
}

fn one_line(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.contains(char::is_control))
}

impl Kind for Key {
    fn accepts(&self) -> String {
        "printable ASCII without blanks at its ends".into()
    }

    fn secrecy(&self) -> Secrecy {
        Secrecy::HiddenOrInAFile
    }

    fn is_free(&self) -> bool {
        true
    }
}

impl Format<Secret<String>> for Key {
    fn parse(&self, text: &str) -> Option<Secret<String>> {
        value::is_key(text).then(|| Secret::new(text.to_owned()))
    }
}

impl Kind for Host {
    fn accepts(&self) -> String {
        "an address, or all".into()
    }
}

impl Format<ListenHost> for Host {
    fn parse(&self, text: &str) -> Option<ListenHost> {
        value::host(text)
    }
}

impl Shown<ListenHost> for Host {
    fn show(&self, value: &ListenHost) -> String {
        match value {
            ListenHost::All => "all".into(),
            ListenHost::Address(address) => address.to_string(),
        }
    }
}

impl Kind for Ports {
    fn accepts(&self) -> String {
        "a range of ports: 19000-19999".into()
    }

    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        vec![
            ("1-65535".into(), true),
            ("0-5".into(), false),
            ("9-8".into(), false),
            ("1-65536".into(), false),
        ]
    }
}

impl Format<PortRange> for Ports {
    fn parse(&self, text: &str) -> Option<PortRange> {
        value::ports(text)
    }
}

impl Shown<PortRange> for Ports {
    fn show(&self, PortRange { first, last }: &PortRange) -> String {
        format!("{first}-{last}")
    }
}

impl<T> Kind for Parsed<T> {
    fn accepts(&self) -> String {
        self.accepts.into()
    }

    fn secrecy(&self) -> Secrecy {
        self.secrecy
    }

    fn is_free(&self) -> bool {
        self.is_free
    }
}

impl<T: FromStr> Format<T> for Parsed<T> {
    fn parse(&self, text: &str) -> Option<T> {
        text.parse().ok()
    }
}

impl<T: FromStr + Display> Shown<T> for Parsed<T> {
    fn show(&self, value: &T) -> String {
        value.to_string()
    }
}
