//! The state of one simulated gluetun, shared by its servers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::GluetunOptions;
use super::auth::Role;
use super::fault::{GluetunFault, GluetunRule};
use super::generation::Generation;

/// Requests remembered; older ones are forgotten.
const REQUESTS: usize = 10_000;

/// How long a tunnel that connects says `starting` before it runs.
const STARTING: Duration = Duration::from_millis(300);

/// What `/v1/vpn/status` can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopStatus {
    /// It connects.
    Starting,
    /// It is connected, as far as it knows.
    Running,
    /// It is being stopped.
    Stopping,
    /// It was stopped.
    Stopped,
    /// The program behind it ended.
    Crashed,
    /// It came to its end.
    Completed,
}

impl LoopStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Completed => "completed",
        }
    }
}

/// What the tunnel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Packets pass.
    Up,
    /// None does: health says so, the port is gone, and the address with it.
    Down,
    /// Down and up in turns, beginning with down, until it is told otherwise.
    Flap {
        /// How long it is down.
        down: Duration,
        /// How long it is up.
        up: Duration,
    },
}

/// Where traffic comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// `public_ip`.
    pub public_ip: String,
    /// Its country.
    pub country: String,
    /// Its region.
    pub region: String,
    /// Its city.
    pub city: String,
    /// Ports that the provider forwards.
    pub ports: Vec<u16>,
}

impl Default for Exit {
    /// An address of documentation, without forwarding.
    fn default() -> Self {
        Self {
            public_ip: "203.0.113.7".to_owned(),
            country: "Portugal".to_owned(),
            region: "Lisbon".to_owned(),
            city: "Lisbon".to_owned(),
            ports: Vec::new(),
        }
    }
}

/// One gluetun's state.
#[derive(Debug)]
pub(super) struct State {
    pub(super) generation: Generation,
    pub(super) roles: Vec<Role>,
    tunnel: Mutex<Tunnel>,
    rules: Mutex<Vec<GluetunRule>>,
    requests: Mutex<Vec<String>>,
    weather: watch::Sender<Weather>,
}

/// What is seen of the tunnel.
#[derive(Clone, Debug)]
pub(super) struct Tunnel {
    /// Whether packets pass.
    pub(super) is_up: bool,
    /// What the control server says.
    pub(super) status: LoopStatus,
    exit: Exit,
}

impl Tunnel {
    /// What is known of the exit: nothing while no packet passes.
    pub(super) fn exit(&self) -> Option<&Exit> {
        self.is_up.then_some(&self.exit)
    }

    pub(super) fn ports(&self) -> &[u16] {
        self.exit().map_or(&[], |exit| &exit.ports)
    }
}

impl State {
    pub(super) fn new(options: &GluetunOptions) -> Self {
        let default = |role: &&Role| role.routes.is_some() || options.generation.has_default_role();
        Self {
            generation: options.generation,
            roles: options.roles.iter().filter(default).cloned().collect(),
            tunnel: Mutex::new(Tunnel {
                is_up: options.connects_after.is_zero(),
                status: if options.connects_after.is_zero() {
                    LoopStatus::Running
                } else {
                    LoopStatus::Starting
                },
                exit: options.exit.clone(),
            }),
            rules: Mutex::default(),
            requests: Mutex::default(),
            weather: watch::Sender::new(Weather::Up),
        }
    }

    pub(super) fn tunnel(&self) -> Tunnel {
        self.tunnel.lock().clone()
    }

    /// Seen by whoever asks from now on.
    pub(super) fn set_weather(&self, weather: Weather) {
        self.set_up(weather == Weather::Up);
        self.weather.send_replace(weather);
    }

    pub(super) fn set_status(&self, status: LoopStatus) {
        self.tunnel.lock().status = status;
    }

    pub(super) fn set_ports(&self, ports: Vec<u16>) {
        self.tunnel.lock().exit.ports = ports;
    }

    pub(super) fn set_exit(&self, exit: Exit) {
        self.tunnel.lock().exit = exit;
    }

    pub(super) fn exit(&self) -> Exit {
        self.tunnel.lock().exit.clone()
    }

    /// Told by `PUT /v1/vpn/status`.
    pub(super) fn turn(&self, on: bool) {
        self.set_weather(if on { Weather::Up } else { Weather::Down });
        self.set_status(if on { LoopStatus::Running } else { LoopStatus::Stopped });
    }

    pub(super) fn add_rule(&self, rule: GluetunRule) {
        self.rules.lock().push(rule);
    }

    pub(super) fn clear_rules(&self) {
        self.rules.lock().clear();
    }

    pub(super) fn rules(&self) -> Vec<GluetunRule> {
        self.rules.lock().clone()
    }

    pub(super) fn fault(&self, path: &str) -> Option<GluetunFault> {
        self.rules.lock().iter().rev().find(|rule| rule.hits(path)).map(|rule| rule.fault.clone())
    }

    pub(super) fn note(&self, request: String) {
        let mut requests = self.requests.lock();
        if requests.len() == REQUESTS {
            requests.remove(0);
        }
        requests.push(request);
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
    }

    fn set_up(&self, up: bool) {
        let mut tunnel = self.tunnel.lock();
        tunnel.is_up = up;
        if up {
            tunnel.status = LoopStatus::Running;
        }
    }
}

/// Connects first, then lets the tunnel go up and down as it is told.
pub(super) async fn follow_weather(state: Arc<State>, connects_after: Duration) {
    let mut told = state.weather.subscribe();
    if !connects_after.is_zero() {
        tokio::select! {
            () = sleep(connects_after.saturating_sub(STARTING)) => {
                sleep(STARTING.min(connects_after)).await;
                state.set_up(true);
            }
            _ = told.changed() => {}
        }
    }
    loop {
        let weather = *told.borrow_and_update();
        let changed = async {
            // The sender is in the state that we hold: it cannot be gone.
            let _ = told.changed().await;
        };
        match weather {
            // Once more: a flap may have turned after the order and before it was heard.
            Weather::Up | Weather::Down => {
                state.tunnel.lock().is_up = weather == Weather::Up;
                changed.await;
            }
            Weather::Flap { down, up } => tokio::select! {
                () = flap(&state, down, up) => {}
                () = changed => {}
            },
        }
    }
}

/// Never ends by itself.
async fn flap(state: &State, down: Duration, up: Duration) {
    loop {
        state.set_up(false);
        sleep(down).await;
        state.set_up(true);
        sleep(up).await;
    }
}
