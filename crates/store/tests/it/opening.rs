//! Files that are damaged, newer, foreign or locked. None is ever overwritten.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use acemux_store::events::{EventKind, EventQuery};
use acemux_store::{OpenError, Store};
use rusqlite::Connection;

use crate::{database, event, integrity, open};

/// A database with some pages, properly closed.
async fn filled(folder: &Path) {
    let store = open(folder).store;
    (0..500).for_each(|_| store.record(event(EventKind::Engine, "created")));
    store.close().await.expect("all of it is written");
}

fn refusal(folder: &Path) -> OpenError {
    Store::open(&database(folder)).map(drop).expect_err("it is refused")
}

/// Databases that were moved aside, without their companions.
fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("acemux.db.corrupt-") && name.matches('-').count() == 1
    };
    paths.filter(is_aside).collect()
}

/// Damages the file with `damage`, opens it, and finds an empty database and the damaged bytes.
async fn moved_aside(damage: impl FnOnce(&mut Vec<u8>)) {
    let folder = tempfile::tempdir().expect("there is room for a test");
    let path = database(folder.path());
    filled(folder.path()).await;
    let mut bytes = fs::read(&path).expect("it was written");
    damage(&mut bytes);
    fs::write(&path, &bytes).expect("it can be written");
    let opened = open(folder.path());
    let aside = set_aside(folder.path());
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read(&aside[0]).ok(), Some(bytes));
    assert_eq!(opened.notes.len(), 1);
    assert!(opened.notes[0].contains(&*aside[0].to_string_lossy()), "{:?}", opened.notes);
    starts_empty(opened.store).await;
    assert_eq!(integrity(folder.path()), "ok");
    assert!(open(folder.path()).notes.is_empty());
}

async fn starts_empty(store: Store) {
    store.record(event(EventKind::System, "afresh"));
    let events = store.events(EventQuery::default()).await.expect("the new one works");
    assert_eq!(events.len(), 1);
    store.close().await.expect("the new one works");
}

#[tokio::test]
async fn flipped_bits_are_found() {
    moved_aside(|bytes| {
        let pages = bytes.len() / 4096;
        for page in 1..pages {
            bytes[page * 4096..page * 4096 + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
        }
    })
    .await;
}

#[tokio::test]
async fn one_damaged_page_is_found() {
    moved_aside(|bytes| bytes[4096..4104].fill(0xff)).await;
}

#[tokio::test]
async fn a_file_cut_short_is_found() {
    moved_aside(|bytes| bytes.truncate(bytes.len() / 2)).await;
}

#[tokio::test]
async fn a_file_cut_in_its_header_is_found() {
    moved_aside(|bytes| bytes.truncate(70)).await;
}

#[tokio::test]
async fn something_else_entirely_is_found() {
    moved_aside(|bytes| *bytes = b"this has never been a database. ".repeat(200)).await;
}

#[tokio::test]
async fn a_damaged_database_takes_its_log_with_it() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let log = folder.path().join("acemux.db-wal");
    fs::write(&log, "a log of the damaged database").unwrap();
    fs::write(database(folder.path()), "damaged".repeat(1_000)).unwrap();
    let opened = open(folder.path());
    assert_eq!(opened.store.events(EventQuery::default()).await.unwrap(), []);
    let aside = set_aside(folder.path()).pop().unwrap();
    let its_log = format!("{}-wal", aside.display());
    assert_eq!(fs::read(its_log).unwrap(), b"a log of the damaged database");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let newer = Connection::open(database(folder.path())).unwrap();
    newer.execute_batch("CREATE TABLE of_the_future (x); PRAGMA user_version = 99;").unwrap();
    newer.close().unwrap();
    let before = fs::read(database(folder.path())).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Newer { found: 99, known: 4, .. }), "{error:?}");
    assert_eq!(fs::read(database(folder.path())).unwrap(), before);
    assert!(set_aside(folder.path()).is_empty());
}

#[tokio::test]
async fn a_newer_schema_in_the_log_of_a_killed_process_is_left_there() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let writer = Connection::open(database(folder.path())).unwrap();
    writer.execute_batch("PRAGMA user_version = 99").unwrap();
    // A copy of the files under an open connection is what a kill leaves behind.
    let killed = tempfile::tempdir().unwrap();
    for name in ["acemux.db", "acemux.db-wal"] {
        fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
    }
    drop(writer);
    let before = fs::read(database(killed.path())).unwrap();
    assert!(matches!(refusal(killed.path()), OpenError::Newer { found: 99, .. }));
    assert_eq!(fs::read(database(killed.path())).unwrap(), before);
    assert!(matches!(refusal(killed.path()), OpenError::Newer { found: 99, .. }));
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = Connection::open(database(folder.path())).unwrap();
    foreign.execute_batch("CREATE TABLE recipes (title TEXT); INSERT INTO recipes VALUES ('soup');").unwrap();
    foreign.close().unwrap();
    let before = fs::read(database(folder.path())).unwrap();
    let mode = || fs::metadata(database(folder.path())).unwrap().permissions();
    fs::set_permissions(database(folder.path()), fs::Permissions::from_mode(0o644)).unwrap();
    let mode_before = mode();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    assert_eq!(fs::read(database(folder.path())).unwrap(), before);
    assert_eq!(mode(), mode_before);
}

#[tokio::test]
async fn a_database_another_program_has_locked_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).await;
    let other = Connection::open(database(folder.path())).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Busy { .. }), "{error:?}");
    assert!(error.to_string().starts_with("another program has locked the database"));
    drop(other);
    let store = open(folder.path()).store;
    assert_eq!(store.event_stats().await.unwrap().total, 500);
}

#[test]
fn a_database_that_is_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(database(folder.path())).unwrap();
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::Unwritable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(database(folder.path()), "").unwrap();
    let opened = open(folder.path());
    assert!(opened.notes.iter().all(|note| note.contains("open to others")), "{:?}", opened.notes);
    opened.store.close().await.unwrap();
    assert_eq!(integrity(folder.path()), "ok");
}
