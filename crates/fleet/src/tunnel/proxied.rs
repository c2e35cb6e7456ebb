//! The SOCKS5 proxy of `ENGINE_PROXY` as a tunnel: looked at by the engines behind it, and greeted from here.
//!
//! What engines say of their network counts first: they are the ones who must reach it, and its name may mean something in
//! their network only. The greeting (RFC 1928) is as much as can be known without sending anything through it.
//!
//! What this reports is told and not acted on. Engines use the proxy or nothing, and there is no other one to move streams
//! to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::gluetun::health::{Judge, Sign, Witnesses};
use super::gluetun::look::ask_engines;
use super::{Report, Tunnel, TunnelName};
use crate::dispatch::Engines;
use crate::proxy::Proxy;

/// Longest wait for the proxy's word.
const GREETING: Duration = Duration::from_secs(2);
/// The protocol's number.
const SOCKS5: u8 = 5;
/// How a client may show who it is: not at all, or by name and password (RFC 1929).
const NOBODY: u8 = 0;
const LOGIN: u8 = 2;

/// The proxy that engines reach the swarm through.
pub struct Proxied {
    proxy: Proxy,
    interval: Duration,
    engines: Arc<Engines>,
    reports: watch::Sender<Report>,
}

impl Proxied {
    /// `interval` is the time between two looks.
    pub fn new(proxy: Proxy, interval: Duration, engines: Arc<Engines>) -> Self {
        Self { proxy, interval, engines, reports: watch::Sender::new(Report::unknown()) }
    }

    async fn run(&self) {
        let mut judge = Judge::new(Instant::now());
        loop {
            let (behind, greeting) = (self.engines.inside(&TunnelName::Direct), greet(&self.proxy));
            let (greeting, witnesses) = tokio::join!(greeting, ask_engines(&behind));
            judge.see(sign(greeting.err(), witnesses), Instant::now());
            self.publish(&judge);
            sleep(self.interval).await;
        }
    }

    fn publish(&self, judge: &Judge) {
        let health = judge.health().clone();
        self.reports.send_if_modified(|report| {
            report.exit.looked_at = Some(Timestamp::now());
            let is_other = report.health.as_str() != health.as_str();
            if is_other {
                let why = health.why().unwrap_or_default();
                tracing::info!(proxy = %self.proxy, state = health.as_str(), why, "ENGINE_PROXY was looked at");
            }
            let is_news = report.health != health;
            (report.health, report.since) = (health, judge.since());
            is_news
        });
    }
}

impl Tunnel for Proxied {
    /// Engines behind a proxy are in no VPN's network.
    fn name(&self) -> &TunnelName {
        &TunnelName::Direct
    }

    fn reports(&self) -> watch::Receiver<Report> {
        self.reports.subscribe()
    }

    fn watch(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            stop.run_until_cancelled(Box::pin(self.run())).await;
        }
        .boxed()
    }
}

/// What one look comes to. `failed` is why the proxy did not greet.
fn sign(failed: Option<String>, engines: Witnesses) -> Sign {
    let is_cut_off = engines.cut_off > 0;
    match failed {
        _ if engines.connected > 0 => Sign::Good,
        None if is_cut_off => {
            Sign::Bad("the proxy answers, and no engine behind it has a network".to_owned())
        }
        None => Sign::Good,
        Some(why) if is_cut_off => Sign::Bad(format!("{why}, and no engine behind it has a network")),
        Some(why) => Sign::Mute(why),
    }
}

/// Says hello as an engine does, and goes.
async fn greet(proxy: &Proxy) -> Result<(), String> {
    match timeout(GREETING, ask(proxy)).await {
        Err(_) => Err(format!("{proxy} does not answer")),
        Ok(Err(error)) => Err(format!("{proxy} cannot be reached: {error}")),
        Ok(Ok([SOCKS5, NOBODY])) => Ok(()),
        Ok(Ok([SOCKS5, LOGIN])) if proxy.has_login() => Ok(()),
        Ok(Ok([SOCKS5, _])) if proxy.has_login() => Err(format!("{proxy} accepts no name and password")),
        Ok(Ok([SOCKS5, _])) => Err(format!("{proxy} wants a name and a password")),
        Ok(Ok(_)) => Err(format!("{proxy} is no SOCKS5 proxy")),
    }
}

async fn ask(proxy: &Proxy) -> io::Result<[u8; 2]> {
    let endpoint = proxy.endpoint();
    let mut stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
    let hello: &[u8] = if proxy.has_login() { &[SOCKS5, 2, NOBODY, LOGIN] } else { &[SOCKS5, 1, NOBODY] };
    stream.write_all(hello).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn engines_know_better_than_a_greeting() {
        let failed = || Some("it is gone".to_owned());
        let of = |connected, cut_off| Witnesses { connected, cut_off, ..Witnesses::default() };
        assert_eq!(sign(None, of(0, 0)), Sign::Good);
        assert_eq!(sign(failed(), of(1, 2)), Sign::Good, "it is reached from where engines are");
        assert_eq!(sign(failed(), of(0, 0)), Sign::Mute("it is gone".to_owned()), "from here proves nothing");
        assert!(matches!(sign(None, of(0, 1)), Sign::Bad(_)));
        assert!(matches!(sign(failed(), of(0, 1)), Sign::Bad(why) if why.starts_with("it is gone, and")));
    }

    #[tokio::test]
    async fn a_greeting_tells_a_proxy_from_what_is_none() {
        for (answer, login, expected) in [
            (Some(&[5, 0][..]), "", Ok(())),
            (Some(&[5, 2]), "u:p@", Ok(())),
            (Some(&[5, 0xff]), "u:p@", Err("accepts no name and password")),
            (Some(&[5, 0xff]), "", Err("wants a name and a password")),
            (Some(b"HTTP/1.1 400 Bad Request\r\n"), "", Err("is no SOCKS5 proxy")),
            (Some(&[5]), "", Err("cannot be reached")),
            (None, "", Err("does not answer")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let proxy = format!("socks5://{login}{}", listener.local_addr().unwrap()).parse().unwrap();
            let proxied = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut hello = [0; 2];
                stream.read_exact(&mut hello).await.unwrap();
                stream.read_exact(&mut vec![0; usize::from(hello[1])]).await.unwrap();
                match answer {
                    Some(answer) => stream.write_all(answer).await.unwrap(),
                    None => sleep(GREETING * 2).await,
                }
            };
            let (greeting, ()) = tokio::join!(greet(&proxy), proxied);
            match (greeting, expected) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (greeting, expected) => panic!("{answer:?}: {greeting:?}, not {expected:?}"),
            }
        }
    }
}
