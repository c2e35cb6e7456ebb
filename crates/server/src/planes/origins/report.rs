//! What an engine says of a stream it plays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use acemux_engine::{Growth, Playback, PlaybackStat, PlaybackStatus};
use acemux_relay::origin::{LivePosition, Report, SourceStats};
use parking_lot::Mutex;
use tokio::sync::watch;

/// A download that has not grown for so long does not grow any more: engines are asked every two seconds.
const GROWS: Duration = Duration::from_secs(6);

/// The engine's statistics in the relay's words.
pub(super) struct EngineReport(Mutex<LastReport>);

/// What engines have loaded from swarms and given to them for playbacks that are over.
#[derive(Debug, Default)]
pub struct Transfers {
    downloaded: AtomicU64,
    uploaded: AtomicU64,
}

impl Transfers {
    /// Both in bytes, downloaded first.
    pub fn of_ended(&self) -> (u64, u64) {
        (self.downloaded.load(Ordering::Relaxed), self.uploaded.load(Ordering::Relaxed))
    }

    fn add(&self, stat: &PlaybackStat) {
        self.downloaded.fetch_add(stat.downloaded.unwrap_or_default(), Ordering::Relaxed);
        self.uploaded.fetch_add(stat.uploaded.unwrap_or_default(), Ordering::Relaxed);
    }
}

/// What is told of one playback.
struct LastReport {
    transfers: Arc<Transfers>,
    stats: watch::Receiver<Option<PlaybackStat>>,
    /// The engine's name of our playback.
    session: Option<String>,
    growth: Growth,
    /// A download that grows is no sign of media: engines of this family load what they cannot play.
    runs_away: bool,
}

impl EngineReport {
    pub(super) fn of(playback: &Playback, runs_away: bool, transfers: &Arc<Transfers>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(LastReport::of(playback, runs_away, Arc::clone(transfers)))))
    }

    /// The stream was started once more: it is this playback now.
    pub(super) fn follow(&self, playback: &Playback, runs_away: bool) {
        let mut last = self.0.lock();
        *last = LastReport::of(playback, runs_away, Arc::clone(&last.transfers));
    }
}

impl LastReport {
    fn of(playback: &Playback, runs_away: bool, transfers: Arc<Transfers>) -> Self {
        let session = playback.started().playback_session_id.clone();
        Self { transfers, stats: playback.stats(), session, growth: playback.growth(), runs_away }
    }

    fn is_lost(&self, stat: &PlaybackStat) -> bool {
        stat.status == PlaybackStatus::Gone || stat.is_of_another(self.session.as_deref())
    }
}

impl Drop for LastReport {
    fn drop(&mut self) {
        if let Some(stat) = &*self.stats.borrow() {
            self.transfers.add(stat);
        }
    }
}

impl Report for EngineReport {
    fn stats(&self) -> Option<SourceStats> {
        let told = self.0.lock();
        let stat = told.stats.borrow();
        stat.as_ref().map(|stat| SourceStats {
            status: Some(stat.status.as_str().to_owned()),
            peers: stat.peers,
            speed_down: stat.speed_down,
            speed_up: stat.speed_up,
            downloaded: stat.downloaded,
            uploaded: stat.uploaded,
            live: stat.position.map(|at| LivePosition {
                pos: at.pos,
                first: at.live_first,
                last: at.live_last,
            }),
            is_lost: told.is_lost(stat),
        })
    }

    fn is_loading(&self) -> bool {
        let told = self.0.lock();
        !told.runs_away && told.growth.is_within(GROWS)
    }
}
