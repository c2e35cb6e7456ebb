//! Open files: viewers, engines and the control plane share one limit, and a full table must never lock us out.
//!
//! What strangers can open is bounded by what is given out here: connections, places for this machine, and sockets that
//! have no place (refused, or on their way out). With the streams that viewers start that leaves `CONTROL_PLANE`.

use rlimit::Resource;

use crate::config::Config;
use crate::http::serve::{DOORWAY, LOOPBACK_PLACES};

/// Descriptors kept for the control plane: pages, logs, probes, the database, whatever an operator opens to look.
const CONTROL_PLANE: usize = 64;
/// Descriptors a stream needs: its media, its state and commands, and their successors during a hand-over.
const PER_STREAM: usize = 5;
/// Viewers for which one stream is reckoned: most channels are watched by a few.
const VIEWERS_PER_STREAM: usize = 4;
/// Connections for pages beside those of viewers.
const PAGES: usize = 256;
/// Each of the small kinds gets at most this part of what there is.
const SMALL_PART: usize = 8;

/// How descriptors are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Viewers.
    pub viewers: usize,
    /// Connections, those of viewers among them.
    pub connections: usize,
    /// Connections from this machine beside these.
    pub loopback: usize,
    /// Sockets of strangers without a place.
    pub doorway: usize,
}

/// Raises the soft limit to the hard one and tells what it is now.
pub fn raise_descriptors() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| Resource::NOFILE.get_soft())
        // A system without this limit has no limit.
        .unwrap_or(u64::MAX)
}

/// The settings within what the system gives, if it is known how much that is.
pub fn fitted(mut config: Config) -> Config {
    let Some(descriptors) = config.listen.descriptors else { return config };
    let Shares { viewers, connections, loopback, doorway } =
        Shares::of(descriptors, config.viewers.max, config.listen.max_connections);
    config.viewers.max = config.viewers.max.min(viewers);
    config.listen.max_connections = connections;
    config.listen.loopback_places = loopback;
    config.listen.doorway = doorway;
    config
}

impl Shares {
    /// What `descriptors` are enough for, at most these viewers and connections, at least one of each.
    pub fn of(descriptors: u64, viewers: usize, connections: usize) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let all = descriptors.saturating_sub(CONTROL_PLANE);
        let part = |most: usize| most.min(all / SMALL_PART).max(1);
        let (loopback, doorway, pages) = (part(LOOPBACK_PLACES), part(DOORWAY), part(PAGES));
        let rest = all.saturating_sub(loopback + doorway);
        // v viewers need v sockets and v / VIEWERS_PER_STREAM streams of PER_STREAM descriptors.
        let for_viewers = rest.saturating_sub(pages) / (VIEWERS_PER_STREAM + PER_STREAM);
        let viewers = viewers.min(for_viewers.saturating_mul(VIEWERS_PER_STREAM)).max(1);
        let for_streams = viewers.div_ceil(VIEWERS_PER_STREAM) * PER_STREAM;
        let connections = connections.min(rest.saturating_sub(for_streams)).max(1);
        Self { viewers, connections, loopback, doorway }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_alone() {
        let shares = Shares::of(1 << 20, 5000, 5256);
        assert_eq!(shares, Shares { viewers: 5000, connections: 5256, loopback: 64, doorway: 64 });
        assert_eq!(Shares::of(u64::MAX, 5000, 5256), shares);
    }

    #[test]
    fn however_few_there_are_everything_together_leaves_the_control_plane_its_own() {
        for descriptors in [100, 200, 256, 1024, 4096, 20_000] {
            let Shares { viewers, connections, loopback, doorway } = Shares::of(descriptors, 5000, 5256);
            let for_streams = viewers.div_ceil(VIEWERS_PER_STREAM) * PER_STREAM;
            let taken = connections + loopback + doorway + for_streams;
            assert!(taken + CONTROL_PLANE <= usize::try_from(descriptors).unwrap(), "{descriptors}: {taken}");
            assert!(viewers < connections, "{descriptors}: pages have a place beside viewers");
        }
        let least = Shares::of(10, 5000, 5256);
        assert_eq!(least, Shares { viewers: 1, connections: 1, loopback: 1, doorway: 1 });
    }
}
