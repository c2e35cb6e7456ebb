//! Making the packets of the verifiable channel.

use std::ops::Range;

use super::Record;
use crate::channel::VERIFY_BITRATES;
use crate::identity::ContentHash;
use crate::ts::{self, PACKET_LEN, PCR_WRAP, Packet, SYNC_BYTE};

/// Where the program map is.
pub const PMT_PID: u16 = 0x1000;
/// Where the video is; it also carries the PCR.
pub const VIDEO_PID: u16 = 0x100;
/// Where the audio is.
pub const AUDIO_PID: u16 = 0x101;

const PACKET_BITS: u64 = PACKET_LEN as u64 * 8;
/// Table periods in a second: PAT and PMT every 100 ms.
const PERIODS: u64 = 10;
/// Access units in a second.
const FRAMES: u64 = 25;
/// Access units from key frame to key frame: 2 s.
const FRAMES_PER_KEY: u64 = 50;
/// Of every table period, packets 3, 19, 35, … are audio: at 64 kbit/s, four packets a period, one is.
const AUDIO_EVERY: u64 = 16;
const AUDIO_FIRST: u64 = 3;
/// A frame is shown half a second after its first byte left.
const DECODER_DELAY: u64 = 45_000;
/// Fills what neither framing nor record needs; its top bit is set, so that it never looks like a start code.
const FILLER: u8 = 0xb6;

/// Access unit delimiter, then a baseline SPS (128x96) and PPS.
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];
const PARAMETERS: [u8; 19] =
    [0, 0, 0, 1, 0x67, 0x42, 0, 0x0a, 0xf8, 0x41, 0xa2, 0, 0, 0, 1, 0x68, 0xce, 0x38, 0x80];
const IDR_SLICE: [u8; 5] = [0, 0, 0, 1, 0x65];
const SLICE: [u8; 5] = [0, 0, 0, 1, 0x41];
/// AAC-LC, 48 kHz, stereo, in ADTS framing.
const ADTS: [u8; 7] = [0xff, 0xf1, 0x4c, 0x80, 0x15, 0x9f, 0xfc];

/// The packets of one verifiable stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyStream {
    stream: u64,
    bitrate: u64,
}

/// What packet `i` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Pat,
    Pmt,
    Audio { starts: bool },
    Video(Frame),
}

/// How a video packet stands to its access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Continues,
    Starts,
    StartsKey,
}

impl VerifyStream {
    /// The stream that the swarm of `infohash` carries at `bitrate` bit/s (clamped to [`VERIFY_BITRATES`]).
    pub fn new(infohash: ContentHash, bitrate: u64) -> Self {
        Self {
            stream: infohash.seed(),
            bitrate: bitrate.clamp(*VERIFY_BITRATES.start(), *VERIFY_BITRATES.end()),
        }
    }

    /// Constant rate, bit/s.
    pub fn bitrate(&self) -> u64 {
        self.bitrate
    }

    /// Appends the packets `range`, numbered from the UNIX epoch.
    pub fn write(&self, range: Range<u64>, out: &mut Vec<u8>) {
        for index in range {
            out.extend_from_slice(&self.packet(index));
        }
    }

    /// Packet number `index`.
    pub fn packet(&self, index: u64) -> Packet {
        let mut packet = match self.role(index) {
            Role::Pat => pat(),
            Role::Pmt => pmt(),
            Role::Audio { starts } => self.audio(index, starts),
            Role::Video(frame) => self.video(index, frame),
        };
        ts::write_continuity(&mut packet, ts::low_byte(self.count_before(index)));
        packet
    }

    fn video(&self, index: u64, frame: Frame) -> Packet {
        let starts = frame != Frame::Continues;
        let mut packet = elementary(VIDEO_PID, starts);
        let mut at = 4;
        if starts {
            packet[3] |= 0x20;
            packet[4..6].copy_from_slice(&[7, if frame == Frame::StartsKey { 0x50 } else { 0x10 }]);
            ts::write_pcr(&mut packet, self.ticks(index, 27_000_000, PCR_WRAP));
            at = self.write_pes(&mut packet, 12, 0xe0, index);
            let parts: &[&[u8]] = match frame {
                Frame::StartsKey => &[&DELIMITER, &PARAMETERS, &IDR_SLICE],
                _ => &[&DELIMITER, &SLICE],
            };
            parts.iter().fold(at, |at, part| put(&mut packet, at, part));
            at = 12;
        }
        self.seal(index, &mut packet[at..]);
        packet
    }

    fn audio(&self, index: u64, starts: bool) -> Packet {
        let mut packet = elementary(AUDIO_PID, starts);
        if starts {
            let at = self.write_pes(&mut packet, 4, 0xc0, index);
            put(&mut packet, at, &ADTS);
        }
        self.seal(index, &mut packet[4..]);
        packet
    }

    /// Writes a PES header with PTS at `at`; returns the offset behind it.
    fn write_pes(&self, packet: &mut Packet, at: usize, stream_id: u8, index: u64) -> usize {
        let end = put(packet, at, &[0, 0, 1, stream_id, 0, 0, 0x84, 0x80, 5, 0x21, 0, 1, 0, 1]);
        ts::write_clock(packet, at + 9, self.ticks(index, 90_000, ts::CLOCK_WRAP) + DECODER_DELAY);
        end
    }

    fn seal(&self, index: u64, payload: &mut [u8]) {
        let sequence = index - 2 * (self.period(index) + 1);
        let micros = self.ticks(index, 1_000_000, u64::MAX);
        Record { stream: self.stream, sequence, micros }.seal(payload);
    }

    /// When packet `index` leaves, in ticks of `hertz` modulo `wrap`.
    fn ticks(&self, index: u64, hertz: u64, wrap: u64) -> u64 {
        let ticks = u128::from(index) * u128::from(PACKET_BITS * hertz) / u128::from(self.bitrate);
        u64::try_from(ticks % u128::from(wrap)).expect("less than the wrap")
    }

    fn role(&self, index: u64) -> Role {
        match index - self.period_start(self.period(index)) {
            0 => Role::Pat,
            1 => Role::Pmt,
            place if is_audio(place) => Role::Audio { starts: place == AUDIO_FIRST },
            _ => Role::Video(self.frame(index)),
        }
    }

    /// An access unit starts at the first video packet after each 40 ms boundary.
    fn frame(&self, index: u64) -> Frame {
        let unit = |index: u64| index * PACKET_BITS * FRAMES / self.bitrate;
        let before = (1..=AUDIO_FIRST + 1)
            .filter_map(|back| index.checked_sub(back))
            .find(|index| self.is_video(*index));
        match before.map(unit) {
            Some(last) if last == unit(index) => Frame::Continues,
            Some(last) if last / FRAMES_PER_KEY == unit(index) / FRAMES_PER_KEY => Frame::Starts,
            _ => Frame::StartsKey,
        }
    }

    fn is_video(&self, index: u64) -> bool {
        let place = index - self.period_start(self.period(index));
        place >= 2 && !is_audio(place)
    }

    fn period(&self, index: u64) -> u64 {
        index * PACKET_BITS * PERIODS / self.bitrate
    }

    fn period_start(&self, period: u64) -> u64 {
        (period * self.bitrate).div_ceil(PACKET_BITS * PERIODS)
    }

    /// Packets of the same PID before `index`: its continuity counter.
    fn count_before(&self, index: u64) -> u64 {
        let period = self.period(index);
        let place = index - self.period_start(period);
        match place {
            0 | 1 => period,
            _ if is_audio(place) => self.sum_before(period, audio_in) + audio_in(place),
            _ => self.sum_before(period, video_in) + video_in(place),
        }
    }

    /// The sum of `count(length)` over all periods before `period`. Lengths take two neighbouring values, and the start of
    /// `period` tells how many are the longer one.
    fn sum_before(&self, period: u64, count: fn(u64) -> u64) -> u64 {
        let short = self.bitrate / (PACKET_BITS * PERIODS);
        let longer = self.period_start(period) - period * short;
        (period - longer) * count(short) + longer * count(short + 1)
    }
}

fn is_audio(place: u64) -> bool {
    place % AUDIO_EVERY == AUDIO_FIRST
}

/// Audio packets among the first `length` of a period.
fn audio_in(length: u64) -> u64 {
    (length + AUDIO_EVERY - AUDIO_FIRST - 1) / AUDIO_EVERY
}

/// Video packets among the first `length` of a period.
fn video_in(length: u64) -> u64 {
    length.saturating_sub(2) - audio_in(length)
}

fn elementary(pid: u16, starts: bool) -> Packet {
    let mut packet = [FILLER; PACKET_LEN];
    let [high, low] = pid.to_be_bytes();
    packet[..4].copy_from_slice(&[SYNC_BYTE, high | if starts { 0x40 } else { 0 }, low, 0x10]);
    packet
}

fn put(packet: &mut Packet, at: usize, bytes: &[u8]) -> usize {
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

fn pat() -> Packet {
    let [high, low] = PMT_PID.to_be_bytes();
    ts::section_packet(0, &[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | high, low])
}

fn pmt() -> Packet {
    let [[video_high, video_low], [audio_high, audio_low]] =
        [VIDEO_PID.to_be_bytes(), AUDIO_PID.to_be_bytes()];
    let head = [2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe0 | video_high, video_low, 0xf0, 0];
    let video = [0x1b, 0xe0 | video_high, video_low, 0xf0, 0];
    let audio = [0x0f, 0xe0 | audio_high, audio_low, 0xf0, 0];
    ts::section_packet(PMT_PID, &[head.as_slice(), &video, &audio].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH_2027: u64 = 1_800_000_000;

    fn stream(bitrate: u64) -> VerifyStream {
        VerifyStream::new(ContentHash::parse(crate::channel::VERIFY_ID).unwrap().infohash(), bitrate)
    }

    fn ten_seconds(stream: VerifyStream) -> Vec<Packet> {
        let first = EPOCH_2027 * stream.bitrate() / PACKET_BITS;
        (first..first + 10 * stream.bitrate() / PACKET_BITS).map(|index| stream.packet(index)).collect()
    }

    #[test]
    fn tables_clocks_and_key_frames_come_on_time_at_every_rate() {
        for bitrate in [64_000, 128_001, 3_000_000, 8_123_456, 20_000_000] {
            let packets = ten_seconds(stream(bitrate));
            let count =
                |wanted: &dyn Fn(&Packet) -> bool| packets.iter().filter(|packet| wanted(packet)).count();
            assert!(count(&|packet| ts::pid(packet) == 0).abs_diff(100) <= 1, "PAT at {bitrate}");
            assert!(count(&|packet| ts::pid(packet) == PMT_PID).abs_diff(100) <= 1, "PMT at {bitrate}");
            assert!(count(&ts::random_access).abs_diff(5) <= 1, "key frames at {bitrate}");
            let clocks = if bitrate < 200_000 { 90 } else { 249 };
            assert!(count(&|packet| ts::pcr(packet).is_some()) >= clocks, "PCR at {bitrate}");
        }
    }

    #[test]
    fn continuity_counters_never_break() {
        for bitrate in [64_000, 100_003, 3_000_000] {
            let mut last = std::collections::HashMap::new();
            for packet in ten_seconds(stream(bitrate)) {
                let (pid, counter) = (ts::pid(&packet), ts::continuity(&packet));
                let before = last.insert(pid, counter);
                assert!(before.is_none_or(|before| (before + 1) % 16 == counter), "pid {pid} at {bitrate}");
            }
        }
    }

    #[test]
    fn a_key_frame_follows_the_tables_at_once() {
        let packets = ten_seconds(stream(3_000_000));
        let key = packets.iter().position(ts::random_access).unwrap();
        assert_eq!([ts::pid(&packets[key - 2]), ts::pid(&packets[key - 1])], [0, PMT_PID]);
    }
}
