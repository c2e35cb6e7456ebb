//! `GET /api/v1/history`: what the service or one stream was like, out of memory.

use acemux_relay::Relay;
use acemux_relay::history::{Figure, Span};
use acemux_relay::meter::FIGURES;
use acemux_relay::sampling::Series;
use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::proxy::find;
use crate::http::problem::{Code, Problem};
use crate::planes::origins::EngineOrigin;

/// Query of `GET /api/v1/history`.
#[derive(Debug, Deserialize)]
pub struct HistoryQuery {
    /// `minutes` (five, second by second), `hours` (two, in steps of ten seconds) or `days` (seven, in steps of five
    /// minutes).
    span: Option<String>,
    /// Any form of a stream's id; the whole service when left out.
    stream: Option<String>,
}

/// Figures over time, the oldest first. Steps of which nothing is known have no point.
#[derive(Debug, Serialize)]
pub struct HistoryPage {
    step_seconds: u64,
    points: Vec<HistoryPoint>,
}

/// One step: of each figure the smallest, the mean and the largest, or null when nothing is known of it.
#[derive(Debug, Serialize)]
pub struct HistoryPoint {
    /// When the step began.
    at: Timestamp,
    #[serde(flatten)]
    figures: Map<String, Value>,
}

/// Figures over time.
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

/// Null where nothing was known.
fn shown(Figure { min, mean, max }: Figure) -> Value {
    if mean.is_nan() { Value::Null } else { json!({ "min": min, "mean": mean, "max": max }) }
}

impl From<Series> for HistoryPage {
    fn from(series: Series) -> Self {
        let names = series.figures;
        let point = |(at, figures): (Timestamp, [Figure; FIGURES])| {
            let figures = names.iter().zip(figures);
            let figures = figures.map(|(name, figure)| ((*name).to_owned(), shown(figure)));
            HistoryPoint { at, figures: figures.collect() }
        };
        Self { step_seconds: series.step.as_secs(), points: series.points.into_iter().map(point).collect() }
    }
}
