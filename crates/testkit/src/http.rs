//! A client that shows what really is on the wire: no pool, no redirects, no decoding but of chunks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A reply's head, and its body as it comes.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header lines in order, names in lower case.
    pub headers: Vec<(String, String)>,
    connection: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    /// Bytes left of the chunk being read.
    Chunked(usize),
    ToTheEnd,
    Over,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// As announced: its length, its last chunk, or the end of a connection that frames by closing.
    Clean,
    /// The connection was closed before the announced end.
    Cut,
    /// The connection was reset.
    Reset,
}

/// `GET path` as a common player sends it.
pub async fn get(address: SocketAddr, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: test\r\n\r\n");
    send(address, &request).await
}

/// The same from another address of this machine, as another household.
pub async fn get_from(local: Ipv4Addr, address: SocketAddr, path: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: test\r\n\r\n");
    send_over(connect_from(local, address).await, &request).await
}

/// Any request, to the letter.
pub async fn send(address: SocketAddr, request: &str) -> Reply {
    try_send(address, request).await.expect("a reply")
}

/// `GET path` over a connection that takes in little, so that what is not read stays at the server.
pub async fn get_narrowly(address: SocketAddr, path: &str) -> Reply {
    let socket = TcpSocket::new_v4().expect("a socket");
    SockRef::from(&socket).set_recv_buffer_size(4096).expect("a small buffer");
    let mut connection = socket.connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("it is open");
    Reply::read(connection, false).await.expect("a reply")
}

/// A connection to `address` from `local`, another address of this machine: another viewer's.
pub async fn connect_from(local: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((local, 0).into()).expect("every address in 127.0.0.0/8 is ours");
    socket.connect(address).await.expect("it listens")
}

/// Any request over a connection that is there already.
pub async fn send_over(mut connection: TcpStream, request: &str) -> Reply {
    connection.write_all(request.as_bytes()).await.expect("it is open");
    Reply::read(connection, request.starts_with("HEAD ")).await.expect("a reply")
}

/// Any request, or what went wrong.
pub async fn try_send(address: SocketAddr, request: &str) -> io::Result<Reply> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(request.as_bytes()).await?;
    let head_request = request.starts_with("HEAD ");
    Reply::read(connection, head_request).await
}

impl Reply {
    async fn read(mut connection: TcpStream, head_request: bool) -> io::Result<Self> {
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if connection.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut reply = Self { status, headers, connection, buffer, framing: Framing::None };
        if !head_request {
            reply.framing = reply.announced();
        }
        Ok(reply)
    }

    fn announced(&self) -> Framing {
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some("chunked"), _) => Framing::Chunked(0),
            (_, Some(length)) => Framing::Length(length.parse().expect("a length is a number")),
            _ if matches!(self.status, 204 | 304) => Framing::None,
            _ => Framing::ToTheEnd,
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The client's own end of the connection.
    pub fn local_address(&self) -> SocketAddr {
        self.connection.local_addr().expect("it is connected")
    }

    /// Sends more over the connection, whatever it is.
    pub async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.write_all(bytes).await
    }

    /// Says that nothing more will be sent, and can still read.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.connection.shutdown().await
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        // Fails only on a connection that is dead already.
        let _dead_already = SockRef::from(&self.connection).set_linger(Some(Duration::ZERO));
    }

    /// The next bytes of the body, or how it ended.
    pub async fn next(&mut self) -> Result<Vec<u8>, BodyEnd> {
        loop {
            if let Some(bytes) = self.take()? {
                return Ok(bytes);
            }
            match self.connection.read_buf(&mut self.buffer).await {
                Ok(0) if self.framing == Framing::ToTheEnd => return Err(BodyEnd::Clean),
                Ok(0) => return Err(BodyEnd::Cut),
                Ok(_) => {}
                Err(_) => return Err(BodyEnd::Reset),
            }
        }
    }

    /// What is there already; `None` when more must be read.
    fn take(&mut self) -> Result<Option<Vec<u8>>, BodyEnd> {
        match self.framing {
            Framing::None | Framing::Over | Framing::Length(0) => Err(BodyEnd::Clean),
            Framing::ToTheEnd if self.buffer.is_empty() => Ok(None),
            Framing::ToTheEnd => Ok(Some(std::mem::take(&mut self.buffer))),
            Framing::Length(left) => Ok(self.take_up_to(left).inspect(|bytes| {
                self.framing = Framing::Length(left - bytes.len());
            })),
            Framing::Chunked(0) => self.take_chunk_head(),
            Framing::Chunked(left) => Ok(self.take_chunk_part(left)),
        }
    }

    fn take_up_to(&mut self, most: usize) -> Option<Vec<u8>> {
        let there = self.buffer.len().min(most);
        (there > 0).then(|| self.buffer.drain(..there).collect())
    }

    fn take_chunk_head(&mut self) -> Result<Option<Vec<u8>>, BodyEnd> {
        let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 2);
        let size = usize::from_str_radix(&size, 16).expect("a chunk begins with its size");
        if size == 0 {
            self.framing = Framing::Over;
            return Err(BodyEnd::Clean);
        }
        // The line end behind the chunk is read as its last two bytes.
        self.framing = Framing::Chunked(size + 2);
        self.take()
    }

    fn take_chunk_part(&mut self, left: usize) -> Option<Vec<u8>> {
        let mut bytes = self.take_up_to(left)?;
        let after = left - bytes.len();
        self.framing = Framing::Chunked(after);
        let line_end_read = 2_usize.saturating_sub(after).min(bytes.len());
        bytes.truncate(bytes.len() - line_end_read);
        Some(bytes)
    }

    /// The whole body, and how it ended.
    pub async fn body(&mut self) -> (Vec<u8>, BodyEnd) {
        let mut body = Vec::new();
        loop {
            match self.next().await {
                Ok(bytes) => body.extend(bytes),
                Err(end) => return (body, end),
            }
        }
    }

    /// The whole body as JSON.
    pub async fn json(&mut self) -> Value {
        let (body, _) = self.body().await;
        serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!("not JSON: {error}: {}", String::from_utf8_lossy(&body));
        })
    }
}
