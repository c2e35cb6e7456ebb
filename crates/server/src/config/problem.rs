//! What is wrong with what was written: each value with its name, where it stands and what is accepted.

use std::fmt;

use super::format::Secrecy;
use super::mask::masked;
use super::raw::{Entry, Origin};
use super::setting::Item;

/// One value that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub(super) name: String,
    /// `None` when there is nothing to show, or nothing that may be shown.
    pub(super) value: Option<String>,
    pub(super) origin: Origin,
    pub(super) accepted: String,
}

impl Problem {
    /// What is written for a setting, or its default, is not accepted.
    pub(super) fn of(item: &dyn Item, entry: Option<&Entry>, accepted: String) -> Self {
        let value = match item.kind().secrecy() {
            Secrecy::Open => entry.map(|entry| entry.value.clone()).or_else(|| item.default()),
            Secrecy::Hidden | Secrecy::HiddenOrInAFile => Some("***".to_owned()),
        };
        let origin = entry.map_or(Origin::Default, |entry| entry.origin.clone());
        Self { name: item.name().to_owned(), value: Some(value.unwrap_or_default()), origin, accepted }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, origin, accepted } = self;
        match value {
            Some(value) => write!(f, "{name}={} ({origin}): accepted is {accepted}", masked(value)),
            None => write!(f, "{name} ({origin}): accepted is {accepted}"),
        }
    }
}

/// Everything that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} setting(s) cannot be used:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
