//! Who gets which slot next: the queue, who holds slots, and what is promised to whom.
//!
//! A pure structure: time and the engines' state are arguments, what is to be done comes back as [`Decision`]s.
//! Everything is looked at anew at every change, so nothing depends on the order in which a wait and a leaving came.
//!
//! ```text
//!  ask ──► waiters ──(free slot)────────────────► Grant
//!             │                                     ▲
//!             └──(claim)──► tenures ──► MakeRoom ───┘ when the slot comes back
//! ```
//!
//! * Order: streams that have stopped, many viewers before few; then starts, in turns over the address groups that wait,
//!   in a group by arrival; then second sources of starts that are silent.
//! * Without a free slot a waiter *claims* one that is coming: one whose stop is pending, one whose stream nobody watches
//!   (of its own group, else the one longest without viewers), and at last one on which another group, which holds more
//!   such slots than its share, has long been starting something without getting it. Whoever were to be turned away claims
//!   one whose stream's viewers are all paused, the longest first.
//! * A stream's slot is kept for the group of its last viewer for [`RESERVED`]: a zap is no leave. While others wait too only
//!   who zaps may have it meanwhile, not whoever of the group has waited for long: otherwise a group that has all slots
//!   would keep them for ever.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::{Infohash, MOST_CALLS};
use tokio::time::Instant;

use super::{Group, Occupant, Priority, Request};
use crate::member::EngineKey;
use crate::trouble::Trust;

/// How long a slot whose stream has lost its last viewer is kept for that viewer's group.
pub(super) const RESERVED: Duration = Duration::from_secs(1);

/// Players ask for the next channel so long before they leave the last one, at the most.
const ZAP_LEAD: Duration = Duration::from_millis(600);

/// How long a start of one group may go on without media before another group that has less than its share may have its
/// slot: channels that are to be had at once are there by then, and who waits has not given up yet.
pub(super) const FAIR_TRY: Duration = Duration::from_secs(3);

/// How long a slot that is coming may take before another engine is asked for: as long as an engine may take to answer
/// a stop.
pub(super) const GIVING_WAY: Duration = Duration::from_secs(3);

/// Starts that wait at a time. Beyond it the group that waits for most loses its newest.
pub(super) const MOST_WAITING: usize = 256;

/// Groups whose last turn is remembered though none of them waits.
const TURNS_KEPT: u64 = 1024;

/// One engine at the moment of a decision.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) key: EngineKey,
    /// Slots that can be taken now.
    pub(super) free: usize,
    /// Slots in use.
    pub(super) used: usize,
    /// Start calls under way that somebody waits for.
    pub(super) calls: usize,
    /// It has not answered when it was last asked.
    pub(super) is_doubtful: bool,
    /// Its tunnel is blamed for what fails behind it: others come first for a while.
    pub(super) is_avoided: bool,
    /// Peers reach it, through the port that its tunnel's provider forwards.
    pub(super) is_forwarded: bool,
    /// How much streams have shown it to be worth.
    pub(super) trust: Trust,
    /// When that changes by itself.
    pub(super) ejected_until: Option<Instant>,
}

/// What the engines are asked while it is decided.
pub(super) trait Floor {
    /// Whether a stop of the stream is pending there: a start would have to wait for its answer.
    fn is_closing(&self, engine: &EngineKey, stream: Infohash) -> bool;

    /// Takes a slot. False when it has none any more.
    fn take(&self, engine: &EngineKey) -> bool;
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Decision {
    /// The waiter has a slot on this engine; it is entered as this tenure.
    Grant { waiter: u64, engine: EngineKey, tenure: u64 },
    /// Whoever holds the slot is to make room.
    MakeRoom { tenure: u64, occupant: Arc<dyn Occupant> },
}

#[derive(Debug)]
struct Waiter {
    ask: Request,
    /// Whose turn it may be.
    groups: Vec<Group>,
    claim: Option<Claim>,
    /// In whose turn it is served, once it was its turn: it stays that when what it claimed does not come.
    turn: Option<Group>,
    is_demand: bool,
}

/// A slot that is promised, because it is coming.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// The tenure that ends.
    tenure: u64,
    since: Instant,
}

/// One slot in use.
#[derive(Debug)]
struct Tenure {
    engine: EngineKey,
    occupant: Arc<dyn Occupant>,
    /// In whose turn it was given.
    group: Option<Group>,
    since: Instant,
    /// It is for a stream that begins, not one that has stopped under its viewers.
    is_start: bool,
    /// Media has come.
    has_delivered: bool,
    /// It is being stopped: the slot comes back whatever happens.
    is_leaving: bool,
    room: Room,
    claimed_by: Option<u64>,
}

/// Whether whoever holds a slot was asked to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Unasked,
    Asked,
    /// It was, and did not: not again before this moment.
    SparedUntil(Instant),
}

/// A slot that is back and not for everybody.
#[derive(Debug)]
struct Reservation {
    engine: EngineKey,
    whose: Whose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Waiter(u64),
    Group(Group, Instant),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desk {
    waiters: BTreeMap<u64, Waiter>,
    tenures: BTreeMap<u64, Tenure>,
    reservations: Vec<Reservation>,
    /// When each group last had its turn, in numbers of turns.
    turns: HashMap<Group, u64>,
    turn: u64,
    last: u64,
    /// When engines that are ejected may be used again.
    returns: Vec<Instant>,
}

/// Why a waiter is turned away at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full(pub(super) u64);

impl Desk {
    /// Enters a waiter. When there are too many, somebody is to be turned away: perhaps the newcomer.
    pub(super) fn ask(&mut self, ask: Request) -> (u64, Option<Full>) {
        let number = self.next_number();
        let groups = ask.occupant.groups();
        let is_start = ask.priority == Priority::Start;
        self.waiters.insert(number, Waiter { ask, groups, claim: None, turn: None, is_demand: false });
        let full = (is_start && self.starts().count() > MOST_WAITING).then(|| self.too_many()).flatten();
        if let Some(Full(victim)) = full {
            self.withdraw(victim);
        }
        (number, full)
    }

    /// The newest waiter of the group that waits for most.
    fn too_many(&self) -> Option<Full> {
        let mut groups: HashMap<Option<Group>, Vec<(Instant, u64)>> = HashMap::new();
        for (number, waiter) in self.starts() {
            groups.entry(waiter.groups.first().copied()).or_default().push((waiter.ask.asked, *number));
        }
        let most = groups.into_values().max_by_key(Vec::len)?;
        most.into_iter().max().map(|(_, number)| Full(number))
    }

    fn starts(&self) -> impl Iterator<Item = (&u64, &Waiter)> {
        self.waiters.iter().filter(|(_, waiter)| waiter.ask.priority == Priority::Start)
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The waiter does not wait any more. False when it did not.
    pub(super) fn withdraw(&mut self, number: u64) -> bool {
        let Some(waiter) = self.waiters.remove(&number) else { return false };
        if let Some(claim) = waiter.claim {
            self.unclaim(claim.tenure);
        }
        self.reservations.retain(|reservation| reservation.whose != Whose::Waiter(number));
        true
    }

    fn unclaim(&mut self, tenure: u64) {
        if let Some(tenure) = self.tenures.get_mut(&tenure) {
            tenure.claimed_by = None;
        }
    }

    /// Waiters for whom another engine should be created.
    pub(super) fn demand(&self) -> usize {
        self.waiters.values().filter(|waiter| waiter.is_demand).count()
    }

    /// Whether somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// A slot in use that nobody had to wait for.
    pub(super) fn enter(&mut self, engine: EngineKey, occupant: Arc<dyn Occupant>, now: Instant) -> u64 {
        let group = occupant.groups().first().copied();
        self.settle(engine, occupant, Priority::Start, group, now)
    }

    fn settle(
        &mut self,
        engine: EngineKey,
        occupant: Arc<dyn Occupant>,
        priority: Priority,
        group: Option<Group>,
        since: Instant,
    ) -> u64 {
        let number = self.next_number();
        let tenure = Tenure {
            engine,
            occupant,
            group,
            since,
            is_start: !matches!(priority, Priority::Recovery(_)),
            has_delivered: false,
            is_leaving: false,
            room: Room::Unasked,
            claimed_by: None,
        };
        self.tenures.insert(number, tenure);
        number
    }

    /// Its stream plays.
    pub(super) fn delivered(&mut self, tenure: u64) {
        if let Some(tenure) = self.tenures.get_mut(&tenure) {
            tenure.has_delivered = true;
        }
    }

    /// Its stop is pending.
    pub(super) fn leaving(&mut self, tenure: u64) {
        if let Some(tenure) = self.tenures.get_mut(&tenure) {
            tenure.is_leaving = true;
        }
    }

    /// It cannot make room now.
    pub(super) fn stays(&mut self, number: u64) {
        let Some(tenure) = self.tenures.get_mut(&number) else { return };
        tenure.room = Room::Unasked;
        if let Some(waiter) = tenure.claimed_by.take().and_then(|waiter| self.waiters.get_mut(&waiter)) {
            waiter.claim = None;
        }
    }

    /// The slot is back.
    pub(super) fn release(&mut self, tenure: u64, now: Instant) {
        let Some(tenure) = self.tenures.remove(&tenure) else { return };
        let claimed = tenure.claimed_by.filter(|waiter| self.waiters.contains_key(waiter));
        let whose = claimed.map(Whose::Waiter).or_else(|| {
            let (since, last) = tenure.occupant.idle()?;
            let until = since + tenure.kept_for();
            (until > now).then_some(Whose::Group(last, until))
        });
        if let Some(waiter) = claimed.and_then(|number| self.waiters.get_mut(&number)) {
            waiter.claim = None;
        }
        self.reservations.extend(whose.map(|whose| Reservation { engine: tenure.engine, whose }));
    }

    /// Gives out what is free, and has room made for who finds nothing.
    pub(super) fn decide(&mut self, engines: &mut [View], floor: &dyn Floor, now: Instant) -> Vec<Decision> {
        self.look(now);
        self.returns = engines.iter().filter_map(|view| view.ejected_until).collect();
        let mut decisions = Vec::new();
        while let Some(grant) = self.grant(engines, floor, now) {
            decisions.push(grant);
        }
        self.claim(engines, now, &mut decisions);
        decisions
    }

    /// Takes note of what has changed with those who wait and those who hold slots.
    fn look(&mut self, now: Instant) {
        for waiter in self.waiters.values_mut() {
            waiter.groups = waiter.ask.occupant.groups();
        }
        let is_kept =
            |tenure: &Tenure| tenure.room == Room::Asked && !tenure.is_leaving && tenure.is_used_again();
        let kept: Vec<u64> =
            self.tenures.iter().filter(|(_, tenure)| is_kept(tenure)).map(|(number, _)| *number).collect();
        for number in kept {
            self.stays(number);
        }
        self.give_up_claims(now);
        let waiters = &self.waiters;
        self.reservations.retain(|reservation| match reservation.whose {
            Whose::Waiter(number) => waiters.contains_key(&number),
            Whose::Group(_, until) => until > now,
        });
        let oldest = self.turn.saturating_sub(TURNS_KEPT);
        self.turns.retain(|_, turn| *turn >= oldest);
    }

    /// Who was asked to make room and has not begun to by now does not: its waiter may claim another slot.
    fn give_up_claims(&mut self, now: Instant) {
        let claims = self.waiters.values().filter_map(|waiter| waiter.claim);
        let late: Vec<u64> =
            claims.filter(|claim| claim.since + GIVING_WAY <= now).map(|claim| claim.tenure).collect();
        for number in late {
            if self.tenures.get(&number).is_some_and(|tenure| !tenure.is_leaving) {
                self.stays(number);
                if let Some(tenure) = self.tenures.get_mut(&number) {
                    tenure.room = Room::SparedUntil(now + GIVING_WAY);
                }
            }
        }
    }

    fn grant(&mut self, engines: &mut [View], floor: &dyn Floor, now: Instant) -> Option<Decision> {
        for number in self.in_order() {
            if engines.iter().all(|view| view.free == 0) {
                return None;
            }
            let waiter = &self.waiters[&number];
            let Some(at) = self.best(number, waiter, engines, floor) else { continue };
            let engine = engines[at].key.clone();
            if !floor.take(&engine) {
                engines[at].free = 0;
                continue;
            }
            let view = &mut engines[at];
            (view.free, view.used, view.calls) = (view.free - 1, view.used + 1, view.calls + 1);
            self.use_reservation(number, &engine);
            let waiter = self.waiters.remove(&number)?;
            if let Some(claim) = waiter.claim {
                self.unclaim(claim.tenure);
            }
            let group = waiter.turn.or_else(|| self.take_turn(&waiter.groups));
            let priority = waiter.ask.priority;
            let tenure = self.settle(engine.clone(), waiter.ask.occupant, priority, group, now);
            self.reservations.retain(|reservation| reservation.whose != Whose::Waiter(number));
            return Some(Decision::Grant { waiter: number, engine, tenure });
        }
        None
    }

    /// The waiters who may be served, the first one first. Whose turn it was already goes before the others.
    fn in_order(&self) -> Vec<u64> {
        let mut by_age: Vec<_> =
            self.waiters.iter().map(|(number, waiter)| (waiter.ask.asked, *number)).collect();
        by_age.sort_unstable();
        // How many waiters of each group come before.
        let mut before: HashMap<Group, usize> = HashMap::new();
        let mut order = Vec::with_capacity(by_age.len());
        for (asked, number) in by_age {
            let waiter = &self.waiters[&number];
            let weight = Reverse(waiter.ask.priority.weight());
            let turns = waiter.groups.iter().map(|group| {
                let round = before.get(group).copied().unwrap_or(0);
                (round, self.turns.get(group).copied().unwrap_or(0), *group)
            });
            // A stream that nobody waits for any more is in nobody's turn.
            let Some((round, turn, group)) = turns.min() else { continue };
            if waiter.turn.is_some() {
                order.push((weight, 0, 0, asked, number));
                continue;
            }
            if waiter.ask.priority == Priority::Start {
                *before.entry(group).or_default() += 1;
            }
            order.push((weight, round, turn, asked, number));
        }
        order.sort_unstable();
        order.into_iter().map(|(.., number)| number).collect()
    }

    /// Its best group has had its turn.
    fn take_turn(&mut self, groups: &[Group]) -> Option<Group> {
        let group = *groups.iter().min_by_key(|group| self.turns.get(group).copied().unwrap_or(0))?;
        self.turn += 1;
        self.turns.insert(group, self.turn);
        Some(group)
    }

    /// The engine with a free slot that suits the waiter best.
    fn best(&self, number: u64, waiter: &Waiter, engines: &[View], floor: &dyn Floor) -> Option<usize> {
        let mut usable = waiter.usable(engines);
        usable.retain(|at| {
            let view = &engines[*at];
            view.calls < MOST_CALLS
                && view.free > self.kept_from(number, waiter, &view.key)
                && self.may_begin(view)
        });
        // One that may be well again is tried where another can be asked beside it.
        let is_tried = |view: &View| view.trust == Trust::OnTrial && usable.len() > 1;
        usable.iter().copied().min_by_key(|at| {
            let view = &engines[*at];
            let closing = waiter.ask.stream.is_some_and(|stream| floor.is_closing(&view.key, stream));
            let trust = if is_tried(view) { Trust::Full } else { view.trust };
            let shape = (view.is_doubtful, view.is_avoided, !is_tried(view), trust, closing);
            // Room comes first: the one that peers reach is no better when it is full of streams.
            (shape, view.used, !view.is_forwarded)
        })
    }

    /// An engine under suspicion gets one start at a time.
    fn may_begin(&self, view: &View) -> bool {
        let is_starting = |tenure: &Tenure| tenure.engine == view.key && tenure.is_starting();
        view.trust < Trust::Suspected || !self.tenures.values().any(is_starting)
    }

    /// Free slots of the engine that are kept for others.
    fn kept_from(&self, number: u64, waiter: &Waiter, engine: &EngineKey) -> usize {
        if matches!(waiter.ask.priority, Priority::Recovery(_)) {
            return 0;
        }
        let is_kept = |reservation: &&Reservation| {
            reservation.engine == *engine
                && !reservation.is_for(number, waiter)
                && !self.is_for_a_hedge(reservation)
        };
        self.reservations.iter().filter(is_kept).count()
    }

    /// A second source takes what nobody else needs.
    fn is_for_a_hedge(&self, reservation: &Reservation) -> bool {
        let Whose::Waiter(number) = reservation.whose else { return false };
        self.waiters.get(&number).is_some_and(|waiter| waiter.ask.priority == Priority::Hedge)
    }

    /// The slot was one that was kept for this waiter, if there was one.
    fn use_reservation(&mut self, number: u64, engine: &EngineKey) {
        let waiter = &self.waiters[&number];
        let is_its =
            |reservation: &Reservation| reservation.engine == *engine && reservation.is_for(number, waiter);
        if let Some(at) = self.reservations.iter().position(is_its) {
            self.reservations.swap_remove(at);
        }
    }

    fn claim(&mut self, engines: &[View], now: Instant, decisions: &mut Vec<Decision>) {
        while let Some((number, tenure)) = self.next_claim(engines, now) {
            decisions.extend(self.promise(number, tenure, now));
        }
        for waiter in self.waiters.values_mut() {
            let is_late = waiter.claim.is_none_or(|claim| claim.since + GIVING_WAY <= now);
            waiter.is_demand = is_late && waiter.ask.priority != Priority::Hedge && !waiter.groups.is_empty();
        }
    }

    /// The first waiter for whom room can be made, and where.
    fn next_claim(&self, engines: &[View], now: Instant) -> Option<(u64, u64)> {
        self.in_order().into_iter().find_map(|number| {
            let waiter = self.waiters.get(&number).filter(|waiter| waiter.claim.is_none())?;
            Some((number, self.find_room(number, waiter, engines, now)?))
        })
    }

    /// The waiter is to have the slot of the stream whose viewers have all been paused longest: only for whom nothing else is
    /// left. A stream that is paused itself puts no other one out.
    pub(super) fn claim_paused(&mut self, number: u64, engines: &[View], now: Instant) -> Option<Decision> {
        let waiter = self.waiters.get(&number).filter(|waiter| {
            waiter.claim.is_none()
                && waiter.ask.priority != Priority::Hedge
                && waiter.ask.occupant.paused().is_none()
        })?;
        let usable = waiter.usable(engines);
        let open = self.tenures.iter().filter(|(_, tenure)| {
            !tenure.is_leaving
                && tenure.is_open(now)
                && usable.iter().any(|at| engines[*at].key == tenure.engine)
        });
        let paused = open.filter_map(|(tenure, held)| Some((held.occupant.paused()?, *tenure)));
        let (_, tenure) = paused.min()?;
        self.promise(number, tenure, now)
    }

    fn promise(&mut self, number: u64, tenure: u64, now: Instant) -> Option<Decision> {
        let decision = self.claimed(tenure, number);
        if let Some(mut waiter) = self.waiters.remove(&number) {
            waiter.turn = waiter.turn.or_else(|| self.take_turn(&waiter.groups));
            waiter.claim = Some(Claim { tenure, since: now });
            self.waiters.insert(number, waiter);
        }
        decision
    }

    /// The tenure's slot will be the waiter's.
    fn claimed(&mut self, number: u64, waiter: u64) -> Option<Decision> {
        let tenure = self.tenures.get_mut(&number)?;
        tenure.claimed_by = Some(waiter);
        if tenure.is_leaving || tenure.room == Room::Asked {
            return None;
        }
        tenure.room = Room::Asked;
        Some(Decision::MakeRoom { tenure: number, occupant: Arc::clone(&tenure.occupant) })
    }

    /// The tenure whose slot the waiter may have next. Who waits for another reason than for want of a slot (all calls of
    /// the engine are under way, or it gets one start at a time) gains nothing by the end of a stream; only by that of a
    /// start.
    fn find_room(&self, number: u64, waiter: &Waiter, engines: &[View], now: Instant) -> Option<u64> {
        let usable = waiter.usable(engines);
        let has_slot = |at: &usize| engines[*at].free > self.kept_from(number, waiter, &engines[*at].key);
        let starts_only = usable.iter().any(has_slot);
        let is_usable = |tenure: &Tenure| {
            tenure.is_open(now)
                && (!starts_only || tenure.is_starting())
                && usable.iter().any(|at| engines[*at].key == tenure.engine)
        };
        let open = || self.tenures.iter().filter(|(_, tenure)| is_usable(tenure));
        let coming = open().find(|(_, tenure)| tenure.is_leaving || tenure.room == Room::Asked);
        let idle = || {
            let others_wait = self.others_wait(waiter);
            let idle = open().filter_map(|(number, tenure)| {
                let (since, last) = tenure.idle()?;
                let until = since + tenure.kept_for();
                waiter.may_have(since, until, last, others_wait, now).then_some((number, (since, last)))
            });
            idle.min_by_key(|(_, (since, last))| (!waiter.groups.contains(last), *since))
                .map(|(number, _)| *number)
        };
        coming
            .map(|(number, _)| *number)
            .or_else(idle)
            .or_else(|| self.beyond_its_share(waiter, &is_usable, now))
    }

    /// Whether somebody of another group waits for a start.
    fn others_wait(&self, waiter: &Waiter) -> bool {
        let is_other = |other: &Waiter| {
            !other.groups.is_empty() && other.groups.iter().all(|group| !waiter.groups.contains(group))
        };
        self.starts().any(|(_, other)| is_other(other))
    }

    /// The oldest start without media of a group that holds more than a fair share of them, of the one with most first.
    fn beyond_its_share(
        &self,
        waiter: &Waiter,
        is_usable: &dyn Fn(&Tenure) -> bool,
        now: Instant,
    ) -> Option<u64> {
        if waiter.ask.priority != Priority::Start {
            return None;
        }
        let mut held: BTreeMap<Group, Vec<(u64, &Tenure)>> = BTreeMap::new();
        let is_start = |tenure: &Tenure| tenure.is_start && tenure.is_starting();
        for (number, tenure) in self.tenures.iter().filter(|(_, tenure)| is_start(tenure)) {
            if let Some(group) = tenure.group {
                held.entry(group).or_default().push((*number, tenure));
            }
        }
        let own = waiter.groups.iter().filter_map(|group| held.get(group)).map(Vec::len).max().unwrap_or(0);
        held.retain(|group, starts| !waiter.groups.contains(group) && starts.len() >= own + 2);
        let mut greedy: Vec<_> = held.into_values().collect();
        greedy.sort_by_key(|starts| Reverse(starts.len()));
        let is_due = |tenure: &Tenure| tenure.since + FAIR_TRY <= now && is_usable(tenure);
        greedy.into_iter().flatten().find(|(_, tenure)| is_due(tenure)).map(|(number, _)| number)
    }

    /// Whether a slot will come for the waiter: it is not turned away meanwhile.
    pub(super) fn has_prospects(&self, number: u64, engines: &[View]) -> bool {
        let Some(waiter) = self.waiters.get(&number) else { return false };
        let usable = waiter.usable(engines);
        let is_usable = |tenure: &Tenure| usable.iter().any(|at| engines[*at].key == tenure.engine);
        let is_idle = |tenure: &Tenure| tenure.claimed_by.is_none() && tenure.idle().is_some();
        let is_kept =
            |reservation: &Reservation| usable.iter().any(|at| engines[*at].key == reservation.engine);
        waiter.claim.is_some()
            // All its calls are under way.
            || usable.iter().any(|at| engines[*at].free > 0)
            || self.tenures.values().any(|tenure| is_usable(tenure) && is_idle(tenure))
            || self.reservations.iter().any(is_kept)
    }

    /// When time alone changes what is decided next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.waiters.is_empty() {
            return None;
        }
        let kept = self.reservations.iter().filter_map(|reservation| match reservation.whose {
            Whose::Waiter(_) => None,
            Whose::Group(_, until) => Some(until),
        });
        let idle = self.tenures.values().filter_map(|tenure| Some(tenure.idle()?.0 + tenure.kept_for()));
        let starting = self.tenures.values().filter(|tenure| tenure.is_starting());
        let tried = starting.map(|tenure| tenure.since + FAIR_TRY);
        let late = self.waiters.values().filter_map(|waiter| Some(waiter.claim?.since + GIVING_WAY));
        let spared = self.tenures.values().filter_map(|tenure| match tenure.room {
            Room::SparedUntil(until) => Some(until),
            Room::Unasked | Room::Asked => None,
        });
        let returns = self.returns.iter().copied();
        kept.chain(idle).chain(tried).chain(late).chain(spared).chain(returns).filter(|at| *at > now).min()
    }

    /// Whether a slot is on its way to the waiter.
    pub(super) fn has_claim(&self, number: u64) -> bool {
        self.waiters.get(&number).is_some_and(|waiter| waiter.claim.is_some())
    }
}

impl Waiter {
    /// The engines that could serve it if they had a free slot. Those that streams have shown to be bad are used
    /// only when there is no other at all, for one bad engine is better than none.
    fn usable(&self, engines: &[View]) -> Vec<usize> {
        let mut usable: Vec<usize> =
            (0..engines.len()).filter(|at| !self.ask.exclude.contains(&engines[*at].key)).collect();
        let is_sound = |at: &usize| !engines[*at].is_doubtful && engines[*at].trust != Trust::Ejected;
        if usable.iter().any(is_sound) {
            usable.retain(|at| engines[*at].trust != Trust::Ejected);
        }
        usable
    }

    /// Whether it may have the slot of a stream that its last viewer, one of `last`, left at `since`, and that is kept for
    /// his group `until` then.
    fn may_have(&self, since: Instant, until: Instant, last: Group, others_wait: bool, now: Instant) -> bool {
        let is_recovery = matches!(self.ask.priority, Priority::Recovery(_));
        let zaps = !others_wait || self.ask.asked + ZAP_LEAD >= since;
        is_recovery || until <= now || (self.groups.contains(&last) && zaps)
    }
}

impl Tenure {
    /// Since when nobody watches its stream, and whose the last viewer was.
    fn idle(&self) -> Option<(Instant, Group)> {
        if self.is_leaving { None } else { self.occupant.idle() }
    }

    /// How long its slot is kept for who watched it last. A start that nobody waits for any more is no stream yet.
    fn kept_for(&self) -> Duration {
        if self.has_delivered { RESERVED } else { Duration::ZERO }
    }

    /// Nobody else is to have its slot, and it is not left alone for a while.
    fn is_open(&self, now: Instant) -> bool {
        let is_spared = matches!(self.room, Room::SparedUntil(until) if until > now);
        self.claimed_by.is_none() && !is_spared
    }

    /// Somebody waits for its first media.
    fn is_starting(&self) -> bool {
        !self.has_delivered && !self.is_leaving
    }

    /// It was asked to make room because nobody watched, and somebody does now; or it has delivered meanwhile. Who is paused
    /// does not watch.
    fn is_used_again(&self) -> bool {
        // One that is over is watched by nobody, and its slot comes.
        (self.has_delivered || self.claimed_by.is_none())
            && !self.occupant.groups().is_empty()
            && self.occupant.paused().is_none()
    }
}

impl Reservation {
    fn is_for(&self, number: u64, waiter: &Waiter) -> bool {
        match self.whose {
            Whose::Waiter(whose) => whose == number,
            Whose::Group(group, until) => {
                waiter.groups.contains(&group) && waiter.ask.asked + ZAP_LEAD + RESERVED >= until
            }
        }
    }
}
