//! Every error as one JSON shape: `{"detail": "<one line>", "code": "<stable_code>", "status": …,
//! "request_id": "…"}`.
//!
//! Owns the table of codes, the status each one answers and the headers that go with it. Refuses to carry a client's
//! input: what a request contained never comes back in a reply, but for names of settings that are plain words. Words
//! of an engine do (they are the reason a user looks for), but only as one cleaned, short line.
//!
//! A [`Problem`] becomes a complete response by itself. The edge ([`crate::http::edge`]) then adds what only it
//! knows: the id of the request, and that pages under `/ace/` are readable from any origin.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use acemux_engine::{SelectorError, text};
use acemux_relay::session::StartError;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::config::Fault;

/// The media type of every error body (RFC 9457).
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

/// Longest `detail`, in characters. One line of a terminal or a player's error box; an engine's page of HTML
/// is cut here.
pub const MAX_DETAIL: usize = 200;

macro_rules! codes {
    ($($code:ident $name:literal $status:ident $detail:literal)+) => {
        /// The stable word of an error. Clients match on it, so a name is never changed or given a second
        /// meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $detail] $code,)+
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$code),+];

            /// The word in the reply.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$code => $name,)+ }
            }

            /// The HTTP status this code answers.
            pub const fn status(self) -> StatusCode {
                match self { $(Code::$code => StatusCode::$status,)+ }
            }

            /// What the reply says when the place that failed knows nothing better.
            pub const fn detail(self) -> &'static str {
                match self { $(Code::$code => $detail,)+ }
            }
        }

        /// Each code as a type, for the descriptions of pages ([`crate::http::surface::fails`]).
        pub mod fails {
            use std::collections::BTreeMap;

            use utoipa::IntoResponses;
            use utoipa::openapi::{RefOr, Response};

            $(
                #[doc = $detail]
                #[derive(Debug)]
                pub struct $code;

                impl IntoResponses for $code {
                    fn responses() -> BTreeMap<String, RefOr<Response>> {
                        crate::http::surface::fails::with(&[super::Code::$code])
                    }
                }
            )+
        }
    };
}

codes! {
    MissingId            "missing_id"             BAD_REQUEST
        "The request names no channel: give it as id= or infohash=."
    InvalidId            "invalid_id"             BAD_REQUEST
        "The channel's id is not 40 hexadecimal digits."
    AmbiguousId          "ambiguous_id"           BAD_REQUEST
        "The request names its channel in more than one way."
    DuplicateParam       "duplicate_param"        BAD_REQUEST
        "A parameter that may stand once is given twice."
    BadEncoding          "bad_encoding"           BAD_REQUEST
        "The query is not valid percent-encoded UTF-8."
    InvalidParam         "invalid_param"          BAD_REQUEST
        "A parameter has a value that is not accepted."
    AmbiguousHost        "ambiguous_host"         BAD_REQUEST
        "The request must name one host, and only one."
    AmbiguousKey         "ambiguous_key"          BAD_REQUEST
        "The request gives more than one API key."
    BadFraming           "bad_framing"            BAD_REQUEST
        "The request body must be framed in one way: by its length, or as chunked."
    InvalidBody          "invalid_body"           BAD_REQUEST
        "The request body is not what this page accepts."
    InvalidSetting       "invalid_setting"        BAD_REQUEST
        "A setting cannot be what is asked for; nothing was changed."
    MissingKey           "missing_key"            UNAUTHORIZED
        "This needs the API key, as X-API-KEY or as Authorization: Bearer."
    WrongKey             "wrong_key"              UNAUTHORIZED
        "The API key is wrong."
    ShortKey             "short_key"              UNAUTHORIZED
        "The API key in the settings is shorter than 16 characters and opens nothing: set a longer one."
    NoKey                "no_key"                 UNAUTHORIZED
        "This service has no API key; its log says why and what to set."
    SelectorDisabled     "selector_disabled"      FORBIDDEN
        "This way to name a channel is switched off."
    LoopingStream        "looping_stream"         FORBIDDEN
        "The channel repeats itself and is blocked for a while."
    BadOrigin            "bad_origin"             FORBIDDEN
        "A page of another origin may change nothing here."
    BadToken             "bad_token"              FORBIDDEN
        "The token is not of this server's making, or of another channel."
    ForbiddenTarget      "forbidden_target"       FORBIDDEN
        "The address is not one this server may open."
    NotFound             "not_found"              NOT_FOUND
        "There is nothing at this address."
    SegmentGone          "segment_gone"           NOT_FOUND
        "The segment does not exist, or no longer."
    MethodNotAllowed     "method_not_allowed"     METHOD_NOT_ALLOWED
        "This page does not answer this method; Allow lists those it does."
    SettingFixed         "setting_fixed"          CONFLICT
        "A setting cannot be changed here; nothing was changed."
    RequestTimeout       "request_timeout"        REQUEST_TIMEOUT
        "The request did not arrive in time."
    BodyTooLarge         "body_too_large"         PAYLOAD_TOO_LARGE
        "The request body is longer than 64 KiB."
    UriTooLong           "uri_too_long"           URI_TOO_LONG
        "The request address is longer than 8 KiB."
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE
        "The request body must be application/json."
    ExpectationFailed    "expectation_failed"     EXPECTATION_FAILED
        "The only expectation that is met is 100-continue."
    BadHost              "bad_host"               MISDIRECTED_REQUEST
        "The request asks for a name that could be a stranger's."
    TooManyViewers       "too_many_viewers"       TOO_MANY_REQUESTS
        "Too many viewers from this address."
    ThrownOut            "thrown_out"             FORBIDDEN
        "An operator has ended this stream for this address; it is let in again in a few seconds."
    TooManyRequests      "too_many_requests"      TOO_MANY_REQUESTS
        "Too many requests or connections from this address."
    HeadersTooLarge      "headers_too_large"      REQUEST_HEADER_FIELDS_TOO_LARGE
        "The request headers are longer than 16 KiB."
    Internal             "internal"               INTERNAL_SERVER_ERROR
        "An internal error; the log has it under this request id."
    EngineError          "engine_error"           BAD_GATEWAY
        "The engine could not start the channel."
    EngineBadReply       "engine_bad_reply"       BAD_GATEWAY
        "The engine answered with something that is not a stream."
    NoEngine             "no_engine"              SERVICE_UNAVAILABLE
        "No engine is free or running."
    NoPorts              "no_ports"               SERVICE_UNAVAILABLE
        "No port is free for another engine."
    ImageUnavailable     "image_unavailable"      SERVICE_UNAVAILABLE
        "The engine's image cannot be had."
    VpnDown              "vpn_down"               SERVICE_UNAVAILABLE
        "The VPN that the engines use is down."
    StreamFull           "stream_full"            SERVICE_UNAVAILABLE
        "This stream has as many viewers as it may have."
    ServerFull           "server_full"            SERVICE_UNAVAILABLE
        "The server has as many viewers or streams as it may have."
    Draining             "draining"               SERVICE_UNAVAILABLE
        "The server is shutting down."
    Starting             "starting"               SERVICE_UNAVAILABLE
        "The stream is being started; ask again."
    NotReady             "not_ready"              SERVICE_UNAVAILABLE
        "A part of the service does not run at the moment."
    StartTimeout         "start_timeout"          GATEWAY_TIMEOUT
        "The channel sent nothing playable in time."
    StorageFull          "storage_full"           INSUFFICIENT_STORAGE
        "The data directory is full."
}

impl Code {
    /// The code that `name` stands for, when another crate hands over its own word for an error.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// What a start can fail with: what `From<&StartError>` gives.
    pub(crate) const OF_STARTS: [Self; 12] = [
        Self::NoEngine,
        Self::NoPorts,
        Self::ImageUnavailable,
        Self::VpnDown,
        Self::ServerFull,
        Self::EngineError,
        Self::EngineBadReply,
        Self::StartTimeout,
        Self::InvalidParam,
        Self::TooManyViewers,
        Self::ThrownOut,
        Self::Draining,
    ];

    /// Whether a client is asked to come back: 429 and 503 are the states that pass by themselves.
    fn passes_by_itself(self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one request in its reply and in the log: 16 hexadecimal digits, random, never taken from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// A new one. 64 random bits: a log would need billions of lines before two meet.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One failed request, as its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    /// Each by itself, where several settings are wrong.
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with the code's own sentence, and the code's own `Retry-After` of 1–3 s where it has one.
    pub fn new(code: Code) -> Self {
        let retry_after = code.passes_by_itself().then(jittered_retry);
        Self { code, detail: code.detail().to_owned(), faults: Vec::new(), retry_after }
    }

    /// The same problem with a better sentence: ours, or an engine's words. It is made one line without
    /// control characters and cut at [`MAX_DETAIL`] characters. What the client sent does not belong in it.
    pub fn with_detail(mut self, detail: &str) -> Self {
        let line = text::line(detail, MAX_DETAIL);
        if !line.is_empty() {
            self.detail = line;
        }
        self
    }

    /// The same problem, with each setting that is wrong by its name.
    pub fn with_faults(self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self }
    }

    /// The same problem, to be tried again after `wait`, which is rounded up to whole seconds (at least 1 s).
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What kind of problem this is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence the client reads.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The reply's body.
    pub fn body(&self, request_id: Option<RequestId>) -> Vec<u8> {
        let reply = ProblemBody {
            detail: &self.detail,
            code: self.code.as_str(),
            status: self.code.status().as_u16(),
            request_id: request_id.map(|id| id.to_string()),
            problems: &self.faults,
        };
        serde_json::to_vec(&reply).expect("a struct of strings and a number always serialises")
    }

    /// The reply's headers, without those that depend on the request.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"acemux\""));
        }
        // What follows a body that nobody can be sure of is no request.
        if matches!(self.code, Code::Draining | Code::BadFraming) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<SelectorError> for Problem {
    fn from(error: SelectorError) -> Self {
        Self::new(Code::named(error.code()).unwrap_or(Code::InvalidParam))
    }
}

impl IntoResponse for Problem {
    /// The problem itself travels along as an extension, so that the edge can render it again with the
    /// request's id.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body(None)));
        *response.status_mut() = self.code.status();
        *response.headers_mut() = self.headers();
        response.extensions_mut().insert(self);
        response
    }
}

/// Every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// What is wrong, in one line of at most 200 characters.
    #[schema(max_length = 200)]
    detail: &'a str,
    /// The stable word for it.
    #[schema(value_type = Code)]
    code: &'a str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The same as in `X-Request-Id`: 16 hexadecimal digits, by which the log has the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_id: Option<String>,
    /// Each setting that is wrong, where several can be.
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    #[schema(value_type = Vec<Fault>, required = false)]
    problems: &'a [Fault],
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        "ProblemCode".into()
    }
}

/// 1–3 s, so that the players of one household that were refused together do not come back together.
fn jittered_retry() -> Duration {
    Duration::from_secs(rand::random_range(1..=3))
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl From<&StartError> for Code {
    fn from(error: &StartError) -> Self {
        use acemux_relay::origin::{Lack, OpenError};
        match error {
            StartError::Open(OpenError::NoCapacity { lack, .. }) => match lack {
                Lack::Room => Self::NoEngine,
                Lack::Addresses => Self::NoPorts,
                Lack::Program => Self::ImageUnavailable,
                Lack::WayOut => Self::VpnDown,
                Lack::Queue => Self::ServerFull,
            },
            StartError::Open(OpenError::Unreachable { .. }) => Self::NoEngine,
            StartError::Open(OpenError::Failed { .. }) | StartError::Gone => Self::EngineError,
            StartError::Open(OpenError::BadReply { .. }) => Self::EngineBadReply,
            StartError::Timeout { .. } => Self::StartTimeout,
            StartError::Recording => Self::InvalidParam,
            StartError::ServerFull | StartError::MemoryFull => Self::ServerFull,
            StartError::TooManyViewers => Self::TooManyViewers,
            StartError::ThrownOut => Self::ThrownOut,
            StartError::Draining => Self::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn json(problem: &Problem, id: Option<RequestId>) -> serde_json::Value {
        serde_json::from_slice(&problem.body(id)).unwrap()
    }

    #[test]
    fn every_code_has_its_own_name_and_a_sentence_that_fits() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::named(code.as_str()), Some(*code));
            assert_eq!(text::line(code.detail(), MAX_DETAIL), code.detail(), "{code}");
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code}");
        }
    }

    #[test]
    fn the_body_has_detail_code_status_and_request_id() {
        let problem = Problem::new(Code::InvalidId);
        let expected = serde_json::json!({
            "detail": "The channel's id is not 40 hexadecimal digits.",
            "code": "invalid_id",
            "status": 400,
            "request_id": "00000000000000ff",
        });
        assert_eq!(json(&problem, Some(RequestId(255))), expected);
        assert_eq!(json(&problem, None).get("request_id"), None);
    }

    #[test]
    fn what_a_start_can_fail_with_is_known_beforehand() {
        use acemux_relay::origin::{Lack, OpenError, Stage};
        let lacks = [Lack::Room, Lack::Queue, Lack::Addresses, Lack::Program, Lack::WayOut];
        let (detail, source_id) = (String::new(), None);
        let none = |lack| OpenError::NoCapacity { lack, detail: String::new() };
        let opens = lacks.map(none).into_iter().chain([
            OpenError::Unreachable { detail: detail.clone(), source_id: source_id.clone() },
            OpenError::Failed { detail: detail.clone(), source_id: source_id.clone() },
            OpenError::BadReply { detail, source_id },
        ]);
        let all = opens.map(StartError::Open).chain([
            StartError::Timeout { stage: Stage::Slot, waited: Duration::ZERO, awaited: None },
            StartError::ServerFull,
            StartError::MemoryFull,
            StartError::TooManyViewers,
            StartError::ThrownOut,
            StartError::Recording,
            StartError::Draining,
            StartError::Gone,
        ]);
        let codes: HashSet<Code> = all.map(|error| Code::from(&error)).collect();
        assert_eq!(codes, HashSet::from(Code::OF_STARTS));
    }

    #[test]
    fn only_what_passes_by_itself_asks_to_retry() {
        for code in Code::ALL {
            let headers = Problem::new(*code).headers();
            let expected = matches!(code.status().as_u16(), 429 | 503);
            assert_eq!(headers.contains_key(RETRY_AFTER), expected, "{code}");
        }
        let seconds: u64 =
            Problem::new(Code::NoEngine).headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=3).contains(&seconds));
    }

    #[test]
    fn a_given_wait_is_rounded_up_to_whole_seconds() {
        for (wait, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (20_000, 20)] {
            let problem = Problem::new(Code::NoEngine).retry_after(Duration::from_millis(wait));
            assert_eq!(problem.headers()[RETRY_AFTER], HeaderValue::from(seconds));
        }
    }

    #[test]
    fn words_of_an_engine_become_one_short_line() {
        let detail = |words: &str| Problem::new(Code::EngineError).with_detail(words).detail().to_owned();
        assert_eq!(detail("failed to load content"), "failed to load content");
        assert_eq!(detail(" a\r\nb\t\u{1b}[31mc\u{0}\u{202e}d\u{2028}e "), "a b [31mc d e");
        assert_eq!(detail("\u{0}\n"), Code::EngineError.detail());
        assert_eq!(detail(&"ü".repeat(200)), "ü".repeat(200));
        let cut = detail(&"ü".repeat(201));
        assert_eq!((cut.chars().count(), cut.chars().last()), (MAX_DETAIL, Some('…')));
    }

    #[test]
    fn a_problem_is_never_stored_by_caches_nor_guessed_at_by_browsers() {
        let response = Problem::new(Code::NotFound).into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], CONTENT_TYPE_PROBLEM);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}
