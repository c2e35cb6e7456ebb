//! Who of those who fetch pieces is where: seated, on its way back, or away. Only the first two are remembered.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use acemux_media::hls::{Segment, SegmentLimits};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{HlsError, Packager, Token};
use crate::bars::BAR;
use crate::relay::{Admitted, Inner, Knows, StreamKey};
use crate::session::StartError;
use crate::viewer::{Record, ViewerInfo};

/// Longest wait for a segment that is not there yet: one target duration.
const PATIENCE: Duration = Duration::from_secs(6);

/// Numbers of segments begin with the time since then, 2024-01-01, in quarters of a second. `hlsdemux` reads them in 31
/// bits, which last until 2041.
const EPOCH: i64 = 1_704_067_200;

/// First numbers that pass in a second. Segments last seconds, so whoever begins later begins far above what was listed
/// before, though a cold start lists seconds at once and the clock may have been set back a little.
const NUMBERS_A_SECOND: u64 = 4;

/// What became of a way back; nothing yet.
type Came = Option<Result<(), StartError>>;

/// All of them.
#[derive(Default)]
pub(crate) struct Places {
    known: Mutex<Known>,
    /// Above the number of every segment that was listed since the process began.
    next_number: AtomicU64,
    /// The number of the last range of those channels that have had more than one.
    ranges: Mutex<HashMap<StreamKey, u64>>,
}

/// Channels whose ranges are remembered. Beyond it all are forgotten: their players lose what nobody can keep for ever.
const MOST_RANGES: usize = 1024;

#[derive(Default)]
struct Known {
    seated: HashMap<Token, Weak<Packager>>,
    coming: HashMap<Token, watch::Receiver<Came>>,
    /// Thrown out, until then. What is over is forgotten whenever somebody is added.
    barred: HashMap<Token, Instant>,
}

impl Places {
    pub(super) fn seat(&self, token: Token, packager: &Arc<Packager>) {
        self.known.lock().seated.insert(token, Arc::downgrade(packager));
    }

    /// It has no seat there any more. It may have one elsewhere by now.
    pub(super) fn leave(&self, token: Token, packager: *const Packager) {
        if let Entry::Occupied(seat) = self.known.lock().seated.entry(token)
            && std::ptr::eq(seat.get().as_ptr(), packager)
        {
            seat.remove();
        }
    }

    /// It is refused for a while: players ask again at once, and it would be back before anybody has seen it go.
    pub(super) fn bar(&self, token: Token) {
        let now = Instant::now();
        let barred = &mut self.known.lock().barred;
        barred.retain(|_, until| *until > now);
        barred.insert(token, now + BAR);
    }

    /// The number of a first segment behind which so much media is cut at once: above all that were listed before, by this
    /// process and, by the time, those before it.
    pub(super) fn first_number(&self, at_once: Duration) -> u64 {
        number_at(Timestamp::now(), at_once).max(self.next_number.load(Ordering::Relaxed))
    }

    pub(super) fn listed(&self, number: u64) {
        self.next_number.fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    /// Discontinuities before the one that a stream of this channel begins with: its first range has the number of the channel's
    /// last one.
    pub(super) fn discontinuities_before(&self, key: &StreamKey) -> u64 {
        self.ranges.lock().get(key).map_or(0, |last| last.saturating_sub(1))
    }

    /// The channel has come to this range.
    pub(super) fn reached(&self, key: StreamKey, range: u64) {
        if range <= 1 {
            return;
        }
        let mut ranges = self.ranges.lock();
        if ranges.len() >= MOST_RANGES && !ranges.contains_key(&key) {
            ranges.clear();
        }
        ranges.insert(key, range);
    }

    fn packager_of(&self, token: Token) -> Option<Arc<Packager>> {
        self.known.lock().seated.get(&token).and_then(Weak::upgrade)
    }
}

fn number_at(now: Timestamp, at_once: Duration) -> u64 {
    let since = u64::try_from(now.as_second().saturating_sub(EPOCH)).unwrap_or_default();
    let at_once = at_once.as_secs() / SegmentLimits::default().least.as_secs();
    since.saturating_mul(NUMBERS_A_SECOND).saturating_sub(at_once)
}

/// Where a token's viewer is.
pub enum Place {
    /// One of a stream's viewers.
    Seated(Seated),
    /// On its way there.
    Coming(Coming),
    /// Nowhere. Whoever has this brings it back, and nobody else does meanwhile.
    Away(Return),
}

impl Place {
    pub(super) fn of(relay: &Arc<Inner>, token: Token) -> Result<Self, HlsError> {
        loop {
            if let Some(packager) = relay.hls.packager_of(token)
                && let Some(seated) = packager.asks(token)
            {
                return Ok(Self::Seated(seated));
            }
            let mut known = relay.hls.known.lock();
            if known.barred.get(&token).is_some_and(|until| *until > Instant::now()) {
                return Err(HlsError::ThrownOut);
            }
            if let Some(coming) = known.coming.get(&token) {
                return Ok(Self::Coming(Coming(coming.clone())));
            }
            // It may have been seated since it was looked for.
            if known.seated.get(&token).is_none_or(|seat| seat.strong_count() == 0) {
                known.seated.remove(&token);
                let (came, coming) = watch::channel(None);
                known.coming.insert(token, coming);
                return Ok(Self::Away(Return { relay: Arc::clone(relay), token, came }));
            }
        }
    }
}

/// A viewer with a seat, who has just asked for something.
pub struct Seated {
    pub(super) packager: Arc<Packager>,
    pub(super) record: Arc<Record>,
    pub(super) token: Token,
}

impl Seated {
    /// Its playlist, `uri` giving the address of each segment by its number. Waits until then for the first segment.
    pub async fn playlist(&self, until: Instant, uri: impl Fn(u64) -> String) -> Result<String, HlsError> {
        self.packager.asks_for_playlist(self.token)?;
        self.packager.playlist(&self.record, until, uri).await
    }

    /// One segment. Waits a while for the one that comes next.
    pub async fn segment(&self, number: u64) -> Result<Segment, HlsError> {
        self.packager.segment(&self.record, Instant::now() + PATIENCE, number).await
    }

    /// So many bytes go to the viewer.
    pub fn gets(&self, bytes: u64) {
        self.packager.gets(self.token, usize::try_from(bytes).unwrap_or(usize::MAX));
    }
}

/// A viewer on its way to a seat.
pub struct Coming(watch::Receiver<Came>);

impl Coming {
    /// Waits until it has come, or somebody else has to bring it. An error says why it cannot come, or that it has not by
    /// then; then it is on its way still.
    pub async fn wait(mut self, until: Instant) -> Result<(), HlsError> {
        match timeout_at(until, self.0.wait_for(Option::is_some)).await {
            Err(_elapsed) => Err(HlsError::NotReady),
            Ok(Err(_given_up)) => Ok(()),
            Ok(Ok(came)) => came.clone().unwrap_or(Ok(())).map_err(HlsError::NotStarted),
        }
    }
}

/// The right to bring a viewer back to a seat. Dropped, somebody else may.
pub struct Return {
    relay: Arc<Inner>,
    token: Token,
    came: watch::Sender<Came>,
}

impl Return {
    /// Joins the channel, in a task of its own that ends with the budget of a start: a player that cannot wait so long asks
    /// again, and must not find everything where it began.
    pub fn join(self, key: StreamKey, info: ViewerInfo, admitted: Admitted) -> Coming {
        let coming = Coming(self.came.subscribe());
        let tasks = self.relay.tasks.clone();
        tasks.spawn(async move {
            let came = self.arrive(key, info, admitted).await;
            self.came.send_replace(Some(came));
        });
        coming
    }

    async fn arrive(&self, key: StreamKey, info: ViewerInfo, admitted: Admitted) -> Result<(), StartError> {
        let viewer = self.relay.join(key, info, admitted, Knows::Token).await?;
        self.relay.package(self.token, viewer).map(|_packager| ())
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        self.relay.hls.known.lock().coming.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As short as they get, for so long behind a cold start that has listed so much at once.
    fn last_listed(first: u64, at_once: u64, then: u64) -> u64 {
        first + (at_once + then) / SegmentLimits::default().least.as_secs()
    }

    #[test]
    fn whoever_begins_after_a_restart_begins_above_all_that_was_listed() {
        let now = Timestamp::from_second(1_795_960_000).unwrap();
        let after = |seconds: i64| Timestamp::from_second(now.as_second() + seconds).unwrap();
        let begin = |now| number_at(now, Duration::ZERO);
        // A cold start with so much at once, so long a life, and the clock set back meanwhile.
        for (at_once, lived, back) in
            [(8, 2, 0), (20, 3, 0), (30, 5, 0), (8, 10, 5), (20, 60, 45), (0, 3600, 3000), (30, 0, -4)]
        {
            let last = last_listed(begin(now), at_once, lived);
            let again = begin(after(i64::try_from(lived).unwrap() - back));
            assert!(again > last, "{at_once} s at once, {lived} s, {back} s back: {again} after {last}");
        }
        // What is cut out of the ring at once is no later than now.
        let warm = number_at(now, Duration::from_secs(30));
        assert_eq!(last_listed(warm, 30, 0), begin(now));
    }

    #[test]
    fn numbers_fit_into_31_bits_for_as_long_as_this_may_run_and_no_clock_is_too_wrong() {
        let at = |text: &str| number_at(text.parse().unwrap(), Duration::ZERO);
        assert!(at("2040-12-31T00:00:00Z") < 1 << 31);
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(number_at("2024-01-01T00:00:01Z".parse().unwrap(), Duration::from_secs(30)), 0);
    }
}
