//! What came before its tables were believed.

use std::collections::VecDeque;
use std::time::Duration;

use super::packet::{PACKET_LEN, Packet};

/// Most packets that are kept, 4 MB: three seconds at 10 Mbit/s.
const MOST: usize = 22_000;

/// Packets with the times at which they came, in their order. Of too many the newest are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    packets: VecDeque<([u8; PACKET_LEN], Duration)>,
}

impl Backlog {
    pub(crate) fn push(&mut self, packet: Packet<'_>, arrival: Duration) {
        if self.packets.len() == MOST {
            self.packets.pop_front();
        }
        self.packets.push_back((*packet.bytes(), arrival));
    }

    /// What was kept, once.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = ([u8; PACKET_LEN], Duration)> + use<> {
        std::mem::take(&mut self.packets).into_iter()
    }
}
