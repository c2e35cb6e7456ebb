//! Every setting as pages show it: the value in force, where it comes from, what it means, whether and when it can be
//! changed.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Config;
use super::format::Secrecy;
use super::mask::masked;
use super::overrides::{Overrides, fixed};
use super::raw::{Origin, Written};
use super::setting::{Applies, Item};
use super::settings::{GROUPS, all};

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Setting {
    /// Its name in the environment; in `acemux.toml` the same in small letters.
    pub name: &'static str,
    /// What it is about: `Streams`, `Viewers`, …
    pub group: &'static str,
    /// One sentence or a few.
    pub meaning: &'static str,
    /// What is accepted, in words.
    pub accepts: String,
    /// What a bare number counts: `seconds` or `bytes`.
    pub unit: Option<&'static str>,
    /// The range, where other values would harm.
    pub range: Option<String>,
    /// Every value, where there are only a few.
    pub choices: Vec<&'static str>,
    /// The value when nothing is written; none when it may be left out.
    pub default: Option<String>,
    /// The value in force; `***` for a secret that is set.
    pub value: Option<String>,
    /// Where that comes from.
    pub source: Source,
    /// The same for people: `.env line 3`.
    pub place: String,
    /// When a change applies.
    pub applies: Applies,
    /// Whether it can be changed here and now.
    pub changeable: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// Whether it was changed through a page. Of one that the environment fixes the change is kept and does not count.
    pub overridden: bool,
    /// Whether no page shows its value.
    pub secret: bool,
    /// The setting that this is another system's name of.
    pub alias_of: Option<&'static str>,
    /// What it is from the next start on, when that is something else.
    pub coming: Option<Coming>,
}

/// What a setting is from the next start on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingComing)]
pub struct Coming {
    /// The value; none when it will be left out.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

/// Where a value comes from. What comes later counts more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingSource)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nothing is written.
    Default,
    /// `acemux.toml`.
    File,
    /// A page.
    Override,
    /// `.env`.
    DotEnv,
    /// The environment.
    Environment,
    /// A flag.
    CommandLine,
}

impl From<&Origin> for Source {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Default => Self::Default,
            Origin::File(_) => Self::File,
            Origin::Override => Self::Override,
            Origin::DotEnv(_) => Self::DotEnv,
            Origin::Environment => Self::Environment,
            Origin::Flag => Self::CommandLine,
        }
    }
}

/// Every setting, in the order in which people read them. `config` is in force, read from `base` with those of `saved`
/// that apply at once and, of the rest, with those of `at_start`.
pub fn listing(config: &Config, base: &Written, at_start: &Overrides, saved: &Overrides) -> Vec<Setting> {
    let in_force = base.with(&saved.in_force(at_start));
    let next = base.with(saved);
    let coming = super::resolve::meaning(&next);
    let items = GROUPS.iter().flat_map(|group| group.items.iter().map(|item| (group.title, *item)));
    items
        .map(|(group, item)| {
            let (value, origin) = value_of(item, &in_force, config);
            let after = value_of(item, &next, &coming);
            let waits = item.about().applies == Applies::FromTheNextStart;
            let differs = waits && value != after.0;
            // The same value is in force by whatever says so now.
            let origin = if differs || !waits { origin } else { after.1.clone() };
            let why_not = item.why_outside().or_else(|| {
                let (name, origin) = base.fixed(item)?;
                Some(fixed(name, origin))
            });
            let (about, kind) = (item.about(), item.kind());
            Setting {
                name: about.name,
                group,
                meaning: about.words,
                accepts: kind.accepts(),
                unit: kind.unit(),
                range: kind.limit(),
                choices: kind.choices(),
                default: item.default(),
                source: Source::from(&origin),
                place: origin.to_string(),
                value,
                applies: about.applies,
                changeable: why_not.is_none(),
                why_not,
                overridden: saved.has(about.name),
                secret: kind.secrecy() != Secrecy::Open,
                alias_of: about.alias_of,
                coming: differs.then(|| Coming { source: Source::from(&after.1), value: after.0 }),
            }
        })
        .collect()
}

/// Settings to be carried elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// By their names, as they are written.
    pub settings: BTreeMap<&'static str, String>,
    /// What is set, and must not be carried.
    pub left_out: Vec<LeftOut>,
}

/// A setting that is set and not carried elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingLeftOut)]
pub struct LeftOut {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub why: &'static str,
}

/// What was changed through pages, or, with `everywhere`, what is written anywhere. Secrets stay where they are.
pub fn carried(base: &Written, saved: &Overrides, everywhere: bool) -> Carried {
    let next = base.with(saved);
    let mut carried = Carried { settings: BTreeMap::new(), left_out: Vec::new() };
    for item in all() {
        let kept = saved.get(item.name());
        let written = next.entry(item).map(|entry| entry.value.as_str());
        let is_secret = item.kind().secrecy() != Secrecy::Open;
        let value = if everywhere || is_secret { written.or(kept) } else { kept };
        let Some(value) = value else { continue };
        if is_secret {
            carried.left_out.push(LeftOut { name: item.name(), why: "it is a secret" });
        } else if masked(value) != value {
            carried.left_out.push(LeftOut { name: item.name(), why: "credentials are part of it" });
        } else {
            carried.settings.insert(item.name(), value.to_owned());
        }
    }
    carried
}

/// As lines of a `.env` file, which shells and compose read as well.
pub fn env_lines(carried: &Carried) -> String {
    let left_out =
        carried.left_out.iter().map(|LeftOut { name, why }| format!("# left out: {name}, {why}\n"));
    let settings = carried.settings.iter().map(|(name, value)| format!("{name}={}\n", quoted(value)));
    left_out.chain(settings).collect()
}

/// As it is written wherever a blank, a `#` or a `$` would mean something. What has both quotes is none that any setting
/// takes but a path's or a user's, and keeps the ones that are read.
fn quoted(value: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:/@%+[]*".contains(&byte);
    match (value.bytes().all(is_bare), value.contains('\'')) {
        (true, _) => value.to_owned(),
        (false, false) => format!("'{value}'"),
        (false, true) => format!("\"{value}\""),
    }
}

/// As it may be shown, and where it is written. What nothing is written for may come to something all the same.
pub(super) fn value_of(item: &dyn Item, written: &Written, config: &Config) -> (Option<String>, Origin) {
    match written.entry(item) {
        Some(entry) if item.kind().secrecy() == Secrecy::Open => {
            (Some(masked(&entry.value)), entry.origin.clone())
        }
        Some(entry) => (Some("***".to_owned()), entry.origin.clone()),
        None => {
            let meant = item.about().meant.and_then(|meant| meant(config));
            (meant.or_else(|| item.default()), Origin::Default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wish;
    use super::super::overrides::Edit;
    use super::*;

    fn changed(base: &Written, pairs: &[(&str, &str)]) -> Overrides {
        let edit = |(name, value): &(&str, &str)| Edit {
            name: (*name).to_owned(),
            wish: Wish::Value((*value).to_owned()),
        };
        let edits: Vec<Edit> = pairs.iter().map(edit).collect();
        Overrides::default().edited(&edits, base, false).unwrap()
    }

    #[test]
    fn what_is_carried_elsewhere_has_no_secrets_and_says_so() {
        let base = Written::from_pairs([
            ("API_KEY", "hush-hush-hush-hush"),
            ("ENGINE_PROXY", "socks5://u:hush@p:1080"),
            ("ENGINE_VARIANT", "outpace"),
            ("DOCKER_HOST", "tcp://u:hush@docker:2375"),
            ("MAX_VIEWERS", "9"),
        ]);
        let saved = changed(&base, &[("STALL_TIMEOUT", "7s")]);
        let own = carried(&base, &saved, false);
        assert_eq!(own.settings, BTreeMap::from([("STALL_TIMEOUT", "7s".to_owned())]));
        let left_out = |carried: &Carried| carried.left_out.iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(left_out(&own), ["API_KEY", "ENGINE_PROXY"]);
        let all = carried(&base, &saved, true);
        assert_eq!(
            all.settings.keys().copied().collect::<Vec<_>>(),
            ["ENGINE_VARIANT", "MAX_VIEWERS", "STALL_TIMEOUT"]
        );
        assert_eq!(left_out(&all), ["API_KEY", "DOCKER_HOST", "ENGINE_PROXY"]);
        assert!(!format!("{all:?}{}", env_lines(&all)).contains("hush"));
    }

    #[test]
    fn lines_for_dot_env_are_read_as_they_were_written() {
        let pairs = [
            ("STREAM_MEMORY", "128 MiB"),
            ("GLUETUN_API_USER", "a # $HOME b"),
            ("TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"),
            ("ENGINES", "[::1]:6878,engine:6878"),
            ("MAX_VIEWERS", "7"),
        ];
        let written = Written::from_pairs(pairs);
        let lines = env_lines(&carried(&written, &Overrides::default(), true));
        let again = Written::from_dot_env(&lines);
        for (name, value) in pairs {
            let item = super::super::settings::find(name).unwrap();
            assert_eq!(again.entry(item).map(|entry| entry.value.as_str()), Some(value), "{lines}");
        }
    }
}
