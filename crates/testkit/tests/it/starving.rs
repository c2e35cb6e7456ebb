//! Nobody starves anybody: many channels from one address all play, a flood of dead ones from one address keeps no other
//! from its picture, and who waits is served in turn.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::{ChannelKind, Fault, SimOptions, Target, Timing, infohash_of};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::direct::own_time;
use acemux_testkit::http::get_from;
use acemux_testkit::{Reply, StrictViewer, get};
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::visits::{engine, visit};
use crate::{home, id, stream};

/// Who floods, and who comes beside.
const FLOOD: usize = 20;
const NEWCOMER: usize = 21;

/// The same channels on an engine that answers at once.
fn quick() -> SimOptions {
    let timing = Timing { load: Duration::from_millis(1), ..Timing::fast() };
    SimOptions { timing, ..engine() }
}

/// How long a refused client is asked to wait.
fn retry_after(reply: &Reply) -> Option<Duration> {
    reply.header("retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs)
}

// Many channels from one address.

/// A home behind NAT, a tuner, a reverse proxy: one address, and HLS as well as plain streams.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_channels_at_once_from_one_address_all_play() {
    let app = Setup::as_shipped([quick(), quick()]).set("MAX_STREAMS_PER_ENGINE", "50").start().await;
    let asking = (0..60).map(|n| {
        let (address, kind) = (app.address(), if n % 4 == 3 { "manifest.m3u8" } else { "getstream" });
        async move { get(address, &format!("/ace/{kind}?id={}", id(7_000 + n))).await }
    });
    let asked = Instant::now();
    // They stay until everybody has an answer.
    let replies = within(Duration::from_secs(45), "60 answers", join_all(asking)).await;
    let count = |status: u16| replies.iter().filter(|reply| reply.status == status).count();
    println!("{} play, {} x 429, after {:?}", count(200), count(429), asked.elapsed());
    assert_eq!(count(200), 60);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_channels_whose_clients_come_back_when_they_are_told_to_all_play() {
    // As long as real engines take: somebody always asks while others start.
    let timing = Timing { load: Duration::from_millis(500), ..Timing::real() };
    let default_channel = ChannelKind::Verify { bitrate: 500_000 };
    let real = || SimOptions { timing, default_channel, ..SimOptions::default() };
    let app = Setup::as_shipped((0..7).map(|_| real())).start().await;
    let own = own_time(app.engine().addr(), &id(7_099)).await;
    let asked = Instant::now();
    let asking = (0..20).map(|n| obedient(app.address(), id(7_100 + n)));
    let answers = timeout(Duration::from_secs(50), join_all(asking)).await.expect("all have a picture");
    let times: Vec<_> = answers.iter().map(|(_, refusals)| refusals).collect();
    println!("all play after {:?}; the engine takes {own:?}; refused {times:?} times", asked.elapsed());
    // 21 slots: nothing to wait for but the engines' own turns.
    assert!(asked.elapsed() < own * 3 + Duration::from_secs(3), "{:?}", asked.elapsed());
}

/// Asks until there is a picture, and comes back when it is told to. How often it was refused.
async fn obedient(address: SocketAddr, id: String) -> (Reply, usize) {
    let mut refusals = 0;
    loop {
        let reply = get(address, &stream(&id)).await;
        if reply.status == 200 {
            return (reply, refusals);
        }
        let pause = retry_after(&reply).unwrap_or_else(|| panic!("{} without Retry-After", reply.status));
        refusals += 1;
        sleep(pause).await;
    }
}

// Dead channels of one address, and somebody else.

#[tokio::test(flavor = "multi_thread")]
async fn dead_channels_of_one_address_keep_nobody_else_waiting() {
    for count in [8, 24] {
        let (app, mut flood) = flooded(count).await;
        let own = own_time(app.engine().addr(), &id(7_299)).await;
        let newcomer = visit(home(NEWCOMER), app.address(), &id(7_300), Duration::from_millis(300)).await;
        flood.shutdown().await;
        println!("{count} dead ones: {newcomer:?}, the engine takes {own:?}");
        assert_eq!(newcomer.status, 200, "{count} dead ones");
        assert!(newcomer.first_byte < own + Duration::from_secs(4), "{count} dead ones: {newcomer:?}");
    }
}

/// As many as one address may have requests open, and one more.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dead_channels_from_one_address_hits_that_address_alone() {
    let (app, mut flood) = flooded(256).await;
    let address = app.address();
    let newcomer = async { visit(home(NEWCOMER), address, &id(7_600), Duration::from_millis(300)).await };
    // It may also wait, because another one of its address has lost its place to it.
    let one_more = async { timeout(Duration::from_secs(10), dead(address, &id(7_559))).await.ok() };
    let (newcomer, one_more) = tokio::join!(newcomer, one_more);
    let displaced = flood.try_join_next().map(|refusal| refusal.expect("no panic"));
    flood.shutdown().await;
    println!("a second address: {newcomer:?}; of the first: {one_more:?} or {displaced:?}");
    assert_eq!(newcomer.status, 200);
    assert!(newcomer.first_byte < Duration::from_secs(5), "{newcomer:?}");
    let refused = one_more.or(displaced).expect("somebody of that address is refused");
    assert!(matches!(refused.status, 429 | 503) && refused.pause.is_some(), "{refused:?}");
}

/// Why a request of the flood is over.
#[derive(Debug)]
struct Refusal {
    status: u16,
    pause: Option<Duration>,
}

/// Two engines of three slots, and so many dead channels that one address waits for; what refuses them comes out of the
/// set. The engines refuse after 28 s.
async fn flooded(count: usize) -> (TestApp, JoinSet<Refusal>) {
    let app = Setup::as_shipped([engine(), engine()]).start().await;
    let mut flood = JoinSet::new();
    for n in 0..count {
        let channel = id(7_200 + n);
        for engine in &app.engines {
            engine.set_fault(Target::content(&channel), Fault::LateRefusal { ms: 28_000 });
        }
        let address = app.address();
        flood.spawn(async move { dead(address, &channel).await });
    }
    until("the flood has come", || app.app.relay.viewers() >= count.min(8)).await;
    // Longer than it takes to fill every place that it will fill.
    sleep(Duration::from_secs(1)).await;
    (app, flood)
}

/// Waits for a channel again and again, whatever the answer, until it is refused for the number of those that wait.
async fn dead(address: SocketAddr, id: &str) -> Refusal {
    loop {
        let mut reply = get_from(home(FLOOD), address, &stream(id)).await;
        let (status, pause) = (reply.status, retry_after(&reply));
        let code = reply.json().await["code"].as_str().unwrap_or_default().to_owned();
        if matches!(code.as_str(), "server_full" | "too_many_viewers") {
            return Refusal { status, pause };
        }
        sleep(Duration::from_millis(100)).await;
    }
}

// Who waits is served in turn.

/// Thirty ask one after the other, and none leaves before all have asked. How many played.
async fn crowd(app: &TestApp, from: impl Fn(usize) -> Ipv4Addr) -> usize {
    let (mut crowd, all_ask) = (JoinSet::new(), CancellationToken::new());
    for n in 0..30 {
        until("all before it are served or wait", || arrived(app) >= n).await;
        crowd.spawn(briefly(from(n), app.address(), n, all_ask.clone()));
    }
    all_ask.cancel();
    crowd.join_all().await.into_iter().filter(|played| *played).count()
}

/// Streams that have been started, and those that wait for a slot: a request is on its way for a while before it is either.
fn arrived(app: &TestApp) -> usize {
    app.ledger.snapshot().starts.len() + app.app.engines.waiting()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_one_address_is_served_in_the_order_of_asking() {
    let app = Setup::as_shipped([quick()]).start().await;
    let played = crowd(&app, |_| home(FLOOD)).await;
    let served = served(&app);
    println!("{played} play, asked for in the order {served:?}");
    // Three slots for a second each, for as long as ENGINE_SELECTION_TIMEOUT lets them wait: 15 and a few.
    assert!((12..=20).contains(&played), "{played} play");
    assert!(served[..12].iter().all(|n| *n < 15), "the first to ask are the first to be served: {served:?}");
    assert_in_order(&served);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_become_free_go_to_two_addresses_in_turns() {
    for homes in [Homes::Two, Homes::OfBothFamilies] {
        let app = Setup::as_shipped([quick(), quick()]).set("APP_HOST", homes.listening_on()).start().await;
        let stayers: Vec<_> =
            join_all((0..6).map(async |n| StrictViewer::open_from(home(n), v4(&app), &id(7_900 + n)).await))
                .await;
        // The first address has asked for all of its channels before the second one asks for its first.
        let crowd = (0..12).map(|n| {
            let (app, homes) = (&app, &homes);
            async move {
                until("all before it wait", || app.app.engines.waiting() == n).await;
                homes.ask(app, n / 6, &stream(&id(7_800 + n))).await
            }
        });
        let leave = async {
            until("all of them wait", || app.app.engines.waiting() == 12).await;
            drop(stayers);
        };
        let (replies, ()) = tokio::join!(join_all(crowd), leave);
        let served: Vec<usize> = (0..12).filter(|n| replies[*n].status == 200).collect();
        println!("{homes:?}: {served:?} play");
        assert_eq!(served, [0, 1, 2, 6, 7, 8], "{homes:?}");
    }
}

/// Who leaves has a claim to the slot that is left, for a second: the turns need not be even, but both are served.
#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_that_come_and_go_are_both_served_in_order() {
    let app = Setup::as_shipped([quick()]).start().await;
    crowd(&app, |n| if n < 15 { home(FLOOD) } else { home(NEWCOMER) }).await;
    let served = served(&app);
    let (first, second): (Vec<usize>, Vec<usize>) = served.iter().partition(|n| **n < 15);
    println!("asked for in the order {served:?}");
    // Three slots for the five seconds of ENGINE_SELECTION_TIMEOUT, each for a second of media and at most one of a claim.
    assert!(served.len() >= 7, "{served:?}");
    assert!(first.len().min(second.len()) * 3 >= served.len(), "{first:?} and {second:?}");
    assert_in_order(&first);
    assert_in_order(&second.into_iter().map(|n| n - 15).collect::<Vec<_>>());
}

/// Asks for the `n`th channel, watches it for a second and leaves. Whether it played.
async fn briefly(from: Ipv4Addr, address: SocketAddr, n: usize, all_ask: CancellationToken) -> bool {
    let mut reply = get_from(from, address, &stream(&id(7_700 + n))).await;
    let plays = reply.status == 200 && reply.next().await.is_ok();
    if plays {
        all_ask.cancelled().await;
        sleep(Duration::from_secs(1)).await;
    }
    plays
}

/// Which of the channels of [`briefly`] the engines were asked for, in that order.
fn served(app: &TestApp) -> Vec<usize> {
    let starts = app.ledger.snapshot().starts;
    let number = |requested: &str| {
        (0..30).find(|n| {
            let id = id(7_700 + n);
            requested == id || requested == infohash_of(&id)
        })
    };
    starts.iter().filter_map(|start| number(start.requested.as_deref()?)).collect()
}

/// In the order of asking, but for neighbours, whose order on the way in is nobody's promise.
#[track_caller]
fn assert_in_order(served: &[usize]) {
    let mut sorted = served.to_vec();
    sorted.sort_unstable();
    let place = |n: usize| sorted.iter().position(|known| *known == n).expect("it is the same list");
    let is_in_place = |(at, n): (usize, &usize)| place(*n).abs_diff(at) <= 2;
    assert!(served.iter().enumerate().all(is_in_place), "{served:?}");
}

/// Two households.
#[derive(Clone, Copy, Debug)]
enum Homes {
    /// Of IPv4.
    Two,
    /// One of IPv4, which the socket for both families shows as an IPv6 address, and one of IPv6.
    OfBothFamilies,
}

impl Homes {
    fn listening_on(self) -> &'static str {
        match self {
            Self::Two => "127.0.0.1",
            Self::OfBothFamilies => "all",
        }
    }

    async fn ask(self, app: &TestApp, which: usize, path: &str) -> Reply {
        match (self, which) {
            (Self::OfBothFamilies, 1) => {
                let port = app.address().port();
                get(SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), port), path).await
            }
            _ => get_from(home(FLOOD + which), v4(app), path).await,
        }
    }
}

/// Where it answers by IPv4.
fn v4(app: &TestApp) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, app.address().port()))
}
