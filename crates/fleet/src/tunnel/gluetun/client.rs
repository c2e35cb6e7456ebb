//! The pages of gluetun's control server that are read, over the routes of every release.
//!
//! | release | the port's route | who may ask |
//! |---|---|---|
//! | to 3.39.0 | the old one; the new one is 400 | everybody |
//! | 3.39.1 to 3.40 | the old one; the new one is 401 | everybody, for what is asked here |
//! | 3.41 | the new one; the old one redirects to it | everybody, for what is asked here |
//! | later | the same | nobody without a role |

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;

use super::auth::{ADDRESS, Credentials, OLD_PORT, PORT, STATUS};
use super::reply::{self, LoopStatus, Place};
use super::wire;

/// Longest wait for a page. It answers from memory.
const DEADLINE: Duration = Duration::from_secs(2);
/// Longest wait for what one question comes to, over all its routes and redirects. All are asked at once.
const WHOLE: Duration = Duration::from_secs(3);
/// Redirects followed: one is known, from the old route of the port to the new one.
const MAX_REDIRECTS: usize = 2;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Says(T),
    /// 401: it knows and does not tell us.
    Closed {
        /// Which route is closed.
        route: &'static str,
    },
    /// No answer, or none that can be understood: one line.
    Unknown(String),
}

impl<T> Answer<T> {
    pub(super) fn said(&self) -> Option<&T> {
        match self {
            Self::Says(said) => Some(said),
            Self::Closed { .. } | Self::Unknown(_) => None,
        }
    }

    /// The route that is closed to us.
    pub(super) fn closed(&self) -> Option<&'static str> {
        match self {
            Self::Closed { route } => Some(route),
            Self::Says(_) | Self::Unknown(_) => None,
        }
    }
}

/// A control server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    address: SocketAddr,
    credentials: Credentials,
}

impl Client {
    pub(super) fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self { address, credentials }
    }

    /// What the VPN does.
    pub(super) async fn status(&self) -> Answer<LoopStatus> {
        in_time(self.page(STATUS, reply::status)).await
    }

    /// Where its traffic comes out.
    pub(super) async fn place(&self) -> Answer<Place> {
        in_time(self.page(ADDRESS, reply::place)).await
    }

    /// The forwarded port; `None` is "not yet". A release that refuses the new route may know the old one.
    pub(super) async fn port(&self) -> Answer<Option<u16>> {
        in_time(self.port_of_any_release()).await
    }

    async fn port_of_any_release(&self) -> Answer<Option<u16>> {
        let new = self.page(PORT, reply::port).await;
        if matches!(new, Answer::Says(_)) {
            return new;
        }
        match self.page(OLD_PORT, reply::port).await {
            Answer::Says(port) => Answer::Says(port),
            Answer::Closed { .. } | Answer::Unknown(_) => new,
        }
    }

    async fn page<T>(&self, route: &'static str, read: impl Fn(&[u8]) -> Result<T, String>) -> Answer<T> {
        match self.follow(route).await {
            Ok(answer) if answer.status == StatusCode::OK => read(&answer.body)
                .map_or_else(|what| Answer::Unknown(format!("its control server sent {what}")), Answer::Says),
            Ok(answer) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Answer::Closed { route }
            }
            Ok(answer) => {
                Answer::Unknown(format!("its control server answers {} on {route}", answer.status.as_u16()))
            }
            Err(why) => Answer::Unknown(why),
        }
    }

    /// The answer at the end of redirects. They lead to another path of this server or nowhere: the key is for nobody else.
    async fn follow(&self, route: &str) -> Result<wire::Answer, String> {
        let (mut path, header) = (route.to_owned(), self.credentials.header());
        for _ in 0..=MAX_REDIRECTS {
            let answer = wire::get(self.address, &path, header.as_ref(), DEADLINE).await?;
            if !answer.status.is_redirection() {
                return Ok(answer);
            }
            let target = answer.location.filter(|target| target.starts_with("/v1/"));
            path = target.ok_or_else(|| "its control server redirects elsewhere".to_owned())?;
        }
        Err("its control server redirects in a circle".to_owned())
    }
}

/// An answer that comes too late is none.
async fn in_time<T>(answer: impl Future<Output = Answer<T>>) -> Answer<T> {
    let late = || Answer::Unknown(format!("its control server did not answer within {} s", WHOLE.as_secs()));
    timeout(WHOLE, answer).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Answers every request by that much later, by a redirect, or never.
    async fn slow(redirects_after: Option<Duration>) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                open.spawn(async move {
                    sleep(redirects_after.unwrap_or(Duration::from_hours(1))).await;
                    let answer = "HTTP/1.1 301 Moved\r\nLocation: /v1/x\r\nContent-Length: 0\r\n\r\n";
                    // Who asked may have gone.
                    let _sent = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (address, tasks)
    }

    #[tokio::test(start_paused = true)]
    async fn no_question_takes_longer_than_three_seconds_over_all_routes_and_redirects() {
        for redirects_after in [None, Some(Duration::from_millis(1_900))] {
            let (address, _server) = slow(redirects_after).await;
            let client = Client::new(address, Credentials::None);
            let began = Instant::now();
            let (status, place, port) = tokio::join!(client.status(), client.place(), client.port());
            assert!(began.elapsed() <= Duration::from_secs(3), "{:?}", began.elapsed());
            assert!(matches!(status, Answer::Unknown(_)), "{status:?}");
            assert!(matches!(place, Answer::Unknown(_)) && matches!(port, Answer::Unknown(_)));
        }
    }
}
