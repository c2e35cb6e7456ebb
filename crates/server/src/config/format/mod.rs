//! How the values of settings are written: each format says what it accepts, reads it, and knows its range.

mod list;
mod number;
mod word;

pub(super) use self::list::{
    Capabilities, CapabilityNames, Containers, Endpoints, HostNames, PortLists, PublicAddresses,
};
pub(super) use self::number::{Billionths, Counts, Durations, Port, Sizes};
pub(super) use self::word::{Choice, FilePath, Flag, Host, Key, Parsed, Ports, Text, Word};

/// What can be said of a format without the type of its values.
pub(super) trait Kind: Sync {
    /// What is accepted, for people.
    fn accepts(&self) -> String;

    /// What the reference page says beside the meaning: the range, where other values would harm.
    fn limit(&self) -> Option<String> {
        None
    }

    /// What a bare number counts.
    fn unit(&self) -> Option<&'static str> {
        None
    }

    /// Every value, where there are only a few.
    fn choices(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Who may see a value.
    fn secrecy(&self) -> Secrecy {
        Secrecy::Open
    }

    /// Whether a blank and a `#` may be part of a value. In every other they begin a comment.
    fn is_free(&self) -> bool {
        false
    }

    /// A value as we write it, where others write it otherwise.
    fn spelled<'a>(&self, text: &'a str) -> &'a str {
        text
    }

    /// Values at the ends of the range, and whether they are accepted.
    #[cfg(test)]
    fn edges(&self) -> Vec<(String, bool)> {
        Vec::new()
    }
}

/// A format of values of one type.
pub(super) trait Format<T>: Kind {
    /// The value, if `text` is one.
    fn parse(&self, text: &str) -> Option<T>;
}

/// A format whose values can be written as well, as defaults must be.
pub(super) trait Shown<T>: Format<T> {
    /// The value as people write it.
    fn show(&self, value: &T) -> String;
}

/// Who may see the values of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Everybody.
    Open,
    /// Nobody.
    Hidden,
    /// Nobody; it may stand in a file of its own, as container platforms hand them out.
    HiddenOrInAFile,
}
