//! What this machine does to a stream, whoever serves it.

use std::time::Duration;

use acemux_sim::{ChannelKind, Dialect, SimEngine, SimOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::viewer::StrictViewer;

/// What it watches; any channel of its own engine will do.
const CHANNEL: &str = "0000000000000000000000000000000000000001";
/// Thin, because only its times are of interest. A few bytes every 20 ms.
const BITRATE: u64 = 250_000;
/// Longest time for which a viewer may be without a byte whatever others do, on a machine that is never late.
const PROMISE: Duration = Duration::from_millis(250);
/// A byte that goes through the program waits for the machine once more than one of the witness.
const STATIONS: u32 = 2;
/// Longer than any test lasts.
const LONGEST_TEST: Duration = Duration::from_hours(1);

/// Reads a stream straight from an engine of its own, beside a test and on the same runtime. What it has to wait for its
/// bytes is owed to the machine and to the test's own work, so the program's viewers are judged beside it: a machine at
/// half the speed delays both, a program that lets one viewer wait for another delays only its own.
pub struct Witness {
    watching: JoinSet<StrictViewer>,
    enough: CancellationToken,
    _engine: SimEngine,
}

impl Witness {
    /// Watches from now on. Its task is one that an oracle of the same test has to know: it comes first.
    pub async fn start() -> Self {
        // Of the two engines that are simulated this one needs no redirects.
        let dialect = Dialect::Outpace;
        let default_channel = ChannelKind::Verify { bitrate: BITRATE };
        let options = SimOptions { dialect, default_channel, ..SimOptions::fast() };
        let engine = SimEngine::start(options).await.expect("a port is free");
        let mut viewer = StrictViewer::open(engine.addr(), CHANNEL).await;
        let (mut watching, enough) = (JoinSet::new(), CancellationToken::new());
        let token = enough.clone();
        watching.spawn(async move {
            let end = token.run_until_cancelled(viewer.watch(LONGEST_TEST)).await.flatten();
            assert!(end.is_none(), "the witness's own stream ended: {end:?}");
            viewer
        });
        Self { watching, enough, _engine: engine }
    }

    /// Fails when one of these, who watched the program meanwhile, was without a byte for longer than anybody may be
    /// whatever others do.
    pub async fn assert_undisturbed<'a>(self, viewers: impl IntoIterator<Item = &'a StrictViewer>) {
        self.assert_silent_for_at_most(Duration::ZERO, viewers).await;
    }

    /// The same, when a silence of this length is meant to be.
    pub async fn assert_silent_for_at_most<'a>(
        self,
        meant: Duration,
        viewers: impl IntoIterator<Item = &'a StrictViewer>,
    ) {
        self.assert_within(meant + PROMISE, viewers).await;
    }

    /// The same, when anybody may be without a byte for so long and no longer.
    pub async fn assert_within<'a>(
        mut self,
        promise: Duration,
        viewers: impl IntoIterator<Item = &'a StrictViewer>,
    ) {
        self.enough.cancel();
        let own = self.watching.join_next().await.expect("it watches").expect("it watches to the end");
        assert!(own.report().media > 0, "it has seen something");
        let machine = own.longest_silence();
        let longest = viewers.into_iter().map(StrictViewer::longest_silence).max().expect("a viewer");
        println!("longest silence: {longest:?}, of the witness: {machine:?}");
        let bound = promise + machine * STATIONS;
        assert!(longest < bound, "{longest:?} without a byte, of which {machine:?} may be the machine's");
    }
}

#[cfg(test)]
mod tests {
    use acemux_sim::{Fault, Target};

    use super::*;
    use crate::app::Setup;

    #[tokio::test(flavor = "multi_thread")]
    #[should_panic(expected = "without a byte")]
    async fn a_viewer_who_waits_for_more_than_the_machine_is_seen() {
        let (app, witness) = (Setup::new().start().await, Witness::start().await);
        app.engine().set_fault(Target::All, Fault::Oscillate { on_ms: 300, off_ms: 1500 });
        let mut viewer = StrictViewer::open(app.address(), CHANNEL).await;
        viewer.watch(Duration::from_secs(3)).await;
        witness.assert_undisturbed([&viewer]).await;
    }
}
