//! What the HTTP API answers: its resources, one file each, and the one shape of every error.

pub mod engines;
pub mod health;
pub mod problem;
pub mod proxy;
