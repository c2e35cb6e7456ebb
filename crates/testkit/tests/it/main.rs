//! The whole program, as its users meet it. One module per promise.

mod addresses;
mod arrows;
mod attacks;
mod blame;
mod books;
mod chaos;
mod classes;
mod containers;
mod contract;
mod daemon;
mod data_directory;
mod docker;
mod docs;
mod engine_faults;
mod failures;
mod fronts;
mod golden;
mod guide;
mod healing;
mod hls;
mod installed;
mod joins;
mod limits;
mod logins;
mod markup;
mod migration;
mod monitoring;
mod news;
mod open_engine;
mod operator;
mod outpace;
mod pages;
mod panel;
mod pauses;
mod places;
mod players;
mod players_failover;
mod players_pauses;
mod proxy;
mod recordings;
mod runaways;
mod schemathesis;
mod security;
mod settings;
mod sharing;
mod soak;
mod stagnation;
mod standstill;
mod starts;
mod starving;
mod strangers;
mod supervision;
mod unplayable;
mod viewer_faults;
mod visits;
mod vpn;
mod zapping;

/// A content id that plays the verifiable channel of a fast simulated engine.
const ID: &str = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d";

/// The `n`th content id of a test that needs many.
fn id(n: usize) -> String {
    format!("{n:040x}")
}

/// An address of this machine for the `n`th household: starts are counted by address.
fn home(n: usize) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(127, 0, 2, u8::try_from(n % 200).expect("under 200") + 1)
}

fn stream(id: &str) -> String {
    format!("/ace/getstream?id={id}")
}
