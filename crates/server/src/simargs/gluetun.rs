//! The simulated gluetun as a container: the variables that the real one has, and some of its own.
//!
//! | variable | meaning |
//! |---|---|
//! | `HTTP_CONTROL_SERVER_ADDRESS`, `HEALTH_SERVER_ADDRESS`, `HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE` | gluetun's |
//! | `VPN_PORT_FORWARDING` | `on`: `SIM_FORWARDED_PORTS` are forwarded |
//! | `SIM_GLUETUN` | which releases it is like: `3.39`, `3.40`, `3.41`, `latest` |
//! | `SIM_PUBLIC_IP`, `SIM_COUNTRY`, `SIM_CITY` | where traffic comes out |
//! | `SIM_CONNECT_MS` | how long it takes to connect |
//! | `SIM_SCRIPT_PORT` | where it is told what to do |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::GluetunOptions;
use acemux_sim::gluetun::{Exit, Role};

use super::{BadValue, Given};

const CONTROL: &str = ":8000";
const HEALTH: &str = "127.0.0.1:9999";
const SCRIPT_PORT: u16 = 9_998;
/// Forwarded when nothing is said about which.
const FORWARDED: &str = "51413";

/// What the environment says.
pub(super) fn options(told: &Given<'_>) -> Result<GluetunOptions, BadValue> {
    let script = told.variable("SIM_SCRIPT_PORT")?.unwrap_or(SCRIPT_PORT);
    Ok(GluetunOptions {
        listen: address(told, "HTTP_CONTROL_SERVER_ADDRESS", CONTROL)?,
        health: health(told)?,
        script: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), script),
        generation: told.variable("SIM_GLUETUN")?.unwrap_or_default(),
        roles: default_role(told)?.into_iter().collect(),
        exit: exit(told)?,
        connects_after: told.variable("SIM_CONNECT_MS")?.map(Duration::from_millis).unwrap_or_default(),
    })
}

/// Where its health is asked.
pub(super) fn health(told: &Given<'_>) -> Result<SocketAddr, BadValue> {
    address(told, "HEALTH_SERVER_ADDRESS", HEALTH)
}

/// As Go reads it: without a host it is every address.
fn address(told: &Given<'_>, name: &'static str, default: &str) -> Result<SocketAddr, BadValue> {
    let text = told.text(name).unwrap_or(default);
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| BadValue { name, value: text.to_owned() })
}

fn default_role(told: &Given<'_>) -> Result<Option<Role>, BadValue> {
    let name = "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE";
    // The value is a secret: the refusal does not repeat it.
    let read = |json| Role::parse(json).map_err(|error| BadValue { name, value: error.to_string() });
    told.text(name).map_or(Ok(None), read)
}

fn exit(told: &Given<'_>) -> Result<Exit, BadValue> {
    let name = "SIM_FORWARDED_PORTS";
    let is_forwarding = told.text("VPN_PORT_FORWARDING") == Some("on");
    let ports = if is_forwarding { told.text(name).unwrap_or(FORWARDED) } else { "" };
    let ports = ports.split(',').filter(|port| !port.is_empty()).map(|port| super::read(name, port.trim()));
    let or = |name: &str, default: String| told.text(name).map_or(default, str::to_owned);
    let default = Exit::default();
    Ok(Exit {
        public_ip: or("SIM_PUBLIC_IP", default.public_ip),
        country: or("SIM_COUNTRY", default.country),
        region: default.region,
        city: or("SIM_CITY", default.city),
        ports: ports.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use acemux_sim::gluetun::{Generation, Login};

    use super::super::{Simulated, what};
    use super::*;

    fn run(args: &str, env: &str) -> Result<Simulated, BadValue> {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let env = env.lines().filter_map(|line| line.trim().split_once('='));
        let env: BTreeMap<_, _> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        what(&args, &env)
    }

    fn gluetun(env: &str) -> GluetunOptions {
        match run("sim gluetun", env) {
            Ok(Simulated::Gluetun(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_understands_the_variables_of_the_real_one() {
        let options = gluetun(
            "HTTP_CONTROL_SERVER_ADDRESS=:8001
             HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE={\"auth\":\"apikey\",\"apikey\":\"k\"}
             VPN_PORT_FORWARDING=on
             SIM_FORWARDED_PORTS=1024, 1025
             SIM_GLUETUN=3.41",
        );
        assert_eq!(options.listen.to_string(), "0.0.0.0:8001");
        assert_eq!(options.health.to_string(), "127.0.0.1:9999");
        assert_eq!(options.roles, [Role { login: Login::ApiKey("k".to_owned()), routes: None }]);
        assert_eq!((options.exit.ports, options.generation), (vec![1024, 1025], Generation::V3_41));
    }

    #[test]
    fn without_being_told_it_is_the_newest_and_forwards_nothing() {
        let options = gluetun("HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE={}");
        assert_eq!(
            (options.listen.to_string().as_str(), options.generation),
            ("0.0.0.0:8000", Generation::Latest)
        );
        assert!(options.exit.ports.is_empty() && options.roles.is_empty());
        assert_eq!(gluetun("VPN_PORT_FORWARDING=on").exit.ports, [51_413]);
    }

    #[test]
    fn the_health_check_asks_where_the_health_server_is() {
        let asks = |env| match run("sim gluetun healthcheck", env) {
            Ok(Simulated::HealthCheck(address)) => address.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(asks(""), "127.0.0.1:9999");
        assert_eq!(asks("HEALTH_SERVER_ADDRESS=127.0.0.1:9000"), "127.0.0.1:9000");
    }

    #[test]
    fn what_it_cannot_use_is_refused_without_its_secrets() {
        for env in [
            "SIM_GLUETUN=4",
            "HTTP_CONTROL_SERVER_ADDRESS=8000",
            "VPN_PORT_FORWARDING=on\nSIM_FORWARDED_PORTS=x",
        ] {
            assert!(run("sim gluetun", env).is_err(), "{env}");
        }
        let secret = "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE={\"auth\":\"key\",\"apikey\":\"hidden\"}";
        assert!(!run("sim gluetun", secret).unwrap_err().to_string().contains("hidden"));
    }
}
