//! What the control server's pages say, read with distrust: it may be any release, or something else on that port.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

/// Longest text that is taken from a page.
const LONGEST_TEXT: usize = 64;

/// What gluetun says about its VPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LoopStatus {
    Starting,
    Running,
    Stopping,
    Stopped,
    Crashed,
    Completed,
}

impl LoopStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Completed => "completed",
        }
    }

    /// Whether nothing passes and nothing is about to.
    pub(super) fn is_off(self) -> bool {
        !matches!(self, Self::Starting | Self::Running)
    }
}

/// Where traffic comes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// None: gluetun does not know it yet.
    pub(super) address: Option<IpAddr>,
    pub(super) country: Option<String>,
    pub(super) region: Option<String>,
    pub(super) city: Option<String>,
}

/// `/v1/vpn/status`.
pub(super) fn status(body: &[u8]) -> Result<LoopStatus, String> {
    #[derive(Deserialize)]
    struct Fields {
        status: LoopStatus,
    }
    read::<Fields>(body).map(|fields| fields.status)
}

/// `/v1/publicip/ip`.
pub(super) fn place(body: &[u8]) -> Result<Place, String> {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Fields {
        public_ip: Value,
        country: Value,
        region: Value,
        city: Value,
    }
    let fields: Fields = read(body)?;
    let address = match text(&fields.public_ip) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| "an address that is none".to_owned())?),
    };
    Ok(Place {
        address,
        country: text(&fields.country),
        region: text(&fields.region),
        city: text(&fields.city),
    })
}

/// The forwarded port, in any of the shapes that there were: `port`, `ports`, or both. 0, `null` and nothing are "not yet".
pub(super) fn port(body: &[u8]) -> Result<Option<u16>, String> {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Fields {
        port: Option<u64>,
        ports: Option<Vec<u64>>,
    }
    let fields: Fields = read(body)?;
    let first = fields.ports.and_then(|ports| ports.into_iter().find(|port| *port != 0));
    match fields.port.filter(|port| *port != 0).or(first) {
        None => Ok(None),
        Some(port) => u16::try_from(port).map(Some).map_err(|_| format!("port {port}")),
    }
}

/// A JSON object; another value is not what a page of gluetun is.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let parsed = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
    parsed.ok_or_else(|| "an answer that is not gluetun's".to_owned())
}

/// A short text without control characters; an empty one is none.
fn text(value: &Value) -> Option<String> {
    let text: String = value.as_str()?.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_in_all_its_shapes_and_zero_is_not_yet() {
        for (body, expected) in [
            (r#"{"port":5914}"#, Some(5914)),
            (r#"{"ports":[5914,5915]}"#, Some(5914)),
            (r#"{"port":5914,"ports":[5914]}"#, Some(5914)),
            (r#"{"port":0,"ports":[0,7]}"#, Some(7)),
            (r#"{"port":0}"#, None),
            (r#"{"port":0,"ports":null}"#, None),
            (r#"{"ports":[]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(port(body.as_bytes()), Ok(expected), "{body}");
        }
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in [
            "",
            "null",
            "[1]",
            "<html>",
            r#"{"port":65536}"#,
            r#"{"port":-1}"#,
            r#"{"port":"5914"}"#,
            r#"{"port":1"#,
        ] {
            assert!(port(body.as_bytes()).is_err(), "{body}");
        }
        assert!(status(br#"{"status":"fine"}"#).is_err() && status(b"[\"running\"]").is_err());
        assert!(place(br#"{"public_ip":"nowhere"}"#).is_err());
    }

    #[test]
    fn an_empty_address_is_not_known_yet() {
        let unknown = r#"{"public_ip":"","region":"","country":"","city":""}"#;
        assert_eq!(place(unknown.as_bytes()), Ok(Place::default()));
        let known = r#"{"public_ip":"2001:db8::7","country":"  Spain\u0007 ","city":7}"#;
        let place = place(known.as_bytes()).unwrap();
        assert_eq!(place.address, Some("2001:db8::7".parse().unwrap()));
        assert_eq!((place.country.as_deref(), place.city), (Some("Spain"), None));
    }
}
