//! Empty packets through a gap: a player that gets nothing at all for ten seconds or so gives up and reconnects.

use std::time::Duration;

use acemux_media::ts::packet::PACKET_LEN;
use acemux_media::ts::splice::null_packet;
use bytes::Bytes;
use tokio::time::Instant;

/// Silence before the first one, so that a stutter of the swarm adds nothing to the stream.
const AFTER: Duration = Duration::from_secs(3);
/// Between two of them.
const EVERY: Duration = Duration::from_secs(1);
/// Packets at a time: what fits into one Ethernet frame.
const PACKETS: usize = 7;

/// When they are due.
#[derive(Debug)]
pub(crate) struct Stuffing {
    last_media: Instant,
    /// Media time that viewers have reached.
    reached: Duration,
    last: Instant,
    bytes: Bytes,
}

impl Stuffing {
    pub(crate) fn new(now: Instant) -> Self {
        let bytes = Bytes::from(null_packet().repeat(PACKETS));
        debug_assert_eq!(bytes.len(), PACKETS * PACKET_LEN);
        Self { last_media: now, reached: Duration::ZERO, last: now, bytes }
    }

    /// Viewers have got media.
    pub(crate) fn media(&mut self, now: Instant) {
        self.last_media = now;
    }

    /// Viewers have got everything up to this media time. A clock that stands still brings them nothing.
    pub(crate) fn reached(&mut self, media: Duration, now: Instant) {
        if media > self.reached {
            (self.reached, self.last_media) = (media, now);
        }
    }

    pub(crate) fn last_media(&self) -> Instant {
        self.last_media
    }

    /// When the next ones are due if nothing comes.
    pub(crate) fn due_at(&self) -> Instant {
        (self.last_media + AFTER).max(self.last + EVERY)
    }

    /// The packets, if they are due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Bytes> {
        (self.due_at() <= now).then(|| {
            self.last = now;
            self.bytes.clone()
        })
    }
}
