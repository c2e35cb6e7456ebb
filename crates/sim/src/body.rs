//! How media bytes are dressed: framing, compression, and the size of the writes.

use std::io;

use crate::fault::Framing;
use crate::verify;
use crate::wire::{Connection, Manners, finish_head, media_head};

/// Longest piece of a stored deflate block.
const STORED_BLOCK: usize = 0xffff;

/// A media body being written.
#[derive(Debug)]
pub(crate) struct Body {
    framing: Framing,
    gzip: Option<Gzip>,
    /// Write one to seven bytes at a time.
    dribble: bool,
}

impl Body {
    pub(crate) fn new(framing: Framing, gzip: bool, dribble: bool) -> Self {
        Self { framing, gzip: gzip.then(Gzip::default), dribble }
    }

    /// The reply's head.
    pub(crate) fn head(&self, manners: Manners, html: bool) -> Vec<u8> {
        let version = if self.framing == Framing::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut lines = media_head(version, if html { "text/html" } else { "video/mp2t" }, manners);
        match self.framing {
            Framing::Chunked => lines.push("Transfer-Encoding: chunked".to_owned()),
            Framing::Close => lines.push("Connection: close".to_owned()),
            Framing::Http10 => {}
        }
        if self.gzip.is_some() {
            lines.push("Content-Encoding: gzip".to_owned());
        }
        finish_head(&lines)
    }

    pub(crate) async fn write(&mut self, connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
        let dressed = self.dress(bytes);
        if !self.dribble {
            return connection.write(&dressed).await;
        }
        let mut rest = dressed.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(1 + rest.len() % 7));
            connection.write(piece).await?;
            rest = after;
        }
        Ok(())
    }

    /// Ends the body in order, as far as its framing has an end.
    pub(crate) async fn finish(&mut self, connection: &mut Connection) -> io::Result<()> {
        if let Some(gzip) = self.gzip.take() {
            self.write(connection, &gzip.trailer()).await?;
        }
        if self.framing == Framing::Chunked { connection.write(b"0\r\n\r\n").await } else { Ok(()) }
    }

    fn dress(&mut self, bytes: &[u8]) -> Vec<u8> {
        let packed = self.gzip.as_mut().map(|gzip| gzip.pack(bytes));
        let bytes = packed.as_deref().unwrap_or(bytes);
        match self.framing {
            Framing::Chunked => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            Framing::Close | Framing::Http10 => bytes.to_vec(),
        }
    }
}

/// A gzip stream of stored blocks: valid, and no smaller.
#[derive(Debug, Default)]
struct Gzip {
    begun: bool,
    crc: u32,
    length: u32,
}

impl Gzip {
    fn pack(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 32);
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        }
        for block in bytes.chunks(STORED_BLOCK) {
            out.extend(stored(block, false));
        }
        self.crc = verify::crc32_of(self.crc, bytes);
        self.length = self.length.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        out
    }

    /// The last, empty block, the checksum and the length.
    fn trailer(&self) -> Vec<u8> {
        [stored(&[], true).as_slice(), &self.crc.to_le_bytes(), &self.length.to_le_bytes()].concat()
    }
}

fn stored(block: &[u8], last: bool) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a stored block is at most 65535 bytes");
    [&[u8::from(last)], length.to_le_bytes().as_slice(), &(!length).to_le_bytes(), block].concat()
}
