//! What was written, and where: flags, environment, `.env`, `acemux.toml`. Nothing is interpreted here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::table::{self, SETTINGS};
use super::{Problem, nearest};

/// Largest settings file that is read, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Where a value was written. What comes later wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In `acemux.toml`.
    File(PathBuf),
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
            Self::DotEnv(line) => write!(f, ".env line {line}"),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// One value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The text.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// Everything that was written.
#[derive(Clone, Debug, Default)]
pub struct Written {
    entries: BTreeMap<&'static str, Entry>,
    pub(super) problems: Vec<Problem>,
}

impl Written {
    /// Reads the file, `.env` in the working directory, the environment, and the flags.
    pub fn gather(file: Option<&Path>, flags: &[(&str, String)]) -> Self {
        let mut written = Self::default();
        written.read_toml(file);
        written.read_dot_env(Path::new(".env"));
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                written.add(name, value, &Origin::Environment);
            }
        }
        for (name, value) in flags {
            written.add(name, value, &Origin::Flag);
        }
        written
    }

    /// The same values as if they stood in the environment.
    pub fn from_pairs<N: AsRef<str>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut written = Self::default();
        for (name, value) in pairs {
            written.add(name.as_ref(), &value.into(), &Origin::Environment);
        }
        written
    }

    /// What was written for this setting. An empty value is as good as none.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).filter(|entry| !entry.value.is_empty())
    }

    /// Unknown names are ignored: an environment is full of other programs' variables.
    fn add(&mut self, name: &str, value: &str, origin: &Origin) {
        if let Some(setting) = table::find(name) {
            let entry = Entry { value: value.trim().to_owned(), origin: origin.clone() };
            self.entries.insert(setting.name, entry);
        } else if let Some(setting) = name.strip_suffix("_FILE").and_then(table::find) {
            self.add_from_file(setting, value, origin);
        }
    }

    /// Secrets may stand in a file of their own, as container platforms hand them out.
    fn add_from_file(&mut self, setting: &'static table::Setting, path: &str, origin: &Origin) {
        if setting.kind != table::Kind::Secret {
            return;
        }
        match read_small(Path::new(path)) {
            Ok(text) => self.add(setting.name, text.trim_end_matches(['\r', '\n']), origin),
            Err(error) => self.problems.push(Problem {
                name: format!("{}_FILE", setting.name),
                value: path.to_owned(),
                origin: origin.clone(),
                accepted: format!("a readable file ({error})"),
            }),
        }
    }

    fn read_dot_env(&mut self, path: &Path) {
        let Ok(text) = read_small(path) else { return };
        for (index, line) in text.lines().enumerate() {
            if let Some((name, value)) = dot_env_line(line) {
                self.add(name, value, &Origin::DotEnv(index + 1));
            }
        }
    }

    fn read_toml(&mut self, named: Option<&Path>) {
        let path = named.unwrap_or(Path::new("acemux.toml"));
        let text = match read_small(path) {
            Ok(text) => text,
            Err(_) if named.is_none() => return,
            Err(error) => return self.file_problem(path, &format!("a readable file ({error})")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.add_toml(path, &table),
            Err(error) => self.file_problem(path, &format!("valid TOML ({})", error.message())),
        }
    }

    fn add_toml(&mut self, path: &Path, table: &toml::Table) {
        let origin = Origin::File(path.to_owned());
        for (key, value) in table {
            let name = key.to_ascii_uppercase();
            if table::find(&name).is_none() || *key != key.to_ascii_lowercase() {
                self.unknown_key(key, &origin);
            } else if let Some(value) = scalar(value) {
                self.add(&name, &value, &origin);
            } else {
                let (name, value) = (key.clone(), value.to_string());
                self.problems.push(Problem {
                    name,
                    value,
                    origin: origin.clone(),
                    accepted: "one value".into(),
                });
            }
        }
    }

    fn unknown_key(&mut self, key: &str, origin: &Origin) {
        let known = nearest(key, SETTINGS.iter().map(|(_, setting)| setting.name));
        let accepted = format!("a known key in lower case; the nearest is {}", known.to_ascii_lowercase());
        let (name, value) = (key.to_owned(), String::new());
        self.problems.push(Problem { name, value, origin: origin.clone(), accepted });
    }

    fn file_problem(&mut self, path: &Path, accepted: &str) {
        self.problems.push(Problem {
            name: "--config".into(),
            value: path.display().to_string(),
            origin: Origin::Flag,
            accepted: accepted.to_owned(),
        });
    }
}

fn read_small(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > LARGEST_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    std::fs::read_to_string(path)
}

/// `NAME=value`, with `export`, quotes, comments and empty lines as shells and compose have them.
fn dot_env_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    (!name.starts_with('#')).then(|| (name.trim(), unquoted(value.trim())))
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.0;
        }
    }
    value.split_once(" #").map_or(value, |(value, _comment)| value.trim_end())
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
    use super::*;

    #[test]
    fn dot_env_lines_are_read_as_shells_do() {
        assert_eq!(dot_env_line("APP_PORT=8000"), Some(("APP_PORT", "8000")));
        assert_eq!(dot_env_line("export A = \"b c\" # d"), Some(("A", "b c")));
        assert_eq!(dot_env_line("A=b # comment"), Some(("A", "b")));
        assert_eq!(dot_env_line("A='#1'"), Some(("A", "#1")));
        assert_eq!(dot_env_line("# A=b"), None);
        assert_eq!(dot_env_line(""), None);
    }
}
