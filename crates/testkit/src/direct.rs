//! A player without us between: it asks the engine itself. So it tells how long the engine takes on its own, and it is
//! another program on our engine.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::app::within;
use crate::http::{BodyEnd, Reply, get, try_send};

/// Longest wait for an engine that is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the start call to the first byte of media of this content on an engine that is well. Its session is stopped
/// afterwards.
pub async fn own_time(engine: SocketAddr, content_id: &str) -> Duration {
    let player = DirectPlayer::start(engine, content_id).await.expect("the engine is well");
    let took = player.first_byte;
    player.stop().await;
    took
}

/// A content that plays on an engine. Dropping it leaves the session to the engine.
pub struct DirectPlayer {
    engine: SocketAddr,
    first_byte: Duration,
    media: Reply,
    stop: String,
}

impl DirectPlayer {
    /// Starts the content and waits for its first byte; `None` when somebody ends it before.
    pub async fn start(engine: SocketAddr, content_id: &str) -> Option<Self> {
        within(PATIENCE, "the engine's own start", Self::begin(engine, content_id)).await
    }

    async fn begin(engine: SocketAddr, content_id: &str) -> Option<Self> {
        let asked = Instant::now();
        let call = format!("/ace/getstream?id={content_id}&format=json&pid=direct");
        let opened = get(engine, &call).await.json().await["response"].clone();
        let played = path(opened["playback_url"].as_str()?);
        // The closed engine redirects to the media.
        let mut media = ask(engine, &played).await?;
        if let Some(there) = media.header("location").map(path) {
            media = ask(engine, &there).await?;
        }
        media.next().await.ok().filter(|_| media.status == 200)?;
        let stop = format!("{}?method=stop", path(opened["command_url"].as_str()?));
        Some(Self { engine, first_byte: asked.elapsed(), media, stop })
    }

    /// Watches for so long; how the media ended if it did.
    pub async fn watch(&mut self, time: Duration) -> Option<BodyEnd> {
        let until = Instant::now() + time;
        loop {
            match timeout_at(until, self.media.next()).await {
                Err(_still_plays) => return None,
                Ok(Err(end)) => return Some(end),
                Ok(Ok(_bytes)) => {}
            }
        }
    }

    /// Leaves and tells the engine so.
    pub async fn stop(self) {
        drop(self.media);
        assert_eq!(get(self.engine, &self.stop).await.status, 200);
    }
}

async fn ask(engine: SocketAddr, path: &str) -> Option<Reply> {
    try_send(engine, &format!("GET {path} HTTP/1.1\r\nHost: {engine}\r\n\r\n")).await.ok()
}

/// The path of a URL that an engine has given.
fn path(url: &str) -> String {
    format!("/{}", url.splitn(4, '/').nth(3).expect("it has a path"))
}
