use super::*;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

/// What the source server sends: every byte tells its place modulo 251.
fn source(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

/// A server that sends `length` bytes to everybody, then its end, and waits for the client's.
async fn source_server(length: usize) -> (SocketAddr, DropGuard) {
    serve(move |mut client| async move {
        // A client that leaves early is what several tests do.
        let _sent = client.write_all(&source(length)).await;
        let _ended = client.shutdown().await;
        swallow(client).await;
    })
    .await
}

/// A server that sends everything back and closes when the client has.
async fn echo_server() -> (SocketAddr, DropGuard) {
    serve(|mut client| async move {
        let (mut from, mut to) = client.split();
        let _copied = tokio::io::copy(&mut from, &mut to).await;
        let _ended = to.shutdown().await;
    })
    .await
}

async fn serve<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, DropGuard)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (token, inner) = (stop.clone(), tasks.clone());
    tasks.spawn(async move {
        while let Some(Ok((client, _))) = token.run_until_cancelled(listener.accept()).await {
            let token = token.clone();
            let answering = answer(client);
            inner.spawn(async move { token.run_until_cancelled(answering).await });
        }
    });
    (address, stop.drop_guard())
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Everything until the end, and whether the end was one in order.
async fn read_all(client: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("an end");
    (bytes, read.is_ok())
}

async fn says_nothing_for(client: &mut TcpStream, time: Duration) -> bool {
    timeout(time, client.read_u8()).await.is_err()
}

/// A relay to a source, and a client that has just connected.
async fn through(length: usize, toxics: Toxics) -> (FaultProxy, TcpStream, DropGuard) {
    let (server, guard) = source_server(length).await;
    let proxy = FaultProxy::start(server);
    proxy.set(Way::ToClient, toxics);
    let client = connect(&proxy).await;
    (proxy, client, guard)
}

#[tokio::test]
async fn without_toxics_everything_passes_both_ways_and_the_ends_too() {
    let (server, _guard) = echo_server().await;
    let proxy = FaultProxy::start(server);
    let mut client = connect(&proxy).await;
    let sent = source(300_000);
    let (mut from, mut to) = client.split();
    let write = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), read) = tokio::join!(write, timeout(PATIENCE, from.read_to_end(&mut got)));
    assert!(read.is_ok_and(|read| read.is_ok()));
    assert!(got == sent, "byte for byte");
    assert_eq!((proxy.passed(Way::ToServer), proxy.passed(Way::ToClient)), (300_000, 300_000));
    assert_eq!(proxy.heard(Way::ToServer).len(), String::from_utf8_lossy(&sent[..TRANSCRIPT]).len());
}

#[tokio::test]
async fn latency_and_jitter_delay_and_keep_the_order() {
    let latency = Duration::from_millis(200);
    let toxics = Toxics { latency, jitter: Duration::from_millis(50), ..Toxics::default() };
    let (_proxy, mut client, _guard) = through(100_000, toxics).await;
    let asked = Instant::now();
    assert_eq!(client.read_u8().await.unwrap(), 0);
    assert!(asked.elapsed() >= Duration::from_millis(180), "{:?}", asked.elapsed());
    let (rest, in_order) = read_all(&mut client).await;
    assert!(in_order && rest == source(100_000)[1..]);
}

#[tokio::test]
async fn what_is_random_is_the_same_for_the_same_seed() {
    let lengths = |seed: u64| {
        let lane = Lane::default();
        let mut pump = Pump::new(&lane, seed);
        (0..20).map(|_| pump.piece(&Toxics { slice: true, ..Toxics::default() }, 100)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(7), lengths(7));
    assert_ne!(lengths(7), lengths(8));
    assert!(lengths(7).iter().all(|length| (1..=7).contains(length)), "and a slice is one to seven bytes");
}

#[tokio::test]
async fn bandwidth_is_kept_and_nothing_is_lost() {
    let toxics = Toxics { bandwidth: Some(100_000), ..Toxics::default() };
    let (proxy, mut client, _guard) = through(60_000, toxics).await;
    let asked = Instant::now();
    let (bytes, in_order) = read_all(&mut client).await;
    assert!(in_order && bytes == source(60_000));
    assert!(asked.elapsed() >= Duration::from_millis(550), "{:?}", asked.elapsed());
    assert_eq!(proxy.passed(Way::ToClient), 60_000);
}

#[tokio::test]
async fn slices_change_nothing_but_the_size_of_the_pieces() {
    let (_proxy, mut client, _guard) = through(20_000, Toxics { slice: true, ..Toxics::default() }).await;
    let (bytes, in_order) = read_all(&mut client).await;
    assert!(in_order && bytes == source(20_000));
}

#[tokio::test]
async fn a_reset_comes_after_exactly_so_many_bytes() {
    let (_proxy, mut client, _guard) = through(50_000, Toxics::cut(10_001, How::Reset)).await;
    let (bytes, in_order) = read_all(&mut client).await;
    assert!(!in_order, "a reset is an error");
    // What had not been read when the reset came is thrown away by the kernel.
    assert!(bytes.len() <= 10_001 && bytes == source(bytes.len()));
}

#[tokio::test]
async fn a_limit_closes_in_order_after_exactly_so_many_bytes() {
    let (_proxy, mut client, _guard) = through(50_000, Toxics::cut(10_001, How::Close)).await;
    let (bytes, in_order) = read_all(&mut client).await;
    assert!(in_order && bytes == source(10_001));
}

#[tokio::test]
async fn a_half_close_ends_one_way_and_the_other_goes_on() {
    let (server, _guard) = source_server(50_000).await;
    let proxy = FaultProxy::start(server);
    proxy.set(Way::ToServer, Toxics::cut(0, How::HalfClose));
    let mut client = connect(&proxy).await;
    client.write_all(b"nobody hears this").await.unwrap();
    let (bytes, in_order) = read_all(&mut client).await;
    assert!(in_order && bytes == source(50_000));
    assert_eq!(proxy.passed(Way::ToServer), 0);
}

#[tokio::test]
async fn silence_keeps_everything_open_and_loses_nothing_when_it_ends() {
    let (server, _guard) = source_server(50_000).await;
    let proxy = FaultProxy::start(server);
    let mut client = connect(&proxy).await;
    assert_eq!(client.read_u8().await.unwrap(), 0, "it runs");
    proxy.set_both(Toxics::silence());
    let mut late = connect(&proxy).await;
    assert!(says_nothing_for(&mut late, Duration::from_millis(300)).await, "a new connection");
    proxy.clear();
    for (mut client, begun) in [(client, 1), (late, 0)] {
        let (bytes, in_order) = read_all(&mut client).await;
        assert!(in_order && bytes == source(50_000)[begun..]);
    }
}

#[tokio::test]
async fn a_running_connection_falls_silent() {
    let (server, _guard) = echo_server().await;
    let proxy = FaultProxy::start(server);
    let mut client = connect(&proxy).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'a');
    proxy.set(Way::ToClient, Toxics::silence());
    client.write_all(b"b").await.unwrap();
    assert!(says_nothing_for(&mut client, Duration::from_millis(300)).await);
    proxy.clear();
    assert_eq!(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap(), b'b');
}

#[tokio::test]
async fn a_connection_whose_client_reads_nothing_is_reset_too() {
    let (proxy, client, _guard) = through(20_000_000, Toxics::default()).await;
    timeout(PATIENCE, async {
        let mut passed = u64::MAX;
        while std::mem::replace(&mut passed, proxy.passed(Way::ToClient)) != passed || passed == 0 {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it is full");
    proxy.set(Way::ToClient, Toxics::cut(0, How::Reset));
    timeout(PATIENCE, async {
        while proxy.open() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is gone");
    drop(client);
}

#[tokio::test]
async fn a_black_hole_accepts_and_the_server_sees_nothing_of_it() {
    let (server, _guard) = source_server(10).await;
    let proxy = FaultProxy::start(server);
    proxy.set_door(Door::BlackHole).await;
    let mut client = connect(&proxy).await;
    client.write_all(b"hello").await.unwrap();
    assert!(says_nothing_for(&mut client, Duration::from_millis(300)).await);
    assert_eq!((proxy.accepted(), proxy.passed(Way::ToServer), proxy.open()), (1, 0, 1));
}

#[tokio::test]
async fn a_refused_port_refuses_and_answers_again() {
    let (server, _guard) = source_server(10).await;
    let proxy = FaultProxy::start(server);
    for _ in 0..3 {
        proxy.set_door(Door::Refuse).await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        proxy.set_door(Door::Open).await;
        assert_eq!(read_all(&mut connect(&proxy).await).await, (source(10), true));
    }
}

#[tokio::test]
async fn one_byte_in_so_many_is_changed() {
    let toxics = Toxics { corrupt_every: Some(1_000), ..Toxics::default() };
    let (_proxy, mut client, _guard) = through(10_500, toxics).await;
    let (bytes, _) = read_all(&mut client).await;
    let good = source(10_500);
    let changed: Vec<usize> = (0..good.len()).filter(|place| bytes[*place] != good[*place]).collect();
    assert_eq!(changed, (1..=10).map(|n| n * 1_000 - 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_block_comes_twice() {
    let toxics = Toxics { duplicate_every: Some(1_000), slice: false, ..Toxics::default() };
    let (proxy, mut client, _guard) = through(1_500, toxics).await;
    let (bytes, _) = read_all(&mut client).await;
    let good = source(1_500);
    let again = bytes.len() - 1_500;
    assert!((1..=1_000).contains(&again), "{again} bytes came again");
    assert_eq!(bytes[..1_000], good[..1_000]);
    assert_eq!(
        bytes[1_000..1_000 + again],
        good[1_000 - again..1_000],
        "the last ones before the thousandth"
    );
    assert_eq!(bytes[1_000 + again..], good[1_000..]);
    assert_eq!(proxy.passed(Way::ToClient), 1_500, "a repetition is none of the sender's bytes");
}

#[tokio::test]
async fn the_senders_end_comes_late() {
    let toxics = Toxics { end_delay: Duration::from_millis(300), ..Toxics::default() };
    let (_proxy, mut client, _guard) = through(100, toxics).await;
    let mut bytes = [0; 100];
    client.read_exact(&mut bytes).await.unwrap();
    let whole = Instant::now();
    assert_eq!(read_all(&mut client).await, (Vec::new(), true));
    assert!(whole.elapsed() >= Duration::from_millis(250), "{:?}", whole.elapsed());
}

#[tokio::test]
async fn a_reset_of_the_server_is_a_reset_for_the_client() {
    let (server, _guard) = serve(|client| async move { reset(&client) }).await;
    let proxy = FaultProxy::start(server);
    let (bytes, in_order) = read_all(&mut connect(&proxy).await).await;
    assert!(bytes.is_empty() && !in_order);
}

#[tokio::test]
async fn dropping_the_proxy_ends_every_connection_and_every_task() {
    let (server, guard) = echo_server().await;
    let proxy = FaultProxy::start(server);
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = connect(&proxy).await;
        client.write_all(b"a").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'a');
        clients.push(client);
    }
    let address = proxy.address();
    drop((proxy, guard));
    for client in &mut clients {
        assert_eq!(read_all(client).await.0, b"");
    }
    assert!(TcpStream::connect(address).await.is_err());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    timeout(PATIENCE, async {
        while tasks() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("no task is left");
}
