//! Turning away a connection there is no seat for: one reply, then close, with a bounded amount of work.
//!
//! The reply is sent before the request was read, straight into the fresh socket's empty buffer, which takes
//! it whole. A close with unread bytes makes the kernel reset the connection, and the reset may overtake the
//! reply; so the socket is drained for a moment first. That takes a task, and of these there are few: in a
//! flood most are closed at once.

use std::sync::Arc;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::seats::Full;
use super::viewer_io::{DRAIN_LIMIT, DRAIN_TIMEOUT};
use crate::http::problem::{Code, Problem, RequestId};

/// Who turns away.
#[derive(Debug)]
pub(super) struct Refuser {
    draining: Arc<Semaphore>,
}

impl Refuser {
    /// At most `draining` refused connections are open at a time, beside the one in hand.
    pub(super) fn new(draining: usize) -> Self {
        Self { draining: Arc::new(Semaphore::new(draining)) }
    }

    /// Answers and closes. Never waits.
    pub(super) fn refuse(&self, stream: TcpStream, full: Full, tasks: &TaskTracker) {
        debug!(?full, "connection refused");
        if SockRef::from(&stream).send(&reply(full)).is_err() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.draining).try_acquire_owned() else { return };
        tasks.spawn(async move {
            let _permit = permit;
            // Time or the peer ends it; either way the socket is closed now.
            let _ended = tokio::time::timeout(DRAIN_TIMEOUT, drain(stream)).await;
        });
    }
}

async fn drain(mut stream: TcpStream) -> std::io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(DRAIN_LIMIT), &mut tokio::io::sink()).await
}

/// A whole HTTP/1.1 reply. Readable from any origin, because a stream's page is among those that may have
/// been asked for.
fn reply(full: Full) -> Vec<u8> {
    let problem = match full {
        Full::Server => {
            Problem::new(Code::ServerFull).with_detail("The server has as many connections as it may have.")
        }
        Full::Address => {
            Problem::new(Code::TooManyRequests).with_detail("Too many connections from this address.")
        }
    };
    let body = problem.body(Some(RequestId::random()));
    let mut reply = format!("HTTP/1.1 {}\r\n", problem.code().status()).into_bytes();
    for (name, value) in &problem.headers() {
        reply.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let length = body.len();
    let rest =
        format!("access-control-allow-origin: *\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    reply.extend(rest.into_bytes());
    reply.extend(body);
    reply
}
