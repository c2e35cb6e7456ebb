//! Arbitrary packets: tables, clocks and start points are read without a panic, and a programme is always consistent.
#![no_main]

use std::time::Duration;

use acemux_media::clock::{MediaClock, Moment};
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use acemux_media::ts::pes::{behind_pes_header, decoding_time};
use acemux_media::ts::programs::Tables;
use acemux_media::ts::psi::Codec;
use acemux_media::ts::section::{Sections, crc32, packets_of};
use acemux_media::ts::video::VideoScan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (mut tables, mut sections, mut clock) = (Tables::default(), Sections::default(), MediaClock::default());
    let codecs = [Codec::H264, Codec::Hevc, Codec::Mpeg2Video, Codec::OtherVideo];
    let mut scans: Vec<VideoScan> = codecs.into_iter().filter_map(VideoScan::of).collect();
    for (n, raw) in (0..).zip(input.chunks(PACKET_LEN - 1)) {
        let mut bytes = [0xff; PACKET_LEN];
        bytes[0] = 0x47;
        bytes[1..=raw.len()].copy_from_slice(raw);
        let Some(packet) = Packet::parse(&bytes) else { continue };
        let arrival = Duration::from_millis(100 * n);
        clock.bytes(PACKET_LEN, arrival);
        let before = clock.media_time();
        if let Some(pcr) = packet.pcr() {
            clock.tick(pcr, packet.is_discontinuity());
        }
        if let Some(time) = decoding_time(packet.payload()) {
            clock.stamp(packet.pid(), time);
        }
        assert!(clock.media_time() >= before);
        let now = Moment { media: clock.media_time(), arrival };
        tables.take(packet, now);
        // The same section with a right checksum: chance would not find one.
        let mut found = Vec::new();
        sections.take(packet, |section| found.push(section.to_vec()));
        for mut section in found {
            if let Some(content) = section.len().checked_sub(4) {
                let crc = crc32(&section[..content]).to_be_bytes();
                section[content..].copy_from_slice(&crc);
            }
            for packet in packets_of(packet.pid(), &section).chunks(PACKET_LEN).filter_map(Packet::parse) {
                tables.take(packet, now);
            }
        }
        for scan in &mut scans {
            if packet.starts_unit() {
                scan.begin(packet.is_random_access());
            }
            let payload = behind_pes_header(packet.payload());
            let _kind = if n % 2 == 0 { scan.read(payload) } else { scan.read_whole(payload) };
            assert!(scan.sets().is_none_or(|sets| sets.len() <= 4096));
        }
        if let Some(video) = tables.program().and_then(|program| program.video()) {
            assert!(tables.program().is_some_and(|program| program.carries(video.pid)));
            let (pat, pmt) = tables.raw();
            assert!([pat, pmt].iter().all(|raw| !raw.is_empty() && raw.len() % PACKET_LEN == 0));
        }
    }
});
