//! Transport stream packets and the tables and elementary streams inside them.

pub mod align;
pub(crate) mod backlog;
pub mod counters;
pub mod descriptors;
pub mod packet;
pub mod pes;
pub mod programs;
pub mod psi;
mod roles;
pub mod section;
mod sets;
pub mod splice;
mod trust;
pub mod video;
