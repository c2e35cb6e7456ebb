//! What requests bring: JSON, and an object. Whatever is a struct in it is an object, too (`objects`).

mod objects;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use self::objects::Strict;
use crate::http::browser;
use crate::http::problem::{Code, Problem};

/// A `T`, written as an object.
#[derive(Clone, Copy, Debug)]
pub struct Object<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Object<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        if !browser::is_json(request.headers()) {
            return Err(Problem::new(Code::UnsupportedMediaType).into_response());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        if !is_object(&bytes) {
            return Err(Problem::new(Code::InvalidBody).into_response());
        }
        let Json(Strict(object)) = Json::from_bytes(&bytes).map_err(IntoResponse::into_response)?;
        Ok(Self(object))
    }
}

/// A `T` of a page with words of its own for what it does not accept.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let object = Some(json).filter(|json| is_object(json))?;
    serde_json::from_slice(object).ok().map(|Strict(object)| object)
}

/// Whether JSON, if it is that, is an object.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use http::header::CONTENT_TYPE;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Report {
        name: Option<String>,
        engine: Option<Engine>,
    }

    #[derive(Debug, Deserialize)]
    struct Engine {
        port: u16,
    }

    async fn read(kind: &str, json: &'static str) -> Result<Option<String>, StatusCode> {
        let request = Request::builder().header(CONTENT_TYPE, kind).body(Body::from(json)).unwrap();
        let report = Object::<Report>::from_request(request, &()).await;
        let name = |report: Report| report.engine.map(|engine| engine.port.to_string()).or(report.name);
        report.map(|Object(report)| name(report)).map_err(|response| response.status())
    }

    #[tokio::test]
    async fn an_object_is_read_and_nothing_else() {
        let json = "application/json; charset=utf-8";
        assert_eq!(read(json, " \n{\"name\":\"a\"}").await, Ok(Some("a".to_owned())));
        assert_eq!(read(json, "{}").await, Ok(None));
        for other in ["[null]", "[\"a\"]", " [null]", "null", "", "\"a\"", "1"] {
            assert_eq!(read(json, other).await, Err(StatusCode::BAD_REQUEST), "{other}");
        }
        assert_eq!(read(json, "{\"engine\":{\"port\":80}}").await, Ok(Some("80".to_owned())));
        assert_eq!(read(json, "{\"engine\":[80]}").await, Err(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!(read(json, "{\"name\":1}").await, Err(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!(read(json, "{\"name\":null,\"name\":null}").await, Err(StatusCode::UNPROCESSABLE_ENTITY));
        assert_eq!(read("text/plain", "{}").await, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
}
