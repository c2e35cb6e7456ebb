//! The tables, and how they came to be. A step that was released is never edited: a change is one more step.

use rusqlite_migration::{M, Migrations};

/// Stands in the file's header and says that it is ours ("ACMX").
pub(crate) const APPLICATION: i32 = 1_094_929_752;

const STEPS: &[M<'static>] = &[M::up(FIRST), M::up(SHARES), M::up(NAMES), M::up(NO_TOKENS)];

/// All steps.
pub(crate) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

/// The schema's version after all steps.
pub(crate) const VERSION: usize = STEPS.len();

// Times are microseconds of Unix time. `AUTOINCREMENT` where a number must not be used twice, even after its row is
// gone: a late "closed" must never meet the row of another playback.
const FIRST: &str = "
PRAGMA application_id = 1094929752;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('engine', 'stream', 'vpn', 'health', 'system')),
    category TEXT NOT NULL,
    message TEXT NOT NULL,
    details TEXT NOT NULL,
    container_id TEXT,
    stream_id TEXT
) STRICT;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_kind ON events (kind);

CREATE TABLE engines (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    container_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    variant TEXT NOT NULL,
    image TEXT NOT NULL,
    place TEXT,
    created_at INTEGER NOT NULL,
    gone_at INTEGER,
    gone_reason TEXT
) STRICT;

CREATE TABLE streams (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    key_type TEXT NOT NULL,
    key TEXT NOT NULL,
    container_id TEXT,
    playback_session_id TEXT,
    is_live INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_reason TEXT,
    downloaded INTEGER,
    uploaded INTEGER
) STRICT;

CREATE TABLE identities (
    id TEXT PRIMARY KEY,
    infohash TEXT NOT NULL,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX identities_used ON identities (used);

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE playbacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    engine TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    infohash TEXT NOT NULL,
    command TEXT,
    opened_at INTEGER NOT NULL
) STRICT;
";

// Whose part of its category an event takes.
const SHARES: &str = "ALTER TABLE events ADD COLUMN share TEXT;";

// A value that was said to be its own infohash was often an echo of the question: nobody can tell which ones.
const NAMES: &str = "
DELETE FROM identities WHERE id = infohash;
ALTER TABLE identities ADD COLUMN witness TEXT NOT NULL DEFAULT 'look_up';

CREATE TABLE deliveries (
    channel TEXT NOT NULL,
    family TEXT NOT NULL,
    form TEXT NOT NULL CHECK (form IN ('content_id', 'infohash')),
    hash TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (channel, family)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries_used ON deliveries (used);
";
/// The first version that keeps no token as it is.
pub(crate) const FIRST_WITHOUT_TOKENS: i64 = 4;

// Commands are sealed from here on; those that are not are of no use any more.
const NO_TOKENS: &str = "UPDATE playbacks SET command = NULL;";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_apply_and_mark_the_file() {
        MIGRATIONS.validate().unwrap();
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
        assert_eq!(application, APPLICATION);
    }

    #[test]
    fn values_that_stood_for_themselves_are_forgotten_because_they_may_be_echoes() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        MIGRATIONS.to_version(&mut connection, 1).unwrap();
        connection
            .execute_batch("INSERT INTO identities VALUES ('a', 'a', 1), ('b', 'c', 2), ('c', 'c', 3)")
            .unwrap();
        MIGRATIONS.to_latest(&mut connection).unwrap();
        let left: (String, String, String) = connection
            .query_row("SELECT id, infohash, witness FROM identities", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(left, ("b".into(), "c".into(), "look_up".into()));
    }
}
