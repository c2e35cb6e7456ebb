//! One instance per folder, one name per instance.

use std::fs;

use acemux_store::{DataDir, OpenError, Store};

use crate::{database, open};

#[tokio::test]
async fn the_instance_id_outlives_restarts_and_lost_databases() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert_eq!(first.instance_id.len(), 32);
    first.store.close().await.unwrap();
    fs::remove_file(database(folder.path())).unwrap();
    assert_eq!(open(folder.path()).instance_id, first.instance_id);
}

#[test]
fn a_second_instance_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let first = DataDir::open(folder.path()).unwrap();
    let second = Store::open(&database(folder.path())).map(drop);
    assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
    assert!(!database(folder.path()).exists());
    drop(first);
    open(folder.path());
}

#[tokio::test]
async fn a_closed_store_gives_the_folder_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(matches!(DataDir::open(folder.path()), Err(OpenError::Locked { .. })));
    first.store.close().await.unwrap();
    DataDir::open(folder.path()).unwrap();
}

#[test]
fn missing_folders_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    assert_eq!(DataDir::open(&deep).unwrap().folder(), deep);
}

#[test]
fn an_instance_id_that_is_none_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instance-id");
    fs::write(&file, "not an id").unwrap();
    assert!(matches!(DataDir::open(folder.path()), Err(OpenError::InstanceId { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"not an id");
}

#[test]
fn a_folder_that_cannot_be_is_unwritable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DataDir::open(&file.join("data")).unwrap_err();
    assert!(matches!(error, OpenError::Unwritable { .. }));
    assert!(std::error::Error::source(&error).is_some());
}

/// Opens as soon as the thread of a dropped store has let go of the folder, which nobody can await.
pub(crate) async fn reopen(folder: &std::path::Path) -> acemux_store::Opened {
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
    for _ in 0..1_000 {
        match Store::open(&database(folder)) {
            Err(OpenError::Locked { .. }) => ticks.tick().await,
            opened => return opened.expect("nothing but the lock is in the way"),
        };
    }
    panic!("the folder is unlocked in time");
}
