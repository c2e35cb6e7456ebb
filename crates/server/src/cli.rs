//! The command line: what was typed, and which function does it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use acemux_sim::gluetun::{Exit as TunnelExit, Generation, Role};
use acemux_sim::{ChannelKind, Dialect, EngineVersion, GluetunOptions, PieceSize, SimOptions, Timing};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Success,
    /// A check said no.
    Failed,
    /// The configuration or the command line cannot be used (`EX_USAGE`).
    Configuration,
    /// The address cannot be listened on (`EX_UNAVAILABLE`).
    CannotListen,
    /// A bug or a system that gives us nothing (`EX_SOFTWARE`).
    Internal,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Configuration => 64,
            Exit::CannotListen => 69,
            Exit::Internal => 70,
        })
    }
}

/// One URL per AceStream channel, for any number of players.
#[derive(Debug, Parser)]
// Flags before a subcommand would belong to nobody: they are refused, not dropped.
#[command(name = "acemux", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; the service when nothing is named.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of the service when nothing is named.
    #[command(flatten)]
    pub serve: ServeFlags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service
    Serve(ServeFlags),
    /// Run the service on two built-in simulated engines: everything works with nothing installed
    Demo {
        /// Port to listen on
        #[arg(long, default_value_t = 8000)]
        port: u16,
    },
    /// Look for what is wrong with this set-up, and say how to mend it
    Doctor {
        /// For programs
        #[arg(long)]
        json: bool,
        /// The service's flags
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// List or remove the engine containers of this instance, also when the service does not run
    Engines {
        /// What to do with them
        #[command(subcommand)]
        action: EnginesAction,
    },
    /// Check or print the settings
    Config {
        /// What to do with them
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the API key that is in force, and to standard error where it lies
    Key(ServeFlags),
    /// Print what the HTTP pages are, as OpenAPI
    Openapi,
    /// Ask the running service whether it lives; for container health checks
    Healthcheck(ServeFlags),
    /// Run a simulated engine alone
    Sim {
        /// What to simulate
        #[command(subcommand)]
        what: Sim,
    },
}

/// Flags of the service. What is written here wins over the environment and every file.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeFlags {
    /// Settings file instead of ./acemux.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on, or all
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Port to listen on
    #[arg(long)]
    port: Option<u16>,
    /// Engines that already run
    #[arg(long, value_name = "HOST:PORT,…")]
    engines: Option<String>,
}

impl ServeFlags {
    /// The flags as settings by name.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let port = self.port.map(|port| port.to_string());
        let all = [("APP_HOST", self.host.clone()), ("APP_PORT", port), ("ENGINES", self.engines.clone())];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Say whether they can be used; every mistake at once
    Check(ServeFlags),
    /// Print every setting with its value, where it comes from, and its default
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
        /// The service's flags
        #[command(flatten)]
        flags: ServeFlags,
    },
}

/// What to do with this instance's engines.
#[derive(Debug, Subcommand)]
pub enum EnginesAction {
    /// Print them
    List {
        /// For programs
        #[arg(long)]
        json: bool,
        /// The service's flags
        #[command(flatten)]
        flags: ServeFlags,
    },
    /// Remove those that have ended, those that are named, or all
    Remove {
        /// Names or ids; without any, and without --all, those that have ended
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Also those that run
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// The service's flags
        #[command(flatten)]
        flags: ServeFlags,
    },
}

/// What to simulate.
#[derive(Debug, Subcommand)]
pub enum Sim {
    /// An AceStream engine
    Engine(SimFlags),
    /// The control server of a gluetun VPN
    Gluetun(GluetunFlags),
}

/// How long a simulated engine takes for things.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SimTiming {
    /// As measured on real engines: half a second to load, three seconds to the first byte
    Real,
    /// Milliseconds
    Fast,
}

impl SimTiming {
    /// How long the open engine holds the first media back unless it is told.
    pub(crate) fn prebuffer(self) -> Duration {
        match self {
            Self::Real => SimOptions::default().prebuffer,
            Self::Fast => SimOptions::fast().prebuffer,
        }
    }
}

impl FromStr for SimTiming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
    }
}

impl From<SimTiming> for Timing {
    fn from(timing: SimTiming) -> Self {
        match timing {
            SimTiming::Real => Self::real(),
            SimTiming::Fast => Self::fast(),
        }
    }
}

/// A simulated engine.
#[derive(Debug, Args)]
pub struct SimFlags {
    /// The engine's address
    #[arg(long, default_value = "127.0.0.1:6878")]
    listen: SocketAddr,
    /// Where faults are set and the ledger is read
    #[arg(long, default_value = "127.0.0.1:6879")]
    control: SocketAddr,
    /// What every id plays: h264, hevc, mpeg2, audio, open-gop, no-flags, verify, verify@RATE (bit/s), vod or vod@SECONDS
    #[arg(long, default_value = "h264")]
    channel: ChannelKind,
    /// How long everything takes
    #[arg(long, value_enum, default_value = "real")]
    timing: SimTiming,
    /// Which engine it is: acestream, the closed one, or outpace, the open one
    #[arg(long, default_value = "acestream")]
    dialect: Dialect,
    /// The version it reports, such as 3.2.11; without it the one that the dialect was measured on
    #[arg(long, value_name = "X.Y.Z")]
    engine_version: Option<EngineVersion>,
    /// How large the pieces of every swarm are: 1m, or 64k, which the open engine plays by content id alone
    #[arg(long, default_value = "1m")]
    pieces: PieceSize,
    /// How much already broadcast media the first reader gets at once
    #[arg(long, value_name = "MS", default_value = "10000")]
    burst_ms: u64,
    /// How long the open engine holds the first media back, at most 15000; 30000 unless everything is fast
    #[arg(long, value_name = "MS")]
    prebuffer_ms: Option<u64>,
}

impl From<SimFlags> for SimOptions {
    fn from(flags: SimFlags) -> Self {
        let SimFlags {
            listen,
            control,
            channel,
            timing,
            dialect,
            engine_version,
            pieces,
            burst_ms,
            prebuffer_ms,
        } = flags;
        Self {
            listen,
            control,
            default_channel: channel,
            timing: timing.into(),
            dialect,
            version: engine_version,
            piece_size: pieces,
            burst: Duration::from_millis(burst_ms),
            prebuffer: prebuffer_ms.map_or(timing.prebuffer(), Duration::from_millis),
            ..Self::default()
        }
    }
}

/// A simulated gluetun.
#[derive(Debug, Args)]
pub struct GluetunFlags {
    /// The control server's address
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// The health server's address
    #[arg(long, default_value = "127.0.0.1:9999")]
    health: SocketAddr,
    /// Where the tunnel, its exit and faults are told
    #[arg(long, default_value = "127.0.0.1:9998")]
    script: SocketAddr,
    /// Which releases it is like: 3.39, 3.40, 3.41 or latest
    #[arg(long, default_value = "latest")]
    generation: Generation,
    /// Who may ask, as gluetun has it: `{"auth":"apikey","apikey":"…"}`; with `routes` for these alone
    #[arg(long = "role", value_name = "JSON")]
    roles: Vec<Role>,
    /// Where traffic comes out
    #[arg(long, default_value = "203.0.113.7")]
    public_ip: String,
    /// Ports that the provider forwards
    #[arg(long = "forward", value_name = "PORT")]
    ports: Vec<u16>,
    /// How long it takes to connect
    #[arg(long, value_name = "MS", default_value = "0")]
    connect_ms: u64,
}

impl From<GluetunFlags> for GluetunOptions {
    fn from(flags: GluetunFlags) -> Self {
        let GluetunFlags { listen, health, script, generation, roles, public_ip, ports, connect_ms } = flags;
        Self {
            listen,
            health,
            script,
            generation,
            roles,
            exit: TunnelExit { public_ip, ports, ..TunnelExit::default() },
            connects_after: Duration::from_millis(connect_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from(["acemux", "--port", "8001", "--engines", "a:1,b:2"]);
        assert!(cli.command.is_none());
        let settings = cli.serve.settings();
        assert_eq!(settings, [("APP_PORT", "8001".to_owned()), ("ENGINES", "a:1,b:2".to_owned())]);
    }

    #[test]
    fn flags_in_front_of_a_command_are_refused_rather_than_dropped() {
        assert!(Cli::try_parse_from(["acemux", "--port", "8001", "serve"]).is_err());
        assert!(Cli::try_parse_from(["acemux", "serve", "--port", "8001"]).is_ok());
    }
}
