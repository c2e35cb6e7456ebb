//! The harness: the whole program on a free port, simulated engines behind it, viewers that check every packet in
//! front of it, and an oracle that compares what everybody remembers. For tests only.
//!
//! ```text
//!  StrictViewer ─► TestApp (Service on port 0) ─► SimEngine × n
//!       │                  │                          │
//!       └── Report         └── pages, relay           └── Ledger
//!                     oracle: all of them agree that nothing is left
//! ```

pub mod app;
pub mod docker;
pub mod dockerd;
pub mod faultproxy;
pub mod http;
pub mod oracle;
pub mod rawengine;
pub mod viewer;

pub use app::{Setup, TestApp};
pub use faultproxy::FaultProxy;
pub use http::{Reply, get, send};
pub use oracle::Oracle;
pub use viewer::StrictViewer;
