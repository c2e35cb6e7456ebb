//! Which page answers which path, and how a JSON page answers in the wrong shape. The pages here are the closed engine's;
//! the open one's are in `outpace`.

mod media;
mod outpace;
mod recording;
mod service;
mod start;
mod stat;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::core::Core;
use crate::fault::{Faults, Page, Shape};
use crate::identity::ContentHash;
use crate::json;
use crate::options::Dialect;
use crate::wire::{Connection, Ending, Reply, Request};

/// What a player wants to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `/ace/getstream`: one endless body.
    Progressive,
    /// `/ace/manifest.m3u8`: a playlist.
    Hls,
}

/// Answers one request of the engine port.
pub(crate) async fn answer(core: &Core, connection: &mut Connection, request: &Request) -> Ending {
    if core.options.dialect == Dialect::Outpace {
        return outpace::answer(core, connection, request).await;
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD" | "POST") {
        return connection.send(request, Reply::html(501)).await;
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["ace", "getstream"] => start::start(core, connection, request, Format::Progressive).await,
        ["ace" | "hls", "manifest.m3u8"] => start::start(core, connection, request, Format::Hls).await,
        ["ace", "r", infohash, token] => media::playback(core, connection, request, infohash, token).await,
        ["content", infohash, key] => media::content(core, connection, request, infohash, key).await,
        ["ace", "m", infohash, file] => media::playlist(core, connection, request, infohash, file).await,
        ["ace", "stat", infohash, token] => stat::stat(core, connection, request, infohash, token).await,
        ["ace", "cmd", infohash, token] => stat::command(core, connection, request, infohash, token).await,
        ["webui", "api", "service"] => service::webui(core, connection, request).await,
        ["server", "api"] => service::server(core, connection, request).await,
        _ => connection.send(request, Reply::html(404)).await,
    }
}

/// The infohash in a path.
fn path_infohash(segment: &str) -> Option<ContentHash> {
    ContentHash::parse(segment).map(ContentHash::infohash)
}

/// `{"response": null, "error": …}`: how a player's pages refuse, with status 200.
fn refusal(error: &str) -> Value {
    json!({ "response": null, "error": error })
}

/// Answers with `value`, or as the faults of `page` want it.
async fn respond(
    connection: &mut Connection,
    request: &Request,
    faults: &Faults,
    page: Page,
    value: Value,
) -> Ending {
    match obstruct(connection, request, faults, page).await {
        Some(ending) => ending,
        None => connection.send(request, shaped(connection, &value, faults, page)).await,
    }
}

/// Delays and refusals of `page`, which come before any proper answer; `None` when an answer may follow.
async fn obstruct(
    connection: &mut Connection,
    request: &Request,
    faults: &Faults,
    page: Page,
) -> Option<Ending> {
    for shape in faults.shapes(page) {
        match shape {
            // Whether the client still waits is not noticed, as in a server with one thread per request.
            Shape::Slow { ms } => sleep(Duration::from_millis(ms)).await,
            Shape::Hang => return Some(connection.hang().await),
            Shape::Close => return Some(Ending::Close),
            Shape::Reset => return Some(Ending::Reset),
            Shape::Status { status } => return Some(connection.send(request, refused_page(status)).await),
            Shape::Html => return Some(connection.send(request, Reply::html(200)).await),
            _ => {}
        }
    }
    None
}

fn refused_page(status: u16) -> Reply {
    Reply::text(status, "Internal Server Error, couldn't find resource")
}

/// `value` as a reply, in the shape that the faults of `page` give it.
fn shaped(connection: &Connection, value: &Value, faults: &Faults, page: Page) -> Reply {
    let spacing = connection.manners().json;
    let proper = |value: &Value| Reply::json(value, spacing);
    let reshaped = faults.shapes(page).find_map(|shape| match shape {
        Shape::BadJson => Some(Reply::new(200, "application/json", "{'response': None,")),
        Shape::Empty => Some(Reply::new(200, "application/json", "")),
        Shape::EmptyResponse => Some(proper(&json!({ "response": {}, "error": null }))),
        Shape::Cut { bytes } => Some(proper(value).cut(bytes)),
        Shape::StringNumbers => Some(proper(&changed(value, json::numbers_as_strings))),
        Shape::MissingFields => Some(proper(&changed(value, json::drop_fields))),
        Shape::Huge { bytes } => Some(proper(&json!({ "response": "x".repeat(bytes), "error": null }))),
        Shape::Deep { levels } => Some(Reply::new(200, "application/json", nested(levels))),
        Shape::Drip { ms } => Some(proper(value).dripping(Duration::from_millis(ms))),
        _ => None,
    });
    reshaped.unwrap_or_else(|| proper(value))
}

fn changed(value: &Value, change: fn(&mut Value)) -> Value {
    let mut value = value.clone();
    change(&mut value);
    value
}

fn nested(levels: usize) -> String {
    format!("{{\"response\": {}{}, \"error\": null}}", "[".repeat(levels), "]".repeat(levels))
}
