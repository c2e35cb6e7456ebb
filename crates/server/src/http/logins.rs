//! Logins: the API key exchanged once for a cookie, so that no browser has to keep the key.
//!
//! A token is 256 random bits; kept is a hash of it and the key together, so that neither the database nor a backup opens
//! anything, and another key ends every login. A token is exchanged for a new one when it is a day old; for a minute the
//! old one still counts, because requests may be under way with it. What nobody uses for thirty days ends.
//!
//! Cookies come along with what other pages ask. `SameSite=Strict` keeps them from it, and beside it a change that is
//! asked for with a cookie must be said by the browser to come from a page of ours (`is_said_to_be_ours`).

use std::net::IpAddr;

use acemux_store::{Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rand::distr::{Distribution, StandardUniform};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Secret;
use crate::http::key::Key;
use crate::record::saved;

/// The cookie's name.
pub const COOKIE_NAME: &str = "acemux_login";

/// Where logins stand in the store.
const DOCUMENT: &str = "logins";
/// Most logins at a time; the one that was used least recently gives way.
const MOST: usize = 32;
/// A login that nobody uses for so long is over.
const IDLE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A token of this age is exchanged.
const RENEWED: SignedDuration = SignedDuration::from_hours(24);
/// For so long the token before still counts.
const OVERLAP: SignedDuration = SignedDuration::from_mins(1);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Everybody who is logged in.
#[derive(Debug)]
pub struct Logins {
    store: Store,
    key: Option<Secret<String>>,
    known: Mutex<Vec<Login>>,
    /// One document is written after the other, so that the newest is what stays.
    writing: tokio::sync::Mutex<()>,
}

/// One browser that has shown the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Login {
    /// Names it; opens nothing.
    pub id: String,
    /// When the key was shown.
    pub created_at: Timestamp,
    /// When it was used last, as far as that is known: kept at least once a day.
    pub used_at: Timestamp,
    /// Whose address it was.
    pub address: IpAddr,
    /// Which browser, by its own word.
    pub user_agent: String,
    token: Token,
    /// What still counts for a moment.
    before: Option<Token>,
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    /// SHA-256, in Base64.
    hash: String,
    made_at: Timestamp,
}

/// A token as its browser gets it.
pub type Bearer = Secret<String>;

impl Logins {
    /// Those of earlier runs, as far as they are of this key.
    pub async fn load(store: Store, key: &Key) -> Result<Self, StoreError> {
        let known = saved::read(&store, DOCUMENT).await?.unwrap_or_default();
        let key = key.key.as_ref().ok().cloned();
        Ok(Self { key, known: Mutex::new(known), ..Self::none(store) })
    }

    /// Nobody, and nobody to come: there is no key to show.
    pub fn none(store: Store) -> Self {
        Self { store, key: None, known: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    /// For whoever has just shown the key. When this returns, it survives a power loss.
    pub async fn begin(
        &self,
        address: IpAddr,
        user_agent: &str,
        now: Timestamp,
    ) -> Result<Bearer, StoreError> {
        let (bearer, token) = self.make(now);
        let login = Login {
            id: random::<8>(),
            created_at: now,
            used_at: now,
            address,
            user_agent: user_agent.to_owned(),
            token,
            before: None,
        };
        {
            let mut known = self.known.lock();
            known.retain(|login| !login.is_over(now));
            if known.len() >= MOST {
                let oldest =
                    known.iter().enumerate().min_by_key(|(_, login)| login.used_at).map(|(at, _)| at);
                oldest.map(|at| known.remove(at));
            }
            known.push(login);
        }
        self.keep().await?;
        Ok(bearer)
    }

    /// Whose token this is.
    pub fn find(&self, bearer: &str, now: Timestamp) -> Option<Login> {
        let hash = self.hash(bearer)?;
        let mut known = self.known.lock();
        let login = known.iter_mut().find(|login| !login.is_over(now) && login.is_of(&hash, now))?;
        login.used_at = now;
        Some(login.clone())
    }

    /// Another token for this one, when it is time for that.
    pub async fn renewed(&self, bearer: &str, now: Timestamp) -> Result<Option<Bearer>, StoreError> {
        let Some(hash) = self.hash(bearer) else { return Ok(None) };
        let (fresh, token) = self.make(now);
        {
            let mut known = self.known.lock();
            let due = |login: &&mut Login| {
                login.token.is(&hash) && now.duration_since(login.token.made_at) >= RENEWED
            };
            let Some(login) = known.iter_mut().find(due) else { return Ok(None) };
            let old = std::mem::replace(&mut login.token, token);
            login.before = Some(Token { made_at: now, ..old });
        }
        self.keep().await?;
        Ok(Some(fresh))
    }

    /// All that are not over, the one used last first.
    pub fn all(&self, now: Timestamp) -> Vec<Login> {
        let mut all: Vec<Login> =
            self.known.lock().iter().filter(|login| !login.is_over(now)).cloned().collect();
        all.sort_by_key(|login| std::cmp::Reverse(login.used_at));
        all
    }

    /// Ends one; whether there was one of this id.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        let before = self.known.lock().len();
        self.known.lock().retain(|login| login.id != id);
        let is_less = self.known.lock().len() < before;
        if is_less {
            self.keep().await?;
        }
        Ok(is_less)
    }

    fn make(&self, now: Timestamp) -> (Bearer, Token) {
        let bearer = random::<32>();
        // Without a key nobody logs in; what is made then opens nothing.
        let hash = self.hash(&bearer).unwrap_or_default();
        (Secret::new(bearer), Token { hash, made_at: now })
    }

    fn hash(&self, bearer: &str) -> Option<String> {
        let key = self.key.as_ref()?.reveal();
        let mut hash = Sha256::new();
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update(bearer);
        Some(URL_SAFE_NO_PAD.encode(hash.finalize()))
    }

    async fn keep(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock().await;
        let known = self.known.lock().clone();
        saved::write(&self.store, DOCUMENT, &known).await
    }
}

impl Login {
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used_at) > IDLE
    }

    fn is_of(&self, hash: &str, now: Timestamp) -> bool {
        let counts = |token: &Token| now.duration_since(token.made_at) <= OVERLAP && token.is(hash);
        self.token.is(hash) || self.before.as_ref().is_some_and(counts)
    }
}

impl Token {
    fn is(&self, hash: &str) -> bool {
        !hash.is_empty() && bool::from(self.hash.as_bytes().ct_eq(hash.as_bytes()))
    }
}

/// The token that a request brings along.
pub(crate) fn given(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(|line| Cookie::split_parse(line.to_owned())).filter_map(Result::ok);
    cookies.filter(|cookie| cookie.name() == COOKIE_NAME).map(|cookie| cookie.value().to_owned()).next()
}

/// Whether a browser says that a page of ours asks. That it does not say another's was seen to at the edge.
pub(crate) fn is_said_to_be_ours(method: &Method, headers: &HeaderMap) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    reads || headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE)
}

/// The header that gives a browser its token.
pub(crate) fn granted(bearer: &Bearer, is_https: bool) -> HeaderValue {
    header(bearer.reveal(), cookie::time::Duration::seconds(IDLE.as_secs()), is_https)
}

/// The header that takes it away.
pub(crate) fn taken(is_https: bool) -> HeaderValue {
    header("", cookie::time::Duration::ZERO, is_https)
}

fn header(value: &str, age: cookie::time::Duration, is_https: bool) -> HeaderValue {
    let cookie = Cookie::build((COOKIE_NAME, value)).path("/").http_only(true).same_site(SameSite::Strict);
    let cookie = cookie.secure(is_https).max_age(age).build().to_string();
    HeaderValue::try_from(cookie).expect("Base64 and names are a header value")
}

/// So many random bytes, as a cookie and a path can hold them.
fn random<const N: usize>() -> String
where
    StandardUniform: Distribution<[u8; N]>,
{
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; N]>())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::http::key::Place;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn logins(store: &Store, key: &str) -> Logins {
        let key = Key { place: Place::Settings, key: Ok(Secret::new(key.to_owned())) };
        Logins::load(store.clone(), &key).await.unwrap()
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    #[tokio::test]
    async fn a_token_opens_across_restarts_until_it_is_revoked_or_the_key_is_another() {
        let store = Store::in_memory();
        let first = logins(&store, "a-key-of-twenty-signs").await;
        let bearer = first.begin(HERE, "Firefox", at(0)).await.unwrap();
        let second = logins(&store, "a-key-of-twenty-signs").await;
        let login = second.find(bearer.reveal(), at(1)).unwrap();
        assert_eq!((login.user_agent.as_str(), login.used_at), ("Firefox", at(1)));
        assert!(second.find("", at(1)).is_none() && second.find(&login.id, at(1)).is_none());
        assert!(logins(&store, "another-key-of-twenty").await.find(bearer.reveal(), at(1)).is_none());
        assert!(Logins::none(store.clone()).find(bearer.reveal(), at(1)).is_none());
        let kept = store.setting(DOCUMENT).await.unwrap().unwrap().to_string();
        assert!(!kept.contains(bearer.reveal()), "{kept}");
        assert!(second.revoke(&login.id).await.unwrap() && !second.revoke(&login.id).await.unwrap());
        assert!(second.find(bearer.reveal(), at(1)).is_none());
        assert!(logins(&store, "a-key-of-twenty-signs").await.all(at(1)).is_empty());
    }

    #[tokio::test]
    async fn a_token_is_exchanged_once_a_day_and_the_old_one_counts_a_moment_longer() {
        let store = Store::in_memory();
        let logins = logins(&store, "a-key-of-twenty-signs").await;
        let old = logins.begin(HERE, "", at(0)).await.unwrap();
        assert!(logins.renewed(old.reveal(), at(23)).await.unwrap().is_none());
        let fresh = logins.renewed(old.reveal(), at(24)).await.unwrap().expect("it is time");
        assert!(logins.renewed(old.reveal(), at(24)).await.unwrap().is_none(), "once");
        for bearer in [&old, &fresh] {
            assert!(logins.find(bearer.reveal(), at(24)).is_some());
        }
        assert!(logins.find(old.reveal(), at(25)).is_none());
        assert!(logins.find(fresh.reveal(), at(25)).is_some());
        assert_eq!(logins.all(at(25)).len(), 1);
    }

    #[tokio::test]
    async fn what_nobody_uses_ends_and_of_too_many_the_least_used_gives_way() {
        let store = Store::in_memory();
        let logins = logins(&store, "a-key-of-twenty-signs").await;
        let unused = logins.begin(HERE, "", at(0)).await.unwrap();
        assert!(logins.find(unused.reveal(), at(30 * 24)).is_some());
        assert!(logins.find(unused.reveal(), at(61 * 24)).is_none());
        let mut bearers = Vec::new();
        for n in 0..=MOST {
            bearers.push(logins.begin(HERE, "", at(61 * 24 + i64::try_from(n).unwrap())).await.unwrap());
        }
        assert_eq!(logins.all(at(64 * 24)).len(), MOST);
        assert!(logins.find(bearers[0].reveal(), at(64 * 24)).is_none());
        assert!(logins.find(bearers[1].reveal(), at(64 * 24)).is_some());
    }

    #[test]
    fn the_cookie_is_for_our_pages_alone_and_found_among_others() {
        let bearer = Secret::new("00ff".to_owned());
        let plain = granted(&bearer, false);
        assert_eq!(plain, "acemux_login=00ff; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000");
        assert_eq!(taken(true), "acemux_login=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0");
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; acemux_login2=x"));
        headers.append(COOKIE, HeaderValue::from_static("broken; acemux_login=00ff; c=d"));
        assert_eq!(given(&headers).as_deref(), Some("00ff"));
        assert_eq!(given(&HeaderMap::new()), None);
    }

    #[test]
    fn a_change_by_cookie_must_be_said_to_be_ours() {
        let none = HeaderMap::new();
        let said = HeaderMap::from_iter([(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"))]);
        assert!(is_said_to_be_ours(&Method::GET, &none) && is_said_to_be_ours(&Method::DELETE, &said));
        assert!(!is_said_to_be_ours(&Method::POST, &none) && !is_said_to_be_ours(&Method::DELETE, &none));
    }
}
