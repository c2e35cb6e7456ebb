//! An open engine that reaches its swarm through a SOCKS5 proxy: it keeps one connection to a peer there, and has no network
//! while it has none. Nothing of it goes past the proxy.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::core::Core;

/// The peer that is asked for: an address of documentation, and the engine's own peer port.
const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 8_621);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for the proxy's word.
const DEADLINE: Duration = Duration::from_secs(2);

/// `OUTPACE_PROXY`: `socks5://[user:password@]host:port`, name and password percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocksProxy {
    address: String,
    login: Option<(String, String)>,
}

/// The text is no such proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("socks5://[user:password@]host:port is expected")]
pub struct BadProxy;

impl FromStr for SocksProxy {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let rest =
            text.strip_prefix("socks5://").or_else(|| text.strip_prefix("socks5h://")).ok_or(BadProxy)?;
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login.split_once(':').ok_or(BadProxy)?), address),
            None => (None, rest),
        };
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (_, port) = address.rsplit_once(':').ok_or(BadProxy)?;
        port.parse::<u16>().map_err(|_| BadProxy)?;
        let login = login.map(|(user, password)| (decode(user), decode(password)));
        Ok(Self { address: address.to_owned(), login })
    }
}

/// Keeps the connection until the engine ends.
pub(crate) async fn follow(core: Arc<Core>, proxy: SocksProxy) {
    loop {
        core.set_offline(true);
        if let Ok(Ok(mut peer)) = timeout(DEADLINE, proxy.connect()).await {
            core.set_offline(false);
            // It says nothing; its end is the network's.
            let _ = peer.read(&mut [0; 64]).await;
        }
        sleep(PAUSE).await;
    }
}

impl SocksProxy {
    /// RFC 1928, with the login of RFC 1929 when there is one.
    async fn connect(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let method = if self.login.is_some() { 2 } else { 0 };
        stream.write_all(&[5, 1, method]).await?;
        expect(&mut stream, [5, method]).await?;
        if let Some((user, password)) = &self.login {
            let mut login = vec![1];
            for text in [user, password] {
                login.push(u8::try_from(text.len()).map_err(io::Error::other)?);
                login.extend(text.bytes());
            }
            stream.write_all(&login).await?;
            expect(&mut stream, [1, 0]).await?;
        }
        let ([a, b, c, d], port) = PEER;
        let [high, low] = port.to_be_bytes();
        stream.write_all(&[5, 1, 0, 1, a, b, c, d, high, low]).await?;
        expect(&mut stream, [5, 0]).await?;
        // The rest of the answer: reserved, kind, an IPv4 address, a port.
        stream.read_exact(&mut [0; 8]).await?;
        Ok(stream)
    }
}

async fn expect(stream: &mut TcpStream, wanted: [u8; 2]) -> io::Result<()> {
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    if answer == wanted { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_and_without_a_login() {
        let proxy: SocksProxy = "socks5://us%3Aer:p%40ss@[::1]:1080".parse().unwrap();
        assert_eq!(proxy.address, "[::1]:1080");
        assert_eq!(proxy.login, Some(("us:er".to_owned(), "p@ss".to_owned())));
        assert_eq!("socks5h://proxy:1".parse::<SocksProxy>().unwrap().login, None);
        for bad in ["http://proxy:1", "socks5://proxy", "socks5://user@proxy:1", "socks5://proxy:x"] {
            assert_eq!(bad.parse::<SocksProxy>(), Err(BadProxy), "{bad}");
        }
    }
}
