//! The key that is made when nobody has chosen one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use acemux_store::key::{KeyFileError, beside, read, read_or_make};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_key_is_made_once_and_only_its_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = beside(&folder.path().join("acemux.db"));
    assert_eq!(path, folder.path().join("api-key"));
    assert_eq!(read(&path).unwrap(), None);
    // What a crash, or somebody else, has left.
    let elsewhere = folder.path().join("elsewhere");
    symlink(&elsewhere, path.with_extension("new")).unwrap();
    let key = read_or_make(&path).unwrap();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "256 bits: {key}");
    assert!(!elsewhere.exists(), "no link is followed");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "and nothing else is left");
    assert_eq!((read_or_make(&path).unwrap(), read(&path).unwrap()), (key.clone(), Some(key.clone())));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(read_or_make(&other.path().join("api-key")).unwrap(), key);
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them_and_a_key_of_ones_own_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api-key");
    fs::write(&path, "a key that somebody wrote here\r\n").unwrap();
    for open in [0o644, 0o640, 0o666, 0o700] {
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("a key that somebody wrote here"));
        assert_eq!(mode(&path), open, "who only asks changes nothing");
        assert_eq!(read_or_make(&path).unwrap(), "a key that somebody wrote here");
        assert_eq!(mode(&path), 0o600);
    }
}

#[test]
fn links_folders_and_what_is_no_key_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("api-key"), folder.path().join("target"));
    fs::write(&target, "what a link leads to is none of ours").unwrap();
    for target in [target.clone(), folder.path().join("nowhere")] {
        symlink(&target, &path).unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::NoFile { .. })));
        assert!(matches!(read_or_make(&path), Err(KeyFileError::NoFile { .. })));
        assert_eq!(fs::read_link(&path).unwrap(), target);
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(&path).unwrap();
    assert!(matches!(read_or_make(&path), Err(KeyFileError::NoFile { .. })));
    fs::remove_dir(&path).unwrap();
    for nonsense in ["", "\n", " blank at its end \n", "two\nlines", "\u{fc}ber"] {
        fs::write(&path, nonsense).unwrap();
        assert!(matches!(read_or_make(&path), Err(KeyFileError::NoKey { .. })), "{nonsense:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), nonsense, "a person decides");
    }
}
