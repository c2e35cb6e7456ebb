//! Linux capabilities that an operator may leave to engines.

use std::fmt;
use std::str::FromStr;

/// What Docker gives to a container when nothing is said. An engine gets none of them.
const USUAL: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The others that there are (capabilities(7)), and Docker's word for all.
const UNUSUAL: [&str; 28] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// One capability, without `CAP_` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(&'static str);

/// There is no capability of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Linux capability has this name")]
pub struct UnknownCapability;

impl Capability {
    /// As Docker takes it.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether it is more than Docker gives to every container, so that a broken engine may break its host.
    pub fn is_unusual(self) -> bool {
        UNUSUAL.contains(&self.0)
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// With or without `CAP_`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        let known = USUAL.iter().chain(&UNUSUAL).find(|known| **known == name);
        known.map(|known| Self(known)).ok_or(UnknownCapability)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_their_names_and_the_unusual_ones_told_apart() {
        for (text, name, is_unusual) in [
            ("NET_RAW", "NET_RAW", false),
            ("cap_chown", "CHOWN", false),
            ("SYS_ADMIN", "SYS_ADMIN", true),
            ("CAP_SYS_PTRACE", "SYS_PTRACE", true),
            ("all", "ALL", true),
        ] {
            let capability: Capability = text.parse().unwrap();
            assert_eq!((capability.as_str(), capability.is_unusual()), (name, is_unusual));
        }
        for unknown in ["EVIL", "", "CAP_", "NET RAW", "NET_RAW\n"] {
            assert_eq!(unknown.parse::<Capability>(), Err(UnknownCapability), "{unknown:?}");
        }
    }
}
