//! Random keys that the program makes for itself: files beside the database that only their owner can read.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::{directory, open, private, random};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// What signs the addresses of playlists.
const HLS: &str = "hls-key";

/// A key, and what was unusual about it: one line for the log.
pub struct Found {
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// A damaged file was replaced.
    pub note: Option<String>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {source}", path.display())]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What signs the addresses of playlists, for the database at `database`. For whoever holds the data directory: it is made
/// where it is missing.
pub fn for_playlists(database: &Path) -> Result<Found, Unusable> {
    let folder = open::folder_of(database);
    find_or_make(folder, HLS).map_err(|source| Unusable { path: folder.join(HLS), source })
}

/// One that nobody keeps.
pub fn of_this_process() -> [u8; KEY_BYTES] {
    random::bytes().expect("the system has random bytes")
}

/// The key in this file, which is made where it is missing. One that is damaged is replaced.
pub(crate) fn find_or_make(folder: &Path, file: &str) -> io::Result<Found> {
    let path = folder.join(file);
    let note = match read(&path) {
        Ok(Some(key)) => return Ok(Found { key, note: None }),
        Ok(None) => Some(format!("{} did not hold a key and was replaced", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let key = random::bytes()?;
    directory::write_whole(folder, &path, &key)?;
    Ok(Found { key, note })
}

/// `None` when it is not a key.
fn read(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut bytes = Vec::new();
    // One byte more than a key has, to see that there is no more.
    private::read(path)?.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes.try_into().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_outlives_a_restart_is_its_owners_alone_and_never_read_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("acemux.db");
        let found = for_playlists(&database).unwrap();
        assert_eq!(found.note, None);
        assert_eq!(for_playlists(&database).unwrap().key, found.key);
        let path = folder.path().join(HLS);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        let other = for_playlists(&database).unwrap();
        assert!(other.note.is_some() && other.key != found.key);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(for_playlists(&database).is_err());
        assert_ne!(of_this_process(), of_this_process());
    }
}
