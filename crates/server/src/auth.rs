//! Who may do more than watch: whoever has the API key, or without a key whoever sits at this machine.
//!
//! "At this machine" is judged by the socket and the request together: a loopback peer that asks a loopback host and
//! was not forwarded by anything. So neither a reverse proxy on the same machine nor a web page whose name resolves to
//! 127.0.0.1 passes for the operator.

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, FORWARDED, HeaderName, VIA};
use http::request::Parts;
use http::{HeaderMap, Uri};
use subtle::ConstantTimeEq as _;

use crate::api::problem::{Code, Problem};
use crate::app::App;
use crate::config::Secret;
use crate::serve::ConnectionControl;
use crate::site::{self, Site};

/// Proof that the request may change things and see everything. Pages that need it take it as an argument.
#[derive(Clone, Copy, Debug)]
pub struct Operator(());

/// The configured key, if there is one.
#[derive(Clone, Debug)]
pub struct Gate {
    key: Option<Secret<String>>,
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What proxies add. Any of them means that the peer's address says nothing about who asks.
const FORWARDING: [HeaderName; 6] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

impl Gate {
    /// Opens for `key`, or for this machine without one.
    pub fn new(key: Option<Secret<String>>) -> Self {
        Self { key }
    }

    fn admit(&self, headers: &HeaderMap, uri: &Uri, local: bool) -> Result<Operator, Code> {
        match &self.key {
            Some(key) => {
                let given = given_key(headers).ok_or(Code::MissingKey)?;
                let equal: bool = given.as_bytes().ct_eq(key.reveal().as_bytes()).into();
                if equal { Ok(Operator(())) } else { Err(Code::WrongKey) }
            }
            None if local && asks_loopback(headers, uri) && !is_forwarded(headers) => Ok(Operator(())),
            None => Err(Code::MissingKey),
        }
    }
}

/// `X-API-KEY: k` or `Authorization: Bearer k`; the scheme's case does not matter.
fn given_key(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(X_API_KEY) {
        return key.to_str().ok().map(str::trim);
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(name))
}

fn asks_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    site::asked(uri, headers).and_then(Site::parse).is_some_and(Site::is_loopback)
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<ConnectionControl>().map(ConnectionControl::peer);
        let local = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        app.gate().admit(&parts.headers, &parts.uri, local).map_err(Problem::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(key: Option<&str>, local: bool, headers: &[(&str, &str)]) -> Result<(), Code> {
        let gate = Gate::new(key.map(|key| Secret::new(key.to_owned())));
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<http::HeaderValue>().unwrap())
        });
        gate.admit(&headers.collect(), &Uri::from_static("/"), local).map(|_| ())
    }

    #[test]
    fn both_ways_to_give_the_key_work() {
        for header in [("x-api-key", "k"), ("authorization", "Bearer k"), ("authorization", "bearer  k")] {
            assert_eq!(admit(Some("k"), false, &[header]), Ok(()), "{header:?}");
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused_even_at_this_machine() {
        for wrong in ["", "K", "kk", "k k"] {
            assert_eq!(admit(Some("k"), true, &[("x-api-key", wrong)]), Err(Code::WrongKey), "{wrong:?}");
        }
        assert_eq!(admit(Some("k"), true, &[("host", "localhost")]), Err(Code::MissingKey));
        assert_eq!(admit(Some("k"), true, &[("authorization", "Basic k")]), Err(Code::MissingKey));
    }

    #[test]
    fn without_a_key_only_this_machine_is_admitted() {
        for host in ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"] {
            assert_eq!(admit(None, true, &[("host", host)]), Ok(()), "{host}");
            assert_eq!(admit(None, false, &[("host", host)]), Err(Code::MissingKey), "{host} from elsewhere");
        }
        for host in
            ["evil.example", "127.0.0.1.nip.io", "192.0.2.1", "", "[::1", "[::1]evil.example", "localhost:x"]
        {
            assert_eq!(admit(None, true, &[("host", host)]), Err(Code::MissingKey), "{host}");
        }
    }

    #[test]
    fn what_was_forwarded_is_not_from_this_machine() {
        for name in
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"]
        {
            let headers = [("host", "localhost"), (name, "a")];
            assert_eq!(admit(None, true, &headers), Err(Code::MissingKey), "{name}");
        }
    }
}
