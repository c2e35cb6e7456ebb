//! The data directory is for its owner alone, whatever it was before, and nothing in it is used through a link.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use acemux_store::playbacks::NewPlayback;
use acemux_store::{OpenError, Store};
use jiff::Timestamp;

use crate::{database, open};

const TOKEN: &str = "f528764d624db129b32c21fbca0cb8d6";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the test's own file").permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the test's own file");
}

/// Names and modes of all files in the folder.
fn files(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder)
        .expect("the test's own file")
        .map(|entry| entry.expect("the test's own file").path());
    let name =
        |path: &Path| path.file_name().and_then(OsStr::to_str).expect("the test's own file").to_owned();
    entries.map(|path| (name(&path), mode(&path))).collect()
}

fn playback() -> NewPlayback {
    NewPlayback {
        engine: "127.0.0.1:19000".into(),
        endpoint: "127.0.0.1:19000".into(),
        infohash: "0a48dd7ba04aef2f5ee46071b4a0e0c4bd8eb8a0".into(),
        command: Some(format!("/ace/cmd/0a48/{TOKEN}")),
        opened_at: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_new_data_directory_and_all_its_files_are_closed_while_the_database_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let opened = Store::open(&data.join("acemux.db")).unwrap();
    assert_eq!(opened.notes, Vec::<String>::new());
    opened.store.playback_opened(playback());
    opened.store.flush().await.unwrap();
    assert_eq!(mode(&data), 0o700);
    let files = files(&data);
    for name in ["acemux.db", "acemux.db-wal", "acemux.db-shm", "lock", "instance-id", "seal-key"] {
        assert!(files.contains(&(name.to_owned(), 0o600)), "{name}: {files:?}");
    }
}

#[tokio::test]
async fn what_others_could_read_is_closed_at_the_next_start_and_said() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).store.close().await.unwrap();
    let left = ["instance-id.new", "api-key.new", "acemux.db.corrupt-7", "acemux.db.corrupt-7-wal"];
    for name in left {
        fs::write(folder.path().join(name), "left by a crash").unwrap();
    }
    for (name, _) in files(folder.path()) {
        set_mode(&folder.path().join(name), 0o666);
    }
    set_mode(folder.path(), 0o755);
    let opened = open(folder.path());
    assert_eq!(mode(folder.path()), 0o700);
    assert!(files(folder.path()).iter().all(|(_, mode)| *mode == 0o600), "{:?}", files(folder.path()));
    assert_eq!(opened.notes.len(), 2, "{:?}", opened.notes);
    assert!(
        opened.notes[0].contains("mode 755") && opened.notes[0].contains("closed now"),
        "{:?}",
        opened.notes
    );
    for name in left.into_iter().chain(["acemux.db", "lock", "instance-id", "seal-key"]) {
        assert!(opened.notes[1].contains(name), "{name}: {:?}", opened.notes);
    }
    opened.store.close().await.unwrap();
    assert_eq!(open(folder.path()).notes, Vec::<String>::new(), "once");
}

#[tokio::test]
async fn a_folder_that_is_not_for_the_database_alone_stays_open_but_our_files_do_not() {
    for shared in [0o755, 0o1777] {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).store.close().await.unwrap();
        if shared == 0o755 {
            fs::write(folder.path().join("page.html"), "of somebody else").unwrap();
            set_mode(&folder.path().join("page.html"), 0o644);
        }
        set_mode(&database(folder.path()), 0o644);
        set_mode(folder.path(), shared);
        let opened = open(folder.path());
        assert_eq!((mode(folder.path()), mode(&database(folder.path()))), (shared, 0o600));
        assert!(opened.notes[0].contains("DB_PATH"), "{:?}", opened.notes);
        if shared == 0o755 {
            assert_eq!(mode(&folder.path().join("page.html")), 0o644, "it is not ours");
        }
    }
}

#[tokio::test]
async fn a_volume_of_another_owner_is_used_and_said_to_be_open() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).store.close().await.unwrap();
    set_mode(folder.path(), 0o777);
    // Only root can give a folder away; elsewhere there is nothing to see.
    if std::os::unix::fs::chown(folder.path(), Some(65_532), None).is_err() {
        return;
    }
    let opened = open(folder.path());
    assert_eq!(mode(folder.path()), 0o777);
    let note = opened.notes.join("; ");
    assert!(note.contains("belongs to user 65532") && note.contains("stays open"), "{note}");
    opened.store.playback_opened(playback());
    opened.store.flush().await.unwrap();
    assert_eq!(mode(&database(folder.path())), 0o600);
}

#[tokio::test]
async fn a_link_is_refused_for_every_file_that_is_opened_and_what_it_leads_to_is_untouched() {
    for name in [
        "acemux.db",
        "acemux.db-wal",
        "acemux.db-shm",
        "acemux.db-journal",
        "lock",
        "instance-id",
        "seal-key",
    ] {
        for exists in [true, false] {
            let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            open(folder.path()).store.close().await.unwrap();
            let (link, target) = (folder.path().join(name), elsewhere.path().join("target"));
            if exists {
                fs::write(&target, "precious").unwrap();
                set_mode(&target, 0o644);
            }
            fs::remove_file(&link).ok();
            symlink(&target, &link).unwrap();
            let refused = Store::open(&database(folder.path())).map(drop);
            assert!(matches!(&refused, Err(OpenError::Link { .. })), "{name}: {refused:?}");
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), exists.then_some("precious"), "{name}");
            assert!(!exists || mode(&target) == 0o644, "{name}");
        }
    }
}

#[tokio::test]
async fn a_draft_that_is_a_link_is_replaced_and_not_followed() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").unwrap();
    for name in ["instance-id.new", "seal-key.new"] {
        symlink(&target, folder.path().join(name)).unwrap();
    }
    open(folder.path());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[tokio::test]
async fn a_data_directory_that_is_a_link_itself_is_the_operators_choice() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, folder.path().join("data")).unwrap();
    let opened = Store::open(&folder.path().join("data/acemux.db")).unwrap();
    opened.store.close().await.unwrap();
    assert_eq!((mode(&real), mode(&real.join("acemux.db"))), (0o700, 0o600));
}

/// Every byte of every file in the folder but the key that seals.
fn contents(folder: &Path) -> Vec<u8> {
    let names = files(folder).into_iter().map(|(name, _)| name).filter(|name| name != "seal-key");
    names.flat_map(|name| fs::read(folder.join(name)).expect("it is there")).collect()
}

fn holds(folder: &Path, text: &str) -> bool {
    contents(folder).windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn an_engines_token_is_in_no_file_and_the_playback_can_be_stopped_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    store.playback_opened(playback());
    store.flush().await.unwrap();
    assert!(holds(folder.path(), "127.0.0.1:19000"), "the journal is there");
    assert!(!holds(folder.path(), TOKEN) && !holds(folder.path(), "/ace/cmd"));
    store.close().await.unwrap();
    assert!(!holds(folder.path(), TOKEN));
    let left = open(folder.path()).store.open_playbacks().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].playback, playback());
}

#[tokio::test]
async fn with_another_key_a_playback_is_known_but_not_how_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    store.playback_opened(playback());
    store.close().await.unwrap();
    fs::remove_file(folder.path().join("seal-key")).unwrap();
    let left = open(folder.path()).store.open_playbacks().await.unwrap();
    assert_eq!(left[0].playback, NewPlayback { command: None, ..playback() });
}

#[tokio::test]
async fn tokens_that_an_earlier_version_kept_are_wiped() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).store.close().await.unwrap();
    let connection = rusqlite::Connection::open(database(folder.path())).unwrap();
    let row = |number: i64| {
        format!("INSERT INTO playbacks VALUES ({number}, 'e', 'e', 'i', '/ace/cmd/0a48/{TOKEN}', 0);")
    };
    let rows: String = (1..500).map(row).collect();
    connection
        .execute_batch(&format!("{rows} DELETE FROM playbacks WHERE id > 3; PRAGMA user_version = 1;"))
        .unwrap();
    connection.close().unwrap();
    assert!(holds(folder.path(), TOKEN));
    let store = open(folder.path()).store;
    assert!(!holds(folder.path(), TOKEN));
    assert_eq!(store.open_playbacks().await.unwrap().len(), 3);
}
