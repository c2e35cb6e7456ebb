//! A player that fetches pieces: it keeps to the rules of RFC 8216 and notices when the server does not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use acemux_sim::verify::{Report, Verifier};
use acemux_sim::{ContentHash, infohash_of};
use tokio::time::{Instant, sleep};

use crate::hls_rules::Rules;
use crate::http::get;

/// Between two looks at the playlist.
const POLL: Duration = Duration::from_millis(700);

/// Watches one verifiable channel by its manifest.
pub struct HlsViewer {
    address: SocketAddr,
    folder: String,
    attributes: String,
    status: u16,
    rules: Rules,
    broken: Vec<String>,
    fetched: BTreeSet<u64>,
    verifier: Verifier,
    began: Instant,
    last_segment: Instant,
    longest_gap: Duration,
    ended: bool,
}

impl HlsViewer {
    /// Opens the channel of this content id.
    pub async fn open(address: SocketAddr, content_id: &str) -> Self {
        Self::try_open(address, content_id).await.expect("the channel plays")
    }

    /// The same, or the status of the refusal.
    pub async fn try_open(address: SocketAddr, content_id: &str) -> Result<Self, u16> {
        Self::try_open_below(address, "", content_id).await
    }

    /// The same where a reverse proxy has put the service under a path, such as `/tv`.
    pub async fn try_open_below(address: SocketAddr, path: &str, content_id: &str) -> Result<Self, u16> {
        let mut reply = get(address, &format!("{path}/ace/manifest.m3u8?id={content_id}")).await;
        let text = String::from_utf8(reply.body().await.0).expect("a manifest is text");
        if reply.status != 200 {
            return Err(reply.status);
        }
        assert_eq!(reply.header("content-type"), Some("application/vnd.apple.mpegurl"));
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let playlist = text.lines().find(|line| !line.starts_with('#')).expect("it names a playlist");
        let folder = playlist.strip_suffix("index.m3u8").expect("by its usual name");
        let attributes = text.lines().find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:"));
        let infohash = ContentHash::parse(&infohash_of(content_id)).expect("an infohash is 40 digits");
        let now = Instant::now();
        Ok(Self {
            address,
            folder: format!("{path}/ace/{folder}"),
            attributes: attributes.expect("it says what the stream is").to_owned(),
            status: 200,
            rules: Rules::default(),
            broken: Vec::new(),
            fetched: BTreeSet::new(),
            verifier: Verifier::new(infohash),
            began: now,
            last_segment: now,
            longest_gap: Duration::ZERO,
            ended: false,
        })
    }

    /// The same viewer at another run of the same service.
    pub fn moves_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// What the manifest says of the stream.
    pub fn attributes(&self) -> &str {
        &self.attributes
    }

    /// Answer to its last playlist.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Number of the newest segment it got.
    pub fn newest(&self) -> u64 {
        self.fetched.last().copied().expect("it got some")
    }

    /// It is away and does not look: what is old then is no fault of the server's.
    pub async fn pause(&mut self, time: Duration) {
        sleep(time).await;
        self.rules = Rules::default();
    }

    /// The address of its playlist, or of anything beside it.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// Fetches whatever is new for this long, or until the playlist says that nothing follows.
    pub async fn watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.ended {
            self.look().await;
            sleep(POLL).await;
        }
    }

    /// The same, until the stream is over at the latest.
    pub async fn try_watch(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.ended && self.try_look().await {
            sleep(POLL).await;
        }
    }

    /// Looks at the playlist once and fetches what is new in it.
    pub async fn look(&mut self) {
        assert!(self.try_look().await, "there is a playlist");
    }

    /// The same; false when there is none any more.
    pub async fn try_look(&mut self) -> bool {
        let mut reply = get(self.address, &self.path("index.m3u8")).await;
        let text = String::from_utf8(reply.body().await.0).expect("a playlist is text");
        self.status = reply.status;
        if reply.status != 200 {
            println!("a playlist is answered {}: {text}", reply.status);
            return false;
        }
        if self.begins_anew(&text) {
            (self.rules, self.began) = (Rules::default(), Instant::now());
        }
        let broken = self.rules.check(&text, self.began.elapsed());
        self.broken.extend(broken.iter().map(|broken| format!("{broken:?}")));
        self.ended = text.contains("#EXT-X-ENDLIST");
        let mut is_announced = false;
        for line in text.lines() {
            is_announced |= line == "#EXT-X-DISCONTINUITY";
            if line.starts_with('#') {
                continue;
            }
            if !self.fetch_new(line, std::mem::take(&mut is_announced)).await {
                return false;
            }
        }
        true
    }

    /// Whether its stream had ended, and what is under the same address now is another one: nothing of what it has is listed
    /// any more, and what is begins behind a discontinuity.
    fn begins_anew(&self, playlist: &str) -> bool {
        let Some((before, _)) = playlist.split_once(".ts") else { return false };
        let first = before.lines().last().and_then(|digits| digits.parse().ok());
        let is_later = first > self.fetched.last().copied() && !self.fetched.is_empty();
        is_later && before.contains("#EXT-X-DISCONTINUITY\n")
    }

    /// Fetches the segment if it is new. One that is not next to the last one is a hole of the viewer's own making.
    async fn fetch_new(&mut self, name: &str, is_announced: bool) -> bool {
        let number: u64 =
            name.strip_suffix(".ts").and_then(|digits| digits.parse().ok()).expect("<number>.ts");
        let follows = self.fetched.last().is_none_or(|last| number == last + 1);
        if !self.fetched.insert(number) {
            return true;
        }
        if is_announced || !follows {
            self.verifier.announce();
        }
        self.fetch(name).await
    }

    /// False when the stream has ended meanwhile.
    async fn fetch(&mut self, name: &str) -> bool {
        let mut reply = get(self.address, &self.path(name)).await;
        if reply.status != 200 {
            return false;
        }
        assert_eq!(reply.header("content-type"), Some("video/mp2t"), "{name}");
        let length: usize =
            reply.header("content-length").and_then(|n| n.parse().ok()).expect("a known length");
        let bytes = reply.body().await.0;
        assert_eq!(bytes.len(), length);
        self.verifier.feed(&bytes);
        self.longest_gap = self.longest_gap.max(self.last_segment.elapsed());
        self.last_segment = Instant::now();
        true
    }

    /// What it got so far.
    pub fn report(&self) -> &Report {
        self.verifier.report()
    }

    /// Segments it got.
    pub fn segments(&self) -> usize {
        self.fetched.len()
    }

    /// The longest time from one new segment to the next. One that still lasts counts.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap.max(self.last_segment.elapsed())
    }

    /// Every rule that the playlists broke so far, in words.
    pub fn broken_rules(&self) -> &[String] {
        &self.broken
    }
}
