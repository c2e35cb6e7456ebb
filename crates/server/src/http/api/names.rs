//! `/api/v1/names`: what operators call viewers, by address and family of players. The operator's only: it tells who
//! people are.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::events::problem as store_problem;
use crate::http::auth::Operator;
use crate::http::body::Object;
use crate::http::problem::{Code, Problem};
use crate::http::surface::fails;
use crate::planes::names::{Named, Names, Unfit, Whose};
use crate::planes::players::Player;

/// `GET /api/v1/names`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ViewerNames)]
pub struct NamesPage {
    /// In the order of their addresses.
    names: Vec<Named>,
    /// The families of players that there are.
    #[schema(value_type = Vec<Player>)]
    players: &'static [Player],
}

/// Body of `PUT /api/v1/names`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ViewerNameBody)]
#[serde(deny_unknown_fields)]
pub struct NameBody {
    /// An address, or a network such as `192.168.1.0/24` or `2001:db8::/64`.
    address: String,
    /// A family of players there; all of them when left out.
    #[serde(default)]
    player: Option<String>,
    /// One line of at most 64 characters.
    name: String,
}

/// Query of `DELETE /api/v1/names`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WhoseQuery {
    /// An address or a network.
    address: String,
    /// The family of players, where the name is for one.
    player: Option<String>,
}

/// `DELETE /api/v1/names`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ViewerNameRemoved)]
pub struct Removed {
    removed: Named,
}

/// All names.
#[utoipa::path(get, path = "/names", tag = "names", responses((status = 200, body = NamesPage)))]
pub async fn list(_: Operator, State(names): State<Arc<Names>>) -> Json<NamesPage> {
    Json(NamesPage { names: names.all(), players: Player::ALL })
}

/// Gives one, or another one.
#[utoipa::path(
    put, path = "/names", tag = "names",
    request_body = NameBody,
    responses((status = 200, body = Named), fails::InvalidParam, fails::Stored)
)]
pub async fn put(
    operator: Operator,
    State(names): State<Arc<Names>>,
    Object(NameBody { address, player, name }): Object<NameBody>,
) -> Result<Json<Named>, Problem> {
    let whose = Whose::parse(&address, player.as_deref()).map_err(|unfit| problem(&unfit))?;
    let (before, after) = names.put(whose, &name).await.map_err(|unfit| problem(&unfit))?;
    operator.was(json!(before));
    operator.made(json!(after));
    Ok(Json(after))
}

/// Takes one back.
#[utoipa::path(
    delete, path = "/names", tag = "names",
    params(WhoseQuery),
    responses((status = 200, body = Removed), fails::NotFound, fails::InvalidParam, fails::Stored)
)]
pub async fn remove(
    operator: Operator,
    State(names): State<Arc<Names>>,
    Query(WhoseQuery { address, player }): Query<WhoseQuery>,
) -> Result<Json<Removed>, Problem> {
    let whose = Whose::parse(&address, player.as_deref()).map_err(|unfit| problem(&unfit))?;
    let removed = names.remove(whose).await.map_err(|unfit| problem(&unfit))?;
    let removed =
        removed.ok_or_else(|| Problem::new(Code::NotFound).with_detail("nobody has a name there"))?;
    operator.was(json!(removed));
    Ok(Json(Removed { removed }))
}

pub(super) fn problem(unfit: &Unfit) -> Problem {
    match unfit {
        Unfit::Store(error) => store_problem(error),
        unfit => Problem::new(Code::InvalidParam).with_detail(&unfit.to_string()),
    }
}
