//! The listening socket: how it is opened, and whether it still is one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

use crate::config::ListenHost;

/// Connections that wait in the kernel to be accepted: a herd of players at kick-off, not a backlog of work.
const BACKLOG: i32 = 1024;

/// All addresses means IPv6 and IPv4 on one socket, or IPv4 alone on machines without IPv6.
pub fn listen(host: ListenHost, port: u16) -> io::Result<TcpListener> {
    match host {
        ListenHost::Address(address) => bind(SocketAddr::new(address, port)),
        ListenHost::All => bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
            .or_else(|_| bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))),
    }
}

/// Connections of an earlier socket at this address do not hinder; another one that listens does.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether a failed accept is the listener's end. The socket itself is asked, because error numbers do not tell: the same
/// ones stand for trouble of one connection, of the network and of the whole machine.
#[cfg(target_os = "linux")]
pub(super) fn is_broken(listener: &TcpListener, _error: &io::Error) -> bool {
    !SockRef::from(listener).is_listener().unwrap_or(false)
}

/// Other systems cannot be asked; a socket that is no listener is an invalid argument there.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_broken(_listener: &TcpListener, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
}
