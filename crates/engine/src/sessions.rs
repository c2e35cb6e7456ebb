//! The order of starts and stops of one channel on one engine.
//!
//! On a real engine a stop ends *every* session of the channel, the newest included, and a second start supersedes the
//! first. So a start waits for a stop that is on its way, and a stop is not sent while a newer session lives. This
//! ledger knows what is starting, alive and closing; it sends nothing itself.
//!
//! Every entry is held by a guard, so what is forgotten is also given back. The key is the infohash, or the bare hash
//! of a start whose infohash the engine did not reveal.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::content::Hash;

/// Shared by everything that starts or stops on one engine.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    channels: Mutex<Channels>,
    /// Something has changed that a waiting start or stop may have waited for.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Channels {
    by_hash: HashMap<Hash, Channel>,
    last: Generation,
}

/// What goes on with one channel on this engine.
#[derive(Debug, Default)]
struct Channel {
    /// Start calls under way.
    starting: usize,
    /// Sessions that are open, by the order in which the engine answered their starts.
    alive: BTreeSet<Generation>,
    /// Stops under way.
    closing: usize,
}

/// The place of a session in the order of starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Generation(u64);

impl Channel {
    fn is_idle(&self) -> bool {
        self.starting == 0 && self.alive.is_empty() && self.closing == 0
    }

    fn has_newer(&self, generation: Generation) -> bool {
        self.alive.last().is_some_and(|newest| *newest > generation)
    }
}

/// A start call under way.
#[derive(Debug)]
pub(crate) struct Starting {
    sessions: Arc<Sessions>,
    hash: Hash,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Alive {
    sessions: Arc<Sessions>,
    hash: Hash,
    generation: Generation,
}

/// A stop under way. Starts of the channel wait for it.
#[derive(Debug)]
pub(crate) struct Closing {
    sessions: Arc<Sessions>,
    hash: Hash,
    generation: Generation,
}

/// What is to be done about a session that ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The engine must be told.
    Stop(Closing),
    /// A newer session of the channel lives there: a stop would end that one too, and its own stop covers this one.
    Superseded,
    /// A start of the channel is under way: its outcome decides.
    Undecided(Undecided),
}

/// A session that has ended for us while another start of its channel is under way.
#[derive(Debug)]
pub(crate) struct Undecided {
    sessions: Arc<Sessions>,
    hash: Hash,
    generation: Generation,
}

impl Sessions {
    /// Declares that a start begins, and waits until no stop of the channel is under way. Stops that fail from now on
    /// are not tried again, so the wait is no longer than one answer or one stop deadline.
    pub(crate) async fn start(self: &Arc<Self>, hash: Hash) -> Starting {
        self.edit(hash, |channel| channel.starting += 1);
        let starting = Starting { sessions: Arc::clone(self), hash };
        self.until(hash, |channel| channel.closing == 0).await;
        starting
    }

    /// Whether a stop of the channel is under way, so that a start here would have to wait.
    pub(crate) fn is_closing(&self, hash: Hash) -> bool {
        self.channels.lock().by_hash.get(&hash).is_some_and(|channel| channel.closing > 0)
    }

    /// Whether no channel has a start, a session or a stop here.
    pub(crate) fn is_empty(&self) -> bool {
        self.channels.lock().by_hash.is_empty()
    }

    /// A session that an earlier run left open is being stopped: starts of the channel wait for it.
    pub(crate) fn orphan(self: &Arc<Self>, hash: Hash) -> Closing {
        self.edit(hash, |channel| channel.closing += 1);
        Closing { sessions: Arc::clone(self), hash, generation: Generation::default() }
    }

    /// Changes one channel's entry, and wakes those who wait for a change.
    fn edit<R>(&self, hash: Hash, change: impl FnOnce(&mut Channel) -> R) -> R {
        let mut channels = self.channels.lock();
        let channel = channels.by_hash.entry(hash).or_default();
        let result = change(channel);
        if channel.is_idle() {
            channels.by_hash.remove(&hash);
        }
        drop(channels);
        self.changed.notify_waiters();
        result
    }

    /// Waits until `is_so` holds for the channel. One notification serves all channels: changes are rare.
    async fn until(&self, hash: Hash, is_so: impl Fn(&Channel) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.channels.lock().by_hash.get(&hash).is_none_or(&is_so) {
                return;
            }
            changed.await;
        }
    }

    fn next_generation(&self) -> Generation {
        let mut channels = self.channels.lock();
        channels.last.0 += 1;
        channels.last
    }

    /// The session is not alive any more: decides how it ends.
    fn ending(self: &Arc<Self>, hash: Hash, generation: Generation) -> Ending {
        let sessions = Arc::clone(self);
        self.edit(hash, |channel| {
            channel.alive.remove(&generation);
            if channel.has_newer(generation) {
                Ending::Superseded
            } else if channel.starting > 0 {
                Ending::Undecided(Undecided { sessions, hash, generation })
            } else {
                channel.closing += 1;
                Ending::Stop(Closing { sessions, hash, generation })
            }
        })
    }
}

impl Starting {
    /// The engine has answered that the session is open, as one of the channel `hash`. `wanted` is false when nobody
    /// waits for it any more: then it ranks behind every other, for it must not take a stop to one that is watched.
    pub(crate) fn opened(self, hash: Hash, wanted: bool) -> Alive {
        let generation = if wanted { self.sessions.next_generation() } else { Generation::default() };
        self.sessions.edit(hash, |channel| channel.alive.insert(generation));
        Alive { sessions: Arc::clone(&self.sessions), hash, generation }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.sessions.edit(self.hash, |channel| channel.starting -= 1);
    }
}

impl Alive {
    /// The session ends. What is decided here holds from now on: a start that comes next waits for the stop.
    pub(crate) fn end(self) -> Ending {
        self.sessions.ending(self.hash, self.generation)
    }
}

impl Undecided {
    /// Waits for the start's outcome. `None`: superseded.
    pub(crate) async fn decided(self) -> Option<Closing> {
        loop {
            self.sessions
                .until(self.hash, |channel| channel.starting == 0 || channel.has_newer(self.generation))
                .await;
            match self.sessions.ending(self.hash, self.generation) {
                Ending::Stop(closing) => return Some(closing),
                Ending::Superseded => return None,
                // Yet another start has begun in between.
                Ending::Undecided(_) => {}
            }
        }
    }
}

impl Closing {
    /// Waits until a newer start of the channel begins: from then on a repeated stop would end the wrong session.
    pub(crate) async fn outranked(&self) {
        let generation = self.generation;
        let is_newer = |channel: &Channel| channel.starting > 0 || channel.has_newer(generation);
        self.sessions.until(self.hash, is_newer).await;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.sessions.edit(self.hash, |channel| channel.closing -= 1);
    }
}
