//! One way to the stream: from the request to a source until its last byte.

use std::task::{Context, Poll};

use acemux_media::chunk::{Verdict, verdict_on};
use acemux_media::continuation::{Continuation, Outcome, Past};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Duration, Instant};

use super::ingest::Ingest;
use crate::origin::{OpenError, Progress, SourceId, Upstream};
use crate::relay::StreamKey;

/// A start that is under way at the origin.
pub(crate) type Start = BoxFuture<'static, Result<Upstream, OpenError>>;

/// How long it is waited until a new source has come to the end of what was sent already. Beyond that viewers would
/// rather see something twice than nothing.
const OVERLAP_PATIENCE: Duration = Duration::from_secs(5);

/// A start, and the stream that it gave.
pub(crate) struct Attempt {
    pub(crate) progress: Progress,
    line: Line,
    /// The origin knows that it can be played.
    has_delivered: bool,
}

enum Line {
    Opening(Start),
    Open(Upstream),
}

/// What came of an attempt.
pub(crate) enum Happened {
    Opened(Result<Upstream, OpenError>),
    Media(Option<Result<Bytes, OpenError>>),
}

impl Attempt {
    pub(crate) fn new(progress: Progress, start: Start) -> Self {
        Self { progress, line: Line::Opening(start), has_delivered: false }
    }

    /// The source has accepted the stream.
    pub(crate) fn opened(&mut self, upstream: Upstream) {
        self.line = Line::Open(upstream);
        self.has_delivered = false;
    }

    /// Something of it can be played. The channel's canonical key, if that is certain only now.
    pub(crate) fn delivered(&mut self) -> Option<StreamKey> {
        if self.has_delivered {
            return None;
        }
        let key = self.upstream()?.evidence.delivered();
        self.has_delivered = true;
        key
    }

    /// The source has accepted the stream, and shows that media is on its way.
    pub(crate) fn is_loading(&self) -> bool {
        self.upstream().is_some_and(|upstream| upstream.report.is_loading())
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        match &self.line {
            Line::Opening(_) => None,
            Line::Open(upstream) => Some(upstream),
        }
    }

    /// Where it is, as soon as that is decided.
    pub(crate) fn source(&self) -> Option<SourceId> {
        self.upstream().map(|upstream| upstream.source.id.clone()).or_else(|| self.progress.source())
    }

    /// What happens next; media only if it may be read.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Happened> {
        match &mut self.line {
            Line::Opening(start) => start.as_mut().poll(context).map(Happened::Opened),
            Line::Open(upstream) if read => upstream.media.as_mut().poll_next(context).map(Happened::Media),
            Line::Open(_) => Poll::Pending,
        }
    }
}

/// An attempt beside or after the one that feeds the ring, until it is clear how it goes on.
pub(crate) struct Challenger {
    pub(crate) attempt: Attempt,
    pub(crate) joining: Joining,
}

/// How far a challenger is.
pub(crate) enum Joining {
    /// Nothing was ever published: it cuts its own chunks until there is a start point.
    Start(Box<Ingest>),
    /// Its bytes are kept until it is clear that they are a transport stream.
    Unproven(Vec<u8>),
    /// The place where it goes on is looked for.
    Splicing { search: Box<Continuation>, until: Instant },
}

/// What a challenger's bytes lead to.
pub(crate) enum Joined {
    /// More are needed.
    NotYet,
    /// They are a transport stream: now the old source is closed, and [`Joining::splice`] is next.
    Proven,
    /// They are none.
    Unreadable,
    /// These continue the ring exactly.
    Exactly(Vec<u8>),
    /// These are another stream, or another part of it.
    Anew(Vec<u8>),
}

impl Joining {
    /// Looks for the end of `past` from now on. What has come so far is the first thing looked at.
    pub(crate) fn splice(&mut self, past: Past, now: Instant) -> Joined {
        let Self::Unproven(bytes) = self else { return Joined::NotYet };
        let bytes = std::mem::take(bytes);
        let search = Box::new(Continuation::of(past));
        *self = Self::Splicing { search, until: now + OVERLAP_PATIENCE };
        self.take(&bytes, now)
    }

    pub(crate) fn take(&mut self, bytes: &[u8], now: Instant) -> Joined {
        match self {
            Self::Start(_) => Joined::NotYet,
            Self::Unproven(known) => {
                known.extend_from_slice(bytes);
                match verdict_on(known) {
                    Verdict::Undecided => Joined::NotYet,
                    Verdict::TransportStream => Joined::Proven,
                    Verdict::NotTransportStream => Joined::Unreadable,
                }
            }
            Self::Splicing { search, until } => match search.push(bytes) {
                Outcome::Continues(bytes) => Joined::Exactly(bytes),
                Outcome::Unrelated(bytes) => Joined::Anew(bytes),
                Outcome::Undecided if *until <= now => Joined::Anew(search.give_up()),
                Outcome::Undecided => Joined::NotYet,
            },
        }
    }
}
