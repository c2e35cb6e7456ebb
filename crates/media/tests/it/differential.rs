//! Our view of real streams against that of the `mpeg2ts` crate.

use acemux_media::clock::Pcr;
use acemux_media::ts::packet::{PACKET_LEN, Packet};
use acemux_media::ts::psi::Tables;
use mpeg2ts::ts::payload::Pmt;
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
    let pes = matches!(theirs.payload, Some(TsPayload::PesStart(_)));
    assert!(!pes || ours.starts_unit(), "{at}");
}

fn assert_same_program(tables: &Tables, pmt: &Pmt, at: &str) {
    let ours = tables.program().unwrap_or_else(|| panic!("{at}: we have no programme"));
    assert_eq!(Some(ours.pcr.get()), pmt.pcr_pid.map(|pid| pid.as_u16()), "{at}");
    let streams: Vec<u16> = ours.streams.iter().map(|stream| stream.pid.get()).collect();
    let theirs: Vec<u16> = pmt.es_info.iter().map(|stream| stream.elementary_pid.as_u16()).collect();
    assert_eq!(streams, theirs, "{at}");
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
            tables.take(ours);
            let theirs = match reader.read_ts_packet() {
                Ok(theirs) => theirs.expect("both end together"),
                // It refuses tables it does not know (SDT); ours passes them on unread.
                Err(_) => continue,
            };
            assert_same_packet(ours, &theirs, &at);
            if let Some(TsPayload::Pmt(pmt)) = &theirs.payload {
                programs += 1;
                assert_same_program(&tables, pmt, &at);
            }
        }
        assert!(programs > 0, "{name} has a programme");
    }
}
