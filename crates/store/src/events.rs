//! The event log: what happened, newest first. Bounded in number and age.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Transaction, named_params, params};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::column::{self, At, Document, Json};
use crate::store::{Store, StoreError};
use crate::worker::Worker;

/// Of every category the newest events are kept, as many as this: what happens often pushes out nothing but its own kind.
/// The program has some thirty categories, so all of them are some ten megabytes.
const MOST_OF_A_CATEGORY: i64 = 2_000;

/// Of these, so many of one share: whoever causes many events pushes out his own.
const MOST_OF_A_SHARE: i64 = 500;

/// How long events are kept until somebody says otherwise ([`Store::keep_events`]).
pub const USUALLY_KEPT: Duration = Duration::from_hours(7 * 24);

/// The audit is kept at least so long: who has changed something must not be able to shorten what says so.
const AUDIT_KEPT: Duration = Duration::from_hours(30 * 24);

/// One in so many events looks whether there are too many: looking costs more than writing.
const PRUNE_EVERY: i64 = 100;

/// Most events of one answer.
const MOST_ANSWERED: usize = 1_000;

/// Bytes of a message that are kept.
const LONGEST_MESSAGE: usize = 4 * 1024;

/// Bytes of details, as JSON, that are kept. Labels from outside end up here, so there is a bound.
const LONGEST_DETAILS: usize = 8 * 1024;

/// The category of what operators have changed. A cleanup leaves it alone, and it is kept for thirty days at least.
pub const AUDIT: &str = "audit";

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// An engine.
    Engine,
    /// A stream.
    Stream,
    /// A VPN.
    Vpn,
    /// The health of the fleet.
    Health,
    /// The service itself.
    System,
}

/// Something that happened, to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub kind: EventKind,
    /// What happened, one word: `created`, `ended`, …
    pub category: String,
    /// The same for people. Only the first 4 KiB are kept.
    pub message: String,
    /// What else is known, an object. More than 8 KiB of it are replaced by their size.
    pub details: Value,
    /// The container concerned.
    pub container_id: Option<String>,
    /// The stream concerned.
    pub stream_id: Option<String>,
    /// Within its category, whose part of the log it takes: no more than a mark that tells causes apart.
    pub share: Option<String>,
}

/// An event of the log. Serializes as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Event {
    /// Grows with every event, also over restarts.
    pub id: i64,
    /// When, to the microsecond.
    #[serde(rename = "timestamp")]
    pub at: Timestamp,
    /// What it is about.
    #[serde(rename = "event_type")]
    pub kind: EventKind,
    /// What happened, one word.
    pub category: String,
    /// The same for people.
    pub message: String,
    /// What else is known.
    #[schema(value_type = Object)]
    pub details: Value,
    /// The container concerned.
    pub container_id: Option<String>,
    /// The stream concerned.
    pub stream_id: Option<String>,
    /// Whose part of the log it takes. Not shown.
    #[serde(skip)]
    pub share: Option<String>,
}

/// Which events are wanted. All conditions hold together; one that nothing fulfils gives an empty answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// At most so many, and never more than 1000.
    pub limit: usize,
    /// So many of the newest are passed over.
    pub offset: usize,
    /// Of this kind; any text, as the caller got it.
    pub kind: Option<String>,
    /// Of this category.
    pub category: Option<String>,
    /// About this container.
    pub container_id: Option<String>,
    /// About this stream.
    pub stream_id: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Without the category [`AUDIT`], which tells who people are.
    pub without_audit: bool,
}

/// The log in numbers. Serializes as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventStats {
    /// Events in the log.
    pub total: u64,
    /// Of each kind, all five of them.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub by_type: BTreeMap<EventKind, u64>,
    /// The earliest.
    pub oldest: Option<Timestamp>,
    /// The latest.
    pub newest: Option<Timestamp>,
}

impl Store {
    /// Adds to the log. Never waits, never fails: while the disk is full the newest 1000 events wait in memory, and
    /// queries show them.
    pub fn record(&self, event: NewEvent) {
        self.queue().record(event.bounded());
    }

    /// Events, newest first.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<Event>, StoreError> {
        self.ask(move |worker| worker.read(|connection| select(connection, worker, &query))).await
    }

    /// The log in numbers.
    pub async fn event_stats(&self) -> Result<EventStats, StoreError> {
        self.ask(|worker| worker.read(|connection| stats(connection, worker))).await
    }

    /// Keeps events for so long from now on, and deletes what is older: at once, and every hour. The audit stays for thirty
    /// days at least.
    pub async fn keep_events(&self, retention: Duration) -> Result<(), StoreError> {
        self.ask(move |worker| worker.keep_events(retention)).await
    }

    /// Deletes events older than `max_age`, but for the audit, which nobody shortens; how many.
    pub async fn cleanup_events(&self, max_age: Duration) -> Result<u64, StoreError> {
        let before = before(Timestamp::now(), max_age);
        self.ask(move |worker| {
            worker.save()?;
            let sql = "DELETE FROM events WHERE at < ?1 AND category <> ?2";
            let delete = |transaction: &Transaction<'_>| transaction.execute(sql, params![At(before), AUDIT]);
            worker.change(delete).map(|count| count as u64)
        })
        .await
    }
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Engine, Self::Stream, Self::Vpn, Self::Health, Self::System];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Stream => "stream",
            Self::Vpn => "vpn",
            Self::Health => "health",
            Self::System => "system",
        }
    }
}

impl NewEvent {
    /// An event without details, about nothing in particular.
    pub fn new(
        at: Timestamp,
        kind: EventKind,
        category: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let (category, message) = (category.into(), message.into());
        Self {
            at,
            kind,
            category,
            message,
            details: json!({}),
            container_id: None,
            stream_id: None,
            share: None,
        }
    }

    pub(crate) fn numbered(self, id: i64) -> Event {
        Event {
            id,
            at: column::to_micros(self.at),
            kind: self.kind,
            category: self.category,
            message: self.message,
            details: self.details,
            container_id: self.container_id,
            stream_id: self.stream_id,
            share: self.share,
        }
    }

    /// Cut to the sizes that are kept.
    fn bounded(mut self) -> Self {
        self.message.truncate(self.message.floor_char_boundary(LONGEST_MESSAGE));
        let bytes = self.details.to_string().len();
        if bytes > LONGEST_DETAILS {
            self.details = json!({ "left_out_bytes": bytes });
        }
        self
    }
}

impl Event {
    /// Whether anybody's requests can bring about any number of these.
    pub(crate) fn is_of_strangers(&self) -> bool {
        self.share.is_some() && self.category != AUDIT
    }

    pub(crate) fn write(&self, connection: &Connection, retention: Duration) -> rusqlite::Result<()> {
        connection.execute(
            "INSERT INTO events (id, at, kind, category, message, details, container_id, stream_id, share)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                self.id,
                At(self.at),
                self.kind,
                self.category,
                self.message,
                Json(&self.details),
                self.container_id,
                self.stream_id,
                self.share,
            ],
        )?;
        if self.id % PRUNE_EVERY == 0 { prune(connection, Timestamp::now(), retention) } else { Ok(()) }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let At(at) = row.get("at")?;
        let Document(details) = row.get("details")?;
        Ok(Self {
            id: row.get("id")?,
            at,
            kind: row.get("kind")?,
            category: row.get("category")?,
            message: row.get("message")?,
            details,
            container_id: row.get("container_id")?,
            stream_id: row.get("stream_id")?,
            share: row.get("share")?,
        })
    }
}

impl Default for EventQuery {
    /// The newest 100 events.
    fn default() -> Self {
        Self {
            limit: 100,
            offset: 0,
            kind: None,
            category: None,
            container_id: None,
            stream_id: None,
            since: None,
            without_audit: false,
        }
    }
}

impl EventQuery {
    /// The same conditions as in [`SELECT`], for events that are not written yet.
    fn wants(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.kind, Some(event.kind.as_str()))
            && is(&self.category, Some(&event.category))
            && is(&self.container_id, event.container_id.as_deref())
            && is(&self.stream_id, event.stream_id.as_deref())
            && self.since.is_none_or(|since| event.at >= since)
            && !(self.without_audit && event.category == AUDIT)
    }
}

impl ToSql for EventKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for EventKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

const SELECT: &str = "
    SELECT id, at, kind, category, message, details, container_id, stream_id, share FROM events
    WHERE (:kind IS NULL OR kind = :kind)
      AND (:category IS NULL OR category = :category)
      AND (:container_id IS NULL OR container_id = :container_id)
      AND (:stream_id IS NULL OR stream_id = :stream_id)
      AND (:since IS NULL OR at >= :since)
      AND (:audit IS NULL OR category <> :audit)
    ORDER BY id DESC LIMIT :limit OFFSET :offset";

/// First those that wait to be written, which are all newer, then those that are.
fn select(connection: &Connection, worker: &Worker, query: &EventQuery) -> rusqlite::Result<Vec<Event>> {
    let limit = query.limit.min(MOST_ANSWERED);
    let unsaved: Vec<&Event> =
        worker.unsaved.events.iter().rev().filter(|event| query.wants(event)).collect();
    let mut events: Vec<Event> = unsaved.iter().skip(query.offset).take(limit).copied().cloned().collect();
    let mut statement = connection.prepare(SELECT)?;
    let saved = statement.query_map(
        named_params! {
            ":kind": query.kind,
            ":category": query.category,
            ":container_id": query.container_id,
            ":stream_id": query.stream_id,
            ":since": query.since.map(At),
            ":audit": query.without_audit.then_some(AUDIT),
            ":limit": column::whole(limit - events.len()),
            ":offset": column::whole(query.offset.saturating_sub(unsaved.len())),
        },
        Event::read,
    )?;
    for event in saved {
        events.push(event?);
    }
    Ok(events)
}

fn stats(connection: &Connection, worker: &Worker) -> rusqlite::Result<EventStats> {
    let mut stats = EventStats::none();
    let mut statement =
        connection.prepare("SELECT kind, count(*), min(at), max(at) FROM events GROUP BY kind")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (At(oldest), At(newest)) = (row.get(2)?, row.get(3)?);
        stats.add(row.get(0)?, column::count(row.get(1)?), oldest, newest);
    }
    for event in worker.unsaved.events.iter() {
        stats.add(event.kind, 1, event.at, event.at);
    }
    Ok(stats)
}

impl EventStats {
    fn none() -> Self {
        let by_type = EventKind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        Self { total: 0, by_type, oldest: None, newest: None }
    }

    fn add(&mut self, kind: EventKind, count: u64, oldest: Timestamp, newest: Timestamp) {
        self.total += count;
        *self.by_type.entry(kind).or_default() += count;
        self.oldest = Some(self.oldest.map_or(oldest, |known| known.min(oldest)));
        self.newest = self.newest.max(Some(newest));
    }
}

/// The budgets of categories and shares.
const SURPLUS: &str = "
    DELETE FROM events WHERE id IN (
        SELECT id FROM (
            SELECT id, share,
                row_number() OVER (PARTITION BY kind, category ORDER BY id DESC) AS of_category,
                row_number() OVER (PARTITION BY kind, category, share ORDER BY id DESC) AS of_share
            FROM events)
        WHERE of_category > ?1 OR (share IS NOT NULL AND of_share > ?2))";

/// What is too old. The second moment is the audit's.
const OUTDATED: &str = "DELETE FROM events WHERE at < CASE category WHEN ?3 THEN ?2 ELSE ?1 END";

/// Deletes what is too much or too old.
pub(crate) fn prune(connection: &Connection, now: Timestamp, retention: Duration) -> rusqlite::Result<()> {
    connection.execute(SURPLUS, [MOST_OF_A_CATEGORY, MOST_OF_A_SHARE])?;
    let [others, audit] = [retention, retention.max(AUDIT_KEPT)].map(|age| At(before(now, age)));
    connection.execute(OUTDATED, params![others, audit, AUDIT])?;
    Ok(())
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open;

    fn event(id: i64, at: Timestamp) -> Event {
        NewEvent::new(at, EventKind::System, "scaling", "two more engines").numbered(id)
    }

    fn caused_by(share: &str, id: i64) -> Event {
        let mut event = NewEvent::new(Timestamp::now(), EventKind::Stream, "failed", "a dead id");
        event.share = Some(share.to_owned());
        event.numbered(id)
    }

    fn ids(connection: &Connection) -> (i64, i64, i64) {
        ids_of(connection, "1")
    }

    fn ids_of(connection: &Connection, which: &str) -> (i64, i64, i64) {
        let sql =
            format!("SELECT count(*), coalesce(min(id), 0), coalesce(max(id), 0) FROM events WHERE {which}");
        connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    }

    #[test]
    fn of_a_category_the_newest_two_thousand_stay() {
        let connection = open::memory().unwrap();
        let now = Timestamp::now();
        for id in 1..=2_250 {
            event(id, now).write(&connection, USUALLY_KEPT).unwrap();
        }
        assert_eq!(ids(&connection), (2_050, 201, 2_250), "looks only every 100 events");
        prune(&connection, now, USUALLY_KEPT).unwrap();
        assert_eq!(ids(&connection), (2_000, 251, 2_250));
    }

    #[test]
    fn what_strangers_cause_pushes_out_neither_other_categories_nor_other_shares() {
        let connection = open::memory().unwrap();
        event(1, Timestamp::now()).write(&connection, USUALLY_KEPT).unwrap();
        caused_by("a quiet home", 2).write(&connection, USUALLY_KEPT).unwrap();
        for id in 3..=20_000 {
            caused_by("a flood", id).write(&connection, USUALLY_KEPT).unwrap();
        }
        assert_eq!(ids_of(&connection, "category = 'scaling'"), (1, 1, 1));
        assert_eq!(ids_of(&connection, "share = 'a quiet home'"), (1, 2, 2));
        assert_eq!(ids_of(&connection, "share = 'a flood'"), (500, 19_501, 20_000));
        for id in 20_001..=30_000 {
            caused_by(&format!("one of many {id}"), id).write(&connection, USUALLY_KEPT).unwrap();
        }
        assert_eq!(ids_of(&connection, "category = 'failed'"), (2_000, 28_001, 30_000));
        assert_eq!(ids_of(&connection, "category = 'scaling'"), (1, 1, 1));
    }

    #[test]
    fn nothing_stays_longer_than_it_is_to_and_the_audit_a_month_at_least() {
        let day = Duration::from_hours(24);
        for (retention, events, audit) in [(7, 7, 30), (1, 1, 30), (365, 365, 365)] {
            let connection = open::memory().unwrap();
            let now = Timestamp::now();
            let mut id = 0;
            for age in [events - 1, events, events + 1, audit - 1, audit, audit + 1] {
                for category in ["scaling", AUDIT] {
                    id += 1;
                    let at = before(now, day * age);
                    let event = NewEvent::new(at, EventKind::System, category, "it").numbered(id);
                    event.write(&connection, Duration::MAX).unwrap();
                }
            }
            prune(&connection, now, day * retention).unwrap();
            let oldest = |which: &str| {
                let sql = format!("SELECT min(at) FROM events WHERE category {which} 'audit'");
                let At(at) = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
                at
            };
            let kept = |age| column::to_micros(before(now, day * age));
            assert_eq!((oldest("<>"), oldest("=")), (kept(events), kept(audit)), "{retention} days");
        }
    }

    #[test]
    fn long_messages_and_details_are_cut() {
        let mut long = NewEvent::new(Timestamp::now(), EventKind::Stream, "started", "é".repeat(4_000));
        long.details = json!({ "labels": "x".repeat(9_000) });
        let bounded = long.bounded();
        assert_eq!(bounded.message.len(), LONGEST_MESSAGE);
        assert_eq!(bounded.details, json!({ "left_out_bytes": 9_013 }));
    }

    #[test]
    fn an_age_beyond_all_time_deletes_nothing() {
        assert_eq!(before(Timestamp::now(), Duration::MAX), Timestamp::MIN);
    }
}
