//! What outlives a restart: events, history, remembered ids, settings and the journal of open playbacks.
//!
//! ```text
//!   anywhere                         bounded, never waited for                one thread, one file
//!  record, seen, opened, closed ───► Queue: lanes that drop their oldest ──┐
//!                                                                          ├──► Worker ──► SQLite (WAL, synchronous=FULL)
//!  events(), save_setting(), … ────► Queue: questions ─────────────────────┘      │
//!        ▲                                                                        │
//!        └───────────── answer within a deadline, or an error ────────────────────┘
//! ```
//!
//! * [`Store`] is the handle: clone it freely. Whoever reports something never waits and never fails; whoever asks, or
//!   saves a setting, awaits an answer with a deadline. Nothing here runs on the threads that move bytes.
//! * [`directory`] is the folder: locked by one instance, home of the instance id; [`key`] is the API key made for it,
//!   [`secret`] what the program makes for itself.
//! * [`peek`] looks at a saved setting from beside the service.
//! * [`open`] turns a file into a usable database or says why not. A damaged file is moved aside, a newer or foreign
//!   one is left as it is.
//! * `private` opens every file for its owner alone and through no link; `seal` keeps engines' tokens unreadable.
//! * When the disk is full or read-only, writes that somebody awaits fail with [`StoreError::Full`]; all others wait
//!   in memory, bounded, and are written when space returns. Events can be read meanwhile.
//!
//! One file per family of tables: [`events`], [`engines`], [`streams`], [`identities`], [`settings`], [`playbacks`].
//! What this crate refuses to know: what an engine is, HTTP, and what the settings mean.

mod column;
pub mod directory;
pub mod engines;
pub mod events;
pub mod identities;
pub mod key;
pub mod open;
pub mod peek;
pub mod playbacks;
mod private;
mod queue;
mod random;
mod schema;
mod seal;
pub mod secret;
pub mod settings;
mod store;
pub mod streams;
mod worker;

pub use directory::DataDir;
pub use open::OpenError;
pub use store::{Opened, Store, StoreError, StoreHealth, StoreState};
