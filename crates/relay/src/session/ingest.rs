//! Upstream bytes into chunks, at the pace of the media.
//!
//! Engines open with a burst of 8–40 MB at link speed. Taking all of it would push the burst's head out of the ring
//! before anybody has read it, so ingest stays at most ten seconds or two join bursts of media ahead of wall time, and
//! at most half the ring; the rest waits in the socket.

use std::sync::Arc;
use std::time::Duration;

use acemux_media::chunk::{Awaited, Chunk, ChunkLimits, Chunker, Condition, Verdict};
use acemux_media::clock::Bitrate;
use acemux_media::format::Format;
use tokio::time::Instant;

use crate::rounds::LONGEST;

/// Head start of the media over wall time when `JOIN_BURST` is short: two key frames of most channels fit into it.
const LEAST_LEAD: Duration = Duration::from_secs(10);

/// Wall time is taken as 1 % faster than it is, so that a broadcaster's clock that runs fast (50–100 ppm are usual)
/// never fills the socket of a stream that plays for days.
const DRIFT: f64 = 1.01;

/// Turns bytes into chunks and tells when more may be read.
pub struct Ingest {
    chunker: Chunker,
    lead: Duration,
    began: Instant,
    anchor: Option<Anchor>,
    /// Bytes taken since the anchor.
    taken: u64,
    sealed: Vec<Chunk>,
}

/// A moment at which media time and wall time were compared.
#[derive(Clone, Copy)]
struct Anchor {
    wall: Instant,
    media: Duration,
}

impl Ingest {
    /// Chunks of at most `chunk_bytes`, for joiners who start `join_burst` behind live, into a ring of `ring_media`.
    ///
    /// The lead is never more than half the ring: the other half is what a viewer has who reads no faster than the
    /// media plays.
    pub fn new(chunk_bytes: usize, join_burst: Duration, ring_media: Duration, now: Instant) -> Self {
        let chunker = Chunker::new(ChunkLimits { max_bytes: chunk_bytes, max_hold: LONGEST });
        let lead = (join_burst * 2).max(LEAST_LEAD).min(ring_media / 2);
        Self { chunker, lead, began: now, anchor: None, taken: 0, sealed: Vec::new() }
    }

    /// Takes bytes as they came; gives the chunks that are complete.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> std::vec::Drain<'_, Chunk> {
        self.chunker.push(bytes, now - self.began, &mut self.sealed);
        self.taken += bytes.len() as u64;
        self.anchor_at(now);
        self.sealed.drain(..)
    }

    /// Gives what is pending.
    pub fn seal(&mut self, now: Instant) -> std::vec::Drain<'_, Chunk> {
        self.chunker.seal(now - self.began, &mut self.sealed);
        self.anchor_at(now);
        self.sealed.drain(..)
    }

    /// When what is pending must go out, whatever its round does.
    pub fn seal_at(&self) -> Option<Instant> {
        self.chunker.seal_at().map(|since| self.began + since)
    }

    /// Until when nothing more should be read, if the media is too far ahead for a ring of `ring_bytes`.
    pub fn resume_at(&self, now: Instant, ring_bytes: usize) -> Option<Instant> {
        let anchor = self.anchor?;
        let played = now.saturating_duration_since(anchor.wall).mul_f64(DRIFT);
        let taken = self.chunker.media_time().saturating_sub(anchor.media);
        let lead = self.lead.min(self.time_of(ring_bytes / 2, taken));
        let excess = taken.saturating_sub(played).checked_sub(lead)?;
        (!excess.is_zero()).then(|| now + excess)
    }

    /// How long so many bytes play, at the rate of what was taken since the anchor.
    fn time_of(&self, bytes: usize, taken: Duration) -> Duration {
        let nanoseconds = taken.as_nanos() * bytes as u128 / u128::from(self.taken.max(1));
        u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// The upstream has stopped: what is whole goes out. Either its exact continuation follows, or another upstream.
    pub fn interrupt(&mut self, now: Instant) -> std::vec::Drain<'_, Chunk> {
        self.chunker.interrupt(now - self.began, &mut self.sealed);
        self.sealed.drain(..)
    }

    /// The exact continuation of what was last published follows, whatever came to nothing in between. False when
    /// nothing was ever published.
    pub fn resume(&mut self) -> bool {
        self.chunker.resume()
    }

    /// Media time since the stream began.
    pub fn media_time(&self) -> Duration {
        self.chunker.media_time()
    }

    /// Media time when the last picture or sound came.
    pub fn shown_until(&self) -> Duration {
        self.chunker.shown_until()
    }

    /// Another upstream follows: what is half done of the old one is dropped.
    pub fn restart(&mut self) {
        self.chunker.restart();
        self.anchor = None;
        self.taken = 0;
    }

    /// Whether the bytes are a transport stream at all.
    pub fn verdict(&self) -> Verdict {
        self.chunker.verdict()
    }

    /// By the stream's own clock.
    pub fn bitrate(&self) -> Option<Bitrate> {
        self.chunker.bitrate()
    }

    /// How the stream is.
    pub fn condition(&self) -> Condition {
        self.chunker.condition()
    }

    /// What is waited for, as long as nothing can be played.
    pub fn awaited(&self) -> Awaited {
        self.chunker.awaited()
    }

    /// What the stream is, as far as it has shown it.
    pub fn format(&self) -> &Arc<Format> {
        self.chunker.format()
    }

    fn anchor_at(&mut self, now: Instant) {
        if self.anchor.is_none()
            && let Some(first) = self.sealed.first()
        {
            self.anchor = Some(Anchor { wall: now, media: first.media });
            self.taken = self.sealed.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        }
    }
}
