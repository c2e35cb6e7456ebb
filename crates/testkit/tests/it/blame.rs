//! Who is to blame for a start that fails: an engine that answers none costs nobody more than six seconds, a start that
//! has failed is over, and another program on the same engine is found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use acemux_sim::fault::{Page, Shape};
use acemux_sim::{Fault, SimEngine, Target};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::direct::{DirectPlayer, own_time};
use acemux_testkit::rawengine::{Act, MEDIA_HEAD, RawEngine};
use acemux_testkit::{StrictViewer, get};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::visits::{MACHINE, Visit, ask, engine};
use crate::{ID, home, id, stream};

/// How long a start call may be silent before another engine is asked beside it.
const SILENT_CALL: Duration = Duration::from_secs(6);
/// `EMPTY_STREAM_TIMEOUT`.
const BUDGET: Duration = Duration::from_secs(30);

fn hang() -> Fault {
    Fault::Reply { page: Page::Start, shape: Shape::Hang }
}

// An engine that answers no start.

/// Slots of each engine, viewers for which the two others have room, which engine hangs, and whether its look-ups do.
const CASES: [(&str, usize, usize, bool); 4] =
    [("20", 40, 0, false), ("3", 6, 0, false), ("3", 6, 2, false), ("3", 6, 0, true)];

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_answers_no_start_costs_no_viewer_its_picture() {
    let cases = join_all(CASES.map(|(slots, viewers, hanging, is_unknown)| async move {
        let app = Setup::as_shipped([engine(), engine(), engine()]).set("MAX_STREAMS_PER_ENGINE", slots);
        let app = app.start().await;
        let own = own_time(app.engines[1].addr(), &id(6_099)).await;
        app.engines[hanging].set_fault(Target::All, hang());
        if is_unknown {
            let look_up = Fault::Reply { page: Page::MediaFiles, shape: Shape::Hang };
            app.engines[hanging].set_fault(Target::All, look_up);
        }
        let asking = (0..viewers).map(async |n| ask(home(n), app.address(), &id(6_000 + n)).await);
        let (visits, _viewers): (Vec<Visit>, Vec<_>) = join_all(asking).await.into_iter().unzip();
        let told = told_of(&app, hanging).await;
        (own, visits, told)
    }))
    .await;
    let slowest = |visits: &[Visit]| visits.iter().map(|visit| visit.first_byte).max();
    for (case, (own, visits, told)) in CASES.into_iter().zip(&cases) {
        println!("{case:?}: the slowest after {:?}, own {own:?}, told {told:?}", slowest(visits));
    }
    for (case, (own, visits, told)) in CASES.into_iter().zip(&cases) {
        assert!(visits.iter().all(|visit| visit.status == 200), "{case:?}: {visits:?}");
        let look_up = if case.3 { Duration::from_secs(5) } else { Duration::ZERO };
        let limit = look_up + SILENT_CALL + *own + Duration::from_secs(2);
        assert!(slowest(visits) <= Some(limit), "{case:?}: {:?}", slowest(visits));
        let is_why = |word: &String| word.contains("start") || word.contains("answer");
        assert!(told.iter().any(is_why), "{case:?}: why it is avoided: {told:?}");
    }
}

/// What the page of the engines says of this one it says of no other.
async fn told_of(app: &TestApp, hanging: usize) -> Vec<String> {
    let engines = get(app.address(), "/engines").await.json().await;
    let of = |number: usize| {
        let port = app.engines[number].addr().port();
        let is_it = |engine: &&Value| engine["port"] == port;
        engines.as_array().and_then(|all| all.iter().find(is_it)).cloned().expect("it is listed")
    };
    let said = words(&of(hanging));
    let usual: Vec<String> =
        (0..app.engines.len()).filter(|n| *n != hanging).flat_map(|n| words(&of(n))).collect();
    said.into_iter().filter(|word| !usual.contains(word)).map(|word| word.to_lowercase()).collect()
}

/// Every text in a page's entry, and every name of what is true, but for what differs anyway.
fn words(entry: &Value) -> Vec<String> {
    match entry {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().flat_map(words).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| *name != "streams");
            fields
                .flat_map(|(name, value)| match value {
                    Value::Bool(true) => vec![name.clone()],
                    value => words(value),
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_lands_on_an_engine_which_answers_no_start_goes_on_elsewhere_after_six_seconds() {
    let app =
        Setup::as_shipped([engine(), engine(), engine()]).set("MAX_STREAMS_PER_ENGINE", "20").start().await;
    let own = own_time(app.engine().addr(), &id(6_199)).await;
    let opening = (0..12).map(async |n| {
        let mut viewer = StrictViewer::open_from(home(n), app.address(), &id(6_100 + n)).await;
        viewer.watch(Duration::from_millis(500)).await;
        viewer
    });
    let mut viewers = join_all(opening).await;
    let used: Vec<usize> = app.app.engines.all().iter().map(|member| member.used()).collect();
    assert_eq!(used, [4, 4, 4]);
    app.engines[2].set_fault(Target::All, hang());
    let asked_there = || {
        let name = app.engines[2].addr().to_string();
        app.ledger.snapshot().starts.iter().filter(|start| start.engine == name).count()
    };
    let before = asked_there();
    app.engines[0].crash().await;
    let ends = join_all(viewers.iter_mut().map(|viewer| viewer.watch(Duration::from_secs(16)))).await;
    let landed = asked_there() - before;
    let mut gaps: Vec<Duration> = viewers.iter().map(StrictViewer::longest_gap).collect();
    gaps.sort();
    println!("{landed} land on the hanging engine; gaps {gaps:?}; an engine takes {own:?}");
    assert!(landed > 0, "nobody knew that it hangs");
    assert!(ends.iter().all(Option::is_none), "their sockets stay open: {ends:?}");
    viewers.iter().for_each(StrictViewer::assert_only_announced_jumps);
    let limit = SILENT_CALL + own + Duration::from_secs(1);
    assert!(gaps[gaps.len() - 1] <= limit, "{gaps:?}");
}

// A start that has failed is over.

/// How the second of three engines falls silent, and which of the last two fails first. The first one refuses.
#[derive(Clone, Copy, Debug)]
enum Story {
    /// The start call is silent and then closed; the third engine's media is none.
    SilentCall,
    /// The media is silent and then closed; the third engine's media is none.
    SilentMedia,
    /// The third engine's media is none; then the second one closes.
    NoMediaFirst,
    /// Both close without a byte, the second one first.
    BothClose,
}

/// What has happened in the story so far.
#[derive(Default)]
struct Plot {
    /// How many engines were asked to start the channel.
    asked: AtomicUsize,
    third_asked: CancellationToken,
    /// From now on all engines are well.
    is_over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_on_which_three_engines_have_failed_the_next_one_asks_an_engine_again() {
    let stories = [Story::SilentCall, Story::SilentMedia, Story::NoMediaFirst, Story::BothClose];
    let outcomes = join_all(stories.map(fail_and_ask_again)).await;
    for (story, outcome) in stories.into_iter().zip(&outcomes) {
        println!("{story:?}: {outcome:?}");
    }
    for (story, outcome) in stories.into_iter().zip(&outcomes) {
        assert!(matches!(outcome.status, 502 | 504) && outcome.has_code, "{story:?}: {outcome:?}");
        assert!(outcome.took <= BUDGET + MACHINE, "{story:?}: {outcome:?}");
        assert!(outcome.next_starts > 0, "{story:?}: {outcome:?}");
        assert_eq!(outcome.next_status, 200, "{story:?}: {outcome:?}");
        assert!(outcome.next_took < Duration::from_secs(5), "{story:?}: {outcome:?}");
    }
}

#[derive(Debug)]
struct Outcome {
    status: u16,
    has_code: bool,
    took: Duration,
    next_status: u16,
    next_took: Duration,
    /// Start calls that the next request has caused.
    next_starts: usize,
}

async fn fail_and_ask_again(story: Story) -> Outcome {
    let plot = Arc::new(Plot::default());
    let mut engines = Vec::new();
    for _ in 0..3 {
        let (plot, place) = (Arc::clone(&plot), AtomicUsize::new(0));
        engines.push(RawEngine::start(move |target| act(story, &plot, &place, target)).await);
    }
    let addresses = engines.iter().map(RawEngine::address);
    let setup = addresses.fold(Setup::as_shipped([]), Setup::engine_at);
    let app = setup.start().await;
    until("all are known", || {
        app.app.engines.all().iter().all(|member| member.knowledge().version.is_some())
    })
    .await;
    let starts = || engines.iter().map(|engine| engine.count("/ace/getstream")).sum::<usize>();
    let path = stream(ID);
    let asked = Instant::now();
    let mut failed = within(BUDGET * 2, "an error", get(app.address(), &path)).await;
    let (status, took) = (failed.status, asked.elapsed());
    let has_code = failed.json().await["code"].is_string();
    plot.is_over.store(true, Ordering::Relaxed);
    let (before, asked) = (starts(), Instant::now());
    let next = within(BUDGET * 2, "an answer", get(app.address(), &path)).await;
    let (next_status, next_took) = (next.status, asked.elapsed());
    Outcome { status, has_code, took, next_status, next_took, next_starts: starts() - before }
}

/// What one of the engines does. `place` is which of them it is, in the order in which they are asked to start.
fn act(story: Story, plot: &Arc<Plot>, place: &AtomicUsize, target: &str) -> Option<Act> {
    if plot.is_over.load(Ordering::Relaxed) {
        return None;
    }
    let is_start = target.starts_with("/ace/getstream");
    if is_start && place.load(Ordering::Relaxed) == 0 {
        place.store(plot.asked.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
    let is_media = target.starts_with("/ace/r/");
    match (place.load(Ordering::Relaxed), story) {
        (1, _) if is_start => {
            Some(Act::json(&json!({ "response": null, "error": "failed to load content" })))
        }
        (2, Story::SilentCall) if is_start => Some(after_the_third(plot, 1, Act::close())),
        (2, Story::SilentMedia | Story::BothClose) if is_media => {
            Some(after_the_third(plot, 1, Act::close()))
        }
        (2, Story::NoMediaFirst) if is_media => Some(after_the_third(plot, 3, Act::close())),
        (3, _) if is_start => {
            plot.third_asked.cancel();
            None
        }
        (3, Story::BothClose) if is_media => Some(after_the_third(plot, 2, Act::close())),
        (3, _) if is_media => {
            let page = [MEDIA_HEAD.as_bytes(), &b"<html><h1>It works!</h1></html>\n".repeat(8_000)].concat();
            Some(after_the_third(plot, 2, Act::Hang(page)))
        }
        _ => None,
    }
}

/// So many seconds after the third engine was asked.
fn after_the_third(plot: &Arc<Plot>, seconds: u64, act: Act) -> Act {
    let third_asked = plot.third_asked.clone();
    let event = async move {
        third_asked.cancelled().await;
        sleep(Duration::from_secs(seconds)).await;
    };
    Act::after(event, act)
}

// Another program on the same engine.

#[tokio::test(flavor = "multi_thread")]
async fn a_started_stream_that_is_gone_before_it_is_read_is_started_once_more() {
    for gone in [Fault::PlaybackStatus { status: 404 }, Fault::MediaNotFound] {
        let app = Setup::as_shipped([engine()]).start().await;
        let own = own_time(app.engine().addr(), &id(6_299)).await;
        let before = app.ledger.counts().starts;
        app.engine().set_fault_for_starts(Target::content(&id(6_200)), 1, gone.clone());
        let (visit, viewer) = ask(home(1), app.address(), &id(6_200)).await;
        let starts = app.ledger.counts().starts - before;
        println!("{gone:?}: {visit:?} after {starts} starts; the engine takes {own:?}");
        assert_eq!((visit.status, starts), (200, 2), "{gone:?}");
        assert!(visit.first_byte >= Duration::from_millis(500), "{gone:?}: {visit:?}");
        assert!(visit.first_byte <= Duration::from_millis(500) + own * 2 + MACHINE, "{gone:?}: {visit:?}");
        let mut viewer = viewer.expect("it plays");
        viewer.watch(Duration::from_millis(300)).await;
        viewer.assert_perfect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_stream_that_is_never_there_fails_after_the_second_start() {
    for gone in [Fault::PlaybackStatus { status: 404 }, Fault::MediaNotFound] {
        let app = Setup::as_shipped([engine()]).start().await;
        app.engine().set_fault(Target::content(&id(6_300)), gone.clone());
        let path = stream(&id(6_300));
        let mut reply = within(Duration::from_secs(5), "an error", get(app.address(), &path)).await;
        let starts = app.ledger.counts().starts;
        println!("{gone:?}: {} after {starts} starts", reply.status);
        assert_eq!((reply.status, reply.json().await["code"].as_str()), (502, Some("engine_error")));
        assert_eq!(starts, 2, "{gone:?}");
    }
}

/// A stop ends every session of a channel on its engine, the newest first of all: what another program has superseded is
/// not ours to stop any more.
#[tokio::test(flavor = "multi_thread")]
async fn another_program_that_begins_our_channel_on_our_engine_plays_on_undisturbed() {
    for times in [1, 3] {
        let app = Setup::as_shipped([engine(), engine()]).start().await;
        let mut viewer = StrictViewer::open(app.address(), ID).await;
        viewer.watch(Duration::from_secs(1)).await;
        let ours = app.engines.iter().find(|engine| engine.sessions() > 0).expect("it plays on one");
        // It may zap, too: each of its starts is a session of its own.
        let playing = async {
            let mut rival = DirectPlayer::start(ours.addr(), ID).await.expect("nobody ends its start");
            for _ in 1..times {
                rival = DirectPlayer::start(ours.addr(), ID).await.expect("nobody ends its next start");
            }
            rival.watch(Duration::from_secs(8)).await
        };
        let watching = async {
            let cut = viewer.watch(Duration::from_secs(6)).await;
            // While the rival is still there.
            let sessions: Vec<usize> = app.engines.iter().map(SimEngine::sessions).collect();
            (cut, viewer.since_media(), sessions)
        };
        let (ended, (cut, silent, sessions)) = tokio::join!(playing, watching);
        println!("{times} starts: the rival's media {ended:?}, our viewer's {cut:?}");
        assert_eq!((ended, cut), (None, None), "{times} starts");
        viewer.assert_only_announced_jumps();
        assert!(silent < Duration::from_secs(2), "{silent:?}");
        assert_eq!(sessions, [1, 1], "we went to the other engine");
    }
}

/// Two gateways on the same engines.
struct Rivals {
    engines: Vec<SimEngine>,
    gateways: [TestApp; 2],
}

impl Rivals {
    async fn on(count: usize) -> Self {
        let mut engines = Vec::new();
        for _ in 0..count {
            engines.push(SimEngine::start(engine()).await.expect("a port is free"));
        }
        let setup = || {
            let addresses = engines.iter().map(|engine| engine.addr().to_string());
            addresses.fold(Setup::as_shipped([]), Setup::engine_at)
        };
        let gateways = [setup().start().await, setup().start().await];
        Self { engines, gateways }
    }

    /// When the engines were asked to start something, milliseconds since the first time.
    fn starts(&self) -> Vec<u64> {
        let ledgers = self.engines.iter().map(|engine| engine.ledger().snapshot().starts);
        let mut starts: Vec<u64> = ledgers.flatten().map(|start| start.at_ms).collect();
        starts.sort_unstable();
        let first = starts.first().copied().unwrap_or_default();
        starts.iter().map(|start| start - first).collect()
    }

    /// Everything that both of them say about it.
    async fn say(&self) -> String {
        let mut said = String::new();
        for gateway in &self.gateways {
            for page in ["/events?limit=1000", "/engines", "/proxy/sessions", "/api/v1/plan"] {
                said += &String::from_utf8_lossy(&get(gateway.address(), page).await.body().await.0);
            }
        }
        said
    }

    /// A player at each wants the same channel, the second one so much later, and asks again when it is refused or cut,
    /// until then.
    async fn play(&self, apart: Duration, until: Instant) -> [Played; 2] {
        let [first, second] = &self.gateways;
        let (first, second) = tokio::join!(play(first, Duration::ZERO, until), play(second, apart, until),);
        [first, second]
    }
}

/// What a player has had.
#[derive(Debug, Default)]
struct Played {
    opened: usize,
    refused: Vec<String>,
    cut: usize,
    /// How long ago it had media, at the end.
    silent: Option<Duration>,
}

async fn play(gateway: &TestApp, pause: Duration, until: Instant) -> Played {
    let mut played = Played::default();
    sleep(pause).await;
    while Instant::now() < until {
        let asked = Instant::now();
        let path = stream(ID);
        let mut reply = within(BUDGET * 2, "an answer", get(gateway.address(), &path)).await;
        if reply.status == 200 {
            played.opened += 1;
            let mut viewer = StrictViewer::of_reply(reply, asked, ID).await;
            let end = viewer.watch(until.saturating_duration_since(Instant::now())).await;
            viewer.assert_only_announced_jumps();
            played.cut += usize::from(end.is_some());
            played.silent = end.is_none().then(|| viewer.since_media());
        } else {
            played.refused.push(reply.json().await.to_string());
        }
        // As players do.
        sleep(Duration::from_secs(1)).await;
    }
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_engine_do_not_end_each_others_stream_for_ever() {
    let [later, at_once] = [1_000, 0].map(|apart| rivalry(Duration::from_millis(apart)));
    tokio::join!(later, at_once);
}

async fn rivalry(apart: Duration) {
    let rivals = Rivals::on(1).await;
    let played = rivals.play(apart, Instant::now() + Duration::from_secs(16)).await;
    let starts = rivals.starts();
    println!("{apart:?} apart: {} starts at {starts:?} ms: {played:?}", starts.len());
    assert!(starts.len() <= 10, "{apart:?} apart: {} starts", starts.len());
    assert!(starts.iter().all(|at| *at < 8_000), "after eight seconds it is over: {starts:?}");
    let plays = |player: &Played| player.silent.is_some_and(|silent| silent < Duration::from_secs(2));
    assert!(played.iter().any(plays), "one of them plays on");
    let told = rivals.say().await + &played.map(|player| player.refused.concat()).concat();
    assert!(told.to_lowercase().contains("another program"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_two_engines_end_up_on_one_each() {
    let rivals = Rivals::on(2).await;
    let played = rivals.play(Duration::from_secs(1), Instant::now() + Duration::from_secs(14)).await;
    let starts = rivals.starts();
    println!("{} starts at {starts:?} ms: {played:?}", starts.len());
    assert!(starts.len() <= 10 && starts.iter().all(|at| *at < 8_000), "{starts:?}");
    assert!(played.iter().all(|player| player.opened == 1 && player.cut == 0), "nobody is cut");
    let silent: Vec<Duration> = played.iter().filter_map(|player| player.silent).collect();
    assert!(silent.iter().all(|silent| *silent < Duration::from_secs(2)), "both play on: {silent:?}");
    assert_eq!(silent.len(), 2);
}
