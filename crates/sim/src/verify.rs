//! A channel whose every packet can be checked, and the checker.
//!
//! Any payload packet of this channel ends in a record: a magic, a hash of its stream, its sequence number, its swarm time
//! and a checksum. One packet is therefore enough to tell which stream it belongs to, where in the stream it stands and
//! whether a byte of it changed; a run of packets tells loss, repetition and order.
//!
//! ```text
//! every 100 ms   PAT PMT video… audio video…          PMT: H.264 on 0x100, AAC on 0x101
//! every  40 ms   a video access unit: PCR, PES with PTS, access unit delimiter, slice
//! every    2 s   a key frame: also random_access_indicator, SPS, PPS, IDR slice
//! ```
//!
//! Packet `i` is a function of (infohash, bit rate, `i`), constant rate. Numbers are written seven bits to a byte with the
//! top bit set, so that no record can be mistaken for a start code. The pictures do not decode; only their framing is real.

mod check;
mod stream;

pub use check::{PacketCheck, Report, Verifier, check};
pub use stream::{AUDIO_PID, PMT_PID, VIDEO_PID, VerifyStream};

/// First bytes of a record; the top bits are set as everywhere in it.
const MAGIC: [u8; 4] = [0xd6, 0xe5, 0xf2, 0xe9];
/// Bytes of a `u64`, seven bits each.
const NUMBER_LEN: usize = 10;
/// Bytes of the checksum, seven bits each.
const SUM_LEN: usize = 5;
/// Magic, stream, sequence, time, checksum.
const RECORD_LEN: usize = MAGIC.len() + 3 * NUMBER_LEN + SUM_LEN;

/// What the record of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    stream: u64,
    sequence: u64,
    /// Swarm time in microseconds.
    micros: u64,
}

impl Record {
    /// Writes the record at the end of `payload` and signs all of `payload`.
    fn seal(self, payload: &mut [u8]) {
        let (signed, sum) = payload.split_at_mut(payload.len() - SUM_LEN);
        let start = signed.len() - (RECORD_LEN - SUM_LEN);
        let record = &mut signed[start..];
        record[..MAGIC.len()].copy_from_slice(&MAGIC);
        let numbers = record[MAGIC.len()..].chunks_exact_mut(NUMBER_LEN);
        for (field, value) in numbers.zip([self.stream, self.sequence, self.micros]) {
            write_number(field, value);
        }
        write_number(sum, crc32(signed).into());
    }

    /// Reads the record at the end of `payload`: `None` without a magic, `Err` when the checksum does not fit.
    fn read(payload: &[u8]) -> Option<Result<Self, Corrupt>> {
        let (signed, sum) = payload.split_at_checked(payload.len().checked_sub(SUM_LEN)?)?;
        let record = &signed[signed.len().checked_sub(RECORD_LEN - SUM_LEN)?..];
        let numbers = record.strip_prefix(&MAGIC)?;
        if read_number(sum) != u64::from(crc32(signed)) {
            return Some(Err(Corrupt));
        }
        let number = |index: usize| read_number(&numbers[index * NUMBER_LEN..][..NUMBER_LEN]);
        Some(Ok(Self { stream: number(0), sequence: number(1), micros: number(2) }))
    }
}

/// The checksum of a record does not fit.
#[derive(Debug, PartialEq, Eq)]
struct Corrupt;

fn write_number(field: &mut [u8], value: u64) {
    for (index, byte) in field.iter_mut().rev().enumerate() {
        *byte = 0x80 | crate::ts::low_byte(value >> (7 * index));
    }
}

fn read_number(field: &[u8]) -> u64 {
    field.iter().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32_of(0, bytes)
}

/// CRC-32 (IEEE) of bytes whose beginning has the checksum `before`, and of `bytes` behind them. Eight bytes a step: a
/// hundred viewers' packets are made and checked on one core.
pub(crate) fn crc32_of(before: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let mut crc = !before;
    for block in blocks {
        let [a, b, c, d] = crc.to_le_bytes();
        let at = |table: usize, lane: u8| CRC_TABLES[table][lane as usize];
        crc = at(7, block[0] ^ a) ^ at(6, block[1] ^ b) ^ at(5, block[2] ^ c) ^ at(4, block[3] ^ d);
        crc ^= at(3, block[4]) ^ at(2, block[5]) ^ at(1, block[6]) ^ at(0, block[7]);
    }
    for byte in rest {
        crc = crc >> 8 ^ CRC_TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    !crc
}

/// `CRC_TABLES[n][b]` is the CRC of byte `b` followed by `n` zero bytes.
static CRC_TABLES: [[u32; 256]; 8] = crc_tables();

#[expect(clippy::cast_possible_truncation, reason = "a table index is below 256; `TryFrom` is not const")]
const fn crc_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slot = 0;
    while slot < 7 * 256 {
        let (table, byte) = (slot / 256, slot % 256);
        let before = tables[table][byte];
        tables[table + 1][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
        slot += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(&[0; 32]), 0x190a_55ad);
    }

    #[test]
    fn a_record_is_read_as_written_and_holds_no_start_code() {
        let record = Record { stream: u64::MAX, sequence: 0x0100_0001, micros: 0 };
        let mut payload = [0xff; 100];
        record.seal(&mut payload);
        assert_eq!(Record::read(&payload), Some(Ok(record)));
        assert!(payload.iter().all(|byte| byte & 0x80 != 0));
        payload[3] ^= 1;
        assert_eq!(Record::read(&payload), Some(Err(Corrupt)));
        assert_eq!(Record::read(&[0xff; 100]), None);
        assert_eq!(Record::read(&[]), None);
    }
}
