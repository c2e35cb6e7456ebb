//! HTTP Live Streaming from the same ring: players that take no endless stream fetch it piece by piece.
//!
//! ```text
//!  ring ─► Cursor ─► Packager (one per stream, while somebody wants it) ─► Playlist, segments
//!                        └── viewers by token: each is one of the stream's viewers until it has not asked for a while
//!
//!  token ─► Place ─┬─ Seated: it is one of a packager's viewers
//!                  ├─ Coming: it is on its way there ──► wait, look again
//!                  └─ Away ──► Return::join, in a task of its own
//! ```
//!
//! A viewer of this kind has no connection that says when it leaves. Its token stands for it: whoever names the token is
//! the viewer, and one that has not been named for [`HlsOptions::idle`] has given up its seat. Of such a one nothing is
//! remembered: when its token is named again it joins as a newcomer does, and the stream is started again if it has to be.

mod manifest;
mod packager;
mod places;
mod rope;
mod token;

use std::sync::Arc;
use std::time::Duration;

pub use manifest::Joined;
pub use places::{Coming, Place, Return, Seated};
pub use rope::Rope;
pub use token::Token;

pub(crate) use packager::Packager;
pub(crate) use places::Places;

use crate::relay::{Admitted, Inner, Relay, StreamKey};
use crate::session::{EndReason, StartError};
use crate::viewer::{Viewer, ViewerInfo};

/// How viewers of this kind are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsOptions {
    /// How long one keeps its seat without asking for anything (`HLS_VIEWER_TIMEOUT`).
    pub idle: Duration,
}

/// How long a newcomer waits for the first segment, which tells the stream's rate: an engine's burst has one at once.
const FIRST_SEGMENT: Duration = Duration::from_secs(2);

/// Why a playlist or a segment cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HlsError {
    /// An operator has thrown this viewer out just now.
    #[error("an operator has ended this stream for this viewer")]
    ThrownOut,
    /// The segment is too old, or not there yet and not the next one.
    #[error("there is no such segment any more, or not yet")]
    Gone,
    /// The stream is being started, or has no segment yet.
    #[error("the stream is being started; ask again")]
    NotReady,
    /// The playlist was asked for too often.
    #[error("the playlist was asked for more often than it can change")]
    TooOften,
    /// The stream cannot be started again.
    #[error(transparent)]
    NotStarted(StartError),
    /// The stream has ended.
    #[error("the stream is over: {}", .0.as_str())]
    Over(EndReason),
}

impl Relay {
    /// Joins the channel as a viewer who fetches pieces, starting it if nobody watches it yet. Returns when decodable
    /// data is there; the token names the viewer from then on.
    pub async fn join_hls(
        &self,
        key: StreamKey,
        info: ViewerInfo,
        admitted: Admitted,
    ) -> Result<Joined, StartError> {
        let viewer = self.join(key, info, admitted).await?;
        let token = Token::random();
        let packager = self.inner.package(token, viewer)?;
        let peak = packager.peak(FIRST_SEGMENT).await;
        Ok(Joined { token, peak, format: packager.format() })
    }

    /// Where the viewer of this token is.
    pub fn hls_place(&self, token: Token) -> Result<Place, HlsError> {
        Place::of(&self.inner, token)
    }

    /// Whether the stream is being cut, so that a viewer who comes back to it needs nothing started.
    pub fn is_cut(&self, key: &StreamKey) -> bool {
        self.inner.find(key).is_some_and(|shared| shared.hls.lock().upgrade().is_some())
    }
}

impl Inner {
    /// Makes the viewer one of its stream's packager, which begins to run with its first viewer.
    fn package(self: &Arc<Self>, token: Token, viewer: Viewer) -> Result<Arc<Packager>, StartError> {
        let shared = Arc::clone(viewer.shared());
        if shared.recording().is_some() {
            return Err(StartError::Recording);
        }
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
        self.hls.seat(token, &packager);
        packager.enter(token, viewer.into_guard());
        Ok(packager)
    }
}
