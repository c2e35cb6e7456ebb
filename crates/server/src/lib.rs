//! The acemux service: every other crate put together, and the pages it answers.
//!
//! ```text
//!  serve (accept loop) ─► edge (limits, problems) ─► play::getstream ─► Relay ─► EngineOrigin ─► Engines
//!                                                 └► api::{proxy, engines, health}   (snapshots, never questions)
//! ```
//!
//! [`app`] says which parts there are and in which order they start and stop, [`supervise`] what the end of each means.
//! [`origins`] is where the data plane meets
//! the engines. [`journal`] is where facts become log lines, metrics and history, [`audit`] where changes of operators do.
//! [`doctor`] and [`own_engines`] are for the command line, also when the service does not run.

pub mod api;
pub mod app;
pub mod archive;
pub mod audit;
pub mod auth;
mod browser;
mod claim;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod custom;
pub mod demo;
pub mod doctor;
pub mod edge;
pub mod evacuate;
mod fold;
pub mod guesses;
mod heads;
pub mod history;
pub mod hosts;
pub mod journal;
pub mod key;
pub mod limits;
pub mod logging;
pub mod loops;
pub mod metrics;
pub mod origins;
pub mod own_engines;
pub mod play;
mod refusals;
pub mod reported;
mod saved;
mod scaling;
mod seldom;
pub mod serve;
mod shutdown;
pub mod simargs;
mod site;
mod supersessions;
pub mod supervise;
pub mod vpn;
