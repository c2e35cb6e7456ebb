//! One look at a gluetun container: everybody who knows something is asked at once, and what was known before fills the
//! gaps.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Endpoint;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::Settings;
use super::advice::{self, Failure};
use super::auth::{self, Credentials};
use super::client::{Answer, Client};
use super::health::{self, Control, Evidence, Judge, Shown, Sign, Witnesses};
use super::port::Forwarded;
use super::provider;
use super::reply::{LoopStatus, Place};
use crate::ident::DockerName;
use crate::member::{self, Member};
use crate::provisioner::{ProvisionError, Provisioner, VpnContainer};
use crate::tunnel::exit::Exit;
use crate::tunnel::{Namespace, Report};

/// gluetun's own variable for where its control server listens, and the port when it says nothing.
const CONTROL_ADDRESS: &str = "HTTP_CONTROL_SERVER_ADDRESS";
const CONTROL_PORT: u16 = 8000;
/// Engines asked in one look. What one of them says about the network holds for all.
const WITNESSES: usize = 3;
/// Longest wait for an engine.
const ENGINE: Duration = Duration::from_secs(2);
/// Longest wait for a connection to an engine: it is on this machine.
const CONNECT: Duration = Duration::from_secs(1);
/// An address and a port are asked for at least so often, whatever the setting.
const ASKED_AT_LEAST: Duration = Duration::from_secs(30);
/// How long an address is believed that is not told again: a VPN that reconnects has another one, and an old one proves
/// nothing.
const PLACE_LASTS: Duration = Duration::from_mins(1);
/// What runs for so long after it was told to end has decided otherwise. Docker's own grace is 10 s.
const ENDING_LASTS: Duration = Duration::from_secs(20);
/// More than acknowledgements and keep-alives: 64 kbit/s, the least that a radio stream has.
const RECEIVING: f64 = 8_000.0;

/// Whom one look asks.
pub(super) struct Look<'a> {
    pub(super) name: &'a DockerName,
    pub(super) settings: &'a Settings,
    pub(super) provisioner: &'a dyn Provisioner,
    pub(super) inside: Vec<Arc<Member>>,
}

/// What one look has found.
pub(super) struct Found {
    container: Result<Option<VpnContainer>, ProvisionError>,
    credentials: Credentials,
    told: Option<Told>,
    witnesses: Witnesses,
    received: Option<u64>,
    unreached: Option<String>,
}

/// What the control server told.
struct Told {
    status: Answer<LoopStatus>,
    /// None: not asked this time.
    place: Option<Answer<Place>>,
    port: Option<Answer<Option<u16>>>,
}

impl Found {
    /// Of a look that took too long: nobody has said anything.
    pub(super) fn nothing(memory: &Memory, settings: &Settings) -> Self {
        let why = "nothing was heard of it in time";
        let known = memory.container.as_ref();
        let told = Told { status: Answer::Unknown(why.to_owned()), place: None, port: None };
        Self {
            container: Err(ProvisionError::Unreachable { detail: why.to_owned() }),
            credentials: known
                .map(|container| Credentials::of(&settings.credentials, &container.env))
                .unwrap_or_default(),
            told: Some(told),
            witnesses: Witnesses::default(),
            received: None,
            unreached: None,
        }
    }
}

impl Look<'_> {
    /// Asks the daemon, then everybody else at once.
    pub(super) async fn take(&self, memory: &Memory, now: Instant) -> Found {
        let container = self.provisioner.vpn(self.name).await;
        // A daemon that does not answer does not move a container.
        let present = match &container {
            Ok(present) => present.as_ref(),
            Err(_) => memory.container.as_ref(),
        };
        let running = present.filter(|container| container.is_running());
        let credentials = running
            .map(|container| Credentials::of(&self.settings.credentials, &container.env))
            .unwrap_or_default();
        let asks_all = running.is_some_and(|container| memory.asks_all(container, self.settings, now));
        let address = running.and_then(|container| self.control(container));
        let (told, mut witnesses, unreached) = tokio::join!(
            self.ask_control(address, &credentials, asks_all),
            ask_engines(&self.inside),
            self.reach(running),
        );
        let received = self.received();
        witnesses.is_receiving = memory.is_receiving(received, now);
        Found { container, credentials, told, witnesses, received, unreached }
    }

    /// Where the control server of a container listens.
    pub(super) fn control(&self, container: &VpnContainer) -> Option<SocketAddr> {
        let told = container.env.get(CONTROL_ADDRESS).and_then(|address| address.rsplit_once(':'));
        let told = told.and_then(|(_, port)| port.parse().ok());
        let port = self.settings.control_port.or(told).unwrap_or(CONTROL_PORT);
        Some(SocketAddr::new(*container.addresses.first()?, port))
    }

    async fn ask_control(
        &self,
        address: Option<SocketAddr>,
        credentials: &Credentials,
        all: bool,
    ) -> Option<Told> {
        let client = Client::new(address?, credentials.clone());
        let place = async { if all { Some(client.place().await) } else { None } };
        let port = async { if all { Some(client.port().await) } else { None } };
        let (status, place, port) = tokio::join!(client.status(), place, port);
        Some(Told { status, place, port })
    }

    /// What the namespace has received since it began, as its engines' containers count it.
    fn received(&self) -> Option<u64> {
        self.inside.iter().filter_map(|member| Some(member.knowledge().usage?.network_rx)).max()
    }

    /// Why an engine inside is not reached, when it is gluetun that lacks something.
    async fn reach(&self, running: Option<&VpnContainer>) -> Option<String> {
        let container = running?;
        let silent =
            self.inside.iter().find(|member| member.knowledge().health != member::Health::Healthy)?;
        let endpoint = silent.engine.endpoint();
        let failure = knock(endpoint).await?;
        let address = container.addresses.first().copied()?;
        advice::firewall(failure, &container.env, our_address(address).await, address, endpoint.port())
    }
}

/// What healthy engines say about their network. One that does not answer says nothing.
pub(in crate::tunnel) async fn ask_engines(inside: &[Arc<Member>]) -> Witnesses {
    let healthy = inside.iter().filter(|member| member.knowledge().health == member::Health::Healthy);
    let answers =
        join_all(healthy.take(WITNESSES).map(|member| timeout(ENGINE, member.engine.is_connected())));
    let mut witnesses = Witnesses::default();
    for answer in answers.await {
        match answer {
            Ok(Ok(Some(true))) => witnesses.connected += 1,
            Ok(Ok(Some(false))) => witnesses.cut_off += 1,
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
    witnesses
}

/// How a connection fails; `None` when it does not.
async fn knock(endpoint: &Endpoint) -> Option<Failure> {
    match timeout(CONNECT, TcpStream::connect((endpoint.host(), endpoint.port()))).await {
        Ok(Ok(_)) => None,
        Ok(Err(_)) => Some(Failure::Refused),
        Err(_) => Some(Failure::Silence),
    }
}

/// Which of our addresses packets to `address` leave from. Nothing is sent.
async fn our_address(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect((address, 9)).await.ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

fn ending() -> Sign {
    Sign::Dead("its container is ending".to_owned())
}

/// What is known from look to look.
#[derive(Debug)]
pub(super) struct Memory {
    judge: Judge,
    container: Option<VpnContainer>,
    namespace: Option<Namespace>,
    forwarded: Forwarded,
    place: Place,
    /// When it told its place last.
    placed: Option<Instant>,
    forwarded_since: Option<Timestamp>,
    status: Option<LoopStatus>,
    asked_all: Option<Instant>,
    received: Option<(Instant, u64)>,
    /// The network whose container was told to end, and when.
    ending: Option<(Namespace, Instant)>,
    /// Routes that are closed to us.
    closed: Vec<&'static str>,
}

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            judge: Judge::new(now),
            container: None,
            namespace: None,
            forwarded: Forwarded::default(),
            place: Place::default(),
            placed: None,
            forwarded_since: None,
            status: None,
            asked_all: None,
            received: None,
            ending: None,
            closed: Vec::new(),
        }
    }

    /// Whether the next look should come soon.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.judge.is_in_doubt()
    }

    /// Whether address and port are asked for: while one is unknown, after a change, and from time to time.
    fn asks_all(&self, container: &VpnContainer, settings: &Settings, now: Instant) -> bool {
        let ttl = settings.port_ttl.min(ASKED_AT_LEAST);
        let is_new = self.namespace.as_ref() != Some(&container.namespace());
        let is_old = self.asked_all.is_none_or(|asked| now.duration_since(asked) >= ttl);
        let wants_port = container.env.get("VPN_PORT_FORWARDING").is_some_and(|value| value == "on");
        let lacks = self.place.address.is_none() || (wants_port && self.forwarded.port().is_none());
        is_new || is_old || self.is_in_doubt() || (lacks && self.closed.is_empty())
    }

    fn is_receiving(&self, received: Option<u64>, now: Instant) -> bool {
        let (Some(received), Some((since, before))) = (received, self.received) else { return false };
        let seconds = now.duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate in bytes a second needs no 53 bits")]
        let rate = received.saturating_sub(before) as f64 / seconds.max(0.1);
        seconds > 0.5 && rate >= RECEIVING
    }

    /// Takes a look in and says what is known now.
    pub(super) fn judge(&mut self, found: Found, now: Instant) -> Report {
        let Found { container, credentials, told, witnesses, received, unreached } = found;
        let shown = self.take_container(container, now);
        let control = self.take_told(told, now);
        let sign = health::sign(&Evidence { container: shown, control, engines: witnesses });
        // What still runs then, and looks well, is what its grace is for.
        let is_ending = self.is_ending(now) && !matches!(sign, Sign::Dead(_));
        self.judge.see(if is_ending { ending() } else { sign }, now);
        self.take_received(received, now);
        Report {
            health: self.judge.health().clone(),
            since: self.judge.since(),
            container: self.container.clone(),
            forwarded: self.forwarded.port(),
            exit: self.exit(&credentials, unreached, now),
        }
    }

    /// Its container was told to end: its tunnel goes first, and engines inside have no network from now on.
    /// Unless it has been started again since.
    pub(super) fn told_to_end(&mut self, at: Timestamp, now: Instant) -> &Judge {
        let known = self.container.as_ref().filter(|container| container.is_running());
        if let Some(container) = known.filter(|container| container.is_older_than(at)) {
            self.ending = Some((container.namespace(), now));
            self.judge.see(ending(), now);
        }
        &self.judge
    }

    fn is_ending(&self, now: Instant) -> bool {
        let ending = self.ending.as_ref().filter(|(_, told)| now.duration_since(*told) < ENDING_LASTS);
        ending.is_some_and(|(namespace, _)| self.namespace.as_ref() == Some(namespace))
    }

    /// Another network is another life: what was known of the last one is forgotten, and engines in it are dead.
    fn take_container(
        &mut self,
        container: Result<Option<VpnContainer>, ProvisionError>,
        now: Instant,
    ) -> Shown {
        let Ok(container) = container else { return Shown::Unknown };
        let namespace =
            container.as_ref().filter(|container| container.is_running()).map(VpnContainer::namespace);
        if let (Some(before), Some(now_there)) = (&self.namespace, &namespace)
            && before != now_there
        {
            self.judge.see(Sign::Dead("its container was started anew".to_owned()), now);
            self.forget_exit();
        }
        // What does not run has no exit.
        if namespace.is_none() {
            self.forget_exit();
        }
        self.namespace = namespace.or(self.namespace.take());
        self.container = container;
        self.container
            .as_ref()
            .map_or(Shown::Absent, |present| Shown::Present { state: present.state, check: present.check })
    }

    fn forget_exit(&mut self) {
        (self.forwarded, self.place) = (Forwarded::default(), Place::default());
        (self.forwarded_since, self.status, self.asked_all, self.placed) = (None, None, None, None);
        self.received = None;
        self.closed.clear();
    }

    fn take_told(&mut self, told: Option<Told>, now: Instant) -> Control {
        let Some(Told { status, place, port }) = told else { return Control::NotAsked };
        if place.is_some() {
            self.asked_all = Some(now);
            self.closed.clear();
            let place = place.as_ref().and_then(Answer::closed);
            let port = port.as_ref().and_then(Answer::closed);
            self.closed.extend([status.closed(), place, port].into_iter().flatten());
        }
        if let Some(Answer::Says(place)) = place {
            (self.place, self.placed) = (place, Some(now));
        }
        if let Some(port) = port {
            self.take_port(&port, now);
        }
        // What a reconnected VPN has may be another address and another port.
        if self.status != status.said().copied() {
            self.asked_all = None;
        }
        self.status = status.said().copied();
        match status {
            Answer::Says(status) => Control::Says(status),
            Answer::Closed { .. } => Control::Closed,
            Answer::Unknown(why) => Control::Silent(why),
        }
    }

    fn take_port(&mut self, port: &Answer<Option<u16>>, now: Instant) {
        let before = self.forwarded.port();
        self.forwarded.see(port, now);
        if self.forwarded.port() != before {
            self.forwarded_since = self.forwarded.port().map(|_| Timestamp::now());
        }
    }

    /// Samples closer than a second apart say nothing.
    fn take_received(&mut self, received: Option<u64>, now: Instant) {
        let is_due =
            self.received.is_none_or(|(since, _)| now.duration_since(since) >= Duration::from_secs(1));
        if is_due {
            self.received = received.map(|received| (now, received));
        }
    }

    fn exit(&self, credentials: &Credentials, unreached: Option<String>, now: Instant) -> Exit {
        let is_fresh = self.placed.is_some_and(|placed| now.duration_since(placed) <= PLACE_LASTS);
        let place = is_fresh.then(|| self.place.clone());
        let Place { address, country, region, city } = place.unwrap_or_default();
        let env = self.container.as_ref().map(|container| &container.env);
        let provider = env.and_then(|env| env.get("VPN_SERVICE_PROVIDER"));
        let role = (!self.closed.is_empty()).then(|| auth::role_to_add(&self.closed, credentials));
        let flaps = self.judge.is_flapping(now).then(|| {
            "it goes down again and again: after each time it must be good for longer before it is used"
                .to_owned()
        });
        Exit {
            address,
            country,
            region,
            city,
            provider: provider.and_then(|key| provider::name(key)),
            forwarded_since: self.forwarded_since,
            looked_at: Some(Timestamp::now()),
            advice: [role, unreached, flaps].into_iter().flatten().collect(),
        }
    }
}
