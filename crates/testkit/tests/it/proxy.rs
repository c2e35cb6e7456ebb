//! An engine behind a SOCKS5 proxy, made as the fleet makes it: it plays through the proxy and not at all without it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use acemux_fleet::allowed::{Extra, HostPorts};
use acemux_fleet::recipe::{EnginePorts, Recipe};
use acemux_server::config::Config;
use acemux_server::planes::setup;
use acemux_server::simargs;
use acemux_sim::{Dialect, SimEngine, SimOptions};
use acemux_testkit::socks::{Connect, SocksServer};
use acemux_testkit::{Setup, StrictViewer, get};
use tokio::time::{Instant, sleep};

use crate::{ID, stream};

/// The engine that a fleet with this `ENGINE_PROXY` starts, in this process.
async fn engine(proxy: &str) -> SimEngine {
    let settings =
        [("ENGINE_PROXY", proxy), ("ENGINE_VARIANT", "outpace"), ("OPERATOR_WITHOUT_KEY", "loopback")];
    let config = Config::from_pairs(settings).expect("they can be used");
    let recipe = setup::recipe(&config, "test".parse().expect("a name"), None);
    let free = || {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        HostPorts::new(port..=port).port(port).expect("it is in the range")
    };
    // Another program may take a port between the moment in which it was found free and that in which it is bound.
    for _ in 0..5 {
        let ports = EnginePorts { http: free(), https: free(), p2p: None, shared: None };
        if let Ok(engine) = SimEngine::start(options(&recipe, ports)).await {
            return engine;
        }
    }
    panic!("no port stays free");
}

/// As the container is told them.
fn options(recipe: &Recipe, ports: EnginePorts) -> SimOptions {
    let spec = recipe.spec(1, "acestream-1", ports, &Extra::default());
    let quick = [("SIM_TIMING", "fast"), ("SIM_CHANNEL", "verify"), ("SIM_CONTROL_PORT", "0")];
    let env: BTreeMap<String, String> = spec
        .env
        .iter()
        .map(|one| (one.name().to_owned(), one.value().to_owned()))
        .chain(quick.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let run = simargs::parse(&spec.command, &env).expect("the image understands it");
    assert_eq!(run.options.dialect, Dialect::Outpace);
    run.options
}

fn any() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn until_asked(proxy: &SocksServer) -> Vec<Connect> {
    let began = Instant::now();
    while proxy.asked().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(10), "the proxy was never asked");
        sleep(Duration::from_millis(10)).await;
    }
    proxy.asked()
}

#[tokio::test]
async fn it_reaches_its_swarm_through_the_proxy_with_its_login() {
    let proxy = SocksServer::start(any(), Some(("us:er", "p@ss"))).await.unwrap();
    let engine = engine(&format!("socks5://us%3Aer:p%40ss@{}", proxy.address)).await;
    let asked = until_asked(&proxy).await;
    assert_eq!(asked[0].login, Some(("us:er".to_owned(), "p@ss".to_owned())));
    let app = Setup::with_engines([]).engine_at(format!("127.0.0.1:{}", engine.addr().port())).start().await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
}

#[tokio::test]
async fn without_the_proxy_it_plays_nothing_rather_than_past_it() {
    let gone = SocksServer::start(any(), None).await.unwrap().address;
    let engine = engine(&format!("socks5://{gone}")).await;
    let app = Setup::with_engines([]).engine_at(format!("127.0.0.1:{}", engine.addr().port())).start().await;
    let refused = get(app.address(), &stream(ID)).await.status;
    assert!(refused >= 500, "it answers {refused}");
    // It comes, and with it the picture.
    let proxy = SocksServer::start(gone, None).await.unwrap();
    until_asked(&proxy).await;
    let mut viewer = StrictViewer::open(app.address(), ID).await;
    viewer.watch(Duration::from_secs(1)).await;
    viewer.assert_perfect();
}
