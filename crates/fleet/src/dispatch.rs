//! Which engine serves a new stream.
//!
//! Choice is by load: of the engines that may serve, the one with the fewest slots taken, with a hard cap per engine. A
//! [`Slot`] is the right to run one playback on an engine; it is taken before the start call and returned when the
//! engine has answered the stop, so the cap holds at every moment. Who finds no slot waits in order; the number of
//! those who wait is the fleet's demand, and what the fleet can do about it ([`Outlook`]) decides how long they wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::{Endpoint, Engine, Infohash, Journal, Timings};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::member::{Contained, EngineKey, Health, Member};

/// How long a stream that nobody watches may take to give its slot up: as long as its engine may take to answer the
/// stop. Only then another engine is asked for.
const GIVING_WAY: Duration = Duration::from_secs(3);

/// How engines are used.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// Streams per engine (`MAX_STREAMS_PER_ENGINE`).
    pub slots: usize,
    /// Failed probes in a row that make an engine unhealthy (`HEALTH_FAILURE_THRESHOLD`).
    pub misses_allowed: u32,
    /// Longest wait for a slot on the engines that run (`ENGINE_SELECTION_TIMEOUT`).
    pub selection: Duration,
    /// Longest wait when an engine may still come (`STARTUP_TIMEOUT_S`).
    pub startup: Duration,
    /// How long engines may take.
    pub timings: Timings,
    /// Where open playbacks are remembered.
    pub journal: Option<Arc<dyn Journal>>,
}

impl DispatchOptions {
    fn engine(&self, endpoint: Endpoint) -> Engine {
        Engine::with_journal(endpoint, self.timings.clone(), self.journal.clone())
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
}

/// Who is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// A stream that begins: in the order of asking.
    #[default]
    Start,
    /// A stream that has stopped under so many viewers: before those that begin, and many viewers before few.
    Recovery(usize),
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
    queue: Mutex<Queue>,
    outlook: watch::Sender<Outlook>,
    /// The number of those who wait has changed.
    demand: Notify,
}

/// Who waits, in order.
#[derive(Debug, Default)]
struct Queue {
    waiters: BTreeMap<u64, Waiter>,
    last: u64,
}

#[derive(Debug)]
struct Waiter {
    priority: Priority,
    stream: Option<Infohash>,
    exclude: Vec<EngineKey>,
    grant: oneshot::Sender<Slot>,
    /// Whether another engine should be created for it. Not while a stream that nobody watches gives way to it.
    is_demand: bool,
}

/// The right to run one playback on an engine. Dropping it returns the right, and the next in line gets it.
#[derive(Debug)]
pub struct Slot {
    member: Arc<Member>,
    engines: Arc<Engines>,
}

/// A place in the queue, given up when dropped.
struct Ticket<'a> {
    engines: &'a Engines,
    number: u64,
}

impl Priority {
    fn weight(self) -> usize {
        match self {
            Self::Start => 0,
            Self::Recovery(viewers) => viewers.max(1),
        }
    }
}

impl Slot {
    /// Where it is.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.member.return_slot();
        self.engines.serve();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.engines.queue.lock().waiters.remove(&self.number).is_some() {
            self.engines.demand.notify_one();
        }
    }
}

impl Engines {
    /// The engines that somebody else runs; a fleet may add others. Must be called in the runtime.
    pub fn new(external: &[Endpoint], options: DispatchOptions, outlook: Outlook) -> Arc<Self> {
        let member = |endpoint: &Endpoint| {
            let engine = options.engine(endpoint.clone());
            Arc::new(Member::external(engine, options.slots, options.misses_allowed))
        };
        let members = external.iter().map(member).collect();
        Arc::new(Self {
            members: RwLock::new(members),
            options,
            queue: Mutex::default(),
            outlook: watch::Sender::new(outlook),
            demand: Notify::new(),
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

    /// Whether a start may succeed now.
    pub fn any_healthy(&self) -> bool {
        self.all().iter().any(|member| member.knowledge().health == Health::Healthy)
    }

    /// Streams that wait for a slot which no engine that runs is about to give up.
    pub fn waiting(&self) -> usize {
        self.queue.lock().waiters.values().filter(|waiter| waiter.is_demand).count()
    }

    /// Returns when [`Self::waiting`] has changed since the last call.
    pub async fn demand_changed(&self) {
        self.demand.notified().await;
    }

    /// Engines to ask something that needs no slot, the best first: those that answer, then by load.
    pub fn to_ask(&self) -> Vec<Arc<Member>> {
        let mut all: Vec<_> = self.all().iter().filter(|member| member.may_serve()).cloned().collect();
        all.sort_by_key(|member| (member.is_doubtful(), member.is_ejected(), member.used()));
        all
    }

    /// A stream started on this engine: what failed elsewhere before was those engines' fault.
    pub fn started(&self, on: &Member, stream: &str) {
        on.started();
        self.all()
            .iter()
            .filter(|other| other.key != on.key)
            .for_each(|other| other.started_elsewhere(stream));
    }

    /// A slot for `stream` on the least loaded engine not in `exclude`. Of one priority those who asked before are served
    /// before. Calls `relieve` when all are busy: streams that nobody watches give way.
    ///
    /// An engine where a stop of the same stream is pending is taken only if there is no other: the start would have
    /// to wait for the stop's answer.
    pub async fn slot(
        self: &Arc<Self>,
        stream: Option<Infohash>,
        exclude: &[EngineKey],
        priority: Priority,
        relieve: impl Fn() -> bool,
    ) -> Result<Slot, NoSlot> {
        self.refuse_at_once(exclude)?;
        let (grant, granted) = oneshot::channel();
        let exclude_keys = exclude.to_vec();
        let waiter = Waiter { priority, stream, exclude: exclude_keys, grant, is_demand: false };
        let ticket = self.enqueue(waiter);
        self.serve();
        let result = self.wait(granted, &ticket, exclude, relieve).await;
        drop(ticket);
        result
    }

    /// A slot that nobody else needs: on an engine not in `exclude`, while nobody waits and another slot stays free.
    pub fn spare_slot(self: &Arc<Self>, stream: Option<Infohash>, exclude: &[EngineKey]) -> Option<Slot> {
        let members = self.all();
        let free: usize = members.iter().map(|member| member.free()).sum();
        if free < 2 || !self.queue.lock().waiters.is_empty() {
            return None;
        }
        let member = choose(&members, stream, exclude)?;
        Some(Slot { member, engines: Arc::clone(self) })
    }

    /// A slot on this engine, if it has one now: for what somebody else runs there.
    pub fn slot_on(self: &Arc<Self>, member: &Arc<Member>) -> Option<Slot> {
        member.take_slot().then(|| Slot { member: Arc::clone(member), engines: Arc::clone(self) })
    }

    async fn wait(
        &self,
        mut granted: oneshot::Receiver<Slot>,
        ticket: &Ticket<'_>,
        exclude: &[EngineKey],
        relieve: impl Fn() -> bool,
    ) -> Result<Slot, NoSlot> {
        let began = Instant::now();
        let (selection, startup) = (began + self.options.selection, began + self.options.startup);
        if let Ok(slot) = granted.try_recv() {
            return Ok(slot);
        }
        if relieve() {
            tokio::select! {
                biased;
                Ok(slot) = &mut granted => return Ok(slot),
                () = sleep_until(selection.min(began + GIVING_WAY)) => {}
            }
        }
        self.register_demand(ticket);
        let mut outlook = self.outlook.subscribe();
        tokio::select! {
            biased;
            Ok(slot) = &mut granted => return Ok(slot),
            () = sleep_until(selection) => {}
        }
        loop {
            relieve();
            if let Some(refusal) = self.hopeless(&outlook.borrow_and_update(), exclude) {
                return granted.try_recv().or(Err(refusal));
            }
            tokio::select! {
                biased;
                Ok(slot) = &mut granted => return Ok(slot),
                () = sleep_until(startup.max(selection)) => return Err(NoSlot::NotInTime),
                Ok(()) = outlook.changed() => {}
            }
        }
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

    fn enqueue(&self, waiter: Waiter) -> Ticket<'_> {
        let mut queue = self.queue.lock();
        queue.last += 1;
        let number = queue.last;
        queue.waiters.insert(number, waiter);
        Ticket { engines: self, number }
    }

    /// From now on another engine should be created for it.
    fn register_demand(&self, ticket: &Ticket<'_>) {
        if let Some(waiter) = self.queue.lock().waiters.get_mut(&ticket.number) {
            waiter.is_demand = true;
        }
        self.demand.notify_one();
    }

    /// Gives out the slots that are free, in the order of asking.
    pub(crate) fn serve(self: &Arc<Self>) {
        let members = self.all();
        let mut grants = Vec::new();
        {
            let mut queue = self.queue.lock();
            let mut served = HashSet::new();
            let mut in_turn: Vec<_> = queue.waiters.iter().collect();
            in_turn.sort_by_key(|(number, waiter)| (Reverse(waiter.priority.weight()), **number));
            for (number, waiter) in in_turn {
                if let Some(member) = choose(&members, waiter.stream, &waiter.exclude) {
                    grants.push((*number, member));
                    served.insert(*number);
                }
            }
            let waiters = std::mem::take(&mut queue.waiters);
            let (given, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) =
                waiters.into_iter().partition(|(number, _)| served.contains(number));
            queue.waiters = waiting;
            drop(queue);
            self.hand_over(grants, given);
        }
    }

    /// Outside of the lock: a slot that nobody takes any more comes back here.
    fn hand_over(self: &Arc<Self>, grants: Vec<(u64, Arc<Member>)>, mut given: BTreeMap<u64, Waiter>) {
        for (number, member) in grants {
            let slot = Slot { member, engines: Arc::clone(self) };
            let Some(waiter) = given.remove(&number) else { continue };
            if waiter.grant.send(slot).is_ok() {
                self.demand.notify_one();
            }
        }
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
        let engine = self.options.engine(endpoint);
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

/// Takes a slot for the waiter on the best engine that has one. Engines that streams have shown to be bad are used
/// only when there is no other at all, for one bad engine is better than none.
fn choose(members: &[Arc<Member>], stream: Option<Infohash>, exclude: &[EngineKey]) -> Option<Arc<Member>> {
    let eligible = |member: &&Arc<Member>| member.may_serve() && !exclude.contains(&member.key);
    let mut eligible: Vec<_> = members
        .iter()
        .filter(eligible)
        .map(|member| {
            let closing = stream.is_some_and(|stream| member.engine.is_closing(stream));
            let is_doubtful = member.is_doubtful();
            ((is_doubtful, closing, member.used()), member.is_ejected(), member)
        })
        .collect();
    if eligible.iter().any(|((is_doubtful, ..), ejected, _)| !is_doubtful && !ejected) {
        eligible.retain(|(_, ejected, _)| !ejected);
    }
    eligible.sort_by_key(|(rank, ..)| *rank);
    eligible.into_iter().map(|(.., member)| member).find(|member| member.take_slot()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(slots: usize) -> DispatchOptions {
        DispatchOptions {
            slots,
            misses_allowed: 3,
            selection: Duration::from_secs(5),
            startup: Duration::from_secs(25),
            timings: Timings::default(),
            journal: None,
        }
    }

    fn engines(count: u16, slots: usize, outlook: Outlook) -> Arc<Engines> {
        let endpoints: Vec<Endpoint> =
            (0..count).map(|n| format!("127.0.0.1:{}", 20_000 + n).parse().unwrap()).collect();
        Engines::new(&endpoints, options(slots), outlook)
    }

    async fn slot(engines: &Arc<Engines>, exclude: &[EngineKey]) -> Result<Slot, NoSlot> {
        engines.slot(None, exclude, Priority::Start, || false).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_loaded_engine_is_taken_and_the_cap_is_hard() {
        let engines = engines(2, 1, Outlook::Static);
        let first = slot(&engines, &[]).await.unwrap();
        let second = slot(&engines, &[]).await.unwrap();
        assert_ne!(first.member().key, second.member().key);
        assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
        drop(first);
        assert!(slot(&engines, &[]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_engine_is_not_tried_again_for_the_same_start() {
        let engines = engines(2, 3, Outlook::Static);
        let failed = slot(&engines, &[]).await.unwrap().member().key.clone();
        let other = slot(&engines, std::slice::from_ref(&failed)).await.unwrap().member().key.clone();
        assert_ne!(failed, other);
        assert_eq!(slot(&engines, &[failed, other]).await.unwrap_err(), NoSlot::NoneLeft);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gets_the_slot_that_is_returned() {
        let engines = engines(1, 1, Outlook::Growing);
        let held = slot(&engines, &[]).await.unwrap();
        let (first, second) = (slot(&engines, &[]), slot(&engines, &[]));
        tokio::pin!(first, second);
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert_eq!(engines.waiting(), 2);
        drop(held);
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(first.await.is_ok(), "and its slot is returned at once");
        assert!(second.await.is_ok());
        assert_eq!(engines.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_watches_gives_way_before_another_engine_is_asked_for() {
        let engines = engines(1, 1, Outlook::Growing);
        let lingering = slot(&engines, &[]).await.unwrap();
        let waiting = engines.slot(None, &[], Priority::Start, || true);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(engines.waiting(), 0, "no demand yet");
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(lingering);
        assert!(waiting.await.is_ok());

        let stuck = slot(&engines, &[]).await.unwrap();
        let waiting = engines.slot(None, &[], Priority::Start, || true);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        tokio::time::sleep(GIVING_WAY).await;
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(engines.waiting(), 1, "it did not give way in time");
        drop(stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_queue_and_loses_no_slot() {
        let engines = engines(1, 1, Outlook::Growing);
        let held = slot(&engines, &[]).await.unwrap();
        {
            let gone = slot(&engines, &[]);
            tokio::pin!(gone);
            assert!(futures_util::poll!(gone.as_mut()).is_pending());
            drop(held);
            // It has been granted the slot and never looks.
        }
        assert_eq!((engines.waiting(), engines.all()[0].used()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_as_long_as_the_outlook_says_and_the_answer_says_why() {
        let began = Instant::now();
        let engines = engines(0, 1, Outlook::Growing);
        assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::NotInTime);
        assert_eq!(began.elapsed().as_secs(), 25);
        engines.set_outlook(Outlook::Stuck { lack: Lack::Ports, why: "no port is free".into() });
        let error = slot(&engines, &[]).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 30);
        assert!(error.to_string().contains("no port is free"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cordoned_or_frozen_engine_takes_nothing_new() {
        let engines = engines(2, 1, Outlook::Static);
        engines.all()[0].cordon(true);
        engines.all()[1].observed("one", true);
        assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
        engines.all()[0].cordon(false);
        assert!(slot(&engines, &[]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejected_engine_is_used_only_when_there_is_no_other() {
        let engines = engines(2, 3, Outlook::Static);
        let all = engines.all();
        (0..3).for_each(|_| all[0].failed("a", true));
        let held: Vec<_> = [slot(&engines, &[]).await, slot(&engines, &[]).await, slot(&engines, &[]).await]
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert!(held.iter().all(|slot| slot.member().key == all[1].key));
        assert!(slot(&engines, std::slice::from_ref(&all[1].key)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_with_a_stream_is_not_retired() {
        let engines = engines(1, 2, Outlook::Static);
        let held = slot(&engines, &[]).await.unwrap();
        assert!(!engines.all()[0].retire());
        drop(held);
        assert!(engines.all()[0].retire());
        assert_eq!(slot(&engines, &[]).await.unwrap_err(), NoSlot::AllBusy);
    }

    #[tokio::test]
    async fn without_engines_the_answer_names_the_setting() {
        let error = slot(&engines(0, 1, Outlook::Static), &[]).await.unwrap_err();
        assert!(error.to_string().contains("ENGINES"));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_have_stopped_go_before_those_that_begin_and_many_viewers_before_few() {
        let engines = engines(1, 1, Outlook::Growing);
        let held = slot(&engines, &[]).await.unwrap();
        let order = Mutex::new(Vec::new());
        let wait = async |priority| {
            let slot = engines.slot(None, &[], priority, || false).await.unwrap();
            order.lock().push(priority);
            drop(slot);
        };
        let [few, many] = [3, 50].map(Priority::Recovery);
        let waiting = async { tokio::join!(wait(Priority::Start), wait(few), wait(many)) };
        tokio::join!(waiting, async { drop(held) });
        assert_eq!(order.into_inner(), [many, few, Priority::Start]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_slot_is_never_the_last_free_one() {
        let engines = engines(2, 2, Outlook::Static);
        let first = slot(&engines, &[]).await.unwrap();
        let second = engines.spare_slot(None, std::slice::from_ref(&first.member().key)).unwrap();
        assert_ne!(first.member().key, second.member().key);
        let _third = slot(&engines, &[]).await.unwrap();
        assert!(engines.spare_slot(None, &[]).is_none());
    }
}
