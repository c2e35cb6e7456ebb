//! From a path to a database that can be trusted, or a reason why not.
//!
//! Nothing is ever overwritten: a damaged file is moved aside with its companions, a newer one and one that is not ours
//! are left as they are. Until a file is accepted, closing it again writes nothing into it.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior};

use crate::schema::{APPLICATION, FIRST_WITHOUT_TOKENS, MIGRATIONS, VERSION};
use crate::{directory, private};

/// How long another process may hold the database before we give up: a backup's or an operator's short transaction
/// passes, a second program does not.
const LOCKED_FOR: Duration = Duration::from_secs(2);

/// How long a statement of the running service waits for such a process.
const BUSY_FOR: Duration = Duration::from_secs(1);

/// How often damage may follow damage within seconds before somebody has to look.
const MOST_ASIDE: i64 = 100;

/// What belongs to a database, by the end of its name. The main file comes last: until it is moved, a crash leaves a
/// damaged database that is found again.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", ""];

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another instance runs on this data directory.
    #[error("another instance uses the data directory {}", folder.display())]
    Locked {
        /// The directory.
        folder: PathBuf,
    },
    /// Another program has the database open and does not let go of it.
    #[error("another program has locked the database {}", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// A later version of this program wrote it. It was not touched.
    #[error("the database {} has schema version {found}, this program knows up to {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last version this program knows.
        known: usize,
    },
    /// It is a database of something else. It was not touched.
    #[error("{} is a database, but not one of this program", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The file with our name is not what we wrote. Replacing it would disown all our containers, so a person decides.
    #[error("{} does not hold an instance id of 32 hex digits", path.display())]
    InstanceId {
        /// The file.
        path: PathBuf,
    },
    /// A file of the data directory is a link. Whoever put it there chose what we would read and overwrite.
    #[error("{} is a link, and files of the data directory are not used through links", path.display())]
    Link {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file cannot be written: permissions, a read-only file system, a full disk.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database cannot be used for another reason.
    #[error("the database {} cannot be used", path.display())]
    Unusable {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    pub(crate) fn unwritable(path: &Path, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unwritable { path: path.to_owned(), source: Box::new(source) }
    }

    /// A file of the data directory that could not be opened.
    pub(crate) fn of_file(path: &Path, error: io::Error) -> Self {
        if private::is_link(&error) {
            Self::Link { path: path.to_owned() }
        } else {
            Self::unwritable(path, error)
        }
    }

    fn unusable(path: &Path, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unusable { path: path.to_owned(), source: Box::new(source) }
    }
}

/// What stands in the way: for good, or only in this file.
enum Obstacle {
    Refused(OpenError),
    Damaged(String),
}

/// Opens the database at `path`, in a directory that is ours; says what was unusual about it.
pub(crate) fn file(path: &Path) -> Result<(Connection, Vec<String>), OpenError> {
    match try_file(path) {
        Ok(opened) => Ok(opened),
        Err(Obstacle::Refused(error)) => Err(error),
        Err(Obstacle::Damaged(damage)) => start_afresh(path, &damage),
    }
}

/// The same file by the real name of its folder, which may be a link: only the file itself may not.
pub(crate) fn real(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = folder_of(path);
    let real = fs::canonicalize(folder).map_err(|error| OpenError::unwritable(folder, error))?;
    let no_name = || OpenError::unwritable(path, io::Error::from(io::ErrorKind::IsADirectory));
    Ok(real.join(path.file_name().ok_or_else(no_name)?))
}

/// A database that is gone with its connection.
pub(crate) fn memory() -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    MIGRATIONS.to_latest(&mut connection).map_err(sqlite_error)?;
    Ok(connection)
}

fn try_file(path: &Path) -> Result<(Connection, Vec<String>), Obstacle> {
    let judge = |error| obstacle(path, error);
    prepare_file(path).map_err(Obstacle::Refused)?;
    let mut connection = connect(path).map_err(judge)?;
    identify(&connection, path)?;
    check(&connection, path)?;
    let notes = prepare(&mut connection).map_err(judge)?;
    Ok((connection, notes))
}

fn start_afresh(path: &Path, damage: &str) -> Result<(Connection, Vec<String>), OpenError> {
    let aside = move_aside(path).map_err(|error| OpenError::unwritable(path, error))?;
    let note =
        format!("the database was damaged ({damage}): moved aside to {}, started empty", aside.display());
    match try_file(path) {
        Ok((connection, notes)) => Ok((connection, std::iter::once(note).chain(notes).collect())),
        Err(Obstacle::Refused(error)) => Err(error),
        Err(Obstacle::Damaged(damage)) => Err(OpenError::unusable(path, io::Error::other(damage))),
    }
}

/// Makes the file where it is missing, for its owner alone: the database gives its companions the same mode. None of them may be
/// a link.
fn prepare_file(path: &Path) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let name = with_suffix(path, suffix);
        if name.is_symlink() {
            return Err(OpenError::Link { path: name });
        }
    }
    private::ensure(path).map_err(|error| OpenError::of_file(path, error))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCKED_FOR)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Whether the file is ours to use: empty, or of a version we know.
fn identify(connection: &Connection, path: &Path) -> Result<(), Obstacle> {
    let number = |sql| connection.query_row(sql, [], |row| row.get(0)).map_err(|error| obstacle(path, error));
    let version: i64 = number("PRAGMA user_version")?;
    let application: i64 = number("PRAGMA application_id")?;
    let tables: i64 = number("SELECT count(*) FROM sqlite_schema")?;
    let is_empty = version == 0 && application == 0 && tables == 0;
    let refused = |error| Err(Obstacle::Refused(error));
    let path = path.to_owned();
    if !is_empty && application != i64::from(APPLICATION) {
        return refused(OpenError::Foreign { path });
    }
    if usize::try_from(version).is_ok_and(|version| version > VERSION) {
        return refused(OpenError::Newer { path, found: version, known: VERSION });
    }
    let is_writable = connection.is_readonly(MAIN_DB).is_ok_and(|is_readonly| !is_readonly);
    if !is_writable {
        return refused(OpenError::unwritable(&path, io::Error::from(io::ErrorKind::PermissionDenied)));
    }
    Ok(())
}

/// Reads every page. The tables are bounded, so this takes milliseconds.
fn check(connection: &Connection, path: &Path) -> Result<(), Obstacle> {
    let verdict: rusqlite::Result<String> =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(damage) => Err(Obstacle::Damaged(damage)),
        Err(error) => Err(obstacle(path, error)),
    }
}

/// Brings an accepted file into the form we use. The empty write transaction meets locks and full disks now, not at
/// the first event.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Vec<String>> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA secure_delete = ON;
         PRAGMA wal_autocheckpoint = 256;
         PRAGMA journal_size_limit = 1048576;",
    )?;
    connection.transaction_with_behavior(TransactionBehavior::Immediate)?.commit()?;
    let before: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    MIGRATIONS.to_latest(connection).map_err(sqlite_error)?;
    if (1..FIRST_WITHOUT_TOKENS).contains(&before) {
        // What was deleted is still in pages that are free, and in the log.
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.busy_timeout(BUSY_FOR)?;
    let is_unusual = mode != "wal";
    let note = || format!("the file system allows no write-ahead log; the database uses {mode} instead");
    Ok(is_unusual.then(note).into_iter().collect())
}

fn obstacle(path: &Path, error: rusqlite::Error) -> Obstacle {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Obstacle::Damaged(error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Obstacle::Refused(OpenError::Busy { path: path.to_owned() })
        }
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::DiskFull
            | ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure,
        ) => Obstacle::Refused(OpenError::unwritable(path, error)),
        _ => Obstacle::Refused(OpenError::unusable(path, error)),
    }
}

fn sqlite_error(error: rusqlite_migration::Error) -> rusqlite::Error {
    match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err,
        other => rusqlite::Error::ToSqlConversionFailure(Box::new(other)),
    }
}

fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = free_name(path, Timestamp::now().as_second())?;
    for suffix in COMPANIONS {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    directory::sync(folder_of(path))?;
    Ok(aside)
}

/// `<name>.corrupt-<seconds>`, with later seconds while the name is taken: an older copy is not overwritten.
fn free_name(path: &Path, now: i64) -> io::Result<PathBuf> {
    let name = |seconds| with_suffix(path, &format!(".corrupt-{seconds}"));
    let is_free = |name: &PathBuf| COMPANIONS.iter().all(|end| !with_suffix(name, end).exists());
    let mut names = (now..now.saturating_add(MOST_ASIDE)).map(name);
    names.find(is_free).ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The folder a file is in; a bare name is in the working directory.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_set_aside_is_not_overwritten_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(folder.path().join("a.db.corrupt-7-wal"), "kept").unwrap();
        assert_eq!(free_name(&path, 7).unwrap(), folder.path().join("a.db.corrupt-8"));
    }

    #[test]
    fn a_bare_file_name_is_in_the_working_directory() {
        assert_eq!(folder_of(Path::new("a.db")), Path::new("."));
        assert_eq!(folder_of(Path::new("data/a.db")), Path::new("data"));
    }
}
