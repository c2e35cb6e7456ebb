//! `/api/v1/channels/identities/{id}`: by which ids a channel is known, and how to have it forgotten.
//! `/api/v1/channels/names`: what operators call channels.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_engine::{ContentId, Hash, Record, StartBy};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::names::problem;
use crate::http::auth::Operator;
use crate::http::body::Object;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::channels::ChannelNames;
use crate::planes::origins::EngineOrigin;
use crate::record::archive::form_of;

/// `GET /api/v1/channels/identities/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelIdentity)]
pub struct Identity {
    /// What was asked for, 40 hex digits.
    id: String,
    /// The infohash that it stands for; the same when it is one, null when nobody has said.
    infohash: Option<String>,
    /// Who has said so: `look_up` (an engine was asked) or `start` (a start by this name delivered).
    #[schema(value_type = Option<words::IdentityWitness>)]
    witness: Option<&'static str>,
    /// Content ids that lead to this infohash.
    content_ids: Vec<String>,
    /// By which name it last played, by the engines' family.
    #[schema(value_type = BTreeMap<String, Name>)]
    delivered: BTreeMap<&'static str, Name>,
}

/// One name of a channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelName)]
pub struct Name {
    #[schema(value_type = words::NameForm)]
    form: &'static str,
    hash: String,
}

/// `DELETE /api/v1/channels/identities/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChannelForgotten)]
pub struct Forgotten {
    /// 40 hex digits.
    forgotten: String,
}

/// What is known of it.
#[utoipa::path(
    get, path = "/channels/identities/{id}", tag = "channels",
    params(("id" = String, Path, description = "Any form of the channel's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = Identity), fails::NotFound)
)]
pub async fn identity(
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<Identity>, Problem> {
    let hash = hash_in(&id)?;
    origin.identity(hash).map(|record| Json(Identity::of(hash, &record))).ok_or_else(unknown)
}

/// Forgets the channel: its names, and by which it has played. Streams that play go on.
#[utoipa::path(
    delete, path = "/channels/identities/{id}", tag = "channels",
    params(("id" = String, Path, description = "Any form of the channel's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = Forgotten), fails::NotFound)
)]
pub async fn forget(
    operator: Operator,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<Forgotten>, Problem> {
    let hash = hash_in(&id)?;
    let record = origin.identity(hash).ok_or_else(unknown)?;
    operator.was(json!(Identity::of(hash, &record)));
    origin.forget(hash);
    Ok(Json(Forgotten { forgotten: hash.to_string() }))
}

/// `GET /api/v1/channels/names`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GivenNames)]
pub struct GivenNames {
    /// By the ids that they were given for, 40 hex digits each.
    names: BTreeMap<String, String>,
    /// The same by infohash, where it is known.
    by_infohash: BTreeMap<String, String>,
}

/// What a channel is called.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GivenName)]
pub struct GivenName {
    /// 40 hex digits.
    id: String,
    name: String,
}

/// Body of `PUT /api/v1/channels/names/{id}`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GivenNameBody)]
#[serde(deny_unknown_fields)]
pub struct GivenNameBody {
    /// One line of at most 64 characters.
    name: String,
}

/// `DELETE /api/v1/channels/names/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GivenNameRemoved)]
pub struct GivenNameRemoved {
    removed: GivenName,
}

/// What operators call channels. A stream has the name of its channel by whichever id it is asked for.
#[utoipa::path(get, path = "/channels/names", tag = "channels", responses((status = 200, body = GivenNames)))]
pub async fn names(State(names): State<Arc<ChannelNames>>) -> Json<GivenNames> {
    Json(GivenNames { names: names.all(), by_infohash: names.by_infohash() })
}

/// Gives a channel a name, or another one.
#[utoipa::path(
    put, path = "/channels/names/{id}", tag = "channels",
    params(("id" = String, Path, description = "Any form of the channel's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    request_body = GivenNameBody,
    responses((status = 200, body = GivenName), fails::NotFound, fails::InvalidParam, fails::Stored)
)]
pub async fn give_name(
    operator: Operator,
    State(names): State<Arc<ChannelNames>>,
    Path(id): Path<String>,
    Object(GivenNameBody { name }): Object<GivenNameBody>,
) -> Result<Json<GivenName>, Problem> {
    let hash = hash_in(&id)?;
    let (before, name) = names.put(hash, &name).await.map_err(|unfit| problem(&unfit))?;
    let given = |name| GivenName { id: hash.to_string(), name };
    operator.was(json!(before.map(given)));
    let after = given(name);
    operator.made(json!(after));
    Ok(Json(after))
}

/// Takes a channel's name back.
#[utoipa::path(
    delete, path = "/channels/names/{id}", tag = "channels",
    params(("id" = String, Path, description = "Any form of the channel's id",
        example = "94c2fd8fb9bc8f2fc71a9c1b9b7a5a8f0a2e3f4d")),
    responses((status = 200, body = GivenNameRemoved), fails::NotFound, fails::Stored)
)]
pub async fn take_name(
    operator: Operator,
    State(names): State<Arc<ChannelNames>>,
    Path(id): Path<String>,
) -> Result<Json<GivenNameRemoved>, Problem> {
    let hash = hash_in(&id)?;
    let name = names.remove(hash).await.map_err(|unfit| problem(&unfit))?.ok_or_else(unknown)?;
    let removed = GivenName { id: hash.to_string(), name };
    operator.was(json!(removed));
    Ok(Json(GivenNameRemoved { removed }))
}

fn hash_in(id: &str) -> Result<Hash, Problem> {
    ContentId::from_any_form(id).map(ContentId::hash).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::new(Code::NotFound).with_detail("nothing is known of this id")
}

impl Identity {
    fn of(hash: Hash, record: &Record) -> Self {
        let names = record.delivered.iter().map(|(family, by)| (family.as_str(), Name::of(*by)));
        Self {
            id: hash.to_string(),
            infohash: record.infohash.map(|(infohash, _)| infohash.to_string()),
            witness: record.infohash.map(|(_, witness)| witness.as_str()),
            content_ids: record.content_ids.iter().map(Hash::to_string).collect(),
            delivered: names.collect(),
        }
    }
}

impl Name {
    fn of(by: StartBy) -> Self {
        Self { form: form_of(by).as_str(), hash: by.hash().to_string() }
    }
}
