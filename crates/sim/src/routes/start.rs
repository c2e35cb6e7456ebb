//! `/ace/getstream` and `/ace/manifest.m3u8`: opening a session.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Format, obstruct, refusal, respond, shaped};
use crate::core::{Core, Order};
use crate::fault::{Fault, Faults, Page};
use crate::identity::{ContentHash, random_hex, token_of};
use crate::ledger::IdForm;
use crate::options::Timing;
use crate::session::Session;
use crate::source::Reference;
use crate::wire::{Connection, Ending, Reply, Request};

const FAILED_TO_LOAD: &str = "failed to load content";

/// What a request names, before anything is known about it.
#[derive(Clone, Copy, Debug)]
struct Selector<'a> {
    form: IdForm,
    value: &'a str,
}

impl<'a> Selector<'a> {
    /// By the engine's precedence. `url` and `magnet` are understood and lead nowhere.
    fn of(request: &'a Request) -> Option<Self> {
        let named = [
            ("content_id", IdForm::ContentId),
            ("id", IdForm::ContentId),
            ("infohash", IdForm::Infohash),
            ("url", IdForm::ContentId),
            ("magnet", IdForm::ContentId),
        ];
        named.into_iter().find_map(|(name, form)| request.param(name).map(|value| Self { form, value }))
    }

    fn hash(self) -> Option<ContentHash> {
        ContentHash::parse(self.value)
    }

    /// The infohash, or how long the search for it lasts.
    fn resolve(self, timing: &Timing) -> Result<ContentHash, Duration> {
        let known = self.hash().filter(|hash| !hash.is_zero());
        match (self.form, known) {
            (IdForm::ContentId, Some(id)) if !id.is_infohash() => Ok(id.infohash()),
            (IdForm::Infohash, Some(infohash)) if infohash.is_infohash() => Ok(infohash),
            (IdForm::ContentId, _) => Err(timing.unknown_id),
            (IdForm::Infohash, _) => Err(timing.unknown_infohash),
        }
    }
}

pub(super) async fn start(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    format: Format,
) -> Ending {
    let selector = Selector::of(request);
    let requested = selector.map(|selector| selector.value);
    let in_flight = core.ledger.start_began(core.name(), requested, request.is_head());
    let Some(selector) = selector else {
        return connection.send(request, Reply::text(500, "Internal Server Error")).await;
    };
    let target = selector.hash().map(ContentHash::infohash);
    let own_faults = core.take_start_faults(target);
    let faults = core.faults(target).and(&own_faults);
    if let Some(ending) = obstruct(connection, request, &faults, Page::Start).await {
        return ending;
    }
    let opening = load(core, selector, &faults)
        .await
        .map(|infohash| core.open(order(request, selector, infohash, own_faults)));
    // The reply is ready; how long its client takes to read it, or the media behind it, is another matter.
    drop(in_flight);
    match opening {
        Err(refused) => respond_late(connection, request, &faults, refused).await,
        Ok(session) => opened(core, connection, request, format, &faults, &session).await,
    }
}

/// Looks the content up and asks the faults: the infohash, or the refusal.
async fn load(core: &Core, selector: Selector<'_>, faults: &Faults) -> Result<ContentHash, Value> {
    let timing = &core.options.timing;
    let resolved = match (selector.resolve(timing), in_vain(faults, timing)) {
        (Ok(_), Some(search)) => Err(search),
        (resolved, _) => resolved,
    };
    sleep(resolved.err().unwrap_or(timing.load)).await;
    let infohash = resolved.map_err(|_| refusal(FAILED_TO_LOAD))?;
    if selector.form == IdForm::ContentId {
        selector.hash().into_iter().for_each(|id| core.remember(id));
    }
    faults.find(|fault| refused(fault, core.sessions())).map_or(Ok(infohash), Err)
}

/// How long the content is looked for in vain, if a fault wants that.
fn in_vain(faults: &Faults, timing: &Timing) -> Option<Duration> {
    faults.find(|fault| match fault {
        Fault::FailedToLoad => Some(timing.unknown_id),
        Fault::LateRefusal { ms } => Some(Duration::from_millis(*ms)),
        _ => None,
    })
}

/// The refusal that a fault wants, given the number of open sessions.
pub(super) fn refused(fault: &Fault, sessions: usize) -> Option<Value> {
    match fault {
        Fault::StartError { error } => Some(refusal(error)),
        Fault::RefuseMoreThan { n } if sessions >= *n => Some(refusal("too many playback sessions")),
        Fault::MissingOption => Some(json!({
            "response": null,
            "error": "You need to buy Proxy Server option to use this feature",
            "extra_data": { "reason": "missing_option", "option": "proxyServer" },
        })),
        _ => None,
    }
}

/// A refusal whose delays have passed already.
async fn respond_late(
    connection: &mut Connection,
    request: &Request,
    faults: &Faults,
    refusal: Value,
) -> Ending {
    connection.send(request, shaped(connection, &refusal, faults, Page::Start)).await
}

fn order(request: &Request, selector: Selector<'_>, infohash: ContentHash, own_faults: Faults) -> Order {
    let pid = request.param("pid").or_else(|| request.param("sid")).map(str::to_owned);
    let token = token_of(&pid.clone().unwrap_or_else(|| request.peer.to_string()));
    Order {
        form: selector.form,
        requested: selector.value.to_owned(),
        reference: Reference::Infohash(infohash),
        play_id: infohash.to_string(),
        pid,
        playback_session_id: random_hex(20),
        client_session_id: request
            .param("client_session_id")
            .and_then(|text| text.parse().ok())
            .unwrap_or(-1),
        token,
        own_faults,
    }
}

/// The reply to a start that worked: JSON or a redirect.
async fn opened(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    format: Format,
    faults: &Faults,
    session: &Session,
) -> Ending {
    let play_id = &session.play_id;
    let base = format!("http://{}/ace", authority(request, faults));
    let playback_url = match format {
        Format::Progressive => format!("{base}/r/{play_id}/{}", session.token),
        Format::Hls => format!("{base}/m/{play_id}/{}.m3u8", session.token),
    };
    if request.param("format") == Some("json") {
        let reply = start_reply(&base, &playback_url, faults, session);
        connection.send(request, shaped(connection, &reply, faults, Page::Start)).await
    } else {
        connection
            .send(request, Reply::redirect(Some(&playback_url), core.options.timing.redirect_linger))
            .await
    }
}

fn start_reply(base: &str, playback_url: &str, faults: &Faults, session: &Session) -> Value {
    let play_id = &session.play_id;
    let response = json!({
        "playback_url": playback_url,
        "stat_url": format!("{base}/stat/{play_id}/{}", session.token),
        "command_url": format!("{base}/cmd/{play_id}/{}", session.token),
        "infohash": session.infohash.to_string(),
        "playback_session_id": session.playback_session_id,
        "is_live": session.is_live(),
        "is_encrypted": i32::from(faults.has(&Fault::Encrypted)),
        "client_session_id": session.client_session_id,
    });
    json!({ "response": response, "error": null })
}

/// The authority in URLs: the one that was asked for, unless a fault names another.
pub(super) fn authority(request: &Request, faults: &Faults) -> String {
    let wrong = faults.find(|fault| match fault {
        Fault::UrlAuthority { authority } => Some(authority.as_str()),
        _ => None,
    });
    wrong.or(request.header("host")).unwrap_or("127.0.0.1:6878").to_owned()
}

/// `get_media_files`: the same look-up without a session.
pub(super) async fn look_up(
    core: &Core,
    connection: &mut Connection,
    request: &Request,
    versioned: bool,
) -> Ending {
    core.ledger.count(|counts| counts.lookups += 1);
    let selector = Selector::of(request);
    let faults = core.faults(selector.and_then(Selector::hash).map(ContentHash::infohash));
    let (value, delay) = match selector.map(|selector| (selector, selector.resolve(&core.options.timing))) {
        Some((selector, Ok(infohash))) if !faults.has(&Fault::FailedToLoad) => {
            if selector.form == IdForm::ContentId {
                selector.hash().into_iter().for_each(|id| core.remember(id));
            }
            (
                super::service::enveloped(
                    media_files(core.kind(infohash).is_live(), infohash, &faults),
                    versioned,
                ),
                Duration::ZERO,
            )
        }
        _ => (
            super::service::failure("cannot get transport file", versioned),
            core.options.timing.unknown_transport,
        ),
    };
    sleep(delay).await;
    respond(connection, request, &faults, Page::MediaFiles, value).await
}

fn media_files(is_live: bool, infohash: ContentHash, faults: &Faults) -> Value {
    let (kind, name) =
        if is_live { ("live", "Simulated channel") } else { ("vod", "Simulated recording.ts") };
    let mut result = json!({
        "files": [{ "index": 0, "filename": name }],
        "name": name,
        "infohash": infohash.to_string(),
        "transport_type": "bt",
        "type": kind,
        "transport_file_cache_key": null,
    });
    if faults.has(&Fault::MediaFilesWithoutInfohash) {
        result.as_object_mut().and_then(|fields| fields.remove("infohash"));
    }
    json!({ "result": result })
}
