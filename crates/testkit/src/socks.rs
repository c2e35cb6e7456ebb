//! A SOCKS5 proxy that connects nobody: it says yes, writes down what it was asked for, and holds the connection until it is
//! dropped. Enough for an engine that only needs to be let out.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The proxy. Dropping it closes every connection.
pub struct SocksServer {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Connect>>>,
    stop: CancellationToken,
    _tasks: TaskTracker,
}

/// One request to be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// To where.
    pub to: SocketAddr,
    /// By whom.
    pub login: Option<(String, String)>,
}

impl SocksServer {
    /// Listens at `address`, and lets in whoever shows `login`; everybody when there is none.
    pub async fn start(address: SocketAddr, login: Option<(&str, &str)>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (asked, stop, tasks) = (Arc::default(), CancellationToken::new(), TaskTracker::new());
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let accepting = accept(listener, login, Arc::clone(&asked), tasks.clone(), stop.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        Ok(Self { address, asked, stop, _tasks: tasks })
    }

    /// What it was asked for, in order.
    pub fn asked(&self) -> Vec<Connect> {
        self.asked.lock().clone()
    }
}

impl Drop for SocksServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    login: Option<(String, String)>,
    asked: Arc<Mutex<Vec<Connect>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (login, asked, token) = (login.clone(), Arc::clone(&asked), tasks.token());
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            // A client that breaks the protocol is let go.
            let _ = serve(stream, login, &asked, token).await;
        }));
    }
}

async fn serve(
    mut stream: TcpStream,
    wanted: Option<(String, String)>,
    asked: &Mutex<Vec<Connect>>,
    _token: TaskTrackerToken,
) -> io::Result<()> {
    let [version, methods] = read(&mut stream).await?;
    let mut offered = vec![0; usize::from(methods)];
    stream.read_exact(&mut offered).await?;
    let method = if wanted.is_some() { 2 } else { 0 };
    if version != 5 || !offered.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    let login = if method == 2 { Some(login(&mut stream).await?) } else { None };
    if method == 2 {
        let is_known = login == wanted;
        stream.write_all(&[1, u8::from(!is_known)]).await?;
        if !is_known {
            return Ok(());
        }
    }
    let [_, _, _, _, a, b, c, d, high, low] = read(&mut stream).await?;
    let to = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into();
    asked.lock().push(Connect { to, login });
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

async fn login(stream: &mut TcpStream) -> io::Result<(String, String)> {
    let [_version] = read(stream).await?;
    Ok((text(stream).await?, text(stream).await?))
}

async fn text(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = read(stream).await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
