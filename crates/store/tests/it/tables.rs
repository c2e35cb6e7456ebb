//! History, remembered ids, settings, and the journal of playbacks.

use acemux_store::Store;
use acemux_store::engines::EngineRecord;
use acemux_store::identities::Identity;
use acemux_store::playbacks::NewPlayback;
use acemux_store::streams::{StreamEnd, StreamQuery, StreamRecord};
use jiff::Timestamp;
use serde_json::json;

use crate::open;

fn engine(id: &str, name: &str) -> EngineRecord {
    EngineRecord {
        container_id: id.to_owned(),
        name: name.to_owned(),
        variant: "default".to_owned(),
        image: "registry.example/engine:1".to_owned(),
        place: Some("3".to_owned()),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn stream(id: &str, container_id: &str) -> StreamRecord {
    StreamRecord {
        id: id.to_owned(),
        key_type: "content_id".to_owned(),
        key: "a".repeat(40),
        container_id: Some(container_id.to_owned()),
        playback_session_id: Some("e0d1".to_owned()),
        is_live: true,
        started_at: Timestamp::UNIX_EPOCH,
    }
}

fn end(reason: &str) -> StreamEnd {
    StreamEnd {
        ended_at: Timestamp::constant(1_767_323_045, 678_901_000),
        end_reason: reason.to_owned(),
        downloaded: Some(u64::MAX >> 1),
        uploaded: None,
    }
}

fn playback(engine: &str) -> NewPlayback {
    NewPlayback {
        engine: engine.to_owned(),
        endpoint: "127.0.0.1:6878".to_owned(),
        infohash: "b".repeat(40),
        command: Some("http://127.0.0.1:6878/ace/cmd/x".to_owned()),
        opened_at: Timestamp::constant(1_767_323_045, 678_901_000),
    }
}

async fn stream_ids(store: &Store, query: StreamQuery) -> Vec<String> {
    let streams = store.streams(query).await.expect("the history can be read");
    streams.into_iter().map(|known| known.stream.id).collect()
}

#[tokio::test]
async fn an_engine_comes_goes_and_comes_back() {
    let store = Store::in_memory();
    store.engine_seen(engine("a", "engine-1"));
    store.engine_seen(engine("b", "engine-2"));
    store.engine_gone("a", Timestamp::UNIX_EPOCH, "idle");
    store.engine_gone("a", Timestamp::now(), "told again");
    store.engine_gone("stranger", Timestamp::UNIX_EPOCH, "idle");
    let engines = store.engines(10).await.unwrap();
    assert_eq!(engines[0].engine, engine("b", "engine-2"));
    assert_eq!(engines[0].gone_at, None);
    assert_eq!(engines[1].gone_at, Some(Timestamp::UNIX_EPOCH));
    assert_eq!(engines[1].gone_reason.as_deref(), Some("idle"));
    store.engine_seen(engine("a", "renamed"));
    let engines = store.engines(10).await.unwrap();
    assert_eq!((engines.len(), engines[1].gone_at), (2, None));
    assert_eq!(engines[1].engine.name, "renamed");
    assert_eq!(store.engines(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_ends_once_and_may_begin_anew() {
    let store = Store::in_memory();
    store.stream_started(stream("one", "a"));
    store.stream_started(stream("two", "b"));
    store.stream_ended("one", end("idle_timeout"));
    store.stream_ended("one", end("told again"));
    store.stream_ended("stranger", end("idle_timeout"));
    let known = store.streams(StreamQuery::default()).await.unwrap();
    assert_eq!(known[0].stream, stream("two", "b"));
    assert_eq!(known[0].end, None);
    assert_eq!(known[1].end, Some(end("idle_timeout")));
    store.stream_started(stream("one", "a"));
    let active = StreamQuery { has_ended: Some(false), ..StreamQuery::default() };
    assert_eq!(stream_ids(&store, active).await, ["one", "two"]);
}

#[tokio::test]
async fn streams_can_be_picked() {
    let store = Store::in_memory();
    for (id, container) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a")] {
        store.stream_started(stream(id, container));
    }
    store.stream_ended("3", end("stopped"));
    let of_a = StreamQuery { container_id: Some("a".to_owned()), ..StreamQuery::default() };
    assert_eq!(stream_ids(&store, of_a.clone()).await, ["4", "3", "1"]);
    assert_eq!(stream_ids(&store, StreamQuery { has_ended: Some(true), ..of_a.clone() }).await, ["3"]);
    assert_eq!(stream_ids(&store, StreamQuery { limit: 1, offset: 1, ..of_a }).await, ["3"]);
}

#[tokio::test]
async fn streams_of_a_process_that_died_can_be_ended_together() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    first.store.stream_started(stream("1", "a"));
    first.store.stream_started(stream("2", "a"));
    first.store.stream_ended("1", end("stopped"));
    first.store.close().await.unwrap();
    let second = open(folder.path()).store;
    second.end_open_streams(end("interrupted"));
    let known = second.streams(StreamQuery::default()).await.unwrap();
    let reasons = known.iter().map(|known| known.end.as_ref().unwrap().end_reason.as_str());
    assert_eq!(reasons.collect::<Vec<_>>(), ["interrupted", "stopped"]);
}

#[tokio::test]
async fn ids_are_remembered_in_order_of_use() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let identity = |id: &str, infohash: &str| Identity {
        id: id.to_owned(),
        infohash: infohash.to_owned(),
        witness: "start".to_owned(),
    };
    for (id, infohash) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        first.store.remember(identity(id, infohash));
    }
    first.store.close().await.unwrap();
    let known = open(folder.path()).store.identities().await.unwrap();
    assert_eq!(known, [identity("b", "2"), identity("c", "3"), identity("a", "4")]);
}

#[tokio::test]
async fn settings_are_saved_replaced_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).store;
    assert_eq!(first.setting("policy").await.unwrap(), None);
    first.save_setting("policy", json!({ "min": 1 })).await.unwrap();
    first.save_setting("policy", json!({ "min": 2 })).await.unwrap();
    first.save_setting("'; DROP TABLE settings; --", json!(null)).await.unwrap();
    first.save_setting("gone", json!([])).await.unwrap();
    assert!(first.delete_setting("gone").await.unwrap());
    assert!(!first.delete_setting("gone").await.unwrap());
    first.close().await.unwrap();
    let second = open(folder.path()).store;
    assert_eq!(second.setting("policy").await.unwrap(), Some(json!({ "min": 2 })));
    let keys: Vec<String> = second.settings().await.unwrap().into_keys().collect();
    assert_eq!(keys, ["'; DROP TABLE settings; --", "policy"]);
}

#[tokio::test]
async fn a_restart_finds_the_playbacks_that_were_not_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).store;
    let rows: Vec<_> = ["a", "b", "c"].map(|engine| first.playback_opened(playback(engine))).into();
    first.playback_closed(rows[1]);
    first.close().await.unwrap();
    let second = open(folder.path()).store;
    let found = second.open_playbacks().await.unwrap();
    assert_eq!(found.iter().map(|open| open.row).collect::<Vec<_>>(), [rows[0], rows[2]]);
    assert_eq!(found[1].playback, playback("c"));
    for open in &found {
        second.playback_closed(open.row);
    }
    let next = second.playback_opened(playback("d"));
    assert!(next > rows[2], "no row is used twice");
    second.flush().await.unwrap();
    assert_eq!(second.open_playbacks().await.unwrap().len(), 1);
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).store;
    let clone = store.clone();
    store.playback_opened(playback("a"));
    drop(store);
    assert_eq!(clone.open_playbacks().await.unwrap().len(), 1);
    clone.playback_opened(playback("b"));
    drop(clone);
    let reopened = crate::directory::reopen(folder.path()).await;
    assert_eq!(reopened.store.open_playbacks().await.unwrap().len(), 2);
}
