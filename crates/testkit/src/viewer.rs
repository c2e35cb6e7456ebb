//! A viewer that forgives nothing: every packet is checked against the channel that was asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{ContentHash, infohash_of};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::http::{BodyEnd, Reply, get, get_from, get_narrowly};

/// PID of the table with the names of programmes (EN 300 468).
const SERVICE_DESCRIPTION: u16 = 0x11;

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

    /// Opens the channel from another address of this machine, as another household.
    pub async fn open_from(local: Ipv4Addr, address: SocketAddr, content_id: &str) -> Self {
        let asked = Instant::now();
        let reply = get_from(local, address, &format!("/ace/getstream?id={content_id}")).await;
        Self::of_reply(reply, asked, content_id).await
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

    /// Watches the body of a reply that was asked for at that moment.
    pub async fn of_reply(reply: Reply, asked: Instant, content_id: &str) -> Self {
        Self::of(reply, asked, "a stream", content_id).await
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

    /// The engine puts the channel's title into the stream: those packets are not checked.
    pub fn expect_titles(&mut self) {
        self.verifier.pass(SERVICE_DESCRIPTION);
    }

    /// Watches for this long; tells how the body ended if it did.
    pub async fn watch(&mut self, time: Duration) -> Option<BodyEnd> {
        let until = self.look_again() + time;
        loop {
            match timeout_at(until, self.reply.next()).await {
                Err(_) => {
                    // A silence that still lasts counts as well.
                    self.longest_silence = self.longest_silence.max(self.last_byte.elapsed());
                    return None;
                }
                Ok(Err(end)) => return Some(end),
                Ok(Ok(bytes)) => self.take(&bytes),
            }
        }
    }

    /// Watches for this long and takes at most so many bytes a second; tells how the body ended if it did.
    pub async fn watch_slowly(&mut self, bytes_per_second: u64, time: Duration) -> Option<BodyEnd> {
        let (began, before) = (self.look_again(), self.report().bytes);
        let mut due = began;
        while due < began + time {
            match timeout_at(began + time, self.reply.next()).await {
                Err(_) => {
                    self.longest_silence = self.longest_silence.max(self.last_byte.elapsed());
                    return None;
                }
                Ok(Err(end)) => return Some(end),
                Ok(Ok(bytes)) => self.take(&bytes),
            }
            let taken = self.report().bytes - before;
            due = began + Duration::from_millis(taken * 1000 / bytes_per_second.max(1));
            sleep_until(due.min(began + time)).await;
        }
        None
    }

    /// Watches until so many bytes have come.
    pub async fn watch_bytes(&mut self, bytes: u64) {
        while self.report().bytes < bytes {
            let got = self.reply.next().await.expect("a live stream does not end");
            self.take(&got);
        }
    }

    /// The connection, for what viewers do besides reading.
    pub fn connection(&mut self) -> &mut Reply {
        &mut self.reply
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        self.reply.reset();
    }

    /// What it got so far.
    pub fn report(&self) -> &Report {
        self.verifier.report()
    }

    /// From the request to the reply's head, which comes with the first byte.
    pub fn first_byte(&self) -> Duration {
        self.first_byte
    }

    /// The longest time without a byte while it was watched.
    pub fn longest_silence(&self) -> Duration {
        self.longest_silence
    }

    /// The longest time without a packet of the channel: stuffing does not count. One that still lasts does.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap.max(self.last_media.elapsed())
    }

    /// How long ago the last packet of the channel came.
    pub fn since_media(&self) -> Duration {
        self.last_media.elapsed()
    }

    /// Fails unless every jump in it was announced on whole packets, and nothing was foreign or damaged.
    #[track_caller]
    pub fn assert_only_announced_jumps(&self) {
        let report = self.report();
        let unannounced = (report.gaps_unflagged, report.continuity_errors, report.unaligned);
        assert_eq!(unannounced, (0, 0, 0), "{report:#?}");
        assert_eq!((report.foreign, report.corrupt), (0, 0), "{report:#?}");
        assert!(report.media > 0 && report.starts_clean, "{report:#?}");
    }

    /// Fails unless it began aligned and not one packet was lost, repeated, foreign or damaged.
    #[track_caller]
    pub fn assert_perfect(&self) {
        let report = self.report();
        assert!(report.media > 0, "no media: {report:?}");
        assert!(report.is_clean() && report.starts_clean, "{report:#?}");
    }

    /// What came while the test did something else waits in the socket: that is no silence.
    fn look_again(&mut self) -> Instant {
        self.last_byte = Instant::now();
        self.last_byte
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
