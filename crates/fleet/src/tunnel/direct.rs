//! No tunnel: engines use the host's own way out. It is always there, has no container and forwards nothing.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Health, Report, Tunnel, TunnelName};

/// The host's own way out.
pub struct Direct(watch::Sender<Report>);

impl Direct {
    /// It is up from the beginning.
    pub fn new() -> Self {
        Self(watch::Sender::new(Report { health: Health::Up, ..Report::unknown() }))
    }
}

impl Default for Direct {
    fn default() -> Self {
        Self::new()
    }
}

impl Tunnel for Direct {
    fn name(&self) -> &TunnelName {
        &TunnelName::Direct
    }

    fn reports(&self) -> watch::Receiver<Report> {
        self.0.subscribe()
    }

    fn watch(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move { stop.cancelled().await }.boxed()
    }
}
