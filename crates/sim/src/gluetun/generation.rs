//! What the control server of each generation knows, as its source has it: routes, methods and who may ask without being
//! told so.

use std::fmt;
use std::str::FromStr;

use crate::options::{UnknownOption, named};

/// Releases whose control servers are alike. Written `3.39`, `3.40`, `3.41` or `latest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Up to 3.39.0: nobody is asked who they are, and what it does not know is a 400.
    V3_39,
    /// 3.39.1 to 3.40: a list of routes is public; all others, unknown ones too, are 401.
    V3_40,
    /// 3.41: the forwarded port has a route of its own, to which the old one redirects.
    V3_41,
    /// Development since February 2026: every route is 401 without a role, unknown ones are 404.
    #[default]
    Latest,
}

/// Every route there ever was, and the methods that it takes.
const ROUTES: [(&str, &[&str]); 11] = [
    ("/v1/version", &["GET"]),
    ("/v1/vpn/status", &["GET", "PUT"]),
    ("/v1/vpn/settings", &["GET", "PUT"]),
    ("/v1/openvpn/status", &["GET", "PUT"]),
    ("/v1/openvpn/settings", &["GET"]),
    (OLD_PORTS, &["GET"]),
    (NEW_PORTS, &["GET"]),
    ("/v1/dns/status", &["GET", "PUT"]),
    ("/v1/updater/status", &["GET", "PUT"]),
    ("/v1/publicip/ip", &["GET"]),
    ("/openvpn/actions/restart", &["GET"]),
];

/// Where the forwarded port is read up to 3.40.
pub(super) const OLD_PORTS: &str = "/v1/openvpn/portforwarded";
/// Where it is read since.
pub(super) const NEW_PORTS: &str = "/v1/portforward";

/// Routes that reveal secrets: public in no generation that asks at all.
const PRIVATE: [&str; 2] = ["/v1/vpn/settings", "/v1/openvpn/settings"];

/// What a generation makes of a request before it looks who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// There is such a route; `open` says whether it needs no role.
    Route { open: bool },
    /// Answered with this status at once.
    Refused(u16),
}

impl Generation {
    pub(super) const ALL: [Self; 4] = [Self::V3_39, Self::V3_40, Self::V3_41, Self::Latest];

    pub(super) fn gate(self, method: &str, path: &str) -> Gate {
        let methods = ROUTES.iter().find(|(route, _)| *route == path && self.has(route));
        let takes = methods.is_some_and(|(_, methods)| methods.contains(&method));
        match (self, methods.is_some(), takes) {
            (Self::V3_39, _, true) => Gate::Route { open: true },
            (Self::V3_39, ..) => Gate::Refused(400),
            (Self::V3_40 | Self::V3_41, _, true) => Gate::Route { open: !PRIVATE.contains(&path) },
            (Self::V3_40 | Self::V3_41, ..) => Gate::Refused(401),
            (Self::Latest, false, _) => Gate::Refused(404),
            (Self::Latest, true, false) => Gate::Refused(405),
            (Self::Latest, true, true) => Gate::Route { open: false },
        }
    }

    /// Whether `HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE` means anything to it.
    pub(super) fn has_default_role(self) -> bool {
        matches!(self, Self::V3_41 | Self::Latest)
    }

    /// Whether the old route of the forwarded port redirects.
    pub(super) fn redirects(self) -> bool {
        self.has(NEW_PORTS)
    }

    /// The forwarded ports as it writes them.
    pub(super) fn ports(self, ports: &[u16]) -> String {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        match (self, ports) {
            (Self::Latest, []) => r#"{"port":0,"ports":null}"#.to_owned(),
            (Self::Latest, [first, ..]) => format!(r#"{{"port":{first},"ports":[{list}]}}"#),
            (_, []) => r#"{"port":0}"#.to_owned(),
            (_, [one]) => format!(r#"{{"port":{one}}}"#),
            (_, _) => format!(r#"{{"ports":[{list}]}}"#),
        }
    }

    /// The version that it reports.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::V3_39 => "v3.39.0",
            Self::V3_40 => "v3.40.4",
            Self::V3_41 => "v3.41.1",
            Self::Latest => "latest",
        }
    }

    fn has(self, route: &str) -> bool {
        route != NEW_PORTS || matches!(self, Self::V3_41 | Self::Latest)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_39 => "3.39",
            Self::V3_40 => "3.40",
            Self::V3_41 => "3.41",
            Self::Latest => "latest",
        })
    }
}

impl FromStr for Generation {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        named(text, &Self::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_as_they_are_written() {
        for generation in Generation::ALL {
            assert_eq!(generation.to_string().parse(), Ok(generation));
        }
        assert!("3.42".parse::<Generation>().is_err());
    }

    #[test]
    fn an_unknown_route_is_refused_by_each_in_its_own_way() {
        let refusals = Generation::ALL.map(|generation| generation.gate("GET", "/v1/wireguard/status"));
        assert_eq!(refusals, [400, 401, 401, 404].map(Gate::Refused));
        let methods = Generation::ALL.map(|generation| generation.gate("DELETE", "/v1/publicip/ip"));
        assert_eq!(methods, [400, 401, 401, 405].map(Gate::Refused));
    }

    #[test]
    fn the_new_route_of_the_port_is_unknown_to_the_old_ones() {
        let gates = Generation::ALL.map(|generation| generation.gate("GET", NEW_PORTS));
        let [old, older, open, closed] = gates;
        assert_eq!((old, older), (Gate::Refused(400), Gate::Refused(401)));
        assert_eq!((open, closed), (Gate::Route { open: true }, Gate::Route { open: false }));
    }

    #[test]
    fn ports_are_written_in_three_ways() {
        let old = Generation::V3_40;
        assert_eq!(
            [old.ports(&[]), old.ports(&[5]), old.ports(&[5, 6])],
            [r#"{"port":0}"#, r#"{"port":5}"#, r#"{"ports":[5,6]}"#]
        );
        let new = Generation::Latest;
        assert_eq!(
            [new.ports(&[]), new.ports(&[5, 6])],
            [r#"{"port":0,"ports":null}"#, r#"{"port":5,"ports":[5,6]}"#]
        );
    }
}
