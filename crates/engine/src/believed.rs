//! What was found out a moment ago and is believed for some time: a table of bounded size whose entries expire.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// Entries of one table. More only come from a flood of random ids.
const MOST: usize = 4096;

/// Facts about `K`, each for a while.
#[derive(Debug)]
pub struct Believed<K, V = ()> {
    time: Duration,
    facts: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash, V: Clone> Believed<K, V> {
    /// Nothing yet; what will be noted is believed for so long.
    pub fn new(time: Duration) -> Self {
        Self { time, facts: Mutex::default() }
    }

    /// From now on. Not when there is no room.
    pub fn note(&self, what: K, fact: V) {
        let mut facts = self.facts.lock();
        facts.retain(|_, (since, _)| since.elapsed() < self.time);
        if facts.len() < MOST {
            facts.insert(what, (Instant::now(), fact));
        }
    }

    /// What is believed of it.
    pub fn find(&self, what: &K) -> Option<V> {
        let facts = self.facts.lock();
        let (since, fact) = facts.get(what)?;
        (since.elapsed() < self.time).then(|| fact.clone())
    }

    /// Believes these no longer.
    pub fn forget(&self, which: impl Fn(&K) -> bool) {
        self.facts.lock().retain(|what, _| !which(what));
    }
}
