//! The custom variant: an engine built from parameters that an operator edits.
//!
//! ```text
//! JSON ──serde──► Document ──check──► CustomVariant ──► Profile, memory limit
//!                    ▲                     │
//!                    └──── TemplatesDocument (ten places to keep one in)
//! ```
//!
//! A [`Document`] is what somebody wrote; only a [`CustomVariant`] becomes an engine. It refuses what the list of
//! [`parameters`] does not name, values outside their range, and text that a shell would read as more than one plain
//! word: one of the images passes its arguments through a shell without quotes. Nothing here stores anything.

pub mod memory;
pub mod parameters;
pub mod problem;
pub mod templates;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use acemux_engine::text;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::memory::MemoryLimit;
use self::parameters::{Accepts, DEFAULTS};
use self::problem::{Problem, Problems};
use crate::image::{ImageRef, Tag};
use crate::profile::{Feed, JOPSIS, Platform, Profile};

/// Most parameters in a document: all that are known, and room to say what is wrong with a few more.
const MOST_PARAMETERS: usize = 64;

/// Longest text of a parameter that is off. It reaches no engine, but it is stored.
const LONGEST_UNUSED: usize = 1024;

/// Stands for a token where tokens are not shown. No token can be this text, so a document that was read without
/// tokens cannot be saved over the one that has them.
const HIDDEN: &str = "***";

/// The custom variant as it is written: the shape of the reference's file and of its pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VariantConfig)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Whether it is used in place of `ENGINE_VARIANT`.
    #[serde(default)]
    pub enabled: bool,
    /// The processor its engines are for.
    pub platform: Platform,
    /// Release of the ARM images; the other has one only.
    #[serde(default)]
    pub arm_version: ArmVersion,
    /// Digits and perhaps `b`, `k`, `m` or `g`; nothing or an empty text leaves it to `ENGINE_MEMORY_LIMIT`.
    #[serde(default)]
    pub memory_limit: Option<String>,
    /// In the order in which engines get them.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Understood and refused.
    #[serde(default)]
    pub torrent_folder_mount_enabled: bool,
    /// Understood and refused.
    #[serde(default)]
    pub torrent_folder_host_path: Option<String>,
    /// Kept for pages that show it; without a mount it means nothing.
    #[serde(default = "container_path")]
    #[schema(pattern = "^/")]
    pub torrent_folder_container_path: String,
}

/// One parameter of a document.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VariantParameter)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The flag itself, as in `--live-buffer`.
    pub name: String,
    /// What kind of value it has.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its value.
    #[schema(value_type = ParameterValue)]
    pub value: Value,
    /// Whether engines get it.
    #[serde(default = "on")]
    pub enabled: bool,
}

/// What kind of value a parameter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ParameterKind)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Given or not given.
    Flag,
    /// One word.
    String,
    /// A whole number.
    Int,
    /// A whole number of bytes.
    Bytes,
    /// A file or folder inside the container.
    Path,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ParameterValue)]
#[serde(untagged, expecting = "a value is true, false, a whole number or a text")]
pub enum Value {
    /// Of a flag.
    Flag(bool),
    /// Of an int or of bytes.
    Number(i64),
    /// Of a string or a path.
    Text(Cow<'static, str>),
}

/// By its own name: `Value` is any JSON to utoipa.
type ParameterValue = Value;

/// Release of the ARM images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ArmVersion {
    /// 3.2.13.
    #[default]
    #[serde(rename = "3.2.13")]
    V3_2_13,
    /// 3.2.14.
    #[serde(rename = "3.2.14")]
    V3_2_14,
}

/// A document that was checked: every engine made from it is started with arguments from the list, in their range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CustomVariant(Document);

impl Document {
    /// The 35 parameters as they come, switched off.
    pub fn default_for(platform: Platform) -> Self {
        Self {
            enabled: false,
            platform,
            arm_version: ArmVersion::default(),
            memory_limit: None,
            parameters: DEFAULTS.iter().map(parameters::Definition::parameter).collect(),
            torrent_folder_mount_enabled: false,
            torrent_folder_host_path: None,
            torrent_folder_container_path: container_path(),
        }
    }

    /// The same without its access tokens, for readers who may not change it.
    pub fn without_tokens(&self) -> Self {
        let mut document = self.clone();
        for parameter in &mut document.parameters {
            let is_set = !matches!(&parameter.value, Value::Text(text) if text.is_empty());
            if parameter.is_token() && is_set {
                parameter.value = Value::Text(HIDDEN.into());
            }
        }
        document
    }

    /// The same with every access token as `change` has it: whoever keeps documents keeps no tokens as they are.
    pub fn with_tokens(mut self, change: &dyn Fn(&str) -> String) -> Self {
        for parameter in self.parameters.iter_mut().filter(|one| one.is_token()) {
            if let Value::Text(token) = &mut parameter.value
                && !token.is_empty()
            {
                *token = change(token).into();
            }
        }
        self
    }

    fn problems(&self) -> Vec<Problem> {
        if self.parameters.len() > MOST_PARAMETERS {
            return vec![Problem::TooMany { most: MOST_PARAMETERS }];
        }
        let mut problems: Vec<Problem> = self.parameters.iter().filter_map(|one| one.check().err()).collect();
        problems.extend(self.repeated());
        if self.enabled {
            problems.extend(self.missing());
        }
        let is_size = |text: &String| text.parse::<MemoryLimit>().is_ok();
        problems.extend(self.memory_limit.as_ref().filter(|text| !is_size(text)).map(|_| Problem::Memory));
        problems.extend(self.folder_problems());
        problems
    }

    fn repeated(&self) -> impl Iterator<Item = Problem> {
        let is_repeated = |(at, one): &(usize, &Parameter)| {
            self.parameters.iter().take(*at).any(|earlier| earlier.name == one.name)
        };
        let repeated = self.parameters.iter().enumerate().filter(is_repeated);
        repeated.map(|(_, one)| Problem::repeated(&one.name))
    }

    /// Without these an engine never answers; the fleet would replace it for ever.
    fn missing(&self) -> impl Iterator<Item = Problem> {
        let bind = ("--bind-all", "engines answer nobody outside their container without it");
        let console = ("--client-console", "the engine of this platform does not start without it");
        let needed = [Some(bind), (self.platform == Platform::Amd64).then_some(console)];
        let is_given = |name| self.parameters.iter().any(|one| one.name == name && one.argument().is_some());
        let missing = needed.into_iter().flatten().filter(move |(name, _)| !is_given(*name));
        missing.map(|(name, why)| Problem::Needed { name, why })
    }

    /// The right to mount a folder of the host is the right to read and change the host: not given by a page.
    fn folder_problems(&self) -> impl Iterator<Item = Problem> {
        let is_asked = self.torrent_folder_mount_enabled || self.torrent_folder_host_path.is_some();
        let mount = is_asked.then_some(Problem::HostFolder);
        let path = &self.torrent_folder_container_path;
        let is_plain = path.len() <= parameters::LONGEST_PATH && text::is_plain(path);
        let is_fine = is_plain && path.starts_with('/') && !path.split('/').any(|part| part == "..");
        mount.into_iter().chain((!is_fine).then_some(Problem::ContainerFolder))
    }
}

impl TryFrom<Document> for CustomVariant {
    type Error = Problems;

    /// Every problem at once, not the first one.
    fn try_from(mut document: Document) -> Result<Self, Problems> {
        document.memory_limit = document.memory_limit.filter(|text| !text.is_empty());
        document.torrent_folder_host_path = document.torrent_folder_host_path.filter(|path| !path.is_empty());
        Problems::none_of(document.problems())?;
        Ok(Self(document))
    }
}

impl CustomVariant {
    /// What was written; empty texts that mean nothing are left out.
    pub fn document(&self) -> &Document {
        &self.0
    }

    /// The same, to be kept.
    pub fn into_document(self) -> Document {
        self.0
    }

    /// Whether it is used in place of `ENGINE_VARIANT`.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    /// Its own memory limit; without one `ENGINE_MEMORY_LIMIT` counts.
    pub fn memory(&self) -> Option<MemoryLimit> {
        self.0.memory_limit.as_ref()?.parse().ok()
    }

    /// The arguments that its engines get besides their ports. Each is one plain word.
    pub fn arguments(&self) -> Vec<String> {
        let given = self.0.parameters.iter().filter_map(Parameter::argument);
        given.flat_map(|(name, value)| [Some(name), value]).flatten().collect()
    }

    /// The profile of its engines. They are shown as `name`, usually that of the active template; without one as the
    /// platform's.
    pub fn profile(&self, name: Option<&str>) -> Profile {
        let Document { platform, arm_version, .. } = &self.0;
        let (tag, feed) = match platform {
            Platform::Amd64 => ("x64", Feed::ArgumentString),
            Platform::Arm32 => (arm_version.tags().0, Feed::Command),
            Platform::Arm64 => (arm_version.tags().1, Feed::Command),
        };
        let program = if feed == Feed::Command { ["python", "main.py"].as_slice() } else { &[] };
        let mut arguments: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(self.arguments());
        Profile {
            // It was saved by a version that let it turn text around, perhaps.
            name: name.map_or_else(
                || format!("custom-{}", platform.as_str()),
                |name| name.replace(text::steers, ""),
            ),
            image: ImageRef::known(JOPSIS, &Tag::known(tag)),
            feed,
            arguments,
            env: Vec::new(),
            cache: None,
            platform: Some(*platform),
        }
    }
}

impl Parameter {
    fn accepts(&self) -> Option<Accepts> {
        parameters::accepts(&self.name)
    }

    fn is_token(&self) -> bool {
        self.accepts() == Some(Accepts::Token)
    }

    fn check(&self) -> Result<(), Problem> {
        let name = || self.name.clone();
        if parameters::is_chosen_by_fleet(&self.name) {
            return Err(Problem::Ours { name: name() });
        }
        let accepts = self.accepts().ok_or_else(|| Problem::unknown(&self.name))?;
        if accepts.kind() != self.kind {
            return Err(Problem::WrongKind { name: name(), expected: accepts.kind(), found: self.kind });
        }
        let is_fine = if self.enabled { accepts.rendered(&self.value).is_ok() } else { self.may_be_kept() };
        if is_fine { Ok(()) } else { Err(Problem::BadValue { name: name(), accepted: accepts.to_string() }) }
    }

    /// No engine gets it, but whoever reads the page does.
    fn may_be_kept(&self) -> bool {
        let Value::Text(text) = &self.value else { return true };
        text.len() <= LONGEST_UNUSED && text != HIDDEN && text::is_plain(text)
    }

    /// The flag and its value, when engines get it.
    fn argument(&self) -> Option<(String, Option<String>)> {
        let value = self.accepts().filter(|_| self.enabled)?.rendered(&self.value).ok()?;
        match value {
            parameters::Rendered::Absent => None,
            parameters::Rendered::Alone => Some((self.name.clone(), None)),
            parameters::Rendered::With(value) => Some((self.name.clone(), Some(value))),
        }
    }
}

/// Shows no tokens.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = Value::Text(HIDDEN.into());
        let value = if self.is_token() { &hidden } else { &self.value };
        let mut shown = f.debug_struct("Parameter");
        shown.field("name", &self.name).field("kind", &self.kind).field("value", value);
        shown.field("enabled", &self.enabled).finish()
    }
}

impl ArmVersion {
    /// Of the 32-bit image and of the 64-bit one.
    fn tags(self) -> (&'static str, &'static str) {
        match self {
            Self::V3_2_13 => ("arm32-v3.2.13", "arm64-v3.2.13"),
            Self::V3_2_14 => ("arm32-v3.2.14", "arm64-v3.2.14"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::String => "string",
            Self::Int => "int",
            Self::Bytes => "bytes",
            Self::Path => "path",
        })
    }
}

fn container_path() -> String {
    "/root/.ACEStream/collected_torrent_files".to_owned()
}

const fn on() -> bool {
    true
}
