//! A look at one saved setting from beside the service, which may be running: nothing is locked, written or left behind.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use serde_json::Value;

use crate::column::Document;
use crate::open;
use crate::schema::APPLICATION;

/// Why it cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    /// It is a database of something else.
    #[error("{} is a database, but not one of this program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// The document saved under `key` in the database at `path`; none where there is no such database.
pub fn setting(path: &Path, key: &str) -> Result<Option<Value>, PeekError> {
    if !path.exists() {
        return Ok(None);
    }
    let path = &open::real(path).unwrap_or_else(|_| path.to_owned());
    let unreadable = |source| PeekError::Unreadable { path: path.clone(), source };
    let connection = connect(path).map_err(unreadable)?;
    let application: i64 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(unreadable)?;
    match application {
        // The service has made the file and not yet the tables.
        0 => Ok(None),
        _ if application == i64::from(APPLICATION) => select(&connection, key).map_err(unreadable),
        _ => Err(PeekError::Foreign { path: path.clone() }),
    }
}

/// Where nobody has left a log, nobody writes: then the file is looked at as it is, for otherwise a log would be made, and
/// by whoever looks. Where there is one, what stands in it counts.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        return Connection::open_with_flags(path, flags);
    }
    let uri = format!("file:{}?immutable=1", encoded(path));
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
}

/// A path in a URI: whatever means something there is written in hexadecimal.
fn encoded(path: &Path) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.as_os_str().as_encoded_bytes().iter().map(byte).collect()
}

fn select(connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
    let sql = "SELECT value FROM settings WHERE key = ?1";
    connection.query_row(sql, [key], |row| row.get(0).map(|Document(value)| value)).optional()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::Store;

    fn files(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn what_is_saved_is_seen_while_the_service_runs_and_after_it_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a #?%.db");
        assert_eq!(setting(&path, "a").unwrap(), None);
        let store = Store::open(&path).unwrap().store;
        store.save_setting("a", json!({ "b": 1 })).await.unwrap();
        assert_eq!(setting(&path, "a").unwrap(), Some(json!({ "b": 1 })));
        assert_eq!(setting(&path, "c").unwrap(), None);
        store.close().await.unwrap();
        let before = files(folder.path());
        assert_eq!(setting(&path, "a").unwrap(), Some(json!({ "b": 1 })));
        assert_eq!(files(folder.path()), before);
    }

    #[test]
    fn what_is_no_database_of_ours_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        fs::write(&path, "no database at all, and long enough to be taken for none").unwrap();
        assert!(matches!(setting(&path, "a"), Err(PeekError::Unreadable { .. })));
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign).unwrap().execute_batch("PRAGMA application_id = 7").unwrap();
        assert!(matches!(setting(&foreign, "a"), Err(PeekError::Foreign { .. })));
    }
}
