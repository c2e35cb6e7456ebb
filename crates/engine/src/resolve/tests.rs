use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::Timings;
use crate::scripted::{Scripted, Step, json};

const ID: &str = "d8c6690000000000000000000000000000000001";
const INFOHASH: &str = "0a4848271c91ce2d8965ce416267c25047dc8141";

const UNKNOWN: &str = r#"{"error":{"message":"cannot get transport file","code":0}}"#;

fn hash(hex: &str) -> Hash {
    hex.parse().unwrap()
}

fn known(hex: &str) -> Resolution {
    Resolution::Known(hex.parse().unwrap())
}

fn unresolved(why: Why) -> Resolution {
    Resolution::Unresolved(why)
}

fn found(infohash: &str) -> String {
    format!(r#"{{"result":{{"files":[],"infohash":"{infohash}","type":"live"}},"error":null}}"#)
}

/// An engine that gives one answer to `content_id=` and one to `infohash=`.
async fn engine(as_id: String, as_infohash: String) -> (Scripted, Engine) {
    scripted(move |is_infohash| vec![Step::Send(json(if is_infohash { &as_infohash } else { &as_id }))]).await
}

async fn scripted(steps: impl Fn(bool) -> Vec<Step> + Send + Sync + 'static) -> (Scripted, Engine) {
    let server = Scripted::new(move |head| steps(head.contains("&infohash="))).await;
    let timings = Timings { resolve: Duration::from_millis(500), ..Timings::default() };
    let engine = Engine::new(server.endpoint.clone(), timings);
    (server, engine)
}

#[tokio::test]
async fn a_content_id_resolves_to_its_infohash_and_is_remembered() {
    let (server, engine) = engine(found(INFOHASH), UNKNOWN.to_owned()).await;
    let identities = Identities::default();
    assert_eq!(identities.resolve(&engine, hash(ID)).await, known(INFOHASH));
    assert_eq!(identities.resolve(&engine, hash(ID)).await, known(INFOHASH));
    assert_eq!(identities.resolve(&engine, hash(INFOHASH)).await, known(INFOHASH));
    assert!(server.requests().len() <= 2, "{:?}", server.requests());
}

#[tokio::test]
async fn an_infohash_given_as_an_id_resolves_to_itself() {
    let (_server, engine) = engine(UNKNOWN.to_owned(), found(INFOHASH)).await;
    assert_eq!(Identities::default().resolve(&engine, hash(INFOHASH)).await, known(INFOHASH));
}

#[tokio::test]
async fn two_negatives_are_one_and_are_not_remembered() {
    let (server, engine) = engine(UNKNOWN.to_owned(), UNKNOWN.to_owned()).await;
    let identities = Identities::default();
    for round in 1..=2 {
        assert_eq!(identities.resolve(&engine, hash(ID)).await, unresolved(Why::Negative));
        assert_eq!(server.requests().len(), 2 * round);
    }
    assert_eq!(identities.known(hash(ID)), None);
    // It is no content id: it is not started by that once more.
    let names = identities.names(ContentId::Infohash(Infohash::new(hash(ID))), Family::Acestream);
    assert_eq!(names, [StartBy::Infohash(Infohash::new(hash(ID)))]);
}

#[tokio::test]
async fn an_engine_that_cannot_tell_gives_no_answer() {
    for reply in [
        r#"{"error":{"message":"unknown method","code":0}}"#,
        r#"{"result":null,"error":"access denied"}"#,
        r#"{"result":{"name":"x"}}"#,
        "<html>",
    ] {
        let (_server, engine) = engine(reply.to_owned(), UNKNOWN.to_owned()).await;
        assert_eq!(
            Identities::default().resolve(&engine, hash(ID)).await,
            unresolved(Why::NoAnswer),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn an_infohash_answered_with_another_one_is_no_answer() {
    let (_server, engine) = engine(UNKNOWN.to_owned(), found(INFOHASH)).await;
    assert_eq!(Identities::default().resolve(&engine, hash(ID)).await, unresolved(Why::NoAnswer));
}

#[tokio::test]
async fn the_first_infohash_wins_over_a_silent_other() {
    let (_server, engine) = scripted(|is_infohash| {
        vec![if is_infohash { Step::Hang } else { Step::Send(json(&found(INFOHASH))) }]
    })
    .await;
    assert_eq!(Identities::default().resolve(&engine, hash(ID)).await, known(INFOHASH));
}

#[tokio::test]
async fn silence_is_no_answer_at_the_deadline() {
    let (_server, engine) = scripted(|_| vec![Step::Hang]).await;
    assert_eq!(Identities::default().resolve(&engine, hash(ID)).await, unresolved(Why::NoAnswer));
}

#[tokio::test]
async fn everyone_who_asks_at_once_shares_one_question() {
    let (server, engine) = scripted(|is_infohash| {
        let answer = if is_infohash { UNKNOWN.to_owned() } else { found(INFOHASH) };
        vec![Step::Pause(Duration::from_millis(50)), Step::Send(json(&answer))]
    })
    .await;
    let identities = Arc::new(Identities::default());
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (identities, engine) = (Arc::clone(&identities), engine.clone());
        callers.spawn(async move { identities.resolve(&engine, hash(ID)).await });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap(), known(INFOHASH));
    }
    assert_eq!(server.requests().len(), 2);
    assert!(identities.flights.lock().is_empty());
}

#[tokio::test]
async fn a_question_that_hangs_at_one_engine_keeps_no_other_engine_from_being_asked() {
    let (silent, hanging) = scripted(|_| vec![Step::Hang]).await;
    let (_server, engine) = scripted(|is_infohash| {
        let answer = if is_infohash { UNKNOWN.to_owned() } else { found(INFOHASH) };
        vec![Step::Send(json(&answer))]
    })
    .await;
    let identities = Arc::new(Identities::default());
    let mut waiting = JoinSet::new();
    waiting.spawn({
        let identities = Arc::clone(&identities);
        async move { identities.resolve(&hanging, hash(ID)).await }
    });
    silent.journal().reaches("GET ", 2).await;
    assert_eq!(identities.resolve(&engine, hash(ID)).await, known(INFOHASH));
}

/// The open engine is started by the content id alone.
#[tokio::test]
async fn an_engine_that_is_cut_off_from_the_directory_takes_no_name_from_a_channel() {
    let (_cut_off, refusing) = engine(UNKNOWN.to_owned(), UNKNOWN.to_owned()).await;
    let (_server, knowing) = engine(found(INFOHASH), UNKNOWN.to_owned()).await;
    let identities = Identities::default();
    assert_eq!(identities.resolve(&refusing, hash(ID)).await, unresolved(Why::Negative));
    assert_eq!(identities.resolve(&knowing, hash(ID)).await, known(INFOHASH));
    let channel = ContentId::Infohash(INFOHASH.parse().unwrap());
    assert_eq!(identities.names(channel, Family::Outpace), [StartBy::ContentId(hash(ID))]);
}

#[tokio::test]
async fn a_waiter_asks_itself_when_the_first_to_ask_goes_away() {
    let (server, engine) = scripted(|is_infohash| {
        let answer = if is_infohash { UNKNOWN.to_owned() } else { found(INFOHASH) };
        vec![Step::Pause(Duration::from_millis(100)), Step::Send(json(&answer))]
    })
    .await;
    let identities = Arc::new(Identities::default());
    let ask = |callers: &mut JoinSet<Resolution>| {
        let (identities, engine) = (Arc::clone(&identities), engine.clone());
        callers.spawn(async move { identities.resolve(&engine, hash(ID)).await });
    };
    let (mut leader, mut waiter) = (JoinSet::new(), JoinSet::new());
    ask(&mut leader);
    server.journal().reaches("GET ", 2).await;
    ask(&mut waiter);
    tokio::task::yield_now().await;
    leader.shutdown().await;
    assert_eq!(waiter.join_next().await.unwrap().unwrap(), known(INFOHASH));
    assert!(identities.flights.lock().is_empty());
}

#[tokio::test]
async fn a_question_that_everyone_gave_up_is_forgotten() {
    let (server, engine) = scripted(|_| vec![Step::Hang]).await;
    let identities = Arc::new(Identities::default());
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let (identities, engine) = (Arc::clone(&identities), engine.clone());
        callers.spawn(async move { identities.resolve(&engine, hash(ID)).await });
    }
    server.journal().reaches("GET ", 2).await;
    callers.shutdown().await;
    assert!(identities.flights.lock().is_empty());
}

/// Says back whatever infohash it is asked for, as the open engine does; content ids it looks up.
async fn echo(as_id: String) -> (Scripted, Engine) {
    let server = Scripted::new(move |head| {
        let asked = head.split_once("&infohash=").and_then(|(_, rest)| rest.get(..40));
        vec![Step::Send(json(&asked.map_or_else(|| as_id.clone(), found)))]
    })
    .await;
    let engine = Engine::new(server.endpoint.clone(), Timings::default());
    (server, engine)
}

#[tokio::test]
async fn an_echo_is_no_resolution() {
    let (server, engine) = echo(UNKNOWN.to_owned()).await;
    let identities = Identities::default();
    for round in 1..=3 {
        assert_eq!(identities.resolve(&engine, hash(ID)).await, unresolved(Why::NoAnswer));
        // The value in both readings, a hash that nobody has; from then on content ids alone.
        assert_eq!(server.requests().len(), 2 + round, "{:?}", server.requests());
    }
    assert_eq!(identities.record(hash(ID)), None, "nothing is remembered");
}

#[tokio::test]
async fn an_engine_that_echoes_is_believed_when_it_looks_a_content_id_up() {
    for as_id in [found(INFOHASH), found(ID)] {
        let (_server, engine) = echo(as_id.clone()).await;
        let resolution = Identities::default().resolve(&engine, hash(ID)).await;
        let is_echoed = as_id == found(ID);
        let expected = if is_echoed { unresolved(Why::NoAnswer) } else { known(INFOHASH) };
        assert_eq!(resolution, expected, "{as_id}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_ran_away_on_a_family_is_not_begun_there_again_until_it_has_played_or_an_hour_has_passed() {
    let identities = Identities::default();
    let infohash = Infohash::new(hash(INFOHASH));
    let (channel, by_infohash) = (ContentId::Infohash(infohash), StartBy::Infohash(infohash));
    let begun = |family| identities.names(channel, family).contains(&by_infohash);
    let endings: [fn(&Identities, Infohash); 3] = [
        |identities, infohash| {
            let (asked, by) = (ContentId::Infohash(infohash), StartBy::Infohash(infohash));
            identities.delivered(asked, by, Some(infohash), Family::Outpace);
        },
        |identities, infohash| assert!(identities.forget(infohash.hash())),
        |_, _| {},
    ];
    for ending in endings {
        identities.ran_away(infohash, Family::Outpace);
        assert!(!begun(Family::Outpace) && begun(Family::Acestream) && begun(Family::Unknown));
        tokio::time::advance(Duration::from_mins(59)).await;
        assert!(!begun(Family::Outpace));
        ending(&identities, infohash);
        if identities.has_run_away(by_infohash, Family::Outpace) {
            tokio::time::advance(Duration::from_mins(1)).await;
        }
        assert!(begun(Family::Outpace));
    }
}

#[tokio::test]
async fn an_engine_that_cannot_tell_yet_whether_it_echoes_is_asked_again() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let (_server, engine) = scripted(move |_| {
        let before = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        vec![if before == 0 { Step::Hang } else { Step::Send(json(UNKNOWN)) }]
    })
    .await;
    assert!(engine.echoes().await, "a family that nobody knows is not believed");
    assert!(!engine.echoes().await);
    assert!(!engine.echoes().await);
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 2);
}
