//! HTTP Live Streaming from the same ring: players that take no endless stream fetch it piece by piece.
//!
//! ```text
//!  ring ─► Cursor ─► Packager (one per stream, while somebody wants it) ─► Playlist, segments
//!                        └── viewers by token: each is one of the stream's viewers until it has not asked for a while
//! ```
//!
//! A viewer of this kind has no connection that says when it leaves. Its token stands for it: whoever names the token is
//! the viewer, and one that has not been named for [`HlsOptions::idle`] has left.

mod packager;
mod rope;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use acemux_media::hls::Segment;
use parking_lot::Mutex;

pub use rope::Rope;
pub use token::Token;

pub(crate) use packager::Packager;

use crate::relay::{Admitted, Inner, Relay, StreamKey};
use crate::session::{EndReason, StartError};
use crate::viewer::{Viewer, ViewerInfo};

/// How viewers of this kind are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsOptions {
    /// How long one stays without asking for anything (`HLS_VIEWER_TIMEOUT`).
    pub idle: Duration,
}

/// Why a playlist or a segment cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HlsError {
    /// Nobody has this token, or its viewer has been away for too long.
    #[error("no viewer has this token; ask for the manifest again")]
    UnknownToken,
    /// The segment is too old, or not there yet and not the next one.
    #[error("there is no such segment any more, or not yet")]
    Gone,
    /// The stream has no segment yet.
    #[error("the stream has no segment yet")]
    NotReady,
    /// The playlist was asked for too often.
    #[error("the playlist was asked for more often than it can change")]
    TooOften,
    /// The stream has ended.
    #[error("the stream is over: {}", .0.as_str())]
    Over(EndReason),
}

/// Which stream each token belongs to.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Token, Weak<Packager>>>);

impl Tokens {
    fn find(&self, token: &Token) -> Result<Arc<Packager>, HlsError> {
        self.0.lock().get(token).and_then(Weak::upgrade).ok_or(HlsError::UnknownToken)
    }

    pub(crate) fn forget(&self, token: &Token) {
        self.0.lock().remove(token);
    }
}

impl Relay {
    /// Joins the channel as a viewer who fetches pieces, starting it if nobody watches it yet. Returns when decodable
    /// data is there; the token names the viewer from then on.
    pub async fn join_hls(
        &self,
        key: StreamKey,
        info: ViewerInfo,
        admitted: Admitted,
    ) -> Result<Token, StartError> {
        let viewer = self.join(key, info, admitted).await?;
        if viewer.shared().recording().is_some() {
            return Err(StartError::Recording);
        }
        let token = Token::random();
        self.inner.package(&token, viewer)?;
        Ok(token)
    }

    /// The token's playlist, `uri` giving the address of each segment by its number. Waits for the first segment.
    pub async fn hls_playlist(&self, token: &Token, uri: impl Fn(u64) -> String) -> Result<String, HlsError> {
        let packager = self.inner.hls.find(token)?;
        let viewer = packager.asks_for_playlist(token)?;
        packager.playlist(&viewer, uri).await
    }

    /// One segment. Waits a while for the one that comes next.
    pub async fn hls_segment(&self, token: &Token, number: u64) -> Result<Segment, HlsError> {
        let packager = self.inner.hls.find(token)?;
        let viewer = packager.asks(token)?;
        let segment = packager.segment(&viewer, number).await?;
        packager.gets(token, segment.size());
        Ok(segment)
    }
}

impl Inner {
    /// Makes the viewer one of its stream's packager, which begins to run with its first viewer.
    fn package(self: &Arc<Self>, token: &Token, viewer: Viewer) -> Result<(), StartError> {
        let shared = Arc::clone(viewer.shared());
        let mut running = shared.hls.lock();
        let packager = if let Some(packager) = running.upgrade() {
            packager
        } else {
            let lease = self.lease().ok_or(StartError::MemoryFull)?;
            let packager = Packager::new(self, Arc::clone(&shared));
            self.tasks.spawn(Arc::clone(&packager).run(lease));
            *running = Arc::downgrade(&packager);
            packager
        };
        // Known before its viewer is there, who may be thrown out at once and must not leave its name behind.
        self.hls.0.lock().insert(token.clone(), Arc::downgrade(&packager));
        packager.enter(token, viewer.into_guard());
        Ok(())
    }
}
