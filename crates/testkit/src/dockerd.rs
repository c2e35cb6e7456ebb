//! A fake Docker daemon on a unix socket: containers, networks and images as a state machine, with faults on demand.
//!
//! It answers the routes that the product may use and no others: any other request is remembered as a violation. A
//! started container can come alive as a simulated engine on its port.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acemux_sim::{SimEngine, SimOptions};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::docker::FAST;

/// Events kept for a slow listener.
const EVENTS: usize = 64;

/// What goes wrong with a kind of call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers this status with this message.
    Status(u16, &'static str),
    /// It never answers.
    Hang,
    /// Its JSON ends in the middle.
    Cut,
    /// Its reply is no JSON.
    NoJson,
    /// A list is empty although it should not be.
    Empty,
    /// It does what it should, after so long.
    Slow(Duration),
    /// It does what it should at once, and tells so long after.
    Late(Duration),
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// `GET /version`.
    Version,
    /// `GET /containers/json`.
    List,
    /// `GET /containers/{id}/json`.
    Inspect,
    /// `POST /containers/create`.
    Create,
    /// `POST /containers/{id}/start`.
    Start,
    /// `POST /containers/{id}/stop`.
    Stop,
    /// `DELETE /containers/{id}`.
    Remove,
    /// `GET /containers/{id}/logs`.
    Logs,
    /// `GET /containers/{id}/stats`.
    Stats,
    /// `GET /events`.
    Events,
    /// `POST /images/create`.
    Pull,
    /// `GET /images/{name}/json`.
    Image,
    /// `GET /distribution/{name}/json`.
    Registry,
    /// `GET /networks/{name}`.
    Network,
    /// `GET /networks`.
    Networks,
    /// `POST /networks/create`.
    CreateNetwork,
}

/// The daemon. Dropping it ends it and its engines.
pub struct FakeDockerd {
    /// `DOCKER_HOST` for it.
    pub host: String,
    folder: PathBuf,
    world: Arc<World>,
    serving: JoinHandle<()>,
}

struct World {
    state: Mutex<Contents>,
    events: broadcast::Sender<()>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    comes_alive: bool,
}

#[derive(Default)]
struct Contents {
    containers: BTreeMap<String, Container>,
    networks: BTreeSet<String>,
    images: BTreeSet<String>,
    faults: HashMap<Call, (Fault, usize)>,
    calls: HashMap<Call, usize>,
    violations: Vec<String>,
    api: (String, String),
    next: u64,
}

struct Container {
    name: String,
    body: Value,
    state: &'static str,
    exit_code: i64,
    /// What its health check says, if it has one.
    health: Option<&'static str>,
    engine: Option<SimEngine>,
}

impl FakeDockerd {
    /// What a service is told that makes its engines here, of the fast image.
    pub fn settings(&self) -> [(&'static str, &str); 4] {
        [
            ("ENGINE_PROVISIONER", "docker"),
            ("DOCKER_HOST", &self.host),
            ("ENGINE_IMAGE", FAST),
            ("ENGINE_VARIANT", "krinkuto11-amd64"),
        ]
    }

    /// A daemon with these images. With `comes_alive`, started containers are fast simulated engines.
    pub fn start(images: &[&str], comes_alive: bool) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("acemux-dockerd-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let socket = folder.join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("the folder is new");
        let contents = Contents {
            images: images.iter().map(|image| (*image).to_owned()).collect(),
            api: ("1.24".to_owned(), "1.41".to_owned()),
            ..Contents::default()
        };
        let world = Arc::new(World {
            state: Mutex::new(contents),
            events: broadcast::channel(EVENTS).0,
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            comes_alive,
        });
        let serving = serve(listener, Arc::clone(&world));
        Self { host: format!("unix://{}", socket.display()), folder, world, serving }
    }

    /// The next `times` calls of this kind go wrong; `usize::MAX` is until [`Self::heal`].
    pub fn fault(&self, call: Call, fault: Fault, times: usize) {
        self.world.state.lock().faults.insert(call, (fault, times));
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.world.state.lock().faults.clear();
    }

    /// Oldest and newest API version it speaks.
    pub fn speaks(&self, oldest: &str, newest: &str) {
        self.world.state.lock().api = (oldest.to_owned(), newest.to_owned());
    }

    /// A running container of somebody else.
    pub fn add_foreign(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let body = json!({ "Image": "foreign", "Labels": labels });
        self.world.state.lock().add(name, body, "running")
    }

    /// A running gluetun of somebody else on this machine's network, whose control server has this port.
    pub fn add_vpn(&self, name: &str, control_port: u16) -> String {
        let body = json!({
            "Image": "qmcgaw/gluetun",
            "Labels": {},
            "Env": [format!("HTTP_CONTROL_SERVER_ADDRESS=:{control_port}")],
            "HostConfig": { "NetworkMode": "host" },
        });
        self.world.state.lock().add(name, body, "running")
    }

    /// A container's health check says something else.
    pub fn set_health(&self, id: &str, health: &'static str) {
        self.world.state.lock().containers.get_mut(id).expect("it exists").health = Some(health);
        self.world.changed();
    }

    /// Somebody changes a container by hand.
    pub fn by_hand(&self, id: &str, state: &'static str) {
        {
            let mut contents = self.world.state.lock();
            let container = contents.containers.get_mut(id).expect("it exists");
            container.state = state;
            if state == "exited" {
                (container.engine, container.exit_code) = (None, 137);
            }
        }
        self.world.changed();
    }

    /// Somebody removes a container by hand.
    pub fn remove_by_hand(&self, id: &str) {
        self.world.state.lock().containers.remove(id);
        self.world.changed();
    }

    /// Tells listeners that something has changed, though nothing has.
    pub fn cry_wolf(&self, times: usize) {
        (0..times).for_each(|_| self.world.changed());
    }

    /// Ids, names and states of all containers.
    pub fn containers(&self) -> Vec<(String, String, &'static str)> {
        let contents = self.world.state.lock();
        contents.containers.iter().map(|(id, one)| (id.clone(), one.name.clone(), one.state)).collect()
    }

    /// The bodies that containers were created with.
    pub fn bodies(&self) -> Vec<Value> {
        self.world.state.lock().containers.values().map(|container| container.body.clone()).collect()
    }

    /// How often it was called so.
    pub fn calls(&self, call: Call) -> usize {
        self.world.state.lock().calls.get(&call).copied().unwrap_or_default()
    }

    /// Most calls under way at a time, streams not counted.
    pub fn most_at_once(&self) -> usize {
        self.world.most_under_way.load(Ordering::Relaxed)
    }

    /// Requests that the product must never make.
    pub fn violations(&self) -> Vec<String> {
        self.world.state.lock().violations.clone()
    }
}

impl Drop for FakeDockerd {
    fn drop(&mut self) {
        self.serving.abort();
        let _cleared = std::fs::remove_dir_all(&self.folder);
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon owns the handle and aborts it when dropped")]
fn serve(listener: UnixListener, world: Arc<World>) -> JoinHandle<()> {
    let router = Router::new().fallback(answer).with_state(world);
    tokio::spawn(async move {
        // It ends with the daemon, by being aborted.
        let _ended = axum::serve(listener, router).await;
    })
}

/// One request, as the client wrote it.
struct Asked {
    call: Call,
    id: String,
    query: HashMap<String, String>,
}

async fn answer(
    State(world): State<Arc<World>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let path = without_version(request.uri().path()).to_owned();
    let method = request.method().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    if path == "/_ping" {
        return "OK".into_response();
    }
    let Some((call, id)) = route(&method, &path) else {
        world.state.lock().violations.push(format!("{method} {path}"));
        return problem(StatusCode::NOT_FOUND, "page not found");
    };
    let _under_way = UnderWay::new(&world, call);
    let asked = Asked { call, id, query };
    match world.enter(call) {
        None => world.handle(asked, &body).await,
        Some(fault) => world.go_wrong(fault, asked, &body).await,
    }
}

fn without_version(path: &str) -> &str {
    match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, _)) if version.starts_with(|c: char| c.is_ascii_digit()) => &path[version.len() + 2..],
        _ => path,
    }
}

fn route(method: &Method, path: &str) -> Option<(Call, String)> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (call, id) = match (method.as_str(), parts.as_slice()) {
        ("GET", ["version"]) => (Call::Version, ""),
        ("GET", ["containers", "json"]) => (Call::List, ""),
        ("POST", ["containers", "create"]) => (Call::Create, ""),
        ("GET", ["containers", id, "json"]) => (Call::Inspect, *id),
        ("POST", ["containers", id, "start"]) => (Call::Start, *id),
        ("POST", ["containers", id, "stop"]) => (Call::Stop, *id),
        ("DELETE", ["containers", id]) => (Call::Remove, *id),
        ("GET", ["containers", id, "logs"]) => (Call::Logs, *id),
        ("GET", ["containers", id, "stats"]) => (Call::Stats, *id),
        ("GET", ["events"]) => (Call::Events, ""),
        ("POST", ["images", "create"]) => (Call::Pull, ""),
        ("POST", ["networks", "create"]) => (Call::CreateNetwork, ""),
        ("GET", ["images", .., "json"]) => (Call::Image, between(path, "/images/")),
        ("GET", ["distribution", .., "json"]) => (Call::Registry, between(path, "/distribution/")),
        ("GET", ["networks"]) => (Call::Networks, ""),
        ("GET", ["networks", name]) => (Call::Network, *name),
        _ => return None,
    };
    Some((call, id.to_owned()))
}

/// The name of an image may hold slashes.
fn between<'a>(path: &'a str, before: &str) -> &'a str {
    path.strip_prefix(before).and_then(|rest| rest.strip_suffix("/json")).unwrap_or_default()
}

/// Counts calls under way; streams last as long as their listener and are not counted.
struct UnderWay<'a>(Option<&'a World>);

impl<'a> UnderWay<'a> {
    fn new(world: &'a World, call: Call) -> Self {
        if matches!(call, Call::Events | Call::Stats | Call::Pull) {
            return Self(None);
        }
        let now = world.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        world.most_under_way.fetch_max(now, Ordering::Relaxed);
        Self(Some(world))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(world) = self.0 {
            world.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl World {
    fn changed(&self) {
        // Nobody may be listening.
        let _heard = self.events.send(());
    }

    /// Counts the call; the fault that it meets.
    fn enter(&self, call: Call) -> Option<Fault> {
        let mut contents = self.state.lock();
        *contents.calls.entry(call).or_default() += 1;
        let (fault, left) = contents.faults.get_mut(&call)?;
        let fault = fault.clone();
        *left = left.saturating_sub(1);
        if *left == 0 {
            contents.faults.remove(&call);
        }
        Some(fault)
    }

    async fn go_wrong(&self, fault: Fault, asked: Asked, body: &Bytes) -> Response {
        match fault {
            Fault::Status(status, message) => {
                problem(StatusCode::from_u16(status).expect("a test writes a status"), message)
            }
            Fault::Hang => std::future::pending().await,
            Fault::Cut => "[{\"Id\": \"0123".into_response(),
            Fault::NoJson => "<html>not a daemon</html>".into_response(),
            Fault::Empty => "[]".into_response(),
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                self.handle(asked, body).await
            }
            Fault::Late(time) => {
                let reply = self.handle(asked, body).await;
                tokio::time::sleep(time).await;
                reply
            }
        }
    }

    async fn handle(&self, asked: Asked, body: &Bytes) -> Response {
        let Asked { call, id, query } = asked;
        let written = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        match call {
            Call::Version => {
                let (oldest, newest) = self.state.lock().api.clone();
                reply(&json!({
                    "Version": "20.10.24", "ApiVersion": newest, "MinAPIVersion": oldest, "Arch": "amd64",
                }))
            }
            Call::List => self.list(&query),
            Call::Inspect => self.inspect(&id),
            Call::Create => self.create(&query, written()),
            Call::Start => self.start(&id).await,
            Call::Stop => self.stop(&id),
            Call::Remove => self.remove(&id),
            Call::Logs => log("an engine's last words\n"),
            Call::Stats => reply(&json!({ "memory_stats": { "usage": 1_000_000, "limit": 2_000_000 } })),
            Call::Events => self.listen(),
            Call::Pull => problem(StatusCode::NOT_FOUND, "pull access denied, repository does not exist"),
            Call::Image => self.image(&id),
            Call::Registry => {
                problem(StatusCode::FORBIDDEN, "denied: requested access to the resource is denied")
            }
            Call::Network => self.network(&id),
            Call::Networks => {
                let known = self.state.lock().networks.clone();
                let known = known.into_iter().map(|name| json!({ "Name": name, "Id": "network" }));
                reply(&json!(known.collect::<Vec<_>>()))
            }
            Call::CreateNetwork => {
                let name = written()["Name"].as_str().unwrap_or_default().to_owned();
                self.state.lock().networks.insert(name);
                created(&json!({ "Id": "network", "Warning": "" }))
            }
        }
    }

    fn list(&self, query: &HashMap<String, String>) -> Response {
        let filters: Value =
            query.get("filters").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let (labels, names) = (wanted(&filters, "label"), wanted(&filters, "name"));
        let is_named = |one: &Container| names.is_empty() || names.iter().any(|name| one.name.contains(name));
        let contents = self.state.lock();
        let all = contents.containers.iter().filter(|(_, one)| has_all(&one.body, &labels) && is_named(one));
        let list: Vec<Value> = all.map(|(id, one)| summary(id, one)).collect();
        reply(&json!(list))
    }

    fn inspect(&self, id: &str) -> Response {
        let contents = self.state.lock();
        let mut all = contents.containers.iter();
        match all.find(|(full, one)| *full == id || one.name == id) {
            Some((full, one)) => reply(&inspection(full, one)),
            None => problem(StatusCode::NOT_FOUND, "No such container"),
        }
    }

    fn create(&self, query: &HashMap<String, String>, body: Value) -> Response {
        let name = query.get("name").cloned().unwrap_or_default();
        let mut contents = self.state.lock();
        if contents.containers.values().any(|other| other.name == name) {
            return problem(StatusCode::CONFLICT, "Conflict. The container name is already in use");
        }
        if !contents.images.contains(body["Image"].as_str().unwrap_or_default()) {
            return problem(StatusCode::NOT_FOUND, "No such image");
        }
        let id = contents.add(&name, body, "created");
        created(&json!({ "Id": id, "Warnings": [] }))
    }

    async fn start(&self, id: &str) -> Response {
        let port = {
            let contents = self.state.lock();
            let Some(one) = contents.containers.get(id) else {
                return problem(StatusCode::NOT_FOUND, "No such container");
            };
            one.body["Labels"]["acestream.http_port"].as_str().and_then(|port| port.parse().ok())
        };
        let engine = match port.filter(|_| self.comes_alive) {
            Some(port) => Some(engine(id, port).await),
            None => None,
        };
        if let Some(one) = self.state.lock().containers.get_mut(id) {
            (one.state, one.engine) = ("running", engine);
        }
        self.changed();
        StatusCode::NO_CONTENT.into_response()
    }

    fn stop(&self, id: &str) -> Response {
        let mut contents = self.state.lock();
        let Some(one) = contents.containers.get_mut(id) else {
            return problem(StatusCode::NOT_FOUND, "No such container");
        };
        if one.state != "running" {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        (one.state, one.engine) = ("exited", None);
        StatusCode::NO_CONTENT.into_response()
    }

    fn remove(&self, id: &str) -> Response {
        let removed = self.state.lock().containers.remove(id);
        self.changed();
        match removed {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => problem(StatusCode::NOT_FOUND, "No such container"),
        }
    }

    fn image(&self, name: &str) -> Response {
        if self.state.lock().images.contains(name) {
            reply(&json!({ "Id": "sha256:0", "Architecture": "amd64", "Os": "linux" }))
        } else {
            problem(StatusCode::NOT_FOUND, "No such image")
        }
    }

    fn network(&self, name: &str) -> Response {
        if self.state.lock().networks.contains(name) {
            reply(&json!({ "Name": name, "Id": "network" }))
        } else {
            problem(StatusCode::NOT_FOUND, "network not found")
        }
    }

    fn listen(&self) -> Response {
        let heard = stream::unfold(self.events.subscribe(), |mut events| async move {
            match events.recv().await {
                Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => Some(((), events)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        let lines = heard
            .map(|()| Ok::<_, Infallible>(Bytes::from("{\"Type\":\"container\",\"Action\":\"start\"}\n")));
        Body::from_stream(lines).into_response()
    }
}

impl Contents {
    fn add(&mut self, name: &str, body: Value, state: &'static str) -> String {
        self.next += 1;
        let id = format!("{:064x}", self.next);
        let container =
            Container { name: name.to_owned(), body, state, exit_code: 0, health: None, engine: None };
        self.containers.insert(id.clone(), container);
        id
    }
}

async fn engine(id: &str, port: u16) -> SimEngine {
    let listen = ([127, 0, 0, 1], port).into();
    let options = SimOptions { name: id.get(..12).unwrap_or(id).to_owned(), listen, ..SimOptions::fast() };
    SimEngine::start(options).await.expect("the fleet has probed the port")
}

fn wanted(filters: &Value, kind: &str) -> Vec<String> {
    match &filters[kind] {
        Value::Array(values) => values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
        Value::Object(values) => values.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

fn has_all(body: &Value, labels: &[String]) -> bool {
    let has = |label: &String| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        body["Labels"][name].as_str() == Some(value)
    };
    labels.iter().all(has)
}

fn summary(id: &str, one: &Container) -> Value {
    json!({
        "Id": id,
        "Names": [format!("/{}", one.name)],
        "Image": one.body["Image"],
        "Created": 1_700_000_000,
        "Labels": one.body["Labels"],
        "State": one.state,
        "Status": "Up",
        "Ports": [],
        "HostConfig": { "NetworkMode": one.body["HostConfig"]["NetworkMode"] },
    })
}

fn inspection(id: &str, one: &Container) -> Value {
    let health = one.health.map(|status| json!({ "Status": status }));
    json!({
        "Id": id,
        "Name": format!("/{}", one.name),
        "Created": "2026-01-01T00:00:00Z",
        "State": { "Status": one.state, "ExitCode": one.exit_code, "OOMKilled": false, "Error": "", "Health": health },
        "Config": { "Image": one.body["Image"], "Labels": one.body["Labels"], "Env": one.body["Env"] },
        "HostConfig": { "NetworkMode": one.body["HostConfig"]["NetworkMode"] },
    })
}

fn reply(value: &Value) -> Response {
    ([(http::header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn created(value: &Value) -> Response {
    (StatusCode::CREATED, [(http::header::CONTENT_TYPE, "application/json")], value.to_string())
        .into_response()
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, [(http::header::CONTENT_TYPE, "application/json")], json!({ "message": message }).to_string())
        .into_response()
}

/// One frame of the multiplexed log: stream 1, length, text.
fn log(text: &str) -> Response {
    let length = u32::try_from(text.len()).expect("a short text").to_be_bytes();
    let frame = [&[1, 0, 0, 0][..], &length, text.as_bytes()].concat();
    frame.into_response()
}
