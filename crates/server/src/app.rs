//! Everything put together: which parts there are, who owns them, in which order they start and stop.
//!
//! [`Service::build`] makes the parts and binds the listener; nothing runs yet. [`Service::run`] runs them until told
//! to stop, or until one has ended that it cannot do without ([`crate::supervise`]). Order of a stop: `/readyz` says 503
//! and accepting ends, streams end so that their bodies finish, playbacks are closed on their engines, and a hard deadline
//! stands around all of it; then the store is closed, which has its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::Identities;
use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::{Fleet, FleetTask};
use acemux_fleet::ident::InstanceId;
use acemux_fleet::probe;
use acemux_fleet::provisioner::{ProvisionError, Provisioner};
use acemux_fleet::tunnel::Tunnel;
use acemux_relay::Relay;
use acemux_store::{OpenError, Store, StoreError};
use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use futures_util::future::{BoxFuture, join_all};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use utoipa_axum::routes;

use crate::config::Config;
use crate::http::api::{
    channels, custom, docs, doctor, engines as engine_pages, events, fleet as fleet_pages, health, history,
    live, logins, loops, names, proxy, settings as settings_pages, status, streams, vpn as vpn_pages,
};
use crate::http::auth::Gate;
use crate::http::client::TrustedProxies;
use crate::http::edge::{Doors, edge};
use crate::http::hosts::Hosts;
use crate::http::key::Key;
use crate::http::logins::Logins;
use crate::http::panel;
use crate::http::play::token::Signer;
use crate::http::play::{getstream, hls, status as play_status};
use crate::http::serve::{Server, bind, listen};
use crate::http::status_page;
use crate::http::surface::{Class, Pages, Surface};
use crate::http::unnamed::Unnamed;
use crate::planes::channels::ChannelNames;
use crate::planes::custom::{Custom, Recipes};
use crate::planes::evacuation;
use crate::planes::follow::{self, Followers};
use crate::planes::live::Live;
use crate::planes::loops::Loops;
use crate::planes::names::Names;
use crate::planes::origins::EngineOrigin;
use crate::planes::reported::Reported;
use crate::planes::settings::Settings;
use crate::planes::vpn::Vpns;
use crate::planes::{claim, scaling, setup};
use crate::record::archive::{Archive, PlaybackJournal};
use crate::record::audit;
use crate::record::logging;
use crate::record::metrics::Metrics;
use crate::record::recorder::Recorder;
use crate::shutdown;
use crate::supervise::{Essential, Failure, Outages, Renewable, Supervisor};

/// All parts. They are known together in this file only: a page takes those that it needs.
#[derive(Clone)]
pub struct App {
    /// The data plane.
    pub relay: Relay,
    /// How streams are named and opened.
    pub origin: EngineOrigin,
    /// The engines.
    pub engines: Arc<Engines>,
    /// Who creates engines, if anybody does.
    pub fleet: Option<Fleet>,
    /// The VPNs that engines hide behind, in the settings' order, or their proxy.
    pub tunnels: Arc<[Arc<dyn Tunnel>]>,
    /// What pages say of VPNs.
    pub vpns: Vpns,
    /// Streams that other programs run on our engines.
    pub reported: Arc<Reported>,
    /// Channels that play their end again and again.
    pub loops: Arc<Loops>,
    /// Takes note of what happens.
    pub recorder: Arc<Recorder>,
    /// What engines are made from.
    pub recipes: Option<Arc<Recipes>>,
    /// Who knows the containers of our engines.
    pub containers: engine_pages::Containers,
    /// What the doctor looks at.
    pub surgery: doctor::Surgery,
    /// What changes, for pages that stay open.
    pub live: Arc<Live>,
    /// The custom variant.
    pub custom: Arc<Custom>,
    /// What outlives a restart.
    pub store: Store,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the service stops.
    pub stop: CancellationToken,
    /// What does not run at this moment.
    pub outages: Arc<Outages>,
    /// When the service was built.
    pub began: Instant,
    /// The settings, in force and kept.
    pub settings: Arc<Settings>,
    /// What operators call viewers.
    pub names: Arc<Names>,
    /// What operators call channels.
    pub channel_names: Arc<ChannelNames>,
    /// What is said of all pages.
    pub described: docs::Described,
    signer: Signer,
    trusted: TrustedProxies,
    gate: Arc<Gate>,
    hosts: Hosts,
}

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The settings for Docker cannot be used.
    #[error(transparent)]
    Docker(#[from] ProvisionError),
    /// The data directory or the database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is made before the rest.
struct Parts {
    metrics: Arc<Metrics>,
    recorder: Arc<Recorder>,
    engines: Arc<Engines>,
    fleet: Option<Fleet>,
    containers: engine_pages::Containers,
    tunnels: Vec<Arc<dyn Tunnel>>,
    recipes: Option<Arc<Recipes>>,
    custom: Arc<Custom>,
    loops: Arc<Loops>,
    identities: Arc<Identities>,
    playbacks: Arc<PlaybackJournal>,
    store: Store,
    kept_instance: Option<String>,
    gate: Gate,
    settings: Arc<Settings>,
    names: Arc<Names>,
    channel_names: Arc<ChannelNames>,
}

impl Parts {
    async fn new(config: &Config) -> Result<Self, BuildError> {
        let archive = Archive::open(&config.db_path)?;
        let playbacks = archive.journal().await?;
        let identities = Arc::new(archive.identities().await?);
        let metrics = Arc::new(Metrics::default());
        let Archive { store, instance: kept_instance } = archive;
        let settings = Arc::new(Settings::load(config, store.clone()).await);
        let config = &*settings.config();
        logging::set_level(config.log.level);
        // Before anything is recorded: what is to be kept for long must not be deleted by the usual rule.
        follow::remember(&store, config).await;
        let key = Key::find_or_make(config);
        key.log(config.without_key);
        let logins = Logins::load(store.clone(), &key).await?;
        let gate = Gate::new(key, config.without_key, metrics.keys.clone(), logins);
        let recorder = Arc::new(Recorder::new(Arc::clone(&metrics), store.clone()));
        let engines = setup::engines(config, Some(Arc::clone(&playbacks) as _));
        let custom = Arc::new(Custom::load(store.clone()).await?);
        let names = Arc::new(Names::load(store.clone()).await);
        let channel_names = Arc::new(ChannelNames::load(store.clone(), Arc::clone(&identities)).await);
        let loops = Arc::new(Loops::load(config.loops, store.clone()).await?);
        Ok(Self {
            metrics,
            recorder,
            engines,
            fleet: None,
            containers: engine_pages::Containers(None),
            tunnels: Vec::new(),
            recipes: None,
            custom,
            loops,
            identities,
            playbacks,
            store,
            kept_instance,
            gate,
            settings,
            names,
            channel_names,
        })
    }

    async fn create_fleet(
        &mut self,
        config: &Config,
        recipes: Recipes,
        provisioner: Arc<dyn Provisioner>,
    ) -> FleetTask {
        self.containers = engine_pages::Containers(Some(Arc::clone(&provisioner)));
        let recipe = recipes.current(&*self.custom.state().await);
        let floor = scaling::kept(&self.store, config.fleet.min_replicas).await;
        let (engines, observer) = (Arc::clone(&self.engines), Arc::clone(&self.recorder));
        let vpns = setup::vpns(config, &provisioner, &engines);
        let tunnels = vpns.iter().map(|vpn| Arc::clone(&vpn.tunnel));
        self.tunnels = tunnels.chain(setup::proxy(config, &engines)).collect();
        let (fleet, task) = setup::fleet(config, recipe, vpns, floor, engines, provisioner, observer);
        (self.fleet, self.recipes) = (Some(fleet), Some(Arc::new(recipes)));
        task
    }

    /// Whose engines are ours: what the settings say, else what is kept beside the database, else nobody's before.
    fn instance(&self, config: &Config) -> InstanceId {
        let kept = self.kept_instance.as_ref().and_then(|id| id.parse().ok());
        let random =
            || format!("{:032x}", rand::random::<u128>()).parse().expect("32 hex digits are an instance id");
        config.fleet.instance.clone().or(kept).unwrap_or_else(random)
    }
}

/// The service, ready to run.
pub struct Service {
    app: App,
    fleet: Option<FleetTask>,
    playbacks: Arc<PlaybackJournal>,
    listener: TcpListener,
    address: SocketAddr,
    engines_named: usize,
    /// `STOP_ENGINES_ON_EXIT` is off.
    leaves_engines: bool,
}

/// Pages take what they need and no more.
macro_rules! parts {
    ($($part:ident: $type:ty),* $(,)?) => {
        $(impl FromRef<App> for $type {
            fn from_ref(app: &App) -> Self {
                app.$part.clone()
            }
        })*
    };
}

parts! {
    relay: Relay,
    origin: EngineOrigin,
    engines: Arc<Engines>,
    fleet: Option<Fleet>,
    reported: Arc<Reported>,
    loops: Arc<Loops>,
    recorder: Arc<Recorder>,
    recipes: Option<Arc<Recipes>>,
    custom: Arc<Custom>,
    store: Store,
    vpns: Vpns,
    live: Arc<Live>,
    containers: engine_pages::Containers,
    surgery: doctor::Surgery,
    stop: CancellationToken,
    trusted: TrustedProxies,
    gate: Arc<Gate>,
    settings: Arc<Settings>,
    names: Arc<Names>,
    channel_names: Arc<ChannelNames>,
    described: docs::Described,
}

/// The same for pages that look at much at once.
macro_rules! views {
    ($($view:path { $($part:ident),* })*) => {
        $(impl FromRef<App> for $view {
            fn from_ref(app: &App) -> Self {
                Self { $($part: app.$part.clone()),* }
            }
        })*
    };
}

views! {
    getstream::Channels { relay, origin, loops, signer }
    health::Condition { relay, engines, fleet, outages, stop, began }
    proxy::Streams { relay, origin, engines, vpns, names, channel_names }
    health::Counted { metrics, relay, origin, vpns, fleet }
    status::Overview { relay, engines, fleet, vpns, settings, channel_names }
}

impl App {
    fn new(config: &Config, parts: Parts, stop: CancellationToken) -> Self {
        let Parts {
            metrics,
            recorder,
            engines,
            fleet,
            containers,
            tunnels,
            recipes,
            custom,
            loops,
            identities,
            store,
            gate,
            settings,
            names,
            channel_names,
            ..
        } = parts;
        let origin = EngineOrigin::new(Arc::clone(&engines), identities);
        let observer = Arc::clone(&recorder);
        let relay = Relay::new(setup::relay(config), Arc::new(origin.clone()), observer);
        let reported = Arc::default();
        let trusted = config.viewers.trusted_proxies.clone();
        let began = Instant::now();
        let vpns = Vpns::new(config, &tunnels, fleet.clone());
        let titles = Arc::clone(&channel_names);
        let live = Arc::new(live::source(relay.clone(), Arc::clone(&engines), vpns.clone(), titles));
        recorder.tell(&live);
        Self {
            relay,
            origin,
            engines,
            vpns,
            live,
            containers,
            surgery: doctor::Surgery::new(Arc::clone(&settings)),
            fleet,
            tunnels: tunnels.into(),
            reported,
            loops,
            recorder,
            recipes,
            custom,
            store,
            metrics,
            stop,
            outages: Arc::default(),
            began,
            settings,
            names,
            channel_names,
            described: docs::Described::new(|| surface().document()),
            signer: Signer::find_or_make(&config.db_path),
            trusted,
            gate: Arc::new(gate),
            hosts: Hosts::new(&config.allowed_hosts),
        }
    }

    /// Every page.
    pub fn router(&self) -> Router {
        // Around the pages of both places, so that no page that changes something can forget it.
        let watched = from_fn_with_state(self.clone(), audit::watch);
        let renewing = from_fn_with_state(self.clone(), logins::renew);
        let within = |pages: Pages<Self>| {
            pages.within(|router| router.route_layer(watched.clone()).route_layer(renewing.clone()))
        };
        let Surface { root, mirrored, own } = surface();
        let surface = Surface { root, mirrored: within(mirrored), own: within(own) };
        let router = surface.router().with_state(self.clone());
        let (trusted, hosts, gate) = (self.trusted.clone(), self.hosts.clone(), Arc::clone(&self.gate));
        edge(router, Doors { trusted, hosts, gate, unnamed: Unnamed::default() })
    }
}

/// Every page, with its description and with who may ask for it.
pub fn surface() -> Surface<App> {
    Surface {
        root: media_pages().and(people_pages()),
        mirrored: guide_pages().and(channel_pages()).and(custom_pages()).and(setting_pages()),
        own: own_pages(),
    }
}

/// What players fetch.
fn media_pages() -> Pages<App> {
    let streams = routes!(getstream::play, getstream::head, getstream::preflight);
    Pages::default()
        .page_also_at(Class::Media, ["/ace/getstream/", "/ace/getstream.ts"], streams)
        .page_also_at(
            Class::Media,
            ["/ace/getstream.m3u8"],
            routes!(hls::manifest, hls::head, hls::preflight),
        )
        .page(Class::Media, routes!(hls::playlist, hls::playlist_preflight))
        .page(Class::Media, routes!(hls::segment, hls::segment_preflight))
        .page(Class::Media, routes!(play_status::status))
}

/// The dashboard and the page without a script.
fn people_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(panel::enter_from_root))
        .page(Class::Status, routes!(panel::enter))
        .page(Class::Status, routes!(panel::index))
        .page(Class::Status, routes!(panel::file))
        .page(Class::Status, routes!(panel::asset))
        .page(Class::Status, routes!(status_page::status))
}

/// Pages that the system which this replaces has, and their like.
fn guide_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(proxy::status))
        .page(Class::Status, routes!(proxy::sessions))
        .page(Class::Status, routes!(proxy::session))
        .page(Class::Operator, routes!(proxy::viewers))
        .page(Class::Operator, routes!(proxy::relocate))
        .page(Class::Operator, routes!(proxy::kick))
        .page(Class::Status, routes!(engine_pages::list))
        .page(Class::Status, routes!(engine_pages::all_stats))
        .page(Class::Status, routes!(engine_pages::total_stats))
        .page(Class::Status, routes!(engine_pages::one))
        .page(Class::Status, routes!(engine_pages::stats))
        .page(Class::Operator, routes!(fleet_pages::provision))
        .page(Class::Operator, routes!(fleet_pages::scale))
        .page(Class::Operator, routes!(fleet_pages::remove, fleet_pages::container))
        .page(Class::Status, routes!(status::orchestrator))
        .page(Class::Status, routes!(vpn_pages::status))
        .page(Class::Status, routes!(vpn_pages::public_ip))
        .page(Class::Probe, routes!(health::livez))
        .page(Class::Probe, routes!(health::readyz))
        .page(Class::Status, routes!(health::health))
        .page(Class::Status, routes!(health::metrics))
        .page(Class::Status, routes!(status::health))
        .page(Class::Operator, routes!(status::reset_breakers))
        .page(Class::Status, routes!(streams::list))
        .page(Class::Operator, routes!(streams::stop))
        .page(Class::Status, routes!(streams::position))
        .page(Class::Status, routes!(streams::stats))
        .page(Class::Operator, routes!(streams::started))
        .page(Class::Operator, routes!(streams::ended))
        .page(Class::Extended, routes!(events::list))
        .page(Class::Status, routes!(events::stats))
        .page(Class::Operator, routes!(events::cleanup))
        .page(Class::Status, routes!(docs::openapi))
        .page(Class::Status, routes!(docs::docs))
}

fn channel_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(loops::list))
        .page(Class::Operator, routes!(loops::clear_all))
        .page(Class::Operator, routes!(loops::clear))
        .page(Class::Status, routes!(loops::config))
        .page(Class::Operator, routes!(loops::configure))
}

fn setting_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(settings_pages::engine))
        .page(Class::Operator, routes!(settings_pages::change_engine))
        .page(Class::Operator, routes!(settings_pages::vpn, settings_pages::change_vpn))
        .page(Class::Operator, routes!(settings_pages::orchestrator, settings_pages::change_orchestrator))
        .page(Class::Operator, routes!(settings_pages::export))
        .page(Class::Operator, routes!(settings_pages::import))
}

fn custom_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(custom::platform))
        .page(Class::Status, routes!(custom::config))
        .page(Class::Operator, routes!(custom::save_config))
        .page(Class::Operator, routes!(custom::reprovision))
        .page(Class::Status, routes!(custom::reprovision_status))
        .page(Class::Status, routes!(custom::templates))
        .page(Class::Status, routes!(custom::template))
        .page(Class::Operator, routes!(custom::save_template, custom::delete_template))
        .page(Class::Operator, routes!(custom::rename_template))
        .page(Class::Operator, routes!(custom::activate_template))
        .page(Class::Operator, routes!(custom::export_template))
        .page(Class::Operator, routes!(custom::import_template))
}

/// Pages that the system which this replaces does not have. They are under `/api/v1` only.
fn own_pages() -> Pages<App> {
    Pages::default()
        .page(Class::Status, routes!(fleet_pages::plan))
        .page(Class::Status, routes!(history::history))
        .page(Class::Extended, routes!(live::live))
        .page(Class::Extended, routes!(logins::state))
        .page(Class::Login, routes!(logins::login))
        .page(Class::Operator, routes!(logins::logout))
        .page(Class::Operator, routes!(doctor::examine))
        .page(Class::Operator, routes!(engine_pages::drain, engine_pages::undrain))
        .page(Class::Operator, routes!(engine_pages::logs))
        .page(Class::Operator, routes!(logins::list))
        .page(Class::Operator, routes!(logins::revoke))
        .page(Class::Operator, routes!(settings_pages::list, settings_pages::patch))
        .page(Class::Operator, routes!(settings_pages::one, settings_pages::put, settings_pages::reset))
        .page(Class::Operator, routes!(names::list, names::put, names::remove))
        .page(Class::Status, routes!(channels::identity))
        .page(Class::Operator, routes!(channels::forget))
        .page(Class::Status, routes!(channels::names))
        .page(Class::Operator, routes!(channels::give_name, channels::take_name))
}

/// Each tunnel looks at its container; without any there is nothing to do until the stop.
async fn watching(tunnels: Arc<[Arc<dyn Tunnel>]>, stop: CancellationToken) {
    join_all(tunnels.iter().map(|tunnel| Arc::clone(tunnel).watch(stop.clone()))).await;
    stop.cancelled().await;
}

impl Service {
    /// Makes every part and binds the listener.
    pub async fn build(config: &Config, stop: CancellationToken) -> Result<Self, BuildError> {
        let bound = bound(config)?;
        let mut parts = Parts::new(config).await?;
        let config = &*parts.settings.config();
        let mut task = None;
        if config.fleet.is_docker {
            let instance = parts.instance(config);
            let docker = setup::docker(config, instance.clone())?;
            // Boxed: what it awaits is large and only seldom needed.
            let own_networks = Box::pin(setup::own_networks(config, &docker)).await;
            let recipes = Recipes::new(config, instance, own_networks);
            task = Some(parts.create_fleet(config, recipes, Arc::new(docker)).await);
        }
        Ok(Self::assemble(config, bound, parts, task, stop))
    }

    /// The same with another provisioner in Docker's place, for tests.
    pub async fn with_provisioner(
        config: &Config,
        provisioner: Arc<dyn Provisioner>,
        stop: CancellationToken,
    ) -> Result<Self, BuildError> {
        let bound = bound(config)?;
        let mut parts = Parts::new(config).await?;
        let config = &*parts.settings.config();
        let recipes = Recipes::new(config, parts.instance(config), None);
        let task = parts.create_fleet(config, recipes, provisioner).await;
        Ok(Self::assemble(config, bound, parts, Some(task), stop))
    }

    fn assemble(
        config: &Config,
        (listener, address): (TcpListener, SocketAddr),
        parts: Parts,
        fleet: Option<FleetTask>,
        stop: CancellationToken,
    ) -> Self {
        let playbacks = Arc::clone(&parts.playbacks);
        let (engines_named, leaves_engines) = (config.engines.external.len(), !config.fleet.stop_on_exit);
        Self {
            app: App::new(config, parts, stop),
            fleet,
            playbacks,
            listener,
            address,
            engines_named,
            leaves_engines,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many engines `ENGINES` names.
    pub fn engines_named(&self) -> usize {
        self.engines_named
    }

    /// What it listens with, until that breaks.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// The parts, for pages and tests.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs until the service is told to stop, then ends everything in order. An error names what it could not do
    /// without; everything has ended in order then too.
    pub async fn run(self) -> Result<(), Failure> {
        let leaves_engines = self.leaves_engines;
        let app = self.app.clone();
        let mut supervisor = Supervisor::new(Arc::clone(&app.outages), app.stop.clone());
        let server = self.start(&mut supervisor);
        let outcome = supervisor.watch().await;
        tracing::info!("stopping: no new viewers, streams end");
        let drain_timeout = app.settings.config().listen.drain_timeout;
        let rest = async {
            let streams = shutdown::end_streams(&app.relay, &app.engines, drain_timeout);
            let (_served, ()) = tokio::join!(server.drain(), streams);
            supervisor.ended().await;
        };
        let store = async {
            app.recorder.finish();
            app.store.close().await
        };
        shutdown::in_order(drain_timeout + shutdown::ENGINE_DRAIN, rest, store).await;
        if let Some(fleet) = app.fleet.filter(|_| leaves_engines) {
            shutdown::tell_of_engines(&fleet.snapshot());
        }
        outcome
    }

    fn start(self, supervisor: &mut Supervisor) -> Arc<Server> {
        let Self { app, fleet, playbacks, listener, address, .. } = self;
        let stop = app.stop.clone();
        supervisor.errand("giving up what an earlier run left open", async move {
            if timeout(ENGINES_MET, stop.cancelled()).await.is_err() {
                playbacks.give_up_the_rest();
            }
        });
        // Without a fleet nobody listens to which engine has become healthy.
        let healthy = fleet.as_ref().map_or_else(|| mpsc::channel(1).0, FleetTask::healthy);
        if let Some(fleet) = fleet {
            supervisor.run(Essential::Fleet, fleet.run(app.stop.clone()));
        }
        if let (Some(recipes), Some(fleet)) = (&app.recipes, &app.fleet) {
            let (claim, fleet, stop) = (recipes.claim(), fleet.clone(), app.stop.clone());
            supervisor.keep(Renewable::Claim, move || claim::run(claim.clone(), fleet.clone(), stop.clone()));
        }
        let server = Arc::new(Server::new(app.router(), setup::serving(&app.settings.config())));
        supervisor
            .keep(Renewable::Listener, listening(Arc::clone(&server), (listener, address), app.stop.clone()));
        follow_settings(supervisor, &app, &server);
        let App { relay, engines, tunnels, loops, recorder, reported, live, stop, .. } = app;
        supervisor.keep(Renewable::Live, {
            let stop = stop.clone();
            move || {
                let (live, stop) = (Arc::clone(&live), stop.clone());
                async move { live.run(stop).await }
            }
        });
        supervisor.keep(Renewable::Tunnels, {
            let stop = stop.clone();
            move || watching(Arc::clone(&tunnels), stop.clone())
        });
        supervisor.keep(Renewable::Recorder, {
            let (recorder, stop) = (Arc::clone(&recorder), stop.clone());
            move || {
                let (recorder, stop) = (Arc::clone(&recorder), stop.clone());
                async move { stop.run_until_cancelled(recorder.run()).await.unwrap_or_default() }
            }
        });
        supervisor.keep(Renewable::Loops, {
            let (relay, stop) = (relay.clone(), stop.clone());
            move || crate::planes::loops::run(relay.clone(), Arc::clone(&loops), stop.clone())
        });
        supervisor.keep(Renewable::Evacuation, {
            let (engines, stop) = (Arc::clone(&engines), stop.clone());
            move || {
                let (reported, recorder) = (Arc::clone(&reported), Arc::clone(&recorder));
                evacuation::run(relay.clone(), Arc::clone(&engines), reported, recorder, stop.clone())
            }
        });
        supervisor
            .keep(Renewable::Probes, move || probe::run(Arc::clone(&engines), healthy.clone(), stop.clone()));
        server
    }
}

/// Has the parts follow what is changed.
fn follow_settings(supervisor: &mut Supervisor, app: &App, server: &Arc<Server>) {
    let App { relay, engines, fleet, loops, store, settings, stop, .. } = app.clone();
    let followers = Followers { relay, engines, fleet, loops, store, server: Arc::clone(server) };
    supervisor.keep(Renewable::Settings, move || {
        follow::run(followers.clone(), Arc::clone(&settings), stop.clone())
    });
}

/// The listener, and another one at the same address whenever it breaks.
fn listening(
    server: Arc<Server>,
    (first, address): (TcpListener, SocketAddr),
    stop: CancellationToken,
) -> impl FnMut() -> BoxFuture<'static, std::io::Result<()>> {
    let mut first = Some(first);
    move || {
        let (first, server, stop) = (first.take(), Arc::clone(&server), stop.clone());
        Box::pin(async move {
            let listener = first.map_or_else(|| bind(address), Ok)?;
            server.accept(listener, &stop).await
        })
    }
}

/// After so long an engine that an earlier run used is there or gone for good.
const ENGINES_MET: Duration = Duration::from_mins(1);

fn bound(config: &Config) -> Result<(TcpListener, SocketAddr), BuildError> {
    let (host, port) = (config.listen.host, config.listen.port);
    let listener = listen(host, port);
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    bound.map_err(|source| BuildError::Listen { address: format!("port {port}: {source}"), source })
}
