//! The state of one simulated engine, shared by its connections: sessions, faults, channels and the ledger. It decides
//! nothing about HTTP.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::channel::{Channel, ChannelKind, demo_kind};
use crate::fault::{Fault, FaultTable, Faults, Rule};
use crate::identity::{ContentHash, random_hex};
use crate::ledger::{CloseReason, IdForm, Ledger, Opening};
use crate::options::{Dialect, PieceSize, SimOptions};
use crate::session::{Activity, Ended, Quirks, Registry, Session};
use crate::source::{Reference, Source, Sources, Subscription, Supply};
use crate::swarm;

/// Content ids remembered for `get_content_id`.
const REMEMBERED_IDS: usize = 10_000;

/// One engine's state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: SimOptions,
    pub(crate) ledger: Ledger,
    name: String,
    faults: FaultTable,
    registry: Mutex<Registry>,
    channels: Mutex<HashMap<ContentHash, ChannelKind>>,
    piece_sizes: Mutex<HashMap<ContentHash, PieceSize>>,
    /// What the open engine downloads; the closed one has nothing in it.
    sources: Mutex<Sources>,
    /// Media bodies being written.
    bodies: watch::Sender<usize>,
    /// Content ids by infohash, as far as they were asked for.
    content_ids: Mutex<HashMap<ContentHash, ContentHash>>,
    /// The simulated process; cancelled by a crash, which resets everything connected, and replaced by a boot.
    life: Mutex<CancellationToken>,
    /// Whether the port should be open; the accept loop follows.
    wanted: watch::Sender<bool>,
    /// Told to end: nobody new is let in.
    draining: AtomicBool,
}

/// A media body being written; dropping it counts it out.
#[derive(Debug)]
pub(crate) struct OpenBody<'a>(&'a watch::Sender<usize>);

impl Drop for OpenBody<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|bodies| *bodies -= 1);
    }
}

/// What a client asked to start, resolved.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) form: IdForm,
    pub(crate) requested: String,
    pub(crate) reference: Reference,
    /// How the content is called in URLs.
    pub(crate) play_id: String,
    pub(crate) pid: Option<String>,
    pub(crate) token: String,
    pub(crate) playback_session_id: String,
    pub(crate) client_session_id: i64,
    /// Faults of this start alone.
    pub(crate) own_faults: Faults,
}

impl Core {
    pub(crate) fn new(options: SimOptions, addr: SocketAddr) -> Self {
        let name = if options.name.is_empty() { addr.to_string() } else { options.name.clone() };
        let channels = options.channels.iter().map(|(hash, kind)| (hash.infohash(), *kind)).collect();
        let piece_sizes = options.piece_sizes.iter().map(|(hash, size)| (hash.infohash(), *size)).collect();
        let core = Self {
            name,
            ledger: options.ledger.clone().unwrap_or_default(),
            faults: FaultTable::new(options.faults.clone()),
            registry: Mutex::default(),
            channels: Mutex::new(channels),
            piece_sizes: Mutex::new(piece_sizes),
            sources: Mutex::default(),
            bodies: watch::Sender::default(),
            content_ids: Mutex::default(),
            life: Mutex::default(),
            wanted: watch::Sender::new(true),
            draining: AtomicBool::new(false),
            options,
        };
        core.follow_faults();
        core
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn sessions(&self) -> usize {
        self.registry.lock().len()
    }

    // Faults.

    pub(crate) fn add_rule(&self, rule: Rule) {
        self.faults.add(rule);
        self.follow_faults();
    }

    pub(crate) fn clear_rules(&self) {
        self.faults.clear();
        self.follow_faults();
    }

    /// The machine has lost the internet, or has it again.
    pub(crate) fn set_offline(&self, offline: bool) {
        self.faults.set(&Rule::always(Fault::Offline), offline);
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.faults.rules()
    }

    /// Standing faults for this content; with `None` only those of the engine itself.
    pub(crate) fn faults(&self, infohash: Option<ContentHash>) -> Faults {
        self.faults.standing(infohash)
    }

    /// Faults of a start; counted rules are used up.
    pub(crate) fn take_start_faults(&self, infohash: Option<ContentHash>) -> Faults {
        self.faults.take_start(infohash)
    }

    /// All faults that a session suffers now.
    pub(crate) fn session_faults(&self, session: &Session) -> Faults {
        self.faults.standing(Some(session.reference.target())).and(&session.faults)
    }

    // Power.

    /// Whether the port should be open, to be followed by the accept loop.
    pub(crate) fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// Cancelled when the simulated process dies, and until it runs again.
    pub(crate) fn life(&self) -> CancellationToken {
        self.life.lock().clone()
    }

    /// The process dies: connections are reset, sessions forgotten, the port closed.
    pub(crate) fn crash(&self) {
        self.life.lock().cancel();
        self.end_all(CloseReason::Crash);
        self.follow_faults();
    }

    /// The process runs again. A start that was half done in the crash is forgotten, too.
    pub(crate) fn boot(&self) {
        if self.life().is_cancelled() {
            self.end_all(CloseReason::Crash);
            *self.life.lock() = CancellationToken::new();
        }
        self.follow_faults();
    }

    fn follow_faults(&self) {
        let open =
            !self.life().is_cancelled() && !self.is_draining() && !self.faults(None).has(&Fault::Refuse);
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, open) != open);
    }

    /// Told to end: the port closes, and what is being streamed goes on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.follow_faults();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A media body is begun.
    pub(crate) fn body(&self) -> OpenBody<'_> {
        self.bodies.send_modify(|bodies| *bodies += 1);
        OpenBody(&self.bodies)
    }

    /// Resolves when no media body is being written.
    pub(crate) async fn bodies_done(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.bodies.subscribe().wait_for(|bodies| *bodies == 0).await;
    }

    // Channels.

    pub(crate) fn set_channel(&self, hash: ContentHash, kind: ChannelKind) {
        self.channels.lock().insert(hash.infohash(), kind);
    }

    /// What the swarm of `infohash` shows.
    pub(crate) fn kind(&self, infohash: ContentHash) -> ChannelKind {
        let set = self.channels.lock().get(&infohash).copied();
        set.or_else(|| demo_kind(infohash)).unwrap_or(self.options.default_channel)
    }

    pub(crate) fn set_piece_size(&self, hash: ContentHash, size: PieceSize) {
        self.piece_sizes.lock().insert(hash.infohash(), size);
    }

    /// How large the pieces of the swarm of `infohash` are.
    pub(crate) fn piece_size(&self, infohash: ContentHash) -> PieceSize {
        self.piece_sizes.lock().get(&infohash).copied().unwrap_or(self.options.piece_size)
    }

    pub(crate) fn remember(&self, content_id: ContentHash) {
        let mut known = self.content_ids.lock();
        if known.len() < REMEMBERED_IDS {
            known.insert(content_id.infohash(), content_id);
        }
    }

    pub(crate) fn content_id(&self, infohash: ContentHash) -> Option<ContentHash> {
        self.content_ids.lock().get(&infohash).copied()
    }

    // Sessions.

    /// Opens a session and ends those that collide with it.
    pub(crate) fn open(&self, order: Order) -> Arc<Session> {
        let faults = self.faults.standing(Some(order.reference.target())).and(&order.own_faults);
        let infohash = order.reference.swarm();
        let mut registry = self.registry.lock();
        let (ended, players) = registry.make_way(infohash, &order.token, self.quirks(&faults));
        // The old ones are closed in the ledger before the new one is opened: its peak counts what really coexists.
        self.end(ended);
        let ledger_id = self.ledger.opened(self.opening(&order));
        let session = Arc::new(Session {
            ledger_id,
            infohash,
            reference: order.reference,
            play_id: order.play_id,
            token: order.token,
            media_key: format!("0.{}", u64::from_str_radix(&random_hex(6), 16).unwrap_or_default()),
            playback_session_id: order.playback_session_id,
            client_session_id: order.client_session_id,
            channel: Channel::new(infohash, self.kind(infohash)),
            faults: order.own_faults,
            opened: Instant::now(),
            edge_at_opening: self.live_edge(),
            cut: CancellationToken::new(),
            activity: Mutex::new(Activity::new()),
        });
        registry.enter(Arc::clone(&session), players);
        session
    }

    fn opening(&self, order: &Order) -> Opening {
        Opening {
            engine: self.name.clone(),
            form: order.form,
            requested: order.requested.clone(),
            infohash: order.reference.swarm().to_string(),
            pid: order.pid.clone(),
            token: order.token.clone(),
            playback_session_id: order.playback_session_id.clone(),
        }
    }

    fn quirks(&self, faults: &Faults) -> Quirks {
        let closed = self.options.dialect == Dialect::AceStream;
        Quirks {
            supersede: closed && !faults.has(&Fault::NoSupersede),
            one_content_per_player: closed && !faults.has(&Fault::IndependentPids),
        }
    }

    pub(crate) fn of_player(&self, infohash: ContentHash, token: &str) -> Option<Arc<Session>> {
        self.registry.lock().of_player(infohash, token)
    }

    pub(crate) fn of_playback(&self, play_id: &str, token: &str) -> Option<Arc<Session>> {
        self.registry.lock().of_playback(play_id, token)
    }

    pub(crate) fn of_media(&self, infohash: ContentHash, key: &str) -> Option<Arc<Session>> {
        self.registry.lock().of_media(infohash, key)
    }

    /// Ends the session behind a player's URLs; `false` when there is none.
    pub(crate) fn stop(&self, infohash: ContentHash, token: &str, why: CloseReason) -> bool {
        let stopped = self.registry.lock().stop(infohash, token);
        let found = stopped.is_some();
        self.end(stopped.map(|session| (session, why)).into_iter().collect());
        found
    }

    pub(crate) fn expire(&self) {
        let timing = &self.options.timing;
        let ended = match self.options.dialect {
            Dialect::AceStream => self.registry.lock().expire(timing),
            Dialect::Outpace => self.registry.lock().expire_leases(timing.lease),
        };
        self.end(ended);
        let ends = |reference: &Reference| self.faults(Some(reference.target())).has(&Fault::RunawayEnds);
        self.sources.lock().expire(timing.linger, ends);
    }

    pub(crate) fn end_all(&self, why: CloseReason) {
        let ended = self.registry.lock().drain(why);
        self.end(ended);
        self.sources.lock().end_all();
    }

    // Downloads.

    /// The running download of this form.
    pub(crate) fn source(&self, reference: &Reference) -> Option<Arc<Source>> {
        self.sources.lock().find(reference).cloned()
    }

    /// Reads the running download of this form.
    pub(crate) fn join_source(&self, reference: &Reference) -> Option<Subscription> {
        self.sources.lock().join(reference)
    }

    /// Reads the download of this form, which begins now unless it runs.
    pub(crate) fn open_source(&self, reference: &Reference, supply: Supply) -> Subscription {
        self.sources.lock().open(reference, supply, self.live_edge())
    }

    /// Downloads that the engine says that it has.
    pub(crate) fn sources(&self) -> usize {
        self.sources.lock().known()
    }

    /// Bytes received from all swarms.
    pub(crate) fn received(&self) -> u64 {
        self.sources.lock().received()
    }

    /// Counts received bytes from 0 again.
    pub(crate) fn reset_received(&self) {
        self.sources.lock().reset();
    }

    fn end(&self, ended: Ended) {
        for (session, why) in ended {
            session.cut.cancel();
            self.ledger.closed(session.ledger_id, why);
        }
    }

    /// The swarm's live edge as this engine sees it.
    pub(crate) fn live_edge(&self) -> Duration {
        swarm::now().saturating_sub(self.options.swarm_lag)
    }
}
