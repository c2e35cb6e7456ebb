//! A tiny multiplexer: one programme with video and audio, as much of it as a test needs.

use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::section::crc32;

pub(crate) const SERVICE: u16 = 0x11;
pub(crate) const PMT: u16 = 0x30;
pub(crate) const VIDEO: u16 = 0x100;
pub(crate) const AUDIO: u16 = 0x101;
pub(crate) const CLOCK: u16 = 0x102;

/// Everything that jumps when the stream does.
pub(crate) const ALL: [u16; 6] = [0, SERVICE, PMT, VIDEO, AUDIO, CLOCK];

/// Parameter sets, a picture that needs no other, and one that does.
const SETS: &[u8] = &[0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 1];
const KEY: &[u8] = &[0, 0, 1, 0x65, 0x88];
const INNER: &[u8] = &[0, 0, 1, 0x61, 0x98];

/// Packets between two key frames.
pub(crate) const GOP: usize = 100;

/// What kind of stream it is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property that a stream has or has not")]
pub(crate) struct Style {
    /// Key frames have the random access flag.
    pub(crate) flags: bool,
    /// Key frames begin with so much supplemental information that their slice comes three packets later, with
    /// packets of all other streams between.
    pub(crate) late: bool,
    /// The PMT is so long that it comes in two packets, the second behind the beginning of the key frame.
    pub(crate) long_table: bool,
    /// Where the PMT is, if not at its usual place.
    pub(crate) moved_table: bool,
    /// No picture is a key frame.
    pub(crate) inner_only: bool,
    /// There is no video, although it is listed.
    pub(crate) no_video: bool,
    /// The PAT lists another programme first, which is not there.
    pub(crate) another_first: bool,
    /// Added to the number of the video's PES stream, 0xe0.
    pub(crate) stream: u8,
}

pub(crate) const FLAGGED: Style = Style { flags: true, ..UNFLAGGED };
pub(crate) const UNFLAGGED: Style = Style {
    flags: false,
    late: false,
    long_table: false,
    moved_table: false,
    inner_only: false,
    no_video: false,
    another_first: false,
    stream: 0,
};

/// Writes a stream packet by packet, with continuity counters and a clock of 1 ms per packet.
pub(crate) struct Mux {
    counters: [u8; 0x2000],
    packets: usize,
    style: Style,
}

impl Mux {
    pub(crate) fn new(style: Style) -> Self {
        Self { counters: [0; 0x2000], packets: 0, style }
    }

    /// The counters begin here, so that two streams do not fit by chance.
    pub(crate) fn starting_at(mut self, counter: u8) -> Self {
        self.counters = [counter; 0x2000];
        self
    }

    /// From now on in this style.
    pub(crate) fn become_like(&mut self, style: Style) {
        self.style = style;
    }

    /// The next `count` packets.
    pub(crate) fn packets(&mut self, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| self.next()).collect()
    }

    fn next(&mut self) -> [u8; PACKET_LEN] {
        let place = self.packets % GOP;
        self.packets += 1;
        let slice = if self.style.inner_only { INNER } else { KEY };
        match place {
            0 => self.packet(0, 0x40, None, &table(&pat(self.pmt_pid(), self.style.another_first))[0]),
            1 => self.packet(self.pmt_pid(), 0x40, None, &table(&pmt(self.style.long_table))[0]),
            2 if self.style.late => {
                self.video(&[&[0, 0, 1, 0x09, 0xf0][..], SETS].concat(), self.style.flags)
            }
            2 => self.video(&[SETS, slice].concat(), self.style.flags),
            3 if self.style.long_table => self.packet(self.pmt_pid(), 0, None, &table(&pmt(true))[1]),
            4 => self.packet(SERVICE, 0x40, None, &[0xff; 184]),
            5 => self.packet(AUDIO, 0x40, None, &[0, 0, 1, 0xc0, 0, 0]),
            n if n % 10 == 6 => self.clock(),
            7 if self.style.late => self.packet(VIDEO, 0, None, slice),
            n if n % 20 == 0 && self.style.no_video => self.packet(AUDIO, 0x40, None, &[0, 0, 1, 0xc0, 0, 0]),
            n if n % 20 == 0 && self.style.late => self.video(&[0, 0, 1, 0x09, 0xf0], false),
            n if n % 20 == 0 => self.video(INNER, false),
            n if n % 20 == 1 && self.style.late => self.packet(VIDEO, 0, None, INNER),
            n if n % 5 == 0 => self.packet(AUDIO, 0x40, None, &[0, 0, 1, 0xc0, 0, 0]),
            _ if self.style.no_video => self.packet(0x1fff, 0, None, &[0xff; 184]),
            _ => self.packet(VIDEO, 0, None, &[0xaa; 184]),
        }
    }

    fn pmt_pid(&self) -> u16 {
        PMT + u16::from(self.style.moved_table)
    }

    /// A packet with a clock and no payload; such packets do not count.
    fn clock(&mut self) -> [u8; PACKET_LEN] {
        let mut packet = [0xff; PACKET_LEN];
        let counter = self.counters[usize::from(CLOCK)];
        packet[..6].copy_from_slice(&[0x47, 0x01, 0x02, 0x20 | counter, 183, 0x10]);
        packet[6..12].copy_from_slice(&self.ticks());
        packet
    }

    fn ticks(&self) -> [u8; 6] {
        let clock = self.packets as u64 * 27_000;
        let field = ((clock / 300) << 15) | (0x3f << 9) | (clock % 300);
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&field.to_be_bytes()[2..]);
        bytes
    }

    fn video(&mut self, units: &[u8], flag: bool) -> [u8; PACKET_LEN] {
        if self.style.no_video {
            return self.packet(0x1fff, 0, None, &[0xff; 184]);
        }
        let pes = [&[0, 0, 1, 0xe0 + self.style.stream, 0, 0, 0x80, 0, 0], units].concat();
        self.packet(VIDEO, 0x40, Some(flag), &pes)
    }

    /// A packet whose payload ends with `payload`'s bytes; the adaptation field fills the rest. With `flag` it has a
    /// clock and is flagged or not.
    fn packet(&mut self, pid: u16, unit: u8, flag: Option<bool>, payload: &[u8]) -> [u8; PACKET_LEN] {
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
            packet[5] = flag.map_or(0, |flag| 0x10 | (u8::from(flag) << 6));
        }
        if flag.is_some() {
            packet[6..12].copy_from_slice(&self.ticks());
        }
        packet[PACKET_LEN - payload.len()..].copy_from_slice(payload);
        packet
    }
}

/// The payloads of a section behind its pointer, the last filled up.
fn table(section: &[u8]) -> Vec<Vec<u8>> {
    let mut payload = vec![0];
    payload.extend_from_slice(section);
    payload.resize(payload.len().next_multiple_of(184), 0xff);
    payload.chunks(184).map(<[u8]>::to_vec).collect()
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(5 + body.len() + 4).expect("a short table");
    let mut section = vec![id, 0xb0, length, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    let crc = crc32(&section).to_be_bytes();
    section.extend_from_slice(&crc);
    section
}

fn pat(pmt: u16, another_first: bool) -> Vec<u8> {
    let [high, low] = pmt.to_be_bytes();
    let another: &[u8] = if another_first { &[0, 2, 0xe0, 0x77] } else { &[] };
    section(0, &[another, &[0, 1, 0xe0 | high, low]].concat())
}

fn pmt(long: bool) -> Vec<u8> {
    let mut body = vec![0xe1, 0x02, 0xf0, 0];
    if long {
        body[3] = 200;
        body.extend([0xfe, 198].into_iter().chain([0; 198]));
    }
    body.extend([0x1b, 0xe1, 0x00, 0xf0, 0, 0x0f, 0xe1, 0x01, 0xf0, 0]);
    section(2, &body)
}

/// What a strict reader finds in a run of packets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Strict {
    pub(crate) unannounced_jumps: Vec<u16>,
    pub(crate) announced: Vec<u16>,
}

/// Follows every continuity counter; a jump is announced by a discontinuity flag on its own stream.
pub(crate) fn strict(bytes: &[u8]) -> Strict {
    let mut last = vec![None::<u8>; Pid::COUNT];
    let mut found = Strict::default();
    assert_eq!(bytes.len() % PACKET_LEN, 0, "whole packets");
    for packet in bytes.chunks(PACKET_LEN) {
        let packet = Packet::parse(packet).expect("every packet begins with 0x47");
        let pid = packet.pid();
        if pid == Pid::NULL {
            continue;
        }
        let before = last[pid.index()].replace(packet.continuity());
        if packet.is_discontinuity() {
            found.announced.push(pid.get());
        } else if before.is_some_and(|before| !follows(before, packet)) {
            found.unannounced_jumps.push(pid.get());
        }
    }
    found
}

/// Only packets with payload count, and each may be sent twice.
fn follows(before: u8, packet: Packet<'_>) -> bool {
    let counted = packet.has_payload() && packet.continuity() == (before + 1) & 0x0f;
    counted || packet.continuity() == before
}
