//! Cuts one stream for all of its viewers who fetch pieces, as long as there is one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use acemux_media::chunk::Chunk;
use acemux_media::clock::Bitrate;
use acemux_media::format::Format;
use acemux_media::hls::{Missing, Playlist, PlaylistLimits, Segment, SegmentLimits, Segmenter};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::places::Seated;
use super::{HlsError, Token};
use crate::budget::Lease;
use crate::relay::{Inner, RelayConfig};
use crate::ring::{Cursor, Read};
use crate::session::{EndReason, Shared};
use crate::standstill::stood_still;
use crate::viewer::{LeaveReason, Record, ViewerGuard};

/// Between two looks at who is still there and what is still needed.
const SWEEP: Duration = Duration::from_secs(1);

/// Silence after which viewers are given what there is of the segment that is being filled, so that the playlist does
/// not stand still for longer than it must.
const SILENCE: Duration = Duration::from_secs(3);

/// Media that is held when all is well: what is listed, three target durations and one segment more, and what stays
/// fetchable behind that, a segment and as long a list.
const KEPT: Duration = Duration::from_secs(24 + 6 + 24);

/// How much faster than what was measured a stream may be at its fastest, as a fraction, before it has shown enough of itself. A
/// player is told the rate once, and promised that no segment is above it (RFC 8216 §4.3.4.2); a quarter too much costs
/// nobody anything.
const HEADROOM: (u64, u64) = (5, 4);
/// It has by then: three target durations.
const KNOWN_WELL: Duration = Duration::from_secs(18);

/// Playlists that one viewer may ask for in a second. Players ask once in a few seconds.
const PLAYLISTS_A_SECOND: u32 = 20;

/// One stream, cut. Owned by its task; the stream and the relay only know of it, because it holds the stream and, with
/// its viewers, the relay.
pub(crate) struct Packager {
    relay: Weak<Inner>,
    shared: Arc<Shared>,
    /// The number of its first segment, and that it is the first one of its stream: then somebody may know segments of
    /// another one, whose clock this one's does not continue.
    first: u64,
    begins_stream: bool,
    playlist: Mutex<Playlist>,
    /// The end of the stream, and an occasion to look at the playlist again.
    news: watch::Sender<Option<EndReason>>,
    viewers: Mutex<HashMap<Token, Fetcher>>,
    config: watch::Receiver<RelayConfig>,
}

/// One viewer.
struct Fetcher {
    guard: ViewerGuard,
    last_seen: Instant,
    /// Playlists asked for in the second that began then.
    asked: (Instant, u32),
}

/// The stream that is being cut.
struct Cutting {
    segmenter: Segmenter,
    fed: Instant,
}

impl Cutting {
    fn new(segmenter: Segmenter) -> Self {
        Self { segmenter, fed: Instant::now() }
    }

    fn push(&mut self, chunk: &Chunk, out: &mut Vec<Segment>) {
        if self.segmenter.push(chunk, out) {
            self.fed = Instant::now();
        }
    }

    fn pause_if_silent(&mut self) -> Option<Segment> {
        if self.fed.elapsed() < SILENCE { None } else { self.segmenter.pause() }
    }
}

impl Packager {
    /// Cuts this stream.
    ///
    /// Every stream begins behind a discontinuity, and with the number of the range that the channel's last stream ended with, the
    /// first one with 1: hls.js finds nothing to go on with in a playlist without a segment of the number that it knows.
    pub(crate) fn new(relay: &Arc<Inner>, shared: Arc<Shared>) -> Arc<Self> {
        let first = relay.hls.first_number(shared.ring.level().media);
        let was_cut = shared.was_cut.swap(true, Ordering::Relaxed);
        if !was_cut {
            let before = relay.hls.discontinuities_before(&shared.key());
            shared.discontinuities.store(before, Ordering::Relaxed);
        }
        let discontinuities = shared.discontinuities.load(Ordering::Relaxed);
        let limits = PlaylistLimits { discontinuities, ..PlaylistLimits::default() };
        Arc::new(Self {
            relay: Arc::downgrade(relay),
            shared,
            first,
            begins_stream: !was_cut,
            playlist: Mutex::new(Playlist::new(limits)),
            news: watch::Sender::new(None),
            viewers: Mutex::default(),
            config: relay.config_changes(),
        })
    }

    /// One more viewer. Called while the stream's place for its packager is locked, so that it does not end meanwhile.
    pub(crate) fn enter(&self, token: Token, guard: ViewerGuard) {
        guard.outlives_its_connection();
        let (now, record) = (Instant::now(), guard.record());
        self.viewers.lock().insert(token, Fetcher { guard, last_seen: now, asked: (now, 0) });
        // Whoever threw it out until now has looked for it here in vain.
        if record.is_kicked() {
            self.leaves(token, LeaveReason::Kicked);
        }
    }

    /// The viewer is there. Not if it is not, or if there is nothing here for it any more: it has to come again.
    pub(crate) fn asks(self: &Arc<Self>, token: Token) -> Option<Seated> {
        if self.over().is_some_and(|reason| !is_finished(&reason)) {
            self.leaves(token, LeaveReason::StreamOver);
            return None;
        }
        let mut viewers = self.viewers.lock();
        let fetcher = viewers.get_mut(&token)?;
        fetcher.last_seen = Instant::now();
        Some(Seated { packager: Arc::clone(self), record: fetcher.guard.record(), token })
    }

    /// The viewer wants to know what is new.
    pub(crate) fn asks_for_playlist(&self, token: Token) -> Result<(), HlsError> {
        let mut viewers = self.viewers.lock();
        let Some(fetcher) = viewers.get_mut(&token) else { return Ok(()) };
        let (began, count) = &mut fetcher.asked;
        if began.elapsed() >= Duration::from_secs(1) {
            (*began, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > PLAYLISTS_A_SECOND { Err(HlsError::TooOften) } else { Ok(()) }
    }

    fn over(&self) -> Option<EndReason> {
        self.news.borrow().clone()
    }

    /// What the stream is.
    pub(crate) fn format(&self) -> Arc<Format> {
        self.shared.format()
    }

    /// How fast the stream is at its fastest: by its segments, or by what has come if there is none after so long.
    pub(crate) async fn peak(&self, patience: Duration) -> Option<Bitrate> {
        let mut news = self.news.subscribe();
        let until = Instant::now() + patience;
        loop {
            news.mark_unchanged();
            if let Some(peak) = self.shown_peak() {
                return Some(peak);
            }
            if !matches!(timeout_at(until, news.changed()).await, Ok(Ok(()))) {
                return self.shared.rate().map(with_headroom);
            }
        }
    }

    fn shown_peak(&self) -> Option<Bitrate> {
        let playlist = self.playlist.lock();
        let peak = Bitrate::new(playlist.peak()?);
        Some(if playlist.known() < KNOWN_WELL { with_headroom(peak) } else { peak })
    }

    /// So many bytes go to the viewer.
    pub(crate) fn gets(&self, token: Token, bytes: usize) {
        if let Some(viewer) = self.viewers.lock().get(&token) {
            viewer.guard.sent(bytes);
        }
    }

    /// The playlist as it is, as soon as it has a segment.
    pub(crate) async fn playlist(
        &self,
        viewer: &Record,
        until: Instant,
        uri: impl Fn(u64) -> String,
    ) -> Result<String, HlsError> {
        self.wait_for(viewer, until, |playlist| (playlist.listed().len() > 0).then(|| playlist.text(&uri)))
            .await?
            .ok_or(HlsError::NotReady)
    }

    /// A segment that is there, or the next one.
    pub(crate) async fn segment(
        &self,
        viewer: &Record,
        until: Instant,
        number: u64,
    ) -> Result<Segment, HlsError> {
        let found = self.wait_for(viewer, until, |playlist| match playlist.segment(number) {
            Ok(segment) => Some(Ok(segment.clone())),
            Err(Missing::NotYet) if playlist.segment(number.saturating_sub(1)).is_ok() => None,
            Err(_) => Some(Err(HlsError::Gone)),
        });
        found.await?.unwrap_or(Err(HlsError::Gone))
    }

    /// Looks at the playlist until it has an answer, or until then. A stream that broke has no playlist any more; one that is
    /// finished keeps its own. A viewer that is thrown out meanwhile gets none either.
    async fn wait_for<T>(
        &self,
        viewer: &Record,
        until: Instant,
        look: impl Fn(&Playlist) -> Option<T>,
    ) -> Result<Option<T>, HlsError> {
        let mut news = self.news.subscribe();
        loop {
            let end = news.borrow_and_update().clone();
            if let Some(reason) = end.filter(|reason| !is_finished(reason)) {
                return Err(HlsError::Over(reason));
            }
            if viewer.is_kicked() {
                return Err(HlsError::ThrownOut);
            }
            if let Some(answer) = look(&self.playlist.lock()) {
                return Ok(Some(answer));
            }
            if timeout_at(until, news.changed()).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Runs until nobody has asked for anything for a while. What the ring holds already is cut first.
    pub(crate) async fn run(self: Arc<Self>, lease: Lease) {
        let Some(stop) = self.relay.upgrade().map(|relay| relay.stop.clone()) else { return };
        let mut cursor = self.shared.ring.reread();
        let mut cutting = Some(Cutting::new(self.segmenter()));
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let _ended = self.sweep();
                    return;
                }
                at = sweep.tick() => {
                    if let Some(late) = stood_still(at) {
                        self.excuse(late);
                    }
                    self.release(&mut cutting);
                    self.shed(&lease);
                    if self.sweep().is_break() {
                        return;
                    }
                }
                read = next(&mut cursor), if cutting.is_some() => self.take(read, &mut cutting),
            }
        }
    }

    fn segmenter(&self) -> Segmenter {
        let limits = SegmentLimits::default();
        if self.begins_stream {
            Segmenter::after_others(limits, self.first)
        } else {
            Segmenter::numbered_from(limits, self.first)
        }
    }

    fn take(&self, read: Read, cutting: &mut Option<Cutting>) {
        let mut segments = Vec::new();
        let mut end = None;
        match (read, cutting.as_mut()) {
            (Read::Chunk(chunk), Some(cutting)) => cutting.push(&chunk, &mut segments),
            (Read::Lagged { .. }, Some(cutting)) => cutting.segmenter.lagged(&mut segments),
            (Read::End(reason), _) => {
                segments.extend(cutting.take().and_then(|cutting| cutting.segmenter.finish()));
                end = Some(reason);
            }
            (_, None) => {}
        }
        self.list(segments, end);
    }

    fn release(&self, cutting: &mut Option<Cutting>) {
        let segment = cutting.as_mut().and_then(Cutting::pause_if_silent);
        self.list(segment.into_iter().collect(), None);
    }

    fn list(&self, segments: Vec<Segment>, end: Option<EndReason>) {
        if segments.is_empty() && end.is_none() {
            return;
        }
        let now = self.shared.opened.elapsed();
        {
            let mut playlist = self.playlist.lock();
            for segment in segments {
                self.note(&segment);
                playlist.push(segment, now);
            }
            if end.as_ref().is_some_and(is_finished) {
                playlist.end();
            }
        }
        self.news.send_modify(|news| *news = end.or(news.take()));
    }

    /// What those that are cut later have to know of it.
    fn note(&self, segment: &Segment) {
        let news = u64::from(segment.discontinuity);
        let range = self.shared.discontinuities.fetch_add(news, Ordering::Relaxed) + news;
        let Some(relay) = self.relay.upgrade() else { return };
        relay.hls.listed(segment.number);
        if segment.discontinuity {
            relay.hls.reached(self.shared.key(), range);
        }
    }

    /// Viewers could not ask while this program stood still.
    fn excuse(&self, late: Duration) {
        self.viewers.lock().values_mut().for_each(|fetcher| fetcher.last_seen += late);
    }

    /// Three target durations are promised to players at any rate, so the share that is asked for grows with it.
    fn shed(&self, lease: &Lease) {
        if let Some(rate) = self.shared.rate() {
            lease.asks_for(rate.bytes_in(KEPT));
        }
        let mut playlist = self.playlist.lock();
        playlist.expire(self.shared.opened.elapsed());
        playlist.shed(lease.share());
    }

    /// Lets those go who have not asked for a while. Breaks when nobody is left: then the next viewer's packager is a new
    /// one.
    fn sweep(self: &Arc<Self>) -> ControlFlow<()> {
        let stopping = self.relay.upgrade().is_none_or(|relay| relay.stop.is_cancelled());
        let gone: Vec<Token> = {
            let idle = self.config.borrow().hls.idle;
            let viewers = self.viewers.lock();
            let is_gone = |fetcher: &Fetcher| stopping || fetcher.last_seen.elapsed() >= idle;
            viewers.iter().filter(|(_, fetcher)| is_gone(fetcher)).map(|(token, _)| *token).collect()
        };
        for token in gone {
            self.leaves(token, LeaveReason::Left);
        }
        let mut running = self.shared.hls.lock();
        if !self.viewers.lock().is_empty() {
            return ControlFlow::Continue(());
        }
        if running.ptr_eq(&Arc::downgrade(self)) {
            *running = Weak::new();
        }
        ControlFlow::Break(())
    }

    /// Lets those go whom an operator throws out, also while they wait for an answer.
    pub(crate) fn expel_kicked(&self) {
        let kicked: Vec<Token> = {
            let viewers = self.viewers.lock();
            let kicked = viewers.iter().filter(|(_, fetcher)| fetcher.guard.is_kicked());
            kicked.map(|(token, _)| *token).collect()
        };
        for token in &kicked {
            self.leaves(*token, LeaveReason::Kicked);
        }
        if !kicked.is_empty() {
            self.news.send_modify(|_| {});
        }
    }

    fn leaves(&self, token: Token, reason: LeaveReason) {
        if let Some(relay) = self.relay.upgrade() {
            if reason == LeaveReason::Kicked {
                relay.hls.bar(token);
            }
            relay.hls.leave(token, self);
        }
        let fetcher = self.viewers.lock().remove(&token);
        if let Some(fetcher) = fetcher {
            fetcher.guard.leaves(reason);
        }
    }
}

impl Drop for Packager {
    /// The names of those who are still there, if its task has ended by a panic.
    fn drop(&mut self) {
        if let Some(relay) = self.relay.upgrade() {
            let packager: *const Self = self;
            self.viewers.get_mut().keys().for_each(|token| relay.hls.leave(*token, packager));
        }
    }
}

/// Whether nothing follows. A stream that an operator has ended stays ended, and a recording is over at its end; all others
/// are to go on, so their players must not be told to stop.
fn is_finished(reason: &EndReason) -> bool {
    matches!(reason, EndReason::Stopped | EndReason::UpstreamEnded)
}

fn with_headroom(rate: Bitrate) -> Bitrate {
    let (times, per) = HEADROOM;
    Bitrate::new(rate.get().saturating_mul(times) / per)
}

async fn next(cursor: &mut Cursor) -> Read {
    poll_fn(|context| cursor.poll_next(context)).await
}
