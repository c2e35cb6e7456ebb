//! `/api/v1/login`, `/api/v1/logout` and `/api/v1/logins`: a browser shows the key once and is known by a cookie from
//! then on ([`crate::http::logins`]).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{COOKIE, SET_COOKIE};
use http::{Extensions, HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::events::problem;
use crate::http::auth::{Asker, Gate, Operator};
use crate::http::body::Object;
use crate::http::client::ClientInfo;
use crate::http::logins::Login;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::record::audit::Who;

/// Body of `POST /api/v1/login`.
#[derive(Deserialize, ToSchema)]
#[schema(as = LoginKey)]
pub struct Shown {
    /// `API_KEY`.
    #[schema(format = Password)]
    key: String,
}

/// `GET /api/v1/login`.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoginState {
    /// Whether who asks may change things.
    operator: bool,
    /// By what.
    #[schema(value_type = Option<words::OperatorBy>)]
    by: Option<&'static str>,
    /// False when no key opens anything, so that nobody can log in.
    possible: bool,
}

/// One login.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Login)]
pub struct LoginNote {
    id: String,
    created_at: Timestamp,
    used_at: Timestamp,
    #[schema(value_type = String)]
    address: IpAddr,
    user_agent: String,
    /// Whether it is the one by which this is asked.
    this: bool,
}

/// `GET /api/v1/logins`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Logins)]
pub struct LoginsPage {
    logins: Vec<LoginNote>,
}

/// Gives a cookie for the key.
#[utoipa::path(
    post, path = "/login", tag = "login",
    request_body = Shown,
    responses(
        (status = 204, description = "The cookie is in `Set-Cookie`", headers(("Set-Cookie" = String))),
        fails::Stored
    )
)]
pub async fn login(
    State(gate): State<Arc<Gate>>,
    client: ClientInfo,
    asker: Asker,
    extensions: Extensions,
    Object(Shown { key }): Object<Shown>,
) -> Result<Response, Problem> {
    gate.shown(key.as_bytes(), &asker, &extensions)?;
    let begun = gate.logins().begin(client.address, &client.user_agent, Timestamp::now()).await;
    let bearer = begun.map_err(|error| problem(&error))?;
    let cookie = gate.logins().granted(&bearer, client.is_https);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// Whether who asks is an operator, for pages that show a login otherwise.
#[utoipa::path(get, path = "/login", tag = "login", responses((status = 200, body = LoginState)))]
pub async fn state(State(gate): State<Arc<Gate>>, operator: Option<Operator>) -> Json<LoginState> {
    let by = operator.and_then(|operator| operator.who()).map(Who::as_str);
    Json(LoginState { operator: by.is_some(), by, possible: gate.has_key() })
}

/// Ends the login by which this is asked, if it is one.
#[utoipa::path(
    post, path = "/logout", tag = "login",
    responses(
        (status = 204, description = "`Set-Cookie` takes the cookie away", headers(("Set-Cookie" = String))),
        fails::Stored
    )
)]
pub async fn logout(
    State(gate): State<Arc<Gate>>,
    operator: Operator,
    client: ClientInfo,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(login) = current(&gate, &headers) {
        operator.was(json!({ "login": login.id }));
        gate.logins().revoke(&login.id).await.map_err(|error| problem(&error))?;
    }
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, gate.logins().taken(client.is_https))]).into_response())
}

/// Who is logged in.
#[utoipa::path(get, path = "/logins", tag = "login", responses((status = 200, body = LoginsPage)))]
pub async fn list(State(gate): State<Arc<Gate>>, _: Operator, headers: HeaderMap) -> Json<LoginsPage> {
    let this = current(&gate, &headers).map(|login| login.id);
    let note = |login: Login| LoginNote {
        this: this.as_ref() == Some(&login.id),
        id: login.id,
        created_at: login.created_at,
        used_at: login.used_at,
        address: login.address,
        user_agent: login.user_agent,
    };
    Json(LoginsPage { logins: gate.logins().all(Timestamp::now()).into_iter().map(note).collect() })
}

/// Ends a login, whoever's it is.
#[utoipa::path(
    delete, path = "/logins/{id}", tag = "login",
    params(("id" = String, Path, description = "As `/api/v1/logins` has it")),
    responses((status = 204, description = "It is over"), fails::NotFound, fails::Stored)
)]
pub async fn revoke(
    State(gate): State<Arc<Gate>>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if !gate.logins().revoke(&id).await.map_err(|error| problem(&error))? {
        return Err(Problem::new(Code::NotFound).with_detail("no login has this id"));
    }
    operator.was(json!({ "login": id }));
    Ok(StatusCode::NO_CONTENT)
}

fn current(gate: &Gate, headers: &HeaderMap) -> Option<Login> {
    gate.logins().of(headers, Timestamp::now())
}

/// Gives a new token with the answer when it is time for one.
pub(crate) async fn renew(
    State(gate): State<Arc<Gate>>,
    client: ClientInfo,
    request: Request,
    next: Next,
) -> Response {
    let cookies: HeaderMap =
        request.headers().get_all(COOKIE).iter().map(|line| (COOKIE, line.clone())).collect();
    let mut response = next.run(request).await;
    if cookies.is_empty() || response.headers().contains_key(SET_COOKIE) {
        return response;
    }
    match gate.logins().renewed_of(&cookies, Timestamp::now()).await {
        Ok(Some(fresh)) => {
            response.headers_mut().insert(SET_COOKIE, gate.logins().granted(&fresh, client.is_https));
        }
        Ok(None) => {}
        // The old token still counts, and the next request tries again.
        Err(error) => tracing::debug!(%error, "a login cannot be renewed"),
    }
    response
}
