//! A tiny multiplexer: one programme with video and audio, as much of it as a test needs.

use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::psi::crc32;

pub(crate) const PMT: u16 = 0x30;
pub(crate) const VIDEO: u16 = 0x100;
pub(crate) const AUDIO: u16 = 0x101;

/// Packets between two key frames.
pub(crate) const GOP: usize = 100;

/// Writes a stream packet by packet, with continuity counters and a clock of 1 ms per packet.
pub(crate) struct Mux {
    counters: [u8; 0x2000],
    packets: usize,
    flags: bool,
}

impl Mux {
    /// With random access flags or without.
    pub(crate) fn new(flags: bool) -> Self {
        Self { counters: [0; 0x2000], packets: 0, flags }
    }

    /// The counters begin here, so that two streams do not fit by chance.
    pub(crate) fn starting_at(mut self, counter: u8) -> Self {
        self.counters = [counter; 0x2000];
        self
    }

    /// The next `count` packets.
    pub(crate) fn packets(&mut self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| self.next()).collect()
    }

    fn next(&mut self) -> [u8; PACKET_LEN] {
        let place = self.packets % GOP;
        self.packets += 1;
        match place {
            0 => self.packet(0, 0x40, None, &table(&pat())),
            1 => self.packet(PMT, 0x40, None, &table(&pmt())),
            2 => self.video(&[0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 1], self.flags),
            n if n % 20 == 0 => self.video(&[0, 0, 1, 0x41, 1], false),
            n if n % 5 == 0 => self.packet(AUDIO, 0x40, None, &[0, 0, 1, 0xc0, 0, 0]),
            _ => self.packet(VIDEO, 0, None, &[0xaa; 184]),
        }
    }

    fn video(&mut self, units: &[u8], flag: bool) -> [u8; PACKET_LEN] {
        let clock = self.packets as u64 * 27_000;
        let pes = [&[0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0], units].concat();
        self.packet(VIDEO, 0x40, Some((clock, flag)), &pes)
    }

    /// A packet whose payload ends with `payload`'s bytes; the adaptation field fills the rest.
    fn packet(&mut self, pid: u16, unit: u8, clock: Option<(u64, bool)>, payload: &[u8]) -> [u8; PACKET_LEN] {
        let counter = &mut self.counters[usize::from(pid)];
        *counter = (*counter + 1) & 0x0f;
        let mut packet = [0xff; PACKET_LEN];
        let [high, low] = pid.to_be_bytes();
        packet[..4].copy_from_slice(&[0x47, unit | high, low, 0x10 | *counter]);
        let filling = PACKET_LEN - 4 - payload.len();
        if filling > 0 {
            packet[3] |= 0x20;
            packet[4] = u8::try_from(filling - 1).expect("a field fits into a packet");
        }
        if filling > 1 {
            packet[5] = clock.map_or(0, |(_, flag)| 0x10 | (u8::from(flag) << 6));
        }
        if let Some((clock, _)) = clock {
            let (base, extension) = (clock / 300, clock % 300);
            let field = (base << 15) | (0x3f << 9) | extension;
            packet[6..12].copy_from_slice(&field.to_be_bytes()[2..]);
        }
        packet[PACKET_LEN - payload.len()..].copy_from_slice(payload);
        packet
    }
}

/// A section behind its pointer, filled up to a whole payload.
fn table(section: &[u8]) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(section);
    payload.resize(184, 0xff);
    payload
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(5 + body.len() + 4).expect("a short table");
    let mut section = vec![id, 0xb0, length, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    let crc = crc32(&section).to_be_bytes();
    section.extend_from_slice(&crc);
    section
}

fn pat() -> Vec<u8> {
    section(0, &[0, 1, 0xe0, 0x30])
}

fn pmt() -> Vec<u8> {
    section(2, &[0xe1, 0x00, 0xf0, 0, 0x1b, 0xe1, 0x00, 0xf0, 0, 0x0f, 0xe1, 0x01, 0xf0, 0])
}

/// What a strict reader finds in a run of packets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Strict {
    pub(crate) unannounced_jumps: Vec<u16>,
    pub(crate) announced: Vec<u16>,
}

/// Follows every continuity counter; a jump is announced by a discontinuity flag on its own stream before it.
pub(crate) fn strict(bytes: &[u8]) -> Strict {
    let mut last = vec![None::<u8>; 0x2000];
    let mut announced = vec![false; 0x2000];
    let mut found = Strict::default();
    assert_eq!(bytes.len() % PACKET_LEN, 0, "whole packets");
    for packet in bytes.chunks(PACKET_LEN) {
        let packet = Packet::parse(packet).expect("every packet begins with 0x47");
        let pid = packet.pid();
        if pid == Pid::NULL {
            continue;
        }
        if packet.is_discontinuity() {
            announced[pid.index()] = true;
            found.announced.push(pid.get());
        }
        if !packet.has_payload() {
            if announced[pid.index()] {
                last[pid.index()] = Some(packet.continuity());
                announced[pid.index()] = false;
            }
            continue;
        }
        let fits =
            last[pid.index()].is_none_or(|last| [(last + 1) & 0x0f, last].contains(&packet.continuity()));
        if !fits && !announced[pid.index()] {
            found.unannounced_jumps.push(pid.get());
        }
        announced[pid.index()] = false;
        last[pid.index()] = Some(packet.continuity());
    }
    found
}
