//! The API key that is made when nobody has chosen one: a file beside the database that only its owner can read.
//!
//! Links are refused, also one that is put in the file's place while it is opened: whoever can write into the folder would
//! have us read, or publish as a key, what is somewhere else.

use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::private::FILE_MODE;
use crate::{directory, open, private, random};

/// Its name in the data directory.
const FILE: &str = "api-key";

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 32;

/// Most that is read of a file. Keys are much shorter.
const MOST: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is a link, a folder or a device of this name.
    #[error("{} is not a file but something else, perhaps a link, and is not read", path.display())]
    NoFile {
        /// Where.
        path: PathBuf,
    },
    /// What the file holds cannot be sent as a header's value.
    #[error("{} does not hold one line of printable ASCII", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read, made, or kept from others.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where the key of the database at `database` is, or would be.
pub fn beside(database: &Path) -> PathBuf {
    open::folder_of(database).join(FILE)
}

/// The key in this file, if there is one. Changes nothing, so it may be asked beside a running service.
pub fn read(path: &Path) -> Result<Option<String>, KeyFileError> {
    opened(path)?.map(|file| key_in(&file, path)).transpose()
}

/// The key in this file, which is made where it is missing and closed to others where it was open. For whoever holds the
/// data directory: two that make one at the same time would not agree.
pub fn read_or_make(path: &Path) -> Result<String, KeyFileError> {
    let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
    let Some(file) = opened(path)? else { return make(path).map_err(unusable) };
    let mode = file.metadata().map_err(unusable)?.mode();
    if mode & !FILE_MODE & 0o777 != 0 {
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(unusable)?;
    }
    key_in(&file, path)
}

fn opened(path: &Path) -> Result<Option<File>, KeyFileError> {
    let no_file = || KeyFileError::NoFile { path: path.to_owned() };
    let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
    let file = match private::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if private::is_link(&error) => return Err(no_file()),
        Err(error) => return Err(unusable(error)),
    };
    if file.metadata().map_err(unusable)?.is_file() { Ok(Some(file)) } else { Err(no_file()) }
}

fn key_in(file: &File, path: &Path) -> Result<String, KeyFileError> {
    let mut text = String::new();
    let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
    file.take(MOST).read_to_string(&mut text).map_err(unusable)?;
    let key = text.trim_end_matches(['\r', '\n']);
    let is_key = !key.is_empty() && key.trim() == key && key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_key { Ok(key.to_owned()) } else { Err(KeyFileError::NoKey { path: path.to_owned() }) }
}

fn make(path: &Path) -> io::Result<String> {
    let key = random::hex(&random::bytes::<KEY_BYTES>()?);
    directory::write_whole(open::folder_of(path), path, format!("{key}\n").as_bytes())?;
    Ok(key)
}
