//! Who has changed what: one entry in the log and in the event history for every request of an operator that may change
//! something, also for those that failed.
//!
//! A layer around all pages (`watch`) makes an empty `Note` for each request by a changing method and writes the entry
//! when the request is over, however it ends. [`Operator`](crate::http::auth::Operator), which every such page takes, says on the
//! note who it is; the page adds what there was before and what there is now. So a new page is in the audit without doing
//! anything for it, and a page that changes something without asking for an operator is there as `nobody`.

use std::net::IpAddr;
use std::sync::Arc;

use acemux_engine::text;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::client::ClientInfo;
use crate::http::surface::MIRROR;
use crate::record::recorder::Recorder;

/// Under which the entries stand in the log, whatever `LOG_LEVEL` is.
pub const TARGET: &str = "audit";

/// Longest state in an entry, bytes of JSON. Both of an entry and the rest fit into an event's details.
const LONGEST_STATE: usize = 3_000;

/// Longest path in an entry, in characters.
const LONGEST_PATH: usize = 200;

/// How somebody became an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// By the API key.
    Key,
    /// By the cookie of a login.
    Login,
    /// By the rule that this machine needs none.
    ThisMachine,
    /// Not at all: the page did not ask.
    Nobody,
}

impl Who {
    /// As the log has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Login => "login",
            Self::ThisMachine => "this_machine",
            Self::Nobody => "nobody",
        }
    }
}

/// What is known of a change while its request is handled. Clones are the same note.
#[derive(Clone, Debug, Default)]
pub(crate) struct Note(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    who: Option<Who>,
    before: Value,
    after: Value,
}

impl Note {
    pub(crate) fn is_by(&self, who: Who) {
        self.0.lock().who = Some(who);
    }

    pub(crate) fn who(&self) -> Option<Who> {
        self.0.lock().who
    }

    pub(crate) fn was(&self, before: Value) {
        self.0.lock().before = before;
    }

    pub(crate) fn is(&self, after: Value) {
        self.0.lock().after = after;
    }
}

/// One entry.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    /// Method and route, e.g. `POST /scale/{engines}`.
    pub(crate) action: String,
    /// Method and path, e.g. `POST /scale/3`.
    #[serde(skip)]
    pub(crate) request: String,
    pub(crate) who: Who,
    pub(crate) address: IpAddr,
    /// Of the page's answer; none when the client left before it. A body that cannot be read is 422 here and reaches the
    /// client as the edge has it, 400.
    pub(crate) status: Option<u16>,
    /// Null where there is no state, or nothing was changed.
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// Writes an entry for every request by a method that may change something.
pub(crate) async fn watch(
    State(recorder): State<Arc<Recorder>>,
    client: ClientInfo,
    mut request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let note = Note::default();
    let mut pending = Pending::new(recorder, client.address, &request, note.clone());
    request.extensions_mut().insert(note);
    let response = next.run(request).await;
    pending.status = Some(response.status());
    response
}

/// The entry of a request that is being handled. It is written when this is dropped: a client that leaves has perhaps
/// changed something all the same.
struct Pending {
    recorder: Arc<Recorder>,
    note: Note,
    action: String,
    request: String,
    address: IpAddr,
    status: Option<StatusCode>,
}

impl Pending {
    fn new(recorder: Arc<Recorder>, address: IpAddr, request: &Request, note: Note) -> Self {
        let (method, path) = (request.method(), request.uri().path());
        let route = request.extensions().get::<MatchedPath>().map_or(path, MatchedPath::as_str);
        let named = |path: &str| format!("{method} {}", path.strip_prefix(MIRROR).unwrap_or(path));
        Self {
            recorder,
            note,
            action: text::line(&named(route), LONGEST_PATH),
            request: text::line(&named(path), LONGEST_PATH),
            address,
            status: None,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Noted { who, before, after } = std::mem::take(&mut *self.note.0.lock());
        let is_done = self.status.is_some_and(|status| status.is_success());
        // Who was refused has changed nothing.
        let Some(who) = who.or_else(|| is_done.then_some(Who::Nobody)) else { return };
        self.recorder.changed(Change {
            action: std::mem::take(&mut self.action),
            request: std::mem::take(&mut self.request),
            who,
            address: self.address,
            status: self.status.map(|status| status.as_u16()),
            before: bounded(before),
            after: bounded(after),
        });
    }
}

/// A state that is too long is told by its size: who and what must not be lost for it.
fn bounded(state: Value) -> Value {
    let bytes = state.to_string().len();
    if bytes > LONGEST_STATE { json!({ "left_out_bytes": bytes }) } else { state }
}

/// Of two states as objects, what differs.
pub(crate) fn difference(before: Value, after: Value) -> (Value, Value) {
    let (Value::Object(mut before), Value::Object(mut after)) = (before, after) else {
        return (Value::Null, Value::Null);
    };
    let same: Vec<String> = before
        .iter()
        .filter(|(key, value)| after.get(*key) == Some(value))
        .map(|(key, _)| key.clone())
        .collect();
    for key in same {
        before.remove(&key);
        after.remove(&key);
    }
    (before.into(), after.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_state_is_told_by_its_size() {
        let long = json!({ "labels": "x".repeat(LONGEST_STATE) });
        assert_eq!(bounded(long.clone()), json!({ "left_out_bytes": long.to_string().len() }));
        assert_eq!((bounded(json!({ "a": 1 })), bounded(Value::Null)), (json!({ "a": 1 }), Value::Null));
    }

    #[test]
    fn only_what_differs_is_told() {
        let (before, after) =
            difference(json!({ "a": 1, "b": 2, "c": 3 }), json!({ "a": 1, "b": 4, "d": 5 }));
        assert_eq!((before, after), (json!({ "b": 2, "c": 3 }), json!({ "b": 4, "d": 5 })));
    }
}
