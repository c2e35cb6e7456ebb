//! Everything put together: which parts there are, who owns them, in which order they start and stop.
//!
//! [`Service::build`] makes the parts and binds the listener; nothing runs yet. [`Service::run`] runs them until told
//! to stop. Order of a stop: `/readyz` says 503 and accepting ends, streams end so that their bodies finish, playbacks
//! are closed on their engines, and a hard deadline stands around all of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Identities;
use acemux_relay::session::state::Timings;
use acemux_relay::{Relay, RelayConfig};
use axum::Router;
use axum::extract::FromRef;
use axum::routing::get;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{engines as engine_pages, health, proxy};
use crate::auth::Gate;
use crate::client::TrustedProxies;
use crate::config::{Config, ListenHost};
use crate::edge::edge;
use crate::engines::Engines;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::origins::EngineOrigin;
use crate::play::getstream;
use crate::probe;
use crate::serve::{ServeOptions, serve};

/// Between a deadline inside and the one around it.
const GRACE: Duration = Duration::from_secs(4);

/// What every request handler may use.
#[derive(Clone)]
pub struct App {
    /// The data plane.
    pub relay: Relay,
    /// How streams are named and opened.
    pub origin: EngineOrigin,
    /// The engines.
    pub engines: Arc<Engines>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the service is told to stop.
    pub stop: CancellationToken,
    /// When the service was built.
    pub began: Instant,
    trusted: TrustedProxies,
    gate: Arc<Gate>,
}

/// The service, ready to run.
pub struct Service {
    app: App,
    listener: TcpListener,
    options: ServeOptions,
}

impl FromRef<App> for TrustedProxies {
    fn from_ref(app: &App) -> Self {
        app.trusted.clone()
    }
}

impl App {
    fn new(config: &Config, stop: CancellationToken) -> Self {
        let metrics = Arc::new(Metrics::default());
        let engines = &config.engines;
        let engines = Engines::external(&engines.external, engines.max_streams_per_engine, &timings(config));
        let identities = Arc::new(Identities::default());
        let origin = EngineOrigin::new(Arc::clone(&engines), identities, config.engines.selection_timeout);
        let journal = Arc::new(Journal::new(Arc::clone(&metrics)));
        let relay = Relay::new(relay_config(config), Arc::new(origin.clone()), journal);
        let trusted = config.viewers.trusted_proxies.clone();
        let gate = Arc::new(Gate::new(config.api_key.clone()));
        Self { relay, origin, engines, metrics, stop, began: Instant::now(), trusted, gate }
    }

    /// Who may do more than watch.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Every page.
    pub fn router(&self) -> Router {
        let stream = || get(getstream::play).head(getstream::head).options(getstream::preflight);
        let pages = Router::new()
            .route("/proxy/status", get(proxy::status))
            .route("/proxy/sessions", get(proxy::sessions))
            .route("/proxy/sessions/{id}", get(proxy::session))
            .route("/proxy/sessions/{id}/viewers", get(proxy::viewers))
            .route("/engines", get(engine_pages::list))
            .route("/engines/{id}", get(engine_pages::one))
            .route("/health", get(health::health));
        let router = Router::new()
            .route("/ace/getstream", stream())
            .route("/ace/getstream/", stream())
            .route("/ace/getstream.ts", stream())
            .route("/livez", get(health::livez))
            .route("/readyz", get(health::readyz))
            .route("/metrics", get(health::metrics))
            .merge(pages.clone())
            .nest("/api/v1", pages)
            .with_state(self.clone());
        edge(router)
    }
}

impl Service {
    /// Makes every part and binds the listener.
    pub fn build(config: &Config, stop: CancellationToken) -> std::io::Result<Self> {
        let listener = listen(config.listen.host, config.listen.port)?;
        Ok(Self { app: App::new(config, stop), listener, options: serve_options(config) })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The parts, for pages and tests.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs until the service is told to stop, then ends everything in order.
    pub async fn run(self) {
        let tasks = TaskTracker::new();
        let Self { app, listener, options } = self;
        tasks.spawn(probe::run(Arc::clone(&app.engines), app.stop.clone()));
        let deadline = options.drain_timeout + GRACE;
        let serving = tasks.spawn(serve(listener, app.router(), options, app.stop.clone()));
        app.stop.cancelled().await;
        tracing::info!("stopping: no new viewers, streams end");
        let finish = async {
            app.relay.shutdown().await;
            for member in app.engines.all() {
                member.engine.drain(GRACE).await;
            }
            // An error means the accept loop panicked; its connections are gone with it.
            let _ended = serving.await;
            tasks.close();
            tasks.wait().await;
        };
        if timeout(deadline, finish).await.is_err() {
            tracing::warn!(seconds = deadline.as_secs(), "not everything ended in time");
        }
    }
}

/// An engine may be silent for the whole budget of a start; the session's own deadline must come first, because it says
/// what was waited for.
fn timings(config: &Config) -> acemux_engine::Timings {
    let start = config.streams.empty_stream_timeout + GRACE;
    acemux_engine::Timings { start, ..acemux_engine::Timings::default() }
}

fn relay_config(config: &Config) -> RelayConfig {
    let streams = &config.streams;
    RelayConfig {
        timings: Timings {
            start_budget: streams.empty_stream_timeout,
            idle: streams.idle_timeout,
            hold: streams.hold_timeout,
            abandon: Duration::from_secs(1),
        },
        chunk_bytes: streams.chunk_bytes,
        join_burst: streams.join_burst,
        ring_media: streams.buffer_seconds,
        ring_bytes: streams.buffer_bytes,
        memory: streams.memory,
        most_viewers: config.viewers.max,
        most_viewers_per_address: config.viewers.per_ip,
    }
}

fn serve_options(config: &Config) -> ServeOptions {
    let viewers = &config.viewers;
    ServeOptions {
        header_timeout: config.listen.header_timeout,
        stall_timeout: viewers.stall_timeout,
        send_buffer: viewers.sndbuf,
        max_connections: config.listen.max_connections,
        max_connections_per_ip: viewers.per_ip + PAGES_PER_ADDRESS,
        trusted_proxies: viewers.trusted_proxies.clone(),
        drain_timeout: config.listen.drain_timeout,
        ..ServeOptions::default()
    }
}

/// Connections for pages that one address may have beside its viewers.
const PAGES_PER_ADDRESS: usize = 64;

/// Connections that wait in the kernel to be accepted: a herd of players at kick-off, not a backlog of work.
const BACKLOG: i32 = 1024;

/// All addresses means IPv6 and IPv4 on one socket, or IPv4 alone on machines without IPv6.
fn listen(host: ListenHost, port: u16) -> std::io::Result<TcpListener> {
    match host {
        ListenHost::Address(address) => bind(SocketAddr::new(address, port)),
        ListenHost::All => bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
            .or_else(|_| bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
