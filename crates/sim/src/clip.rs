//! A real clip played for ever: a short MPEG-TS file whose loops join without a seam.
//!
//! A clip is one loop of whole video and audio frames (see `scripts/make-clips`). Packet `g` of the endless stream is
//! packet `g mod n` of the file with PTS and DTS moved by whole loops, its continuity counter recounted, and its PCR
//! computed from `g` alone: the file's packets are spread evenly over the loop, so the rate is constant to the bit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use crate::ts::{self, CLOCK_WRAP, NULL_PID, PACKET_LEN, PCR_WRAP, Packet};

/// How long before its decoding time the last byte of a frame arrives, at least (27 MHz ticks: 100 ms).
const DECODER_LEAD: u64 = 2_700_000;

/// A clip that ships with the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClipName {
    H264,
    Hevc,
    Mpeg2,
    Audio,
    OpenGop,
}

impl ClipName {
    /// The clip, prepared at its first use.
    pub(crate) fn load(self) -> &'static Clip {
        static H264: LazyLock<Clip> = LazyLock::new(|| Clip::new(include_bytes!("../clips/h264.ts"), 9_600));
        static HEVC: LazyLock<Clip> = LazyLock::new(|| Clip::new(include_bytes!("../clips/hevc.ts"), 4_800));
        static MPEG2: LazyLock<Clip> =
            LazyLock::new(|| Clip::new(include_bytes!("../clips/mpeg2.ts"), 4_800));
        static AUDIO: LazyLock<Clip> =
            LazyLock::new(|| Clip::new(include_bytes!("../clips/audio.ts"), 9_600));
        static OPEN_GOP: LazyLock<Clip> =
            LazyLock::new(|| Clip::new(include_bytes!("../clips/open-gop.ts"), 9_600));
        match self {
            Self::H264 => &H264,
            Self::Hevc => &HEVC,
            Self::Mpeg2 => &MPEG2,
            Self::Audio => &AUDIO,
            Self::OpenGop => &OPEN_GOP,
        }
    }
}

/// One loop of packets and what is needed to write any packet of the endless stream.
#[derive(Debug)]
pub(crate) struct Clip {
    packets: &'static [Packet],
    notes: Vec<Note>,
    /// Loop length in 90 kHz ticks.
    ticks: u64,
    /// PCR of the first packet of loop 0, 27 MHz.
    first_pcr: u64,
}

/// What has to be rewritten in one packet of the clip.
#[derive(Clone, Copy, Debug)]
struct Note {
    /// Continuity counter in loop 0, and by how much it grows per loop (both modulo 16).
    continuity: u8,
    step: u8,
    has_pcr: bool,
    /// Offsets of PTS and DTS, 0 for none.
    pts: u8,
    dts: u8,
}

impl Clip {
    /// Prepares `file`, a whole number of packets that is one loop of `millis` milliseconds.
    fn new(file: &'static [u8], millis: u64) -> Self {
        let (packets, rest) = file.as_chunks::<PACKET_LEN>();
        assert!(rest.is_empty() && !packets.is_empty(), "a clip is whole packets");
        let mut clip = Self { packets, notes: notes(packets), ticks: millis * 90, first_pcr: 0 };
        clip.first_pcr = clip.latest_first_pcr();
        clip
    }

    /// Packets in one loop.
    pub(crate) fn packets_per_loop(&self) -> u64 {
        self.packets.len() as u64
    }

    /// Length of one loop in 90 kHz ticks.
    pub(crate) fn ticks_per_loop(&self) -> u64 {
        self.ticks
    }

    /// Appends the packets `range` of the endless stream.
    pub(crate) fn write(&self, range: Range<u64>, out: &mut Vec<u8>) {
        for global in range {
            out.extend_from_slice(&self.packet(global));
        }
    }

    fn packet(&self, global: u64) -> Packet {
        let (round, index) = (global / self.packets_per_loop(), self.index(global));
        let (mut packet, note) = (self.packets[index], self.notes[index]);
        if ts::pid(&packet) == NULL_PID {
            return packet;
        }
        ts::write_continuity(
            &mut packet,
            note.continuity.wrapping_add(ts::low_byte(round).wrapping_mul(note.step)),
        );
        if note.has_pcr {
            ts::write_pcr(&mut packet, self.pcr(global));
        }
        let shift = u128::from(round) * u128::from(self.ticks) % u128::from(CLOCK_WRAP);
        let shift = u64::try_from(shift).expect("less than 2^33");
        for at in [note.pts, note.dts].map(usize::from).into_iter().filter(|at| *at > 0) {
            let moved = ts::read_clock(&packet, at) + shift;
            ts::write_clock(&mut packet, at, moved);
        }
        packet
    }

    fn index(&self, global: u64) -> usize {
        usize::try_from(global % self.packets_per_loop()).expect("smaller than the clip")
    }

    /// PCR of a packet of the endless stream, 27 MHz.
    fn pcr(&self, global: u64) -> u64 {
        let elapsed = u128::from(global) * u128::from(self.ticks) * 300 / u128::from(self.packets_per_loop());
        let elapsed = u64::try_from(elapsed % u128::from(PCR_WRAP)).expect("less than the wrap");
        (self.first_pcr + elapsed) % PCR_WRAP
    }

    /// The PCR of the first packet that leaves every frame its lead: the smallest decoding time, minus the arrival of that
    /// frame's last packet, minus the lead.
    fn latest_first_pcr(&self) -> u64 {
        let mut open: HashMap<u16, (u64, usize)> = HashMap::new();
        let mut earliest = u64::MAX;
        for (index, (packet, note)) in self.packets.iter().zip(&self.notes).enumerate() {
            let pid = ts::pid(packet);
            let at = if note.dts > 0 { note.dts } else { note.pts };
            if at > 0 {
                let decode = ts::read_clock(packet, at.into()) * 300;
                if let Some((decode, last)) = open.insert(pid, (decode, index)) {
                    earliest = earliest.min(decode - self.arrival(last));
                }
            } else if let Some(frame) = open.get_mut(&pid) {
                frame.1 = index;
            }
        }
        let ends = open.into_values().map(|(decode, last)| decode - self.arrival(last));
        ends.fold(earliest, u64::min).saturating_sub(DECODER_LEAD)
    }

    fn arrival(&self, index: usize) -> u64 {
        index as u64 * self.ticks * 300 / self.packets_per_loop()
    }
}

fn notes(packets: &[Packet]) -> Vec<Note> {
    let mut counts: HashMap<u16, u8> = HashMap::new();
    let mut notes: Vec<Note> = packets.iter().map(|packet| note(packet, &mut counts)).collect();
    for (packet, note) in packets.iter().zip(&mut notes) {
        note.step = counts[&ts::pid(packet)];
    }
    notes
}

fn note(packet: &Packet, counts: &mut HashMap<u16, u8>) -> Note {
    let count = counts.entry(ts::pid(packet)).or_default();
    if ts::has_payload(packet) {
        *count = count.wrapping_add(1);
    }
    let (pts, dts) = ts::clock_offsets(packet);
    let offset = |at: Option<usize>| at.map_or(0, |at| u8::try_from(at).expect("inside a packet"));
    // A packet without payload repeats the counter of the payload before it.
    Note {
        continuity: count.wrapping_sub(1),
        step: 0,
        has_pcr: ts::pcr(packet).is_some(),
        pts: offset(pts),
        dts: offset(dts),
    }
}
