//! What the HTTP API answers: its resources, one file each.

pub mod channels;
pub mod custom;
pub mod docs;
pub mod doctor;
pub mod engines;
pub mod events;
pub mod fleet;
pub mod health;
pub mod history;
pub mod live;
pub mod logins;
pub mod loops;
pub mod proxy;
pub mod status;
pub mod streams;
pub mod vpn;
