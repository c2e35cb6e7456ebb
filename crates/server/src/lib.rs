//! The acemux service: every other crate put together, and the pages it answers.
//!
//! ```text
//!  http::serve (accept loop) ─► http::edge (limits, problems) ─► http::play ─► Relay ─► planes::origins ─► Engines
//!                                                            └► http::api   (snapshots, never questions)
//! ```
//!
//! [`http`] is what clients meet, [`planes`] where the data plane, the control plane and the settings meet, [`record`] what
//! is told and kept of what happens. [`app`] says which parts there are and in which order they start and stop,
//! [`supervise`] what the end of each means.
//! [`doctor`] and [`own_engines`] are for the command line, also when the service does not run.

pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod http;
pub mod own_engines;
pub mod planes;
pub mod record;
mod shutdown;
pub mod simargs;
pub mod supervise;
