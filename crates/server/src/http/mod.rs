//! What clients meet: the accept loop, the checks before every page, who may do what, and the pages themselves.
//!
//! [`serve`] owns connections, [`edge`] what is asked of every request and the shape of every error ([`problem`]). Who asks
//! is said by [`client`], whether they may by [`auth`]. Behind these are [`play`], what players fetch, [`api`], and for people
//! [`panel`] and [`status_page`]. All pages, what is said of each and who may ask for it, are in [`surface`].

pub mod api;
pub mod auth;
pub mod body;
mod browser;
pub mod client;
pub mod edge;
pub mod guesses;
mod heads;
pub mod hosts;
pub mod key;
pub mod limits;
pub mod logins;
pub mod panel;
pub mod play;
pub mod problem;
mod seldom;
pub mod serve;
mod site;
pub mod status_page;
pub mod surface;
pub mod unnamed;
