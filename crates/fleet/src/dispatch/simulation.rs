//! The desk in a world of random viewers, address groups and engines that deliver, refuse late, hang or die. Virtual time,
//! no I/O: twenty thousand histories take seconds.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::desk::{FAIR_TRY, RESERVED};
use super::*;
use crate::trouble::Trust;

const SECOND: u64 = 1000;
/// How long a start waits for a slot on engines that run, in milliseconds.
const SELECTION: u64 = 5 * SECOND;
/// All of a start's time.
const BUDGET: u64 = 30 * SECOND;
/// Real engines refuse a dead channel after so long at the worst.
const REFUSAL: u64 = 28 * SECOND;

/// What a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// It delivers after so many milliseconds.
    Good(u64),
    /// Engines refuse it after so many milliseconds.
    Dead(u64),
    /// Nobody ever answers.
    Hangs,
}

/// A session, as the desk sees it.
#[derive(Debug)]
struct Session {
    group: Group,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watched,
    Unwatched(Instant),
    Over,
}

impl Occupant for Session {
    fn groups(&self) -> Vec<Group> {
        if *self.state.lock() == State::Watched { vec![self.group] } else { Vec::new() }
    }

    fn idle(&self) -> Option<(Instant, Group)> {
        if let State::Unwatched(since) = *self.state.lock() { Some((since, self.group)) } else { None }
    }

    fn paused(&self) -> Option<Instant> {
        None
    }

    fn make_room(&self) -> bool {
        true
    }
}

/// A viewer who asks for one channel.
struct Viewer {
    session: Arc<Session>,
    channel: Channel,
    asked: u64,
    place: Place,
    /// When it asked.
    place_in_group: usize,
    /// Others that were given a slot before it had its first one.
    passed: usize,
    first_slot: Option<u64>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queue { waiter: u64, since: u64 },
    Starting { tenure: u64, engine: usize, since: u64 },
    Playing { tenure: u64, engine: usize },
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Played { at: u64, granted: u64 },
    Refused,
    TimedOut,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Stopped { tenure: u64, engine: usize },
    Delivers(usize, u64),
    Refuses(usize, u64),
    Abandoned(usize, u64),
    GivesUp(usize),
    Leaves(usize),
    Engine(usize, bool),
    Look,
}

struct World {
    base: Instant,
    now: u64,
    due: BTreeSet<(u64, Due)>,
    desk: Desk,
    engines: Vec<View>,
    slots: usize,
    used: Vec<usize>,
    viewers: Vec<Viewer>,
    stop: u64,
}

/// The engines' slots, while it is decided.
struct Slots<'a>(&'a Mutex<Vec<usize>>, usize);

impl Floor for Slots<'_> {
    fn is_closing(&self, _: &EngineKey, _: Infohash) -> bool {
        false
    }

    fn take(&self, engine: &EngineKey) -> bool {
        let mut used = self.0.lock();
        let at: usize = engine.as_str().parse().unwrap();
        let has_room = used[at] < self.1;
        used[at] += usize::from(has_room);
        has_room
    }
}

impl World {
    fn new(engines: usize, slots: usize, stop: u64) -> Self {
        let view = |at: usize| View {
            key: EngineKey::named(&at.to_string()),
            free: slots,
            used: 0,
            calls: 0,
            is_doubtful: false,
            is_avoided: false,
            is_forwarded: false,
            trust: Trust::Full,
            ejected_until: None,
        };
        Self {
            base: Instant::now(),
            now: 0,
            due: BTreeSet::new(),
            desk: Desk::default(),
            engines: (0..engines).map(view).collect(),
            slots,
            used: vec![0; engines],
            viewers: Vec::new(),
            stop,
        }
    }

    fn at(&self, time: u64) -> Instant {
        self.base + Duration::from_millis(time)
    }

    fn asks(&mut self, home: u8, channel: Channel, stays: u64) -> usize {
        let group = Group::from(IpAddr::from([192, 0, 2, home]));
        let session = Arc::new(Session { group, state: Mutex::new(State::Watched) });
        let (number, leaves) = (self.viewers.len(), self.now + stays);
        self.viewers.push(Viewer {
            session,
            channel,
            asked: self.now,
            place: Place::Gone,
            place_in_group: 0,
            passed: 0,
            first_slot: None,
            outcome: None,
        });
        self.due.extend([(leaves, Due::Leaves(number)), (self.now + BUDGET, Due::GivesUp(number))]);
        self.queue(number);
        self.viewers[number].place_in_group = self.place_in_group(number);
        self.decide();
        number
    }

    fn queue(&mut self, number: usize) {
        let occupant = Arc::clone(&self.viewers[number].session) as Arc<dyn Occupant>;
        let asked = self.at(self.viewers[number].asked);
        let request =
            Request { stream: None, exclude: Vec::new(), priority: Priority::Start, asked, occupant };
        let (waiter, full) = self.desk.ask(request);
        self.viewers[number].place = Place::Queue { waiter, since: self.now };
        self.due.insert((self.now + SELECTION, Due::Look));
        if let Some(Full(victim)) = full {
            let victim = self
                .viewers
                .iter()
                .position(|viewer| matches!(viewer.place, Place::Queue { waiter, .. } if waiter == victim));
            self.ends(victim.expect("whoever is turned away waits"), Outcome::Refused);
        }
    }

    fn place_in_group(&self, number: usize) -> usize {
        let own = self.viewers[number].session.group;
        let waits = |viewer: &&Viewer| matches!(viewer.place, Place::Queue { .. });
        self.viewers.iter().filter(waits).filter(|viewer| viewer.session.group == own).count()
    }

    fn views(&self) -> Vec<View> {
        let mut views: Vec<View> = self.engines.iter().filter(|view| !view.is_doubtful).cloned().collect();
        for view in &mut views {
            let at: usize = view.key.as_str().parse().unwrap();
            (view.used, view.free) = (self.used[at], self.slots - self.used[at]);
        }
        views
    }

    fn decide(&mut self) {
        let used = Mutex::new(self.used.clone());
        let mut views = self.views();
        let now = self.at(self.now);
        let decisions = self.desk.decide(&mut views, &Slots(&used, self.slots), now);
        self.used = used.into_inner();
        for decision in decisions {
            match decision {
                Decision::Grant { waiter, engine, tenure } => self.granted(waiter, &engine, tenure),
                Decision::MakeRoom { tenure, .. } => self.make_room(tenure),
            }
        }
        if let Some(due) = self.desk.due(now) {
            let due = u64::try_from((due - self.base).as_millis()).unwrap();
            self.due.insert((due.max(self.now + 1), Due::Look));
        }
    }

    fn granted(&mut self, waiter: u64, engine: &EngineKey, tenure: u64) {
        let is_waiter =
            |viewer: &Viewer| matches!(viewer.place, Place::Queue { waiter: known, .. } if known == waiter);
        let number = self.viewers.iter().position(is_waiter).expect("who is granted a slot waits");
        let engine: usize = engine.as_str().parse().unwrap();
        for viewer in &mut self.viewers {
            let waits = matches!(viewer.place, Place::Queue { .. }) && viewer.first_slot.is_none();
            viewer.passed += usize::from(waits);
        }
        let viewer = &mut self.viewers[number];
        viewer.passed -= usize::from(viewer.first_slot.is_none());
        viewer.first_slot.get_or_insert(self.now);
        viewer.place = Place::Starting { tenure, engine, since: self.now };
        match viewer.channel {
            Channel::Good(after) => self.due.insert((self.now + after, Due::Delivers(number, tenure))),
            Channel::Dead(after) => self.due.insert((self.now + after, Due::Refuses(number, tenure))),
            Channel::Hangs => false,
        };
    }

    fn make_room(&mut self, wanted: u64) {
        let holds = |viewer: &Viewer| match viewer.place {
            Place::Starting { tenure, .. } | Place::Playing { tenure, .. } => tenure == wanted,
            Place::Queue { .. } | Place::Gone => false,
        };
        let Some(number) = self.viewers.iter().position(holds) else { return };
        let is_watched = *self.viewers[number].session.state.lock() == State::Watched;
        match self.viewers[number].place {
            Place::Starting { tenure, engine, .. } => {
                self.release(tenure, engine);
                if is_watched {
                    self.queue(number);
                    self.decide();
                } else {
                    self.viewers[number].place = Place::Gone;
                    *self.viewers[number].session.state.lock() = State::Over;
                }
            }
            Place::Playing { .. } if !is_watched => self.stops(number),
            _ => {}
        }
    }

    /// A playback ends: its slot comes back when the engine has answered.
    fn stops(&mut self, number: usize) {
        let Place::Playing { tenure, engine } = self.viewers[number].place else { return };
        self.viewers[number].place = Place::Gone;
        *self.viewers[number].session.state.lock() = State::Over;
        self.desk.leaving(tenure);
        self.due.insert((self.now + self.stop, Due::Stopped { tenure, engine }));
    }

    /// A slot is back: that of a start at once.
    fn release(&mut self, tenure: u64, engine: usize) {
        self.used[engine] -= 1;
        let now = self.at(self.now);
        self.desk.release(tenure, now);
        self.due.insert((self.now, Due::Look));
    }

    fn ends(&mut self, number: usize, outcome: Outcome) {
        let viewer = &mut self.viewers[number];
        viewer.outcome.get_or_insert(outcome);
        match viewer.place {
            Place::Queue { waiter, .. } => {
                *viewer.session.state.lock() = State::Over;
                viewer.place = Place::Gone;
                self.desk.withdraw(waiter);
            }
            Place::Starting { tenure, engine, .. } => {
                *viewer.session.state.lock() = State::Over;
                viewer.place = Place::Gone;
                self.release(tenure, engine);
            }
            Place::Playing { .. } | Place::Gone => {}
        }
    }

    fn leaves(&mut self, number: usize) {
        let now = self.at(self.now);
        let viewer = &mut self.viewers[number];
        match viewer.place {
            Place::Queue { .. } => self.ends(number, Outcome::Left),
            Place::Starting { tenure, .. } => {
                *viewer.session.state.lock() = State::Unwatched(now);
                viewer.outcome.get_or_insert(Outcome::Left);
                self.due.insert((self.now + SECOND, Due::Abandoned(number, tenure)));
            }
            Place::Playing { .. } => *viewer.session.state.lock() = State::Unwatched(now),
            Place::Gone => {}
        }
        self.decide();
    }

    fn step(&mut self, due: Due) {
        match due {
            Due::Stopped { tenure, engine } => self.release(tenure, engine),
            Due::Delivers(number, tenure) => self.delivers(number, tenure),
            Due::Refuses(number, tenure) if self.is_starting(number, tenure) => {
                self.ends(number, Outcome::TimedOut);
            }
            Due::Abandoned(number, tenure) if self.is_starting(number, tenure) => {
                self.ends(number, Outcome::Left);
            }
            Due::GivesUp(number) => self.ends(number, Outcome::TimedOut),
            Due::Leaves(number) => self.leaves(number),
            Due::Engine(at, is_up) => self.engines[at].is_doubtful = !is_up,
            Due::Look | Due::Refuses(..) | Due::Abandoned(..) => {}
        }
        self.decide();
        self.refuse();
        self.check();
    }

    fn is_starting(&self, number: usize, wanted: u64) -> bool {
        matches!(self.viewers[number].place, Place::Starting { tenure, .. } if tenure == wanted)
    }

    fn delivers(&mut self, number: usize, wanted: u64) {
        let Place::Starting { tenure, engine, since } = self.viewers[number].place else { return };
        if tenure == wanted {
            self.viewers[number].place = Place::Playing { tenure, engine };
            self.desk.delivered(tenure);
            let played = Outcome::Played { at: self.now, granted: since };
            self.viewers[number].outcome.get_or_insert(played);
        }
    }

    /// Who has waited for as long as engines that run are waited for, and has nothing to hope for.
    fn refuse(&mut self) {
        let views = self.views();
        for number in 0..self.viewers.len() {
            let Place::Queue { waiter, since } = self.viewers[number].place else { continue };
            if since + SELECTION <= self.now && !self.desk.has_prospects(waiter, &views) {
                self.nothing_is_free();
                self.ends(number, Outcome::Refused);
            }
        }
    }

    /// Seen from the world, not from the desk.
    fn nothing_is_free(&self) {
        for viewer in &self.viewers {
            let (Place::Starting { engine, .. } | Place::Playing { engine, .. }) = viewer.place else {
                continue;
            };
            let is_unwatched = matches!(*viewer.session.state.lock(), State::Unwatched(_));
            assert!(!is_unwatched || self.engines[engine].is_doubtful, "refused while a stream is unwatched");
        }
        let is_full = |at: usize| self.used[at] == self.slots || self.engines[at].is_doubtful;
        assert!((0..self.used.len()).all(is_full), "refused while a slot is free");
    }

    fn check(&self) {
        let mut used = vec![0; self.used.len()];
        for viewer in &self.viewers {
            if let Place::Starting { engine, .. } | Place::Playing { engine, .. } = viewer.place {
                used[engine] += 1;
            }
        }
        for (at, used) in used.iter().enumerate() {
            let stopping =
                |(_, due): &&(u64, Due)| matches!(due, Due::Stopped { engine, .. } if *engine == at);
            assert_eq!(used + self.due.iter().filter(stopping).count(), self.used[at], "a slot is lost");
            assert!(self.used[at] <= self.slots, "the cap is hard");
        }
    }

    fn run_until(&mut self, end: u64) {
        while let Some((at, due)) = self.due.first().copied().filter(|(at, _)| *at <= end) {
            self.due.remove(&(at, due));
            self.now = at;
            self.step(due);
        }
        self.now = end;
    }

    /// Everybody leaves, and every stream's time is over.
    fn clean_up(&mut self) {
        for number in 0..self.viewers.len() {
            self.leaves(number);
        }
        self.run_until(self.now + 2 * BUDGET);
        for number in 0..self.viewers.len() {
            self.stops(number);
        }
        self.run_until(self.now + 2 * BUDGET);
        assert_eq!(self.used, vec![0; self.used.len()], "slots come back");
        assert!(!self.desk.is_awaited());
    }

    fn waited(&self, number: usize) -> Option<u64> {
        match self.viewers[number].outcome {
            Some(Outcome::Played { granted, .. }) => Some(granted - self.viewers[number].asked),
            _ => None,
        }
    }
}

fn random_channel(random: &mut StdRng) -> Channel {
    match random.random_range(0..4) {
        0 => Channel::Dead(REFUSAL),
        1 => Channel::Hangs,
        _ => Channel::Good(random.random_range(1..3 * SECOND)),
    }
}

/// The time of a random history in which anything goes.
fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let stop = random.random_range(1..3 * SECOND);
    let mut world = World::new(random.random_range(1..=3), random.random_range(1..=3), stop);
    let homes = random.random_range(1..=4);
    for _ in 0..random.random_range(5..40) {
        world.run_until(world.now + random.random_range(0..2 * SECOND));
        let channel = random_channel(&mut random);
        let stays = if random.random_bool(0.5) { 2 * SECOND } else { 60 * SECOND };
        world.asks(random.random_range(1..=homes), channel, random.random_range(1..=stays));
        if random.random_bool(0.05) {
            let engine = random.random_range(0..world.used.len());
            let back = world.now + random.random_range(SECOND..20 * SECOND);
            world.engines[engine].is_doubtful = true;
            world.due.insert((back, Due::Engine(engine, true)));
        }
    }
    world.run_until(world.now + BUDGET + SELECTION);
    world.clean_up();
}

/// Every start takes as long and ends then, and none long enough to have to make room: slots are given out by turns alone.
fn fair_history(seed: u64) {
    const TAKES: u64 = 2 * SECOND;
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new(random.random_range(1..=2), random.random_range(1..=3), 1);
    let homes = random.random_range(1..=4_u8);
    for _ in 0..random.random_range(5..40) {
        world.asks(random.random_range(1..=homes), Channel::Dead(TAKES), BUDGET);
        if random.random_bool(0.3) {
            world.run_until(world.now + random.random_range(0..SECOND));
        }
    }
    world.run_until(world.now + BUDGET);
    let slots = world.slots * world.used.len();
    for viewer in world.viewers.iter().filter(|viewer| viewer.outcome != Some(Outcome::Refused)) {
        // Groups that come later have turns as well: at most as many as there are homes.
        let turns = viewer.place_in_group.max(1) * usize::from(homes);
        assert!(viewer.passed <= turns, "{} passed of {turns}", viewer.passed);
        let waited = viewer.first_slot.expect("who was not refused had a slot") - viewer.asked;
        let most = TAKES * u64::try_from(turns.div_ceil(slots)).unwrap();
        assert!(waited <= most, "{waited} ms of {most} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_histories_refuse_nobody_for_whom_there_is_room_and_lose_no_slot() {
    for seed in 0..18_000 {
        history(seed);
    }
}

#[tokio::test(start_paused = true)]
async fn two_thousand_histories_let_nobody_wait_for_more_than_his_turns() {
    for seed in 0..2_000 {
        fair_history(seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_channels_wait_does_not_depend_on_how_many_dead_ones_others_ask_for() {
    for dead in [6, 8, 64, 256, 400] {
        let mut world = World::new(2, 3, 50);
        for _ in 0..dead {
            world.asks(1, Channel::Dead(REFUSAL), 10 * BUDGET);
        }
        let fair = u64::try_from(FAIR_TRY.as_millis()).unwrap();
        for home in 2..5 {
            let good = world.asks(home, Channel::Good(500), BUDGET);
            world.run_until(world.now + SECOND);
            world.run_until(world.now + fair);
            let waited = world.waited(good).expect("it plays");
            assert!(waited <= fair, "{dead} dead ones: {waited} ms");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn five_hundred_zaps_over_half_dead_channels_wait_for_nothing() {
    let mut random = StdRng::seed_from_u64(7);
    let mut world = World::new(2, 3, 100);
    let mut good = Vec::new();
    for _ in 0..500 {
        let stays = random.random_range(200..4 * SECOND);
        let is_good = random.random_bool(0.5);
        let viewer = world.asks(1, if is_good { Channel::Good(1) } else { Channel::Dead(REFUSAL) }, stays);
        good.extend(is_good.then_some(viewer));
        world.run_until(world.now + stays + random.random_range(0..100));
    }
    for viewer in good {
        let waited = world.waited(viewer).expect("every good channel plays");
        assert!(waited <= SECOND, "{waited} ms");
    }
    world.clean_up();
}

#[tokio::test(start_paused = true)]
async fn a_full_fleet_gives_a_zapper_his_own_slot_back_and_others_theirs_within_the_second() {
    for (home, lead) in [(1, 500), (1, 0), (2, 500), (2, 100), (2, 20), (2, 0)] {
        let mut world = World::new(1, 3, 100);
        for staying in 10..12 {
            world.asks(staying, Channel::Good(10), 10 * BUDGET);
        }
        world.asks(1, Channel::Good(10), 10 * SECOND);
        world.run_until(10 * SECOND - lead);
        let next = world.asks(home, Channel::Good(10), BUDGET);
        world.run_until(world.now + 4 * SECOND);
        let kept = if home == 1 { 0 } else { u64::try_from(RESERVED.as_millis()).unwrap() };
        let waited = world.waited(next).expect("it plays");
        assert!(waited <= lead + kept + 200, "{home} {lead}: {waited} ms");
    }
}
