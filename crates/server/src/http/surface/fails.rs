//! How pages fail, for their descriptions: each [`Code`] as a type, and the sets that come from one source.
//!
//! `responses(…)` keeps one answer for each status, and several codes share one: these stand under keys of their own until
//! [`super::document`] puts them together.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{RefOr, Response};

use crate::http::problem::Code;
pub use crate::http::problem::fails::*;

/// What stands between a status and the code in a key.
const BETWEEN: char = ' ';

/// The answers of these codes.
pub(crate) fn with(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let key = |code: &Code| format!("{}{BETWEEN}{code}", code.status().as_u16());
    codes.iter().map(|code| (key(code), Response::new(code.detail()).into())).collect()
}

/// The code of such a key.
pub(super) fn code_in(key: &str) -> Option<Code> {
    Code::named(key.split_once(BETWEEN)?.1)
}

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = $($code:ident)|+;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    with(&[$(Code::$code),+])
                }
            }
        )+
    };
}

sets! {
    /// The database does not do what it is asked.
    Stored = StorageFull | ServerFull | Internal;
    /// A query names no channel, or not one.
    Selector = MissingId | InvalidId | AmbiguousId | DuplicateParam | BadEncoding | InvalidParam | SelectorDisabled;
    /// A stream does not start.
    Start = LoopingStream | TooManyViewers | ThrownOut | EngineError | EngineBadReply | NoEngine | NoPorts | ImageUnavailable
        | VpnDown | ServerFull | Draining | StartTimeout;
    /// The fleet does not do what it is told.
    Commanded = NotFound | InvalidBody | NoPorts | ImageUnavailable | VpnDown | NoEngine;
}
