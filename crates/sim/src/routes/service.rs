//! `/webui/api/service` and `/server/api`: what is asked about the engine rather than about a playback.

use serde_json::{Value, json};

use super::{respond, start};
use crate::core::Core;
use crate::fault::{Fault, Page};
use crate::identity::ContentHash;
use crate::wire::{Connection, Ending, Reply, Request};

/// `/webui/api/service`: no `api_version`, JSONP on request.
pub(super) async fn webui(core: &Core, connection: &mut Connection, request: &Request) -> Ending {
    let faults = core.faults(None);
    if request.param("method") != Some("get_version") {
        return respond(connection, request, &faults, Page::Other, failure("unknown method", false)).await;
    }
    core.ledger.count(|counts| counts.health_checks += 1);
    let value = json!({ "result": version(core), "error": null });
    if let (Some("jsonp"), Some(callback)) = (request.param("format"), request.param("callback")) {
        let script = [callback.as_bytes(), b"(", &crate::json::dumps(&value), b");"].concat();
        return connection.send(request, Reply::new(200, "application/javascript", script)).await;
    }
    respond(connection, request, &faults, Page::Version, value).await
}

/// `/server/api`: with `api_version` the envelope is `result` or `error`, without it both.
pub(super) async fn server(core: &Core, connection: &mut Connection, request: &Request) -> Ending {
    let versioned = request.param("api_version").is_some();
    let faults = core.faults(None);
    let method = request.param("method").unwrap_or_default();
    if method == "get_media_files" && !faults.has(&Fault::NoMediaFiles) {
        return start::look_up(core, connection, request, versioned).await;
    }
    let (page, value) = match method {
        "get_version" if !versioned => (Page::Version, failure("access denied", false)),
        "get_version" => (Page::Version, json!({ "result": version(core) })),
        "get_status" => {
            (Page::Status, json!({ "result": { "playlist_loaded": true, "version": version(core) } }))
        }
        "get_network_connection_status" => {
            (Page::Network, json!({ "result": { "connected": faults.is_online() } }))
        }
        "get_content_id" => (Page::Other, content_id(core, request, versioned)),
        "analyze_content" => (Page::Other, analyze(core, request, versioned)),
        "get_media_files" => (Page::MediaFiles, failure("unknown method", versioned)),
        _ => (Page::Other, failure("unknown method", versioned)),
    };
    let checks = matches!(page, Page::Version | Page::Status | Page::Network);
    core.ledger.count(|counts| counts.health_checks += u64::from(checks));
    respond(connection, request, &faults, page, enveloped(value, versioned)).await
}

/// An error in the envelope of the request's API version.
pub(super) fn failure(message: &str, versioned: bool) -> Value {
    if versioned {
        json!({ "error": { "message": message, "code": 0 } })
    } else {
        json!({ "result": null, "error": message })
    }
}

/// Without a version a result comes with `"error": null`.
pub(super) fn enveloped(mut value: Value, versioned: bool) -> Value {
    if !versioned && value.get("error").is_none() {
        value["error"] = Value::Null;
    }
    value
}

fn version(core: &Core) -> Value {
    let version = core.options.version();
    let mut value =
        json!({ "code": core.options.version_code(), "platform": "linux", "version": version.to_string() });
    if (version.major, version.minor) >= (3, 2) {
        value["websocket_port"] = 43_879.into();
    }
    value
}

fn content_id(core: &Core, request: &Request, versioned: bool) -> Value {
    let infohash = request.param("infohash").and_then(ContentHash::parse);
    match infohash.and_then(|infohash| core.content_id(infohash)) {
        Some(id) => json!({ "result": { "content_id": id.to_string() } }),
        None => failure("cannot get content id", versioned),
    }
}

/// `query=acestream:?infohash=…` or `acestream:?content_id=…`.
fn analyze(core: &Core, request: &Request, versioned: bool) -> Value {
    let query = request.param("query").unwrap_or_default();
    let Some((name, value)) = query.strip_prefix("acestream:?").and_then(|query| query.split_once('='))
    else {
        return failure("unknown protocol", versioned);
    };
    let hash = ContentHash::parse(value).filter(|hash| (name == "infohash") == hash.is_infohash());
    let Some(infohash) = hash.map(ContentHash::infohash) else {
        return failure("cannot get transport file", versioned);
    };
    json!({ "result": {
        "is_live": u8::from(core.kind(infohash).is_live()),
        "item_url": query,
        "transport_type": "bt",
        "content_type": "transport_file",
        "title": "Simulated channel",
        "content_id": core.content_id(infohash).map(|id| id.to_string()),
        "infohash": infohash.to_string(),
        "categories": [],
    } })
}
