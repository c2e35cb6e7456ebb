//! Transport stream packets for the targets that read them.

use acemux_media::ts::packet::{PACKET_LEN, Packet, SYNC_BYTE};
use acemux_media::ts::section::crc32;

/// The table's stream.
pub(crate) const PMT: u16 = 0x30;

pub(crate) fn assert_packets(bytes: &[u8]) {
    assert!(bytes.chunks(PACKET_LEN).all(|packet| Packet::parse(packet).is_some()));
}

/// The low half of `detail` is the counter, then come: beginning of a unit, adaptation field, no payload, scrambled.
pub(crate) fn packet(pid: u16, detail: u8, content: &[u8]) -> [u8; PACKET_LEN] {
    let bit = |bit: u8| (detail >> bit) & 1;
    let [high, low] = pid.to_be_bytes();
    let control = (bit(7) << 7) | (bit(5) << 5) | ((1 - bit(6)) << 4);
    let mut packet = [0xff; PACKET_LEN];
    packet[..4].copy_from_slice(&[SYNC_BYTE, high | (bit(4) << 6), low, control | (detail & 0x0f)]);
    let room = content.len().min(PACKET_LEN - 4);
    packet[4..4 + room].copy_from_slice(&content[..room]);
    packet
}

/// A PAT, and a PMT of one video and one audio; `detail` chooses the video's codec, what else is listed, and the counter.
pub(crate) fn tables(detail: u8) -> [[u8; PACKET_LEN]; 2] {
    let video = [0x1b, 0x24, 0x02, 0x10, 0x06][usize::from(detail >> 4) % 5];
    let others: &[u8] = if detail & 0x80 == 0 { &[] } else { &[0, 2, 0xe0, 0x11, 0, 3, 0xe0, 0x30] };
    let pat = section(0, &[others, &[0, 1, 0xe0, 0x30]].concat());
    let pmt = section(2, &[0xe1, 0, 0xf0, 0, video, 0xe1, 0, 0xf0, 0, 0x0f, 0xe1, 1, 0xf0, 0]);
    let counter = detail & 0x0f;
    [packet(0, 0x10 | counter, &pat), packet(PMT, 0x10 | counter, &pmt)]
}

/// Behind its pointer.
fn section(id: u8, body: &[u8]) -> Vec<u8> {
    let mut section = vec![id, 0xb0, body.len() as u8 + 9, 0, 1, 0xc1, 0, 0];
    section.extend_from_slice(body);
    section.extend_from_slice(&crc32(&section).to_be_bytes());
    section.insert(0, 0);
    section
}
