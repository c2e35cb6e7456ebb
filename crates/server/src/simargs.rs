//! The simulated engine as a container image: it understands the environment and the arguments that each family of
//! real engine images is given, so that the fleet can start it in any family's place.
//!
//! Only in that image (`ACEMUX_SIM_IMAGE=1`): everywhere else the command line is the strict one of [`crate::cli`].
//! The flags of `acemux sim engine` mean here what they mean there, and win over the environment.

mod gluetun;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use acemux_sim::{ChannelKind, Dialect, GluetunOptions, SimOptions};

use crate::cli::SimTiming;

/// Set in the image.
const IN_IMAGE: &str = "ACEMUX_SIM_IMAGE";
/// Where engines listen that are told nothing.
const ENGINE_PORT: u16 = 6878;
/// The control port is so far from the engine's, unless `SIM_CONTROL_PORT` says otherwise.
const CONTROL_BESIDE: u16 = 5_000;
/// Variables with flags of the engine in them; what is in the arguments wins.
const FLAG_VARIABLES: [&str; 3] = ["CONF", "ACESTREAM_ARGS", "EXTRA_FLAGS"];

/// How long a piece of the open engine plays: two were 0.4 s.
const PIECE: Duration = Duration::from_millis(200);
/// Pieces that it fetches first when it is told not to buffer and nothing else.
const HURRIED_PIECES: u32 = 2;
/// More than this it found in no swarm.
const SWARM_WINDOW: Duration = Duration::from_secs(27);

/// What one container of the image does.
#[derive(Clone, Debug)]
pub struct SimRun {
    /// The engine.
    pub options: SimOptions,
    /// How long its port stays closed first (`SIM_BOOT_MS`).
    pub boot: Duration,
    /// Ends at once with this code instead (`SIM_EXIT`).
    pub exit: Option<u8>,
}

/// A flag or variable whose value means nothing. A test that misspells one must not run with something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated engine cannot use {name}={value}")]
pub struct BadValue {
    name: &'static str,
    value: String,
}

/// What a process in the image does.
#[derive(Clone, Debug)]
pub enum Simulated {
    /// An engine.
    Engine(Box<SimRun>),
    /// A gluetun, whose network engines join.
    Gluetun(Box<GluetunOptions>),
    /// Asks the gluetun of this container whether its tunnel is up, at this address.
    HealthCheck(SocketAddr),
}

/// What this process is to simulate, if it runs in the image.
pub fn from_process() -> Option<Result<Simulated, BadValue>> {
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let is_image = env.get(IN_IMAGE).is_some_and(|value| value == "1");
    is_image.then(|| what(&std::env::args().skip(1).collect::<Vec<_>>(), &env))
}

fn what(args: &[String], env: &BTreeMap<String, String>) -> Result<Simulated, BadValue> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sim", "gluetun"] => gluetun::options(&Given::new(args, env)).map(Box::new).map(Simulated::Gluetun),
        ["sim", "gluetun", "healthcheck"] => {
            gluetun::health(&Given::new(args, env)).map(Simulated::HealthCheck)
        }
        _ => parse(args, env).map(Box::new).map(Simulated::Engine),
    }
}

/// What arguments and environment mean. Flags that real engines have and the simulation has not are passed over.
pub fn parse(args: &[String], env: &BTreeMap<String, String>) -> Result<SimRun, BadValue> {
    let told = Given::new(args, env);
    let outpace: Option<SocketAddr> = told.variable("OUTPACE_BIND")?;
    let listen = match told.flag("--listen")?.or(outpace) {
        Some(address) => address,
        None => told.listen()?,
    };
    let control = match told.flag("--control")? {
        Some(address) => address,
        None => told.control(listen.port())?,
    };
    let timing = told.either("--timing", "SIM_TIMING")?.unwrap_or(SimTiming::Real);
    let as_listening = if outpace.is_some() { Dialect::Outpace } else { Dialect::AceStream };
    let prebuffer = told.either("--prebuffer-ms", "OUTPACE_PREBUFFER_MS")?.map(Duration::from_millis);
    let prebuffer = prebuffer.unwrap_or(timing.prebuffer());
    let defaults = SimOptions::default();
    let options = SimOptions {
        name: told.text("SIM_NAME").or(told.text("HOSTNAME")).unwrap_or_default().to_owned(),
        listen,
        control,
        timing: timing.into(),
        dialect: told.either("--dialect", "SIM_DIALECT")?.unwrap_or(as_listening),
        version: told.either("--engine-version", "SIM_VERSION")?,
        piece_size: told.either("--pieces", "SIM_PIECES")?.unwrap_or(defaults.piece_size),
        burst: match told.flag("--burst-ms")?.map(Duration::from_millis) {
            Some(burst) => burst,
            None => told.fetched_first(prebuffer)?.unwrap_or(defaults.burst),
        },
        prebuffer,
        prebuffer_timeout: told
            .variable("OUTPACE_PREBUFFER_TIMEOUT_MS")?
            .map_or(defaults.prebuffer_timeout, Duration::from_millis),
        tunnel: told.variable("SIM_TUNNEL")?,
        // Alone the address does nothing, as in the real one.
        proxy: told.variable("OUTPACE_PROXY")?.filter(|_| told.text("OUTPACE_PROXY_MODE") == Some("on")),
        default_channel: told.either("--channel", "SIM_CHANNEL")?.unwrap_or(ChannelKind::H264),
        ..defaults
    };
    let boot = told.variable("SIM_BOOT_MS")?.map(Duration::from_millis).unwrap_or_default();
    Ok(SimRun { options, boot, exit: told.variable("SIM_EXIT")? })
}

/// All flags, those that win last, and the environment.
struct Given<'a> {
    flags: Vec<&'a str>,
    env: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    fn new(args: &'a [String], env: &'a BTreeMap<String, String>) -> Self {
        let fed = FLAG_VARIABLES.iter().filter_map(|name| env.get(*name));
        let fed = fed.flat_map(|text| text.split_whitespace());
        Self { flags: fed.chain(args.iter().map(String::as_str)).collect(), env }
    }

    /// An AceStream engine's own address.
    fn listen(&self) -> Result<SocketAddr, BadValue> {
        let port = self.either("--http-port", "HTTP_PORT")?.unwrap_or(ENGINE_PORT);
        let is_open = self.flags.contains(&"--bind-all")
            || self.text("BIND_ALL").is_some()
            || self.text("ALLOW_REMOTE_ACCESS") == Some("yes");
        let address = if is_open { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        Ok(SocketAddr::new(IpAddr::V4(address), port))
    }

    /// Open to everybody: tests reach it at the container's address.
    fn control(&self, engine: u16) -> Result<SocketAddr, BadValue> {
        let beside = engine.checked_add(CONTROL_BESIDE).unwrap_or_else(|| engine - CONTROL_BESIDE);
        let port = self.variable("SIM_CONTROL_PORT")?.unwrap_or(beside);
        Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
    }

    /// How far behind live an open engine that is told something about it begins. Without pieces to fetch first and without
    /// a prebuffer it begins two behind.
    fn fetched_first(&self, prebuffer: Duration) -> Result<Option<Duration>, BadValue> {
        let told: Option<u32> = self.variable("OUTPACE_PREFETCH_PIECES")?;
        let hurried =
            self.text("OUTPACE_PREBUFFER_MS").filter(|_| prebuffer.is_zero()).map(|_| HURRIED_PIECES);
        Ok(told.or(hurried).map(|pieces| (PIECE * pieces).min(SWARM_WINDOW)))
    }

    fn either<T: FromStr>(&self, flag: &'static str, variable: &'static str) -> Result<Option<T>, BadValue> {
        Ok(match self.flag(flag)? {
            Some(value) => Some(value),
            None => self.variable(variable)?,
        })
    }

    /// `--name=value` or `--name value`, the last one.
    fn flag<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, BadValue> {
        let next = self.flags.iter().skip(1).copied().chain([""]);
        let values =
            self.flags.iter().zip(next).filter_map(|(flag, next)| match flag.strip_prefix(name)? {
                "" => Some(next),
                joined => joined.strip_prefix('='),
            });
        values.last().map(|value| read(name, value)).transpose()
    }

    fn variable<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, BadValue> {
        self.text(name).map(|value| read(name, value)).transpose()
    }

    /// An empty variable is as good as none.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.env.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }
}

fn read<T: FromStr>(name: &'static str, value: &str) -> Result<T, BadValue> {
    value.parse().map_err(|_| BadValue { name, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use acemux_fleet::allowed::{Extra, HostPorts};
    use acemux_fleet::profile::{ArmTags, Profile, Variant};
    use acemux_fleet::recipe::{EnginePorts, Reach, Recipe};
    use acemux_fleet::spec::{Limits, Network};
    use acemux_sim::{PieceSize, Timing};

    use super::*;

    /// Arguments and environment as one writes them: `NAME=value` on lines of their own.
    fn run(args: &str, env: &str) -> Result<SimRun, BadValue> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let env = env.lines().filter_map(|line| line.trim().split_once('='));
        parse(&args, &env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Where it listens and is controlled.
    fn addresses(args: &str, env: &str) -> (String, String) {
        let options = run(args, env).unwrap().options;
        (options.listen.to_string(), options.control.to_string())
    }

    fn recipe(variant: Variant) -> Recipe {
        Recipe {
            profile: Profile::of(variant, &ArmTags::default()),
            image: Some("acemux-sim:test".parse().unwrap()),
            limits: Limits::default(),
            read_only: true,
            network: Network::Host,
            behind_vpn: false,
            reach: Reach::Published,
            map_https: false,
            label: "orchestrator.managed=acestream".parse().unwrap(),
            instance: "test".parse().unwrap(),
        }
    }

    #[test]
    fn an_engine_started_as_any_family_listens_where_the_fleet_expects_it() {
        for variant in [
            Variant::Krinkuto11Amd64,
            Variant::JopsisAmd64,
            Variant::JopsisArm32,
            Variant::JopsisArm64,
            Variant::AceServeAmd64,
            Variant::AceServeArm32,
            Variant::AceServeArm64,
            Variant::AcestreamHttpProxy,
            Variant::Outpace,
            Variant::Custom,
        ] {
            let recipe = recipe(variant);
            for p2p in [None, Some(51_413)] {
                let port = |port| HostPorts::new(port..=port).port(port).unwrap();
                let ports = EnginePorts { http: port(19_007), https: port(45_007), p2p, shared: None };
                let spec = recipe.spec(1, "acestream-1", ports, &Extra::default());
                let env = spec.env.iter().map(|one| (one.name().to_owned(), one.value().to_owned()));
                let run = parse(&spec.command, &env.collect()).unwrap();
                assert_eq!(run.options.listen.to_string(), "0.0.0.0:19007", "{}", variant.as_str());
                assert_eq!(run.options.control.to_string(), "0.0.0.0:24007", "{}", variant.as_str());
                let is_outpace = recipe.profile == Profile::of(Variant::Outpace, &ArmTags::default());
                assert_eq!(run.options.dialect == Dialect::Outpace, is_outpace);
            }
        }
    }

    /// Not only as our fleet starts engines: as the orchestrators before it do.
    #[test]
    fn it_listens_where_the_references_orchestrators_tell_their_engines_to() {
        let conf = "HTTP_PORT=19001\nHTTPS_PORT=45001\nBIND_ALL=true\nINTERNAL_BUFFERING=60\nCACHE_LIMIT=1\nP2P_PORT=51413";
        let jopsis = "ACESTREAM_ARGS=--client-console --bind-all --service-remote-access --access-token acestream \
            --service-access-token root --stats-report-peers --live-cache-type memory --live-cache-size 209715200 \
            --cache-dir /acestream/.ACEStream --live-buffer 25 --auto-slots 0 --allow-user-config --log-debug 0 \
            --http-port 19001 --https-port 45001 --port 51413";
        for (args, env) in [
            ("sim engine", conf),
            ("sim engine", &format!("{conf}\nCONF=")),
            ("sim engine", jopsis),
            (
                "python main.py --bind-all --client-console --live-cache-type memory --live-mem-cache-size 104857600 \
                 --disable-sentry --log-stdout --http-port 19001 --https-port 45001 --port 51413",
                "",
            ),
            (
                "/acestream/acestreamengine --client-console --bind-all --http-port 19001 --https-port 45001",
                "",
            ),
            ("--client-console --bind-all --http-port=19001", ""),
            ("sim engine", "ALLOW_REMOTE_ACCESS=yes\nEXTRA_FLAGS=--http-port=19001 --https-port=45001"),
            ("serve", "OUTPACE_BIND=0.0.0.0:19001"),
            ("", "OUTPACE_BIND=0.0.0.0:19001"),
        ] {
            assert_eq!(addresses(args, env).0, "0.0.0.0:19001", "{args:?} {env:?}");
        }
    }

    #[test]
    fn the_lines_of_conf_are_flags() {
        let env =
            [("CONF".to_owned(), "--http-port=19001\n--https-port=45001\n--bind-all".to_owned())].into();
        assert_eq!(parse(&[], &env).unwrap().options.listen.to_string(), "0.0.0.0:19001");
    }

    #[test]
    fn without_being_told_it_is_an_engine_as_it_comes() {
        let run = run("sim engine", "").unwrap();
        assert_eq!(run.options.listen.to_string(), "127.0.0.1:6878");
        assert_eq!(run.options.control.to_string(), "0.0.0.0:11878");
        assert_eq!((run.boot, run.exit, run.options.dialect), (Duration::ZERO, None, Dialect::AceStream));
        assert_eq!((run.options.default_channel, run.options.timing), (ChannelKind::H264, Timing::real()));
    }

    #[test]
    fn it_is_closed_to_others_unless_it_is_told_otherwise() {
        for (args, env) in [
            ("--http-port 7000", ""),
            ("--http-port 7000", "ALLOW_REMOTE_ACCESS=no"),
            ("--http-port 7000", "BIND_ALL="),
            ("serve", "OUTPACE_BIND=127.0.0.1:7000"),
        ] {
            assert_eq!(addresses(args, env).0, "127.0.0.1:7000", "{args:?} {env:?}");
        }
    }

    #[test]
    fn the_last_flag_wins_and_arguments_win_over_the_environment() {
        for (args, env, listens) in [
            ("--http-port=1 --http-port 2", "", "127.0.0.1:2"),
            ("--http-port 1 --http-port=2", "HTTP_PORT=3", "127.0.0.1:2"),
            ("--http-port 1", "ACESTREAM_ARGS=--http-port 2 --bind-all", "0.0.0.0:1"),
            ("", "ACESTREAM_ARGS=--http-port 2\nHTTP_PORT=3", "127.0.0.1:2"),
            ("sim engine --listen 127.0.0.2:4", "HTTP_PORT=3\nBIND_ALL=true", "127.0.0.2:4"),
        ] {
            assert_eq!(addresses(args, env).0, listens, "{args:?} {env:?}");
        }
    }

    #[test]
    fn the_flags_of_the_command_line_win_over_its_own_variables() {
        let env = "SIM_CHANNEL=hevc\nSIM_TIMING=real\nSIM_CONTROL_PORT=1";
        let told =
            run("sim engine --control 127.0.0.1:2 --channel verify --timing=fast", env).unwrap().options;
        assert_eq!((told.control.to_string().as_str(), told.timing), ("127.0.0.1:2", Timing::fast()));
        assert_eq!(told.default_channel, ChannelKind::VERIFY);
    }

    #[test]
    fn the_control_port_is_beside_the_engines_and_never_the_same() {
        for (port, control) in [("6878", "11878"), ("60535", "65535"), ("60536", "55536"), ("65535", "60535")]
        {
            assert_eq!(addresses("", &format!("HTTP_PORT={port}")).1, format!("0.0.0.0:{control}"));
        }
        assert_eq!(addresses("", "SIM_CONTROL_PORT=7001").1, "0.0.0.0:7001");
    }

    #[test]
    fn its_own_variables_say_what_it_plays_and_how_it_fails() {
        let env =
            "SIM_CHANNEL=verify\nSIM_BOOT_MS=1500\nSIM_EXIT=3\nSIM_TIMING=fast\nHOSTNAME=f00\nSIM_NAME=one";
        let run = run("--http-port=7000 --bind-all", env).unwrap();
        assert_eq!((run.options.default_channel, run.options.timing), (ChannelKind::VERIFY, Timing::fast()));
        assert_eq!((run.boot.as_millis(), run.exit, run.options.name.as_str()), (1500, Some(3), "one"));
    }

    #[test]
    fn the_open_engines_variables_say_how_it_begins() {
        let bind = "OUTPACE_BIND=0.0.0.0:6878";
        for (told, prebuffer, burst) in [
            ("", 30_000, 10_000),
            ("OUTPACE_PREBUFFER_MS=0", 0, 400),
            ("OUTPACE_PREBUFFER_MS=0\nOUTPACE_PREFETCH_PIECES=64", 0, 12_800),
            ("OUTPACE_PREBUFFER_MS=0\nOUTPACE_PREFETCH_PIECES=1000", 0, 27_000),
            ("OUTPACE_PREBUFFER_MS=5000", 5_000, 10_000),
        ] {
            let options = run("serve", &format!("{bind}\n{told}")).unwrap().options;
            let found = (options.prebuffer.as_millis(), options.burst.as_millis());
            assert_eq!((options.dialect, found), (Dialect::Outpace, (prebuffer, burst)), "{told}");
        }
        let timeout = run("serve", &format!("{bind}\nOUTPACE_PREBUFFER_TIMEOUT_MS=2000")).unwrap();
        assert_eq!(timeout.options.prebuffer_timeout, Duration::from_secs(2));
    }

    #[test]
    fn the_flags_of_the_open_engine_are_those_of_the_command_line() {
        let flags = "sim engine --dialect outpace --pieces=64k --prebuffer-ms 0 --burst-ms 500 --engine-version 1.2.1";
        let options = run(flags, "").unwrap().options;
        assert_eq!((options.dialect, options.piece_size), (Dialect::Outpace, PieceSize::Kib64));
        assert_eq!((options.prebuffer, options.burst.as_millis()), (Duration::ZERO, 500));
        assert_eq!((options.version().to_string().as_str(), options.version_code()), ("1.2.1", 10_201));
        let fast = run("sim engine --timing fast --dialect outpace", "").unwrap().options;
        assert_eq!((fast.prebuffer, fast.version_code()), (Duration::ZERO, 200));
        let from_env = run("", "SIM_DIALECT=outpace\nSIM_PIECES=64k\nSIM_VERSION=0.3.0").unwrap().options;
        assert_eq!(
            (from_env.dialect, from_env.piece_size, from_env.version_code()),
            (Dialect::Outpace, PieceSize::Kib64, 300)
        );
    }

    #[test]
    fn without_a_name_it_has_its_containers() {
        assert_eq!(run("", "HOSTNAME=f00").unwrap().options.name, "f00");
    }

    #[test]
    fn a_misspelt_value_is_refused_by_name() {
        for (args, env, said) in [
            ("", "SIM_CHANNEL=h265", "SIM_CHANNEL=h265"),
            ("", "SIM_TIMING=slow", "SIM_TIMING=slow"),
            ("", "SIM_EXIT=300", "SIM_EXIT=300"),
            ("", "SIM_BOOT_MS=1s", "SIM_BOOT_MS=1s"),
            ("", "OUTPACE_BIND=6878", "OUTPACE_BIND=6878"),
            ("", "OUTPACE_PREBUFFER_MS=off", "OUTPACE_PREBUFFER_MS=off"),
            ("", "OUTPACE_PREFETCH_PIECES=-1", "OUTPACE_PREFETCH_PIECES=-1"),
            ("--dialect open", "", "--dialect=open"),
            ("--pieces 2m", "", "--pieces=2m"),
            ("--http-port 70000", "", "--http-port=70000"),
            ("--http-port --bind-all", "", "--http-port=--bind-all"),
            ("--bind-all --http-port", "", "--http-port="),
            ("sim engine --listen 6878", "", "--listen=6878"),
        ] {
            let problem = run(args, env).unwrap_err().to_string();
            assert!(problem.ends_with(&format!(" {said}")), "{problem}");
        }
    }
}
