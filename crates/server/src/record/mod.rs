//! What is told of what happens, and what is kept of it.
//!
//! [`recorder`] is where facts become log lines, metrics and history, [`audit`] where changes of operators do. [`archive`]
//! and `saved` are what a restart brings back.

pub mod archive;
pub mod audit;
mod fold;
pub mod history;
pub mod logging;
pub mod metrics;
pub mod recorder;
pub(crate) mod saved;
