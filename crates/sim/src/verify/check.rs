//! Checking what arrived of a verifiable channel.

use std::collections::HashMap;
use std::time::Duration;

use super::{PMT_PID, Record};
use crate::identity::ContentHash;
use crate::ts::{self, NULL_PID, PACKET_LEN, Packet, SYNC_BYTE};

/// What one packet turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketCheck {
    /// A whole packet of the stream.
    Media {
        /// Its number among the stream's media packets.
        sequence: u64,
        /// When the swarm broadcast it.
        swarm_time: Duration,
    },
    /// A PAT or PMT.
    Table,
    /// Stuffing.
    Null,
    /// An adaptation field and no payload: a clock or an announced discontinuity.
    Adaptation,
    /// A whole packet of another verifiable stream, or one with no record at all.
    Foreign,
    /// A packet with a record whose checksum does not fit.
    Corrupt,
}

/// Classifies one packet that should belong to the swarm of `infohash`.
pub fn check(packet: &Packet, infohash: ContentHash) -> PacketCheck {
    match ts::pid(packet) {
        NULL_PID => PacketCheck::Null,
        0 | PMT_PID if ts::has_payload(packet) => PacketCheck::Table,
        _ if !ts::has_payload(packet) => PacketCheck::Adaptation,
        _ => check_record(packet, infohash),
    }
}

fn check_record(packet: &Packet, infohash: ContentHash) -> PacketCheck {
    match Record::read(&packet[ts::payload_offset(packet)..]) {
        Some(Ok(record)) if record.stream == infohash.seed() => {
            PacketCheck::Media { sequence: record.sequence, swarm_time: Duration::from_micros(record.micros) }
        }
        Some(Err(_)) => PacketCheck::Corrupt,
        _ => PacketCheck::Foreign,
    }
}

/// How many of the first packets are kept in words.
const HEAD: usize = 6;

fn in_words(packet: &Packet) -> String {
    let flags = [
        ("unit", ts::unit_starts(packet)),
        ("payload", ts::has_payload(packet)),
        ("random access", ts::random_access(packet)),
        ("discontinuity", ts::discontinuity(packet)),
    ];
    let flags: Vec<_> = flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
    format!("PID {} counter {}: {}", ts::pid(packet), ts::continuity(packet), flags.join(", "))
}

/// What a viewer got, in counts. A perfect viewing has only `bytes`, `packets`, `media`, `tables` and `first`/`last` set;
/// [`Report::is_clean`] says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes fed.
    pub bytes: u64,
    /// Whole packets found.
    pub packets: u64,
    /// Media packets of the right stream.
    pub media: u64,
    /// PAT and PMT packets.
    pub tables: u64,
    /// Null packets.
    pub nulls: u64,
    /// Packets of the PID that is not the channel's.
    pub passed: u64,
    /// Media packets of another stream, or without a record.
    pub foreign: u64,
    /// Media packets with a changed byte.
    pub corrupt: u64,
    /// Media packets that were skipped.
    pub lost: u64,
    /// Media packets at or below the highest sequence number seen before.
    pub repeated: u64,
    /// How often the sequence went back.
    pub backward_jumps: u64,
    /// Holes in the sequence announced by a discontinuity indicator (on any PID since the media packet before).
    pub gaps_flagged: u64,
    /// Holes in the sequence that nothing announced.
    pub gaps_unflagged: u64,
    /// The longest hole, in broadcast time.
    pub longest_gap: Duration,
    /// Continuity counter jumps without a discontinuity indicator.
    pub continuity_errors: u64,
    /// Packets with a discontinuity indicator.
    pub discontinuities: u64,
    /// Bytes skipped because no packet began there.
    pub unaligned: u64,
    /// Whether the first packets were PAT, PMT and a key frame, in that order.
    pub starts_clean: bool,
    /// What the first packets were, for who finds that they are wrong.
    pub head: Vec<String>,
    /// The first media packet: sequence number and swarm time.
    pub first: Option<(u64, Duration)>,
    /// The highest media packet: sequence number and swarm time. `swarm::now()` minus this time is the viewer's delay.
    pub last: Option<(u64, Duration)>,
}

impl Report {
    /// Not one byte was lost, repeated, changed, foreign, unaligned or announced as discontinuous.
    pub fn is_clean(&self) -> bool {
        let faults = [
            self.foreign,
            self.corrupt,
            self.lost,
            self.repeated,
            self.continuity_errors,
            self.discontinuities,
        ];
        faults.iter().all(|count| *count == 0) && self.unaligned == 0
    }
}

/// Watches one viewer's bytes. Feed it what arrives, cut anywhere.
#[derive(Debug)]
pub struct Verifier {
    infohash: ContentHash,
    report: Report,
    /// Bytes of a packet that is not complete yet.
    pending: Vec<u8>,
    /// Last continuity counter per PID.
    counters: HashMap<u16, u8>,
    /// Last packet of each table's stream: one may be sent twice in a row (ISO 13818-1, 2.4.3.3), as at the beginning of segments.
    last_tables: HashMap<u16, Packet>,
    /// A discontinuity was announced since the last media packet.
    announced: bool,
    last_sequence: Option<u64>,
    /// Not the channel's: only counted.
    passes: Option<u16>,
}

impl Verifier {
    /// A verifier for the swarm of `infohash`.
    pub fn new(infohash: ContentHash) -> Self {
        Self {
            infohash,
            report: Report::default(),
            pending: Vec::new(),
            counters: HashMap::new(),
            last_tables: HashMap::new(),
            announced: false,
            last_sequence: None,
            passes: None,
        }
    }

    /// Packets of this PID are put in by the engine, as real ones do with the channel's title: they are counted, and not
    /// checked.
    pub fn pass(&mut self, pid: u16) {
        self.passes = Some(pid);
    }

    /// The report so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Bytes of an incomplete packet at the end: not 0 when a body ended inside a packet.
    pub fn trailing(&self) -> usize {
        self.pending.len()
    }

    /// Checks the next bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.report.bytes += bytes.len() as u64;
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut rest = pending.as_slice();
        while let Some((packet, after)) = rest.split_first_chunk::<PACKET_LEN>() {
            if packet[0] == SYNC_BYTE {
                rest = after;
                if self.passes == Some(ts::pid(packet)) {
                    self.report.passed += 1;
                } else {
                    self.packet(packet);
                }
            } else {
                self.report.unaligned += 1;
                rest = &rest[1..];
            }
        }
        self.pending = rest.to_vec();
    }

    /// What comes next does not continue what came before, as something outside of the packets has said.
    pub fn announce(&mut self) {
        self.counters.clear();
        self.last_tables.clear();
        self.announced = true;
    }

    /// Checks one packet.
    pub fn packet(&mut self, packet: &Packet) -> PacketCheck {
        let checked = check(packet, self.infohash);
        self.start(packet);
        self.report.packets += 1;
        if !self.is_sent_twice(packet) {
            self.continuity(packet);
        }
        match checked {
            PacketCheck::Media { sequence, swarm_time } => self.media(sequence, swarm_time),
            PacketCheck::Table => self.report.tables += 1,
            PacketCheck::Null => self.report.nulls += 1,
            PacketCheck::Foreign => self.report.foreign += 1,
            PacketCheck::Corrupt => self.report.corrupt += 1,
            PacketCheck::Adaptation => {}
        }
        checked
    }

    fn start(&mut self, packet: &Packet) {
        if self.report.head.len() < HEAD {
            self.report.head.push(in_words(packet));
        }
        let in_place = match self.report.packets {
            0 => ts::pid(packet) == 0,
            1 => ts::pid(packet) == PMT_PID,
            2 => ts::random_access(packet) && ts::unit_starts(packet),
            _ => return,
        };
        self.report.starts_clean = in_place && (self.report.packets == 0 || self.report.starts_clean);
    }

    /// Of a table's stream, also an announced jump counts: the same table behind it is not the same packet twice.
    fn is_sent_twice(&mut self, packet: &Packet) -> bool {
        let pid = ts::pid(packet);
        let carries_table = pid == 0 || pid == PMT_PID;
        carries_table && self.last_tables.insert(pid, *packet).as_ref() == Some(packet)
    }

    fn continuity(&mut self, packet: &Packet) {
        let (pid, counter) = (ts::pid(packet), ts::continuity(packet));
        if pid == NULL_PID {
            return;
        }
        let last = self.counters.insert(pid, counter);
        if ts::discontinuity(packet) {
            self.report.discontinuities += 1;
            self.announced = true;
        } else if last.is_some_and(|last| counter != (last + u8::from(ts::has_payload(packet))) % 16) {
            self.report.continuity_errors += 1;
        }
    }

    fn media(&mut self, sequence: u64, swarm_time: Duration) {
        self.report.media += 1;
        self.report.first.get_or_insert((sequence, swarm_time));
        if self.last_sequence.replace(sequence).is_some_and(|last| sequence < last) {
            self.report.backward_jumps += 1;
        }
        match self.report.last {
            Some((highest, _)) if sequence <= highest => self.report.repeated += 1,
            Some((highest, _)) if sequence == highest + 1 => self.report.last = Some((sequence, swarm_time)),
            Some((highest, before)) => {
                self.gap(sequence - highest - 1, swarm_time.saturating_sub(before));
                self.report.last = Some((sequence, swarm_time));
            }
            None => self.report.last = Some((sequence, swarm_time)),
        }
        self.announced = false;
    }

    fn gap(&mut self, lost: u64, length: Duration) {
        self.report.lost += lost;
        self.report.longest_gap = self.report.longest_gap.max(length);
        if self.announced { self.report.gaps_flagged += 1 } else { self.report.gaps_unflagged += 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::VerifyStream;
    use super::*;

    fn infohash() -> ContentHash {
        ContentHash::parse(crate::channel::VERIFY_ID).unwrap().infohash()
    }

    fn second() -> Vec<u8> {
        let stream = VerifyStream::new(infohash(), 3_000_000);
        let mut bytes = Vec::new();
        stream.write(4_000_000_000..4_000_002_000, &mut bytes);
        bytes
    }

    fn verified(bytes: &[u8]) -> Report {
        let mut verifier = Verifier::new(infohash());
        verifier.feed(bytes);
        verifier.report().clone()
    }

    #[test]
    fn an_untouched_stream_is_clean_however_it_is_cut() {
        let bytes = second();
        let mut verifier = Verifier::new(infohash());
        bytes.chunks(101).for_each(|piece| verifier.feed(piece));
        assert!(verifier.report().is_clean(), "{:?}", verifier.report());
        assert_eq!((verifier.report().packets, verifier.trailing()), (2000, 0));
    }

    #[test]
    fn a_lost_packet_is_counted_with_its_continuity_error() {
        let mut bytes = second();
        bytes.drain(100 * PACKET_LEN..103 * PACKET_LEN);
        let report = verified(&bytes);
        assert_eq!((report.lost, report.gaps_unflagged, report.gaps_flagged), (3, 1, 0));
        assert!(report.continuity_errors >= 1 && report.longest_gap < Duration::from_millis(3));
    }

    #[test]
    fn repetition_and_order_are_seen() {
        let bytes = second();
        let again = [&bytes[..200 * PACKET_LEN], &bytes[150 * PACKET_LEN..]].concat();
        let report = verified(&again);
        assert_eq!((report.lost, report.backward_jumps), (0, 1));
        assert!((45..=50).contains(&report.repeated), "{report:?}");
    }

    #[test]
    fn a_changed_byte_and_a_foreign_packet_are_told_apart() {
        let mut bytes = second();
        bytes[50 * PACKET_LEN + 60] ^= 1;
        let stranger = ContentHash::parse(crate::channel::H264_ID).unwrap().infohash();
        let foreign = VerifyStream::new(stranger, 3_000_000).packet(4_000_000_060);
        bytes[60 * PACKET_LEN..61 * PACKET_LEN].copy_from_slice(&foreign);
        let report = verified(&bytes);
        assert_eq!((report.corrupt, report.foreign, report.lost), (1, 1, 2));
    }

    #[test]
    fn a_body_that_starts_inside_a_packet_is_unaligned() {
        let report = verified(&second()[100..]);
        assert_eq!((report.unaligned, report.packets), (88, 1999));
    }

    #[test]
    fn a_packet_that_an_engine_puts_in_is_counted_where_that_is_expected() {
        let bytes = second();
        let mut title = [0xff; PACKET_LEN];
        title[..4].copy_from_slice(&[SYNC_BYTE, 0x40, 0x11, 0x10]);
        let titled = [&title, &bytes[..188], &title, &bytes[188..]].concat();
        assert_eq!(verified(&titled).foreign, 2);
        let mut verifier = Verifier::new(infohash());
        verifier.pass(0x11);
        verifier.feed(&titled);
        assert!(verifier.report().is_clean(), "{:?}", verifier.report());
        assert_eq!((verifier.report().passed, verifier.report().packets), (2, 2000));
    }

    #[test]
    fn a_table_may_be_sent_twice_in_a_row_and_an_announced_jump_to_an_equal_one_is_none() {
        let bytes = second();
        let packets = bytes.as_chunks::<PACKET_LEN>().0;
        let tables: Vec<usize> = (0..packets.len()).filter(|n| ts::pid(&packets[*n]) == 0).collect();
        let twice = [&bytes[..(tables[1] + 1) * PACKET_LEN], &bytes[tables[1] * PACKET_LEN..]].concat();
        assert_eq!(verified(&twice).continuity_errors, 0);
        // Behind the announcement the table has the counter of the last one before it.
        let table = packets[tables[0]];
        let mut notice = [0xff; PACKET_LEN];
        notice[..6].copy_from_slice(&[SYNC_BYTE, table[1] & 0x1f, table[2], 0x20, 183, 0x80]);
        ts::write_continuity(&mut notice, ts::continuity(&table).wrapping_sub(1));
        let mut next = table;
        ts::write_continuity(&mut next, (ts::continuity(&table) + 1) % 16);
        let report = verified(&[table, notice, table, next].concat());
        assert_eq!((report.continuity_errors, report.discontinuities), (0, 1));
    }

    #[test]
    fn an_announced_gap_is_not_a_continuity_error() {
        let bytes = second();
        let (before, after) = (&bytes[..100 * PACKET_LEN], &bytes[110 * PACKET_LEN..]);
        let mut notice: Vec<u8> = Vec::new();
        for pid in [0, PMT_PID, super::super::VIDEO_PID, super::super::AUDIO_PID] {
            let next =
                after.as_chunks::<PACKET_LEN>().0.iter().find(|packet| ts::pid(packet) == pid).unwrap();
            let mut packet = [0xff; PACKET_LEN];
            packet[..6].copy_from_slice(&[SYNC_BYTE, next[1] & 0x1f, next[2], 0x20, 183, 0x80]);
            ts::write_continuity(&mut packet, ts::continuity(next).wrapping_sub(1));
            notice.extend(packet);
        }
        let report = verified(&[before, &notice, after].concat());
        assert_eq!((report.continuity_errors, report.discontinuities, report.gaps_flagged), (0, 4, 1));
    }
}
