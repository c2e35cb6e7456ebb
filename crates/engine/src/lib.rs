//! How one AceStream engine speaks: names of channels, the HTTP API, playbacks and their end.
//!
//! ```text
//!   query ──► Selector ──► ContentId ──► Identities::resolve ──► Infohash
//!                                                                   │
//!                            Engine::open(StartBy, permit) ◄────────┘
//!                                   │
//!            waits for a stop ──► start call ──► Playback ──► body(): media
//!            of the channel                         │    └──► stats(): watched state
//!                                                   ▼
//!                                   Drop: stop, then the permit is given back
//! ```
//!
//! An [`Engine`] is a handle to one engine that runs somewhere. [`Engine::open`] starts a session and returns a
//! [`Playback`], which owns the caller's permit: the right to have one more session there. However a playback ends, the
//! engine is told to stop, and the permit comes back only when it has answered or its time is up. A start that nobody
//! waits for any more gives its permit back at once: its call is left to itself (`calls.rs`).
//!
//! Two facts about real engines shape this crate. A second session of a channel on one engine supersedes the first,
//! and a stop ends every session of the channel there, the newest included. So starts and stops of one channel on one
//! engine are ordered (`sessions.rs`), and a stop that would end a newer session is not sent.
//!
//! The crate knows nothing about viewers, relays or fleets, and refuses to trust an engine: requests are built from
//! typed values only, replies are parsed with limits of size, depth and time, and of the URLs in them only the path is
//! used, so an engine can send us nowhere but to itself.

mod believed;
mod calls;
mod content;
mod endpoint;
mod engine;
mod error;
mod family;
mod file;
mod http;
mod json;
mod path;
mod playback;
mod resolve;
#[cfg(test)]
mod scripted;
mod selector;
mod sessions;
pub mod shortage;
mod start;
mod stat;
pub mod text;
mod wire;

pub use believed::Believed;
pub use calls::MOST as MOST_CALLS;
pub use content::{ContentId, Hash, Infohash, InvalidHash};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use engine::{Engine, Journal, LeftOpen, Limit, SessionCounts, SessionTotals, Timings};
pub use error::{EngineError, MAX_MESSAGE, Retry, SourceSide, Stage};
pub use family::{Facts, Family};
pub use file::{ByteRange, Extent, FilePart};
pub use http::{Body, PlayerId, Version, parse_media_files};
pub use path::EnginePath;
pub use playback::{Growth, Playback};
pub use resolve::{Identities, Lesson, Record, Resolution, Why, Witness};
pub use selector::{Selector, SelectorError, before_headers};
pub use start::{Liveness, StartBy, StartFailure, Started};
pub use stat::{LivePosition, PlaybackStat, PlaybackStatus};
