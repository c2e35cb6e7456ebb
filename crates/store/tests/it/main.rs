//! What the store promises to the rest of the program, over real files.

mod crash;
mod directory;
mod events;
mod full;
mod key;
mod opening;
mod private;
mod tables;

use std::path::{Path, PathBuf};

use acemux_store::events::{EventKind, NewEvent};
use acemux_store::{Opened, Store};
use jiff::Timestamp;
use rusqlite::Connection;

fn database(folder: &Path) -> PathBuf {
    folder.join("acemux.db")
}

fn open(folder: &Path) -> Opened {
    Store::open(&database(folder)).expect("the database can be opened")
}

fn event(kind: EventKind, category: &str) -> NewEvent {
    NewEvent::new(Timestamp::now(), kind, category, format!("{category} happened"))
}

/// What the database itself says of the file, over a connection of its own.
fn integrity(folder: &Path) -> String {
    let connection = Connection::open(database(folder)).expect("the file can be opened");
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it can be checked")
}
