//! What the planes observe becomes a log line, its metrics and an entry of the history: `event.rs` says in which words, and
//! everything passes through one place here.
//!
//! What anybody can bring about in any number, starts and ends of streams, is folded (`fold.rs`): log and history have
//! the first of a client in full and then how many more there were. Metrics count them all.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use acemux_engine::text;
use acemux_relay::admission::AddressGroup;
use acemux_relay::event::{Event, Observer};

use acemux_fleet::event::Event as FleetEvent;
use acemux_store::Store;
use acemux_store::events::{AUDIT, EventKind, NewEvent};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::planes::live::Live;
use crate::planes::reported::ForeignStream;
use crate::record::audit::{self, Change};
use crate::record::event::{self, Told};
use crate::record::fold::{Fold, Folded};
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
    /// Who tells open pages. Weak: what it looks at observes through this recorder.
    live: OnceLock<Weak<Live>>,
}

/// An entry of the history as open pages are told it: the shape of `/events`, without the number that it gets later.
#[derive(Debug, Serialize)]
struct News<'a> {
    timestamp: Timestamp,
    event_type: EventKind,
    category: &'a str,
    message: &'a str,
    details: &'a Value,
    container_id: Option<&'a str>,
    stream_id: Option<&'a str>,
}

impl Recorder {
    /// Counts in `metrics`, keeps history in `store`.
    pub fn new(metrics: Arc<Metrics>, store: Store) -> Self {
        Self { metrics, store, fold: Mutex::default(), marks: RandomState::new(), live: OnceLock::new() }
    }

    /// Open pages are told through this one from now on.
    pub fn tell(&self, live: &Arc<Live>) {
        // The first one stays: there is one in a process.
        let _first = self.live.set(Arc::downgrade(live));
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
        // As exactly as the store keeps it.
        event.at = Timestamp::from_microsecond(event.at.as_microsecond()).unwrap_or(event.at);
        self.tell_pages(&event);
        self.store.record(event);
    }

    /// But for the audit, which is the operators'.
    fn tell_pages(&self, event: &NewEvent) {
        let live = self.live.get().and_then(Weak::upgrade).filter(|_| event.category != AUDIT);
        let Some(live) = live else { return };
        live.log(&News {
            timestamp: event.at,
            event_type: event.kind,
            category: &event.category,
            message: &event.message,
            details: &event.details,
            container_id: event.container_id.as_deref(),
            stream_id: event.stream_id.as_deref(),
        });
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

    /// Another program has reported that a stream began, or ended, on one of our engines.
    pub fn reported(&self, stream: &ForeignStream, is_start: bool) {
        self.emit(event::of_foreign(stream, is_start));
    }

    /// The only way of an event to the log and to the history. What was folded is in neither; it is told later.
    fn emit(&self, told: Told<'_>) {
        if told.client.is_some_and(|client| !self.admits(&told, client)) {
            return;
        }
        told.log();
        if told.is_kept {
            let share = told.client.map(|client| self.mark(client));
            self.record(told.into_row(share));
        }
    }

    fn admits(&self, told: &Told<'_>, client: AddressGroup) -> bool {
        self.fold.lock().admit(told.category, client, Instant::now(), || told.message.clone())
    }
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
        self.emit(event::of_fleet(event, &self.metrics));
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        if let Some(told) = event::of_stream(event, &self.metrics) {
            self.emit(told);
        }
    }
}
