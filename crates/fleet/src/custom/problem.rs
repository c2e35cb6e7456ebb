//! What is wrong with a custom variant's document, one line each.

use std::fmt;

use super::Kind;

/// Longest part of a name that is repeated in a message.
const LONGEST_SHOWN: usize = 64;

/// One thing that must be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No engine is given this parameter.
    #[error("{name:?} is no parameter that engines are given here")]
    Unknown {
        /// What was written, shortened.
        name: String,
    },
    /// Ports are the fleet's.
    #[error("{name} is chosen by the fleet, for each engine another one")]
    Ours {
        /// The parameter.
        name: String,
    },
    /// Two values, one parameter.
    #[error("{name:?} stands more than once")]
    Repeated {
        /// The parameter.
        name: String,
    },
    /// The document's `type` is not the parameter's.
    #[error("{name} is of type {expected}, not {found}")]
    WrongKind {
        /// The parameter.
        name: String,
        /// What it is.
        expected: Kind,
        /// What was written.
        found: Kind,
    },
    /// The value is of the wrong type, outside its range, or no plain word.
    #[error("{name} accepts {accepted}")]
    BadValue {
        /// The parameter.
        name: String,
        /// What would do.
        accepted: String,
    },
    /// An enabled variant lacks what engines cannot do without.
    #[error("{name} must be on: {why}")]
    Needed {
        /// The parameter.
        name: &'static str,
        /// What happens without it.
        why: &'static str,
    },
    /// More parameters than there are.
    #[error("at most {most} parameters are accepted")]
    TooMany {
        /// How many are.
        most: usize,
    },
    /// The memory limit is not written as one.
    #[error("memory_limit accepts 0 for none, or up to 15 digits with b, k, m or g, from 32m to 128g")]
    Memory,
    /// A mount of a folder of the host.
    #[error(
        "torrent_folder_mount_enabled and torrent_folder_host_path are refused: no folder of the host is mounted into \
         engines at the request of a page"
    )]
    HostFolder,
    /// The folder inside the container is not an absolute path.
    #[error("torrent_folder_container_path accepts an absolute path without ..")]
    ContainerFolder,
}

/// Everything that must be changed; never nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problem {
    pub(super) fn unknown(name: &str) -> Self {
        Self::Unknown { name: name.chars().take(LONGEST_SHOWN).collect() }
    }

    pub(super) fn repeated(name: &str) -> Self {
        Self::Repeated { name: name.chars().take(LONGEST_SHOWN).collect() }
    }
}

impl Problems {
    /// These, if there are any.
    pub(super) fn none_of(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// In the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("; "))
    }
}
