//! What the open engine downloads: one source for each form by which a content was asked for, shared by all playbacks of
//! that form.
//!
//! A source opens with its first reader, goes on for a while without any, and its bytes are counted whoever reads them. One
//! that can never become media (a [`Supply::Runaway`]) is let go of like the others and downloads on: nothing that the
//! engine shows or takes orders for leads to it any more.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::identity::ContentHash;

/// What a runaway takes from the network, bit/s; 34 to 42 million were measured.
const RUNAWAY_RATE: u64 = 36_000_000;

/// What a start named. The content id and the infohash of one channel are two sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A content id: a descriptor says what the swarm is like.
    ContentId(ContentHash),
    /// An infohash, real or not.
    Infohash(ContentHash),
    /// A descriptor that is fetched from a URL.
    Url(String),
}

impl Reference {
    /// The swarm that is asked; there may be none.
    pub(crate) fn swarm(&self) -> ContentHash {
        match self {
            Self::ContentId(id) => id.infohash(),
            Self::Infohash(hash) => *hash,
            Self::Url(url) => ContentHash::of_text(url),
        }
    }

    /// The content that faults are meant for.
    pub(crate) fn target(&self) -> ContentHash {
        self.swarm().infohash()
    }
}

/// What a source makes of its swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// Media, at this many bit/s, and this much of it at once.
    Media { rate: u64, burst: Duration },
    /// Bytes that never become a piece.
    Runaway,
    /// Nothing.
    Silence,
}

impl Supply {
    /// Bytes received after `age`.
    fn received(self, age: Duration) -> u64 {
        let bytes = |rate: u64, time: Duration| rate / 8 * crate::swarm::millis(time) / 1_000;
        match self {
            Self::Media { rate, burst } => bytes(rate, age + burst),
            Self::Runaway => bytes(RUNAWAY_RATE, age),
            Self::Silence => 0,
        }
    }
}

/// One download.
#[derive(Debug)]
pub(crate) struct Source {
    reference: Reference,
    pub(crate) supply: Supply,
    opened: Instant,
    /// The live edge when it opened.
    pub(crate) edge_at_opening: Duration,
    readers: Mutex<Readers>,
}

#[derive(Debug)]
struct Readers {
    count: usize,
    last_left: Instant,
}

impl Source {
    pub(crate) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.supply.received(self.age())
    }

    /// How long nobody has read it; `None` while somebody does.
    fn unread(&self) -> Option<Duration> {
        let readers = self.readers.lock();
        (readers.count == 0).then(|| readers.last_left.elapsed())
    }
}

/// A reader of a source; dropping it lets the source go.
#[derive(Debug)]
pub(crate) struct Subscription(Arc<Source>);

impl Subscription {
    fn new(source: &Arc<Source>) -> Self {
        source.readers.lock().count += 1;
        Self(Arc::clone(source))
    }

    pub(crate) fn source(&self) -> &Source {
        &self.0
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut readers = self.0.readers.lock();
        readers.count -= 1;
        readers.last_left = Instant::now();
    }
}

/// All downloads of an engine.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Those that playbacks can lead to.
    known: Vec<Arc<Source>>,
    /// Those that were let go of and download on.
    runaways: Vec<Arc<Source>>,
    /// Bytes of those that have ended.
    settled: u64,
}

impl Sources {
    /// The running source of this form.
    pub(crate) fn find(&self, reference: &Reference) -> Option<&Arc<Source>> {
        self.known.iter().find(|source| source.reference == *reference)
    }

    /// Reads the running source of this form.
    pub(crate) fn join(&self, reference: &Reference) -> Option<Subscription> {
        self.find(reference).map(Subscription::new)
    }

    /// Reads the source of this form, which is opened unless it runs.
    pub(crate) fn open(&mut self, reference: &Reference, supply: Supply, edge: Duration) -> Subscription {
        self.join(reference).unwrap_or_else(|| {
            let now = Instant::now();
            let source = Arc::new(Source {
                reference: reference.clone(),
                supply,
                opened: now,
                edge_at_opening: edge,
                readers: Mutex::new(Readers { count: 0, last_left: now }),
            });
            self.known.push(Arc::clone(&source));
            Subscription::new(&source)
        })
    }

    /// How many the engine says that it has.
    pub(crate) fn known(&self) -> usize {
        self.known.len()
    }

    /// Bytes received by all of them since the engine began.
    pub(crate) fn received(&self) -> u64 {
        let running = self.known.iter().chain(&self.runaways);
        self.settled + running.map(|source| source.received()).sum::<u64>()
    }

    /// Lets go of what nobody has read for `linger`. Runaways for which `ends` says no download on.
    pub(crate) fn expire(&mut self, linger: Duration, ends: impl Fn(&Reference) -> bool) {
        let over = |source: &mut Arc<Source>| source.unread().is_some_and(|unread| unread >= linger);
        for source in self.known.extract_if(.., over) {
            if source.supply == Supply::Runaway && !ends(&source.reference) {
                self.runaways.push(source);
            } else {
                self.settled += source.received();
            }
        }
        for source in self.runaways.extract_if(.., |source| ends(&source.reference)) {
            self.settled += source.received();
        }
    }

    /// The process has ended: nothing is downloaded any more.
    pub(crate) fn end_all(&mut self) {
        self.settled = self.received();
        self.known.clear();
        self.runaways.clear();
    }

    /// Counts from 0 again.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(28);
    const MEDIA: Supply = Supply::Media { rate: 8_000_000, burst: Duration::from_secs(2) };

    fn reference() -> Reference {
        Reference::Infohash(ContentHash::parse(crate::channel::VERIFY_ID).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_outlives_its_last_reader_for_a_while_and_its_bytes_stay_counted() {
        let mut sources = Sources::default();
        let readers = [
            sources.open(&reference(), MEDIA, Duration::ZERO),
            sources.open(&reference(), MEDIA, Duration::ZERO),
        ];
        assert_eq!(sources.known(), 1);
        tokio::time::advance(Duration::from_mins(1)).await;
        let [one, two] = readers;
        drop(one);
        tokio::time::advance(LINGER).await;
        sources.expire(LINGER, |_| false);
        assert_eq!(sources.known(), 1, "somebody reads it");
        drop(two);
        tokio::time::advance(Duration::from_secs(27)).await;
        sources.expire(LINGER, |_| false);
        assert!(sources.join(&reference()).is_some(), "who comes back finds it");
        tokio::time::advance(LINGER).await;
        sources.expire(LINGER, |_| false);
        let received = sources.received();
        assert_eq!((sources.known(), received), (0, (60 + 28 + 27 + 28 + 2) * 1_000_000));
        tokio::time::advance(LINGER).await;
        assert_eq!(sources.received(), received);
    }

    #[tokio::test(start_paused = true)]
    async fn a_runaway_goes_on_when_it_is_let_go_of_unless_it_is_to_end() {
        let mut sources = Sources::default();
        drop(sources.open(&reference(), Supply::Runaway, Duration::ZERO));
        tokio::time::advance(LINGER).await;
        sources.expire(LINGER, |_| false);
        assert_eq!(sources.known(), 0);
        let before = sources.received();
        tokio::time::advance(Duration::from_secs(10)).await;
        let rate = (sources.received() - before) * 8 / 10;
        assert!((30_000_000..=40_000_000).contains(&rate), "{rate} bit/s");
        sources.expire(LINGER, |_| true);
        let ended = sources.received();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(sources.received(), ended);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_process_is_the_end_of_everything() {
        let mut sources = Sources::default();
        let _reader = sources.open(&reference(), Supply::Runaway, Duration::ZERO);
        tokio::time::advance(Duration::from_secs(1)).await;
        sources.end_all();
        let received = sources.received();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((sources.known(), sources.received()), (0, received));
        assert!(received > 0);
        sources.reset();
        assert_eq!(sources.received(), 0);
    }
}
