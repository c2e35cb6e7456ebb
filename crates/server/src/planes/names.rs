//! What operators call viewers: a name for an address or a network, and perhaps for one family of players there.
//!
//! Nobody is told by it: it is shown to operators beside the address. The most exact name counts, by address first.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use acemux_engine::text;
use acemux_store::{Store, StoreError};
use ipnet::IpNet;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::http::client::parse_network;
use crate::planes::players::Player;
use crate::record::saved;

/// Where they stand in the store.
const KEY: &str = "viewer_names";

/// Most names.
pub const MOST: usize = 1_000;

/// Longest name, in characters.
pub const LONGEST: usize = 64;

/// One name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[schema(as = ViewerName)]
pub struct Named {
    /// An address, or a network such as `192.168.1.0/24`.
    pub address: String,
    /// The family of players, or none for all of them.
    pub player: Option<Player>,
    /// What it is called.
    pub name: String,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Whose {
    network: IpNet,
    player: Option<Player>,
}

/// Why a name is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is for no address.
    #[error("address is an address or a network: 192.168.1.20, 192.168.1.0/24, 2001:db8::/64")]
    Address,
    /// No such family is known.
    #[error("player is one of {}", Player::words())]
    Player,
    /// It is no name.
    #[error("name is one line of 1 to {LONGEST} characters, without any that steer or hide")]
    Name,
    /// It is for no channel.
    #[error("the id of a channel is 40 hex digits")]
    Id,
    /// There are as many as may be.
    #[error("{MOST} names are kept at most")]
    Full,
    /// It cannot be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All names.
pub struct Names {
    store: Store,
    book: RwLock<Arc<Book>>,
    /// One writes at a time, so that what is written last is what counts now.
    saving: Mutex<()>,
}

/// The names by whose they are.
#[derive(Clone, Debug, Default)]
struct Book {
    names: HashMap<Whose, String>,
    /// The lengths of prefixes that there are.
    lengths: BTreeSet<u8>,
}

impl Whose {
    /// By an address or a network, and a family's name.
    pub fn parse(address: &str, player: Option<&str>) -> Result<Self, Unfit> {
        let network = parse_network(address.trim()).ok_or(Unfit::Address)?;
        let player = player.map(|player| Player::named(player).ok_or(Unfit::Player)).transpose()?;
        Ok(Self { network: network.trunc(), player })
    }

    /// As it is shown: a network of one address is that address.
    fn address(self) -> String {
        let is_one = self.network.prefix_len() == self.network.max_prefix_len();
        if is_one { self.network.addr().to_string() } else { self.network.to_string() }
    }

    fn named(self, name: &str) -> Named {
        Named { address: self.address(), player: self.player, name: name.to_owned() }
    }
}

impl Names {
    /// As they were kept; those that cannot be read any more are left out.
    pub async fn load(store: Store) -> Self {
        let kept: Vec<serde_json::Value> = match saved::read(&store, KEY).await {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the names of viewers cannot be read");
                Vec::new()
            }
        };
        let (mut book, all) = (Book::default(), kept.len());
        for named in kept.into_iter().take(MOST) {
            if let Some((whose, name)) = of_kept(named) {
                book.put(whose, name);
            }
        }
        if book.names.len() < all {
            let left_out = all - book.names.len();
            tracing::warn!(left_out, "some names of viewers cannot be read and are not used");
        }
        Self { store, book: RwLock::new(Arc::new(book)), saving: Mutex::default() }
    }

    /// What a viewer is called, if it has a name.
    pub fn of(&self, address: IpAddr, player: Player) -> Option<String> {
        self.book.read().find(address.to_canonical(), player).map(str::to_owned)
    }

    /// All of them, in order.
    pub fn all(&self) -> Vec<Named> {
        self.book.read().list()
    }

    /// Gives a name, and tells what was called what before.
    pub async fn put(&self, whose: Whose, name: &str) -> Result<(Option<Named>, Named), Unfit> {
        let name = fit(name).ok_or(Unfit::Name)?;
        let before = self.change(|book| {
            if book.names.len() >= MOST && !book.names.contains_key(&whose) {
                return Err(Unfit::Full);
            }
            Ok(book.put(whose, name.clone()))
        });
        let before = before.await?.map(|before| whose.named(&before));
        Ok((before, whose.named(&name)))
    }

    /// Takes a name back; what it was, if there was one.
    pub async fn remove(&self, whose: Whose) -> Result<Option<Named>, Unfit> {
        let before = self.change(|book| Ok(book.remove(whose))).await?;
        Ok(before.map(|before| whose.named(&before)))
    }

    /// Nothing counts before it is durable.
    async fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, Unfit>) -> Result<T, Unfit> {
        let _turn = self.saving.lock().await;
        let mut book = Book::clone(&self.book.read());
        let told = change(&mut book)?;
        saved::write(&self.store, KEY, &book.list()).await?;
        *self.book.write() = Arc::new(book);
        Ok(told)
    }
}

impl Book {
    fn find(&self, address: IpAddr, player: Player) -> Option<&str> {
        let whole = IpNet::from(address);
        let lengths = self.lengths.range(..=whole.prefix_len()).rev();
        let networks = lengths.filter_map(|length| IpNet::new(address, *length).ok());
        networks.into_iter().find_map(|network| {
            let of = |player| self.names.get(&Whose { network: network.trunc(), player });
            of(Some(player)).or_else(|| of(None)).map(String::as_str)
        })
    }

    fn put(&mut self, whose: Whose, name: String) -> Option<String> {
        self.lengths.insert(whose.network.prefix_len());
        self.names.insert(whose, name)
    }

    fn remove(&mut self, whose: Whose) -> Option<String> {
        let name = self.names.remove(&whose);
        self.lengths = self.names.keys().map(|whose| whose.network.prefix_len()).collect();
        name
    }

    fn list(&self) -> Vec<Named> {
        let mut all: Vec<_> = self.names.iter().collect();
        all.sort_by_key(|(whose, _)| (whose.network, whose.player));
        all.into_iter().map(|(whose, name)| whose.named(name)).collect()
    }
}

/// A name that may stand beside ours: one line of characters that are what they look like.
pub(crate) fn fit(name: &str) -> Option<String> {
    let name = name.trim();
    let is_fit = !name.is_empty() && name.chars().count() <= LONGEST && text::is_plain(name);
    is_fit.then(|| name.to_owned())
}

fn of_kept(named: serde_json::Value) -> Option<(Whose, String)> {
    let Named { address, player, name } = serde_json::from_value(named).ok()?;
    let whose = Whose::parse(&address, player.map(Player::as_str)).ok()?;
    Some((whose, fit(&name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(address: &str, player: Option<&str>) -> Whose {
        Whose::parse(address, player).unwrap()
    }

    async fn names(store: &Store, all: &[(&str, Option<&str>, &str)]) -> Names {
        let names = Names::load(store.clone()).await;
        for (address, player, name) in all {
            names.put(whose(address, *player), name).await.unwrap();
        }
        names
    }

    #[tokio::test]
    async fn the_most_exact_name_counts_by_address_first() {
        let store = Store::in_memory();
        let all = [
            ("192.168.0.0/16", None, "house"),
            ("192.168.1.0/24", Some("kodi"), "kodis upstairs"),
            ("192.168.1.20", None, "living room"),
            ("192.168.1.20", Some("vlc"), "laptop"),
            ("2001:db8:0:1::/64", None, "guests"),
        ];
        let names = names(&store, &all).await;
        for (address, agent, name) in [
            ("192.168.1.20", "VLC/3.0.20 LibVLC/3.0.20", Some("laptop")),
            ("::ffff:192.168.1.20", "Kodi/21.0", Some("living room")),
            ("192.168.1.21", "Kodi/21.0", Some("kodis upstairs")),
            ("192.168.1.21", "", Some("house")),
            ("10.0.0.1", "VLC/3", None),
            ("2001:db8:0:1:aaaa::1", "", Some("guests")),
            ("2001:db8:0:2::1", "", None),
        ] {
            let found = names.of(address.parse().unwrap(), Player::of(agent));
            assert_eq!(found.as_deref(), name, "{address} {agent}");
        }
        let again = Names::load(store).await;
        assert_eq!(again.all(), names.all());
        assert_eq!(again.all().len(), 5);
        let removed = again.remove(whose("::ffff:192.168.0.0/112", None)).await.unwrap().unwrap();
        assert_eq!((removed.address.as_str(), removed.name.as_str()), ("192.168.0.0/16", "house"));
        assert_eq!(again.of("192.168.1.21".parse().unwrap(), Player::of("")), None);
        assert_eq!(again.remove(whose("192.168.0.0/16", None)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_name_or_no_address_is_refused() {
        let names = Names::load(Store::in_memory()).await;
        for wrong in ["", "  ", "a\nb", "a\u{1b}[31m", "a\u{202e}b", "a\u{200b}b", &"x".repeat(65)] {
            assert_eq!(names.put(whose("10.0.0.1", None), wrong).await, Err(Unfit::Name), "{wrong:?}");
        }
        let longest = "ü".repeat(64);
        names.put(whose("10.0.0.1", None), &longest).await.unwrap();
        names.put(whose("10.0.0.2", None), "<script>alert(1)</script>").await.unwrap();
        for wrong in ["", "10.0.0", "10.0.0.1/33", "tv.home", "10.0.0.1,10.0.0.2"] {
            assert_eq!(Whose::parse(wrong, None), Err(Unfit::Address), "{wrong}");
        }
        assert_eq!(Whose::parse("10.0.0.1", Some("winamp")), Err(Unfit::Player));
    }

    #[tokio::test]
    async fn there_is_a_most_and_a_name_can_still_be_changed_then() {
        let store = Store::in_memory();
        let kept: Vec<Named> =
            (0..MOST).map(|n| whose(&format!("10.0.{}.{}", n / 256, n % 256), None).named("x")).collect();
        saved::write(&store, KEY, &kept).await.unwrap();
        let names = Names::load(store).await;
        assert_eq!(names.put(whose("10.1.0.0", None), "one more").await, Err(Unfit::Full));
        let (before, after) = names.put(whose("10.0.0.0", None), "y").await.unwrap();
        assert_eq!((before.unwrap().name.as_str(), after.name.as_str()), ("x", "y"));
    }

    #[tokio::test]
    async fn broken_entries_cost_themselves_alone_and_a_full_store_changes_nothing() {
        let store = Store::in_memory();
        let kept = serde_json::json!([
            { "address": "10.0.0.1", "player": null, "name": "kept" },
            { "address": "10.0.0.1", "player": "gone", "name": "x" },
            { "address": "nowhere", "player": null, "name": "x" },
            { "address": "10.0.0.2", "player": null, "name": "x\u{7}" },
            7,
        ]);
        store.save_setting(KEY, kept).await.unwrap();
        let names = Names::load(store.clone()).await;
        assert_eq!(names.all(), [whose("10.0.0.1", None).named("kept")]);
        store.close().await.unwrap();
        assert!(matches!(names.put(whose("10.0.0.3", None), "x").await, Err(Unfit::Store(_))));
        assert_eq!(names.all().len(), 1);
        assert!(Names::load(store).await.all().is_empty());
    }
}
