//! How a simulated engine is set up: addresses, manners and latencies. Pure values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::channel::ChannelKind;
use crate::fault::{Framing, Rule};
use crate::identity::ContentHash;
use crate::ledger::Ledger;

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
    /// The version it reports; 3.1 engines are also recognised by their `Server` header.
    pub version: EngineVersion,
    /// What a content id plays that neither `channels` nor the well-known ids say anything about.
    pub default_channel: ChannelKind,
    /// What given contents play (content ids or infohashes).
    pub channels: Vec<(ContentHash, ChannelKind)>,
    /// How much already broadcast media a reader gets at once, before real time.
    pub burst: Duration,
    /// How far this engine is behind the swarm's live edge. Two engines of one swarm rarely agree on it.
    pub swarm_lag: Duration,
    /// How the end of a media body is told, unless a fault says otherwise.
    pub framing: Framing,
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
            version: EngineVersion { major: 3, minor: 2, patch: 11 },
            default_channel: ChannelKind::H264,
            channels: Vec::new(),
            burst: Duration::from_secs(10),
            swarm_lag: Duration::ZERO,
            framing: Framing::Close,
            faults: Vec::new(),
            ledger: None,
        }
    }
}

impl SimOptions {
    /// For tests: everything within milliseconds, verifiable packets behind every content id.
    pub fn fast() -> Self {
        Self { timing: Timing::fast(), default_channel: ChannelKind::VERIFY, ..Self::default() }
    }
}

/// The engines that can be imitated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The closed engine: redirects, one reader, superseded sessions.
    #[default]
    AceStream,
    /// The open engine `outpace`: streams without redirects, many readers, terse stat.
    Outpace,
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
        assert!("3.2".parse::<EngineVersion>().is_err() && "3.2.11.1".parse::<EngineVersion>().is_err());
    }
}
