//! Where the data plane, the control plane and the settings meet.
//!
//! [`origins`] opens streams on engines for the data plane; [`evacuation`] has them leave. [`setup`] makes the control plane
//! from the settings, [`custom`] and `scaling` keep what operators have changed of it, [`claim`] sees who else does the
//! same here. [`vpn`], [`loops`] and [`reported`] are what pages say of VPNs, of channels that repeat themselves, and of
//! streams that other programs run.

pub mod channels;
pub mod claim;
pub mod custom;
pub mod evacuation;
pub(crate) mod follow;
pub mod live;
pub mod loops;
pub mod names;
pub mod origins;
pub mod players;
mod recent_refusals;
pub mod reported;
pub(crate) mod scaling;
pub mod settings;
pub mod setup;
mod supersessions;
pub mod vpn;
