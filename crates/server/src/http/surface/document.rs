//! What OpenAPI says of the pages, made of what stands at each handler and of what holds for all of them: who may ask,
//! and what is answered before a handler sees the request ([`crate::http::edge`]).

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{AdditionalProperties, AnyOf, ArrayItems, SchemaType};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, Content, HeaderBuilder, Info, License, ObjectBuilder, OpenApi, Paths, Ref, RefOr, Response,
    ResponseBuilder, Schema, SecurityRequirement, Server, Type,
};
use utoipa::openapi::{header::Header, tag::TagBuilder};
use utoipa::{PartialSchema as _, ToSchema};

use super::shapes::is_partial;
use super::{Class, MIRROR, Page, Pages, Surface, fails};
use crate::http::api::live::LiveEvent;
use crate::http::logins::COOKIE;
use crate::http::problem::{CONTENT_TYPE_PROBLEM, Code, ProblemBody};

/// What pages are about, in the order in which they are told.
const TAGS: [(&str, &str); 13] = [
    ("playback", "What players fetch: one address per channel, for any number of them."),
    ("sessions", "The streams that play, who watches them, and where they play."),
    ("streams", "The same in the shape of `/streams`, with streams that other programs run on our engines."),
    ("engines", "The engines and what they use."),
    ("fleet", "How many engines there are, what is done next and why."),
    ("vpn", "The VPNs that engines hide behind."),
    ("health", "Whether the service is well, for people, probes and Prometheus."),
    ("events", "What happened, and what happens at this moment."),
    ("channels", "What is known of channels: their names, and those that play their end again and again."),
    ("custom-variant", "The engine that an operator builds from parameters."),
    ("login", "A browser shows the key once and is known by a cookie from then on."),
    ("dashboard", "What people open in a browser."),
    ("documentation", "This document."),
];

const ABOUT: &str = "\
The gateway between AceStream engines and players.\n\n\
Most pages are at the root, where the system before this one had them, and the same under `/api/v1`: their path items name \
both as servers. Pages that it does not have are under `/api/v1` only, media at the root only.\n\n\
The key is given as `X-API-KEY: k` or as `Authorization: Bearer k`, or by the cookie \
of a login, which changes something only from a page of ours.\n\n\
Every error is `application/problem+json` with `detail`, `code`, `status` and `request_id`; clients match on `code`. Every \
answer has `X-Request-Id`. GET pages answer HEAD. In answers a field that may be null is always there, and a field that may be \
missing is never null.";

/// Where references to schemas lead.
const SCHEMAS: &str = "#/components/schemas/";

/// The names of the ways to show who one is.
const SCHEMES: [&str; 3] = ["key", "bearer", "login"];

/// The document.
pub(super) fn of<S>(Surface { root, mirrored, own }: &Surface<S>) -> OpenApi {
    let mut document = Document::default();
    document.add(root, |path| (path.to_owned(), None));
    let both = [server("/", "As the system before this one had it"), server(MIRROR, "The same")];
    document.add(mirrored, |path| (path.to_owned(), Some(both.to_vec())));
    document.add(own, |path| (format!("{MIRROR}{path}"), None));
    document.finish()
}

fn server(url: &str, description: &str) -> Server {
    let mut server = Server::new(url);
    server.description = Some(description.to_owned());
    server
}

/// A document that is being made.
struct Document {
    paths: Paths,
    components: Components,
}

impl Default for Document {
    fn default() -> Self {
        let mut components = Components::new();
        let mut schemas = vec![(LiveEvent::name().into_owned(), LiveEvent::schema())];
        schemas.push((ProblemBody::name().into_owned(), ProblemBody::schema()));
        LiveEvent::schemas(&mut schemas);
        ProblemBody::schemas(&mut schemas);
        components.schemas.extend(schemas);
        for (name, scheme) in SCHEMES.into_iter().zip(schemes()) {
            components.add_security_scheme(name, scheme);
        }
        Self { paths: Paths::new(), components }
    }
}

fn schemes() -> [SecurityScheme; 3] {
    let described = |name: &str, words: &str| ApiKeyValue::with_description(name, words);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    [
        SecurityScheme::ApiKey(ApiKey::Header(described("X-API-KEY", "`API_KEY`"))),
        SecurityScheme::Http(bearer.description(Some("`API_KEY`")).build()),
        SecurityScheme::ApiKey(ApiKey::Cookie(described(
            COOKIE,
            "As `POST /api/v1/login` gives it; its name goes on with what tells services of one host apart",
        ))),
    ]
}

impl Document {
    fn add<S>(&mut self, pages: &Pages<S>, place: impl Fn(&str) -> (String, Option<Vec<Server>>)) {
        self.components.schemas.extend(pages.schemas.iter().cloned());
        for Page { path, item, class } in &pages.all {
            let (path, servers) = place(path);
            let mut item = item.clone();
            item.servers = servers;
            for (method, operation) in operations_mut(&mut item) {
                self.complete(operation, (&method, &path), *class);
            }
            match self.paths.paths.get_mut(&path) {
                Some(known) => known.merge_operations(item),
                None => drop(self.paths.paths.insert(path, item)),
            }
        }
    }

    /// What stands at no handler, because it holds for many.
    fn complete(&mut self, operation: &mut Operation, (method, path): (&Method, &str), class: Class) {
        operation.operation_id = Some(id_of(method, path));
        operation.security = Some(security(class));
        let access = ExtensionsBuilder::new().add("x-access", json!(class.as_str())).build();
        operation.extensions.get_or_insert_default().merge(access);
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            never_null(body);
        }
        let described = std::mem::take(&mut operation.responses.responses);
        let (fails, mut answers): (BTreeMap<_, _>, BTreeMap<_, _>) =
            described.into_iter().partition(|(key, _)| fails::code_in(key).is_some());
        for (status, answer) in &mut answers {
            name_answer(status, answer);
        }
        let own: Vec<Code> = fails.keys().filter_map(|key| fails::code_in(key)).collect();
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        let common = common(operation, method, class);
        for code in Code::ALL.iter().filter(|code| common.contains(code) || own.contains(code)) {
            by_status.entry(code.status().as_u16()).or_default().push(*code);
        }
        for (status, codes) in by_status {
            answers.entry(status.to_string()).or_insert_with(|| self.problem(&codes));
        }
        operation.responses.responses = answers;
    }

    /// The answer of these codes, which have one status. It stands once in the document.
    fn problem(&mut self, codes: &[Code]) -> RefOr<Response> {
        let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let name = words.join(".");
        self.components.responses.entry(name.clone()).or_insert_with(|| problem(codes).into());
        RefOr::Ref(Ref::from_response_name(name))
    }

    /// The schemas of what requests bring, where a field that may be null may be missing as well.
    fn asked(&self) -> BTreeSet<String> {
        let operations = self.paths.paths.values().flat_map(super::operations);
        let bodies = operations.filter_map(|(_, operation)| operation.request_body.as_ref());
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = bodies.flat_map(names_in).collect();
        while let Some(name) = open.pop() {
            if let Some(schema) = self.components.schemas.get(&name) {
                open.extend(names_in(schema).into_iter().filter(|name| !found.contains(name)));
                found.insert(name);
            }
        }
        found
    }

    fn finish(mut self) -> OpenApi {
        self.components.schemas.values_mut().for_each(loosen);
        let asked = self.asked();
        for (name, schema) in &mut self.components.schemas {
            if !asked.contains(name) && !is_partial(name) {
                require_nullable(schema);
            }
        }
        let mut info = Info::new("acemux", env!("CARGO_PKG_VERSION"));
        let classes = Class::ALL.map(|class| format!("* `{}`: {}\n", class.as_str(), class.meaning()));
        info.description =
            Some(format!("{ABOUT}\n\n`x-access` says who may ask for a page:\n\n{}", classes.concat()));
        let mut license = License::new(env!("CARGO_PKG_LICENSE"));
        license.identifier = Some(license.name.clone());
        info.license = Some(license);
        let tag = |(name, about): (&str, &str)| TagBuilder::new().name(name).description(Some(about)).build();
        let mut document = OpenApi::new(info, self.paths);
        document.servers = Some(vec![server("/", "This service")]);
        document.tags = Some(TAGS.map(tag).to_vec());
        document.components = Some(self.components);
        document
    }
}

/// The schemas that this part of a document refers to.
fn names_in(part: &impl Serialize) -> Vec<String> {
    let mut names = Vec::new();
    collect(&serde_json::to_value(part).unwrap_or_default(), &mut names);
    names
}

fn collect(part: &Value, names: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            names.extend(name.and_then(|name| name.strip_prefix(SCHEMAS)).map(str::to_owned));
            fields.values().for_each(|part| collect(part, names));
        }
        Value::Array(items) => items.iter().for_each(|part| collect(part, names)),
        _ => {}
    }
}

/// `getProxySessionsId`: one name for each way to ask.
fn id_of(method: &Method, path: &str) -> String {
    let words = path.strip_prefix(MIRROR).unwrap_or(path).split(|sign: char| !sign.is_ascii_alphanumeric());
    let mut id = method.as_str().to_ascii_lowercase();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        id.extend([&*first.to_ascii_uppercase(), rest]);
    }
    id + if path.ends_with('/') { "Slash" } else { "" }
}

fn security(class: Class) -> Vec<SecurityRequirement> {
    let any = || SCHEMES.map(|scheme| SecurityRequirement::new(scheme, [] as [&str; 0]));
    match class {
        Class::Media | Class::Probe | Class::Status | Class::Login => Vec::new(),
        Class::Extended => [SecurityRequirement::default()].into_iter().chain(any()).collect(),
        Class::Operator => any().to_vec(),
    }
}

/// What is answered where a request ends before its handler, or in what its handler takes.
fn common(operation: &Operation, method: &Method, class: Class) -> Vec<Code> {
    let mut codes = vec![
        Code::AmbiguousHost,
        Code::BadFraming,
        Code::BadEncoding,
        Code::BodyTooLarge,
        Code::UriTooLong,
        Code::ExpectationFailed,
        Code::HeadersTooLarge,
        Code::TooManyRequests,
        Code::ServerFull,
        Code::Internal,
    ];
    let takes = |place: ParameterIn| {
        operation
            .parameters
            .iter()
            .flatten()
            .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == place))
    };
    if takes(ParameterIn::Path) || takes(ParameterIn::Query) {
        codes.push(Code::InvalidParam);
    }
    if class.asks_for_host() {
        codes.push(Code::BadHost);
    }
    if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        codes.extend([Code::BadOrigin, Code::UnsupportedMediaType, Code::RequestTimeout]);
    }
    if operation.request_body.is_some() {
        codes.push(Code::InvalidBody);
    }
    match class {
        Class::Media | Class::Probe | Class::Status => {}
        Class::Extended => codes.extend([Code::WrongKey, Code::AmbiguousKey, Code::BadOrigin]),
        Class::Login => codes.extend([Code::WrongKey, Code::ShortKey, Code::NoKey]),
        Class::Operator => codes.extend([
            Code::MissingKey,
            Code::WrongKey,
            Code::ShortKey,
            Code::NoKey,
            Code::AmbiguousKey,
            Code::BadOrigin,
        ]),
    }
    codes
}

/// A body that may be left out is an object where it is there.
fn never_null(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(of))) = &mut content.schema
        {
            of.items.retain(|item| !is_nullable(item));
            content.schema = of.items.pop();
        }
    }
}

fn problem(codes: &[Code]) -> Response {
    let status = codes.first().map_or(StatusCode::INTERNAL_SERVER_ERROR, |code| code.status());
    let lines = codes.iter().map(|code| format!("`{code}`: {}", code.detail()));
    let words = codes.iter().map(|code| code.as_str());
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
    let schema = utoipa::openapi::AllOfBuilder::new()
        .item(Ref::from_schema_name(ProblemBody::name()))
        .item(ObjectBuilder::new().property("code", code));
    let content = Content::builder().schema(Some(Schema::from(schema.build()))).build();
    let response = ResponseBuilder::new()
        .description(lines.collect::<Vec<_>>().join("\n"))
        .content(CONTENT_TYPE_PROBLEM, content);
    match status {
        StatusCode::UNAUTHORIZED => response.header("WWW-Authenticate", text("How the key is given")),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            response.header("Retry-After", seconds())
        }
        _ => response,
    }
    .build()
}

fn text(about: &str) -> Header {
    HeaderBuilder::new().schema(Some(String::schema())).description(Some(about)).build()
}

fn seconds() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds")).build()
}

/// A status says what there is to say of an answer that has no words of its own.
fn name_answer(status: &str, answer: &mut RefOr<Response>) {
    let RefOr::T(answer) = answer else { return };
    if answer.description.is_empty() {
        let status = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
        let reason = status.and_then(|status| status.canonical_reason());
        answer.description.push_str(reason.unwrap_or("Done"));
    }
}

/// What serde tells apart by its fields alone may well be both: a VPN is also a summary.
fn loosen(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::OneOf(of)) = schema
        && of.items.iter().all(|item| matches!(item, RefOr::Ref(_)))
    {
        let mut any = AnyOf::new();
        any.items = std::mem::take(&mut of.items);
        any.description = of.description.take();
        *schema = Schema::AnyOf(any).into();
    }
}

/// Fields that may be null are always there: serde writes `None` as null unless it is told to leave it out, and those
/// fields are described as never null.
fn require_nullable(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let missing = object.properties.iter().filter(|(_, schema)| is_nullable(schema));
            let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
            for name in missing {
                if !object.required.contains(&name) {
                    object.required.push(name);
                }
            }
            object.properties.values_mut().for_each(require_nullable);
            if let Some(AdditionalProperties::RefOr(schema)) = object.additional_properties.as_deref_mut() {
                require_nullable(schema);
            }
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                require_nullable(items);
            }
        }
        RefOr::T(Schema::OneOf(of)) => of.items.iter_mut().for_each(require_nullable),
        RefOr::T(Schema::AllOf(of)) => of.items.iter_mut().for_each(require_nullable),
        RefOr::T(Schema::AnyOf(of)) => of.items.iter_mut().for_each(require_nullable),
        RefOr::Ref(_) | RefOr::T(_) => {}
    }
}

fn is_nullable(schema: &RefOr<Schema>) -> bool {
    let has_null = |kind: &SchemaType| match kind {
        SchemaType::Type(kind) => *kind == Type::Null,
        SchemaType::Array(kinds) => kinds.contains(&Type::Null),
        SchemaType::AnyValue => false,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => has_null(&object.schema_type),
        RefOr::T(Schema::Array(array)) => has_null(&array.schema_type),
        RefOr::T(Schema::OneOf(of)) => of.items.iter().any(is_nullable),
        RefOr::T(Schema::AnyOf(of)) => of.items.iter().any(is_nullable),
        RefOr::Ref(_) | RefOr::T(_) => false,
    }
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::HEAD, &mut item.head),
        (Method::OPTIONS, &mut item.options),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
