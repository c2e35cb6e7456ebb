//! Real pictures and sounds put into packets in other ways: taken apart into access units, and written anew.

use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::pes::behind_pes_header;
use acemux_media::ts::section::{crc32, packets_of};

pub(crate) const PMT: u16 = 0x1000;
pub(crate) const VIDEO: u16 = 0x100;
pub(crate) const AUDIO: u16 = 0x101;

/// What one PES packet will hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    pub(crate) pid: u16,
    pub(crate) content: Vec<u8>,
    /// Of decoding, in ticks of 90 kHz.
    pub(crate) at: u64,
    /// A decoder can start with it.
    pub(crate) is_key: bool,
    /// The multiplexer says so.
    pub(crate) flag: bool,
    pub(crate) pcr: Option<u64>,
}

/// The access units of a clip, with flags where it has them.
pub(crate) fn demux(clip: &[u8]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for packet in clip.chunks(PACKET_LEN).filter_map(Packet::parse) {
        let pid = packet.pid().get();
        if ![VIDEO, AUDIO].contains(&pid) || !packet.has_payload() {
            continue;
        }
        if packet.starts_unit() {
            let time = acemux_media::ts::pes::decoding_time(packet.payload()).expect("every unit has a time");
            let flag = packet.is_random_access() && pid == VIDEO;
            let content = behind_pes_header(packet.payload()).to_vec();
            units.push(Unit { pid, content, at: time.ticks() / 300, is_key: flag, flag, pcr: None });
        } else if let Some(open) = units.iter_mut().rev().find(|unit| unit.pid == pid) {
            open.content.extend_from_slice(packet.payload());
        }
    }
    // A clock with every picture, 0.7 s before its time.
    for unit in units.iter_mut().filter(|unit| unit.pid == VIDEO) {
        unit.pcr = Some(unit.at.saturating_sub(63_000));
    }
    units
}

/// A section that lacks only its checksum.
pub(crate) fn section(id: u8, number: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(9 + body.len()).expect("a short table").to_be_bytes();
    let [number_high, number_low] = number.to_be_bytes();
    let flags = 0xc1 | (version << 1);
    let mut section = [&[id, 0xb0 | high, low, number_high, number_low, flags, 0, 0], body].concat();
    section.extend_from_slice(&crc32(&section).to_be_bytes());
    section
}

pub(crate) fn pat(programs: &[(u16, u16)]) -> Vec<u8> {
    let entry = |(number, pid): &(u16, u16)| {
        let ([a, b], [c, d]) = (number.to_be_bytes(), pid.to_be_bytes());
        [a, b, 0xe0 | c, d]
    };
    section(0, 1, 0, &programs.iter().flat_map(entry).collect::<Vec<_>>())
}

/// Type, stream and descriptors of each.
pub(crate) fn pmt(number: u16, pcr: u16, streams: &[(u8, u16, &[u8])]) -> Vec<u8> {
    let [high, low] = pcr.to_be_bytes();
    let mut body = vec![0xe0 | high, low, 0xf0, 0];
    for (kind, pid, descriptors) in streams {
        let [high, low] = pid.to_be_bytes();
        let length = u8::try_from(descriptors.len()).expect("few descriptors");
        body.extend_from_slice(&[*kind, 0xe0 | high, low, 0xf0, length]);
        body.extend_from_slice(descriptors);
    }
    section(2, number, 0, &body)
}

/// The tables of one programme of H.264 and AAC.
pub(crate) fn tables() -> Vec<u8> {
    let map = pmt(1, VIDEO, &[(0x1b, VIDEO, &[]), (0x0f, AUDIO, &[])]);
    [packets_of(Pid::PAT, &pat(&[(1, PMT)])), packets_of(Pid::new(PMT), &map)].concat()
}

/// Packets of all units, `tables` before every key unit and every tenth, with running counters.
pub(crate) fn mux(units: &[Unit], tables: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, unit) in units.iter().enumerate() {
        if unit.is_key || n % 10 == 0 {
            bytes.extend_from_slice(tables);
        }
        write(unit, &mut bytes);
    }
    recount(&mut bytes);
    bytes
}

/// Gives every stream a running counter.
pub(crate) fn recount(bytes: &mut [u8]) {
    let mut counters = vec![0_u8; Pid::COUNT];
    for packet in bytes.chunks_mut(PACKET_LEN) {
        let pid = Packet::parse(packet).expect("whole packets").pid();
        let counter = &mut counters[pid.index()];
        packet[3] = (packet[3] & 0xf0) | *counter;
        if packet[3] & 0x10 != 0 {
            *counter = (*counter + 1) & 0x0f;
        }
    }
}

fn write(unit: &Unit, bytes: &mut Vec<u8>) {
    let at = unit.at;
    let part = |shift: u32| u8::try_from((at >> shift) & 0xff).expect("eight bits");
    let stamp = [0x21 | (part(29) & 0x0e), part(22), part(14) | 1, part(7), (part(0) << 1) | 1];
    let kind = if unit.pid == VIDEO || unit.pid == 0x200 { 0xe0 } else { 0xc0 };
    let pes = [&[0, 0, 1, kind, 0, 0, 0x80, 0x80, 5][..], &stamp, &unit.content].concat();
    let mut rest = &pes[..];
    while !rest.is_empty() {
        let is_first = rest.len() == pes.len();
        let mut field = Vec::new();
        if is_first && (unit.flag || unit.pcr.is_some()) {
            field.push(u8::from(unit.flag) << 6 | u8::from(unit.pcr.is_some()) << 4);
            field.extend(
                unit.pcr.into_iter().flat_map(|pcr| (pcr << 15 | 0x7e00).to_be_bytes()[2..].to_vec()),
            );
            field.insert(0, u8::try_from(field.len()).expect("a short field"));
        }
        let room = PACKET_LEN - 4 - field.len();
        let (now, later) = rest.split_at(rest.len().min(room));
        for filled in 0..room - now.len() {
            match (field.len(), filled) {
                (0, _) => field.push(0),
                (1, _) => field.push(0),
                _ => field.push(0xff),
            }
        }
        if let Some(length) = field.len().checked_sub(1) {
            field[0] = u8::try_from(length).expect("a field fits into a packet");
        }
        let [high, low] = unit.pid.to_be_bytes();
        let control = if field.is_empty() { 0x10 } else { 0x30 };
        bytes.extend_from_slice(&[0x47, u8::from(is_first) << 6 | high, low, control]);
        bytes.extend_from_slice(&field);
        bytes.extend_from_slice(now);
        rest = later;
    }
}

/// The units of H.264 in `stream`, each with its start code.
pub(crate) fn nals(stream: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at - usize::from(at > 0 && stream[at - 1] == 0))
        .collect();
    starts.push(stream.len());
    starts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect()
}

pub(crate) fn kind(nal: &[u8]) -> u8 {
    nal.iter().find(|byte| **byte > 1).copied().unwrap_or_default() & 0x1f
}

/// The video's elementary stream in a run of packets, from its first unit on.
pub(crate) fn video_of(packets: &[u8], pid: u16) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut has_begun = false;
    for packet in packets.chunks(PACKET_LEN).filter_map(Packet::parse) {
        if packet.pid().get() != pid {
            continue;
        }
        has_begun |= packet.starts_unit();
        let payload = packet.payload();
        if has_begun {
            stream.extend_from_slice(if packet.starts_unit() { behind_pes_header(payload) } else { payload });
        }
    }
    stream
}
