use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::scripted::{Journal, Scripted, Step, json, ok, started};
use crate::{PlaybackStatus, StartBy};

const FIRST: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";
const SECOND: &str = "1b4848271c91ce2d8965ce416267c25047dc8142";

const OK: &str = r#"{"response": "ok", "error": null}"#;

fn infohash(hex: &str) -> Infohash {
    hex.parse().unwrap()
}

fn by(hex: &str) -> StartBy {
    StartBy::Infohash(infohash(hex))
}

/// A right that notes when it is given back.
struct Permit(Arc<Journal>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.note("permit back");
    }
}

/// What a test wants the engine to do. Whatever it leaves out works at once.
#[derive(Clone, Default)]
struct Behaviour {
    /// Instead of the reply of a start; `None` starts the channel that was asked for.
    start: Option<fn() -> Vec<Step>>,
    stop: Option<fn() -> Vec<Step>>,
    stat: Option<fn() -> Vec<Step>>,
    /// Before the reply of a start by id.
    id_gate: Option<Arc<Notify>>,
}

impl Behaviour {
    fn steps(&self, head: &str) -> Vec<Step> {
        if head.starts_with("GET /ace/getstream?") {
            let gate = self.id_gate.iter().filter(|_| head.contains("?id="));
            let gate = gate.map(|gate| Step::Gate(Arc::clone(gate)));
            let hash = head.split(['=', '&']).nth(1).unwrap_or_default();
            gate.chain(self.start.map_or_else(|| vec![Step::Send(started(hash))], |steps| steps())).collect()
        } else if head.starts_with("GET /ace/cmd/") {
            self.stop.map_or_else(|| vec![Step::Send(json(OK))], |steps| steps())
        } else if head.starts_with("GET /ace/stat/") {
            self.stat.map_or_else(|| vec![Step::Hang], |steps| steps())
        } else {
            vec![Step::Send(ok("video/mp2t", "media"))]
        }
    }
}

struct Bench {
    server: Scripted,
    engine: Engine,
}

impl Bench {
    async fn new(behaviour: Behaviour) -> Self {
        Self::with(behaviour, Timings::default()).await
    }

    async fn with(behaviour: Behaviour, timings: Timings) -> Self {
        let server = Scripted::new(move |head| behaviour.steps(head)).await;
        let engine = Engine::new(server.endpoint.clone(), timings);
        Self { server, engine }
    }

    fn permit(&self) -> Permit {
        Permit(Arc::clone(self.journal()))
    }

    fn journal(&self) -> &Arc<Journal> {
        self.server.journal()
    }

    async fn open(&self, hex: &str) -> Result<Playback, EngineError> {
        self.engine.open(by(hex), self.permit()).await
    }

    /// What happened, in order and in short: `start`, `stop`, `stopped` (the stop's answer is out), `permit`.
    fn story(&self) -> Vec<&'static str> {
        self.journal().lines().iter().filter_map(|line| chapter(line)).collect()
    }

    async fn drained(&self) {
        assert!(self.engine.drain(Duration::from_secs(10)).await);
    }

    fn counts(&self) -> (u64, u64, u64) {
        let SessionCounts { opened, closed, stop_failed } = self.engine.session_counts();
        (opened, closed, stop_failed)
    }
}

fn chapter(line: &str) -> Option<&'static str> {
    let known = [
        ("GET /ace/getstream", "start"),
        ("GET /ace/cmd/", "stop"),
        ("answered /ace/cmd/", "stopped"),
        ("permit back", "permit"),
    ];
    known.iter().find(|(prefix, _)| line.starts_with(prefix)).map(|(_, chapter)| *chapter)
}

const SOON: Duration = Duration::from_millis(200);

fn stop_late() -> Vec<Step> {
    vec![Step::Pause(SOON), Step::Send(json(OK))]
}

fn hang() -> Vec<Step> {
    vec![Step::Hang]
}

fn fail() -> Vec<Step> {
    vec![Step::Send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec())]
}

#[tokio::test]
async fn a_dropped_playback_is_stopped_and_then_gives_its_permit_back() {
    let bench = Bench::new(Behaviour { stop: Some(stop_late), ..Behaviour::default() }).await;
    let playback = bench.open(FIRST).await.unwrap();
    let mut body = playback.body().await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "media");
    assert_eq!(bench.counts(), (1, 0, 0));
    drop(playback);
    bench.drained().await;
    assert_eq!(bench.story(), ["start", "stop", "stopped", "permit"]);
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_start_waits_for_the_answer_of_the_channels_stop() {
    let bench = Bench::new(Behaviour { stop: Some(stop_late), ..Behaviour::default() }).await;
    drop(bench.open(FIRST).await.unwrap());
    assert!(bench.engine.is_closing(infohash(FIRST)));
    let second = bench.open(FIRST).await.unwrap();
    assert!(!bench.engine.is_closing(infohash(FIRST)));
    let story = bench.story();
    let place = |chapter: &str| story.iter().rposition(|c| *c == chapter).unwrap();
    assert!(place("stopped") < place("start"), "{story:?}");
    drop(second);
    bench.drained().await;
    assert_eq!(bench.counts(), (2, 2, 0));
}

#[tokio::test]
async fn a_start_waits_no_longer_than_the_deadline_of_a_hanging_stop() {
    let timings = Timings { stop: SOON, ..Timings::default() };
    let bench = Bench::with(Behaviour { stop: Some(hang), ..Behaviour::default() }, timings).await;
    drop(bench.open(FIRST).await.unwrap());
    let stopping = Instant::now();
    let second = bench.open(FIRST).await.unwrap();
    assert!(stopping.elapsed() >= SOON);
    assert_eq!(bench.counts(), (2, 0, 1));
    assert_eq!(bench.journal().count("permit back"), 1);
    drop(second);
}

#[tokio::test]
async fn the_stop_of_one_channel_does_not_delay_another() {
    let bench = Bench::new(Behaviour { stop: Some(hang), ..Behaviour::default() }).await;
    drop(bench.open(FIRST).await.unwrap());
    let _second = bench.open(SECOND).await.unwrap();
    assert!(bench.engine.is_closing(infohash(FIRST)));
}

#[tokio::test]
async fn a_failing_stop_is_tried_three_times() {
    let timings = Timings { stop_pause: Duration::from_millis(1), ..Timings::default() };
    let bench = Bench::with(Behaviour { stop: Some(fail), ..Behaviour::default() }, timings).await;
    drop(bench.open(FIRST).await.unwrap());
    bench.drained().await;
    assert_eq!(bench.journal().count("GET /ace/cmd/"), 3);
    assert_eq!(bench.counts(), (1, 0, 1));
}

#[tokio::test]
async fn a_stop_is_not_tried_again_once_a_newer_start_begins() {
    let never = Duration::from_hours(1);
    let timings = Timings { stop: never, stop_pause: never, ..Timings::default() };
    let bench = Bench::with(Behaviour { stop: Some(fail), ..Behaviour::default() }, timings).await;
    drop(bench.open(FIRST).await.unwrap());
    bench.journal().reaches("answered /ace/cmd/", 1).await;
    let _second = bench.open(FIRST).await.unwrap();
    assert_eq!(bench.journal().count("GET /ace/cmd/"), 1);
    assert_eq!(bench.counts(), (2, 0, 1));
}

#[tokio::test]
async fn a_superseded_playback_sends_no_stop() {
    let bench = Bench::new(Behaviour::default()).await;
    let old = bench.open(FIRST).await.unwrap();
    let new = bench.open(FIRST).await.unwrap();
    drop(old);
    assert_eq!(bench.journal().count("permit back"), 1, "the slot is free at once");
    assert_eq!(bench.counts(), (2, 1, 0));
    drop(new);
    bench.drained().await;
    assert_eq!(bench.story(), ["start", "start", "permit", "stop", "stopped", "permit"]);
    assert_eq!(bench.counts(), (2, 2, 0));
}

#[tokio::test]
async fn a_start_by_id_supersedes_the_channel_it_turns_out_to_be() {
    let reveal = || vec![Step::Send(started(FIRST))];
    let bench = Bench::new(Behaviour { start: Some(reveal), ..Behaviour::default() }).await;
    let old = bench.open(FIRST).await.unwrap();
    let by_id = StartBy::ContentId(SECOND.parse().unwrap());
    let new = bench.engine.open(by_id, bench.permit()).await.unwrap();
    assert_eq!(new.started().infohash, Some(infohash(FIRST)));
    drop(old);
    assert_eq!(bench.journal().count("GET /ace/cmd/"), 0);
    drop(new);
    bench.drained().await;
    assert_eq!(bench.journal().count("GET /ace/cmd/"), 1);
}

#[tokio::test]
async fn each_playback_is_a_player_of_its_own() {
    let bench = Bench::new(Behaviour::default()).await;
    let (first, second) = (bench.open(FIRST).await.unwrap(), bench.open(SECOND).await.unwrap());
    assert_ne!(first.player(), second.player());
    assert_eq!(bench.journal().count(&format!("pid={} ", first.player())), 1);
}

/// A bench with a start by id that its caller has given up, and the gate that holds the engine's reply back.
async fn given_up_start() -> (Bench, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let bench = Bench::new(Behaviour { id_gate: Some(Arc::clone(&gate)), ..Behaviour::default() }).await;
    let (engine, permit) = (bench.engine.clone(), bench.permit());
    let by_id = StartBy::ContentId(infohash(FIRST).hash());
    let mut caller = JoinSet::new();
    caller.spawn(async move { engine.open(by_id, permit).await.map(drop) });
    bench.journal().reaches("GET /ace/getstream", 1).await;
    caller.shutdown().await;
    (bench, gate)
}

#[tokio::test]
async fn a_start_given_up_frees_its_slot_at_once_and_is_stopped_when_the_engine_has_answered() {
    let (bench, gate) = given_up_start().await;
    assert_eq!(bench.story(), ["start", "permit"]);
    assert_eq!(bench.engine.calls(), (1, 1));
    assert!(!bench.engine.is_at_rest(), "the engine still works on it");
    gate.notify_one();
    bench.drained().await;
    assert!(bench.engine.is_at_rest());
    assert_eq!(bench.story(), ["start", "permit", "stop", "stopped"]);
    assert_eq!(bench.engine.calls(), (0, 0));
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_start_given_up_does_not_stop_the_one_that_is_watched() {
    let (bench, gate) = given_up_start().await;
    let watched = bench.open(FIRST).await.unwrap();
    gate.notify_one();
    while bench.counts().1 == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.story(), ["start", "permit", "start"]);
    drop(watched);
    bench.drained().await;
    assert_eq!(bench.journal().count("GET /ace/cmd/"), 1);
    assert_eq!(bench.counts(), (2, 2, 0));
}

#[tokio::test]
async fn a_start_of_the_same_channel_takes_over_the_call_that_was_given_up() {
    let (bench, gate) = given_up_start().await;
    let by_id = StartBy::ContentId(infohash(FIRST).hash());
    let again = bench.engine.open(by_id, bench.permit());
    tokio::pin!(again);
    assert!(futures_util::poll!(again.as_mut()).is_pending());
    assert_eq!(bench.engine.calls(), (1, 0));
    gate.notify_one();
    let playback = again.await.unwrap();
    assert_eq!(bench.story(), ["start", "permit"], "the one call's answer is the new start's");
    drop(playback);
    bench.drained().await;
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn eight_starts_that_nobody_waits_for_do_not_hold_up_the_ninth() {
    let gate = Arc::new(Notify::new());
    let bench = Bench::new(Behaviour { id_gate: Some(gate), ..Behaviour::default() }).await;
    for digit in 0..12_u8 {
        let by_id = StartBy::ContentId(format!("{digit:040x}").parse().unwrap());
        let given_up = bench.engine.open(by_id, bench.permit());
        assert!(timeout(Duration::from_millis(5), given_up).await.is_err());
    }
    assert_eq!(bench.journal().count("permit back"), 12);
    assert_eq!(bench.engine.calls(), (8, 8));
    let playback = timeout(Duration::from_secs(5), bench.open(FIRST)).await.expect("it is not held up");
    assert_eq!(bench.engine.calls(), (7, 7));
    drop(playback);
}

#[tokio::test]
async fn a_forsaken_playback_is_not_stopped_and_gives_its_permit_back() {
    let bench = Bench::new(Behaviour::default()).await;
    let playback = bench.open(FIRST).await.unwrap();
    assert!(!bench.engine.is_at_rest());
    playback.forsake();
    bench.drained().await;
    assert!(bench.engine.is_at_rest());
    assert_eq!(bench.story(), ["start", "permit"]);
    assert_eq!(bench.counts(), (1, 1, 0));
    assert!(!bench.engine.is_closing(infohash(FIRST)));
}

#[tokio::test]
async fn a_start_given_up_while_it_waits_is_never_made() {
    let timings = Timings { stop: Duration::from_hours(1), ..Timings::default() };
    let bench = Bench::with(Behaviour { stop: Some(hang), ..Behaviour::default() }, timings).await;
    drop(bench.open(FIRST).await.unwrap());
    let waiting = timeout(Duration::from_millis(1), bench.open(FIRST)).await;
    assert!(waiting.is_err());
    bench.journal().reaches("permit back", 1).await;
    assert_eq!(bench.journal().count("GET /ace/getstream"), 1);
}

#[tokio::test]
async fn a_playback_that_ends_during_a_start_is_stopped_only_if_that_start_fails() {
    for succeeds in [true, false] {
        let sessions: Arc<Sessions> = Arc::default();
        let hash = infohash(FIRST).hash();
        let old = sessions.start(hash).await.opened(hash, true);
        let starting = sessions.start(hash).await;
        let Ending::Undecided(undecided) = old.end() else { panic!("decided too early") };
        let newer = if succeeds {
            Some(starting.opened(hash, true))
        } else {
            drop(starting);
            None
        };
        assert_eq!(undecided.decided().await.is_none(), succeeds);
        drop(newer);
    }
}

#[tokio::test]
async fn an_unusable_start_reply_is_stopped_all_the_same() {
    let reply = || {
        let url = format!("/ace/cmd/{FIRST}/token");
        vec![Step::Send(json(&format!(r#"{{"response":{{"command_url":"{url}"}},"error":null}}"#)))]
    };
    let bench = Bench::new(Behaviour { start: Some(reply), ..Behaviour::default() }).await;
    assert!(matches!(bench.open(FIRST).await, Err(EngineError::BadReply { .. })));
    bench.drained().await;
    assert_eq!(bench.story(), ["start", "stop", "stopped", "permit"]);
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_failed_start_gives_its_permit_back_before_it_is_told() {
    let bench = Bench::new(Behaviour { start: Some(fail), ..Behaviour::default() }).await;
    assert!(matches!(bench.open(FIRST).await, Err(EngineError::Status { code: 500, .. })));
    assert_eq!(bench.story(), ["start", "permit"]);
    assert_eq!(bench.counts(), (0, 0, 0));
}

#[tokio::test]
async fn a_hanging_start_ends_at_its_deadline() {
    let timings = Timings { start: Limit::new(SOON), ..Timings::default() };
    let bench = Bench::with(Behaviour { start: Some(hang), ..Behaviour::default() }, timings).await;
    let error = bench.open(FIRST).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { stage: Stage::Start }));
    assert_eq!(bench.story(), ["start", "permit"]);
}

#[tokio::test]
async fn a_drained_engine_starts_nothing_more() {
    let bench = Bench::new(Behaviour::default()).await;
    let playback = bench.open(FIRST).await.unwrap();
    assert!(!bench.engine.drain(Duration::from_millis(10)).await, "a live playback is waited for");
    assert!(matches!(bench.open(SECOND).await, Err(EngineError::Closed)));
    drop(playback);
    bench.drained().await;
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_playback_may_be_dropped_outside_of_the_runtime() {
    let bench = Bench::new(Behaviour::default()).await;
    let playback = bench.open(FIRST).await.unwrap();
    std::thread::spawn(move || drop(playback)).join().unwrap();
    bench.drained().await;
    assert_eq!(bench.story(), ["start", "stop", "stopped", "permit"]);
}

#[tokio::test]
async fn a_playback_is_looked_at_until_the_engine_has_forgotten_it() {
    let timings = Timings { stat_every: Duration::from_millis(5), ..Timings::default() };
    let gone = || vec![Step::Send(json(r#"{"response": null, "error": "unknown playback session id"}"#))];
    let bench = Bench::with(Behaviour { stat: Some(gone), ..Behaviour::default() }, timings).await;
    let playback = bench.open(FIRST).await.unwrap();
    let mut stats = playback.stats();
    let is_gone =
        |stat: &Option<crate::PlaybackStat>| stat.as_ref().is_some_and(|s| s.status == PlaybackStatus::Gone);
    stats.wait_for(is_gone).await.unwrap();
    // The sender is dropped with the task, which is over.
    assert!(stats.changed().await.is_err());
}

#[tokio::test]
async fn a_playback_is_looked_at_again_and_again() {
    let timings = Timings { stat_every: Duration::from_millis(5), ..Timings::default() };
    let stat = || vec![Step::Send(json(r#"{"response": {"status": "dl", "peers": "3"}, "error": null}"#))];
    let bench = Bench::with(Behaviour { stat: Some(stat), ..Behaviour::default() }, timings).await;
    let playback = bench.open(FIRST).await.unwrap();
    bench.journal().reaches("GET /ace/stat/", 3).await;
    assert_eq!(playback.stats().borrow().as_ref().unwrap().peers, Some(3));
    let mut stats = playback.stats();
    drop(playback);
    while stats.changed().await.is_ok() {}
}

#[tokio::test]
async fn a_session_without_a_command_url_ends_without_a_stop() {
    let reply = || vec![Step::Send(json(r#"{"response":{"playback_url":"/ace/r/a/b"},"error":null}"#))];
    let bench = Bench::new(Behaviour { start: Some(reply), ..Behaviour::default() }).await;
    let playback = bench.open(FIRST).await.unwrap();
    assert!(!bench.engine.drain(Duration::from_millis(10)).await, "waited for, though nothing is looked at");
    drop(playback);
    bench.drained().await;
    assert_eq!(bench.story(), ["start", "permit"]);
    assert_eq!(bench.counts(), (1, 1, 0));
}

#[tokio::test]
async fn many_starts_and_ends_of_one_channel_leave_nothing_behind() {
    let bench = Bench::new(Behaviour::default()).await;
    let mut callers = JoinSet::new();
    for round in 0..50_u64 {
        let (engine, permit) = (bench.engine.clone(), bench.permit());
        callers.spawn(async move {
            let patience = Duration::from_millis(round % 7);
            drop(timeout(patience, engine.open(by(FIRST), permit)).await);
        });
    }
    while callers.join_next().await.is_some() {}
    bench.drained().await;
    let (opened, closed, stop_failed) = bench.counts();
    assert_eq!((opened, stop_failed), (closed, 0));
    assert_eq!(bench.journal().count("permit back"), 50);
    assert!(!bench.engine.is_closing(infohash(FIRST)));
}
