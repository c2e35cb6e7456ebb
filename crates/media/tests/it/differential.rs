//! Our view of real streams against that of the `mpeg2ts` crate.

use acemux_media::clock::{Moment, Pcr};
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use acemux_media::ts::pes::behind_pes_header;
use acemux_media::ts::programs::Tables;
use acemux_media::ts::psi::Codec;
use mpeg2ts::es::StreamType;
use mpeg2ts::ts::payload::{Pat, Pmt};
use mpeg2ts::ts::{ReadTsPacket as _, TsPacket, TsPacketReader, TsPayload};

fn clip(name: &str) -> Vec<u8> {
    let path = format!("{}/../sim/clips/{name}.ts", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("the clips are in the repository")
}

fn assert_same_packet(ours: Packet<'_>, theirs: &TsPacket, at: &str) {
    assert_eq!(ours.pid().get(), theirs.header.pid.as_u16(), "{at}");
    assert_eq!(ours.continuity(), theirs.header.continuity_counter.as_u8(), "{at}");
    let field = theirs.adaptation_field.as_ref();
    assert_eq!(ours.is_random_access(), field.is_some_and(|field| field.random_access_indicator), "{at}");
    assert_eq!(ours.is_discontinuity(), field.is_some_and(|field| field.discontinuity_indicator), "{at}");
    let clock = field.and_then(|field| field.pcr).map(|pcr| pcr.as_u64());
    assert_eq!(ours.pcr().map(Pcr::ticks), clock, "{at}");
    match &theirs.payload {
        Some(TsPayload::PesStart(pes)) => {
            assert!(ours.starts_unit(), "{at}");
            assert_eq!(behind_pes_header(ours.payload()), &pes.data[..], "{at}");
        }
        Some(TsPayload::PesContinuation(data)) => {
            assert!(!ours.starts_unit(), "{at}");
            assert_eq!(ours.payload(), &data[..], "{at}");
        }
        _ => {}
    }
}

fn assert_same_list(tables: &Tables, pat: &Pat, at: &str) {
    let listed = pat.table.iter().find(|entry| entry.program_num != 0);
    let ours = tables.program().map(|program| program.pmt.get());
    assert!(ours.is_none() || ours == listed.map(|entry| entry.program_map_pid.as_u16()), "{at}");
}

fn assert_same_program(tables: &Tables, pmt: &Pmt, at: &str) {
    let ours = tables.program().unwrap_or_else(|| panic!("{at}: we have no programme"));
    assert_eq!(Some(ours.pcr.get()), pmt.pcr_pid.map(|pid| pid.as_u16()), "{at}");
    let streams: Vec<_> = ours.streams.iter().map(|stream| (stream.pid.get(), stream.codec)).collect();
    let theirs = pmt.es_info.iter().map(|stream| (stream.elementary_pid.as_u16(), codec(stream.stream_type)));
    assert_eq!(streams, theirs.collect::<Vec<_>>(), "{at}");
}

fn codec(stream_type: StreamType) -> Codec {
    match stream_type {
        StreamType::Mpeg2Video => Codec::Mpeg2Video,
        StreamType::H264 => Codec::H264,
        StreamType::H265 => Codec::Hevc,
        StreamType::AdtsAac | StreamType::Mpeg1Audio => Codec::Audio,
        other => panic!("no clip has {other:?}"),
    }
}

#[test]
fn both_readers_see_the_same_packets_and_programmes() {
    for name in ["h264", "hevc", "mpeg2", "audio", "open-gop"] {
        let bytes = clip(name);
        let mut reader = TsPacketReader::new(&bytes[..]);
        let (mut tables, mut programs) = (Tables::default(), 0);
        for (n, packet) in bytes.chunks(PACKET_LEN).enumerate() {
            let at = format!("{name}, packet {n}");
            let ours = Packet::parse(packet).expect("a clip is whole packets");
            tables.take(ours, Moment::default());
            let Ok(theirs) = reader.read_ts_packet() else {
                // It refuses tables it does not know, here the service description; ours passes them on unread.
                assert_eq!(ours.pid().get(), 0x11, "{at}");
                continue;
            };
            let theirs = theirs.expect("both end together");
            assert_same_packet(ours, &theirs, &at);
            match &theirs.payload {
                Some(TsPayload::Pat(pat)) => assert_same_list(&tables, pat, &at),
                Some(TsPayload::Pmt(pmt)) => {
                    programs += 1;
                    assert_same_program(&tables, pmt, &at);
                }
                _ => {}
            }
        }
        assert!(programs > 0, "{name} has a programme");
    }
}
