//! Whether the other end of a connection is still there: what the kernel knows of it and tells by `TCP_INFO` alone.
//!
//! A socket that takes nothing may be a player that is paused or one that is gone. A kernel with nothing but a closed window
//! before it asks now and then whether that has opened; a living peer answers each time. Nothing else tells the two apart:
//! keepalive does not run while there is something to send.
//!
//! This is the one place of the workspace with unsafe code: a call of the operating system with a buffer of our own. No
//! library that is kept has it: `socket2` and `rustix` leave `TCP_INFO` out, and what offers it makes its bindings at build
//! time.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// What is known of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Something was sent, or it was asked whether it takes more, and it has not answered yet.
    pub owes_answer: bool,
    /// Since it last answered anything.
    pub silent: Duration,
    /// Since bytes were last sent to it; asking for room is not sending.
    pub unsent: Duration,
}

/// What the kernel knows of the other end of this connection.
pub fn peer(socket: &impl AsFd) -> io::Result<Peer> {
    Ok(parse(&sys::info(socket.as_fd())?))
}

/// So much of `struct tcp_info` is read (linux/tcp.h): it has only grown since 2.6, at its end.
const HEAD: usize = 60;

/// Offsets in it.
const PROBES: usize = 3;
const UNACKED: usize = 24;
const LAST_DATA_SENT: usize = 44;
const LAST_ACK_RECEIVED: usize = 56;

fn parse(info: &[u8; HEAD]) -> Peer {
    let word = |at: usize| {
        let bytes = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        u32::from_ne_bytes(bytes)
    };
    let time = |at: usize| Duration::from_millis(word(at).into());
    Peer {
        owes_answer: info[PROBES] > 0 || word(UNACKED) > 0,
        silent: time(LAST_ACK_RECEIVED),
        unsent: time(LAST_DATA_SENT),
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;
    use std::os::fd::{AsRawFd as _, BorrowedFd};

    use super::HEAD;

    #[expect(unsafe_code, reason = "there is no other way to ask for TCP_INFO")]
    pub(super) fn info(socket: BorrowedFd<'_>) -> io::Result<[u8; HEAD]> {
        let mut info = [0_u8; HEAD];
        let mut length = libc::socklen_t::try_from(HEAD).unwrap_or_default();
        // SAFETY: the descriptor is open as long as it is borrowed. `info` is ours alone during the call, any bytes are a
        // value of it, and the kernel writes at most `length` of them, which is how many there are.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if usize::try_from(length).is_ok_and(|length| length >= HEAD) {
            Ok(info)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;
    use std::os::fd::BorrowedFd;

    use super::HEAD;

    /// Other systems have something else of this name, or nothing.
    pub(super) fn info(_: BorrowedFd<'_>) -> io::Result<[u8; HEAD]> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn figures_are_where_the_kernel_writes_them() {
        let mut info = [0; HEAD];
        assert!(!parse(&info).owes_answer);
        info[PROBES] = 1;
        assert!(parse(&info).owes_answer);
        info[PROBES] = 0;
        info[UNACKED..UNACKED + 4].copy_from_slice(&7_u32.to_ne_bytes());
        info[LAST_DATA_SENT..LAST_DATA_SENT + 4].copy_from_slice(&1500_u32.to_ne_bytes());
        info[LAST_ACK_RECEIVED..].copy_from_slice(&2500_u32.to_ne_bytes());
        let (silent, unsent) = (Duration::from_millis(2500), Duration::from_millis(1500));
        assert_eq!(parse(&info), Peer { owes_answer: true, silent, unsent });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here")]
    fn a_peer_that_reads_nothing_and_lives_goes_on_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut reader = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut writer, _) = listener.accept().expect("it came");
        writer.set_nonblocking(true).expect("it can be");
        while writer.write(&[0; 4096]).is_ok() {}
        // The kernel asks whether there is room after a fifth of a second, then after twice as long each time.
        let (mut unsent, mut longest) = (Duration::ZERO, Duration::ZERO);
        while unsent < Duration::from_secs(3) {
            let peer = peer(&writer).expect("Linux has it");
            (unsent, longest) = (peer.unsent, longest.max(peer.silent));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(longest < unsent, "it has answered meanwhile: {longest:?}");
        let _some = reader.read(&mut [0; 4096]);
    }

    #[test]
    fn what_is_no_connection_is_an_error() {
        assert!(peer(&std::fs::File::open("/dev/null").expect("it is there")).is_err());
    }
}
