//! Logins: the API key exchanged once for a cookie, so that no browser has to keep the key.
//!
//! A token is 256 random bits; kept is a hash of it and the key together, so that neither the database nor a backup opens
//! anything, and another key ends every login. A token is exchanged for a new one when it is a day old. The old one counts
//! until the new one is used, because the answer that brings it may be lost, and for a minute more, because requests may
//! be under way with it. What nobody uses for thirty days ends.
//!
//! Cookies know no ports, and others on the same host set theirs: each data directory has a cookie of its own name.
//!
//! What a login opened for longer than a request, as a page of live events is, ends with it (`Login::over`).
//!
//! Cookies come along with what other pages ask. `SameSite=Strict` keeps them from it, and beside it a change that is
//! asked for with a cookie must be said by the browser to come from a page of ours (`is_said_to_be_ours`).

use std::net::IpAddr;

use acemux_store::{Store, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use http::header::{HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rand::distr::{Distribution, StandardUniform};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::config::Secret;
use crate::http::key::Key;
use crate::record::saved;

/// How every such cookie's name begins.
pub const COOKIE: &str = "acemux_login";
/// Most cookies of our name that are tried: another site of the host may have set one, too.
const MOST_TRIED: usize = 4;

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
    /// The cookie's name.
    name: String,
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
    /// What has been sent in its place and was not used yet.
    next: Option<Token>,
    /// What still counts for a moment.
    before: Option<Token>,
    /// Cancelled when it is forgotten. All copies of one login share it.
    #[serde(skip)]
    over: CancellationToken,
}

/// What outlives a restart.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The cookie's name.
    cookie: String,
    logins: Vec<Login>,
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
        let new = || Kept { cookie: format!("{COOKIE}_{}", random::<6>()), logins: Vec::new() };
        let Kept { cookie: name, logins } = saved::read(&store, DOCUMENT).await?.unwrap_or_else(new);
        let key = key.key.as_ref().ok().cloned();
        Ok(Self { key, name, known: Mutex::new(logins), ..Self::none(store) })
    }

    /// Nobody, and nobody to come: there is no key to show.
    pub fn none(store: Store) -> Self {
        let name = COOKIE.to_owned();
        Self { store, key: None, name, known: Mutex::default(), writing: tokio::sync::Mutex::default() }
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
            next: None,
            before: None,
            over: CancellationToken::new(),
        };
        let id = login.id.clone();
        {
            let mut known = self.known.lock();
            forget(&mut known, |login| login.is_over(now));
            if known.len() >= MOST {
                let oldest = known.iter().min_by_key(|login| login.used_at).map(|login| login.id.clone());
                forget(&mut known, |login| Some(&login.id) == oldest.as_ref());
            }
            known.push(login);
        }
        match self.keep().await {
            Ok(()) => Ok(bearer),
            Err(error) => {
                // Nobody gets its token.
                forget(&mut self.known.lock(), |login| login.id == id);
                Err(error)
            }
        }
    }

    /// Whose token this is.
    pub fn find(&self, bearer: &str, now: Timestamp) -> Option<Login> {
        let hash = self.hash(bearer)?;
        let mut known = self.known.lock();
        let login = known.iter_mut().find(|login| !login.is_over(now) && login.is_of(&hash, now))?;
        login.used_at = now;
        login.note_use_of(&hash, now);
        Some(login.clone())
    }

    /// Whoever comes with one of our cookies.
    pub(crate) fn of(&self, headers: &HeaderMap, now: Timestamp) -> Option<Login> {
        given(headers, &self.name).iter().find_map(|token| self.find(token, now))
    }

    /// The header that gives a browser its token.
    pub(crate) fn granted(&self, bearer: &Bearer, is_https: bool) -> HeaderValue {
        self.header(bearer.reveal(), cookie::time::Duration::seconds(IDLE.as_secs()), is_https)
    }

    /// The header that takes it away.
    pub(crate) fn taken(&self, is_https: bool) -> HeaderValue {
        self.header("", cookie::time::Duration::ZERO, is_https)
    }

    fn header(&self, value: &str, age: cookie::time::Duration, is_https: bool) -> HeaderValue {
        let cookie = Cookie::build((self.name.as_str(), value)).path("/").http_only(true);
        let cookie = cookie.same_site(SameSite::Strict).secure(is_https).max_age(age);
        HeaderValue::try_from(cookie.build().to_string()).expect("Base64 and names are a header value")
    }

    /// Another token for the one that this request brings, when it is time for that.
    pub(crate) async fn renewed_of(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Bearer>, StoreError> {
        for bearer in given(headers, &self.name) {
            if let Some(fresh) = self.renewed(&bearer, now).await? {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }

    /// Another token for this one, when it is time for that and none was sent just now.
    pub async fn renewed(&self, bearer: &str, now: Timestamp) -> Result<Option<Bearer>, StoreError> {
        let Some(hash) = self.hash(bearer) else { return Ok(None) };
        let (fresh, token) = self.make(now);
        {
            let mut known = self.known.lock();
            let is_new = |token: &Token| now.duration_since(token.made_at) <= OVERLAP;
            let due = |login: &&mut Login| {
                login.token.is(&hash)
                    && now.duration_since(login.token.made_at) >= RENEWED
                    && !login.next.as_ref().is_some_and(is_new)
            };
            let Some(login) = known.iter_mut().find(due) else { return Ok(None) };
            login.next = Some(token);
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

    /// Ends one, with whatever it has opened; whether there was one of this id.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        let is_less = forget(&mut self.known.lock(), |login| login.id == id);
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
        let kept = Kept { cookie: self.name.clone(), logins: self.known.lock().clone() };
        saved::write(&self.store, DOCUMENT, &kept).await
    }
}

/// Ends those of whom this holds; whether there was one. The only way out of the list.
fn forget(known: &mut Vec<Login>, is_meant: impl Fn(&Login) -> bool) -> bool {
    let gone = known.extract_if(.., |login| is_meant(login));
    gone.inspect(|login| login.over.cancel()).count() > 0
}

impl Login {
    /// Done when this login has been revoked or has given way, for what goes on longer than one request.
    pub(crate) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used_at) > IDLE
    }

    fn is_of(&self, hash: &str, now: Timestamp) -> bool {
        let counts = |token: &Token| now.duration_since(token.made_at) <= OVERLAP && token.is(hash);
        let is_next = self.next.as_ref().is_some_and(|next| next.is(hash));
        self.token.is(hash) || is_next || self.before.as_ref().is_some_and(counts)
    }

    /// Its browser has the new token: the old one counts no longer than requests are under way.
    fn note_use_of(&mut self, hash: &str, now: Timestamp) {
        if let Some(next) = self.next.take_if(|next| next.is(hash)) {
            let old = std::mem::replace(&mut self.token, next);
            self.before = Some(Token { made_at: now, ..old });
        }
    }
}

impl Token {
    fn is(&self, hash: &str) -> bool {
        !hash.is_empty() && bool::from(self.hash.as_bytes().ct_eq(hash.as_bytes()))
    }
}

/// The tokens that a request brings along under this name. What others have put into the same header hides none.
fn given(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(http::header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pairs = pairs.filter_map(|pair| str::from_utf8(pair).ok()?.trim().split_once('='));
    pairs.filter(|(given, _)| *given == name).map(|(_, value)| value.to_owned()).take(MOST_TRIED).collect()
}

/// Whether a browser says that a page of ours asks. That it does not say another's was seen to at the edge.
pub(crate) fn is_said_to_be_ours(method: &Method, headers: &HeaderMap) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    reads || headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE)
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
        assert!(logins.renewed(old.reveal(), at(24)).await.unwrap().is_none(), "one answer may be under way");
        assert!(logins.find(old.reveal(), at(25)).is_some(), "the answer may have been lost");
        let again = logins.renewed(old.reveal(), at(25)).await.unwrap().expect("then it is sent anew");
        assert!(logins.find(fresh.reveal(), at(25)).is_none());
        let fresh = again;
        for bearer in [&fresh, &old] {
            assert!(logins.find(bearer.reveal(), at(25)).is_some());
        }
        assert!(logins.find(old.reveal(), at(26)).is_none(), "the new one was used");
        assert!(logins.find(fresh.reveal(), at(26)).is_some());
        assert_eq!(logins.all(at(26)).len(), 1);
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

    #[tokio::test]
    async fn a_cookie_is_for_our_pages_alone_and_has_a_name_of_its_data_directory() {
        let stores = [Store::in_memory(), Store::in_memory()];
        let key = "a-key-of-twenty-signs";
        let (one, other) = (logins(&stores[0], key).await, logins(&stores[1], key).await);
        assert_ne!(one.name, other.name, "two services on one host");
        one.begin(HERE, "", at(0)).await.unwrap();
        assert_eq!(logins(&stores[0], key).await.name, one.name);
        let set = one.granted(&Secret::new("00ff".to_owned()), false).to_str().unwrap().to_owned();
        assert_eq!(set, format!("{}=00ff; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000", one.name));
        let taken = one.taken(true).to_str().unwrap().to_owned();
        assert_eq!(taken, format!("{}=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0", one.name));
    }

    #[test]
    fn what_others_have_set_hides_no_cookie_of_ours() {
        let tokens = |lines: &[&[u8]]| {
            let lines = lines.iter().map(|line| HeaderValue::from_bytes(line).unwrap());
            given(&lines.map(|line| (http::header::COOKIE, line)).collect(), "ours")
        };
        assert_eq!(tokens(&[b"a=b; ours2=x", b"broken; ours=00ff; c=d"]), ["00ff"]);
        assert_eq!(tokens(&[b"other=caf\xe9; ours=00ff"]), ["00ff"]);
        assert_eq!(tokens(&[b"ours=evil; ours=00ff"]), ["evil", "00ff"]);
        assert_eq!(tokens(&["ours=x;".repeat(1000).as_bytes()]).len(), MOST_TRIED);
        assert!(tokens(&[]).is_empty());
    }

    #[test]
    fn a_change_by_cookie_must_be_said_to_be_ours() {
        let none = HeaderMap::new();
        let said = HeaderMap::from_iter([(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"))]);
        assert!(is_said_to_be_ours(&Method::GET, &none) && is_said_to_be_ours(&Method::DELETE, &said));
        assert!(!is_said_to_be_ours(&Method::POST, &none) && !is_said_to_be_ours(&Method::DELETE, &none));
    }
}
