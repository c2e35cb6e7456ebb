//! The control plane: which engines exist, which should, and which one serves a stream.
//!
//! ```text
//!   settings ──► Policy, Recipe ─┐
//!   Docker ────► containers ─────┼─► plan() ─► actions with reasons ─► Provisioner ─► Docker
//!   probes ────► Member ─────────┤     pure          reconcile             docker
//!   streams ───► Engines ────────┘
//!                  │  ▲
//!         Slot ◄───┘  └── who waits for a slot is the demand
//! ```
//!
//! * [`plan`] decides: a pure function from what is wanted and what is there to what is done next, and why. It is proved
//!   on random histories, not on a daemon.
//! * [`fleet`] is the handle of the loop around it, which looks, plans, applies, and answers an operator's commands.
//!   Events of the daemon only make it look sooner.
//! * [`provisioner`] is the seam to whoever runs containers; [`docker`] is the one there is.
//! * [`dispatch`] chooses the engine of a new stream and queues who finds none. [`member`] is one engine as streams see
//!   it, [`probe`] asks whether it answers.
//! * [`tunnel`] is what engines reach the world through: the host's network, or a VPN's.
//! * [`profile`] and [`custom`] say what an engine is made from, [`recipe`] makes it; [`spec`] is one container before it
//!   exists.
//!
//! What runs is the truth: after a restart the containers' labels say whose they are and how they are reached, and
//! nothing that is not labelled as this instance's is ever touched. This crate knows no HTTP pages, no database and no
//! media.

pub mod allowed;
pub mod backoff;
pub mod capability;
mod command;
pub mod custom;
pub mod dispatch;
pub mod docker;
pub mod event;
pub mod fleet;
pub mod ident;
pub mod image;
pub mod member;
mod options;
pub mod plan;
pub mod ports;
pub mod probe;
pub mod profile;
pub mod provisioner;
pub mod proxy;
pub mod recipe;
mod reconcile;
pub mod runaway;
mod snapshot;
pub mod spec;
pub mod trouble;
pub mod tunnel;
