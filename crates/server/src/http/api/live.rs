//! `GET /api/v1/events/live`: server-sent events. A `snapshot`, then a `patch` a second with what is different, a `log`
//! for each entry of the history, and `viewers` of the streams that are asked for with `watch`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::dispatch::Engines;
use acemux_relay::{Relay, StreamKey};
use acemux_store::events::EventKind;
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::proxy::{ProxySession, ProxyViewer, Streams};
use super::{engines, vpn};
use crate::http::auth::{Operator, Over};
use crate::http::client::ClientInfo;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;
use crate::http::surface::shapes::{Fields, OrGone};
use crate::planes::channels::ChannelNames;
use crate::planes::live::{Entities, Kind, Listener, Live, News, Picture};
use crate::planes::vpn::Vpns;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells NGINX to pass on each event when it comes, and not when it has a buffer full of them.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// When a browser whose connection broke tries again.
const RETRY: Duration = Duration::from_secs(2);

/// Query of `GET /api/v1/events/live`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LiveQuery {
    /// `stream:<any form of its id>`, or some of these with commas between them: the operator is also told who watches
    /// them.
    #[param(pattern = "^stream:")]
    watch: Option<String>,
}

/// Sums.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveTotals)]
struct Totals {
    streams: usize,
    viewers: usize,
    /// Viewers whose streams have not begun.
    waiting: usize,
    /// From engines, since the service began.
    bytes_in: u64,
    /// To viewers, since the service began.
    bytes_out: u64,
    engines: usize,
    engines_healthy: usize,
    slots_used: usize,
    slots_total: usize,
    /// Streams that wait for a slot.
    slots_waiting: usize,
    /// What streams have of `STREAM_MEMORY`, all of them together.
    buffer_bytes: usize,
    /// `STREAM_MEMORY`.
    buffer_limit_bytes: usize,
}

/// One server-sent event, as the document has it: its name in `event`, its JSON in `data`, and but for `viewers` an `id`
/// to come back with in `Last-Event-ID`.
#[derive(ToSchema)]
#[schema(as = LiveEvent)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
#[expect(dead_code, reason = "events are written once for all listeners, as texts")]
pub(crate) enum LiveEvent {
    /// Everything: what was known before does not count any more. It comes first.
    Snapshot(LiveSnapshot),
    /// What is different, once a second: fields that are new or another, and null for an entity that is gone.
    Patch(LivePatch),
    /// An entry of the history, as `/events` has it but without its number.
    Log(LiveLog),
    /// Who watches a stream that is asked for with `watch`, whenever that changes.
    Viewers(LiveViewers),
}

/// Everything that pages show, by id.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct LiveSnapshot {
    streams: BTreeMap<String, ProxySession>,
    engines: BTreeMap<String, engines::EngineState>,
    /// By the name of the container.
    vpns: BTreeMap<String, vpn::VpnNote>,
    totals: Totals,
}

/// What makes the present snapshot of the last one. Of an entity that is known it has some fields, of a new one all; null is
/// an entity that is gone.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct LivePatch {
    #[serde(default)]
    streams: BTreeMap<String, StreamChange>,
    #[serde(default)]
    engines: BTreeMap<String, EngineChange>,
    /// By the name of the container.
    #[serde(default)]
    vpns: BTreeMap<String, VpnChange>,
    #[serde(default)]
    totals: TotalsFields,
}

type StreamChange = OrGone<ProxySession>;
type EngineChange = OrGone<engines::EngineState>;
type VpnChange = OrGone<vpn::VpnNote>;
type TotalsFields = Fields<Totals>;

/// An entry of the history.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct LiveLog {
    timestamp: Timestamp,
    event_type: EventKind,
    category: String,
    message: String,
    #[schema(value_type = Object)]
    details: Value,
    container_id: Option<String>,
    stream_id: Option<String>,
}

/// Who watches a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see above")]
pub(crate) struct LiveViewers {
    /// Its key.
    stream: String,
    viewers: Vec<ProxyViewer>,
}

/// Everything that pages show.
pub(crate) fn picture(relay: &Relay, all: &Engines, vpns: &Vpns, names: &ChannelNames) -> Picture {
    let sessions = relay.sessions();
    let engines = engines::states(all, &sessions);
    let cut_off = vpns.cut_off(all);
    let (bytes_in, bytes_out) = relay.totals().read();
    let totals = Totals {
        streams: sessions.len(),
        viewers: relay.viewers(),
        waiting: relay.waiting(),
        bytes_in,
        bytes_out,
        engines: engines.len(),
        engines_healthy: engines.iter().filter(|engine| engine.is_healthy()).count(),
        slots_used: all.all().iter().map(|member| member.used()).sum(),
        slots_total: all.all().iter().map(|member| member.slots).sum(),
        slots_waiting: all.waiting(),
        buffer_bytes: sessions.iter().map(|session| session.ring.bytes).sum(),
        buffer_limit_bytes: relay.memory(),
    };
    Picture {
        streams: by_id(
            "stream_id",
            sessions.into_iter().map(|session| ProxySession::of(&session, &cut_off, names)),
        ),
        engines: by_id("container_id", engines),
        vpns: by_id("container", vpn::notes(&vpns.view(all))),
        totals: fields(&totals),
    }
}

fn by_id(id: &str, all: impl IntoIterator<Item = impl Serialize>) -> Entities {
    let entity = |entity| {
        let fields = fields(&entity);
        Some((fields.get(id)?.as_str()?.to_owned(), fields))
    };
    all.into_iter().filter_map(entity).collect()
}

/// # Panics
///
/// If it is not written as an object, which every page of ours is.
fn fields(page: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(page) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("a page that is no object: {other:?}"),
    }
}

/// What happens, as long as somebody reads. Whose viewers are asked for is told to the operator only.
#[utoipa::path(
    get, path = "/events/live", tag = "events",
    params(
        LiveQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that came: what was missed, or a             snapshot, is told first")
    ),
    responses(
        (status = 200, description = "Server-sent events without an end", content_type = "text/event-stream", body = LiveEvent),
        fails::NotFound, fails::MissingKey
    )
)]
pub async fn live(
    State(live): State<Arc<Live>>,
    State(streams): State<Streams>,
    State(stop): State<CancellationToken>,
    operator: Option<Operator>,
    client: ClientInfo,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 2], Sse<impl Stream<Item = Result<Event, Infallible>>>), Problem> {
    let watched = watched(&streams, query.watch.as_deref())?;
    if !watched.is_empty() && operator.is_none() {
        return Err(Code::MissingKey.into());
    }
    let client = Some(client.address.into()).filter(|_| operator.is_none());
    let known = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let crowded = |_| Problem::new(Code::ServerFull).with_detail("as many listen to events as may");
    let listening = Listening {
        listener: live.listen(known, client).map_err(crowded)?,
        watched,
        streams,
        over: operator.map(|operator| operator.over()).unwrap_or_default(),
        stop,
    };
    let begin = stream::once(async { Event::default().retry(RETRY).comment("acemux") });
    let news = stream::unfold(listening, async |mut listening| Some((listening.next().await?, listening)));
    let news = Sse::new(begin.chain(news.flat_map(stream::iter)).map(Ok));
    Ok(([(CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")], news))
}

/// Most streams whose viewers one client is told: as many as have their tabs of the dashboard open at once.
const MOST_WATCHED: usize = 16;

fn watched(streams: &Streams, asked: Option<&str>) -> Result<Vec<Watched>, Problem> {
    let wrong = |detail| Problem::new(Code::InvalidParam).with_detail(detail);
    let asked: Vec<&str> = asked.map(|asked| asked.split(',').collect()).unwrap_or_default();
    if asked.len() > MOST_WATCHED {
        return Err(wrong("watch is at most 16 streams"));
    }
    let watched = |watch: &&str| {
        let id = watch.strip_prefix("stream:");
        let id = id.ok_or_else(|| wrong("watch is stream: and any form of its id"))?;
        Ok(Watched { key: streams.find(id)?.key, told: Value::Null })
    };
    asked.iter().map(watched).collect()
}

/// One client.
struct Listening {
    listener: Listener,
    watched: Vec<Watched>,
    streams: Streams,
    /// When the operator who listens is none any more.
    over: Over,
    stop: CancellationToken,
}

/// A stream whose viewers are told.
struct Watched {
    key: StreamKey,
    told: Value,
}

impl Listening {
    /// `None` when the service stops, when the client is too slow, or when the login is over by which it came.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let news = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = self.over.over() => None,
            news = self.listener.next() => news,
        }?;
        let Self { watched, streams, .. } = self;
        let is_time = matches!(news.kind, Kind::Snapshot | Kind::Patch);
        let viewers = watched.iter_mut().filter(|_| is_time).filter_map(|watched| watched.viewers(streams));
        Some([event(&news)].into_iter().chain(viewers).collect())
    }
}

impl Watched {
    /// When they are not as they were told.
    fn viewers(&mut self, streams: &Streams) -> Option<Event> {
        let viewers = streams.viewers(&self.key)?;
        let now = json!({ "stream": self.key.as_str(), "viewers": viewers });
        if now == self.told {
            return None;
        }
        let event = Event::default().event("viewers").data(now.to_string());
        self.told = now;
        Some(event)
    }
}

fn event(news: &News) -> Event {
    Event::default().event(news.kind.as_str()).id(&news.id).data(&*news.data)
}

/// What the service's one source of news looks at.
pub(crate) fn source(relay: Relay, engines: Arc<Engines>, vpns: Vpns, names: Arc<ChannelNames>) -> Live {
    Live::new(move || picture(&relay, &engines, &vpns, &names))
}
