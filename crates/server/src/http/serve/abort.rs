//! How the end of a broken body looks to its client.
//!
//! A live stream that dies must not look finished: players stop after a clean end and come back after a torn
//! one. In a chunked body the missing terminator says so. A body that is ended by the close of the connection
//! has no terminator, there only a reset differs from an end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use acemux_relay::line::Line;
use axum::extract::FromRequestParts;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};

use super::ConnectionControl;

/// How the client sees the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Torn off: it is to come back.
    Torn,
    /// Closed in order although no end was sent, as when the service stops.
    Closed,
    /// Finished: it is to stop.
    Finished,
}

/// An error of a body that knows how it wants to be seen.
pub trait Ends {
    /// How.
    fn ending(&self) -> Ending;
}

/// What the reply to one request may do to its connection.
#[derive(Clone, Debug, Default)]
pub struct AbortSwitch {
    /// Absent when the request did not come through the accept loop, as in a test that calls the router.
    control: Option<ConnectionControl>,
    /// Whether a plain close would pass for a clean end: replies to HTTP/1.0 and to `Connection: close`.
    ends_by_close: bool,
}

impl AbortSwitch {
    /// The switch for the reply to this request.
    pub fn of(request: &Parts) -> Self {
        Self {
            control: request.extensions.get::<ConnectionControl>().cloned(),
            ends_by_close: ends_by_close(request.version, &request.headers),
        }
    }

    /// For the viewer that the reply serves. One that nothing can reach when there is no connection.
    pub fn line(&self) -> Line {
        self.control.as_ref().map(ConnectionControl::line).unwrap_or_default()
    }

    /// The body is torn off: its client must notice.
    fn tear(&self) {
        if let (Some(control), true) = (&self.control, self.ends_by_close) {
            control.abort();
        }
    }
}

impl<S: Sync> FromRequestParts<S> for AbortSwitch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

/// A body whose error ends the connection so that its client notices.
#[derive(Debug)]
pub struct AbortOnError<B: Body> {
    body: B,
    switch: AbortSwitch,
    error: Option<B::Error>,
}

impl<B: Body> AbortOnError<B> {
    /// Watches over `body`, which answers the request that `switch` was taken from.
    pub fn new(body: B, switch: AbortSwitch) -> Self {
        Self { body, switch, error: None }
    }
}

impl<B> Body for AbortOnError<B>
where
    B: Body + Unpin,
    B::Error: Ends + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    /// An error is held back for one poll: hyper forgets what it has queued when it meets one, and the head
    /// and the last packets may be in there. It writes them out when it is told that there is nothing more
    /// for now.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(error) = self.error.take() {
            if error.ending() == Ending::Torn {
                self.switch.tear();
            }
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Err(error)) = frame else { return Poll::Ready(frame) };
        if error.ending() == Ending::Finished {
            return Poll::Ready(None);
        }
        self.error = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.error.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn ends_by_close(version: Version, headers: &HeaderMap) -> bool {
    version < Version::HTTP_11
        || headers.get_all(CONNECTION).iter().any(|value| has_token(value.as_bytes(), b"close"))
}

fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_replies_that_end_with_the_connection_need_a_reset() {
        let table = [
            (Version::HTTP_11, "", false),
            (Version::HTTP_11, "keep-alive", false),
            (Version::HTTP_11, "close", true),
            (Version::HTTP_11, "TE, Close", true),
            (Version::HTTP_11, "closed", false),
            (Version::HTTP_10, "", true),
            (Version::HTTP_10, "keep-alive", true),
        ];
        for (version, connection, expected) in table {
            let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static(connection))]);
            assert_eq!(ends_by_close(version, &headers), expected, "{version:?} {connection}");
        }
    }
}
