//! Sessions of one engine and the rules by which they destroy each other.
//!
//! A real engine has one session per infohash: a second start takes the first one's place, both players' stat pages then
//! show the newer session, and a stop from either ends it. A player (its pid, or its address) has one content at a time.
//! The registry keeps these rules and knows nothing of sockets: a session that ends has its `cut` cancelled.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::channel::Channel;
use crate::fault::Faults;
use crate::identity::ContentHash;
use crate::ledger::CloseReason;
use crate::options::Timing;
use crate::source::Reference;

/// One playback on one engine.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its number in the ledger.
    pub(crate) ledger_id: u64,
    pub(crate) infohash: ContentHash,
    /// As what it is downloaded. The closed engine makes an infohash of everything first.
    pub(crate) reference: Reference,
    /// How the content is called in URLs.
    pub(crate) play_id: String,
    /// Identifies the player in URLs.
    pub(crate) token: String,
    /// Last segment of the media URL.
    pub(crate) media_key: String,
    pub(crate) playback_session_id: String,
    pub(crate) client_session_id: i64,
    pub(crate) channel: Channel,
    /// Faults of its start that stay with it.
    pub(crate) faults: Faults,
    pub(crate) opened: Instant,
    /// The live edge when it opened.
    pub(crate) edge_at_opening: Duration,
    /// Cancelled when the session ends.
    pub(crate) cut: CancellationToken,
    pub(crate) activity: Mutex<Activity>,
}

/// What keeps a session alive.
#[derive(Debug)]
pub(crate) struct Activity {
    readers: u32,
    was_read: bool,
    last: Instant,
    stat_polls: u64,
    /// Media bytes written to all readers together.
    served: u64,
    /// The live edge when the reader's program clock began to stand still.
    still_since: Option<Duration>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            readers: 0,
            was_read: false,
            last: Instant::now(),
            stat_polls: 0,
            served: 0,
            still_since: None,
        }
    }
}

/// The right to read a session's media; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) session: Arc<Session>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut activity = self.session.activity.lock();
        activity.readers -= 1;
        activity.last = Instant::now();
    }
}

impl Session {
    /// Admits a reader, or refuses when there is one and `alone` is asked for.
    pub(crate) fn admit(self: &Arc<Self>, alone: bool) -> Option<Reader> {
        let mut activity = self.activity.lock();
        if alone && activity.readers > 0 {
            return None;
        }
        activity.readers += 1;
        activity.was_read = true;
        Some(Reader { session: Arc::clone(self) })
    }

    /// A stat request; returns how many there were before. It keeps the session alive unless it asks not to.
    pub(crate) fn polled(&self, counts_as_activity: bool) -> u64 {
        let mut activity = self.activity.lock();
        if counts_as_activity {
            activity.last = Instant::now();
        }
        activity.stat_polls += 1;
        activity.stat_polls - 1
    }

    /// Books media bytes.
    pub(crate) fn served(&self, bytes: u64) {
        self.activity.lock().served += bytes;
    }

    /// Media bytes written so far.
    pub(crate) fn bytes_served(&self) -> u64 {
        self.activity.lock().served
    }

    /// Notes whether the reader's program clock stands still, and since when.
    pub(crate) fn stands_still(&self, since: Option<Duration>) {
        self.activity.lock().still_since = since;
    }

    /// The live edge when the program clock began to stand still, while it does.
    pub(crate) fn still_since(&self) -> Option<Duration> {
        self.activity.lock().still_since
    }

    /// Whether it plays a broadcast, as 1 or 0.
    pub(crate) fn is_live(&self) -> u8 {
        u8::from(self.channel.length().is_none())
    }

    /// Why this session should end by itself now, if it should.
    fn expiry(&self, timing: &Timing) -> Option<CloseReason> {
        let activity = self.activity.lock();
        let (limit, why) = if activity.was_read {
            (timing.reader_gone, CloseReason::ReaderLeft)
        } else {
            (timing.unread, CloseReason::NeverRead)
        };
        (activity.readers == 0 && activity.last.elapsed() >= limit).then_some(why)
    }
}

/// Which of the quirks are on for a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quirks {
    /// A new session of an infohash ends the old one.
    pub(crate) supersede: bool,
    /// A player that starts other content ends its old one.
    pub(crate) one_content_per_player: bool,
}

/// Sessions that ended, and why.
pub(crate) type Ended = Vec<(Arc<Session>, CloseReason)>;

/// All open sessions of an engine.
#[derive(Debug, Default)]
pub(crate) struct Registry(Vec<Entry>);

/// A session and every player whose URLs lead to it.
#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    players: Vec<String>,
}

impl Entry {
    fn is(&self, infohash: ContentHash, token: &str) -> bool {
        self.session.infohash == infohash && self.players.iter().any(|player| player == token)
    }
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Ends what a new session of `infohash` for the player `token` destroys. Players whose URLs led to a superseded
    /// session follow the new one.
    pub(crate) fn make_way(
        &mut self,
        infohash: ContentHash,
        token: &str,
        quirks: Quirks,
    ) -> (Ended, Vec<String>) {
        let mut players = vec![token.to_owned()];
        let mut ended = Ended::new();
        self.0.retain_mut(|old| {
            let why = collision(&old.session, infohash, token, quirks);
            if why == Some(CloseReason::Superseded) {
                players.append(&mut old.players);
            }
            ended.extend(why.map(|why| (Arc::clone(&old.session), why)));
            why.is_none()
        });
        (ended, players)
    }

    /// Enters a session to which the URLs of `players` lead.
    pub(crate) fn enter(&mut self, session: Arc<Session>, players: Vec<String>) {
        self.0.push(Entry { session, players });
    }

    /// The session behind a player's URLs: after a supersession, the newest of the infohash.
    pub(crate) fn of_player(&self, infohash: ContentHash, token: &str) -> Option<Arc<Session>> {
        self.0.iter().find(|entry| entry.is(infohash, token)).map(|entry| Arc::clone(&entry.session))
    }

    /// The open engine's playback behind a URL: the token alone is not enough, the content has to be its own.
    pub(crate) fn of_playback(&self, play_id: &str, token: &str) -> Option<Arc<Session>> {
        let matches = |entry: &&Entry| entry.session.play_id == play_id && entry.session.token == token;
        self.0.iter().find(matches).map(|entry| Arc::clone(&entry.session))
    }

    /// The session behind a media URL.
    pub(crate) fn of_media(&self, infohash: ContentHash, key: &str) -> Option<Arc<Session>> {
        let matches = |entry: &&Entry| entry.session.infohash == infohash && entry.session.media_key == key;
        self.0.iter().find(matches).map(|entry| Arc::clone(&entry.session))
    }

    /// Ends the session behind a player's URLs, for all its players.
    pub(crate) fn stop(&mut self, infohash: ContentHash, token: &str) -> Option<Arc<Session>> {
        let index = self.0.iter().position(|entry| entry.is(infohash, token))?;
        Some(self.0.swap_remove(index).session)
    }

    /// Ends sessions that nobody reads.
    pub(crate) fn expire(&mut self, timing: &Timing) -> Ended {
        let mut ended = Ended::new();
        self.0.retain(|entry| {
            let why = entry.session.expiry(timing);
            ended.extend(why.map(|why| (Arc::clone(&entry.session), why)));
            why.is_none()
        });
        ended
    }

    /// Ends playbacks of the open engine whose time is over.
    pub(crate) fn expire_leases(&mut self, lease: Duration) -> Ended {
        let over = self.0.extract_if(.., |entry| entry.session.opened.elapsed() >= lease);
        over.map(|entry| (entry.session, CloseReason::Expired)).collect()
    }

    /// Ends everything.
    pub(crate) fn drain(&mut self, why: CloseReason) -> Ended {
        self.0.drain(..).map(|entry| (entry.session, why)).collect()
    }
}

fn collision(old: &Session, infohash: ContentHash, token: &str, quirks: Quirks) -> Option<CloseReason> {
    let (same_content, same_player) = (old.infohash == infohash, old.token == token);
    if same_content && (quirks.supersede || same_player) {
        Some(CloseReason::Superseded)
    } else if same_player && !same_content && quirks.one_content_per_player {
        Some(CloseReason::PlayerSwitched)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelKind, H264_ID, HEVC_ID};

    const REAL: Quirks = Quirks { supersede: true, one_content_per_player: true };

    fn session(content_id: &str, token: &str) -> Arc<Session> {
        let infohash = ContentHash::parse(content_id).unwrap().infohash();
        Arc::new(Session {
            ledger_id: 0,
            infohash,
            reference: Reference::Infohash(infohash),
            play_id: infohash.to_string(),
            token: token.to_owned(),
            media_key: "key".to_owned(),
            playback_session_id: format!("of {token}"),
            client_session_id: -1,
            channel: Channel::new(infohash, ChannelKind::VERIFY),
            faults: Faults::default(),
            opened: Instant::now(),
            edge_at_opening: Duration::ZERO,
            cut: CancellationToken::new(),
            activity: Mutex::new(Activity::new()),
        })
    }

    fn open(registry: &mut Registry, session: Arc<Session>, quirks: Quirks) -> Ended {
        let (ended, players) = registry.make_way(session.infohash, &session.token, quirks);
        registry.enter(session, players);
        ended
    }

    #[test]
    fn a_second_player_supersedes_the_first_and_both_urls_lead_to_the_newer() {
        let mut registry = Registry::default();
        let (first, second) = (session(H264_ID, "a"), session(H264_ID, "b"));
        assert!(open(&mut registry, Arc::clone(&first), REAL).is_empty());
        let ended = open(&mut registry, Arc::clone(&second), REAL);
        assert_eq!((ended.len(), ended[0].1), (1, CloseReason::Superseded));
        for token in ["a", "b"] {
            let seen = registry.of_player(first.infohash, token).unwrap();
            assert_eq!(seen.playback_session_id, "of b");
        }
        assert!(registry.stop(first.infohash, "a").is_some());
        assert!(registry.of_player(first.infohash, "b").is_none());
    }

    #[test]
    fn a_player_that_switches_loses_its_old_content() {
        let mut registry = Registry::default();
        open(&mut registry, session(H264_ID, "a"), REAL);
        let ended = open(&mut registry, session(HEVC_ID, "a"), REAL);
        assert_eq!((ended.len(), ended[0].1, registry.len()), (1, CloseReason::PlayerSwitched, 1));
    }

    #[test]
    fn without_quirks_players_and_contents_are_independent() {
        let mut registry = Registry::default();
        let none = Quirks { supersede: false, one_content_per_player: false };
        for (id, token) in [(H264_ID, "a"), (H264_ID, "b"), (HEVC_ID, "a")] {
            assert!(open(&mut registry, session(id, token), none).is_empty());
        }
        assert_eq!(registry.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_outlives_its_reader_for_a_while_and_a_poll_prolongs_it() {
        let timing = Timing::real();
        let mut registry = Registry::default();
        let one = session(H264_ID, "a");
        open(&mut registry, Arc::clone(&one), REAL);
        let reader = one.admit(true).unwrap();
        assert!(one.admit(true).is_none() && one.admit(false).is_some());
        tokio::time::advance(timing.unread * 2).await;
        assert!(registry.expire(&timing).is_empty());
        drop(reader);
        tokio::time::advance(timing.reader_gone / 2).await;
        one.polled(true);
        tokio::time::advance(timing.reader_gone / 2).await;
        one.polled(false);
        assert!(registry.expire(&timing).is_empty());
        tokio::time::advance(timing.reader_gone / 2).await;
        assert_eq!(registry.expire(&timing)[0].1, CloseReason::ReaderLeft);
    }
}
