//! How we show gluetun's control server who we are, and what its operator must write when it is closed to us.

use std::collections::BTreeMap;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

/// Routes that are asked.
pub(super) const STATUS: &str = "/v1/vpn/status";
pub(super) const ADDRESS: &str = "/v1/publicip/ip";
pub(super) const PORT: &str = "/v1/portforward";
/// Where the port was up to 3.40.
pub(super) const OLD_PORT: &str = "/v1/openvpn/portforwarded";

/// gluetun's own variable: a role for all routes that no other has.
const DEFAULT_ROLE: &str = "HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE";

/// How a control server wants to know who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// The header `X-API-Key`.
    ApiKey(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(***)",
            Self::ApiKey(_) => "ApiKey(***)",
        })
    }
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct DefaultRole {
    auth: String,
    apikey: String,
    username: String,
    password: String,
}

impl Credentials {
    /// Those of the settings, or those that the container's environment tells whoever may inspect it.
    pub(super) fn of(settings: &Self, environment: &BTreeMap<String, String>) -> Self {
        if *settings != Self::None {
            return settings.clone();
        }
        let told = environment.get(DEFAULT_ROLE).and_then(|json| serde_json::from_str(json).ok());
        let DefaultRole { auth, apikey, username, password } = told.unwrap_or_default();
        match auth.as_str() {
            "apikey" if !apikey.is_empty() => Self::ApiKey(apikey),
            "basic" if !username.is_empty() => Self::Basic { username, password },
            _ => Self::None,
        }
    }

    /// The header that shows it.
    pub(super) fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::None => None,
            Self::ApiKey(key) => Some(("X-API-Key", key.clone())),
            Self::Basic { username, password } => Some((
                "Authorization",
                format!("Basic {}", base64(format!("{username}:{password}").as_bytes())),
            )),
        }
    }
}

/// One line for the operator of a control server that is closed to us: the role, as `/gluetun/auth/config.toml` wants it.
pub(super) fn role_to_add(closed: &[&str], shown: &Credentials) -> String {
    let routes = closed.iter().map(|route| format!("\"GET {route}\"")).collect::<Vec<_>>().join(", ");
    let (what, role, setting) = match shown {
        Credentials::None => {
            ("answers 401", r#"auth = "apikey", apikey = "<a key>""#, ", and set GLUETUN_API_KEY to that key")
        }
        Credentials::ApiKey(_) => {
            ("does not take the key of GLUETUN_API_KEY", r#"auth = "apikey", apikey = "<the key>""#, "")
        }
        Credentials::Basic { .. } => (
            "does not take GLUETUN_API_USER and GLUETUN_API_PASSWORD",
            r#"auth = "basic", username = "<the user>", password = "<the password>""#,
            "",
        ),
    };
    format!(
        "gluetun's control server {what}: add to /gluetun/auth/config.toml the line \
         roles = [{{ name = \"acemux\", routes = [{routes}], {role} }}]{setting}"
    )
}

/// As basic authentication wants it (RFC 7617).
fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_standard_has_it() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn settings_win_over_the_environment_and_nothing_is_shown() {
        let env = |json: &str| [(DEFAULT_ROLE.to_owned(), json.to_owned())].into();
        let told = env(r#"{"auth":"apikey","apikey":"theirs","name":"x"}"#);
        assert_eq!(Credentials::of(&Credentials::None, &told), Credentials::ApiKey("theirs".to_owned()));
        let ours = Credentials::ApiKey("ours".to_owned());
        assert_eq!(Credentials::of(&ours, &told), ours);
        for nothing in ["{}", "", "[]", r#"{"auth":"none"}"#, r#"{"auth":"apikey"}"#] {
            assert_eq!(Credentials::of(&Credentials::None, &env(nothing)), Credentials::None, "{nothing}");
        }
        assert!(!format!("{ours:?}").contains("ours"));
    }

    #[test]
    fn the_advice_is_one_line_with_a_role_that_gluetun_can_read() {
        let advice = role_to_add(&[STATUS, PORT], &Credentials::None);
        assert!(!advice.contains('\n'));
        let toml =
            advice.split_once("the line ").and_then(|(_, line)| line.split_once(", and set")).unwrap().0;
        assert_eq!(
            toml,
            r#"roles = [{ name = "acemux", routes = ["GET /v1/vpn/status", "GET /v1/portforward"], auth = "apikey", apikey = "<a key>" }]"#
        );
        let secret = Credentials::ApiKey("hush".to_owned());
        let refused = role_to_add(&[STATUS], &secret);
        assert!(refused.contains("GLUETUN_API_KEY") && !refused.contains("hush"));
    }
}
