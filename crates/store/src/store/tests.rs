//! Disks that fill up, threads that die: what cannot be made from outside the crate.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::events::{EventKind, EventQuery, NewEvent};
use crate::playbacks::NewPlayback;
use crate::worker::PRUNE_EVERY;

struct Disk {
    folder: TempDir,
    store: Store,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("acemux.db")).unwrap().store;
        Self { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("acemux.db")
    }

    async fn pragma(&self, pragma: String) {
        self.store
            .ask(move |worker| worker.read(|connection| connection.execute_batch(&pragma)))
            .await
            .unwrap();
    }

    /// Not one page more than now.
    async fn fill(&self) {
        self.pragma("PRAGMA max_page_count = 1".to_owned()).await;
    }

    async fn make_space(&self) {
        self.pragma("PRAGMA max_page_count = 1000000".to_owned()).await;
    }

    /// All of them together, because the thread is busy meanwhile: none gets the last free bytes of a page.
    async fn record_at_once(&self, numbers: Range<usize>) {
        let store = self.store.clone();
        let record = move |_: &mut Worker| {
            numbers.for_each(|number| store.record(event(number)));
            Ok(())
        };
        self.store.ask(record).await.unwrap();
    }

    /// Closes the store and asks the file itself.
    async fn closed(self) -> (String, i64) {
        self.store.close().await.unwrap();
        let connection = Connection::open(self.path()).unwrap();
        let verdict = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let events = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        (verdict, events)
    }
}

fn event(number: usize) -> NewEvent {
    let message = format!("{number} {}", "x".repeat(500));
    NewEvent::new(Timestamp::now(), EventKind::System, "scaling", message)
}

fn playback() -> NewPlayback {
    NewPlayback {
        engine: "engine".to_owned(),
        endpoint: "127.0.0.1:6878".to_owned(),
        infohash: "0".repeat(40),
        command: None,
        opened_at: Timestamp::UNIX_EPOCH,
    }
}

/// Polls, because the thread that changes it is not the runtime's.
async fn until(condition: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let holds = async {
        while !condition() {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(10), holds).await.expect("the condition holds in time");
}

fn is_full<T: fmt::Debug>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Full { .. }))
}

#[tokio::test]
async fn while_the_disk_is_full_events_are_kept_and_shown_and_later_written() {
    let disk = Disk::new();
    let saved = disk.store.playback_opened(playback());
    (0..20).for_each(|number| disk.store.record(event(number)));
    disk.store.flush().await.unwrap();
    disk.fill().await;

    disk.record_at_once(20..60).await;
    disk.store.playback_closed(saved);
    let unsaved = disk.store.playback_opened(playback());
    assert!(is_full(&disk.store.flush().await));
    assert!(is_full(&disk.store.save_setting("policy", json!("x".repeat(50_000))).await));
    let health = disk.store.health();
    assert!(matches!(health.state, StoreState::Failing { reason: StoreError::Full { .. }, .. }));
    assert_eq!((health.unsaved, health.dropped), (42, 0));

    let numbers = |query| async {
        let events = disk.store.events(query).await.unwrap();
        events.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(numbers(EventQuery::default()).await, (1..=60).rev().collect::<Vec<_>>());
    let across = EventQuery { limit: 10, offset: 35, ..EventQuery::default() };
    assert_eq!(numbers(across.clone()).await, (16..=25).rev().collect::<Vec<_>>());
    assert_eq!(disk.store.event_stats().await.unwrap().total, 60);
    let open = disk.store.open_playbacks().await.unwrap();
    assert_eq!(open.iter().map(|open| open.row).collect::<Vec<_>>(), [unsaved]);

    disk.make_space().await;
    disk.store.flush().await.unwrap();
    assert_eq!(disk.store.health(), StoreHealth { state: StoreState::Ok, unsaved: 0, dropped: 0 });
    assert_eq!(numbers(across).await, (16..=25).rev().collect::<Vec<_>>());
    assert_eq!(disk.closed().await, ("ok".to_owned(), 60));
}

#[tokio::test]
async fn a_disk_that_has_space_again_is_used_without_being_asked() {
    let disk = Disk::new();
    disk.store
        .ask(|worker| {
            worker.retry = Duration::from_millis(20);
            Ok(())
        })
        .await
        .unwrap();
    disk.fill().await;
    (0..50).for_each(|number| disk.store.record(event(number)));
    until(|| matches!(disk.store.health().state, StoreState::Failing { .. })).await;
    disk.make_space().await;
    until(|| disk.store.health().state == StoreState::Ok).await;
    assert_eq!(disk.store.health().unsaved, 0);
    assert_eq!(disk.closed().await, ("ok".to_owned(), 50));
}

#[tokio::test]
async fn what_waits_for_a_full_disk_is_bounded_and_the_loss_counted() {
    let disk = Disk::new();
    disk.fill().await;
    disk.record_at_once(0..1_500).await;
    assert!(is_full(&disk.store.flush().await));
    let health = disk.store.health();
    assert_eq!((health.unsaved, health.dropped), (1_000, 500));
    let query = EventQuery { limit: 1, offset: 999, ..EventQuery::default() };
    assert_eq!(disk.store.events(query).await.unwrap()[0].id, 501);
    disk.make_space().await;
    assert_eq!(disk.closed().await, ("ok".to_owned(), 1_000));
}

#[tokio::test]
async fn a_close_that_cannot_write_says_so() {
    let disk = Disk::new();
    disk.fill().await;
    (0..50).for_each(|number| disk.store.record(event(number)));
    assert!(is_full(&disk.store.close().await));
}

#[tokio::test]
async fn a_read_only_disk_refuses_changes_and_answers_questions() {
    let disk = Disk::new();
    disk.store.save_setting("policy", json!({ "min": 2 })).await.unwrap();
    disk.pragma("PRAGMA query_only = ON".to_owned()).await;
    assert!(is_full(&disk.store.save_setting("policy", json!({ "min": 3 })).await));
    assert!(is_full(&disk.store.delete_setting("policy").await));
    assert!(is_full(&disk.store.cleanup_events(Duration::ZERO).await));
    assert_eq!(disk.store.setting("policy").await.unwrap(), Some(json!({ "min": 2 })));
    disk.pragma("PRAGMA query_only = OFF".to_owned()).await;
    disk.store.save_setting("policy", json!({ "min": 3 })).await.unwrap();
    assert_eq!(disk.store.health().state, StoreState::Ok);
}

#[tokio::test]
async fn another_program_that_holds_the_database_is_waited_out() {
    let disk = Disk::new();
    let other = Connection::open(disk.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = disk.store.save_setting("policy", json!(1)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    disk.store.record(event(1));
    assert_eq!(disk.store.events(EventQuery::default()).await.unwrap().len(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    disk.store.flush().await.unwrap();
    drop(other);
    assert_eq!(disk.closed().await, ("ok".to_owned(), 1));
}

#[tokio::test]
async fn an_entry_the_database_refuses_does_not_hold_up_the_others() {
    let disk = Disk::new();
    let bad = "INSERT INTO settings (key, value) VALUES (NULL, NULL)";
    disk.store.queue().note(Box::new(move |connection| connection.execute(bad, []).map(drop)));
    disk.store.record(event(1));
    disk.store.flush().await.unwrap();
    assert_eq!(disk.store.health(), StoreHealth { state: StoreState::Ok, unsaved: 0, dropped: 1 });
    assert_eq!(disk.closed().await, ("ok".to_owned(), 1));
}

#[tokio::test]
async fn a_change_that_is_wrong_in_itself_is_no_trouble_of_the_disk() {
    let store = Store::in_memory();
    let bad = "INSERT INTO settings (key, value) VALUES (NULL, NULL)";
    let refused = store.ask(move |worker| worker.change(|it| it.execute(bad, []))).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    assert_eq!(store.health().state, StoreState::Ok);
}

#[tokio::test]
async fn a_dead_thread_is_an_error_and_not_a_wait() {
    let disk = Disk::new();
    let died = disk.store.ask(|_| -> Result<(), StoreError> { panic!("as the test wants") }).await;
    assert!(matches!(died, Err(StoreError::Unavailable { .. })));
    let closed = disk.store.close().await;
    assert!(matches!(closed, Err(StoreError::Unavailable { .. })), "{closed:?}");
    assert!(matches!(disk.store.settings().await, Err(StoreError::Unavailable { .. })));
    disk.store.record(event(1));
    assert_eq!(disk.store.health(), StoreHealth { state: StoreState::Closed, unsaved: 0, dropped: 1 });
    Store::open(&disk.path()).expect("the folder is unlocked");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_is_stuck_costs_the_deadline_and_delays_no_report() {
    let store = Store::in_memory();
    let (release, stuck) = std::sync::mpsc::sync_channel::<()>(0);
    let (entered, has_entered) = oneshot::channel();
    let hold = move |_: &mut Worker| {
        entered.send(()).ok();
        stuck.recv().ok();
    };
    store.queue().ask(Box::new(hold)).unwrap();
    has_entered.await.unwrap();
    assert_eq!(store.settings().await, Err(StoreError::Timeout));
    (0..3).for_each(|number| store.record(event(number)));
    assert_eq!(store.health().unsaved, 3);
    assert_eq!(store.close().await, Err(StoreError::Timeout));
    drop(release);
}

#[tokio::test]
async fn events_are_kept_for_as_long_as_is_said_and_old_ones_go_also_when_nothing_happens() {
    let store = Store::in_memory();
    let hours = |hours| Duration::from_hours(hours);
    let of_age = |age: u64| NewEvent { at: Timestamp::now() - hours(age), ..event(0) };
    let total = async || store.event_stats().await.unwrap().total;
    for age in [1, 50, 100, 150] {
        store.record(of_age(age));
    }
    store.keep_events(hours(120)).await.unwrap();
    assert_eq!(total().await, 3, "at once");
    store.keep_events(hours(60)).await.unwrap();
    assert_eq!(total().await, 2);
    store.record(of_age(70));
    assert_eq!(total().await, 3, "it is looked once an hour");
    let an_hour_later = |worker: &mut Worker| {
        worker.pruned -= PRUNE_EVERY;
        Ok(())
    };
    store.ask(an_hour_later).await.unwrap();
    // The thread looks before it answers.
    store.flush().await.unwrap();
    assert_eq!(total().await, 2);
}
