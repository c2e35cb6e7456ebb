//! What the data plane observes becomes one log line and its metrics, here and nowhere else, so that they agree.

use std::sync::Arc;

use acemux_relay::event::{Event, Observer};
use acemux_relay::session::StartError;

use crate::api::problem::Code;
use crate::metrics::Metrics;

/// Writes the log and counts.
pub struct Journal {
    metrics: Arc<Metrics>,
}

impl Journal {
    /// Counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }

    fn started(&self, event: &Event<'_>) {
        let Event::StartFinished { key, result, took } = event else { return };
        let took_ms = took.as_millis();
        match result {
            Ok(source) => {
                self.metrics.starts.finished("ok", *took);
                tracing::info!(stream = %key, engine = %source, took_ms, "stream started");
            }
            Err(error) => {
                let code = Code::from(*error).as_str();
                self.metrics.starts.finished(code, *took);
                tracing::warn!(stream = %key, code, took_ms, reason = %error, "stream could not be started");
            }
        }
    }

    fn session(&self, event: &Event<'_>) {
        match event {
            Event::SessionOpened { key } => {
                self.metrics.sessions.opened.inc();
                tracing::debug!(stream = %key, "stream asked for");
            }
            Event::UpstreamReplaced { key, source } => {
                self.metrics.sessions.replaced.inc();
                tracing::info!(stream = %key, engine = %source, "the engine's newer playback takes over");
            }
            Event::SessionEnded { key, reason, lasted } => {
                self.metrics.sessions.ended(reason.as_str());
                tracing::info!(stream = %key, reason = reason.as_str(), seconds = lasted.as_secs(), "stream ended");
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
            Event::SessionOpened { .. } | Event::UpstreamReplaced { .. } | Event::SessionEnded { .. } => {
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
        use acemux_relay::origin::OpenError;
        match error {
            StartError::Open(OpenError::NoCapacity { .. } | OpenError::Unreachable { .. }) => Self::NoEngine,
            StartError::Open(OpenError::Failed { .. }) | StartError::Gone => Self::EngineError,
            StartError::Open(OpenError::BadReply { .. }) => Self::EngineBadReply,
            StartError::Timeout { .. } => Self::StartTimeout,
            StartError::ServerFull | StartError::MemoryFull => Self::ServerFull,
            StartError::TooManyViewers => Self::TooManyViewers,
            StartError::Draining => Self::Draining,
        }
    }
}
