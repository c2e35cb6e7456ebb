//! Settings: small documents by key. What they mean is not known here.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::column::{Document, Json};
use crate::store::{Store, StoreError};

impl Store {
    /// The document saved under `key`.
    pub async fn setting(&self, key: &str) -> Result<Option<Value>, StoreError> {
        let key = key.to_owned();
        self.ask(move |worker| worker.read(|connection| select_one(connection, &key))).await
    }

    /// All documents.
    pub async fn settings(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        self.ask(|worker| worker.read(select)).await
    }

    /// Saves a document. When this returns `Ok`, it survives a power loss.
    pub async fn save_setting(&self, key: &str, value: Value) -> Result<(), StoreError> {
        let key = key.to_owned();
        let sql = "INSERT INTO settings (key, value) VALUES (?1, ?2)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.ask(move |worker| {
            worker.change(|transaction| transaction.execute(sql, params![key, Json(&value)])).map(drop)
        })
        .await
    }

    /// Deletes a document; whether there was one.
    pub async fn delete_setting(&self, key: &str) -> Result<bool, StoreError> {
        let key = key.to_owned();
        let sql = "DELETE FROM settings WHERE key = ?1";
        self.ask(move |worker| {
            worker.change(|transaction| transaction.execute(sql, [key])).map(|count| count > 0)
        })
        .await
    }
}

fn select_one(connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
    let sql = "SELECT value FROM settings WHERE key = ?1";
    connection.query_row(sql, [key], |row| row.get(0).map(|Document(value)| value)).optional()
}

fn select(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Value>> {
    let mut statement = connection.prepare("SELECT key, value FROM settings")?;
    let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1).map(|Document(value)| value)?));
    statement.query_map([], pair)?.collect()
}
