//! A simulated AceStream engine: for the demo, for load tests and for every test of the program.
//!
//! ```text
//!   SimOptions ──► SimEngine ── engine port ──► routes: start · stat · cmd · media · service
//!                      │                            │         │
//!                      │                       session (who destroys whom)   feed (what is due)
//!                      │                            │                          │
//!                      ├── control port ──► fault   ledger        channel: clip (real) | verify (checkable)
//!                      └── in process ────► (what goes wrong)  (what happened)     └── swarm time
//! ```
//!
//! It speaks two dialects ([`Dialect`]), each as it was measured. As the closed engine: a content id is not an infohash,
//! starting twice destroys the first session, one reader per URL, silence until there is data, then a burst and real time.
//! As the open engine: any 40 digits are taken for an infohash and repeated, an infohash plays only with pieces of 1 MiB
//! ([`PieceSize`]) and is downloaded for ever without, and a later reader gets no burst. Everything that real engines,
//! networks and swarms do wrong can be asked for ([`Fault`]), and everything that was asked of the engine is written down
//! ([`Ledger`]).
//!
//! What is broadcast is a function of infohash and wall clock: two engines carry identical bytes without knowing of each
//! other. [`verify`] makes a channel of packets that can be checked one by one, and checks them.
//!
//! [`gluetun`] simulates the VPN beside it.
//!
//! It shares no code with the crates it tests, so that it cannot share a mistake with them, and HTTP is written by hand,
//! because no library would misbehave enough. A recording ([`VOD_ID`]) is one file of verifiable packets, read by ranges.
//! It serves no HLS and no contents of several files.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use acemux_sim::{Fault, SimEngine, SimOptions, Target, VERIFY_ID};
//!
//! let engine = SimEngine::start(SimOptions::fast()).await?;
//! engine.set_fault_for_starts(Target::content(VERIFY_ID), 1, Fault::Eof { after_bytes: 1_000_000 });
//! println!("http://{}/ace/getstream?id={VERIFY_ID}", engine.addr());
//! assert_eq!(engine.ledger().open_sessions(), 0);
//! # Ok(())
//! # }
//! ```

mod body;
mod channel;
mod clip;
mod control;
mod core;
mod engine;
pub mod fault;
mod feed;
pub mod gluetun;
mod identity;
mod json;
pub mod ledger;
mod options;
mod proxy;
mod routes;
mod session;
mod source;
pub mod swarm;
pub mod ts;
mod tunnel;
pub mod verify;
mod wire;

pub use channel::{
    AUDIO_ID, Channel, ChannelKind, DEFAULT_VERIFY_BITRATE, DEFAULT_VOD_SECONDS, DEMO_CHANNELS, DemoChannel,
    H264_ID, HEVC_ID, MPEG2_ID, NO_FLAGS_ID, OPEN_GOP_ID, UnknownChannel, VERIFY_BITRATES, VERIFY_ID, VOD_ID,
    VOD_SECONDS,
};
pub use engine::{SimEngine, run_engine};
pub use fault::{Fault, Framing, Rule, Target};
pub use gluetun::{GluetunOptions, SimGluetun, run_gluetun};
pub use identity::{ContentHash, infohash_of, token_of};
pub use ledger::{CloseReason, Ledger, LedgerSnapshot, StartRecord, StartsInFlight};
pub use options::{BadVersion, Dialect, EngineVersion, PieceSize, SimOptions, Timing, UnknownOption};
pub use proxy::{BadProxy, SocksProxy};
