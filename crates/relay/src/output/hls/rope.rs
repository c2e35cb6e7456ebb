//! A body of several runs of bytes that are shared with the ring: nothing is joined, nothing is copied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use acemux_media::hls::Segment;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A segment's body. Its length is known.
pub struct Rope {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl From<Segment> for Rope {
    fn from(segment: Segment) -> Self {
        Self { left: segment.size() as u64, parts: segment.parts.into() }
    }
}

impl http_body::Body for Rope {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let next = this.parts.pop_front();
        this.left -= next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
