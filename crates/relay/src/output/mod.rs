//! What viewers get: each output turns a place in the ring into an HTTP body.

pub mod hls;
pub mod recording;
pub mod ts;
