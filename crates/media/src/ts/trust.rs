//! Whether a table is believed: by its checksum, and where that is always wrong by its constancy.
//!
//! Home-made multiplexers write checksums that are wrong, and other readers do not look at them. Damage is never the same
//! twice; a table that is, again and again, is what its sender means.

use std::time::Duration;

use super::section::crc32;
use crate::clock::Moment;

/// So long a right one is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often a wrong one must have come, one like the other.
const TIMES: u32 = 3;

/// What is known of one table's checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// When the last right one came, or the first of all.
    since: Option<Moment>,
    /// The last wrong one, and how often it came.
    wrong: Vec<u8>,
    times: u32,
}

/// What to think of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Its checksum is right.
    Right,
    /// Its checksum is wrong, and always the same.
    Constant,
    /// It is damaged.
    Damaged,
}

impl Trust {
    pub(super) fn judge(&mut self, section: &[u8], now: Moment) -> Judgement {
        if crc32(section) == 0 {
            *self = Self { since: Some(now), ..Self::default() };
            return Judgement::Right;
        }
        let since = *self.since.get_or_insert(now);
        if self.wrong == section {
            self.times = self.times.saturating_add(1);
        } else {
            self.wrong.clear();
            self.wrong.extend_from_slice(section);
            self.times = 1;
        }
        let is_constant = self.times >= TIMES && now.since(since) >= PATIENCE;
        if is_constant { Judgement::Constant } else { Judgement::Damaged }
    }
}
