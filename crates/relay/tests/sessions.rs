//! Sessions on a scripted origin, in paused time: what the relay does with whatever an origin gives it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acemux_relay::event::{Event, Observer};
use acemux_relay::history::Span;
use acemux_relay::line::Line;
use acemux_relay::origin::{
    Lack, OpenError, OpenRequest, Origin, Report, Source, SourceId, SourceStats, Stage, Tenant, Upstream,
};
use acemux_relay::output::hls::{HlsError, HlsOptions, Place, Token};
use acemux_relay::session::state::Timings;
use acemux_relay::session::{EndReason, Phase, StartError};
use acemux_relay::viewer::{Viewer, ViewerInfo};
use acemux_relay::{Relay, RelayConfig, StreamKey};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

const PACKET: usize = 188;
/// Bytes of one read.
const PIECE: usize = 18_800;

/// What the origin answers to one opening.
type Answer = Box<dyn FnOnce(OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> + Send>;

/// Gives its answers in order; the last one again and again is an error.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    opened: AtomicUsize,
    closed: Arc<AtomicUsize>,
    /// Who asked, the first one first.
    tenants: Mutex<Vec<Tenant>>,
}

struct Scripted(Arc<Script>);

impl Origin for Scripted {
    fn open(&self, request: OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.tenants.lock().push(request.tenant.clone());
        let answer = self.0.answers.lock().pop_front();
        match answer {
            Some(answer) => answer(request),
            None => {
                async { Err(OpenError::NoCapacity { lack: Lack::Room, detail: "the script is over".into() }) }
                    .boxed()
            }
        }
    }
}

struct Silent;

impl Report for Silent {
    fn stats(&self) -> Option<SourceStats> {
        None
    }
}

/// Counts its drop: the playback's end.
struct Closing(Arc<AtomicUsize>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Script {
    fn then(
        &self,
        answer: impl FnOnce(OpenRequest) -> BoxFuture<'static, Result<Upstream, OpenError>> + Send + 'static,
    ) {
        self.answers.lock().push_back(Box::new(answer));
    }

    /// An upstream of `key` on `source` that sends a clip, `pause` before each piece.
    fn plays(&self, key: &str, source: &str, pause: Duration) {
        self.plays_in(PIECE, key, source, pause);
    }

    fn plays_in(&self, piece: usize, key: &str, source: &str, pause: Duration) {
        let (key, source, closed) = (StreamKey::new(key), source.to_owned(), Arc::clone(&self.closed));
        self.then(move |request| {
            request.progress.enter(Stage::Call);
            async move { Ok(upstream(key, &source, pause, piece, Closing(closed))) }.boxed()
        });
    }

    /// The same as [`Self::plays`] in a tenth of its time, from an engine that thinks for so long.
    fn opens_after(&self, key: &str, source: &str, thinking: Duration) {
        let (key, source, closed) = (StreamKey::new(key), source.to_owned(), Arc::clone(&self.closed));
        self.then(move |request| {
            request.progress.enter(Stage::Call);
            async move {
                sleep(thinking).await;
                Ok(upstream(key, &source, Duration::from_millis(10), PIECE, Closing(closed)))
            }
            .boxed()
        });
    }

    /// An upstream of `key` on `source` that sends these packets of the clip, 100 at a time, and then ends.
    fn plays_part(&self, key: &str, source: &str, packets: std::ops::Range<usize>) {
        let (key, source, closed) = (StreamKey::new(key), source.to_owned(), Arc::clone(&self.closed));
        self.then(move |_| {
            let part = clip().slice(packets.start * PACKET..packets.end * PACKET);
            let pieces = part.chunks(PIECE).map(Bytes::copy_from_slice).collect::<Vec<_>>();
            let closing = Closing(closed);
            let media = stream::iter(pieces).then(move |piece| {
                let _open = &closing;
                async move {
                    sleep(Duration::from_millis(10)).await;
                    Ok(piece)
                }
            });
            let report = Arc::new(Silent);
            let (source, media) = (place(&source), media.boxed());
            let upstream = Upstream { key, source, media, report, evidence: Arc::new(()), recording: None };
            async move { Ok(upstream) }.boxed()
        });
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

fn clip() -> Bytes {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/clips/h264.ts");
    std::fs::read(path).expect("the clip is in the repository").into()
}

fn upstream(key: StreamKey, source: &str, pause: Duration, piece: usize, closing: Closing) -> Upstream {
    let clip = clip();
    let media = stream::unfold((0, closing), move |(at, closing)| {
        let piece = clip.slice(at..(at + piece).min(clip.len()));
        async move {
            sleep(pause).await;
            let next = at + piece.len();
            (!piece.is_empty()).then_some((Ok(piece), (next, closing)))
        }
    });
    // Without an end: a source that is only silent after its clip.
    let media = media.chain(stream::pending()).boxed();
    let (source, report) = (place(source), Arc::new(Silent));
    Upstream { key, source, media, report, evidence: Arc::new(()), recording: None }
}

/// Channel `a` out of these bytes, a piece every 75 ms, and then silence.
fn paced(bytes: &[u8]) -> Upstream {
    let pieces: Vec<Bytes> = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    let media = stream::iter(pieces).then(|piece| async {
        sleep(Duration::from_millis(75)).await;
        Ok(piece)
    });
    let media = media.chain(stream::pending()).boxed();
    let (source, report) = (place("one"), Arc::new(Silent));
    let key = StreamKey::new("a");
    Upstream { key, source, media, report, evidence: Arc::new(()), recording: None }
}

fn place(name: &str) -> Source {
    Source {
        id: SourceId::new(name),
        host: name.to_owned(),
        port: 6878,
        container_id: name.to_owned(),
        playback_session_id: None,
        is_live: true,
        supersedes: true,
    }
}

fn config() -> RelayConfig {
    RelayConfig {
        timings: Timings {
            start_budget: Duration::from_secs(30),
            hedge: Duration::from_secs(12),
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(5),
            hold: Duration::from_secs(30),
            abandon: Duration::from_secs(1),
        },
        hls: HlsOptions { idle: Duration::from_secs(30) },
        chunk_bytes: 65_536,
        join_burst: Duration::from_secs(5),
        ring_media: Duration::from_secs(30),
        ring_bytes: 32 << 20,
        ring_floor: Duration::from_secs(20),
        memory: 1 << 30,
        most_viewers: 1000,
        most_viewers_per_address: 1000,
    }
}

fn relay(script: &Arc<Script>) -> Relay {
    Relay::new(config(), Arc::new(Scripted(Arc::clone(script))), Arc::new(()))
}

fn somebody(key: &str) -> ViewerInfo {
    ViewerInfo {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: String::new(),
        label: key.to_owned(),
        line: Line::default(),
    }
}

async fn join(relay: &Relay, key: &str) -> Result<Viewer, StartError> {
    let info = somebody(key);
    let admitted = relay.admit(&info)?;
    relay.join(StreamKey::new(key), info, admitted).await
}

async fn join_hls(relay: &Relay, info: ViewerInfo) -> Result<Token, StartError> {
    let admitted = relay.admit(&info)?;
    let joined = relay.join_hls(StreamKey::new(info.label.clone()), info, admitted).await?;
    Ok(joined.token)
}

/// What a player sees who asks for its playlist, and has itself brought back to its seat where it has lost that.
async fn playlist(relay: &Relay, token: Token) -> Result<String, HlsError> {
    let until = Instant::now() + Duration::from_secs(8);
    loop {
        let coming = match relay.hls_place(token)? {
            Place::Seated(seated) => match seated.playlist(until, |number| format!("{number}.ts")).await {
                Err(HlsError::Over(_)) => continue,
                answer => return answer,
            },
            Place::Coming(coming) => coming,
            Place::Away(away) => {
                let info = somebody("a");
                let admitted = relay.admit(&info).map_err(HlsError::NotStarted)?;
                away.join(StreamKey::new("a"), info, admitted)
            }
        };
        coming.wait(until).await?;
    }
}

fn first_number(playlist: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    line.and_then(|number| number.parse().ok()).expect("a playlist has numbers")
}

/// Throws out the only viewer of the only session.
fn kick_the_only_one(relay: &Relay) {
    let viewers = relay.watching(&relay.sessions()[0].key);
    assert!(viewers.len() == 1 && relay.kick(viewers[0].id.get()));
}

async fn next(viewer: &mut Viewer) -> Result<Bytes, String> {
    std::future::poll_fn(|context| viewer.poll_bytes(context))
        .await
        .map_err(|reason| reason.as_str().to_owned())
}

#[tokio::test(start_paused = true)]
async fn any_number_of_simultaneous_joins_opens_once() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let viewers = futures_util::future::join_all((0..100).map(|_| join(&relay, "a"))).await;
    assert!(viewers.iter().all(Result::is_ok));
    assert_eq!(script.opened(), 1);
    assert_eq!(relay.sessions()[0].viewers, 100);
}

#[tokio::test(start_paused = true)]
async fn a_viewers_lag_is_what_it_has_not_been_given() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("it plays");
    sleep(Duration::from_secs(2)).await;
    next(&mut viewer).await.expect("tables");
    next(&mut viewer).await.expect("a chunk");
    let lag = || relay.watching(&StreamKey::new("a"))[0].lag_chunks;
    let (before, written) = (lag(), relay.sessions()[0].ring.next);
    assert_eq!(before, written - 1);
    while written > relay.sessions()[0].ring.next - lag() {
        next(&mut viewer).await.expect("the rest");
    }
    assert!(lag() < before);
}

#[tokio::test(start_paused = true)]
async fn who_fetches_pieces_and_is_thrown_out_while_the_stream_starts_has_no_place_in_it_afterwards() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_secs(2));
    let relay = relay(&script);
    let info = somebody("a");
    let line = info.line.clone();
    let mut joining = Box::pin(join_hls(&relay, info));
    assert!((&mut joining).now_or_never().is_none(), "it waits");
    kick_the_only_one(&relay);
    assert!(line.is_cut(), "its connection is told at once");
    // Nobody has heard it: the request goes on to its end.
    let token = joining.await.expect("the stream starts");
    assert_eq!(playlist(&relay, token).await, Err(HlsError::ThrownOut));
    assert_eq!(relay.viewers(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_thrown_out_while_it_waits_for_a_piece_is_told_at_once() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_secs(2));
    let relay = relay(&script);
    let info = somebody("a");
    let line = info.line.clone();
    let token = join_hls(&relay, info).await.expect("it plays");
    let mut asking = Box::pin(playlist(&relay, token));
    assert!((&mut asking).now_or_never().is_none(), "there is no piece yet");
    let began = Instant::now();
    kick_the_only_one(&relay);
    assert_eq!(asking.await, Err(HlsError::ThrownOut));
    assert_eq!((began.elapsed(), relay.viewers()), (Duration::ZERO, 0));
    assert!(!line.is_cut(), "the connection it came by may be another client's by now");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_given_up_its_seat_takes_one_again_by_its_token_and_the_stream_with_it() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    script.plays("a", "two", Duration::from_millis(100));
    let timings = Timings { idle: Duration::from_secs(5), ..config().timings };
    let config = RelayConfig { timings, ..config() };
    let relay = Relay::new(config, Arc::new(Scripted(Arc::clone(&script))), Arc::new(()));
    let token = join_hls(&relay, somebody("a")).await.expect("it plays");
    let before = playlist(&relay, token).await.expect("it is cut");
    relay.end(&StreamKey::new("a"), EndReason::Looping);
    sleep(Duration::from_mins(5)).await;
    assert_eq!((relay.viewers(), relay.streams()), (0, 0), "nobody has asked for anything");
    // Players ask for several things at once when they go on.
    let after = futures_util::future::join_all((0..5).map(|_| playlist(&relay, token))).await;
    let after: Vec<String> = after.into_iter().collect::<Result<_, _>>().expect("it is cut again");
    assert_eq!((relay.viewers(), script.opened()), (1, 2), "it is one viewer");
    for after in &after {
        assert!(first_number(after) > first_number(&before), "{before} {after}");
        assert!(after.contains("#EXT-X-DISCONTINUITY\n"), "{after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_longer_than_a_player_waits_goes_on_and_is_there_when_it_asks_again() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    script.opens_after("a", "two", Duration::from_secs(12));
    let timings = Timings { idle: Duration::from_secs(5), ..config().timings };
    let config = RelayConfig { timings, ..config() };
    let relay = Relay::new(config, Arc::new(Scripted(Arc::clone(&script))), Arc::new(()));
    let token = join_hls(&relay, somebody("a")).await.expect("it plays");
    relay.end(&StreamKey::new("a"), EndReason::Looping);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(playlist(&relay, token).await, Err(HlsError::NotReady), "it is told after eight seconds");
    assert!(playlist(&relay, token).await.is_ok(), "the same start is waited for");
    assert_eq!(relay.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_thrown_out_is_refused_for_a_while_and_a_stream_that_is_ended_says_so() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let token = join_hls(&relay, somebody("a")).await.expect("it plays");
    kick_the_only_one(&relay);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(playlist(&relay, token).await, Err(HlsError::ThrownOut));
    sleep(Duration::from_secs(2)).await;
    assert!(playlist(&relay, token).await.is_ok(), "it is let in again");
    assert!(relay.end(&StreamKey::new("a"), EndReason::Stopped));
    sleep(Duration::from_millis(100)).await;
    let text = playlist(&relay, token).await.expect("what there was");
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert_eq!(script.opened(), 1, "what an operator has ended stays ended");
}

#[tokio::test(start_paused = true)]
async fn numbers_rise_though_the_clock_on_the_wall_stands_still() {
    let script = Arc::new(Script::default());
    (0..3).for_each(|_| script.plays("a", "one", Duration::from_millis(100)));
    let relay = relay(&script);
    let token = join_hls(&relay, somebody("a")).await.expect("it plays");
    let mut above = 0;
    for session in 1..=3 {
        // Virtual time passes, while the wall's hardly moves.
        sleep(Duration::from_secs(8)).await;
        let text = playlist(&relay, token).await.expect("it is cut");
        let first = first_number(&text);
        assert!(first >= above, "{first} {above}");
        above = first + text.matches("#EXTINF").count() as u64;
        assert_eq!(script.opened(), session);
        relay.end(&StreamKey::new("a"), EndReason::Looping);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_is_gone_before_its_waiters_are_told() {
    let script = Arc::new(Script::default());
    let relay = relay(&script);
    let Err(error) = join(&relay, "a").await else { panic!("the script is empty") };
    assert!(matches!(error, StartError::Open(OpenError::NoCapacity { .. })));
    assert!(relay.sessions().is_empty());
    script.plays("a", "one", Duration::from_millis(100));
    assert!(join(&relay, "a").await.is_ok());
}

/// The second source was asked so long ago that a third one is due at once: that is no standstill of this program.
#[tokio::test(start_paused = true)]
async fn a_start_takes_no_longer_than_its_budget_however_late_one_of_two_sources_fails() {
    for fails in [13, 20, 26, 29].map(Duration::from_secs) {
        let script = Arc::new(Script::default());
        script.then(move |request| {
            request.progress.enter(Stage::Call);
            async move {
                sleep(fails).await;
                Err(OpenError::Failed { detail: "no".into(), source_id: Some(SourceId::new("one")) })
            }
            .boxed()
        });
        for source in ["two", "three"] {
            script.plays("a", source, Duration::from_mins(5));
        }
        let relay = relay(&script);
        let began = Instant::now();
        assert!(join(&relay, "a").await.is_err());
        assert_eq!(began.elapsed(), config().timings.start_budget, "one fails after {fails:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_reveals_a_playing_channel_joins_it_and_its_playback_takes_over() {
    let script = Arc::new(Script::default());
    script.plays("b", "one", Duration::from_millis(100));
    script.plays("b", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let mut first = join(&relay, "b").await.expect("it plays");
    let second = join(&relay, "id:x").await.expect("it joins");
    assert_eq!(second.key().as_str(), "b");
    assert_eq!(relay.sessions().len(), 1);
    assert_eq!(
        (script.opened(), script.closed()),
        (2, 1),
        "on one engine the newer playback is the one that lives"
    );
    // The first viewer's stream goes on, with the jump announced.
    for _ in 0..20 {
        next(&mut first).await.expect("it goes on");
    }
}

/// Whoever keeps count of engines' slots asks it who watches, and whether it can end.
#[tokio::test(start_paused = true)]
async fn a_playback_that_another_session_has_taken_over_is_that_sessions() {
    let script = Arc::new(Script::default());
    script.plays("b", "one", Duration::from_millis(100));
    script.plays("b", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let first = join(&relay, "b").await.expect("it plays");
    let second = join(&relay, "id:x").await.expect("it joins");
    let tenant = script.tenants.lock()[1].clone();
    assert_eq!((tenant.groups().len(), tenant.idle().is_some()), (1, false));
    drop((first, second));
    sleep(Duration::from_secs(1)).await;
    assert!(tenant.idle().is_some(), "nobody watches it any more");
    assert!(tenant.make_room());
    sleep(Duration::from_secs(1)).await;
    assert!(relay.sessions().is_empty(), "{:?}", relay.sessions());
}

/// How many playbacks were closed when each session's end was told.
struct Ends {
    closed: Arc<AtomicUsize>,
    at_end: Mutex<Vec<usize>>,
}

impl Observer for Ends {
    fn observe(&self, event: &Event<'_>) {
        if let Event::SessionEnded { .. } = event {
            self.at_end.lock().push(self.closed.load(Ordering::SeqCst));
        }
    }
}

/// Whoever asks for the channel next starts it anew: on the same engine that would end a playback that is still open.
#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_found_any_more_has_no_playback_any_more() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_secs(2));
    let ends = Arc::new(Ends { closed: Arc::clone(&script.closed), at_end: Mutex::default() });
    let relay = Relay::new(config(), Arc::new(Scripted(Arc::clone(&script))), Arc::clone(&ends) as Arc<_>);
    drop(join(&relay, "a").await.expect("it plays"));
    sleep(Duration::from_mins(2)).await;
    assert_eq!(*ends.at_end.lock(), [1]);
}

#[tokio::test(start_paused = true)]
async fn on_another_engine_the_second_playback_is_closed() {
    let script = Arc::new(Script::default());
    script.plays("b", "one", Duration::from_millis(100));
    script.plays("b", "two", Duration::from_millis(100));
    let relay = relay(&script);
    let _first = join(&relay, "b").await.expect("it plays");
    let _second = join(&relay, "id:x").await.expect("it joins");
    assert_eq!(script.closed(), 1);
    assert_eq!(relay.sessions()[0].source.as_ref().map(|source| source.host.as_str()), Some("one"));
}

/// The open engine plays any number of playbacks of a channel: the first viewers' stream is not touched.
#[tokio::test(start_paused = true)]
async fn on_an_engine_that_plays_both_the_second_playback_is_closed_and_nothing_jumps() {
    let script = Arc::new(Script::default());
    for _ in 0..2 {
        let closed = Arc::clone(&script.closed);
        script.then(move |_| {
            let mut both =
                upstream(StreamKey::new("b"), "one", Duration::from_millis(100), PIECE, Closing(closed));
            both.source.supersedes = false;
            async move { Ok(both) }.boxed()
        });
    }
    let relay = relay(&script);
    let mut first = join(&relay, "b").await.expect("it plays");
    let second = join(&relay, "id:x").await.expect("it joins");
    assert_eq!((second.key().as_str(), script.opened(), script.closed()), ("b", 2, 1));
    let mut got = Vec::new();
    while got.len() < clip().len() / 2 {
        got.extend_from_slice(&next(&mut first).await.expect("it goes on"));
    }
    let (whole, got) = (clip(), media_packets(&got));
    let is_exact = media_packets(&whole[PACKET..]).starts_with(&got);
    assert!(is_exact, "the playback that it began with goes on");
}

/// An engine's directory was silent when the channel was started by its content id, and another engine knows what it is.
#[tokio::test(start_paused = true)]
async fn who_watches_is_not_cut_when_the_channel_turns_out_to_be_another_sessions() {
    let script = Arc::new(Script::default());
    script.plays("b", "one", Duration::from_millis(100));
    script.plays_part("id:x", "two", 0..key_frames(&clip())[2]);
    script.plays("b", "three", Duration::from_millis(10));
    let relay = relay(&script);
    let _by_infohash = join(&relay, "b").await.expect("it plays");
    let mut by_id = join(&relay, "id:x").await.expect("it plays");
    let (mut got, whole) = (0, clip().len());
    while got < whole * 9 / 10 {
        got += next(&mut by_id).await.expect("it goes on from the third engine").len();
    }
    let at = |key: &str| relay.session(&StreamKey::new(key)).and_then(|session| session.source);
    let hosts = ["b", "id:x"].map(|key| at(key).map(|source| source.host));
    assert_eq!(hosts, [Some("one".to_owned()), Some("three".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_move_to_an_engine_where_the_channel_plays_by_its_other_name_goes_elsewhere_or_nowhere() {
    for elsewhere in [Some("three"), None] {
        let script = Arc::new(Script::default());
        script.plays("b", "one", Duration::from_millis(100));
        script.plays("id:x", "two", Duration::from_millis(100));
        script.plays("b", "one", Duration::from_millis(10));
        if let Some(engine) = elsewhere {
            script.plays("id:x", engine, Duration::from_millis(10));
        }
        let relay = relay(&script);
        let mut by_infohash = join(&relay, "b").await.expect("it plays");
        let mut by_id = join(&relay, "id:x").await.expect("it plays");
        assert!(relay.leave_with(&StreamKey::new("id:x"), "an operator moves the stream"));
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            next(&mut by_id).await.expect("it goes on");
            next(&mut by_infohash).await.expect("it goes on");
        }
        let source = relay.session(&StreamKey::new("id:x")).and_then(|session| session.source);
        assert_eq!(source.map(|source| source.host).as_deref(), elsewhere.or(Some("two")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_a_start_reveals_finds_the_session_from_then_on() {
    let script = Arc::new(Script::default());
    script.plays("b", "one", Duration::from_millis(100));
    let relay = relay(&script);
    let _first = join(&relay, "id:x").await.expect("it plays");
    for key in ["b", "id:x"] {
        assert!(join(&relay, key).await.is_ok());
    }
    assert_eq!((script.opened(), relay.sessions().len()), (1, 1));
    assert_eq!(relay.sessions()[0].key.as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_stream_ends_one_stream() {
    let script = Arc::new(Script::default());
    script.plays("good", "one", Duration::from_millis(100));
    script.then(|_| async { panic!("a bug of the origin") }.boxed());
    let relay = relay(&script);
    let mut good = join(&relay, "good").await.expect("it plays");
    assert_eq!(join(&relay, "bad").await.err(), Some(StartError::Gone));
    assert_eq!(relay.sessions().len(), 1, "the broken one is gone");
    next(&mut good).await.expect("the other goes on");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_taken_no_faster_than_the_ring_can_keep() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::ZERO);
    let relay = Relay::new(
        RelayConfig { ring_media: Duration::from_secs(8), ..config() },
        Arc::new(Scripted(Arc::clone(&script))),
        Arc::new(()),
    );
    let _viewer = join(&relay, "a").await.expect("it plays");
    let begun = Instant::now();
    sleep(Duration::from_secs(1)).await;
    let held = relay.sessions()[0].ring.media;
    // Half the ring ahead, and what has played since.
    assert!(
        held <= Duration::from_millis(5500) && held >= Duration::from_secs(4),
        "{held:?} after {:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn media_left_in_the_socket_is_no_silence_of_the_source() {
    let script = Arc::new(Script::default());
    script.plays_in(usize::MAX / 2, "a", "one", Duration::ZERO);
    let timings = Timings { hold: Duration::from_secs(2), ..config().timings };
    let config = RelayConfig { ring_media: Duration::from_secs(8), timings, ..config() };
    let relay = Relay::new(config, Arc::new(Scripted(Arc::clone(&script))), Arc::new(()));
    let _viewer = join(&relay, "a").await.expect("it plays");
    // 9.6 s of media came in one read, 4 s may be ahead: nothing is read for more than 5 s.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(relay.sessions().len(), 1, "held back for longer than the hold, by ourselves");
    sleep(Duration::from_secs(10)).await;
    assert!(relay.sessions().is_empty(), "after its clip it is silent indeed");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_falls_silent_is_given_up_after_the_hold() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(10));
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let end = loop {
        if let Err(end) = next(&mut viewer).await {
            break end;
        }
    };
    assert_eq!(end, "stalled");
    assert!(relay.sessions().is_empty());
    assert_eq!(script.closed(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_streams_refuses_new_ones_and_closes_every_playback() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(100));
    script.then(|_| futures_util::future::pending().boxed());
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let waiting = join(&relay, "never");
    let (ended, ()) = tokio::join!(waiting, async {
        sleep(Duration::from_millis(100)).await;
        relay.shutdown().await;
    });
    assert_eq!(ended.err(), Some(StartError::Draining));
    assert_eq!(script.closed(), 1);
    let end = loop {
        if let Err(end) = next(&mut viewer).await {
            break end;
        }
    };
    assert_eq!(end, "shutdown");
    assert_eq!(join(&relay, "a").await.err(), Some(StartError::Draining));
    assert!(relay.sessions().iter().all(|session| session.phase != Phase::Live));
}

/// The clip up to its third key frame, and then a picture that never ends: with each tick of the clock a piece of it, and so
/// many packets of stuffing.
fn becomes_one_endless_picture(script: &Script, stuffing: usize) {
    script.then(move |_| {
        let clip = clip();
        let first = clip.slice(..key_frames(&clip)[2] * PACKET);
        let (pid, from) = last_clock(&first);
        let mut null = [0xff; PACKET];
        null[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        let mut piece = [0xff; PACKET];
        piece[..4].copy_from_slice(&[0x47, pid[0], pid[1], 0x10]);
        let ticks = stream::iter(1..).then(move |tick: u64| {
            let ticking = [&clock(pid, from + tick * 9000)[..], &piece, &null.repeat(stuffing)].concat();
            async move {
                sleep(Duration::from_millis(100)).await;
                Ok(Bytes::from(ticking))
            }
        });
        let media = stream::once(async move { Ok(first) }).chain(ticks).boxed();
        let (source, report) = (place("one"), Arc::new(Silent));
        let key = StreamKey::new("a");
        let upstream = Upstream { key, source, media, report, evidence: Arc::new(()), recording: None };
        async move { Ok(upstream) }.boxed()
    });
}

/// Its stream, and its value in ticks of 90 kHz.
fn last_clock(bytes: &[u8]) -> ([u8; 2], u64) {
    let has_clock = |packet: &&[u8]| packet[3] & 0x20 != 0 && packet[4] > 6 && packet[5] & 0x10 != 0;
    let packet = bytes.chunks(PACKET).rfind(has_clock).expect("the clip has a clock");
    let mut field = [0; 8];
    field[2..].copy_from_slice(&packet[6..12]);
    ([packet[1] & 0x1f, packet[2]], u64::from_be_bytes(field) >> 15)
}

/// A packet that has nothing but a clock.
fn clock(pid: [u8; 2], ticks: u64) -> [u8; PACKET] {
    let mut packet = [0xff; PACKET];
    packet[..6].copy_from_slice(&[0x47, pid[0], pid[1], 0x20, 183, 0x10]);
    packet[6..12].copy_from_slice(&((ticks << 15) | (0x3f << 9)).to_be_bytes()[2..]);
    packet
}

/// With so little history that the clip's start points have left it when somebody else comes.
async fn relay_without_a_start(script: &Arc<Script>) -> (Relay, Viewer) {
    becomes_one_endless_picture(script, 700);
    let config = RelayConfig { ring_bytes: 4 << 20, ring_floor: Duration::ZERO, ..config() };
    let relay = Relay::new(config, Arc::new(Scripted(Arc::clone(script))), Arc::new(()));
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        next(&mut viewer).await.expect("the clock goes on");
    }
    (relay, viewer)
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_to_begin_is_told_so_in_time_and_who_watches_stays() {
    let script = Arc::new(Script::default());
    let (relay, mut viewer) = relay_without_a_start(&script).await;
    let mut watching = tokio::task::JoinSet::new();
    watching.spawn(async move { while next(&mut viewer).await.is_ok() {} });
    let began = Instant::now();
    let error = join(&relay, "a").await.err();
    assert_eq!(
        error,
        Some(StartError::Timeout { stage: Stage::Keyframe, awaited: None, waited: Duration::from_secs(30) })
    );
    assert_eq!(began.elapsed().as_secs(), 30);
    let pieces = join_hls(&relay, somebody("a")).await.err();
    assert_eq!(pieces, error, "whoever fetches pieces is told the same");
    assert!(watching.try_join_next().is_none(), "the first one goes on");
    assert_eq!(relay.watching(&StreamKey::new("a"))[0].skips, 0);
    assert_eq!((script.opened(), relay.waiting()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_falls_out_of_a_ring_that_has_no_place_to_go_on_is_let_go_in_time() {
    let script = Arc::new(Script::default());
    becomes_one_endless_picture(&script, 700);
    let config = RelayConfig { ring_bytes: 4 << 20, ring_floor: Duration::ZERO, ..config() };
    let relay = Relay::new(config, Arc::new(Scripted(Arc::clone(&script))), Arc::new(()));
    let mut slow = join(&relay, "a").await.expect("it plays");
    let mut quick = join(&relay, "a").await.expect("it plays");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        next(&mut quick).await.expect("the clock goes on");
    }
    let mut watching = tokio::task::JoinSet::new();
    watching.spawn(async move { while next(&mut quick).await.is_ok() {} });
    next(&mut slow).await.expect("its tables");
    let began = Instant::now();
    assert_eq!(next(&mut slow).await.err().as_deref(), Some("unjoinable"));
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(watching.try_join_next().is_none(), "who keeps up stays");
}

/// The clip at its own speed, each packet behind the second second changed.
fn plays_changed(script: &Script, change: impl Fn(&mut [u8]) + Send + 'static) {
    script.then(move |_| {
        let mut clip = clip().to_vec();
        let behind = clip.len() / 5 / PACKET * PACKET;
        clip[behind..].chunks_mut(PACKET).for_each(change);
        let upstream = paced(&clip);
        async move { Ok(upstream) }.boxed()
    });
}

fn has_clock(packet: &[u8]) -> bool {
    packet[3] & 0x20 != 0 && packet[4] > 6 && packet[5] & 0x10 != 0
}

fn without_clock(packet: &mut [u8]) {
    if has_clock(packet) {
        packet[5] &= !0x10;
        packet[6..12].fill(0xff);
    }
}

fn with_clock_that_stands_still(packet: &mut [u8]) {
    if has_clock(packet) {
        packet[6..12].copy_from_slice(&[0, 1, 0, 0, 0x7e, 0]);
    }
}

/// Neither the clock nor a time stamp moves.
fn without_any_time(packet: &mut [u8]) {
    with_clock_that_stands_still(packet);
    let begin = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
    let begins_unit = packet[1] & 0x40 != 0 && packet.get(begin..begin + 3) == Some(&[0, 0, 1]);
    if begins_unit && begin + 19 < PACKET {
        let stamps = [0x21, 0, 9, 0, 1, 0x11, 0, 9, 0, 1];
        let length = match packet[begin + 7] >> 6 {
            2 => 5,
            3 => 10,
            _ => 0,
        };
        packet[begin + 9..begin + 9 + length].copy_from_slice(&stamps[..length]);
    }
}

/// No picture and no sound; clock and tables go on.
fn with_nothing_to_watch(packet: &mut [u8]) {
    let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
    if pid == 0 || pid == 0x1000 {
        return;
    }
    if has_clock(packet) {
        packet[1] &= !0x40;
        packet[3] &= !0x10;
        packet[4] = 183;
        packet[12..].fill(0xff);
    } else {
        packet[1..4].copy_from_slice(&[0x1f, 0xff, 0x10]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_multiplexer_that_goes_on_without_picture_and_sound_is_a_stall() {
    let script = Arc::new(Script::default());
    plays_changed(&script, with_nothing_to_watch);
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(9) {
        next(&mut viewer).await.expect("it goes on");
    }
    assert!(script.opened() > 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stumbles_costs_nobody_anything_and_media_that_stands_still_is_a_stall() {
    for what in ["as it is", "the clock stops", "the clock freezes", "no time moves"] {
        let script = Arc::new(Script::default());
        plays_changed(&script, move |packet| match what {
            "the clock stops" => without_clock(packet),
            "the clock freezes" => with_clock_that_stands_still(packet),
            "no time moves" => without_any_time(packet),
            _ => {}
        });
        let is_a_stall = what == "no time moves";
        let relay = relay(&script);
        let mut viewer = join(&relay, "a").await.expect("it plays");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(9) {
            next(&mut viewer).await.expect("it goes on");
        }
        assert_eq!(script.opened() > 1, is_a_stall, "{what}");
        let media = relay.sessions()[0].media;
        assert_eq!(media < Duration::from_secs(7), is_a_stall, "{what}: {media:?}");
    }
}

/// Remembers formats.
#[derive(Default)]
struct Formats(Mutex<Vec<(Option<u32>, usize)>>);

impl Observer for Formats {
    fn observe(&self, event: &Event<'_>) {
        if let Event::FormatChanged { format, .. } = event {
            self.0.lock().push((format.picture().map(|picture| picture.width), format.streams.len()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_format_in_mid_stream_is_told_once() {
    let script = Arc::new(Script::default());
    script.then(|_| {
        let second = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/clips/open-gop.ts");
        let second = std::fs::read(second).expect("the clip is in the repository");
        let bytes = [&clip()[..], &second].concat();
        let upstream = paced(&bytes);
        async move { Ok(upstream) }.boxed()
    });
    let formats = Arc::new(Formats::default());
    let origin = Arc::new(Scripted(Arc::clone(&script)));
    let relay = Relay::new(config(), origin, Arc::<Formats>::clone(&formats));
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        next(&mut viewer).await.expect("it goes on");
    }
    assert_eq!(*formats.0.lock(), [(Some(320), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_plays_for_nobody_and_cannot_be_joined_begins_anew_for_the_next() {
    let script = Arc::new(Script::default());
    let (relay, viewer) = relay_without_a_start(&script).await;
    drop(viewer);
    script.plays("a", "two", Duration::from_millis(100));
    assert!(join(&relay, "a").await.is_err(), "it is waited for a place to begin");
    sleep(Duration::from_millis(10)).await;
    let mut next_one = join(&relay, "a").await.expect("another start");
    next(&mut next_one).await.expect("media");
    assert_eq!(script.opened(), 2);
}

/// Each read brings more bytes and no new moment of the stream, and there is always one more. In real time: virtual time
/// stands still while somebody is always ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_floods_without_progress_is_given_up_in_its_time() {
    let script = Arc::new(Script::default());
    script.then(|_| {
        let clip = clip();
        let first = clip.slice(..key_frames(&clip)[2] * PACKET);
        let mut null = [0xff; PACKET];
        null[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        let again = Bytes::from(null.repeat(10));
        // As a socket does: ready until the task has had its share of the processor.
        let flood = stream::repeat(again).then(|bytes| async {
            tokio::task::consume_budget().await;
            Ok(bytes)
        });
        let media = stream::once(async move { Ok(first) }).chain(flood).boxed();
        let (source, report) = (place("one"), Arc::new(Silent));
        let key = StreamKey::new("a");
        let upstream = Upstream { key, source, media, report, evidence: Arc::new(()), recording: None };
        async move { Ok(upstream) }.boxed()
    });
    let (stall, hold) = (Duration::from_millis(300), Duration::from_secs(1));
    let timings = Timings { stall, hold, ..config().timings };
    let relay = Relay::new(RelayConfig { timings, ..config() }, Arc::new(Scripted(script)), Arc::new(()));
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let over = async {
        loop {
            if let Err(end) = next(&mut viewer).await {
                break end;
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(20), over).await.expect("nobody is held for ever");
    assert_eq!(end, "stalled");
}

/// Streams whose counter jumps without announcement.
fn unannounced(bytes: &[u8]) -> Vec<u16> {
    let mut last = std::collections::HashMap::new();
    let mut jumps = Vec::new();
    for packet in bytes.chunks(PACKET) {
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        let (counter, has_payload) = (packet[3] & 0x0f, packet[3] & 0x10 != 0);
        let is_announced = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x80 != 0;
        let before = last.insert(pid, counter);
        let fits = |before: u8| counter == before || (has_payload && counter == (before + 1) & 0x0f);
        if pid != 0x1fff && !is_announced && !before.is_none_or(fits) {
            jumps.push(pid);
        }
    }
    jumps
}

fn key_frames(bytes: &[u8]) -> Vec<usize> {
    let is_key = |packet: &[u8]| {
        packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0 && packet[1] & 0x40 != 0
    };
    let video =
        bytes.chunks(PACKET).find(|packet| is_key(packet)).map(|packet| [packet[1] & 0x1f, packet[2]]);
    let in_video = |packet: &[u8]| Some([packet[1] & 0x1f, packet[2]]) == video;
    let packets = bytes.chunks(PACKET).enumerate();
    packets.filter(|(_, packet)| is_key(packet) && in_video(packet)).map(|(at, _)| at).collect()
}

/// Found by a chaos run: the counters of a source that brought nothing playable must not count for the next one's.
#[tokio::test(start_paused = true)]
async fn a_source_in_between_that_brought_nothing_playable_leaves_no_trace() {
    let keys = key_frames(&clip());
    let [third, fourth] = [keys[2], keys[3]];
    let script = Arc::new(Script::default());
    // Up to a key frame: its tables are the last that was sent.
    script.plays_part("a", "one", 0..third);
    script.plays_part("a", "two", fourth + 300..fourth + 1500);
    script.plays_part("a", "three", third - 500..fourth + 2000);
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("it plays");
    let mut got = Vec::new();
    while let Ok(bytes) = next(&mut viewer).await {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(script.closed(), 3);
    let whole = clip();
    // A joiner is given the tables and the first key frame; stuffing there is in the clip too.
    let broadcast = &whole[PACKET..(fourth + 2000) * PACKET];
    assert_eq!(media_packets(&got).len(), media_packets(broadcast).len());
    let is_exact = media_packets(&got) == media_packets(broadcast);
    assert!(is_exact, "the third one goes on exactly where the first one ended");
}

fn media_packets(bytes: &[u8]) -> Vec<&[u8]> {
    let is_null = |packet: &&[u8]| packet[1] & 0x1f == 0x1f && packet[2] == 0xff;
    bytes.chunks(PACKET).filter(|packet| !is_null(packet)).collect()
}

/// Found by a chaos run: what the first source had sent was in the ring, and the second one's packets came behind it.
#[tokio::test(start_paused = true)]
async fn a_start_that_breaks_at_its_first_key_frame_leaves_nothing_before_the_next_sources() {
    let keys = key_frames(&clip());
    let script = Arc::new(Script::default());
    // The last packets are still held back to make a chunk of when the end comes.
    script.plays_part("a", "one", keys[1] - 200..keys[1] + 3);
    script.plays_part("a", "two", 0..keys[3]);
    let relay = relay(&script);
    let mut viewer = join(&relay, "a").await.expect("the second one plays");
    let mut got = Vec::new();
    while let Ok(bytes) = next(&mut viewer).await {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(script.closed(), 2);
    assert_eq!(unannounced(&got), Vec::<u16>::new());
    let (whole, second) = (clip(), keys[1] * PACKET);
    let copies = got.chunks(PACKET).filter(|packet| *packet == &whole[second..second + PACKET]).count();
    assert_eq!(copies, 1, "the key frame that both sent is there once");
}

#[tokio::test(start_paused = true)]
async fn a_stream_and_the_process_say_what_they_are_and_were() {
    let script = Arc::new(Script::default());
    // A quarter of a million bytes a second, as the clip plays.
    script.plays("a", "one", Duration::from_millis(75));
    let relay = relay(&script);
    let key = StreamKey::new("a");
    let mut viewer = join(&relay, "a").await.expect("it plays");
    sleep(Duration::from_secs(8)).await;
    let read = next(&mut viewer).await.expect("tables").len() + next(&mut viewer).await.expect("media").len();
    sleep(Duration::from_secs(1)).await;

    let session = relay.session(&key).expect("it plays");
    let picture = session.format.picture().expect("it has one");
    assert_eq!((picture.width, picture.height), (640, 360));
    let megabits = 1_950_000..2_050_000;
    assert!(session.bitrate.is_some_and(|rate| megabits.contains(&rate.get())), "{:?}", session.bitrate);
    assert!(session.arriving.is_some_and(|rate| megabits.contains(&rate.get())), "{:?}", session.arriving);
    assert!(session.runway.is_some_and(|runway| runway > Duration::from_secs(4)), "{:?}", session.runway);
    assert_eq!(session.bytes_out, read as u64);

    let read = f64::from(u32::try_from(read).expect("two chunks"));
    for series in [relay.history(Span::Minutes), relay.history_of(&key, Span::Minutes).expect("it plays")] {
        let [bytes_in, bytes_out, viewers, last, swarm @ ..] = series.points.last().expect("it is sampled").1;
        assert!((240_000.0..260_000.0).contains(&bytes_in.mean), "{bytes_in:?}");
        assert!(bytes_out.mean >= 0.0 && (viewers.mean - 1.0).abs() < 0.01);
        assert!(last.mean > 0.9, "one stream, and a reserve: {last:?}");
        assert!(swarm.iter().all(|figure| figure.mean.is_nan()), "its source says nothing: {swarm:?}");
        assert!((8..=10).contains(&series.points.len()), "{}", series.points.len());
        let sent: f32 = series.points.iter().map(|(_, figures)| figures[1].mean).sum();
        assert!((f64::from(sent) - read).abs() < 2.0, "{sent}");
    }

    sleep(Duration::from_secs(5)).await;
    let session = relay.session(&key).expect("it is held");
    assert!(session.runway.is_some_and(|runway| runway < Duration::from_secs(2)), "{:?}", session.runway);
    drop(viewer);
    relay.end(&key, EndReason::Shutdown);
    sleep(Duration::from_secs(3)).await;
    assert!(relay.history_of(&key, Span::Minutes).is_none());
    let process = relay.history(Span::Minutes);
    let [_, _, _, streams, ..] = process.points.last().expect("it goes on").1;
    assert!(streams.mean < 0.01 && process.points.len() > 14, "{}", process.points.len());
}

/// The task that samples must not keep what it looks at.
#[tokio::test(start_paused = true)]
async fn a_relay_that_is_stopped_samples_no_more() {
    let script = Arc::new(Script::default());
    script.plays("a", "one", Duration::from_millis(75));
    let relay = relay(&script);
    drop(join(&relay, "a").await.expect("it plays"));
    tokio::time::timeout(Duration::from_secs(5), relay.shutdown()).await.expect("every task ends");
}
