//! The plan in random worlds: engines that crash, hang, freeze and never start, streams that come and go, settings that
//! change, for hours of virtual time. After every step the rules of [`acemux_fleet::plan`] must hold; when the world
//! has calmed down the fleet must have converged, and must stay as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use acemux_fleet::backoff::{Breaker, Moment};
use acemux_fleet::ident::ContainerId;
use acemux_fleet::plan::{
    Action, Creation, Demand, EngineView, Hold, Home, Memory, Plan, Policy, Purpose, Reason, Standing,
    TunnelView, World, plan,
};
use acemux_fleet::tunnel::{Health, Namespace, TunnelName};
use proptest::prelude::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy(min: usize, max: usize, min_free: usize, slots: usize) -> Policy {
    Policy {
        min,
        max,
        min_free,
        slots,
        idle_grace: s(30),
        auto_delete: true,
        unhealthy_grace: s(60),
        startup: s(25),
        concurrent: 2,
        interval: Duration::from_millis(500),
        max_age: None,
        max_memory: None,
        recipe: "a".into(),
        restart_vpn_after: Some(s(60)),
    }
}

/// The host's own way out.
fn direct() -> TunnelView {
    TunnelView {
        name: TunnelName::Direct,
        container: None,
        namespace: None,
        health: Health::Up,
        since: s(0),
        down_since: None,
        forwarded: None,
        ports: vec![19_000, 19_001],
        range: 19_000..=19_007,
    }
}

/// A VPN that works, in the so-manieth life of its container.
fn vpn(number: u16, life: u64) -> TunnelView {
    let id: ContainerId = format!("{number:04x}{life:060x}").parse().expect("64 hex digits");
    TunnelView {
        name: TunnelName::Vpn(format!("gluetun-{number}").parse().expect("a name")),
        container: Some(id.clone()),
        namespace: Some(Namespace::new(id, "first")),
        ..direct()
    }
}

/// What happens to the world in one second, beside what the plan does.
#[derive(Clone, Debug)]
enum Shock {
    Nothing,
    StreamComes,
    StreamGoes(usize),
    Crash(usize),
    Hang(usize),
    Recover(usize),
    Freeze(usize),
    Thaw(usize),
    /// It downloads on without a session.
    RunAway(usize),
    /// It does so no more.
    Calm(usize),
    Vanish(usize),
    /// The next creations fail, so many.
    CreationsFail(usize),
    /// The next engines never become ready, so many.
    NeverReady(usize),
    /// The recipe changes.
    NewRecipe,
    /// Time passes without anything.
    Pause(u64),
    /// A VPN stops working.
    Down(usize),
    /// Nobody can tell any more whether it works.
    Unsure(usize),
    /// It works.
    Up(usize),
    /// Its container is restarted: the same one, another network.
    Restart(usize),
    /// Its container is made anew.
    Recreate(usize),
    /// Its container is gone, or stands still.
    Gone(usize),
    /// Its provider forwards this port now, or none.
    Forward(usize, Option<u16>),
    /// Somebody connects an engine's container to the host's network.
    Escape(usize),
}

fn vpn_shocks() -> impl Strategy<Value = Shock> {
    let which = || 0_usize..3;
    prop_oneof![
        3 => which().prop_map(Shock::Down),
        2 => which().prop_map(Shock::Unsure),
        5 => which().prop_map(Shock::Up),
        2 => which().prop_map(Shock::Restart),
        2 => which().prop_map(Shock::Recreate),
        2 => which().prop_map(Shock::Gone),
        3 => (which(), proptest::option::of(50_000_u16..50_004))
            .prop_map(|(which, port)| Shock::Forward(which, port)),
        1 => (0_usize..64).prop_map(Shock::Escape),
        12 => shocks(),
    ]
}

fn shocks() -> impl Strategy<Value = Shock> {
    prop_oneof![
        6 => Just(Shock::Nothing),
        8 => Just(Shock::StreamComes),
        8 => (0_usize..64).prop_map(Shock::StreamGoes),
        2 => (0_usize..64).prop_map(Shock::Crash),
        2 => (0_usize..64).prop_map(Shock::Hang),
        2 => (0_usize..64).prop_map(Shock::Recover),
        1 => (0_usize..64).prop_map(Shock::Freeze),
        1 => (0_usize..64).prop_map(Shock::Thaw),
        2 => (0_usize..64).prop_map(Shock::RunAway),
        1 => (0_usize..64).prop_map(Shock::Calm),
        1 => (0_usize..64).prop_map(Shock::Vanish),
        1 => (1_usize..9).prop_map(Shock::CreationsFail),
        1 => (1_usize..4).prop_map(Shock::NeverReady),
        1 => Just(Shock::NewRecipe),
        4 => (1_u64..200).prop_map(Shock::Pause),
    ]
}

/// An engine of the model world.
#[derive(Clone, Debug)]
struct Engine {
    view: EngineView,
    ready_at: Option<Moment>,
    leaves_at: Option<Moment>,
    is_sound: bool,
    purpose: Purpose,
    port: u16,
}

/// The model world.
struct Model {
    now: Moment,
    policy: Policy,
    engines: Vec<Engine>,
    creating: Vec<(Creation, Moment, Purpose)>,
    memory: Memory,
    waiting: usize,
    tunnels: Vec<TunnelView>,
    /// VPNs that are being restarted.
    restarting: Vec<usize>,
    creations_to_fail: usize,
    never_ready: usize,
    /// A VPN that lets nobody in: its engines run and are not reached.
    closed: Option<TunnelName>,
    next_id: u64,
    /// When each place was created and removed, for the rate.
    created: BTreeMap<usize, Vec<Moment>>,
    removed: BTreeMap<usize, Vec<Moment>>,
}

impl Model {
    fn new(policy: Policy) -> Self {
        let memory = Memory::new(Breaker::new(5, s(300)), Breaker::new(3, s(180)));
        Self {
            now: Moment::ZERO,
            policy,
            engines: Vec::new(),
            creating: Vec::new(),
            memory,
            waiting: 0,
            tunnels: vec![direct()],
            restarting: Vec::new(),
            creations_to_fail: 0,
            never_ready: 0,
            closed: None,
            next_id: 0,
            created: BTreeMap::new(),
            removed: BTreeMap::new(),
        }
    }

    fn shock(&mut self, shock: &Shock) {
        let count = self.engines.len().max(1);
        let now = self.now;
        let mut on = |index: usize, change: &mut dyn FnMut(&mut Engine)| {
            if let Some(engine) = self.engines.get_mut(index % count) {
                change(engine);
            }
        };
        match shock {
            Shock::Nothing | Shock::Pause(_) => {}
            Shock::StreamComes => self.waiting += 1,
            Shock::StreamGoes(index) => on(*index, &mut |engine| engine.release(now)),
            Shock::Crash(index) => on(*index, &mut |engine| engine.ends(now, "crashed")),
            Shock::Hang(index) => on(*index, &mut |engine| {
                if engine.view.standing == Standing::Ready {
                    engine.view.standing = Standing::Unhealthy { since: now, why: "hangs".into() };
                }
            }),
            Shock::Recover(index) => on(*index, &mut |engine| {
                if matches!(engine.view.standing, Standing::Unhealthy { .. }) {
                    engine.view.standing = Standing::Ready;
                }
            }),
            Shock::Freeze(index) => on(*index, &mut |engine| {
                if engine.view.standing == Standing::Ready {
                    engine.view.standing = Standing::Frozen;
                }
            }),
            Shock::Thaw(index) => on(*index, &mut |engine| {
                if engine.view.standing == Standing::Frozen {
                    engine.view.standing = Standing::Ready;
                }
            }),
            Shock::RunAway(index) => on(*index, &mut |engine| {
                // Nobody can tell it behind a VPN.
                let is_alone = engine.view.home == Home::Open;
                engine.view.runaway = (is_alone && engine.is_sound && engine.view.used == 0).then_some(35);
            }),
            Shock::Calm(index) => on(*index, &mut |engine| engine.view.runaway = None),
            Shock::Vanish(index) => {
                let index = index % count;
                if index < self.engines.len() {
                    let gone = self.engines.remove(index);
                    self.memory.places.failed(gone.view.place, now, "removed by hand");
                }
            }
            Shock::Escape(index) => on(*index, &mut |engine| engine.view.home = Home::Open),
            Shock::Down(index)
            | Shock::Unsure(index)
            | Shock::Up(index)
            | Shock::Restart(index)
            | Shock::Recreate(index)
            | Shock::Gone(index)
            | Shock::Forward(index, _) => self.shake(*index, shock),
            Shock::CreationsFail(count) => self.creations_to_fail = *count,
            Shock::NeverReady(count) => self.never_ready = *count,
            Shock::NewRecipe => {
                self.policy.recipe = if self.policy.recipe == "a" { "b".into() } else { "a".into() };
            }
        }
    }

    fn plan(&self) -> Plan {
        let views: Vec<_> = self.engines.iter().map(|engine| engine.view.clone()).collect();
        let creating: Vec<_> = self.creating.iter().map(|(creation, ..)| creation.clone()).collect();
        let mut tunnels = self.tunnels.clone();
        for tunnel in &mut tunnels {
            let used = self.ports(&tunnel.name);
            tunnel.ports = tunnel.range.clone().filter(|port| !used.contains(port)).collect();
        }
        plan(
            &self.policy,
            &World {
                now: self.now,
                engines: &views,
                creating: &creating,
                demand: Demand { waiting: self.waiting },
                memory: &self.memory,
                tunnels: &tunnels,
                forbidden: None,
            },
        )
    }

    /// Ports in use behind this tunnel.
    fn ports(&self, tunnel: &TunnelName) -> Vec<u16> {
        let engines = self.engines.iter().filter(|engine| engine.view.tunnel == *tunnel);
        let creating = self.creating.iter().filter(|(creation, ..)| creation.tunnel == *tunnel);
        engines.map(|engine| engine.port).chain(creating.map(|(creation, ..)| creation.port)).collect()
    }

    /// Something happens to a VPN. Without any it happens to nobody.
    fn shake(&mut self, index: usize, shock: &Shock) {
        let (now, life) = (self.now, self.next_id);
        let count = self.tunnels.len();
        let Some(tunnel) = self.tunnels.get_mut(index % count) else { return };
        let TunnelName::Vpn(_) = tunnel.name else { return };
        let number = u16::try_from(index % count).expect("few") + 1;
        match shock {
            Shock::Down(_) => becomes(tunnel, Health::Down { why: "as it happens".into() }, now),
            Shock::Unsure(_) => becomes(tunnel, Health::Unsure { why: "as it happens".into() }, now),
            Shock::Up(_) if tunnel.namespace.is_some() => becomes(tunnel, Health::Up, now),
            Shock::Gone(_) => {
                tunnel.namespace = None;
                becomes(tunnel, Health::Down { why: "it does not run".into() }, now);
            }
            Shock::Restart(_) => {
                let id = tunnel.container.clone().expect("it was never removed");
                tunnel.namespace = Some(Namespace::new(id, format!("{now:?}")));
            }
            Shock::Up(_) | Shock::Recreate(_) => {
                let anew = vpn(number, life + 1);
                (tunnel.container, tunnel.namespace) = (anew.container, anew.namespace);
                self.next_id += 1;
            }
            Shock::Forward(_, port) => tunnel.forwarded = *port,
            _ => {}
        }
    }

    fn is_open(&self) -> bool {
        self.tunnels.iter().any(|tunnel| tunnel.name == TunnelName::Direct)
    }

    fn usable(&self) -> impl Iterator<Item = &TunnelView> {
        self.tunnels
            .iter()
            .filter(|tunnel| tunnel.health == Health::Up && (self.is_open() || tunnel.namespace.is_some()))
    }

    /// It is in the network of a tunnel as that is now, or of one of which nothing is known.
    fn is_at_home(&self, engine: &EngineView) -> bool {
        let tunnel = self.tunnels.iter().find(|tunnel| tunnel.name == engine.tunnel).expect("it has one");
        match &engine.home {
            Home::Open => self.is_open(),
            Home::Inside { joined, .. } => tunnel.namespace.is_none() || tunnel.namespace == *joined,
        }
    }

    /// One second: what was begun comes about, streams take free slots, the plan is made and applied.
    fn step(&mut self) -> Plan {
        self.now += s(1);
        for index in std::mem::take(&mut self.restarting) {
            self.shake(index, &Shock::Restart(index));
        }
        self.finish_creations();
        self.finish_removals();
        self.become_ready();
        self.evacuate();
        self.serve();
        let plan = self.plan();
        for action in &plan.actions {
            self.apply(action);
        }
        self.check();
        self.check_tunnels(&plan);
        plan
    }

    fn finish_creations(&mut self) {
        let now = self.now;
        let all = std::mem::take(&mut self.creating);
        let (done, under_way): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, at, _)| *at <= now);
        self.creating = under_way;
        for (creation, _, purpose) in done {
            if self.creations_to_fail > 0 {
                self.creations_to_fail -= 1;
                self.memory.places.failed(creation.place, now, "refused");
                self.breaker(purpose).failed(now);
                continue;
            }
            let is_reached = self.never_ready == 0 && self.closed.as_ref() != Some(&creation.tunnel);
            let ready_at = is_reached.then_some(now + s(2));
            self.never_ready = self.never_ready.saturating_sub(1);
            self.next_id += 1;
            let view = EngineView {
                id: format!("{:064x}", self.next_id).parse::<ContainerId>().expect("64 hex digits"),
                alias: creation.name.clone(),
                name: creation.name,
                home: creation.namespace.map_or(Home::Open, |namespace| Home::Inside {
                    container: namespace.id().as_str().to_owned(),
                    joined: Some(namespace),
                }),
                tunnel: creation.tunnel,
                forwarded: creation.forwarded,
                place: creation.place,
                standing: Standing::Starting { since: now },
                used: 0,
                idle_since: Some(now),
                known_since: now,
                memory: None,
                runaway: None,
                recipe: self.policy.recipe.clone(),
                cordoned: false,
                unwanted: false,
            };
            let port = creation.port;
            self.engines.push(Engine { view, ready_at, leaves_at: None, is_sound: false, purpose, port });
        }
    }

    fn finish_removals(&mut self) {
        let now = self.now;
        self.engines.retain(|engine| engine.leaves_at.is_none_or(|at| at > now));
    }

    fn become_ready(&mut self) {
        let now = self.now;
        let mut sound = Vec::new();
        let works: Vec<TunnelName> = self.usable().map(|tunnel| tunnel.name.clone()).collect();
        for engine in &mut self.engines {
            let is_starting = matches!(engine.view.standing, Standing::Starting { .. });
            // Through a tunnel that does not work nobody sees it answer.
            let is_starting = is_starting && works.contains(&engine.view.tunnel);
            if is_starting && engine.ready_at.is_some_and(|at| at <= now) {
                engine.view.standing = Standing::Ready;
                sound.push((engine.purpose, engine.view.tunnel.clone()));
                engine.is_sound = true;
            }
        }
        for (purpose, tunnel) in sound {
            self.breaker(purpose).succeeded(now);
            self.memory.came_up(&tunnel);
        }
    }

    /// Streams leave engines that take no new ones, when there is room elsewhere.
    fn evacuate(&mut self) {
        let now = self.now;
        for at in 0..self.engines.len() {
            let view = &self.engines[at].view;
            let is_leaving = view.cordoned && view.used > 0 && view.standing == Standing::Ready;
            let has_room = |engine: &&mut Engine| {
                let view = &engine.view;
                view.standing == Standing::Ready && !view.cordoned && view.used < self.policy.slots
            };
            if is_leaving && let Some(other) = self.engines.iter_mut().find(has_room) {
                other.view.used += 1;
                (other.view.idle_since, other.view.runaway) = (None, None);
                self.engines[at].release(now);
            }
        }
    }

    /// As the dispatch does: least loaded first, hard cap, none that is cordoned.
    fn serve(&mut self) {
        while self.waiting > 0 {
            let slots = self.policy.slots;
            let may = |engine: &&mut Engine| {
                engine.view.standing == Standing::Ready && !engine.view.cordoned && engine.view.used < slots
            };
            let Some(engine) = self.engines.iter_mut().filter(may).min_by_key(|engine| engine.view.used)
            else {
                return;
            };
            engine.view.used += 1;
            // With a stream on it nobody can tell.
            (engine.view.idle_since, engine.view.runaway) = (None, None);
            self.waiting -= 1;
        }
    }

    fn breaker(&mut self, purpose: Purpose) -> &mut Breaker {
        match purpose {
            Purpose::Growth => &mut self.memory.growth,
            Purpose::Replacement => &mut self.memory.replacement,
        }
    }

    fn apply(&mut self, action: &Action) {
        let now = self.now;
        match action {
            Action::Create { creation, purpose, .. } => {
                self.check_creation(creation);
                let place = &creation.place;
                let taken = self.engines.iter().map(|engine| engine.view.place);
                let taken = taken.chain(self.creating.iter().map(|(creation, ..)| creation.place));
                assert!(!taken.clone().any(|other| other == *place), "place {place} is taken");
                let creation = creation.clone();
                self.memory.last_creation = Some(now);
                self.breaker(*purpose).begin(now);
                self.created.entry(*place).or_default().push(now);
                self.creating.push((creation, now + s(2), *purpose));
            }
            Action::Cordon { id, reason } => {
                self.own(id).view.cordoned = true;
                if reason.is_weeding() {
                    self.memory.last_weeding = Some(now);
                }
            }
            Action::Uncordon { id, .. } => self.own(id).view.cordoned = false,
            Action::RestartVpn { tunnel, id, .. } => {
                let index = self.tunnels.iter().position(|view| view.name == *tunnel).expect("it is there");
                let view = &self.tunnels[index];
                let since = view.down_since.expect("it is down");
                assert!(now >= since + s(60) && view.container.as_ref() == Some(id), "{view:?}");
                let last = self.memory.restarts.insert(tunnel.clone(), now);
                assert!(last.is_none_or(|last| last < since), "twice for one outage: {last:?} {view:?}");
                self.restarting.push(index);
            }
            Action::Remove { id, place, reason } => {
                let is_usable = self.usable().next().is_some();
                let is_stranded = matches!(reason, Reason::TunnelDown { .. });
                assert!(
                    !is_stranded || is_usable,
                    "with no VPN that works each engine is needed when one does"
                );
                let view = self.own(id).view.clone();
                let is_at_home = self.is_at_home(&view);
                self.removed.entry(*place).or_default().push(now);
                let engine = self.own(id);
                let is_over =
                    matches!(engine.view.standing, Standing::Ended { .. } | Standing::Starting { .. });
                let is_dead = is_over || !is_at_home;
                assert!(is_dead || engine.view.used == 0, "an engine in use is removed: {:?}", engine.view);
                let (was_sound, purpose) = (engine.is_sound, engine.purpose);
                let tunnel = engine.view.tunnel.clone();
                engine.view.standing = Standing::Leaving { since: now };
                engine.leaves_at = Some(now + s(2));
                if is_over && is_at_home && !is_stranded {
                    self.memory.places.failed(*place, now, "ended");
                    if !was_sound {
                        self.memory.came_to_nothing((&tunnel, purpose), &self.tunnels, now);
                    }
                }
            }
        }
    }

    /// The plan acts on what it was shown, and on nothing else.
    fn own(&mut self, id: &ContainerId) -> &mut Engine {
        self.engines
            .iter_mut()
            .find(|engine| engine.view.id == *id)
            .expect("no action on a container that is not ours")
    }

    /// With VPNs nothing is ever created but in the network that one of them has at that moment.
    fn check_creation(&self, creation: &Creation) {
        let mut usable = self.usable();
        let tunnel = usable.find(|tunnel| tunnel.name == creation.tunnel).expect("its tunnel works");
        assert_eq!(creation.namespace, tunnel.namespace, "{creation:?}");
        assert_eq!(creation.namespace.is_none(), self.is_open(), "{creation:?}");
        assert!(!self.ports(&tunnel.name).contains(&creation.port), "{creation:?}: the port is taken");
        assert!(creation.forwarded.is_none() || creation.forwarded == tunnel.forwarded, "{creation:?}");
    }

    fn check_tunnels(&self, plan: &Plan) {
        for engine in &self.engines {
            let is_leaving = matches!(engine.view.standing, Standing::Leaving { .. });
            assert!(
                is_leaving || self.is_at_home(&engine.view),
                "it is left where it must not be: {engine:?}"
            );
        }
        for tunnel in self.tunnels.iter().filter(|tunnel| tunnel.forwarded.is_some()) {
            let bears = |engine: &&Engine| {
                let is_leaving = matches!(engine.view.standing, Standing::Leaving { .. });
                engine.view.tunnel == tunnel.name && engine.view.forwarded == tunnel.forwarded && !is_leaving
            };
            let comes = |(creation, ..): &&(Creation, Moment, Purpose)| {
                creation.tunnel == tunnel.name && creation.forwarded == tunnel.forwarded
            };
            let bearers =
                self.engines.iter().filter(bears).count() + self.creating.iter().filter(comes).count();
            assert!(bearers <= 1, "{bearers} engines have the forwarded port of {tunnel:?}");
        }
        let is_held = plan.held.iter().any(|hold| matches!(hold, Hold::NoTunnel { .. }));
        assert!(!is_held || self.usable().next().is_none(), "a VPN works");
    }

    /// Every VPN has its share, and somebody its forwarded port, as far as that goes without cutting a stream.
    fn assert_balanced(&self) {
        let inside = |tunnel: &TunnelView| {
            let name = tunnel.name.clone();
            self.engines.iter().filter(move |engine| engine.view.tunnel == name)
        };
        let least = self.tunnels.iter().map(|tunnel| inside(tunnel).count()).min().unwrap_or_default();
        for tunnel in &self.tunnels {
            let is_movable = |engine: &Engine| engine.view.used == 0 && engine.view.forwarded.is_none();
            let may_move = inside(tunnel).any(is_movable);
            let bears = inside(tunnel).any(|engine| engine.view.forwarded == tunnel.forwarded);
            let short = |view: &EngineView| {
                format!(
                    "{} {} {:?} used {} {:?}",
                    view.name, view.tunnel, view.standing, view.used, view.forwarded
                )
            };
            let state: Vec<_> = self.engines.iter().map(|engine| short(&engine.view)).collect();
            assert!(!may_move || inside(tunnel).count() < least + 2, "{tunnel:?} has too many: {state:#?}");
            assert!(
                !may_move || tunnel.forwarded.is_none() || bears,
                "nobody has the port of {tunnel:?}: {state:#?}"
            );
        }
    }

    fn check(&self) {
        let all = self.engines.len() + self.creating.len();
        assert!(all <= self.policy.max, "{all} engines, MAX_REPLICAS={}", self.policy.max);
        assert!(self.creating.len() <= self.policy.concurrent);
        let names: std::collections::BTreeSet<_> =
            self.engines.iter().map(|engine| &engine.view.name).collect();
        assert_eq!(names.len(), self.engines.len(), "two engines have one name");
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.step();
        }
    }

    /// At most so long: until nothing has been done for longer than anything is waited for (an open breaker, 300 s).
    fn settle(&mut self, most: u64) {
        let mut quiet = 0;
        for _ in 0..most {
            quiet = if self.step().actions.is_empty() { quiet + 1 } else { 0 };
            if quiet > 310 {
                return;
            }
        }
    }

    /// What a calm world must look like.
    fn assert_converged(&self) {
        let usable: Vec<_> = self
            .engines
            .iter()
            .filter(|engine| engine.view.standing == Standing::Ready && !engine.view.cordoned)
            .collect();
        let busy = usable.iter().filter(|engine| engine.view.used > 0).count();
        let wanted = self.policy.min.max(busy + self.policy.min_free).min(self.policy.max);
        let blocked =
            self.engines.iter().filter(|engine| engine.view.cordoned && engine.view.used > 0).count();
        let reachable = wanted.min(self.policy.max - blocked);
        let state: Vec<_> =
            self.engines.iter().map(|engine| (&engine.view.standing, engine.view.used)).collect();
        assert!(usable.len() >= reachable, "{} usable, {reachable} wanted: {state:?}", usable.len());
        assert!(usable.len() <= wanted, "{} usable, only {wanted} wanted: {state:?}", usable.len());
        assert!(self.engines.iter().all(|engine| !matches!(engine.view.standing, Standing::Ended { .. })));
        assert!(self.engines.iter().all(|engine| engine.view.runaway.is_none()), "a runaway is left");
    }
}

fn becomes(tunnel: &mut TunnelView, health: Health, now: Moment) {
    if tunnel.health.as_str() != health.as_str() {
        tunnel.since = now;
    }
    match health {
        Health::Up => tunnel.down_since = None,
        Health::Down { .. } => drop(tunnel.down_since.get_or_insert(now)),
        Health::Unsure { .. } => {}
    }
    tunnel.health = health;
}

impl Engine {
    fn release(&mut self, now: Moment) {
        if self.view.used > 0 {
            self.view.used -= 1;
            if self.view.used == 0 {
                self.view.idle_since = Some(now);
            }
        }
    }

    fn ends(&mut self, now: Moment, why: &str) {
        if self.leaves_at.is_none() {
            self.view.standing = Standing::Ended { why: why.into() };
            (self.view.used, self.view.idle_since) = (0, Some(now));
        }
    }
}

/// Nothing breaks any more, and what hangs on a broken engine ends, as the data plane's deadlines see to.
fn calm(model: &mut Model) {
    let now = model.now;
    (model.creations_to_fail, model.never_ready, model.waiting) = (0, 0, 0);
    for index in 0..model.tunnels.len() {
        // The first time makes a container where there is none.
        (0..2).for_each(|_| model.shake(index, &Shock::Up(index)));
    }
    for engine in &mut model.engines {
        let tunnel = model.tunnels.iter().find(|tunnel| tunnel.name == engine.view.tunnel);
        let forwarded = tunnel.and_then(|tunnel| tunnel.forwarded);
        let is_stale =
            forwarded.is_some() && engine.view.forwarded.is_some_and(|port| Some(port) != forwarded);
        let is_broken = matches!(engine.view.standing, Standing::Unhealthy { .. } | Standing::Frozen);
        let is_outdated = engine.view.recipe != model.policy.recipe;
        while (is_broken || is_outdated || is_stale) && engine.view.used > 0 {
            engine.release(now);
        }
    }
}

fn history() -> impl Strategy<Value = (usize, usize, usize, usize, Vec<Shock>)> {
    (1_usize..8).prop_flat_map(|max| {
        (0..=max, Just(max), 0..=max, 1_usize..4, proptest::collection::vec(shocks(), 1..40))
    })
}

/// CI proves ten thousand histories; more by `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_at_every_step_and_a_calm_world_converges((min, max, min_free, slots, shocks) in history()) {
        let mut model = Model::new(policy(min, max, min_free.min(max), slots));
        for shock in &shocks {
            model.shock(shock);
            model.run(if let Shock::Pause(seconds) = shock { *seconds } else { 1 });
        }
        calm(&mut model);
        // An open breaker, the longest back-off, a replacement of each engine, the grace of each surplus one.
        model.settle(300 + 60 + 100 * max as u64 + 60 * max as u64);
        model.assert_converged();
        // Steady: nothing is created or removed any more.
        let (created, removed) = (model.created.clone(), model.removed.clone());
        model.run(300);
        prop_assert_eq!(&model.created, &created, "a steady world creates nothing");
        prop_assert_eq!(&model.removed, &removed, "a steady world removes nothing");
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// The same behind one to three VPNs: not one engine is ever where the host's address shows, none in a network that
    /// is gone, and when the VPNs are well again each has its share.
    #[test]
    fn engines_are_behind_a_vpn_that_works_or_not_created_at_all(
        (min, max, min_free, slots, _) in history(),
        vpns in 1_u16..=3,
        shocks in proptest::collection::vec(vpn_shocks(), 1..40),
    ) {
        let mut model = Model::new(policy(min, max, min_free.min(max), slots));
        model.tunnels = (1..=vpns).map(|number| vpn(number, 0)).collect();
        for shock in &shocks {
            model.shock(shock);
            model.run(if let Shock::Pause(seconds) = shock { *seconds } else { 1 });
        }
        calm(&mut model);
        // A VPN whose engines came to nothing gets its share only then.
        model.run(300);
        // As above, and one engine a minute that gives way for the balance or a forwarded port.
        model.settle(300 + 60 + 100 * max as u64 + 60 * max as u64 + 90 * 2 * max as u64);
        model.assert_converged();
        model.assert_balanced();
        let (created, removed) = (model.created.clone(), model.removed.clone());
        model.run(300);
        prop_assert_eq!(&model.created, &created, "a steady world creates nothing");
        prop_assert_eq!(&model.removed, &removed, "a steady world removes nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn demand_that_comes_and_goes_does_not_flap(period in 1_u64..120, min_free in 0_usize..3) {
        let mut model = Model::new(policy(1, 6, min_free, 1));
        model.run(60);
        for round in 0..20 {
            if round % 2 == 0 {
                model.waiting += 1;
            } else {
                let now = model.now;
                model.engines.iter_mut().for_each(|engine| engine.release(now));
            }
            model.run(period);
        }
        for (place, times) in model.created.iter().chain(&model.removed) {
            let too_fast = times.windows(2).any(|pair| pair[1].saturating_sub(pair[0]) < s(60));
            prop_assert!(!too_fast, "place {place}: {times:?}");
        }
    }
}

#[test]
fn months_pass_without_anything_growing_or_failing() {
    let mut model = Model::new(policy(2, 6, 1, 3));
    let mut random = 1_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    // Three months in steps of a second, but only those in which something may happen.
    for _ in 0..30_000 {
        let which = usize::try_from(next(64)).unwrap();
        let shock = match next(20) {
            0 => Shock::Crash(which),
            1 => Shock::Hang(which),
            2..=9 => Shock::StreamGoes(which),
            _ => Shock::StreamComes,
        };
        model.shock(&shock);
        model.run(next(20) + 1);
        model.now += s(next(500));
    }
    assert!(model.now > Duration::from_hours(24 * 60), "{:?}", model.now);
    calm(&mut model);
    let now = model.now;
    model.engines.iter_mut().for_each(|engine| (0..3).for_each(|_| engine.release(now)));
    model.run(1_500);
    model.assert_converged();
}

#[test]
fn a_herd_on_one_cold_channel_creates_one_engine() {
    let mut model = Model::new(policy(0, 20, 0, 3));
    model.run(10);
    assert!(model.engines.is_empty());
    // The relay asks once for a channel, however many viewers wait.
    model.waiting = 1;
    model.run(20);
    assert_eq!(model.created.values().map(Vec::len).sum::<usize>(), 1);
}

#[test]
fn a_crash_loop_is_tried_seven_times_in_the_first_minute_and_once_a_minute_after() {
    let mut model = Model::new(policy(1, 1, 0, 1));
    // Only the place's own back-off is looked at here.
    model.memory.growth = Breaker::new(u32::MAX, s(300));
    model.creations_to_fail = usize::MAX;
    model.run(60);
    let first: usize = model.created.values().map(Vec::len).sum();
    model.run(600);
    let all: usize = model.created.values().map(Vec::len).sum();
    assert!((2..=7).contains(&first), "{first} in the first minute");
    assert!((5..=10).contains(&(all - first)), "{} in ten more minutes", all - first);
}

#[test]
fn a_broken_image_opens_the_breaker_and_one_attempt_closes_it() {
    let mut model = Model::new(Policy { concurrent: 1, ..policy(2, 4, 1, 1) });
    model.creations_to_fail = 5;
    model.run(240);
    assert!(model.engines.is_empty(), "it waits for the breaker");
    model.run(300);
    model.assert_converged();
}

/// A ready, idle engine in this place.
fn ready(place: usize) -> EngineView {
    EngineView {
        id: format!("{place:064x}").parse().expect("64 hex digits"),
        name: format!("acestream-{place}"),
        alias: format!("acestream-{place}"),
        tunnel: TunnelName::Direct,
        home: Home::Open,
        forwarded: None,
        place,
        standing: Standing::Ready,
        used: 0,
        idle_since: Some(s(0)),
        known_since: s(900),
        memory: Some(100),
        runaway: None,
        recipe: "a".into(),
        cordoned: false,
        unwanted: false,
    }
}

/// What is decided about these engines a thousand seconds in, in words: `create 3`, `cordon 1`, `remove 1`.
fn decided(policy: &Policy, engines: &[EngineView]) -> Vec<String> {
    decided_after(None, policy, engines)
}

/// The same behind these tunnels.
fn decided_behind(tunnels: &[TunnelView], policy: &Policy, engines: &[EngineView]) -> Vec<String> {
    words(None, tunnels, policy, engines)
}

/// The whole plan behind these tunnels while so many streams wait, after these engines' failures.
fn planned(
    tunnels: &[TunnelView],
    policy: &Policy,
    engines: &[EngineView],
    (waiting, troubled): (usize, &[(&TunnelView, Moment)]),
) -> Plan {
    let troubled = troubled.iter().map(|(tunnel, at)| (tunnel.name.clone(), *at)).collect();
    let memory = Memory { troubled, ..Model::new(policy.clone()).memory };
    plan_from(&memory, waiting, tunnels, policy, engines)
}

/// The plan of a fleet that creates nothing at the moment.
fn plan_from(
    memory: &Memory,
    waiting: usize,
    tunnels: &[TunnelView],
    policy: &Policy,
    engines: &[EngineView],
) -> Plan {
    let (creating, demand) = (Vec::new(), Demand { waiting });
    let world =
        World { now: s(1_000), engines, creating: &creating, demand, memory, tunnels, forbidden: None };
    plan(policy, &world)
}

/// Behind which tunnels the plan creates engines.
fn created_behind(plan: &Plan) -> Vec<String> {
    let creations = plan.actions.iter().filter_map(|action| match action {
        Action::Create { creation, .. } => Some(creation.tunnel.to_string()),
        _ => None,
    });
    creations.collect()
}

/// Of which engines the plan says that they go.
fn removed(plan: &Plan) -> Vec<(usize, String)> {
    let removals = plan.actions.iter().filter_map(|action| match action {
        Action::Remove { place, reason, .. } => Some((*place, reason.to_string())),
        _ => None,
    });
    removals.collect()
}

/// A ready, idle engine behind this tunnel.
fn inside(tunnel: &TunnelView, place: usize) -> EngineView {
    let joined = tunnel.namespace.clone().expect("its container runs");
    let home = Home::Inside { container: joined.id().as_str().to_owned(), joined: Some(joined) };
    EngineView { tunnel: tunnel.name.clone(), home, ..ready(place) }
}

fn down(tunnel: &TunnelView, since: Moment) -> TunnelView {
    let health = Health::Down { why: "no answer".into() };
    TunnelView { health, since, down_since: Some(since), ..tunnel.clone() }
}

/// The same, when the last engine was given up for its age or its memory at that moment.
fn decided_after(last_weeding: Option<Moment>, policy: &Policy, engines: &[EngineView]) -> Vec<String> {
    words(last_weeding, &[direct()], policy, engines)
}

fn words(
    last_weeding: Option<Moment>,
    tunnels: &[TunnelView],
    policy: &Policy,
    engines: &[EngineView],
) -> Vec<String> {
    let memory = Memory { last_weeding, ..Model::new(policy.clone()).memory };
    let name =
        |id: &ContainerId| engines.iter().find(|engine| engine.id == *id).map_or(0, |engine| engine.place);
    let words =
        plan_from(&memory, 0, tunnels, policy, engines).actions.into_iter().map(|action| match action {
            Action::Create { creation: Creation { place, tunnel, forwarded, .. }, .. } => {
                match (tunnel, forwarded) {
                    (TunnelName::Direct, _) => format!("create {place}"),
                    (vpn, None) => format!("create {place} behind {vpn}"),
                    (vpn, Some(port)) => format!("create {place} behind {vpn} with {port}"),
                }
            }
            Action::RestartVpn { tunnel, .. } => format!("restart {tunnel}"),
            Action::Cordon { id, .. } => format!("cordon {}", name(&id)),
            Action::Uncordon { id, .. } => format!("uncordon {}", name(&id)),
            Action::Remove { id, .. } => format!("remove {}", name(&id)),
        });
    words.collect()
}

#[test]
fn an_idle_engine_that_is_old_fat_or_a_runaway_goes_when_its_replacement_is_ready() {
    let policy = Policy { max_age: Some(s(600)), max_memory: Some(1_000), ..policy(2, 4, 0, 1) };
    let old = EngineView { known_since: s(0), ..ready(1) };
    let fat = EngineView { memory: Some(2_000), ..ready(1) };
    let runaway = EngineView { runaway: Some(35), ..ready(1) };
    for tired in [old, fat, runaway] {
        assert_eq!(decided(&policy, &[tired.clone(), ready(2)]), ["cordon 1", "create 3"]);
        let cordoned = EngineView { cordoned: true, ..tired.clone() };
        let coming = EngineView { standing: Standing::Starting { since: s(999) }, ..ready(3) };
        assert!(decided(&policy, &[cordoned.clone(), ready(2), coming]).is_empty());
        assert_eq!(decided(&policy, &[cordoned, ready(2), ready(3)]), ["remove 1"]);
        let busy = EngineView { used: 1, idle_since: None, ..tired };
        assert!(decided(&policy, &[busy, ready(2)]).is_empty(), "in use, it stays");
    }
}

#[test]
fn an_engine_that_an_operator_drains_is_left_at_once_and_goes_when_it_is_idle_and_replaced() {
    let policy = policy(2, 4, 0, 1);
    let drained = EngineView { unwanted: true, used: 1, idle_since: None, ..ready(1) };
    assert_eq!(decided(&policy, &[drained.clone(), ready(2)]), ["cordon 1", "create 3"]);
    let cordoned = EngineView { cordoned: true, ..drained };
    assert!(decided(&policy, &[cordoned.clone(), ready(2), ready(3)]).is_empty(), "in use, it stays");
    let idle = EngineView { used: 0, idle_since: Some(s(990)), ..cordoned.clone() };
    assert_eq!(decided(&policy, &[idle, ready(2), ready(3)]), ["remove 1"]);
    let taken_back = EngineView { unwanted: false, ..cordoned };
    assert_eq!(decided(&policy, &[taken_back, ready(2)]), ["uncordon 1"]);
}

#[test]
fn engines_that_work_are_given_up_at_least_a_minute_apart() {
    let policy = Policy { max_age: Some(s(600)), ..policy(2, 4, 0, 1) };
    let old = |place| EngineView { known_since: s(0), ..ready(place) };
    assert!(decided_after(Some(s(941)), &policy, &[old(1), old(2)]).is_empty());
    assert_eq!(decided_after(Some(s(940)), &policy, &[old(1), old(2)]), ["cordon 1", "create 3"]);
    let given_up = EngineView { cordoned: true, ..old(1) };
    assert_eq!(decided_after(Some(s(990)), &policy, &[given_up, old(2), ready(3)]), ["remove 1"]);
}

#[test]
fn of_several_runaways_one_goes_a_minute_and_the_reason_is_named() {
    let policy = policy(2, 4, 0, 1);
    let runaway = |place, mbits| EngineView { runaway: Some(mbits), ..ready(place) };
    assert_eq!(decided(&policy, &[runaway(1, 35), runaway(2, 2)]), ["cordon 1", "create 3"]);
    assert!(decided_after(Some(s(941)), &policy, &[runaway(1, 35), runaway(2, 2)]).is_empty());
    // It was none after all, or has come to its end: it serves again.
    let recovered = EngineView { cordoned: true, ..ready(1) };
    assert_eq!(decided(&policy, &[recovered, ready(2)]), ["uncordon 1"]);
    assert_eq!(Reason::RunsAway { mbits: 35 }.to_string(), "it receives 35 Mbit/s without a session");
}

#[test]
fn a_runaway_that_is_not_needed_goes_without_a_replacement() {
    let policy = policy(0, 4, 0, 1);
    assert_eq!(decided(&policy, &[EngineView { runaway: Some(35), ..ready(1) }]), ["cordon 1"]);
    let cordoned = EngineView { runaway: Some(35), cordoned: true, ..ready(1) };
    assert_eq!(decided(&policy, &[cordoned]), ["remove 1"]);
}

/// As engines are that all download on whatever is done.
#[test]
fn runaways_that_never_end_are_replaced_one_a_minute() {
    let mut model = Model::new(policy(2, 4, 0, 1));
    for _ in 0..3_600 {
        for engine in model.engines.iter_mut().filter(|engine| engine.is_sound) {
            engine.view.runaway = Some(35);
        }
        model.step();
        let serving = model.engines.iter().filter(|engine| engine.view.standing == Standing::Ready).count();
        assert!(serving >= 2 || model.now < s(10), "{serving} of 2 engines are left");
    }
    let created: usize = model.created.values().map(Vec::len).sum();
    assert!((30..=62).contains(&created), "{created} engines in an hour");
}

/// As engines are that all need more memory than they may.
#[test]
fn a_limit_that_every_engine_is_beyond_replaces_one_a_minute() {
    let mut model = Model::new(Policy { max_memory: Some(1), ..policy(2, 4, 0, 1) });
    for _ in 0..3_600 {
        model.engines.iter_mut().for_each(|engine| engine.view.memory = Some(2));
        model.step();
    }
    let created: usize = model.created.values().map(Vec::len).sum();
    assert!((30..=62).contains(&created), "{created} engines in an hour");
}

#[test]
fn without_room_for_both_the_bad_engine_goes_first() {
    let policy = policy(2, 2, 0, 1);
    let bad = Standing::Unhealthy { since: s(900), why: "silent".into() };
    let bad = EngineView { standing: bad, cordoned: true, ..ready(1) };
    assert_eq!(decided(&policy, &[bad, ready(2)]), ["remove 1"]);
}

#[test]
fn an_unhealthy_engine_has_a_minute_to_recover() {
    let policy = policy(2, 4, 0, 1);
    let unhealthy = |since| {
        let standing = Standing::Unhealthy { since, why: "silent".into() };
        EngineView { standing, ..ready(1) }
    };
    assert!(decided(&policy, &[unhealthy(s(950)), ready(2)]).is_empty());
    assert_eq!(decided(&policy, &[unhealthy(s(930)), ready(2)]), ["cordon 1", "create 3"]);
    let recovered = EngineView { cordoned: true, ..ready(1) };
    assert_eq!(decided(&policy, &[recovered, ready(2)]), ["uncordon 1"]);
}

#[test]
fn a_paused_engine_is_replaced_at_once_and_not_removed_under_its_streams() {
    let policy = policy(1, 4, 0, 1);
    let frozen =
        EngineView { standing: Standing::Frozen, used: 1, idle_since: None, cordoned: true, ..ready(1) };
    assert_eq!(decided(&policy, std::slice::from_ref(&frozen)), ["create 2"]);
    assert!(decided(&policy, &[frozen, ready(2)]).is_empty());
}

#[test]
fn engines_made_with_old_settings_are_replaced_one_after_the_other() {
    let policy = policy(3, 4, 0, 1);
    let old = |place| EngineView { recipe: "b".into(), ..ready(place) };
    assert_eq!(decided(&policy, &[old(1), old(2), old(3)]), ["cordon 1", "create 4"]);
    let going = EngineView { cordoned: true, ..old(1) };
    assert_eq!(decided(&policy, &[going, old(2), old(3), ready(4)]), ["remove 1"]);
}

#[test]
fn when_a_vpn_is_down_its_streams_leave_first_and_its_engines_go_when_it_stays_down() {
    let policy = policy(2, 4, 0, 1);
    let (one, two) = (vpn(1, 0), vpn(2, 0));
    let busy = EngineView { used: 1, idle_since: None, ..inside(&one, 1) };
    let is_down = down(&one, s(990));
    let behind = [is_down.clone(), two.clone()];
    let all = [busy.clone(), inside(&two, 2)];
    assert_eq!(decided_behind(&behind, &policy, &all), ["cordon 1", "create 3 behind gluetun-2"]);
    // Its stream has found another engine; it waits for its VPN, for a minute.
    let idle = EngineView { cordoned: true, ..inside(&one, 1) };
    let all = [idle.clone(), inside(&two, 2), inside(&two, 3)];
    assert!(decided_behind(&behind, &policy, &all).is_empty());
    let behind_for_long = [down(&one, s(930)), two.clone()];
    let without_restarts = Policy { restart_vpn_after: None, ..policy.clone() };
    assert_eq!(decided_behind(&behind_for_long, &without_restarts, &all), ["remove 1"]);
    // With no other VPN nothing could take its place.
    let both = [down(&one, s(930)), down(&two, s(930))];
    let cordoned = EngineView { cordoned: true, ..inside(&two, 2) };
    assert!(decided_behind(&both, &without_restarts, &[idle.clone(), cordoned]).is_empty());
    assert_eq!(decided_behind(&[one, two.clone()], &policy, &[idle, inside(&two, 2)]), ["uncordon 1"]);
}

#[test]
fn what_an_engine_shows_behind_a_vpn_that_does_not_work_is_not_its_fault() {
    let policy = policy(1, 1, 0, 1);
    let one = vpn(1, 0);
    let silent = Standing::Unhealthy { since: s(500), why: "silent".into() };
    let starting = Standing::Starting { since: s(500) };
    for standing in [silent, starting] {
        let engine = EngineView { standing, cordoned: true, ..inside(&one, 1) };
        let unsure = Health::Unsure { why: "no answer".into() };
        for health in [Health::Down { why: "no answer".into() }, unsure] {
            let tunnel = TunnelView { health, since: s(500), ..one.clone() };
            assert!(decided_behind(&[tunnel], &policy, std::slice::from_ref(&engine)).is_empty());
        }
        // It works again, and the engine has as long as any.
        let back = TunnelView { since: s(980), ..one.clone() };
        assert!(decided_behind(&[back], &policy, std::slice::from_ref(&engine)).is_empty());
        let long_back = TunnelView { since: s(600), ..one.clone() };
        assert_eq!(decided_behind(&[long_back], &policy, &[engine]), ["remove 1"]);
    }
}

#[test]
fn an_engine_that_is_not_where_it_must_be_goes_with_what_plays_on_it() {
    let policy = policy(1, 4, 0, 1);
    let one = vpn(1, 0);
    let busy = EngineView { used: 1, idle_since: None, ..inside(&one, 1) };
    let elsewhere = Namespace::new(format!("{:064x}", 9).parse().unwrap(), "first");
    let joined = one.namespace.clone();
    let homes = [
        Home::Open,
        Home::Inside { container: "host".into(), joined: joined.clone() },
        Home::Inside { container: elsewhere.id().as_str().to_owned(), joined },
        Home::Inside { container: elsewhere.id().as_str().to_owned(), joined: Some(elsewhere) },
    ];
    for home in homes {
        let engine = EngineView { home, ..busy.clone() };
        let decided = decided_behind(std::slice::from_ref(&one), &policy, &[engine]);
        assert_eq!(decided, ["remove 1", "create 2 behind gluetun-1"]);
    }
    // Of a VPN that is named in the settings no more.
    let former = EngineView { used: 1, ..inside(&vpn(3, 0), 1) };
    let decided = decided_behind(&[one], &policy, &[former]);
    assert_eq!(decided, ["remove 1", "create 2 behind gluetun-1"]);
}

#[test]
fn with_another_forwarded_port_the_new_engine_is_there_before_the_old_one_goes() {
    let policy = policy(2, 4, 0, 1);
    let one = TunnelView { forwarded: Some(50_002), ..vpn(1, 0) };
    let behind = std::slice::from_ref(&one);
    let old = EngineView { forwarded: Some(50_001), used: 1, idle_since: None, ..inside(&one, 1) };
    let decided = decided_behind(behind, &policy, &[old.clone(), inside(&one, 2)]);
    assert_eq!(decided, ["cordon 1", "create 3 behind gluetun-1 with 50002"]);
    let new = EngineView { forwarded: Some(50_002), ..inside(&one, 3) };
    let coming = EngineView { standing: Standing::Starting { since: s(999) }, ..new.clone() };
    let shut = EngineView { cordoned: true, ..old.clone() };
    assert!(decided_behind(behind, &policy, &[shut.clone(), inside(&one, 2), coming]).is_empty());
    // Its stream has changed over.
    let left = EngineView { used: 0, idle_since: Some(s(999)), ..shut };
    assert_eq!(decided_behind(behind, &policy, &[left, inside(&one, 2), new]), ["remove 1"]);
    // A port that is lost is no change.
    let none = TunnelView { forwarded: None, ..one.clone() };
    assert!(decided_behind(&[none], &policy, &[old, inside(&one, 2)]).is_empty());
}

#[test]
fn a_forwarded_port_that_comes_late_is_given_to_an_idle_engines_successor_and_cuts_nobody() {
    let policy = policy(2, 4, 0, 1);
    let one = TunnelView { forwarded: Some(50_001), ..vpn(1, 0) };
    let behind = std::slice::from_ref(&one);
    let busy = |place| EngineView { used: 1, idle_since: None, ..inside(&one, place) };
    assert!(decided_behind(behind, &policy, &[busy(1), busy(2)]).is_empty());
    let decided = decided_behind(behind, &policy, &[busy(1), inside(&one, 2)]);
    assert_eq!(decided, ["cordon 2", "create 3 behind gluetun-1 with 50001"]);
}

#[test]
fn a_vpn_that_is_back_for_good_gets_its_share_without_a_stream_being_cut() {
    let policy = policy(2, 4, 0, 1);
    let (one, two) = (vpn(1, 0), vpn(2, 0));
    let all = [inside(&two, 1), inside(&two, 2)];
    let just_back = TunnelView { since: s(975), ..one.clone() };
    assert!(decided_behind(&[just_back, two.clone()], &policy, &all).is_empty());
    let behind = [TunnelView { since: s(960), ..one.clone() }, two.clone()];
    assert_eq!(decided_behind(&behind, &policy, &all), ["cordon 1", "create 3 behind gluetun-1"]);
    let busy = |place| EngineView { used: 1, idle_since: None, ..inside(&two, place) };
    assert!(decided_behind(&behind, &policy, &[busy(1), busy(2)]).is_empty());
    let going = EngineView { cordoned: true, ..inside(&two, 1) };
    let all = [going, inside(&two, 2), inside(&one, 3)];
    assert_eq!(decided_behind(&behind, &policy, &all), ["remove 1"]);
}

#[test]
fn a_vpn_that_lets_nobody_in_starves_no_other_and_opens_no_breaker() {
    let mut model = Model::new(policy(2, 6, 1, 1));
    model.tunnels = vec![vpn(1, 0), vpn(2, 0)];
    model.closed = Some(model.tunnels[1].name.clone());
    for _ in 0..900 {
        model.run(1);
        assert_eq!(model.memory.growth.opens_at(model.now), None, "at {:?}", model.now);
        assert_eq!(model.memory.replacement.opens_at(model.now), None, "at {:?}", model.now);
    }
    let tries = model.created.values().flatten().count();
    assert!(tries <= 2 + 2 * 900 / 300 + 4, "it is tried again and again: {tries} creations");
    model.waiting = 4;
    model.run(60);
    assert_eq!(model.waiting, 0, "the other VPN has engines for all");
    // Its firewall is opened.
    model.closed = None;
    model.settle(900);
    model.assert_converged();
}

#[test]
fn what_comes_to_nothing_behind_every_vpn_opens_the_breaker() {
    let mut model = Model::new(policy(2, 6, 1, 1));
    model.tunnels = vec![vpn(1, 0), vpn(2, 0)];
    model.never_ready = usize::MAX;
    model.run(600);
    assert!(model.memory.growth.failures() >= 5, "{}", model.memory.growth.failures());
}

#[test]
fn a_vpn_whose_engines_came_to_nothing_is_the_last_choice_for_five_minutes() {
    let policy = policy(4, 6, 0, 1);
    let (one, two) = (vpn(1, 0), vpn(2, 0));
    let all = [inside(&two, 1), inside(&two, 2)];
    let behind = [one.clone(), two.clone()];
    let after = |at| planned(&behind, &policy, &all, (0, &[(&one, at)]));
    assert_eq!(created_behind(&after(s(701))), ["gluetun-2"]);
    assert_eq!(created_behind(&after(s(699))), ["gluetun-1"]);
    let only = planned(&behind[..1], &policy, &[], (0, &[(&one, s(990))]));
    assert_eq!(created_behind(&only), ["gluetun-1"], "better than none");
    // Nor does anything give way for it.
    let enough = Policy { min: 2, ..policy };
    assert!(planned(&behind, &enough, &all, (0, &[(&one, s(701))])).actions.is_empty());
    assert_eq!(created_behind(&planned(&behind, &enough, &all, (0, &[(&one, s(699))]))), ["gluetun-1"]);
}

#[test]
fn nothing_gives_way_to_a_vpn_without_a_free_port() {
    let policy = policy(3, 6, 0, 1);
    let (one, two) = (TunnelView { ports: Vec::new(), ..vpn(1, 0) }, vpn(2, 0));
    let all = [inside(&two, 1), inside(&two, 2), inside(&two, 3)];
    let behind = [one.clone(), two.clone()];
    assert!(decided_behind(&behind, &policy, &all).is_empty());
    // The third has.
    let three = vpn(3, 0);
    let with_third = [one, two.clone(), three];
    assert_eq!(decided_behind(&with_third, &policy, &all), ["cordon 1", "create 4 behind gluetun-3"]);
    // It got the last: what has begun is brought to its end.
    let last = TunnelView { ports: Vec::new(), ..vpn(1, 0) };
    let going = EngineView { cordoned: true, ..inside(&two, 1) };
    let all = [going, inside(&two, 2), inside(&two, 3), inside(&last, 4)];
    assert_eq!(decided_behind(&[last, two], &policy, &all), ["remove 1"]);
}

#[test]
fn without_a_free_port_the_setting_to_change_is_named() {
    let full = |tunnel| TunnelView { ports: Vec::new(), ..tunnel };
    let (one, two, three) = (full(vpn(1, 0)), full(vpn(2, 0)), full(vpn(3, 0)));
    let gone = down(&one, s(990));
    for (behind, expected) in [
        (vec![full(direct())], "no port of PORT_RANGE_HOST is free"),
        (vec![one.clone()], "no port of GLUETUN_PORT_RANGE_1 is free"),
        (vec![gone, two.clone()], "no port of GLUETUN_PORT_RANGE_2 is free"),
        (
            vec![one, two, three],
            "no port of GLUETUN_PORT_RANGE_1, GLUETUN_PORT_RANGE_2, GLUETUN_PORT_RANGES is free",
        ),
    ] {
        let held = planned(&behind, &policy(1, 1, 0, 1), &[], (0, &[])).held;
        assert_eq!(held.iter().map(Hold::to_string).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn what_a_dead_vpn_has_stranded_goes_at_once_when_streams_wait_for_its_room() {
    let policy = policy(2, 3, 0, 1);
    let (one, two) = (vpn(1, 0), vpn(2, 0));
    let stranded = |place| EngineView { cordoned: true, ..inside(&one, place) };
    let busy = EngineView { used: 1, idle_since: None, ..inside(&two, 3) };
    let all = [stranded(1), stranded(2), busy];
    let behind = [down(&one, s(990)), two.clone()];
    let gone = removed(&planned(&behind, &policy, &all, (2, &[])));
    assert_eq!(gone.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1], "one makes room for one");
    assert!(removed(&planned(&behind, &policy, &all, (0, &[]))).is_empty(), "nobody waits");
    let roomy = Policy { max: 6, ..policy.clone() };
    assert!(removed(&planned(&behind, &roomy, &all, (2, &[]))).is_empty(), "there is room");
    let both = [down(&one, s(990)), down(&two, s(990))];
    assert!(removed(&planned(&both, &policy, &all, (2, &[]))).is_empty(), "nothing could take its place");
}

#[test]
fn what_is_behind_a_vpn_that_was_taken_out_of_the_settings_goes_at_once_and_is_no_leak() {
    let former = EngineView { used: 1, idle_since: None, ..inside(&vpn(3, 0), 1) };
    let starting = EngineView { standing: Standing::Starting { since: s(999) }, ..former.clone() };
    for behind in [direct(), vpn(1, 0)] {
        for engine in [&former, &starting] {
            let plan = planned(
                std::slice::from_ref(&behind),
                &policy(1, 4, 0, 1),
                std::slice::from_ref(engine),
                (0, &[]),
            );
            let why = "it is behind the VPN gluetun-3, which is in the settings no more".to_owned();
            assert_eq!(removed(&plan), [(1, why)]);
            assert_eq!(
                created_behind(&plan),
                [behind.name.to_string()],
                "another one comes at the same time"
            );
        }
    }
    // Outside of any network but the host's it is one.
    let outside = EngineView { home: Home::Open, ..former };
    let plan = planned(&[vpn(1, 0)], &policy(1, 4, 0, 1), &[outside], (0, &[]));
    assert_eq!(removed(&plan), [(1, "it runs outside of the VPN gluetun-3".to_owned())]);
}

/// Found by the histories above: an engine of an old recipe waited for its turn, the VPN that it is behind was taken for one
/// without engines, and one after the other gave way for it.
#[test]
fn an_engine_that_is_to_be_replaced_anyway_is_no_reason_for_others_to_give_way() {
    let mut model = Model::new(policy(0, 5, 4, 1));
    model.tunnels = (1..=3).map(|number| vpn(number, 0)).collect();
    let shocks = [
        Shock::Forward(0, None),
        Shock::Up(0),
        Shock::Gone(1),
        Shock::StreamGoes(0),
        Shock::Nothing,
        Shock::Nothing,
        Shock::Up(2),
        Shock::Unsure(1),
        Shock::Up(0),
        Shock::NewRecipe,
    ];
    for shock in &shocks {
        model.shock(shock);
        model.run(1);
    }
    calm(&mut model);
    model.run(1500);
    let removed = model.removed.clone();
    model.run(300);
    assert_eq!(model.removed, removed, "a steady world removes nothing");
    model.assert_converged();
    model.assert_balanced();
}
