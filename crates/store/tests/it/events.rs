//! The event log.

use std::time::Duration;

use acemux_store::Store;
use acemux_store::events::{AUDIT, Event, EventKind, EventQuery, NewEvent};
use jiff::Timestamp;
use serde_json::json;

use crate::{event, open};

const NONE: [i64; 0] = [];

fn hours_ago(hours: u64) -> Timestamp {
    Timestamp::now() - Duration::from_hours(hours)
}

/// One of each kind, an hour apart, the newest now.
fn fill(store: &Store) {
    for (index, kind) in EventKind::ALL.into_iter().enumerate() {
        let mut event = event(kind, "happened");
        event.at = hours_ago(4 - index as u64);
        event.container_id = Some(format!("container-{index}"));
        event.stream_id = Some(format!("stream-{index}"));
        store.record(event);
    }
}

async fn ids(store: &Store, query: EventQuery) -> Vec<i64> {
    let events = store.events(query).await.expect("the log can be read");
    events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn an_event_comes_back_as_it_was_recorded_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at: Timestamp = "2026-11-22T10:25:00.739925Z".parse().unwrap();
    let recorded = NewEvent {
        at,
        kind: EventKind::Stream,
        category: "started".to_owned(),
        message: "„ünïcode“ ' \" ; -- \0 end".to_owned(),
        details: json!({ "key_type": "infohash", "is_live": true, "nested": [1, null, 2.5] }),
        container_id: Some("c0ffee".into()),
        stream_id: Some("key|session".into()),
        share: Some("a client".into()),
    };
    let first = open(folder.path());
    first.store.record(recorded.clone());
    first.store.close().await.unwrap();
    let events = open(folder.path()).store.events(EventQuery::default()).await.unwrap();
    let expected = Event {
        id: 1,
        at,
        kind: recorded.kind,
        category: recorded.category,
        message: recorded.message,
        details: recorded.details,
        container_id: recorded.container_id,
        stream_id: recorded.stream_id,
        share: recorded.share,
    };
    assert_eq!(events, [expected]);
    let shown = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(shown["timestamp"], "2026-11-22T10:25:00.739925Z");
    assert_eq!(shown["event_type"], "stream");
    assert_eq!(shown.get("share"), None, "whose part of the log it takes is nobody's business");
}

#[tokio::test]
async fn a_cleanup_leaves_the_audit_and_who_may_not_see_it_is_shown_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    store.record(event(EventKind::System, AUDIT));
    store.record(event(EventKind::System, "scaling"));
    assert_eq!(ids(&store, EventQuery::default()).await, [2, 1]);
    assert_eq!(ids(&store, EventQuery { without_audit: true, ..EventQuery::default() }).await, [2]);
    assert_eq!(store.cleanup_events(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(ids(&store, EventQuery::default()).await, [1]);
}

#[tokio::test]
async fn ids_grow_over_restarts_even_when_the_log_was_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    fill(&first.store);
    assert_eq!(first.store.cleanup_events(Duration::ZERO).await.unwrap(), 5);
    first.store.close().await.unwrap();
    let second = open(folder.path());
    second.store.record(event(EventKind::System, "scaling"));
    assert_eq!(ids(&second.store, EventQuery::default()).await, [6]);
}

#[tokio::test]
async fn each_condition_filters_and_all_hold_together() {
    let store = Store::in_memory();
    fill(&store);
    let all = EventQuery::default;
    assert_eq!(ids(&store, all()).await, [5, 4, 3, 2, 1]);
    assert_eq!(ids(&store, EventQuery { kind: Some("vpn".into()), ..all() }).await, [3]);
    assert_eq!(ids(&store, EventQuery { category: Some("happened".into()), ..all() }).await.len(), 5);
    assert_eq!(ids(&store, EventQuery { container_id: Some("container-1".into()), ..all() }).await, [2]);
    assert_eq!(ids(&store, EventQuery { stream_id: Some("stream-4".into()), ..all() }).await, [5]);
    let recent = Timestamp::now() - Duration::from_mins(90);
    assert_eq!(ids(&store, EventQuery { since: Some(recent), ..all() }).await, [5, 4]);
    assert_eq!(ids(&store, EventQuery { limit: 2, offset: 1, ..all() }).await, [4, 3]);
    assert_eq!(
        ids(&store, EventQuery { kind: Some("vpn".into()), stream_id: Some("stream-4".into()), ..all() })
            .await,
        NONE
    );
}

#[tokio::test]
async fn what_is_no_kind_matches_nothing_and_harms_nothing() {
    let store = Store::in_memory();
    fill(&store);
    for hostile in ["'; DROP TABLE events; --", "vpn' OR '1'='1", "%", "", "VPN", "\0", ":kind"] {
        let asked = |make: fn(String) -> EventQuery| ids(&store, make(hostile.to_owned()));
        assert_eq!(asked(|it| EventQuery { kind: Some(it), ..EventQuery::default() }).await, NONE);
        assert_eq!(asked(|it| EventQuery { category: Some(it), ..EventQuery::default() }).await, NONE);
        assert_eq!(asked(|it| EventQuery { container_id: Some(it), ..EventQuery::default() }).await, NONE);
        assert_eq!(asked(|it| EventQuery { stream_id: Some(it), ..EventQuery::default() }).await, NONE);
    }
    assert_eq!(store.event_stats().await.unwrap().total, 5);
}

#[tokio::test]
async fn no_answer_is_longer_than_a_thousand() {
    let store = Store::in_memory();
    for _ in 0..2 {
        (0..600).for_each(|_| store.record(event(EventKind::Health, "warning")));
        store.flush().await.unwrap();
    }
    let greedy = EventQuery { limit: usize::MAX, ..EventQuery::default() };
    assert_eq!(ids(&store, greedy).await.len(), 1_000);
    let beyond = EventQuery { offset: usize::MAX, ..EventQuery::default() };
    assert_eq!(ids(&store, beyond).await, NONE);
    let none = EventQuery { limit: 0, ..EventQuery::default() };
    assert_eq!(ids(&store, none).await, NONE);
    assert_eq!(store.event_stats().await.unwrap().total, 1_200);
}

#[tokio::test]
async fn the_log_in_numbers() {
    let store = Store::in_memory();
    let empty = serde_json::to_value(store.event_stats().await.unwrap()).unwrap();
    let zeros = json!({ "engine": 0, "stream": 0, "vpn": 0, "health": 0, "system": 0 });
    assert_eq!(empty, json!({ "total": 0, "by_type": zeros, "oldest": null, "newest": null }));
    fill(&store);
    store.record(event(EventKind::Vpn, "connected"));
    let stats = store.event_stats().await.unwrap();
    assert_eq!((stats.total, stats.by_type[&EventKind::Vpn], stats.by_type[&EventKind::Health]), (6, 2, 1));
    assert!(stats.oldest.unwrap() < hours_ago(3));
    assert!(stats.newest.unwrap() > hours_ago(1));
}

#[tokio::test]
async fn a_cleanup_deletes_what_is_older() {
    let store = Store::in_memory();
    fill(&store);
    assert_eq!(store.cleanup_events(Duration::from_mins(150)).await.unwrap(), 2);
    assert_eq!(ids(&store, EventQuery::default()).await, [5, 4, 3]);
    assert_eq!(store.cleanup_events(Duration::MAX).await.unwrap(), 0);
}
