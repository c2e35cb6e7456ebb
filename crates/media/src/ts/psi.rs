//! Program tables: which packets carry the programme's video and audio.
//!
//! The first programme of the PAT is the one, and stays it for as long as it is listed; AceStream channels carry one.
//! Sections are checked by their CRC, and the raw packets of the last complete PAT and PMT are kept, because a joining
//! player is given them as they were sent.
#![warn(clippy::indexing_slicing)]

use super::descriptors::{Coding, Language};
use super::packet::{PACKET_LEN, Packet, Pid};

/// Longest section a PAT or PMT may be, with its three bytes of header.
const LONGEST_SECTION: usize = 1024;
/// Most packets it may come in. Six are enough; a stream that wants to fill our memory sends it byte by byte.
const MOST_PACKETS: usize = 16;

/// What an elementary stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// MPEG-1 or MPEG-2 video.
    Mpeg2Video,
    /// H.264.
    H264,
    /// HEVC.
    Hevc,
    /// Video that is not looked into: only the multiplexer can say where it starts.
    OtherVideo,
    /// Any audio.
    Audio,
    /// Anything else: teletext, subtitles, data.
    Other,
}

impl Codec {
    /// Whether it is video, which decides where a player can start.
    pub fn is_video(self) -> bool {
        matches!(self, Self::Mpeg2Video | Self::H264 | Self::Hevc | Self::OtherVideo)
    }
}

/// One stream of the programme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elementary {
    /// Its packets.
    pub pid: Pid,
    /// What it carries.
    pub codec: Codec,
    /// The same in full.
    pub coding: Coding,
    /// Of what is said or written in it.
    pub language: Option<Language>,
}

/// What the PMT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number in the PAT.
    pub number: u16,
    /// The PMT's own packets.
    pub pmt: Pid,
    /// Where the clock is.
    pub pcr: Pid,
    /// Its streams, in the order of the table.
    pub streams: Vec<Elementary>,
}

impl Program {
    /// The video, if there is one.
    pub fn video(&self) -> Option<Elementary> {
        self.streams.iter().copied().find(|stream| stream.codec.is_video())
    }

    /// The first audio.
    pub fn audio(&self) -> Option<Elementary> {
        self.streams.iter().copied().find(|stream| stream.codec == Codec::Audio)
    }

    /// Whether `pid` is one of its streams.
    pub fn carries(&self, pid: Pid) -> bool {
        self.streams.iter().any(|stream| stream.pid == pid)
    }

    /// Whether a player needs `pid`: for the tables, the clock or one of the streams.
    pub fn needs(&self, pid: Pid) -> bool {
        pid == Pid::PAT || pid == self.pmt || pid == self.pcr || self.carries(pid)
    }
}

/// The programme as the PAT lists it. Several may share one PMT PID, so the number counts as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    number: u16,
    pmt: Pid,
}

/// The tables as far as they have been seen.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pat: Table,
    pmt: Table,
    listed: Option<Listed>,
    program: Option<Program>,
}

impl Tables {
    /// Takes one packet; true when it has changed what the programme is, or taken it away.
    pub fn take(&mut self, packet: Packet<'_>) -> bool {
        if packet.pid() == Pid::PAT {
            return self.take_pat(packet);
        }
        let listed = self.listed.filter(|listed| listed.pmt == packet.pid());
        listed.is_some_and(|listed| self.take_pmt(packet, listed))
    }

    /// The programme, once its PMT is known.
    pub fn program(&self) -> Option<&Program> {
        self.program.as_ref()
    }

    /// The raw packets of the last complete PAT, then of the last complete PMT.
    pub fn raw(&self) -> (&[u8], &[u8]) {
        (&self.pat.raw, &self.pmt.raw)
    }

    fn take_pat(&mut self, packet: Packet<'_>) -> bool {
        let Some(section) = self.pat.take(packet, 0x00) else { return false };
        // Another programme in front of ours changes nothing for who watches ours.
        let ours = self.listed.filter(|_| self.program.is_some());
        let is_ours = |listed: &Listed| ours.is_some_and(|ours| ours.number == listed.number);
        let still_ours = programs(section).find(is_ours);
        let Some(listed) = still_ours.or_else(|| programs(section).next()) else { return false };
        if self.listed == Some(listed) {
            return false;
        }
        self.listed = Some(listed);
        self.pmt = Table::default();
        self.program.take().is_some()
    }

    fn take_pmt(&mut self, packet: Packet<'_>, listed: Listed) -> bool {
        let Some(program) = self.pmt.take(packet, 0x02).and_then(|section| program(listed, section)) else {
            return false;
        };
        let changed = self.program.as_ref() != Some(&program);
        self.program = Some(program);
        changed
    }
}

/// Assembles the sections of one table.
#[derive(Clone, Debug, Default)]
struct Table {
    section: Vec<u8>,
    packets: Vec<u8>,
    raw: Vec<u8>,
    /// More of the section is to come.
    open: bool,
}

impl Table {
    /// The section that `packet` completes, if it is a valid one of this table.
    fn take(&mut self, packet: Packet<'_>, table_id: u8) -> Option<&[u8]> {
        let payload = packet.payload();
        if packet.starts_unit() {
            self.open = false;
            self.section.clear();
            self.packets.clear();
            let (pointer, rest) = payload.split_first()?;
            self.section.extend_from_slice(rest.get(usize::from(*pointer)..)?);
            self.open = true;
        } else if !self.open || payload.is_empty() || self.is_repeated(packet) {
            return None;
        } else {
            self.section.extend_from_slice(payload);
        }
        self.packets.extend_from_slice(packet.bytes());
        self.complete(table_id)
    }

    /// A packet may be sent twice.
    fn is_repeated(&self, packet: Packet<'_>) -> bool {
        self.packets.ends_with(packet.bytes())
    }

    fn complete(&mut self, table_id: u8) -> Option<&[u8]> {
        let [id, high, low] = *self.section.first_chunk::<3>()?;
        let length = 3 + usize::from(u16::from_be_bytes([high, low]) & 0x0fff);
        self.open = id == table_id
            && length <= LONGEST_SECTION
            && self.section.len() < length
            && self.packets.len() < MOST_PACKETS * PACKET_LEN;
        if self.open || id != table_id {
            return None;
        }
        self.section.truncate(length);
        // Of a section that came in full and undamaged. Bit 0 of byte 5 says whether the table applies now or is only
        // announced; byte 6 is its number, and what is looked for stands in the first.
        let sound = self.section.len() == length && crc32(&self.section) == 0;
        if !sound || !matches!(self.section.get(5..7), Some([flags, 0]) if flags & 1 == 1) {
            return None;
        }
        std::mem::swap(&mut self.raw, &mut self.packets);
        Some(&self.section)
    }
}

/// The programmes in the order of the table; number 0 is the network's own table and none.
fn programs(section: &[u8]) -> impl Iterator<Item = Listed> {
    let entries = section.len().checked_sub(4).and_then(|end| section.get(8..end)).unwrap_or_default();
    entries.chunks_exact(4).filter_map(|entry| match *entry {
        [0, 0, ..] => None,
        [number_high, number_low, high, low] => Some(Listed {
            number: u16::from_be_bytes([number_high, number_low]),
            pmt: Pid::new(u16::from_be_bytes([high, low])),
        }),
        _ => None,
    })
}

fn program(listed: Listed, section: &[u8]) -> Option<Program> {
    if section.get(3..5)? != listed.number.to_be_bytes() {
        return None;
    }
    let body = section.get(8..section.len().checked_sub(4)?)?;
    let [pcr_high, pcr_low, info_high, info_low] = *body.first_chunk::<4>()?;
    let info = usize::from(u16::from_be_bytes([info_high, info_low]) & 0x0fff);
    let mut rest = body.get(4 + info..)?;
    let mut streams = Vec::new();
    while let Some((entry, after)) = rest.split_first_chunk::<5>() {
        let [stream_type, pid_high, pid_low, length_high, length_low] = *entry;
        let descriptors = usize::from(u16::from_be_bytes([length_high, length_low]) & 0x0fff);
        let pid = Pid::new(u16::from_be_bytes([pid_high, pid_low]));
        let (descriptors, next) = after.split_at_checked(descriptors)?;
        streams.push(elementary(pid, stream_type, descriptors));
        rest = next;
    }
    let pcr = Pid::new(u16::from_be_bytes([pcr_high, pcr_low]));
    Some(Program { number: listed.number, pmt: listed.pmt, pcr, streams })
}

fn elementary(pid: Pid, stream_type: u8, descriptors: &[u8]) -> Elementary {
    let coding = Coding::of(stream_type, descriptors);
    Elementary { pid, codec: coding.codec(), coding, language: Language::of(descriptors) }
}

/// CRC-32 of MPEG-2; over a section with its checksum it is 0.
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 24), |crc, _| {
            if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 }
        })
    })
}

/// Raw packets of `raw`, one by one.
pub(crate) fn packets(raw: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    raw.chunks_exact(PACKET_LEN).filter_map(Packet::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PMT: u16 = 0x30;
    const ONE: [u8; 4] = [0, 1, 0xe0, 0x30];

    fn section(id: u8, number: u16, flags: u8, body: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(9 + body.len()).unwrap().to_be_bytes();
        let [number_high, number_low] = number.to_be_bytes();
        let head = [id, 0xb0 | high, low, number_high, number_low, flags, 0, 0];
        let mut section = [&head, body].concat();
        section.extend_from_slice(&crc32(&section).to_be_bytes());
        section
    }

    /// A PMT of one stream, with so many bytes of descriptors.
    fn pmt(number: u16, stream: u8, descriptors: u8) -> Vec<u8> {
        let mut body = vec![0xe1, 0x00, 0xf0, descriptors];
        body.resize(4 + usize::from(descriptors), 0);
        body.extend_from_slice(&[0x1b, 0xe1, stream, 0xf0, 0]);
        section(2, number, 0xc1, &body)
    }

    fn packets_of(pid: u16, section: &[u8]) -> Vec<[u8; PACKET_LEN]> {
        let payload = [&[0], section].concat();
        let packet = |(n, part): (usize, &[u8])| {
            let [high, low] = pid.to_be_bytes();
            let mut bytes = [0xff; PACKET_LEN];
            bytes[..4].copy_from_slice(&[0x47, high | if n == 0 { 0x40 } else { 0 }, low, 0x10]);
            bytes[4..4 + part.len()].copy_from_slice(part);
            bytes
        };
        payload.chunks(184).enumerate().map(packet).collect()
    }

    /// With the PAT already taken.
    fn tables(pat: &[u8]) -> Tables {
        let mut tables = Tables::default();
        take(&mut tables, &packets_of(0, &section(0, 7, 0xc1, pat)));
        tables
    }

    fn take(tables: &mut Tables, packets: &[[u8; PACKET_LEN]]) {
        for packet in packets {
            tables.take(Packet::parse(packet).unwrap());
        }
    }

    fn stream(tables: &Tables) -> Option<u16> {
        tables.program().map(|program| program.streams[0].pid.get())
    }

    #[test]
    fn a_table_in_several_packets_is_kept_as_it_came() {
        for times in [1, 2] {
            let mut tables = tables(&ONE);
            let packets = packets_of(PMT, &pmt(1, 1, 200));
            let sent: Vec<_> = packets.iter().flat_map(|packet| vec![*packet; times]).collect();
            take(&mut tables, &sent);
            assert_eq!(stream(&tables), Some(0x101), "every packet {times} times");
            assert_eq!(tables.raw().1, packets.concat());
        }
    }

    #[test]
    fn what_follows_a_whole_table_without_a_beginning_does_not_replace_it() {
        let mut tables = tables(&ONE);
        let packets = packets_of(PMT, &pmt(1, 1, 0));
        take(&mut tables, &packets);
        let mut stray = packets[0];
        stray[1] &= !0x40;
        take(&mut tables, &[stray]);
        assert_eq!(tables.raw().1, packets.concat());
    }

    #[test]
    fn another_programme_on_the_same_pid_is_not_ours() {
        let mut tables = tables(&[0, 0, 0xe0, 0x10, 0, 1, 0xe0, 0x30, 0, 2, 0xe0, 0x30]);
        take(&mut tables, &packets_of(PMT, &pmt(2, 2, 0)));
        assert_eq!(stream(&tables), None);
        take(&mut tables, &packets_of(PMT, &pmt(1, 1, 0)));
        take(&mut tables, &packets_of(PMT, &pmt(2, 2, 0)));
        assert_eq!(stream(&tables), Some(0x101));
    }

    #[test]
    fn a_programme_that_plays_stays_ours_while_it_is_listed() {
        let mut tables = tables(&ONE);
        take(&mut tables, &packets_of(PMT, &pmt(1, 1, 0)));
        let in_front = [0, 2, 0xe0, 0x40, 0, 1, 0xe0, 0x30];
        take(&mut tables, &packets_of(0, &section(0, 7, 0xc3, &in_front)));
        assert_eq!(stream(&tables), Some(0x101), "another one in front");
        let moved = [0, 2, 0xe0, 0x40, 0, 1, 0xe0, 0x31];
        take(&mut tables, &packets_of(0, &section(0, 7, 0xc3, &moved)));
        take(&mut tables, &packets_of(PMT + 1, &pmt(1, 3, 0)));
        assert_eq!(stream(&tables), Some(0x103), "its table is elsewhere");
        take(&mut tables, &packets_of(0, &section(0, 7, 0xc5, &[0, 2, 0xe0, 0x40])));
        assert_eq!(stream(&tables), None, "it is withdrawn");
        take(&mut tables, &packets_of(0x40, &pmt(2, 2, 0)));
        assert_eq!(stream(&tables), Some(0x102));
    }

    #[test]
    fn tables_that_are_damaged_only_announced_or_endless_change_nothing() {
        let mut tables = tables(&ONE);
        take(&mut tables, &packets_of(PMT, &pmt(1, 1, 0)));
        let mut damaged = pmt(1, 2, 0);
        damaged[10] ^= 1;
        take(&mut tables, &packets_of(PMT, &damaged));
        take(
            &mut tables,
            &packets_of(PMT, &section(2, 1, 0xc0, &[0xe1, 0, 0xf0, 0, 0x1b, 0xe1, 2, 0xf0, 0])),
        );
        take(&mut tables, &packets_of(PMT, &section(2, 1, 0xc1, &[0; 1100])));
        assert_eq!(stream(&tables), Some(0x101));
    }
}
