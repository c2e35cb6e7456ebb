//! Settings that are changed while the service runs: they count more than `acemux.toml`, and less than `.env`, the
//! environment and flags. Pure: who asks, and where they are kept, is [`crate::planes::settings`]'s.
//!
//! One door for all: a value is what the setting's own item admits, and all of them together are what a start would
//! accept. A change is made as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use acemux_engine::text;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::clean::cleaned;
use super::raw::{Named, Origin, Written, named, nearest};
use super::resolve;
use super::setting::{Applies, Item};
use super::settings;

/// Longest value, in bytes. The longest that means anything is a list of engines.
const LONGEST: usize = 4 * 1024;

/// Longest unknown name that is repeated to who sent it.
const LONGEST_NAME: usize = 64;

/// What was changed through pages: values as they are written, by the names of their settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<&'static str, String>);

/// One change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The setting, in capitals or, as in `acemux.toml`, in small letters.
    pub name: String,
    /// What it is to be.
    pub wish: Wish,
}

/// What a setting is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// This.
    Value(String),
    /// What it is without a change.
    Reset,
    /// Something that is no value, such as an object.
    Nonsense,
}

/// Why a setting is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingFault)]
pub struct Fault {
    /// Its name, as it was asked for.
    pub name: String,
    /// What is wrong, for programs.
    pub code: Lack,
    /// The same for people.
    pub reason: String,
    /// The known name that is the most alike, when this one is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub suggestion: Option<&'static str>,
}

/// What is wrong with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingLack)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// No setting has this name.
    Unknown,
    /// The value is none that the setting takes, or not together with the others.
    Invalid,
    /// It is asked for twice.
    Duplicate,
    /// The environment, `.env` or the command line says what it is.
    Fixed,
    /// It can only be changed where the service is started.
    NotChangeable,
}

impl Fault {
    fn of(name: &str, code: Lack, reason: impl Into<String>) -> Self {
        Self { name: repeated(name).to_owned(), code, reason: reason.into(), suggestion: None }
    }

    /// A page has no such field.
    pub(crate) fn of_key(key: &str) -> Self {
        Self::of(key, Lack::Unknown, "this page has no such field")
    }

    fn unknown(name: &str) -> Self {
        let suggestion = nearest(repeated(name));
        let reason = format!("no setting has this name; the nearest is {suggestion}");
        Self { suggestion: Some(suggestion), ..Self::of(name, Lack::Unknown, reason) }
    }
}

impl Overrides {
    /// Each with its setting.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static dyn Item, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((settings::find(name)?, value.as_str())))
    }

    /// What this setting was changed to.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether this setting is among them.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As they are kept.
    pub fn to_saved(&self) -> Value {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect()
    }

    /// What was kept, without what cannot be used, and a line about each of these: a setting that is gone, a value that is
    /// not accepted any more, or one that does not go together with what is written elsewhere. The rest counts.
    pub fn from_saved(saved: &Value, base: &Written) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        let mut kept = Self::default();
        let Value::Object(pairs) = saved else {
            return (kept, vec!["the settings that were changed through pages cannot be read".to_owned()]);
        };
        for (name, value) in pairs {
            match of_saved(name, value) {
                Ok((name, value)) => drop(kept.0.insert(name, value)),
                Err(why) => notes.push(left_out(name, &why)),
            }
        }
        kept.fit(base, &mut notes);
        (kept, notes)
    }

    /// Leaves out what a start would refuse. The settings without any of them are in order already.
    fn fit(&mut self, base: &Written, notes: &mut Vec<String>) {
        while let Err(problems) = resolve::resolve(&base.with(self)) {
            let before = self.0.len();
            for problem in &problems.0 {
                if self.0.remove(problem.name.as_str()).is_some() {
                    notes.push(left_out(&problem.name, &format!("accepted is {}", problem.accepted)));
                }
            }
            if self.0.len() == before {
                notes.extend(self.0.keys().map(|name| left_out(name, &problems.to_string())));
                self.0.clear();
                return;
            }
        }
    }

    /// These with some changed: all of the edits or none. `base` is what is written elsewhere. With `lenient` an edit that
    /// asks for what is written elsewhere anyway is none, as when an export is read again where it was made.
    pub fn edited(&self, edits: &[Edit], base: &Written, lenient: bool) -> Result<Self, Vec<Fault>> {
        let (mut next, mut faults, mut seen) = (self.clone(), Vec::new(), BTreeSet::new());
        for Edit { name, wish } in edits {
            let change = item_of(name).and_then(|item| {
                let is_first = seen.insert(item.name());
                let once = is_first.then_some(()).ok_or_else(|| twice(name));
                once.and_then(|()| next.edit(item, wish, base, lenient))
            });
            faults.extend(change.err());
        }
        // Values that are refused by themselves are not compared with others.
        if faults.is_empty() {
            faults.extend(next.against(base));
        }
        if faults.is_empty() { Ok(next) } else { Err(faults) }
    }

    fn edit(
        &mut self,
        item: &'static dyn Item,
        wish: &Wish,
        base: &Written,
        lenient: bool,
    ) -> Result<(), Fault> {
        let value = match wish {
            Wish::Value(text) if text.len() <= LONGEST => cleaned(item, text),
            Wish::Value(_) | Wish::Nonsense => "",
            Wish::Reset => {
                self.0.remove(item.name());
                return Ok(());
            }
        };
        if lenient && base.entry(item).is_some_and(|entry| entry.value == value) {
            return Ok(());
        }
        if let Some(why) = item.why_outside() {
            return Err(Fault::of(item.name(), Lack::NotChangeable, why));
        }
        if let Some((name, origin)) = base.fixed(item) {
            return Err(Fault::of(item.name(), Lack::Fixed, fixed(name, origin)));
        }
        if value.is_empty() || !item.admits(value) {
            let reason = format!("accepted is {}", item.kind().accepts());
            return Err(Fault::of(item.name(), Lack::Invalid, reason));
        }
        self.0.insert(item.name(), value.to_owned());
        Ok(())
    }

    /// What a start with these would refuse.
    fn against(&self, base: &Written) -> Vec<Fault> {
        let problems =
            resolve::resolve(&base.with(self)).err().map(|problems| problems.0).unwrap_or_default();
        let fault = |problem: &super::Problem| {
            Fault::of(&problem.name, Lack::Invalid, format!("accepted is {}", problem.accepted))
        };
        problems.iter().map(fault).collect()
    }

    /// Those in force in a run that began with `at_start`: of settings that wait for the next start what they were, of all
    /// others what they are.
    pub fn in_force(&self, at_start: &Self) -> Self {
        let waits = |item: &dyn Item| item.about().applies == Applies::FromTheNextStart;
        let old = at_start.iter().filter(|(item, _)| waits(*item));
        let new = self.iter().filter(|(item, _)| !waits(*item));
        Self(old.chain(new).map(|(item, value)| (item.name(), value.to_owned())).collect())
    }

    /// Those of these names, whichever they are: to be asked for again.
    pub fn edits(&self) -> impl Iterator<Item = Edit> {
        self.0.iter().map(|(name, value)| Edit { name: (*name).to_owned(), wish: Wish::Value(value.clone()) })
    }

    /// The names that are in one of both only, or have another value there.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let names: BTreeSet<_> = self.0.keys().chain(other.0.keys()).copied().collect();
        names.into_iter().filter(|name| self.0.get(name) != other.0.get(name)).collect()
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}

/// Why a setting that is written where it counts more cannot be changed.
pub(super) fn fixed(name: &str, origin: &Origin) -> String {
    format!("{name} is set by the {}, which counts more", source(origin))
}

fn source(origin: &Origin) -> String {
    match origin {
        Origin::DotEnv(_) => format!("file {origin}"),
        _ => origin.to_string(),
    }
}

/// A name that a client gave, where it looks like one.
fn repeated(name: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.len() <= LONGEST_NAME && name.bytes().all(is_word) { name } else { "(no name of a setting)" }
}

fn twice(name: &str) -> Fault {
    Fault::of(name, Lack::Duplicate, "it is asked for twice")
}

/// The setting of this name, in capitals or in small letters.
fn item_of(name: &str) -> Result<&'static dyn Item, Fault> {
    let is_small = !name.bytes().any(|byte| byte.is_ascii_uppercase());
    let known = if is_small { named(&name.to_ascii_uppercase()) } else { named(name) };
    match known {
        Some(Named::Setting(item)) => Ok(item),
        Some(Named::Ignored(ignored)) => Err(Fault::of(name, Lack::NotChangeable, ignored.why)),
        Some(Named::SecretFile(item)) => {
            Err(Fault::of(name, Lack::NotChangeable, item.why_outside().unwrap_or_default()))
        }
        None => Err(Fault::unknown(name)),
    }
}

fn of_saved(name: &str, value: &Value) -> Result<(&'static str, String), String> {
    let item = settings::find(name).ok_or("no setting has this name")?;
    if let Some(why) = item.why_outside() {
        return Err(why);
    }
    let value = value.as_str().filter(|value| item.admits(value));
    let refused = || format!("accepted is {}", item.kind().accepts());
    Ok((item.name(), value.ok_or_else(refused)?.to_owned()))
}

fn left_out(name: &str, why: &str) -> String {
    let (name, why) = (text::line(name, LONGEST_NAME), text::line(why, 1_000));
    format!("{name}, which was changed through a page, is not used: {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Config;
    use super::super::settings::fleet::{MAX_REPLICAS, MIN_REPLICAS};
    use super::super::settings::{all, engines::ENGINES};
    use super::Lack::{Duplicate, Fixed, Invalid, NotChangeable, Unknown};
    use super::*;

    fn base(pairs: &[(&str, &str)]) -> Written {
        Written::from_pairs(pairs.iter().copied())
    }

    fn edit(name: &str, value: &str) -> Edit {
        Edit { name: name.into(), wish: Wish::Value(value.into()) }
    }

    fn edited(edits: &[Edit], base: &Written) -> Result<Overrides, Vec<Fault>> {
        Overrides::default().edited(edits, base, false)
    }

    fn kinds(faults: Vec<Fault>) -> Vec<(String, Lack)> {
        faults.into_iter().map(|fault| (fault.name, fault.code)).collect()
    }

    #[test]
    fn a_change_counts_more_than_the_file_and_less_than_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("acemux.toml");
        std::fs::write(&file, "max_viewers = 7\nmax_replicas = 9\n").unwrap();
        let (_, written) = Config::load(Some(&file), &[("MAX_REPLICAS", "8".into())]).unwrap();
        let changed =
            edited(&[edit("MAX_VIEWERS", "11"), edit("min_replicas", " 1 # one")], &written).unwrap();
        let config = resolve::resolve(&written.with(&changed)).unwrap();
        assert_eq!((config.viewers.max, config.fleet.min_replicas, config.fleet.max_replicas), (11, 1, 8));
        let faults = edited(&[edit("MAX_REPLICAS", "5")], &written).unwrap_err();
        assert_eq!(faults[0].code, Fixed);
        assert_eq!(faults[0].reason, "MAX_REPLICAS is set by the command line, which counts more");
        // What is fixed since is kept and does not count.
        let (kept, notes) = Overrides::from_saved(&json!({ "MAX_REPLICAS": "5" }), &written);
        assert!(kept.has("MAX_REPLICAS") && notes.is_empty(), "{notes:?}");
        assert_eq!(resolve::resolve(&written.with(&kept)).unwrap().fleet.max_replicas, 8);
        let back = Edit { name: "MAX_VIEWERS".into(), wish: Wish::Reset };
        let changed = changed.edited(&[back], &written, false).unwrap();
        assert_eq!(resolve::resolve(&written.with(&changed)).unwrap().viewers.max, 7, "the file's again");
    }

    #[test]
    fn another_systems_name_in_the_environment_fixes_the_setting_that_it_means() {
        for (pairs, name, value) in [
            ([("ACEXY_HOST", "engine")], "ENGINES", "other:1"),
            ([("ACEXY_MAX_STREAMS_PER_ENGINE", "5")], "MAX_STREAMS_PER_ENGINE", "9"),
        ] {
            let base = base(&pairs);
            let faults = edited(&[edit(name, value)], &base).unwrap_err();
            assert_eq!(kinds(faults), [(name.to_owned(), Fixed)]);
            let (kept, _) = Overrides::from_saved(&json!({ name: value }), &base);
            let config = resolve::resolve(&base.with(&kept)).unwrap();
            assert_eq!(config.engines.external.len(), usize::from(name == "ENGINES"));
            assert_eq!(config.engines.max_streams_per_engine, if name == "ENGINES" { 3 } else { 5 });
            assert!(base.with(&kept).entry(&ENGINES).is_none());
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_nothing_of_a_value() {
        let edits = [
            edit("MAX_VIEWERS", "hush"),
            edit("MAX_VEIWERS", "1"),
            edit("APP_PORT", "9000"),
            edit("API_KEY", "hush-hush-hush-hush"),
            edit("API_KEY_FILE", "/hush"),
            edit("REDIS_HOST", "hush"),
            edit("STALL_TIMEOUT", "5s"),
            edit("stall_timeout", "6s"),
            edit("LOG_LEVEL", ""),
            edit("LOG_LEVEL\u{1b}[31m", "x"),
            Edit { name: "JOIN_BURST".into(), wish: Wish::Nonsense },
            edit("Max_Viewers", "1"),
            edit("ENGINES", &"a:1,".repeat(2_000)),
        ];
        let faults = edited(&edits, &base(&[])).unwrap_err();
        let told = serde_json::to_string(&faults).unwrap();
        assert!(!told.contains("hush") && !told.contains("u001b"), "{told}");
        assert_eq!(faults[1].suggestion, Some("MAX_VIEWERS"));
        let codes: Vec<Lack> = faults.iter().map(|fault| fault.code).collect();
        assert_eq!(
            codes,
            [
                Invalid,
                Unknown,
                NotChangeable,
                NotChangeable,
                NotChangeable,
                NotChangeable,
                Duplicate,
                Invalid,
                Unknown,
                Invalid,
                Unknown,
                Invalid
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_name_and_goes_as_one_change() {
        let base = base(&[]);
        let faults = edited(&[edit("MIN_REPLICAS", "30")], &base).unwrap_err();
        assert_eq!(kinds(faults), [("MIN_REPLICAS".to_owned(), Invalid)]);
        let both = edited(&[edit("MIN_REPLICAS", "30"), edit("MAX_REPLICAS", "40")], &base).unwrap();
        let down = both.edited(&[edit("MAX_REPLICAS", "4")], &base, false).unwrap_err();
        assert_eq!(kinds(down), [("MIN_REPLICAS".to_owned(), Invalid)]);
    }

    #[test]
    fn what_was_kept_and_cannot_be_used_is_left_out_with_a_line_and_the_rest_counts() {
        let base = base(&[("MAX_REPLICAS", "4")]);
        let saved = json!({
            "MIN_REPLICAS": "9",
            "MAX_VIEWERS": "77",
            "STALL_TIMEOUT": "soon",
            "HOLD_TIMEOUT": 5,
            "GONE_SINCE": "1",
            "APP_PORT": "1",
        });
        let (kept, notes) = Overrides::from_saved(&saved, &base);
        assert_eq!(kept.names().collect::<Vec<_>>(), ["MAX_VIEWERS"]);
        assert_eq!(notes.len(), 5, "{notes:?}");
        for nonsense in [json!(null), json!([1]), json!("MAX_VIEWERS=1")] {
            let (kept, notes) = Overrides::from_saved(&nonsense, &base);
            assert!(kept.is_empty() && notes.len() == 1);
        }
        // One that is refused in the name of another setting: none of them is used.
        let base = Written::from_pairs([("PORT_RANGE_HOST", "19000-19999"), ("APP_PORT", "8000")]);
        let saved = json!({ "GLUETUN_CONTAINER_NAME": "a", "ENGINES": "engine:6878" });
        let (kept, notes) = Overrides::from_saved(&saved, &base);
        assert!(kept.is_empty() && notes.len() == 2, "{notes:?}");
    }

    #[test]
    fn an_export_that_is_read_where_it_was_made_changes_nothing() {
        let base = base(&[("MAX_VIEWERS", "9"), ("APP_PORT", "8001"), ("API_KEY", "a-key-of-twenty-signs")]);
        let edits = [edit("MAX_VIEWERS", "9"), edit("APP_PORT", "8001")];
        assert_eq!(Overrides::default().edited(&edits, &base, true), Ok(Overrides::default()));
        let other = [edit("MAX_VIEWERS", "10")];
        assert!(Overrides::default().edited(&other, &base, true).is_err());
    }

    #[test]
    fn settings_that_wait_for_the_next_start_are_in_force_as_they_were() {
        let base = base(&[]);
        let begun = edited(&[edit("STREAM_MEMORY", "64 MiB"), edit("MAX_VIEWERS", "1")], &base).unwrap();
        let edits =
            [edit("STREAM_MEMORY", "128 MiB"), edit("MAX_VIEWERS", "2"), edit("COPY_CHUNK_SIZE", "32 KiB")];
        let now = begun.edited(&edits, &base, false).unwrap();
        let config = resolve::meaning(&base.with(&now.in_force(&begun)));
        assert_eq!(
            (config.streams.memory, config.viewers.max, config.streams.chunk_bytes),
            (64 << 20, 2, 64 << 10)
        );
        assert_eq!(now.differing(&begun), ["COPY_CHUNK_SIZE", "MAX_VIEWERS", "STREAM_MEMORY"]);
    }

    /// Every default, and of what has none the value that it comes to.
    #[test]
    fn every_setting_that_can_be_changed_takes_its_own_default_and_says_it_again() {
        let base = base(&[]);
        let config = resolve::resolve(&base).unwrap();
        let mut changeable = 0;
        for item in all() {
            let meant = item.about().meant.and_then(|meant| meant(&config));
            let Some(default) = item.default().or(meant) else { continue };
            let changed = edited(&[edit(item.name(), &default)], &base);
            if item.why_outside().is_some() {
                assert!(changed.is_err(), "{item:?}");
                continue;
            }
            let written = base.with(&changed.unwrap_or_else(|faults| panic!("{item:?}: {faults:?}")));
            assert_eq!(written.entry(item).unwrap().value, default);
            resolve::resolve(&written).unwrap_or_else(|problems| panic!("{item:?}: {problems}"));
            changeable += 1;
        }
        assert!(changeable > 40, "{changeable}");
        assert!(MIN_REPLICAS.why_outside().is_none() && MAX_REPLICAS.why_outside().is_none());
    }
}
