//! What each event of the planes means to people and programs: one arm gives its level, category, sentence, details and
//! counter. The log, the history and the metrics have them from here and from nowhere else, so that they agree.
//!
//! No arm stands for "the rest": a new event does not compile before it is said what becomes of it.

use std::time::Duration;

use acemux_fleet::event::{EngineName, Event as FleetEvent};
use acemux_fleet::fleet::of_rival;
use acemux_fleet::plan::{Purpose, Reason};
use acemux_fleet::tunnel::Health as TunnelHealth;
use acemux_relay::StreamKey;
use acemux_relay::admission::AddressGroup;
use acemux_relay::event::Event as StreamEvent;
use acemux_relay::origin::SourceId;
use acemux_relay::session::EndReason;
use acemux_store::events::{EventKind, NewEvent};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::http::problem::Code;
use crate::planes::reported::ForeignStream;
use crate::record::metrics::Metrics;

/// Where the lines about streams stand: anybody can bring them about.
pub(super) const STREAMS: &str = "acemux_server::record::event::streams";

/// Where the lines about engines and VPNs stand.
pub(super) const FLEET: &str = "acemux_server::record::event::fleet";

/// Every category of an event of the fleet.
pub(super) const FLEET_CATEGORIES: [&str; 25] = [
    "creating",
    "created",
    "creation_failed",
    "adopted",
    "ready",
    "recovered",
    "warning",
    "cordoned",
    "ended",
    "deleted",
    "vanished",
    "renamed",
    "removal_failed",
    "failed",
    "leak",
    "connected",
    "disconnected",
    "unsure",
    "restarted",
    "restart_failed",
    "docker_down",
    "docker_up",
    "strangers",
    "shared_instance",
    "scaling",
];

/// An event in words.
pub(super) struct Told<'a> {
    /// What it is about.
    kind: EventKind,
    /// What happened, e.g. `created`.
    pub(super) category: &'static str,
    /// One sentence.
    pub(super) message: String,
    /// What else is known.
    details: Value,
    stream: Option<String>,
    /// Its container, or its address.
    engine: Option<String>,
    /// Who has brought it about, where anybody can in any number: then it is folded.
    pub(super) client: Option<AddressGroup>,
    /// Whether the history has it. All others are only in the log.
    pub(super) is_kept: bool,
    log: Box<dyn Fn(&Self) + 'a>,
}

/// The beginning of an arm: target, level, category, fields of the line beside the common ones, sentence. A macro, because
/// the log throttles each place in the program by itself: no event takes another one's lines.
macro_rules! told {
    ($target:ident, $level:ident, $kind:ident, $category:literal, [$($fields:tt)*], $($sentence:tt)+) => {
        Told {
            kind: EventKind::$kind,
            category: $category,
            message: format!($($sentence)+),
            details: json!({}),
            stream: None,
            engine: None,
            client: None,
            is_kept: true,
            log: Box::new(move |told| {
                let (category, stream, engine) = (told.category, told.stream.as_deref(), told.engine_in_line());
                let message = told.message.as_str();
                tracing::event!(
                    target: $target, tracing::Level::$level, category, stream, engine, $($fields)* "{message}"
                );
            }),
        }
    };
}

impl Told<'_> {
    /// Writes its line.
    pub(super) fn log(&self) {
        (self.log)(self);
    }

    /// Its row of the history; `share` tells causes apart.
    pub(super) fn into_row(self, share: Option<String>) -> NewEvent {
        NewEvent {
            at: Timestamp::now(),
            kind: self.kind,
            category: self.category.to_owned(),
            message: self.message,
            details: self.details,
            container_id: self.engine,
            stream_id: self.stream,
            share,
        }
    }

    /// Lines about the fleet have as much of a container's id as Docker shows.
    fn engine_in_line(&self) -> Option<&str> {
        let engine = self.engine.as_deref()?;
        Some(if self.kind == EventKind::Stream { engine } else { engine.get(..12).unwrap_or(engine) })
    }

    fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }

    fn of(self, key: &StreamKey) -> Self {
        Self { stream: Some(key.to_string()), ..self }
    }

    fn on(self, source: Option<&SourceId>) -> Self {
        Self { engine: source.map(ToString::to_string), ..self }
    }

    fn by(self, client: AddressGroup) -> Self {
        Self { client: Some(client), ..self }
    }

    fn about(self, engine: &EngineName) -> Self {
        Self { engine: Some(engine.id.as_str().to_owned()), ..self }
    }

    fn only_logged(self) -> Self {
        Self { is_kept: false, ..self }
    }
}

/// An event of the data plane, counted. Nothing is told of what is a figure and no more.
#[expect(clippy::too_many_lines, reason = "one arm for each event, and each is short")]
pub(super) fn of_stream<'a>(event: &StreamEvent<'a>, metrics: &Metrics) -> Option<Told<'a>> {
    let (starts, sessions, viewers) = (&metrics.starts, &metrics.sessions, &metrics.viewers);
    Some(match *event {
        StreamEvent::SessionOpened { key } => {
            sessions.opened.inc();
            told!(STREAMS, DEBUG, Stream, "asked", [], "stream asked for").of(key).only_logged()
        }
        StreamEvent::StageFinished { stage, took } => {
            starts.stage(stage.as_str(), took);
            return None;
        }
        StreamEvent::StartRetried { key, source, error } => {
            starts.retries.inc();
            told!(STREAMS, INFO, Stream, "retried", [error,], "start failed, trying another engine")
                .of(key)
                .on(source)
                .only_logged()
        }
        StreamEvent::StartFinished { key, result: Ok(source), took, client } => {
            starts.finished("ok", took);
            let took_ms = millis(took);
            told!(STREAMS, INFO, Stream, "started", [took_ms,], "stream started")
                .of(key)
                .on(Some(source))
                .by(client)
                .with(json!({ "took_ms": took_ms }))
        }
        StreamEvent::StartFinished { key, result: Err(error), took, client } => {
            let (code, took_ms) = (Code::from(error).as_str(), millis(took));
            starts.finished(code, took);
            told!(STREAMS, WARN, Stream, "failed", [code, took_ms,], "stream could not be started: {error}")
                .of(key)
                .by(client)
                .with(json!({ "code": code }))
        }
        StreamEvent::Interrupted { key, source, error } => {
            told!(STREAMS, WARN, Stream, "interrupted", [], "stream interrupted: {error}").of(key).on(source)
        }
        StreamEvent::Leaving { key, source, why } => {
            told!(STREAMS, INFO, Stream, "leaving", [], "stream leaves its engine: {why}").of(key).on(source)
        }
        StreamEvent::Repeats { key, source } => {
            sessions.repeats.inc();
            told!(STREAMS, WARN, Stream, "repeats", [], "the engine sends again what it has sent before")
                .of(key)
                .on(source)
        }
        StreamEvent::FormatChanged { key, format } => {
            let (video, audio) = (format.video(), format.audio());
            let size = format.picture().map(|picture| format!("{}x{}", picture.width, picture.height));
            told!(
                STREAMS,
                INFO,
                Stream,
                "format_changed",
                [video, audio,],
                "the broadcast has another format now"
            )
            .of(key)
            .with(json!({ "video": video, "audio": audio, "resolution": size }))
        }
        StreamEvent::Recovered { key, source, gap, healed } => {
            let (gap_ms, healed) = (millis(gap), healed.as_str());
            sessions.recovered(healed, gap);
            told!(STREAMS, INFO, Stream, "recovered", [gap_ms, healed,], "stream plays again")
                .of(key)
                .on(Some(source))
                .with(json!({ "gap_ms": gap_ms, "healed": healed }))
        }
        StreamEvent::UpstreamReplaced { key, source } => {
            sessions.replaced.inc();
            told!(STREAMS, INFO, Stream, "replaced", [], "the engine's newer playback takes over")
                .of(key)
                .on(Some(source))
                .only_logged()
        }
        // Of these there must be none: each is told.
        StreamEvent::SessionEnded {
            key,
            reason: reason @ (EndReason::Lost | EndReason::Stuck),
            lasted,
            ..
        } => {
            let (reason, seconds) = (reason.as_str(), lasted.as_secs());
            sessions.ended(reason);
            told!(
                STREAMS,
                ERROR,
                Stream,
                "ended",
                [reason, seconds,],
                "internal error: stream ended: {reason}"
            )
            .of(key)
            .with(json!({ "reason": reason, "seconds": seconds }))
        }
        StreamEvent::SessionEnded { key, reason, lasted, client } => {
            let (reason, seconds) = (reason.as_str(), lasted.as_secs());
            sessions.ended(reason);
            told!(STREAMS, INFO, Stream, "ended", [reason, seconds,], "stream ended: {reason}")
                .of(key)
                .by(client)
                .with(json!({ "reason": reason, "seconds": seconds }))
        }
        StreamEvent::ViewerJoined { key, viewer, waited } => {
            viewers.joined(waited);
            let waited_ms = millis(waited);
            told!(STREAMS, DEBUG, Stream, "viewer_joined", [%viewer, waited_ms,], "viewer joined")
                .of(key)
                .only_logged()
        }
        StreamEvent::ViewerSkipped { key, viewer, bytes } => {
            viewers.lags.inc();
            viewers.lagged_bytes.inc_by(bytes);
            told!(STREAMS, DEBUG, Stream, "viewer_skipped", [%viewer, bytes,], "viewer fell behind and skipped")
                .of(key)
                .only_logged()
        }
        StreamEvent::ViewerLeft { key, viewer, reason, bytes, lasted } => {
            let (reason, seconds) = (reason.as_str(), lasted.as_secs());
            viewers.left(reason);
            told!(STREAMS, DEBUG, Stream, "viewer_left", [%viewer, reason, bytes, seconds,], "viewer left")
                .of(key)
                .only_logged()
        }
    })
}

/// Another program has reported that a stream began, or ended, on one of our engines.
pub(super) fn of_foreign(stream: &ForeignStream, is_start: bool) -> Told<'static> {
    let told = if is_start {
        told!(STREAMS, INFO, Stream, "started", [], "a stream was reported")
    } else {
        told!(STREAMS, INFO, Stream, "ended", [], "a reported stream ended")
    };
    let (stream, engine) = (Some(stream.id.clone()), Some(stream.container_id.clone()));
    Told { stream, engine, ..told.with(json!({ "reported": true })) }
}

/// An event of the control plane, counted.
pub(super) fn of_fleet(event: &FleetEvent, metrics: &Metrics) -> Told<'static> {
    let told = fleet_event(event, metrics);
    metrics.fleet.count(told.category);
    told
}

#[expect(clippy::too_many_lines, reason = "one arm for each event, and each is short")]
fn fleet_event(event: &FleetEvent, metrics: &Metrics) -> Told<'static> {
    match event {
        FleetEvent::Creating { name, reason } => {
            told!(FLEET, INFO, Engine, "creating", [], "creating {name}: {reason}")
                .with(json!({ "name": name, "reason": reason }))
        }
        FleetEvent::Created { engine, took } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, INFO, Engine, "created", [], "{name} was created")
                .about(engine)
                .with(json!({ "name": name, "took_ms": millis(*took) }))
        }
        FleetEvent::CreationFailed { name, why } => {
            told!(FLEET, WARN, Engine, "creation_failed", [], "{name} could not be created: {why}")
                .with(json!({ "name": name, "why": why }))
        }
        FleetEvent::Adopted { engine } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, INFO, Engine, "adopted", [], "{name} was running already and is used")
                .about(engine)
                .with(json!({ "name": name }))
        }
        FleetEvent::Ready { engine, took } => {
            metrics.fleet.ready(*took);
            let EngineName { name, .. } = engine;
            told!(FLEET, INFO, Engine, "ready", [], "{name} is ready")
                .about(engine)
                .with(json!({ "name": name, "took_ms": millis(*took) }))
        }
        FleetEvent::HealthChanged { engine, is_healthy } => {
            let EngineName { name, .. } = engine;
            let told = if *is_healthy {
                told!(FLEET, INFO, Health, "recovered", [], "{name} answers again")
            } else {
                told!(FLEET, WARN, Health, "warning", [], "{name} does not answer")
            };
            told.about(engine).with(json!({ "name": name }))
        }
        FleetEvent::Cordoned { engine, is_cordoned, reason } => {
            let EngineName { name, .. } = engine;
            let told = if *is_cordoned {
                if matches!(reason, Reason::RunsAway { .. }) {
                    metrics.fleet.runaways.inc();
                }
                told!(FLEET, INFO, Health, "cordoned", [], "{name} gets no new streams: {reason}")
            } else {
                told!(FLEET, INFO, Health, "cordoned", [], "{name} gets streams again: {reason}")
            };
            told.about(engine).with(json!({ "name": name, "reason": reason }))
        }
        FleetEvent::Ended { engine, post_mortem } => {
            let EngineName { name, .. } = engine;
            let code =
                post_mortem.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            let memory = if post_mortem.out_of_memory { ", out of memory" } else { "" };
            told!(FLEET, WARN, Engine, "ended", [], "{name} ended{code}{memory}")
                .about(engine)
                .with(json!({ "name": name, "post_mortem": post_mortem }))
        }
        FleetEvent::Removed { engine, reason } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, INFO, Engine, "deleted", [], "{name} was removed: {reason}")
                .about(engine)
                .with(json!({ "name": name, "reason": reason }))
        }
        FleetEvent::Vanished { engine } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, WARN, Engine, "vanished", [], "{name} was removed by somebody else")
                .about(engine)
                .with(json!({ "name": name }))
        }
        FleetEvent::Renamed { engine, from } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, INFO, Engine, "renamed", [], "{from} is called {name} now")
                .about(engine)
                .with(json!({ "name": name, "from": from }))
        }
        FleetEvent::RemovalFailed { engine, why } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, WARN, Engine, "removal_failed", [], "{name} could not be removed: {why}")
                .about(engine)
                .with(json!({ "name": name, "why": why }))
        }
        FleetEvent::Breaker { purpose, is_open, failures } => {
            let what = match purpose {
                Purpose::Growth => "creating engines",
                Purpose::Replacement => "replacing engines",
            };
            let told = if *is_open {
                told!(FLEET, ERROR, Health, "failed", [], "{what} failed {failures} times in a row and pauses")
            } else {
                told!(FLEET, INFO, Health, "recovered", [], "{what} works again")
            };
            told.with(json!({ "purpose": purpose, "failures": failures }))
        }
        FleetEvent::Outside { engine, tunnel } => {
            let EngineName { name, .. } = engine;
            told!(FLEET, ERROR, Vpn, "leak", [], "{name} ran outside of the VPN {tunnel} and is removed")
                .about(engine)
                .with(json!({ "name": name, "vpn": tunnel }))
        }
        FleetEvent::TunnelChanged { tunnel, health } => {
            let state = health.as_str();
            let told = match health {
                TunnelHealth::Up => {
                    told!(FLEET, INFO, Vpn, "connected", [], "the VPN {tunnel} works")
                }
                TunnelHealth::Down { why } => {
                    told!(FLEET, ERROR, Vpn, "disconnected", [], "the VPN {tunnel} is {state}: {why}")
                }
                TunnelHealth::Unsure { why } => {
                    told!(FLEET, WARN, Vpn, "unsure", [], "the VPN {tunnel} is {state}: {why}")
                }
            };
            told.with(json!({ "vpn": tunnel, "health": health }))
        }
        FleetEvent::TunnelRestarted { tunnel, reason } => {
            told!(FLEET, WARN, Vpn, "restarted", [], "the VPN {tunnel} is restarted: {reason}")
                .with(json!({ "vpn": tunnel, "reason": reason }))
        }
        FleetEvent::TunnelNotRestarted { tunnel, why } => {
            told!(FLEET, ERROR, Vpn, "restart_failed", [], "the VPN {tunnel} could not be restarted: {why}")
                .with(json!({ "vpn": tunnel, "why": why }))
        }
        FleetEvent::DockerDown { why } => {
            told!(FLEET, ERROR, System, "docker_down", [], "{why}").with(json!({ "why": why }))
        }
        FleetEvent::DockerUp { after } => {
            let seconds = after.as_secs();
            told!(FLEET, INFO, System, "docker_up", [], "Docker answers again after {seconds} s")
                .with(json!({ "seconds": seconds }))
        }
        FleetEvent::Strangers { instance, engines } => told!(
            FLEET,
            WARN,
            System,
            "strangers",
            [],
            "{engines} engine(s) of another instance run here and are left alone; INSTANCE_ID={instance} adopts them"
        )
        .with(json!({ "instance": instance, "engines": engines })),
        FleetEvent::Rival { instance, engines } => {
            told!(FLEET, WARN, System, "shared_instance", [], "{}", of_rival(instance, engines))
                .with(json!({ "instance": instance, "engines": engines }))
        }
        FleetEvent::Scaled { to } => {
            told!(FLEET, INFO, System, "scaling", [], "at least {to} engines are kept from now on")
                .with(json!({ "to": to }))
        }
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runaway_is_counted_when_it_is_given_up_and_named_in_the_history() {
        let id = "0".repeat(64).parse().expect("64 hex digits");
        let engine = EngineName { id, name: "acestream-3".into() };
        let cordoned =
            |is_cordoned, reason| FleetEvent::Cordoned { engine: engine.clone(), is_cordoned, reason };
        let metrics = Metrics::default();
        let given_up = cordoned(true, Reason::RunsAway { mbits: 35 });
        for event in [&cordoned(true, Reason::Fat), &cordoned(false, Reason::Recovered)] {
            of_fleet(event, &metrics);
        }
        let told = of_fleet(&given_up, &metrics);
        assert_eq!(metrics.fleet.runaways.get(), 1);
        let sentence = "acestream-3 gets no new streams: it receives 35 Mbit/s without a session";
        assert_eq!(told.message, sentence);
        assert_eq!(told.engine_in_line(), Some("000000000000"));
        let row = told.into_row(None);
        assert_eq!(row.details["reason"], json!({ "code": "runs_away", "mbits": 35 }));
        assert_eq!(row.container_id, Some("0".repeat(64)));
    }

    /// What is counted begins at zero, so all names of what is counted must be known.
    #[test]
    fn the_categories_of_the_fleet_are_those_in_its_arms() {
        let arms = include_str!("event.rs").split("told!(").skip(1);
        let category = |arm: &'static str| {
            let mut words = arm.split(',').map(str::trim);
            (words.next() == Some("FLEET")).then(|| words.nth(2).expect("a category").trim_matches('"'))
        };
        let mut told: Vec<&str> = arms.filter_map(category).collect();
        assert!(told.len() > FLEET_CATEGORIES.len(), "{told:?}");
        told.sort_unstable();
        told.dedup();
        let mut known = FLEET_CATEGORIES;
        known.sort_unstable();
        assert_eq!(told, known);
    }
}
