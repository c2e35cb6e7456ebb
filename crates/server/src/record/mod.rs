//! What is told of what happens, and what is kept of it.
//!
//! `event` says what each event means, [`recorder`] brings it to the log, the metrics and the history, [`audit`]
//! where changes of operators do. [`archive`] and `saved` are what a restart brings back.

pub mod archive;
pub mod audit;
mod event;
pub mod exposition;
mod fold;
pub mod logging;
pub mod metrics;
mod orchestrator;
pub mod recorder;
pub(crate) mod saved;
