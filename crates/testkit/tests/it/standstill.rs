//! Our own standstill is nobody's fault: a machine that is suspended, a container that is paused, a debugger. When the
//! program goes on, nobody is cut for the time that it was not there.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::{ChannelKind, SimEngine, SimOptions};
use acemux_testkit::app::within;
use acemux_testkit::{HlsViewer, Process, StrictViewer, get};
use futures_util::future::join_all;
use tokio::time::sleep;

use crate::visits::engine;
use crate::{home, id, stream};

/// Who watches a channel of its own each, on engines without room for one more.
const VIEWERS: usize = 6;

/// Engines that go on meanwhile; what they send does not fit into the sockets for as long as that.
fn engines() -> [SimOptions; 2] {
    let default_channel = ChannelKind::Verify { bitrate: 2_000_000 };
    [engine(), engine()].map(|engine| SimOptions { default_channel, ..engine })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_while_the_program_stands_still_watches_on_when_it_goes_on() {
    let times = [12, 30];
    let outcomes = join_all(times.map(|seconds| stand_still(Duration::from_secs(seconds)))).await;
    for (seconds, outcome) in times.into_iter().zip(&outcomes) {
        println!("{seconds} s: {outcome:?}");
    }
    for (seconds, outcome) in times.into_iter().zip(&outcomes) {
        assert_eq!(outcome.cut, 0, "{seconds} s: {outcome:?}");
        assert_eq!(outcome.hls_lost, 0, "{seconds} s: {outcome:?}");
        assert_eq!(outcome.joined, 200, "{seconds} s: {outcome:?}");
        assert!(outcome.longest_wait < Duration::from_secs(8), "{seconds} s: {outcome:?}");
    }
}

#[derive(Debug)]
struct Outcome {
    /// Viewers whose connection has ended.
    cut: usize,
    /// HLS viewers whose playlist is gone.
    hls_lost: usize,
    /// What somebody is answered who asked meanwhile.
    joined: u16,
    /// From when the program went on until the last viewer had media.
    longest_wait: Duration,
}

async fn stand_still(time: Duration) -> Outcome {
    let mut engines_of = Vec::new();
    for options in engines() {
        engines_of.push(SimEngine::start(options).await.expect("a port is free"));
    }
    let addresses: Vec<SocketAddr> = engines_of.iter().map(SimEngine::addr).collect();
    let program = Process::start(&addresses, &[]).await;
    let opening =
        (0..VIEWERS).map(async |n| StrictViewer::open_from(home(n), program.address, &id(5_500 + n)).await);
    let mut viewers = join_all(opening).await;
    // One that asks while nothing answers, and one that comes back when all is over.
    let mut asks_on = HlsViewer::open(program.address, &id(5_500)).await;
    let mut comes_back = HlsViewer::open(program.address, &id(5_501)).await;
    let settled = Duration::from_secs(4);
    tokio::join!(watch(&mut viewers, settled), asks_on.watch(settled), comes_back.watch(settled));
    program.suspend().await;
    let meanwhile = watch(&mut viewers, time);
    let asking = within(time + Duration::from_secs(10), "an answer", asks_on.try_look());
    let going_on = async {
        sleep(time).await;
        program.resume().await;
        comes_back.try_look().await
    };
    let joining = async {
        sleep(time / 2).await;
        let path = stream(&id(5_502));
        within(time, "an answer", get(program.address, &path)).await.status
    };
    let (before, asked, came_back, joined) = tokio::join!(meanwhile, asking, going_on, joining);
    let (after, longest_wait) = watch_on(&mut viewers, Duration::from_secs(12)).await;
    let listed = tokio::join!(asks_on.try_look(), comes_back.try_look());
    let lost = [!(asked && listed.0), !(came_back && listed.1)];
    viewers.iter().for_each(StrictViewer::assert_only_announced_jumps);
    Outcome {
        cut: before.iter().zip(&after).filter(|(before, after)| **before || **after).count(),
        hls_lost: lost.into_iter().filter(|lost| *lost).count(),
        joined,
        longest_wait,
    }
}

/// Whose connection ends within this time.
async fn watch(viewers: &mut [StrictViewer], time: Duration) -> Vec<bool> {
    join_all(viewers.iter_mut().map(async |viewer| viewer.watch(time).await.is_some())).await
}

/// The same, and how long the last of them waits for media.
async fn watch_on(viewers: &mut [StrictViewer], time: Duration) -> (Vec<bool>, Duration) {
    let watching = viewers.iter_mut().map(async |viewer| {
        let step = Duration::from_millis(250);
        let (mut ended, mut waited, before) = (false, None, viewer.report().media);
        let mut spent = Duration::ZERO;
        while spent < time && !ended {
            ended = viewer.watch(step).await.is_some();
            spent += step;
            let has_media = viewer.report().media > before;
            waited = waited.or(has_media.then_some(spent));
        }
        (ended, waited.unwrap_or(time))
    });
    let (ended, waited): (Vec<bool>, Vec<Duration>) = join_all(watching).await.into_iter().unzip();
    (ended, waited.into_iter().max().unwrap_or_default())
}
