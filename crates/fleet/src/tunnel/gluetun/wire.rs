//! One HTTP exchange with a control server: ask, and read all of a short answer. Whatever is on that port may hang, drip,
//! or send without end, so the exchange has one deadline over all, a bound on its head and one on its body.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Most bytes of an answer's head, and of what is read at once.
const MAX_HEAD: usize = 16 * 1024;
/// Most bytes of a body. The longest page that is read has 300.
const MAX_BODY: usize = 16 * 1024;

/// What we call ourselves.
const AGENT: &str = concat!("acemux/", env!("CARGO_PKG_VERSION"));

/// An answer, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

/// Asks for `path`. The error is one line.
pub(super) async fn get(
    address: SocketAddr,
    path: &str,
    header: Option<&(&'static str, String)>,
    deadline: Duration,
) -> Result<Answer, String> {
    let request = request(address, path, header)?;
    match timeout(deadline, exchange(address, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("its control server did not answer within {} s", deadline.as_secs())),
    }
}

fn request(
    address: SocketAddr,
    path: &str,
    header: Option<&(&'static str, String)>,
) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close");
    if let Some((name, value)) = header {
        request = request.header(*name, value);
    }
    // The path is ours; what can be wrong is a key with a line break.
    request.body(Empty::new()).map_err(|_| "its key cannot be sent in a header".to_owned())
}

async fn exchange(address: SocketAddr, request: Request<Empty<Bytes>>) -> Result<Answer, String> {
    let socket = TcpStream::connect(address).await.map_err(|error| in_words(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(broken)?;
    let answer = pin!(async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|_| "its control server broke an answer off, or sent too much".to_owned())?;
        let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Answer { status: head.status, location, body: body.to_bytes() })
    });
    // The connection is driven by whoever waits for the answer; it may end before the answer is read from memory.
    match select(answer, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn broken(_: hyper::Error) -> String {
    "its control server does not speak HTTP as it should".to_owned()
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens on its control port".to_owned(),
        _ => "its control server is not reached".to_owned(),
    }
}
