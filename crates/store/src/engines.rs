//! Which engines there were. What runs now is the fleet's knowledge, not this.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::column::{self, At};
use crate::store::{Store, StoreError};

/// Engines that are remembered, the newest.
const MOST_ENGINES: i64 = 1_000;

/// An engine, as it was created or found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineRecord {
    /// Full id of its container.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Name of its variant.
    pub variant: String,
    /// Its image.
    pub image: String,
    /// Which place of the fleet it filled, or behind which tunnel.
    pub place: Option<String>,
    /// When its container was created.
    pub created_at: Timestamp,
}

/// An engine of the past or present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EngineHistory {
    /// What it was.
    #[serde(flatten)]
    pub engine: EngineRecord,
    /// When it went; `None` while it is there.
    pub gone_at: Option<Timestamp>,
    /// Why it went.
    pub gone_reason: Option<String>,
}

impl Store {
    /// An engine is there. Again for one that is known: its record is brought up to date. Never waits, never fails.
    pub fn engine_seen(&self, engine: EngineRecord) {
        self.queue().note(Box::new(move |connection| {
            upsert(connection, &engine)?;
            forget(connection, MOST_ENGINES)
        }));
    }

    /// It is gone. Never waits, never fails.
    pub fn engine_gone(&self, container_id: impl Into<String>, at: Timestamp, reason: impl Into<String>) {
        let (container_id, reason) = (container_id.into(), reason.into());
        self.queue().note(Box::new(move |connection| {
            let sql = "UPDATE engines SET gone_at = ?2, gone_reason = ?3
                       WHERE container_id = ?1 AND gone_at IS NULL";
            connection.execute(sql, params![container_id, At(at), reason]).map(drop)
        }));
    }

    /// The newest `limit` engines (at most 1000 are kept), newest first.
    pub async fn engines(&self, limit: usize) -> Result<Vec<EngineHistory>, StoreError> {
        self.ask(move |worker| worker.read(|connection| select(connection, limit))).await
    }
}

fn upsert(connection: &Connection, engine: &EngineRecord) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO engines (container_id, name, variant, image, place, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (container_id) DO UPDATE SET
             name = excluded.name, variant = excluded.variant, image = excluded.image, place = excluded.place,
             gone_at = NULL, gone_reason = NULL",
        params![
            engine.container_id,
            engine.name,
            engine.variant,
            engine.image,
            engine.place,
            At(engine.created_at)
        ],
    )?;
    Ok(())
}

fn forget(connection: &Connection, most: i64) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM engines
         WHERE number <= (SELECT number FROM engines ORDER BY number DESC LIMIT 1 OFFSET ?1)",
        [most],
    )?;
    Ok(())
}

fn select(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<EngineHistory>> {
    let mut statement = connection.prepare("SELECT * FROM engines ORDER BY number DESC LIMIT ?1")?;
    statement.query_map([column::whole(limit)], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<EngineHistory> {
    let At(created_at) = row.get("created_at")?;
    let engine = EngineRecord {
        container_id: row.get("container_id")?,
        name: row.get("name")?,
        variant: row.get("variant")?,
        image: row.get("image")?,
        place: row.get("place")?,
        created_at,
    };
    let gone_at: Option<At> = row.get("gone_at")?;
    Ok(EngineHistory { engine, gone_at: gone_at.map(|At(at)| at), gone_reason: row.get("gone_reason")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    #[test]
    fn only_the_newest_are_remembered() {
        let connection = open::memory().unwrap();
        for id in ["a", "b", "c"] {
            let engine = EngineRecord {
                container_id: id.to_owned(),
                name: format!("engine-{id}"),
                variant: "default".to_owned(),
                image: "image".to_owned(),
                place: None,
                created_at: Timestamp::UNIX_EPOCH,
            };
            upsert(&connection, &engine).unwrap();
        }
        forget(&connection, 2).unwrap();
        let names = select(&connection, 9).unwrap().into_iter().map(|known| known.engine.name);
        assert_eq!(names.collect::<Vec<_>>(), ["engine-c", "engine-b"]);
    }
}
