//! `/api/v1/settings`: every setting with its value and where it comes from, and changes of those that can be changed here.
//! `/settings/engine`, `/settings/vpn` and `/settings/orchestrator` are the same in the shapes of the system that this replaces.
//!
//! All pages but `/settings/engine` are the operator's, also to read: values tell of machines, networks and names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use acemux_engine::Endpoint;
use acemux_fleet::profile::{Platform, Variant};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::events::problem as store_problem;
use super::names::problem as name_problem;
use crate::config::{
    Applies, Carried, Config, Edit, Fault, Lack, LeftOut, PortRange, Setting, Source, TunnelSettings,
    VpnMode, Wish, env_lines,
};
use crate::http::auth::Operator;
use crate::http::body::Object;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;
use crate::planes::channels::{ChannelNames, Given};
use crate::planes::custom::Custom;
use crate::planes::settings::{Changed, Manner, Refused, Settings};

/// Most settings of one request: twice as many as there are.
const MOST: usize = 256;

/// `GET /api/v1/settings`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settings)]
pub struct SettingsPage {
    /// In the order in which people read them.
    settings: Vec<Setting>,
    /// Whether any of them is another one from the next start on.
    restart_needed: bool,
}

/// What a change has done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingsChanged)]
pub struct ChangePage {
    /// Nothing was changed: this is what would be.
    dry_run: bool,
    /// The settings that are other ones.
    changed: Vec<SettingChange>,
    /// Whether any setting, of this change or of an earlier one, waits for a restart.
    restart_needed: bool,
    /// What deserves a warning since.
    warnings: Vec<String>,
}

/// One setting that is another one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedSetting)]
pub struct SettingChange {
    /// Its name.
    name: &'static str,
    /// What it was, or was to be from the next start on.
    before: Option<String>,
    /// What it is, or is to be from the next start on.
    after: Option<String>,
    /// Where that comes from.
    source: Source,
    /// When.
    applies: Applies,
}

/// Body of `PATCH /api/v1/settings`: values by names; null resets. Kept as it came, so that what is asked for twice is
/// refused.
#[derive(Clone, Debug, ToSchema)]
#[schema(as = SettingEdits, value_type = Object)]
pub struct Edits(Vec<Edit>);

/// Body of `PUT /api/v1/settings/{name}`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SettingValue)]
#[serde(deny_unknown_fields)]
pub struct OneValue {
    /// As the setting takes it, also as a number, true or false, or a list; null takes a change back.
    #[schema(value_type = Value)]
    value: Value,
}

/// Query of what changes settings.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// Only tell what would be changed.
    #[serde(default)]
    dry_run: bool,
}

/// Query of `POST /settings/import`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Only tell what would be changed.
    #[serde(default)]
    dry_run: bool,
    /// Reset what was changed here and is not in the import, and forget the names of channels that are not.
    #[serde(default)]
    replace: bool,
}

/// Body of `POST /settings/import`: what an export is. What else stands there is not looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SettingsImport)]
pub struct Import {
    /// Values by names.
    settings: Edits,
    /// What channels are called, by their ids.
    #[serde(default)]
    channel_names: BTreeMap<String, String>,
}

/// Query of `GET /settings/export`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `json`, or `env` for lines of a `.env` file.
    #[serde(default)]
    #[param(inline)]
    format: ExportFormat,
    /// Also what the environment, `.env`, `acemux.toml` and flags say.
    #[serde(default)]
    all: bool,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// To be imported again.
    #[default]
    Json,
    /// To be read where the service is started.
    Env,
}

/// `GET /settings/export`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingsExport)]
pub struct Export {
    /// Which version of this program wrote it.
    acemux: &'static str,
    /// When.
    at: Timestamp,
    /// By their names.
    settings: BTreeMap<&'static str, String>,
    /// What is set and is not in it.
    left_out: Vec<LeftOut>,
    /// What channels are called, by their ids.
    channel_names: BTreeMap<String, String>,
}

/// Every setting.
#[utoipa::path(get, path = "/settings", tag = "settings", responses((status = 200, body = SettingsPage)))]
pub async fn list(_: Operator, State(settings): State<Arc<Settings>>) -> Json<SettingsPage> {
    let settings = settings.list().await;
    let restart_needed = settings.iter().any(|setting| setting.coming.is_some());
    Json(SettingsPage { settings, restart_needed })
}

/// One.
#[utoipa::path(
    get, path = "/settings/{name}", tag = "settings",
    params(("name" = String, Path, description = "A setting, in capitals or small letters")),
    responses((status = 200, body = Setting), fails::NotFound)
)]
pub async fn one(
    _: Operator,
    State(settings): State<Arc<Settings>>,
    Path(name): Path<String>,
) -> Result<Json<Setting>, Problem> {
    find(&settings, &name).await.map(Json)
}

/// Changes several at once, all or none.
#[utoipa::path(
    patch, path = "/settings", tag = "settings",
    params(ChangeQuery),
    request_body(content = Edits, description = "Values by names; null takes a change back"),
    responses((status = 200, body = ChangePage), fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn patch(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    Query(query): Query<ChangeQuery>,
    Object(Edits(edits)): Object<Edits>,
) -> Result<Json<ChangePage>, Problem> {
    let manner = Manner { is_dry: query.dry_run, ..Manner::default() };
    let changed = settings.change(|_| edits, manner).await;
    told(&operator, changed, manner)
}

/// Changes one.
#[utoipa::path(
    put, path = "/settings/{name}", tag = "settings",
    params(("name" = String, Path, description = "A setting, in capitals or small letters"), ChangeQuery),
    request_body = OneValue,
    responses((status = 200, body = ChangePage), fails::NotFound, fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn put(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    Path(name): Path<String>,
    Query(query): Query<ChangeQuery>,
    Object(OneValue { value }): Object<OneValue>,
) -> Result<Json<ChangePage>, Problem> {
    let name = find(&settings, &name).await?.name.to_owned();
    let edits = vec![Edit { name, wish: wish(&value) }];
    let manner = Manner { is_dry: query.dry_run, ..Manner::default() };
    told(&operator, settings.change(|_| edits, manner).await, manner)
}

/// Takes a change back: what is written elsewhere counts again, or the default.
#[utoipa::path(
    delete, path = "/settings/{name}", tag = "settings",
    params(("name" = String, Path, description = "A setting, in capitals or small letters")),
    responses((status = 200, body = ChangePage), fails::NotFound, fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn reset(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    Path(name): Path<String>,
) -> Result<Json<ChangePage>, Problem> {
    let name = find(&settings, &name).await?.name.to_owned();
    let edits = vec![Edit { name, wish: Wish::Reset }];
    let manner = Manner::default();
    told(&operator, settings.change(|_| edits, manner).await, manner)
}

/// Settings to be carried elsewhere, without secrets.
#[utoipa::path(
    get, path = "/settings/export", tag = "settings",
    params(ExportQuery),
    responses((status = 200, description = "A file to be kept", content((Export = "application/json"), (String = "text/plain"))))
)]
pub async fn export(
    _: Operator,
    State(settings): State<Arc<Settings>>,
    State(channels): State<Arc<ChannelNames>>,
    Query(query): Query<ExportQuery>,
) -> Response {
    let carried = settings.carried(query.all).await;
    let named = |name: &str| format!("attachment; filename={name}");
    match query.format {
        ExportFormat::Json => {
            let Carried { settings, left_out } = carried;
            let at = Timestamp::now();
            let channel_names = channels.all();
            let export = Export { acemux: env!("CARGO_PKG_VERSION"), at, settings, left_out, channel_names };
            ([(CONTENT_DISPOSITION, named("acemux-settings.json"))], Json(export)).into_response()
        }
        ExportFormat::Env => {
            let kind = "text/plain; charset=utf-8".to_owned();
            let headers = [(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, named("acemux.env"))];
            (headers, env_lines(&carried)).into_response()
        }
    }
}

/// Takes an export over, all of its settings or none, and then the names of channels. What is written elsewhere just so is no change.
#[utoipa::path(
    post, path = "/settings/import", tag = "settings",
    params(ImportQuery),
    request_body = Import,
    responses((status = 200, body = ChangePage), fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn import(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    State(channels): State<Arc<ChannelNames>>,
    Query(query): Query<ImportQuery>,
    Object(Import { settings: Edits(edits), channel_names }): Object<Import>,
) -> Result<Json<ChangePage>, Problem> {
    let given = Given::parse(&channel_names).map_err(|unfit| name_problem(&unfit))?;
    let manner = Manner { is_dry: query.dry_run, is_lenient: true };
    let changed = settings.change(
        |saved| {
            let is_named =
                |name: &str| edits.iter().any(|Edit { name: other, .. }| other.eq_ignore_ascii_case(name));
            let others = saved.names().filter(|name| query.replace && !is_named(name));
            let taken_back = others.map(|name| Edit { name: name.to_owned(), wish: Wish::Reset });
            let taken_back: Vec<Edit> = taken_back.collect();
            edits.into_iter().chain(taken_back).collect()
        },
        manner,
    );
    let changed = told(&operator, changed.await, manner)?;
    if !query.dry_run {
        channels.take_over(given, query.replace).await.map_err(|unfit| name_problem(&unfit))?;
    }
    Ok(changed)
}

async fn find(settings: &Settings, name: &str) -> Result<Setting, Problem> {
    let all = settings.list().await;
    let found = all.into_iter().find(|setting| setting.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Problem::new(Code::NotFound).with_detail("no setting has this name"))
}

/// What a page says of a change, and the audit.
fn told(
    operator: &Operator,
    changed: Result<Changed, Refused>,
    manner: Manner,
) -> Result<Json<ChangePage>, Problem> {
    let Changed { before, after, warnings, restart_needed } = changed.map_err(refused)?;
    if !manner.is_dry {
        operator.changed(in_words(&before), in_words(&after));
    }
    let change = |(before, after): (Setting, Setting)| {
        let (was, _) = to_be(&before);
        let (value, source) = to_be(&after);
        SettingChange { name: after.name, before: was, after: value, source, applies: after.applies }
    };
    let changed = before.into_iter().zip(after).map(change).collect();
    Ok(Json(ChangePage { dry_run: manner.is_dry, changed, restart_needed, warnings }))
}

/// What a setting is, sooner or later. Secrets are masked there already, and cannot be changed here.
fn to_be(setting: &Setting) -> (Option<String>, Source) {
    let coming = setting.coming.as_ref().map(|coming| (coming.value.clone(), coming.source));
    coming.unwrap_or_else(|| (setting.value.clone(), setting.source))
}

/// For the audit.
fn in_words(settings: &[Setting]) -> Value {
    let pair = |setting: &Setting| (setting.name.to_owned(), json!(to_be(setting).0));
    Value::Object(settings.iter().map(pair).collect())
}

/// Why nothing was changed, as a client is told.
pub(super) fn refused(refused: Refused) -> Problem {
    let faults = match refused {
        Refused::Faults(faults) => faults,
        Refused::Store(error) => return store_problem(&error),
    };
    let only = faults.iter().all(|fault| matches!(fault.code, Lack::Fixed | Lack::NotChangeable));
    let code = if only { Code::SettingFixed } else { Code::InvalidSetting };
    let first = faults.first().map(|fault| format!("{}: {}", fault.name, fault.reason)).unwrap_or_default();
    let detail = match faults.len() {
        0 | 1 => first,
        many => format!("{many} settings, the first {first}"),
    };
    Problem::new(code).with_detail(&detail).with_faults(faults)
}

/// A value as JSON has it, and as the setting's own item reads it.
fn wish(value: &Value) -> Wish {
    match value {
        Value::Null => Wish::Reset,
        Value::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(scalar).collect();
            parts.map_or(Wish::Nonsense, |parts| Wish::Value(parts.join(",")))
        }
        value => scalar(value).map_or(Wish::Nonsense, Wish::Value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl<'de> Deserialize<'de> for Edits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Edits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Edits, A::Error> {
                let mut edits = Vec::new();
                while let Some((name, value)) = pairs.next_entry::<String, Value>()? {
                    if edits.len() == MOST {
                        return Err(de::Error::custom("too many settings"));
                    }
                    edits.push(Edit { name, wish: wish(&value) });
                }
                Ok(Edits(edits))
            }
        }

        from.deserialize_map(Pairs)
    }
}

/// `GET /settings/engine`, in the reference's shape.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EngineSettings)]
pub struct EnginePage {
    min_replicas: usize,
    max_replicas: usize,
    auto_delete: bool,
    /// In force; another one applies after a restart.
    engine_variant: String,
    use_custom_variant: bool,
    platform: Platform,
    /// Whether nobody creates engines here and those of `ENGINES` are used.
    manual_mode: bool,
    manual_engines: Vec<ManualEngine>,
    /// What became of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<&'static str>,
}

/// An engine that somebody else runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct ManualEngine {
    host: String,
    port: u16,
}

/// `GET /settings/vpn`, in the reference's shape.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VpnSettings)]
pub struct VpnPage {
    enabled: bool,
    vpn_mode: &'static str,
    container_name: Option<String>,
    container_name_2: Option<String>,
    api_port: Option<u16>,
    port_range_1: Option<String>,
    port_range_2: Option<String>,
    health_check_interval_s: f64,
    port_cache_ttl_s: f64,
    /// Engines are made anew when their network is gone, and only then.
    restart_engines_on_reconnect: bool,
    unhealthy_restart_timeout_s: f64,
    /// What became of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<&'static str>,
}

/// `GET /settings/orchestrator`: settings of the fleet under their own names in small letters, as numbers of seconds where
/// they are times.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrchestratorSettings)]
pub struct OrchestratorPage {
    min_free_replicas: usize,
    max_streams_per_engine: usize,
    max_concurrent_provisions: usize,
    min_provision_interval_s: f64,
    startup_timeout_s: f64,
    engine_grace_period_s: f64,
    monitor_interval_s: f64,
    health_failure_threshold: usize,
    health_unhealthy_grace_period_s: f64,
    circuit_breaker_failure_threshold: u32,
    circuit_breaker_recovery_timeout_s: f64,
    circuit_breaker_replacement_threshold: u32,
    circuit_breaker_replacement_timeout_s: f64,
    port_range_host: String,
    ace_https_range: String,
    ace_map_https: bool,
    /// Whether `LOG_LEVEL` is `debug` or more.
    debug_mode: bool,
    /// What became of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<&'static str>,
}

/// Some of what the page tells, to be changed.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SettingsForm, value_type = Object)]
pub struct Form(Map<String, Value>);

/// The reference's keys, and the settings that they mean.
const ENGINE_KEYS: [(&str, &str); 4] = [
    ("min_replicas", "MIN_REPLICAS"),
    ("max_replicas", "MAX_REPLICAS"),
    ("auto_delete", "AUTO_DELETE"),
    ("engine_variant", "ENGINE_VARIANT"),
];

/// The same of VPNs.
const VPN_KEYS: [(&str, &str); 9] = [
    ("vpn_mode", "VPN_MODE"),
    ("container_name", "GLUETUN_CONTAINER_NAME"),
    ("container_name_2", "GLUETUN_CONTAINER_NAME_2"),
    ("api_port", "GLUETUN_API_PORT"),
    ("port_range_1", "GLUETUN_PORT_RANGE_1"),
    ("port_range_2", "GLUETUN_PORT_RANGE_2"),
    ("health_check_interval_s", "GLUETUN_HEALTH_CHECK_INTERVAL_S"),
    ("port_cache_ttl_s", "GLUETUN_PORT_CACHE_TTL_S"),
    ("unhealthy_restart_timeout_s", "VPN_UNHEALTHY_RESTART_TIMEOUT_S"),
];

/// Its word for a level of the log.
const DEBUG_MODE: &str = "debug_mode";
const LOG_LEVEL: &str = "LOG_LEVEL";

/// What is said after a change.
const SAVED: &str = "saved";
const SAVED_FOR_LATER: &str = "saved; some of it applies after a restart, see /api/v1/settings";

/// Public, as there: it tells no more than `/orchestrator/status`.
#[utoipa::path(get, path = "/settings/engine", tag = "settings", responses((status = 200, body = EnginePage)))]
pub async fn engine(
    State(settings): State<Arc<Settings>>,
    State(custom): State<Arc<Custom>>,
) -> Json<EnginePage> {
    Json(EnginePage::of(&settings.config(), custom.state().await.document.enabled))
}

/// Changes what is given.
#[utoipa::path(
    post, path = "/settings/engine", tag = "settings",
    request_body = Form,
    responses((status = 200, body = EnginePage), fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn change_engine(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    State(custom): State<Arc<Custom>>,
    Object(Form(body)): Object<Form>,
) -> Result<Json<EnginePage>, Problem> {
    let is_custom = custom.state().await.document.enabled;
    let now = json!(EnginePage::of(&settings.config(), is_custom));
    // A form sends all that the page says; what is as it was asks for nothing.
    let edits = meant(body, &ENGINE_KEYS, |key, value| now.get(key) == Some(value))?;
    let restart_needed = change(&operator, &settings, edits).await?;
    let page = EnginePage::of(&settings.config(), is_custom);
    Ok(Json(EnginePage { message: Some(message(restart_needed)), ..page }))
}

/// VPNs, as the settings name them.
#[utoipa::path(get, path = "/settings/vpn", tag = "settings", responses((status = 200, body = VpnPage)))]
pub async fn vpn(_: Operator, State(settings): State<Arc<Settings>>) -> Json<VpnPage> {
    Json(VpnPage::of(&settings.config()))
}

/// Changes what is given.
#[utoipa::path(
    post, path = "/settings/vpn", tag = "settings",
    request_body = Form,
    responses((status = 200, body = VpnPage), fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn change_vpn(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    Object(Form(mut body)): Object<Form>,
) -> Result<Json<VpnPage>, Problem> {
    // Off is a mode here; on is whatever the containers come to.
    if let Some(Value::Bool(enabled)) = body.remove("enabled") {
        let is_on = settings.config().vpn.mode != VpnMode::Off;
        if enabled != is_on {
            body.entry("vpn_mode").or_insert(if enabled { Value::Null } else { json!("off") });
        }
    }
    let now = json!(VpnPage::of(&settings.config()));
    let told = ["restart_engines_on_reconnect", "message"];
    let edits = meant(body, &VPN_KEYS, |key, value| {
        // A form sends all of its fields; those that are as they were ask for nothing.
        let is_same = now.get(key) == Some(value);
        is_same || (told.contains(&key) && value.is_boolean())
    })?;
    let restart_needed = change(&operator, &settings, edits).await?;
    let page = VpnPage::of(&settings.config());
    Ok(Json(VpnPage { message: Some(message(restart_needed)), ..page }))
}

/// The fleet's, as later versions of the system that this replaces show them.
#[utoipa::path(
    get, path = "/settings/orchestrator", tag = "settings",
    responses((status = 200, body = OrchestratorPage))
)]
pub async fn orchestrator(_: Operator, State(settings): State<Arc<Settings>>) -> Json<OrchestratorPage> {
    Json(OrchestratorPage::of(&settings.config()))
}

/// Changes what is given: of any settings, by their names in small letters.
#[utoipa::path(
    post, path = "/settings/orchestrator", tag = "settings",
    request_body = Form,
    responses((status = 200, body = OrchestratorPage), fails::InvalidSetting, fails::SettingFixed, fails::Stored)
)]
pub async fn change_orchestrator(
    operator: Operator,
    State(settings): State<Arc<Settings>>,
    Object(Form(body)): Object<Form>,
) -> Result<Json<OrchestratorPage>, Problem> {
    let now = json!(OrchestratorPage::of(&settings.config()));
    let edit = |(key, value): (String, Value)| match (key.as_str(), value) {
        (DEBUG_MODE, Value::Bool(true)) => Edit { name: LOG_LEVEL.into(), wish: Wish::Value("debug".into()) },
        (DEBUG_MODE, Value::Bool(false)) => Edit { name: LOG_LEVEL.into(), wish: Wish::Reset },
        (_, value) if value == json!("") => Edit { name: key, wish: Wish::Reset },
        (_, value) => Edit { wish: wish(&value), name: key },
    };
    // A form sends all that the page says; what is as it was asks for nothing.
    let is_news = |(key, value): &(String, Value)| key != "message" && now.get(key) != Some(value);
    let edits = body.into_iter().take(MOST).filter(is_news).map(edit).collect();
    let restart_needed = change(&operator, &settings, edits).await?;
    let page = OrchestratorPage::of(&settings.config());
    Ok(Json(OrchestratorPage { message: Some(message(restart_needed)), ..page }))
}

/// The settings that a body of the reference's means. An empty text or null is none; `ignored` says what asks for nothing.
fn meant(
    body: Map<String, Value>,
    keys: &[(&str, &str)],
    ignored: impl Fn(&str, &Value) -> bool,
) -> Result<Vec<Edit>, Problem> {
    let (mut edits, mut faults) = (Vec::new(), Vec::new());
    for (key, value) in body.into_iter().take(MOST).filter(|(key, value)| !ignored(key, value)) {
        match keys.iter().find(|(known, _)| *known == key) {
            Some((_, name)) if value == json!("") => {
                edits.push(Edit { name: (*name).to_owned(), wish: Wish::Reset });
            }
            Some((_, name)) => edits.push(Edit { name: (*name).to_owned(), wish: wish(&value) }),
            None => faults.push(Fault::of_key(&key)),
        }
    }
    if faults.is_empty() { Ok(edits) } else { Err(refused(Refused::Faults(faults))) }
}

async fn change(operator: &Operator, settings: &Settings, edits: Vec<Edit>) -> Result<bool, Problem> {
    let manner = Manner::default();
    let changed = settings.change(|_| edits, manner).await;
    told(operator, changed, manner).map(|Json(page)| page.restart_needed)
}

fn message(restart_needed: bool) -> &'static str {
    if restart_needed { SAVED_FOR_LATER } else { SAVED }
}

impl EnginePage {
    fn of(config: &Config, use_custom_variant: bool) -> Self {
        let Config { fleet, engines, .. } = config;
        let variant = fleet.engine.variant.unwrap_or_else(|| Variant::default_for(Platform::here()));
        let manual = |engine: &Endpoint| ManualEngine { host: engine.host().to_owned(), port: engine.port() };
        Self {
            min_replicas: fleet.min_replicas,
            max_replicas: fleet.max_replicas,
            auto_delete: fleet.auto_delete,
            engine_variant: variant.as_str().to_owned(),
            use_custom_variant,
            platform: Platform::here(),
            manual_mode: !fleet.is_docker,
            manual_engines: engines.external.iter().map(manual).collect(),
            message: None,
        }
    }
}

impl VpnPage {
    fn of(config: &Config) -> Self {
        let vpn = &config.vpn;
        let tunnel = |at: usize| vpn.tunnels.get(at);
        let name = |tunnel: &TunnelSettings| tunnel.container.as_str().to_owned();
        let range = |tunnel: &TunnelSettings| format!("{}-{}", tunnel.ports.first, tunnel.ports.last);
        Self {
            enabled: vpn.mode != VpnMode::Off,
            vpn_mode: match vpn.mode {
                VpnMode::Off => "off",
                VpnMode::Single => "single",
                VpnMode::Redundant => "redundant",
            },
            container_name: tunnel(0).map(name),
            container_name_2: tunnel(1).map(name),
            api_port: vpn.control_port,
            port_range_1: tunnel(0).map(range),
            port_range_2: tunnel(1).map(range),
            health_check_interval_s: vpn.check_interval.as_secs_f64(),
            port_cache_ttl_s: vpn.port_ttl.as_secs_f64(),
            restart_engines_on_reconnect: false,
            unhealthy_restart_timeout_s: vpn.restart_after.unwrap_or_default().as_secs_f64(),
            message: None,
        }
    }
}

impl OrchestratorPage {
    fn of(config: &Config) -> Self {
        let Config { fleet, engines, log, .. } = config;
        let ((failures, recovery), (replacements, pause)) = (fleet.growth, fleet.replacement);
        let range = |ports: &PortRange| format!("{}-{}", ports.first, ports.last);
        Self {
            min_free_replicas: fleet.min_free_replicas,
            max_streams_per_engine: engines.max_streams_per_engine,
            max_concurrent_provisions: fleet.concurrent,
            min_provision_interval_s: fleet.interval.as_secs_f64(),
            startup_timeout_s: engines.startup_timeout.as_secs_f64(),
            engine_grace_period_s: fleet.idle_grace.as_secs_f64(),
            monitor_interval_s: fleet.monitor.as_secs_f64(),
            health_failure_threshold: fleet.failure_threshold,
            health_unhealthy_grace_period_s: fleet.unhealthy_grace.as_secs_f64(),
            circuit_breaker_failure_threshold: failures,
            circuit_breaker_recovery_timeout_s: recovery.as_secs_f64(),
            circuit_breaker_replacement_threshold: replacements,
            circuit_breaker_replacement_timeout_s: pause.as_secs_f64(),
            port_range_host: range(&fleet.ports),
            ace_https_range: range(&fleet.https_ports),
            ace_map_https: fleet.map_https,
            debug_mode: log.level >= tracing::Level::DEBUG,
            message: None,
        }
    }
}
