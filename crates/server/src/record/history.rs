//! What happens to engines, as one sentence with its kind: for the log and for the event history.

use acemux_fleet::event::{EngineName, Event};
use acemux_fleet::fleet::of_rival;
use acemux_fleet::plan::Purpose;
use acemux_fleet::tunnel::Health as TunnelHealth;
use acemux_store::events::{EventKind, NewEvent};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::Level;

/// One line of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is about.
    pub kind: EventKind,
    /// E.g. `created`.
    pub category: &'static str,
    /// How much it matters.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// The engine's container.
    pub container: Option<String>,
    /// What else is known.
    pub details: Value,
}

impl Line {
    /// Writes it to the log.
    pub fn log(&self) {
        let Self { category, message, .. } = self;
        let engine = self.container.as_deref().map(|id| id.get(..12).unwrap_or(id)).unwrap_or_default();
        match self.level {
            Level::ERROR => tracing::error!(category, engine, "{message}"),
            Level::WARN => tracing::warn!(category, engine, "{message}"),
            Level::INFO => tracing::info!(category, engine, "{message}"),
            _ => tracing::debug!(category, engine, "{message}"),
        }
    }
}

impl From<Line> for NewEvent {
    fn from(line: Line) -> Self {
        Self {
            at: Timestamp::now(),
            kind: line.kind,
            category: line.category.to_owned(),
            message: line.message,
            details: line.details,
            container_id: line.container,
            stream_id: None,
            share: None,
        }
    }
}

/// An event as a line.
pub fn describe(event: &Event) -> Line {
    let (kind, category, level) = classify(event);
    let (message, details) = sentence(event);
    let container = engine_of(event).map(|engine| engine.id.as_str().to_owned());
    Line { kind, category, level, message, container, details }
}

fn classify(event: &Event) -> (EventKind, &'static str, Level) {
    use EventKind::{Engine, Health, System, Vpn};
    match event {
        Event::Creating { .. } => (Engine, "creating", Level::INFO),
        Event::Created { .. } => (Engine, "created", Level::INFO),
        Event::CreationFailed { .. } => (Engine, "creation_failed", Level::WARN),
        Event::Adopted { .. } => (Engine, "adopted", Level::INFO),
        Event::Ready { .. } => (Engine, "ready", Level::INFO),
        Event::HealthChanged { is_healthy: false, .. } => (Health, "warning", Level::WARN),
        Event::Cordoned { .. } => (Health, "cordoned", Level::INFO),
        Event::Ended { .. } => (Engine, "ended", Level::WARN),
        Event::Removed { .. } => (Engine, "deleted", Level::INFO),
        Event::Vanished { .. } => (Engine, "vanished", Level::WARN),
        Event::Renamed { .. } => (Engine, "renamed", Level::INFO),
        Event::RemovalFailed { .. } => (Engine, "removal_failed", Level::WARN),
        Event::Breaker { is_open: true, .. } => (Health, "failed", Level::ERROR),
        Event::HealthChanged { is_healthy: true, .. } | Event::Breaker { is_open: false, .. } => {
            (Health, "recovered", Level::INFO)
        }
        Event::Outside { .. } => (Vpn, "leak", Level::ERROR),
        Event::TunnelChanged { health: TunnelHealth::Up, .. } => (Vpn, "connected", Level::INFO),
        Event::TunnelChanged { health: TunnelHealth::Down { .. }, .. } => (Vpn, "disconnected", Level::ERROR),
        Event::TunnelChanged { health: TunnelHealth::Unsure { .. }, .. } => (Vpn, "unsure", Level::WARN),
        Event::TunnelRestarted { .. } => (Vpn, "restarted", Level::WARN),
        Event::TunnelNotRestarted { .. } => (Vpn, "restart_failed", Level::ERROR),
        Event::DockerDown { .. } => (System, "docker_down", Level::ERROR),
        Event::DockerUp { .. } => (System, "docker_up", Level::INFO),
        Event::Strangers { .. } => (System, "strangers", Level::WARN),
        Event::Rival { .. } => (System, "shared_instance", Level::WARN),
        Event::Scaled { .. } => (System, "scaling", Level::INFO),
    }
}

fn engine_of(event: &Event) -> Option<&EngineName> {
    match event {
        Event::Created { engine, .. }
        | Event::Adopted { engine }
        | Event::Ready { engine, .. }
        | Event::HealthChanged { engine, .. }
        | Event::Cordoned { engine, .. }
        | Event::Ended { engine, .. }
        | Event::Removed { engine, .. }
        | Event::Vanished { engine }
        | Event::Renamed { engine, .. }
        | Event::Outside { engine, .. }
        | Event::RemovalFailed { engine, .. } => Some(engine),
        _ => None,
    }
}

fn sentence(event: &Event) -> (String, Value) {
    let name = engine_of(event).map(|engine| engine.name.as_str()).unwrap_or_default();
    match event {
        Event::Creating { name, reason } => {
            (format!("creating {name}: {reason}"), json!({ "name": name, "reason": reason }))
        }
        Event::Created { took, .. } => {
            (format!("{name} was created"), json!({ "name": name, "took_ms": millis(*took) }))
        }
        Event::CreationFailed { name, why } => {
            (format!("{name} could not be created: {why}"), json!({ "name": name, "why": why }))
        }
        Event::Adopted { .. } => (format!("{name} was running already and is used"), json!({ "name": name })),
        Event::Ready { took, .. } => {
            (format!("{name} is ready"), json!({ "name": name, "took_ms": millis(*took) }))
        }
        Event::HealthChanged { is_healthy: true, .. } => {
            (format!("{name} answers again"), json!({ "name": name }))
        }
        Event::HealthChanged { .. } => (format!("{name} does not answer"), json!({ "name": name })),
        Event::Cordoned { is_cordoned: true, reason, .. } => {
            (format!("{name} gets no new streams: {reason}"), json!({ "name": name, "reason": reason }))
        }
        Event::Cordoned { reason, .. } => {
            (format!("{name} gets streams again: {reason}"), json!({ "name": name, "reason": reason }))
        }
        Event::Ended { post_mortem, .. } => {
            let code =
                post_mortem.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            let memory = if post_mortem.out_of_memory { ", out of memory" } else { "" };
            (format!("{name} ended{code}{memory}"), json!({ "name": name, "post_mortem": post_mortem }))
        }
        Event::Removed { reason, .. } => {
            (format!("{name} was removed: {reason}"), json!({ "name": name, "reason": reason }))
        }
        Event::Vanished { .. } => (format!("{name} was removed by somebody else"), json!({ "name": name })),
        Event::Renamed { from, .. } => {
            (format!("{from} is called {name} now"), json!({ "name": name, "from": from }))
        }
        Event::RemovalFailed { why, .. } => {
            (format!("{name} could not be removed: {why}"), json!({ "name": name, "why": why }))
        }
        Event::Outside { tunnel, .. } => {
            let text = format!("{name} ran outside of the VPN {tunnel} and is removed");
            (text, json!({ "name": name, "vpn": tunnel }))
        }
        _ => of_the_system(event),
    }
}

fn of_the_system(event: &Event) -> (String, Value) {
    match event {
        Event::Breaker { purpose, is_open, failures } => {
            let what = match purpose {
                Purpose::Growth => "creating engines",
                Purpose::Replacement => "replacing engines",
            };
            let text = if *is_open {
                format!("{what} failed {failures} times in a row and pauses")
            } else {
                format!("{what} works again")
            };
            (text, json!({ "purpose": purpose, "failures": failures }))
        }
        Event::TunnelChanged { tunnel, health } => {
            let text = match health.why() {
                None => format!("the VPN {tunnel} works"),
                Some(why) => format!("the VPN {tunnel} is {}: {why}", health.as_str()),
            };
            (text, json!({ "vpn": tunnel, "health": health }))
        }
        Event::TunnelRestarted { tunnel, reason } => {
            (format!("the VPN {tunnel} is restarted: {reason}"), json!({ "vpn": tunnel, "reason": reason }))
        }
        Event::TunnelNotRestarted { tunnel, why } => {
            (format!("the VPN {tunnel} could not be restarted: {why}"), json!({ "vpn": tunnel, "why": why }))
        }
        Event::DockerDown { why } => (why.clone(), json!({ "why": why })),
        Event::DockerUp { after } => {
            let seconds = after.as_secs();
            (format!("Docker answers again after {seconds} s"), json!({ "seconds": seconds }))
        }
        Event::Strangers { instance, engines } => {
            let text = format!(
                "{engines} engine(s) of another instance run here and are left alone; INSTANCE_ID={instance} adopts them"
            );
            (text, json!({ "instance": instance, "engines": engines }))
        }
        Event::Rival { instance, engines } => {
            (of_rival(instance, engines), json!({ "instance": instance, "engines": engines }))
        }
        Event::Scaled { to } => (format!("at least {to} engines are kept from now on"), json!({ "to": to })),
        _ => (String::new(), Value::Null),
    }
}

fn millis(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
