//! Who may do more than watch: whoever has the API key, or if the settings say so whoever sits at this machine.
//!
//! "At this machine" is judged by the socket and the request together: a loopback peer that asks a loopback host, for no
//! page of another origin, and that was not forwarded by anything. So neither a web page whose name resolves to 127.0.0.1
//! passes for the operator, nor a reverse proxy on the same machine that says so. One that says nothing, or a tunnel, does:
//! therefore the rule is off unless somebody asks for it.
//!
//! Who has shown the key once may come with a cookie instead ([`crate::http::logins`]).
//!
//! A key is compared here and nowhere else, and not as often as anybody likes ([`crate::http::guesses`]).

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use acemux_relay::admission::AddressGroup;
use axum::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Version};
use jiff::Timestamp;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::config::{Secret, WithoutKey};
use crate::http::browser;
use crate::http::client::TrustedProxies;
use crate::http::guesses::{Counts, Guesses, Locked};
use crate::http::key::{Key, Lack, Place};
use crate::http::logins::{self, Logins};
use crate::http::problem::{Code, Problem};
use crate::http::serve::ConnectionControl;
use crate::http::site::{self, Site};
use crate::record::audit::{self, Note, Who};

/// Proof that the request may change things and see everything. Pages that need it take it as an argument. What a page
/// changes it says to its operator, for the audit.
#[derive(Clone, Debug)]
pub struct Operator {
    note: Note,
    over: Over,
}

/// When a right ends: cancelled with the login that gave it. What a key gives does not end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Over(CancellationToken);

impl Over {
    /// Waits until it is over.
    pub(crate) async fn over(&self) {
        self.0.cancelled().await;
    }
}

impl Operator {
    /// How somebody became one.
    pub(crate) fn who(&self) -> Option<Who> {
        self.note.who()
    }

    /// For what goes on longer than one request.
    pub(crate) fn over(&self) -> Over {
        self.over.clone()
    }

    /// What there was before this request.
    pub(crate) fn was(&self, before: Value) {
        self.note.was(before);
    }

    /// What there is now.
    pub(crate) fn made(&self, after: Value) {
        self.note.is(after);
    }

    /// Both, of a state that stands as an object: only what differs is told.
    pub(crate) fn changed(&self, before: Value, after: Value) {
        let (before, after) = audit::difference(before, after);
        self.was(before);
        self.made(after);
    }
}

/// What opens.
#[derive(Debug)]
pub struct Gate {
    /// The key, or what is answered instead.
    key: Result<Secret<String>, Code>,
    /// Whether this machine needs none.
    opens_at_loopback: bool,
    guesses: Guesses,
    logins: Logins,
}

/// Who gives a key.
#[derive(Clone, Debug)]
pub struct Asker {
    client: AddressGroup,
    /// Absent when the request did not come through the accept loop, as in a test that calls the router.
    control: Option<ConnectionControl>,
}

/// Why the gate does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// By what was given, or by what there is.
    By(Code),
    /// This client has given too many wrong keys.
    For(Locked),
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What proxies, balancers and tunnels add. Any of them means that the peer's address says nothing about who asks.
const FORWARDING: [&str; 16] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-proxyuser-ip",
    "x-varnish",
    "client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "wl-proxy-client-ip",
    "incap-client-ip",
    "cdn-loop",
    "proxy-connection",
];

/// The same by how their names begin.
const FORWARDING_FAMILIES: [&str; 9] = [
    "x-forwarded",
    "x-original",
    "x-envoy-",
    "x-amz",
    "x-azure-",
    "x-appengine-",
    "x-cloud-trace",
    "cf-",
    "fly-",
];

impl Gate {
    /// Opens for this key and for who has shown it, and without one in the settings for whom they let in.
    pub fn new(Key { place, key }: Key, without_key: WithoutKey, counts: Counts, logins: Logins) -> Self {
        let key =
            key.map_err(|lack| if matches!(lack, Lack::TooShort) { Code::ShortKey } else { Code::NoKey });
        // Who has chosen a key wants it to be asked for, also when it is too short.
        let opens_at_loopback = without_key == WithoutKey::Loopback && place != Place::Settings;
        Self { key, opens_at_loopback, guesses: Guesses::new(counts), logins }
    }

    /// Who has shown the key before.
    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// Whether this is the key, if that may be asked. It stands in the body of the request with these extensions.
    pub(crate) fn shown(&self, key: &[u8], asker: &Asker, extensions: &Extensions) -> Result<(), Closed> {
        note_of(extensions).is_by(self.compare(key, asker)?);
        Ok(())
    }

    fn admit(&self, request: &Parts, asker: &Asker) -> Result<(Who, Over), Closed> {
        let is_local = asker.is_at_loopback();
        let for_good = |who| (who, Over::default());
        match given_key(&request.headers).map_err(Closed::By)? {
            Some(given) => self.compare(given, asker).map(for_good),
            None if let Some(over) = self.by_login(request)? => Ok((Who::Login, over)),
            None if self.opens_at_loopback && is_local && is_at_this_machine(request) => {
                Ok(for_good(Who::ThisMachine))
            }
            None => Err(Closed::By(self.key.as_ref().err().copied().unwrap_or(Code::MissingKey))),
        }
    }

    /// By the cookie, if it is one of ours. A stale or foreign one counts as none.
    fn by_login(&self, request: &Parts) -> Result<Option<Over>, Closed> {
        let Some(login) = self.logins.of(&request.headers, Timestamp::now()) else { return Ok(None) };
        if logins::is_said_to_be_ours(&request.method, &request.headers) {
            Ok(Some(Over(login.over())))
        } else {
            Err(Closed::By(Code::BadOrigin))
        }
    }

    /// False when no key opens anything.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_ok()
    }

    /// Whether these headers hold the key, if that may be asked.
    pub(crate) fn opens_for(&self, headers: &HeaderMap, asker: &Asker) -> Result<bool, Locked> {
        // Two keys open nothing; the page says why.
        let given = given_key(headers).ok().flatten();
        match given.map(|given| self.compare(given, asker)) {
            Some(Ok(_)) => Ok(true),
            Some(Err(Closed::For(locked))) => Err(locked),
            Some(Err(Closed::By(_))) | None => Ok(false),
        }
    }

    fn compare(&self, given: &[u8], asker: &Asker) -> Result<Who, Closed> {
        let key = self.key.as_ref().map_err(|code| Closed::By(*code))?;
        let is_right = || bool::from(given.ct_eq(key.reveal().as_bytes()));
        if asker.shows_key() && is_right() {
            return Ok(Who::Key);
        }
        let checked = self.guesses.check(asker.client, is_right);
        asker.note_key(checked == Ok(true));
        match checked {
            Ok(true) => Ok(Who::Key),
            Ok(false) => Err(Closed::By(Code::WrongKey)),
            Err(locked) => Err(Closed::For(locked)),
        }
    }
}

impl Asker {
    /// Whoever sent a request with this head.
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let control = extensions.get::<ConnectionControl>().cloned();
        let peer = control.as_ref().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |control| control.peer().ip());
        Self { client: trusted.client_address(peer, headers).into(), control }
    }

    /// By the socket: what a proxy says does not count here.
    fn is_at_loopback(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.peer().ip().to_canonical().is_loopback())
    }

    fn shows_key(&self) -> bool {
        self.control.as_ref().is_some_and(ConnectionControl::shows_key)
    }

    fn note_key(&self, is_right: bool) {
        if let Some(control) = &self.control {
            control.note_key(is_right);
        }
    }
}

impl From<Locked> for Problem {
    fn from(Locked(wait): Locked) -> Self {
        let detail = "Too many wrong keys from this address: none is looked at for a while.";
        Self::new(Code::TooManyRequests).with_detail(detail).retry_after(wait)
    }
}

impl From<Closed> for Problem {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::By(code) => code.into(),
            Closed::For(locked) => locked.into(),
        }
    }
}

/// What is known of the change that is asked for; what only reads has no note.
fn note_of(extensions: &Extensions) -> Note {
    extensions.get::<Note>().cloned().unwrap_or_default()
}

/// `X-API-KEY: k` or `Authorization: Bearer k`; the scheme's case does not matter. The first counts when there are both:
/// the second may be meant for a proxy in front.
fn given_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Code> {
    if let Some(key) = only(headers, X_API_KEY)? {
        return Ok(Some(key.trim_ascii()));
    }
    let Some(value) = only(headers, AUTHORIZATION)? else { return Ok(None) };
    let bearer = value.split_at_checked(b"bearer ".len());
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    Ok(bearer.map(|(_, key)| key.trim_ascii()))
}

/// The header's value. Of two nobody knows which one is meant, and a proxy in front may have looked at the other.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, Code> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(Code::AmbiguousKey) } else { Ok(first.map(HeaderValue::as_bytes)) }
}

/// What the request itself tells. Proxies as they come speak HTTP/1.0 (nginx) and pass on what their client's browser says.
fn is_at_this_machine(request: &Parts) -> bool {
    let Parts { uri, headers, version, .. } = request;
    let asks_loopback = site::asked(uri, headers).and_then(Site::parse).is_some_and(Site::is_loopback);
    asks_loopback
        && *version != Version::HTTP_10
        && !headers.keys().any(is_of_a_proxy)
        && !browser::is_foreign(uri, headers, false)
}

fn is_of_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    FORWARDING.contains(&name) || FORWARDING_FAMILIES.iter().any(|family| name.starts_with(family))
}

impl<S> FromRequestParts<S> for Asker
where
    TrustedProxies: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions, &parts.headers, &TrustedProxies::from_ref(state)))
    }
}

impl<S> FromRequestParts<S> for Operator
where
    TrustedProxies: FromRef<S>,
    Arc<Gate>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asker = Asker::of(&parts.extensions, &parts.headers, &TrustedProxies::from_ref(state));
        let (who, over) = Arc::<Gate>::from_ref(state).admit(parts, &asker)?;
        let note = note_of(&parts.extensions);
        note.is_by(who);
        Ok(Self { note, over })
    }
}

/// For pages that show an operator more than others. A wrong key is refused there, too, or it could be guessed here.
impl<S> OptionalFromRequestParts<S> for Operator
where
    TrustedProxies: FromRef<S>,
    Arc<Gate>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Problem> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Ok(operator) => Ok(Some(operator)),
            Err(problem) if problem.code() == Code::MissingKey || !Arc::<Gate>::from_ref(state).has_key() => {
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use acemux_store::Store;

    use super::*;

    const KEY: &str = "a-key-of-twenty-signs";

    fn gate(key: Result<&str, Lack>, place: Place, without_key: WithoutKey) -> Gate {
        let key = key.map(|key| Secret::new(key.to_owned()));
        Gate::new(Key { place, key }, without_key, Counts::default(), Logins::none(Store::in_memory()))
    }

    fn connection(peer: [u8; 4]) -> Asker {
        let control = ConnectionControl::new((peer, 1).into());
        Asker { client: IpAddr::from(peer).into(), control: Some(control) }
    }

    fn asker(local: bool) -> Asker {
        connection(if local { [127, 0, 0, 1] } else { [192, 0, 2, 1] })
    }

    fn give(gate: &Gate, asker: &Asker, key: &str) -> Result<(), Closed> {
        let request = http::Request::builder().header("x-api-key", key).body(()).unwrap();
        gate.admit(&request.into_parts().0, asker).map(|_| ())
    }

    fn ask(gate: &Gate, local: bool, headers: &[(&str, &str)]) -> Result<(), Code> {
        let mut request = http::Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let admitted = gate.admit(&request.body(()).unwrap().into_parts().0, &asker(local));
        admitted.map(|_| ()).map_err(|closed| match closed {
            Closed::By(code) => code,
            Closed::For(_) => Code::TooManyRequests,
        })
    }

    fn with_key(local: bool, headers: &[(&str, &str)]) -> Result<(), Code> {
        ask(&gate(Ok(KEY), Place::Settings, WithoutKey::Loopback), local, headers)
    }

    fn at_loopback(local: bool, headers: &[(&str, &str)]) -> Result<(), Code> {
        ask(&gate(Ok(KEY), Place::File("api-key".into()), WithoutKey::Loopback), local, headers)
    }

    #[test]
    fn both_ways_to_give_the_key_work() {
        let bearer = [format!("Bearer {KEY}"), format!("bearer  {KEY} ")];
        assert_eq!(with_key(false, &[("x-api-key", KEY)]), Ok(()));
        for header in &bearer {
            assert_eq!(with_key(false, &[("authorization", header)]), Ok(()), "{header}");
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused_even_at_this_machine() {
        let upper = KEY.to_uppercase();
        let (longer, prefix) = (format!("{KEY}1"), &KEY[..20]);
        for wrong in ["", "k", &upper, &longer, prefix] {
            assert_eq!(with_key(true, &[("x-api-key", wrong)]), Err(Code::WrongKey), "{wrong:?}");
            assert_eq!(
                at_loopback(true, &[("host", "localhost"), ("x-api-key", wrong)]),
                Err(Code::WrongKey)
            );
        }
        assert_eq!(with_key(true, &[("host", "localhost")]), Err(Code::MissingKey));
        assert_eq!(with_key(true, &[("authorization", &format!("Basic {KEY}"))]), Err(Code::MissingKey));
    }

    #[test]
    fn this_machine_needs_a_key_unless_the_settings_say_otherwise() {
        let by_default = gate(Ok(KEY), Place::File("api-key".into()), WithoutKey::Nobody);
        assert_eq!(ask(&by_default, true, &[("host", "localhost")]), Err(Code::MissingKey));
        assert_eq!(ask(&by_default, false, &[("x-api-key", KEY)]), Ok(()));
        for host in ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"] {
            assert_eq!(at_loopback(true, &[("host", host)]), Ok(()), "{host}");
            assert_eq!(at_loopback(false, &[("host", host)]), Err(Code::MissingKey), "{host} from elsewhere");
        }
        for host in
            ["evil.example", "127.0.0.1.nip.io", "192.0.2.1", "", "[::1", "[::1]evil.example", "localhost:x"]
        {
            assert_eq!(at_loopback(true, &[("host", host)]), Err(Code::MissingKey), "{host}");
        }
    }

    #[test]
    fn what_was_forwarded_or_comes_from_another_origin_is_not_from_this_machine() {
        let families = FORWARDING_FAMILIES.map(|family| format!("{family}a"));
        let usual =
            ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "cf-connecting-ip", "cf-ray"];
        let names = families.iter().map(String::as_str).chain(FORWARDING).chain(usual);
        for name in names.chain(["x-original-forwarded-for", "x-amzn-trace-id"]) {
            assert_eq!(
                at_loopback(true, &[("host", "localhost"), (name, "a")]),
                Err(Code::MissingKey),
                "{name}"
            );
        }
        for foreign in
            [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
        {
            assert_eq!(
                at_loopback(true, &[("host", "localhost"), foreign]),
                Err(Code::MissingKey),
                "{foreign:?}"
            );
        }
        assert_eq!(at_loopback(true, &[("host", "localhost"), ("origin", "http://localhost")]), Ok(()));
        let old = http::Request::builder().version(Version::HTTP_10).header("host", "localhost");
        let old = old.body(()).unwrap().into_parts().0;
        let gate = gate(Ok(KEY), Place::Nowhere, WithoutKey::Loopback);
        assert!(gate.admit(&old, &asker(true)).is_err(), "as nginx asks when nobody has told it more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_uses_the_pages_goes_on_while_a_stranger_guesses_behind_the_same_address() {
        let gate = gate(Ok(KEY), Place::Settings, WithoutKey::Nobody);
        let [house, stranger, late] =
            [connection([192, 0, 2, 1]), connection([192, 0, 2, 1]), connection([192, 0, 2, 1])];
        assert_eq!(give(&gate, &house, KEY), Ok(()));
        for _ in 0..20 {
            assert_eq!(give(&gate, &stranger, "no"), Err(Closed::By(Code::WrongKey)));
        }
        for newcomer in [&stranger, &late] {
            assert!(
                matches!(give(&gate, newcomer, KEY), Err(Closed::For(_))),
                "a guess is never told from a key"
            );
        }
        assert_eq!(give(&gate, &connection([192, 0, 2, 2]), KEY), Ok(()));
        for _ in 0..100 {
            assert_eq!(give(&gate, &house, KEY), Ok(()));
        }
        // A proxy may carry both over one connection.
        assert!(give(&gate, &house, "no").is_err());
        assert!(matches!(give(&gate, &house, KEY), Err(Closed::For(_))));
        let headers = HeaderMap::from_iter([(X_API_KEY, HeaderValue::from_static(KEY))]);
        assert!(gate.opens_for(&headers, &late).is_err(), "nor by another page");
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        assert_eq!(give(&gate, &late, KEY), Ok(()));
    }

    #[test]
    fn without_a_usable_key_the_answer_names_the_cause_whatever_is_given() {
        for (lack, place, code) in
            [(Lack::TooShort, Place::Settings, Code::ShortKey), (Lack::NotKept, Place::Nowhere, Code::NoKey)]
        {
            let gate = gate(Err(lack), place, WithoutKey::Nobody);
            for headers in [&[][..], &[("x-api-key", "abc")], &[("x-api-key", "")], &[("host", "localhost")]]
            {
                assert_eq!(ask(&gate, true, headers), Err(code), "{headers:?}");
            }
        }
        let chosen = gate(Err(Lack::TooShort), Place::Settings, WithoutKey::Loopback);
        assert_eq!(ask(&chosen, true, &[("host", "localhost")]), Err(Code::ShortKey));
    }
}
