//! The crate on synthetic streams, on arbitrary bytes, on real clips, and against another reader of the format.

mod builder;
mod chunker;
mod clips;
mod differential;
#[path = "../../../testkit/src/hls_rules.rs"]
#[expect(unreachable_pub, reason = "it is public where it lives; its crate needs the whole program")]
mod hls_rules;
mod hls_segments;
mod hls_stream;
mod hls_validator;
