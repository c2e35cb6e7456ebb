//! Transport stream packets and the tables and elementary streams inside them.

pub mod align;
pub mod counters;
pub mod descriptors;
pub mod packet;
pub mod psi;
pub mod splice;
pub mod start;
