//! What operators call channels: a name for an id, shown wherever the stream is.
//!
//! A name is kept by the id that it was given for, and found by every id that is known to lead to the same channel. Unlike
//! the names of viewers it tells nobody who people are, so everybody may read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_engine::{ContentId, Hash, Identities};
use acemux_relay::session::SessionSnapshot;
use acemux_store::Store;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::planes::names::{MOST, Unfit, fit};
use crate::planes::origins::infohash_of;
use crate::record::saved;

/// Where they stand in the store.
const KEY: &str = "channel_names";

/// The names by the ids that they were given for.
type Book = BTreeMap<Hash, String>;

/// Names that were exported elsewhere, and can be kept.
#[derive(Clone, Debug, Default)]
pub struct Given(Book);

impl Given {
    /// By ids. None is taken where one is wrong.
    pub fn parse(names: &BTreeMap<String, String>) -> Result<Self, Unfit> {
        let entry = |(id, name): (&String, &String)| {
            let id = ContentId::from_any_form(id).map_err(|_| Unfit::Id)?.hash();
            Ok((id, fit(name).ok_or(Unfit::Name)?))
        };
        names.iter().map(entry).collect::<Result<Book, Unfit>>().map(Self)
    }
}

/// All names.
pub struct ChannelNames {
    store: Store,
    identities: Arc<Identities>,
    book: RwLock<Arc<Book>>,
    /// One writes at a time, so that what is written last is what counts now.
    saving: Mutex<()>,
}

impl ChannelNames {
    /// As they were kept; those that cannot be read any more are left out.
    pub async fn load(store: Store, identities: Arc<Identities>) -> Self {
        let kept: BTreeMap<String, String> = match saved::read(&store, KEY).await {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the names of channels cannot be read");
                BTreeMap::new()
            }
        };
        let entry = |(id, name): (String, String)| Some((id.parse().ok()?, fit(&name)?));
        let book: Book = kept.into_iter().filter_map(entry).take(MOST).collect();
        Self { store, identities, book: RwLock::new(Arc::new(book)), saving: Mutex::default() }
    }

    /// What a stream is called, if its channel has a name by any of its ids. The one that it was asked for by counts most.
    pub fn of(&self, session: &SessionSnapshot) -> Option<String> {
        let book = Arc::clone(&self.book.read());
        if book.is_empty() {
            return None;
        }
        let label = ContentId::from_any_form(&session.label).ok().map(ContentId::hash);
        let infohash = infohash_of(&session.key).and_then(|infohash| infohash.parse::<Hash>().ok());
        let named = label.into_iter().chain(infohash).find_map(|hash| book.get(&hash));
        named.cloned().or_else(|| self.by_another_id(&book, infohash?))
    }

    fn by_another_id(&self, book: &Book, infohash: Hash) -> Option<String> {
        let ids = self.identities.record(infohash)?.content_ids;
        ids.iter().rev().find_map(|id| book.get(id)).cloned()
    }

    /// All of them, by the ids that they were given for.
    pub fn all(&self) -> BTreeMap<String, String> {
        self.book.read().iter().map(|(id, name)| (id.to_string(), name.clone())).collect()
    }

    /// The same by the infohashes that these ids are known to stand for: that is how the history knows a stream.
    pub fn by_infohash(&self) -> BTreeMap<String, String> {
        let book = Arc::clone(&self.book.read());
        let entry = |(id, name): (&Hash, &String)| {
            let (infohash, _witness) = self.identities.record(*id)?.infohash?;
            Some((infohash.to_string(), name.clone()))
        };
        book.iter().filter_map(entry).collect()
    }

    /// Gives a name, and tells what it was before and is now.
    pub async fn put(&self, id: Hash, name: &str) -> Result<(Option<String>, String), Unfit> {
        let name = fit(name).ok_or(Unfit::Name)?;
        let before = self.change(|book| {
            if book.len() >= MOST && !book.contains_key(&id) {
                return Err(Unfit::Full);
            }
            Ok(book.insert(id, name.clone()))
        });
        Ok((before.await?, name))
    }

    /// Gives all of them at once, beside those that there are or instead of them.
    pub async fn take_over(&self, Given(given): Given, replaces: bool) -> Result<(), Unfit> {
        self.change(|book| {
            if replaces {
                book.clear();
            }
            book.extend(given);
            if book.len() > MOST { Err(Unfit::Full) } else { Ok(()) }
        })
        .await
    }

    /// Takes a name back; what it was, if there was one.
    pub async fn remove(&self, id: Hash) -> Result<Option<String>, Unfit> {
        self.change(|book| Ok(book.remove(&id))).await
    }

    /// Nothing counts before it is durable.
    async fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, Unfit>) -> Result<T, Unfit> {
        let _turn = self.saving.lock().await;
        let mut book = Book::clone(&self.book.read());
        let told = change(&mut book)?;
        let kept: BTreeMap<String, &String> = book.iter().map(|(id, name)| (id.to_string(), name)).collect();
        saved::write(&self.store, KEY, &kept).await?;
        *self.book.write() = Arc::new(book);
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Hash {
        format!("{n:040x}").parse().unwrap()
    }

    async fn empty(store: &Store) -> ChannelNames {
        ChannelNames::load(store.clone(), Arc::default()).await
    }

    #[tokio::test]
    async fn names_are_there_after_a_restart_and_gone_when_they_are_taken_back() {
        let store = Store::in_memory();
        let names = empty(&store).await;
        assert_eq!(names.put(hash(1), " News 24 ").await, Ok((None, "News 24".to_owned())));
        assert_eq!(names.put(hash(1), "News").await, Ok((Some("News 24".to_owned()), "News".to_owned())));
        names.put(hash(2), "Sports").await.unwrap();
        let again = empty(&store).await;
        assert_eq!(again.all(), names.all());
        assert_eq!(again.remove(hash(2)).await, Ok(Some("Sports".to_owned())));
        assert_eq!(again.remove(hash(2)).await, Ok(None));
        assert_eq!(empty(&store).await.all(), BTreeMap::from([(hash(1).to_string(), "News".to_owned())]));
    }

    #[tokio::test]
    async fn what_was_exported_elsewhere_is_taken_over_whole_or_not_at_all() {
        let names = empty(&Store::in_memory()).await;
        names.put(hash(1), "News").await.unwrap();
        let given = |all: &[(String, &str)]| {
            Given::parse(&all.iter().map(|(id, name)| (id.clone(), (*name).to_owned())).collect())
        };
        let good = [(hash(2).to_string(), "Sports")];
        names.take_over(given(&good).unwrap(), false).await.unwrap();
        assert_eq!(names.all().len(), 2);
        names.take_over(given(&good).unwrap(), true).await.unwrap();
        assert_eq!(names.all(), BTreeMap::from([(hash(2).to_string(), "Sports".to_owned())]));
        assert!(matches!(given(&[("nowhere".to_owned(), "x")]), Err(Unfit::Id)));
        assert!(matches!(
            given(&[(hash(3).to_string(), "x"), (hash(4).to_string(), "\n")]),
            Err(Unfit::Name)
        ));
        let many: Vec<_> = (0..=MOST).map(|n| (format!("{n:040x}"), "x")).collect();
        assert_eq!(names.take_over(given(&many).unwrap(), true).await, Err(Unfit::Full));
        assert_eq!(names.all().len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_name_is_refused_and_what_was_broken_since_is_left_out() {
        let store = Store::in_memory();
        let kept = serde_json::json!({ "nowhere": "x", (hash(1).to_string()): "a\u{202e}b", (hash(2).to_string()): "kept" });
        store.save_setting(KEY, kept).await.unwrap();
        let names = empty(&store).await;
        assert_eq!(names.all(), BTreeMap::from([(hash(2).to_string(), "kept".to_owned())]));
        for wrong in ["", " ", "a\nb", "a\u{200b}b", &"x".repeat(65)] {
            assert_eq!(names.put(hash(3), wrong).await, Err(Unfit::Name), "{wrong:?}");
        }
        store.close().await.unwrap();
        assert!(matches!(names.put(hash(3), "x").await, Err(Unfit::Store(_))));
        assert_eq!(names.all().len(), 1, "what is not durable does not count");
    }
}
