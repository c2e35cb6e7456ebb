//! Which streams there were. What plays now is the relay's knowledge, not this.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params, params};
use serde::Serialize;

use crate::column::{self, At};
use crate::store::{Store, StoreError};

/// Streams that are remembered, the newest.
const MOST_STREAMS: i64 = 10_000;

/// One in so many streams looks whether there are too many.
const PRUNE_EVERY: i64 = 100;

/// Most streams of one answer.
const MOST_ANSWERED: usize = 1_000;

/// A stream that began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamRecord {
    /// Its id, as the API names it.
    pub id: String,
    /// What `key` is: `content_id`, `infohash`, `url` or `magnet`.
    pub key_type: String,
    /// What was asked for.
    pub key: String,
    /// The engine it played on.
    pub container_id: Option<String>,
    /// The engine's name for the playback.
    pub playback_session_id: Option<String>,
    /// Whether it is live rather than recorded.
    pub is_live: bool,
    /// When it began.
    pub started_at: Timestamp,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamEnd {
    /// When.
    pub ended_at: Timestamp,
    /// Why, one word.
    pub end_reason: String,
    /// Bytes the engine had received for it, where known.
    pub downloaded: Option<u64>,
    /// Bytes the engine had given to others, where known.
    pub uploaded: Option<u64>,
}

/// A stream of the past or present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamHistory {
    /// How it began.
    #[serde(flatten)]
    pub stream: StreamRecord,
    /// How it ended; `None` while it plays.
    pub end: Option<StreamEnd>,
}

/// Which streams are wanted. All conditions hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamQuery {
    /// At most so many, and never more than 1000.
    pub limit: usize,
    /// So many of the newest are passed over.
    pub offset: usize,
    /// Those that ended, or those that did not.
    pub has_ended: Option<bool>,
    /// Those of this engine.
    pub container_id: Option<String>,
}

impl Store {
    /// A stream began. One with the same id begins anew. Never waits, never fails.
    pub fn stream_started(&self, stream: StreamRecord) {
        self.queue().note(Box::new(move |connection| {
            replace(connection, &stream)?;
            let is_turn = connection.last_insert_rowid() % PRUNE_EVERY == 0;
            if is_turn { forget(connection, MOST_STREAMS) } else { Ok(()) }
        }));
    }

    /// It ended. Only its first end counts. Never waits, never fails.
    pub fn stream_ended(&self, id: impl Into<String>, end: StreamEnd) {
        let id = id.into();
        self.queue().note(Box::new(move |connection| {
            update(connection, "id = :id AND ended_at IS NULL AND :id IS NOT NULL", Some(&id), &end)
        }));
    }

    /// Every stream that has not ended ends like this: after a restart, those of the process before.
    pub fn end_open_streams(&self, end: StreamEnd) {
        self.queue().note(Box::new(move |connection| {
            update(connection, "ended_at IS NULL AND :id IS NULL", None, &end)
        }));
    }

    /// Streams, newest first.
    pub async fn streams(&self, query: StreamQuery) -> Result<Vec<StreamHistory>, StoreError> {
        self.ask(move |worker| worker.read(|connection| select(connection, &query))).await
    }
}

impl Default for StreamQuery {
    /// The newest 100 streams.
    fn default() -> Self {
        Self { limit: 100, offset: 0, has_ended: None, container_id: None }
    }
}

/// A new row also where the id is known: so the number says when a stream last began.
fn replace(connection: &Connection, stream: &StreamRecord) -> rusqlite::Result<()> {
    connection.execute(
        "REPLACE INTO streams (id, key_type, key, container_id, playback_session_id, is_live, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            stream.id,
            stream.key_type,
            stream.key,
            stream.container_id,
            stream.playback_session_id,
            stream.is_live,
            At(stream.started_at),
        ],
    )?;
    Ok(())
}

fn update(connection: &Connection, which: &str, id: Option<&str>, end: &StreamEnd) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE streams SET ended_at = :at, end_reason = :reason, downloaded = :down, uploaded = :up WHERE {which}"
    );
    connection.execute(
        &sql,
        named_params! {
            ":id": id,
            ":at": At(end.ended_at),
            ":reason": end.end_reason,
            ":down": end.downloaded.map(column::whole),
            ":up": end.uploaded.map(column::whole),
        },
    )?;
    Ok(())
}

fn forget(connection: &Connection, most: i64) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM streams
         WHERE number <= (SELECT number FROM streams ORDER BY number DESC LIMIT 1 OFFSET ?1)",
        [most],
    )?;
    Ok(())
}

fn select(connection: &Connection, query: &StreamQuery) -> rusqlite::Result<Vec<StreamHistory>> {
    let sql = "SELECT * FROM streams
               WHERE (:ended IS NULL OR (ended_at IS NOT NULL) = :ended)
                 AND (:container_id IS NULL OR container_id = :container_id)
               ORDER BY number DESC LIMIT :limit OFFSET :offset";
    let wanted = named_params! {
        ":ended": query.has_ended,
        ":container_id": query.container_id,
        ":limit": column::whole(query.limit.min(MOST_ANSWERED)),
        ":offset": column::whole(query.offset),
    };
    connection.prepare(sql)?.query_map(wanted, read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<StreamHistory> {
    let At(started_at) = row.get("started_at")?;
    let stream = StreamRecord {
        id: row.get("id")?,
        key_type: row.get("key_type")?,
        key: row.get("key")?,
        container_id: row.get("container_id")?,
        playback_session_id: row.get("playback_session_id")?,
        is_live: row.get("is_live")?,
        started_at,
    };
    Ok(StreamHistory { stream, end: read_end(row)? })
}

fn read_end(row: &Row<'_>) -> rusqlite::Result<Option<StreamEnd>> {
    let Some(At(ended_at)) = row.get("ended_at")? else { return Ok(None) };
    let bytes = |name| row.get::<_, Option<i64>>(name).map(|bytes| bytes.map(column::count));
    Ok(Some(StreamEnd {
        ended_at,
        end_reason: row.get("end_reason")?,
        downloaded: bytes("downloaded")?,
        uploaded: bytes("uploaded")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    #[test]
    fn only_the_newest_are_remembered() {
        let connection = open::memory().unwrap();
        for id in ["a", "b", "c", "a"] {
            let stream = StreamRecord {
                id: id.to_owned(),
                key_type: "infohash".to_owned(),
                key: "0".repeat(40),
                container_id: None,
                playback_session_id: None,
                is_live: true,
                started_at: Timestamp::UNIX_EPOCH,
            };
            replace(&connection, &stream).unwrap();
        }
        forget(&connection, 2).unwrap();
        let known = select(&connection, &StreamQuery::default()).unwrap();
        assert_eq!(known.iter().map(|known| known.stream.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }
}
