//! Which engine serves a new stream.
//!
//! Choice is by what streams have shown of an engine, then by load, with a hard cap per engine. A [`Slot`] is the right to
//! run one playback on an engine; it is taken before the start call and returned when the engine has answered the stop,
//! or when nobody waits for the start any more. Who finds no slot waits (`desk.rs` says for which); the number of those
//! whom no engine that runs can serve soon is the fleet's demand, and what the fleet can do about it ([`Outlook`])
//! decides how long they wait.

mod desk;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acemux_engine::{Endpoint, Engine, Infohash, Journal, Limit, SessionCounts, SessionTotals, Timings};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::desk::{Decision, Desk, Floor, Full, GIVING_WAY, View};
use self::trial::Deliveries;
pub use self::trial::Trial;
use crate::member::{Contained, EngineKey, Health, Member};
use crate::tunnel::TunnelName;
use crate::tunnel::blame::{Blame, Verdict};

/// A wait that ends so much later than it was to end did so because this program stood still, not the engines.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(2);

/// Without one of our own failures for so long the next one is another shortage, and said again.
const SHORTAGE_IS_OVER: Duration = Duration::from_mins(1);

/// How engines are used.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// Streams per engine (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    /// Failed probes in a row that make an engine unhealthy (`HEALTH_FAILURE_THRESHOLD`).
    pub misses_allowed: u32,
    /// Longest wait for a slot on the engines that run (`ENGINE_SELECTION_TIMEOUT`).
    pub selection: Limit,
    /// Longest wait when an engine may still come (`STARTUP_TIMEOUT_S`).
    pub startup: Limit,
    /// How long engines may take.
    pub timings: Timings,
    /// Where open playbacks are remembered.
    pub journal: Option<Arc<dyn Journal>>,
}

impl DispatchOptions {
    fn engine(&self, endpoint: Endpoint, totals: &Arc<SessionTotals>) -> Engine {
        Engine::of_fleet(endpoint, self.timings.clone(), self.journal.clone(), Arc::clone(totals))
    }
}

/// Whether waiting for another engine makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Nobody creates engines.
    Static,
    /// One is coming, or may be created.
    Growing,
    /// None can be created now.
    Stuck {
        /// What is missing.
        lack: Lack,
        /// Why, in one line.
        why: String,
    },
}

/// What is missing for another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Room, or luck.
    Engines,
    /// Host ports.
    Ports,
    /// The image.
    Image,
    /// A VPN that works.
    Vpn,
}

/// Who is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A stream that begins: in turns over the address groups that wait, in a group by arrival.
    #[default]
    Start,
    /// A stream that has stopped under so many viewers: before those that begin, and many viewers before few.
    Recovery(usize),
    /// A second source beside one that is silent: only while nobody waits.
    Hedge,
}

/// An address group, by its first address: whoever counts by address makes these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(IpAddr);

impl From<IpAddr> for Group {
    fn from(first: IpAddr) -> Self {
        Self(first)
    }
}

/// Who holds a slot or waits for one: a stream, and those who watch it. Asked while a lock is held, so it must answer at
/// once.
pub trait Occupant: fmt::Debug + Send + Sync {
    /// The groups of those who wait for it or watch it: some, if there are many; none when there is nobody.
    fn groups(&self) -> Vec<Group>;

    /// Since when nobody watches it or waits for it, and in which group the last one was. `None` when somebody does, or
    /// when it is over.
    fn idle(&self) -> Option<(Instant, Group)>;

    /// Since when all who watch it have been paused. `None` when somebody is not, or when nobody watches.
    fn paused(&self) -> Option<Instant>;

    /// Has it end if nobody watches it or all who do are paused, or wait in the queue again if it has not begun to play. False
    /// when it cannot listen now.
    fn make_room(&self) -> bool;
}

/// Who asks for a slot, and for what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The stream, if its infohash is known.
    pub stream: Option<Infohash>,
    /// Engines that have just failed with it.
    pub exclude: Vec<EngineKey>,
    /// Who goes first.
    pub priority: Priority,
    /// Since when it is waited for.
    pub asked: Instant,
    /// Who will hold it.
    pub occupant: Arc<dyn Occupant>,
}

/// Why there is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// There is no engine, and nobody creates any.
    #[error("no engine is configured: set ENGINES=host:port[,host:port], or ENGINE_PROVISIONER=docker")]
    NoEngines,
    /// Every engine has just failed with this stream.
    #[error("no other engine is left to try")]
    NoneLeft,
    /// All slots are taken.
    #[error("every engine runs as many streams as MAX_STREAMS_PER_ENGINE allows")]
    AllBusy,
    /// So many wait already that the address that waits for most loses its newest.
    #[error("too many streams wait for an engine, most of them asked for from this address")]
    QueueFull,
    /// An engine was to come, and did not in time.
    #[error("no engine became ready in time")]
    NotInTime,
    /// No further engine can be created.
    #[error("no engine has room, and none can be created: {why}")]
    Stuck {
        /// What is missing.
        lack: Lack,
        /// Why, in one line.
        why: String,
    },
}

/// The engines, and who waits for one.
#[derive(Debug)]
pub struct Engines {
    options: DispatchOptions,
    members: RwLock<Arc<[Arc<Member>]>>,
    hall: Mutex<Hall>,
    outlook: watch::Sender<Outlook>,
    /// The number of those who wait has changed.
    demand: Notify,
    /// It was decided anew: who is to be refused may have prospects, or none any more.
    decided: Notify,
    /// When time alone changes what is decided next.
    due: watch::Sender<Option<Instant>>,
    deliveries: Deliveries,
    /// What channels have shown about VPNs' exits.
    blame: Mutex<Blame>,
    /// Tunnels of which it is not known just now whether they work.
    unsure: Mutex<BTreeSet<TunnelName>>,
    /// Sessions of all engines, those included that are gone.
    totals: Arc<SessionTotals>,
    /// For how many milliseconds this program has stood still since it began.
    stood_still: AtomicU64,
    /// When this machine was last short of something.
    last_short: Mutex<Option<Instant>>,
}

/// Who waits, and where each is told.
#[derive(Debug)]
struct Hall {
    desk: Desk,
    grants: HashMap<u64, oneshot::Sender<Slot>>,
    decided_at: Instant,
}

/// The right to run one playback on an engine. Dropping it returns the right, and the next in line gets it.
#[derive(Debug)]
pub struct Slot {
    member: Arc<Member>,
    engines: Arc<Engines>,
    tenure: u64,
}

/// A place in the queue, given up when dropped.
struct Ticket {
    engines: Arc<Engines>,
    number: u64,
}

/// A stream that another program runs: nothing is known of who watches it.
#[derive(Debug)]
struct Foreign;

impl Occupant for Foreign {
    fn groups(&self) -> Vec<Group> {
        Vec::new()
    }

    fn idle(&self) -> Option<(Instant, Group)> {
        None
    }

    fn paused(&self) -> Option<Instant> {
        None
    }

    fn make_room(&self) -> bool {
        false
    }
}

impl Priority {
    fn weight(self) -> usize {
        match self {
            Self::Hedge => 0,
            Self::Start => 1,
            Self::Recovery(viewers) => viewers.saturating_add(2),
        }
    }
}

impl Slot {
    /// Where it is.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Its playback is being ended: it comes back when the engine has answered.
    pub fn leaving(&self) {
        self.engines.hall.lock().desk.leaving(self.tenure);
    }

    /// A start on it begins; what comes of it tells something about the engine.
    pub fn trial(&self, stream: &str) -> Trial {
        Trial::new(Arc::clone(&self.engines), Arc::clone(&self.member), self.tenure, stream)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.member.return_slot();
        self.engines.hall.lock().desk.release(self.tenure, Instant::now());
        self.engines.serve();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut hall = self.engines.hall.lock();
        let was_waiting = hall.desk.withdraw(self.number);
        let grant = hall.grants.remove(&self.number);
        drop(hall);
        drop(grant);
        if was_waiting {
            self.engines.demand.notify_one();
            // What it had a claim to is somebody else's now.
            self.engines.serve();
        }
    }
}

/// The engines while it is decided.
struct Members<'a>(&'a [Arc<Member>]);

impl Members<'_> {
    fn find(&self, engine: &EngineKey) -> Option<&Arc<Member>> {
        self.0.iter().find(|member| member.key == *engine)
    }

    /// Those that may be given streams.
    fn views(&self, avoided: &BTreeSet<TunnelName>) -> Vec<View> {
        let open = self.0.iter().filter(|member| member.may_serve() && !member.is_cordoned());
        let view = |member: &Arc<Member>| View {
            key: member.key.clone(),
            free: member.free(),
            used: member.used(),
            calls: member.engine.wanted_calls(),
            is_doubtful: member.is_doubtful(),
            is_avoided: member.tunnel().is_some_and(|tunnel| avoided.contains(tunnel)),
            is_forwarded: member.container.as_ref().is_some_and(|inside| inside.forwarded.is_some()),
            trust: member.trust(),
            ejected_until: member.ejected_until(),
        };
        open.map(view).collect()
    }
}

impl Floor for Members<'_> {
    fn is_closing(&self, engine: &EngineKey, stream: Infohash) -> bool {
        self.find(engine).is_some_and(|member| member.engine.is_closing(stream))
    }

    fn take(&self, engine: &EngineKey) -> bool {
        self.find(engine).is_some_and(|member| member.take_slot())
    }
}

impl Engines {
    /// The engines that somebody else runs; a fleet may add others. Must be called in the runtime.
    pub fn new(external: &[Endpoint], options: DispatchOptions, outlook: Outlook) -> Arc<Self> {
        let totals = Arc::default();
        let member = |endpoint: &Endpoint| {
            let engine = options.engine(endpoint.clone(), &totals);
            Arc::new(Member::external(engine, options.slots, options.misses_allowed))
        };
        let members = external.iter().map(member).collect();
        Arc::new(Self {
            members: RwLock::new(members),
            options,
            hall: Mutex::new(Hall {
                desk: Desk::default(),
                grants: HashMap::new(),
                decided_at: Instant::now(),
            }),
            outlook: watch::Sender::new(outlook),
            demand: Notify::new(),
            decided: Notify::new(),
            due: watch::Sender::new(None),
            deliveries: Deliveries::default(),
            blame: Mutex::default(),
            unsure: Mutex::default(),
            totals,
            stood_still: AtomicU64::new(0),
            last_short: Mutex::default(),
        })
    }

    /// How engines are used.
    pub fn options(&self) -> &DispatchOptions {
        &self.options
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Arc<[Arc<Member>]> {
        Arc::clone(&self.members.read())
    }

    /// The engine of this key.
    pub fn find(&self, key: &str) -> Option<Arc<Member>> {
        self.all().iter().find(|member| member.key.as_str() == key).cloned()
    }

    /// Why streams on an engine should go elsewhere, if they should. From one bad engine to another is no way out.
    pub fn why_leave(&self, member: &Member) -> Option<&'static str> {
        let is_better =
            |other: &Arc<Member>| other.key != member.key && !other.is_ejected() && !other.is_cordoned();
        let is_only_bad = member.is_ejected() && !member.is_cordoned();
        if is_only_bad && !self.all().iter().any(is_better) {
            return None;
        }
        member.should_be_left()
    }

    /// Sessions opened and ended on all engines since the service began, whatever has become of the engines.
    pub fn sessions(&self) -> SessionCounts {
        self.totals.read()
    }

    /// Tunnels that new streams avoid while there are others.
    fn avoided(&self) -> BTreeSet<TunnelName> {
        let mut avoided = self.blame.lock().avoided(Instant::now());
        avoided.extend(self.unsure.lock().iter().cloned());
        avoided
    }

    /// Of which tunnels it is not known whether they work: streams start there last.
    pub(crate) fn set_unsure(&self, tunnels: BTreeSet<TunnelName>) {
        *self.unsure.lock() = tunnels;
    }

    /// Why new streams avoid this tunnel, if they do.
    pub fn verdict(&self, tunnel: &TunnelName) -> Option<Verdict> {
        self.blame.lock().verdict(tunnel, Instant::now()).cloned()
    }

    /// Those behind this tunnel.
    pub fn inside(&self, tunnel: &TunnelName) -> Vec<Arc<Member>> {
        self.all().iter().filter(|member| member.tunnel() == Some(tunnel)).cloned().collect()
    }

    /// Whether a start may succeed now.
    pub fn any_healthy(&self) -> bool {
        self.all().iter().any(|member| member.knowledge().health == Health::Healthy)
    }

    /// Streams that wait for a slot which no engine that runs is about to give up.
    pub fn waiting(&self) -> usize {
        self.hall.lock().desk.demand()
    }

    /// Returns when [`Self::waiting`] has changed since the last call.
    pub async fn demand_changed(&self) {
        self.demand.notified().await;
    }

    /// Engines to ask something that needs no slot, the best first: those that answer, then by load.
    pub fn to_ask(&self) -> Vec<Arc<Member>> {
        let mut all: Vec<_> = self.all().iter().filter(|member| member.may_serve()).cloned().collect();
        all.sort_by_key(|member| (member.is_doubtful(), member.trust(), member.used()));
        all
    }

    /// A slot as the request wants it. An engine where a stop of the same stream is pending is taken only if there is no
    /// other: the start would have to wait for the stop's answer.
    pub async fn slot(self: &Arc<Self>, request: Request) -> Result<Slot, NoSlot> {
        self.refuse_at_once(&request.exclude)?;
        let (priority, exclude) = (request.priority, request.exclude.clone());
        if priority == Priority::Hedge && self.hall.lock().desk.is_awaited() {
            return Err(NoSlot::AllBusy);
        }
        let (grant, granted) = oneshot::channel();
        let ticket = self.enqueue(request, grant);
        self.serve();
        match priority {
            Priority::Hedge => self.spare(granted, &ticket).await,
            Priority::Start | Priority::Recovery(_) => self.wait(granted, &ticket, &exclude).await,
        }
    }

    /// A slot on this engine, if it has one now: for what somebody else runs there.
    pub fn slot_on(self: &Arc<Self>, member: &Arc<Member>) -> Option<Slot> {
        let mut hall = self.hall.lock();
        if !member.take_slot() {
            return None;
        }
        let tenure = hall.desk.enter(member.key.clone(), Arc::new(Foreign), Instant::now());
        hall.desk.delivered(tenure);
        Some(Slot { member: Arc::clone(member), engines: Arc::clone(self), tenure })
    }

    /// Only what is free, or comes because nobody watches.
    async fn spare(&self, mut granted: oneshot::Receiver<Slot>, ticket: &Ticket) -> Result<Slot, NoSlot> {
        if let Ok(slot) = granted.try_recv() {
            return Ok(slot);
        }
        if !self.hall.lock().desk.has_claim(ticket.number) {
            return Err(NoSlot::AllBusy);
        }
        timeout(GIVING_WAY, granted).await.ok().and_then(Result::ok).ok_or(NoSlot::AllBusy)
    }

    async fn wait(
        self: &Arc<Self>,
        mut granted: oneshot::Receiver<Slot>,
        ticket: &Ticket,
        exclude: &[EngineKey],
    ) -> Result<Slot, NoSlot> {
        let began = Instant::now();
        let (mut selection, mut startup) =
            (began + self.options.selection.get(), began + self.options.startup.get());
        let (mut outlook, mut due) = (self.outlook.subscribe(), self.due.subscribe());
        loop {
            let decided = self.decided.notified();
            let (now, last) = (Instant::now(), startup.max(selection));
            let is_due = selection <= now;
            let refusal =
                is_due.then(|| self.refusal(&outlook.borrow_and_update(), ticket, exclude)).flatten();
            if refusal.is_some() && self.paused_gives_way(ticket) {
                startup = startup.max(now + GIVING_WAY);
                continue;
            }
            if let Some(refusal) = refusal.or_else(|| (last <= now).then_some(NoSlot::NotInTime)) {
                return granted.try_recv().or(Err(refusal));
            }
            let next = if is_due { last } else { selection };
            let wake_at = due.borrow_and_update().filter(|at| *at > now).map_or(next, |at| at.min(next));
            tokio::select! {
                biased;
                slot = &mut granted => return slot.map_err(|_| NoSlot::QueueFull),
                () = decided, if is_due => {}
                Ok(()) = outlook.changed(), if is_due => {}
                Ok(()) = due.changed() => {}
                () = sleep_until(wake_at) => {
                    let late = wake_at.elapsed();
                    if late > STANDSTILL {
                        (selection, startup) = (selection + late, startup + late);
                    }
                    self.serve_since(wake_at);
                }
            }
        }
    }

    /// Why it is not waited any longer. Never while a slot is free or its stream unwatched.
    fn refusal(&self, outlook: &Outlook, ticket: &Ticket, exclude: &[EngineKey]) -> Option<NoSlot> {
        let refusal = self.hopeless(outlook, exclude)?;
        let views = Members(&self.all()).views(&self.avoided());
        (!self.hall.lock().desk.has_prospects(ticket.number, &views)).then_some(refusal)
    }

    /// Nothing else is left: the stream whose viewers have all been paused longest is to end for this waiter. False when there
    /// is none.
    fn paused_gives_way(self: &Arc<Self>, ticket: &Ticket) -> bool {
        let members = self.all();
        let floor = Members(&members);
        let views = floor.views(&self.avoided());
        let mut hall = self.hall.lock();
        let decision = hall.desk.claim_paused(ticket.number, &views, Instant::now());
        let to_do = decision.and_then(|decision| self.to_do(&mut hall, &floor, decision));
        drop(hall);
        if let Some(to_do) = to_do {
            self.perform(to_do);
        }
        let is_promised = self.hall.lock().desk.has_claim(ticket.number);
        if is_promised {
            // Whoever waits has to know when to look again.
            self.serve();
        }
        is_promised
    }

    fn hopeless(&self, outlook: &Outlook, exclude: &[EngineKey]) -> Option<NoSlot> {
        match outlook {
            Outlook::Growing => None,
            Outlook::Static => Some(self.refuse_at_once(exclude).err().unwrap_or(NoSlot::AllBusy)),
            Outlook::Stuck { lack, why } => Some(NoSlot::Stuck { lack: *lack, why: why.clone() }),
        }
    }

    /// What no waiting can change.
    fn refuse_at_once(&self, exclude: &[EngineKey]) -> Result<(), NoSlot> {
        let members = self.all();
        let is_static = *self.outlook.borrow() == Outlook::Static;
        if members.is_empty() && is_static {
            return Err(NoSlot::NoEngines);
        }
        // A failed start is not a reason to wait for an engine that does not exist yet.
        let is_left = members.iter().any(|member| !exclude.contains(&member.key));
        if !is_left && (is_static || !exclude.is_empty()) {
            return Err(NoSlot::NoneLeft);
        }
        Ok(())
    }

    fn enqueue(self: &Arc<Self>, request: Request, grant: oneshot::Sender<Slot>) -> Ticket {
        let mut hall = self.hall.lock();
        let (number, full) = hall.desk.ask(request);
        hall.grants.insert(number, grant);
        let turned_away = full.and_then(|Full(victim)| hall.grants.remove(&victim));
        drop(hall);
        drop(turned_away);
        Ticket { engines: Arc::clone(self), number }
    }

    /// Gives out what is free, and has room made for those who find nothing. To be called whenever anything has changed:
    /// a slot, an engine, who watches.
    pub fn serve(self: &Arc<Self>) {
        let members = self.all();
        let mut hall = self.hall.lock();
        hall.decided_at = Instant::now();
        if !hall.desk.is_awaited() {
            return;
        }
        let demand = hall.desk.demand();
        let floor = Members(&members);
        let now = hall.decided_at;
        let decisions = hall.desk.decide(&mut floor.views(&self.avoided()), &floor, now);
        let has_changed = demand != hall.desk.demand();
        let due = hall.desk.due(now);
        self.due.send_if_modified(|known| std::mem::replace(known, due) != due);
        let decisions: Vec<_> =
            decisions.into_iter().filter_map(|decision| self.to_do(&mut hall, &floor, decision)).collect();
        drop(hall);
        if has_changed {
            self.demand.notify_one();
        }
        self.decided.notify_waiters();
        for to_do in decisions {
            self.perform(to_do);
        }
    }

    /// The same, unless it was done since.
    fn serve_since(self: &Arc<Self>, at: Instant) {
        if self.hall.lock().decided_at < at {
            self.serve();
        }
    }

    fn to_do(self: &Arc<Self>, hall: &mut Hall, floor: &Members<'_>, decision: Decision) -> Option<ToDo> {
        match decision {
            Decision::MakeRoom { tenure, occupant } => Some(ToDo::MakeRoom { tenure, occupant }),
            Decision::Grant { waiter, engine, tenure } => {
                let member = Arc::clone(floor.find(&engine)?);
                let slot = Slot { member, engines: Arc::clone(self), tenure };
                Some(ToDo::Grant(hall.grants.remove(&waiter), slot))
            }
        }
    }

    /// Outside of the lock: a slot that nobody takes any more comes back here.
    fn perform(&self, to_do: ToDo) {
        match to_do {
            ToDo::Grant(grant, slot) => drop(grant.map(|grant| grant.send(slot))),
            ToDo::MakeRoom { tenure, occupant } => {
                if !occupant.make_room() {
                    self.hall.lock().desk.stays(tenure);
                }
            }
        }
    }

    /// This program stood still for so long: nobody's silence in that time says anything.
    pub(crate) fn excuse(&self, late: Duration) {
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.stood_still.fetch_add(late_ms, Ordering::Relaxed);
        self.all().iter().for_each(|member| member.excuse());
    }

    /// This machine is short of descriptors or memory: what could not be asked for that reason says nothing about engines.
    /// Said once, and again after a while without it.
    pub fn short(&self, error: &std::io::Error) {
        if self.is_another_shortage() {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "this machine is short of descriptors or memory: engines cannot be asked, and none is blamed for it"
            );
        }
    }

    fn is_another_shortage(&self) -> bool {
        let now = Instant::now();
        let last = self.last_short.lock().replace(now);
        last.is_none_or(|last| now.duration_since(last) > SHORTAGE_IS_OVER)
    }

    fn stood_still(&self) -> Duration {
        Duration::from_millis(self.stood_still.load(Ordering::Relaxed))
    }

    pub(crate) fn set_outlook(&self, outlook: Outlook) {
        self.outlook.send_if_modified(|current| {
            let is_news = *current != outlook;
            *current = outlook;
            is_news
        });
    }

    /// Adds the engine of a container.
    pub(crate) fn add(&self, endpoint: Endpoint, container: Contained, name: String) -> Arc<Member> {
        let engine = self.options.engine(endpoint, &self.totals);
        let member =
            Member::contained(engine, self.options.slots, self.options.misses_allowed, container, name);
        let member = Arc::new(member);
        let mut members = self.members.write();
        *members = members.iter().cloned().chain([Arc::clone(&member)]).collect();
        member
    }

    /// Takes an engine out: no stream starts on it any more.
    pub(crate) fn remove(&self, key: &EngineKey) -> Option<Arc<Member>> {
        let mut members = self.members.write();
        let removed = members.iter().find(|member| member.key == *key).cloned()?;
        *members = members.iter().filter(|member| member.key != *key).cloned().collect();
        removed.close();
        Some(removed)
    }
}

/// What is done after the lock was given back.
enum ToDo {
    Grant(Option<oneshot::Sender<Slot>>, Slot),
    MakeRoom { tenure: u64, occupant: Arc<dyn Occupant> },
}
