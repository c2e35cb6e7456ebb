//! The data directory: one instance at a time, and the name by which that instance knows its containers.
//!
//! The lock is the kernel's (`flock`), so it ends with the process however that ends; the file itself may stay.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::open::OpenError;
use crate::{private, random};

/// Locked while a process uses the folder.
const LOCK: &str = "lock";

/// Holds the instance id.
const INSTANCE_ID: &str = "instance-id";

/// Bytes written to see whether they can be: a full disk may have room for a name.
const TRIAL_BYTES: usize = 8 * 1024;

/// Bytes of randomness in an instance id: enough that no two machines ever share one.
const ID_BYTES: usize = 16;

/// A folder that only this process uses. The lock is given back when this is dropped.
#[derive(Debug)]
pub struct DataDir {
    folder: PathBuf,
    instance_id: String,
    _lock: File,
}

impl DataDir {
    /// Creates the folder where it is missing, locks it, and reads or makes the instance id.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        private::ensure_folder(folder).map_err(|error| OpenError::unwritable(folder, error))?;
        let lock = lock(folder)?;
        let instance_id = instance_id(folder)?;
        Ok(Self { folder: folder.to_owned(), instance_id, _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// 32 hex digits, the same at every start.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }
}

/// The instance id that stands in a folder, whoever uses it at this moment; `None` when none has been made there. Nothing is
/// created or locked.
pub fn find_instance_id(folder: &Path) -> Result<Option<String>, OpenError> {
    let path = folder.join(INSTANCE_ID);
    match read_id(&path) {
        Ok(bytes) => parse_id(&bytes).map(Some).ok_or(OpenError::InstanceId { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::of_file(&path, error)),
    }
}

/// Whether files can be written in a folder, found out by writing one and removing it. A folder that is missing is not
/// made, because it would belong to whoever asks: then another one is made and removed where it would be.
pub fn can_be_used(folder: &Path) -> Result<(), OpenError> {
    let tried = match missing_in(folder) {
        Some(parent) => try_folder(&parent.join(trial())),
        None => try_file(&folder.join(trial())),
    };
    tried.map_err(|error| OpenError::unwritable(folder, error))
}

fn trial() -> String {
    format!(".acemux-trial-{}", std::process::id())
}

fn try_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::remove_dir(path)
}

fn try_file(path: &Path) -> io::Result<()> {
    let written = private::draft(path).and_then(|mut file| {
        file.write_all(&[0; TRIAL_BYTES])?;
        file.sync_all()
    });
    // It may not have come into being.
    let _removed = fs::remove_file(path);
    written
}

/// The folder that exists and in which a missing one would be made; `None` when it is not missing.
fn missing_in(folder: &Path) -> Option<&Path> {
    if folder.exists() {
        return None;
    }
    let mut above =
        folder.ancestors().skip(1).map(|one| if one.as_os_str().is_empty() { Path::new(".") } else { one });
    above.find(|one| one.exists())
}

/// Makes the names in a folder durable: a new file without this may be missing after a power loss.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let file = private::open(&path, File::options().create(true).truncate(false).write(true));
    let file = file.map_err(|error| OpenError::of_file(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::unwritable(&path, error)),
    }
}

/// One that cannot be understood is refused, not replaced: all our containers carry it.
fn instance_id(folder: &Path) -> Result<String, OpenError> {
    let path = folder.join(INSTANCE_ID);
    match read_id(&path) {
        Ok(bytes) => parse_id(&bytes).ok_or(OpenError::InstanceId { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            new_id(folder, &path).map_err(|error| OpenError::unwritable(&path, error))
        }
        Err(error) => Err(OpenError::of_file(&path, error)),
    }
}

/// The beginning is enough to see whether it is one.
fn read_id(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    private::read(path)?.take(4 * ID_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_id(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    (text.len() == 2 * ID_BYTES && text.chars().all(is_hex)).then(|| text.to_owned())
}

fn new_id(folder: &Path, path: &Path) -> io::Result<String> {
    let id = random_id()?;
    write_whole(folder, path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

/// Written beside and renamed, so that no reader and no crash ever meets half of it.
pub(crate) fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = private::draft(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync(folder)
}

fn random_id() -> io::Result<String> {
    Ok(random::hex(&random::bytes::<ID_BYTES>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_form_of_id_is_taken() {
        let id = random_id().unwrap();
        assert_eq!(parse_id(format!("{id}\n").as_bytes()), Some(id.clone()));
        for bad in
            ["", "x", &id[1..], &id.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"), "\u{e9}"]
        {
            assert_eq!(parse_id(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_id(&[0xff; 32]), None);
    }

    #[test]
    fn an_id_is_found_beside_whoever_uses_it_and_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(find_instance_id(folder.path()).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let held = DataDir::open(folder.path()).unwrap();
        assert_eq!(find_instance_id(folder.path()).unwrap().as_deref(), Some(held.instance_id()));
        fs::write(folder.path().join(INSTANCE_ID), "mine").unwrap();
        assert!(matches!(find_instance_id(folder.path()), Err(OpenError::InstanceId { .. })));
    }

    #[test]
    fn whether_a_folder_can_be_used_is_found_out_without_leaving_anything() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        let before = fs::read_dir(folder.path()).unwrap().count();
        can_be_used(held.folder()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
        let missing = folder.path().join("a/b");
        can_be_used(&missing).unwrap();
        assert!(!missing.exists());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(can_be_used(&file).is_err(), "a file is no folder");
        // Nobody can write there, root included.
        assert!(can_be_used(Path::new("/proc/acemux/data")).is_err());
        assert!(can_be_used(Path::new("/proc")).is_err());
    }

    #[test]
    fn ids_differ() {
        assert_ne!(random_id().unwrap(), random_id().unwrap());
    }
}
