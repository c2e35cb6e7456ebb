//! What players ask for.

pub mod getstream;
pub mod hls;
mod recording;
