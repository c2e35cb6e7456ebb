//! The continuity counter of every stream in the multiplex.

use super::packet::{Packet, Pid};

/// No packet of this stream has been seen.
const UNKNOWN: u8 = 0xff;

/// The last counter of each stream.
#[derive(Clone, Debug)]
pub struct Counters {
    last: Box<[u8; Pid::COUNT]>,
}

/// How a packet follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// In order, or it need not.
    Well,
    /// It is its stream's first.
    First,
    /// Packets are missing, and nothing announced it.
    Badly,
}

impl Default for Counters {
    fn default() -> Self {
        Self { last: Box::new([UNKNOWN; Pid::COUNT]) }
    }
}

impl Counters {
    /// Takes the next packet.
    pub fn take(&mut self, packet: Packet<'_>) -> Follows {
        let pid = packet.pid();
        if pid == Pid::NULL || !packet.has_payload() {
            return Follows::Well;
        }
        let now = packet.continuity();
        let Some(last) = self.last.get_mut(pid.index()) else { return Follows::Well };
        let before = std::mem::replace(last, now);
        // A packet may be sent twice; the second has the counter of the first.
        let expected = now == (before.wrapping_add(1) & 0x0f) || now == before;
        match before {
            UNKNOWN => Follows::First,
            _ if expected || packet.is_discontinuity() => Follows::Well,
            _ => Follows::Badly,
        }
    }

    /// The counter that the next packet of `pid` must have, if one has been seen.
    pub fn next(&self, pid: Pid) -> Option<u8> {
        let last = self.last.get(pid.index()).copied().filter(|last| *last != UNKNOWN)?;
        Some(last.wrapping_add(1) & 0x0f)
    }
}
