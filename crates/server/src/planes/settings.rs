//! Settings that are changed while the service runs: who changes them comes here, one after the other, and whoever
//! follows them reads one typed snapshot.
//!
//! ```text
//!  page ─► change ─► checked as a whole ─► kept ─► snapshot (watch) ─► follow: relay, engines, fleet, listener, log
//! ```
//!
//! Nothing is in force before it is durable, so a restart never goes back behind what somebody was told.

use std::path::Path;
use std::sync::Arc;

use acemux_store::{Store, StoreError, peek};
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::config::{self, Carried, Config, Edit, Fault, Overrides, Setting, Written};
use crate::http::limits;
use crate::record::archive::NOWHERE;

/// Where they stand in the store.
pub(crate) const KEY: &str = "settings";

/// The settings of this run.
pub struct Settings {
    store: Store,
    /// What is written elsewhere.
    base: Arc<Written>,
    at_start: Overrides,
    saved: Mutex<Overrides>,
    /// What is in force.
    current: watch::Sender<Arc<Config>>,
}

/// What a change has done, or would do.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The settings that are other ones, as they were.
    pub before: Vec<Setting>,
    /// The same, as they are.
    pub after: Vec<Setting>,
    /// What deserves a warning since.
    pub warnings: Vec<String>,
    /// Whether any setting waits for a restart.
    pub restart_needed: bool,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// These are wrong.
    #[error("{} setting(s) cannot be changed so", .0.len())]
    Faults(Vec<Fault>),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How edits are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Nothing is changed; it is told what would be.
    pub is_dry: bool,
    /// Who asks for what is written elsewhere anyway asks for nothing.
    pub is_lenient: bool,
}

impl Settings {
    /// With what was changed in earlier runs. What of it cannot be used any more is left out with a line in the log: a
    /// broken row keeps no service from starting.
    pub async fn load(config: &Config, store: Store) -> Self {
        let base = Arc::clone(&config.written);
        let saved = read(&store, &base).await;
        let mut current = config.clone();
        if !saved.is_empty() {
            current = read_anew(config, &base.with(&saved));
            for warning in news(&base.with(&saved), &base) {
                tracing::warn!("{warning}");
            }
        }
        let current = watch::Sender::new(Arc::new(fitted(current)));
        Self { store, base, at_start: saved.clone(), saved: Mutex::new(saved), current }
    }

    /// What is in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    /// The same, and whenever it is something else.
    pub fn follow(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Every setting.
    pub async fn list(&self) -> Vec<Setting> {
        self.listed(&*self.saved.lock().await)
    }

    /// Changes all that is wanted, given what was changed before, or nothing.
    pub async fn change(
        &self,
        wanted: impl FnOnce(&Overrides) -> Vec<Edit> + Send,
        manner: Manner,
    ) -> Result<Changed, Refused> {
        let mut saved = self.saved.lock().await;
        let edits = wanted(&saved);
        let next = saved.edited(&edits, &self.base, manner.is_lenient).map_err(Refused::Faults)?;
        let changed = self.changed(&saved, &next);
        if manner.is_dry || next == *saved {
            return Ok(changed);
        }
        self.store.save_setting(KEY, next.to_saved()).await?;
        let config = read_anew(&self.config(), &self.base.with(&next.in_force(&self.at_start)));
        *saved = next;
        self.current.send_replace(Arc::new(fitted(config)));
        Ok(changed)
    }

    /// To be carried elsewhere: what was changed here, or what is set anywhere.
    pub async fn carried(&self, everywhere: bool) -> Carried {
        config::carried(&self.base, &*self.saved.lock().await, everywhere)
    }

    fn listed(&self, saved: &Overrides) -> Vec<Setting> {
        let config = read_anew(&self.config(), &self.base.with(&saved.in_force(&self.at_start)));
        config::listing(&limits::fitted(config), &self.base, &self.at_start, saved)
    }

    fn changed(&self, saved: &Overrides, next: &Overrides) -> Changed {
        let (was, is) = (self.listed(saved), self.listed(next));
        let restart_needed = is.iter().any(|setting| setting.coming.is_some());
        let differs = |(was, is): &(Setting, Setting)| was != is;
        let (before, after) = was.into_iter().zip(is).filter(differs).unzip();
        let warnings = news(&self.base.with(next), &self.base.with(saved));
        Changed { before, after, warnings, restart_needed }
    }
}

/// What is written, with what was changed in earlier runs or in the one that is under way, for commands beside the
/// service. What of it cannot be used, and why, stands in the lines; where nothing can be read it is left out.
pub fn beside(config: &Config) -> (Written, Vec<String>) {
    let base = &config.written;
    let saved = match config.db_path.as_path() {
        path if path == Path::new(NOWHERE) => Ok(None),
        path => peek::setting(path, KEY),
    };
    let (saved, notes) = match saved {
        Ok(Some(saved)) => Overrides::from_saved(&saved, base),
        Ok(None) => Default::default(),
        Err(error) => (
            Overrides::default(),
            vec![format!("settings that were changed through pages are left out: {error}")],
        ),
    };
    (base.with(&saved), notes)
}

/// What is kept, as far as it can be used.
async fn read(store: &Store, base: &Written) -> Overrides {
    let saved = match store.setting(KEY).await {
        Ok(saved) => saved.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
        Err(error) => {
            tracing::warn!(%error, "the settings that were changed through pages cannot be read and are not used");
            return Overrides::default();
        }
    };
    let (saved, notes) = Overrides::from_saved(&saved, base);
    for note in notes {
        tracing::warn!("{note}");
    }
    saved
}

/// Within what the system gives, and a line in the log when that is less.
fn fitted(config: Config) -> Config {
    let (wanted, descriptors) = (config.viewers.max, config.listen.descriptors);
    let config = limits::fitted(config);
    let viewers = config.viewers.max;
    if viewers < wanted {
        tracing::warn!(
            wanted,
            viewers,
            descriptors,
            "MAX_VIEWERS lowered: the descriptor limit is too small"
        );
    }
    config
}

/// The same settings from other words, within the same limits of the system.
fn read_anew(config: &Config, written: &Written) -> Config {
    let mut next = Config::meaning(written);
    next.listen.descriptors = config.listen.descriptors;
    next.without_key = config.without_key;
    next.written = Arc::clone(&config.written);
    next
}

/// Warnings about these settings that those did not cause.
fn news(written: &Written, before: &Written) -> Vec<String> {
    let known = Config::meaning(before).warnings(before);
    let mut warnings = Config::meaning(written).warnings(written);
    warnings.retain(|warning| !known.contains(warning));
    warnings
}

#[cfg(test)]
mod tests {
    use crate::config::Wish;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::from_pairs(pairs.iter().copied()).unwrap()
    }

    fn wanted(pairs: &[(&str, &str)]) -> Vec<Edit> {
        let edit = |(name, value): &(&str, &str)| Edit {
            name: (*name).to_owned(),
            wish: Wish::Value((*value).to_owned()),
        };
        pairs.iter().map(edit).collect()
    }

    async fn set(settings: &Settings, pairs: &[(&str, &str)]) -> Result<Changed, Refused> {
        settings.change(|_| wanted(pairs), Manner::default()).await
    }

    #[tokio::test]
    async fn what_applies_at_once_does_and_the_rest_after_a_restart() {
        let (store, config) = (Store::in_memory(), config(&[]));
        let settings = Settings::load(&config, store.clone()).await;
        let mut follower = settings.follow();
        let changed =
            set(&settings, &[("STALL_TIMEOUT", "7s"), ("COPY_CHUNK_SIZE", "32 KiB")]).await.unwrap();
        assert!(changed.restart_needed && follower.has_changed().unwrap());
        let now = Arc::clone(&follower.borrow_and_update());
        assert_eq!((now.streams.stall_timeout.as_secs(), now.streams.chunk_bytes), (7, 64 << 10));
        let waits = changed.after.iter().find(|setting| setting.name == "COPY_CHUNK_SIZE").unwrap();
        assert_eq!((waits.value.as_deref(), &waits.source), (Some("64 KiB"), &config::Source::Default));
        assert_eq!(waits.coming.as_ref().unwrap().value.as_deref(), Some("32 KiB"));
        let again = Settings::load(&config, store).await;
        assert_eq!(again.config().streams.chunk_bytes, 32 << 10);
        assert!(again.list().await.iter().all(|setting| setting.coming.is_none()));
    }

    #[tokio::test]
    async fn what_is_refused_or_only_tried_changes_nothing() {
        let settings = Settings::load(&config(&[("MAX_VIEWERS", "9")]), Store::in_memory()).await;
        let before = settings.list().await;
        let both = [("STALL_TIMEOUT", "7s"), ("MAX_VIEWERS", "10")];
        assert!(matches!(set(&settings, &both).await, Err(Refused::Faults(faults)) if faults.len() == 1));
        let dry = Manner { is_dry: true, ..Manner::default() };
        let tried = settings.change(|_| wanted(&[("STALL_TIMEOUT", "7s")]), dry).await.unwrap();
        assert_eq!(tried.after[0].value.as_deref(), Some("7s"));
        assert_eq!(settings.list().await, before);
    }

    #[tokio::test]
    async fn limits_stay_within_what_the_system_gives() {
        let mut config = config(&[]);
        config.listen.descriptors = Some(1_000);
        let settings = Settings::load(&config, Store::in_memory()).await;
        let most = settings.config().viewers.max;
        assert!(most < 1_000, "{most}");
        set(&settings, &[("MAX_VIEWERS", "100000")]).await.unwrap();
        assert_eq!(settings.config().viewers.max, most);
        set(&settings, &[("MAX_VIEWERS", "5")]).await.unwrap();
        assert_eq!(settings.config().viewers.max, 5);
    }

    #[tokio::test]
    async fn a_store_that_takes_no_more_changes_nothing() {
        let store = Store::in_memory();
        let settings = Settings::load(&config(&[]), store.clone()).await;
        store.close().await.unwrap();
        let refused = set(&settings, &[("STALL_TIMEOUT", "7s")]).await;
        assert!(matches!(refused, Err(Refused::Store(_))));
        assert_eq!(settings.config().streams.stall_timeout.as_secs(), 5);
        // And one that cannot be read keeps no service from starting.
        let again = Settings::load(&config(&[]), store).await;
        assert_eq!(again.config().streams.stall_timeout.as_secs(), 5);
    }
}
