//! A viewer that forgives nothing: every packet is checked against the channel that was asked for.

use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{ContentHash, infohash_of};
use tokio::time::{Instant, timeout_at};

use crate::http::{BodyEnd, Reply, get, get_narrowly};

/// Watches one verifiable channel.
pub struct StrictViewer {
    reply: Reply,
    verifier: Verifier,
    first_byte: Duration,
    last_byte: Instant,
    longest_silence: Duration,
    last_media: Instant,
    longest_gap: Duration,
}

impl StrictViewer {
    /// Opens the channel of this content id.
    pub async fn open(address: SocketAddr, content_id: &str) -> Self {
        Self::open_path(address, &format!("/ace/getstream?id={content_id}"), content_id).await
    }

    /// Opens the channel by any URL that means this content id.
    pub async fn open_path(address: SocketAddr, path: &str, content_id: &str) -> Self {
        let asked = Instant::now();
        Self::of(get(address, path).await, asked, path, content_id).await
    }

    /// Opens the channel over a connection that takes in little.
    pub async fn open_narrowly(address: SocketAddr, content_id: &str) -> Self {
        let asked = Instant::now();
        let path = format!("/ace/getstream?id={content_id}");
        Self::of(get_narrowly(address, &path).await, asked, &path, content_id).await
    }

    async fn of(mut reply: Reply, asked: Instant, path: &str, content_id: &str) -> Self {
        if reply.status != 200 {
            let body = reply.body().await.0;
            panic!("{path}: {} {}", reply.status, String::from_utf8_lossy(&body));
        }
        let infohash = ContentHash::parse(&infohash_of(content_id)).expect("an infohash is 40 digits");
        let (first_byte, last_byte) = (asked.elapsed(), Instant::now());
        Self {
            reply,
            verifier: Verifier::new(infohash),
            first_byte,
            last_byte,
            longest_silence: Duration::ZERO,
            last_media: last_byte,
            longest_gap: Duration::ZERO,
        }
    }

    /// Watches for this long; tells how the body ended if it did.
    pub async fn watch(&mut self, time: Duration) -> Option<BodyEnd> {
        let until = Instant::now() + time;
        loop {
            match timeout_at(until, self.reply.next()).await {
                Err(_) => return None,
                Ok(Err(end)) => return Some(end),
                Ok(Ok(bytes)) => self.take(&bytes),
            }
        }
    }

    /// Watches until so many bytes have come.
    pub async fn watch_bytes(&mut self, bytes: u64) {
        while self.report().bytes < bytes {
            let got = self.reply.next().await.expect("a live stream does not end");
            self.take(&got);
        }
    }

    /// What it got so far.
    pub fn report(&self) -> &Report {
        self.verifier.report()
    }

    /// From the request to the reply's head, which comes with the first byte.
    pub fn first_byte(&self) -> Duration {
        self.first_byte
    }

    /// The longest time without a byte.
    pub fn longest_silence(&self) -> Duration {
        self.longest_silence
    }

    /// The longest time without a packet of the channel: stuffing does not count. One that still lasts does.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap.max(self.last_media.elapsed())
    }

    /// Fails unless it began aligned and not one packet was lost, repeated, foreign or damaged.
    #[track_caller]
    pub fn assert_perfect(&self) {
        let report = self.report();
        assert!(report.media > 0, "no media: {report:?}");
        assert!(report.is_clean() && report.starts_clean, "{report:#?}");
    }

    fn take(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        self.longest_silence = self.longest_silence.max(now - self.last_byte);
        self.last_byte = now;
        let before = self.report().media;
        self.verifier.feed(bytes);
        if self.report().media > before {
            self.longest_gap = self.longest_gap.max(now - self.last_media);
            self.last_media = now;
        }
    }
}
