//! Whether another service with our instance id uses the same daemon on this machine. The first one listens on an
//! abstract socket that is named after both; a second one finds the name taken and connects. The connection lives as
//! long as both do, so that each knows of the other, and when it has gone. Services in network namespaces of their own
//! do not meet here; they notice each other's engines (`fleet/src/reconcile/rivalry.rs`).

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self, SocketAddr};
use std::time::Duration;

use acemux_fleet::fleet::Fleet;
use acemux_fleet::ident::InstanceId;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Where Docker listens when `DOCKER_HOST` says nothing.
const LOCAL_SOCKET: &str = "unix:///var/run/docker.sock";
/// A restart may begin before the old process has ended: that is no second service.
const OVERLAP: Duration = Duration::from_secs(30);
/// Pause before the name is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of the daemon's address in the name, from its end: with the longest instance id a name has 107, which is what
/// fits.
const ADDRESS_BYTES: usize = 35;

/// The name that one service at a time has.
#[derive(Clone, Debug)]
pub(crate) struct Claim(Vec<u8>);

/// Who has the name.
enum Holder {
    We(UnixListener),
    Another(UnixStream),
}

impl Claim {
    /// Of this instance at this daemon.
    pub(crate) fn new(instance: &InstanceId, docker_host: Option<&str>) -> Self {
        let address = docker_host.unwrap_or(LOCAL_SOCKET).as_bytes();
        let tail = &address[address.len().saturating_sub(ADDRESS_BYTES)..];
        Self([format!("acemux.{instance}.").as_bytes(), tail].concat())
    }

    /// Must be called in the runtime.
    fn make(&self) -> io::Result<Holder> {
        let address = SocketAddr::from_abstract_name(&self.0)?;
        match net::UnixListener::bind_addr(&address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Holder::We)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // Local, so it is there at once or not at all.
                let stream = net::UnixStream::connect_addr(&address)?;
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Holder::Another)
            }
            Err(error) => Err(error),
        }
    }
}

/// Tells the fleet of another service, until `stop`.
pub(crate) async fn run(claim: Claim, fleet: Fleet, stop: CancellationToken) {
    let watching = async {
        loop {
            match claim.make() {
                Ok(Holder::We(listener)) => receive(&listener, &fleet).await,
                Ok(Holder::Another(stream)) => live_beside(stream, &fleet).await,
                // It has just gone, or this system has no such sockets.
                Err(error) => tracing::debug!(%error, "the instance id cannot be claimed now"),
            }
            sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(watching).await;
}

/// One after the other: who waits in the backlog is connected, and knows of us.
async fn receive(listener: &UnixListener, fleet: &Fleet) {
    while let Ok((stream, _)) = listener.accept().await {
        live_beside(stream, fleet).await;
    }
}

async fn live_beside(mut stream: UnixStream, fleet: &Fleet) {
    if timeout(OVERLAP, gone(&mut stream)).await.is_err() {
        tell(fleet, true).await;
        gone(&mut stream).await;
        tell(fleet, false).await;
    }
}

/// Nothing is ever said; the connection ends with one of both.
async fn gone(stream: &mut UnixStream) {
    let mut nothing = [0; 16];
    while stream.read(&mut nothing).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn tell(fleet: &Fleet, is_here: bool) {
    if let Err(error) = fleet.has_rival(is_here).await {
        tracing::debug!(%error, "the fleet was not told of another service");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(host: Option<&str>) -> Claim {
        let instance = format!("claim-{}-{:x}", std::process::id(), rand::random::<u64>());
        Claim::new(&instance.parse().unwrap(), host)
    }

    #[tokio::test]
    async fn the_second_one_meets_the_first_and_each_sees_the_other_go() {
        let claim = claim(None);
        let Ok(Holder::We(first)) = claim.make() else { panic!("the name is new") };
        let Ok(Holder::Another(mut second)) = claim.make() else { panic!("the name is taken") };
        let (mut guest, _) = first.accept().await.unwrap();
        assert!(timeout(Duration::from_millis(50), gone(&mut second)).await.is_err());
        drop(second);
        gone(&mut guest).await;
        let Ok(Holder::Another(mut second)) = claim.make() else { panic!("the name is taken") };
        drop((first, guest));
        gone(&mut second).await;
        assert!(matches!(claim.make(), Ok(Holder::We(_))), "the name is free again");
    }

    #[tokio::test]
    async fn services_of_other_instances_or_daemons_have_other_names() {
        let longest: InstanceId = "x".repeat(64).parse().unwrap();
        let one = Claim::new(&longest, Some(&format!("unix:///{}/docker.sock", "földer/".repeat(30))));
        assert!(matches!(one.make(), Ok(Holder::We(_))), "every name fits: {one:?}");
        let names = [claim(None).0, claim(Some("tcp://10.0.0.1:2375")).0, one.0];
        assert!(names[0] != names[1] && names[1] != names[2]);
        let here = Claim::new(&longest, None);
        assert_eq!(here.0, Claim::new(&longest, Some(LOCAL_SOCKET)).0);
    }
}
