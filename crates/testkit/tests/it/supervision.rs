//! A part of the service that ends is started again or ends the service; a port that is silent while the process lives
//! is not among the outcomes. What each part's end means is proved in the server's `supervise`, here that it is wired so.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use acemux_fleet::ident::{ContainerId, DockerName};
use acemux_fleet::provisioner::{
    Container, Daemon, Neighbours, PostMortem, ProvisionError, Provisioner, Usage, VpnChange, VpnContainer,
};
use acemux_fleet::spec::EngineSpec;
use acemux_server::app::Service;
use acemux_server::config::Config;
use acemux_sim::{Fault, SimOptions, Target};
use acemux_testkit::app::{Setup, TestApp, until, within};
use acemux_testkit::http::try_send;
use acemux_testkit::{StrictViewer, get};
use futures_util::future::{BoxFuture, join_all, pending};
use futures_util::stream::{self, BoxStream};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{ID, home, id, stream};

/// The program, and its listening socket once more.
async fn app(setup: Setup) -> (TestApp, Socket) {
    setup.start_and(|service| SockRef::from(service.listener()).try_clone().expect("a descriptor")).await
}

/// What an operator's mistake or a bug does to the socket: it is open and listens no more.
fn break_listener(listener: Socket) {
    listener.shutdown(Shutdown::Both).expect("it listens");
    drop(listener);
}

/// One request over a connection that is kept: its reply, whole.
async fn ask(connection: &mut TcpStream, path: &str) -> String {
    connection
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .await
        .expect("it is open");
    let mut reply = vec![0; 4096];
    let length = within(Duration::from_secs(2), path, connection.read(&mut reply)).await.expect("a reply");
    String::from_utf8_lossy(&reply[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_breaks_is_opened_again_and_viewers_notice_nothing() {
    let (app, listener) = app(Setup::new()).await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_millis(200)).await;
    break_listener(listener);
    let began = Instant::now();
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", stream(ID));
    while try_send(app.address(), &request).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(2), "the port is open again within moments");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(get(app.address(), "/readyz").await.status, 200);
    viewer.watch(Duration::from_millis(500)).await;
    viewer.assert_perfect();
    drop(viewer);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_had_again_is_told_and_ends_the_service_in_order() {
    let (app, listener) = app(Setup::new()).await;
    let address = app.address();
    let mut viewer = StrictViewer::open(address, ID).await;
    let mut kept = TcpStream::connect(address).await.expect("it listens");
    assert!(ask(&mut kept, "/readyz").await.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    break_listener(listener);
    let _taken = take(address);
    let told = loop {
        let reply = ask(&mut kept, "/readyz").await;
        if !reply.starts_with("HTTP/1.1 200") {
            break reply;
        }
        assert!(began.elapsed() < Duration::from_secs(2), "it says that it is ready: {reply}");
    };
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("not_ready"), "{told}");
    assert!(told.contains("the listener failed"), "{told}");
    assert!(ask(&mut kept, "/livez").await.starts_with("HTTP/1.1 200"), "the process lives");
    let ledger = app.ledger.clone();
    let store = app.app.store.clone();
    let watching = viewer.watch(Duration::from_secs(20));
    let (end, failure) = tokio::join!(watching, within(Duration::from_secs(20), "its end", app.ended()));
    let failure = failure.expect_err("nobody told it to stop").to_string();
    assert!(failure.starts_with("the listener failed: Address"), "{failure}");
    assert!((5..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(end.is_some(), "its viewers are not left hanging");
    assert_eq!((ledger.open_sessions(), store.health().unsaved), (0, 0), "it ends in order");
}

/// Somebody else listens where the service did.
fn take(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&address.into()).expect("the port was given up");
    socket.listen(1).expect("it is ours");
    socket
}

/// A daemon that says nothing, and a bug in the way it is listened to.
struct Panicking;

impl Provisioner for Panicking {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Container>, ProvisionError>> {
        Box::pin(pending())
    }

    fn neighbours(&self) -> BoxFuture<'_, Result<Neighbours, ProvisionError>> {
        Box::pin(pending())
    }

    fn inspect<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<Option<Container>, ProvisionError>> {
        Box::pin(pending())
    }

    fn create<'a>(&'a self, _: &'a EngineSpec) -> BoxFuture<'a, Result<ContainerId, ProvisionError>> {
        Box::pin(pending())
    }

    fn remove<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        Box::pin(pending())
    }

    fn post_mortem<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<PostMortem, ProvisionError>> {
        Box::pin(pending())
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        panic!("as the test wants");
    }

    fn usage(&self, _: &ContainerId) -> BoxStream<'static, Usage> {
        Box::pin(stream::pending())
    }

    fn vpn<'a>(&'a self, _: &'a DockerName) -> BoxFuture<'a, Result<Option<VpnContainer>, ProvisionError>> {
        Box::pin(pending())
    }

    fn vpn_changes(&self, _: &DockerName) -> BoxStream<'static, VpnChange> {
        Box::pin(stream::pending())
    }

    fn restart_vpn<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<(), ProvisionError>> {
        Box::pin(pending())
    }

    fn daemon(&self) -> BoxFuture<'_, Result<Daemon, ProvisionError>> {
        Box::pin(pending())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_panics_ends_the_service_with_its_words() {
    let settings = [
        ("APP_HOST", "127.0.0.1"),
        ("APP_PORT", "0"),
        ("DB_PATH", ":memory:"),
        ("ENGINE_PROVISIONER", "docker"),
        ("API_KEY", "the-key-of-this-test"),
    ];
    let settings = settings.map(|(name, value)| (name, value.to_owned()));
    let config = Config::from_pairs(settings).expect("the settings can be used");
    let stop = CancellationToken::new();
    let service =
        Service::with_provisioner(&config, Arc::new(Panicking), stop.clone()).await.expect("it starts");
    let ended = within(Duration::from_secs(10), "its end", service.run()).await;
    let failure = ended.expect_err("nobody told it to stop").to_string();
    assert_eq!(failure, "the fleet's task panicked: as the test wants");
    assert!(stop.is_cancelled());
}

/// A start whose answer does not come holds its engine for longer than a stop may take.
#[tokio::test(flavor = "multi_thread")]
async fn engines_that_hang_are_waited_for_side_by_side_when_the_service_stops() {
    let app = Setup::with_engines([(); 4].map(|()| SimOptions::fast()))
        .set("MAX_STREAMS_PER_ENGINE", "1")
        .set("EMPTY_STREAM_TIMEOUT", "60s")
        .start()
        .await;
    for engine in &app.engines {
        engine.set_fault(Target::All, Fault::SlowStart { json_ms: 60_000, headers_ms: 0, first_byte_ms: 0 });
    }
    let address = app.address();
    let waiting = (1..=4).map(|n| async move {
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", stream(&id(n)));
        let connection = acemux_testkit::http::connect_from(home(n), address).await;
        acemux_testkit::http::send_over(connection, &request).await.status
    });
    let stopping = async {
        until("every engine is busy", || app.ledger.counts().starts == 4).await;
        let store = app.app.store.clone();
        let began = Instant::now();
        app.stop().await;
        (began.elapsed(), store)
    };
    let (statuses, (took, store)) = tokio::join!(join_all(waiting), stopping);
    assert_eq!(statuses, [503; 4]);
    assert!((3.5..6.0).contains(&took.as_secs_f64()), "one deadline for all of them: {took:?}");
    assert_eq!(format!("{:?}", store.health().state), "Closed", "the store has its own time");
}
