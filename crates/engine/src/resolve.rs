//! What a hash stands for, and by which of its names a channel plays. One channel must be one session, whatever form its
//! URL has, so every hash is resolved before anything is started.
//!
//! Owns the single flight of questions; what is known is kept in [`Records`]. Failures are not remembered: a channel that
//! nobody seeds now may be there in a minute.

mod records;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::{Duration, timeout};

use self::records::Records;
pub use self::records::{Record, Witness};
use crate::believed::Believed;
use crate::content::{ContentId, Hash, Infohash};
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::family::Family;
use crate::start::StartBy;

/// How long a directory's no is believed: as long as it takes to start the channel by its other name.
const REFUSED: Duration = Duration::from_mins(1);

/// How long a channel is not loaded again by an infohash by which engines of a family load it for ever. The pieces of a
/// swarm do not change while it exists.
const RUNS_AWAY: Duration = Duration::from_hours(1);

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
    /// The engine cannot tell: the method is missing, the reply has no infohash or says back what was asked, or it did not
    /// answer in time.
    NoAnswer,
}

/// Something learned about channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The hash stands for this infohash. When they are the same: it is one.
    Is {
        /// A content id, or the infohash itself.
        hash: Hash,
        /// The channel's infohash.
        infohash: Infohash,
        /// Who said so.
        witness: Witness,
    },
    /// Engines of the family played the channel when it was started so.
    Delivers {
        /// Its infohash, or the value that was given while that is not known.
        channel: Hash,
        /// The family.
        family: Family,
        /// What it was started by.
        by: StartBy,
    },
    /// These are to be forgotten.
    Forgotten(Vec<Hash>),
}

/// What is known of channels so far. Shared by all engines: the answer does not depend on who gave it.
pub struct Identities {
    records: Mutex<Records>,
    /// Values that an engine's directory has just said to be no content ids.
    negatives: Believed<Hash>,
    /// Swarms that engines of a family load by the bare infohash without sending any of it.
    runaways: Believed<(Infohash, Family)>,
    flights: Mutex<HashMap<Question, Flight>>,
    news: Option<News>,
}

/// Told of everything that was not known before.
type News = Box<dyn Fn(&Lesson) + Send + Sync>;

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identities").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Default for Identities {
    /// Knows nothing, and tells nobody.
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            negatives: Believed::new(REFUSED),
            runaways: Believed::new(RUNS_AWAY),
            flights: Mutex::default(),
            news: None,
        }
    }
}

/// What is asked, and of which engine: one that hangs must not answer for another.
type Question = (Hash, Endpoint);

/// A question under way. If the one who asks goes away, the next who waits asks again.
type Flight = Arc<OnceCell<Resolution>>;

impl Identities {
    /// Knows `known` from the beginning, and tells `news` what it learns. `news` must not block.
    pub fn new(
        known: impl IntoIterator<Item = Lesson>,
        news: impl Fn(&Lesson) + Send + Sync + 'static,
    ) -> Self {
        let identities = Self { news: Some(Box::new(news)), ..Self::default() };
        {
            let mut records = identities.records.lock();
            for lesson in known {
                records.learn(&lesson);
            }
        }
        identities
    }

    /// The infohash of `hash`, if it is known.
    pub fn known(&self, hash: Hash) -> Option<Infohash> {
        self.records.lock().infohash(hash)
    }

    /// All that is known of it.
    pub fn record(&self, hash: Hash) -> Option<Record> {
        self.records.lock().get(hash).cloned()
    }

    /// By what to start a channel on an engine of this family: the name that has delivered there, else the one that is most
    /// likely to; then another one, if it may be tried at all.
    pub fn names(&self, content: ContentId, family: Family) -> Vec<StartBy> {
        let mut names = self.records.lock().names(content, family);
        names.retain(|name| match name {
            StartBy::ContentId(hash) => self.negatives.find(hash).is_none(),
            StartBy::Infohash(_) => !self.has_run_away(*name, family),
        });
        names
    }

    /// An engine of this family has loaded the channel by its bare infohash and sent nothing of it. Whether that ends at the
    /// stop is the engine's affair: no other one is to begin it.
    pub fn ran_away(&self, infohash: Infohash, family: Family) {
        self.runaways.note((infohash, family), ());
    }

    /// Whether an engine of this family has lately been seen to load the channel by this name for ever.
    pub fn has_run_away(&self, by: StartBy, family: Family) -> bool {
        by.infohash().is_some_and(|infohash| self.runaways.find(&(infohash, family)).is_some())
    }

    /// Whether it has played on an engine of this family when it was started by this name.
    pub fn has_delivered(&self, content: ContentId, by: StartBy, family: Family) -> bool {
        let records = self.records.lock();
        records.get(content.hash()).is_some_and(|record| record.delivered.get(&family) == Some(&by))
    }

    /// The channel that was asked for so has played on an engine of this family when it was started by this name, and the
    /// engine called it by this infohash.
    pub fn delivered(&self, asked: ContentId, by: StartBy, revealed: Option<Infohash>, family: Family) {
        self.runaways.forget(|(ran_away, on)| by == StartBy::Infohash(*ran_away) && family == *on);
        let infohash = by.infohash().or(revealed);
        if let Some(infohash) = infohash {
            self.learn(&Lesson::Is { hash: by.hash(), infohash, witness: Witness::Start });
        }
        let channel = infohash.map_or(asked.hash(), Infohash::hash);
        self.learn(&Lesson::Delivers { channel, family, by });
    }

    /// Forgets the channel of this hash: all its names, and by which it has played. False when nothing was known.
    pub fn forget(&self, hash: Hash) -> bool {
        let names = self.records.lock().names_of(hash);
        self.runaways.forget(|(infohash, _)| infohash.hash() == hash || names.contains(&infohash.hash()));
        if names.is_empty() {
            return false;
        }
        self.learn(&Lesson::Forgotten(names));
        true
    }

    fn learn(&self, lesson: &Lesson) {
        let is_news = self.records.lock().learn(lesson);
        if let Some(news) = self.news.as_ref().filter(|_| is_news) {
            news(lesson);
        }
    }

    /// The infohash of `hash`, from memory or from `engine`. Takes at most the engine's
    /// [`Timings::resolve`](crate::Timings::resolve). Everyone who asks it for the same hash at the same time gets the
    /// answer to one question.
    pub async fn resolve(&self, engine: &Engine, hash: Hash) -> Resolution {
        if let Some(infohash) = self.known(hash) {
            return Resolution::Known(infohash);
        }
        let boarded = self.board((hash, engine.endpoint().clone()));
        // Boxed, because everyone who waits has room for it, for as long as the request lasts, and one asks.
        let answer = boarded.flight.get_or_init(|| Box::pin(self.ask(engine, hash)));
        let deadline = engine.client().timings().resolve;
        timeout(deadline, answer)
            .await
            .map_or(Resolution::Unresolved(Why::NoAnswer), |resolution| *resolution)
    }

    /// Joins the question under way, or becomes the first of a new one.
    fn board(&self, question: Question) -> Boarded<'_> {
        let flight = Arc::clone(self.flights.lock().entry(question.clone()).or_default());
        Boarded { identities: self, question, flight }
    }

    async fn ask(&self, engine: &Engine, hash: Hash) -> Resolution {
        let resolution = ask(engine, hash).await;
        match resolution {
            Resolution::Known(infohash) => {
                self.learn(&Lesson::Is { hash, infohash, witness: Witness::LookUp });
                // The engine that has said no was cut off from the directory.
                self.negatives.forget(|refused| *refused == hash);
            }
            Resolution::Unresolved(Why::Negative) if self.known(hash).is_none() => {
                self.negatives.note(hash, ());
            }
            Resolution::Unresolved(_) => {}
        }
        resolution
    }
}

/// A place in a flight. The last to leave, and everyone after the landing, takes the flight off the board.
struct Boarded<'a> {
    identities: &'a Identities,
    question: Question,
    flight: Flight,
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        let mut flights = self.identities.flights.lock();
        let is_ours = flights.get(&self.question).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // One count is the board's and one is ours.
        let is_last = Arc::strong_count(&self.flight) <= 2;
        if is_ours && (is_last || self.flight.initialized()) {
            flights.remove(&self.question);
        }
    }
}

/// Asks in both readings of the hash at once; the first infohash wins.
async fn ask(engine: &Engine, hash: Hash) -> Resolution {
    let mut as_id = std::pin::pin!(ask_as_id(engine, hash));
    let mut as_infohash = std::pin::pin!(ask_as_infohash(engine, hash));
    tokio::select! {
        first = &mut as_id => match first {
            Resolution::Known(_) => first,
            Resolution::Unresolved(why) => why.and(as_infohash.await),
        },
        first = &mut as_infohash => match first {
            Resolution::Known(_) => first,
            Resolution::Unresolved(why) => why.and(as_id.await),
        },
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

/// A content id that is said to be its own infohash was not looked up: the engine says back what it was asked.
async fn ask_as_id(engine: &Engine, hash: Hash) -> Resolution {
    read(engine.media_files(StartBy::ContentId(hash)).await, |infohash| infohash.hash() != hash)
}

/// An infohash that is answered with another one is no answer, and one that is answered by an engine that says back
/// whatever it is asked is none either. Such an engine is not even asked.
async fn ask_as_infohash(engine: &Engine, hash: Hash) -> Resolution {
    if engine.is_known_to_echo() {
        return Resolution::Unresolved(Why::NoAnswer);
    }
    let infohash = Infohash::new(hash);
    match read(engine.media_files(StartBy::Infohash(infohash)).await, |answer| answer == infohash) {
        Resolution::Known(_) if engine.echoes().await => Resolution::Unresolved(Why::NoAnswer),
        resolution => resolution,
    }
}

fn read(
    answer: Result<Option<Infohash>, EngineError>,
    is_evidence: impl FnOnce(Infohash) -> bool,
) -> Resolution {
    match answer {
        Ok(Some(infohash)) if is_evidence(infohash) => Resolution::Known(infohash),
        // The engine's words for a hash it cannot load. Other refusals (access, options) say nothing about the hash.
        Err(EngineError::Refused { message }) if message.contains("transport file") => {
            Resolution::Unresolved(Why::Negative)
        }
        Ok(_) | Err(_) => Resolution::Unresolved(Why::NoAnswer),
    }
}

#[cfg(test)]
mod tests;
