//! A simulated gluetun: the control server of each generation, the health page, and a tunnel that goes up and down on
//! request. As a container it lends its network namespace to engines, as the real one does.
//!
//! ```text
//!   GluetunOptions ──► SimGluetun ── control server ──► generation (which routes there are, what they say, who may ask)
//!                          │                                  │
//!                          ├── health server ──────────► state (up, down, flapping; address, ports; faults)
//!                          └── script port ────────────►      │
//!                                                             └──► simulated engines that follow it lose their swarms
//! ```
//!
//! It routes no packet. What a dead tunnel does to engines is told by the engines themselves: one that is given the script
//! port ([`SimOptions::tunnel`](crate::SimOptions::tunnel)) gets no media while the tunnel is down.

mod auth;
mod fault;
mod generation;
mod routes;
mod script;
mod state;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::wire::{Connection, Ending, Manners, Request};

pub use auth::{BadRole, Login, Role};
pub use fault::{GluetunFault, GluetunRule};
pub use generation::Generation;
pub use state::{Exit, LoopStatus, Weather};

use state::State;

/// What a simulated gluetun is.
#[derive(Clone, Debug)]
pub struct GluetunOptions {
    /// Its control server (`HTTP_CONTROL_SERVER_ADDRESS`).
    pub listen: SocketAddr,
    /// Its health server (`HEALTH_SERVER_ADDRESS`).
    pub health: SocketAddr,
    /// Where the script is told. Never on the control server's port.
    pub script: SocketAddr,
    /// Which releases it is like.
    pub generation: Generation,
    /// Who may ask for what (`/gluetun/auth/config.toml` and `HTTP_CONTROL_SERVER_AUTH_DEFAULT_ROLE`).
    pub roles: Vec<Role>,
    /// Where its traffic comes out.
    pub exit: Exit,
    /// How long after its start the tunnel is up.
    pub connects_after: Duration,
}

impl Default for GluetunOptions {
    /// On free ports of the loopback address, up at once, the newest generation without roles.
    fn default() -> Self {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            listen: any,
            health: any,
            script: any,
            generation: Generation::Latest,
            roles: Vec::new(),
            exit: Exit::default(),
            connects_after: Duration::ZERO,
        }
    }
}

/// A simulated gluetun on its own ports. Dropping it stops all of its tasks.
#[derive(Debug)]
pub struct SimGluetun {
    state: Arc<State>,
    tasks: TaskTracker,
    stop: CancellationToken,
    addr: SocketAddr,
    health_addr: SocketAddr,
    script_addr: SocketAddr,
}

impl SimGluetun {
    /// Opens its ports and answers.
    ///
    /// # Errors
    ///
    /// When a port cannot be opened.
    pub async fn start(options: GluetunOptions) -> io::Result<Self> {
        let control = TcpListener::bind(options.listen).await?;
        let health = TcpListener::bind(options.health).await?;
        let script = TcpListener::bind(options.script).await?;
        let gluetun = Self {
            addr: control.local_addr()?,
            health_addr: health.local_addr()?,
            script_addr: script.local_addr()?,
            state: Arc::new(State::new(&options)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        gluetun.serve(control, Page::Control);
        gluetun.serve(health, Page::Health);
        gluetun.serve(script, Page::Script);
        gluetun.spawn(state::follow_weather(Arc::clone(&gluetun.state), options.connects_after));
        Ok(gluetun)
    }

    /// The control server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The health server.
    pub fn health_addr(&self) -> SocketAddr {
        self.health_addr
    }

    /// The script port.
    pub fn script_addr(&self) -> SocketAddr {
        self.script_addr
    }

    /// The tunnel goes up, goes down, or flaps.
    pub fn set_weather(&self, weather: Weather) {
        self.state.set_weather(weather);
    }

    /// What `/v1/vpn/status` says from now on, whatever the tunnel does.
    pub fn set_status(&self, status: LoopStatus) {
        self.state.set_status(status);
    }

    /// The ports that the provider forwards from now on; none is "not yet".
    pub fn set_ports(&self, ports: &[u16]) {
        self.state.set_ports(ports.to_vec());
    }

    /// Where its traffic comes out from now on.
    pub fn set_exit(&self, exit: Exit) {
        self.state.set_exit(exit);
    }

    /// Lets a fault apply until all are cleared; the newest that matches a request wins.
    pub fn set_fault(&self, rule: GluetunRule) {
        self.state.add_rule(rule);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.state.clear_rules();
    }

    /// The requests that the control server got, in order: `GET /v1/portforward 200`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests()
    }

    /// Ends everything and waits for it.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn serve(&self, listener: TcpListener, page: Page) {
        let (state, tasks, stop) = (Arc::clone(&self.state), self.tasks.clone(), self.stop.clone());
        self.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (state, stop) = (Arc::clone(&state), stop.clone());
                        let talk = async move { converse(&state, page, stream, peer).await };
                        tasks.spawn(async move { stop.run_until_cancelled(talk).await });
                    }
                    // Out of descriptors: those in use come back.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(task).await });
    }
}

impl Drop for SimGluetun {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs one simulated gluetun until `stop` resolves, then ends it in order.
///
/// # Errors
///
/// When a port cannot be opened.
pub async fn run_gluetun(options: GluetunOptions, stop: impl Future<Output = ()>) -> io::Result<()> {
    let gluetun = SimGluetun::start(options).await?;
    tracing::info!(addr = %gluetun.addr(), script = %gluetun.script_addr(), "simulated gluetun answers");
    stop.await;
    gluetun.shutdown().await;
    Ok(())
}

/// Which of its servers a connection came to.
#[derive(Clone, Copy, Debug)]
enum Page {
    Control,
    Health,
    Script,
}

async fn converse(state: &State, page: Page, stream: TcpStream, peer: SocketAddr) {
    let mut connection = Connection::new(stream, peer.ip(), Manners::PLAIN);
    let mut ending = Ending::Close;
    while let Some(request) = connection.request().await {
        ending = answer(state, page, &mut connection, &request).await;
        if ending != Ending::KeepAlive {
            break;
        }
    }
    connection.end(ending);
}

async fn answer(state: &State, page: Page, connection: &mut Connection, request: &Request) -> Ending {
    let Some(body) = connection.body(request).await else { return Ending::Close };
    match page {
        Page::Control => routes::answer(state, connection, request, &body).await,
        Page::Health => connection.send(request, routes::health(state, request)).await,
        Page::Script => connection.send(request, script::answer(state, request, &body)).await,
    }
}
