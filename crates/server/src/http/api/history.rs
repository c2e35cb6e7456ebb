//! `GET /api/v1/history`: what the service or one stream was like, out of memory.

use acemux_relay::Relay;
use acemux_relay::history::{Figure, Span};
use acemux_relay::meter::{FIGURES, PROCESS_FIGURES, STREAM_FIGURES};
use acemux_relay::sampling::Series;
use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::proxy::find;
use crate::http::problem::{Code, Problem};
use crate::http::surface::{fails, words};
use crate::planes::origins::EngineOrigin;

/// Query of `GET /api/v1/history`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// `minutes` (five, second by second), `hours` (two, in steps of ten seconds) or `days` (seven, in steps of five
    /// minutes).
    #[param(value_type = words::HistorySpan, required = false, inline, default = "minutes")]
    span: Option<String>,
    /// Any form of a stream's id; the whole service when left out.
    stream: Option<String>,
}

/// Figures over time, the oldest first. Steps of which nothing is known have no point.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub struct HistoryPage {
    /// Time between two points.
    step_seconds: u64,
    points: Vec<HistoryPoint>,
}

/// One step: of each figure the smallest, the mean and the largest. What engines say of the swarm is
/// null when they say nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryPoint {
    /// When the step began.
    at: Timestamp,
    bytes_in_per_second: FigurePage,
    bytes_out_per_second: FigurePage,
    viewers: FigurePage,
    /// Of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    streams: Option<FigurePage>,
    /// Of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    runway_seconds: Option<FigurePage>,
    /// Of the swarm, by the engine's word; of all streams together for the service.
    peers: Option<FigurePage>,
    /// From the swarm, by the engine's word.
    downloaded_bytes_per_second: Option<FigurePage>,
    /// To the swarm, by the engine's word.
    uploaded_bytes_per_second: Option<FigurePage>,
}

/// What a figure was during one step.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = HistoryFigure)]
pub struct FigurePage {
    min: f32,
    mean: f32,
    max: f32,
}

/// Figures over time.
#[utoipa::path(
    get, path = "/history", tag = "health",
    params(HistoryQuery),
    responses((status = 200, body = HistoryPage), fails::NotFound)
)]
pub async fn history(
    State(relay): State<Relay>,
    State(origin): State<EngineOrigin>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<HistoryPage>, Problem> {
    let span = match query.span.as_deref() {
        None | Some("minutes") => Span::Minutes,
        Some("hours") => Span::Hours,
        Some("days") => Span::Days,
        Some(_) => {
            return Err(Problem::new(Code::InvalidParam).with_detail("span is minutes, hours or days"));
        }
    };
    let series = match query.stream.as_deref() {
        None => relay.history(span),
        Some(id) => {
            let gone = || Problem::new(Code::NotFound).with_detail("no stream of this id is playing");
            relay.history_of(&find(&relay, &origin, id)?.key, span).ok_or_else(gone)?
        }
    };
    Ok(Json(series.into()))
}

impl FigurePage {
    /// `None` when nothing was known of it.
    fn known(figure: Figure) -> Option<Self> {
        (!figure.mean.is_nan()).then(|| figure.into())
    }
}

impl From<Figure> for FigurePage {
    fn from(Figure { min, mean, max }: Figure) -> Self {
        Self { min, mean, max }
    }
}

impl From<Series> for HistoryPage {
    fn from(series: Series) -> Self {
        let is_of = |names: [&str; FIGURES]| series.figures == names;
        let (of_stream, of_process) = (is_of(STREAM_FIGURES), is_of(PROCESS_FIGURES));
        let point = |(at, figures): (Timestamp, [Figure; FIGURES])| {
            let [bytes_in, bytes_out, viewers, fourth, peers, downloaded, uploaded] = figures;
            let fourth = Some(FigurePage::from(fourth));
            HistoryPoint {
                at,
                bytes_in_per_second: bytes_in.into(),
                bytes_out_per_second: bytes_out.into(),
                viewers: viewers.into(),
                streams: fourth.filter(|_| of_process),
                runway_seconds: fourth.filter(|_| of_stream),
                peers: FigurePage::known(peers),
                downloaded_bytes_per_second: FigurePage::known(downloaded),
                uploaded_bytes_per_second: FigurePage::known(uploaded),
            }
        };
        Self { step_seconds: series.step.as_secs(), points: series.points.into_iter().map(point).collect() }
    }
}
