//! What can go wrong with the control server, on request.

use serde::{Deserialize, Serialize};

/// What it does instead of answering properly. As JSON: `{"mode": "status", "status": 401}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum GluetunFault {
    /// Never answers.
    Hang,
    /// Answers this much later.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// The proper answer, one byte at a time.
    Drip {
        /// Milliseconds between two bytes.
        ms: u64,
    },
    /// This HTTP status with a plain text.
    Status {
        /// The status code.
        status: u16,
    },
    /// 301 to this place.
    Redirect {
        /// The `Location`.
        to: String,
    },
    /// A 200 whose body is this.
    Body {
        /// The body.
        text: String,
    },
    /// A 200 that is no JSON.
    Garbage,
    /// A 200 with a body of this many bytes.
    Huge {
        /// Bytes.
        bytes: usize,
    },
    /// The proper answer, ended after this many bytes of its declared length.
    Cut {
        /// Bytes of the body that arrive.
        bytes: usize,
    },
    /// Resets the connection.
    Reset,
}

/// A fault and the requests that it hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GluetunRule {
    /// What happens.
    pub fault: GluetunFault,
    /// Of which path, such as `/v1/portforward`; of all when left out.
    #[serde(default)]
    pub path: Option<String>,
}

impl GluetunRule {
    /// A fault of every route.
    pub fn everywhere(fault: GluetunFault) -> Self {
        Self { fault, path: None }
    }

    /// A fault of one route.
    pub fn at(path: &str, fault: GluetunFault) -> Self {
        Self { fault, path: Some(path.to_owned()) }
    }

    pub(super) fn hits(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|wanted| wanted == path)
    }
}
