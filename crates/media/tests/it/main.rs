//! The crate on synthetic streams, on arbitrary bytes, on real clips, and against another reader of the format.

mod builder;
mod chunker;
mod clips;
mod continuation;
mod differential;
