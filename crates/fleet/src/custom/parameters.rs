//! Which parameters a custom engine may be given, and what each accepts. A list of what is allowed, not of what is
//! forbidden: engines have more flags than anybody documented.

use std::fmt;

use super::{Kind, Parameter, Value};

/// Longest path inside a container.
pub(super) const LONGEST_PATH: usize = 255;

/// A token protects the engine's settings; shorter ones are guessed.
const SHORTEST_TOKEN: usize = 8;
const LONGEST_TOKEN: usize = 128;

/// Tokens that image authors publish. With them a protected engine is an open one.
const KNOWN_TOKENS: [&str; 2] = ["acestream", "root"];

/// Folders that belong to the engine inside its container. Its files go nowhere else.
const ENGINE_FOLDERS: [&str; 4] = ["/root/.ACEStream", "/acestream/.ACEStream", "/var/log", "/tmp"];

/// The images run as root, and no shell expands `~` in the middle of `ACESTREAM_ARGS`.
const HOME: &str = "/root";

const MIB: i64 = 1024 * 1024;
const GIB: i64 = 1024 * MIB;
/// Of buffers and of the intervals between checks, in seconds.
const HOUR: i64 = 3600;
/// Ten gigabits per second in KB/s, rounded up.
const FASTEST: i64 = 1_250_000;

/// A parameter of the default document.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The flag itself.
    pub name: &'static str,
    /// Which values it may have.
    pub accepts: Accepts,
    default: Fixed,
    is_on: bool,
}

/// Which values a parameter may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Given or not given.
    Switch,
    /// A whole number, both ends included.
    Integer(i64, i64),
    /// 0 or 1, which pages also write as false and true.
    ZeroOrOne,
    /// A whole number of bytes, both ends included.
    Bytes(i64, i64),
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// A secret word.
    Token,
    /// A file or folder below one of the engine's own.
    Path,
}

/// What becomes of a parameter that is on.
pub(super) enum Rendered {
    /// A switch that is off.
    Absent,
    /// The flag without a value.
    Alone,
    /// The flag and a value: one plain word.
    With(String),
}

/// The value is not accepted.
pub(super) struct Refused;

#[derive(Clone, Copy, Debug)]
enum Fixed {
    Flag(bool),
    Number(i64),
    Text(&'static str),
}

/// Where media is cached.
const CACHES: Accepts = Accepts::OneOf(&["memory", "disk", "hybrid"]);

/// The 35 parameters with the values they come with, in the reference's order.
#[rustfmt::skip]
pub static DEFAULTS: [Definition; 35] = [
    on ("--client-console", Accepts::Switch, Fixed::Flag(true)),
    on ("--bind-all", Accepts::Switch, Fixed::Flag(true)),
    off("--service-remote-access", Accepts::Switch, Fixed::Flag(false)),
    off("--allow-user-config", Accepts::Switch, Fixed::Flag(false)),
    off("--stats-report-peers", Accepts::Switch, Fixed::Flag(false)),
    off("--access-token", Accepts::Token, Fixed::Text("")),
    off("--service-access-token", Accepts::Token, Fixed::Text("")),
    off("--cache-dir", Accepts::Path, Fixed::Text("~/.ACEStream")),
    off("--log-file", Accepts::Path, Fixed::Text("")),
    on ("--live-cache-type", CACHES, Fixed::Text("memory")),
    on ("--live-cache-size", Accepts::Bytes(MIB, 64 * GIB), Fixed::Number(256 * MIB)),
    on ("--vod-cache-type", CACHES, Fixed::Text("disk")),
    on ("--vod-cache-size", Accepts::Bytes(MIB, 64 * GIB), Fixed::Number(512 * MIB)),
    off("--vod-drop-max-age", Accepts::Integer(0, 365 * 24 * HOUR), Fixed::Number(0)),
    on ("--max-file-size", Accepts::Bytes(MIB, 1024 * GIB), Fixed::Number(2 * GIB)),
    on ("--live-buffer", Accepts::Integer(0, HOUR), Fixed::Number(10)),
    on ("--vod-buffer", Accepts::Integer(0, HOUR), Fixed::Number(5)),
    on ("--refill-buffer-interval", Accepts::Integer(0, HOUR), Fixed::Number(5)),
    on ("--max-connections", Accepts::Integer(1, 10_000), Fixed::Number(200)),
    on ("--max-peers", Accepts::Integer(1, 10_000), Fixed::Number(40)),
    on ("--max-upload-slots", Accepts::Integer(0, 10_000), Fixed::Number(4)),
    on ("--auto-slots", Accepts::ZeroOrOne, Fixed::Number(1)),
    off("--download-limit", Accepts::Integer(0, FASTEST), Fixed::Number(0)),
    off("--upload-limit", Accepts::Integer(0, FASTEST), Fixed::Number(0)),
    off("--port", Accepts::Integer(1024, 65_535), Fixed::Number(8621)),
    off("--webrtc-allow-outgoing-connections", Accepts::ZeroOrOne, Fixed::Number(0)),
    off("--webrtc-allow-incoming-connections", Accepts::ZeroOrOne, Fixed::Number(0)),
    on ("--stats-report-interval", Accepts::Integer(1, HOUR), Fixed::Number(60)),
    off("--slots-manager-use-cpu-limit", Accepts::ZeroOrOne, Fixed::Number(0)),
    off("--core-skip-have-before-playback-pos", Accepts::ZeroOrOne, Fixed::Number(0)),
    on ("--core-dlr-periodic-check-interval", Accepts::Integer(1, HOUR), Fixed::Number(10)),
    on ("--check-live-pos-interval", Accepts::Integer(1, HOUR), Fixed::Number(10)),
    off("--log-debug", Accepts::Integer(0, 2), Fixed::Number(0)),
    on ("--log-max-size", Accepts::Bytes(4096, GIB), Fixed::Number(10 * MIB)),
    on ("--log-backup-count", Accepts::Integer(0, 100), Fixed::Number(3)),
];

/// Flags of later releases and of the ARM builds, which no default document has.
static OTHERS: [(&str, Accepts); 5] = [
    ("--api-port", Accepts::Integer(1024, 65_535)),
    ("--disable-sentry", Accepts::Switch),
    ("--disable-upnp", Accepts::Switch),
    ("--live-mem-cache-size", Accepts::Bytes(MIB, 64 * GIB)),
    ("--log-stdout", Accepts::Switch),
];

/// What the parameter `name` accepts; `None` when there is no such parameter.
pub fn accepts(name: &str) -> Option<Accepts> {
    let default =
        DEFAULTS.iter().find(|definition| definition.name == name).map(|definition| definition.accepts);
    default.or_else(|| OTHERS.iter().find(|(other, _)| *other == name).map(|(_, accepts)| *accepts))
}

/// Every engine has its own, and the fleet must know which.
pub(super) fn is_chosen_by_fleet(name: &str) -> bool {
    matches!(name, "--http-port" | "--https-port")
}

impl Definition {
    /// As it stands in the default document.
    pub fn parameter(&self) -> Parameter {
        let value = match self.default {
            Fixed::Flag(is_given) => Value::Flag(is_given),
            Fixed::Number(number) => Value::Number(number),
            Fixed::Text(text) => Value::Text(text.into()),
        };
        Parameter { name: self.name.to_owned(), kind: self.accepts.kind(), value, enabled: self.is_on }
    }
}

impl Accepts {
    /// The type that a document must say.
    pub fn kind(self) -> Kind {
        match self {
            Self::Switch => Kind::Flag,
            Self::Integer(..) | Self::ZeroOrOne => Kind::Int,
            Self::Bytes(..) => Kind::Bytes,
            Self::OneOf(_) | Self::Token => Kind::String,
            Self::Path => Kind::Path,
        }
    }

    pub(super) fn rendered(self, value: &Value) -> Result<Rendered, Refused> {
        let word = match (self, value) {
            (Self::Switch, Value::Flag(true)) => return Ok(Rendered::Alone),
            (Self::Switch, Value::Flag(false)) => return Ok(Rendered::Absent),
            (Self::Integer(from, to) | Self::Bytes(from, to), Value::Number(number)) => {
                (from..=to).contains(number).then(|| number.to_string())
            }
            (Self::ZeroOrOne, Value::Number(number)) => matches!(number, 0 | 1).then(|| number.to_string()),
            (Self::ZeroOrOne, Value::Flag(flag)) => Some(u8::from(*flag).to_string()),
            (Self::OneOf(words), Value::Text(text)) => {
                words.iter().find(|word| *word == text).map(|&word| word.into())
            }
            (Self::Token, Value::Text(text)) => is_token(text).then(|| text.to_string()),
            (Self::Path, Value::Text(text)) => engine_path(text),
            _ => None,
        };
        word.map(Rendered::With).ok_or(Refused)
    }
}

/// What it accepts, for people.
impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("true or false"),
            Self::Integer(from, to) => write!(f, "a whole number from {from} to {to}"),
            Self::ZeroOrOne => f.write_str("0 or 1"),
            Self::Bytes(from, to) => write!(f, "bytes from {from} to {to}"),
            Self::OneOf(words) => f.write_str(&words.join(", ")),
            Self::Token => write!(
                f,
                "{SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits, dots, dashes and underscores, a letter or digit \
                 first, and none of the well-known tokens"
            ),
            Self::Path => write!(
                f,
                "a path of letters, digits, dots, dashes, underscores and slashes below ~/.ACEStream, {}",
                ENGINE_FOLDERS.join(", ")
            ),
        }
    }
}

const fn on(name: &'static str, accepts: Accepts, default: Fixed) -> Definition {
    Definition { name, accepts, default, is_on: true }
}

const fn off(name: &'static str, accepts: Accepts, default: Fixed) -> Definition {
    Definition { name, accepts, default, is_on: false }
}

/// One plain word that starts no flag.
fn is_token(text: &str) -> bool {
    (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(is_plain)
        && !KNOWN_TOKENS.contains(&text)
}

/// The absolute path that `text` means, when it stays inside one of the engine's folders.
fn engine_path(text: &str) -> Option<String> {
    let path = text.strip_prefix("~/").map_or_else(|| text.to_owned(), |rest| format!("{HOME}/{rest}"));
    let is_plain_path = path.len() <= LONGEST_PATH && path.chars().all(|c| is_plain(c) || c == '/');
    let climbs = path.split('/').any(|part| part == "..");
    let is_engines = ENGINE_FOLDERS.iter().any(|folder| is_below(folder, &path));
    (is_plain_path && !climbs && is_engines).then_some(path)
}

fn is_below(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Means nothing to any shell.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}
