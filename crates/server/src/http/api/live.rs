//! `GET /api/v1/events/live`: server-sent events. A `snapshot`, then a `patch` a second with what is different, a `log`
//! for each entry of the history, and `viewers` of the one stream that is asked for with `watch`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::dispatch::Engines;
use acemux_relay::{Relay, StreamKey};
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::proxy::{ProxySession, Streams};
use super::{engines, vpn};
use crate::http::auth::{Operator, Over};
use crate::http::client::ClientInfo;
use crate::http::problem::{Code, Problem};
use crate::planes::live::{Entities, Kind, Listener, Live, News, Picture};
use crate::planes::vpn::Vpns;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// When a browser whose connection broke tries again.
const RETRY: Duration = Duration::from_secs(2);

/// Query of `GET /api/v1/events/live`.
#[derive(Debug, Deserialize)]
pub struct LiveQuery {
    /// `stream:<any form of its id>`.
    watch: Option<String>,
}

/// Everything that pages show.
pub(crate) fn picture(relay: &Relay, all: &Engines, vpns: &Vpns) -> Picture {
    let sessions = relay.sessions();
    let engines = engines::states(all, &sessions);
    let cut_off = vpns.cut_off(all);
    let (bytes_in, bytes_out) = relay.totals().read();
    let totals = json!({
        "streams": sessions.len(),
        "viewers": relay.viewers(),
        "waiting": relay.waiting(),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "engines": engines.len(),
        "engines_healthy": engines.iter().filter(|engine| engine.is_healthy()).count(),
        "slots_used": all.all().iter().map(|member| member.used()).sum::<usize>(),
        "slots_total": all.all().iter().map(|member| member.slots).sum::<usize>(),
        "slots_waiting": all.waiting(),
    });
    Picture {
        streams: by_id("stream_id", sessions.into_iter().map(|session| ProxySession::of(&session, &cut_off))),
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
pub async fn live(
    State(live): State<Arc<Live>>,
    State(streams): State<Streams>,
    State(stop): State<CancellationToken>,
    operator: Option<Operator>,
    client: ClientInfo,
    Query(query): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>), Problem> {
    let watched = query.watch.as_deref().map(|watch| watched(&streams, watch)).transpose()?;
    if watched.is_some() && operator.is_none() {
        return Err(Code::MissingKey.into());
    }
    let client = Some(client.address.into()).filter(|_| operator.is_none());
    let known = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let crowded = |_| Problem::new(Code::ServerFull).with_detail("as many listen to events as may");
    let listening = Listening {
        listener: live.listen(known, client).map_err(crowded)?,
        watched: watched.map(|key| Watched { key, streams, told: Value::Null }),
        over: operator.map(|operator| operator.over()).unwrap_or_default(),
        stop,
    };
    let begin = stream::once(async { Event::default().retry(RETRY).comment("acemux") });
    let news = stream::unfold(listening, async |mut listening| Some((listening.next().await?, listening)));
    let news = Sse::new(begin.chain(news.flat_map(stream::iter)).map(Ok));
    Ok(([(CACHE_CONTROL, "no-store")], news))
}

fn watched(streams: &Streams, watch: &str) -> Result<StreamKey, Problem> {
    let id = watch.strip_prefix("stream:");
    let id = id.ok_or_else(|| {
        Problem::new(Code::InvalidParam).with_detail("watch is stream: and any form of its id")
    })?;
    streams.find(id).map(|session| session.key)
}

/// One client.
struct Listening {
    listener: Listener,
    watched: Option<Watched>,
    /// When the operator who listens is none any more.
    over: Over,
    stop: CancellationToken,
}

/// The stream whose viewers are told.
struct Watched {
    key: StreamKey,
    streams: Streams,
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
        let viewers = match (&mut self.watched, news.kind) {
            (Some(watched), Kind::Snapshot | Kind::Patch) => watched.viewers(),
            _ => None,
        };
        Some(viewers.into_iter().chain([event(&news)]).collect())
    }
}

impl Watched {
    /// When they are not as they were told.
    fn viewers(&mut self) -> Option<Event> {
        let viewers = self.streams.viewers(&self.key)?;
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
pub(crate) fn source(relay: Relay, engines: Arc<Engines>, vpns: Vpns) -> Live {
    Live::new(move || picture(&relay, &engines, &vpns))
}
