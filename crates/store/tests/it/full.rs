//! Disks that really are full.

use std::path::{Path, PathBuf};
use std::process::Command;

use acemux_store::events::{EventKind, EventQuery, NewEvent};
use acemux_store::{OpenError, Store, StoreError, StoreState};
use jiff::Timestamp;
use serde_json::json;

use crate::{database, integrity, open};

/// Tells the child where to write.
const FOLDER: &str = "STORE_FULL_FOLDER";

/// Records and flushes until nothing more can be written, not even after the log was emptied; how many were saved.
async fn fill(store: &Store) -> usize {
    let mut saved = 0;
    for number in 0..10_000 {
        let message = format!("{number} {}", "x".repeat(3_000));
        store.record(NewEvent::new(Timestamp::now(), EventKind::System, "scaling", message));
        match store.flush().await {
            Ok(()) => saved = number + 1,
            Err(StoreError::Full { .. }) if number > saved + 3 => return saved,
            Err(StoreError::Full { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never fills");
}

/// Everything that was recorded is shown; nothing can be saved; the store knows it.
async fn reads_go_on(store: &Store, saved: usize) {
    let newest = store.events(EventQuery { limit: 1_000, ..EventQuery::default() }).await;
    let shown = newest.expect("reading needs no space").first().map(|event| event.id);
    assert!(shown > i64::try_from(saved).ok(), "{shown:?} of {saved}");
    assert!(matches!(store.health().state, StoreState::Failing { .. }));
    let refused = store.save_setting("policy", json!("x".repeat(2_000_000))).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
}

#[tokio::test]
#[ignore = "it is the process whose files may not grow"]
async fn child() {
    let folder = PathBuf::from(std::env::var(FOLDER).expect("the other test says where"));
    let store = open(&folder).store;
    let saved = fill(&store).await;
    reads_go_on(&store, saved).await;
    eprintln!("saved {saved}");
}

/// A process whose files may have 300 KiB meets the same errors as a broken disk.
#[tokio::test]
async fn a_disk_that_takes_no_more_loses_nothing_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -S -f 600; exec \"$0\" --exact full::child --ignored --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stdout));
    let saved: u64 = said.trim().rsplit_once("saved ").unwrap().1.parse().unwrap();
    assert_eq!(integrity(folder.path()), "ok");
    let opened = open(folder.path());
    assert_eq!(opened.notes, Vec::<String>::new());
    let stats = opened.store.event_stats().await.unwrap();
    assert!(stats.total >= saved && saved > 10, "{} of {saved}", stats.total);
}

/// A file system in memory, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(at: &'a Path, size: &str) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status()
            .expect("there is a mount command");
        assert!(status.success(), "mounting needs root");
        Self(at)
    }
}

impl Tmpfs<'_> {
    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "mounting needs root");
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().ok();
    }
}

/// D18.
#[tokio::test]
#[ignore = "mounts a file system, which needs root"]
async fn a_full_file_system_is_used_again_once_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let _tmpfs = Tmpfs::mount(folder.path(), "1m");
    std::fs::write(folder.path().join("ballast"), vec![0; 300_000]).unwrap();
    let store = open(folder.path()).store;
    let saved = fill(&store).await;
    reads_go_on(&store, saved).await;
    let recorded = store.event_stats().await.unwrap().total;
    std::fs::remove_file(folder.path().join("ballast")).unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.health().state, StoreState::Ok);
    store.close().await.unwrap();
    assert_eq!(integrity(folder.path()), "ok");
    let connection = rusqlite::Connection::open(database(folder.path())).unwrap();
    let kept: u64 = connection
        .query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))
        .map(|count| count.try_into().unwrap())
        .unwrap();
    assert_eq!(kept, recorded);
}

#[tokio::test]
#[ignore = "mounts a file system, which needs root"]
async fn a_read_only_file_system_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::mount(folder.path(), "4m");
    open(folder.path()).store.close().await.unwrap();
    tmpfs.make_read_only();
    let refused = Store::open(&database(folder.path())).map(drop);
    assert!(matches!(refused, Err(OpenError::Unwritable { .. })), "{refused:?}");
}
