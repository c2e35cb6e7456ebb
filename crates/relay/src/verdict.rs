//! How a stream or a viewer is, in one word, and the figure that says so. Pure: snapshots in, a verdict out.

use std::fmt;
use std::time::Duration;

use acemux_media::clock::Bitrate;

use crate::origin::Stage;
use crate::session::gap::Cause;
use crate::session::{Phase, SessionSnapshot};
use crate::viewer::ViewerSnapshot;

/// A swarm with fewer peers is thin when media comes too slowly.
const FEW_PEERS: u64 = 3;
/// A viewer so far behind what a joiner begins with has not kept up.
const BEHIND: Duration = Duration::from_secs(5);

/// What is known outside the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// The way out to the world of the stream's source does not work.
    pub vpn_is_down: bool,
}

/// How it is, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Media comes as fast as it plays.
    Smooth {
        /// What there still is to play; `None` of a recording.
        runway: Option<Duration>,
    },
    /// No media has come yet.
    Starting {
        /// What is waited for.
        stage: Stage,
        /// Since the first viewer asked.
        waited: Duration,
    },
    /// Another source is wanted or the same one again.
    Healing {
        /// Why.
        cause: Cause,
        /// For how long.
        lasting: Duration,
    },
    /// Media comes too slowly, and the swarm gives the source no more.
    ThinSwarm {
        /// Its peers, if they are known.
        peers: Option<u64>,
        /// What there still is to play.
        runway: Duration,
    },
    /// Media comes too slowly, though the swarm gives enough or says nothing.
    EngineSlow {
        /// How fast it comes.
        arriving: Option<Bitrate>,
        /// What there still is to play.
        runway: Duration,
    },
    /// The source has no way out to the world, and that shows.
    VpnDown,
    /// Media comes, and this viewer does not take it.
    ViewerBehind {
        /// How far it is behind the newest.
        behind: Duration,
    },
}

impl Verdict {
    /// The word, on pages and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Smooth { .. } => "smooth",
            Self::Starting { .. } => "starting",
            Self::Healing { .. } => "healing",
            Self::ThinSwarm { .. } => "thin_swarm",
            Self::EngineSlow { .. } => "engine_slow",
            Self::VpnDown => "vpn_down",
            Self::ViewerBehind { .. } => "viewer_behind",
        }
    }

    /// Of a stream.
    pub fn of_stream(session: &SessionSnapshot, outside: Outside) -> Self {
        let runway = session.runway;
        let short = runway.filter(|runway| *runway * 2 < session.full_runway);
        let is_troubled = session.phase != Phase::Live || session.gap.is_some() || short.is_some();
        if outside.vpn_is_down && is_troubled {
            return Self::VpnDown;
        }
        match (&session.phase, session.gap, short) {
            (Phase::Opening, ..) => Self::Starting { stage: session.stage, waited: session.age },
            (_, Some((cause, lasting)), _) => Self::Healing { cause, lasting },
            (_, None, Some(runway)) => too_slow(session, runway),
            (_, None, None) => Self::Smooth { runway },
        }
    }

    /// Of one of its viewers. What is wrong with the stream is wrong for all of them.
    pub fn of_viewer(viewer: &ViewerSnapshot, session: &SessionSnapshot, outside: Outside) -> Self {
        let stream = Self::of_stream(session, outside);
        let behind = viewer.reached.map_or(Duration::ZERO, |reached| session.media.saturating_sub(reached));
        let is_behind = behind > session.full_runway + BEHIND;
        if is_behind && matches!(stream, Self::Smooth { .. }) {
            Self::ViewerBehind { behind }
        } else {
            stream
        }
    }
}

/// The swarm is to blame when its speed or its peers say so.
fn too_slow(session: &SessionSnapshot, runway: Duration) -> Verdict {
    let stats = session.stats.as_ref();
    let peers = stats.and_then(|stats| stats.peers);
    let speed = stats.and_then(|stats| stats.speed_down).map(|kib| kib.saturating_mul(1024 * 8));
    let starved = speed.zip(session.bitrate).is_some_and(|(speed, needed)| speed < needed.get());
    if starved || peers.is_some_and(|peers| peers < FEW_PEERS) {
        Verdict::ThinSwarm { peers, runway }
    } else {
        Verdict::EngineSlow { arriving: session.arriving, runway }
    }
}

impl fmt::Display for Verdict {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smooth { runway: None } => f.write_str("it plays"),
            Self::Smooth { runway: Some(runway) } => write!(f, "{:.1} s in reserve", runway.as_secs_f32()),
            Self::Starting { stage, waited } => {
                write!(f, "at stage {} after {:.1} s", stage.as_str(), waited.as_secs_f32())
            }
            Self::Healing { cause, lasting } => {
                write!(f, "{cause:?} source, for {:.1} s", lasting.as_secs_f32())
            }
            Self::ThinSwarm { peers: None, runway } => {
                write!(f, "the swarm is slower than the stream, {:.1} s in reserve", runway.as_secs_f32())
            }
            Self::ThinSwarm { peers: Some(peers), runway } => {
                write!(f, "{peers} peers, {:.1} s in reserve", runway.as_secs_f32())
            }
            Self::EngineSlow { arriving, runway } => {
                let rate = arriving.map_or(0, Bitrate::get);
                write!(f, "{rate} bit/s arrive, {:.1} s in reserve", runway.as_secs_f32())
            }
            Self::VpnDown => f.write_str("its engine's VPN is down"),
            Self::ViewerBehind { behind } => write!(f, "{:.1} s behind", behind.as_secs_f32()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jiff::Timestamp;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::StreamKey;
    use crate::line::Line;
    use crate::origin::SourceStats;
    use crate::ring::{Ring, RingLimits};
    use crate::session::Shared;
    use crate::viewer::{ViewerId, ViewerInfo};

    const SECOND: Duration = Duration::from_secs(1);

    /// One that plays well.
    fn session() -> SessionSnapshot {
        let (_producer, ring) = Ring::new(RingLimits { media: SECOND, bytes: 1 });
        let info = ViewerInfo {
            address: Ipv4Addr::LOCALHOST.into(),
            user_agent: String::new(),
            label: "x".into(),
            line: Line::default(),
        };
        let key = StreamKey::new("x");
        let shared = Shared::new(key, &info, Instant::now(), ring, mpsc::channel(1).0, 4 * SECOND);
        let snapshot = shared.snapshot();
        let rate = Some(Bitrate::new(8_192_000));
        let (runway, media) = (Some(4 * SECOND), 60 * SECOND);
        SessionSnapshot { phase: Phase::Live, runway, media, bitrate: rate, arriving: rate, ..snapshot }
    }

    fn stats(peers: u64, speed_down: u64) -> SourceStats {
        SourceStats { peers: Some(peers), speed_down: Some(speed_down), ..SourceStats::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_word_has_the_figure_that_says_so() {
        let (up, down) = (Outside::default(), Outside { vpn_is_down: true });
        let well = session();
        let opening = SessionSnapshot {
            phase: Phase::Opening,
            stage: Stage::Call,
            age: 3 * SECOND,
            runway: None,
            ..well.clone()
        };
        let gap = SessionSnapshot { gap: Some((Cause::Silent, 6 * SECOND)), ..well.clone() };
        let short = SessionSnapshot { runway: Some(SECOND), stats: Some(stats(20, 1_000)), ..well.clone() };
        let slower = SessionSnapshot { stats: Some(stats(20, 999)), ..short.clone() };
        let lonely = SessionSnapshot { stats: Some(stats(2, 5_000)), ..short.clone() };
        let mute = SessionSnapshot { stats: None, ..short.clone() };
        let half = SessionSnapshot { runway: Some(2 * SECOND), ..well.clone() };
        for (session, outside, word, figure) in [
            (&well, up, "smooth", "4.0 s in reserve"),
            (&well, down, "smooth", "4.0 s in reserve"),
            (&half, up, "smooth", "2.0 s in reserve"),
            (&opening, up, "starting", "at stage call after 3.0 s"),
            (&opening, down, "vpn_down", "its engine's VPN is down"),
            (&gap, up, "healing", "Silent source, for 6.0 s"),
            (&gap, down, "vpn_down", "its engine's VPN is down"),
            (&short, up, "engine_slow", "8192000 bit/s arrive, 1.0 s in reserve"),
            (&mute, up, "engine_slow", "8192000 bit/s arrive, 1.0 s in reserve"),
            (&slower, up, "thin_swarm", "20 peers, 1.0 s in reserve"),
            (&lonely, up, "thin_swarm", "2 peers, 1.0 s in reserve"),
            (&short, down, "vpn_down", "its engine's VPN is down"),
        ] {
            let verdict = Verdict::of_stream(session, outside);
            assert_eq!((verdict.as_str(), verdict.to_string().as_str()), (word, figure));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_is_behind_by_itself_only_when_its_stream_is_well() {
        let well = session();
        let gap = SessionSnapshot { gap: Some((Cause::Lost, SECOND)), ..well.clone() };
        for (session, reached, word) in [
            (&well, None, "smooth"),
            (&well, Some(51 * SECOND), "smooth"),
            (&well, Some(50 * SECOND), "viewer_behind"),
            (&gap, Some(10 * SECOND), "healing"),
        ] {
            let viewer = ViewerSnapshot {
                id: ViewerId(1),
                address: Ipv4Addr::LOCALHOST.into(),
                user_agent: String::new(),
                since: Timestamp::UNIX_EPOCH,
                playing: true,
                bytes: 0,
                skips: 0,
                skipped_bytes: 0,
                lag_chunks: 0,
                reached,
                first_byte_ms: None,
            };
            assert_eq!(Verdict::of_viewer(&viewer, session, Outside::default()).as_str(), word);
        }
    }
}
