//! Names of things: who we are, and which container is meant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which running copy of the service owns a container. Stands in a label on every engine it creates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Arc<str>);

/// Docker's full id of a container: 64 lower-case hex digits. Short ids and names are never used to act on one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(Arc<str>);

/// The name of a container or a network of others that engines are attached to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DockerName(Arc<str>);

/// Not a name of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// An instance id has 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    #[error("an instance id has 1 to 64 letters, digits, dots, underscores and dashes")]
    Instance,
    /// A name of Docker's begins with a letter or digit and has 1 to 128 characters of `A-Z a-z 0-9 . _ -`. So it is
    /// never `container:other`, which would be another container's network.
    #[error("a name has 1 to 128 letters, digits, dots, underscores and dashes, a letter or digit first")]
    Docker,
    /// A container id has 64 hex digits.
    #[error("a container id has 64 hex digits")]
    Container,
}

impl InstanceId {
    /// As written in labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DockerName {
    /// As Docker takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContainerId {
    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as people know them.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for InstanceId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=64).contains(&text.len()) && text.chars().all(is_allowed);
        if fits { Ok(Self(text.into())) } else { Err(InvalidName::Instance) }
    }
}

impl FromStr for DockerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=128).contains(&text.len()) && text.chars().all(is_allowed);
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if fits && begins { Ok(Self(text.into())) } else { Err(InvalidName::Docker) }
    }
}

impl FromStr for ContainerId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        let fits = text.len() == 64 && text.chars().all(is_hex);
        if fits { Ok(Self(text.into())) } else { Err(InvalidName::Container) }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_id_names_a_container() {
        let full = "0123456789abcdef".repeat(4);
        assert_eq!(full.parse::<ContainerId>().unwrap().short(), "0123456789ab");
        for wrong in ["", "0123456789ab", ".*", "../x", "acestream-1", &full.to_uppercase(), &full[1..]] {
            assert!(wrong.parse::<ContainerId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_instance_id_is_safe_in_a_label_filter() {
        assert!("house-1.local_2".parse::<InstanceId>().is_ok());
        for wrong in ["", "a b", "a=b", "ü", &"x".repeat(65)] {
            assert!(wrong.parse::<InstanceId>().is_err(), "{wrong}");
        }
    }
}
