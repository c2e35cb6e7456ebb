//! A recording is a file at its source: nothing to share in a ring, but something to seek in. One viewer at a time reads
//! it, as far and from where it likes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::origin::{Media, OpenError};
use crate::session::{EndReason, Phase, Shared};
use crate::viewer::{LeaveReason, Record, Viewer, ViewerGuard};

/// How long a player that seeks is waited for: it opens a new connection and then closes the old one, or never does.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Which part of a recording is wanted, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From this offset to the end.
    From(u64),
    /// From the first to the second offset, both included.
    Between(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

/// How much of a recording a [`Part`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// From the first to the last byte, both included, of so many.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
        /// Bytes of the whole, if known.
        total: Option<u64>,
    },
    /// Nothing: the range is beyond the end of so many bytes.
    Beyond {
        /// Bytes of the whole, if known.
        total: Option<u64>,
    },
}

/// A part of a recording.
pub struct Part {
    /// How much of it.
    pub extent: Extent,
    /// Bytes, if the source says so.
    pub length: Option<u64>,
    /// The media type, if the source names a sensible one.
    pub media_type: Option<String>,
    /// The bytes.
    pub media: Media,
}

/// A recording open at a source.
pub trait Recording: Send + Sync {
    /// Opens a part of it. Only one part may be open at a time.
    fn open(&self, range: Option<ByteRange>) -> BoxFuture<'static, Result<Part, OpenError>>;
}

/// Another viewer reads the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("somebody else watches this recording; one at a time can")]
pub struct Busy;

/// The one place for a reader.
pub(crate) struct Desk {
    seat: Arc<Semaphore>,
    /// Who sits there.
    reader: Mutex<Option<(IpAddr, Weak<Record>)>>,
}

/// The right to read. Dropped, somebody else may.
struct DeskSeat {
    shared: Arc<Shared>,
    reader: Arc<Record>,
    /// Held for its drop, after the reader's name is gone.
    _permit: OwnedSemaphorePermit,
}

impl Default for Desk {
    fn default() -> Self {
        Self { seat: Arc::new(Semaphore::new(1)), reader: Mutex::default() }
    }
}

impl Desk {
    /// A new request from the same address is the same viewer, who seeks: its old connection is cut, because a player
    /// that does not read it any more would never notice another end. The exact address: two devices of one home are two
    /// viewers wherever they can be told apart.
    fn ask_for_the_seat(&self, address: IpAddr) -> Result<(), Busy> {
        let line = match &*self.reader.lock() {
            // Under the lock, so that the reader cannot leave meanwhile and its connection is not another request's yet.
            Some((reader, old)) if *reader == address => {
                old.upgrade().and_then(|old| old.order_out(LeaveReason::Left))
            }
            Some(_) => return Err(Busy),
            None => None,
        };
        if let Some(line) = line {
            line.wake();
        }
        Ok(())
    }
}

async fn sit_down(guard: &ViewerGuard) -> Result<DeskSeat, Busy> {
    let shared = Arc::clone(guard.shared());
    shared.desk.ask_for_the_seat(guard.address())?;
    let permit = timeout(HAND_OVER, Arc::clone(&shared.desk.seat).acquire_owned()).await;
    let permit = permit.ok().and_then(Result::ok).ok_or(Busy)?;
    let reader = guard.record();
    reader.reads_file(true);
    *shared.desk.reader.lock() = Some((guard.address(), Arc::downgrade(&reader)));
    Ok(DeskSeat { shared, reader, _permit: permit })
}

impl Drop for DeskSeat {
    fn drop(&mut self) {
        self.reader.reads_file(false);
        *self.shared.desk.reader.lock() = None;
    }
}

/// A viewer at a recording.
pub struct Reader {
    guard: ViewerGuard,
    recording: Arc<dyn Recording>,
    _seat: DeskSeat,
}

/// Why a body of a recording ends before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The source broke.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// The stream has ended.
    #[error("the stream is over: {}", .0.as_str())]
    Over(EndReason),
}

impl Viewer {
    /// Whether its stream is a recording, so that it reads ([`Self::read`]) instead of watching.
    pub fn is_recording(&self) -> bool {
        self.shared().recording().is_some()
    }

    /// The viewer as a reader. Waits a moment for its own last connection to end.
    pub async fn read(self) -> Result<Reader, Busy> {
        let recording = self.shared().recording().ok_or(Busy)?;
        let guard = self.into_guard();
        let seat = sit_down(&guard).await?;
        Ok(Reader { guard, recording, _seat: seat })
    }
}

impl Reader {
    /// Opens a part. A source that cannot give it has lost the recording: the next request starts it anew.
    pub async fn open(self, range: Option<ByteRange>) -> Result<(Part, Body), OpenError> {
        let opened = self.recording.open(range).await.inspect_err(|error| {
            self.guard.shared().end(EndReason::UpstreamFailed(error.clone()));
        })?;
        let Part { extent, length, media_type, media } = opened;
        let shared = Arc::clone(self.guard.shared());
        let stopped = Box::pin(async move { end_of(&shared).await });
        let head = Part { extent, length, media_type, media: Box::pin(futures_util::stream::empty()) };
        Ok((head, Body { media, stopped, reader: self }))
    }
}

async fn end_of(shared: &Shared) -> EndReason {
    let mut phase = shared.phase.subscribe();
    let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    match ended.as_deref() {
        Ok(Phase::Ended(reason)) => reason.clone(),
        _ => EndReason::Lost,
    }
}

/// The bytes of a part, on their way to the reader.
pub struct Body {
    /// Before the reader, so dropped before it: the next one may open a part when this one is closed.
    media: Media,
    stopped: BoxFuture<'static, EndReason>,
    reader: Reader,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Poll::Ready(reason) = this.stopped.as_mut().poll(context) {
            this.reader.guard.leaves(LeaveReason::StreamOver);
            return Poll::Ready(Some(Err(Broken::Over(reason))));
        }
        this.media.as_mut().poll_next(context).map(|bytes| {
            bytes.map(|bytes| match bytes {
                Ok(bytes) => {
                    this.reader.guard.sent(bytes.len());
                    Ok(Frame::data(bytes))
                }
                Err(error) => Err(Broken::Source(error)),
            })
        })
    }
}
