//! What an engine's container may be given, whoever asks for it: variables, labels, ports of the host.
//!
//! A list of what is allowed, not of what is forbidden: `PATH`, `BASH_ENV`, `GLIBC_TUNABLES` or `http_proxy` change what
//! the programs of an image do, and labels drive whatever else watches this daemon (a reverse proxy, an updater, compose).
//! The types here can only be made by its rules, and [`EngineSpec`](crate::spec::EngineSpec) is made of them: a container
//! from an unchecked recipe does not compile.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::str::FromStr;

use acemux_engine::text;

use crate::spec::label;

/// Labels, or variables, that one request may add.
const MOST: usize = 64;
/// Longest value of a label, and longest name.
const LONGEST_LABEL: usize = 256;
/// Longest name of a time zone; the longest there is has 32 characters.
const LONGEST_ZONE: usize = 64;
/// The label that the reference's clients put on the engine that they start for a stream.
const STREAM_ID: &str = "stream_id";
/// Begins the names of labels that mean what an operator wants. No other program reads labels of this name.
const USER_PREFIX: &str = "io.acemux.user.";

/// Most bytes of an engine's memory cache for others' pieces.
const LARGEST_STORE: u64 = 16 << 30;

/// Who gives a variable to an engine.
#[derive(Clone, Copy)]
enum Giver {
    /// The fleet alone: another value, and the engine is not where it is looked for, or open to everybody.
    Fleet,
    /// An operator may.
    Anybody(Accepts),
}

/// Which values a variable may have.
#[derive(Clone, Copy)]
enum Accepts {
    /// A whole number, both ends included.
    Whole(u64, u64),
    /// What the open engine takes for a truth value.
    Truth,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A time zone by its name: a text with a colon in front is the path of a file.
    Zone,
}

/// Every variable that an engine may have, by the names that the families of images gave them.
const VARIABLES: [(&str, Giver); 25] = [
    ("TZ", Giver::Anybody(Accepts::Zone)),
    // krinkuto11's image.
    ("CACHE_LIMIT", Giver::Anybody(Accepts::Whole(1, 1024))),
    ("INTERNAL_BUFFERING", Giver::Anybody(Accepts::Whole(0, 3600))),
    ("CONF", Giver::Fleet),
    ("HTTP_PORT", Giver::Fleet),
    ("HTTPS_PORT", Giver::Fleet),
    ("BIND_ALL", Giver::Fleet),
    ("P2P_PORT", Giver::Fleet),
    // jopsis' and martinbjeldbak's.
    ("ACESTREAM_ARGS", Giver::Fleet),
    ("EXTRA_FLAGS", Giver::Fleet),
    ("ALLOW_REMOTE_ACCESS", Giver::Fleet),
    // The open engine's. Its addresses, proxies and folders are not an operator's choice for one engine.
    ("OUTPACE_CACHE_TYPE", Giver::Anybody(Accepts::OneOf(&["memory", "disk"]))),
    ("OUTPACE_ENABLE_SEEDING", Giver::Anybody(Accepts::Truth)),
    ("OUTPACE_PREBUFFER_MS", Giver::Anybody(Accepts::Whole(0, 30_000))),
    ("OUTPACE_PREFETCH_PIECES", Giver::Anybody(Accepts::Whole(0, 1024))),
    ("OUTPACE_SEED_STORE_BYTES", Giver::Anybody(Accepts::Whole(0, LARGEST_STORE))),
    ("OUTPACE_BIND", Giver::Fleet),
    ("OUTPACE_PEER_LISTEN", Giver::Fleet),
    ("OUTPACE_ENABLE_INBOUND", Giver::Fleet),
    ("OUTPACE_RTMP_BIND", Giver::Fleet),
    ("OUTPACE_ACE_COMPAT", Giver::Fleet),
    ("OUTPACE_EXPERIMENTAL_ACE_COMPAT", Giver::Fleet),
    ("OUTPACE_PROXY", Giver::Fleet),
    ("OUTPACE_PROXY_MODE", Giver::Fleet),
    ("OUTPACE_ENABLE_PORT_MAPPING", Giver::Fleet),
];

/// Why something is not given to an engine. Says what is accepted in which field, and nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No engine gets a variable of this name.
    #[error("env accepts {}", anybodys())]
    Variable,
    /// The fleet gives it.
    #[error("env: {name} is chosen by the fleet for each engine; host_port chooses an engine's port")]
    Ours {
        /// Its name.
        name: &'static str,
    },
    /// The value does not fit.
    #[error("env: {name} accepts {accepted}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What would do.
        accepted: String,
    },
    /// Another program may read a label of this name, or its value is no plain line.
    #[error(
        "labels accepts {STREAM_ID} and {USER_PREFIX}<name>, with letters, digits, dots, dashes and underscores in \
         the name, and one line of at most {LONGEST_LABEL} characters as value"
    )]
    Label,
    /// Too much at once.
    #[error("{field} accepts at most {MOST} entries")]
    TooMany {
        /// Of which field.
        field: &'static str,
    },
    /// Not a port for engines.
    #[error("host_port accepts a port of PORT_RANGE_HOST, which is {first}-{last}")]
    Port {
        /// The lowest of them.
        first: u16,
        /// The highest.
        last: u16,
    },
    /// Another image than the one in force.
    #[error(
        "image accepts only the one that engines are made from: ENGINE_IMAGE and ENGINE_VARIANT choose it"
    )]
    Image,
}

/// A variable that an engine may have.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Out of the list.
    name: &'static str,
    value: String,
}

/// The only one that may hold a password.
const PROXY: &str = "OUTPACE_PROXY";

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.name == PROXY { "***" } else { &self.value };
        f.debug_struct("Variable").field("name", &self.name).field("value", &value).finish()
    }
}

/// The labels of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

/// `CONTAINER_LABEL`: the label that an operator puts on every engine, of any name that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorLabel {
    name: String,
    value: String,
}

/// `CONTAINER_LABEL` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key=value is expected, one line, and none of the labels that the fleet gives")]
pub struct InvalidLabel;

/// The ports of the host that engines may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts(RangeInclusive<u16>);

/// One of [`HostPorts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort(u16);

/// What somebody asks to have added to one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// The port it must have; 0 is as good as none.
    pub port: Option<u16>,
    /// The image it must be made from.
    pub image: Option<String>,
}

/// What is added to one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    pub(crate) labels: Labels,
    pub(crate) env: Vec<Variable>,
    pub(crate) port: Option<HostPort>,
}

impl Asked {
    /// The one door for what is asked for. `ports` are those of the host for engines, `image` is what they are made from.
    pub fn check(self, ports: &HostPorts, image: &str) -> Result<Extra, Refused> {
        for (field, entries) in [("env", self.env.len()), ("labels", self.labels.len())] {
            if entries > MOST {
                return Err(Refused::TooMany { field });
            }
        }
        if self.image.is_some_and(|asked| asked != image) {
            return Err(Refused::Image);
        }
        let port = self.port.filter(|port| *port != 0).map(|port| ports.port(port)).transpose()?;
        let env =
            self.env.iter().map(|(name, value)| Variable::asked(name, value)).collect::<Result<_, _>>()?;
        let mut labels = Labels::default();
        for (name, value) in self.labels {
            labels.ask(name, value)?;
        }
        Ok(Extra { labels, env, port })
    }
}

impl Variable {
    /// One that the fleet gives. Its name stands in the list.
    pub(crate) fn ours(name: &'static str, value: impl Into<String>) -> Self {
        debug_assert!(giver(name).is_some(), "{name} is in no family's list");
        Self { name, value: value.into() }
    }

    /// One that an operator asks for.
    fn asked(name: &str, value: &str) -> Result<Self, Refused> {
        let (name, giver) = giver(name).ok_or(Refused::Variable)?;
        let Giver::Anybody(accepts) = giver else { return Err(Refused::Ours { name }) };
        if !accepts.takes(value) {
            return Err(Refused::Value { name, accepted: accepts.to_string() });
        }
        Ok(Self { name, value: value.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// As a container has it.
impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Labels {
    fn ask(&mut self, name: String, value: String) -> Result<(), Refused> {
        let own = name.strip_prefix(USER_PREFIX);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = |own: &str| !own.is_empty() && own.len() <= LONGEST_LABEL && own.chars().all(is_plain);
        if !(name == STREAM_ID || own.is_some_and(is_name)) || !is_line(&value) {
            return Err(Refused::Label);
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// One of [`label`]'s.
    pub(crate) fn put(&mut self, name: &'static str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// `CONTAINER_LABEL`.
    pub(crate) fn put_operators(&mut self, OperatorLabel { name, value }: &OperatorLabel) {
        self.0.insert(name.clone(), value.clone());
    }
}

impl Deref for Labels {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The reference's.
impl Default for OperatorLabel {
    fn default() -> Self {
        Self { name: "orchestrator.managed".to_owned(), value: "acestream".to_owned() }
    }
}

impl fmt::Display for OperatorLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl FromStr for OperatorLabel {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let (name, value) = text.split_once('=').ok_or(InvalidLabel)?;
        let is_name = !name.is_empty() && !name.contains(char::is_whitespace) && is_line(name);
        if is_name && !label::is_ours(name) && !value.contains('=') && is_line(value) {
            Ok(Self { name: name.to_owned(), value: value.to_owned() })
        } else {
            Err(InvalidLabel)
        }
    }
}

impl HostPorts {
    /// These.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        Self(range)
    }

    /// All of them.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }

    /// This one, if it is one of them.
    pub fn port(&self, port: u16) -> Result<HostPort, Refused> {
        let (first, last) = (*self.0.start(), *self.0.end());
        self.0.contains(&port).then_some(HostPort(port)).ok_or(Refused::Port { first, last })
    }

    /// The one at this place; beyond the last it begins anew with the first.
    pub(crate) fn at(&self, place: u16) -> HostPort {
        let (first, last) = (*self.0.start(), *self.0.end());
        let after = u32::from(last.saturating_sub(first)) + 1;
        let offset = u16::try_from(u32::from(place) % after).unwrap_or_default();
        HostPort(first + offset)
    }
}

impl HostPort {
    /// Stands for any port where it does not matter which.
    pub(crate) const ANY: Self = Self(0);

    /// Its number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Accepts {
    fn takes(self, value: &str) -> bool {
        match self {
            Self::Whole(from, to) => {
                let is_number = !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit());
                is_number && value.parse().is_ok_and(|number: u64| (from..=to).contains(&number))
            }
            Self::Truth => matches!(value, "0" | "1" | "true" | "false"),
            Self::OneOf(words) => words.contains(&value),
            Self::Zone => is_zone(value),
        }
    }
}

impl fmt::Display for Accepts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(from, to) => write!(f, "a whole number from {from} to {to}"),
            Self::Truth => f.write_str("0, 1, true or false"),
            Self::OneOf(words) => f.write_str(&words.join(" or ")),
            Self::Zone => f.write_str("the name of a time zone, like Europe/Madrid"),
        }
    }
}

/// `Europe/Madrid`, `UTC`, `Etc/GMT+1`: never a path of its own.
fn is_zone(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    begins && text.len() <= LONGEST_ZONE && text.chars().all(is_plain)
}

/// One line that steers no terminal and turns no text around.
pub(crate) fn is_line(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && text::is_plain(text)
}

fn giver(name: &str) -> Option<(&'static str, Giver)> {
    VARIABLES.iter().find(|(listed, _)| *listed == name).copied()
}

/// The names that an operator may use, for people.
fn anybodys() -> String {
    let names = VARIABLES.iter().filter(|(_, giver)| matches!(giver, Giver::Anybody(_)));
    names.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "acemux-sim:fast";

    fn check(asked: Asked) -> Result<Extra, Refused> {
        asked.check(&HostPorts::new(19_000..=19_999), IMAGE)
    }

    fn env(name: &str, value: &str) -> Result<Extra, Refused> {
        check(Asked { env: [(name.to_owned(), value.to_owned())].into(), ..Asked::default() })
    }

    fn labelled(name: &str, value: &str) -> Result<Extra, Refused> {
        check(Asked { labels: [(name.to_owned(), value.to_owned())].into(), ..Asked::default() })
    }

    #[test]
    fn variables_that_change_what_programs_do_are_refused_whatever_their_case() {
        for name in [
            "PATH",
            "HOME",
            "http_proxy",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "no_proxy",
            "BASH_ENV",
            "ENV",
            "SHELLOPTS",
            "PS4",
            "IFS",
            "GLIBC_TUNABLES",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "MALLOC_CONF",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "SSL_CERT_FILE",
            "LIVE_BUFFER",
            "OUTPACE_DATA_DIR",
            "OUTPACE_TRACKERS",
            "OUTPACE_ACE_PEERS",
            "cache_limit",
            "CACHE_LIMIT ",
            "TZ\u{0}",
            "A=B",
            "",
        ] {
            assert_eq!(env(name, "1"), Err(Refused::Variable), "{name}");
        }
    }

    #[test]
    fn what_the_fleet_chooses_is_refused_and_named() {
        for name in [
            "CONF",
            "HTTP_PORT",
            "BIND_ALL",
            "ACESTREAM_ARGS",
            "EXTRA_FLAGS",
            "OUTPACE_BIND",
            "OUTPACE_PROXY",
        ] {
            assert_eq!(env(name, "1"), Err(Refused::Ours { name }));
        }
    }

    #[test]
    fn what_families_let_an_operator_choose_is_accepted_in_its_range() {
        for (name, fine, wrong) in [
            ("TZ", "Europe/Madrid", ["", ":/etc/passwd", "/etc/passwd", "../x", "UTC\n"].as_slice()),
            ("TZ", "Etc/GMT+1", &["Etc/GMT 1"]),
            (
                "CACHE_LIMIT",
                "1024",
                &["0", "1025", "-1", "+1", "1.5", "1G", " 1", "", "18446744073709551617"],
            ),
            ("INTERNAL_BUFFERING", "60", &["3601", "x"]),
            ("OUTPACE_CACHE_TYPE", "disk", &["Disk", "memory,disk", "disk\n--evil"]),
            ("OUTPACE_ENABLE_SEEDING", "false", &["off", "2"]),
            ("OUTPACE_PREFETCH_PIECES", "64", &["1025"]),
            ("OUTPACE_SEED_STORE_BYTES", "134217728", &["17179869185"]),
        ] {
            let extra = env(name, fine).unwrap();
            assert_eq!(extra.env[0].to_string(), format!("{name}={fine}"));
            for wrong in wrong {
                assert!(matches!(env(name, wrong), Err(Refused::Value { .. })), "{name}={wrong:?}");
            }
        }
    }

    #[test]
    fn labels_that_other_programs_obey_are_refused() {
        for name in [
            "traefik.enable",
            "traefik.http.routers.x.rule",
            "com.docker.compose.project",
            "com.docker.swarm.service.name",
            "com.centurylinklabs.watchtower.enable",
            "caddy",
            "autoheal",
            "io.acemux.instance",
            "io.acemux.user.",
            "io.acemux.user.a b",
            "io.acemux.user.é",
            "io.acemux.users.a",
            "acestream.forwarded",
            "host.http_port",
            "orchestrator.managed",
            "Stream_id",
            "",
        ] {
            assert_eq!(labelled(name, "x"), Err(Refused::Label), "{name}");
        }
        for value in ["a\nb", "a\u{0}", "\u{202e}txt", "\u{1b}[31m", &"x".repeat(257)] {
            assert_eq!(labelled("stream_id", value), Err(Refused::Label), "{value:?}");
        }
        for (name, value) in [("stream_id", "ch-42"), ("io.acemux.user.room", "Größe 1, blue")] {
            assert_eq!(labelled(name, value).unwrap().labels[name], value);
        }
    }

    #[test]
    fn a_port_is_one_of_the_range_and_an_image_the_one_in_force() {
        let port = |port| check(Asked { port: Some(port), ..Asked::default() });
        for wrong in [1, 22, 80, 8000, 18_999, 20_000, u16::MAX] {
            assert_eq!(port(wrong), Err(Refused::Port { first: 19_000, last: 19_999 }), "{wrong}");
        }
        assert_eq!(port(19_000).unwrap().port.map(HostPort::get), Some(19_000));
        assert_eq!(port(19_999).unwrap().port.map(HostPort::get), Some(19_999));
        assert_eq!(port(0).unwrap().port, None);
        let image = |image: &str| check(Asked { image: Some(image.into()), ..Asked::default() });
        assert!(image(IMAGE).is_ok());
        for wrong in ["evil/image", "acemux-sim", "", "--privileged"] {
            assert_eq!(image(wrong), Err(Refused::Image), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_added_in_masses() {
        let many = |name: &str| (0..=MOST).map(|at| (format!("{name}{at}"), String::new())).collect();
        let labels = check(Asked { labels: many("io.acemux.user."), ..Asked::default() });
        assert_eq!(labels, Err(Refused::TooMany { field: "labels" }));
        let env = check(Asked { env: many("TZ"), ..Asked::default() });
        assert_eq!(env, Err(Refused::TooMany { field: "env" }));
    }

    #[test]
    fn a_refusal_names_the_field_and_what_is_allowed_within_the_200_characters_of_a_problem() {
        let refusals = [
            (Refused::Variable, "CACHE_LIMIT"),
            (Refused::Ours { name: "OUTPACE_EXPERIMENTAL_ACE_COMPAT" }, "OUTPACE_EXPERIMENTAL_ACE_COMPAT"),
            (Refused::Label, "stream_id"),
            (Refused::TooMany { field: "labels" }, "64"),
            (Refused::Port { first: 19_000, last: 19_999 }, "PORT_RANGE_HOST, which is 19000-19999"),
            (Refused::Image, "ENGINE_IMAGE"),
        ];
        for (refused, allowed) in refusals {
            let text = refused.to_string();
            assert!(text.contains(allowed) && text.chars().count() <= 200, "{text}");
        }
    }

    #[test]
    fn the_operators_label_is_one_line_of_a_name_that_is_not_ours() {
        let default = OperatorLabel::default();
        assert_eq!(default.to_string().parse(), Ok(default));
        assert!("a=".parse::<OperatorLabel>().is_ok());
        for wrong in [
            "a=b\nc=d",
            "a\n=b",
            "a b=c",
            "a=\u{202e}b",
            "a=b\u{0}",
            "=b",
            "a",
            "a=b=c",
            "io.acemux.instance=x",
            "acestream.http_port=1",
            "host.http_port=1",
        ] {
            assert_eq!(wrong.parse::<OperatorLabel>(), Err(InvalidLabel), "{wrong:?}");
        }
    }

    #[test]
    fn a_place_in_a_range_is_always_one_of_its_ports() {
        let ports = HostPorts::new(45_000..=45_002);
        let got: Vec<u16> = [0, 1, 2, 3, u16::MAX].map(|place| ports.at(place).get()).into();
        assert_eq!(got, [45_000, 45_001, 45_002, 45_000, 45_000]);
        assert_eq!(HostPorts::new(1..=u16::MAX).at(u16::MAX).get(), 1);
    }
}
