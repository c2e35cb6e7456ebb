//! The transport stream as it is, from a start point on, as fast as the socket takes it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use crate::session::EndReason;
use crate::viewer::Viewer;

/// A live stream never ends by itself, so its end is an error of the body: a clean end would make players stop
/// instead of trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is over: {}", .0.as_str())]
pub struct StreamOver(pub EndReason);

/// One viewer's response body.
///
/// Written by hand: a generic stream adapter costs 10–15 % more per delivery. Each poll gives one chunk; hyper asks
/// again until it has enough for one vectored write, so all that is ready goes out in one system call.
pub struct Body {
    viewer: Viewer,
}

impl Body {
    /// The body for `viewer`. Dropping it is how a viewer leaves.
    pub fn new(viewer: Viewer) -> Self {
        Self { viewer }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = StreamOver;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamOver>>> {
        let read = self.get_mut().viewer.poll_bytes(context);
        read.map(|read| Some(read.map(Frame::data).map_err(StreamOver)))
    }
}
