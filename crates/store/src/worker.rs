//! The one thread that owns the database.
//!
//! It takes all that waits, writes it in one transaction (one sync of the disk, however much came together), then
//! answers the questions: so an answer shows everything that was reported before it. What cannot be written because of
//! the disk stays here, bounded, and is tried again at intervals.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::directory::DataDir;
use crate::events::{self, USUALLY_KEPT};
use crate::queue::{Backlog, Queue};
use crate::store::StoreError;

/// How often a database that could not be written is tried again: soon enough that an operator who made space sees it
/// recover, rare enough that a broken disk is not hammered.
const RETRY: Duration = Duration::from_secs(5);

/// At least so often what is too old is deleted, also when nothing happens.
pub(crate) const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Takes a page or two and gives them back: whether writing works again while nothing waits to be written.
const PROBE: &str = "CREATE TABLE probe (filler BLOB);
    INSERT INTO probe VALUES (zeroblob(8192));
    DROP TABLE probe;";

/// How the thread ended; `None` while it runs.
pub(crate) type Outcome = Option<Result<(), StoreError>>;

/// The database and what it still owes.
pub(crate) struct Worker {
    pub(crate) connection: Connection,
    pub(crate) unsaved: Backlog,
    /// [`RETRY`]; tests are less patient.
    pub(crate) retry: Duration,
    /// How long events are kept.
    retention: Duration,
    /// When events that are too old were last looked for.
    pub(crate) pruned: Instant,
    queue: Arc<Queue>,
    trouble: Option<Trouble>,
    /// Held, not used: the folder is ours as long as the database is open.
    _directory: Option<DataDir>,
}

struct Trouble {
    since: Timestamp,
    tried: Instant,
    error: StoreError,
}

/// Tells everybody that the thread is gone, also when it panicked.
struct Farewell {
    queue: Arc<Queue>,
    outcome: Result<(), StoreError>,
    ended: watch::Sender<Outcome>,
}

/// Starts the thread.
pub(crate) fn start(
    connection: Connection,
    directory: Option<DataDir>,
    queue: &Arc<Queue>,
) -> std::io::Result<watch::Receiver<Outcome>> {
    let (ended, outcome) = watch::channel(None);
    let worker = Worker {
        connection,
        unsaved: Backlog::new(),
        retry: RETRY,
        retention: USUALLY_KEPT,
        pruned: Instant::now(),
        queue: Arc::clone(queue),
        trouble: None,
        _directory: directory,
    };
    let unexpected = Err(StoreError::Unavailable { reason: "its thread ended unexpectedly".to_owned() });
    let farewell = Farewell { queue: Arc::clone(queue), outcome: unexpected, ended };
    std::thread::Builder::new().name("store".to_owned()).spawn(move || farewell.after(worker))?;
    Ok(outcome)
}

impl Worker {
    fn run(mut self) -> Result<(), StoreError> {
        loop {
            let batch = self.queue.take(self.patience());
            let lost = self.unsaved.absorb(batch.backlog);
            if self.is_due() || batch.is_last {
                self.save().ok();
            }
            self.report(lost);
            if self.pruned.elapsed() >= PRUNE_EVERY {
                // What cannot be deleted now is deleted in an hour.
                self.prune().ok();
            }
            for question in batch.questions {
                question(&mut self);
            }
            if batch.is_last {
                return self.finish();
            }
        }
    }

    /// Writes all that waits. On a failure all of it still waits.
    pub(crate) fn save(&mut self) -> Result<(), StoreError> {
        if self.unsaved.is_empty() && self.trouble.is_none() {
            return Ok(());
        }
        let result = self.try_save();
        match &result {
            Ok(refused) => self.saved(*refused),
            Err(error) => self.failed(error, Instant::now()),
        }
        result.map(drop).map_err(|error| StoreError::writing(&error))
    }

    /// From now on, and of what is there.
    pub(crate) fn keep_events(&mut self, retention: Duration) -> Result<(), StoreError> {
        self.retention = retention;
        self.save()?;
        self.prune()
    }

    fn prune(&mut self) -> Result<(), StoreError> {
        self.pruned = Instant::now();
        let retention = self.retention;
        self.change(|transaction| events::prune(transaction, Timestamp::now(), retention))
    }

    /// A change that somebody awaits, in a transaction of its own. Once it works again, so does the rest.
    pub(crate) fn change<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let result = transact(&mut self.connection, change);
        match (&result, &self.trouble) {
            (Ok(_), Some(_)) => drop(self.save()),
            (Err(error), trouble) if !is_its_own_fault(error) => {
                // Not an attempt at what waits: that keeps its own time.
                let tried = trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.tried);
                self.failed(error, tried);
            }
            _ => {}
        }
        result.map_err(|error| StoreError::writing(&error))
    }

    /// Something that is only read.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read(&self.connection).map_err(|error| StoreError::reading(&error))
    }

    fn try_save(&mut self) -> rusqlite::Result<u64> {
        if self.trouble.is_some() {
            // The log may be what fills the disk. That it cannot be emptied is no reason not to try the rest.
            checkpoint(&self.connection).ok();
            transact(&mut self.connection, |transaction| transaction.execute_batch(PROBE))?;
        }
        let Self { connection, unsaved, retention, .. } = self;
        transact(connection, |transaction| write(transaction, unsaved, *retention))
    }

    fn saved(&mut self, refused: u64) {
        self.unsaved = Backlog::new();
        if let Some(trouble) = self.trouble.take() {
            tracing::info!(since = %trouble.since, "the database can be written again");
        }
        self.report(refused);
    }

    /// Said once, however often it is tried.
    fn failed(&mut self, error: &rusqlite::Error, tried: Instant) {
        if self.trouble.is_none() {
            tracing::warn!(%error, "the database cannot be written; what happens is kept in memory");
        }
        let since = self.trouble.as_ref().map_or_else(Timestamp::now, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, tried, error: StoreError::writing(error) });
        self.report(0);
    }

    fn report(&self, lost: u64) {
        let trouble = self.trouble.as_ref().map(|trouble| (trouble.since, trouble.error.clone()));
        self.queue.report(trouble, self.unsaved.len(), lost);
    }

    fn is_due(&self) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| trouble.tried.elapsed() >= self.retry)
    }

    fn patience(&self) -> Duration {
        let until_prune = PRUNE_EVERY.saturating_sub(self.pruned.elapsed());
        let until_retry = |trouble: &Trouble| self.retry.saturating_sub(trouble.tried.elapsed());
        self.trouble.as_ref().map_or(until_prune, |trouble| until_retry(trouble).min(until_prune))
    }

    fn finish(self) -> Result<(), StoreError> {
        checkpoint(&self.connection).ok();
        match self.trouble {
            Some(trouble) if !self.unsaved.is_empty() => Err(trouble.error),
            _ => Ok(()),
        }
    }
}

impl Farewell {
    /// When this is dropped the file is closed and the folder unlocked: whoever awaits the end may open them again.
    fn after(mut self, worker: Worker) {
        self.outcome = worker.run();
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.queue.end();
        let unread = Err(StoreError::Unavailable { reason: String::new() });
        self.ended.send_replace(Some(std::mem::replace(&mut self.outcome, unread)));
    }
}

fn transact<T>(
    connection: &mut Connection,
    change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = change(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// The journal first: it is what a restart needs.
fn write(transaction: &Transaction<'_>, backlog: &Backlog, retention: Duration) -> rusqlite::Result<u64> {
    let mut refused = 0;
    for entry in backlog.playbacks.iter() {
        refused += tolerate(entry.write(transaction))?;
    }
    for note in backlog.history.iter() {
        refused += tolerate(note(transaction))?;
    }
    for event in backlog.events.iter() {
        refused += tolerate(event.write(transaction, retention))?;
    }
    Ok(refused)
}

/// A row that no disk would ever take is left out, so that it cannot hold up all others for ever.
fn tolerate(result: rusqlite::Result<()>) -> rusqlite::Result<u64> {
    match result {
        Ok(()) => Ok(0),
        Err(error) if is_its_own_fault(&error) => {
            tracing::error!(%error, "the database refuses an entry; it is left out");
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

fn is_its_own_fault(error: &rusqlite::Error) -> bool {
    let own = [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch, ErrorCode::TooBig];
    match error.sqlite_error_code() {
        Some(code) => own.contains(&code),
        None => matches!(error, rusqlite::Error::ToSqlConversionFailure(_)),
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
