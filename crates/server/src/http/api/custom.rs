//! `/custom-variant`: the engine that an operator builds from parameters, its ten templates, and the replacement of
//! running engines by it.

use std::str::FromStr;
use std::sync::Arc;

use acemux_fleet::custom::templates::{Listing, TemplateError, TemplateId, TemplatesDocument};
use acemux_fleet::custom::{CustomVariant, Document};
use acemux_fleet::fleet::Fleet;
use acemux_fleet::profile::Platform;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::events::problem as store_problem;
use super::fleet::{present, problem as fleet_problem};
use super::status::Done;
use crate::http::auth::Operator;
use crate::http::body::Object;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::custom::Custom;
use crate::planes::custom::Recipes;

/// `GET /custom-variant/platform`.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlatformPage {
    platform: Platform,
    supported_platforms: [Platform; 3],
}

/// A changed document, and what to do next.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VariantSaved)]
pub struct Saved {
    message: &'static str,
    config: Document,
}

/// Body of `POST /custom-variant/templates/{slot}`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TemplateBody {
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    config: Document,
}

/// Body of `PATCH /custom-variant/templates/{slot}/rename`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TemplateName)]
pub struct NameBody {
    #[schema(min_length = 1, max_length = 64)]
    name: String,
}

/// Body of `POST /custom-variant/templates/{slot}/import`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TemplateImport)]
pub struct ImportBody {
    /// The exported file, as a text.
    json_data: String,
}

/// `GET /custom-variant/reprovision/status`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReprovisionStatus {
    in_progress: bool,
    #[schema(value_type = words::ReprovisionState)]
    status: &'static str,
    message: Option<String>,
    timestamp: Option<Timestamp>,
    total_engines: usize,
    engines_stopped: usize,
    engines_provisioned: usize,
    current_engine_id: Option<String>,
    #[schema(value_type = Option<words::ReprovisionPhase>)]
    current_phase: Option<&'static str>,
}

/// `POST /custom-variant/reprovision`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reprovisioning {
    message: &'static str,
    /// Engines that are replaced, under the name that the system before us gave it.
    deleted_count: usize,
}

/// A template and its place. The exported file has the same shape.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
pub struct TemplatePage {
    slot_id: TemplateId,
    name: String,
    config: Document,
}

/// `POST /custom-variant/templates/{slot}/activate`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateActivated)]
pub struct Activated {
    message: &'static str,
    template_id: TemplateId,
    template_name: Option<String>,
}

/// What this machine is.
#[utoipa::path(get, path = "/custom-variant/platform", tag = "custom-variant", responses((status = 200, body = PlatformPage)))]
pub async fn platform() -> Json<PlatformPage> {
    let supported_platforms = [Platform::Amd64, Platform::Arm32, Platform::Arm64];
    Json(PlatformPage { platform: Platform::here(), supported_platforms })
}

/// The document, without its tokens: it is public.
#[utoipa::path(get, path = "/custom-variant/config", tag = "custom-variant", responses((status = 200, body = Document)))]
pub async fn config(State(custom): State<Arc<Custom>>) -> Json<Document> {
    Json(custom.state().await.document.without_tokens())
}

/// Another document. Engines that run stay as they are until they are replaced.
#[utoipa::path(
    post, path = "/custom-variant/config", tag = "custom-variant",
    request_body = Document,
    responses((status = 200, body = Saved), fails::InvalidBody, fails::Stored)
)]
pub async fn save_config(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Object(document): Object<Document>,
) -> Result<Json<Saved>, Problem> {
    let variant = CustomVariant::try_from(document).map_err(|problems| refused(&problems))?;
    let mut state = custom.state().await;
    let before = in_brief(&state.document);
    let kept = custom.keep_document(&mut state, variant.into_document()).await;
    kept.map_err(|error| store_problem(&error))?;
    operator.changed(before, in_brief(&state.document));
    let config = state.document.without_tokens();
    Ok(Json(Saved {
        message: "saved; POST /custom-variant/reprovision replaces the running engines",
        config,
    }))
}

/// Replaces the running engines one by one by such as the settings and the document say now.
#[utoipa::path(
    post, path = "/custom-variant/reprovision", tag = "custom-variant",
    responses((status = 200, body = Reprovisioning), fails::Commanded)
)]
pub async fn reprovision(
    State(recipes): State<Option<Arc<Recipes>>>,
    State(custom): State<Arc<Custom>>,
    State(fleet): State<Option<Fleet>>,
    operator: Operator,
) -> Result<Json<Reprovisioning>, Problem> {
    let none = || Problem::new(Code::NotFound).with_detail("nobody creates engines here");
    let recipe = recipes.as_ref().ok_or_else(none)?.current(&*custom.state().await);
    let outdated =
        present(fleet.as_ref())?.set_recipe(recipe).await.map_err(|error| fleet_problem(&error))?;
    operator.made(json!({ "engines_to_replace": outdated }));
    let message = "engines are replaced one by one, each after its streams have moved to another or ended";
    Ok(Json(Reprovisioning { message, deleted_count: outdated }))
}

/// How far a replacement is.
#[utoipa::path(
    get, path = "/custom-variant/reprovision/status", tag = "custom-variant",
    responses((status = 200, body = ReprovisionStatus), fails::NotFound)
)]
pub async fn reprovision_status(
    State(fleet): State<Option<Fleet>>,
) -> Result<Json<ReprovisionStatus>, Problem> {
    let rollout = present(fleet.as_ref())?.snapshot().rollout.clone();
    let in_progress = rollout.left > 0;
    let replaced = rollout.total.saturating_sub(rollout.left);
    let (status, phase) = match (rollout.began.is_some(), in_progress) {
        (false, _) => ("idle", None),
        (true, true) => ("in_progress", Some("provisioning")),
        (true, false) => ("success", Some("complete")),
    };
    Ok(Json(ReprovisionStatus {
        in_progress,
        status,
        message: rollout.began.map(|_| format!("{replaced} of {} engines are replaced", rollout.total)),
        timestamp: rollout.began,
        total_engines: rollout.total,
        engines_stopped: replaced,
        engines_provisioned: replaced,
        current_engine_id: None,
        current_phase: phase,
    }))
}

/// The ten places.
#[utoipa::path(get, path = "/custom-variant/templates", tag = "custom-variant", responses((status = 200, body = Listing)))]
pub async fn templates(State(custom): State<Arc<Custom>>) -> Json<Listing> {
    Json(custom.state().await.templates.list())
}

/// One template, without its tokens.
#[utoipa::path(
    get, path = "/custom-variant/templates/{slot}", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    responses((status = 200, body = TemplatePage), fails::NotFound)
)]
pub async fn template(
    State(custom): State<Arc<Custom>>,
    Path(slot): Path<String>,
) -> Result<Json<TemplatePage>, Problem> {
    let id = place(&slot)?;
    let state = custom.state().await;
    let template = state.templates.get(id).map_err(|error| template_problem(&error))?;
    let config = template.config.without_tokens();
    Ok(Json(TemplatePage { slot_id: template.slot_id, name: template.name.to_owned(), config }))
}

/// Keeps a template.
#[utoipa::path(
    post, path = "/custom-variant/templates/{slot}", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    request_body = TemplateBody,
    responses((status = 200, body = Done), fails::InvalidBody, fails::Stored)
)]
pub async fn save_template(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Path(slot): Path<String>,
    Object(body): Object<TemplateBody>,
) -> Result<Json<Done>, Problem> {
    let id = place(&slot)?;
    let variant = CustomVariant::try_from(body.config).map_err(|problems| refused(&problems))?;
    change(&custom, &operator, id, |templates| templates.save(id, &body.name, variant)).await?;
    Ok(done("the template is saved"))
}

/// Empties a place.
#[utoipa::path(
    delete, path = "/custom-variant/templates/{slot}", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    responses((status = 200, body = Done), fails::NotFound, fails::Stored)
)]
pub async fn delete_template(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Path(slot): Path<String>,
) -> Result<Json<Done>, Problem> {
    let id = place(&slot)?;
    change(&custom, &operator, id, |templates| templates.delete(id)).await?;
    Ok(done("the template is deleted"))
}

/// Calls a template something else.
#[utoipa::path(
    patch, path = "/custom-variant/templates/{slot}/rename", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    request_body = NameBody,
    responses((status = 200, body = Done), fails::NotFound, fails::Stored)
)]
pub async fn rename_template(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Path(slot): Path<String>,
    Object(body): Object<NameBody>,
) -> Result<Json<Done>, Problem> {
    let id = place(&slot)?;
    change(&custom, &operator, id, |templates| templates.rename(id, body.name.trim())).await?;
    Ok(done("the template is renamed"))
}

/// Takes a template over as the document. Whether the custom variant is used at all stays as it is.
#[utoipa::path(
    post, path = "/custom-variant/templates/{slot}/activate", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    responses((status = 200, body = Activated), fails::NotFound, fails::Stored)
)]
pub async fn activate_template(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Path(slot): Path<String>,
) -> Result<Json<Activated>, Problem> {
    let id = place(&slot)?;
    let mut state = custom.state().await;
    let mut templates = state.templates.clone();
    let variant =
        templates.activate(id, &state.document).map_err(|error| template_problem(&error))?.into_document();
    let name = templates.active().map(|template| template.name.to_owned());
    let before = in_brief(&state.document);
    custom.keep_document(&mut state, variant).await.map_err(|error| store_problem(&error))?;
    operator.changed(before, in_brief(&state.document));
    custom.keep_templates(&mut state, templates).await.map_err(|error| store_problem(&error))?;
    Ok(Json(Activated { message: "the template is active", template_id: id, template_name: name }))
}

/// A template as a file. It may hold tokens, so it takes the key.
#[utoipa::path(
    get, path = "/custom-variant/templates/{slot}/export", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    responses((status = 200, description = "A file to be kept", body = TemplatePage), fails::NotFound)
)]
pub async fn export_template(
    State(custom): State<Arc<Custom>>,
    _operator: Operator,
    Path(slot): Path<String>,
) -> Result<Response, Problem> {
    let id = place(&slot)?;
    let file = custom.state().await.templates.export(id).map_err(|error| template_problem(&error))?;
    let disposition = format!("attachment; filename={}", id.file_name());
    Ok(([(CONTENT_TYPE, "application/json".to_owned()), (CONTENT_DISPOSITION, disposition)], file)
        .into_response())
}

/// Keeps an exported template here.
#[utoipa::path(
    post, path = "/custom-variant/templates/{slot}/import", tag = "custom-variant",
    params(("slot" = u8, Path, minimum = 1, maximum = 10, description = "The template's place")),
    request_body = ImportBody,
    responses((status = 200, body = Done), fails::Stored)
)]
pub async fn import_template(
    State(custom): State<Arc<Custom>>,
    operator: Operator,
    Path(slot): Path<String>,
    Object(body): Object<ImportBody>,
) -> Result<Json<Done>, Problem> {
    let id = place(&slot)?;
    change(&custom, &operator, id, |templates| templates.import(id, &body.json_data)).await?;
    Ok(done("the template is imported"))
}

/// Changes the template at `id` and makes the change durable; none when it is refused.
async fn change(
    custom: &Custom,
    operator: &Operator,
    id: TemplateId,
    change: impl FnOnce(&mut TemplatesDocument) -> Result<(), TemplateError>,
) -> Result<(), Problem> {
    let mut state = custom.state().await;
    let mut templates = state.templates.clone();
    change(&mut templates).map_err(|error| template_problem(&error))?;
    let before = kept(&state.templates, id);
    custom.keep_templates(&mut state, templates).await.map_err(|error| store_problem(&error))?;
    operator.changed(before, kept(&state.templates, id));
    Ok(())
}

/// A template for the audit.
fn kept(templates: &TemplatesDocument, id: TemplateId) -> Value {
    let Ok(template) = templates.get(id) else { return json!({}) };
    let mut brief = in_brief(template.config);
    brief["name"] = json!(template.name);
    brief
}

/// What engines of this document are like, for the audit: without tokens and without what is off.
fn in_brief(document: &Document) -> Value {
    let document = document.without_tokens();
    let Document { enabled, platform, arm_version, memory_limit, .. } = &document;
    let mut brief = json!({
        "enabled": enabled,
        "platform": platform,
        "arm_version": arm_version,
        "memory_limit": memory_limit,
    });
    for parameter in document.parameters.iter().filter(|parameter| parameter.enabled) {
        brief[&parameter.name] = json!(parameter.value);
    }
    brief
}

fn place(slot: &str) -> Result<TemplateId, Problem> {
    TemplateId::from_str(slot).map_err(|error| template_problem(&error))
}

fn template_problem(error: &TemplateError) -> Problem {
    let code = if error.is_not_found() { Code::NotFound } else { Code::InvalidParam };
    Problem::new(code).with_detail(&error.to_string())
}

fn refused(problems: &impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidBody).with_detail(&problems.to_string())
}

fn done(message: &'static str) -> Json<Done> {
    Json(Done { message })
}
