//! The simulated engine as a container image: it understands the environment and the arguments that each family of
//! real engine images is given, so that the fleet can start it in any family's place.
//!
//! Only in that image (`ACEMUX_SIM_IMAGE=1`): everywhere else the command line is the strict one of [`crate::cli`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::{ChannelKind, Dialect, SimOptions, Timing};

/// Set in the image.
const IN_IMAGE: &str = "ACEMUX_SIM_IMAGE";
/// Where engines listen that are told nothing.
const ENGINE_PORT: u16 = 6878;
/// The control port is so far above the engine's, unless `SIM_CONTROL_PORT` says otherwise.
const CONTROL_ABOVE: u16 = 5_000;

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

/// What this process is to simulate, if it runs in the image.
pub fn from_process() -> Option<SimRun> {
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let is_image = env.get(IN_IMAGE).is_some_and(|value| value == "1");
    is_image.then(|| parse(&std::env::args().skip(1).collect::<Vec<_>>(), &env))
}

/// What arguments and environment mean. Flags that real engines have and the simulation has not are passed over.
pub fn parse(args: &[String], env: &BTreeMap<String, String>) -> SimRun {
    let get = |name: &str| env.get(name).map(String::as_str);
    let mut flags: Vec<String> = ["CONF", "ACESTREAM_ARGS", "EXTRA_FLAGS"]
        .iter()
        .filter_map(|name| get(name))
        .flat_map(|text| text.split_whitespace().map(str::to_owned))
        .collect();
    flags.extend(args.iter().cloned());
    let outpace: Option<SocketAddr> = get("OUTPACE_BIND").and_then(|bind| bind.parse().ok());
    let flag_port = value_of(&flags, "--http-port").and_then(|port| port.parse().ok());
    let port = outpace
        .map(|bind| bind.port())
        .or(flag_port)
        .or_else(|| get("HTTP_PORT")?.parse().ok())
        .unwrap_or(ENGINE_PORT);
    let is_open = outpace.is_some_and(|bind| bind.ip().is_unspecified())
        || flags.iter().any(|flag| flag == "--bind-all")
        || get("BIND_ALL").is_some()
        || get("ALLOW_REMOTE_ACCESS") == Some("yes");
    let address =
        |is_open: bool| IpAddr::V4(if is_open { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST });
    let control = get("SIM_CONTROL_PORT").and_then(|port| port.parse().ok());
    let control = control.unwrap_or_else(|| port.saturating_add(CONTROL_ABOVE));
    let is_fast = get("SIM_TIMING") == Some("fast");
    let options = SimOptions {
        name: get("SIM_NAME").or_else(|| get("HOSTNAME")).unwrap_or_default().to_owned(),
        listen: SocketAddr::new(address(is_open), port),
        control: SocketAddr::new(address(true), control),
        dialect: if outpace.is_some() { Dialect::Outpace } else { Dialect::AceStream },
        default_channel: get("SIM_CHANNEL").and_then(|name| name.parse().ok()).unwrap_or(ChannelKind::H264),
        timing: if is_fast { Timing::fast() } else { Timing::real() },
        ..SimOptions::default()
    };
    let boot =
        get("SIM_BOOT_MS").and_then(|ms| ms.parse().ok()).map(Duration::from_millis).unwrap_or_default();
    SimRun { options, boot, exit: get("SIM_EXIT").and_then(|code| code.parse().ok()) }
}

/// `--name=value` or `--name value`, the last one.
fn value_of<'a>(flags: &'a [String], name: &str) -> Option<&'a str> {
    let followed = flags.iter().zip(flags.iter().skip(1));
    let mut apart = followed.filter(|(flag, _)| *flag == name).map(|(_, value)| value.as_str());
    let mut joined = flags.iter().filter_map(|flag| flag.strip_prefix(name)?.strip_prefix('='));
    joined.next_back().or(apart.next_back())
}

#[cfg(test)]
mod tests {
    use acemux_fleet::profile::{ArmTags, EnginePorts, Extra, Feed, Profile, Reach, Recipe, Variant};
    use acemux_fleet::spec::{Limits, Network};

    use super::*;

    fn recipe(variant: Variant) -> Recipe {
        Recipe {
            profile: Profile::of(variant, &ArmTags::default(), 3),
            image: Some("acemux-sim:test".into()),
            limits: Limits::default(),
            read_only: true,
            network: Network::Host,
            reach: Reach::Published,
            map_https: false,
            label: ("orchestrator.managed".into(), "acestream".into()),
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
            Variant::AcestreamHttpProxy,
            Variant::Outpace,
        ] {
            let ports = EnginePorts { http: 19_007, https: 45_007, p2p: None };
            let recipe = recipe(variant);
            let spec = recipe.spec(1, "acestream-1", ports, &Extra::default());
            let env = spec.env.into_iter().collect();
            let run = parse(&spec.command, &env);
            assert_eq!(run.options.listen.to_string(), "0.0.0.0:19007", "{}", variant.as_str());
            let is_outpace = recipe.profile.feed == Feed::Outpace;
            assert_eq!(run.options.dialect == Dialect::Outpace, is_outpace);
        }
    }

    #[test]
    fn without_being_told_it_is_an_engine_as_it_comes() {
        let run = parse(&["sim".into(), "engine".into()], &BTreeMap::new());
        assert_eq!(run.options.listen.to_string(), "127.0.0.1:6878");
        assert_eq!((run.boot, run.exit), (Duration::ZERO, None));
    }

    #[test]
    fn its_own_variables_say_what_it_plays_and_how_it_fails() {
        let env =
            [("SIM_CHANNEL", "verify"), ("SIM_BOOT_MS", "1500"), ("SIM_EXIT", "3"), ("SIM_TIMING", "fast")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let run = parse(&["--http-port=7000".into(), "--bind-all".into()], &env);
        assert_eq!(run.options.default_channel, ChannelKind::VERIFY);
        assert_eq!((run.boot.as_millis(), run.exit), (1500, Some(3)));
        assert_eq!(run.options.listen.to_string(), "0.0.0.0:7000");
    }
}
