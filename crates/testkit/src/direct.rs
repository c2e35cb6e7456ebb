//! A player without us between: it asks the engine itself, and so tells how long the engine takes on its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::within;
use crate::http::get;

/// Longest wait for an engine that is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// From the start call to the first byte of media of this content on an engine that is well. Its session is stopped
/// afterwards.
pub async fn own_time(engine: SocketAddr, content_id: &str) -> Duration {
    within(PATIENCE, "the engine's own start", start(engine, content_id)).await
}

async fn start(engine: SocketAddr, content_id: &str) -> Duration {
    let asked = Instant::now();
    let call = format!("/ace/getstream?id={content_id}&format=json&pid=direct");
    let opened = get(engine, &call).await.json().await["response"].clone();
    let redirect = get(engine, &path(opened["playback_url"].as_str())).await;
    let mut media = get(engine, &path(redirect.header("location"))).await;
    assert!(media.status == 200 && media.next().await.is_ok(), "{}", media.status);
    let took = asked.elapsed();
    drop(media);
    let stop = format!("{}?method=stop", path(opened["command_url"].as_str()));
    assert_eq!(get(engine, &stop).await.status, 200);
    took
}

/// The path of a URL that an engine has given.
fn path(url: Option<&str>) -> String {
    let url = url.expect("the engine gives a URL");
    format!("/{}", url.splitn(4, '/').nth(3).expect("it has a path"))
}
