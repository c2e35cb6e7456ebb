//! A body of several runs of bytes that are shared with the ring: nothing is joined, nothing is copied.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};

use acemux_media::hls::Segment;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A segment's body, or a part of it. Its length is known.
#[derive(Default)]
pub struct Rope {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl From<Segment> for Rope {
    fn from(segment: Segment) -> Self {
        Self { left: segment.size() as u64, parts: segment.parts.into() }
    }
}

impl Rope {
    /// Bytes that are still to come.
    #[expect(clippy::len_without_is_empty, reason = "a body is asked for its length, which may be 0")]
    pub fn len(&self) -> u64 {
        self.left
    }

    /// These bytes of it alone, as far as there are such.
    pub fn part(self, range: RangeInclusive<u64>) -> Self {
        let (mut skip, mut take) =
            (*range.start(), range.end().saturating_sub(*range.start()).saturating_add(1));
        let mut parts = VecDeque::new();
        for part in self.parts {
            let length = part.len() as u64;
            let (from, to) = (skip.min(length), skip.saturating_add(take).min(length));
            (skip, take) = (skip - from, take - (to - from));
            if from < to {
                // Both are at most the part's length.
                let within = |at: u64| usize::try_from(at).unwrap_or(part.len());
                parts.push_back(part.slice(within(from)..within(to)));
            }
        }
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, left }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_the_same_bytes() {
        let whole: Vec<u8> = (0..30).collect();
        let rope = || Rope {
            parts: whole.chunks(7).map(Bytes::copy_from_slice).collect(),
            left: whole.len() as u64,
        };
        for first in 0..whole.len() {
            for last in first..whole.len() + 5 {
                let part = rope().part(first as u64..=last as u64);
                let expected = &whole[first..whole.len().min(last + 1)];
                assert_eq!(part.len(), expected.len() as u64, "{first}-{last}");
                assert_eq!(Vec::from(part.parts).concat(), expected, "{first}-{last}");
            }
        }
        assert_eq!(rope().part(0..=u64::MAX).len(), 30);
        assert_eq!(rope().part(30..=40).len(), 0);
    }
}
