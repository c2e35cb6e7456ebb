//! HTTP Live Streaming (RFC 8216) out of the chunks that every other viewer gets.
//!
//! ```text
//!  Chunk, Chunk, Chunk … ─► Segmenter ─► Segment ─► Playlist ─► text, segment(number)
//!                           cuts at start points    what is listed, what is kept
//! ```
//!
//! A segment shares the chunks' bytes. It says nothing about who asks for it or when: time comes in as an argument.

mod open;
mod playlist;
mod segment;
mod segmenter;

pub use playlist::{Missing, Playlist, PlaylistLimits};
pub use segment::Segment;
pub use segmenter::{SegmentLimits, Segmenter};
