//! How a simulated engine is set up: addresses, manners and latencies. Pure values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channel::ChannelKind;
use crate::fault::{Framing, Rule};
use crate::identity::ContentHash;
use crate::ledger::Ledger;
use crate::proxy::SocksProxy;

/// Everything a simulated engine is told at its start. The default answers on a free loopback port, at the pace of a real
/// engine, with the H.264 channel behind every content id.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Name of this engine in the ledger; empty: its address.
    pub name: String,
    /// The engine port (real engines: 6878). Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The control port, which real engines do not have. Port 0 takes a free one.
    pub control: SocketAddr,
    /// How long everything takes.
    pub timing: Timing,
    /// Which engine it pretends to be.
    pub dialect: Dialect,
    /// The version it reports; `None`: the one of its dialect that was measured. 3.1 engines are also recognised by their
    /// `Server` header.
    pub version: Option<EngineVersion>,
    /// What a content id plays that neither `channels` nor the well-known ids say anything about.
    pub default_channel: ChannelKind,
    /// What given contents play (content ids or infohashes).
    pub channels: Vec<(ContentHash, ChannelKind)>,
    /// How large the pieces of a swarm are that `piece_sizes` says nothing about.
    pub piece_size: PieceSize,
    /// How large the pieces of given contents are (content ids or infohashes).
    pub piece_sizes: Vec<(ContentHash, PieceSize)>,
    /// How much already broadcast media a reader gets at once, before real time. From the open engine only the first reader
    /// of a download gets it (its `OUTPACE_PREFETCH_PIECES`).
    pub burst: Duration,
    /// How long the open engine holds the first media of a download back (its `OUTPACE_PREBUFFER_MS`); the closed one waits
    /// for [`Timing::prebuffer`] instead.
    pub prebuffer: Duration,
    /// After this long the open engine lets go of what it has, however little (its `OUTPACE_PREBUFFER_TIMEOUT_MS`).
    pub prebuffer_timeout: Duration,
    /// How far this engine is behind the swarm's live edge. Two engines of one swarm rarely agree on it.
    pub swarm_lag: Duration,
    /// How the end of a media body is told, unless a fault says otherwise. The open engine's are always chunked.
    pub framing: Framing,
    /// Script port of the simulated gluetun whose tunnel it depends on: while that is down, or gone, the engine is
    /// [offline](crate::Fault::Offline).
    pub tunnel: Option<SocketAddr>,
    /// The proxy that it reaches its swarm through (its `OUTPACE_PROXY` with `OUTPACE_PROXY_MODE=on`), and not at all without it.
    pub proxy: Option<SocksProxy>,
    /// Faults present from the first moment.
    pub faults: Vec<Rule>,
    /// A ledger to write into, shared between engines; without one the engine keeps its own.
    pub ledger: Option<Ledger>,
}

impl Default for SimOptions {
    fn default() -> Self {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            name: String::new(),
            listen: loopback,
            control: loopback,
            timing: Timing::real(),
            dialect: Dialect::AceStream,
            version: None,
            default_channel: ChannelKind::H264,
            channels: Vec::new(),
            piece_size: PieceSize::Mib1,
            piece_sizes: Vec::new(),
            burst: Duration::from_secs(10),
            prebuffer: Duration::from_secs(30),
            prebuffer_timeout: Duration::from_secs(15),
            swarm_lag: Duration::ZERO,
            framing: Framing::Close,
            tunnel: None,
            proxy: None,
            faults: Vec::new(),
            ledger: None,
        }
    }
}

impl SimOptions {
    /// For tests: everything within milliseconds, verifiable packets behind every content id.
    pub fn fast() -> Self {
        Self {
            timing: Timing::fast(),
            default_channel: ChannelKind::VERIFY,
            prebuffer: Duration::ZERO,
            ..Self::default()
        }
    }

    /// The version it reports.
    pub fn version(&self) -> EngineVersion {
        self.version.unwrap_or(self.dialect.measured())
    }

    /// The version code beside it, by the dialect's rule: 3.2.11 is 3021100 for the closed engine, 0.2.0 is 200 for the open
    /// one.
    pub fn version_code(&self) -> u32 {
        let EngineVersion { major, minor, patch } = self.version();
        match self.dialect {
            Dialect::AceStream => self.version().code(),
            Dialect::Outpace => major * 10_000 + minor * 100 + patch,
        }
    }

    /// How long after it was opened a download of the open engine gives out its first byte.
    pub(crate) fn held(&self) -> Duration {
        self.prebuffer.min(self.prebuffer_timeout)
    }
}

/// The engines that can be imitated. Written `acestream` or `outpace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The closed engine: redirects, one reader, superseded sessions.
    #[default]
    AceStream,
    /// The open engine `outpace`: streams without redirects, many readers, terse stat, and a content id plays where its
    /// infohash may not.
    Outpace,
}

impl Dialect {
    /// The version of the engine whose behaviour was measured.
    fn measured(self) -> EngineVersion {
        match self {
            Self::AceStream => EngineVersion { major: 3, minor: 2, patch: 11 },
            Self::Outpace => EngineVersion { major: 0, minor: 2, patch: 0 },
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AceStream => "acestream",
            Self::Outpace => "outpace",
        })
    }
}

impl FromStr for Dialect {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        named(text, &[Self::AceStream, Self::Outpace])
    }
}

/// How large the pieces of a swarm are. Written `1m` or `64k`.
///
/// The closed engine reads it from the swarm. The open one reads it from the descriptor behind a content id and takes 1 MiB
/// for granted when it is given an infohash: it then downloads pieces of 64 KiB for ever and understands none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PieceSize {
    /// 1 MiB.
    #[default]
    Mib1,
    /// 64 KiB, what the open engine's own broadcasts have.
    Kib64,
}

impl PieceSize {
    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Mib1 => 1024 * 1024,
            Self::Kib64 => 64 * 1024,
        }
    }
}

impl fmt::Display for PieceSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mib1 => "1m",
            Self::Kib64 => "64k",
        })
    }
}

impl FromStr for PieceSize {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        named(text, &[Self::Mib1, Self::Kib64])
    }
}

impl TryFrom<String> for PieceSize {
    type Error = UnknownOption;

    fn try_from(text: String) -> Result<Self, UnknownOption> {
        text.parse()
    }
}

impl From<PieceSize> for String {
    fn from(size: PieceSize) -> Self {
        size.to_string()
    }
}

/// The text is none of the words that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} is none of {allowed}")]
pub struct UnknownOption {
    text: String,
    allowed: String,
}

/// The one of `all` that is written like this.
pub(crate) fn named<T: Copy + fmt::Display>(text: &str, all: &[T]) -> Result<T, UnknownOption> {
    all.iter().find(|one| one.to_string() == text).copied().ok_or_else(|| UnknownOption {
        text: text.to_owned(),
        allowed: all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    })
}

/// Latencies. Those of [`Timing::real`] were measured on real engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A start, or a look-up, of content that loads.
    pub load: Duration,
    /// Until `id=` of something that is no content id fails.
    pub unknown_id: Duration,
    /// Until `infohash=` of something unknown fails.
    pub unknown_infohash: Duration,
    /// Until `get_media_files` gives up.
    pub unknown_transport: Duration,
    /// How long after a start the first stat reply may be `{}`.
    pub stat_empty: Duration,
    /// How long after a start stat says `idle`.
    pub stat_idle: Duration,
    /// From the start until media is there: stat says `prebuf`, a reader gets no header.
    pub prebuffer: Duration,
    /// Until a playback that cannot start is answered with 500.
    pub start_timeout: Duration,
    /// How long the socket stays open after a redirect whose body has no length.
    pub redirect_linger: Duration,
    /// How long a session outlives its reader.
    pub reader_gone: Duration,
    /// How long a session lives that was never read.
    pub unread: Duration,
    /// Until the open engine's catalogue of content ids answers.
    pub catalogue: Duration,
    /// Until it is given up because it does not.
    pub catalogue_hangs: Duration,
    /// Until the open engine has found that nobody has a content.
    pub no_peers: Duration,
    /// Until the open engine gives a playlist up that has no segment.
    pub playlist: Duration,
    /// How long the open engine goes on downloading what nobody reads any more.
    pub linger: Duration,
    /// How long a playback of the open engine lives, read or not.
    pub lease: Duration,
    /// How long the open engine, told to end, streams on to its readers at most. `acemux sim engine` alone does.
    pub drain: Duration,
}

impl Timing {
    /// As real engines.
    pub const fn real() -> Self {
        Self {
            load: Duration::from_millis(500),
            unknown_id: Duration::from_millis(4_600),
            unknown_infohash: Duration::from_secs(28),
            unknown_transport: Duration::from_millis(4_700),
            stat_empty: Duration::from_millis(300),
            stat_idle: Duration::from_secs(1),
            prebuffer: Duration::from_secs(3),
            start_timeout: Duration::from_secs(7),
            redirect_linger: Duration::from_secs(2),
            reader_gone: Duration::from_secs(15),
            unread: Duration::from_mins(1),
            catalogue: Duration::from_millis(250),
            catalogue_hangs: Duration::from_secs(16),
            no_peers: Duration::from_secs(10),
            playlist: Duration::from_secs(45),
            linger: Duration::from_secs(28),
            lease: Duration::from_hours(6),
            drain: Duration::from_secs(15),
        }
    }

    /// For tests: the same order of events within milliseconds.
    pub const fn fast() -> Self {
        Self {
            load: Duration::from_millis(3),
            unknown_id: Duration::from_millis(20),
            unknown_infohash: Duration::from_millis(60),
            unknown_transport: Duration::from_millis(20),
            stat_empty: Duration::from_millis(2),
            stat_idle: Duration::from_millis(5),
            prebuffer: Duration::from_millis(15),
            start_timeout: Duration::from_millis(40),
            redirect_linger: Duration::from_millis(200),
            reader_gone: Duration::from_secs(1),
            unread: Duration::from_secs(3),
            catalogue: Duration::from_millis(3),
            catalogue_hangs: Duration::from_millis(80),
            no_peers: Duration::from_millis(60),
            playlist: Duration::from_millis(60),
            linger: Duration::from_millis(400),
            lease: Duration::from_hours(6),
            drain: Duration::from_secs(1),
        }
    }
}

/// A version as engines report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl EngineVersion {
    /// The version code beside the text: 3.2.11 is 3021100.
    pub fn code(self) -> u32 {
        self.major * 1_000_000 + self.minor * 10_000 + self.patch * 100
    }

    /// The `Server` header of engines of this version.
    pub(crate) fn server_header(self) -> &'static str {
        if (self.major, self.minor) < (3, 2) {
            "BaseHTTP/0.3 Python/2.7.13"
        } else {
            "BaseHTTP/0.6 Python/3.10.13"
        }
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an engine version is three numbers, such as 3.2.11")]
pub struct BadVersion;

impl FromStr for EngineVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let mut numbers = text.split('.').map(|part| part.parse().map_err(|_| BadVersion));
        let mut next = || numbers.next().ok_or(BadVersion)?;
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if numbers.next().is_some() { Err(BadVersion) } else { Ok(version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_codes_are_those_that_real_engines_report() {
        for (text, code) in
            [("3.1.32", 3_013_200), ("3.1.74", 3_017_400), ("3.2.3", 3_020_300), ("3.2.11", 3_021_100)]
        {
            let version: EngineVersion = text.parse().unwrap();
            assert_eq!((version.code(), version.to_string()), (code, text.to_owned()));
        }
        assert_eq!(SimOptions::default().version_code(), 3_021_100);
        assert!("3.2".parse::<EngineVersion>().is_err() && "3.2.11.1".parse::<EngineVersion>().is_err());
    }

    #[test]
    fn the_open_engine_counts_its_versions_in_other_steps() {
        let open = SimOptions { dialect: Dialect::Outpace, ..SimOptions::default() };
        assert_eq!((open.version().to_string().as_str(), open.version_code()), ("0.2.0", 200));
        let newer = SimOptions { version: Some("1.2.1".parse().unwrap()), ..open };
        assert_eq!((newer.version().to_string().as_str(), newer.version_code()), ("1.2.1", 10_201));
    }

    #[test]
    fn dialects_and_piece_sizes_are_read_as_they_are_written() {
        for dialect in [Dialect::AceStream, Dialect::Outpace] {
            assert_eq!(dialect.to_string().parse(), Ok(dialect));
        }
        for size in [PieceSize::Mib1, PieceSize::Kib64] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        let unknown = "2m".parse::<PieceSize>().unwrap_err().to_string();
        assert_eq!(unknown, "2m is none of 1m, 64k");
    }
}
