//! What the bytes mean: MPEG transport streams, as far as a relay must understand them.
//!
//! ```text
//!  bytes as they come ─► align (188, 0x47) ─► index (programme, clock, start points) ─► Chunk, Chunk, Chunk …
//!                        chunk::Chunker, the one place that does all three, copying once
//!
//!  Chunk, Chunk, Chunk … ─► hls::Segmenter ─► Segment, Segment … ─► hls::Playlist, for players that fetch pieces
//! ```
//!
//! Pure and synchronous: no clock, no sockets, no runtime. Time comes in as an argument. Every parser takes arbitrary
//! bytes and never panics.

pub mod chunk;
pub mod clock;
pub mod continuation;
mod cutter;
pub mod format;
pub mod hls;
pub mod starts;
pub mod ts;
