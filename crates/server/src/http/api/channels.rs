//! `/api/v1/channels/identities/{id}`: what is known of a channel's names, and how to have it forgotten.

use std::collections::BTreeMap;

use acemux_engine::{ContentId, Hash, Record, StartBy};
use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::auth::Operator;
use crate::http::problem::{Code, Problem};
use crate::planes::origins::EngineOrigin;
use crate::record::archive::form_of;

/// `GET /api/v1/channels/identities/{id}`.
#[derive(Debug, Serialize)]
pub struct Identity {
    /// What was asked for, 40 hex digits.
    id: String,
    /// The infohash that it stands for; the same when it is one, null when nobody has said.
    infohash: Option<String>,
    /// Who has said so: `look_up` (an engine was asked) or `start` (a start by this name delivered).
    witness: Option<&'static str>,
    /// Content ids that lead to this infohash.
    content_ids: Vec<String>,
    /// By which name it last played, by the engines' family.
    delivered: BTreeMap<&'static str, Name>,
}

/// One name of a channel.
#[derive(Debug, Serialize)]
pub struct Name {
    /// `content_id` or `infohash`.
    form: &'static str,
    hash: String,
}

/// What is known of it.
pub async fn identity(
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<Identity>, Problem> {
    let hash = hash_in(&id)?;
    origin.identity(hash).map(|record| Json(Identity::of(hash, &record))).ok_or_else(unknown)
}

/// Forgets the channel: its names, and by which it has played. Streams that play go on.
pub async fn forget(
    operator: Operator,
    State(origin): State<EngineOrigin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let hash = hash_in(&id)?;
    let record = origin.identity(hash).ok_or_else(unknown)?;
    operator.was(json!(Identity::of(hash, &record)));
    origin.forget(hash);
    Ok(Json(json!({ "forgotten": hash.to_string() })))
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
