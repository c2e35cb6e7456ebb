//! What the data plane observes becomes one log line, its metrics and an entry of the history, here and nowhere else, so
//! that they agree.
//!
//! What anybody can bring about in any number, starts and ends of streams, is folded (`fold.rs`): log and history have
//! the first of a client in full and then how many more there were. Metrics count them all.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use acemux_engine::text;
use acemux_relay::StreamKey;
use acemux_relay::admission::AddressGroup;
use acemux_relay::event::{Event, Observer};
use acemux_relay::session::{EndReason, StartError};

use acemux_fleet::event::Event as FleetEvent;
use acemux_store::Store;
use acemux_store::events::{AUDIT, EventKind, NewEvent};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::http::problem::Code;
use crate::planes::reported::ForeignStream;
use crate::record::audit::{self, Change};
use crate::record::fold::{Fold, Folded};
use crate::record::history;
use crate::record::metrics::Metrics;

/// Longest text in a detail that is kept, in characters.
const LONGEST_TEXT: usize = 1_000;

/// How often it is looked whether there is something folded to be told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes the log and counts.
pub struct Recorder {
    metrics: Arc<Metrics>,
    store: Store,
    fold: Mutex<Fold>,
    /// Clients stand in the history as marks: enough to keep them apart, and no list of who watched what.
    marks: RandomState,
}

/// A fact about a stream that is to be kept.
struct Fact {
    category: &'static str,
    message: String,
    stream: String,
    container: Option<String>,
    details: Value,
}

impl Recorder {
    /// Counts in `metrics`, keeps history in `store`.
    pub fn new(metrics: Arc<Metrics>, store: Store) -> Self {
        Self { metrics, store, fold: Mutex::default(), marks: RandomState::new() }
    }

    /// Says what was folded whenever it is time to, until the end.
    pub async fn run(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            self.tell_folded(false);
        }
    }

    /// Says what was folded so far, because no more comes.
    pub fn finish(&self) {
        self.tell_folded(true);
    }

    fn tell_folded(&self, is_last: bool) {
        let folded = self.fold.lock().take(Instant::now(), is_last);
        for Folded { category, client, more, last } in folded {
            let whose = if client.is_some() { "one client" } else { "many clients" };
            let address = client.map(tracing::field::display);
            let message = format!("and {more} more asked for by {whose}, the last one: {last}");
            tracing::warn!(category, more, client = address, "{message}");
            let event = NewEvent {
                details: json!({ "more": more }),
                ..NewEvent::new(Timestamp::now(), EventKind::Stream, category, message)
            };
            let share = client.map_or_else(|| "many".to_owned(), |client| self.mark(client));
            self.record(NewEvent { share: Some(share), ..event });
        }
    }

    /// The only way into the history: nothing in it steers a terminal or is longer than a line should be.
    fn record(&self, mut event: NewEvent) {
        event.message = text::line(&event.message, LONGEST_TEXT);
        clean(&mut event.details);
        self.store.record(event);
    }

    /// An operator has changed something.
    pub(crate) fn changed(&self, change: Change) {
        let details = serde_json::to_value(&change).unwrap_or_default();
        let Change { action, request, who, address, status, before, after } = change;
        let outcome = status.map_or_else(|| "left before the answer".to_owned(), |status| status.to_string());
        let message = format!("{request} by {} at {address}: {outcome}", who.as_str());
        let (before, after) = (shown(&before), shown(&after));
        tracing::info!(target: audit::TARGET, action, who = who.as_str(), %address, before, after, "{message}");
        let event = NewEvent::new(Timestamp::now(), EventKind::System, AUDIT, message);
        self.record(NewEvent { details, share: Some(action), ..event });
    }

    fn mark(&self, client: AddressGroup) -> String {
        format!("{:016x}", self.marks.hash_one(client))
    }

    fn keep(&self, fact: Fact) {
        self.keep_for(None, fact);
    }

    /// The same for what a client has brought about. False when it was folded.
    fn keep_of(&self, client: AddressGroup, fact: Fact) -> bool {
        let is_kept = self.fold.lock().admit(fact.category, client, Instant::now(), || fact.message.clone());
        if is_kept {
            self.keep_for(Some(client), fact);
        }
        is_kept
    }

    fn keep_for(&self, client: Option<AddressGroup>, fact: Fact) {
        let Fact { category, message, stream, container, details } = fact;
        let event = NewEvent::new(Timestamp::now(), EventKind::Stream, category, message);
        self.record(NewEvent {
            details,
            container_id: container,
            stream_id: Some(stream),
            share: client.map(|client| self.mark(client)),
            ..event
        });
    }

    /// Another program has reported that a stream began, or ended, on one of our engines.
    pub fn reported(&self, stream: &ForeignStream, is_start: bool) {
        let (category, message) = if is_start {
            ("started", "a stream was reported")
        } else {
            ("ended", "a reported stream ended")
        };
        tracing::info!(stream = stream.id, engine = stream.container_id, "{message}");
        let details = json!({ "reported": true });
        let (stream, container) = (stream.id.clone(), Some(stream.container_id.clone()));
        self.keep(Fact { category, message: message.into(), stream, container, details });
    }

    fn started(&self, event: &Event<'_>) {
        let Event::StartFinished { key, result, took, client } = event else { return };
        let took_ms = took.as_millis();
        match result {
            Ok(source) => {
                self.metrics.starts.finished("ok", *took);
                let details = json!({ "took_ms": u64::try_from(took_ms).unwrap_or(u64::MAX) });
                let container = Some(source.to_string());
                let message = "stream started".into();
                let fact = Fact { category: "started", message, stream: key.to_string(), container, details };
                if self.keep_of(*client, fact) {
                    tracing::info!(stream = %key, engine = %source, took_ms, "stream started");
                }
            }
            Err(error) => {
                let code = Code::from(*error).as_str();
                self.metrics.starts.finished(code, *took);
                let message = format!("stream could not be started: {error}");
                let details = json!({ "code": code });
                let fact =
                    Fact { category: "failed", message, stream: key.to_string(), container: None, details };
                if self.keep_of(*client, fact) {
                    tracing::warn!(stream = %key, code, took_ms, reason = %error, "stream could not be started");
                }
            }
        }
    }

    fn session(&self, event: &Event<'_>) {
        match event {
            Event::SessionOpened { key } => {
                self.metrics.sessions.opened.inc();
                tracing::debug!(stream = %key, "stream asked for");
            }
            Event::Interrupted { key, source, error } => {
                let engine = source.map(ToString::to_string);
                tracing::warn!(stream = %key, engine, error, "stream interrupted, opening it elsewhere");
                let message = format!("stream interrupted: {error}");
                self.keep(fact("interrupted", message, key, engine));
            }
            Event::Repeats { key, source } => {
                self.metrics.sessions.repeats.inc();
                let engine = source.map(ToString::to_string);
                tracing::warn!(stream = %key, engine, "the engine sends again what it has sent before");
                let message = "the engine sends again what it has sent before".into();
                self.keep(fact("repeats", message, key, engine));
            }
            Event::Leaving { key, source, why } => {
                let engine = source.map(ToString::to_string);
                tracing::info!(stream = %key, engine, why, "stream is to play on another engine");
                self.keep(fact("leaving", format!("stream leaves its engine: {why}"), key, engine));
            }
            Event::Recovered { key, source, gap, healed } => {
                let healed = healed.as_str();
                self.metrics.sessions.recovered(healed, *gap);
                let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(stream = %key, engine = %source, gap_ms, healed, "stream plays again");
                let details = json!({ "gap_ms": gap_ms, "healed": healed });
                let recovered = fact("recovered", "stream plays again".into(), key, Some(source.to_string()));
                self.keep(Fact { details, ..recovered });
            }
            Event::UpstreamReplaced { key, source } => {
                self.metrics.sessions.replaced.inc();
                tracing::info!(stream = %key, engine = %source, "the engine's newer playback takes over");
            }
            Event::SessionEnded { key, reason, lasted, client } => {
                self.metrics.sessions.ended(reason.as_str());
                if matches!(reason, EndReason::Lost | EndReason::Stuck) {
                    tracing::error!(stream = %key, reason = reason.as_str(), "internal error: a stream's session failed");
                }
                let (reason, seconds) = (reason.as_str(), lasted.as_secs());
                let ended = fact("ended", format!("stream ended: {reason}"), key, None);
                let details = json!({ "reason": reason, "seconds": seconds });
                if self.keep_of(*client, Fact { details, ..ended }) {
                    tracing::info!(stream = %key, reason, seconds, "stream ended");
                }
            }
            _ => {}
        }
    }

    fn viewer(&self, event: &Event<'_>) {
        match event {
            Event::ViewerJoined { key, viewer, waited } => {
                self.metrics.viewers.joined(*waited);
                tracing::debug!(stream = %key, %viewer, waited_ms = waited.as_millis(), "viewer joined");
            }
            Event::ViewerSkipped { key, viewer, bytes } => {
                self.metrics.viewers.lags.inc();
                self.metrics.viewers.lagged_bytes.inc_by(*bytes);
                tracing::debug!(stream = %key, %viewer, bytes, "viewer fell behind and skipped");
            }
            Event::ViewerLeft { key, viewer, reason, bytes, lasted } => {
                self.metrics.viewers.left(reason.as_str());
                let seconds = lasted.as_secs();
                tracing::debug!(stream = %key, %viewer, reason = reason.as_str(), bytes, seconds, "viewer left");
            }
            _ => {}
        }
    }
}

fn fact(category: &'static str, message: String, key: &StreamKey, container: Option<String>) -> Fact {
    Fact { category, message, stream: key.to_string(), container, details: json!({}) }
}

/// A state for one line of the log; nothing where there is none.
fn shown(state: &Value) -> Option<String> {
    (!state.is_null()).then(|| text::line(&state.to_string(), LONGEST_TEXT))
}

/// Every text within, names included: labels come from whoever built an image.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = text::line(text, LONGEST_TEXT),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => {
            for (name, mut field) in std::mem::take(fields) {
                clean(&mut field);
                fields.insert(text::line(&name, LONGEST_TEXT), field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl acemux_fleet::event::Observer for Recorder {
    fn observe(&self, event: &FleetEvent) {
        let line = history::describe(event);
        self.metrics.fleet.count(line.category, event);
        line.log();
        self.record(line.into());
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::StageFinished { stage, took } => self.metrics.starts.stage(stage.as_str(), *took),
            Event::StartRetried { key, source, error } => {
                self.metrics.starts.retries.inc();
                let engine = source.map(ToString::to_string).unwrap_or_default();
                tracing::info!(stream = %key, engine, error, "start failed, trying another engine");
            }
            Event::StartFinished { .. } => self.started(event),
            Event::SessionOpened { .. }
            | Event::Interrupted { .. }
            | Event::Leaving { .. }
            | Event::Repeats { .. }
            | Event::Recovered { .. }
            | Event::UpstreamReplaced { .. }
            | Event::SessionEnded { .. } => {
                self.session(event);
            }
            Event::ViewerJoined { .. } | Event::ViewerSkipped { .. } | Event::ViewerLeft { .. } => {
                self.viewer(event);
            }
        }
    }
}

impl From<&StartError> for Code {
    fn from(error: &StartError) -> Self {
        use acemux_relay::origin::{Lack, OpenError};
        match error {
            StartError::Open(OpenError::NoCapacity { lack, .. }) => match lack {
                Lack::Room => Self::NoEngine,
                Lack::Addresses => Self::NoPorts,
                Lack::Program => Self::ImageUnavailable,
                Lack::WayOut => Self::VpnDown,
                Lack::Queue => Self::ServerFull,
            },
            StartError::Open(OpenError::Unreachable { .. }) => Self::NoEngine,
            StartError::Open(OpenError::Failed { .. }) | StartError::Gone => Self::EngineError,
            StartError::Open(OpenError::BadReply { .. }) => Self::EngineBadReply,
            StartError::Timeout { .. } => Self::StartTimeout,
            StartError::Recording => Self::InvalidParam,
            StartError::ServerFull | StartError::MemoryFull => Self::ServerFull,
            StartError::TooManyViewers => Self::TooManyViewers,
            StartError::Draining => Self::Draining,
        }
    }
}
