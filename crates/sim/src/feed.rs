//! How much of a channel a reader gets, and when: the burst, real time, and every fault of pace and of the end. Pure: the
//! clock is an argument and nothing is written here.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::channel::Channel;
use crate::fault::{Fault, Faults};
use crate::ts::{self, PACKET_LEN, Packet};
use crate::verify::{PMT_PID, VIDEO_PID};

/// Most packets in one step: about 64 KiB, so that a burst does not build up in memory.
const STEP_PACKETS: u64 = 348;
/// `stagnate` repeats this fraction of a second: 100 ms, the longest that a clock may take between two PCRs.
const STILLS: u64 = 10;
/// What `mid_packet_cut` sends of its last packet.
const CUT_BYTES: usize = 100;

/// The open engine gives a reader nothing before a key frame; in what has none for this long (seconds), anything.
const KEY_FRAME_WITHIN: u64 = 10;
/// PAT, SDT and PMT of all channels here, and what stuffs the space between them.
const TABLE_PIDS: [u16; 4] = [0, 0x11, PMT_PID, ts::NULL_PID];

/// One reader's way through a broadcast.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Next packet.
    position: u64,
    /// First packet of the window that `loop` repeats.
    first: u64,
    /// Bytes given out.
    sent: u64,
    /// What `stagnate` repeats, while it does.
    still: Option<Still>,
}

/// A moment that comes again and again.
#[derive(Debug)]
struct Still {
    /// The live edge when it began.
    since: Duration,
    /// Its packets.
    packets: Vec<Packet>,
    /// How many were written.
    written: usize,
    /// Last continuity counter per PID.
    counters: HashMap<u16, u8>,
}

impl Still {
    /// The last 100 ms before packet `position`.
    fn before(position: u64, channel: &Channel, since: Duration) -> Self {
        let count = (channel.bitrate() / (8 * PACKET_LEN as u64) / STILLS).max(1);
        let mut bytes = Vec::new();
        channel.write(position.saturating_sub(count)..position, &mut bytes);
        let packets = bytes.as_chunks::<PACKET_LEN>().0.to_vec();
        let counters = packets.iter().map(|packet| (ts::pid(packet), ts::continuity(packet))).collect();
        Self { since, packets, written: 0, counters }
    }

    /// Appends `count` packets, each with the counter that its PID has come to.
    fn write(&mut self, count: u64, out: &mut Vec<u8>) {
        for _ in 0..count {
            let mut packet = self.packets[self.written % self.packets.len()];
            self.written += 1;
            if let Some(counter) = self.counters.get_mut(&ts::pid(&packet)) {
                *counter = counter.wrapping_add(u8::from(ts::has_payload(&packet))) % 16;
                ts::write_continuity(&mut packet, *counter);
            }
            out.extend_from_slice(&packet);
        }
    }
}

/// What comes instead of the broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    Window { millis: u64 },
    Still,
    Nulls,
}

impl Instead {
    /// What the first such fault wants, and after how many bytes.
    fn of(faults: &Faults) -> Option<(Self, u64)> {
        faults.find(|fault| match fault {
            Fault::Loop { window_ms } => Some((Self::Window { millis: *window_ms }, 0)),
            Fault::Stagnate { after_bytes } => Some((Self::Still, *after_bytes)),
            Fault::NullFlood { after_bytes } => Some((Self::Nulls, *after_bytes)),
            _ => None,
        })
    }
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

/// The first key frame at or behind packet `from`, with the tables right before it; `from` itself when there is none for a
/// while.
fn key_frame(channel: &Channel, from: u64) -> u64 {
    let (mut bytes, end) =
        (Vec::new(), from + channel.bitrate() * KEY_FRAME_WITHIN / (8 * PACKET_LEN as u64));
    for start in (from..end).step_by(usize::try_from(STEP_PACKETS).unwrap_or(usize::MAX)) {
        bytes.clear();
        channel.write(start..end.min(start + STEP_PACKETS), &mut bytes);
        let packets = bytes.as_chunks::<PACKET_LEN>().0.iter();
        if let Some((found, _)) = (start..).zip(packets).find(|(_, packet)| is_key_frame(packet)) {
            return with_tables(channel, from, found);
        }
    }
    from
}

fn is_key_frame(packet: &Packet) -> bool {
    ts::pid(packet) == VIDEO_PID && ts::unit_starts(packet) && ts::random_access(packet)
}

/// The first of the tables that stand directly before packet `key`, not before `from`.
fn with_tables(channel: &Channel, from: u64, key: u64) -> u64 {
    let is_table = |index: u64| {
        let mut bytes = Vec::new();
        channel.write(index..index + 1, &mut bytes);
        bytes.as_chunks::<PACKET_LEN>().0.iter().all(|packet| TABLE_PIDS.contains(&ts::pid(packet)))
    };
    (from..key).rev().take_while(|index| is_table(*index)).last().unwrap_or(key)
}

impl Feed {
    /// Begins `burst` before the live edge.
    pub(crate) fn new(channel: &Channel, edge: Duration, burst: Duration) -> Self {
        Self::at(channel.packets_at(edge.saturating_sub(burst)))
    }

    /// Begins `burst` before the live edge and there at a key frame.
    pub(crate) fn at_key_frame(channel: &Channel, edge: Duration, burst: Duration) -> Self {
        Self::at(key_frame(channel, channel.packets_at(edge.saturating_sub(burst))))
    }

    /// Begins with the next piece of `piece` bytes that is not yet there, and in it at a key frame.
    pub(crate) fn at_next_piece(channel: &Channel, edge: Duration, piece: u64) -> Self {
        let next = (channel.packets_at(edge) * PACKET_LEN as u64).div_ceil(piece) * piece;
        Self::at(key_frame(channel, next.div_ceil(PACKET_LEN as u64)))
    }

    fn at(position: u64) -> Self {
        Self { position, first: position, sent: 0, still: None }
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
            self.write(channel, self.position..self.position + due, edge, faults, out);
            return Step::Write;
        }
        let reached = limit.filter(|_| allowed == 0);
        if matches!(reached, Some(Limit::Cut(_))) {
            self.write_cut_packet(channel, out);
        }
        reached.map_or(Step::Wait, Limit::step)
    }

    /// The live edge when the program clock began to stand still, while it does.
    pub(crate) fn still_since(&self) -> Option<Duration> {
        self.still.as_ref().map(|still| still.since)
    }

    fn write(
        &mut self,
        channel: &Channel,
        range: Range<u64>,
        edge: Duration,
        faults: &Faults,
        out: &mut Vec<u8>,
    ) {
        let (instead, after) =
            Instead::of(faults).map_or((None, u64::MAX), |(what, after)| (Some(what), after));
        let healthy = after.saturating_sub(self.sent) / PACKET_LEN as u64;
        let turn = range.end.min(range.start.saturating_add(healthy));
        self.position = range.end;
        self.sent += (range.end - range.start) * PACKET_LEN as u64;
        channel.write(range.start..turn, out);
        self.still = self.still.take().filter(|_| instead == Some(Instead::Still));
        if let Some(instead) = instead.filter(|_| turn < range.end) {
            self.write_instead(channel, instead, turn..range.end, edge, out);
        }
    }

    fn write_instead(
        &mut self,
        channel: &Channel,
        instead: Instead,
        range: Range<u64>,
        edge: Duration,
        out: &mut Vec<u8>,
    ) {
        let count = range.end - range.start;
        match instead {
            Instead::Window { millis } => self.write_again(channel, range, millis, out),
            Instead::Still => {
                let still = self.still.get_or_insert_with(|| Still::before(range.start, channel, edge));
                still.write(count, out);
            }
            Instead::Nulls => (0..count).for_each(|_| out.extend_from_slice(&ts::null_packet())),
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
    use crate::channel::{ChannelKind, DEMO_CHANNELS};
    use crate::fault::{FaultTable, Rule};
    use crate::identity::ContentHash;
    use crate::ts::NULL_PID;
    use crate::verify::{Report, Verifier};

    const EDGE: Duration = Duration::from_hours(500_000);
    const BURST: Duration = Duration::from_secs(2);

    fn infohash() -> ContentHash {
        ContentHash::parse(crate::channel::VERIFY_ID).unwrap().infohash()
    }

    /// Steps of 20 ms for `seconds`: what was written, and the last step.
    fn run(faults: &[Fault], seconds: u64) -> (Vec<u8>, Step) {
        run_kind(ChannelKind::VERIFY, faults, seconds)
    }

    fn run_kind(kind: ChannelKind, faults: &[Fault], seconds: u64) -> (Vec<u8>, Step) {
        let table = FaultTable::new(faults.iter().cloned().map(Rule::always).collect());
        let channel = Channel::new(infohash(), kind);
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
    fn a_later_reader_begins_in_the_next_piece_and_at_a_key_frame() {
        for demo in DEMO_CHANNELS.into_iter().filter(|demo| demo.kind.is_live()) {
            let channel = Channel::new(infohash(), demo.kind);
            // Of audio alone every frame is one.
            let has_keys = demo.kind != ChannelKind::NoFlags;
            for piece in [64 * 1024, 1024 * 1024] {
                let feed = Feed::at_next_piece(&channel, EDGE, piece);
                let edge = channel.packets_at(EDGE);
                let least = (edge * 188).next_multiple_of(piece).div_ceil(188);
                assert!(feed.position >= least && least - edge <= piece / 188 + 1, "{}", demo.name);
                let mut bytes = Vec::new();
                channel.write(feed.position..feed.position + 16, &mut bytes);
                let keys = bytes.as_chunks::<PACKET_LEN>().0.iter().any(is_key_frame);
                assert_eq!(keys, has_keys, "{} in pieces of {piece}", demo.name);
                // The longest group is 2 s: the next key frame, not just any.
                let wait = (feed.position - least) * 188 * 8_000 / channel.bitrate();
                assert!(wait <= 2_100, "{}: {wait} ms", demo.name);
            }
        }
    }

    #[test]
    fn a_first_reader_begins_at_the_key_frame_behind_the_burst() {
        let channel = Channel::new(infohash(), ChannelKind::VERIFY);
        let feed = Feed::at_key_frame(&channel, EDGE, Duration::from_secs(10));
        let behind = (channel.packets_at(EDGE) - feed.position) * 188 * 8 / 3_000;
        assert!((8_000..=10_000).contains(&behind), "{behind} ms behind the edge");
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

    /// Payload packets whose continuity counter does not follow from the one before.
    fn broken_counters(packets: &[Packet]) -> usize {
        let mut counters = HashMap::new();
        let payloads = packets.iter().filter(|packet| ts::has_payload(packet) && ts::pid(packet) != NULL_PID);
        let breaks = payloads.filter(|packet| {
            let counter = ts::continuity(packet);
            let before = counters.insert(ts::pid(packet), counter);
            before.is_some_and(|before| (before + 1) % 16 != counter)
        });
        breaks.count()
    }

    #[test]
    fn a_clock_that_stands_still_is_all_that_stagnation_shows() {
        const AFTER: usize = 100_000 / PACKET_LEN;
        for demo in DEMO_CHANNELS.into_iter().filter(|demo| demo.kind.is_live()) {
            let (healthy, _) = run_kind(demo.kind, &[], 30);
            let (bytes, step) = run_kind(demo.kind, &[Fault::Stagnate { after_bytes: 100_000 }], 30);
            assert_eq!((bytes.len(), step), (healthy.len(), Step::Wait), "{}", demo.name);
            assert!(bytes.len() > 200_000 && bytes[..AFTER * PACKET_LEN] == healthy[..AFTER * PACKET_LEN]);
            let packets = bytes.as_chunks::<PACKET_LEN>().0;
            assert_eq!(broken_counters(packets), 0, "{}", demo.name);
            let clocks: Vec<u64> = packets[AFTER..].iter().filter_map(ts::pcr).collect();
            let span = clocks.iter().max().unwrap() - clocks.iter().min().unwrap();
            assert!(clocks.len() > 10 && span <= 2_700_000, "{}: {} clocks", demo.name, clocks.len());
            assert!(!packets[AFTER..].iter().any(ts::discontinuity), "{}", demo.name);
        }
    }

    #[test]
    fn a_checker_sees_stagnation_as_repetition_only() {
        let report = verified(&run(&[Fault::Stagnate { after_bytes: 400_000 }], 3).0);
        let errors =
            [report.lost, report.corrupt, report.foreign, report.continuity_errors, report.discontinuities];
        assert_eq!(errors, [0; 5]);
        assert!(report.repeated > report.media / 2, "{report:?}");
    }

    #[test]
    fn the_clock_goes_on_at_the_live_edge_when_stagnation_is_cleared() {
        let channel = Channel::new(infohash(), ChannelKind::VERIFY);
        let stagnant = FaultTable::new(vec![Rule::always(Fault::Stagnate { after_bytes: 0 })]).standing(None);
        let (mut feed, mut out) = (Feed::new(&channel, EDGE, BURST), Vec::new());
        while feed.step(&channel, EDGE, Duration::ZERO, &stagnant, &mut out) == Step::Write {}
        assert_eq!(feed.still_since(), Some(EDGE));
        out.clear();
        let later = EDGE + Duration::from_secs(1);
        while feed.step(&channel, later, Duration::ZERO, &Faults::default(), &mut out) == Step::Write {}
        let report = verified(&out);
        assert!(feed.still_since().is_none() && report.is_clean(), "{report:?}");
        assert!(report.first.unwrap().1.abs_diff(EDGE) < Duration::from_millis(5));
    }

    #[test]
    fn a_null_flood_keeps_the_rate_and_carries_nothing() {
        let (healthy, _) = run(&[], 3);
        let (bytes, step) = run(&[Fault::NullFlood { after_bytes: 400_000 }], 3);
        assert_eq!((bytes.len(), step), (healthy.len(), Step::Wait));
        let whole = 400_000 / PACKET_LEN;
        assert!(bytes[..whole * PACKET_LEN] == healthy[..whole * PACKET_LEN]);
        let report = verified(&bytes);
        let nulls = usize::try_from(report.nulls).unwrap();
        assert!(nulls == bytes.len() / PACKET_LEN - whole && report.is_clean(), "{report:?}");
    }
}
