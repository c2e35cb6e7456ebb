//! Arbitrary bytes as the stream of every codec whose headers are read: plausible figures or none, without a panic.
#![no_main]

use acemux_media::format::Details;
use acemux_media::format::probe::Probe;
use acemux_media::ts::descriptors::{Coding, Language};
use acemux_media::ts::packet::{PACKET_LEN, Packet, Pid};
use acemux_media::ts::psi::{Elementary, Program};
use libfuzzer_sys::fuzz_target;

/// Where the payload of the packets made here begins.
const HEADER: usize = 4;

const CODINGS: [Coding; 7] = [
    Coding::H264,
    Coding::Hevc,
    Coding::Mpeg2Video,
    Coding::Aac,
    Coding::MpegAudio,
    Coding::Ac3,
    Coding::Eac3,
];

fuzz_target!(|input: &[u8]| {
    let pid = Pid::new(0x100);
    let language = Language::of(input);
    let _private = Coding::of(0x06, input, input);
    for coding in CODINGS {
        let stream = Elementary { pid, codec: coding.codec(), coding, language };
        let mut probe = Probe::default();
        probe.set_program(&Program { number: 1, pmt: Pid::new(0x30), pcr: pid, streams: vec![stream] });
        for part in input.chunks(PACKET_LEN - HEADER) {
            let mut bytes = [0xff; PACKET_LEN];
            bytes[..HEADER].copy_from_slice(&[0x47, 0x01, 0x00, 0x10]);
            bytes[HEADER..HEADER + part.len()].copy_from_slice(part);
            if let Some(packet) = Packet::parse(&bytes) {
                probe.take(packet);
            }
        }
        for stream in &probe.format().streams {
            if let Details::Picture(picture) = stream.details {
                assert!((1..=16_384).contains(&picture.width) && (1..=16_384).contains(&picture.height));
            }
        }
    }
});
