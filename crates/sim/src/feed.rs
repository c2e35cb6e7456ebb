//! How much of a channel a reader gets, and when: the burst, real time, and every fault of pace and of the end. Pure: the
//! clock is an argument and nothing is written here.

use std::ops::Range;
use std::time::Duration;

use crate::channel::Channel;
use crate::fault::{Fault, Faults};
use crate::ts::PACKET_LEN;

/// Most packets in one step: about 64 KiB, so that a burst does not build up in memory.
const STEP_PACKETS: u64 = 348;
/// What `mid_packet_cut` sends of its last packet.
const CUT_BYTES: usize = 100;

/// One reader's way through a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    /// Next packet.
    position: u64,
    /// First packet of the window that `loop` repeats.
    first: u64,
    /// Bytes given out.
    sent: u64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes were appended: write them, then ask again at once.
    Write,
    /// Nothing is due.
    Wait,
    /// The body ends, too early if its length was declared.
    End,
    /// All of a recording's range was written.
    Done,
    /// The connection is to be reset.
    Reset,
}

/// How far the faults let a reader come, in bytes since its start, and what happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Stall(u64),
    End(u64),
    Reset(u64),
    Cut(u64),
}

impl Limit {
    fn bytes(self) -> u64 {
        match self {
            Self::Stall(bytes) | Self::End(bytes) | Self::Reset(bytes) | Self::Cut(bytes) => bytes,
        }
    }

    /// The limit that is reached first.
    fn nearest(faults: &Faults, age: Duration) -> Option<Self> {
        faults.iter().filter_map(|fault| Self::of(fault, age)).min_by_key(|limit| limit.bytes())
    }

    /// What happens there.
    fn step(self) -> Step {
        match self {
            Self::Stall(_) => Step::Wait,
            Self::End(_) | Self::Cut(_) => Step::End,
            Self::Reset(_) => Step::Reset,
        }
    }

    fn of(fault: &Fault, age: Duration) -> Option<Self> {
        match fault {
            Fault::NoPeers | Fault::PeersNoData => Some(Self::Stall(0)),
            Fault::BurstThenStall { after_bytes } => Some(Self::Stall(*after_bytes)),
            Fault::Trickle { kbps } => {
                Some(Self::Stall(age.as_secs() * kbps * 125 + u64::from(age.subsec_millis()) * kbps / 8))
            }
            Fault::Oscillate { on_ms, off_ms } if silent(age, *on_ms, *off_ms) => Some(Self::Stall(0)),
            Fault::Eof { after_bytes } => Some(Self::End(*after_bytes)),
            Fault::Reset { after_bytes } => Some(Self::Reset(*after_bytes)),
            Fault::MidPacketCut { after_bytes } => Some(Self::Cut(*after_bytes)),
            _ => None,
        }
    }
}

fn silent(age: Duration, on_ms: u64, off_ms: u64) -> bool {
    crate::swarm::millis(age) % (on_ms + off_ms).max(1) >= on_ms
}

/// One reader's way through a range of a recording: as fast as it takes the bytes, unless a fault slows it. Faults count
/// in bytes of this range, not in whole packets.
#[derive(Debug)]
pub(crate) struct RangeFeed {
    /// Bytes still to come.
    rest: Range<u64>,
    /// Bytes given out.
    sent: u64,
}

impl RangeFeed {
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self { rest: range, sent: 0 }
    }

    /// Appends the next bytes of the recording `channel` to `out`.
    pub(crate) fn step(
        &mut self,
        channel: &Channel,
        age: Duration,
        faults: &Faults,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.rest.is_empty() {
            return Step::Done;
        }
        let limit = Limit::nearest(faults, age);
        let allowed = limit.map_or(u64::MAX, |limit| limit.bytes().saturating_sub(self.sent));
        let due = (self.rest.end - self.rest.start).min(allowed).min(STEP_PACKETS * PACKET_LEN as u64);
        if due == 0 {
            return limit.map_or(Step::Wait, Limit::step);
        }
        let end = self.rest.start + due;
        channel.write_bytes(self.rest.start..end, out);
        self.rest.start = end;
        self.sent += due;
        Step::Write
    }
}

impl Feed {
    /// Begins `burst` before the live edge.
    pub(crate) fn new(channel: &Channel, edge: Duration, burst: Duration) -> Self {
        let position = channel.packets_at(edge.saturating_sub(burst));
        Self { position, first: position, sent: 0 }
    }

    /// Decides what is due when the live edge stands at `edge` and the reader has been there for `age`; appends it to
    /// `out`.
    pub(crate) fn step(
        &mut self,
        channel: &Channel,
        edge: Duration,
        age: Duration,
        faults: &Faults,
        out: &mut Vec<u8>,
    ) -> Step {
        let limit = Limit::nearest(faults, age);
        let allowed =
            limit.map_or(u64::MAX, |limit| limit.bytes().saturating_sub(self.sent) / PACKET_LEN as u64);
        let due = channel.packets_at(edge).saturating_sub(self.position).min(allowed).min(STEP_PACKETS);
        if due > 0 {
            self.write(channel, self.position..self.position + due, faults, out);
            return Step::Write;
        }
        let reached = limit.filter(|_| allowed == 0);
        if matches!(reached, Some(Limit::Cut(_))) {
            self.write_cut_packet(channel, out);
        }
        reached.map_or(Step::Wait, Limit::step)
    }

    fn write(&mut self, channel: &Channel, range: Range<u64>, faults: &Faults, out: &mut Vec<u8>) {
        self.position = range.end;
        self.sent += (range.end - range.start) * PACKET_LEN as u64;
        match faults.find(|fault| if let Fault::Loop { window_ms } = fault { Some(*window_ms) } else { None })
        {
            None => channel.write(range, out),
            Some(window_ms) => self.write_again(channel, range, window_ms, out),
        }
    }

    /// Writes `range` folded into the window behind the feed's first packet.
    fn write_again(&self, channel: &Channel, range: Range<u64>, window_ms: u64, out: &mut Vec<u8>) {
        let window = (channel.bitrate() * window_ms / 8_000 / PACKET_LEN as u64).max(1);
        for packet in range.map(|packet| self.first + (packet - self.first) % window) {
            channel.write(packet..packet + 1, out);
        }
    }

    fn write_cut_packet(&mut self, channel: &Channel, out: &mut Vec<u8>) {
        let start = out.len();
        channel.write(self.position..self.position + 1, out);
        out.truncate(start + CUT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelKind;
    use crate::fault::{FaultTable, Rule};
    use crate::identity::ContentHash;
    use crate::verify::{Report, Verifier};

    const EDGE: Duration = Duration::from_hours(500_000);
    const BURST: Duration = Duration::from_secs(2);

    fn infohash() -> ContentHash {
        ContentHash::parse(crate::channel::VERIFY_ID).unwrap().infohash()
    }

    /// Steps of 20 ms for `seconds`: what was written, and the last step.
    fn run(faults: &[Fault], seconds: u64) -> (Vec<u8>, Step) {
        let table = FaultTable::new(faults.iter().cloned().map(Rule::always).collect());
        let channel = Channel::new(infohash(), ChannelKind::VERIFY);
        let (mut feed, mut out) = (Feed::new(&channel, EDGE, BURST), Vec::new());
        for tick in 0..seconds * 50 {
            let age = Duration::from_millis(tick * 20);
            loop {
                match feed.step(&channel, EDGE + age, age, &table.standing(None), &mut out) {
                    Step::Write => {}
                    Step::Wait => break,
                    end => return (out, end),
                }
            }
        }
        (out, Step::Wait)
    }

    fn verified(bytes: &[u8]) -> Report {
        let mut verifier = Verifier::new(infohash());
        verifier.feed(bytes);
        verifier.report().clone()
    }

    #[test]
    fn the_burst_comes_at_once_and_then_real_time() {
        let rate = 3_000_000 / 8;
        for seconds in [1, 5] {
            let (bytes, step) = run(&[], seconds);
            let expected = rate * (BURST.as_secs() + seconds);
            assert!((bytes.len() as u64).abs_diff(expected) < 20_000, "{} bytes in {seconds} s", bytes.len());
            assert!(verified(&bytes).is_clean() && step == Step::Wait);
        }
    }

    #[test]
    fn bodies_end_where_the_faults_say() {
        let cases = [
            (Fault::Eof { after_bytes: 100_000 }, Step::End, 531 * 188),
            (Fault::Reset { after_bytes: 100_000 }, Step::Reset, 531 * 188),
            (Fault::MidPacketCut { after_bytes: 100_000 }, Step::End, 531 * 188 + CUT_BYTES),
            (Fault::BurstThenStall { after_bytes: 100_000 }, Step::Wait, 531 * 188),
            (Fault::NoPeers, Step::Wait, 0),
            (Fault::Eof { after_bytes: 0 }, Step::End, 0),
        ];
        for (fault, end, length) in cases {
            let (bytes, step) = run(std::slice::from_ref(&fault), 2);
            assert_eq!((step, bytes.len()), (end, length), "{fault}");
        }
    }

    #[test]
    fn a_trickle_keeps_its_rate_and_an_oscillation_loses_nothing() {
        let (bytes, _) = run(&[Fault::Trickle { kbps: 100 }], 8);
        assert!(bytes.len().abs_diff(100_000) < 1_000, "{}", bytes.len());
        let (bytes, _) = run(&[Fault::Oscillate { on_ms: 200, off_ms: 300 }], 4);
        assert!(verified(&bytes).is_clean());
    }

    #[test]
    fn a_loop_repeats_the_same_window() {
        let report = verified(&run(&[Fault::Loop { window_ms: 1_000 }], 3).0);
        assert_eq!(report.lost, 0);
        assert!(report.backward_jumps == 4 && report.repeated > report.media / 2, "{report:?}");
    }
}
