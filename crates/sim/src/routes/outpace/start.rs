//! `/ace/getstream` and `/ace/manifest.m3u8`: any 40 digits open a playback.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::start::{authority, refused};
use super::super::{Format, obstruct, refusal, shaped};
use super::{catalogue, media};
use crate::core::{Core, Order};
use crate::fault::{Fault, Faults, Page};
use crate::identity::{ContentHash, random_hex};
use crate::ledger::IdForm;
use crate::session::Session;
use crate::source::Reference;
use crate::wire::{Connection, Ending, Reply, Request};

/// Bytes of a token.
const TOKEN: usize = 32;

/// What a request names.
struct Selector<'a> {
    form: IdForm,
    value: &'a str,
    reference: Result<Reference, &'static str>,
}

impl<'a> Selector<'a> {
    /// By the engine's precedence; a parameter without a value is none.
    fn of(request: &'a Request) -> Option<Self> {
        let named = |name: &str, form, read: fn(&str) -> Result<Reference, &'static str>| {
            let value = request.param(name).filter(|value| !value.is_empty())?;
            Some(Self { form, value, reference: read(value) })
        };
        named("content_id", IdForm::ContentId, |value| content_id(value, "invalid content_id"))
            .or_else(|| named("infohash", IdForm::Infohash, infohash))
            .or_else(|| named("id", IdForm::ContentId, |value| content_id(value, "invalid id")))
            .or_else(|| named("url", IdForm::ContentId, |url| Ok(Reference::Url(url.to_owned()))))
            .or_else(|| named("magnet", IdForm::Infohash, magnet))
    }
}

fn content_id(value: &str, problem: &'static str) -> Result<Reference, &'static str> {
    ContentHash::parse(value).map(Reference::ContentId).ok_or(problem)
}

fn infohash(value: &str) -> Result<Reference, &'static str> {
    ContentHash::parse(value).map(Reference::Infohash).ok_or("invalid infohash")
}

fn magnet(value: &str) -> Result<Reference, &'static str> {
    magnet_infohash(value).map(Reference::Infohash).ok_or("invalid magnet")
}

/// The infohash in `magnet:?xt=urn:btih:<40 digits>&…`.
pub(super) fn magnet_infohash(value: &str) -> Option<ContentHash> {
    let mut fields = value.strip_prefix("magnet:?")?.split('&');
    fields.find_map(|field| ContentHash::parse(field.strip_prefix("xt=urn:btih:")?))
}

/// How the playback is called in URLs and in `infohash`: a content id that the catalogue does not know keeps its own name.
struct Names {
    play_id: String,
    public_id: String,
}

impl Names {
    fn of(reference: &Reference, resolved: Option<ContentHash>) -> Self {
        let same = |id: String| Self { play_id: id.clone(), public_id: id };
        match (reference, resolved) {
            (Reference::ContentId(_), Some(infohash)) => same(infohash.to_string()),
            (Reference::ContentId(id), None) => {
                Self { play_id: format!("cid:{id}"), public_id: id.to_string() }
            }
            (Reference::Infohash(hash), _) => same(hash.to_string()),
            (Reference::Url(url), _) => same(format!("turl-{}", base64url(url.as_bytes()))),
        }
    }
}

/// Base64 for URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |group: &[u8]| {
        let padded =
            group.iter().chain(&[0; 3]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let digit = move |at: usize| char::from(DIGITS[padded >> (18 - 6 * at) & 63]);
        (0..=group.len()).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

pub(super) async fn start(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    format: Format,
) -> Ending {
    let selector = Selector::of(request);
    let requested = selector.as_ref().map(|selector| selector.value);
    let in_flight = core.ledger.start_began(core.name(), requested, request.is_head());
    let target = selector.as_ref().and_then(|selector| selector.reference.as_ref().ok());
    let target = target.map(Reference::target);
    let own_faults = core.take_start_faults(target);
    let faults = core.faults(target).and(&own_faults);
    if let Some(ending) = obstruct(connection, request, &faults, Page::Start).await {
        return ending;
    }
    let started = accept(core, request, format, selector, &faults, own_faults).await;
    // The reply is ready; how long its client takes to read it, or the media behind it, is another matter.
    drop(in_flight);
    match started {
        Err(refused) => connection.send(request, shaped(connection, &refused, &faults, Page::Start)).await,
        Ok((playback, public_id)) => {
            opened(core, connection, request, format, &faults, &playback, &public_id).await
        }
    }
}

/// Opens a playback, or refuses.
async fn accept(
    core: &Core,
    request: &Request,
    format: Format,
    selector: Option<Selector<'_>>,
    faults: &Faults,
    own_faults: Faults,
) -> Result<(Arc<Session>, String), Value> {
    if !is_supported(request.param("format"), format) {
        return Err(refusal("unsupported format"));
    }
    let Selector { form, value, reference } =
        selector.ok_or_else(|| refusal("missing content_id/infohash/id/url/magnet"))?;
    let reference = reference.map_err(refusal)?;
    let resolved = resolve(core, &reference, faults).await;
    if let Some(refused) = faults.find(|fault| refused(fault, core.sessions())) {
        return Err(refused);
    }
    let Names { play_id, public_id } = Names::of(&reference, resolved);
    let token = random_hex(TOKEN);
    let playback = core.open(Order {
        form,
        requested: value.to_owned(),
        reference,
        play_id,
        pid: request.param("pid").map(str::to_owned),
        playback_session_id: token.clone(),
        token,
        client_session_id: -1,
        own_faults,
    });
    Ok((playback, public_id))
}

/// Streams and JSON, and for playlists a redirect.
fn is_supported(asked: Option<&str>, format: Format) -> bool {
    matches!((asked, format), (None | Some("" | "json"), _) | (Some("redirect"), Format::Hls))
}

/// What the catalogue says about a content id.
async fn resolve(core: &Core, reference: &Reference, faults: &Faults) -> Option<ContentHash> {
    let Reference::ContentId(id) = reference else { return None };
    let (lasts, said) = catalogue(core, *id, faults);
    sleep(lasts).await;
    said.ok()
}

/// The reply to a start that was accepted: JSON or the media itself. A playlist is begun first.
async fn opened(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    format: Format,
    faults: &Faults,
    playback: &Arc<Session>,
    public_id: &str,
) -> Ending {
    if format == Format::Hls && !media::begin(core, connection, playback).await {
        return connection.send(request, Reply::empty(404)).await;
    }
    let base = format!("http://{}/ace", authority(request, faults));
    let Session { play_id, token, .. } = playback.as_ref();
    let playback_url = match format {
        Format::Progressive => format!("{base}/r/{play_id}/{token}"),
        Format::Hls => format!("{base}/m/{play_id}/{token}.m3u8"),
    };
    if request.param("format") == Some("json") {
        let reply = start_reply(&base, &playback_url, faults, playback, public_id);
        return connection.send(request, shaped(connection, &reply, faults, Page::Start)).await;
    }
    match format {
        Format::Progressive => media::direct(core, connection, request, playback).await,
        Format::Hls => connection.send(request, Reply::empty(302).with("Location", playback_url)).await,
    }
}

fn start_reply(
    base: &str,
    playback_url: &str,
    faults: &Faults,
    playback: &Session,
    public_id: &str,
) -> Value {
    let Session { play_id, token, .. } = playback;
    json!({
        "response": {
            "playback_url": playback_url,
            "stat_url": format!("{base}/stat/{play_id}/{token}"),
            "command_url": format!("{base}/cmd/{play_id}/{token}"),
            "infohash": public_id,
            "playback_session_id": token,
            "is_live": playback.is_live(),
            "is_encrypted": i32::from(faults.has(&Fault::Encrypted)),
            "client_session_id": playback.client_session_id,
            "metadata": metadata(playback),
        },
        "error": null,
    })
}

/// What the descriptor says; an infohash has none.
pub(super) fn metadata(playback: &Session) -> Value {
    match playback.reference {
        Reference::Infohash(_) => json!({ "title": null, "bitrate": null, "categories": [] }),
        Reference::ContentId(_) | Reference::Url(_) => json!({
            "title": "Simulated channel",
            "bitrate": playback.channel.bitrate() / 8,
            "categories": [],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_in_base64_without_padding() {
        let cases = [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("?~\u{ff}", "P37Dvw"),
        ];
        for (text, code) in cases {
            assert_eq!(base64url(text.as_bytes()), code);
        }
    }

    #[test]
    fn a_magnet_link_names_an_infohash() {
        let hash = "94c2fd8fb9bc8f2fc71a2cbe9d4b866f227a0209";
        for good in [format!("magnet:?xt=urn:btih:{hash}"), format!("magnet:?dn=x&xt=urn:btih:{hash}&tr=y")] {
            assert_eq!(magnet_infohash(&good), ContentHash::parse(hash), "{good}");
        }
        for bad in ["", "magnet:?", "magnet:?xt=urn:btih:12", hash] {
            assert_eq!(magnet_infohash(bad), None, "{bad}");
        }
    }
}
