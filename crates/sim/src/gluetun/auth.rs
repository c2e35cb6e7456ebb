//! Who may ask the control server for what: roles, as `/gluetun/auth/config.toml` has them.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

use crate::wire::Request;

/// How somebody shows who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    None,
    /// HTTP basic authentication.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// `X-API-Key: …`, or `?api_key=…`.
    ApiKey(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::ApiKey(_) => "ApiKey",
        })
    }
}

/// What one login may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// How it is shown.
    pub login: Login,
    /// `GET /v1/portforward`, …; `None` is the default role, for every route that no other role has.
    pub routes: Option<Vec<String>>,
}

/// The text is no role as `HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE` has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role: {0}")]
pub struct BadRole(String);

#[derive(Default, Deserialize)]
#[serde(default)]
struct RoleFields {
    #[serde(rename = "name")]
    _name: String,
    auth: String,
    apikey: String,
    username: String,
    password: String,
    /// Only for scripts: gluetun reads no routes from its environment.
    routes: Option<Vec<String>>,
}

impl Role {
    /// The role of `HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE`; `{}` is none.
    ///
    /// # Errors
    ///
    /// When it is no JSON object, names no known way to log in, or lacks what that way needs.
    pub fn parse(json: &str) -> Result<Option<Self>, BadRole> {
        let fields: RoleFields = serde_json::from_str(json).map_err(|error| BadRole(error.to_string()))?;
        let login = match fields.auth.as_str() {
            "" => return Ok(None),
            "none" => Login::None,
            "apikey" if !fields.apikey.is_empty() => Login::ApiKey(fields.apikey),
            "basic" if !fields.username.is_empty() && !fields.password.is_empty() => {
                Login::Basic { username: fields.username, password: fields.password }
            }
            other => return Err(BadRole(format!("auth {other} without what it needs"))),
        };
        Ok(Some(Self { login, routes: fields.routes }))
    }

    fn names(&self, route: &str) -> bool {
        self.routes.as_ref().is_some_and(|routes| routes.iter().any(|one| one == route))
    }
}

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(json: &str) -> Result<Self, BadRole> {
        Self::parse(json)?.ok_or_else(|| BadRole("without auth".to_owned()))
    }
}

/// How a request is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// 401; `basic` when the answer says that a name and a password are wanted.
    Unauthorized {
        basic: bool,
    },
}

/// Judges by the roles that name the route, by the default role when none does, and by whether it is `open` when there is
/// neither.
pub(super) fn judge(roles: &[Role], request: &Request, route: &str, open: bool) -> Verdict {
    let named: Vec<_> = roles.iter().filter(|role| role.names(route)).collect();
    let default = roles.iter().filter(|role| role.routes.is_none());
    let roles = if named.is_empty() { default.collect() } else { named };
    if roles.iter().any(|role| shows(&role.login, request)) || (roles.is_empty() && open) {
        return Verdict::Allowed;
    }
    Verdict::Unauthorized { basic: roles.iter().any(|role| matches!(role.login, Login::Basic { .. })) }
}

fn shows(login: &Login, request: &Request) -> bool {
    match login {
        Login::None => true,
        Login::ApiKey(key) => {
            request.header("x-api-key").filter(|shown| !shown.is_empty()).or(request.param("api_key"))
                == Some(key.as_str())
        }
        Login::Basic { username, password } => {
            let shown = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
            shown == Some(base64(format!("{username}:{password}").as_bytes()).as_str())
        }
    }
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
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_default_role_is_read_from_json_and_lacks_are_told() {
        assert_eq!(Role::parse("{}"), Ok(None));
        let role = Role::parse(r#"{"name":"all","auth":"apikey","apikey":"k"}"#).unwrap().unwrap();
        assert_eq!(role, Role { login: Login::ApiKey("k".to_owned()), routes: None });
        for bad in
            ["", "key", r#"{"auth":"apikey"}"#, r#"{"auth":"basic","username":"u"}"#, r#"{"auth":"x"}"#]
        {
            assert!(Role::parse(bad).is_err(), "{bad}");
        }
    }
}
