//! What the data plane observes becomes one log line and its metrics, here and nowhere else, so that they agree.

use std::sync::Arc;

use acemux_relay::event::{Event, Observer};
use acemux_relay::session::{EndReason, StartError};

use acemux_fleet::event::Event as FleetEvent;
use acemux_store::Store;
use acemux_store::events::{EventKind, NewEvent};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::problem::Code;
use crate::history;
use crate::metrics::Metrics;
use crate::reported::Known;

/// Writes the log and counts.
pub struct Journal {
    metrics: Arc<Metrics>,
    store: Store,
}

impl Journal {
    /// Counts in `metrics`, keeps history in `store`.
    pub fn new(metrics: Arc<Metrics>, store: Store) -> Self {
        Self { metrics, store }
    }

    fn keep(
        &self,
        category: &str,
        message: String,
        stream: String,
        container: Option<String>,
        details: Value,
    ) {
        self.store.record(NewEvent {
            at: Timestamp::now(),
            kind: EventKind::Stream,
            category: category.to_owned(),
            message,
            details,
            container_id: container,
            stream_id: Some(stream),
        });
    }

    /// Another program has reported that a stream began, or ended, on one of our engines.
    pub fn reported(&self, stream: &Known, is_start: bool) {
        let (category, message) = if is_start {
            ("started", "a stream was reported")
        } else {
            ("ended", "a reported stream ended")
        };
        tracing::info!(stream = stream.id, engine = stream.container_id, "{message}");
        let details = json!({ "reported": true });
        self.keep(category, message.into(), stream.id.clone(), Some(stream.container_id.clone()), details);
    }

    fn started(&self, event: &Event<'_>) {
        let Event::StartFinished { key, result, took } = event else { return };
        let took_ms = took.as_millis();
        match result {
            Ok(source) => {
                self.metrics.starts.finished("ok", *took);
                tracing::info!(stream = %key, engine = %source, took_ms, "stream started");
                let details = json!({ "took_ms": u64::try_from(took_ms).unwrap_or(u64::MAX) });
                self.keep(
                    "started",
                    "stream started".into(),
                    key.to_string(),
                    Some(source.to_string()),
                    details,
                );
            }
            Err(error) => {
                let code = Code::from(*error).as_str();
                self.metrics.starts.finished(code, *took);
                tracing::warn!(stream = %key, code, took_ms, reason = %error, "stream could not be started");
                let message = format!("stream could not be started: {error}");
                self.keep("failed", message, key.to_string(), None, json!({ "code": code }));
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
                self.keep("interrupted", message, key.to_string(), engine, json!({}));
            }
            Event::Repeats { key, source } => {
                self.metrics.sessions.repeats.inc();
                let engine = source.map(ToString::to_string);
                tracing::warn!(stream = %key, engine, "the engine sends again what it has sent before");
                let message = "the engine sends again what it has sent before".into();
                self.keep("repeats", message, key.to_string(), engine, json!({}));
            }
            Event::Leaving { key, source, why } => {
                let engine = source.map(ToString::to_string);
                tracing::info!(stream = %key, engine, why, "stream is to play on another engine");
                self.keep(
                    "leaving",
                    format!("stream leaves its engine: {why}"),
                    key.to_string(),
                    engine,
                    json!({}),
                );
            }
            Event::Recovered { key, source, gap, healed } => {
                let healed = healed.as_str();
                self.metrics.sessions.recovered(healed, *gap);
                let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(stream = %key, engine = %source, gap_ms, healed, "stream plays again");
                let details = json!({ "gap_ms": gap_ms, "healed": healed });
                let message = "stream plays again".into();
                self.keep("recovered", message, key.to_string(), Some(source.to_string()), details);
            }
            Event::UpstreamReplaced { key, source } => {
                self.metrics.sessions.replaced.inc();
                tracing::info!(stream = %key, engine = %source, "the engine's newer playback takes over");
            }
            Event::SessionEnded { key, reason, lasted } => {
                self.metrics.sessions.ended(reason.as_str());
                if matches!(reason, EndReason::Lost | EndReason::Stuck) {
                    tracing::error!(stream = %key, reason = reason.as_str(), "internal error: a stream's session failed");
                }
                tracing::info!(stream = %key, reason = reason.as_str(), seconds = lasted.as_secs(), "stream ended");
                let message = format!("stream ended: {}", reason.as_str());
                let details = json!({ "reason": reason.as_str(), "seconds": lasted.as_secs() });
                self.keep("ended", message, key.to_string(), None, details);
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

impl acemux_fleet::event::Observer for Journal {
    fn observe(&self, event: &FleetEvent) {
        let line = history::describe(event);
        self.metrics.fleet.count(line.category, event);
        line.log();
        self.store.record(line.into());
    }
}

impl Observer for Journal {
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
