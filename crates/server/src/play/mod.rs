//! What players ask for.

pub mod getstream;
