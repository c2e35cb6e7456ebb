//! What was written, and where: flags, environment, `.env`, changes through pages, `acemux.toml`. Nothing is interpreted here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strsim::levenshtein;

use super::Problem;
use super::clean::{cleaned, quoted_key};
use super::format::Secrecy;
use super::overrides::Overrides;
use super::setting::{Item, Key};
use super::settings::ignored::{IGNORED, Ignored};
use super::settings::service::OPERATOR_WITHOUT_KEY;
use super::settings::{self, all};

/// Largest settings file that is read, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Suffix of a secret's name: the value is the path of a file that holds it, as container platforms hand them out.
const FILE_SUFFIX: &str = "_FILE";

/// Names shorter than this differ by two letters from too many others to be called a typo.
const SHORTEST_TYPO: usize = 8;

/// Where a value was written. What comes later wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In `acemux.toml`.
    File(PathBuf),
    /// Through a page, while the service ran.
    Override,
    /// In `.env`, on this line.
    DotEnv(usize),
    /// In the environment.
    Environment,
    /// On the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Override => f.write_str("override"),
            Self::DotEnv(line) => write!(f, ".env line {line}"),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

impl Origin {
    /// Whether both are the same source; lines and paths do not matter.
    fn is_beside(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// One value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The text.
    pub(super) value: String,
    /// Where.
    pub(super) origin: Origin,
}

/// Everything that was written.
#[derive(Clone, Default)]
pub struct Written {
    /// By the settings' names.
    entries: BTreeMap<&'static str, Entry>,
    /// Names without meaning here that are written.
    ignored: BTreeSet<&'static str>,
    /// Paths of the files that secrets stand in, by the secret's name.
    secret_files: BTreeMap<&'static str, Entry>,
    pub(super) problems: Vec<Problem>,
    /// What deserves a warning.
    pub(super) notices: Vec<String>,
}

/// Names alone: values may be secrets.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish_non_exhaustive()
    }
}

impl Written {
    /// Reads the file, `.env` in the working directory, the environment, and the flags.
    pub fn gather(file: Option<&Path>, flags: &[(&str, String)]) -> Self {
        let mut written = Self::default();
        written.read_toml(file);
        written.read_dot_env(Path::new(".env"));
        for (name, value) in std::env::vars_os() {
            written.add_variable(&name, &value);
        }
        for (name, value) in flags {
            written.add(name, value, &Origin::Flag);
        }
        written.read_secret_files();
        written
    }

    /// The same values as if they stood in the environment.
    pub fn from_pairs<N: AsRef<str>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut written = Self::default();
        for (name, value) in pairs {
            written.add(name.as_ref(), &value.into(), &Origin::Environment);
        }
        written.read_secret_files();
        written
    }

    /// What these lines of a `.env` file say.
    #[cfg(test)]
    pub(super) fn from_dot_env(text: &str) -> Self {
        let mut written = Self::default();
        written.add_dot_env(text);
        written
    }

    /// With what was changed through pages, wherever nothing that counts more is written.
    pub fn with(&self, overrides: &Overrides) -> Self {
        let mut written = self.clone();
        for (item, value) in overrides.iter().filter(|(item, _)| self.fixed(*item).is_none()) {
            let entry = Entry { value: value.to_owned(), origin: Origin::Override };
            written.entries.insert(item.name(), entry);
        }
        written
    }

    /// What counts more than a change through a page: by which name it is written, and where.
    pub(super) fn fixed(&self, item: &dyn Item) -> Option<(&'static str, &Origin)> {
        let is_name = |other: &&dyn Item| other.about().alias_of == Some(item.name());
        let names = std::iter::once(item.name()).chain(all().filter(is_name).map(Item::name));
        let written = names.filter_map(|name| Some((name, &self.entries.get(name)?.origin)));
        written.into_iter().find(|(_, origin)| **origin > Origin::Override)
    }

    /// What was written for this setting.
    pub(super) fn entry(&self, item: &dyn Item) -> Option<&Entry> {
        self.entries.get(item.name())
    }

    /// Whether somebody decided who needs no key.
    pub(crate) fn says_who_needs_no_key(&self) -> bool {
        self.entry(&OPERATOR_WITHOUT_KEY).is_some()
    }

    /// What this setting means, also when nothing is written.
    pub(super) fn get<K: Key>(&self, key: &K) -> K::Meaning {
        key.read(self.entry(key).map(|entry| entry.value.as_str()))
    }

    /// Whether this name without meaning is written.
    pub(super) fn has_ignored(&self, ignored: &Ignored) -> bool {
        self.ignored.contains(ignored.name)
    }

    fn add_variable(&mut self, name: &OsStr, value: &OsStr) {
        // Every name of ours is ASCII.
        let Some(name) = name.to_str() else { return };
        match value.to_str() {
            Some(value) => self.add(name, value, &Origin::Environment),
            None if named(name).is_some() => self.refuse(name, None, &Origin::Environment, "text in UTF-8"),
            None => {}
        }
    }

    /// Unknown names are no error: an environment is full of other programs' variables. An empty value is as good as
    /// none and hides nothing: compose files write `${NAME:-}` for what nobody set.
    fn add(&mut self, name: &str, value: &str, origin: &Origin) {
        let value = value.trim();
        let add = |entries: &mut BTreeMap<_, _>, item: &'static dyn Item, value: &str| {
            if !value.is_empty() {
                entries.insert(item.name(), Entry { value: value.to_owned(), origin: origin.clone() });
            }
        };
        match named(name) {
            Some(Named::Setting(item)) => {
                let value = cleaned(item, value);
                self.notices.extend(quoted_key(item, value, origin));
                add(&mut self.entries, item, value);
            }
            Some(Named::SecretFile(item)) => add(&mut self.secret_files, item, value),
            Some(Named::Ignored(ignored)) if !value.is_empty() => {
                self.ignored.insert(ignored.name);
            }
            None if !value.is_empty() => self.notices.extend(typo(name)),
            Some(Named::Ignored(_)) | None => {}
        }
    }

    /// A file counts as much as the source that names it.
    fn read_secret_files(&mut self) {
        for (name, file) in std::mem::take(&mut self.secret_files) {
            match self.entries.get(name) {
                Some(value) if value.origin.is_beside(&file.origin) => {
                    let accepted = format!("only one of {name} and {name}{FILE_SUFFIX}");
                    self.refuse(&format!("{name}{FILE_SUFFIX}"), Some(file.value), &file.origin, &accepted);
                }
                Some(value) if value.origin > file.origin => {}
                _ => self.read_secret(name, &file),
            }
        }
    }

    fn read_secret(&mut self, name: &'static str, file: &Entry) {
        match read_small(Path::new(&file.value)) {
            Ok(text) if text.trim().is_empty() => {
                let accepted = "a file with something in it";
                self.refuse(
                    &format!("{name}{FILE_SUFFIX}"),
                    Some(file.value.clone()),
                    &file.origin,
                    accepted,
                );
            }
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let value = line.strip_suffix('\r').unwrap_or(line).to_owned();
                self.notices.extend(readable_by_all(name, &file.value));
                self.entries.insert(name, Entry { value, origin: file.origin.clone() });
            }
            Err(error) => {
                let accepted = format!("a readable file ({error})");
                self.refuse(
                    &format!("{name}{FILE_SUFFIX}"),
                    Some(file.value.clone()),
                    &file.origin,
                    &accepted,
                );
            }
        }
    }

    fn read_dot_env(&mut self, path: &Path) {
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.file_problem(path, &format!("a readable file ({error})")),
        };
        self.add_dot_env(&text);
    }

    fn add_dot_env(&mut self, text: &str) {
        // Editors on Windows begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let origin = Origin::DotEnv(index + 1);
            match dot_env_line(line) {
                DotEnvLine::Empty => {}
                DotEnvLine::Value(name, value) => self.add(name, value, &origin),
                // The line itself is not shown: it may hold a secret.
                DotEnvLine::Malformed => self.refuse("this line", None, &origin, "NAME=value or # a comment"),
            }
        }
    }

    fn read_toml(&mut self, named: Option<&Path>) {
        let path = named.unwrap_or(Path::new("acemux.toml"));
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.file_problem(path, &format!("a readable file ({error})")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.add_toml(path, &table),
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| before.matches('\n').count() + 1);
                self.file_problem(path, &format!("valid TOML (line {line}: {})", error.message()));
            }
        }
    }

    fn add_toml(&mut self, path: &Path, table: &toml::Table) {
        let origin = Origin::File(path.to_owned());
        for (key, value) in table {
            let name = key.to_ascii_uppercase();
            if named(&name).is_none() || *key != key.to_ascii_lowercase() {
                self.unknown_key(key, &origin);
            } else if let Some(value) = scalar(value) {
                self.add(&name, &value, &origin);
            } else {
                // What stands in the table may be a secret.
                self.refuse(key, None, &origin, "one value");
            }
        }
    }

    fn unknown_key(&mut self, key: &str, origin: &Origin) {
        let known = nearest(key);
        let accepted = format!("a known key in lower case; the nearest is {}", known.to_ascii_lowercase());
        self.refuse(key, None, origin, &accepted);
    }

    fn file_problem(&mut self, path: &Path, accepted: &str) {
        self.refuse("settings file", None, &Origin::File(path.to_owned()), accepted);
    }

    fn refuse(&mut self, name: &str, value: Option<String>, origin: &Origin, accepted: &str) {
        let (name, origin, accepted) = (name.to_owned(), origin.clone(), accepted.to_owned());
        self.problems.push(Problem { name, value, origin, accepted });
    }
}

/// What a name stands for.
pub(super) enum Named {
    /// A setting.
    Setting(&'static dyn Item),
    /// The file that a secret stands in.
    SecretFile(&'static dyn Item),
    /// Something without meaning here.
    Ignored(&'static Ignored),
}

pub(super) fn named(name: &str) -> Option<Named> {
    let setting = settings::find(name).map(Named::Setting);
    let ignored = || IGNORED.iter().find(|ignored| ignored.name == name).map(Named::Ignored);
    let secret = || {
        let secret = name.strip_suffix(FILE_SUFFIX).and_then(settings::find);
        secret.filter(|item| item.kind().secrecy() == Secrecy::HiddenOrInAFile).map(Named::SecretFile)
    };
    setting.or_else(ignored).or_else(secret)
}

/// The known name that needs the fewest changes to become `word`.
pub(super) fn nearest(word: &str) -> &'static str {
    let word = word.to_ascii_uppercase();
    let known = all().map(Item::name).chain(IGNORED.iter().map(|ignored| ignored.name));
    known.min_by_key(|name| levenshtein(&word, name)).unwrap_or_default()
}

/// A variable that is none of ours but looks as if it were meant to be.
fn typo(name: &str) -> Option<String> {
    let known = nearest(name);
    if name.len() >= SHORTEST_TYPO && levenshtein(name, known) <= 2 {
        return Some(format!("{name} is no setting; the nearest is {known}"));
    }
    let ours = name.starts_with("ACEXY_") || name.starts_with("ACE_") || name.starts_with("ACEMUX_");
    ours.then(|| format!("{name} is no setting and has no effect"))
}

/// A warning when everybody on this machine can read the file.
fn readable_by_all(name: &str, path: &str) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| format!("{name}{FILE_SUFFIX}: every user of this machine can read {path}"))
}

/// The size is enforced while reading: not everything that can be opened tells its length.
pub(super) fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > LARGEST_FILE { Err(io::Error::other("larger than 1 MiB")) } else { Ok(text) }
}

/// One line of `.env`.
#[derive(Debug, PartialEq, Eq)]
enum DotEnvLine<'a> {
    Empty,
    Value(&'a str, &'a str),
    Malformed,
}

/// `NAME=value`, with `export`, quotes, comments and empty lines as shells and compose have them.
fn dot_env_line(line: &str) -> DotEnvLine<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return DotEnvLine::Empty;
    }
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
    let line = exported.unwrap_or(line);
    match line.split_once('=') {
        Some((name, value)) => DotEnvLine::Value(name.trim(), unquoted(value)),
        None => DotEnvLine::Malformed,
    }
}

/// What stands behind the `=`. Outside of quotes a comment begins at a `#` behind any white space.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.trim_start().strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.0;
        }
    }
    let mut signs = value.match_indices('#').map(|(at, _)| &value[..at]);
    signs.find(|before| before.ends_with(char::is_whitespace)).unwrap_or(value).trim()
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(parts) => {
            parts.iter().map(scalar).collect::<Option<Vec<_>>>().map(|all| all.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::settings::service::{API_KEY, APP_HOST, APP_PORT, DB_PATH};
    use super::super::settings::streams::STREAM_BUFFER_SIZE;
    use super::super::settings::viewers::MAX_VIEWERS;
    use super::*;

    fn dot_env(text: &[u8]) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, text).unwrap();
        let mut written = Written::default();
        written.read_dot_env(&path);
        written
    }

    fn reports(written: &Written) -> Vec<String> {
        written.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dot_env_lines_are_read_as_shells_do() {
        use DotEnvLine::{Empty, Malformed, Value};
        assert_eq!(dot_env_line("APP_PORT=8000"), Value("APP_PORT", "8000"));
        assert_eq!(dot_env_line("export A = \"b c\" # d"), Value("A", "b c"));
        assert_eq!(dot_env_line("A=b # comment"), Value("A", "b"));
        assert_eq!(dot_env_line("A=b\t# comment"), Value("A", "b"));
        assert_eq!(dot_env_line("A=b#c \u{a0}\t#d # e"), Value("A", "b#c"));
        assert_eq!(dot_env_line("A= # nothing"), Value("A", ""));
        assert_eq!(dot_env_line("A=\t#"), Value("A", ""));
        assert_eq!(dot_env_line("A=#1"), Value("A", "#1"));
        assert_eq!(dot_env_line("A='#1'"), Value("A", "#1"));
        assert_eq!(dot_env_line("A=\t\"b\t# c\"\t# d"), Value("A", "b\t# c"));
        assert_eq!(dot_env_line("export\tA=b"), Value("A", "b"));
        assert_eq!(dot_env_line("exported=b"), Value("exported", "b"));
        assert_eq!(dot_env_line("# A=b"), Empty);
        assert_eq!(dot_env_line(""), Empty);
        assert_eq!(dot_env_line("APP_PORT 8000"), Malformed);
    }

    #[test]
    fn dot_env_may_come_from_windows_and_names_its_lines() {
        let written = dot_env(b"\xef\xbb\xbfAPP_PORT=9000\r\n\r\nMAX_VIEWERS=7\r\n");
        let entry = |item: &dyn Item| written.entry(item).cloned().unwrap();
        assert_eq!(entry(&APP_PORT), Entry { value: "9000".into(), origin: Origin::DotEnv(1) });
        assert_eq!(entry(&MAX_VIEWERS), Entry { value: "7".into(), origin: Origin::DotEnv(3) });
    }

    #[test]
    fn a_comment_after_a_value_is_none_of_it_wherever_it_stands() {
        let value = |written: &Written, item: &dyn Item| written.entry(item).unwrap().value.clone();
        let product = "8 * 1024 * 1024";
        let environment = Written::from_pairs([("STREAM_BUFFER_SIZE", "8 * 1024 * 1024  # 8 MB")]);
        let dot_env = dot_env(b"STREAM_BUFFER_SIZE = 8 * 1024 * 1024\t# 8 MB\nAPP_HOST=\"all # x\"\n");
        let mut file = Written::default();
        file.add_toml(
            Path::new("acemux.toml"),
            &"stream_buffer_size = \"8 * 1024 * 1024 # 8 MB\"".parse().unwrap(),
        );
        for written in [&environment, &dot_env, &file] {
            assert_eq!(value(written, &STREAM_BUFFER_SIZE), product);
            assert_eq!(written.get(&STREAM_BUFFER_SIZE), 8 << 20);
        }
        assert_eq!(value(&dot_env, &APP_HOST), "all");
        // In a text it may be meant.
        let texts = Written::from_pairs([("API_KEY", "a #key"), ("DB_PATH", "a #b"), ("APP_PORT", "# none")]);
        assert_eq!((value(&texts, &API_KEY), value(&texts, &DB_PATH)), ("a #key".into(), "a #b".into()));
        assert_eq!(texts.entry(&APP_PORT), None);
    }

    #[test]
    fn what_dot_env_cannot_mean_is_reported_without_showing_it() {
        let reports = reports(&dot_env(b"API_KEY: hush\n"));
        assert_eq!(reports, ["this line (.env line 1): accepted is NAME=value or # a comment"]);
    }

    #[test]
    fn a_dot_env_that_is_there_but_cannot_be_read_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let mut written = Written::default();
        written.read_dot_env(&folder.path().join("absent"));
        assert!(written.problems.is_empty());
        written.read_dot_env(folder.path());
        assert_eq!(written.problems.len(), 1);
    }

    #[test]
    fn the_environment_wins_over_dot_env_and_nothing_is_hidden_by_an_empty_value() {
        let mut written = dot_env(b"APP_PORT=1\nAPI_KEY=from-dot-env\n");
        written.add("APP_PORT", "2", &Origin::Environment);
        written.add("API_KEY", " ", &Origin::Environment);
        assert_eq!(written.entry(&APP_PORT).unwrap().value, "2");
        assert_eq!(written.entry(&API_KEY).unwrap().value, "from-dot-env");
    }

    #[test]
    fn a_settings_file_that_is_no_toml_is_told_where() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acemux.toml");
        std::fs::write(&file, "app_port = 8001\n\nstream_buffer_size = 8 * 1024 * 1024  # 8 MB\n").unwrap();
        let mut written = Written::default();
        written.read_toml(Some(&file));
        assert!(reports(&written)[0].contains("valid TOML (line 3: "), "{:?}", reports(&written));
    }

    #[test]
    fn a_value_that_is_no_text_is_a_problem() {
        let mut written = Written::default();
        written.add_variable(OsStr::new("APP_PORT"), OsStr::from_bytes(b"\xff"));
        written.add_variable(OsStr::new("SOMETHING_ELSE"), OsStr::from_bytes(b"\xff"));
        assert_eq!(reports(&written), ["APP_PORT (environment): accepted is text in UTF-8"]);
    }

    #[test]
    fn a_secret_file_loses_one_line_end_and_counts_as_the_source_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "from-file\r\n").unwrap();
        let path = path.to_str().unwrap();
        let key = |value_from: Origin, file_from: Origin| {
            let mut written = Written::default();
            written.add("API_KEY", "from-value", &value_from);
            written.add("API_KEY_FILE", path, &file_from);
            written.read_secret_files();
            (written.entry(&API_KEY).unwrap().value.clone(), written.problems.len())
        };
        assert_eq!(key(Origin::DotEnv(1), Origin::Environment), ("from-file".into(), 0));
        assert_eq!(key(Origin::Environment, Origin::DotEnv(1)), ("from-value".into(), 0));
        assert_eq!(key(Origin::DotEnv(9), Origin::DotEnv(1)), ("from-value".into(), 1));
    }

    #[test]
    fn a_table_in_the_settings_file_is_refused_without_showing_it() {
        let mut written = Written::default();
        written.add_toml(Path::new("acemux.toml"), &"api_key = { x = \"hush\" }".parse().unwrap());
        assert_eq!(reports(&written), ["api_key (acemux.toml): accepted is one value"]);
    }

    #[test]
    fn only_variables_that_look_like_ours_are_called_typos() {
        assert_eq!(
            typo("ACEXY_HSOT").as_deref(),
            Some("ACEXY_HSOT is no setting; the nearest is ACEXY_HOST")
        );
        assert_eq!(
            typo("MAX_REPLICA").as_deref(),
            Some("MAX_REPLICA is no setting; the nearest is MAX_REPLICAS")
        );
        assert!(typo("ACEXY_COLOUR").unwrap().contains("no effect"));
        for other in ["PATH", "HOME", "HOSTNAME", "LANG", "TZ", "SSL_CERT_FILE"] {
            assert_eq!(typo(other), None);
        }
    }
}
