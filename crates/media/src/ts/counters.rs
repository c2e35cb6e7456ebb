//! The continuity counter of every stream in the multiplex.

use super::packet::{Packet, Pid};

/// No packet of this stream has been seen.
const UNKNOWN: u8 = 0xff;

/// The last counter of each stream.
#[derive(Clone, Debug)]
pub struct Counters {
    last: Box<[u8; Pid::COUNT]>,
    /// Those of which there is one.
    seen: Vec<Pid>,
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
        Self { last: Box::new([UNKNOWN; Pid::COUNT]), seen: Vec::new() }
    }
}

impl Counters {
    /// Takes the next packet.
    pub fn take(&mut self, packet: Packet<'_>) -> Follows {
        let Some(last) = self.last.get_mut(packet.pid().index()).filter(|_| packet.pid() != Pid::NULL) else {
            return Follows::Well;
        };
        let (before, now) = (*last, packet.continuity());
        // A packet without payload does not count. It tells where the counter is when it announces a jump, or when
        // nothing else has: a stream that carries only a clock never has any payload.
        if packet.has_payload() || packet.is_discontinuity() || before == UNKNOWN {
            *last = now;
        }
        // A packet may be sent twice; the second has the counter of the first.
        let expected = now == following(before) || now == before;
        match before {
            UNKNOWN => {
                self.seen.push(packet.pid());
                Follows::First
            }
            _ if expected || packet.is_discontinuity() || !packet.has_payload() => Follows::Well,
            _ => Follows::Badly,
        }
    }

    /// The counter that the next packet with payload of `pid` must have, if any packet has been seen.
    pub fn next(&self, pid: Pid) -> Option<u8> {
        self.last.get(pid.index()).copied().filter(|last| *last != UNKNOWN).map(following)
    }

    /// Every stream that has been seen, and [`Self::next`] of it, in the order of their first packets.
    pub fn seen(&self) -> impl Iterator<Item = (Pid, u8)> {
        self.seen.iter().filter_map(|pid| Some((*pid, self.next(*pid)?)))
    }
}

/// The counter that `packet` begins with: its own, or without payload that of the packet to come.
pub fn first_counter(packet: Packet<'_>) -> u8 {
    if packet.has_payload() { packet.continuity() } else { following(packet.continuity()) }
}

fn following(counter: u8) -> u8 {
    counter.wrapping_add(1) & 0x0f
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ts::packet::PACKET_LEN;
    use crate::ts::splice::discontinuity;

    fn take(counters: &mut Counters, control: u8, continuity: u8) -> Follows {
        let mut bytes = [0xff; PACKET_LEN];
        bytes[..6].copy_from_slice(&[0x47, 0x01, 0x00, control | continuity, 1, 0]);
        counters.take(Packet::parse(&bytes).unwrap())
    }

    #[test]
    fn counters_run_on_wrap_and_may_repeat() {
        let mut counters = Counters::default();
        assert_eq!(take(&mut counters, 0x10, 15), Follows::First);
        assert_eq!(take(&mut counters, 0x10, 0), Follows::Well);
        assert_eq!(take(&mut counters, 0x10, 0), Follows::Well);
        assert_eq!(take(&mut counters, 0x10, 2), Follows::Badly);
        assert_eq!(take(&mut counters, 0x10, 3), Follows::Well);
    }

    #[test]
    fn a_stream_of_nothing_but_clocks_is_known_and_does_not_count() {
        let mut counters = Counters::default();
        assert_eq!(take(&mut counters, 0x20, 4), Follows::First);
        assert_eq!(take(&mut counters, 0x20, 4), Follows::Well);
        assert_eq!(counters.next(Pid::new(0x100)), Some(5));
        assert_eq!(counters.seen().collect::<Vec<_>>(), [(Pid::new(0x100), 5)]);
    }

    #[test]
    fn a_jump_may_be_announced_by_the_packet_before() {
        let mut counters = Counters::default();
        take(&mut counters, 0x10, 4);
        let announcement = discontinuity(Pid::new(0x100), 9);
        assert_eq!(counters.take(Packet::parse(&announcement).unwrap()), Follows::Well);
        assert_eq!(take(&mut counters, 0x10, 9), Follows::Well);
    }
}
