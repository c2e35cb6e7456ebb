//! Where the constants of the reference's proxy went: it has them in a source file that its guide tells people to edit, and
//! nothing here reads that file.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::format::Secrecy;
use super::mask::masked;
use super::raw::{Written, read_small};
use super::setting::Item;
use super::settings;
use super::settings::ignored::IGNORED;
use super::value::without_comment;

/// Where the guide says that they are.
const FILE: &str = "app/services/proxy/config.py";

/// What the reference's file has beside its guide, and what does here what it promised.
const UNPRINTED: [(&str, &str); 5] = [
    ("SESSION_CLEANUP_INTERVAL", "A session ends when its time is over."),
    ("CLIENT_TIMEOUT", "VIEWER_STALL_TIMEOUT says how long a viewer may take nothing."),
    ("CLIENT_HEARTBEAT_INTERVAL", "Connections are watched without it."),
    ("MAX_ENGINE_RETRIES", "Engines are tried within EMPTY_STREAM_TIMEOUT."),
    ("RETRY_DELAY", "Engines are tried within EMPTY_STREAM_TIMEOUT."),
];

/// What became of each constant of such a file below `directory`, a sentence each; nothing when there is none.
pub(super) fn constants(directory: &Path, written: &Written) -> Vec<String> {
    let text = match read_small(&directory.join(FILE)) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Vec::new(),
        Err(error) => return vec![format!("{FILE} cannot be read ({error}); nothing here uses it")],
    };
    let sentences: Vec<String> =
        text.lines().filter_map(assignment).map(|(name, value)| sentence(name, value, written)).collect();
    let first = format!("{FILE} is not read; what became of its {} constant(s):", sentences.len());
    std::iter::once(first).chain(sentences).collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// `NAME = value` or `NAME: type = value`, in a class or outside of one.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once('=')?;
    let name = name.split_once(':').map_or(name, |(name, _type)| name).trim();
    let is_constant = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(is_constant);
    (is_name && !value.starts_with('=')).then(|| (name, without_comment(value)))
}

fn sentence(name: &str, value: &str, written: &Written) -> String {
    if let Some(item) = settings::find(name) {
        return setting(item, value, written);
    }
    let ignored = IGNORED.iter().map(|ignored| (ignored.name, ignored.why));
    match ignored.chain(UNPRINTED).find(|(known, _)| *known == name) {
        Some((_, why)) => format!("{name} has no meaning here: {why}"),
        None => format!("{name} is no setting and has no effect"),
    }
}

fn setting(item: &dyn Item, value: &str, written: &Written) -> String {
    let name = item.name();
    if let Some(entry) = written.entry(item) {
        return format!("{name} is a setting and set already ({})", entry.origin);
    }
    match item.kind().secrecy() {
        Secrecy::Open if item.admits(value) => {
            format!("{name} is a setting: write {name}={} into .env", masked(value))
        }
        _ => format!("{name} is a setting; accepted in .env is {}", item.kind().accepts()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, written: &Written) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
        constants(folder.path(), written)
    }

    #[test]
    fn each_constant_of_the_file_is_told_where_it_went() {
        let text = "import os\n\n# Stream timeouts\nEMPTY_STREAM_TIMEOUT = 30  # Seconds to wait for initial data\n\
                    STREAM_BUFFER_SIZE: int = 4 * 1024 * 1024  # 4 MB\nMAX_STREAMS_PER_ENGINE=10\n\
                    class Config:\n    COPY_CHUNK_SIZE = os.getenv('X')\n    ENGINE_CACHE_TTL = 2\n    CLIENT_TIMEOUT = 30\n    OTHER = 'hush'\n\
                    API_KEY = 'hush'\nif HERE == 1: pass\nlower = 1\n";
        let written = Written::from_pairs([("MAX_STREAMS_PER_ENGINE", "4")]);
        assert_eq!(
            said(text, &written),
            [
                "app/services/proxy/config.py is not read; what became of its 8 constant(s):",
                "EMPTY_STREAM_TIMEOUT is a setting: write EMPTY_STREAM_TIMEOUT=30 into .env",
                "STREAM_BUFFER_SIZE is a setting: write STREAM_BUFFER_SIZE=4 * 1024 * 1024 into .env",
                "MAX_STREAMS_PER_ENGINE is a setting and set already (environment)",
                "COPY_CHUNK_SIZE is a setting; accepted in .env is 1316 bytes to 1 MiB, written like 65536, 64 KiB, 512m \
                 or 8 * 1024 * 1024",
                "ENGINE_CACHE_TTL has no meaning here: The list of engines is never stale.",
                "CLIENT_TIMEOUT has no meaning here: VIEWER_STALL_TIMEOUT says how long a viewer may take nothing.",
                "OTHER is no setting and has no effect",
                "API_KEY is a setting; accepted in .env is printable ASCII without blanks at its ends",
            ]
        );
    }

    #[test]
    fn without_such_a_file_nothing_is_said_and_an_unreadable_one_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(constants(folder.path(), &Written::default()).is_empty());
        std::fs::write(folder.path().join("app"), "").unwrap();
        assert!(constants(folder.path(), &Written::default()).is_empty(), "a file named app is none");
        std::fs::remove_file(folder.path().join("app")).unwrap();
        std::fs::create_dir_all(folder.path().join(FILE)).unwrap();
        assert!(constants(folder.path(), &Written::default())[0].contains("cannot be read"));
    }
}
