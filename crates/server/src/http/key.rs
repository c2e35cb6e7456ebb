//! Which key is in force: the one of the settings, or the one that was made for this data directory.
//!
//! Whatever is wrong with a key stops nothing but the pages that need one: people watch meanwhile.

use std::fmt;
use std::path::{Path, PathBuf};

use acemux_store::key::{self, KeyFileError};

use crate::config::{Config, SHORTEST_KEY, Secret, WithoutKey};
use crate::record::archive::NOWHERE;

/// The key in force, or why there is none, and where one would be.
#[derive(Debug)]
pub struct Key {
    /// Where it lies.
    pub place: Place,
    /// The key, or what is wrong.
    pub key: Result<Secret<String>, Lack>,
}

/// Where a key lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the settings, as `API_KEY`.
    Settings,
    /// In this file.
    File(PathBuf),
    /// Nowhere, because nothing is kept.
    Nowhere,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// It could be guessed.
    #[error("the key is shorter than {SHORTEST_KEY} characters and opens nothing: choose a longer one")]
    TooShort,
    /// The service has not run in this data directory yet.
    #[error("no key has been made yet: the service makes one at its start")]
    NotMade,
    /// There is no data directory.
    #[error("there is no key: with DB_PATH={NOWHERE} none is kept, so set API_KEY")]
    NotKept,
    /// The file cannot be used.
    #[error("there is no key: {0}; mend that, or set API_KEY")]
    File(#[from] KeyFileError),
}

impl Key {
    /// The key in force, without changing anything.
    pub fn find(config: &Config) -> Self {
        Self::of(config, key::read)
    }

    /// The same for the service that holds the data directory: one is made where there is none.
    pub(crate) fn find_or_make(config: &Config) -> Self {
        Self::of(config, |path| key::read_or_make(path).map(Some))
    }

    fn of(config: &Config, read: impl Fn(&Path) -> Result<Option<String>, KeyFileError>) -> Self {
        if let Some(key) = &config.api_key {
            return Self { place: Place::Settings, key: long_enough(key.clone()) };
        }
        if config.db_path == Path::new(NOWHERE) {
            return Self { place: Place::Nowhere, key: Err(Lack::NotKept) };
        }
        let path = key::beside(&config.db_path);
        let key = match read(&path) {
            Ok(Some(key)) => long_enough(Secret::new(key)),
            Ok(None) => Err(Lack::NotMade),
            Err(error) => Err(error.into()),
        };
        Self { place: Place::File(std::path::absolute(&path).unwrap_or(path)), key }
    }

    /// Says where it is, or why it is not, but never what it is.
    pub(crate) fn log(&self, without_key: WithoutKey) {
        let opens_at_loopback = without_key == WithoutKey::Loopback && self.place != Place::Settings;
        if opens_at_loopback {
            tracing::info!("requests from this machine need no API key unless a proxy passed them on");
        }
        match &self.key {
            // Nothing is closed then to whoever reads this.
            Err(Lack::NotKept) if opens_at_loopback => {}
            Ok(_) => tracing::info!(key = %self.place, "pages that change something need the API key"),
            Err(lack) => tracing::warn!(key = %self.place, "pages that need the API key are closed: {lack}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("API_KEY"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Nowhere => f.write_str("none"),
        }
    }
}

fn long_enough(key: Secret<String>) -> Result<Secret<String>, Lack> {
    if key.reveal().len() < SHORTEST_KEY { Err(Lack::TooShort) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(key: Option<&str>, database: &Path) -> Config {
        let key = key.map(|key| ("API_KEY", key));
        Config::from_pairs(key.into_iter().chain([("DB_PATH", database.to_str().unwrap())])).unwrap()
    }

    fn shown(key: &Key) -> Option<&str> {
        key.key.as_ref().ok().map(|key| key.reveal().as_str())
    }

    #[test]
    fn the_key_of_the_settings_goes_before_the_one_that_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("acemux.db");
        assert!(matches!(Key::find(&config(None, &database)).key, Err(Lack::NotMade)));
        let chosen = Key::find_or_make(&config(Some("a-key-of-twenty-signs"), &database));
        assert_eq!((shown(&chosen), &chosen.place), (Some("a-key-of-twenty-signs"), &Place::Settings));
        assert!(!folder.path().join("api-key").exists(), "none is made that nobody needs");
        let made = Key::find_or_make(&config(None, &database));
        assert_eq!(made.place, Place::File(folder.path().join("api-key")));
        assert_eq!(shown(&Key::find(&config(None, &database))), shown(&made));
        for printed in ["your-secure-key", "defaultpassword"] {
            assert_eq!(shown(&Key::find(&config(Some(printed), &database))), shown(&made), "{printed}");
        }
    }

    #[test]
    fn a_short_key_is_none_wherever_it_stands_and_nothing_is_made_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("acemux.db");
        for short in ["k", "fifteen-letters"] {
            let found = Key::find_or_make(&config(Some(short), &database));
            assert!(matches!(found.key, Err(Lack::TooShort)), "{short}");
        }
        assert!(Key::find_or_make(&config(Some("sixteen-letters!"), &database)).key.is_ok());
        std::fs::write(folder.path().join("api-key"), "short\n").unwrap();
        assert!(matches!(Key::find_or_make(&config(None, &database)).key, Err(Lack::TooShort)));
        let nowhere = Key::find_or_make(&config(None, Path::new(NOWHERE)));
        assert!(matches!(nowhere.key, Err(Lack::NotKept)));
    }
}
