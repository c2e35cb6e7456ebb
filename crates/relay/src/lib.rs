//! The data plane: one engine session per channel, any number of viewers on it.
//!
//! ```text
//!            Origin::open                 Producer::push            Cursor::poll_next
//!  engine ───────────────► session task ───────────────► Ring ───────────────────────► output::ts::Body ► hyper
//!                          (one owner)    sealed chunks    │      reference counts
//!                               ▲                          └── bounded in seconds and bytes, charged to the Budget
//!                               │ joins, leaves
//!                             Relay: StreamKey → session, single flight, admission
//! ```
//!
//! What this crate knows: bytes ([`acemux_media`]), rings, sessions and viewers. What it refuses to know: containers,
//! VPNs, SQL, HTTP routes and how an AceStream engine speaks. All of that is behind one trait, [`origin::Origin`]:
//! "open this stream, give me bytes".
//!
//! * [`ring`] is the only mutable thing that writer and readers share. Its lock is held for a few instructions; a slow
//!   reader falls behind and skips, it never delays the writer.
//! * [`session`] is a single-owner state machine: `select().await` yields a step, a synchronous `apply` decides.
//!   Every state has a deadline, so a session cannot wait for ever on a peer.
//! * [`rounds`] says when: all sessions take and give out in the same moments, the busier the process the further apart.
//!   Their readers are woken in turns (`turns`), so that pages and newcomers do not wait behind all of them.
//! * [`relay`] maps stream keys to sessions. Any number of simultaneous first requests make one session.
//! * [`history`] is what streams and the process were like, of what [`meter`] makes of their counters once a second.
//! * [`viewer`] is the right to watch: a guard whose drop gives the place back. [`mod@line`] is all that joins it to its
//!   connection.

pub mod admission;
pub mod bars;
pub mod budget;
pub mod event;
pub mod history;
pub mod line;
pub mod meter;
pub mod origin;
pub mod output;
pub mod relay;
pub mod ring;
pub mod rounds;
pub mod sampling;
pub mod session;
mod standstill;
mod turns;
pub mod verdict;
pub mod viewer;

pub use relay::{Relay, RelayConfig, StreamKey};
