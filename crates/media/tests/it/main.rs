//! The crate on synthetic streams, on arbitrary bytes, on real clips, and against other readers of the formats.

mod broadcasters;
mod builder;
mod chunker;
mod clips;
mod continuation;
mod corpus;
mod differential;
mod format;
mod hls_clips;
mod hls_playlist;
#[path = "../../../testkit/src/hls_rules.rs"]
#[expect(unreachable_pub, reason = "it is public where it lives; that crate needs the whole program")]
mod hls_rules;
mod hls_segments;
mod hls_stream;
mod hls_validator;
mod remux;
