//! Files for their owner alone, whatever the umask, and never through a link.
//!
//! Whoever can write into the folder could otherwise have us read, publish or overwrite what is somewhere else. A data
//! directory that is a link itself is the operator's choice and is followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Of a file: its owner reads and writes it.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Of the folder: its owner uses it.
const FOLDER_MODE: u32 = 0o700;
/// The bits that a file of ours has not.
const FOREIGN_BITS: u32 = 0o7777 & !FILE_MODE;
/// The bits that say what others may do with a folder.
const OTHERS: u32 = 0o077;
/// On a folder that many put their files into, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Our files beside the database, and their drafts.
const OURS: [&str; 9] = [
    "lock",
    "instance-id",
    "instance-id.new",
    "api-key",
    "api-key.new",
    "seal-key",
    "seal-key.new",
    "hls-key",
    "hls-key.new",
];
/// What a file system puts into the root of a volume.
const SYSTEMS: &str = "lost+found";

/// Opens a file as `options` say. Does not wait for the other end of a pipe.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.mode(FILE_MODE).custom_flags(flags).open(path)
}

/// Opens a file to read it.
pub(crate) fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// A new and empty file of this name. What a crash has left there is removed.
pub(crate) fn draft(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = open(path, OpenOptions::new().write(true).create_new(true))?;
    // Once more, because the umask may have taken from it.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Makes the file where it is missing.
pub(crate) fn ensure(path: &Path) -> io::Result<()> {
    match open(path, OpenOptions::new().write(true).create_new(true)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Makes the folder where it is missing, and those above it.
pub(crate) fn ensure_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Whether opening failed because the name is a link.
pub(crate) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// Closes to others what earlier versions, another umask or a copy left open: the folder, where nothing else is in it, and
/// our files. Says what was done, and what was not and why; nothing of it is a reason not to go on.
pub(crate) fn close_to_others(folder: &Path, database: &OsStr) -> Vec<String> {
    let listed = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let names: Vec<OsString> = match listed {
        Ok(entries) => entries.iter().map(fs::DirEntry::file_name).collect(),
        Err(error) => return vec![format!("{} cannot be looked through: {error}", folder.display())],
    };
    let (ours, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| is_ours(name, database));
    let is_shared = others.iter().any(|name| name != SYSTEMS);
    close_folder(folder, is_shared).into_iter().chain(close_files(folder, &ours)).collect()
}

/// Ours, or of the database: its companions and the copies that were set aside.
fn is_ours(name: &OsStr, database: &OsStr) -> bool {
    OURS.iter().any(|ours| name == *ours) || name.as_encoded_bytes().starts_with(database.as_encoded_bytes())
}

fn close_folder(folder: &Path, is_shared: bool) -> Option<String> {
    let named = folder.display();
    let found = match fs::metadata(folder) {
        Ok(found) => found,
        Err(error) => return Some(format!("{named} cannot be looked at: {error}")),
    };
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return None;
    }
    if !is_own(&found) {
        return Some(format!(
            "the data directory {named} belongs to user {} and stays open to others (mode {mode:o}): our files in it are \
             closed, the directory is for its owner to close",
            found.uid()
        ));
    }
    if is_shared || mode & STICKY != 0 {
        return Some(format!(
            "the data directory {named} stays open to others (mode {mode:o}), because it is not for the database alone: give \
             DB_PATH a folder of its own"
        ));
    }
    Some(match fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE)) {
        Ok(()) => format!("the data directory {named} was open to others (mode {mode:o}) and is closed now"),
        Err(error) => format!("the data directory {named} stays open to others (mode {mode:o}): {error}"),
    })
}

fn close_files(folder: &Path, names: &[OsString]) -> Vec<String> {
    let mut closed = Vec::new();
    let mut notes = Vec::new();
    for name in names {
        match close_file(&folder.join(name)) {
            Ok(false) => {}
            Ok(true) => closed.push(name.to_string_lossy()),
            Err(error) => {
                notes.push(format!("{} stays open to others: {error}", folder.join(name).display()));
            }
        }
    }
    if !closed.is_empty() {
        notes.push(format!(
            "files in {} were open to others and are closed now: {}",
            folder.display(),
            closed.join(", ")
        ));
    }
    notes
}

/// Whether it was open. Links are left alone: they are refused where they would be used.
fn close_file(path: &Path) -> io::Result<bool> {
    let named = fs::symlink_metadata(path)?;
    if !named.is_file() || named.mode() & FOREIGN_BITS == 0 {
        return Ok(false);
    }
    let file = read(path)?;
    if !is_own(&file.metadata()?) {
        return Err(io::Error::other("it belongs to another user"));
    }
    file.set_permissions(Permissions::from_mode(named.mode() & FILE_MODE))?;
    Ok(true)
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}
