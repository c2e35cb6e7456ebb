//! The harness: the whole program on a free port, simulated engines behind it, viewers that check every packet in
//! front of it, and an oracle that compares what everybody remembers. For tests only.
//!
//! ```text
//!  StrictViewer ─► [FaultProxy] ─► TestApp (Service on port 0) ─► [FaultProxy] ─► SimEngine × n, RawEngine
//!       │                               │                                            │
//!       └── Report                      └── pages, relay                             └── Ledger
//!                     Oracle: all of them agree, at any moment and when nothing is left
//! ```

pub mod app;
pub mod compose;
pub mod direct;
pub mod docker;
pub mod dockerd;
pub mod faultproxy;
pub mod fronts;
pub mod hls;
pub mod hls_rules;
pub mod http;
pub mod nemesis;
pub mod netns;
pub mod oracle;
pub mod outpace;
pub mod process;
pub mod rawengine;
pub mod socks;
pub mod viewer;
pub mod vpn;
pub mod witness;

pub use app::{Setup, TestApp};
pub use faultproxy::FaultProxy;
pub use hls::HlsViewer;
pub use http::{Reply, get, send};
pub use oracle::Oracle;
pub use process::Process;
pub use rawengine::RawEngine;
pub use viewer::StrictViewer;
pub use witness::Witness;
