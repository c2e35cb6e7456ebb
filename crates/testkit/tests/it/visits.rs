//! What viewers do in the tests of starts: ask, watch, zap past, stay.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::{ChannelKind, SimOptions, Timing};
use acemux_testkit::StrictViewer;
use acemux_testkit::app::within;
use acemux_testkit::http::get_from;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{home, id, stream};

/// What a busy test machine may add. What used to go wrong took five seconds or thirty.
pub(crate) const MACHINE: Duration = Duration::from_millis(600);

/// An engine that takes a noticeable while, with channels that cost the test little.
pub(crate) fn engine() -> SimOptions {
    let timing =
        Timing { load: Duration::from_millis(150), prebuffer: Duration::from_millis(200), ..Timing::fast() };
    let default_channel = ChannelKind::Verify { bitrate: 500_000 };
    SimOptions { timing, default_channel, ..SimOptions::fast() }
}

/// What came of asking for a channel.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) status: u16,
    pub(crate) first_byte: Duration,
}

/// Asks from one address; the answer, and the viewer if there is a picture.
pub(crate) async fn ask(from: Ipv4Addr, address: SocketAddr, id: &str) -> (Visit, Option<StrictViewer>) {
    let asked = Instant::now();
    let path = stream(id);
    let reply = within(Duration::from_secs(45), "an answer", get_from(from, address, &path)).await;
    let visit = Visit { status: reply.status, first_byte: asked.elapsed() };
    let plays = reply.status == 200;
    (visit, if plays { Some(StrictViewer::of_reply(reply, asked, id).await) } else { None })
}

/// Asks, watches for a while if there is a picture, and leaves.
pub(crate) async fn visit(from: Ipv4Addr, address: SocketAddr, id: &str, stay: Duration) -> Visit {
    let (visit, viewer) = ask(from, address, id).await;
    if let Some(mut viewer) = viewer {
        assert!(viewer.watch(stay).await.is_none(), "it plays on");
        viewer.assert_perfect();
    }
    visit
}

/// Opens a channel and leaves it after so long without an answer, as somebody who zaps past it.
pub(crate) async fn zap_past(from: Ipv4Addr, address: SocketAddr, id: &str, patience: Duration) {
    let answered = tokio::time::timeout(patience, get_from(from, address, &stream(id))).await;
    assert!(answered.is_err(), "a dead channel says nothing for so long");
}

/// Viewers who stay where they are, each at home on a channel of its own.
pub(crate) struct Stayers(Vec<StrictViewer>);

impl Stayers {
    pub(crate) async fn on(address: SocketAddr, count: usize) -> Self {
        let open = (0..count).map(async |n| StrictViewer::open_from(home(n), address, &id(9_000 + n)).await);
        Self(join_all(open).await)
    }

    /// They watch until the work is done, and nothing of it reaches them.
    pub(crate) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let watching = join_all(self.0.iter_mut().map(|viewer| viewer.watch(Duration::from_mins(2))));
        let done = tokio::select! {
            ends = watching => panic!("they stay: {ends:?}"),
            done = work => done,
        };
        self.0.iter().for_each(StrictViewer::assert_perfect);
        done
    }
}
