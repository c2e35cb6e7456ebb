//! One HTTP exchange with an engine: connect, ask, read the answer. Nothing is reused, followed or decoded.
//!
//! Each call has its own connection, because engines are threaded servers of the simplest kind: some leave a reply
//! without length open, some close whenever they like. No proxy, cookie or credential is ever involved.
//!
//! There is no task behind a connection: it is driven by whoever waits for the answer or reads the body. So it ends
//! when its owner lets go, and a body that nobody reads stops the engine by the socket's own flow control.
//!
//! Limits against whatever may answer: 64 headers, 64 KiB of head, 128 KiB of read buffer, and a bound on everything
//! received before a head is complete, which is what ends a flood of `1xx` answers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::error::{EngineError, Stage};
use crate::file::ByteRange;

/// Most header lines of an answer. Engines send about eight.
const MAX_HEADERS: usize = 64;
/// Most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// The HTTP client's read buffer, which is also the largest piece of a body. Media arrives in pieces of what the
/// socket holds; a larger buffer gains nothing and pins more.
const READ_BUFFER: usize = 128 * 1024;
/// Most bytes received before an answer's head is complete: a full head, and what the last read may bring with it.
const MAX_BEFORE_HEAD: usize = MAX_HEAD + 2 * READ_BUFFER;

/// What we call ourselves.
const AGENT: &str = concat!("acemux/", env!("CARGO_PKG_VERSION"));

/// The head of an engine's answer, with its body still to be read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: WireBody,
}

/// Sends `GET target` to `endpoint` and waits for the head of the answer. `target` is path and query, already
/// encoded. Only connecting has a deadline: the caller knows how long an answer may take.
pub(crate) async fn get(
    endpoint: &Endpoint,
    target: &str,
    range: Option<ByteRange>,
    connect: Duration,
) -> Result<Answer, EngineError> {
    let socket = timeout(connect, dial(endpoint))
        .await
        .map_err(|_| EngineError::Timeout { stage: Stage::Connect })?
        .map_err(EngineError::of_connect)?;
    let unread = Arc::new(AtomicUsize::new(MAX_BEFORE_HEAD));
    let io = TokioIo::new(HeadLimit { socket, left: Arc::clone(&unread) });
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(READ_BUFFER)
        // Real engines have only been seen with clients that write `Host`, not `host`.
        .title_case_headers(true)
        .handshake(io)
        .await?;
    let mut driver = Driver(Some(Box::pin(connection)));
    let response = driver.drive(sender.send_request(request(endpoint, target, range)?)).await?;
    unread.store(usize::MAX, Ordering::Relaxed);
    let (head, body) = response.into_parts();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: WireBody { incoming: body, driver, ended: false },
    })
}

async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let socket = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn request(
    endpoint: &Endpoint,
    target: &str,
    range: Option<ByteRange>,
) -> Result<Request<Nothing>, EngineError> {
    let request = Request::get(target);
    let request = match range {
        Some(range) => request.header(RANGE, range.to_string()),
        None => request,
    };
    request
        .header(HOST, endpoint.to_string())
        .header(USER_AGENT, AGENT)
        // Engines have been seen not to start a stream when a compressed answer was acceptable.
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Nothing)
        .map_err(|_| EngineError::bad_reply("a URL that cannot be asked for"))
}

/// A body of no bytes.
struct Nothing;

impl http_body::Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(0)
    }
}

impl Answer {
    /// Where a redirect leads.
    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.get(LOCATION)?.to_str().ok()
    }

    /// The media type without parameters, lower case; empty when there is none.
    pub(crate) fn media_type(&self) -> String {
        let value = self.text_of(CONTENT_TYPE).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Refuses a compressed body: we asked for none, and inflating one is how small replies become large.
    pub(crate) fn require_identity(&self) -> Result<(), EngineError> {
        match self.text_of(CONTENT_ENCODING) {
            None => Ok(()),
            Some(coding) if coding.is_empty() || coding.eq_ignore_ascii_case("identity") => Ok(()),
            Some(_) => Err(EngineError::bad_reply("a compressed body nobody asked for")),
        }
    }

    /// A header's value; text that is not ASCII reads as `?`.
    pub(crate) fn text_of(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap_or("?").trim())
    }

    /// The body, to be read piece by piece.
    pub(crate) fn into_body(self) -> WireBody {
        self.body
    }

    /// The whole body; `None` when it is longer than `limit`.
    pub(crate) async fn read_to_end(mut self, limit: usize) -> Result<Option<Bytes>, EngineError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.body.next().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Ok(None);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Some(whole.freeze()))
    }

    /// The first bytes of the body, as many as come and at most `limit`. A body that breaks off is good enough.
    pub(crate) async fn read_start(mut self, limit: usize) -> BytesMut {
        let mut start = BytesMut::new();
        while let Some(Ok(piece)) = self.body.next().await {
            start.extend_from_slice(piece.get(..limit - start.len()).unwrap_or(&piece));
            if start.len() >= limit {
                break;
            }
        }
        start
    }
}

/// A body on its connection. Dropping it closes the connection.
pub(crate) struct WireBody {
    incoming: Incoming,
    driver: Driver,
    ended: bool,
}

impl WireBody {
    /// The next piece, `None` at the end. Cancel safe: nothing is taken from the connection before it is returned.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, EngineError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, EngineError>>> {
        while !self.ended {
            self.driver.poll(cx);
            match std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => return Poll::Ready(Some(Ok(piece))),
                    // Trailers mean nothing to us.
                    _ => {}
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }
}

type Connection = http1::Connection<TokioIo<HeadLimit>, Nothing>;

/// Moves a connection's bytes while somebody waits on it. `None` once the connection is over.
struct Driver(Option<Pin<Box<Connection>>>);

impl Driver {
    /// Lets the connection do what it can. How it ended is told by the answer or the body, which see it too.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }

    /// Waits for `future`, which waits for the connection.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// A socket that gives up when it has delivered more than `left` bytes.
struct HeadLimit {
    socket: TcpStream,
    left: Arc<AtomicUsize>,
}

impl AsyncRead for HeadLimit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let left = self.left.load(Ordering::Relaxed);
        if left == usize::MAX {
            return Poll::Ready(Ok(()));
        }
        let Some(left) = left.checked_sub(buf.filled().len() - before) else {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no end of the response head",
            )));
        };
        self.left.store(left, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeadLimit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
