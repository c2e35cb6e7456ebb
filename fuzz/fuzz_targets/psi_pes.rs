//! Arbitrary packets: tables, clocks and start points are read without a panic, and a programme is always consistent.
#![no_main]

use acemux_media::ts::packet::{PACKET_LEN, Packet};
use acemux_media::ts::psi::{Codec, Tables};
use acemux_media::ts::start::{UnitScan, behind_pes_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut tables = Tables::default();
    let mut scans = [Codec::H264, Codec::Hevc, Codec::Mpeg2Video, Codec::OtherVideo].map(UnitScan::new);
    for raw in input.chunks(PACKET_LEN - 1) {
        let mut bytes = [0xff; PACKET_LEN];
        bytes[0] = 0x47;
        bytes[1..=raw.len()].copy_from_slice(raw);
        let Some(packet) = Packet::parse(&bytes) else { continue };
        tables.take(packet);
        let _clock = packet.pcr();
        for scan in &mut scans {
            let _kind = scan.read(behind_pes_header(packet.payload()));
        }
        if let Some(video) = tables.program().and_then(|program| program.video()) {
            assert!(tables.program().is_some_and(|program| program.carries(video.pid)));
        }
    }
});
