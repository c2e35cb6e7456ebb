//! Which infohash a hash stands for. One channel must be one session, whatever form its URL has, so every hash is
//! resolved before anything is started.
//!
//! Owns the memory of answers and the single flight of questions. Failures are not remembered: a channel that nobody
//! seeds now may be there in a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::content::{Hash, Infohash};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::start::StartBy;

/// Hashes remembered; around 1 MiB. Public lists of channels have a few thousand entries.
const CAPACITY: usize = 10_000;

/// What an engine knows about a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The channel's infohash.
    Known(Infohash),
    /// No infohash.
    Unresolved(Why),
}

/// Why a hash has no known infohash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The engine says that it is neither a content id nor an infohash it can load.
    Negative,
    /// The engine cannot tell: the method is missing, the reply has no infohash, or it did not answer in time.
    NoAnswer,
}

/// The infohashes known so far. Shared by all engines: the answer does not depend on who gave it.
#[derive(Default)]
pub struct Identities {
    known: Mutex<Known>,
    flights: Mutex<HashMap<Hash, Flight>>,
    news: Option<News>,
}

/// Told of every answer that was not known before.
type News = Box<dyn Fn(Hash, Infohash) + Send + Sync>;

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").field("known", &self.known).finish_non_exhaustive()
    }
}

/// A question under way. If the one who asks goes away, the next who waits asks again.
type Flight = Arc<OnceCell<Resolution>>;

#[derive(Debug, Default)]
struct Known {
    infohashes: HashMap<Hash, Infohash>,
    /// The order in which they came.
    order: VecDeque<Hash>,
}

impl Known {
    fn insert(&mut self, hash: Hash, infohash: Infohash) {
        if self.infohashes.insert(hash, infohash).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.infohashes.remove(&oldest);
        }
    }
}

impl Identities {
    /// Knows `known` from the beginning, and tells `news` what it learns. `news` must not block.
    pub fn new(
        known: impl IntoIterator<Item = (Hash, Infohash)>,
        news: impl Fn(Hash, Infohash) + Send + Sync + 'static,
    ) -> Self {
        let identities = Self { news: Some(Box::new(news)), ..Self::default() };
        {
            let mut all = identities.known.lock();
            known.into_iter().for_each(|(hash, infohash)| all.insert(hash, infohash));
        }
        identities
    }

    /// The infohash of `hash`, if it is known.
    pub fn known(&self, hash: Hash) -> Option<Infohash> {
        self.known.lock().infohashes.get(&hash).copied()
    }

    /// Remembers what a start has revealed. The infohash is remembered as its own too.
    pub fn remember(&self, hash: Hash, infohash: Infohash) {
        let is_news = {
            let mut known = self.known.lock();
            let is_news = known.infohashes.get(&hash) != Some(&infohash);
            known.insert(hash, infohash);
            known.insert(infohash.hash(), infohash);
            is_news
        };
        if let Some(news) = self.news.as_ref().filter(|_| is_news) {
            news(hash, infohash);
        }
    }

    /// The infohash of `hash`, from memory or from `engine`. Takes at most the engine's
    /// [`Timings::resolve`](crate::Timings::resolve). Everyone who asks for the same hash at the same time gets the
    /// answer to one question.
    pub async fn resolve(&self, engine: &Engine, hash: Hash) -> Resolution {
        if let Some(infohash) = self.known(hash) {
            return Resolution::Known(infohash);
        }
        let boarded = self.board(hash);
        // Boxed, because everyone who waits has room for it, for as long as the request lasts, and one asks.
        let answer = boarded.flight.get_or_init(|| Box::pin(self.ask(engine, hash)));
        let deadline = engine.client().timings().resolve;
        timeout(deadline, answer)
            .await
            .map_or(Resolution::Unresolved(Why::NoAnswer), |resolution| *resolution)
    }

    /// Joins the question under way, or becomes the first of a new one.
    fn board(&self, hash: Hash) -> Boarded<'_> {
        let flight = Arc::clone(self.flights.lock().entry(hash).or_default());
        Boarded { identities: self, hash, flight }
    }

    async fn ask(&self, engine: &Engine, hash: Hash) -> Resolution {
        let resolution = ask(engine, hash).await;
        if let Resolution::Known(infohash) = resolution {
            self.remember(hash, infohash);
        }
        resolution
    }
}

/// A place in a flight. The last to leave, and everyone after the landing, takes the flight off the board.
struct Boarded<'a> {
    identities: &'a Identities,
    hash: Hash,
    flight: Flight,
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        let mut flights = self.identities.flights.lock();
        let is_ours = flights.get(&self.hash).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // One count is the board's and one is ours.
        let is_last = Arc::strong_count(&self.flight) <= 2;
        if is_ours && (is_last || self.flight.initialized()) {
            flights.remove(&self.hash);
        }
    }
}

/// Asks in both readings of the hash at once; the first infohash wins.
async fn ask(engine: &Engine, hash: Hash) -> Resolution {
    let mut as_id = std::pin::pin!(ask_as(engine, StartBy::ContentId(hash)));
    let mut as_infohash = std::pin::pin!(ask_as(engine, StartBy::Infohash(Infohash::new(hash))));
    let (first, other) = tokio::select! {
        first = &mut as_id => (first, as_infohash),
        first = &mut as_infohash => (first, as_id),
    };
    match first {
        Resolution::Known(_) => first,
        Resolution::Unresolved(why) => why.and(other.await),
    }
}

impl Why {
    /// Only two negatives make one: each reading alone fails for every hash of the other kind.
    fn and(self, other: Resolution) -> Resolution {
        match other {
            Resolution::Unresolved(Self::Negative) => Resolution::Unresolved(self),
            other => other,
        }
    }
}

/// Asks in one reading. An infohash that is answered with another one is no answer.
async fn ask_as(engine: &Engine, by: StartBy) -> Resolution {
    match engine.media_files(by).await {
        Ok(Some(infohash)) if by.infohash().is_none_or(|asked| asked == infohash) => {
            Resolution::Known(infohash)
        }
        // The engine's words for a hash it cannot load. Other refusals (access, options) say nothing about the hash.
        Err(EngineError::Refused { message }) if message.contains("transport file") => {
            Resolution::Unresolved(Why::Negative)
        }
        Ok(_) | Err(_) => Resolution::Unresolved(Why::NoAnswer),
    }
}

#[cfg(test)]
mod tests;
