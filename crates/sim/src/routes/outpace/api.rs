//! `/server/api`: a few methods, always 200, `{"error": …, "result": …}` with a bare text as error. `api_version` means
//! nothing to it.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::respond;
use super::catalogue;
use super::start::magnet_infohash;
use crate::core::Core;
use crate::fault::{Fault, Faults, Page};
use crate::identity::ContentHash;
use crate::wire::{Connection, Ending, Request};

/// What a request names. `query` is another name for `content_id`: a bare hash, no `acestream:?` link.
enum Selector<'a> {
    ContentId(&'a str),
    Infohash(&'a str),
    Url(&'a str),
    Magnet(&'a str),
}

impl<'a> Selector<'a> {
    fn of(request: &'a Request) -> Option<Self> {
        let given = |name: &str| request.param(name).filter(|value| !value.is_empty());
        given("content_id")
            .or_else(|| given("query"))
            .map(Self::ContentId)
            .or_else(|| given("infohash").map(Self::Infohash))
            .or_else(|| given("url").map(Self::Url))
            .or_else(|| given("magnet").map(Self::Magnet))
    }

    fn target(&self) -> Option<ContentHash> {
        match self {
            Self::ContentId(value) | Self::Infohash(value) => ContentHash::parse(value),
            Self::Magnet(value) => magnet_infohash(value),
            Self::Url(url) => Some(ContentHash::of_text(url)),
        }
        .map(ContentHash::infohash)
    }

    /// An infohash is believed, whatever it is; only a content id and a descriptor are looked up.
    async fn resolve(&self, core: &Core) -> Result<Content, String> {
        match self {
            Self::Infohash(value) => match ContentHash::parse(value) {
                Some(infohash) => Ok(Content { infohash, content_id: None }),
                None => Err(format!("invalid infohash: {value}")),
            },
            Self::Magnet(value) => magnet_infohash(value)
                .map(|infohash| Content { infohash, content_id: None })
                .ok_or_else(|| "invalid magnet".to_owned()),
            Self::Url(url) => Ok(Content { infohash: ContentHash::of_text(url), content_id: None }),
            Self::ContentId(value) => look_up(core, value).await,
        }
    }
}

/// What a selector led to.
struct Content {
    infohash: ContentHash,
    content_id: Option<ContentHash>,
}

async fn look_up(core: &Core, value: &str) -> Result<Content, String> {
    let id = ContentHash::parse(value).ok_or("content-id resolution failed: BadInfohash")?;
    let (lasts, said) = catalogue(core, id, &core.faults(Some(id.infohash())));
    sleep(lasts).await;
    said.map(|infohash| Content { infohash, content_id: Some(id) })
        .map_err(|problem| format!("content-id resolution failed: Catalog({problem:?})"))
}

pub(super) async fn answer(core: &Core, connection: &mut Connection, request: &Request) -> Ending {
    let method = request.param("method").unwrap_or_default();
    let selector = Selector::of(request);
    let faults = core.faults(selector.as_ref().and_then(Selector::target));
    let page = page(method);
    let is_lookup = page == Page::MediaFiles && !faults.has(&Fault::NoMediaFiles);
    let is_check = matches!(page, Page::Version | Page::Status | Page::Network);
    core.ledger.count(|counts| {
        counts.lookups += u64::from(is_lookup);
        counts.health_checks += u64::from(is_check);
    });
    let answer = answer_to(core, method, selector, &faults).await;
    let value = match answer {
        Ok(result) => json!({ "result": result, "error": null }),
        Err(problem) => json!({ "result": null, "error": problem }),
    };
    respond(connection, request, &faults, page, value).await
}

async fn answer_to(
    core: &Core,
    method: &str,
    selector: Option<Selector<'_>>,
    faults: &Faults,
) -> Result<Value, String> {
    match method {
        "get_version" => Ok(version(core)),
        "get_status" => Ok(status(core)),
        "get_network_connection_status" => {
            let status = if faults.is_online() { "connected" } else { "disconnected" };
            Ok(json!({ "status": status, "connected": faults.is_online(), "networks": ["ace"] }))
        }
        "get_content_id" => content_id(selector.as_ref()),
        "analyze_content" => resolve(core, selector).await.map(|content| analysis(&content)),
        "get_media_files" if !faults.has(&Fault::NoMediaFiles) => {
            let without_infohash = faults.has(&Fault::MediaFilesWithoutInfohash);
            resolve(core, selector).await.map(|content| media_files(&content, without_infohash))
        }
        unknown => Err(format!("unknown method: {unknown}")),
    }
}

fn page(method: &str) -> Page {
    match method {
        "get_version" => Page::Version,
        "get_status" => Page::Status,
        "get_network_connection_status" => Page::Network,
        "get_media_files" => Page::MediaFiles,
        _ => Page::Other,
    }
}

fn version(core: &Core) -> Value {
    json!({ "version": core.options.version().to_string(), "code": core.options.version_code() })
}

/// Counts what is downloaded for somebody, not playbacks.
fn status(core: &Core) -> Value {
    let sources = core.sources();
    json!({ "status": if sources > 0 { "dl" } else { "idle" }, "active_sessions": sources })
}

/// Repeats a content id; it is never derived from anything else.
fn content_id(selector: Option<&Selector<'_>>) -> Result<Value, String> {
    match selector {
        Some(Selector::ContentId(id)) => Ok(json!({ "content_id": id })),
        Some(_) => Err("content_id unavailable for this selector".to_owned()),
        None => Err("missing content_id".to_owned()),
    }
}

async fn resolve(core: &Core, selector: Option<Selector<'_>>) -> Result<Content, String> {
    match selector {
        Some(selector) => selector.resolve(core).await,
        None => Err("missing content_id/infohash/url/magnet".to_owned()),
    }
}

fn analysis(content: &Content) -> Value {
    json!({
        "infohash": content.infohash.to_string(),
        "content_id": content.content_id.map(|id| id.to_string()),
        "is_live": 1,
        "is_encrypted": 0,
        "status": "complete",
    })
}

fn media_files(content: &Content, without_infohash: bool) -> Value {
    let infohash = content.infohash.to_string();
    let mut result = json!({
        "infohash": infohash,
        "files": [{ "infohash": infohash, "index": 0, "is_live": 1 }],
    });
    if without_infohash {
        result.as_object_mut().and_then(|fields| fields.remove("infohash"));
    }
    result
}
