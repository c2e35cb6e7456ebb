//! Which infohash an id stands for, as engines have told: remembered, so that the first viewer after a restart does not
//! wait for an engine to resolve it again.

use rusqlite::{Connection, params};

use crate::column;
use crate::store::{Store, StoreError};

/// Ids that are remembered; the least recently used ones go.
const MOST_IDENTITIES: usize = 10_000;

impl Store {
    /// All that are remembered, as pairs of id and infohash, least recently used first: the order in which a cache of
    /// limited size is filled.
    pub async fn identities(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.ask(|worker| worker.read(select)).await
    }

    /// Remembers a pair, or that it was used again. Written later; never waits, never fails.
    pub fn remember(&self, id: impl Into<String>, infohash: impl Into<String>) {
        let (id, infohash) = (id.into(), infohash.into());
        self.queue().note(Box::new(move |connection| {
            upsert(connection, &id, &infohash)?;
            forget(connection, MOST_IDENTITIES)
        }));
    }
}

fn select(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("SELECT id, infohash FROM identities ORDER BY used")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// `used` is a counter, not a time: unique, and right even when the clock is set back.
fn upsert(connection: &Connection, id: &str, infohash: &str) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO identities (id, infohash, used)
         VALUES (?1, ?2, (SELECT coalesce(max(used), 0) + 1 FROM identities))
         ON CONFLICT (id) DO UPDATE SET infohash = excluded.infohash, used = excluded.used",
        params![id, infohash],
    )?;
    Ok(())
}

fn forget(connection: &Connection, most: usize) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM identities
         WHERE used <= (SELECT used FROM identities ORDER BY used DESC LIMIT 1 OFFSET ?1)",
        [column::whole(most)],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    #[test]
    fn the_least_recently_used_are_forgotten() {
        let connection = open::memory().unwrap();
        for id in ["a", "b", "c", "a"] {
            upsert(&connection, id, "hash").unwrap();
        }
        forget(&connection, 2).unwrap();
        let ids: Vec<String> = select(&connection).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["c", "a"]);
    }
}
