//! What players ask for.

pub(crate) mod address;
pub mod getstream;
pub mod hls;
mod recording;
pub mod status;
pub(crate) mod token;
