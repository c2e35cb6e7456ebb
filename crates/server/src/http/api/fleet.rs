//! Pages that change how many engines there are, and the page that says what would change next and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use acemux_engine::text;
use acemux_fleet::allowed::Asked;
use acemux_fleet::dispatch::Engines;
use acemux_fleet::fleet::{CommandError, Fleet, Provisioned, Snapshot};
use acemux_fleet::ident::ContainerId;
use acemux_fleet::member::Member;
use acemux_fleet::provisioner::ProvisionError;
use acemux_store::Store;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::http::auth::Operator;
use crate::http::body;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::scaling;

/// What the fleet knew and meant to do when it last looked, with every action and hold in words.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FleetPlan)]
pub struct PlanPage {
    /// What is next, one line each.
    next: Vec<String>,
    /// What is wanted and must wait, one line each.
    waits: Vec<String>,
    #[serde(flatten)]
    snapshot: Snapshot,
}

/// `POST /scale/{engines}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Scaled {
    /// Engines that are kept from now on.
    scaled_to: usize,
    /// What was asked for.
    requested: usize,
}

/// Body of `POST /provision/acestream`; all of it may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProvisionRequest {
    /// Beside ours.
    labels: BTreeMap<String, String>,
    /// Of the engine: those variables that engines are given.
    env: BTreeMap<String, String>,
    /// Its port, of the settings' range.
    #[schema(maximum = 65535)]
    host_port: Option<u16>,
    /// Engines are made from one image; a request that names another one is refused.
    image: Option<String>,
}

/// `DELETE /containers/{id}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ContainerDeleted)]
pub struct Deleted {
    deleted: String,
}

/// `GET /containers/{id}`: the reference's shape, of own engines only and without their environment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EngineContainer)]
pub struct ContainerPage {
    id: String,
    name: String,
    image: String,
    created: Option<Timestamp>,
    #[schema(value_type = words::ContainerState)]
    status: &'static str,
    labels: BTreeMap<String, String>,
}

/// What the fleet does next, and why.
#[utoipa::path(get, path = "/plan", tag = "fleet", responses((status = 200, body = PlanPage), fails::NotFound))]
pub async fn plan(State(fleet): State<Option<Fleet>>) -> Result<Json<PlanPage>, Problem> {
    let snapshot = (*present(fleet.as_ref())?.snapshot()).clone();
    let next =
        snapshot.plan.actions.iter().map(|action| super::status::in_words(action, &snapshot)).collect();
    let waits = snapshot.plan.held.iter().map(ToString::to_string).collect();
    Ok(Json(PlanPage { next, waits, snapshot }))
}

/// Keeps so many engines from now on, between `MIN_REPLICAS` and `MAX_REPLICAS`; also after a restart, until
/// `MIN_REPLICAS` is changed.
#[utoipa::path(
    post, path = "/scale/{engines}", tag = "fleet",
    params(("engines" = usize, Path, description = "How many; `MIN_REPLICAS` and `MAX_REPLICAS` bound what is done")),
    responses((status = 200, body = Scaled), fails::Stored, fails::Commanded)
)]
pub async fn scale(
    State(fleet): State<Option<Fleet>>,
    State(store): State<Store>,
    operator: Operator,
    Path(engines): Path<String>,
) -> Result<Json<Scaled>, Problem> {
    let bad =
        || Problem::new(Code::InvalidParam).with_detail("the number of engines is a whole number from 0");
    let is_number = !engines.is_empty() && engines.bytes().all(|byte| byte.is_ascii_digit());
    let requested = Some(engines).filter(|_| is_number).and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let fleet = present(fleet.as_ref())?;
    let (min, min_replicas) = (fleet.snapshot().min, fleet.snapshot().min_replicas);
    operator.was(json!({ "engines": min }));
    let kept = scaling::keep(&store, requested, min_replicas).await;
    kept.map_err(|error| super::events::problem(&error))?;
    let scaled_to = fleet.scale(requested).await.map_err(|error| problem(&error))?;
    operator.made(json!({ "engines": scaled_to }));
    Ok(Json(Scaled { scaled_to, requested }))
}

/// One engine more. Answers when its container runs.
#[utoipa::path(
    post, path = "/provision/acestream", tag = "fleet",
    request_body = Option<ProvisionRequest>,
    responses((status = 200, body = Provisioned), fails::Commanded)
)]
pub async fn provision(
    State(fleet): State<Option<Fleet>>,
    operator: Operator,
    body: axum::body::Bytes,
) -> Result<Json<Provisioned>, Problem> {
    let request: ProvisionRequest = if body.is_empty() {
        ProvisionRequest::default()
    } else {
        body::read(&body).ok_or_else(|| {
            Problem::new(Code::InvalidBody).with_detail(
                "labels, env, host_port and image are accepted: texts by name, texts by name, a port, a text",
            )
        })?
    };
    let ProvisionRequest { labels, env, host_port: port, image } = request;
    // Names only: values may be secrets.
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
    let (asked_labels, asked_env) = (names(&labels), names(&env));
    let asked = Asked { labels, env, port, image };
    let provisioned = present(fleet.as_ref())?.provision(asked).await.map_err(|error| problem(&error))?;
    operator.made(json!({
        "container_id": provisioned.container_id,
        "name": provisioned.container_name,
        "port": provisioned.host_http_port,
        "labels": asked_labels,
        "env": asked_env,
    }));
    Ok(Json(provisioned))
}

/// Removes an own engine, whatever plays on it.
#[utoipa::path(
    delete, path = "/containers/{id}", tag = "fleet",
    params(("id" = String, Path, description = "Its full id")),
    responses((status = 200, body = Deleted), fails::Commanded)
)]
pub async fn remove(
    State(fleet): State<Option<Fleet>>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, Problem> {
    let container: ContainerId = id.parse().map_err(|_| problem(&CommandError::Unknown))?;
    let snapshot = present(fleet.as_ref())?.snapshot();
    if let Some(note) = snapshot.containers.iter().find(|container| container.id == id) {
        operator.was(json!({ "name": note.name, "state": note.state }));
    }
    present(fleet.as_ref())?.remove(container).await.map_err(|error| problem(&error))?;
    Ok(Json(Deleted { deleted: id }))
}

/// One own container.
#[utoipa::path(
    get, path = "/containers/{id}", tag = "fleet",
    params(("id" = String, Path, description = "Its full id")),
    responses((status = 200, body = ContainerPage), fails::NotFound)
)]
pub async fn container(
    State(fleet): State<Option<Fleet>>,
    State(engines): State<Arc<Engines>>,
    _operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<ContainerPage>, Problem> {
    let unknown = || problem(&CommandError::Unknown);
    let snapshot = present(fleet.as_ref())?.snapshot();
    let note = snapshot.containers.iter().find(|container| container.id == id).ok_or_else(unknown)?;
    let member = engines.find(&id);
    let inside = member.as_ref().and_then(|member| member.container.clone());
    Ok(Json(ContainerPage {
        id,
        name: note.name.clone(),
        status: note.state,
        created: member.as_deref().map(created),
        image: inside.as_ref().map(|inside| inside.image.clone()).unwrap_or_default(),
        labels: inside.map(|inside| shown(&inside.labels)).unwrap_or_default(),
    }))
}

/// Longest label that is shown whole, in characters.
const LONGEST_LABEL: usize = 4096;

/// Labels as they may be shown: whoever built the image wrote some of them.
pub(super) fn shown(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let line = |text: &String| text::line(text, LONGEST_LABEL);
    labels.iter().map(|(name, value)| (line(name), line(value))).collect()
}

fn created(member: &Member) -> Timestamp {
    member.knowledge().first_seen
}

/// Who creates engines here.
pub(super) fn present(fleet: Option<&Fleet>) -> Result<&Fleet, Problem> {
    let none = || {
        let detail = "nobody creates engines here: ENGINE_PROVISIONER=none, or only ENGINES is set";
        Problem::new(Code::NotFound).with_detail(detail)
    };
    fleet.ok_or_else(none)
}

/// A command that was not done, as its client is told.
pub(super) fn problem(error: &CommandError) -> Problem {
    let code = match error {
        CommandError::Unknown | CommandError::Docker(ProvisionError::NotOurs { .. }) => Code::NotFound,
        CommandError::Refused(_) => Code::InvalidBody,
        CommandError::NoPorts { .. } | CommandError::Docker(ProvisionError::PortTaken { .. }) => {
            Code::NoPorts
        }
        CommandError::Docker(ProvisionError::ImageUnavailable { .. }) => Code::ImageUnavailable,
        CommandError::NoTunnel { .. } => Code::VpnDown,
        CommandError::AtMaximum { .. }
        | CommandError::BreakerOpen { .. }
        | CommandError::Held { .. }
        | CommandError::Docker(_)
        | CommandError::NoAnswer => Code::NoEngine,
    };
    Problem::new(code).with_detail(&error.to_string())
}
