//! One setting, one item: its name, its words, what is accepted, its default, and when a change of it applies. Checks,
//! `config show`, `docs/settings.md` and `.env.example` read the list of items; the program reads a value by the item
//! itself and gets its type, see [`Written::get`](super::Written::get).

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::Config;
use super::format::{Format, Kind, Secrecy, Shown};

/// A setting that always has a value.
pub(super) struct Setting<T: 'static> {
    about: About,
    format: &'static dyn Shown<T>,
    default: fn() -> T,
}

/// A setting that may be left out, and then means what its words say.
pub(super) struct Optional<T: 'static> {
    about: About,
    format: &'static dyn Format<T>,
}

/// What every setting has, whatever its type.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// Its name in the environment; in `acemux.toml` the same in lower case.
    pub(super) name: &'static str,
    /// One sentence or a few.
    pub(super) words: &'static str,
    /// The setting that it is only another system's name of.
    pub(super) alias_of: Option<&'static str>,
    /// Why it can only be changed where the service is started, if it can.
    pub(super) outside: Option<&'static str>,
    /// When a change of it applies.
    pub(super) applies: Applies,
    /// What it means when nothing is written and that depends on other settings or on the machine.
    pub(super) meant: Option<fn(&Config) -> Option<String>>,
}

/// When a change of a setting applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SettingApplies)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// When the service starts again.
    #[serde(rename = "after_restart")]
    FromTheNextStart,
    /// At once.
    AtOnce,
}

/// A setting without its type, for lists.
pub(super) trait Item: Sync {
    /// What every setting has.
    fn about(&self) -> &About;
    /// How its values are written.
    fn kind(&self) -> &dyn Kind;
    /// Whether `text` is one of its values.
    fn admits(&self, text: &str) -> bool;
    /// The value when nothing is written, as people write it.
    fn default(&self) -> Option<String>;

    /// Its name in the environment.
    fn name(&self) -> &'static str {
        self.about().name
    }

    /// Why it can only be changed where the service is started, if it can.
    fn why_outside(&self) -> Option<String> {
        if self.kind().secrecy() != Secrecy::Open {
            return Some("a secret is set where the service is started: no page shows it or keeps it".into());
        }
        let alias = self.about().alias_of.map(|of| format!("it is another system's name of {of}"));
        alias.or_else(|| self.about().outside.map(str::to_owned))
    }
}

/// A setting with its type.
pub(super) trait Key: Item {
    /// What it means: a value, or perhaps one.
    type Meaning;

    /// The meaning of what is written, if anything is. What is not accepted counts as not written: it is a problem
    /// already, and nothing is started.
    fn read(&self, written: Option<&str>) -> Self::Meaning;
}

/// Settings of one subject.
pub(super) struct Group {
    /// What people read above them.
    pub(super) title: &'static str,
    /// In the order in which people read them.
    pub(super) items: &'static [&'static dyn Item],
}

impl About {
    /// `words` as doc comments have them: with a blank first.
    pub(super) const fn of(name: &'static str, words: &'static str) -> Self {
        let words = words.trim_ascii();
        Self { name, words, alias_of: None, outside: None, applies: Applies::FromTheNextStart, meant: None }
    }
}

impl<T> Setting<T> {
    pub(super) const fn new(about: About, format: &'static dyn Shown<T>, default: fn() -> T) -> Self {
        Self { about, format, default }
    }

    /// A change of it applies at once.
    pub(super) const fn at_once(mut self) -> Self {
        self.about.applies = Applies::AtOnce;
        self
    }

    /// It can only be changed where the service is started, because of this.
    pub(super) const fn outside(mut self, why: &'static str) -> Self {
        self.about.outside = Some(why);
        self
    }

    /// What the default comes to together with other settings.
    pub(super) const fn meant(mut self, meant: fn(&Config) -> Option<String>) -> Self {
        self.about.meant = Some(meant);
        self
    }
}

impl<T> Optional<T> {
    pub(super) const fn new(about: About, format: &'static dyn Format<T>) -> Self {
        Self { about, format }
    }

    /// It is another system's name of that setting.
    pub(super) const fn alias(mut self, of: &'static str) -> Self {
        self.about.alias_of = Some(of);
        self
    }

    /// A change of it applies at once.
    pub(super) const fn at_once(mut self) -> Self {
        self.about.applies = Applies::AtOnce;
        self
    }

    /// It can only be changed where the service is started, because of this.
    pub(super) const fn outside(mut self, why: &'static str) -> Self {
        self.about.outside = Some(why);
        self
    }

    /// What it means when it is left out.
    pub(super) const fn meant(mut self, meant: fn(&Config) -> Option<String>) -> Self {
        self.about.meant = Some(meant);
        self
    }
}

impl<T> Item for Setting<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn kind(&self) -> &dyn Kind {
        self.format
    }

    fn admits(&self, text: &str) -> bool {
        self.format.parse(text).is_some()
    }

    fn default(&self) -> Option<String> {
        Some(self.format.show(&(self.default)()))
    }
}

impl<T> Item for Optional<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn kind(&self) -> &dyn Kind {
        self.format
    }

    fn admits(&self, text: &str) -> bool {
        self.format.parse(text).is_some()
    }

    fn default(&self) -> Option<String> {
        None
    }
}

impl<T> Key for Setting<T> {
    type Meaning = T;

    fn read(&self, written: Option<&str>) -> T {
        written.and_then(|text| self.format.parse(text)).unwrap_or_else(self.default)
    }
}

impl<T> Key for Optional<T> {
    type Meaning = Option<T>;

    fn read(&self, written: Option<&str>) -> Option<T> {
        written.and_then(|text| self.format.parse(text))
    }
}

impl fmt::Debug for dyn Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The settings of one subject and the list of them. What stands above one as its documentation is what people read of it
/// everywhere; its name is the item's own, so that none can be left out or called by another name.
macro_rules! settings {
    ($title:literal:
        $($(#[doc = $words:literal])+ $name:ident: $setting:ty = $new:ident($($argument:expr),+ $(,)?)
        $(.$with:ident($($value:expr)?))*;)+
    ) => {
        $(
            #[doc = concat!("`", stringify!($name), "`")]
            pub(in crate::config) static $name: $setting = <$setting>::$new(
                $crate::config::setting::About::of(stringify!($name), concat!($($words),+)),
                $($argument),+
            )$(.$with($($value)?))*;
        )+

        /// All of them.
        pub(in crate::config) static GROUP: $crate::config::setting::Group =
            $crate::config::setting::Group { title: $title, items: &[$(&$name),+] };
    };
}
pub(super) use settings;
