//! Open files: viewers, engines and the control plane share one limit, and a full table must never lock us out.

use rlimit::Resource;

/// Descriptors kept for the control plane: pages, logs, probes, the database, whatever an operator opens to look.
const CONTROL_PLANE: u64 = 64;
/// Descriptors a stream needs: its media, its state and commands, and their successors during a hand-over.
const PER_STREAM: u64 = 5;
/// Viewers for which one stream is reckoned: most channels are watched by a few.
const VIEWERS_PER_STREAM: u64 = 4;

/// Raises the soft limit to the hard one and tells what it is now.
pub fn raise_descriptors() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| Resource::NOFILE.get_soft())
        // A system without this limit has no limit.
        .unwrap_or(u64::MAX)
}

/// How many viewers fit into `descriptors`, at most `wanted`, at least one.
pub fn fit_viewers(wanted: usize, descriptors: u64) -> usize {
    let for_viewers = descriptors.saturating_sub(CONTROL_PLANE);
    // v viewers need v sockets and v / VIEWERS_PER_STREAM streams of PER_STREAM descriptors.
    let fit = for_viewers.saturating_mul(VIEWERS_PER_STREAM) / (VIEWERS_PER_STREAM + PER_STREAM);
    wanted.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

/// How many connections fit into `descriptors`, at most `wanted`, at least one. Streams are not reckoned: when every
/// connection is taken, most are pages that open nothing.
pub fn fit_connections(wanted: usize, descriptors: u64) -> usize {
    let fit = descriptors.saturating_sub(CONTROL_PLANE);
    wanted.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(fit_viewers(5000, 1 << 20), 5000);
    }

    #[test]
    fn too_few_descriptors_lower_the_viewers_and_keep_some_for_the_control_plane() {
        let viewers = fit_viewers(5000, 1024);
        assert_eq!(viewers, (1024 - 64) * 4 / 9);
        assert_eq!(fit_viewers(5000, 10), 1);
        assert_eq!(fit_connections(5256, 1024), 960);
    }
}
