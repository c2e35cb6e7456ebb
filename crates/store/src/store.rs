//! The handle, and how things can go wrong.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::directory::DataDir;
use crate::open::{self, OpenError};
use crate::private;
use crate::queue::{Numbers, Queue};
use crate::seal::Seal;
use crate::worker::{self, Outcome, Worker};

/// Longest wait for an answer. An answer takes milliseconds; a disk that needs longer is no better for more waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait for the last writes when the service stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// The database, from anywhere. Clones share it; when the last one is dropped, what waits is written and the file
/// closed, without anybody waiting for it: a service that stops awaits [`Store::close`].
///
/// Answers come from a thread of the operating system, which a paused test clock does not see: with
/// `tokio::time::pause` every answer seems late.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    seal: Seal,
    ended: watch::Receiver<Outcome>,
}

/// A store that was opened from a file.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// 32 hex digits that stay the same as long as the data directory does.
    pub instance_id: String,
    /// What was unusual, one line each, for the log and the operator's page: a damaged database was moved aside.
    pub notes: Vec<String>,
}

/// Why an answer did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk takes no more: full, read-only or broken. Nothing was changed; reading still works.
    #[error("nothing can be saved: {reason}")]
    Full {
        /// The database's words.
        reason: String,
    },
    /// The store is closed, or another program holds the database.
    #[error("the database is not available: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Too many wait already.
    #[error("too many requests wait for the database")]
    Busy,
    /// No answer in time. A change may still be made.
    #[error("the database did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Timeout,
    /// The database failed in a way that only a person can mend.
    #[error("the database failed: {reason}")]
    Failed {
        /// The database's words.
        reason: String,
    },
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether it can write.
    pub state: StoreState,
    /// Writes that wait in memory.
    pub unsaved: usize,
    /// Writes lost since the process began, because too many waited or the store was closed.
    pub dropped: u64,
}

/// Whether the store can write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// It can.
    Ok,
    /// It cannot, and tries again every few seconds. Reading works.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why the last attempt failed.
        reason: StoreError,
    },
    /// It was closed.
    Closed,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or creates the database at `path`; its folder becomes this process's data directory.
    ///
    /// Reads the whole file and may wait two seconds for a lock: call it before there is anything to delay.
    pub fn open(path: &Path) -> Result<Opened, OpenError> {
        let folder = open::folder_of(path);
        let directory = DataDir::open(folder)?;
        let instance_id = directory.instance_id().to_owned();
        let path = &open::real(path)?;
        let (connection, mut notes) = open::file(path)?;
        let (seal, note) = Seal::of(folder)?;
        notes.extend(note);
        // Not before: what is not ours keeps its mode.
        notes.extend(private::close_to_others(folder, path.file_name().unwrap_or_default()));
        let unusable = |error| OpenError::Unusable { path: path.to_owned(), source: error };
        let store = Self::start(connection, Some(directory), seal).map_err(unusable)?;
        Ok(Opened { store, instance_id, notes })
    }

    /// A store that leaves nothing on the disk: for tests and demonstrations.
    pub fn in_memory() -> Self {
        let connection = open::memory().expect("a database in memory depends on no file");
        Self::start(connection, None, Seal::of_this_process())
            .expect("a process that starts can start a thread")
    }

    /// How it is, at this moment.
    pub fn health(&self) -> StoreHealth {
        self.inner.queue.health()
    }

    /// Waits until all that was reported before is on the disk.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Worker::save).await
    }

    /// Takes nothing more, writes what waits, empties the write-ahead log and unlocks the folder. An error says that
    /// something could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.queue.shut();
        let mut ended = self.inner.ended.clone();
        let outcome = timeout(CLOSE_WITHIN, ended.wait_for(Option::is_some)).await;
        match outcome.map_err(|_| StoreError::Timeout)?.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            Ok(None) | Err(_) => Err(StoreError::gone()),
        }
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.inner.queue.ask(Box::new(move |worker| {
            // Whoever has given up is not worked for.
            if !reply.is_closed() {
                reply.send(work(worker)).ok();
            }
        }))?;
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::gone()),
            Err(_) => Err(StoreError::Timeout),
        }
    }

    /// `secret` as it may be kept: unreadable without a key that is not in the database. `None` when it may not be.
    pub fn seal(&self, secret: &str, context: &str) -> Option<String> {
        self.inner.seal.close(secret, context)
    }

    /// What was sealed in this context; `None` when it was with another key.
    pub fn unseal(&self, sealed: &str, context: &str) -> Option<String> {
        self.inner.seal.open(sealed, context)
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    fn start(
        connection: Connection,
        directory: Option<DataDir>,
        seal: Seal,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let queue = Arc::new(Queue::new(last_numbers(&connection)?));
        let ended = worker::start(connection, directory, &queue)?;
        Ok(Self { inner: Arc::new(Inner { queue, seal, ended }) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.shut();
    }
}

impl StoreError {
    pub(crate) fn writing(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied,
            ) => Self::Full { reason: error.to_string() },
            _ => Self::reading(error),
        }
    }

    pub(crate) fn reading(error: &rusqlite::Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Unavailable { reason },
            _ => Self::Failed { reason },
        }
    }

    fn gone() -> Self {
        Self::Unavailable { reason: "its thread is gone".to_owned() }
    }
}

fn last_numbers(connection: &Connection) -> rusqlite::Result<Numbers> {
    let last = |table| {
        let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?1), 0)";
        connection.query_row(sql, [table], |row| row.get(0))
    };
    Ok(Numbers { event: last("events")?, playback: last("playbacks")? })
}

#[cfg(test)]
mod tests;
