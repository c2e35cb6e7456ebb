//! `GET /ace/status`: what acexy says of itself and of a stream, for programs that ask it.

use acemux_engine::{ContentId, Selector, SelectorError};
use acemux_relay::Relay;
use acemux_relay::session::Phase;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use serde::Serialize;
use utoipa::ToSchema;

use super::getstream::{ChannelQuery, Channels};
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;

/// `GET /ace/status`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AceStatus)]
#[serde(untagged)]
pub enum Status {
    /// Of all streams.
    All {
        /// Streams that play or start.
        streams: usize,
    },
    /// Of one.
    One {
        /// Who watches it or waits for it.
        clients: usize,
        /// Its channel's id, as it was asked for.
        stream_id: String,
        /// The page with what its engine said of it lately.
        stat_url: String,
    },
}

/// How many streams there are, or with a channel how many watch that. As acexy answers it.
#[utoipa::path(
    get, path = "/ace/status", tag = "playback",
    params(ChannelQuery),
    responses((status = 200, body = Status), fails::Selector, fails::NotFound)
)]
pub async fn status(
    State(channels): State<Channels>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    let status = match Selector::from_query(query.as_deref()) {
        Ok(content) => one(&channels, content).ok_or_else(|| Problem::new(Code::NotFound))?,
        Err(SelectorError::Missing) => Status::All { streams: playing(&channels.relay) },
        Err(error) => return Err(error.into()),
    };
    Ok(([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(status)))
}

fn playing(relay: &Relay) -> usize {
    relay.sessions().iter().filter(|session| !matches!(session.phase, Phase::Ended(_))).count()
}

fn one(channels: &Channels, content: ContentId) -> Option<Status> {
    let keys = channels.origin.known_key(content);
    let session = keys.iter().find_map(|key| channels.relay.session(key))?;
    Some(Status::One {
        clients: session.viewers,
        stream_id: content.hash().to_string(),
        stat_url: format!("/streams/{}/stats", content.hash()),
    })
}
